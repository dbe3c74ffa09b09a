//! Telling contacts of a removal from the roster, and of an account that is deleted
//! (RFC 6121 §2.5.2).

use crate::jid::{BareJid, Jid};
use crate::limits::{HANDOFF_RETRY, PARTING_PAUSE, PARTINGS_PER_STEP_MAX};
use crate::router::account::Waiting;
use crate::router::delivery::Routed;
use crate::router::presence::Parting;
use crate::router::roster::Roster;
use crate::router::settlement::Ticket;
use crate::router::subscription::exchange::signal_between;
use crate::router::subscription::table::{self, Signal};
use crate::router::{Continuation, Router, Waiter, feature, storage_value};
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::handoff::{self, Damaged, Handoff};
use crate::storage::roster::State;
use crate::storage::{Lane, ReadFn, StoreError, accounts};
use crate::xml::Payload;

/// What is known of an account that was deleted, until its contacts know.
pub(crate) struct Deceased {
    key: Key,
    jid: BareJid,
    /// Its roster, if it was in memory: it was if there were sessions.
    roster: Roster,
    /// Its resources that were available, with the last contact that knows it already of those that
    /// had gone before.
    gone: Vec<Parting>,
    /// The row of the last contact that was told.
    told: i64,
}

/// What a contact of an account that was deleted is to be told.
struct Farewell {
    row: Handoff,
    /// Whether the contact has an account here.
    is_local: bool,
}

/// Some of what is to be told.
struct Farewells {
    found: Vec<Farewell>,
    damaged: Vec<Damaged>,
    /// The last row that was looked at; none if there are no more.
    last: Option<i64>,
}

impl Router {
    /// Tells a contact that it was removed from an account's roster, where it had the state `old`.
    /// `handoffs` were written by the change (see [`removal_handoffs`](super::removal_handoffs)); a
    /// contact without an account here has none.
    pub(crate) fn removed_from_roster(
        &mut self,
        account: Key,
        contact: &BareJid,
        old: State,
        handoffs: Vec<Handoff>,
    ) {
        if old.has(State::FROM) {
            // §3.2.2: before the contact is told that it is no longer subscribed.
            self.send_unavailable_to(account, contact);
        }
        if !handoffs.is_empty() {
            self.hand_over(handoffs);
            return;
        }
        let Some(account) = self.accounts.get(account) else {
            return;
        };
        let own = account.jid.clone();
        for signal in table::removal(old) {
            self.reply(signal_between(&own, contact, signal));
        }
    }

    /// Sends stanzas for which rows stand.
    fn hand_over(&mut self, handoffs: Vec<Handoff>) {
        for Handoff { id, stanza } in handoffs {
            self.hand_off(Routed::new(stanza, Ticket::none()), id);
        }
    }

    /// Takes what is to be told to the contacts of an account, before its sessions end. From here on
    /// its roster is empty, as that of an account that begins anew.
    fn bury(&mut self, key: Key) -> Option<Deceased> {
        let mut gone = self.partings(key);
        let available = self.sessions_where(key, |session| session.presence.is_some());
        gone.extend(available.into_iter().filter_map(|session| {
            Some(Parting {
                resource: self.sessions.get(session)?.jid.clone(),
                after: String::new(),
            })
        }));
        let account = self.accounts.get_mut(key)?;
        // It may have been loaded after the deletion was committed: whether there are contacts to be
        // told, the store knows.
        let roster = account.roster.replace(Roster::default());
        account.is_parting = true;
        Some(Deceased {
            key,
            jid: account.jid.clone(),
            roster: roster.unwrap_or_default(),
            gone,
            told: 0,
        })
    }

    /// Ends the life of an account that was deleted: `end` ends its sessions; then its contacts are told,
    /// a few at a time. It is *changing* until all of them know: a successor of its name that spoke to them
    /// before would be taken for it.
    pub(crate) fn part(&mut self, key: Key, end: impl FnOnce(&mut Router)) {
        let deceased = self.bury(key);
        end(self);
        while let Some(account) = self.accounts.get_mut(key)
            && let Some(waiting) = account.inbox.pop()
        {
            match waiting {
                Waiting::Inbound(routed) => self.inbound(routed),
                Waiting::Outbound(session, routed) => {
                    self.drop_routed(routed);
                    self.release(session);
                }
            }
        }
        match deceased {
            Some(deceased) => self.tell_contacts(deceased),
            None => self.no_longer_changing(key),
        }
    }

    /// Tells those contacts that were not told yet.
    pub(super) fn tell_contacts(&mut self, deceased: Deceased) {
        let after = deceased.told;
        self.read_partings(deceased, after, move |router, mut deceased, rows| {
            let Some(last) = rows.last else {
                match after {
                    // There never were any.
                    0 => router.no_longer_changing(deceased.key),
                    _ => router.look_for_contacts(deceased),
                }
                return;
            };
            for row in rows.found {
                router.tell_contact(&deceased, row);
            }
            for row in rows.damaged {
                router.leave_untold(&deceased, row);
            }
            deceased.told = last;
            router.tell_contacts(deceased);
        });
    }

    /// Whether contacts are left that do not know yet.
    fn look_for_contacts(&mut self, deceased: Deceased) {
        self.read_partings(deceased, 0, |router, deceased, rows| {
            if rows.last.is_none() {
                router.no_longer_changing(deceased.key);
            } else {
                let due = router.now.mono + PARTING_PAUSE;
                router.postponed.wait_for_contacts(due, deceased);
            }
        });
    }

    /// Reads hand-offs of an account after an id.
    fn read_partings(
        &mut self,
        deceased: Deceased,
        after: i64,
        then: impl FnOnce(&mut Router, Deceased, Farewells) + Send + 'static,
    ) {
        let jid = deceased.jid.clone();
        let read: ReadFn = Box::new(move |db| {
            let page = handoff::of_sender(db, &jid, after, PARTINGS_PER_STEP_MAX)?;
            let farewell = |row: Handoff| {
                let contact = row.stanza.to.as_ref().map(Jid::bare);
                let account = contact.map(|contact| accounts::find(db, &contact));
                let is_local = account.transpose()?.flatten().is_some();
                Ok(Farewell { row, is_local })
            };
            let found: Result<Vec<Farewell>, StoreError> =
                page.rows.into_iter().map(farewell).collect();
            Ok(feature::value(Farewells {
                found: found?,
                damaged: page.damaged,
                last: page.last,
            }))
        });
        let then: Continuation = Box::new(move |router, result| {
            match result.and_then(storage_value::<Farewells>) {
                Ok(rows) => then(router, deceased, rows),
                // The next start tells them.
                Err(StoreError::Stopped) => router.no_longer_changing(deceased.key),
                Err(error) => {
                    ::log::log!(error.level(),
                        jid:% = deceased.jid, error:%;
                        "contacts not told of a deletion, it is tried again"
                    );
                    let due = router.now.mono + HANDOFF_RETRY;
                    router.postponed.wait_for_contacts(due, deceased);
                }
            }
        });
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    /// Deletes a row that cannot be read: if it stayed, nobody could ever have the name again.
    fn leave_untold(&mut self, deceased: &Deceased, row: Damaged) {
        let Damaged {
            id,
            recipient,
            kind,
        } = row;
        ::log::error!(
            jid:% = deceased.jid, contact = recipient, id, kind;
            "hand-off is damaged, its contact is not told"
        );
        self.end_handoff(Some(id));
    }

    fn tell_contact(&mut self, deceased: &Deceased, farewell: Farewell) {
        let Farewell { row, is_local } = farewell;
        let contact = row.stanza.to.clone();
        let is_last = Signal::of(row.stanza.type_) == Some(Signal::Unsubscribed);
        if let Some(contact) = contact.filter(|_| is_last)
            && deceased.roster.state(contact.bare_str()).has(State::FROM)
        {
            for Parting { resource, after } in &deceased.gone {
                if contact.bare_str() <= after.as_str() {
                    continue;
                }
                let payload = Payload::empty();
                let mut gone = Stanza::new(Kind::Presence, Type::Unavailable, payload);
                gone.from = Some(resource.to_jid());
                gone.to = Some(contact.clone());
                self.reply(gone);
            }
        }
        if is_local {
            self.hand_over(vec![row]);
        } else {
            // A server that is not reached keeps no name from being used again.
            self.reply(row.stanza);
            self.end_handoff(Some(row.id));
        }
    }
}
