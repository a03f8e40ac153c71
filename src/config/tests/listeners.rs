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

#[test]
fn listeners_that_are_not_built_are_left_out() {
    let text = "listener 1\nlistener 2 ::1\nprotocol websockets\nmax_connections 5\nlistener 0 /run/h\nprotocol http_api\n\
                listener 4\nprotocol mqtt";
    let ports: Vec<u16> = config(text)
        .listeners
        .iter()
        .map(|listener| listener.port)
        .collect();
    assert_eq!(ports, [1, 4]);
    assert_eq!(
        warnings(text),
        [
            "Warning: The listener on 2 ::1 is NOT opened: 'protocol websockets' is not supported yet. (t.conf:3)",
            "Warning: The listener on 0 /run/h is NOT opened: 'protocol http_api' is not supported yet. (t.conf:6)",
        ]
    );
    // None left is not the same as none asked for, which would be local only mode with anonymous clients.
    for (text, line, protocol) in [
        ("listener 1\nprotocol websockets", 2, "websockets"),
        ("protocol http_api", 1, "http_api"),
        (
            "listener 1\nprotocol http_api\nlistener 2\nprotocol websockets",
            2,
            "http_api",
        ),
    ] {
        assert_eq!(
            error(text),
            format!(
                "Error: No listener can be opened: 'protocol {protocol}' is not supported yet.\n\
                 Error found at t.conf:{line}.\n\
                 Define a listener without 'protocol', or with 'protocol mqtt', beside this one."
            )
        );
    }
}

#[test]
fn unix_sockets() {
    let path = |text: &str| {
        let listener = config(text).listeners.remove(0);
        assert_eq!((listener.port, listener.host), (0, None));
        listener.unix_path
    };
    for (text, expected) in [
        ("listener 0 /run/m.sock", "/run/m.sock"),
        ("listener 0 a dir/m.sock # mine", "a dir/m.sock"),
    ] {
        assert_eq!(path(text).as_deref(), Some(Path::new(expected)), "{text}");
    }
    assert!(!config("listener 0 /s").local_only && !config("listener 0 /s").allow_anonymous);
}

/// Every way to a listener, under either reading of security options: each has the files that it was given.
/// Mosquitto 1.5 to 1.5.4 lost them for the default listener (CVE-2018-20145).
#[test]
fn every_listener_has_the_files_that_it_was_given() {
    for before in [
        "",
        "listener 1\n",
        "port 1\n",
        "bind_address ::1\n",
        "max_qos 1\n",
    ] {
        for own in [false, true] {
            let files = "password_file p\nacl_file a\n";
            let text = format!("per_listener_settings {own}\n{before}{files}");
            if own && before.is_empty() {
                assert!(error(&text).contains("requires a listener to be defined first"));
                continue;
            }
            for (text, own) in [
                (text.clone(), own),
                (format!("{text}listener 2\n"), own),
                (
                    format!("{text}listener 2\n{}", if own { files } else { "" }),
                    false,
                ),
            ] {
                let config = config(&text);
                for listener in &config.listeners {
                    let is_other = listener.port == 2 && own;
                    assert_eq!(listener.password_file.is_none(), is_other, "{text}");
                    assert_eq!(listener.acl_file.is_none(), is_other, "{text}");
                    assert_eq!(listener.allow_anonymous, config.local_only, "{text}");
                }
            }
        }
    }
}
