//! The store and its thread: what it tells when a disk takes what it is given, does not, or is damaged.

use super::restore::{RestoreError, Tally, last_id, read_what_can_be, salvage};
use super::*;
use crate::broker::journal::{
    DeliveryRecord, MessageRecord, Owner, ReceivedRecord, SessionRecord, SubscriptionRecord,
    WillRecord,
};
use crate::mqtt::QoS;
use std::fs;
use std::os::unix::fs::PermissionsExt;

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

/// The files in the directory of `path` that begin with these letters.
fn named(path: &Path, beginning: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(path.parent().expect("it has one")).expect("it is there");
    let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    files.retain(|file| {
        let name = file.file_name().expect("it has one").to_string_lossy();
        name.starts_with(beginning)
    });
    files.sort();
    files
}

#[test]
fn a_damaged_database_stays_until_another_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let mut connection = new_database(&path);
    let first = batch(vec![session(1, "a")], vec![]);
    write(&mut connection, &first).expect("written");
    // The new one cannot be made.
    let in_the_way = directory.path().join("t.midge-new");
    fs::create_dir(&in_the_way).expect("made");
    let (inform, informed) = mpsc::channel();
    let wake = move || inform.send(()).unwrap_or_default(); // the last one when nobody listens any more
    let mut store =
        Store::start(connection, &path, &Persistence::default(), wake).expect("a thread");
    let second = batch(vec![session(1, "a"), session(2, "b")], vec![]);
    store.rebuild(second.clone());
    informed.recv().expect("told");
    assert_eq!(store.take_committed(), None);
    assert!(store.is_failing);
    assert!(named(&path, "t.damaged").is_empty());
    fs::copy(&path, directory.path().join("u.midge")).expect("copied");
    let log = directory.path().join("u.midge-wal");
    fs::copy(directory.path().join("t.midge-wal"), log).expect("copied");
    assert_eq!(contents(&directory.path().join("u.midge")), first);
    fs::remove_dir(&in_the_way).expect("it is empty");
    assert_eq!(store.wait(), Some(Committed::Everything));
    drop(store);
    assert_eq!(contents(&path), second);
    assert!(!named(&path, "t.damaged").is_empty());
}

#[test]
fn what_was_interrupted_goes_on() {
    for has_old in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t.midge");
        let whole = batch(vec![session(1, "whole")], vec![]);
        let mut opened = open(&directory.path().join("new"), Sync::Full).expect("made");
        create(&mut opened.connection, &whole).expect("made");
        opened.connection.close().expect("closed");
        fs::rename(
            directory.path().join("new"),
            directory.path().join("t.midge-saved"),
        )
        .expect("renamed");
        if has_old {
            fs::write(&path, "damaged").expect("written");
            fs::write(directory.path().join("t.midge-wal"), "damaged").expect("written");
        }
        assert_eq!(contents(&path), whole);
        let aside = named(&path, "t.damaged");
        assert_eq!(aside.len(), if has_old { 2 } else { 0 }, "{aside:?}");
        assert!(named(&path, "t.midge-").is_empty());
    }
}

#[test]
fn databases_are_for_their_user_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let mut connection = new_database(&path);
    write(&mut connection, &batch(vec![session(1, "a")], vec![])).expect("written");
    open::close_as_it_is(connection);
    let files = named(&path, "t.midge");
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn what_is_not_ours_is_not_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, sql, expected) in [
        ("foreign", "CREATE TABLE other (x)", "of another program"),
        ("later", "PRAGMA user_version = 2", "of version 2"),
        ("none", "PRAGMA user_version = 0", "is damaged"),
    ] {
        let path = directory.path().join(name);
        if name != "foreign" {
            new_database(&path).close().expect("closed");
        }
        let connection = Connection::open(&path).expect("opened");
        connection.execute_batch(sql).expect("changed");
        connection.close().expect("closed");
        let before = fs::read(&path).expect("read");
        let error = open(&path, Sync::Full).expect_err(name);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(fs::read(&path).expect("read") == before, "{name}");
    }
}

/// What a filesystem left of a database is not taken for a new one.
#[test]
fn a_log_without_its_database() {
    let directory = tempfile::tempdir().expect("a directory");
    for is_there in [true, false] {
        let path = directory.path().join(format!("{is_there}.midge"));
        let mut connection = new_database(&path);
        write(&mut connection, &batch(vec![session(1, "a")], vec![])).expect("written");
        open::close_as_it_is(connection);
        match is_there {
            true => fs::write(&path, "").expect("written"),
            false => fs::remove_file(&path).expect("removed"),
        }
        let error = open(&path, Sync::Full).expect_err("it is damaged");
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
}

#[test]
fn full_is_full() {
    let directory = tempfile::tempdir().expect("a directory");
    for (sync, expected) in [(Sync::Full, 2), (Sync::Normal, 1), (Sync::Off, 0)] {
        let path = directory.path().join("t.midge");
        let connection = open(&path, sync).expect("opened").connection;
        let ask = |name: &str| {
            let sql = format!("PRAGMA {name}");
            connection.query_row(&sql, [], |row| row.get::<_, rusqlite::types::Value>(0))
        };
        assert_eq!(ask("synchronous"), Ok(i64::into(expected)));
        assert_eq!(ask("journal_mode"), Ok("wal".to_owned().into()));
        assert_eq!(ask("locking_mode"), Ok("exclusive".to_owned().into()));
        assert_eq!(ask("page_size"), Ok(1024.into()));
    }
}

fn delivery(id: u64, session: u64, message: u64) -> DeliveryRecord {
    DeliveryRecord {
        id,
        session,
        message: Some(message),
        packet_id: 0,
        qos: QoS::ExactlyOnce,
        retain: false,
        identifiers: vec![1, 268_435_455],
    }
}

fn subscription(session: u64, filter: &str) -> SubscriptionRecord {
    SubscriptionRecord {
        session,
        filter: filter.to_owned(),
        options: 0,
        identifier: 0,
    }
}

/// An exchange goes on in its row, and what a disk makes of the row is found at each step.
#[test]
fn a_delivery_is_checked_as_it_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let mut connection = new_database(&path);
    let mut expected = batch(vec![session(1, "a")], vec![message(2, 1)]);
    // Identifiers of more than 32 bits as well.
    let large = (1 << 40) + 7;
    expected.deliveries = vec![delivery(3, 1, 2), delivery(4, 1, large)];
    write(&mut connection, &expected).expect("written");
    for (packet_id, is_handed_over) in [(1, false), (65_535, false), (258, false), (9, true)] {
        let progress = expected.deliveries.iter_mut().map(|it| {
            it.packet_id = packet_id;
            it.message = it.message.filter(|_| !is_handed_over);
            (it.id, packet_id, is_handed_over)
        });
        let batch = Batch {
            progress: progress.collect(),
            ..Batch::default()
        };
        write(&mut connection, &batch).expect("written");
        let mut tally = Tally::default();
        assert_eq!(read_what_can_be(&connection, &mut tally), expected);
        assert!(tally.losses.is_empty(), "{:?}", tally.losses);
        for change in ["message = 77", "packet_id = packet_id + 1", "session = 2"] {
            let transaction = connection.transaction().expect("begun");
            let sql = format!("UPDATE delivery SET {change} WHERE id = 3");
            transaction.execute(&sql, []).expect("changed");
            let found = read_what_can_be(&transaction, &mut tally);
            assert_eq!(found.deliveries, expected.deliveries[1..], "{change}");
            transaction.rollback().expect("taken back");
        }
    }
}

/// What lost its session or its message is not taken for that of another later.
#[test]
fn identifiers_of_lost_rows_are_not_used_again() {
    let will = WillRecord {
        message: 50,
        delay_seconds: 0,
        message_expiry_seconds: None,
    };
    let received = ReceivedRecord {
        id: 1,
        session: 50,
        packet_id: 1,
        message: 2,
    };
    let lost_message = ReceivedRecord {
        session: 2,
        message: 50,
        ..received
    };
    let mut with_will = session(1, "a");
    with_will.will = Some(will);
    let rows = Batch::default;
    for lost in [
        batch(vec![with_will], vec![]),
        Batch {
            subscriptions: vec![subscription(50, "f"), subscription(3, "g")],
            ..rows()
        },
        Batch {
            deliveries: vec![delivery(2, 50, 1)],
            ..rows()
        },
        Batch {
            deliveries: vec![delivery(2, 1, 50)],
            ..rows()
        },
        Batch {
            received: vec![received],
            ..rows()
        },
        Batch {
            received: vec![lost_message],
            ..rows()
        },
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut connection = new_database(&directory.path().join("t.midge"));
        write(&mut connection, &lost).expect("written");
        assert_eq!(last_id(&connection).expect("it is sound"), 50, "{lost:?}");
    }
}

/// After the largest number there would be no other.
#[test]
fn identifiers_have_an_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let mut connection = new_database(&path);
    let far = batch(
        vec![session(i64::MAX as u64, "far"), session(1, "near")],
        vec![],
    );
    write(&mut connection, &far).expect("written");
    let error = last_id(&connection).expect_err("too large");
    assert!(matches!(error, RestoreError::Damaged(_)), "{error:?}");
    drop(connection);
    let salvaged = salvage(&path, Sync::Full).expect("saved");
    assert_eq!(last_id(&salvaged.opened.connection).expect("sound"), 1);
}

/// By how much the system's clock is ahead of what is stored, is stored; where that is lost, it is told.
#[test]
fn the_clock_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let mut connection = new_database(&path);
    for ahead in [-5, 1_700_000_000_000] {
        let it = Batch {
            clock_ahead: Some(ahead),
            ..Batch::default()
        };
        write(&mut connection, &it).expect("written");
        assert_eq!(schema::clock_ahead(&connection), Ok(Some(ahead)));
    }
    connection
        .execute_batch("UPDATE clock SET ahead = ahead + 1")
        .expect("spoilt");
    assert_eq!(schema::clock_ahead(&connection), Ok(None));
    drop(connection);
    let opened = open(&path, Sync::Full).expect("it opens");
    let mut tally = Tally::default();
    assert_eq!(
        read_what_can_be(&opened.connection, &mut tally),
        Batch::default()
    );
    assert!(tally.losses[0].contains("clock"), "{:?}", tally.losses);
}

/// Rows that come again, as where pages refer to each other in circles, keep nothing from being saved.
#[test]
fn rows_that_come_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.midge");
    let mut connection = new_database(&path);
    let mut rows = batch(vec![session(1, "a")], vec![message(2, 1), message(3, 2)]);
    rows.subscriptions = vec![subscription(1, "f"), subscription(9, "of nobody")];
    write(&mut connection, &rows).expect("written");
    connection
        .execute_batch(
            "CREATE TABLE twice AS SELECT * FROM message UNION ALL SELECT * FROM message;
             DROP TABLE message; ALTER TABLE twice RENAME TO message;",
        )
        .expect("spoilt");
    drop(connection);
    let salvaged = salvage(&path, Sync::Full).expect("saved");
    rows.subscriptions.pop();
    let mut tally = Tally::default();
    assert_eq!(
        read_what_can_be(&salvaged.opened.connection, &mut tally),
        rows
    );
    assert!(tally.losses.is_empty(), "{:?}", tally.losses);
}

/// Where the database is not what was written to it, memory is right.
#[test]
fn a_database_that_contradicts_is_made_anew() {
    for sql in [
        "INSERT INTO message SELECT 9, topic, properties, payload, qos, retain, expires, retained, source_client_id,
         source_user_name, source_proof, source_listener_port, checksum FROM message",
        "DROP TABLE message",
        "ALTER TABLE message DROP COLUMN expires",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t.midge");
        let mut connection = new_database(&path);
        write(&mut connection, &batch(vec![], vec![message(1, 1)])).expect("written");
        connection.execute_batch(sql).expect("spoilt");
        let mut store =
            Store::start(connection, &path, &Persistence::default(), || ()).expect("a thread");
        store.commit(batch(vec![], vec![message(9, 1)]));
        assert_eq!(store.wait(), None);
        assert!(store.wants_snapshot(), "{sql}");
        let snapshot = batch(vec![], vec![message(1, 1), message(9, 1)]);
        store.rebuild(snapshot.clone());
        assert_eq!(store.wait(), Some(Committed::Everything));
        drop(store);
        assert_eq!(contents(&path), snapshot);
    }
}

/// Nothing is said to be stored in files that nobody will find again.
#[test]
fn a_database_that_somebody_removes_is_made_anew() {
    for ending in ["", "-wal"] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("t.midge");
        let connection = new_database(&path);
        let mut store =
            Store::start(connection, &path, &Persistence::default(), || ()).expect("a thread");
        store.commit(batch(vec![session(1, "a")], vec![]));
        assert_eq!(store.wait(), Some(Committed::Batch));
        fs::remove_file(open::with_ending(&path, ending)).expect("removed");
        store.commit(batch(vec![session(2, "b")], vec![]));
        assert_eq!(store.wait(), None);
        assert!(store.wants_snapshot(), "{ending}");
        let snapshot = batch(vec![session(1, "a"), session(2, "b")], vec![]);
        store.rebuild(snapshot.clone());
        assert_eq!(store.wait(), Some(Committed::Everything));
        store.commit(batch(vec![session(3, "c")], vec![]));
        assert_eq!(store.wait(), Some(Committed::Batch));
        drop(store);
        assert_eq!(contents(&path).sessions.len(), 3);
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_damage() {
    for (code, expected) in [
        (ffi::SQLITE_IOERR_READ, true),
        (ffi::SQLITE_IOERR_WRITE, false),
        (ffi::SQLITE_IOERR_FSYNC, false),
        (ffi::SQLITE_FULL, false),
        (ffi::SQLITE_CORRUPT, true),
    ] {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        assert_eq!(is_damage(&error), expected, "{error}");
    }
}
