//! Who can read and change the files that a server lives by: its conf file, its data, its control
//! socket, its log, and whom it trusts; and whether those that a start makes can be made. Keys and
//! certificates are looked at where they are loaded.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Level;
use crate::config::{DhParam, Settings};
use crate::log::LogTo;
use crate::storage::{self, OpenError};

/// What is found: how bad it is, and a sentence that names the file and what mends it.
pub type Found = Vec<(Level, String)>;

/// Looks at all of them. `file` is the conf file.
pub fn examine(file: &Path, settings: &Settings) -> Found {
    let data = fs::metadata(&settings.server.data).ok();
    let mut found = conf_file(file, settings, data.as_ref());
    found.extend(of_data(&settings.server.data));
    found.extend(control(&settings.server.control));
    if let LogTo::File(path) = &settings.log.to {
        found.extend(log(path));
    }
    let trusted = trusted(settings);
    for path in &trusted {
        found.extend(changeable(path, "decides who is trusted"));
    }
    let read = trusted.into_iter().chain([file]);
    let hidden = read.filter_map(|path| hidden_from_server(path, settings));
    found.extend(hidden.map(|text| (Level::Warning, text)));
    found
}

fn log(path: &Path) -> Found {
    let mut found = Found::new();
    if path.is_dir() {
        let text = format!(
            "the log {} is a directory; write log.to = \"{0}/stanzad.log\"",
            path.display()
        );
        found.push((Level::Problem, text));
        return found;
    }
    found.extend(homeless(path, "the log"));
    if let Some(mode) = mode(path).filter(|mode| mode & 0o007 != 0) {
        let path = path.display();
        let text = format!(
            "the log {path} tells who talks with whom, and other users can get at it (mode {mode:04o}); \
             mend it with \"chmod o= {path}\""
        );
        found.push((Level::Warning, text));
    }
    found
}

/// A start makes what is missing, but nothing above it.
fn homeless(path: &Path, what: &str) -> Option<(Level, String)> {
    let parent = parent(path);
    let is_there = parent.is_dir();
    let (path, parent) = (path.display(), parent.display());
    let text = format!(
        "{what} {path} cannot be made: there is no directory {parent}; make it, for the user that the \
         server runs as"
    );
    (!is_there).then_some((Level::Problem, text))
}

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn conf_file(file: &Path, settings: &Settings, data: Option<&Metadata>) -> Found {
    let Ok(metadata) = fs::metadata(file) else {
        return Found::new();
    };
    let (conf, data) = (Access::of(&metadata), data.map(Access::of));
    let mut found = owned(file, conf, data, !settings.components.is_empty());
    for path in [file, parent(file)] {
        found.extend(changeable(path, "decides all that the server does"));
    }
    found
}

/// To whom a file belongs, and its mode.
#[derive(Clone, Copy)]
struct Access {
    user: u32,
    group: u32,
    mode: u32,
}

impl Access {
    fn of(metadata: &Metadata) -> Access {
        Access {
            user: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        }
    }

    /// Whether this user, with this group, has a right (4 to read, 1 to search) at another's file.
    fn has(self, right: u32, at: Access) -> bool {
        // Root has all.
        let of = match () {
            () if self.user == 0 => return true,
            () if self.user == at.user => at.mode >> 6,
            () if self.group == at.group => at.mode >> 3,
            () => at.mode,
        };
        of & right != 0
    }
}

/// Where the server runs as a user of its own, to whom the data belong, its conf file is often root's and
/// that user's group's. Without data nobody knows whom it runs as.
fn owned(file: &Path, conf: Access, data: Option<Access>, has_secrets: bool) -> Found {
    let mut found = Found::new();
    let Some(data) = data else {
        return found;
    };
    let Access { user, group, mode } = conf;
    let file = file.display();
    if has_secrets && mode & 0o040 != 0 && group != data.group {
        let text = format!(
            "holds secrets of components, and its group ({group}), which is not that of the data, can \
             read it (mode {mode:04o}); mend it with \"chmod g= {file}\""
        );
        found.push((Level::Warning, text));
    }
    if user != 0 && user != data.user {
        let text = format!(
            "belongs to user {user}, who is neither root nor the owner of the data, and can change it; \
             mend it with \"chown root {file}\""
        );
        found.push((Level::Warning, text));
    }
    found
}

/// What the start refuses, if the owner of the data starts it.
fn of_data(data: &Path) -> Found {
    match storage::examine(data) {
        Ok(exposures) => {
            let told = exposures.into_iter().map(|one| {
                let path = one.path.display();
                let text = format!("{path} {}; mend it with \"{}\"", one.problem, one.remedy);
                (Level::Problem, text)
            });
            told.collect()
        }
        // The first start makes it.
        Err(OpenError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            homeless(data, "the data directory").into_iter().collect()
        }
        Err(error @ OpenError::NotADirectory(_)) => vec![(Level::Problem, error.to_string())],
        Err(error) => vec![(
            Level::Warning,
            format!("the data were not looked at: {error}"),
        )],
    }
}

/// The socket may be gone, or not there yet; its directory the start makes, or refuses.
fn control(socket: &Path) -> Found {
    let mut found = Found::new();
    let directory = parent(socket);
    if !directory.exists() {
        found.extend(homeless(directory, "the control socket's directory"));
    }
    if let Some(mode) = writable_by_others(directory) {
        let path = directory.display();
        let text = format!(
            "the control socket's directory {path} can be changed by other users (mode {mode:04o}); mend \
             it with \"chmod go-w {path}\""
        );
        found.push((Level::Problem, text));
    }
    if let Some(mode) = mode(socket).filter(|mode| mode & 0o077 != 0) {
        let path = socket.display();
        let text = format!(
            "the control socket {path} can be opened by other users (mode {mode:04o}); mend it with \
             \"chmod 600 {path}\""
        );
        found.push((Level::Warning, text));
    }
    found
}

/// The files by which the server decides whom it believes.
fn trusted(settings: &Settings) -> BTreeSet<&Path> {
    let mut paths = BTreeSet::new();
    let whole = [&settings.tls.ca, &settings.dns.trust_anchor];
    paths.extend(whole.into_iter().flatten().map(|file| file.path.as_path()));
    if let Some(DhParam::File(path)) = &settings.tls.dhparam {
        paths.insert(path.as_path());
    }
    let components = settings.components.values();
    let components = components.map(|component| &component.domain);
    for domain in settings.domains.values().chain(components) {
        if let Some(DhParam::File(path)) = &domain.dhparam {
            paths.insert(path.as_path());
        }
        let peers = domain.s2s.peers.values();
        let pinned = peers.filter_map(|peer| peer.ca.as_ref());
        paths.extend(pinned.map(|file| file.path.as_path()));
        paths.extend(domain.auth.client_ca.as_deref());
    }
    paths
}

fn changeable(path: &Path, why: &str) -> Option<(Level, String)> {
    let mode = writable_by_others(path)?;
    let path = path.display();
    let text = format!(
        "{path} {why}, and can be changed by other users (mode {mode:04o}); mend it with \"chmod go-w \
         {path}\""
    );
    Some((Level::Warning, text))
}

/// What may keep the server, which runs as the owner of its data, from reading a file. None also while
/// there are no data.
pub fn hidden_from_server(file: &Path, settings: &Settings) -> Option<String> {
    let data = fs::metadata(&settings.server.data).ok()?;
    hidden(file, Access::of(&data), &access)
}

/// What keeps the server from reading a file, as far as owners and modes tell. This user may be another,
/// such as root, and can read it then.
fn hidden(
    file: &Path,
    server: Access,
    access: &impl Fn(&Path) -> Option<Access>,
) -> Option<String> {
    let user = server.user;
    let mut above: Vec<&Path> = file.ancestors().skip(1).collect();
    above.reverse();
    let above = above.into_iter().map(|path| (path, 0o1, "o+x"));
    let mut all = above.chain([(file, 0o4, "o+r")]);
    all.find_map(|(path, right, remedy)| {
        let at = access(path).filter(|at| !server.has(right, *at))?;
        let (file, path, mode) = (file.display(), path.display(), at.mode);
        // What holds secrets is for a group, and not for all.
        let mend = match at.mode & 0o007 == 0 && right == 0o4 {
            true => format!("chgrp {} {path} && chmod g+r {path}", server.group),
            false => format!("chmod {remedy} {path}"),
        };
        Some(format!(
            "{file} may be hidden from the server, which runs as user {user}, to whom the data belong, \
             by the mode of {path} ({mode:04o}); mend it with \"{mend}\""
        ))
    })
}

fn access(path: &Path) -> Option<Access> {
    fs::metadata(path).ok().as_ref().map(Access::of)
}

/// Its mode, if others than its owner can change a file, or what is in a directory.
pub fn writable_by_others(path: &Path) -> Option<u32> {
    let mode = mode(path)?;
    // In a directory with the sticky bit others change nothing that is not theirs.
    let is_sticky = path.is_dir() && mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !is_sticky).then_some(mode)
}

fn mode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(conf: (u32, u32, u32), has_secrets: bool) -> Vec<String> {
        let access = |(user, group, mode)| Access { user, group, mode };
        // The server is user 7 with group 70.
        let data = Some(access((7, 70, 0o700)));
        let found = owned(Path::new("s.toml"), access(conf), data, has_secrets);
        found.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn a_conf_file_is_roots_or_the_servers_and_its_secrets_no_other_groups() {
        for fine in [(0, 70, 0o640), (0, 0, 0o600), (7, 70, 0o640), (7, 7, 0o600)] {
            assert!(told(fine, true).is_empty(), "{fine:?}");
        }
        assert!(told((0, 0, 0o640), false).is_empty(), "there is no secret");
        let group = told((0, 0, 0o640), true);
        assert!(group[0].contains("its group (0)") && group[0].contains("chmod g= s.toml"));
        let owner = told((8, 70, 0o640), true);
        assert!(owner[0].contains("user 8") && owner[0].contains("chown root s.toml"));
        assert_eq!((group.len(), owner.len()), (1, 1));
    }
    /// What a check by root finds good, the server itself may not be able to read.
    #[test]
    fn a_file_that_the_server_cannot_read_is_told_with_what_hides_it() {
        let at = |user, group, mode| Access { user, group, mode };
        let server = at(7, 70, 0o700);
        let told = |directory: Access, file: Access| {
            let access = |path: &Path| match path.to_str() {
                Some("/etc/s") => Some(directory),
                Some("/etc/s/ca.pem") => Some(file),
                _ => Some(at(0, 0, 0o755)),
            };
            hidden(Path::new("/etc/s/ca.pem"), server, &access)
        };
        let (open, all) = (at(0, 0, 0o755), at(0, 0, 0o644));
        assert_eq!(told(open, all), None);
        assert_eq!(told(at(0, 70, 0o750), at(7, 0, 0o400)), None);
        assert_eq!(told(open, at(0, 70, 0o640)), None);
        let file = told(open, at(0, 0, 0o600)).unwrap();
        let remedy = "chgrp 70 /etc/s/ca.pem && chmod g+r /etc/s/ca.pem";
        assert!(file.contains("user 7") && file.contains(remedy), "{file}");
        let directory = told(at(0, 0, 0o750), all).unwrap();
        let cause = "by the mode of /etc/s (0750); mend it with \"chmod o+x /etc/s\"";
        assert!(directory.ends_with(cause), "{directory}");
        let group = told(open, at(0, 70, 0o604)).unwrap();
        assert!(group.contains("chmod o+r"), "{group}");
    }
}
