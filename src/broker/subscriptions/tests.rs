//! The trie against a naive list, and what the table of the specification's examples says.

use super::*;
use crate::mqtt::QoS;
use proptest::prelude::*;

fn subscription(client: u32, identifier: u32) -> Subscription {
    Subscription {
        client,
        identifier,
        options: SubscriptionOptions::new(QoS::AtLeastOnce),
    }
}

fn clients(subscriptions: &mut Subscriptions, topic: &str) -> Vec<u32> {
    let matches = subscriptions.resolve(topic);
    matches.subscriptions.iter().map(|it| it.client).collect()
}

/// One client for each filter, numbered as the filters are.
fn of(filters: &[&str]) -> Subscriptions {
    let mut subscriptions = Subscriptions::new(1);
    for (client, filter) in filters.iter().enumerate() {
        let (key, is_new) = subscriptions.subscribe(filter, None, subscription(client as u32, 0));
        assert!(is_new);
        assert_eq!(subscriptions.filter_of(key), *filter);
        assert_eq!(subscriptions.find(filter, None), Some(key));
    }
    subscriptions.check_invariants(|_, _| true);
    subscriptions
}

#[test]
fn filters_and_topics() {
    let filters = [
        "#",
        "+",
        "a",
        "a/#",
        "a/+",
        "a/+/c",
        "+/b/#",
        "/",
        "/+",
        "+/+",
        "a//c",
        "$SYS/#",
        "$SYS/+",
        "ä/日本",
        "ä/+",
        "a/b/c/#",
    ];
    let table: &[(&str, &[&str])] = &[
        ("a", &["#", "+", "a", "a/#"]),
        ("b", &["#", "+"]),
        ("a/b", &["#", "a/#", "a/+", "+/b/#", "+/+"]),
        ("a/b/c", &["#", "a/#", "a/+/c", "+/b/#", "a/b/c/#"]),
        ("a//c", &["#", "a/#", "a/+/c", "a//c"]),
        ("a/", &["#", "a/#", "a/+", "+/+"]),
        ("/", &["#", "/", "/+", "+/+"]),
        ("/b", &["#", "+/b/#", "/+", "+/+"]),
        ("$SYS", &["$SYS/#"]),
        ("$SYS/b", &["$SYS/#", "$SYS/+"]),
        ("$SYS/b/c", &["$SYS/#"]),
        ("ä/日本", &["#", "+/+", "ä/日本", "ä/+"]),
        ("A", &["#", "+"]),
        ("x/$SYS", &["#", "+/+"]),
    ];
    let mut subscriptions = of(&filters);
    // Thrice: walked, walked and kept, answered by the cache.
    for _ in 0..3 {
        for (topic, expected) in table {
            let found: Vec<&str> = clients(&mut subscriptions, topic)
                .iter()
                .map(|client| filters[*client as usize])
                .collect();
            let mut expected = expected.to_vec();
            expected.sort_by_key(|filter| filters.iter().position(|it| it == filter));
            assert_eq!(found, expected, "{topic}");
        }
    }
    assert_eq!(subscriptions.cache.len(), table.len());
    subscriptions.check_invariants(|_, _| true);
}

#[test]
fn mqtt_3_8_4_3_subscribing_again_replaces() {
    let mut subscriptions = Subscriptions::new(1);
    let (key, is_new) = subscriptions.subscribe("a/+", None, subscription(4, 1));
    assert!(is_new);
    for _ in 0..3 {
        subscriptions.resolve("a/b");
    }
    assert_eq!(
        subscriptions.subscribe("a/+", None, subscription(4, 2)),
        (key, false)
    );
    assert_eq!(subscriptions.count(), 1);
    assert_eq!(subscriptions.get(key, 4), Some(&subscription(4, 2)));
    let matches = subscriptions.resolve("a/b");
    assert_eq!(matches.subscriptions, [subscription(4, 2)]);
}

#[test]
fn overlapping_subscriptions_are_neighbours() {
    let mut subscriptions = Subscriptions::new(1);
    for (filter, clients) in [("a/#", [1, 5, 9]), ("a/+", [0, 5, 6]), ("+/b", [5, 9, 12])] {
        for client in clients {
            subscriptions.subscribe(filter, None, subscription(client, 0));
        }
    }
    let found = clients(&mut subscriptions, "a/b");
    assert_eq!(found, [0, 1, 5, 5, 5, 6, 9, 9, 12]);
    // More lists than are merged one by one.
    let mut filters: Vec<String> = Vec::new();
    for mask in 0..32 {
        let level = |bit: u32| if mask >> bit & 1 == 1 { "+" } else { "x" };
        filters.push((0..5).map(level).collect::<Vec<_>>().join("/"));
    }
    for (number, filter) in filters.iter().enumerate() {
        for client in [100 - number as u32, 7] {
            subscriptions.subscribe(filter, None, subscription(client, 0));
        }
    }
    let found = clients(&mut subscriptions, "x/x/x/x/x");
    assert!(found.is_sorted() && found.len() == 64);
    subscriptions.check_invariants(|_, _| true);
}

#[test]
fn groups_take_turns() {
    let mut subscriptions = Subscriptions::new(1);
    let mut keys = Vec::new();
    for client in [30, 10, 20] {
        let (key, is_new) = subscriptions.subscribe("a/#", Some("g"), subscription(client, 0));
        assert!(is_new && key.is_shared());
        keys.push(key);
    }
    let key = keys[0];
    assert!(keys.iter().all(|it| *it == key));
    assert_eq!(subscriptions.filter_of(key), "$share/g/a/#");
    assert_eq!(subscriptions.find("a/#", Some("g")), Some(key));
    assert_eq!(subscriptions.find("a/#", Some("h")), None);
    assert_eq!(subscriptions.find("a/#", None), None);
    assert_eq!(
        (subscriptions.count(), subscriptions.shared_count()),
        (0, 3)
    );

    let (matches, groups) = subscriptions.resolve_with_groups("a", |_| true);
    assert!(matches.subscriptions.is_empty());
    assert_eq!(matches.groups, [key]);
    let mut turns = |eligible: &[u32]| {
        let member = groups.choose(key, |member| eligible.contains(&member.client));
        member.map(|member| member.client)
    };
    let all = [10, 20, 30];
    assert_eq!([turns(&all), turns(&all)], [Some(30), Some(10)]);
    assert_eq!([turns(&all), turns(&all)], [Some(20), Some(30)]);
    assert_eq!(turns(&[20]), Some(20), "10 is passed over");
    assert_eq!(turns(&[]), None);
    assert_eq!(turns(&all), Some(30), "asking in vain moves nothing");

    // 10 is next. A member that leaves takes no turn from the others; one that subscribes again keeps its own.
    assert!(subscriptions.remove(key, 30));
    assert!(!subscriptions.remove(key, 30));
    assert_eq!(
        subscriptions.subscribe("a/#", Some("g"), subscription(20, 3)),
        (key, false)
    );
    let mut turn = || subscriptions.choose(key, |_| true).map(|it| it.client);
    assert_eq!([turn(), turn(), turn()], [Some(10), Some(20), Some(10)]);
    // One that joins after the last was chosen is next; then it goes round.
    assert_eq!(turn(), Some(20));
    subscriptions.subscribe("a/#", Some("g"), subscription(5, 0));
    let mut turn = || subscriptions.choose(key, |_| true).map(|it| it.client);
    assert_eq!([turn(), turn(), turn()], [Some(5), Some(10), Some(20)]);
    subscriptions.check_invariants(|_, _| true);

    for client in [5, 10, 20] {
        assert!(subscriptions.remove(key, client));
    }
    assert_eq!(subscriptions.choose(key, |_| true), None);
    assert!(subscriptions.resolve("a").is_empty());
    assert_eq!(subscriptions.trie.nodes.len(), 1);
    subscriptions.check_invariants(|_, _| true);
}

#[test]
fn freed_nodes_are_used_again() {
    let mut subscriptions = of(&["a/b/c"]);
    let capacity = 8;
    for number in 0..1000 {
        let filter = format!("x/{number}/+/#");
        let (key, _) = subscriptions.subscribe(&filter, None, subscription(9, 0));
        let (shared, _) = subscriptions.subscribe(&filter, Some("g"), subscription(9, 0));
        assert_eq!(subscriptions.trie.nodes.len(), 4 + 4);
        assert!(subscriptions.remove(key, 9));
        assert!(!subscriptions.remove(key, 9));
        assert!(subscriptions.remove(shared, 9));
        assert_eq!(subscriptions.trie.nodes.len(), 4);
        assert_eq!(subscriptions.find(&filter, None), None);
    }
    assert_eq!(subscriptions.trie.nodes.capacity(), capacity);
    subscriptions.check_invariants(|_, _| true);
}

#[test]
fn two_hundred_levels() {
    let topic = vec!["level"; 200].join("/");
    let plus = vec!["+"; 200].join("/");
    let deeper = format!("{topic}/+");
    let open = format!("{topic}/#");
    let far = "/".repeat(60_000);
    let mut subscriptions = of(&[&topic, &plus, &deeper, &open, &far]);
    assert_eq!(clients(&mut subscriptions, &topic), [0, 1, 3]);
    assert_eq!(clients(&mut subscriptions, &far), [4]);
}

#[test]
fn a_hundred_thousand_clients_in_one_node() {
    let mut subscriptions = Subscriptions::new(1);
    let mut key = None;
    for client in 0..100_000 {
        key = Some(
            subscriptions
                .subscribe("all", None, subscription(client, 0))
                .0,
        );
    }
    let key = key.unwrap();
    assert_eq!(subscriptions.count(), 100_000);
    assert_eq!(
        subscriptions.get(key, 77_777),
        Some(&subscription(77_777, 0))
    );
    assert!(subscriptions.remove(key, 500));
    assert_eq!(subscriptions.get(key, 500), None);
    assert!(subscriptions.subscribe("all", None, subscription(500, 0)).1);
    for _ in 0..4 {
        assert_eq!(subscriptions.resolve("all").subscriptions.len(), 100_000);
    }
    subscriptions.check_invariants(|_, _| true);
}

#[test]
fn memory_for_each_subscription() {
    // So the arena can mark a vacant place inside the node instead of beside it.
    assert_eq!(size_of::<Option<Node>>(), size_of::<Node>());
    let count = 100_000;
    let mut subscriptions = Subscriptions::new(1);
    for client in 0..count {
        let filter = format!("a/b{client}/+/c");
        subscriptions.subscribe(&filter, None, subscription(client, 0));
    }
    let trie = &subscriptions.trie;
    let used = trie.nodes.len() * size_of::<Node>() + trie.literals.allocation_size();
    let reserved = trie.nodes.capacity() * size_of::<Node>() + trie.literals.allocation_size();
    let each = |bytes: usize| bytes / count as usize;
    println!(
        "{} bytes for each subscription, {} reserved",
        each(used),
        each(reserved)
    );
    assert!(each(used) < 220);
}

#[test]
fn a_topic_is_kept_when_it_comes_again() {
    let mut subscriptions = of(&["a/#"]);
    for number in 0..10_000 {
        subscriptions.resolve(&format!("a/{number}"));
    }
    assert_eq!(subscriptions.cache.len(), 0, "a storm leaves nothing");
    subscriptions.resolve("a/x");
    assert_eq!(subscriptions.cache.len(), 0);
    subscriptions.resolve("a/x");
    assert_eq!(subscriptions.cache.len(), 1);
}

#[test]
fn changes_elsewhere_do_not_spoil_a_topic() {
    let mut subscriptions = of(&["plant/1/state/+"]);
    let fresh = |subscriptions: &Subscriptions| {
        let hash = subscriptions.trie.hash.text(b"plant/1/state/x");
        let slot = subscriptions.cache.find(hash, "plant/1/state/x").unwrap();
        subscriptions.cache.is_fresh(slot, &subscriptions.changes)
    };
    subscriptions.resolve("plant/1/state/x");
    subscriptions.resolve("plant/1/state/x");
    assert!(fresh(&subscriptions));
    let (key, _) = subscriptions.subscribe("plant/2/reply/9", None, subscription(7, 0));
    subscriptions.remove(key, 7);
    subscriptions.subscribe("plant/1/state/+", None, subscription(0, 0));
    assert!(fresh(&subscriptions), "another branch; the same again");
    for filter in [
        "#",
        "+/1/#",
        "plant/#",
        "plant/1/+/x",
        "plant/1/state/x/#",
        "plant/1/state/x",
    ] {
        subscriptions.subscribe(filter, None, subscription(8, 0));
        assert!(!fresh(&subscriptions), "{filter}");
        subscriptions.resolve("plant/1/state/x");
        assert!(fresh(&subscriptions), "{filter}");
        subscriptions.check_invariants(|_, _| true);
    }
}

#[test]
fn the_cache_is_bounded() {
    let limits = cache::Limits {
        entries_max: 8,
        bytes_max: 4000,
    };
    let mut subscriptions = Subscriptions::with_limits(1, limits);
    for client in 0..20 {
        subscriptions.subscribe("a/#", None, subscription(client, 0));
        subscriptions.subscribe("b/#", None, subscription(client, 0));
    }
    for client in 0..200 {
        subscriptions.subscribe("large", None, subscription(client, 0));
    }
    for round in 0..50 {
        for topic in ["a/1", "b/2", "large", "c", &format!("a/{round}"), "d", "e"] {
            for _ in 0..3 {
                subscriptions.resolve(topic);
            }
        }
        subscriptions.check_invariants(|_, _| true);
        // A list that grows while it is kept.
        subscriptions.subscribe("c", None, subscription(round, 0));
    }
    assert!(subscriptions.cache.len() > 0);
}

/// Whether `filter` matches `topic`: levels from the left, written without regard to the trie.
fn one_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[derive(Default)]
struct Naive {
    plain: Vec<(String, Subscription)>,
    /// Members in their order, and who was chosen last.
    groups: Vec<(String, String, Vec<Subscription>, usize)>,
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(String, Option<&'static str>, u32, u32),
    Unsubscribe(String, Option<&'static str>, u32),
    Publish(String, u8),
}

fn levels_of(levels: Vec<&'static str>) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(levels), 1..5)
}

fn topic() -> impl Strategy<Value = String> {
    levels_of(vec![
        "a",
        "a",
        "b",
        "",
        "$x",
        "é",
        "a level longer than its node",
    ])
    .prop_map(|levels| levels.join("/"))
}

fn filter() -> impl Strategy<Value = String> {
    let levels = vec![
        "a",
        "a",
        "b",
        "",
        "$x",
        "é",
        "a level longer than its node",
        "+",
        "+",
    ];
    (levels_of(levels), 0..3u8).prop_map(|(mut levels, open)| {
        if open == 0 {
            *levels.last_mut().unwrap() = "#";
        }
        levels.join("/")
    })
}

fn step() -> impl Strategy<Value = Step> {
    let group = || proptest::sample::select(vec![None, None, Some("g"), Some("h")]);
    prop_oneof![
        3 => (filter(), group(), 0..6u32, 0..3u32)
            .prop_map(|(filter, group, client, id)| Step::Subscribe(filter, group, client, id)),
        2 => (filter(), group(), 0..6u32)
            .prop_map(|(filter, group, client)| Step::Unsubscribe(filter, group, client)),
        4 => (topic(), any::<u8>()).prop_map(|(topic, offline)| Step::Publish(topic, offline)),
    ]
}

impl Naive {
    fn subscribe(&mut self, filter: &str, group: Option<&str>, new: Subscription) -> bool {
        let Some(name) = group else {
            let mut all = self.plain.iter_mut();
            let old = all.find(|(it, old)| it == filter && old.client == new.client);
            let is_new = old.is_none();
            match old {
                Some((_, old)) => *old = new,
                None => self.plain.push((filter.into(), new)),
            }
            return is_new;
        };
        let mut groups = self.groups.iter_mut();
        let Some(group) = groups.find(|it| it.0 == name && it.1 == filter) else {
            self.groups.push((name.into(), filter.into(), vec![new], 0));
            return true;
        };
        match group.2.iter_mut().find(|it| it.client == new.client) {
            Some(old) => {
                *old = new;
                false
            }
            None => {
                group.2.push(new);
                true
            }
        }
    }

    fn unsubscribe(&mut self, filter: &str, group: Option<&str>, client: u32) -> bool {
        let before = self.plain.len() + self.shared_count();
        match group {
            None => self
                .plain
                .retain(|(it, old)| it != filter || old.client != client),
            Some(name) => {
                for group in &mut self.groups {
                    if group.0 == name
                        && group.1 == filter
                        && let Some(at) = group.2.iter().position(|it| it.client == client)
                    {
                        group.2.remove(at);
                        group.3 -= usize::from(at < group.3);
                    }
                }
                self.groups.retain(|group| !group.2.is_empty());
            }
        }
        before != self.plain.len() + self.shared_count()
    }

    fn shared_count(&self) -> usize {
        self.groups.iter().map(|group| group.2.len()).sum()
    }

    fn choose(&mut self, name: &str, eligible: impl Fn(u32) -> bool) -> Option<Subscription> {
        let mut groups = self.groups.iter_mut();
        let group = groups.find(|it| format!("$share/{}/{}", it.0, it.1) == name)?;
        let len = group.2.len();
        let mut turns = (group.3..group.3 + len).map(|at| at % len);
        let at = turns.find(|at| eligible(group.2[*at].client))?;
        group.3 = at + 1;
        Some(group.2[at])
    }
}

fn sorted(mut list: Vec<Subscription>) -> Vec<Subscription> {
    list.sort_by_key(|it| (it.client, it.identifier, it.options.byte()));
    list
}

proptest! {
    #[test]
    fn behaves_like_a_list(
        steps in proptest::collection::vec(step(), 1..120),
        seed: u64,
        entries_max in 0..20usize,
    ) {
        let limits = cache::Limits { entries_max, bytes_max: 8000 };
        let mut trie = Subscriptions::with_limits(seed, limits);
        let mut naive = Naive::default();
        let mut topics: Vec<String> = Vec::new();
        for step in steps {
            match step {
                Step::Subscribe(filter, group, client, identifier) => {
                    let new = subscription(client, identifier);
                    let (key, is_new) = trie.subscribe(&filter, group, new);
                    prop_assert_eq!(is_new, naive.subscribe(&filter, group, new));
                    prop_assert_eq!(trie.find(&filter, group), Some(key));
                    prop_assert_eq!(trie.get(key, client), Some(&new));
                    let written = match group {
                        None => filter,
                        Some(group) => format!("$share/{group}/{filter}"),
                    };
                    prop_assert_eq!(trie.filter_of(key), written);
                }
                Step::Unsubscribe(filter, group, client) => {
                    // Names filters that exist more often than chance would.
                    let filter = match naive.plain.iter().find(|it| it.1.client == client) {
                        Some((filter, _)) if group.is_none() => filter.clone(),
                        _ => filter,
                    };
                    let key = trie.find(&filter, group);
                    let removed = key.is_some_and(|key| trie.remove(key, client));
                    prop_assert_eq!(removed, naive.unsubscribe(&filter, group, client));
                    prop_assert!(key.is_none_or(|key| trie.get(key, client).is_none()));
                }
                Step::Publish(topic, offline) => {
                    topics.push(topic);
                    // Earlier topics come again, so that the cache answers too.
                    for topic in topics.iter().rev().take(4) {
                        let matches = trie.resolve(topic).clone();
                        prop_assert!(matches.subscriptions.is_sorted_by_key(|it| it.client));
                        let plain = naive.plain.iter().filter(|it| one_matches(&it.0, topic));
                        let expected = sorted(plain.map(|it| it.1).collect());
                        prop_assert_eq!(sorted(matches.subscriptions), expected);

                        let mut found: Vec<String> =
                            matches.groups.iter().map(|key| trie.filter_of(*key)).collect();
                        for (name, key) in found.iter().zip(&matches.groups) {
                            let eligible = |client: u32| offline >> client & 1 == 0;
                            let chosen = trie.choose(*key, |member| eligible(member.client));
                            prop_assert_eq!(chosen, naive.choose(name, eligible));
                        }
                        found.sort();
                        let groups = naive.groups.iter().filter(|it| one_matches(&it.1, topic));
                        let mut expected: Vec<String> =
                            groups.map(|it| format!("$share/{}/{}", it.0, it.1)).collect();
                        expected.sort();
                        prop_assert_eq!(found, expected);
                    }
                }
            }
            prop_assert_eq!(trie.count(), naive.plain.len());
            prop_assert_eq!(trie.shared_count(), naive.shared_count());
            prop_assert_eq!(trie.iter().count(), trie.count() + trie.shared_count());
            trie.check_invariants(|_, _| true);
        }
        // Everybody leaves, and nothing remains.
        let all: Vec<_> = trie.iter().map(|(key, it)| (key, it.client)).collect();
        for (key, client) in all {
            prop_assert!(trie.remove(key, client));
        }
        trie.check_invariants(|_, _| true);
        prop_assert_eq!((trie.trie.nodes.len(), trie.count(), trie.shared_count()), (1, 0, 0));
    }
}
