//! Databases built byte by byte, whole, damaged, and of any bytes.

use super::chunk::MAGIC;
use super::*;
use crate::broker::journal::{
    DeliveryRecord, MessageRecord, Owner, ProofKind, ReceivedRecord, Removed, SessionRecord,
    Source, SubscriptionRecord,
};
use crate::mqtt::property::VariableByteInteger;
use crate::mqtt::{Property, PropertyBuffer, QoS, topic};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The moment of reading, in seconds of Unix time.
const NOW: i64 = 1_800_000_000;

fn read_bytes(bytes: &[u8]) -> Result<Import, Refusal> {
    read_from(bytes, NOW as u64 * 1000)
}

/// A database under construction.
#[derive(Clone)]
struct Database {
    version: u32,
    bytes: Vec<u8>,
}

/// A message in it.
#[derive(Clone)]
struct StoredMessage<'a> {
    topic: &'a [u8],
    payload: &'a [u8],
    qos: u8,
    retain: u8,
    expires: i64,
    source: (&'a [u8], &'a [u8], u16),
    properties: PropertyBuffer,
}

fn stored<'a>(topic: &'a str, payload: &'a str) -> StoredMessage<'a> {
    StoredMessage {
        topic: topic.as_bytes(),
        payload: payload.as_bytes(),
        qos: 1,
        retain: 0,
        expires: 0,
        source: (b"source", b"susan", 1883),
        properties: PropertyBuffer::new(),
    }
}

impl Database {
    fn new(version: u32) -> Database {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        Database { version, bytes }.chunk(1, &[&7u64.to_ne_bytes(), &[1, 8, 0, 0, 0, 0, 0, 0]])
    }

    fn chunk(mut self, kind: u32, parts: &[&[u8]]) -> Database {
        let body = parts.concat();
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend((body.len() as u32).to_be_bytes());
        self.bytes.extend(body);
        self
    }

    fn message(self, store_id: u64, message: &StoredMessage<'_>) -> Database {
        let (source, user_name, port) = message.source;
        let mut properties = Vec::new();
        if !message.properties.as_properties().is_empty() {
            message.properties.as_properties().encode(&mut properties);
        }
        self.chunk(
            2,
            &[
                &store_id.to_ne_bytes(),
                &message.expires.to_ne_bytes(),
                &(message.payload.len() as u32).to_be_bytes(),
                &9u16.to_be_bytes(),
                &length(source),
                &length(user_name),
                &length(message.topic),
                &port.to_be_bytes(),
                &[message.qos, message.retain],
                source,
                user_name,
                message.topic,
                message.payload,
                &properties,
            ],
        )
    }

    fn client(self, client_id: &str, user_name: &[u8], ends: i64, expiry: u32) -> Database {
        let (behind, user_name) = match self.version {
            5 => (Vec::new(), &b""[..]),
            _ => {
                let port = 1884u16.to_be_bytes();
                ([&port, &length(user_name)[..], &[0; 4]].concat(), user_name)
            }
        };
        self.chunk(
            6,
            &[
                &ends.to_ne_bytes(),
                &expiry.to_be_bytes(),
                &41u16.to_be_bytes(),
                &length(client_id.as_bytes()),
                &behind,
                client_id.as_bytes(),
                user_name,
            ],
        )
    }

    /// A client of 3.1.1 that nobody has to be anybody for.
    fn plain_client(self, client_id: &str) -> Database {
        self.client(client_id, b"", 0, u32::MAX)
    }

    fn client_message(
        self,
        store_id: u64,
        client_id: &str,
        packet_id: u16,
        [qos, state, retain_dup, direction]: [u8; 4],
        properties: &[u8],
    ) -> Database {
        self.chunk(
            3,
            &[
                &store_id.to_ne_bytes(),
                &packet_id.to_be_bytes(),
                &length(client_id.as_bytes()),
                &[qos, state, retain_dup, direction],
                client_id.as_bytes(),
                properties,
            ],
        )
    }

    fn subscription(
        self,
        client_id: &str,
        filter: &[u8],
        [qos, options]: [u8; 2],
        identifier: u32,
    ) -> Database {
        self.chunk(
            5,
            &[
                &identifier.to_be_bytes(),
                &length(client_id.as_bytes()),
                &length(filter),
                &[qos, options, 0, 0],
                client_id.as_bytes(),
                filter,
            ],
        )
    }

    fn retained(self, store_id: u64) -> Database {
        self.chunk(4, &[&store_id.to_ne_bytes()])
    }

    fn read(&self) -> Import {
        read_bytes(&self.bytes).expect("it is a database")
    }
}

fn length(bytes: &[u8]) -> [u8; 2] {
    (bytes.len() as u16).to_be_bytes()
}

/// Some of everything.
fn full(version: u32) -> Database {
    let mut rich = stored("n/x", "rich");
    rich.retain = 1;
    rich.expires = NOW + 60;
    let subscription_identifier = Property::SubscriptionIdentifier(VariableByteInteger(5));
    for property in [
        Property::ContentType("text/plain"),
        subscription_identifier,
        Property::UserProperty(("k", "v")),
    ] {
        rich.properties.push(property);
    }
    Database::new(version)
        .message(10, &rich)
        .message(11, &stored("a/b", "one"))
        .message(
            12,
            &StoredMessage {
                qos: 2,
                ..stored("a/c", "two")
            },
        )
        .message(13, &stored("nobody", "wants it"))
        .client("ann", b"anna", NOW + 5, 100)
        .client_message(12, "ann", 7, [2, 7, 0, 0], b"")
        .client_message(11, "ann", 3, [1, 3, 0x01, 1], b"")
        .client_message(12, "ann", 4, [2, 9, 0x01, 1], b"")
        .client_message(12, "ann", 5, [2, 5, 0x10, 1], b"")
        .client_message(10, "ann", 6, [1, 11, 0x10, 1], b"\x03\x0b\xac\x02")
        .plain_client("bob")
        .client_message(11, "bob", 1, [1, 11, 0, 1], b"")
        .subscription("ann", b"n/+", [2, 4 | 8 | 0x20], 300)
        .subscription("bob", b"$share/g/a/#", [1, 0], 0)
        .retained(10)
}

#[test]
fn everything_that_a_database_holds() {
    let import = full(6).read();
    assert_eq!(import.warnings, Vec::<String>::new());
    let anna = Owner {
        user_name: Some("anna".to_owned()),
        proof: ProofKind::None,
        listener_port: 1884,
    };
    let ann = SessionRecord {
        id: 1,
        client_id: "ann".to_owned(),
        owner: anna,
        expiry_seconds: 100,
        ends: Some((NOW as u64 + 5) * 1000),
        will: None,
        will_due: None,
        next_packet_id: 42,
    };
    let bob = SessionRecord {
        id: 2,
        client_id: "bob".to_owned(),
        owner: Owner {
            listener_port: 1884,
            ..Owner::default()
        },
        expiry_seconds: u32::MAX,
        ends: None,
        ..ann.clone()
    };
    let message = |id, topic: &str, properties: &[u8], payload: &str, qos| MessageRecord {
        id,
        bytes: [topic.as_bytes(), properties, payload.as_bytes()]
            .concat()
            .into(),
        topic_length: topic.len() as u16,
        properties_length: properties.len() as u32,
        qos,
        retain: false,
        expires: None,
        retained: None,
    };
    let susan = Source {
        client_id: Some("source".to_owned()),
        owner: Owner {
            user_name: Some("susan".to_owned()),
            proof: ProofKind::None,
            listener_port: 1883,
        },
    };
    // The Subscription Identifier is not the message's.
    let properties = b"\x03\0\x0atext/plain\x26\0\x01k\0\x01v";
    let delivery = |id, session, message, packet_id, qos| DeliveryRecord {
        id,
        session,
        message,
        packet_id,
        qos,
        retain: false,
        identifiers: Vec::new(),
    };
    let subscription = |session, filter: &str, options, identifier| SubscriptionRecord {
        session,
        filter: filter.to_owned(),
        options,
        identifier,
    };
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let expected = Batch {
        clock_ahead: None,
        sessions: vec![ann, bob],
        messages: vec![
            MessageRecord {
                retain: true,
                expires: Some((NOW as u64 + 60) * 1000),
                retained: Some(susan),
                ..message(3, "n/x", properties, "rich", one)
            },
            message(4, "a/b", b"", "one", one),
            message(5, "a/c", b"", "two", two),
        ],
        retained: Vec::new(),
        unretained: Vec::new(),
        deliveries: vec![
            delivery(6, 1, Some(4), 3, one),
            delivery(7, 1, None, 4, two),
            DeliveryRecord {
                retain: true,
                ..delivery(8, 1, Some(5), 5, two)
            },
            DeliveryRecord {
                retain: true,
                identifiers: vec![300],
                ..delivery(9, 1, Some(3), 0, one)
            },
            delivery(10, 2, Some(4), 0, one),
        ],
        progress: Vec::new(),
        received: vec![ReceivedRecord {
            id: 11,
            session: 1,
            packet_id: 7,
            message: 5,
        }],
        subscriptions: vec![
            subscription(1, "n/+", 0x2E, 300),
            subscription(2, "$share/g/a/#", 1, 0),
        ],
        removed: Removed::default(),
    };
    assert_eq!(import.batch, expected);
    let counts = Counts {
        sessions: 2,
        subscriptions: 2,
        retained: 1,
        queued: 5,
        received: 1,
        messages_unreferenced: 1,
        ..Counts::default()
    };
    assert_eq!(import.counts, counts);
    assert_eq!(
        counts.to_string(),
        "sessions: 2, subscriptions: 2, retained messages: 1, queued messages: 5, messages not released: 1; left out: \
         messages for nobody: 1"
    );

    // Version 5 has no user names and listeners of sessions.
    let mut expected = expected;
    for session in &mut expected.sessions {
        session.owner = Owner::default();
    }
    let import = full(5).read();
    assert_eq!(import.warnings, Vec::<String>::new());
    assert_eq!(import.batch, expected);
}

#[test]
fn other_files_are_refused() {
    assert!(matches!(
        read_bytes(b"\0\xB5\0mosquitto d"),
        Err(Refusal::NotADatabase)
    ));
    assert!(matches!(
        read_bytes(b"SQLite format 3\0.................."),
        Err(Refusal::NotADatabase)
    ));
    let header = &Database::new(6).bytes[..HEADER_BYTES - 1];
    assert!(matches!(read_bytes(header), Err(Refusal::NotADatabase)));
    for version in [0, 2, 4, 7, 0x0600_0000] {
        let refused = read_bytes(&Database::new(version).bytes);
        assert!(matches!(refused, Err(Refusal::Version(found)) if found == version));
    }
    let empty = read_bytes(b"").expect("Mosquitto starts with it, too");
    assert!(empty.batch.is_empty());
    assert_eq!(empty.warnings.len(), 1);

    let missing = read(Path::new("/nonexistent/mosquitto.db"), 0).expect_err("it is not there");
    assert!(
        missing
            .to_string()
            .starts_with("/nonexistent/mosquitto.db: cannot read it")
    );
    let folder = read(&std::env::temp_dir(), 0).expect_err("it is no file");
    assert!(folder.to_string().ends_with("not a regular file"));
    let version = ImportError::Version("x.db".into(), 4).to_string();
    assert!(version.contains("version 4") && version.contains("is started with it"));
}

/// Each of these has one record that makes no sense in a database that does.
#[test]
fn what_makes_no_sense_is_left_out_alone() {
    let one = || stored("a/b", "one");
    let two = [0x20, 0, 1, b'x'];
    let base = || Database::new(6).message(1, &one()).plain_client("c");
    let out = |qos, state| [qos, state, 0, 1];
    let table: [(&str, Database); 34] = [
        ("kind", base().chunk(2, &[b"short"])),
        ("wildcard", base().message(2, &stored("a/+", "x"))),
        (
            "UTF-8",
            base().message(
                2,
                &StoredMessage {
                    topic: b"\xFF",
                    ..one()
                },
            ),
        ),
        ("empty topic", base().message(2, &stored("", "x"))),
        ("QoS", base().message(2, &StoredMessage { qos: 3, ..one() })),
        (
            "UTF-8",
            base().message(
                2,
                &StoredMessage {
                    source: (b"\xFF", b"", 0),
                    ..one()
                },
            ),
        ),
        (
            "UTF-8",
            base().message(
                2,
                &StoredMessage {
                    source: (b"s", b"\xFF", 0),
                    ..one()
                },
            ),
        ),
        ("number", base().message(1, &one())),
        ("no client identifier", base().plain_client("")),
        ("client identifier", base().plain_client("c")),
        ("UTF-8", base().client("d", b"\xFF", 0, 9)),
        ("add up", base().chunk(6, &[&[0; 26]])),
        (
            "client is not there",
            base().client_message(1, "d", 1, out(1, 3), b""),
        ),
        (
            "message is not there",
            base().client_message(2, "c", 1, out(1, 3), b""),
        ),
        (
            "QoS is none",
            base().client_message(1, "c", 1, out(3, 3), b""),
        ),
        (
            "state is none",
            base().client_message(1, "c", 1, out(1, 0), b""),
        ),
        (
            "state is none",
            base().client_message(1, "c", 1, out(1, 12), b""),
        ),
        (
            "another state",
            base().client_message(1, "c", 1, out(1, 5), b""),
        ),
        (
            "another state",
            base().client_message(1, "c", 1, out(2, 3), b""),
        ),
        (
            "another state",
            base().client_message(1, "c", 1, out(2, 7), b""),
        ),
        (
            "another state",
            base().client_message(1, "c", 1, out(0, 9), b""),
        ),
        (
            "another state",
            base().client_message(1, "c", 1, [1, 7, 0, 0], b""),
        ),
        (
            "another state",
            base().client_message(1, "c", 1, [2, 9, 0, 0], b""),
        ),
        (
            "identifier 0",
            base().client_message(1, "c", 0, [2, 7, 0, 0], b""),
        ),
        (
            "neither in nor out",
            base().client_message(1, "c", 1, [1, 3, 0, 2], b""),
        ),
        (
            "middle of a field",
            base().client_message(1, "c", 1, out(1, 3), &two),
        ),
        ("message is not there", base().retained(2)),
        (
            "no payload",
            base().message(2, &stored("a", "")).retained(2),
        ),
        (
            "client is not there",
            base().subscription("d", b"a", [0, 0], 0),
        ),
        ("beside", base().subscription("c", b"a#", [0, 0], 0)),
        ("UTF-8", base().subscription("c", b"\xFF", [0, 0], 0)),
        ("options", base().subscription("c", b"a", [3, 0], 0)),
        (
            "options",
            base().subscription("c", b"$share/g/a", [1, 4], 0),
        ),
        (
            "identifier",
            base().subscription("c", b"a", [1, 0], 0x1000_0000),
        ),
    ];
    for (index, (why, database)) in table.into_iter().enumerate() {
        // What follows is read all the same.
        let database = database
            .client_message(1, "c", 9, [1, 11, 0, 1], b"")
            .subscription("c", b"#", [1, 0], 0);
        let import = database.read();
        assert_eq!(import.counts.damaged, 1, "{index} {why}");
        assert_eq!(import.warnings.len(), 1, "{index} {why}");
        let warning = &import.warnings[0];
        if why != "kind" {
            assert!(warning.contains(why), "{index} {why}: {warning}");
        }
        assert_eq!(import.counts.sessions, 1, "{index} {why}");
        assert_eq!(import.counts.queued, 1, "{index} {why}");
        assert_eq!(import.counts.subscriptions, 1, "{index} {why}");
        check(&import);
    }
}

#[test]
fn what_is_over_is_left_out_with_all_that_was_its() {
    let database = Database::new(6)
        .message(
            1,
            &StoredMessage {
                expires: NOW,
                ..stored("a", "late")
            },
        )
        .message(2, &stored("$SYS/broker/version", "1"))
        .message(3, &stored("a", "x"))
        .client("over", b"", NOW, 100)
        .client_message(3, "over", 1, [1, 3, 0, 1], b"")
        .client("zero", b"", 0, 0)
        .client("connected", b"", 0, 60)
        .client_message(1, "connected", 1, [1, 3, 0, 1], b"")
        .client_message(2, "connected", 2, [1, 3, 0, 1], b"")
        .client_message(3, "connected", 3, [1, 3, 0, 1], b"")
        .subscription("over", b"a", [1, 0], 0)
        .retained(1);
    let import = database.read();
    assert_eq!(import.warnings, Vec::<String>::new());
    let counts = Counts {
        sessions: 1,
        queued: 1,
        sessions_ended: 2,
        messages_expired: 1,
        messages_of_system: 1,
        ..Counts::default()
    };
    assert_eq!(import.counts, counts);
    let session = &import.batch.sessions[0];
    assert_eq!(session.ends, Some((NOW as u64 + 60) * 1000));
    assert_eq!(import.batch.deliveries[0].packet_id, 3);
}

/// Numbers of a store have a sign.
#[test]
fn times_without_end_have_one() {
    let forever = StoredMessage {
        expires: i64::MAX,
        ..stored("a", "x")
    };
    let import = Database::new(6)
        .message(1, &forever)
        .client("c", b"", i64::MAX, 100)
        .client("d", b"", i64::MIN, 100)
        .retained(1)
        .read();
    let end = Some(i64::MAX as u64);
    assert_eq!(import.batch.messages[0].expires, end);
    assert_eq!(import.batch.sessions[0].ends, end);
    let now = NOW as u64 * 1000;
    assert_eq!(import.batch.sessions[1].ends, Some(now + 100_000));
}

#[test]
fn what_was_sent_goes_before_what_waits() {
    let out = |database: Database, packet_id, state, payload: u64| {
        database
            .message(payload, &stored("t", &payload.to_string()))
            .client_message(payload, "c", packet_id, [1, state, 0, 1], b"")
    };
    let mut database = Database::new(6).plain_client("c");
    for (packet_id, state, number) in [
        (1, 11, 1),
        (5, 3, 2),
        // Taken: it waits, before what was published after it.
        (5, 2, 3),
        (0, 2, 4),
        (4, 2, 5),
        (9, 11, 6),
    ] {
        database = out(database, packet_id, state, number);
    }
    let import = database.read();
    let message = |id: u64| {
        let mut messages = import.batch.messages.iter();
        let found = messages.find(|message| message.id == id);
        String::from_utf8_lossy(found.expect("it is there").payload()).into_owned()
    };
    let order: Vec<(u16, String)> = import
        .batch
        .deliveries
        .iter()
        .map(|it| (it.packet_id, message(it.message.expect("none was owned"))))
        .collect();
    let expected = [(5, "2"), (4, "5"), (0, "1"), (0, "3"), (0, "4"), (0, "6")];
    assert_eq!(order, expected.map(|(id, text)| (id, text.to_owned())));
    check(&import);
}

/// What Mosquitto 2.0 writes for clients without a user name that come after one with it.
#[test]
fn user_names_of_others_are_left_out() {
    let mut junk = b"anna\0".to_vec();
    junk.resize(0x0400, 0xFE);
    let import = Database::new(6)
        .plain_client("first")
        .client("ann", b"anna", 0, u32::MAX)
        .client("second", &junk, 0, u32::MAX)
        .client("doubtful", b"anna", 0, u32::MAX)
        .client("bob", b"robert", 0, u32::MAX)
        .client("ann too", b"anna", 0, u32::MAX)
        .read();
    let owners: Vec<_> = import
        .batch
        .sessions
        .iter()
        .map(|session| (session.owner.user_name.as_deref(), session.owner.proof))
        .collect();
    let expected = [
        (None, ProofKind::None),
        (Some("anna"), ProofKind::None),
        (None, ProofKind::None),
        (None, ProofKind::None),
        (Some("robert"), ProofKind::None),
        (Some("anna"), ProofKind::None),
    ];
    assert_eq!(owners, expected);
    assert_eq!(import.warnings, Vec::<String>::new());
}

#[test]
fn the_last_of_two_is_in_force() {
    let import = Database::new(6)
        .message(1, &stored("t", "old"))
        .message(2, &stored("t", "new"))
        .plain_client("c")
        .subscription("c", b"a", [0, 0], 1)
        .subscription("c", b"b", [0, 0], 2)
        .subscription("c", b"a", [2, 0], 3)
        .retained(1)
        .retained(2)
        .read();
    let identifiers = import.batch.subscriptions.iter().map(|it| it.identifier);
    assert_eq!(identifiers.collect::<Vec<_>>(), [3, 2]);
    assert_eq!(import.batch.messages.len(), 1);
    assert_eq!(import.batch.messages[0].payload(), b"new");
    assert_eq!(import.counts.damaged, 2);
    check(&import);
}

#[test]
fn a_broken_structure_ends_the_reading() {
    let whole = full(6);
    for (bytes, sessions) in [
        (&whole.bytes[..whole.bytes.len() - 1], 2),
        (&whole.bytes[..whole.bytes.len() - 12], 2),
    ] {
        let import = read_bytes(bytes).expect("the header is there");
        assert_eq!(import.counts.sessions, sessions);
        assert_eq!(import.counts.retained, 0);
        assert_eq!(import.warnings.len(), 1);
        assert!(import.warnings[0].contains("what follows is lost"));
    }
    // A length that nothing has, and one that the file does not have.
    for length in [u32::MAX, 1000] {
        let mut bytes = whole.bytes.clone();
        bytes.extend(2u32.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        let import = read_bytes(&bytes).expect("the header is there");
        assert_eq!(import.counts, whole.read().counts);
        assert_eq!(import.warnings.len(), 1);
    }
    // An unknown kind is passed over.
    let import = full(6).chunk(77, &[b"what?"]).plain_client("d").read();
    assert_eq!(import.counts.sessions, 3);
    assert_eq!(import.warnings.len(), 1);
}

#[test]
fn warnings_are_bounded() {
    let mut database = Database::new(6);
    for _ in 0..WARNINGS_MAX + 7 {
        database = database.retained(1);
    }
    let import = database.read();
    assert_eq!(import.counts.damaged, WARNINGS_MAX + 7);
    assert_eq!(import.warnings.len(), WARNINGS_MAX + 1);
    assert_eq!(
        import.warnings.last().expect("there are some"),
        "and 7 more like these"
    );
}

/// What holds for every import: rows are numbered once, what is referred to is there, and nothing else is.
fn check(import: &Import) {
    let batch = &import.batch;
    let sessions: BTreeSet<u64> = batch.sessions.iter().map(|it| it.id).collect();
    let messages: BTreeSet<u64> = batch.messages.iter().map(|it| it.id).collect();
    let mut rows: Vec<u64> = sessions.iter().chain(&messages).copied().collect();
    rows.extend(batch.deliveries.iter().map(|it| it.id));
    rows.extend(batch.received.iter().map(|it| it.id));
    assert_eq!(rows, (1..=rows.len() as u64).collect::<Vec<_>>());

    let clients: BTreeSet<&str> = batch.sessions.iter().map(|it| &*it.client_id).collect();
    assert_eq!(clients.len(), sessions.len());
    let mut referred = BTreeSet::new();
    let mut packet_ids = BTreeSet::new();
    let mut waiting = BTreeSet::new();
    for delivery in &batch.deliveries {
        assert!(sessions.contains(&delivery.session));
        referred.extend(delivery.message);
        match delivery.packet_id {
            0 => drop(waiting.insert(delivery.session)),
            packet_id => {
                assert!(packet_ids.insert((delivery.session, packet_id)));
                assert!(!waiting.contains(&delivery.session), "it waits already");
                assert_ne!(delivery.qos, QoS::AtMostOnce);
            }
        }
        assert!(delivery.message.is_some() || delivery.packet_id != 0);
    }
    let mut packet_ids = BTreeSet::new();
    for received in &batch.received {
        assert!(sessions.contains(&received.session));
        assert!(packet_ids.insert((received.session, received.packet_id)));
        referred.insert(received.message);
    }
    assert!(referred.is_subset(&messages));
    let mut retained = BTreeSet::new();
    for message in &batch.messages {
        assert!(topic::name(message.topic()).is_ok());
        let _ = (message.properties(), message.payload());
        assert!(message.retained.is_some() || referred.contains(&message.id));
        if message.retained.is_some() {
            assert!(retained.insert(message.topic()));
        }
    }
    let mut filters = BTreeSet::new();
    for subscription in &batch.subscriptions {
        assert!(sessions.contains(&subscription.session));
        assert!(topic::shared(&subscription.filter).is_ok());
        assert!(filters.insert((subscription.session, &subscription.filter)));
    }
    assert_eq!(import.counts.retained, retained.len());
    assert!(import.warnings.len() <= WARNINGS_MAX + 1);
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(
        version in 5u32..=6,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        now: u64,
    ) {
        let _ = read_from(&bytes[..], now);
        let mut database = Database::new(version).bytes;
        database.extend(bytes);
        check(&read_from(&database[..], now).expect("the header is there"));
    }

    /// Chunks of the right kinds with any bodies.
    #[test]
    fn any_chunks_are_read_to_their_end(
        version in 5u32..=6,
        chunks in prop::collection::vec(
            (0u32..8, prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..80)),
            0..20,
        ),
    ) {
        let mut database = Database::new(version);
        for (kind, body) in &chunks {
            database = database.chunk(*kind, &[body]);
        }
        check(&database.read());
    }

    #[test]
    fn any_damage_is_read_to_the_end(
        version in 5u32..=6,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut bytes = full(version).bytes;
        for (at, byte) in damage {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(HEADER_BYTES.max(cut.index(bytes.len())));
        }
        check(&read_bytes(&bytes).expect("the header is there"));
    }
}
