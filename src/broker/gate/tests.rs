//! The line against disks that take their time: what waits costs a bounded amount of memory, and goes on afterwards.

use super::Held;
use crate::broker::tests::{World, properties, v5};
use crate::broker::{Clocks, Ending};
use crate::buffer::ConnectionKey;
use crate::mqtt::{
    self, Ack, Connect, Packet, PacketId, Properties, Property, ProtocolVersion, Publish, QoS,
    ReasonCode, Subscribe, SubscriptionOptions, Unsubscribe, Will,
};
use std::num::NonZeroU16;
use std::time::Duration;

impl World {
    /// One whose broker journals.
    fn durable(lines: &str) -> World {
        let mut world = World::new(lines);
        let clocks = world.clocks();
        world.broker.begin_restoring(0, clocks).finish();
        world
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            now: self.now,
            unix_millis: 1_700_000_000_000,
        }
    }

    /// Everything that changed gets to the disk.
    fn commit(&mut self) {
        while self.broker.take_batch(self.clocks()).is_some() {
            self.broker.committed(self.now);
            self.broker.check_invariants();
        }
    }

    /// A client whose session outlives its connection, with these properties besides.
    fn lasting(&mut self, client_id: &str, others: &[Property<'_>]) -> ConnectionKey {
        let mut list = vec![Property::SessionExpiryInterval(100)];
        list.extend_from_slice(others);
        let list = properties(&list);
        let connection = self.attach();
        let connect = Connect {
            properties: list.as_properties(),
            ..v5(client_id)
        };
        self.handle(connection, Packet::Connect(connect));
        self.commit();
        assert_eq!(self.sent(connection)[0], 0x20, "CONNACK comes first");
        connection
    }

    fn subscribe_durably(&mut self, connection: ConnectionKey, filter: &str, qos: QoS) {
        self.send_subscribe(connection, filter, qos);
        self.commit();
        assert_eq!(self.sent(connection)[0], 0x90, "SUBACK comes first");
    }

    /// A client with a session comes back to it, and everything that waits is committed: what it is sent.
    fn resume(&mut self, client_id: &str) -> Vec<u8> {
        let lasting = properties(&[Property::SessionExpiryInterval(100)]);
        let connection = self.attach();
        let connect = Connect {
            clean_start: false,
            properties: lasting.as_properties(),
            ..v5(client_id)
        };
        self.handle(connection, Packet::Connect(connect));
        self.commit();
        self.sent(connection)
    }

    /// One that ends with its connection.
    fn guest(&mut self, client_id: &str) -> ConnectionKey {
        let connection = self.attach();
        self.handle(connection, Packet::Connect(v5(client_id)));
        self.sent(connection);
        connection
    }

    fn unsubscribe(&mut self, connection: ConnectionKey, filter: &str) {
        let mut bytes = Vec::new();
        let version = ProtocolVersion::V5;
        let packet_id = PacketId::FIRST;
        Unsubscribe::encode(packet_id, Properties::NONE, &[filter], version, &mut bytes);
        let limits = self.broker.limits(connection).expect("attached");
        let (packet, _) = mqtt::decode(&bytes, limits).expect("valid").expect("whole");
        self.handle(connection, packet);
    }

    fn publish_exactly_once(&mut self, connection: ConnectionKey, id: u16, payload: &[u8]) {
        let packet_id = PacketId(NonZeroU16::new(id).expect("not 0"));
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "t",
            packet_id: Some(packet_id),
            properties: Properties::NONE,
            payload,
        };
        self.handle(connection, Packet::Publish(publish));
        let release = Ack::new(packet_id, ReasonCode::Success);
        self.handle(connection, Packet::Pubrel(release));
    }
}

/// What waited for a commit and is too large for its receiver gives its place in the window to the next.
#[test]
fn what_cannot_be_sent_after_its_commit_makes_room() {
    let mut world = World::durable("");
    let small = [
        Property::ReceiveMaximum(1),
        Property::MaximumPacketSize(100),
    ];
    let receiver = world.lasting("receiver", &small);
    world.subscribe_durably(receiver, "t", QoS::ExactlyOnce);
    let sender = world.lasting("sender", &[]);
    world.publish_exactly_once(sender, 1, &[b'x'; 200]);
    world.publish_exactly_once(sender, 2, b"small");
    world.commit();
    let sent = world.sent(receiver);
    assert!(sent.ends_with(b"small"), "{sent:?}");
}

/// Clients give up waiting for CONNACK, and come again and again, for as long as the disk hangs.
#[test]
fn what_waits_for_connections_that_are_gone_is_forgotten_while_the_disk_hangs() {
    let mut world = World::durable("");
    let receiver = world.lasting("receiver", &[]);
    world.subscribe_durably(receiver, "t", QoS::ExactlyOnce);
    let lasting = properties(&[Property::SessionExpiryInterval(100)]);
    for _ in 0..20_000 {
        let connection = world.attach();
        let packet = Packet::Connect(Connect {
            clean_start: true,
            properties: lasting.as_properties(),
            ..v5("c")
        });
        world.broker.handle(connection, packet, world.now);
        world
            .broker
            .detach(connection, Ending::ClosedByClient, world.now);
        while world.broker.take_closing().is_some() {}
    }
    let waiting = world.broker.output.gate.line.len();
    assert!(waiting < 3000, "{waiting} wait for nobody");
    // Those who are still there are answered.
    world.publish_exactly_once(receiver, 1, b"payload");
    let batch = world.broker.take_batch(world.clocks()).expect("changed");
    assert!(
        batch.removed.sessions.is_empty(),
        "what never got to the disk need not be removed"
    );
    world.broker.committed(world.now);
    let sent = world.sent(receiver);
    assert!(sent.windows(7).any(|it| it == b"payload"), "{sent:?}");
}

/// Filters that are subscribed to and given up are no more to the store than those that never were.
#[test]
fn subscriptions_that_come_and_go_before_a_commit_leave_nothing() {
    let mut world = World::durable("");
    let client = world.lasting("client", &[]);
    world.subscribe_durably(client, "stored", QoS::AtLeastOnce);
    for filter in ["a", "b", "stored", "c"] {
        world.send_subscribe(client, filter, QoS::AtLeastOnce);
        world.send_subscribe(client, filter, QoS::AtMostOnce);
        world.unsubscribe(client, filter);
    }
    world.send_subscribe(client, "d", QoS::AtLeastOnce);
    world.unsubscribe(client, "d");
    world.send_subscribe(client, "d", QoS::AtLeastOnce);
    let batch = world.broker.take_batch(world.clocks()).expect("changed");
    let filters = |list: &[(u64, String)]| list.iter().map(|it| it.1.clone()).collect::<Vec<_>>();
    assert_eq!(filters(&batch.removed.subscriptions), ["stored"]);
    assert_eq!(batch.subscriptions.len(), 1);
    assert_eq!(batch.subscriptions[0].filter, "d");
    // And one that is stored, given up and wanted again stays.
    world.unsubscribe(client, "d");
    world.send_subscribe(client, "d", QoS::AtMostOnce);
    world.unsubscribe(client, "d");
    let batch = world.broker.take_batch(world.clocks()).expect("changed");
    assert_eq!(filters(&batch.removed.subscriptions), ["d"]);
}

/// Answers that wait count by their bytes, as those in the outbox do.
#[test]
fn who_has_large_answers_that_wait_is_not_read_from() {
    let mut world = World::durable("");
    let client = world.lasting("client", &[]);
    let filters = vec![("f", SubscriptionOptions::new(QoS::AtMostOnce)); 10_000];
    let mut bytes = Vec::new();
    let version = ProtocolVersion::V5;
    Subscribe::encode(
        PacketId::FIRST,
        Properties::NONE,
        &filters,
        version,
        &mut bytes,
    );
    for _ in 0..7 {
        assert!(!world.broker.is_congested(client));
        let limits = world.broker.limits(client).expect("attached");
        let (packet, _) = mqtt::decode(&bytes, limits).expect("valid").expect("whole");
        world.handle(client, packet);
    }
    assert!(
        world.broker.is_congested(client),
        "70,000 bytes wait for it"
    );
    world.commit();
    assert!(!world.broker.is_congested(client));
    assert!(world.sent(client).len() > 70_000);
}

/// Copies at QoS 0 of what was released wait for its commit too, but not without end, and without stopping anybody.
#[test]
fn copies_that_wait_are_bounded() {
    let mut world = World::durable("max_queued_messages 0\nmax_queued_bytes 0\n");
    let reader = world.lasting("reader", &[]);
    world.subscribe_durably(reader, "t", QoS::AtMostOnce);
    let sender = world.lasting("sender", &[]);
    for round in 0..2 {
        let (count, payload) =
            [(17_000, vec![b'x'; 8]), (100, vec![b'x'; 1024 * 1024])][round].clone();
        for _ in 0..count {
            world.publish_exactly_once(sender, 1, &payload);
        }
        let copies = world.broker.output.gate.line.iter();
        let copies = copies
            .filter(|entry| matches!(entry.held, Held::Copy(_)))
            .count();
        assert_eq!(copies, [16_384, 16][round]);
        assert!(
            !world.broker.is_congested(reader),
            "others' messages stop nobody"
        );
        world.commit();
        assert!(world.sent(reader).len() >= copies * payload.len());
    }
}

/// A session that was kept once and ends with its connection now ends with the broker, and its will is said while others
/// can hear it.
#[test]
fn the_delayed_will_of_a_session_that_ends_with_the_broker_is_heard() {
    let mut world = World::durable("");
    let watcher = world.attach();
    world.handle(watcher, Packet::Connect(v5("watcher")));
    world.send_subscribe(watcher, "will", QoS::AtMostOnce);
    let former = world.lasting("c", &[]);
    world.close(former);
    let of_will = properties(&[Property::WillDelayInterval(10)]);
    let connection = world.attach();
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "will",
        payload: b"gone",
        properties: of_will.as_properties(),
    };
    let connect = Connect {
        will: Some(will),
        ..v5("c")
    };
    world.handle(connection, Packet::Connect(connect));
    world.commit();
    world.broker.shut_down(world.now);
    let heard = std::iter::from_fn(|| world.broker.take_closing())
        .find(|farewell| farewell.connection == watcher)
        .map(|farewell| {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let count = farewell.outbox.slices(&mut slices);
            slices[..count]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect::<Vec<u8>>()
        });
    let heard = heard.expect("it was there");
    assert!(heard.windows(4).any(|it| it == b"gone"), "{heard:?}");
}

/// [MQTT-4.6.0-6]: what waited in the queue does not pass what waits for a commit.
#[test]
fn mqtt_4_6_0_6_the_queue_does_not_pass_what_is_held() {
    let mut world = World::durable("queue_qos0_messages true\n");
    let reader = world.lasting("reader", &[Property::ReceiveMaximum(2)]);
    world.subscribe_durably(reader, "t", QoS::AtLeastOnce);
    let sender = world.lasting("sender", &[]);
    world.publish_exactly_once(sender, 1, b"one");
    world.commit();
    assert!(world.sent(reader).ends_with(b"one"));
    world.publish_exactly_once(sender, 2, b"two"); // waits for its commit
    world.publish_exactly_once(sender, 3, b"three"); // waits for room
    let first = Ack::new(PacketId::FIRST, ReasonCode::Success);
    world.handle(reader, Packet::Puback(first));
    assert_eq!(world.sent(reader), [0u8; 0]);
    world.commit();
    let sent = world.sent(reader);
    let at = |text: &[u8]| sent.windows(text.len()).position(|it| it == text);
    assert!(
        at(b"two").is_some() && at(b"two") < at(b"three"),
        "{sent:?}"
    );
}

/// [MQTT-4.6.0-6] for what comes while something from the queue waits behind a commit, in the same QoS or another one.
#[test]
fn mqtt_4_6_0_6_what_comes_does_not_pass_what_is_held() {
    for publisher_is_stored in [false, true] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut world = World::durable("");
            let reader = world.lasting("reader", &[Property::ReceiveMaximum(3)]);
            world.subscribe_durably(reader, "t", QoS::ExactlyOnce);
            world.subscribe_durably(reader, "t/+", QoS::AtLeastOnce);
            let other = world.lasting("other", &[]);
            let sender = match publisher_is_stored {
                true => world.lasting("sender", &[]),
                false => world.connect(v5("sender")),
            };
            let send = |world: &mut World, id: u16, payload: &[u8]| {
                let packet_id = PacketId(NonZeroU16::new(id).expect("not 0"));
                let publish = Publish {
                    dup: false,
                    qos,
                    retain: false,
                    topic: "t/1",
                    packet_id: Some(packet_id),
                    properties: Properties::NONE,
                    payload,
                };
                world.handle(sender, Packet::Publish(publish));
                if qos == QoS::ExactlyOnce {
                    let release = Ack::new(packet_id, ReasonCode::Success);
                    world.handle(sender, Packet::Pubrel(release));
                }
            };
            send(&mut world, 1, b"one");
            send(&mut world, 2, b"two");
            world.commit();
            world.publish_exactly_once(other, 1, b"other"); // waits for its commit
            send(&mut world, 3, b"three"); // waits for room
            for id in [1, 2] {
                let id = PacketId(NonZeroU16::new(id).expect("not 0"));
                world.handle(reader, Packet::Puback(Ack::new(id, ReasonCode::Success)));
            }
            send(&mut world, 4, b"four"); // finds room
            world.commit();
            let sent = world.sent(reader);
            let at = |text: &[u8]| sent.windows(text.len()).position(|it| it == text);
            let found = [b"one".as_slice(), b"two", b"three", b"four"].map(at);
            assert!(
                found[0].is_some() && found.is_sorted(),
                "{qos:?}: {found:?}"
            );
        }
    }
}

/// [MQTT-4.6.0-1]: what waited for a commit is sent again after what passed it, as it was sent.
#[test]
fn mqtt_4_6_0_1_sent_again_in_the_order_of_sending() {
    let mut world = World::durable("");
    let reader = world.lasting("reader", &[]);
    world.subscribe_durably(reader, "t", QoS::ExactlyOnce);
    let sender = world.lasting("sender", &[]);
    world.publish_exactly_once(sender, 1, b"waited");
    let direct = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "t",
        packet_id: Some(PacketId::FIRST),
        properties: Properties::NONE,
        payload: b"passed",
    };
    let other = world.attach();
    world.handle(other, Packet::Connect(v5("other")));
    world.handle(other, Packet::Publish(direct));
    world.commit();
    let order = |sent: &[u8]| {
        let at = |text: &[u8]| sent.windows(text.len()).position(|it| it == text);
        assert!(
            at(b"passed").is_some() && at(b"waited").is_some(),
            "{sent:?}"
        );
        at(b"passed") < at(b"waited")
    };
    assert!(order(&world.sent(reader)));
    world.close(reader);
    assert!(order(&world.resume("reader")));
}

/// What was never sent, since it waited for a commit, comes after what was.
#[test]
fn mqtt_4_6_0_1_what_was_never_sent_comes_last() {
    let mut world = World::durable("");
    let reader = world.lasting("reader", &[]);
    world.subscribe_durably(reader, "t", QoS::ExactlyOnce);
    let sender = world.lasting("sender", &[]);
    world.publish_exactly_once(sender, 1, b"one");
    world.publish_exactly_once(sender, 2, b"two");
    world.commit();
    assert!(world.sent(reader).ends_with(b"two"));
    world.publish_exactly_once(sender, 3, b"three");
    world.publish_exactly_once(sender, 4, b"four");
    world.close(reader);
    let sent = world.resume("reader");
    let at = |text: &[u8]| sent.windows(text.len()).position(|it| it == text);
    let found = [b"one".as_slice(), b"two", b"three", b"four"].map(at);
    assert!(found[0].is_some() && found.is_sorted(), "{found:?}");
    let is_dup = |text: &[u8], length: usize| {
        let end = at(text).expect("it is there");
        sent[end - length] & 0b1000 != 0 // [MQTT-3.3.1-1]
    };
    // Two bytes of fixed header, topic, identifier and no properties come before the payload.
    let dups = [b"one".as_slice(), b"two", b"three", b"four"].map(|text| is_dup(text, 8));
    assert_eq!(dups, [true, true, false, false]);
}

/// A copy of what a stored session released waits for that commit also where it waited for room before.
#[test]
fn what_was_released_leaves_the_queue_when_that_is_committed() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::durable("queue_qos0_messages true\n");
        let once = properties(&[Property::ReceiveMaximum(1)]);
        let reader = world.attach();
        let connect = Connect {
            properties: once.as_properties(),
            ..v5("reader")
        };
        world.handle(reader, Packet::Connect(connect));
        world.send_subscribe(reader, "t", qos);
        world.send_subscribe(reader, "filler", QoS::AtLeastOnce);
        let sender = world.lasting("sender", &[]);
        world.publish(sender, "filler", Properties::NONE);
        world.publish(sender, "filler", Properties::NONE);
        world.commit();
        world.sent(reader);
        world.publish_exactly_once(sender, 1, b"released");
        world.handle(
            reader,
            Packet::Puback(Ack::new(PacketId::FIRST, ReasonCode::Success)),
        );
        let second = PacketId(NonZeroU16::new(2).expect("not 0"));
        world.handle(
            reader,
            Packet::Puback(Ack::new(second, ReasonCode::Success)),
        );
        let has_it = |sent: &[u8]| sent.windows(8).any(|it| it == b"released");
        assert!(!has_it(&world.sent(reader)), "{qos:?}");
        world.commit();
        assert!(has_it(&world.sent(reader)), "{qos:?}");
    }
}

/// [MQTT-3.3.2-5]: what expires while the disk hangs is not sent when it goes on.
#[test]
fn mqtt_3_3_2_5_what_expires_before_its_commit_is_not_sent() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::durable("");
        let reader = world.lasting("reader", &[]);
        world.subscribe_durably(reader, "t", qos);
        let sender = world.lasting("sender", &[]);
        let packet_id = Some(PacketId::FIRST);
        let expiring = properties(&[Property::MessageExpiryInterval(60)]);
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "t",
            packet_id,
            properties: expiring.as_properties(),
            payload: b"late",
        };
        world.handle(sender, Packet::Publish(publish));
        let release = Ack::new(PacketId::FIRST, ReasonCode::Success);
        world.handle(sender, Packet::Pubrel(release));
        world.pass(Duration::from_secs(61));
        world.commit();
        assert_eq!(world.sent(reader), [0u8; 0], "{qos:?}");
    }
}

/// [MQTT-3.3.2-5]: what waited for a commit when its connection ended, and was never sent, is not sent on the next one after
/// it expired. What was sent is [MQTT-4.4.0-1].
#[test]
fn mqtt_3_3_2_5_what_expires_before_it_was_ever_sent_is_not_sent_on_the_next_connection() {
    for (qos, is_committed) in [
        (QoS::AtLeastOnce, false),
        (QoS::ExactlyOnce, false),
        (QoS::AtLeastOnce, true),
        (QoS::ExactlyOnce, true),
    ] {
        let mut world = World::durable("");
        let reader = world.lasting("reader", &[]);
        world.subscribe_durably(reader, "t", qos);
        let sender = world.lasting("sender", &[]);
        let expiring = properties(&[Property::MessageExpiryInterval(60)]);
        let publish = Publish {
            dup: false,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "t",
            packet_id: Some(PacketId::FIRST),
            properties: expiring.as_properties(),
            payload: b"late",
        };
        world.handle(sender, Packet::Publish(publish));
        let release = Ack::new(PacketId::FIRST, ReasonCode::Success);
        world.handle(sender, Packet::Pubrel(release));
        if is_committed {
            world.commit();
            assert!(world.sent(reader).ends_with(b"late"));
        }
        world.close(reader);
        world.commit();
        world.pass(Duration::from_secs(61));
        let comes = world.resume("reader").ends_with(b"late");
        assert_eq!(comes, is_committed, "{qos:?}");
    }
}

fn publish(qos: QoS, id: u16, retain: bool, payload: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain,
        topic: "t",
        packet_id: NonZeroU16::new(id).map(PacketId),
        properties: Properties::NONE,
        payload,
    })
}

fn place_of(text: &[u8], sent: &[u8]) -> Option<usize> {
    sent.windows(text.len()).position(|it| it == text)
}

/// [MQTT-2.2.1-4]: a retained message that goes out at QoS 2 with SUBACK has an identifier that the store does not know yet. After
/// a crash another message would have it, and be taken for this one.
#[test]
fn mqtt_2_2_1_4_a_replay_at_qos_2_waits_until_its_identifier_is_stored() {
    let mut world = World::durable("");
    let sender = world.guest("sender");
    world.handle(sender, publish(QoS::ExactlyOnce, 1, true, b"retained"));
    let release = Ack::new(PacketId::FIRST, ReasonCode::Success);
    world.handle(sender, Packet::Pubrel(release));
    world.commit();
    let reader = world.lasting("reader", &[]);
    world.send_subscribe(reader, "t", QoS::ExactlyOnce);
    world.broker.take_batch(world.clocks()).expect("subscribed");
    world.broker.committed(world.now);
    let sent = world.sent(reader);
    assert_eq!(
        (sent[0], place_of(b"retained", &sent)),
        (0x90, None),
        "SUBACK alone"
    );
    world.commit();
    assert!(place_of(b"retained", &world.sent(reader)).is_some());
}

/// [MQTT-4.6.0-6]: what makes room while a commit lets go is not for the queue before those who stand in the line.
#[test]
fn mqtt_4_6_0_6_the_queue_does_not_pass_what_a_commit_lets_go() {
    let mut world = World::durable("");
    let small = properties(&[
        Property::ReceiveMaximum(2),
        Property::MaximumPacketSize(100),
    ]);
    let reader = world.attach();
    let connect = Connect {
        properties: small.as_properties(),
        ..v5("reader")
    };
    world.handle(reader, Packet::Connect(connect));
    world.send_subscribe(reader, "t", QoS::ExactlyOnce);
    let sender = world.lasting("sender", &[]);
    world.sent(reader);
    world.publish_exactly_once(sender, 1, &[b'x'; 200]);
    world.publish_exactly_once(sender, 2, b"two");
    world.publish_exactly_once(sender, 3, b"three");
    world.commit();
    let sent = world.sent(reader);
    let found = [b"two".as_slice(), b"three"].map(|text| place_of(text, &sent));
    assert!(found[0].is_some() && found.is_sorted(), "{found:?}");
}

/// [MQTT-4.6.0-6] for a publisher of several QoS, whose messages are of one to the subscriber.
#[test]
fn mqtt_4_6_0_6_a_publisher_does_not_pass_what_it_released() {
    for (of_subscription, qos) in [
        (QoS::AtLeastOnce, QoS::AtLeastOnce),
        (QoS::AtMostOnce, QoS::AtLeastOnce),
        (QoS::AtMostOnce, QoS::AtMostOnce),
    ] {
        let mut world = World::durable("");
        let reader = world.lasting("reader", &[]);
        world.subscribe_durably(reader, "t", of_subscription);
        let sender = world.lasting("sender", &[]);
        world.publish_exactly_once(sender, 1, b"one");
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        world.handle(sender, publish(qos, id, false, b"two"));
        world.commit();
        let sent = world.sent(reader);
        let found = [b"one".as_slice(), b"two"].map(|text| place_of(text, &sent));
        assert!(
            found[0].is_some() && found.is_sorted(),
            "subscription {of_subscription:?}, second message {qos:?}: {found:?}"
        );
    }
}

/// [MQTT-3.1.2-10]: a will is heard when it is stored that it was said; a crash before would say it again.
#[test]
fn mqtt_3_1_2_10_a_stored_will_is_heard_once_it_is_stored_as_said() {
    for of_watcher in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::durable("");
        let watcher = world.guest("watcher");
        world.send_subscribe(watcher, "will", of_watcher);
        world.sent(watcher);
        let lasting = properties(&[Property::SessionExpiryInterval(100)]);
        let connection = world.attach();
        let will = Will {
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "will",
            payload: b"gone",
            properties: Properties::NONE,
        };
        let connect = Connect {
            will: Some(will),
            properties: lasting.as_properties(),
            ..v5("c")
        };
        world.handle(connection, Packet::Connect(connect));
        world.commit();
        world.close(connection);
        let sent = world.sent(watcher);
        assert_eq!(place_of(b"gone", &sent), None, "{of_watcher:?}");
        world.commit();
        let sent = world.sent(watcher);
        assert!(place_of(b"gone", &sent).is_some(), "{of_watcher:?}");
    }
}

/// Acknowledgements of what was never sent, until identifiers come again: nothing is counted twice.
#[test]
fn acknowledgements_of_what_is_held_upset_nothing() {
    let mut world = World::durable("max_inflight_messages 65535\n");
    let reader = world.lasting("reader", &[]);
    world.subscribe_durably(reader, "t", QoS::ExactlyOnce);
    let sender = world.lasting("sender", &[]);
    for round in 0..65_600u32 {
        let now = world.now;
        let message = publish(QoS::ExactlyOnce, 1, false, b"x");
        world.broker.handle(sender, message, now);
        let release = Ack::new(PacketId::FIRST, ReasonCode::Success);
        world.broker.handle(sender, Packet::Pubrel(release), now);
        if round < 65_599 {
            let id = NonZeroU16::new((round % 65_535 + 1) as u16).expect("not 0");
            let ack = Ack::new(PacketId(id), ReasonCode::Success);
            world.broker.handle(reader, Packet::Pubcomp(ack), now);
        }
    }
    world.commit();
    let sent = world.sent(reader);
    assert_eq!(
        place_of(b"x", &sent[sent.len() - 1..]),
        Some(0),
        "the last one comes"
    );
}
