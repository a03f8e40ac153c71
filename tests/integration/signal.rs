//! `midge signal`: what brokers are told from a command line.

use std::process::{Command, Output};

use crate::harness::*;

fn signal(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    let ended = command.arg("signal").args(arguments).output();
    ended.expect("the program runs")
}

#[track_caller]
fn told(broker: &Broker, name: &str) {
    let ended = signal(&["-p", &broker.pid().to_string(), name]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn a_broker_hears_what_it_is_told() {
    let broker = Broker::start(&[]);
    told(&broker, "config-reload");
    broker.wait_for_log("Config reloaded.");
    told(&broker, "log-rotate");
    broker.wait_for_log_times("Config reloaded.", 2);
    let _reader = broker.subscriber(Version::V5, "reader", "tree/of/topics", 0);
    told(&broker, "tree-print");
    told(&broker, "shutdown");
    broker.wait_for_log("terminating");
}

#[test]
fn who_is_not_there_is_told_by_the_exit_code() {
    let mut gone = Command::new("true").spawn().expect("it runs");
    let pid = gone.id().to_string();
    gone.wait().expect("it ends");
    let ended = signal(&["-p", &pid, "shutdown"]);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(
        said,
        format!("Error: Unable to signal process {pid}: No such process.\n")
    );
    let ended = signal(&["--help"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("config-reload"));
}
