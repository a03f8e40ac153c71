//! Sockets <-> bytes: the poller, the listeners and the slab of connections; no MQTT.
//!
//! | file | knows |
//! |---|---|
//! | `connection` | one socket: readiness, reading, writing, close |
//! | `layers` | what stands between a socket and MQTT: the PROXY protocol, TLS |
//! | `proxy` | the header of the PROXY protocol |
//! | `signals` | signals as events of a socket |
//! | `clock` | that the system's clock was set, as an event |
//! | `certificates` | the operator's TLS files, and which clients' certificates are let in |
//! | `listener` | bind, limits, socket options |
//!
//! A socket is registered once, edge-triggered, for reading and writing, and never again. A turn of the loop:
//! [`Net::poll`]; [`Net::accept`] until `None`; for each [`Net::take_ready`] one [`Net::fill`], parse what is in
//! [`Net::ring`], [`Net::settle`]; for each [`Net::take_writable`] and each client that something was queued for one
//! [`Net::flush`].
//!
//! 1. A connection that may hold unread bytes is on the ready list, or paused, or between `take_ready` and `settle`.
//! 2. The large ring holds bytes of the connection `holder` only; without one it is empty.
//! 3. A key whose connection is gone does nothing and finds nothing.
//! 4. While accepting is paused, the backlog is looked at again when a connection closes, and once in [`ACCEPT_RETRY`]
//!    where others may give back what is missing.
//! 5. If there is work that no event will tell of, `poll` does not wait.

pub mod certificates;
mod clock;
mod connection;
mod layers;
pub mod listener;
pub mod proxy;
mod signals;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use self::certificates::{TlsContext, TlsError};
pub use self::layers::Established;
pub use self::listener::{ListenerSpec, NetError, SocketDomain};

use self::clock::WallClock;
use self::connection::{Connection, Connections, Flushed};
use self::layers::Layers;
use self::listener::{Group, Listener};
use self::signals::Signals;
use crate::buffer::ring::READ_BYTES;
use crate::buffer::{ConnectionKey, Outbox, PeerAddress, Ring, RingPool};
use crate::config::{log_target, system_reason};

/// How many connections are accepted in one turn of the loop; the others wait for the next.
pub const ACCEPTS_PER_TURN: u32 = 64;

/// How long accepting pauses when files or memory ran out and no connection closes: other processes may free some.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// How many events one poll takes.
const EVENTS_PER_POLL: usize = 1024;

/// How much all connections of one turn may bring, while that is at least [`READ_BYTES_MIN`] for each.
const BYTES_PER_TURN: usize = 4 * 1024 * 1024;

/// What a connection may bring in one turn in any case.
const READ_BYTES_MIN: usize = 8 * 1024;

/// How much is read at a time from a socket whose bytes layers look at first.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Tokens below `WAKER` are indices of connections.
const LISTENERS: usize = 1 << 30;
const SIGNALS: usize = LISTENERS - 1;
const WAKER: usize = SIGNALS - 1;
const CLOCK: usize = WAKER - 1;

/// The sockets.
#[derive(Debug)]
pub struct Net {
    waker: Arc<mio::Waker>,
    poll: Poll,
    events: Events,
    connections: Connections,
    ready: TurnList,
    writable: TurnList,
    /// Connections that are not read, and whose peer has closed its side meanwhile.
    hung_up: Vec<ConnectionKey>,
    rings: RingPool,
    /// What was read for layers; empty until there are some.
    scratch: Vec<u8>,
    /// The connection that has the large ring.
    holder: Option<ConnectionKey>,
    /// What a key finds whose connection is gone.
    no_ring: Ring,
    listeners: Vec<Listener>,
    groups: Vec<Group>,
    /// The listeners whose backlog may not be empty.
    accepting: VecDeque<usize>,
    accepts_left: u32,
    /// Until when nothing is accepted, because something ran out.
    accept_paused: Option<Pause>,
    /// Whether that was logged, since the last time a backlog was empty.
    exhaustion_logged: bool,
    signals: Option<Signals>,
    clock: Option<WallClock>,
    bytes_received: u64,
    bytes_sent: u64,
    connections_accepted: u64,
    /// How many bytes a read takes at most in this turn.
    read_bytes: usize,
}

/// Until when no connection is accepted.
#[derive(Clone, Copy, Debug)]
enum Pause {
    /// Until one of ours closes.
    UntilClose,
    /// Until then, or one of ours closes.
    Until(Instant),
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name from now on.
    pub connection: ConnectionKey,
    /// Where it comes from, as far as its socket knows.
    pub peer: PeerAddress,
    /// [`ListenerSpec::index`] of its listener.
    pub listener: usize,
}

/// Wakes the poller from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Lets [`Net::poll`] return.
    pub fn wake(&self) {
        // The system has no memory for an event: whoever is to be woken looks when the next one comes.
        let _ = self.0.wake();
    }
}

/// Why a connection is over that was read from.
#[derive(Debug)]
pub enum FillError {
    /// The system says so: a reset, for example.
    System(io::Error),
    /// A layer says so, with this reason.
    Layer(String),
}

impl FillError {
    fn new(reason: impl fmt::Display) -> FillError {
        FillError::Layer(reason.to_string())
    }
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> FillError {
        FillError::System(error)
    }
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FillError::System(error) => f.write_str(&system_reason(error)),
            FillError::Layer(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for FillError {}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes came; with 0 there was nothing to read or no room, but there may still be something to parse.
    Bytes(usize),
    /// The layers below MQTT are there; see [`Net::established`]. Bytes of MQTT come with the next read.
    Established,
    /// The peer will send no more.
    Closed,
}

/// Connections that wait to be served, in order; what is pushed during a turn waits for the next.
#[derive(Debug, Default)]
struct TurnList {
    keys: VecDeque<ConnectionKey>,
    /// How many of them are to be served in this turn.
    turn: usize,
}

impl TurnList {
    fn push(&mut self, key: ConnectionKey) {
        self.keys.push_back(key);
    }

    fn begin_turn(&mut self) {
        self.turn = self.keys.len();
    }

    fn take(&mut self) -> Option<ConnectionKey> {
        self.turn = self.turn.checked_sub(1)?;
        self.keys.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Net {
    /// A poller without sockets.
    /// # Errors
    /// If the system has no poller left to give.
    pub fn new() -> io::Result<Net> {
        let poll = Poll::new()?;
        Ok(Net {
            waker: Arc::new(mio::Waker::new(poll.registry(), Token(WAKER))?),
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            connections: Connections::default(),
            ready: TurnList::default(),
            writable: TurnList::default(),
            hung_up: Vec::new(),
            rings: RingPool::new(),
            scratch: Vec::new(),
            holder: None,
            no_ring: Ring::default(),
            listeners: Vec::new(),
            groups: Vec::new(),
            accepting: VecDeque::new(),
            accepts_left: 0,
            accept_paused: None,
            exhaustion_logged: false,
            signals: None,
            clock: None,
            bytes_received: 0,
            bytes_sent: 0,
            connections_accepted: 0,
            read_bytes: READ_BYTES,
        })
    }

    /// Listens on every address of `spec`.
    /// # Errors
    /// If the host has no address, or one of its addresses cannot be bound; then none is.
    pub fn listen(&mut self, spec: &ListenerSpec) -> Result<(), NetError> {
        let group = u16::try_from(self.groups.len()).expect("fewer listeners than ports");
        for mut listener in listener::open(spec, group)? {
            let token = Token(LISTENERS + self.listeners.len());
            let registry = self.poll.registry();
            registry
                .register(&mut listener.socket, token, Interest::READABLE)
                .map_err(NetError::Register)?;
            self.listeners.push(listener);
        }
        self.groups.push(Group::new(spec));
        Ok(())
    }

    /// The addresses that listeners are bound to; a Unix socket has none.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let addresses = self.listeners.iter().map(|listener| listener.address);
        addresses.flatten()
    }

    /// Lets signals arrive as events instead of ending the process.
    /// # Errors
    /// If a signal cannot be caught, or the system is out of files.
    pub fn watch_signals(&mut self, signals: &[i32]) -> io::Result<()> {
        let mut watch = Signals::watch(signals)?;
        let registry = self.poll.registry();
        if let Some(mut before) = self.signals.take() {
            registry.deregister(&mut before.receiver)?;
        }
        registry.register(&mut watch.receiver, Token(SIGNALS), Interest::READABLE)?;
        self.signals = Some(watch);
        Ok(())
    }

    /// Lets it arrive as an event that the system's clock was set.
    /// # Errors
    /// If the system is out of files.
    pub fn watch_clock(&mut self) -> io::Result<()> {
        self.clock = Some(WallClock::watch(self.poll.registry(), Token(CLOCK))?);
        Ok(())
    }

    /// Whether the system's clock was set since the last call.
    pub fn clock_was_set(&mut self) -> bool {
        self.clock.as_mut().is_some_and(WallClock::take)
    }

    /// The signals that came since the last call.
    pub fn take_signals(&mut self) -> Vec<i32> {
        self.signals.as_mut().map(Signals::take).unwrap_or_default()
    }

    /// Waits for events, no longer than `timeout`, and not at all if there is work left from the last turn.
    /// # Errors
    /// If the poller fails, which is a fault of ours.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.poll_timeout(timeout);
        match self.poll.poll(&mut self.events, timeout) {
            // A signal: the next poll finds what it wrote. The caller looks at its clock in between.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &self.events {
            match event.token().0 {
                index @ 0..CLOCK => {
                    let Some((key, connection)) = self.connections.at(index) else {
                        continue;
                    };
                    let read_closed = event.is_read_closed();
                    if (event.is_readable() || read_closed || event.is_error())
                        && connection.handle_readable(read_closed)
                    {
                        self.ready.push(key);
                    } else if read_closed && connection.is_paused() {
                        self.hung_up.push(key);
                    }
                    if (event.is_writable() || event.is_write_closed())
                        && connection.handle_writable()
                    {
                        self.writable.push(key);
                    }
                }
                // Who wakes the poller has left word elsewhere.
                WAKER => {}
                CLOCK => self.clock.iter_mut().for_each(WallClock::receive),
                SIGNALS => self.signals.iter_mut().for_each(Signals::receive),
                token => {
                    let index = token - LISTENERS;
                    let listener = &mut self.listeners[index];
                    if !listener.pending {
                        listener.pending = true;
                        self.accepting.push_back(index);
                    }
                }
            }
        }
        if let Some(Pause::Until(retry)) = self.accept_paused
            && Instant::now() >= retry
        {
            self.accept_paused = None;
        }
        self.accepts_left = ACCEPTS_PER_TURN;
        self.ready.begin_turn();
        let share = BYTES_PER_TURN / self.ready.turn.max(1);
        self.read_bytes = share.clamp(READ_BYTES_MIN, READ_BYTES);
        self.writable.begin_turn();
        Ok(())
    }

    /// Whether the last poll brought events, or work is left from the turn before.
    pub fn has_work(&self) -> bool {
        !self.events.is_empty() || self.poll_timeout(None) == Some(Duration::ZERO)
    }

    fn poll_timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
        let accepts = !self.accepting.is_empty();
        if !self.ready.is_empty()
            || !self.writable.is_empty()
            || (accepts && self.accept_paused.is_none())
        {
            return Some(Duration::ZERO);
        }
        match self.accept_paused {
            Some(Pause::Until(retry)) if accepts => {
                let retry = retry.saturating_duration_since(Instant::now());
                Some(timeout.map_or(retry, |timeout| timeout.min(retry)))
            }
            _ => timeout,
        }
    }

    /// The next new connection; `None` if there is none, or no more is to be accepted in this turn.
    pub fn accept(&mut self) -> Option<Accepted> {
        while self.accept_paused.is_none() && self.accepts_left > 0 {
            let &index = self.accepting.front()?;
            self.accepts_left -= 1;
            let listener = &mut self.listeners[index];
            match listener.socket.accept() {
                Ok((mut socket, peer)) => {
                    // The listeners take turns, so that a flood on one does not close the others.
                    self.accepting.rotate_left(1);
                    let group = listener.group;
                    if !self.groups[usize::from(group)].admit() {
                        log::info!(
                            target: log_target::NOTICE,
                            "Client connection from {} denied: max_connections exceeded.",
                            peer.host()
                        );
                        continue;
                    }
                    let token = Token(self.connections.next_index());
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if let Err(error) = self.poll.registry().register(&mut socket, token, interest)
                    {
                        self.groups[usize::from(group)].release();
                        self.handle_accept_error(&error);
                        continue;
                    }
                    let door = &self.groups[usize::from(group)];
                    let layers = Layers::new(peer, door.proxy_protocol, door.tls.as_ref());
                    let listener = door.index;
                    let connection = self
                        .connections
                        .insert(Connection::new(socket, group, layers));
                    self.connections_accepted += 1;
                    return Some(Accepted {
                        connection,
                        peer,
                        listener,
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.pending = false;
                    self.accepting.pop_front();
                    self.exhaustion_logged = false;
                }
                Err(error) => self.handle_accept_error(&error),
            }
        }
        None
    }

    /// Goes on after a connection that was gone before it was accepted. Any other error would come again at once, for
    /// want of files or memory as a rule: pauses, and says so once until a backlog is empty again.
    fn handle_accept_error(&mut self, error: &io::Error) {
        if listener::is_lost_connection(error) {
            return;
        }
        // What this process has too many of only this process can close; while it has a connection, that is the event
        // to wait for, and not the clock.
        let waits_for_close = listener::is_own_limit(error) && !self.is_empty();
        self.accept_paused = Some(match waits_for_close {
            true => Pause::UntilClose,
            false => Pause::Until(Instant::now() + ACCEPT_RETRY),
        });
        if std::mem::replace(&mut self.exhaustion_logged, true) {
            return;
        }
        if listener::is_exhaustion(error) {
            log::warn!(
                "Unable to accept new connection, system socket count has been exceeded. \
                 Try increasing \"ulimit -n\" or equivalent."
            );
        } else {
            log::warn!("Unable to accept new connection: {}.", system_reason(error));
        }
    }

    /// How many connections are to be served in this turn.
    pub fn ready(&self) -> usize {
        self.ready.turn
    }

    /// How many bytes a read takes at most in this turn: less where many connections are ready, so that what they have sent
    /// and their share of the turn does not suffice for waits with the kernel rather than here.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Whether a whole packet of the connection was left by an earlier turn.
    pub fn has_packet(&self, key: ConnectionKey) -> bool {
        self.connections
            .get(key)
            .is_some_and(Connection::has_packet)
    }

    /// The next connection to read from in this turn.
    pub fn take_ready(&mut self) -> Option<ConnectionKey> {
        loop {
            let key = self.ready.take()?;
            if self
                .connections
                .get_mut(key)
                .is_some_and(Connection::take_turn)
            {
                return Some(key);
            }
        }
    }

    /// A connection that is paused, and whose peer will send no more; told once.
    pub fn take_hung_up(&mut self) -> Option<ConnectionKey> {
        self.hung_up.pop()
    }

    /// The next connection whose flush was blocked and can go on.
    pub fn take_writable(&mut self) -> Option<ConnectionKey> {
        loop {
            let key = self.writable.take()?;
            if let Some(connection) = self.connections.get_mut(key) {
                connection.flush_layers();
                return Some(key);
            }
        }
    }

    /// One read into the connection's ring.
    /// # Errors
    /// What the system or a layer says of the connection, which is over then.
    pub fn fill(&mut self, key: ConnectionKey) -> Result<Filled, FillError> {
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(own) = connection.parked.take_if(|own| own.is_empty())
        {
            // Its packet was handled in this turn: what follows is not to fill a ring of that packet's size.
            self.rings.recycle(own);
        }
        self.attach(key);
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(Filled::Closed);
        };
        let mut parked = connection.parked.take();
        let ring = match &mut parked {
            Some(own) => own,
            None => self.rings.large(),
        };
        if connection.layers.is_some() && self.scratch.is_empty() {
            self.scratch = vec![0; SCRATCH_BYTES];
        }
        let filled = connection.fill(ring, &mut self.scratch, self.read_bytes);
        connection.parked = parked;
        if let Ok(Filled::Established) = filled {
            let current = self.groups[usize::from(connection.group)].tls.as_ref();
            if let Some(reason) = current.and_then(|current| connection.refusal_under(current)) {
                connection.refuse();
                return Err(FillError::Layer(reason));
            }
        }
        if let Ok(Filled::Bytes(n)) = filled {
            self.bytes_received += n as u64;
        }
        filled
    }

    /// What the layers below MQTT have learnt of a connection that has some, once all of it is learnt.
    pub fn established(&self, key: ConnectionKey) -> Option<&Established> {
        let connection = self.connections.get(key)?;
        connection.layers.as_ref()?.established()
    }

    /// TLS of the listener with this [`ListenerSpec::index`], for connections that come from now on.
    pub fn set_tls(&mut self, listener: usize, context: Arc<TlsContext>) {
        for group in self.groups.iter_mut().filter(|it| it.index == listener) {
            group.tls = Some(Arc::clone(&context));
        }
    }

    /// How many connections the listener with this [`ListenerSpec::index`] may have; those that are there stay.
    pub fn set_max_connections(&mut self, listener: usize, max: Option<u32>) {
        for group in self.groups.iter_mut().filter(|it| it.index == listener) {
            group.set_max_connections(max);
        }
    }

    /// Whether TCP_NODELAY is set, for connections that come from now on.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        for listener in &self.listeners {
            if let Err(error) = listener.socket.set_nodelay(nodelay) {
                let reason = system_reason(&error);
                log::warn!("Warning: Unable to change set_tcp_nodelay: {reason}.");
            }
        }
    }

    /// The connections of the listener with this [`ListenerSpec::index`] whose certificate would not be accepted any
    /// more, and why.
    pub fn recheck_certificates(&self, listener: usize) -> Vec<(ConnectionKey, String)> {
        let Some(group) = self.groups.iter().position(|it| it.index == listener) else {
            return Vec::new();
        };
        let Some(context) = self.groups[group].tls.clone() else {
            return Vec::new();
        };
        let mut refused = Vec::new();
        // Of the contexts before: whether clients that were let in under it have to be looked at.
        let mut known: Vec<(&Arc<TlsContext>, bool)> = Vec::new();
        let connections = self.connections.iter();
        for (key, connection) in connections.filter(|(_, it)| usize::from(it.group) == group) {
            let Some(before) = connection.layers.as_ref().and_then(|it| it.context()) else {
                continue;
            };
            let position = known.iter().position(|(it, _)| Arc::ptr_eq(it, before));
            let position = position.unwrap_or_else(|| {
                known.push((before, !before.lets_in_the_same(&context)));
                known.len() - 1
            });
            if known[position].1 {
                let reason = connection.refusal_under(&context);
                refused.extend(reason.map(|reason| (key, reason)));
            }
        }
        refused
    }

    /// What wakes [`Net::poll`] from another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// The connection's unparsed bytes.
    #[inline]
    pub fn ring(&mut self, key: ConnectionKey) -> &mut Ring {
        self.attach(key);
        match self.connections.get_mut(key) {
            None => &mut self.no_ring,
            Some(Connection {
                parked: Some(own), ..
            }) => own,
            Some(_) => self.rings.large(),
        }
    }

    /// To be called when the connection's bytes are parsed as far as they can be: gives back its ring, or keeps what is
    /// left, and puts the connection on the ready list again if there may be more.
    ///
    /// `needed` is the whole length in bytes of the packet at the front of the ring, or 0 if that is not known or there
    /// is none. Unless the connection is paused, a packet that is whole counts as left for the next turn.
    pub fn settle(&mut self, key: ConnectionKey, needed: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut unparsed = 0;
        if let Some(own) = &mut connection.parked {
            unparsed = own.len();
            if unparsed > 0 {
                RingPool::expect(own, needed);
            } else if let Some(own) = connection.parked.take() {
                self.rings.recycle(own);
            }
        } else if self.holder == Some(key) {
            unparsed = self.rings.large().len();
            self.rings
                .expect_in_large(if unparsed == 0 { 0 } else { needed });
            if unparsed == 0 {
                self.holder = None;
            } else if self.rings.outgrows_large() {
                connection.parked = self.rings.park();
                self.holder = None;
            }
        }
        let has_packet = unparsed > 0 && (1..=unparsed).contains(&needed);
        connection.set_has_packet(has_packet);
        if connection.wants_turn_for(has_packet) {
            self.ready.push(key);
        }
    }

    /// Stops reading the connection: events are only remembered.
    pub fn pause(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.pause();
            if connection.has_hung_up() {
                self.hung_up.push(key);
            }
        }
    }

    /// Reads the connection again; it is on the ready list if there may be something to read or to parse.
    pub fn resume(&mut self, key: ConnectionKey) {
        let holds = self.holder == Some(key);
        if let Some(connection) = self.connections.get_mut(key) {
            let was_paused = connection.resume();
            let unparsed = holds || connection.parked.is_some();
            if was_paused && connection.wants_turn_for(unparsed) {
                self.ready.push(key);
            }
        }
    }

    /// Writes what the outbox holds, as far as the kernel takes it; whether it took all. What it would not take waits
    /// until [`Net::take_writable`] names the connection, and `outbox.blocked` says so.
    ///
    /// For a connection that is gone nothing is written: `false`.
    /// # Errors
    /// What the system says of the connection, which is over then.
    pub fn flush(&mut self, key: ConnectionKey, outbox: &mut Outbox) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(false);
        };
        let flushed = connection.flush(outbox, &mut self.bytes_sent)?;
        if flushed == Flushed::Unfinished {
            self.writable.push(key);
        }
        Ok(flushed == Flushed::Drained)
    }

    /// Ends the connection behind what was flushed.
    pub fn close(&mut self, key: ConnectionKey) {
        let Some(mut connection) = self.connections.remove(key) else {
            return;
        };
        if self.holder == Some(key) {
            self.holder = None;
            self.rings.clear_large();
        }
        if let Some(ring) = connection.parked.take() {
            self.rings.recycle(ring);
        }
        self.groups[usize::from(connection.group)].release();
        connection.shut_down();
        self.accept_paused = None;
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.len() == 0
    }

    /// Bytes received since the start.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes sent since the start.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Connections accepted since the start.
    pub fn connections_accepted(&self) -> u64 {
        self.connections_accepted
    }

    /// Sees to it that the connection has a ring to be read into: the large one, which another may have to leave, or
    /// its own if it has one that is to be read into directly.
    #[inline]
    fn attach(&mut self, key: ConnectionKey) {
        if self.holder != Some(key) {
            self.attach_other(key);
        }
    }

    fn attach_other(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection
            .parked
            .as_ref()
            .is_some_and(|ring| ring.is_direct())
        {
            return;
        }
        let parked = connection.parked.take();
        if let Some(before) = self.holder.replace(key)
            && let Some(connection) = self.connections.get_mut(before)
        {
            connection.parked = self.rings.park();
        }
        if let Some(ring) = parked {
            self.rings.unpark(ring);
        }
    }
}

/// Raises the limit of open files to the hard limit; returns how many that is.
/// # Errors
/// If the system does not let us.
pub fn raise_file_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
