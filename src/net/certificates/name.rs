//! The names in a certificate: subject -> user name.
//!
//! Knows X.500 names as OpenSSL prints them, since password and ACL files were written for what Mosquitto made of them.
//! 1. A user name is never empty, is UTF-8 and holds no control character.
//! 2. Of several common names the first counts, as with Mosquitto.

use std::fmt::Write as _;

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::error::NameFault;

/// The most bytes of a user name in MQTT.
const NAME_BYTES_MAX: usize = u16::MAX as usize;

const COMMON_NAME: &str = "2.5.4.3";

/// The short names that OpenSSL has for attributes.
const SHORT_NAMES: [(&str, &str); 26] = [
    (COMMON_NAME, "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The common name of `subject`: the first.
pub(super) fn common_name(subject: &X509Name<'_>) -> Result<String, NameFault> {
    let attribute = subject
        .iter_attributes()
        .find(|attribute| attribute.attr_type().to_id_string() == COMMON_NAME)
        .ok_or(NameFault::Missing)?;
    // The bytes as they are, of whatever string type: a BMPString is no UTF-8, or holds NUL.
    let name = std::str::from_utf8(attribute.as_slice()).map_err(|_| NameFault::NotUtf8)?;
    checked(name.to_owned())
}

/// The whole of `subject` as RFC 2253 writes it, the last attribute first, with all but ASCII escaped.
pub(super) fn whole(subject: &X509Name<'_>) -> Result<String, NameFault> {
    let mut text = String::new();
    for rdn in subject.iter_rdn().collect::<Vec<_>>().into_iter().rev() {
        for (i, attribute) in rdn.iter().collect::<Vec<_>>().into_iter().rev().enumerate() {
            match i {
                0 if text.is_empty() => {}
                0 => text.push(','),
                _ => text.push('+'),
            }
            print(attribute, &mut text);
        }
    }
    checked(text)
}

/// What Mosquitto's own check of UTF-8 refuses in a user name, and the length that MQTT allows.
fn checked(name: String) -> Result<String, NameFault> {
    match name {
        name if name.is_empty() => Err(NameFault::Empty),
        name if name.len() > NAME_BYTES_MAX => Err(NameFault::TooLong),
        name if name.chars().any(|c| c.is_control() || is_noncharacter(c)) => {
            Err(NameFault::ControlCharacter)
        }
        name => Ok(name),
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

fn print(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
    let decoded = match value.tag() {
        Tag::Utf8String => std::str::from_utf8(value.data).ok().map(str::to_owned),
        Tag::PrintableString
        | Tag::Ia5String
        | Tag::T61String
        | Tag::NumericString
        | Tag::VisibleString => Some(value.data.iter().map(|&byte| char::from(byte)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = value
                .data
                .chunks(2)
                .map(|pair| {
                    pair.iter()
                        .fold(0, |unit, &byte| unit << 8 | u16::from(byte))
                })
                .collect();
            String::from_utf16(&units).ok()
        }
        Tag::UniversalString => value
            .data
            .chunks(4)
            .map(|four| {
                char::from_u32(
                    four.iter()
                        .fold(0, |code, &byte| code << 8 | u32::from(byte)),
                )
            })
            .collect(),
        _ => None,
    };
    match (short, decoded) {
        (Some((_, name)), Some(decoded)) => {
            text.push_str(name);
            text.push('=');
            escape(&decoded, text);
        }
        (short, _) => {
            text.push_str(short.map_or(oid.as_str(), |(_, name)| name));
            text.push_str("=#");
            dump(value.tag().0, value.data, text);
        }
    }
}

/// Backslashes as RFC 2253 wants them.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (i, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if i == 0 => text.push_str("\\#"),
            b' ' if i == 0 || i == last => text.push_str("\\ "),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:02X}").expect("a String takes everything"),
        }
    }
}

/// The value's DER in hexadecimal.
fn dump(tag: u32, data: &[u8], text: &mut String) {
    let mut der = vec![u8::try_from(tag & 0x1f).expect("five bits")];
    let length = data.len().to_be_bytes();
    match data.len() {
        short @ 0..=0x7f => der.push(u8::try_from(short).expect("less than 128")),
        _ => {
            let digits: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
            der.push(0x80 | u8::try_from(digits.len()).expect("at most eight"));
            der.extend(digits);
        }
    }
    der.extend_from_slice(data);
    for byte in der {
        write!(text, "{byte:02X}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_rfc_2253() {
        for (value, escaped) in [
            ("plain", "plain"),
            (" a b ", "\\ a b\\ "),
            ("#a#", "\\#a#"),
            ("a,b+c\"d\\e<f>g;h=i", "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h=i"),
            ("Zoë", "Zo\\C3\\AB"),
            ("a\0b\n", "a\\00b\\0A"),
            ("", ""),
            (" ", "\\ "),
        ] {
            let mut text = String::new();
            escape(value, &mut text);
            assert_eq!(text, escaped, "{value:?}");
        }
    }

    #[test]
    fn august_2023_names_that_no_client_may_have() {
        for (name, fault) in [
            (String::new(), NameFault::Empty),
            ("a\0b".to_owned(), NameFault::ControlCharacter),
            ("a\nb".to_owned(), NameFault::ControlCharacter),
            ("a\u{85}".to_owned(), NameFault::ControlCharacter),
            ("a\u{ffff}".to_owned(), NameFault::ControlCharacter),
            ("x".repeat(65_536), NameFault::TooLong),
        ] {
            assert_eq!(checked(name), Err(fault));
        }
        for name in ["sensor+1/#", "Zoë", "a b", "C=DE,CN=x"] {
            assert_eq!(checked(name.to_owned()), Ok(name.to_owned()));
        }
    }
}
