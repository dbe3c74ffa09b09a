//! The listener: accepts on every address and deals connections to the shards in turn.
//!
//! Who comes when all connections are taken is accepted and closed at once, without a word: an error
//! (RFC 6120 §4.9.3.17) answers a stream header, and to wait for one would take the descriptor that is
//! not there for as long as the client likes. It comes again later, and ever later (RFC 6120 §3.3). Left
//! unaccepted it would wait for its own time-out, and nobody would know that the server is full.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::clock::Clock;
use crate::limits::TCP_USER_TIMEOUT;
use crate::net::open_files::{self, OpenFiles, Taken};
use crate::net::throttle::Throttle;
use crate::net::tls::TlsSets;
use crate::net::tls_stream::SocketTransport;
use crate::net::transport::Transport;
use crate::post::Address;
use crate::shard::{Accepted, Peer, Post};
use crate::stream::Origin;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// Connections accepted from one address before the others get their turn.
const ACCEPTS_MAX: usize = 64;
/// How long accepting pauses when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// What wakes the thread; sockets count from 0.
const WAKE: Token = Token(usize::MAX);

/// How the streams of a listening socket begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the clear (RFC 6120 §3.2).
    Client,
    /// With TLS (XEP-0368).
    ClientTls,
    /// Of other servers, in the clear.
    Server,
    /// Of other servers, with TLS (XEP-0368).
    ServerTls,
    /// Of components, in the clear (XEP-0114).
    Component,
}

impl Kind {
    /// The option's name, also the name under which a service manager hands such a socket in.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Client => "c2s",
            Kind::ClientTls => "c2s_tls",
            Kind::Server => "s2s",
            Kind::ServerTls => "s2s_tls",
            Kind::Component => "component",
        }
    }

    /// Who connects to it.
    pub fn peer(self) -> Peer {
        match self {
            Kind::Client | Kind::ClientTls => Peer::Client,
            Kind::Server | Kind::ServerTls => Peer::Server,
            Kind::Component => Peer::Component,
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    /// How its streams begin.
    pub kind: Kind,
    /// The socket, non-blocking.
    pub socket: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Binds an address. A `[::]` socket takes IPv4 too, unless the kernel is told otherwise.
///
/// # Errors
/// The operating system's.
pub fn bind(kind: Kind, address: SocketAddr) -> io::Result<Listening> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if let SocketAddr::V6(v6) = address {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    adopt(kind, socket.into())
}

/// Takes a socket that listens already.
///
/// # Errors
/// The operating system's.
pub fn adopt(kind: Kind, socket: TcpListener) -> io::Result<Listening> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok(Listening {
        kind,
        socket,
        address,
    })
}

/// What the listener is told.
enum Order {
    /// New connections get these certificates.
    Reload(TlsSets),
    /// Accept on these too.
    Listen(Vec<Listening>),
    /// Accept no more.
    Stop,
}

/// Gives orders to the listener's thread.
#[derive(Clone)]
pub struct ListenerHandle {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

impl ListenerHandle {
    /// Gives new connections these certificates.
    pub fn reload(&self, contexts: TlsSets) {
        self.order(Order::Reload(contexts));
    }

    /// Accepts on further sockets.
    pub fn listen(&self, sockets: Vec<Listening>) {
        self.order(Order::Listen(sockets));
    }

    /// Ends the thread, which closes its sockets.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        // The thread is gone only when the process is stopping.
        if self.orders.send(order).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!(error:%; "listener not woken");
        }
    }
}

/// The listener before its thread runs.
pub struct Listener {
    poll: Poll,
    orders: Receiver<Order>,
    sockets: Vec<Listening>,
    contexts: TlsSets,
    shards: Vec<Address<Post>>,
    open_files: Arc<OpenFiles>,
    throttle: Arc<Throttle>,
    clock: Clock,
    next: usize,
    streams: Arc<AtomicU64>,
    /// Whether there was no descriptor for who waits, and somebody may wait still.
    is_short: bool,
    /// Connections refused since all were taken; none while not all are.
    refused: Option<u64>,
}

impl Listener {
    /// A listener on sockets that are bound.
    ///
    /// # Errors
    /// The poll's.
    pub fn new(
        sockets: Vec<Listening>,
        contexts: TlsSets,
        shards: Vec<Address<Post>>,
        open_files: Arc<OpenFiles>,
        throttle: Arc<Throttle>,
        clock: Clock,
        streams: Arc<AtomicU64>,
    ) -> io::Result<(Listener, ListenerHandle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (sender, orders) = unbounded();
        let mut listener = Listener {
            poll,
            orders,
            sockets: Vec::new(),
            contexts,
            shards,
            open_files,
            throttle,
            clock,
            next: 0,
            streams,
            is_short: false,
            refused: None,
        };
        for socket in sockets {
            listener.watch(socket)?;
        }
        let handle = ListenerHandle {
            orders: sender,
            waker,
        };
        Ok((listener, handle))
    }

    fn watch(&mut self, listening: Listening) -> io::Result<()> {
        self.poll.registry().register(
            &mut SourceFd(&listening.socket.as_raw_fd()),
            Token(self.sockets.len()),
            Interest::READABLE,
        )?;
        self.sockets.push(listening);
        Ok(())
    }

    /// Accepts until told to stop.
    ///
    /// # Errors
    /// The poll's.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        // Sockets that may have more connections waiting; edges tell of new ones only.
        let mut again: Vec<usize> = Vec::new();
        let mut timeout = None;
        loop {
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Reload(contexts) => self.contexts = contexts,
                    Order::Listen(sockets) => {
                        for socket in sockets {
                            let (kind, address) = (socket.kind, socket.address);
                            if let Err(error) = self.watch(socket) {
                                log::error!(
                                    listener = kind.name(), address:%, error:%;
                                    "nobody gets in there: the system watches no further socket; \
                                     start the server again"
                                );
                            }
                        }
                    }
                    Order::Stop => return Ok(()),
                }
            }
            for event in &events {
                let index = event.token().0;
                if index < self.sockets.len() && !again.contains(&index) {
                    again.push(index);
                }
            }
            timeout = None;
            let mut rest = Vec::new();
            for index in again.drain(..) {
                match self.accept_some(index) {
                    Accepting::Empty => {}
                    Accepting::More => {
                        timeout = timeout.or(Some(Duration::ZERO));
                        rest.push(index);
                    }
                    Accepting::Short => {
                        timeout = Some(PAUSE);
                        rest.push(index);
                    }
                }
            }
            again = rest;
        }
    }

    fn accept_some(&mut self, index: usize) -> Accepting {
        for _ in 0..ACCEPTS_MAX {
            let Some(listening) = self.sockets.get(index) else {
                return Accepting::Empty;
            };
            let kind = listening.kind;
            match listening.socket.accept() {
                Ok((socket, peer)) => {
                    if self.is_short {
                        self.open_files.set_limit(open_files::limit());
                    }
                    self.accepted(kind, socket, peer);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        if std::mem::take(&mut self.is_short) {
                            log::info!(listener = kind.name(); "accepting again");
                        }
                        return Accepting::Empty;
                    }
                    // The peer went away while it waited, or a signal came.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        // The limit may have been lowered; what it admits now leaves some free again.
                        self.open_files.set_limit(open_files::limit());
                        if !std::mem::replace(&mut self.is_short, true) {
                            log::error!(
                                listener = kind.name(), error:%;
                                "cannot accept; connections wait; raise the limit on open files if \
                                 it is that"
                            );
                        }
                        return Accepting::Short;
                    }
                },
            }
        }
        Accepting::More
    }

    fn accepted(&mut self, kind: Kind, socket: TcpStream, peer: SocketAddr) {
        let Some(taken) = self.open_files.take() else {
            self.refuse();
            return;
        };
        if let Some(refused) = self.refused
            && self.open_files.has_room()
        {
            self.refused = None;
            log::info!(refused; "not all connections are taken any more");
        }
        let now = self.clock.now().mono;
        let free = self.open_files.free();
        if let Err(refused) = self.throttle.connect(peer.ip(), now, free) {
            // No answer: who opens so many connections gets none of our bytes either. Left waiting
            // they would take descriptors.
            refused.log_connection(peer.ip().to_canonical());
            return;
        }
        match self.transport(kind, socket, peer, taken) {
            Ok(transport) => {
                let origin = Origin {
                    stream: self.streams.fetch_add(1, Ordering::Relaxed) + 1,
                    address: peer,
                    accepted: now,
                };
                let accepted = Box::new(Accepted {
                    transport,
                    origin,
                    peer: kind.peer(),
                });
                if let Some(shard) = self.shards.get(self.next) {
                    shard.send(vec![Post::Accepted(accepted)]);
                }
                self.next = (self.next + 1) % self.shards.len().max(1);
            }
            Err(error) => {
                self.throttle.disconnect(peer.ip(), true);
                log::debug!(address:% = peer.ip(), error:%; "connection dropped");
            }
        }
    }

    /// All connections are taken. One line tells it until there is room for a while, be there ever so
    /// many that come.
    fn refuse(&mut self) {
        if self.refused.is_none() {
            log::warn!(
                connections_max = self.open_files.connections_max();
                "all connections are taken, further ones are refused; raise LimitNOFILE= of the \
                 service, or the limit that `ulimit -Hn` shows"
            );
        }
        *self.refused.get_or_insert(0) += 1;
    }

    fn transport(
        &self,
        kind: Kind,
        socket: TcpStream,
        peer: SocketAddr,
        taken: Taken,
    ) -> io::Result<Box<dyn Transport>> {
        SockRef::from(&socket).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        let contexts = Arc::clone(match kind.peer() {
            // A component never comes to use them.
            Peer::Client | Peer::Component => &self.contexts.clients,
            Peer::Server => &self.contexts.servers,
        });
        let transport = match kind {
            Kind::Client | Kind::Server | Kind::Component => {
                SocketTransport::plain(socket, peer, contexts)?
            }
            Kind::ClientTls | Kind::ServerTls => {
                SocketTransport::direct_tls(socket, peer, contexts)?
            }
        };
        Ok(Box::new(transport.counted(taken)))
    }
}

enum Accepting {
    /// Nobody waits.
    Empty,
    /// Somebody may still wait.
    More,
    /// There is no descriptor for who waits.
    Short,
}
