//! The subscription trie: which clients want a Topic Name (MQTT 5.0, 4.7 and 4.8.2).
//!
//! Clients are numbers here: it knows neither sessions nor who may read what. Nodes live in one arena and name each
//! other by `u32`; one hash table finds the child of a node by its level, `+` and `#` are fields of the node. Shared
//! groups hang off the same nodes and have an arena of their own.
//!
//! 1. A node with no children and no subscriptions is free, except the root, which has no subscriptions.
//! 2. A `#` node has no children [MQTT-4.7.1-1]; at the root, wildcards pass over `$` names [MQTT-4.7.2-1].
//! 3. A client appears at most once for each node and group; subscribing again replaces [MQTT-3.8.4-3].
//! 4. The subscriptions of a node are sorted by client; the members of a group stand as they came.
//! 5. A group has members, and its node names it exactly once; its number is its own until its last member leaves.
//! 6. What the cache answers with is what a walk would find: `cache` has the reasons.
//!
//! Matching goes down level by level with all nodes of a level at hand: each level is hashed once, each node asks once
//! for its literal child, and a `#` ends where it stands. It allocates nothing once its scratch lists have grown.

use hashbrown::HashTable;
use slab::Slab;

use super::levels::{self, Level, LevelHash, NONE, ROOT};
use super::parted::PartedTable;
use crate::mqtt::subscribe::SubscriptionOptions;

mod cache;
#[cfg(test)]
mod tests;

/// Up to this many nodes' lists are merged one by one; more are put together and sorted.
const MERGED_LISTS_MAX: usize = 8;

/// What one client asked for with one Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The client's slot in the slab of clients.
    pub client: u32,
    /// The Subscription Identifier (MQTT 5.0, 3.8.2.1.2); 0 means none.
    pub identifier: u32,
    /// The Subscription Options, with the QoS that was granted.
    pub options: SubscriptionOptions,
}

const _: () = assert!(size_of::<Subscription>() == 12);

/// Names a Topic Filter, and the group if it is shared, as long as anybody is subscribed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey {
    node: u32,
    /// The group's number; 0 if not shared.
    group: u32,
}

impl SubscriptionKey {
    /// Whether this is a Shared Subscription (MQTT 5.0, 4.8.2).
    pub fn is_shared(self) -> bool {
        self.group != 0
    }
}

/// Who gets a message with some Topic Name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Subscriptions that are not shared, sorted by client: overlapping ones of one client are neighbours.
    pub subscriptions: Vec<Subscription>,
    /// Shared groups, each of which gets one copy: ask [`Groups::choose`] for whom.
    pub groups: Vec<SubscriptionKey>,
}

impl Matches {
    /// Whether nobody wants the message.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty() && self.groups.is_empty()
    }

    fn clear(&mut self) {
        self.subscriptions.clear();
        self.groups.clear();
    }
}

/// All subscriptions of all clients.
pub struct Subscriptions {
    trie: Trie,
    groups: Groups,
    /// Subscriptions that are not shared.
    count: usize,
    changes: cache::Changes,
    cache: cache::Cache,
    walk: Walk,
    matches: Matches,
}

impl Subscriptions {
    /// No subscriptions. `seed` keeps peers from choosing names that collide in hash tables.
    pub fn new(seed: u64) -> Subscriptions {
        Subscriptions::with_limits(seed, cache::Limits::default())
    }

    fn with_limits(seed: u64, limits: cache::Limits) -> Subscriptions {
        Subscriptions {
            trie: Trie::new(seed),
            groups: Groups::default(),
            count: 0,
            changes: cache::Changes::new(),
            cache: cache::Cache::new(limits),
            walk: Walk::default(),
            matches: Matches::default(),
        }
    }

    /// How many subscriptions there are, not counting shared ones.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many Shared Subscriptions there are: each member of each group counts.
    pub fn shared_count(&self) -> usize {
        self.groups.count
    }

    /// Subscribes a client to `filter`, which is valid and without `$share/group/` in front.
    ///
    /// The answer is `true` if it is new, `false` if it replaces what this client had for the same filter and group.
    pub fn subscribe(
        &mut self,
        filter: &str,
        group: Option<&str>,
        subscription: Subscription,
    ) -> (SubscriptionKey, bool) {
        let node = self.trie.enter(filter);
        let listeners = &mut self.trie.nodes[node as usize].listeners;
        let Some(name) = group else {
            let replaced = listeners.set(subscription);
            self.count += usize::from(replaced.is_none());
            if replaced != Some(subscription) {
                self.changes.note(&self.trie.hash, levels::levels(filter));
            }
            return (SubscriptionKey { node, group: 0 }, replaced.is_none());
        };
        let hash = self.groups.hash_of(&self.trie.hash, node, name);
        let group = match self.groups.find(hash, node, name) {
            Some(group) => group,
            None => {
                let group = self.groups.create(hash, node, name);
                listeners.add_group(group);
                self.changes.note(&self.trie.hash, levels::levels(filter));
                group
            }
        };
        let is_new = self.groups.join(group, subscription);
        (SubscriptionKey { node, group }, is_new)
    }

    /// The key of `filter`, without `$share/group/` in front, if anybody is subscribed to it.
    pub fn find(&self, filter: &str, group: Option<&str>) -> Option<SubscriptionKey> {
        let node = self.trie.find(filter)?;
        let Some(name) = group else {
            let listeners = &self.trie.nodes[node as usize].listeners;
            let is_used = !listeners.subscriptions().is_empty();
            return is_used.then_some(SubscriptionKey { node, group: 0 });
        };
        let hash = self.groups.hash_of(&self.trie.hash, node, name);
        let group = self.groups.find(hash, node, name)?;
        Some(SubscriptionKey { node, group })
    }

    /// Ends a client's subscription; `false` if there was none.
    pub fn remove(&mut self, key: SubscriptionKey, client: u32) -> bool {
        let Some(node) = self.trie.nodes.get_mut(key.node as usize) else {
            return false;
        };
        if key.is_shared() {
            match self.groups.leave(key, client) {
                Leave::NotThere => return false,
                Leave::OthersRemain => return true,
                Leave::WasLast => node.listeners.remove_group(key.group),
            }
        } else {
            if node.listeners.remove(client).is_none() {
                return false;
            }
            self.count -= 1;
        }
        self.trie.path_to(key.node, &mut self.walk.path);
        let path = self.walk.path.iter().rev();
        self.changes.note(
            &self.trie.hash,
            path.map(|node| self.trie.nodes[*node as usize].level.bytes()),
        );
        self.trie.free_unused(key.node);
        true
    }

    /// A client's subscription.
    pub fn get(&self, key: SubscriptionKey, client: u32) -> Option<&Subscription> {
        if key.is_shared() {
            return self.groups.get(key)?.member(client);
        }
        let node = self.trie.nodes.get(key.node as usize)?;
        let list = node.listeners.subscriptions();
        let at = list.binary_search_by_key(&client, |it| it.client).ok()?;
        Some(&list[at])
    }

    /// The Topic Filter as the client wrote it, with `$share/group/` in front if it is shared.
    /// # Panics
    /// If nobody is subscribed to it any longer.
    pub fn filter_of(&self, key: SubscriptionKey) -> String {
        let mut path = Vec::new();
        self.trie.path_to(key.node, &mut path);
        let mut filter = Vec::new();
        if key.is_shared() {
            let group = self.groups.get(key).expect("the key is of a group");
            filter.extend_from_slice(b"$share/");
            filter.extend_from_slice(group.name.as_bytes());
            filter.push(b'/');
        }
        for (depth, node) in path.iter().rev().enumerate() {
            if depth > 0 {
                filter.push(b'/');
            }
            filter.extend_from_slice(self.trie.nodes[*node as usize].level.bytes());
        }
        String::from_utf8(filter).expect("levels were cut from a string at ASCII separators")
    }

    /// Every subscription with its key: those that are not shared, then the groups, each in the order of its members.
    pub fn iter(&self) -> impl Iterator<Item = (SubscriptionKey, &Subscription)> {
        let plain = self.trie.nodes.iter().flat_map(|(node, it)| {
            let key = SubscriptionKey {
                node: node as u32,
                group: 0,
            };
            it.listeners.subscriptions().iter().map(move |it| (key, it))
        });
        plain.chain(self.groups.iter())
    }

    /// Who gets a message with the Topic Name `topic` [MQTT-3.3.2-3].
    pub fn resolve(&mut self, topic: &str) -> &Matches {
        self.resolve_with_groups(topic, |_| true).0
    }

    /// The same among those who may read it, and beside it the groups, so that a member can be chosen while the matches
    /// are borrowed.
    ///
    /// The answers of `may_read` are kept with the matches: a client is asked for again after
    /// [`Subscriptions::rights_changed`], or when filters change. Members of groups are not asked for.
    pub fn resolve_with_groups(
        &mut self,
        topic: &str,
        may_read: impl Fn(u32) -> bool,
    ) -> (&Matches, &mut Groups) {
        let hash = self.trie.hash.text(topic.as_bytes());
        let cached = self.cache.find(hash, topic);
        if let Some(slot) = cached
            && self.cache.is_fresh(slot, &self.changes)
        {
            return (self.cache.matches(slot), &mut self.groups);
        }
        self.matches.clear();
        self.trie.walk(topic, &mut self.walk, &mut self.matches);
        self.matches
            .subscriptions
            .retain(|subscription| may_read(subscription.client));
        match cached {
            Some(slot) => self.cache.refresh(slot, &self.matches, &self.changes),
            None if self.cache.saw_recently(hash) => {
                let stamp = self.changes.stamp(&self.trie.hash, levels::levels(topic));
                self.cache.insert(hash, topic, &self.matches, stamp);
            }
            None => {}
        }
        (&self.matches, &mut self.groups)
    }

    /// Somebody's right to read has changed: everybody is asked again.
    pub fn rights_changed(&mut self) {
        self.changes.note_everywhere();
    }

    /// As [`Groups::choose`].
    pub fn choose(
        &mut self,
        key: SubscriptionKey,
        eligible: impl FnMut(&Subscription) -> bool,
    ) -> Option<Subscription> {
        self.groups.choose(key, eligible)
    }

    /// Walks everything.
    /// # Panics
    /// If one of the numbered invariants does not hold.
    pub fn check_invariants(&self, may_read: impl Fn(u32, &str) -> bool) {
        self.trie.check_invariants();
        let lists = self.trie.nodes.iter();
        let plain = lists.map(|(_, node)| node.listeners.subscriptions().len());
        assert_eq!(plain.sum::<usize>(), self.count);
        self.groups.check_invariants(&self.trie);
        self.cache.check_invariants(&self.changes, |topic| {
            let mut matches = Matches::default();
            self.trie.walk(topic, &mut Walk::default(), &mut matches);
            matches
                .subscriptions
                .retain(|subscription| may_read(subscription.client, topic));
            matches
        });
    }
}

struct Node {
    level: Level,
    listeners: Listeners,
    parent: u32,
    /// The children for the two wildcards.
    plus: u32,
    hash: u32,
    /// How many other children there are: without any, the hash table need not be asked.
    literals: u32,
}

const _: () = assert!(size_of::<Node>() == 56);

impl Node {
    fn new(level: &[u8], parent: u32) -> Node {
        Node {
            level: Level::new(level),
            listeners: Listeners::None,
            parent,
            plus: NONE,
            hash: NONE,
            literals: 0,
        }
    }

    fn is_unused(&self) -> bool {
        let is_leaf = self.plus == NONE && self.hash == NONE && self.literals == 0;
        is_leaf && matches!(self.listeners, Listeners::None)
    }
}

/// The subscriptions that end at a node. Most nodes have none or one, so these need no memory of their own.
enum Listeners {
    None,
    One(Subscription),
    Many(Box<Crowd>),
}

const _: () = assert!(size_of::<Listeners>() == 16);

/// More than one subscription, or at least one group.
#[derive(Default)]
struct Crowd {
    /// Sorted by client.
    subscriptions: Vec<Subscription>,
    /// In the order of their creation.
    groups: Vec<u32>,
}

impl Listeners {
    fn subscriptions(&self) -> &[Subscription] {
        match self {
            Listeners::None => &[],
            Listeners::One(subscription) => std::slice::from_ref(subscription),
            Listeners::Many(crowd) => &crowd.subscriptions,
        }
    }

    fn groups(&self) -> &[u32] {
        match self {
            Listeners::None | Listeners::One(_) => &[],
            Listeners::Many(crowd) => &crowd.groups,
        }
    }

    /// Adds or replaces the subscription of a client.
    fn set(&mut self, subscription: Subscription) -> Option<Subscription> {
        match self {
            Listeners::None => {
                *self = Listeners::One(subscription);
                None
            }
            Listeners::One(one) if one.client == subscription.client => {
                Some(std::mem::replace(one, subscription))
            }
            Listeners::One(_) => self.crowd().set(subscription),
            Listeners::Many(crowd) => crowd.set(subscription),
        }
    }

    fn remove(&mut self, client: u32) -> Option<Subscription> {
        match self {
            Listeners::None => None,
            Listeners::One(one) => {
                let removed = *one;
                if removed.client != client {
                    return None;
                }
                *self = Listeners::None;
                Some(removed)
            }
            Listeners::Many(crowd) => {
                let removed = crowd.remove(client)?;
                self.simplify();
                Some(removed)
            }
        }
    }

    fn add_group(&mut self, group: u32) {
        self.crowd().groups.push(group);
    }

    fn remove_group(&mut self, group: u32) {
        self.crowd().groups.retain(|other| *other != group);
        self.simplify();
    }

    /// What is here, as a crowd.
    fn crowd(&mut self) -> &mut Crowd {
        if !matches!(self, Listeners::Many(_)) {
            let crowd = Crowd {
                subscriptions: self.subscriptions().to_vec(),
                groups: Vec::new(),
            };
            *self = Listeners::Many(Box::new(crowd));
        }
        match self {
            Listeners::Many(crowd) => crowd,
            Listeners::None | Listeners::One(_) => unreachable!("it was made a crowd above"),
        }
    }

    /// Gives back the memory of a crowd that is none any longer.
    fn simplify(&mut self) {
        if !self.groups().is_empty() {
            return;
        }
        match *self.subscriptions() {
            [] => *self = Listeners::None,
            [one] => *self = Listeners::One(one),
            _ => {}
        }
    }
}

impl Crowd {
    fn set(&mut self, subscription: Subscription) -> Option<Subscription> {
        let list = &mut self.subscriptions;
        // Slots are given out in ascending order, so the end is the likely place.
        if list.last().is_none_or(|it| it.client < subscription.client) {
            list.push(subscription);
            return None;
        }
        match list.binary_search_by_key(&subscription.client, |it| it.client) {
            Ok(at) => Some(std::mem::replace(&mut list[at], subscription)),
            Err(at) => {
                list.insert(at, subscription);
                None
            }
        }
    }

    fn remove(&mut self, client: u32) -> Option<Subscription> {
        let list = &mut self.subscriptions;
        let at = list.binary_search_by_key(&client, |it| it.client).ok()?;
        let removed = list.remove(at);
        if list.len() < list.capacity() / 4 {
            list.shrink_to(list.len() * 2);
        }
        Some(removed)
    }
}

/// The nodes, and the way from one to the next.
struct Trie {
    nodes: Slab<Node>,
    /// All children but those for wildcards.
    literals: PartedTable,
    hash: LevelHash,
}

/// Scratch lists of a walk.
#[derive(Default)]
struct Walk {
    /// The nodes that match the levels so far, and those that match one more.
    here: Vec<u32>,
    below: Vec<u32>,
    /// Nodes that match and have subscriptions.
    found: Vec<u32>,
    /// From a node up to the root.
    path: Vec<u32>,
}

impl Trie {
    fn new(seed: u64) -> Trie {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(b"", NONE));
        Trie {
            nodes,
            literals: PartedTable::new(),
            hash: LevelHash::new(seed),
        }
    }

    /// The literal child of `parent` for `level`, whose hash is `text`.
    fn literal(&self, parent: u32, level: &[u8], text: u64) -> Option<u32> {
        let hash = self.hash.join(u64::from(parent), text);
        let is_it = |child: u32| {
            let child = &self.nodes[child as usize];
            child.parent == parent && child.level.bytes() == level
        };
        self.literals.find(hash, is_it)
    }

    fn child(&self, parent: u32, level: &[u8]) -> Option<u32> {
        let node = &self.nodes[parent as usize];
        match level {
            b"+" => Some(node.plus).filter(|child| *child != NONE),
            b"#" => Some(node.hash).filter(|child| *child != NONE),
            literal => self.literal(parent, literal, self.hash.text(literal)),
        }
    }

    fn find(&self, filter: &str) -> Option<u32> {
        levels::levels(filter).try_fold(ROOT, |node, level| self.child(node, level))
    }

    /// The node of `filter`, made if need be; the caller gives it a subscription.
    fn enter(&mut self, filter: &str) -> u32 {
        let mut node = ROOT;
        for level in levels::levels(filter) {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.add_child(node, level),
            };
        }
        node
    }

    fn add_child(&mut self, parent: u32, level: &[u8]) -> u32 {
        let child = u32::try_from(self.nodes.insert(Node::new(level, parent)))
            .ok()
            .filter(|child| *child != NONE)
            .expect("memory ends before 2^32 nodes");
        let above = &mut self.nodes[parent as usize];
        match level {
            b"+" => above.plus = child,
            b"#" => above.hash = child,
            _ => {
                above.literals += 1;
                let Trie {
                    nodes,
                    literals,
                    hash,
                } = self;
                let hash_of = |node: u32| {
                    let node = &nodes[node as usize];
                    hash.join(u64::from(node.parent), hash.text(node.level.bytes()))
                };
                literals.insert(hash_of(child), child, hash_of);
            }
        }
        child
    }

    /// Frees `node` and then its ancestors as long as nothing needs them (invariant 1).
    fn free_unused(&mut self, mut node: u32) {
        while node != ROOT && self.nodes[node as usize].is_unused() {
            let Node { level, parent, .. } = self.nodes.remove(node as usize);
            let above = &mut self.nodes[parent as usize];
            match level.bytes() {
                b"+" => above.plus = NONE,
                b"#" => above.hash = NONE,
                literal => {
                    above.literals -= 1;
                    let hash = self.hash.join(u64::from(parent), self.hash.text(literal));
                    self.literals.remove(hash, node);
                }
            }
            node = parent;
        }
    }

    /// Puts `node` and its ancestors into `path`, without the root.
    fn path_to(&self, mut node: u32, path: &mut Vec<u32>) {
        path.clear();
        while node != ROOT {
            path.push(node);
            node = self.nodes[node as usize].parent;
        }
    }

    /// Finds who wants `topic`; `matches` is empty before.
    fn walk(&self, topic: &str, walk: &mut Walk, matches: &mut Matches) {
        let Walk {
            here, below, found, ..
        } = walk;
        found.clear();
        here.clear();
        here.push(ROOT);
        let mut wildcards = !topic.starts_with('$');
        for level in levels::levels(topic) {
            let text = self.hash.text(level);
            below.clear();
            for parent in here.iter() {
                let node = &self.nodes[*parent as usize];
                if wildcards {
                    found.extend(Some(node.hash).filter(|child| *child != NONE));
                    below.extend(Some(node.plus).filter(|child| *child != NONE));
                }
                if node.literals > 0 {
                    below.extend(self.literal(*parent, level, text));
                }
            }
            wildcards = true;
            std::mem::swap(here, below);
            if here.is_empty() {
                break;
            }
        }
        for last in here.iter() {
            let node = &self.nodes[*last as usize];
            if !matches!(node.listeners, Listeners::None) {
                found.push(*last);
            }
            // `a/#` matches `a` too (4.7.1.2).
            found.extend(Some(node.hash).filter(|child| *child != NONE));
        }
        self.collect(found, matches);
    }

    /// Puts together the listeners of the nodes `found`.
    fn collect(&self, found: &[u32], matches: &mut Matches) {
        for node in found {
            let listeners = &self.nodes[*node as usize].listeners;
            if found.len() <= MERGED_LISTS_MAX {
                merge(&mut matches.subscriptions, listeners.subscriptions());
            } else {
                matches
                    .subscriptions
                    .extend_from_slice(listeners.subscriptions());
            }
            let keys = listeners.groups().iter();
            matches.groups.extend(keys.map(|group| SubscriptionKey {
                node: *node,
                group: *group,
            }));
        }
        if found.len() > MERGED_LISTS_MAX {
            matches.subscriptions.sort_unstable_by_key(|it| it.client);
        }
    }

    fn check_invariants(&self) {
        let (mut wildcards, mut literals) = (0, 0);
        for (key, node) in &self.nodes {
            let key = key as u32;
            literals += node.literals as usize;
            for (child, level) in [(node.plus, b"+"), (node.hash, b"#")] {
                if child != NONE {
                    let child = &self.nodes[child as usize];
                    assert!(child.parent == key && child.level.bytes() == level);
                    wildcards += 1;
                }
            }
            let list = node.listeners.subscriptions();
            let sorted = list.windows(2).all(|two| two[0].client < two[1].client);
            assert!(sorted, "3 and 4");
            if let Listeners::Many(crowd) = &node.listeners {
                assert!(list.len() > 1 || !crowd.groups.is_empty());
            }
            if key == ROOT {
                assert!(node.parent == NONE && matches!(node.listeners, Listeners::None));
                continue;
            }
            assert!(!node.is_unused(), "1");
            let found = self.child(node.parent, node.level.bytes());
            assert_eq!(found, Some(key), "a child is found through its parent");
            if node.level.bytes() == b"#" {
                let is_leaf = node.plus == NONE && node.hash == NONE && node.literals == 0;
                assert!(is_leaf, "2");
            }
        }
        assert_eq!(literals, self.literals.len());
        assert_eq!(literals + wildcards, self.nodes.len() - 1);
    }
}

/// Merges the sorted `list` into the sorted `into`, from the back, so that what is in place stays where it is.
fn merge(into: &mut Vec<Subscription>, list: &[Subscription]) {
    let mut left = into.len();
    let mut right = list.len();
    into.extend_from_slice(list);
    while left > 0 && right > 0 {
        let from_left = into[left - 1].client > list[right - 1].client;
        let next = if from_left {
            left -= 1;
            into[left]
        } else {
            right -= 1;
            list[right]
        };
        into[left + right] = next;
    }
    into[..right].copy_from_slice(&list[..right]);
}

/// The groups of Shared Subscriptions (MQTT 5.0, 4.8.2).
#[derive(Default)]
pub struct Groups {
    /// A group's number is its place here plus one.
    groups: Slab<Group>,
    /// Finds a group by its node and name.
    names: HashTable<u32>,
    /// Members of all groups.
    count: usize,
}

struct Group {
    name: Box<str>,
    /// The hash under which `names` has it.
    hash: u64,
    node: u32,
    /// Where the search for the next member begins: after the one chosen last.
    next: usize,
    members: Vec<Subscription>,
}

enum Leave {
    NotThere,
    OthersRemain,
    WasLast,
}

impl Group {
    fn position(&self, client: u32) -> Option<usize> {
        self.members.iter().position(|it| it.client == client)
    }

    fn member(&self, client: u32) -> Option<&Subscription> {
        self.position(client).map(|at| &self.members[at])
    }
}

impl Groups {
    /// The member of the group `key` that gets the next message, `None` if nobody is eligible.
    ///
    /// Members take turns in the order in which they subscribed, beginning with the first; those that are not eligible
    /// are passed over.
    pub fn choose(
        &mut self,
        key: SubscriptionKey,
        mut eligible: impl FnMut(&Subscription) -> bool,
    ) -> Option<Subscription> {
        let group = self.get_mut(key)?;
        let (before, after) = group.members.split_at(group.next);
        let mut turns = after.iter().chain(before);
        let chosen = *turns.find(|member| eligible(member))?;
        group.next = group.position(chosen.client)? + 1;
        Some(chosen)
    }

    fn hash_of(&self, hash: &LevelHash, node: u32, name: &str) -> u64 {
        hash.join(u64::from(node), hash.text(name.as_bytes()))
    }

    fn find(&self, hash: u64, node: u32, name: &str) -> Option<u32> {
        let is_it = |group: &u32| {
            let group = &self.groups[*group as usize - 1];
            group.node == node && *group.name == *name
        };
        self.names.find(hash, is_it).copied()
    }

    fn get(&self, key: SubscriptionKey) -> Option<&Group> {
        let group = self.groups.get((key.group as usize).checked_sub(1)?)?;
        (group.node == key.node).then_some(group)
    }

    fn get_mut(&mut self, key: SubscriptionKey) -> Option<&mut Group> {
        let group = self.groups.get_mut((key.group as usize).checked_sub(1)?)?;
        (group.node == key.node).then_some(group)
    }

    /// Makes a group; the caller gives it its first member.
    fn create(&mut self, hash: u64, node: u32, name: &str) -> u32 {
        let key = self.groups.insert(Group {
            name: name.into(),
            hash,
            node,
            next: 0,
            members: Vec::new(),
        });
        let group = u32::try_from(key + 1).expect("memory ends before 2^32 groups");
        let groups = &self.groups;
        self.names
            .insert_unique(hash, group, |group| groups[*group as usize - 1].hash);
        group
    }

    /// Adds or replaces a member; a replaced one keeps its turn.
    fn join(&mut self, group: u32, subscription: Subscription) -> bool {
        let group = &mut self.groups[group as usize - 1];
        match group.position(subscription.client) {
            Some(at) => {
                group.members[at] = subscription;
                false
            }
            None => {
                group.members.push(subscription);
                self.count += 1;
                true
            }
        }
    }

    fn leave(&mut self, key: SubscriptionKey, client: u32) -> Leave {
        let Some(group) = self.get_mut(key) else {
            return Leave::NotThere;
        };
        let Some(at) = group.position(client) else {
            return Leave::NotThere;
        };
        group.members.remove(at);
        group.next -= usize::from(at < group.next);
        let (is_empty, hash) = (group.members.is_empty(), group.hash);
        self.count -= 1;
        if !is_empty {
            return Leave::OthersRemain;
        }
        self.groups.remove(key.group as usize - 1);
        self.names
            .find_entry(hash, |group| *group == key.group)
            .expect("every group has its name in the hash table")
            .remove();
        Leave::WasLast
    }

    fn iter(&self) -> impl Iterator<Item = (SubscriptionKey, &Subscription)> {
        self.groups.iter().flat_map(|(at, group)| {
            let key = SubscriptionKey {
                node: group.node,
                group: at as u32 + 1,
            };
            group.members.iter().map(move |it| (key, it))
        })
    }

    fn check_invariants(&self, trie: &Trie) {
        for (at, group) in &self.groups {
            let number = at as u32 + 1;
            assert!(!group.members.is_empty(), "5");
            assert!(group.next <= group.members.len());
            let listeners = &trie.nodes[group.node as usize].listeners;
            let named = listeners.groups().iter().filter(|it| **it == number);
            assert_eq!(named.count(), 1, "5");
            assert_eq!(self.find(group.hash, group.node, &group.name), Some(number));
            let clients: std::collections::BTreeSet<u32> =
                group.members.iter().map(|it| it.client).collect();
            assert_eq!(clients.len(), group.members.len(), "3");
        }
        let lists = trie.nodes.iter();
        let named: usize = lists.map(|(_, node)| node.listeners.groups().len()).sum();
        assert_eq!(named, self.groups.len(), "5");
        assert_eq!(self.names.len(), self.groups.len());
        assert_eq!(self.iter().count(), self.count);
    }
}
