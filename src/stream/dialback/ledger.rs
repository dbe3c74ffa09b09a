//! Who has asked what on one stream, and so who may answer what (XEP-0220 §3.1).
//!
//! Each stream between servers has a ledger of its own, and nothing in it can be answered on another
//! stream. It keeps three lists:
//! - **claims**: pairs that the peer wants to prove here (we are the receiving server), from the key that
//!   it offers to its proof;
//! - **offers**: pairs that we want to prove here (we are the initiating server);
//! - **questions**: keys offered on other streams, about which the peer is asked here as the
//!   authoritative server.
//!
//! Requests for verification that the peer sends (we are the authoritative server) need no memory.
//!
//! The first proof on a stream that we accepted moves it to another shard, where no answer to what was
//! asked before would find it. So until a pair is proven one key is verified at a time, and the others
//! wait ([`Ledger::placed`]).
//!
//! An answer to nothing on these lists is `invalid-from` (RFC 6120 §4.9.3.9): its sender speaks for a
//! domain pair that nobody asked it about. Questions have a deadline, since a stream that is in use may
//! stand for days without an answer; claims end with the questions about them, and offers with the
//! stream at the latest.

use std::collections::VecDeque;

use super::{Answer, Body, Packet, Pair, Secret, Trouble};
use crate::clock::Mono;
use crate::jid::Domain;
use crate::limits::{
    DIALBACK_ANSWER_WAIT, DIALBACK_PAIRS_MAX, DIALBACK_PENDING_MAX, DIALBACK_QUESTIONS_MAX,
    DIALBACK_REFUSALS_MAX,
};
use crate::stanza::{Condition, StreamCondition, StreamError};

/// The ledger of one stream. `T` is how its owner finds the stream on which a key was offered: not by
/// its id, since that of a dialled stream is the peer's choice.
#[derive(Debug)]
pub struct Ledger<T> {
    id: String,
    dialled: Option<Domain>,
    is_bidirectional: bool,
    /// In the order of remote and local domain.
    claims: Vec<Claim>,
    refusals: usize,
    offers: Vec<Pair>,
    questions: Vec<Question<T>>,
    /// Questions that were given up, by pair and id, the oldest first: an answer that comes too late is
    /// no offense.
    given_up: VecDeque<(Pair, String)>,
}

#[derive(Debug)]
struct Claim {
    pair: Pair,
    state: ClaimState,
}

#[derive(Debug, PartialEq, Eq)]
enum ClaimState {
    /// A decision whether the key has to be verified is awaited.
    Offered(String),
    /// The authoritative server is being asked.
    Verifying,
    /// Stanzas may flow.
    Proven,
}

#[derive(Debug)]
struct Question<T> {
    pair: Pair,
    id: String,
    asker: T,
    /// When it is given up.
    due: Mono,
}

/// What a ledger asks of its stream. Carried out in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<T> {
    /// Send a packet on this stream.
    Send(Packet),
    /// The peer has offered a key: say by [`Ledger::rule`] what to do about it.
    Rule(Pair),
    /// Have a key verified on another stream, and tell by [`Ledger::verified`] what came of it.
    Verify {
        /// The pair that the key is to prove.
        pair: Pair,
        /// The id of this stream.
        id: String,
        /// The key.
        key: String,
    },
    /// The peer has proven a pair: its stanzas may flow.
    Proven(Pair),
    /// The authoritative server has denied the key: the log ought to say so (XEP-0220 §2.2.1).
    Denied(Pair),
    /// The peer has answered our offer; if it is valid, stanzas of ours may flow.
    Answered(Pair, Answer),
    /// The peer has answered a question; the stream that the key was offered on is to know.
    Tell(T, Answer),
    /// Answer the peer's request for verification, by [`Secret::answer`].
    Check {
        /// The pair.
        pair: Pair,
        /// The id of the request.
        id: String,
        /// The key.
        key: String,
    },
    /// Close the stream (XEP-0220 §2.2.1).
    Close,
    /// End the stream with an error.
    End(StreamError),
}

/// What is to be done about a key that the peer has offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The peer is proven without its key.
    Accept,
    /// The authoritative server is to be asked.
    Verify,
    /// The pair is refused: the domain is not served, or a policy is against it.
    Refuse(Trouble),
}

/// What came of asking the authoritative server.
#[derive(Debug, PartialEq, Eq)]
pub enum Checked {
    /// It has answered.
    Answered(Answer),
    /// It has not.
    Unreached(Unreached),
}

/// Why an authoritative server was not asked or has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// The DNS knows no server for the domain, or that server does not serve it.
    NotFound,
    /// It cannot be connected to, or has ended the stream, or was waited for too long.
    Timeout,
}

/// Why a question or an offer cannot be put on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHere {
    /// The stream does not lead to the domain: it was not dialled for it, nor has the peer proven it.
    LeadsElsewhere,
    /// The key was offered on this very stream (XEP-0288 §2.2).
    OfferedHere,
    /// The same is asked already.
    Asked,
    /// Too much waits for an answer.
    Full,
}

impl<T> Ledger<T> {
    /// The ledger of a stream that we accepted, with the id that we gave it.
    pub fn accepted(id: impl Into<String>) -> Ledger<T> {
        Ledger {
            id: id.into(),
            dialled: None,
            is_bidirectional: false,
            claims: Vec::new(),
            refusals: 0,
            offers: Vec::new(),
            questions: Vec::new(),
            given_up: VecDeque::new(),
        }
    }

    /// The ledger of a stream that we dialled for a domain, with the id that the peer gave it.
    pub fn dialled(id: impl Into<String>, remote: Domain) -> Ledger<T> {
        Ledger {
            dialled: Some(remote),
            ..Ledger::accepted(id)
        }
    }

    /// Both sides may send stanzas, and so prove domains, on this stream from now on (XEP-0288 §2.2).
    pub fn make_bidirectional(&mut self) {
        self.is_bidirectional = true;
    }

    /// Whether the peer has proven that it may send from the remote to the local domain.
    pub fn is_proven(&self, local: &str, remote: &str) -> bool {
        let found = self.find(local, remote).ok();
        found.is_some_and(|at| self.claims[at].state == ClaimState::Proven)
    }

    /// The pairs that the peer has proven.
    pub fn proven(&self) -> impl Iterator<Item = &Pair> {
        let claims = self.claims.iter();
        let proven = claims.filter(|claim| claim.state == ClaimState::Proven);
        proven.map(|claim| &claim.pair)
    }

    /// The peer has proven a pair without dialback: by SASL EXTERNAL.
    ///
    /// # Errors
    /// False if there is no place for another pair.
    pub fn prove(&mut self, pair: Pair) -> bool {
        match self.find(pair.local.as_str(), pair.remote.as_str()) {
            Ok(at) => self.claims[at].state = ClaimState::Proven,
            Err(_) if self.claims.len() >= DIALBACK_PAIRS_MAX => return false,
            Err(at) => {
                let state = ClaimState::Proven;
                self.claims.insert(at, Claim { pair, state });
            }
        }
        true
    }

    /// Takes a packet of the peer.
    ///
    /// # Errors
    /// `invalid-from` for an answer that nobody asked for here, `not-authorized` (RFC 6120 §4.9.3.12)
    /// for an offer against the direction of the stream, and for a key to be verified on the stream
    /// that it was offered on.
    pub fn receive(&mut self, packet: Packet) -> Result<Vec<Action<T>>, StreamError> {
        let pair = packet.pair();
        match packet.body {
            Body::Offer { key } => self.offered(pair, key),
            Body::Verify { id, .. } if id == self.id => Err(StreamError::new(
                StreamCondition::NotAuthorized,
                "A dialback key is not verified on the stream that it was offered on",
            )),
            Body::Verify { id, key } => Ok(vec![Action::Check { pair, id, key }]),
            Body::Verified { id, answer } => self.told(&pair, &id, answer),
            Body::Result(answer) => self.answered(pair, answer),
        }
    }

    fn offered(&mut self, pair: Pair, key: String) -> Result<Vec<Action<T>>, StreamError> {
        if self.dialled.is_some() && !self.is_bidirectional {
            return Err(StreamError::new(
                StreamCondition::NotAuthorized,
                "This stream carries stanzas in the other direction only",
            ));
        }
        let at = match self.find(pair.local.as_str(), pair.remote.as_str()) {
            Ok(at) if self.claims[at].state == ClaimState::Proven => {
                let valid = Body::Result(Answer::Valid);
                return Ok(vec![Action::Send(Packet::to_peer(pair, valid))]);
            }
            // One answer will do for both.
            Ok(_) => return Ok(Vec::new()),
            Err(at) => at,
        };
        let pending = self.claims.iter();
        let pending = pending.filter(|claim| claim.state != ClaimState::Proven);
        if self.claims.len() >= DIALBACK_PAIRS_MAX || pending.count() >= DIALBACK_PENDING_MAX {
            let text = "There are too many domains on this stream";
            let trouble = Trouble::new(Condition::ResourceConstraint, text);
            return Ok(self.refuse(pair, trouble));
        }
        let claim = Claim {
            pair: pair.clone(),
            state: ClaimState::Offered(key),
        };
        let waits = self.verifies_first();
        self.claims.insert(at, claim);
        Ok(match waits {
            true => Vec::new(),
            false => vec![Action::Rule(pair)],
        })
    }

    /// Whether a key is being verified that may be the first proof of a stream that we accepted.
    pub fn verifies_first(&self) -> bool {
        let mut claims = self.claims.iter();
        self.dialled.is_none()
            && self.proven().next().is_none()
            && claims.any(|claim| claim.state == ClaimState::Verifying)
    }

    /// The stream stands where it stays, and what has waited for that is to be decided.
    pub fn placed(&self) -> Vec<Action<T>> {
        self.offered_claims().collect()
    }

    /// After a refusal: the next key that a decision is due about.
    fn next_rule(&self) -> Option<Action<T>> {
        match self.verifies_first() {
            true => None,
            false => self.offered_claims().next(),
        }
    }

    fn offered_claims(&self) -> impl Iterator<Item = Action<T>> {
        let claims = self.claims.iter();
        let offered = claims.filter(|claim| matches!(claim.state, ClaimState::Offered(_)));
        offered.map(|claim| Action::Rule(claim.pair.clone()))
    }

    /// Decides about the key that [`Action::Rule`] was about. Nothing happens if it no longer waits.
    pub fn rule(&mut self, pair: &Pair, ruling: Ruling) -> Vec<Action<T>> {
        let Ok(at) = self.find(pair.local.as_str(), pair.remote.as_str()) else {
            return Vec::new();
        };
        let ClaimState::Offered(key) = &mut self.claims[at].state else {
            return Vec::new();
        };
        match ruling {
            Ruling::Accept => self.accept(at),
            Ruling::Refuse(trouble) => {
                let pair = self.claims.remove(at).pair;
                let mut actions = self.refuse(pair, trouble);
                actions.extend(self.next_rule());
                actions
            }
            Ruling::Verify => {
                let key = std::mem::take(key);
                self.claims[at].state = ClaimState::Verifying;
                vec![Action::Verify {
                    pair: pair.clone(),
                    id: self.id.clone(),
                    key,
                }]
            }
        }
    }

    /// Takes what came of asking the authoritative server. Dropped if it was not asked for this stream
    /// (XEP-0220 §2.1.2).
    pub fn verified(&mut self, pair: &Pair, checked: Checked) -> Vec<Action<T>> {
        let Ok(at) = self.find(pair.local.as_str(), pair.remote.as_str()) else {
            return Vec::new();
        };
        if self.claims[at].state != ClaimState::Verifying {
            return Vec::new();
        }
        if checked == Checked::Answered(Answer::Valid) {
            return self.accept(at);
        }
        let pair = self.claims.remove(at).pair;
        let mut actions = match checked {
            Checked::Answered(Answer::Valid | Answer::Invalid) => self.deny(pair),
            // XEP-0220 §2.5: the condition for whatever went wrong there.
            Checked::Answered(Answer::Error(_)) | Checked::Unreached(Unreached::NotFound) => {
                let text = "The authoritative server does not know the domain";
                self.refuse(pair, Trouble::new(Condition::RemoteServerNotFound, text))
            }
            // XEP-0220 §2.5 has `remote-connection-failed` for some of it, which RFC 6120 does not know
            // as a stanza error.
            Checked::Unreached(Unreached::Timeout) => {
                let text = "The authoritative server could not be asked, or has not answered";
                self.refuse(pair, Trouble::new(Condition::RemoteServerTimeout, text))
            }
        };
        actions.extend(self.next_rule());
        actions
    }

    fn accept(&mut self, at: usize) -> Vec<Action<T>> {
        let claim = &mut self.claims[at];
        claim.state = ClaimState::Proven;
        self.refusals = 0;
        let pair = claim.pair.clone();
        let valid = Packet::to_peer(pair.clone(), Body::Result(Answer::Valid));
        vec![Action::Proven(pair), Action::Send(valid)]
    }

    /// XEP-0220 §2.2.1: who has proven nothing here loses the stream, others the pair alone.
    fn deny(&mut self, pair: Pair) -> Vec<Action<T>> {
        let denied = Action::Denied(pair.clone());
        let mut actions = vec![denied];
        if self.proven().next().is_none() {
            let invalid = Packet::to_peer(pair, Body::Result(Answer::Invalid));
            actions.extend([Action::Send(invalid), Action::Close]);
        } else {
            let text = "The authoritative server says that the key is not its own";
            actions.extend(self.refuse(pair, Trouble::new(Condition::Forbidden, text)));
        }
        actions
    }

    fn refuse(&mut self, pair: Pair, trouble: Trouble) -> Vec<Action<T>> {
        let error = Packet::to_peer(pair, Body::Result(Answer::Error(trouble)));
        let mut actions = vec![Action::Send(error)];
        self.refusals += 1;
        if self.refusals >= DIALBACK_REFUSALS_MAX {
            let text = "Too many dialback requests in a row were refused";
            let error = StreamError::new(StreamCondition::PolicyViolation, text);
            actions.push(Action::End(error));
        }
        actions
    }

    /// Offers our key for a pair (XEP-0220 §2.1.1).
    ///
    /// # Errors
    /// [`NotHere`] if the peer is not the one to take it, or has it already.
    pub fn offer(&mut self, pair: Pair, secret: &Secret) -> Result<Packet, NotHere> {
        if !self.leads_to(&pair.remote) || (self.dialled.is_none() && !self.is_bidirectional) {
            return Err(NotHere::LeadsElsewhere);
        }
        if self.offers.contains(&pair) {
            return Err(NotHere::Asked);
        }
        let key = secret.key(&pair.remote, &pair.local, &self.id);
        self.offers.push(pair.clone());
        Ok(Packet::to_peer(pair, Body::Offer { key }))
    }

    fn answered(&mut self, pair: Pair, answer: Answer) -> Result<Vec<Action<T>>, StreamError> {
        let Some(at) = self.offers.iter().position(|offered| *offered == pair) else {
            return Err(unsolicited());
        };
        self.offers.swap_remove(at);
        Ok(vec![Action::Answered(pair, answer)])
    }

    /// Asks the peer about a key that was offered on another stream, which has that id
    /// (XEP-0220 §2.1.2).
    ///
    /// # Errors
    /// [`NotHere`] if the peer cannot be asked that on this stream.
    pub fn ask(
        &mut self,
        pair: Pair,
        id: &str,
        key: &str,
        asker: T,
        now: Mono,
    ) -> Result<Packet, NotHere> {
        if id == self.id {
            return Err(NotHere::OfferedHere);
        }
        if !self.leads_to(&pair.remote) {
            return Err(NotHere::LeadsElsewhere);
        }
        // Ids of dialled streams are the peers' choice: two streams may have the same, and then nobody
        // could tell whose answer it is.
        if self.question(&pair, id).is_some() {
            return Err(NotHere::Asked);
        }
        if self.questions.len() >= DIALBACK_QUESTIONS_MAX {
            return Err(NotHere::Full);
        }
        self.questions.push(Question {
            pair: pair.clone(),
            id: id.to_owned(),
            asker,
            due: now + DIALBACK_ANSWER_WAIT,
        });
        let (id, key) = (id.to_owned(), key.to_owned());
        Ok(Packet::to_peer(pair, Body::Verify { id, key }))
    }

    fn told(
        &mut self,
        pair: &Pair,
        id: &str,
        answer: Answer,
    ) -> Result<Vec<Action<T>>, StreamError> {
        if let Some(at) = self.question(pair, id) {
            let asker = self.questions.swap_remove(at).asker;
            return Ok(vec![Action::Tell(asker, answer)]);
        }
        let mut given_up = self.given_up.iter();
        match given_up.position(|(of, known)| of == pair && known == id) {
            Some(at) => {
                self.given_up.remove(at);
                Ok(Vec::new())
            }
            None => Err(unsolicited()),
        }
    }

    /// When [`Ledger::give_up`] has something to do.
    pub fn due(&self) -> Option<Mono> {
        self.questions.iter().map(|question| question.due).min()
    }

    /// Yields who has waited too long for a key to be verified: the operation has failed then
    /// (XEP-0220 §2.1.1). The question's place is free again.
    pub fn give_up(&mut self, now: Mono) -> Vec<T> {
        let overdue = self
            .questions
            .extract_if(.., |question| question.due <= now);
        let mut askers = Vec::new();
        for Question {
            pair, id, asker, ..
        } in overdue
        {
            if self.given_up.len() >= DIALBACK_QUESTIONS_MAX {
                self.given_up.pop_front();
            }
            self.given_up.push_back((pair, id));
            askers.push(asker);
        }
        askers
    }

    /// The stream has ended. Yields who waits for a key to be verified, which is to be treated as an
    /// error (XEP-0220 §2.1.2).
    pub fn end(self) -> Vec<T> {
        let questions = self.questions.into_iter();
        questions.map(|question| question.asker).collect()
    }

    /// Whether the peer speaks for a remote domain: we dialled to where the DNS says that it is, or it
    /// has proven the domain.
    fn leads_to(&self, remote: &Domain) -> bool {
        self.dialled.as_ref() == Some(remote) || self.proven().any(|pair| pair.remote == *remote)
    }

    fn question(&self, pair: &Pair, id: &str) -> Option<usize> {
        let is_it = |question: &Question<T>| question.pair == *pair && question.id == id;
        self.questions.iter().position(is_it)
    }

    fn find(&self, local: &str, remote: &str) -> Result<usize, usize> {
        self.claims.binary_search_by(|claim| {
            let remotes = claim.pair.remote.as_str().cmp(remote);
            remotes.then_with(|| claim.pair.local.as_str().cmp(local))
        })
    }
}

fn unsolicited() -> StreamError {
    StreamError::new(
        StreamCondition::InvalidFrom,
        "Nobody has asked for this dialback answer on this stream",
    )
}

#[cfg(test)]
mod tests;
