//! The process: its number in a file, its user, the mode of its files, and its service manager.
//!
//! It knows accounts, environment variables and systemd. It does not know what the broker does.
//! 1. Who was to give up root and did not is an error: nothing goes on with more rights than were asked for.
//! 2. A pid file is never written through a link, and only the one that still has this process's number is removed.
//! 3. The service manager is never waited for.

pub mod background;
mod notify;
mod pid_file;
mod user;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

pub use self::notify::Notifier;
pub use self::pid_file::PidFile;
pub use self::user::{Environment, RunsAs, drop_privileges};
use crate::broker::timers::Time;
use crate::config::system_reason;

/// This process. Its pid file goes when this is dropped.
#[derive(Debug, Default)]
pub struct Process {
    _pid_file: Option<PidFile>,
    runs_as: Option<RunsAs>,
    notifier: Notifier,
    /// When the watchdog is to hear from it, where there is one.
    next_alive: Option<Time>,
}

/// Checks what [`Process::settle`] would do, and becomes the user that the broker would run as, so that files are read with
/// its rights. For a process that ends afterwards.
/// # Errors
/// As [`Process::settle`].
pub fn check(pid_file: Option<&Path>, user: Option<&str>) -> Result<(), DaemonError> {
    if let Some(path) = pid_file
        && let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty())
        && !directory.is_dir()
    {
        return Err(DaemonError::PidFile {
            path: path.to_owned(),
            reason: format!("{} is no directory", directory.display()),
        });
    }
    drop_privileges(user, &Environment::of_process()).map(drop)
}

impl Process {
    /// Makes of the process what was asked for: the mode of new files, its number in `pid_file`, and `user` in the
    /// place of root. To be called before the log is opened and before any secret is read, so that what belongs to root
    /// alone is found out to be out of reach now, and not at the first reload.
    ///
    /// # Errors
    /// If any of it cannot be had. The process must end then.
    pub fn settle(pid_file: Option<&Path>, user: Option<&str>) -> Result<Process, DaemonError> {
        set_umask_from_env()?;
        // While there is still the right to write to /run.
        let pid_file = pid_file.map(PidFile::write).transpose()?;
        let runs_as = drop_privileges(user, &Environment::of_process())?;
        let notifier = Notifier::from_env();
        Ok(Process {
            _pid_file: pid_file,
            runs_as: Some(runs_as),
            next_alive: notifier.watchdog_interval().map(|_| Time::ZERO),
            notifier,
        })
    }

    /// Logs whom the process runs as.
    pub fn tell(&self) {
        if let Some(runs_as) = &self.runs_as {
            runs_as.tell();
        }
    }

    /// Tells the service manager, and who started the process in the background, that clients are served: at first, and
    /// after each reload, however that went.
    pub fn ready(&self) {
        self.notifier.ready();
        background::tell_started();
    }

    /// Tells the service manager of a reload; [`Process::ready`] must follow.
    pub fn reloading(&self) {
        self.notifier.reloading();
    }

    /// Tells the service manager that the end has begun.
    pub fn stopping(&self) {
        self.notifier.stopping();
    }

    /// Tells the service manager that the process is alive, if it is time to.
    pub fn alive(&mut self, now: Time) {
        if self.next_alive.is_some_and(|next| next <= now) {
            self.notifier.alive();
            let interval = self.notifier.watchdog_interval();
            self.next_alive = interval.map(|interval| now + interval);
        }
    }

    /// When [`Process::alive`] has something to say next.
    pub fn next_alive(&self) -> Option<Time> {
        self.next_alive
    }
}

/// Why the process could not become what was asked for.
#[derive(Debug)]
pub enum DaemonError {
    /// `pid_file` cannot be written.
    PidFile {
        /// Which.
        path: PathBuf,
        /// Why, as the end of a sentence.
        reason: String,
    },
    /// There is no user of this name.
    UnknownUser(String),
    /// Neither of the users is there that are tried where none is configured.
    NoUser,
    /// PUID names nobody, so that without PGID there is no group for it.
    NoGroup(u32),
    /// An environment variable is not the number that it has to be.
    Variable {
        /// Which.
        name: &'static str,
        /// What it is.
        value: OsString,
        /// What it has to be.
        expected: &'static str,
    },
    /// The system refused to change the user or its groups.
    Privileges {
        /// What was tried.
        step: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The process has rights that it was to give up.
    StillRoot,
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonError::PidFile { path, reason } => {
                write!(f, "Error: Unable to write pid file {}: {reason}.", path.display())
            }
            DaemonError::UnknownUser(name) => write!(
                f,
                "Error: Unable to drop privileges to '{name}' because this user does not exist."
            ),
            DaemonError::NoUser => f.write_str(
                "Error: Unable to drop privileges: there is neither a user 'mosquitto' nor 'nobody'. \
                 Name another one with the option user.",
            ),
            DaemonError::NoGroup(id) => write!(
                f,
                "Error: Unable to drop privileges to user id {id}: it has no name and so no group. Set PGID as well."
            ),
            DaemonError::Variable {
                name,
                value,
                expected,
            } => write!(
                f,
                "Error: The environment variable {name} is '{}', which is not {expected}.",
                value.display()
            ),
            DaemonError::Privileges { step, error } => write!(
                f,
                "Error: Unable to drop privileges: {step}: {}.",
                system_reason(error)
            ),
            DaemonError::StillRoot => f.write_str(
                "Error: Unable to drop privileges: the system agreed, but the process could become root again.",
            ),
        }
    }
}

impl std::error::Error for DaemonError {}

/// Takes the mode mask of new files from the environment variable `UMASK_SET`, if there is one.
///
/// # Errors
/// If it is not an octal number up to 0777.
pub fn set_umask_from_env() -> Result<(), DaemonError> {
    if let Some(mask) = umask(std::env::var_os("UMASK_SET").as_deref())? {
        rustix::process::umask(mask);
    }
    Ok(())
}

fn umask(value: Option<&OsStr>) -> Result<Option<Mode>, DaemonError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let mask = value
        .to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| u32::from_str_radix(text, 8).ok())
        .filter(|mask| *mask <= 0o777);
    match mask {
        Some(mask) => Ok(Some(Mode::from_bits_retain(mask))),
        None => Err(DaemonError::Variable {
            name: "UMASK_SET",
            value: value.to_owned(),
            expected: "an octal number from 0 to 0777",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umasks() {
        for (text, expected) in [
            ("0", Some(0)),
            ("077", Some(0o077)),
            ("0027", Some(0o027)),
            ("777", Some(0o777)),
            ("1000", None),
            ("8", None),
            ("+7", None),
            ("-1", None),
            ("0o22", None),
            (" 22", None),
            ("77777777777777777777", None),
        ] {
            let found = umask(Some(OsStr::new(text)));
            match expected {
                Some(bits) => {
                    let mask = found.expect("it is good").expect("it is given");
                    assert_eq!(mask.bits(), bits, "{text}");
                }
                None => assert!(
                    found.expect_err("it is bad").to_string().contains(text),
                    "{text}"
                ),
            }
        }
        assert!(matches!(umask(None), Ok(None)));
        assert!(matches!(umask(Some(OsStr::new(""))), Ok(None)));
    }
}
