//! Every option: its good values, and what they come to.

use super::*;

#[test]
fn every_default_of_the_table_is_the_default() {
    for row in TABLE {
        if row.default.is_empty() || row.standing != Standing::InForce {
            continue;
        }
        let (before, expected) = match row.name {
            "port" => ("", "port 1883\n".to_owned()),
            _ if row.scope == Scope::Listener => ("listener 1\n", "listener 1\n".to_owned()),
            _ => ("", String::new()),
        };
        let given = config(&format!("{before}{} {}\n", row.name, row.default));
        assert_eq!(settings(given), settings(config(&expected)), "{}", row.name);
    }
}

#[test]
fn every_option_is_taken_or_answered() {
    for row in TABLE {
        for name in std::iter::once(&row.name).chain(row.aliases) {
            let name = name.replace('*', "key");
            let before = context(row);
            let text = format!("{before}{name} {}\n", good_value(row));
            let result = Config::from_text("t.conf", &text);
            match (row.standing, result) {
                (Standing::Refused(reason), Err(ConfigError::Refused(refusals))) => {
                    assert_eq!(refusals[0].option, name);
                    assert_eq!(refusals[0].reason, reason);
                }
                (Standing::Refused(_), Ok(_)) if row.name == "tls_keyform" => {}
                (Standing::Obsolete | Standing::NoMeaning | Standing::NoEffect, Ok(config)) => {
                    let told = config.warnings.len() > config_warnings(&before);
                    assert!(told || row.scope == Scope::Bridge, "{text}");
                }
                (Standing::InForce, Ok(_)) => {}
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

fn config_warnings(text: &str) -> usize {
    warnings(text).len()
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
        ("acl_file /etc/a # b", |c| {
            c.listeners[0].acl_file == Some("/etc/a # b".into())
        }),
        ("clientid_prefixes secure-", |c| {
            c.client_id_prefix.as_deref() == Some("secure-")
        }),
        ("memory_limit 0", |c| c.memory_limit.is_none()),
        ("memory_limit 5000000", |c| {
            c.memory_limit == NonZeroUsize::new(5_000_000)
        }),
        ("check_retain_source false", |c| !c.check_retain_source),
        ("pid_file /run/m.pid", |c| {
            c.pid_file == Some("/run/m.pid".into())
        }),
        ("user nobody", |c| c.user.as_deref() == Some("nobody")),
        ("bind_interface eth0", |c| {
            c.listeners[0].bind_interface.as_deref() == Some("eth0") && !c.local_only
        }),
        ("listener 1\nmount_point my house/", |c| {
            c.listeners[0].mount_point.as_deref() == Some("my house/")
        }),
        ("use_username_as_clientid 1", |c| {
            c.listeners[0].use_username_as_client_id
        }),
        ("listener 1\naccept_protocol_versions 3, 5", |c| {
            let versions = c.listeners[0].accept_protocol_versions;
            (versions.v31, versions.v311, versions.v5) == (true, false, true)
        }),
        ("listener 1\naccept_protocol_versions 4", |c| {
            let versions = c.listeners[0].accept_protocol_versions;
            (versions.v31, versions.v311, versions.v5) == (false, true, false)
        }),
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
