//! What the kernel says of a process: its CPU time and resident memory, from /proc.
//!
//! Knows no MQTT and no sockets. CPU time covers all threads that live, user and system together, in nanoseconds
//! where the kernel keeps /proc/PID/task/TID/schedstat, else in steps of 10 ms. A thread that ends between two looks
//! takes its time away with it: helper threads of a broker are to be idle by then or to stay.

use std::fs;
use std::io;

/// Nanoseconds in a tick of /proc/PID/stat: USER_HZ is 100 wherever Rust's std runs on Linux, but on Alpha.
const TICK_NS: u64 = 10_000_000;

/// A moment in the life of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time so far, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident set size now, in KiB.
    pub resident_kib: u64,
}

/// The usage of process `pid`, or of this one ("self").
///
/// # Errors
/// The process is gone, or /proc is not readable.
pub fn usage(pid: &str) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let cpu_ns = match scheduled_ns(pid) {
        Ok(ns) if ns > 0 => ns,
        _ => {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            cpu_ticks(&stat).ok_or_else(unreadable)? * TICK_NS
        }
    };
    Ok(Usage {
        cpu_ns,
        resident_kib: resident_kib(&status).ok_or_else(unreadable)?,
    })
}

/// The first number of each thread's schedstat: time on a CPU (kernel documentation, sched-stats).
fn scheduled_ns(pid: &str) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ended since the directory was read counts for nothing, as one that ended before.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let first = line.split_ascii_whitespace().next();
        sum += first
            .and_then(|number| number.parse::<u64>().ok())
            .ok_or_else(unreadable)?;
    }
    Ok(sum)
}

/// utime and stime: fields 14 and 15 of proc(5). The second field, the name in parentheses, may hold anything, so
/// counting starts behind its end, at field 3.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "/proc is not as expected")
}
