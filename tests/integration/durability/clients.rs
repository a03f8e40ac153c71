//! Publishers and subscribers that go on where they were, however often their broker ends.
//!
//! They know what MQTT promises and what they were told, and fail at the packet that breaks a promise. What they do
//! with a packet is apart from where it comes from: the same client can be driven by a connection, or by the bytes that
//! a log says were sent to it.
//!
//! 1. A publisher sends a message again, with DUP, until it is acknowledged; its order never changes.
//! 2. Each publisher counts its messages of each QoS. A subscriber sees each count begin at 1 and grow by 1: a gap is a
//!    loss or a change of order, and with QoS 2 a number that was there before is a message that came twice.
//! 3. A session that was confirmed once is there at every later connection.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::super::disk::{Random, now};
use super::super::harness::*;

/// How long a client waits for a packet before it looks what else there is to do.
const MOMENT: Duration = Duration::from_millis(2);

/// So many messages of each publisher are on their way at a time; within the usual Receive Maximum.
const WINDOW: usize = 16;

/// The first byte of DISCONNECT, with which a broker may say that it ends.
const DISCONNECT: u8 = 0xE0;

/// A subscriber holds back so many answers at most.
const HELD_MAX: u64 = 12;

/// The messages of a publisher with this Client Identifier and QoS.
pub type Sequence = (String, u8);

/// How many messages there are of each.
pub type Counts = BTreeMap<Sequence, u64>;

/// What stays of a client when its connection goes.
#[derive(Clone, Debug)]
struct Identity {
    client_id: String,
    version: Version,
    /// Whether the broker ever confirmed the session.
    is_known: bool,
    visits: Vec<Visit>,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The port it came from.
    pub port: u16,
    /// When the port was its own.
    pub during: Range<Duration>,
}

impl Identity {
    fn new(client_id: &str, version: Version) -> Identity {
        Identity {
            client_id: client_id.to_owned(),
            version,
            is_known: false,
            visits: Vec::new(),
        }
    }

    fn connect(&mut self, address: SocketAddr, connect: Connect) -> Result<Raw, Closed> {
        let during = now()..Duration::MAX;
        let stream = TcpStream::connect_timeout(&address, DEADLINE).map_err(|_| Closed)?;
        let port = stream.local_addr().map_err(|_| Closed)?.port();
        self.visits.push(Visit { port, during });
        let mut raw = Raw::over(stream, self.version);
        raw.send(connect);
        let connack = raw.poll(DEADLINE)?;
        let connack = connack.unwrap_or_else(|| panic!("{}: no CONNACK", self.client_id));
        self.handle_connack(&connack);
        Ok(raw)
    }

    fn resume(&mut self, address: SocketAddr) -> Result<Raw, Closed> {
        let connect = connect(&self.client_id).persistent();
        self.connect(address, connect)
    }

    /// Its connection is closed, if it had one.
    fn leave(&mut self) {
        if let Some(visit) = self.visits.last_mut() {
            visit.during.end = visit.during.end.min(now());
        }
    }

    fn handle_connack(&mut self, packet: &[u8]) {
        let connack = Connack::decode(packet, self.version);
        let connack =
            connack.unwrap_or_else(|| panic!("{}: not a CONNACK: {packet:?}", self.client_id));
        assert_eq!(connack.reason, 0, "{} was refused", self.client_id);
        assert!(
            connack.session_present || !self.is_known,
            "the session of {} is lost",
            self.client_id
        );
        self.is_known = true;
    }
}

/// How far a message of a publisher is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Never sent.
    New,
    /// Sent, and not answered.
    Sent,
    /// PUBREC came.
    Received,
    /// PUBACK or PUBCOMP came.
    Done,
}

/// A message of a publisher.
#[derive(Clone, Debug)]
struct Message {
    publish: Publish,
    /// Its number among those of the same topic and QoS.
    number: u64,
    progress: Progress,
}

impl Message {
    /// Whether an acknowledgement with this Packet Identifier is for it.
    fn is_open(&self, packet_id: u16) -> bool {
        self.publish.packet_id == packet_id && self.progress != Progress::Done
    }
}

/// A client with a persistent session that publishes with QoS 1 and 2, some of it retained.
#[derive(Clone, Debug)]
pub struct Publisher {
    identity: Identity,
    random: Random,
    messages: Vec<Message>,
    /// All before are done.
    first_open: usize,
    /// The first that was never sent.
    next: usize,
    counts: HashMap<(String, u8), u64>,
}

impl Publisher {
    /// A publisher that has sent nothing yet.
    pub fn new(client_id: &str, version: Version, seed: u64) -> Publisher {
        Publisher {
            identity: Identity::new(client_id, version),
            random: Random::new(seed),
            messages: Vec::new(),
            first_open: 0,
            next: 0,
            counts: HashMap::new(),
        }
    }

    /// Publishes until so many messages are done, or until the connection ends; `true` if all are done. Without a word
    /// it goes itself when `leaves` has come.
    pub fn run(&mut self, address: SocketAddr, limit: usize, leaves: Option<Instant>) -> bool {
        let is_done = self.run_while(address, limit, leaves).is_ok();
        self.identity.leave();
        is_done
    }

    /// How many messages were sent so far.
    pub fn sent(&self) -> usize {
        self.next
    }

    fn run_while(
        &mut self,
        address: SocketAddr,
        limit: usize,
        leaves: Option<Instant>,
    ) -> Result<(), Closed> {
        let mut raw = self.identity.resume(address)?;
        for index in self.first_open..self.next {
            if let Some(again) = self.again(index) {
                raw.send(again);
            }
        }
        let mut heard = Instant::now();
        loop {
            if leaves.is_some_and(|leaves| leaves <= Instant::now()) {
                return Err(Closed);
            }
            while self.next < limit && self.next - self.first_open < WINDOW {
                raw.send(self.send_next());
            }
            if self.first_open == self.next && self.next >= limit {
                raw.send(disconnect());
                return Ok(());
            }
            let waiting = heard.elapsed();
            assert!(
                waiting < DEADLINE,
                "{}: no acknowledgement of message {} for {waiting:?}",
                self.identity.client_id,
                self.first_open
            );
            if let Some(packet) = raw.poll(MOMENT)? {
                heard = Instant::now();
                if packet[0] == DISCONNECT {
                    return Err(Closed);
                }
                if let Some(answer) = self.handle(&packet) {
                    raw.send(answer);
                }
            }
        }
    }

    fn version(&self) -> Version {
        self.identity.version
    }

    /// The packet that goes on with a message on a new connection.
    fn again(&self, index: usize) -> Option<Vec<u8>> {
        let Message {
            publish, progress, ..
        } = &self.messages[index];
        match progress {
            Progress::New => Some(publish.encode(self.version())),
            Progress::Sent => Some(publish.clone().dup().encode(self.version())),
            Progress::Received => Some(pubrel(publish.packet_id).encode(self.version())),
            Progress::Done => None,
        }
    }

    /// The next message, which is made if need be.
    fn send_next(&mut self) -> Vec<u8> {
        if self.next == self.messages.len() {
            let message = self.new_message();
            self.messages.push(message);
        }
        let message = &mut self.messages[self.next];
        let bytes = message.publish.encode(self.identity.version);
        if message.progress == Progress::New {
            message.progress = Progress::Sent;
        }
        self.next += 1;
        bytes
    }

    fn new_message(&mut self) -> Message {
        let own = &self.identity.client_id;
        let (qos, place) = (1 + self.random.below(2) as u8, self.random.below(3));
        let retain = self.random.below(4) == 0;
        // A retained topic has one QoS: among different ones there is no order, and nothing would be the newest.
        let topic = match retain {
            true => format!("state/{own}/{qos}/{place}"),
            false => format!("load/{own}"),
        };
        let count = self.counts.entry((topic.clone(), qos));
        let number = count.or_default();
        *number += 1;
        let mut payload = format!("{own}/{qos}/{number}/").into_bytes();
        let padding = match self.random.below(24) {
            0 => self.random.below(20_000),
            _ => self.random.below(300),
        };
        payload.extend((0..padding).map(|at| b'a' + (at % 26) as u8));
        let packet_id = u16::try_from(self.next % 65535 + 1).expect("it is at most 65535");
        let mut publish = publish(&topic, payload).qos(qos).packet_id(packet_id);
        publish.retain = retain;
        Message {
            publish,
            number: *number,
            progress: Progress::New,
        }
    }

    /// Notes an acknowledgement; the answer to it.
    fn handle(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let own = &self.identity.client_id;
        let [first @ (0x40 | 0x50 | 0x70), _, high, low, rest @ ..] = packet else {
            panic!("{own}: neither PUBACK, PUBREC nor PUBCOMP: {packet:?}");
        };
        let reason = rest.first().copied().unwrap_or(0);
        // The broker that had sent PUBCOMP before the connection broke does not know the PUBREL that comes again
        // (3.7.2.1).
        let again = *first == 0x70 && reason == 0x92;
        assert!(reason < 0x80 || again, "{own}: refused with 0x{reason:02x}");
        let packet_id = u16::from_be_bytes([*high, *low]);
        let mut messages = self.messages[self.first_open..].iter_mut();
        let message = messages.find(|message| message.is_open(packet_id));
        let message = message.unwrap_or_else(|| panic!("{own}: an answer to nothing: {packet:?}"));
        let (next, answer) = match (first, message.publish.qos, message.progress) {
            (0x40, 1, _) => (Progress::Done, None),
            (0x50, 2, _) => (Progress::Received, Some(pubrel(packet_id))),
            (0x70, 2, Progress::Received) => (Progress::Done, None),
            _ => panic!("{own}: {packet:?} for {message:?}"),
        };
        message.progress = next;
        let done = |message: &Message| message.progress == Progress::Done;
        while self.messages.get(self.first_open).is_some_and(done) {
            self.first_open += 1;
        }
        answer.map(|answer| answer.encode(self.version()))
    }

    /// Whether an acknowledgement is for a message that is not done.
    fn is_open(&self, packet: &[u8]) -> bool {
        let packet_id = u16::from_be_bytes([packet[2], packet[3]]);
        let mut messages = self.messages[self.first_open..].iter();
        messages.any(|message| message.is_open(packet_id))
    }

    /// This publisher as it was when the broker had sent these bytes to its connections, one after the other. It will
    /// publish the same messages as before.
    pub fn rewound(&self, sent_to: impl Fn(&Visit) -> Vec<u8>) -> Publisher {
        let mut then = self.clone();
        for message in &mut then.messages {
            message.progress = Progress::Sent;
        }
        then.identity = Identity::new(&self.identity.client_id, self.version());
        then.first_open = 0;
        for visit in &self.identity.visits {
            let mut packets = packets(&sent_to(visit)).into_iter();
            if let Some(connack) = packets.next() {
                then.identity.handle_connack(&connack);
            }
            for packet in packets {
                // What it did not live to read, it asked for again on the next connection.
                if packet[0] != DISCONNECT && then.is_open(&packet) {
                    then.handle(&packet);
                }
            }
        }
        // It had not sent more than this.
        then.next = self.next.min(then.first_open + WINDOW);
        for message in &mut then.messages[then.next..] {
            message.progress = Progress::New;
        }
        then
    }

    /// How many messages for subscribers are among those that were sent.
    pub fn counts(&self) -> Counts {
        let load = |message: &&Message| !message.publish.retain;
        let mut counts = Counts::new();
        for message in self.messages[..self.next].iter().filter(load) {
            let sequence = (self.identity.client_id.clone(), message.publish.qos);
            counts.insert(sequence, message.number);
        }
        counts
    }

    /// Asserts that these retained messages are those that were acknowledged last, or newer.
    pub fn assert_retained(&self, found: &BTreeMap<String, u64>) {
        let mut topics: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for message in self.messages[..self.next]
            .iter()
            .filter(|m| m.publish.retain)
        {
            let (acknowledged, sent) = topics.entry(&message.publish.topic).or_default();
            // After PUBREC the broker has it, but may pass it on when it is released (4.3.3).
            if message.progress == Progress::Done {
                *acknowledged = message.number;
            }
            *sent = message.number;
        }
        for (topic, (acknowledged, sent)) in topics {
            let value = found.get(topic).copied().unwrap_or(0);
            assert!(
                acknowledged <= value && value <= sent,
                "{topic}: {value} is retained, {acknowledged} was acknowledged, {sent} sent"
            );
        }
    }
}

/// A client with a persistent session that is subscribed to `load/#` with QoS 2.
#[derive(Clone, Debug)]
pub struct Subscriber {
    identity: Identity,
    random: Random,
    /// QoS 2 messages that are not released.
    unreleased: HashMap<u16, String>,
    /// The last number of each sequence.
    seen: Counts,
    /// How many messages came again that may.
    pub repeated: u64,
}

impl Subscriber {
    /// A subscriber that has nothing yet.
    pub fn new(client_id: &str, version: Version, seed: u64) -> Subscriber {
        Subscriber {
            identity: Identity::new(client_id, version),
            random: Random::new(seed),
            unreleased: HashMap::new(),
            seen: Counts::new(),
            repeated: 0,
        }
    }

    /// Subscribes, and goes.
    pub fn subscribe(&mut self, address: SocketAddr) {
        let mut raw = self.identity.resume(address).expect("the broker runs");
        raw.subscribe("load/#", 2);
        drop(raw);
        self.identity.leave();
    }

    /// Receives until it has so many messages of each sequence, or until the connection ends; `true` if it has them.
    /// Without a word it goes itself when `leaves` has come.
    pub fn run(
        &mut self,
        address: SocketAddr,
        goal: Option<&Counts>,
        leaves: Option<Instant>,
    ) -> bool {
        let has_all = self.run_until(address, goal, leaves).is_ok();
        self.identity.leave();
        has_all
    }

    fn run_until(
        &mut self,
        address: SocketAddr,
        goal: Option<&Counts>,
        leaves: Option<Instant>,
    ) -> Result<(), Closed> {
        let mut raw = self.identity.resume(address)?;
        // Answers that are held back, so that some are missing whenever the broker ends.
        let mut held: Vec<Vec<u8>> = Vec::new();
        let mut patience = self.random.below(HELD_MAX);
        let mut heard = Instant::now();
        loop {
            if leaves.is_some_and(|leaves| leaves <= Instant::now()) {
                return Err(Closed);
            }
            if goal == Some(&self.seen) {
                raw.send(held.concat());
                return self.fence(&mut raw);
            }
            match raw.poll(MOMENT)? {
                Some(packet) if packet[0] == DISCONNECT => return Err(Closed),
                Some(packet) => {
                    heard = Instant::now();
                    held.push(self.handle(&packet));
                }
                None => patience = 0,
            }
            if held.len() as u64 > patience {
                raw.send(held.concat());
                held.clear();
                patience = self.random.below(HELD_MAX);
            }
            assert!(
                goal.is_none() || heard.elapsed() < DEADLINE,
                "{}: nothing more comes; {:?} of {goal:?}",
                self.identity.client_id,
                self.seen
            );
        }
    }

    /// Receives whatever is left, and waits until the broker has handled every answer.
    fn fence(&mut self, raw: &mut Raw) -> Result<(), Closed> {
        raw.send(pingreq());
        let (start, mut fences) = (Instant::now(), 0);
        loop {
            assert!(
                start.elapsed() < DEADLINE,
                "{}: not released: {:?}",
                self.identity.client_id,
                self.unreleased
            );
            let packet = raw.poll(DEADLINE)?;
            let packet =
                packet.unwrap_or_else(|| panic!("{}: no PINGRESP", self.identity.client_id));
            if packet[0] == 0xD0 {
                // Once more: a PUBREL can be under way that answers what was sent before the first.
                fences += 1;
                if fences == 2 && self.unreleased.is_empty() {
                    raw.send(disconnect());
                    return Ok(());
                }
                raw.send(pingreq());
                continue;
            }
            let answer = self.handle(&packet);
            raw.send(answer);
            fences = 0;
        }
    }

    /// Takes a PUBLISH or PUBREL; the answer to it.
    fn handle(&mut self, packet: &[u8]) -> Vec<u8> {
        let (own, version) = (self.identity.client_id.clone(), self.identity.version);
        if let [0x62, _, high, low, ..] = *packet {
            let packet_id = u16::from_be_bytes([high, low]);
            self.unreleased.remove(&packet_id);
            return pubcomp(packet_id).encode(version);
        }
        let publish = Publish::decode(packet, version);
        let publish =
            publish.unwrap_or_else(|| panic!("{own}: neither PUBLISH nor PUBREL: {packet:?}"));
        let id = publish.packet_id;
        let (sequence, number) = number_of(&publish);
        let label = format!("{}/{}/{number}", sequence.0, sequence.1);
        assert_eq!(publish.qos, sequence.1, "{own}: {label}");
        if publish.qos == 2 {
            if let Some(before) = self.unreleased.get(&id) {
                assert_eq!(before, &label, "{own}: identifier {id} was not free");
                assert!(publish.dup, "{own}: {label} again without DUP");
                self.repeated += 1;
                return pubrec(id).encode(version);
            }
            self.unreleased.insert(id, label.clone());
        }
        let last = self.seen.entry(sequence).or_default();
        if number <= *last {
            assert_eq!(publish.qos, 1, "{own}: {label} came twice");
            self.repeated += 1;
        } else {
            let expected = *last + 1;
            assert_eq!(
                number, expected,
                "{own}: {label} came, number {expected} did not"
            );
            *last = number;
        }
        match publish.qos {
            1 => puback(id).encode(version),
            _ => pubrec(id).encode(version),
        }
    }

    /// This subscriber as it was when the broker had sent these bytes to its connections, one after the other.
    pub fn rewound(&self, sent_to: impl Fn(&Visit) -> Vec<u8>) -> Subscriber {
        let client_id = &self.identity.client_id;
        let mut then =
            Subscriber::new(client_id, self.identity.version, self.random.clone().next());
        for visit in &self.identity.visits {
            let packets = packets(&sent_to(visit)).into_iter();
            for (place, packet) in packets.enumerate() {
                match packet[0] {
                    0x20 if place == 0 => then.identity.handle_connack(&packet),
                    0x90 | 0xD0 | DISCONNECT => {}
                    _ => drop(then.handle(&packet)),
                }
            }
        }
        then
    }
}

/// A client without a session that is subscribed to `load/#` with QoS 0, whenever there is a broker.
///
/// It can miss messages, but what was published with QoS 2 comes to it once at most.
#[derive(Default)]
pub struct Witness {
    seen: HashSet<(String, u64)>,
}

impl Witness {
    /// Subscribes.
    pub fn subscribe(&self, address: SocketAddr) -> Raw {
        let mut identity = Identity::new("witness", Version::V311);
        let raw = identity.connect(address, connect("witness"));
        let mut raw = raw.expect("the broker runs");
        raw.subscribe("load/#", 0);
        raw
    }

    /// Receives until the connection ends, or until it goes.
    pub fn run(&mut self, raw: &mut Raw, leaves: Instant) {
        // That the broker ends is what many wait for.
        let _ = self.run_until(raw, leaves);
    }

    fn run_until(&mut self, raw: &mut Raw, leaves: Instant) -> Result<(), Closed> {
        while Instant::now() < leaves {
            let Some(packet) = raw.poll(MOMENT)? else {
                continue;
            };
            if let Some(publish) = Publish::decode(&packet, Version::V311) {
                let ((publisher, qos), number) = number_of(&publish);
                let is_new = qos != 2 || self.seen.insert((publisher.clone(), number));
                assert!(is_new, "witness: {publisher}/{qos}/{number} came twice");
            }
        }
        Ok(())
    }

    /// How many messages of QoS 2 it has seen.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }
}

/// The retained messages below `state/` and their numbers.
pub fn retained(broker: &Broker) -> BTreeMap<String, u64> {
    /// What the broker says of itself is asked for last and so comes last. A PINGRESP may come before what has no room
    /// in the outbox yet.
    const LAST: &str = "$SYS/broker/version";
    let mut client = broker.connect_v5("who-asks");
    client.send(subscribe(1).filter("state/#", 0).filter(LAST, 0));
    let mut found = BTreeMap::new();
    loop {
        let packet = client.expect_packet();
        if packet[0] & 0xF0 == 0x90 {
            continue;
        }
        let publish = Publish::decode(&packet, Version::V5).expect("a PUBLISH");
        if publish.topic == LAST {
            return found;
        }
        let (_, number) = number_of(&publish);
        found.insert(publish.topic, number);
    }
}

/// Which message this is, as its payload says.
fn number_of(publish: &Publish) -> (Sequence, u64) {
    let text = String::from_utf8_lossy(&publish.payload);
    let mut parts = text.split('/');
    let mut part = || parts.next().expect("a payload of ours");
    let publisher = part().to_owned();
    let qos = part().parse().expect("a payload of ours");
    let number = part().parse().expect("a payload of ours");
    ((publisher, qos), number)
}

/// The whole packets in these bytes.
fn packets(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some(len) = fixed_header(bytes).map(|(header, body)| header + body)
        && len <= bytes.len()
    {
        let (packet, rest) = bytes.split_at(len);
        packets.push(packet.to_vec());
        bytes = rest;
    }
    packets
}
