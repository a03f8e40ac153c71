//! Looking into a database without changing it, also while a broker writes to it.
//!
//! 1. SQLite opens a private copy: it may write to what it opens, and a broker keeps everybody else out.

use super::open::{OpenError, directory_of, open_to_look, with_ending};
use super::restore::{Tally, read_what_can_be};
use crate::broker::journal::Batch;
use crate::config::system_reason;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;
use tempfile::TempDir;

/// How often to copy a database again that changes meanwhile.
const COPIES_MAX: usize = 5;

/// The name of the copy that is looked at.
const COPY: &str = "copy";

/// What a database holds.
#[derive(Debug)]
pub struct Look {
    /// Every record that can be read.
    pub records: Batch,
    /// What is damaged, a sentence each.
    pub faults: Vec<String>,
    /// The size of the database and its log, in bytes.
    pub bytes: u64,
}

/// Reads all of the database at `path`. With `thorough`, SQLite looks at its structure, too.
/// # Errors
/// Why it cannot be read.
pub fn look(path: &Path, thorough: bool) -> Result<Look, OpenError> {
    let other = |error: io::Error| OpenError::Other {
        path: path.to_owned(),
        reason: system_reason(&error),
    };
    // Whoever ends this in the middle leaves the copy behind, and that should not be among the files of a broker. Where
    // there is no room elsewhere, it must.
    let (directory, bytes) = match private_copy(tempfile::tempdir(), path) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            private_copy(tempfile::tempdir_in(directory_of(path)), path)
        }
        result => result,
    }
    .map_err(other)?;
    let copy = directory.path().join(COPY);
    let connection = open_to_look(&copy).map_err(|error| match error {
        OpenError::Foreign(_) => OpenError::Foreign(path.to_owned()),
        OpenError::Newer { version, .. } => OpenError::Newer {
            path: path.to_owned(),
            version,
        },
        OpenError::Damaged(_) => OpenError::Damaged(path.to_owned()),
        OpenError::Other { reason, .. } => OpenError::Other {
            path: path.to_owned(),
            reason,
        },
        error => error,
    })?;
    let mut tally = Tally::default();
    let records = read_what_can_be(&connection, &mut tally);
    let mut faults = tally.losses;
    if thorough {
        let check = connection
            .prepare("PRAGMA integrity_check")
            .and_then(|mut statement| {
                let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
                rows.collect::<Result<Vec<String>, _>>()
            });
        match check {
            Ok(lines) => faults.extend(lines.into_iter().filter(|line| line != "ok")),
            Err(error) => faults.push(super::reason(&error)),
        }
    }
    Ok(Look {
        records,
        faults,
        bytes,
    })
}

/// A directory that goes with its value, with a copy of the database; and how large that is.
fn private_copy(directory: io::Result<TempDir>, path: &Path) -> io::Result<(TempDir, u64)> {
    let directory = directory?;
    let bytes = copy_at_rest(path, &directory.path().join(COPY))?;
    Ok((directory, bytes))
}

/// Copies the database with its log as they were at one moment: neither changed while the other was copied. A broker only
/// appends to the log, but for the moments in which it writes the log back.
fn copy_at_rest(path: &Path, copy: &Path) -> io::Result<u64> {
    let log = with_ending(path, "-wal");
    let copy_of_log = with_ending(copy, "-wal");
    for _ in 0..COPIES_MAX {
        let before = changed(path)?;
        let mut bytes = fs::copy(path, copy)?;
        match fs::copy(&log, &copy_of_log) {
            Ok(of_log) => bytes += of_log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // One of an earlier try is none of this database.
                let _ = fs::remove_file(&copy_of_log);
            }
            Err(error) => return Err(error),
        }
        if changed(path)? == before {
            return Ok(bytes);
        }
    }
    let text = format!(
        "it changed each of {COPIES_MAX} times that it was copied; try again when its broker has less to do"
    );
    Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
}

/// When the database itself was written to: what its log has is written back into it.
fn changed(path: &Path) -> io::Result<(SystemTime, u64)> {
    let metadata = File::open(path)?.metadata()?;
    Ok((metadata.modified()?, metadata.len()))
}
