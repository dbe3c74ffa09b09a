//! The tables that the router walks, made once from the list of features.

use std::collections::HashMap;
use std::fmt::Write;

use crate::config::DomainSettings;
use crate::router::Router;
use crate::router::feature::{
    Feature, HookFn, IqHandler, SessionEvent, Stage, StreamFeatureContext, Target,
};
use crate::slots::Key;
use crate::stanza::Type;
use crate::stanza::forms::ResultForm;

/// The features of a server, arranged by what the router asks for.
pub struct Pipeline {
    features: &'static [&'static Feature],
    hooks: [Vec<HookFn>; Stage::ALL.len()],
    session: [Vec<fn(&mut Router, Key)>; SessionEvent::ALL.len()],
    iq: HashMap<(Target, Type), Vec<(&'static str, &'static str, IqHandler)>>,
}

impl Pipeline {
    /// Arranges `features`, whose order is the order within a stage.
    ///
    /// # Panics
    /// If two features claim the same IQ request: a mistake of ours, found at start and by a test.
    pub fn new(features: &'static [&'static Feature]) -> Pipeline {
        let mut hooks: [Vec<HookFn>; Stage::ALL.len()] = Default::default();
        let mut session: [Vec<fn(&mut Router, Key)>; SessionEvent::ALL.len()] = Default::default();
        let mut iq: HashMap<_, Vec<(&str, &str, IqHandler)>> = HashMap::new();
        for feature in features {
            for hook in feature.hooks {
                hooks[hook.stage as usize].push(hook.run);
            }
            for hook in feature.session {
                session[hook.event as usize].push(hook.run);
            }
            for route in feature.iq {
                let routes = iq.entry((route.target, route.type_)).or_default();
                assert!(
                    !routes
                        .iter()
                        .any(|(ns, name, _)| (*ns, *name) == (route.ns, route.name)),
                    "two features answer <{} xmlns='{}'/>",
                    route.name,
                    route.ns
                );
                routes.push((route.ns, route.name, route.handler));
            }
        }
        Pipeline {
            features,
            hooks,
            session,
            iq,
        }
    }

    /// The hooks of a stage, in order.
    pub fn hooks(&self, stage: Stage) -> &[HookFn] {
        &self.hooks[stage as usize]
    }

    /// What the features do when something happens to a session, in order.
    pub fn session_hooks(&self, event: SessionEvent) -> &[fn(&mut Router, Key)] {
        &self.session[event as usize]
    }

    /// Who answers a request.
    pub fn iq_handler(
        &self,
        target: Target,
        type_: Type,
        ns: &str,
        name: &str,
    ) -> Option<IqHandler> {
        let routes = self.iq.get(&(target, type_))?;
        routes
            .iter()
            .find(|(route_ns, route_name, _)| (*route_ns, *route_name) == (ns, name))
            .map(|(_, _, handler)| *handler)
    }

    /// What disco#info lists for these targets together, in the features' order, each once.
    pub fn disco(&self, targets: &[Target]) -> impl Iterator<Item = &'static str> {
        let mut vars = Vec::new();
        for disco in self.features.iter().flat_map(|feature| feature.disco) {
            if targets.contains(&disco.target) && !vars.contains(&disco.var) {
                vars.push(disco.var);
            }
        }
        vars.into_iter()
    }

    /// What the features add to a domain's disco#info beside features (XEP-0128).
    pub fn disco_forms(&self, domain: &DomainSettings) -> impl Iterator<Item = ResultForm> {
        self.features
            .iter()
            .filter_map(|feature| feature.disco_form)
            .filter_map(|form| form(domain))
    }

    /// Writes what the features add to `<stream:features/>`.
    pub fn write_stream_features(&self, context: &StreamFeatureContext<'_>, out: &mut Vec<u8>) {
        for feature in self.features {
            for stream_feature in feature.stream_features {
                (stream_feature.write)(context, out);
            }
        }
    }

    /// The pipeline in words, for `stanzad check config -v`.
    pub fn describe(&self) -> String {
        let mut text = String::from("features:\n");
        for feature in self.features {
            let specs: Vec<String> = feature
                .specs
                .iter()
                .map(|spec| {
                    format!("{} {}", spec.id, spec.version)
                        .trim_end()
                        .to_owned()
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {:<16} {}", feature.name, specs.join(", "));
            for route in feature.iq {
                let _ = writeln!(
                    text,
                    "  {:<16}   iq {} <{} xmlns='{}'/> to {:?}",
                    "",
                    route.type_.as_str(crate::stanza::Kind::Iq),
                    route.name,
                    route.ns,
                    route.target
                );
            }
        }
        text.push_str("stages:\n");
        for stage in Stage::ALL {
            let names: Vec<&str> = self
                .features
                .iter()
                .filter(|feature| feature.hooks.iter().any(|hook| hook.stage == stage))
                .map(|feature| feature.name)
                .collect();
            let names = if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(", ")
            };
            let _ = writeln!(text, "  {:<16} {names}", format!("{stage:?}"));
        }
        text
    }
}
