//! What the kernel asks for at least: a forwarder that makes the same reads and writes as a broker on one thread, and
//! hardly knows MQTT. Its CPU time per message is the floor that a broker can be measured against.
//!
//! One edge-triggered poll; one read for each readable socket; each whole packet goes to the sockets that subscribed to the
//! topic of the publisher's *first* message, whatever the later ones say; one write for each socket that something was
//! put out for. Acknowledgements are answered by their first byte and Packet Identifier, and QoS 2 is passed on at PUBREL. There are no sessions, rights,
//! limits or checks, filters end in `+` at most, and whoever sends nonsense is at best disconnected: it is for
//! `perf/load` and no other client. `--spin` polls without sleeping.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// A read takes this much at most, in bytes.
const READ_BYTES: usize = 128 * 1024;
const LISTENER: Token = Token(usize::MAX);

struct Connection {
    socket: TcpStream,
    /// The front of a packet that has not come whole yet.
    received: Vec<u8>,
    to_send: Vec<u8>,
    is_dirty: bool,
    /// Who gets what this one publishes, since its first message.
    targets: Option<Vec<usize>>,
    /// Messages of QoS 2 in the order they came, whose PUBREL has not come.
    unreleased: VecDeque<Vec<u8>>,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    /// Slots are not used again: a load connects once.
    connections: Vec<Option<Connection>>,
    subscribers: HashMap<String, Vec<usize>>,
    dirty: Vec<usize>,
    buffer: Vec<u8>,
}

/// The length of the packet at the front of `bytes`, header and all, if it is whole.
fn packet_length(bytes: &[u8]) -> Option<usize> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 || at > 4 {
            break;
        }
    }
    (at + length <= bytes.len()).then_some(at + length)
}

/// Where the variable header of the packet at the front begins.
fn body_at(packet: &[u8]) -> usize {
    1 + packet[1..]
        .iter()
        .take_while(|byte| **byte & 0x80 != 0)
        .count()
        + 1
}

/// The string of two bytes of length and as many bytes at `at`, and where it ends.
fn string(bytes: &[u8], at: usize) -> Option<(&str, usize)> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let text = bytes.get(at + 2..at + 2 + length)?;
    Some((std::str::from_utf8(text).ok()?, at + 2 + length))
}

impl Floor {
    fn new(port: u16) -> std::io::Result<Floor> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Floor {
            poll,
            listener,
            connections: Vec::new(),
            subscribers: HashMap::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn accept(&mut self) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(self.connections.len());
            let registered = self.poll.registry().register(&mut socket, token, interest);
            if socket.set_nodelay(true).and(registered).is_ok() {
                self.connections.push(Some(Connection {
                    socket,
                    received: Vec::new(),
                    to_send: Vec::new(),
                    is_dirty: false,
                    targets: None,
                    unreleased: VecDeque::new(),
                }));
            }
        }
    }

    /// Puts `bytes` out for a connection, unless it is gone.
    fn put_out(&mut self, index: usize, bytes: &[u8]) {
        if let Some(connection) = &mut self.connections[index] {
            if !connection.is_dirty {
                connection.is_dirty = true;
                self.dirty.push(index);
            }
            connection.to_send.extend_from_slice(bytes);
        }
    }

    /// Reads until the socket is drained, which a short read tells.
    fn serve(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = &mut self.connections[index] {
            match connection.socket.read(&mut buffer) {
                Ok(0) => self.connections[index] = None,
                Ok(count) => {
                    if self.take(index, &buffer[..count]).is_none() {
                        self.connections[index] = None;
                    }
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.connections[index] = None,
            }
        }
        self.buffer = buffer;
    }

    /// Handles what came. `None` for what no load sends.
    fn take(&mut self, index: usize, bytes: &[u8]) -> Option<()> {
        let mut left = std::mem::take(&mut self.connections[index].as_mut()?.received);
        let mut rest = bytes;
        if !left.is_empty() {
            left.extend_from_slice(bytes);
            rest = &left;
        }
        // QoS 0 is passed on in one piece, as many whole packets as there are.
        let mut run = 0;
        while let Some(length) = packet_length(&rest[run..]) {
            if rest[run] >> 1 == 0x30 >> 1 && self.connections[index].as_ref()?.targets.is_some() {
                run += length;
                continue;
            }
            self.pass_on(index, &rest[..run])?;
            rest = &rest[run..];
            self.handle(index, &rest[..length])?;
            rest = &rest[length..];
            run = 0;
        }
        self.pass_on(index, &rest[..run])?;
        left = rest[run..].to_vec();
        if let Some(connection) = &mut self.connections[index] {
            connection.received = left;
        }
        Some(())
    }

    fn pass_on(&mut self, index: usize, packets: &[u8]) -> Option<()> {
        if packets.is_empty() {
            return Some(());
        }
        let targets = self.connections[index].as_mut()?.targets.take()?;
        for &target in &targets {
            self.put_out(target, packets);
        }
        self.connections[index].as_mut()?.targets = Some(targets);
        Some(())
    }

    fn handle(&mut self, index: usize, packet: &[u8]) -> Option<()> {
        let at = body_at(packet);
        let answer = |kind: u8| Some([kind, 2, *packet.get(at)?, *packet.get(at + 1)?]);
        match packet[0] >> 4 {
            1 => self.put_out(index, &[0x20, 2, 0, 0]),
            3 => {
                let (topic, end) = string(packet, at)?;
                if self.connections[index].as_ref()?.targets.is_none() {
                    let wildcard = format!("{}/+", topic.rsplit_once('/')?.0);
                    let of = |filter| self.subscribers.get(filter).into_iter().flatten();
                    let targets = of(topic).chain(of(&wildcard)).copied().collect();
                    self.connections[index].as_mut()?.targets = Some(targets);
                }
                match packet[0] >> 1 & 3 {
                    2 => {
                        let connection = self.connections[index].as_mut()?;
                        connection.unreleased.push_back(packet.to_vec());
                    }
                    _ => self.pass_on(index, packet)?,
                }
                let kind = [0, 0x40, 0x50][usize::from(packet[0] >> 1 & 3)];
                if kind != 0 {
                    let id = packet.get(end..end + 2)?;
                    self.put_out(index, &[kind, 2, id[0], id[1]]);
                }
            }
            5 => self.put_out(index, &answer(0x62)?),
            6 => {
                let message = self.connections[index].as_mut()?.unreleased.pop_front()?;
                self.pass_on(index, &message)?;
                self.put_out(index, &answer(0x70)?);
            }
            8 => {
                let (filter, end) = string(packet, at + 2)?;
                let [_, _, high, low] = answer(0x90)?;
                let qos = *packet.get(end)?;
                self.subscribers
                    .entry(filter.to_owned())
                    .or_default()
                    .push(index);
                self.put_out(index, &[0x90, 3, high, low, qos]);
            }
            14 => return None,
            _ => {}
        }
        Some(())
    }

    /// One write for each socket that something was put out for; what the kernel does not take waits for its event.
    fn flush(&mut self) {
        for index in std::mem::take(&mut self.dirty) {
            let Some(connection) = &mut self.connections[index] else {
                continue;
            };
            connection.is_dirty = false;
            if let Ok(sent) = connection.socket.write(&connection.to_send) {
                connection.to_send.drain(..sent);
            }
        }
    }

    fn run(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                let index = event.token().0;
                if event.token() == LISTENER {
                    self.accept();
                    continue;
                }
                if event.is_readable() {
                    self.serve(index);
                }
                let connection = self.connections[index].as_mut();
                if let Some(connection) =
                    connection.filter(|it| event.is_writable() && !it.to_send.is_empty())
                    && !std::mem::replace(&mut connection.is_dirty, true)
                {
                    self.dirty.push(index);
                }
            }
            self.flush();
        }
    }
}

fn main() -> ExitCode {
    let mut options = getopts::Options::new();
    options.optopt("p", "port", "the port on 127.0.0.1", "PORT");
    options.optflag("", "spin", "poll without sleeping");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = options.parse(&arguments).map_err(|error| error.to_string());
    let result = result.and_then(|given| {
        let port = given.opt_str("port").unwrap_or("1883".to_owned());
        let port = port.parse().map_err(|_| format!("{port} is no port"))?;
        let timeout = given.opt_present("spin").then_some(Duration::ZERO);
        let mut floor = Floor::new(port).map_err(|error| format!("port {port}: {error}"))?;
        floor.run(timeout).map_err(|error| error.to_string())
    });
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!(
        "Error: {error}\n\n{}",
        options.usage("Usage: floor [options]")
    );
    ExitCode::FAILURE
}
