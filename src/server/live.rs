//! What the control socket's requests do on the running server.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};

use crate::clock::Wall;
use crate::config::Settings;
use crate::jid::{Domain, Jid};
use crate::router::commands::AccountCommand;
use crate::server::accounts::{Change, Operation, list, stamp, unknown_domain};
use crate::server::control::{
    Backend, ComponentInfo, ListenerInfo, Reply, Request, SESSIONS_MAX, SessionInfo, ShardInfo,
    StatusInfo,
};
use crate::server::dry_run::domains;
use crate::server::{Core, ask, federation};
use crate::shard::{Post, Survey, SurveyedSession};
use crate::stanza::{StreamCondition, StreamError};

/// How long a shard may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// The running server, as the control socket sees it.
pub struct Live {
    core: Arc<Core>,
}

impl Live {
    /// Acts on this server.
    pub fn new(core: Arc<Core>) -> Live {
        Live { core }
    }

    /// Changes an account on the shard that owns it, where logins and sessions see it at once.
    fn change(&self, change: Change) -> Reply {
        let (sender, receiver) = bounded(1);
        let jid = change.jid.clone();
        let now = self.core.clock.now().wall;
        let command = command(change.clone(), now);
        let reply = Box::new(move |outcome| {
            // Who asked may have gone.
            let _ = sender.send(outcome);
        });
        let shard = self.core.placement.shard_of(jid.as_str());
        if let Some(address) = self.core.shards.get(shard as usize) {
            address.send(vec![Post::Command(jid, command, reply)]);
        }
        match receiver.recv_timeout(ANSWER_WAIT) {
            Ok(Ok(sessions_ended)) => change.done(sessions_ended),
            Ok(Err(error)) => change.refused(&error),
            Err(_) => Reply::error(format!(
                "the server did not answer in {} seconds; whether {} was changed is not known",
                ANSWER_WAIT.as_secs(),
                change.jid
            )),
        }
    }

    fn surveys(&self) -> Result<Vec<Survey>, Reply> {
        let (sender, receiver) = unbounded();
        for address in &self.core.shards {
            let sender = sender.clone();
            let waiting = address.load().posts();
            address.send(vec![Post::Survey(Box::new(move |mut survey: Survey| {
                survey.posts_waiting = waiting;
                // Who asked may have gone.
                let _ = sender.send(survey);
            }))]);
        }
        drop(sender);
        let mut surveys = collect(&receiver, self.core.shards.len())?;
        surveys.sort_by_key(|survey| survey.shard);
        Ok(surveys)
    }

    fn status(&self) -> Result<Reply, Reply> {
        let surveys = self.surveys()?;
        let settings = self.core.settings();
        let shards: Vec<ShardInfo> = surveys
            .iter()
            .map(|survey| ShardInfo {
                connections: survey.connections as u64,
                sessions: survey.sessions.len() as u64,
                accounts_loaded: survey.accounts as u64,
                posts: survey.posts_waiting as u64,
            })
            .collect();
        let listeners = self.core.listeners().into_iter();
        Ok(Reply::Status(Box::new(StatusInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            openssl: crate::net::random::openssl_version().to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.core.clock.now().mono.millis() / 1000,
            generation: settings.generation,
            domains: settings
                .domains
                .keys()
                .map(|domain| domain.as_str().to_owned())
                .collect(),
            components: components(&settings, &surveys),
            listeners: listeners
                .map(|(kind, address)| ListenerInfo {
                    kind: kind.to_owned(),
                    address: address.to_string(),
                })
                .collect(),
            connections: shards.iter().map(|shard| shard.connections).sum(),
            connections_max: self.core.open_files.connections_max(),
            sessions: shards.iter().map(|shard| shard.sessions).sum(),
            accounts_loaded: shards.iter().map(|shard| shard.accounts_loaded).sum(),
            shards,
            store_bytes: self.store_bytes(&settings),
            gates_shut: self.core.gates.shut() as u64,
        })))
    }

    /// The database and its write-ahead log.
    fn store_bytes(&self, settings: &Settings) -> u64 {
        ["stanzad.sqlite", "stanzad.sqlite-wal"]
            .iter()
            .filter_map(|name| std::fs::metadata(settings.server.data.join(name)).ok())
            .map(|file| file.len())
            .sum()
    }

    fn sessions(&self, domain: Option<&str>, jid: Option<&str>) -> Result<Reply, Reply> {
        let domain = match domain {
            Some(given) => Some(self.served_domain(given)?),
            None => None,
        };
        let jid = jid.map(session_jid).transpose()?;
        let is_meant = |session: &SurveyedSession| {
            let (bare, _) = session.jid.split_once('/').unwrap_or((&session.jid, ""));
            let is_of = |domain: &Domain| {
                let of = bare.rsplit('@').next();
                of.is_some_and(|of| of == domain.as_str())
            };
            let is_named = |jid: &Jid| jid.as_str() == session.jid || jid.as_str() == bare;
            domain.as_ref().is_none_or(is_of) && jid.as_ref().is_none_or(is_named)
        };
        let mut sessions = Vec::new();
        for survey in self.surveys()? {
            let shard = survey.shard as usize;
            let meant = survey.sessions.iter().filter(|session| is_meant(session));
            sessions.extend(meant.map(|session| info(shard, session)));
        }
        sessions.sort_by(|a, b| a.jid.cmp(&b.jid));
        let left_out = sessions.len().saturating_sub(SESSIONS_MAX) as u64;
        sessions.truncate(SESSIONS_MAX);
        Ok(Reply::Sessions { sessions, left_out })
    }

    /// A domain that an operator names. One that is not served has no sessions, and is taken for a slip
    /// of the pen.
    fn served_domain(&self, given: &str) -> Result<Domain, Reply> {
        let domain = a_domain(given)?;
        let settings = self.core.settings();
        if settings.domains.contains_key(domain.as_str()) {
            return Ok(domain);
        }
        let unknown = unknown_domain(domain.as_str(), &settings);
        Err(Reply::error(unknown.to_string()))
    }

    fn end_sessions(&self, given: &str) -> Reply {
        let jid = match session_jid(given) {
            Ok(jid) => jid,
            Err(reply) => return reply,
        };
        let (sender, receiver) = bounded(1);
        let reply = Box::new(move |count| {
            // Who asked may have gone.
            let _ = sender.send(count);
        });
        let shard = self.core.placement.shard_of(jid.bare_str());
        if let Some(address) = self.core.shards.get(shard as usize) {
            address.send(vec![Post::EndSessions(jid.as_str().to_owned(), reply)]);
        }
        match receiver.recv_timeout(ANSWER_WAIT) {
            Ok(count) => Reply::SessionsEnded { count },
            Err(_) => Reply::error("the server did not answer: it is stopping or stuck"),
        }
    }

    fn s2s_list(&self, domain: Option<&Domain>) -> Result<Reply, Reply> {
        let surveys = self.surveys()?;
        let pairs = federation::pairs(&surveys);
        let changed = ask(&self.core.store, move |db| {
            federation::changed_keys(db, &pairs)
        });
        let changed = changed
            .map_err(|error| Reply::error(format!("cannot look the servers' keys up: {error}")))?;
        let mut reply = federation::list(surveys, domain.map(Domain::as_str));
        federation::tell_changed_keys(&mut reply, &changed);
        Ok(reply)
    }

    /// What became of the last attempts with another server, and of tries just now, which this thread
    /// waits for.
    fn explain(&self, remote: &str, local: Option<&str>) -> Result<Reply, Reply> {
        let remote = a_domain(remote)?;
        let settings = self.core.settings();
        if settings.served(remote.as_str()).is_some() {
            return Err(Reply::error(domains::served_here(&remote)));
        }
        let chosen = domains::chosen(&settings, local).map_err(Reply::error)?;
        let (sender, receiver) = bounded(1);
        let reply = Box::new(move |remembered| {
            // Who asked may have gone.
            let _ = sender.send(remembered);
        });
        let shard = self.core.placement.shard_of(remote.as_str());
        if let Some(address) = self.core.shards.get(shard as usize) {
            address.send(vec![Post::Recall(remote.clone(), reply)]);
        }
        let Ok(mut remembered) = receiver.recv_timeout(ANSWER_WAIT) else {
            return Err(Reply::error(
                "a shard did not answer: it is stopping or stuck",
            ));
        };
        if local.is_some() {
            let is_chosen = |local: &Domain| chosen.iter().any(|domain| domain.name == *local);
            remembered
                .attempts
                .retain(|attempt| is_chosen(&attempt.local));
            remembered.receipts.retain(|(local, _)| is_chosen(local));
        }
        let locals: Vec<Domain> = chosen.iter().map(|domain| domain.name.clone()).collect();
        let peer = remote.clone();
        let known = ask(&self.core.store, move |db| {
            federation::known_keys(db, &locals, &peer)
        });
        let known = known
            .map_err(|error| Reply::error(format!("cannot look the server's key up: {error}")))?;
        let loaded = self.core.loaded();
        let secret = Some(&self.core.secret[..]);
        let tries = domains::tries(&chosen, &remote, (&settings, &loaded), secret);
        Ok(federation::explained(&remote, &remembered, &known, tries))
    }

    fn accounts(&self, domain: Option<String>) -> Reply {
        let settings = self.core.settings();
        ask(&self.core.store, move |db| {
            list(db, domain.as_deref(), &settings)
        })
        .unwrap_or_else(|error| Reply::error(format!("cannot list the accounts: {error}")))
    }
}

impl Backend for Live {
    fn execute(&self, request: Request) -> Reply {
        match Change::plan(&request, &self.core.settings(), &self.core.secret) {
            Ok(Some(change)) => return self.change(change),
            Ok(None) => {}
            Err(refusal) => return Reply::error(refusal.to_string()),
        }
        match request {
            Request::Status => self.status().unwrap_or_else(|error| error),
            Request::Sessions { domain, jid } => self
                .sessions(domain.as_deref(), jid.as_deref())
                .unwrap_or_else(|error| error),
            Request::S2sList { domain } => {
                let domain = domain.as_deref().map(a_domain).transpose();
                domain
                    .and_then(|domain| self.s2s_list(domain.as_ref()))
                    .unwrap_or_else(|error| error)
            }
            Request::ExplainS2s { remote, local } => self
                .explain(&remote, local.as_deref())
                .unwrap_or_else(|error| error),
            Request::SessionsEnd { jid } => self.end_sessions(&jid),
            Request::AccountList { domain } => self.accounts(domain),
            Request::Reload => match self.core.reload() {
                Ok(info) => Reply::Reloaded(info),
                Err(problems) => Reply::error(problems),
            },
            Request::Stop => {
                self.core.stopper.close();
                Reply::Stopping {
                    pid: std::process::id(),
                }
            }
            // `plan` has made a change of each of them.
            Request::AccountAdd { .. }
            | Request::AccountPasswd { .. }
            | Request::AccountDelete { .. }
            | Request::AccountEnable { .. }
            | Request::AccountDisable { .. } => Reply::error("nothing was to be changed"),
        }
    }
}

fn a_domain(given: &str) -> Result<Domain, Reply> {
    Domain::parse(given).map_err(|why| Reply::error(format!("\"{given}\" names no domain: {why}")))
}

/// The session, or the account with its sessions, that an operator names.
fn session_jid(given: &str) -> Result<Jid, Reply> {
    let jid = Jid::parse(given).ok().filter(|jid| jid.local().is_some());
    jid.ok_or_else(|| {
        Reply::error(format!(
            "{given:?} names no session; one is like juliet@example.org/phone, and all of an \
             account are like juliet@example.org"
        ))
    })
}

/// Each component of the conf file, and the stream of those that are connected.
fn components(settings: &Settings, surveys: &[Survey]) -> Vec<ComponentInfo> {
    let connected: Vec<_> = surveys.iter().flat_map(|it| &it.components).collect();
    let names = settings.components.keys();
    names
        .map(|name| {
            let found = connected.iter().find(|it| it.domain == *name);
            ComponentInfo {
                name: name.as_str().to_owned(),
                address: found.map(|it| it.address.to_string()),
                since: found.map(|it| stamp(it.since)),
                stanzas_waiting: found.map_or(0, |it| it.stanzas_waiting as u64),
            }
        })
        .collect()
}

fn collect(receiver: &Receiver<Survey>, count: usize) -> Result<Vec<Survey>, Reply> {
    let mut surveys = Vec::with_capacity(count);
    while surveys.len() < count {
        match receiver.recv_timeout(ANSWER_WAIT) {
            Ok(survey) => surveys.push(survey),
            Err(_) => {
                return Err(Reply::error(
                    "a shard did not answer: it is stopping or stuck",
                ));
            }
        }
    }
    Ok(surveys)
}

fn info(shard: usize, session: &SurveyedSession) -> SessionInfo {
    let origin = &session.origin;
    let tls = origin.tls.as_ref();
    SessionInfo {
        jid: session.jid.clone(),
        shard,
        address: origin.address.to_string(),
        since: stamp(origin.since),
        tls_version: tls.map(|tls| tls.version.to_owned()),
        cipher: tls.map(|tls| tls.cipher.to_string()),
        group: tls
            .map(|tls| tls.group.to_string())
            .filter(|group| !group.is_empty()),
        mechanism: origin.mechanism.name().to_owned(),
        client: session.client.clone(),
        available: session.priority.is_some(),
        priority: session.priority.unwrap_or(0),
        last_activity_seconds: session.idle_seconds,
    }
}

/// A change as the account's shard carries it out.
fn command(change: Change, now: Wall) -> AccountCommand {
    let ends_sessions = match change.operation {
        Operation::Create(_) | Operation::SetEnabled(true) => None,
        // RFC 6120 §4.9.3.16: the security context of the stream has changed.
        Operation::SetCredentials(_) => Some(StreamError::new(
            StreamCondition::Reset,
            "The password was changed; log in with the new one",
        )),
        Operation::SetEnabled(false) => Some(StreamError::new(
            StreamCondition::NotAuthorized,
            "The account is disabled",
        )),
        Operation::Delete => Some(StreamError::new(
            StreamCondition::NotAuthorized,
            "The account is deleted",
        )),
    };
    AccountCommand {
        apply: Box::new(move |db| change.apply(db, now)),
        ends_sessions,
    }
}
