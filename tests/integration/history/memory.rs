//! What once took memory or time that never came back: before anybody is let in, and afterwards.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::{SLACK_KIB, Witness, assert_costs, assert_memory_stays, cut};
use crate::harness::*;

/// Sends the packet, and waits for the broker to end the connection.
#[track_caller]
fn expect_refused(broker: &Broker, version: Version, packet: &[u8]) {
    let mut client = broker.open(version);
    client.send(packet);
    client.shutdown_send();
    assert!(client.drain_until_closed().is_some());
}

/// A CONNECT that claims a quarter of a gigabyte is refused by its header, however large packets may be afterwards.
#[test]
fn cve_2017_7651_a_huge_first_remaining_length() {
    let broker = Broker::start(&["max_packet_size 268435455"]);
    for claim in [
        &b"\xff\xff\xff\x7f"[..],
        b"\xff\xff\x7f",
        b"\x81\x80\xc0\x00",
    ] {
        for version in Version::ALL {
            let mut client = broker.open(version);
            client.send([b"\x10", claim].concat());
            client.expect_closed();
        }
    }
}

/// A first packet that is no CONNECT is refused by its first byte: nobody waits for its length, nor for what it claims.
#[test]
fn cve_2023_0809_a_first_packet_that_is_no_connect() {
    let broker = Broker::start(&["max_packet_size 268435455"]);
    for first in (0..=255_u8).filter(|first| first >> 4 != 1) {
        let mut client = broker.open(Version::V5);
        client.send([first]);
        client.expect_closed();
    }
}

/// CONNECTs of the greatest length that are begun by the hundred and never finished: the more there are, the less
/// each is given, and who comes with one of the usual length is let in.
#[test]
fn many_halves_of_a_connect_share_what_one_may_have() {
    const CLIENTS: u64 = 250;
    const KIB_EACH: u64 = 900;
    let broker = Broker::start(&["log_type error"]);
    let mut witness = Witness::of(&broker);
    let before = broker.status("VmRSS");
    let mut half = vec![0x10];
    half.extend(variable_byte_integer(1_000_000));
    half.extend(b"\x00\x04MQTT\x05\x02\0\0");
    half.resize(KIB_EACH as usize * 1024, b'x');
    let halves: Vec<Raw> = (0..CLIENTS)
        .map(|_| {
            let mut client = broker.open(Version::V5);
            client.send(&half);
            client
        })
        .collect();
    // What the kernel holds for the broker is read a part in each turn.
    let mut resident = 0;
    while std::mem::replace(&mut resident, broker.status("VmRSS")) != broker.status("VmRSS") {
        std::thread::sleep(Duration::from_millis(200));
        witness.is_served();
    }
    let grown = resident.saturating_sub(before);
    assert!(
        grown < CLIENTS * KIB_EACH / 3,
        "{grown} KiB for {CLIENTS} halves"
    );
    for version in Version::ALL {
        let large = connect("large")
            .username("name")
            .password(vec![b'x'; 8 * 1024])
            .will(will("topic", vec![b'x'; 4 * 1024]));
        broker.connect_with(version, large).leave();
    }
    drop(halves);
    witness.is_served();
    // With nobody else at the door, all that is usual comes in.
    let large = connect("large").will(will("topic", vec![b'x'; 60_000]));
    broker.connect_with(Version::V311, large).leave();
}

/// CONNECTs that are refused halfway, after their strings were kept: for each way to be refused, hundreds of them.
#[track_caller]
fn expect_refusals_leave_nothing(version: Version, lines: &[&str], packets: &[Vec<u8>]) {
    const EACH: usize = 50;
    let broker = Broker::start(&[lines, &["log_type error"]].concat());
    let bytes: usize = packets.iter().map(Vec::len).sum();
    assert_memory_stays(&broker, (EACH * bytes / 1024) as u64, || {
        for packet in packets {
            for _ in 0..EACH {
                expect_refused(&broker, version, packet);
            }
        }
    });
}

/// CONNECTs of 3.x that are refused after what they carry was read.
#[test]
fn cve_2017_7654_refused_connects_leave_nothing() {
    let long = "x".repeat(30_000);
    let whole = |packet: Connect| packet.encode(Version::V311);
    let base = connect("client").username(&long).password(&long);
    let lines = ["allow_anonymous false"];
    let packets = [
        whole(base.clone()),
        whole(base.clone().will(will("a/#", &long))),
        whole(base.clone().will(will("", &long))),
        whole(base.clone().will(will("$CONTROL/a", &long))),
        whole(base.clone().flags(0xFE)),
        whole(base.clone().flags(0x42)),
        whole(base.clone().flags(0xC3)),
        [whole(base), b"\x30".to_vec()].concat(),
    ];
    expect_refusals_leave_nothing(Version::V311, &lines, &packets);
}

/// CONNECTs of 5.0 that are refused after their properties were kept.
#[test]
fn cve_2021_34431_refused_connects_with_properties_leave_nothing() {
    let long = "x".repeat(30_000);
    let whole = |packet: Connect| packet.encode(Version::V5);
    let method = authentication_method(&long);
    let packets = [
        whole(connect("client").with(method.clone())),
        whole(
            connect("client")
                .with(method.clone())
                .with(authentication_data(&long)),
        ),
        whole(connect("client").with(method.clone()).with(method)),
        whole(connect("client").with(authentication_data(&long))),
        whole(
            connect("client")
                .with(user_property(&long, &long))
                .with(receive_maximum(0)),
        ),
        whole(
            connect("client")
                .with(user_property(&long, &long))
                .with(topic_alias(1)),
        ),
    ];
    expect_refusals_leave_nothing(Version::V5, &[], &packets);
}

/// CONNECTs of 5.0 whose will has properties of which one is wrong, after others that were kept.
#[test]
fn cve_2023_3592_wills_with_invalid_properties_leave_nothing() {
    let long = "x".repeat(30_000);
    let with = |wrong: &[Property]| {
        let good = will("a", &long)
            .with(content_type(&long))
            .with(response_topic("b"))
            .with(correlation_data(&long))
            .with(user_property(&long, ""));
        let will = wrong.iter().cloned().fold(good, Will::with);
        connect("client").will(will).encode(Version::V5)
    };
    let packets = [
        with(&[content_type(&long)]),
        with(&[will_delay_interval(1), will_delay_interval(1)]),
        with(&[payload_format_indicator(2)]),
        with(&[session_expiry_interval(1)]),
        with(&[topic_alias(1)]),
        with(&[Property {
            id: 0x7F,
            value: vec![],
        }]),
        with(&[response_topic("a/#")]),
    ];
    expect_refusals_leave_nothing(Version::V5, &[], &packets);
}

/// Wills with every property they may have were freed and then published: by every way that a will comes to be said.
#[test]
fn april_2019_wills_with_properties() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "wills", 1);
    for round in 0..20 {
        let properties = [
            content_type("text"),
            response_topic("answers"),
            correlation_data("data"),
            payload_format_indicator(1),
            user_property("a", "b"),
            user_property("a", "c"),
        ];
        let mut expected = publish("wills", format!("{round}")).qos(1);
        let mut will = will("wills", format!("{round}")).qos(1);
        for property in properties {
            will = will.with(property.clone());
            expected = expected.with(property);
        }
        let packet = connect("client").will(will);
        match round % 4 {
            0 => cut(broker.connect_with(Version::V5, packet)),
            1 => {
                let mut client = broker.connect_with(Version::V5, packet);
                client.send(disconnect().reason(0x04));
                client.expect_closed();
            }
            2 => {
                let _taken_over = broker.connect_with(Version::V5, packet);
                broker.connect_v5("client").leave();
            }
            _ => {
                let mut client = broker.connect_with(Version::V5, packet);
                client.send(b"\xf1\x00");
                assert!(client.drain_until_closed().is_some());
            }
        }
        let mut received = subscriber.expect_publish();
        subscriber.send(puback(received.packet_id));
        received.packet_id = 0;
        let by_id = |property: &Property| property.id;
        received.properties.sort_by_key(by_id);
        expected.properties.sort_by_key(by_id);
        assert_eq!(received, expected);
    }
}

/// A will that is to wait longer than its session lasts is said when the session ends, once, whatever ends it; and
/// not at all by a client that came back.
#[test]
fn cve_2019_11778_will_delays_beyond_the_session() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "wills/#", 0);
    for (name, expiry, delay) in [
        ("none", None, u32::MAX),
        ("zero", Some(0), u32::MAX),
        ("one", Some(1), u32::MAX),
        ("two", Some(1), 2),
    ] {
        let will = will(&format!("wills/{name}"), "x").with(will_delay_interval(delay));
        let packet = connect(name).will(will);
        let packet = match expiry {
            Some(seconds) => packet.with(session_expiry_interval(seconds)),
            None => packet,
        };
        cut(broker.connect_with(Version::V5, packet.clone()));
        if expiry == Some(1) {
            // Back in time, and gone again.
            cut(broker.connect_with(Version::V5, packet.clean(false)));
        }
    }
    let mut said: Vec<String> = (0..4).map(|_| subscriber.expect_publish().topic).collect();
    said.sort();
    assert_eq!(said, ["wills/none", "wills/one", "wills/two", "wills/zero"]);
    broker.wait_for_log_times("Expiring client", 2);
    // None of them is said again when it would have been due.
    std::thread::sleep(Duration::from_millis(1100));
    subscriber.fence();
}

/// The same QoS 2 PUBLISH again and again, with other contents, never released: each connection may do so once, each
/// session holds so many, and all of it goes with the session.
#[test]
fn cve_2023_28366_publishes_that_are_never_released() {
    const PAYLOAD: usize = 40_000;
    const IDS: u16 = 20;
    let broker = Broker::start(&["log_type error"]);
    for version in Version::ALL {
        let mut number = 0;
        let round = || {
            for _ in 0..4 {
                number += 1;
                let packet = connect("client").persistent();
                let mut client = broker.connect_with(version, packet);
                for id in 1..=IDS {
                    // Another one each time.
                    let payload = format!("{number:0>PAYLOAD$}");
                    client.send(publish("a", payload).qos(2).packet_id(id));
                    client.expect_packet();
                }
                let mut is_closed = false;
                for _ in 0..3 {
                    number += 1;
                    let payload = format!("{number:0>PAYLOAD$}");
                    client.send(publish("a", payload).qos(2).packet_id(IDS).dup());
                    is_closed |= client.poll(DEADLINE).is_err();
                }
                assert!(is_closed, "repeated without end");
            }
        };
        let leak_kib = 4 * u64::from(IDS) * PAYLOAD as u64 / 1024;
        assert_memory_stays(&broker, leak_kib, round);
        broker.connect(version, "client").leave();
    }
}

/// Messages that are never released take no more than the queue of a client may hold: in number, and in bytes where
/// those are limited, also over many connections of one session.
#[test]
fn cve_2023_28366_what_is_never_released_has_a_bound_in_bytes() {
    let lines = ["max_inflight_messages 5", "max_queued_bytes 1000000"];
    let broker = Broker::start(&[&lines[..], &["log_type error"]].concat());
    for (version, at_most) in [(Version::V31, 11), (Version::V311, 11), (Version::V5, 14)] {
        let mut held = 0;
        let mut id = 0;
        for _ in 0..6 {
            let packet = connect("client").persistent();
            let mut client = broker.connect_with(version, packet);
            for _ in 0..20 {
                id += 1;
                client.send(publish("a", vec![b'x'; 100_000]).qos(2).packet_id(id));
                match client.poll(DEADLINE) {
                    Ok(Some(answer)) => held += usize::from(answer == pubrec_of(id, version)),
                    Ok(None) => panic!("no answer"),
                    Err(Closed) => break,
                }
            }
        }
        assert!((5..=at_most).contains(&held), "{held} in {version:?}");
        broker.connect(version, "client").leave();
    }
}

/// PUBREC of a message that is kept and that nobody wants.
fn pubrec_of(id: u16, version: Version) -> Vec<u8> {
    let packet = pubrec(id);
    match version {
        Version::V5 => packet.reason(0x10).encode(version),
        _ => packet.encode(version),
    }
}

/// QoS 2 messages for a session whose queue is full, after a restart: they are dropped, and leave nothing.
#[test]
fn august_2020_qos_2_for_a_full_queue_after_a_restart() {
    const PAYLOAD: usize = 20_000;
    let dir = new_dir();
    let lines = [
        "user root",
        "persistence true",
        "persistence_location {dir}/",
        "max_queued_messages 5",
        "max_inflight_messages 2",
        "log_type error",
        "log_type notice",
    ];
    let broker = Broker::start_in(&dir, &lines, &[]);
    let mut sleeper = broker.connect_with(Version::V5, connect("sleeper").persistent());
    sleeper.subscribe("a", 2);
    sleeper.leave();
    let fill = |broker: &Broker, first: u16, last: u16| {
        let mut publisher = broker.connect_v5("publisher");
        for id in first..=last {
            let payload = format!("{id:0>PAYLOAD$}");
            publisher.publish(&publish("a", payload).qos(2).packet_id(id));
        }
    };
    fill(&broker, 1, 20);
    broker.stop_by(Signal::KILL);
    let broker = Broker::start_in(&dir, &lines, &[]);
    assert_memory_stays(&broker, 200 * PAYLOAD as u64 / 1024, || {
        fill(&broker, 21, 220)
    });
    let mut sleeper = broker.connect_with(Version::V5, connect("sleeper").persistent());
    assert!(sleeper.connack.session_present);
    let mut numbers = Vec::new();
    while numbers.len() < 5 {
        let message = sleeper.receive_any();
        numbers.push(String::from_utf8(message.payload).expect("a number"));
    }
    let expected: Vec<String> = (1..=5).map(|id| format!("{id:0>PAYLOAD$}")).collect();
    assert_eq!(numbers, expected);
    drop(sleeper);
    drop(broker);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// SUBSCRIBE of which the end is wrong: what stood before that is not subscribed to, and leaves nothing.
#[test]
fn y2025_subscribes_that_are_refused_leave_nothing() {
    let broker = Broker::start(&["log_type error"]);
    let mut publisher = broker.connect_v5("publisher");
    for version in Version::ALL {
        let many = |start: &str| {
            let mut packet = subscribe(1);
            for number in 0..100 {
                let filter = format!("{start}/{number}/{}", "x".repeat(600));
                packet = packet.filter(&filter, 0);
            }
            packet
        };
        let packets = [
            many("a").filter("a/#/b", 0).encode(version),
            many("a").filter("", 0).encode(version),
            many("$share/g/a").filter("$share/+/a", 0).encode(version),
            many("a").filter("a", 3).encode(version),
            many("a")
                .with(subscription_identifier(0))
                .encode(Version::V5),
        ];
        let bytes: usize = packets.iter().map(Vec::len).sum();
        assert_memory_stays(&broker, (12 * bytes / 1024) as u64, || {
            for packet in &packets {
                for number in 0..12 {
                    let mut client = broker.connect(version, &format!("client{number}"));
                    client.send(packet);
                    assert!(client.drain_until_closed().is_some());
                }
            }
        });
        // [MQTT-3.8.4-5] is not for what is malformed: nothing of it is in force.
        let packet = connect("stays").persistent();
        let mut client = broker.connect_with(version, packet.clone());
        client.send(&packets[0]);
        assert!(client.drain_until_closed().is_some());
        publisher.publish(&publish(&format!("a/1/{}", "x".repeat(600)), "x"));
        let mut client = broker.connect_with(version, packet);
        client.fence();
        broker.connect(version, "stays").leave();
    }
}

/// As many user properties as fit into a CONNECT cost time by their number, not by its square; the same for PUBLISH and
/// SUBSCRIBE, with the longest ones there are.
#[test]
fn cve_2021_41039_user_properties_without_number() {
    let broker = Broker::start(&["log_type error"]);
    let mut witness = Witness::of(&broker);
    // A million bytes of the shortest, 200,000 of them.
    let shortest = [0x26, 0, 0, 0, 0].repeat(200_000);
    let with = |before: &[u8], list: &[u8], behind: &[u8]| {
        let properties = [variable_byte_integer(list.len()), list.to_vec()].concat();
        [before, &properties, behind].concat()
    };
    let hello = with(b"\0\x04MQTT\x05\x02\0\0", &shortest, b"\0\x06client");
    assert_costs(&broker, Duration::from_secs(4), || {
        for _ in 0..4 {
            let mut client = broker.open(Version::V5);
            client.send(packet(0x10, &hello));
            assert_eq!(client.expect_connack().reason, 0);
            witness.is_served();
        }
    });
    let longest: Vec<u8> = (0..14)
        .flat_map(|_| {
            let property = user_property("x".repeat(65_535), "y".repeat(65_535));
            [vec![property.id], property.value].concat()
        })
        .collect();
    let mut client = broker.subscriber(Version::V5, "client", "a", 0);
    let packets = [
        packet(0x30, &with(b"\0\x01a", &shortest, b"x")),
        packet(0x30, &with(b"\0\x01a", &longest, b"x")),
        packet(0x82, &with(b"\0\x02", &shortest, b"\0\x01b\0")),
        packet(0x82, &with(b"\0\x02", &longest, b"\0\x01b\0")),
    ];
    assert_costs(&broker, Duration::from_secs(6), || {
        for _ in 0..3 {
            for bytes in &packets {
                client.send(bytes);
                client.expect_packet();
                witness.is_served();
            }
        }
    });
    client.fence();
}

/// `max_keepalive`: nobody holds a connection for longer than that without a word.
#[test]
fn cve_2020_13849_keep_alive_has_a_maximum() {
    let broker = Broker::start(&["max_keepalive 30"]);
    for (keep_alive, is_too_long) in [(0, true), (u16::MAX, true), (31, true), (30, false)] {
        for version in Version::ALL {
            let mut client = broker.open(version);
            client.send(connect("client").keep_alive(keep_alive));
            let connack = client.expect_connack();
            let told = connack.properties.contains(&server_keep_alive(30));
            match version {
                Version::V5 => assert_eq!((connack.reason, told), (0, is_too_long)),
                _ => assert_eq!(connack.reason != 0, is_too_long, "{version:?} {keep_alive}"),
            }
        }
    }
}

/// What clients build up and leave: subscriptions, sessions with names of chance, retained messages, aliases, queues.
/// Each has its end, and the memory comes back for the next.
#[test]
fn what_clients_leave_behind_is_used_again() {
    const COUNT: usize = 2_000;
    let broker = Broker::start(&["log_type error", "max_queued_messages 5000"]);
    let mut witness = Witness::of(&broker);
    let long = "x".repeat(200);
    let kib = (COUNT * 400 / 1024) as u64;
    let mut number = 0;
    assert_memory_stays(&broker, 4 * kib, || {
        number += 1;
        // Subscriptions that nobody else has.
        let mut client = broker.connect_v5("subscriber");
        for chunk in 0..COUNT / 100 {
            let mut packet = subscribe(1);
            for of_chunk in 0..100 {
                packet = packet.filter(&format!("{number}/{chunk}/{of_chunk}/{long}"), 0);
            }
            client.send(packet);
            client.expect_packet();
        }
        client.leave();
        // Retained messages on topics that nobody else has, cleared again.
        let mut client = broker.connect_v3("publisher");
        for payload in [&long[..], ""] {
            for topic in 0..COUNT {
                let topic = format!("{number}/{topic}/{long}");
                client.send(publish(&topic, payload).retain());
            }
            client.fence();
        }
        // A queue that is never asked for.
        let packet = connect("sleeper").persistent();
        let mut sleeper = broker.connect_with(Version::V5, packet);
        sleeper.subscribe("queue", 1);
        sleeper.leave();
        for _ in 0..COUNT {
            client.send(publish("queue", &long).qos(1).packet_id(1));
            client.expect(puback(1));
        }
        broker.connect_v5("sleeper").leave();
        // Sessions with names that never come again, which end.
        for name in 0..COUNT / 10 {
            let packet = connect(&format!("{number}-{name}-{long}"));
            let mut client =
                broker.connect_with(Version::V5, packet.with(session_expiry_interval(3600)));
            client.subscribe(&format!("{name}/{long}"), 1);
            client.send(disconnect().with(session_expiry_interval(0)));
            client.expect_closed();
        }
        // As many aliases as there may be, with the longest topics.
        let mut client = broker.connect_v5("aliases");
        for alias in 1..=10 {
            let topic = format!("{alias}/{}", "x".repeat(60_000));
            client.send(publish(&topic, "").with(topic_alias(alias)));
        }
        client.fence();
    });
    witness.is_served();
}

/// Filters that match in every way that there is: a message to a topic of twelve levels that thousands of them match.
#[test]
fn storms_of_wildcards_keep_nobody_waiting() {
    const LEVELS: u32 = 12;
    let broker = Broker::start(&["log_type error"]);
    let mut witness = Witness::of(&broker);
    let mut client = broker.connect_v5("storm");
    let filters: Vec<String> = (0..1_u32 << LEVELS)
        .map(|bits| {
            let level = |level: u32| if bits >> level & 1 == 1 { "+" } else { "a" };
            (0..LEVELS).map(level).collect::<Vec<_>>().join("/")
        })
        .collect();
    for chunk in filters.chunks(512) {
        let packet = chunk
            .iter()
            .fold(subscribe(1), |packet, filter| packet.filter(filter, 0));
        client.send(packet);
        client.expect_packet();
    }
    let mut publisher = broker.connect_v5("publisher");
    let topic = vec!["a"; LEVELS as usize].join("/");
    assert_costs(&broker, Duration::from_secs(6), || {
        for number in 0..50 {
            // It is never the same one twice, so nothing is remembered of it.
            let other = format!("{}{number}", topic);
            publisher.publish(&publish(&other, "x"));
            publisher.publish(&publish(&topic, "x"));
            witness.is_served();
            client.expect_publish();
            client.expect_publish();
        }
    });
}

/// Rules by the thousand cost time when they are read, and not for each message.
#[test]
fn rules_by_the_thousand_cost_nothing_for_each_message() {
    let mut rules = String::new();
    for number in 0..20_000 {
        rules += &format!("topic readwrite {number}/+/a/#\ntopic deny {number}/+/a/secret\n");
    }
    rules += "pattern readwrite %c/#\n";
    let lines = ["acl_file {dir}/acl", "log_type error"];
    let broker = Broker::start_with(&lines, &[("acl", &rules)]);
    let mut client = broker.connect_v5("client");
    client.subscribe("#", 0);
    assert_costs(&broker, Duration::from_secs(4), || {
        for number in 0..2_000 {
            client.send(publish(&format!("{number}/x/a/b"), "x"));
            client.expect_publish();
        }
    });
}

/// What a client does wrong again and again is told once for its connection, with what is logged by default.
#[test]
fn clients_that_do_wrong_without_end_do_not_flood_the_log() {
    const TIMES: u16 = 1_000;
    let files = [("acl", "topic readwrite a\n")];
    let lines = [
        "acl_file {dir}/acl",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "message_size_limit 100",
        "max_inflight_messages 5",
    ];
    let broker = Broker::start_with(&lines, &files);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "a", 0);
        let before = broker.log_text().lines().count();
        for id in 1..=TIMES {
            // Denied, too large, unknown, and the same again.
            client.send(publish("b", "x"));
            client.send(publish("a", "x".repeat(200)));
            client.send(puback(id));
            client.send(pubrec(id));
            client.send(pubcomp(id));
            client.send(publish("a", "1").qos(2).packet_id(7));
            client.send(publish("a", "2").qos(2).packet_id(7));
            client.send(pubrel(7));
            client.send(subscribe(1).filter("b", 0));
            if version == Version::V5 {
                client.send(publish("a", "").with(topic_alias(1)));
            }
            // Read what is answered.
            client.send(pingreq());
            while client.expect_packet() != pingresp().encode(version) {}
        }
        let lines = broker.log_text().lines().count() - before;
        assert!(
            lines < 20,
            "{lines} lines in {version:?}, the last of them: {}",
            broker.log_text().lines().last().unwrap_or_default()
        );
        client.leave();
    }
}

/// Sockets that are opened by the thousand and say nothing cost a few hundred bytes each, and go when they close.
#[test]
fn half_open_sockets_cost_little() {
    const SOCKETS: u64 = 400;
    let broker = Broker::start(&["log_type error"]);
    let mut witness = Witness::of(&broker);
    let before = broker.status("VmRSS");
    for first in [&b""[..], b"\x10", b"\x10\xff", b"\x10\x80\x80"] {
        let halves: Vec<Raw> = (0..SOCKETS)
            .map(|_| {
                let mut client = broker.open(Version::V5);
                client.send(first);
                client
            })
            .collect();
        witness.is_served();
        let grown = broker.status("VmRSS").saturating_sub(before);
        assert!(
            grown < SLACK_KIB,
            "{grown} KiB for {SOCKETS} sockets that said {first:02x?}"
        );
        drop(halves);
    }
    witness.is_served();
}
