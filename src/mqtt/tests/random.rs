//! Random packets there and back, random bytes, and the clever functions against naive ones.

use super::property::{Place, VariableByteInteger};
use super::publish::{PublishHeader, PublishProperties};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Strings that the protocol allows.
fn string() -> impl Strategy<Value = String> {
    vec(
        prop_oneof![
            4 => prop::char::range(' ', '~'),
            1 => prop::char::any().prop_filter("allowed", |&character| allowed(character)),
        ],
        0..12,
    )
    .prop_map(String::from_iter)
}

fn topic_name() -> impl Strategy<Value = String> {
    string().prop_map(|text| format!("t{}", text.replace(['+', '#'], "/")))
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..12)
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(&VERSIONS[..])
}

fn qos() -> impl Strategy<Value = QoS> {
    select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(id)
}

/// Properties by the identifiers a packet may carry, each at most once, but several User Properties.
fn properties(identifiers: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let user = vec((string(), string()), 0..3);
    let chosen = prop::sample::subsequence(identifiers, 0..=identifiers.len());
    (chosen, any::<u32>(), string(), topic_name(), binary(), user).prop_map(
        |(chosen, number, text, topic, data, user)| {
            let mut buffer = PropertyBuffer::new();
            let flag = (number & 1) as u8;
            let short = (number as u16).max(1);
            for identifier in chosen {
                buffer.push(match identifier {
                    0x01 => Property::PayloadFormatIndicator(flag),
                    0x02 => Property::MessageExpiryInterval(number),
                    0x03 => Property::ContentType(&text),
                    0x08 => Property::ResponseTopic(&topic),
                    0x09 => Property::CorrelationData(&data),
                    0x0B => {
                        let number = (number & primitive::VARIABLE_BYTE_INTEGER_MAX).max(1);
                        Property::SubscriptionIdentifier(VariableByteInteger(number))
                    }
                    0x11 => Property::SessionExpiryInterval(number),
                    0x15 => Property::AuthenticationMethod(&text),
                    0x18 => Property::WillDelayInterval(number),
                    0x1F => Property::ReasonString(&text),
                    0x21 => Property::ReceiveMaximum(short),
                    0x23 => Property::TopicAlias(short),
                    0x27 => Property::MaximumPacketSize(number.max(1)),
                    other => unreachable!("{other:02X} is in no list below"),
                });
            }
            for (name, value) in &user {
                buffer.push(Property::UserProperty((name, value)));
            }
            buffer.as_properties().as_bytes().to_vec()
        },
    )
}

/// `listed` as the properties of a packet of `version`.
fn view(listed: &[u8], version: ProtocolVersion, place: Place) -> Properties<'static> {
    if !version.is_v5() {
        return Properties::NONE;
    }
    let mut framed = Vec::new();
    primitive::put_variable_byte_integer(&mut framed, listed.len() as u32);
    framed.extend_from_slice(listed);
    let mut reader = Reader::new(framed.leak());
    Properties::read(&mut reader, place).expect("chosen from what the packet may carry")
}

#[track_caller]
fn there_and_back(packet: Packet<'_>, version: ProtocolVersion) {
    let written = encode(&packet, version);
    assert_eq!(promised_length(&written), written.len());
    assert_eq!(decode_one(&written, version), Ok(packet));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_connect(
        version in version(),
        (is_bridge, clean_start, keep_alive) in any::<(bool, bool, u16)>(),
        listed in properties(&[0x11, 0x15, 0x21, 0x27]),
        client_id in string(),
        will in prop::option::of((
            qos(), any::<bool>(), topic_name(), binary(), properties(&[1, 2, 3, 8, 9, 0x18]),
        )),
        user_name in prop::option::of(string()),
        password in prop::option::of(binary()),
    ) {
        let will = will.as_ref().map(|(qos, retain, topic, payload, listed)| Will {
            qos: *qos,
            retain: *retain,
            properties: view(listed, version, Place::Will),
            topic,
            payload,
        });
        let has_password = version.is_v5() || user_name.is_some();
        there_and_back(Packet::Connect(Connect {
            version,
            is_bridge,
            clean_start,
            keep_alive,
            properties: view(&listed, version, Place::Packet(PacketType::Connect)),
            client_id: &client_id,
            will,
            user_name: user_name.as_deref(),
            password: password.as_deref().filter(|_| has_password),
        }), version);
    }

    #[test]
    fn random_connack(
        version in version(),
        session_present in any::<bool>(),
        code in any::<u8>(),
        listed in properties(&[0x11, 0x15, 0x1F, 0x21, 0x27]),
    ) {
        let is_known = ReasonCode::from_byte(code, PacketType::Connack).is_some();
        let code = if version.is_v5() && !is_known { 0 } else { code };
        there_and_back(Packet::Connack(Connack {
            session_present: session_present && code == 0,
            code,
            properties: view(&listed, version, Place::Packet(PacketType::Connack)),
        }), version);
    }

    /// The encoder, its forecast, and the way back through the decoder.
    #[test]
    fn random_publish(
        version in version(),
        (dup, retain) in any::<(bool, bool)>(),
        qos in qos(),
        name in topic_name(),
        with_topic in any::<bool>(),
        packet_id in packet_id(),
        passed_on in properties(&[1, 3, 8, 9]),
        message_expiry_seconds in any::<Option<u32>>(),
        topic_alias in prop::option::of(1..=u16::MAX),
        subscription_identifiers in vec(1..=primitive::VARIABLE_BYTE_INTEGER_MAX, 0..4),
        payload in prop_oneof![9 => vec(any::<u8>(), 0..200), 1 => vec(any::<u8>(), 16_300..16_500)],
    ) {
        let has_id = qos != QoS::AtMostOnce;
        let has_topic = with_topic || topic_alias.is_none() || !version.is_v5();
        let header = PublishHeader {
            dup: dup && has_id,
            qos,
            retain,
            topic: if has_topic { &name } else { "" },
            packet_id: has_id.then_some(packet_id),
            passed_on: &passed_on,
            message_expiry_seconds,
            topic_alias,
            subscription_identifiers: &subscription_identifiers,
            payload_length: payload.len(),
        };
        let mut out = b"before".to_vec();
        let packet_id_at = header.encode(version, &mut out);
        out.extend_from_slice(&payload);
        let written = &out[6..];
        prop_assert_eq!(header.packet_length(version), written.len());
        prop_assert_eq!(header.first_byte(), written[0]);
        if has_id {
            prop_assert_eq!(&out[packet_id_at..packet_id_at + 2], packet_id.get().to_be_bytes());
        }
        let Ok(Packet::Publish(publish)) = decode_one(written, version) else {
            return Err(TestCaseError::fail("not a PUBLISH"));
        };
        prop_assert_eq!(publish.dup, header.dup);
        prop_assert_eq!(publish.qos, qos);
        prop_assert_eq!(publish.retain, retain);
        prop_assert_eq!(publish.topic, header.topic);
        prop_assert_eq!(publish.packet_id, header.packet_id);
        prop_assert_eq!(publish.payload, &payload);
        let mut scratch = Vec::new();
        let split = PublishProperties::split(publish.properties, &mut scratch);
        if version.is_v5() {
            prop_assert_eq!(split, PublishProperties {
                passed_on: &passed_on,
                message_expiry_seconds,
                topic_alias,
                has_subscription_identifier: !subscription_identifiers.is_empty(),
            });
        } else {
            prop_assert_eq!(split, PublishProperties::default());
        }
        prop_assert_eq!(encode(&Packet::Publish(publish), version), written);
    }

    #[test]
    fn random_ack(
        version in version(),
        kind in select(&[
            PacketType::Puback, PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp,
        ][..]),
        packet_id in packet_id(),
        code in any::<u8>(),
        listed in properties(&[0x1F]),
    ) {
        let reason_code = ReasonCode::from_byte(code, kind)
            .filter(|_| version.is_v5())
            .unwrap_or(ReasonCode::Success);
        let ack = Ack { packet_id, reason_code, properties: view(&listed, version, Place::Packet(kind)) };
        there_and_back(match kind {
            PacketType::Puback => Packet::Puback(ack),
            PacketType::Pubrec => Packet::Pubrec(ack),
            PacketType::Pubrel => Packet::Pubrel(ack),
            _ => Packet::Pubcomp(ack),
        }, version);
    }

    #[test]
    fn random_subscribe(
        version in version(),
        packet_id in packet_id(),
        listed in properties(&[0x0B]),
        filters in vec((string(), any::<u8>()), 1..5),
    ) {
        let filters: Vec<(&str, SubscriptionOptions)> = filters
            .iter()
            .map(|(filter, byte)| {
                let byte = if version.is_v5() { byte & 0x3F } else { byte & 3 };
                let options = SubscriptionOptions::from_byte(byte)
                    .filter(|options| !(options.no_local() && filter.starts_with("$share/")));
                (&filter[..], options.unwrap_or(SubscriptionOptions::new(QoS::AtLeastOnce)))
            })
            .collect();
        let properties = view(&listed, version, Place::Packet(PacketType::Subscribe));
        let mut out = Vec::new();
        Subscribe::encode(packet_id, properties, &filters, version, &mut out);
        let Ok(Packet::Subscribe(subscribe)) = decode_one(&out, version) else {
            return Err(TestCaseError::fail("not a SUBSCRIBE"));
        };
        prop_assert_eq!(subscribe.packet_id, packet_id);
        prop_assert_eq!(subscribe.properties, properties);
        prop_assert_eq!(subscribe.filters().collect::<Vec<_>>(), filters);
    }

    #[test]
    fn random_unsubscribe(
        version in version(),
        packet_id in packet_id(),
        listed in properties(&[]),
        filters in vec(string(), 1..5),
    ) {
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let properties = view(&listed, version, Place::Packet(PacketType::Unsubscribe));
        let mut out = Vec::new();
        Unsubscribe::encode(packet_id, properties, &filters, version, &mut out);
        let Ok(Packet::Unsubscribe(unsubscribe)) = decode_one(&out, version) else {
            return Err(TestCaseError::fail("not an UNSUBSCRIBE"));
        };
        prop_assert_eq!(unsubscribe.packet_id, packet_id);
        prop_assert_eq!(unsubscribe.properties, properties);
        prop_assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), filters);
    }

    #[test]
    fn random_suback_and_unsuback(
        version in version(),
        packet_id in packet_id(),
        listed in properties(&[0x1F]),
        codes in vec(select(&[0, 1, 2, 0x80][..]), 1..9),
        unsubscribed in vec(select(&[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91][..]), 1..9),
    ) {
        let properties = view(&listed, version, Place::Packet(PacketType::Suback));
        let suback = Suback { packet_id, properties, codes: &codes };
        there_and_back(Packet::Suback(suback), version);
        let codes: &[u8] = if version.is_v5() { &unsubscribed } else { &[] };
        there_and_back(Packet::Unsuback(Unsuback { packet_id, properties, codes }), version);
    }

    #[test]
    fn random_disconnect_and_auth(
        version in version(),
        code in any::<u8>(),
        listed in properties(&[0x11, 0x1F]),
        said in properties(&[0x15, 0x1F]),
    ) {
        let reason_code = ReasonCode::from_byte(code, PacketType::Disconnect)
            .filter(|_| version.is_v5())
            .unwrap_or(ReasonCode::Success);
        let properties = view(&listed, version, Place::Packet(PacketType::Disconnect));
        there_and_back(Packet::Disconnect(Disconnect { reason_code, properties }), version);
        let properties = view(&said, ProtocolVersion::V5, Place::Packet(PacketType::Auth));
        let names_method = |property| matches!(property, Property::AuthenticationMethod(_));
        if properties.iter().any(names_method) {
            let reason_code = ReasonCode::from_byte(code, PacketType::Auth)
                .unwrap_or(ReasonCode::ContinueAuthentication);
            there_and_back(Packet::Auth(Auth { reason_code, properties }), ProtocolVersion::V5);
        }
    }
}

/// What a parser looks for.
const MORSELS: &[&[u8]] = &[
    b"\x00\x04MQTT\x05",
    b"\x00\x04MQTT\x04",
    b"\x00\x06MQIsdp\x03",
    b"\x00\x01t",
    b"\x26\x00\x01k\x00\x01v",
    b"\x23\x00\x01",
    b"\x00\x00",
    b"\x0B\x01",
    b"\x02\x01\x01",
];

/// Walks everything that a decoded packet can be asked for.
fn walk(packet: &Packet<'_>) {
    let properties = match packet {
        Packet::Connect(packet) => {
            if let Some(will) = packet.will {
                will.properties.iter().for_each(drop);
            }
            packet.properties
        }
        Packet::Publish(packet) => packet.properties,
        Packet::Subscribe(packet) => {
            for (filter, _) in packet.filters() {
                let _ = topic::shared(filter);
            }
            packet.properties
        }
        Packet::Unsubscribe(packet) => {
            packet.filters().for_each(drop);
            packet.properties
        }
        Packet::Connack(packet) => packet.properties,
        Packet::Suback(packet) => packet.properties,
        Packet::Unsuback(packet) => packet.properties,
        Packet::Disconnect(packet) => packet.properties,
        Packet::Auth(packet) => packet.properties,
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            ack.properties
        }
        Packet::Pingreq | Packet::Pingresp => Properties::NONE,
    };
    properties.iter().for_each(drop);
}

/// Decodes as a receiver in each state; a packet that is accepted is written and read as the same again.
fn decode_everywhere(bytes: &[u8]) {
    let versions = VERSIONS.into_iter().map(Some).chain([None]);
    for version in versions {
        let limits = Limits {
            version,
            packet_bytes_max: 1 << 20,
        };
        if let Ok(Some((packet, length))) = decode(bytes, limits) {
            assert!(length <= bytes.len());
            walk(&packet);
            let version = version.unwrap_or(ProtocolVersion::V5);
            let written = encode(&packet, version);
            if !matches!(packet, Packet::Publish(_)) {
                assert_eq!(decode_one(&written, version), Ok(packet));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..64)) {
        decode_everywhere(&bytes);
    }

    /// Bytes that get past the header, made of what a parser looks for.
    #[test]
    fn random_bodies(
        first in any::<u8>(),
        parts in vec(
            prop_oneof![
                vec(any::<u8>(), 0..4),
                vec(0..4u8, 0..4),
                select(MORSELS).prop_map(<[u8]>::to_vec),
            ],
            0..8,
        ),
    ) {
        decode_everywhere(&framed(first, &parts.concat()));
    }

    #[test]
    fn strings_as_character_by_character(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..8),
            vec(0x1E..0x82u8, 0..8),
            vec(0x1F..0x7Fu8, 8..30),
            vec(prop_oneof![30 => 0x20..0x7Fu8, 1 => any::<u8>()], 8..30),
            vec(prop::char::any(), 0..4).prop_map(|text| String::from_iter(text).into_bytes()),
            select(&[0u32, 0x1F, 0x20, 0x7E, 0x7F, 0x80, 0x9F, 0xA0, 0xFDCF, 0xFDD0, 0xFDEF, 0xFDF0, 0xFEFF,
                     0xFFFD, 0xFFFE, 0xFFFF, 0x1FFFE, 0x2FFFF, 0x10FFFD, 0x10FFFE, 0x10FFFF][..])
                .prop_map(|code| char::from_u32(code).expect("a character").to_string().into_bytes()),
        ],
    ) {
        let expected = String::from_utf8(bytes.clone())
            .ok()
            .filter(|text| text.chars().all(allowed));
        prop_assert_eq!(primitive::utf8(&bytes).ok(), expected.as_deref());
    }

    /// Short alphabets, so that they meet.
    #[test]
    fn matching_as_by_recursion(
        filter in "(\\$?[ab]?|\\+)(/(a|b|\\+||\\$))*(/#)?|#",
        name in "\\$?[ab]?(/(a|b||\\$)){0,5}",
    ) {
        prop_assume!(topic::check_filter(&filter).is_ok() && topic::name(name.as_bytes()).is_ok());
        let filter_levels: Vec<&str> = filter.split('/').collect();
        let name_levels: Vec<&str> = name.split('/').collect();
        let hidden = name.starts_with('$') && ["+", "#"].contains(&filter_levels[0]);
        let expected = !hidden && matches_by_recursion(&filter_levels, &name_levels);
        prop_assert_eq!(topic::matches(&filter, &name), expected);
        // A name is a filter, and matches itself.
        prop_assert!(topic::matches(&name, &name));
    }

    #[test]
    fn filters_as_level_by_level(filter in "[a/+#$]{0,8}|[a-z/]{0,12}[a/+#]{0,2}[a-z/]{0,12}") {
        let levels: Vec<&str> = filter.split('/').collect();
        let (last, before) = levels.split_last().expect("at least one");
        let plain = |level: &&str| *level == "+" || !level.contains(['+', '#']);
        let expected = !filter.is_empty()
            && before.iter().all(plain)
            && (plain(last) || *last == "#");
        prop_assert_eq!(topic::check_filter(&filter).is_ok(), expected);
        let is_name = !filter.is_empty() && !filter.contains(['+', '#']);
        prop_assert_eq!(topic::name(filter.as_bytes()).is_ok(), is_name);
    }

    #[test]
    fn shared_filters_as_by_split(
        head in select(&["$share", "$shar", "$share/", "", "$share/g"][..]),
        tail in "[a/+#]{0,8}",
    ) {
        let filter = format!("{head}{tail}");
        let levels: Vec<&str> = filter.splitn(3, '/').collect();
        let expected = match levels[..] {
            _ if topic::check_filter(&filter).is_err() => None,
            ["$share", group, inner]
                if !group.is_empty() && !group.contains(['+', '#']) && !inner.is_empty() =>
            {
                Some((Some(group), inner))
            }
            ["$share", ..] => None,
            _ => Some((None, &filter[..])),
        };
        let shared = topic::shared(&filter).ok();
        prop_assert_eq!(shared.map(|shared| (shared.group, shared.filter)), expected);
    }

    #[test]
    fn variable_byte_integers(value in 0..=primitive::VARIABLE_BYTE_INTEGER_MAX) {
        let mut out = Vec::new();
        primitive::put_variable_byte_integer(&mut out, value);
        prop_assert_eq!(out.len(), primitive::variable_byte_integer_length(value));
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.variable_byte_integer(), Ok(value));
        prop_assert!(reader.is_empty());
    }
}

/// 1.5.4, one character at a time.
fn allowed(character: char) -> bool {
    match u32::from(character) {
        0x00..=0x1F | 0x7F..=0x9F => false,
        0xFDD0..=0xFDEF => false,
        code => !matches!(code & 0xFFFF, 0xFFFE | 0xFFFF),
    }
}

fn matches_by_recursion(filter: &[&str], name: &[&str]) -> bool {
    match (filter, name) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, name @ ..]) => matches_by_recursion(filter, name),
        ([a, filter @ ..], [b, name @ ..]) => a == b && matches_by_recursion(filter, name),
        _ => false,
    }
}
