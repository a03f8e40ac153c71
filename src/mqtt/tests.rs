//! Tables of packets: bytes, meaning, error; and random ones, against naive oracles.
//!
//! Bytes are written as text: hexadecimal digits as they stand on the wire, `'text'` for its bytes, and `"text"` for
//! a UTF-8 Encoded String, length in front. Tests are named after the statements of MQTT 5.0, and of 3.1.1 where the
//! name says so.

mod malformed;
mod packets;
mod properties;
mod random;
mod reasons;

use super::connect::UnsupportedVersion;
use super::*;

const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V31,
    ProtocolVersion::V311,
    ProtocolVersion::V5,
];

/// The bytes that `text` describes.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '\'' || first == '"' {
            let (quoted, after) = rest[1..].split_once(first).expect("closing quote");
            if first == '"' {
                out.extend_from_slice(&(quoted.len() as u16).to_be_bytes());
            }
            out.extend_from_slice(quoted.as_bytes());
            rest = after;
        } else {
            out.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
            rest = &rest[2..];
        }
        rest = rest.trim_start();
    }
    out
}

/// A packet with this first byte and body.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_framed(&mut out, first, |out| out.extend_from_slice(body));
    out
}

/// The packet whose first byte and body `text` describes; the Remaining Length is filled in.
fn packet(text: &str) -> Vec<u8> {
    let bytes = bytes(text);
    framed(bytes[0], &bytes[1..])
}

/// As a receiver on a Network Connection of `version`; CONNECT is the first packet of its own.
fn limits_for(packet: &[u8], version: ProtocolVersion) -> Limits {
    let is_connect = packet.first().is_some_and(|first| first >> 4 == 1);
    Limits {
        version: (!is_connect).then_some(version),
        packet_bytes_max: u32::MAX,
    }
}

/// Decodes `packet`, which is to be one packet and no more.
fn decode_one(packet: &[u8], version: ProtocolVersion) -> Result<Packet<'_>, DecodeError> {
    let decoded = decode(packet, limits_for(packet, version))?;
    let (decoded, length) = decoded.expect("whole packet");
    assert_eq!(length, packet.len());
    Ok(decoded)
}

/// What kind of error, as the tables write it.
fn kind(error: DecodeError) -> String {
    match error {
        DecodeError::Malformed(_) => "malformed".into(),
        DecodeError::Protocol(_) => "protocol".into(),
        DecodeError::TooLarge => "too large".into(),
        DecodeError::TopicAliasInvalid => "topic alias".into(),
        DecodeError::NotConnect(byte) => format!("not connect {byte:02X}"),
        DecodeError::UnsupportedVersion(UnsupportedVersion::Name) => "version: name".into(),
        DecodeError::UnsupportedVersion(UnsupportedVersion::Mixed) => "version: mixed".into(),
        DecodeError::UnsupportedVersion(UnsupportedVersion::Level) => "version: level".into(),
        DecodeError::Connect(reason, _) => format!("connect {:02X}", reason as u8),
    }
}

/// Asserts that `packet` is refused in `version` with an error of this kind.
#[track_caller]
fn refused(packet: &[u8], version: ProtocolVersion, expected: &str) {
    match decode_one(packet, version) {
        Ok(decoded) => panic!("{packet:02X?} in {version:?}: {decoded:?}"),
        Err(error) => assert_eq!(
            kind(error),
            expected,
            "{packet:02X?} in {version:?}: {error}"
        ),
    }
}

/// Asserts that each packet is refused in every version given.
#[track_caller]
fn refuse(versions: &[ProtocolVersion], expected: &str, texts: &[&str]) {
    for text in texts {
        for &version in versions {
            refused(&packet(text), version, expected);
        }
    }
}

/// Asserts that each packet is accepted in every version given.
#[track_caller]
fn accept(versions: &[ProtocolVersion], texts: &[&str]) {
    for text in texts {
        for &version in versions {
            if let Err(error) = decode_one(&packet(text), version) {
                panic!("{text} in {version:?}: {error}");
            }
        }
    }
}

/// Properties that live as long as the test program.
fn properties_of(list: &[Property<'_>]) -> Properties<'static> {
    let mut buffer = PropertyBuffer::new();
    for &property in list {
        buffer.push(property);
    }
    Box::leak(Box::new(buffer)).as_properties()
}

/// A Packet Identifier, not 0.
fn id(number: u16) -> PacketId {
    PacketId(NonZeroU16::new(number).expect("not 0"))
}

/// Appends `packet` through the encoder of its type.
fn encode(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let out = &mut Vec::new();
    match packet {
        Packet::Connect(connect) => connect.encode(out),
        Packet::Connack(connack) => connack.encode(version, out),
        Packet::Publish(publish) => encode_publish(publish, version, out),
        Packet::Puback(ack) => ack.encode(PacketType::Puback, version, out),
        Packet::Pubrec(ack) => ack.encode(PacketType::Pubrec, version, out),
        Packet::Pubrel(ack) => ack.encode(PacketType::Pubrel, version, out),
        Packet::Pubcomp(ack) => ack.encode(PacketType::Pubcomp, version, out),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> = subscribe.filters().collect();
            Subscribe::encode(
                subscribe.packet_id,
                subscribe.properties,
                &filters,
                version,
                out,
            );
        }
        Packet::Suback(suback) => suback.encode(version, out),
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters().collect();
            Unsubscribe::encode(
                unsubscribe.packet_id,
                unsubscribe.properties,
                &filters,
                version,
                out,
            );
        }
        Packet::Unsuback(unsuback) => unsuback.encode(version, out),
        Packet::Pingreq => out.extend_from_slice(&disconnect::PINGREQ),
        Packet::Pingresp => out.extend_from_slice(&disconnect::PINGRESP),
        Packet::Disconnect(disconnect) => disconnect.encode(version, out),
        Packet::Auth(auth) => auth.encode(out),
    }
    std::mem::take(out)
}

/// A PUBLISH taken apart and put together as a server does; its properties are in the order of the encoder.
fn encode_publish(publish: &Publish<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let mut scratch = Vec::new();
    let split = publish::PublishProperties::split(publish.properties, &mut scratch);
    let identifiers: Vec<u32> = publish
        .properties
        .iter()
        .filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier.0),
            _ => None,
        })
        .collect();
    assert_eq!(split.has_subscription_identifier, !identifiers.is_empty());
    let header = publish::PublishHeader {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        passed_on: split.passed_on,
        message_expiry_seconds: split.message_expiry_seconds,
        topic_alias: split.topic_alias,
        subscription_identifiers: &identifiers,
        payload_length: publish.payload.len(),
    };
    let start = out.len();
    let packet_id_at = header.encode(version, out);
    if let Some(packet_id) = publish.packet_id {
        let there = &out[packet_id_at..packet_id_at + 2];
        assert_eq!(there, packet_id.get().to_be_bytes());
    }
    out.extend_from_slice(publish.payload);
    assert_eq!(out.len() - start, header.packet_length(version));
}

#[test]
fn the_notation_of_these_tables() {
    assert_eq!(bytes("30 0102 'a b' \"xy\""), b"\x30\x01\x02a b\x00\x02xy");
    assert_eq!(packet("C0"), [0xC0, 0]);
    assert_eq!(packet("82 0001"), [0x82, 2, 0, 1]);
}
