//! Reads option file and command line, option by option, with the table.
//!
//! 1. The first complaint ends it, and `--help` and `--version` end it where they stand, as in Mosquitto.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Failure};
use super::table::{self, Action, Entry};
use super::{Environment, Request, Tool, UsageError, file};
use crate::mqtt::ProtocolVersion;

/// Edits between a name and the one that was probably meant.
const EDITS_MAX: usize = 2;

/// What the option file and `arguments` ask `tool` to do. It is `called` by this name in sentences about itself.
///
/// # Errors
/// What standard error gets, for anything that cannot be followed.
pub fn parse(
    tool: Tool,
    called: &str,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Request, UsageError> {
    let mut draft = Draft::new(tool, environment);
    let outcome = read_all(&mut draft, arguments);
    let quiet = draft.quiet;
    let outcome = match outcome {
        Ok(Some(request)) => return Ok(request),
        Ok(None) => draft.finish().map_err(|failure| (failure, None)),
        Err(failed) => Err(failed),
    };
    match outcome {
        Ok(options) => Ok(Request::Run(Box::new(options))),
        Err((failure, meant)) => {
            let mut text = match failure.quiet && quiet {
                true => String::new(),
                false => failure.text,
            };
            if failure.hints {
                text += &hint(called);
            }
            if let Some(name) = meant.filter(|_| environment.errors_to_terminal) {
                text += &format!("Did you mean '{name}'?\n");
            }
            Err(UsageError {
                text,
                shows_usage: failure.shows_usage,
            })
        }
    }
}

/// The lines that point to `--help`.
fn hint(called: &str) -> String {
    format!("\nUse '{called} --help' to see usage.\n")
}

/// A complaint, and for an unknown option the name that may have been meant.
type Failed = (Failure, Option<&'static str>);

fn read_all(draft: &mut Draft<'_>, arguments: &[OsString]) -> Result<Option<Request>, Failed> {
    let lines = file::lines(draft.tool, arguments, draft.environment);
    for line in lines.map_err(|failure| (failure, None))? {
        if let Some(request) = read(draft, &line)? {
            return Ok(Some(request));
        }
    }
    read(draft, arguments)
}

/// Follows the options of one line.
fn read(draft: &mut Draft<'_>, arguments: &[OsString]) -> Result<Option<Request>, Failed> {
    let mut rest = arguments;
    while let Some((argument, behind)) = rest.split_first() {
        let known = |entry: &&Entry| entry.names.iter().any(|name| argument == *name);
        let Some(entry) = table::entries(draft.tool).find(known) else {
            let name = argument.to_string_lossy();
            let failure = Failure::new(format!("Error: Unknown option '{name}'.\n"));
            return Err((failure, close(draft.tool, &name)));
        };
        let taken = match &entry.action {
            Action::Help => return Ok(Some(Request::Help)),
            Action::Version => return Ok(Some(Request::Version)),
            _ => follow(draft, entry, behind).map_err(|failure| (failure, None))?,
        };
        rest = &behind[taken..];
    }
    Ok(None)
}

/// Does what one option says, and tells how many arguments behind it were its own.
fn follow(draft: &mut Draft<'_>, entry: &Entry, behind: &[OsString]) -> Result<usize, Failure> {
    match &entry.action {
        Action::Flag(set) => {
            set(draft);
            Ok(0)
        }
        Action::Payload(payload) => match table::second_payload(draft) {
            Some(text) => Err(Failure::new(text)),
            None => {
                draft.set_payload(payload.clone());
                Ok(0)
            }
        },
        Action::Value {
            missing,
            excludes,
            set,
            ..
        } => {
            if let Some(text) = excludes(draft) {
                return Err(Failure::new(text));
            }
            let Some(value) = behind.first() else {
                let name = entry.name();
                return Err(Failure::new(format!(
                    "Error: {name} argument given but {missing}.\n\n"
                )));
            };
            set(draft, value)?;
            Ok(1)
        }
        Action::Property => {
            let arguments: Vec<&[u8]> = behind.iter().map(|value| value.as_bytes()).collect();
            let taken = draft.lists.add(&arguments).map_err(Failure::new)?;
            draft.version = ProtocolVersion::V5;
            Ok(taken)
        }
        // Looked at before; a file cannot name another.
        Action::OptionFile => Ok(behind.len().min(1)),
        Action::Help | Action::Version => Ok(0),
    }
}

/// The long name that is so close to `name` that it was probably meant.
fn close(tool: Tool, name: &str) -> Option<&'static str> {
    if !name.starts_with("--") {
        return None;
    }
    table::entries(tool)
        .flat_map(|entry| entry.names)
        .filter(|known| known.len() > EDITS_MAX * 2)
        .map(|known| (edits(name, known), *known))
        .filter(|(edits, _)| *edits <= EDITS_MAX)
        .min()
        .map(|(_, known)| known)
}

/// How many characters must be added, removed or changed to make `left` of `right`.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, character) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..right.len() {
            let changed = diagonal + usize::from(right[column] != character);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
