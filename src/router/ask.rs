//! Questions of the server to its clients: IQ requests from the domain to a session, and who waits for
//! the answer.

use crate::jid::Jid;
use crate::limits::ASKED_MAX;
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, Type};
use crate::xml::Payload;

/// Takes the answer: a result, or an error, of the session.
pub type AskThen = Box<dyn FnOnce(&mut Router, Key, &Stanza) + Send>;

/// A question that a session has not answered yet.
pub struct Asked {
    number: u32,
    then: AskThen,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({})", self.number)
    }
}

impl Router {
    /// Whether a session may be asked something. One that leaves too many questions unanswered is
    /// asked no more.
    pub fn may_ask(&self, session: Key) -> bool {
        let session = self.sessions.get(session);
        session.is_some_and(|session| session.asked.len() < ASKED_MAX)
    }

    /// Asks a session on behalf of its domain, if it may be asked. What is unanswered when it ends
    /// never will be.
    pub fn ask(&mut self, session: Key, payload: Payload, then: AskThen) {
        if !self.may_ask(session) {
            return;
        }
        let Some(asked) = self.sessions.get_mut(session) else {
            return;
        };
        asked.questions = asked.questions.wrapping_add(1);
        let number = asked.questions;
        asked.asked.push(Asked { number, then });
        let mut question = Stanza::new(Kind::Iq, Type::Get, payload);
        question.from = Some(asked.jid.bare().to_domain().to_jid());
        question.to = Some(asked.jid.to_jid());
        question.id = Some(id(number).into());
        self.write(session, &question);
    }

    /// Takes a result or an error that was sent to a domain, and ignores those that nobody waits for.
    pub(crate) fn take_answer(&mut self, stanza: &Stanza) {
        let from = stanza.from.as_ref();
        let Some(session) = from.and_then(|from| self.session_at(from)) else {
            return;
        };
        let Some(asked) = self.sessions.get_mut(session).map(|asked| &mut asked.asked) else {
            return;
        };
        let waits = |asked: &Asked| stanza.id.as_deref() == Some(id(asked.number).as_str());
        if let Some(index) = asked.iter().position(waits) {
            let Asked { then, .. } = asked.remove(index);
            then(self, session, stanza);
        }
    }

    /// The session of this shard that has that full JID.
    pub(crate) fn session_at(&self, jid: &Jid) -> Option<Key> {
        let account = self.accounts.find(jid.bare_str())?;
        self.session_of(account, jid.resource()?)
    }
}

fn id(number: u32) -> String {
    format!("ask-{number}")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::router::testing::{Seat, Site};
    use crate::xml::Element;

    fn ask(site: &mut Site, seat: Seat) -> Arc<Mutex<Vec<Type>>> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let question = Payload::from_elements(&[Element::new("urn:example:q", "q")]);
        let then: AskThen = Box::new(move |_, _, answer| hears.lock().unwrap().push(answer.type_));
        site.router.ask(seat.session, question, then);
        heard
    }

    fn answer(id: &str, to: &str, type_: Type) -> Stanza {
        let mut answer = Stanza::new(Kind::Iq, type_, Payload::empty());
        answer.id = Some(id.into());
        answer.to = Some(Jid::parse(to).unwrap());
        answer
    }

    #[test]
    fn only_the_session_that_was_asked_answers_and_once() {
        let mut site = Site::new(&[]);
        let juliet = site.bind("juliet@example.org", "balcony", None);
        let romeo = site.bind("romeo@example.org", "orchard", None);
        let heard = ask(&mut site, juliet);
        let question = site.take(juliet);
        assert!(
            question
                .starts_with("<iq from='example.org' to='juliet@example.org/balcony' id='ask-1'")
        );
        for (from, id) in [(romeo, "ask-1"), (juliet, "ask-2")] {
            site.send(from, answer(id, "example.org", Type::Result));
            assert!(heard.lock().unwrap().is_empty());
        }
        for _ in 0..2 {
            site.send(juliet, answer("ask-1", "example.org", Type::Result));
        }
        assert_eq!(*heard.lock().unwrap(), [Type::Result]);
        assert_eq!((site.open(juliet), site.open(romeo)), (0, 0));
    }

    #[test]
    fn a_client_that_does_not_answer_is_asked_no_more() {
        let mut site = Site::new(&[]);
        let juliet = site.bind("juliet@example.org", "balcony", None);
        for _ in 0..ASKED_MAX + 3 {
            ask(&mut site, juliet);
        }
        assert_eq!(site.take(juliet).matches("<iq ").count(), ASKED_MAX);
    }
}
