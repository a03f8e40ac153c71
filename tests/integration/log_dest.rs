//! Where log lines go, and that nobody waits for them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

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
    let starting = lines.find(|line| line.starts_with("mosquitto version "));
    assert!(starting.is_some_and(|line| line.ends_with(" starting")));
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
    fs::hard_link(dir.join("err"), &kept).expect("the shell made it");
    assert!(broker.stop().success());
    let text = fs::read_to_string(&kept).expect("it is there");
    fs::remove_file(&kept).expect("it is there");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.ends_with(" terminating"), "{last}");
    assert!(text.lines().filter(|line| line.contains("PUBLISH")).count() >= 500);
}

/// A directory that the broker can write to whoever it becomes.
const OPEN_DIR: &str = "chmod 777 '{dir}'; exec \"$@\"";

/// Waits until the file has a line with `text`.
#[track_caller]
fn wait_for_line(file: &Path, text: &str) {
    let start = Instant::now();
    loop {
        let found = fs::read_to_string(file).unwrap_or_default();
        if found.lines().any(|line| line.contains(text)) {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "no {text:?} in\n{found}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_file_that_is_rotated() {
    let settings = ["log_dest file {dir}/log", "log_dest stderr"];
    let broker = Broker::start_in_shell(OPEN_DIR, &settings);
    let file = broker.dir().join("log");
    wait_for_line(&file, " running");
    let mode = fs::metadata(&file).expect("it is there").mode();
    assert_eq!(mode & 0o777, 0o600, "it is for nobody else to read");
    let mut client = broker.connect_v5("client");
    let pid = broker.pid();
    let reopen = || {
        // SIGRTMIN, as the C library counts.
        let status = Command::new("kill")
            .args(["-34", &pid.to_string()])
            .status();
        assert!(status.expect("there is a kill").success());
    };
    for (round, by_hangup) in [true, false].into_iter().enumerate() {
        let rotated = broker.dir().join(format!("log.{round}"));
        fs::rename(&file, &rotated).expect("it is there");
        // Until it is told, the broker goes on where it was.
        client.send(publish(&format!("before/{round}"), "x"));
        wait_for_line(&rotated, &format!("before/{round}"));
        if by_hangup {
            broker.signal(Signal::HUP);
        } else {
            reopen();
        }
        let start = Instant::now();
        while !file.exists() && start.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(5));
        }
        client.send(publish(&format!("after/{round}"), "x"));
        wait_for_line(&file, &format!("after/{round}"));
    }
    // What cannot be opened again is told, and the old file goes on.
    let rotated = broker.dir().join("log.2");
    fs::rename(&file, &rotated).expect("it is there");
    fs::create_dir(&file).expect("the directory is ours");
    reopen();
    let line = broker.wait_for_log("Error: Unable to open log file");
    assert!(line.contains("Is a directory"), "{line}");
    wait_for_line(&rotated, "Error: Unable to open log file");
    client.fence();
}

/// What is logged can be subscribed to, without being an occasion to log more.
#[test]
fn topics() {
    let broker = Broker::start(&["log_dest topic", "log_dest stderr", "log_timestamp false"]);
    let mut client = broker.connect_v5("watching");
    client.subscribe("$SYS/broker/log/#", 0);
    let mut next = |suffix: &str, text: &str| {
        let topic = format!("$SYS/broker/log/{suffix}");
        loop {
            let packet = client.expect_publish();
            if packet.topic == topic && String::from_utf8_lossy(&packet.payload).contains(text) {
                return;
            }
            assert!(!packet.topic.ends_with("/D"), "nothing for developers");
        }
    };
    let mut other = broker.connect_v5("other");
    next("N", "New client connected from");
    other.subscribe("a", 0);
    next("M/subscribe", "other 0 a");
    other.send(unsubscribe(9, &["a"]));
    next("M/unsubscribe", "other a");
    other.send(disconnect());
    next("N", "Client other ");
}

/// A log file that cannot be opened, as in a container without its directory, ends no start.
#[test]
fn a_file_that_cannot_be_opened() {
    let broker = Broker::start(&["log_dest file {dir}/missing/midge.log"]);
    broker.wait_for_log("Error: Unable to open log file");
    broker.connect_v5("client").leave();
    broker.wait_for_log("Client client [");
}
