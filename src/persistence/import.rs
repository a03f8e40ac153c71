//! Mosquitto's own database: a `mosquitto.db` becomes the records of a store of ours.
//!
//! The file is a header of magic bytes, a checksum that is always 0 and a version, then chunks: four bytes of kind,
//! four of length, a C structure, and what has a length in it. Numbers of 16 and 32 bits are big endian, those of 64
//! bits are in the order of the machine, and structures are padded as its compiler pads them.
//!
//! Knows nothing of the store that the records go to, and never writes to the file.
//!
//! 1. Whatever the bytes are, reading them ends, without a panic, and takes no more memory than a few times the file.
//! 2. A record that makes no sense is left out alone, counted, and said why; where the chunks themselves stop making
//!    sense, what came before stays.
//! 3. What a record refers to is there: sessions and messages that others name have rows, and nothing else has.
//! 4. A session or a retained message whose owner's name cannot be read is left out: it does not become anybody's.

mod chunk;
mod reading;

use crate::broker::journal::Batch;
use chunk::{Chunks, HEADER_BYTES};
use reading::Reading;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// What a database had in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The records, whose rows are numbered from 1 on.
    pub batch: Batch,
    /// How many of each there are.
    pub counts: Counts,
    /// What did not make sense, a sentence each, at most [`WARNINGS_MAX`] and one that says how many more there are.
    pub warnings: Vec<String>,
}

/// How much of each was read, and how much was left out and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Messages on their way to sessions, in flight or waiting.
    pub queued: usize,
    /// QoS 2 messages received and not released.
    pub received: usize,
    /// Left out: sessions that ended meanwhile, with all that was theirs.
    pub sessions_ended: usize,
    /// Left out: messages that expired meanwhile, from every queue.
    pub messages_expired: usize,
    /// Left out: what the other broker said of itself in `$SYS`.
    pub messages_of_system: usize,
    /// Left out: messages that nothing refers to.
    pub messages_unreferenced: usize,
    /// Left out: records that make no sense.
    pub damaged: usize,
}

/// One sentence for the log.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            sessions,
            subscriptions,
            retained,
            queued,
            received,
            ..
        } = self;
        write!(
            f,
            "sessions: {sessions}, subscriptions: {subscriptions}, retained messages: {retained}, queued messages: \
             {queued}, messages not released: {received}"
        )?;
        let left_out = [
            ("sessions that ended meanwhile", self.sessions_ended),
            ("messages that expired meanwhile", self.messages_expired),
            ("$SYS messages", self.messages_of_system),
            ("messages for nobody", self.messages_unreferenced),
            ("damaged records", self.damaged),
        ];
        let mut separator = "; left out: ";
        for (what, count) in left_out.iter().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{what}: {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// More warnings than this are only counted.
pub const WARNINGS_MAX: usize = 50;

/// Why nothing could be read at all.
#[derive(Debug)]
pub enum ImportError {
    /// The file cannot be opened or read.
    Unreadable(PathBuf, io::Error),
    /// It is something else.
    NotADatabase(PathBuf),
    /// Its format is of this version.
    Version(PathBuf, u32),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Unreadable(path, error) => {
                write!(f, "{}: cannot read it: {error}", path.display())
            }
            ImportError::NotADatabase(path) => write!(
                f,
                "{}: not a database of Mosquitto, which begins with the bytes 00 B5 00 and \"mosquitto db\"",
                path.display()
            ),
            ImportError::Version(path, version) => {
                write!(
                    f,
                    "{}: a database of Mosquitto of version {version}; versions 5 and 6 can be read",
                    path.display()
                )?;
                match version {
                    2..=4 => f.write_str(
                        "; Mosquitto 2.0 or 2.1 writes it as version 6 when it is started with it and stopped",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::Unreadable(_, error) => Some(error),
            ImportError::NotADatabase(_) | ImportError::Version(..) => None,
        }
    }
}

/// Reads the `mosquitto.db` at `path`. What ended or expired before `now_unix_ms` is left out.
///
/// # Errors
/// When there is nothing to read, or it is no database of a version that is known here. Damage is no error; a file
/// without a byte, which Mosquitto also starts with, is not either.
pub fn read(path: &Path, now_unix_ms: u64) -> Result<Import, ImportError> {
    let unreadable = |error| ImportError::Unreadable(path.to_owned(), error);
    // Looked at first: to open a pipe is to wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(unreadable(error));
    }
    let file = File::open(path).map_err(unreadable)?;
    read_from(BufReader::new(file), now_unix_ms).map_err(|refusal| match refusal {
        Refusal::Unreadable(error) => unreadable(error),
        Refusal::NotADatabase => ImportError::NotADatabase(path.to_owned()),
        Refusal::Version(version) => ImportError::Version(path.to_owned(), version),
    })
}

/// An [`ImportError`] that does not know its file.
#[derive(Debug)]
enum Refusal {
    Unreadable(io::Error),
    NotADatabase,
    Version(u32),
}

fn read_from(mut source: impl Read, now_unix_ms: u64) -> Result<Import, Refusal> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    (&mut source)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)
        .map_err(Refusal::Unreadable)?;
    if header.is_empty() {
        return Ok(Import {
            warnings: vec!["the file is empty".to_owned()],
            ..Import::default()
        });
    }
    let version = match header.strip_prefix(chunk::MAGIC) {
        Some(&[_, _, _, _, a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => return Err(Refusal::NotADatabase),
    };
    if !(5..=6).contains(&version) {
        return Err(Refusal::Version(version));
    }
    let mut reading = Reading::new(version, now_unix_ms);
    let mut chunks = Chunks::new(source);
    loop {
        match chunks.next() {
            Ok(Some(chunk)) => reading.chunk(chunk),
            Ok(None) => break,
            Err(why) => {
                reading.warn(chunks.offset, format_args!("{why}; what follows is lost"));
                break;
            }
        }
    }
    Ok(reading.finish())
}

#[cfg(test)]
mod tests;
