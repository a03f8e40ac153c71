//! Between a process in the background and the one that started it: how the start went.
//!
//! The process in the background has no terminal. Until it serves clients, or ends because it cannot, the other one
//! waits at the far end of what is its standard input, to tell the caller.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus, Stdio};

use rustix::net::{SendFlags, Shutdown};

/// The environment variable that is set for the process in the background.
pub const VARIABLE: &str = "MIDGE_BACKGROUND";

/// What the process in the background says when it serves clients.
const STARTED: &[u8] = b"started\n";

/// How much the process in the background can tell of its failure, in bytes.
const TELL_BYTES_MAX: u64 = 64 << 10;

/// How a start in the background went.
#[derive(Debug)]
pub enum Start {
    /// It serves clients.
    Done,
    /// It has ended, with these lines for standard error.
    Failed(Vec<u8>, ExitStatus),
}

/// Starts `command` in the background, and waits until it says how that went by [`tell_started`] or [`tell_failed`].
///
/// # Errors
/// If it cannot be started.
pub fn start(mut command: Command) -> io::Result<Start> {
    let (near, far) = UnixStream::pair()?;
    let mut child = command
        .env(VARIABLE, "1")
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Its copy of the far end would keep the conversation open.
    drop(command);
    let mut told = Vec::new();
    near.take(TELL_BYTES_MAX).read_to_end(&mut told)?;
    if told == STARTED {
        return Ok(Start::Done);
    }
    Ok(Start::Failed(told, child.wait()?))
}

/// Whether this process was started by [`start`].
pub fn is_here() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// In the background: lets the caller go, since the start has succeeded. In the foreground nothing.
pub fn tell_started() {
    if is_here() {
        tell(io::stdin(), STARTED);
        forget_caller();
    }
}

/// In the background: has the caller print `text`. This process is to end with the exit code that the caller's will be.
/// In the foreground nothing.
pub fn tell_failed(text: &str) {
    if is_here() {
        tell(io::stdin(), format!("{text}\n").as_bytes());
    }
}

/// Whoever called may have gone by now, and a standard input that is no socket has nobody behind it.
fn tell(caller: impl AsFd, text: &[u8]) {
    let _ = rustix::net::send(&caller, text, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    // Not a close, which would leave the number of standard input to the next file.
    let _ = rustix::net::shutdown(&caller, Shutdown::Both);
}

/// Standard input becomes what it is for every other daemon.
fn forget_caller() {
    if let Ok(nothing) = std::fs::File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&nothing); // then it stays a socket with nobody behind it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Start {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        start(command).expect("there is a shell")
    }

    #[test]
    fn what_the_caller_learns() {
        assert!(matches!(
            shell("echo started >&0; exec <&-; sleep 0"),
            Start::Done
        ));
        for (line, expected, code) in [
            ("exit 3", "", 3),
            (
                "echo Error: it is late. >&0; exit 1",
                "Error: it is late.\n",
                1,
            ),
            ("echo gone; echo gone >&2; exit 0", "", 0),
        ] {
            match shell(line) {
                Start::Failed(told, status) => {
                    assert_eq!(String::from_utf8_lossy(&told), expected);
                    assert_eq!(status.code(), Some(code));
                }
                Start::Done => panic!("{line}"),
            }
        }
    }

    #[test]
    fn what_is_told() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        tell(&far, STARTED);
        let mut told = Vec::new();
        near.read_to_end(&mut told).expect("it was shut down");
        assert_eq!(told, STARTED);
        // Nobody is there any more, or never was.
        drop(near);
        tell(&far, STARTED);
        tell(
            std::fs::File::open("/dev/null").expect("it is there"),
            STARTED,
        );
    }
}
