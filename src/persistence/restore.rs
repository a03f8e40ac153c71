//! From a database to a broker at the start; and, where a database is damaged, what can be saved of it.
//!
//! 1. Nothing is left out in silence: a row that cannot be read makes the database a damaged one.
//! 2. A damaged database is put aside under another name, never changed or removed; what can be read of it goes into a new
//!    one, and the log says what could not.

use super::open::{LOG, OpenError, Opened, open, private, remove, replace, with_ending};
use super::schema::{self, FromRow};
use super::{is_another, is_damage, reason};
use crate::broker::journal::{
    Batch, DeliveryRecord, MessageRecord, ReceivedRecord, SessionRecord, SubscriptionRecord,
};
use crate::broker::{Broker, Clocks, Counts};
use crate::config::log_target::{INFORMATION, NOTICE};
use crate::config::{Sync, system_reason};
use rusqlite::{Connection, Statement};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long loads say how far they are, this often.
const PROGRESS: Duration = Duration::from_secs(1);

/// Why a broker could not be put back.
#[derive(Debug)]
pub enum RestoreError {
    /// The database is damaged.
    Damaged(String),
    /// It could not be read, for another reason.
    Unreadable(rusqlite::Error),
}

impl From<rusqlite::Error> for RestoreError {
    fn from(error: rusqlite::Error) -> RestoreError {
        match is_damage(&error) || is_another(&error) {
            true => RestoreError::Damaged(error.to_string()),
            false => RestoreError::Unreadable(error),
        }
    }
}

/// Puts everything in the database back into `broker`, which is new.
/// # Errors
/// Where a row cannot be read; the broker has a part of it all then, and is not to be used.
pub fn restore(
    connection: &Connection,
    broker: &mut Broker,
    clocks: Clocks,
) -> Result<Counts, RestoreError> {
    let mut restoring = broker.begin_restoring(last_id(connection)?, clocks);
    match schema::clock_ahead(connection)? {
        Some(ahead) => restoring.clock(ahead),
        None => {
            let what = "the row of table clock is not what was written".to_owned();
            return Err(RestoreError::Damaged(what));
        }
    }
    let mut progress = Progress::begin(connection)?;
    each_row(connection, |record: MessageRecord| {
        progress.step();
        restoring.message(record);
    })?;
    each_row(connection, |record: SessionRecord| {
        progress.step();
        restoring.session(record);
    })?;
    each_row(connection, |record: SubscriptionRecord| {
        progress.step();
        restoring.subscription(&record);
    })?;
    each_row(connection, |record: DeliveryRecord| {
        progress.step();
        restoring.delivery(&record);
    })?;
    each_row(connection, |record: ReceivedRecord| {
        progress.step();
        restoring.received(&record);
    })?;
    Ok(restoring.finish())
}

/// The largest identifier that a row ever had, as far as that can still be told: also from what refers to a row that is lost,
/// so that nothing new comes into its place.
pub(super) fn last_id(connection: &Connection) -> Result<u64, RestoreError> {
    let mut last = 0;
    for (table, column) in [
        ("message", "id"),
        ("session", "id"),
        ("session", "will_message"),
        ("subscription", "session"),
        ("delivery", "id"),
        ("delivery", "session"),
        ("delivery", "message"),
        ("received", "id"),
        ("received", "session"),
        ("received", "message"),
    ] {
        let sql = format!("SELECT coalesce(max({column}), 0) FROM {table}");
        last = last.max(connection.query_row(&sql, [], |row| row.get(0))?);
    }
    match last <= schema::ID_MAX {
        true => Ok(last),
        false => Err(RestoreError::Damaged(format!(
            "it has a row {last}, where {} is the last there can be",
            schema::ID_MAX
        ))),
    }
}

fn each_row<T: FromRow>(
    connection: &Connection,
    mut take: impl FnMut(T),
) -> Result<(), RestoreError> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {}", T::TABLE))?;
    let mut rows = statement.query([])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let Some(record) = T::from_row(row)? else {
            let what = format!("a row of table {} is not what was written", T::TABLE);
            return Err(RestoreError::Damaged(what));
        };
        // Where pages refer to each other in circles, rows come again.
        let id: u64 = row.get(0)?;
        if last.is_some_and(|last| id < last || (id == last && T::IS_NUMBERED)) {
            let what = format!("the rows of table {} are not in their order", T::TABLE);
            return Err(RestoreError::Damaged(what));
        }
        last = Some(id);
        take(record);
    }
    Ok(())
}

/// Says how far a long load is.
struct Progress {
    total: u64,
    done: u64,
    next: Instant,
}

impl Progress {
    fn begin(connection: &Connection) -> rusqlite::Result<Progress> {
        let mut total = 0;
        for table in schema::TABLE_NAMES {
            let sql = format!("SELECT count(*) FROM {table}");
            total += connection.query_row(&sql, [], |row| row.get::<_, u64>(0))?;
        }
        let next = Instant::now() + PROGRESS;
        Ok(Progress {
            total,
            done: 0,
            next,
        })
    }

    fn step(&mut self) {
        self.done += 1;
        // The clock is not asked for each row.
        if self.done.is_multiple_of(4096) && self.next <= Instant::now() {
            self.next += PROGRESS;
            let (done, total) = (self.done, self.total);
            log::info!(
                target: INFORMATION,
                "Loading: {done} of {total} rows ({} %).",
                done * 100 / total.max(1)
            );
        }
    }
}

/// What was saved of a damaged database.
#[derive(Debug)]
pub struct Salvaged {
    /// The new database that has it.
    pub opened: Opened,
    /// Where the damaged one is now.
    pub aside: PathBuf,
}

/// Puts the damaged database at `path` aside and makes a new one of what can be read of it.
/// # Errors
/// Where there is no room for it, or files cannot be renamed; the damaged database is where it was then.
pub fn salvage(path: &Path, sync: Sync) -> Result<Salvaged, OpenError> {
    let mut tally = Tally::default();
    // From a copy: SQLite may write to what it opens, and the damaged file is to stay as it was found.
    let copy = with_ending(path, "-copy");
    let batch = copy_of(path, &copy, &mut tally).map(|()| match Connection::open(&copy) {
        Ok(connection) => {
            // Otherwise it shares memory in one more file. Where this fails, nothing can be read either.
            let _ = connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE");
            read_what_can_be(&connection, &mut tally)
        }
        Err(_) => Batch::default(),
    });
    let is_removed = remove(&copy);
    let mut batch = batch
        .and_then(|batch| is_removed.map(|()| batch))
        .map_err(|error| OpenError::Other {
            path: path.to_owned(),
            reason: format!(
                "it is damaged, and what can be read cannot be saved: {}",
                system_reason(&error)
            ),
        })?;
    let sessions: HashSet<u64> = batch.sessions.iter().map(|it| it.id).collect();
    let before = batch.subscriptions.len();
    batch
        .subscriptions
        .retain(|it| sessions.contains(&it.session));
    let without = before - batch.subscriptions.len();
    if without > 0 {
        let line = format!("{without} subscriptions of sessions that could not be read");
        tally.losses.push(line);
    }
    let aside = replace(path, sync, &batch)?;
    let opened = open(path, sync)?;
    log::info!(
        target: NOTICE,
        "Saved from it: {} sessions, {} subscriptions, {} messages and {} deliveries. The damaged file is {} now.",
        batch.sessions.len(),
        batch.subscriptions.len(),
        batch.messages.len(),
        batch.deliveries.len() + batch.received.len(),
        aside.display()
    );
    for line in tally.losses {
        log::warn!("Warning: Lost with it: {line}.");
    }
    Ok(Salvaged { opened, aside })
}

/// Copies the database with its log, as far as it can be read.
fn copy_of(path: &Path, copy: &Path, tally: &mut Tally) -> io::Result<()> {
    remove(copy)?;
    for ending in ["", LOG] {
        match File::open(with_ending(path, ending)) {
            Ok(from) => {
                let to = private().create(true).open(with_ending(copy, ending))?;
                let unreadable = copy_blocks(&from, from.metadata()?.len(), &to)?;
                if unreadable > 0 {
                    let name = with_ending(path, ending);
                    let name = name.display();
                    let line = format!("{unreadable} bytes of {name} that the disk cannot read");
                    tally.losses.push(line);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What disks read and lose at once.
const BLOCK_BYTES: usize = 4096;

/// Copies block by block, with zeros in the place of what cannot be read: how many bytes that is.
fn copy_blocks(from: &impl FileExt, length: u64, to: &File) -> io::Result<u64> {
    let mut block = [0; BLOCK_BYTES];
    let mut unreadable = 0;
    for offset in (0..length).step_by(BLOCK_BYTES) {
        let there = usize::try_from(length - offset).map_or(BLOCK_BYTES, |it| it.min(BLOCK_BYTES));
        let block = &mut block[..there];
        if from.read_exact_at(block, offset).is_err() {
            block.fill(0);
            unreadable += there as u64;
        }
        to.write_all_at(block, offset)?;
    }
    Ok(unreadable)
}

/// What could not be read.
#[derive(Debug, Default)]
pub struct Tally {
    /// A line for each table that has lost something.
    pub losses: Vec<String>,
}

/// Everything in the database that can be read and is what was written.
pub fn read_what_can_be(connection: &Connection, tally: &mut Tally) -> Batch {
    let clock_ahead = schema::clock_ahead(connection).ok().flatten();
    if clock_ahead.is_none() {
        let line = "what is known of the system's clock: expiry may come early or late";
        tally.losses.push(line.to_owned());
    }
    Batch {
        clock_ahead: clock_ahead.filter(|&ahead| ahead != 0),
        messages: readable(connection, "id", tally),
        sessions: readable(connection, "id", tally),
        subscriptions: readable(connection, "session, filter", tally),
        deliveries: readable(connection, "id", tally),
        received: readable(connection, "id", tally),
        ..Batch::default()
    }
}

/// The rows of a table from its beginning to the first place that cannot be read, and from its end back to the last one.
fn readable<T: FromRow + HasKey>(
    connection: &Connection,
    order: &str,
    tally: &mut Tally,
) -> Vec<T> {
    let table = T::TABLE;
    let mut bad = 0u64;
    let mut read = |sql: String, stop: Option<&T>| -> (Vec<T>, Option<rusqlite::Error>) {
        let mut found: Vec<T> = Vec::new();
        let statement = connection.prepare(&sql);
        let result = statement
            .and_then(|mut statement| rows_until(&mut statement, &mut found, &mut bad, stop));
        (found, result.err())
    };
    let (mut found, error) = read(format!("SELECT * FROM {table} ORDER BY {order}"), None);
    if let Some(error) = error {
        let back = order
            .split(", ")
            .map(|column| format!("{column} DESC"))
            .collect::<Vec<_>>();
        let sql = format!("SELECT * FROM {table} ORDER BY {}", back.join(", "));
        let (mut behind, _) = read(sql, found.last());
        behind.reverse();
        found.extend(behind);
        tally.losses.push(format!(
            "part of the table {table}, of which {} rows could be read ({})",
            found.len(),
            reason(&error)
        ));
    }
    // Where pages refer to each other in circles, a row is found more than once.
    let before = found.len();
    found.sort_by(T::by_key);
    found.dedup_by(|second, first| T::by_key(second, first).is_eq());
    bad += (before - found.len()) as u64;
    if bad > 0 {
        tally.losses.push(format!(
            "{bad} rows of the table {table} that are not what was written"
        ));
    }
    found
}

/// What tells rows of a table apart.
trait HasKey {
    fn by_key(&self, other: &Self) -> Ordering;
}

macro_rules! has_key {
    ($($record:ty: $($field:ident),+;)+) => {
        $(impl HasKey for $record {
            fn by_key(&self, other: &Self) -> Ordering {
                Ordering::Equal$(.then_with(|| self.$field.cmp(&other.$field)))+
            }
        })+
    };
}

has_key! {
    MessageRecord: id;
    SessionRecord: id;
    SubscriptionRecord: session, filter;
    DeliveryRecord: id;
    ReceivedRecord: id;
}

fn rows_until<T: FromRow + HasKey>(
    statement: &mut Statement<'_>,
    found: &mut Vec<T>,
    bad: &mut u64,
    stop: Option<&T>,
) -> rusqlite::Result<()> {
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match T::from_row(row) {
            Ok(Some(record)) if stop.is_some_and(|stop| stop.by_key(&record).is_ge()) => {
                return Ok(());
            }
            Ok(Some(record)) => found.push(record),
            // One row is bad, and the next ones need not be.
            Ok(None) => *bad += 1,
            Err(error) if is_damage(&error) && error.sqlite_error_code().is_none() => *bad += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a block that cannot be read.
    struct Worn(Vec<u8>);

    impl FileExt for Worn {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if offset == BLOCK_BYTES as u64 {
                return Err(io::ErrorKind::Other.into());
            }
            let there = &self.0[offset as usize..];
            let length = there.len().min(buffer.len());
            buffer[..length].copy_from_slice(&there[..length]);
            Ok(length)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn what_cannot_be_read_is_copied_around() {
        let copy = tempfile::tempfile().expect("a file");
        let worn = Worn(vec![7; 3 * BLOCK_BYTES + 5]);
        let unreadable = copy_blocks(&worn, worn.0.len() as u64, &copy).expect("copied");
        assert_eq!(unreadable, BLOCK_BYTES as u64);
        let mut expected = worn.0;
        expected[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
        let mut found = vec![1; expected.len()];
        copy.read_exact_at(&mut found, 0).expect("all of it");
        assert!(found == expected);
    }
}
