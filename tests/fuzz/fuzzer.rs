//! libFuzzer around one target, which the environment's `MIDGE_FUZZ` names.
//!
//! With a directory in `MIDGE_FUZZ_SEEDS` it writes the target's seeds there and ends.
#![no_main]

#[path = "targets/mod.rs"]
mod targets;

use std::path::PathBuf;
use std::sync::LazyLock;
use targets::{TARGETS, Target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("MIDGE_FUZZ").expect("MIDGE_FUZZ names a target");
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}"))
});

fn begin() {
    targets::log_into_nothing();
    let Some(folder) = std::env::var_os("MIDGE_FUZZ_SEEDS").map(PathBuf::from) else {
        return;
    };
    for (number, seed) in (TARGET.seeds)().iter().enumerate() {
        assert!(seed.len() <= TARGET.bytes_max);
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("it can be written");
    }
    std::process::exit(0);
}

libfuzzer_sys::fuzz_target!(init: begin(), |bytes: &[u8]| (TARGET.feed)(bytes));
