//! `midge`, and `mosquitto`: the broker, with Mosquitto's flags and exit codes.
//!
//! It knows arguments and where complaints about them go; the broker itself is [`crate::server`].
//! 1. The configuration is read and checked before the broker goes into the background, so that a bad one is told to
//!    the caller.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use getopts::{Fail, Options};

use super::{EXIT_FAILED, EXIT_USAGE};
use crate::config::{Config, Log, Overrides, Severity};
use crate::server::daemon::background::{self, Start};

/// As many `-p` as Mosquitto takes.
const PORTS_MAX: usize = 10;

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Help,
    Version,
    Run(Run),
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    config_file: Option<PathBuf>,
    daemon: bool,
    test_config: bool,
    overrides: Overrides,
}

impl Run {
    /// The arguments that ask for the same, but in the foreground.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(file) = &self.config_file {
            arguments.extend(["-c".into(), file.into()]);
        }
        for port in &self.overrides.ports {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        arguments.extend(self.overrides.verbose.then(|| "-v".into()));
        arguments.extend(self.overrides.quiet.then(|| "-q".into()));
        if let Some(core) = self.overrides.cpu {
            arguments.extend(["--cpu".into(), core.to_string().into()]);
        }
        if let Some(file) = &self.overrides.tls_keylog {
            arguments.extend(["--tls-keylog".into(), file.into()]);
        }
        arguments
    }
}

/// Arguments that cannot be answered; the text is for standard error.
#[derive(Debug, PartialEq, Eq)]
struct UsageError {
    text: String,
    /// Whether the usage helps.
    show_usage: bool,
}

/// Runs the broker with `arguments`.
pub fn main(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    match request(arguments) {
        Ok(Request::Help) => {
            print(&format!("{}\n\n{}", version(), usage()));
            ExitCode::SUCCESS
        }
        Ok(Request::Version) => {
            print(&format!(
                "{}\nReleased under the {} licence.\n",
                version(),
                env!("CARGO_PKG_LICENSE")
            ));
            ExitCode::SUCCESS
        }
        Ok(Request::Run(run)) => self::run(called, run),
        Err(error) => {
            complain(&error.text);
            if error.show_usage {
                complain(&format!("\n{}", usage().trim_end()));
            }
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run(called: &OsStr, mut run: Run) -> ExitCode {
    let again = run.arguments();
    run.overrides.persistence_location =
        std::env::var_os("MOSQUITTO_PERSISTENCE_LOCATION").map(PathBuf::from);
    let config = match Config::load_with(run.config_file.as_deref(), run.overrides) {
        Ok(config) => config,
        Err(error) => {
            log_error(&error.to_string());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if run.test_config {
        for warning in &config.warnings {
            match warning.severity {
                Severity::Notice => complain(&format!("Notice: {warning}")),
                Severity::Warning => complain(&warning.to_string()),
            }
        }
        return match crate::server::check(&config) {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| complain(warning));
                print("Configuration file is OK.\n");
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&error.to_string());
                ExitCode::from(EXIT_USAGE)
            }
        };
    }
    if run.daemon {
        return into_background(called, &again);
    }
    if background::is_here() {
        // It fails only for one who leads a process group already, and so has no terminal to lose.
        let _ = rustix::process::setsid();
    }
    start(config)
}

fn start(config: Config) -> ExitCode {
    crate::server::run(config)
}

/// Starts this program again, without a terminal, to do what `arguments` ask for.
///
/// A second process instead of fork(2): it has the same effect for the caller, and is sound with threads.
fn into_background(called: &OsStr, arguments: &[OsString]) -> ExitCode {
    let started = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.arg0(called).args(arguments);
        background::start(command)
    });
    match started {
        Ok(Start::Done) => ExitCode::SUCCESS,
        Ok(Start::Failed(told, status)) => {
            let _ = std::io::stderr().lock().write_all(&told);
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            ExitCode::from(code.unwrap_or(EXIT_FAILED))
        }
        Err(error) => {
            complain(&format!(
                "Error: Unable to go into the background: {error}."
            ));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn options() -> Options {
    let mut options = Options::new();
    options.optmulti(
        "c",
        "config-file",
        "read the configuration from FILE",
        "FILE",
    );
    options.optmulti(
        "",
        "cpu",
        "run the loop on core N, and helper threads on the others, whatever the configuration file says",
        "N",
    );
    options.optflagmulti(
        "d",
        "daemon",
        "go into the background once the configuration is read",
    );
    options.optflagmulti("h", "help", "show this help");
    options.optmulti(
        "p",
        "port",
        "listen on PORT of the loopback addresses; up to 10 times; no effect when the configuration file has a listener",
        "PORT",
    );
    options.optflagmulti(
        "q",
        "quiet",
        "log nothing, whatever -v and the configuration file say",
    );
    options.optflagmulti(
        "",
        "test-config",
        "check the configuration file and exit: 0 if it is good, else 3",
    );
    options.optmulti(
        "",
        "tls-keylog",
        "write the secrets of TLS connections to FILE, for debugging: who has them can read the connections",
        "FILE",
    );
    options.optflagmulti(
        "v",
        "verbose",
        "log everything, whatever the configuration file says",
    );
    options.optflagmulti("", "version", "show version and licence");
    options
}

fn usage() -> String {
    let brief = "Usage: midge [-c FILE] [--cpu N] [-d] [-p PORT]... [-q | -v] [--test-config] [--tls-keylog FILE]\n\
                 Without a configuration file, only programs on this machine can connect, on port 1883.\n\n\
                 Other commands, each with its own --help:\n    \
                 midge pub      publish messages\n    \
                 midge sub      show messages as they come\n    \
                 midge rr       send a request and show its response\n    \
                 midge passwd   make and change password files\n    \
                 midge signal   have a running broker reload, rotate its log, or end\n    \
                 midge links    links by Mosquitto's names of all these";
    options().usage(brief)
}

fn version() -> String {
    format!(
        "midge version {}\n\nmidge is an MQTT v5.0/v3.1.1/v3.1 broker.",
        env!("CARGO_PKG_VERSION")
    )
}

fn request(arguments: &[OsString]) -> Result<Request, UsageError> {
    let matches = options().parse(arguments).map_err(usage_error)?;
    if let Some(argument) = matches.free.first() {
        return Err(unknown(argument));
    }
    if matches.opt_present("help") {
        return Ok(Request::Help);
    }
    if matches.opt_present("version") {
        return Ok(Request::Version);
    }
    let mut files = matches.opt_strs("config-file");
    if files.len() > 1 {
        return Err(bad_value("Error: -c may be given once.".to_owned()));
    }
    let ports = matches.opt_strs("port");
    if ports.len() > PORTS_MAX {
        return Err(bad_value(format!(
            "Error: Only {PORTS_MAX} ports can be specified."
        )));
    }
    Ok(Request::Run(Run {
        config_file: files.pop().map(PathBuf::from),
        daemon: matches.opt_present("daemon"),
        test_config: matches.opt_present("test-config"),
        overrides: Overrides {
            ports: ports
                .iter()
                .map(|port| self::port(port))
                .collect::<Result<_, _>>()?,
            verbose: matches.opt_present("verbose"),
            quiet: matches.opt_present("quiet"),
            tls_keylog: matches.opt_strs("tls-keylog").pop().map(PathBuf::from),
            cpu: matches
                .opt_strs("cpu")
                .pop()
                .map(|core| self::core(&core))
                .transpose()?,
            persistence_location: None,
        },
    }))
}

fn port(text: &str) -> Result<u16, UsageError> {
    text.parse()
        .ok()
        .filter(|&port| port > 0)
        .ok_or_else(|| bad_value(format!("Error: Invalid port specified ({text}).")))
}

fn core(text: &str) -> Result<u32, UsageError> {
    text.parse().map_err(|_| {
        bad_value(format!(
            "Error: Invalid core specified ({text}): cores are numbered from 0."
        ))
    })
}

fn usage_error(fail: Fail) -> UsageError {
    match fail {
        Fail::ArgumentMissing(name) => bad_value(match name.as_str() {
            "c" | "config-file" => {
                "Error: -c argument given, but no config file specified.".to_owned()
            }
            "p" | "port" => "Error: -p argument given, but no port specified.".to_owned(),
            "cpu" => "Error: --cpu argument given, but no core specified.".to_owned(),
            "tls-keylog" => "Error: --tls-keylog argument given, but no file specified.".to_owned(),
            name => format!(
                "Error: {} argument given, but no value specified.",
                dashed(name)
            ),
        }),
        Fail::UnrecognizedOption(name) => unknown(&dashed(&name)),
        Fail::UnexpectedArgument(name) => {
            bad_value(format!("Error: {} takes no value.", dashed(&name)))
        }
        Fail::OptionMissing(name) | Fail::OptionDuplicated(name) => {
            unreachable!("'{name}' is neither required nor restricted to once")
        }
    }
}

fn unknown(argument: &str) -> UsageError {
    UsageError {
        text: format!("Error: Unknown option '{argument}'."),
        show_usage: true,
    }
}

fn bad_value(text: String) -> UsageError {
    UsageError {
        text,
        show_usage: false,
    }
}

fn dashed(name: &str) -> String {
    format!(
        "{}{name}",
        if name.chars().count() > 1 { "--" } else { "-" }
    )
}

// As for log lines, there is nobody to tell of a closed standard output, and `println!` would panic over it.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Complains in the form of the log, as Mosquitto does of a configuration; the caller exits next.
fn log_error(lines: &str) {
    // None is installed yet: the server does that, and it was not reached.
    let _logging = crate::server::log::install(Log::default());
    for line in lines.lines() {
        log::error!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request, UsageError> {
        request(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_ask_for() {
        let run = |overrides| Run {
            overrides,
            ..Run::default()
        };
        let verbose = || {
            run(Overrides {
                verbose: true,
                ..Overrides::default()
            })
        };
        let ports = |ports: &[u16]| {
            run(Overrides {
                ports: ports.to_vec(),
                ..Overrides::default()
            })
        };
        let file = || Run {
            config_file: Some("a.conf".into()),
            ..Run::default()
        };
        for (arguments, expected) in [
            (&[][..], Request::Run(Run::default())),
            (&["-v"], Request::Run(verbose())),
            (&["-v", "--verbose"], Request::Run(verbose())),
            (
                &["-q"],
                Request::Run(run(Overrides {
                    quiet: true,
                    ..Overrides::default()
                })),
            ),
            (
                &["-p", "1884", "--port", "65535"],
                Request::Run(ports(&[1884, 65535])),
            ),
            (&["-p1884"], Request::Run(ports(&[1884]))),
            (&["-c", "a.conf"], Request::Run(file())),
            (
                &["--config-file", "a.conf", "-d"],
                Request::Run(Run {
                    daemon: true,
                    ..file()
                }),
            ),
            (
                &["--config-file=a.conf", "--test-config"],
                Request::Run(Run {
                    test_config: true,
                    ..file()
                }),
            ),
            (
                &["--tls-keylog", "k.log"],
                Request::Run(run(Overrides {
                    tls_keylog: Some("k.log".into()),
                    ..Overrides::default()
                })),
            ),
            (&["-h"], Request::Help),
            (&["-v", "--help"], Request::Help),
            (&["--version"], Request::Version),
        ] {
            assert_eq!(parsed(arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn arguments_that_cannot_be_answered() {
        for (arguments, text, show_usage) in [
            (&["-x"][..], "Error: Unknown option '-x'.", true),
            (&["--wibble"], "Error: Unknown option '--wibble'.", true),
            (&["pub"], "Error: Unknown option 'pub'.", true),
            (
                &["-c"],
                "Error: -c argument given, but no config file specified.",
                false,
            ),
            (
                &["--port"],
                "Error: -p argument given, but no port specified.",
                false,
            ),
            (
                &["--tls-keylog"],
                "Error: --tls-keylog argument given, but no file specified.",
                false,
            ),
            (&["-p", "0"], "Error: Invalid port specified (0).", false),
            (
                &["-p", "70000"],
                "Error: Invalid port specified (70000).",
                false,
            ),
            (&["-p", "x"], "Error: Invalid port specified (x).", false),
            (
                &["--cpu"],
                "Error: --cpu argument given, but no core specified.",
                false,
            ),
            (
                &["--cpu", "-1"],
                "Error: Invalid core specified (-1): cores are numbered from 0.",
                false,
            ),
            (&["--verbose=1"], "Error: --verbose takes no value.", false),
            (
                &["-c", "a", "-c", "b"],
                "Error: -c may be given once.",
                false,
            ),
        ] {
            let error = UsageError {
                text: text.to_owned(),
                show_usage,
            };
            assert_eq!(parsed(arguments), Err(error), "{arguments:?}");
        }
        let eleven: Vec<&str> = std::iter::repeat_n(["-p", "1"], 11).flatten().collect();
        assert!(parsed(&eleven).is_err());
        assert!(parsed(&eleven[2..]).is_ok());
    }

    #[test]
    fn the_background_is_asked_for_the_same() {
        let run = Run {
            config_file: Some("a b.conf".into()),
            overrides: Overrides {
                ports: vec![1884, 1885],
                verbose: true,
                quiet: true,
                tls_keylog: Some("k e y".into()),
                cpu: Some(3),
                persistence_location: None,
            },
            ..Run::default()
        };
        assert_eq!(request(&run.arguments()), Ok(Request::Run(run)));
    }

    #[test]
    fn the_usage_names_every_option() {
        let usage = usage();
        for option in [
            "-c, --config-file FILE",
            "--cpu N",
            "-d, --daemon",
            "-h, --help",
            "-p, --port PORT",
            "-q, --quiet",
        ] {
            assert!(usage.contains(option), "{option} in {usage}");
        }
        for option in [
            "-v, --verbose",
            "--test-config",
            "--tls-keylog FILE",
            "--version",
        ] {
            assert!(usage.contains(option), "{option} in {usage}");
        }
    }
}
