//! The tables, and how a batch and its records become rows.
//!
//! 1. Every row has a checksum, of all but who published a message and whether it is retained: what a worn-out disk made of
//!    a row is found, not believed.
//! 2. A table's rows are appended in the order of their identifiers and found by them; there is no index to keep up, so that
//!    few pages change with a message.
//! 3. `session.client_id` names each session once. `delivery` is in the order of delivery in each session. A message is
//!    `retained` at most once for each topic. A `message` that nothing refers to may stay until the next start.

use crate::broker::journal::{
    Batch, DeliveryRecord, MessageRecord, Owner, ProofKind, ReceivedRecord, SessionRecord, Source,
    SubscriptionRecord, WillRecord,
};
use crate::mqtt::QoS;
use crate::mqtt::primitive::VARIABLE_BYTE_INTEGER_MAX;
use crc32fast::Hasher;
use rusqlite::{Connection, Row, Statement, Transaction, params};
use std::sync::LazyLock;

/// The version of the tables.
pub const VERSION: i64 = 1;

/// The last identifier a row can have: after it there are numbers enough for every broker.
pub const ID_MAX: u64 = 1 << 62;

/// Marks a database as ours: "MIDG".
pub const APPLICATION_ID: i64 = 0x4d49_4447;

const TABLES: &str = "
    CREATE TABLE session (
        id INTEGER PRIMARY KEY, client_id TEXT NOT NULL,
        user_name TEXT, proof INTEGER NOT NULL, listener_port INTEGER NOT NULL,
        expiry_seconds INTEGER NOT NULL, ends INTEGER,
        will_message INTEGER, will_delay INTEGER, will_expiry INTEGER, will_due INTEGER,
        next_packet_id INTEGER NOT NULL, checksum INTEGER NOT NULL);
    CREATE TABLE subscription (
        session INTEGER NOT NULL, filter TEXT NOT NULL, options INTEGER NOT NULL, identifier INTEGER NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (session, filter)) WITHOUT ROWID;
    CREATE TABLE message (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, properties BLOB, payload BLOB NOT NULL,
        qos INTEGER NOT NULL, retain INTEGER NOT NULL, expires INTEGER,
        retained INTEGER NOT NULL, source_client_id TEXT, source_user_name TEXT, source_proof INTEGER,
        source_listener_port INTEGER, checksum INTEGER NOT NULL);
    CREATE TABLE delivery (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, message INTEGER, packet_id INTEGER NOT NULL,
        qos INTEGER NOT NULL, retain INTEGER NOT NULL, identifiers BLOB, checksum INTEGER NOT NULL);
    CREATE TABLE received (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, packet_id INTEGER NOT NULL, message INTEGER NOT NULL,
        checksum INTEGER NOT NULL);
    CREATE TABLE clock (id INTEGER PRIMARY KEY, ahead INTEGER NOT NULL, checksum INTEGER NOT NULL);
";

/// The tables, in the order in which they are put back.
pub const TABLE_NAMES: [&str; 5] = ["message", "session", "subscription", "delivery", "received"];

/// Makes the tables in an empty database, as part of `transaction`.
/// # Errors
/// SQLite's.
pub fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(&format!(
        "{TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    ))
}

/// A checksum of fields; each is taken with its length, so that none runs into the next.
struct Checksum(Hasher);

impl Checksum {
    fn of(table: u8) -> Checksum {
        let mut hasher = Hasher::new();
        hasher.update(&[table]);
        Checksum(hasher)
    }

    fn number(mut self, number: u64) -> Checksum {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn maybe(self, number: Option<u64>) -> Checksum {
        self.number(number.map_or(0, |_| 1))
            .number(number.unwrap_or(0))
    }

    fn bytes(self, bytes: &[u8]) -> Checksum {
        let mut checksum = self.number(bytes.len() as u64);
        checksum.0.update(bytes);
        checksum
    }

    fn text(self, text: Option<&str>) -> Checksum {
        self.number(text.map_or(0, |_| 1))
            .bytes(text.unwrap_or("").as_bytes())
    }

    fn sum(self) -> i64 {
        self.0.finalize().into()
    }
}

fn sum_of_session(it: &SessionRecord) -> i64 {
    let checksum = Checksum::of(b's')
        .number(it.id)
        .text(Some(&it.client_id))
        .text(it.owner.user_name.as_deref())
        .number(it.owner.proof as u64)
        .number(it.owner.listener_port.into())
        .number(it.expiry_seconds.into())
        .maybe(it.ends)
        .maybe(it.will_due)
        .number(it.next_packet_id.into());
    let checksum = match &it.will {
        None => checksum,
        Some(will) => checksum
            .number(will.message)
            .number(will.delay_seconds.into())
            .maybe(will.message_expiry_seconds.map(u64::from)),
    };
    checksum.sum()
}

fn sum_of_message(it: &MessageRecord) -> i64 {
    Checksum::of(b'm')
        .number(it.id)
        .bytes(it.topic())
        .bytes(it.properties())
        .bytes(it.payload())
        .number(it.qos as u64)
        .number(it.retain.into())
        .maybe(it.expires)
        .sum()
}

/// What changes is laid over the checksum of the rest, so that it can be changed there: [`SENDING`] and [`HANDING_OVER`].
fn sum_of_delivery(it: &DeliveryRecord) -> i64 {
    let checksum = Checksum::of(b'd')
        .number(it.id)
        .number(it.session)
        .number(it.qos as u64)
        .number(it.retain.into());
    let identifiers = it.identifiers.iter();
    let sum = identifiers
        .fold(checksum, |sum, &identifier| sum.number(identifier.into()))
        .sum();
    let message = it.message.unwrap_or(0) & u64::from(u32::MAX);
    sum ^ integer(message) ^ i64::from(it.packet_id) << 16
}

/// SQL that changes the Packet Identifier of a delivery.
static SENDING: LazyLock<String> = LazyLock::new(|| {
    let sum = xor(&xor("checksum", "packet_id << 16"), "?2 << 16");
    format!("UPDATE delivery SET checksum = {sum}, packet_id = ?2 WHERE id = ?1")
});

/// The same, and PUBREC came.
static HANDING_OVER: LazyLock<String> = LazyLock::new(|| {
    let sum = xor(&xor("checksum", "packet_id << 16"), "?2 << 16");
    let sum = xor(&sum, "coalesce(message, 0) & 4294967295");
    format!("UPDATE delivery SET checksum = {sum}, packet_id = ?2, message = NULL WHERE id = ?1")
});

/// SQLite has AND and OR.
fn xor(a: &str, b: &str) -> String {
    format!("((({a}) | ({b})) - (({a}) & ({b})))")
}

fn sum_of_received(it: &ReceivedRecord) -> i64 {
    let checksum = Checksum::of(b'r').number(it.id).number(it.session);
    checksum
        .number(it.packet_id.into())
        .number(it.message)
        .sum()
}

fn sum_of_subscription(it: &SubscriptionRecord) -> i64 {
    let checksum = Checksum::of(b'f').number(it.session).text(Some(&it.filter));
    checksum
        .number(it.options.into())
        .number(it.identifier.into())
        .sum()
}

fn sum_of_clock(ahead: i64) -> i64 {
    Checksum::of(b'c').number(ahead as u64).sum()
}

/// [`Batch::clock_ahead`] of the last batch that had one; `None` where its row is not what was written.
/// # Errors
/// SQLite's.
pub fn clock_ahead(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let row = connection.query_row(
        "SELECT ahead, checksum FROM clock WHERE id = 0",
        [],
        |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)),
    );
    match row {
        Ok((ahead, sum)) => Ok(Some(ahead).filter(|&ahead| sum_of_clock(ahead) == sum)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

/// SQLite's integers have a sign; ours are never so large.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn maybe(number: Option<u64>) -> Option<i64> {
    number.map(integer)
}

/// Writes `batch` as part of `transaction`: what it removes first, then the rest.
/// # Errors
/// SQLite's.
pub fn write(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let removed = &batch.removed;
    remove(
        transaction,
        "DELETE FROM session WHERE id = ?",
        &removed.sessions,
    )?;
    remove(
        transaction,
        "DELETE FROM subscription WHERE session = ?",
        &removed.sessions,
    )?;
    remove(
        transaction,
        "DELETE FROM message WHERE id = ?",
        &removed.messages,
    )?;
    remove(
        transaction,
        "DELETE FROM delivery WHERE id = ?",
        &removed.deliveries,
    )?;
    remove(
        transaction,
        "DELETE FROM received WHERE id = ?",
        &removed.received,
    )?;
    let prepare = |sql: &str| transaction.prepare_cached(sql);
    if let Some(ahead) = batch.clock_ahead {
        let mut replace = prepare("REPLACE INTO clock VALUES (0, ?, ?)")?;
        replace.execute(params![ahead, sum_of_clock(ahead)])?;
    }
    let mut unsubscribe = prepare("DELETE FROM subscription WHERE session = ? AND filter = ?")?;
    for (session, filter) in &removed.subscriptions {
        unsubscribe.execute(params![integer(*session), filter])?;
    }
    let mut insert = prepare(
        "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for message in &batch.messages {
        insert_message(&mut insert, message)?;
    }
    let mut retain = prepare(
        "UPDATE message SET retained = 1, source_client_id = ?2, source_user_name = ?3, source_proof = ?4, \
         source_listener_port = ?5 WHERE id = ?1",
    )?;
    for (id, Source { client_id, owner }) in &batch.retained {
        let (proof, port) = (owner.proof as i64, owner.listener_port);
        retain.execute(params![
            integer(*id),
            client_id,
            owner.user_name,
            proof,
            port
        ])?;
    }
    remove(
        transaction,
        "UPDATE message SET retained = 0 WHERE id = ?",
        &batch.unretained,
    )?;
    let mut replace = prepare(
        "REPLACE INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for session in &batch.sessions {
        replace_session(&mut replace, session)?;
    }
    let mut subscribe = prepare("REPLACE INTO subscription VALUES (?, ?, ?, ?, ?)")?;
    for it in &batch.subscriptions {
        let (session, sum) = (integer(it.session), sum_of_subscription(it));
        subscribe.execute(params![session, it.filter, it.options, it.identifier, sum])?;
    }
    let mut deliver = prepare("INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    for it in &batch.deliveries {
        let bytes: Vec<u8> = it
            .identifiers
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        let identifiers = (!bytes.is_empty()).then_some(bytes);
        let (id, session, message) = (integer(it.id), integer(it.session), maybe(it.message));
        let (qos, sum) = (it.qos as u8, sum_of_delivery(it));
        deliver.execute(params![
            id,
            session,
            message,
            it.packet_id,
            qos,
            it.retain,
            identifiers,
            sum
        ])?;
    }
    let mut send = prepare(&SENDING)?;
    let mut hand_over = prepare(&HANDING_OVER)?;
    for &(id, packet_id, is_handed_over) in &batch.progress {
        let statement = if is_handed_over {
            &mut hand_over
        } else {
            &mut send
        };
        statement.execute(params![integer(id), packet_id])?;
    }
    let mut receive = prepare("INSERT INTO received VALUES (?, ?, ?, ?, ?)")?;
    for it in &batch.received {
        let (id, session, message) = (integer(it.id), integer(it.session), integer(it.message));
        receive.execute(params![
            id,
            session,
            it.packet_id,
            message,
            sum_of_received(it)
        ])?;
    }
    Ok(())
}

/// Runs `sql` for each of `ids`.
fn remove(transaction: &Transaction<'_>, sql: &str, ids: &[u64]) -> rusqlite::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(sql)?;
    ids.iter()
        .try_for_each(|&id| statement.execute([integer(id)]).map(drop))
}

fn insert_message(statement: &mut Statement<'_>, it: &MessageRecord) -> rusqlite::Result<()> {
    // As bytes: they were checked when they came, and are checked when they come back.
    let topic = rusqlite::types::ToSqlOutput::Borrowed(rusqlite::types::ValueRef::Text(it.topic()));
    let properties = Some(it.properties()).filter(|properties| !properties.is_empty());
    let source = it.retained.as_ref();
    let owner = source.map(|source| &source.owner);
    statement.execute(params![
        integer(it.id),
        topic,
        properties,
        it.payload(),
        it.qos as u8,
        it.retain,
        maybe(it.expires),
        source.is_some(),
        source.and_then(|source| source.client_id.as_ref()),
        owner.and_then(|owner| owner.user_name.as_ref()),
        owner.map(|owner| owner.proof as i64),
        owner.map(|owner| owner.listener_port),
        sum_of_message(it),
    ])?;
    Ok(())
}

fn replace_session(statement: &mut Statement<'_>, it: &SessionRecord) -> rusqlite::Result<()> {
    let will = it.will.as_ref();
    statement.execute(params![
        integer(it.id),
        it.client_id,
        it.owner.user_name,
        it.owner.proof as i64,
        it.owner.listener_port,
        it.expiry_seconds,
        maybe(it.ends),
        will.map(|will| integer(will.message)),
        will.map(|will| will.delay_seconds),
        will.and_then(|will| will.message_expiry_seconds),
        maybe(it.will_due),
        it.next_packet_id,
        sum_of_session(it),
    ])?;
    Ok(())
}

/// A row as it was read; `None` where its checksum says that it is not what was written.
pub type Read<T> = rusqlite::Result<Option<T>>;

/// A record that is read from a row of all columns.
pub trait FromRow: Sized {
    /// The table that has it.
    const TABLE: &'static str;

    /// Whether the first column tells its rows apart.
    const IS_NUMBERED: bool = true;

    /// The record in `row`.
    /// # Errors
    /// SQLite's, also where a column is of another type.
    fn from_row(row: &Row<'_>) -> Read<Self>;
}

fn sound<T>(record: T, sum: impl FnOnce(&T) -> i64, row: &Row<'_>, column: usize) -> Read<T> {
    let expected: i64 = row.get(column)?;
    Ok((sum(&record) == expected).then_some(record))
}

/// The identifier of a row.
fn id_in(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    maybe_id_in(row, column)?.ok_or_else(|| {
        let name = format!("column {column}");
        rusqlite::Error::InvalidColumnType(column, name, rusqlite::types::Type::Null)
    })
}

/// The identifier of a row that need not be.
fn maybe_id_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    match row.get(column)? {
        Some(id) if id > ID_MAX => Err(rusqlite::Error::IntegralValueOutOfRange(
            column,
            integer(id),
        )),
        id => Ok(id),
    }
}

fn qos_in(row: &Row<'_>, column: usize) -> rusqlite::Result<QoS> {
    let bits: u8 = row.get(column)?;
    QoS::from_bits(bits).ok_or(rusqlite::Error::IntegralValueOutOfRange(
        column,
        bits.into(),
    ))
}

/// User name, proof and port in three columns.
fn owner_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Owner> {
    Ok(Owner {
        user_name: row.get(column)?,
        proof: match row.get::<_, Option<u8>>(column + 1)? {
            Some(1) => ProofKind::Password,
            Some(2) => ProofKind::Certificate,
            _ => ProofKind::None,
        },
        listener_port: row.get::<_, Option<u16>>(column + 2)?.unwrap_or(0),
    })
}

impl FromRow for MessageRecord {
    const TABLE: &'static str = "message";

    fn from_row(row: &Row<'_>) -> Read<MessageRecord> {
        let topic = row.get_ref(1)?.as_bytes()?;
        let properties = row.get_ref(2)?.as_bytes_or_null()?.unwrap_or_default();
        let payload = row.get_ref(3)?.as_bytes()?;
        let mut bytes = Vec::with_capacity(topic.len() + properties.len() + payload.len());
        for part in [topic, properties, payload] {
            bytes.extend_from_slice(part);
        }
        let (Ok(topic_length), Ok(properties_length)) =
            (u16::try_from(topic.len()), u32::try_from(properties.len()))
        else {
            return Ok(None);
        };
        if bytes.len() > VARIABLE_BYTE_INTEGER_MAX as usize {
            return Ok(None); // no packet can have it
        }
        let is_retained: bool = row.get(7)?;
        let source = Source {
            client_id: row.get(8)?,
            owner: owner_in(row, 9)?,
        };
        let record = MessageRecord {
            id: id_in(row, 0)?,
            bytes: bytes.into(),
            topic_length,
            properties_length,
            qos: qos_in(row, 4)?,
            retain: row.get(5)?,
            expires: row.get(6)?,
            retained: is_retained.then_some(source),
        };
        sound(record, sum_of_message, row, 12)
    }
}

impl FromRow for SessionRecord {
    const TABLE: &'static str = "session";

    fn from_row(row: &Row<'_>) -> Read<SessionRecord> {
        let will = match maybe_id_in(row, 7)? {
            None => None,
            Some(message) => Some(WillRecord {
                message,
                delay_seconds: row.get(8)?,
                message_expiry_seconds: row.get(9)?,
            }),
        };
        let record = SessionRecord {
            id: id_in(row, 0)?,
            client_id: row.get(1)?,
            owner: owner_in(row, 2)?,
            expiry_seconds: row.get(5)?,
            ends: row.get(6)?,
            will,
            will_due: row.get(10)?,
            next_packet_id: row.get(11)?,
        };
        sound(record, sum_of_session, row, 12)
    }
}

impl FromRow for SubscriptionRecord {
    const TABLE: &'static str = "subscription";
    const IS_NUMBERED: bool = false;

    fn from_row(row: &Row<'_>) -> Read<SubscriptionRecord> {
        let record = SubscriptionRecord {
            session: id_in(row, 0)?,
            filter: row.get(1)?,
            options: row.get(2)?,
            identifier: row.get(3)?,
        };
        if record.identifier > VARIABLE_BYTE_INTEGER_MAX {
            return Ok(None);
        }
        sound(record, sum_of_subscription, row, 4)
    }
}

impl FromRow for DeliveryRecord {
    const TABLE: &'static str = "delivery";

    fn from_row(row: &Row<'_>) -> Read<DeliveryRecord> {
        let identifiers = row.get_ref(6)?.as_bytes_or_null()?.unwrap_or_default();
        let (identifiers, rest) = identifiers.as_chunks::<4>();
        let identifiers = identifiers.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let is_one = |identifier| (1..=VARIABLE_BYTE_INTEGER_MAX).contains(&identifier);
        if !rest.is_empty() || !identifiers.clone().all(is_one) {
            return Ok(None);
        }
        let record = DeliveryRecord {
            id: id_in(row, 0)?,
            session: id_in(row, 1)?,
            message: maybe_id_in(row, 2)?,
            packet_id: row.get(3)?,
            qos: qos_in(row, 4)?,
            retain: row.get(5)?,
            identifiers: identifiers.collect(),
        };
        sound(record, sum_of_delivery, row, 7)
    }
}

impl FromRow for ReceivedRecord {
    const TABLE: &'static str = "received";

    fn from_row(row: &Row<'_>) -> Read<ReceivedRecord> {
        let record = ReceivedRecord {
            id: id_in(row, 0)?,
            session: id_in(row, 1)?,
            packet_id: row.get(2)?,
            message: id_in(row, 3)?,
        };
        sound(record, sum_of_received, row, 4)
    }
}
