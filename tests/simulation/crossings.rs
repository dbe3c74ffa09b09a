//! What each server has written for the other one, stanza by stanza, and how far each has come. By this it is
//! judged what a break may have cost: no stanza gets lost, comes twice or is passed by another one but
//! where its own way explains that.
//!
//! What a server sends is acknowledged, on a stream that it has opened by counting (XEP-0198 §4), and on one
//! that the other server has opened by the answers to pings (XEP-0199 §4.3). So of what a break leaves
//! unread nothing is lost: messages, presence and answers are sent again, requests go back. What
//! may be lost all the same is named where it is excused, in [`World::is_answer_lost`] and
//! [`World::is_excused_loss`].

use std::collections::HashMap;

use crate::servers::DOMAINS;
use crate::world::World;

/// Cuts what is written into stanzas, by the tags of them.
#[derive(Default)]
pub struct Scanner {
    /// How much was looked at.
    position: u64,
    /// A tag that has begun.
    tag: Option<Vec<u8>>,
    /// The start tag of the stanza that has begun.
    open: Option<String>,
    /// The end of the stream was found.
    is_ended: bool,
    found: Vec<Found>,
}

/// A stanza that was found.
struct Found {
    tag: String,
    /// Behind its last byte.
    until: u64,
}

/// A stanza that a server has written.
struct Crossing {
    end: usize,
    at: u64,
    until: u64,
    /// Its start tag, which is the same when it is sent again.
    tag: String,
}

/// All of them, and what became of the servers meanwhile.
#[derive(Default)]
pub struct Crossings {
    all: Vec<Crossing>,
    /// Those of an id, since every client's stanzas have ids of their own.
    by_id: HashMap<String, Vec<usize>>,
    /// When a server was last killed.
    killed_at: [Option<u64>; DOMAINS.len()],
    /// When its link was last known to rest: it has tried in vain to make a stream, and given back what
    /// does not wait for the next try (RFC 6120 §10.4).
    rested_at: [Option<u64>; DOMAINS.len()],
}

impl Scanner {
    /// Looks at what is to be written next; `at` is where it begins. Some of it may be known already.
    pub fn look(&mut self, at: u64, bytes: &[u8]) {
        let known = (self.position - at) as usize;
        let mut rest = bytes.get(known..).unwrap_or_default();
        self.position += rest.len() as u64;
        while !rest.is_empty() {
            let Some(tag) = &mut self.tag else {
                let Some(start) = rest.iter().position(|byte| *byte == b'<') else {
                    return;
                };
                self.tag = Some(Vec::new());
                rest = &rest[start..];
                continue;
            };
            let Some(last) = rest.iter().position(|byte| *byte == b'>') else {
                tag.extend_from_slice(rest);
                return;
            };
            tag.extend_from_slice(&rest[..=last]);
            rest = &rest[last + 1..];
            self.tag_ends(rest.len());
        }
    }

    fn tag_ends(&mut self, left: usize) {
        let tag = String::from_utf8(self.tag.take().unwrap_or_default()).unwrap();
        let is_whole = match &self.open {
            Some(open) => {
                let name = kind(open);
                tag.strip_prefix("</")
                    .and_then(|rest| rest.strip_suffix('>'))
                    == Some(name)
            }
            None if ["message", "presence", "iq"].contains(&kind(&tag)) => {
                let is_whole = tag.ends_with("/>");
                self.open = Some(tag);
                is_whole
            }
            None => {
                self.is_ended |= tag == "</stream:stream>";
                false
            }
        };
        if is_whole && let Some(tag) = self.open.take() {
            let until = self.position - left as u64;
            self.found.push(Found { tag, until });
        }
    }
}

/// The name in a start tag.
fn kind(tag: &str) -> &str {
    let name = tag.trim_start_matches('<');
    let end = name.find([' ', '/', '>']).unwrap_or(name.len());
    &name[..end]
}

/// An attribute of a start tag, as the server writes it.
fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    let value = tag.split_once(&format!(" {name}='"));
    value.map_or("", |(_, rest)| rest.split('\'').next().unwrap_or_default())
}

/// The account in an attribute.
fn account<'a>(tag: &'a str, name: &str) -> &'a str {
    attribute(tag, name).split('/').next().unwrap_or_default()
}

impl Crossing {
    fn kind(&self) -> &str {
        kind(&self.tag)
    }

    fn type_(&self) -> &str {
        attribute(&self.tag, "type")
    }

    /// Whether it answers another stanza that has its id.
    fn is_answer(&self) -> bool {
        matches!(self.type_(), "error" | "result")
    }

    /// Whether it is between the servers themselves.
    fn is_of_servers(&self) -> bool {
        let ends = [attribute(&self.tag, "from"), attribute(&self.tag, "to")];
        ends.iter().all(|end| DOMAINS.contains(end))
    }

    fn is_request(&self) -> bool {
        self.kind() == "iq" && !self.is_answer()
    }
}

impl Crossings {
    /// A server is killed.
    pub fn killed(&mut self, server: usize, now: u64) {
        self.killed_at[server] = Some(now);
    }

    /// A server's link rests.
    pub fn rests(&mut self, server: usize, now: u64) {
        self.rested_at[server] = Some(now);
    }

    /// Whether a server was killed then or later.
    pub fn is_killed_since(&self, server: usize, since: u64) -> bool {
        self.killed_at[server] >= Some(since)
    }

    fn of(&self, id: &str, is_answer: bool) -> impl Iterator<Item = &Crossing> {
        let found = self.by_id.get(id).into_iter().flatten();
        let found = found.map(|index| &self.all[*index]);
        found.filter(move |crossing| crossing.is_answer() == is_answer)
    }
}

impl World {
    /// Notes what was written at an end.
    pub fn note_crossings(&mut self, end: usize) {
        let found = std::mem::take(&mut self.ends[end].wire.ends().offered.found);
        for Found { tag, until } in found {
            let crossings = &mut self.crossings;
            let id = attribute(&tag, "id");
            if !id.is_empty() {
                let of_id = crossings.by_id.entry(id.to_owned()).or_default();
                of_id.push(crossings.all.len());
            }
            crossings.all.push(Crossing {
                end,
                at: self.now,
                until,
                tag,
            });
        }
    }

    fn has_arrived(&self, crossing: &Crossing) -> bool {
        let other = self.ends[crossing.end].other;
        self.ends[other].wire.ends().read >= crossing.until
    }

    /// Whether the connection has ended by which a stanza went, well or not, or one of its streams.
    fn is_over(&self, crossing: &Crossing) -> bool {
        let end = &self.ends[crossing.end];
        [end, &self.ends[end.other]].iter().any(|end| {
            let ends = end.wire.ends();
            end.is_cut || ends.is_over() || ends.offered.is_ended
        })
    }

    /// Whether it has ended so that something may not have arrived.
    fn is_broken(&self, crossing: &Crossing) -> bool {
        let end = &self.ends[crossing.end];
        end.is_broken() || self.ends[end.other].is_broken()
    }

    fn is_lost(&self, crossing: &Crossing) -> bool {
        !self.has_arrived(crossing) && self.is_broken(crossing)
    }

    /// How many stanzas were written at an end.
    pub fn count_written(&self, end: usize) -> usize {
        let all = self.crossings.all.iter();
        all.filter(|crossing| crossing.end == end).count()
    }

    // --- what a break may do to a stanza of a client

    /// How often a stanza has gone to the other server: more than once, if it may not have arrived.
    pub fn times_sent(&self, id: &str) -> usize {
        self.crossings.of(id, false).count()
    }

    /// The same for one that goes to many, of those to one account.
    pub fn times_sent_to(&self, id: &str, to: &str) -> usize {
        let all = self.crossings.of(id, false);
        all.filter(|crossing| account(&crossing.tag, "to") == to)
            .count()
    }

    /// Whether a later stanza may have come before it: it went by a connection that has ended, and
    /// again by another one, or its last bytes came when the next connection had come to something.
    pub fn may_be_overtaken(&self, id: &str) -> bool {
        self.crossings.of(id, false).any(|it| self.is_over(it))
    }

    /// How many answers a request may get. One is made by its own server, if the connection ends before it
    /// was acknowledged; and an answer is sent again like all but requests.
    pub fn answers_max(&self, id: &str) -> usize {
        let returned = self.crossings.of(id, false);
        let returned = returned.filter(|it| it.is_request() && self.is_over(it));
        let answered = self.crossings.of(id, true).count();
        (returned.count() + answered).max(1)
    }

    /// How often a stanza that is no request may have gone back since it was not acknowledged: the other server
    /// had it, and perhaps answered it, but the next try to reach that came to nothing.
    pub fn times_gone_back(&self, id: &str, own: usize) -> usize {
        let sent = self.crossings.of(id, false);
        sent.filter(|it| !it.is_request() && self.is_over(it) && self.is_dropped_since(own, it.at))
            .count()
    }

    /// Whether nobody knows what became of a request: it was sent on a connection that ended before it was
    /// acknowledged, perhaps well, since nobody had needed it for long. It is not sent twice, but goes back.
    pub fn may_be_unknown(&self, id: &str) -> bool {
        let mut sent = self.crossings.of(id, false);
        sent.any(|it| it.is_request() && self.is_over(it))
    }

    /// Whether the answer of the other server to a stanza may have been lost, be it an error.
    pub fn is_answer_lost(&self, id: &str, own: usize) -> bool {
        let Some(asked) = self.crossings.of(id, false).last() else {
            return false;
        };
        let other = 1 - own;
        match self.crossings.of(id, true).last() {
            // It was killed before it could say anything.
            _ if self.crossings.is_killed_since(other, asked.at) => true,
            Some(answer) => self.is_lost(answer) && self.is_dropped_since(other, answer.at),
            None => self.is_dropped_since(other, asked.at),
        }
    }

    /// Whether a server may have dropped since then what goes back if it is not sent at once. Nobody answers
    /// an answer (RFC 6120 §8.3.1, §8.2.3), so it ends there.
    fn is_dropped_since(&self, server: usize, since: u64) -> bool {
        self.crossings.rested_at[server] >= Some(since)
    }

    /// Whether the link of a sender may have given back then or later what it was sent at that time: it broke,
    /// or still rested since it had.
    pub fn may_go_back(&self, sender: &str, sent_at: u64) -> bool {
        self.links.is_broken_since(sent_at)
            || self.is_dropped_since(self.server_of(sender), sent_at)
    }

    /// Whether presence between two accounts may have got lost since then: probes, what they are answered,
    /// or what was broadcast. Nobody sends it again (RFC 6121 §4.3.1: the next probe makes up for it).
    pub fn may_have_missed(&self, one: &str, other: &str, since: u64) -> bool {
        let servers = [0, 1].into_iter();
        let is_dropped = |server| {
            self.is_dropped_since(server, since) || self.crossings.is_killed_since(server, since)
        };
        let is_theirs = |crossing: &&Crossing| {
            let pair = [account(&crossing.tag, "from"), account(&crossing.tag, "to")];
            crossing.at >= since
                && crossing.kind() == "presence"
                && (pair == [one, other] || pair == [other, one])
        };
        let mut all = self.crossings.all.iter().filter(is_theirs);
        servers.into_iter().any(is_dropped) || all.any(|it| self.is_lost(it))
    }

    // --- at rest

    /// Nothing that a server has written for the other one is gone without a trace, and no request was made
    /// twice.
    pub fn check_crossings(&mut self) {
        let (mut wrong, mut excused) = (Vec::new(), 0);
        let mut last: HashMap<(usize, &str), usize> = HashMap::new();
        for (index, crossing) in self.crossings.all.iter().enumerate() {
            let server = self.ends[crossing.end].server.unwrap_or_default();
            let before = last.insert((server, &crossing.tag), index);
            let has_id = !attribute(&crossing.tag, "id").is_empty();
            // Pings between servers are numbered anew by a server that starts with the key of the last one,
            // as it does here.
            let is_of_client = crossing.is_request() && !crossing.is_of_servers();
            if before.is_some() && is_of_client && has_id {
                wrong.push(format!("{} was sent twice", crossing.tag));
            }
        }
        for (index, crossing) in self.crossings.all.iter().enumerate() {
            let server = self.ends[crossing.end].server.unwrap_or_default();
            let is_last = last.get(&(server, crossing.tag.as_str())) == Some(&index);
            if is_last && self.is_over(crossing) && !self.has_arrived(crossing) {
                if !self.is_excused_loss(crossing, server) {
                    wrong.push(format!(
                        "server {server} has sent {} at {} ms by end {}, which was lost, and not \
                         sent again",
                        crossing.tag, crossing.at, crossing.end
                    ));
                }
                excused += 1;
            }
        }
        self.count_more("losses between servers excused", excused);
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// Whether a stanza that was not read at the other end may be gone.
    fn is_excused_loss(&self, crossing: &Crossing, server: usize) -> bool {
        if self.crossings.is_killed_since(server, crossing.at) {
            // What is stored is looked at by itself: it must arrive.
            return true;
        }
        match crossing.kind() {
            // To answer a ping and ask whether that came would go on for ever: the next ping will do.
            "iq" if crossing.is_answer() && crossing.is_of_servers() => true,
            // It must go back: the reckoning looks whether it was answered.
            _ if crossing.is_request() => true,
            // It waits for the next stream, however long that takes.
            "message" if crossing.type_() != "error" => false,
            // It goes back if the first try comes to nothing.
            _ => self.is_dropped_since(server, crossing.at),
        }
    }
}
