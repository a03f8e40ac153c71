//! Rankings, rules and what holds when something is removed.

use super::*;

fn names(ranking: &Ranking) -> Vec<&str> {
    ranking.iter().map(|(name, _)| name).collect()
}

#[test]
fn rankings_have_higher_priorities_first_then_names() {
    let mut ranking = Ranking::default();
    for (name, priority) in [("b", 0), ("a", 0), ("z", 5), ("m", -1)] {
        assert!(ranking.add(name, priority));
    }
    assert!(!ranking.add("a", 9), "each once");
    assert_eq!(names(&ranking), ["z", "a", "b", "m"]);
    assert!(ranking.remove("a"));
    assert!(!ranking.remove("a"));
    assert_eq!(names(&ranking), ["z", "b", "m"]);
}

#[test]
fn priorities_are_clamped() {
    for (given, kept) in [
        (0, 0),
        (i64::MAX, PRIORITY_MAX),
        (i64::MIN, -PRIORITY_MAX),
        (-1, PRIORITY_UNSET),
    ] {
        assert_eq!(clamped(given), kept);
    }
}

#[test]
fn what_is_removed_is_named_nowhere() {
    let mut security = Security::default();
    security.add_client("c").expect("new");
    security.add_role("r").expect("new");
    security.add_group("g").expect("new");
    assert_eq!(security.add_group_client("g", "c", 3), Ok(()));
    assert_eq!(
        security.add_group_client("g", "c", 4),
        Err(Unfit::Exists),
        "the first priority stays"
    );
    assert_eq!(security.add_client_role("c", "r", 1), Ok(()));
    assert_eq!(security.add_group_role("g", "r", 1), Ok(()));
    assert_eq!(security.set_anonymous_group("g"), Ok(()));
    security.check_invariants();

    assert_eq!(security.remove_role("r"), Ok(()));
    security.check_invariants();
    assert!(names(security.clients()["c"].roles()).is_empty());

    assert_eq!(security.remove_group("g"), Ok(()));
    security.check_invariants();
    assert!(names(security.clients()["c"].groups()).is_empty());
    assert_eq!(security.anonymous_group(), None);

    security.add_group("h").expect("new");
    assert_eq!(security.add_group_client("h", "c", 0), Ok(()));
    assert_eq!(security.remove_client("c"), Ok(()));
    security.check_invariants();
    assert_eq!(security.groups()["h"].clients().count(), 0);
    assert_eq!(security.remove_client("c"), Err(Unfit::NoClient));
}

#[test]
fn rules_of_one_priority_are_asked_in_the_order_they_came() {
    let mut role = Role::default();
    let rule = |topic: &str, priority| Rule {
        topic: topic.into(),
        priority,
        allow: true,
    };
    let of = RuleType::PublishClientSend;
    for (topic, priority) in [("a", 0), ("b", 0), ("c", 7), ("d", -3), ("e", 0)] {
        assert!(role.add_rule(of, rule(topic, priority)));
    }
    assert!(!role.add_rule(of, rule("a", 50)));
    let topics: Vec<&str> = role.rules(of).iter().map(|rule| &*rule.topic).collect();
    assert_eq!(topics, ["c", "a", "b", "e", "d"]);
    assert!(role.remove_rule(of, "b"));
    assert!(!role.remove_rule(of, "b"));
}
