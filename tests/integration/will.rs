//! Will Messages (3.1.2.5, 3.1.3.2): when they are published, when not, and as what.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::*;

/// A second as a client measures it: the broker's clock counts milliseconds, and a turn of its loop has one time.
const NEARLY_A_SECOND: Duration = Duration::from_millis(990);

/// A client of 5.0 that waits for wills below `filter`, as they were published.
fn watch(broker: &Broker, filter: &str) -> Raw {
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter(filter, 2 | RETAIN_AS_PUBLISHED));
    watcher.expect(suback(1, &[2]));
    watcher
}

/// The usual will: QoS 0 to `wills`.
fn gone() -> Will {
    will("wills", "gone")
}

/// The same, after this many seconds.
fn gone_after(seconds: u32) -> Will {
    gone().with(will_delay_interval(seconds))
}

/// A client of 5.0 with this will and a session of this many seconds.
fn connect_for(broker: &Broker, id: &str, session_seconds: u32, will: Will) -> Raw {
    let expiry = session_expiry_interval(session_seconds);
    let packet = connect(id).clean(false).with(expiry).will(will);
    broker.connect_with(Version::V5, packet)
}

/// The end of a client's connection, without DISCONNECT; the broker has seen it when this returns.
fn hang_up(mut client: Raw) {
    client.shutdown_send();
    client.expect_closed();
}

/// Waits for a will that is published a second from now: whatever was due until then had to come before it.
#[track_caller]
fn fence_for_a_second(broker: &Broker, watcher: &mut Raw) {
    let sentinel = will("wills", "sentinel").with(will_delay_interval(1));
    hang_up(connect_for(broker, "sentinel", 3600, sentinel));
    watcher.expect(publish("wills", "sentinel"));
}

/// Sends this CONNECT, which must not be accepted; returns what the broker answered.
#[track_caller]
fn expect_refusal(broker: &Broker, version: Version, packet: Connect) -> Vec<u8> {
    let mut client = broker.open(version);
    client.send(packet);
    let answer = client.drain_until_closed().expect("it is refused");
    assert_ne!(answer.get(3), Some(&0), "it was accepted");
    answer
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-9] A will is published with its topic, payload and QoS when the connection ends, in
/// every version; it has the lower of its own and the subscription's QoS.
#[test]
fn mqtt_3_1_2_9_topic_payload_and_qos() {
    let broker = Broker::start(&[]);
    let mut packet_id = 0;
    let mut watcher = watch(&broker, "wills/+");
    let mut modest = broker.connect_v3("modest");
    modest.send(subscribe(1).filter("wills/#", 0));
    modest.expect(suback(1, &[0]));
    for version in Version::ALL {
        for qos in 0..=2 {
            let topic = format!("wills/{qos}");
            let payload = b"\x00\xff any bytes \x80";
            let packet = connect("client").will(will(&topic, payload).qos(qos));
            hang_up(broker.connect_with(version, packet));
            packet_id += u16::from(qos > 0);
            watcher.expect(publish(&topic, payload).qos(qos).packet_id(packet_id));
            match qos {
                0 => {}
                1 => watcher.send(puback(packet_id)),
                _ => {
                    watcher.send(pubrec(packet_id));
                    watcher.expect(pubrel(packet_id));
                    watcher.send(pubcomp(packet_id));
                }
            }
            modest.expect(publish(&topic, payload));
        }
    }
}

/// [MQTT-3.1.2-14], [MQTT-3.1.2-15] A will is retained if it was to be, and only then.
#[test]
fn mqtt_3_1_2_15_will_retain() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills/#");
    for version in Version::ALL {
        let retained = format!("wills/{version:?}");
        let packet = connect("client").will(will(&retained, "stays").retain());
        hang_up(broker.connect_with(version, packet));
        watcher.expect(publish(&retained, "stays").retain());
        hang_up(broker.connect_with(version, connect("client").will(will("wills/no", "x"))));
        watcher.expect(publish("wills/no", "x"));
        let mut late = broker.connect(version, "late");
        late.send(subscribe(1).filter(&retained, 0).filter("wills/no", 0));
        late.expect(suback(1, &[0, 0]));
        late.expect(publish(&retained, "stays").retain());
        late.fence();
    }
}

/// 3.1.2.7 together with 3.3.1.3: a retained will without payload clears its topic, and is delivered.
#[test]
fn empty_retained_will_clears_the_topic() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    watcher.send(publish("wills", "old").retain());
    watcher.expect(publish("wills", "old").retain());
    hang_up(broker.connect_with(Version::V311, connect("c").will(will("wills", "").retain())));
    watcher.expect(publish("wills", "").retain());
    let mut late = broker.connect_v3("late");
    late.send(subscribe(1).filter("wills", 0));
    late.expect(suback(1, &[0]));
    late.fence();
}

/// [MQTT-3.1.3-10] All will properties are passed on, the User Properties in their order; not the delay.
#[test]
fn mqtt_3_1_3_10_will_properties() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let mut v3 = broker.connect_v3("v3");
    v3.send(subscribe(1).filter("wills", 0));
    v3.expect(suback(1, &[0]));
    let list = [
        payload_format_indicator(1),
        content_type("text/plain"),
        response_topic("answers/here"),
        correlation_data(b"\x00\xff\x01"),
        user_property("b", "1"),
        user_property("a", "2"),
        user_property("b", "3"),
        user_property("", ""),
    ];
    let message = |message| list.iter().cloned().fold(message, Publish::with);
    let own = list.iter().cloned().fold(gone(), Will::with);
    let own = own.with(message_expiry_interval(60));
    for own in [own.clone(), own.with(will_delay_interval(0))] {
        hang_up(broker.connect_with(Version::V5, connect("client").will(own)));
        watcher.expect(message(publish("wills", "gone")).with(message_expiry_interval(60)));
        v3.expect(publish("wills", "gone"));
    }
}

/// [MQTT-3.1.2-7] The will is kept with the session: the one that counts is that of the last CONNECT.
#[test]
fn mqtt_3_1_2_7_will_of_the_last_connect() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    hang_up(connect_for(&broker, "client", 60, gone_after(600)));
    let mut client = connect_for(&broker, "client", 60, will("wills", "second"));
    assert!(client.connack.session_present);
    client.fence();
    hang_up(client);
    watcher.expect(publish("wills", "second"));
    watcher.fence();
}

/// [MQTT-3.1.2-10] A will is published once: neither the next connection of the session has it nor its end.
#[test]
fn mqtt_3_1_2_10_published_once() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    hang_up(connect_for(&broker, "client", 1, gone()));
    watcher.expect(publish("wills", "gone"));
    broker.wait_for_log("Expiring client client due to timeout.");
    watcher.fence();
    hang_up(connect_for(&broker, "both at once", 1, gone_after(1)));
    watcher.expect(publish("wills", "gone"));
    broker.wait_for_log("Expiring client both at once due to timeout.");
    watcher.fence();
    for version in Version::ALL {
        let packet = connect("other").persistent();
        hang_up(broker.connect_with(version, packet.clone().will(gone())));
        watcher.expect(publish("wills", "gone"));
        hang_up(broker.connect_with(version, packet));
        hang_up(broker.connect(version, "other"));
        watcher.fence();
    }
}

/// [MQTT-3.1.2-12] of 3.1.1, and 3.1.2.5 of 5.0: no will, nothing published.
#[test]
fn mqtt311_3_1_2_12_no_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "#");
    for version in Version::ALL {
        hang_up(broker.connect(version, "client"));
        watcher.fence();
    }
}

/// [MQTT-3.1.2-8] Every end but DISCONNECT 0x00 publishes the will: what a client must not do, a packet that is none,
/// one that is too large, a socket that is reset or closed in the middle of a packet.
#[test]
fn mqtt_3_1_2_8_faults_publish_the_will() {
    let broker = Broker::start(&["max_packet_size 1000"]);
    let mut watcher = watch(&broker, "wills");
    let faults: [(&str, &[u8]); 9] = [
        (
            "second CONNECT",
            b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
        ),
        ("a packet of servers", b"\x20\x02\x00\x00"),
        ("reserved packet type", b"\x00\x00"),
        ("QoS 3", b"\x36\x07\x00\x01t\x00\x01\x00\x00"),
        ("wildcard in a topic", b"\x30\x04\x00\x01#\x00"),
        ("SUBSCRIBE without filters", b"\x82\x02\x00\x01"),
        (
            "SUBSCRIBE with identifier 0",
            b"\x82\x07\x00\x00\x00\x00\x01t\x00",
        ),
        (
            "remaining length of five bytes",
            b"\x30\xff\xff\xff\xff\x01",
        ),
        ("too large", b"\x30\xe9\x07"),
    ];
    for version in Version::ALL {
        for (what, bytes) in faults {
            let mut client = broker.connect_with(version, connect("client").will(gone()));
            client.send(bytes);
            assert!(client.drain_until_closed().is_some(), "{version:?}: {what}");
            watcher.expect(publish("wills", "gone"));
        }
        let mut client = broker.connect_with(version, connect("client").will(gone()));
        client.send(b"\x30\x0a\x00\x01t");
        drop(client);
        watcher.expect(publish("wills", "gone"));
    }
    watcher.fence();
}

/// [MQTT-3.1.2-8] A DISCONNECT that is itself a fault is no DISCONNECT: the will is published.
#[test]
fn mqtt_3_1_2_8_faulty_disconnect() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let faulty: [(Version, &[u8]); 6] = [
        (Version::V311, b"\xe1\x00"),
        (Version::V311, b"\xe0\x01\x00"),
        (Version::V5, b"\xe1\x00"),
        (Version::V5, b"\xe0\x01\x8e"),
        (Version::V5, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01"),
        (Version::V5, b"\xe0\x07\x00\x05\x02\x00\x00\x00\x01"),
    ];
    for (version, bytes) in faulty {
        let mut client = broker.connect_with(version, connect("client").will(gone()));
        client.send(bytes);
        assert!(client.drain_until_closed().is_some(), "{bytes:x?}");
        watcher.expect(publish("wills", "gone"));
    }
}

/// [MQTT-3.1.2-22], [MQTT-3.1.2-8] A keep-alive time-out publishes the will, one and a half times the interval later.
#[test]
fn mqtt_3_1_2_22_keep_alive_time_out_publishes_the_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let start = Instant::now();
    let clients: Vec<Raw> = Version::ALL
        .into_iter()
        .map(|version| {
            let packet = connect(&format!("{version:?}")).keep_alive(1);
            broker.connect_with(version, packet.will(gone()))
        })
        .collect();
    for _ in &clients {
        watcher.expect(publish("wills", "gone"));
        assert!(start.elapsed() >= Duration::from_millis(1450));
    }
}

/// [MQTT-3.1.2-8] When the broker is told to stop, wills are published while their subscribers can still hear them.
#[test]
fn mqtt_3_1_2_8_shutdown_publishes_wills() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let mut clients: Vec<Raw> = Version::ALL
        .into_iter()
        .map(|version| {
            let packet = connect(&format!("{version:?}")).will(gone());
            broker.connect_with(version, packet)
        })
        .collect();
    broker.signal(Signal::TERM);
    for _ in &clients {
        watcher.expect(publish("wills", "gone"));
    }
    watcher.expect(disconnect().reason(0x8B));
    watcher.expect_closed();
    for client in &mut clients {
        assert!(client.drain_until_closed().is_some());
    }
}

/// [MQTT-3.1.2-8] The end of the broker is the end of the sessions it keeps in memory: wills that still wait for their
/// delay are published too.
#[test]
fn mqtt_3_1_2_8_shutdown_publishes_delayed_wills() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills/+");
    let own = |topic| will(topic, "gone").with(will_delay_interval(3600));
    let _connected = connect_for(&broker, "connected", 3600, own("wills/connected"));
    hang_up(connect_for(&broker, "away", 3600, own("wills/away")));
    watcher.fence();
    broker.signal(Signal::TERM);
    let mut topics = [
        watcher.expect_publish().topic,
        watcher.expect_publish().topic,
    ];
    topics.sort();
    assert_eq!(topics, ["wills/away", "wills/connected"]);
}

/// [MQTT-3.1.2-8] A take-over ends the old connection without DISCONNECT: its will, which has no delay, is published;
/// the new connection's is its own affair.
#[test]
fn mqtt_3_1_2_8_take_over_publishes_the_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for old in Version::ALL {
        for new in Version::ALL {
            for (old_packet, new_packet) in [
                (connect("client"), connect("client")),
                (connect("client"), connect("client").persistent()),
                (connect("client").persistent(), connect("client")),
                (
                    connect("client").persistent(),
                    connect("client").persistent(),
                ),
            ] {
                let mut first = broker.connect_with(old, old_packet.will(will("wills", "old")));
                let new_will = will("wills", "new");
                let mut second = broker.connect_with(new, new_packet.will(new_will));
                watcher.expect(publish("wills", "old"));
                assert!(first.drain_until_closed().is_some());
                watcher.fence();
                second.send(disconnect());
                second.expect_closed();
                watcher.fence();
                broker.connect(new, "client").fence();
            }
        }
    }
}

/// [MQTT-3.1.3-9] A will with a delay is published after it, not before.
#[test]
fn mqtt_3_1_3_9_will_delay() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let client = connect_for(&broker, "client", 3600, gone_after(1));
    let start = Instant::now();
    hang_up(client);
    watcher.fence();
    watcher.expect(publish("wills", "gone"));
    assert!(start.elapsed() >= NEARLY_A_SECOND, "{:?}", start.elapsed());
    let client = connect_for(&broker, "client", 3600, gone());
    assert!(client.connack.session_present, "the session goes on");
}

/// [MQTT-3.1.3-9] A client that comes back within the delay keeps its will from being published, whatever its version;
/// the same by a take-over.
#[test]
fn mqtt_3_1_3_9_cancelled_by_a_new_connection() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let mut back = Vec::new();
    for version in Version::ALL {
        let id = format!("back with {version:?}");
        hang_up(connect_for(&broker, &id, 3600, gone_after(1)));
        back.push(broker.connect_with(version, connect(&id).persistent()));
        let id = format!("taken over by {version:?}");
        let mut old = connect_for(&broker, &id, 3600, gone_after(1));
        back.push(broker.connect_with(version, connect(&id).persistent()));
        old.expect(disconnect().reason(0x8E));
    }
    fence_for_a_second(&broker, &mut watcher);
    watcher.fence();
    // The new connections, which have no wills, end at last.
    back.into_iter().for_each(hang_up);
    fence_for_a_second(&broker, &mut watcher);
    watcher.fence();
}

/// [MQTT-3.1.2-8] The end of the session ends the delay: at once without an expiry, or when it expires first.
#[test]
fn mqtt_3_1_2_8_session_ends_before_the_delay() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    hang_up(connect_for(&broker, "no expiry", 0, gone_after(3600)));
    watcher.expect(publish("wills", "gone"));

    let client = connect_for(&broker, "expiry", 1, gone_after(3600));
    let start = Instant::now();
    hang_up(client);
    watcher.fence();
    watcher.expect(publish("wills", "gone"));
    assert!(start.elapsed() >= NEARLY_A_SECOND);

    let mut client = connect_for(&broker, "disconnect", 3600, gone_after(3600));
    client.send(disconnect().reason(0x04).with(session_expiry_interval(0)));
    watcher.expect(publish("wills", "gone"));
    watcher.fence();
}

/// [MQTT-3.1.2-8] The same where `persistent_client_expiration` ends the session.
#[test]
fn mqtt_3_1_2_8_persistent_client_expiration_ends_the_delay() {
    let broker = Broker::start(&["persistent_client_expiration 1s"]);
    let mut watcher = watch(&broker, "wills");
    hang_up(connect_for(&broker, "client", 3600, gone_after(3600)));
    watcher.fence();
    watcher.expect(publish("wills", "gone"));
}

/// [MQTT-3.1.2-8] A clean start ends the session that was there, and so its will's delay: by take-over or afterwards.
#[test]
fn mqtt_3_1_2_8_clean_start_ends_the_delay() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for version in Version::ALL {
        hang_up(connect_for(&broker, "client", 3600, gone_after(3600)));
        watcher.fence();
        let mut client = broker.connect(version, "client");
        watcher.expect(publish("wills", "gone"));
        client.send(disconnect());
        client.expect_closed();

        let mut old = connect_for(&broker, "client", 3600, gone_after(3600));
        let mut new = broker.connect(version, "client");
        watcher.expect(publish("wills", "gone"));
        old.expect(disconnect().reason(0x8E));
        new.send(disconnect());
        new.expect_closed();
        watcher.fence();
    }
}

/// 3.14.2.1: DISCONNECT 0x04 asks for the will, which waits for its delay as ever.
#[test]
fn disconnect_with_will_message_waits_for_the_delay() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let mut client = connect_for(&broker, "client", 3600, gone_after(1));
    let start = Instant::now();
    client.send(disconnect().reason(0x04));
    client.expect_closed();
    watcher.fence();
    watcher.expect(publish("wills", "gone"));
    assert!(start.elapsed() >= NEARLY_A_SECOND);
}

/// [MQTT-3.14.4-3] DISCONNECT 0x00 discards a will with a delay too.
#[test]
fn mqtt_3_14_4_3_disconnect_discards_a_delayed_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let mut client = connect_for(&broker, "client", 3600, gone_after(1));
    client.send(disconnect());
    client.expect_closed();
    fence_for_a_second(&broker, &mut watcher);
    watcher.fence();
    broker.connect_v5("client").fence();
    watcher.fence();
}

/// 3.1.3.2.2: the longest delay and the longest session that can be asked for are waited for like any other.
#[test]
fn longest_delays() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for session in [u32::MAX, u32::MAX - 1] {
        for delay in [u32::MAX, u32::MAX - 1] {
            hang_up(connect_for(&broker, "client", session, gone_after(delay)));
            watcher.fence();
            let mut client = connect_for(&broker, "client", session, gone_after(delay));
            assert!(client.connack.session_present);
            client.send(disconnect());
            client.expect_closed();
            watcher.fence();
        }
    }
}

/// [MQTT-3.3.2-6] The Message Expiry Interval of a will begins when it is published, not when its connection ended.
#[test]
fn mqtt_3_3_2_6_expiry_of_a_delayed_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let own = gone_after(1).with(message_expiry_interval(1));
    hang_up(connect_for(&broker, "client", 3600, own));
    watcher.expect(publish("wills", "gone").with(message_expiry_interval(1)));
}

/// [MQTT-3.3.2-5] A retained will that has expired is not delivered any more.
#[test]
fn mqtt_3_3_2_5_retained_will_expires() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    let expiring = || gone().with(message_expiry_interval(1));
    hang_up(connect_for(&broker, "client", 0, expiring().retain()));
    let expected = publish("wills", "gone").with(message_expiry_interval(1));
    watcher.expect(expected.retain());
    fence_for_a_second(&broker, &mut watcher);
    watcher.send(subscribe(2).filter("wills", 0));
    watcher.expect(suback(2, &[0]));
    watcher.fence();
}

/// A session that stays can wait for the will of its own connection; with No Local it is not sent its own.
#[test]
fn own_will() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let packet = || connect("client").persistent();
        let mut client = broker.connect_with(version, packet().will(gone().qos(1)));
        client.send(subscribe(1).filter("wills", 1));
        client.expect(suback(1, &[1]));
        hang_up(client);
        let mut client = broker.connect_with(version, packet());
        client.expect(publish("wills", "gone").qos(1).packet_id(1));
        client.send(disconnect());
        client.expect_closed();
        broker.connect(version, "client").fence();
    }
    let mut client = connect_for(&broker, "client", 60, gone().qos(1));
    client.send(subscribe(1).filter("wills", 1 | NO_LOCAL));
    client.expect(suback(1, &[1]));
    hang_up(client);
    connect_for(&broker, "client", 60, gone()).fence();
}

/// [MQTT-4.5.0-1] A will waits in the sessions of its subscribers like any message.
#[test]
fn mqtt_4_5_0_1_will_for_a_sleeping_subscriber() {
    let broker = Broker::start(&[]);
    let mut sleeper = broker.connect_with(Version::V5, connect("sleeper").persistent());
    sleeper.send(subscribe(1).filter("wills", 2));
    sleeper.expect(suback(1, &[2]));
    hang_up(sleeper);
    let own = gone().qos(2).with(content_type("text/plain"));
    hang_up(broker.connect_with(Version::V5, connect("client").will(own)));
    let mut sleeper = broker.connect_with(Version::V5, connect("sleeper").persistent());
    let expected = publish("wills", "gone").qos(2).packet_id(1);
    sleeper.expect(expected.with(content_type("text/plain")));
}

/// [MQTT-3.1.2-8] Five hundred clients that end together leave five hundred wills.
#[test]
fn mqtt_3_1_2_8_many_wills() {
    const CLIENTS: usize = 500;
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills/+");
    let clients: Vec<Raw> = (0..CLIENTS)
        .map(|index| {
            let id = format!("client-{index}");
            let packet = connect(&id).will(will(&format!("wills/{index}"), "gone"));
            broker.connect_with(Version::ALL[index % 3], packet)
        })
        .collect();
    drop(clients);
    let mut topics: Vec<String> = (0..CLIENTS)
        .map(|_| watcher.expect_publish().topic)
        .collect();
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), CLIENTS);
    watcher.fence();
}

/// [MQTT-3.1.4-6] A CONNECT that is refused leaves no will, and takes nothing over.
#[test]
fn mqtt_3_1_4_6_refused_connections_leave_no_will() {
    let broker = Broker::start(&["allow_zero_length_clientid false", "message_size_limit 10"]);
    let mut watcher = watch(&broker, "wills");
    let mut there = broker.connect_with(Version::V5, connect("there").will(gone()));
    for version in Version::ALL {
        expect_refusal(&broker, version, connect("").will(gone()));
        let too_large = connect("there").will(will("wills", "eleven byte"));
        expect_refusal(&broker, version, too_large);
        there.fence();
        watcher.fence();
    }
}

/// 4.8.2: of a shared subscription one member gets the will.
#[test]
fn will_for_a_shared_subscription() {
    let broker = Broker::start(&[]);
    let mut members = ["first", "second"].map(|id| {
        let mut member = broker.connect_v5(id);
        member.send(subscribe(1).filter("$share/group/wills", 0));
        member.expect(suback(1, &[0]));
        member
    });
    for member in 0..2 {
        hang_up(broker.connect_with(Version::V311, connect("client").will(gone())));
        members[member].expect(publish("wills", "gone"));
        members[1 - member].fence();
    }
}

/// What the broker says of itself no client can say by its will; bridges alone tell of their state.
#[test]
fn will_on_a_topic_of_the_broker() {
    let broker = Broker::start(&["sys_interval 0"]);
    let mut watcher = watch(&broker, "$SYS/#");
    watcher.send(subscribe(2).filter("$CONTROL/#", 0));
    watcher.expect(suback(2, &[0]));
    for version in Version::ALL {
        for topic in [
            "$SYS/broker/uptime",
            "$SYS/x",
            "$CONTROL/dynamic-security/v1",
        ] {
            let mut client = broker.open(version);
            client.send(connect("client").will(will(topic, "forged").retain()));
            client.shutdown_send();
            // Whether the CONNECT is refused or only the will not published is not written anywhere.
            assert!(client.drain_until_closed().is_some());
            watcher.fence();
        }
    }
    watcher.send(subscribe(3).filter("$SYS/#", 0).filter("$CONTROL/#", 0));
    watcher.expect(suback(3, &[0, 0]));
    watcher.fence();
}

/// 4.7.2: other topics that begin with `$` are for anybody, also for wills.
#[test]
fn will_on_another_topic_with_a_dollar() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "$own/#");
    let packet = connect("client").will(will("$own/x", "gone"));
    hang_up(broker.connect_with(Version::V311, packet));
    watcher.expect(publish("$own/x", "gone"));
}

/// `message_size_limit` refuses a larger will: 0x95, or 5 before 5.0.
#[test]
fn will_above_the_message_size_limit() {
    let broker = Broker::start(&["message_size_limit 10"]);
    let mut watcher = watch(&broker, "wills");
    for version in Version::ALL {
        let too_large = connect("client").will(will("wills", "eleven byte"));
        let answer = expect_refusal(&broker, version, too_large);
        let expected: &[u8] = match version {
            Version::V5 => b"\x20\x03\x00\x95\x00",
            Version::V31 | Version::V311 => b"\x20\x02\x00\x05",
        };
        assert_eq!(answer, expected);
        watcher.fence();
        let largest = connect("client").will(will("wills", "ten bytes."));
        hang_up(broker.connect_with(version, largest));
        watcher.expect(publish("wills", "ten bytes."));
    }
}

/// [MQTT-3.2.2-12] A will above `max_qos` is refused, with 0x9B in 5.0; one at `max_qos` is published.
#[test]
fn mqtt_3_2_2_12_will_above_the_maximum_qos() {
    for max_qos in 0..=1 {
        let broker = Broker::start(&[&format!("max_qos {max_qos}")]);
        let mut watcher = broker.connect_v5("watcher");
        watcher.send(subscribe(1).filter("wills", max_qos));
        watcher.expect(suback(1, &[max_qos]));
        for version in Version::ALL {
            for qos in max_qos + 1..=2 {
                let answer =
                    expect_refusal(&broker, version, connect("client").will(gone().qos(qos)));
                if version == Version::V5 {
                    assert_eq!(answer, b"\x20\x03\x00\x9b\x00");
                }
                watcher.fence();
            }
            hang_up(broker.connect_with(version, connect("client").will(gone().qos(max_qos))));
            let published = watcher.expect_publish();
            assert_eq!(published.qos, max_qos);
            if max_qos > 0 {
                watcher.send(puback(published.packet_id));
            }
        }
    }
}

/// [MQTT-3.2.2-13] A retained will is refused without `retain_available`, with 0x9A in 5.0; another one is published.
#[test]
fn mqtt_3_2_2_13_retained_will_without_retain() {
    let broker = Broker::start(&["retain_available false"]);
    let mut watcher = watch(&broker, "wills");
    for version in Version::ALL {
        let answer = expect_refusal(&broker, version, connect("client").will(gone().retain()));
        if version == Version::V5 {
            assert_eq!(answer, b"\x20\x03\x00\x9a\x00");
        }
        watcher.fence();
        hang_up(broker.connect_with(version, connect("client").will(gone())));
        watcher.expect(publish("wills", "gone"));
    }
}

/// A will may be as long as its field allows, and empty.
#[test]
fn shortest_and_longest_will() {
    let broker = Broker::start(&[]);
    let mut watcher = watch(&broker, "wills");
    for version in Version::ALL {
        for payload in [vec![], vec![b'x'; 65_535]] {
            let packet = connect("client").will(will("wills", &payload));
            hang_up(broker.connect_with(version, packet));
            watcher.expect(publish("wills", &payload));
        }
    }
}
