//! `turns LOAD COUNT`: so many turns of the broker under one load of `benches/turn.rs`, for `perf/instructions` to count;
//! `turns` alone lists the loads, with the messages that each delivers in a turn.

#[path = "../benches/common/mod.rs"]
mod common;

use std::process::ExitCode;

use common::{LOADS, Turns};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, count] = &arguments[..] else {
        for load in LOADS {
            println!("{} {}", load.name, Turns::new(load).deliveries());
        }
        return ExitCode::SUCCESS;
    };
    let load = LOADS.into_iter().find(|load| load.name == name);
    let (Some(load), Ok(count)) = (load, count.parse::<u32>()) else {
        eprintln!("Error: expected the name of a load and a number of turns, got {name} {count}");
        return ExitCode::FAILURE;
    };
    let mut turns = Turns::new(load);
    for _ in 0..count {
        turns.turn();
    }
    ExitCode::SUCCESS
}
