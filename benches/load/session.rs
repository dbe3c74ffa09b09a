//! One client: from TCP through TLS, SASL and binding (RFC 6120 §5 to §7) to an online session.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use openssl::ssl::SslContext;

use crate::connection::{Connection, Progress};
use crate::scanner::{self, Event, Scanner};
use crate::scram::{self, Exchange, Hash, Keys, Proven};
use crate::{answers, roster};

/// An account that sessions log in to.
#[derive(Clone, Debug)]
pub struct Account {
    pub user: String,
    pub password: String,
    /// Where it is served.
    pub domain: String,
    pub address: SocketAddr,
    pub keys: Option<Keys>,
}

/// How to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    /// All, the one that `--mechanism auto` prefers first.
    pub const ALL: [Mechanism; 4] = [
        Mechanism::Scram(Hash::Sha256),
        Mechanism::Scram(Hash::Sha1),
        Mechanism::Scram(Hash::Sha512),
        Mechanism::Plain,
    ];

    /// The registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(Hash::Sha1) => "SCRAM-SHA-1",
            Mechanism::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Mechanism::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

/// What all sessions' logins share.
#[derive(Debug)]
pub struct Logins {
    pub domain: String,
    pub accounts: Vec<Account>,
    pub context: SslContext,
    pub direct_tls: bool,
    /// `None`: the first of [`Mechanism::ALL`] that is offered.
    pub mechanism: Option<Mechanism>,
    /// Whether the roster is asked for before initial presence (RFC 6121 §2.2).
    pub roster: bool,
    /// The initial presence, if one is sent.
    pub presence: Option<String>,
}

/// Where a login stands. What the server sends next decides the step.
#[derive(Debug)]
enum State {
    /// TCP is being connected.
    Connecting,
    /// The features before TLS are awaited.
    Unencrypted,
    /// `<proceed/>` is awaited.
    StartingTls,
    /// The handshake is going on.
    Handshaking,
    /// The features with mechanisms are awaited.
    Unauthenticated,
    /// SCRAM's challenge is awaited.
    Challenge(Exchange),
    /// `<success/>` is awaited; with SCRAM it carries a proof.
    Success(Option<Proven>),
    /// The features with bind are awaited.
    Unbound,
    /// The result of bind is awaited, then perhaps a session is asked for (RFC 3921 §3).
    Binding {
        session_required: bool,
    },
    /// The result of the session request is awaited.
    Starting,
    /// The roster is awaited.
    Rostering,
    Online,
    /// Our `</stream:stream>` is sent, the server's is awaited.
    Closing,
    /// The server sent what ends a login.
    Failed,
}

impl State {
    /// What the session is doing, for messages about failures.
    fn doing(&self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Unencrypted => "opening a stream",
            State::StartingTls => "asking for TLS",
            State::Handshaking => "in the TLS handshake",
            State::Unauthenticated => "opening a stream in TLS",
            State::Challenge(_) | State::Success(_) => "authenticating",
            State::Unbound => "opening a stream after authentication",
            State::Binding { .. } => "binding a resource",
            State::Starting => "starting a session",
            State::Rostering => "asking for the roster",
            State::Online => "online",
            State::Closing => "closing the stream",
            State::Failed => "logging in",
        }
    }
}

/// A client's connection with its login.
#[derive(Debug)]
pub struct Session {
    pub connection: Connection,
    /// Taken out while its events are handled.
    pub scanner: Scanner,
    /// Index of its account in [`Logins::accounts`].
    pub account: usize,
    /// The full JID; the server's word on it once online.
    pub jid: String,
    pub opened: Instant,
    /// The roster as the server sent it, where the login asks for it.
    pub roster: Vec<u8>,
    /// Whether its socket is registered for writability.
    pub watches_writes: bool,
    resource: String,
    state: State,
}

/// Why a session cannot go on.
#[derive(Debug)]
pub struct Failure {
    pub jid: String,
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.jid, self.what)
    }
}

/// What handling an element of a login led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The login goes on.
    Going,
    /// The session has just come online.
    Arrived,
    /// The element is for the workload.
    Stanza,
    /// The element is a request, which has been answered, and is for the workload too.
    Push,
}

impl Session {
    /// A session about to connect.
    pub fn new(connection: Connection, account: usize, resource: &str, logins: &Logins) -> Session {
        let user = &logins.accounts[account].user;
        Session {
            connection,
            scanner: Scanner::default(),
            account,
            jid: format!("{user}@{}/{resource}", logins.accounts[account].domain),
            opened: Instant::now(),
            roster: Vec::new(),
            watches_writes: true,
            resource: resource.to_owned(),
            state: State::Connecting,
        }
    }

    /// Whether it can send and receive stanzas.
    pub fn is_online(&self) -> bool {
        matches!(self.state, State::Online)
    }

    /// Whether the end of its stream is what it waits for.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// What it is doing, for messages about failures.
    pub fn doing(&self) -> &'static str {
        self.state.doing()
    }

    /// Whether it waits for the socket to become writable.
    pub fn wants_write(&self) -> bool {
        matches!(self.state, State::Connecting) || self.connection.is_blocked()
    }

    /// Begins TLS or the stream if TCP has just been connected.
    pub fn begin(&mut self, logins: &Logins) -> Result<(), String> {
        if !matches!(self.state, State::Connecting)
            || !self.connection.is_connected().map_err(|e| e.to_string())?
        {
            return Ok(());
        }
        if logins.direct_tls {
            self.state = State::Handshaking;
            return self.start_tls(logins);
        }
        self.state = State::Unencrypted;
        self.open_stream(logins);
        Ok(())
    }

    /// Reads from the socket. On the end of the handshake a new stream begins.
    pub fn read(
        &mut self,
        logins: &Logins,
        scratch: &mut [u8],
        to_end: bool,
    ) -> Result<Progress, String> {
        let progress = self.connection.read(&mut self.scanner, scratch, to_end);
        let progress = progress.map_err(|e| e.to_string())?;
        if progress == Progress::Established && matches!(self.state, State::Handshaking) {
            self.state = State::Unauthenticated;
            self.open_stream(logins);
        }
        Ok(progress)
    }

    /// Handles one event of the stream; `scanner` is this session's.
    pub fn on(
        &mut self,
        event: &Event,
        scanner: &mut Scanner,
        logins: &mut Logins,
    ) -> Result<Step, String> {
        let range = match event {
            Event::Element(range) => range.clone(),
            Event::Open(_) => return Ok(Step::Going),
            Event::Close if self.is_closing() => return Ok(Step::Going),
            Event::Close => return Err("the server closed the stream".into()),
        };
        let element = scanner.bytes(range);
        if element.starts_with(b"<stream:error") {
            return Err(format!("stream error {}", String::from_utf8_lossy(element)));
        }
        match self.state {
            State::Online => {
                let Some(answer) = answers::answer(element) else {
                    return Ok(Step::Stanza);
                };
                self.connection.queue(answer.as_bytes());
                return Ok(Step::Push);
            }
            State::Closing => return Ok(Step::Stanza),
            _ => {}
        }
        let element = element.to_vec();
        let doing = self.doing();
        let step = self
            .login(&element, logins)
            .map_err(|what| format!("{doing}: {what}"))?;
        // A new stream follows TLS and SASL (RFC 6120 §5.4.3.3, §6.4.6).
        if matches!(self.state, State::Handshaking | State::Unbound) {
            scanner.restart();
        }
        Ok(step)
    }

    /// Says goodbye to the server (RFC 6120 §4.4).
    pub fn close_stream(&mut self) {
        self.connection.queue(b"</stream:stream>");
        self.state = State::Closing;
    }

    fn login(&mut self, element: &[u8], logins: &mut Logins) -> Result<Step, String> {
        let unexpected = || {
            Err(format!(
                "the server sent {}",
                String::from_utf8_lossy(element)
            ))
        };
        let state = std::mem::replace(&mut self.state, State::Failed);
        self.state = match (state, scanner::name(element)) {
            (State::Unencrypted, b"stream:features") => {
                if !scanner::contains(element, b"urn:ietf:params:xml:ns:xmpp-tls") {
                    return Err("the server does not offer STARTTLS here".into());
                }
                self.connection
                    .queue(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
                State::StartingTls
            }
            (State::StartingTls, b"proceed") => {
                self.start_tls(logins)?;
                State::Handshaking
            }
            (State::Unauthenticated, b"stream:features") => self.authenticate(element, logins)?,
            (State::Challenge(exchange), b"challenge") => {
                let account = &mut logins.accounts[self.account];
                let challenge = decode(element)?;
                let (proven, answer) =
                    exchange.answer(&challenge, &account.password, &mut account.keys)?;
                let answer = scram::encode(answer.as_bytes());
                let answer = format!("<response xmlns='{SASL}'>{answer}</response>");
                self.connection.queue(answer.as_bytes());
                State::Success(Some(proven))
            }
            (State::Success(proven), b"success") => {
                if let Some(proven) = proven {
                    proven.verify(&decode(element)?)?;
                }
                self.open_stream(logins);
                State::Unbound
            }
            (State::Unbound, b"stream:features") => self.bind(element)?,
            (State::Binding { session_required }, b"iq") => {
                if scanner::attribute(element, b"type") != Some(b"result") {
                    return unexpected();
                }
                self.bound(element)?;
                if session_required {
                    self.connection.queue(SESSION);
                    State::Starting
                } else {
                    return Ok(self.started(logins));
                }
            }
            (State::Starting, b"iq") if scanner::attribute(element, b"type") == Some(b"result") => {
                return Ok(self.started(logins));
            }
            (State::Rostering, b"iq")
                if scanner::attribute(element, b"id") == Some(roster::GET_ID)
                    && scanner::attribute(element, b"type") == Some(b"result") =>
            {
                self.roster = element.to_vec();
                return Ok(self.arrive(logins));
            }
            _ => return unexpected(),
        };
        Ok(Step::Going)
    }

    /// Goes on once the session stands.
    fn started(&mut self, logins: &Logins) -> Step {
        if !logins.roster {
            return self.arrive(logins);
        }
        self.connection.queue(roster::GET);
        self.state = State::Rostering;
        Step::Going
    }

    fn arrive(&mut self, logins: &Logins) -> Step {
        self.state = State::Online;
        if let Some(presence) = &logins.presence {
            self.connection.queue(presence.as_bytes());
        }
        Step::Arrived
    }

    fn start_tls(&mut self, logins: &Logins) -> Result<(), String> {
        let connection = &mut self.connection;
        let domain = &logins.accounts[self.account].domain;
        let started = connection.start_tls(&logins.context, domain, logins.direct_tls);
        started.map_err(|e| format!("TLS: {e}"))
    }

    fn open_stream(&mut self, logins: &Logins) {
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{}' version='1.0'>",
            logins.accounts[self.account].domain
        );
        self.connection.queue(header.as_bytes());
    }

    fn authenticate(&mut self, features: &[u8], logins: &Logins) -> Result<State, String> {
        let offered: Vec<&[u8]> = scanner::texts(features, "mechanism").collect();
        let is_offered = |mechanism: &Mechanism| offered.contains(&mechanism.name().as_bytes());
        let mechanism = match logins.mechanism {
            Some(wanted) => Some(wanted).filter(is_offered),
            None => Mechanism::ALL.into_iter().find(is_offered),
        };
        let Some(mechanism) = mechanism else {
            let offered = offered.join(&b" "[..]);
            return Err(format!(
                "wanted mechanism not among [{}]",
                String::from_utf8_lossy(&offered)
            ));
        };
        let account = &logins.accounts[self.account];
        let (state, initial) = match mechanism {
            Mechanism::Plain => (
                State::Success(None),
                format!("\0{}\0{}", account.user, account.password),
            ),
            Mechanism::Scram(hash) => {
                let (exchange, first) = Exchange::new(hash, &account.user, nonce()?);
                (State::Challenge(exchange), first)
            }
        };
        let name = mechanism.name();
        let initial = scram::encode(initial.as_bytes());
        let auth = format!("<auth xmlns='{SASL}' mechanism='{name}'>{initial}</auth>");
        self.connection.queue(auth.as_bytes());
        Ok(state)
    }

    fn bind(&mut self, features: &[u8]) -> Result<State, String> {
        if !scanner::contains(features, b"urn:ietf:params:xml:ns:xmpp-bind") {
            return Err("the server does not offer resource binding".into());
        }
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{}</resource></bind></iq>",
            self.resource
        );
        self.connection.queue(bind.as_bytes());
        let session = scanner::find(features, b"urn:ietf:params:xml:ns:xmpp-session");
        let optional = |at| scanner::contains(&features[at..], b"<optional");
        Ok(State::Binding {
            session_required: session.is_some_and(|at| !optional(at)),
        })
    }

    fn bound(&mut self, result: &[u8]) -> Result<(), String> {
        let jid = scanner::texts(result, "jid")
            .next()
            .ok_or("bind gave no JID")?;
        self.jid = String::from_utf8(jid.to_vec()).map_err(|e| e.to_string())?;
        Ok(())
    }
}

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const SESSION: &[u8] =
    b"<iq type='set' id='session'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>";

/// The decoded text of a SASL element.
fn decode(element: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(scanner::content(element)).map_err(|e| e.to_string())?;
    scram::decode(text)
}

fn nonce() -> Result<String, String> {
    let mut random = [0; 18];
    openssl::rand::rand_bytes(&mut random).map_err(|e| format!("OpenSSL: {e}"))?;
    Ok(scram::encode(&random))
}
