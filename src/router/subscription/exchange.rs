//! The store's side of subscriptions: what changes of one account write, and what is made of hand-offs
//! that a crash has left behind (`Two commits` in lib.rs). Nothing here knows of memory, sessions
//! or shards.

use crate::jid::BareJid;
use crate::router::subscription::table::{self, Inbound, Signal};
use crate::stanza::{Kind, Stanza};
use crate::storage::handoff::{self, Handoff};
use crate::storage::roster::{self, Item, State};
use crate::storage::{Db, StoreError, WriterCore, accounts};
use crate::xml::Payload;

/// Hand-offs that [`redeliver`] works through in one transaction.
const BATCH: usize = 256;

/// A subscription stanza at its recipient, with what it comes to there.
pub(super) struct Reception {
    /// The recipient.
    pub(super) account: BareJid,
    /// The sender.
    pub(super) contact: BareJid,
    pub(super) signal: Signal,
    /// The recipient's state with the sender before.
    pub(super) before: State,
    pub(super) then: Inbound,
    /// As it came; a request is stored with all that is in it (RFC 6121 §3.1.3, rule 4).
    pub(super) stanza: Stanza,
    /// Whether its sender's roster is in this store.
    pub(super) is_local: bool,
    /// The row that stands for it; none if it comes from another server, or answers a probe.
    pub(super) handoff: Option<i64>,
}

/// What the recipient's change has done.
pub(super) struct Received {
    /// The item that clients are to be told of.
    pub(super) item: Option<Item>,
    /// What goes back on the recipient's behalf. With a row of its own for a local account.
    pub(super) reply: Option<(Stanza, Option<i64>)>,
}

/// The recipient's change. None if the stanza has no effect: it had it already, or its sender has
/// changed its mind (see [`table::still_holds`]).
pub(super) fn receive(db: &Db, reception: &Reception) -> Result<Option<Received>, StoreError> {
    let Reception {
        account,
        contact,
        signal,
        before,
        then,
        stanza,
        is_local,
        handoff,
    } = reception;
    if let Some(id) = handoff
        && !handoff::take(db, *id)?
    {
        return Ok(None);
    }
    if *is_local && !table::still_holds(state(db, contact, account)?, *signal) {
        return Ok(None);
    }
    let item = if then.state == *before {
        None
    } else {
        let request = (*signal == Signal::Subscribe).then(|| stanza.to_stored());
        roster::set_state(db, account, contact, then.state, request.as_deref())?
    };
    let reply = match reply(then, handoff.is_some()) {
        None => None,
        Some(signal) => {
            let reply = stanza.reply(signal.type_(), Payload::empty());
            let row = match handoff {
                Some(_) => Some(handoff::insert(db, &reply)?),
                None => None,
            };
            Some((reply, row))
        }
    };
    Ok(Some(Received { item, reply }))
}

/// RFC 6121 §A.3.2 has `unsubscribe` answered by `unsubscribed`. To a local account, whose change is
/// committed already, it says nothing new.
pub(super) fn reply(then: &Inbound, is_local: bool) -> Option<Signal> {
    then.reply
        .filter(|signal| !(is_local && *signal == Signal::Unsubscribed))
}

/// The state that an account has with a contact; none if there is no such account.
fn state(db: &Db, account: &BareJid, contact: &BareJid) -> Result<State, StoreError> {
    let Some(record) = accounts::find(db, account)? else {
        return Ok(State::NONE);
    };
    let item = roster::item(db, record.id, contact)?;
    Ok(item.map_or(State::NONE, |item| item.state))
}

/// For the change that removes a contact which had the state `old` from an account's roster: the
/// hand-offs of what the contact is to be told (RFC 6121 §2.5.2), in order. None for a contact that has
/// no account here.
///
/// # Errors
/// Those of the store.
pub(crate) fn removal_handoffs(
    db: &Db,
    account: &BareJid,
    contact: &BareJid,
    old: State,
) -> Result<Vec<Handoff>, StoreError> {
    match accounts::find(db, contact)? {
        Some(_) => farewells(db, account, contact, old),
        None => Ok(Vec::new()),
    }
}

/// The same for any contact.
fn farewells(
    db: &Db,
    account: &BareJid,
    contact: &BareJid,
    old: State,
) -> Result<Vec<Handoff>, StoreError> {
    let told = table::removal(old).map(|signal| {
        let stanza = signal_between(account, contact, signal);
        let id = handoff::insert(db, &stanza)?;
        Ok(Handoff { id, stanza })
    });
    told.collect()
}

/// A subscription stanza that the server makes on an account's behalf.
pub(super) fn signal_between(account: &BareJid, contact: &BareJid, signal: Signal) -> Stanza {
    let mut stanza = Stanza::new(Kind::Presence, signal.type_(), Payload::empty());
    stanza.from = Some(account.to_jid());
    stanza.to = Some(contact.to_jid());
    stanza
}

/// Deletes an account with all that belongs to it, and leaves hand-offs that tell its contacts
/// (RFC 6121 §2.5.2: as if it removed each of them). No account of its name may be created before they
/// have been told, or it would be taken for the old one: the router sees to that, and without a
/// server [`redeliver`]. Contacts of other servers are told if the server runs; otherwise their next
/// probe tells them.
///
/// # Errors
/// [`StoreError::NotFound`], and those of the database.
pub fn delete_account(db: &Db, account: &BareJid) -> Result<(), StoreError> {
    for (contact, state) in roster::states(db, account)? {
        farewells(db, account, &contact, state)?;
    }
    accounts::delete(db, account)
}

/// Completes what hand-offs stand for that a crash has left behind, in order, and yields how many they
/// were. For a store that no shard uses yet: nobody is there to be shown anything, so the recipients'
/// rosters are all there is to change. At most `requests_max` requests of one account wait.
///
/// A recipient that is gone, or whose domain is no longer served, needs no case of its own: who has no
/// account is told nothing, and a roster is right also while its domain rests.
///
/// # Errors
/// Those of the store; what was done before is committed.
pub fn redeliver(store: &mut WriterCore, requests_max: usize) -> Result<u64, StoreError> {
    let (mut after, mut completed) = (0, 0);
    loop {
        let (count, last) = store.change(move |db| {
            let (rows, last) = handoff::all(db, after, BATCH)?;
            for row in &rows {
                complete(db, row, requests_max)?;
            }
            Ok((rows.len() as u64, last))
        })?;
        completed += count;
        match last {
            Some(last) => after = last,
            None => return Ok(completed),
        }
    }
}

fn complete(db: &Db, row: &Handoff, requests_max: usize) -> Result<(), StoreError> {
    let stanza = row.stanza.clone();
    let (Some(signal), Some(from), Some(to)) = (Signal::of(stanza.type_), &stanza.from, &stanza.to)
    else {
        return handoff::delete(db, row.id);
    };
    let (contact, account) = (from.bare(), to.bare());
    if accounts::find(db, &account)?.is_none() {
        return handoff::delete(db, row.id);
    }
    let before = state(db, &account, &contact)?;
    let then = table::inbound(before, signal);
    if is_new_request(before, &then) {
        let states = roster::states(db, &account)?;
        let waiting = states
            .iter()
            .filter(|(_, state)| state.has(State::PENDING_IN));
        if waiting.count() >= requests_max {
            return handoff::delete(db, row.id);
        }
    }
    let reception = Reception {
        account,
        contact,
        signal,
        before,
        then,
        stanza,
        is_local: true,
        handoff: Some(row.id),
    };
    receive(db, &reception).map(drop)
}

/// Whether a request is to wait that did not wait before.
pub(super) fn is_new_request(before: State, then: &Inbound) -> bool {
    then.state.has(State::PENDING_IN) && !before.has(State::PENDING_IN)
}
