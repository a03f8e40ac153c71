//! Every option: its good values, its bad ones, and what they come to.

use super::options::{Kind, Standing, TABLE};
use super::*;

use proptest::prelude::*;

fn config(text: &str) -> Config {
    Config::from_text("t.conf", text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn error(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    match Config::from_text("t.conf", text) {
        Ok(_) => panic!("{:?} was taken", String::from_utf8_lossy(text)),
        Err(error) => error.to_string(),
    }
}

fn warnings(text: &str) -> Vec<String> {
    config(text)
        .warnings
        .iter()
        .map(Warning::to_string)
        .collect()
}

/// What of a configuration does not come from where it was read.
fn settings(config: Config) -> Config {
    Config {
        source: None,
        warnings: Vec::new(),
        ..config
    }
}

#[test]
fn the_default_is_local_only() {
    let config = Config::default();
    assert!(config.local_only && config.allow_anonymous && config.warnings.is_empty());
    assert_eq!(config.source, None);
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.host.as_deref(), listener.port))
        .collect();
    assert_eq!(addresses, [(None, 1883)]);
    assert!(
        config
            .listeners
            .iter()
            .all(|listener| listener.allow_anonymous)
    );
    assert_eq!(config.max_inflight_messages.map(NonZeroU16::get), Some(20));
    assert_eq!(
        config.max_queued_messages.map(NonZeroUsize::get),
        Some(1000)
    );
    assert_eq!(config.max_packet_size, 2_000_000);
    assert!(config.allow_duplicate_messages && config.retain_available);
    assert_eq!(config.set_tcp_nodelay, None);
    assert_eq!(config.sys_interval, Some(Duration::from_secs(10)));
    assert_eq!(config.auto_id_prefix, "auto-");
}

#[test]
fn every_default_of_the_table_is_the_default() {
    for row in TABLE {
        if row.default.is_empty() || row.standing != Standing::InForce {
            continue;
        }
        let (before, expected) = match row.name {
            "port" => ("", "port 1883\n".to_owned()),
            _ if row.scope == options::Scope::Listener => {
                ("listener 1\n", "listener 1\n".to_owned())
            }
            _ => ("", String::new()),
        };
        let given = config(&format!("{before}{} {}\n", row.name, row.default));
        assert_eq!(settings(given), settings(config(&expected)), "{}", row.name);
    }
}

/// A good value of every option, whether it has an effect or not.
fn good_value(row: &options::Row) -> String {
    match (row.name, row.kind) {
        ("include_dir", _) => std::env::temp_dir()
            .join("midge-no-such-directory")
            .display()
            .to_string(),
        (_, Kind::Flag) => "true".to_owned(),
        (_, Kind::Integer { min, max, .. }) => 2.clamp(min, max).to_string(),
        (_, Kind::Text { .. } | Kind::Path | Kind::Words(_)) => "some text".to_owned(),
        (_, Kind::Word(words)) => words[0].to_owned(),
        (_, Kind::Duration) => "2d".to_owned(),
        (_, Kind::Listener) => "1883 127.0.0.1".to_owned(),
        (_, Kind::LogDest(_)) => "stdout".to_owned(),
        (_, Kind::Anything) => String::new(),
    }
}

#[test]
fn every_option_is_taken_or_answered() {
    for row in TABLE {
        let context = match row.scope {
            options::Scope::Listener => "listener 1884\n",
            options::Scope::Bridge => "connection bridge\n",
            options::Scope::Plugin | options::Scope::Global | options::Scope::Security => "",
        };
        for name in std::iter::once(&row.name).chain(row.aliases) {
            let name = name.replace('*', "key");
            let text = format!("{context}{name} {}\n", good_value(row));
            let result = Config::from_text("t.conf", &text);
            match (row.standing, result) {
                (Standing::Restricts, Ok(_))
                    if row.name == "protocol" || row.name == "tls_keyform" => {}
                (Standing::Restricts, Err(ConfigError::NotInForce(options))) => {
                    assert_eq!(options[0].0, name);
                }
                (Standing::Obsolete, Ok(config)) => assert!(!config.warnings.is_empty(), "{text}"),
                (Standing::InForce, Ok(_)) => {}
                (Standing::NoEffect, Ok(config)) => {
                    let told = !config.warnings.is_empty();
                    assert!(told || good_value(row) == row.default, "{text}");
                }
                (Standing::NoEffect, Err(error)) if row.scope == options::Scope::Plugin => {
                    assert!(error.to_string().contains("requires plugin/"), "{error}");
                }
                (_, Err(error)) if row.name == "include_dir" => {
                    assert!(
                        error.to_string().contains("Unable to open include_dir"),
                        "{error}"
                    );
                }
                (_, result) => panic!("{text}: {result:?}"),
            }
        }
    }
}

#[test]
fn every_option_refuses_what_it_does_not_take() {
    for row in TABLE {
        let context = match row.scope {
            options::Scope::Listener => "listener 1884\n",
            options::Scope::Bridge => "connection bridge\n",
            options::Scope::Plugin => "plugin /x.so\n",
            options::Scope::Global | options::Scope::Security => "",
        };
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
fn values_come_to_their_fields() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let count = NonZeroUsize::new;
    type Check = fn(&Config) -> bool;
    let checks: &[(&str, Check)] = &[
        ("allow_anonymous false", |c| {
            !c.allow_anonymous && !c.listeners[0].allow_anonymous
        }),
        ("allow_zero_length_clientid 0", |c| {
            !c.allow_zero_length_client_id
        }),
        ("auto_id_prefix my clients ", |c| {
            c.listeners[0].auto_id_prefix == "my clients"
        }),
        ("password_file /etc/p w", |c| {
            c.listeners[0].password_file == Some("/etc/p w".into())
        }),
        ("max_inflight_messages 0", |c| {
            c.max_inflight_messages.is_none()
        }),
        ("max_inflight_messages -1", |c| {
            c.max_inflight_messages.is_none()
        }),
        ("max_inflight_messages 0x10", |c| {
            c.max_inflight_messages == NonZeroU16::new(16)
        }),
        ("max_inflight_messages 010", |c| {
            c.max_inflight_messages == NonZeroU16::new(8)
        }),
        ("queue_qos0_messages 1", |c| c.queue_qos0_messages),
        ("max_packet_size 20", |c| c.max_packet_size == 20),
        ("message_size_limit 268435455", |c| {
            c.message_size_limit == NonZeroU32::new(268_435_455)
        }),
        ("message_size_limit 0", |c| c.message_size_limit.is_none()),
        ("max_keepalive 65535", |c| {
            c.max_keep_alive == NonZeroU16::new(65535)
        }),
        ("allow_duplicate_messages false", |c| {
            !c.allow_duplicate_messages
        }),
        ("upgrade_outgoing_qos true", |c| c.upgrade_outgoing_qos),
        ("retain_available false", |c| !c.retain_available),
        ("set_tcp_nodelay false", |c| {
            c.set_tcp_nodelay == Some(false)
        }),
        ("sys_interval 0", |c| c.sys_interval.is_none()),
        ("connection_messages false", |c| !c.connection_messages),
        ("log_timestamp false", |c| !c.log.timestamp),
        ("log_timestamp_format %H : %M", |c| {
            c.log.timestamp_format.as_deref() == Some("%H : %M")
        }),
        ("max_qos 1", |c| {
            c.listeners[0].max_qos == 1 && !c.local_only
        }),
        ("maximum_qos 0", |c| c.listeners[0].max_qos == 0),
        ("max_topic_alias 0", |c| c.listeners[0].max_topic_alias == 0),
        ("max_topic_alias_broker 65535", |c| {
            c.listeners[0].max_topic_alias_broker == 65535
        }),
        ("max_connections 0", |c| {
            c.listeners[0].max_connections.is_none()
        }),
        ("max_connections -1", |c| {
            c.listeners[0].max_connections.is_none()
        }),
        ("socket_domain ipv6", |c| {
            c.listeners[0].socket_domain == Some(SocketDomain::Ipv6)
        }),
    ];
    for (text, check) in checks {
        assert!(check(&config(text)), "{text}");
    }
    for (value, limit) in [("5", count(5)), ("0", None), ("-7", None)] {
        assert_eq!(
            config(&format!("max_inflight_bytes {value}")).max_inflight_bytes,
            limit
        );
        assert_eq!(
            config(&format!("max_queued_messages {value}")).max_queued_messages,
            limit
        );
        assert_eq!(
            config(&format!("max_queued_bytes {value}")).max_queued_bytes,
            limit
        );
        assert_eq!(
            config(&format!("global_max_clients {value}")).global_max_clients,
            limit
        );
        assert_eq!(
            config(&format!("global_max_connections {value}")).global_max_connections,
            limit
        );
        assert_eq!(
            config(&format!("max_connections {value}")).listeners[0].max_connections,
            limit
        );
    }
    for (value, expected) in [
        ("1s", seconds(1)),
        ("2h", seconds(7200)),
        ("14d", seconds(14 * 86400)),
        ("1w", seconds(7 * 86400)),
        ("2m", seconds(60 * 86400)),
        ("1y", seconds(365 * 86400)),
    ] {
        let text = format!("persistent_client_expiration {value}");
        assert_eq!(
            config(&text).persistent_client_expiration,
            expected,
            "{value}"
        );
    }
    assert_eq!(
        config("retain_expiry_interval 10").retain_expiry_interval,
        seconds(600)
    );
}

#[test]
fn lines() {
    let base = settings(Config::default());
    for text in [
        "",
        "\n\n",
        "# a comment\r\n\r\n",
        "#comment",
        "   ",
        " sys_interval 10",
        "sys_interval    10   ",
        "sys_interval 10\r\n",
        "sys_interval 10\t\r",
        "sys_interval 10 and more",
    ] {
        assert_eq!(settings(config(text)), base, "{text:?}");
    }
    assert_eq!(
        warnings("allow_anonymous true # really"),
        ["Warning: '# really' after the value of 'allow_anonymous' is ignored. (t.conf:1)"]
    );
}

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
fn logging() {
    let log = |text: &str| config(text).log;
    let default = Log::default();
    let to = |stdout, stderr| Log {
        stdout,
        stderr,
        ..Log::default()
    };
    let of = |types| Log {
        types,
        ..Log::default()
    };
    for (text, expected) in [
        ("", default.clone()),
        ("log_dest stdout", to(true, false)),
        ("log_dest stdout\nlog_dest stderr", to(true, true)),
        ("log_dest stdout\nlog_dest none", to(false, false)),
        ("log_dest none\nlog_dest stdout", to(true, false)),
        ("log_dest syslog", to(false, true)),
        (
            "log_dest file /var/log/m.log\nlog_dest stdout",
            to(true, false),
        ),
        ("log_type error", of(LogTypes::ERROR)),
        (
            "log_type error\nlog_type debug",
            of(LogTypes::ERROR.with(LogTypes::DEBUG)),
        ),
        ("log_type all", of(LogTypes::ALL)),
        ("log_type all\nlog_type none", of(LogTypes::NONE)),
        ("log_type none\nlog_type notice", of(LogTypes::NOTICE)),
        ("log_type websockets", of(LogTypes::NONE)),
    ] {
        assert_eq!(log(text), expected, "{text}");
    }
    assert_eq!(
        warnings("log_dest topic"),
        ["Warning: The log destination 'topic' has no effect yet. (t.conf:1)"]
    );
    let overridden = |verbose, quiet| {
        let overrides = Overrides {
            verbose,
            quiet,
            ..Overrides::default()
        };
        Config::load_with(None, overrides)
            .expect("the default")
            .log
            .types
    };
    assert_eq!(overridden(true, false), LogTypes::ALL);
    assert_eq!(overridden(true, true), LogTypes::NONE);
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
             Expected for 'listener port': a port from 1 to 65535, and if wanted the address to bind to.",
        ),
        (
            "listener 100000",
            "Error: Invalid 'port' value (100000).\nError found at t.conf:1.\n\
             Expected for 'port': a port from 1 to 65535, and if wanted the address to bind to.",
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
            "acl_file a\nlistener 8883\ncertfile c",
            "Error: The 'acl_file' option is not in force yet, and without it the broker would allow more than was \
             asked for.\nError found at t.conf:1.\n\
             Error: The 'certfile' option is not in force yet, and without it the broker would allow more than was \
             asked for.\nError found at t.conf:3.\n\
             Take these lines out to start without what they ask for.",
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
    ] {
        assert!(warnings(text).is_empty(), "{text}");
    }
}

#[test]
fn warnings_say_what_has_no_effect() {
    for (text, expected) in [
        (
            "persistence true",
            "Warning: The 'persistence' option has no effect yet. (t.conf:1)",
        ),
        (
            "user mosquitto",
            "Warning: The 'user' option has no effect yet. (t.conf:1)",
        ),
        (
            "retry_interval 5",
            "Warning: The 'retry_interval' option is no longer available. (t.conf:1)",
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
        (
            "password_file p",
            "Warning: The 'password_file' option has no effect yet: no password can be verified, so clients that \
             give a user name are refused. (t.conf:1)",
        ),
    ] {
        assert_eq!(warnings(text), [expected], "{text}");
    }
    assert_eq!(config("port 1").warnings[0].severity, Severity::Notice);
}

/// A directory of this test's own, gone when it ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("midge-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn included_files_are_read_in_order() {
    let directory = Directory::new("order");
    let names = [
        "b.conf", "A.conf", "01.conf", "a.conf", "B.conf", "00.conf", "aB.conf", "Ab.conf",
    ];
    for (index, name) in names.iter().enumerate() {
        directory.file(name, &format!("listener {}\n", index + 1));
    }
    directory.file("c.txt", "nonsense");
    directory.file(".conf", "nonsense");
    let text = format!(
        "listener 100\ninclude_dir {}\nmax_qos 1\n",
        directory.0.display()
    );
    let config = config(&text);
    let read: Vec<&str> = config.listeners[1..]
        .iter()
        .map(|listener| names[usize::from(listener.port) - 1])
        .collect();
    assert_eq!(
        read,
        [
            "00.conf", "01.conf", "A.conf", "Ab.conf", "a.conf", "aB.conf", "B.conf", "b.conf"
        ]
    );
    // A line after the included files belongs to the listener before them.
    assert_eq!(config.listeners[0].max_qos, 1);
}

#[test]
fn an_included_file_starts_afresh_and_includes_nothing() {
    let directory = Directory::new("afresh");
    let nested = format!("include_dir {}\nmax_qos 1\n", directory.0.display());
    let path = directory.file("a.conf", &nested);
    let config = config(&format!(
        "listener 2\ninclude_dir {}\n",
        directory.0.display()
    ));
    let found: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.port, listener.max_qos))
        .collect();
    assert_eq!(found, [(2, 2), (1883, 1)]);
    let place = format!("({}:1)", path.display());
    assert_eq!(
        config.warnings[0].to_string(),
        format!(
            "Warning: 'include_dir' has an effect only in the main configuration file. {place}"
        )
    );
    directory.file("a.conf", "foo 1");
    let message = error(format!("include_dir {}\n", directory.0.display()));
    assert!(
        message.contains(&format!("Error found at {}:1.", path.display())),
        "{message}"
    );
}

#[test]
fn the_source_is_remembered() {
    let directory = Directory::new("source");
    let path = directory.file("a.conf", "sys_interval 5");
    let config = Config::load(&path).expect("a good file");
    assert_eq!(config.source.as_deref(), Some(&*path));
    directory.file("a.conf", "sys_interval 6");
    let again = config.reread().expect("a good file");
    assert_eq!(again.sys_interval, Some(Duration::from_secs(6)));
}

/// Lines that are nearly good, so that more than the unknown name is met.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let name = proptest::sample::select(TABLE).prop_map(|row| row.name.as_bytes().to_vec());
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    let value = prop_oneof![
        bytes(),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        proptest::sample::select(vec![
            &b"true"[..],
            b"0x",
            b"1883 ::1",
            b"5y",
            b"file x",
            b"\xc3"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let line = (name, value).prop_map(|(name, value)| [&name[..], b" ", &value[..]].concat());
    prop_oneof![9 => line, 1 => bytes()]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = Config::from_text("t.conf", bytes).map_err(|error| error.to_string());
    }

    #[test]
    fn no_lines_panic(lines in proptest::collection::vec(any_line(), 0..8)) {
        let text = lines.join(&b'\n');
        let _ = Config::from_text("t.conf", text).map_err(|error| error.to_string());
    }
}
