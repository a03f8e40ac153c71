//! The traffic: all connections on one edge-triggered poller, in one thread.
//!
//! It knows no scenario, and packets only through `packets`. It is to cost less per message than any broker, so it allocates
//! nothing for a message and copies no payload:
//!
//! 1. A turn handles every event of one poll, then writes at most once to each socket, acknowledgements and messages
//!    together, and again only when the kernel took part of it.
//! 2. Every payload starts with publisher (u32), sequence number (u32) and time stamp (u64), little-endian. A message
//!    that comes twice, out of order, or to the wrong subscriber ends the run; so does one that never comes.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use midge::mqtt::ProtocolVersion;
use mio::{Events, Interest, Poll, Token};

use crate::handshake::Connected;
use crate::histogram::Histogram;
use crate::packets::scan;
use crate::publisher::{Messages, Pacing, Publisher};
use crate::stream::Stream;

/// Events taken from one poll.
const EVENTS: usize = 1024;

/// Bytes read at once, at least: some hundred small messages, and still in the second-level cache.
const READ_BYTES_MIN: usize = 256 * 1024;

/// What ends a run: a sentence.
pub type Failure = String;

/// Which messages a subscriber is to have.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Those of `next.len()` publishers from `first` on; of each the message with number `next` is due.
    InOrder {
        /// The first of its publishers.
        first: u32,
        /// The number due of each of them.
        next: Vec<u32>,
    },
    /// Each of these numbers once, in any order.
    Once {
        /// Which have come.
        seen: Vec<bool>,
    },
}

struct Subscriber {
    name: String,
    expected: Expected,
}

/// What a connection is for.
pub enum Role {
    /// Nothing.
    Silent,
    /// This publisher.
    Publisher(usize),
    /// This subscriber.
    Subscriber(usize),
}

/// A connection.
pub struct Connection {
    stream: Stream,
    /// What it is for.
    pub role: Role,
    /// A packet of which a part has been read.
    partial: Vec<u8>,
    /// Acknowledgements to be sent, and how much of them the kernel has.
    pub control: Vec<u8>,
    control_written: usize,
    /// Whether it is on the list of connections to be written to.
    is_dirty: bool,
    /// Whether the kernel took only part; the writable event goes on.
    is_blocked: bool,
}

/// All connections and what they have done so far.
pub struct Engine {
    poll: Poll,
    events: Events,
    started: Instant,
    connections: Vec<Connection>,
    traffic: Traffic,
    buffer: Vec<u8>,
    /// Connections to be written to at the end of the turn.
    dirty: Vec<usize>,
}

/// The part of the engine that a packet can change, apart from its own connection.
pub struct Traffic {
    version: ProtocolVersion,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Publishers that may have become free to send.
    freed: Vec<usize>,
    latency: Histogram,
    /// Length of a payload.
    pub payload_bytes: usize,
    /// Messages sent, delivered and acknowledged, by and to all.
    sent: u64,
    delivered: u64,
    acknowledged: u64,
    /// QoS 2 messages that came and were not released yet.
    pub unreleased: u64,
    now_ns: u64,
    /// Time stamp of message 0 and distance of messages at a fixed rate, in nanoseconds.
    schedule: Option<(u64, f64)>,
    /// The publishers before this one are measured: the schedule and the latency are theirs.
    measured: u32,
}

impl Engine {
    /// An engine without connections, for payloads of `payload_bytes`.
    ///
    /// # Errors
    /// No poller.
    pub fn new(version: ProtocolVersion, payload_bytes: usize) -> io::Result<Engine> {
        Ok(Engine {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            started: Instant::now(),
            connections: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES_MIN.max(4 * (payload_bytes + 256))],
            traffic: Traffic {
                version,
                publishers: Vec::new(),
                subscribers: Vec::new(),
                freed: Vec::new(),
                latency: Histogram::new(),
                payload_bytes,
                sent: 0,
                delivered: 0,
                acknowledged: 0,
                unreleased: 0,
                now_ns: 0,
                schedule: None,
                measured: u32::MAX,
            },
        })
    }

    /// Takes a connection that only listens to its socket being closed.
    ///
    /// # Errors
    /// The poller does not take it.
    pub fn add_silent(&mut self, connected: Connected) -> io::Result<()> {
        self.add(connected, Role::Silent).map(drop)
    }

    /// Takes a publisher of `messages`, each for `subscribers` subscribers.
    ///
    /// # Errors
    /// The poller does not take it.
    pub fn add_publisher(
        &mut self,
        connected: Connected,
        messages: &Messages,
        pacing: Pacing,
        window: u32,
        subscribers: u32,
    ) -> io::Result<()> {
        let index = self.traffic.publishers.len();
        let receive_maximum = connected.receive_maximum;
        let connection = self.add(connected, Role::Publisher(index))?;
        self.traffic.publishers.push(Publisher::new(
            index as u32,
            connection,
            messages,
            pacing,
            (window, receive_maximum),
            subscribers,
            self.traffic.version,
        ));
        Ok(())
    }

    /// Takes a subscriber; what came behind its SUBACK is counted now.
    ///
    /// # Errors
    /// The poller does not take it, or what came is not what is expected.
    pub fn add_subscriber(
        &mut self,
        connected: Connected,
        name: String,
        expected: Expected,
    ) -> Result<(), Failure> {
        let index = self.traffic.subscribers.len();
        self.traffic.subscribers.push(Subscriber { name, expected });
        let key = self
            .add(connected, Role::Subscriber(index))
            .map_err(|error| error.to_string())?;
        let connection = &mut self.connections[key];
        let mut bytes = std::mem::take(&mut connection.partial);
        let consumed = scan(&bytes, connection, &mut self.traffic)?;
        bytes.drain(..consumed);
        connection.partial = bytes;
        self.write(key)
    }

    fn add(&mut self, connected: Connected, role: Role) -> io::Result<usize> {
        let mut stream = connected.stream;
        stream.set_nonblocking()?;
        let key = self.connections.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(stream.socket(), Token(key), interest)?;
        self.connections.push(Connection {
            stream,
            role,
            partial: connected.rest,
            control: Vec::new(),
            control_written: 0,
            is_dirty: false,
            is_blocked: false,
        });
        Ok(key)
    }

    /// Nanoseconds since the engine was made.
    pub fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Lets each publisher send up to message number `messages` in all, as its window permits.
    pub fn allow(&mut self, messages: u32) {
        let measured = self.traffic.measured as usize;
        let publishers = self.traffic.publishers.iter_mut().enumerate();
        for (index, publisher) in publishers.take(measured) {
            publisher.allowed = messages;
            self.traffic.freed.push(index);
        }
    }

    /// Sets the time from which, and the distance in which, [`allow_due`](Engine::allow_due) lets messages go.
    pub fn set_schedule(&mut self, start_ns: u64, distance_ns: f64) {
        self.traffic.schedule = Some((start_ns, distance_ns));
    }

    /// Those that are there now are measured; those that are added from now on are a load beside them, without bounds.
    pub fn end_of_measured(&mut self) {
        self.traffic.measured = self.traffic.publishers.len() as u32;
    }

    /// Lets those that are not measured send without end.
    pub fn open_firehose(&mut self) {
        let measured = self.traffic.measured as usize;
        let publishers = self.traffic.publishers.iter_mut().enumerate();
        for (index, publisher) in publishers.skip(measured) {
            publisher.allowed = u32::MAX;
            self.traffic.freed.push(index);
        }
    }

    /// Lets the publishers, in turn, send message number `allowed` and on up to what is due now, at most `limit`
    /// messages in all. The number is that of all messages allowed so far.
    pub fn allow_due(&mut self, allowed: u64, limit: u64) -> u64 {
        let (start_ns, distance_ns) = self.traffic.schedule.expect("a schedule is set");
        let elapsed_ns = self.now_ns().saturating_sub(start_ns) as f64;
        let due = ((elapsed_ns / distance_ns) as u64 + 1).min(limit);
        let publishers = self.traffic.measured_publishers();
        for number in allowed..due {
            let index = (number % publishers) as usize;
            self.traffic.publishers[index].allowed += 1;
            self.traffic.freed.push(index);
        }
        due.max(allowed)
    }

    /// Nothing that has not been sent yet will be.
    pub fn stop(&mut self) {
        for publisher in &mut self.traffic.publishers {
            publisher.allowed = publisher.sent;
        }
    }

    /// Messages that subscribers got.
    pub fn delivered(&self) -> u64 {
        self.traffic.delivered
    }

    /// Messages that the kernel was given or is about to be.
    pub fn sent(&self) -> u64 {
        self.traffic.sent
    }

    /// Messages that the broker acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.traffic.acknowledged
    }

    /// The time from sending, or being due by the schedule, to arrival.
    pub fn latency(&mut self) -> &mut Histogram {
        &mut self.traffic.latency
    }

    /// Whether all that was sent has come and every exchange is complete.
    pub fn is_drained(&self) -> bool {
        let is_done = |publisher: &Publisher| {
            publisher.unwritten == 0
                && (publisher.packet_id_at.is_none() || publisher.acknowledged == publisher.sent)
                && (publisher.pacing == Pacing::Acknowledgements
                    || publisher.arrived == publisher.sent)
        };
        self.traffic.unreleased == 0
            && self.traffic.publishers.iter().all(is_done)
            && self
                .connections
                .iter()
                .all(|connection| connection.control.is_empty())
    }

    /// What is missing, for the person who has to find out why.
    pub fn what_is_missing(&self) -> String {
        let mut lines = Vec::new();
        for (index, publisher) in self.traffic.publishers.iter().enumerate() {
            let acknowledged = match publisher.packet_id_at {
                Some(_) => publisher.acknowledged,
                None => publisher.sent,
            };
            let arrived = match publisher.pacing {
                Pacing::Arrivals => publisher.arrived,
                Pacing::Acknowledgements => publisher.sent,
            };
            if publisher.sent != acknowledged
                || publisher.sent != arrived
                || publisher.unwritten > 0
            {
                lines.push(format!(
                    "publisher {index}: {} sent, {acknowledged} acknowledged, {arrived} arrived \
                     everywhere, {} bytes not taken by the kernel",
                    publisher.sent, publisher.unwritten
                ));
            }
        }
        if self.traffic.unreleased > 0 {
            lines.push(format!("{} PUBREL did not come", self.traffic.unreleased));
        }
        let more = lines.len().saturating_sub(10);
        lines.truncate(10);
        if more > 0 {
            lines.push(format!("and {more} more publishers"));
        }
        lines.join("\n")
    }

    /// One turn: waits for events at most `timeout`, reads, then writes.
    ///
    /// # Errors
    /// A broker that breaks a connection, the order or the protocol.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(format!("poll: {error}"));
        }
        // Taken out for the loop, since reading needs the rest of the engine; an empty list allocates nothing.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(key) = event.token();
            let connection = &mut self.connections[key];
            if event.is_writable() && (connection.is_blocked || connection.stream.holds_output()) {
                connection.is_blocked = false;
                self.mark_dirty(key);
            }
            if event.is_readable() || event.is_error() {
                self.read(key)?;
            }
        }
        self.events = events;
        self.send()
    }

    fn mark_dirty(&mut self, key: usize) {
        if !std::mem::replace(&mut self.connections[key].is_dirty, true) {
            self.dirty.push(key);
        }
    }

    /// Reads until the socket is drained, which a short read proves (epoll(7)).
    fn read(&mut self, key: usize) -> Result<(), Failure> {
        loop {
            let connection = &mut self.connections[key];
            let kept = connection.partial.len();
            self.buffer[..kept].copy_from_slice(&connection.partial);
            let length = match connection.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return Err(self.broken(key, "closed the connection")),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.broken(key, &error.to_string())),
            };
            self.traffic.now_ns = self.started.elapsed().as_nanos() as u64;
            let bytes = &self.buffer[..kept + length];
            let consumed = scan(bytes, connection, &mut self.traffic)?;
            connection.partial.clear();
            connection.partial.extend_from_slice(&bytes[consumed..]);
            if !connection.control.is_empty() && !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(key);
            }
            if kept + length < self.buffer.len() && connection.stream.short_read_drains() {
                return Ok(());
            }
        }
    }

    /// Writes to every socket that has something due.
    fn send(&mut self) -> Result<(), Failure> {
        self.traffic.now_ns = self.now_ns();
        let mut freed = std::mem::take(&mut self.traffic.freed);
        for index in freed.drain(..) {
            if self.traffic.encode_due(index) {
                self.mark_dirty(self.traffic.publishers[index].connection);
            }
        }
        self.traffic.freed = freed;
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            self.connections[key].is_dirty = false;
            self.write(key)?;
        }
        self.dirty = dirty;
        Ok(())
    }

    fn write(&mut self, key: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[key];
        if connection.is_blocked {
            return Ok(());
        }
        let publisher = match connection.role {
            Role::Publisher(index) => Some(&mut self.traffic.publishers[index]),
            Role::Subscriber(_) | Role::Silent => None,
        };
        match write_all_there_is(connection, publisher) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.broken(key, &error.to_string())),
        }
    }

    fn broken(&self, key: usize, what: &str) -> Failure {
        match self.connections[key].role {
            Role::Publisher(index) => format!("broker to publisher {index}: {what}"),
            Role::Subscriber(index) => {
                format!("broker to {}: {what}", self.traffic.subscribers[index].name)
            }
            Role::Silent => format!("broker to silent connection {key}: {what}"),
        }
    }
}

impl Traffic {
    fn measured_publishers(&self) -> u64 {
        (self.measured as usize).min(self.publishers.len()) as u64
    }

    /// Encodes what publisher `index` may send now; whether that is anything.
    fn encode_due(&mut self, index: usize) -> bool {
        let publishers = self.measured_publishers();
        let publisher = &mut self.publishers[index];
        let due = publisher.due();
        for _ in 0..due {
            let stamp_ns = match self.schedule {
                // The time at which it was to be sent: a broker that holds up the generator is not forgiven for it.
                Some((start_ns, distance_ns)) if (index as u64) < publishers => {
                    let number = u64::from(publisher.sent) * publishers + index as u64;
                    start_ns + (number as f64 * distance_ns) as u64
                }
                _ => self.now_ns,
            };
            publisher.patch_next(stamp_ns);
        }
        self.sent += u64::from(due);
        due > 0
    }

    /// A PUBLISH came to subscriber `index`.
    #[inline]
    pub fn arrive(&mut self, index: usize, payload: &[u8]) -> Result<(), Failure> {
        let sender = u32::from_le_bytes(payload[0..4].try_into().expect("4 bytes"));
        let number = u32::from_le_bytes(payload[4..8].try_into().expect("4 bytes"));
        let stamp_ns = u64::from_le_bytes(payload[8..16].try_into().expect("8 bytes"));
        let subscriber = &mut self.subscribers[index];
        let due = match &mut subscriber.expected {
            Expected::InOrder { first, next } => next
                .get_mut(sender.wrapping_sub(*first) as usize)
                .ok_or("none of that publisher")
                .and_then(|next| {
                    let is_due = *next == number;
                    *next += 1;
                    is_due.then_some(()).ok_or("another one")
                }),
            Expected::Once { seen } => match seen.get_mut(number as usize) {
                Some(seen) if !*seen => {
                    *seen = true;
                    Ok(())
                }
                Some(_) => Err("each only once"),
                None => Err("none with such a number"),
            },
        };
        if let Err(due) = due {
            return Err(format!(
                "lost, doubled or out of order: {} got message {number} of publisher {sender}, due was {due}; {:?}",
                subscriber.name, subscriber.expected
            ));
        }
        self.delivered += 1;
        if sender < self.measured {
            self.latency.record(self.now_ns.saturating_sub(stamp_ns));
        }
        // What was queued or retained comes when its publisher is done and gone.
        let Some(publisher) = self.publishers.get_mut(sender as usize) else {
            return Ok(());
        };
        if publisher.pacing == Pacing::Arrivals && publisher.reach(number) {
            self.freed.push(sender as usize);
        }
        Ok(())
    }

    /// The broker has publisher `index`'s next message.
    pub fn acknowledge(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        publisher.acknowledged += 1;
        self.acknowledged += 1;
        if publisher.due() > 0 {
            self.freed.push(index);
        }
    }
}

/// Gives the kernel acknowledgements and messages of a connection until it has all or takes no more.
fn write_all_there_is(
    connection: &mut Connection,
    mut publisher: Option<&mut Publisher>,
) -> io::Result<()> {
    match connection.stream.flush() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        result => result?,
    }
    loop {
        let control = &connection.control[connection.control_written..];
        // What is left of a message whose first part is with the kernel goes before everything else. Acknowledgements
        // begin only at the edge of a message, so one of the two at most is under way.
        let (head, first, second): (&[u8], &[u8], &[u8]) = match &publisher {
            Some(publisher) => publisher.unwritten_parts(),
            None => (&[], &[], &[]),
        };
        let total = head.len() + control.len() + first.len() + second.len();
        if total == 0 {
            return Ok(());
        }
        let written = if control.len() == total {
            connection.stream.write(control)
        } else if first.len() == total {
            connection.stream.write(first)
        } else {
            connection.stream.write_vectored(&[
                IoSlice::new(head),
                IoSlice::new(control),
                IoSlice::new(first),
                IoSlice::new(second),
            ])
        };
        let written = match written {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let of_head = written.min(head.len());
        let of_control = (written - of_head).min(control.len());
        connection.control_written += of_control;
        if connection.control_written == connection.control.len() {
            connection.control.clear();
            connection.control_written = 0;
        }
        if let Some(publisher) = &mut publisher {
            let of_ring = written - of_control;
            publisher.unwritten -= of_ring;
            publisher.written_at = (publisher.written_at + of_ring) % publisher.ring.len();
        }
        if written < total && written > 0 && !connection.stream.short_read_drains() {
            continue; // TLS takes a piece at a time
        }
        if written < total {
            // A short write means that the socket is full: the kernel announces room.
            connection.is_blocked = true;
            return Ok(());
        }
    }
}
