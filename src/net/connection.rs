//! One socket: its readiness, reading, writing and closing; knows neither the poller nor other connections.
//!
//! What stands between the socket and MQTT on some listeners, the PROXY protocol and TLS, is in [`Layers`]; a
//! connection without has none, and reads and writes as if there were no such thing.
//!
//! Readiness is edge-triggered: the poller tells a change once, and the flags here remember it until it is used up.
//! 1. `READABLE` is set while the socket may hold bytes, an end or an error that were not read.
//! 2. A short read means that the socket is drained (epoll(7)), unless the end of the stream was announced with the
//!    bytes: then nothing would tell of it again, so the connection stays readable until the end is read. `DRAINED` says
//!    that but for the end, as a rule, nothing is left: enough to close without a look, not enough to call it the end.
//! 3. `BLOCKED` is set from a write that the kernel did not take whole until the poller says that it would take more.
//! 4. `QUEUED` is set while the connection is on the ready list, so that it is there once.
//! 5. After `ENDED` the socket is never read again.
//! 6. While layers hold bytes that they have decrypted and the ring had no room for, `READABLE` is set.
//! 7. `HAS_PACKET` is set while a whole packet, or more, waits in the connection's ring for its next turn.
//! 8. `REFUSED` is set, and `ENDED` with it, when it is a layer that will have no more of the connection.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::certificates::TlsContext;
use super::layers::{Layers, Read as LayersRead};
use super::{FillError, Filled};
use crate::buffer::outbox::SLICES_MAX;
use crate::buffer::{ConnectionKey, Outbox, Ring};

/// How many bytes that nobody will parse are read before closing, so that the close is no reset.
const CLOSE_DRAIN_BYTES_MAX: usize = 64 * 1024;

/// How many vectored writes one flush makes while the kernel takes everything.
const FLUSH_WRITES_MAX: usize = 16;

const READABLE: u16 = 1 << 0;
const READ_CLOSED: u16 = 1 << 1;
const QUEUED: u16 = 1 << 2;
const PAUSED: u16 = 1 << 3;
const BLOCKED: u16 = 1 << 4;
const ENDED: u16 = 1 << 5;
const REFUSED: u16 = 1 << 6;
const DRAINED: u16 = 1 << 7;
const HAS_PACKET: u16 = 1 << 8;

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Connection>() <= 40);

/// A socket of either family.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.shutdown(how),
            Stream::Unix(socket) => socket.shutdown(how),
        }
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.read(bytes),
            Stream::Unix(socket) => socket.read(bytes),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.write(bytes),
            Stream::Unix(socket) => socket.write(bytes),
        }
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.write_vectored(slices),
            Stream::Unix(socket) => socket.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.register(registry, token, interests),
            Stream::Unix(socket) => socket.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.reregister(registry, token, interests),
            Stream::Unix(socket) => socket.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.deregister(registry),
            Stream::Unix(socket) => socket.deregister(registry),
        }
    }
}

/// One Network Connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Stream,
    pub(super) generation: u32,
    /// The listener group it counts in.
    pub(super) group: u16,
    flags: u16,
    /// What could not be parsed yet, if it is not in the large ring.
    pub(super) parked: Option<Box<Ring>>,
    /// What stands between the socket and MQTT.
    pub(super) layers: Option<Box<Layers>>,
}

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All is sent.
    Drained,
    /// The kernel is full; the poller will tell.
    Blocked,
    /// The kernel would take more, but others wait.
    Unfinished,
}

impl Connection {
    pub(super) fn new(socket: Stream, group: u16, layers: Option<Box<Layers>>) -> Connection {
        Connection {
            socket,
            generation: 0,
            group,
            flags: 0,
            parked: None,
            layers,
        }
    }

    fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Remembers a readable event; whether the connection is to go on the ready list.
    #[inline]
    pub(super) fn handle_readable(&mut self, read_closed: bool) -> bool {
        self.flags |= READABLE | if read_closed { READ_CLOSED } else { 0 };
        self.wants_turn()
    }

    /// Remembers a writable event; whether a flush waits for it.
    #[inline]
    pub(super) fn handle_writable(&mut self) -> bool {
        let waits = self.is(BLOCKED);
        self.flags &= !BLOCKED;
        waits
    }

    /// Whether the connection is to go on the ready list for its socket; if so, it counts as being there.
    #[inline]
    fn wants_turn(&mut self) -> bool {
        let wants = self.flags & (READABLE | QUEUED | PAUSED) == READABLE;
        if wants {
            self.flags |= QUEUED;
        }
        wants
    }

    /// Whether a whole packet is left in the ring.
    pub(super) fn has_packet(&self) -> bool {
        self.is(HAS_PACKET)
    }

    /// Says whether a whole packet is left in the ring.
    pub(super) fn set_has_packet(&mut self, has_packet: bool) {
        match has_packet {
            true => self.flags |= HAS_PACKET,
            false => self.flags &= !HAS_PACKET,
        }
    }

    /// As [`Connection::wants_turn`], if there may be something to parse too.
    pub(super) fn wants_turn_for(&mut self, unparsed: bool) -> bool {
        let wants = (unparsed || self.is(READABLE)) && !self.is(QUEUED | PAUSED);
        if wants {
            self.flags |= QUEUED;
        }
        wants
    }

    /// Takes the connection off the ready list; whether it is to be served.
    pub(super) fn take_turn(&mut self) -> bool {
        self.flags &= !QUEUED;
        !self.is(PAUSED)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is(PAUSED)
    }

    /// Whether the peer has closed its side, as far as the poller has told.
    pub(super) fn has_hung_up(&self) -> bool {
        self.is(READ_CLOSED)
    }

    pub(super) fn pause(&mut self) {
        self.flags |= PAUSED;
    }

    /// Whether it was paused.
    pub(super) fn resume(&mut self) -> bool {
        let was_paused = self.is(PAUSED);
        self.flags &= !PAUSED;
        was_paused
    }

    /// One read into the ring, of so many bytes at most; layers read through `scratch`.
    pub(super) fn fill(
        &mut self,
        ring: &mut Ring,
        scratch: &mut [u8],
        bytes_max: usize,
    ) -> Result<Filled, FillError> {
        if self.is(ENDED) {
            // What an event that was under way left behind.
            self.flags &= !READABLE;
            return Ok(Filled::Closed);
        }
        if self.layers.is_some() {
            let room = scratch.len().min(bytes_max);
            return self.fill_through_layers(ring, &mut scratch[..room]);
        }
        let spare = ring.spare();
        let room = spare.len().min(bytes_max);
        if room == 0 || !self.is(READABLE) {
            return Ok(Filled::Bytes(0));
        }
        match read(&mut self.socket, &mut spare[..room]) {
            Ok(0) => {
                self.end();
                Ok(Filled::Closed)
            }
            Ok(n) => {
                if n < room {
                    match self.is(READ_CLOSED) {
                        true => self.flags |= DRAINED,
                        false => self.flags &= !READABLE,
                    }
                }
                ring.produced(n);
                Ok(Filled::Bytes(n))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.flags &= !READABLE;
                Ok(Filled::Bytes(0))
            }
            Err(error) => {
                self.end();
                Err(error.into())
            }
        }
    }

    fn fill_through_layers(
        &mut self,
        ring: &mut Ring,
        scratch: &mut [u8],
    ) -> Result<Filled, FillError> {
        let Some(layers) = &mut self.layers else {
            return Ok(Filled::Bytes(0));
        };
        if self.flags & READABLE == 0 {
            return Ok(Filled::Bytes(0));
        }
        let read = layers.read(&mut self.socket, ring, scratch);
        self.flush_layers();
        match read {
            Ok(LayersRead { filled, is_drained }) => {
                if is_drained && !self.is(READ_CLOSED) {
                    self.flags &= !READABLE;
                }
                if filled == Filled::Closed {
                    self.end();
                }
                Ok(filled)
            }
            Err(FillError::Layer(reason)) => {
                self.refuse();
                Err(FillError::Layer(reason))
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// Sends what layers have to say for themselves, if the socket takes more.
    pub(super) fn flush_layers(&mut self) {
        if let Some(layers) = &mut self.layers
            && self.flags & BLOCKED == 0
            // What went wrong is told by the next read.
            && let Ok(true) = layers.send(&mut self.socket)
        {
            self.flags |= BLOCKED;
        }
    }

    /// Why its client, which was let in under an older context, would not be under this one.
    pub(super) fn refusal_under(&self, context: &Arc<TlsContext>) -> Option<String> {
        let layers = self.layers.as_ref()?;
        match Arc::ptr_eq(layers.context()?, context) {
            true => None,
            false => layers.refusal_under(context),
        }
    }

    /// A layer will have no more of it.
    pub(super) fn refuse(&mut self) {
        self.flags |= REFUSED;
        self.end();
    }

    fn end(&mut self) {
        self.flags = (self.flags | ENDED) & !READABLE;
    }

    /// Writes what the outbox holds, and adds to `bytes_sent` what the kernel took.
    pub(super) fn flush(
        &mut self,
        outbox: &mut Outbox,
        bytes_sent: &mut u64,
    ) -> io::Result<Flushed> {
        if self.is(BLOCKED) {
            outbox.blocked = !outbox.is_empty();
            return Ok(Flushed::Blocked);
        }
        if let Some(layers) = &mut self.layers {
            let is_blocked = layers.flush(&mut self.socket, outbox, bytes_sent)?;
            outbox.blocked = !outbox.is_empty();
            if is_blocked {
                self.flags |= BLOCKED;
                return Ok(Flushed::Blocked);
            }
            return Ok(match outbox.blocked {
                true => Flushed::Unfinished,
                false => Flushed::Drained,
            });
        }
        for _ in 0..FLUSH_WRITES_MAX {
            if outbox.is_empty() {
                return Ok(Flushed::Drained);
            }
            let (sent, offered) = match write(&mut self.socket, outbox) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => (0, 1),
                Err(error) => return Err(error),
            };
            *bytes_sent += sent as u64;
            outbox.advance(sent);
            if sent < offered {
                self.flags |= BLOCKED;
                outbox.blocked = true;
                return Ok(Flushed::Blocked);
            }
        }
        outbox.blocked = !outbox.is_empty();
        Ok(if outbox.blocked {
            Flushed::Unfinished
        } else {
            Flushed::Drained
        })
    }

    /// Ends the stream behind what was sent, and reads what already came and nobody will parse: closing a socket with
    /// unread bytes is a reset, which would overtake our last packet and take it away from the peer.
    pub(super) fn shut_down(mut self) {
        if let Some(layers) = &mut self.layers {
            layers.close(&mut self.socket);
        }
        // After its end there is nothing left to read, and the close says the same as a shutdown would. But whom a
        // layer refused goes on talking, and is to hear the alert of TLS.
        if self.is(ENDED | DRAINED) && !self.is(REFUSED) {
            return;
        }
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut scratch = [0; 8 * 1024];
        let mut drained = 0;
        while drained < CLOSE_DRAIN_BYTES_MAX {
            match read(&mut self.socket, &mut scratch) {
                Ok(n) if n == scratch.len() => drained += n,
                _ => return,
            }
        }
    }
}

/// One read; a signal does not count.
pub(super) fn read(socket: &mut Stream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// One write, vectored if there is more than one slice; returns how many bytes were taken and how many offered.
fn write(socket: &mut Stream, outbox: &Outbox) -> io::Result<(usize, usize)> {
    if let Some(bytes) = outbox.contiguous() {
        return Ok((socket.write(bytes)?, bytes.len()));
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let n = outbox.slices(&mut slices);
    let offered = slices[..n].iter().map(|slice| slice.len()).sum();
    Ok((socket.write_vectored(&slices[..n])?, offered))
}

/// The slab of connections; every access but that of an event checks the generation.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slab: Slab<Connection>,
    next_generation: u32,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The index that the next connection will have.
    pub(super) fn next_index(&self) -> usize {
        self.slab.vacant_key()
    }

    pub(super) fn insert(&mut self, mut connection: Connection) -> ConnectionKey {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        connection.generation = generation;
        let index = self.slab.insert(connection);
        ConnectionKey {
            index: u32::try_from(index).expect("fewer files than u32"),
            generation,
        }
    }

    #[inline]
    pub(super) fn get(&self, key: ConnectionKey) -> Option<&Connection> {
        self.slab
            .get(key.index as usize)
            .filter(|tenant| tenant.generation == key.generation)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.slab
            .get_mut(key.index as usize)
            .filter(|tenant| tenant.generation == key.generation)
    }

    /// All connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Connection)> {
        self.slab.iter().map(|(index, connection)| {
            let key = ConnectionKey {
                index: index as u32,
                generation: connection.generation,
            };
            (key, connection)
        })
    }

    /// The connection that an event is for. An event needs no generation: all events of a poll are looked at before
    /// anything can close, and a closed socket has no events.
    #[inline]
    pub(super) fn at(&mut self, index: usize) -> Option<(ConnectionKey, &mut Connection)> {
        let connection = self.slab.get_mut(index)?;
        let key = ConnectionKey {
            index: index as u32,
            generation: connection.generation,
        };
        Some((key, connection))
    }

    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<Connection> {
        self.get(key)?;
        Some(self.slab.remove(key.index as usize))
    }
}
