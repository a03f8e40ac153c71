//! What roles allow, against the same asked rule by rule.

use super::super::{PRIORITY_UNSET, Rule};
use super::*;
use proptest::prelude::*;
use proptest::sample::select;

fn add_rule(security: &mut Security, role: &str, of: RuleType, topic: &str, says: (i32, bool)) {
    let (priority, allow) = says;
    let rule = Rule {
        topic: topic.into(),
        priority,
        allow,
    };
    let role = security.role_mut(role).expect("the role is there");
    role.add_rule(of, rule);
}

/// A client `c` with a role `r`.
fn one_role() -> Security {
    let mut security = Security::default();
    security.add_client("c").expect("new");
    security.add_role("r").expect("new");
    security
        .add_client_role("c", "r", 0)
        .expect("both are there");
    security
}

#[test]
fn who_is_not_known_may_do_nothing() {
    let mut security = one_role();
    security.defaults = Defaults {
        publish_client_send: true,
        publish_client_receive: true,
        subscribe: true,
        unsubscribe: true,
    };
    let rights = security.rights(Some("stranger"), "id");
    assert!(!rights.may_read("a") && !rights.may_write("a"));
    assert!(!rights.may_subscribe("a") && !rights.may_unsubscribe("a"));
    let rights = security.rights(Some("c"), "id");
    assert!(rights.may_read("a") && rights.may_write("a"));
    assert!(rights.may_subscribe("a") && rights.may_unsubscribe("a"));
}

#[test]
fn defaults_never_allow_control() {
    let mut security = one_role();
    security.defaults.publish_client_send = true;
    security.defaults.subscribe = true;
    let rights = security.rights(Some("c"), "id");
    for topic in ["$CONTROL", "$CONTROL/dynamic-security/v1", "$CONTROL/x/v1"] {
        assert!(!rights.may_write(topic), "{topic}");
        assert!(!rights.may_read(topic), "{topic}");
        assert!(!rights.may_subscribe(topic), "{topic}");
    }
    let send = RuleType::PublishClientSend;
    add_rule(&mut security, "r", send, "$CONTROL/#", (0, true));
    let rights = security.rights(Some("c"), "id");
    assert!(rights.may_write("$CONTROL/dynamic-security/v1"));
}

#[test]
fn a_clients_roles_come_before_its_groups_and_higher_priorities_before_lower() {
    let mut security = Security::default();
    security.add_client("c").expect("new");
    let send = RuleType::PublishClientSend;
    for (role, allow) in [("yes", true), ("no", false)] {
        security.add_role(role).expect("new");
        add_rule(&mut security, role, send, "t", (0, allow));
    }
    for group in ["low", "high"] {
        security.add_group(group).expect("new");
    }
    let may = |security: &Security| security.rights(Some("c"), "id").may_write("t");
    assert!(!may(&security), "the default");
    security.add_group_role("low", "yes", 0).expect("known");
    security.add_group_role("high", "no", 0).expect("known");
    security.add_group_client("low", "c", 1).expect("known");
    assert!(may(&security), "by its group");
    security.add_group_client("high", "c", 2).expect("known");
    assert!(!may(&security), "by the group of a higher priority");
    security.add_client_role("c", "yes", -5).expect("known");
    assert!(may(&security), "by its own role");
    security.add_client_role("c", "no", 5).expect("known");
    assert!(!may(&security), "by the role of a higher priority");
}

#[test]
fn the_anonymous_group_is_for_those_without_a_name() {
    let mut security = one_role();
    let send = RuleType::PublishClientSend;
    add_rule(&mut security, "r", send, "t", (0, true));
    assert!(!security.rights(None, "id").may_write("t"));
    security.add_group("g").expect("new");
    security.add_group_role("g", "r", 0).expect("known");
    security.set_anonymous_group("g").expect("known");
    assert!(security.rights(None, "id").may_write("t"));
    assert!(!security.rights(Some("stranger"), "id").may_write("t"));
}

#[test]
fn literal_rules_are_about_exactly_one_filter() {
    let mut security = one_role();
    let (literal, pattern) = (RuleType::SubscribeLiteral, RuleType::SubscribePattern);
    add_rule(&mut security, "r", literal, "a/#", (0, true));
    add_rule(&mut security, "r", literal, "%c", (0, true));
    add_rule(&mut security, "r", pattern, "b/+/%u", (0, true));
    add_rule(&mut security, "r", pattern, "b/secret/c", (1, false));
    let rights = security.rights(Some("c"), "id");
    for (filter, may) in [
        ("a/#", true),
        ("a/b", false),
        ("a/+", false),
        ("%c", true),
        ("id", false),
        ("b/x/c", true),
        ("b/+/c", true),
        ("b/x/d", false),
        ("b/secret/c", false),
        ("b/#", false),
        ("#", false),
    ] {
        assert_eq!(rights.may_subscribe(filter), may, "{filter}");
    }
}

#[test]
fn cve_2017_7650_a_name_with_a_wildcard_stands_for_nothing() {
    let mut security = one_role();
    for of in [RuleType::PublishClientSend, RuleType::SubscribePattern] {
        add_rule(&mut security, "r", of, "of/%c/#", (0, true));
    }
    for (client_id, may) in [
        ("id", true),
        ("+", false),
        ("#", false),
        ("a+", false),
        ("", false),
    ] {
        let rights = security.rights(Some("c"), client_id);
        let topic = format!("of/{client_id}/x");
        assert_eq!(rights.may_subscribe(&topic), may, "{client_id}");
        assert_eq!(rights.may_write(&topic), may, "{client_id}");
        assert!(!rights.may_write("of/other/x"), "{client_id}");
    }
}

#[test]
fn a_role_without_wildcards_refuses_them_whatever_its_rules_say() {
    let mut security = one_role();
    add_rule(
        &mut security,
        "r",
        RuleType::SubscribePattern,
        "#",
        (0, true),
    );
    let role = security.role_mut("r").expect("it is there");
    role.allow_wildcards(false);
    let rights = security.rights(Some("c"), "id");
    assert!(rights.may_subscribe("a/b"));
    assert!(!rights.may_subscribe("a/+") && !rights.may_subscribe("#"));
}

#[test]
fn what_comes_to_a_topic_that_is_no_filter_is_denied() {
    let mut security = one_role();
    let send = RuleType::PublishClientSend;
    add_rule(&mut security, "r", send, "first", (9, true));
    add_rule(&mut security, "r", send, "a#", (5, true));
    add_rule(&mut security, "r", send, "#", (1, true));
    let rights = security.rights(Some("c"), "id");
    assert!(rights.may_write("first"));
    assert!(!rights.may_write("second"));
}

/// The same, asked rule by rule as the documentation of the module has it.
fn naive(rules: &[(&str, i32, bool)], default: bool, covers: impl Fn(&str) -> bool) -> bool {
    let mut ordered: Vec<_> = rules.iter().collect();
    ordered.sort_by_key(|(_, priority, _)| -priority);
    let first = ordered.iter().find(|(topic, _, _)| covers(topic));
    first.map_or(default, |(_, _, allow)| *allow)
}

/// Whether `filter` matches all that `asked` matches, level by level.
fn covers(filter: &str, asked: &str) -> bool {
    if asked.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut own, mut others) = (filter.split('/'), asked.split('/'));
    loop {
        match (own.next(), others.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            (Some("+"), Some(other)) if other != "#" => {}
            (Some(own), Some(other)) if own == other && other != "#" => {}
            _ => return false,
        }
    }
}

proptest! {
    /// Rules of several priorities, asked by the trie and one by one.
    #[test]
    fn as_rule_by_rule(
        rules in prop::collection::vec(
            (select(vec!["a", "b", "a/b", "a/+", "+/b", "#", "a/#", "+", "$x/#", "$x/a", "of/id", "of/+"]), -3..3i32, any::<bool>()),
            0..8,
        ),
        asked in select(vec!["a", "b", "c", "a/b", "a/c", "c/b", "$x/a", "$x/b", "of/id", "a/b/c", "$x"]),
        filter in select(vec!["a", "a/b", "a/+", "+/b", "a/#", "+", "$x/#", "of/+", "a/+/c", "+/+"]),
        default in any::<bool>(),
    ) {
        // One topic has one rule: the first.
        let mut distinct: Vec<(&str, i32, bool)> = Vec::new();
        for rule in rules {
            if distinct.iter().all(|other| other.0 != rule.0) {
                distinct.push(rule);
            }
        }
        let mut security = one_role();
        security.defaults.publish_client_send = default;
        security.defaults.subscribe = default;
        for &(topic, priority, allow) in &distinct {
            for of in [RuleType::PublishClientSend, RuleType::SubscribePattern] {
                add_rule(&mut security, "r", of, topic, (priority, allow));
            }
        }
        let rights = security.rights(Some("c"), "id");
        let wanted = naive(&distinct, default, |rule| topic::matches(rule, asked));
        prop_assert_eq!(rights.may_write(asked), wanted);
        let wanted = naive(&distinct, default, |rule| covers(rule, filter));
        prop_assert_eq!(rights.may_subscribe(filter), wanted);
    }
}

#[test]
fn rights_are_of_the_moment_they_were_made() {
    let mut security = one_role();
    let before = security.rights(Some("c"), "id");
    add_rule(
        &mut security,
        "r",
        RuleType::PublishClientSend,
        "t",
        (PRIORITY_UNSET, true),
    );
    assert!(!before.may_write("t"));
    assert!(security.rights(Some("c"), "id").may_write("t"));
}
