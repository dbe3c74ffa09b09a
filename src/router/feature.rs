//! The contract between the router and a feature: one `static FEATURE` lists all that it touches
//! (`Features` in lib.rs).

use std::any::Any;

use crate::clock::Now;
use crate::config::{DomainSettings, Settings};
use crate::jid::{FullJid, Jid};
use crate::router::Router;
use crate::router::account::Account;
use crate::router::pipeline::Pipeline;
use crate::router::session::Session;
use crate::slots::Key;
use crate::stanza::StanzaError;
use crate::stanza::forms::ResultForm;
use crate::stanza::{Stanza, Type};
use crate::storage::{ChangeFn, ReadFn, Row, StoreError, Value};
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
    /// What it adds to a domain's disco#info beside features (XEP-0128); none where it does not apply.
    pub disco_form: Option<fn(&DomainSettings) -> Option<ResultForm>>,
    /// The IQ requests it answers.
    pub iq: &'static [IqRoute],
    /// What it does on the way of stanzas.
    pub hooks: &'static [Hook],
    /// What it does when something happens to a session.
    pub session: &'static [SessionHook],
    /// What it adds to `<stream:features/>`.
    pub stream_features: &'static [StreamFeature],
}

impl Feature {
    /// A feature that does nothing yet, to be written with `..Feature::named("…")`.
    pub const fn named(name: &'static str) -> Feature {
        Feature {
            name,
            specs: &[],
            disco: &[],
            disco_form: None,
            iq: &[],
            hooks: &[],
            session: &[],
            stream_features: &[],
        }
    }
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
    /// The same, when the asker is the account itself or a contact that may see its presence
    /// (subscription `from` or `both`). Others get `service-unavailable`, as above.
    Contact,
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
    /// The configuration in force.
    pub settings: &'a Settings,
    /// Who asks.
    pub asker: &'a Jid,
    /// The account that the request is for; none for a domain. Its roster is loaded when the asker
    /// is the account itself, or the route's target is [`Target::Contact`].
    pub account: Option<&'a Account>,
    /// The account's available resources, which only those may learn of who may see its presence.
    pub available: &'a [&'a FullJid],
    /// The account's own session that asks, if it is one.
    pub session: Option<&'a Session>,
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
    /// After a read of the store. The stream of the account's own session is suspended until then; its
    /// other sessions and other accounts are served meanwhile. At most [`crate::limits::LATER_MAX`] of
    /// an account's own requests are outstanding, and [`crate::limits::LATER_FOR_OTHERS_MAX`] of others.
    Later(ReadFn, ThenFn),
    /// After a read during which the account does not change, so that what it yields still holds when
    /// the reply is sent, and no push overtakes it. The asker's stream is suspended until then.
    Snapshot(ReadFn, ThenFn),
    /// After a change of the store is committed. The account is *changing* and the asker's stream
    /// suspended until then (`Commit first` in lib.rs).
    Change(ChangeFn, ThenFn),
    /// With an error.
    Error(StanzaError),
}

/// Turns what the store gave into the reply's children. It runs later, on the same shard, with the
/// account that the request was for, which is still *changing* after a change: memory, pushes and
/// stanzas to others follow from here (`Commit first` in lib.rs). The reply is sent when it
/// returns.
pub type ThenFn = Box<
    dyn FnOnce(&mut Router, Key, Result<Value, StoreError>) -> Result<Payload, StanzaError> + Send,
>;

/// A function that runs when something happens to a session.
pub struct SessionHook {
    /// When it runs.
    pub event: SessionEvent,
    /// What it does, by the router's functions only. The session is given by its key.
    pub run: fn(&mut Router, Key),
}

/// What happens to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It has sent initial presence, which was broadcast (RFC 6121 §4.2).
    Available,
    /// It has broadcast that it is available, for the first time or again.
    Presence,
    /// It takes messages to the bare JID from now on: it became available with a priority that is
    /// not negative, or its priority rose from a negative one.
    TakesMessages,
    /// Its client has closed the stream, and reads on until the server has (RFC 6120 §4.4): what is in
    /// its output still comes. Our end of the stream is written, so nothing more may be written to it.
    /// Then it ends.
    Closed,
    /// It ends: it is still there, but no longer among the sessions of its account.
    Ended,
}

impl SessionEvent {
    /// All events.
    pub const ALL: [SessionEvent; 5] = [
        SessionEvent::Available,
        SessionEvent::Presence,
        SessionEvent::TakesMessages,
        SessionEvent::Closed,
        SessionEvent::Ended,
    ];
}

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
    /// The configuration in force.
    pub settings: &'a Settings,
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
    /// Into the store: the stanza's way ends when this row is committed, or with an error to its
    /// sender if that fails.
    Store(Row),
}

/// A child of `<stream:features/>` that a feature contributes.
pub struct StreamFeature {
    /// Writes it, or nothing where it does not apply.
    pub write: fn(&StreamFeatureContext<'_>, &mut Vec<u8>),
}

/// What a stream feature depends on.
pub struct StreamFeatureContext<'a> {
    /// All features of this server.
    pub pipeline: &'a Pipeline,
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
