//! Databases that Mosquitto wrote, read by [`midge::persistence::import`].
//!
//! `mosquitto-2.0.11.db` is one of them, made by [`fill`]. That runs again in the test that is ignored, for want of a
//! Mosquitto everywhere; it keeps a copy of its database where `MIDGE_KEEP_DATABASE` says. Mosquitto 2.0 writes what is
//! in its memory behind another client's user name for clients without one: that is in the file, too.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use midge::broker::journal::{MessageRecord, Source};
use midge::persistence::import::{self, Import};
use rustix::process::Signal;

use crate::harness::*;

/// When `mosquitto-2.0.11.db` was made, in milliseconds of Unix time.
const MADE: u64 = 1_795_459_041_000;

/// What [`fill`] leaves, as [`describe`] tells it.
const FILLED: &str = "\
session old: expiry 4294967295, ends false, user None None, next 6
session new: expiry 3600, ends true, user Some(\"ursula\") None, next 4
session forever: expiry 4294967295, ends false, user None None, next 1
session brief: expiry 30, ends true, user None None, next 1
session flight: expiry 3600, ends true, user None None, next 6
session source: expiry 100, ends true, user Some(\"susan\") None, next 1
subscription old $SYS/broker/version: options 0x01, identifier 0
subscription old +/b: options 0x02, identifier 0
subscription old /lead//x: options 0x00, identifier 0
subscription old a/#: options 0x01, identifier 0
subscription new n/#: options 0x01, identifier 300
subscription new n/+: options 0x0e, identifier 300
subscription flight f: options 0x02, identifier 0
retained n/x rich: expires true, by source susan
retained r/plain kept: expires false, by source susan
delivery old: a/b zero, id 0, AtMostOnce, retain false, identifiers []
delivery old: a/b one, id 0, AtLeastOnce, retain false, identifiers []
delivery old: a/b two, id 0, AtLeastOnce, retain false, identifiers []
delivery new: n/x rich, id 0, AtLeastOnce, retain true, identifiers [300]
delivery new: n/x rich, id 0, AtLeastOnce, retain false, identifiers [300]
delivery new: n/x rich, id 0, AtLeastOnce, retain false, identifiers []
delivery flight: f f1, id 1, AtLeastOnce, retain false, identifiers []
delivery flight: f f2, id 2, ExactlyOnce, retain false, identifiers []
delivery flight: owned, id 3, ExactlyOnce, retain false, identifiers []
delivery flight: f f4, id 0, AtLeastOnce, retain false, identifiers []
delivery flight: f f5, id 0, ExactlyOnce, retain false, identifiers []
received source: in unreleased, id 9, retain true
";

/// The properties of the message `rich` that are passed on.
const RICH: &[u8] =
    b"\x03\0\x0atext/plain\x08\0\x03r/t\x09\0\x02\0\xFF\x01\x01\x26\0\x01k\0\x01v\x26\0\x01k\0\x01w";

/// A Mosquitto whose database is in `dir`.
fn mosquitto(dir: &Path) -> Broker {
    let location = format!("persistence_location {}/", dir.display());
    Broker::start_in_shell(
        "exec /usr/sbin/mosquitto -c {dir}/midge.conf",
        &[
            "user root",
            "persistence true",
            "queue_qos0_messages true",
            "max_inflight_messages 3",
            &location,
        ],
    )
}

/// Sessions of every kind, and messages in every state. Shared subscriptions Mosquitto does not write at all.
fn fill(broker: &Broker) {
    let connect_for = |client_id, seconds| {
        let connect = connect(client_id).clean(false);
        connect.with(session_expiry_interval(seconds))
    };
    let mut old = broker.connect_with(Version::V311, connect("old").clean(false));
    let filters = [
        ("a/#", 1),
        ("+/b", 2),
        ("/lead//x", 0),
        ("$SYS/broker/version", 1),
    ];
    for (filter, options) in filters {
        old.send(subscribe(1).filter(filter, options));
        old.expect(suback(1, &[options]));
    }
    let connect_new = connect_for("new", 3600).username("ursula");
    let mut new = broker.connect_with(Version::V5, connect_new);
    let filters = subscribe(1).filter("n/+", 0x2E).filter("n/#", 1);
    new.send(filters.with(subscription_identifier(300)));
    new.expect(suback(1, &[2, 1]));
    new.subscribe("$share/h/n/x", 1);
    let forever = broker.connect_with(Version::V5, connect_for("forever", u32::MAX));
    // Connected while the database is written, and over as soon as it is not.
    let mut gone = broker.connect_with(Version::V5, connect_for("gone", 0));
    gone.subscribe("a/#", 1);
    let brief = broker.connect_with(Version::V5, connect_for("brief", 30));
    let mut flight = broker.connect_with(Version::V5, connect_for("flight", 3600));
    flight.subscribe("f", 2);
    old.expect_publish();
    for client in [old, new, forever, brief] {
        client.leave();
    }

    let connect_source = connect_for("source", 100).username("susan");
    let mut source = broker.connect_with(Version::V5, connect_source);
    for (qos, payload) in [(0, "zero"), (1, "one"), (2, "two")] {
        source.publish(&publish("a/b", payload).qos(qos).packet_id(1));
    }
    let rich = publish("n/x", "rich").qos(1).packet_id(1).retain();
    source.publish(
        &rich
            .with(message_expiry_interval(600))
            .with(content_type("text/plain"))
            .with(response_topic("r/t"))
            .with(correlation_data([0, 255]))
            .with(payload_format_indicator(1))
            .with(user_property("k", "v"))
            .with(user_property("k", "w")),
    );
    source.publish(&publish("r/plain", "kept").retain());
    for (qos, payload) in [(1, "f1"), (2, "f2"), (2, "f3"), (1, "f4"), (2, "f5")] {
        source.publish(&publish("f", payload).qos(qos).packet_id(3));
    }
    let sent = [(); 3].map(|()| flight.expect_publish());
    let third = sent[2].packet_id;
    flight.send(pubrec(third));
    flight.expect(pubrel(third));
    source.send(publish("in", "unreleased").qos(2).packet_id(9).retain());
    source.expect_packet();
    broker.signal(Signal::USR1);
    broker.wait_for_log("Saving in-memory database");
}

/// A line for each record that does not depend on when and where the database was made.
fn describe(import: &Import) -> String {
    let batch = &import.batch;
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let clients: HashMap<u64, &str> = batch
        .sessions
        .iter()
        .map(|session| (session.id, session.client_id.as_str()))
        .collect();
    let messages: HashMap<u64, &MessageRecord> = batch
        .messages
        .iter()
        .map(|message| (message.id, message))
        .collect();
    let message = |id| {
        let message = messages[&id];
        format!("{} {}", text(message.topic()), text(message.payload()))
    };
    let mut lines = Vec::new();
    for it in &batch.sessions {
        lines.push(format!(
            "session {}: expiry {}, ends {}, user {:?} {:?}, next {}",
            it.client_id,
            it.expiry_seconds,
            it.ends.is_some(),
            it.owner.user_name,
            it.owner.proof,
            it.next_packet_id
        ));
    }
    for it in &batch.subscriptions {
        lines.push(format!(
            "subscription {} {}: options {:#04x}, identifier {}",
            clients[&it.session], it.filter, it.options, it.identifier
        ));
    }
    let mut retained = Vec::new();
    for it in &batch.messages {
        let Some(Source { client_id, owner }) = &it.retained else {
            continue;
        };
        let (client_id, user_name) = (client_id.as_ref(), owner.user_name.as_ref());
        retained.push(format!(
            "retained {}: expires {}, by {} {}",
            message(it.id),
            it.expires.is_some(),
            client_id.expect("they have one"),
            user_name.expect("they have one"),
        ));
    }
    retained.sort();
    lines.extend(retained);
    for it in &batch.deliveries {
        lines.push(format!(
            "delivery {}: {}, id {}, {:?}, retain {}, identifiers {:?}",
            clients[&it.session],
            it.message.map_or("owned".to_owned(), message),
            it.packet_id,
            it.qos,
            it.retain,
            it.identifiers
        ));
    }
    for it in &batch.received {
        lines.push(format!(
            "received {}: {}, id {}, retain {}",
            clients[&it.session],
            message(it.message),
            it.packet_id,
            messages[&it.message].retain
        ));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What holds for every database that [`fill`] made.
#[track_caller]
fn check(import: &Import) {
    let described = describe(import);
    assert!(
        described == FILLED,
        "{described}\n{} {:#?}",
        import.counts,
        import.warnings
    );
    assert_eq!(import.counts.damaged, 0);
    let rich = import
        .batch
        .messages
        .iter()
        .find(|it| it.payload() == b"rich");
    assert_eq!(rich.expect("it is there").properties(), RICH);
}

/// Its numbers are in the order of the machine that made it.
#[cfg(target_endian = "little")]
#[test]
fn a_database_of_mosquitto() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/mosquitto-2.0.11.db");
    let import = import::read(&path, MADE).expect("it is a database");
    check(&import);
    assert_eq!(import.counts.sessions_ended, 1);
    assert_eq!(import.warnings, Vec::<String>::new());
    // A year later most of it is over, but for those that were connected: their time begins when they are read.
    let later = import::read(&path, MADE + 31_536_000_000).expect("it is a database");
    assert_eq!(later.counts.sessions, 4);
    assert_eq!(later.counts.retained, 1);
}

#[test]
#[ignore = "runs /usr/sbin/mosquitto"]
fn a_database_made_now() {
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("the clock is set").as_millis() as u64
    };
    let dir = new_dir();
    let path = dir.join("mosquitto.db");
    let broker = mosquitto(&dir);
    fill(&broker);
    assert!(broker.stop().success());
    check(&import::read(&path, now()).expect("it is a database"));
    if let Some(copy) = std::env::var_os("MIDGE_KEEP_DATABASE") {
        std::fs::copy(&path, copy).expect("it can be written");
    }

    // Read and written once more by Mosquitto. By now it believes the user names itself.
    assert!(mosquitto(&dir).stop().success());
    let import = import::read(&path, now()).expect("it is a database");
    let without_sessions = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("session"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        without_sessions(&describe(&import)),
        without_sessions(FILLED)
    );
    std::fs::remove_dir_all(dir).expect("it is ours");
}
