//! The log that `layer.c` writes: what a program did with its disk and what it sent, in the order of events.
//!
//! 1. A record's number is its place in the log; a cut at `n` has seen the records below `n`.
//! 2. A record that SIGKILL tore, which can only be the last of a process, is cut off before the next one starts.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The length of a record without its data: `struct header` of `layer.c`.
const HEADER: usize = 40;

/// What happened once. Files are known by their inode, whatever they are called at the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process began.
    Started,
    /// A file came to be, empty; with an empty path it has no name.
    Created { inode: u64, path: PathBuf },
    /// Bytes were written to a file.
    Written {
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// A file was given this length.
    Resized { inode: u64, length: u64 },
    /// A file got another name.
    Renamed {
        inode: u64,
        from: PathBuf,
        to: PathBuf,
    },
    /// A name of a file went.
    Unlinked { inode: u64, path: PathBuf },
    /// A file or a directory begins to be synced.
    SyncBegun { inode: u64 },
    /// The sync that this thread began has ended well.
    Synced { inode: u64 },
    /// The sync that this thread began was made to fail.
    SyncFailed { inode: u64 },
    /// Bytes are about to leave on the connection to this port; of more than a mebibyte only the first ones.
    Sent { port: u16, bytes: Vec<u8> },
    /// Of the last [`Event::Sent`] to this port the socket took only so many bytes.
    Taken { port: u16, length: u64 },
    /// A call was made to fail.
    Refused { error: i32, call: String },
    /// Something was done that the log cannot represent.
    Unseen { what: String },
}

/// An event with its thread and time.
#[derive(Clone, Debug)]
pub struct Record {
    /// The thread, by the kernel's number.
    pub thread: u32,
    /// When, by the monotonic clock.
    pub time: Duration,
    /// What happened.
    pub event: Event,
}

/// The records in the bytes of a log, and how many of the bytes are whole records.
pub fn decode(mut bytes: &[u8]) -> (Vec<Record>, usize) {
    let whole = bytes.len();
    let mut records = Vec::new();
    while let Some(length) = field(bytes, 0..4) {
        let length = usize::try_from(length).expect("it has four bytes");
        assert!(length >= HEADER, "the log holds a record of {length} bytes");
        let Some((record, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        records.push(decode_record(record));
        bytes = rest;
    }
    (records, whole - bytes.len())
}

/// A change as `layer.c` would have logged it: for what the layer had no time to log.
pub fn encode(event: &Event) -> Vec<u8> {
    let names;
    let (kind, inode, value, data) = match event {
        Event::Created { inode, path } => (2u16, inode, 0, path.as_os_str().as_encoded_bytes()),
        Event::Written {
            inode,
            offset,
            bytes,
        } => (3, inode, *offset, bytes.as_slice()),
        Event::Resized { inode, length } => (4, inode, *length, &[][..]),
        Event::Renamed { inode, from, to } => {
            names = [from, to]
                .map(|path| path.to_str().expect("the tests name their files in ASCII"))
                .join("\0");
            (5, inode, 0, names.as_bytes())
        }
        Event::Unlinked { inode, path } => (6, inode, 0, path.as_os_str().as_encoded_bytes()),
        other => panic!("nobody adds {other:?} to a log"),
    };
    let mut record = Vec::new();
    let length = u32::try_from(HEADER + data.len()).expect("files of tests are small");
    record.extend(length.to_le_bytes());
    record.extend(kind.to_le_bytes());
    record.resize(24, 0);
    record.extend(inode.to_le_bytes());
    record.extend(value.to_le_bytes());
    record.extend(data);
    record
}

fn decode_record(record: &[u8]) -> Record {
    let number = |range| field(record, range).expect("a header is whole");
    let (inode, value, data) = (number(24..32), number(32..40), &record[HEADER..]);
    let error = i32::try_from(number(12..16)).expect("errors are small");
    let path = |bytes: &[u8]| PathBuf::from(text(bytes));
    let port = |number| u16::try_from(number).expect("it has two bytes");
    let event = match number(4..6) {
        1 => Event::Started,
        2 => Event::Created {
            inode,
            path: path(data),
        },
        3 => Event::Written {
            inode,
            offset: value,
            bytes: data.to_vec(),
        },
        4 => Event::Resized {
            inode,
            length: value,
        },
        5 => {
            let mut names = data.splitn(2, |byte| *byte == 0).map(path);
            Event::Renamed {
                inode,
                from: names.next().unwrap_or_default(),
                to: names.next().unwrap_or_default(),
            }
        }
        6 => Event::Unlinked {
            inode,
            path: path(data),
        },
        7 => Event::SyncBegun { inode },
        8 => Event::Synced { inode },
        9 => Event::SyncFailed { inode },
        10 => Event::Sent {
            port: port(number(6..8)),
            bytes: data.to_vec(),
        },
        11 => Event::Refused {
            error,
            call: text(data),
        },
        12 => Event::Unseen { what: text(data) },
        13 => Event::Taken {
            port: port(number(6..8)),
            length: value,
        },
        kind => panic!("the log holds a record of kind {kind}"),
    };
    Record {
        thread: u32::try_from(number(8..12)).expect("it has four bytes"),
        time: Duration::from_nanos(number(16..24)),
        event,
    }
}

/// A little-endian number; `None` if the bytes end before.
fn field(bytes: &[u8], range: Range<usize>) -> Option<u64> {
    let mut number = [0; 8];
    let field = bytes.get(range)?;
    number[..field.len()].copy_from_slice(field);
    Some(u64::from_le_bytes(number))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the tests name their files in ASCII")
}

/// The directory that holds `path`.
pub fn parent(path: &Path) -> &Path {
    path.parent()
        .expect("a file of the log is below a directory")
}
