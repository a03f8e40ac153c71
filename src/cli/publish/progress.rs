//! How far a long run is, for a person at a terminal.
//!
//! 1. Nothing is shown where standard error is no terminal, nor with --quiet or -d, nor in the first moments: whoever
//!    sends one message or reads what is printed never sees it.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cli::client::options::Options;

/// What is over before this has no need to be shown.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often it is shown.
const INTERVAL: Duration = Duration::from_millis(200);

/// A line on standard error that is written over again and again.
#[derive(Debug)]
pub struct Progress {
    is_shown: bool,
    begin: Instant,
    next: Instant,
    is_on_screen: bool,
}

impl Progress {
    /// One that begins now.
    pub fn new(options: &Options) -> Progress {
        let now = Instant::now();
        Progress {
            is_shown: io::stderr().is_terminal() && !options.quiet && !options.debug,
            begin: now,
            next: now + PATIENCE,
            is_on_screen: false,
        }
    }

    /// `done` messages, of so many; `None` where nobody knows.
    pub fn show(&mut self, done: u64, wanted: Option<u64>) {
        if let Some(passed) = self.time_to_show() {
            let _ = write!(io::stderr(), "\r\x1b[K{}", text(done, wanted, passed));
        }
    }

    /// `left` bytes of one message of `all` have not been sent yet.
    pub fn show_bytes(&mut self, left: usize, all: usize) {
        if let Some(passed) = self.time_to_show() {
            let _ = write!(io::stderr(), "\r\x1b[K{}", bytes_text(left, all, passed));
        }
    }

    fn time_to_show(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if !self.is_shown || now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        self.is_on_screen = true;
        Some(now - self.begin)
    }

    /// Clears the line.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_on_screen) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn text(done: u64, wanted: Option<u64>, passed: Duration) -> String {
    let rate = done as f64 / passed.as_secs_f64().max(0.001);
    match wanted {
        Some(wanted) => {
            let percent = done.saturating_mul(100) / wanted.max(1);
            format!("{done} of {wanted} messages ({percent} %), {rate:.0} a second")
        }
        None => format!("{done} messages, {rate:.0} a second"),
    }
}

fn bytes_text(left: usize, all: usize, passed: Duration) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let (sent, all) = ((all - left.min(all)) as f64 / MIB, all as f64 / MIB);
    let rate = sent / passed.as_secs_f64().max(0.001);
    format!("{sent:.1} of {all:.1} MiB, {rate:.1} a second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let second = Duration::from_secs(2);
        assert_eq!(
            text(500, Some(1000), second),
            "500 of 1000 messages (50 %), 250 a second"
        );
        assert_eq!(text(3, None, second), "3 messages, 2 a second");
        let (left, all) = (1 << 20, 4 << 20);
        assert_eq!(
            bytes_text(left, all, second),
            "3.0 of 4.0 MiB, 1.5 a second"
        );
    }
}
