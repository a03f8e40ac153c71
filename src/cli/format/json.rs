//! `%j` and `%J`: a message as JSON, byte for byte as Mosquitto's, which writes it by cJSON.
//!
//! No crate does that: numbers are rounded and shortened as cJSON does, objects keep their order and their duplicates,
//! strings their bytes. The payload of `%J` is taken over token by token into the output; nothing is built in between.
//! 1. Nesting is bounded by [`DEPTH_MAX`], so no payload exhausts the stack.
//! 2. What is written of a string with a NUL is all of it, where Mosquitto stops at the NUL; in the text of a payload
//!    for `%J` a NUL is as wrong as it is to Mosquitto, unless it is escaped.

use std::io::Write;

use jiff::Zoned;

use super::write_time;
use crate::mqtt::{Property, Publish};

/// cJSON's limit of nesting.
const DEPTH_MAX: usize = 1000;

/// Appends the message. False if the payload of `%J` is no JSON; what was appended then means nothing.
pub fn write(
    message: &Publish<'_>,
    now: &Zoned,
    parsed: bool,
    pretty: bool,
    out: &mut Vec<u8>,
) -> bool {
    let mut writer = Writer {
        out,
        pretty,
        depth: 0,
    };
    writer.begin_object();
    writer.key(true, b"tst");
    writer.raw(b"\"");
    write_time(b"%Y-%m-%dT%H:%M:%S.%6f%z", now, writer.out);
    writer.raw(b"\"");
    writer.key(false, b"topic");
    writer.string(message.topic.as_bytes());
    writer.key(false, b"qos");
    writer.integer(message.qos as u64);
    writer.key(false, b"retain");
    writer.raw(if message.retain { b"true" } else { b"false" });
    writer.key(false, b"payloadlen");
    writer.integer(message.payload.len() as u64);
    if let Some(packet_id) = message.packet_id {
        writer.key(false, b"mid");
        writer.integer(packet_id.get().into());
    }
    if !message.properties.is_empty() {
        writer.key(false, b"properties");
        write_properties(message, &mut writer);
    }
    writer.key(false, b"payload");
    let is_valid = match (message.payload, parsed) {
        ([], _) => {
            writer.raw(b"null");
            true
        }
        (payload, false) => {
            writer.string(payload);
            true
        }
        (payload, true) => copy_document(payload, &mut writer).is_some(),
    };
    writer.end_object();
    is_valid
}

fn write_properties(message: &Publish<'_>, writer: &mut Writer<'_>) {
    let is_user = |property: &Property<'_>| matches!(property, Property::UserProperty(..));
    let mut is_first = true;
    let mut has_users = false;
    writer.begin_object();
    for property in message.properties.iter() {
        if is_user(&property) {
            // All of them stand where the first one stood.
            if std::mem::replace(&mut has_users, true) {
                continue;
            }
            writer.key(std::mem::take(&mut is_first), b"user-properties");
            writer.begin_array();
            let users = message.properties.iter().filter(is_user);
            for (index, property) in users.enumerate() {
                if let Property::UserProperty((name, value)) = property {
                    writer.element(index == 0);
                    writer.begin_object();
                    writer.key(true, name.as_bytes());
                    writer.string(value.as_bytes());
                    writer.end_object();
                }
            }
            writer.end_array();
            continue;
        }
        writer.key(std::mem::take(&mut is_first), property.name().as_bytes());
        match property {
            Property::PayloadFormatIndicator(value) => writer.integer(value.into()),
            Property::MessageExpiryInterval(value) => writer.integer(value.into()),
            Property::SubscriptionIdentifier(value) => writer.integer(value.0.into()),
            Property::TopicAlias(value) => writer.integer(value.into()),
            Property::ContentType(text) | Property::ResponseTopic(text) => {
                writer.string(text.as_bytes());
            }
            Property::CorrelationData(data) => writer.string(data),
            // PUBLISH has no others.
            _ => writer.raw(b"null"),
        }
    }
    writer.end_object();
}

/// JSON as cJSON prints it, on one line or over several.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    pretty: bool,
    depth: usize,
}

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn tabs(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, b'\t');
    }

    fn begin_object(&mut self) {
        self.depth += 1;
        self.raw(if self.pretty { b"{\n" } else { b"{" });
    }

    /// The name of the next member.
    fn key(&mut self, is_first: bool, name: &[u8]) {
        if !is_first {
            self.raw(if self.pretty { b",\n" } else { b"," });
        }
        if self.pretty {
            self.tabs(self.depth);
        }
        self.string(name);
        self.raw(if self.pretty { b":\t" } else { b":" });
    }

    fn end_object(&mut self) {
        self.depth -= 1;
        if self.pretty {
            if !self.out.ends_with(b"{\n") {
                self.raw(b"\n");
            }
            self.tabs(self.depth);
        }
        self.raw(b"}");
    }

    fn begin_array(&mut self) {
        self.depth += 1;
        self.raw(b"[");
    }

    fn element(&mut self, is_first: bool) {
        if !is_first {
            self.raw(if self.pretty { b", " } else { b"," });
        }
    }

    fn end_array(&mut self) {
        self.depth -= 1;
        self.raw(b"]");
    }

    fn integer(&mut self, value: u64) {
        write!(self.out, "{value}").expect("a Vec takes everything");
    }

    fn string(&mut self, bytes: &[u8]) {
        self.raw(b"\"");
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.plain_characters(rest);
            if let Some((&byte, behind)) = rest.split_first() {
                self.character(byte);
                rest = behind;
            }
        }
        self.raw(b"\"");
    }

    /// Those at the front that need no escape; what is left begins with one that does.
    fn plain_characters<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let is_plain = |&&byte: &&u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        let (plain, rest) = bytes.split_at(bytes.iter().take_while(is_plain).count());
        self.raw(plain);
        rest
    }

    /// One byte of a string.
    fn character(&mut self, byte: u8) {
        match byte {
            b'"' => self.raw(b"\\\""),
            b'\\' => self.raw(b"\\\\"),
            0x08 => self.raw(b"\\b"),
            0x0C => self.raw(b"\\f"),
            b'\n' => self.raw(b"\\n"),
            b'\r' => self.raw(b"\\r"),
            b'\t' => self.raw(b"\\t"),
            ..0x20 => write!(self.out, "\\u{byte:04x}").expect("a Vec takes everything"),
            _ => self.out.push(byte),
        }
    }
}

/// What is left of a payload.
struct Reader<'a> {
    rest: &'a [u8],
}

/// Takes a payload over, which must be one value; `None` if it is not.
fn copy_document(payload: &[u8], writer: &mut Writer<'_>) -> Option<()> {
    // To cJSON the text ends there, and then not all of the payload was read.
    if memchr::memchr(0, payload).is_some() {
        return None;
    }
    let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
    let mut reader = Reader { rest: payload };
    let limit = DEPTH_MAX;
    reader.skip_space();
    copy_value(&mut reader, writer, limit)?;
    reader.skip_space();
    reader.rest.is_empty().then_some(())
}

impl<'a> Reader<'a> {
    /// White space to cJSON is everything up to the blank.
    fn skip_space(&mut self) {
        let len = self.rest.iter().take_while(|&&byte| byte <= b' ').count();
        self.rest = &self.rest[len..];
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn next_is(&mut self, text: &[u8]) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        digits.iter().try_fold(0, |value, &digit| {
            Some(value << 4 | char::from(digit).to_digit(16)?)
        })
    }

    /// The longest number at the front, as strtod(3) reads it.
    fn number(&mut self) -> Option<f64> {
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| is_digit(byte)).count();
        let bytes = self.rest;
        let mut len = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(&bytes[len..]);
        len += whole;
        let mut fraction = 0;
        if bytes.get(len) == Some(&b'.') {
            fraction = digits(&bytes[len + 1..]);
            len += 1 + fraction;
        }
        if whole + fraction == 0 {
            return None;
        }
        if matches!(bytes.get(len), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
            let exponent = digits(bytes.get(len + 1 + sign..).unwrap_or_default());
            if exponent > 0 {
                len += 1 + sign + exponent;
            }
        }
        let text = std::str::from_utf8(&bytes[..len]).ok()?;
        self.rest = &bytes[len..];
        text.parse().ok()
    }
}

fn copy_value(reader: &mut Reader<'_>, writer: &mut Writer<'_>, limit: usize) -> Option<()> {
    match reader.rest.first()? {
        b'{' => copy_object(reader, writer, limit.checked_sub(1)?),
        b'[' => copy_array(reader, writer, limit.checked_sub(1)?),
        b'"' => copy_string(reader, writer),
        b'-' | b'0'..=b'9' => {
            let number = reader.number()?;
            // What 15 digits hold without a point needs no rounding.
            match number.fract() == 0.0 && number.abs() < 1e15 && number != 0.0 {
                true => write!(writer.out, "{}", number as i64).expect("a Vec takes everything"),
                false => writer.raw(number_text(number).as_bytes()),
            }
            Some(())
        }
        _ => {
            for literal in [&b"null"[..], b"true", b"false"] {
                if reader.next_is(literal) {
                    writer.raw(literal);
                    return Some(());
                }
            }
            None
        }
    }
}

fn copy_object(reader: &mut Reader<'_>, writer: &mut Writer<'_>, limit: usize) -> Option<()> {
    reader.next();
    writer.begin_object();
    reader.skip_space();
    if reader.next_is(b"}") {
        writer.end_object();
        return Some(());
    }
    let mut is_first = true;
    loop {
        reader.skip_space();
        copy_key(reader, writer, is_first)?;
        is_first = false;
        reader.skip_space();
        if !reader.next_is(b":") {
            return None;
        }
        reader.skip_space();
        if writer.pretty {
            writer.raw(b":\t");
        } else {
            writer.raw(b":");
        }
        copy_value(reader, writer, limit)?;
        reader.skip_space();
        match reader.next()? {
            b',' => {}
            b'}' => {
                writer.end_object();
                return Some(());
            }
            _ => return None,
        }
    }
}

fn copy_key(reader: &mut Reader<'_>, writer: &mut Writer<'_>, is_first: bool) -> Option<()> {
    if reader.rest.first() != Some(&b'"') {
        return None;
    }
    if !is_first {
        writer.raw(if writer.pretty { b",\n" } else { b"," });
    }
    if writer.pretty {
        writer.tabs(writer.depth);
    }
    copy_string(reader, writer)
}

fn copy_array(reader: &mut Reader<'_>, writer: &mut Writer<'_>, limit: usize) -> Option<()> {
    reader.next();
    writer.begin_array();
    reader.skip_space();
    if reader.next_is(b"]") {
        writer.end_array();
        return Some(());
    }
    let mut is_first = true;
    loop {
        reader.skip_space();
        writer.element(std::mem::take(&mut is_first));
        copy_value(reader, writer, limit)?;
        reader.skip_space();
        match reader.next()? {
            b',' => {}
            b']' => {
                writer.end_array();
                return Some(());
            }
            _ => return None,
        }
    }
}

fn copy_string(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Option<()> {
    reader.next();
    writer.raw(b"\"");
    loop {
        reader.rest = writer.plain_characters(reader.rest);
        match reader.next()? {
            b'"' => break,
            b'\\' => copy_escape(reader, writer)?,
            byte => writer.character(byte),
        }
    }
    writer.raw(b"\"");
    Some(())
}

fn copy_escape(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Option<()> {
    let byte = match reader.next()? {
        byte @ (b'"' | b'\\' | b'/') => byte,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let mut code = reader.hex()?;
            if (0xD800..0xDC00).contains(&code) {
                if !reader.next_is(b"\\u") {
                    return None;
                }
                let low = reader
                    .hex()?
                    .checked_sub(0xDC00)
                    .filter(|low| *low < 0x400)?;
                code = 0x10000 + ((code - 0xD800) << 10 | low);
            }
            // A lone half is no character. NUL is: cJSON ends the string there, we do not.
            let character = char::from_u32(code)?;
            for &byte in character.encode_utf8(&mut [0; 4]).as_bytes() {
                writer.character(byte);
            }
            return Some(());
        }
        _ => return None,
    };
    writer.character(byte);
    Some(())
}

/// A number as cJSON prints it: with 15 digits, or 17 where those lose something.
fn number_text(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let short = general(value, 15);
    let read: f64 = short.parse().unwrap_or(f64::NAN);
    match (read - value).abs() <= read.abs().max(value.abs()) * f64::EPSILON {
        true => short,
        false => general(value, 17),
    }
}

/// As `%.{digits}g` of printf(3).
fn general(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("it has an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(payload: &[u8], pretty: bool) -> Option<String> {
        let mut out = Vec::new();
        let mut writer = Writer {
            out: &mut out,
            pretty,
            depth: 0,
        };
        copy_document(payload, &mut writer)?;
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn payloads_as_cjson_prints_them() {
        for (payload, expected) in [
            ("1", "1"),
            (" [ 1 , 2 ]\n", "[1,2]"),
            ("{\"b\":1,\"a\":{},\"b\":[]}", "{\"b\":1,\"a\":{},\"b\":[]}"),
            ("1e3", "1000"),
            ("1.0", "1"),
            ("0.1", "0.1"),
            ("01", "1"),
            ("1.", "1"),
            ("-0", "-0"),
            ("1234567890", "1234567890"),
            ("\"a\\u0000b\"", "\"a\\u0000b\""),
            ("-0.5e-7", "-5e-08"),
            ("3000000000", "3000000000"),
            ("1e15", "1e+15"),
            ("123456789012345678", "1.2345678901234568e+17"),
            ("0.30000000000000004", "0.3"),
            ("3.141592653589793", "3.1415926535897931"),
            ("1e400", "null"),
            (
                "\"\\u00e4\\/\\ud83d\\ude00\\n\\u0001\"",
                "\"ä/😀\\n\\u0001\"",
            ),
            ("\"raw\ttab\"", "\"raw\\ttab\""),
            ("null", "null"),
            ("\u{FEFF}true", "true"),
        ] {
            assert_eq!(
                copied(payload.as_bytes(), false).as_deref(),
                Some(expected),
                "{payload}"
            );
        }
    }

    #[test]
    fn what_is_no_json() {
        for payload in [
            "x",
            "nul",
            "{",
            "[1,]",
            "{\"a\"}",
            "{a:1}",
            "1 2",
            "\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\u00\"",
            "-",
            "+1",
            ".5",
            "True",
            "1\0",
            "[1,\0 2]",
            "\"a\0b\"",
            // To cJSON this escape is a NUL, and the string ends there.
            "\"\\uzzzz\"",
            "{\"a\":1,}",
            "",
        ] {
            assert_eq!(copied(payload.as_bytes(), false), None, "{payload}");
        }
    }

    #[test]
    fn over_several_lines() {
        let payload = b"{\"a\":[1,{\"b\":2}],\"c\":{}}";
        let expected = "{\n\t\"a\":\t[1, {\n\t\t\t\"b\":\t2\n\t\t}],\n\t\"c\":\t{\n\t}\n}";
        assert_eq!(copied(payload, true).as_deref(), Some(expected));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(copied(nested(1000).as_bytes(), false).is_some());
        assert!(copied(nested(1001).as_bytes(), false).is_none());
        assert!(copied("[".repeat(1_000_000).as_bytes(), false).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_payload_is_taken_or_refused(payload: Vec<u8>, pretty: bool) {
            copied(&payload, pretty);
        }

        #[test]
        fn any_number_can_be_read_again(value: f64) {
            let text = number_text(value);
            if value.is_finite() {
                let read: f64 = text.parse().expect("a number");
                proptest::prop_assert!((read - value).abs() <= value.abs() * 1e-14);
            }
        }
    }
}
