//! What a client may do: access rules on every way that a message can take, and mount points.
//!
//! Tests that hold what once broke in Mosquitto carry the number that it is known by.

use std::net::SocketAddr;

use crate::accounts::{PASSWORDS, answer, enter, local, not_authorised, user};
use crate::harness::*;

/// The usual rules: foo may read `Topic`, bar may write it, baz may do everything, and nobody else anything.
const CLASSIC: &str = concat!(
    "user foo\ntopic read Topic\n",
    "user bar\ntopic write Topic\n",
    "user baz\ntopic readwrite #\n",
);

/// What a broker is told that has these rules, and passwords for foo, bar and baz.
const RULED: [&str; 3] = [
    "allow_anonymous true",
    "password_file {dir}/passwords",
    "acl_file {dir}/acl",
];

/// A broker with these rules.
fn start(acl: &str) -> Broker {
    start_with(acl, &[])
}

/// A broker with these rules and more lines of configuration.
fn start_with(acl: &str, lines: &[&str]) -> Broker {
    let files = [("passwords", PASSWORDS), ("acl", acl)];
    Broker::start_with(&[&RULED, lines].concat(), &files)
}

/// A broker with these rules where nobody is asked for a password: any name is taken as it is.
fn start_credulous(acl: &str) -> Broker {
    let lines = ["allow_anonymous true", "acl_file {dir}/acl"];
    Broker::start_with(&lines, &[("acl", acl)])
}

/// Puts other rules in force.
fn change(broker: &Broker, acl: &str) {
    broker.write("acl", acl);
    broker.reload();
}

/// The user of this name, with the name as its Client Identifier.
#[track_caller]
fn connect_user(broker: &Broker, version: Version, name: &str) -> Raw {
    broker.connect_with(version, user(name, name))
}

/// The same, with a session that stays.
#[track_caller]
fn connect_persistent(broker: &Broker, name: &str) -> Raw {
    broker.connect_with(Version::V5, user(name, name).persistent())
}

/// Sends a message that is to be denied: 5.0 is told so, and before it is not.
#[track_caller]
fn expect_denied(client: &mut Raw, message: &Publish) {
    let (id, is_v5) = (message.packet_id, client.version() == Version::V5);
    let denied = |ack: Ack| if is_v5 { ack.reason(0x87) } else { ack };
    client.send(message);
    match message.qos {
        0 => client.fence(),
        1 => client.expect(denied(puback(id))),
        _ => client.expect(denied(pubrec(id))),
    }
    if message.qos == 2 && !is_v5 {
        client.send(pubrel(id));
        client.expect(pubcomp(id));
    }
}

/// Whether a client of 5.0 may publish to `topic`.
#[track_caller]
fn may_write(client: &mut Raw, topic: &str) -> bool {
    client.send(publish(topic, "x").qos(1).packet_id(77));
    match client.expect_packet()[..] {
        [0x40, _, _, 77] | [0x40, _, _, 77, 0x10] => true,
        [0x40, _, _, 77, 0x87] => false,
        ref other => panic!("not a PUBACK: {other:02x?}"),
    }
}

/// Whether what `writer`, who may, publishes to `topic` comes to `reader`, who is subscribed to it.
#[track_caller]
fn may_read(writer: &mut Raw, reader: &mut Raw, topic: &str) -> bool {
    writer.publish(&publish(topic, "x"));
    reader.send(pingreq());
    let packet = reader.expect_packet();
    let is_pong = packet == pingresp().encode(reader.version());
    if !is_pong {
        assert_eq!(
            Publish::decode(&packet, reader.version()),
            Some(publish(topic, "x"))
        );
        reader.expect(pingresp());
    }
    !is_pong
}

/// The end of a client's connection, without DISCONNECT; the broker has seen it when this returns.
fn hang_up(mut client: Raw) {
    client.shutdown_send();
    client.expect_closed();
}

/// The classic: who may read reads, who may write writes, at every QoS, and nothing else happens.
#[test]
fn reading_and_writing() {
    for version in Version::ALL {
        let broker = start(CLASSIC);
        let mut foo = connect_user(&broker, version, "foo");
        let mut bar = connect_user(&broker, version, "bar");
        foo.subscribe("#", 2);
        bar.subscribe("Topic", 2);
        for qos in 0..=2 {
            let message = publish("Topic", "hi").qos(qos).packet_id(qos.into());
            bar.publish(&message);
            foo.receive(&message);
            expect_denied(&mut foo, &message);
            expect_denied(
                &mut bar,
                &publish("Other", "hi").qos(qos).packet_id(qos.into()),
            );
        }
        foo.fence();
        bar.fence();
        broker.wait_for_log("Denied PUBLISH from foo (d0, q1, r0, m1, 'Topic', ... (2 bytes))");
        broker.wait_for_log("Denied PUBLISH from bar (d0, q2, r0, m2, 'Other', ... (2 bytes))");
    }
}

/// Rules above the first `user` line are for those without a name, and for nobody else.
#[test]
fn anonymous_rules() {
    let broker = start("topic readwrite public/#\nuser foo\ntopic readwrite own/#\n");
    let mut nobody = broker.connect_v5("nobody");
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let mut bar = connect_user(&broker, Version::V5, "bar");
    for (topic, expected) in [
        ("public/a", [true, false, false]),
        ("own/a", [false, true, false]),
    ] {
        let clients = [&mut nobody, &mut foo, &mut bar];
        assert_eq!(
            clients.map(|client| may_write(client, topic)),
            expected,
            "{topic}"
        );
    }
}

/// `deny` beats what else a user's rules say, wherever it stands.
#[test]
fn denials() {
    let broker = start("user foo\ntopic deny a/secret\ntopic readwrite #\ntopic deny b/+/secret\n");
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let table = [
        ("a/secret", false),
        ("a/secret/b", true),
        ("a", true),
        ("b/x/secret", false),
        ("b/secret", true),
    ];
    for (topic, expected) in table {
        assert_eq!(may_write(&mut foo, topic), expected, "{topic}");
    }
}

/// `%c` and `%u` in patterns stand for the names of whoever asks.
#[test]
fn patterns() {
    let broker = start(concat!(
        "pattern readwrite clients/%c/#\n",
        "pattern write users/%u/out\n",
        "pattern read users/%u/in\n",
        "user baz\ntopic readwrite #\n",
    ));
    let mut nobody = broker.connect_v5("nobody");
    let mut foo = broker.connect_with(Version::V5, user("lamp", "foo"));
    let writing = [
        ("clients/nobody/a", [true, false]),
        ("clients/nobody", [true, false]),
        ("clients/lamp/a/b", [false, true]),
        ("clients/foo/a", [false, false]),
        ("clients/%c/a", [false, false]),
        ("users/foo/out", [false, true]),
        ("users/foo/in", [false, false]),
        ("users/lamp/out", [false, false]),
        ("users//out", [false, false]),
        ("users/%u/out", [false, false]),
    ];
    for (topic, expected) in writing {
        let clients = [&mut nobody, &mut foo];
        assert_eq!(
            clients.map(|client| may_write(client, topic)),
            expected,
            "{topic}"
        );
    }
    let mut baz = connect_user(&broker, Version::V5, "baz");
    foo.subscribe("#", 0);
    let reading = [
        ("clients/lamp/a", true),
        ("clients/nobody/a", false),
        ("users/foo/in", true),
        ("users/foo/out", false),
        ("users/bar/in", false),
        ("users/%u/in", false),
    ];
    for (topic, expected) in reading {
        assert_eq!(may_read(&mut baz, &mut foo, topic), expected, "{topic}");
    }
}

/// A Client Identifier with `/` is as good as any: rules do not mind, and a pattern takes it as it is.
#[test]
fn client_ids_with_slashes() {
    let broker = start("topic readwrite open/#\npattern readwrite clients/%c/#\n");
    let mut lamp = broker.connect_v5("house/lamp");
    let table = [
        ("open/a", true),
        ("clients/house/lamp/a", true),
        ("clients/house/a", false),
        ("clients/house", false),
    ];
    for (topic, expected) in table {
        assert_eq!(may_write(&mut lamp, topic), expected, "{topic}");
    }
}

/// Wildcards in names matched what is everybody's: no pattern is for a client that has some in its names.
#[test]
fn cve_2017_7650_wildcards_in_names() {
    let broker = start_credulous(concat!(
        "user admin\ntopic readwrite #\n",
        "user +\ntopic write own\n",
        "pattern readwrite clients/%c\n",
        "pattern readwrite users/%u\n",
    ));
    let mut admin = broker.connect_with(Version::V5, connect("admin").username("admin"));
    let names = [
        ("#", "x"),
        ("+", "x"),
        ("x", "#"),
        ("x", "+"),
        ("x/+", "x"),
        ("x", "+/x"),
        ("#", "#"),
    ];
    for (client_id, name) in names {
        let packet = connect(client_id).username(name);
        let mut client = broker.connect_with(Version::V5, packet);
        client.subscribe("#", 0);
        for topic in ["clients/x", "clients/victim", "users/x", "users/victim"] {
            let rights = (
                may_read(&mut admin, &mut client, topic),
                may_write(&mut client, topic),
            );
            assert_eq!(rights, (false, false), "{topic} by {client_id:?}, {name:?}");
        }
        // Its own rules are its own.
        assert_eq!(may_write(&mut client, "own"), name == "+");
        client.leave();
    }
}

/// An empty file was taken for no file: it says that nothing is allowed.
#[test]
fn cve_2018_12550_empty_acl_file() {
    for empty in ["", "\n\n", "# topic readwrite #\n"] {
        let broker = start(empty);
        for packet in [connect("client"), user("client", "foo")] {
            let mut client = broker.connect_with(Version::V5, packet);
            client.subscribe("#", 0);
            client.subscribe("$SYS/#", 0);
            assert!(!may_write(&mut client, "a"));
            client.fence();
        }
    }
}

/// The rules of the default listener were not asked where every listener has its own.
#[test]
fn cve_2018_20145_default_listener_with_its_own_rules() {
    let own = concat!(
        "per_listener_settings true\n",
        "port {port}\n",
        "bind_address 127.0.0.1\n",
        "allow_anonymous true\n",
        "acl_file {dir}/acl\n",
        "log_type all\n",
    );
    let files = [("own", own), ("acl", "topic write a\n")];
    let broker = Broker::start_as("exec \"$1\" -c {dir}/own", &[], &files);
    let mut client = broker.connect_v5("client");
    assert!(may_write(&mut client, "a"));
    assert!(!may_write(&mut client, "b"));
}

/// `subscribe` rules: who has some may subscribe to what they cover, and to nothing that reaches further.
#[test]
fn subscribe_rules() {
    let broker =
        start("topic readwrite #\ntopic subscribe rooms/+/temp\ntopic subscribe kitchen/#\n");
    let table = [
        ("rooms/a/temp", true),
        ("rooms/+/temp", true),
        ("$share/g/rooms/+/temp", true),
        ("kitchen", true),
        ("kitchen/#", true),
        ("kitchen/+/temp", true),
        ("rooms/#", false),
        ("rooms/+/+", false),
        ("$share/g/rooms/#", false),
        ("#", false),
        ("+/#", false),
        ("$SYS/#", false),
    ];
    for version in Version::ALL {
        let mut client = broker.connect(version, "client");
        // Shared subscriptions are of 5.0, but nobody is kept from asking for them.
        let packet = table
            .iter()
            .fold(subscribe(1), |packet, (filter, _)| packet.filter(filter, 0));
        let denied = if version == Version::V5 { 0x87 } else { 0x80 };
        let codes = table.map(|(_, allowed)| if allowed { 0 } else { denied });
        client.send(packet);
        client.expect(suback(1, &codes));
        // Of what it was denied it has nothing.
        let mut writer = broker.connect_v5("writer");
        assert!(!may_read(&mut writer, &mut client, "rooms/a/light"));
        client.leave();
    }
}

/// Retained messages are replayed to those alone who may read them, and replaced or cleared by those who may write.
#[test]
fn retained_messages() {
    let broker = start(CLASSIC);
    let mut baz = connect_user(&broker, Version::V5, "baz");
    for topic in ["Other", "Topic", "Topic/below"] {
        baz.publish(&publish(topic, "kept").retain());
    }
    for version in Version::ALL {
        let mut foo = connect_user(&broker, version, "foo");
        expect_denied(&mut foo, &publish("Topic", "").retain());
        expect_denied(
            &mut foo,
            &publish("Topic", "mine").retain().qos(1).packet_id(1),
        );
        foo.subscribe("#", 0);
        foo.expect(publish("Topic", "kept").retain());
        foo.fence();
        foo.leave();
    }
}

/// A retained message outlived the right of its publisher: it is no longer sent, unless `check_retain_source` is off.
#[test]
fn cve_2018_12546_retained_by_who_may_no_longer() {
    for (option, is_checked) in [
        ("", true),
        ("check_retain_source true", true),
        ("check_retain_source false", false),
    ] {
        let broker = start_with(CLASSIC, &[option]);
        let mut bar = connect_user(&broker, Version::V5, "bar");
        bar.publish(&publish("Topic", "kept").retain());
        bar.leave();
        let replayed = || {
            let mut foo = connect_user(&broker, Version::V5, "foo");
            foo.subscribe("Topic", 0);
            foo.send(pingreq());
            let packet = foo.expect_packet();
            packet == publish("Topic", "kept").retain().encode(Version::V5)
        };
        assert!(replayed());
        change(&broker, "user foo\ntopic read Topic\n");
        assert_eq!(replayed(), !is_checked, "{option:?}");
        change(&broker, CLASSIC);
        assert!(replayed(), "the right is back");
    }
}

/// A will is published if its client may write it when it goes.
#[test]
fn wills() {
    for version in Version::ALL {
        let broker = start(CLASSIC);
        let mut baz = connect_user(&broker, Version::V5, "baz");
        baz.subscribe("#", 0);
        for (name, topic) in [("foo", "Topic"), ("bar", "Other"), ("bar", "Topic")] {
            let packet = user(name, name).will(will(topic, name).retain());
            hang_up(broker.connect_with(version, packet));
        }
        baz.expect(publish("Topic", "bar"));
        baz.fence();
        let mut late = broker.connect_with(Version::V5, user("late", "baz"));
        late.subscribe("#", 0);
        late.expect(publish("Topic", "bar").retain());
        late.fence();
    }
}

/// Nobody's will is the server's or the administrator's word.
#[test]
fn august_2023_wills_to_sys_and_control() {
    let broker = start("topic readwrite #\ntopic readwrite $SYS/#\ntopic readwrite $CONTROL/#\n");
    let mut watcher = broker.connect_v5("watcher");
    watcher.subscribe("$SYS/broker/fake", 0);
    watcher.subscribe("$CONTROL/#", 0);
    watcher.subscribe("sentinel", 0);
    for version in Version::ALL {
        let control = connect("client").will(will("$CONTROL/dynamic-security/v1", "{}"));
        assert_eq!(
            answer(broker.address(), version, &control),
            not_authorised(version)
        );
        let sys = connect("client").will(will("$SYS/broker/fake", "x"));
        hang_up(broker.connect_with(version, sys));
        hang_up(broker.connect_with(version, connect("other").will(will("sentinel", "x"))));
        watcher.expect(publish("sentinel", "x"));
    }
}

/// A right that is lost while a will waits is lost for the will.
#[test]
fn cve_2021_34434_delayed_wills() {
    let broker =
        start("user foo\ntopic write a\nuser bar\ntopic write a\nuser baz\ntopic read #\n");
    let mut baz = connect_user(&broker, Version::V5, "baz");
    baz.subscribe("#", 0);
    for name in ["foo", "bar"] {
        let will = will("a", name).with(will_delay_interval(1));
        let packet = user(name, name).persistent().will(will);
        hang_up(broker.connect_with(Version::V5, packet));
    }
    change(&broker, "user bar\ntopic write a\nuser baz\ntopic read #\n");
    // The later of the two; the earlier one was due before it.
    baz.expect(publish("a", "bar"));
    baz.fence();
}

/// A will whose right is lost while its client is connected.
#[test]
fn cve_2021_34434_wills() {
    let broker = start(CLASSIC);
    let mut baz = connect_user(&broker, Version::V5, "baz");
    baz.subscribe("#", 0);
    let bar = broker.connect_with(Version::V5, user("bar", "bar").will(will("Topic", "gone")));
    change(&broker, "user baz\ntopic readwrite #\n");
    hang_up(bar);
    baz.fence();
}

/// An alias is no way around the rules: neither the packet that sets it nor those that use it.
#[test]
fn topic_aliases() {
    let broker = start(CLASSIC);
    let mut baz = connect_user(&broker, Version::V5, "baz");
    baz.subscribe("#", 0);
    let mut bar = connect_user(&broker, Version::V5, "bar");
    let aliased = |topic| publish(topic, "x").qos(1).packet_id(1).with(topic_alias(1));
    expect_denied(&mut bar, &aliased("Other"));
    expect_denied(&mut bar, &aliased(""));
    bar.send(aliased("Topic"));
    bar.expect(puback(1));
    bar.send(aliased(""));
    bar.expect(puback(1));
    baz.expect(publish("Topic", "x"));
    baz.expect(publish("Topic", "x"));
    // The right may go while the alias stays.
    change(&broker, "user baz\ntopic readwrite #\n");
    expect_denied(&mut bar, &aliased(""));
    baz.fence();
}

/// A member of a shared group that may not read a message is passed over, so that the others get it.
#[test]
fn shared_subscriptions() {
    let broker = start(CLASSIC);
    let mut baz = connect_user(&broker, Version::V5, "baz");
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let mut bar = connect_user(&broker, Version::V5, "bar");
    let share = "$share/group/#";
    bar.subscribe(share, 1);
    foo.subscribe(share, 1);
    for number in 1..=4 {
        let message = publish("Topic", "x").qos(1).packet_id(number);
        baz.publish(&message);
        foo.receive(&message);
    }
    // What neither may read goes to neither.
    baz.publish(&publish("Other", "x").qos(1).packet_id(1));
    foo.fence();
    bar.fence();
    // A connected member that may not read does not keep a message from one that may and is away.
    let mut away = broker.connect_with(Version::V5, user("away", "foo").persistent());
    away.subscribe("$share/other/Topic", 1);
    bar.subscribe("$share/other/Topic", 1);
    away.leave();
    foo.leave();
    baz.publish(&publish("Topic", "later").qos(1).packet_id(1));
    let mut away = broker.connect_with(Version::V5, user("away", "foo").persistent());
    away.receive(&publish("Topic", "later").qos(1).packet_id(1));
    bar.fence();
}

/// `subscribe` rules are about what stands behind the share name, also where they are asked again: at a reload, and when a
/// session is resumed.
#[test]
fn shared_subscriptions_under_subscribe_rules() {
    let rules = "topic readwrite #\nuser foo\ntopic read #\ntopic subscribe rooms/#\n";
    let broker = start(rules);
    let mut writer = broker.connect_v5("writer");
    let mut member = broker.connect_with(Version::V5, user("member", "foo").persistent());
    member.subscribe("$share/g/rooms/+", 1);
    change(&broker, &format!("{rules}topic subscribe kitchen/#\n"));
    let message = publish("rooms/a", "after a reload").qos(1).packet_id(1);
    writer.publish(&message);
    member.receive(&message);
    member.leave();
    let mut member = broker.connect_with(Version::V5, user("member", "foo").persistent());
    let message = publish("rooms/a", "after a return").qos(1).packet_id(2);
    writer.publish(&message);
    member.receive(&message);
    change(&broker, &rules.replace("rooms", "kitchen"));
    writer.publish(&publish("rooms/a", "none").qos(1).packet_id(3));
    member.fence();
}

/// A QoS 2 message whose right is lost between PUBLISH and PUBREL ends as it must, and goes nowhere.
#[test]
fn august_2021_qos_2_is_asked_for_again_at_its_release() {
    for version in [Version::V311, Version::V5] {
        let broker = start(CLASSIC);
        let mut foo = connect_user(&broker, Version::V5, "foo");
        foo.subscribe("Topic", 2);
        let mut bar = connect_user(&broker, version, "bar");
        bar.send(publish("Topic", "x").qos(2).packet_id(5));
        bar.expect(pubrec(5));
        change(&broker, "user foo\ntopic read Topic\n");
        bar.send(pubrel(5));
        bar.expect(pubcomp(5));
        foo.fence();
    }
}

/// A subscription survived the right that it was made with: what waits for a client is not sent if it may no longer read
/// it.
#[test]
fn cve_2021_34434_queued_messages() {
    let both = "user foo\ntopic read Topic\ntopic read Kept\nuser baz\ntopic readwrite #\n";
    let broker = start(both);
    let mut foo = connect_persistent(&broker, "foo");
    foo.subscribe("#", 2);
    foo.leave();
    let mut baz = connect_user(&broker, Version::V5, "baz");
    for qos in [1, 2] {
        for topic in ["Topic", "Kept"] {
            baz.publish(&publish(topic, "x").qos(qos).packet_id(1));
        }
    }
    change(
        &broker,
        "user foo\ntopic read Kept\nuser baz\ntopic readwrite #\n",
    );
    let mut foo = connect_persistent(&broker, "foo");
    let received = [1, 2].map(|_| foo.receive_any());
    assert!(
        received.iter().all(|message| message.topic == "Kept"),
        "{received:?}"
    );
    // Those that were dropped do not fill the window.
    for _ in 0..30 {
        baz.publish(&publish("Kept", "new").qos(1).packet_id(1));
        assert_eq!(foo.receive_any().payload, b"new");
    }
}

/// The same for messages under way that are not acknowledged yet: they are not sent again.
#[test]
fn cve_2021_34434_messages_in_flight() {
    let both = "user foo\ntopic read Topic\ntopic read Kept\nuser baz\ntopic readwrite #\n";
    let broker = start(both);
    let mut foo = connect_persistent(&broker, "foo");
    foo.subscribe("#", 1);
    let mut baz = connect_user(&broker, Version::V5, "baz");
    for (topic, id) in [("Topic", 1), ("Kept", 2)] {
        let message = publish(topic, "x").qos(1).packet_id(id);
        baz.publish(&message);
        foo.expect(&message);
    }
    foo.leave();
    change(
        &broker,
        "user foo\ntopic read Kept\nuser baz\ntopic readwrite #\n",
    );
    let mut foo = connect_persistent(&broker, "foo");
    foo.receive(&publish("Kept", "x").qos(1).packet_id(2).dup());
    foo.fence();
}

/// Whoever resumes a session has their own rights there, not those of who left it: for what waits, for what is under way,
/// and for what is to be released.
#[test]
fn august_2021_a_session_resumed_by_another_user() {
    let broker = start(
        "topic readwrite Topic\nuser foo\ntopic readwrite Own\nuser baz\ntopic readwrite #\n",
    );
    let mut baz = connect_user(&broker, Version::V5, "baz");
    let mut watcher = broker.connect_with(Version::V5, user("watcher", "baz"));
    watcher.subscribe("Topic", 0);
    let mut nobody = broker.connect_with(Version::V5, connect("session").persistent());
    nobody.subscribe("#", 2);
    for (qos, id) in [(1, 1), (2, 2)] {
        let message = publish("Topic", "under way").qos(qos).packet_id(id);
        baz.publish(&message);
        nobody.expect(&message);
        watcher.expect(publish("Topic", "under way"));
    }
    nobody.send(publish("Topic", "not released").qos(2).packet_id(9));
    nobody.expect(pubrec(9));
    nobody.leave();
    baz.publish(&publish("Topic", "waits").qos(1).packet_id(1));
    watcher.expect(publish("Topic", "waits"));

    let mut foo = broker.connect_with(Version::V5, user("session", "foo").persistent());
    assert!(foo.connack.session_present);
    foo.fence();
    foo.send(pubrel(9));
    foo.expect(pubcomp(9));
    watcher.fence();
    baz.publish(&publish("Own", "x"));
    foo.expect(publish("Own", "x"));
}

/// What the broker says of itself is for those whom a rule with `$SYS` lets read it, once there are rules.
#[test]
fn sys_needs_a_rule() {
    let acl = "topic readwrite #\nuser foo\ntopic read $SYS/#\n";
    let broker = start_with(acl, &["sys_interval 1"]);
    let mut nobody = broker.connect_v5("nobody");
    let mut foo = connect_user(&broker, Version::V5, "foo");
    for client in [&mut nobody, &mut foo] {
        client.send(subscribe(1).filter("$SYS/broker/uptime", 0));
        client.expect(suback(1, &[0]));
    }
    // The one that is retained, and one as it is told.
    assert_eq!(foo.expect_publish().topic, "$SYS/broker/uptime");
    assert_eq!(foo.expect_publish().topic, "$SYS/broker/uptime");
    nobody.fence();
}

/// No rule lets a client speak for the broker, and neither does their absence; only bridges tell of their state.
#[test]
fn writing_to_sys_and_control() {
    let all = "topic readwrite #\ntopic readwrite $SYS/#\ntopic readwrite $CONTROL/#\ntopic readwrite $else/#\n";
    for broker in [start(all), Broker::start(&[])] {
        let mut client = broker.connect_v5("client");
        let table = [
            ("$SYS", false),
            ("$SYS/", false),
            ("$SYS/broker/version", false),
            ("$SYS/broker/connection", false),
            ("$SYS/broker/connection/state", false),
            ("$SYS/broker/connection/a/b/state", false),
            ("$SYS/broker/connection/a/state", true),
            ("$CONTROL/broker/v1", false),
            ("$CONTROL/dynamic-security/v1", false),
            ("$else/a", true),
        ];
        for (topic, expected) in table {
            assert_eq!(may_write(&mut client, topic), expected, "{topic}");
        }
    }
}

/// Topics that start with `$` and are not the broker's ended it.
#[test]
fn cve_2018_12543_dollar_topics() {
    let broker = start_credulous("topic readwrite #\n");
    let mut client = broker.connect_v5("client");
    for topic in [
        "$",
        "$/",
        "$a",
        "$SY",
        "$share",
        "$share/a",
        "$CONTROL",
        "$CONTROLS/a",
        "$SYSTEM/a",
    ] {
        // `#` does not cover them.
        assert!(!may_write(&mut client, topic), "{topic}");
    }
}

/// A broker that puts `home/` before the topics of one listener, and `work/` before those of another; their addresses,
/// and that of the one without.
fn mounted(lines: &[&str], files: &[(&str, &str)]) -> (Broker, [SocketAddr; 3]) {
    let (home, work) = (free_port(), free_port());
    let listeners = [
        &*format!("listener {home} 127.0.0.1"),
        "mount_point home/",
        &format!("listener {work} 127.0.0.1"),
        "mount_point work/",
        // The listener of the harness is the last: when it is open, so are all.
        "listener {port} 127.0.0.1",
    ];
    let broker = Broker::start_with(&[lines, &listeners].concat(), files);
    let addresses = [local(home), local(work), broker.address()];
    (broker, addresses)
}

/// A mount point is put before what comes in and taken off what goes out; those below another never see it.
#[test]
fn mount_point() {
    for version in Version::ALL {
        let (_broker, [home, work, outside]) = mounted(&[], &[]);
        let mut home = enter(home, version, connect("home"));
        let mut work = enter(work, version, connect("work"));
        let mut outside = enter(outside, version, connect("outside"));
        home.subscribe("#", 1);
        work.subscribe("#", 0);
        outside.subscribe("#", 0);

        home.send(publish("lamp", "on").qos(1).packet_id(7));
        home.receive(&publish("lamp", "on").qos(1).packet_id(1));
        home.expect(puback(7));
        outside.expect(publish("home/lamp", "on"));
        outside.send(publish("home/a/b", "in"));
        outside.expect(publish("home/a/b", "in"));
        home.expect(publish("a/b", "in"));
        // What would have no name below the mount point is not theirs.
        for topic in ["lamp", "home", "/home/lamp", "homes/lamp"] {
            outside.send(publish(topic, "x"));
            outside.expect(publish(topic, "x"));
        }
        home.fence();
        work.fence();
    }
}

/// Wills and retained messages are below the mount point, too.
#[test]
fn mount_point_of_wills_and_retained_messages() {
    for version in Version::ALL {
        let (_broker, [home, work, outside]) = mounted(&[], &[]);
        hang_up(enter(
            home,
            version,
            connect("gone").will(will("will", "x").retain()),
        ));
        enter(home, version, connect("home")).publish(&publish("lamp", "x").retain());
        let seen = |address, expected: &[&str]| {
            let mut client = enter(address, version, connect("late"));
            client.subscribe("+/#", 0);
            let mut topics: Vec<String> = expected
                .iter()
                .map(|_| client.expect_publish().topic)
                .collect();
            topics.sort();
            assert_eq!(topics, expected);
            client.fence();
            client.leave();
        };
        seen(home, &["lamp", "will"]);
        seen(outside, &["home/lamp", "home/will"]);
        seen(work, &[]);
        // An empty message clears the topic that it would be delivered to.
        enter(home, version, connect("home")).publish(&publish("lamp", "").retain());
        seen(outside, &["home/will"]);
    }
}

/// A shared group is one of those who mean the same topics, whatever they call them.
#[test]
fn mount_point_of_shared_subscriptions() {
    let (_broker, [home, work, outside]) = mounted(&[], &[]);
    let mut home = enter(home, Version::V5, connect("home"));
    let mut work = enter(work, Version::V5, connect("work"));
    let mut outside = enter(outside, Version::V5, connect("outside"));
    let mut publisher = enter(_broker.address(), Version::V5, connect("publisher"));
    home.subscribe("$share/group/lamp", 0);
    work.subscribe("$share/group/lamp", 0);
    outside.subscribe("$share/group/home/lamp", 0);
    for _ in 0..2 {
        publisher.publish(&publish("home/lamp", "1"));
        publisher.publish(&publish("home/lamp", "2"));
        home.expect(publish("lamp", "1"));
        outside.expect(publish("home/lamp", "2"));
    }
    for client in [&mut home, &mut work, &mut outside] {
        client.fence();
    }
}

/// Topic Aliases stand for topics as the client knows them.
#[test]
fn mount_point_of_topic_aliases() {
    let (_broker, [home, _, outside]) = mounted(&[], &[]);
    let mut home = enter(
        home,
        Version::V5,
        connect("home").with(topic_alias_maximum(5)),
    );
    let mut outside = enter(outside, Version::V5, connect("outside"));
    home.subscribe("#", NO_LOCAL);
    outside.subscribe("#", NO_LOCAL);
    for topic in ["lamp", ""] {
        home.send(publish(topic, "x").with(topic_alias(3)));
        outside.expect(publish("home/lamp", "x"));
        outside.send(publish("home/lamp", "y"));
        home.expect(publish(topic, "y").with(topic_alias(1)));
    }
}

/// UNSUBSCRIBE names what SUBSCRIBE named.
#[test]
fn mount_point_of_unsubscribe() {
    let (_broker, [home, _, outside]) = mounted(&[], &[]);
    let mut home = enter(home, Version::V5, connect("home"));
    let mut outside = enter(outside, Version::V5, connect("outside"));
    home.subscribe("lamp", 0);
    home.subscribe("$share/group/a/#", 0);
    home.send(unsubscribe(
        2,
        &["home/lamp", "lamp", "lamp", "$share/group/a/#"],
    ));
    home.expect(unsuback(2, &[0x11, 0, 0x11, 0]));
    outside.publish(&publish("home/lamp", "x"));
    outside.publish(&publish("home/a/b", "x"));
    home.fence();
}

/// Rules are about whole topics, with their mount point.
#[test]
fn mount_point_and_rules() {
    let acl = "topic readwrite home/lamp\ntopic read work/lamp\npattern write home/%c\n";
    let (_broker, [home, work, outside]) = mounted(&["acl_file {dir}/acl"], &[("acl", acl)]);
    let mut home = enter(home, Version::V5, connect("home"));
    let mut work = enter(work, Version::V5, connect("work"));
    let mut outside = enter(outside, Version::V5, connect("outside"));
    let table = [
        ("lamp", [true, false, false]),
        ("home/lamp", [false, false, true]),
        ("work/lamp", [false, false, false]),
        ("home", [true, false, false]),
        ("home/outside", [false, false, true]),
    ];
    for (topic, expected) in table {
        let clients = [&mut home, &mut work, &mut outside];
        assert_eq!(
            clients.map(|client| may_write(client, topic)),
            expected,
            "{topic}"
        );
    }
    home.subscribe("#", 0);
    assert!(may_write(&mut outside, "home/lamp"));
    home.expect(publish("lamp", "x"));
    assert!(may_write(&mut outside, "home/outside"));
    home.fence();
}

/// What the broker says of itself is below no mount point.
#[test]
fn mount_point_and_sys() {
    let (_broker, [home, _, outside]) = mounted(&[], &[]);
    let mut home = enter(home, Version::V5, connect("home"));
    let mut outside = enter(outside, Version::V5, connect("outside"));
    home.subscribe("$SYS/#", 0);
    outside.subscribe("$SYS/broker/version", 0);
    outside.expect_publish();
    home.fence();
}

/// A session that is resumed through another listener has topics that cannot be said there: they are passed over.
#[test]
fn mount_point_of_a_session_that_moves() {
    let (broker, [home, _, outside]) = mounted(&[], &[]);
    let mut publisher = broker.connect_v5("publisher");
    let mut client = enter(outside, Version::V5, connect("client").persistent());
    client.subscribe("#", 1);
    client.leave();
    for topic in ["elsewhere", "home/lamp"] {
        publisher.publish(&publish(topic, "x").qos(1).packet_id(1));
    }
    let mut client = enter(home, Version::V5, connect("client").persistent());
    assert!(client.connack.session_present);
    assert_eq!(client.receive_any().topic, "lamp");
    client.fence();
    client.leave();
    publisher.publish(&publish("home/lamp", "x").qos(1).packet_id(1));
    let mut client = enter(outside, Version::V5, connect("client").persistent());
    assert_eq!(client.receive_any().topic, "home/lamp");
    client.fence();
}
