//! Topic Names, Topic Filters and retained messages against models of a few lines.
//!
//! Each line of the input is retained as a topic, forgotten (`-` in front) or looked up as a filter (`?` in front).

use midge::broker::retained::{Place, Retained};
use midge::mqtt::topic;
use std::collections::BTreeMap;

/// Does what the lines say, beside a map that does the same.
pub fn feed(bytes: &[u8]) {
    let mut retained = Retained::new(1);
    let mut model = BTreeMap::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        match line {
            [b'?', filter @ ..] => look_up(&retained, &model, filter),
            [b'-', name @ ..] => {
                if let Ok(name) = topic::name(name) {
                    assert_eq!(retained.remove(name), model.remove(name));
                }
            }
            name => {
                if let Ok(name) = topic::name(name) {
                    let message = (name.to_owned(), number);
                    let replaced = model.insert(name.to_owned(), message.clone());
                    assert_eq!(retained.set(name, message), replaced);
                }
            }
        }
        assert_eq!(retained.len(), model.len());
        retained.check_invariants();
    }
    for (name, message) in &model {
        assert_eq!(retained.get(name), Some(message));
    }
}

type Message = (String, usize);

fn look_up(retained: &Retained<Message>, model: &BTreeMap<String, Message>, filter: &[u8]) {
    let Ok(filter) = std::str::from_utf8(filter) else {
        return;
    };
    let Ok(filter) = topic::shared(filter).map(|shared| shared.filter) else {
        return;
    };
    if topic::check_filter(filter).is_err() {
        return;
    }
    let mut found = Vec::new();
    let cost = retained.for_each_match(filter, usize::MAX, |message| found.push(message.clone()));
    assert!(cost.is_some(), "without a bound it comes to its end");
    let (mut in_pieces, mut from) = (Vec::new(), Some(Place::FIRST));
    while let Some(place) = from {
        from = retained
            .for_each_match_from(filter, place, 5, |message| in_pieces.push(message.clone()));
    }
    in_pieces.sort();
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(in_pieces, sorted, "in pieces it is the same");
    found.sort();
    let mut expected = Vec::new();
    for (name, message) in model {
        let is_match = is_match_by_the_book(filter, name);
        assert_eq!(
            topic::matches(filter, name),
            is_match,
            "{filter:?} and {name:?}"
        );
        if is_match {
            expected.push(message.clone());
        }
    }
    expected.sort();
    assert_eq!(found, expected, "{filter:?}");
}

/// MQTT 5.0, 4.7, level by level.
fn is_match_by_the_book(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    let (filter, name): (Vec<_>, Vec<_>) = (filter.split('/').collect(), name.split('/').collect());
    for (index, level) in filter.iter().enumerate() {
        match (*level, name.get(index)) {
            ("#", _) => return true,
            (_, None) => return false,
            ("+", Some(_)) => {}
            (level, Some(found)) if level == *found => {}
            _ => return false,
        }
    }
    filter.len() == name.len()
}

/// What is retained and looked up in most ways.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "a/b/c\na/b\na\n?a/#\n?+/b\n?#\n?a/b/c\n-a/b\n?a/+/c\n?a/#",
        "$SYS/x\n/\n//\n/a\n?#\n?+\n?+/+\n?$SYS/#\n?/#\n?+/+/+\n-/\n-//",
        "x\nx\nx/\n?x/#\n?x/+\n?$share/g/x/#\n?$share/g/\n-x\n-x/\n?x/#",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
