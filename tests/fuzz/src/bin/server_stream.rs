//! Another server's bytes, or a component's, through the server's own turn, router, streams and SQL,
//! without sockets: nobody speaks for a domain that is not proven on his stream, what is written is
//! well-formed and ends with the end of the stream, and nothing is left when the connection is gone.
//!
//! The first letter of an input tells whose bytes follow, the rest of its first line how they are cut:
//!
//! | letter | whose |
//! |---|---|
//! | `A` | a server's that has connected |
//! | `T` | a.example's, which has TLS with its certificate and features before it |
//! | `P` | the same, proven by EXTERNAL, with its next header answered |
//! | `D` | a.example's, dialled for a request of juliet's; our header is there |
//! | `R` | the same, once the stream is ready, both ways and with stream management |
//! | `I` | the same, which was idle before the last piece for so long that we have closed it |
//! | `K` | a component's that has connected |
//! | `H` | a component's that has proven itself |
//!
//! In lower case nobody else answers before all is said, and the same comes of the bytes uncut. Servers
//! that are dialled for it are honest (`others`): b.example's vouches for the key `good`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::sha::sha1;
use stanzad::config::{ComponentSettings, DomainSettings, S2s, Secret, Settings};
use stanzad::jid::{Domain, Jid};
use stanzad::ns;
use stanzad::router::placement::Placement;
use stanzad::shard::testing::servers::{EXTERNAL, Network, answer, header, lenient_settings};
use stanzad::shard::testing::{Client, HEADER, Server};
use stanzad::shard::{Peer, Post, Survey};
use stanzad::stream::policy::s2s::Direction;
use stanzad::xml::{Item, Top};
use stanzad_fuzz::others::{Others, certificate};
use stanzad_fuzz::{peak_of, pieces, read_documents, run};

const A: &str = "a.example";
const COMPONENT: &str = "irc.example.org";
const SECRET: &str = "4f1d0b9ac2";
const SHARDS: u32 = 2;
/// Small, so that short inputs reach it.
const STANZA_BYTES_MAX: usize = 4_096;
/// Bytes that one run may hold at once.
const HEAP_MAX: usize = 1 << 20;

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
const MECHANISMS: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                          <mechanism>EXTERNAL</mechanism></mechanisms>";
const BIDI: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";
const MANAGEMENT: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
const REQUEST: &str = "<iq type='get' id='own' to='a.example'><ping xmlns='urn:xmpp:ping'/></iq>";

fn main() {
    let network = Arc::new(Network::default());
    let placement = Placement::with_key(SHARDS, 1);
    let dialler = Arc::clone(&network);
    let mut server = Server::of(placement, settings(), dialler, "secret");
    run(|input| {
        let Some(letter) = input.first().copied() else {
            return;
        };
        let (pieces, document) = pieces(&input[1..]);
        let is_alone = letter.is_ascii_lowercase();
        let kind = letter.to_ascii_uppercase();
        let mut outcome = Outcome::default();
        let peak = peak_of(|| outcome = play(&mut server, &network, kind, &pieces, is_alone));
        assert!(peak <= HEAP_MAX, "{peak} bytes were held");
        if std::env::args().len() > 1 {
            println!("{outcome:#?}\n{peak} bytes at most");
        }
        server.renew();
        // Time that passes comes between pieces. Bytes behind a word that begins TLS are refused, and behind
        // the handshake they are no such bytes.
        let is_timed = kind == b'I';
        if is_alone && !is_timed && !has(document, b"starttls") && !has(document, b"proceed") {
            let whole = play(&mut server, &network, kind, &[document], true);
            server.renew();
            let (cut, whole) = (outcome.certain(), whole.certain());
            assert_eq!(cut, whole, "not the same for every cut");
        }
    });
}

fn has(document: &[u8], word: &[u8]) -> bool {
    document.windows(word.len()).any(|part| part == word)
}

/// What came of a run, in an order of its own: who answers first is chance.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    said: Vec<String>,
    answered: Vec<String>,
    delivered: Vec<String>,
    passed_on: Vec<String>,
}

const END: &str = "the end";

impl Outcome {
    /// Without what depends on the cut: who ends his stream right behind a request may not hear the answer,
    /// or hear it on another one.
    fn certain(mut self) -> Outcome {
        if self.said.iter().any(|word| word == END) {
            self.answered.clear();
            self.passed_on.clear();
        }
        self
    }
}

/// A run.
struct Play<'a> {
    server: &'a mut Server,
    others: Others,
    juliet: Client,
    /// Whose bytes the input has.
    subject: Client,
    /// What was written to it.
    said: String,
    /// Domains that it may speak for.
    proven: BTreeSet<String>,
}

fn play(
    server: &mut Server,
    network: &Arc<Network>,
    kind: u8,
    pieces: &[&[u8]],
    is_alone: bool,
) -> Outcome {
    let mut play = Play::begin(server, network, kind);
    play.server.is_store_stuck = is_alone;
    play.server.is_resolver_stuck = is_alone;
    for (at, piece) in (1..).zip(pieces) {
        if kind == b'I' && at == pieces.len() {
            play.be_idle();
        }
        play.say(piece);
        if !is_alone {
            play.settle();
        }
    }
    play.server.is_store_stuck = false;
    play.server.is_resolver_stuck = false;
    play.settle();
    play.check_proofs();
    let outcome = play.outcome();
    play.end();
    outcome
}

impl Play<'_> {
    fn begin<'a>(server: &'a mut Server, network: &Arc<Network>, kind: u8) -> Play<'a> {
        let juliet = server.log_in(0, "juliet", "balcony");
        server.say(&juliet, "<presence/>");
        let others = Others::new(Arc::clone(network));
        let mut proven = BTreeSet::new();
        let (subject, said) = match kind {
            b'T' | b'P' => {
                proven.insert(A.to_owned());
                (server.connect_securely(0, A), header_of_ours())
            }
            b'D' | b'R' | b'I' => {
                proven.insert(A.to_owned());
                server.say(&juliet, REQUEST);
                let (_, subject) = network.take().pop().expect("it is dialled");
                (subject, String::new())
            }
            b'K' | b'H' => (server.connect_from(0, Peer::Component), String::new()),
            _ => (server.connect_from(0, Peer::Server), String::new()),
        };
        let mut play = Play {
            server,
            others,
            juliet,
            subject,
            said,
            proven,
        };
        match kind {
            b'P' => play.prove(),
            b'R' | b'I' => play.make_ready(),
            b'H' => play.shake_hands(),
            _ => {}
        }
        if matches!(kind, b'A' | b'D') {
            let mut wire = play.subject.wire.lock().expect("one thread");
            wire.facts = Some(certificate(A));
        }
        play
    }

    /// a.example proves itself by EXTERNAL.
    fn prove(&mut self) {
        let answer = self.server.say(&self.subject, EXTERNAL);
        assert!(answer.contains("<success "), "{answer}");
        self.said = self.server.say(&self.subject, &header(A));
        assert!(self.said.contains("<stream:features>"), "{}", self.said);
    }

    /// a.example takes our certificate for ours.
    fn make_ready(&mut self) {
        let mut say = |text: &str| self.server.say(&self.subject, text);
        let asked = say(&answer(A, STARTTLS));
        assert!(asked.contains("<starttls "), "{asked}");
        self.subject.wire.lock().expect("one thread").facts = Some(certificate(A));
        say(PROCEED);
        let features = format!("{MECHANISMS}{BIDI}{MANAGEMENT}");
        let asked = say(&answer(A, &features));
        assert!(
            asked.contains("<auth ") && asked.contains("<bidi "),
            "{asked}"
        );
        self.said = say(SUCCESS);
        self.said += &say(&answer(A, MANAGEMENT));
        assert!(self.said.contains("id='own'"), "{}", self.said);
    }

    /// Nobody says anything for as long as a stream may be idle.
    fn be_idle(&mut self) {
        self.server.news();
        self.server.run();
        let idle = Duration::from_secs(S2s::default().idle_seconds);
        self.server.pass(idle);
        self.server.run();
    }

    fn shake_hands(&mut self) {
        let open = format!(
            "<stream:stream xmlns='jabber:component:accept' to='{COMPONENT}' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        self.said = self.server.say(&self.subject, &open);
        let id = self
            .said
            .split("id='")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        let id = id.expect("the header has an id");
        let proof = sha1(format!("{id}{SECRET}").as_bytes());
        let digits = proof
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let hands = format!("<handshake>{digits}</handshake>");
        self.said += &self.server.say(&self.subject, &hands);
        assert!(self.said.contains("<handshake/>"), "{}", self.said);
        self.proven.insert(COMPONENT.to_owned());
    }

    fn say(&mut self, bytes: &[u8]) {
        self.said += &self.server.say_bytes(&self.subject, bytes);
    }

    /// Everybody answers what he is asked.
    fn settle(&mut self) {
        self.server.run();
        self.others.attend(self.server);
        self.said += &self.subject.take();
        let wire = self.subject.wire.lock().expect("one thread");
        if wire.tls.is_some() && wire.facts.is_none() {
            self.proven.insert(A.to_owned());
        }
        drop(wire);
        self.proven.extend(self.others.vouched.iter().cloned());
    }

    /// What the server itself says of who is proven.
    fn check_proofs(&mut self) {
        for survey in surveys(self.server) {
            for stream in survey
                .servers
                .into_iter()
                .filter_map(|server| server.stream)
            {
                for proof in stream.proofs {
                    let remote = proof.pair.remote.as_str();
                    let is_proven = self.proven.contains(remote);
                    assert!(
                        is_proven || stream.direction == Direction::Dialled,
                        "{remote} is proven to {} without a proof",
                        proof.pair.local
                    );
                }
            }
        }
    }

    fn outcome(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let heard = format!("{HEADER}{}", self.juliet.take());
        for item in read_documents(&heard) {
            if let Item::Top(top) = item {
                self.check_sender(&top);
                outcome.delivered.push(text(&top));
            }
        }
        for (domain, top) in &self.others.sent {
            // A component may write to whom it likes.
            let is_known = self.proven.contains(domain)
                || self.proven.contains(COMPONENT) && sender(top) == COMPONENT;
            assert!(
                is_known,
                "{domain} is answered, which has said nothing: {}",
                text(top)
            );
            outcome.passed_on.push(format!("{domain}: {}", text(top)));
        }
        for item in read_documents(&self.said) {
            match item {
                // When it asks and tells how much was handled depends on when it has time for it.
                Item::Top(top) if top.ns == ns::STREAM_MANAGEMENT => {}
                Item::Top(top) if matches!(top.name.as_str(), "message" | "presence" | "iq") => {
                    outcome.answered.push(text(&top));
                }
                Item::Top(top) => outcome.said.push(text(&top)),
                Item::Open(header) => outcome.said.push(format!("{header:?}")),
                Item::Close => outcome.said.push(END.to_owned()),
            }
        }
        let all = [
            &mut outcome.said,
            &mut outcome.answered,
            &mut outcome.delivered,
            &mut outcome.passed_on,
        ];
        all.into_iter().for_each(|all| all.sort());
        outcome
    }

    /// Juliet hears of her server and of who is proven, and of nobody else.
    fn check_sender(&self, top: &Top) {
        let Some(from) = top.attribute("from") else {
            return;
        };
        let sender = Jid::parse(from).expect("an address");
        let is_own = sender.bare_str() == "juliet@example.org";
        let is_ping = from == "example.org"
            && top.name == "iq"
            && top
                .attribute("id")
                .is_some_and(|id| id.starts_with("ping-"));
        let is_proven = self.proven.contains(sender.domain());
        assert!(
            is_own || is_ping || is_proven,
            "juliet hears: {}",
            text(top)
        );
    }

    /// All connections end, and nothing is left of them.
    fn end(mut self) {
        self.others.hang_up();
        for client in [&self.juliet, &self.subject] {
            client.wire.lock().expect("one thread").is_ended = true;
        }
        self.server.wait_for_ends();
        for client in self.others.clients().chain([&self.juliet, &self.subject]) {
            assert!(client.is_dropped(), "a connection outlives its end");
            let is_overrun = client.wire.lock().expect("one thread").is_overrun;
            assert!(!is_overrun, "something is written after the end");
        }
        read_documents(&(self.said + &self.subject.take()));
        for survey in surveys(self.server) {
            let has_stream = survey.servers.iter().any(|server| server.stream.is_some());
            assert!(!has_stream && survey.components.is_empty() && survey.connections == 0);
        }
    }
}

/// What came before the part of the stream that is looked at.
fn header_of_ours() -> String {
    header("example.org")
}

fn text(top: &Top) -> String {
    let mut bytes = Vec::new();
    top.write(&mut bytes);
    String::from_utf8(bytes).expect("UTF-8 is written")
}

/// The domain of who has sent a stanza.
fn sender(top: &Top) -> String {
    let from = Jid::parse(top.attribute("from").unwrap_or_default());
    from.map_or(String::new(), |from| from.domain().to_owned())
}

fn surveys(server: &mut Server) -> Vec<Survey> {
    let found = Arc::new(Mutex::new(Vec::new()));
    for shard in 0..SHARDS as usize {
        let found = Arc::clone(&found);
        let note = move |survey| found.lock().expect("one thread").push(survey);
        server.post(shard, Post::Survey(Box::new(note)));
    }
    server.run();
    let mut found = found.lock().expect("one thread");
    std::mem::take(&mut found)
}

/// Of `example.org`, which takes whom dialback proves, with a component, and of `strict.example`, which
/// wants certificates.
fn settings() -> Settings {
    let mut settings = lenient_settings();
    let strict = Domain::parse("strict.example").expect("a domain");
    settings
        .domains
        .insert(strict.clone(), Arc::new(DomainSettings::new(strict)));
    for domain in settings.domains.values_mut() {
        Arc::make_mut(domain).s2s.stanza_bytes_max = STANZA_BYTES_MAX;
    }
    let name = Domain::parse(COMPONENT).expect("a domain");
    let component = ComponentSettings {
        domain: Arc::new(DomainSettings::new(name.clone())),
        secret: Secret::new(SECRET),
        stanza_bytes_max: STANZA_BYTES_MAX,
    };
    settings.components.insert(name, Arc::new(component));
    settings
}
