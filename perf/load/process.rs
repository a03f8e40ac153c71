//! What the kernel says of a process: its CPU time and resident memory, from /proc. Knows no MQTT and no sockets.

use std::fs;
use std::io;

/// A moment in the life of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a core so far, of all threads, in microseconds: to the nanosecond that the scheduler counts in.
    pub cpu_us: f64,
    /// Resident set size now, in KiB.
    pub resident_kib: u64,
}

/// The usage of process `pid`, or of this one ("self").
///
/// # Errors
/// The process is gone, or /proc is not readable.
pub fn usage(pid: &str) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended takes its time with it, as no broker's does in a run.
        if let Ok(times) = fs::read_to_string(thread?.path().join("schedstat")) {
            nanoseconds += on_core(&times).ok_or_else(unreadable)?;
        }
    }
    Ok(Usage {
        cpu_us: nanoseconds as f64 / 1000.0,
        resident_kib: resident_kib(&status).ok_or_else(unreadable)?,
    })
}

/// The first of the three numbers of schedstat.
fn on_core(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "/proc has another form")
}
