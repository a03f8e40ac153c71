//! What a running broker can take up of a new configuration.

use super::*;

fn changes(old: &str, new: &str) -> Vec<String> {
    config(old).changes_that_need_a_restart(&config(new))
}

#[test]
fn changes_are_named() {
    for (old, new, expected) in [
        ("listener 1", "listener 1", &[][..]),
        ("user a\nlistener 1", "listener 1", &["user"]),
        ("listener 1", "listener 1\npid_file p", &["pid_file"]),
        (
            "listener 1",
            "listener 1\nlistener 2",
            &["listener 2 (new)"],
        ),
        (
            "listener 1\nlistener 2",
            "listener 2",
            &["listener 1 (gone)"],
        ),
        ("listener 1\nlistener 2", "listener 2\nlistener 1", &[]),
        (
            "listener 1 ::1",
            "listener 1",
            &["listener 1 ::1 (gone)", "listener 1 (new)"],
        ),
        (
            "listener 0 /a",
            "listener 0 /b",
            &["listener 0 /a (gone)", "listener 0 /b (new)"],
        ),
        (
            "listener 1",
            "listener 1\nsocket_domain ipv4\nbind_interface lo",
            &[
                "socket_domain of listener 1",
                "bind_interface of listener 1",
            ],
        ),
        (
            "listener 1\ncertfile a\nkeyfile b",
            "listener 1",
            &["certfile and keyfile of listener 1"],
        ),
        (
            "listener 1\ncertfile a\nkeyfile b",
            "listener 1\ncertfile c\nkeyfile d",
            &[],
        ),
        (
            "",
            "listener 1883",
            &["listeners instead of local only mode"],
        ),
        (
            "listener 1883",
            "",
            &["no listener is left, which would be local only mode"],
        ),
        (
            "listener 1\nlistener 2\nprotocol websockets",
            "listener 1\nlistener 2",
            &["listener 2 (new)"],
        ),
        // What belongs to a listener is in its settings, so that they can be told otherwise while they run.
        (
            "listener 1\npassword_file p",
            "per_listener_settings true\nlistener 1\npassword_file q\nallow_anonymous true",
            &[],
        ),
    ] {
        assert_eq!(changes(old, new), expected, "{old:?} -> {new:?}");
    }
}

#[test]
fn the_table_says_the_same() {
    for row in TABLE.iter().filter(|row| row.standing == Standing::InForce) {
        if matches!(row.name, "include_dir" | "protocol") {
            continue;
        }
        let context = match row.name {
            "port" | "bind_address" => String::new(),
            _ if row.scope == Scope::Listener => context(row),
            _ => format!("listener 1884\n{}", context(row)),
        };
        let with = format!(
            "{context}{} {}\n",
            row.name.replace('*', "key"),
            good_value(row)
        );
        let without = match row.name {
            "port" | "bind_address" => "port 1\n".to_owned(),
            "listener" => "listener 1\n".to_owned(),
            _ => context,
        };
        let changes = changes(&without, &with);
        assert_eq!(changes.is_empty(), row.reloadable, "{with}: {changes:?}");
    }
}
