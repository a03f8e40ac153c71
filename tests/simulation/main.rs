//! Simulations: the real broker, a virtual clock, a faulty network, clients of all versions, and a disk that forgets what was
//! not committed, all from one seed. See `oracle` for what is checked.
//!
//! A run that fails prints its seed and the shortest story that was found for it. `MIDGE_SIMULATION_SEED=n` runs that seed
//! alone, `MIDGE_SIMULATION_RUNS` runs so many new seeds, `MIDGE_SIMULATION_STEPS` how long each is, and
//! `MIDGE_SIMULATION_TRACE=1` prints each step.

mod client;
mod ledger;
mod oracle;
mod step;
mod stories;
mod world;

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::time::{SystemTime, UNIX_EPOCH};

use step::{Plan, Step};
use world::World;

thread_local! {
    /// Whether what panics on this thread is expected to.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What went wrong, if anything did.
fn outcome(plan: &Plan, steps: &[Step]) -> Result<(), String> {
    IS_QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| World::run(plan, steps)));
    IS_QUIET.set(false);
    result.map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        text.or_else(|| cause.downcast_ref::<&str>().map(|it| (*it).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned())
    })
}

/// The shortest story found that still goes wrong: parts are left out, large ones first.
fn shrink(plan: &Plan, mut steps: Vec<Step>) -> Vec<Step> {
    let mut tries = 0;
    let mut size = steps.len().div_ceil(2);
    loop {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && tries < 3000 {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            tries += 1;
            match outcome(plan, &fewer) {
                Err(_) => steps = fewer,
                Ok(()) => at += size,
            }
        }
        if tries >= 3000 || (size == 1 && steps.len() == before) {
            return steps;
        }
        size = (size / 2).max(1);
    }
}

fn run(seed: u64, count: usize) {
    let plan = Plan::new(seed);
    let steps = plan.steps(count);
    let Err(first) = outcome(&plan, &steps) else {
        return;
    };
    let steps = shrink(&plan, steps);
    let last = outcome(&plan, &steps).err().unwrap_or(first);
    let story: String = steps.iter().map(|step| format!("  {step:?}\n")).collect();
    panic!(
        "{last}\n\nMIDGE_SIMULATION_SEED={seed} MIDGE_SIMULATION_STEPS={count}, shortened to {} steps:\n{story}{plan:?}",
        steps.len()
    );
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// The same seeds in every run, so that it fails for those alone who broke something; or as many new ones as are asked for.
#[test]
fn seeds() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_QUIET.get() {
            hook(info);
        }
    }));
    let count = number("MIDGE_SIMULATION_STEPS").unwrap_or(300) as usize;
    if std::env::var_os("MIDGE_SIMULATION_TRACE").is_some() {
        env_logger::Builder::new()
            .filter_level(log::LevelFilter::Debug)
            .init();
    }
    if let Some(seed) = number("MIDGE_SIMULATION_SEED") {
        return run(seed, count);
    }
    let (first, runs) = match number("MIDGE_SIMULATION_RUNS") {
        Some(runs) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            (
                since.expect("after 1970").as_nanos() as u64 & 0xFFFF_FFFF,
                runs,
            )
        }
        None => (1, 300),
    };
    for seed in first..first + runs {
        run(seed, count);
    }
}
