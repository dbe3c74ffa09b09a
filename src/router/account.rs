//! Accounts as their shard knows them: loaded on first use, forgotten when long unused.

use std::collections::{HashMap, VecDeque};

use crate::clock::Mono;
use crate::jid::BareJid;
use crate::limits::{
    IDLE_ACCOUNT_AGE, IDLE_ACCOUNTS_MAX, INBOX_ANSWER_BYTES_MAX, INBOX_BYTES_MAX,
    INBOX_SERVER_BYTES_MAX, INBOX_STANZAS_MAX,
};
use crate::router::commands::QueuedCommand;
use crate::router::delivery::Routed;
use crate::router::effects::Refusal;
use crate::router::offline::Offline;
use crate::router::roster::Roster;
use crate::slots::{Key, Slots};
use crate::stanza::Kind;
use crate::storage::accounts::AccountRecord;
use crate::storage::roster::State;

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum Standing {
    /// The store has been asked.
    Loading,
    /// There is such an account.
    Known(AccountRecord),
    /// There is none.
    Unknown,
    /// It lives only as long as its session (XEP-0175).
    Anonymous,
}

impl Standing {
    /// The id of an account in the store; no later account has it.
    pub fn id(&self) -> Option<i64> {
        match self {
            Standing::Known(record) => Some(record.id),
            Standing::Loading | Standing::Unknown | Standing::Anonymous => None,
        }
    }

    /// Whether a proven identity may come in (`Who owns what` in lib.rs).
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, proof: Proof) -> Result<(), Refusal> {
        match (self, proof) {
            (Standing::Known(record), _) if !record.enabled => Err(Refusal::Disabled),
            (Standing::Known(record), Proof::Credentials(generation))
                if generation == record.generation =>
            {
                Ok(())
            }
            (Standing::Known(_), Proof::Certificate) => Ok(()),
            (Standing::Anonymous, Proof::Anonymous) => Ok(()),
            _ => Err(Refusal::Changed),
        }
    }
}

/// One local bare JID on the shard that owns it.
pub struct Account {
    /// Its bare JID.
    pub jid: BareJid,
    /// What is known of it.
    pub standing: Standing,
    /// Its roster, once something has needed it; empty for a name that does not exist.
    pub roster: Option<Roster>,
    /// Its offline messages.
    pub offline: Offline,
    /// Its sessions, in the order in which they were bound.
    pub sessions: Vec<Key>,
    /// Whether a read of what is stored of it is on its way.
    pub is_loading: bool,
    /// Whether a change of it waits for its commit.
    pub is_changing: bool,
    /// Whether it was deleted, and is changing until its contacts know.
    pub is_parting: bool,
    /// Answers to its own requests that wait for a read of the store.
    pub later: usize,
    /// Answers to others. They count apart, so that strangers cannot use up what is the owner's.
    pub later_for_others: usize,
    /// Broadcasts of its sessions that are not done ([`Router::fan_out`](super::Router::fan_out)).
    pub broadcasts: usize,
    /// When a stanza or a login last concerned it.
    pub used: Mono,
    /// Stanzas that wait until it is loaded or changed.
    pub inbox: Inbox,
    /// Connections that wait to be let in, with the credential generation that each has proven.
    pub admissions: Vec<(Key, Proof)>,
    /// Connections that were let in and have bound nothing yet. They keep it in memory: what they
    /// have proven is checked again with it.
    pub admitted: Vec<Key>,
    /// Commands that wait until it is loaded or changed.
    pub commands: VecDeque<QueuedCommand>,
    is_listed_idle: bool,
}

/// What a login has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A password, when the credentials had this generation.
    Credentials(u64),
    /// The account's JID in a client certificate.
    Certificate,
    /// Nothing: an anonymous account is to be made.
    Anonymous,
}

/// A stanza that waits for an account.
#[derive(Debug)]
pub enum Waiting {
    /// Sent to the account.
    Inbound(Routed),
    /// Sent by this session of the account, which is held: a subscription stanza, or what is for the
    /// account itself.
    Outbound(Key, Routed),
}

/// Stanzas that wait for an account, bounded in count and bytes.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Inbox {
    /// Lets a stanza for the account wait. One that is handed off is never refused: its sender waits
    /// for its own commit before each. Presence is bounded in bytes only: when a server starts, all
    /// contacts of an account may come within the time of one commit, and one whose going is not
    /// heard of stays for ever. So are answers to what the account has asked, which nobody would send
    /// again, and what the server says itself, which has no ticket: these have bytes of their own behind
    /// those of all others, and the server's behind those of answers.
    ///
    /// # Errors
    /// The stanza itself, when no more may wait.
    pub fn push(&mut self, routed: Routed) -> Result<(), Routed> {
        let size = routed.stanza.size();
        let is_servers = routed.ticket.is_none();
        let is_answer = routed.stanza.is_answer();
        let is_counted = routed.stanza.kind != Kind::Presence && !is_servers && !is_answer;
        let bytes_max = match (is_servers, is_answer) {
            (true, _) => INBOX_SERVER_BYTES_MAX,
            (false, true) => INBOX_ANSWER_BYTES_MAX,
            (false, false) => INBOX_BYTES_MAX,
        };
        let is_full = (self.waiting.len() >= INBOX_STANZAS_MAX && is_counted)
            || self.bytes + size > bytes_max;
        if is_full && routed.handoff.is_none() {
            return Err(routed);
        }
        self.bytes += size;
        self.waiting.push_back(Waiting::Inbound(routed));
        Ok(())
    }

    /// Lets a stanza of the account's own session wait: one for each session, which is held.
    pub fn push_outbound(&mut self, session: Key, routed: Routed) {
        self.bytes += routed.stanza.size();
        self.waiting.push_back(Waiting::Outbound(session, routed));
    }

    /// The stanza that has waited longest.
    pub fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        let (Waiting::Inbound(routed) | Waiting::Outbound(_, routed)) = &waiting;
        self.bytes -= routed.stanza.size();
        Some(waiting)
    }

    /// How many stanzas wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the stanzas that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Account {
    /// Whether stanzas for it wait in its inbox: it is loading, changing, or about to have delivered
    /// the last of its offline messages.
    pub fn is_busy(&self) -> bool {
        self.is_changing || self.is_loading || self.offline.is_closing()
    }

    /// Whether it exists and is enabled.
    pub fn is_served(&self) -> bool {
        match &self.standing {
            Standing::Known(record) => record.enabled,
            Standing::Anonymous => true,
            Standing::Loading | Standing::Unknown => false,
        }
    }

    /// Whether somebody may see its presence: itself, or a contact with a subscription of `from` or
    /// `both`. Its roster must be loaded, as it is while it has sessions.
    pub fn shows_presence_to(&self, bare_jid: &str) -> bool {
        let is_contact = |roster: &Roster| roster.state(bare_jid).has(State::FROM);
        self.is_served()
            && (bare_jid == self.jid.as_str() || self.roster.as_ref().is_some_and(is_contact))
    }

    /// The count of answers that wait, for the account's own requests or those of others.
    pub fn later_mut(&mut self, is_own: bool) -> &mut usize {
        if is_own {
            &mut self.later
        } else {
            &mut self.later_for_others
        }
    }

    fn is_idle(&self) -> bool {
        self.sessions.is_empty()
            && !self.is_busy()
            && self.offline.is_idle()
            && self.later + self.later_for_others == 0
            && self.broadcasts == 0
            && self.admissions.is_empty()
            && self.admitted.is_empty()
            && self.commands.is_empty()
    }
}

/// The accounts of one shard.
#[derive(Default)]
pub struct Accounts {
    slots: Slots<Account>,
    by_name: HashMap<BareJid, Key>,
    idle: VecDeque<(Key, Mono)>,
}

impl Accounts {
    /// The account of a bare JID, if it is in memory.
    pub fn find(&self, jid: &str) -> Option<Key> {
        self.by_name.get(jid).copied()
    }

    /// Adds an account that is not in memory.
    pub fn insert(&mut self, jid: BareJid, standing: Standing, now: Mono) -> Key {
        let key = self.slots.insert(Account {
            jid: jid.clone(),
            standing,
            roster: None,
            offline: Offline::default(),
            sessions: Vec::new(),
            is_loading: false,
            is_changing: false,
            is_parting: false,
            later: 0,
            later_for_others: 0,
            broadcasts: 0,
            used: now,
            inbox: Inbox::default(),
            admissions: Vec::new(),
            admitted: Vec::new(),
            commands: VecDeque::new(),
            is_listed_idle: false,
        });
        self.by_name.insert(jid, key);
        key
    }

    /// The account behind a key.
    pub fn get(&self, key: Key) -> Option<&Account> {
        self.slots.get(key)
    }

    /// The account behind a key.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Account> {
        self.slots.get_mut(key)
    }

    /// Forgets an account.
    pub fn remove(&mut self, key: Key) -> Option<Account> {
        let account = self.slots.remove(key)?;
        self.by_name.remove(&account.jid);
        Some(account)
    }

    /// How many are in memory.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All accounts in memory.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Account)> {
        self.slots.iter()
    }

    /// Remembers that the account may be forgotten, now that nothing needs it.
    pub fn mark_idle(&mut self, key: Key, now: Mono) {
        if let Some(account) = self.slots.get_mut(key)
            && account.is_idle()
            && !account.is_listed_idle
        {
            account.is_listed_idle = true;
            self.idle.push_back((key, now));
        }
    }

    /// Forgets accounts that nothing has needed for long, and the least recently used ones above
    /// the bound. Looks at a few old ones only, but at all above the bound: a turn may load more
    /// names that do not exist than a few.
    pub fn forget_idle(&mut self, now: Mono) {
        let mut looks = 16;
        loop {
            let Some(&(key, listed)) = self.idle.front() else {
                return;
            };
            let is_crowded = self.idle.len() > IDLE_ACCOUNTS_MAX;
            if !is_crowded && (now - listed < IDLE_ACCOUNT_AGE || looks == 0) {
                return;
            }
            looks -= u32::from(!is_crowded);
            self.idle.pop_front();
            let Some(account) = self.slots.get_mut(key) else {
                continue;
            };
            account.is_listed_idle = false;
            if !account.is_idle() {
                continue;
            }
            if account.used > listed && !is_crowded {
                let used = account.used;
                account.is_listed_idle = true;
                self.idle.push_back((key, used));
            } else {
                self.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(n: usize) -> BareJid {
        BareJid::parse(&format!("user{n}@example.org")).unwrap()
    }

    #[test]
    fn an_unused_account_is_forgotten_after_its_age() {
        let mut accounts = Accounts::default();
        let start = Mono::from_millis(0);
        let key = accounts.insert(jid(1), Standing::Unknown, start);
        accounts.mark_idle(key, start);
        accounts.forget_idle(start + IDLE_ACCOUNT_AGE / 2);
        assert_eq!(accounts.find("user1@example.org"), Some(key));
        accounts.get_mut(key).unwrap().used = start + IDLE_ACCOUNT_AGE / 2;
        accounts.forget_idle(start + IDLE_ACCOUNT_AGE);
        assert_eq!(accounts.find("user1@example.org"), Some(key), "it was used");
        accounts.forget_idle(start + IDLE_ACCOUNT_AGE * 2);
        assert_eq!(accounts.find("user1@example.org"), None);
        assert!(accounts.is_empty());
    }

    #[test]
    fn no_more_idle_accounts_than_the_bound_are_kept_however_many_come_at_once() {
        let mut accounts = Accounts::default();
        let now = Mono::from_millis(0);
        for n in 0..IDLE_ACCOUNTS_MAX + 100 {
            let key = accounts.insert(jid(n), Standing::Unknown, now);
            accounts.mark_idle(key, now);
        }
        accounts.forget_idle(now);
        assert_eq!(accounts.len(), IDLE_ACCOUNTS_MAX);
        assert_eq!(accounts.find("user99@example.org"), None);
        assert!(accounts.find("user100@example.org").is_some());
    }

    #[test]
    fn an_account_with_a_session_stays() {
        let mut accounts = Accounts::default();
        let start = Mono::from_millis(0);
        let key = accounts.insert(jid(1), Standing::Anonymous, start);
        accounts.mark_idle(key, start);
        let session = Slots::default().insert(());
        accounts.get_mut(key).unwrap().sessions.push(session);
        accounts.forget_idle(start + IDLE_ACCOUNT_AGE * 3);
        assert_eq!(accounts.len(), 1);
    }
}
