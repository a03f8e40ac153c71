//! Lines of standard input, read no faster than they are sent.

use std::io;
use std::os::fd::BorrowedFd;

use memchr::memchr;

use crate::cli::client::session::PAYLOAD_BYTES_MAX;

/// Bytes that are read at a time.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What was read and not yet sent, and whether there is more.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    next: usize,
    /// Up to where there is no end of a line.
    searched: usize,
    has_ended: bool,
}

impl Lines {
    /// Reads once; what was handed out makes room. Call it when there is something to read, else it waits.
    /// # Errors
    /// Those of the system, and a line that no packet can hold.
    pub fn read(&mut self, input: BorrowedFd<'_>) -> io::Result<()> {
        self.bytes.drain(..self.next);
        self.searched -= self.next;
        self.next = 0;
        let filled = self.bytes.len();
        if filled > PAYLOAD_BYTES_MAX {
            let text =
                format!("a line of more than {PAYLOAD_BYTES_MAX} bytes does not fit a message");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.bytes.resize(filled + READ_BYTES_MAX, 0);
        let read = rustix::io::read(input, &mut self.bytes[filled..]);
        self.bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.has_ended = true,
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The next line without its end. The last need not have one.
    pub fn next(&mut self) -> Option<&[u8]> {
        let line = match memchr(b'\n', &self.bytes[self.searched..]) {
            Some(end) => {
                let end = self.searched + end;
                let line = self.next..end;
                self.next = end + 1;
                line
            }
            None if self.has_ended && self.next < self.bytes.len() => {
                let line = self.next..self.bytes.len();
                self.next = line.end;
                line
            }
            None => {
                self.searched = self.bytes.len();
                return None;
            }
        };
        self.searched = self.next;
        Some(&self.bytes[line])
    }

    /// Whether standard input has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether every line was handed out.
    pub fn is_at_end(&self) -> bool {
        self.has_ended && self.next == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            writer.write_all(chunk).expect("it fits the pipe");
            lines.read(reader.as_fd()).expect("it was written");
            while let Some(line) = lines.next() {
                found.push(line.to_vec());
            }
            assert!(!lines.is_at_end());
        }
        drop(writer);
        lines.read(reader.as_fd()).expect("the end");
        while let Some(line) = lines.next() {
            found.push(line.to_vec());
        }
        assert!(lines.is_at_end());
        found
    }

    #[test]
    fn each_line_once() {
        for (chunks, expected) in [
            (&[][..], &[][..]),
            (&[b"a\nb\n"], &[b"a", b"b"]),
            (&[b"a\n\nb"], &[b"a", b"", b"b"]),
            (&[b"a", b"b", b"\nc\n", b"d"], &[b"ab", b"c", b"d"]),
            (&[b"\n"], &[b""]),
            (&[b"a\0b\r\n\xFF\n"], &[b"a\0b\r", b"\xFF"]),
        ] as [(&[&[u8]], &[&[u8]]); 6]
        {
            assert_eq!(lines_of(chunks), expected, "{chunks:?}");
        }
    }
}
