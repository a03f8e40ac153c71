//! What `sub` and `rr` print of a message: the payload, or what a format (`-F`) makes of it, as Mosquitto's bytes.
//!
//! A format is taken apart once; a message then costs no more than its bytes. It prints nothing itself.
//!
//! 1. A format that was taken apart shows every message: there is no payload, property or time that makes it panic.
//! 2. Nothing is allocated for a message but the room it takes, save numbers with fractions in the JSON of `%J`.

mod json;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write;

use jiff::Zoned;
use jiff::fmt::StdIoWrite;
use jiff::fmt::strtime::{BrokenDownTime, Config as TimeConfig, PosixCustom};

use crate::mqtt::{PacketId, Property, Publish};

/// A format, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    pieces: Vec<Piece>,
    pretty: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// As it is.
    Text(Vec<u8>),
    /// `%`, with its options.
    Field(Field, Options),
    /// `@`, with the letter of strftime(3) behind a `%`.
    Time([u8; 2]),
    /// `@N`
    Nanoseconds,
}

/// The letters behind `%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    TopicAlias,
    ContentType,
    CorrelationData,
    MessageExpiry,
    PayloadFormat,
    Iso8601,
    Json { parsed: bool },
    Length,
    PacketId,
    UserProperties,
    Payload,
    QoS,
    ResponseTopic,
    Retain,
    SubscriptionIdentifier,
    Topic,
    UnixTime,
    Hex { upper: bool },
    Float,
    Double,
}

/// What may stand between `%` and its letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    left: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    separator: u8,
}

const NO_OPTIONS: Options = Options {
    left: false,
    zero: false,
    width: 0,
    precision: None,
    separator: b' ',
};

/// What may separate groups of hexadecimal digits. Every field takes one, and all others make nothing of it.
const SEPARATORS: &[u8] = b"!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~ ";

/// The letters that strftime(3) of the GNU C library makes something of.
const TIME_LETTERS: &[u8] = b"ABCDFGHIMPRSTUVWXYZabcdeghjklmnprstuwxyz%";

/// A field is no wider than this: a format makes no more of a message than memory holds.
const WIDTH_MAX: usize = 1 << 20;

/// No number of 64 bits has more digits behind its point; all that follow are zeros.
const FRACTION_DIGITS_MAX: usize = 1074;

/// What is wrong with a format, in Mosquitto's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatError {
    /// It ends behind `%` or `@`.
    IncompleteFormat,
    /// There is no such letter.
    InvalidFormat(char),
    /// It ends behind a backslash.
    IncompleteEscape,
    /// There is no such escape.
    InvalidEscape(char),
    /// A width or precision that no output has.
    TooWide,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::IncompleteFormat => f.write_str("Error: Incomplete format specifier."),
            FormatError::InvalidFormat(letter) => {
                write!(f, "Error: Invalid format specifier '{letter}'.")
            }
            FormatError::IncompleteEscape => f.write_str("Error: Incomplete escape specifier."),
            FormatError::InvalidEscape(letter) => {
                write!(f, "Error: Invalid escape specifier '{letter}'.")
            }
            FormatError::TooWide => {
                write!(f, "Error: Width or precision above {WIDTH_MAX} in format.")
            }
        }
    }
}

/// What of a message could not be shown as the format wants it: for standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageError {
    /// `%J`
    Json {
        /// Of the message.
        topic: String,
    },
    /// `%f` with other than 4 bytes.
    Float,
    /// `%d` with other than 8 bytes.
    Double,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Json { topic } => {
                write!(
                    f,
                    "Error: Message payload is not valid JSON on topic {topic}."
                )
            }
            MessageError::Float => {
                f.write_str("requested float printing, but non-float data received")
            }
            MessageError::Double => {
                f.write_str("requested double printing, but non-double data received")
            }
        }
    }
}

impl Format {
    /// Takes `text` apart. `pretty` spreads JSON over lines.
    /// # Errors
    /// If it is no format.
    pub fn parse(text: &str, pretty: bool) -> Result<Format, FormatError> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let piece = match c {
                '%' => parse_field(&mut rest)?,
                '@' => parse_time(&mut rest, &mut plain)?,
                '\\' => {
                    plain.push(escape(rest.next())?);
                    None
                }
                other => {
                    push_char(&mut plain, other);
                    None
                }
            };
            match piece {
                // `%%`
                None if c == '%' => plain.push(b'%'),
                None => {}
                Some(piece) => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(piece);
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Format { pieces, pretty })
    }

    /// Whether the time is shown.
    pub fn needs_time(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Text(_) => false,
            Piece::Field(field, _) => {
                matches!(field, Field::Iso8601 | Field::Json { .. } | Field::UnixTime)
            }
            Piece::Time(_) | Piece::Nanoseconds => true,
        })
    }

    /// Appends what the format makes of a message at the time `now`. What cannot be shown is left out.
    /// # Errors
    /// The first thing that was left out.
    pub fn write(
        &self,
        message: &Publish<'_>,
        now: &Zoned,
        out: &mut Vec<u8>,
    ) -> Result<(), MessageError> {
        let mut outcome = Ok(());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Field(field, options) => {
                    let written = self.write_field(*field, *options, message, now, out);
                    outcome = outcome.and(written);
                }
                Piece::Time(letter) => write_time(letter, now, out),
                Piece::Nanoseconds => print(out, format_args!("{:09}", now.subsec_nanosecond())),
            }
        }
        outcome
    }

    fn write_field(
        &self,
        field: Field,
        options: Options,
        message: &Publish<'_>,
        now: &Zoned,
        out: &mut Vec<u8>,
    ) -> Result<(), MessageError> {
        match field {
            Field::TopicAlias => options.write_optional(topic_alias(message), out),
            Field::MessageExpiry => options.write_optional(message_expiry(message), out),
            Field::PayloadFormat => options.write_optional(payload_format(message), out),
            Field::SubscriptionIdentifier => {
                options.write_optional(subscription_identifier(message), out);
            }
            Field::ContentType => match content_type(message) {
                Some(text) => options.write_text(text.as_bytes(), out),
                None => options.write_blank(out),
            },
            Field::ResponseTopic => {
                if let Some(text) = response_topic(message) {
                    options.write_text(text.as_bytes(), out);
                }
            }
            Field::CorrelationData => {
                out.extend_from_slice(correlation_data(message).unwrap_or_default());
            }
            Field::UserProperties => write_user_properties(message, out),
            Field::Iso8601 => {
                let start = out.len();
                write_time(b"%FT%T%z", now, out);
                options.cut_and_align(start, out);
            }
            Field::UnixTime => print(
                out,
                format_args!(
                    "{}.{:09}",
                    now.timestamp().as_second(),
                    now.subsec_nanosecond()
                ),
            ),
            Field::Json { parsed } => {
                let before = out.len();
                if !json::write(message, now, parsed, self.pretty, out) {
                    out.truncate(before);
                    return Err(MessageError::Json {
                        topic: message.topic.to_owned(),
                    });
                }
            }
            Field::Length => options.write_integer(message.payload.len() as i64, out),
            Field::PacketId => {
                let packet_id = message.packet_id.map_or(0, PacketId::get);
                options.write_integer(packet_id.into(), out);
            }
            Field::Payload => options.write_payload(message.payload, out),
            Field::Hex { upper } => options.write_hex(message.payload, upper, out),
            Field::QoS => out.push(b'0' + message.qos as u8),
            Field::Retain => out.push(b'0' + u8::from(message.retain)),
            Field::Topic => options.write_text(message.topic.as_bytes(), out),
            Field::Float => match message.payload.try_into() {
                Ok(bytes) => options.write_float(f32::from_ne_bytes(bytes).into(), out),
                Err(_) => return Err(MessageError::Float),
            },
            Field::Double => match message.payload.try_into() {
                Ok(bytes) => options.write_float(f64::from_ne_bytes(bytes), out),
                Err(_) => return Err(MessageError::Double),
            },
        }
        Ok(())
    }
}

/// What follows `%`; `None` for a second one.
fn parse_field(rest: &mut std::str::Chars<'_>) -> Result<Option<Piece>, FormatError> {
    let mut options = NO_OPTIONS;
    options.left = next_if(rest, |c| c == '-').is_some();
    options.zero = next_if(rest, |c| c == '0').is_some();
    options.width = parse_number(rest)?;
    if next_if(rest, |c| c == '.').is_some() {
        options.precision = Some(parse_number(rest)?);
    }
    let is_separator = |c| u8::try_from(c).is_ok_and(|byte| SEPARATORS.contains(&byte));
    if let Some(separator) = next_if(rest, is_separator) {
        options.separator = separator as u8;
    }
    let letter = rest.next().ok_or(FormatError::IncompleteFormat)?;
    let field = match letter {
        '%' => return Ok(None),
        'A' => Field::TopicAlias,
        'C' => Field::ContentType,
        'D' => Field::CorrelationData,
        'E' => Field::MessageExpiry,
        'F' => Field::PayloadFormat,
        'I' => Field::Iso8601,
        'J' => Field::Json { parsed: true },
        'P' => Field::UserProperties,
        'R' => Field::ResponseTopic,
        'S' => Field::SubscriptionIdentifier,
        'U' => Field::UnixTime,
        'X' => Field::Hex { upper: true },
        'd' => Field::Double,
        'f' => Field::Float,
        'j' => Field::Json { parsed: false },
        'l' => Field::Length,
        'm' => Field::PacketId,
        'p' => Field::Payload,
        'q' => Field::QoS,
        'r' => Field::Retain,
        't' => Field::Topic,
        'x' => Field::Hex { upper: false },
        other => return Err(FormatError::InvalidFormat(other)),
    };
    Ok(Some(Piece::Field(field, options)))
}

/// What follows `@`. What is no letter of strftime(3) stands as it is behind a `%`, as in C.
fn parse_time(
    rest: &mut std::str::Chars<'_>,
    plain: &mut Vec<u8>,
) -> Result<Option<Piece>, FormatError> {
    Ok(match rest.next().ok_or(FormatError::IncompleteFormat)? {
        '@' => {
            plain.push(b'@');
            None
        }
        'N' => Some(Piece::Nanoseconds),
        letter => match u8::try_from(letter) {
            Ok(letter) if TIME_LETTERS.contains(&letter) => Some(Piece::Time([b'%', letter])),
            _ => {
                plain.push(b'%');
                push_char(plain, letter);
                None
            }
        },
    })
}

/// A width or precision; none is 0.
fn parse_number(rest: &mut std::str::Chars<'_>) -> Result<usize, FormatError> {
    let mut number = 0;
    while let Some(digit) = next_if(rest, |c| c.is_ascii_digit()) {
        number = number * 10 + usize::from(digit as u8 - b'0');
        if number > WIDTH_MAX {
            return Err(FormatError::TooWide);
        }
    }
    Ok(number)
}

fn next_if(rest: &mut std::str::Chars<'_>, is_it: impl Fn(char) -> bool) -> Option<char> {
    let mut ahead = rest.clone();
    let next = ahead.next().filter(|c| is_it(*c))?;
    *rest = ahead;
    Some(next)
}

/// What a letter behind a backslash stands for.
fn escape(letter: Option<char>) -> Result<u8, FormatError> {
    Ok(match letter.ok_or(FormatError::IncompleteEscape)? {
        '\\' => b'\\',
        '0' => 0,
        'a' => 0x07,
        'e' => 0x1B,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0B,
        other => return Err(FormatError::InvalidEscape(other)),
    })
}

fn print(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Appends what strftime(3) makes of `now` in the locale "C".
fn write_time(format: &[u8], now: &Zoned, out: &mut Vec<u8>) {
    let config = TimeConfig::new().custom(PosixCustom::new());
    BrokenDownTime::from(now)
        .format_with_config(&config, format, &mut StdIoWrite(out))
        .expect("the letters are known, and a time with its zone has something for each");
}

fn pad(out: &mut Vec<u8>, byte: u8, count: usize) {
    out.resize(out.len() + count, byte);
}

impl Options {
    fn padding(self) -> u8 {
        if self.zero { b'0' } else { b' ' }
    }

    /// As `%*d` of printf(3); before 5.0 of MQTT nobody had numbers above its range, and they come out negative.
    fn write_integer(self, value: i64, out: &mut Vec<u8>) {
        let start = out.len();
        print(out, format_args!("{}", value as i32));
        self.align(start, self.zero, out);
    }

    fn write_optional(self, value: Option<u32>, out: &mut Vec<u8>) {
        match value {
            Some(value) => self.write_integer(value.into(), out),
            None => self.write_blank(out),
        }
    }

    fn write_blank(self, out: &mut Vec<u8>) {
        pad(out, self.padding(), self.width);
    }

    /// As `%*.*s` of printf(3): in bytes, and never padded with zeros.
    fn write_text(self, text: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(text);
        self.cut_and_align(start, out);
    }

    /// Does with what was appended since `start` as `%*.*s` does with its text.
    fn cut_and_align(self, start: usize, out: &mut Vec<u8>) {
        if let Some(precision) = self.precision {
            out.truncate(start + precision);
        }
        self.align(start, false, out);
    }

    /// As `%*.*f` of printf(3).
    fn write_float(self, value: f64, out: &mut Vec<u8>) {
        let start = out.len();
        let precision = self.precision.unwrap_or(6);
        if value.is_finite() {
            let digits = precision.min(FRACTION_DIGITS_MAX);
            print(out, format_args!("{value:.digits$}"));
            pad(out, b'0', precision - digits);
        } else {
            let sign = if value.is_sign_negative() { "-" } else { "" };
            let name = if value.is_nan() { "nan" } else { "inf" };
            print(out, format_args!("{sign}{name}"));
        }
        self.align(start, self.zero && value.is_finite(), out);
    }

    /// Fills what was appended since `start` up to the width: behind it, before it, or with zeros behind its sign.
    fn align(self, start: usize, zeros: bool, out: &mut Vec<u8>) {
        let missing = self.width.saturating_sub(out.len() - start);
        if missing == 0 {
            return;
        }
        pad(out, b' ', missing);
        if self.left {
            return;
        }
        let start = start + usize::from(zeros && out[start] == b'-');
        out[start..].rotate_right(missing);
        if zeros {
            out[start..start + missing].fill(b'0');
        }
    }

    /// The width cuts as well as it pads.
    fn write_payload(self, payload: &[u8], out: &mut Vec<u8>) {
        let len = match self.width {
            0 => payload.len(),
            width => payload.len().min(width),
        };
        if !self.left {
            pad(out, self.padding(), self.width.saturating_sub(len));
        }
        out.extend_from_slice(&payload[..len]);
        if self.left {
            // Mosquitto takes the payload's length for a width where none is given.
            pad(out, b' ', self.width.abs_diff(len));
        }
    }

    /// The width cuts bytes and pads digits; a separator follows each `precision` digits, padding among them.
    fn write_hex(self, payload: &[u8], upper: bool, out: &mut Vec<u8>) {
        let len = match self.width {
            0 => payload.len(),
            width => payload.len().min(width),
        };
        let used = match self.width {
            0 => len,
            _ => len * 2,
        };
        let mut position = 0;
        let mut digit = |out: &mut Vec<u8>, digit: u8, is_last: bool| {
            out.push(digit);
            position += 1;
            if let Some(precision @ 1..) = self.precision
                && position % precision == 0
                && !is_last
            {
                out.push(self.separator);
            }
        };
        if !self.left {
            for _ in used..self.width {
                digit(out, self.padding(), false);
            }
        }
        let digits = if upper {
            b"0123456789ABCDEF"
        } else {
            b"0123456789abcdef"
        };
        for (index, byte) in payload[..len].iter().enumerate() {
            digit(out, digits[usize::from(byte >> 4)], false);
            digit(out, digits[usize::from(byte & 15)], index + 1 == len);
        }
        if self.left {
            pad(out, b' ', self.width.abs_diff(used));
        }
    }
}

macro_rules! property_of {
    ($name:ident, $property:ident, $value:ident => $found:expr, $kind:ty) => {
        fn $name<'a>(message: &Publish<'a>) -> Option<$kind> {
            message
                .properties
                .iter()
                .find_map(|property| match property {
                    Property::$property($value) => Some($found),
                    _ => None,
                })
        }
    };
}

property_of!(topic_alias, TopicAlias, alias => alias.into(), u32);
property_of!(message_expiry, MessageExpiryInterval, seconds => seconds, u32);
property_of!(payload_format, PayloadFormatIndicator, format => format.into(), u32);
property_of!(subscription_identifier, SubscriptionIdentifier, identifier => identifier.0, u32);
property_of!(content_type, ContentType, text => text, &'a str);
property_of!(response_topic, ResponseTopic, text => text, &'a str);
property_of!(correlation_data, CorrelationData, data => data, &'a [u8]);

fn write_user_properties(message: &Publish<'_>, out: &mut Vec<u8>) {
    let mut is_first = true;
    for property in message.properties.iter() {
        if let Property::UserProperty((name, value)) = property {
            if !std::mem::take(&mut is_first) {
                out.push(b' ');
            }
            print(out, format_args!("{name}:{value}"));
        }
    }
}

/// How messages look without a format.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    /// With their topic (`-v`).
    pub verbose: bool,
    /// With a line end (not `-N`).
    pub newline: bool,
    /// The topic in colour; never but on a terminal.
    pub colour: bool,
}

/// Appends a message without a format.
pub fn write_plain(message: &Publish<'_>, plain: Plain, out: &mut Vec<u8>) {
    let is_empty = message.payload.is_empty();
    if is_empty && !(plain.verbose && plain.newline) {
        return;
    }
    if plain.verbose {
        let (begin, end) = if plain.colour {
            ("\x1b[36m", "\x1b[0m")
        } else {
            ("", "")
        };
        print(out, format_args!("{begin}{}{end} ", message.topic));
    }
    out.extend_from_slice(if is_empty { b"(null)" } else { message.payload });
    if plain.newline {
        out.push(b'\n');
    }
}
