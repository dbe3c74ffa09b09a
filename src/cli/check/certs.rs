//! `stanzad check certs`: each domain's certificates as the listeners will show them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::shown::{self, Showing};
use super::{Finding, Level};
use crate::config::{DomainSettings, Settings};
use crate::net::certificate::{Authorities, read_chain};
use crate::net::tls::{CertificateInfo, TlsContexts, TlsSettings};

const CHECK: &str = "certs";

pub fn findings(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let roots = match Authorities::system() {
        Ok(roots) => roots,
        Err(problem) => return vec![Finding::new(CHECK, Level::Problem, "authorities", problem)],
    };
    let contexts = match TlsContexts::load(&TlsSettings::for_clients(settings)) {
        Ok((contexts, warnings)) => {
            let news = warnings.into_iter().filter(|text| !is_told_below(text));
            found.extend(news.map(|text| Finding::new(CHECK, Level::Warning, "all", text)));
            contexts
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
            let text = "has no certificate, so that nothing on it is encrypted";
            found.push(Finding::new(CHECK, Level::Warning, &domain.name, text));
        }
        for info in own {
            found.extend(of_certificate(domain, info, settings, &roots));
        }
    }
    found
}

/// The dates and names of a certificate are told with the certificate.
fn is_told_below(warning: &str) -> bool {
    warning
        .split_once("\": ")
        .is_some_and(|(_, text)| text.starts_with("certificate "))
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
                roots,
                // An authority of one's own is no mistake: others may have been told to trust it.
                untrusted: Level::Warning,
            };
            shown::findings(&showing, &chain)
        }
        Err(problem) => vec![Finding::new(CHECK, Level::Problem, about, problem)],
    };
    let parent = info.file.parent().unwrap_or(Path::new("/"));
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

fn writable_by_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    // In a directory with the sticky bit others change nothing that is not theirs.
    let is_sticky = path.is_dir() && mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !is_sticky).then_some(mode)
}

/// Under which options of `[listen]` a domain's certificate is shown.
fn listeners(domain: &DomainSettings, settings: &Settings) -> String {
    let listen = &settings.listen;
    let kinds = [
        ("c2s", !listen.c2s.is_empty()),
        ("c2s_tls", !listen.c2s_tls.is_empty()),
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
