//! The loop: an idle broker sleeps, nobody is starved, signals, address families, and running out of files.

use std::io::{ErrorKind, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::*;

/// A broker that has no reason of its own to wake up.
fn quiet_broker() -> Broker {
    Broker::start(&["sys_interval 0"])
}

/// The same, and so little to write that a flood of packets is not a flood of log lines.
fn quiet_broker_without_log() -> Broker {
    Broker::start(&["sys_interval 0", "log_type error"])
}

/// A client that cannot take more than a few kilobytes before it reads.
fn narrow(broker: &Broker, version: Version, client_id: &str) -> Raw {
    let mut client = Raw::over(narrow_socket(broker), version);
    client.send(connect(client_id));
    assert_eq!(client.expect_connack().reason, 0);
    client
}

fn narrow_socket(broker: &Broker) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Before connecting, since the window that it allows is told then.
    socket.set_recv_buffer_size(4096).expect("a size");
    socket
        .connect(&broker.address().into())
        .expect("the broker listens");
    socket.into()
}

/// A client that stopped reading, for which `publisher` sent more than all buffers on the way hold.
fn stopped_reader(broker: &Broker, publisher: &mut Raw, qos: u8) -> Raw {
    let mut stopped = narrow(broker, Version::V311, "stopped");
    stopped.send(subscribe(1).filter("a", qos));
    stopped.expect(suback(1, &[qos]));
    for _ in 0..500 {
        publisher.send(publish("a", vec![b'x'; 10_000]));
    }
    for packet_id in 1..=10 {
        publisher.send(publish("a", "last").qos(1).packet_id(packet_id));
        publisher.expect(puback(packet_id));
    }
    publisher.fence();
    stopped
}

/// Closes with a reset instead of an end.
fn reset(client: Raw) {
    SockRef::from(client.socket())
        .set_linger(Some(Duration::ZERO))
        .expect("it is a TCP socket");
}

/// Writes as much of `bytes`, again and again, as the broker takes: until it takes nothing for a while.
///
/// How many bytes those were. A broker that was only slow is offered more later and takes it: the caller sees to it
/// that it has stopped.
fn write_until_blocked(client: &Raw, bytes: &[u8]) -> usize {
    let mut socket = client.socket();
    socket
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("it is not zero");
    let mut written = 0;
    let bound = 256 << 20;
    while written < bound {
        match socket.write(&bytes[written % bytes.len()..]) {
            Ok(n) => written += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return written;
            }
            Err(error) => panic!("cannot write: {error}"),
        }
    }
    panic!("the broker took {bound} bytes from a client that does not read its answers");
}

#[test]
fn sleeps_when_just_started() {
    quiet_broker().assert_sleeps();
}

#[test]
fn sleeps_with_silent_clients() {
    let broker = quiet_broker();
    let _clients: Vec<Raw> = Version::ALL
        .into_iter()
        .flat_map(|version| [(version, 0), (version, 60)])
        .map(|(version, keep_alive)| {
            let client_id = format!("{version:?}-{keep_alive}");
            let mut client =
                broker.connect_with(version, connect(&client_id).keep_alive(keep_alive));
            client.send(subscribe(1).filter("a/#", 2));
            client.expect(suback(1, &[2]));
            client.fence();
            client
        })
        .collect();
    broker.assert_sleeps();
}

#[test]
fn sleeps_with_a_connection_that_says_nothing() {
    let broker = quiet_broker();
    let _client = broker.open(Version::V5);
    broker.assert_sleeps();
}

#[test]
fn sleeps_with_a_part_of_a_connect() {
    let broker = quiet_broker();
    let whole = connect("client").encode(Version::V5);
    let _clients: Vec<Raw> = [1, 2, 4, whole.len() - 1]
        .into_iter()
        .map(|len| {
            let mut client = broker.open(Version::V5);
            client.send(&whole[..len]);
            client
        })
        .collect();
    broker.assert_sleeps();
}

#[test]
fn sleeps_with_a_part_of_a_packet() {
    let broker = quiet_broker();
    let large = publish("a", vec![b'x'; 300_000]).encode(Version::V311);
    let small = subscribe(1).filter("a/b", 1).encode(Version::V311);
    let parts: [&[u8]; 6] = [
        &small[..1],
        &small[..small.len() - 1],
        b"\x30\xff",
        &large[..4],
        &large[..100_000],
        &large[..large.len() - 1],
    ];
    let mut clients = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        let mut client = broker.connect_v3(&format!("client{number}"));
        // Behind a whole packet, so that something in front of the part was consumed.
        client.send([&b"\xc0\x00"[..], part].concat());
        client.expect(pingresp());
        clients.push(client);
    }
    broker.assert_sleeps();
    // It only waited: the packets go on where they stopped.
    clients[1].send(&small[small.len() - 1..]);
    clients[1].expect(suback(1, &[1]));
    clients[4].send(&large[100_000..]);
    clients[4].fence();
    clients[5].send(&large[large.len() - 1..]);
    clients[5].fence();
}

#[test]
fn sleeps_with_connections_that_are_half_closed() {
    let broker = quiet_broker();
    let mut clients = vec![broker.open(Version::V5)];
    clients[0].shutdown_send();
    let half_a_connect = &connect("client").encode(Version::V5)[..9];
    clients.push(broker.open(Version::V5));
    clients[1].send(half_a_connect);
    clients[1].shutdown_send();
    for (client_id, last_words) in [
        ("silent", &b""[..]),
        ("part", b"\x30\x10ab"),
        ("whole", b"\xc0\x00"),
    ] {
        let mut client = broker.connect_v5(client_id);
        client.send(last_words);
        client.shutdown_send();
        clients.push(client);
    }
    broker.assert_sleeps();
    for client in &mut clients {
        client
            .drain_until_closed()
            .expect("who sends no more is disconnected");
    }
}

#[test]
fn sleeps_after_clients_that_closed_for_reading_only() {
    let broker = quiet_broker();
    let client = broker.connect_v3("client");
    client
        .socket()
        .shutdown(Shutdown::Read)
        .expect("the connection is open");
    broker.assert_sleeps();
}

#[test]
fn sleeps_with_a_reader_that_stopped() {
    for qos in [0, 1, 2] {
        let broker = quiet_broker_without_log();
        let mut publisher = broker.connect_v5("publisher");
        let mut stopped = stopped_reader(&broker, &mut publisher, qos);
        broker.assert_sleeps();
        // It is still a client: it reads on, and the other one was served all the time.
        assert_eq!(stopped.expect_publish().payload.len(), 10_000);
        publisher.fence();
    }
}

#[test]
fn sleeps_with_a_publisher_that_is_paused() {
    let broker = quiet_broker_without_log();
    let mut flooder = narrow(&broker, Version::V311, "flooder");
    let one = publish("a", "").qos(1).packet_id(1).encode(Version::V311);
    let written = write_until_blocked(&flooder, &one.repeat(1000));
    let mut other = broker.connect_v5("other");
    other.fence();
    broker.assert_sleeps();
    // Nothing was lost: once it reads, each packet that it sent whole is answered.
    let whole = written / one.len();
    for _ in 0..whole {
        flooder.expect(puback(1));
    }
    other.fence();
}

/// A connection that is not read from any more ends all the same when its client goes.
#[test]
fn sleeps_after_a_paused_publisher_was_reset() {
    let broker = quiet_broker_without_log();
    let (_, mut watcher) = watch(&broker, Version::V5);
    let socket = narrow_socket(&broker);
    let mut flooder = Raw::over(socket, Version::V311);
    flooder.send(connect("flooder").will(will("wills", "gone")));
    assert_eq!(flooder.expect_connack().reason, 0);
    let one = publish("a", "").qos(1).packet_id(1).encode(Version::V311);
    write_until_blocked(&flooder, &one.repeat(1000));
    watcher.fence();
    reset(flooder);
    watcher.expect(publish("wills", "gone"));
    broker.assert_sleeps();
}

#[test]
fn sleeps_after_a_stopped_reader_was_reset() {
    let broker = quiet_broker_without_log();
    let mut publisher = broker.connect_v5("publisher");
    let stopped = stopped_reader(&broker, &mut publisher, 0);
    reset(stopped);
    publisher.fence();
    broker.assert_sleeps();
}

/// Who does not read is not waited for.
#[test]
fn ends_with_readers_that_stopped() {
    for qos in [0, 1] {
        let broker = quiet_broker_without_log();
        let mut publisher = broker.connect_v5("publisher");
        let _stopped = stopped_reader(&broker, &mut publisher, qos);
        assert!(broker.stop().success());
    }
}

/// Each interval of $SYS is one wake-up.
#[test]
fn wakes_up_for_sys_only() {
    let broker = Broker::start(&["sys_interval 1", "log_type error"]);
    let mut reader = broker.connect_v5("reader");
    reader.send(subscribe(1).filter("$SYS/#", 0));
    reader.expect(suback(1, &[0]));
    let _others: Vec<Raw> = (0..20)
        .map(|number| broker.connect_v3(&number.to_string()))
        .collect();
    broker.assert_wakes_at_most(2);
}

#[test]
fn sleeps_after_disconnects() {
    let broker = quiet_broker();
    for version in Version::ALL {
        let mut client = broker.connect(version, "polite");
        client.send(disconnect());
        client.expect_closed();
        drop(broker.connect(version, "rude"));
        reset(broker.connect(version, "reset"));
        let mut client = broker.connect(version, "wrong");
        client.send(b"\x00\x00");
        client.drain_until_closed().expect("the packet was wrong");
        let mut part = broker.connect(version, "part");
        part.send(b"\x30\x10ab");
        reset(part);
        reset(broker.open(version));
        drop(broker.open(version));
    }
    let mut taken_over = broker.connect_v3("same");
    let _same = broker.connect_v3("same");
    taken_over.expect_closed();
    broker.assert_sleeps();
}

#[test]
fn sleeps_with_sessions_that_wait() {
    let broker = quiet_broker();
    let mut client = broker.connect_with(
        Version::V5,
        connect("client")
            .persistent()
            .will(will("gone", "x").with(will_delay_interval(600))),
    );
    client.send(subscribe(1).filter("a", 2));
    client.expect(suback(1, &[2]));
    client.shutdown_send();
    client.expect_closed();
    let mut publisher = broker.connect_v3("publisher");
    publisher.send(publish("a", "waits").qos(1).packet_id(1));
    publisher.expect(puback(1));
    publisher.send(publish("a", "half").qos(2).packet_id(2));
    publisher.expect(pubrec(2));
    broker.assert_sleeps();
}

#[test]
fn sleeps_with_a_thousand_connections() {
    raise_file_limit(1_200);
    let broker = quiet_broker_without_log();
    let _clients: Vec<Raw> = (0..1000)
        .map(|number| broker.connect(Version::ALL[number % 3], &format!("client{number}")))
        .collect();
    broker.assert_sleeps();
}

/// Nothing that is not its own can give it files back, so there is nothing to wake up for.
#[test]
fn sleeps_when_out_of_files() {
    let broker = Broker::start_in_shell("ulimit -n 40; exec \"$@\"", &["sys_interval 0"]);
    let _clients: Vec<Raw> = (0..60).map(|_| broker.open(Version::V311)).collect();
    broker.wait_for_log("Unable to accept new connection");
    broker.assert_sleeps();
}

/// However much a client sends, others are answered in between: the flood goes on until they were.
#[test]
fn a_flood_starves_nobody() {
    for floods in [1, 8] {
        let broker = quiet_broker_without_log();
        let mut pinger = broker.connect_v5("pinger");
        // Not the smallest packets: the test is to be short with a broker that was built without optimisation, too.
        let chunk = publish("flood", [b'x'; 200])
            .encode(Version::V311)
            .repeat(1000);
        let stop = AtomicBool::new(false);
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..floods {
                let flooder = broker.connect_v3(&format!("flooder{number}"));
                let (begun, stop, chunk) = (&begun, &stop, &chunk);
                scope.spawn(move || {
                    let mut socket = flooder.socket();
                    let mut chunks = 0;
                    while !stop.load(Ordering::Relaxed) {
                        socket.write_all(chunk).expect("the broker reads on");
                        chunks += 1;
                        begun.fetch_add(usize::from(chunks == 3), Ordering::Relaxed);
                    }
                });
            }
            // Also a failing test has to end the flood.
            let _stopper = Stopper(&stop);
            while begun.load(Ordering::Relaxed) < floods {
                thread::yield_now();
            }
            for _ in 0..50 {
                pinger.fence();
            }
            // Connecting is no harder.
            broker.connect_v5("newcomer").fence();
        });
    }
}

/// Nor does a storm of connections, each of which is gone before its CONNACK is read.
#[test]
fn a_storm_of_connections_starves_nobody() {
    let broker = quiet_broker_without_log();
    let mut pinger = broker.connect_v5("pinger");
    let stop = AtomicBool::new(false);
    let made = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = broker.open(Version::V5);
                    client.send(connect(""));
                    // A reset leaves nothing behind in the system, however many there are.
                    reset(client);
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stopper = Stopper(&stop);
        while made.load(Ordering::Relaxed) < 100 {
            thread::yield_now();
        }
        for _ in 0..100 {
            pinger.fence();
        }
    });
    pinger.fence();
    broker.assert_sleeps();
}

/// Sets its flag when it goes.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wills are said while everybody can still hear them; then 5.0 clients are told why they are disconnected.
#[test]
fn sigterm_and_sigint_end_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let broker = quiet_broker();
        let mut watchers =
            [Version::V31, Version::V311, Version::V5].map(|version| watch(&broker, version));
        let _unread = broker.open(Version::V5);
        let mut half = broker.connect_v5("half");
        half.send(b"\x30\x10\x00\x01a");
        let mut dying =
            broker.connect_with(Version::V5, connect("dying").will(will("wills", "bye")));
        let delayed = will("wills", "late").with(will_delay_interval(600));
        let mut delayed =
            broker.connect_with(Version::V5, connect("delayed").persistent().will(delayed));
        half.send(b"\x00123456789abc");
        half.fence();
        half.send(b"\x30\x10\x00\x01a");
        assert_eq!(broker.stop_by(signal).code(), Some(0), "{signal:?}");
        for client in [&mut half, &mut dying, &mut delayed] {
            client.expect(disconnect().reason(0x8B));
            client.expect_closed();
        }
        for (version, watcher) in &mut watchers {
            watcher.expect(publish("wills", "bye"));
            let rest = watcher.drain_until_closed().expect("the broker ended");
            let last = [&b""[..], b"\xe0\x01\x8b"][usize::from(*version == Version::V5)];
            assert!(rest.ends_with(last), "{version:?}: {rest:02x?}");
        }
    }
}

/// A client of `version` that waits for wills.
fn watch(broker: &Broker, version: Version) -> (Version, Raw) {
    let mut watcher = broker.connect(version, &format!("watcher{version:?}"));
    watcher.send(subscribe(1).filter("wills", 0));
    watcher.expect(suback(1, &[0]));
    (version, watcher)
}

#[test]
fn other_signals_do_not_end_it() {
    let broker = quiet_broker();
    let mut client = broker.connect_v5("client");
    for signal in [Signal::PIPE, Signal::USR1, Signal::USR2, Signal::HUP] {
        for _ in 0..3 {
            broker.signal(signal);
            client.fence();
        }
    }
    broker.connect_v3("newcomer").fence();
    broker.assert_sleeps();
    assert!(broker.stop().success());
}

/// A client that goes away under what is written to it is an error of its own, not a signal for all.
#[test]
fn writing_to_closed_connections_ends_nothing() {
    let broker = quiet_broker_without_log();
    let mut publisher = broker.connect_v3("publisher");
    for number in 0..20 {
        let mut subscriber = broker.connect_v3(&format!("subscriber{number}"));
        subscriber.send(subscribe(1).filter("a", 0));
        subscriber.expect(suback(1, &[0]));
        publisher.send(
            publish("a", vec![b'x'; 100_000])
                .encode(Version::V311)
                .repeat(10),
        );
        reset(subscriber);
        publisher.fence();
    }
    assert!(broker.stop().success());
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A listener without an address serves both families, each with the address as it is written.
#[test]
fn ipv4_and_ipv6() {
    let broker = Broker::start(&["listener {port}"]);
    broker.connect_v5("v4").fence();
    broker.wait_for_log("New client connected from 127.0.0.1:");
    if !has_ipv6() {
        // Then a machine without IPv6 was served, as it should be.
        return;
    }
    let port = broker.address().port();
    let mut client = Raw::open((Ipv6Addr::LOCALHOST, port).into(), Version::V5);
    client.send(connect("v6"));
    assert_eq!(client.expect_connack().reason, 0);
    client.fence();
    broker.wait_for_log("New client connected from ::1:");
    broker.wait_for_log(&format!("Opening ipv6 listen socket on port {port}."));
}

#[test]
fn socket_domain_chooses_the_family() {
    let broker = Broker::start(&["listener {port}", "socket_domain ipv4"]);
    broker.connect_v5("v4").fence();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, broker.address().port()));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn out_of_files_it_goes_on_serving() {
    let broker = Broker::start_in_shell("ulimit -n 40; exec \"$@\"", &["sys_interval 0"]);
    // The connection that the harness looked with has gone.
    broker.wait_for_log("disconnected: connection closed by client.");
    let mut waiting: Vec<Raw> = (0..60)
        .map(|number| {
            let mut client = broker.open(Version::V311);
            client.send(connect(&format!("client{number}")));
            client
        })
        .collect();
    let complaint = "Unable to accept new connection, system socket count has been exceeded. \
                     Try increasing \"ulimit -n\" or equivalent.";
    broker.wait_for_log(complaint);
    let accepted = broker.log_text().matches("New connection from").count() - 1;
    assert!((10..40).contains(&accepted), "{accepted} of 40 files");
    let mut served: Vec<Raw> = waiting.drain(..accepted).collect();
    for client in &mut served {
        assert_eq!(client.expect_connack().reason, 0);
        client.fence();
    }
    // Those who wait come in as others go, in their order.
    for mut newcomer in waiting {
        let mut leaving = served.remove(0);
        leaving.send(disconnect());
        leaving.expect_closed();
        drop(leaving);
        assert_eq!(newcomer.expect_connack().reason, 0);
        newcomer.fence();
        served.push(newcomer);
    }
    for client in &mut served {
        client.fence();
    }
    assert_eq!(broker.log_text().matches(complaint).count(), 1);
    assert!(broker.stop().success());
}

#[test]
fn it_raises_its_file_limit_to_the_hard_limit() {
    let broker = Broker::start_in_shell("ulimit -Sn 64; exec \"$@\"", &[]);
    let limits = broker.proc("limits");
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .expect("proc(5)");
    let [soft, hard] = files
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .try_into()
        .expect("two limits");
    assert_ne!(
        hard, "64",
        "the hard limit of this machine is too low to tell"
    );
    assert_eq!(soft, hard);
}

/// Lets this process have so many files open.
fn raise_file_limit(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= files),
        "this test needs {files} files open at a time, and the hard limit is {:?}: raise it (`ulimit -Hn`)",
        limit.maximum
    );
    if limit.current.is_some_and(|current| current < files) {
        // To the maximum, not to `files`: another test may have raised it further.
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).expect("it is below the hard limit");
    }
}

#[test]
fn ten_thousand_idle_connections() {
    const CONNECTIONS: usize = 10_000;
    raise_file_limit(CONNECTIONS as u64 + 1_500);
    let broker = quiet_broker_without_log();
    // The first ones bring what is shared by all.
    let _first = connect_many(&broker, "first", 100);
    let before = broker.status("VmRSS");
    let mut clients = connect_many(&broker, "idle", CONNECTIONS);
    let growth = broker.status("VmRSS").saturating_sub(before);
    assert!(
        growth < CONNECTIONS as u64,
        "{growth} KiB for {CONNECTIONS} connections"
    );
    broker.assert_sleeps();
    for number in [0, CONNECTIONS / 2, CONNECTIONS - 1] {
        clients[number].fence();
    }
}

/// So many clients, all connected: they ask at the same time.
fn connect_many(broker: &Broker, prefix: &str, count: usize) -> Vec<Raw> {
    let mut clients: Vec<Raw> = (0..count)
        .map(|number| {
            let mut client = broker.open([Version::V311, Version::V5][number % 2]);
            client.send(connect(&format!("{prefix}{number}")).keep_alive(60));
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.expect_connack().reason, 0);
    }
    clients
}

/// A packet larger than the shared ring gets a ring of its own. If its last read is a whole one, reading goes on in the same
/// turn, and what comes then is not to be left in that ring: it is sized for the packet that is gone.
#[test]
fn packets_behind_one_with_a_ring_of_its_own_arrive() {
    const READ_BYTES: usize = 128 * 1024;
    let publish_of = |packet_bytes: usize| {
        let overhead = publish("t", "").encode(Version::V311).len() + 2;
        publish("t", vec![b'x'; packet_bytes - overhead])
    };
    let broker = Broker::start(&["max_packet_size 4000000"]);
    let mut client = broker.connect_v3("a");
    for reads in 9..16 {
        let mut bytes = publish_of(reads * READ_BYTES).encode(Version::V311);
        assert_eq!(bytes.len(), reads * READ_BYTES);
        bytes.extend(publish_of(100_000).encode(Version::V311));
        bytes.extend(publish_of(60_000).encode(Version::V311));
        let rest = bytes.split_off(bytes.len() - 10_000);
        // What comes while the broker stands still it reads in whole reads.
        broker.signal(Signal::STOP);
        std::thread::scope(|scope| {
            scope.spawn(|| client.send(bytes));
            std::thread::sleep(Duration::from_millis(100));
            broker.signal(Signal::CONT);
        });
        std::thread::sleep(Duration::from_millis(50));
        client.send(rest);
        client.send(pingreq());
        client.expect(pingresp());
    }
}
