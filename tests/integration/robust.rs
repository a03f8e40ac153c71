//! Hostile and broken clients: random bytes, valid packets in any order, flipped bits, claims of size. Whatever comes,
//! the broker goes on serving the others and ends cleanly.
//!
//! Everything random comes from a fixed seed; a failing test says which one.

use crate::harness::*;

/// How many connections each kind of trouble makes.
const CONNECTIONS: u64 = 300;

/// Numbers that come again from the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Two clients that behave, and whose service is what the others must not disturb.
struct Witnesses {
    subscriber: Raw,
    publisher: Raw,
    said: u32,
}

impl Witnesses {
    /// Above all others, so that nothing random is for them.
    const TOPIC: &str = "witnesses/of/all/this";

    fn new(broker: &Broker) -> Witnesses {
        let mut subscriber = broker.connect_v5("witness-subscriber");
        subscriber.send(subscribe(1).filter(Self::TOPIC, 1));
        subscriber.expect(suback(1, &[1]));
        Witnesses {
            subscriber,
            publisher: broker.connect_v3("witness-publisher"),
            said: 0,
        }
    }

    /// Says something, and sees it arrive.
    #[track_caller]
    fn testify(&mut self) {
        self.said += 1;
        let text = self.said.to_string();
        self.publisher
            .send(publish(Self::TOPIC, &text).qos(1).packet_id(1));
        self.publisher.expect(puback(1));
        let received = self.subscriber.expect_publish();
        assert_eq!(
            (&*received.topic, received.payload),
            (Self::TOPIC, text.into_bytes())
        );
        self.subscriber.send(puback(received.packet_id));
    }
}

/// A packet that is well-formed in `version`, about a few topics, clients and identifiers, so that they meet.
fn any_packet(random: &mut Random, version: Version) -> Vec<u8> {
    let filters = [
        "a",
        "a/b",
        "a/#",
        "+/b",
        "#",
        "$share/g/a/#",
        "$share/h/+",
        "$SYS/#",
    ];
    let topics = ["a", "a/b", "a/b/c", "b", "$SYS/x", ""];
    let packet_id = random.below(5) as u16 + 1;
    let reason = random.pick(&[0, 0, 0, 0x10, 0x80, 0x92, 0x04]);
    match random.below(14) {
        0..5 => {
            let len = random.pick(&[0, 1, 10, 100, 1000, 5000]);
            let mut packet = publish(random.pick(&topics), random.bytes(len))
                .qos(random.below(3) as u8)
                .packet_id(packet_id);
            packet.retain = random.chance(4);
            packet.dup = packet.qos > 0 && random.chance(4);
            if random.chance(3) {
                packet = packet.with(topic_alias(random.below(12) as u16));
            }
            if random.chance(4) {
                packet = packet.with(message_expiry_interval(random.below(3) as u32));
            }
            packet.encode(version)
        }
        5..7 => {
            let mut packet = subscribe(packet_id);
            for _ in 0..=random.below(3) {
                packet = packet.filter(random.pick(&filters), random.below(48) as u8);
            }
            if random.chance(3) {
                packet = packet.with(subscription_identifier(random.below(300)));
            }
            packet.encode(version)
        }
        7 => unsubscribe(packet_id, &[random.pick(&filters)]).encode(version),
        8 => puback(packet_id).reason(reason).encode(version),
        9 => pubrec(packet_id).reason(reason).encode(version),
        10 => pubrel(packet_id).encode(version),
        11 => pubcomp(packet_id).encode(version),
        12 => pingreq().encode(version),
        _ => match random.below(6) {
            0 => disconnect().reason(reason).encode(version),
            1 => any_connect(random).encode(version),
            2 => auth().reason(0x18).encode(version),
            3 => suback(packet_id, &[0]).encode(version),
            4 => pingresp().encode(version),
            _ => b"\x20\x02\x00\x00".to_vec(),
        },
    }
}

fn any_connect(random: &mut Random) -> Connect {
    let client_id = format!("client{}", random.below(8));
    let mut connect = connect(&client_id)
        .clean(random.chance(2))
        .keep_alive(random.pick(&[0, 60]));
    if random.chance(2) {
        connect = connect.with(session_expiry_interval(random.pick(&[0, 1, 60, u32::MAX])));
    }
    if random.chance(3) {
        let will = will("a/b", "gone").qos(random.below(3) as u8);
        connect = connect.will(will.with(will_delay_interval(random.below(2) as u32)));
    }
    if random.chance(3) {
        connect = connect.with(receive_maximum(random.below(3) as u16 + 1));
    }
    if random.chance(3) {
        connect = connect.with(topic_alias_maximum(random.below(4) as u16));
    }
    if random.chance(4) {
        connect = connect.with(maximum_packet_size(random.below(200) as u32 + 20));
    }
    connect
}

/// A whole conversation of one client.
fn any_conversation(random: &mut Random, version: Version) -> Vec<u8> {
    let mut bytes = any_connect(random).encode(version);
    for _ in 0..random.below(60) {
        bytes.extend(any_packet(random, version));
    }
    bytes
}

/// Sends `bytes` in one piece or in several, and leaves in one of the ways that clients leave; or stays.
fn send_and_leave(random: &mut Random, mut client: Raw, bytes: &[u8]) -> Option<Raw> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = match random.below(4) {
            0 => random.below(rest.len()) + 1,
            _ => rest.len(),
        };
        client.send(&rest[..len]);
        rest = &rest[len..];
    }
    match random.below(3) {
        0 => None,
        1 => {
            // The broker may have closed it already.
            let _ = client.socket().shutdown(std::net::Shutdown::Write);
            client
                .drain_until_closed()
                .expect("who sends no more is disconnected");
            None
        }
        // Stays for a while, without ever reading.
        _ => Some(client),
    }
}

/// Runs `trouble` on connection after connection, while the witnesses go on.
fn survives(seed: u64, trouble: impl Fn(&mut Random, Version) -> Vec<u8>) {
    let _told = Told(seed);
    let broker = Broker::start(&["sys_interval 1"]);
    let mut witnesses = Witnesses::new(&broker);
    let mut random = Random(seed);
    let mut staying = Vec::new();
    for _ in 0..CONNECTIONS {
        let version = random.pick(&Version::ALL);
        let bytes = trouble(&mut random, version);
        let client = broker.open(version);
        staying.extend(send_and_leave(&mut random, client, &bytes));
        if staying.len() > 20 {
            let leaving = random.below(staying.len());
            drop(staying.swap_remove(leaving));
        }
        witnesses.testify();
    }
    drop(staying);
    witnesses.testify();
    assert!(broker.stop().success());
}

/// Says the seed if the test fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed: {}", self.0);
        }
    }
}

#[test]
fn random_bytes() {
    survives(1, |random, _| {
        let len = random.below(3000);
        random.bytes(len)
    });
}

#[test]
fn random_bytes_behind_a_connect() {
    survives(2, |random, version| {
        let mut bytes = any_connect(random).encode(version);
        let len = random.below(3000);
        bytes.extend(random.bytes(len));
        bytes
    });
}

/// Packets with a good fixed header and anything behind it.
#[test]
fn random_bodies() {
    survives(3, |random, version| {
        let mut bytes = Vec::new();
        if !random.chance(4) {
            bytes.extend(any_connect(random).encode(version));
        }
        for _ in 0..20 {
            let first = random.pick(&[
                0x10, 0x30, 0x32, 0x34, 0x3D, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0,
            ]);
            let len = random.below(40);
            let body = random.bytes(len);
            bytes.extend(packet(first, &body));
        }
        bytes
    });
}

#[test]
fn valid_packets_in_any_order() {
    survives(4, any_conversation);
}

#[test]
fn flipped_bits() {
    survives(5, |random, version| {
        let mut bytes = any_conversation(random, version);
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        bytes
    });
}

/// Bytes taken out, doubled or put in: everything behind them is read at the wrong place.
#[test]
fn shifted_bytes() {
    survives(6, |random, version| {
        let mut bytes = any_conversation(random, version);
        let at = random.below(bytes.len());
        match random.below(3) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, random.next() as u8),
            _ => {
                let end = at + random.below(bytes.len() - at) + 1;
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
        }
        bytes
    });
}

/// How the bytes of a conversation are cut into segments makes no difference to what it comes to.
#[test]
fn any_cut_of_a_conversation() {
    let broker = Broker::start(&["log_type error"]);
    let seed = 7;
    let mut random = Random(seed);
    for version in Version::ALL {
        let mut bytes = Vec::new();
        let mut payloads = Vec::new();
        for packet_id in 1..=60 {
            let len = random.pick(&[0, 1, 100, 127, 128, 5000, 20_000]);
            let payload = random.bytes(len);
            bytes.extend(
                publish("t", &payload)
                    .qos(1)
                    .packet_id(packet_id)
                    .encode(version),
            );
            payloads.push(payload);
        }
        for cut in [1, 2, 3, 1000, 4096, 65_536, 0] {
            let mut subscriber = broker.connect(version, "subscriber");
            subscriber.send(subscribe(1).filter("t", 0));
            subscriber.expect(suback(1, &[0]));
            let mut client = broker.connect(version, "client");
            // Cut everywhere where it says something, and then only now and then.
            let (small, large) = bytes.split_at(bytes.len().min(if cut < 4 { 3000 } else { 0 }));
            for piece in small.chunks(cut.max(1)) {
                client.send(piece);
            }
            let mut rest = large;
            while !rest.is_empty() {
                let len = match cut {
                    0 => random.below(rest.len().min(30_000)) + 1,
                    1..4 => rest.len(),
                    _ => cut.min(rest.len()),
                };
                client.send(&rest[..len]);
                rest = &rest[len..];
            }
            for (number, payload) in payloads.iter().enumerate() {
                let received = subscriber.expect_publish();
                assert!(
                    received.payload == *payload,
                    "seed {seed}, {version:?}, cut {cut}, {number}"
                );
                client.expect(puback(number as u16 + 1));
            }
            client.send(disconnect());
            subscriber.send(disconnect());
        }
    }
}

/// The largest Remaining Length there is: 268,435,455 bytes.
const CLAIM: &[u8] = b"\xff\xff\xff\x7f";

/// What resident memory and address space may grow by: buffers for what did come, not for what was claimed.
#[track_caller]
fn assert_small_growth(broker: &Broker, before: [u64; 2], allowed_kib: u64, what: &str) {
    let after = memory_of(broker);
    for (name, (before, after)) in ["VmRSS", "VmSize"]
        .iter()
        .zip(before.into_iter().zip(after))
    {
        let growth = after.saturating_sub(before);
        assert!(growth <= allowed_kib, "{name} grew by {growth} KiB {what}");
    }
}

fn memory_of(broker: &Broker) -> [u64; 2] {
    ["VmRSS", "VmSize"].map(|name| broker.status(name))
}

#[test]
fn a_claimed_size_costs_nothing_before_connect() {
    const CLIENTS: usize = 200;
    for first in [0x10, 0x30] {
        let broker = Broker::start(&["max_packet_size 268435455", "log_type error"]);
        let mut witness = broker.connect_v5("witness");
        // What is shared by all connections is there already.
        let _warm: Vec<Raw> = (0..CLIENTS).map(|_| broker.open(Version::V5)).collect();
        witness.fence();
        let before = memory_of(&broker);
        let claim = [&[first], CLAIM, b"\x00\x04MQTT\x05\x02\x00\x3c"].concat();
        let _clients: Vec<Raw> = (0..CLIENTS)
            .map(|_| {
                let mut client = broker.open(Version::V5);
                client.send(&claim);
                client
            })
            .collect();
        witness.fence();
        assert_small_growth(&broker, before, 16 * CLIENTS as u64, "by claims");
    }
}

#[test]
fn a_claimed_size_costs_nothing_after_connect() {
    const CLIENTS: usize = 200;
    let broker = Broker::start(&["max_packet_size 268435455", "log_type error"]);
    let mut witness = broker.connect_v5("witness");
    let mut clients: Vec<Raw> = (0..CLIENTS)
        .map(|number| broker.connect(Version::ALL[number % 3], &format!("client{number}")))
        .collect();
    let before = memory_of(&broker);
    for client in &mut clients {
        client.send([b"\x30", CLAIM, b"\x00\x01topic and some payload"].concat());
    }
    witness.fence();
    assert_small_growth(&broker, before, 16 * CLIENTS as u64, "by claims");
    // As bytes come they are kept, and no more than that, but for the growth of a buffer.
    let before = memory_of(&broker);
    let part = vec![b'x'; 1_000_000];
    for client in &mut clients[..20] {
        client.send(&part);
    }
    witness.fence();
    assert_small_growth(&broker, before, 3 * 20 * 1000, "by 20 MB of payload");
    witness.fence();
}

/// Packets of several megabytes arrive whole, and each has the memory of the one before.
#[test]
fn large_packets_arrive_and_leave() {
    let broker = Broker::start(&["max_packet_size 268435455", "log_type error"]);
    let mut subscriber = broker.connect_v5("subscriber");
    subscriber.send(subscribe(1).filter("large", 1));
    subscriber.expect(suback(1, &[1]));
    let mut publisher = broker.connect_v3("publisher");
    let payload = Random(8).bytes(5_000_000);
    let mut resident = Vec::new();
    for round in 1..=15 {
        publisher.send(publish("large", &payload).qos(1).packet_id(round));
        let received = subscriber.expect_publish();
        assert!(received.payload == payload, "round {round}");
        subscriber.send(puback(received.packet_id));
        publisher.expect(puback(round));
        subscriber.fence();
        resident.push(broker.status("VmRSS"));
    }
    // The allocator keeps some of what was freed. Were it a leak, ten rounds would cost 50 MB.
    let growth = resident[14].saturating_sub(resident[4]);
    assert!(
        growth < 10_000,
        "KiB after each packet of 5 MB: {resident:?}"
    );
}
