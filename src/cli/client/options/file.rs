//! Option files: which one is read, and the options of its lines.
//!
//! 1. A line is an option alone, or an option, one space and its value, which may hold spaces; `#` at the front makes a
//!    comment.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::draft::Failure;
use super::{Environment, Tool};

/// The arguments that the lines of the option file come to, each line for itself.
///
/// A default file that cannot be read is as good as none. One that `-o` names must be there: what it holds may be the
/// options that protect the connection.
pub(super) fn lines(
    tool: Tool,
    arguments: &[OsString],
    environment: &Environment,
) -> Result<Vec<Vec<OsString>>, Failure> {
    let text = match named(arguments)? {
        Some(path) => fs::read(&path).map_err(|error| {
            let error = error.to_string();
            let error = error.split(" (os error").next().unwrap_or_default();
            let path = path.display();
            Failure::new(format!(
                "Error: Unable to open options file \"{path}\": {error}.\n\n"
            ))
        })?,
        None => default(tool, environment)
            .and_then(|path| fs::read(path).ok())
            .unwrap_or_default(),
    };
    let lines = text.split(|&byte| byte == b'\n');
    Ok(lines
        .filter(|line| !line.starts_with(b"#"))
        .map(line)
        .collect())
}

/// The file that `-o` names. Every `-o` counts, wherever it stands, also as the value of another option.
fn named(arguments: &[OsString]) -> Result<Option<PathBuf>, Failure> {
    let mut path = None;
    for (index, argument) in arguments.iter().enumerate() {
        if argument != "-o" {
            continue;
        }
        if path.is_some() {
            return Err(Failure::new("Error: Duplicate -o argument given.\n\n"));
        }
        let Some(value) = arguments.get(index + 1) else {
            return Err(Failure::new(
                "Error: -o argument given but no options file specified.\n\n",
            ));
        };
        path = Some(PathBuf::from(value));
    }
    Ok(path)
}

fn default(tool: Tool, environment: &Environment) -> Option<PathBuf> {
    let name = match tool {
        Tool::Publish => "mosquitto_pub",
        Tool::Subscribe => "mosquitto_sub",
        Tool::Request => "mosquitto_rr",
    };
    match (&environment.config_home, &environment.home) {
        (Some(directory), _) => Some(directory.join(name)),
        (None, Some(home)) => Some(home.join(".config").join(name)),
        (None, None) => None,
    }
}

fn line(line: &[u8]) -> Vec<OsString> {
    let end = line.iter().rposition(|&byte| byte != b'\r');
    let line = &line[..end.map_or(0, |end| end + 1)];
    let Some(start) = line.iter().position(|&byte| byte != b' ') else {
        return Vec::new();
    };
    let line = &line[start..];
    let argument = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    match line.iter().position(|&byte| byte == b' ') {
        Some(space) if space + 1 < line.len() => {
            vec![argument(&line[..space]), argument(&line[space + 1..])]
        }
        Some(space) => vec![argument(&line[..space])],
        None => vec![argument(line)],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_line_is_an_option_and_its_value() {
        for (text, expected) in [
            ("", &[][..]),
            ("   ", &[]),
            ("-d", &["-d"]),
            ("-d \r", &["-d"]),
            ("  -t a b ", &["-t", "a b "]),
            ("-t  a", &["-t", " a"]),
            ("--cafile\tx", &["--cafile\tx"]),
        ] {
            let line = line(text.as_bytes());
            let line: Vec<&[u8]> = line.iter().map(|argument| argument.as_bytes()).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(line, expected, "{text:?}");
        }
    }
}
