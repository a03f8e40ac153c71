//! Which cores the threads run on: the loop on one of its own, the helpers on the others.
//!
//! It knows threads and cores, and neither settings nor what a thread does.
//! 1. What the process was allowed when it started is what it may use for good: pinning chooses among these cores, and
//!    without it all threads get them back.
//! 2. While the loop is pinned, a helper runs on its core only where there is no other.
//! 3. A thread begins where the one that started it runs, so each helper calls [`step_aside`] first.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

use crate::config::system_reason;

// Cores belong to the process, as the allocator does: every thread of it is subject to them, whoever starts it, so these
// are no state that somebody could own.

/// The cores that the process may use.
static ALLOWED: OnceLock<CpuSet> = OnceLock::new();

/// The cores that helpers use while the loop is pinned.
static HELPERS: Mutex<Option<CpuSet>> = Mutex::new(None);

/// Why the loop cannot be pinned.
#[derive(Debug)]
pub enum PinningError {
    /// The process may not use this core, or there is none; and which it may.
    NoSuchCore(u32, String),
    /// The system does not say which cores there are, or does not let a thread move.
    System(std::io::Error),
}

impl fmt::Display for PinningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinningError::NoSuchCore(core, allowed) => write!(
                f,
                "Error: Unable to pin the broker to core {core} (cpu_affinity, --cpu): there is no such core, or it may \
                 not be used. Cores that may be used: {allowed}."
            ),
            PinningError::System(error) => write!(
                f,
                "Error: Unable to pin the broker to a core (cpu_affinity, --cpu): {}.",
                system_reason(error)
            ),
        }
    }
}

impl std::error::Error for PinningError {}

impl From<rustix::io::Errno> for PinningError {
    fn from(error: rustix::io::Errno) -> PinningError {
        PinningError::System(error.into())
    }
}

/// Whether the loop could be pinned to `core`.
/// # Errors
/// If it could not.
pub fn check(core: Option<u32>) -> Result<(), PinningError> {
    let Some(core) = core else {
        return Ok(());
    };
    let allowed = allowed()?;
    match is_in(&allowed, core) {
        true => Ok(()),
        false => Err(PinningError::NoSuchCore(core, ranges(&allowed))),
    }
}

/// Pins this thread, which is the loop's, to `core`, and all others of the process to the other cores; `None` undoes that.
/// # Errors
/// If it cannot be; then all is as before.
pub fn apply(core: Option<u32>) -> Result<(), PinningError> {
    check(core)?;
    let mut helpers = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
    if core.is_none() && helpers.is_none() {
        // Who was never pinned has nothing to undo, and stays where the operator put it.
        return Ok(());
    }
    let allowed = allowed()?;
    let (own, others) = match core {
        None => (allowed, allowed),
        Some(core) => divide(&allowed, core),
    };
    sched_setaffinity(None, &own)?;
    *helpers = core.map(|_| others);
    for thread in other_threads() {
        // One that has just ended needs no core.
        let _ = sched_setaffinity(Some(thread), &others);
    }
    Ok(())
}

/// Moves this thread, a helper, off the loop's core.
pub fn step_aside() {
    let helpers = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cores) = &*helpers {
        // On the loop's core it would do its work as well, only at the loop's cost.
        let _ = sched_setaffinity(None, cores);
    }
}

fn allowed() -> Result<CpuSet, PinningError> {
    if let Some(allowed) = ALLOWED.get() {
        return Ok(*allowed);
    }
    let now = sched_getaffinity(None)?;
    Ok(*ALLOWED.get_or_init(|| now))
}

/// The loop's core, and the others, or the same where there are no others.
fn divide(allowed: &CpuSet, core: u32) -> (CpuSet, CpuSet) {
    let (mut own, mut others) = (CpuSet::new(), *allowed);
    own.set(core as usize);
    others.unset(core as usize);
    match others.count() {
        0 => (own, own),
        _ => (own, others),
    }
}

fn is_in(cores: &CpuSet, core: u32) -> bool {
    (core as usize) < CpuSet::MAX_CPU && cores.is_set(core as usize)
}

fn other_threads() -> Vec<Pid> {
    let own = gettid();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let threads = threads.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        Pid::from_raw(name.to_str()?.parse().ok()?)
    });
    threads.filter(|thread| *thread != own).collect()
}

/// As in `taskset -c`: 0-2,5.
fn ranges(cores: &CpuSet) -> String {
    let mut text = String::new();
    let mut core = 0;
    while core < CpuSet::MAX_CPU {
        if !cores.is_set(core) {
            core += 1;
            continue;
        }
        let first = core;
        while core < CpuSet::MAX_CPU && cores.is_set(core) {
            core += 1;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let range = match core - 1 {
            last if last == first => format!("{comma}{first}"),
            last => format!("{comma}{first}-{last}"),
        };
        text.push_str(&range);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cores: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cores.iter().for_each(|&core| set.set(core));
        set
    }

    #[test]
    fn cores_are_named_as_taskset_does() {
        for (cores, text) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[0, 1, 2, 5], "0-2,5"),
            (&[0, 2, 3, CpuSet::MAX_CPU - 1], "0,2-3,1023"),
        ] {
            assert_eq!(ranges(&set(cores)), text);
        }
    }

    #[test]
    fn helpers_share_a_core_only_where_there_is_one() {
        assert_eq!(divide(&set(&[0, 1, 4]), 1), (set(&[1]), set(&[0, 4])));
        assert_eq!(divide(&set(&[2]), 2), (set(&[2]), set(&[2])));
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(check(None).is_ok());
        let error = check(Some(1023)).expect_err("nobody tests with 1024 cores");
        let text = error.to_string();
        assert!(
            text.contains("core 1023") && text.contains("may be used: "),
            "{text}"
        );
    }
}
