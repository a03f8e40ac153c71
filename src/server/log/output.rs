//! What takes lines in the end: a stream, a file, the syslog daemon.
//!
//! It knows how bytes leave the process, and may wait for as long as the other side likes: who calls it has the time.
//! It does not know why a line is written.
//! 1. After an error the caller knows how many bytes were taken, so that no part of a line comes twice.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::line::local_time;
use crate::config::LogTypes;

/// Who the lines in the syslog are from: what Mosquitto's are from, so that filters and rules go on to match.
const IDENT: &str = "mosquitto";

/// Where lines can go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which lines are added to.
    File(PathBuf),
    /// The syslog daemon that listens at `path`.
    Syslog {
        /// Its socket.
        path: PathBuf,
        /// The facility, as in syslog(3).
        facility: u8,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Stdout => f.write_str("standard output"),
            Destination::Stderr => f.write_str("standard error"),
            Destination::File(path) => write!(f, "log file {}", path.display()),
            Destination::Syslog { path, .. } => write!(f, "syslog at {}", path.display()),
        }
    }
}

impl Destination {
    /// What the line `text` is here, without a line end.
    pub fn frame<'a>(&self, kind: LogTypes, text: &'a str) -> Cow<'a, str> {
        match self {
            Destination::Syslog { facility, .. } => {
                let time = local_time("%b %e %H:%M:%S", &Zoned::now());
                let priority = (facility << 3) | severity(kind);
                let pid = std::process::id();
                Cow::Owned(format!("<{priority}>{time} {IDENT}[{pid}]: {text}"))
            }
            Destination::Stdout | Destination::Stderr | Destination::File(_) => Cow::Borrowed(text),
        }
    }

    /// Opens it for writing.
    ///
    /// # Errors
    /// Where a file cannot be opened. A syslog daemon that is not there now may come later.
    pub fn open(&self) -> io::Result<Output> {
        // Not the locked handles of the standard library: one that waits in there would hold up a panic's message too.
        match self {
            Destination::Stdout => Ok(Output::Stream(duplicate(io::stdout())?)),
            Destination::Stderr => Ok(Output::Stream(duplicate(io::stderr())?)),
            Destination::File(path) => Ok(Output::Stream(open_file(path)?)),
            Destination::Syslog { path, .. } => Ok(Output::Syslog(Syslog {
                path: path.clone(),
                socket: None,
            })),
        }
    }

    /// Whether `error` says that nobody will ever read what is written here: a closed pipe, a terminal that is no more.
    pub fn is_gone(&self, error: &io::Error) -> bool {
        let gone = [Errno::PIPE, Errno::BADF, Errno::IO];
        matches!(self, Destination::Stdout | Destination::Stderr)
            && Errno::from_io_error(error).is_some_and(|errno| gone.contains(&errno))
    }
}

/// The severity of a log type in the syslog.
fn severity(kind: LogTypes) -> u8 {
    match kind {
        LogTypes::ERROR => 3,
        LogTypes::WARNING => 4,
        LogTypes::INFORMATION => 6,
        LogTypes::DEBUG => 7,
        // Notices, subscribe and unsubscribe.
        _ => 5,
    }
}

fn duplicate(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// Opens the log file at `path`, and makes it if it is not there, for nobody else to read.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    // A named pipe that nobody reads from is an error now, not a wait for a reader.
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(File::from(file))
}

/// An open destination.
#[derive(Debug)]
pub enum Output {
    /// Bytes one after another.
    Stream(File),
    /// A datagram for each line.
    Syslog(Syslog),
}

impl Output {
    /// Writes `lines`, each of which ends in a line feed.
    ///
    /// # Errors
    /// How many bytes were taken before, and why no more were.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut taken = 0;
        while taken < lines.len() {
            let rest = &lines[taken..];
            let result = match self {
                Output::Stream(file) => file.write(rest),
                Output::Syslog(syslog) => syslog.write_line(rest),
            };
            match result {
                Ok(0) => return Err((taken, io::ErrorKind::WriteZero.into())),
                Ok(bytes) => taken += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((taken, error)),
            }
        }
        Ok(())
    }
}

/// The syslog daemon.
#[derive(Debug)]
pub struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// Sends the first of `lines`; how many bytes that were.
    fn write_line(&mut self, lines: &[u8]) -> io::Result<usize> {
        let length = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
        let line = &lines[..length];
        let sent = match &self.socket {
            Some(socket) => socket.send(line),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        // A daemon that was started again has another socket of the same name.
        if sent.is_err() {
            self.socket = None;
            let socket = connect(&self.path)?;
            socket.send(line)?;
            self.socket = Some(socket);
        }
        Ok((length + 1).min(lines.len()))
    }
}

fn connect(path: impl AsRef<OsStr>) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path.as_ref())?;
    Ok(socket)
}
