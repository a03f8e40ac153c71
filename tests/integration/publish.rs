//! PUBLISH and its acknowledgements (3.3 to 3.7, 4.3): one message in, the same message out, once.

use std::thread;
use std::time::Duration;

use crate::harness::*;

/// Every version of a publisher with every version of a subscriber.
fn version_pairs() -> impl Iterator<Item = (Version, Version)> {
    Version::ALL
        .into_iter()
        .flat_map(|from| Version::ALL.map(|to| (from, to)))
}

/// [MQTT-4.3.1-1], [MQTT-3.3.1-2], [MQTT-2.2.1-2], [MQTT-2.3.1-5] QoS 0 is passed on with DUP 0 and without a Packet
/// Identifier.
#[test]
fn mqtt_4_3_1_1_qos_0() {
    let broker = Broker::start(&[]);
    for (from, to) in version_pairs() {
        let mut subscriber = broker.subscriber(to, "subscriber", "a/b", 0);
        let mut publisher = broker.connect(from, "publisher");
        publisher.send(publish("a/b", "hi"));
        let bytes: &[u8] = match to {
            Version::V5 => b"\x30\x08\x00\x03a/b\x00hi",
            _ => b"\x30\x07\x00\x03a/bhi",
        };
        assert_eq!(subscriber.expect_packet(), bytes, "{from:?} to {to:?}");
        publisher.fence();
    }
}

/// [MQTT-3.3.4-1], [MQTT-4.3.2-1], [MQTT-4.3.2-2], [MQTT-4.3.2-4], [MQTT-2.2.1-5] QoS 1 in and out between all versions.
#[test]
fn mqtt_4_3_2_4_qos_1() {
    let broker = Broker::start(&[]);
    for (from, to) in version_pairs() {
        let mut subscriber = broker.subscriber(to, "subscriber", "t", 1);
        let mut publisher = broker.connect(from, "publisher");
        publisher.send(publish("t", "x").qos(1).packet_id(0x1234));
        assert_eq!(publisher.expect_packet(), b"\x40\x02\x12\x34");
        subscriber.receive(&publish("t", "x").qos(1).packet_id(1));
        subscriber.fence();
    }
}

/// [MQTT-3.3.4-1], [MQTT-4.3.3-1], [MQTT-4.3.3-2], [MQTT-4.3.3-4], [MQTT-4.3.3-8], [MQTT-4.3.3-11] QoS 2 in and out
/// between all versions. The message is passed on when PUBREL comes, and before PUBCOMP goes.
#[test]
fn mqtt_4_3_3_8_qos_2() {
    let broker = Broker::start(&[]);
    for (from, to) in version_pairs() {
        let mut subscriber = broker.subscriber(to, "subscriber", "t", 2);
        let mut publisher = broker.connect(from, "publisher");
        publisher.send(publish("t", "x").qos(2).packet_id(0x1234));
        assert_eq!(publisher.expect_packet(), b"\x50\x02\x12\x34");
        subscriber.fence();
        publisher.send(pubrel(0x1234));
        assert_eq!(publisher.expect_packet(), b"\x70\x02\x12\x34");
        subscriber.expect(publish("t", "x").qos(2).packet_id(1));
        subscriber.send(pubrec(1));
        assert_eq!(subscriber.expect_packet(), b"\x62\x02\x00\x01");
        subscriber.send(pubcomp(1));
        subscriber.fence();
    }
}

/// [MQTT-3.8.4-8] A message is delivered with the lower of its QoS and the one granted.
#[test]
fn mqtt_3_8_4_8_qos_downgrade() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        for granted in 0..=2 {
            for published in 0..=2 {
                let mut subscriber = broker.subscriber(version, "subscriber", "t", granted);
                publisher.publish(&publish("t", "x").qos(published).packet_id(9));
                let expected = publish("t", "x").qos(granted.min(published)).packet_id(1);
                subscriber.receive(&expected);
                subscriber.fence();
            }
        }
    }
}

/// With `upgrade_outgoing_qos` a message is delivered with the QoS granted, higher or lower than its own.
#[test]
fn upgrade_outgoing_qos() {
    let broker = Broker::start(&["upgrade_outgoing_qos true"]);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        for granted in 0..=2 {
            for published in 0..=2 {
                let mut subscriber = broker.subscriber(version, "subscriber", "t", granted);
                publisher.publish(&publish("t", "x").qos(published).packet_id(9));
                subscriber.receive(&publish("t", "x").qos(granted).packet_id(1));
                subscriber.fence();
            }
        }
    }
}

/// `upgrade_outgoing_qos` holds for retained messages as well.
#[test]
fn upgrade_outgoing_qos_of_retained_messages() {
    let broker = Broker::start(&["upgrade_outgoing_qos true"]);
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&publish("t", "x").retain());
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 2);
    subscriber.receive(&publish("t", "x").qos(2).packet_id(1).retain());
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1] A message that nobody subscribes to is acknowledged with 0x10 in 5.0, with nothing
/// but success before, also where it is retained.
#[test]
fn mqtt_3_4_2_1_no_matching_subscribers() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        for retained in [false, true] {
            let flag = u8::from(retained);
            client.send(Publish {
                retain: retained,
                ..publish("t", "x").qos(1).packet_id(1)
            });
            let mut second = Publish {
                retain: retained,
                ..publish("t", "x").qos(2).packet_id(2)
            };
            second.topic = format!("t{flag}");
            if version == Version::V5 {
                assert_eq!(client.expect_packet(), b"\x40\x03\x00\x01\x10");
                client.send(second);
                assert_eq!(client.expect_packet(), b"\x50\x03\x00\x02\x10");
            } else {
                assert_eq!(client.expect_packet(), b"\x40\x02\x00\x01");
                client.send(second);
                assert_eq!(client.expect_packet(), b"\x50\x02\x00\x02");
            }
            client.send(pubrel(2));
            assert_eq!(client.expect_packet(), b"\x70\x02\x00\x02");
        }
    }
}

/// A subscriber whose session sleeps is a subscriber: no 0x10.
#[test]
fn a_sleeping_subscriber_matches() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect_with(Version::V5, connect("subscriber").persistent());
    subscriber.subscribe("t", 1);
    subscriber.leave();
    let mut publisher = broker.connect_v5("publisher");
    publisher.send(publish("t", "x").qos(1).packet_id(1));
    publisher.expect(puback(1));
}

/// [MQTT-3.3.1-3] DUP of what comes in says nothing about DUP of what goes out.
#[test]
fn mqtt_3_3_1_3_dup_is_not_passed_on() {
    let broker = Broker::start(&[]);
    for (from, to) in version_pairs() {
        let mut subscriber = broker.subscriber(to, "subscriber", "t", 2);
        let mut publisher = broker.connect(from, "publisher");
        for qos in [1, 2] {
            publisher.publish(&publish("t", "x").qos(qos).packet_id(5).dup());
            subscriber.receive(&publish("t", "x").qos(qos).packet_id(qos.into()));
        }
    }
}

/// [MQTT-4.3.2-5] After PUBACK the same Packet Identifier is a new message, whatever its DUP says.
#[test]
fn mqtt_4_3_2_5_after_puback_the_identifier_is_new() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x").qos(1).packet_id(5));
        publisher.publish(&publish("t", "x").qos(1).packet_id(5).dup());
        publisher.publish(&publish("t", "x").qos(1).packet_id(5));
        for _ in 0..3 {
            subscriber.expect(publish("t", "x"));
        }
        subscriber.fence();
    }
}

/// [MQTT-4.3.3-10] Until PUBREL the same identifier is answered by PUBREC, and the message is delivered once.
#[test]
fn mqtt_4_3_3_10_repeated_publish_is_delivered_once() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
        let mut publisher = broker.connect(version, "publisher");
        publisher.send(publish("t", "x").qos(2).packet_id(5));
        publisher.expect(pubrec(5));
        publisher.send(publish("t", "x").qos(2).packet_id(5).dup());
        publisher.expect(pubrec(5));
        publisher.send(pubrel(5));
        publisher.expect(pubcomp(5));
        subscriber.receive(&publish("t", "x").qos(2).packet_id(1));
        subscriber.fence();
    }
}

/// [MQTT-4.3.3-10] The same over two connections of one session, PUBREL on the second.
#[test]
fn mqtt_4_3_3_10_repeated_publish_after_reconnect() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
        let mut publisher = broker.connect_with(version, connect("publisher").persistent());
        publisher.send(publish("t", "x").qos(2).packet_id(5));
        publisher.expect(pubrec(5));
        for _ in 0..4 {
            drop(publisher);
            publisher = broker.connect_with(version, connect("publisher").persistent());
            publisher.send(publish("t", "x").qos(2).packet_id(5).dup());
            publisher.expect(pubrec(5));
        }
        publisher.send(pubrel(5));
        publisher.expect(pubcomp(5));
        subscriber.receive(&publish("t", "x").qos(2).packet_id(1));
        subscriber.fence();
    }
}

/// [MQTT-4.3.3-11] PUBREL is answered by PUBCOMP as often as it comes; 5.0 says 0x92 once the identifier is not in use.
#[test]
fn mqtt_4_3_3_11_repeated_pubrel() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x").qos(2).packet_id(5));
        for _ in 0..2 {
            publisher.send(pubrel(5));
            publisher.expect(pubcomp(5).reason(0x92));
        }
        subscriber.expect(publish("t", "x"));
        subscriber.fence();
    }
}

/// [MQTT-4.3.3-11] PUBREL for what was never sent is answered, and passes nothing on.
#[test]
fn mqtt_4_3_3_11_pubrel_of_nothing() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "#", 2);
        client.send(pubrel(77));
        client.expect(pubcomp(77).reason(0x92));
        client.fence();
    }
}

/// [MQTT-4.3.3-12] After PUBCOMP the identifier is a new message, whatever its DUP says.
#[test]
fn mqtt_4_3_3_12_after_pubcomp_the_identifier_is_new() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "one").qos(2).packet_id(5));
        publisher.publish(&publish("t", "two").qos(2).packet_id(5).dup());
        publisher.publish(&publish("t", "two").qos(2).packet_id(5));
        for payload in ["one", "two", "two"] {
            subscriber.expect(publish("t", payload));
        }
        subscriber.fence();
    }
}

/// [MQTT-4.3.3-9] After a PUBREC of 0x80 and above the identifier is a new message.
#[test]
fn mqtt_4_3_3_9_after_a_refusal_the_identifier_is_new() {
    let broker = Broker::start(&["message_size_limit 3"]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 0);
    let mut publisher = broker.connect_v5("publisher");
    publisher.send(publish("t", "four").qos(2).packet_id(5));
    publisher.expect(pubrec(5).reason(0x95));
    publisher.send(publish("t", "two").qos(2).packet_id(5));
    publisher.expect(pubrec(5));
    publisher.send(pubrel(5));
    publisher.expect(pubcomp(5));
    subscriber.expect(publish("t", "two"));
    subscriber.fence();
}

/// Mosquitto's rule: a QoS 2 PUBLISH may come again once; a client that goes on repeating is disconnected, and the
/// message is kept for PUBREL.
#[test]
fn a_publish_repeated_without_end() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 0);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        publisher.send(publish("t", "x").qos(2).packet_id(5));
        publisher.expect(pubrec(5));
        publisher.send(publish("t", "x").qos(2).packet_id(5).dup());
        publisher.expect(pubrec(5));
        publisher.send(publish("t", "x").qos(2).packet_id(5).dup());
        if version == Version::V5 {
            publisher.expect(disconnect().reason(0x82));
        }
        publisher.expect_closed();
    }
    subscriber.fence();
}

/// Mosquitto's rule: a QoS 2 identifier used again with other content replaces what is stored, and the log says so.
#[test]
fn a_publish_repeated_with_other_content() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        let mut publisher = broker.connect(version, "publisher");
        publisher.send(publish("t", "one").qos(2).packet_id(5));
        publisher.expect(pubrec(5));
        publisher.send(publish("t", "two").qos(2).packet_id(5).dup());
        publisher.expect(pubrec(5));
        publisher.send(pubrel(5));
        publisher.expect(pubcomp(5));
        subscriber.expect(publish("t", "two"));
        subscriber.fence();
    }
    broker.wait_for_log("Warning: ");
}

/// [MQTT-2.2.1-5], [MQTT-2.3.1-6]
///
/// Several QoS 2 exchanges at a time, released in another order than they began: each PUBREL passes its
/// own message on.
#[test]
fn mqtt_2_2_1_5_exchanges_in_any_order() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "#", 0);
        let mut publisher = broker.connect(version, "publisher");
        for id in [3, 1, 2] {
            publisher.send(publish(&format!("t{id}"), "x").qos(2).packet_id(id));
        }
        for id in [3, 1, 2] {
            publisher.expect(pubrec(id));
        }
        for id in [2, 3, 1] {
            publisher.send(pubrel(id));
            publisher.expect(pubcomp(id));
            subscriber.expect(publish(&format!("t{id}"), "x"));
        }
        subscriber.fence();
    }
}

/// QoS 1 and QoS 2 may use one identifier at once as far as the broker goes: what comes in and what goes out are counted
/// apart (2.2.1).
#[test]
fn identifiers_of_the_two_directions_are_apart() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "t", 2);
        client.send(publish("t", "x").qos(2).packet_id(1));
        client.expect(pubrec(1));
        client.send(pubrel(1));
        client.expect(publish("t", "x").qos(2).packet_id(1));
        client.expect(pubcomp(1));
        client.send(publish("t", "y").qos(1).packet_id(1));
        client.expect(publish("t", "y").qos(1).packet_id(2));
        client.expect(puback(1));
        client.send(pubrec(1));
        client.expect(pubrel(1));
        client.send(puback(2));
        client.send(pubcomp(1));
        client.fence();
    }
}

/// A publisher that is its own subscriber gets the message before the acknowledgement, as from Mosquitto.
#[test]
fn own_messages_come_before_their_acknowledgement() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "t", 0);
        client.send(publish("t", "x").qos(1).packet_id(1));
        client.expect(publish("t", "x"));
        client.expect(puback(1));
        client.send(publish("t", "x").qos(2).packet_id(2));
        client.expect(pubrec(2));
        client.send(pubrel(2));
        client.expect(publish("t", "x"));
        client.expect(pubcomp(2));
    }
}

/// [MQTT-3.6.2-1], [MQTT-3.7.2-1] Acknowledgements of 5.0 in each of their forms: two bytes, with a reason, with
/// properties.
#[test]
fn mqtt_3_6_2_1_acknowledgements_in_every_form() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 2);
    let forms: [fn(Ack) -> Ack; 4] = [
        |ack| ack,
        |ack| ack.reason(0),
        |ack| ack.with(reason_string("why not")),
        |ack| {
            ack.with(user_property("a", "1"))
                .with(user_property("a", "2"))
        },
    ];
    for (id, form) in (1..).zip(forms) {
        publisher.send(publish("t", "x").qos(2).packet_id(7));
        publisher.expect(pubrec(7));
        publisher.send(form(pubrel(7)));
        publisher.expect(pubcomp(7));
        subscriber.expect(publish("t", "x").qos(2).packet_id(2 * id - 1));
        subscriber.send(form(pubrec(2 * id - 1)));
        subscriber.expect(pubrel(2 * id - 1));
        subscriber.send(form(pubcomp(2 * id - 1)));
        publisher.publish(&publish("t", "x").qos(1).packet_id(7));
        subscriber.expect(publish("t", "x").qos(1).packet_id(2 * id));
        subscriber.send(form(puback(2 * id)));
        subscriber.fence();
    }
}

/// Acknowledgements of what is not under way: PUBACK and PUBCOMP are passed over, PUBREC is answered by PUBREL, in 5.0
/// with 0x92.
#[test]
fn acknowledgements_of_nothing() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(puback(9));
        client.send(pubcomp(9));
        client.fence();
        client.send(pubrec(9));
        client.expect(pubrel(9).reason(0x92));
        client.fence();
    }
}

/// An acknowledgement of the wrong kind is a Protocol Error: PUBACK for QoS 2, PUBREC or PUBCOMP for QoS 1.
#[test]
fn acknowledgements_of_the_wrong_kind() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        for (qos, ack) in [(2, puback(1)), (1, pubrec(1)), (1, pubcomp(1))] {
            let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
            let mut publisher = broker.connect(version, "publisher");
            publisher.publish(&publish("t", "x").qos(qos).packet_id(5));
            subscriber.expect(publish("t", "x").qos(qos).packet_id(1));
            subscriber.send(ack);
            if version == Version::V5 {
                subscriber.expect(disconnect().reason(0x82));
            }
            subscriber.expect_closed();
        }
    }
}

/// [MQTT-4.3.3-4] PUBREC is answered by PUBREL as often as it comes.
#[test]
fn mqtt_4_3_3_4_repeated_pubrec() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x").qos(2).packet_id(5));
        subscriber.expect(publish("t", "x").qos(2).packet_id(1));
        for _ in 0..3 {
            subscriber.send(pubrec(1));
            subscriber.expect(pubrel(1));
        }
        subscriber.send(pubcomp(1));
        subscriber.fence();
    }
}

/// [MQTT-2.2.1-4], [MQTT-2.3.1-4]
///
/// Identifiers that the broker gives are not 0, and not in use: over more messages than there are
/// identifiers, around two exchanges that stay open.
#[test]
fn mqtt_2_2_1_4_identifiers_are_unused_and_not_zero() {
    const BATCH: usize = 1000;
    let broker = Broker::start(&["log_type error", "max_inflight_messages 0"]);
    let mut subscriber = broker.connect_with(
        Version::V5,
        connect("subscriber").with(receive_maximum(10_000)),
    );
    let mut publisher = broker.connect_v5("publisher");
    subscriber.subscribe("t", 2);
    publisher.publish(&publish("t", "").qos(1).packet_id(1));
    publisher.publish(&publish("t", "").qos(2).packet_id(1));
    subscriber.expect(publish("t", "").qos(1).packet_id(1));
    subscriber.expect(publish("t", "").qos(2).packet_id(2));
    subscriber.send(pubrec(2));
    subscriber.expect(pubrel(2));
    let expected = (3..=u16::MAX).chain(3..2000);
    let mut expected = expected.peekable();
    let message = publish("t", "").qos(1).packet_id(1).encode(Version::V5);
    while expected.peek().is_some() {
        let batch: Vec<u16> = expected.by_ref().take(BATCH).collect();
        publisher.send(message.repeat(batch.len()));
        let mut acks = Vec::new();
        for &id in &batch {
            let received = subscriber.expect_publish();
            assert_eq!((received.packet_id, received.dup), (id, false));
            acks.extend(puback(id).encode(Version::V5));
            publisher.expect(puback(1));
        }
        subscriber.send(acks);
    }
}

/// [MQTT-4.6.0-5], [MQTT-4.6.0-6] The messages of one topic arrive in the order in which they were published, each QoS
/// with itself, to every subscriber.
#[test]
fn mqtt_4_6_0_5_order_of_a_topic() {
    const COUNT: usize = 500;
    let broker = Broker::start(&["log_type error"]);
    let mut subscribers: Vec<Raw> = (0..=2)
        .map(|qos| broker.subscriber(Version::V5, &format!("s{qos}"), "t", qos))
        .collect();
    for qos in 0..=2 {
        let mut publisher = broker.connect_v5("publisher");
        for (number, id) in (0..COUNT).zip((1..=10).cycle()) {
            let message = publish("t", number.to_string()).qos(qos).packet_id(id);
            publisher.publish(&message);
        }
        for subscriber in &mut subscribers {
            for number in 0..COUNT {
                let received = subscriber.receive_any();
                assert_eq!(received.payload, number.to_string().as_bytes());
            }
        }
    }
}

/// [MQTT-4.5.0-1] A message goes to every matching subscriber, connected or not, and to nobody else.
#[test]
fn mqtt_4_5_0_1_every_matching_subscriber() {
    let broker = Broker::start(&[]);
    let mut sleeping = broker.connect_with(Version::V5, connect("sleeping").persistent());
    sleeping.subscribe("t/+", 1);
    sleeping.leave();
    let mut awake = broker.subscriber(Version::V311, "awake", "t/#", 2);
    let mut other = broker.subscriber(Version::V5, "other", "u/#", 2);
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&publish("t/a", "x").qos(1).packet_id(1));
    awake.receive(&publish("t/a", "x").qos(1).packet_id(1));
    other.fence();
    let mut sleeping = broker.connect_with(Version::V5, connect("sleeping").persistent());
    sleeping.receive(&publish("t/a", "x").qos(1).packet_id(1));
}

/// Any payload is passed on as it is: none, every byte, and megabytes, referred to or copied.
#[test]
fn payloads_of_any_kind() {
    let broker = Broker::start(&[]);
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [0, 1, 2, 4, 100, 4096, 5000].map(|times| every_byte.repeat(times));
    for (from, to) in version_pairs() {
        let mut subscribers = ["one", "two"].map(|id| broker.subscriber(to, id, "t", 2));
        let mut publisher = broker.connect(from, "publisher");
        for (payload, id) in payloads.iter().zip(1..) {
            for qos in 0..=2 {
                let message = publish("t", payload).qos(qos).packet_id(id);
                publisher.publish(&message);
                for subscriber in &mut subscribers {
                    let received = subscriber.receive_any();
                    assert!(received.payload == *payload, "{} bytes", payload.len());
                }
            }
        }
    }
}

/// [MQTT-4.7.3-1], [MQTT-4.7.3-3], [MQTT-4.7.3-4] Topics of one character and of 65,535 bytes, with spaces, empty levels
/// and any letters, are passed on as they are and never normalised.
#[test]
fn mqtt_4_7_3_4_topics_of_any_kind() {
    let broker = Broker::start(&[]);
    let long = "x".repeat(65_535);
    let topics = [
        "/",
        "//",
        " ",
        "a",
        "A",
        "/a",
        "a/",
        "a//b",
        "a b",
        "ä",
        "a\u{308}",
        "\u{feff}",
        "日本/語",
        "\u{1f600}",
        "$",
        "$a",
        "a$",
        ".",
        "..",
        "a/./b",
        "%",
        &long,
    ];
    for version in Version::ALL {
        let mut subscriber = broker.connect(version, "subscriber");
        let mut publisher = broker.connect(version, "publisher");
        for topic in topics {
            subscriber.subscribe(topic, 0);
        }
        for topic in topics {
            publisher.send(publish(topic, "x"));
            subscriber.expect(publish(topic, "x"));
        }
        subscriber.fence();
    }
}

/// Every property of a message that is passed on.
fn message_properties() -> Vec<Property> {
    vec![
        payload_format_indicator(1),
        content_type("text/plain"),
        response_topic("reply/to"),
        correlation_data(b"\x00\xff\x01"),
        user_property("b", "2"),
        user_property("a", "1"),
        user_property("b", "2"),
        user_property("", ""),
    ]
}

/// A message of QoS `qos` with [`message_properties`].
fn with_properties(qos: u8) -> Publish {
    Publish {
        properties: message_properties(),
        ..publish("t", "x").qos(qos).packet_id(1)
    }
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20] The properties of a
/// message are passed on unaltered, User Properties in their order, at each QoS; 3.x gets the message without them.
#[test]
fn mqtt_3_3_2_18_properties_are_passed_on() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    for version in Version::ALL {
        for qos in 0..=2 {
            let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
            publisher.publish(&with_properties(qos));
            subscriber.receive(&with_properties(qos));
        }
    }
}

/// [MQTT-3.3.2-18] The same when the message waits for its subscriber, or is retained.
#[test]
fn mqtt_3_3_2_18_properties_are_kept() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect_with(Version::V5, connect("subscriber").persistent());
    subscriber.subscribe("t", 1);
    subscriber.leave();
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&with_properties(1).retain());
    let mut subscriber = broker.connect_with(Version::V5, connect("subscriber").persistent());
    subscriber.receive(&with_properties(1));
    let mut late = broker.subscriber(Version::V5, "late", "t", 1);
    late.receive(&with_properties(1).retain());
}

/// [MQTT-3.3.2-4] Payload Format Indicator 0 is passed on like 1, and its absence too.
#[test]
fn mqtt_3_3_2_4_payload_format_indicator() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 0);
    let mut publisher = broker.connect_v5("publisher");
    for value in [0, 1] {
        let message = publish("t", "x").with(payload_format_indicator(value));
        publisher.send(&message);
        subscriber.expect(&message);
    }
    publisher.send(publish("t", "x"));
    subscriber.expect(publish("t", "x"));
}

/// [MQTT-3.3.2-14] A Response Topic has no wildcards.
#[test]
fn mqtt_3_3_2_14_response_topic_without_wildcards() {
    let broker = Broker::start(&[]);
    for topic in ["#", "+", "a/#", "a+", "a/+/b"] {
        let mut client = broker.connect_v5("client");
        client.send(publish("t", "x").with(response_topic(topic)));
        let answer = client.expect_packet();
        assert!(
            matches!(answer[..], [0xE0, 0x01, 0x81 | 0x82 | 0x90]),
            "{answer:x?}"
        );
        client.expect_closed();
    }
}

/// [MQTT-3.3.2-3] Where a wildcard matched, the topic sent is the message's, not the filter.
#[test]
fn mqtt_3_3_2_3_topic_is_that_of_the_message() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "a/+/#", 0);
        let mut publisher = broker.connect(version, "publisher");
        for topic in ["a/b", "a/b/c", "a//", "b/b", "a"] {
            publisher.send(publish(topic, "x"));
        }
        for topic in ["a/b", "a/b/c", "a//"] {
            subscriber.expect(publish(topic, "x"));
        }
        subscriber.fence();
    }
}

/// The seconds of the Message Expiry Interval of a message.
fn expiry_of(message: &Publish) -> u32 {
    let value = value_of(&message.properties, MESSAGE_EXPIRY_INTERVAL).expect("it has one");
    u32::from_be_bytes(value.try_into().expect("it has four bytes"))
}

/// [MQTT-3.3.2-6] The Message Expiry Interval is passed on, less the seconds that the message waited.
#[test]
fn mqtt_3_3_2_6_remaining_expiry() {
    let broker = Broker::start(&[]);
    let mut sleeping = broker.connect_with(Version::V5, connect("sleeping").persistent());
    sleeping.subscribe("t", 1);
    sleeping.leave();
    let mut awake = broker.subscriber(Version::V5, "awake", "t", 1);
    let mut publisher = broker.connect_v5("publisher");
    let message = publish("t", "x")
        .qos(1)
        .packet_id(1)
        .with(message_expiry_interval(100));
    publisher.publish(&Publish {
        retain: true,
        ..message.clone()
    });
    awake.receive(&message);
    thread::sleep(Duration::from_millis(2100));
    let mut sleeping = broker.connect_with(Version::V5, connect("sleeping").persistent());
    let mut late = broker.subscriber(Version::V5, "late", "t", 1);
    for client in [&mut sleeping, &mut late] {
        let left = expiry_of(&client.receive_any());
        assert!(
            (90..=98).contains(&left),
            "{left} seconds are left of 100 after 2.1"
        );
    }
}

/// [MQTT-3.3.2-5] A message that expired while its subscriber slept is not delivered; those behind it are.
#[test]
fn mqtt_3_3_2_5_expired_in_the_queue() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut sleeping = broker.connect_with(version, connect("sleeping").persistent());
        sleeping.subscribe("t", 2);
        sleeping.leave();
        let mut publisher = broker.connect_v5("publisher");
        for (id, qos) in [(1, 1), (2, 2)] {
            let message = publish("t", "short").qos(qos).packet_id(id);
            publisher.publish(&message.with(message_expiry_interval(1)));
        }
        publisher.publish(&publish("t", "long").qos(1).packet_id(3));
        thread::sleep(Duration::from_millis(2100));
        let mut sleeping = broker.connect_with(version, connect("sleeping").persistent());
        assert_eq!(sleeping.receive_any().payload, b"long");
        sleeping.fence();
    }
}

/// [MQTT-3.3.2-5] The same behind a full window: what expires before there is room is not sent.
#[test]
fn mqtt_3_3_2_5_expired_behind_the_window() {
    let broker = Broker::start(&[]);
    let mut slow = broker.connect_with(Version::V5, connect("slow").with(receive_maximum(1)));
    slow.subscribe("t", 1);
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&publish("t", "first").qos(1).packet_id(1));
    let second = publish("t", "second").qos(1).packet_id(1);
    publisher.publish(&second.with(message_expiry_interval(1)));
    publisher.publish(&publish("t", "third").qos(1).packet_id(1));
    let first = slow.expect_publish();
    assert_eq!(first.payload, b"first");
    thread::sleep(Duration::from_millis(2100));
    slow.send(puback(first.packet_id));
    assert_eq!(slow.receive_any().payload, b"third");
    slow.fence();
}

/// [MQTT-4.3.3-7], [MQTT-4.3.3-13] What was sent once does not expire: it is sent again, and its exchange completed.
#[test]
fn mqtt_4_3_3_7_no_expiry_once_sent() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect_with(Version::V5, connect("subscriber").persistent());
    subscriber.subscribe("t", 2);
    let mut publisher = broker.connect_v5("publisher");
    for id in [1, 2] {
        let message = publish("t", id.to_string()).qos(2).packet_id(id);
        publisher.publish(&message.with(message_expiry_interval(1)));
        assert_eq!(
            subscriber.expect_publish().payload,
            id.to_string().as_bytes()
        );
    }
    subscriber.send(pubrec(1));
    subscriber.expect(pubrel(1));
    subscriber.leave();
    thread::sleep(Duration::from_millis(2100));
    let mut subscriber = broker.connect_with(Version::V5, connect("subscriber").persistent());
    subscriber.expect(pubrel(1));
    subscriber.send(pubcomp(1));
    let again = subscriber.expect_publish();
    assert!(again.dup && again.payload == b"2", "{again:?}");
    subscriber.send(pubrec(2));
    subscriber.expect(pubrel(2));
    subscriber.send(pubcomp(2));
    subscriber.fence();
}

/// [MQTT-4.3.3-13] A message that expires between its PUBLISH and its PUBREL: PUBREL is still answered.
#[test]
fn mqtt_4_3_3_13_pubrel_of_an_expired_message() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    let message = publish("t", "x")
        .qos(2)
        .packet_id(1)
        .with(message_expiry_interval(1));
    publisher.send(message);
    publisher.expect(pubrec(1).reason(0x10));
    thread::sleep(Duration::from_millis(1200));
    publisher.send(pubrel(1));
    publisher.expect(pubcomp(1));
}

/// [MQTT-3.3.2-12] Topic Aliases serve messages of every QoS, and a topic that was stored under an alias and released
/// later is the one the alias had when the PUBLISH came.
#[test]
fn mqtt_3_3_2_12_aliases_at_every_qos() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.subscriber(Version::V311, "watcher", "#", 0);
    let mut client = broker.connect_v5("client");
    client.send(
        publish("one", "a")
            .qos(2)
            .packet_id(1)
            .with(topic_alias(10)),
    );
    client.expect(pubrec(1));
    client.send(publish("", "b").qos(2).packet_id(2).with(topic_alias(10)));
    client.expect(pubrec(2));
    client.publish(
        &publish("two", "c")
            .qos(1)
            .packet_id(3)
            .with(topic_alias(10)),
    );
    client.publish(&publish("", "d").qos(1).packet_id(3).with(topic_alias(10)));
    watcher.expect(publish("two", "c"));
    watcher.expect(publish("two", "d"));
    for (id, payload) in [(1, "a"), (2, "b")] {
        client.send(pubrel(id));
        client.expect(pubcomp(id));
        watcher.expect(publish("one", payload));
    }
}

/// [MQTT-3.3.2-7] An alias is the sender's own: it is not passed on, and is unknown to the next client.
#[test]
fn mqtt_3_3_2_7_aliases_belong_to_one_connection() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "#", 0);
    let mut first = broker.connect_v5("first");
    first.send(publish("one", "x").with(topic_alias(1)));
    subscriber.expect(publish("one", "x"));
    let mut second = broker.connect_v5("second");
    second.send(publish("two", "x").with(topic_alias(1)));
    subscriber.expect(publish("two", "x"));
    first.send(publish("", "x").with(topic_alias(1)));
    subscriber.expect(publish("one", "x"));
    let mut third = broker.connect_v5("third");
    third.send(publish("", "x").with(topic_alias(1)));
    third.expect(disconnect().reason(0x82));
}

/// [MQTT-3.3.2-7] On a new connection the broker begins its own aliases again, also for what it sends again.
#[test]
fn mqtt_3_3_2_7_aliases_of_the_broker_begin_again() {
    let broker = Broker::start(&[]);
    let packet = || {
        connect("subscriber")
            .persistent()
            .with(topic_alias_maximum(5))
    };
    let mut subscriber = broker.connect_with(Version::V5, packet());
    subscriber.subscribe("#", 1);
    let mut publisher = broker.connect_v5("publisher");
    for topic in ["one", "two", "two"] {
        publisher.publish(&publish(topic, "x").qos(1).packet_id(1));
    }
    let expected = |id, topic, alias| {
        publish(topic, "x")
            .qos(1)
            .packet_id(id)
            .with(topic_alias(alias))
    };
    subscriber.receive(&expected(1, "one", 1));
    subscriber.expect(expected(2, "two", 2));
    subscriber.expect(expected(3, "", 2));
    subscriber.leave();
    let mut subscriber = broker.connect_with(Version::V5, packet());
    subscriber.receive(&expected(2, "two", 1).dup());
    subscriber.receive(&expected(3, "", 1).dup());
    subscriber.fence();
}

/// [MQTT-3.3.2-11] `max_topic_alias_broker` bounds what the client allows; retained messages have aliases too.
#[test]
fn mqtt_3_3_2_11_alias_of_a_retained_message() {
    let broker = Broker::start(&["max_topic_alias_broker 1"]);
    let mut client = broker.connect_with(Version::V5, connect("c").with(topic_alias_maximum(5)));
    for topic in ["a", "b"] {
        client.publish(&publish(topic, "x").retain());
    }
    client.subscribe("+", 0);
    let mut received = [client.expect_publish(), client.expect_publish()];
    received.sort_by_key(|message| value_of(&message.properties, TOPIC_ALIAS).is_none());
    assert_eq!(received[0].properties, [topic_alias(1)]);
    assert_eq!(received[1].properties, []);
    let (first, second) = (&received[0].topic, &received[1].topic);
    client.send(publish(first, "y"));
    client.send(publish(second, "y"));
    client.expect(publish("", "y").with(topic_alias(1)));
    client.expect(publish(second, "y"));
}

/// [MQTT-3.1.2-25] What is too large for one client is delivered to the others, and frees its place in the window and
/// its identifier at once.
#[test]
fn mqtt_3_1_2_25_oversize_for_one() {
    let broker = Broker::start(&["max_inflight_messages 2"]);
    let small = connect("small").with(maximum_packet_size(100));
    let mut small = broker.connect_with(Version::V5, small);
    let mut large = broker.subscriber(Version::V5, "large", "t", 2);
    small.subscribe("t", 2);
    let mut publisher = broker.connect_v5("publisher");
    let big = vec![b'x'; 2000];
    for qos in [1, 2] {
        for _ in 0..5 {
            publisher.publish(&publish("t", &big).qos(qos).packet_id(1));
            assert_eq!(large.receive_any().payload, big);
        }
    }
    publisher.publish(&publish("t", "fits").qos(1).packet_id(1));
    publisher.publish(&publish("t", "fits").qos(1).packet_id(1));
    for _ in 0..2 {
        let received = small.expect_publish();
        assert_eq!(
            (received.payload.as_slice(), received.qos),
            (&b"fits"[..], 1)
        );
    }
    small.fence();
}

/// [MQTT-3.1.2-24] Properties count: the Subscription Identifier, the alias and the expiry belong to the packet.
#[test]
fn mqtt_3_1_2_24_properties_count() {
    let broker = Broker::start(&[]);
    let packet = connect("small")
        .with(maximum_packet_size(20))
        .with(topic_alias_maximum(1));
    let mut small = broker.connect_with(Version::V5, packet);
    small.send(
        subscribe(1)
            .with(subscription_identifier(300))
            .filter("t", 0),
    );
    small.expect(suback(1, &[0]));
    let mut publisher = broker.connect_v5("publisher");
    // 2 of fixed header, 3 of topic, 1 + 3 + 3 of properties: 8 bytes of payload make 20.
    for payload in ["123456789", "12345678"] {
        publisher.send(publish("t", payload));
    }
    let properties = [subscription_identifier(300), topic_alias(1)];
    let expected = Publish {
        properties: properties.into(),
        ..publish("t", "12345678")
    };
    small.expect(expected);
    small.fence();
}

/// `message_size_limit`: a larger message is dropped, at QoS 0 in silence, else with 0x95 in 5.0 and success in 3.x,
/// and the connection stays.
#[test]
fn message_size_limit() {
    let broker = Broker::start(&["message_size_limit 4"]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        let mut client = broker.connect(version, "client");
        client.send(publish("t", "12345"));
        client.fence();
        client.send(publish("t", "12345").qos(1).packet_id(1));
        client.expect(puback(1).reason(0x95));
        client.send(publish("t", "12345").qos(2).packet_id(2).retain());
        client.expect(pubrec(2).reason(0x95));
        if version != Version::V5 {
            client.send(pubrel(2));
            client.expect(pubcomp(2));
        }
        client.publish(&publish("t", "1234").qos(2).packet_id(2));
        subscriber.expect(publish("t", "1234"));
        subscriber.fence();
        broker.subscriber(version, "late", "t", 0).fence();
    }
}

/// [MQTT-3.2.2-11] `max_qos 0`: anything above is answered 0x9B in 5.0, and ends the connection in every version.
#[test]
fn mqtt_3_2_2_11_publish_above_the_maximum_qos() {
    for max_qos in 0..=1 {
        let broker = Broker::start(&["listener {port} 127.0.0.1", &format!("max_qos {max_qos}")]);
        for version in Version::ALL {
            let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
            for qos in 0..=2 {
                let mut client = broker.connect(version, "client");
                let message = publish("t", "x").qos(qos).packet_id(1);
                if qos <= max_qos {
                    client.publish(&message);
                    subscriber.expect(publish("t", "x"));
                    continue;
                }
                client.send(&message);
                if version == Version::V5 {
                    client.expect(disconnect().reason(0x9B));
                }
                client.expect_closed();
                subscriber.fence();
            }
        }
    }
}

/// Nobody publishes to `$SYS`: 5.0 is told 0x87, 3.x success (3.3.5 of 3.1.1 leaves nothing else), and nobody gets it.
/// [MQTT-3.3.5-2] of 3.1.1.
#[test]
fn mqtt311_3_3_5_2_sys_is_refused() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "$SYS/mine/#", 2);
        let mut client = broker.connect(version, "client");
        for topic in ["$SYS/mine", "$SYS/mine/too"] {
            client.send(publish(topic, "x").retain());
            client.fence();
            client.send(publish(topic, "x").qos(1).packet_id(1));
            client.expect(puback(1).reason(0x87));
            client.send(publish(topic, "x").qos(2).packet_id(2));
            client.expect(pubrec(2).reason(0x87));
            if version != Version::V5 {
                client.send(pubrel(2));
                client.expect(pubcomp(2));
            }
        }
        subscriber.fence();
    }
}

/// Nobody publishes to `$CONTROL` while nothing answers there.
#[test]
fn control_is_refused() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "$CONTROL/#", 2);
        let mut client = broker.connect(version, "client");
        client.send(publish("$CONTROL/x/v1", "x"));
        client.send(publish("$CONTROL/x/v1", "x").qos(1).packet_id(1));
        let answer = client.expect_packet();
        match version {
            Version::V5 => assert!(
                matches!(answer[..], [0x40, 0x03, 0, 1, 0x80..=0xFF]),
                "{answer:x?}"
            ),
            _ => assert_eq!(answer, b"\x40\x02\x00\x01"),
        }
        client.fence();
        subscriber.fence();
    }
}

/// Other topics that begin with `$` are like any others.
#[test]
fn other_dollar_topics_are_ordinary() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "$mine/+", 0);
        client.send(publish("$mine/a", "x"));
        client.expect(publish("$mine/a", "x"));
    }
}

/// Many packets in one write, cut into pieces anywhere: each is handled once, in order.
#[test]
fn packets_in_pieces() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "#", 0);
        let mut publisher = broker.connect(version, "publisher");
        let messages: Vec<Publish> = (1..=40)
            .map(|n: u16| {
                publish("t", "x".repeat(n.into()))
                    .qos((n % 3) as u8)
                    .packet_id(n)
            })
            .collect();
        let mut bytes: Vec<u8> = messages.iter().flat_map(|m| m.encode(version)).collect();
        for n in (1..=40).filter(|n| n % 3 == 2) {
            bytes.extend(pubrel(n).encode(version));
        }
        for piece in bytes.chunks(7) {
            publisher.send(piece);
        }
        let expected = messages.iter().filter(|m| m.qos < 2);
        for message in expected.chain(messages.iter().filter(|m| m.qos == 2)) {
            subscriber.expect(publish("t", &message.payload));
        }
        subscriber.fence();
    }
}

/// [MQTT-3.3.2-17], [MQTT-3.3.2-18] Thousands of User Properties are passed on in their order, in time in proportion.
#[test]
fn mqtt_3_3_2_17_thousands_of_user_properties() {
    let broker = Broker::start(&["log_type error"]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 0);
    let mut older = broker.subscriber(Version::V311, "older", "t", 0);
    let mut publisher = broker.connect_v5("publisher");
    let message = (0..5000).fold(publish("t", "x"), |message, number: u32| {
        message.with(user_property((number % 7).to_string(), number.to_string()))
    });
    publisher.send(&message);
    subscriber.expect(&message);
    older.expect(publish("t", "x"));
}

/// What a client sent before it closed its connection, or said good-bye, is passed on.
#[test]
fn messages_of_a_client_that_leaves_at_once() {
    const COUNT: usize = 500;
    let broker = Broker::start(&["log_type error"]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        for says_goodbye in [true, false] {
            let mut publisher = broker.connect(version, "publisher");
            let numbers = 0..COUNT;
            let messages = numbers.map(|number| publish("t", number.to_string()).encode(version));
            let mut bytes = messages.collect::<Vec<_>>().concat();
            if says_goodbye {
                bytes.extend(disconnect().encode(version));
            }
            publisher.send(bytes);
            drop(publisher);
            for number in 0..COUNT {
                subscriber.expect(publish("t", number.to_string()));
            }
        }
    }
}
