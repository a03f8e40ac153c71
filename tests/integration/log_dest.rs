//! Where log lines go, and that nobody waits for them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Instant;

use crate::harness::*;

/// Long enough for a few thousand packets to make more lines than wait for a destination.
fn long_topic() -> String {
    "topic/".repeat(40)
}

/// Lines of more than the queue of a destination holds, which is 1 MiB, and the same again for what is being written.
const PACKETS: usize = 12_000;

/// Exchanges so many packets that the log is longer than what may wait.
fn flood(broker: &Broker) {
    let mut client = broker.connect_v5("client");
    let topic = long_topic();
    for _ in 0..PACKETS / 100 {
        for _ in 0..100 {
            client.send(publish(&topic, "x"));
        }
        client.fence();
    }
}

/// A reader of the log that stopped, as a paused terminal or a stuck supervisor, stops nothing else.
#[test]
fn a_log_that_nobody_reads() {
    // The broker itself holds the other end open, so that the pipe is full instead of broken.
    let pipe = "mkfifo '{dir}/pipe'; exec 9<>'{dir}/pipe'; exec \"$@\"";
    for (shell, destination) in [
        (format!("{pipe} 2>'{{dir}}/pipe'"), "log_dest stderr"),
        (format!("{pipe} >'{{dir}}/pipe'"), "log_dest stdout"),
    ] {
        let broker = Broker::start_in_shell(&shell, &[destination]);
        flood(&broker);
        let start = Instant::now();
        assert!(broker.stop().success());
        assert!(start.elapsed() < DEADLINE / 2, "the end waits for it");
    }
}

/// Once it is read again, what waited comes in order, and then how many lines are missing.
#[test]
fn a_log_that_is_read_again() {
    let shell = "mkfifo '{dir}/pipe'; exec 9<>'{dir}/pipe'; exec \"$@\" 2>'{dir}/pipe'";
    let broker = Broker::start_in_shell(shell, &["log_timestamp false"]);
    flood(&broker);
    let pipe = File::open(broker.dir().join("pipe")).expect("the shell made it");
    let mut lines = BufReader::new(pipe).lines().map(|line| line.expect("text"));
    let starting = lines.next().expect("the broker holds the pipe open");
    assert!(starting.starts_with("mosquitto version "), "{starting}");
    let lost = lines
        .find_map(|line| Some(line.strip_prefix("Warning: ")?.to_owned()))
        .expect("the broker holds the pipe open");
    let (lost, _) = lost
        .split_once(" log lines were lost")
        .unwrap_or_else(|| panic!("{lost}"));
    assert!(lost.parse::<usize>().is_ok_and(|lost| lost > 0), "{lost}");
    broker.connect_v5("later").fence();
    assert!(lines.any(|line| line.contains("Sending PINGRESP to later")));
}

/// A full standard output keeps nothing from standard error.
#[test]
fn one_destination_does_not_hold_up_another() {
    let shell = "mkfifo '{dir}/pipe'; exec 9<>'{dir}/pipe'; exec \"$@\" >'{dir}/pipe'";
    let broker = Broker::start_in_shell(shell, &["log_dest stdout", "log_dest stderr"]);
    flood(&broker);
    broker.connect_v5("later").fence();
    broker.wait_for_log("Sending PINGRESP to later");
}

/// Nothing that was logged is missing when the process has ended.
#[test]
fn the_last_line_is_written() {
    let broker = Broker::start_in_shell("exec \"$@\" 2>'{dir}/err'", &[]);
    let dir = broker.dir().to_owned();
    let mut client = broker.connect_v5("client");
    for _ in 0..500 {
        client.send(publish("a", "x"));
    }
    client.fence();
    // The directory goes with the broker: another name for the file outlives it.
    let kept = dir.with_extension("err");
    std::fs::hard_link(dir.join("err"), &kept).expect("the shell made it");
    assert!(broker.stop().success());
    let text = std::fs::read_to_string(&kept).expect("it is there");
    std::fs::remove_file(&kept).expect("it is there");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" terminating"), "{last}");
    assert!(text.lines().filter(|line| line.contains("PUBLISH")).count() >= 500);
}
