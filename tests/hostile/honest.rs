//! Two hundred honest sessions that chat in pairs, each message numbered and answered.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::client::{Client, text};
use crate::common::server::{PASSWORD, Server};

/// Threads, each with two accounts whose resources chat with each other.
const THREADS: usize = 10;
/// Pairs of a thread: as many as one account may have resources.
const PAIRS: usize = 10;
/// How long a thread's people think before they write again: 1,000 messages a second in all.
const THINKING: Duration = Duration::from_millis(200);
/// No answer may take longer (issue 5). The client gives up waiting after as long.
const LATE: Duration = Duration::from_secs(10);

/// All honest sessions.
pub const SESSIONS: usize = THREADS * PAIRS * 2;

/// The honest people at work.
pub struct Crowd {
    threads: Vec<(Sender<()>, JoinHandle<u64>)>,
    trips: Arc<Mutex<Vec<Duration>>>,
}

/// The accounts that the server has to have.
pub fn accounts() -> Vec<String> {
    (0..2 * THREADS)
        .map(|number| format!("honest{number}@example.org"))
        .collect()
}

/// Full JIDs of honest sessions.
pub fn jids() -> Vec<String> {
    let of = |account: String| (0..PAIRS).map(move |pair| format!("{account}/r{pair}"));
    accounts().into_iter().flat_map(of).collect()
}

fn login(server: &Server, from: SocketAddr, user: &str, resource: &str) -> Client {
    let mut client = Client::connect_from(from, server.c2s);
    client.secure("example.org");
    client.scram("SCRAM-SHA-256", user, PASSWORD).unwrap();
    client.open("example.org");
    client.bind(Some(resource));
    client
}

/// The sessions of one thread. The very first shares the address of the attackers.
fn people(server: &Server, thread: usize) -> Vec<(Client, Client)> {
    let pair = |pair: usize| {
        let address = match (thread, pair) {
            (0, 0) => [127, 1, 0, 1],
            _ => [127, 2, thread as u8, 1 + pair as u8],
        };
        let from = SocketAddr::from((address, 0));
        let resource = format!("r{pair}");
        let one = login(server, from, &format!("honest{}", 2 * thread), &resource);
        let from = SocketAddr::from(([127, 2, 100 + thread as u8, 1 + pair as u8], 0));
        let other = login(
            server,
            from,
            &format!("honest{}", 2 * thread + 1),
            &resource,
        );
        (one, other)
    };
    (0..PAIRS).map(pair).collect()
}

impl Crowd {
    /// Logs all in, and has them chat from then on.
    pub fn gather(server: &Server) -> Crowd {
        let trips = Arc::new(Mutex::new(Vec::new()));
        let all = std::thread::scope(|scope| {
            let logins: Vec<_> = (0..THREADS)
                .map(|thread| scope.spawn(move || people(server, thread)))
                .collect();
            let joined = logins.into_iter().map(|login| login.join().unwrap());
            joined.collect::<Vec<_>>()
        });
        let start = |pairs| {
            let (stop, stopped) = mpsc::channel();
            let trips = Arc::clone(&trips);
            let thread = std::thread::spawn(move || chat(pairs, &stopped, &trips));
            (stop, thread)
        };
        Crowd {
            threads: all.into_iter().map(start).collect(),
            trips,
        }
    }

    /// The round trips since this was last asked. All are at work still, or this fails.
    pub fn trips(&self) -> Vec<Duration> {
        let all = self.threads.iter().all(|(_, thread)| !thread.is_finished());
        assert!(all, "an honest session was hurt: its thread's panic tells");
        std::mem::take(&mut self.trips.lock().unwrap())
    }

    /// Ends the chat. Yields how many messages were answered; all were, in order.
    pub fn leave(self) -> u64 {
        let end = |(stop, thread): (Sender<()>, JoinHandle<u64>)| {
            drop(stop);
            thread.join().expect("no honest session was hurt")
        };
        self.threads.into_iter().map(end).sum()
    }
}

fn chat(
    mut pairs: Vec<(Client, Client)>,
    stopped: &Receiver<()>,
    trips: &Mutex<Vec<Duration>>,
) -> u64 {
    let mut number = 0;
    while stopped.recv_timeout(THINKING) == Err(RecvTimeoutError::Timeout) {
        number += 1;
        let mut sent = Vec::new();
        for (one, other) in &mut pairs {
            sent.push(Instant::now());
            one.send(message(&other.jid, number));
        }
        for (one, other) in &mut pairs {
            heard(other, &one.jid, number);
            other.send(message(&one.jid, number));
        }
        let mut times = Vec::new();
        for ((one, other), sent) in pairs.iter_mut().zip(sent) {
            heard(one, &other.jid, number);
            let took = sent.elapsed();
            assert!(took < LATE, "{} has its answer after {took:?}", one.jid);
            times.push(took);
        }
        trips.lock().unwrap().extend(times);
    }
    number * pairs.len() as u64
}

fn message(to: &str, number: u64) -> String {
    format!("<message to='{to}' id='n{number}' type='chat'><body>{number}</body></message>")
}

/// The next message has to be the one of this number. What floods bring beside it is passed over.
fn heard(client: &mut Client, from: &str, number: u64) {
    client.forget();
    let deadline = Instant::now() + LATE;
    loop {
        assert!(
            Instant::now() < deadline,
            "{}: {number} is lost",
            client.jid
        );
        let stanza = client.element();
        if stanza.name == "message" {
            let id = format!("n{number}");
            let is_next = stanza.attribute("id") == Some(&*id);
            let is_from = stanza.attribute("from") == Some(from);
            assert!(is_next && is_from, "{number} awaited: {}", text(&stanza));
            return;
        }
        client.forget();
    }
}
