//! The contract between the router and a feature: one `static FEATURE` lists all that it touches
//! (DESIGN §7).

use std::any::Any;

use crate::clock::Now;
use crate::config::DomainSettings;
use crate::jid::Jid;
use crate::router::account::Account;
use crate::router::pipeline::Pipeline;
use crate::router::session::Session;
use crate::stanza::StanzaError;
use crate::stanza::{Stanza, Type};
use crate::storage::{ChangeFn, ReadFn, StoreError, Value};
use crate::xml::Element;
use crate::xml::{Child, Payload};

/// Everything that one extension, or one part of RFC 6121, adds to the server.
pub struct Feature {
    /// The module's name, as `stanzad check config -v` prints it.
    pub name: &'static str,
    /// The documents it implements.
    pub specs: &'static [Spec],
    /// What disco#info announces for it, and for whom.
    pub disco: &'static [Disco],
    /// The IQ requests it answers.
    pub iq: &'static [IqRoute],
    /// What it does on the way of stanzas.
    pub hooks: &'static [Hook],
    /// What it adds to `<stream:features/>`.
    pub stream_features: &'static [StreamFeature],
}

/// A document and the version of it that was read.
#[derive(Debug)]
pub struct Spec {
    /// `XEP-0199` or `RFC 6121 §2`.
    pub id: &'static str,
    /// The version, as the document gives it; empty for RFCs.
    pub version: &'static str,
}

/// A disco#info `var` and the kind of entity that has it.
#[derive(Debug)]
pub struct Disco {
    /// Whose disco#info lists it.
    pub target: Target,
    /// The `var`.
    pub var: &'static str,
}

/// On whose behalf the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A local domain.
    Domain,
    /// A bare JID of a local domain (RFC 6121 §8.5.2.1.3), whoever asks.
    Account,
    /// The same, when the asker is the account itself. Others get `service-unavailable`, as they
    /// would for an account that does not exist (RFC 6120 §13.11).
    OwnAccount,
}

/// Which requests go to a handler.
pub struct IqRoute {
    /// Whom the request is for.
    pub target: Target,
    /// `Type::Get` or `Type::Set`.
    pub type_: Type,
    /// The namespace of the request's child.
    pub ns: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Who answers.
    pub handler: IqHandler,
}

/// Answers an IQ request. The router sends the reply.
pub type IqHandler = fn(&IqContext<'_>) -> Answer;

/// What a handler may look at. All of it was loaded before.
pub struct IqContext<'a> {
    /// When the turn began.
    pub now: Now,
    /// The local domain that the request is for.
    pub domain: &'a DomainSettings,
    /// Who asks.
    pub asker: &'a Jid,
    /// The account that the request is for; none for a domain.
    pub account: Option<&'a Account>,
    /// The request.
    pub stanza: &'a Stanza,
    /// Its one child.
    pub child: &'a Child,
    /// All features of this server.
    pub pipeline: &'a Pipeline,
}

impl IqContext<'_> {
    /// The request's child as a tree.
    pub fn request(&self) -> Element {
        self.stanza.payload.element(self.child)
    }
}

/// How an IQ request is answered.
pub enum Answer {
    /// With these children, at once.
    Now(Payload),
    /// After a read of the store. At most [`crate::limits::LATER_MAX`] of an account are outstanding.
    Later(ReadFn, ThenFn),
    /// After a change of the store is committed. The account is *changing* and the asker's stream
    /// suspended until then (DESIGN §5).
    Change(ChangeFn, ThenFn),
    /// With an error.
    Error(StanzaError),
}

/// Turns what the store gave into the reply's children. It runs later, on the same shard.
pub type ThenFn = Box<dyn FnOnce(Result<Value, StoreError>) -> Result<Payload, StanzaError> + Send>;

/// A place on the way of a stanza. The order here is the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The sender's account: may this be sent?
    OutboundCheck,
    /// The sender's account: change what is sent.
    OutboundAmend,
    /// The sender's account: copies for its other sessions.
    OutboundCopy,
    /// The recipient's account: may this come in?
    InboundCheck,
    /// The recipient's account: change what comes in.
    InboundAmend,
    /// The recipient's account: copies for its other sessions.
    InboundCopy,
    /// The recipient's account: no session took it.
    Undelivered,
    /// A session: just before the stanza is written to it.
    SessionSend,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 8] = [
        Stage::OutboundCheck,
        Stage::OutboundAmend,
        Stage::OutboundCopy,
        Stage::InboundCheck,
        Stage::InboundAmend,
        Stage::InboundCopy,
        Stage::Undelivered,
        Stage::SessionSend,
    ];
}

/// A function at a stage.
pub struct Hook {
    /// Where it runs.
    pub stage: Stage,
    /// What it does. No I/O: all that it consults was loaded with the account.
    pub run: HookFn,
}

/// What a hook does with a stanza.
pub type HookFn = fn(&HookContext<'_>, &mut Stanza) -> Verdict;

/// What a hook may look at.
pub struct HookContext<'a> {
    /// When the turn began.
    pub now: Now,
    /// The account whose side this is: the sender's in outbound stages, else the recipient's.
    pub account: &'a Account,
    /// The session that sends, or is sent to, where there is one.
    pub session: Option<&'a Session>,
}

/// How a stanza goes on after a hook.
pub enum Verdict {
    /// To the next hook.
    Continue,
    /// Nowhere: the hook has done all there was to do.
    Handled,
    /// Back to its sender as this error.
    Reject(StanzaError),
}

/// A child of `<stream:features/>` that a feature contributes.
pub struct StreamFeature {
    /// Writes it, or nothing where it does not apply.
    pub write: fn(&StreamFeatureContext<'_>, &mut Vec<u8>),
}

/// What a stream feature depends on.
pub struct StreamFeatureContext<'a> {
    /// The domain of the stream.
    pub domain: &'a DomainSettings,
    /// Whether the client is authenticated.
    pub authenticated: bool,
    /// The largest element that is accepted now, in bytes.
    pub stanza_bytes_max: usize,
}

/// Boxes what a change or a read yields.
pub fn value<T: Any + Send>(value: T) -> Value {
    Box::new(value)
}
