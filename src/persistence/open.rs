//! Opening a database: a new one, ours, one that is in use, of a later version, or damaged.

use super::schema::{APPLICATION_ID, VERSION};
use super::{is_damage, reason, synchronous};
use crate::config::{Sync, system_reason};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, fs, io};

/// The size of a page of a new database, in bytes. A commit writes whole pages: for one small message that is queued, 6.6 kB
/// reach the disk, where pages of 4 KiB, SQLite's default, make them 12.8 kB. Batches of many write much the same.
const PAGE_BYTES: i64 = 1024;

/// How many bytes the log of the database has when they are written to their places, and keeps when it is empty.
const LOG_BYTES: i64 = 4 * 1024 * 1024;

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
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepared = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.execute_batch(&format!(
            "PRAGMA page_size = {PAGE_BYTES}; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = {};
             PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA wal_autocheckpoint = {}; PRAGMA temp_store = MEMORY;
             PRAGMA cell_size_check = ON; BEGIN EXCLUSIVE; COMMIT;",
            synchronous(sync),
            LOG_BYTES / PAGE_BYTES
        ))?;
        let application_id = pragma(&connection, "application_id")?;
        let version = pragma(&connection, "user_version")?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((connection, application_id, version, tables == 0))
    });
    let path = path.to_owned();
    match prepared {
        Ok((connection, _, _, true)) => Ok(Opened {
            connection,
            is_new: true,
        }),
        Ok((_, application_id, _, _)) if application_id != APPLICATION_ID => {
            Err(OpenError::Foreign(path))
        }
        Ok((_, _, version, _)) if version > VERSION => Err(OpenError::Newer { path, version }),
        Ok((connection, ..)) => Ok(Opened {
            connection,
            is_new: false,
        }),
        Err(error) => Err(open_error(path, &error)),
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

/// Gives the database at `path`, which nobody has open, another name, with its log; what that is.
/// # Errors
/// The system's.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let unix_time = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut number = unix_time.unwrap_or_default().as_secs();
    let aside = loop {
        let aside = path.with_extension(format!("damaged-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    // The log first: without it, what is left behind would be another database.
    for ending in ["-wal", ""] {
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
    if_there(fs::remove_file(path))?;
    if_there(fs::remove_file(with_ending(path, "-wal")))
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
        _ => {
            let reason = reason(error);
            OpenError::Other { path, reason }
        }
    }
}
