//! Which lines are written, where, and in which form.

use super::*;

#[test]
fn types_of_lines() {
    for (level, target, expected) in [
        (Level::Error, "midge::net", LogTypes::ERROR),
        (Level::Warn, "midge", LogTypes::WARNING),
        (Level::Debug, "midge::broker::publish", LogTypes::DEBUG),
        (Level::Debug, log_target::SUBSCRIBE, LogTypes::DEBUG),
        (Level::Info, "midge::cli", LogTypes::INFORMATION),
        (Level::Info, log_target::INFORMATION, LogTypes::INFORMATION),
        (Level::Info, log_target::NOTICE, LogTypes::NOTICE),
        (Level::Info, log_target::SUBSCRIBE, LogTypes::SUBSCRIBE),
        (Level::Info, log_target::UNSUBSCRIBE, LogTypes::UNSUBSCRIBE),
        (Level::Trace, "midge::net", LogTypes::NONE),
        (Level::Error, "mio::poll", LogTypes::NONE),
        (Level::Error, "midgets", LogTypes::NONE),
    ] {
        let metadata = Metadata::builder().level(level).target(target).build();
        assert_eq!(type_of(&metadata), expected, "{level} {target}");
    }
}

#[test]
fn the_level_is_as_low_as_the_types_allow() {
    let default = Log::default();
    for (types, level) in [
        (LogTypes::NONE, LevelFilter::Off),
        (LogTypes::ERROR, LevelFilter::Error),
        (LogTypes::WARNING, LevelFilter::Warn),
        (LogTypes::UNSUBSCRIBE, LevelFilter::Info),
        (LogTypes::DEFAULT, LevelFilter::Info),
        (LogTypes::DEBUG, LevelFilter::Debug),
        (LogTypes::ALL, LevelFilter::Debug),
    ] {
        assert_eq!(
            max_level(&Log {
                types,
                ..default.clone()
            }),
            level,
            "{types:?}"
        );
    }
    let nowhere = Log {
        stderr: false,
        types: LogTypes::ALL,
        ..default
    };
    assert_eq!(max_level(&nowhere), LevelFilter::Off);
}

#[test]
fn any_destination_is_a_reason_to_print() {
    let nowhere = || Log {
        stderr: false,
        ..Log::default()
    };
    for (settings, level) in [
        (nowhere(), LevelFilter::Off),
        (Log::default(), LevelFilter::Info),
        (
            Log {
                file: Some("a".into()),
                ..nowhere()
            },
            LevelFilter::Info,
        ),
        (
            Log {
                syslog: Some(3),
                ..nowhere()
            },
            LevelFilter::Info,
        ),
        (
            Log {
                topic: true,
                ..nowhere()
            },
            LevelFilter::Info,
        ),
    ] {
        assert_eq!(max_level(&settings), level, "{settings:?}");
    }
}

/// A log of nothing but what `change` asks for.
fn settings(change: impl FnOnce(&mut Log)) -> Log {
    let mut settings = Log {
        stderr: false,
        timestamp: false,
        types: LogTypes::ALL,
        ..Log::default()
    };
    change(&mut settings);
    settings
}

fn logging(settings: Log) -> Logging {
    Logging::new(settings, Path::new("/nonexistent/log")).expect("it can be opened")
}

fn log(logging: &Logging, level: Level, target: &str, text: &str) {
    let metadata = Metadata::builder().level(level).target(target).build();
    let logger = logging.logger();
    log::Log::log(
        &logger,
        &Record::builder()
            .metadata(metadata)
            .args(format_args!("{text}"))
            .build(),
    );
}

fn notice(logging: &Logging, text: &str) {
    log(logging, Level::Info, log_target::NOTICE, text);
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn settings_decide_which_lines_are_enabled() {
    let enabled = |logging: &Logging, level, target| {
        let metadata = Metadata::builder().level(level).target(target).build();
        log::Log::enabled(&logging.logger(), &metadata)
    };
    let logging = logging(settings(|log| log.types = LogTypes::DEFAULT));
    assert!(enabled(&logging, Level::Info, log_target::NOTICE));
    assert!(!enabled(&logging, Level::Info, log_target::SUBSCRIBE));
    let other = settings(|log| log.types = LogTypes::SUBSCRIBE);
    logging.change(other).expect("nothing is to be opened");
    assert!(!enabled(&logging, Level::Info, log_target::NOTICE));
    assert!(!enabled(&logging, Level::Error, "midge"));
    assert!(enabled(&logging, Level::Info, log_target::SUBSCRIBE));
}

#[test]
fn a_file_is_added_to_and_private() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    for text in ["one", "two\nthree"] {
        let logging = logging(settings(|log| log.file = Some(path.clone())));
        notice(&logging, text);
    }
    assert_eq!(read(&path), "one\ntwo\\nthree\n");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, reason) in [
        (dir.path().to_owned(), "Is a directory"),
        (dir.path().join("a/b"), "No such file or directory"),
    ] {
        let settings = settings(|log| log.file = Some(path.clone()));
        let error = Logging::new(settings, Path::new(SYSLOG_PATH)).expect_err("it cannot be");
        let path = path.display();
        assert_eq!(
            error.to_string(),
            format!("Error: Unable to open log file {path} for writing: {reason}.")
        );
    }
}

#[test]
fn a_file_is_reopened() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, rotated) = (dir.path().join("log"), dir.path().join("log.1"));
    let logging = logging(settings(|log| log.file = Some(path.clone())));
    notice(&logging, "one");
    logging.finish();
    std::fs::rename(&path, &rotated).expect("it is there");
    notice(&logging, "two");
    logging.finish();
    logging.reopen();
    logging.finish();
    notice(&logging, "three");
    logging.finish();
    assert_eq!(read(&rotated), "one\ntwo\n");
    assert_eq!(read(&path), "three\n");
    // What cannot be opened leaves the old file in use.
    let kept = dir.path().join("log.2");
    std::fs::rename(&path, &kept).expect("it is there");
    std::fs::create_dir(&path).expect("it was renamed");
    logging.reopen();
    notice(&logging, "four");
    logging.finish();
    assert_eq!(read(&kept), "three\nfour\n");
    std::fs::remove_dir(&path).expect("it is empty");
    logging.reopen();
    notice(&logging, "five");
    logging.finish();
    assert_eq!(read(&path), "five\n");
}

#[test]
fn destinations_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let to = |path: &Path| settings(|log| log.file = Some(path.to_owned()));
    let logging = logging(to(&one));
    notice(&logging, "a");
    logging.change(to(&two)).expect("it can be opened");
    notice(&logging, "b");
    let error = logging.change(to(dir.path())).expect_err("a directory");
    assert!(error.to_string().contains("Is a directory"), "{error}");
    notice(&logging, "c");
    logging.change(to(&two)).expect("it is open");
    notice(&logging, "d");
    logging.change(settings(|_| {})).expect("nothing to open");
    notice(&logging, "nowhere");
    // What was closed is emptied by its own thread.
    let wait_for = |path: &Path, text: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while read(path) != text && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(read(path), text);
    };
    wait_for(&one, "a\n");
    logging.change(to(&one)).expect("it can be opened");
    notice(&logging, "e");
    logging.finish();
    wait_for(&two, "b\nc\nd\n");
    assert_eq!(read(&one), "a\ne\n");
}

#[test]
fn lines_to_publish() {
    let logging = logging(settings(|log| log.topic = true));
    assert!(!logging.has_topic_lines());
    log(&logging, Level::Debug, "midge", "no");
    log(&logging, Level::Error, "midge", "error");
    log(&logging, Level::Info, log_target::SUBSCRIBE, "s");
    assert!(logging.has_topic_lines());
    let mut lines = Vec::new();
    let muted = logging.take_topic_lines(&mut lines);
    notice(&logging, "of the publishing");
    drop(muted);
    let line = |topic, text: &str| (topic, text.to_owned());
    assert_eq!(
        lines,
        [
            line("$SYS/broker/log/E", "error"),
            line("$SYS/broker/log/M/subscribe", "s")
        ]
    );
    assert!(!logging.has_topic_lines());
    let text = "x".repeat(900);
    for _ in 0..1000 {
        notice(&logging, &text);
    }
    lines.clear();
    drop(logging.take_topic_lines(&mut lines));
    let (topic, last) = lines.last().expect("there are many");
    let lost = 1000 - (lines.len() - 1);
    assert_eq!(*topic, "$SYS/broker/log/W");
    assert!(
        last.starts_with(&format!("Warning: {lost} log lines were lost")),
        "{last}"
    );
}

/// What a daemon in its place gets, and again after it was started anew.
#[test]
fn syslog() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let settings = settings(|log| log.syslog = Some(16));
    let logging = Logging::new(settings, &path).expect("a daemon may come later");
    let receive = |daemon: &std::os::unix::net::UnixDatagram| {
        daemon
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("not zero");
        let mut buffer = [0; 2000];
        let length = daemon.recv(&mut buffer).expect("a line");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    notice(&logging, "before the daemon is there");
    for round in 0..3 {
        let daemon = std::os::unix::net::UnixDatagram::bind(&path).expect("it is free");
        if round == 0 {
            assert!(receive(&daemon).ends_with(": before the daemon is there"));
        }
        for (level, target, priority) in [
            (Level::Error, "midge", 131),
            (Level::Warn, "midge", 132),
            (Level::Info, log_target::NOTICE, 133),
            (Level::Info, log_target::SUBSCRIBE, 133),
            (Level::Info, log_target::UNSUBSCRIBE, 133),
            (Level::Info, log_target::INFORMATION, 134),
            (Level::Debug, "midge", 135),
        ] {
            log(&logging, level, target, "some text\nof it");
            let line = receive(&daemon);
            let (priority, pid) = (format!("<{priority}>"), std::process::id());
            assert!(line.starts_with(&priority), "{line}");
            assert!(
                line.ends_with(&format!(" mosquitto[{pid}]: some text\\nof it")),
                "{line}"
            );
            let time = &line[priority.len()..priority.len() + 16];
            assert_eq!(
                (&time[3..4], &time[6..7], &time[9..10], &time[15..]),
                (" ", " ", ":", " ")
            );
        }
        drop(daemon);
        std::fs::remove_file(&path).expect("it is there");
    }
}
