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

mod open;
pub mod restore;
pub mod schema;

use crate::broker::journal::Batch;
use crate::config::{Persistence, Sync, log_target::NOTICE};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use open::{OpenError, Opened, open, open_to_look};

/// How long to wait before a batch that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a broker that ends tries to write its last batch.
const LAST_TRIES: Duration = Duration::from_secs(10);

/// What the thread tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The batch is on disk.
    Committed,
    /// It cannot be written now, for this reason.
    Failing(String),
}

enum Order {
    Commit(Box<Batch>),
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
            commit_interval: settings.commit_interval,
            last_commit: None,
        })
    }

    /// How long to wait until the next batch can be taken; `None` while one is on its way.
    pub fn ready_in(&self) -> Option<Duration> {
        if self.is_busy {
            return None;
        }
        let since = self.last_commit.map(|last| last.elapsed());
        Some(since.map_or(Duration::ZERO, |since| {
            self.commit_interval.saturating_sub(since)
        }))
    }

    /// Sends `batch` on its way; there is none on it.
    pub fn commit(&mut self, batch: Batch) {
        assert!(!self.is_busy, "one batch at a time");
        self.is_busy = true;
        self.last_commit = Some(Instant::now());
        self.orders
            .send(Order::Commit(Box::new(batch)))
            .expect("the thread runs as long as this");
    }

    /// Whether the batch that was on its way is on disk now. The log hears of what is in its way.
    pub fn take_committed(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            if self.handle(event) {
                return true;
            }
        }
        false
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the batch that is on its way, while the broker ends: whether it is on disk, or could not be written for so
    /// long that it is given up. `None` means that there is none.
    pub fn wait(&mut self) -> Option<bool> {
        if !self.is_busy {
            return None;
        }
        // Whoever does not take the order has ended already.
        let _ = self.orders.send(Order::End);
        while let Ok(event) = self.events.recv() {
            if self.handle(event) {
                return Some(true);
            }
        }
        Some(false)
    }

    fn handle(&mut self, event: Event) -> bool {
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
                true
            }
            Event::Failing(reason) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    log::error!(
                        "Error: Unable to write to {path}: {reason}. Nothing is lost, but nothing that must be stored is \
                         acknowledged until it can be."
                    );
                }
                false
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
    inbox: Receiver<Order>,
    outbox: Sender<Event>,
    wake: W,
    /// When it is over with trying.
    gives_up: Option<Instant>,
}

impl<W: Fn()> Writer<W> {
    fn run(mut self) {
        while let Ok(order) = self.inbox.recv() {
            match order {
                Order::End => self.gives_up = Some(Instant::now() + LAST_TRIES),
                Order::Commit(batch) => {
                    if !self.commit(&batch) {
                        return;
                    }
                }
            }
        }
        // Whatever is in the log of the database goes to its place, and the log is removed.
        let _ = self.connection.close();
    }

    /// Writes `batch`, however often it takes. `false` means that the broker ends before.
    fn commit(&mut self, batch: &Batch) -> bool {
        loop {
            let Err(error) = write(&mut self.connection, batch) else {
                self.tell(Event::Committed);
                return true;
            };
            self.tell(Event::Failing(reason(&error)));
            match self.inbox.recv_timeout(RETRY) {
                Ok(Order::End) => self.gives_up = Some(Instant::now() + LAST_TRIES),
                Ok(Order::Commit(_)) => unreachable!("one batch at a time"),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.gives_up.is_some_and(|end| end <= Instant::now()) {
                return false;
            }
        }
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
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::Utf8Error(..) => true,
        error => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}

fn synchronous(sync: Sync) -> &'static str {
    match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
        Sync::Off => "OFF",
    }
}
