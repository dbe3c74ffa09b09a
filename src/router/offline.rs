//! The offline messages of an account (XEP-0160): counted in memory, and flushed to a session that
//! starts to take messages.
//!
//! One session of the account is flushed to at a time. A page is read and written to its output, with
//! a ping behind it (XEP-0199), and deleted when the client has answered that, be it with an error;
//! then comes the next page. What the socket has taken proves nothing: behind a connection that died
//! unnoticed it is lost. A client that closes its stream in an orderly way has got the page too. So a
//! connection that breaks loses nothing, and one that reads slowly costs a page of memory. What a
//! client took and did not live to answer it gets again.
//!
//! While there is more than that page, messages to the bare JID are stored too, behind the others, so
//! that none overtakes another (`Features` in lib.rs). Sessions that are not flushed to get these
//! after their commit. What is left at the end fits into one page: the account is busy while it is
//! read, messages wait in its inbox, and then they are live again, behind that page in the
//! session's output. So a flush ends, however many messages come meanwhile, unless they fill the
//! inbox each time.
//!
//! What is not stored goes by way of `order`, so that it overtakes nothing of its sender either.
//!
//! Invariants: `Offline::stored` is what the store holds once all that is on its way there has
//! arrived, whatever commits fail; rows become committed in the order of their numbers.

use crate::clock::Wall;
use crate::limits::OFFLINE_RUNS_MAX;
use crate::router::account::{Account, Standing};
use crate::router::delivery::Routed;
use crate::router::offline::order::{Held, Senders, sender_of};
use crate::router::{Router, RowContinuation};
use crate::slots::Key;
use crate::stanza::Stanza;
use crate::storage::Row;
use crate::storage::offline::{Holding, OfflineMessage, Tally};

mod order;
mod pages;

/// What an account's shard knows of its offline messages.
#[derive(Debug, Default)]
pub struct Offline {
    /// All in the store, and those on their way there.
    stored: Tally,
    /// Those among them that were delivered and wait for their deletion.
    delivered: Tally,
    /// Up to here they were delivered.
    delivered_seq: i64,
    last_seq: i64,
    /// The last message whose commit has been answered.
    answered_seq: i64,
    senders: Senders,
    /// Messages whose commit has not been answered.
    writing: usize,
    is_deleting: bool,
    /// Numbers the reads, so that an answer which nobody waits for any more is known.
    reads: u64,
    flush: Option<Box<Flush>>,
}

#[derive(Debug)]
struct Flush {
    /// The session that is flushed to.
    session: Key,
    /// What it has got already.
    shown: Shown,
    /// Other sessions that take messages, or did.
    others: Vec<Other>,
    step: Step,
    /// Up to here the session was sent them.
    sent_seq: i64,
    /// What is not stored and waits behind what is.
    held: Held,
    /// How often in a row a page could not be read.
    failures: usize,
}

/// A session beside the one that is flushed to.
#[derive(Debug)]
struct Other {
    session: Key,
    /// The first message that came after it.
    first: i64,
    shown: Shown,
}

/// The messages that a session was shown when they came, while another one was flushed to.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// Runs of messages, in order; both ends are included.
    runs: Vec<(i64, i64)>,
    /// Whether the last run goes on: it was shown all that was committed since.
    goes_on: bool,
}

impl Shown {
    fn add(&mut self, seq: i64) {
        match self.runs.last_mut() {
            Some(last) if self.goes_on => last.1 = seq,
            _ => self.runs.push((seq, seq)),
        }
        self.goes_on = true;
        if self.runs.len() > OFFLINE_RUNS_MAX {
            self.runs.remove(0);
        }
    }

    fn has(&self, seq: i64) -> bool {
        self.runs
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&seq))
    }
}

#[derive(Debug)]
enum Step {
    /// Messages are on their way to the store; reading goes on when they are there.
    Committing { is_closing: bool },
    /// A page is being read.
    Reading {
        is_closing: bool,
        number: u64,
        /// More was committed since.
        is_stale: bool,
    },
    /// A page could not be read: it is tried again when this rest is over.
    Resting { number: u64 },
    /// A page is in the session's output.
    Sending {
        page: Tally,
        last_seq: i64,
        /// Nothing is behind it: messages to the account are live.
        is_live: bool,
    },
}

impl Offline {
    /// What a load found.
    pub fn new(holding: Holding) -> Offline {
        Offline {
            stored: holding.tally,
            last_seq: holding.last_seq,
            ..Offline::default()
        }
    }

    /// What waits to be delivered.
    pub fn waiting(&self) -> Tally {
        self.stored.minus(self.delivered)
    }

    /// The number of the next message; greater than all before, also if the clock has gone back or
    /// all of them were deleted.
    pub fn next_seq(&self, now: Wall) -> i64 {
        let now = i64::try_from(now.micros()).unwrap_or(i64::MAX);
        now.max(self.last_seq.saturating_add(1))
    }

    /// Whether messages to the bare JID wait in the store though a session may take them.
    pub fn is_flushing(&self) -> bool {
        self.flush
            .as_ref()
            .is_some_and(|flush| !matches!(flush.step, Step::Sending { is_live: true, .. }))
    }

    /// Whether the last page is being read, so that all stanzas for the account wait a moment.
    pub fn is_closing(&self) -> bool {
        self.flush.as_ref().is_some_and(|flush| {
            matches!(
                flush.step,
                Step::Committing { is_closing: true }
                    | Step::Reading {
                        is_closing: true,
                        ..
                    }
            )
        })
    }

    /// Whether nothing is on its way to or from the store.
    pub fn is_idle(&self) -> bool {
        self.writing == 0 && !self.is_deleting && self.flush.is_none()
    }
}

impl Router {
    /// Stores a message for an account: its way ends with the commit. [`Router::offline_flush`]
    /// delivers it.
    pub(crate) fn store_offline(&mut self, key: Key, message: Box<OfflineMessage>, routed: Routed) {
        let (id, seq, bytes) = (message.account, message.seq, message.bytes() as u64);
        if let Some(offline) = self.offline_of(key, id) {
            debug_assert!(seq > offline.last_seq, "messages are numbered upwards");
            offline.last_seq = seq;
            offline.senders.note(sender_of(&routed.stanza), seq);
            offline.stored.messages += 1;
            offline.stored.bytes += bytes;
            offline.writing += 1;
        }
        let then: RowContinuation = Box::new(move |router, result| {
            router.offline_stored(key, id, seq, bytes, result.is_ok());
            match result {
                Ok(()) => {
                    router.show_stored(key, seq, &routed.stanza);
                    router.drop_routed(routed);
                }
                Err(error) => {
                    ::log::log!(error.level(), error:%; "message not stored");
                    router.reject(routed, error.into());
                }
            }
            router.release_committed(key);
            router.flush_after_commit(key);
        });
        self.row_then(Row::Offline(message), then);
    }

    fn offline_stored(&mut self, key: Key, id: i64, seq: i64, bytes: u64, is_stored: bool) {
        let Some(offline) = self.offline_of(key, id) else {
            return;
        };
        offline.writing = offline.writing.saturating_sub(1);
        offline.answered_seq = seq;
        if !is_stored {
            offline.stored = offline.stored.minus(Tally { messages: 1, bytes });
        }
    }

    /// `Stored before shown` in lib.rs: sessions that are not flushed to get the message now, if
    /// they took messages when it came.
    fn show_stored(&mut self, key: Key, seq: i64, stanza: &Stanza) {
        let takes = self.sessions_where(key, |session| session.takes_messages());
        let flush = self
            .accounts
            .get_mut(key)
            .and_then(|account| account.offline.flush.as_mut());
        let Some(flush) = flush else {
            return;
        };
        let is_shown = |other: &Other| other.first <= seq && takes.contains(&other.session);
        let mut meant = Vec::new();
        for other in &mut flush.others {
            if is_shown(other) {
                other.shown.add(seq);
                meant.push(other.session);
            } else {
                other.shown.goes_on = false;
            }
        }
        for session in meant {
            self.write(session, stanza);
        }
    }

    /// A commit has been answered: goes on with the flush that waits for it.
    fn flush_after_commit(&mut self, key: Key) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let is_all = account.offline.writing == 0;
        let goes_on = match account.offline.flush.as_mut().map(|flush| &mut flush.step) {
            Some(Step::Committing { is_closing }) => is_all || !*is_closing,
            Some(Step::Reading { is_stale, .. }) => {
                *is_stale = true;
                false
            }
            Some(Step::Resting { .. } | Step::Sending { .. }) => false,
            None => {
                self.delete_delivered(key);
                false
            }
        };
        if goes_on {
            self.next_page(key);
        }
        self.accounts.mark_idle(key, self.now.mono);
    }

    /// Begins to flush to a session that starts to take messages, or lets it have what comes from now
    /// on beside the one that is flushed to.
    pub fn offline_flush(&mut self, session: Key) {
        let Some(key) = self.sessions.get(session).map(|session| session.account) else {
            return;
        };
        self.delete_delivered(key);
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let offline = &mut account.offline;
        let next = offline.last_seq.saturating_add(1);
        let waiting = offline.waiting();
        if let Some(flush) = &mut offline.flush {
            flush.join(session, next);
            if let Step::Sending { page, is_live, .. } = &mut flush.step {
                // Some may have been stored while nobody took messages.
                *is_live &= waiting.messages <= page.messages;
            }
        } else if waiting.messages > 0 {
            self.begin_flush(key, session, next);
        }
    }

    fn begin_flush(&mut self, key: Key, session: Key, next: i64) {
        let others = self.sessions_where(key, |session| session.takes_messages());
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let others = others.into_iter().filter(|other| *other != session);
        let others = others.map(|session| Other {
            session,
            first: next,
            shown: Shown::default(),
        });
        account.offline.flush = Some(Box::new(Flush {
            session,
            shown: Shown::default(),
            others: others.collect(),
            step: Step::Committing { is_closing: false },
            sent_seq: account.offline.delivered_seq,
            held: Held::default(),
            failures: 0,
        }));
        self.next_page(key);
    }

    /// The client of a session has closed the stream without an answer. It reads what is in the output
    /// before our end of the stream (RFC 6120 §4.4), so what it was flushed is delivered. That end is
    /// written already, and nothing may follow it: what comes of the delivery comes when the session has
    /// ended, which is next ([`Router::offline_session_ended`]).
    pub fn offline_session_closed(&mut self, session: Key) {
        let account = self.sessions.get(session).map(|session| session.account);
        let account = account.and_then(|account| self.accounts.get(account));
        let flush = account.and_then(|account| account.offline.flush.as_ref());
        if let Some(flush) = flush.filter(|flush| flush.session == session)
            && let Step::Sending { last_seq, .. } = flush.step
        {
            self.note_received(session, last_seq);
        }
    }

    /// A session has got all that it was flushed, up to a message: that is delivered, and the flush goes
    /// on.
    fn offline_received(&mut self, session: Key, received_seq: i64) {
        if let Some(key) = self.note_received(session, received_seq) {
            self.next_page(key);
        }
    }

    /// Takes the page that a session was flushed for delivered, if it ends with that message; the account
    /// then.
    fn note_received(&mut self, session: Key, received_seq: i64) -> Option<Key> {
        let key = self.sessions.get(session)?.account;
        let offline = &mut self.accounts.get_mut(key)?.offline;
        let flush = offline.flush.as_ref()?;
        let (page, last_seq) = match flush.step {
            // What was sent since is not proven.
            Step::Sending { page, last_seq, .. }
                if flush.session == session && last_seq == received_seq =>
            {
                (page, last_seq)
            }
            _ => return None,
        };
        offline.delivered = offline.delivered.plus(page);
        offline.delivered_seq = last_seq;
        self.delete_delivered(key);
        Some(key)
    }

    /// A session has ended: another one goes on where it has stopped, if there is one.
    pub fn offline_session_ended(&mut self, session: Key) {
        let Some(key) = self.sessions.get(session).map(|session| session.account) else {
            return;
        };
        self.delete_delivered(key);
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let Some(flush) = &mut account.offline.flush else {
            return;
        };
        flush.others.retain(|other| other.session != session);
        // In the other steps the session is looked at when they are done.
        let goes_on = flush.session == session
            && matches!(flush.step, Step::Sending { .. } | Step::Resting { .. });
        self.release_held(key, session, i64::MAX);
        if goes_on {
            self.next_page(key);
        }
    }

    /// More came than the inbox holds while the last page was being read: it goes to the store, and
    /// another page will be the last one. False if something else keeps the account busy.
    pub(crate) fn postpone_closing(&mut self, key: Key) -> bool {
        let Some(account) = self.accounts.get_mut(key) else {
            return false;
        };
        if account.is_loading || account.is_changing {
            return false;
        }
        match account.offline.flush.as_mut().map(|flush| &mut flush.step) {
            Some(Step::Committing { is_closing } | Step::Reading { is_closing, .. })
                if *is_closing =>
            {
                *is_closing = false;
            }
            _ => return false,
        }
        self.no_longer_busy(key);
        true
    }

    /// The session that is flushed to, with what it has got already; another one in its place if it
    /// takes no messages any more. None if nobody does.
    fn flushed_session(&mut self, key: Key) -> Option<(Key, Shown)> {
        let flush = self.accounts.get(key)?.offline.flush.as_ref()?;
        if self.takes_messages(key, flush.session) {
            return Some((flush.session, flush.shown.clone()));
        }
        let mut others = flush.others.iter();
        let index = others.position(|other| self.takes_messages(key, other.session))?;
        let offline = &mut self.accounts.get_mut(key)?.offline;
        let flush = offline.flush.as_mut()?;
        let next = flush.others.remove(index);
        let before = std::mem::replace(&mut flush.session, next.session);
        flush.shown = next.shown.clone();
        flush.sent_seq = offline.delivered_seq;
        self.release_held(key, before, i64::MAX);
        Some((next.session, next.shown))
    }

    fn takes_messages(&self, account: Key, session: Key) -> bool {
        let is_there = |account: &Account| account.sessions.contains(&session);
        self.accounts.get(account).is_some_and(is_there)
            && self
                .sessions
                .get(session)
                .is_some_and(|session| session.takes_messages())
    }

    fn end_flush(&mut self, key: Key) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let offline = &mut account.offline;
        let was_closing = offline.is_closing();
        let flush = offline.flush.take();
        if offline.waiting().messages == 0 {
            offline.senders = Senders::default();
        }
        for message in flush.map(|flush| flush.held).unwrap_or_default() {
            self.write_held(key, message);
        }
        if was_closing {
            self.no_longer_busy(key);
        }
        self.accounts.mark_idle(key, self.now.mono);
    }

    /// Deletes what was delivered, one deletion at a time. One that fails is tried again with the next
    /// occasion: meanwhile memory knows that they were delivered.
    fn delete_delivered(&mut self, key: Key) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let Standing::Known(record) = account.standing else {
            return;
        };
        let offline = &mut account.offline;
        if offline.is_deleting || offline.delivered.messages == 0 {
            return;
        }
        offline.is_deleting = true;
        let (id, deleted, seq) = (record.id, offline.delivered, offline.delivered_seq);
        let then: RowContinuation = Box::new(move |router, result| {
            let Some(offline) = router.offline_of(key, id) else {
                return;
            };
            offline.is_deleting = false;
            match result {
                Ok(()) => {
                    offline.stored = offline.stored.minus(deleted);
                    offline.delivered = offline.delivered.minus(deleted);
                    router.delete_delivered(key);
                }
                Err(error) => ::log::log!(error.level(), error:%; "offline messages not deleted"),
            }
            router.accounts.mark_idle(key, router.now.mono);
        });
        self.row_then(Row::OfflineDelivered { account: id, seq }, then);
    }

    /// What is known of an account's messages, if it is still the account of that id.
    fn offline_of(&mut self, key: Key, id: i64) -> Option<&mut Offline> {
        let account = self.accounts.get_mut(key)?;
        match account.standing {
            Standing::Known(record) if record.id == id => Some(&mut account.offline),
            _ => None,
        }
    }
}

impl Flush {
    /// A session takes messages from now on, of which the next one is `first`.
    fn join(&mut self, session: Key, first: i64) {
        let mut others = self.others.iter_mut();
        if let Some(other) = others.find(|other| other.session == session) {
            other.first = first;
            other.shown.goes_on = false;
        } else if session != self.session {
            self.others.push(Other {
                session,
                first,
                shown: Shown::default(),
            });
        }
    }
}
