//! What operators do to accounts: judged, hashed and applied in one way, whether the server runs
//! (over the control socket) or not (by the command itself).
//!
//! A request becomes a [`Change`] first, which costs a hash for a new password and touches no
//! store; the change is applied on the store's writer later, by a function that either does it or
//! tells why not.

use std::fmt;
use std::sync::Arc;

use crate::clock::Wall;
use crate::config::{DomainSettings, Settings};
use crate::jid::{BareJid, Domain, JidError, prepare_password};
use crate::net::random::fill_random;
use crate::router::subscription;
use crate::sasl::credentials::SALT_BYTES;
use crate::sasl::{CredentialError, Credentials, Hash, decoy};
use crate::server::control::{AccountChange, AccountInfo, Password, Reply, Request};
use crate::storage::accounts::{self, AccountRecord};
use crate::storage::{Db, StoreError, WriterCore};

/// Why a request about an account is refused before the store is asked.
#[derive(Debug)]
pub enum Refusal {
    /// It is no bare JID.
    NotAJid { given: String, why: JidError },
    /// It is the address of a domain.
    NoLocalpart { given: String },
    /// Its domain is not served here.
    UnknownDomain { domain: String, served: Vec<String> },
    /// The password cannot be prepared (RFC 8265 §4.2), or is empty.
    Password(JidError),
    /// The password cannot be stored in the form that the domain asks for.
    Credentials(CredentialError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotAJid { given, why } => write!(
                f,
                "\"{given}\" names no account: {why}; an account is like juliet@example.org"
            ),
            Refusal::NoLocalpart { given } => write!(
                f,
                "\"{given}\" is a domain; an account is like juliet@{given}"
            ),
            Refusal::UnknownDomain { domain, served } if served.is_empty() => {
                write!(
                    f,
                    "{domain} is not served here; the conf file names no domain"
                )
            }
            Refusal::UnknownDomain { domain, served } => write!(
                f,
                "{domain} is not served here; the conf file names {}",
                served.join(", ")
            ),
            Refusal::Password(JidError::Empty(_)) => {
                f.write_str("the password is empty; choose another one")
            }
            Refusal::Password(why) => write!(f, "{why}; choose another one"),
            Refusal::Credentials(why) => write!(f, "the password cannot be stored: {why}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// A change of one account that has been judged and is ready to be applied.
#[derive(Clone, Debug)]
pub struct Change {
    /// The account.
    pub jid: BareJid,
    /// What is done to it.
    pub operation: Operation,
}

/// What is done to an account.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Make it, enabled.
    Create(Arc<Credentials>),
    /// Replace its credentials, so that its sessions and its logins in flight are no longer proven.
    SetCredentials(Arc<Credentials>),
    /// Remove it with all its data.
    Delete,
    /// Let it log in, or not.
    SetEnabled(bool),
}

impl Change {
    /// Judges a request and hashes its password; none when the request changes no account. Takes
    /// milliseconds, with bcrypt a fifth of a second: not for the thread of a shard. `secret` is
    /// the server's, `storage::accounts::secret`.
    ///
    /// # Errors
    /// The request is refused, whatever the store holds.
    pub fn plan(
        request: &Request,
        settings: &Settings,
        secret: &[u8; 32],
    ) -> Result<Option<Change>, Refusal> {
        let (jid, password) = match request {
            Request::AccountAdd { jid, password } | Request::AccountPasswd { jid, password } => {
                (jid, Some(password))
            }
            Request::AccountDelete { jid }
            | Request::AccountEnable { jid }
            | Request::AccountDisable { jid } => (jid, None),
            Request::AccountList { .. }
            | Request::Status
            | Request::Sessions { .. }
            | Request::SessionsEnd { .. }
            | Request::Reload
            | Request::S2sList { .. }
            | Request::ExplainS2s { .. }
            | Request::Stop => return Ok(None),
        };
        let (jid, domain) = local_account(jid, settings)?;
        let credentials = match password {
            Some(password) => Some(Arc::new(derive(password, &jid, domain, secret)?)),
            None => None,
        };
        let operation = match (request, credentials) {
            (Request::AccountAdd { .. }, Some(credentials)) => Operation::Create(credentials),
            (_, Some(credentials)) => Operation::SetCredentials(credentials),
            (Request::AccountEnable { .. }, None) => Operation::SetEnabled(true),
            (Request::AccountDisable { .. }, None) => Operation::SetEnabled(false),
            (_, None) => Operation::Delete,
        };
        Ok(Some(Change { jid, operation }))
    }

    /// Whether live sessions of the account end with the change.
    pub fn ends_sessions(&self) -> bool {
        match self.operation {
            Operation::Create(_) | Operation::SetEnabled(true) => false,
            Operation::SetCredentials(_) | Operation::Delete | Operation::SetEnabled(false) => true,
        }
    }

    /// Does it, on the store's writer, within a savepoint.
    ///
    /// # Errors
    /// The store's; [`Change::refused`] puts them into words.
    pub fn apply(&self, db: &Db, now: Wall) -> Result<(), StoreError> {
        match &self.operation {
            Operation::Create(credentials) => {
                accounts::create(db, &self.jid, credentials, now).map(drop)
            }
            Operation::SetCredentials(credentials) => {
                accounts::set_credentials(db, &self.jid, credentials).map(drop)
            }
            Operation::Delete => subscription::delete_account(db, &self.jid),
            Operation::SetEnabled(enabled) => {
                accounts::set_enabled(db, &self.jid, *enabled).map(drop)
            }
        }
    }

    /// The reply when the change has been committed.
    pub fn done(&self, sessions_ended: u64) -> Reply {
        Reply::Account(AccountChange {
            jid: self.jid.as_str().to_string(),
            sessions_ended,
        })
    }

    /// The reply when the store refused the change or failed.
    pub fn refused(&self, error: &StoreError) -> Reply {
        let jid = &self.jid;
        Reply::Error {
            text: match error {
                StoreError::Exists => format!(
                    "{jid} exists already; `stanzad account passwd {jid}` changes its password"
                ),
                StoreError::NotFound => {
                    format!("{jid} does not exist; `stanzad account list` shows what does")
                }
                error => format!("{jid} was not changed: {error}; {}", error.remedy()),
            },
        }
    }
}

/// The account that an operator names, and the settings of its domain.
///
/// # Errors
/// It is no account's address, or of a domain that is not served.
pub fn local_account<'a>(
    given: &str,
    settings: &'a Settings,
) -> Result<(BareJid, &'a DomainSettings), Refusal> {
    let jid = BareJid::parse(given).map_err(|why| Refusal::NotAJid {
        given: given.to_string(),
        why,
    })?;
    if jid.local().is_none() {
        let given = jid.as_str().to_string();
        return Err(Refusal::NoLocalpart { given });
    }
    match settings.domains.get(jid.domain()) {
        Some(domain) => Ok((jid, domain)),
        None => Err(unknown_domain(jid.domain(), settings)),
    }
}

/// Why a domain that an operator names is refused.
pub(super) fn unknown_domain(domain: &str, settings: &Settings) -> Refusal {
    Refusal::UnknownDomain {
        domain: domain.to_string(),
        served: settings
            .domains
            .keys()
            .map(|name| name.as_str().to_string())
            .collect(),
    }
}

fn derive(
    password: &Password,
    jid: &BareJid,
    domain: &DomainSettings,
    secret: &[u8; 32],
) -> Result<Credentials, Refusal> {
    let prepared = prepare_password(password.reveal())
        .map(Password::new)
        .map_err(Refusal::Password)?;
    let salt = |hash: Option<Hash>| match hash {
        Some(hash) => decoy::salt(secret, jid.as_str(), hash),
        None => {
            let mut fresh = [0; SALT_BYTES];
            fill_random(&mut fresh);
            fresh
        }
    };
    Credentials::derive(prepared.reveal(), &domain.auth.hash_policy(), &salt)
        .map_err(Refusal::Credentials)
}

/// Answers [`Request::AccountList`] from the store. A domain that is neither served nor has
/// accounts is taken for a slip of the pen.
///
/// # Errors
/// The store's.
pub fn list(db: &Db, domain: Option<&str>, settings: &Settings) -> Result<Reply, StoreError> {
    let domain = match domain.map(|given| (given, Domain::parse(given))) {
        None => None,
        Some((_, Ok(domain))) => Some(domain),
        Some((given, Err(why))) => {
            return Ok(Reply::error(format!("\"{given}\" names no domain: {why}")));
        }
    };
    let found = accounts::list(db, domain.as_ref().map(Domain::as_str))?;
    match domain {
        Some(domain) if found.is_empty() && !settings.domains.contains_key(domain.as_str()) => Ok(
            Reply::error(unknown_domain(domain.as_str(), settings).to_string()),
        ),
        _ => Ok(Reply::Accounts(found.iter().map(info).collect())),
    }
}

fn info((jid, record): &(BareJid, AccountRecord)) -> AccountInfo {
    AccountInfo {
        jid: jid.as_str().to_string(),
        enabled: record.enabled,
        created: stamp(record.created),
        last_seen: record.last_seen.map(stamp),
    }
}

/// A moment in RFC 3339, UTC, to the second.
pub fn stamp(at: Wall) -> String {
    let seconds = i64::try_from(at.micros() / 1_000_000).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(timestamp) => timestamp.to_string(),
        // Past the year 9999 there is no RFC 3339.
        Err(_) => jiff::Timestamp::MAX.to_string(),
    }
}

/// Does what an account request asks, on the store of a server that is not running. Other requests
/// are refused: they are for a running one.
pub fn apply_offline(
    store: &mut WriterCore,
    settings: &Settings,
    request: &Request,
    now: Wall,
) -> Reply {
    if let Request::AccountList { domain } = request {
        return list(store.db(), domain.as_deref(), settings)
            .unwrap_or_else(|error| Reply::error(format!("cannot list the accounts: {error}")));
    }
    let secret = match accounts::secret(store.db()) {
        Ok(secret) => secret,
        Err(error) => return Reply::error(format!("the store has no secret: {error}")),
    };
    let change = match Change::plan(request, settings, &secret) {
        Ok(Some(change)) => change,
        Ok(None) => return Reply::error("this is for a running server, and none is"),
        Err(refusal) => return Reply::error(refusal.to_string()),
    };
    // A deletion before has left word for contacts, whom a successor of the name must not reach first.
    let requests_max = settings.limits.pending_requests_max as usize;
    if let Err(error) = subscription::redeliver(store, requests_max) {
        return change.refused(&error);
    }
    let applied = change.clone();
    match store.change(move |db| applied.apply(db, now)) {
        Ok(()) => change.done(0),
        Err(error) => change.refused(&error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn settings() -> Settings {
        let text = "[domain.\"example.org\"]\n[domain.\"xn--mller-kva.example\"]\n";
        config::parse(text, Path::new("stanzad.toml")).unwrap()
    }

    fn jid() -> String {
        "juliet@example.org".to_string()
    }

    fn add(password: &str) -> Request {
        Request::AccountAdd {
            jid: jid(),
            password: Password::new(password.to_string()),
        }
    }

    fn text(reply: Reply) -> String {
        match reply {
            Reply::Error { text } => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    fn store() -> WriterCore {
        WriterCore::memory(&[7; 32]).unwrap()
    }

    #[test]
    fn what_takes_a_login_away_ends_the_sessions() {
        let ends = |request: &Request| {
            let change = Change::plan(request, &settings(), &[7; 32]).unwrap();
            change.is_some_and(|change| change.ends_sessions())
        };
        let password = Password::new("r0m30".to_string());
        assert!(!ends(&add("r0m30")));
        assert!(ends(&Request::AccountPasswd {
            jid: jid(),
            password
        }));
        assert!(ends(&Request::AccountDelete { jid: jid() }));
        assert!(ends(&Request::AccountDisable { jid: jid() }));
        assert!(!ends(&Request::AccountEnable { jid: jid() }));
    }

    #[test]
    fn requests_that_change_no_account_are_no_changes() {
        for request in [
            Request::AccountList { domain: None },
            Request::Status,
            Request::Reload,
            Request::Stop,
        ] {
            assert!(
                Change::plan(&request, &settings(), &[7; 32])
                    .unwrap()
                    .is_none(),
                "{request:?}"
            );
        }
    }

    #[test]
    fn an_account_is_found_however_it_is_written() {
        let settings = settings();
        for given in ["Juliet@EXAMPLE.org", "\u{ff2a}uliet@example.org"] {
            let (jid, domain) = local_account(given, &settings).unwrap();
            assert_eq!(jid.as_str(), "juliet@example.org");
            assert_eq!(domain.name.as_str(), "example.org");
        }
        assert!(local_account("juliet@m\u{fc}ller.example", &settings).is_ok());
    }

    #[test]
    fn passwords_are_prepared_before_they_are_hashed() {
        let mut store = store();
        // OpaqueString: other spaces become U+0020 (RFC 8265 §4.2.1).
        let request = add("two\u{2003}words");
        let reply = apply_offline(&mut store, &settings(), &request, Wall::from_micros(1));
        assert!(matches!(reply, Reply::Account(_)), "{reply:?}");
        let jid = BareJid::parse("juliet@example.org").unwrap();
        let (_, credentials) = accounts::credentials(store.db(), &jid).unwrap().unwrap();
        assert!(credentials.verify("two words"));
    }

    /// Issue 3: a change of password does not show at a login that fails.
    #[test]
    fn a_name_has_its_own_salt_for_each_hash_whatever_its_password() {
        let planned = |jid: &str, password: &str| {
            let request = Request::AccountPasswd {
                jid: jid.to_string(),
                password: Password::new(password.to_string()),
            };
            let change = Change::plan(&request, &settings(), &[7; 32]).unwrap();
            match change.unwrap().operation {
                Operation::SetCredentials(credentials) => credentials.scram.clone(),
                other => panic!("{other:?}"),
            }
        };
        let salts = |verifiers: &[crate::sasl::Verifier]| -> Vec<_> {
            verifiers.iter().map(|one| one.salt.clone()).collect()
        };
        let juliet = planned(&jid(), "r0m30");
        let [a, b, c] = salts(&juliet).try_into().unwrap();
        assert!(a != b && b != c && c != a);
        let changed = planned(&jid(), "par1s");
        assert_eq!(salts(&juliet), salts(&changed));
        let romeo = planned("romeo@example.org", "r0m30");
        for ((juliet, romeo), changed) in juliet.iter().zip(&romeo).zip(&changed) {
            assert_ne!(juliet.salt, romeo.salt);
            assert_ne!(juliet.stored_key, romeo.stored_key);
            assert_ne!(juliet.stored_key, changed.stored_key);
        }
    }

    #[test]
    fn a_live_request_is_not_for_a_stopped_server() {
        let reply = apply_offline(
            &mut store(),
            &settings(),
            &Request::Stop,
            Wall::from_micros(1),
        );
        assert!(text(reply).contains("running server"));
    }

    #[test]
    fn accounts_are_stamped_in_utc_to_the_second() {
        assert_eq!(stamp(Wall::from_micros(0)), "1970-01-01T00:00:00Z");
        assert_eq!(
            stamp(Wall::from_micros(1_795_557_600_999_999)),
            "2026-11-24T22:00:00Z"
        );
        assert!(stamp(Wall::from_micros(u64::MAX)).starts_with("9999-12-30"));
    }
}
