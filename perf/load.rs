//! A load for any MQTT broker on this machine, from one thread: publishers with a bounded number of messages under way
//! or at a fixed rate, subscribers that check that nothing is lost, doubled or out of order; retained and queued
//! messages, wildcard subscriptions, connections that come and go or stay and say nothing. With TLS or without.
//!
//! The figures it prints are a JSON object on standard output: above all the CPU time that the broker's process took,
//! and its own too, so that its limit is not mistaken for the broker's. `perf/README.md` explains them, and
//! `perf/compare` runs it against several brokers.

#[path = "load/engine.rs"]
mod engine;
#[path = "load/handshake.rs"]
mod handshake;
#[path = "load/histogram.rs"]
mod histogram;
#[path = "load/options.rs"]
mod options;
#[path = "load/process.rs"]
mod process;
#[path = "load/publisher.rs"]
mod publisher;
#[path = "load/report.rs"]
mod report;
#[path = "load/scenario.rs"]
mod scenario;
#[path = "load/storm.rs"]
mod storm;
#[path = "load/stream.rs"]
mod stream;
#[path = "load/traffic.rs"]
mod traffic;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match options::parse(&arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("Error: {error}\n\n{}", options::usage());
            return ExitCode::from(2);
        }
    };
    raise_file_limit();
    match scenario::run(&options) {
        Ok(report) => {
            println!("{}", report.json());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// As many descriptors as we may have; too few will be told by the connection that fails.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("limit of open files: {error}");
    }
}
