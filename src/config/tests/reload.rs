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
            &["listener 1 (socket_domain, bind_interface)"],
        ),
        (
            "listener 1\ncertfile a\nkeyfile b",
            "listener 1",
            &["listener 1 (certfile and keyfile)"],
        ),
        (
            "listener 1",
            "listener 1\nenable_proxy_protocol 1",
            &["listener 1 (enable_proxy_protocol)"],
        ),
        (
            "listener 1\ncertfile a\nkeyfile b",
            "listener 1\ncertfile c\nkeyfile d",
            &[],
        ),
        (
            "",
            "listener 1883",
            &["that there are listeners, which ends local only mode,"],
        ),
        (
            "listener 1883",
            "",
            &["that no listener is left, which is local only mode,"],
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

#[test]
fn a_running_broker_keeps_its_listeners() {
    let running = config("listener 1\nlistener 2\npassword_file p\nuser a");
    let new = config("listener 3\nlistener 2\npassword_file q\nuser b\nmax_packet_size 100");
    let taken = new.for_running(&running);
    let listeners: Vec<_> = taken
        .listeners
        .iter()
        .map(|listener| (listener.port, listener.password_file.clone()))
        .collect();
    assert_eq!(
        listeners,
        [(1, Some("p".into())), (2, Some("q".into()))],
        "what is gone stays as it was"
    );
    assert_eq!(taken.user.as_deref(), Some("a"));
    assert_eq!(taken.max_packet_size, 100);
    // It is told again each time, until it is started again.
    let again = config("listener 3\nlistener 2\nuser b");
    assert_eq!(taken.changes_that_need_a_restart(&again).len(), 3);
}

/// Settings that are safe where they are meant do not reach a listener that is not what they are meant for.
#[test]
fn no_reload_opens_a_listener_to_more_than_was_asked_for() {
    let closed = "listener 1883\npassword_file p\nacl_file a";
    let running = config(closed);
    for new in [
        // An empty file alone means local only mode, where anonymous clients are let in.
        "",
        "allow_anonymous true",
        // For the sake of certificates.
        "listener 1883\nallow_anonymous true\ncertfile c\nkeyfile k\ncafile a\nrequire_certificate true",
        // For the sake of the proxy.
        "listener 1883\nallow_anonymous true\nenable_proxy_protocol 2",
        "listener 1883\nbind_interface lo\nallow_anonymous true",
        "listener 1883 localhost\nallow_anonymous true",
        "listener 0 /s\nallow_anonymous true",
    ] {
        let taken = config(new).for_running(&running);
        assert_eq!(taken.listeners, running.listeners, "{new}");
        assert!(!taken.local_only, "{new}");
        assert!(
            !running.changes_that_need_a_restart(&config(new)).is_empty(),
            "{new}"
        );
    }
    let local = config("");
    let taken = config("listener 1883\npassword_file p").for_running(&local);
    assert!(taken.local_only && taken.listeners == local.listeners);
    let same = config(closed).for_running(&running);
    assert_eq!(same, running);
}
