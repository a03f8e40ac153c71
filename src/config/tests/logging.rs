//! Where log lines go, and which.

use super::*;

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
        ("log_dest dlt", to(false, true)),
        (
            "log_dest syslog",
            Log {
                syslog: Some(3),
                ..to(false, false)
            },
        ),
        (
            "log_facility 7\nlog_dest syslog",
            Log {
                syslog: Some(23),
                ..to(false, false)
            },
        ),
        ("log_facility 0", default.clone()),
        (
            "log_dest topic",
            Log {
                topic: true,
                ..to(false, false)
            },
        ),
        (
            "log_dest file /var/log/m q.log\nlog_dest stdout",
            Log {
                file: Some("/var/log/m q.log".into()),
                ..to(true, false)
            },
        ),
        (
            "log_dest file a\nlog_dest syslog\nlog_dest topic\nlog_dest none",
            to(false, false),
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
        warnings("log_dest android"),
        ["Warning: The log destination 'android' has no effect. (t.conf:1)"]
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
