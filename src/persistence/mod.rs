//! What survives: the only room that knows SQLite.
//!
//! A [`Store`] is a database and the thread that commits to it. Batches go out one at a time, events come back, and the
//! poller is woken; the loop never waits for a disk. What stands in a batch is not known here: see `broker/journal.rs`.
//!
//! 1. A batch is one transaction: all of it is there after a crash, or nothing.
//! 2. With `persistence_sync full`, [`Event::Committed`] comes after the sync of what was written.
//! 3. A batch that cannot be written is tried again until it can: nothing is dropped, and nothing is told to be stored that
//!    is not.
//! 4. One process has the database: it is locked from the start to the end.

pub mod import;
pub mod look;
mod open;
pub mod restore;
pub mod schema;

use crate::broker::journal::Batch;
use crate::config::{Persistence, Sync, log_target::NOTICE};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use open::{OpenError, Opened, check_directory, close_as_it_is, open};

/// How long to wait before a batch that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The time between two commits at least, where nobody waits for the second.
const LAZY_INTERVAL: Duration = Duration::from_millis(100);

/// How long a broker that ends tries to write its last batch.
const LAST_TRIES: Duration = Duration::from_secs(10);

/// What the thread tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The batch is on disk.
    Committed,
    /// Everything is on disk, in a database made anew; the one before is there now.
    Rebuilt(PathBuf),
    /// It cannot be written now, for this reason.
    Failing(String),
    /// It cannot be written, since the database is damaged.
    Damaged(String),
    /// Batches are on disk, but in the database's log only, which grows with each, for this reason.
    LogGrows(String),
    /// What was in the log is in the database.
    LogEmptied,
}

/// What a commit that ended had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The oldest batch.
    Batch,
    /// A snapshot, and with it every batch that was taken.
    Everything,
}

enum Order {
    Commit(Box<Batch>),
    /// Make the database anew, with this in it.
    Rebuild(Box<Batch>),
    /// The broker ends: a batch that cannot be written is given up after some time.
    End,
}

/// A database, and the thread that writes to it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    orders: Sender<Order>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    /// Whether a batch is on its way to the disk.
    is_busy: bool,
    /// Whether the log was told that it does not get there.
    is_failing: bool,
    /// Whether the database is to be made anew.
    is_damaged: bool,
    commit_interval: Duration,
    last_commit: Option<Instant>,
}

impl Store {
    /// Gives `connection` a thread of its own, which calls `wake` after each event.
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        connection: Connection,
        path: &Path,
        settings: &Persistence,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Store> {
        let (orders, inbox) = mpsc::channel();
        let (outbox, events) = mpsc::channel();
        let writer = Writer {
            connection,
            inbox,
            outbox,
            wake,
            gives_up: None,
            replaced: None,
            log_grows: false,
            path: path.to_owned(),
            sync: settings.sync,
        };
        let thread = thread::Builder::new().name("store".to_owned());
        let thread = thread.spawn(move || writer.run())?;
        Ok(Store {
            path: path.to_owned(),
            orders,
            events,
            thread: Some(thread),
            is_busy: false,
            is_failing: false,
            is_damaged: false,
            commit_interval: settings.commit_interval,
            last_commit: None,
        })
    }

    /// How long to wait until the next batch is to be taken; `None` while one is on its way. What nobody waits for, such as
    /// that a message was acknowledged to us, may wait for others.
    pub fn ready_in(&self, is_waited_for: bool) -> Option<Duration> {
        if self.is_busy {
            return None;
        }
        let interval = match is_waited_for {
            true => self.commit_interval,
            false => self.commit_interval.max(LAZY_INTERVAL),
        };
        let since = self.last_commit.map(|last| last.elapsed());
        Some(since.map_or(Duration::ZERO, |since| interval.saturating_sub(since)))
    }

    /// Whether the database is damaged, and a snapshot is wanted for a new one.
    pub fn wants_snapshot(&self) -> bool {
        self.is_damaged && !self.is_busy
    }

    /// Whether the database is damaged, and was not made anew yet.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// Sends `batch` on its way; there is none on it.
    pub fn commit(&mut self, batch: Batch) {
        self.order(Order::Commit(Box::new(batch)));
    }

    /// Puts the database aside, and sends `snapshot` on its way into a new one.
    pub fn rebuild(&mut self, snapshot: Batch) {
        self.order(Order::Rebuild(Box::new(snapshot)));
    }

    fn order(&mut self, order: Order) {
        assert!(!self.is_busy, "one batch at a time");
        self.is_busy = true;
        self.last_commit = Some(Instant::now());
        self.orders
            .send(order)
            .expect("the thread runs as long as this");
    }

    /// What is on disk now of what was on its way. The log hears of what is in its way.
    pub fn take_committed(&mut self) -> Option<Committed> {
        while let Ok(event) = self.events.try_recv() {
            let committed = self.handle(event);
            if committed.is_some() {
                return committed;
            }
        }
        None
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something is on its way.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Waits for what is on its way, while the broker ends. `None` means that it is given up, since it could not be written
    /// for too long, or not at all.
    pub fn wait(&mut self) -> Option<Committed> {
        // Whoever does not take the order has ended already.
        let _ = self.orders.send(Order::End);
        while self.is_busy
            && let Ok(event) = self.events.recv()
        {
            let committed = self.handle(event);
            if committed.is_some() {
                return committed;
            }
        }
        None
    }

    fn handle(&mut self, event: Event) -> Option<Committed> {
        let path = self.path.display();
        match event {
            Event::Committed => {
                self.is_busy = false;
                if std::mem::take(&mut self.is_failing) {
                    log::info!(
                        target: NOTICE,
                        "{path} can be written again: everything that waited is stored."
                    );
                }
                Some(Committed::Batch)
            }
            Event::Rebuilt(aside) => {
                (self.is_busy, self.is_damaged, self.is_failing) = (false, false, false);
                let aside = aside.display();
                log::info!(
                    target: NOTICE,
                    "{path} was made anew: everything is stored in it. The damaged file is {aside} now."
                );
                Some(Committed::Everything)
            }
            Event::LogGrows(reason) => {
                log::warn!(
                    "Warning: What {path} is to hold gets no further than its log: {reason}. Nothing is lost, but the log grows \
                     with each change, until the disk is full."
                );
                None
            }
            Event::LogEmptied => {
                log::info!(target: NOTICE, "{path} holds everything again, and its log does not grow any more.");
                None
            }
            Event::Failing(reason) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    log::error!(
                        "Error: Unable to write to {path}: {reason}. Nothing is lost, but nothing that must be stored is \
                         acknowledged until it can be."
                    );
                }
                None
            }
            Event::Damaged(reason) => {
                (self.is_busy, self.is_damaged) = (false, true);
                log::error!(
                    "Error: The database {path} is damaged: {reason}. It is put aside, and made anew from memory."
                );
                None
            }
        }
    }
}

/// Ends the thread, which closes the database.
impl Drop for Store {
    fn drop(&mut self) {
        self.orders = mpsc::channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was told when it happened
        }
    }
}

struct Writer<W> {
    connection: Connection,
    path: PathBuf,
    sync: Sync,
    inbox: Receiver<Order>,
    outbox: Sender<Event>,
    wake: W,
    /// Where the damaged database is, once another has its place.
    replaced: Option<PathBuf>,
    /// Whether the log was told to grow.
    log_grows: bool,
    /// When it is over with trying.
    gives_up: Option<Instant>,
}

/// What a try came to.
enum Tried {
    Done,
    Again,
    Never,
}

impl<W: Fn()> Writer<W> {
    fn run(mut self) {
        while let Ok(order) = self.inbox.recv() {
            let is_done = match order {
                Order::End => {
                    self.gives_up = Some(Instant::now() + LAST_TRIES);
                    true
                }
                Order::Commit(batch) => self.insist(|writer| writer.commit(&batch)),
                Order::Rebuild(snapshot) => self.insist(|writer| writer.rebuild(&snapshot)),
            };
            if !is_done {
                return;
            }
        }
        // Whatever is in the log of the database goes to its place, and the log is removed.
        let _ = self.connection.close();
    }

    /// Tries something until it is done, or turns out to be hopeless. `false` means that the broker ends before.
    fn insist(&mut self, attempt: impl Fn(&mut Self) -> Tried) -> bool {
        while let Tried::Again = attempt(self) {
            match self.inbox.recv_timeout(RETRY) {
                Ok(Order::End) => self.gives_up = Some(Instant::now() + LAST_TRIES),
                Ok(_) => unreachable!("one batch at a time"),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.gives_up.is_some_and(|end| end <= Instant::now()) {
                return false;
            }
        }
        true
    }

    fn commit(&mut self, batch: &Batch) -> Tried {
        let (event, tried) = match write(&mut self.connection, batch) {
            // SQLite writes on to files without a name.
            Ok(()) if let Some(name) = open::missing(&self.path) => {
                let reason = format!("somebody removed {}", name.display());
                (Event::Damaged(reason), Tried::Never)
            }
            Ok(()) => (Event::Committed, Tried::Done),
            Err(error) if is_damage(&error) || is_another(&error) => {
                (Event::Damaged(error.to_string()), Tried::Never)
            }
            Err(error) => (Event::Failing(reason(&error)), Tried::Again),
        };
        self.tell(event);
        if let Tried::Done = tried {
            self.look_after_log();
        }
        tried
    }

    /// SQLite keeps to itself that it cannot carry what is in the log to its place.
    fn look_after_log(&mut self) {
        if !self.log_grows && open::log_length(&self.path) < open::LOG_BYTES_TOLD {
            return;
        }
        match open::empty_log(&self.connection) {
            Err(error) if !std::mem::replace(&mut self.log_grows, true) => {
                self.tell(Event::LogGrows(reason(&error)));
            }
            Ok(()) if std::mem::take(&mut self.log_grows) => self.tell(Event::LogEmptied),
            _ => {}
        }
    }

    fn rebuild(&mut self, snapshot: &Batch) -> Tried {
        let (event, tried) = match self.make_anew(snapshot) {
            Ok(aside) => (Event::Rebuilt(aside), Tried::Done),
            Err(reason) => (Event::Failing(reason), Tried::Again),
        };
        self.tell(event);
        tried
    }

    fn make_anew(&mut self, snapshot: &Batch) -> Result<PathBuf, String> {
        if self.replaced.is_none() {
            let nothing = Connection::open_in_memory().map_err(|error| error.to_string())?;
            open::close_as_it_is(std::mem::replace(&mut self.connection, nothing));
            let aside = open::replace(&self.path, self.sync, snapshot);
            self.replaced = Some(aside.map_err(|error| error.reason())?);
        }
        let opened = open(&self.path, self.sync).map_err(|error| error.reason())?;
        self.connection = opened.connection;
        Ok(self.replaced.take().unwrap_or_default())
    }

    fn tell(&self, event: Event) {
        let _ = self.outbox.send(event); // nobody is left to tell
        (self.wake)();
    }
}

/// Writes `batch` in a transaction of its own.
/// # Errors
/// SQLite's; nothing of the batch is there then.
pub fn write(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::write(&transaction, batch)?;
    transaction.commit()
}

/// Makes the tables in a new database, and writes `first` into them: both, or neither.
/// # Errors
/// SQLite's.
pub fn create(connection: &mut Connection, first: &Batch) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    schema::create(&transaction)?;
    schema::write(&transaction, first)?;
    transaction.commit()
}

/// Why SQLite could not, in words for operators.
pub fn reason(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::ReadOnly) => "the file, its directory or the disk is read-only".to_owned(),
        Some(ErrorCode::SystemIoFailure) => "the disk reports an error".to_owned(),
        Some(ErrorCode::CannotOpen) => "the file cannot be opened or made".to_owned(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process uses it".to_owned()
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "it is damaged".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether `error` says that the file is not what it should be.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::InvalidColumnIndex(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => error.sqlite_error().is_some_and(|error| {
            matches!(
                error.code,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
            ) || UNREADABLE.contains(&error.extended_code)
        }),
    }
}

/// What SQLite says of places that a disk cannot read any more.
const UNREADABLE: [i32; 3] = [
    ffi::SQLITE_IOERR_READ,
    ffi::SQLITE_IOERR_SHORT_READ,
    ffi::SQLITE_IOERR_CORRUPTFS,
];

/// Whether `error` says that the database is not the one that was made: a table or a column is not there, or a row is that
/// cannot be. To try again is no use then.
pub fn is_another(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch)
    )
}

fn synchronous(sync: Sync) -> &'static str {
    match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
        Sync::Off => "OFF",
    }
}

#[cfg(test)]
mod tests;
