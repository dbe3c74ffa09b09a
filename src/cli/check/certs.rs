//! `stanzad check certs`: each domain's certificates as the listeners will show them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::{hidden_from_server, writable_by_others};
use super::shown::{self, Showing};
use super::{Finding, Level};
use crate::config::{DomainSettings, Settings};
use crate::net::certificate::{Authorities, read_chain};
use crate::net::tls::{CertificateInfo, Concern, TlsContexts, TlsSettings, TlsWarning};

const CHECK: &str = "certs";

pub fn findings(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let roots = match Authorities::system() {
        Ok(roots) => roots,
        Err(problem) => return vec![Finding::new(CHECK, Level::Problem, "authorities", problem)],
    };
    let (contexts, missing) = match TlsContexts::load(&TlsSettings::for_clients(settings)) {
        Ok((contexts, warnings)) => {
            let mut missing = HashMap::new();
            for TlsWarning {
                domain,
                about,
                text,
            } in warnings
            {
                match about {
                    Concern::Absence => drop(missing.insert(domain, text)),
                    // Told with the certificate.
                    Concern::Certificate => {}
                    Concern::DhParameters | Concern::Renewal => {
                        found.push(Finding::new(CHECK, Level::Warning, domain, text));
                    }
                }
            }
            (contexts, missing)
        }
        Err(problems) => {
            let problems = problems.into_iter().map(|problem| {
                let about = problem.domain.clone().unwrap_or_else(|| "all".to_owned());
                Finding::new(CHECK, Level::Problem, about, problem.text)
            });
            found.extend(problems);
            return found;
        }
    };
    let components = settings.component_domains();
    for domain in settings.domains.values().chain(components) {
        let infos = contexts.certificates().iter();
        let own: Vec<_> = infos
            .filter(|info| info.domain == domain.name.as_str())
            .collect();
        if own.is_empty() {
            let why = missing.get(domain.name.as_str());
            let why = why.map_or("it has no certificate", String::as_str);
            let effect = match settings.components.contains_key(&domain.name) {
                true => "other servers that ask for one do not reach the component",
                false => "nothing on the domain is encrypted",
            };
            let text = format!("{why}; without one {effect}");
            found.push(Finding::new(CHECK, Level::Warning, &domain.name, text));
        }
        for info in own {
            found.extend(of_certificate(domain, info, settings, &roots));
        }
    }
    found
}

fn of_certificate(
    domain: &DomainSettings,
    info: &CertificateInfo,
    settings: &Settings,
    roots: &Authorities,
) -> Vec<Finding> {
    let about = domain.name.as_str();
    let lead = format!(
        "{} in {}, shown by {}: ",
        info.key,
        info.file.display(),
        listeners(domain, settings)
    );
    let mut found = match read_chain(&info.file) {
        Ok(chain) => {
            let showing = Showing {
                check: CHECK,
                about,
                lead: &lead,
                domain: &domain.name.to_ascii(),
                targets: &[],
                roots,
                // An authority of one's own is no mistake: others may have been told to trust it.
                untrusted: Level::Warning,
                is_accepted: false,
            };
            shown::findings(&showing, &chain)
        }
        Err(problem) => vec![Finding::new(CHECK, Level::Problem, about, problem)],
    };
    let parent = info.file.parent().unwrap_or(Path::new("/"));
    if let Some(text) = unreadable(info, settings) {
        found.push(Finding::new(CHECK, Level::Problem, about, text));
    }
    if let Some(text) = hidden_from_server(&info.file, settings) {
        found.push(Finding::new(CHECK, Level::Warning, about, text));
    }
    for path in [parent, &info.file] {
        if let Some(mode) = writable_by_others(path) {
            let path = path.display();
            let text = format!(
                "{path} can be changed by other users (mode {mode:04o}); mend it with \"chmod go-w {path}\""
            );
            found.push(Finding::new(CHECK, Level::Warning, about, text));
        }
    }
    found
}

/// The key is read by its owner alone, who has to be whom the server runs as: the owner of the data.
fn unreadable(info: &CertificateInfo, settings: &Settings) -> Option<String> {
    let owner = |path: &Path| Some(fs::metadata(path).ok()?.uid());
    let (key, server) = (owner(&info.key_file)?, owner(&settings.server.data)?);
    foreign(&info.key_file, key, server)
}

fn foreign(file: &Path, key: u32, server: u32) -> Option<String> {
    let file = file.display();
    // Root reads all.
    (server != 0 && key != server).then(|| {
        format!(
            "key {file} belongs to user {key}, and the server runs as user {server}, to whom the data \
             belong, so that it cannot read it; mend it with \"chown {server} {file}\""
        )
    })
}

/// Under which options of `[listen]` a domain's certificate is shown.
fn listeners(domain: &DomainSettings, settings: &Settings) -> String {
    let listen = &settings.listen;
    // No client logs in at a component.
    let has_clients = settings.domains.contains_key(&domain.name);
    let kinds = [
        ("c2s", !listen.c2s.is_empty() && has_clients),
        ("c2s_tls", !listen.c2s_tls.is_empty() && has_clients),
        ("s2s", !listen.s2s.is_empty() && domain.s2s.enabled),
        ("s2s_tls", !listen.s2s_tls.is_empty() && domain.s2s.enabled),
    ];
    let open = kinds.into_iter().filter(|(_, is_open)| *is_open);
    let names: Vec<&str> = open.map(|(name, _)| name).collect();
    match names.is_empty() {
        true => "no listener".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_user_than_the_server_is_told() {
        let told = |key, server| foreign(Path::new("certs/a.key"), key, server);
        assert_eq!(told(7, 7), None);
        assert_eq!(told(7, 0), None);
        let text = told(0, 7).unwrap();
        assert!(text.contains("\"chown 7 certs/a.key\""), "{text}");
    }
}
