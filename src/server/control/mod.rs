//! The control protocol: what the commands ask of the running server, and what it answers.
//!
//! A connection to the control socket carries one request and one reply, each a line of JSON
//! (RFC 8259). The server closes after its reply; only for [`Request::Stop`] it keeps the
//! connection open until the process has ended, so that `stanzad stop` knows when that is.
//!
//! Who may speak is decided twice: by the modes of the socket and its directory, and by the peer's
//! user id, which the kernel tells ([`serve`]). The commands check the server's user id in the
//! same way before they send a password ([`call()`]).

mod call;
mod explained;
mod servers;
mod socket;

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

pub use call::{CallError, call, call_until_gone};
pub use explained::{
    AttemptInfo, CertificateReport, DryRun, Explained, KeyInfo, LookupInfo, ProofStep, ReceiptInfo,
    TriedAddress, Try,
};
pub use servers::{PairInfo, ServerStreamInfo};
pub use socket::{ControlError, ControlSocket, serve};

/// Bytes of a request, the newline included. A JID has at most 3,071 bytes and a password at most
/// 1,023; escaped as JSON each byte becomes six at worst.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a reply that a command is willing to read: about a million accounts.
pub const REPLY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Sessions that one reply lists. The rest is counted in `left_out`; asking for one domain or one
/// account narrows the list.
pub const SESSIONS_MAX: usize = 10_000;

/// What a command asks for. JIDs come as the operator typed them; the server prepares them.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make an account that can log in at once.
    AccountAdd { jid: String, password: Password },
    /// Replace an account's password, end its sessions, and fail its logins in flight.
    AccountPasswd { jid: String, password: Password },
    /// Remove an account and all that is stored for it, and end its sessions.
    AccountDelete { jid: String },
    /// List the accounts of one domain, or of all.
    AccountList { domain: Option<String> },
    /// Let a disabled account log in again.
    AccountEnable { jid: String },
    /// Keep an account's data, but end its sessions and refuse its logins.
    AccountDisable { jid: String },
    /// Tell how the server is.
    Status,
    /// List sessions: of an account, of a full JID, of a domain, or all.
    Sessions {
        domain: Option<String>,
        jid: Option<String>,
    },
    /// End the session of a full JID, or all of a bare one.
    SessionsEnd { jid: String },
    /// List streams with other servers, and links that have none: of a domain, ours or theirs, or all.
    S2sList { domain: Option<String> },
    /// Tell what became of the last attempts with the server of a domain, and what a try comes to: for
    /// this domain of ours, or for all of them.
    ExplainS2s {
        remote: String,
        local: Option<String>,
    },
    /// Read the conf file and the certificates again.
    Reload,
    /// Stop in an orderly way.
    Stop,
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// An account was made or changed, and that is committed.
    Account(AccountChange),
    /// Answers [`Request::AccountList`], ordered by JID.
    Accounts(Vec<AccountInfo>),
    /// Answers [`Request::Status`].
    Status(Box<StatusInfo>),
    /// Answers [`Request::Sessions`], ordered by JID.
    Sessions {
        sessions: Vec<SessionInfo>,
        /// Sessions beyond [`SESSIONS_MAX`].
        left_out: u64,
    },
    /// Answers [`Request::SessionsEnd`].
    SessionsEnded { count: u64 },
    /// Answers [`Request::S2sList`], ordered by the other server's domain.
    S2sList {
        servers: Vec<ServerStreamInfo>,
        /// Those beyond [`SESSIONS_MAX`].
        left_out: u64,
    },
    /// Answers [`Request::ExplainS2s`].
    Explained(Box<Explained>),
    /// The new configuration is in force.
    Reloaded(ReloadInfo),
    /// The server is stopping; the connection closes when it has ended.
    Stopping { pid: u32 },
    /// Nothing was done. The text is for people: what, where, what to do; maybe several lines.
    Error { text: String },
}

/// What became of an account.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AccountChange {
    /// The bare JID, prepared.
    pub jid: String,
    /// Live sessions that the change ended.
    pub sessions_ended: u64,
}

/// One line of `stanzad account list`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AccountInfo {
    /// The bare JID.
    pub jid: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// When it was made, in RFC 3339, UTC.
    pub created: String,
    /// When its last session ended, in RFC 3339, UTC.
    pub last_seen: Option<String>,
}

/// How the server is.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StatusInfo {
    /// The version of stanzad.
    pub version: String,
    /// The OpenSSL it runs with, as that names itself.
    pub openssl: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    /// Counts loads of the conf file: 1 after the start, one more with each reload that was taken.
    pub generation: u64,
    pub domains: Vec<String>,
    /// Those of the conf file, connected or not.
    pub components: Vec<ComponentInfo>,
    pub listeners: Vec<ListenerInfo>,
    pub shards: Vec<ShardInfo>,
    /// Accepted connections, logged in or not.
    pub connections: u64,
    /// How many are admitted at a time; none is as many as come.
    pub connections_max: Option<u64>,
    /// Bound resources.
    pub sessions: u64,
    /// Accounts whose data is in memory.
    pub accounts_loaded: u64,
    /// Bytes of the database file and its write-ahead log.
    pub store_bytes: u64,
    /// Receivers above their mark, for which no socket is read (`Backpressure` in lib.rs).
    pub gates_shut: u64,
}

/// A component of the conf file.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ComponentInfo {
    pub name: String,
    /// Where it comes from; none if it is not connected.
    pub address: Option<String>,
    /// When it came, in RFC 3339, UTC.
    pub since: Option<String>,
    /// Stanzas that wait for it to read.
    pub stanzas_waiting: u64,
}

/// An address on which connections are accepted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ListenerInfo {
    /// The option of `[listen]` that asked for it: `c2s`, `s2s_tls`, `component`.
    pub kind: String,
    pub address: String,
}

/// One shard's share of the load.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ShardInfo {
    pub connections: u64,
    pub sessions: u64,
    pub accounts_loaded: u64,
    /// Posts that wait in its mailbox.
    pub posts: u64,
}

/// One line of `stanzad sessions`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SessionInfo {
    /// The full JID.
    pub jid: String,
    pub shard: usize,
    /// Address and port of the client.
    pub address: String,
    /// When the resource was bound, in RFC 3339, UTC.
    pub since: String,
    /// `TLSv1.3`; none on an unencrypted stream, as for `cipher` and `group`.
    pub tls_version: Option<String>,
    pub cipher: Option<String>,
    /// The key exchange group.
    pub group: Option<String>,
    /// The SASL mechanism by which it logged in.
    pub mechanism: String,
    /// The name by which the client's software goes, if it has told (XEP-0115).
    pub client: Option<String>,
    /// Whether it has sent initial presence and not left since (RFC 6121 §4.2).
    pub available: bool,
    /// The priority of its presence; 0 while unavailable.
    pub priority: i8,
    /// Seconds since anything came from the client.
    pub last_activity_seconds: u64,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReloadInfo {
    /// The generation now in force.
    pub generation: u64,
    /// What an operator should look at, as `check config` tells it.
    pub warnings: Vec<String>,
    /// Options that differ from the running server's and take a restart.
    pub needs_restart: Vec<String>,
}

impl Reply {
    /// A refusal in words.
    pub fn error(text: impl Into<String>) -> Reply {
        Reply::Error { text: text.into() }
    }
}

/// The running server, as the control socket sees it.
pub trait Backend: Send + Sync {
    /// Does what is asked and answers when it is done: a change has been committed. Called on a
    /// thread of the control socket, which may block; several calls may be under way at once.
    /// [`Request::Stop`] only starts the stopping.
    fn execute(&self, request: Request) -> Reply;
}

/// A password on its way from the operator to the hash. It is wiped when dropped, and shows itself
/// to nobody but through [`Password::reveal`].
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the password over.
    pub fn new(password: String) -> Password {
        Password(Zeroizing::new(password))
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        String::deserialize(deserializer).map(Password::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_request_hides_the_password() {
        let request = Request::AccountAdd {
            jid: "juliet@example.org".to_string(),
            password: Password::new("r0m30myr0m30".to_string()),
        };
        let shown = format!("{request:?} {request:#?}");
        assert!(shown.contains("juliet@example.org"));
        assert!(!shown.contains("r0m30"), "{shown}");
    }

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request::AccountPasswd {
            jid: "juliet@example.org".to_string(),
            password: Password::new("\"\\\n\u{1f511}".to_string()),
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'), "one line only");
        let Request::AccountPasswd { jid, password } = serde_json::from_str(&line).unwrap() else {
            panic!("another request: {line}");
        };
        assert_eq!(jid, "juliet@example.org");
        assert_eq!(password.reveal(), "\"\\\n\u{1f511}");
    }

    #[test]
    fn a_request_with_an_unknown_part_is_refused() {
        let line = r#"{"account_delete":{"jid":"a@example.org","force":true}}"#;
        assert!(serde_json::from_str::<Request>(line).is_err());
    }
}
