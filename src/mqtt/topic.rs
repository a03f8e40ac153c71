//! Topic Names and Topic Filters (4.7): validity, levels, `$share` (4.8.2), and matching one to one.

use super::DecodeError;
use super::primitive;

/// More levels than this are refused: depth costs every structure that walks a topic, and a topic of nothing but 65,535
/// slashes once overflowed a broker's stack (CVE-2019-11779). It is Mosquitto's limit, which counts 200 separators.
pub const LEVELS_MAX: usize = 201;

/// `bytes` as a Topic Name (4.7): at least one character [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-2].
/// Its length on the wire has no room for more than 65,535 bytes [MQTT-4.7.3-3].
#[inline]
pub fn name(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("string is not UTF-8"))?;
    if text.is_empty() {
        return Err(DecodeError::Malformed("empty topic"));
    }
    // One pass for both questions.
    let (mut special, mut wildcards) = (0, 0);
    primitive::for_each_word(bytes, |word| {
        special |= primitive::special_in(word);
        wildcards |= wildcard_in(word);
    });
    if special != 0 {
        primitive::check_characters(text)?; // [MQTT-4.7.3-2]
    }
    if wildcards != 0 {
        // [MQTT-4.7.0-1]
        return Err(DecodeError::Malformed("wildcard in a topic name"));
    }
    if bytes.len() >= LEVELS_MAX && memchr::memchr_iter(b'/', bytes).count() >= LEVELS_MAX {
        return Err(DecodeError::Malformed("topic of too many levels"));
    }
    Ok(text)
}

/// Not 0 if and only if a byte of `word` is `+` or `#`, which differ in one bit.
#[inline]
const fn wildcard_in(word: u64) -> u64 {
    const BIT: u8 = b'+' ^ b'#';
    const { assert!(BIT.count_ones() == 1) };
    primitive::zero_in((word | primitive::everywhere(BIT)) ^ primitive::everywhere(b'+' | BIT))
}

/// Whether `filter` is a valid Topic Filter (4.7.1): `#` stands alone in the last level [MQTT-4.7.1-1], `+` stands alone
/// in its level [MQTT-4.7.1-2], at least one character [MQTT-4.7.3-1].
pub fn check_filter(filter: &str) -> Result<(), DecodeError> {
    if filter.is_empty() {
        return Err(DecodeError::Malformed("empty topic filter"));
    }
    let mut levels = 0;
    let mut ended = false;
    for level in filter.split('/') {
        levels += 1;
        if ended {
            return Err(DecodeError::Malformed("topic filter goes on after #"));
        }
        ended = level == "#";
        if level.len() > 1 && level.bytes().any(|byte| byte == b'+' || byte == b'#') {
            return Err(DecodeError::Malformed(
                "wildcard beside other characters in its level",
            ));
        }
        if levels > LEVELS_MAX {
            return Err(DecodeError::Malformed("topic filter of too many levels"));
        }
    }
    Ok(())
}

/// A Topic Filter with its share name taken off (4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The ShareName, for a Shared Subscription.
    pub group: Option<&'a str>,
    /// The Topic Filter that Topic Names are matched with.
    pub filter: &'a str,
}

/// `filter`, as a SUBSCRIBE or UNSUBSCRIBE has it, checked and taken apart.
///
/// # Errors
/// Malformed for an invalid Topic Filter; a Protocol Error, as in Mosquitto, for a valid one that is no Shared
/// Subscription: a `$share/` without a ShareName or a filter, or a wildcard for a ShareName [MQTT-4.8.2-1],
/// [MQTT-4.8.2-2].
pub fn shared(filter: &str) -> Result<SharedFilter<'_>, DecodeError> {
    check_filter(filter)?;
    let Some(rest) = filter.strip_prefix("$share/") else {
        if filter == "$share" {
            return Err(DecodeError::Protocol(
                "shared subscription without a share name",
            ));
        }
        return Ok(SharedFilter {
            group: None,
            filter,
        });
    };
    let Some((group, filter)) = rest.split_once('/') else {
        return Err(DecodeError::Protocol(
            "shared subscription without a topic filter",
        ));
    };
    if group.is_empty() || filter.is_empty() {
        return Err(DecodeError::Protocol(
            "shared subscription with an empty share name or topic filter",
        ));
    }
    // The only wildcard that a valid filter has in this place; # would have ended it.
    if group == "+" {
        return Err(DecodeError::Protocol("wildcard in a share name"));
    }
    Ok(SharedFilter {
        group: Some(group),
        filter,
    })
}

/// Whether the valid `filter` matches the Topic Name `topic` (4.7.1, 4.7.2): wildcards at the front do not match a topic
/// that begins with `$` [MQTT-4.7.2-1], and `#` also matches its parent level.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_4_7_1_filters() {
        for good in [
            "#", "+", "/", "a", "a/#", "+/+", "+/a/#", "/+", "a//b", "$SYS/#", "+/",
        ] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in [
            "", "a#", "#a", "a/#/b", "#/a", "a+", "+a", "a/+b/c", "a/b#", "++", "##",
        ] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
        assert!(check_filter(&"/".repeat(200)).is_ok());
        assert!(check_filter(&"/".repeat(201)).is_err());
    }

    #[test]
    fn mqtt_4_7_names() {
        for good in ["a", "/", "a/b", "$SYS/x", " ", "ž/ß"] {
            assert_eq!(name(good.as_bytes()), Ok(good));
        }
        for bad in ["", "a/+", "#", "a#b", "a\u{0}b"] {
            assert!(name(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(name("/".repeat(200).as_bytes()).is_ok());
        assert!(name("/".repeat(201).as_bytes()).is_err());
    }

    /// Wildcards in every place of names shorter and longer than a word, and no other byte taken for one.
    #[test]
    fn mqtt_3_3_2_2_wildcards_anywhere() {
        for length in 1..20 {
            for place in 0..length {
                for byte in b' '..0x7F {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let is_name = byte != b'+' && byte != b'#';
                    assert_eq!(name(&bytes).is_ok(), is_name, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn mqtt_4_8_2_share_names() {
        let good = [
            ("a/b", None, "a/b"),
            ("$share/g/a", Some("g"), "a"),
            ("$share/g//", Some("g"), "/"),
            ("$share/g/$SYS/#", Some("g"), "$SYS/#"),
            ("$shared/x", None, "$shared/x"),
        ];
        for (text, group, filter) in good {
            assert_eq!(shared(text), Ok(SharedFilter { group, filter }));
        }
        for (bad, is_malformed) in [
            ("$share", false),
            ("$share/", false),
            ("$share/g", false),
            ("$share/g/", false),
            ("$share//a", false),
            ("$share/+/a", false),
            ("$share/#/a", true),
            ("$share/#", false),
            ("$share/a#/a", true),
            ("$share/a+/a", true),
            ("$share/g/a#", true),
        ] {
            let error = shared(bad).expect_err(bad);
            assert_eq!(
                matches!(error, DecodeError::Malformed(_)),
                is_malformed,
                "{bad}"
            );
        }
    }

    #[test]
    fn mqtt_4_7_matching() {
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("$SYS/+", "$SYS/a", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a//b", "a//b", true),
            ("A", "a", false),
        ];
        for (filter, topic, expected) in table {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
