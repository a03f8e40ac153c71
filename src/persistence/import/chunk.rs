//! The header's size and the chunks behind it: where one ends and the next begins, and nothing of what is in them.
//!
//! 1. A chunk that is given out is whole. No more memory is taken for it than it has bytes in the file.

use crate::mqtt::primitive::VARIABLE_BYTE_INTEGER_MAX;
use std::io::Read;

/// What the file begins with.
pub const MAGIC: &[u8; 15] = b"\0\xB5\0mosquitto db";
/// [`MAGIC`], checksum and version.
pub const HEADER_BYTES: usize = MAGIC.len() + 4 + 4;

/// A piece of the file.
pub struct Chunk<'a> {
    /// Where it begins.
    pub offset: u64,
    /// What it is a chunk of.
    pub kind: u32,
    /// What it holds.
    pub body: &'a [u8],
}

/// The pieces behind the header, one after the other.
pub struct Chunks<R> {
    source: R,
    /// Where the next one begins; where the reading stopped, after an error.
    pub offset: u64,
    buffer: Vec<u8>,
}

/// The largest chunk that can be: a message whose payload and properties fill a packet, and two names.
const CHUNK_BYTES_MAX: u32 = VARIABLE_BYTE_INTEGER_MAX + 2 * u16::MAX as u32 + 256;

impl<R: Read> Chunks<R> {
    /// Those in `source`, from which the header was read.
    pub fn new(source: R) -> Chunks<R> {
        Chunks {
            source,
            offset: HEADER_BYTES as u64,
            buffer: Vec::new(),
        }
    }

    /// Reads `length` bytes into the buffer, which grows with what is there and not with what is asked for.
    fn fill(&mut self, length: u32) -> Result<(), String> {
        self.buffer.clear();
        (&mut self.source)
            .take(length.into())
            .read_to_end(&mut self.buffer)
            .map_err(|error| format!("cannot read on: {error}"))?;
        Ok(())
    }

    /// The next one; an error says why there cannot be another.
    pub fn next(&mut self) -> Result<Option<Chunk<'_>>, String> {
        self.fill(8)?;
        let (kind, length) = match *self.buffer {
            [] => return Ok(None),
            [a, b, c, d, e, f, g, h] => (
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
            ),
            _ => return Err("the file ends in the middle of a chunk".to_owned()),
        };
        if length > CHUNK_BYTES_MAX {
            return Err(format!(
                "a chunk of {length} bytes, where {CHUNK_BYTES_MAX} is the most there can be"
            ));
        }
        self.fill(length)?;
        let found = self.buffer.len();
        if found < length as usize {
            return Err(format!(
                "the file ends in the middle of a chunk: {found} of its {length} bytes are there"
            ));
        }
        let offset = self.offset;
        self.offset += 8 + u64::from(length);
        Ok(Some(Chunk {
            offset,
            kind,
            body: &self.buffer,
        }))
    }
}
