//! Integers, Variable Byte Integers, UTF-8 strings and binary data (1.5), read from a slice and appended to a buffer.

use super::{DecodeError, PacketId};
use std::num::NonZeroU16;

/// The largest Variable Byte Integer (1.5.5).
pub const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// Reads the fields of a packet from the front of a slice; every read beyond its end is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(DecodeError::Malformed(
                "packet ends in the middle of a field",
            ))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// Two Byte Integer (1.5.2).
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Four Byte Integer (1.5.3).
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Variable Byte Integer (1.5.5): at most four bytes, and no longer than it needs [MQTT-1.5.5-1].
    #[inline]
    pub fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        // One byte nearly always: property identifiers and their lengths.
        if let [byte @ 0..0x80, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Ok(u32::from(*byte));
        }
        self.wide_variable_byte_integer()
    }

    fn wide_variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for i in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                if byte == 0 && i > 0 {
                    return Err(DecodeError::Malformed(
                        "variable byte integer longer than needed",
                    ));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed(
            "variable byte integer of more than four bytes",
        ))
    }

    /// Binary Data (1.5.6).
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// UTF-8 Encoded String (1.5.4).
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        utf8(self.binary()?)
    }

    /// A Packet Identifier; zero is a Protocol Error [MQTT-2.2.1-3].
    #[inline]
    pub fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        NonZeroU16::new(self.u16()?)
            .map(PacketId)
            .ok_or(DecodeError::Protocol("packet identifier 0"))
    }
}

/// `bytes` as a UTF-8 Encoded String (1.5.4).
///
/// Surrogates [MQTT-1.5.4-1] and U+0000 [MQTT-1.5.4-2] are malformed as the specification demands; so are, as in
/// Mosquitto, the characters that 1.5.4 says a sender SHOULD NOT use (controls and non-characters): strings become log
/// lines and topics, where a hidden newline is a forged line. A leading U+FEFF stays [MQTT-1.5.4-3].
#[inline]
pub fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("string is not UTF-8"))?;
    let mut special = 0;
    for_each_word(bytes, |word| special |= special_in(word));
    if special == 0 {
        return Ok(text);
    }
    check_characters(text)
}

/// `byte` in each byte of a word.
pub(super) const fn everywhere(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Not 0 if and only if a byte of `word` is 0.
#[inline]
pub(super) const fn zero_in(word: u64) -> u64 {
    word.wrapping_sub(everywhere(1)) & !word & everywhere(0x80)
}

/// Not 0 if and only if a byte of `word` is not printable ASCII: nearly every string is.
#[inline]
pub(super) const fn special_in(word: u64) -> u64 {
    let control = word.wrapping_sub(everywhere(b' ')) & !word;
    (control | word) & everywhere(0x80) | zero_in(word ^ everywhere(0x7F))
}

/// Calls `look` with all of `bytes`, eight at a time, some perhaps twice, some of the last word perhaps spaces.
///
/// For questions about single bytes of short strings, which a loop over bytes answers in more time than all the rest of
/// a small PUBLISH takes to decode: the compiler's vectors want more than a topic's few dozen bytes.
#[inline]
pub(super) fn for_each_word(bytes: &[u8], mut look: impl FnMut(u64)) {
    let (words, rest) = bytes.as_chunks::<8>();
    for &word in words {
        look(u64::from_ne_bytes(word));
    }
    if rest.is_empty() {
        return;
    }
    match bytes.last_chunk::<8>() {
        Some(&word) => look(u64::from_ne_bytes(word)),
        None => look(
            rest.iter()
                .fold(everywhere(b' '), |word, &byte| word << 8 | u64::from(byte)),
        ),
    }
}

/// The long way to the same answer for a string with other characters.
#[cold]
pub(super) fn check_characters(text: &str) -> Result<&str, DecodeError> {
    for character in text.chars() {
        let code = u32::from(character);
        if code == 0 {
            return Err(DecodeError::Malformed("string with U+0000"));
        }
        if character.is_control() {
            return Err(DecodeError::Malformed("string with a control character"));
        }
        if code & 0xFFFE == 0xFFFE || (0xFDD0..=0xFDEF).contains(&code) {
            return Err(DecodeError::Malformed(
                "string with a Unicode non-character",
            ));
        }
    }
    Ok(text)
}

/// Writes `value` as a Variable Byte Integer to the front of `out`; how many bytes it took.
#[inline]
pub fn variable_byte_integer(mut value: u32, out: &mut [u8; 4]) -> usize {
    debug_assert!(value <= VARIABLE_BYTE_INTEGER_MAX);
    let mut length = 0;
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 || length == 3 {
            out[length] = low;
            return length + 1;
        }
        out[length] = low | 0x80;
        length += 1;
    }
}

/// How many bytes `value` takes as a Variable Byte Integer.
#[inline]
pub const fn variable_byte_integer_length(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends `value` as a Variable Byte Integer.
#[inline]
pub fn put_variable_byte_integer(out: &mut Vec<u8>, value: u32) {
    let mut encoded = [0; 4];
    let length = variable_byte_integer(value, &mut encoded);
    out.extend_from_slice(&encoded[..length]);
}

/// Appends Binary Data, or a string's bytes, with its length in front.
///
/// # Panics
/// When `bytes` is longer than 65,535 bytes: whoever builds a packet checks that first.
#[inline]
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("fields of a packet are at most 65,535 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_1_5_5_1_variable_byte_integers() {
        let table: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (VARIABLE_BYTE_INTEGER_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            put_variable_byte_integer(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(variable_byte_integer_length(value), bytes.len());
            assert_eq!(Reader::new(bytes).variable_byte_integer(), Ok(value));
        }
        for bad in [&[0x80, 0][..], &[0x80, 0x80, 0x80, 0x80, 1], &[0xFF], &[]] {
            assert!(Reader::new(bad).variable_byte_integer().is_err(), "{bad:?}");
        }
    }

    /// Every byte, in every place of strings shorter and longer than a word.
    #[test]
    fn words_see_every_byte() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let (mut special, mut zero) = (0, 0);
                    for_each_word(&bytes, |word| {
                        special |= special_in(word);
                        zero |= zero_in(word);
                    });
                    assert_eq!(special == 0, (0x20..0x7F).contains(&byte), "{bytes:?}");
                    assert_eq!(zero != 0, byte == 0, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn mqtt_1_5_4_strings() {
        for good in [
            "",
            "plain",
            "\u{FEFF}marked",
            "\u{10FFFD}",
            "žluťoučký/😀",
            "a b~",
        ] {
            assert_eq!(utf8(good.as_bytes()), Ok(good));
        }
        let bad: [&[u8]; 9] = [
            b"a\0b",
            b"\x1F",
            b"\x7F",
            b"a\nb",
            "\u{85}".as_bytes(),
            "\u{FFFE}".as_bytes(),
            "\u{FDD0}".as_bytes(),
            b"\xED\xA0\x80",
            b"\xC0\x80",
        ];
        for bytes in bad {
            assert!(utf8(bytes).is_err(), "{bytes:?}");
        }
    }
}
