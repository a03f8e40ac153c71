//! Every option: its bad values, and how they are answered.

use super::*;

#[test]
fn every_option_refuses_what_it_does_not_take() {
    for row in TABLE {
        let context = context(row);
        let line = context.lines().count() + 1;
        let name = row.name.replace('*', "key");
        let bad: &[&str] = match row.kind {
            Kind::Anything => continue,
            Kind::Flag => &["", "yes", "TRUE", "2", "truefalse"],
            Kind::Integer { .. } => &[
                "",
                "x",
                "12x",
                "0x",
                "09",
                "--1",
                "1.5",
                "99999999999999999999999",
            ],
            Kind::Text { bytes_max: 50 } => {
                &["", "123456789012345678901234567890123456789012345678901"]
            }
            Kind::Text { .. } | Kind::Path | Kind::Words(_) => &["", " "],
            Kind::Topic => &["", " ", "a/#", "+/a", "a+"],
            Kind::Versions => &["", ",", "2", "3.1", "3 4 6", "345", "3;4"],
            Kind::Word(_) => &["", "nosuchword"],
            Kind::Duration => &[
                "",
                "5",
                "5q",
                "0d",
                "d",
                "-1d",
                "1.5d",
                "99999999999999999999y",
                "5 d",
            ],
            Kind::Listener => &["", "x", "70000", "-1", "0", "1883 a b"],
            Kind::LogDest(_) => &["", "nosuchword", "file", "file "],
        };
        for value in bad {
            if matches!(row.kind, Kind::Integer { max: i64::MAX, .. }) && value.starts_with("9999")
            {
                continue;
            }
            let text = format!("{context}{name} {value}\n");
            let message = error(&text);
            assert!(
                message.contains(&format!("\nError found at t.conf:{line}.")),
                "{text}: {message}"
            );
            assert!(message.starts_with("Error: "), "{text}: {message}");
        }
    }
}

#[test]
fn errors_say_what_where_and_what_was_expected() {
    for (text, expected) in [
        (
            "foo 1",
            "Error: Unknown configuration variable 'foo'.\nError found at t.conf:1.",
        ),
        (
            "\nalow_anonymous true",
            "Error: Unknown configuration variable 'alow_anonymous'.\nError found at t.conf:2.\n\
             Did you mean 'allow_anonymous'?",
        ),
        (
            "allow_anonymous\ttrue",
            "Error: Unknown configuration variable 'allow_anonymous\ttrue'.\nError found at t.conf:1.\n\
             Put a space, not a tab, between 'allow_anonymous' and its value.",
        ),
        (
            " # x",
            "Error: Unknown configuration variable '#'.\nError found at t.conf:1.",
        ),
        (
            "allow_anonymous",
            "Error: Empty 'allow_anonymous' value in configuration.\nError found at t.conf:1.\n\
             Expected for 'allow_anonymous': true or false.",
        ),
        (
            "allow_anonymous yes",
            "Error: Invalid 'allow_anonymous' value (yes).\nError found at t.conf:1.\n\
             Expected for 'allow_anonymous': true or false.",
        ),
        (
            "autosave_interval string",
            "Error: 'autosave_interval' value not a number.\nError found at t.conf:1.\n\
             Expected for 'autosave_interval': a whole number (seconds).",
        ),
        (
            "max_inflight_messages 65536",
            "Error: 'max_inflight_messages' must be <= 65535.\nError found at t.conf:1.\n\
             Expected for 'max_inflight_messages': a whole number up to 65535 (messages).",
        ),
        (
            "max_packet_size 19",
            "Error: 'max_packet_size' must be >= 20.\nError found at t.conf:1.\n\
             Expected for 'max_packet_size': a whole number from 20 (bytes).",
        ),
        (
            "maximum_qos 3",
            "Error: 'max_qos' must be between 0 and 2 inclusive.\nError found at t.conf:1.",
        ),
        (
            "sys_interval 65536",
            "Error: Invalid 'sys_interval' value (65536).\nError found at t.conf:1.\n\
             Expected for 'sys_interval': a whole number from 0 to 65535 (seconds).",
        ),
        (
            "max_topic_alias -1",
            "Error: Invalid 'max_topic_alias' value in configuration.\nError found at t.conf:1.\n\
             Expected for 'max_topic_alias': a whole number from 0 to 65535.",
        ),
        (
            "persistent_client_expiration 5",
            "Error: Invalid 'persistent_client_expiration' duration in configuration.\nError found at t.conf:1.\n\
             Expected for 'persistent_client_expiration': a number above 0 followed by s, h, d, w, m (30 days) or y \
             (365 days).",
        ),
        (
            "log_dest foo",
            "Error: Invalid 'log_dest' value (foo).\nError found at t.conf:1.\n\
             Expected for 'log_dest': one of none, stdout, stderr, syslog, topic, file, dlt, android.",
        ),
        (
            "listener",
            "Error: Empty 'listener port' value in configuration.\nError found at t.conf:1.\n\
             Expected for 'listener port': a port from 1 to 65535, and if wanted the address to bind to; or 0 and \
             the path of a Unix socket.",
        ),
        (
            "listener 100000",
            "Error: Invalid 'port' value (100000).\nError found at t.conf:1.\n\
             Expected for 'port': a port from 1 to 65535, and if wanted the address to bind to; or 0 and \
             the path of a Unix socket.",
        ),
        (
            "listener 0",
            "Error: A listener with port 0 must provide a Unix socket path.\nError found at t.conf:1.",
        ),
        (
            "pid_file a\npid_file b",
            "Error: Duplicate 'pid_file' value in configuration.\nError found at t.conf:2.\n\
             'pid_file' may be given once here, and was at t.conf:1.",
        ),
        (
            "log_dest file a\nlog_dest file b",
            "Error: Duplicate 'log_dest file' value in configuration.\nError found at t.conf:2.\n\
             'log_dest file' may be given once here, and was at t.conf:1.",
        ),
        (
            "mount_point test/",
            "Error: The 'mount_point' option requires a listener to be defined first.\nError found at t.conf:1.",
        ),
        (
            "password pw",
            "Error: The 'password' option requires a bridge to be defined first.\nError found at t.conf:1.",
        ),
        (
            "plugin_opt_inval string",
            "Error: The 'plugin_opt_inval' option requires plugin/global_plugin/plugin_load to be defined first.\n\
             Error found at t.conf:1.",
        ),
        (
            "per_listener_settings true\nallow_anonymous true",
            "Error: The 'allow_anonymous' option requires a listener to be defined first.\nError found at t.conf:2.",
        ),
        (
            "allow_anonymous true\nper_listener_settings true",
            "Error: per_listener_settings must be set before any other security settings.\n\
             Error found at t.conf:2.",
        ),
        (
            "foo_is 1\nmax_qos 9",
            "Error: Unknown configuration variable 'foo_is'.\nError found at t.conf:1.",
        ),
        (
            "password pw\nfoo_is 1",
            "Error: The 'password' option requires a bridge to be defined first.\nError found at t.conf:1.",
        ),
        (
            "auto_id_prefix 123456789012345678901234567890123456789012345678901",
            "Error: 'auto_id_prefix' length must be <= 50.\nError found at t.conf:1.",
        ),
        (
            "psk_file a\nlistener 8883\ntls_engine e",
            "Error: The 'psk_file' option is not supported.\nError found at t.conf:1.\n\
             Midge has no TLS-PSK. Use 'certfile' and 'keyfile', and 'require_certificate true' with 'cafile' where \
             clients are to prove who they are.\n\
             Error: The 'tls_engine' option is not supported.\nError found at t.conf:3.\n\
             Midge has no OpenSSL engines. Give the private key as a PEM file with 'keyfile'.\n\
             Without these lines the broker would allow more than was asked for; take them out if that is meant.",
        ),
        (
            "log_facility 8",
            "Error: Invalid 'log_facility' value (8).\nError found at t.conf:1.\n\
             Expected for 'log_facility': a whole number from 0 to 7.",
        ),
        (
            "listener 1\nmount_point a/#",
            "Error: Invalid mount_point 'a/#'. Does it contain a wildcard character?\nError found at t.conf:2.",
        ),
        (
            "listener 1\naccept_protocol_versions 3.1.1",
            "Error: Invalid 'accept_protocol_versions' value (3.1.1).\nError found at t.conf:2.\n\
             Expected for 'accept_protocol_versions': some of 3, 4 and 5, with commas or spaces between.",
        ),
        (
            "listener 1\nenable_proxy_protocol 3",
            "Error: Invalid 'enable_proxy_protocol' value (3).\nError found at t.conf:2.\n\
             Expected for 'enable_proxy_protocol': a whole number from 1 to 2.",
        ),
        (
            "memory_limit -1",
            "Error: Invalid 'memory_limit' value (-1).\nError found at t.conf:1.\n\
             Expected for 'memory_limit': a whole number from 0 (bytes).",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
    assert_eq!(
        error(b"auto_id_prefix \xff\n"),
        "Error: Malformed UTF-8 in configuration.\nError found at t.conf:1.\n\
         Expected for 'auto_id_prefix': UTF-8 without zero bytes."
    );
    assert!(error(b"\x01\xff 1").starts_with("Error: Unknown configuration variable"));
    assert!(error(b"pid_file a\0b").starts_with("Error: Malformed UTF-8 in configuration."));
    let long = |bytes| format!("pid_file {}", "a".repeat(bytes));
    assert!(error(long(65536)).starts_with("Error: 'pid_file' length must be <= 65535."));
    config(&long(65535));
    let missing =
        Config::load(Path::new("/nonexistent/a.conf")).expect_err("there is no such file");
    assert!(
        missing
            .to_string()
            .starts_with("Error: Unable to open config file /nonexistent/a.conf.\n")
    );
}

#[test]
fn what_restricts_nothing_is_taken() {
    for text in [
        "listener 1\nrequire_certificate false",
        "listener 1\nprotocol mqtt",
        "listener 1\naccept_protocol_versions 3, 4,5",
        "listener 1\nuse_username_as_clientid 0",
        "persistence false\nautosave_interval 1800",
        "check_retain_source true",
        "listener 1\ntls_keyform pem",
        "packet_buffer_size 4096",
        "acl_file a\npassword_file b\nuser c\npid_file d",
    ] {
        assert!(warnings(text).is_empty(), "{text}");
    }
}

#[test]
fn warnings_say_what_has_no_effect() {
    for (text, expected) in [
        (
            "autosave_interval 60",
            "The 'autosave_interval' option has no meaning here: what is acknowledged is on the disk already, with \
             'persistence true'. (t.conf:1)",
        ),
        (
            "packet_buffer_size 1000",
            "The 'packet_buffer_size' option has no meaning here: buffers have the size of what is in them. \
             (t.conf:1)",
        ),
        (
            "retry_interval 5",
            "Warning: The 'retry_interval' option is no longer available: messages are sent again on a new connection \
             only. (t.conf:1)",
        ),
        (
            "port 1884",
            "The 'port' option is now deprecated. Please use 'listener' instead. (t.conf:1)",
        ),
        (
            "max_qos 1\nmax_connections 3",
            "Warning: The 'max_qos' option stands before any listener, so there is a default listener on port 1883. \
             Define a 'listener' first. (t.conf:1)",
        ),
        (
            "connection b\naddress a:1883\ntopic # both\ntopic x",
            "Warning: Bridges have no effect yet: 'b' does not connect. (t.conf:1)",
        ),
    ] {
        assert_eq!(warnings(text), [expected], "{text}");
    }
    assert_eq!(config("port 1").warnings[0].severity, Severity::Notice);
}

#[test]
fn what_may_be_given_once_is_given_once() {
    for row in TABLE {
        let line = format!("{} {}\n", row.name.replace('*', "key"), good_value(row));
        let before = context(row);
        let number = before.lines().count() + 1;
        if row.name == "include_dir" {
            continue;
        }
        let twice = Config::from_text("t.conf", format!("{before}{line}{line}"));
        match (row.repeat, twice) {
            (Repeat::Once, Err(error)) => {
                let (name, second) = (row.name, number + 1);
                assert_eq!(
                    error.to_string(),
                    format!(
                        "Error: Duplicate '{name}' value in configuration.\nError found at t.conf:{second}.\n\
                         '{name}' may be given once here, and was at t.conf:{number}."
                    )
                );
            }
            // Two listeners on one port are the system's to refuse.
            (Repeat::Each | Repeat::Last, Ok(_)) => {}
            (Repeat::Each, Err(error)) if row.name == "plugin_load" => {
                assert!(
                    error
                        .to_string()
                        .starts_with("Error: Duplicate plugin name 'name'.")
                );
            }
            (_, Err(ConfigError::Refused(_))) => {}
            (_, result) => panic!("{line}: {result:?}"),
        }
        // An alias is no way round, and another listener, bridge or plugin has its own.
        for alias in row.aliases.iter().filter(|_| row.repeat == Repeat::Once) {
            let other = line.replace(row.name, alias);
            assert!(error(format!("{before}{line}{other}")).starts_with("Error: Duplicate"));
        }
        let is_of_one = matches!(row.scope, Scope::Listener | Scope::Bridge);
        if row.repeat == Repeat::Once && is_of_one && row.name != "bind_address" {
            let again = before.replace("1884", "1885").replace("bridge", "other");
            let both = Config::from_text("t.conf", format!("{before}{line}{again}{line}"));
            assert!(
                matches!(both, Ok(_) | Err(ConfigError::Refused(_))),
                "{line}: {both:?}"
            );
        }
    }
}

#[test]
fn options_stand_below_what_they_are_about() {
    let needs = |line: &str, name: &str, number: usize, what: &str| {
        assert_eq!(
            error(line),
            format!(
                "Error: The '{name}' option requires {what} to be defined first.\nError found at t.conf:{number}."
            )
        );
    };
    for row in TABLE {
        let name = row.name.replace('*', "key");
        let line = format!("{name} {}\n", good_value(row));
        match row.scope {
            Scope::Bridge if row.name != "connection" => {
                needs(&line, &name, 1, "a bridge");
                needs(&format!("listener 1\n{line}"), &name, 2, "a bridge");
            }
            Scope::Plugin => needs(&line, &name, 1, "plugin/global_plugin/plugin_load"),
            Scope::Security => {
                let text = format!("per_listener_settings true\n{line}listener 1\n");
                needs(&text, &name, 2, "a listener");
                let late = format!("listener 1\n{line}per_listener_settings true\n");
                assert_eq!(
                    error(&late),
                    "Error: per_listener_settings must be set before any other security settings.\n\
                     Error found at t.conf:3."
                );
            }
            Scope::Listener if row.listener_first => needs(&line, &name, 1, "a listener"),
            Scope::Bridge | Scope::Global | Scope::Listener => {}
        }
    }
}
