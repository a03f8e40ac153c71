//! Bytes on their way to the socket: small packets one behind the other, large ones by reference.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// From this size a packet that is kept anyway is referred to rather than copied.
const SHARED_BYTES_MIN: usize = 4096;

/// A piece holds no more small packets than this, so that what has left is freed.
const PIECE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Rc<Vec<u8>>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct Sending {
    pieces: VecDeque<Piece>,
    /// How much of the first piece has left.
    sent: usize,
}

impl Sending {
    /// Where a small packet is appended.
    pub fn small(&mut self) -> &mut Vec<u8> {
        if !matches!(self.pieces.back(), Some(Piece::Own(bytes)) if bytes.len() < PIECE_BYTES_MAX) {
            self.pieces.push_back(Piece::Own(Vec::new()));
        }
        match self.pieces.back_mut() {
            Some(Piece::Own(bytes)) => bytes,
            _ => unreachable!("one was just made"),
        }
    }

    /// Appends a packet that somebody keeps.
    pub fn shared(&mut self, packet: &Rc<Vec<u8>>) {
        match packet.len() < SHARED_BYTES_MIN {
            true => self.small().extend_from_slice(packet),
            false => self.pieces.push_back(Piece::Shared(Rc::clone(packet))),
        }
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        let all: usize = self.pieces.iter().map(|piece| piece.bytes().len()).sum();
        all - self.sent
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(|piece| piece.bytes().is_empty())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.sent = 0;
    }

    /// Gives `write` what waits until it takes no more.
    /// # Errors
    /// Those of `write`, but for its saying that it would block.
    pub fn write_to(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(piece) = self.pieces.front() {
            let rest = &piece.bytes()[self.sent..];
            if rest.is_empty() {
                self.pieces.pop_front();
                self.sent = 0;
                continue;
            }
            match write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
