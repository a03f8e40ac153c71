//! The commands: which one a call names, and what its exit codes are.
//!
//! It knows the names that commands answer to. What a command does is in its own file.
//! 1. A call whose own name is a command's is that command, and every argument is its own.
//! 2. A call by any other name is the command that the first argument names, else the broker.

mod broker;
mod client;
mod passwd;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// A start that failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// A bad argument, or a configuration that cannot be read or used.
pub(crate) const EXIT_USAGE: u8 = 3;

/// One command.
struct Command {
    /// What it is called as an argument of `midge`; the broker has no such name.
    argument: Option<&'static str>,
    /// The names of programs that it stands in for.
    programs: &'static [&'static str],
    /// What it does with the name it was called by and its arguments.
    run: fn(&OsStr, &[OsString]) -> ExitCode,
}

/// Every command; the first one is what `midge` itself is.
const COMMANDS: &[Command] = &[
    Command {
        argument: None,
        programs: &["midge", "mosquitto"],
        run: broker::main,
    },
    Command {
        argument: Some("passwd"),
        programs: &["mosquitto_passwd"],
        run: passwd::main,
    },
];

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let (command, arguments) = choose(&called, &arguments);
    (command.run)(&called, arguments)
}

/// The command of a call, and the arguments that are its own.
fn choose<'a>(called: &OsStr, arguments: &'a [OsString]) -> (&'static Command, &'a [OsString]) {
    let program = Path::new(called).file_name().and_then(OsStr::to_str);
    let named = |command: &&Command| program.is_some_and(|name| command.programs.contains(&name));
    let broker = &COMMANDS[0];
    match COMMANDS[1..].iter().find(named) {
        Some(command) => return (command, arguments),
        None if program == Some("mosquitto") => return (broker, arguments),
        None => {}
    }
    if let Some((first, rest)) = arguments.split_first() {
        let first = first.to_str();
        if let Some(command) = COMMANDS
            .iter()
            .find(|command| first.is_some() && command.argument == first)
        {
            return (command, rest);
        }
    }
    (broker, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_command() {
        let passwd = Some("passwd");
        for (called, arguments, name, own) in [
            ("midge", &["-v"][..], None, &["-v"][..]),
            ("/usr/sbin/mosquitto", &["-v"], None, &["-v"]),
            ("", &[], None, &[]),
            ("midge", &["passwd", "-c", "a"], passwd, &["-c", "a"]),
            ("midge", &["passwd"], passwd, &[]),
            ("mosquitto_passwd", &["-c", "a"], passwd, &["-c", "a"]),
            (
                "/usr/bin/mosquitto_passwd",
                &["passwd"],
                passwd,
                &["passwd"],
            ),
            // Only the first argument names a command, and none does for a program that has a name of its own.
            ("midge", &["-v", "passwd"], None, &["-v", "passwd"]),
            ("mosquitto", &["passwd"], None, &["passwd"]),
            // No command yet: the broker answers it like any argument that it does not know.
            ("midge", &["pub", "-t", "a"], None, &["pub", "-t", "a"]),
            ("mosquitto_pub", &["-t", "a"], None, &["-t", "a"]),
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let own: Vec<OsString> = own.iter().map(OsString::from).collect();
            let (command, rest) = choose(OsStr::new(called), &arguments);
            assert_eq!(
                (command.argument, rest),
                (name, &own[..]),
                "{called} {arguments:?}"
            );
        }
    }
}
