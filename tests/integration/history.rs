//! What broke in Mosquitto, row by row, so that it does not break here.
mod memory;
mod packets;
mod rights;
mod stored;

use std::time::{Duration, Instant};

use crate::harness::*;

/// A client that behaves, and is served within a time that a person would not notice, whatever others do.
struct Witness(Raw);

impl Witness {
    fn of(broker: &Broker) -> Witness {
        Witness(broker.connect_v5("witness"))
    }

    /// Its ping is answered.
    #[track_caller]
    fn is_served(&mut self) -> Duration {
        let start = Instant::now();
        self.0.fence();
        start.elapsed()
    }
}

/// How much memory a broker may be found with after an attack, in KiB, beside what it had: what an allocator keeps.
const SLACK_KIB: u64 = 6 * 1024;

/// Does the same thing again and again: what is kept for the next time is there after the first times, and from then on the
/// memory of the broker stays as it is. `leak_kib` is what each round would add if it left everything behind.
#[track_caller]
fn assert_memory_stays(broker: &Broker, leak_kib: u64, mut round: impl FnMut()) {
    const ROUNDS: usize = 8;
    let leak_kib = leak_kib * ROUNDS as u64 / 2;
    assert!(leak_kib > 2 * SLACK_KIB, "a leak of {leak_kib} KiB would not be seen");
    let mut resident = Vec::new();
    for _ in 0..ROUNDS {
        round();
        resident.push(broker.status("VmRSS"));
    }
    let [.., last] = resident[..] else {
        unreachable!("there are rounds")
    };
    let growth = last.saturating_sub(resident[ROUNDS / 2 - 1]);
    assert!(growth < SLACK_KIB, "{growth} KiB more: {resident:?}");
}

/// The end of a client's connection without a word; the broker has seen it when this returns.
fn cut(mut client: Raw) {
    client.shutdown_send();
    assert!(client.drain_until_closed().is_some());
}

/// The processor time that the broker has used so far.
fn cpu(broker: &Broker) -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = broker.proc("stat");
    // Behind the name, which may hold anything, the fields have their numbers less 3.
    let behind = stat.rsplit(')').next().expect("proc(5)");
    let ticks = |field: usize| -> u64 {
        let text = behind.split_whitespace().nth(field - 3);
        text.expect("proc(5)").parse().expect("proc(5)")
    };
    Duration::from_millis((ticks(14) + ticks(15)) * 1000 / TICKS_PER_SECOND)
}

/// Asserts that `attack` costs the broker no more processor time than `allowed`, and says what it was.
#[track_caller]
fn assert_costs(broker: &Broker, allowed: Duration, attack: impl FnOnce()) {
    let before = cpu(broker);
    attack();
    let cost = cpu(broker) - before;
    assert!(cost < allowed, "{cost:?} of processor time");
}
