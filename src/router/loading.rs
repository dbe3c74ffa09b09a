//! Loading accounts, in two tiers (`The store` in lib.rs), and what waits for them.
//!
//! *Delivery* is what a message needs: whether the account exists and is enabled. *Session* is the
//! rest, above all the roster: for logins, subscription requests, and what contacts ask. Names that do
//! not exist are loaded in the same way and kept as long, so that neither answers nor their times tell
//! them from others (RFC 6120 §13.11).
//!
//! A roster takes the longer to load the larger it is. So for what strangers ask it is not loaded: one
//! look into the store tells whether the sender is a contact, and only for a contact comes the rest.
//! What is left of a difference is of an account that is not in memory: counting its offline messages
//! takes the longer the more there are; and a subscription request needs the roster, to see how many
//! wait. It leaves a trace that the account's owner sees; and whether an account exists, a chat
//! message tells whoever wants to know (RFC 6121 §8.5.1).

use crate::jid::{BareJid, Jid};
use crate::router::account::{Standing, Waiting};
use crate::router::delivery::Routed;
use crate::router::offline::Offline;
use crate::router::roster::Roster;
use crate::router::{Continuation, Router, Waiter, feature, storage_value};
use crate::slots::Key;
use crate::stanza::Kind;
use crate::storage::accounts::AccountRecord;
use crate::storage::offline::{self, Holding};
use crate::storage::roster::{State, state};
use crate::storage::{Db, Lane, ReadFn, StoreError, Value};

/// How much of an account is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Its record, and how many offline messages it has.
    Delivery,
    /// The same; its roster as well, if the sender of the stanza at hand is in it.
    Contact,
    /// Its roster too.
    Session,
}

/// What a load yields.
struct Loaded {
    record: Option<AccountRecord>,
    offline: Holding,
    roster: Option<Roster>,
}

impl Router {
    /// The account of a bare JID, asked for in the store as far as it is not in memory: then it is
    /// busy, or [`Router::load_for`] is to be called. None for what is no account's address.
    pub(crate) fn account_for(&mut self, bare_jid: &str, tier: Tier) -> Option<Key> {
        let now = self.now.mono;
        let key = match self.accounts.find(bare_jid) {
            Some(key) => key,
            None => {
                let jid = BareJid::parse(bare_jid).ok()?;
                let key = self.accounts.insert(jid.clone(), Standing::Loading, now);
                // For a stanza its sender decides what is loaded.
                if tier != Tier::Contact {
                    self.load(key, jid, tier);
                }
                return Some(key);
            }
        };
        if let Some(account) = self.accounts.get_mut(key) {
            account.used = now;
            if tier == Tier::Session && account.roster.is_none() && !account.is_loading {
                let jid = account.jid.clone();
                self.load(key, jid, tier);
            }
        }
        Some(key)
    }

    fn load(&mut self, key: Key, jid: BareJid, tier: Tier) {
        if let Some(account) = self.accounts.get_mut(key) {
            account.is_loading = true;
        }
        let read: ReadFn = Box::new(move |db| Ok(feature::value(read(db, &jid, tier)?)));
        let then: Continuation = Box::new(move |router, result| router.loaded(key, result));
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    fn loaded(&mut self, key: Key, result: Result<Value, StoreError>) {
        match self.load_ended(key, result) {
            Some(Ok(loaded)) => {
                self.take_loaded(key, loaded);
                self.no_longer_busy(key);
            }
            Some(Err(error)) => self.not_loaded(key, &error),
            None => {}
        }
    }

    /// A load has ended, and what it has come to; none if the account is forgotten.
    fn load_ended(
        &mut self,
        key: Key,
        result: Result<Value, StoreError>,
    ) -> Option<Result<Loaded, StoreError>> {
        let account = self.accounts.get_mut(key)?;
        account.is_loading = false;
        let loaded = result.and_then(storage_value::<Loaded>);
        if let Err(error) = &loaded {
            ::log::log!(error.level(), jid:% = account.jid, error:%; "account not loaded");
        }
        Some(loaded)
    }

    fn take_loaded(&mut self, key: Key, loaded: Loaded) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        // What is known already is newer than a read: changes went through memory.
        if matches!(account.standing, Standing::Loading) {
            account.standing = match loaded.record {
                Some(record) => Standing::Known(record),
                None => Standing::Unknown,
            };
            account.offline = Offline::new(loaded.offline);
        }
        if account.roster.is_none() {
            account.roster = loaded.roster;
        }
    }

    /// Forgets an account that cannot be loaded, with all that waits for it.
    fn not_loaded(&mut self, key: Key, error: &StoreError) {
        let account = self.accounts.get(key);
        // While it is changing it stays: what follows the commit needs it. What waits has it loaded again
        // then.
        if account.is_some_and(|account| !account.is_changing) {
            self.load_failed(key, error);
        }
    }

    /// Loads what a stanza needs of an account whose roster is not in memory: whether its sender is a
    /// contact, and if so the roster. It takes one read, in memory or not, there or not; and the stanza
    /// goes before those that come meanwhile.
    pub(crate) fn load_for(&mut self, key: Key, routed: Routed) {
        let Some(account) = self.accounts.get_mut(key) else {
            self.drop_routed(routed);
            return;
        };
        account.is_loading = true;
        let jid = account.jid.clone();
        let from = routed.stanza.from.as_ref();
        let sender = from.map_or_else(|| jid.clone(), Jid::bare);
        let read: ReadFn = Box::new(move |db| {
            let tier = match state(db, &jid, &sender)? {
                State::NONE => Tier::Contact,
                _ => Tier::Session,
            };
            Ok(feature::value(read(db, &jid, tier)?))
        });
        let then: Continuation =
            Box::new(move |router, result| router.loaded_for(key, routed, result));
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    fn loaded_for(&mut self, key: Key, mut routed: Routed, result: Result<Value, StoreError>) {
        routed.has_waited = true;
        match self.load_ended(key, result) {
            Some(Ok(loaded)) => {
                self.take_loaded(key, loaded);
                self.inbound_loaded(key, routed);
                self.no_longer_busy(key);
            }
            Some(Err(error)) => {
                // It was the first to come.
                self.reject(routed, error.clone().into());
                self.not_loaded(key, &error);
            }
            None => self.drop_routed(routed),
        }
    }

    /// Everything that waited for an account gets its turn: commands first, since a change of the
    /// account decides about logins and stanzas, then logins, then stanzas, in order.
    pub(crate) fn no_longer_busy(&mut self, key: Key) {
        loop {
            let Some(account) = self.accounts.get_mut(key) else {
                return;
            };
            if account.is_busy() {
                return;
            }
            if let Some(command) = account.commands.pop_front() {
                self.run_command(key, command);
                continue;
            }
            let admissions = std::mem::take(&mut account.admissions);
            if !admissions.is_empty() {
                let jid = account.jid.clone();
                for (conn, proof) in admissions {
                    // What has been loaded may be less than a login needs.
                    self.admit(conn, &jid, proof);
                }
                continue;
            }
            match account.inbox.pop() {
                Some(Waiting::Inbound(routed)) => self.inbound(routed),
                Some(Waiting::Outbound(session, routed)) => {
                    if routed.stanza.kind == Kind::Presence {
                        self.outbound_subscription(session, routed);
                    } else {
                        self.inbound(routed);
                    }
                    self.release(session);
                }
                None => break,
            }
        }
        self.accounts.mark_idle(key, self.now.mono);
    }

    /// Holds a session's stream back until [`Router::release`].
    pub(crate) fn hold(&mut self, session: Key) {
        if let Some(session) = self.sessions.get_mut(session) {
            session.holds += 1;
        }
    }

    /// Undoes one [`Router::hold`]. The session may have ended meanwhile.
    pub(crate) fn release(&mut self, session: Key) {
        if let Some(session) = self.sessions.get_mut(session) {
            debug_assert!(session.holds > 0, "{} is not held", session.jid);
            session.holds = session.holds.saturating_sub(1);
            if session.holds == 0 {
                self.out.resumed.push(session.conn);
            }
        }
    }
}

fn read(db: &Db, jid: &BareJid, tier: Tier) -> Result<Loaded, StoreError> {
    let record = crate::storage::accounts::find(db, jid)?;
    // No account has the id 0: a name that does not exist is looked up in the same way.
    let offline = offline::holding(db, record.map_or(0, |record| record.id))?;
    let roster = match tier {
        Tier::Delivery | Tier::Contact => None,
        Tier::Session => Some(Roster::new(&crate::storage::roster::states(db, jid)?)),
    };
    Ok(Loaded {
        record,
        offline,
        roster,
    })
}

/// What a load of the delivery tier yields.
#[cfg(test)]
pub(crate) fn loaded(record: Option<AccountRecord>) -> Value {
    let roster = None;
    let offline = Holding::default();
    feature::value(Loaded {
        record,
        offline,
        roster,
    })
}

#[cfg(test)]
mod tests {
    use crate::jid::BareJid;
    use crate::router::account::Proof;
    use crate::router::testing::{Site, stanza};
    use crate::slots::Slots;
    use crate::stanza::{Kind, Type};
    use crate::storage::Db;
    use crate::storage::roster::State;

    /// Found by `tests/simulation.rs`: it had a session without a roster.
    #[test]
    fn a_login_that_comes_while_a_message_loads_the_account_waits_for_the_roster() {
        let mut site = Site::new(&[]);
        site.create("nurse@example.org");
        let romeo = site.bind("romeo@example.org", "orchard", None);
        let message = stanza(Kind::Message, Type::Chat, Some("nurse@example.org"));
        site.send(romeo, message);
        let nurse = BareJid::parse("nurse@example.org").unwrap();
        let conn = Slots::default().insert(());
        site.router.admit(conn, &nurse, Proof::Credentials(0));
        site.run_store();
        assert_eq!(site.router.out.admitted.len(), 1);
        let key = site.router.accounts.find(nurse.as_str()).unwrap();
        assert!(site.router.accounts.get(key).unwrap().roster.is_some());
    }

    /// RFC 6120 §13.11: the store's work does not tell whether an account exists.
    #[test]
    fn a_name_that_does_not_exist_costs_the_reads_of_one_that_does() {
        let mut site = Site::new(&[]);
        site.create("nurse@example.org");
        let romeo = site.bind("romeo@example.org", "orchard", None);
        for type_ in [Type::Subscribe, Type::Probe] {
            for to in ["nurse@example.org", "nobody@example.org"] {
                site.send(romeo, stanza(Kind::Presence, type_, Some(to)));
            }
        }
        // The stanzas of the second round wait for the reads of the first.
        assert_eq!(site.router.out.reads.len(), 2);
        site.run_store();
        assert_eq!(site.open(romeo), 0);
        for (jid, is_served) in [("nurse@example.org", true), ("nobody@example.org", false)] {
            let key = site.router.accounts.find(jid).unwrap();
            let account = site.router.accounts.get(key).unwrap();
            assert_eq!(account.is_served(), is_served);
            assert!(account.roster.is_none(), "he is no contact");
        }
    }

    /// A probe by a client of the account `from`; the reads that it takes, and whether nurse's roster is
    /// in memory then.
    fn probe(site: &mut Site, from: &str, to: &str) -> (usize, bool) {
        let seat = site.bind(from, "orchard", None);
        site.send(seat, stanza(Kind::Presence, Type::Probe, Some(to)));
        let reads = site.router.out.reads.len();
        site.run_store();
        assert_eq!(site.open(seat), 0);
        let key = site.router.accounts.find(to).unwrap();
        let roster = &site.router.accounts.get(key).unwrap().roster;
        (reads, roster.is_some())
    }

    /// RFC 6120 §13.11: how long it takes does not tell how many contacts an account has.
    #[test]
    fn what_a_stranger_asks_loads_no_roster() {
        const NURSE: &str = "nurse@example.org";
        let mut site = Site::new(&[]);
        site.create(NURSE);
        let set = |db: &Db| {
            let [nurse, friend] =
                [NURSE, "friend@example.org"].map(|it| BareJid::parse(it).unwrap());
            crate::storage::roster::set_state(db, &nurse, &friend, State::FROM, None).map(drop)
        };
        site.store.change(set).unwrap();
        for to in [NURSE, "nobody@example.org"] {
            for times in ["not in memory", "in memory"] {
                let probed = probe(&mut site, "romeo@example.org", to);
                assert_eq!(probed, (1, false), "{to} {times}");
            }
        }
        let probed = probe(&mut site, "friend@example.org", NURSE);
        assert_eq!(probed, (1, true), "for a contact it is loaded");
        let probed = probe(&mut site, "romeo@example.org", NURSE);
        assert_eq!(
            probed,
            (1, true),
            "it stays, and a stranger learns nothing of that"
        );
    }
}
