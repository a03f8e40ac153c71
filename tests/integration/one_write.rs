//! Output: one vectored write for each client and turn, and no other system call than that to get there.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use crate::harness::*;

/// How often each burst is tried. A broker that writes message by message may be lucky once.
const BURSTS: usize = 20;

/// As many small messages as fit in one segment, so that they reach the broker in one read.
const MESSAGES: usize = 100;

fn burst() -> Vec<u8> {
    publish("a/b", "0123456789")
        .encode(Version::V311)
        .repeat(MESSAGES)
}

fn subscribed(broker: &Broker, client_id: &str) -> Raw {
    let mut client = broker.connect_v3(client_id);
    client.send(subscribe(1).filter("a/#", 0));
    client.expect(suback(1, &[0]));
    client
}

/// How many bursts may come in more than one read: the kernel may cut a write in two when it is short of memory.
const CUT_BURSTS_MAX: usize = 2;

/// Sends each burst and reads what it comes to, `bytes` bytes: in one read each, but for a few.
///
/// A client that waits in `read` sees each write of the broker as a read of its own, unless they come faster than it
/// wakes up. All in one read nearly every time means: all in one write.
#[track_caller]
fn assert_single_reads(receiver: &Raw, bytes: usize, mut send_burst: impl FnMut()) {
    let mut socket = receiver.socket();
    socket
        .set_read_timeout(Some(DEADLINE))
        .expect("it is not zero");
    let mut buffer = vec![0; 2 * bytes];
    let mut reads = Vec::new();
    for _ in 0..BURSTS {
        send_burst();
        let (mut received, mut count) = (0, 0);
        while received < bytes {
            received += socket.read(&mut buffer).expect("the burst comes");
            count += 1;
        }
        assert_eq!(received, bytes);
        reads.push(count);
    }
    let cut = reads.iter().filter(|&&count| count > 1).count();
    assert!(cut <= CUT_BURSTS_MAX, "reads for each burst: {reads:?}");
}

#[test]
fn a_burst_is_one_write() {
    let broker = Broker::start(&["log_type error"]);
    let subscriber = subscribed(&broker, "subscriber");
    let mut publisher = broker.connect_v3("publisher");
    let burst = burst();
    assert_single_reads(&subscriber, burst.len(), || publisher.send(&burst));
}

/// Acknowledgements ride with what else the turn has for their client.
#[test]
fn acknowledgements_ride_with_messages() {
    let broker = Broker::start(&["log_type error"]);
    let client = subscribed(&broker, "client");
    let mut burst = Vec::new();
    for packet_id in 1..=20 {
        let message = publish("a/b", "x").qos(1).packet_id(packet_id);
        burst.extend(message.encode(Version::V311));
        burst.extend(b"\xc0\x00");
    }
    // For each a PUBLISH of 8 bytes, a PUBACK and a PINGRESP.
    let answers = 20 * (8 + 4 + 2);
    assert_single_reads(&client, answers, || {
        let mut socket = client.socket();
        socket.write_all(&burst).expect("the connection is open");
    });
}

/// A broker whose system calls on sockets and on the poller are in `{dir}/calls`.
fn traced_broker() -> Broker {
    let found = Command::new("strace").arg("--version").output();
    assert!(
        found.is_ok(),
        "this test needs strace: `apt-get install strace`"
    );
    Broker::start_in_shell(
        "exec strace -D -o '{dir}/calls' \
         -e trace=read,recvfrom,write,writev,sendto,sendmsg,epoll_ctl,accept4 \"$@\"",
        &["log_type error", "sys_interval 0"],
    )
}

/// The system calls that a traced broker has made so far, a line each.
///
/// The last one may be missing: its effect can be seen before the line about it. So all that was made before the answer
/// to a ping is there.
fn calls_of(broker: &Broker) -> String {
    fs::read_to_string(broker.dir().join("calls")).expect("strace writes it")
}

/// How many of `calls` have one of these names, and how many of these moved `bytes` bytes.
fn count(calls: &str, names: &[&str], bytes: usize) -> (usize, usize) {
    let is_named = |line: &&str| {
        let name = line.split('(').next();
        name.is_some_and(|name| names.contains(&name))
    };
    let all: Vec<&str> = calls.lines().filter(is_named).collect();
    let result = format!(" = {bytes}");
    let moved = all.iter().filter(|line| line.ends_with(&result)).count();
    (all.len(), moved)
}

/// One read that drains the publisher's socket, one write for each subscriber, however many messages; and the poller is
/// told of a socket when it is accepted, and never again.
#[test]
#[ignore = "needs strace: `cargo test --test integration -- --ignored`"]
fn system_calls_of_a_burst() {
    let broker = traced_broker();
    let mut subscribers: Vec<Raw> = (0..10)
        .map(|number| subscribed(&broker, &format!("subscriber{number}")))
        .collect();
    let mut publisher = broker.connect_v3("publisher");
    let message = publish("a/b", "0123456789");
    let burst = burst();
    publisher.fence();
    let before = calls_of(&broker);
    for _ in 0..BURSTS {
        publisher.send(&burst);
        for subscriber in &mut subscribers {
            for _ in 0..MESSAGES {
                subscriber.expect(message.clone());
            }
        }
    }
    publisher.fence();
    let after = calls_of(&broker);
    let reads = ["read", "recvfrom"];
    let writes = ["write", "writev", "sendto", "sendmsg"];
    for (names, expected) in [(&reads[..], BURSTS), (&writes[..], 10 * BURSTS)] {
        let (all_before, _) = count(&before, names, burst.len());
        let (all, whole) = count(&after, names, burst.len());
        assert_eq!(whole, expected, "{names:?} of a whole burst");
        // The two pings are all that was besides.
        assert!(all - all_before <= expected + 2, "{names:?}: {all}");
    }
    let polls = |calls: &str| count(calls, &["epoll_ctl"], 0).0;
    assert_eq!(
        polls(&after),
        polls(&before),
        "a burst is no news for the poller"
    );
    let accepted = |line: &&str| line.starts_with("accept4(") && !line.contains(" = -1 ");
    let accepted = after.lines().filter(accepted).count();
    // Each connection once, besides the listener, the signals, the waker and the clock.
    assert!(
        polls(&after) <= accepted + 4,
        "{} for {accepted}",
        polls(&after)
    );
}
