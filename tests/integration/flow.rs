//! Flow (4.4, 4.6, 4.9): windows, queues, sending again, and readers that are slow.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::*;

/// What the broker says once when it begins to drop messages for a client.
const DROPPING: &str = "Outgoing messages are being dropped for client slow.";

/// A client of a session that stays, subscribed to `t` with this QoS.
fn persistent(broker: &Broker, version: Version, client_id: &str, qos: u8) -> Raw {
    let mut client = broker.connect_with(version, connect(client_id).persistent());
    client.subscribe("t", qos);
    client
}

/// The same client again.
fn resume(broker: &Broker, version: Version, client_id: &str) -> Raw {
    broker.connect_with(version, connect(client_id).persistent())
}

/// Publishes messages of QoS `qos` with the numbers of `range` as payload to `t`, each acknowledged.
fn publish_numbers(publisher: &mut Raw, qos: u8, range: impl Iterator<Item = usize>) {
    for number in range {
        publisher.publish(&publish("t", number.to_string()).qos(qos).packet_id(1));
    }
}

/// Expects PUBLISH packets with these numbers as payload; gives their identifiers.
#[track_caller]
fn expect_numbers(client: &mut Raw, range: impl Iterator<Item = usize>) -> Vec<u16> {
    let mut packet_ids = Vec::new();
    for number in range {
        let received = client.expect_publish();
        assert_eq!(
            received.payload.escape_ascii().to_string(),
            number.to_string()
        );
        packet_ids.push(received.packet_id);
    }
    packet_ids
}

/// Expects PUBLISH packets with these numbers as payload, and acknowledges each.
#[track_caller]
fn receive_numbers(client: &mut Raw, range: impl Iterator<Item = usize>) {
    for number in range {
        let received = client.receive_any();
        assert_eq!(
            received.payload.escape_ascii().to_string(),
            number.to_string()
        );
    }
}

/// The resident memory of the broker, in KiB.
fn resident_kib(broker: &Broker) -> u64 {
    let path = format!("/proc/{}/status", broker.pid());
    let status = fs::read_to_string(path).expect("the broker runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("proc(5)")
}

/// [MQTT-4.9.0-1], [MQTT-4.9.0-2] Not more than the lower of Receive Maximum and `max_inflight_messages` are under way;
/// each acknowledgement lets one more go.
#[test]
fn mqtt_4_9_0_2_window() {
    for (announced, configured, window) in [
        (3, 20, 3),
        (65_535, 4, 4),
        (1, 0, 1),
        (30, 20, 20),
        (5, 5, 5),
    ] {
        let broker = Broker::start(&[&format!("max_inflight_messages {configured}")]);
        let packet = connect("subscriber").with(receive_maximum(announced));
        let mut subscriber = broker.connect_with(Version::V5, packet);
        subscriber.subscribe("t", 1);
        publish_numbers(&mut broker.connect_v5("publisher"), 1, 0..40);
        let packet_ids = expect_numbers(&mut subscriber, 0..window);
        subscriber.fence();
        for (packet_id, next) in packet_ids.into_iter().zip(window..) {
            subscriber.send(puback(packet_id));
            expect_numbers(&mut subscriber, next..=next);
            subscriber.fence();
        }
    }
}

/// [MQTT-4.9.0-1] A client that names no Receive Maximum, of any version, has a window of `max_inflight_messages`.
#[test]
fn mqtt_4_9_0_1_window_without_receive_maximum() {
    for (line, window) in [("max_inflight_messages 7", 7), ("# nothing", 20)] {
        let broker = Broker::start(&[line]);
        for version in Version::ALL {
            let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
            publish_numbers(&mut broker.connect_v5("publisher"), 2, 0..30);
            expect_numbers(&mut subscriber, 0..window);
            subscriber.fence();
        }
    }
}

/// `max_inflight_messages 0` means as many as there are identifiers; the broker then names no Receive Maximum.
#[test]
fn no_inflight_limit() {
    let broker = Broker::start(&["max_inflight_messages 0", "log_type error"]);
    let mut publisher = broker.connect_v5("publisher");
    let named = |property: &Property| property.id == receive_maximum(1).id;
    assert!(!publisher.connack.properties.iter().any(named));
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 1);
        publish_numbers(&mut publisher, 1, 0..3000);
        expect_numbers(&mut subscriber, 0..3000);
    }
}

/// [MQTT-4.9.0-2] A QoS 2 exchange holds its place until PUBCOMP: PUBREC makes no room.
#[test]
fn mqtt_4_9_0_2_qos_2_holds_its_place_until_pubcomp() {
    let broker = Broker::start(&["max_inflight_messages 1"]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
        publish_numbers(&mut broker.connect_v5("publisher"), 2, 0..3);
        for number in 0..3 {
            let id = expect_numbers(&mut subscriber, number..=number)[0];
            subscriber.send(pubrec(id));
            subscriber.expect(pubrel(id));
            subscriber.fence();
            subscriber.send(pubcomp(id));
        }
        subscriber.fence();
    }
}

/// [MQTT-4.3.3-4], [MQTT-4.4.0-2] A PUBREC of 0x80 and above ends the exchange: no PUBREL, room for the next, and nothing
/// is sent again after a reconnect. So does a PUBACK.
#[test]
fn mqtt_4_4_0_2_refused_by_the_receiver() {
    let broker = Broker::start(&["max_inflight_messages 1"]);
    let mut publisher = broker.connect_v5("publisher");
    for (qos, refusal) in [(1, puback as fn(u16) -> Ack), (2, pubrec)] {
        for reason in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
            let mut subscriber = persistent(&broker, Version::V5, "subscriber", 2);
            publish_numbers(&mut publisher, qos, 0..3);
            for number in 0..2 {
                let id = expect_numbers(&mut subscriber, number..=number)[0];
                subscriber.send(refusal(id).reason(reason));
            }
            expect_numbers(&mut subscriber, 2..=2);
            drop(subscriber);
            let mut subscriber = resume(&broker, Version::V5, "subscriber");
            receive_numbers(&mut subscriber, 2..=2);
            if qos == 2 {
                let rel = subscriber.expect_packet();
                assert_eq!(rel[0], 0x62);
                subscriber.send(packet(0x70, &rel[2..4]));
            }
            subscriber.fence();
        }
    }
}

/// [MQTT-4.9.0-3], [MQTT-3.3.4-10] With the window full, QoS 0, acknowledgements, SUBSCRIBE and PINGREQ go on.
#[test]
fn mqtt_4_9_0_3_all_else_goes_on() {
    let broker = Broker::start(&["max_inflight_messages 1"]);
    for version in Version::ALL {
        let mut client = broker.subscriber(version, "client", "t", 1);
        let mut publisher = broker.connect(version, "publisher");
        publish_numbers(&mut publisher, 1, 0..2);
        expect_numbers(&mut client, 0..1);
        publisher.publish(&publish("t", "qos 0"));
        client.expect(publish("t", "qos 0"));
        client.subscribe("u", 0);
        client.send(unsubscribe(2, &["u"]));
        client.expect(unsuback(2, &[0]));
        client.publish(&publish("v", "x").qos(2).packet_id(9));
        client.publish(&publish("v", "x").qos(1).packet_id(9));
        client.fence();
        client.send(puback(1));
        expect_numbers(&mut client, 1..2);
    }
}

/// Acknowledgements in another order than the messages came: each frees its own place.
#[test]
fn acknowledgements_out_of_order() {
    let broker = Broker::start(&["max_inflight_messages 4"]);
    for version in Version::ALL {
        for qos in [1, 2] {
            let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
            publish_numbers(&mut broker.connect_v5("publisher"), qos, 0..8);
            let ids = expect_numbers(&mut subscriber, 0..4);
            for (position, next) in [3, 1, 0, 2].into_iter().zip(4..) {
                let id = ids[position];
                if qos == 1 {
                    subscriber.send(puback(id));
                } else {
                    subscriber.send(pubrec(id));
                    subscriber.expect(pubrel(id));
                    subscriber.send(pubcomp(id));
                }
                expect_numbers(&mut subscriber, next..=next);
            }
            subscriber.fence();
        }
    }
}

/// A second PUBACK of the same identifier frees nothing.
#[test]
fn acknowledged_twice() {
    let broker = Broker::start(&["max_inflight_messages 2"]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 1);
    publish_numbers(&mut broker.connect_v5("publisher"), 1, 0..6);
    let ids = expect_numbers(&mut subscriber, 0..2);
    subscriber.send(puback(ids[0]));
    expect_numbers(&mut subscriber, 2..3);
    subscriber.send(puback(ids[0]));
    subscriber.fence();
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-5], [MQTT-4.3.3-6] After a
/// reconnect all that is not acknowledged is sent again in its first order, PUBLISH with DUP, PUBREL where PUBREC came,
/// then what waited.
#[test]
fn mqtt_4_4_0_1_sent_again_in_order() {
    let broker = Broker::start(&["max_inflight_messages 6"]);
    for version in Version::ALL {
        let mut subscriber = persistent(&broker, version, "subscriber", 2);
        let mut publisher = broker.connect(version, "publisher");
        for (number, qos) in [1, 2, 2, 1, 2, 1, 2, 1].into_iter().enumerate() {
            publish_numbers(&mut publisher, qos, number..=number);
        }
        let ids = expect_numbers(&mut subscriber, 0..6);
        subscriber.send(puback(ids[3]));
        let seventh = expect_numbers(&mut subscriber, 6..7)[0];
        subscriber.send(pubrec(ids[2]));
        subscriber.expect(pubrel(ids[2]));
        for _ in 0..2 {
            drop(subscriber);
            subscriber = resume(&broker, version, "subscriber");
            let again = |number: usize, qos: u8, id: u16| {
                publish("t", number.to_string())
                    .qos(qos)
                    .packet_id(id)
                    .dup()
            };
            subscriber.expect(again(0, 1, ids[0]));
            subscriber.expect(again(1, 2, ids[1]));
            subscriber.expect(pubrel(ids[2]));
            subscriber.expect(again(4, 2, ids[4]));
            subscriber.expect(again(5, 1, ids[5]));
            subscriber.expect(again(6, 2, seventh));
            subscriber.fence();
        }
        subscriber.send(puback(ids[0]));
        let last = subscriber.expect_publish();
        assert_eq!((&last.payload[..], last.dup), (&b"7"[..], false));
        for id in [ids[1], ids[4], seventh] {
            subscriber.send(pubrec(id));
            subscriber.expect(pubrel(id));
        }
        for id in [ids[1], ids[2], ids[4], seventh] {
            subscriber.send(pubcomp(id));
        }
        subscriber.send(puback(ids[5]));
        subscriber.send(puback(last.packet_id));
        subscriber.fence();
    }
}

/// [MQTT-4.4.0-1] Within one connection nothing is sent again, however long the acknowledgement takes.
#[test]
fn mqtt_4_4_0_1_never_at_another_time() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 2);
        let mut publisher = broker.connect(version, "publisher");
        publish_numbers(&mut publisher, 1, 0..1);
        publish_numbers(&mut publisher, 2, 1..2);
        expect_numbers(&mut subscriber, 0..2);
        subscriber.expect_silence(Duration::from_millis(300));
    }
}

/// [MQTT-4.5.0-1] What comes while a client sleeps waits for it, in order, across QoS 1 and 2, with DUP 0.
#[test]
fn mqtt_4_5_0_1_queue_of_a_sleeping_client() {
    let broker = Broker::start(&["log_type error"]);
    for version in Version::ALL {
        let id = format!("{version:?}");
        persistent(&broker, version, &id, 2).leave();
        let mut publisher = broker.connect(version, "publisher");
        for number in 0..300 {
            let qos = 1 + (number % 2) as u8;
            publish_numbers(&mut publisher, qos, number..=number);
        }
        let mut sleeping = resume(&broker, version, &id);
        for number in 0..300 {
            let received = sleeping.receive_any();
            assert_eq!(received.payload, number.to_string().as_bytes());
            assert!(!received.dup);
        }
    }
}

/// What is published while the queue is still being sent goes behind it.
#[test]
fn new_messages_go_behind_the_queue() {
    let broker = Broker::start(&["max_inflight_messages 3"]);
    persistent(&broker, Version::V5, "subscriber", 1).leave();
    let mut publisher = broker.connect_v5("publisher");
    publish_numbers(&mut publisher, 1, 0..10);
    let mut subscriber = resume(&broker, Version::V5, "subscriber");
    receive_numbers(&mut subscriber, 0..2);
    publish_numbers(&mut publisher, 1, 10..20);
    receive_numbers(&mut subscriber, 2..20);
    subscriber.fence();
}

/// `max_queued_messages`: the messages that came first stay, those above the limit are dropped, for this client alone,
/// and the log says so once.
#[test]
fn max_queued_messages() {
    let broker = Broker::start(&["max_queued_messages 10"]);
    persistent(&broker, Version::V5, "slow", 1).leave();
    persistent(&broker, Version::V5, "other", 1).leave();
    let mut publisher = broker.connect_v5("publisher");
    publish_numbers(&mut publisher, 1, 0..10);
    let mut other = resume(&broker, Version::V5, "other");
    receive_numbers(&mut other, 0..10);
    publish_numbers(&mut publisher, 1, 10..15);
    receive_numbers(&mut other, 10..15);
    other.fence();
    let mut slow = resume(&broker, Version::V5, "slow");
    receive_numbers(&mut slow, 0..10);
    slow.fence();
    publish_numbers(&mut publisher, 1, 15..17);
    receive_numbers(&mut slow, 15..17);
    broker.wait_for_log(DROPPING);
    assert_eq!(broker.log_text().matches(DROPPING).count(), 1);
}

/// `memory_limit`: beyond it messages and new sessions are refused, but who comes back for what waits gets it, and then all
/// goes on.
#[test]
fn memory_limit() {
    let broker = Broker::start(&["memory_limit 20000000", "max_queued_messages 0"]);
    persistent(&broker, Version::V5, "sleeper", 1).leave();
    let mut publisher = broker.connect_v5("publisher");
    let big = publish("t", vec![b'x'; 200_000]).qos(1).packet_id(1);
    let mut accepted = 0;
    loop {
        publisher.send(&big);
        let answer = publisher.expect_packet();
        if answer[0] == 0xE0 {
            assert_eq!(answer[2], 0x97, "quota exceeded");
            break;
        }
        accepted += 1;
        assert!(accepted < 200, "the limit is not kept");
    }
    broker.wait_for_log("disconnected: out of memory.");
    let mut stranger = broker.open(Version::V5);
    stranger.send(connect("stranger"));
    assert_eq!(stranger.expect_connack().reason, 0x89, "server busy");

    let mut sleeper = resume(&broker, Version::V5, "sleeper");
    assert!(sleeper.connack.session_present);
    for _ in 0..accepted {
        assert_eq!(sleeper.receive_any().payload.len(), 200_000);
    }
    sleeper.fence();
    broker.wait_for_log("Memory is below memory_limit again.");
    broker.connect_v5("stranger").leave();
}

/// For a connected client the queue begins behind the window.
#[test]
fn max_queued_messages_behind_the_window() {
    let broker = Broker::start(&["max_queued_messages 10", "max_inflight_messages 5"]);
    let mut slow = broker.subscriber(Version::V311, "slow", "t", 1);
    publish_numbers(&mut broker.connect_v3("publisher"), 1, 0..20);
    broker.wait_for_log(DROPPING);
    receive_numbers(&mut slow, 0..15);
    slow.fence();
}

/// A client that reads, but slower than others write, has a place for a message now and then: the log does not hear of it
/// anew each time.
#[test]
fn dropping_is_told_until_the_client_has_caught_up() {
    let broker = Broker::start(&["max_queued_messages 10", "max_inflight_messages 5"]);
    let mut slow = broker.subscriber(Version::V311, "slow", "t", 1);
    let mut publisher = broker.connect_v3("publisher");
    publish_numbers(&mut publisher, 1, 0..20);
    broker.wait_for_log(DROPPING);
    // The sixth is sent when the first has been acknowledged: a place is free, and no more than six.
    receive_numbers(&mut slow, 0..6);
    publish_numbers(&mut publisher, 1, 20..40);
    assert_eq!(broker.log_text().matches(DROPPING).count(), 1);
}

/// `max_queued_messages 0` is no limit.
#[test]
fn no_limit_of_queued_messages() {
    let broker = Broker::start(&["max_queued_messages 0", "log_type error"]);
    persistent(&broker, Version::V5, "slow", 1).leave();
    publish_numbers(&mut broker.connect_v5("publisher"), 1, 0..2500);
    receive_numbers(&mut resume(&broker, Version::V5, "slow"), 0..2500);
}

/// Without a line about it the queue holds 1000 messages.
#[test]
fn usual_limit_of_queued_messages() {
    let broker = Broker::start(&["log_type error"]);
    persistent(&broker, Version::V5, "slow", 1).leave();
    publish_numbers(&mut broker.connect_v5("publisher"), 1, 0..1010);
    let mut slow = resume(&broker, Version::V5, "slow");
    receive_numbers(&mut slow, 0..1000);
    slow.fence();
}

/// `max_queued_bytes` counts payloads; the first limit that is reached wins.
#[test]
fn max_queued_bytes() {
    for (bytes, messages, kept) in [
        (1000, 100, 10),
        (1099, 100, 10),
        (1000, 7, 7),
        (1000, 0, 10),
    ] {
        let broker = Broker::start(&[
            &format!("max_queued_bytes {bytes}"),
            &format!("max_queued_messages {messages}"),
        ]);
        persistent(&broker, Version::V5, "slow", 1).leave();
        let mut publisher = broker.connect_v5("publisher");
        for _ in 0..15 {
            publisher.publish(&publish("t", [b'x'; 100]).qos(1).packet_id(1));
        }
        let mut slow = resume(&broker, Version::V5, "slow");
        for _ in 0..kept {
            assert_eq!(slow.receive_any().payload.len(), 100);
        }
        slow.fence();
        broker.wait_for_log(DROPPING);
    }
}

/// `queue_qos0_messages`: QoS 0 waits for a sleeping client too, in its place among the others, or not at all.
#[test]
fn queue_qos0_messages() {
    for wanted in [true, false] {
        let broker = Broker::start(&[&format!("queue_qos0_messages {wanted}")]);
        for version in Version::ALL {
            let id = format!("{version:?}");
            persistent(&broker, version, &id, 2).leave();
            let mut publisher = broker.connect(version, "publisher");
            for number in 0..9 {
                publish_numbers(&mut publisher, (number % 3) as u8, number..=number);
            }
            let mut sleeping = resume(&broker, version, &id);
            for number in (0..9).filter(|number| wanted || number % 3 > 0) {
                let received = sleeping.receive_any();
                assert_eq!(received.payload, number.to_string().as_bytes());
                assert_eq!(usize::from(received.qos), number % 3);
            }
        }
    }
}

/// With `queue_qos0_messages`, a subscription of QoS 0 collects messages too.
#[test]
fn queue_qos0_messages_of_a_qos_0_subscription() {
    let broker = Broker::start(&["queue_qos0_messages true", "max_queued_messages 5"]);
    persistent(&broker, Version::V5, "sleeping", 0).leave();
    publish_numbers(&mut broker.connect_v5("publisher"), 2, 0..8);
    let mut sleeping = resume(&broker, Version::V5, "sleeping");
    for number in 0..5 {
        sleeping.expect(publish("t", number.to_string()));
    }
    sleeping.fence();
}

/// [MQTT-3.3.4-7] As many QoS 2 messages as our Receive Maximum may be unreleased; one more is answered 0x97 and not
/// kept, and the connection stays, as with Mosquitto. A released one makes room.
#[test]
fn mqtt_3_3_4_7_receive_maximum_overrun() {
    let broker = Broker::start(&["max_inflight_messages 5"]);
    let mut subscriber = broker.subscriber(Version::V5, "subscriber", "#", 0);
    let mut client = broker.connect_v5("client");
    assert!(client.connack.properties.contains(&receive_maximum(5)));
    for id in 1..=5 {
        client.send(publish("t", id.to_string()).qos(2).packet_id(id));
        client.expect(pubrec(id));
    }
    client.send(publish("t", "6").qos(2).packet_id(6));
    client.expect(pubrec(6).reason(0x97));
    client.send(publish("t", "5").qos(2).packet_id(5).dup());
    client.expect(pubrec(5));
    client.send(pubrel(1));
    client.expect(pubcomp(1));
    client.send(publish("t", "6").qos(2).packet_id(6));
    client.expect(pubrec(6));
    for id in 2..=6 {
        client.send(pubrel(id));
        client.expect(pubcomp(id));
    }
    receive_numbers(&mut subscriber, 1..=6);
    subscriber.fence();
}

/// A client of 3.x, which is told no Receive Maximum, may have more unreleased than that.
#[test]
fn many_unreleased_messages_of_an_older_client() {
    let broker = Broker::start(&[]);
    for version in [Version::V31, Version::V311] {
        let mut subscriber = broker.subscriber(version, "subscriber", "t", 0);
        let mut client = broker.connect(version, "client");
        for id in 1..=200 {
            client.send(publish("t", id.to_string()).qos(2).packet_id(id));
            client.expect(pubrec(id));
        }
        for id in 1..=200 {
            client.send(pubrel(id));
            client.expect(pubcomp(id));
        }
        receive_numbers(&mut subscriber, 1..=200);
    }
}

/// `allow_duplicate_messages`: a message that several subscriptions of one client match comes once for each, or once
/// with the highest QoS among them. [MQTT-3.3.4-2], [MQTT-3.3.5-1]
#[test]
fn mqtt_3_3_4_2_allow_duplicate_messages() {
    for duplicates in [true, false] {
        let line = format!("allow_duplicate_messages {duplicates}");
        let broker = Broker::start(&[&line]);
        for version in Version::ALL {
            let mut client = broker.connect(version, "client");
            for (filter, qos) in [("a/b", 0), ("a/+", 2), ("a/#", 1), ("b", 0)] {
                client.subscribe(filter, qos);
            }
            let mut publisher = broker.connect(version, "publisher");
            publisher.publish(&publish("a/b", "x").qos(2).packet_id(1));
            publisher.publish(&publish("b", "end"));
            let mut received = Vec::new();
            loop {
                let message = client.receive_any();
                if message.topic == "b" {
                    break;
                }
                received.push(message.qos);
            }
            received.sort_unstable();
            let expected: &[u8] = if duplicates { &[0, 1, 2] } else { &[2] };
            assert_eq!(received, expected, "{line}");
        }
    }
}

/// Sends `message` `count` times, and reads on until the broker has handled all.
fn flood(publisher: &mut Raw, message: &Publish, count: usize) {
    const BATCH: usize = 500;
    for start in (0..count).step_by(BATCH) {
        let bytes = message.encode(Version::V5);
        publisher.send(bytes.repeat(BATCH.min(count - start)));
        publisher.fence();
    }
}

/// A subscriber that does not read while thousands of QoS 0 messages come costs itself: others are served meanwhile, the
/// memory of the broker is bounded, and the log says once that messages are dropped.
#[test]
fn slow_reader_at_qos_0() {
    const COUNT: usize = 20_000;
    let broker = Broker::start(&["log_type error", "log_type notice"]);
    let mut slow = broker.subscriber(Version::V5, "slow", "t", 0);
    let mut other = broker.subscriber(Version::V5, "other", "u", 0);
    let mut publisher = broker.connect_v5("publisher");
    let before = resident_kib(&broker);
    // 40 MB of what nobody reads.
    flood(&mut publisher, &publish("t", [b'x'; 2000]), COUNT);
    broker.wait_for_log(DROPPING);
    let start = Instant::now();
    publisher.send(publish("u", "hi"));
    other.expect(publish("u", "hi"));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "others wait: {:?}",
        start.elapsed()
    );
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < 20_000, "{grown} KiB for one slow reader");
    flood(&mut publisher, &publish("t", [b'x'; 2000]), 2000);
    assert_eq!(broker.log_text().matches(DROPPING).count(), 1);
    let received = drain(&mut slow, |message| assert_eq!(message.payload.len(), 2000));
    assert!(
        (1000..COUNT).contains(&received),
        "{received} messages came"
    );
    publisher.send(publish("t", "again"));
    slow.expect(publish("t", "again"));
}

/// Reads all PUBLISH packets up to the answer to a PINGREQ, and counts them.
fn drain(client: &mut Raw, check: impl Fn(&Publish)) -> usize {
    client.send(pingreq());
    let mut received = 0;
    loop {
        let packet = client.expect_packet();
        let Some(message) = Publish::decode(&packet, Version::V5) else {
            assert_eq!(packet, b"\xd0\x00");
            return received;
        };
        check(&message);
        received += 1;
    }
}

/// What a slow reader gets has no gap inside until the first loss, and its order.
#[test]
fn slow_reader_keeps_the_order() {
    let broker = Broker::start(&["log_type error", "log_type notice"]);
    let mut slow = broker.subscriber(Version::V5, "slow", "t", 0);
    let mut publisher = broker.connect_v5("publisher");
    let padding = "x".repeat(4000);
    let mut bytes = Vec::new();
    for number in 0..5000 {
        bytes.extend(publish("t", format!("{number:05}{padding}")).encode(Version::V5));
    }
    publisher.send(bytes);
    publisher.fence();
    broker.wait_for_log(DROPPING);
    slow.send(pingreq());
    let mut last: Option<u32> = None;
    loop {
        let packet = slow.expect_packet();
        let Some(message) = Publish::decode(&packet, Version::V5) else {
            break;
        };
        let number: u32 = std::str::from_utf8(&message.payload[..5])
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            last.is_none_or(|last| number == last + 1),
            "{number} after {last:?}"
        );
        last = Some(number);
    }
}

/// A subscriber of QoS 1 and 2 that does not read: the window, then the queue, then nothing; once it reads, it gets all
/// that was kept, in order, and new messages.
#[test]
fn slow_reader_at_qos_1() {
    let broker = Broker::start(&[
        "log_type error",
        "log_type notice",
        "max_queued_messages 200",
    ]);
    let mut slow = broker.subscriber(Version::V5, "slow", "t", 1);
    let mut publisher = broker.connect_v5("publisher");
    let before = resident_kib(&broker);
    for number in 0..2000 {
        let mut payload = vec![b'x'; 20_000];
        payload[..4].copy_from_slice(format!("{number:04}").as_bytes());
        publisher.publish(&publish("t", payload).qos(1).packet_id(1));
    }
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(
        grown < 12_000,
        "{grown} KiB for 220 messages of 20,000 bytes"
    );
    for number in 0..220 {
        let received = slow.receive_any();
        assert_eq!(received.payload[..4], *format!("{number:04}").as_bytes());
    }
    slow.fence();
    assert_eq!(broker.log_text().matches(DROPPING).count(), 1);
    publish_numbers(&mut publisher, 1, 7..8);
    receive_numbers(&mut slow, 7..8);
}

/// Large payloads to many readers, one of whom does not read, are held once.
#[test]
fn slow_readers_share_large_payloads() {
    const READERS: usize = 30;
    let broker = Broker::start(&["log_type error"]);
    let mut slow: Vec<Raw> = (0..READERS)
        .map(|number| broker.subscriber(Version::V5, &format!("slow{number}"), "t", 0))
        .collect();
    let mut publisher = broker.connect_v5("publisher");
    let before = resident_kib(&broker);
    let payload = vec![b'x'; 1_000_000];
    for _ in 0..10 {
        publisher.publish(&publish("t", &payload));
    }
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(
        grown < 40_000,
        "{grown} KiB for 10 messages of 1 MB to {READERS} readers"
    );
    for reader in &mut slow {
        for _ in 0..10 {
            assert!(reader.expect_publish().payload == payload);
        }
    }
}

/// A client that sends requests and reads no answer is not read from any more, and keeps nobody waiting.
#[test]
fn a_client_that_never_reads_its_answers() {
    let broker = Broker::start(&["log_type error"]);
    let mut other = broker.subscriber(Version::V5, "other", "u", 0);
    let before = resident_kib(&broker);
    let hog = broker.connect_v5("hog");
    let writer = thread::spawn(move || {
        let mut hog = hog;
        let batch = pingreq().encode(Version::V5).repeat(50_000);
        for _ in 0..400 {
            hog.send(&batch);
        }
    });
    thread::sleep(Duration::from_millis(500));
    let mut publisher = broker.connect_v5("publisher");
    for _ in 0..20 {
        publisher.send(publish("u", "hi"));
        other.expect(publish("u", "hi"));
    }
    let grown = resident_kib(&broker).saturating_sub(before);
    assert!(grown < 10_000, "{grown} KiB of answers");
    assert!(!writer.is_finished(), "the broker still reads");
    drop(broker);
    writer
        .join()
        .expect("the end of the broker is the end of its wait");
}

/// Take-over, SUBSCRIBE and messages of a session that is in the middle of being sent its queue lose nothing.
#[test]
fn reconnects_in_the_middle_of_the_queue() {
    let broker = Broker::start(&["max_inflight_messages 4", "log_type error"]);
    for version in Version::ALL {
        let mut subscriber = persistent(&broker, version, "subscriber", 1);
        let mut publisher = broker.connect(version, "publisher");
        publish_numbers(&mut publisher, 1, 0..50);
        for number in 0..50 {
            let id = expect_numbers(&mut subscriber, number..=number)[0];
            subscriber.send(puback(id));
            // What the broker has handled by now, it must not send again.
            drain_to_pong(&mut subscriber);
            subscriber = resume(&broker, version, "subscriber");
        }
        subscriber.fence();
    }
}

/// Reads whatever comes up to the answer to a PINGREQ.
fn drain_to_pong(client: &mut Raw) {
    client.send(pingreq());
    while client.expect_packet() != b"\xd0\x00" {}
}

/// `max_inflight_bytes` bounds the payloads under way, with one message always allowed.
#[test]
fn max_inflight_bytes() {
    for (bytes, window) in [(1000, 10), (1099, 10), (250, 2), (50, 1)] {
        let broker = Broker::start(&[&format!("max_inflight_bytes {bytes}")]);
        let mut subscriber = broker.subscriber(Version::V5, "subscriber", "t", 1);
        let mut publisher = broker.connect_v5("publisher");
        for _ in 0..15 {
            publisher.publish(&publish("t", [b'x'; 100]).qos(1).packet_id(1));
        }
        for _ in 0..window {
            assert_eq!(subscriber.expect_publish().payload.len(), 100);
        }
        subscriber.fence();
        subscriber.send(puback(1));
        assert_eq!(subscriber.expect_publish().payload.len(), 100);
        subscriber.fence();
    }
}
