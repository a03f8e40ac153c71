//! What `pub`, `sub` and `rr` do alike: arguments in, complaints and an exit code out.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::client::error::{self, EXIT_FAILED, dial_text, lost_text, refusal};
use super::client::options::{self, Environment, Options, Request, Tool};
use super::client::transport::DialError;
use super::client::{Lost, Session};
use super::format::Format;
use crate::mqtt::Connack;

/// Runs a tool.
pub fn main(
    tool: Tool,
    called: &OsStr,
    arguments: &[OsString],
    run: fn(&Options) -> Result<(), u8>,
) -> ExitCode {
    let name = name(tool, called);
    let check_format = |format: &str| match Format::parse(format, false) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error}\n")),
    };
    let environment = match environment(&check_format) {
        Ok(environment) => environment,
        Err(text) => {
            eprintln!("Error: {text}");
            return EXIT_FAILED.into();
        }
    };
    let options = match options::parse(tool, &name, arguments, &environment) {
        Ok(Request::Help) => {
            print(&options::usage(tool, &name));
            return EXIT_FAILED.into();
        }
        Ok(Request::Version) => {
            print(&options::version(&name));
            return EXIT_FAILED.into();
        }
        Ok(Request::Run(options)) => options,
        Err(error) => {
            eprint!("{}", error.text);
            if error.shows_usage {
                print(&options::usage(tool, &name));
            }
            return EXIT_FAILED.into();
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code.into(),
    }
}

/// What a tool knows of its process.
fn environment(
    check_format: &dyn Fn(&str) -> Result<(), String>,
) -> Result<Environment<'_>, String> {
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut random = [0; 18];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "the system has no random bytes".to_owned())?;
    Ok(Environment {
        config_home: path("XDG_CONFIG_HOME"),
        home: path("HOME"),
        process_id: std::process::id(),
        random,
        errors_to_terminal: std::io::stderr().is_terminal(),
        check_format,
    })
}

/// What the user calls the tool: the name of a link, or an argument of `midge`.
fn name(tool: Tool, called: &OsStr) -> String {
    let program = Path::new(called).file_name().unwrap_or_default();
    let program = program.to_string_lossy();
    let argument = match tool {
        Tool::Publish => "pub",
        Tool::Subscribe => "sub",
        Tool::Request => "rr",
    };
    match program.ends_with(argument) {
        true => program.into_owned(),
        false => format!("midge {argument}"),
    }
}

/// Prints to standard output, whether or not somebody still reads it.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Who is told of errors.
#[derive(Debug, Clone, Copy)]
pub struct Complaints {
    quiet: bool,
}

impl Complaints {
    /// As the options want it.
    pub fn new(options: &Options) -> Complaints {
        Complaints {
            quiet: options.quiet,
        }
    }

    /// One line on standard error.
    pub fn say(self, text: &str) {
        if !self.quiet {
            // Behind a closed standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// A connection that never came about; the exit code.
    pub fn not_connected(self, error: &DialError) -> u8 {
        if matches!(error, DialError::Interrupted) {
            return error::EXIT_INTERRUPTED;
        }
        self.say(&dial_text(error));
        match error.library_code() {
            // Mosquitto's library notices these later than a host that does not answer.
            code if code == error::TLS || matches!(error, DialError::Proxy { .. }) => code,
            _ => EXIT_FAILED,
        }
    }

    /// The end of a tool that was not cut off: by time (`-W`), by a CONNECT that was refused with a code that is not 0, or
    /// well.
    pub fn outcome(self, has_timed_out: bool, refused: u8) -> Result<(), u8> {
        if has_timed_out {
            self.say("Timed out");
            return Err(error::EXIT_TIMED_OUT);
        }
        match refused {
            0 => Ok(()),
            code => Err(code),
        }
    }

    /// A CONNECT that was refused.
    pub fn refused(self, session: &Session, connack: &Connack<'_>) {
        self.say(&refusal(session.version(), connack.code));
    }

    /// A connection that was lost; the exit code. `connack` is the code of a CONNECT that was refused, else 0.
    pub fn lost(self, lost: &Lost, connack: u8) -> u8 {
        self.say(&format!("Error: {}", lost_text(lost)));
        match connack {
            0 => lost.code(),
            code => code,
        }
    }
}
