//! `mosquitto.conf` and its `include_dir`s -> settings exactly as written, each with its row, value and place.
//!
//! It knows the grammar: lines, names, values of each [`Kind`]. It does not know what a setting means, which listener
//! it belongs to, or whether it may be given here.
//! 1. No bytes make it panic, and nothing in a file makes it read another file but `include_dir` in the main one.
//! 2. The settings stand in the order in which they were written; those of an included file stand inside theirs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::options::{self, Kind, RangeWording, Row, VALUE_BYTES_MAX};
use super::{AcceptVersions, ConfigError, Place, Problem, Warning};

/// One file's settings.
#[derive(Debug)]
pub struct File {
    /// The settings, in the order of their lines.
    pub settings: Vec<Setting>,
    /// What is wrong with the line after them, where reading stopped: a setting before it may be the first mistake.
    pub error: Option<ConfigError>,
}

/// One line that sets something.
#[derive(Debug)]
pub struct Setting {
    /// The option's row.
    pub row: &'static Row,
    /// The name as written: an alias, perhaps, or with the key of a prefix row.
    pub name: String,
    /// What it was set to.
    pub value: Value,
    /// Where.
    pub place: Place,
}

/// A value, of the shape that its row's [`Kind`] asks for.
#[derive(Debug)]
pub enum Value {
    /// [`Kind::Flag`].
    Flag(bool),
    /// [`Kind::Integer`], within its range.
    Integer(i64),
    /// [`Kind::Text`], [`Kind::Path`], [`Kind::Topic`], [`Kind::Word`], [`Kind::Words`], [`Kind::Anything`].
    Text(String),
    /// [`Kind::Duration`].
    Duration(Duration),
    /// [`Kind::Listener`]; after port 0 the address is a path.
    Listener {
        /// The port.
        port: u16,
        /// The address to bind to.
        address: Option<String>,
    },
    /// [`Kind::Versions`].
    Versions(AcceptVersions),
    /// [`Kind::LogDest`].
    LogDest {
        /// The word.
        word: &'static str,
        /// The path after `file`.
        path: Option<PathBuf>,
    },
    /// `include_dir`: the files that it named.
    Files(Vec<File>),
}

/// Reads the main file at `path` and what it includes.
pub fn read(path: &Path, warnings: &mut Vec<Warning>) -> Result<File, ConfigError> {
    let bytes = std::fs::read(path).map_err(|error| ConfigError::Open {
        path: path.to_owned(),
        error,
    })?;
    let mut parser = Parser {
        warnings,
        is_main: true,
        file: name_of(path),
    };
    Ok(parser.file(&bytes))
}

/// Reads `bytes` as the main file, called `name` in messages.
pub fn read_bytes(name: &str, bytes: &[u8], warnings: &mut Vec<Warning>) -> File {
    Parser {
        warnings,
        is_main: true,
        file: name.into(),
    }
    .file(bytes)
}

fn name_of(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

struct Parser<'a> {
    warnings: &'a mut Vec<Warning>,
    is_main: bool,
    file: Arc<str>,
}

impl Parser<'_> {
    fn file(&mut self, bytes: &[u8]) -> File {
        // What some editors put before a text says nothing.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut settings = Vec::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line_number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            let place = Place {
                file: self.file.clone(),
                line: line_number,
            };
            match self.line(line, place) {
                Ok(setting) => settings.extend(setting),
                Err(error) => {
                    return File {
                        settings,
                        error: Some(error),
                    };
                }
            }
        }
        File {
            settings,
            error: None,
        }
    }

    fn line(&mut self, line: &[u8], place: Place) -> Result<Option<Setting>, ConfigError> {
        let line = match line.iter().rposition(|&byte| byte != b'\r') {
            None => return Ok(None),
            Some(_) if line[0] == b'#' => return Ok(None),
            Some(last) => &line[..=last],
        };
        // Mosquitto parts name and value at spaces alone, so a tab after the name is a part of it.
        let Some(start) = line.iter().position(|&byte| byte != b' ') else {
            return Ok(None);
        };
        let line = &line[start..];
        let (name, value) = match memchr::memchr(b' ', line) {
            Some(end) => (&line[..end], blanks_trimmed(&line[end..])),
            None => (line, &line[line.len()..]),
        };
        let at = |problem| ConfigError::At {
            place: place.clone(),
            problem,
        };

        let name = String::from_utf8_lossy(name);
        let Some(row) = options::find(&name) else {
            return Err(at(unknown(&name)));
        };
        let value = std::str::from_utf8(value)
            .ok()
            .filter(|value| !value.contains('\0'))
            .ok_or_else(|| {
                at(Problem::Malformed {
                    option: name.clone().into_owned(),
                })
            })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(at(Problem::TooLong {
                option: row.name.to_owned(),
                bytes_max: VALUE_BYTES_MAX,
            }));
        }
        let value = if row.name == "include_dir" {
            let directory = value_of(row, &name, value).map_err(at)?;
            match self.include(directory, &place)? {
                Some(value) => value,
                None => return Ok(None),
            }
        } else {
            let first = first_word_counts(row.kind)
                .then(|| after_first_word(value))
                .flatten();
            if let Some(rest) = first {
                self.warnings.push(Warning::at(
                    &place,
                    format!("Warning: '{rest}' after the value of '{name}' is ignored."),
                ));
            }
            value_of(row, &name, value).map_err(at)?
        };
        Ok(Some(Setting {
            row,
            name: name.into_owned(),
            value,
            place,
        }))
    }

    /// The files of an `include_dir`, or `None` where it has no effect.
    fn include(&mut self, directory: Value, place: &Place) -> Result<Option<Value>, ConfigError> {
        let Value::Text(directory) = directory else {
            unreachable!("include_dir is a path, which is a text");
        };
        if !self.is_main {
            self.warnings.push(Warning::at(
                place,
                "Warning: 'include_dir' has an effect only in the main configuration file."
                    .to_owned(),
            ));
            return Ok(None);
        }
        let paths = files_of(Path::new(&directory)).map_err(|error| ConfigError::At {
            place: place.clone(),
            problem: Problem::IncludeDir { directory, error },
        })?;
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let bytes = std::fs::read(&path).map_err(|error| ConfigError::Open {
                path: path.clone(),
                error,
            })?;
            let mut parser = Parser {
                warnings: self.warnings,
                is_main: false,
                file: name_of(&path),
            };
            files.push(parser.file(&bytes));
        }
        Ok(Some(Value::Files(files)))
    }
}

/// The `*.conf` files in `directory`, in the order in which they are read.
fn files_of(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        // A name of the ending alone is no more than a hidden file.
        if name.len() > ".conf".len() && name.as_bytes().ends_with(b".conf") {
            paths.push(directory.join(name));
        }
    }
    paths.sort_by(|a, b| letters(a).cmp(letters(b)));
    Ok(paths)
}

/// The order of included files: alphabetical, upper case before lower case of the same letter.
fn letters(path: &Path) -> impl Iterator<Item = (u8, u8)> {
    let name = path.file_name().unwrap_or(OsStr::new(""));
    name.as_bytes()
        .iter()
        .map(|&byte| (byte.to_ascii_uppercase(), byte))
}

fn unknown(name: &str) -> Problem {
    // A name that stands before a tab was meant to be the whole name.
    let before_tab = name.split('\t').next().unwrap_or(name);
    let tab_after_name = before_tab != name && options::find(before_tab).is_some();
    Problem::Unknown {
        name: name.chars().take(200).collect(),
        nearest: options::nearest(before_tab),
        tab_after_name,
    }
}

/// Kinds of which Mosquitto takes the first word and passes over the rest of the line.
fn first_word_counts(kind: Kind) -> bool {
    match kind {
        Kind::Flag | Kind::Integer { .. } | Kind::Duration => true,
        Kind::Word(_) => true,
        Kind::Text { .. } | Kind::Path | Kind::Topic | Kind::Versions => false,
        Kind::Words(_) | Kind::Listener | Kind::LogDest(_) | Kind::Anything => false,
    }
}

fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or(value)
}

fn after_first_word(value: &str) -> Option<&str> {
    value.split_once(' ').map(|(_, rest)| rest.trim())
}

/// `value` as `row` asks for it.
fn value_of(row: &'static Row, name: &str, value: &str) -> Result<Value, Problem> {
    if value.is_empty() && row.kind != Kind::Anything {
        let option = match row.kind {
            Kind::Listener => "listener port".to_owned(),
            _ => name.to_owned(),
        };
        return Err(Problem::Empty { option, row });
    }
    let invalid = || Problem::Invalid {
        option: row.shown(name),
        value: shortened(value),
        row,
    };
    match row.kind {
        Kind::Flag => match first_word(value) {
            "true" | "1" => Ok(Value::Flag(true)),
            "false" | "0" => Ok(Value::Flag(false)),
            _ => Err(invalid()),
        },
        Kind::Integer { min, max, wording } => {
            integer_in_range(row, name, first_word(value), min, max, wording)
        }
        Kind::Text { bytes_max } if value.len() > bytes_max => Err(Problem::TooLong {
            option: row.shown(name),
            bytes_max,
        }),
        Kind::Topic if value.contains(['+', '#']) => Err(Problem::Wildcard {
            option: row.shown(name),
            value: shortened(value),
        }),
        Kind::Text { .. } | Kind::Path | Kind::Topic | Kind::Words(_) | Kind::Anything => {
            Ok(Value::Text(value.to_owned()))
        }
        Kind::Versions => versions(value).map(Value::Versions).ok_or_else(invalid),
        Kind::Word(words) => {
            let word = first_word(value);
            if words.contains(&word) {
                Ok(Value::Text(word.to_owned()))
            } else {
                Err(invalid())
            }
        }
        Kind::Duration => duration(first_word(value))
            .map(Value::Duration)
            .ok_or_else(|| Problem::BadDuration {
                option: row.shown(name),
                row,
            }),
        Kind::Listener => listener(row, value),
        Kind::LogDest(words) => {
            let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
            let word = words
                .iter()
                .find(|known| **known == word)
                .ok_or_else(invalid)?;
            let path = match (*word, rest.trim()) {
                ("file", "") => {
                    return Err(Problem::Empty {
                        option: "log_dest file".to_owned(),
                        row,
                    });
                }
                ("file", path) => Some(path.into()),
                _ => None,
            };
            Ok(Value::LogDest { word, path })
        }
    }
}

fn integer_in_range(
    row: &'static Row,
    name: &str,
    text: &str,
    min: i64,
    max: i64,
    wording: RangeWording,
) -> Result<Value, Problem> {
    let option = || row.shown(name);
    let number = integer(text).ok_or_else(|| Problem::NotANumber {
        option: option(),
        row,
    })?;
    if (min..=max).contains(&number) {
        return Ok(Value::Integer(number));
    }
    Err(match wording {
        RangeWording::Value => Problem::Invalid {
            option: option(),
            value: shortened(text),
            row,
        },
        RangeWording::Plain => Problem::InvalidPlain {
            option: option(),
            row,
        },
        RangeWording::Limit if number > max => Problem::AtMost {
            option: option(),
            max,
            row,
        },
        RangeWording::Limit => Problem::AtLeast {
            option: option(),
            min,
            row,
        },
        RangeWording::Between => Problem::Between {
            option: option(),
            min,
            max,
        },
    })
}

/// A whole number as C's `strtol` reads it with base 0, but to its last character.
///
/// One that is too large for an `i64` becomes the greatest `i64`.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (radix, digits) = match hexadecimal {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number: i64 = 0;
    for digit in digits.chars() {
        let digit = i64::from(digit.to_digit(radix)?);
        number = number
            .saturating_mul(i64::from(radix))
            .saturating_add(digit);
    }
    Some(if negative { -number } else { number })
}

fn duration(text: &str) -> Option<Duration> {
    const DAY: u64 = 24 * 3600;
    let unit = text.chars().next_back()?;
    let seconds: u64 = match unit {
        's' => 1,
        'h' => 3600,
        'd' => DAY,
        'w' => 7 * DAY,
        'm' => 30 * DAY,
        'y' => 365 * DAY,
        _ => return None,
    };
    let count = integer(&text[..text.len() - unit.len_utf8()])?;
    let count = u64::try_from(count).ok().filter(|&count| count > 0)?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

/// Some of 3, 4 and 5, with spaces or commas between.
fn versions(text: &str) -> Option<AcceptVersions> {
    let mut versions = AcceptVersions {
        v31: false,
        v311: false,
        v5: false,
    };
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        match word {
            "3" => versions.v31 = true,
            "4" => versions.v311 = true,
            "5" => versions.v5 = true,
            _ => return None,
        }
    }
    (versions.v31 || versions.v311 || versions.v5).then_some(versions)
}

/// `port [address]`; a comment may follow, and only after port 0 may the address, then a path, hold spaces.
fn listener(row: &'static Row, value: &str) -> Result<Value, Problem> {
    let (port, rest) = value.split_once(' ').unwrap_or((value, ""));
    let number = integer(port).ok_or_else(|| Problem::NotANumber {
        option: "listener port".to_owned(),
        row,
    })?;
    let port = u16::try_from(number).map_err(|_| Problem::Invalid {
        option: "port".to_owned(),
        value: shortened(port),
        row,
    })?;
    let address = match rest.trim().split_once('#') {
        Some((address, _)) => address.trim(),
        None => rest.trim(),
    };
    match (port, address) {
        (0, "") => Err(Problem::UnixPath),
        (1.., address) if address.contains(char::is_whitespace) => Err(Problem::Invalid {
            option: "listener address".to_owned(),
            value: shortened(address),
            row,
        }),
        (port, "") => Ok(Value::Listener {
            port,
            address: None,
        }),
        (port, address) => Ok(Value::Listener {
            port,
            address: Some(address.to_owned()),
        }),
    }
}

/// `value` as it can stand in a message.
fn shortened(value: &str) -> String {
    match value.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

fn blanks_trimmed(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c');
    let start = bytes
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |last| last + 1);
    &bytes[start..end]
}
