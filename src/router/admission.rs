//! Letting proven identities in, binding their resources, and ending their sessions.

use crate::config::ResourceConflict;
use crate::jid::{BareJid, FullJid};
use crate::limits::BROADCASTS_MAX;
use crate::router::Router;
use crate::router::account::{Proof, Standing, Waiting};
use crate::router::effects::Refusal;
use crate::router::feature::SessionEvent;
use crate::router::loading::Tier;
use crate::router::roster::Roster;
use crate::router::session::{Session, SessionOrigin};
use crate::router::settlement::Unsettled;
use crate::slots::Key;
use crate::stanza::{Condition, StanzaError};
use crate::stanza::{StreamCondition, StreamError};
use crate::storage::StoreError;

impl Router {
    /// Checks again, on the shard that owns the account, that a proven identity may come in: that it
    /// exists, is enabled and has the credentials that were proven (`Who owns what` in lib.rs). The
    /// answer comes in [`Effects::admitted`](crate::router::effects::Effects::admitted), at once or
    /// after a load.
    pub fn admit(&mut self, conn: Key, jid: &BareJid, proof: Proof) {
        if proof == Proof::Anonymous {
            self.admit_anonymous(conn, jid);
            return;
        }
        let Some(key) = self.account_for(jid.as_str(), Tier::Session) else {
            self.out.admitted.push((conn, Err(Refusal::Changed)));
            return;
        };
        match self.accounts.get_mut(key) {
            Some(account) if account.is_busy() => account.admissions.push((conn, proof)),
            _ => self.decide_admission(key, conn, proof),
        }
    }

    fn admit_anonymous(&mut self, conn: Key, jid: &BareJid) {
        // The name is random; that somebody has it already is as unlikely as a guessed key.
        if self.accounts.find(jid.as_str()).is_some() {
            self.out.admitted.push((conn, Err(Refusal::Unavailable)));
            return;
        }
        let key = self
            .accounts
            .insert(jid.clone(), Standing::Anonymous, self.now.mono);
        if let Some(account) = self.accounts.get_mut(key) {
            account.roster = Some(Roster::default());
            account.admitted.push(conn);
        }
        self.out.admitted.push((conn, Ok(())));
    }

    fn decide_admission(&mut self, key: Key, conn: Key, proof: Proof) {
        let verdict = self.judge(key, proof);
        if let (Ok(()), Some(account)) = (&verdict, self.accounts.get_mut(key)) {
            account.admitted.push(conn);
        }
        self.out.admitted.push((conn, verdict));
        self.accounts.mark_idle(key, self.now.mono);
    }

    /// Whether what a login has proven still lets it into the account.
    fn judge(&self, account: Key, proof: Proof) -> Result<(), Refusal> {
        match self.accounts.get(account) {
            Some(account) => account.standing.admits(proof),
            None => Err(Refusal::Changed),
        }
    }

    pub(crate) fn load_failed(&mut self, key: Key, error: &StoreError) {
        let Some(mut account) = self.accounts.remove(key) else {
            return;
        };
        for (conn, _) in std::mem::take(&mut account.admissions) {
            self.out.admitted.push((conn, Err(Refusal::Unavailable)));
        }
        for command in std::mem::take(&mut account.commands) {
            command.fail(error.clone());
        }
        while let Some(waiting) = account.inbox.pop() {
            let (Waiting::Inbound(routed) | Waiting::Outbound(_, routed)) = waiting;
            match routed.handoff {
                // Its sender's change is made already; without the recipient's the two would differ.
                Some(_) => self.postpone(routed),
                None => self.reject(routed, error.clone().into()),
            }
        }
    }

    /// Binds a resource for an admitted connection (RFC 6120 §7). The resourcepart is prepared;
    /// whether it was asked for or made by the server is the caller's.
    ///
    /// # Errors
    /// `conflict` if the resource is taken and the domain refuses to replace; `resource-constraint`
    /// if the account has too many; `not-allowed`, and then the end of the stream, if what the
    /// login has proven does not hold any more: the account was changed since its `<success/>`.
    pub fn bind(
        &mut self,
        conn: Key,
        jid: &BareJid,
        resource: &str,
        proof: Proof,
        origin: SessionOrigin,
    ) -> Result<(Key, FullJid), StanzaError> {
        let full = jid
            .with_resource(resource)
            .map_err(|_| StanzaError::new(Condition::BadRequest))?;
        let account_key = self
            .accounts
            .find(jid.as_str())
            .filter(|key| self.judge(*key, proof).is_ok())
            // A reload may have taken the domain away.
            .filter(|_| self.domain(jid.domain()).is_some())
            .ok_or_else(|| self.no_longer_proven(conn))?;
        let taken = self.session_of(account_key, resource);
        if let Some(taken) = taken {
            let is_refused = self
                .domain(jid.domain())
                .is_some_and(|domain| domain.c2s.resource_conflict == ResourceConflict::Refuse);
            if is_refused {
                return Err(
                    StanzaError::new(Condition::Conflict).text("Another session has this resource")
                );
            }
            self.end_session(
                taken,
                StreamError::new(
                    StreamCondition::Conflict,
                    "Another client has bound this resource",
                ),
            );
        }
        let resources_max = self.settings.limits.resources_per_account_max as usize;
        let account = self
            .accounts
            .get_mut(account_key)
            .ok_or_else(|| StanzaError::new(Condition::InternalServerError))?;
        if account.sessions.len() >= resources_max {
            return Err(StanzaError::new(Condition::ResourceConstraint)
                .text("This account has too many sessions; end another one first"));
        }
        if account.broadcasts >= BROADCASTS_MAX {
            return Err(StanzaError::new(Condition::ResourceConstraint)
                .text("The contacts of this account are still being told; try again soon"));
        }
        let session = self.sessions.insert(Session {
            jid: full.clone(),
            account: account_key,
            conn,
            presence: None,
            unsettled: Unsettled::default(),
            holds: 0,
            is_interested: false,
            directed: Vec::new(),
            capabilities: None,
            asked_caps: None,
            asked: Vec::new(),
            questions: 0,
            origin: Box::new(origin),
        });
        account.sessions.push(session);
        account.admitted.retain(|other| *other != conn);
        account.used = self.now.mono;
        Ok((session, full))
    }

    /// An operator's change ends sessions; a login that has none yet ends where it would get one.
    fn no_longer_proven(&mut self, conn: Key) -> StanzaError {
        let error = StreamError::new(
            StreamCondition::Reset,
            "The account was changed during the login; log in again",
        );
        self.out.ends.push((conn, error));
        StanzaError::new(Condition::NotAllowed)
    }

    /// The session of an account that has bound a resource.
    pub fn session_of(&self, account: Key, resource: &str) -> Option<Key> {
        let account = self.accounts.get(account)?;
        account.sessions.iter().copied().find(|key| {
            self.sessions
                .get(*key)
                .is_some_and(|session| session.jid.resource() == resource)
        })
    }

    /// Ends a session and its stream with an error.
    pub fn end_session(&mut self, session: Key, error: StreamError) {
        if let Some(conn) = self.sessions.get(session).map(|session| session.conn) {
            self.out.ends.push((conn, error));
            self.session_closed(session);
        }
    }

    /// Ends all sessions of an account and tells how many they were.
    pub(crate) fn end_sessions(&mut self, account: Key, error: &StreamError) -> u64 {
        let sessions = match self.accounts.get(account) {
            Some(account) => account.sessions.clone(),
            None => return 0,
        };
        let count = sessions.len() as u64;
        for session in sessions {
            self.end_session(session, error.clone());
        }
        count
    }

    /// Forgets a session whose stream has ended.
    pub fn session_closed(&mut self, key: Key) {
        let Some(account) = self.sessions.get(key).map(|session| session.account) else {
            return;
        };
        if let Some(account) = self.accounts.get_mut(account) {
            account.sessions.retain(|other| *other != key);
        }
        self.session_event(SessionEvent::Ended, key);
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(session.account) else {
            return;
        };
        account.used = self.now.mono;
        let key_of_account = session.account;
        match &mut account.standing {
            Standing::Anonymous if account.sessions.is_empty() => {
                self.accounts.remove(key_of_account);
            }
            Standing::Known(record) => {
                record.last_seen = Some(self.now.wall);
                self.seen(session.jid.bare());
            }
            _ => {}
        }
        self.presence_ended(key, session);
        self.accounts.mark_idle(key_of_account, self.now.mono);
    }

    /// Forgets a connection that was let in, or waited for it, and ended before it bound a resource.
    pub fn admission_ended(&mut self, conn: Key, jid: &BareJid) {
        let Some(key) = self.accounts.find(jid.as_str()) else {
            return;
        };
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        account.admissions.retain(|(other, _)| *other != conn);
        account.admitted.retain(|other| *other != conn);
        if matches!(account.standing, Standing::Anonymous) && account.sessions.is_empty() {
            self.accounts.remove(key);
        } else {
            self.accounts.mark_idle(key, self.now.mono);
        }
    }

    /// Whether a session's connection is to be left unread for now (`Backpressure` in lib.rs).
    pub fn holds_reading(&self, session: Key) -> bool {
        self.sessions
            .get(session)
            .is_some_and(Session::holds_reading)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::clock::Wall;
    use crate::limits::IDLE_ACCOUNT_AGE;
    use crate::sasl::Mechanism;
    use crate::slots::Slots;
    use crate::storage::accounts::AccountRecord;

    fn router() -> Router {
        crate::router::testing::Site::new(&[]).router
    }

    fn known(generation: u64) -> Standing {
        Standing::Known(AccountRecord {
            id: 1,
            enabled: true,
            generation,
            created: Wall::default(),
            last_seen: None,
        })
    }

    fn origin() -> SessionOrigin {
        SessionOrigin {
            address: SocketAddr::from(([127, 0, 0, 1], 5222)),
            since: Wall::default(),
            tls: None,
            mechanism: Mechanism::Plain,
            stream: 1,
        }
    }

    /// Issue 3: passwd, disable and delete fail logins in flight. Found by `tests/simulation.rs`.
    #[test]
    fn a_login_that_was_let_in_before_a_change_binds_nothing_after_it() {
        let mut router = router();
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let account = router
            .accounts
            .insert(juliet.clone(), known(1), router.now.mono);
        router.accounts.get_mut(account).unwrap().roster = Some(Roster::default());
        let conn = Slots::default().insert(());
        let proof = Proof::Credentials(1);
        router.admit(conn, &juliet, proof);
        assert_eq!(router.out.admitted, [(conn, Ok(()))]);
        router.accounts.get_mut(account).unwrap().standing = known(2);
        let refused = router
            .bind(conn, &juliet, "balcony", proof, origin())
            .unwrap_err();
        assert_eq!(refused.condition, Condition::NotAllowed);
        assert_eq!(router.out.ends.len(), 1, "the stream ends, too");
        assert!(router.sessions.is_empty());
        let proof = Proof::Credentials(2);
        router
            .bind(conn, &juliet, "balcony", proof, origin())
            .unwrap();
    }

    /// A slow client binds as long as its time for the login lasts, however many accounts come and
    /// go meanwhile.
    #[test]
    fn an_account_stays_in_memory_from_the_admission_to_the_bind_or_the_end() {
        let mut router = router();
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let start = router.now.mono;
        let account = router.accounts.insert(juliet.clone(), known(1), start);
        router.accounts.get_mut(account).unwrap().roster = Some(Roster::default());
        let mut conns = Slots::default();
        let (binds, leaves) = (conns.insert(()), conns.insert(()));
        let proof = Proof::Credentials(1);
        router.admit(binds, &juliet, proof);
        router.admit(leaves, &juliet, proof);
        let late = start + IDLE_ACCOUNT_AGE * 3;
        router.accounts.forget_idle(late);
        let (session, _) = router
            .bind(binds, &juliet, "balcony", proof, origin())
            .unwrap();
        router.session_closed(session);
        router.accounts.forget_idle(late);
        assert!(router.accounts.get(account).is_some());
        router.now.mono = late;
        router.admission_ended(leaves, &juliet);
        router.accounts.forget_idle(late + IDLE_ACCOUNT_AGE);
        assert!(router.accounts.get(account).is_none(), "nobody needs it");
    }

    #[test]
    fn a_connection_that_ends_before_it_is_let_in_holds_nothing() {
        let mut router = router();
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        let account = router
            .accounts
            .insert(juliet.clone(), known(1), router.now.mono);
        router.accounts.get_mut(account).unwrap().is_changing = true;
        let conn = Slots::default().insert(());
        router.admit(conn, &juliet, Proof::Credentials(1));
        router.admission_ended(conn, &juliet);
        let account = router.accounts.get(account).unwrap();
        assert!(account.admissions.is_empty() && account.admitted.is_empty());
    }
}
