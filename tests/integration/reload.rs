//! SIGHUP: other settings and other rights, while everybody stays connected who may.

use std::fs;
use std::net::TcpStream;
use std::time::Instant;

use rustix::process::Signal;

use crate::accounts::{PASSWORDS, SLOWER_HASH, answer, enter, local, start_with_users, user};
use crate::harness::*;

/// foo may read `Topic`, bar may write it, and baz may do everything.
const RULES: &str = concat!(
    "user foo\ntopic read Topic\n",
    "user bar\ntopic write Topic\n",
    "user baz\ntopic readwrite #\n",
);

/// What a broker is told that has rules, and passwords for foo, bar and baz.
const RULED: [&str; 3] = [
    "allow_anonymous false",
    "password_file {dir}/passwords",
    "acl_file {dir}/acl",
];

/// `foo`, as the password `other` makes it.
const OTHER_PASSWORD: &str = concat!(
    "foo:$7$101$YW5vdGhlciBzYWx0$h7uXx5b4OXjYuG6zvMGTgq3sz66lbkMsUEPjyxjBRnvav4DzQ7qFvQnooHU4xCmi7GiBXZ23xUdRSE3zuOn",
    "bew==\n",
);

/// A broker with [`RULES`] and passwords.
fn start_ruled() -> Broker {
    let files = [("passwords", PASSWORDS), ("acl", RULES)];
    Broker::start_with(&RULED, &files)
}

/// The line of `name` in the password file.
fn password_line(name: &str) -> String {
    let line = PASSWORDS
        .lines()
        .find(|line| line.starts_with(&format!("{name}:")));
    format!("{}\n", line.expect("it has one"))
}

/// The user of this name, with the name as its Client Identifier.
#[track_caller]
fn connect_user(broker: &Broker, version: Version, name: &str) -> Raw {
    broker.connect_with(version, user(name, name))
}

/// The client's connection is ended since it may not be here any more.
#[track_caller]
fn expect_expelled(client: &mut Raw) {
    if client.version() == Version::V5 {
        client.expect(disconnect().reason(0x98));
    }
    client.expect_closed();
}

/// A message from `writer` to `reader`, who has subscribed, at QoS 1.
#[track_caller]
fn pass(writer: &mut Raw, reader: &mut Raw, topic: &str) {
    writer.publish(&publish(topic, "x").qos(1).packet_id(1));
    assert_eq!(reader.receive_any().topic, topic);
}

/// Asserts that the broker does what [`RULED`] and [`RULES`] say, with foo
/// and bar, who came before, and ones that come now.
#[track_caller]
fn expect_ruled(broker: &Broker, reader: &mut Raw, writer: &mut Raw) {
    pass(writer, reader, "Topic");
    writer.send(publish("Other", "x").qos(1).packet_id(1));
    writer.expect(puback(1).reason(0x87));
    reader.fence();
    let wrong = user("client", "foo").password("other");
    for packet in [connect("client"), user("client", "unknown"), wrong] {
        assert_eq!(answer(broker.address(), Version::V5, &packet), 0x87);
    }
    assert_eq!(
        answer(broker.address(), Version::V5, &user("client", "foo")),
        0
    );
}

/// Rules are in force at once for those who are connected: for what they are sent and for what they send.
#[test]
fn cve_2021_34434_rules_hold_at_once() {
    for version in Version::ALL {
        let broker = start_ruled();
        let mut foo = connect_user(&broker, version, "foo");
        let mut bar = connect_user(&broker, Version::V5, "bar");
        foo.subscribe("#", 1);
        expect_ruled(&broker, &mut foo, &mut bar);
        broker.write("acl", "user baz\ntopic readwrite #\n");
        broker.reload();
        bar.send(publish("Topic", "x").qos(1).packet_id(1));
        bar.expect(puback(1).reason(0x87));
        let mut baz = connect_user(&broker, Version::V5, "baz");
        baz.publish(&publish("Topic", "x").qos(1).packet_id(1));
        foo.fence();
        // The subscription itself was never forbidden: with the right, messages come back.
        broker.write("acl", RULES);
        broker.reload();
        expect_ruled(&broker, &mut foo, &mut bar);
    }
}

/// Where `subscribe` rules forbid a subscription that there is, it ends, also of those who are away.
#[test]
fn cve_2021_34434_forbidden_subscriptions_end() {
    const ALLOWING: &str = "topic readwrite #\ntopic subscribe a/#\ntopic subscribe b\n";
    let lines = ["allow_anonymous true", "acl_file {dir}/acl"];
    let broker = Broker::start_with(&lines, &[("acl", ALLOWING)]);
    let mut here = broker.connect_with(Version::V5, connect("here").persistent());
    let mut away = broker.connect_with(Version::V5, connect("away").persistent());
    for client in [&mut here, &mut away] {
        for filter in ["a/#", "b", "$share/group/a/+"] {
            client.subscribe(filter, 1);
        }
    }
    away.leave();
    for rules in ["topic readwrite #\ntopic subscribe b\n", ALLOWING] {
        broker.write("acl", rules);
        broker.reload();
        let mut publisher = broker.connect_v5("publisher");
        publisher.publish(&publish("a/b", "x").qos(1).packet_id(1));
        pass(&mut publisher, &mut here, "b");
        here.fence();
    }
    let mut away = broker.connect_with(Version::V5, connect("away").persistent());
    assert_eq!(
        [away.receive_any().topic, away.receive_any().topic],
        ["b", "b"]
    );
    away.fence();
}

/// A user who is removed, and one whose password is changed, are told and disconnected; the others notice nothing.
#[test]
fn removed_users_and_changed_passwords() {
    for version in Version::ALL {
        let broker = start_ruled();
        let mut foo = connect_user(&broker, version, "foo");
        let mut bar = connect_user(&broker, version, "bar");
        let mut baz = connect_user(&broker, version, "baz");
        broker.write(
            "passwords",
            &format!("{OTHER_PASSWORD}{}", password_line("baz")),
        );
        broker.reload();
        expect_expelled(&mut foo);
        expect_expelled(&mut bar);
        baz.fence();
        broker.wait_for_log_times("disconnected: administrative action.", 2);
        // That they were let in once helps nobody.
        let refused = if version == Version::V5 { 0x87 } else { 5 };
        for name in ["foo", "bar"] {
            assert_eq!(
                answer(broker.address(), version, &user(name, name)),
                refused,
                "{name}"
            );
        }
        let packet = user("foo", "foo").password("other");
        broker.connect_with(version, packet).fence();
        baz.fence();
    }
}

/// The will of a client that is disconnected so is published, if it still may be.
#[test]
fn wills_of_removed_users() {
    let broker = start_ruled();
    let mut baz = connect_user(&broker, Version::V5, "baz");
    baz.subscribe("#", 0);
    let mut users = ["foo", "bar"].map(|name| {
        let packet = user(name, name).will(will("Topic", name));
        broker.connect_with(Version::V5, packet)
    });
    broker.write("passwords", &password_line("baz"));
    broker.reload();
    users.iter_mut().for_each(expect_expelled);
    baz.expect(publish("Topic", "bar"));
    baz.fence();
}

/// Anonymous clients go when they may not be there any more, and so do those whose name nobody asked them to prove.
#[test]
fn anonymous_no_longer() {
    let with_file = ["allow_anonymous true", "password_file {dir}/passwords"];
    let broker = Broker::start_with(&["allow_anonymous true"], &[("passwords", PASSWORDS)]);
    let mut nobody = broker.connect_v5("nobody");
    let mut unproven = broker.connect_with(Version::V5, user("unproven", "foo"));
    broker.configure(&with_file);
    broker.reload();
    expect_expelled(&mut unproven);
    nobody.fence();
    let mut foo = connect_user(&broker, Version::V5, "foo");
    broker.configure(&[with_file[1], "allow_anonymous false"]);
    broker.reload();
    expect_expelled(&mut nobody);
    foo.fence();
    assert_eq!(
        answer(broker.address(), Version::V5, &connect("nobody")),
        0x87
    );
    // Without passwords, foo's name is no longer proven, and nobody may be here who is not.
    broker.configure(&["allow_anonymous false"]);
    broker.reload();
    expect_expelled(&mut foo);
}

/// A password that is changed while it is compared lets nobody in, or not for long.
#[test]
fn a_password_changed_while_it_is_compared() {
    let broker = start_with_users(1, SLOWER_HASH);
    // Those before it in line take long enough for the reload.
    let _before: Vec<Raw> = (0..40)
        .map(|_| {
            let mut client = broker.open(Version::V5);
            client.send(user("", "unknown"));
            client
        })
        .collect();
    let mut client = broker.open(Version::V5);
    client.send(connect("client").username("user0").password("foo"));
    broker.write("passwords", &OTHER_PASSWORD.replace("foo:", "user0:"));
    broker.reload();
    assert!(
        client.drain_until_closed().is_some(),
        "the client is still there"
    );
}

/// Clients that may stay stay on the same connection, and miss no message, however often the broker reloads.
#[test]
fn no_message_is_lost_while_reloading() {
    const RELOADS: usize = 20;
    const BATCH: u16 = 10;
    let broker = start_ruled();
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let mut bar = connect_user(&broker, Version::V311, "bar");
    foo.subscribe("Topic", 1);
    let mut number = 0;
    for round in 1..=RELOADS {
        // Something is new each time: rules, passwords or settings.
        match round % 3 {
            0 => broker.write(
                "acl",
                &format!("{RULES}user new{round}\ntopic readwrite #\n"),
            ),
            1 => broker.write("passwords", &format!("{PASSWORDS}# {round}\n")),
            _ => broker.configure(&[&RULED[..], &[&format!("max_keepalive {round}")]].concat()),
        }
        broker.signal(Signal::HUP);
        while broker.count_log("Config reloaded.") < round {
            for id in 1..=BATCH {
                let payload = format!("{}", number + usize::from(id));
                bar.send(publish("Topic", payload).qos(1).packet_id(id));
            }
            for id in 1..=BATCH {
                number += 1;
                bar.expect(puback(id));
                let received = foo.receive_any();
                assert_eq!(received.payload, number.to_string().into_bytes());
            }
        }
    }
    foo.fence();
    bar.fence();
}

/// What is wrong with a file is said, and everything stays as it was; when it is right again, it counts.
#[test]
fn cve_2017_7652_broken_files_change_nothing() {
    let broken = [
        ("midge.conf", "allow_anonymous perhaps\n"),
        ("midge.conf", "no_such_option true\n"),
        (
            "midge.conf",
            "listener {port} 127.0.0.1\nacl_file {dir}/none\n",
        ),
        (
            "midge.conf",
            "listener {port} 127.0.0.1\npassword_file {dir}/none\n",
        ),
        ("midge.conf", "listener {port} 127.0.0.1\nmax_qos 3\n"),
        ("midge.conf", "\u{0}"),
        ("acl", "user foo\ntopic readwrite #\ntopic\n"),
        ("acl", "topic readwrite #\ntopic maybe a\n"),
        ("acl", "topic readwrite #\nallow everything\n"),
        ("acl", "topic readwrite #\ntopic a/#/b\n"),
        ("passwords", "foo\n"),
        ("passwords", "foo:\n"),
        ("passwords", "foo:$7$101$YW5vdGhlciBzYWx0$\n"),
        ("passwords", "foo:foo\n"),
    ];
    let broker = start_ruled();
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let mut bar = connect_user(&broker, Version::V5, "bar");
    foo.subscribe("#", 1);
    let config = fs::read_to_string(broker.dir().join("midge.conf")).expect("it is there");
    for (name, text) in broken {
        broker.write(name, text);
        // What is right in another file must not count either.
        let other = if name == "acl" { "passwords" } else { "acl" };
        broker.write(
            other,
            if other == "acl" {
                "user bar\ntopic write Other\n"
            } else {
                OTHER_PASSWORD
            },
        );
        let said = broker.reload_refused();
        let named = if text.contains("none") { "none" } else { name };
        assert!(
            said.contains("Error") && said.contains(named),
            "{name} {text:?}: {said}"
        );
        expect_ruled(&broker, &mut foo, &mut bar);
        for (name, text) in [
            ("midge.conf", &*config),
            ("acl", RULES),
            ("passwords", PASSWORDS),
        ] {
            broker.write(name, text);
        }
    }
    broker.write(
        "passwords",
        &format!("{}{}", password_line("foo"), password_line("baz")),
    );
    broker.reload();
    expect_expelled(&mut bar);
    foo.fence();
}

/// A file that is missing or cannot be read changes nothing either.
#[test]
fn cve_2017_7652_unreadable_files_change_nothing() {
    let broker = start_ruled();
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let mut bar = connect_user(&broker, Version::V5, "bar");
    foo.subscribe("#", 1);
    for name in ["midge.conf", "acl", "passwords"] {
        let (path, aside) = (broker.dir().join(name), broker.dir().join("aside"));
        fs::rename(&path, &aside).expect("the directory is ours");
        let said = broker.reload_refused();
        assert!(said.contains(name), "{said}");
        expect_ruled(&broker, &mut foo, &mut bar);
        // Whoever the broker runs as, a directory is no file.
        fs::create_dir(&path).expect("the directory is ours");
        let said = broker.reload_refused();
        assert!(said.contains(name), "{said}");
        expect_ruled(&broker, &mut foo, &mut bar);
        fs::remove_dir(&path).expect("it is empty");
        fs::rename(&aside, &path).expect("the directory is ours");
        broker.reload();
        expect_ruled(&broker, &mut foo, &mut bar);
    }
}

/// A reload for which there were no descriptors left reset all security to the defaults.
#[test]
fn cve_2017_7652_out_of_descriptors() {
    let files = [("passwords", PASSWORDS), ("acl", RULES)];
    let broker = Broker::start_as("ulimit -n 40; exec \"$@\"", &RULED, &files);
    let mut foo = connect_user(&broker, Version::V5, "foo");
    let mut bar = connect_user(&broker, Version::V5, "bar");
    foo.subscribe("#", 1);
    let idle: Vec<Raw> = (0..60).map(|_| broker.open(Version::V5)).collect();
    broker.wait_for_log("Unable to accept new connection");
    broker.write("acl", "topic readwrite #\n");
    let said = broker.reload_refused();
    assert!(said.contains("open"), "{said}");
    pass(&mut bar, &mut foo, "Topic");
    bar.send(publish("Other", "x").qos(1).packet_id(1));
    bar.expect(puback(1).reason(0x87));
    drop(idle);
    expect_ruled(&broker, &mut foo, &mut bar);
    broker.reload();
    bar.send(publish("Topic", "x").qos(1).packet_id(1));
    bar.expect(puback(1).reason(0x87));
}

/// However fast signals come, what the files said at the last one is in force in the end.
#[test]
fn the_last_signal_counts() {
    let broker = start_ruled();
    let mut bar = connect_user(&broker, Version::V5, "bar");
    for number in 0..50 {
        broker.write("acl", &format!("{RULES}# {number}\n"));
        broker.signal(Signal::HUP);
    }
    broker.write("acl", "user baz\ntopic readwrite #\n");
    broker.signal(Signal::HUP);
    let deadline = Instant::now() + DEADLINE;
    loop {
        bar.send(publish("Topic", "x").qos(1).packet_id(1));
        if bar.expect_packet() == puback(1).reason(0x87).encode(Version::V5) {
            break;
        }
        assert!(Instant::now() < deadline, "the last rules are not in force");
    }
    bar.fence();
}

/// `max_packet_size` holds at once, and is told to whoever connects next.
#[test]
fn max_packet_size() {
    let broker = Broker::start(&[]);
    let mut old = broker.connect_v5("old");
    let large = publish("a", [b'x'; 200]).qos(1).packet_id(1);
    old.publish(&large);
    broker.configure(&["max_packet_size 100"]);
    broker.reload();
    let mut new = broker.connect_v5("new");
    assert!(new.connack.properties.contains(&maximum_packet_size(100)));
    for client in [&mut old, &mut new] {
        client.fence();
        client.send(&large);
        client.expect(disconnect().reason(0x95));
        client.expect_closed();
    }
}

/// `message_size_limit` holds at once.
#[test]
fn message_size_limit() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    let message = publish("a", [b'x'; 11]).qos(1).packet_id(1);
    client.publish(&message);
    broker.configure(&["message_size_limit 10"]);
    broker.reload();
    client.send(&message);
    client.expect(puback(1).reason(0x95));
    broker.configure(&[]);
    broker.reload();
    client.publish(&message);
}

/// `max_queued_messages` holds from the next message on.
#[test]
fn max_queued_messages() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.connect_v5("publisher");
    for (limit, kept) in [(2, 2), (4, 4), (0, 6)] {
        broker.configure(&[&format!("max_queued_messages {limit}")]);
        broker.reload();
        let packet = connect("slow").persistent();
        let mut slow = broker.connect_with(Version::V5, packet.clone());
        slow.subscribe("a", 1);
        slow.leave();
        for _ in 0..6 {
            publisher.publish(&publish("a", "x").qos(1).packet_id(1));
        }
        let mut slow = broker.connect_with(Version::V5, packet);
        for _ in 0..kept {
            slow.receive_any();
        }
        slow.fence();
        slow.leave();
    }
}

/// `log_type`: more and less.
#[test]
fn log_type() {
    let broker = Broker::start(&["log_type information"]);
    let pings = || {
        let mut client = broker.connect_v5("client");
        client.fence();
        client.leave();
        // The log is in order: what was to be in it is there when the reload is.
        broker.reload();
        broker.count_log("Received PINGREQ")
    };
    assert_eq!(pings(), 0);
    broker.configure(&["log_type information", "log_type debug"]);
    broker.reload();
    assert_eq!(pings(), 1);
    broker.configure(&["log_type information"]);
    broker.reload();
    assert_eq!(pings(), 1);
}

/// `sys_interval`: $SYS begins and ends.
#[test]
fn sys_interval() {
    let broker = Broker::start(&["sys_interval 0"]);
    let mut client = broker.connect_v5("client");
    client.send(subscribe(1).filter("$SYS/broker/uptime", RETAIN_NEVER));
    client.expect(suback(1, &[0]));
    broker.configure(&["sys_interval 1"]);
    broker.reload();
    for _ in 0..2 {
        assert_eq!(client.expect_publish().topic, "$SYS/broker/uptime");
    }
    broker.configure(&["sys_interval 0"]);
    broker.reload();
    broker.assert_sleeps();
}

/// `max_connections`: who is there stays, whoever comes is counted by the new limit.
#[test]
fn max_connections() {
    let limited = |max: &str| {
        [
            "listener {port} 127.0.0.1".to_owned(),
            format!("max_connections {max}"),
        ]
    };
    let broker = Broker::start(&[]);
    broker.wait_for_log("disconnected: connection closed by client."); // the harness's probe
    let mut clients = vec![broker.connect_v5("first")];
    for (max, comes) in [
        ("1", false),
        ("2", true),
        ("2", false),
        ("1", false),
        ("-1", true),
    ] {
        let lines = limited(max);
        broker.configure(&[&lines[0], &lines[1]]);
        broker.reload();
        let mut next = broker.open(Version::V5);
        next.send(connect(&format!("client{}", clients.len())));
        if comes {
            assert_eq!(next.expect_connack().reason, 0, "max_connections {max}");
            clients.push(next);
        } else {
            next.expect_closed();
        }
        clients.iter_mut().for_each(Raw::fence);
    }
}

/// A listener that is added is opened with the next start: the log says so, and everything else counts.
#[test]
fn an_added_listener_waits_for_a_restart() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect_v5("client");
    let added = free_port();
    let listener = format!("listener {added} 127.0.0.1");
    broker.configure(&[
        "listener {port} 127.0.0.1",
        &listener,
        "max_packet_size 100",
    ]);
    broker.reload();
    expect_restart_warning(&broker, added);
    assert!(TcpStream::connect(local(added)).is_err(), "it is open");
    client.fence();
    let new = broker.connect_v5("new");
    assert!(new.connack.properties.contains(&maximum_packet_size(100)));
}

/// A listener that is removed stays until the next start, with all who are there, under the settings it had.
#[test]
fn a_removed_listener_stays() {
    let removed = free_port();
    let broker = Broker::start(&[
        &format!("listener {removed} 127.0.0.1"),
        "mount_point home/",
        "listener {port} 127.0.0.1",
    ]);
    let mut watcher = broker.connect_v5("watcher");
    watcher.subscribe("home/lamp", 0);
    let mut old = enter(local(removed), Version::V5, connect("old"));
    broker.configure(&[]);
    broker.reload();
    expect_restart_warning(&broker, removed);
    let mut new = enter(local(removed), Version::V5, connect("new"));
    for client in [&mut old, &mut new] {
        client.publish(&publish("lamp", "x"));
        watcher.expect(publish("home/lamp", "x"));
    }
}

/// The log warns that what was changed about the listener on `port` waits for the next start.
#[track_caller]
fn expect_restart_warning(broker: &Broker, port: u16) {
    let log = broker.log_text();
    let is_said = log.lines().any(|line| {
        ["Warning", "restart", &port.to_string()]
            .iter()
            .all(|word| line.contains(word))
    });
    assert!(is_said, "no warning about the listener on {port}:\n{log}");
}
