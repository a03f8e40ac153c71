//! Every property in every packet (2.2.2), against a table of the specification's own shape: Table 2-4.

use super::property::VariableByteInteger;
use super::*;
use PacketType::*;

/// One row: an example on the wire, what it means, the packets that may carry it (`None` stands for the Will).
struct Row {
    wire: &'static str,
    meaning: Property<'static>,
    places: &'static [Option<PacketType>],
}

const fn row(
    wire: &'static str,
    meaning: Property<'static>,
    places: &'static [Option<PacketType>],
) -> Row {
    Row {
        wire,
        meaning,
        places,
    }
}

const MESSAGE: &[Option<PacketType>] = &[Some(Publish), None];
const HANDSHAKE: &[Option<PacketType>] = &[Some(Connect), Some(Connack)];
const CONNACK_ONLY: &[Option<PacketType>] = &[Some(Connack)];

#[rustfmt::skip]
const TABLE: [Row; 27] = [
    row("01 01", Property::PayloadFormatIndicator(1), MESSAGE),
    row("02 00010203", Property::MessageExpiryInterval(0x10203), MESSAGE),
    row("03 \"text\"", Property::ContentType("text"), MESSAGE),
    row("08 \"re/ply\"", Property::ResponseTopic("re/ply"), MESSAGE),
    row("09 0003 00FF80", Property::CorrelationData(&[0, 0xFF, 0x80]), MESSAGE),
    row("0B FFFFFF7F", Property::SubscriptionIdentifier(VariableByteInteger(268_435_455)),
        &[Some(Publish), Some(Subscribe)]),
    row("11 FFFFFFFF", Property::SessionExpiryInterval(u32::MAX),
        &[Some(Connect), Some(Connack), Some(Disconnect)]),
    row("12 \"id\"", Property::AssignedClientIdentifier("id"), CONNACK_ONLY),
    row("13 003C", Property::ServerKeepAlive(60), CONNACK_ONLY),
    row("15 \"way\"", Property::AuthenticationMethod("way"),
        &[Some(Connect), Some(Connack), Some(Auth)]),
    row("16 0001 00", Property::AuthenticationData(&[0]),
        &[Some(Connect), Some(Connack), Some(Auth)]),
    row("17 00", Property::RequestProblemInformation(0), &[Some(Connect)]),
    row("18 00000005", Property::WillDelayInterval(5), &[None]),
    row("19 01", Property::RequestResponseInformation(1), &[Some(Connect)]),
    row("1A \"info\"", Property::ResponseInformation("info"), CONNACK_ONLY),
    row("1C \"other\"", Property::ServerReference("other"), &[Some(Connack), Some(Disconnect)]),
    row("1F \"why\"", Property::ReasonString("why"),
        &[Some(Connack), Some(Puback), Some(Pubrec), Some(Pubrel), Some(Pubcomp), Some(Suback),
          Some(Unsuback), Some(Disconnect), Some(Auth)]),
    row("21 0014", Property::ReceiveMaximum(20), HANDSHAKE),
    row("22 000A", Property::TopicAliasMaximum(10), HANDSHAKE),
    row("23 0001", Property::TopicAlias(1), &[Some(Publish)]),
    row("24 01", Property::MaximumQoS(1), CONNACK_ONLY),
    row("25 00", Property::RetainAvailable(0), CONNACK_ONLY),
    row("26 \"k\" \"v\"", Property::UserProperty(("k", "v")), EVERYWHERE),
    row("27 001E8480", Property::MaximumPacketSize(2_000_000), HANDSHAKE),
    row("28 00", Property::WildcardSubscriptionAvailable(0), CONNACK_ONLY),
    row("29 00", Property::SubscriptionIdentifierAvailable(0), CONNACK_ONLY),
    row("2A 00", Property::SharedSubscriptionAvailable(0), CONNACK_ONLY),
];

const EVERYWHERE: &[Option<PacketType>] = &[
    None,
    Some(Connect),
    Some(Connack),
    Some(Publish),
    Some(Puback),
    Some(Pubrec),
    Some(Pubrel),
    Some(Pubcomp),
    Some(Subscribe),
    Some(Suback),
    Some(Unsubscribe),
    Some(Unsuback),
    Some(Disconnect),
    Some(Auth),
];

/// A packet that carries exactly these properties where `place` has them.
fn carrying(place: Option<PacketType>, properties: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    primitive::put_variable_byte_integer(&mut out, properties.len() as u32);
    out.extend_from_slice(properties);
    let (before, after) = match place {
        None => ("10 \"MQTT\" 05 06 003C 00 \"id\"", "\"w\" \"p\""),
        Some(Connect) => ("10 \"MQTT\" 05 02 003C", "\"id\""),
        Some(Connack) => ("20 00 00", ""),
        Some(Publish) => ("30 \"t\"", "'payload'"),
        Some(Puback) => ("40 0001 00", ""),
        Some(Pubrec) => ("50 0001 00", ""),
        Some(Pubrel) => ("62 0001 00", ""),
        Some(Pubcomp) => ("70 0001 00", ""),
        Some(Subscribe) => ("82 0001", "\"f\" 00"),
        Some(Suback) => ("90 0001", "00"),
        Some(Unsubscribe) => ("A2 0001", "\"f\""),
        Some(Unsuback) => ("B0 0001", "00"),
        Some(Disconnect) => ("E0 00", ""),
        Some(Auth) => ("F0 18", ""),
        Some(Pingreq | Pingresp) => unreachable!("they carry nothing"),
    };
    let before = bytes(before);
    framed(before[0], &[&before[1..], &out, &bytes(after)].concat())
}

/// The properties that a decoded packet has at `place`.
fn carried<'a>(packet: &Packet<'a>, place: Option<PacketType>) -> Properties<'a> {
    match packet {
        Packet::Connect(packet) if place.is_none() => packet.will.expect("sent").properties,
        Packet::Connect(packet) => packet.properties,
        Packet::Connack(packet) => packet.properties,
        Packet::Publish(packet) => packet.properties,
        Packet::Puback(packet)
        | Packet::Pubrec(packet)
        | Packet::Pubrel(packet)
        | Packet::Pubcomp(packet) => packet.properties,
        Packet::Subscribe(packet) => packet.properties,
        Packet::Suback(packet) => packet.properties,
        Packet::Unsubscribe(packet) => packet.properties,
        Packet::Unsuback(packet) => packet.properties,
        Packet::Disconnect(packet) => packet.properties,
        Packet::Auth(packet) => packet.properties,
        Packet::Pingreq | Packet::Pingresp => unreachable!("they carry nothing"),
    }
}

/// Refused at `place`: a CONNECT with the code for CONNACK, anything else as it is.
#[track_caller]
fn refused_at(place: Option<PacketType>, properties: &[u8], expected: &str) {
    let expected = match (place, expected) {
        (None | Some(Connect), "protocol") => "connect 82",
        (None | Some(Connect), "malformed") => "connect 81",
        _ => expected,
    };
    refused(&carrying(place, properties), ProtocolVersion::V5, expected);
}

/// AUTH is nothing without its method: there, it goes in front of everything else.
fn with_method(place: Option<PacketType>, properties: &[u8]) -> Vec<u8> {
    let needed = place == Some(Auth) && properties.first() != Some(&0x15)
        || properties.first() == Some(&0x16) && matches!(place, Some(Connect | Connack));
    match needed {
        true => [&bytes("15 \"m\""), properties].concat(),
        false => properties.to_vec(),
    }
}

/// 2.2.2.2: which packets may carry which property. The others are refused as Mosquitto refuses them, 0x82, where
/// 2.2.2.2 would have 0x81: its users' tests know that.
#[test]
fn mqtt_2_2_2_2_each_property_in_each_packet() {
    for row in &TABLE {
        let property = bytes(row.wire);
        let mut encoded = Vec::new();
        row.meaning.encode(&mut encoded);
        assert_eq!(encoded, property);
        for &place in EVERYWHERE {
            if !row.places.contains(&place) {
                refused_at(place, &with_method(place, &property), "protocol");
                continue;
            }
            let properties = with_method(place, &property);
            let packet = carrying(place, &properties);
            let decoded = decode_one(&packet, ProtocolVersion::V5)
                .unwrap_or_else(|error| panic!("{:?} at {place:?}: {error}", row.meaning));
            let carried = carried(&decoded, place);
            assert_eq!(carried.as_bytes(), properties);
            assert_eq!(carried.iter().last(), Some(row.meaning));
            assert_eq!(carried.encoded_length(), properties.len() + 1);
            let mut again = Vec::new();
            carried.encode(&mut again);
            assert_eq!(again[1..], properties);
        }
    }
}

/// Each chapter: "it is a Protocol Error to include it more than once", but for User Property everywhere and
/// Subscription Identifier in PUBLISH.
#[test]
fn mqtt_2_2_2_2_no_property_comes_twice() {
    for row in &TABLE {
        for &place in row.places {
            let property = bytes(row.wire);
            let twice = with_method(place, &[&property[..], &property].concat());
            let may_repeat = match row.meaning {
                Property::UserProperty(_) => true,
                Property::SubscriptionIdentifier(_) => place == Some(Publish),
                _ => false,
            };
            match may_repeat {
                true => {
                    let packet = carrying(place, &twice);
                    assert!(decode_one(&packet, ProtocolVersion::V5).is_ok());
                }
                false => refused_at(place, &twice, "protocol"),
            }
        }
    }
}

/// A property cut short is malformed wherever it stands, allowed there or not.
#[test]
fn mqtt_2_2_2_2_truncated_properties_are_malformed() {
    for row in &TABLE {
        let property = bytes(row.wire);
        for length in 1..property.len() {
            for &place in EVERYWHERE {
                refused_at(place, &property[..length], "malformed");
            }
        }
    }
}

/// 2.2.2.2: an identifier that no property has; [MQTT-1.5.5-1] or one that is longer than needed.
#[test]
fn mqtt_2_2_2_2_unknown_properties_are_malformed() {
    let known: Vec<u8> = TABLE.iter().map(|row| bytes(row.wire)[0]).collect();
    for identifier in 0..=0x7F {
        if !known.contains(&identifier) {
            for &place in EVERYWHERE {
                refused_at(place, &[identifier, 1], "malformed");
            }
        }
    }
    for wide in [
        "8100 01",
        "A601 'abc'",
        "FFFFFF7F",
        "80808000",
        "8080808001 01",
        "FF",
    ] {
        for &place in EVERYWHERE {
            refused_at(place, &bytes(wide), "malformed");
        }
    }
}

/// Each chapter: values that are a Protocol Error.
#[test]
fn mqtt_2_2_2_2_values_out_of_range() {
    let table: [(Option<PacketType>, &[&str]); 6] = [
        (
            Some(Publish),
            &[
                "01 02",
                "01 FF",
                "0B 00",
                "08 \"a/+\"",
                "08 \"#\"",
                "08 0000",
            ],
        ),
        (None, &["01 02", "08 \"a/+\""]),
        (Some(Connect), &["17 02", "19 02", "21 0000", "27 00000000"]),
        (
            Some(Connack),
            &[
                "21 0000",
                "24 02",
                "25 02",
                "27 00000000",
                "28 02",
                "29 02",
                "2A 02",
            ],
        ),
        (Some(Subscribe), &["0B 00"]),
        // 3.1.2.11.10: Authentication Data without Authentication Method.
        (Some(Connect), &["16 0001 00", "16 0000"]),
    ];
    for (place, wires) in table {
        for wire in wires {
            refused_at(place, &bytes(wire), "protocol");
        }
    }
    // [MQTT-3.3.2-14]: too deep to be a Topic Name.
    let deep = [&bytes("08 00C9")[..], &[b'/'; 201]].concat();
    refused_at(Some(Publish), &deep, "protocol");
}

/// Values at the ends of their ranges, and empty ones where nothing forbids them.
#[test]
fn mqtt_2_2_2_2_values_at_the_ends_of_their_ranges() {
    let table: [(Option<PacketType>, &[&str]); 5] = [
        (
            Some(Publish),
            &[
                "01 00",
                "01 01",
                "02 00000000",
                "02 FFFFFFFF",
                "03 0000",
                "09 0000",
                "0B 01",
                "23 FFFF",
                "26 0000 0000",
                "26 0000 \"v\"",
                "26 \"k\" 0000",
            ],
        ),
        (None, &["18 00000000", "18 FFFFFFFF"]),
        (
            Some(Connect),
            &[
                "11 00000000",
                "21 0001",
                "21 FFFF",
                "22 0000",
                "27 00000001",
                "27 FFFFFFFF",
                "15 0000",
            ],
        ),
        (
            Some(Connack),
            &[
                "24 00", "24 01", "13 0000", "12 0000", "1A 0000", "1C 0000", "1F 0000",
            ],
        ),
        (Some(Subscribe), &["0B 01", "0B 8001", "0B FFFFFF7F"]),
    ];
    for (place, wires) in table {
        for wire in wires {
            let packet = carrying(place, &bytes(wire));
            assert!(decode_one(&packet, ProtocolVersion::V5).is_ok(), "{wire}");
        }
    }
}

/// [MQTT-3.3.2-8]: a Topic Alias of 0 has a reason code of its own.
#[test]
fn mqtt_3_3_2_8_topic_alias_0() {
    refused_at(Some(Publish), &bytes("23 0000"), "topic alias");
    refused(
        &packet("30 0000 03 23 0000"),
        ProtocolVersion::V5,
        "topic alias",
    );
}

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.7-1]: strings in properties are strings.
#[test]
fn mqtt_1_5_7_1_strings_in_properties() {
    for wire in [
        "03 0001 FF",
        "03 0001 00",
        "08 0001 0A",
        "26 0001 00 0000",
        "26 0000 0002 C080",
        "26 0003 EDA080 0000",
    ] {
        refused_at(Some(Publish), &bytes(wire), "malformed");
        refused_at(None, &bytes(wire), "malformed");
    }
}

/// 2.2.2.1: the Property Length bounds the properties from both sides.
#[test]
fn mqtt_2_2_2_1_property_length() {
    refuse(
        &[ProtocolVersion::V5],
        "malformed",
        &[
            "30 \"t\" 02 01",         // beyond the packet
            "30 \"t\" 01 0101",       // ends inside a property
            "30 \"t\" 8000",          // longer than needed
            "30 \"t\" FFFFFFFF7F",    // five bytes
            "30 \"t\" FF",            // ends inside the length
            "30 \"t\"",               // none at all [MQTT-2.2.2-1]
            "30 \"t\" FFFFFF7F 0101", // the longest
            "82 0001 80",
            "40 0001 00 01",
            "E0 00 05 11 000000",
        ],
    );
    // What follows the properties of a PUBLISH is payload, even if it looks like one.
    let publish = packet("30 \"t\" 02 0101 0101");
    match decode_one(&publish, ProtocolVersion::V5) {
        Ok(Packet::Publish(publish)) => assert_eq!(publish.payload, [1, 1]),
        other => panic!("{other:?}"),
    }
}

/// Many properties cost time in proportion: a packet of nothing but User Properties is decoded.
#[test]
fn five_thousand_user_properties() {
    let many = bytes("26 \"k\" \"v\"").repeat(5000);
    let packet = carrying(Some(Publish), &many);
    let decoded = decode_one(&packet, ProtocolVersion::V5).expect("valid");
    assert_eq!(carried(&decoded, Some(Publish)).iter().count(), 5000);
}

/// The names that Mosquitto's tools use, one for each.
#[test]
fn property_names_are_distinct() {
    let mut names: Vec<_> = TABLE.iter().map(|row| row.meaning.name()).collect();
    assert_eq!(names[0], "payload-format-indicator");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
}

/// What a server handles itself is taken out, the rest keeps its order [MQTT-3.3.2-17], [MQTT-3.3.2-18].
#[test]
fn mqtt_3_3_2_18_properties_passed_on_keep_their_order() {
    let split = |wire: &str, passed_on: &str| {
        let packet = carrying(Some(Publish), &bytes(wire));
        let decoded = decode_one(&packet, ProtocolVersion::V5).expect("valid");
        let mut scratch = b"left over".to_vec();
        let properties = carried(&decoded, Some(Publish));
        let split = publish::PublishProperties::split(properties, &mut scratch);
        assert_eq!(split.passed_on, bytes(passed_on), "{wire}");
        (
            split.message_expiry_seconds,
            split.topic_alias,
            split.has_subscription_identifier,
        )
    };
    assert_eq!(split("", ""), (None, None, false));
    assert_eq!(split("0101", "0101"), (None, None, false));
    assert_eq!(
        split(
            "26 \"b\" \"1\" 23 0007 26 \"a\" \"2\" 02 00000009 0101",
            "26 \"b\" \"1\" 26 \"a\" \"2\" 0101"
        ),
        (Some(9), Some(7), false)
    );
    assert_eq!(split("0B01 0B 8001", ""), (None, None, true));
}

/// 3.1.3.2.2: the Will Delay Interval is for the server that holds the Will, not for those who receive the message.
#[test]
fn mqtt_3_1_3_2_2_will_delay_is_not_passed_on() {
    let packet = carrying(None, &bytes("0101 18 00000005 02 00000009 03 \"text\""));
    let decoded = decode_one(&packet, ProtocolVersion::V5).expect("valid");
    let mut scratch = Vec::new();
    let split = publish::PublishProperties::split(carried(&decoded, None), &mut scratch);
    assert_eq!(split.passed_on, bytes("0101 03 \"text\""));
    assert_eq!(split.message_expiry_seconds, Some(9));
}
