//! The commands: which one a call names, and what its exit codes are.
//!
//! It knows the names that commands answer to. What a command does is in its own file.
//! 1. A call whose own name ends in a command's, behind `_` or `-`, is that command, and every argument is its own:
//!    `mosquitto_pub`, `midge-pub`.
//! 2. A call by any other name is the command that the first argument names, else the broker; `mosquitto` is the broker
//!    whatever its arguments.

mod broker;
mod client;
mod db;
mod format;
pub mod hostile;
mod links;
mod passwd;
mod publish;
mod request;
mod show;
mod signal;
mod subscribe;
mod tool;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// A start that failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// A bad argument, or a configuration that cannot be read or used.
pub(crate) const EXIT_USAGE: u8 = 3;

/// One command.
struct Command {
    /// What it is called: as an argument of `midge`, and at the end of a program's name.
    name: &'static str,
    /// What it does with the name it was called by and its arguments.
    run: fn(&OsStr, &[OsString]) -> ExitCode,
}

/// What `midge` itself is.
const BROKER: Command = Command {
    name: "mosquitto",
    run: broker::main,
};

/// Every other command.
const COMMANDS: &[Command] = &[
    Command {
        name: "pub",
        run: publish::main,
    },
    Command {
        name: "sub",
        run: subscribe::main,
    },
    Command {
        name: "rr",
        run: request::main,
    },
    Command {
        name: "passwd",
        run: passwd::main,
    },
    Command {
        name: "db",
        run: db::main,
    },
    Command {
        name: "signal",
        run: signal::main,
    },
    Command {
        name: "links",
        run: links::main,
    },
];

/// The names under which Mosquitto's users call commands.
pub(crate) fn program_names() -> impl Iterator<Item = String> {
    let tools = COMMANDS
        .iter()
        .filter(|command| !["db", "links"].contains(&command.name));
    std::iter::once(BROKER.name.to_owned())
        .chain(tools.map(|command| format!("{}_{}", BROKER.name, command.name)))
}

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
    let program = program.unwrap_or_default();
    if program == BROKER.name {
        return (&BROKER, arguments);
    }
    let called_by_name = |command: &&Command| {
        let behind = program.strip_suffix(command.name);
        behind.is_some_and(|rest| rest.ends_with(['_', '-']))
    };
    if let Some(command) = COMMANDS.iter().find(called_by_name) {
        return (command, arguments);
    }
    if let Some((first, rest)) = arguments.split_first()
        && let Some(command) = COMMANDS.iter().find(|command| first == command.name)
    {
        return (command, rest);
    }
    (&BROKER, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_command() {
        let broker = "mosquitto";
        for (called, arguments, name, own) in [
            ("midge", &["-v"][..], broker, &["-v"][..]),
            ("/usr/sbin/mosquitto", &["-v"], broker, &["-v"]),
            ("", &[], broker, &[]),
            ("midge", &["passwd", "-c", "a"], "passwd", &["-c", "a"]),
            ("midge", &["passwd"], "passwd", &[]),
            ("midge", &["pub", "sub"], "pub", &["sub"]),
            ("midge", &["links", "bin"], "links", &["bin"]),
            ("mosquitto_passwd", &["-c", "a"], "passwd", &["-c", "a"]),
            (
                "/usr/bin/mosquitto_passwd",
                &["passwd"],
                "passwd",
                &["passwd"],
            ),
            ("/opt/mosquitto_pub", &["-t", "a"], "pub", &["-t", "a"]),
            ("mosquitto_sub", &[], "sub", &[]),
            ("mosquitto_rr", &[], "rr", &[]),
            ("midge-sub", &[], "sub", &[]),
            ("my_rr", &[], "rr", &[]),
            // A name that only happens to end so, and one that is nothing else.
            ("epub", &["-v"], broker, &["-v"]),
            ("pub", &["-v"], broker, &["-v"]),
            // Only the first argument names a command, and none does for a program that has a name of its own.
            ("midge", &["-v", "passwd"], broker, &["-v", "passwd"]),
            ("mosquitto", &["passwd"], broker, &["passwd"]),
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let own: Vec<OsString> = own.iter().map(OsString::from).collect();
            let (command, rest) = choose(OsStr::new(called), &arguments);
            assert_eq!(
                (command.name, rest),
                (name, &own[..]),
                "{called} {arguments:?}"
            );
        }
    }
}
