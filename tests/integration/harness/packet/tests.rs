//! The harness against bytes written by hand from the standards: packets, the bytes in 3.1.1, the bytes in 5.0.

use super::*;

#[test]
fn packets_as_the_standards_write_them() {
    let full_connect = connect("id")
        .clean(false)
        .keep_alive(10)
        .will(
            will("w", "bye")
                .qos(1)
                .retain()
                .with(will_delay_interval(1)),
        )
        .username("u")
        .password(b"p")
        .with(receive_maximum(2));
    let table: [(&dyn Encode, &[u8], &[u8]); 18] = [
        (
            &connect("id"),
            b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02id",
            b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02id",
        ),
        (
            &full_connect,
            b"\x10\x1c\x00\x04MQTT\x04\xec\x00\x0a\x00\x02id\x00\x01w\x00\x03bye\x00\x01u\x00\x01p",
            b"\x10\x26\x00\x04MQTT\x05\xec\x00\x0a\x03\x21\x00\x02\x00\x02id\
              \x05\x18\x00\x00\x00\x01\x00\x01w\x00\x03bye\x00\x01u\x00\x01p",
        ),
        (
            &connect("").protocol("X", 9).flags(1),
            b"\x10\x09\x00\x01X\x09\x01\x00\x00\x00\x00",
            b"\x10\x0a\x00\x01X\x09\x01\x00\x00\x00\x00\x00",
        ),
        (
            &connect("").persistent(),
            b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
            b"\x10\x12\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x0e\x10\x00\x00",
        ),
        (
            &publish("t", "hi"),
            b"\x30\x05\x00\x01thi",
            b"\x30\x06\x00\x01t\x00hi",
        ),
        (
            &publish("t", "")
                .qos(2)
                .packet_id(258)
                .retain()
                .dup()
                .with(topic_alias(3)),
            b"\x3d\x05\x00\x01t\x01\x02",
            b"\x3d\x09\x00\x01t\x01\x02\x03\x23\x00\x03",
        ),
        (&puback(1), b"\x40\x02\x00\x01", b"\x40\x02\x00\x01"),
        (
            &pubrec(1).reason(0x10),
            b"\x50\x02\x00\x01",
            b"\x50\x03\x00\x01\x10",
        ),
        (
            &pubrel(1).with(reason_string("r")),
            b"\x62\x02\x00\x01",
            b"\x62\x08\x00\x01\x00\x04\x1f\x00\x01r",
        ),
        (&pubcomp(1), b"\x70\x02\x00\x01", b"\x70\x02\x00\x01"),
        (
            &subscribe(2)
                .filter("a", 1)
                .filter("b", NO_LOCAL)
                .with(subscription_identifier(200)),
            b"\x82\x0a\x00\x02\x00\x01a\x01\x00\x01b\x04",
            b"\x82\x0e\x00\x02\x03\x0b\xc8\x01\x00\x01a\x01\x00\x01b\x04",
        ),
        (
            &suback(2, &[1, 0x80]),
            b"\x90\x04\x00\x02\x01\x80",
            b"\x90\x05\x00\x02\x00\x01\x80",
        ),
        (
            &subscribe(2)
                .filter("a", RETAIN_AS_PUBLISHED | RETAIN_IF_NEW)
                .filter("b", RETAIN_NEVER),
            b"\x82\x0a\x00\x02\x00\x01a\x18\x00\x01b\x20",
            b"\x82\x0b\x00\x02\x00\x00\x01a\x18\x00\x01b\x20",
        ),
        (
            &unsubscribe(3, &["a"]),
            b"\xa2\x05\x00\x03\x00\x01a",
            b"\xa2\x06\x00\x03\x00\x00\x01a",
        ),
        (
            &unsuback(3, &[0x11]),
            b"\xb0\x02\x00\x03",
            b"\xb0\x04\x00\x03\x00\x11",
        ),
        (&pingreq(), b"\xc0\x00", b"\xc0\x00"),
        (&pingresp(), b"\xd0\x00", b"\xd0\x00"),
        (&disconnect().reason(4), b"\xe0\x00", b"\xe0\x01\x04"),
    ];
    for (packet, v311, v5) in table {
        assert_eq!(
            packet.encode(Version::V311).escape_ascii().to_string(),
            v311.escape_ascii().to_string()
        );
        assert_eq!(
            packet.encode(Version::V5).escape_ascii().to_string(),
            v5.escape_ascii().to_string()
        );
    }
    assert_eq!(auth().reason(0x18).encode(Version::V5), b"\xf0\x01\x18");
    let v31 = connect("").encode(Version::V31);
    assert_eq!(v31, b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00");
}

#[test]
fn a_publish_reads_back() {
    let sent = publish("a/b", "payload")
        .qos(1)
        .packet_id(9)
        .with(content_type("text"));
    let bytes = sent.encode(Version::V5);
    assert_eq!(Publish::decode(&bytes, Version::V5), Some(sent));
}

#[test]
fn every_property_reads_back() {
    let all = [
        payload_format_indicator(1),
        message_expiry_interval(2),
        content_type("c"),
        response_topic("r"),
        correlation_data([0, 1]),
        subscription_identifier(268_435_455),
        session_expiry_interval(3),
        assigned_client_identifier("id"),
        server_keep_alive(4),
        authentication_method("m"),
        authentication_data([2]),
        request_problem_information(0),
        will_delay_interval(5),
        request_response_information(1),
        response_information("i"),
        server_reference("s"),
        reason_string("why"),
        receive_maximum(6),
        topic_alias_maximum(7),
        topic_alias(8),
        maximum_qos(1),
        retain_available(0),
        user_property("name", "value"),
        maximum_packet_size(9),
        wildcard_subscription_available(0),
        subscription_identifiers_available(0),
        shared_subscription_available(0),
    ];
    let bytes = [&properties(&all)[..], b"rest"].concat();
    let (read, rest) = property::take_properties(&bytes).expect("it is whole");
    assert_eq!((&read[..], rest), (&all[..], &b"rest"[..]));
    assert_eq!(
        value_of(&read, ASSIGNED_CLIENT_IDENTIFIER),
        Some(&b"id"[..])
    );
    assert_eq!(
        value_of(&read, MESSAGE_EXPIRY_INTERVAL),
        Some(&[0, 0, 0, 2][..])
    );
    assert_eq!(value_of(&read, TOPIC_ALIAS), Some(&[0, 8][..]));
}

#[test]
fn properties_compare_in_any_order_but_their_own() {
    let sorted = |packet: Publish| sort_properties(&packet.encode(Version::V5), Version::V5);
    let base = || publish("t", "x").qos(1).packet_id(1);
    let one = base()
        .with(user_property("a", "1"))
        .with(content_type("c"))
        .with(user_property("b", "2"));
    let same = base()
        .with(content_type("c"))
        .with(user_property("a", "1"))
        .with(user_property("b", "2"));
    let other = base()
        .with(content_type("c"))
        .with(user_property("b", "2"))
        .with(user_property("a", "1"));
    assert_eq!(sorted(one.clone()), sorted(same));
    assert_ne!(sorted(one), sorted(other));
}
