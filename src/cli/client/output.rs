//! Standard output of a tool: gathered while there is more to do, and written before anybody waits.
//!
//! 1. Nothing stays here when the tool waits or ends; a terminal gets each message at once.
//! 2. A reader that is gone is no panic: [`Output::has_failed`] says so, and the tool ends.
//! 3. A reader that is slow holds the tool up, but not a user who wants to stop it: what it did not take is dropped then.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

/// Bytes that are gathered before they are written, though nobody waits yet.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// What a pipe that is ready for writing takes without blocking: PIPE_BUF of Linux (pipe(7)).
const PIPE_BYTES_MIN: usize = 4096;

/// Standard output.
#[derive(Debug)]
pub struct Output {
    bytes: Vec<u8>,
    is_terminal: bool,
    /// Whether a write may have to wait for somebody.
    may_block: bool,
    has_failed: bool,
    /// Becomes readable when the user wants to stop.
    interrupt: Option<OwnedFd>,
}

impl Output {
    /// The process's own. `interrupt` becomes readable when the user wants to stop.
    pub fn new(interrupt: Option<OwnedFd>) -> Output {
        let file_type = fstat(io::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        Output {
            bytes: Vec::new(),
            is_terminal: io::stdout().is_terminal(),
            may_block: !matches!(file_type, Ok(FileType::RegularFile)),
            has_failed: false,
            interrupt,
        }
    }

    /// One that nobody reads but a test: everything stays in [`Output::bytes`].
    pub fn kept() -> Output {
        Output {
            bytes: Vec::new(),
            is_terminal: false,
            may_block: false,
            has_failed: false,
            interrupt: None,
        }
    }

    /// Whether a person reads it.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether it cannot be written any more.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Where the next bytes go; [`Output::end`] belongs behind each message.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// One line.
    pub fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.bytes, "{line}").expect("a Vec takes everything");
        self.end();
    }

    /// The end of a message or line: written at once to a terminal, and when much has gathered.
    pub fn end(&mut self) {
        if self.is_terminal || self.bytes.len() >= GATHERED_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes everything that has gathered.
    pub fn flush(&mut self) {
        let mut rest = self.bytes.as_slice();
        while !rest.is_empty() && !self.has_failed {
            let len = match self.may_block {
                true if !self.has_room() => break,
                true => rest.len().min(PIPE_BYTES_MIN),
                false => rest.len(),
            };
            match rustix::io::write(io::stdout().as_fd(), &rest[..len]) {
                Ok(len) => rest = &rest[len..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.has_failed = true,
            }
        }
        self.bytes.clear();
    }

    /// Waits until standard output takes something; false if the user wants to stop, and it does not take it now.
    fn has_room(&self) -> bool {
        let stdout = io::stdout();
        let mut fds = vec![PollFd::new(&stdout, PollFlags::OUT)];
        fds.extend(
            (self.interrupt.as_ref()).map(|interrupt| PollFd::new(interrupt, PollFlags::IN)),
        );
        loop {
            match poll(&mut fds, None) {
                Ok(_) => return !fds[0].revents().is_empty(),
                Err(Errno::INTR) => {}
                // Not everything can be polled; it can be written all the same.
                Err(_) => return true,
            }
        }
    }
}

/// Whether `fd` has something to read now.
pub fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}
