//! What once went wrong with what a broker keeps: files that everybody could read, messages that were freed while
//! they were written, and rights that a restart gave back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::Signal;

use super::cut;
use crate::accounts::{PASSWORDS, answer, enter, local, user};
use crate::harness::*;

const DURABLE: [&str; 3] = [
    "user root",
    "persistence true",
    "persistence_location {dir}/",
];

/// A broker with passwords and rules that keeps everything, in `dir`, where those files are.
fn start_ruled(dir: &Path, acl: &str, passwords: &str) -> Broker {
    fs::write(dir.join("acl"), acl).expect("the directory is ours");
    fs::write(dir.join("passwords"), passwords).expect("the directory is ours");
    let ruled = [
        "allow_anonymous true",
        "password_file {dir}/passwords",
        "acl_file {dir}/acl",
        "allow_duplicate_messages false",
    ];
    Broker::start_in(dir, &[&DURABLE[..], &ruled].concat(), &[])
}

fn persistent(name: &str) -> Connect {
    user(name, name).persistent()
}

/// The database was readable for everybody: it is for its owner alone, whatever the mask, with the files beside it.
#[test]
fn cve_2017_9868_the_database_is_its_owners() {
    for mask in ["000", "022"] {
        let shell = format!("umask {mask}; exec \"$@\"");
        let broker = Broker::start_as(&shell, &DURABLE, &[]);
        let mut client = broker.connect_with(Version::V5, connect("client").persistent());
        client.subscribe("a", 1);
        let mut publisher = broker.connect_v5("publisher");
        publisher.publish(&publish("a", "secret").qos(1).packet_id(1).retain());
        let mut seen = 0;
        for file in fs::read_dir(broker.dir()).expect("it is ours").flatten() {
            let name = file.file_name().into_string().expect("a plain name");
            if name.starts_with("mosquitto.") {
                let mode = file.metadata().expect("it is there").permissions().mode();
                assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
                seen += 1;
            }
        }
        assert!(seen >= 2, "the database and its log");
    }
}

/// Messages of a session that are taken away while they are on their way to the disk: by expiry, by a clean start, by a
/// take-over, by acknowledgements. Afterwards the database is sound, and the others have theirs.
#[test]
fn mosquitto_3702_messages_that_go_while_they_are_stored() {
    const ROUNDS: u16 = 30;
    let dir = new_dir();
    let broker = Broker::start_in(&dir, &DURABLE, &[]);
    let mut keeper = broker.connect_with(Version::V5, connect("keeper").persistent());
    keeper.subscribe("a/#", 2);
    keeper.leave();
    let mut publisher = broker.connect_v5("publisher");
    for round in 1..=ROUNDS {
        let mut victim = broker.connect_with(Version::V5, connect("victim").persistent());
        // What is left of the round before may come first.
        victim.send(subscribe(1).filter("a/#", 2));
        while victim.expect_packet()[0] != 0x90 {}
        for qos in [1, 2] {
            let message = publish(&format!("a/{round}"), "x").qos(qos);
            let message = message.packet_id(round * 2 + u16::from(qos));
            publisher.send(message.clone().retain());
            publisher.send(message.with(message_expiry_interval(1)));
            if qos == 2 {
                publisher.send(pubrel(round * 2 + 2));
            }
        }
        match round % 4 {
            0 => victim.send(disconnect().with(session_expiry_interval(0))),
            1 => broker.connect_v5("victim").send(disconnect()),
            2 => {
                let message = victim.expect_publish();
                victim.send(if message.qos == 1 {
                    puback(message.packet_id)
                } else {
                    pubrec(message.packet_id)
                });
                drop(victim);
            }
            _ => {
                let again = connect("victim").persistent();
                broker
                    .connect_with(Version::V5, again)
                    .send(unsubscribe(9, &["a/#"]));
            }
        }
        while let Ok(Some(_)) = publisher.poll(std::time::Duration::from_millis(5)) {}
        publisher.send(publish(&format!("a/{round}"), "").retain());
    }
    while let Ok(Some(_)) = publisher.poll(std::time::Duration::from_millis(50)) {}
    publisher.publish(&publish("a/last", "x").qos(1).packet_id(1));
    broker.stop_by(Signal::KILL);
    let broker = Broker::start_in(&dir, &DURABLE, &[]);
    let log = broker.log_text();
    assert!(
        !log.contains("damaged") && !log.contains("do not fit"),
        "{log}"
    );
    let mut keeper = broker.connect_with(Version::V5, connect("keeper").persistent());
    assert!(keeper.connack.session_present);
    while keeper.receive_any().topic != "a/last" {}
    drop(keeper);
    assert!(broker.stop().success());
    let connection = Connection::open(dir.join("mosquitto.midge")).expect("it is there");
    let checked: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it can be asked");
    assert_eq!(checked, "ok");
    drop(connection);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// Rights that are taken away while there is no broker are gone when there is one again: for what waits, what is
/// under way, what is to be released, what is retained, wills and subscriptions.
#[test]
fn cve_2021_34434_rights_that_go_between_two_lives() {
    const BEFORE: &str = concat!(
        "user foo\ntopic readwrite Topic\ntopic readwrite Kept\ntopic subscribe #\n",
        "user bar\ntopic readwrite #\n",
        "user baz\ntopic readwrite #\n",
    );
    const AFTER: &str = concat!(
        "user foo\ntopic read Kept\ntopic subscribe Kept\n",
        "user bar\ntopic read #\n",
        "user baz\ntopic readwrite #\n",
    );
    for by in [Signal::TERM, Signal::KILL] {
        let dir = new_dir();
        let broker = start_ruled(&dir, BEFORE, PASSWORDS);
        let mut baz = broker.connect_with(Version::V5, persistent("baz"));
        baz.subscribe("#", 1);
        baz.leave();
        let mut foo = broker.connect_with(Version::V5, persistent("foo"));
        foo.subscribe("#", 2);
        foo.subscribe("Kept", 2);
        let mut publisher = broker.connect_with(Version::V5, user("publisher", "baz"));
        for (id, topic) in [(1, "Topic"), (2, "Kept")] {
            publisher.publish(&publish(topic, "under way").qos(2).packet_id(id));
            foo.expect_publish();
        }
        foo.send(publish("Topic", "not released").qos(2).packet_id(9));
        foo.expect(pubrec(9));
        foo.leave();
        for (id, topic) in [(3, "Topic"), (4, "Kept")] {
            publisher.publish(&publish(topic, "waits").qos(1).packet_id(id));
        }
        // bar's retained message and delayed will.
        let will = will("wills", "bar").qos(1).with(will_delay_interval(600));
        let mut bar = broker.connect_with(Version::V5, persistent("bar").will(will));
        bar.publish(&publish("retained", "bar's").qos(1).packet_id(1).retain());
        cut(bar);
        publisher.publish(
            &publish("retained/by/baz", "baz's")
                .qos(1)
                .packet_id(5)
                .retain(),
        );
        broker.stop_by(by);

        let broker = start_ruled(&dir, AFTER, PASSWORDS);
        let mut foo = broker.connect_with(Version::V5, persistent("foo"));
        assert!(foo.connack.session_present);
        for payload in [&b"under way"[..], b"waits"] {
            let message = foo.receive_any();
            assert_eq!((&*message.topic, &*message.payload), ("Kept", payload));
        }
        foo.send(pubrel(9));
        let release = foo.expect_packet(); // of what it has just received at QoS 2
        assert_eq!(release[0], 0x62);
        foo.expect(pubcomp(9)); // which waits behind it
        foo.fence();
        // The subscription to `#` is gone for good: with the old rights, nothing comes of it.
        let mut watcher = broker.connect_with(Version::V5, user("watcher", "baz"));
        watcher.subscribe("#", 0);
        assert_eq!(watcher.expect_publish().topic, "retained/by/baz");
        watcher.fence();
        // The will's session ends, and with it the wait.
        broker.connect_with(Version::V5, user("bar", "bar")).leave();
        watcher.fence();
        drop((foo, watcher));
        assert!(broker.stop().success());
        fs::remove_dir_all(dir).expect("it is ours");
    }
}

/// A session that was stored is its owner's after a restart, too: nobody else resumes it, and nobody else's clean
/// start ends it.
#[test]
fn mosquitto_3551_a_stored_session_is_its_owners() {
    const ALL: &str =
        "topic readwrite #\nuser foo\ntopic readwrite #\nuser bar\ntopic readwrite #\n";
    for by in [Signal::TERM, Signal::KILL] {
        let dir = new_dir();
        let broker = start_ruled(&dir, ALL, PASSWORDS);
        let packet = user("shared", "foo").persistent();
        let mut owner = broker.connect_with(Version::V5, packet.clone());
        owner.subscribe("a", 1);
        owner.leave();
        let mut publisher = broker.connect_v5("publisher");
        publisher.publish(&publish("a", "for foo").qos(1).packet_id(1));
        broker.stop_by(by);
        let broker = start_ruled(&dir, ALL, PASSWORDS);
        for version in Version::ALL {
            for intruder in [connect("shared"), user("shared", "bar")] {
                for packet in [intruder.clone(), intruder.persistent()] {
                    let reason = answer(broker.address(), version, &packet);
                    assert_ne!(reason, 0, "{packet:?}");
                }
            }
        }
        let mut owner = broker.connect_with(Version::V5, packet);
        assert!(owner.connack.session_present);
        owner.receive(&publish("a", "for foo").qos(1).packet_id(1));
        owner.leave();
        broker.stop_by(by);
        // Once foo is no more, whoever comes begins anew.
        let (_, others) = PASSWORDS.split_once("bar:").expect("it is there");
        let broker = start_ruled(&dir, ALL, &format!("bar:{others}"));
        let bar = broker.connect_with(Version::V5, user("shared", "bar").persistent());
        assert!(!bar.connack.session_present);
        drop(bar);
        assert!(broker.stop().success());
        fs::remove_dir_all(dir).expect("it is ours");
    }
}

/// A will that waits and a retained message are not put under the rules of another listener by a restart in which
/// their own is no more; and the messages of who came through it wait on.
#[test]
fn cve_2021_34434_rights_of_a_listener_that_is_no_more() {
    let dir = new_dir();
    for (name, acl) in [
        ("wide", "topic readwrite #\n"),
        ("narrow", "topic readwrite a\n"),
    ] {
        fs::write(dir.join(name), acl).expect("the directory is ours");
    }
    let start = |narrow: u16| {
        let listener = format!("listener {narrow} 127.0.0.1");
        let lines = [
            "per_listener_settings true",
            "listener {port} 127.0.0.1",
            "allow_anonymous true",
            "acl_file {dir}/wide",
            &listener,
            "allow_anonymous true",
            "acl_file {dir}/narrow",
        ];
        Broker::start_in(&dir, &[&DURABLE[..], &lines].concat(), &[])
    };
    let (former, later) = (free_port(), free_port());
    let broker = start(former);
    let packet = connect("client").persistent();
    let will = |delay| will("b", "will").with(will_delay_interval(delay));
    let mut client = enter(local(former), Version::V5, packet.clone().will(will(600)));
    client.subscribe("#", 1);
    cut(client);
    broker.stop_by(Signal::KILL);
    let broker = start(later);
    let mut watcher = broker.connect_v5("watcher");
    watcher.subscribe("#", 0);
    let mut publisher = broker.connect_v5("publisher");
    publisher.publish(&publish("a", "waits").qos(1).packet_id(1));
    publisher.publish(&publish("b", "does not").qos(1).packet_id(2));
    watcher.expect(publish("a", "waits"));
    watcher.expect(publish("b", "does not"));
    // Its session ends, or goes on without the will: in neither case is it said.
    let mut client = enter(local(later), Version::V5, packet.clone());
    assert!(client.connack.session_present);
    assert_eq!(client.receive_any().payload, b"waits");
    client.fence();
    drop(client);
    let client = enter(local(later), Version::V5, packet.clone().will(will(600)));
    cut(client);
    broker.stop_by(Signal::KILL);
    let broker = start(former);
    let mut watcher = broker.connect_v5("watcher");
    watcher.subscribe("#", 0);
    enter(local(former), Version::V5, connect("client")).leave();
    watcher.fence();
    drop(watcher);
    assert!(broker.stop().success());
    fs::remove_dir_all(dir).expect("it is ours");
}
