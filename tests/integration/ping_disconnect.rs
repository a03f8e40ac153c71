//! PINGREQ, PINGRESP, DISCONNECT and AUTH (3.12 to 3.15).

use crate::harness::*;

/// A client that a will of QoS 0 to `topic` speaks for.
fn connect_with_will(broker: &Broker, version: Version, client_id: &str, topic: &str) -> Raw {
    broker.connect_with(version, connect(client_id).will(will(topic, "gone")))
}

/// A client that waits for wills on `topic`.
fn watch(broker: &Broker, topic: &str) -> Raw {
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter(topic, 0));
    watcher.expect(suback(1, &[0]));
    watcher
}

/// [MQTT-3.12.4-1] PINGRESP answers PINGREQ, each of them, in order.
#[test]
fn mqtt_3_12_4_1_pingresp_answers_pingreq() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(pingreq());
        client.expect(b"\xd0\x00");
        client.send(b"\xc0\x00\xc0\x00\xc0\x00");
        for _ in 0..3 {
            client.expect(b"\xd0\x00");
        }
    }
}

/// [MQTT-3.14.4-3] DISCONNECT with reason 0x00, in either form, discards the will.
#[test]
fn mqtt_3_14_4_3_normal_disconnect_discards_the_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let goodbyes: [(Version, &[u8]); 5] = [
        (Version::V31, b"\xe0\x00"),
        (Version::V311, b"\xe0\x00"),
        (Version::V5, b"\xe0\x00"),
        (Version::V5, b"\xe0\x01\x00"),
        (Version::V5, b"\xe0\x02\x00\x00"),
    ];
    for (version, goodbye) in goodbyes {
        let mut client = connect_with_will(&broker, version, "client", "wills");
        client.send(goodbye);
        client.expect_closed();
        watcher.fence();
    }
}

/// [MQTT-3.1.2-8] DISCONNECT with reason 0x04 asks for the will.
#[test]
fn mqtt_3_1_2_8_disconnect_with_will_message() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for reason in [
        disconnect().reason(0x04),
        disconnect().reason(0x04).with(reason_string("r")),
    ] {
        let mut client = connect_with_will(&broker, Version::V5, "client", "wills");
        client.send(reason);
        client.expect_closed();
        watcher.expect(publish("wills", "gone"));
    }
}

/// [MQTT-3.1.2-8] Only reason 0x00 holds the will back: a client that leaves with an error leaves its will.
#[test]
fn mqtt_3_1_2_8_disconnect_with_an_error() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for reason in [
        0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ] {
        let mut client = connect_with_will(&broker, Version::V5, "client", "wills");
        client.send(disconnect().reason(reason));
        client.expect_closed();
        watcher.expect(publish("wills", "gone"));
    }
}

/// [MQTT-3.14.4-1] Nothing that follows a DISCONNECT is heard.
#[test]
fn mqtt_3_14_4_1_nothing_after_disconnect_is_processed() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "late");
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        let late = publish("late", "x").encode(version);
        client.send([&b"\xe0\x00"[..], &late].concat());
        client.expect_closed();
        watcher.fence();
    }
}

/// 3.14.2.2.2: the session may be made to stay shorter or longer when leaving, but only one that stays at all.
#[test]
fn disconnect_changes_the_session_expiry() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.send(disconnect().with(session_expiry_interval(0)));
    client.expect_closed();
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    assert!(
        !client.connack.session_present,
        "it was to end with the connection"
    );
    client.send(disconnect().with(session_expiry_interval(60)));
    client.expect_closed();
    let mut client = broker.connect_with(Version::V5, connect("client").clean(false));
    assert!(
        client.connack.session_present,
        "it was to stay for a minute"
    );
    client.send(disconnect().with(session_expiry_interval(60)));
    client.expect(disconnect().reason(0x82));
    client.expect_closed();
}

/// [MQTT-3.14.2-2] A server sends no Session Expiry Interval, here when it ends by SIGTERM; it says 0x8B [MQTT-3.14.2-1]
/// and closes [MQTT-3.14.4-2].
#[test]
fn mqtt_3_14_2_2_shutdown_disconnects_with_reason() {
    let broker = Broker::start(&[]);
    let mut v3 = broker.connect_v3("v3");
    let mut v5 = broker.connect_v5("v5");
    assert!(broker.stop().success());
    v3.expect_closed();
    v5.expect(disconnect().reason(0x8B));
    v5.expect_closed();
}

/// [MQTT-4.12.0-7] AUTH from a client that named no Authentication Method is a Protocol Error.
#[test]
fn mqtt_4_12_0_7_auth_without_a_method() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    client.send(auth().reason(0x19).with(authentication_method("m")));
    client.expect(disconnect().reason(0x82));
    client.expect_closed();
    for version in [Version::V31, Version::V311] {
        let mut client = broker.connect(version, "client");
        client.send(b"\xf0\x00");
        client.expect_closed();
    }
}

/// [MQTT-3.1.2-8] The end of what a client sends is the end of its connection, and not a DISCONNECT.
#[test]
fn mqtt_3_1_2_8_end_of_stream_leaves_the_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for version in Version::ALL {
        let mut client = connect_with_will(&broker, version, "client", "wills");
        client.shutdown_send();
        client.expect_closed();
        watcher.expect(publish("wills", "gone"));
    }
}
