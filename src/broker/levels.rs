//! What the two tries share: the levels of a name, how they are kept and how they are hashed (MQTT 5.0, 4.7.1).
//!
//! It knows neither wildcards nor what hangs off a node. A level is the bytes between two separators; an empty one is
//! a level like any other [MQTT-4.7.3-1], and two levels are the same if their bytes are [MQTT-4.7.3-4].

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// No node: the end of a list, a missing child, the parent of the root.
pub(super) const NONE: u32 = u32::MAX;

/// The root of a trie: the first node made, and never freed.
pub(super) const ROOT: u32 = 0;

/// The longest level that is kept inside its node.
const SHORT_BYTES_MAX: usize = 22;

/// The levels of a Topic Name or Topic Filter, at least one.
pub(super) fn levels(name: &str) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(name.as_bytes());
    std::iter::from_fn(move || {
        let bytes = rest?;
        match memchr::memchr(b'/', bytes) {
            Some(at) => {
                rest = Some(&bytes[at + 1..]);
                Some(&bytes[..at])
            }
            None => rest.take(),
        }
    })
}

/// The text of one level, inside the node unless it is long: comparing a usual level touches no other memory.
pub(super) enum Level {
    Short {
        len: u8,
        bytes: [u8; SHORT_BYTES_MAX],
    },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Level>() == 24);

impl Level {
    pub(super) fn new(level: &[u8]) -> Level {
        if level.len() > SHORT_BYTES_MAX {
            return Level::Long(level.into());
        }
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..level.len()].copy_from_slice(level);
        Level::Short {
            len: level.len() as u8,
            bytes,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Level::Short { len, bytes } => &bytes[..usize::from(*len)],
            Level::Long(bytes) => bytes,
        }
    }
}

/// Hashes a name level by level: each level once, then joined with as many parents as the walk stands on.
///
/// Seeded, so that a peer cannot choose names that collide. Nothing that can be seen from outside depends on the seed.
pub(super) struct LevelHash {
    state: FixedState,
    multiplier: u64,
}

impl LevelHash {
    pub(super) fn new(seed: u64) -> LevelHash {
        let state = FixedState::with_seed(seed);
        let multiplier = state.hash_one(seed) | 1;
        LevelHash { state, multiplier }
    }

    /// The hash of one level, or of any other text.
    pub(super) fn text(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of the text with hash `text` beneath `parent`.
    pub(super) fn join(&self, parent: u64, text: u64) -> u64 {
        let spread = parent.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let product = u128::from(text ^ spread) * u128::from(self.multiplier);
        (product as u64) ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_names() {
        let table: &[(&str, &[&str])] = &[
            ("a", &["a"]),
            ("a/b", &["a", "b"]),
            ("/", &["", ""]),
            ("/a//b/", &["", "a", "", "b", ""]),
            ("ä/日本", &["ä", "日本"]),
            ("", &[""]),
        ];
        for (name, expected) in table {
            let found: Vec<&[u8]> = levels(name).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|level| level.as_bytes()).collect();
            assert_eq!(found, expected, "{name:?}");
        }
    }

    #[test]
    fn level_keeps_its_bytes() {
        for len in [0, 1, 21, 22, 23, 1000] {
            let text = vec![b'x'; len];
            assert_eq!(Level::new(&text).bytes(), text);
        }
    }

    #[test]
    fn joined_hashes_spread() {
        let hash = LevelHash::new(7);
        let mut low = std::collections::HashSet::new();
        for parent in 0..1000 {
            for level in ["state", "set", "", "1"] {
                low.insert(hash.join(parent, hash.text(level.as_bytes())) & 0xffff_ffff);
            }
        }
        assert!(low.len() > 3990, "{} of 4000 are different", low.len());
    }
}
