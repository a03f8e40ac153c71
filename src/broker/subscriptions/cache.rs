//! Remembers the matches of topics that come again, so that the common publish is one hash look-up.
//!
//! It knows no nodes: it is told when filters change. Finer than one epoch for the whole trie, [`Changes`] counts
//! changes by the literal levels a filter begins with, so that a client which subscribes and unsubscribes all day
//! spoils the topics beneath those levels alone.
//!
//! 1. Each filter is counted in the one bucket of its leading literal levels, at most [`PREFIX_LEVELS`] of them. A topic
//!    it matches begins with the same levels, so that bucket is among the topic's own: one for each number of levels.
//! 2. Counts only grow, so a topic's matches are still right if the sum over its buckets is what it was.
//! 3. Entries and their bytes are bounded by [`Limits`]; a list of a quarter of all bytes is not kept at all.
//! 4. A topic is kept when it is seen again while its fingerprint is among the recent ones: a storm of topics that
//!    never repeat costs each of them one look-up and one store.

use hashbrown::HashTable;
use slab::Slab;

use super::super::levels::LevelHash;
use super::{Matches, Subscription, SubscriptionKey};

/// How many leading levels tell changes apart. Deeper filters share the bucket of their first levels.
const PREFIX_LEVELS: usize = 4;

/// How many buckets count changes; two prefixes in one bucket only cost a needless walk. 8 KiB, to stay in L1.
const BUCKETS: usize = 1024;

/// How many fingerprints are remembered. Fewer than entries, so that topics in a cycle too long for the cache are
/// forgotten before they come again, instead of driving each other out.
const FINGERPRINTS: usize = 8192;

/// How many fingerprints share a place. With one, of 1000 topics that come in turn every eighth would meet another one
/// in its place each time, and never be kept; with four it is one in ten thousand.
const WAYS: usize = 4;

/// How many entries are looked at, at most, to make room for a new one.
const SWEEP_MAX: usize = 16;

/// How much the cache may hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) entries_max: usize,
    pub(super) bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries_max: 16_384,
            bytes_max: 8 << 20,
        }
    }
}

/// Counts changes of filters.
pub(super) struct Changes {
    counts: Box<[u64]>,
}

/// When a topic was resolved: its buckets and the sum of their counts at that time.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    sum: u64,
    buckets: [u16; PREFIX_LEVELS + 1],
}

impl Changes {
    pub(super) fn new() -> Changes {
        Changes {
            counts: vec![0; BUCKETS].into_boxed_slice(),
        }
    }

    /// Notes that somebody subscribed to the filter with these levels, or no longer is.
    pub(super) fn note<'a>(&mut self, hash: &LevelHash, levels: impl Iterator<Item = &'a [u8]>) {
        let literals = levels.take_while(|level| !matches!(*level, b"+" | b"#"));
        let bucket = prefixes(hash, literals).last().unwrap_or(0);
        self.counts[usize::from(bucket)] += 1;
    }

    /// Notes that the matches of every topic may have changed: every topic has bucket 0 among its own.
    pub(super) fn note_everywhere(&mut self) {
        self.counts[0] += 1;
    }

    pub(super) fn stamp<'a>(
        &self,
        hash: &LevelHash,
        levels: impl Iterator<Item = &'a [u8]>,
    ) -> Stamp {
        // Bucket 0 stands for no levels; that a shorter topic counts it again does no harm.
        let mut buckets = [0; PREFIX_LEVELS + 1];
        for (bucket, prefix) in buckets[1..].iter_mut().zip(prefixes(hash, levels)) {
            *bucket = prefix;
        }
        let sum = self.sum(&buckets);
        Stamp { sum, buckets }
    }

    fn sum(&self, buckets: &[u16; PREFIX_LEVELS + 1]) -> u64 {
        let counts = buckets.iter().map(|it| self.counts[usize::from(*it)]);
        counts.sum()
    }
}

/// The buckets of the first level, of the first two, and so on.
fn prefixes<'a>(
    hash: &LevelHash,
    levels: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = u16> {
    levels.take(PREFIX_LEVELS).scan(0, move |prefix, level| {
        *prefix = hash.join(*prefix, hash.text(level));
        Some((*prefix % BUCKETS as u64) as u16)
    })
}

struct Entry {
    topic: Box<str>,
    hash: u64,
    stamp: Stamp,
    matches: Matches,
    bytes: usize,
    /// Asked for since the sweep last came by.
    used: bool,
}

/// What is kept for one topic costs about this many bytes.
fn cost(topic: &str, subscriptions: usize, groups: usize) -> usize {
    size_of::<Entry>()
        + size_of::<u64>()
        + topic.len()
        + subscriptions * size_of::<Subscription>()
        + groups * size_of::<SubscriptionKey>()
}

/// Matches by topic.
pub(super) struct Cache {
    limits: Limits,
    entries: Slab<Entry>,
    topics: HashTable<u32>,
    bytes: usize,
    /// Where the sweep for room goes on.
    hand: usize,
    /// Places for fingerprints, in each the latest first.
    recent: Box<[[u32; WAYS]]>,
}

impl Cache {
    pub(super) fn new(limits: Limits) -> Cache {
        Cache {
            limits,
            entries: Slab::new(),
            topics: HashTable::new(),
            bytes: 0,
            hand: 0,
            recent: vec![[0; WAYS]; FINGERPRINTS / WAYS].into_boxed_slice(),
        }
    }

    pub(super) fn find(&self, hash: u64, topic: &str) -> Option<u32> {
        let is_it = |slot: &u32| *self.entries[*slot as usize].topic == *topic;
        self.topics.find(hash, is_it).copied()
    }

    pub(super) fn is_fresh(&self, slot: u32, changes: &Changes) -> bool {
        let stamp = &self.entries[slot as usize].stamp;
        stamp.sum == changes.sum(&stamp.buckets)
    }

    pub(super) fn matches(&mut self, slot: u32) -> &Matches {
        let entry = &mut self.entries[slot as usize];
        entry.used = true;
        &entry.matches
    }

    /// Whether the topic with this hash was asked for a short while ago; remembers that it was now.
    pub(super) fn saw_recently(&mut self, hash: u64) -> bool {
        let fingerprint = (hash >> 32) as u32 | 1;
        let place = &mut self.recent[(hash % (FINGERPRINTS / WAYS) as u64) as usize];
        let at = place.iter().position(|it| *it == fingerprint);
        place[..=at.unwrap_or(WAYS - 1)].rotate_right(1);
        place[0] = fingerprint;
        at.is_some()
    }

    /// Keeps `matches` for a topic that is not in the cache, if there is room or room can be made at little cost.
    pub(super) fn insert(&mut self, hash: u64, topic: &str, matches: &Matches, stamp: Stamp) {
        let bytes = cost(topic, matches.subscriptions.len(), matches.groups.len());
        if bytes > self.limits.bytes_max / 4 {
            return;
        }
        for _ in 0..SWEEP_MAX {
            if self.has_room(bytes) {
                break;
            }
            self.sweep();
        }
        if !self.has_room(bytes) {
            return;
        }
        self.bytes += bytes;
        let slot = self.entries.insert(Entry {
            topic: topic.into(),
            hash,
            stamp,
            matches: matches.clone(),
            bytes,
            used: false,
        });
        let entries = &self.entries;
        self.topics
            .insert_unique(hash, slot as u32, |slot| entries[*slot as usize].hash);
    }

    /// Renews what is kept for a topic whose filters changed.
    pub(super) fn refresh(&mut self, slot: u32, matches: &Matches, changes: &Changes) {
        let entry = &mut self.entries[slot as usize];
        entry.used = true;
        entry.stamp.sum = changes.sum(&entry.stamp.buckets);
        let kept = &mut entry.matches;
        kept.subscriptions.clear();
        kept.subscriptions.extend_from_slice(&matches.subscriptions);
        kept.groups.clear();
        kept.groups.extend_from_slice(&matches.groups);
        let bytes = cost(
            &entry.topic,
            kept.subscriptions.capacity(),
            kept.groups.capacity(),
        );
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        if bytes > self.limits.bytes_max / 4 || self.bytes > self.limits.bytes_max {
            self.evict(slot);
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let limits = &self.limits;
        self.entries.len() < limits.entries_max && self.bytes + bytes <= limits.bytes_max
    }

    /// Looks at one entry: throws it out, or spares it until next time if it was asked for.
    fn sweep(&mut self) {
        if self.hand >= self.entries.capacity().min(self.limits.entries_max) {
            self.hand = 0;
        }
        let slot = self.hand;
        self.hand += 1;
        match self.entries.get_mut(slot) {
            Some(entry) if entry.used => entry.used = false,
            Some(_) => self.evict(slot as u32),
            None => {}
        }
    }

    fn evict(&mut self, slot: u32) {
        let entry = self.entries.remove(slot as usize);
        self.bytes -= entry.bytes;
        self.topics
            .find_entry(entry.hash, |other| *other == slot)
            .expect("every entry has its topic in the hash table")
            .remove();
    }

    /// Checks the bounds, and that every entry that would be answered with is what `walk` finds.
    pub(super) fn check_invariants(&self, changes: &Changes, walk: impl Fn(&str) -> Matches) {
        let mut bytes = 0;
        for (slot, entry) in &self.entries {
            bytes += entry.bytes;
            assert_eq!(self.find(entry.hash, &entry.topic), Some(slot as u32));
            if self.is_fresh(slot as u32, changes) {
                assert_eq!(entry.matches, walk(&entry.topic), "{}", entry.topic);
            }
        }
        assert_eq!(bytes, self.bytes);
        assert!(bytes <= self.limits.bytes_max, "3");
        assert!(self.entries.len() <= self.limits.entries_max, "3");
        assert_eq!(self.entries.len(), self.topics.len());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
