//! The pages of a flush: read, tried again where they cannot be, and written with a ping behind them.

use super::{Shown, Step};
use crate::jid::BareJid;
use crate::limits::{OFFLINE_PAGE_BYTES_MAX, OFFLINE_PAGE_MESSAGES_MAX, OFFLINE_READ_PAUSES};
use crate::ns;
use crate::router::account::Standing;
use crate::router::ask::AskThen;
use crate::router::{Continuation, Router, Waiter, feature, storage_value};
use crate::slots::Key;
use crate::storage::offline::{self, Page, Tally};
use crate::storage::{Db, Lane, ReadFn, StoreError, Value};
use crate::xml::{Element, Payload};

impl Router {
    /// Reads the next page of a flush, or ends it if there is none, or nobody to take it.
    pub(super) fn next_page(&mut self, key: Key) {
        if self.flushed_session(key).is_none() {
            self.end_flush(key);
            return;
        }
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let offline = &mut account.offline;
        let waiting = offline.waiting();
        if waiting.messages == 0 {
            self.end_flush(key);
            return;
        }
        let is_closing = waiting.messages == 1
            || (waiting.messages <= OFFLINE_PAGE_MESSAGES_MAX as u64
                && waiting.bytes <= OFFLINE_PAGE_BYTES_MAX);
        if is_closing && offline.writing > 0 {
            if let Some(flush) = &mut offline.flush {
                flush.step = Step::Committing { is_closing };
            }
            return;
        }
        self.read_page(key, is_closing);
    }

    fn read_page(&mut self, key: Key, is_closing: bool) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let Standing::Known(record) = account.standing else {
            return;
        };
        let offline = &mut account.offline;
        offline.reads += 1;
        let number = offline.reads;
        let Some(flush) = &mut offline.flush else {
            return;
        };
        flush.step = Step::Reading {
            is_closing,
            number,
            is_stale: false,
        };
        let (id, after, jid) = (record.id, offline.delivered_seq, account.jid.clone());
        let read: ReadFn = Box::new(move |db| Ok(feature::value(read(db, id, after, &jid)?)));
        let then: Continuation = Box::new(move |router, result| {
            router.page_read(key, number, result);
        });
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    fn page_read(&mut self, key: Key, number: u64, result: Result<Value, StoreError>) {
        let Some(account) = self.accounts.get(key) else {
            return;
        };
        let (is_closing, is_stale) = match account.offline.flush.as_ref().map(|flush| &flush.step) {
            Some(&Step::Reading {
                is_closing,
                number: awaited,
                is_stale,
            }) if awaited == number => (is_closing, is_stale),
            _ => return,
        };
        let page = match result.and_then(storage_value::<Page>) {
            Ok(page) => page,
            Err(error) => {
                self.not_read(key, number, &error);
                return;
            }
        };
        let Some((session, shown)) = self.flushed_session(key) else {
            self.end_flush(key);
            return;
        };
        if page.messages.is_empty() {
            self.nothing_read(key, is_closing, is_stale);
            return;
        }
        if !self.may_ask(session) {
            // It answers nothing, so nobody would know that it got them: they stay for one that does.
            self.end_flush(key);
            return;
        }
        self.send_page(key, session, &shown, page, is_closing);
    }

    /// A page could not be read. A disk that is busy or fails answers again some time, so it is tried
    /// again after a rest, in which the account is not busy: what comes meanwhile is stored behind it.
    /// After the last try what is stored stays, for the next session, and messages are live.
    fn not_read(&mut self, key: Key, number: u64, error: &StoreError) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let was_closing = account.offline.is_closing();
        let Some(flush) = &mut account.offline.flush else {
            return;
        };
        let pause = OFFLINE_READ_PAUSES.get(flush.failures);
        let Some(pause) = pause.filter(|_| *error != StoreError::Stopped) else {
            ::log::log!(
                error.level(), jid:% = account.jid, error:%;
                "offline messages not read, they wait for the next session"
            );
            self.end_flush(key);
            return;
        };
        if flush.failures == 0 {
            ::log::log!(
                error.level(), jid:% = account.jid, error:%;
                "offline messages not read, trying again"
            );
        }
        flush.failures += 1;
        flush.step = Step::Resting { number };
        self.postponed
            .flush_later(self.now.mono + *pause, key, number);
        if was_closing {
            self.no_longer_busy(key);
        }
    }

    /// The rest after a failed read is over.
    pub(crate) fn flush_again(&mut self, key: Key, number: u64) {
        let flush = self.accounts.get(key).map(|account| &account.offline.flush);
        if let Some(Some(flush)) = flush
            && matches!(flush.step, Step::Resting { number: awaited } if awaited == number)
        {
            self.next_page(key);
        }
    }

    /// A page came back empty though something waits.
    fn nothing_read(&mut self, key: Key, is_closing: bool, is_stale: bool) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let offline = &mut account.offline;
        if is_stale {
            self.read_page(key, is_closing);
        } else if offline.writing > 0 {
            if let Some(flush) = &mut offline.flush {
                flush.step = Step::Committing { is_closing };
            }
        } else {
            ::log::warn!(jid:% = account.jid; "offline messages were counted wrong");
            offline.stored = offline.delivered;
            self.end_flush(key);
        }
    }

    fn send_page(&mut self, key: Key, session: Key, shown: &Shown, page: Page, is_closing: bool) {
        let mut tally = Tally::default();
        for message in &page.messages {
            tally.messages += 1;
            tally.bytes += message.bytes;
        }
        let last_seq = page.messages.last().map_or(0, |message| message.seq);
        let is_live = is_closing && page.is_last;
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        if is_live && account.offline.waiting() != tally {
            // Nothing is on its way, so the page is all there is.
            ::log::warn!(jid:% = account.jid; "offline messages were counted wrong");
            account.offline.stored = account.offline.delivered.plus(tally);
        }
        if let Some(flush) = &mut account.offline.flush {
            flush.failures = 0;
            flush.sent_seq = last_seq;
            flush.step = Step::Sending {
                page: tally,
                last_seq,
                is_live,
            };
        }
        for message in &page.messages {
            self.release_held(key, session, message.seq.saturating_sub(1));
            if let (Some(stanza), false) = (&message.stanza, shown.has(message.seq)) {
                self.write(session, stanza);
            }
        }
        // Nothing is behind the last page.
        let released = if is_live { i64::MAX } else { last_seq };
        self.release_held(key, session, released);
        let ping = Payload::from_elements(&[Element::new(ns::PING, "ping")]);
        let then: AskThen =
            Box::new(move |router, session, _| router.offline_received(session, last_seq));
        self.ask(session, ping, then);
        if is_closing {
            self.no_longer_busy(key);
        }
    }
}

/// A page, stamped for its delivery (XEP-0203 §2). Runs on a reader.
fn read(db: &Db, id: i64, after: i64, jid: &BareJid) -> Result<Page, StoreError> {
    let mut page = offline::page(
        db,
        id,
        after,
        OFFLINE_PAGE_MESSAGES_MAX,
        OFFLINE_PAGE_BYTES_MAX,
    )?;
    for message in &mut page.messages {
        let delay = Element::new(ns::DELAY, "delay")
            .attr("from", jid.domain())
            .attr("stamp", message.came.date_time());
        if let Some(stanza) = &mut message.stanza {
            stanza.payload = stanza.payload.with(&delay);
        }
    }
    Ok(page)
}
