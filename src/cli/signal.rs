//! `midge signal`: tells running brokers to read their configuration again, to rotate their logs, to end, or to print their
//! subscriptions. Also called as `mosquitto_signal`.
//!
//! It knows arguments, and processes as `/proc` shows them; what a signal leads to is the broker's to know.
//! 1. With `-a` only brokers hear it: Mosquitto's and ours, and no tool, whatever their links are called.
//! 2. Where nobody heard it, or somebody could not be told, the exit code says so; Mosquitto's tool says 0.

use super::tool::print;
use super::{BROKER, EXIT_FAILED, choose};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: midge signal {-a | -p PID} SIGNAL

Sends a signal to running brokers, Midge's and Mosquitto's.

    -a       to all brokers on this machine
    -p PID   to the process with this number
    --help   print this

Signals:
    config-reload   read the configuration and the files it names again
    log-rotate      open the log file again
    shutdown        end, after everything is saved
    tree-print      print every subscription on the broker's standard output

Exit codes: 0; 1 where there is no such process, or it could not be told, and for bad arguments.
";

const SIGNALS: [(&str, Signal); 4] = [
    ("config-reload", Signal::HUP),
    // As with Mosquitto's tool: what SIGHUP does opens the log again, too.
    ("log-rotate", Signal::HUP),
    ("shutdown", Signal::TERM),
    ("tree-print", Signal::USR2),
];

/// Who is to hear it.
#[derive(Debug, PartialEq, Eq)]
enum Whom {
    All,
    Process(Pid),
}

/// Runs the command.
pub fn main(_called: &OsStr, arguments: &[OsString]) -> ExitCode {
    if arguments.is_empty() || arguments.iter().any(|it| it == "--help") {
        print(USAGE);
        return match arguments.is_empty() {
            true => EXIT_FAILED.into(),
            false => ExitCode::SUCCESS,
        };
    }
    let told = parse(arguments).and_then(|(whom, signal)| match whom {
        Whom::Process(process) => tell(process, signal),
        Whom::All => tell_all(signal),
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "Error: {text}");
            EXIT_FAILED.into()
        }
    }
}

/// What the arguments ask for.
fn parse(arguments: &[OsString]) -> Result<(Whom, Signal), String> {
    let mut words = arguments.iter().map(|it| it.to_string_lossy());
    let mut whom = None;
    let name = loop {
        match words.next().as_deref() {
            None => break None,
            Some("-a") => whom = Some(Whom::All),
            Some("-p") => {
                let word = words
                    .next()
                    .ok_or("-p argument given but process ID missing.")?;
                let process = word.parse().ok().filter(|&number| number > 0);
                let process = process.and_then(Pid::from_raw);
                let process = process.ok_or_else(|| {
                    format!("Process ID must be >0. '{word}' is no number of a process.")
                })?;
                whom = Some(Whom::Process(process));
            }
            Some(name) => break Some(name.to_owned()),
        }
    };
    let whom = whom.ok_or("One of -a or -p must be used.")?;
    let name = name.ok_or("No signal given.")?;
    let known = SIGNALS.iter().find(|(known, _)| *known == name);
    match (known, words.next()) {
        (Some(&(_, signal)), None) => Ok((whom, signal)),
        (Some(_), Some(word)) => Err(format!("'{word}' is one argument too many.")),
        (None, _) => {
            let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "Unknown signal '{name}'. Expected one of {}.",
                names.join(", ")
            ))
        }
    }
}

fn tell(process: Pid, signal: Signal) -> Result<(), String> {
    kill_process(process, signal).map_err(|error| {
        let reason = crate::config::system_reason(&error.into());
        format!(
            "Unable to signal process {}: {reason}.",
            process.as_raw_nonzero()
        )
    })
}

fn tell_all(signal: Signal) -> Result<(), String> {
    let processes = fs::read_dir("/proc").map_err(|error| {
        let reason = crate::config::system_reason(&error);
        format!("Unable to read /proc: {reason}.")
    })?;
    let own = rustix::process::getpid();
    let mut told = 0;
    let mut untold = Vec::new();
    for entry in processes.flatten() {
        let number = entry.file_name().to_string_lossy().parse().ok();
        let Some(process) = number.filter(|&it| it > 0).and_then(Pid::from_raw) else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if process == own || !is_broker(&command) {
            continue;
        }
        match tell(process, signal) {
            Ok(()) => told += 1,
            Err(text) => untold.push(text),
        }
    }
    match (told, untold.is_empty()) {
        (_, false) => Err(untold.join("\nError: ")),
        (0, true) => Err("No broker is running.".to_owned()),
        (_, true) => Ok(()),
    }
}

/// Whether a process with this command line, of words that end with a zero byte, is a broker.
fn is_broker(command: &[u8]) -> bool {
    let words = command.strip_suffix(b"\0").unwrap_or(command);
    let mut words = words
        .split(|byte| *byte == 0)
        .map(|word| OsStr::from_bytes(word).to_owned());
    let called = words.next().unwrap_or_default();
    let program = Path::new(&called).file_name().unwrap_or_default();
    let arguments: Vec<OsString> = words.collect();
    let is_ours = program == BROKER.name || program == env!("CARGO_PKG_NAME");
    is_ours && choose(&called, &arguments).0.name == BROKER.name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<(Whom, Signal), String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words)
    }

    #[test]
    fn arguments_say_whom_and_what() {
        let process = |number| Whom::Process(Pid::from_raw(number).expect("not 0"));
        for (words, expected) in [
            (&["-a", "config-reload"][..], (Whom::All, Signal::HUP)),
            (&["-a", "log-rotate"], (Whom::All, Signal::HUP)),
            (&["-p", "7", "shutdown"], (process(7), Signal::TERM)),
            (&["-p", "7", "tree-print"], (process(7), Signal::USR2)),
        ] {
            assert_eq!(parsed(words), Ok(expected), "{words:?}");
        }
        for (words, expected) in [
            (&["shutdown"][..], "One of -a or -p must be used."),
            (&["-a"], "No signal given."),
            (&["-p"], "-p argument given but process ID missing."),
            (&["-p", "0", "shutdown"], "Process ID must be >0."),
            (&["-p", "x", "shutdown"], "'x' is no number"),
            (
                &["-a", "reload"],
                "Unknown signal 'reload'. Expected one of config-reload,",
            ),
            (&["-a", "xtreport"], "Unknown signal 'xtreport'."),
            (
                &["-a", "shutdown", "now"],
                "'now' is one argument too many.",
            ),
        ] {
            let error = parsed(words).expect_err("it is wrong");
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    fn brokers_are_known_by_their_command_lines() {
        for (command, is) in [
            (
                "/usr/sbin/mosquitto\0-c\0/etc/mosquitto/mosquitto.conf\0",
                true,
            ),
            ("mosquitto\0", true),
            ("target/release/midge\0-p\x001883\0", true),
            ("midge\0", true),
            ("midge\0sub\0-t\0#\0", false),
            ("midge\0signal\0-a\0shutdown\0", false),
            ("mosquitto_sub\0-t\0#\0", false),
            ("/usr/bin/vi\0mosquitto\0", false),
            ("midge-editor\0", false),
            ("", false),
        ] {
            assert_eq!(is_broker(command.as_bytes()), is, "{command:?}");
        }
    }
}
