//! The trie of retained messages: which of them a Topic Filter wants (MQTT 5.0, 3.3.1.3 and 4.7).
//!
//! Generic over the message: it knows names, not what is kept under them. A message lives in its node, so `M` should be
//! the size of a pointer. Nodes live in one arena and name each other by `u32`; the children of a node are a list in
//! the order of their creation, for wildcards, and one hash table finds a child by parent and level, for literals.
//!
//! 1. A node with no children and no message is free, except the root, which has no message.
//! 2. A child is linked exactly once into its parent's list and once into the hash table.
//! 3. `len` counts the nodes that have a message.
//! 4. Wildcards at the root pass over names that begin with `$` [MQTT-4.7.2-1].
//!
//! Matching goes down level by level with all the nodes of a level at hand: no recursion, no allocation for a match,
//! and shorter names come before deeper ones.

use slab::Slab;

use super::levels::{self, Level, LevelHash, NONE, ROOT};
use super::parted::PartedTable;

struct Node<M> {
    level: Level,
    parent: u32,
    first_child: u32,
    last_child: u32,
    next_sibling: u32,
    previous_sibling: u32,
    message: Option<M>,
}

const _: () = assert!(size_of::<Node<Box<u8>>>() <= 56);

impl<M> Node<M> {
    fn new(level: &[u8], parent: u32) -> Node<M> {
        Node {
            level: Level::new(level),
            parent,
            first_child: NONE,
            last_child: NONE,
            next_sibling: NONE,
            previous_sibling: NONE,
            message: None,
        }
    }
}

/// Where in the arena a message is, for looking through all of them in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    /// The first one.
    pub const FIRST: Place = Place(0);
}

/// At most one message for each Topic Name.
pub struct Retained<M> {
    nodes: Slab<Node<M>>,
    literals: PartedTable,
    hash: LevelHash,
    len: usize,
}

impl<M> Retained<M> {
    /// No messages. `seed` keeps peers from choosing names that collide in the hash table.
    pub fn new(seed: u64) -> Retained<M> {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(b"", NONE));
        Retained {
            nodes,
            literals: PartedTable::new(),
            hash: LevelHash::new(seed),
            len: 0,
        }
    }

    /// How many messages are retained.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no message is retained.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Retains `message` for `topic` and gives back the one it replaces [MQTT-3.3.1-5].
    pub fn set(&mut self, topic: &str, message: M) -> Option<M> {
        let mut node = ROOT;
        for level in levels::levels(topic) {
            node = match self.child(node, level, self.hash.text(level)) {
                Some(child) => child,
                None => self.add_child(node, level),
            };
        }
        let replaced = self.nodes[node as usize].message.replace(message);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes away the message retained for `topic`.
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        let node = self.find(topic)?;
        let message = self.nodes[node as usize].message.take()?;
        self.len -= 1;
        self.free_unused(node);
        Some(message)
    }

    /// The message retained for `topic`.
    pub fn get(&self, topic: &str) -> Option<&M> {
        self.nodes[self.find(topic)? as usize].message.as_ref()
    }

    /// All messages, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        self.nodes
            .iter()
            .filter_map(|(_, node)| node.message.as_ref())
    }

    /// The message retained for `topic`, and where it is.
    pub fn get_with_place(&self, topic: &str) -> Option<(Place, &M)> {
        let node = self.find(topic)?;
        let message = self.nodes[node as usize].message.as_ref()?;
        Some((Place(node), message))
    }

    /// Calls `visit` with every message whose name matches the valid Topic Filter `filter`.
    ///
    /// The shortest names come first; among names of as many levels, those whose levels were created first.
    ///
    /// The number is how many nodes were looked at: what the call cost, at least 1. `None` means that it would be more than
    /// `nodes_max`; a part of the matches was visited then. [`Retained::for_each_match_from`] is for those.
    pub fn for_each_match(
        &self,
        filter: &str,
        nodes_max: usize,
        mut visit: impl FnMut(&M),
    ) -> Option<usize> {
        if !filter.contains(['+', '#']) {
            self.get(filter).into_iter().for_each(visit);
            return Some(1);
        }
        let mut looked_at = 1;
        let mut visit_all = |nodes: &[u32]| {
            for node in nodes {
                if let Some(message) = &self.nodes[*node as usize].message {
                    visit(message);
                }
            }
        };
        let mut found = vec![ROOT];
        let mut below = Vec::new();
        for level in levels::levels(filter) {
            match level {
                b"#" => {
                    // The parent level itself matches too (4.7.1.2).
                    while !found.is_empty() {
                        visit_all(&found);
                        looked_at += found.len();
                        self.collect_children(
                            &found,
                            &mut below,
                            nodes_max.saturating_sub(looked_at),
                        )?;
                        std::mem::swap(&mut found, &mut below);
                    }
                    return Some(looked_at);
                }
                b"+" => {
                    self.collect_children(&found, &mut below, nodes_max.saturating_sub(looked_at))?
                }
                literal => {
                    let text = self.hash.text(literal);
                    below.clear();
                    below.extend(
                        found
                            .iter()
                            .filter_map(|node| self.child(*node, literal, text)),
                    );
                }
            }
            looked_at += found.len();
            if looked_at + below.len() > nodes_max {
                return None;
            }
            std::mem::swap(&mut found, &mut below);
        }
        visit_all(&found);
        Some(looked_at)
    }

    /// The same in pieces, in no order that means anything: looks at `nodes` places from `from` on, each for itself. Where to
    /// go on, unless it was the last piece. What is retained meanwhile is found where its place comes later.
    pub fn for_each_match_from(
        &self,
        filter: &str,
        from: Place,
        nodes: usize,
        mut visit: impl FnMut(&M),
    ) -> Option<Place> {
        let filter: Vec<&[u8]> = levels::levels(filter).collect();
        let mut path = Vec::new();
        let start = from.0 as usize;
        let end = start.saturating_add(nodes).min(self.nodes.capacity());
        for index in start..end {
            let message = self.nodes.get(index).and_then(|node| node.message.as_ref());
            if let Some(message) = message
                && self.matches(index as u32, &filter, &mut path)
            {
                visit(message);
            }
        }
        (end < self.nodes.capacity()).then_some(Place(end as u32))
    }

    /// Whether `filter`, level by level, matches the name of `node`. `path` is memory that is used again.
    fn matches(&self, node: u32, filter: &[&[u8]], path: &mut Vec<u32>) -> bool {
        path.clear();
        let mut at = node;
        while at != ROOT {
            path.push(at);
            at = self.nodes[at as usize].parent;
        }
        let mut levels = path
            .iter()
            .rev()
            .map(|&node| self.nodes[node as usize].level.bytes());
        for (depth, wanted) in filter.iter().enumerate() {
            let level = levels.next();
            // Invariant 4.
            let is_hidden = || depth == 0 && level.is_some_and(|level| level.starts_with(b"$"));
            let is_match = match (*wanted, level) {
                (b"#", _) => return !is_hidden(),
                (_, None) => false,
                (b"+", _) => !is_hidden(),
                (literal, Some(level)) => literal == level,
            };
            if !is_match {
                return false;
            }
        }
        levels.next().is_none()
    }

    /// Walks the whole trie.
    /// # Panics
    /// If one of the numbered invariants does not hold.
    pub fn check_invariants(&self) {
        let (mut messages, mut linked) = (0, 0);
        for (key, node) in &self.nodes {
            messages += usize::from(node.message.is_some());
            if key as u32 == ROOT {
                assert!(node.parent == NONE && node.message.is_none(), "1");
            } else {
                assert!(node.first_child != NONE || node.message.is_some(), "1");
                let level = node.level.bytes();
                let found = self.child(node.parent, level, self.hash.text(level));
                assert_eq!(found, Some(key as u32), "2: in the hash table");
            }
            let (mut previous, mut child) = (NONE, node.first_child);
            while child != NONE {
                let sibling = &self.nodes[child as usize];
                assert_eq!(sibling.parent, key as u32, "2: in its parent's list");
                assert_eq!(sibling.previous_sibling, previous, "2: linked both ways");
                linked += 1;
                (previous, child) = (child, sibling.next_sibling);
            }
            assert_eq!(node.last_child, previous, "2: the list ends at its end");
        }
        assert_eq!(messages, self.len, "3");
        assert_eq!(linked, self.nodes.len() - 1, "2: each child exactly once");
        assert_eq!(linked, self.literals.len(), "2: each child exactly once");
    }

    fn find(&self, topic: &str) -> Option<u32> {
        levels::levels(topic).try_fold(ROOT, |node, level| {
            self.child(node, level, self.hash.text(level))
        })
    }

    /// The child of `parent` for `level`, whose hash is `text`.
    fn child(&self, parent: u32, level: &[u8], text: u64) -> Option<u32> {
        let hash = self.hash.join(u64::from(parent), text);
        let is_it = |child: u32| {
            let child = &self.nodes[child as usize];
            child.parent == parent && child.level.bytes() == level
        };
        self.literals.find(hash, is_it)
    }

    /// Puts the children of `parents` into `children`; of the root, only those that wildcards match (invariant 4). `None` means
    /// that there are more than `children_max`.
    fn collect_children(
        &self,
        parents: &[u32],
        children: &mut Vec<u32>,
        children_max: usize,
    ) -> Option<()> {
        children.clear();
        for parent in parents {
            let mut child = self.nodes[*parent as usize].first_child;
            while child != NONE {
                let node = &self.nodes[child as usize];
                if *parent != ROOT || !node.level.bytes().starts_with(b"$") {
                    children.push(child);
                    if children.len() > children_max {
                        return None;
                    }
                }
                child = node.next_sibling;
            }
        }
        Some(())
    }

    fn add_child(&mut self, parent: u32, level: &[u8]) -> u32 {
        let child = u32::try_from(self.nodes.insert(Node::new(level, parent)))
            .ok()
            .filter(|child| *child != NONE)
            .expect("memory ends before 2^32 nodes");
        let above = &mut self.nodes[parent as usize];
        let previous = std::mem::replace(&mut above.last_child, child);
        match previous {
            NONE => above.first_child = child,
            previous => self.nodes[previous as usize].next_sibling = child,
        }
        self.nodes[child as usize].previous_sibling = previous;

        let Retained {
            nodes,
            literals,
            hash,
            ..
        } = self;
        let hash_of = |node: u32| {
            let node = &nodes[node as usize];
            hash.join(u64::from(node.parent), hash.text(node.level.bytes()))
        };
        literals.insert(hash_of(child), child, hash_of);
        child
    }

    /// Frees `node` and then its ancestors as long as nothing needs them (invariant 1).
    fn free_unused(&mut self, mut node: u32) {
        while node != ROOT {
            let it = &self.nodes[node as usize];
            if it.first_child != NONE || it.message.is_some() {
                return;
            }
            let hash = self
                .hash
                .join(u64::from(it.parent), self.hash.text(it.level.bytes()));
            self.literals.remove(hash, node);
            let Node {
                parent,
                next_sibling,
                previous_sibling,
                ..
            } = self.nodes.remove(node as usize);
            match previous_sibling {
                NONE => self.nodes[parent as usize].first_child = next_sibling,
                previous => self.nodes[previous as usize].next_sibling = next_sibling,
            }
            match next_sibling {
                NONE => self.nodes[parent as usize].last_child = previous_sibling,
                next => self.nodes[next as usize].previous_sibling = previous_sibling,
            }
            node = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn matches(retained: &Retained<String>, filter: &str) -> Vec<String> {
        let mut found = Vec::new();
        let cost = retained.for_each_match(filter, usize::MAX, |it| found.push(it.clone()));
        assert!(cost.is_some());
        found
    }

    fn of(topics: &[&str]) -> Retained<String> {
        let mut retained = Retained::new(1);
        for topic in topics {
            assert_eq!(retained.set(topic, topic.to_string()), None);
        }
        retained.check_invariants();
        retained
    }

    #[test]
    fn filters_and_names() {
        let retained = of(&[
            "a/b/c",
            "a",
            "$SYS/uptime",
            "b",
            "a/b",
            "/",
            "a/",
            "ä/日本",
            "$SYS",
            "/b",
        ]);
        let table: &[(&str, &[&str])] = &[
            ("a", &["a"]),
            ("a/#", &["a", "a/b", "a/", "a/b/c"]),
            ("+", &["a", "b"]),
            ("#", &["a", "b", "a/b", "a/", "/", "/b", "ä/日本", "a/b/c"]),
            ("+/+", &["a/b", "a/", "/", "/b", "ä/日本"]),
            ("+/b", &["a/b", "/b"]),
            (
                "+/#",
                &["a", "b", "a/b", "a/", "/", "/b", "ä/日本", "a/b/c"],
            ),
            ("/+", &["/", "/b"]),
            ("$SYS/#", &["$SYS", "$SYS/uptime"]),
            ("$SYS/+", &["$SYS/uptime"]),
            ("+/uptime", &[]),
            ("ä/+", &["ä/日本"]),
            ("a/+/c", &["a/b/c"]),
            ("a/b/c/#", &["a/b/c"]),
            ("a/b/c/+", &[]),
            ("A", &[]),
        ];
        for (filter, expected) in table {
            assert_eq!(matches(&retained, filter), *expected, "{filter}");
        }
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut retained = of(&["a/b/c"]);
        assert_eq!(retained.nodes.len(), 4);
        assert_eq!(retained.remove("a/b"), None);
        assert_eq!(retained.remove("a/b/c"), Some("a/b/c".into()));
        assert_eq!((retained.nodes.len(), retained.literals.len()), (1, 0));
        let capacity = retained.nodes.capacity();
        for number in 0..1000 {
            let topic = format!("x/{number}/y");
            retained.set(&topic, topic.clone());
            retained.check_invariants();
            assert_eq!(retained.remove(&topic), Some(topic));
        }
        assert_eq!(retained.nodes.capacity(), capacity);
        assert!(retained.is_empty());
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "a/".repeat(32_000);
        let retained = of(&[&deep, "b"]);
        assert_eq!(matches(&retained, "#").len(), 2);
        assert_eq!(matches(&retained, &deep).len(), 1);
        assert_eq!(
            matches(&retained, &format!("{}#", "+/".repeat(200))),
            [deep]
        );
    }

    #[test]
    fn memory_for_each_topic() {
        let count = 100_000;
        let mut retained: Retained<Box<u64>> = Retained::new(1);
        for number in 0..count {
            retained.set(&format!("plant/machine/m{number}"), Box::new(number));
        }
        let bytes = retained.nodes.len() * (size_of::<Node<Box<u64>>>() - size_of::<usize>())
            + retained.literals.allocation_size();
        let each = bytes / count as usize;
        println!("{each} bytes for each retained topic, beyond the message");
        assert!(each < 120);
    }

    /// Whether `filter` matches `topic`, level by level, written without regard to the trie.
    fn one_matches(filter: &str, topic: &str) -> bool {
        let filter_levels: Vec<&str> = filter.split('/').collect();
        let topic_levels: Vec<&str> = topic.split('/').collect();
        if topic.starts_with('$') && matches!(filter_levels[0], "+" | "#") {
            return false;
        }
        let (exact, open) = match filter_levels.split_last() {
            Some((&"#", before)) => (before, true),
            _ => (&filter_levels[..], false),
        };
        let long_enough = if open {
            topic_levels.len() >= exact.len()
        } else {
            topic_levels.len() == exact.len()
        };
        let mut pairs = exact.iter().zip(&topic_levels);
        long_enough && pairs.all(|(filter, topic)| *filter == "+" || filter == topic)
    }

    fn name(wildcards: bool) -> impl Strategy<Value = String> {
        let plain = proptest::sample::select(vec!["a", "b", "", "$x", "é"]);
        let plus = proptest::sample::select(vec!["a", "b", "", "$x", "é", "+", "+", "+"]);
        let level = if wildcards {
            plus.boxed()
        } else {
            plain.boxed()
        };
        let levels = proptest::collection::vec(level, 1..5);
        (levels, any::<bool>()).prop_map(move |(mut levels, open)| {
            if wildcards && open {
                *levels.last_mut().unwrap() = "#";
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            steps in proptest::collection::vec((name(false), name(true), 0..3u8), 1..80),
            seed: u64,
        ) {
            let mut retained: Retained<String> = Retained::new(seed);
            let mut model: BTreeMap<String, String> = BTreeMap::new();
            for (number, (topic, filter, step)) in steps.into_iter().enumerate() {
                let value = format!("{topic}|{number}");
                if step == 0 {
                    prop_assert_eq!(retained.remove(&topic), model.remove(&topic));
                } else {
                    prop_assert_eq!(retained.set(&topic, value.clone()), model.insert(topic.clone(), value));
                }
                prop_assert_eq!(retained.get(&topic), model.get(&topic));
                prop_assert_eq!(retained.len(), model.len());
                retained.check_invariants();

                let mut found = matches(&retained, &filter);
                let depths: Vec<usize> = found.iter().map(|value| value.split('/').count()).collect();
                prop_assert!(depths.is_sorted());
                found.sort();
                let mut expected: Vec<String> = model
                    .iter()
                    .filter(|(topic, _)| one_matches(&filter, topic))
                    .map(|(_, value)| value.clone())
                    .collect();
                expected.sort();
                                prop_assert_eq!(&found, &expected);

                // In pieces it is the same, and so it is up to a bound that is large enough.
                let (mut found, mut from) = (Vec::new(), Some(Place::FIRST));
                while let Some(place) = from {
                    from = retained.for_each_match_from(&filter, place, 3, |it| found.push(it.clone()));
                }
                found.sort();
                prop_assert_eq!(&found, &expected);
                let mut found = Vec::new();
                let cost = retained.for_each_match(&filter, number, |it| found.push(it.clone()));
                prop_assert!(cost.is_none_or(|cost| cost <= number.max(2)));
                found.sort();
                prop_assert!(cost.is_none() || found == expected);
            }
        }
    }
}
