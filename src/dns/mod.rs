//! DNS: how the server of a remote domain is reached. One thread, the only one where the resolver
//! library and its runtime live (`Threads` in lib.rs).
//!
//! # Flow
//! A shard asks by [`Dns::ask`] with an id of its own and goes on. The question makes its steps
//! (`question`) on the thread `resolver`, each lookup from the cache or by a query (`upstream`,
//! `reply`, `cache`), and the answer comes by [`Answers::answer`], once for each question that was
//! taken. It is a plain value (`answer`), with all steps in it for who wants to explain; [`srv`]
//! orders its targets.
//!
//! # Bounds
//! At most [`limits::DNS_QUESTIONS_MAX`] questions are open, more are refused at once; so the
//! thread needs no gate. Of their lookups [`limits::DNS_LOOKUPS_MAX`] are under way, each with a
//! socket or more; the others wait within the time of their question. Nobody for whose sake many
//! questions are asked has the last quarter of these places (`turns`). A question has
//! [`limits::DNS_WAIT`], a query [`limits::DNS_TRIES`] tries of [`limits::DNS_TRY_WAIT`]. Records
//! used of an answer, targets, aliases followed, and the cache are bounded too (`limits`).
//!
//! # Invariants
//! Nothing that this folder gives away has a type of the library. A target that must not be
//! contacted (RFC 7673 §3.2, §3.4) has no addresses. Something is called secure only if DNSSEC
//! proves it and all aliases that led to it; without validation nothing is.
//!
//! Left out: TLSA records for the fall-back to the domain itself (RFC 7673 §3.1 does not apply
//! there), and the preference of RFC 7671 §7 for the end of a chain of aliases, which a target must
//! not be.

mod answer;
mod cache;
mod places;
mod question;
mod reply;
pub mod srv;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upstream;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

pub use self::answer::{
    Endpoint, Failure, Found, Kind, Lookup, Question, Record, Records, Rtype, Service, SrvRecord,
    Target, Tlsa, TlsaRecord, Verdict,
};
use self::upstream::Upstream;
use crate::limits;

/// Where to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// Name servers that resolve for others. None: those of /etc/resolv.conf, with /etc/hosts
    /// before them; if there is no such file, the one at 127.0.0.1.
    pub servers: Vec<SocketAddr>,
    /// Whether answers are validated by DNSSEC. The name servers must pass on what that needs.
    pub validates: bool,
    /// A file of DNSKEY records to be trusted in place of the root zone's.
    pub trust_anchor: Option<PathBuf>,
    /// How long one try waits.
    pub try_timeout: Duration,
    /// Tries of a query, at least one.
    pub tries: usize,
    /// How long a question may take.
    pub question_timeout: Duration,
}

impl Default for DnsSettings {
    fn default() -> DnsSettings {
        DnsSettings {
            servers: Vec::new(),
            validates: false,
            trust_anchor: None,
            try_timeout: limits::DNS_TRY_WAIT,
            tries: limits::DNS_TRIES,
            question_timeout: limits::DNS_WAIT,
        }
    }
}

/// Where answers go: a shard's mailbox. Called on the thread `resolver`; must not wait.
pub trait Answers: Send + Sync {
    /// What was found for the question `id` of that shard.
    fn answer(&self, shard: usize, id: u64, found: Found);
}

/// The question was not taken, and [`Answers::answer`] will not be called for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many questions are open as the bound allows.
    Full,
    /// The resolver has been stopped.
    Stopped,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full => "too many domains wait to be looked up",
            Refused::Stopped => "the server is stopping",
        })
    }
}

impl std::error::Error for Refused {}

/// Why the resolver cannot work with its settings.
#[derive(Debug)]
pub enum DnsError {
    /// The file of trust anchors cannot be used.
    TrustAnchor {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The thread, or its poll, cannot be had.
    Thread(io::Error),
    /// The library refuses to start.
    Library(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::TrustAnchor { path, cause } => {
                let path = path.display();
                write!(
                    f,
                    "{path}: {cause}; a trust anchor is a DNSKEY record as in a zone file"
                )
            }
            DnsError::Thread(error) => write!(f, "cannot start the resolver: {error}"),
            DnsError::Library(error) => write!(f, "cannot start the resolver: {error}"),
        }
    }
}

impl std::error::Error for DnsError {}

/// Whether the resolver could work with its settings. Nothing is sent.
///
/// # Errors
/// See [`DnsError`].
pub fn examine(settings: &DnsSettings) -> Result<(), DnsError> {
    Upstream::new(settings).map(drop)
}

/// The running resolver: a handle for any thread, cheap to clone.
#[derive(Clone)]
pub struct Dns {
    shared: Arc<Shared>,
}

struct Shared {
    orders: UnboundedSender<Order>,
    /// Questions that are open.
    open: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Order {
    Ask {
        shard: usize,
        id: u64,
        question: Question,
    },
    /// Later questions go to these name servers.
    Use(Arc<Upstream>),
    /// Ends the thread.
    End,
}

impl Dns {
    /// Starts the thread. Nothing is sent to a name server before the first question.
    ///
    /// # Errors
    /// See [`DnsError`].
    pub fn start(settings: &DnsSettings, answers: Arc<dyn Answers>) -> Result<Dns, DnsError> {
        let upstream = Arc::new(Upstream::new(settings)?);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DnsError::Thread)?;
        let (orders, received) = unbounded_channel();
        let open = Arc::new(AtomicUsize::new(0));
        let resolver = Resolver {
            upstream,
            answers,
            open: Arc::clone(&open),
        };
        let thread = thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || resolver.run(&runtime, received))
            .map_err(DnsError::Thread)?;
        Ok(Dns {
            shared: Arc::new(Shared {
                orders,
                open,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// Asks. The answer has the same id.
    ///
    /// # Errors
    /// [`Refused`], at once.
    pub fn ask(&self, shard: usize, id: u64, question: Question) -> Result<(), Refused> {
        let open = &self.shared.open;
        if open.fetch_add(1, Ordering::Relaxed) >= limits::DNS_QUESTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Full);
        }
        let order = Order::Ask {
            shard,
            id,
            question,
        };
        self.shared.orders.send(order).map_err(|_| {
            open.fetch_sub(1, Ordering::Relaxed);
            Refused::Stopped
        })
    }

    /// How many questions are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Takes other settings for the questions from now on, and forgets what it has learnt. With the
    /// same settings /etc/resolv.conf, /etc/hosts and the trust anchors are read again.
    ///
    /// # Errors
    /// See [`DnsError`]; it goes on with the settings that it has.
    pub fn configure(&self, settings: &DnsSettings) -> Result<(), DnsError> {
        let upstream = Arc::new(Upstream::new(settings)?);
        // A resolver that has been stopped needs no settings.
        let _ = self.shared.orders.send(Order::Use(upstream));
        Ok(())
    }

    /// Ends the thread and returns then. Open questions get no answer: whose streams wait for them
    /// ends too. A second call does nothing.
    pub fn stop(self) {
        self.shared.stop();
    }
}

impl Shared {
    fn stop(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        // The thread is gone already if it panicked, which the join tells.
        let _ = self.orders.send(Order::End);
        if thread.join().is_err() {
            log::error!("the resolver's thread panicked");
        }
    }
}

impl Drop for Shared {
    /// The same for who forgets to stop, such as a start that fails half-way.
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread has.
struct Resolver {
    upstream: Arc<Upstream>,
    answers: Arc<dyn Answers>,
    open: Arc<AtomicUsize>,
}

impl Resolver {
    fn run(mut self, runtime: &Runtime, mut orders: UnboundedReceiver<Order>) {
        runtime.block_on(async {
            while let Some(order) = orders.recv().await {
                match order {
                    Order::Ask {
                        shard,
                        id,
                        question,
                    } => self.ask(shard, id, question),
                    Order::Use(upstream) => self.upstream = upstream,
                    Order::End => break,
                }
            }
        });
    }

    fn ask(&self, shard: usize, id: u64, question: Question) {
        let (upstream, answers) = (Arc::clone(&self.upstream), Arc::clone(&self.answers));
        let open = Arc::clone(&self.open);
        let deadline = Instant::now() + upstream.question_timeout;
        // Its end is not waited for: the answer tells it.
        drop(tokio::spawn(async move {
            let found = question::resolve(upstream, question, deadline).await;
            // Before the answer, so that who gets it may ask the next question.
            open.fetch_sub(1, Ordering::Relaxed);
            answers.answer(shard, id, found);
        }));
    }
}
