//! The MQTT client that `pub`, `sub`, `rr` and `ctrl` share: one connection, served by one thread.
//!
//! | part | what it knows |
//! |---|---|
//! | `options` | arguments and option files |
//! | `transport` | the way to the broker: sockets, TLS, WebSocket, proxies |
//! | `session` | packets, and what is sent again |
//! | `sending` | bytes on their way |
//! | `output` | standard output |
//! | `error` | Mosquitto's sentences and exit codes |
//!
//! Here they meet: bytes and time. A tool gives a [`Handler`] and calls [`Client::turn`] until it has what it wants.
//! 1. What a turn has to say to the server and to the user is on its way before the turn waits.
//! 2. A turn waits no longer than the tool, the Keep Alive and the user allow.

pub(crate) mod error;
pub(crate) mod options;
pub(crate) mod output;
mod sending;
pub(crate) mod session;
pub(crate) mod transport;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::mqtt;
use options::Options;
use output::{Output, is_readable};
pub(crate) use session::{Handler, Lost, Session};
use transport::{DialError, Dialer, Transport};

/// Bytes that are read at a time.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may take to come about, name, proxy, TLS and all.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the server may take to close after DISCONNECT before we do.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long DISCONNECT may wait for a server that takes nothing.
const LEAVING_TIME_MAX: Duration = Duration::from_secs(5);

/// How soon a lost connection is made again: at once a second as Mosquitto does, less often where that did not help.
const RECONNECT_DELAY_MIN: Duration = Duration::from_secs(1);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(16);
/// How many times at the shortest delay.
const RECONNECTS_EAGER: u32 = 60;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something came or went, or time passed.
    Done,
    /// The other descriptor has something to read, or its end.
    AlsoReady,
    /// The user wants to stop.
    Interrupted,
    /// DISCONNECT has left, and the connection is closed.
    Left,
}

/// A client with one connection at a time.
pub struct Client {
    /// What it says.
    pub session: Session,
    dialer: Dialer,
    transport: Option<Transport>,
    /// Bytes that have come and are not yet a packet.
    input: Vec<u8>,
    last_received: Instant,
    last_sent: Instant,
    interrupt: Option<OwnedFd>,
    /// Since when DISCONNECT wants to leave.
    leaving: Option<Instant>,
    reconnects: u32,
}

/// A descriptor that becomes readable when SIGINT or SIGTERM asks the process to stop, which then does not end by itself.
/// # Errors
/// Those of the system.
pub fn catch_signals() -> io::Result<OwnedFd> {
    let (reader, writer) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader.into())
}

impl Client {
    /// A client that is not connected. `interrupt` is from [`catch_signals`], for tools that end well when asked to.
    /// # Errors
    /// If TLS cannot be had as the options say.
    pub fn new(options: &Options, interrupt: Option<OwnedFd>) -> Result<Client, DialError> {
        let watched = interrupt.as_ref().and_then(|fd| fd.try_clone().ok());
        let now = Instant::now();
        Ok(Client {
            session: Session::new(options, Output::new(watched)),
            dialer: Dialer::new(&options.route)?,
            transport: None,
            input: Vec::new(),
            last_received: now,
            last_sent: now,
            interrupt,
            leaving: None,
            reconnects: 0,
        })
    }

    /// Makes a connection and says CONNECT.
    /// # Errors
    /// If nothing that answers is reached.
    pub fn connect(&mut self) -> Result<(), DialError> {
        self.close();
        self.session.out.flush();
        let interrupt = self.interrupt.as_ref().map(AsFd::as_fd);
        let transport = self.dialer.dial(DIAL_TIMEOUT, interrupt)?;
        self.transport = Some(transport);
        self.last_received = Instant::now();
        self.last_sent = self.last_received;
        self.session.begin();
        Ok(())
    }

    /// Makes a new connection after the last was lost, however often it takes; false if `until` or the user ends it.
    /// # Errors
    /// If trying again will not help: a certificate is not accepted, for one.
    pub fn reconnect(&mut self, until: Option<Instant>) -> Result<bool, DialError> {
        self.close();
        self.session.out.flush();
        loop {
            self.reconnects += 1;
            if !self.pause(reconnect_delay(self.reconnects), until) {
                return Ok(false);
            }
            match self.connect() {
                Ok(()) => return Ok(true),
                Err(DialError::Interrupted) => return Ok(false),
                Err(error) if error.library_code() == error::TLS => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Waits; false if `until` or the user ends it before.
    fn pause(&self, delay: Duration, until: Option<Instant>) -> bool {
        let end = Instant::now() + delay;
        loop {
            let now = Instant::now();
            if now >= end {
                return true;
            }
            if until.is_some_and(|until| now >= until) || self.is_interrupted() {
                return false;
            }
            let mut fds: Vec<_> = (self.interrupt.iter())
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            let wait = end.min(until.unwrap_or(end)) - now;
            // Whatever it says, the loop looks again.
            let _ = poll(&mut fds, Some(&timespec(wait)));
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(is_readable)
    }

    /// Sends, waits and receives once. The wait ends at `until` if nothing else ends it; `also` is another descriptor
    /// whose input is waited for.
    /// # Errors
    /// Where the connection ends and we did not end it. It is closed then.
    pub fn turn(
        &mut self,
        handler: &mut impl Handler,
        until: Option<Instant>,
        also: Option<BorrowedFd<'_>>,
    ) -> Result<Turn, Lost> {
        let turn = self.try_turn(handler, until, also);
        if turn.is_err() {
            self.close();
            self.session.out.flush();
        }
        turn
    }

    fn try_turn(
        &mut self,
        handler: &mut impl Handler,
        until: Option<Instant>,
        also: Option<BorrowedFd<'_>>,
    ) -> Result<Turn, Lost> {
        let Some(transport) = &mut self.transport else {
            return Err(Lost::Disconnected);
        };
        let flushed = write(transport, &mut self.session, &mut self.last_sent)?;
        if self.session.is_leaving() {
            let since = *self.leaving.get_or_insert_with(Instant::now);
            if flushed || since.elapsed() > LEAVING_TIME_MAX {
                self.leave();
                return Ok(Turn::Left);
            }
        } else if flushed {
            self.session.sent(handler);
        }
        self.session.out.flush();
        if self.session.out.has_failed() {
            self.session.disconnect(mqtt::ReasonCode::Success);
        }
        let ready = self.wait(until, also)?;
        if ready.readable {
            self.receive(handler)?;
        }
        self.check_keep_alive()?;
        Ok(match ready {
            Ready {
                interrupted: true, ..
            } => Turn::Interrupted,
            Ready { also: true, .. } => Turn::AlsoReady,
            Ready { .. } => Turn::Done,
        })
    }

    fn wait(&self, until: Option<Instant>, also: Option<BorrowedFd<'_>>) -> Result<Ready, Lost> {
        let transport = self.transport.as_ref().expect("checked by try_turn");
        let mut events = PollFlags::IN;
        if transport.wants_write() || self.session.has_bytes_to_send() {
            events |= PollFlags::OUT;
        }
        // Who is leaving has heard of it.
        let interrupt = self.interrupt.as_ref().filter(|_| self.leaving.is_none());
        let mut fds = vec![PollFd::from_borrowed_fd(transport.as_fd(), events)];
        fds.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(also.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let now = transport.has_more().then(Instant::now);
        let timeout = (self.keep_alive_deadline().into_iter())
            .chain(now)
            .chain(self.leaving.map(|since| since + LEAVING_TIME_MAX))
            .chain(until)
            .min()
            .map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Lost::Connection(Some(error.into()))),
        }
        let is_ready = |index: usize| !fds[index].revents().is_empty();
        let has_interrupt = interrupt.is_some();
        Ok(Ready {
            readable: transport.has_more()
                || fds[0]
                    .revents()
                    .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            interrupted: has_interrupt && is_ready(1),
            also: also.is_some() && is_ready(1 + usize::from(has_interrupt)),
        })
    }

    /// Reads what is there, and handles the packets that are whole.
    fn receive(&mut self, handler: &mut impl Handler) -> Result<(), Lost> {
        let transport = self.transport.as_mut().expect("checked by try_turn");
        let ended = match transport.read(&mut self.input, READ_BYTES_MAX) {
            Ok(0) => true,
            Ok(_) => {
                self.last_received = Instant::now();
                false
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => return Err(lost(error)),
        };
        let limits = mqtt::Limits {
            version: Some(self.session.version()),
            packet_bytes_max: u32::MAX,
        };
        let mut consumed = 0;
        while !self.session.is_leaving()
            && let Some((packet, len)) = mqtt::decode(&self.input[consumed..], limits)?
        {
            let bytes = &self.input[consumed..consumed + len];
            self.session.handle(packet, bytes, handler)?;
            consumed += len;
        }
        self.input.drain(..consumed);
        if self.session.is_active() {
            self.reconnects = 0;
        }
        match ended && !self.session.is_leaving() {
            true => Err(Lost::Connection(None)),
            false => Ok(()),
        }
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        let keep_alive = match self.session.keep_alive() {
            0 => return None,
            seconds => Duration::from_secs(seconds.into()),
        };
        Some(self.last_received.min(self.last_sent) + keep_alive)
    }

    /// Asks the server for a sign of life where nothing came or went for the Keep Alive (3.1.2.10).
    fn check_keep_alive(&mut self) -> Result<(), Lost> {
        let now = Instant::now();
        if self.session.is_leaving() || self.keep_alive_deadline().is_none_or(|due| now < due) {
            return Ok(());
        }
        if !self.session.ping() {
            return Err(Lost::KeepAlive);
        }
        // The server has as long again to answer.
        self.last_received = now;
        self.last_sent = now;
        Ok(())
    }

    /// Closes after DISCONNECT: waits for the server to close, so that what it still sends does not make the system tear
    /// down the connection before the server has read our last words.
    fn leave(&mut self) {
        let Some(mut transport) = self.transport.take() else {
            return;
        };
        transport.shutdown();
        let end = Instant::now() + FAREWELL;
        let mut unread = Vec::new();
        loop {
            let now = Instant::now();
            let mut fds = [PollFd::from_borrowed_fd(transport.as_fd(), PollFlags::IN)];
            if now >= end || poll(&mut fds, Some(&timespec(end - now))).is_err() {
                break;
            }
            unread.clear();
            match transport.read(&mut unread, READ_BYTES_MAX) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        self.session.end();
        self.session.out.flush();
    }

    /// Closes without a word.
    fn close(&mut self) {
        self.transport = None;
        self.input.clear();
        self.session.end();
    }
}

/// What a wait found.
struct Ready {
    readable: bool,
    interrupted: bool,
    also: bool,
}

/// Sends what the socket takes; whether that was everything.
fn write(
    transport: &mut Transport,
    session: &mut Session,
    last_sent: &mut Instant,
) -> Result<bool, Lost> {
    if !session.sending().is_empty() {
        *last_sent = Instant::now();
    }
    let written = session.sending().write_to(|bytes| transport.write(bytes));
    written.map_err(lost)?;
    let flushed = transport.flush().map_err(lost)?;
    Ok(flushed && session.sending().is_empty())
}

/// An error of the system that ends a connection. That the other side is gone is no error of ours.
fn lost(error: io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Lost::Connection(None),
        io::ErrorKind::InvalidData => Lost::Layer(error.to_string()),
        _ => Lost::Connection(Some(error)),
    }
}

fn reconnect_delay(reconnects: u32) -> Duration {
    let doublings = reconnects.saturating_sub(RECONNECTS_EAGER).min(8);
    (RECONNECT_DELAY_MIN * (1 << doublings)).min(RECONNECT_DELAY_MAX)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
