//! Any bytes, and lines that are nearly good: no panic, whatever they come to.

use super::*;
use proptest::prelude::*;

/// Lines that are nearly good, so that more than the unknown name is met.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let name = proptest::sample::select(TABLE).prop_map(|row| row.name.as_bytes().to_vec());
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    let value = prop_oneof![
        bytes(),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        proptest::sample::select(vec![
            &b"true"[..],
            b"0x",
            b"1883 ::1",
            b"5y",
            b"file x",
            b"\xc3"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let line = (name, value).prop_map(|(name, value)| [&name[..], b" ", &value[..]].concat());
    prop_oneof![9 => line, 1 => bytes()]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = Config::from_text("t.conf", bytes).map_err(|error| error.to_string());
    }

    #[test]
    fn no_lines_panic(lines in proptest::collection::vec(any_line(), 0..8)) {
        let text = lines.join(&b'\n');
        let _ = Config::from_text("t.conf", text).map_err(|error| error.to_string());
    }
}
