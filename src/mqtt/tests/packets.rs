//! Valid packets: bytes and meaning, in both directions, and what becomes of them when they are cut short.

use super::property::VariableByteInteger;
use super::*;
use ProtocolVersion::{V5, V31, V311};

/// One row: first byte and body, the version, what it means, and the lengths of body at which it may also end.
type Row = (
    &'static str,
    ProtocolVersion,
    Packet<'static>,
    std::ops::RangeInclusive<usize>,
);

/// No other length of body makes a packet of its beginning.
#[expect(
    clippy::reversed_empty_ranges,
    reason = "an empty range is what is meant"
)]
const NOWHERE: std::ops::RangeInclusive<usize> = 1..=0;

/// A CONNECT with nothing in it but a Client Identifier.
fn bare_connect(version: ProtocolVersion) -> Connect<'static> {
    Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::NONE,
        client_id: "id",
        will: None,
        user_name: None,
        password: None,
    }
}

fn connects() -> Vec<Row> {
    let full = |version| Connect {
        clean_start: false,
        keep_alive: 0xFFFE,
        client_id: "",
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: Properties::NONE,
            topic: "w/t",
            payload: b"\x00gone",
        }),
        user_name: Some("user"),
        password: Some(b"pass\x00\xFF"),
        ..bare_connect(version)
    };
    let bridge = |version| Connect {
        is_bridge: true,
        ..bare_connect(version)
    };
    let with_properties = Connect {
        properties: properties_of(&[
            Property::SessionExpiryInterval(u32::MAX),
            Property::ReceiveMaximum(10),
            Property::UserProperty(("a", "b")),
        ]),
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: properties_of(&[
                Property::WillDelayInterval(5),
                Property::ContentType("text"),
            ]),
            topic: "t",
            payload: b"",
        }),
        ..bare_connect(V5)
    };
    // In 5.0 a password needs no user name.
    let only_password = Connect {
        password: Some(b"token"),
        ..bare_connect(V5)
    };
    vec![
        (
            "10 \"MQIsdp\" 03 02 003C \"id\"",
            V31,
            Packet::Connect(bare_connect(V31)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 04 02 003C \"id\"",
            V311,
            Packet::Connect(bare_connect(V311)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 05 02 003C 00 \"id\"",
            V5,
            Packet::Connect(bare_connect(V5)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 04 F4 FFFE 0000 \"w/t\" 0005 00 'gone' \"user\" 0006 'pass' 00FF",
            V311,
            Packet::Connect(full(V311)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 05 F4 FFFE 00 0000 00 \"w/t\" 0005 00 'gone' \"user\" 0006 'pass' 00FF",
            V5,
            Packet::Connect(full(V5)),
            NOWHERE,
        ),
        (
            "10 \"MQIsdp\" 83 02 003C \"id\"",
            V31,
            Packet::Connect(bridge(V31)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 84 02 003C \"id\"",
            V311,
            Packet::Connect(bridge(V311)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 85 02 003C 00 \"id\"",
            V5,
            Packet::Connect(bridge(V5)),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 05 0E 003C 0F 11 FFFFFFFF 21 000A 26 \"a\" \"b\" \"id\" 0C 18 00000005 03 \"text\" \"t\" 0000",
            V5,
            Packet::Connect(with_properties),
            NOWHERE,
        ),
        (
            "10 \"MQTT\" 05 42 003C 00 \"id\" \"token\"",
            V5,
            Packet::Connect(only_password),
            NOWHERE,
        ),
    ]
}

fn connacks() -> Vec<Row> {
    let connack = |session_present, code, list: &[Property<'_>]| {
        Packet::Connack(Connack {
            session_present,
            code,
            properties: properties_of(list),
        })
    };
    vec![
        ("20 00 00", V31, connack(false, 0, &[]), NOWHERE),
        ("20 01 00", V311, connack(true, 0, &[]), NOWHERE),
        ("20 00 05", V311, connack(false, 5, &[]), NOWHERE),
        ("20 00 00 00", V5, connack(false, 0, &[]), NOWHERE),
        ("20 00 87 00", V5, connack(false, 0x87, &[]), NOWHERE),
        (
            "20 01 00 06 22 000A 21 0014",
            V5,
            connack(
                true,
                0,
                &[
                    Property::TopicAliasMaximum(10),
                    Property::ReceiveMaximum(20),
                ],
            ),
            NOWHERE,
        ),
    ]
}

fn publishes() -> Vec<Row> {
    let plain = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a/b",
        packet_id: None,
        properties: Properties::NONE,
        payload: b"hello",
    };
    let once = Publish {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: Some(id(0xABCD)),
        ..plain
    };
    let exactly = Publish {
        qos: QoS::ExactlyOnce,
        packet_id: Some(id(1)),
        payload: b"",
        ..plain
    };
    let aliased = Publish {
        topic: "",
        properties: properties_of(&[Property::TopicAlias(0x0102)]),
        ..plain
    };
    let rich = Publish {
        properties: properties_of(&[
            Property::TopicAlias(3),
            Property::MessageExpiryInterval(60),
            Property::PayloadFormatIndicator(1),
            Property::ResponseTopic("re/ply"),
            Property::CorrelationData(b"\x00"),
            Property::UserProperty(("", "")),
            Property::SubscriptionIdentifier(VariableByteInteger(1)),
            Property::SubscriptionIdentifier(VariableByteInteger(16_384)),
        ]),
        ..once
    };
    vec![
        ("30 \"a/b\" 'hello'", V31, Packet::Publish(plain), 5..=10),
        ("30 \"a/b\" 'hello'", V311, Packet::Publish(plain), 5..=10),
        ("30 \"a/b\" 00 'hello'", V5, Packet::Publish(plain), 6..=11),
        (
            "3B \"a/b\" ABCD 'hello'",
            V311,
            Packet::Publish(once),
            7..=12,
        ),
        (
            "3B \"a/b\" ABCD 00 'hello'",
            V5,
            Packet::Publish(once),
            8..=13,
        ),
        ("34 \"a/b\" 0001", V311, Packet::Publish(exactly), NOWHERE),
        ("34 \"a/b\" 0001 00", V5, Packet::Publish(exactly), NOWHERE),
        (
            "30 0000 03 23 0102 'hello'",
            V5,
            Packet::Publish(aliased),
            6..=11,
        ),
        (
            "3B \"a/b\" ABCD 22 23 0003 02 0000003C 01 01 08 \"re/ply\" 09 0001 00 26 0000 0000 0B01 0B 808001 'hello'",
            V5,
            Packet::Publish(rich),
            42..=46,
        ),
    ]
}

fn acks() -> Vec<Row> {
    type Kind = fn(Ack<'static>) -> Packet<'static>;
    let kinds: [(&str, Kind); 4] = [
        ("40", Packet::Puback),
        ("50", Packet::Pubrec),
        ("62", Packet::Pubrel),
        ("70", Packet::Pubcomp),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (first, kind) in kinds {
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let failure = match first {
            "40" | "50" => ReasonCode::NotAuthorized,
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        let short = leak(format!("{first} 0102"));
        for version in VERSIONS {
            rows.push((
                short,
                version,
                kind(Ack::new(id(0x0102), ReasonCode::Success)),
                NOWHERE,
            ));
        }
        rows.push((
            leak(format!("{first} FFFF {:02X}", failure as u8)),
            V5,
            kind(Ack::new(id(u16::MAX), failure)),
            2..=2,
        ));
        let why = Ack {
            packet_id: id(1),
            reason_code: ReasonCode::Success,
            properties: properties_of(&[
                Property::ReasonString("why"),
                Property::UserProperty(("a", "b")),
            ]),
        };
        rows.push((
            leak(format!("{first} 0001 00 0D 1F \"why\" 26 \"a\" \"b\"")),
            V5,
            kind(why),
            2..=3,
        ));
    }
    rows
}

/// The fields of a SUBSCRIBE or UNSUBSCRIBE are private: what a decoded one says is compared in a test of its own.
fn subscribes() -> Vec<(&'static str, ProtocolVersion, Vec<usize>)> {
    vec![
        ("82 0001 \"a/b\" 01", V31, vec![]),
        ("82 0001 \"a/b\" 00 \"#\" 02", V311, vec![8]),
        ("82 FFFF 00 \"a/b\" 2E", V5, vec![]),
        (
            "82 0001 0A 0B 8001 26 \"k\" \"v\" \"a\" 1D \"+/x\" 00",
            V5,
            vec![17],
        ),
        ("A2 0001 \"a/b\"", V31, vec![]),
        ("A2 0001 \"a/b\" \"#\"", V311, vec![7]),
        ("A2 0001 00 \"a/b\" 0000", V5, vec![8]),
        ("A2 0001 07 26 \"k\" \"v\" \"a\"", V5, vec![]),
    ]
}

fn subscription_acks() -> Vec<Row> {
    let suback = |codes, list: &[Property<'_>]| {
        Packet::Suback(Suback {
            packet_id: id(7),
            properties: properties_of(list),
            codes,
        })
    };
    let unsuback = |codes, list: &[Property<'_>]| {
        Packet::Unsuback(Unsuback {
            packet_id: id(7),
            properties: properties_of(list),
            codes,
        })
    };
    vec![
        ("90 0007 01", V31, suback(&[1], &[]), NOWHERE),
        (
            "90 0007 00 01 02 80",
            V311,
            suback(&[0, 1, 2, 0x80], &[]),
            3..=5,
        ),
        ("90 0007 00 02 87", V5, suback(&[2, 0x87], &[]), 4..=4),
        (
            "90 0007 06 1F \"why\" 00",
            V5,
            suback(&[0], &[Property::ReasonString("why")]),
            NOWHERE,
        ),
        ("B0 0007", V31, unsuback(&[], &[]), NOWHERE),
        ("B0 0007", V311, unsuback(&[], &[]), NOWHERE),
        ("B0 0007 00 00 11", V5, unsuback(&[0, 0x11], &[]), 4..=4),
        (
            "B0 0007 07 26 \"k\" \"v\" 8F",
            V5,
            unsuback(&[0x8F], &[Property::UserProperty(("k", "v"))]),
            NOWHERE,
        ),
    ]
}

fn others() -> Vec<Row> {
    let disconnect = |reason_code, list: &[Property<'_>]| {
        Packet::Disconnect(Disconnect {
            reason_code,
            properties: properties_of(list),
        })
    };
    let auth = |reason_code, list: &[Property<'_>]| {
        Packet::Auth(Auth {
            reason_code,
            properties: properties_of(list),
        })
    };
    let mut rows = vec![
        ("E0", V31, disconnect(ReasonCode::Success, &[]), NOWHERE),
        ("E0", V311, disconnect(ReasonCode::Success, &[]), NOWHERE),
        ("E0", V5, disconnect(ReasonCode::Success, &[]), NOWHERE),
        (
            "E0 04",
            V5,
            disconnect(ReasonCode::DisconnectWithWillMessage, &[]),
            0..=0,
        ),
        (
            "E0 00 05 11 00000000",
            V5,
            disconnect(ReasonCode::Success, &[Property::SessionExpiryInterval(0)]),
            0..=1,
        ),
        (
            "E0 9D 08 1C \"other\"",
            V5,
            disconnect(
                ReasonCode::ServerMoved,
                &[Property::ServerReference("other")],
            ),
            0..=1,
        ),
        ("F0", V5, auth(ReasonCode::Success, &[]), NOWHERE),
        (
            "F0 18 08 15 \"m\" 16 0001 00",
            V5,
            auth(
                ReasonCode::ContinueAuthentication,
                &[
                    Property::AuthenticationMethod("m"),
                    Property::AuthenticationData(&[0]),
                ],
            ),
            0..=0,
        ),
    ];
    for version in VERSIONS {
        rows.push(("C0", version, Packet::Pingreq, NOWHERE));
        rows.push(("D0", version, Packet::Pingresp, NOWHERE));
    }
    rows
}

fn table() -> Vec<Row> {
    [
        connects(),
        connacks(),
        publishes(),
        acks(),
        subscription_acks(),
        others(),
    ]
    .concat()
}

/// Bytes, version, and the lengths of body at which there is a packet.
fn corpus() -> Vec<(Vec<u8>, ProtocolVersion, Vec<usize>)> {
    let rows = table()
        .into_iter()
        .map(|(text, version, _, ends)| (packet(text), version, ends.collect()));
    let subscribes = subscribes()
        .into_iter()
        .map(|(text, version, ends)| (packet(text), version, ends));
    rows.chain(subscribes).collect()
}

#[test]
fn each_packet_means_what_it_says_and_is_written_the_same() {
    for (text, version, meaning, _) in table() {
        let bytes = packet(text);
        assert_eq!(
            decode_one(&bytes, version),
            Ok(meaning),
            "{text} in {version:?}"
        );
        assert_eq!(encode(&meaning, version), bytes, "{text} in {version:?}");
    }
}

/// [MQTT-3.8.3-1], [MQTT-3.8.3-2], [MQTT-3.10.3-1]: the lists, in the order of the packet.
#[test]
fn mqtt_3_8_3_filters_and_options() {
    for (text, version, _) in subscribes() {
        let bytes = packet(text);
        let decoded = decode_one(&bytes, version).expect("valid");
        assert_eq!(encode(&decoded, version), bytes, "{text} in {version:?}");
    }
    let bytes = packet("82 0001 0A 0B 8001 26 \"k\" \"v\" \"a\" 1D \"+/x\" 22");
    let Ok(Packet::Subscribe(subscribe)) = decode_one(&bytes, V5) else {
        panic!("valid");
    };
    assert_eq!(subscribe.packet_id, id(1));
    assert_eq!(
        subscribe.properties.iter().next(),
        Some(Property::SubscriptionIdentifier(VariableByteInteger(128)))
    );
    let filters: Vec<_> = subscribe.filters().collect();
    assert_eq!(filters.len(), 2);
    let (filter, options) = filters[0];
    assert_eq!(filter, "a");
    assert_eq!(options.qos(), QoS::AtLeastOnce);
    assert!(options.no_local() && options.retain_as_published());
    assert_eq!(options.retain_handling(), RetainHandling::SendIfNew);
    assert_eq!(options.with_qos(QoS::AtMostOnce).byte(), 0x1C);
    let (filter, options) = filters[1];
    assert_eq!(filter, "+/x");
    assert_eq!(options.qos(), QoS::ExactlyOnce);
    assert!(!options.no_local() && !options.retain_as_published());
    assert_eq!(options.retain_handling(), RetainHandling::DoNotSend);
    assert_eq!(SubscriptionOptions::new(QoS::ExactlyOnce).byte(), 2);

    let bytes = packet("A2 0001 00 \"a\" \"b/#\" 0000");
    let Ok(Packet::Unsubscribe(unsubscribe)) = decode_one(&bytes, V5) else {
        panic!("valid");
    };
    assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), ["a", "b/#", ""]);

    // Options that 3.1.1 has no bits for stay at home.
    let options = SubscriptionOptions::from_byte(0x2D).expect("valid");
    let mut out = Vec::new();
    Subscribe::encode(id(1), Properties::NONE, &[("a", options)], V311, &mut out);
    assert_eq!(out, packet("82 0001 \"a\" 01"));
}

/// Properties of 5.0 stay out of packets to those who do not know them.
#[test]
fn no_properties_before_5_0() {
    for (text, version, meaning, _) in table() {
        if version != V5 || matches!(meaning, Packet::Connect(_) | Packet::Auth(_)) {
            continue;
        }
        if matches!(meaning, Packet::Publish(publish) if publish.topic.is_empty()) {
            continue;
        }
        let written = encode(&meaning, V311);
        let answer = decode_one(&written, V311);
        match meaning {
            // Codes of 5.0 are the caller's to translate.
            Packet::Suback(_) | Packet::Unsuback(_) => {}
            _ => assert!(answer.is_ok(), "{text}: {written:02X?} {answer:?}"),
        }
    }
}

/// Whatever arrives later, the beginning of a packet is not an error, and nothing is taken from it.
#[test]
fn every_prefix_is_incomplete() {
    for (bytes, version, _) in corpus() {
        let limits = limits_for(&bytes, version);
        for length in 0..bytes.len() {
            let decoded = decode(&bytes[..length], limits);
            assert_eq!(
                decoded,
                Ok(None),
                "{:02X?} in {version:?}",
                &bytes[..length]
            );
            let promised = promised_length(&bytes[..length]);
            assert!(promised == 0 || promised == bytes.len());
        }
        assert_eq!(promised_length(&bytes), bytes.len());
    }
}

/// What follows a packet is left where it is.
#[test]
fn the_next_packet_is_not_touched() {
    for (bytes, version, _) in corpus() {
        let two = [&bytes[..], &[0xFF; 9]].concat();
        let limits = limits_for(&bytes, version);
        let decoded = decode(&two, limits).expect("valid").expect("whole");
        assert_eq!(decoded.1, bytes.len());
        assert_eq!(Ok(decoded.0), decode_one(&bytes, version));
    }
}

/// A body that ends early, behind a header that says so, is an error, but where fields may be left out.
#[test]
fn every_shortened_body_is_an_error() {
    for (bytes, version, ends) in corpus() {
        let body = &bytes[2..];
        assert!(bytes[1] < 0x80, "rows are short");
        for length in 0..body.len() {
            let short = framed(bytes[0], &body[..length]);
            let decoded = decode_one(&short, version);
            let may_end = ends.contains(&length);
            assert_eq!(
                decoded.is_ok(),
                may_end,
                "{short:02X?} of {bytes:02X?} in {version:?}: {decoded:?}"
            );
            if let Err(error) = decoded {
                let kind = kind(error);
                assert!(
                    ["malformed", "protocol", "connect 81"].contains(&&kind[..]),
                    "{kind}"
                );
            }
        }
    }
}

/// A body that goes on after its last field is an error; only PUBLISH and lists go on.
#[test]
fn every_lengthened_body_is_an_error() {
    for (bytes, version, _) in corpus() {
        // A byte that is no reason code, no options and no beginning of a string.
        let long = framed(bytes[0], &[&bytes[2..], &[0xFF]].concat());
        let decoded = decode_one(&long, version);
        let is_publish = bytes[0] >> 4 == PacketType::Publish as u8;
        assert_eq!(decoded.is_ok(), is_publish, "{long:02X?} in {version:?}");
    }
}

/// [MQTT-2.1.3-1]: one first byte for each kind but PUBLISH and, in 3.1, all.
#[test]
fn mqtt_2_1_3_1_reserved_flags() {
    for (bytes, version, _) in corpus() {
        let first = bytes[0];
        if first >> 4 == PacketType::Publish as u8 {
            continue;
        }
        for flags in 0..16 {
            let mut changed = bytes.clone();
            changed[0] = first & 0xF0 | flags;
            let expected = match first >> 4 {
                _ if changed[0] == first || version == V31 => None,
                1 if version == V5 => Some("connect 81"),
                _ => Some("malformed"),
            };
            match expected {
                None => assert!(decode_one(&changed, version).is_ok(), "{changed:02X?}"),
                Some(expected) => refused(&changed, version, expected),
            }
        }
    }
}

/// 2.1.4: the length in one to four bytes, at each of its edges.
#[test]
fn mqtt_2_1_4_remaining_length() {
    let limits = Limits {
        version: Some(V311),
        packet_bytes_max: u32::MAX,
    };
    for (remaining_length, header) in [
        (127, "30 7F"),
        (128, "30 8001"),
        (16_383, "30 FF7F"),
        (16_384, "30 808001"),
        (2_097_151, "30 FFFF7F"),
        (2_097_152, "30 80808001"),
    ] {
        let header = bytes(header);
        let mut packet = header.clone();
        packet.extend_from_slice(&bytes("\"t\""));
        packet.resize(header.len() + remaining_length, b'x');
        assert_eq!(decode(&packet[..packet.len() - 1], limits), Ok(None));
        let (decoded, length) = decode(&packet, limits).expect("valid").expect("whole");
        assert_eq!(length, packet.len());
        assert_eq!(promised_length(&header), packet.len());
        assert_eq!(encode(&decoded, V311), packet);
    }
    // The largest of all is promised, and waited for.
    let largest = bytes("30 FFFFFF7F");
    assert_eq!(decode(&largest, limits), Ok(None));
    assert_eq!(promised_length(&largest), 268_435_460);
    // More bytes than needed: see `fixed_header`.
    for ping in ["C0 00", "C0 8000", "C0 808000", "C0 80808000"] {
        assert_eq!(decode_one(&bytes(ping), V311), Ok(Packet::Pingreq));
    }
    for version in [None, Some(V31), Some(V311), Some(V5)] {
        let limits = Limits { version, ..limits };
        for bad in [
            "10 FFFFFFFF",
            "10 80808080 00",
            "10 FFFFFFFF7F",
            "10 FFFFFFFF 10",
        ] {
            let error = decode(&bytes(bad), limits).expect_err(bad);
            assert_eq!(kind(error), "malformed");
            assert_eq!(promised_length(&bytes(bad)), 0);
        }
    }
}

/// 3.1.2.11.4, 3.2.2.3.6: the limit counts the fixed header, and the fixed header is enough to see it broken.
#[test]
fn mqtt_3_2_2_3_6_maximum_packet_size() {
    let limits = |version, packet_bytes_max| Limits {
        version,
        packet_bytes_max,
    };
    let publish = packet("30 \"t\" 'hello'");
    assert_eq!(publish.len(), 10);
    assert!(decode(&publish, limits(Some(V311), 10)).is_ok());
    for length in 2..=10 {
        let decoded = decode(&publish[..length], limits(Some(V311), 9));
        assert_eq!(decoded, Err(DecodeError::TooLarge));
    }
    assert_eq!(decode(&publish[..1], limits(Some(V311), 9)), Ok(None));
    let connect = packet("10 \"MQTT\" 04 02 003C \"id\"");
    let whole = connect.len() as u32;
    assert!(decode(&connect, limits(None, whole)).is_ok());
    assert_eq!(
        decode(&connect[..2], limits(None, whole - 1)),
        Err(DecodeError::TooLarge)
    );
    // A hostile first packet that claims 240 MB.
    let hostile = bytes("10 8080 F2 72");
    assert_eq!(
        decode(&hostile, limits(None, 100_000)),
        Err(DecodeError::TooLarge)
    );
}
