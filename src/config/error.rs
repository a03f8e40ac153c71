//! Complaints about a configuration: what is wrong, where, what was expected, and what has no effect.
//!
//! The first line of an error is Mosquitto's own where it has one, since people and their scripts know it; the second
//! is `Error found at FILE:LINE.`; what follows is for the reader who wants to mend it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::options::Row;

/// A line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The log type that a [`Warning`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Notice,
    /// Something was asked for that is not done.
    Warning,
}

/// Something in a good configuration that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// How loudly to say it.
    pub severity: Severity,
    /// A sentence.
    pub text: String,
    /// The line that it is about, if it is about one.
    pub place: Option<Place>,
}

impl Warning {
    pub(super) fn at(place: &Place, text: String) -> Warning {
        Warning {
            severity: Severity::Warning,
            text,
            place: Some(place.clone()),
        }
    }

    pub(super) fn notice_at(place: &Place, text: String) -> Warning {
        Warning {
            severity: Severity::Notice,
            text,
            place: Some(place.clone()),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

/// Why a configuration cannot be used. Its `Display` is one to several lines.
#[derive(Debug)]
pub enum ConfigError {
    /// A file could not be read.
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A line is wrong.
    At {
        /// The line.
        place: Place,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Options that Midge does not have, and without which it would allow more than was asked for.
    Refused(Vec<Refusal>),
}

/// An option that cannot be passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The option as written.
    pub option: String,
    /// Its line.
    pub place: Place,
    /// Why, and what to do instead.
    pub reason: String,
}

/// What is wrong with a line.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "an option is the option's name, a row its row; the rest is in the variant's line"
)]
pub enum Problem {
    /// No option has this name.
    Unknown {
        name: String,
        nearest: Option<&'static str>,
        tab_after_name: bool,
    },
    /// The value is missing.
    Empty { option: String, row: &'static Row },
    /// The value is not one of those that the option takes.
    Invalid {
        option: String,
        value: String,
        row: &'static Row,
    },
    /// The same, in the shorter words that Mosquitto has for some options.
    InvalidPlain { option: String, row: &'static Row },
    /// The value is no whole number.
    NotANumber { option: String, row: &'static Row },
    /// The number is too large.
    AtMost {
        option: String,
        max: i64,
        row: &'static Row,
    },
    /// The number is too small.
    AtLeast {
        option: String,
        min: i64,
        row: &'static Row,
    },
    /// The number is outside its range.
    Between { option: String, min: i64, max: i64 },
    /// The value is no duration.
    BadDuration { option: String, row: &'static Row },
    /// The value is longer than the option takes.
    TooLong { option: String, bytes_max: usize },
    /// The value is not UTF-8, or holds a zero byte.
    Malformed { option: String },
    /// The option may be given once.
    Duplicate { option: String, first: Place },
    /// The option needs another one before it.
    Needs { option: String, what: &'static str },
    /// The option asks for what another one, which is missing, would make possible.
    Incomplete { option: String, needs: &'static str },
    /// A topic that must not have wildcards has one.
    Wildcard { option: String, value: String },
    /// `plugin_use` of a name that no `plugin_load` gave.
    NotLoaded { name: String },
    /// `plugin_load` with a name that is taken.
    NameTaken { name: String },
    /// There are listeners, and none that can be opened.
    NoListener { protocol: &'static str },
    /// Port 0 without the path of a Unix socket.
    UnixPath,
    /// `per_listener_settings` after the options that it is about.
    Late { option: String },
    /// An `include_dir` cannot be read.
    IncludeDir { directory: String, error: io::Error },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Open { path, error } => {
                write!(
                    f,
                    "Error: Unable to open config file {}.\n{}",
                    path.display(),
                    system_reason(error)
                )
            }
            ConfigError::At { place, problem } => {
                write!(f, "Error: {problem}\nError found at {place}.")?;
                match problem.hint() {
                    Some(hint) => write!(f, "\n{hint}"),
                    None => Ok(()),
                }
            }
            ConfigError::Refused(refusals) => {
                for Refusal {
                    option,
                    place,
                    reason,
                } in refusals
                {
                    writeln!(
                        f,
                        "Error: The '{option}' option is not supported.\nError found at {place}.\n{reason}"
                    )?;
                }
                f.write_str(
                    "Without these lines the broker would allow more than was asked for; take them out if that is \
                     meant.",
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Open { error, .. }
            | ConfigError::At {
                problem: Problem::IncludeDir { error, .. },
                ..
            } => Some(error),
            ConfigError::At { .. } | ConfigError::Refused(_) => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unknown { name, .. } => write!(f, "Unknown configuration variable '{name}'."),
            Problem::Empty { option, .. } => write!(f, "Empty '{option}' value in configuration."),
            Problem::Invalid { option, value, .. } => {
                write!(f, "Invalid '{option}' value ({value}).")
            }
            Problem::InvalidPlain { option, .. } => {
                write!(f, "Invalid '{option}' value in configuration.")
            }
            Problem::NotANumber { option, .. } => write!(f, "'{option}' value not a number."),
            Problem::AtMost { option, max, .. } => write!(f, "'{option}' must be <= {max}."),
            Problem::AtLeast { option, min, .. } => write!(f, "'{option}' must be >= {min}."),
            Problem::Between { option, min, max } => {
                write!(f, "'{option}' must be between {min} and {max} inclusive.")
            }
            Problem::BadDuration { option, .. } => {
                write!(f, "Invalid '{option}' duration in configuration.")
            }
            Problem::TooLong { option, bytes_max } => {
                write!(f, "'{option}' length must be <= {bytes_max}.")
            }
            Problem::Malformed { .. } => f.write_str("Malformed UTF-8 in configuration."),
            Problem::Duplicate { option, .. } => {
                write!(f, "Duplicate '{option}' value in configuration.")
            }
            Problem::Needs { option, what } => {
                write!(
                    f,
                    "The '{option}' option requires {what} to be defined first."
                )
            }
            Problem::Incomplete { option, needs } => {
                write!(f, "The '{option}' option requires {needs}.")
            }
            Problem::Wildcard { option, value } => write!(
                f,
                "Invalid {option} '{value}'. Does it contain a wildcard character?"
            ),
            Problem::NotLoaded { name } => write!(f, "Plugin '{name}' is not loaded."),
            Problem::NameTaken { name } => write!(f, "Duplicate plugin name '{name}'."),
            Problem::NoListener { protocol } => write!(
                f,
                "No listener can be opened: 'protocol {protocol}' is not supported yet."
            ),
            Problem::UnixPath => {
                f.write_str("A listener with port 0 must provide a Unix socket path.")
            }
            Problem::Late { option } => {
                write!(
                    f,
                    "{option} must be set before any other security settings."
                )
            }
            Problem::IncludeDir { directory, .. } => {
                write!(f, "Unable to open include_dir '{directory}'.")
            }
        }
    }
}

impl Problem {
    /// What was expected, where the first line leaves it open.
    fn hint(&self) -> Option<String> {
        match self {
            Problem::Unknown {
                nearest: Some(nearest),
                tab_after_name: true,
                ..
            } => Some(format!(
                "Put a space, not a tab, between '{nearest}' and its value."
            )),
            Problem::Unknown { nearest, .. } => {
                nearest.map(|nearest| format!("Did you mean '{nearest}'?"))
            }
            Problem::Empty { option, row }
            | Problem::Invalid { option, row, .. }
            | Problem::InvalidPlain { option, row }
            | Problem::NotANumber { option, row }
            | Problem::AtMost { option, row, .. }
            | Problem::AtLeast { option, row, .. }
            | Problem::BadDuration { option, row } => {
                let unit = match row.unit {
                    "" => String::new(),
                    unit => format!(" ({unit})"),
                };
                Some(format!(
                    "Expected for '{option}': {}{unit}.",
                    row.kind.expected()
                ))
            }
            Problem::Malformed { option } => Some(format!(
                "Expected for '{option}': UTF-8 without zero bytes."
            )),
            Problem::Duplicate { option, first } => Some(format!(
                "'{option}' may be given once here, and was at {first}."
            )),
            Problem::IncludeDir { error, .. } => Some(error.to_string()),
            Problem::Incomplete { .. } => {
                Some("Midge does not start with less than this line asks for.".to_owned())
            }
            Problem::NotLoaded { name } => Some(format!(
                "Expected before this line: 'plugin_load {name} PATH'."
            )),
            Problem::NoListener { .. } => Some(
                "Define a listener without 'protocol', or with 'protocol mqtt', beside this one."
                    .to_owned(),
            ),
            Problem::Between { .. }
            | Problem::Wildcard { .. }
            | Problem::NameTaken { .. }
            | Problem::TooLong { .. }
            | Problem::Needs { .. }
            | Problem::UnixPath
            | Problem::Late { .. } => None,
        }
    }
}

/// The system's sentence for an error, without the number that Rust puts behind it and Mosquitto does not.
pub fn system_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((sentence, _)) => sentence.to_owned(),
        None => text,
    }
}
