//! CONNECT and CONNACK (3.1, 3.2): beginning, refusing, resuming and taking over.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::*;

/// What a broker that was told nothing else says to every client of 5.0.
fn usual_properties() -> Vec<Property> {
    vec![
        topic_alias_maximum(10),
        maximum_packet_size(2_000_000),
        receive_maximum(20),
    ]
}

/// Sends this CONNECT and expects to be refused with this reason: a CONNACK without Session Present [MQTT-3.2.2-6], no
/// DISCONNECT [MQTT-3.14.0-1], then the end [MQTT-3.2.2-7], [MQTT-4.13.2-1]. Of 3.1.1: [MQTT-3.2.2-4], [MQTT-3.2.2-5].
#[track_caller]
fn expect_refusal(broker: &Broker, version: Version, packet: impl Encode, reason: u8) {
    let mut client = broker.open(version);
    client.send(packet);
    let connack = client.expect_connack();
    let expected = Connack {
        reason,
        ..Connack::default()
    };
    assert_eq!(connack, expected);
    client.expect_closed();
}

/// Sends this CONNECT and expects the end without an answer.
#[track_caller]
fn expect_close(broker: &Broker, version: Version, packet: impl Encode) {
    let mut client = broker.open(version);
    client.send(packet);
    client.expect_closed();
}

/// [MQTT-3.1.0-1] The first packet must be CONNECT; anything else ends the connection without an answer.
#[test]
fn mqtt_3_1_0_1_first_packet_is_connect() {
    let broker = Broker::start(&[]);
    let others: [&dyn Encode; 9] = [
        &publish("t", "x"),
        &subscribe(1).filter("t", 0),
        &unsubscribe(1, &["t"]),
        &puback(1),
        &pubrec(1),
        &pubrel(1),
        &pubcomp(1),
        &pingreq(),
        &disconnect(),
    ];
    for version in Version::ALL {
        for packet in others {
            expect_close(&broker, version, packet.encode(version));
        }
    }
    broker.wait_for_log("First packet not CONNECT (30).");
    expect_close(&broker, Version::V5, auth().reason(0x18));
    expect_close(
        &broker,
        Version::V5,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
}

/// [MQTT-3.1.0-2] A second CONNECT is a Protocol Error.
#[test]
fn mqtt_3_1_0_2_second_connect_is_a_protocol_error() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(connect("client"));
        if version == Version::V5 {
            client.expect(disconnect().reason(0x82));
        }
        client.expect_closed();
    }
}

/// [MQTT-3.1.2-1] Each Protocol Name has its own Protocol Version, and no other name is known.
#[test]
fn mqtt_3_1_2_1_protocol_name() {
    let broker = Broker::start(&[]);
    for name in ["", "mqtt", "MQTTT", "MQIsd", "HTTP"] {
        expect_close(&broker, Version::V311, connect("client").protocol(name, 4));
    }
    for name in ["mqtt", "MQTT5"] {
        expect_close(&broker, Version::V5, connect("client").protocol(name, 5));
    }
    for (name, level) in [("MQIsdp", 4), ("MQTT", 3)] {
        expect_refusal(
            &broker,
            Version::V311,
            connect("client").protocol(name, level),
            1,
        );
    }
}

/// [MQTT-3.1.2-2] An unknown Protocol Version is answered by 0x84, in the form of 5.0.
#[test]
fn mqtt_3_1_2_2_protocol_version() {
    let broker = Broker::start(&[]);
    for level in [0, 1, 2, 6, 7, 0x7F, 0xFF] {
        let mut client = broker.open(Version::V5);
        client.send(connect("client").protocol("MQTT", level));
        client.expect(b"\x20\x03\x00\x84\x00");
        client.expect_closed();
    }
}

/// [MQTT-3.1.2-3] The reserved flag is 0.
#[test]
fn mqtt_3_1_2_3_reserved_connect_flag() {
    let broker = Broker::start(&[]);
    expect_close(&broker, Version::V311, connect("client").flags(0x03));
    expect_refusal(&broker, Version::V5, connect("client").flags(0x03), 0x81);
}

/// [MQTT-3.1.2-4] A clean start discards the session that was there.
#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect_with(version, connect("client").persistent());
        client.send(subscribe(1).filter("kept", 1));
        client.expect(suback(1, &[1]));
        client.send(disconnect());
        client.expect_closed();

        let mut client = broker.connect(version, "client");
        assert!(!client.connack.session_present);
        client.send(publish("kept", "x"));
        client.fence();
        client.send(disconnect());
        client.expect_closed();

        let client = broker.connect_with(version, connect("client").clean(false));
        assert!(
            !client.connack.session_present,
            "a clean session must not stay"
        );
        drop(client);
        broker.connect(version, "client").fence();
    }
}

/// [MQTT-3.1.2-5] Without a clean start the session goes on: its subscriptions and what waits for it.
/// [MQTT-3.1.3-2] The Client Identifier is what it is found by.
#[test]
fn mqtt_3_1_2_5_session_is_resumed() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let id = format!("client-{version:?}");
        let mut client = broker.connect_with(version, connect(&id).persistent());
        assert!(!client.connack.session_present);
        client.send(subscribe(1).filter("kept", 1));
        client.expect(suback(1, &[1]));
        client.send(disconnect());
        client.expect_closed();

        let mut other = broker.connect_v3("other");
        other.send(publish("kept", "waited").qos(1).packet_id(1));
        other.expect(puback(1));

        let mut client = broker.connect_with(version, connect(&id).persistent());
        assert_eq!(client.connack.session_present, version != Version::V31);
        client.expect(publish("kept", "waited").qos(1).packet_id(1));
        client.send(puback(1));
        client.send(publish("kept", "at once"));
        client.expect(publish("kept", "at once"));
        client.send(unsubscribe(2, &["kept"]));
        client.expect(unsuback(2, &[0]));
    }
}

/// [MQTT-3.1.2-6] Without a clean start and without a session, a new one begins.
#[test]
fn mqtt_3_1_2_6_no_session_to_resume() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let client = broker.connect_with(version, connect("new").clean(false));
        assert!(!client.connack.session_present);
        drop(client);
        broker.connect(version, "new").fence();
    }
}

/// [MQTT-3.1.2-23] In 5.0 the session stays for the Session Expiry Interval: none, some, or forever.
/// [MQTT-4.1.0-2] Then it is discarded.
#[test]
fn mqtt_3_1_2_23_session_expiry_interval() {
    let broker = Broker::start(&[]);
    let resumes = |id: &str| {
        let connect = connect(id)
            .clean(false)
            .with(session_expiry_interval(u32::MAX));
        broker
            .connect_with(Version::V5, connect)
            .connack
            .session_present
    };
    let leave = |id: &str, expiry: Option<u32>| {
        let mut packet = connect(id).clean(false);
        if let Some(seconds) = expiry {
            packet = packet.with(session_expiry_interval(seconds));
        }
        let mut client = broker.connect_with(Version::V5, packet);
        client.send(disconnect());
        client.expect_closed();
    };
    leave("absent", None);
    leave("zero", Some(0));
    leave("short", Some(1));
    leave("long", Some(100));
    leave("never", Some(u32::MAX));
    assert!(!resumes("absent"));
    assert!(!resumes("zero"));
    assert!(resumes("long"));
    assert!(resumes("never"));
    // An expiry is only seen by looking, and looking resumes: so look once, when it is surely over.
    thread::sleep(Duration::from_millis(2500));
    assert!(!resumes("short"));
    assert!(resumes("never"), "it was closed without DISCONNECT");
}

/// [MQTT-3.1.3-5] Client identifiers of letters and digits are allowed, and longer ones and others too.
#[test]
fn mqtt_3_1_3_5_client_identifiers() {
    let broker = Broker::start(&[]);
    let longest = "x".repeat(65_535);
    for id in [
        "a",
        "0123456789abcdefghijklm",
        "NOPQRSTUVWXYZnopqrstuvw",
        "sn\u{f6}/+#$ \u{1f98e}",
        &longest,
    ] {
        for version in Version::ALL {
            broker.connect(version, id).fence();
        }
    }
}

/// [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16] A client without an identifier is given a new one, and told.
#[test]
fn mqtt_3_2_2_16_assigned_client_identifier() {
    let broker = Broker::start(&[]);
    let assigned: Vec<String> = (0..2)
        .map(|_| {
            let client = broker.connect_v5("");
            let id = value_of(&client.connack.properties, ASSIGNED_CLIENT_IDENTIFIER);
            String::from_utf8(id.expect("it was assigned").to_vec()).expect("it is text")
        })
        .collect();
    assert_ne!(assigned[0], assigned[1]);
    for id in &assigned {
        let uuid = id.strip_prefix("auto-").expect("the default prefix");
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        let upper_hex = |c: char| matches!(c, '0'..='9' | 'A'..='F' | '-');
        assert!(uuid.chars().all(upper_hex), "{id}");
    }
    let packet = connect("").clean(false).with(session_expiry_interval(60));
    let client = broker.connect_with(Version::V5, packet);
    let id = value_of(&client.connack.properties, ASSIGNED_CLIENT_IDENTIFIER).map(<[u8]>::to_vec);
    drop(client);
    let id = String::from_utf8(id.expect("it was assigned")).expect("it is text");
    let client = broker.connect_with(Version::V5, connect(&id).clean(false));
    assert!(
        client.connack.session_present,
        "the session has the identifier that was assigned"
    );
    assert_eq!(
        value_of(&client.connack.properties, ASSIGNED_CLIENT_IDENTIFIER),
        None
    );
}

/// `auto_id_prefix` begins the identifiers that are assigned.
#[test]
fn assigned_client_identifier_has_the_prefix() {
    let broker = Broker::start(&["auto_id_prefix sensor-"]);
    let client = broker.connect_v5("");
    let id = value_of(&client.connack.properties, ASSIGNED_CLIENT_IDENTIFIER);
    assert!(id.expect("it was assigned").starts_with(b"sensor-"));
}

/// [MQTT-3.1.3-7] of 3.1.1: no identifier is allowed with a clean session.
#[test]
fn mqtt311_3_1_3_7_no_identifier_with_clean_session() {
    let broker = Broker::start(&[]);
    broker.connect_v3("").fence();
}

/// [MQTT-3.1.3-8] of 3.1.1: no identifier and no clean session is refused with return code 2.
#[test]
fn mqtt311_3_1_3_8_no_identifier_without_clean_session() {
    let broker = Broker::start(&[]);
    expect_refusal(&broker, Version::V311, connect("").clean(false), 2);
    expect_refusal(&broker, Version::V31, connect("").clean(false), 2);
    expect_refusal(&broker, Version::V31, connect(""), 2);
}

/// `allow_zero_length_clientid false` refuses to assign identifiers.
#[test]
fn zero_length_identifiers_can_be_refused() {
    let broker = Broker::start(&["allow_zero_length_clientid false"]);
    expect_refusal(&broker, Version::V311, connect(""), 2);
    expect_refusal(&broker, Version::V5, connect(""), 0x80);
}

/// [MQTT-3.1.4-1] A CONNECT that does not match its format is refused: flags without their fields [MQTT-3.1.2-9],
/// [MQTT-3.1.2-17], [MQTT-3.1.2-19], or fields without their flags [MQTT-3.1.2-16], [MQTT-3.1.2-18]. For the password
/// these are [MQTT-3.1.2-21] and [MQTT-3.1.2-20] of 3.1.1.
#[test]
fn mqtt_3_1_4_1_connect_must_match_its_format() {
    let broker = Broker::start(&[]);
    let body = |text: &[u8]| packet(0x10, text);
    for flags in [0x06, 0x82, 0x42, 0xC2] {
        expect_close(&broker, Version::V311, connect("client").flags(flags));
        expect_refusal(&broker, Version::V5, connect("client").flags(flags), 0x81);
    }
    let without_flags = connect("client")
        .username("user")
        .password("secret")
        .flags(0x02);
    expect_close(&broker, Version::V311, without_flags.clone());
    expect_refusal(&broker, Version::V5, without_flags, 0x81);
    expect_close(
        &broker,
        Version::V311,
        body(b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02idx"),
    );
    expect_refusal(
        &broker,
        Version::V5,
        body(b"\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02idx"),
        0x81,
    );
}

/// [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13] Will QoS and Will Retain are for wills; the QoS is never 3.
#[test]
fn mqtt_3_1_2_11_will_flags() {
    let broker = Broker::start(&[]);
    for flags in [0x0A, 0x12, 0x22] {
        expect_close(&broker, Version::V311, connect("client").flags(flags));
        let mut client = broker.open(Version::V5);
        client.send(connect("client").flags(flags));
        // The standard forbids it without saying which of the two errors it is.
        assert!(matches!(client.expect_connack().reason, 0x81 | 0x82));
        client.expect_closed();
    }
    let qos_3 = || connect("client").will(will("w", "x").qos(3));
    expect_close(&broker, Version::V311, qos_3());
    expect_refusal(&broker, Version::V5, qos_3(), 0x81);
}

/// [MQTT-3.1.2-22] of 3.1.1: no password without a user name; 5.0 allows it.
#[test]
fn mqtt311_3_1_2_22_password_without_user() {
    let broker = Broker::start(&[]);
    expect_close(&broker, Version::V311, connect("client").password("secret"));
    broker
        .connect_with(Version::V5, connect("client").password("secret"))
        .fence();
    let both = connect("client").username("user").password("secret");
    broker.connect_with(Version::V311, both.clone()).fence();
    broker.connect_with(Version::V5, both).fence();
}

/// [MQTT-3.1.4-2] Where anonymous clients are not allowed, 3.x answers 5 and 5.0 answers 0x87.
#[test]
fn mqtt_3_1_4_2_anonymous_clients_can_be_refused() {
    let broker = Broker::start(&["allow_anonymous false"]);
    expect_refusal(&broker, Version::V31, connect("client"), 5);
    expect_refusal(&broker, Version::V311, connect("client"), 5);
    expect_refusal(&broker, Version::V5, connect("client"), 0x87);
}

/// [MQTT-3.1.4-3] The same identifier again takes over: the old connection is told 0x8E and closed.
#[test]
fn mqtt_3_1_4_3_take_over() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut old = broker.connect(version, "client");
        let mut new = broker.connect(version, "client");
        if version == Version::V5 {
            old.expect(disconnect().reason(0x8E));
        }
        old.expect_closed();
        new.fence();
    }
}

/// [MQTT-3.1.4-4] Taking over looks at Clean Start too: a session goes on with its messages, or is discarded.
#[test]
fn mqtt_3_1_4_4_take_over_keeps_the_session() {
    let broker = Broker::start(&[]);
    let mut old = broker.connect_with(Version::V5, connect("client").persistent());
    old.send(subscribe(1).filter("t", 1));
    old.expect(suback(1, &[1]));
    old.send(publish("t", "unacknowledged").qos(1).packet_id(9));
    let mut delivered = old.expect_publish();
    old.expect(puback(9));

    let mut new = broker.connect_with(Version::V5, connect("client").persistent());
    assert!(new.connack.session_present);
    old.expect(disconnect().reason(0x8E));
    delivered.dup = true;
    assert_eq!(new.expect_publish(), delivered);
    new.fence();

    let mut clean = broker.connect_v5("client");
    assert!(!clean.connack.session_present);
    new.expect(disconnect().reason(0x8E));
    clean.send(publish("t", "not subscribed"));
    clean.fence();
}

/// [MQTT-3.1.4-5] What a client sends right behind its CONNECT is handled, after the CONNACK.
#[test]
fn mqtt_3_1_4_5_packets_right_behind_connect() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.open(version);
        let together = [
            connect("eager").encode(version),
            subscribe(1).filter("t", 0).encode(version),
            publish("t", "x").encode(version),
        ];
        client.send(together.concat());
        assert_eq!(client.expect_connack().reason, 0);
        client.expect(suback(1, &[0]));
        client.expect(publish("t", "x"));
    }
}

/// [MQTT-3.1.4-6] What follows a CONNECT that is refused is not.
#[test]
fn mqtt_3_1_4_6_nothing_behind_a_refused_connect() {
    let broker = Broker::start(&["allow_zero_length_clientid false"]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("t", 0));
    watcher.expect(suback(1, &[0]));
    for version in [Version::V311, Version::V5] {
        let mut client = broker.open(version);
        let together = [
            connect("").encode(version),
            publish("t", "x").encode(version),
        ];
        client.send(together.concat());
        // Closing with unread bytes resets the connection, so that even the CONNACK may be lost.
        assert!(client.drain_until_closed().is_some());
        watcher.fence();
    }
}

/// A CONNECT that comes byte by byte, or cut anywhere, is the same CONNECT.
#[test]
fn connect_in_pieces() {
    let broker = Broker::start(&[]);
    let packet = connect("pieces")
        .will(will("w", "x"))
        .username("u")
        .encode(Version::V5);
    let mut client = broker.open(Version::V5);
    let (last, first) = packet.split_last().expect("it has bytes");
    for byte in first {
        client.send([*byte]);
        thread::sleep(Duration::from_millis(1));
    }
    client.expect_silence(Duration::from_millis(100));
    client.send([*last]);
    assert_eq!(client.expect_connack().reason, 0);
    client.fence();
}

/// [MQTT-3.2.0-1], [MQTT-3.2.0-2] One CONNACK of success, before any other packet.
#[test]
fn mqtt_3_2_0_1_connack_comes_first_and_once() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.fence();
    }
}

/// [MQTT-3.2.2-1] CONNACK in its bytes: two in 3.x; in 5.0 the broker's limits, always in the same order.
#[test]
fn mqtt_3_2_2_1_connack_bytes() {
    let broker = Broker::start(&[]);
    for version in [Version::V31, Version::V311] {
        let mut client = broker.open(version);
        client.send(connect("client"));
        assert_eq!(client.expect_packet(), b"\x20\x02\x00\x00");
    }
    let mut client = broker.open(Version::V5);
    client.send(connect("client"));
    let expected = [&b"\x20\x0e\x00\x00"[..], &properties(&usual_properties())].concat();
    assert_eq!(client.expect_packet(), expected);
}

/// The broker's limits are said to a client whatever limits it named itself.
#[test]
fn connack_properties_do_not_depend_on_the_client() {
    let broker = Broker::start(&[]);
    let packet = connect("client")
        .with(receive_maximum(1))
        .with(maximum_packet_size(500))
        .with(topic_alias_maximum(3))
        .with(request_problem_information(0))
        .with(user_property("name", "value"));
    let client = broker.connect_with(Version::V5, packet);
    assert_eq!(client.connack.properties, usual_properties());
}

/// [MQTT-3.2.2-2] Session Present is 0 after a clean start, though there was a session.
#[test]
fn mqtt_3_2_2_2_no_session_present_after_clean_start() {
    let broker = Broker::start(&[]);
    for version in [Version::V311, Version::V5] {
        let id = format!("{version:?}");
        drop(broker.connect_with(version, connect(&id).persistent()));
        let client = broker.connect(version, &id);
        assert!(!client.connack.session_present);
    }
}

/// [MQTT-3.2.2-3] Session Present says whether there was a session; 3.1 has no such flag.
#[test]
fn mqtt_3_2_2_3_session_present() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let id = format!("{version:?}");
        let first = broker.connect_with(version, connect(&id).persistent());
        assert!(!first.connack.session_present);
        let second = broker.connect_with(version, connect(&id).persistent());
        assert_eq!(second.connack.session_present, version != Version::V31);
    }
}

/// [MQTT-3.2.2-21] `max_keepalive` binds: 5.0 clients are told, 3.x clients that ask for more are refused.
#[test]
fn mqtt_3_2_2_21_server_keep_alive() {
    let broker = Broker::start(&["max_keepalive 30"]);
    for asked in [31, 65_535] {
        let client = broker.connect_with(Version::V5, connect("client").keep_alive(asked));
        assert!(
            client.connack.properties.contains(&server_keep_alive(30)),
            "{asked}"
        );
        expect_refusal(
            &broker,
            Version::V311,
            connect("client").keep_alive(asked),
            2,
        );
    }
    // Keep Alive 0 asks never to be cut off, which is more than 30 seconds.
    let client = broker.connect_with(Version::V5, connect("client").keep_alive(0));
    assert!(client.connack.properties.contains(&server_keep_alive(30)));
    let client = broker.connect_with(Version::V5, connect("client").keep_alive(30));
    assert!(
        !client.connack.properties.contains(&server_keep_alive(30)),
        "nothing was changed"
    );
    broker
        .connect_with(Version::V311, connect("client").keep_alive(30))
        .fence();
}

/// [MQTT-3.1.2-22] A client silent for one and a half times its Keep Alive is cut off, as if the network had failed.
/// [MQTT-3.2.2-22] It is the client's own value where the server named none.
#[test]
fn mqtt_3_1_2_22_keep_alive_time_out() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("wills", 0));
    watcher.expect(suback(1, &[0]));
    let start = Instant::now();
    let silent = Version::ALL.map(|version| {
        let id = format!("silent-{version:?}");
        let packet = connect(&id).keep_alive(2).will(will("wills", "silent"));
        (version, broker.connect_with(version, packet))
    });
    for (version, mut client) in silent {
        let goodbye = client.drain_until_closed();
        let silence = start.elapsed();
        assert!(
            silence > Duration::from_millis(2900),
            "{version:?}: {silence:?} is too early"
        );
        // 0x8D is made for this, but "as if the network had failed" needs no goodbye.
        let right = match goodbye.as_deref() {
            Some([]) => true,
            Some([0xE0, 0x01, 0x8D]) => version == Version::V5,
            _ => false,
        };
        assert!(right, "{version:?}: {goodbye:x?}");
        watcher.expect(publish("wills", "silent"));
    }
}

/// [MQTT-3.1.2-22] Any packet is a sign of life, and Keep Alive 0 asks for none.
#[test]
fn mqtt_3_1_2_22_any_packet_keeps_alive() {
    let broker = Broker::start(&[]);
    let mut live = broker.connect_with(Version::V5, connect("live").keep_alive(1));
    let mut idle = broker.connect_with(Version::V5, connect("idle").keep_alive(0));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        live.send(publish("t", "x"));
        thread::sleep(Duration::from_millis(250));
    }
    live.fence();
    idle.fence();
}

/// [MQTT-4.12.0-1] An Authentication Method that nobody implements is refused with 0x8C.
#[test]
fn mqtt_4_12_0_1_unknown_authentication_method() {
    let broker = Broker::start(&[]);
    let packet = || connect("client").with(authentication_method("SCRAM-SHA-1"));
    expect_refusal(&broker, Version::V5, packet(), 0x8C);
    expect_refusal(
        &broker,
        Version::V5,
        packet().with(authentication_data("n,,")),
        0x8C,
    );
}

/// 3.1.2.11.10: Authentication Data without a method is a Protocol Error.
#[test]
fn authentication_data_without_a_method() {
    let broker = Broker::start(&[]);
    let packet = connect("client").with(authentication_data("n,,"));
    expect_refusal(&broker, Version::V5, packet, 0x82);
}

/// [MQTT-4.12.0-6] Who named no Authentication Method gets none back.
#[test]
fn mqtt_4_12_0_6_no_authentication_method_in_connack() {
    let broker = Broker::start(&[]);
    let client = broker.connect_v5("client");
    assert!(
        client
            .connack
            .properties
            .iter()
            .all(|property| property.id != 0x15)
    );
}

/// [MQTT-3.1.2-28] Response Information is not returned to those who did not ask; to the others it may be.
#[test]
fn mqtt_3_1_2_28_response_information() {
    let broker = Broker::start(&[]);
    for asked in [None, Some(0)] {
        let mut packet = connect("client");
        if let Some(value) = asked {
            packet = packet.with(request_response_information(value));
        }
        let client = broker.connect_with(Version::V5, packet);
        assert!(
            client
                .connack
                .properties
                .iter()
                .all(|property| property.id != 0x1A)
        );
    }
    broker.connect_with(
        Version::V5,
        connect("client").with(request_response_information(1)),
    );
}

/// [MQTT-3.1.2-29] Who asked for no problem information gets none beside the reasons.
#[test]
fn mqtt_3_1_2_29_no_problem_information() {
    let broker = Broker::start(&[]);
    let packet = connect("client").with(request_problem_information(0));
    let mut client = broker.connect_with(Version::V5, packet);
    client.send(publish("nobody", "x").qos(1).packet_id(1));
    client.expect(puback(1).reason(0x10));
    client.send(pubrel(2));
    client.expect(pubcomp(2).reason(0x92));
    client.send(unsubscribe(3, &["nothing"]));
    client.expect(unsuback(3, &[0x11]));
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25] A PUBLISH above the client's Maximum Packet Size is not sent to it, and counts
/// as delivered.
#[test]
fn mqtt_3_1_2_24_maximum_packet_size_of_the_client() {
    let broker = Broker::start(&[]);
    let mut small = broker.connect_with(Version::V5, connect("s").with(maximum_packet_size(40)));
    let mut large = broker.connect_v5("large");
    for client in [&mut small, &mut large] {
        client.send(subscribe(1).filter("t", 2));
        client.expect(suback(1, &[2]));
    }
    // 2 bytes of fixed header, 3 of topic, 1 of properties: 34 bytes of payload make 40.
    let (fits, exceeds) = (vec![b'x'; 34], vec![b'x'; 35]);
    let mut publisher = broker.connect_v5("publisher");
    for payload in [&fits, &exceeds, &fits] {
        publisher.send(publish("t", payload));
    }
    for qos in [1, 2] {
        publisher.send(publish("t", &exceeds).qos(qos).packet_id(1));
        publisher.expect(if qos == 1 { puback(1) } else { pubrec(1) });
    }
    publisher.send(pubrel(1));
    publisher.expect(pubcomp(1));
    small.expect(publish("t", &fits));
    small.expect(publish("t", &fits));
    small.fence();
    for payload in [&fits, &exceeds, &fits] {
        large.expect(publish("t", payload));
    }
    assert_eq!(large.expect_publish().payload, exceeds);
    assert_eq!(large.expect_publish().payload, exceeds);
}

/// [MQTT-3.2.2-15] A packet above the broker's own Maximum Packet Size is answered as soon as its header is seen.
#[test]
fn mqtt_3_2_2_15_maximum_packet_size_of_the_broker() {
    let broker = Broker::start(&["max_packet_size 100"]);
    let mut client = broker.connect_v5("client");
    assert!(
        client
            .connack
            .properties
            .contains(&maximum_packet_size(100))
    );
    client.send(publish("t", vec![b'x'; 94]));
    client.fence();
    client.send(b"\x30\xff\xff\xff\x7f");
    client.expect(disconnect().reason(0x95));
    client.expect_closed();

    let mut client = broker.connect_v3("client");
    client.send(publish("t", vec![b'x'; 95]));
    client.fence();
    client.send(b"\x30\x7f");
    client.expect_closed();
}

/// [MQTT-3.3.4-9] The broker sends no more than the client's Receive Maximum before it is acknowledged, and then
/// goes on. [MQTT-3.3.4-10] Other packets do not wait.
#[test]
fn mqtt_3_3_4_9_receive_maximum_of_the_client() {
    let broker = Broker::start(&[]);
    for qos in [1, 2] {
        let packet = connect("narrow").with(receive_maximum(2));
        let mut narrow = broker.connect_with(Version::V5, packet);
        narrow.send(subscribe(1).filter("t", 2));
        narrow.expect(suback(1, &[2]));
        let mut publisher = broker.connect_v5("publisher");
        for number in 1..=4 {
            publisher.send(publish("t", number.to_string()).qos(qos).packet_id(number));
            publisher.expect(if qos == 1 {
                puback(number)
            } else {
                pubrec(number)
            });
            if qos == 2 {
                publisher.send(pubrel(number));
                publisher.expect(pubcomp(number));
            }
        }
        let first = narrow.expect_publish();
        let second = narrow.expect_publish();
        narrow.fence();
        narrow.send(publish("t", "not counted"));
        narrow.expect(publish("t", "not counted"));
        for unacknowledged in [first, second] {
            let id = unacknowledged.packet_id;
            if qos == 1 {
                narrow.send(puback(id));
            } else {
                narrow.send(pubrec(id));
                narrow.expect(pubrel(id));
                narrow.send(pubcomp(id));
            }
            assert_eq!(narrow.expect_publish().qos, qos);
            narrow.fence();
        }
    }
}

/// 3.1.2.11.3: Receive Maximum 0 is a Protocol Error, and so is Maximum Packet Size 0 (3.1.2.11.4).
#[test]
fn limits_of_zero_are_protocol_errors() {
    let broker = Broker::start(&[]);
    expect_refusal(
        &broker,
        Version::V5,
        connect("client").with(receive_maximum(0)),
        0x82,
    );
    expect_refusal(
        &broker,
        Version::V5,
        connect("client").with(maximum_packet_size(0)),
        0x82,
    );
}

/// [MQTT-3.3.4-7] `max_inflight_messages` is the broker's Receive Maximum; above it a QoS 2 PUBLISH is refused.
#[test]
fn mqtt_3_3_4_7_receive_maximum_of_the_broker() {
    let broker = Broker::start(&["max_inflight_messages 2"]);
    let mut client = broker.connect_v5("client");
    assert!(client.connack.properties.contains(&receive_maximum(2)));
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("t", 0));
    watcher.expect(suback(1, &[0]));
    for id in [1, 2] {
        client.send(publish("t", "x").qos(2).packet_id(id));
        client.expect(pubrec(id));
    }
    client.send(publish("t", "x").qos(2).packet_id(3));
    client.expect(pubrec(3).reason(0x97));
    client.send(pubrel(1));
    client.expect(pubcomp(1));
    client.send(publish("t", "x").qos(2).packet_id(3));
    client.expect(pubrec(3));
}

/// [MQTT-3.3.2-12] Every Topic Alias up to the broker's maximum is accepted, and stands for its topic.
#[test]
fn mqtt_3_3_2_12_topic_aliases_of_the_client() {
    let broker = Broker::start(&["max_topic_alias 3"]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("t/#", 0));
    watcher.expect(suback(1, &[0]));
    let mut client = broker.connect_v5("client");
    assert!(client.connack.properties.contains(&topic_alias_maximum(3)));
    for alias in 1..=3 {
        let topic = format!("t/{alias}");
        client.send(publish(&topic, "named").with(topic_alias(alias)));
        client.send(publish("", "alias").with(topic_alias(alias)));
        watcher.expect(publish(&topic, "named"));
        watcher.expect(publish(&topic, "alias"));
    }
    client.send(publish("t/new", "named again").with(topic_alias(1)));
    client.send(publish("", "alias").with(topic_alias(1)));
    watcher.expect(publish("t/new", "named again"));
    watcher.expect(publish("t/new", "alias"));
}

/// [MQTT-3.3.2-9] A Topic Alias above the maximum is answered 0x94, an unknown one, or no topic at all, 0x82.
#[test]
fn mqtt_3_3_2_9_topic_alias_invalid() {
    let broker = Broker::start(&["max_topic_alias 3"]);
    for (packet, reason) in [
        (publish("t", "x").with(topic_alias(4)), 0x94),
        (publish("t", "x").with(topic_alias(65_535)), 0x94),
        (publish("", "x").with(topic_alias(2)), 0x82),
        (publish("", "x"), 0x82),
    ] {
        let mut client = broker.connect_v5("client");
        client.send(packet);
        client.expect(disconnect().reason(reason));
        client.expect_closed();
    }
}

/// [MQTT-3.3.2-8] A Topic Alias of 0 is forbidden; with which reason, the standard leaves open.
#[test]
fn mqtt_3_3_2_8_topic_alias_zero() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    client.send(publish("t", "x").with(topic_alias(0)));
    let answer = client.expect_packet();
    assert!(
        matches!(answer[..], [0xE0, 0x01, 0x81 | 0x82 | 0x94]),
        "{answer:x?}"
    );
    client.expect_closed();
}

/// [MQTT-3.3.2-7] A Topic Alias lives as long as its connection, even if the session stays.
#[test]
fn mqtt_3_3_2_7_topic_alias_ends_with_the_connection() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.send(publish("t", "x").with(topic_alias(1)));
    client.fence();
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.send(publish("", "x").with(topic_alias(1)));
    client.expect(disconnect().reason(0x82));
}

/// [MQTT-3.1.2-26], [MQTT-3.3.2-11] The broker uses aliases up to the client's maximum: the first PUBLISH has topic
/// and alias, the next only the alias.
#[test]
fn mqtt_3_1_2_26_topic_aliases_of_the_broker() {
    let broker = Broker::start(&[]);
    let packet = connect("client").with(topic_alias_maximum(2));
    let mut client = broker.connect_with(Version::V5, packet);
    client.send(subscribe(1).filter("#", 0));
    client.expect(suback(1, &[0]));
    for topic in ["a", "b", "c", "a", "b", "c"] {
        client.send(publish(topic, "x"));
    }
    client.expect(publish("a", "x").with(topic_alias(1)));
    client.expect(publish("b", "x").with(topic_alias(2)));
    client.expect(publish("c", "x"));
    client.expect(publish("", "x").with(topic_alias(1)));
    client.expect(publish("", "x").with(topic_alias(2)));
    client.expect(publish("c", "x"));
}

/// [MQTT-3.1.2-27] Without a Topic Alias Maximum, or with 0, the broker uses none.
#[test]
fn mqtt_3_1_2_27_no_topic_aliases() {
    let broker = Broker::start(&[]);
    for packet in [
        connect("client"),
        connect("client").with(topic_alias_maximum(0)),
    ] {
        let mut client = broker.connect_with(Version::V5, packet);
        client.send(subscribe(1).filter("a", 0));
        client.expect(suback(1, &[0]));
        for _ in 0..3 {
            client.send(publish("a", "x"));
            client.expect(publish("a", "x"));
        }
    }
}

/// [MQTT-3.2.2-9], [MQTT-3.2.2-12] `max_qos` is said, and a will above it refused with 0x9B.
/// [MQTT-3.2.2-10] Subscriptions of any QoS are still accepted. [MQTT-3.2.2-11] A PUBLISH above it: 0x9B.
#[test]
fn mqtt_3_2_2_9_maximum_qos() {
    let broker = Broker::start(&["max_qos 1"]);
    let mut client = broker.connect_v5("client");
    assert!(client.connack.properties.contains(&maximum_qos(1)));
    client.send(subscribe(1).filter("a", 0).filter("b", 1).filter("c", 2));
    let suback = client.expect_packet();
    assert_eq!(suback[..5], *b"\x90\x06\x00\x01\x00");
    client.send(publish("t", "x").qos(2).packet_id(1));
    client.expect(disconnect().reason(0x9B));
    client.expect_closed();
    let packet = connect("client").will(will("w", "x").qos(2));
    expect_refusal(&broker, Version::V5, packet, 0x9B);
}

/// [MQTT-3.2.2-13] Without `retain_available` a retained will is refused with 0x9A; [MQTT-3.2.2-14] the client is
/// told, and a retained PUBLISH answered by the same.
#[test]
fn mqtt_3_2_2_13_retain_not_available() {
    let broker = Broker::start(&["retain_available false"]);
    let mut client = broker.connect_v5("client");
    assert!(client.connack.properties.contains(&retain_available(0)));
    client.send(publish("t", "x").retain());
    client.expect(disconnect().reason(0x9A));
    client.expect_closed();
    let packet = connect("client").will(will("w", "x").retain());
    expect_refusal(&broker, Version::V5, packet, 0x9A);
}

/// [MQTT-3.1.3-1], [MQTT-3.1.3-3] All that a CONNECT may carry, in its order.
#[test]
fn connect_with_every_property() {
    let broker = Broker::start(&[]);
    let last_words = will("w", "x")
        .with(will_delay_interval(5))
        .with(payload_format_indicator(1))
        .with(message_expiry_interval(60))
        .with(content_type("text/plain"))
        .with(response_topic("r"))
        .with(correlation_data([0, 1]))
        .with(user_property("a", "1"))
        .with(user_property("a", "1"));
    let packet = connect("client")
        .with(session_expiry_interval(60))
        .with(receive_maximum(10))
        .with(maximum_packet_size(1000))
        .with(topic_alias_maximum(5))
        .with(request_response_information(1))
        .with(request_problem_information(1))
        .with(user_property("b", ""))
        .with(user_property("", "c"))
        .will(last_words)
        .username("user")
        .password("secret");
    broker.connect_with(Version::V5, packet).fence();
}

/// The log names who came and how they went, as users look for it.
#[test]
fn log_of_a_connection() {
    let broker = Broker::start(&[]);
    let mut client =
        broker.connect_with(Version::V311, connect("noted").keep_alive(7).username("u"));
    client.send(disconnect());
    client.expect_closed();
    broker.wait_for_log("New connection from 127.0.0.1:");
    let line = broker.wait_for_log("New client connected from 127.0.0.1:");
    assert!(line.ends_with(" as noted (p4, c1, k7, u'u')."), "{line}");
    let line = broker.wait_for_log("Client noted ");
    assert!(
        line.starts_with(|c: char| c.is_ascii_digit()),
        "a time in seconds: {line}"
    );
    assert!(
        line.contains("Client noted [127.0.0.1:") && line.ends_with("] disconnected."),
        "{line}"
    );
}
