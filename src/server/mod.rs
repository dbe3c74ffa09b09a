//! Start, reload and stop of the server; its control socket and privileges.

pub mod accounts;
pub mod control;
mod culprits;
pub mod dry_run;
mod expiry;
pub mod federation;
pub mod generation;
pub mod live;
pub mod privileges;
mod reload;
pub mod sockets;
mod waiting;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::clock::Clock;
use crate::config::{Problem, Settings};
use crate::dns::{self, Dns, DnsError, DnsSettings, Found};
use crate::features::FEATURES;
use crate::limits::{WAITING_BYTES_MAX, WAITING_POSTS_MAX};
use crate::log::Logging;
use crate::net::open_files::OpenFiles;
use crate::net::throttle::{Throttle, ThrottleLimits};
use crate::post::{Address, Gates, Load, Mailbox, mailbox};
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::router::subscription;
use crate::server::control::ControlSocket;
use crate::server::generation::{Loaded, generation, load_certificates};
use crate::server::live::Live;
use crate::shard::Post;
use crate::shard::listener::{Listener, ListenerHandle};
use crate::shard::reactor::{Sleeper, Surroundings};
use crate::shard::turn::Shard;
use crate::slots::Key;
use crate::storage::{
    self, Answer, Answers, Db, Lane, ReadFn, Store, StoreError, Value, WriterCore,
};
use crate::workers::{Done, Workers};

/// What a server that has just started tells of itself.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens, and under which option's name.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// How many shards it has.
    pub shards: u32,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// Why the server did not start, or did not go on.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    fn new(text: impl Into<String>) -> StartError {
        StartError(text.into())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Runs the server on this thread and those that it starts, until a signal or a command stops it.
/// `path` is the conf file, which a reload reads again. `ready` is called when it accepts clients.
///
/// # Errors
/// What keeps it from starting, in words for the operator; every problem of the certificates at once.
pub fn run(
    settings: Settings,
    path: Option<PathBuf>,
    ready: impl FnOnce(&Started),
) -> Result<(), StartError> {
    // Before any thread, so that each inherits it: signals come to this one.
    let logging =
        crate::log::start(&settings.log).map_err(|error| StartError::new(error.to_string()))?;
    crate::log::panic::install(culprits::notes(&settings.server.data));
    privileges::raise_open_files();
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| StartError::new(format!("cannot handle signals: {error}")))?;
    let server = Server::start(settings, path, logging, &signals.handle())?;
    ready(&server.started());
    notify(&[sd_notify::NotifyState::Ready]);
    for signal in signals.forever() {
        match signal {
            SIGHUP => {
                if let Err(problems) = server.core.reload() {
                    log::error!(problems; "not reloaded, the old configuration stays in force");
                }
            }
            _ => break,
        }
    }
    server.stop();
    Ok(())
}

/// What has a risk or no effect in the conf file, each with its place.
fn conf_warnings(settings: &Settings, path: Option<&Path>) -> Vec<String> {
    let file = path.unwrap_or(Path::new("-")).display();
    let warnings = settings.warnings.iter();
    warnings
        .map(|Problem { line, column, text }| format!("{file}:{line}:{column}: {text}"))
        .collect()
}

/// What would keep the server from starting among the files by which it decides whom it believes
/// (`tls.ca`, `auth.client_ca`, `s2s.peer."name".ca`, `dns.trust_anchor`): every problem, in words.
pub fn unusable_trust(settings: &Settings) -> Vec<String> {
    let mut problems = generation::unusable_authorities(settings);
    if let Err(error) = dns::examine(&dns_settings(settings)) {
        problems.push(dns_problem(settings, &error));
    }
    problems
}

/// Tells the service manager; without one nothing happens.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!(error:%; "service manager not told");
    }
}

/// The parts of a running server that commands and signals act on.
pub struct Core {
    settings: Mutex<Arc<Settings>>,
    /// What new connections are made with.
    loaded: Mutex<Arc<Loaded>>,
    path: Option<PathBuf>,
    placement: Placement,
    shards: Vec<Address<Post>>,
    store: Store,
    secret: [u8; 32],
    listener: ListenerHandle,
    /// A reload that brings the first component adds to them.
    listeners: Mutex<Vec<(&'static str, SocketAddr)>>,
    open_files: Arc<OpenFiles>,
    throttle: Arc<Throttle>,
    gates: Gates,
    streams: Arc<AtomicU64>,
    dns: Dns,
    clock: Clock,
    stopper: signal_hook::iterator::Handle,
    reloading: Mutex<()>,
    logging: Logging,
}

struct Server {
    core: Arc<Core>,
    control: ControlSocket,
    threads: Vec<JoinHandle<()>>,
    listener: JoinHandle<()>,
    workers: Workers,
    expiry: expiry::Watch,
}

/// Brings the answers of store and workers to the shards' mailboxes. The store starts before the
/// mailboxes exist, and has no answers until then.
#[derive(Default)]
struct Posts(OnceLock<Vec<Address<Post>>>);

impl Posts {
    fn send(&self, shard: usize, posts: Vec<Post>) {
        if let Some(address) = self.0.get().and_then(|shards| shards.get(shard)) {
            address.send(posts);
        }
    }
}

impl Answers for Posts {
    fn answer(&self, shard: usize, answers: Vec<Answer>) {
        self.send(shard, answers.into_iter().map(Post::Store).collect());
    }
}

impl dns::Answers for Posts {
    fn answer(&self, shard: usize, id: u64, found: Found) {
        self.send(
            shard,
            vec![Post::Resolved(Key::from_bits(id), Box::new(found))],
        );
    }
}

impl Done for Posts {
    fn done(&self, shard: usize, id: u64, value: Value) {
        self.send(shard, vec![Post::Worked(Key::from_bits(id), value)]);
    }
}

/// What is there before any shard is.
struct Opened {
    settings: Arc<Settings>,
    loaded: Arc<Loaded>,
    clock: Clock,
    gates: Gates,
    store: Store,
    secret: [u8; 32],
    open_files: Arc<OpenFiles>,
    throttle: Arc<Throttle>,
    streams: Arc<AtomicU64>,
}

/// The shards that run, and what works for them.
struct Running {
    placement: Placement,
    shards: Vec<Address<Post>>,
    threads: Vec<JoinHandle<()>>,
    workers: Workers,
    dns: Dns,
}

impl Opened {
    /// Loads the certificates and opens the store, whose answers go by `posts`.
    fn open(settings: Arc<Settings>, posts: &Arc<Posts>) -> Result<Opened, StartError> {
        let loaded = load_certificates(&settings, None)
            .map_err(|problems| StartError::new(problems.join("\n")))?;
        for warning in &loaded.warnings {
            log::warn!(warning; "configuration warning");
        }
        let clock = Clock::start();
        let gates = Gates::default();
        let mut options = storage::Options::new(settings.store.durability);
        options.gates = gates.clone();
        let store = open_store(&settings, &options, Arc::clone(posts) as Arc<dyn Answers>)?;
        let secret = ask(&store, storage::accounts::secret)
            .map_err(|error| StartError::new(format!("the store has no secret: {error}")))?;
        Ok(Opened {
            throttle: Arc::new(Throttle::new(throttle_limits(&settings))),
            settings,
            loaded: Arc::new(loaded),
            clock,
            gates,
            store,
            secret,
            open_files: Arc::default(),
            streams: Arc::default(),
        })
    }

    /// Starts the shards' threads, and the workers and the resolver, whose answers go by `posts`.
    fn start_shards(&self, posts: &Arc<Posts>) -> Result<Running, StartError> {
        let count = shard_count(&self.settings);
        let placement = Placement::new(count);
        let (sleepers, shards, mailboxes) = mailboxes(count, &self.gates)?;
        if posts.0.set(shards.clone()).is_err() {
            unreachable!("the mailboxes are made once");
        }
        let done = Arc::clone(posts) as Arc<dyn Done>;
        let workers = Workers::start_with(worker_count(), done, self.gates.clone())
            .map_err(|error| StartError::new(format!("cannot start workers: {error}")))?;
        let answers = Arc::clone(posts) as Arc<dyn dns::Answers>;
        let dns = Dns::start(&dns_settings(&self.settings), answers)
            .map_err(|error| StartError::new(dns_problem(&self.settings, &error)))?;
        let surroundings = Surroundings {
            dns: dns.clone(),
            shards: shards.clone(),
            store: self.store.clone(),
            workers: workers.clone(),
            gates: self.gates.clone(),
            clock: self.clock,
            at_rest: Arc::default(),
        };
        let generation = generation(
            &self.settings,
            &self.loaded,
            &self.open_files,
            &self.streams,
        );
        let pipeline = Arc::new(Pipeline::new(FEATURES));
        let mut threads = Vec::new();
        for (index, (sleeper, mailbox)) in (0..).zip(sleepers.into_iter().zip(mailboxes)) {
            let shard = Shard::new(
                index,
                placement.clone(),
                Arc::clone(&generation),
                Arc::clone(&pipeline),
                Arc::clone(&self.throttle),
                self.secret,
            );
            let surroundings = surroundings.clone();
            threads.push(spawn(format!("shard-{index}"), move || {
                if let Err(error) = sleeper.run(shard, mailbox, surroundings) {
                    fatal(&format!("the poll of shard {index} failed: {error}"));
                }
            })?);
        }
        Ok(Running {
            placement,
            shards,
            threads,
            workers,
            dns,
        })
    }
}

impl Server {
    fn start(
        mut settings: Settings,
        path: Option<PathBuf>,
        logging: Logging,
        stopper: &signal_hook::iterator::Handle,
    ) -> Result<Server, StartError> {
        settings.generation = 1;
        for warning in conf_warnings(&settings, path.as_deref()) {
            log::warn!(warning; "configuration warning");
        }
        let posts = Arc::new(Posts::default());
        let opened = Opened::open(Arc::new(settings), &posts)?;
        let sockets = sockets::open(&opened.settings)?;
        let running = opened.start_shards(&posts)?;
        waiting::restore(&opened.store, &running.placement, &running.shards).map_err(|error| {
            StartError::new(format!("cannot read messages for other servers: {error}"))
        })?;
        let listeners: Vec<_> = sockets
            .iter()
            .map(|listening| (listening.kind.name(), listening.address))
            .collect();
        let (listener, handle) = Listener::new(
            sockets,
            opened.loaded.contexts.clone(),
            running.shards.clone(),
            Arc::clone(&opened.open_files),
            Arc::clone(&opened.throttle),
            opened.clock,
            Arc::clone(&opened.streams),
        )
        .map_err(|error| StartError::new(format!("cannot listen: {error}")))?;
        let Running {
            placement,
            shards,
            threads,
            workers,
            dns,
        } = running;
        let core = Arc::new(Core {
            settings: Mutex::new(opened.settings),
            loaded: Mutex::new(opened.loaded),
            path,
            placement,
            shards,
            store: opened.store,
            secret: opened.secret,
            listener: handle,
            listeners: Mutex::new(listeners),
            open_files: opened.open_files,
            throttle: opened.throttle,
            gates: opened.gates,
            streams: opened.streams,
            dns,
            clock: opened.clock,
            stopper: stopper.clone(),
            reloading: Mutex::new(()),
            logging,
        });
        Server::open_up(core, listener, threads, workers)
    }

    /// Lets operators and clients in.
    fn open_up(
        core: Arc<Core>,
        listener: Listener,
        threads: Vec<JoinHandle<()>>,
        workers: Workers,
    ) -> Result<Server, StartError> {
        let settings = core.settings();
        let live = Arc::new(Live::new(Arc::clone(&core)));
        let control = control::serve(&settings.server.control, live)
            .map_err(|error| StartError::new(error.to_string()))?;
        let count = core.placement.shards();
        // All is open now that the server needs for itself, and nobody can have connected before.
        if let Err(error) = privileges::admit_connections(&core.open_files, count) {
            control.stop();
            return Err(error);
        }
        let listener = spawn("listener".to_owned(), move || {
            if let Err(error) = listener.run() {
                fatal(&format!("the poll of the listener failed: {error}"));
            }
        })?;
        let expiry = expiry::Watch::start(Arc::clone(&core))?;
        for (kind, address) in core.listeners() {
            log::info!(kind, address:%; "listening");
        }
        log::info!(
            version = env!("CARGO_PKG_VERSION"), shards = count, domains = settings.domains.len();
            "started"
        );
        Ok(Server {
            core,
            control,
            threads,
            listener,
            workers,
            expiry,
        })
    }

    fn started(&self) -> Started {
        Started {
            listeners: self.core.listeners(),
            shards: self.core.placement.shards(),
            warnings: self.core.loaded().warnings.clone(),
        }
    }

    /// Accepts no more, ends all streams, lets what was promised be written, and ends.
    fn stop(self) {
        log::info!("stopping");
        notify(&[sd_notify::NotifyState::Stopping]);
        self.core.listener.stop();
        join(self.listener);
        for shard in &self.core.shards {
            shard.send(vec![Post::Stop]);
        }
        for thread in self.threads {
            join(thread);
        }
        self.workers.stop();
        self.expiry.stop();
        self.core.dns.clone().stop();
        self.core.store.clone().stop();
        // Last, so that `stanzad stop` returns when everything is done.
        self.control.stop();
        log::info!("stopped");
        log::logger().flush();
    }
}

impl Core {
    /// The configuration in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificates in force.
    fn loaded(&self) -> Arc<Loaded> {
        let loaded = self.loaded.lock();
        Arc::clone(&loaded.unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the server listens, and under which option's name.
    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The longest that a check of the database may take: one hour.
const CHECK_MICROS_MAX: u32 = 3_600_000_000;

/// Opens the store and completes what a crash has left half done, before anybody uses it.
fn open_store(
    settings: &Settings,
    options: &storage::Options,
    answers: Arc<dyn Answers>,
) -> Result<Store, StartError> {
    let failed = |error: storage::OpenError| StartError::new(error.to_string());
    if storage::is_suspect(&settings.server.data) {
        // Else the service manager ends a start that reads a large database.
        notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(CHECK_MICROS_MAX)]);
    }
    let mut core = WriterCore::open(&settings.server.data, options.durability).map_err(failed)?;
    let requests_max = settings.limits.pending_requests_max as usize;
    let completed = subscription::redeliver(&mut core, requests_max).map_err(|error| {
        StartError::new(format!("cannot complete changes of subscriptions: {error}"))
    })?;
    if completed > 0 {
        log::info!(completed; "changes of subscriptions completed that were cut short");
    }
    culprits::shut_out(&mut core, settings, Clock::start().now().wall);
    Store::start(core, options, answers).map_err(failed)
}

/// Asks the store from a thread that may wait.
///
/// # Errors
/// The store's.
fn ask<T: Send + 'static>(
    store: &Store,
    read: impl FnOnce(&Db) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // The answer comes by the channel; that to a shard finds none of this number.
    let job: ReadFn = Box::new(move |db| {
        // Nobody else holds the receiver, which is waited for below.
        let _ = sender.send(read(db));
        Ok(Box::new(()))
    });
    store.read(NO_SHARD, 0, Lane::Bulk { owner: 0 }, job);
    receiver.recv().map_err(|_| StoreError::Stopped)?
}

/// Who asks the store without being a shard.
const NO_SHARD: usize = usize::MAX;

fn shard_count(settings: &Settings) -> u32 {
    let count = match settings.server.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    u32::try_from(count.clamp(1, 256)).unwrap_or(256)
}

/// One worker for two cores: hashing must leave the shards their share.
fn worker_count() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

fn dns_settings(settings: &Settings) -> DnsSettings {
    let dns = &settings.dns;
    DnsSettings {
        servers: dns.servers.clone(),
        validates: dns.dnssec,
        trust_anchor: dns.trust_anchor.as_ref().map(|file| file.path.clone()),
        ..DnsSettings::default()
    }
}

/// What is wrong with the resolver's settings, where the operator has written it.
fn dns_problem(settings: &Settings, error: &DnsError) -> String {
    match (error, &settings.dns.trust_anchor) {
        (DnsError::TrustAnchor { .. }, Some(file)) => format!("{}: {error}", file.place),
        _ => error.to_string(),
    }
}

fn throttle_limits(settings: &Settings) -> ThrottleLimits {
    let limits = &settings.limits;
    ThrottleLimits {
        connections_per_address_max: limits.connections_per_address_max,
        new_connections_per_address_max: limits.new_connections_per_address_max,
        handshakes_per_address_max: limits.handshakes_per_address_max,
        login_failures_per_address_max: limits.login_failures_per_address_max,
        login_failures_per_account_max: limits.login_failures_per_account_max,
    }
}

type Mailboxes = (Vec<Sleeper>, Vec<Address<Post>>, Vec<Mailbox<Post>>);

fn mailboxes(count: u32, gates: &Gates) -> Result<Mailboxes, StartError> {
    let mut all: Mailboxes = Default::default();
    for _ in 0..count {
        let sleeper = Sleeper::new()
            .map_err(|error| StartError::new(format!("cannot make a poll: {error}")))?;
        let waker = sleeper.waker();
        let load = Load::new(WAITING_BYTES_MAX, WAITING_POSTS_MAX, gates.clone());
        let (address, mailbox) = mailbox(load, move || {
            if let Err(error) = waker.wake() {
                log::error!(error:%; "shard not woken");
            }
        });
        all.0.push(sleeper);
        all.1.push(address);
        all.2.push(mailbox);
    }
    Ok(all)
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(work)
        .map_err(|error| StartError::new(format!("cannot start the thread {name}: {error}")))
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("a thread ended by a panic");
    }
}

fn fatal(text: &str) {
    log::error!("{text}");
    log::logger().flush();
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_shards_are_one_for_each_core() {
        let mut settings = Settings::default();
        assert!(shard_count(&settings) >= 1);
        settings.server.shards = 7;
        assert_eq!(shard_count(&settings), 7);
    }
}
