//! `mqtt::decode`, in every version: any bytes are a packet, the beginning of one, or an error.
//!
//! 1. A packet has the length that its fixed header promised, and any part of it is incomplete, never an error or
//!    another packet.
//! 2. A packet that is encoded again is the same packet; a PUBLISH, whose properties the encoder puts in its own
//!    order, says the same.
//! 3. What a packet offers to walk over (properties, filters) can be walked over.

use midge::mqtt::{
    self, Limits, Packet, PacketType, Properties, PropertyBuffer, ProtocolVersion, Publish,
    PublishHeader, PublishProperties, Subscribe, Unsubscribe,
};

const VERSIONS: [Option<ProtocolVersion>; 4] = [
    None,
    Some(ProtocolVersion::V31),
    Some(ProtocolVersion::V311),
    Some(ProtocolVersion::V5),
];

/// Decodes `bytes` in every version, and what follows the first packet too.
pub fn feed(bytes: &[u8]) {
    for version in VERSIONS {
        for packet_bytes_max in [u32::MAX, 64] {
            decode_all(
                bytes,
                Limits {
                    version,
                    packet_bytes_max,
                },
            );
        }
    }
}

fn decode_all(mut bytes: &[u8], limits: Limits) {
    while let Ok(Some((packet, length))) = mqtt::decode(bytes, limits) {
        assert_eq!(
            length,
            mqtt::promised_length(bytes),
            "not what was promised"
        );
        assert!(length <= limits.packet_bytes_max as usize);
        for part in [1, length / 2, length - 1] {
            let incomplete = mqtt::decode(&bytes[..part], limits);
            assert_eq!(incomplete, Ok(None), "{part} of {length} bytes");
        }
        check_again(packet, limits.version);
        bytes = &bytes[length..];
    }
}

/// Checks that `packet` is the same after it was encoded.
fn check_again(packet: Packet<'_>, version: Option<ProtocolVersion>) {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes);
    let limits = Limits {
        version,
        packet_bytes_max: u32::MAX,
    };
    let (again, length) = mqtt::decode(&bytes, limits)
        .unwrap_or_else(|error| panic!("{packet:?} became {bytes:02x?}: {error:?}"))
        .unwrap_or_else(|| panic!("{packet:?} became {bytes:02x?}, which is not whole"));
    assert_eq!(length, bytes.len());
    match (packet, again) {
        (Packet::Publish(packet), Packet::Publish(again)) => check_same(packet, again),
        _ => assert_eq!(packet, again),
    }
}

fn check_same(packet: Publish<'_>, again: Publish<'_>) {
    let said = |publish: Publish<'_>| {
        let mut scratch = Vec::new();
        let split = PublishProperties::split(publish.properties, &mut scratch);
        let passed_on = split.passed_on.to_vec();
        let without = Publish {
            properties: Properties::NONE,
            ..publish
        };
        (
            format!("{without:?}"),
            passed_on,
            split.message_expiry_seconds,
            split.topic_alias,
        )
    };
    assert_eq!(said(packet), said(again));
}

fn encode(packet: Packet<'_>, version: Option<ProtocolVersion>, out: &mut Vec<u8>) {
    let spoken = version.unwrap_or(ProtocolVersion::V311);
    let ack = |kind, ack: mqtt::Ack<'_>, out: &mut Vec<u8>| {
        walk(ack.properties);
        ack.encode(kind, spoken, out);
    };
    match packet {
        Packet::Connect(connect) => {
            walk(connect.properties);
            if let Some(will) = connect.will {
                walk(will.properties);
            }
            connect.encode(out);
        }
        Packet::Connack(connack) => {
            walk(connack.properties);
            connack.encode(spoken, out);
        }
        Packet::Publish(publish) => encode_publish(publish, spoken, out),
        Packet::Puback(it) => ack(PacketType::Puback, it, out),
        Packet::Pubrec(it) => ack(PacketType::Pubrec, it, out),
        Packet::Pubrel(it) => ack(PacketType::Pubrel, it, out),
        Packet::Pubcomp(it) => ack(PacketType::Pubcomp, it, out),
        Packet::Subscribe(it) => {
            walk(it.properties);
            let filters: Vec<_> = it.filters().collect();
            for (filter, _) in &filters {
                check_filter(filter);
            }
            Subscribe::encode(it.packet_id, it.properties, &filters, spoken, out);
        }
        Packet::Suback(it) => {
            walk(it.properties);
            it.encode(spoken, out);
        }
        Packet::Unsubscribe(it) => {
            walk(it.properties);
            let filters: Vec<_> = it.filters().collect();
            Unsubscribe::encode(it.packet_id, it.properties, &filters, spoken, out);
        }
        Packet::Unsuback(it) => {
            walk(it.properties);
            it.encode(spoken, out);
        }
        Packet::Pingreq => out.extend_from_slice(&mqtt::disconnect::PINGREQ),
        Packet::Pingresp => out.extend_from_slice(&mqtt::disconnect::PINGRESP),
        Packet::Disconnect(it) => {
            walk(it.properties);
            it.encode(spoken, out);
        }
        Packet::Auth(it) => {
            walk(it.properties);
            it.encode(out);
        }
    }
}

fn encode_publish(publish: Publish<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    walk(publish.properties);
    let mut scratch = Vec::new();
    let split = PublishProperties::split(publish.properties, &mut scratch);
    let header = PublishHeader {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        passed_on: split.passed_on,
        message_expiry_seconds: split.message_expiry_seconds,
        topic_alias: split.topic_alias,
        subscription_identifiers: &[],
        payload_length: publish.payload.len(),
    };
    header.encode(version, out);
    out.extend_from_slice(publish.payload);
    assert_eq!(
        out.len(),
        header.packet_length(version),
        "not as long as it said"
    );
}

/// Walks over `properties`; encoded one by one they are never longer than they were.
fn walk(properties: Properties<'_>) {
    let mut encoded = PropertyBuffer::default();
    for property in properties.iter() {
        encoded.push(property);
    }
    let again = encoded.as_properties();
    assert!(again.as_bytes().len() <= properties.as_bytes().len());
    assert!(again.iter().eq(properties.iter()));
}

/// A filter that is valid stays valid without `$share/group/`.
fn check_filter(filter: &str) {
    if let Ok(shared) = mqtt::topic::shared(filter) {
        let valid = mqtt::topic::check_filter(shared.filter);
        assert_eq!(valid, Ok(()), "{filter:?}");
    }
}

/// One packet of each kind, in the versions that have it.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        // CONNECT of 3.1, 3.1.1 and 5.0, with a will, a user name and a password, and with properties.
        &b"\x10\x15\0\x06MQIsdp\x03\x02\0\x3c\0\x07fuzz-31"[..],
        b"\x10\x24\0\x04MQTT\x04\xec\0\x0a\0\x04fuzz\0\x04w/t1\0\x04gone\0\x02me\0\x02pw",
        b"\x10\x2e\0\x04MQTT\x05\x06\0\x0a\x05\x11\0\0\0\x3c\0\x01c\x09\x18\0\0\0\x05\x02\0\0\0\x07\0\x01w\0\x0dwill payload!",
        // CONNACK
        b"\x20\x02\0\0",
        b"\x20\x0b\0\0\x08\x21\0\x0a\x12\0\x03abc",
        // PUBLISH at each QoS
        b"\x30\x07\0\x03a/bhi",
        b"\x32\x09\0\x03a/b\0\x01hi",
        b"\x3d\x09\0\x03a/b\0\x02hi",
        b"\x35\x24\0\x03a/b\0\x02\x1b\x01\x01\x02\0\0\0\x09\x03\0\x01t\x08\0\x01r\x09\0\x01c\x23\0\x01hi",
        b"\x30\x10\0\x01a\x0a\x26\0\x01k\0\x01v\x0b\x81\x01hi",
        // PUBACK, PUBREC, PUBREL, PUBCOMP
        b"\x40\x02\0\x01\x50\x02\0\x01\x62\x02\0\x01\x70\x02\0\x01",
        b"\x40\x03\0\x01\x10\x50\x04\0\x01\0\0\x62\x03\0\x01\x92\x70\x09\0\x01\0\x05\x1f\0\x02no",
        // SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK
        b"\x82\x08\0\x01\0\x03a/#\x02",
        b"\x82\x18\0\x01\x02\x0b\x07\0\x01+\x2d\0\x0b$share/g/a/\x01",
        b"\x90\x03\0\x01\0\x90\x04\0\x01\0\x80",
        b"\xa2\x07\0\x01\0\x03a/#\xa2\x08\0\x01\0\0\x03a/#",
        b"\xb0\x02\0\x01\xb0\x04\0\x01\0\x11",
        // PINGREQ, PINGRESP, DISCONNECT, AUTH
        b"\xc0\0\xd0\0\xe0\0",
        b"\xe0\x01\x04\xe0\x07\0\x05\x11\0\0\0\x01",
        b"\xf0\0\xf0\x08\x18\x06\x15\0\x03PWD",
    ]
    .iter()
    .map(|bytes| bytes.to_vec())
    .collect();
    // Filters and names with everything that means something in them.
    for text in [
        "$SYS/#",
        "$share//x",
        "+/+/#",
        "/",
        "a//b",
        "\u{feff}\u{10ffff}",
    ] {
        let mut bytes = vec![0x82, text.len() as u8 + 5, 0, 1, 0, text.len() as u8];
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        seeds.push(bytes);
    }
    seeds
}
