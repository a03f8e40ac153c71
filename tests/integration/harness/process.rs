//! What the system knows of a broker process: how often it woke up, what it used, what memory it has.

use std::fs;
use std::thread;
use std::time::Duration;

use super::Broker;

/// How long a broker is watched for wake-ups: longer than a second, so that none of once a second slips through.
const WATCH: Duration = Duration::from_millis(1200);

/// How often it is watched again. What it did just before may end in a late event, such as an acknowledgement by the
/// kernel; a broker that wakes up by itself does so every time.
const WATCHES: usize = 4;

/// What tells that a process ran.
#[derive(Clone, Copy)]
struct Activity {
    /// Voluntary and other context switches: one more for each time that it slept or was put aside.
    switches: u64,
    /// Processor time in clock ticks: a process that never sleeps need not be switched.
    ticks: u64,
}

impl Broker {
    /// A file of `/proc` about this process.
    pub fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The number in a line of `/proc/PID/status`, such as `VmRSS`, which is in KiB.
    pub fn status(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let value = status.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then_some(value)
        });
        let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in\n{status}"))
    }

    fn activity(&self) -> Activity {
        let stat = self.proc("stat");
        // Behind the name, which may hold anything, the fields have their numbers less 3.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |field: usize| fields[field - 3].parse::<u64>().expect("proc(5)");
        Activity {
            switches: self.status("voluntary_ctxt_switches")
                + self.status("nonvoluntary_ctxt_switches"),
            ticks: ticks(14) + ticks(15),
        }
    }

    /// Watches the broker for more than a second: how often it woke up, and for how many clock ticks it ran.
    fn watch(&self) -> (u64, u64) {
        let before = self.activity();
        thread::sleep(WATCH);
        let after = self.activity();
        (after.switches - before.switches, after.ticks - before.ticks)
    }

    /// Asserts that the broker sleeps: for more than a second it does not run at all.
    #[track_caller]
    pub fn assert_sleeps(&self) {
        self.assert_wakes_at_most(0);
    }

    /// Asserts that the broker wakes up so often at most in a little more than a second, and is idle in between.
    #[track_caller]
    pub fn assert_wakes_at_most(&self, times: u64) {
        let mut watched = Vec::new();
        for _ in 0..WATCHES {
            let (switches, ticks) = self.watch();
            // A wake-up takes less than a tick, but one can be charged with a whole one.
            if switches <= times && ticks <= times {
                return;
            }
            watched.push((switches, ticks));
        }
        panic!("(wake-ups, clock ticks) in {WATCH:?} each: {watched:?}; {times} are allowed");
    }
}
