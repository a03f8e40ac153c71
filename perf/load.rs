//! A load for any MQTT 3.1.1 broker on this machine, from one thread: publishers with a bounded number of messages under
//! way, subscribers that check that nothing is lost or out of order, and the CPU time that the broker's process took. Or,
//! with `--connect`, one connection after the other, each up to its CONNACK. Both with TLS or without.
//!
//! The figures it prints are a JSON object on standard output. It tells its own CPU time too, so that its limit is not
//! mistaken for the broker's. `perf/compare` runs it against several brokers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge::mqtt::{
    Connect, PacketId, Properties, ProtocolVersion, PublishHeader, QoS, Subscribe,
    SubscriptionOptions,
};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// A read takes this much at most, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// What every payload begins with: the publisher's index and the number of its message.
const STAMP_BYTES: usize = 12;
/// Without any progress for this long the run has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Publishers with a subscriber each.
    Pairs,
    /// One publisher, many subscribers.
    FanOut,
    /// Many publishers, one subscriber.
    FanIn,
    /// Nobody: connections that come and go.
    Connect,
}

#[derive(Debug)]
struct Load {
    port: u16,
    shape: Shape,
    count: usize,
    qos: QoS,
    window: u64,
    payload_bytes: usize,
    messages: u64,
    broker_pid: Option<u32>,
    tls: Option<Arc<ClientConfig>>,
}

impl Load {
    fn publishers(&self) -> usize {
        match self.shape {
            Shape::FanOut => 1,
            Shape::Pairs | Shape::FanIn => self.count,
            Shape::Connect => 0,
        }
    }

    fn subscribers(&self) -> usize {
        match self.shape {
            Shape::FanIn => 1,
            Shape::Pairs | Shape::FanOut => self.count,
            Shape::Connect => 0,
        }
    }

    /// How many subscribers get each message.
    fn receivers(&self) -> u64 {
        if self.shape == Shape::FanOut {
            self.count as u64
        } else {
            1
        }
    }
}

fn options() -> getopts::Options {
    let mut options = getopts::Options::new();
    options.optopt("p", "port", "the broker's port on 127.0.0.1", "PORT");
    options.optopt("", "pairs", "N publishers with one subscriber each", "N");
    options.optopt("", "fan-out", "one publisher, N subscribers", "N");
    options.optopt("", "fan-in", "N publishers, one subscriber", "N");
    options.optopt(
        "",
        "connect",
        "N connections, one after the other, each up to its CONNACK",
        "N",
    );
    options.optopt(
        "",
        "tls",
        "TLS to localhost, whose authority is in this file",
        "CAFILE",
    );
    options.optflag("", "resume", "let TLS sessions be resumed");
    options.optopt(
        "q",
        "qos",
        "of publishing and subscribing (default 0)",
        "0|1|2",
    );
    options.optopt(
        "w",
        "window",
        "messages under way for each publisher (default 1)",
        "W",
    );
    options.optopt(
        "s",
        "payload",
        "bytes of payload, at least 12 (default 64)",
        "BYTES",
    );
    options.optopt(
        "m",
        "messages",
        "messages to publish altogether (default 100000)",
        "M",
    );
    options.optopt(
        "",
        "broker-pid",
        "the process whose CPU time and memory are told",
        "PID",
    );
    options
}

fn load() -> Result<Load, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = options()
        .parse(&arguments)
        .map_err(|error| error.to_string())?;
    fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
        text.parse()
            .map_err(|_| format!("{text} is not a number that fits"))
    }
    let opt = |name: &str, default: &str| given.opt_str(name).unwrap_or(default.to_owned());
    let shapes = [
        ("pairs", Shape::Pairs),
        ("fan-out", Shape::FanOut),
        ("fan-in", Shape::FanIn),
        ("connect", Shape::Connect),
    ];
    let asked = shapes
        .iter()
        .find_map(|&(name, shape)| Some((shape, given.opt_str(name)?)));
    let (shape, count) = asked.ok_or("one of --pairs, --fan-out, --fan-in, --connect is needed")?;
    let qos = QoS::from_bits(number(&opt("qos", "0"))?).ok_or("QoS is 0, 1 or 2")?;
    Ok(Load {
        port: number(&opt("port", "1883"))?,
        shape,
        count: number::<usize>(&count)?.clamp(1, 100_000),
        qos,
        window: number::<u64>(&opt("window", "1"))?.clamp(1, 10_000),
        payload_bytes: number::<usize>(&opt("payload", "64"))?.clamp(STAMP_BYTES, 1 << 20),
        messages: number::<u64>(&opt("messages", "100000"))?.clamp(1, 100_000_000),
        broker_pid: given
            .opt_str("broker-pid")
            .map(|pid| number(&pid))
            .transpose()?,
        tls: given
            .opt_str("tls")
            .map(|file| client_config(&file, given.opt_present("resume")))
            .transpose()?,
    })
}

fn client_config(file: &str, resume: bool) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let authorities = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    for authority in authorities {
        let authority = authority.map_err(|error| error.to_string())?;
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// A socket, with TLS or without.
enum Stream {
    Plain(TcpStream),
    Tls(Box<ClientConnection>, TcpStream),
}

impl Stream {
    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(socket) | Stream::Tls(_, socket) => socket,
        }
    }

    fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(..))
    }

    /// Whether something was taken to be written that the socket has not got yet.
    fn holds_output(&self) -> bool {
        matches!(self, Stream::Tls(tls, _) if tls.wants_write())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (tls, socket) = match self {
            Stream::Plain(socket) => return socket.read(buffer),
            Stream::Tls(tls, socket) => (tls, socket),
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            // What the handshake has to say, and what waited for its end.
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    result => result?,
                };
            }
            if tls.read_tls(socket)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(std::io::Error::other)?;
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let (tls, socket) = match self {
            Stream::Plain(socket) => return socket.write(bytes),
            Stream::Tls(tls, socket) => (tls, socket),
        };
        let taken = tls.writer().write(bytes)?;
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if let Stream::Tls(tls, socket) = self {
            while tls.wants_write() {
                tls.write_tls(socket)?;
            }
        }
        Ok(())
    }
}

/// A connection: bytes in and out.
struct Connection {
    stream: Stream,
    received: Vec<u8>,
    to_send: Vec<u8>,
    sent: usize,
    is_dirty: bool,
}

impl Connection {
    fn open(load: &Load, client_id: &str) -> std::io::Result<Connection> {
        let socket = std::net::TcpStream::connect(("127.0.0.1", load.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let socket = TcpStream::from_std(socket);
        let mut stream = match &load.tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a host name");
                let tls = ClientConnection::new(Arc::clone(config), name);
                Stream::Tls(Box::new(tls.map_err(std::io::Error::other)?), socket)
            }
        };
        let mut bytes = Vec::new();
        Connect {
            version: ProtocolVersion::V311,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            properties: Properties::NONE,
            client_id,
            will: None,
            user_name: None,
            password: None,
        }
        .encode(&mut bytes);
        stream.write_all(&bytes)?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        assert_eq!(
            connack,
            [0x20, 2, 0, 0],
            "the broker refuses the connection"
        );
        Ok(Connection {
            stream,
            received: Vec::new(),
            to_send: Vec::new(),
            sent: 0,
            is_dirty: false,
        })
    }

    /// Subscribes and waits for the answer; for the time before the load.
    fn subscribe(&mut self, filter: &str, qos: QoS) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let filters = [(filter, SubscriptionOptions::new(qos))];
        let version = ProtocolVersion::V311;
        Subscribe::encode(
            PacketId::FIRST,
            Properties::NONE,
            &filters,
            version,
            &mut bytes,
        );
        self.stream.write_all(&bytes)?;
        let mut suback = [0; 5];
        self.stream.read_exact(&mut suback)?;
        assert_eq!(
            suback,
            [0x90, 3, 0, 1, qos as u8],
            "the broker refuses the subscription"
        );
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.stream.flush() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        }
        while self.sent < self.to_send.len() {
            match self.stream.write(&self.to_send[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.to_send.clear();
        self.sent = 0;
        Ok(())
    }
}

/// A packet as far as a load needs to know it.
enum Seen {
    Publish {
        packet_id: Option<[u8; 2]>,
        qos: u8,
        publisher: usize,
        number: u64,
    },
    Other {
        kind: u8,
        packet_id: [u8; 2],
    },
}

/// The packet at the front of `bytes` and its length, if it is whole.
fn scan(bytes: &[u8]) -> Option<(Seen, usize)> {
    let first = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    let seen = if first >> 4 == 3 {
        let qos = first >> 1 & 3;
        let mut rest = &body[2 + usize::from(u16::from_be_bytes([body[0], body[1]]))..];
        let mut packet_id = None;
        if qos > 0 {
            packet_id = Some([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let publisher = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        let number = u64::from_be_bytes(rest[4..12].try_into().expect("eight bytes"));
        Seen::Publish {
            packet_id,
            qos,
            publisher,
            number,
        }
    } else {
        Seen::Other {
            kind: first >> 4,
            packet_id: [body[0], body[1]],
        }
    };
    Some((seen, at + length))
}

struct Run {
    load: Load,
    connections: Vec<Connection>,
    dirty: VecDeque<usize>,
    /// For each publisher, how many messages it sent and how many deliveries there were.
    sent: Vec<u64>,
    delivered: Vec<u64>,
    /// For each subscriber and publisher, the number expected next.
    expected: Vec<Vec<u64>>,
    published: u64,
    deliveries: u64,
    headers: Vec<(Vec<u8>, usize)>,
}

impl Run {
    fn new(load: Load) -> std::io::Result<Run> {
        let (publishers, subscribers) = (load.publishers(), load.subscribers());
        let mut connections = Vec::new();
        let mut headers = Vec::new();
        for index in 0..publishers {
            let name = format!("load-publisher-{index}");
            connections.push(Connection::open(&load, &name)?);
            let mut bytes = Vec::new();
            let packet_id = (load.qos != QoS::AtMostOnce).then_some(PacketId::FIRST);
            let packet_id_at = PublishHeader {
                dup: false,
                qos: load.qos,
                retain: false,
                topic: &format!("load/{index}"),
                packet_id,
                passed_on: &[],
                message_expiry_seconds: None,
                topic_alias: None,
                subscription_identifiers: &[],
                payload_length: load.payload_bytes,
            }
            .encode(ProtocolVersion::V311, &mut bytes);
            bytes.resize(bytes.len() + load.payload_bytes, b'x');
            headers.push((bytes, packet_id_at));
        }
        for index in 0..subscribers {
            let mut connection = Connection::open(&load, &format!("load-subscriber-{index}"))?;
            let filter = match load.shape {
                Shape::Pairs => format!("load/{index}"),
                Shape::FanOut => "load/0".to_owned(),
                Shape::FanIn | Shape::Connect => "load/+".to_owned(),
            };
            connection.subscribe(&filter, load.qos)?;
            connections.push(connection);
        }
        Ok(Run {
            sent: vec![0; publishers],
            delivered: vec![0; publishers],
            expected: vec![vec![0; publishers]; subscribers],
            published: 0,
            deliveries: 0,
            dirty: VecDeque::new(),
            headers,
            connections,
            load,
        })
    }

    fn mark_dirty(&mut self, index: usize) {
        if !std::mem::replace(&mut self.connections[index].is_dirty, true) {
            self.dirty.push_back(index);
        }
    }

    /// Publishes as much as the window of `publisher` allows.
    fn publish(&mut self, publisher: usize) {
        let complete = self.delivered[publisher] / self.load.receivers();
        while self.published < self.load.messages
            && self.sent[publisher] - complete < self.load.window
        {
            let number = self.sent[publisher];
            self.sent[publisher] += 1;
            self.published += 1;
            let (packet, packet_id_at) = &mut self.headers[publisher];
            if self.load.qos != QoS::AtMostOnce {
                let packet_id = (number % 65_535 + 1) as u16;
                let at = *packet_id_at;
                packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
            }
            let stamp_at = packet.len() - self.load.payload_bytes;
            packet[stamp_at..stamp_at + 4].copy_from_slice(&(publisher as u32).to_be_bytes());
            packet[stamp_at + 4..stamp_at + 12].copy_from_slice(&number.to_be_bytes());
            self.connections[publisher]
                .to_send
                .extend_from_slice(packet);
            self.mark_dirty(publisher);
        }
    }

    /// Reads until the socket is empty and answers.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) -> Result<(), String> {
        loop {
            match self.connections[index].stream.read(buffer) {
                Ok(0) => return Err("the broker closed a connection".to_owned()),
                Ok(count) => {
                    self.take(index, &buffer[..count])?;
                    if count < buffer.len() && !self.connections[index].stream.is_tls() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn take(&mut self, index: usize, bytes: &[u8]) -> Result<(), String> {
        let mut left = std::mem::take(&mut self.connections[index].received);
        let mut rest = bytes;
        if !left.is_empty() {
            left.extend_from_slice(bytes);
            rest = &left;
        }
        while let Some((seen, length)) = scan(rest) {
            rest = &rest[length..];
            self.answer(index, seen)?;
        }
        self.connections[index].received = rest.to_vec();
        Ok(())
    }

    fn answer(&mut self, index: usize, seen: Seen) -> Result<(), String> {
        let (first_byte, packet_id) = match seen {
            Seen::Publish {
                packet_id,
                qos,
                publisher,
                number,
            } => {
                self.check(index, publisher, number)?;
                let Some(packet_id) = packet_id else {
                    return Ok(());
                };
                (if qos == 1 { 0x40 } else { 0x50 }, packet_id)
            }
            Seen::Other { kind: 5, packet_id } => (0x62, packet_id),
            Seen::Other { kind: 6, packet_id } => (0x70, packet_id),
            Seen::Other { .. } => return Ok(()),
        };
        let [high, low] = packet_id;
        self.connections[index]
            .to_send
            .extend_from_slice(&[first_byte, 2, high, low]);
        self.mark_dirty(index);
        Ok(())
    }

    /// Nothing lost, nothing twice, nothing out of order.
    fn check(&mut self, index: usize, publisher: usize, number: u64) -> Result<(), String> {
        let subscriber = index - self.load.publishers();
        let expected = &mut self.expected[subscriber][publisher];
        if number != *expected {
            return Err(format!(
                "subscriber {subscriber} got message {number} of publisher {publisher} and \
                 expected {expected}"
            ));
        }
        *expected += 1;
        self.deliveries += 1;
        self.delivered[publisher] += 1;
        self.publish(publisher);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        while let Some(index) = self.dirty.pop_front() {
            self.connections[index].is_dirty = false;
            self.connections[index]
                .flush()
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Connections one after the other; each counts as a delivery.
    fn connect(&mut self) -> Result<(), String> {
        for index in 0..self.load.count {
            let mut connection = Connection::open(&self.load, &format!("c{index}"))
                .map_err(|error| error.to_string())?;
            connection
                .stream
                .write_all(&[0xE0, 0])
                .map_err(|error| error.to_string())?;
            self.deliveries += 1;
        }
        Ok(())
    }

    fn go(&mut self) -> Result<(), String> {
        if self.load.shape == Shape::Connect {
            return self.connect();
        }
        let mut poll = Poll::new().map_err(|error| error.to_string())?;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let socket = connection.stream.socket();
            std::net::TcpStream::set_nonblocking(&as_std(socket), true)
                .map_err(|error| error.to_string())?;
            poll.registry()
                .register(socket, Token(index), interest)
                .map_err(|error| error.to_string())?;
        }
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        for publisher in 0..self.load.publishers() {
            self.publish(publisher);
        }
        self.flush()?;
        let wanted = self.load.messages * self.load.receivers();
        while self.deliveries < wanted {
            poll.poll(&mut events, Some(PATIENCE))
                .map_err(|error| error.to_string())?;
            if events.is_empty() {
                return Err(format!(
                    "{} of {wanted} deliveries, then silence",
                    self.deliveries
                ));
            }
            for event in &events {
                let index = event.token().0;
                if event.is_readable() {
                    self.serve(index, &mut buffer)?;
                }
                let connection = &self.connections[index];
                let waits = !connection.to_send.is_empty() || connection.stream.holds_output();
                if event.is_writable() && waits {
                    self.mark_dirty(index);
                }
            }
            self.flush()?;
        }
        Ok(())
    }
}

/// The same socket, for the one option that mio leaves out.
fn as_std(stream: &TcpStream) -> std::net::TcpStream {
    use std::os::fd::AsFd;
    stream
        .as_fd()
        .try_clone_to_owned()
        .expect("a free file")
        .into()
}

/// CPU time of a process so far, in seconds, to the nanosecond that the scheduler counts in.
fn cpu_seconds(process: &str) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

fn resident_kibibytes(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn main() -> ExitCode {
    let result = load().and_then(|load| {
        let process = load.broker_pid.map(|pid| pid.to_string());
        let mut run = Run::new(load).map_err(|error| error.to_string())?;
        let broker = || process.as_deref().map_or(0.0, cpu_seconds);
        let (broker_before, own_before) = (broker(), cpu_seconds("self"));
        let start = Instant::now();
        run.go()?;
        let seconds = start.elapsed().as_secs_f64();
        let (broker_cpu, own_cpu) = (broker() - broker_before, cpu_seconds("self") - own_before);
        let deliveries = run.deliveries as f64;
        println!(
            "{{\"deliveries\": {}, \"seconds\": {seconds:.3}, \"per_second\": {:.0}, \
             \"broker_cpu_us\": {:.3}, \"own_cpu_us\": {:.3}, \"broker_rss_kib\": {}}}",
            run.deliveries,
            deliveries / seconds,
            broker_cpu * 1e6 / deliveries,
            own_cpu * 1e6 / deliveries,
            process.as_deref().map_or(0, resident_kibibytes),
        );
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "Error: {error}\n\n{}",
                options().usage("Usage: load --pairs N [options]")
            );
            ExitCode::FAILURE
        }
    }
}
