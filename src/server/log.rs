//! Where log lines go: the `log` facade -> Mosquitto's `<timestamp>: <text>` on the destinations that were asked for.
//!
//! It knows log types, destinations and the form of a line. It does not know who logs what.
//! 1. A line of a level above all enabled types costs its caller one load: [`log::set_max_level`] is kept as low as
//!    the settings allow, and the lock around them is taken only past it.
//! 2. No failure to write, such as a closed pipe, stops the broker or makes it panic.
//! 3. Text of a peer cannot start a line of its own or drive a terminal: control characters but TAB are escaped.

use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Zoned;
use jiff::fmt::strtime::{BrokenDownTime, Config as TimeConfig};
use log::{Level, LevelFilter, Metadata, Record};

use crate::config::{Log, LogTypes, log_target};

/// The installed logger; through it a reload changes the settings.
#[derive(Clone)]
pub struct Logging {
    settings: Arc<RwLock<Log>>,
}

/// Installs the logger with `settings`, or returns `None` where another one already is.
pub fn install(settings: Log) -> Option<Logging> {
    let logging = Logging {
        settings: Arc::new(RwLock::new(settings)),
    };
    let logger = Logger::new(logging.clone());
    log::set_boxed_logger(Box::new(logger)).ok()?;
    logging.set_max_level();
    Some(logging)
}

impl Logging {
    /// Takes other settings from now on.
    pub fn change(&self, settings: Log) -> Result<(), String> {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
        self.set_max_level();
        Ok(())
    }
    /// Provisional.
    pub fn finish(&self) {}
    /// Provisional.
    pub fn reopen(&self) {}
    /// Provisional.
    pub fn take_topic_lines(&self, _: &mut Vec<(&'static str, String)>) {}

    fn set_max_level(&self) {
        log::set_max_level(max_level(&self.read()));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Log> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The level above which no line is printed under `settings`.
fn max_level(settings: &Log) -> LevelFilter {
    let info = LogTypes::NOTICE
        .with(LogTypes::INFORMATION)
        .with(LogTypes::SUBSCRIBE)
        .with(LogTypes::UNSUBSCRIBE);
    if !settings.stdout && !settings.stderr {
        return LevelFilter::Off;
    }
    [
        (LogTypes::DEBUG, LevelFilter::Debug),
        (info, LevelFilter::Info),
        (LogTypes::WARNING, LevelFilter::Warn),
        (LogTypes::ERROR, LevelFilter::Error),
    ]
    .into_iter()
    .find(|(types, _)| settings.types.intersects(*types))
    .map_or(LevelFilter::Off, |(_, level)| level)
}

/// The log type of a line, or none where it is not one of ours.
fn type_of(metadata: &Metadata<'_>) -> LogTypes {
    let target = metadata.target();
    let named = match target {
        log_target::NOTICE => Some(LogTypes::NOTICE),
        log_target::INFORMATION => Some(LogTypes::INFORMATION),
        log_target::SUBSCRIBE => Some(LogTypes::SUBSCRIBE),
        log_target::UNSUBSCRIBE => Some(LogTypes::UNSUBSCRIBE),
        _ => None,
    };
    let is_ours = || match target.strip_prefix(env!("CARGO_CRATE_NAME")) {
        Some(rest) => rest.is_empty() || rest.starts_with("::"),
        None => false,
    };
    if named.is_none() && !is_ours() {
        return LogTypes::NONE;
    }
    match metadata.level() {
        Level::Error => LogTypes::ERROR,
        Level::Warn => LogTypes::WARNING,
        Level::Info => named.unwrap_or(LogTypes::INFORMATION),
        Level::Debug => LogTypes::DEBUG,
        Level::Trace => LogTypes::NONE,
    }
}

/// Chooses lines by their type; env_logger formats and writes them.
struct Logger {
    logging: Logging,
    lines: env_logger::Logger,
}

impl Logger {
    fn new(logging: Logging) -> Logger {
        let format = logging.clone();
        let lines = env_logger::Builder::new()
            .filter_level(LevelFilter::Trace)
            .write_style(env_logger::WriteStyle::Never)
            .target(env_logger::Target::Pipe(Box::new(Destinations {
                logging: logging.clone(),
            })))
            .format(move |buffer, record| {
                let mut line = String::new();
                push_timestamp(&mut line, &format.read());
                push_escaped(&mut line, &record.args().to_string());
                writeln!(buffer, "{line}")
            })
            .build();
        Logger { logging, lines }
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logging.read().types.intersects(type_of(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.lines.log(record);
        }
    }

    fn flush(&self) {}
}

/// Writes each line to every destination, and takes no notice of failures.
struct Destinations {
    logging: Logging,
}

impl Write for Destinations {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (stdout, stderr) = {
            let settings = self.logging.read();
            (settings.stdout, settings.stderr)
        };
        // There is nobody to tell that a line could not be written.
        if stdout {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(line).and_then(|()| stdout.flush());
        }
        if stderr {
            let _ = io::stderr().lock().write_all(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn push_timestamp(line: &mut String, settings: &Log) {
    if !settings.timestamp {
        return;
    }
    match &settings.timestamp_format {
        Some(format) => push_local_time(line, format, &Zoned::now()),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            // A clock before 1970 has not been set yet.
            line.push_str(&now.map_or(0, |since| since.as_secs()).to_string());
        }
    }
    line.push_str(": ");
}

/// `now` by the strftime `format`; what is no directive stands as it is, as in C.
fn push_local_time(line: &mut String, format: &str, now: &Zoned) {
    let config = TimeConfig::new().lenient(true);
    match BrokenDownTime::from(now).to_string_with_config(&config, format) {
        Ok(time) => line.push_str(&time),
        Err(_) => line.push_str(&now.timestamp().as_second().to_string()),
    }
}

fn push_escaped(line: &mut String, text: &str) {
    for char in text.chars() {
        if char.is_control() && char != '\t' {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let time: Zoned = "2024-02-29T13:05:09+01:00[+01:00]"
            .parse()
            .expect("a time of the right form");
        for (format, expected) in [
            ("%Y-%m-%dT%H:%M:%S", "2024-02-29T13:05:09"),
            ("%s", "1709208309"),
            ("%d/%b/%y %I:%M:%S %p %z", "29/Feb/24 01:05:09 PM +0100"),
            ("%F %T", "2024-02-29 13:05:09"),
            ("100%%", "100%"),
            ("plain", "plain"),
            ("%i!", "%i!"),
            ("%", "%"),
            ("%H%", "13%"),
            ("", ""),
        ] {
            let mut line = String::new();
            push_local_time(&mut line, format, &time);
            assert_eq!(line, expected, "{format}");
        }
    }

    #[test]
    fn a_line_starts_with_its_time() {
        let prefix = |settings: &Log| {
            let mut line = String::new();
            push_timestamp(&mut line, settings);
            line
        };
        let seconds = prefix(&Log::default());
        let number = seconds
            .strip_suffix(": ")
            .and_then(|number| number.parse::<u64>().ok());
        assert!(
            number.is_some_and(|number| number > 1_700_000_000),
            "{seconds}"
        );
        let format = |format: &str| Log {
            timestamp_format: Some(format.to_owned()),
            ..Log::default()
        };
        assert_eq!(prefix(&format("at")), "at: ");
        assert_eq!(
            prefix(&Log {
                timestamp: false,
                ..format("at")
            }),
            ""
        );
    }

    #[test]
    fn text_stays_on_its_line() {
        for (text, expected) in [
            ("plain ä € 😀", "plain ä € 😀"),
            ("\ttopic", "\ttopic"),
            ("a\nb", "a\\nb"),
            ("a\r\u{1b}[2J\u{0}", "a\\r\\u{1b}[2J\\u{0}"),
            ("\u{85}\u{7f}", "\\u{85}\\u{7f}"),
        ] {
            let mut line = String::new();
            push_escaped(&mut line, text);
            assert_eq!(line, expected);
        }
    }

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
    fn settings_decide_which_lines_are_enabled() {
        let logging = Logging {
            settings: Arc::new(RwLock::new(Log::default())),
        };
        let logger = Logger::new(logging.clone());
        let enabled = |level, target| {
            log::Log::enabled(
                &logger,
                &Metadata::builder().level(level).target(target).build(),
            )
        };
        assert!(enabled(Level::Info, log_target::NOTICE));
        assert!(!enabled(Level::Info, log_target::SUBSCRIBE));
        *logging.settings.write().expect("not poisoned") = Log {
            types: LogTypes::SUBSCRIBE,
            ..Log::default()
        };
        assert!(!enabled(Level::Info, log_target::NOTICE));
        assert!(!enabled(Level::Error, "midge"));
        assert!(enabled(Level::Info, log_target::SUBSCRIBE));
    }
}
