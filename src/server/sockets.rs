//! The listening sockets: those that the service manager hands in, else those of the conf file.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, RawFd};

use crate::config::Settings;
use crate::server::StartError;
use crate::shard::Peer;
use crate::shard::listener::{Kind, Listening, adopt, bind};

/// Opens all listening sockets. Those that the service manager hands in (sd_listen_fds(3)), named
/// as the options of `[listen]` (`FileDescriptorName=`), take the place of the option of that name.
///
/// # Errors
/// In words: which address, and why.
pub fn open(settings: &Settings) -> Result<Vec<Listening>, StartError> {
    let mut sockets = handed_in()?;
    let handed_in: Vec<Kind> = sockets.iter().map(|listening| listening.kind).collect();
    let listen = &settings.listen;
    let mut problems = Vec::new();
    for (kind, addresses) in [
        (Kind::Client, listen.c2s.as_slice()),
        (Kind::ClientTls, &listen.c2s_tls),
        (Kind::Server, &listen.s2s),
        (Kind::ServerTls, &listen.s2s_tls),
        (Kind::Component, components_at(settings)),
    ] {
        for address in addresses.iter().filter(|_| !handed_in.contains(&kind)) {
            match bind(kind, *address) {
                Ok(listening) => sockets.push(listening),
                Err(error) => problems.push(format!(
                    "cannot listen on {address} (listen.{}): {error}",
                    kind.name()
                )),
            }
        }
    }
    if !problems.is_empty() {
        return Err(StartError::new(problems.join("\n")));
    }
    if !sockets
        .iter()
        .any(|listening| listening.kind.peer() == Peer::Client)
    {
        return Err(StartError::new(
            "listen.c2s and listen.c2s_tls are both empty: nobody could connect; name an address \
             in one of them, such as c2s = [\"[::]:5222\"]",
        ));
    }
    Ok(sockets)
}

/// Where components are listened for: nowhere while there are none.
fn components_at(settings: &Settings) -> &[SocketAddr] {
    match settings.components.is_empty() {
        true => &[],
        false => &settings.listen.component,
    }
}

/// Opens the sockets for components, after a reload that has brought the first; and tells in words of
/// each address that could not be listened on.
pub fn open_for_components(settings: &Settings) -> (Vec<Listening>, Vec<String>) {
    let (mut sockets, mut problems) = (Vec::new(), Vec::new());
    for address in components_at(settings) {
        match bind(Kind::Component, *address) {
            Ok(listening) => sockets.push(listening),
            Err(error) => problems.push(format!(
                "cannot listen on {address} (listen.component): {error}"
            )),
        }
    }
    (sockets, problems)
}

fn handed_in() -> Result<Vec<Listening>, StartError> {
    let descriptors: Vec<(RawFd, String)> = match sd_notify::listen_fds_with_names() {
        Ok(descriptors) => descriptors.collect(),
        Err(error) => {
            return Err(StartError::new(format!(
                "the sockets of the service manager cannot be used: {error}"
            )));
        }
    };
    let mut sockets = Vec::new();
    for (descriptor, name) in descriptors {
        let kind = match name.as_str() {
            "c2s" => Kind::Client,
            "c2s_tls" => Kind::ClientTls,
            "s2s" => Kind::Server,
            "s2s_tls" => Kind::ServerTls,
            "component" => Kind::Component,
            _ => {
                return Err(StartError::new(format!(
                    "the service manager handed in a socket named \"{name}\"; name it c2s, \
                     c2s_tls, s2s, s2s_tls or component by FileDescriptorName="
                )));
            }
        };
        // SAFETY: sd_listen_fds(3) passes this descriptor to this process, sd_notify has checked
        // that LISTEN_PID is ours, and it yields each descriptor once: nobody else owns it.
        #[expect(unsafe_code, reason = "a descriptor is handed in as a number")]
        let socket = unsafe { TcpListener::from_raw_fd(descriptor) };
        let listening = adopt(kind, socket).map_err(|error| {
            StartError::new(format!(
                "the socket \"{name}\" of the service manager cannot be used: {error}"
            ))
        })?;
        sockets.push(listening);
    }
    Ok(sockets)
}
