//! Tests of formats. What is expected here Mosquitto's tool printed, of 2.0.11 where it does as 2.1.
//!
//! | | 2.0.11 | 2.1, as here |
//! |---|---|---|
//! | `%x` with a width | it cuts half as many bytes | it cuts bytes, as that of `%p` |
//! | `%.2:x`, `%--t`, `% t` | no separators: invalid | a separator after each two digits; other fields ignore it |
//! | `%f`, `%d` | invalid | floating-point payloads |
//! | `%05C` without a content type | blanks | zeros |
//! | `tst` of `%j`, `%J` | `...08.009012Z+0100` | `...08.009012+0100` |
//! | `retain` | 0, 1 | false, true |
//! | `user-properties` | one object | an array of objects with one member each |
//!
//! Different from both, on purpose: a NUL does not cut a payload of `%j` short, damaged `\u` escapes make a payload of
//! `%J` invalid, widths end at [`WIDTH_MAX`], and a format that ends behind its separator is called incomplete.

use super::*;
use crate::mqtt::property::VariableByteInteger;
use crate::mqtt::{Properties, PropertyBuffer, QoS};
use proptest::prelude::*;

fn now() -> Zoned {
    "2024-03-05T06:07:08.009012345+01:00[+01:00]"
        .parse()
        .expect("a time")
}

fn message<'a>(payload: &'a [u8], properties: Properties<'a>) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "a/b",
        packet_id: Some(PacketId::FIRST),
        properties,
        payload,
    }
}

fn shown(format: &str, payload: &[u8], properties: &PropertyBuffer) -> String {
    let format = Format::parse(format, false).expect("a format");
    let mut out = Vec::new();
    let message = message(payload, properties.as_properties());
    format
        .write(&message, &now(), &mut out)
        .expect("it can be shown");
    String::from_utf8(out).expect("text")
}

#[test]
fn fields_without_properties() {
    for (format, expected) in [
        ("%t %p", "a/b hello"),
        ("%%|@@|\\\\", "%|@|\\"),
        ("\\a\\e\\n\\r\\t\\v\\0", "\x07\x1b\n\r\t\x0b\0"),
        ("%l|%5l|%-5l|%05l", "5|    5|5    |00005"),
        ("%m %q %r", "1 1 1"),
        ("%8p|%-8p|%3p|%08p", "   hello|hello   |hel|000hello"),
        ("%-p|", "hello     |"),
        (
            "%5t|%-5t|%.1t|%5.1t|%-5.1t|%05t",
            "  a/b|a/b  |a|    a|a    |  a/b",
        ),
        ("%x", "68656c6c6f"),
        ("%X", "68656C6C6F"),
        ("%.2x", "68 65 6c 6c 6f"),
        ("%.4:x", "6865:6c6c:6f"),
        ("%.1-X", "6-8-6-5-6-C-6-C-6-F"),
        ("%.2 x|% t|%-t", "68 65 6c 6c 6f|a/b|a/b"),
        (
            "%12x|%-12x|%2x|%014X",
            "  68656c6c6f|68656c6c6f  |6865|000068656C6C6F",
        ),
        ("%12.2x", "   68 65 6c 6c 6f"),
        ("%A|%C|%D|%E|%F|%P|%R|%S", "|||||||"),
        ("%3A|%3C|%3D|%03E|%3F|%3P|%3R|%3S", "   |   ||000|   |||   "),
        ("%I", "2024-03-05T06:07:08+0100"),
        ("%.10I", "2024-03-05"),
        ("%U", "1709615228.009012345"),
        ("@Y-@m-@d @H:@M:@S.@N", "2024-03-05 06:07:08.009012345"),
        ("ä%tö", "äa/bö"),
        ("", ""),
    ] {
        assert_eq!(
            shown(format, b"hello", &PropertyBuffer::new()),
            expected,
            "{format}"
        );
    }
}

fn properties() -> PropertyBuffer {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::PayloadFormatIndicator(1));
    properties.push(Property::UserProperty(("k1", "v1")));
    properties.push(Property::MessageExpiryInterval(4_000_000_000));
    properties.push(Property::ContentType("text"));
    properties.push(Property::ResponseTopic("r/t"));
    properties.push(Property::CorrelationData(b"corr"));
    properties.push(Property::SubscriptionIdentifier(VariableByteInteger(5)));
    properties.push(Property::UserProperty(("k2", "v2")));
    properties.push(Property::TopicAlias(7));
    properties
}

#[test]
fn fields_with_properties() {
    for (format, expected) in [
        (
            "%A|%C|%D|%E|%F|%P|%R|%S",
            "7|text|corr|-294967296|1|k1:v1 k2:v2|r/t|5",
        ),
        (
            "%3A|%-3F|%03S|%6C|%-6C|%.2C|%6R",
            "  7|1  |005|  text|text  |te|   r/t",
        ),
        (
            "%j",
            concat!(
                r#"{"tst":"2024-03-05T06:07:08.009012+0100","topic":"a/b","qos":1,"retain":true,"payloadlen":2,"mid":1,"#,
                r#""properties":{"payload-format-indicator":1,"user-properties":[{"k1":"v1"},{"k2":"v2"}],"#,
                r#""message-expiry-interval":4000000000,"content-type":"text","response-topic":"r/t","#,
                r#""correlation-data":"corr","subscription-identifier":5,"topic-alias":7},"payload":"{}"}"#
            ),
        ),
    ] {
        assert_eq!(shown(format, b"{}", &properties()), expected, "{format}");
    }
    let out = shown("%J", b"{ \"a\" : 1.50 }", &PropertyBuffer::new());
    assert!(
        out.ends_with(r#""payloadlen":14,"mid":1,"payload":{"a":1.5}}"#),
        "{out}"
    );
    let out = shown("%J|%j", b"", &PropertyBuffer::new());
    assert_eq!(out.matches(r#""payload":null}"#).count(), 2);
}

#[test]
fn json_over_several_lines() {
    let format = Format::parse("%j", true).expect("a format");
    let mut out = Vec::new();
    let properties = properties();
    let message = Publish {
        qos: QoS::AtMostOnce,
        packet_id: None,
        ..message(b"x", properties.as_properties())
    };
    format
        .write(&message, &now(), &mut out)
        .expect("it can be shown");
    let text = String::from_utf8(out).expect("text");
    assert!(text.starts_with(
        "{\n\t\"tst\":\t\"2024-03-05T06:07:08.009012+0100\",\n\t\"topic\":\t\"a/b\",\n"
    ));
    let users = "\t\t\"user-properties\":\t[{\n\t\t\t\t\"k1\":\t\"v1\"\n\t\t\t}, {\n\t\t\t\t\"k2\":\t\"v2\"\n\t\t\t}],\n";
    assert!(text.contains(users), "{text}");
    assert!(
        text.ends_with("\t\t\"topic-alias\":\t7\n\t},\n\t\"payload\":\t\"x\"\n}"),
        "{text}"
    );
}

#[test]
fn floats() {
    let none = PropertyBuffer::new();
    let float = |value: f32| value.to_ne_bytes();
    let double = |value: f64| value.to_ne_bytes();
    assert_eq!(
        shown("%f|%.2f|%10.1f|%-8.1f|%08.1f", &float(-1.25), &none),
        "-1.250000|-1.25|      -1.2|-1.2    |-00001.2"
    );
    assert_eq!(
        shown("%d|%.0d|%3d", &double(1e10), &none),
        "10000000000.000000|10000000000|10000000000.000000"
    );
    assert_eq!(shown("%06d", &double(f64::INFINITY), &none), "   inf");
    for (format, error) in [
        ("<%f>", MessageError::Float),
        ("<%d>", MessageError::Double),
        (
            "<%J>",
            MessageError::Json {
                topic: "a/b".to_owned(),
            },
        ),
    ] {
        let format = Format::parse(format, false).expect("a format");
        let mut out = Vec::new();
        let written = format.write(&message(b"x1x", Properties::NONE), &now(), &mut out);
        assert_eq!((written, &out[..]), (Err(error), &b"<>"[..]));
    }
}

#[test]
fn what_is_no_format() {
    for (format, expected) in [
        ("%", "Error: Incomplete format specifier."),
        ("%5", "Error: Incomplete format specifier."),
        ("%-05.3", "Error: Incomplete format specifier."),
        ("@", "Error: Incomplete format specifier."),
        ("%y", "Error: Invalid format specifier 'y'."),
        ("%5ä", "Error: Invalid format specifier 'ä'."),
        ("\\", "Error: Incomplete escape specifier."),
        ("\\x", "Error: Invalid escape specifier 'x'."),
        (
            "%99999999999p",
            "Error: Width or precision above 1048576 in format.",
        ),
    ] {
        let error = Format::parse(format, false).expect_err(format);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn time_is_asked_for_where_it_is_shown() {
    for (format, expected) in [
        ("%t %p %x", false),
        ("%I", true),
        ("%j", true),
        ("@Y", true),
        ("@@", false),
    ] {
        assert_eq!(
            Format::parse(format, false).expect("a format").needs_time(),
            expected,
            "{format}"
        );
    }
}

#[test]
fn plain_messages() {
    let plain = |payload: &[u8], verbose, newline, colour| {
        let mut out = Vec::new();
        let plain = Plain {
            verbose,
            newline,
            colour,
        };
        write_plain(&message(payload, Properties::NONE), plain, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(plain(b"x", false, true, true), "x\n");
    assert_eq!(plain(b"x", false, false, false), "x");
    assert_eq!(plain(b"x", true, true, false), "a/b x\n");
    assert_eq!(plain(b"x", true, true, true), "\x1b[36ma/b\x1b[0m x\n");
    assert_eq!(plain(b"", false, true, false), "");
    assert_eq!(plain(b"", true, true, false), "a/b (null)\n");
    assert_eq!(plain(b"", true, false, false), "");
}

/// What glibc makes of each letter in the locale "C", as `sub` of 2.0.11 prints it too.
#[test]
fn letters_of_the_time() {
    for (format, expected) in [
        ("@a @A @b @B @h", "Tue Tuesday Mar March Mar"),
        (
            "@c|@D|@x|@F",
            "Tue Mar  5 06:07:08 2024|03/05/24|03/05/24|2024-03-05",
        ),
        ("@C @y @Y @g @G", "20 24 2024 24 2024"),
        ("@d|@e|@j|@m", "05| 5|065|03"),
        ("@H|@I|@k|@l|@M|@S|@p|@P", "06|06| 6| 6|07|08|AM|am"),
        ("@r|@R|@T|@X", "06:07:08 AM|06:07|06:07:08|06:07:08"),
        ("@s|@u|@w|@U|@V|@W", "1709615228|2|2|09|10|10"),
        ("@z|@n|@t|@%|@@|@N", "+0100|\n|\t|%|@|009012345"),
        // These mean something to jiff and to other libraries, but nothing here.
        (
            "@f|@E|@O|@J|@Q|@q|@v|@i|@L|@+|@-|@:",
            "%f|%E|%O|%J|%Q|%q|%v|%i|%L|%+|%-|%:",
        ),
        ("@äb", "%äb"),
    ] {
        assert_eq!(
            shown(format, b"", &PropertyBuffer::new()),
            expected,
            "{format}"
        );
    }
}

/// Clocks may be far off, and nothing may end for it.
#[test]
fn any_time_is_shown() {
    let letters: String = TIME_LETTERS
        .iter()
        .flat_map(|&letter| ['@', char::from(letter), '|'])
        .collect();
    let format = Format::parse(&(letters + "%I|%U|%j"), false).expect("a format");
    for time in [
        "1901-01-01T00:00:00+00:00[+00:00]",
        "2100-12-31T23:59:59.999999999+14:00[+14:00]",
        "-000001-06-01T00:00:00-12:34[-12:34]",
        "9999-12-29T00:00:00+00:00[+00:00]",
        "-009999-01-02T12:00:00+00:00[+00:00]",
    ] {
        let now: Zoned = time.parse().expect("a time");
        let unknown = now.with_time_zone(jiff::tz::TimeZone::unknown());
        format
            .write(&message(b"x", Properties::NONE), &unknown, &mut Vec::new())
            .expect("it can be shown");
        let mut out = Vec::new();
        format
            .write(&message(b"x", Properties::NONE), &now, &mut out)
            .expect("it can be shown");
        assert!(out.ends_with(b"\"payload\":\"x\"}"), "{time}");
    }
}

/// The library panics at widths above 65,535, which Mosquitto prints.
#[test]
fn wide_fields() {
    let none = PropertyBuffer::new();
    for format in [
        "%70000l",
        "%-70000l",
        "%070000p",
        "%70000t",
        "%70000A",
        "%-70000x",
        "%70000.70000f",
    ] {
        assert_eq!(
            shown(format, b"1234", &none).len(),
            match format {
                // A digit, the point and 70,000 digits behind it.
                "%70000.70000f" => 70_002,
                _ => 70_000,
            },
            "{format}"
        );
    }
    let out = shown("%.2000d", &(-0.1f64).to_ne_bytes(), &none);
    assert!(
        out.starts_with("-0.1000000000000000055511151231257827")
            && out.ends_with("000")
            && out.len() == 2003
    );
    let out = shown("%060d|%60d|%-60d|", &f64::MAX.to_ne_bytes(), &none);
    assert_eq!(out.len(), 3 * (309 + 7) + 3);
}

proptest! {
    #[test]
    fn any_format_is_refused_or_shows(format in "([%@\\\\a-zA-Z0-9.: -]{0,4}|%[0-9]{4,6}[.]?[0-9]{0,5}[a-zA-Z]){0,3}", payload: Vec<u8>, pretty: bool) {
        if let Ok(format) = Format::parse(&format, pretty) {
            let properties = properties();
            let _ = format.write(&message(&payload, properties.as_properties()), &now(), &mut Vec::new());
        }
    }
}
