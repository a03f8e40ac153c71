//! Where the broker's journal meets the store: opening the database, putting the broker back, committing once a turn, and
//! saving everything at the end.
//!
//! 1. A listener is opened after the broker has everything back: nobody meets half a broker.
//! 2. One batch is on its way to the disk at most; what changes meanwhile is in the next one. The slower the disk, the
//!    larger the batches.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, INFORMATION, NOTICE, Server, random};
use crate::auth::Auth;
use crate::broker::journal::Batch;
use crate::broker::timers::Time;
use crate::broker::{Broker, Clocks};
use crate::config::{Config, Persistence, system_reason};
use crate::net::Waker;
use crate::persistence::import::{self, ImportError};
use crate::persistence::restore::{RestoreError, restore, salvage};
use crate::persistence::{self, Committed, OpenError, Opened, Store};

/// Why there is nothing to be durable with.
#[derive(Debug)]
pub enum DurabilityError {
    /// The database cannot be used.
    Open(OpenError),
    /// What Mosquitto left cannot be read.
    Import(ImportError),
    /// It cannot be read or written.
    Database(rusqlite::Error),
    /// The system gives the store no thread.
    Thread(io::Error),
}

impl From<OpenError> for DurabilityError {
    fn from(error: OpenError) -> DurabilityError {
        DurabilityError::Open(error)
    }
}

impl fmt::Display for DurabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurabilityError::Open(error) => write!(f, "{error}"),
            DurabilityError::Import(error) => write!(
                f,
                "Error: Unable to take over {error}.\nPut that file aside to begin without it."
            ),
            DurabilityError::Database(error) => {
                write!(
                    f,
                    "Error: Unable to use the database: {}.",
                    persistence::reason(error)
                )
            }
            DurabilityError::Thread(error) => write!(
                f,
                "Error: Unable to start a thread for the database: {}.",
                system_reason(error)
            ),
        }
    }
}

/// A broker as the configuration wants it, with everything back that it is to have, and the store that keeps it.
/// # Errors
/// Why it cannot be made durable.
pub fn begin(
    config: Config,
    auth: Auth,
    clock: &mut Clock,
    waker: Waker,
) -> Result<(Broker, Option<Store>), DurabilityError> {
    let new_broker = || {
        let (now, unix_time) = (clock.now(), unix_time());
        Broker::new(config.clone(), auth.clone(), now, unix_time, random())
    };
    let settings = &config.persistence;
    if !settings.is_on {
        ::log::info!(
            target: INFORMATION,
            "Persistence is off: sessions, queued and retained messages end with the broker."
        );
        return Ok((new_broker(), None));
    }
    let path = settings.database();
    let started = Instant::now();
    let mut opened = match persistence::open(&path, settings.sync) {
        Err(OpenError::Damaged(_)) => salvaged(&config, &path, "it cannot be opened")?,
        opened => opened?,
    };
    if opened.is_new {
        let taken_over = take_over(settings)?;
        persistence::create(&mut opened.connection, &taken_over)
            .map_err(DurabilityError::Database)?;
        ::log::info!(target: INFORMATION, "Made the database {}.", path.display());
    }
    let mut broker = new_broker();
    let counts = match restore(&opened.connection, &mut broker, clocks(clock)) {
        Ok(counts) => counts,
        Err(RestoreError::Unreadable(error)) => return Err(DurabilityError::Database(error)),
        Err(RestoreError::Damaged(what)) => {
            persistence::close_as_it_is(opened.connection);
            opened = salvaged(&config, &path, &what)?;
            broker = new_broker();
            restore(&opened.connection, &mut broker, clocks(clock)).map_err(
                |error| match error {
                    RestoreError::Unreadable(error) => DurabilityError::Database(error),
                    RestoreError::Damaged(what) => DurabilityError::Open(OpenError::Other {
                        path: path.clone(),
                        reason: what,
                    }),
                },
            )?
        }
    };
    clock.unix_start = Duration::from_millis(
        (clock.unix_start.as_millis() as u64).saturating_add_signed(-broker.clock_ahead()),
    );
    if !opened.is_new {
        ::log::info!(
            target: INFORMATION,
            "Loaded {}: {} sessions, {} subscriptions, {} retained messages and {} messages on their way, in {:.1} s.",
            path.display(),
            counts.sessions,
            counts.subscriptions,
            counts.retained,
            counts.deliveries + counts.received,
            started.elapsed().as_secs_f64()
        );
    }
    if counts.misfits > 0 {
        ::log::warn!(
            "Warning: {} rows of {} do not fit with the others and were left out.",
            counts.misfits,
            path.display()
        );
    }
    let store = Store::start(opened.connection, &path, settings, move || waker.wake());
    Ok((broker, Some(store.map_err(DurabilityError::Thread)?)))
}

/// Whether there could be a database where `config` wants it; nothing is made.
/// # Errors
/// Why not.
pub fn check(config: &Config) -> Result<(), DurabilityError> {
    let settings = &config.persistence;
    if settings.is_on {
        persistence::check_directory(&settings.database())?;
    }
    Ok(())
}

/// What a broker of Mosquitto left in its own file, where a new database is made.
fn take_over(settings: &Persistence) -> Result<Batch, DurabilityError> {
    let path = settings.mosquitto_file();
    if !path.exists() || path == settings.database() {
        return Ok(Batch::default());
    }
    let name = path.display();
    ::log::info!(target: NOTICE, "Taking over {name}, which stays as it is.");
    let import =
        import::read(&path, unix_time().as_millis() as u64).map_err(DurabilityError::Import)?;
    for warning in &import.warnings {
        ::log::warn!("Warning: {name}: {warning}");
    }
    ::log::info!(target: NOTICE, "Taken over from {name}: {}.", import.counts);
    Ok(import.batch)
}

fn salvaged(config: &Config, path: &Path, what: &str) -> Result<Opened, DurabilityError> {
    ::log::error!(
        "Error: The database {} is damaged: {what}. What can be read is saved.",
        path.display()
    );
    let salvaged = salvage(path, config.persistence.sync)?;
    Ok(salvaged.opened)
}

pub(super) fn unix_time() -> Duration {
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn clocks(clock: &Clock) -> Clocks {
    Clocks {
        now: clock.now(),
        unix_millis: clock.unix_millis(),
    }
}

/// By less than this the system's clock is not set, but corrected; in milliseconds.
const CLOCK_SET_MIN: u64 = 1000;

impl Server {
    /// Notes that the system's clock was set, if it was: what is stored ends when it would have ended.
    pub(super) fn look_at_clock(&mut self) {
        let ahead = unix_time().as_millis() as i64 - self.clock.unix_millis() as i64;
        let step = ahead - self.broker.clock_ahead();
        if self.store.is_some() && step.unsigned_abs() >= CLOCK_SET_MIN {
            ::log::info!(
                target: NOTICE,
                "The system's clock was set by {:.1} s; sessions and messages end when they would have.",
                step as f64 / 1000.0
            );
            self.broker.clock_was_set(ahead);
        }
    }

    /// Lets go of what waited for what is on disk now.
    pub(super) fn complete_commit(&mut self, now: Time) {
        if let Some(store) = &mut self.store
            && let Some(committed) = store.take_committed()
        {
            self.tell_committed(committed, now);
        }
    }

    fn tell_committed(&mut self, committed: Committed, now: Time) {
        match committed {
            Committed::Batch => self.broker.committed(now),
            Committed::Everything => self.broker.all_committed(now),
        }
    }

    /// Sends what this turn changed on its way to the disk, unless something else is on it.
    pub(super) fn commit(&mut self) {
        let Some(store) = &mut self.store else {
            return;
        };
        let clocks = || clocks(&self.clock);
        if store.wants_snapshot() {
            store.rebuild(self.broker.take_snapshot(clocks()));
        } else if self.broker.has_changes()
            && store.ready_in(self.broker.is_waited_for()) == Some(Duration::ZERO)
            && let Some(batch) = self.broker.take_batch(clocks())
        {
            store.commit(batch);
        }
    }

    /// How long it takes until there is something to commit; `None` if that is not to be waited for.
    pub(super) fn next_commit(&self) -> Option<Duration> {
        let store = self.store.as_ref()?;
        let has_changes = self.broker.has_changes();
        let is_waited_for = self.broker.is_waited_for();
        store.ready_in(is_waited_for).filter(|_| has_changes)
    }

    /// Commits everything, and waits for the disk. `false` means that it cannot be.
    pub(super) fn save(&mut self) -> bool {
        while let Some(store) = &mut self.store {
            let clocks = || clocks(&self.clock);
            if store.is_busy() {
                match store.wait() {
                    Some(committed) => self.tell_committed(committed, self.clock.now()),
                    None if !store.wants_snapshot() => return false,
                    None => {}
                }
            } else if store.wants_snapshot() {
                store.rebuild(self.broker.take_snapshot(clocks()));
            } else if let Some(batch) = self.broker.take_batch(clocks()) {
                store.commit(batch);
            } else {
                return true;
            }
        }
        true
    }

    /// The same, and tells the log how it went.
    pub(super) fn save_and_tell(&mut self) {
        let Some(path) = self
            .store
            .as_ref()
            .map(|store| store.path().display().to_string())
        else {
            return;
        };
        let is_saved = self.save();
        let is_damaged = self.store.as_ref().is_some_and(Store::is_damaged);
        match (is_saved, is_damaged) {
            (true, _) => ::log::info!(target: NOTICE, "Everything is saved in {path}."),
            (false, false) => ::log::error!(
                "Error: Not everything could be saved in {path}. What was acknowledged is there."
            ),
            (false, true) => ::log::error!(
                "Error: {path} is damaged and could not be made anew. What can be read of it is saved at the next start."
            ),
        }
    }
}
