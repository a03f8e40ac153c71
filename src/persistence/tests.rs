//! The store and its thread: what it tells when a disk takes what it is given, does not, or is damaged.

use super::restore::{Tally, read_what_can_be};
use super::*;
use crate::broker::journal::{MessageRecord, Owner, SessionRecord};
use crate::mqtt::QoS;
use std::fs;

fn session(id: u64, client_id: &str) -> SessionRecord {
    SessionRecord {
        id,
        client_id: client_id.to_owned(),
        owner: Owner::default(),
        expiry_seconds: u32::MAX,
        ends: None,
        will: None,
        will_due: None,
        next_packet_id: 1,
    }
}

fn message(id: u64, payload_bytes: usize) -> MessageRecord {
    let mut bytes = b"topic".to_vec();
    bytes.resize(5 + payload_bytes, b'x');
    MessageRecord {
        id,
        bytes: bytes.into(),
        topic_length: 5,
        properties_length: 0,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires: None,
        retained: None,
    }
}

/// A batch of these.
fn batch(sessions: Vec<SessionRecord>, messages: Vec<MessageRecord>) -> Batch {
    Batch {
        sessions,
        messages,
        ..Batch::default()
    }
}

fn new_database(path: &Path) -> Connection {
    let mut opened = open(path, Sync::Full).expect("made");
    assert!(opened.is_new);
    create(&mut opened.connection, &Batch::default()).expect("made");
    opened.connection
}

fn contents(path: &Path) -> Batch {
    let opened = open(path, Sync::Full).expect("it is sound");
    assert!(!opened.is_new);
    let mut tally = Tally::default();
    let batch = read_what_can_be(&opened.connection, &mut tally);
    assert!(tally.losses.is_empty(), "{:?}", tally.losses);
    batch
}

#[test]
fn a_batch_is_there_when_it_is_said_to_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let connection = new_database(&path);
    let settings = Persistence::default();
    let mut store = Store::start(connection, &path, &settings, || ()).expect("a thread");
    assert_eq!(store.ready_in(true), Some(Duration::ZERO));
    let first = batch(vec![session(1, "a")], vec![message(2, 10)]);
    store.commit(first.clone());
    assert_eq!(store.ready_in(true), None, "one at a time");
    assert_eq!(store.wait(), Some(Committed::Batch));
    drop(store);
    assert_eq!(contents(&path), first);
}

#[test]
fn nothing_is_committed_that_has_no_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let connection = new_database(&path);
    connection
        .execute_batch("PRAGMA max_page_count = 30")
        .expect("set");
    let (inform, informed) = mpsc::channel();
    let wake = move || inform.send(()).unwrap_or_default(); // the last one when nobody listens any more
    let mut store =
        Store::start(connection, &path, &Persistence::default(), wake).expect("a thread");
    store.commit(batch(vec![session(1, "a")], vec![message(2, 100_000)]));
    for _ in 0..2 {
        informed.recv().expect("it is told each time it is tried");
        assert_eq!(store.take_committed(), None);
        assert!(store.is_busy() && store.is_failing && !store.wants_snapshot());
    }
    drop(store);
    assert!(contents(&path).is_empty(), "all of it, or nothing");
}

#[test]
fn a_damaged_database_is_made_anew_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let connection = new_database(&path);
    // As where a table is lost in pages that are no more: SQLite says that the database is malformed.
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET rootpage = 999 WHERE name = 'message';
             PRAGMA writable_schema = RESET;",
        )
        .expect("spoilt");
    let mut store =
        Store::start(connection, &path, &Persistence::default(), || ()).expect("a thread");
    store.commit(batch(vec![], vec![message(2, 10)]));
    assert_eq!(store.wait(), None);
    assert!(store.wants_snapshot());
    let snapshot = batch(vec![session(1, "a")], vec![message(2, 10)]);
    store.rebuild(snapshot.clone());
    assert_eq!(store.wait(), Some(Committed::Everything));
    assert!(!store.wants_snapshot());
    let mut more = batch(vec![session(3, "b")], vec![]);
    store.commit(more.clone());
    assert_eq!(store.wait(), Some(Committed::Batch));
    drop(store);
    let mut expected = snapshot;
    expected.sessions.append(&mut more.sessions);
    assert_eq!(contents(&path), expected);
    let files = fs::read_dir(directory.path()).expect("it is there");
    let names = files.flatten().map(|file| file.file_name());
    let aside = names.filter(|name| name.to_string_lossy().starts_with("t.damaged-"));
    assert!(aside.count() >= 1);
}
