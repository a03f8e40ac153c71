//! A steady QoS 0 PUBLISH allocates nothing, however many subscribers it has: counted by the allocator of this program.
//!
//! The broker is driven as the event loop drives it, without sockets: bytes are decoded, handled and drained turn by
//! turn. The first turns are a warm-up, in which buffers and caches grow to what the traffic needs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use midge::auth::Auth;
use midge::broker::timers::Time;
use midge::broker::{Broker, Peer};
use midge::buffer::outbox::SLICES_MAX;
use midge::buffer::{ConnectionKey, PeerAddress};
use midge::config::Config;
use midge::mqtt;

/// Turns before counting: outboxes, the lists of a turn and the topics' caches get their sizes in them.
const WARM_UP_TURNS: usize = 3;

/// Turns that are counted.
const COUNTED_TURNS: usize = 20;

/// How many messages a turn brings at most, as a publisher that is faster than the loop sends them.
const MESSAGES_PER_TURN_MAX: usize = 10;

/// How many bytes one turn may produce for all subscribers together. What the broker keeps of drained buffers is
/// bounded, so that one large turn does not hold memory for ever; beyond that bound a turn has to allocate.
const BYTES_PER_TURN_MAX: usize = 1_000_000;

/// The system's allocator, and how often this thread asked it for memory.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

impl Counting {
    fn count() {
        // A thread that ends allocates after its variables are gone; nobody asks for its count any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
}

#[allow(
    unsafe_code,
    reason = "an allocator can only be replaced through this unsafe trait"
)]
// SAFETY: every call goes to the system's allocator with the arguments that it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    V311 = 4,
    V5 = 5,
}

/// A whole packet; these are all short enough for a fixed header of two or three bytes.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    while rest > 0x7F {
        bytes.push(0x80 | (rest & 0x7F) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.extend(body);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn no_properties(version: Version) -> &'static [u8] {
    if version == Version::V5 { &[0] } else { &[] }
}

fn connect(version: Version, client_id: &str) -> Vec<u8> {
    let header = [&string("MQTT")[..], &[version as u8, 2, 0, 0]].concat();
    packet(
        0x10,
        &[&header[..], no_properties(version), &string(client_id)].concat(),
    )
}

fn subscribe(version: Version, filter: &str) -> Vec<u8> {
    packet(
        0x82,
        &[&[0, 1], no_properties(version), &string(filter), &[0]].concat(),
    )
}

fn publish(version: Version, topic: &str, payload_bytes: usize) -> Vec<u8> {
    let payload = vec![b'x'; payload_bytes];
    packet(
        0x30,
        &[&string(topic)[..], no_properties(version), &payload].concat(),
    )
}

/// A broker and what its driver keeps from turn to turn.
struct Driver {
    broker: Broker,
    dirty: Vec<ConnectionKey>,
    now: Time,
    connections: u32,
    bytes_sent: usize,
}

impl Driver {
    fn new() -> Driver {
        let config = Config::from_text("test.conf", "listener 1883\nallow_anonymous true\n");
        let config = config.expect("it is good");
        Driver {
            broker: Broker::new(
                config,
                Auth::default(),
                Time::ZERO,
                Duration::ZERO,
                Box::new(|| 1),
            ),
            dirty: Vec::new(),
            now: Time::ZERO,
            connections: 0,
            bytes_sent: 0,
        }
    }

    /// A client that the broker accepted.
    fn connect(&mut self, version: Version) -> ConnectionKey {
        let number = self.connections;
        self.connections += 1;
        let connection = ConnectionKey {
            index: number,
            generation: number,
        };
        let peer = Peer {
            address: PeerAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000))),
            listener: 0,
        };
        self.broker.attach(connection, peer, self.now);
        self.receive(connection, &connect(version, &format!("client{number}")));
        self.flush();
        connection
    }

    /// The packets in `bytes` come on `connection`.
    fn receive(&mut self, connection: ConnectionKey, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let limits = self
                .broker
                .limits(connection)
                .expect("nothing disconnected it");
            let (packet, length) = mqtt::decode(bytes, limits)
                .expect("they are well-formed")
                .expect("they are whole");
            self.broker.handle(connection, packet, self.now);
            bytes = &bytes[length..];
        }
    }

    /// The end of a turn, with sockets that take everything.
    fn flush(&mut self) {
        self.broker.take_dirty(&mut self.dirty);
        while let Some(connection) = self.dirty.pop() {
            let outbox = self
                .broker
                .outbox(connection)
                .expect("nothing disconnected it");
            let waiting = outbox.len();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let n = outbox.slices(&mut slices);
                let taken = slices[..n].iter().map(|slice| slice.len()).sum();
                outbox.advance(taken);
                self.bytes_sent += taken;
            }
            self.broker.flushed(connection, waiting, self.now);
        }
        assert!(self.broker.take_closing().is_none());
        self.now = self.now + Duration::from_millis(1);
    }

    /// Turns in each of which `bytes` come on `connection`: how many allocations they cost after a warm-up, and how
    /// many bytes left in one of them.
    fn steady(&mut self, connection: ConnectionKey, bytes: &[u8]) -> (u64, usize) {
        for _ in 0..WARM_UP_TURNS {
            self.receive(connection, bytes);
            self.flush();
        }
        let (allocated, sent) = (allocations(), self.bytes_sent);
        for _ in 0..COUNTED_TURNS {
            self.receive(connection, bytes);
            self.flush();
        }
        let sent = (self.bytes_sent - sent) / COUNTED_TURNS;
        (allocations() - allocated, sent)
    }
}

/// Without this, a count of nothing would prove nothing.
#[test]
fn the_allocator_counts() {
    let before = allocations();
    let mut numbers: Vec<u8> = Vec::with_capacity(10);
    numbers.extend([0; 100]);
    drop(std::hint::black_box(numbers));
    assert_eq!(allocations() - before, 2);
}

#[test]
fn a_steady_publish_allocates_nothing() {
    for publisher_version in [Version::V311, Version::V5] {
        for subscriber_version in [Version::V311, Version::V5] {
            for subscribers in [1, 10, 1000] {
                for payload_bytes in [16, 900] {
                    let mut driver = Driver::new();
                    for _ in 0..subscribers {
                        let subscriber = driver.connect(subscriber_version);
                        driver.receive(subscriber, &subscribe(subscriber_version, "a/b/c"));
                    }
                    let publisher = driver.connect(publisher_version);
                    let one = publish(publisher_version, "a/b/c", payload_bytes);
                    let passed_on = publish(subscriber_version, "a/b/c", payload_bytes).len();
                    let messages = (BYTES_PER_TURN_MAX / (subscribers * passed_on))
                        .clamp(1, MESSAGES_PER_TURN_MAX);
                    let (allocated, sent) = driver.steady(publisher, &one.repeat(messages));
                    let what = format!(
                        "{publisher_version:?} to {subscribers} of {subscriber_version:?}, {payload_bytes} bytes"
                    );
                    assert_eq!(sent, subscribers * messages * passed_on, "{what}");
                    assert_eq!(allocated, 0, "{what}");
                }
            }
        }
    }
}

/// Nor do large ones for one client, which fill a buffer of their own in the outbox: several in each turn.
#[test]
fn a_steady_publish_of_large_payloads_allocates_nothing() {
    let mut driver = Driver::new();
    let subscriber = driver.connect(Version::V311);
    driver.receive(subscriber, &subscribe(Version::V311, "a"));
    let publisher = driver.connect(Version::V311);
    let one = publish(Version::V311, "a", 65_536);
    for messages in [1, 2, 7] {
        let (allocated, sent) = driver.steady(publisher, &one.repeat(messages));
        assert_eq!(sent, messages * one.len());
        assert_eq!(allocated, 0, "{messages} messages a turn");
    }
}

/// Wildcards, several topics, several subscriptions of one client, both versions among the subscribers.
#[test]
fn a_steady_mixed_load_allocates_nothing() {
    let mut driver = Driver::new();
    for number in 0..30 {
        let version = [Version::V311, Version::V5][number % 2];
        let subscriber = driver.connect(version);
        for filter in ["a/#", "a/+/x", "a/7/x"].iter().take(number % 3 + 1) {
            driver.receive(subscriber, &subscribe(version, filter));
        }
    }
    let publisher = driver.connect(Version::V5);
    let turn: Vec<u8> = (0..50)
        .flat_map(|number| publish(Version::V5, &format!("a/{number}/x"), 16 + number))
        .collect();
    let (allocated, sent) = driver.steady(publisher, &turn);
    assert!(sent > 30 * turn.len() / 2, "{sent} bytes a turn");
    assert_eq!(allocated, 0);
}

/// Nor does one that nobody wants.
#[test]
fn a_publish_without_subscribers_allocates_nothing() {
    let mut driver = Driver::new();
    let publisher = driver.connect(Version::V5);
    let one = publish(Version::V5, "nobody/listens", 16);
    assert_eq!(
        driver.steady(publisher, &one.repeat(MESSAGES_PER_TURN_MAX)),
        (0, 0)
    );
}
