//! Several clients of one server, heard so that nothing is missed and nothing is waited for in vain.

use std::collections::VecDeque;

use stanzad::xml::Element;

use super::client::{Client, Heard};
use super::server::{PASSWORD, Server};

/// How far an effect can go on: from one account to another, back, and to the first one's contacts.
const HOPS: usize = 3;

/// How often one asks whether something has come after all.
const ROUNDS: usize = 50;

/// The namespace of the requests that [`Cast::hush`] sends, which no server knows.
const HUSH: &str = "urn:example:hush";

/// The clients of a dialog, by full JID.
pub struct Cast<'a> {
    server: &'a Server,
    /// The bare JIDs whose accounts a stanza may reach, with clients or without.
    accounts: Vec<String>,
    actors: Vec<Actor>,
}

struct Actor {
    jid: String,
    client: Client,
    heard: VecDeque<Element>,
}

impl<'a> Cast<'a> {
    /// Nobody yet; `accounts` are all bare JIDs of the play.
    pub fn new(server: &'a Server, accounts: &[&str]) -> Cast<'a> {
        Cast {
            server,
            accounts: accounts.iter().map(|jid| (*jid).to_owned()).collect(),
            actors: Vec::new(),
        }
    }

    /// Logs in and binds a resource; gives the features of the last stream. Nothing is asked for
    /// and no presence is sent.
    pub fn enter(&mut self, jid: &str) -> Element {
        let (bare, resource) = jid.split_once('/').expect("a full JID");
        let (user, domain) = bare.split_once('@').expect("the JID of an account");
        let mut client = Client::connect(self.server);
        client.secure(domain);
        client.scram("SCRAM-SHA-256", user, PASSWORD).unwrap();
        let features = client.open(domain);
        client.bind(Some(resource));
        self.actors.push(Actor {
            jid: jid.to_owned(),
            client,
            heard: VecDeque::new(),
        });
        self.hush();
        features
    }

    /// Like [`Cast::enter`], and asks for the roster: an interested resource (RFC 6121 §2.2).
    pub fn enter_interested(&mut self, jid: &str) {
        self.enter(jid);
        self.take_roster(jid);
    }

    /// Like [`Cast::enter_interested`], and sends presence. What that brings is forgotten.
    pub fn enter_available(&mut self, jid: &str) {
        self.enter_interested(jid);
        self.send(jid, "<presence/>");
        self.forget();
    }

    /// Asks for the roster, and gives the result; what else was heard is kept.
    pub fn take_roster(&mut self, jid: &str) -> Element {
        let id = "take-roster";
        self.send(
            jid,
            format!("<iq type='get' id='{id}'><query xmlns='jabber:iq:roster'/></iq>"),
        );
        let heard = &mut self.actor(jid).heard;
        let is_answer = |element: &Element| {
            element.name == "iq"
                && element.attribute("id") == Some(id)
                && element.attribute("type") != Some("set")
        };
        let at = heard.iter().position(is_answer);
        heard.remove(at.expect("the roster came")).unwrap()
    }

    /// Sends, and waits until everybody has what it brings about.
    pub fn send(&mut self, jid: &str, stanzas: impl AsRef<[u8]>) {
        self.actor(jid).client.send(stanzas);
        self.hush();
    }

    /// Ends a stream in an orderly way and waits until everybody knows.
    pub fn leave(&mut self, jid: &str) {
        let mut client = self.remove(jid);
        client.send("</stream:stream>");
        while !matches!(client.hear(), Heard::End) {}
        self.until_gone(jid);
    }

    /// Cuts a connection with no word and waits until everybody knows.
    pub fn cut(&mut self, jid: &str) {
        drop(self.remove(jid));
        self.until_gone(jid);
    }

    /// The stanza that came next to a client. What a commit holds back may come late; None if
    /// nothing comes in many round trips.
    pub fn next(&mut self, jid: &str) -> Option<Element> {
        for _ in 0..ROUNDS {
            if let Some(element) = self.actor(jid).heard.pop_front() {
                return Some(element);
            }
            self.hush();
        }
        None
    }

    /// All that a client has heard and nobody has looked at yet.
    pub fn heard(&mut self, jid: &str) -> Vec<Element> {
        self.actor(jid).heard.drain(..).collect()
    }

    /// All that anybody has heard is of no interest.
    pub fn forget(&mut self) {
        for actor in &mut self.actors {
            actor.heard.clear();
        }
    }

    /// The full JIDs that are connected.
    pub fn names(&self) -> Vec<String> {
        self.actors.iter().map(|actor| actor.jid.clone()).collect()
    }

    /// Waits until every effect of what was sent has come to everybody: each client asks each
    /// account something that only its shard can refuse. Requests and answers go the way of all
    /// stanzas, behind what was sent before.
    pub fn hush(&mut self) {
        for hop in 0..HOPS {
            for actor in &mut self.actors {
                for account in &self.accounts {
                    actor.client.send(format!(
                        "<iq type='get' id='hush-{hop}' to='{account}'><x xmlns='{HUSH}'/></iq>"
                    ));
                }
            }
            for actor in &mut self.actors {
                let mut open = self.accounts.len();
                while open > 0 {
                    let element = actor.client.element();
                    if is_hush(&element, hop) {
                        open -= 1;
                    } else {
                        actor.heard.push_back(element);
                    }
                }
            }
        }
    }

    fn until_gone(&mut self, jid: &str) {
        while !self.server.sessions(Some(jid)).is_empty() {}
        self.hush();
    }

    fn actor(&mut self, jid: &str) -> &mut Actor {
        let found = self.actors.iter_mut().find(|actor| actor.jid == jid);
        found.unwrap_or_else(|| panic!("{jid} is not connected"))
    }

    fn remove(&mut self, jid: &str) -> Client {
        let at = self.actors.iter().position(|actor| actor.jid == jid);
        let at = at.unwrap_or_else(|| panic!("{jid} is not connected"));
        self.actors.remove(at).client
    }
}

fn is_hush(element: &Element, hop: usize) -> bool {
    element.name == "iq" && element.attribute("id") == Some(&*format!("hush-{hop}"))
}
