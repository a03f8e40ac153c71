//! Tests of the client's half of the protocol: packets in, packets and what -d tells out.

use super::*;
use crate::cli::client::options::{self, Environment, Options, Request};
use crate::mqtt::SubscriptionOptions;

fn options(version: ProtocolVersion) -> Options {
    let words = match version {
        ProtocolVersion::V5 => "-t a -i me -d -M 2 -V 5",
        _ => "-t a -i me -d -M 2",
    };
    let arguments: Vec<_> = words.split(' ').map(Into::into).collect();
    let environment = Environment {
        config_home: None,
        home: None,
        process_id: 1,
        random: [0; 18],
        errors_to_terminal: false,
        check_format: &|_| Ok(()),
    };
    match options::parse(options::Tool::Subscribe, "sub", &arguments, &environment) {
        Ok(Request::Run(options)) => *options,
        _ => panic!("{words} is good"),
    }
}

/// What a tool heard.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Connected(u8),
    Message(String, Vec<u8>),
    Subscribed(Vec<u8>),
    Published(u16, u8),
}

#[derive(Default)]
struct Tool(Vec<Heard>);

impl Handler for Tool {
    fn connected(&mut self, _session: &mut Session, connack: &Connack<'_>) {
        self.0.push(Heard::Connected(connack.code));
    }

    fn message(&mut self, _session: &mut Session, publish: &Publish<'_>) {
        let (topic, payload) = (publish.topic.to_owned(), publish.payload.to_vec());
        self.0.push(Heard::Message(topic, payload));
    }

    fn subscribed(&mut self, _session: &mut Session, _packet_id: PacketId, codes: &[u8]) {
        self.0.push(Heard::Subscribed(codes.to_vec()));
    }

    fn published(&mut self, _session: &mut Session, outcome: &Ack<'_>) {
        let (packet_id, code) = (outcome.packet_id.get(), outcome.reason_code as u8);
        self.0.push(Heard::Published(packet_id, code));
    }
}

/// A session and its tool, and what they say.
struct Lab {
    session: Session,
    tool: Tool,
}

impl Lab {
    fn new(version: ProtocolVersion) -> Lab {
        let mut lab = Lab {
            session: Session::new(&options(version), Output::kept()),
            tool: Tool::default(),
        };
        lab.session.begin();
        lab
    }

    fn connected(version: ProtocolVersion) -> Lab {
        let mut lab = Lab::new(version);
        lab.connack(&PropertyBuffer::new());
        lab.forget();
        lab
    }

    fn connack(&mut self, properties: &PropertyBuffer) {
        let mut bytes = Vec::new();
        let connack = Connack {
            session_present: false,
            code: 0,
            properties: properties.as_properties(),
        };
        connack.encode(self.session.version(), &mut bytes);
        self.take(&bytes).expect("a CONNACK may come");
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let limits = mqtt::Limits {
            version: Some(self.session.version()),
            packet_bytes_max: u32::MAX,
        };
        let (packet, len) = mqtt::decode(bytes, limits)?.expect("whole");
        assert_eq!(len, bytes.len());
        self.session.handle(packet, bytes, &mut self.tool)
    }

    fn ack(&mut self, kind: PacketType, packet_id: u16, reason_code: ReasonCode) {
        let packet_id = PacketId(packet_id.try_into().expect("not 0"));
        let mut bytes = Vec::new();
        Ack::new(packet_id, reason_code).encode(kind, self.session.version(), &mut bytes);
        self.take(&bytes).expect("an acknowledgement may come");
    }

    fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) -> u16 {
        self.session
            .publish(topic, payload, qos, false, Properties::NONE)
            .expect("it may be sent")
            .get()
    }

    /// What goes to the server.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        self.session
            .sending()
            .write_to(|bytes| {
                sent.extend_from_slice(bytes);
                Ok(bytes.len())
            })
            .expect("a Vec takes everything");
        sent
    }

    /// What -d told.
    fn told(&mut self) -> Vec<String> {
        let bytes = std::mem::take(self.session.out.bytes());
        let text = String::from_utf8(bytes).expect("text");
        text.lines()
            .map(|line| line.trim_start_matches("Client me ").to_owned())
            .collect()
    }

    fn forget(&mut self) {
        self.sent();
        self.told();
        self.tool.0.clear();
    }
}

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

#[test]
fn what_debug_tells() {
    let mut lab = Lab::new(V5);
    let mut properties = PropertyBuffer::new();
    properties.push(Property::AssignedClientIdentifier("you"));
    lab.connack(&properties);
    let filters = [
        ("a/#", SubscriptionOptions::new(QoS::ExactlyOnce)),
        (
            "b",
            SubscriptionOptions::new(QoS::AtMostOnce).with_retain_as_published(true),
        ),
    ];
    lab.session.subscribe(&filters, Properties::NONE);
    lab.session.unsubscribe("c", Properties::NONE);
    lab.publish("a/b", b"hi", QoS::ExactlyOnce);
    lab.ack(PacketType::Pubrec, 3, ReasonCode::Success);
    lab.ack(PacketType::Pubcomp, 3, ReasonCode::Success);
    lab.take(&[0x30, 7, 0, 1, b'a', 0, b'x', b'y', b'z'])
        .expect("a PUBLISH");
    lab.take(&[0xD0, 0]).expect("PINGRESP");
    assert!(lab.session.ping());
    lab.session.disconnect(ReasonCode::Success);
    assert_eq!(
        lab.told(),
        [
            "sending CONNECT",
            "Client you received CONNACK (0)",
            "Client you sending SUBSCRIBE (Mid: 1, Topic: a/#, QoS: 2, Options: 0x00)",
            "Client you sending SUBSCRIBE (Mid: 1, Topic: b, QoS: 0, Options: 0x08)",
            "Client you sending UNSUBSCRIBE (Mid: 2, Topic: c)",
            "Client you sending PUBLISH (d0, q2, r0, m3, 'a/b', ... (2 bytes))",
            "Client you received PUBREC (Mid: 3)",
            "Client you sending PUBREL (m3)",
            "Client you received PUBCOMP (Mid: 3, RC:0)",
            "Client you received PUBLISH (d0, q0, r0, m0, 'a', ... (3 bytes))",
            "Client you received PINGRESP",
            "Client you sending PINGREQ",
            "Client you sending DISCONNECT",
        ]
    );
}

#[test]
fn no_more_on_their_way_than_the_window() {
    let mut lab = Lab::connected(V311);
    for _ in 0..5 {
        lab.publish("a", b"x", QoS::AtLeastOnce);
    }
    assert!(!lab.session.has_room());
    assert_eq!(lab.sent().len(), 2 * 8);
    lab.ack(PacketType::Puback, 2, ReasonCode::Success);
    lab.ack(PacketType::Puback, 1, ReasonCode::Success);
    // One that waits has no answer yet, and one that is done has had its own.
    lab.ack(PacketType::Puback, 5, ReasonCode::Success);
    lab.ack(PacketType::Puback, 1, ReasonCode::Success);
    assert_eq!(lab.sent().len(), 2 * 8);
    assert_eq!(lab.tool.0, [Heard::Published(2, 0), Heard::Published(1, 0)]);
    lab.ack(PacketType::Puback, 3, ReasonCode::Success);
    lab.ack(PacketType::Puback, 4, ReasonCode::Success);
    assert_eq!(lab.sent().len(), 8);
    assert!(!lab.session.has_sent_everything());
    lab.ack(PacketType::Puback, 5, ReasonCode::Success);
    assert!(lab.session.has_sent_everything() && lab.session.has_room());
}

#[test]
fn mqtt_3_3_4_9_the_servers_receive_maximum() {
    let mut lab = Lab::new(V5);
    let mut properties = PropertyBuffer::new();
    properties.push(Property::ReceiveMaximum(1));
    lab.connack(&properties);
    lab.forget();
    lab.publish("a", b"x", QoS::AtLeastOnce);
    lab.publish("a", b"x", QoS::AtLeastOnce);
    assert_eq!(lab.sent().len(), 9);
}

#[test]
fn mqtt_4_4_0_1_resent_in_order_on_a_new_connection() {
    let mut lab = Lab::connected(V311);
    lab.publish("a", b"1", QoS::ExactlyOnce);
    lab.publish("a", b"2", QoS::AtLeastOnce);
    lab.publish("a", b"3", QoS::AtLeastOnce);
    lab.ack(PacketType::Pubrec, 1, ReasonCode::Success);
    lab.session.end();
    lab.session.begin();
    lab.forget();
    lab.connack(&PropertyBuffer::new());
    assert_eq!(
        lab.told(),
        [
            "received CONNACK (0)",
            "sending PUBREL (m1)",
            "sending PUBLISH (d1, q1, r0, m2, 'a', ... (1 bytes))",
        ]
    );
    let sent = lab.sent();
    assert_eq!(
        sent,
        [&[0x62, 2, 0, 1][..], &[0x3A, 6, 0, 1, b'a', 0, 2, b'2']].concat()
    );
    lab.ack(PacketType::Pubcomp, 1, ReasonCode::Success);
    // It waited on the first connection: this is its first time.
    assert_eq!(lab.sent(), [0x32, 6, 0, 1, b'a', 0, 3, b'3']);
}

#[test]
fn mqtt_4_3_3_11_qos_2_is_shown_once() {
    let mut lab = Lab::connected(V311);
    let publish = [0x34, 6, 0, 1, b'a', 0, 9, b'x'];
    lab.take(&publish).expect("a PUBLISH");
    let mut again = publish;
    again[0] |= 8;
    lab.take(&again).expect("the same again");
    assert_eq!(lab.tool.0, []);
    lab.ack(PacketType::Pubrel, 9, ReasonCode::Success);
    lab.ack(PacketType::Pubrel, 9, ReasonCode::Success);
    assert_eq!(lab.tool.0, [Heard::Message("a".to_owned(), b"x".to_vec())]);
    let acks: [u8; 16] = [0x50, 2, 0, 9, 0x50, 2, 0, 9, 0x70, 2, 0, 9, 0x70, 2, 0, 9];
    assert_eq!(lab.sent(), acks);
    // The identifier is free again.
    lab.take(&publish).expect("a PUBLISH");
    lab.ack(PacketType::Pubrel, 9, ReasonCode::Success);
    assert_eq!(lab.tool.0.len(), 2);
}

#[test]
fn a_refused_message_ends_its_exchange() {
    let mut lab = Lab::connected(V5);
    lab.publish("a", b"1", QoS::ExactlyOnce);
    lab.publish("a", b"2", QoS::AtLeastOnce);
    lab.forget();
    lab.ack(PacketType::Pubrec, 1, ReasonCode::NotAuthorized);
    lab.ack(PacketType::Puback, 2, ReasonCode::QuotaExceeded);
    assert_eq!(
        lab.tool.0,
        [Heard::Published(1, 0x87), Heard::Published(2, 0x97)]
    );
    assert_eq!(lab.sent(), [0u8; 0]);
    assert!(lab.session.has_sent_everything());
}

#[test]
fn qos_0_is_done_when_it_has_left() {
    let mut lab = Lab::connected(V311);
    lab.publish("a", b"1", QoS::AtMostOnce);
    assert!(!lab.session.has_sent_everything() && lab.tool.0.is_empty());
    lab.session.sent(&mut lab.tool);
    assert_eq!(lab.tool.0, [Heard::Published(1, 0)]);
    assert!(lab.session.has_sent_everything());
}

#[test]
fn mqtt_3_3_2_8_topic_aliases_of_the_server() {
    let mut lab = Lab::connected(V5);
    let alias = [3, 0x23, 0, 7];
    let named = [&[0x32, 10, 0, 1, b'a', 0, 1][..], &alias, b"x"].concat();
    let unnamed = [&[0x34, 9, 0, 0, 0, 2][..], &alias, b"y"].concat();
    assert!(matches!(lab.take(&unnamed), Err(Lost::Protocol)));
    lab.take(&named).expect("an alias with its topic");
    lab.take(&unnamed).expect("an alias alone");
    lab.ack(PacketType::Pubrel, 2, ReasonCode::Success);
    let message = |payload: &[u8]| Heard::Message("a".to_owned(), payload.to_vec());
    assert_eq!(lab.tool.0, [message(b"x"), message(b"y")]);
    // It holds for one connection.
    lab.session.end();
    lab.session.begin();
    lab.connack(&PropertyBuffer::new());
    assert!(matches!(lab.take(&unnamed), Err(Lost::Protocol)));
}

#[test]
fn what_the_server_does_not_take() {
    let mut lab = Lab::new(V5);
    let mut properties = PropertyBuffer::new();
    properties.push(Property::MaximumQoS(1));
    properties.push(Property::RetainAvailable(0));
    properties.push(Property::MaximumPacketSize(10));
    properties.push(Property::ServerKeepAlive(7));
    lab.connack(&properties);
    assert_eq!(lab.session.keep_alive(), 7);
    let mut publish = |payload: &[u8], qos, retain| {
        (lab.session)
            .publish("a", payload, qos, retain, Properties::NONE)
            .err()
    };
    for (payload, qos, retain, expected) in [
        (
            &b"x"[..],
            QoS::ExactlyOnce,
            false,
            Some(PublishError::QoSNotSupported),
        ),
        (
            b"x",
            QoS::AtMostOnce,
            true,
            Some(PublishError::RetainNotSupported),
        ),
        (b"xxxx", QoS::AtMostOnce, false, None),
        (
            b"xxxxx",
            QoS::AtMostOnce,
            false,
            Some(PublishError::PacketTooLarge),
        ),
        (
            b"xxx",
            QoS::AtLeastOnce,
            false,
            Some(PublishError::PacketTooLarge),
        ),
    ] {
        assert_eq!(
            publish(payload, qos, retain),
            expected,
            "{payload:?} {qos:?} {retain}"
        );
    }
}

#[test]
fn mqtt_2_2_1_3_identifiers_that_are_in_use_are_passed_over() {
    let mut lab = Lab::connected(V311);
    assert_eq!(lab.publish("a", b"", QoS::AtLeastOnce), 1);
    for _ in 0..65_534 {
        lab.publish("a", b"", QoS::AtMostOnce);
        lab.session.sent(&mut lab.tool);
        lab.forget();
    }
    assert_eq!(lab.publish("a", b"", QoS::AtLeastOnce), 2);
    lab.ack(PacketType::Puback, 1, ReasonCode::Success);
    lab.ack(PacketType::Puback, 2, ReasonCode::Success);
    assert_eq!(lab.tool.0, [Heard::Published(1, 0), Heard::Published(2, 0)]);
}

#[test]
fn mqtt_3_14_4_2_nothing_behind_disconnect() {
    let mut lab = Lab::connected(V311);
    lab.session.disconnect(ReasonCode::Success);
    lab.session.disconnect(ReasonCode::Success);
    let late = lab
        .session
        .publish("a", b"", QoS::AtMostOnce, false, Properties::NONE);
    assert_eq!(late, Err(PublishError::NotConnected));
    assert_eq!(lab.sent(), [0xE0, 0]);
}

#[test]
fn a_ping_that_is_not_answered() {
    let mut lab = Lab::new(V311);
    assert!(!lab.session.ping(), "CONNACK is waited for");
    lab.connack(&PropertyBuffer::new());
    lab.forget();
    assert!(lab.session.ping());
    assert!(!lab.session.ping());
    lab.take(&[0xD0, 0]).expect("PINGRESP");
    assert!(lab.session.ping());
    assert_eq!(lab.sent(), [0xC0, 0, 0xC0, 0]);
}

#[test]
fn what_may_not_come() {
    let mut lab = Lab::new(V311);
    assert!(
        matches!(lab.take(&[0xD0, 0]), Err(Lost::Protocol)),
        "before CONNACK"
    );
    lab.connack(&PropertyBuffer::new());
    let connack = [0x20, 2, 0, 0];
    assert!(
        matches!(lab.take(&connack), Err(Lost::Protocol)),
        "CONNACK twice"
    );
    assert!(
        matches!(lab.take(&[0xC0, 0]), Err(Lost::Protocol)),
        "PINGREQ"
    );
    let mut lab = Lab::new(V5);
    let refused = [0x20, 3, 0, 0x87, 0];
    assert!(matches!(lab.take(&refused), Err(Lost::Protocol)));
    assert_eq!(lab.tool.0, [Heard::Connected(0x87)]);
    let mut lab = Lab::connected(V5);
    assert!(matches!(
        lab.take(&[0xE0, 1, 0x8E]),
        Err(Lost::Disconnected)
    ));
    assert_eq!(lab.told(), ["Received DISCONNECT (142)"]);
}
