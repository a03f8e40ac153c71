//! Numbers as C's atoi, strtoll and atof read them, since scripts rely on what those accept.
//!
//! 1. Nothing here fails on text after a number, or on no number at all, except [`whole`].

/// The number at the front of `text`, 0 if there is none; the low 32 bits of one that is too large, as in C.
pub(super) fn int(text: &str) -> i32 {
    long(text) as i32
}

/// The number at the front of `text`, 0 if there is none.
pub(super) fn long(text: &str) -> i64 {
    let (negative, digits) = sign(text);
    front(digits, 10, negative).0
}

/// A number and nothing else: decimal, `0x` hexadecimal or `0` octal.
pub(super) fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let (value, rest) = front(digits, radix, negative);
    (rest.is_empty() && !digits.is_empty()).then_some(value)
}

/// The decimal fraction at the front of `text`, 0 if there is none.
pub(super) fn fraction(text: &str) -> f64 {
    let text = text.trim_start_matches(is_space);
    let number = |character: char| character.is_ascii_digit() || "+-.eE".contains(character);
    let end = text
        .find(|character| !number(character))
        .unwrap_or(text.len());
    (0..=end)
        .rev()
        .find_map(|end| text[..end].parse().ok())
        .unwrap_or(0.0)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches(is_space);
    match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The number that the digits at the front make, at most what 64 bits hold, and what follows.
fn front(text: &str, radix: u32, negative: bool) -> (i64, &str) {
    let end = text
        .find(|character: char| !character.is_digit(radix))
        .unwrap_or(text.len());
    let value = text[..end].chars().fold(0i64, |value, digit| {
        let digit = i64::from(digit.to_digit(radix).expect("digits end before others"));
        let digit = if negative { -digit } else { digit };
        value.saturating_mul(i64::from(radix)).saturating_add(digit)
    });
    (value, &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_in_c() {
        for (text, number) in [
            ("", 0),
            ("5", 5),
            (" \t+7x", 7),
            ("-3", -3),
            ("x", 0),
            ("1 2", 1),
            ("65536", 65536),
            ("99999999999999999999", -1),
            ("-99999999999999999999", 0),
        ] {
            assert_eq!(int(text), number, "{text}");
        }
        for (text, number) in [
            ("", None),
            ("-", None),
            ("5", Some(5)),
            ("0", Some(0)),
            ("010", Some(8)),
            ("08", None),
            ("0x1F", Some(31)),
            ("0x", None),
            ("-1", Some(-1)),
            ("5s", None),
            ("4294967296", Some(4_294_967_296)),
            ("99999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999", Some(i64::MIN)),
        ] {
            assert_eq!(whole(text), number, "{text}");
        }
        for (text, number) in [
            ("", 0.0),
            ("0.5", 0.5),
            (" 1.25s", 1.25),
            (".5", 0.5),
            ("1e2", 100.0),
            ("1e", 1.0),
            ("-1", -1.0),
            ("abc", 0.0),
            ("1.2.3", 1.2),
        ] {
            assert_eq!(fraction(text), number, "{text}");
        }
    }
}
