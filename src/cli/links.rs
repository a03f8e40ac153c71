//! `midge links DIR`: links that let scripts call this program by Mosquitto's names.
//!
//! 1. What is no link to this program is never replaced.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{EXIT_FAILED, program_names};
use crate::config::system_reason;

const USAGE: &str = "\
Usage: midge links DIR

Makes links in DIR that let this program be called as mosquitto, mosquitto_pub, mosquitto_sub, mosquitto_rr,
mosquitto_passwd and mosquitto_signal. DIR is made if it is not there. Files that are there and are no links to this program stay as
they are, and the exit code is 1 then.

Example, for one shell only:
  midge links ~/.midge/bin && export PATH=~/.midge/bin:\"$PATH\"
";

/// Runs the command.
pub fn main(_called: &OsStr, arguments: &[OsString]) -> ExitCode {
    match arguments {
        [help] if help == "--help" || help == "-h" => {
            super::tool::print(USAGE);
            ExitCode::SUCCESS
        }
        [directory] if !directory.to_string_lossy().starts_with('-') => {
            make_all(Path::new(directory))
        }
        _ => {
            eprintln!("Error: one directory is expected, in which to make the links.\n\n{USAGE}");
            EXIT_FAILED.into()
        }
    }
}

fn make_all(directory: &Path) -> ExitCode {
    let fail = |what: String, error: &io::Error| {
        eprintln!("Error: {what}: {}.", system_reason(error));
        ExitCode::from(EXIT_FAILED)
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return fail("Unable to find this program's own file".to_owned(), &error),
    };
    if let Err(error) = fs::create_dir_all(directory) {
        return fail(
            format!("Unable to make the directory {}", directory.display()),
            &error,
        );
    }
    let mut code = ExitCode::SUCCESS;
    for name in program_names() {
        let link = directory.join(name);
        match make(&link, &program) {
            Ok(made) => {
                let verb = if made { "made" } else { "is there" };
                println!("{} -> {} ({verb})", link.display(), program.display());
            }
            Err(error) => code = fail(format!("Unable to make {}", link.display()), &error),
        }
    }
    code
}

/// Makes one link; false if it was there.
fn make(link: &Path, program: &PathBuf) -> io::Result<bool> {
    match symlink(program, link) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link whose target is gone, or was this program under another path, is one all the same.
            match fs::read_link(link) {
                Ok(target) if &target == program => Ok(false),
                Ok(target) if is_this_program(&target) => {
                    fs::remove_file(link)?;
                    symlink(program, link)?;
                    Ok(true)
                }
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Whether an earlier build of this program may have stood at `path`.
fn is_this_program(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "midge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_of_its_own_are_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let program = at("midge");
        fs::write(at("file"), "").expect("written");
        symlink("/usr/bin/true", at("other")).expect("linked");
        symlink("/old/midge", at("old")).expect("linked");
        assert!(make(&at("new"), &program).expect("made"));
        assert!(!make(&at("new"), &program).expect("there"));
        assert!(make(&at("old"), &program).expect("made"));
        assert_eq!(fs::read_link(at("old")).expect("a link"), program);
        assert!(make(&at("file"), &program).is_err());
        assert!(make(&at("other"), &program).is_err());
    }
}
