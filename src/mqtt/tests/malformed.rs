//! What no packet may be, statement by statement.

use super::*;
use ProtocolVersion::{V5, V31, V311};

const V3: &[ProtocolVersion] = &[V31, V311];
const ALL: &[ProtocolVersion] = &VERSIONS;

/// [MQTT-3.1.0-1]: seen in the first byte, whatever follows.
#[test]
fn mqtt_3_1_0_1_first_packet_is_connect() {
    let before = Limits {
        version: None,
        packet_bytes_max: 100,
    };
    for first in 0..=255u8 {
        if first >> 4 == 1 {
            assert_eq!(decode(&[first], before), Ok(None));
            continue;
        }
        let expected = Err(DecodeError::NotConnect(first));
        assert_eq!(decode(&[first], before), expected);
        assert_eq!(decode(&[first, 0xFF, 0xFF, 0xFF, 0xFF], before), expected);
        assert_eq!(decode(&[first, 0], before), expected);
    }
    assert_eq!(decode(&[], before), Ok(None));
}

/// [MQTT-3.1.0-2]: a second CONNECT is a Protocol Error, whatever is in it.
#[test]
fn mqtt_3_1_0_2_second_connect() {
    for text in [
        "10 \"MQTT\" 04 02 003C \"id\"",
        "10",
        "10 \"XX\" 09",
        "10 \"MQTT\" 05 03",
    ] {
        for version in VERSIONS {
            let limits = Limits {
                version: Some(version),
                packet_bytes_max: 100,
            };
            let error = decode(&packet(text), limits).expect_err("second");
            assert_eq!(kind(error), "protocol");
        }
    }
}

/// 2.1.2: type 0 is forbidden.
#[test]
fn mqtt_2_1_2_packet_type_0() {
    refuse(&[V311, V5], "malformed", &["00", "0F", "00 0001"]);
    refused(&[0, 0], V31, "malformed");
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-2]: names and levels, and how each refusal is worded.
#[test]
fn mqtt_3_1_2_2_protocol_names_and_levels() {
    let table = [
        ("10 \"mqtt\" 04", "version: name"),
        ("10 \"MQT\" 04", "version: name"),
        ("10 \"MQTTT\" 04", "version: name"),
        ("10 0000 04", "version: name"),
        ("10 \"MQTT\" 03", "version: mixed"),
        ("10 \"MQTT\" 83", "version: mixed"),
        ("10 \"MQIsdp\" 04", "version: mixed"),
        ("10 \"MQIsdp\" 05", "version: mixed"),
        ("10 \"MQIsdp\" 84", "version: mixed"),
        ("10 \"MQTT\" 00", "version: level"),
        ("10 \"MQTT\" 02", "version: level"),
        ("10 \"MQTT\" 06", "version: level"),
        ("10 \"MQTT\" 80", "version: level"),
        ("10 \"MQTT\" FF", "version: level"),
        ("10 \"MQIsdp\" 02", "version: level"),
        ("10 \"MQIsdp\" 06", "version: level"),
        // Cut short before the level: no version, so no words for it.
        ("10", "malformed"),
        ("10 00", "malformed"),
        ("10 0004 'MQT'", "malformed"),
        ("10 \"MQTT\"", "malformed"),
    ];
    for (text, expected) in table {
        refused(&packet(text), V311, expected);
        // Of what follows in a version unknown, nothing is known.
        if expected != "malformed" {
            refused(&packet(&format!("{text} FF FFFF FF")), V311, expected);
        }
    }
}

/// A CONNECT that ends early or late: 5.0 is told why, the others are not.
#[test]
fn mqtt_3_1_4_1_connect_is_validated() {
    let table = [
        ("10 \"MQTT\" 04", "malformed"),
        ("10 \"MQTT\" 05", "connect 81"),
        ("10 \"MQTT\" 05 02 003C 00", "connect 81"),
        ("10 \"MQTT\" 05 02 003C 05 21 0001", "connect 81"),
        ("10 \"MQIsdp\" 03 02 003C \"id\" 00", "malformed"),
        ("10 \"MQTT\" 04 02 003C \"id\" 00", "malformed"),
        ("10 \"MQTT\" 05 02 003C 00 \"id\" 00", "connect 81"),
        // Fields that no flag announces [MQTT-3.1.3-1].
        (
            "10 \"MQTT\" 04 02 003C \"id\" \"user\" \"pass\"",
            "malformed",
        ),
        ("10 \"MQTT\" 05 02 003C 00 \"id\" \"user\"", "connect 81"),
    ];
    for (text, expected) in table {
        refused(&packet(text), V311, expected);
    }
}

/// [MQTT-3.1.2-3]: the reserved bit of the Connect Flags; 3.1 did not reserve it.
#[test]
fn mqtt_3_1_2_3_reserved_connect_flag() {
    refused(&packet("10 \"MQTT\" 04 03 003C \"id\""), V311, "malformed");
    refused(
        &packet("10 \"MQTT\" 05 03 003C 00 \"id\""),
        V5,
        "connect 81",
    );
    accept(&[V31], &["10 \"MQIsdp\" 03 03 003C \"id\""]);
}

/// [MQTT-3.1.2-11], [MQTT-3.1.2-13]: no Will QoS or Will Retain without a Will.
#[test]
fn mqtt_3_1_2_11_will_flags_without_a_will() {
    for flags in ["0A", "12", "1A", "22", "3A"] {
        let v311 = format!("10 \"MQTT\" 04 {flags} 003C \"id\"");
        refused(&packet(&v311), V311, "malformed");
        let v5 = format!("10 \"MQTT\" 05 {flags} 003C 00 \"id\"");
        refused(&packet(&v5), V5, "connect 81");
    }
    accept(&[V31], &["10 \"MQIsdp\" 03 2A 003C \"id\""]);
}

/// [MQTT-3.1.2-12]: a Will QoS of 3.
#[test]
fn mqtt_3_1_2_12_will_qos_3() {
    refused(
        &packet("10 \"MQIsdp\" 03 1E 003C \"id\" \"w\" \"p\""),
        V31,
        "malformed",
    );
    refused(
        &packet("10 \"MQTT\" 04 1E 003C \"id\" \"w\" \"p\""),
        V311,
        "malformed",
    );
    refused(
        &packet("10 \"MQTT\" 05 1E 003C 00 \"id\" 00 \"w\" \"p\""),
        V5,
        "connect 81",
    );
}

/// 3.1.1, [MQTT-3.1.2-22]: no password without a user name; 5.0 allows it.
#[test]
fn mqtt_311_3_1_2_22_password_without_user_name() {
    refused(
        &packet("10 \"MQTT\" 04 42 003C \"id\" \"p\""),
        V311,
        "malformed",
    );
    accept(&[V5], &["10 \"MQTT\" 05 42 003C 00 \"id\" \"p\""]);
}

/// MQTT 3.1, 3.1: the Remaining Length takes precedence over the flags of user name and password.
#[test]
fn mqtt_31_user_name_announced_and_missing() {
    let table = [
        ("82", "", None, None),
        ("C2", "", None, None),
        ("C2", "\"u\"", Some("u"), None),
        ("C2", "\"u\" \"p\"", Some("u"), Some(&b"p"[..])),
    ];
    for (flags, fields, user_name, password) in table {
        let bytes = packet(&format!("10 \"MQIsdp\" 03 {flags} 003C \"id\" {fields}"));
        match decode_one(&bytes, V31) {
            Ok(Packet::Connect(connect)) => {
                assert_eq!((connect.user_name, connect.password), (user_name, password));
            }
            other => panic!("{other:?}"),
        }
    }
    refused(
        &packet("10 \"MQIsdp\" 03 82 003C \"id\" 0005 'u'"),
        V31,
        "malformed",
    );
    refused(&packet("10 \"MQTT\" 04 82 003C \"id\""), V311, "malformed");
    refused(
        &packet("10 \"MQTT\" 05 82 003C 00 \"id\""),
        V5,
        "connect 81",
    );
}

/// [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12]: strings in CONNECT; the Client Identifier has its own code.
#[test]
fn mqtt_3_1_3_4_strings_in_connect() {
    for bad in [
        "0001 00",
        "0001 FF",
        "0003 EDA080",
        "0002 610A",
        "0001 7F",
        "0003 EFBFBF",
    ] {
        refused(
            &packet(&format!("10 \"MQIsdp\" 03 02 003C {bad}")),
            V31,
            "malformed",
        );
        refused(
            &packet(&format!("10 \"MQTT\" 04 02 003C {bad}")),
            V311,
            "malformed",
        );
        refused(
            &packet(&format!("10 \"MQTT\" 05 02 003C 00 {bad}")),
            V5,
            "connect 85",
        );
        let will = format!("10 \"MQTT\" 04 06 003C \"id\" {bad} \"p\"");
        refused(&packet(&will), V311, "malformed");
        let will = format!("10 \"MQTT\" 05 06 003C 00 \"id\" 00 {bad} \"p\"");
        refused(&packet(&will), V5, "connect 81");
        let user_name = format!("10 \"MQTT\" 04 82 003C \"id\" {bad}");
        refused(&packet(&user_name), V311, "malformed");
        let user_name = format!("10 \"MQTT\" 05 82 003C 00 \"id\" {bad}");
        refused(&packet(&user_name), V5, "connect 81");
        // A password is Binary Data.
        accept(
            &[V311],
            &[&format!("10 \"MQTT\" 04 C2 003C \"id\" \"u\" {bad}")],
        );
    }
    refused(
        &packet("10 \"MQTT\" 05 02 003C 00 0005 'id'"),
        V5,
        "connect 81",
    );
    // Empty ones are the broker's to judge.
    accept(
        ALL,
        &[
            "10 \"MQIsdp\" 03 02 003C 0000",
            "10 \"MQTT\" 04 00 003C 0000",
            "10 \"MQTT\" 05 00 003C 00 0000",
        ],
    );
}

/// [MQTT-4.7.3-1], [MQTT-3.3.2-2]: a Will Topic is a Topic Name.
#[test]
fn mqtt_4_7_3_1_will_topic_is_a_topic_name() {
    for bad in ["0000", "\"a/#\"", "\"+\""] {
        let v31 = format!("10 \"MQIsdp\" 03 06 003C \"id\" {bad} \"p\"");
        refused(&packet(&v31), V31, "malformed");
        let v311 = format!("10 \"MQTT\" 04 06 003C \"id\" {bad} \"p\"");
        refused(&packet(&v311), V311, "malformed");
        let v5 = format!("10 \"MQTT\" 05 06 003C 00 \"id\" 00 {bad} \"p\"");
        refused(&packet(&v5), V5, "connect 81");
    }
}

/// [MQTT-3.2.2-1]: seven bits of the Connect Acknowledge Flags are reserved; in 3.1 all eight mean nothing.
#[test]
fn mqtt_3_2_2_1_reserved_acknowledge_flags() {
    refuse(&[V311], "malformed", &["20 02 00", "20 80 00", "20 FF 00"]);
    refuse(&[V5], "malformed", &["20 02 00 00", "20 80 00 00"]);
    accept(&[V31], &["20 02 00", "20 FF 00"]);
}

/// [MQTT-3.2.2-6]: a refusal has no session, whatever the server's flag says.
#[test]
fn mqtt_3_2_2_6_refusal_without_session() {
    for (text, version) in [("20 01 05", V311), ("20 01 87 00", V5)] {
        match decode_one(&packet(text), version) {
            Ok(Packet::Connack(connack)) => assert!(!connack.session_present),
            other => panic!("{other:?}"),
        }
    }
}

/// A server of 3.1.1 refuses a client of 5.0 in its own words: only this CONNACK has no properties.
#[test]
fn mqtt_311_3_2_2_3_connack_to_a_newer_client() {
    match decode_one(&packet("20 00 01"), V5) {
        Ok(Packet::Connack(connack)) => assert_eq!(connack.code, 0x84),
        other => panic!("{other:?}"),
    }
    refuse(&[V5], "malformed", &["20 00 00", "20 00 87", "20", "20 00"]);
    refuse(&[V5], "protocol", &["20 00 01 00", "20 00 02", "20 00 05"]);
    refuse(V3, "malformed", &["20 00 00 00", "20 00", "20"]);
}

/// [MQTT-3.3.1-2]: DUP is 0 at QoS 0.
#[test]
fn mqtt_3_3_1_2_dup_of_qos_0() {
    refuse(ALL, "malformed", &["38 \"t\" 00", "39 \"t\" 00"]);
}

/// [MQTT-3.3.1-4]: both QoS bits set.
#[test]
fn mqtt_3_3_1_4_publish_of_qos_3_is_malformed() {
    refuse(
        ALL,
        "malformed",
        &[
            "36 \"t\" 0001 00",
            "37 \"t\" 0001 00",
            "3E \"t\" 0001 00",
            "3F",
        ],
    );
}

/// [MQTT-2.2.1-2], [MQTT-2.2.1-3]: a Packet Identifier where there has to be one, and not 0.
#[test]
fn mqtt_2_2_1_3_packet_identifier_0() {
    refuse(ALL, "protocol", &["32 \"t\" 0000 00", "34 \"t\" 0000 00"]);
    refuse(
        ALL,
        "malformed",
        &["32 \"t\"", "32 \"t\" 00", "34 \"t\" 01"],
    );
    refuse(
        ALL,
        "protocol",
        &["40 0000", "50 0000", "62 0000", "70 0000"],
    );
    // At QoS 0 those bytes are payload.
    match decode_one(&packet("30 \"t\" 0000"), V311) {
        Ok(Packet::Publish(publish)) => assert_eq!(publish.payload, [0, 0]),
        other => panic!("{other:?}"),
    }
    // As in Mosquitto, malformed in the packets about subscriptions.
    refuse(
        ALL,
        "malformed",
        &[
            "82 0000 00 \"a\" 00",
            "A2 0000 00 \"a\"",
            "90 0000 00 00",
            "B0 0000 00 00",
        ],
    );
}

/// [MQTT-3.3.2-1], [MQTT-3.3.2-2], [MQTT-4.7.3-1], [MQTT-4.7.3-2]: what is no Topic Name.
#[test]
fn mqtt_3_3_2_2_topic_names() {
    let bad = [
        "30 \"+\" 00",
        "30 \"a/+\" 00",
        "30 \"#\" 00",
        "30 \"a#b\" 00",
        "30 0001 00 00",
        "30 0001 0A 00",
        "30 0001 FF 00",
        "30 0003 EDA080 00",
        "30 0003 EFBFBF 00",
        "30 0002 C285 00",
        "30 0005 't'",
        "30 00",
        "30",
    ];
    refuse(ALL, "malformed", &bad);
    let slashes =
        |count: usize| [&(count as u16).to_be_bytes()[..], &vec![b'/'; count], &[0]].concat();
    for version in VERSIONS {
        assert!(decode_one(&framed(0x30, &slashes(200)), version).is_ok());
        refused(&framed(0x30, &slashes(201)), version, "malformed");
        refused(&framed(0x30, &slashes(65_535)), version, "malformed");
    }
    accept(
        ALL,
        &[
            "30 \"/\" 00",
            "30 \" \" 00",
            "30 \"$SYS/a\" 00",
            "30 0003 EFBBBF 00",
        ],
    );
    // The longest name there is [MQTT-4.7.3-3].
    let longest = [&[0xFF, 0xFF][..], &[b'a'; 65_535], &[0]].concat();
    accept_bytes(&framed(0x30, &longest));
}

#[track_caller]
fn accept_bytes(packet: &[u8]) {
    for version in VERSIONS {
        assert!(decode_one(packet, version).is_ok());
    }
}

/// 3.3.2.1: an empty Topic Name needs a Topic Alias, which only 5.0 has.
#[test]
fn mqtt_3_3_2_1_empty_topic_needs_an_alias() {
    refuse(V3, "malformed", &["30 0000", "30 0000 'p'", "32 0000 0001"]);
    refuse(
        &[V5],
        "protocol",
        &["30 0000 00", "30 0000 02 0101", "32 0000 0001 00 'p'"],
    );
    accept(
        &[V5],
        &["30 0000 03 23 0001", "32 0000 0001 05 0101 23 0001 'p'"],
    );
}

/// 3.4.2 and 3.4.2.1 in 3.1.1: an acknowledgement is two bytes, in 5.0 with a reason code and properties behind.
#[test]
fn mqtt_3_4_2_acknowledgements() {
    refuse(
        V3,
        "malformed",
        &["40 0001 00", "50 0001 00", "62 0001 00", "70 0001 00 00"],
    );
    refuse(
        &[V5],
        "malformed",
        &[
            "40 0001 00 00 00",
            "62 0001 00 01",
            "70 0001 00 80",
            "50 00",
            "40",
        ],
    );
    // The long forms of success.
    for text in ["40 0001 00", "40 0001 00 00"] {
        assert_eq!(
            decode_one(&packet(text), V5),
            Ok(Packet::Puback(Ack::new(id(1), ReasonCode::Success)))
        );
    }
}

/// [MQTT-3.8.3-2], [MQTT-3.10.3-2]: at least one Topic Filter.
#[test]
fn mqtt_3_8_3_2_no_topic_filter() {
    refuse(V3, "protocol", &["82 0001", "A2 0001"]);
    refuse(
        &[V5],
        "protocol",
        &["82 0001 00", "A2 0001 00", "82 0001 02 0B01"],
    );
    refuse(&[V5], "malformed", &["82 0001", "A2 0001", "82 00", "A2"]);
}

/// [MQTT-3.8.3-1], [MQTT-3.10.3-1]: each is a UTF-8 Encoded String, the last one too.
#[test]
fn mqtt_3_8_3_1_filters_are_strings() {
    for bad in [
        "0001 00",
        "0001 FF",
        "0003 EDA080",
        "0001 0A",
        "0005 'a'",
        "00",
    ] {
        refused(&packet(&format!("82 0001 {bad} 00")), V311, "malformed");
        refused(
            &packet(&format!("82 0001 00 \"a\" 00 {bad}")),
            V5,
            "malformed",
        );
        refused(&packet(&format!("A2 0001 {bad}")), V311, "malformed");
        refused(&packet(&format!("A2 0001 00 \"a\" {bad}")), V5, "malformed");
    }
}

/// [MQTT-3.8.3-5], 3.8.3.1: reserved bits are malformed, values of 3 are a Protocol Error; before 5.0, all but the QoS
/// is reserved and malformed (3.1.1, [MQTT-3.8.3-4]).
#[test]
fn mqtt_3_8_3_5_subscription_options() {
    for byte in 0..=255u8 {
        let v5 = framed(0x82, &[&bytes("0001 00 \"a\"")[..], &[byte]].concat());
        let expected = match byte {
            _ if byte & 0xC0 != 0 => Some("malformed"),
            _ if byte & 3 == 3 || byte & 0x30 == 0x30 => Some("protocol"),
            _ => None,
        };
        match expected {
            Some(expected) => refused(&v5, V5, expected),
            None => assert!(decode_one(&v5, V5).is_ok(), "{byte:02X}"),
        }
        assert_eq!(
            SubscriptionOptions::from_byte(byte).is_some(),
            expected.is_none()
        );
        for &version in V3 {
            let v3 = framed(0x82, &[&bytes("0001 \"a\"")[..], &[byte]].concat());
            assert_eq!(decode_one(&v3, version).is_ok(), byte <= 2, "{byte:02X}");
        }
    }
}

/// [MQTT-3.8.3-4]: No Local on a Shared Subscription.
#[test]
fn mqtt_3_8_3_4_no_local_and_shared() {
    refuse(
        &[V5],
        "protocol",
        &[
            "82 0001 00 \"$share/g/a\" 04",
            "82 0001 00 \"a\" 04 \"$share/g/a\" 2E",
        ],
    );
    accept(
        &[V5],
        &["82 0001 00 \"$share/g/a\" 00", "82 0001 00 \"$shared\" 04"],
    );
}

/// 3.9.3, 3.11.3: as many codes as were asked for is the client's to count, but never none.
#[test]
fn mqtt_3_9_3_acknowledgements_of_subscriptions() {
    refuse(V3, "malformed", &["90 0001", "B0 0001 00", "B0 0001 80"]);
    refuse(
        &[V5],
        "malformed",
        &["90 0001 00", "B0 0001 00", "90 0001", "B0 0001", "B0 00"],
    );
    refuse(&[V5], "protocol", &["90 0001 00 00 03", "B0 0001 00 00 02"]);
}

/// 3.12, 3.13: a ping is two bytes.
#[test]
fn mqtt_3_12_ping_with_a_body() {
    refuse(ALL, "malformed", &["C0 00", "D0 00", "C0 'hello'"]);
}

/// 3.14.2: DISCONNECT has a body only in 5.0.
#[test]
fn mqtt_3_14_2_disconnect() {
    refuse(V3, "malformed", &["E0 00", "E0 04 00"]);
    refuse(&[V5], "malformed", &["E0 00 00 00", "E0 00 01", "E0 00 80"]);
    for text in ["E0", "E0 00", "E0 00 00"] {
        assert_eq!(
            decode_one(&packet(text), V5),
            Ok(Packet::Disconnect(Disconnect {
                reason_code: ReasonCode::Success,
                properties: Properties::NONE
            }))
        );
    }
}

/// 3.15: AUTH is of 5.0, and names its method unless it says nothing at all (3.15.2.2.2).
#[test]
fn mqtt_3_15_2_2_2_auth_names_its_method() {
    refuse(V3, "malformed", &["F0", "F0 00", "F0 18 04 15 \"m\""]);
    refuse(
        &[V5],
        "protocol",
        &[
            "F0 00",
            "F0 18",
            "F0 18 00",
            "F0 19 04 1F \"m\"",
            "F0 18 04 16 \"d\"",
        ],
    );
    refuse(
        &[V5],
        "malformed",
        &["F0 18 04 15 \"m\" 00", "F0 18 05 15 \"m\""],
    );
    accept(
        &[V5],
        &["F0", "F0 18 04 15 \"m\"", "F0 00 08 1F \"s\" 15 \"m\""],
    );
}
