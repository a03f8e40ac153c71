//! Every reason code in every packet that has one (2.4), against the lists of the chapters of the packets.

use super::*;
use PacketType::*;

/// The codes of each packet, as the chapters of the packets list them, and the few more that 2.4 gives them.
const CODES: [(PacketType, &[u8]); 9] = [
    (
        Connack,
        &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
            0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    ),
    (Puback, PUBLISHED),
    (Pubrec, PUBLISHED),
    (Pubrel, &[0x00, 0x92]),
    (Pubcomp, &[0x00, 0x92]),
    (
        Suback,
        &[
            0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
        ],
    ),
    (Unsuback, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    (
        Disconnect,
        &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90,
            0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0,
            0xA1, 0xA2,
        ],
    ),
    (Auth, &[0x00, 0x18, 0x19]),
];

const PUBLISHED: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x95, 0x97, 0x99];

/// The body of a packet of `kind` that says `code`.
fn body(kind: PacketType, code: u8) -> Vec<u8> {
    match kind {
        Connack => vec![0, code, 0],
        Puback | Pubrec | Pubrel | Pubcomp => vec![0, 1, code],
        Suback | Unsuback => vec![0, 1, 0, code],
        Disconnect => vec![code],
        Auth => [&[code], &bytes("04 15 \"m\"")[..]].concat(),
        Connect | Publish | Subscribe | Unsubscribe | Pingreq | Pingresp => {
            unreachable!("they have no reason code")
        }
    }
}

/// [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2],
/// [MQTT-3.14.2-1], [MQTT-3.15.2-1]: the sender uses one of the codes of the packet.
#[test]
fn mqtt_2_4_each_packet_has_its_reason_codes() {
    for (packet_type, codes) in CODES {
        for code in 0..=255 {
            let packet = framed(packet_type.first_byte(), &body(packet_type, code));
            let read = ReasonCode::from_byte(code, packet_type);
            if codes.contains(&code) {
                let read = read.expect("listed");
                assert_eq!(read as u8, code);
                assert_eq!(read.is_error(), code >= 0x80);
                assert!(!read.text().is_empty());
                let decoded = decode_one(&packet, ProtocolVersion::V5);
                assert!(decoded.is_ok(), "{packet_type:?} {code:02X}: {decoded:?}");
            } else {
                assert_eq!(read, None, "{packet_type:?} {code:02X}");
                refused(&packet, ProtocolVersion::V5, "protocol");
            }
        }
    }
    for packet_type in [Connect, Publish, Subscribe, Unsubscribe, Pingreq, Pingresp] {
        for code in 0..=255 {
            assert_eq!(ReasonCode::from_byte(code, packet_type), None);
        }
    }
}

/// 3.1.1, [MQTT-3.9.3-2]: other return codes than 0, 1, 2 and 0x80 are reserved.
#[test]
fn mqtt_311_3_9_3_2_suback_return_codes() {
    for version in [ProtocolVersion::V31, ProtocolVersion::V311] {
        for code in 0..=255u8 {
            let packet = framed(0x90, &[0, 1, code]);
            match code {
                0 | 1 | 2 | 0x80 => assert!(decode_one(&packet, version).is_ok(), "{code}"),
                _ => refused(&packet, version, "protocol"),
            }
        }
    }
}

/// 3.1.1, 3.2.2.3: a return code for every reason that those versions can put into words.
#[test]
fn mqtt_311_3_2_2_3_return_codes() {
    for code in CODES[0].1 {
        let reason = ReasonCode::from_byte(*code, Connack).expect("listed");
        let expected = match code {
            0x00 => Some(0),
            0x84 => Some(1),
            0x85 => Some(2),
            0x88 | 0x89 => Some(3),
            0x86 => Some(4),
            0x87 | 0x8A | 0x95 => Some(5),
            _ => None,
        };
        assert_eq!(reason.connect_return_code(), expected, "{code:02X}");
    }
    // They are numbers of their own, so a client of 3.1.1 reads any byte.
    for code in 0..=255u8 {
        let packet = [0x20, 2, 0, code];
        assert_eq!(
            decode_one(&packet, ProtocolVersion::V311),
            Ok(Packet::Connack(super::Connack {
                session_present: false,
                code,
                properties: Properties::NONE
            }))
        );
    }
}

/// 4.13: what the peer is told.
#[test]
fn mqtt_4_13_reason_of_each_error() {
    let table = [
        (DecodeError::Malformed(""), 0x81),
        (DecodeError::Protocol(""), 0x82),
        (DecodeError::NotConnect(0), 0x82),
        (DecodeError::TooLarge, 0x95),
        (DecodeError::TopicAliasInvalid, 0x94),
        (
            DecodeError::UnsupportedVersion(UnsupportedVersion::Level),
            0x84,
        ),
        (
            DecodeError::Connect(ReasonCode::BadAuthenticationMethod, ""),
            0x8C,
        ),
    ];
    for (error, code) in table {
        assert_eq!(ReasonCode::from(error) as u8, code, "{error:?}");
    }
    assert_eq!(
        DecodeError::NotConnect(0xC0).to_string(),
        "first packet not CONNECT"
    );
}
