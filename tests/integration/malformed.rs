//! Malformed packets and protocol errors: for each packet type, what must not be sent, and the answer to it.
//!
//! In 5.0 the answer is DISCONNECT with the reason (CONNACK, if the fault is in CONNECT), then the end [MQTT-4.13.1-1];
//! in 3.x it is the end [MQTT-4.8.0-1]. Where the standard forbids something without naming the reason, both 0x81
//! (Malformed Packet) and 0x82 (Protocol Error) are right.

use crate::harness::*;

const MALFORMED: &[u8] = &[0x81];
const PROTOCOL: &[u8] = &[0x82];
const EITHER: &[u8] = &[0x81, 0x82];
const TOPIC_NAME: &[u8] = &[0x90, 0x81, 0x82];
const TOPIC_FILTER: &[u8] = &[0x8F, 0x81, 0x82];

/// A row of a table: what is wrong, the bytes, and the reasons that are right in 5.0.
type Row = (&'static str, Vec<u8>, &'static [u8]);

/// Sends each row's bytes on a connection of its own; the broker must answer as said, and serve others on.
fn expect_each_refused(version: Version, rows: &[Row]) {
    let broker = Broker::start(&[]);
    let mut witness = broker.connect(version, "witness");
    let mut wrong = String::new();
    for (what, bytes, reasons) in rows {
        let mut client = broker.connect(version, "client");
        client.send(bytes);
        let answer = client.drain_until_closed();
        let right = match (version, answer.as_deref()) {
            (Version::V5, Some([0xE0, 0x01, reason])) => reasons.contains(reason),
            (Version::V31 | Version::V311, Some([])) => true,
            _ => false,
        };
        if !right {
            let bytes = &bytes[..bytes.len().min(40)];
            wrong += &format!("{what}: {bytes:02x?} was answered {answer:02x?}\n");
        }
        witness.fence();
    }
    assert!(
        wrong.is_empty(),
        "{version:?}, where None is no end at all:\n{wrong}"
    );
}

/// Rows for 5.0, and for 3.x where the same fault has other bytes.
fn in_both(v5: &[Row], v311: &[Row]) {
    expect_each_refused(Version::V5, v5);
    expect_each_refused(Version::V311, v311);
}

fn row(what: &'static str, first: u8, body: impl AsRef<[u8]>, reasons: &'static [u8]) -> Row {
    (what, packet(first, body.as_ref()), reasons)
}

/// A packet with these properties alone between `head` and `tail`.
fn with_properties(head: &[u8], list: &[u8], tail: &[u8]) -> Vec<u8> {
    [head, &variable_byte_integer(list.len()), list, tail].concat()
}

/// The same string in every way that is no UTF-8 Encoded String [MQTT-1.5.4-1], [MQTT-1.5.4-2]; in 3.1.1 the same are
/// [MQTT-1.5.3-1], [MQTT-1.5.3-2].
fn bad_strings() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("a null character", b"a\x00b"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("another surrogate", b"\xed\xbf\xbf"),
        ("an overlong form", b"\xc0\xaf"),
        ("an overlong form of three", b"\xe0\x80\xaf"),
        ("a lone continuation", b"\x80"),
        ("a character cut short", b"\xe2\x82"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"),
        ("a byte that UTF-8 does not have", b"\xff"),
    ]
}

/// [MQTT-2.1.3-1] of 5.0, [MQTT-2.2.2-2] of 3.1.1: reserved flags have the value that the standard gives them, as in
/// PUBREL [MQTT-3.6.1-1], SUBSCRIBE [MQTT-3.8.1-1], UNSUBSCRIBE [MQTT-3.10.1-1], DISCONNECT [MQTT-3.14.1-1] and AUTH
/// [MQTT-3.15.1-1].
#[test]
fn mqtt_2_1_3_1_reserved_flags() {
    let v5: Vec<Row> = vec![
        row("PUBACK", 0x41, [0, 1], MALFORMED),
        row("PUBREC", 0x52, [0, 1], MALFORMED),
        row("PUBREL", 0x60, [0, 1], MALFORMED),
        row("PUBREL", 0x63, [0, 1], MALFORMED),
        row("PUBCOMP", 0x74, [0, 1], MALFORMED),
        row("SUBSCRIBE", 0x80, b"\x00\x01\x00\x00\x01a\x00", MALFORMED),
        row("SUBSCRIBE", 0x83, b"\x00\x01\x00\x00\x01a\x00", MALFORMED),
        row("UNSUBSCRIBE", 0xA0, b"\x00\x01\x00\x00\x01a", MALFORMED),
        row("UNSUBSCRIBE", 0xAA, b"\x00\x01\x00\x00\x01a", MALFORMED),
        row("PINGREQ", 0xC1, [], MALFORMED),
        row("DISCONNECT", 0xE1, [], MALFORMED),
        row("AUTH", 0xF1, [], MALFORMED),
    ];
    let v311: Vec<Row> = vec![
        row("PUBACK", 0x41, [0, 1], &[]),
        row("PUBREC", 0x52, [0, 1], &[]),
        row("PUBREL", 0x60, [0, 1], &[]),
        row("PUBCOMP", 0x74, [0, 1], &[]),
        row("SUBSCRIBE", 0x80, b"\x00\x01\x00\x01a\x00", &[]),
        row("UNSUBSCRIBE", 0xA0, b"\x00\x01\x00\x01a", &[]),
        row("PINGREQ", 0xC1, [], &[]),
        row("DISCONNECT", 0xE1, [], &[]),
    ];
    in_both(&v5, &v311);
}

/// [MQTT-4.13.1-1] Packet types that a client does not send, and those that nobody does.
#[test]
fn mqtt_4_13_1_1_packets_of_a_server() {
    let v5: Vec<Row> = vec![
        row("reserved type", 0x00, [], EITHER),
        row("CONNACK", 0x20, [0, 0, 0], PROTOCOL),
        row("SUBACK", 0x90, [0, 1, 0, 0], PROTOCOL),
        row("UNSUBACK", 0xB0, [0, 1, 0, 0], PROTOCOL),
        row("PINGRESP", 0xD0, [], PROTOCOL),
    ];
    let v311: Vec<Row> = vec![
        row("reserved type", 0x00, [], &[]),
        row("CONNACK", 0x20, [0, 0], &[]),
        row("SUBACK", 0x90, [0, 1, 0], &[]),
        row("UNSUBACK", 0xB0, [0, 1], &[]),
        row("PINGRESP", 0xD0, [], &[]),
        row("AUTH", 0xF0, [], &[]),
    ];
    in_both(&v5, &v311);
}

/// [MQTT-1.5.5-1] and 2.1.4: a Remaining Length has four bytes at most.
#[test]
fn mqtt_1_5_5_1_remaining_length() {
    for version in Version::ALL {
        let rows: Vec<Row> = vec![
            (
                "PUBLISH of five bytes of length",
                b"\x30\xff\xff\xff\xff\x7f".into(),
                MALFORMED,
            ),
            (
                "PINGREQ of five bytes of length",
                b"\xc0\x80\x80\x80\x80\x00".into(),
                MALFORMED,
            ),
        ];
        expect_each_refused(version, &rows);
    }
}

/// PUBLISH: QoS, identifier, a topic with wildcards [MQTT-4.7.0-1], and what is cut short.
#[test]
fn publish_malformed() {
    let v5: Vec<Row> = vec![
        row(
            "QoS 3 [MQTT-3.3.1-4]",
            0x36,
            b"\x00\x01t\x00\x01\x00x",
            MALFORMED,
        ),
        row(
            "DUP at QoS 0 [MQTT-3.3.1-2]",
            0x38,
            b"\x00\x01t\x00x",
            EITHER,
        ),
        row(
            "Packet Identifier 0 [MQTT-2.2.1-3]",
            0x32,
            b"\x00\x01t\x00\x00\x00x",
            EITHER,
        ),
        row(
            "a + in the topic [MQTT-3.3.2-2]",
            0x30,
            b"\x00\x03a/+\x00x",
            TOPIC_NAME,
        ),
        row(
            "a # in the topic [MQTT-3.3.2-2]",
            0x30,
            b"\x00\x03a/#\x00x",
            TOPIC_NAME,
        ),
        row("nothing at all", 0x30, [], MALFORMED),
        row("half a length", 0x30, [0], MALFORMED),
        row("a topic past the end", 0x30, b"\x00\x09t", MALFORMED),
        row("no Packet Identifier", 0x32, b"\x00\x01t", MALFORMED),
        row(
            "half a Packet Identifier",
            0x32,
            b"\x00\x01t\x00",
            MALFORMED,
        ),
        row("no properties", 0x30, b"\x00\x01t", MALFORMED),
        row(
            "properties past the end",
            0x30,
            b"\x00\x01t\x05\x01\x01",
            MALFORMED,
        ),
    ];
    let v311: Vec<Row> = vec![
        row("QoS 3 [MQTT-3.3.1-4]", 0x36, b"\x00\x01t\x00\x01x", &[]),
        row("DUP at QoS 0 [MQTT-3.3.1-2]", 0x38, b"\x00\x01tx", &[]),
        row(
            "Packet Identifier 0 [MQTT-2.3.1-1]",
            0x32,
            b"\x00\x01t\x00\x00x",
            &[],
        ),
        row(
            "a + in the topic [MQTT-3.3.2-2]",
            0x30,
            b"\x00\x03a/+x",
            &[],
        ),
        row(
            "a # in the topic [MQTT-3.3.2-2]",
            0x30,
            b"\x00\x03a/#x",
            &[],
        ),
        row("no topic [MQTT-4.7.3-1]", 0x30, b"\x00\x00x", &[]),
        row("nothing at all", 0x30, [], &[]),
        row("half a length", 0x30, [0], &[]),
        row("a topic past the end", 0x30, b"\x00\x09t", &[]),
        row("no Packet Identifier", 0x32, b"\x00\x01t", &[]),
    ];
    in_both(&v5, &v311);
}

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2] Strings are UTF-8 without U+0000: topics [MQTT-3.3.2-1], filters [MQTT-3.8.3-1],
/// [MQTT-3.10.3-1], [MQTT-4.7.3-2], Response Topic [MQTT-3.3.2-13], Content Type [MQTT-3.3.2-19] and both strings of a
/// User Property [MQTT-1.5.7-1].
#[test]
fn mqtt_1_5_4_1_utf8_strings() {
    let reasons: &[u8] = &[0x81, 0x82, 0x8F, 0x90];
    let mut v5 = Vec::new();
    let mut v311 = Vec::new();
    for (what, bad) in bad_strings() {
        let bad = &string(bad)[..];
        let filter = [bad, b"\x00"].concat();
        v5.push(row(what, 0x30, [bad, b"\x00x"].concat(), reasons));
        v5.push(row(
            what,
            0x82,
            [&b"\x00\x01\x00"[..], &filter].concat(),
            reasons,
        ));
        v5.push(row(
            what,
            0xA2,
            [&b"\x00\x01\x00"[..], bad].concat(),
            reasons,
        ));
        for list in [
            [&b"\x03"[..], bad].concat(),
            [&b"\x08"[..], bad].concat(),
            [&b"\x26\x00\x01n"[..], bad].concat(),
            [&b"\x26"[..], bad, b"\x00\x01v"].concat(),
        ] {
            v5.push(row(
                what,
                0x30,
                with_properties(b"\x00\x01t", &list, b""),
                MALFORMED,
            ));
        }
        v311.push(row(what, 0x30, [bad, b"x"].concat(), &[]));
        v311.push(row(what, 0x82, [&b"\x00\x01"[..], &filter].concat(), &[]));
        v311.push(row(what, 0xA2, [&b"\x00\x01"[..], bad].concat(), &[]));
    }
    in_both(&v5, &v311);
}

/// [MQTT-1.5.4-3], [MQTT-1.5.3-3] A byte order mark is a character like another.
#[test]
fn mqtt_1_5_4_3_byte_order_mark() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(subscribe(1).filter("\u{feff}t", 0));
        client.expect(suback(1, &[0]));
        client.send(publish("t", "not this"));
        client.send(publish("\u{feff}t", "this"));
        client.expect(publish("\u{feff}t", "this"));
    }
}

/// 2.2.2: properties that PUBLISH may not carry, twice the same, wrong values, and what no property is.
#[test]
fn publish_properties_malformed() {
    let wrong = |what, list: &[u8], reasons| {
        row(
            what,
            0x30,
            with_properties(b"\x00\x01t", list, b"x"),
            reasons,
        )
    };
    let rows: Vec<Row> = vec![
        wrong("Session Expiry Interval", b"\x11\x00\x00\x00\x01", EITHER),
        wrong("Receive Maximum", b"\x21\x00\x01", EITHER),
        wrong("Reason String", b"\x1f\x00\x01r", EITHER),
        wrong("Will Delay Interval", b"\x18\x00\x00\x00\x01", EITHER),
        wrong(
            "Subscription Identifier [MQTT-3.3.4-6]",
            b"\x0b\x01",
            EITHER,
        ),
        wrong(
            "Payload Format Indicator twice",
            b"\x01\x00\x01\x00",
            PROTOCOL,
        ),
        wrong(
            "Message Expiry Interval twice",
            b"\x02\x00\x00\x00\x01\x02\x00\x00\x00\x01",
            PROTOCOL,
        ),
        wrong("Topic Alias twice", b"\x23\x00\x01\x23\x00\x01", PROTOCOL),
        wrong(
            "Response Topic twice",
            b"\x08\x00\x01r\x08\x00\x01r",
            PROTOCOL,
        ),
        wrong(
            "Correlation Data twice",
            b"\x09\x00\x01r\x09\x00\x01r",
            PROTOCOL,
        ),
        wrong(
            "Content Type twice",
            b"\x03\x00\x01r\x03\x00\x01r",
            PROTOCOL,
        ),
        wrong("Payload Format Indicator 2", b"\x01\x02", EITHER),
        wrong(
            "Response Topic with + [MQTT-3.3.2-14]",
            b"\x08\x00\x01+",
            TOPIC_NAME,
        ),
        wrong(
            "Response Topic with # [MQTT-3.3.2-14]",
            b"\x08\x00\x03a/#",
            TOPIC_NAME,
        ),
        wrong("an unknown property", b"\x04\x00", MALFORMED),
        wrong("an unknown property", b"\x7f\x00", MALFORMED),
        wrong("an identifier of two bytes", b"\x80\x01\x00", MALFORMED),
        wrong("a value cut short", b"\x02\x00\x00", MALFORMED),
        wrong("a string cut short", b"\x03\x00\x05t", MALFORMED),
        wrong("half a User Property", b"\x26\x00\x01n", MALFORMED),
        wrong("an identifier alone", b"\x01", MALFORMED),
    ];
    expect_each_refused(Version::V5, &rows);
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP that are too short, or carry what they may not.
#[test]
fn acknowledgements_malformed() {
    let mut v5 = Vec::new();
    let mut v311 = Vec::new();
    for first in [0x40, 0x50, 0x62, 0x70] {
        v5.push(row("nothing at all", first, [], MALFORMED));
        v5.push(row("half an identifier", first, [0], MALFORMED));
        v5.push(row("Packet Identifier 0", first, [0, 0], EITHER));
        v5.push(row("an unknown reason", first, [0, 1, 0x42], EITHER));
        v5.push(row(
            "a property of PUBLISH",
            first,
            b"\x00\x01\x00\x02\x01\x00",
            EITHER,
        ));
        v5.push(row(
            "Reason String twice",
            first,
            b"\x00\x01\x00\x06\x1f\x00\x00\x1f\x00\x00",
            PROTOCOL,
        ));
        v5.push(row(
            "properties past the end",
            first,
            b"\x00\x01\x00\x05\x1f",
            MALFORMED,
        ));
        v311.push(row("nothing at all", first, [], &[]));
        v311.push(row("half an identifier", first, [0], &[]));
        v311.push(row("Packet Identifier 0", first, [0, 0], &[]));
    }
    in_both(&v5, &v311);
}

/// SUBSCRIBE: options, filters, identifiers, and what is cut short.
#[test]
fn subscribe_malformed() {
    let filter = |what, filter: &str| {
        row(
            what,
            0x82,
            [b"\x00\x01\x00", &string(filter)[..], b"\x00"].concat(),
            TOPIC_FILTER,
        )
    };
    let v5: Vec<Row> = vec![
        row(
            "Packet Identifier 0 [MQTT-2.2.1-3]",
            0x82,
            b"\x00\x00\x00\x00\x01a\x00",
            EITHER,
        ),
        row("no filter [MQTT-3.8.3-2]", 0x82, b"\x00\x01\x00", EITHER),
        row(
            "QoS 3 (3.8.3.1)",
            0x82,
            b"\x00\x01\x00\x00\x01a\x03",
            EITHER,
        ),
        row(
            "Retain Handling 3 (3.8.3.1)",
            0x82,
            b"\x00\x01\x00\x00\x01a\x30",
            EITHER,
        ),
        row(
            "reserved bit 6 [MQTT-3.8.3-5]",
            0x82,
            b"\x00\x01\x00\x00\x01a\x40",
            MALFORMED,
        ),
        row(
            "reserved bit 7 [MQTT-3.8.3-5]",
            0x82,
            b"\x00\x01\x00\x00\x01a\x80",
            MALFORMED,
        ),
        row("no options", 0x82, b"\x00\x01\x00\x00\x01a", MALFORMED),
        row(
            "a filter past the end",
            0x82,
            b"\x00\x01\x00\x00\x09a\x00",
            MALFORMED,
        ),
        row("nothing at all", 0x82, [], MALFORMED),
        row("no properties", 0x82, b"\x00\x01", MALFORMED),
        row(
            "Subscription Identifier 0",
            0x82,
            b"\x00\x01\x02\x0b\x00\x00\x01a\x00",
            PROTOCOL,
        ),
        row(
            "two of them",
            0x82,
            b"\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00",
            PROTOCOL,
        ),
        row(
            "one of five bytes",
            0x82,
            b"\x00\x01\x06\x0b\xff\xff\xff\xff\x01\x00\x01a\x00",
            MALFORMED,
        ),
        row(
            "a property of PUBLISH",
            0x82,
            b"\x00\x01\x02\x01\x00\x00\x01a\x00",
            EITHER,
        ),
        row(
            "No Local on a shared subscription [MQTT-3.8.3-4]",
            0x82,
            b"\x00\x01\x00\x00\x0a$share/g/a\x04",
            PROTOCOL,
        ),
        filter("an empty filter [MQTT-4.7.3-1]", ""),
        filter("# not at the end [MQTT-4.7.1-1]", "a/#/b"),
        filter("# not alone [MQTT-4.7.1-1]", "a#"),
        filter("+ not alone [MQTT-4.7.1-2]", "a/b+"),
        filter("+ not alone [MQTT-4.7.1-2]", "+a"),
        filter("no ShareName [MQTT-4.8.2-1]", "$share//a"),
        filter("a ShareName with + [MQTT-4.8.2-2]", "$share/g+/a"),
        filter("a ShareName with # [MQTT-4.8.2-2]", "$share/#/a"),
        filter("no filter behind the ShareName [MQTT-4.8.2-2]", "$share/g/"),
        filter("nothing behind the ShareName [MQTT-4.8.2-2]", "$share/g"),
    ];
    let v311: Vec<Row> = vec![
        row(
            "Packet Identifier 0 [MQTT-2.3.1-1]",
            0x82,
            b"\x00\x00\x00\x01a\x00",
            &[],
        ),
        row("no filter [MQTT-3.8.3-3]", 0x82, b"\x00\x01", &[]),
        row("QoS 3 [MQTT-3.8.3-4]", 0x82, b"\x00\x01\x00\x01a\x03", &[]),
        row(
            "reserved bits [MQTT-3.8.3-4]",
            0x82,
            b"\x00\x01\x00\x01a\x04",
            &[],
        ),
        row("no QoS", 0x82, b"\x00\x01\x00\x01a", &[]),
        row("a filter past the end", 0x82, b"\x00\x01\x00\x09a\x00", &[]),
        row("nothing at all", 0x82, [], &[]),
        row(
            "an empty filter [MQTT-4.7.3-1]",
            0x82,
            b"\x00\x01\x00\x00\x00",
            &[],
        ),
        row(
            "# not at the end [MQTT-4.7.1-2]",
            0x82,
            b"\x00\x01\x00\x05a/#/b\x00",
            &[],
        ),
        row(
            "+ not alone [MQTT-4.7.1-3]",
            0x82,
            b"\x00\x01\x00\x02a+\x00",
            &[],
        ),
    ];
    in_both(&v5, &v311);
}

/// UNSUBSCRIBE: filters, identifiers, and what is cut short.
#[test]
fn unsubscribe_malformed() {
    let v5: Vec<Row> = vec![
        row(
            "Packet Identifier 0 [MQTT-2.2.1-3]",
            0xA2,
            b"\x00\x00\x00\x00\x01a",
            EITHER,
        ),
        row("no filter [MQTT-3.10.3-2]", 0xA2, b"\x00\x01\x00", EITHER),
        row(
            "an empty filter [MQTT-4.7.3-1]",
            0xA2,
            b"\x00\x01\x00\x00\x00",
            TOPIC_FILTER,
        ),
        row(
            "# not at the end [MQTT-4.7.1-1]",
            0xA2,
            b"\x00\x01\x00\x00\x05a/#/b",
            TOPIC_FILTER,
        ),
        row(
            "a filter past the end",
            0xA2,
            b"\x00\x01\x00\x00\x09a",
            MALFORMED,
        ),
        row("nothing at all", 0xA2, [], MALFORMED),
        row(
            "Subscription Identifier",
            0xA2,
            b"\x00\x01\x02\x0b\x01\x00\x01a",
            EITHER,
        ),
    ];
    let v311: Vec<Row> = vec![
        row(
            "Packet Identifier 0 [MQTT-2.3.1-1]",
            0xA2,
            b"\x00\x00\x00\x01a",
            &[],
        ),
        row("no filter [MQTT-3.10.3-2]", 0xA2, b"\x00\x01", &[]),
        row(
            "an empty filter [MQTT-4.7.3-1]",
            0xA2,
            b"\x00\x01\x00\x00",
            &[],
        ),
        row("a filter past the end", 0xA2, b"\x00\x01\x00\x09a", &[]),
        row("nothing at all", 0xA2, [], &[]),
    ];
    in_both(&v5, &v311);
}

/// PINGREQ, DISCONNECT and AUTH with bodies they do not have.
#[test]
fn short_packets_malformed() {
    let v5: Vec<Row> = vec![
        row("PINGREQ with a body", 0xC0, [0], MALFORMED),
        row("DISCONNECT with an unknown reason", 0xE0, [0x42], EITHER),
        row(
            "DISCONNECT with a property of PUBLISH",
            0xE0,
            b"\x00\x02\x01\x00",
            EITHER,
        ),
        row(
            "DISCONNECT, properties past the end",
            0xE0,
            b"\x00\x05\x11",
            MALFORMED,
        ),
        row(
            "DISCONNECT with Session Expiry twice",
            0xE0,
            b"\x00\x0a\x11\0\0\0\0\x11\0\0\0\0",
            PROTOCOL,
        ),
    ];
    let v311: Vec<Row> = vec![
        row("PINGREQ with a body", 0xC0, [0], &[]),
        row("DISCONNECT with a body", 0xE0, [0], &[]),
    ];
    in_both(&v5, &v311);
}

/// [MQTT-3.1.4-1] CONNECT: cut anywhere, the end of the strings changed, and properties it may not carry.
#[test]
fn mqtt_3_1_4_1_connect_malformed() {
    let broker = Broker::start(&[]);
    let whole = connect("id")
        .will(will("w", "x"))
        .username("u")
        .password("p");
    for version in [Version::V311, Version::V5] {
        let whole = whole.encode(version);
        let body = &whole[2..];
        for len in 0..body.len() {
            let mut client = broker.open(version);
            client.send(packet(0x10, &body[..len]));
            let answer = client.drain_until_closed();
            let right = match answer.as_deref() {
                Some([]) => true,
                Some([0x20, 3, 0, 0x81, 0]) => version == Version::V5,
                _ => false,
            };
            assert!(right, "cut at {len}: {answer:02x?}");
        }
    }
    let head = b"\x00\x04MQTT\x05\x02\x00\x00";
    for (list, reasons) in [
        (&b"\x11\0\0\0\x01\x11\0\0\0\x01"[..], PROTOCOL),
        (b"\x21\0\x01\x21\0\x01", PROTOCOL),
        (b"\x27\0\0\0\x01\x27\0\0\0\x01", PROTOCOL),
        (b"\x22\0\x01\x22\0\x01", PROTOCOL),
        (b"\x17\x02", PROTOCOL),
        (b"\x19\x02", PROTOCOL),
        (b"\x01\x00", EITHER),
        (b"\x23\x00\x01", EITHER),
        (b"\x04\x00", MALFORMED),
        (b"\x11\0\0", MALFORMED),
    ] {
        let mut client = broker.open(Version::V5);
        client.send(packet(0x10, &with_properties(head, list, b"\x00\x02id")));
        let answer = client.drain_until_closed();
        let refused = match answer.as_deref() {
            Some([0x20, 3, 0, reason, 0]) => reasons.contains(reason),
            _ => false,
        };
        assert!(refused, "{list:02x?} was answered {answer:02x?}");
    }
    for flags in [0x11, 0x12, 0x18] {
        let mut client = broker.open(Version::V311);
        client.send(packet(flags, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02id"));
        client.expect_closed();
    }
}

/// [MQTT-1.5.4-1] The strings of CONNECT too: identifier [MQTT-3.1.3-4], will topic [MQTT-3.1.3-11], user name
/// [MQTT-3.1.3-12].
#[test]
fn mqtt_1_5_4_1_utf8_in_connect() {
    let broker = Broker::start(&[]);
    for (_, bad) in bad_strings() {
        let bad = string(bad);
        let client_id = [&b"\x00\x04MQTT\x04\x02\x00\x00"[..], &bad].concat();
        let will_topic = [
            b"\x00\x04MQTT\x04\x06\x00\x00\x00\x02id",
            &bad[..],
            b"\x00\x01x",
        ]
        .concat();
        let username = [&b"\x00\x04MQTT\x04\x82\x00\x00\x00\x02id"[..], &bad].concat();
        for body in [client_id, will_topic, username] {
            let mut client = broker.open(Version::V311);
            client.send(packet(0x10, &body));
            client.expect_closed();
        }
    }
}

/// 3.1.3.3: a Will Topic is a Topic Name, so it has characters and no wildcards.
#[test]
fn will_topic_is_a_topic_name() {
    let broker = Broker::start(&[]);
    for topic in ["", "a/+", "#"] {
        let mut client = broker.open(Version::V311);
        client.send(connect("id").will(will(topic, "x")));
        client.expect_closed();
        let mut client = broker.open(Version::V5);
        client.send(connect("id").will(will(topic, "x")));
        let reason = client.expect_connack().reason;
        assert!(
            TOPIC_NAME.contains(&reason),
            "{topic:?} was answered {reason:x}"
        );
        client.expect_closed();
    }
}

/// A topic or filter of 200 levels is good, one of more is not.
#[test]
fn too_many_levels() {
    let levels = |count: usize| vec!["a"; count].join("/");
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    client.send(subscribe(1).filter(&levels(200), 0));
    client.expect(suback(1, &[0]));
    client.send(publish(&levels(200), "x"));
    client.expect(publish(&levels(200), "x"));
    for version in [Version::V311, Version::V5] {
        let too_deep = levels(202);
        let rows: Vec<Row> = vec![
            (
                "a topic",
                publish(&too_deep, "x").encode(version),
                MALFORMED,
            ),
            (
                "a filter",
                subscribe(1).filter(&too_deep, 0).encode(version),
                MALFORMED,
            ),
        ];
        expect_each_refused(version, &rows);
    }
}

/// A header that claims the most there is costs nothing until its bytes come: many of them, and the broker lives.
#[test]
fn large_claims_cost_nothing() {
    let broker = Broker::start(&["max_packet_size 268435460"]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/statm", broker.pid()));
        let pages = status
            .expect("the broker runs")
            .split(' ')
            .nth(1)
            .map(str::parse::<u64>);
        pages.expect("the second field").expect("a number")
    };
    let mut witness = broker.connect_v5("witness");
    witness.fence();
    let before = resident();
    let claims: Vec<Raw> = (0..50)
        .map(|number| {
            let mut client = broker.connect_v5(&format!("claim-{number}"));
            client.send(b"\x30\xff\xff\xff\x7f\x00\x01t\x00begin");
            client
        })
        .collect();
    witness.fence();
    let grown_pages = resident().saturating_sub(before);
    assert!(grown_pages < 2500, "{grown_pages} pages more");
    drop(claims);
    witness.fence();
}
