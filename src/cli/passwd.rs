//! `midge passwd`, and `mosquitto_passwd`: makes and changes password files, with the original's options, messages and
//! exit codes.
//!
//! It knows arguments, prompts and messages. What a line means is [`crate::auth::password`]'s, what becomes of the
//! lines of a file is in `edit`, and how a file is replaced in `file`.
//! 1. A password is shown nowhere, also not in a complaint about arguments or lines.
//! 2. A file is as it was, or as it was asked for: also when its lines are bad, the disk is full, or we are killed.
//!    Where a file cannot be replaced as a whole, a copy stays beside it until it is written.

mod edit;
mod file;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use getopts::{Fail, Matches, Options, ParsingStyle};
use signal_hook::consts::SIGINT;

use super::EXIT_FAILED;
use crate::auth::password::{
    Kind, PasswordHash, USER_NAME_BYTES_MAX, UserNameError, check_user_name,
};
use crate::config::system_reason;
use edit::EditError;
use file::{Opened, StoreError};

/// The two passwords that were asked for differ.
const EXIT_MISMATCH: u8 = 2;
/// The question was answered with Ctrl-C, as a shell reports it.
const EXIT_INTERRUPTED: u8 = 130;

/// A password, at most: what a CONNECT can hold.
const PASSWORD_BYTES_MAX: usize = 65_535;

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Help,
    Version,
    Run(Run),
}

#[derive(Debug, PartialEq, Eq)]
enum Run {
    /// `-c`: a file with one user, in place of what is there.
    Create {
        destination: Destination,
        user_name: String,
        password: Option<Secret>,
        kind: Kind,
    },
    /// A user and a password, new or changed.
    Set {
        path: PathBuf,
        user_name: String,
        password: Option<Secret>,
        kind: Kind,
    },
    /// `-D`: a user fewer.
    Delete { path: PathBuf, user_name: String },
    /// `-U`: hashes in place of plain passwords.
    HashPlain { path: PathBuf, kind: Kind },
}

#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Stdout,
    File(PathBuf),
}

/// Bytes that are not shown, and overwritten when they are not needed any more.
#[derive(PartialEq, Eq, Default)]
struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a reader, the compiler may leave the writes out.
        std::hint::black_box(&self.0);
    }
}

/// Why nothing, or not all, was done.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    /// For standard error; empty if there is nothing to add.
    text: String,
    code: u8,
    /// Whether the usage, on standard output as in the original, says more.
    show_usage: bool,
}

impl Failure {
    fn new(text: impl Into<String>) -> Failure {
        Failure {
            text: text.into(),
            code: EXIT_FAILED,
            show_usage: false,
        }
    }

    fn usage(text: impl Into<String>) -> Failure {
        Failure {
            show_usage: true,
            ..Failure::new(text)
        }
    }
}

/// Runs the command with `arguments`.
pub fn main(_called: &OsStr, arguments: &[OsString]) -> ExitCode {
    let done = request(arguments).and_then(|request| match request {
        Request::Help => {
            print(&format!("{}\n\n{}", version(), usage()));
            Ok(())
        }
        Request::Version => {
            print(&format!(
                "{}\nReleased under the {} licence.\n",
                version(),
                env!("CARGO_PKG_LICENSE")
            ));
            Ok(())
        }
        Request::Run(run) => self::run(run),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                let _ = writeln!(io::stderr().lock(), "{}", failure.text);
            }
            if failure.show_usage {
                print(&usage());
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(run: Run) -> Result<(), Failure> {
    match run {
        Run::Create {
            destination: Destination::Stdout,
            user_name,
            password,
            kind,
        } => {
            // The line is all that standard output gets.
            let password = password.map_or_else(|| ask(&mut io::stderr()), Ok)?;
            let text = edit::set(b"", &user_name, &hash(kind, &password)?).map_err(corrupt)?;
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(&text.0)
                .and_then(|()| stdout.flush())
                .map_err(|error| {
                    Failure::new(format!(
                        "Error: Unable to write to standard output. {}.",
                        system_reason(&error)
                    ))
                })
        }
        Run::Create {
            destination: Destination::File(path),
            user_name,
            password,
            kind,
        } => {
            let password = password.map_or_else(|| ask(&mut io::stdout()), Ok)?;
            let text = edit::set(b"", &user_name, &hash(kind, &password)?).map_err(corrupt)?;
            create(&path, &text.0)?;
            print(&format!("Adding password for user {user_name}\n"));
            Ok(())
        }
        Run::Set {
            path,
            user_name,
            password,
            kind,
        } => {
            let opened = open(&path)?;
            let password = password.map_or_else(|| ask(&mut io::stdout()), Ok)?;
            let hash = hash(kind, &password)?;
            let old = read(&opened)?;
            let (text, was_there) = edit::set(&old.0, &user_name, &hash).map_err(corrupt)?;
            replace(&opened, &old, &Secret(text))?;
            let doing = if was_there { "Updating" } else { "Adding" };
            print(&format!("{doing} password for user {user_name}\n"));
            Ok(())
        }
        Run::Delete { path, user_name } => {
            let opened = open(&path)?;
            let old = read(&opened)?;
            match edit::delete(&old.0, &user_name).map_err(corrupt)? {
                Some(text) => replace(&opened, &old, &Secret(text)),
                None => Err(Failure::new(format!(
                    "Warning: User {user_name} not found in password file."
                ))),
            }
        }
        Run::HashPlain { path, kind } => {
            let opened = open(&path)?;
            let old = read(&opened)?;
            let text = edit::hash_plain(&old.0, kind).map_err(corrupt)?;
            replace(&opened, &old, &Secret(text))
        }
    }
}

fn hash(kind: Kind, password: &Secret) -> Result<PasswordHash, Failure> {
    PasswordHash::create(kind, &password.0).map_err(|error| {
        Failure::new(format!(
            "Error: Unable to hash password: {error}.\nExpected: {}.",
            error.expected()
        ))
    })
}

fn corrupt(error: EditError) -> Failure {
    Failure::new(error.to_string())
}

fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    file::resolve(path).map_err(|error| {
        Failure::new(format!(
            "Error reading password file: {}",
            system_reason(&error)
        ))
    })
}

fn open(path: &Path) -> Result<Opened, Failure> {
    let path = resolve(path)?;
    Opened::open(&path).map_err(|error| {
        Failure::new(format!(
            "Error: Unable to open password file {}. {}.",
            path.display(),
            system_reason(&error)
        ))
    })
}

fn read(opened: &Opened) -> Result<Secret, Failure> {
    opened.read().map(Secret).map_err(|error| {
        Failure::new(format!(
            "Error: Unable to read password file {}. {}.",
            opened.path().display(),
            system_reason(&error)
        ))
    })
}

/// Writes the new text in place of the old one, with a copy of the old one beside it for as long as that takes.
fn replace(opened: &Opened, old: &Secret, text: &Secret) -> Result<(), Failure> {
    let backup = file::backup(opened.path(), &old.0).map_err(|error| {
        Failure::new(format!(
            "Error creating backup password file \"{}.backup.XXXXXX\", not continuing. {}.",
            opened.path().display(),
            system_reason(&error)
        ))
    })?;
    match opened.store(&text.0) {
        Ok(()) => Ok(()),
        Err(StoreError::Untouched(error)) => Err(Failure::new(format!(
            "Error: Unable to replace password file {}. {}. It is unchanged.",
            opened.path().display(),
            system_reason(&error)
        ))),
        Err(StoreError::Damaged(error)) => {
            let kept = backup.keep().map_or_else(
                |error| format!("(none: {})", system_reason(&error.error)),
                |path| path.display().to_string(),
            );
            Err(Failure::new(format!(
                "Error occurred updating password file. {}.\n\
                 Password file may be corrupt, check the backup file: {kept}.",
                system_reason(&error)
            )))
        }
    }
}

fn create(path: &Path, text: &[u8]) -> Result<(), Failure> {
    let path = resolve(path)?;
    file::create(&path, text).map_err(|error| {
        Failure::new(format!(
            "Error: Unable to open file {} for writing. {}.",
            path.display(),
            system_reason(&error)
        ))
    })
}

/// Asks for a password, twice: on the terminal if standard input is one, with its echo off; else two lines are read
/// from standard input, and the questions go to `prompts`.
fn ask(prompts: &mut dyn Write) -> Result<Secret, Failure> {
    let password = ask_once("Password: ", prompts)?;
    match ask_once("Reenter password: ", prompts) {
        Ok(again) if again == password => check_password(password),
        Err(failure) if failure.code == EXIT_INTERRUPTED => Err(failure),
        Ok(_) | Err(_) => Err(Failure {
            code: EXIT_MISMATCH,
            ..Failure::new("Error: Passwords do not match.")
        }),
    }
}

fn ask_once(prompt: &str, prompts: &mut dyn Write) -> Result<Secret, Failure> {
    let answer = if io::stdin().is_terminal() {
        ask_terminal(prompt)
    } else {
        let _ = prompts
            .write_all(prompt.as_bytes())
            .and_then(|()| prompts.flush());
        let answer = read_answer(&mut io::stdin().lock());
        let _ = prompts.write_all(b"\n");
        answer
    };
    match answer {
        Ok(password) if !password.0.is_empty() => Ok(password),
        Ok(_) => Err(Failure::new("Error: Empty password.")),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::new("Error: Empty password."),
            io::ErrorKind::Interrupted => Failure {
                code: EXIT_INTERRUPTED,
                ..Failure::new("")
            },
            _ => Failure::new(format!(
                "Error: Unable to read the password. {}.",
                system_reason(&error)
            )),
        }),
    }
}

fn ask_terminal(prompt: &str) -> io::Result<Secret> {
    // Ctrl-C is read as a character and then raised as a signal, which must not end us before the echo is on again.
    // From then on it does not end us at all: what is left is short, and better done than half done.
    let raised = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)))?;
    let answer = rpassword::prompt_password(prompt);
    signal_hook::low_level::unregister(raised);
    answer.map(|password| Secret(password.into_bytes()))
}

/// One line, without its end.
fn read_answer(input: &mut impl BufRead) -> io::Result<Secret> {
    let mut line = Secret(Vec::with_capacity(128));
    // Enough to see that it is too long.
    let bytes_max = PASSWORD_BYTES_MAX as u64 + 3;
    input.take(bytes_max).read_until(b'\n', &mut line.0)?;
    while let Some(b'\n' | b'\r') = line.0.last() {
        line.0.pop();
    }
    Ok(line)
}

fn check_password(password: Secret) -> Result<Secret, Failure> {
    if password.0.len() > PASSWORD_BYTES_MAX {
        return Err(Failure::new(format!(
            "Error: Password must be less than {} characters long.",
            PASSWORD_BYTES_MAX + 1
        )));
    }
    Ok(password)
}

/// A user name that a line can begin with and a client can have.
fn check_new_user_name(user_name: &OsStr) -> Result<String, Failure> {
    let refused = |why: &str| Err(Failure::new(format!("Error: Username must {why}.")));
    let Some(user_name) = user_name.to_str() else {
        return refused("be UTF-8");
    };
    match check_user_name(user_name) {
        Err(UserNameError::TooLong) => refused(&format!(
            "be less than {} characters long",
            USER_NAME_BYTES_MAX + 1
        )),
        Err(UserNameError::Control) => refused("not contain control characters"),
        Err(UserNameError::Empty) => refused("not be empty"),
        Err(UserNameError::Utf8) => refused("be UTF-8"),
        Ok(()) if user_name.contains(':') => refused("not contain the ':' character"),
        Ok(()) if user_name.trim_ascii() != user_name => {
            refused("not begin or end with a blank, which a password file does not keep")
        }
        Ok(()) if user_name.starts_with('#') => {
            refused("not begin with '#', which makes the line a comment")
        }
        Ok(()) => Ok(user_name.to_owned()),
    }
}

fn options() -> Options {
    let mut options = Options::new();
    // As in the original, so that a password may begin with '-'.
    options.parsing_style(ParsingStyle::StopAtFirstFree);
    options.optflagmulti(
        "b",
        "",
        "take the password from the command line, where other users of this machine can see it",
    );
    options.optflagmulti(
        "c",
        "",
        "create FILE, or overwrite it if there is one; with '-' as FILE, write to standard output",
    );
    options.optflagmulti("D", "", "delete USER");
    options.optmulti(
        "H",
        "",
        "hash with sha512-pbkdf2 (the default, which every Mosquitto since 2.0 reads), argon2id (since 2.1) or sha512 \
         (older ones; do not use it for anything new)",
        "HASH",
    );
    options.optmulti(
        "I",
        "",
        "iterations of sha512-pbkdf2 (default 1000): more make each guess, and each connection, slower",
        "NUMBER",
    );
    options.optflagmulti(
        "U",
        "",
        "hash the passwords of a FILE that has plain ones; lines that have a hash already stay as they are",
    );
    options.optflagmulti("h", "help", "show this help");
    options.optflagmulti("", "version", "show version and licence");
    options
}

fn usage() -> String {
    let brief = "Usage: midge passwd [-H HASH] [-I NUMBER] [-c] FILE USER\n       \
                 midge passwd [-H HASH] [-I NUMBER] [-c] -b FILE USER PASSWORD\n       \
                 midge passwd -D FILE USER\n       \
                 midge passwd [-H HASH] [-I NUMBER] -U FILE\n\
                 Without -b, it asks for the password, or reads two lines if standard input is no terminal.\n\
                 Without -c, FILE must exist. A new one can be read by its owner only. A running broker reads it \
                 again on SIGHUP.";
    options().usage(brief)
}

fn version() -> String {
    format!(
        "midge passwd version {}\n\nmidge passwd manages the password files of MQTT brokers.",
        env!("CARGO_PKG_VERSION")
    )
}

fn request(arguments: &[OsString]) -> Result<Request, Failure> {
    if arguments.is_empty() {
        return Err(Failure::usage(""));
    }
    // Files and passwords may be any bytes. They stand last, so that options do not care what becomes of them here.
    let shown: Vec<_> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let matches = options().parse(&shown).map_err(usage_error)?;
    if matches.opt_present("help") {
        return Ok(Request::Help);
    }
    if matches.opt_present("version") {
        return Ok(Request::Version);
    }
    let free = &arguments[arguments.len() - matches.free.len()..];
    run_request(&matches, free).map(Request::Run)
}

fn run_request(matches: &Matches, free: &[OsString]) -> Result<Run, Failure> {
    let kind = kind(matches)?;
    let [batch, create, delete, hash_plain] =
        ["b", "c", "D", "U"].map(|option| matches.opt_present(option));
    for (one, other, names) in [
        (create, delete, "-c and -D"),
        (create, hash_plain, "-c and -U"),
        (delete, hash_plain, "-D and -U"),
        (delete, batch, "-b and -D"),
    ] {
        if one && other {
            return Err(Failure::new(format!(
                "Error: {names} cannot be used together."
            )));
        }
    }
    let missing = |option: &str, what: &str| {
        Failure::new(format!(
            "Error: {option} argument given but {what} missing."
        ))
    };
    if hash_plain {
        return match free {
            [path] => Ok(Run::HashPlain {
                path: path.into(),
                kind,
            }),
            [] => Err(missing("-U", "password file")),
            _ => Err(too_many()),
        };
    }
    let (path, user_name, password) = match (free, batch) {
        ([path, user_name], false) => (path, user_name, None),
        ([path, user_name, password], true) => {
            let password = check_password(Secret(password.as_bytes().to_vec()))?;
            (path, user_name, Some(password))
        }
        ([_, _, _, ..], _) => return Err(too_many()),
        _ if create && batch => {
            return Err(missing("-c", "password file, username, or password"));
        }
        _ if create => return Err(missing("-c", "password file or username")),
        _ if delete => return Err(missing("-D", "password file or username")),
        _ => return Err(Failure::usage("")),
    };
    let user_name = check_new_user_name(user_name)?;
    let path = PathBuf::from(path);
    Ok(if delete {
        Run::Delete { path, user_name }
    } else if create {
        Run::Create {
            destination: match path.as_os_str() {
                dash if dash == "-" => Destination::Stdout,
                _ => Destination::File(path),
            },
            user_name,
            password,
            kind,
        }
    } else {
        Run::Set {
            path,
            user_name,
            password,
            kind,
        }
    })
}

/// The last `-H` and the last `-I` count.
fn kind(matches: &Matches) -> Result<Kind, Failure> {
    let iterations = matches
        .opt_strs("I")
        .iter()
        .map(|text| {
            text.parse::<NonZeroU32>()
                .map_err(|_| Failure::new("Error: Number of iterations must be > 0."))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut kind = Kind::SHA512_PBKDF2;
    for name in matches.opt_strs("H") {
        kind = match name.as_str() {
            "sha512" => Kind::Sha512,
            "sha512-pbkdf2" => Kind::SHA512_PBKDF2,
            "argon2id" => Kind::ARGON2ID,
            _ => {
                return Err(Failure::new(format!(
                    "Error: Unknown hash type '{name}'\nExpected: sha512, sha512-pbkdf2 or argon2id."
                )));
            }
        };
    }
    Ok(match (kind, iterations.last()) {
        (Kind::Sha512Pbkdf2 { .. }, Some(&iterations)) => Kind::Sha512Pbkdf2 { iterations },
        (kind, _) => kind,
    })
}

/// A password of several words without quotes would lose all but the first.
fn too_many() -> Failure {
    Failure::new(
        "Error: Too many arguments. A name or password with blanks needs quotes around it.",
    )
}

fn usage_error(fail: Fail) -> Failure {
    let dashed = |name: &str| {
        format!(
            "{}{name}",
            if name.chars().count() > 1 { "--" } else { "-" }
        )
    };
    match fail {
        Fail::ArgumentMissing(name) => Failure::new(format!(
            "Error: -{name} argument given but not enough other arguments."
        )),
        Fail::UnrecognizedOption(name) => {
            Failure::usage(format!("Error: Unknown option '{}'.\n", dashed(&name)))
        }
        Fail::UnexpectedArgument(name) => {
            Failure::new(format!("Error: {} takes no value.", dashed(&name)))
        }
        Fail::OptionMissing(name) | Fail::OptionDuplicated(name) => {
            unreachable!("'{name}' is neither required nor restricted to once")
        }
    }
}

// There is nobody to tell of a closed standard output.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests;
