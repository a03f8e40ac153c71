//! All connections on one edge-triggered poller, in one thread.
//!
//! It knows no packets and no scenario. It is to cost less than any broker, so it allocates nothing for a message:
//!
//! 1. A turn handles every event of one poll with one read each (a second where the first was not short), then writes
//!    at most once to each socket, acknowledgements and messages together, and again only when the kernel took a part.
//! 2. What is left of a message whose first part is with the kernel goes before everything else; acknowledgements begin
//!    only at the edge of a message, so one of the two at most is under way.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::handshake::Connected;
use crate::publisher::Publisher;
use crate::stream::Stream;
use crate::traffic::{Expected, Failure, Role, Schedule, Subscriber, Traffic};

/// Events taken from one poll.
const EVENTS: usize = 1024;

/// Bytes read at once, at least: some hundred small messages, and still in the second-level cache.
const READ_BYTES_MIN: usize = 256 * 1024;

/// The clock that messages at a fixed rate leave by.
const TIMER: Token = Token(usize::MAX);

struct Connection {
    stream: Stream<TcpStream>,
    role: Role,
    /// A packet of which a part has been read.
    partial: Vec<u8>,
    /// Acknowledgements to be sent, and how much of them the kernel has.
    control: Vec<u8>,
    control_written: usize,
    /// Whether it is on the list of connections to be written to.
    is_dirty: bool,
    /// Whether the kernel took only part; the writable event goes on.
    is_blocked: bool,
}

/// All connections and what they have done so far.
pub struct Engine {
    /// What was sent and came.
    pub traffic: Traffic,
    poll: Poll,
    events: Events,
    started: Instant,
    connections: Vec<Connection>,
    /// A timer, which to the poller is a file like any other.
    timer: Option<TcpStream>,
    /// What is read, and with TLS what it was before.
    buffer: Vec<u8>,
    raw: Vec<u8>,
    /// Connections to be written to at the end of the turn.
    dirty: Vec<usize>,
}

impl Engine {
    /// An engine without connections.
    ///
    /// # Errors
    /// No poller.
    pub fn new(traffic: Traffic, has_tls: bool) -> io::Result<Engine> {
        let bytes = READ_BYTES_MIN.max(4 * (traffic.payload_bytes + 1024));
        Ok(Engine {
            traffic,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            started: Instant::now(),
            connections: Vec::new(),
            timer: None,
            buffer: vec![0; bytes],
            raw: vec![0; if has_tls { bytes } else { 0 }],
            dirty: Vec::new(),
        })
    }

    /// Takes a connection that only listens to its socket being closed.
    ///
    /// # Errors
    /// The poller does not take it.
    pub fn add_silent(&mut self, connected: Connected) -> io::Result<()> {
        self.add(connected, Role::Silent).map(drop)
    }

    /// Takes a publisher.
    ///
    /// # Errors
    /// The poller does not take it.
    pub fn add_publisher(
        &mut self,
        connected: Connected,
        mut publisher: Publisher,
    ) -> io::Result<()> {
        let index = self.traffic.publishers.len();
        publisher.set_receive_maximum(connected.receive_maximum);
        publisher.connection = self.add(connected, Role::Publisher(index))?;
        self.traffic.publishers.push(publisher);
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
        let Connection {
            partial,
            control,
            role,
            ..
        } = &mut self.connections[key];
        let consumed = self.traffic.scan(*role, partial, control)?;
        partial.drain(..consumed);
        self.write(key)
    }

    fn add(&mut self, connected: Connected, role: Role) -> io::Result<usize> {
        let mut stream = connected.stream;
        let key = self.connections.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream.socket, Token(key), interest)?;
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

    /// Lets `messages` more be sent by all together, as their windows permit.
    pub fn allow(&mut self, messages: u64) {
        self.traffic.budget += messages;
        for index in 0..self.traffic.publishers.len() {
            self.traffic.free(index);
        }
    }

    /// Sets the rate at which [`allow_due`](Engine::allow_due) lets messages go. `is_asleep` has a timer end the wait
    /// of a turn when the next is due; otherwise turns are not to wait.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub fn set_rate(&mut self, rate: f64, publishers: u32, is_asleep: bool) -> io::Result<()> {
        // Whole nanoseconds, as the timer counts: otherwise its expirations and what is due would drift apart.
        let distance_ns = (1e9 / rate).round().max(1.0);
        // Before the timer is set: none is to expire just before its message is due.
        let start_ns = self.now_ns();
        for publisher in &mut self.traffic.publishers[..publishers as usize] {
            publisher.allowed = 0;
        }
        if is_asleep {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let distance = Timespec {
                tv_sec: (distance_ns / 1e9) as i64,
                tv_nsec: (distance_ns % 1e9) as i64,
            };
            let times = Itimerspec {
                it_interval: distance,
                it_value: distance,
            };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
            let mut timer = TcpStream::from_std(timer.into());
            self.poll
                .registry()
                .register(&mut timer, TIMER, Interest::READABLE)?;
            self.timer = Some(timer);
        }
        self.traffic.schedule = Some(Schedule {
            start_ns,
            distance_ns,
            publishers,
        });
        Ok(())
    }

    /// Lets the publishers, in turn, send message number `allowed` and on up to what is due now, at most `limit`
    /// messages in all. The number is that of all messages allowed so far.
    pub fn allow_due(&mut self, allowed: u64, limit: u64) -> u64 {
        let schedule = self.traffic.schedule.expect("a rate is set");
        let elapsed_ns = self.now_ns().saturating_sub(schedule.start_ns) as f64;
        let due = ((elapsed_ns / schedule.distance_ns) as u64 + 1).min(limit);
        for number in allowed..due {
            let index = (number % u64::from(schedule.publishers)) as usize;
            self.traffic.publishers[index].allowed += 1;
            self.traffic.free(index);
        }
        due.max(allowed)
    }

    /// Nothing that has not been sent yet will be.
    pub fn stop(&mut self) {
        self.traffic.budget = 0;
    }

    /// Whether all that was sent has come, and all answers are with the kernel.
    pub fn is_drained(&self) -> bool {
        let is_out = |connection: &Connection| connection.control.is_empty();
        self.traffic.is_drained() && self.connections.iter().all(is_out)
    }

    /// One turn: sends what is due, waits for events at most `timeout`, reads, then writes.
    ///
    /// # Errors
    /// A broker that breaks a connection, the order or the protocol.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.send()?;
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(format!("poll: {error}"));
        }
        // Taken out for the loop, since reading needs the rest of the engine; an empty list allocates nothing.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == TIMER {
                // The number of expirations: allow_due asks the clock instead. Not reading it would stop the timer.
                let timer = self.timer.as_ref().expect("it is registered");
                let _ = rustix::io::read(timer.as_fd(), &mut [0; 8]);
                continue;
            }
            let Token(key) = event.token();
            if event.is_writable() && self.connections[key].is_blocked {
                self.connections[key].is_blocked = false;
                self.mark_dirty(key);
            }
            if event.is_readable() || event.is_error() {
                self.read(key)?;
            }
        }
        self.events = events;
        // At a fixed rate the caller first says what has become due in the meantime.
        match self.traffic.schedule {
            Some(_) => Ok(()),
            None => self.send(),
        }
    }

    fn mark_dirty(&mut self, key: usize) {
        if !std::mem::replace(&mut self.connections[key].is_dirty, true) {
            self.dirty.push(key);
        }
    }

    /// Reads until the socket is drained.
    fn read(&mut self, key: usize) -> Result<(), Failure> {
        loop {
            let connection = &mut self.connections[key];
            let kept = connection.partial.len();
            self.buffer[..kept].copy_from_slice(&connection.partial);
            let pulled = connection
                .stream
                .pull(&mut self.raw, &mut self.buffer[kept..]);
            let (length, is_drained) = match pulled {
                Ok(pulled) => pulled,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.broken(key, &error.to_string())),
            };
            self.traffic.now_ns = self.started.elapsed().as_nanos() as u64;
            let bytes = &self.buffer[..kept + length];
            let consumed = self
                .traffic
                .scan(connection.role, bytes, &mut connection.control)?;
            connection.partial.clear();
            connection.partial.extend_from_slice(&bytes[consumed..]);
            if !connection.control.is_empty() {
                self.mark_dirty(key);
            }
            if is_drained {
                return Ok(());
            }
        }
    }

    /// Writes to every socket that has something due.
    fn send(&mut self) -> Result<(), Failure> {
        self.traffic.now_ns = self.now_ns();
        let mut freed = std::mem::take(&mut self.traffic.freed);
        for index in freed.drain(..) {
            let key = self.traffic.publishers[index].connection;
            let control = &mut self.connections[key].control;
            if self.traffic.encode_due(index, control) {
                self.mark_dirty(key);
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

/// Gives the kernel acknowledgements and messages of a connection until it has all or takes no more.
fn write_all_there_is(
    connection: &mut Connection,
    mut publisher: Option<&mut Publisher>,
) -> io::Result<()> {
    if !connection.stream.flush()? {
        connection.is_blocked = true;
        return Ok(());
    }
    loop {
        let control = &connection.control[connection.control_written..];
        let [head, first, second] = match &publisher {
            Some(publisher) => publisher.unwritten_parts(),
            None => [&[][..]; 3],
        };
        let total = head.len() + control.len() + first.len() + second.len();
        if total == 0 {
            return Ok(());
        }
        let (written, is_full) = if control.len() == total {
            connection.stream.push(&[IoSlice::new(control)])?
        } else if first.len() == total {
            connection.stream.push(&[IoSlice::new(first)])?
        } else {
            connection.stream.push(&[
                IoSlice::new(head),
                IoSlice::new(control),
                IoSlice::new(first),
                IoSlice::new(second),
            ])?
        };
        let of_head = written.min(head.len());
        let of_control = (written - of_head).min(control.len());
        connection.control_written += of_control;
        if connection.control_written == connection.control.len() {
            connection.control.clear();
            connection.control_written = 0;
        }
        if let Some(publisher) = &mut publisher {
            publisher.wrote(written - of_control);
        }
        if is_full {
            connection.is_blocked = true;
            return Ok(());
        }
    }
}
