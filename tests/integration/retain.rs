//! Retained messages (3.3.1.3, 3.8.3.1): set, replaced, cleared, expired, and replayed to new subscriptions.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::harness::*;
use crate::subscribe::MATCHES;

/// Retained messages in such numbers do not fit into an outbox or a window.
const MANY: usize = 5000;

/// Publishes retained messages of QoS 0 with these topics and payloads.
fn retain(client: &mut Raw, messages: &[(&str, &str)]) {
    for (topic, payload) in messages {
        client.send(publish(topic, payload).retain());
    }
    client.fence();
}

/// What a client that subscribes to `filter` now is sent at once: topics and payloads, sorted.
fn retained(broker: &Broker, filter: &str) -> Vec<(String, String)> {
    let mut client = broker.subscriber(Version::V5, "looking", filter, 0);
    client.send(pingreq());
    let mut found = Vec::new();
    loop {
        let packet = client.expect_packet();
        let Some(message) = Publish::decode(&packet, Version::V5) else {
            assert_eq!(packet, b"\xd0\x00");
            found.sort();
            return found;
        };
        assert!(message.retain, "{message:?}");
        let payload = String::from_utf8(message.payload).expect("the tests write text");
        found.push((message.topic, payload));
    }
}

/// Asserts that these are the retained messages that `filter` matches.
#[track_caller]
fn assert_retained(broker: &Broker, filter: &str, expected: &[(&str, &str)]) {
    let found = retained(broker, filter);
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(t, p)| (t.as_str(), p.as_str()))
        .collect();
    assert_eq!(found, expected);
}

/// Publishes [`MANY`] retained messages to topics of several depths below `many`.
fn retain_many(client: &mut Raw, payload: &str) {
    for numbers in (0..MANY).collect::<Vec<_>>().chunks(500) {
        let messages = numbers
            .iter()
            .map(|&number| publish(&many(number), payload).qos(1));
        let bytes = messages.flat_map(|m| m.packet_id(1).retain().encode(Version::V5));
        client.send(bytes.collect::<Vec<u8>>());
        for _ in numbers {
            assert_eq!(client.expect_packet()[0], 0x40);
        }
    }
}

/// The topic of one of many retained messages.
fn many(number: usize) -> String {
    let depth = "/deeper".repeat(number % 4);
    format!("many/{}{depth}/{number}", number % 37)
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-9] The last retained message of a topic is sent to each new subscription, with RETAIN 1,
/// after the SUBACK. [MQTT-3.3.1-8] of 3.1.1.
#[test]
fn mqtt_3_3_1_5_the_last_one_is_kept() {
    let broker = Broker::start(&[]);
    for (from, to) in Version::ALL
        .into_iter()
        .flat_map(|f| Version::ALL.map(|t| (f, t)))
    {
        let mut publisher = broker.connect(from, "publisher");
        retain(&mut publisher, &[("t", "one"), ("u", "x"), ("t", "two")]);
        for client_id in ["first", "second"] {
            let mut subscriber = broker.subscriber(to, client_id, "t", 0);
            subscriber.expect(publish("t", "two").retain());
            subscriber.fence();
        }
    }
}

/// [MQTT-3.3.1-12] A subscription that is there already gets the message with RETAIN 0.
#[test]
fn mqtt_3_3_1_12_established_subscriptions() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "new/#", 2);
        let mut publisher = broker.connect_v5("publisher");
        for qos in 0..=2 {
            publisher.publish(&publish("new/t", "x").qos(qos).packet_id(1).retain());
            subscriber.receive(&publish("new/t", "x").qos(qos).packet_id(qos.into()));
        }
        subscriber.fence();
        publisher.publish(&publish("new/t", "").retain());
    }
}

/// [MQTT-3.3.1-13] With Retain As Published, RETAIN is as it came, 1 or 0.
#[test]
fn mqtt_3_3_1_13_retain_as_published() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.subscriber(Version::V5, "s", "t", 2 | RETAIN_AS_PUBLISHED);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        for (qos, packet_id) in [(0, 0), (1, 1), (2, 1)] {
            publisher.publish(&publish("t", "x").qos(qos).packet_id(packet_id).retain());
            assert!(subscriber.receive_any().retain);
            publisher.publish(&publish("t", "x").qos(qos).packet_id(packet_id));
            assert!(!subscriber.receive_any().retain);
        }
        publisher.publish(&publish("t", "").retain());
        subscriber.receive_any();
    }
}

/// [MQTT-3.3.1-13] The message keeps its RETAIN when it has to wait for its subscriber.
#[test]
fn mqtt_3_3_1_13_retain_as_published_in_the_queue() {
    let broker = Broker::start(&[]);
    let mut sleeping = broker.connect_with(Version::V5, connect("sleeping").persistent());
    sleeping.subscribe("kept", 1 | RETAIN_AS_PUBLISHED);
    sleeping.subscribe("plain", 1);
    sleeping.leave();
    let mut publisher = broker.connect_v5("publisher");
    for topic in ["kept", "plain"] {
        publisher.publish(&publish(topic, "x").qos(1).packet_id(1).retain());
    }
    let mut sleeping = broker.connect_with(Version::V5, connect("sleeping").persistent());
    sleeping.receive(&publish("kept", "x").qos(1).packet_id(1).retain());
    sleeping.receive(&publish("plain", "x").qos(1).packet_id(2));
}

/// [MQTT-3.3.1-6], [MQTT-3.3.1-7] An empty retained message removes the one of its topic, is delivered as usual, and is
/// not stored itself.
#[test]
fn mqtt_3_3_1_6_empty_retained_message_removes() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        for qos in 0..=2 {
            let mut publisher = broker.connect(version, "publisher");
            retain(&mut publisher, &[("t", "x"), ("t/u", "y")]);
            let mut subscriber = broker.connect_v5("subscriber");
            subscriber.subscribe("t", RETAIN_NEVER);
            publisher.publish(&publish("t", "").qos(qos).packet_id(1).retain());
            subscriber.expect(publish("t", ""));
            assert_retained(&broker, "#", &[("t/u", "y")]);
            publisher.publish(&publish("t", "").qos(qos).packet_id(1).retain());
            assert_retained(&broker, "#", &[("t/u", "y")]);
        }
    }
}

/// [MQTT-3.3.1-8] A message with RETAIN 0 neither stores nor removes, even if it is empty.
#[test]
fn mqtt_3_3_1_8_retain_0_changes_nothing() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        retain(&mut publisher, &[("t", "kept")]);
        for qos in 0..=2 {
            for (topic, payload) in [("t", "other"), ("t", ""), ("u", "new")] {
                publisher.publish(&publish(topic, payload).qos(qos).packet_id(1));
            }
        }
        assert_retained(&broker, "#", &[("t", "kept")]);
    }
}

/// [MQTT-3.3.1-7] of 3.1.1: a retained message of QoS 0 replaces one of a higher QoS as well; each is sent with the
/// lower of its QoS and the one granted.
#[test]
fn mqtt311_3_3_1_7_qos_of_retained_messages() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        for published in [2, 1, 0] {
            let payload = published.to_string();
            publisher.publish(&publish("t", &payload).qos(published).packet_id(1).retain());
            for granted in 0..=2 {
                let mut subscriber = broker.subscriber(version, "subscriber", "t", granted);
                let expected = publish("t", &payload)
                    .qos(granted.min(published))
                    .packet_id(1);
                subscriber.receive(&expected.retain());
                subscriber.fence();
            }
        }
    }
}

/// A QoS 2 message is retained when it is released, not before.
#[test]
fn a_qos_2_message_is_retained_at_pubrel() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    publisher.send(publish("t", "x").qos(2).packet_id(1).retain());
    publisher.expect(pubrec(1).reason(0x10));
    assert_retained(&broker, "#", &[]);
    publisher.send(pubrel(1));
    publisher.expect(pubcomp(1));
    assert_retained(&broker, "#", &[("t", "x")]);
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11] Retain Handling: 0 sends retained messages on each SUBSCRIBE, 1 only
/// if the subscription is new, 2 never.
#[test]
fn mqtt_3_3_1_10_retain_handling() {
    let broker = Broker::start(&[]);
    retain(&mut broker.connect_v5("publisher"), &[("t", "x")]);
    for (handling, on_new, on_existing) in [
        (0, true, true),
        (RETAIN_IF_NEW, true, false),
        (RETAIN_NEVER, false, false),
    ] {
        let mut client = broker.connect_v5("client");
        let mut subscribe_and_look = |expected: bool| {
            client.subscribe("t", handling);
            if expected {
                client.expect(publish("t", "x").retain());
            }
            client.fence();
        };
        subscribe_and_look(on_new);
        subscribe_and_look(on_existing);
        subscribe_and_look(on_existing);
        client.send(unsubscribe(2, &["t"]));
        client.expect(unsuback(2, &[0]));
        client.subscribe("t", handling);
        if on_new {
            client.expect(publish("t", "x").retain());
        }
        client.fence();
    }
}

/// [MQTT-3.3.1-10] A subscription that its session kept is not new; one with another filter is.
#[test]
fn mqtt_3_3_1_10_a_resumed_subscription_is_not_new() {
    let broker = Broker::start(&[]);
    retain(&mut broker.connect_v5("publisher"), &[("t", "x")]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.subscribe("t", RETAIN_IF_NEW);
    client.expect(publish("t", "x").retain());
    drop(client);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.fence();
    client.subscribe("t", RETAIN_IF_NEW);
    client.fence();
    client.subscribe("+", RETAIN_IF_NEW);
    client.expect(publish("t", "x").retain());
    client.fence();
}

/// [MQTT-3.8.4-4] The same SUBSCRIBE again sends retained messages again, in 3.x always.
#[test]
fn mqtt_3_8_4_4_subscribing_again_sends_them_again() {
    let broker = Broker::start(&[]);
    retain(&mut broker.connect_v5("publisher"), &[("t", "x")]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        for _ in 0..3 {
            client.subscribe("t", 0);
            client.expect(publish("t", "x").retain());
        }
        client.fence();
    }
}

/// Each filter of a SUBSCRIBE gets its own retained messages, with the QoS and the identifier of its subscription.
#[test]
fn retained_messages_of_several_filters() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&publish("a/b", "x").qos(2).packet_id(1).retain());
    let mut client = broker.connect_v5("client");
    let filters = subscribe(1)
        .filter("a/b", 0)
        .filter("a/+", 1)
        .filter("c", 1);
    client.send(filters.with(subscription_identifier(5)));
    client.expect(suback(1, &[0, 1, 1]));
    let expected = publish("a/b", "x")
        .retain()
        .with(subscription_identifier(5));
    client.receive(&expected);
    client.receive(&expected.qos(1).packet_id(1));
    client.fence();
}

/// The table of filters, topics and matches holds for retained messages as it does for new ones. [MQTT-4.7.2-1]
#[test]
fn mqtt_4_7_2_1_filters_of_retained_messages() {
    let broker = Broker::start(&["log_type error"]);
    let mut publisher = broker.connect_v5("publisher");
    let mut filters: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for &(filter, topic, matches) in MATCHES {
        retain(&mut publisher, &[(topic, "x")]);
        filters.entry(filter).or_default().push((topic, matches));
    }
    for (filter, topics) in filters {
        let found = retained(&broker, filter);
        for (topic, matches) in topics {
            let is_found = found.iter().any(|(found, _)| found == topic);
            assert_eq!(is_found, matches, "{filter} and {topic}");
        }
    }
}

/// Retained messages come from the shortest topic to the deepest: a topic before those below it.
#[test]
fn shorter_topics_come_first() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    let path = ["a/b/c/d", "a", "a/b/c", "a/b", "a/b/c/d/e"];
    retain(&mut publisher, &path.map(|topic| (topic, "x")));
    for filter in ["#", "a/#"] {
        let mut client = broker.subscriber(Version::V5, "client", filter, 0);
        for topic in ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e"] {
            client.expect(publish(topic, "x").retain());
        }
    }
}

/// Clearing one topic leaves those above and below it.
#[test]
fn clearing_leaves_the_neighbours() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    retain(
        &mut publisher,
        &[
            ("a", "1"),
            ("a/b", "2"),
            ("a/b/c", "3"),
            ("a/x", "4"),
            ("a/b", ""),
        ],
    );
    assert_retained(&broker, "#", &[("a", "1"), ("a/b/c", "3"), ("a/x", "4")]);
    retain(&mut publisher, &[("a", ""), ("a/x", "")]);
    assert_retained(&broker, "#", &[("a/b/c", "3")]);
    retain(&mut publisher, &[("a/b/c", ""), ("a", "5")]);
    assert_retained(&broker, "#", &[("a", "5")]);
}

/// [MQTT-3.3.2-5] A retained message that expired is gone; one that replaced it, or was cleared before, is not touched by
/// the old one's expiry.
#[test]
fn mqtt_3_3_2_5_expiry_of_retained_messages() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    for topic in ["expires", "replaced", "cleared", "set again"] {
        publisher.publish(
            &publish(topic, "x")
                .retain()
                .with(message_expiry_interval(1)),
        );
    }
    publisher.publish(
        &publish("lives", "x")
            .retain()
            .with(message_expiry_interval(100)),
    );
    retain(
        &mut publisher,
        &[("replaced", "y"), ("cleared", ""), ("set again", "")],
    );
    retain(&mut publisher, &[("set again", "y")]);
    thread::sleep(Duration::from_millis(1300));
    assert_retained(
        &broker,
        "#",
        &[("lives", "x"), ("replaced", "y"), ("set again", "y")],
    );
}

/// `retain_available false`: a retained PUBLISH ends the connection, in 5.0 with 0x9A, and is not delivered.
#[test]
fn retain_available_false() {
    let broker = Broker::start(&["retain_available false"]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        for qos in 0..=2 {
            let mut client = broker.connect(version, "client");
            client.send(publish("t", "x").qos(qos).packet_id(1).retain());
            if version == Version::V5 {
                client.expect(disconnect().reason(0x9A));
            }
            client.expect_closed();
        }
        subscriber.fence();
    }
}

/// Retained messages below `$` topics are kept like others, and the $SYS topics are there for a new subscription.
#[test]
fn retained_dollar_topics() {
    let broker = Broker::start(&["sys_interval 1"]);
    let mut publisher = broker.connect_v5("publisher");
    retain(&mut publisher, &[("$mine/a", "x")]);
    assert_retained(&broker, "$mine/#", &[("$mine/a", "x")]);
    assert_retained(&broker, "#", &[]);
    assert_retained(&broker, "+/a", &[]);
    let version = retained(&broker, "$SYS/broker/version");
    assert_eq!(version.len(), 1, "{version:?}");
}

/// [MQTT-3.3.1-9] Every one of thousands of retained messages is sent, once, at QoS 0 and 1, to every version.
#[test]
fn mqtt_3_3_1_9_thousands_of_them() {
    let broker = Broker::start(&["log_type error"]);
    retain_many(&mut broker.connect_v5("publisher"), "x");
    for version in Version::ALL {
        for qos in 0..=1 {
            let mut client = broker.subscriber(version, "client", "#", qos);
            let mut topics: Vec<String> = (0..MANY)
                .map(|_| {
                    let received = client.receive_any();
                    assert_eq!((received.qos, received.retain), (qos, true));
                    received.topic
                })
                .collect();
            topics.sort();
            topics.dedup();
            assert_eq!(topics.len(), MANY, "each comes once");
            client.fence();
        }
    }
}

/// Packets that follow a SUBSCRIBE with thousands of retained messages are answered, and other clients served, while the
/// client does not read.
#[test]
fn replay_to_a_slow_reader() {
    let broker = Broker::start(&["log_type error"]);
    let mut publisher = broker.connect_v5("publisher");
    let large = "x".repeat(5000);
    retain_many(&mut publisher, &large);
    let mut slow = broker.connect_v5("slow");
    slow.send(subscribe(1).filter("many/#", 0));
    let mut other = broker.subscriber(Version::V5, "other", "u", 0);
    for _ in 0..100 {
        publisher.send(publish("u", "hi"));
        other.expect(publish("u", "hi"));
    }
    slow.send(subscribe(2).filter("u", 1));
    slow.expect(suback(1, &[0]));
    let mut replayed = 0;
    while replayed < MANY {
        let packet = slow.expect_packet();
        match Publish::decode(&packet, Version::V5) {
            Some(message) => {
                assert_eq!(message.payload.len(), large.len());
                replayed += 1;
            }
            None => assert_eq!(packet, suback(2, &[1]).encode(Version::V5)),
        }
    }
    publisher.publish(&publish("u", "hi").qos(1).packet_id(1));
    loop {
        let packet = slow.expect_packet();
        if let Some(message) = Publish::decode(&packet, Version::V5) {
            assert_eq!(message.payload, b"hi");
            break;
        }
    }
}

/// Messages replaced and cleared while the replay waits: what a client saw last of each topic is what is retained.
#[test]
fn replaced_while_replaying() {
    let broker = Broker::start(&["log_type error", "max_queued_messages 0"]);
    for qos in 0..=2 {
        let mut publisher = broker.connect_v5("publisher");
        retain_many(&mut publisher, "old");
        let packet = connect("slow").with(receive_maximum(5));
        let mut slow = broker.connect_with(Version::V5, packet);
        slow.subscribe("many/#", qos);
        for number in (0..MANY).step_by(7) {
            publisher.publish(&publish(&many(number), "new").qos(1).packet_id(1).retain());
        }
        for number in (3..MANY).step_by(7) {
            publisher.publish(&publish(&many(number), "").qos(1).packet_id(1).retain());
        }
        publisher.publish(&publish("many", "end").qos(1).packet_id(1));
        // New messages may overtake the replay, which may then leave out what they replaced: the end of both is that
        // every topic was seen, and the last message.
        let mut seen: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        while seen.len() <= MANY {
            let received = slow.receive_any();
            seen.insert(received.topic, received.payload);
        }
        for number in 0..MANY {
            let expected: &[u8] = match number % 7 {
                0 => b"new",
                3 => b"",
                _ => b"old",
            };
            assert_eq!(
                seen[&many(number)],
                expected,
                "{} at QoS {qos}",
                many(number)
            );
        }
    }
}

/// [MQTT-4.4.0-1] A client that lost its connection in the middle of a replay is sent the rest in its session: it is told
/// that the session is there, and so does not subscribe again.
#[test]
fn mqtt_4_4_0_1_replay_goes_on_after_a_reconnect() {
    let broker = Broker::start(&["max_inflight_messages 5"]);
    let mut publisher = broker.connect_v5("publisher");
    for number in 0..50 {
        let message = publish(&format!("t/{number}"), "x").qos(1).packet_id(1);
        publisher.publish(&message.retain());
    }
    for version in Version::ALL {
        let mut client = broker.connect_with(version, connect("client").persistent());
        client.subscribe("t/#", 1);
        let mut topics: Vec<String> = (0..10).map(|_| client.receive_any().topic).collect();
        drop(client);
        let mut client = broker.connect_with(version, connect("client").persistent());
        while topics.len() < 50 {
            let received = client.receive_any();
            if !topics.contains(&received.topic) {
                topics.push(received.topic);
            }
        }
        broker.connect(version, "client").fence();
    }
}

/// Retained messages are for the new subscriber alone.
#[test]
fn others_do_not_hear_of_a_replay() {
    let broker = Broker::start(&[]);
    retain(&mut broker.connect_v5("publisher"), &[("t", "x")]);
    let mut first = broker.subscriber(Version::V5, "first", "#", 0);
    first.expect(publish("t", "x").retain());
    let mut second = broker.subscriber(Version::V5, "second", "#", 0);
    second.expect(publish("t", "x").retain());
    first.fence();
}

/// [MQTT-4.6.0-5] A message published after a retained one of its topic, by the same client and with the same QoS, does
/// not come before it, even while the replay waits for a slow reader.
#[test]
fn mqtt_4_6_0_5_new_messages_do_not_overtake_the_replay() {
    let broker = Broker::start(&["log_type error"]);
    let large = "x".repeat(5000);
    for qos in 0..=1 {
        let mut publisher = broker.connect_v5("publisher");
        retain_many(&mut publisher, &large);
        let mut slow = broker.subscriber(Version::V5, "slow", "many/#", qos);
        for number in (0..MANY).step_by(100) {
            publisher.publish(&publish(&many(number), "new").qos(1).packet_id(1));
        }
        publisher.publish(&publish("many", "end").qos(1).packet_id(1));
        let mut renewed = Vec::new();
        let (mut left, mut ended) = (MANY, false);
        while left > 0 || !ended {
            let received = slow.receive_any();
            match &received.payload[..] {
                b"new" => renewed.push(received.topic),
                b"end" => ended = true,
                _ => {
                    left -= 1;
                    let topic = received.topic;
                    assert!(
                        !renewed.contains(&topic),
                        "{topic}: the old one came last, QoS {qos}"
                    );
                }
            }
        }
    }
}

/// [MQTT-3.10.4-2] UNSUBSCRIBE ends a replay that waits: only what was sent before still comes.
#[test]
fn mqtt_3_10_4_2_unsubscribe_ends_the_replay() {
    let broker = Broker::start(&["log_type error", "max_inflight_messages 5"]);
    retain_many(&mut broker.connect_v5("publisher"), "x");
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "many/#", 1);
        let under_way: Vec<Publish> = (0..5).map(|_| client.expect_publish()).collect();
        client.send(unsubscribe(2, &["many/#"]));
        client.expect(unsuback(2, &[0]));
        for message in under_way {
            client.send(puback(message.packet_id));
        }
        client.fence();
    }
}
