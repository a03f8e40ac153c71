//! Where log lines go: the `log` facade -> Mosquitto's `<timestamp>: <text>` on the destinations that were asked for.
//!
//! It knows log types, destinations and the form of a line. It does not know who logs what.
//!
//! | file | knows |
//! |---|---|
//! | `line` | time, escapes and length of one line |
//! | `sink` | a destination's queue and thread: waiting, failing, losing |
//! | `output` | how bytes leave the process |
//! | `topics` | lines that wait to be published |
//!
//! 1. A line of a level above all enabled types costs its caller one load: [`log::set_max_level`] is kept as low as
//!    the settings allow, and the lock around them is taken only past it.
//! 2. Who logs never waits for a destination, and no failure to write, such as a closed pipe, stops the broker or makes
//!    it panic. A destination that does not take its lines does not keep them from the others.
//! 3. Text of a peer cannot start a line of its own or drive a terminal: control characters but TAB are escaped.
//! 4. Each destination has the lines in the order in which they were logged.

mod line;
mod output;
mod sink;
mod topics;

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Metadata, Record};

use self::line::Line;
use self::output::Destination;
use self::sink::Sink;
use self::topics::Topics;
use crate::config::{Log, LogTypes, log_target, system_reason};

pub use self::topics::TopicsMuted;

/// Where the syslog daemon listens.
pub const SYSLOG_PATH: &str = "/dev/log";

/// How long the end of the process waits for slow destinations, all together.
pub const FINISH_TIME_MAX: Duration = Duration::from_secs(1);

/// The logger that the `log` facade speaks to; through it a reload changes the settings. Dropping it is
/// [`Logging::finish`].
pub struct Logging {
    shared: Arc<Shared>,
}

/// Why the log could not be set up or changed.
#[derive(Debug)]
pub enum LogError {
    /// A destination could not be opened; the sentence names it.
    Destination {
        /// Which, in words.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// The process has another logger already, which gets the lines.
    Installed,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Destination { name, error } => write!(
                f,
                "Error: Unable to open {name} for writing: {}.",
                system_reason(error)
            ),
            LogError::Installed => f.write_str("Error: There is a logger already."),
        }
    }
}

impl std::error::Error for LogError {}

/// Opens the destinations of `settings` and installs the logger.
///
/// # Errors
/// As [`Logging::new`] and [`Logging::install`]; then no logger of ours is installed.
pub fn install(settings: Log) -> Result<Logging, LogError> {
    let logging = Logging::new(settings, Path::new(SYSLOG_PATH))?;
    logging.install()?;
    tell_panics(Arc::clone(&logging.shared));
    Ok(logging)
}

/// Has a panic in the log, too, where it is found when there is no terminal, and nothing lost that was logged before.
fn tell_panics(shared: Arc<Shared>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        ::log::error!("Error: This is a fault of the broker: {panic}.");
        shared.finish();
    }));
}

impl Logging {
    /// Opens the destinations of `settings`, with a syslog daemon at `syslog_path`.
    ///
    /// # Errors
    /// Where a destination cannot be opened. A syslog daemon that is not there is not an error, since it may come.
    pub fn new(settings: Log, syslog_path: &Path) -> Result<Logging, LogError> {
        let shared = Arc::new(Shared {
            syslog_path: syslog_path.to_owned(),
            state: RwLock::new(State {
                settings: settings.clone(),
                sinks: Vec::new(),
            }),
            topics: Topics::default(),
        });
        let logging = Logging { shared };
        let sinks = logging.open_sinks(&settings)?;
        logging.shared.write().sinks = sinks;
        Ok(logging)
    }

    /// Has the `log` facade speak to this logger from now on.
    ///
    /// # Errors
    /// Where another logger is installed already.
    pub fn install(&self) -> Result<(), LogError> {
        log::set_boxed_logger(Box::new(self.logger())).map_err(|_| LogError::Installed)?;
        log::set_max_level(max_level(&self.shared.read().settings));
        Ok(())
    }

    /// What the `log` facade speaks to.
    pub fn logger(&self) -> Logger {
        Logger::new(Arc::clone(&self.shared))
    }

    /// Takes other settings from now on: opens and closes destinations. What stays is not opened anew.
    ///
    /// # Errors
    /// Where a destination cannot be opened; then everything stays as it is.
    pub fn change(&self, settings: Log) -> Result<(), LogError> {
        let sinks = self.open_sinks(&settings)?;
        let level = max_level(&settings);
        let old = {
            let mut state = self.shared.write();
            state.settings = settings;
            std::mem::replace(&mut state.sinks, sinks)
        };
        log::set_max_level(level);
        let state = self.shared.read();
        for sink in old {
            if !state.sinks.iter().any(|kept| Arc::ptr_eq(kept, &sink)) {
                sink.close();
            }
        }
        Ok(())
    }

    /// Opens the log file anew, as after a rename by who rotates logs. That happens on the file's own thread; should it
    /// fail, lines go on into the old file, and one on every destination says so.
    pub fn reopen(&self) {
        for sink in &self.shared.read().sinks {
            if matches!(sink.destination(), Destination::File(_)) {
                sink.reopen();
            }
        }
    }

    /// Waits until everything that was logged is written, [`FINISH_TIME_MAX`] at most; to be called before the process
    /// ends.
    pub fn finish(&self) {
        self.shared.finish();
    }

    /// Moves the lines that are to be published into `lines`: their topics and texts.
    ///
    /// Publishing must not make new lines to publish for ever: what this thread logs while it holds what is returned is
    /// not put into the queue.
    pub fn take_topic_lines(&self, lines: &mut Vec<(&'static str, String)>) -> TopicsMuted {
        let lost = self.shared.topics.take(lines);
        if lost > 0 {
            let settings = &self.shared.read().settings;
            lines.push((topics::topic(LogTypes::WARNING), lost_line(settings, lost)));
        }
        TopicsMuted::new()
    }

    /// Whether [`Logging::take_topic_lines`] would find any.
    pub fn has_topic_lines(&self) -> bool {
        !self.shared.topics.is_empty()
    }

    /// The sinks of `settings`: those that are there already, and new ones.
    fn open_sinks(&self, settings: &Log) -> Result<Vec<Arc<Sink>>, LogError> {
        let old = self.shared.read().sinks.clone();
        let mut sinks: Vec<Arc<Sink>> = Vec::new();
        for destination in destinations(settings, &self.shared.syslog_path) {
            let is_same = |sink: &&Arc<Sink>| *sink.destination() == destination;
            if let Some(sink) = old.iter().find(is_same) {
                sinks.push(Arc::clone(sink));
                continue;
            }
            let name = destination.to_string();
            match self.open_sink(destination) {
                Ok(sink) => sinks.push(sink),
                Err(error) => {
                    for sink in &sinks {
                        if !old.iter().any(|kept| Arc::ptr_eq(kept, sink)) {
                            sink.close();
                        }
                    }
                    return Err(LogError::Destination { name, error });
                }
            }
        }
        Ok(sinks)
    }

    fn open_sink(&self, destination: Destination) -> io::Result<Arc<Sink>> {
        let shared = Arc::downgrade(&self.shared);
        let lost_line = move |destination: &Destination, lost| {
            let settings = match shared.upgrade() {
                Some(shared) => shared.read().settings.clone(),
                None => Log::default(),
            };
            let line = lost_line(&settings, lost);
            destination.frame(LogTypes::WARNING, &line).into_owned()
        };
        Sink::open(destination, Box::new(lost_line))
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging").finish_non_exhaustive()
    }
}

/// What the logger and the handle on it share.
struct Shared {
    syslog_path: PathBuf,
    state: RwLock<State>,
    topics: Topics,
}

struct State {
    settings: Log,
    sinks: Vec<Arc<Sink>>,
}

impl Drop for State {
    fn drop(&mut self) {
        for sink in &self.sinks {
            sink.close();
        }
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) {
        let deadline = Instant::now() + FINISH_TIME_MAX;
        let sinks = self.read().sinks.clone();
        for sink in sinks {
            sink.finish(deadline);
        }
    }

    /// Gives the line `text` to every destination.
    fn push(&self, kind: LogTypes, text: &str) {
        let state = self.read();
        for sink in &state.sinks {
            sink.push(kind, text);
        }
        if state.settings.topic {
            self.topics.push(kind, text);
        }
    }
}

/// Where lines go under `settings`, but for the topics.
fn destinations(settings: &Log, syslog_path: &Path) -> Vec<Destination> {
    let file = settings.file.clone().map(Destination::File);
    let syslog = settings.syslog.map(|facility| Destination::Syslog {
        path: syslog_path.to_owned(),
        facility,
    });
    let stdout = settings.stdout.then_some(Destination::Stdout);
    let stderr = settings.stderr.then_some(Destination::Stderr);
    [stdout, stderr, file, syslog]
        .into_iter()
        .flatten()
        .collect()
}

fn lost_line(settings: &Log, lost: u64) -> String {
    let mut line = Line::new(settings);
    let _ = write!(
        line,
        "Warning: {lost} log lines were lost here: they came faster than they could be written."
    );
    line.as_str().to_owned()
}

/// The level above which no line is printed under `settings`.
fn max_level(settings: &Log) -> LevelFilter {
    let info = LogTypes::NOTICE
        .with(LogTypes::INFORMATION)
        .with(LogTypes::SUBSCRIBE)
        .with(LogTypes::UNSUBSCRIBE);
    let Log {
        stdout,
        stderr,
        file,
        syslog,
        topic,
        ..
    } = settings;
    if !(*stdout || *stderr || *topic) && file.is_none() && syslog.is_none() {
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

/// Chooses lines by their type; env_logger has them formatted and passed on.
pub struct Logger {
    shared: Arc<Shared>,
    lines: env_logger::Logger,
}

impl Logger {
    fn new(shared: Arc<Shared>) -> Logger {
        let format = Arc::clone(&shared);
        let lines = env_logger::Builder::new()
            .filter_level(LevelFilter::Trace)
            .write_style(env_logger::WriteStyle::Never)
            .target(env_logger::Target::Pipe(Box::new(Destinations {
                shared: Arc::clone(&shared),
            })))
            .format(move |buffer, record| {
                let mut line = Line::new(&format.read().settings);
                let _ = line.write_fmt(*record.args());
                // The type goes in front, since the other end is given bytes alone.
                buffer.write_all(&[number_of(type_of(record.metadata()))])?;
                buffer.write_all(line.as_str().as_bytes())
            })
            .build();
        Logger { shared, lines }
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let types = self.shared.read().settings.types;
        types.intersects(type_of(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.lines.log(record);
        }
    }

    fn flush(&self) {
        self.shared.finish();
    }
}

/// Every type of line; a line has one.
const KINDS: [LogTypes; 7] = [
    LogTypes::ERROR,
    LogTypes::WARNING,
    LogTypes::NOTICE,
    LogTypes::INFORMATION,
    LogTypes::SUBSCRIBE,
    LogTypes::UNSUBSCRIBE,
    LogTypes::DEBUG,
];

/// The place of `kind` among [`KINDS`].
fn number_of(kind: LogTypes) -> u8 {
    let number = KINDS.iter().position(|other| *other == kind);
    number.map_or(u8::MAX, |number| number as u8)
}

/// Gives each line to every destination.
struct Destinations {
    shared: Arc<Shared>,
}

impl Write for Destinations {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some((&number, text)) = line.split_first()
            && let Some(&kind) = KINDS.get(usize::from(number))
            && let Ok(text) = std::str::from_utf8(text)
        {
            self.shared.push(kind, text);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
