//! The rules under a clock of our own: what happens by itself, and when, to the millisecond.

use super::client::ANSWER_BYTES_MAX;
use super::*;
use crate::auth::Auth;
use crate::buffer::PeerAddress;
use crate::mqtt::{
    Connect, Properties, Property, PropertyBuffer, Publish, QoS, Subscribe, SubscriptionOptions,
    Will,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

/// A broker, its clock, and as many connections as a test opens.
pub(super) struct World {
    pub(super) broker: Broker,
    pub(super) now: Time,
    opened: u32,
}

impl World {
    pub(super) fn new(lines: &str) -> World {
        let text = format!("listener 1883\nallow_anonymous true\nsys_interval 0\n{lines}");
        let config = Config::from_text("test.conf", text).expect("a good configuration");
        World::with(config, Auth::default())
    }

    pub(super) fn with(config: Config, auth: Auth) -> World {
        let mut count = 0;
        let random = Box::new(move || {
            count += 1;
            count
        });
        let broker = Broker::new(config, auth, Time::ZERO, Duration::ZERO, random);
        World {
            broker,
            now: Time::ZERO,
            opened: 0,
        }
    }

    pub(super) fn attach(&mut self) -> ConnectionKey {
        let connection = ConnectionKey {
            index: self.opened,
            generation: self.opened,
        };
        self.opened += 1;
        let address = PeerAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)));
        self.broker.attach(
            connection,
            Peer {
                address,
                listener: 0,
            },
            self.now,
        );
        connection
    }

    pub(super) fn handle(&mut self, connection: ConnectionKey, packet: Packet<'_>) {
        self.broker.handle(connection, packet, self.now);
        self.broker.check_invariants();
    }

    /// Connects with `connect` and reads the CONNACK away.
    pub(super) fn connect(&mut self, connect: Connect<'_>) -> ConnectionKey {
        let connection = self.attach();
        self.handle(connection, Packet::Connect(connect));
        let sent = self.sent(connection);
        assert_eq!(sent.first(), Some(&0x20), "CONNACK comes first");
        connection
    }

    pub(super) fn subscribe(&mut self, connection: ConnectionKey, filter: &str, qos: QoS) {
        self.send_subscribe(connection, filter, qos);
        assert_eq!(self.sent(connection)[0], 0x90, "SUBACK comes first");
    }

    pub(super) fn send_subscribe(&mut self, connection: ConnectionKey, filter: &str, qos: QoS) {
        let mut bytes = Vec::new();
        let filters = [(filter, SubscriptionOptions::new(qos))];
        let version = ProtocolVersion::V5;
        let packet_id = mqtt::PacketId::FIRST;
        Subscribe::encode(packet_id, Properties::NONE, &filters, version, &mut bytes);
        let limits = self.broker.limits(connection).expect("attached");
        let (packet, _) = mqtt::decode(&bytes, limits).expect("valid").expect("whole");
        self.handle(connection, packet);
    }

    pub(super) fn publish(
        &mut self,
        connection: ConnectionKey,
        topic: &str,
        properties: Properties<'_>,
    ) {
        let packet_id = Some(mqtt::PacketId::FIRST);
        self.handle(
            connection,
            Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic,
                packet_id,
                properties,
                payload: b"payload",
            }),
        );
    }

    /// What was sent on `connection` since the last look.
    pub(super) fn sent(&mut self, connection: ConnectionKey) -> Vec<u8> {
        let mut sent = Vec::new();
        let mut length = 0;
        if let Some(outbox) = self.broker.outbox(connection) {
            let mut slices = [std::io::IoSlice::new(&[]); 64];
            let count = outbox.slices(&mut slices);
            slices[..count]
                .iter()
                .for_each(|slice| sent.extend_from_slice(slice));
            length = outbox.len();
            outbox.advance(length);
        }
        self.broker.flushed(connection, length, self.now);
        sent
    }

    /// Whether the broker gave `connection` up.
    fn is_closed(&mut self, connection: ConnectionKey) -> bool {
        self.broker.limits(connection).is_none()
    }

    /// Lets time pass, with a tick at each deadline.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self
            .broker
            .next_deadline()
            .filter(|&deadline| deadline <= end)
        {
            self.now = deadline.max(self.now);
            self.broker.tick(self.now);
            self.broker.check_invariants();
        }
        self.now = end;
    }

    pub(super) fn close(&mut self, connection: ConnectionKey) {
        self.broker
            .detach(connection, Ending::ClosedByClient, self.now);
        self.broker.check_invariants();
    }
}

pub(super) fn v5(client_id: &str) -> Connect<'_> {
    Connect {
        version: ProtocolVersion::V5,
        is_bridge: false,
        clean_start: false,
        keep_alive: 0,
        properties: Properties::NONE,
        client_id,
        will: None,
        user_name: None,
        password: None,
    }
}

pub(super) fn properties(list: &[Property<'_>]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    list.iter().for_each(|&property| buffer.push(property));
    buffer
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// 3.1.4: a connection without CONNECT is closed within a reasonable time.
#[test]
fn connect_timeout() {
    let mut world = World::new("");
    let connection = world.attach();
    world.pass(CONNECT_TIMEOUT - MILLISECOND);
    assert!(!world.is_closed(connection));
    world.pass(MILLISECOND);
    assert!(world.is_closed(connection));
    assert!(
        world
            .broker
            .take_closing()
            .is_some_and(|farewell| farewell.outbox.is_empty())
    );
}

/// [MQTT-3.1.2-22]: one and a half times the Keep Alive after the last packet, not earlier.
#[test]
fn mqtt_3_1_2_22_keep_alive_counts_from_the_last_packet() {
    let mut world = World::new("");
    let connection = world.connect(Connect {
        keep_alive: 10,
        ..v5("a")
    });
    world.pass(seconds(14));
    world.handle(connection, Packet::Pingreq);
    world.pass(seconds(15) - MILLISECOND);
    assert!(!world.is_closed(connection));
    world.pass(MILLISECOND);
    assert!(world.is_closed(connection));
    let farewell = world.broker.take_closing().expect("it is closed");
    assert_eq!(
        farewell
            .outbox
            .contiguous()
            .map(|bytes| bytes.ends_with(&[0xE0, 1, 0x8D])),
        Some(true)
    );
}

/// Keep Alive costs a timer, not one for each packet.
#[test]
fn activity_does_not_touch_the_timers() {
    let mut world = World::new("");
    let connection = world.connect(Connect {
        keep_alive: 10,
        ..v5("a")
    });
    let deadline = world.broker.next_deadline();
    for _ in 0..1000 {
        world.now = world.now + MILLISECOND;
        world.handle(connection, Packet::Pingreq);
    }
    assert_eq!(world.broker.next_deadline(), deadline);
    assert_eq!(world.broker.timers.len(), 1);
}

/// [MQTT-3.1.2-23]: the session lives as long as the Session Expiry Interval, and its queue with it.
#[test]
fn mqtt_3_1_2_23_session_expiry() {
    let expiry = properties(&[Property::SessionExpiryInterval(100)]);
    let durable = || Connect {
        properties: expiry.as_properties(),
        ..v5("a")
    };
    for (away, kept) in [(seconds(100) - MILLISECOND, true), (seconds(100), false)] {
        let mut world = World::new("");
        let publisher = world.connect(v5("publisher"));
        let connection = world.connect(durable());
        world.subscribe(connection, "t", QoS::AtLeastOnce);
        world.close(connection);
        world.publish(publisher, "t", Properties::NONE);
        world.pass(away);
        let connection = world.attach();
        world.handle(connection, Packet::Connect(durable()));
        let sent = world.sent(connection);
        assert_eq!(sent[2] == 1, kept, "session present");
        assert_eq!(
            sent.len() > usize::from(sent[1]) + 2,
            kept,
            "the message is there"
        );
    }
}

/// `persistent_client_expiration` bounds every session.
#[test]
fn persistent_client_expiration() {
    let mut world = World::new("persistent_client_expiration 1h");
    let connection = world.connect(Connect {
        version: ProtocolVersion::V311,
        ..v5("never-expires")
    });
    world.close(connection);
    world.pass(seconds(3600) - MILLISECOND);
    assert_eq!(world.broker.clients.named(), 1);
    world.pass(MILLISECOND);
    assert_eq!(world.broker.clients.named(), 0);
    assert_eq!(world.broker.output.statistics.clients_expired, 1);
}

/// [MQTT-3.1.3-9]: a will waits for its delay or for the end of the session, whichever is first, and not for who returns.
#[test]
fn mqtt_3_1_3_9_will_delay() {
    let table = [
        // delay, session expiry, when the will is heard
        (0, 100, 0),
        (10, 100, 10),
        (100, 10, 10),
        (10, 0, 0),
        (10, u32::MAX, 10),
    ];
    for (delay, expiry, heard) in table {
        let mut world = World::new("");
        let watcher = world.connect(v5("watcher"));
        world.subscribe(watcher, "will", QoS::AtMostOnce);
        let delay = properties(&[Property::WillDelayInterval(delay)]);
        let expiry = properties(&[Property::SessionExpiryInterval(expiry)]);
        let will = Will {
            qos: QoS::AtMostOnce,
            retain: false,
            properties: delay.as_properties(),
            topic: "will",
            payload: b"gone",
        };
        let connect = Connect {
            will: Some(will),
            properties: expiry.as_properties(),
            ..v5("mortal")
        };
        let mortal = world.connect(connect);
        world.close(mortal);
        if heard > 0 {
            world.pass(seconds(heard) - MILLISECOND);
            assert!(world.sent(watcher).is_empty(), "{connect:?}: too early");
            world.pass(MILLISECOND);
        }
        assert!(
            world.sent(watcher).ends_with(b"gone"),
            "{connect:?}: not in time"
        );
        world.pass(seconds(1000));
        assert!(world.sent(watcher).is_empty(), "{connect:?}: twice");
    }
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]: what waited is sent with the time that is left, or not at all.
#[test]
fn mqtt_3_3_2_6_message_expiry() {
    for (away, left) in [
        (0, Some(10)),
        (4, Some(6)),
        (9, Some(1)),
        (10, None),
        (11, None),
    ] {
        let mut world = World::new("");
        let publisher = world.connect(v5("publisher"));
        let expiry = properties(&[Property::SessionExpiryInterval(100)]);
        let durable = || Connect {
            properties: expiry.as_properties(),
            ..v5("a")
        };
        let connection = world.connect(durable());
        world.subscribe(connection, "t", QoS::AtLeastOnce);
        world.close(connection);
        let message_expiry = properties(&[Property::MessageExpiryInterval(10)]);
        world.publish(publisher, "t", message_expiry.as_properties());
        world.pass(seconds(away));
        let connection = world.attach();
        world.handle(connection, Packet::Connect(durable()));
        let sent = world.sent(connection);
        let publish = &sent[usize::from(sent[1]) + 2..];
        match left {
            None => assert!(publish.is_empty(), "after {away} seconds: {publish:?}"),
            Some(left) => {
                // PUBLISH of QoS 1: topic "t", identifier, one property of five bytes.
                assert_eq!(
                    publish[7..13],
                    [5, 0x02, 0, 0, 0, left],
                    "after {away} seconds"
                );
            }
        }
    }
}

/// A retained message leaves when it expires, and its timer with it when it is replaced.
#[test]
fn mqtt_3_3_2_5_retained_messages_expire() {
    let mut world = World::new("");
    let publisher = world.connect(v5("publisher"));
    let message_expiry = properties(&[Property::MessageExpiryInterval(10)]);
    let retained = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic: "t",
        packet_id: None,
        properties: message_expiry.as_properties(),
        payload: b"payload",
    };
    for _ in 0..100 {
        world.handle(publisher, Packet::Publish(retained));
    }
    assert_eq!(
        (world.broker.expiring.len(), world.broker.timers.len()),
        (1, 1)
    );
    world.pass(seconds(10) - MILLISECOND);
    assert_eq!(world.broker.retained.len(), 1);
    world.pass(MILLISECOND);
    assert_eq!(
        (world.broker.retained.len(), world.broker.expiring.len()),
        (0, 0)
    );
    assert_eq!(
        world.broker.tally.messages(),
        0,
        "nothing holds the message any more"
    );
}

/// [MQTT-3.3.4-9]: what is sent again after a reconnect keeps to the new Receive Maximum, in the old order.
#[test]
fn mqtt_3_3_4_9_resending_keeps_to_the_new_window() {
    let mut world = World::new("");
    let publisher = world.connect(v5("publisher"));
    let expiry = properties(&[Property::SessionExpiryInterval(100)]);
    let connection = world.connect(Connect {
        properties: expiry.as_properties(),
        ..v5("a")
    });
    world.subscribe(connection, "t", QoS::AtLeastOnce);
    for _ in 0..5 {
        world.publish(publisher, "t", Properties::NONE);
    }
    world.close(connection);
    let narrow = properties(&[
        Property::SessionExpiryInterval(100),
        Property::ReceiveMaximum(2),
    ]);
    let connection = world.attach();
    let connect = Connect {
        properties: narrow.as_properties(),
        ..v5("a")
    };
    world.handle(connection, Packet::Connect(connect));
    let sent = world.sent(connection);
    let mut seen = identifiers_with_dup(&sent[usize::from(sent[1]) + 2..]);
    assert_eq!(seen, [1, 2]);
    for packet_id in 1..=5 {
        let packet_id = mqtt::PacketId(NonZeroU16::new(packet_id).expect("above 0"));
        let ack = mqtt::Ack::new(packet_id, ReasonCode::Success);
        world.handle(connection, Packet::Puback(ack));
        seen.extend(identifiers_with_dup(&world.sent(connection)));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
}

/// The identifiers of the PUBLISH packets of QoS 1 with DUP in `bytes`.
fn identifiers_with_dup(mut bytes: &[u8]) -> Vec<u16> {
    let limits = Limits {
        version: Some(ProtocolVersion::V5),
        packet_bytes_max: u32::MAX,
    };
    let mut identifiers = Vec::new();
    while let Some((Packet::Publish(publish), length)) =
        mqtt::decode(bytes, limits).expect("what we send is valid")
    {
        assert!(publish.dup);
        identifiers.push(publish.packet_id.expect("QoS 1").get());
        bytes = &bytes[length..];
    }
    identifiers
}

/// A client that asks and does not read is not read from any more.
#[test]
fn answers_that_nobody_reads_hold_up_the_client_that_asks() {
    let mut world = World::new("");
    let connection = world.connect(v5("a"));
    world.broker.outbox(connection).expect("attached").blocked = true;
    for _ in 0..=ANSWER_BYTES_MAX / 2 {
        assert!(!world.broker.is_congested(connection));
        world.broker.handle(connection, Packet::Pingreq, world.now);
    }
    assert!(world.broker.is_congested(connection));
    world.sent(connection);
    assert!(!world.broker.is_congested(connection), "it has read");
}

fn packet_id(number: u16) -> mqtt::PacketId {
    mqtt::PacketId(NonZeroU16::new(number).expect("above 0"))
}

/// A connection for `connect`, and what was sent on it behind the CONNACK.
fn resume(world: &mut World, connect: Connect<'_>) -> (ConnectionKey, Vec<u8>) {
    let connection = world.attach();
    world.handle(connection, Packet::Connect(connect));
    let sent = world.sent(connection);
    let connack_length = usize::from(sent[1]) + 2;
    (connection, sent[connack_length..].to_vec())
}

/// The identifiers of all PUBLISH packets in `bytes`.
fn published(mut bytes: &[u8]) -> Vec<u16> {
    let limits = Limits {
        version: Some(ProtocolVersion::V5),
        packet_bytes_max: u32::MAX,
    };
    let mut identifiers = Vec::new();
    while let Some((packet, length)) = mqtt::decode(bytes, limits).expect("what we send is valid") {
        if let Packet::Publish(publish) = packet {
            identifiers.extend(publish.packet_id.map(mqtt::PacketId::get));
        }
        bytes = &bytes[length..];
    }
    identifiers
}

/// A receiver that takes every QoS 2 message and completes none uses up no more than there is.
#[test]
fn exchanges_that_nobody_completes() {
    let mut world = World::new("upgrade_outgoing_qos true\nmax_inflight_messages 0");
    let publisher = world.connect(v5("publisher"));
    let expiry = properties(&[Property::SessionExpiryInterval(100)]);
    let durable = || Connect {
        properties: expiry.as_properties(),
        ..v5("a")
    };
    let mut connection = world.connect(durable());
    world.subscribe(connection, "t", QoS::ExactlyOnce);
    for _ in 0..67 {
        for _ in 0..1000 {
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: "t",
                packet_id: Some(mqtt::PacketId::FIRST),
                properties: Properties::NONE,
                payload: b"",
            };
            world
                .broker
                .handle(publisher, Packet::Publish(publish), world.now);
        }
        world.sent(publisher);
        for number in published(&world.sent(connection)) {
            let pubrec = mqtt::Ack::new(packet_id(number), ReasonCode::Success);
            world
                .broker
                .handle(connection, Packet::Pubrec(pubrec), world.now);
        }
        world.close(connection);
        connection = resume(&mut world, durable()).0;
    }
    let key = world.broker.clients.find("a").expect("its session lives");
    assert_eq!(
        world.broker.clients[key].session.inflight.len(),
        inflight::Inflight::MAX
    );
}

/// [MQTT-3.3.4-9]: a place in the window is given back only by what took it on this connection.
#[test]
fn mqtt_3_3_4_9_the_window_counts_what_this_connection_sent() {
    let mut world = World::new("upgrade_outgoing_qos true");
    let publisher = world.connect(v5("publisher"));
    let narrow = properties(&[
        Property::SessionExpiryInterval(100),
        Property::ReceiveMaximum(2),
    ]);
    let durable = || Connect {
        properties: narrow.as_properties(),
        ..v5("a")
    };
    let connection = world.connect(durable());
    world.subscribe(connection, "t", QoS::ExactlyOnce);
    for _ in 0..2 {
        world.publish(publisher, "t", Properties::NONE);
    }
    assert_eq!(published(&world.sent(connection)), [1, 2]);
    for number in [1, 2] {
        let pubrec = mqtt::Ack::new(packet_id(number), ReasonCode::Success);
        world.handle(connection, Packet::Pubrec(pubrec));
    }
    world.close(connection);
    let (connection, sent) = resume(&mut world, durable());
    assert!(published(&sent).is_empty(), "only PUBREL is sent again");
    for _ in 0..4 {
        world.publish(publisher, "t", Properties::NONE);
    }
    assert_eq!(published(&world.sent(connection)), [3, 4]);
    for number in [1, 2] {
        let pubcomp = mqtt::Ack::new(packet_id(number), ReasonCode::Success);
        world.handle(connection, Packet::Pubcomp(pubcomp));
    }
    assert!(
        published(&world.sent(connection)).is_empty(),
        "3 and 4 still take both places"
    );
}

/// What is left of a session with many subscriptions goes piece by piece, and gets nothing; nobody else notices, whoever comes
/// under its name either.
#[test]
fn sessions_with_many_subscriptions_end_in_pieces() {
    const COUNT: usize = 3 * super::ending::LEAVE_PIECE;
    let mut world = World::new("");
    let mut connections = ["watcher", "many"].map(|client_id| {
        let connection = world.attach();
        world.handle(connection, Packet::Connect(v5(client_id)));
        world.sent(connection);
        connection
    });
    world.subscribe(connections[0], "topic/+", QoS::AtMostOnce);
    for round in 0..2 {
        for number in 0..COUNT {
            world.subscribe(connections[1], &format!("topic/{number}"), QoS::AtMostOnce);
        }
        world.subscribe(connections[1], "$share/group/topic/1", QoS::AtMostOnce);
        world.close(connections[1]);
        assert_eq!(world.broker.clients.named(), 1);
        assert_eq!(world.broker.clients.connected(), 1);
        connections[1] = world.attach();
        world.handle(connections[1], Packet::Connect(v5("many")));
        assert_eq!(world.sent(connections[1])[3], 0, "there is no session");
        let mut turns = 0;
        while !world.broker.leaving.is_empty() {
            world.broker.check_invariants();
            world.publish(connections[0], "topic/1", Properties::NONE);
            let sent = world.sent(connections[0]);
            assert!(
                sent.windows(7).any(|it| it == b"topic/1"),
                "the others get it"
            );
            assert_eq!(world.sent(connections[1]), [0u8; 0], "round {round}");
            world.broker.go_on(world.now);
            turns += 1;
        }
        assert!(turns > 2);
        world.broker.check_invariants();
        assert_eq!(
            world.broker.subscription_tree(),
            "topic/+ (QoS 0) watcher\n"
        );
    }
}

/// Looking up retained messages has a budget a turn, and what exceeds it goes on in the next: a look-up that is too large in
/// pieces, and those behind it.
#[test]
fn look_ups_of_retained_messages_are_spread_over_turns() {
    let mut world = World::new("");
    let publisher = world.connect(v5("publisher"));
    for number in 0..replay::NODES_PER_TURN {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: &format!("r/{number}/a"),
            packet_id: None,
            properties: Properties::NONE,
            payload: b"x",
        };
        world
            .broker
            .handle(publisher, Packet::Publish(publish), world.now);
    }
    let connection = world.connect(v5("a"));
    for filter in ["+/+/x", "+/+/y", "r/1/a"] {
        world.subscribe(connection, filter, QoS::AtMostOnce);
    }
    let mut turns = 0;
    let mut sent = Vec::new();
    while world.broker.has_output() {
        turns += 1;
        world.broker.go_on(world.now);
        sent.extend(world.sent(connection));
        world.broker.take_dirty(&mut Vec::new());
        assert!(turns < 20, "it does not end");
    }
    assert!(turns > 3, "{turns} turns for two large look-ups");

    assert!(sent.ends_with(b"r/1/a\0x"));
}

/// A large packet on a slow link may take longer than Keep Alive.
#[test]
fn bytes_of_a_large_packet_are_a_sign_of_life() {
    let mut world = World::new("");
    let connection = world.connect(Connect {
        keep_alive: 10,
        ..v5("a")
    });
    for _ in 0..10 {
        world.pass(seconds(14));
        world.broker.touch(connection, world.now);
    }
    world.pass(seconds(15) - MILLISECOND);
    assert!(!world.is_closed(connection));
    world.pass(MILLISECOND);
    assert!(world.is_closed(connection));
}

/// Whom we do not read, since he has answers waiting, lives as long as he reads.
#[test]
fn reading_is_a_sign_of_life_of_a_client_that_is_not_read() {
    let mut world = World::new("");
    let connection = world.connect(Connect {
        keep_alive: 10,
        ..v5("a")
    });
    world.broker.outbox(connection).expect("attached").blocked = true;
    for _ in 0..ANSWER_BYTES_MAX {
        world.broker.handle(connection, Packet::Pingreq, world.now);
    }
    assert!(world.broker.is_congested(connection));
    for _ in 0..10 {
        world.pass(seconds(14));
        world
            .broker
            .outbox(connection)
            .expect("it lives")
            .advance(1);
        world.broker.flushed(connection, 1, world.now);
    }
    world.pass(seconds(299));
    assert!(
        !world.is_closed(connection),
        "what it reads from the kernel is not seen at once"
    );
    world.pass(seconds(1));
    assert!(world.is_closed(connection), "it does not read any more");
}

/// [MQTT-3.1.2-24]: an answer above the client's Maximum Packet Size is not sent, and ends the connection.
#[test]
fn mqtt_3_1_2_24_answers_keep_to_the_maximum_packet_size() {
    let mut world = World::new("");
    let tiny = properties(&[Property::MaximumPacketSize(10)]);
    let connection = world.attach();
    let connect = Connect {
        properties: tiny.as_properties(),
        ..v5("tiny")
    };
    world.handle(connection, Packet::Connect(connect));
    assert!(world.is_closed(connection));
    assert!(
        world
            .broker
            .take_closing()
            .is_some_and(|farewell| farewell.outbox.is_empty())
    );

    let small = properties(&[Property::MaximumPacketSize(30)]);
    let connection = world.connect(Connect {
        properties: small.as_properties(),
        ..v5("small")
    });
    let filters = [("t", SubscriptionOptions::new(QoS::AtMostOnce)); 40];
    let mut bytes = Vec::new();
    let (version, none) = (ProtocolVersion::V5, Properties::NONE);
    Subscribe::encode(mqtt::PacketId::FIRST, none, &filters, version, &mut bytes);
    let limits = world.broker.limits(connection).expect("attached");
    let (packet, _) = mqtt::decode(&bytes, limits).expect("valid").expect("whole");
    world.handle(connection, packet);
    assert!(world.is_closed(connection));
    let farewell = world.broker.take_closing().expect("it is closed");
    assert_eq!(farewell.outbox.contiguous(), Some(&[0xE0, 1, 0x95][..]));
}
