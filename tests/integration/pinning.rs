//! `cpu_affinity`, `--cpu` and `busy_poll_us`: where the loop and its helpers run, and that a loop which looks for events
//! misses nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::sched_getaffinity;

use crate::accounts::{SLOWER_HASH, start_with_users, user};
use crate::harness::*;

/// The cores that this process, and so the broker, may use.
fn cores() -> Vec<u32> {
    let allowed = sched_getaffinity(None).expect("the system tells");
    let is_allowed = |core: &u32| allowed.is_set(*core as usize);
    (0..1024).filter(is_allowed).collect()
}

/// As `/proc` lists them.
fn list(cores: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The loop's core and those of its helpers: the last core, and the others where there are any.
fn division() -> (u32, String) {
    let cores = cores();
    let (&own, others) = cores.split_last().expect("this runs somewhere");
    match others {
        [] => (own, own.to_string()),
        others => (own, list(others)),
    }
}

/// For each thread of the broker, by its name, the cores that it may use. The loop is called `loop`.
fn threads(broker: &Broker) -> BTreeMap<String, String> {
    let mut threads = BTreeMap::new();
    let tasks = format!("/proc/{}/task", broker.pid());
    for task in fs::read_dir(tasks).expect("it runs").flatten() {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue; // it ended
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let is_loop = task.file_name().to_str() == Some(&broker.pid().to_string());
        let name = if is_loop {
            "loop".to_owned()
        } else {
            field("Name:")
        };
        threads.insert(name, field("Cpus_allowed_list:"));
    }
    threads
}

/// Waits until `broker` has threads that stand so.
#[track_caller]
fn expect_threads(broker: &Broker, expected: &[(&str, &str)]) {
    let start = Instant::now();
    loop {
        let threads = threads(broker);
        let stands =
            |(name, cores): &(&str, &str)| threads.get(*name).is_some_and(|it| it == cores);
        if expected.iter().all(stands) {
            return;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{threads:?}, expected {expected:?}"
        );
    }
}

/// What `midge` with these arguments says on standard error, and its exit code.
fn complaint(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program()).args(arguments).output();
    let output = output.expect("it can be started");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn the_loop_has_a_core_and_helpers_the_others() {
    let (own, others) = division();
    let line = format!("cpu_affinity {own}");
    let broker = Broker::start_with(
        &[
            &line,
            "allow_anonymous false",
            "password_file {dir}/passwords",
        ],
        &[("passwords", &format!("user0:{SLOWER_HASH}\n"))],
    );
    // A password to compare brings a helper thread.
    let mut client = broker.open(Version::V5);
    client.send(user("a", "user0").password("foo"));
    assert_eq!(client.expect_connack().reason, 0);
    let own = own.to_string();
    expect_threads(
        &broker,
        &[("loop", &own), ("log", &others), ("passwords", &others)],
    );
}

#[test]
fn the_command_line_wins_and_a_reload_moves_threads() {
    let (own, others) = division();
    let all = list(&cores());
    let first = cores()[0];
    let line = format!("cpu_affinity {first}");
    let broker = Broker::start_in_shell(
        &format!("exec \"$1\" --cpu {own} -c {{dir}}/midge.conf"),
        &[&line],
    );
    let own_text = own.to_string();
    expect_threads(&broker, &[("loop", &own_text), ("log", &others)]);

    let broker = Broker::start(&[]);
    expect_threads(&broker, &[("loop", &all), ("log", &all)]);
    let line = format!("cpu_affinity {own}");
    broker.configure(&[&line]);
    broker.reload();
    expect_threads(&broker, &[("loop", &own_text), ("log", &others)]);
    broker.configure(&["cpu_affinity 1023"]);
    let log = broker.reload_refused();
    assert!(
        log.contains("Unable to pin the broker to core 1023"),
        "{log}"
    );
    broker.configure(&[]);
    broker.reload();
    expect_threads(&broker, &[("loop", &all), ("log", &all)]);
}

#[test]
fn a_core_that_is_not_there_ends_the_start() {
    let dir = new_dir();
    let config = dir.join("core.conf");
    let port = free_port();
    fs::write(
        &config,
        format!("listener {port} 127.0.0.1\ncpu_affinity 1023\n"),
    )
    .expect("a file");
    let config = config.to_str().expect("a path of ours");
    let said = format!(
        "Error: Unable to pin the broker to core 1023 (cpu_affinity, --cpu): there is no such core, or it may not be \
         used. Cores that may be used: {}.",
        list(&cores())
    );
    for (arguments, code) in [
        (&["-c", config][..], 1),
        (&["--test-config", "-c", config], 3),
        (&["--cpu", "1023", "-p", &port.to_string()], 1),
    ] {
        let (ended, text) = complaint(arguments);
        assert!(text.contains(&said), "{arguments:?}: {text}");
        assert_eq!(ended, Some(code), "{arguments:?}");
    }
    let (code, text) = complaint(&["--cpu", "x"]);
    assert!(text.contains("Invalid core specified (x)"), "{text}");
    assert_eq!(code, Some(3));
    fs::remove_dir_all(dir).expect("it is ours");
}

/// Packets, deadlines, helper threads and signals: a loop that does not sleep serves them all, and one that only looks for
/// a moment sleeps afterwards.
#[test]
fn a_loop_that_looks_for_events_serves_everything() {
    let broker = Broker::start_with(
        &[
            "busy_poll_us 1000000",
            "sys_interval 0",
            "allow_anonymous false",
            "password_file {dir}/passwords",
        ],
        &[("passwords", &format!("user0:{SLOWER_HASH}\n"))],
    );
    let let_in = |packet: Connect| {
        let mut client = broker.open(Version::V311);
        client.send(packet.username("user0").password("foo"));
        assert_eq!(client.expect_connack().reason, 0);
        client
    };
    let mut subscriber = let_in(connect("subscriber"));
    subscriber.subscribe("a", 0);
    let mut publisher = let_in(connect("publisher").keep_alive(1));
    publisher.send(publish("a", "b"));
    subscriber.expect(publish("a", "b"));
    // Keep Alive is a deadline.
    publisher.expect_closed();
    broker.wait_for_log("exceeded timeout");
    // SIGHUP is a signal, and reading the file is a helper's work.
    broker.reload();
    assert!(broker.stop_by(Signal::TERM).success());
}

/// The end of a stream that was announced with its last bytes is read in the next turn, for which no event comes.
#[test]
fn what_a_turn_left_over_does_not_wait_for_an_event() {
    let broker = Broker::start(&["busy_poll_us 1000000", "sys_interval 0"]);
    let stream = TcpStream::connect(broker.address()).expect("it listens");
    let mut client = Raw::over(stream.try_clone().expect("a file more"), Version::V311);
    client.send(connect("a"));
    assert_eq!(client.expect_connack().reason, 0);
    broker.signal(Signal::STOP);
    client.send(pingreq());
    stream.shutdown(Shutdown::Write).expect("it is open");
    broker.signal(Signal::CONT);
    let start = Instant::now();
    client.expect(pingresp());
    client.expect_closed();
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_loop_that_has_seen_nothing_for_long_enough_sleeps() {
    let broker = Broker::start(&["busy_poll_us 20000", "sys_interval 0"]);
    let mut client = broker.connect_v3("a");
    client.send(pingreq());
    client.expect(pingresp());
    std::thread::sleep(Duration::from_millis(200));
    broker.assert_sleeps();
}

#[test]
fn users_are_compared_beside_a_pinned_loop() {
    // Without pinning, helpers run anywhere: nothing is changed that nobody asked for.
    let broker = start_with_users(1, SLOWER_HASH);
    let _client = broker.connect_with(Version::V5, user("a", "user0").password("foo"));
    let all = list(&cores());
    expect_threads(&broker, &[("loop", &all), ("passwords", &all)]);
}
