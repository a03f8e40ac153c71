//! The database between two lives of a broker: what comes back, also of a damaged one, and what ends a start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use midge::broker::journal::{
    Batch, DeliveryRecord, MessageRecord, Owner, ReceivedRecord, SessionRecord, Source,
    SubscriptionRecord, WillRecord,
};
use midge::config::Sync;
use midge::mqtt::QoS;
use midge::persistence;
use rusqlite::Connection;
use rustix::process::Signal;

use super::disk::{Disk, Event};
use super::harness::*;

/// A broker that keeps what it acknowledged; where tests run as root, it stays root, whose directory it is.
const DURABLE: [&str; 4] = [
    "user root",
    "persistence true",
    "persistence_location {dir}/",
    "max_inflight_messages 2",
];

fn database(dir: &Path) -> PathBuf {
    dir.join("mosquitto.midge")
}

fn start(dir: &Path) -> Broker {
    Broker::start_in(dir, &DURABLE, &[])
}

/// Ends a broker, as an operator does or as a crash does.
fn end(broker: Broker, by: Signal) {
    if by == Signal::TERM {
        broker.signal(by);
        broker.wait_for_log("Everything is saved in ");
    }
    broker.stop_by(by);
}

fn lasting(client_id: &str) -> Connect {
    connect(client_id).persistent()
}

fn resumed(broker: &Broker, version: Version, client_id: &str) -> Raw {
    let mut client = broker.open(version);
    client.send(lasting(client_id).clean(false));
    assert!(client.expect_connack().session_present, "{client_id}");
    client
}

/// `midge db` with these arguments.
fn db(arguments: &[&str]) -> Output {
    let output = Command::new(program()).arg("db").args(arguments).output();
    output.expect("it is our own program")
}

fn lines_of_db(arguments: &[&str]) -> Vec<String> {
    let output = db(arguments);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

/// Runs a broker that cannot start: what it says.
fn refused(dir: &Path, lines: &[&str], environment: &[(String, String)]) -> String {
    let port = free_port();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| line.replace("{dir}", &dir.display().to_string()))
        .collect();
    let text = format!("listener {port} 127.0.0.1\n{}\n", lines.join("\n"));
    let config = dir.join("refused.conf");
    fs::write(&config, text).expect("written");
    let output = Command::new(program())
        .arg("-c")
        .arg(&config)
        .envs(environment.iter().cloned())
        .output()
        .expect("it is our own program");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

/// [MQTT-4.1.0-1] Everything that a session has comes back, however the broker ended: subscriptions with options and
/// identifiers, what waited and what was under way, in order, with Packet Identifiers and DUP [MQTT-4.4.0-1].
#[test]
fn mqtt_4_4_0_1_everything_of_a_session() {
    for by in [Signal::TERM, Signal::KILL] {
        for version in [Version::V311, Version::V5] {
            let dir = new_dir();
            let broker = start(&dir);
            let mut client = broker.connect_with(version, lasting("client"));
            client.subscribe("a/+", 2);
            let mut shared = broker.connect_with(Version::V5, lasting("shared"));
            shared.send(
                subscribe(1)
                    .with(subscription_identifier(7))
                    .filter("$share/g/s", 1),
            );
            shared.expect(suback(1, &[1]));
            shared.leave();
            let mut other = broker.connect_v5("other");
            for (number, qos) in [(1, 2), (2, 2), (3, 1), (4, 2)] {
                let message = publish("a/b", format!("{number}"))
                    .qos(qos)
                    .packet_id(number);
                other.publish(&message);
            }
            other.publish(&publish("s", "shared").qos(1).packet_id(9));
            // Two are under way: PUBREC comes for the first of them, and neither is finished.
            client.expect(publish("a/b", "1").qos(2).packet_id(1));
            client.expect(publish("a/b", "2").qos(2).packet_id(2));
            client.send(pubrec(1));
            client.expect(pubrel(1));
            // One of the client's own is not released.
            client.send(publish("a/own", "mine").qos(2).packet_id(5));
            client.expect(pubrec(5));
            end(broker, by);

            let broker = start(&dir);
            let mut client = resumed(&broker, version, "client");
            client.expect(pubrel(1));
            client.expect(publish("a/b", "2").qos(2).packet_id(2).dup());
            client.send(publish("a/own", "mine").qos(2).packet_id(5).dup());
            client.expect(pubrec(5));
            client.send(pubcomp(1));
            client.expect(publish("a/b", "3").qos(1).packet_id(3));
            client.send(puback(3));
            client.expect(publish("a/b", "4").qos(2).packet_id(4));
            for packet_id in [2, 4] {
                client.send(pubrec(packet_id));
                client.expect(pubrel(packet_id));
                client.send(pubcomp(packet_id));
            }
            client.send(pubrel(5));
            let mut got = [client.expect_packet(), client.expect_packet()];
            got.sort();
            assert_eq!((got[0][0] >> 4, got[1][0] >> 4), (3, 7), "{version:?}");
            client.send(pubrec(5));
            client.expect(pubrel(5));
            client.send(pubcomp(5));
            client.fence();
            let mut shared = resumed(&broker, Version::V5, "shared");
            let expected = publish("s", "shared").qos(1).packet_id(1);
            shared.expect(expected.with(subscription_identifier(7)));
            end(broker, by);
            fs::remove_dir_all(dir).expect("it is ours");
        }
    }
}

/// Clocks run on while there is no broker: a session that expires meanwhile is gone and its will is said, a message that
/// expires is not sent [MQTT-4.1.0-2], [MQTT-3.3.2-5], [MQTT-3.1.3-9].
#[test]
fn mqtt_4_1_0_2_clocks_run_on() {
    let dir = new_dir();
    let broker = start(&dir);
    let mut watcher = broker.connect_with(Version::V5, lasting("watcher"));
    watcher.subscribe("#", 1);
    watcher.leave();
    let will = will("wills/brief", "gone")
        .qos(1)
        .with(will_delay_interval(600));
    let brief = connect("brief").with(session_expiry_interval(1)).will(will);
    let brief = broker.connect_with(Version::V5, brief);
    let will = super::harness::will("wills/long", "late")
        .qos(1)
        .with(will_delay_interval(600));
    let long = connect("long")
        .with(session_expiry_interval(600))
        .will(will);
    let long = broker.connect_with(Version::V5, long);
    let mut other = broker.connect_v5("other");
    let expiring = message_expiry_interval(1);
    other.publish(
        &publish("short", "x")
            .qos(1)
            .packet_id(1)
            .with(expiring.clone()),
    );
    other.publish(&publish("kept", "x").qos(1).packet_id(2).retain());
    other.publish(
        &publish("short/kept", "x")
            .qos(1)
            .packet_id(3)
            .retain()
            .with(expiring),
    );
    other.publish(&publish("cleared", "x").qos(1).packet_id(4).retain());
    other.publish(&publish("cleared", "").qos(1).packet_id(5).retain());
    drop((brief, long));
    broker.wait_for_log_times("connection closed by client", 3);
    other.fence();
    end(broker, Signal::KILL);
    thread::sleep(Duration::from_millis(1100));

    let broker = start(&dir);
    broker.wait_for_log("Expiring client brief due to timeout.");
    let mut watcher = resumed(&broker, Version::V5, "watcher");
    let topics: Vec<String> = (0..4).map(|_| watcher.receive_any().topic).collect();
    assert_eq!(topics, ["kept", "cleared", "cleared", "wills/brief"]);
    watcher.fence();
    let mut late = broker.connect_v5("late");
    late.subscribe("#", 0);
    assert_eq!(late.expect_publish().topic, "kept");
    late.fence();
    resumed(&broker, Version::V5, "long").leave();
    end(broker, Signal::TERM);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// A database with a damaged row does not keep the broker from starting; what is sound is there, and the rest is told.
#[test]
fn damaged_databases_are_salvaged() {
    let whole = new_dir();
    let broker = start(&whole);
    let mut client = broker.connect_with(Version::V5, lasting("client"));
    client.subscribe("queued/#", 1);
    client.leave();
    let mut other = broker.connect_v5("other");
    for number in 1..=200u16 {
        let payload = format!("{number:0>2000}");
        other.publish(&publish("queued/x", payload).qos(1).packet_id(number));
    }
    end(broker, Signal::TERM);
    let sound = fs::read(database(&whole)).expect("it was saved");
    let flipped = {
        let mut bytes = sound.clone();
        let text = format!("{:0>2000}", 17);
        let at = bytes
            .windows(200)
            .position(|window| window == &text.as_bytes()[..200]);
        bytes[at.expect("it is there") + 50] ^= 1;
        bytes
    };
    let mut torn = sound.clone();
    let middle = (torn.len() / 2) & !1023;
    torn[middle..middle + 8192].fill(0xAA);
    for (name, bytes, at_least) in [
        ("a flipped bit", flipped, 150),
        ("garbage in the middle", torn, 50),
        ("cut off", sound[..sound.len() * 3 / 4].to_vec(), 0),
        ("no database", vec![0x5A; 5000], 0),
    ] {
        let dir = new_dir();
        fs::write(database(&dir), &bytes).expect("written");
        let broker = start(&dir);
        let log = broker.log_of_start();
        assert!(log.contains("is damaged"), "{name}: {log}");
        assert!(log.contains("Saved from it: "), "{name}: {log}");
        let aside = fs::read_dir(&dir)
            .expect("it is there")
            .flatten()
            .find(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                name.starts_with("mosquitto.damaged-") && !name.ends_with("-wal")
            });
        let aside = aside.unwrap_or_else(|| panic!("{name}: nothing is put aside"));
        assert!(
            fs::read(aside.path()).expect("readable") == bytes,
            "{name}: as it was found"
        );
        let mut client = broker.open(Version::V5);
        client.send(lasting("client").clean(false));
        let is_there = client.expect_connack().session_present;
        let mut count = 0;
        while is_there && count < at_least {
            assert_eq!(client.receive_any().topic, "queued/x", "{name}");
            count += 1;
        }
        assert!(at_least == 0 || is_there, "{name}");
        drop(client);
        end(broker, Signal::TERM);
        let broker = start(&dir);
        assert!(!broker.log_text().contains("is damaged"), "{name}");
        end(broker, Signal::KILL);
        fs::remove_dir_all(dir).expect("it is ours");
    }
    fs::remove_dir_all(whole).expect("it is ours");
}

/// What cannot be used ends the start with a sentence, and is left as it is.
#[test]
fn databases_that_cannot_be_used() {
    let dir = new_dir();
    let broker = start(&dir);
    let said = refused(&dir, &DURABLE, &[]);
    assert!(said.contains("Another process uses the database"), "{said}");
    broker.connect_v5("still served").fence();
    end(broker, Signal::TERM);
    let path = database(&dir);
    let connection = Connection::open(&path).expect("it is sound");
    connection
        .execute_batch("PRAGMA user_version = 99")
        .expect("changed");
    connection.close().expect("closed");
    let said = refused(&dir, &DURABLE, &[]);
    assert!(said.contains("is of version 99"), "{said}");
    fs::remove_file(&path).expect("it is ours");
    let connection = Connection::open(&path).expect("made");
    connection
        .execute_batch("CREATE TABLE other (x)")
        .expect("made");
    connection.close().expect("closed");
    let said = refused(&dir, &DURABLE, &[]);
    assert!(
        said.contains("is the database of another program"),
        "{said}"
    );
    fs::remove_file(&path).expect("it is ours");
    fs::write(dir.join("mosquitto.db"), "no database").expect("written");
    let said = refused(&dir, &DURABLE, &[]);
    assert!(said.contains("Unable to take over"), "{said}");
    fs::remove_file(dir.join("mosquitto.db")).expect("it is ours");
    let missing = [
        "user root",
        "persistence true",
        "persistence_location {dir}/missing/",
    ];
    let said = refused(&dir, &missing, &[]);
    assert!(
        said.contains("Unable to keep a database in the directory"),
        "{said}"
    );
    let disk = Disk::new(&dir.join("disk"));
    disk.full();
    let on_disk = [
        "user root",
        "persistence true",
        "persistence_location {dir}/disk/",
    ];
    let said = refused(&dir, &on_disk, &disk.environment());
    assert!(said.contains("disk") && said.contains("Error: "), "{said}");
    fs::remove_dir_all(dir).expect("it is ours");
}

/// The environment comes before the file.
#[test]
fn the_location_in_the_environment() {
    let dir = new_dir();
    let elsewhere = dir.join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let name = "MOSQUITTO_PERSISTENCE_LOCATION".to_owned();
    let environment = [(name, elsewhere.display().to_string())];
    let broker = Broker::start_in(&dir, &DURABLE, &environment);
    assert!(database(&elsewhere).exists() && !database(&dir).exists());
    end(broker, Signal::TERM);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// `persistence_commit_interval`: acknowledgements of what is stored wait for it, and nothing else does.
#[test]
fn the_commit_interval() {
    let dir = new_dir();
    let mut lines = DURABLE.to_vec();
    lines.push("persistence_commit_interval 700");
    let broker = Broker::start_in(&dir, &lines, &[]);
    let mut client = broker.connect_with(Version::V5, lasting("client"));
    client.subscribe("t", 1);
    let began = Instant::now();
    for number in 1..=3 {
        client.send(publish("t", "x").qos(1).packet_id(number));
    }
    // What is for the client itself does not wait.
    for number in 1..=2 {
        client.expect(publish("t", "x").qos(1).packet_id(number));
    }
    client.fence();
    for number in 1..=3 {
        client.expect(puback(number));
    }
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    end(broker, Signal::KILL);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// What a broker of Mosquitto left is taken over once.
#[cfg(target_endian = "little")]
#[test]
fn taking_over_from_mosquitto() {
    let dir = new_dir();
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/mosquitto-2.0.11.db");
    let file = dir.join("mosquitto.db");
    fs::copy(&source, &file).expect("copied");
    for life in 0..2 {
        let broker = start(&dir);
        assert_eq!(broker.log_of_start().contains("Taken over from"), life == 0);
        let mut client = broker.open(Version::V311);
        client.send(lasting("old").clean(false));
        assert!(client.expect_connack().session_present);
        assert_eq!(client.expect_publish().topic, "a/b");
        end(broker, Signal::TERM);
    }
    assert_eq!(
        fs::read(&file).expect("there"),
        fs::read(&source).expect("there")
    );
    fs::remove_dir_all(dir).expect("it is ours");
}

/// `midge db` shows what is there, also while a broker uses it, and finds what is not sound.
#[test]
fn looking_into_a_database() {
    let dir = new_dir();
    let broker = start(&dir);
    let mut client = broker.connect_with(Version::V5, lasting("client"));
    client.send(
        subscribe(1)
            .with(subscription_identifier(7))
            .filter("t/#", 2),
    );
    client.expect(suback(1, &[2]));
    let mut other = broker.connect_v5("other");
    other.publish(&publish("t/a", "one").qos(1).packet_id(1));
    other.publish(&publish("t/b", "two").qos(2).packet_id(2).retain());
    other.publish(&publish("t/c", "three").qos(1).packet_id(3));
    client.expect_publish();
    client.expect_publish();
    let path = database(&dir).display().to_string();
    let mut broker = Some(broker);
    for is_running in [true, false] {
        let summary = lines_of_db(&[&path]);
        for line in [
            "sessions\t1",
            "subscriptions\t1",
            "retained messages\t1",
            "messages that wait\t1",
            "messages in flight\t2",
            "messages not released\t0",
        ] {
            assert!(
                summary.iter().any(|it| it == line),
                "{is_running} {line}: {summary:?}"
            );
        }
        let expected = "client\t-\t3600 s after its connection\t1\t1\t2\t0\t-";
        assert_eq!(lines_of_db(&["--sessions", &path]), [expected]);
        assert_eq!(
            lines_of_db(&["--session=client", &path]),
            [
                "subscription\tt/#\t2\t0x02\t7",
                "message\twaits for PUBACK\t1\t1\tt/a\t3\tnever",
                "message\twaits for PUBREC\t2\t2\tt/b\t3\tnever",
                "message\twaits\t0\t1\tt/c\t5\tnever",
            ]
        );
        let expected = "t/b\t2\t3\tother\tnever";
        assert_eq!(lines_of_db(&["--retained", &path]), [expected]);
        assert_eq!(lines_of_db(&["--retained=t/+", &path]), [expected]);
        assert!(lines_of_db(&["--retained=u/+", &path]).is_empty());
        assert_eq!(lines_of_db(&["--check", &path]), ["Everything is sound."]);
        if is_running {
            let config = dir.join("midge.conf").display().to_string();
            assert_eq!(lines_of_db(&["-c", &config]), summary);
            end(broker.take().expect("it runs"), Signal::KILL);
        }
    }
    let connection = Connection::open(&path).expect("it is sound");
    let sql = "UPDATE message SET payload = 'ONE' WHERE topic = 't/a'; DELETE FROM message WHERE topic = 't/c'";
    connection.execute_batch(sql).expect("changed");
    connection.close().expect("closed");
    let output = db(&["--check", &path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).expect("text")
        + &String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("1 rows of the table message"), "{said}");
    assert_eq!(said.matches("which is not there").count(), 2, "{said}");
    for (arguments, code) in [
        (&[][..], 3),
        (&["--nonsense"], 3),
        (&["/missing"], 1),
        (&["--session=nobody", &path], 1),
        (&["--retained=a/#/b", &path], 3),
        (&["--retained", "a/b", &path], 3),
        (&["--sessions", "--check", &path], 3),
        (&["--help"], 0),
    ] {
        assert_eq!(db(arguments).status.code(), Some(code), "{arguments:?}");
    }
    let said = String::from_utf8(db(&["--retained", "a/b", &path]).stderr).expect("text");
    assert!(said.contains("--retained=FILTER"), "{said}");
    fs::remove_dir_all(dir).expect("it is ours");
}

/// What a client chose does not reach a terminal as it is, and a field of a list ends where its tab is.
#[test]
fn looking_at_text_of_clients() {
    let dir = new_dir();
    let broker = start(&dir);
    let mut client = broker.connect_v5("client");
    let topic = "a\u{202e}b\\'c\"\u{2028}d\u{e9}e\u{301}";
    client.publish(&publish(topic, "1").qos(1).packet_id(1).retain());
    let path = database(&dir).display().to_string();
    let expected = "a\\u{202e}b\\\\'c\"\\u{2028}d\u{e9}e\u{301}\t1\t1\tclient\tnever";
    assert_eq!(lines_of_db(&["--retained", &path]), [expected]);
    drop(broker);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// A check finds what refers to nothing and what is there twice, and tells so by its exit code where nobody can read what it
/// says; a database of something else is not looked at.
#[test]
fn a_check_of_what_does_not_fit_together() {
    let dir = new_dir();
    let broker = start(&dir);
    let mut client = broker.connect_v5("client");
    client.publish(&publish("a/b", "1").qos(1).packet_id(1).retain());
    let mut connected = Vec::new();
    for client_id in ["with a will", "another"] {
        let connect = lasting(client_id).will(will("w", "gone"));
        connected.push(broker.connect_with(Version::V5, connect));
    }
    end(broker, Signal::KILL);
    let path = database(&dir).display().to_string();
    assert_eq!(lines_of_db(&["--check", &path]), ["Everything is sound."]);
    let connection = Connection::open(&path).expect("it is sound");
    connection
        .execute_batch("DELETE FROM message WHERE topic = 'w'")
        .expect("changed");
    let output = db(&["--check", &path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        said.contains("the will of client with a will is of message"),
        "{said}"
    );
    for to in ["/dev/full", "/dev/null"] {
        let to = fs::OpenOptions::new().write(true).open(to).expect("there");
        let status = Command::new(program())
            .args(["db", "--check", &path])
            .stdout(to.try_clone().expect("one more"))
            .stderr(to)
            .status();
        assert_eq!(status.expect("it is our own program").code(), Some(1));
    }
    connection
        .execute_batch("PRAGMA user_version = 99")
        .expect("changed");
    let output = db(&[&path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("is of version 99"), "{said}");
    drop(connection);
    let other = dir.join("other");
    let connection = Connection::open(&other).expect("made");
    connection
        .execute_batch("CREATE TABLE other (x)")
        .expect("made");
    drop(connection);
    let output = db(&[&other.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(
        said.contains("is the database of another program"),
        "{said}"
    );
    fs::remove_dir_all(dir).expect("it is ours");
}

/// A damaged database for which there is no room on the disk waits for it where it is: the next start finds it.
#[test]
fn a_damaged_database_on_a_full_disk() {
    let dir = new_dir();
    let broker = start(&dir);
    broker
        .connect_with(Version::V5, lasting("client"))
        .subscribe("t", 1);
    end(broker, Signal::TERM);
    let connection = Connection::open(database(&dir)).expect("it is sound");
    let sql = "INSERT INTO message VALUES (999, 't', NULL, x'00', 1, 0, NULL, 0, NULL, NULL, NULL, NULL, 5)";
    connection.execute(sql, []).expect("changed");
    connection.close().expect("closed");
    let damaged = fs::read(database(&dir)).expect("it is there");
    // Mosquitto's own is not to be taken instead.
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/mosquitto-2.0.11.db");
    fs::copy(source, dir.join("mosquitto.db")).expect("copied");
    let disk = Disk::new(&dir);
    for room in [None, Some(0), Some(2_000), Some(12_000)] {
        match room {
            None => disk.full(),
            Some(room) => {
                disk.heal();
                disk.room(room);
            }
        }
        let said = refused(&dir, &DURABLE, &disk.environment());
        assert!(said.contains("mosquitto.midge"), "{said}");
        assert!(
            said.contains("No space left") || said.contains("disk is full"),
            "{room:?}: {said}"
        );
        assert!(
            fs::read(database(&dir)).expect("there") == damaged,
            "{room:?}: {said}"
        );
    }
    disk.heal();
    let broker = start(&dir);
    assert!(broker.log_of_start().contains("Saved from it: 1 sessions"));
    resumed(&broker, Version::V5, "client").fence();
    end(broker, Signal::TERM);
    fs::remove_dir_all(dir).expect("it is ours");
}

/// Whenever the power fails while a damaged database is salvaged: what could be saved of it is there at the next start.
#[test]
fn a_power_cut_while_a_database_is_salvaged() {
    let dir = new_dir();
    let data = dir.join("data");
    fs::create_dir(&data).expect("made");
    let mut lines = DURABLE.to_vec();
    lines[2] = "persistence_location {dir}/data/";
    let broker = Broker::start_in(&dir, &lines, &[]);
    broker
        .connect_with(Version::V5, lasting("client"))
        .subscribe("t", 1);
    end(broker, Signal::TERM);
    let connection = Connection::open(database(&data)).expect("it is sound");
    let sql = "INSERT INTO message VALUES (999, 't', NULL, x'00', 1, 0, NULL, 0, NULL, NULL, NULL, NULL, 5)";
    connection.execute(sql, []).expect("changed");
    connection.close().expect("closed");
    let disk = Disk::new(&data);
    let broker = Broker::start_in(&dir, &lines, &disk.environment());
    assert!(broker.log_of_start().contains("Saved from it: "));
    end(broker, Signal::KILL);
    let log = disk.log();
    // Names change in few places, and those are the ones.
    let mut places: Vec<usize> = Vec::new();
    for (place, record) in log.records().iter().enumerate() {
        if matches!(record.event, Event::Renamed { .. }) {
            places.extend([place, place + 1, place + 2]);
        }
    }
    places.extend((0..log.records().len()).step_by(40));
    places.sort();
    places.dedup();
    for cut_at in places {
        let dir = new_dir();
        log.power_cut(cut_at, cut_at as u64, &dir.join("data"));
        let broker = Broker::start_in(&dir, &lines, &[]);
        resumed(&broker, Version::V5, "client").fence();
        let log = broker.log_text();
        assert!(!log.contains("Made the database"), "{cut_at}: {log}");
        end(broker, Signal::KILL);
        fs::remove_dir_all(dir).expect("it is ours");
    }
    fs::remove_dir_all(dir).expect("it is ours");
}

/// A sound database is served from a full disk: what is there is passed on, and what would have to be stored is not
/// acknowledged.
#[test]
fn a_start_on_a_full_disk() {
    for by in [Signal::TERM, Signal::KILL] {
        let dir = new_dir();
        let data = dir.join("data");
        fs::create_dir(&data).expect("made");
        let mut lines = DURABLE.to_vec();
        lines[2] = "persistence_location {dir}/data/";
        let broker = Broker::start_in(&dir, &lines, &[]);
        let mut client = broker.connect_with(Version::V5, lasting("client"));
        client.subscribe("t", 1);
        client.leave();
        let mut other = broker.connect_v5("other");
        other.publish(&publish("t", "x").qos(1).packet_id(1));
        end(broker, by);
        let disk = Disk::new(&data);
        disk.room(0);
        let broker = Broker::start_in(&dir, &lines, &disk.environment());
        let mut watcher = broker.connect_v5("watcher");
        watcher.subscribe("t", 0);
        watcher.send(publish("t", "y"));
        watcher.expect(publish("t", "y"));
        disk.heal();
        let mut client = resumed(&broker, Version::V5, "client");
        client.expect(publish("t", "x").qos(1).packet_id(1));
        end(broker, Signal::KILL);
        fs::remove_dir_all(dir).expect("it is ours");
    }
}

/// `queue_qos0_messages`: they wait for who is away, also across a restart.
#[test]
fn queued_messages_of_qos_0() {
    for by in [Signal::TERM, Signal::KILL] {
        let dir = new_dir();
        let mut lines = DURABLE.to_vec();
        lines.push("queue_qos0_messages true");
        let broker = Broker::start_in(&dir, &lines, &[]);
        let mut client = broker.connect_with(Version::V5, lasting("client"));
        client.subscribe("t", 1);
        client.leave();
        let mut other = broker.connect_v5("other");
        for (number, qos) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
            let message = publish("t", format!("{number}")).qos(qos);
            other.publish(&match qos {
                0 => message,
                _ => message.packet_id(number),
            });
        }
        end(broker, by);
        let broker = Broker::start_in(&dir, &lines, &[]);
        let mut client = resumed(&broker, Version::V5, "client");
        let received: Vec<_> = (0..4).map(|_| client.receive_any()).collect();
        let payloads: Vec<_> = received.iter().map(|it| it.payload.clone()).collect();
        assert_eq!(payloads, [b"1", b"2", b"3", b"4"]);
        client.fence();
        end(broker, Signal::TERM);
        let broker = Broker::start_in(&dir, &lines, &[]);
        resumed(&broker, Version::V5, "client").fence();
        end(broker, Signal::KILL);
        fs::remove_dir_all(dir).expect("it is ours");
    }
}

/// The largest names that there can be come back.
#[test]
fn the_longest_names() {
    let dir = new_dir();
    let broker = start(&dir);
    let (client_id, topic) = ("c".repeat(65_535), "t".repeat(65_535));
    let mut client = broker.connect_with(Version::V5, lasting(&client_id));
    client.subscribe(&topic, 1);
    client.leave();
    let mut other = broker.connect_v5("other");
    other.publish(&publish(&topic, "x").qos(1).packet_id(1).retain());
    end(broker, Signal::KILL);
    let broker = start(&dir);
    let mut client = resumed(&broker, Version::V5, &client_id);
    assert_eq!(client.receive_any().topic, topic);
    end(broker, Signal::TERM);
    fs::remove_dir_all(dir).expect("it is ours");
}

fn session_record(id: u64, client_id: &str) -> SessionRecord {
    SessionRecord {
        id,
        client_id: client_id.to_owned(),
        owner: Owner::default(),
        expiry_seconds: 3600,
        ends: None,
        will: None,
        will_due: None,
        next_packet_id: 1,
    }
}

fn message_record(id: u64, topic: &[u8], retained: bool) -> MessageRecord {
    MessageRecord {
        id,
        bytes: [topic, b"payload"].concat().into(),
        topic_length: topic.len() as u16,
        properties_length: 0,
        qos: QoS::AtLeastOnce,
        retain: retained,
        expires: None,
        retained: retained.then(Source::default),
    }
}

/// Rows whose checksums are sound, and that no broker would have written: each is taken for what it can be, and the rest
/// is served.
#[test]
fn rows_that_do_not_fit() {
    let dir = new_dir();
    let far = i64::MAX as u64;
    let max = u32::MAX;
    let delivery = |id, session, message, packet_id, qos| DeliveryRecord {
        id,
        session,
        message,
        packet_id,
        qos,
        retain: false,
        identifiers: Vec::new(),
    };
    let received = |id, session, packet_id, message| ReceivedRecord {
        id,
        session,
        packet_id,
        message,
    };
    let subscription = |session, filter: &str, options, identifier| SubscriptionRecord {
        session,
        filter: filter.to_owned(),
        options,
        identifier,
    };
    let (zero, one, two) = (QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce);
    let will = |message| {
        Some(WillRecord {
            message,
            delay_seconds: max,
            message_expiry_seconds: Some(max),
        })
    };
    let batch = Batch {
        sessions: vec![
            session_record(1, "client"),
            session_record(2, "client"),
            session_record(3, ""),
            SessionRecord {
                ends: Some(far),
                will: will(10),
                will_due: Some(far),
                expiry_seconds: max,
                next_packet_id: 0,
                ..session_record(4, "far")
            },
            SessionRecord {
                ends: Some(0),
                will: will(999),
                ..session_record(5, "past\n\u{1b}[2J")
            },
            SessionRecord {
                expiry_seconds: 0,
                ..session_record(6, "over")
            },
            SessionRecord {
                ends: Some(0),
                will: will(15),
                will_due: Some(0),
                owner: Owner {
                    listener_port: 65_535,
                    user_name: Some("\0".repeat(70_000)),
                    ..Owner::default()
                },
                ..session_record(7, &"x".repeat(100_000))
            },
        ],
        messages: vec![
            message_record(10, b"t", true),
            message_record(11, b"t", true),
            message_record(12, b"t/#", true),
            message_record(13, b"", true),
            message_record(14, b"\xFF\xFE", false),
            MessageRecord {
                expires: Some(far),
                ..message_record(15, b"late", true)
            },
            MessageRecord {
                expires: Some(0),
                ..message_record(16, b"early", true)
            },
            MessageRecord {
                bytes: b"empty".to_vec().into(),
                ..message_record(17, b"empty", true)
            },
        ],
        subscriptions: vec![
            subscription(1, "", 0, 0),
            subscription(1, "a/#/b", 0, 0),
            subscription(1, "t", 1, 0),
            subscription(1, "u", 0xFF, 0),
            subscription(1, "$share//x", 0, 0),
            subscription(2, "t", 1, 0),
            subscription(888, "t", 1, 0),
        ],
        deliveries: vec![
            delivery(20, 1, Some(10), 0, one),
            delivery(21, 1, Some(999), 0, one),
            delivery(22, 1, None, 0, two),
            delivery(23, 1, None, 5, one),
            delivery(24, 1, Some(10), 7, two),
            delivery(25, 1, Some(10), 7, two),
            delivery(26, 1, Some(10), 8, zero),
            delivery(27, 999, Some(10), 0, one),
            delivery(28, 1, Some(14), 0, one),
            delivery(29, 4, Some(10), 65_535, two),
        ],
        received: vec![
            received(30, 1, 9, 10),
            received(31, 1, 9, 10),
            received(32, 1, 0, 10),
            received(33, 1, 10, 999),
            received(34, 999, 10, 10),
        ],
        ..Batch::default()
    };
    let mut opened = persistence::open(&database(&dir), Sync::Full).expect("made");
    persistence::create(&mut opened.connection, &batch).expect("written");
    opened.connection.close().expect("closed");
    for life in 0..2 {
        let broker = start(&dir);
        let log = broker.log_of_start();
        assert!(!log.contains("is damaged"), "{log}");
        assert!(log.contains("do not fit"), "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
        if life == 0 {
            let mut client = broker.open(Version::V5);
            client.send(lasting("client").clean(false));
            assert!(client.expect_connack().session_present);
            client.expect(publish("t", "payload").qos(2).packet_id(7).dup());
            client.expect(publish("t", "payload").qos(1).packet_id(8));
            client.send(puback(8));
            client.send(pubrec(7));
            client.expect(pubrel(7));
            client.send(pubcomp(7));
            client.send(pubrel(9));
            let mut got = [
                client.expect_packet()[0] >> 4,
                client.expect_packet()[0] >> 4,
            ];
            got.sort();
            assert_eq!(got, [3, 7]);
        }
        let mut other = broker.connect_v5(&format!("other{life}"));
        other.subscribe("#", 0);
        let mut topics = [other.expect_publish().topic, other.expect_publish().topic];
        topics.sort();
        assert_eq!(topics, ["late", "t"]);
        let mut publisher = broker.connect_v5("publisher");
        publisher.publish(&publish("elsewhere", "x").qos(1).packet_id(1));
        resumed(&broker, Version::V5, "far");
        end(
            broker,
            if life == 0 {
                Signal::TERM
            } else {
                Signal::KILL
            },
        );
    }
    fs::remove_dir_all(dir).expect("it is ours");
}
