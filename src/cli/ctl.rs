//! Commands to the running server: status, sessions, reload, stop.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{ConfigFile, Failure, load, print, print_json, remark, table};
use crate::config::{self, Settings};
use crate::server::control::{
    CallError, Reply, Request, SessionInfo, StatusInfo, call, call_until_gone,
};

/// Where a running server is reached. A command to it needs no more of the conf file, so that a file
/// that is broken does not keep anybody from looking at the server or stopping it.
#[derive(Debug, Args)]
pub struct Reach {
    #[command(flatten)]
    config: ConfigFile,
    /// The control socket, instead of the one that the conf file names
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

impl Reach {
    /// The control socket and whose server is believed in.
    ///
    /// # Errors
    /// The conf file is broken and another than the usual one, and does not tell the socket: that
    /// of some other server on the machine might be meant.
    fn resolve(&self) -> Result<(PathBuf, u32), Failure> {
        let file = &self.config.path;
        let (server, problems) = config::locate(file);
        let owner = owner(&server.data);
        if let Some(control) = &self.control {
            return Ok((control.clone(), owner));
        }
        if let Some(problems) = problems {
            let is_told = server.control != config::Server::default().control;
            if !is_told && file != Path::new(config::DEFAULT_PATH) {
                return Err(Failure::no(format_args!(
                    "{problems}\nand so it is not known which server is meant; name its control \
                     socket with --control"
                )));
            }
            remark(format_args!(
                "{problems}\nwarning: the conf file is broken; asking the server at {}",
                server.control.display()
            ));
        }
        Ok((server.control, owner))
    }

    /// Asks the server. A refusal of its becomes the command's.
    pub(super) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        accept(self.call(request)?)
    }

    /// The same, for who goes on without a reply.
    pub(super) fn call(&self, request: &Request) -> Result<Result<Reply, CallError>, Failure> {
        let (control, owner) = self.resolve()?;
        Ok(call(&control, owner, request))
    }

    /// The conf file.
    pub(super) fn conf_file(&self) -> &Path {
        &self.config.path
    }
}

/// Asks the server of `settings`; with the reason when no reply came.
pub fn call_server(settings: &Settings, request: &Request) -> Result<Reply, CallError> {
    call(
        &settings.server.control,
        owner(&settings.server.data),
        request,
    )
}

/// A refusal is a no, and so is no reply.
pub fn accept(reply: Result<Reply, CallError>) -> Result<Reply, Failure> {
    match reply {
        Ok(Reply::Error { text }) => Err(Failure::No(text)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Failure::no(error)),
    }
}

/// The user whose server is believed in: the one to whom the data belong. Without data it is root,
/// who is believed in anyhow.
fn owner(data: &Path) -> u32 {
    std::fs::metadata(data).map_or(0, |metadata| metadata.uid())
}

/// A reply of the right kind can only be missing when the server is of another version.
pub fn unexpected(reply: &Reply) -> Failure {
    Failure::no(format_args!(
        "the server answered with something else than was asked ({reply:?}); is it of the same \
         version as this command, {}?",
        env!("CARGO_PKG_VERSION")
    ))
}

/// `stanzad status`
pub fn status(server: &Reach, json: bool) -> Result<(), Failure> {
    match server.ask(&Request::Status)? {
        Reply::Status(status) if json => print_json(&status),
        Reply::Status(status) => print(&describe_status(&status)),
        other => Err(unexpected(&other)),
    }
}

fn describe_status(status: &StatusInfo) -> String {
    let mut rows = vec![
        (
            "version",
            format!("stanzad {}, {}", status.version, status.openssl),
        ),
        ("process", status.pid.to_string()),
        ("running for", duration(status.uptime_seconds)),
        ("configuration", format!("generation {}", status.generation)),
        ("domains", status.domains.join(", ")),
    ];
    for component in &status.components {
        let state = match (&component.address, &component.since) {
            (Some(address), Some(since)) => format!("connected from {address} since {since}"),
            _ => "not connected".to_owned(),
        };
        let waiting = match component.stanzas_waiting {
            0 => String::new(),
            count => format!(", does not read: {count} stanzas wait for it"),
        };
        rows.push(("component", format!("{}: {state}{waiting}", component.name)));
    }
    for listener in &status.listeners {
        rows.push((
            "listens on",
            format!("{} ({})", listener.address, listener.kind),
        ));
    }
    rows.push((
        "connections",
        match status.connections_max {
            Some(max) => format!("{} of at most {max}", status.connections),
            None => status.connections.to_string(),
        },
    ));
    rows.push(("sessions", status.sessions.to_string()));
    rows.push(("accounts loaded", status.accounts_loaded.to_string()));
    rows.push(("store", bytes(status.store_bytes)));
    if status.gates_shut > 0 {
        let text = format!(
            "{} gates are shut: sockets are not read just now",
            status.gates_shut
        );
        rows.push(("overload", text));
    }
    let mut out = String::new();
    for (name, value) in rows {
        out.push_str(&format!("{name:16} {value}\n"));
    }
    for (index, shard) in status.shards.iter().enumerate() {
        let name = format!("shard {index}");
        out.push_str(&format!(
            "{name:16} {} connections, {} sessions, {} accounts, {} posts waiting\n",
            shard.connections, shard.sessions, shard.accounts_loaded, shard.posts
        ));
    }
    out
}

/// `stanzad sessions`
pub fn sessions(
    server: &Reach,
    jid: Option<String>,
    domain: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let reply = server.ask(&Request::Sessions { domain, jid })?;
    let Reply::Sessions { sessions, left_out } = &reply else {
        return Err(unexpected(&reply));
    };
    if json {
        return print_json(&serde_json::json!({ "sessions": sessions, "left_out": left_out }));
    }
    let rows: Vec<_> = sessions.iter().map(describe_session).collect();
    let heading = [
        "JID", "CLIENT", "PRESENCE", "IDLE", "ADDRESS", "SINCE", "TLS", "LOGIN",
    ];
    print(&table(heading, &rows))?;
    if *left_out > 0 {
        remark(format_args!(
            "{left_out} more are not listed; name an account or a --domain to see them"
        ));
    }
    Ok(())
}

/// `stanzad sessions end`
pub fn end_sessions(server: &Reach, jid: String) -> Result<(), Failure> {
    let request = Request::SessionsEnd { jid: jid.clone() };
    match server.ask(&request)? {
        Reply::SessionsEnded { count: 0 } => {
            Err(Failure::No(format!("{jid} has no session to end")))
        }
        Reply::SessionsEnded { count: 1 } => {
            remark(format_args!("the session of {jid} was ended"));
            Ok(())
        }
        Reply::SessionsEnded { count } => {
            remark(format_args!("{count} sessions of {jid} were ended"));
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

fn describe_session(session: &SessionInfo) -> [String; 8] {
    let presence = match (session.available, session.priority) {
        (true, priority) => format!("priority {priority}"),
        (false, _) => "unavailable".to_string(),
    };
    let tls = [&session.tls_version, &session.cipher, &session.group]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ");
    [
        session.jid.clone(),
        session.client.clone().unwrap_or_else(|| "?".to_string()),
        presence,
        duration(session.last_activity_seconds),
        session.address.clone(),
        session.since.clone(),
        if tls.is_empty() {
            "unencrypted".to_string()
        } else {
            tls
        },
        session.mechanism.clone(),
    ]
}

/// `stanzad reload`
pub fn reload(server: &Reach) -> Result<(), Failure> {
    // The server reads the file again, and its judgement counts; but what is wrong with it need not
    // be told twice.
    if server.control.is_none() {
        load(&server.config.path)?;
    }
    let reply = server.ask(&Request::Reload)?;
    let Reply::Reloaded(info) = &reply else {
        return Err(unexpected(&reply));
    };
    for warning in &info.warnings {
        remark(format_args!("warning: {warning}"));
    }
    for option in &info.needs_restart {
        remark(format_args!(
            "{option} has changed, but takes effect only after a restart"
        ));
    }
    remark(format_args!(
        "reloaded; configuration generation {} is in force",
        info.generation
    ));
    Ok(())
}

/// `stanzad stop`
pub fn stop(server: &Reach) -> Result<(), Failure> {
    let (control, owner) = server.resolve()?;
    match accept(call_until_gone(&control, owner, &Request::Stop))? {
        Reply::Stopping { pid } => {
            remark(format_args!("stopped; process {pid} has ended"));
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// Seconds in the two widest units that matter.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..1_048_576 => format!("{} KiB", count / 1024),
        1_048_576..1_073_741_824 => format!("{} MiB", count / 1_048_576),
        _ => format!("{:.1} GiB", count as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::control::{ListenerInfo, ShardInfo};

    #[test]
    fn durations_are_told_in_their_two_widest_units() {
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(59), "59s");
        assert_eq!(duration(61), "1m 1s");
        assert_eq!(duration(3_599), "59m 59s");
        assert_eq!(duration(3_660), "1h 1m");
        assert_eq!(duration(90_000), "1d 1h");
    }

    #[test]
    fn sizes_are_told_in_binary_units() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1024), "1 KiB");
        assert_eq!(bytes(5 << 20), "5 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
    }

    #[test]
    fn status_names_every_listener_and_shard() {
        let status = StatusInfo {
            listeners: vec![ListenerInfo {
                kind: "c2s".to_string(),
                address: "[::1]:5222".to_string(),
            }],
            shards: vec![ShardInfo::default(), ShardInfo::default()],
            connections: 7,
            connections_max: Some(960),
            ..StatusInfo::default()
        };
        let text = describe_status(&status);
        assert!(
            text.contains("connections      7 of at most 960\n"),
            "{text}"
        );
        assert!(text.contains("[::1]:5222 (c2s)"), "{text}");
        assert!(text.contains("shard 1 "), "{text}");
        assert!(!text.contains("overload"), "{text}");
        let overloaded = StatusInfo {
            gates_shut: 1,
            ..status
        };
        assert!(describe_status(&overloaded).contains("overload"));
    }

    #[test]
    fn an_unencrypted_session_is_called_so() {
        let session = SessionInfo {
            jid: "juliet@example.org/balcony".to_string(),
            shard: 0,
            address: "192.0.2.1:40000".to_string(),
            since: "2026-11-24T22:00:00Z".to_string(),
            tls_version: None,
            cipher: None,
            group: None,
            mechanism: "SCRAM-SHA-256".to_string(),
            client: Some("Gajim".to_string()),
            available: true,
            priority: -1,
            last_activity_seconds: 3,
        };
        let row = describe_session(&session);
        assert_eq!(row[6], "unencrypted");
        assert_eq!(row[2], "priority -1");
    }
}
