//! MQTT 3.1 (`MQIsdp`): its own bytes, its tolerances, and its clients among those of 3.1.1 and 5.0.
//!
//! Its specification has no numbered statements; the tests say in words what they hold.

use crate::harness::*;

/// CONNECT with these flags, no Keep Alive, and what follows them.
fn mqisdp(level: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let head = [&string("MQIsdp")[..], &[level, flags, 0, 0]].concat();
    packet(0x10, &[&head, payload].concat())
}

/// CONNECT as the specification prints it, byte by byte, and its CONNACK.
#[test]
fn connect_and_disconnect() {
    let broker = Broker::start(&[]);
    let mut client = broker.open(Version::V31);
    client.send(b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x02id");
    client.expect(b"\x20\x02\x00\x00");
    client.send(b"\xc0\x00");
    client.expect(b"\xd0\x00");
    client.send(b"\xe0\x00");
    client.expect_closed();
    assert!(
        broker
            .wait_for_log("as id (")
            .ends_with("as id (p3, c1, k10).")
    );
}

/// The flows of QoS 0, 1 and 2, in both directions, byte by byte.
#[test]
fn flows() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect(Version::V31, "client");
    client.send(b"\x82\x08\x00\x07\x00\x03a/b\x02");
    client.expect(b"\x90\x03\x00\x07\x02");

    client.send(b"\x30\x07\x00\x03a/bhi");
    client.expect(b"\x30\x07\x00\x03a/bhi");

    client.send(b"\x32\x09\x00\x03a/b\x00\x0ahi");
    client.expect(b"\x32\x09\x00\x03a/b\x00\x01hi");
    client.expect(b"\x40\x02\x00\x0a");
    client.send(b"\x40\x02\x00\x01");

    client.send(b"\x34\x09\x00\x03a/b\x00\x0bhi");
    client.expect(b"\x50\x02\x00\x0b");
    client.send(b"\x62\x02\x00\x0b");
    client.expect(b"\x34\x09\x00\x03a/b\x00\x02hi");
    client.expect(b"\x70\x02\x00\x0b");
    client.send(b"\x50\x02\x00\x02");
    client.expect(b"\x62\x02\x00\x02");
    client.send(b"\x70\x02\x00\x02");

    client.send(b"\xa2\x07\x00\x08\x00\x03a/b");
    client.expect(b"\xb0\x02\x00\x08");
    client.send(b"\x30\x07\x00\x03a/bhi");
    client.fence();
}

/// DUP on SUBSCRIBE, UNSUBSCRIBE and PUBREL belongs to 3.1: a packet that is sent again is handled again.
#[test]
fn dup_on_other_packets() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect(Version::V31, "client");
    for first in [0x82, 0x8A] {
        client.send(packet(first, b"\x00\x01\x00\x01t\x01"));
        client.expect(suback(1, &[1]));
    }
    client.send(publish("t", "x").qos(2).packet_id(5));
    client.expect(pubrec(5));
    client.send(publish("t", "x").qos(2).packet_id(5).dup());
    client.expect(pubrec(5));
    client.send(b"\x62\x02\x00\x05");
    client.expect(publish("t", "x").qos(1).packet_id(1));
    client.expect(pubcomp(5));
    client.send(b"\x6a\x02\x00\x05");
    client.expect(pubcomp(5));
    for first in [0xA2, 0xAA] {
        client.send(packet(first, b"\x00\x02\x00\x01t"));
        client.expect(unsuback(2, &[]));
    }
    client.fence();
}

/// Flags that 3.1 does not use are not looked at: in any fixed header but that of PUBLISH, and in CONNECT.
#[test]
fn stray_flags_are_tolerated() {
    let broker = Broker::start(&[]);
    for low in 1..=0x0F {
        let mut client = broker.open(Version::V31);
        let mut bytes = connect("client").encode(Version::V31);
        bytes[0] |= low;
        client.send(bytes);
        client.expect(b"\x20\x02\x00\x00");
        client.send([0xC0 | low, 0]);
        client.expect(b"\xd0\x00");
        client.send([0x80 | low, 6, 0, 1, 0, 1, b't', 1]);
        client.expect(suback(1, &[1]));
        client.send(publish("t", "x").qos(1).packet_id(9));
        client.expect(publish("t", "x").qos(1).packet_id(1));
        client.expect(puback(9));
        client.send([0x40 | low, 2, 0, 1]);
        client.send([0xE0 | low, 0]);
        client.expect_closed();
    }
    // The reserved bit, and a will's bits without a will.
    for flags in [0x03, 0x0A, 0x12, 0x22, 0x33] {
        let mut client = broker.open(Version::V31);
        client.send(connect("client").flags(flags));
        client.expect(b"\x20\x02\x00\x00");
        client.fence();
    }
}

/// The Remaining Length goes before the flags: a user name or a password that is announced may be missing, as it was
/// in the protocol before 3.1.
#[test]
fn announced_user_name_may_be_missing() {
    let broker = Broker::start(&[]);
    for (flags, rest) in [(0x82, &b""[..]), (0xC2, b""), (0xC2, b"\x00\x04user")] {
        let mut client = broker.open(Version::V31);
        client.send(mqisdp(3, flags, &[b"\x00\x02id", rest].concat()));
        assert_eq!(client.expect_connack().reason, 0, "flags {flags:#x}");
        client.fence();
    }
}

/// A password without a user name is not valid, in 3.1 as in 3.1.1.
#[test]
fn password_without_user_name() {
    let broker = Broker::start(&[]);
    let mut client = broker.open(Version::V31);
    client.send(connect("client").password("secret"));
    client.expect_closed();
    let both = connect("client").username("user").password("secret");
    broker.connect_with(Version::V31, both).fence();
}

/// An empty identifier is refused with 2, the level of another version with 1.
#[test]
fn refusals() {
    let broker = Broker::start(&[]);
    for flags in [0x00, 0x02] {
        let mut client = broker.open(Version::V31);
        client.send(mqisdp(3, flags, b"\x00\x00"));
        client.expect(b"\x20\x02\x00\x02");
        client.expect_closed();
    }
    for level in [4, 5] {
        let mut client = broker.open(Version::V31);
        client.send(mqisdp(level, 2, b"\x00\x02id"));
        client.expect(b"\x20\x02\x00\x01");
        client.expect_closed();
    }
}

/// What is malformed in every version is so in 3.1: the connection is closed without a word.
#[test]
fn malformed_packets_close() {
    let broker = Broker::start(&[]);
    let rows: [(&str, &[u8]); 10] = [
        ("QoS 3", b"\x36\x06\x00\x01t\x00\x01x"),
        ("wildcard in a topic", b"\x30\x04\x00\x01+x"),
        ("empty topic", b"\x30\x03\x00\x00x"),
        ("topic longer than the packet", b"\x30\x03\x00\x09t"),
        ("PUBLISH with identifier 0", b"\x32\x06\x00\x01t\x00\x00x"),
        ("SUBSCRIBE without filters", b"\x82\x02\x00\x01"),
        ("SUBSCRIBE with QoS 3", b"\x82\x06\x00\x01\x00\x01t\x03"),
        ("UNSUBSCRIBE without filters", b"\xa2\x02\x00\x01"),
        ("PUBACK of one byte", b"\x40\x01\x00"),
        ("AUTH, which is of 5.0", b"\xf0\x00"),
    ];
    for (what, bytes) in rows {
        let mut client = broker.connect(Version::V31, "client");
        client.send(bytes);
        let answer = client.drain_until_closed();
        assert_eq!(answer.as_deref(), Some(&[][..]), "{what}");
    }
}

/// Clean Session 0 resumes subscriptions, the queue, and what was in flight; CONNACK has no flag to say so.
#[test]
fn session_is_resumed() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V31, connect("client").clean(false));
    client.send(subscribe(1).filter("t", 2));
    client.expect(suback(1, &[2]));
    client.send(publish("t", "first").qos(1).packet_id(7));
    client.expect(publish("t", "first").qos(1).packet_id(1));
    client.expect(puback(7));
    client.send(disconnect());
    client.expect_closed();
    let mut other = broker.connect(Version::V31, "other");
    other.send(publish("t", "second").qos(1).packet_id(1));
    other.expect(puback(1));

    let mut client = broker.open(Version::V31);
    client.send(connect("client").clean(false));
    client.expect(b"\x20\x02\x00\x00");
    client.expect(publish("t", "first").qos(1).packet_id(1).dup());
    client.expect(publish("t", "second").qos(1).packet_id(2));
    client.send(puback(1));
    client.send(puback(2));
    client.fence();
}

/// Publishers and subscribers of all versions, at every pair of QoS: the lower one counts, and properties reach those
/// who know them.
#[test]
fn all_versions_at_every_qos() {
    let broker = Broker::start(&[]);
    for from in Version::ALL {
        for to in Version::ALL {
            for published in 0..=2 {
                for granted in 0..=2 {
                    let qos = published.min(granted);
                    let mut subscriber = broker.connect(to, "subscriber");
                    subscriber.send(subscribe(1).filter("t/#", granted));
                    subscriber.expect(suback(1, &[granted]));
                    let mut publisher = broker.connect(from, "publisher");
                    let list = [content_type("text/plain"), user_property("key", "value")];
                    let message = list.into_iter().fold(publish("t/x", "hi"), Publish::with);
                    publisher.send(message.clone().qos(published).packet_id(5));
                    match published {
                        0 => {}
                        1 => publisher.expect(puback(5)),
                        _ => {
                            publisher.expect(pubrec(5));
                            publisher.send(pubrel(5));
                            publisher.expect(pubcomp(5));
                        }
                    }
                    let expected = match from {
                        Version::V5 => message,
                        Version::V31 | Version::V311 => publish("t/x", "hi"),
                    };
                    subscriber.expect(expected.qos(qos).packet_id(1));
                    match qos {
                        0 => {}
                        1 => subscriber.send(puback(1)),
                        _ => {
                            subscriber.send(pubrec(1));
                            subscriber.expect(pubrel(1));
                            subscriber.send(pubcomp(1));
                        }
                    }
                    subscriber.fence();
                    for mut client in [subscriber, publisher] {
                        client.send(disconnect());
                        client.expect_closed();
                    }
                }
            }
        }
    }
}

/// One PUBLISH to subscribers of all versions together: each gets it in its own form.
#[test]
fn one_message_to_all_versions() {
    let broker = Broker::start(&[]);
    for qos in 0..=2 {
        let mut subscribers = Version::ALL.map(|version| {
            let mut client = broker.connect(version, &format!("{version:?}"));
            client.send(subscribe(1).filter("t", qos));
            client.expect(suback(1, &[qos]));
            client
        });
        let large = vec![b'x'; 5000];
        let mut publisher = broker.connect_v5("publisher");
        let mut packet_id = 0;
        for payload in [&b""[..], b"hi", &large] {
            let message = publish("t", payload).with(content_type("text/plain"));
            publisher.send(message.clone().qos(qos).packet_id(5));
            match qos {
                0 => {}
                1 => publisher.expect(puback(5)),
                _ => {
                    publisher.expect(pubrec(5));
                    publisher.send(pubrel(5));
                    publisher.expect(pubcomp(5));
                }
            }
            packet_id += 1;
            for subscriber in &mut subscribers {
                subscriber.expect(message.clone().qos(qos).packet_id(packet_id));
            }
        }
    }
}

/// Retained messages go between the versions as well: the properties stay with them.
#[test]
fn retained_between_versions() {
    let broker = Broker::start(&[]);
    for from in Version::ALL {
        let topic = format!("kept/{from:?}");
        let message = || publish(&topic, "stays").with(content_type("text/plain"));
        broker.connect(from, "publisher").send(message().retain());
        for to in Version::ALL {
            let expected = match from {
                Version::V5 => message(),
                Version::V31 | Version::V311 => publish(&topic, "stays"),
            };
            let mut subscriber = broker.connect(to, "subscriber");
            subscriber.fence();
            subscriber.send(subscribe(1).filter(&topic, 0));
            subscriber.expect(suback(1, &[0]));
            subscriber.expect(expected.retain());
        }
    }
}

/// A will goes between the versions, with its properties for those who know them.
#[test]
fn wills_between_versions() {
    let broker = Broker::start(&[]);
    for to in Version::ALL {
        let mut watcher = broker.connect(to, "watcher");
        watcher.send(subscribe(1).filter("wills", 0));
        watcher.expect(suback(1, &[0]));
        for from in Version::ALL {
            let own = will("wills", "gone").with(content_type("text/plain"));
            drop(broker.connect_with(from, connect("client").will(own)));
            let expected = match from {
                Version::V5 => publish("wills", "gone").with(content_type("text/plain")),
                Version::V31 | Version::V311 => publish("wills", "gone"),
            };
            watcher.expect(expected);
        }
    }
}

/// A bridge says what it is by the highest bit of the level: it keeps RETAIN, and is not sent its own messages.
#[test]
fn bridges() {
    let broker = Broker::start(&[]);
    let mut bridge = broker.open(Version::V31);
    bridge.send(mqisdp(0x83, 2, b"\x00\x06bridge"));
    bridge.expect(b"\x20\x02\x00\x00");
    broker.wait_for_log("New bridge connected from");
    bridge.send(subscribe(1).filter("t", 0));
    bridge.expect(suback(1, &[0]));
    bridge.send(publish("t", "own"));
    bridge.fence();
    let mut client = broker.connect_v3("client");
    client.send(publish("t", "x").retain());
    client.fence();
    bridge.expect(publish("t", "x").retain());
}
