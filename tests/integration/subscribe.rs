//! SUBSCRIBE and UNSUBSCRIBE (3.8 to 3.11), Topic Filters (4.7) and Shared Subscriptions (4.8.2).

use crate::harness::*;

/// Topic Filters, Topic Names, and whether they match (4.7.1, 4.7.2).
pub const MATCHES: &[(&str, &str, bool)] = &[
    ("a", "a", true),
    ("a", "A", false),
    ("a", "a/", false),
    ("a", "/a", false),
    ("a", "a/b", false),
    ("a", "aa", false),
    ("a/b", "a/b", true),
    ("a/b", "a", false),
    ("a/b", "a/b/c", false),
    ("a//b", "a//b", true),
    ("a//b", "a/b", false),
    ("/", "/", true),
    ("/", "//", false),
    ("//", "//", true),
    ("+", "a", true),
    ("+", "a/b", false),
    ("+", "/a", false),
    ("+", "/", false),
    ("+/+", "/a", true),
    ("+/+", "/", true),
    ("+/+", "a", false),
    ("/+", "/a", true),
    ("/+", "/", true),
    ("/+", "a", false),
    ("a/+", "a/b", true),
    ("a/+", "a/", true),
    ("a/+", "a", false),
    ("a/+", "a/b/c", false),
    ("a/+/c", "a/b/c", true),
    ("a/+/c", "a//c", true),
    ("a/+/c", "a/b/d", false),
    ("a/+/c", "a/c", false),
    ("+/b", "a/b", true),
    ("+/b", "/b", true),
    ("+/b", "b", false),
    ("#", "a", true),
    ("#", "/", true),
    ("#", "/a", true),
    ("#", "a/b/c/d/e/f/g", true),
    ("a/#", "a", true),
    ("a/#", "a/", true),
    ("a/#", "a/b", true),
    ("a/#", "a/b/c", true),
    ("a/#", "ab", false),
    ("a/#", "/a", false),
    ("a/b/#", "a/b", true),
    ("a/b/#", "a", false),
    ("/#", "/", true),
    ("/#", "/a/b", true),
    ("/#", "a", false),
    ("+/#", "a", true),
    ("+/#", "a/b/c", true),
    ("+/#", "/", true),
    ("a/+/#", "a/b", true),
    ("a/+/#", "a/b/c", true),
    ("a/+/#", "a/", true),
    ("a/+/#", "a", false),
    ("+/+/#", "a/b", true),
    ("+/+/#", "a", false),
    ("+/b/#", "a/b/c", true),
    ("+/b/#", "a/c", false),
    ("#", "$x", false),
    ("#", "$x/a", false),
    ("+", "$x", false),
    ("+/a", "$x/a", false),
    ("+/#", "$x/a", false),
    ("$x/#", "$x/a", true),
    ("$x/#", "$x", true),
    ("$x/+", "$x/a", true),
    ("$x/a", "$x/a", true),
    ("a/#", "a/$x", true),
    ("a/+", "a/$x", true),
    ("#", "a/$x", true),
    ("ä", "a\u{308}", false),
    ("日本/+", "日本/語", true),
    ("a b/+", "a b/c", true),
    (" ", " ", true),
    (
        "sport/tennis/player1/#",
        "sport/tennis/player1/score/wimbledon",
        true,
    ),
    ("sport/+", "sport", false),
    ("sport/+", "sport/", true),
];

/// Publishes `message` and gives what `client` gets of it, as far as the answer to its next PINGREQ.
fn received(publisher: &mut Raw, client: &mut Raw, message: &Publish) -> Vec<Publish> {
    publisher.publish(message);
    pending(client)
}

/// What waits for `client`, which speaks 5.0 or gets no properties; nothing is acknowledged.
fn pending(client: &mut Raw) -> Vec<Publish> {
    client.send(pingreq());
    let mut messages = Vec::new();
    loop {
        let packet = client.expect_packet();
        match Publish::decode(&packet, client.version()) {
            Some(message) => messages.push(message),
            None => {
                assert_eq!(packet, b"\xd0\x00");
                return messages;
            }
        }
    }
}

/// The Subscription Identifiers of a message, sorted.
fn identifiers(message: &Publish) -> Vec<Property> {
    let mut found = message.properties.clone();
    found.retain(|property| property.id == subscription_identifier(1).id);
    found.sort_by(|one, other| one.value.cmp(&other.value));
    found
}

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-2.2.1-6], [MQTT-2.3.1-7], [MQTT-3.8.4-7] Each SUBSCRIBE is answered by a SUBACK
/// of its identifier with the QoS granted.
#[test]
fn mqtt_3_8_4_2_suback_has_the_identifier() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        for (packet_id, qos) in [(1, 0), (65_535, 1), (0x1234, 2), (1, 0)] {
            client.send(subscribe(packet_id).filter("t", qos));
            client.expect(suback(packet_id, &[qos]));
        }
        client.send(subscribe(2).filter("a", 0));
        client.send(subscribe(3).filter("b", 1));
        client.expect(suback(2, &[0]));
        client.expect(suback(3, &[1]));
    }
}

/// [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.9.3-1], [MQTT-3.9.3-2] Several filters are handled as if each had come alone,
/// and answered in their order.
#[test]
fn mqtt_3_8_4_5_several_filters() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        let filters = subscribe(7)
            .filter("a", 2)
            .filter("b/#", 0)
            .filter("+/c", 1)
            .filter("d", 2);
        client.send(filters);
        client.expect(suback(7, &[2, 0, 1, 2]));
        let mut publisher = broker.connect(version, "publisher");
        for (topic, qos) in [("a", 2), ("b/x", 0), ("x/c", 1), ("d", 2)] {
            let messages = received(
                &mut publisher,
                &mut client,
                &publish(topic, "x").qos(2).packet_id(1),
            );
            let qos_of: Vec<u8> = messages.iter().map(|message| message.qos).collect();
            assert_eq!(qos_of, [qos], "{topic}");
        }
    }
}

/// [MQTT-3.8.4-5] A thousand filters in one packet.
#[test]
fn mqtt_3_8_4_5_a_thousand_filters() {
    let broker = Broker::start(&["log_type error"]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        let filters = (0..1000).map(|number| format!("t/{number}"));
        client.send(filters.fold(subscribe(1), |packet, filter| packet.filter(&filter, 1)));
        client.expect(suback(1, &[1; 1000]));
        client.send(publish("t/999", "x"));
        client.expect(publish("t/999", "x"));
        let filters: Vec<String> = (0..1001).map(|number| format!("t/{number}")).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        client.send(unsubscribe(2, &filters));
        let mut reasons = vec![0; 1001];
        reasons[1000] = 0x11;
        client.expect(unsuback(2, &reasons));
        client.send(publish("t/999", "x"));
        client.fence();
    }
}

/// [MQTT-3.8.4-3] The same filter again replaces the subscription: one copy, with the new QoS.
#[test]
fn mqtt_3_8_4_3_the_same_filter_replaces() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        let mut publisher = broker.connect(version, "publisher");
        for qos in [1, 0, 2, 2, 0] {
            client.subscribe("t/+", qos);
            let message = publish("t/a", "x").qos(2).packet_id(1);
            let messages = received(&mut publisher, &mut client, &message);
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0].qos, qos);
        }
        // Twice in one packet: the last one counts.
        client.send(subscribe(1).filter("t/+", 2).filter("t/+", 0));
        client.expect(suback(1, &[2, 0]));
        let messages = received(
            &mut publisher,
            &mut client,
            &publish("t/a", "x").qos(1).packet_id(1),
        );
        assert_eq!(messages, [publish("t/a", "x")]);
    }
}

/// [MQTT-3.8.4-3] All options and the Subscription Identifier are replaced as well.
#[test]
fn mqtt_3_8_4_3_options_are_replaced() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    let all = 2 | NO_LOCAL | RETAIN_AS_PUBLISHED;
    client.send(
        subscribe(1)
            .with(subscription_identifier(9))
            .filter("t", all),
    );
    client.expect(suback(1, &[2]));
    client.send(publish("t", "own").retain());
    client.fence();
    client.subscribe("t", RETAIN_NEVER);
    client.send(publish("t", "own").retain());
    client.expect(publish("t", "own"));
    client.fence();
}

/// [MQTT-3.8.4-4] No message is lost while a subscription is replaced over and over.
#[test]
fn mqtt_3_8_4_4_nothing_is_lost_while_replacing() {
    const COUNT: u16 = 500;
    let broker = Broker::start(&["log_type error", "max_inflight_messages 0"]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "t", 1);
        let mut publisher = broker.connect(version, "publisher");
        for number in 1..=COUNT {
            publisher.send(publish("t", number.to_string()).qos(1).packet_id(number));
            client.send(subscribe(number).filter("t", 1));
        }
        let (mut acknowledged, mut arrived) = (0, 0);
        while acknowledged < COUNT || arrived < COUNT {
            let packet = client.expect_packet();
            match Publish::decode(&packet, version) {
                Some(message) => {
                    arrived += 1;
                    assert_eq!(message.payload, arrived.to_string().as_bytes());
                }
                None => acknowledged += 1,
            }
        }
        for number in 1..=COUNT {
            publisher.expect(puback(number));
        }
    }
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1], [MQTT-3.3.2-3] Which filters match which topics.
#[test]
fn mqtt_4_7_1_2_filters_and_topics() {
    let broker = Broker::start(&["log_type error"]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        for &(filter, topic, matches) in MATCHES {
            client.subscribe(filter, 0);
            client.send(publish(topic, "x"));
            if matches {
                client.expect(publish(topic, "x"));
            }
            client.send(unsubscribe(2, &[filter]));
            let answer = client.expect_packet();
            assert_eq!(answer[0], 0xB0, "{filter} and {topic}: {answer:x?}");
        }
    }
}

/// [MQTT-4.7.1-1] All of them together, as one client has them: each topic comes once for every filter that matches it.
#[test]
fn mqtt_4_7_1_1_all_filters_at_once() {
    let broker = Broker::start(&["log_type error"]);
    let mut client = broker.connect_v5("client");
    let mut filters: Vec<&str> = MATCHES.iter().map(|&(filter, _, _)| filter).collect();
    filters.sort_unstable();
    filters.dedup();
    for (filter, number) in filters.iter().zip(1..) {
        client.send(
            subscribe(1)
                .with(subscription_identifier(number))
                .filter(filter, 0),
        );
        client.expect(suback(1, &[0]));
    }
    let mut publisher = broker.connect_v5("publisher");
    for &(filter, topic, matches) in MATCHES {
        let number = 1 + filters.binary_search(&filter).expect("it is in the list");
        let messages = received(&mut publisher, &mut client, &publish(topic, "x"));
        let wanted = [subscription_identifier(number)];
        let copies = messages.iter().filter(|m| identifiers(m) == wanted).count();
        assert_eq!(copies, usize::from(matches), "{filter} and {topic}");
    }
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1] Filters that are none: in SUBSCRIBE and UNSUBSCRIBE they end the
/// connection, and the filters before them in the packet are not subscribed to.
#[test]
fn mqtt_4_7_1_1_invalid_filters() {
    let broker = Broker::start(&["log_type error"]);
    let invalid = [
        "",
        "##",
        "#/a",
        "a#",
        "#a",
        "a/#/b",
        "a/b#",
        "a/#b",
        "++",
        "+a",
        "a+",
        "a/+b",
        "a/b+/c",
        "/+a",
        "#+",
        "+#",
        "a/##",
        "$share/g/a#",
        "$share/g/+a",
    ];
    for version in Version::ALL {
        for filter in invalid {
            for is_subscribe in [true, false] {
                let mut client = broker.connect_with(version, connect("client").persistent());
                client.send(match is_subscribe {
                    true => subscribe(1).filter("good", 0).filter(filter, 0),
                    false => unsubscribe(1, &["good", filter]),
                });
                if version == Version::V5 {
                    let answer = client.expect_packet();
                    let is_known = matches!(answer[..], [0xE0, 0x01, 0x81 | 0x82 | 0x8F]);
                    assert!(is_known, "{filter}: {answer:x?}");
                }
                client.expect_closed();
            }
        }
        let mut client = broker.connect_with(version, connect("client").clean(false));
        client.send(publish("good", "x"));
        client.fence();
    }
}

/// [MQTT-3.3.4-3] A message carries the identifier of the subscription that it is for, from the smallest to the largest;
/// 3.x has none.
#[test]
fn mqtt_3_3_4_3_subscription_identifiers() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    for value in [
        1,
        127,
        128,
        16_383,
        16_384,
        2_097_151,
        2_097_152,
        268_435_455,
    ] {
        let mut client = broker.connect_v5("client");
        let packet = subscribe(1).with(subscription_identifier(value));
        client.send(packet.filter("t/#", 2).filter("u", 0));
        client.expect(suback(1, &[2, 0]));
        client.subscribe("v", 0);
        for topic in ["t/a", "u"] {
            publisher.send(publish(topic, "x"));
            client.expect(publish(topic, "x").with(subscription_identifier(value)));
        }
        publisher.publish(&publish("t/b", "x").qos(2).packet_id(1));
        client.receive(
            &publish("t/b", "x")
                .qos(2)
                .packet_id(1)
                .with(subscription_identifier(value)),
        );
        publisher.send(publish("v", "x"));
        client.expect(publish("v", "x"));
    }
}

/// [MQTT-3.3.4-3] The identifier goes with a message that waits, and with one that is sent again.
#[test]
fn mqtt_3_3_4_3_identifiers_of_queued_messages() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.send(
        subscribe(1)
            .with(subscription_identifier(300))
            .filter("t", 1),
    );
    client.expect(suback(1, &[1]));
    client.leave();
    broker
        .connect_v5("publisher")
        .publish(&publish("t", "x").qos(1).packet_id(1));
    let expected = publish("t", "x")
        .qos(1)
        .packet_id(1)
        .with(subscription_identifier(300));
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.expect(&expected);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.expect(expected.dup());
}

/// [MQTT-3.3.4-5] Where overlapping subscriptions bring several copies, each has the identifier and the QoS of its own.
#[test]
fn mqtt_3_3_4_5_overlapping_subscriptions() {
    let broker = Broker::start(&["allow_duplicate_messages true"]);
    let mut client = broker.connect_v5("client");
    for (filter, qos, identifier) in [("a/b", 1, 1), ("a/+", 0, 2), ("#", 2, 3)] {
        client.send(
            subscribe(1)
                .with(subscription_identifier(identifier))
                .filter(filter, qos),
        );
        client.expect(suback(1, &[qos]));
    }
    client.subscribe("a/#", 0);
    let mut publisher = broker.connect_v5("publisher");
    let message = publish("a/b", "x").qos(2).packet_id(1);
    let copies = received(&mut publisher, &mut client, &message);
    let mut copies: Vec<_> = copies
        .iter()
        .map(|copy| (identifiers(copy), copy.qos))
        .collect();
    copies.sort_by_key(|(identifiers, _)| identifiers.first().map(|id| id.value.clone()));
    let with = |identifier, qos| (vec![subscription_identifier(identifier)], qos);
    assert_eq!(copies, [(vec![], 0), with(1, 1), with(2, 0), with(3, 2)]);
}

/// [MQTT-3.3.4-4], [MQTT-3.3.4-2] Where they bring one copy, it has all their identifiers and the highest QoS.
#[test]
fn mqtt_3_3_4_4_one_copy_with_all_identifiers() {
    let broker = Broker::start(&["allow_duplicate_messages false"]);
    let mut client = broker.connect_v5("client");
    for (filter, qos, identifier) in [("a/b", 1, 1), ("a/+", 0, 2), ("#", 2, 3), ("b", 0, 4)] {
        client.send(
            subscribe(1)
                .with(subscription_identifier(identifier))
                .filter(filter, qos),
        );
        client.expect(suback(1, &[qos]));
    }
    let mut publisher = broker.connect_v5("publisher");
    let message = publish("a/b", "x").qos(2).packet_id(1);
    let copies = received(&mut publisher, &mut client, &message);
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].qos, 2);
    assert_eq!(
        identifiers(&copies[0]),
        [1, 2, 3].map(subscription_identifier)
    );
}

/// [MQTT-3.8.3-3] No Local: not back to the client identifier that published, but to everybody else, over connections.
#[test]
fn mqtt_3_8_3_3_no_local() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    let mut other = broker.subscriber(Version::V5, "other", "t", 2 | NO_LOCAL);
    client.subscribe("t", 2 | NO_LOCAL);
    for qos in 0..=2 {
        client.publish(&publish("t", "x").qos(qos).packet_id(1));
        other.receive(&publish("t", "x").qos(qos).packet_id(qos.into()));
    }
    client.fence();
    other.publish(&publish("t", "from other"));
    client.expect(publish("t", "from other"));
    let mut client = broker.connect_with(Version::V5, connect("client").persistent());
    client.publish(&publish("t", "x").qos(1).packet_id(1));
    client.fence();
}

/// [MQTT-3.8.3-3] No Local holds for its own subscription: another one that matches still brings the message.
#[test]
fn mqtt_3_8_3_3_no_local_and_another_subscription() {
    for line in [
        "allow_duplicate_messages true",
        "allow_duplicate_messages false",
    ] {
        let broker = Broker::start(&[line]);
        let mut client = broker.connect_v5("client");
        let first = subscribe(1).with(subscription_identifier(1));
        client.send(first.filter("t", 2 | NO_LOCAL));
        client.expect(suback(1, &[2]));
        let second = subscribe(1).with(subscription_identifier(2));
        client.send(second.filter("+", 0));
        client.expect(suback(1, &[0]));
        client.send(publish("t", "x"));
        client.expect(publish("t", "x").with(subscription_identifier(2)));
        client.fence();
    }
}

/// [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-2.2.1-6] Each UNSUBSCRIBE is answered by an UNSUBACK of its identifier, also
/// where nothing was deleted. [MQTT-3.11.3-1], [MQTT-3.11.3-2] 5.0 is told for each filter whether there was one.
#[test]
fn mqtt_3_10_4_5_unsuback() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.send(subscribe(1).filter("a", 0).filter("b/+", 1).filter("c", 2));
        client.expect(suback(1, &[0, 1, 2]));
        for (packet_id, filters, reasons) in [
            (1, &["none"][..], &[0x11][..]),
            (65_535, &["b/+"], &[0]),
            (3, &["none", "a", "b/+", "c"], &[0x11, 0, 0x11, 0]),
            (4, &["a", "a"], &[0x11, 0x11]),
        ] {
            client.send(unsubscribe(packet_id, filters));
            client.expect(unsuback(packet_id, reasons));
        }
        client.subscribe("a", 0);
        client.send(unsubscribe(9, &["a", "a"]));
        client.expect(unsuback(9, &[0, 0x11]));
    }
}

/// [MQTT-3.10.4-6] Several filters are handled in turn, as if each had come in an UNSUBSCRIBE of its own, except that one
/// UNSUBACK answers them all.
#[test]
fn mqtt_3_10_4_6_several_filters() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut alone = broker.connect(version, "alone");
        let mut together = broker.connect(version, "together");
        let filters = ["a", "none", "b/#", "a", "c/+"];
        let reasons = [0, 0x11, 0, 0x11, 0];
        for client in [&mut alone, &mut together] {
            for filter in ["a", "b/#", "c/+", "kept"] {
                client.subscribe(filter, 0);
            }
        }
        for (filter, reason) in filters.iter().zip(reasons) {
            alone.send(unsubscribe(7, &[filter]));
            alone.expect(unsuback(7, &[reason]));
        }
        together.send(unsubscribe(7, &filters));
        together.expect(unsuback(7, &reasons));
        let mut publisher = broker.connect(version, "publisher");
        for topic in ["a", "b/x", "c/x", "kept"] {
            publisher.send(publish(topic, "x"));
        }
        for client in [&mut alone, &mut together] {
            client.expect(publish("kept", "x"));
            client.fence();
        }
    }
}

/// [MQTT-3.10.4-1], [MQTT-3.10.4-2] Filters are compared character by character; what is unsubscribed brings nothing new.
#[test]
fn mqtt_3_10_4_1_compared_character_by_character() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "a/b", 0);
        client.send(unsubscribe(
            2,
            &["a/+", "a/#", "#", "A/b", "a/b/", "/a/b", "a", "a/b/#"],
        ));
        client.expect(unsuback(2, &[0x11; 8]));
        client.send(publish("a/b", "x"));
        client.expect(publish("a/b", "x"));
        client.subscribe("a/+", 0);
        client.send(unsubscribe(2, &["a/b"]));
        client.expect(unsuback(2, &[0]));
        client.send(publish("a/b", "x"));
        client.expect(publish("a/b", "x"));
        client.send(unsubscribe(2, &["a/+"]));
        client.expect(unsuback(2, &[0]));
        client.send(publish("a/b", "x"));
        client.fence();
    }
}

/// [MQTT-3.10.4-1] What one client unsubscribes from, others keep, and the session of the one forgets.
#[test]
fn mqtt_3_10_4_1_only_its_own_subscription() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect_with(version, connect("client").persistent());
        client.subscribe("t", 0);
        let mut other = broker.subscriber(version, "other", "t", 0);
        client.send(unsubscribe(2, &["t"]));
        client.expect(unsuback(2, &[0]));
        drop(client);
        let mut client = broker.connect_with(version, connect("client").persistent());
        client.send(publish("t", "x"));
        client.fence();
        other.expect(publish("t", "x"));
    }
}

/// [MQTT-3.10.4-3] Messages under way are completed after an UNSUBSCRIBE, those that wait may be delivered.
#[test]
fn mqtt_3_10_4_3_under_way() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect_with(version, connect("client").persistent());
        client.subscribe("t", 2);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "one").qos(1).packet_id(1));
        publisher.publish(&publish("t", "two").qos(2).packet_id(1));
        client.expect(publish("t", "one").qos(1).packet_id(1));
        client.expect(publish("t", "two").qos(2).packet_id(2));
        client.send(unsubscribe(2, &["t"]));
        client.expect(unsuback(2, &[0]));
        drop(client);
        let mut client = broker.connect_with(version, connect("client").persistent());
        client.receive(&publish("t", "one").qos(1).packet_id(1).dup());
        client.receive(&publish("t", "two").qos(2).packet_id(2).dup());
        client.fence();
        broker.connect(version, "client").fence();
    }
}

/// Members of a group `$share/g/FILTER`, subscribed in their order, named from `a`.
fn members(broker: &Broker, version: Version, count: u8, filter: &str, qos: u8) -> Vec<Raw> {
    let member = |number: u8| {
        let client_id = char::from(b'a' + number).to_string();
        let mut client = broker.connect_with(version, connect(&client_id).persistent());
        client.subscribe(&format!("$share/g/{filter}"), qos);
        client
    };
    (0..count).map(member).collect()
}

/// Each message goes to one member, round and round in the order of subscribing, beginning with the first.
#[test]
fn shared_subscriptions_go_round() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut group = members(&broker, version, 3, "t/#", 2);
        let mut publisher = broker.connect(version, "publisher");
        for number in 0..9 {
            let message = publish("t/x", number.to_string())
                .qos(number % 3)
                .packet_id(1);
            publisher.publish(&message);
            let received = group[usize::from(number % 3)].receive_any();
            assert_eq!(received.payload, message.payload);
        }
        for client_id in ["a", "b", "c"] {
            broker.connect(version, client_id).fence();
        }
    }
}

/// Each group gets every message once, and so does every ordinary subscription, even of a member.
#[test]
fn shared_subscriptions_and_others() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut one = broker.subscriber(version, "one", "$share/g/t", 0);
        let mut two = broker.subscriber(version, "two", "$share/h/t", 0);
        let mut three = broker.subscriber(version, "three", "$share/g/+", 0);
        let mut four = broker.subscriber(version, "four", "t", 0);
        one.subscribe("t", 0);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x"));
        assert_eq!(pending(&mut one).len(), 2);
        for client in [&mut two, &mut three, &mut four] {
            assert_eq!(pending(client).len(), 1);
        }
    }
}

/// [MQTT-4.8.2-3] The QoS granted to the member that gets the message counts; its identifier goes with it.
#[test]
fn mqtt_4_8_2_3_qos_of_the_member() {
    let broker = Broker::start(&[]);
    let mut group: Vec<Raw> = (0..=2)
        .map(|qos: u8| {
            let mut client = broker.connect_v5(&qos.to_string());
            let packet = subscribe(1).with(subscription_identifier(usize::from(qos) + 1));
            client.send(packet.filter("$share/g/t", qos));
            client.expect(suback(1, &[qos]));
            client
        })
        .collect();
    let mut publisher = broker.connect_v5("publisher");
    for _ in 0..2 {
        for (member, qos) in group.iter_mut().zip(0..) {
            publisher.publish(&publish("t", "x").qos(2).packet_id(1));
            let received = member.receive_any();
            assert_eq!(received.qos, qos);
            assert_eq!(
                identifiers(&received),
                [subscription_identifier(usize::from(qos) + 1)]
            );
            if qos == 2 {
                member.expect(pubrel(received.packet_id));
                member.send(pubcomp(received.packet_id));
            }
        }
    }
}

/// A member that leaves is passed over: by UNSUBSCRIBE, by ending its session, or by sleeping while others are awake.
#[test]
fn shared_subscriptions_of_those_who_left() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut group = members(&broker, version, 4, "t", 1);
        let mut publisher = broker.connect(version, "publisher");
        group[0].send(unsubscribe(2, &["$share/g/t"]));
        group[0].expect(unsuback(2, &[0]));
        let mut left = group.split_off(2);
        broker.connect(version, "c").fence();
        left.remove(1).leave();
        for number in 0..3 {
            let message = publish("t", number.to_string()).qos(1).packet_id(1);
            publisher.publish(&message);
            assert_eq!(group[1].receive_any().payload, message.payload);
        }
        group[0].fence();
        let mut sleeping = broker.connect_with(version, connect("d").persistent());
        sleeping.fence();
        for client_id in ["a", "b", "c", "d"] {
            broker.connect(version, client_id).fence();
        }
    }
}

/// Where all members sleep, the message waits for one of them.
#[test]
fn shared_subscriptions_of_sleeping_members() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        for member in members(&broker, version, 2, "t", 1) {
            member.leave();
        }
        let mut publisher = broker.connect(version, "publisher");
        for number in 0..4 {
            publisher.send(publish("t", number.to_string()).qos(1).packet_id(1));
            publisher.expect(puback(1));
        }
        let mut received = Vec::new();
        for client_id in ["a", "b"] {
            let mut member = broker.connect_with(version, connect(client_id).persistent());
            received.extend(
                pending(&mut member)
                    .into_iter()
                    .map(|message| message.payload),
            );
            broker.connect(version, client_id).fence();
        }
        received.sort();
        assert_eq!(received, [b"0", b"1", b"2", b"3"]);
    }
}

/// [MQTT-4.8.2-4] QoS 2 under way to a member that breaks off is completed to it when it returns, and goes to nobody else.
#[test]
fn mqtt_4_8_2_4_completed_when_the_member_returns() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut group = members(&broker, version, 2, "t", 2);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x").qos(2).packet_id(1));
        group[0].expect(publish("t", "x").qos(2).packet_id(1));
        drop(group.remove(0));
        let mut back = broker.connect_with(version, connect("a").persistent());
        back.expect(publish("t", "x").qos(2).packet_id(1).dup());
        back.send(pubrec(1));
        back.expect(pubrel(1));
        drop(back);
        let mut back = broker.connect_with(version, connect("a").persistent());
        back.expect(pubrel(1));
        back.send(pubcomp(1));
        back.fence();
        group[0].fence();
        for client_id in ["a", "b"] {
            broker.connect(version, client_id).fence();
        }
    }
}

/// [MQTT-4.8.2-5] Nor does it go to anybody else if the member's session ends instead.
#[test]
fn mqtt_4_8_2_5_to_nobody_else() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut group = members(&broker, version, 2, "t", 2);
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x").qos(2).packet_id(1));
        group[0].expect(publish("t", "x").qos(2).packet_id(1));
        broker.connect(version, "a").fence();
        group[1].fence();
        broker.connect(version, "b").fence();
    }
}

/// [MQTT-4.8.2-6] A member that refuses a message discards it for the group.
#[test]
fn mqtt_4_8_2_6_refused_is_discarded() {
    let broker = Broker::start(&[]);
    let mut group = members(&broker, Version::V5, 2, "t", 2);
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&publish("t", "x").qos(1).packet_id(1));
    publisher.publish(&publish("t", "y").qos(2).packet_id(1));
    let to_first = group[0].expect_publish();
    group[0].send(puback(to_first.packet_id).reason(0x83));
    let to_second = group[1].expect_publish();
    group[1].send(pubrec(to_second.packet_id).reason(0x87));
    for member in &mut group {
        member.fence();
    }
}

/// [MQTT-3.8.3-4] No Local on a shared subscription is a Protocol Error.
#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    client.send(
        subscribe(1)
            .filter("t", 0)
            .filter("$share/g/t", 1 | NO_LOCAL),
    );
    client.expect(disconnect().reason(0x82));
    client.expect_closed();
}

/// A shared subscription gets no retained messages when it begins (4.8.2), but those published later like any other.
#[test]
fn shared_subscriptions_and_retained_messages() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut publisher = broker.connect(version, "publisher");
        publisher.publish(&publish("t", "x").retain());
        let mut member = broker.subscriber(version, "member", "$share/g/t", 0);
        member.fence();
        publisher.publish(&publish("t", "y").retain());
        member.expect(publish("t", "y"));
    }
}

/// [MQTT-4.8.2-1], [MQTT-4.8.2-2] Shares that are none end the connection, in UNSUBSCRIBE too; a name may hold nearly
/// anything else.
#[test]
fn mqtt_4_8_2_1_malformed_shares() {
    let broker = Broker::start(&["log_type error"]);
    for version in Version::ALL {
        for filter in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//",
            "$share//t",
            "$share/+/t",
            "$share/#/t",
            "$share/g+/t",
            "$share/g#/t",
            "$share/#",
        ] {
            for packet in [subscribe(1).filter(filter, 0), unsubscribe(1, &[filter])] {
                let mut client = broker.connect(version, "client");
                client.send(packet);
                if version == Version::V5 {
                    let answer = client.expect_packet();
                    let is_known = matches!(answer[..], [0xE0, 0x01, 0x81 | 0x82 | 0x8F]);
                    assert!(is_known, "{filter}: {answer:x?}");
                }
                client.expect_closed();
            }
        }
        for share in ["g", "G", " ", "$", "ä", "$share", "a b"] {
            let mut client = broker.subscriber(version, "client", &format!("$share/{share}/+"), 0);
            client.send(publish("t", "x"));
            client.expect(publish("t", "x"));
        }
    }
}

/// What a shared subscription's filter matches is what the filter alone does: `$share/g/#` is not for `$` topics.
/// [MQTT-4.7.2-1]
#[test]
fn mqtt_4_7_2_1_filters_of_shared_subscriptions() {
    let broker = Broker::start(&["log_type error"]);
    let mut client = broker.connect_v5("client");
    for &(filter, topic, matches) in MATCHES {
        let shared = format!("$share/g/{filter}");
        client.subscribe(&shared, 0);
        client.send(publish(topic, "x"));
        if matches {
            client.expect(publish(topic, "x"));
        }
        client.send(unsubscribe(2, &[&shared]));
        client.expect(unsuback(2, &[0]));
    }
}

/// UNSUBSCRIBE tells a shared subscription from an ordinary one, and one group from another.
#[test]
fn unsubscribing_from_a_share() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        client.subscribe("$share/g/t", 0);
        client.send(unsubscribe(2, &["t", "$share/h/t", "$share/g/+"]));
        client.expect(unsuback(2, &[0x11; 3]));
        client.subscribe("t", 0);
        client.send(unsubscribe(3, &["$share/g/t"]));
        client.expect(unsuback(3, &[0]));
        client.send(publish("t", "x"));
        client.expect(publish("t", "x"));
        client.fence();
    }
}

/// [MQTT-3.8.4-3] Subscribing again to a share replaces: the member keeps its one turn, with the new QoS.
#[test]
fn mqtt_3_8_4_3_the_same_share_replaces() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut group = members(&broker, version, 2, "t", 2);
        group[0].subscribe("$share/g/t", 0);
        let mut publisher = broker.connect(version, "publisher");
        for _ in 0..4 {
            publisher.publish(&publish("t", "x").qos(1).packet_id(1));
        }
        let counts = group.iter_mut().map(|member| {
            let messages = pending(member);
            messages
                .iter()
                .map(|message| message.qos)
                .collect::<Vec<u8>>()
        });
        assert_eq!(counts.collect::<Vec<_>>(), [[0, 0], [1, 1]]);
        for client_id in ["a", "b"] {
            broker.connect(version, client_id).fence();
        }
    }
}

/// A message with no member left matches nobody.
#[test]
fn a_group_without_members() {
    let broker = Broker::start(&[]);
    let mut group = members(&broker, Version::V5, 1, "t", 1);
    let mut publisher = broker.connect_v5("publisher");
    publisher.send(publish("t", "x").qos(1).packet_id(1));
    publisher.expect(puback(1));
    group[0].expect_publish();
    group[0].send(unsubscribe(2, &["$share/g/t"]));
    group[0].expect(unsuback(2, &[0]));
    publisher.send(publish("t", "x").qos(1).packet_id(1));
    publisher.expect(puback(1).reason(0x10));
}

/// Subscriptions that come and go while a topic is published to all the time hold from their SUBACK to their UNSUBACK.
#[test]
fn subscriptions_change_under_a_busy_topic() {
    let broker = Broker::start(&["log_type error"]);
    let mut publisher = broker.connect_v5("publisher");
    let mut steady = broker.subscriber(Version::V5, "steady", "a/b/c", 0);
    let mut client = broker.connect_v5("client");
    let filters = [
        "a/b/c",
        "a/b/+",
        "a/#",
        "+/b/c",
        "#",
        "$share/g/a/b/c",
        "$share/g/#",
        "a/+/c",
    ];
    for round in 0..3 {
        for (count, filter) in filters.into_iter().enumerate() {
            client.subscribe(filter, 0);
            let copies = received(&mut publisher, &mut client, &publish("a/b/c", "x"));
            assert_eq!(copies.len(), count + 1, "{filter} in round {round}");
        }
        for (count, filter) in filters.into_iter().enumerate() {
            client.send(unsubscribe(2, &[filter]));
            client.expect(unsuback(2, &[0]));
            let copies = received(&mut publisher, &mut client, &publish("a/b/c", "x"));
            assert_eq!(
                copies.len(),
                filters.len() - count - 1,
                "{filter} in round {round}"
            );
        }
    }
    assert_eq!(pending(&mut steady).len(), 3 * 2 * filters.len());
}

/// [MQTT-3.3.4-4] Hundreds of overlapping subscriptions: all their identifiers in one message.
#[test]
fn mqtt_3_3_4_4_hundreds_of_identifiers() {
    let broker = Broker::start(&["allow_duplicate_messages false", "log_type error"]);
    let mut client = broker.connect_v5("client");
    // Every filter that `a/a/a/a/a/a/a/a` matches with a `+` in some places.
    let topic = ["a"; 8].join("/");
    for pattern in 0..256 {
        let level = |bit: usize| if pattern >> bit & 1 == 1 { "+" } else { "a" };
        let filter = (0..8).map(level).collect::<Vec<_>>().join("/");
        let packet = subscribe(1).with(subscription_identifier(pattern + 1));
        client.send(packet.filter(&filter, 0));
        client.expect(suback(1, &[0]));
    }
    client.send(publish(&topic, "x"));
    let message = client.expect_publish();
    assert_eq!(identifiers(&message).len(), 256);
    client.fence();
}
