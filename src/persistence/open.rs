//! Opening a database: a new one, ours, one that is in use, of a later version, or damaged; and another in the place of one.
//!
//! 1. What is not ours, or of a later version, is not changed.
//! 2. A database that takes another's place is whole before the other is moved: whenever that is interrupted, one of the two
//!    is found at the next start, and never nothing.
//! 3. A database is made for its user alone: it holds what clients said to each other.

use super::schema::{APPLICATION_ID, VERSION};
use super::{create, is_damage, reason, synchronous};
use crate::broker::journal::Batch;
use crate::config::{Sync, system_reason};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, fs, io};

/// The size of a page of a new database, in bytes. A commit writes whole pages: for one small message that is queued, 6.6 kB
/// reach the disk, where pages of 4 KiB, SQLite's default, make them 12.8 kB. Batches of many write much the same.
const PAGE_BYTES: i64 = 1024;

/// How many bytes the log of the database has when they are written to their places, and keeps when it is empty.
const LOG_BYTES: i64 = 4 * 1024 * 1024;

/// A log with so many bytes may be one that cannot be written to its places.
pub const LOG_BYTES_TOLD: u64 = 16 * 1024 * 1024;

/// A database that can be used.
#[derive(Debug)]
pub struct Opened {
    /// It.
    pub connection: Connection,
    /// Whether it is empty and has no tables yet: see [`create`](super::create).
    pub is_new: bool,
}

/// Why a database cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// Its directory is not there, or nothing can be made in it.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process has it.
    InUse(PathBuf),
    /// A later version of Midge made it.
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of its tables.
        version: i64,
    },
    /// It is something else's database.
    Foreign(PathBuf),
    /// It is damaged, or no database at all.
    Damaged(PathBuf),
    /// Anything else.
    Other {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Directory { path, reason } => write!(
                f,
                "Error: Unable to keep a database in the directory {}: {reason}.\n\
                 'persistence_location' is to be a directory that the broker may write to.",
                path.display()
            ),
            OpenError::InUse(path) => write!(
                f,
                "Error: Another process uses the database {}, such as a broker that runs already.\n\
                 Each broker needs a 'persistence_location' or 'persistence_file' of its own.",
                path.display()
            ),
            OpenError::Newer { path, version } => write!(
                f,
                "Error: The database {} is of version {version}, and this is Midge for version {VERSION}.\n\
                 A later Midge made it: run that, or put the file aside to begin without it.",
                path.display()
            ),
            OpenError::Foreign(path) => write!(
                f,
                "Error: The file {} is the database of another program.\n\
                 Use another 'persistence_file', or put the file aside.",
                path.display()
            ),
            OpenError::Damaged(path) => {
                write!(
                    f,
                    "Error: The database {} is damaged, or is none.",
                    path.display()
                )
            }
            OpenError::Other { path, reason } => {
                write!(
                    f,
                    "Error: Unable to use the database {}: {reason}.",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    /// Why, without the file, for a sentence that names it.
    pub(super) fn reason(&self) -> String {
        match self {
            OpenError::Directory { reason, .. } | OpenError::Other { reason, .. } => reason.clone(),
            OpenError::InUse(_) => "another process uses it".to_owned(),
            OpenError::Newer { .. } | OpenError::Foreign(_) => {
                "another program made one in its place".to_owned()
            }
            OpenError::Damaged(_) => "it is damaged".to_owned(),
        }
    }
}

/// Whether files can be made in the directory of the database at `path`.
/// # Errors
/// Why not.
pub fn check_directory(path: &Path) -> Result<(), OpenError> {
    let directory = directory_of(path);
    match tempfile::tempfile_in(directory) {
        Ok(_) => Ok(()),
        Err(error) => Err(OpenError::Directory {
            path: directory.to_owned(),
            reason: system_reason(&error),
        }),
    }
}

/// The directory that the file at `path` is in.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens the database at `path`, or makes one there, and keeps others out of it.
/// # Errors
/// Why it cannot be used.
pub fn open(path: &Path, sync: Sync) -> Result<Opened, OpenError> {
    check_directory(path)?;
    finish_replacing(path).map_err(|error| unusable(path, &error))?;
    // The log alone is what somebody left of a database; SQLite would remove it, and begin with nothing.
    if length(path) == 0 && length(&with_ending(path, LOG)) > 0 {
        return Err(OpenError::Damaged(path.to_owned()));
    }
    make_private(path).map_err(|error| unusable(path, &error))?;
    let opened = prepare(path).and_then(|(connection, found)| {
        if let Err(error) = found.judged(path) {
            close_as_it_is(connection);
            return Ok(Err(error));
        }
        connection.execute_batch(&format!(
            "COMMIT; PRAGMA journal_mode = WAL; PRAGMA synchronous = {};
             PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA wal_autocheckpoint = {}; PRAGMA temp_store = MEMORY;
             PRAGMA cell_size_check = ON; BEGIN EXCLUSIVE; COMMIT;",
            synchronous(sync),
            LOG_BYTES / PAGE_BYTES
        ))?;
        Ok(Ok(Opened {
            connection,
            is_new: found.is_empty,
        }))
    });
    opened.unwrap_or_else(|error| Err(open_error(path.to_owned(), &error)))
}

/// What a file says of itself.
struct Found {
    application_id: i64,
    version: i64,
    is_empty: bool,
}

impl Found {
    /// Whether it is new or ours.
    fn judged(&self, path: &Path) -> Result<(), OpenError> {
        let path = path.to_owned();
        match self {
            Found {
                application_id: 0,
                is_empty: true,
                ..
            } => Ok(()),
            Found { application_id, .. } if *application_id != APPLICATION_ID => {
                Err(OpenError::Foreign(path))
            }
            &Found { version, .. } if version > VERSION => Err(OpenError::Newer { path, version }),
            // Ours has its tables and its version from the first moment.
            Found { version, .. } if self.is_empty || *version < 1 => Err(OpenError::Damaged(path)),
            Found { .. } => Ok(()),
        }
    }
}

/// Opens the file at `path`, locks it in a transaction that goes on, and changes nothing in it.
fn prepare(path: &Path) -> rusqlite::Result<(Connection, Found)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;"
    ))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let found = Found {
        application_id: pragma(&connection, "application_id")?,
        version: pragma(&connection, "user_version")?,
        is_empty: tables == 0,
    };
    Ok((connection, found))
}

/// How many bytes the file has; 0 where there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// How long the log of the database at `path` is, in bytes.
pub fn log_length(path: &Path) -> u64 {
    length(&with_ending(path, LOG))
}

/// Carries what is in the log of a database to its place; the next batch begins the log anew.
/// # Errors
/// SQLite's.
pub fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Makes the file at `path` for this user alone, unless it is there: SQLite would make it for everybody to read. It also
/// knows better why one cannot be opened.
fn make_private(path: &Path) -> io::Result<()> {
    let file = private().create(true).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Opens files to write to, and makes them for this user alone.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Which of the files of the database at `path`, which is open, is not there.
pub fn missing(path: &Path) -> Option<PathBuf> {
    ["", LOG]
        .map(|ending| with_ending(path, ending))
        .into_iter()
        .find(|name| matches!(name.try_exists(), Ok(false)))
}

fn unusable(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Other {
        path: path.to_owned(),
        reason: system_reason(error),
    }
}

/// Opens the database at `path` for reading alone.
/// # Errors
/// Why it cannot be read.
pub fn open_to_look(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepared = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cell_size_check = ON;")?;
        let application_id = pragma(&connection, "application_id")?;
        let version = pragma(&connection, "user_version")?;
        Ok((connection, application_id, version))
    });
    let path = path.to_owned();
    match prepared {
        Ok((_, application_id, _)) if application_id != APPLICATION_ID => {
            Err(OpenError::Foreign(path))
        }
        Ok((_, _, version)) if version > VERSION => Err(OpenError::Newer { path, version }),
        Ok((connection, ..)) => Ok(connection),
        Err(error) => Err(open_error(path, &error)),
    }
}

/// Closes `connection` and leaves its files as they are: the log of the database is not written back into it.
pub fn close_as_it_is(connection: Connection) {
    // Where it cannot be said, a log that is sound is written back.
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(connection);
}

/// What the name of a database's log has behind that of the database.
pub const LOG: &str = "-wal";

/// What a database consists of besides its own file. SQLite would take what is left of one for part of the next.
const ATTACHED: [&str; 2] = [LOG, "-journal"];

/// While a database is made that takes the place of another: what its name has behind that of the other.
const UNFINISHED: &str = "-new";

/// The same, when it is whole.
const FINISHED: &str = "-saved";

/// Makes a database with `contents` and puts it in the place of the one at `path`, which nobody has open. What that one is
/// called now.
/// # Errors
/// Why there cannot be one; the old one is where it was then, or the new one is whole and takes its place with the next
/// [`open`].
pub fn replace(path: &Path, sync: Sync, contents: &Batch) -> Result<PathBuf, OpenError> {
    let unfinished = with_ending(path, UNFINISHED);
    let failed = |error: io::Error| unusable(path, &error);
    remove(&unfinished).map_err(failed)?;
    let mut opened = open(&unfinished, sync)?;
    create(&mut opened.connection, contents)
        .and_then(|()| {
            let connection = opened.connection;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            connection.close().map_err(|(_, error)| error)
        })
        .map_err(|error| open_error(path.to_owned(), &error))?;
    if length(&with_ending(&unfinished, LOG)) > 0 {
        return Err(failed(io::Error::other("its log remains")));
    }
    let in_place = File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, with_ending(path, FINISHED)))
        .and_then(|()| sync_names(path))
        .and_then(|()| finish_replacing(path));
    in_place
        .map_err(failed)?
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Puts a database that is whole where it belongs; what was there, is called now as is told.
fn finish_replacing(path: &Path) -> io::Result<Option<PathBuf>> {
    let finished = with_ending(path, FINISHED);
    if !finished.try_exists()? {
        return Ok(None);
    }
    let aside = put_aside(path)?;
    sync_names(path)?;
    fs::rename(&finished, path)?;
    sync_names(path)?;
    Ok(Some(aside))
}

/// The names of files are on the disk when their directory is.
fn sync_names(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// Gives the database at `path`, which nobody has open, another name, with its log; what that is.
/// # Errors
/// The system's.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut number = unix_time.unwrap_or_default().as_secs();
    let aside = loop {
        let aside = path.with_extension(format!("damaged-{number}"));
        if !aside.exists() && !with_ending(&aside, LOG).exists() {
            break aside;
        }
        number += 1;
    };
    for ending in ATTACHED.into_iter().chain([""]) {
        if_there(fs::rename(
            with_ending(path, ending),
            with_ending(&aside, ending),
        ))?;
    }
    Ok(aside)
}

/// Removes the database at `path`, which nobody has open, with its log.
/// # Errors
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    let mut endings = ATTACHED.into_iter().chain([""]);
    endings.try_for_each(|ending| if_there(fs::remove_file(with_ending(path, ending))))
}

fn if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `path` with something behind its whole name.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

fn open_error(path: PathBuf, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path),
        _ if is_damage(error) => OpenError::Damaged(path),
        // SQLite does not say why. The database itself could be opened before.
        Some(ErrorCode::CannotOpen)
            if let Err(error) = private().create(true).open(with_ending(&path, LOG)) =>
        {
            let reason = format!("its log, '{LOG}' behind its name, cannot be opened or made: ");
            OpenError::Other {
                path,
                reason: reason + &system_reason(&error),
            }
        }
        _ => {
            let reason = reason(error);
            OpenError::Other { path, reason }
        }
    }
}
