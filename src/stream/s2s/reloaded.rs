//! What a reload means for a stream that is open: its peer is judged again, by the new settings and
//! what is known of it on the stream.
//!
//! Who is refused now hears why. What cannot be told without asking the DNS again, or without another
//! proof, is not guessed: such a stream is closed without an error, and the next one is judged from the
//! beginning.

use super::proof::Judged;
use super::{Proof, Role, ServerStream, State};
use crate::stanza::{Condition, StreamCondition, StreamError};
use crate::stream::Context;
use crate::stream::dialback::{Answer, Checked, Pair, Unreached};
use crate::stream::policy::s2s::{Dialback, Means, Outcome, Reason, Verdict};

/// What the new settings say of a pair of domains that a stream is for.
enum Again {
    /// The peer is accepted, by this.
    Accepted(Means, Judged),
    /// That is decided on another stream.
    Unclear,
    /// The peer is refused.
    Refused(Verdict),
    /// The domain of ours is not served any more.
    Gone,
}

impl ServerStream {
    /// The settings are new. `is_elsewhere`: they have us dial the peer at another place.
    pub(super) fn reloaded(
        &mut self,
        state: State,
        is_elsewhere: bool,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        // Nothing can be said, and nothing is taken, before the header or the handshake that is due;
        // then it is made up for.
        if !matches!(state, State::Open | State::Authenticating) {
            return Ok(state);
        }
        self.judged_by = cx.settings.generation;
        let mut is_unclear = is_elsewhere && !self.proofs.is_empty();
        let pairs: Vec<Pair> = self.proofs.iter().map(|it| it.pair.clone()).collect();
        // Certificates count by what accepts them now.
        self.expiry = None;
        for pair in pairs {
            match self.judge_again(&pair, cx) {
                Some(Again::Accepted(means, judged)) => self.accept(&pair, means, &judged, cx),
                Some(Again::Unclear) => is_unclear = true,
                Some(Again::Refused(verdict)) => return Err(self.refuse_now(&pair, &verdict, cx)),
                Some(Again::Gone) => {
                    return Err(StreamError::new(
                        StreamCondition::HostGone,
                        "This server does not serve the domain any more",
                    ));
                }
                None => {}
            }
        }
        if is_unclear || !self.may_go_both_ways(cx) {
            return Ok(self.come_again(cx));
        }
        self.write_proven_pairs(cx);
        Ok(state)
    }

    /// The same for a stream that has not heard of a reload: it was on its way to another shard, or
    /// between two headers.
    pub(super) fn make_up_for_reload(
        &mut self,
        state: State,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        match self.proofs.is_empty() || self.judged_by == cx.settings.generation {
            true => Ok(state),
            false => self.reloaded(state, false, cx),
        }
    }

    fn judge_again(&self, pair: &Pair, cx: &Context<'_>) -> Option<Again> {
        let proof: &Proof = self.proofs.iter().find(|proof| proof.pair == *pair)?;
        let Some(local) = cx.settings.served(pair.local.as_str()) else {
            return Some(Again::Gone);
        };
        if cx.settings.served(pair.remote.as_str()).is_some() {
            return Some(Again::Unclear);
        }
        let dialback = match (proof.means, proof.exchange) {
            (Means::Dialback, Some(_)) => Dialback::Verified,
            _ => Dialback::NotTried,
        };
        let judged = self.judge(local, &pair.remote, dialback, cx);
        Some(match (judged.verdict.outcome, judged.verdict.reason) {
            (Outcome::Accept(means), _) => Again::Accepted(means, judged),
            (Outcome::NeedDialback, _) | (Outcome::Refuse, Reason::TlsaUnknown) => Again::Unclear,
            (Outcome::Refuse, _) => Again::Refused(judged.verdict),
        })
    }

    fn refuse_now(&mut self, pair: &Pair, verdict: &Verdict, cx: &mut Context<'_>) -> StreamError {
        self.tell_refusal(pair, verdict, cx);
        let text = verdict.reason.sentence(&pair.remote);
        if matches!(&self.role, Role::Dialled(dialled) if dialled.remote == pair.remote) {
            let condition = Condition::RemoteServerNotFound;
            self.failed(condition, text.as_str(), true, cx.actions);
        }
        StreamError::new(StreamCondition::PolicyViolation, text)
    }

    /// Whether stanzas may still flow in both directions, if they do.
    fn may_go_both_ways(&self, cx: &Context<'_>) -> bool {
        match &self.role {
            Role::Dialled(dialled) if self.is_bidirectional => {
                self.wants_bidirectional(&dialled.pair(), cx)
            }
            Role::Dialled(_) => true,
            Role::Accepted(_) => self.writes.iter().all(|pair| self.may_write(pair, cx)),
        }
    }

    /// Closes the stream without an error: what is still to be said is said on the next one.
    fn come_again(&mut self, cx: &mut Context<'_>) -> State {
        if self.is_authenticated() {
            let why = "the settings have changed, and the next one is judged by the new ones";
            return self.retire(why, cx);
        }
        let text = "the settings have changed while it was being dialled";
        self.give_up(Condition::RemoteServerTimeout, text, false, cx)
    }

    /// What came of asking about a key, if that is still what policy wants to know: it may want more
    /// by now, and the peer is to come again.
    pub(super) fn checked_now(&self, pair: &Pair, checked: Checked, cx: &Context<'_>) -> Checked {
        if checked != Checked::Answered(Answer::Valid) {
            return checked;
        }
        let local = cx.settings.served(pair.local.as_str());
        let outcome = local.map(|local| {
            let judged = self.judge(local, &pair.remote, Dialback::Verified, cx);
            judged.verdict.outcome
        });
        match outcome {
            Some(Outcome::Accept(_)) => checked,
            _ => Checked::Unreached(Unreached::Timeout),
        }
    }
}
