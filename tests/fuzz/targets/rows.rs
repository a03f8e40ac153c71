//! The store's rows: records with any content, and rows in which any column was changed afterwards.
//!
//! 1. What is damaged is found; what is not makes a broker whose invariants hold, whose clients can come back, and
//!    whose changes can be stored.
//! 2. What can be read of a damaged database makes a database that is not damaged.

use super::Bytes;
use super::world::World;
use midge::auth::Auth;
use midge::broker::Counts;
use midge::broker::journal::{
    Batch, DeliveryRecord, MessageRecord, Owner, ProofKind, ReceivedRecord, SessionRecord, Source,
    SubscriptionRecord, WillRecord,
};
use midge::config::Config;
use midge::mqtt::{Connect, Properties, ProtocolVersion, QoS};
use midge::persistence;
use midge::persistence::restore::{self, RestoreError};
use rusqlite::Connection as Database;
use rusqlite::types::Value;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

/// The tables, with the columns that a row can be changed in.
const COLUMNS: [(&str, &[&str]); 5] = [
    (
        "session",
        &[
            "client_id",
            "user_name",
            "proof",
            "listener_port",
            "expiry_seconds",
            "ends",
            "will_message",
            "will_delay",
            "will_expiry",
            "will_due",
            "next_packet_id",
            "checksum",
            "id",
        ],
    ),
    (
        "subscription",
        &["session", "filter", "options", "identifier", "checksum"],
    ),
    (
        "message",
        &[
            "topic",
            "properties",
            "payload",
            "qos",
            "retain",
            "expires",
            "retained",
            "source_client_id",
            "source_user_name",
            "source_proof",
            "source_listener_port",
            "checksum",
            "id",
        ],
    ),
    (
        "delivery",
        &[
            "session",
            "message",
            "packet_id",
            "qos",
            "retain",
            "identifiers",
            "checksum",
            "id",
        ],
    ),
    (
        "received",
        &["session", "packet_id", "message", "checksum", "id"],
    ),
];

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::from_text("fuzz.conf", "listener 1883\nallow_anonymous true\n")
        .expect("a good configuration")
});

/// A database in memory with its tables and no rows.
pub fn new_database() -> Database {
    database_of(&Batch::default()).expect("tables can be made")
}

fn database_of(batch: &Batch) -> rusqlite::Result<Database> {
    let mut database = Database::open_in_memory()?;
    persistence::create(&mut database, batch)?;
    Ok(database)
}

/// A broker that begins with `batch`, and how much of it was put back.
pub fn restore_from(batch: &Batch) -> Result<Counts, RestoreError> {
    let mut database = database_of(batch).expect("a batch can be stored");
    live_on(&mut database)
}

/// Stores records as `bytes` say, changes rows, and begins with what that is.
pub fn feed(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let batch = batch(&mut bytes);
    let Ok(mut database) = database_of(&batch) else {
        return; // an identifier that SQLite cannot have
    };
    while !bytes.is_empty() {
        change(&database, &mut bytes);
    }
    if live_on(&mut database).is_err() {
        let mut tally = restore::Tally::default();
        let saved = restore::read_what_can_be(&database, &mut tally);
        restore_from(&saved).expect("what was saved can be read");
    }
}

/// A broker begins with `database`, its clients come, and everything that changes is stored.
fn live_on(database: &mut Database) -> Result<Counts, RestoreError> {
    let mut world = World::new(CONFIG.clone(), Auth::default());
    let clocks = world.clocks();
    let counts = restore::restore(database, &mut world.broker, clocks)?;
    world.broker.check_invariants();
    let snapshot = world.broker.take_snapshot(clocks);
    world.broker.all_committed(world.now);
    for (number, session) in snapshot.sessions.iter().take(4).enumerate() {
        let version = match number % 2 {
            0 => ProtocolVersion::V5,
            _ => ProtocolVersion::V311,
        };
        let mut connect = Vec::new();
        Connect {
            version,
            is_bridge: false,
            clean_start: false,
            keep_alive: 0,
            properties: Properties::NONE,
            client_id: &session.client_id,
            will: None,
            user_name: session.owner.user_name.as_deref(),
            password: None,
        }
        .encode(&mut connect);
        world.receive(number, &connect);
        world.turn();
    }
    store(&mut world, database);
    world.turn();
    for seconds in [1, 3600, 1 << 32] {
        world.pass(Duration::from_secs(seconds));
        world.turn();
        store(&mut world, database);
    }
    Ok(counts)
}

fn store(world: &mut World, database: &mut Database) {
    if let Some(batch) = world.broker.take_batch(world.clocks()) {
        persistence::write(database, &batch).expect("a batch can be written");
        world.broker.committed(world.now);
    }
}

/// Mostly small, so that records refer to each other.
fn number(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.u8() {
        small @ 0..=0xef => u64::from(small & 0x0f),
        0xf0..=0xf3 => u64::from(u32::MAX),
        0xf4..=0xf7 => i64::MAX as u64 / 2,
        _ => u64::from(bytes.u16()) << 20,
    }
}

/// A moment: past, soon, or far.
fn moment(bytes: &mut Bytes<'_>) -> Option<u64> {
    match bytes.u8() {
        0..=0x7f => None,
        byte @ 0x80..=0xbf => Some(1_700_000_000_000 + (u64::from(byte & 0x3f) << 8)),
        0xc0..=0xdf => Some(number(bytes)),
        _ => Some(i64::MAX as u64),
    }
}

fn text(bytes: &mut Bytes<'_>) -> String {
    let length = usize::from(bytes.u8() & 0x1f);
    String::from_utf8_lossy(bytes.take(length)).into_owned()
}

fn owner(bytes: &mut Bytes<'_>) -> Owner {
    let byte = bytes.u8();
    Owner {
        user_name: (byte & 4 != 0).then(|| text(bytes)),
        proof: match byte & 3 {
            1 => ProofKind::Password,
            2 => ProofKind::Certificate,
            _ => ProofKind::None,
        },
        listener_port: if byte & 8 != 0 { 1883 } else { byte.into() },
    }
}

fn qos(byte: u8) -> QoS {
    QoS::from_bits(byte).unwrap_or(QoS::ExactlyOnce)
}

/// Records until a step says that there are enough.
fn batch(bytes: &mut Bytes<'_>) -> Batch {
    let mut batch = Batch::default();
    let mut keys = BTreeSet::new();
    while !bytes.is_empty() {
        let kind = bytes.u8() % 6;
        let id = if kind == 2 { 0 } else { number(bytes) };
        if kind != 2 && kind != 5 && !keys.insert((kind, id)) {
            continue;
        }
        match kind {
            0 => batch.sessions.push(SessionRecord {
                id,
                client_id: text(bytes),
                owner: owner(bytes),
                expiry_seconds: u32::from(bytes.u8()).wrapping_sub(1),
                ends: moment(bytes),
                will: (bytes.u8() & 1 != 0).then(|| WillRecord {
                    message: number(bytes),
                    delay_seconds: bytes.u16().into(),
                    message_expiry_seconds: moment(bytes).map(|it| it as u32),
                }),
                will_due: moment(bytes),
                next_packet_id: bytes.u16(),
            }),
            1 => {
                let (topic, properties, payload) = (text(bytes), bytes.some(), bytes.some());
                batch.messages.push(MessageRecord {
                    id,
                    bytes: [topic.as_bytes(), properties, payload].concat().into(),
                    topic_length: topic.len() as u16,
                    properties_length: properties.len() as u32,
                    qos: qos(bytes.u8()),
                    retain: bytes.u8() & 1 != 0,
                    expires: moment(bytes),
                    retained: (bytes.u8() & 1 != 0).then(|| Source {
                        client_id: (bytes.u8() & 1 != 0).then(|| text(bytes)),
                        owner: owner(bytes),
                    }),
                });
            }
            2 => batch.subscriptions.push(SubscriptionRecord {
                session: number(bytes),
                filter: text(bytes),
                options: bytes.u8(),
                identifier: number(bytes) as u32,
            }),
            3 => batch.deliveries.push(DeliveryRecord {
                id,
                session: number(bytes),
                message: (bytes.u8() & 3 != 0).then(|| number(bytes)),
                packet_id: bytes.u16(),
                qos: qos(bytes.u8()),
                retain: bytes.u8() & 1 != 0,
                identifiers: bytes.some().iter().map(|&it| u32::from(it) << 21).collect(),
            }),
            4 => batch.received.push(ReceivedRecord {
                id,
                session: number(bytes),
                packet_id: bytes.u16(),
                message: number(bytes),
            }),
            _ => break,
        }
    }
    batch
}

/// Sets a column of some row to a value of any type.
fn change(database: &Database, bytes: &mut Bytes<'_>) {
    let (table, columns) = COLUMNS[usize::from(bytes.u8()) % COLUMNS.len()];
    let column = columns[usize::from(bytes.u8()) % columns.len()];
    let value = match bytes.u8() % 6 {
        0 => Value::Null,
        1 => Value::Integer(number(bytes) as i64),
        2 => Value::Integer(-(number(bytes) as i64)),
        3 => Value::Real(f64::from(bytes.u16()) / 3.0),
        4 => Value::Text(text(bytes)),
        _ => Value::Blob(bytes.some().to_vec()),
    };
    // Of no table of ours: a column that must not be NULL, or a key that is there, stays as it is.
    let sql = format!("UPDATE OR IGNORE {table} SET {column} = ?1");
    drop(database.execute(&sql, [value]));
}

/// A session with everything, and one of which a part was changed.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    // Session 1, named c, that does not end; message 2 on a/b, retained; session 3 named d with message 2 as its will.
    whole.extend(b"\x00\x01\x01c\x08\x00\x00\x00\x00\x00\x05");
    whole.extend(b"\x01\x02\x03a/b\x00\x02hi\x02\x01\x00\x01\x01\x01c\x08");
    whole.extend(b"\x00\x03\x01d\x0c\x01u\xff\x00\x01\x02\x00\x05\x00\x80\x00\x07");
    // A subscription, what was sent and is acknowledged, what waits, what was received.
    whole.extend(b"\x02\x01\x03a/#\x02\x07");
    whole.extend(b"\x03\x04\x01\x01\x02\x00\x01\x01\x00\x01\x01");
    whole.extend(b"\x03\x05\x01\x00\x00\x02\x02\x00\x00");
    whole.extend(b"\x03\x06\x01\x01\x02\x00\x00\x02\x01\x00");
    whole.extend(b"\x04\x07\x01\x00\x09\x02");
    whole.push(5);
    let changed = |change: &[u8]| [&whole[..], change].concat();
    let mut seeds = vec![whole.clone()];
    for table in 0..COLUMNS.len() as u8 {
        for column in 0..COLUMNS[usize::from(table)].1.len() as u8 {
            seeds.push(changed(&[table, column, column % 6, 3, 2, 1]));
        }
    }
    seeds
}
