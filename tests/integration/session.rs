//! Sessions (4.1): what they keep, how long, who takes them over, and how many there may be.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::*;

/// Longer than the shortest expiry that can be asked for, which is a second.
const OVER_A_SECOND: Duration = Duration::from_millis(2300);

/// A second as a client measures it: the broker's clock counts milliseconds, and a turn of its loop has one time.
const NEARLY_A_SECOND: Duration = Duration::from_millis(990);

/// Every old and new version of a client that comes back.
fn version_pairs() -> impl Iterator<Item = (Version, Version)> {
    Version::ALL
        .into_iter()
        .flat_map(|old| Version::ALL.map(|new| (old, new)))
}

/// A client with a session that stays, subscribed to `filter`.
fn subscribed(broker: &Broker, version: Version, id: &str, filter: &str, options: u8) -> Raw {
    let mut client = broker.connect_with(version, connect(id).persistent());
    client.send(subscribe(1).filter(filter, options));
    client.expect(suback(1, &[options & 3]));
    client
}

/// The same client again; asserts that its session is there, where the version can say so.
#[track_caller]
fn resume(broker: &Broker, version: Version, id: &str) -> Raw {
    let client = broker.connect_with(version, connect(id).persistent());
    assert_eq!(client.connack.session_present, version != Version::V31);
    client
}

/// Ends the connection as its client should.
fn leave(mut client: Raw) {
    client.send(disconnect());
    client.expect_closed();
}

/// Expects the end of a connection that another one took over.
#[track_caller]
fn expect_taken_over(client: &mut Raw, version: Version) {
    if version == Version::V5 {
        client.expect(disconnect().reason(0x8E));
    }
    client.expect_closed();
}

/// Whether there is a session of this name. Looking resumes it, and keeps it for good.
fn has_session(broker: &Broker, id: &str) -> bool {
    let packet = connect(id)
        .clean(false)
        .with(session_expiry_interval(u32::MAX));
    broker
        .connect_with(Version::V5, packet)
        .connack
        .session_present
}

/// Sends CONNECT and expects this reason and the end.
#[track_caller]
fn expect_refusal(broker: &Broker, version: Version, packet: Connect, reason: u8) {
    let mut client = broker.open(version);
    client.send(packet);
    assert_eq!(client.expect_connack().reason, reason);
    client.expect_closed();
}

/// [MQTT-4.1.0-1] A session keeps its subscriptions with all their options while its client is away.
#[test]
fn mqtt_4_1_0_1_subscriptions_stay_with_their_options() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    let options = 1 | NO_LOCAL | RETAIN_AS_PUBLISHED;
    client.send(
        subscribe(1)
            .with(subscription_identifier(77))
            .filter("kept/+", options),
    );
    client.expect(suback(1, &[1]));
    leave(client);

    let mut client = resume(&broker, Version::V5, "client");
    client.send(publish("kept/own", "not to me"));
    client.fence();
    let mut other = broker.connect_v5("other");
    other.send(publish("kept/x", "flag").qos(2).packet_id(1).retain());
    other.expect(pubrec(1));
    other.send(pubrel(1));
    other.expect(pubcomp(1));
    let expected = publish("kept/x", "flag").qos(1).packet_id(1).retain();
    client.expect(expected.with(subscription_identifier(77)));
}

/// [MQTT-4.1.0-1] What a client has unsubscribed from stays unsubscribed.
#[test]
fn mqtt_4_1_0_1_unsubscribed_stays_unsubscribed() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = subscribed(&broker, version, "client", "gone", 1);
        client.send(unsubscribe(2, &["gone"]));
        client.expect(unsuback(2, &[0]));
        leave(client);
        let mut client = resume(&broker, version, "client");
        client.send(publish("gone", "x"));
        client.fence();
    }
}

/// [MQTT-4.1.0-1], [MQTT-4.5.0-1] QoS 1 and 2 wait for a client that is away, in the order they came; QoS 0 does not.
#[test]
fn mqtt_4_1_0_1_queue_of_qos_1_and_2() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    for version in Version::ALL {
        leave(subscribed(&broker, version, "client", "queue/#", 2));
        publisher.send(publish("queue/0", "first"));
        publisher.send(publish("queue/1", "second").qos(1).packet_id(1));
        publisher.expect(puback(1));
        publisher.send(publish("queue/2", "third").qos(2).packet_id(2));
        publisher.expect(pubrec(2));
        publisher.send(pubrel(2));
        publisher.expect(pubcomp(2));

        let mut client = resume(&broker, version, "client");
        client.expect(publish("queue/1", "second").qos(1).packet_id(1));
        client.expect(publish("queue/2", "third").qos(2).packet_id(2));
        client.fence();
        client.send(puback(1));
        client.send(pubrec(2));
        client.expect(pubrel(2));
        client.send(pubcomp(2));
        leave(client);
        resume(&broker, version, "client").fence();
        leave(broker.connect(version, "client"));
    }
}

/// `queue_qos0_messages` makes QoS 0 wait as well.
#[test]
fn qos_0_can_be_queued() {
    let broker = Broker::start(&["queue_qos0_messages true"]);
    let mut publisher = broker.connect_v3("publisher");
    for version in Version::ALL {
        leave(subscribed(&broker, version, "client", "queue", 1));
        publisher.send(publish("queue", "first"));
        publisher.send(publish("queue", "second").qos(1).packet_id(1));
        publisher.expect(puback(1));
        publisher.send(publish("queue", "third"));
        publisher.fence();
        let mut client = resume(&broker, version, "client");
        client.expect(publish("queue", "first"));
        client.expect(publish("queue", "second").qos(1).packet_id(1));
        client.expect(publish("queue", "third"));
        client.fence();
        leave(broker.connect(version, "client"));
    }
}

/// [MQTT-4.1.0-1] As receiver: a QoS 2 message that came before the connection ended is known afterwards, by its
/// identifier, and passed on once.
#[test]
fn mqtt_4_1_0_1_unreleased_qos_2_message() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("once", 0));
    watcher.expect(suback(1, &[0]));
    for (old, new) in version_pairs() {
        let mut client = broker.connect_with(old, connect("client").persistent());
        client.send(publish("once", "x").qos(2).packet_id(9));
        client.expect(pubrec(9));
        drop(client);
        let mut client = resume(&broker, new, "client");
        client.send(publish("once", "x").qos(2).packet_id(9).dup());
        client.expect(pubrec(9));
        watcher.fence();
        client.send(pubrel(9));
        client.expect(pubcomp(9));
        watcher.expect(publish("once", "x"));
        watcher.fence();
        leave(broker.connect(new, "client"));
    }
}

/// [MQTT-4.4.0-1] As sender: a resumed session is sent its PUBLISH and PUBREL again, with the identifiers they had,
/// in the order they had, and DUP; what was acknowledged is not.
#[test]
fn mqtt_4_4_0_1_resends_in_order() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    for (old, new) in version_pairs() {
        let mut client = subscribed(&broker, old, "client", "t/+", 2);
        for (id, qos) in [(1, 1), (2, 2), (3, 2), (4, 1), (5, 1)] {
            publisher.send(publish(&format!("t/{id}"), "x").qos(qos).packet_id(id));
            match qos {
                1 => publisher.expect(puback(id)),
                _ => {
                    publisher.expect(pubrec(id));
                    publisher.send(pubrel(id));
                    publisher.expect(pubcomp(id));
                }
            }
            client.expect(publish(&format!("t/{id}"), "x").qos(qos).packet_id(id));
        }
        client.send(pubrec(2));
        client.expect(pubrel(2));
        client.send(puback(4));
        client.fence();
        drop(client);

        let mut client = resume(&broker, new, "client");
        client.expect(publish("t/1", "x").qos(1).packet_id(1).dup());
        client.expect(pubrel(2));
        client.expect(publish("t/3", "x").qos(2).packet_id(3).dup());
        client.expect(publish("t/5", "x").qos(1).packet_id(5).dup());
        client.send(puback(1));
        client.send(pubcomp(2));
        client.send(pubrec(3));
        client.expect(pubrel(3));
        client.send(pubcomp(3));
        client.send(puback(5));
        client.fence();
        leave(client);
        resume(&broker, new, "client").fence();
        leave(broker.connect(new, "client"));
    }
}

/// [MQTT-4.4.0-1] ... and never at another time: while the connection lasts, nothing is sent twice.
#[test]
fn mqtt_4_4_0_1_no_resending_within_a_connection() {
    let broker = Broker::start(&[]);
    let mut client = subscribed(&broker, Version::V311, "client", "t", 1);
    client.send(publish("t", "x").qos(1).packet_id(1));
    client.expect(publish("t", "x").qos(1).packet_id(1));
    client.expect(puback(1));
    client.expect_silence(Duration::from_millis(1500));
}

/// [MQTT-3.3.4-9] A session that is resumed with a smaller Receive Maximum is sent no more at a time.
#[test]
fn mqtt_3_3_4_9_resumed_with_a_smaller_receive_maximum() {
    let broker = Broker::start(&[]);
    let mut client = subscribed(&broker, Version::V5, "client", "t", 1);
    for number in 1..=3 {
        client.send(publish("t", [number]).qos(1).packet_id(1));
        client.expect(publish("t", [number]).qos(1).packet_id(number.into()));
        client.expect(puback(1));
    }
    drop(client);
    let packet = connect("client").persistent().with(receive_maximum(1));
    let mut client = broker.connect_with(Version::V5, packet);
    for number in 1..=3 {
        client.expect(publish("t", [number]).qos(1).packet_id(number.into()).dup());
        client.fence();
        client.send(puback(number.into()));
    }
    client.fence();
}

/// [MQTT-4.6.0-5] What is sent again, what waited, and what comes meanwhile keep their order behind a small window.
#[test]
fn mqtt_4_6_0_5_order_of_a_resumed_session() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    let mut number = 0;
    let mut publish_next = || {
        number += 1;
        publisher.send(publish("t", [number]).qos(1).packet_id(1));
        publisher.expect(puback(1));
    };
    let mut client = subscribed(&broker, Version::V311, "client", "t", 1);
    for number in 1..=5 {
        publish_next();
        client.expect(publish("t", [number]).qos(1).packet_id(number.into()));
    }
    leave(client);
    for _ in 6..=10 {
        publish_next();
    }
    let packet = connect("client").persistent().with(receive_maximum(2));
    let mut client = broker.connect_with(Version::V5, packet);
    for number in 1..=15 {
        let expected = publish("t", [number]).qos(1).packet_id(number.into());
        client.expect(if number <= 5 {
            expected.dup()
        } else {
            expected
        });
        if number <= 5 {
            publish_next();
        }
        if number > 1 {
            client.send(puback((number - 1).into()));
        }
    }
    client.send(puback(15));
    client.fence();
}

/// 4.9: a client that has released what the connection before left unfinished may send as much as ever.
#[test]
fn receive_maximum_after_a_resumption() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    for id in 1..=20 {
        client.send(publish("t", "x").qos(2).packet_id(id));
        client.expect(pubrec(id).reason(0x10));
    }
    drop(client);
    let mut client = resume(&broker, Version::V5, "client");
    let released = (1..=20).map(|id| pubrel(id).encode(Version::V5));
    let fresh = (21..=40).map(|id| publish("t", "x").qos(2).packet_id(id).encode(Version::V5));
    client.send(released.chain(fresh).collect::<Vec<_>>().concat());
    for id in 1..=20 {
        client.expect(pubcomp(id));
    }
    for id in 21..=40 {
        client.expect(pubrec(id).reason(0x10));
    }
}

/// [MQTT-3.3.4-10] The Receive Maximum holds back only PUBLISH: a resumed session is sent its PUBREL at once.
#[test]
fn mqtt_3_3_4_10_pubrel_does_not_wait_for_the_receive_maximum() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    let mut client = subscribed(&broker, Version::V5, "client", "t", 2);
    for id in [1, 2] {
        publisher.send(publish("t", "x").qos(2).packet_id(id));
        publisher.expect(pubrec(id));
        publisher.send(pubrel(id));
        publisher.expect(pubcomp(id));
        client.expect(publish("t", "x").qos(2).packet_id(id));
    }
    client.send(pubrec(2));
    client.expect(pubrel(2));
    drop(client);
    let packet = connect("client").persistent().with(receive_maximum(1));
    let mut client = broker.connect_with(Version::V5, packet);
    client.expect(publish("t", "x").qos(2).packet_id(1).dup());
    client.expect(pubrel(2));
    client.fence();
}

/// [MQTT-3.1.2-25] What is too large for the client that comes back counts as delivered.
#[test]
fn mqtt_3_1_2_25_resumed_with_a_smaller_maximum_packet_size() {
    let broker = Broker::start(&[]);
    let mut client = subscribed(&broker, Version::V5, "client", "t", 1);
    client.send(publish("t", vec![b'x'; 500]).qos(1).packet_id(1));
    client.expect(publish("t", vec![b'x'; 500]).qos(1).packet_id(1));
    client.expect(puback(1));
    leave(client);
    let mut publisher = broker.connect_v3("publisher");
    publisher.send(publish("t", vec![b'y'; 500]).qos(1).packet_id(1));
    publisher.expect(puback(1));
    publisher.send(publish("t", "small").qos(1).packet_id(1));
    publisher.expect(puback(1));

    let small = connect("client").persistent().with(maximum_packet_size(60));
    let mut client = broker.connect_with(Version::V5, small);
    let delivered = client.expect_publish();
    assert_eq!(delivered.payload, b"small");
    client.send(puback(delivered.packet_id));
    client.fence();
    leave(client);
    resume(&broker, Version::V5, "client").fence();
}

/// [MQTT-3.3.2-7] Topic aliases do not outlive the connection: what is sent again has its topic, and an alias as the new
/// connection allows.
#[test]
fn mqtt_3_3_2_7_sent_again_without_the_old_alias() {
    let broker = Broker::start(&[]);
    let packet = |maximum| {
        let packet = connect("client").persistent();
        packet.with(topic_alias_maximum(maximum))
    };
    let mut publisher = broker.connect_v3("publisher");
    let mut client = broker.connect_with(Version::V5, packet(5));
    client.send(subscribe(1).filter("t", 1));
    client.expect(suback(1, &[1]));
    for id in [1, 2] {
        publisher.send(publish("t", "x").qos(1).packet_id(id));
        publisher.expect(puback(id));
    }
    let first = publish("t", "x").qos(1).packet_id(1).with(topic_alias(1));
    let second = publish("", "x").qos(1).packet_id(2).with(topic_alias(1));
    client.expect(first.clone());
    client.expect(second.clone());
    drop(client);

    let mut client = broker.connect_with(Version::V5, packet(3));
    client.expect(first.dup());
    client.expect(second.dup());
    drop(client);

    let mut client = broker.connect_with(Version::V5, packet(0));
    client.expect(publish("t", "x").qos(1).packet_id(1).dup());
    client.expect(publish("t", "x").qos(1).packet_id(2).dup());
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6] A message that expires in the queue of a sleeping session is not delivered; another
/// one's interval is shorter by the time it waited.
#[test]
fn mqtt_3_3_2_5_expired_in_the_queue() {
    let broker = Broker::start(&[]);
    leave(subscribed(&broker, Version::V5, "client", "t", 1));
    let mut publisher = broker.connect_v5("publisher");
    for seconds in [1, 100] {
        let message = publish("t", [seconds]).qos(1).packet_id(1);
        publisher.send(message.with(message_expiry_interval(seconds.into())));
        publisher.expect(puback(1));
    }
    thread::sleep(OVER_A_SECOND);
    let mut client = resume(&broker, Version::V5, "client");
    let delivered = client.expect_publish();
    assert_eq!(delivered.payload, [100]);
    let left = value_of(&delivered.properties, MESSAGE_EXPIRY_INTERVAL);
    let left = left
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    assert!(matches!(left, Some(90..=98)), "{left:?} seconds");
    client.send(puback(delivered.packet_id));
    client.fence();
}

/// The options of a subscription of 5.0 stay while a client of 3.1.1 uses the session.
#[test]
fn options_stay_while_an_older_version_visits() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    let options = RETAIN_AS_PUBLISHED;
    client.send(
        subscribe(1)
            .with(subscription_identifier(268_435_455))
            .filter("t", options),
    );
    client.expect(suback(1, &[0]));
    let expected = || {
        let message = publish("t", "x").retain();
        message.with(subscription_identifier(268_435_455))
    };
    for version in [Version::V5, Version::V311, Version::V31, Version::V5] {
        leave(client);
        client = resume(&broker, version, "client");
        publisher.send(publish("t", "x").retain());
        client.expect(expected());
    }
}

/// 4.1: what belongs to the connection does not outlive it: neither topic aliases nor the will.
#[test]
fn what_a_session_does_not_keep() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("wills", 0));
    watcher.expect(suback(1, &[0]));
    let packet = connect("client").persistent().will(will("wills", "gone"));
    let mut client = broker.connect_with(Version::V5, packet);
    client.send(publish("t", "x").with(topic_alias(1)));
    leave(client);
    let mut client = resume(&broker, Version::V5, "client");
    client.send(publish("", "x").with(topic_alias(1)));
    client.expect(disconnect().reason(0x82));
    client.expect_closed();
    watcher.fence();
}

/// [MQTT-3.1.2-7] of 3.1.1: retained messages are no part of the session and stay when it goes.
#[test]
fn mqtt311_3_1_2_7_retained_messages_stay() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(publish("kept", "x").retain());
        leave(client);
        let mut client = broker.connect(version, "client");
        client.send(subscribe(1).filter("kept", 0));
        client.expect(suback(1, &[0]));
        client.expect(publish("kept", "x").retain());
    }
}

/// [MQTT-4.1.0-2] A session ends when its interval after the connection is over, and no sooner; DISCONNECT may change
/// the interval, a closed socket does not, and a new CONNECT sets a new one.
#[test]
fn mqtt_4_1_0_2_expiry() {
    let broker = Broker::start(&[]);
    let connect_for = |id: &str, seconds| {
        let packet = connect(id)
            .clean(false)
            .with(session_expiry_interval(seconds));
        broker.connect_with(Version::V5, packet)
    };
    let leave_for = |mut client: Raw, seconds| {
        client.send(disconnect().with(session_expiry_interval(seconds)));
        client.expect_closed();
    };
    leave(connect_for("short", 1));
    let dropped = Instant::now();
    drop(connect_for("dropped", 1));
    leave_for(connect_for("shortened", 3600), 1);
    leave_for(connect_for("never made short", u32::MAX), 1);
    leave_for(connect_for("prolonged", 1), 3600);
    leave_for(connect_for("short made never", 1), u32::MAX);
    leave_for(connect_for("ended", 3600), 0);
    leave(connect_for("renewed", 1));
    leave(connect_for("renewed", 3600));
    // The interval begins with the end of the connection, however long that lasted.
    let long_connection = connect_for("long connection", 1);

    for id in ["short", "dropped", "shortened", "never made short"] {
        broker.wait_for_log(&format!("Expiring client {id} due to timeout."));
        assert!(!has_session(&broker, id), "{id}");
    }
    assert!(dropped.elapsed() >= NEARLY_A_SECOND);
    assert!(!has_session(&broker, "ended"));
    for id in ["prolonged", "short made never", "renewed"] {
        assert!(has_session(&broker, id), "{id}");
    }
    leave(long_connection);
    assert!(has_session(&broker, "long connection"));
}

/// [MQTT-4.1.0-2] The subscriptions of a session that is over are over as well, and its queue is not delivered.
#[test]
fn mqtt_4_1_0_2_nothing_is_left_of_an_expired_session() {
    let broker = Broker::start(&[]);
    let packet = connect("client").with(session_expiry_interval(1));
    let mut client = broker.connect_with(Version::V5, packet);
    client.send(subscribe(1).filter("t", 1));
    client.expect(suback(1, &[1]));
    drop(client);
    let mut publisher = broker.connect_v5("publisher");
    publisher.send(publish("t", "queued").qos(1).packet_id(1));
    publisher.expect(puback(1));
    broker.wait_for_log("Expiring client client due to timeout.");
    publisher.send(publish("t", "nobody").qos(1).packet_id(2));
    publisher.expect(puback(2).reason(0x10));
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    assert!(!client.connack.session_present);
    client.fence();
}

/// 3.14.2.2.2: a session that was to end with its connection cannot be made to stay by DISCONNECT.
#[test]
fn expiry_cannot_be_raised_from_zero() {
    let broker = Broker::start(&[]);
    let zero = || connect("client").with(session_expiry_interval(0));
    for packet in [connect("client"), zero()] {
        for seconds in [1, u32::MAX] {
            let mut client = broker.connect_with(Version::V5, packet.clone());
            client.send(disconnect().with(session_expiry_interval(seconds)));
            client.expect(disconnect().reason(0x82));
            client.expect_closed();
            assert!(!has_session(&broker, "client"));
        }
        let mut client = broker.connect_with(Version::V5, packet);
        client.send(disconnect().with(session_expiry_interval(0)));
        client.expect_closed();
    }
}

/// `persistent_client_expiration` ends sessions that would stay longer, of every version; none lives longer by it.
#[test]
fn persistent_client_expiration() {
    let broker = Broker::start(&["persistent_client_expiration 1s"]);
    for version in [Version::V31, Version::V311] {
        let id = format!("{version:?}");
        leave(broker.connect_with(version, connect(&id).clean(false)));
    }
    for (id, seconds) in [("an hour", 3600), ("never", u32::MAX)] {
        let packet = connect(id).with(session_expiry_interval(seconds));
        leave(broker.connect_with(Version::V5, packet));
    }
    let packet = connect("said when leaving").with(session_expiry_interval(1));
    let mut client = broker.connect_with(Version::V5, packet);
    client.send(disconnect().with(session_expiry_interval(3600)));
    client.expect_closed();
    leave(broker.connect_with(Version::V5, connect("zero").clean(false)));
    assert!(!has_session(&broker, "zero"));
    for id in ["V31", "V311", "an hour", "never", "said when leaving"] {
        broker.wait_for_log(&format!("Expiring client {id} due to timeout."));
        assert!(!has_session(&broker, id));
    }
}

/// `persistent_client_expiration` is for those who are away: a client that stays connected keeps its session.
#[test]
fn persistent_client_expiration_spares_the_connected() {
    let broker = Broker::start(&["persistent_client_expiration 1s"]);
    let mut client = subscribed(&broker, Version::V311, "client", "t", 1);
    thread::sleep(OVER_A_SECOND);
    client.send(publish("t", "x"));
    client.expect(publish("t", "x"));
    drop(client);
    resume(&broker, Version::V311, "client").fence();
}

/// [MQTT-3.1.4-3] A second connection takes over the session, whatever versions the two speak: subscriptions and
/// unacknowledged messages go on. Properties are for those who understand them.
#[test]
fn mqtt_3_1_4_3_take_over_between_versions() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    for (old_version, new_version) in version_pairs() {
        let message = || {
            publish("t", "unacknowledged")
                .qos(1)
                .with(content_type("x"))
        };
        let mut old = subscribed(&broker, old_version, "client", "t", 1);
        publisher.send(message().packet_id(5));
        publisher.expect(puback(5));
        old.expect(message().packet_id(1));
        let mut new = resume(&broker, new_version, "client");
        expect_taken_over(&mut old, old_version);
        new.expect(message().packet_id(1).dup());
        new.send(puback(1));
        publisher.send(message().packet_id(6));
        publisher.expect(puback(6));
        new.expect(message().packet_id(2));
        leave(broker.connect(new_version, "client"));
    }
}

/// [MQTT-3.1.4-4] A clean start takes over as well, and begins anew.
#[test]
fn mqtt_3_1_4_4_clean_take_over_between_versions() {
    let broker = Broker::start(&[]);
    for (old_version, new_version) in version_pairs() {
        let mut old = subscribed(&broker, old_version, "client", "t", 1);
        let mut new = broker.connect(new_version, "client");
        assert!(!new.connack.session_present);
        expect_taken_over(&mut old, old_version);
        new.send(publish("t", "x"));
        new.fence();
        leave(new);
    }
}

/// 3.1.2.11.2: a session without an expiry ends when its connection is closed, also by a take-over: there is nothing to
/// resume then.
#[test]
fn take_over_of_a_session_that_ends_with_its_connection() {
    let broker = Broker::start(&[]);
    for (old_version, new_version) in version_pairs() {
        let mut old = broker.connect(old_version, "client");
        old.send(subscribe(1).filter("t", 1));
        old.expect(suback(1, &[1]));
        let mut new = broker.connect_with(new_version, connect("client").persistent());
        assert!(!new.connack.session_present);
        expect_taken_over(&mut old, old_version);
        new.send(publish("t", "x"));
        new.fence();
        leave(broker.connect(new_version, "client"));
    }
}

/// [MQTT-4.3.3-10] Take-over between PUBLISH and PUBREL of an incoming QoS 2 message: passed on once, when the new
/// connection releases it; a PUBREL that comes again is answered, and passes nothing on.
#[test]
fn mqtt_4_3_3_10_take_over_before_pubrel() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("once", 0));
    watcher.expect(suback(1, &[0]));
    for (old_version, new_version) in version_pairs() {
        let mut old = broker.connect_with(old_version, connect("client").persistent());
        old.send(publish("once", "x").qos(2).packet_id(9));
        old.expect(pubrec(9));
        let mut new = resume(&broker, new_version, "client");
        expect_taken_over(&mut old, old_version);
        watcher.fence();
        new.send(pubrel(9));
        new.expect(pubcomp(9));
        watcher.expect(publish("once", "x"));
        let mut third = resume(&broker, old_version, "client");
        expect_taken_over(&mut new, new_version);
        third.send(pubrel(9));
        third.expect(if old_version == Version::V5 {
            pubcomp(9).reason(0x92)
        } else {
            pubcomp(9)
        });
        watcher.fence();
        leave(broker.connect(new_version, "client"));
    }
}

/// [MQTT-3.1.2-4] A clean take-over forgets a QoS 2 message that was not released: nobody is sent it.
#[test]
fn mqtt_3_1_2_4_clean_take_over_before_pubrel() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.send(subscribe(1).filter("never", 0));
    watcher.expect(suback(1, &[0]));
    let mut old = broker.connect_with(Version::V5, connect("client").persistent());
    old.send(publish("never", "x").qos(2).packet_id(9));
    old.expect(pubrec(9));
    let mut new = broker.connect_v5("client");
    expect_taken_over(&mut old, Version::V5);
    new.send(pubrel(9));
    new.expect(pubcomp(9).reason(0x92));
    watcher.fence();
}

/// [MQTT-4.3.3-1] Take-over in each state of an outgoing QoS 2 message: PUBLISH again, PUBREL again, or nothing.
#[test]
fn mqtt_4_3_3_1_take_over_while_sending() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    for (old_version, new_version) in version_pairs() {
        let mut old = subscribed(&broker, old_version, "client", "t", 2);
        publisher.send(publish("t", "x").qos(2).packet_id(1));
        publisher.expect(pubrec(1));
        publisher.send(pubrel(1));
        publisher.expect(pubcomp(1));
        old.expect(publish("t", "x").qos(2).packet_id(1));

        let mut new = resume(&broker, new_version, "client");
        expect_taken_over(&mut old, old_version);
        new.expect(publish("t", "x").qos(2).packet_id(1).dup());
        new.send(pubrec(1));
        new.expect(pubrel(1));

        let mut third = resume(&broker, old_version, "client");
        expect_taken_over(&mut new, new_version);
        third.expect(pubrel(1));
        third.send(pubcomp(1));
        third.fence();

        let mut fourth = resume(&broker, new_version, "client");
        expect_taken_over(&mut third, old_version);
        fourth.fence();
        leave(broker.connect(new_version, "client"));
    }
}

/// [MQTT-3.1.4-3] A chain of take-overs: each connection ends, only the last one stays.
#[test]
fn mqtt_3_1_4_3_many_take_overs() {
    let broker = Broker::start(&[]);
    let mut chain: Vec<Raw> = (0..100)
        .map(|_| broker.connect_with(Version::V5, connect("client").persistent()))
        .collect();
    let mut last = chain.pop().expect("there are a hundred");
    for client in &mut chain {
        expect_taken_over(client, Version::V5);
    }
    last.fence();
    broker.wait_for_log("disconnected: session taken over.");
}

/// [MQTT-3.1.4-3] Many connections of one client at the same moment: each but one is ended, and the last one stays.
#[test]
fn mqtt_3_1_4_3_take_overs_at_once() {
    let broker = Broker::start(&[]);
    for packet in [connect("client"), connect("client").persistent()] {
        let mut clients: Vec<Raw> = (0..50).map(|_| broker.open(Version::V5)).collect();
        for client in &mut clients {
            client.send(packet.clone());
            client.send(publish("t", "x").qos(1).packet_id(1));
        }
        let mut last = broker.connect_with(Version::V5, packet);
        for client in &mut clients {
            assert_eq!(client.expect_connack().reason, 0);
            let rest = client.drain_until_closed().expect("it was taken over");
            assert!(rest.ends_with(b"\xe0\x01\x8e"), "{rest:x?}");
        }
        last.fence();
        leave(last);
    }
}

/// [MQTT-3.1.4-5] What is sent right behind a CONNECT that takes over is handled in the session that was taken.
#[test]
fn mqtt_3_1_4_5_packets_right_behind_a_take_over() {
    let broker = Broker::start(&[]);
    for (old_version, new_version) in version_pairs() {
        let mut old = subscribed(&broker, old_version, "client", "t", 0);
        let mut new = broker.open(new_version);
        let pipeline = [
            connect("client").persistent().encode(new_version),
            subscribe(1).filter("u", 0).encode(new_version),
            publish("u", "first").encode(new_version),
            publish("t", "second")
                .qos(1)
                .packet_id(2)
                .encode(new_version),
        ];
        new.send(pipeline.concat());
        assert_eq!(new.expect_connack().reason, 0);
        new.expect(suback(1, &[0]));
        new.expect(publish("u", "first"));
        new.expect(publish("t", "second"));
        new.expect(puback(2));
        expect_taken_over(&mut old, old_version);
        leave(broker.connect(new_version, "client"));
    }
}

/// [MQTT-3.1.4-3] A client that does not read what it is sent can be taken over all the same.
#[test]
fn mqtt_3_1_4_3_take_over_of_a_client_that_does_not_read() {
    let broker = Broker::start(&[]);
    let old = subscribed(&broker, Version::V5, "client", "flood", 0);
    let mut publisher = broker.connect_v3("publisher");
    for _ in 0..250 {
        publisher.send(publish("flood", vec![b'x'; 65_536]));
    }
    publisher.fence();
    let mut new = resume(&broker, Version::V311, "client");
    new.fence();
    publisher.send(publish("flood", "to the new one"));
    new.expect(publish("flood", "to the new one"));
    drop(old);
    new.fence();
}

/// A session is resumed by a client of another version, with its subscriptions and its queue.
#[test]
fn sessions_of_one_version_are_resumed_by_another() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    for (old, new) in version_pairs() {
        leave(subscribed(&broker, old, "client", "queue/#", 1));
        for id in 1..=3 {
            let message = publish("queue/x", [id as u8]).qos(1).packet_id(id);
            publisher.send(message.with(user_property("key", "value")));
            publisher.expect(puback(id));
        }
        let mut client = resume(&broker, new, "client");
        for id in 1..=3 {
            let message = publish("queue/x", [id as u8]).qos(1).packet_id(id);
            client.expect(message.with(user_property("key", "value")));
            client.send(puback(id));
        }
        client.send(publish("queue/y", "now"));
        client.expect(publish("queue/y", "now"));
        leave(broker.connect(new, "client"));
    }
}

/// [MQTT-3.1.3-2] A session is found by the very bytes of its identifier: wildcards, separators, any script, any length.
#[test]
fn mqtt_3_1_3_2_identifiers_of_any_kind() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v3("publisher");
    let longest = "x".repeat(65_535);
    let longest_but_one = "x".repeat(65_534);
    let ids = [
        "a",
        "A",
        "a ",
        " a",
        "a/b",
        "/",
        "+",
        "#",
        "$SYS/broker",
        "$share/group/#",
        "%c",
        "\"quoted\"\\",
        "sn\u{f6}",
        "sno\u{308}",
        "\u{feff}a",
        "\u{1f98e}\u{4e2d}\u{6587}",
        &longest,
        &longest_but_one,
    ];
    for (index, id) in ids.into_iter().enumerate() {
        let version = Version::ALL[index % 3];
        leave(subscribed(&broker, version, id, &format!("own/{index}"), 1));
    }
    for index in 0..ids.len() {
        let topic = format!("own/{index}");
        publisher.send(publish(&topic, "x").qos(1).packet_id(1));
        publisher.expect(puback(1));
    }
    for (index, id) in ids.into_iter().enumerate() {
        let mut client = resume(&broker, Version::V5, id);
        client.expect(publish(&format!("own/{index}"), "x").qos(1).packet_id(1));
        client.fence();
    }
}

/// Two thousand sleeping sessions with twenty messages each: all of them, in order, when they come back.
#[test]
fn thousands_of_sleeping_sessions() {
    const SESSIONS: usize = 2000;
    const MESSAGES: usize = 20;
    let broker = Broker::start(&["log_type error"]);
    let name = |index| format!("sleeper-{index}");
    let own = |index| format!("own/{index}");
    for index in 0..SESSIONS {
        let version = Version::ALL[index % 3];
        let mut client = broker.connect_with(version, connect(&name(index)).persistent());
        client.send(subscribe(1).filter("all", 1).filter(&own(index), 1));
        client.expect(suback(1, &[1, 1]));
        leave(client);
    }
    // Every other message is the same for all, the rest for one each.
    let mut publisher = broker.connect_v3("publisher");
    for number in 0..MESSAGES {
        let topics: Vec<String> = match number % 2 {
            0 => vec!["all".into()],
            _ => (0..SESSIONS).map(own).collect(),
        };
        for chunk in topics.chunks(500) {
            let publishes = chunk.iter().flat_map(|topic| {
                let message = publish(topic, number.to_string()).qos(1).packet_id(1);
                message.encode(Version::V311)
            });
            publisher.send(publishes.collect::<Vec<u8>>());
            for _ in chunk {
                publisher.expect(puback(1));
            }
        }
    }
    for index in 0..SESSIONS {
        let mut client = resume(&broker, Version::ALL[index % 3], &name(index));
        for number in 0..MESSAGES {
            let topic = match number % 2 {
                0 => "all".into(),
                _ => own(index),
            };
            let message = publish(&topic, number.to_string());
            client.expect(message.qos(1).packet_id(number as u16 + 1));
        }
        client.fence();
    }
}

/// `global_max_clients` counts sessions, sleeping ones too: 0x89, or 3 before 5.0. Who is known may come back, and who
/// leaves makes room.
#[test]
fn global_max_clients() {
    let broker = Broker::start(&["global_max_clients 3"]);
    leave(broker.connect_with(Version::V311, connect("sleeper").persistent()));
    let awake = broker.connect_v5("awake");
    let old = broker.connect_with(Version::V5, connect("taken over").persistent());
    for _ in 0..2 {
        expect_refusal(&broker, Version::V5, connect("new"), 0x89);
        expect_refusal(&broker, Version::V5, connect(""), 0x89);
        expect_refusal(&broker, Version::V311, connect("new"), 3);
        expect_refusal(&broker, Version::V31, connect("new"), 3);
    }
    resume(&broker, Version::V311, "sleeper").fence();
    resume(&broker, Version::V5, "taken over").fence();
    drop(old);
    leave(awake);
    broker.connect_v5("new").fence();
}

/// A broker that has seen the end of the harness's first probing connection, so that connections can be counted.
fn start_counting(line: &str) -> Broker {
    let broker = Broker::start(&[line]);
    broker.wait_for_log("disconnected: connection closed by client");
    broker
}

/// `max_connections` closes what is too much without a CONNACK; a connection counts before its CONNECT, too.
#[test]
fn max_connections() {
    let broker = start_counting("max_connections 2");
    let first = broker.connect_v3("first");
    let mut silent = broker.open(Version::V311);
    for version in Version::ALL {
        let mut third = broker.open(version);
        third.send(connect("third"));
        third.expect_closed();
    }
    broker.wait_for_log("denied: max_connections exceeded");
    silent.shutdown_send();
    silent.expect_closed();
    leave(first);
    broker.connect_v3("third").fence();
    broker.connect_v3("fourth").fence();
}

/// `max_connections` counts before anything is read: no take-over on a connection that is one too many.
#[test]
fn max_connections_comes_before_a_take_over() {
    let broker = start_counting("max_connections 1");
    let mut first = broker.connect_v3("client");
    let mut second = broker.open(Version::V311);
    second.send(connect("client"));
    second.expect_closed();
    first.fence();
}

/// `global_max_connections` closes what is too much without a CONNACK, and counts sockets, not sessions.
#[test]
fn global_max_connections() {
    let broker = start_counting("global_max_connections 2");
    for index in 0..5 {
        let id = format!("sleeper-{index}");
        leave(broker.connect_with(Version::V311, connect(&id).persistent()));
    }
    let first = broker.connect_v3("first");
    let _second = broker.connect_v5("second");
    for version in Version::ALL {
        let mut third = broker.open(version);
        third.send(connect("third"));
        third.expect_closed();
    }
    leave(first);
    broker.connect_v3("third").fence();
}
