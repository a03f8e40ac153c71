//! Listeners: which there are, and who may use them.

use super::*;

#[test]
fn listeners() {
    let addresses = |text: &str| -> Vec<(u16, Option<String>)> {
        config(text)
            .listeners
            .into_iter()
            .map(|listener| (listener.port, listener.host))
            .collect()
    };
    let host = |host: &str| Some(host.to_owned());
    for (text, expected) in [
        ("listener 1884", vec![(1884, None)]),
        ("listener 1884 ::1", vec![(1884, host("::1"))]),
        (
            "listener 1884 localhost # mine",
            vec![(1884, host("localhost"))],
        ),
        ("listener 1884 # all", vec![(1884, None)]),
        ("listener 1\nlistener 2 a", vec![(1, None), (2, host("a"))]),
        ("listener 0 /run/m s.sock", vec![(0, None)]),
        ("port 1884", vec![(1884, None)]),
        ("bind_address 10.0.0.1", vec![(1883, host("10.0.0.1"))]),
        (
            "bind_address a\nport 1884\nlistener 2",
            vec![(2, None), (1884, host("a"))],
        ),
        ("max_qos 1", vec![(1883, None)]),
        ("max_qos 1\nlistener 2", vec![(2, None), (1883, None)]),
    ] {
        assert_eq!(addresses(text), expected, "{text}");
        assert!(
            !config(text).local_only && !config(text).allow_anonymous,
            "{text}"
        );
    }
    let two = config("listener 1\nmax_qos 1\nlistener 2\nmax_connections 5\nallow_anonymous true");
    assert_eq!((two.listeners[0].max_qos, two.listeners[1].max_qos), (1, 2));
    assert_eq!(two.listeners[0].max_connections, None);
    assert!(
        two.listeners
            .iter()
            .all(|listener| listener.allow_anonymous)
    );
}

#[test]
fn ports_of_the_command_line() {
    let ports = |path: Option<&Path>| {
        let overrides = Overrides {
            ports: vec![5, 6],
            ..Overrides::default()
        };
        Config::load_with(path, overrides).expect("a good configuration")
    };
    let config = ports(None);
    assert!(config.local_only);
    let listening: Vec<u16> = config
        .listeners
        .iter()
        .map(|listener| listener.port)
        .collect();
    assert_eq!(listening, [5, 6]);

    let directory = Directory::new("ports");
    let config = ports(Some(&directory.file("a.conf", "listener 7")));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(
        config.warnings[0].to_string(),
        "Warning: -p has no effect, since the configuration file defines a listener."
    );
    assert_eq!(config.reread().expect("the file is still good"), config);
}

#[test]
fn who_may_be_anonymous() {
    for (text, expected) in [
        ("listener 1", [false, false]),
        ("listener 1\nallow_anonymous true\nlistener 2", [true, true]),
        (
            "allow_anonymous true\nlistener 1\nlistener_allow_anonymous false\nlistener 2",
            [false, true],
        ),
        (
            "listener 1\nlistener_allow_anonymous true\nlistener 2",
            [true, false],
        ),
        (
            "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2",
            [true, false],
        ),
        ("listener 1\npassword_file p\nlistener 2", [false, false]),
    ] {
        let listeners = config(text).listeners;
        let anonymous: Vec<bool> = listeners
            .iter()
            .map(|listener| listener.allow_anonymous)
            .collect();
        assert_eq!(anonymous[0], expected[0], "{text}");
        assert_eq!(
            *anonymous.last().expect("a listener"),
            expected[1],
            "{text}"
        );
    }
    let config = config(
        "per_listener_settings true\nlistener 1\nauto_id_prefix a\nlistener 2\nauto_id_prefix b",
    );
    assert_eq!(config.listeners[0].auto_id_prefix, "a");
    assert_eq!(config.listeners[1].auto_id_prefix, "b");
}
