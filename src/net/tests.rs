//! Net over real loopback sockets.

mod layers;
mod listeners;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Stream;
use super::*;
use crate::buffer::BufferPool;
use crate::buffer::ring::{READ_BYTES, RING_BYTES, SMALL_RING_BYTES};

const WAIT: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(30);

fn spec() -> ListenerSpec {
    ListenerSpec {
        socket_domain: SocketDomain::V4,
        loopback_only: true,
        index: 7,
        ..ListenerSpec::default()
    }
}

fn net(spec: &ListenerSpec) -> Net {
    let mut net = Net::new().unwrap();
    net.listen(spec).unwrap();
    net
}

fn dial(net: &Net) -> TcpStream {
    TcpStream::connect(net.local_addrs().next().unwrap()).unwrap()
}

/// Polls until `done` finds what it waits for.
fn until<T>(net: &mut Net, mut done: impl FnMut(&mut Net) -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        net.poll(Some(MOMENT)).unwrap();
        if let Some(found) = done(net) {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain");
    }
}

fn connect(net: &mut Net) -> (TcpStream, ConnectionKey) {
    let peer = dial(net);
    let accepted = until(net, Net::accept);
    assert_eq!(net.accept(), None);
    assert_eq!(accepted.peer, PeerAddress::Ip(peer.local_addr().unwrap()));
    assert_eq!(accepted.listener, 7);
    (peer, accepted.connection)
}

/// Reads until the end of the stream, or until `len` bytes came; consumes all.
fn receive(net: &mut Net, key: ConnectionKey, len: usize) -> (Vec<u8>, bool) {
    let mut received = Vec::new();
    let closed = until(net, |net| {
        let mut closed = false;
        while let Some(ready) = net.take_ready() {
            assert_eq!(ready, key);
            closed |= net.fill(key).unwrap() == Filled::Closed;
            let ring = net.ring(key);
            received.extend(ring.filled());
            ring.consume(ring.len());
            net.settle(key, 0);
        }
        (closed || received.len() >= len).then_some(closed)
    });
    (received, closed)
}

/// Sends all of the outbox, as the poller lets it.
fn flush_all(net: &mut Net, key: ConnectionKey, outbox: &mut Outbox) {
    until(net, |net| {
        let mut drained = outbox.is_empty().then_some(());
        while let Some(writable) = net.take_writable() {
            assert_eq!(writable, key);
            drained = net.flush(key, outbox).unwrap().then_some(());
        }
        drained
    });
    assert!(!outbox.blocked);
}

/// Nothing is left to do. An event for bytes that were read in the same turn as they came may still be under way.
fn nothing_happens(net: &mut Net) {
    net.poll(Some(MOMENT)).unwrap();
    while let Some(key) = net.take_ready() {
        assert_eq!(net.fill(key).unwrap(), Filled::Bytes(0));
        net.settle(key, 0);
    }
    net.poll(Some(MOMENT)).unwrap();
    assert_eq!(net.take_ready(), None);
    assert_eq!(net.take_writable(), None);
    assert_eq!(net.poll_timeout(None), None, "an idle poller sleeps");
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 3 % 251) as u8).collect()
}

/// Packets: a length in four bytes, itself included, then a pattern.
fn packet(len: usize) -> Vec<u8> {
    let mut packet = u32::try_from(len).unwrap().to_be_bytes().to_vec();
    packet.extend(pattern(len - 4));
    packet
}

/// Parses and checks all whole packets; returns their lengths, and the length of the one that is not whole.
fn parse(ring: &mut Ring) -> (Vec<usize>, usize) {
    let mut whole = Vec::new();
    while let Some(len) = ring.filled().first_chunk() {
        let len = u32::from_be_bytes(*len) as usize;
        if ring.len() < len {
            return (whole, len);
        }
        assert!(ring.filled()[..len] == packet(len));
        ring.consume(len);
        whole.push(len);
    }
    (whole, 0)
}

#[test]
fn data_and_end_arrive_together() {
    let mut net = net(&spec());
    let (mut peer, key) = connect(&mut net);
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(MOMENT);
    assert_eq!(
        receive(&mut net, key, usize::MAX),
        (b"last words".to_vec(), true)
    );
    // Half closed: the other direction still works.
    let mut outbox = Outbox::new();
    outbox.buffer(&mut BufferPool::new()).extend(b"answer");
    assert!(net.flush(key, &mut outbox).unwrap());
    net.close(key);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
    assert_eq!((net.bytes_received(), net.bytes_sent()), (10, 6));
    nothing_happens(&mut net);
}

#[test]
fn the_end_after_a_short_read_is_an_event() {
    let mut net = net(&spec());
    let (mut peer, key) = connect(&mut net);
    peer.write_all(b"abc").unwrap();
    assert_eq!(receive(&mut net, key, 3), (b"abc".to_vec(), false));
    nothing_happens(&mut net);
    drop(peer);
    assert_eq!(receive(&mut net, key, 1), (Vec::new(), true));
    nothing_happens(&mut net);
}

#[test]
fn more_than_the_ring_takes_several_turns() {
    let mut net = net(&spec());
    let (mut peer, key) = connect(&mut net);
    let sent = pattern(5 * RING_BYTES + 123);
    let expected = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer));
    let (received, _) = receive(&mut net, key, expected.len());
    assert!(received == expected);
    let _peer = writer.join().unwrap().unwrap();
    nothing_happens(&mut net);
    assert_eq!(net.bytes_received(), expected.len() as u64);
}

#[test]
fn a_ready_connection_that_has_more_is_served_next_turn() {
    let mut net = net(&spec());
    let (mut loud, loud_key) = connect(&mut net);
    let (mut quiet, quiet_key) = connect(&mut net);
    let much = pattern(3 * READ_BYTES);
    let writer = std::thread::spawn(move || loud.write_all(&much).map(|()| loud));
    std::thread::sleep(MOMENT);
    quiet.write_all(b"me too").unwrap();
    std::thread::sleep(MOMENT);
    net.poll(Some(WAIT)).unwrap();
    let mut served = Vec::new();
    while let Some(key) = net.take_ready() {
        served.push(key);
        net.fill(key).unwrap();
        let ring = net.ring(key);
        ring.consume(ring.len());
        net.settle(key, 0);
    }
    served.sort_by_key(|key| key.index);
    assert_eq!(served, [loud_key, quiet_key], "each once");
    net.poll(None).unwrap();
    assert_eq!(net.take_ready(), Some(loud_key));
    net.close(loud_key);
    drop(writer.join().unwrap());
}

#[test]
fn packets_of_any_size_come_through_interleaved() {
    let mut net = net(&spec());
    let sizes = [
        5,
        3_000,
        40,
        4,
        RING_BYTES - 1,
        17,
        RING_BYTES + 1,
        900_000,
        70_000,
        4,
        5_000,
        2_500_000,
        9,
    ];
    let mut writers = Vec::new();
    let mut left = std::collections::HashMap::new();
    for i in 0..4 {
        let (mut peer, key) = connect(&mut net);
        let mut sizes = sizes.to_vec();
        sizes.rotate_left(i * 3);
        left.insert(key, sizes.clone().into_iter());
        writers.push(std::thread::spawn(move || {
            for (i, &len) in sizes.iter().enumerate() {
                for piece in packet(len).chunks(1_000 * (i + 1) * (i + 1)) {
                    peer.write_all(piece).unwrap();
                }
            }
        }));
    }
    until(&mut net, |net| {
        while let Some(key) = net.take_ready() {
            if net.fill(key).unwrap() == Filled::Closed {
                assert_eq!(left.remove(&key).unwrap().next(), None);
                net.close(key);
                continue;
            }
            let (whole, needed) = parse(net.ring(key));
            for len in whole {
                assert_eq!(left.get_mut(&key).unwrap().next(), Some(len));
            }
            net.settle(key, needed);
        }
        left.is_empty().then_some(())
    });
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    assert!(net.is_empty() && net.holder.is_none());
    nothing_happens(&mut net);
}

#[test]
fn a_paused_connection_loses_nothing() {
    let mut net = net(&spec());
    let (mut peer, key) = connect(&mut net);
    // Paused in the middle of what was read: the second packet stays, and another connection takes the large ring.
    peer.write_all(&[packet(10), packet(20_000)].concat())
        .unwrap();
    std::thread::sleep(MOMENT);
    net.poll(Some(WAIT)).unwrap();
    assert_eq!(net.take_ready(), Some(key));
    assert_eq!(net.fill(key).unwrap(), Filled::Bytes(20_010));
    net.ring(key).consume(10);
    net.pause(key);
    net.settle(key, 0);
    // More comes while it is paused, and even its end.
    peer.write_all(&packet(30)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let (mut other, other_key) = connect(&mut net);
    other.write_all(b"x").unwrap();
    assert_eq!(receive(&mut net, other_key, 1), (b"x".to_vec(), false));
    nothing_happens(&mut net);
    net.resume(key);
    let mut whole = Vec::new();
    until(&mut net, |net| {
        let key = net.take_ready()?;
        let closed = net.fill(key).unwrap() == Filled::Closed;
        let (packets, needed) = parse(net.ring(key));
        whole.extend(packets);
        net.settle(key, needed);
        closed.then_some(())
    });
    assert_eq!(whole, [20_000, 30]);

    // Resumed with nothing new on the socket: what is left is still parsed.
    net.close(key);
    let (mut peer, key) = connect(&mut net);
    peer.write_all(&packet(40)).unwrap();
    until(&mut net, Net::take_ready);
    assert_eq!(net.fill(key).unwrap(), Filled::Bytes(40));
    net.pause(key);
    net.settle(key, 40);
    nothing_happens(&mut net);
    net.resume(key);
    net.poll(None).unwrap();
    assert_eq!(net.take_ready(), Some(key));
    assert_eq!(net.fill(key).unwrap(), Filled::Bytes(0));
    assert_eq!(parse(net.ring(key)), (vec![40], 0));
    net.settle(key, 0);
    nothing_happens(&mut net);
}

#[test]
fn an_idle_connection_owns_no_ring() {
    let mut net = net(&spec());
    let (mut first, first_key) = connect(&mut net);
    let (mut second, second_key) = connect(&mut net);
    first.write_all(&packet(20)[..9]).unwrap();
    until(&mut net, Net::take_ready);
    net.fill(first_key).unwrap();
    net.settle(first_key, 20);
    assert_eq!(
        net.holder,
        Some(first_key),
        "half a packet stays where it is while nobody else reads"
    );
    second.write_all(&packet(10)).unwrap();
    until(&mut net, Net::take_ready);
    net.fill(second_key).unwrap();
    assert_eq!(parse(net.ring(second_key)), (vec![10], 0));
    net.settle(second_key, 0);
    assert_eq!(net.holder, None);
    assert!(net.connections.get(first_key).unwrap().parked.is_some());
    first.write_all(&packet(20)[9..]).unwrap();
    until(&mut net, Net::take_ready);
    assert_eq!(net.fill(first_key).unwrap(), Filled::Bytes(11));
    assert_eq!(parse(net.ring(first_key)), (vec![20], 0));
    net.settle(first_key, 0);
    assert!(net.connections.get(first_key).unwrap().parked.is_none());
    const { assert!(SMALL_RING_BYTES > 20) };
}

#[test]
fn a_flood_on_one_listener_leaves_the_other_its_turn() {
    let mut net = net(&spec());
    net.listen(&ListenerSpec { index: 8, ..spec() }).unwrap();
    let other = net.local_addrs().nth(1).unwrap();
    let _flood: Vec<TcpStream> = (0..10).map(|_| dial(&net)).collect();
    let _one = TcpStream::connect(other).unwrap();
    net.poll(Some(WAIT)).unwrap();
    let order: Vec<usize> = std::iter::from_fn(|| net.accept())
        .map(|new| new.listener)
        .collect();
    assert_eq!(order.len(), 11);
    assert!(order[..2].contains(&8), "{order:?}");
}

#[test]
fn a_large_fan_out_is_sent_from_shared_slices() {
    let mut net = net(&spec());
    let (mut peer, key) = connect(&mut net);
    let payload: Rc<dyn AsRef<[u8]>> = Rc::new(pattern(300_000));
    let mut pool = BufferPool::new();
    let mut outbox = Outbox::new();
    let mut expected = Vec::new();
    for i in 0..100u8 {
        outbox.buffer(&mut pool).extend([i; 5]);
        outbox.push_shared(Rc::clone(&payload));
        expected.extend([i; 5]);
        expected.extend((*payload).as_ref());
    }
    assert!(!net.flush(key, &mut outbox).unwrap());
    assert!(outbox.blocked);
    let before = net.bytes_sent();
    assert!(
        !net.flush(key, &mut outbox).unwrap(),
        "no system call before the event"
    );
    assert_eq!(net.bytes_sent(), before);
    nothing_happens(&mut net);
    let len = expected.len();
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; len];
        peer.read_exact(&mut received).map(|()| received).unwrap()
    });
    flush_all(&mut net, key, &mut outbox);
    assert!(outbox.is_empty());
    assert_eq!(Rc::strong_count(&payload), 1);
    assert!(reader.join().unwrap() == expected);
    assert_eq!(net.bytes_sent(), len as u64);
}

#[test]
fn a_stale_key_is_nothing() {
    let mut net = net(&spec());
    let (_first, stale) = connect(&mut net);
    net.close(stale);
    let (mut second, key) = connect(&mut net);
    assert_eq!(key.index, stale.index, "the slot is used again");
    assert_ne!(key, stale);
    second.write_all(b"mine").unwrap();
    until(&mut net, Net::take_ready);
    net.fill(key).unwrap();
    assert_eq!(net.fill(stale).unwrap(), Filled::Closed);
    assert!(net.ring(stale).is_empty());
    let mut outbox = Outbox::new();
    outbox
        .buffer(&mut BufferPool::new())
        .extend(b"to the first");
    assert!(!net.flush(stale, &mut outbox).unwrap());
    net.settle(stale, 0);
    net.pause(stale);
    net.resume(stale);
    net.close(stale);
    assert_eq!(net.ring(key).filled(), b"mine");
    assert_eq!(net.len(), 1);
}

#[test]
fn closing_with_unread_bytes_does_not_take_the_last_packet_away() {
    let mut net = net(&spec());
    let (mut peer, key) = connect(&mut net);
    peer.write_all(&pattern(30_000)).unwrap();
    std::thread::sleep(MOMENT);
    let mut outbox = Outbox::new();
    outbox.buffer(&mut BufferPool::new()).extend(b"goodbye");
    assert!(net.flush(key, &mut outbox).unwrap());
    net.close(key);
    let mut last = Vec::new();
    peer.read_to_end(&mut last).expect("an end, not a reset");
    assert_eq!(last, b"goodbye");
}

#[test]
fn a_reset_is_an_error_once() {
    let mut net = net(&spec());
    let (peer, key) = connect(&mut net);
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    until(&mut net, Net::take_ready);
    let error = net.fill(key).unwrap_err();
    assert_eq!(error.to_string(), "Connection reset by peer");
    net.settle(key, 0);
    assert_eq!(net.fill(key).unwrap(), Filled::Closed);
    net.settle(key, 0);
    nothing_happens(&mut net);
    // An event that is still under way is answered once, and wakes nobody again.
    assert!(net.connections.get_mut(key).unwrap().handle_readable(true));
    net.ready.push(key);
    net.poll(None).unwrap();
    assert_eq!(net.take_ready(), Some(key));
    assert_eq!(net.fill(key).unwrap(), Filled::Closed);
    net.settle(key, 0);
    net.close(key);
    nothing_happens(&mut net);
}

#[test]
fn connections_inherit_nodelay() {
    for nodelay in [false, true] {
        let mut net = net(&ListenerSpec { nodelay, ..spec() });
        let (_peer, key) = connect(&mut net);
        let Stream::Tcp(socket) = &net.connections.get(key).unwrap().socket else {
            unreachable!("the listener is on TCP");
        };
        assert_eq!(socket.nodelay().unwrap(), nodelay);
    }
}

#[test]
fn both_families_share_one_port() {
    for (loopback_only, host) in [
        (true, None),
        (false, None),
        (false, Some("localhost")),
        (false, Some("127.0.0.1")),
    ] {
        let socket_domain = SocketDomain::Any;
        let host = host.map(str::to_owned);
        let mut net = net(&ListenerSpec {
            loopback_only,
            host,
            socket_domain,
            ..spec()
        });
        let bound: Vec<SocketAddr> = net.local_addrs().collect();
        assert!(
            bound
                .iter()
                .all(|address| address.ip().is_loopback() || !loopback_only)
        );
        for address in bound {
            assert_ne!(address.port(), 0);
            let _peer = TcpStream::connect(address).unwrap();
            let accepted = until(&mut net, Net::accept);
            let PeerAddress::Ip(peer) = accepted.peer else {
                unreachable!("the listener is on TCP");
            };
            assert_eq!(peer.is_ipv4(), address.is_ipv4());
        }
    }
}

#[test]
fn a_listener_that_cannot_open_says_why() {
    let first = net(&spec());
    let port = first.local_addrs().next().unwrap().port();
    let mut second = Net::new().unwrap();
    let error = second.listen(&ListenerSpec { port, ..spec() }).unwrap_err();
    assert_eq!(error.to_string(), "Error: Address already in use");
    let host = |host: &str, socket_domain| {
        let host = Some(host.to_owned());
        let spec = ListenerSpec {
            host,
            loopback_only: false,
            socket_domain,
            ..spec()
        };
        Net::new().unwrap().listen(&spec).unwrap_err()
    };
    // A documentation address: no machine has it.
    let error = host("192.0.2.1", SocketDomain::Any);
    assert_eq!(error.to_string(), "Error: Cannot assign requested address");
    assert!(matches!(
        host("127.0.0.1", SocketDomain::V6),
        NetError::NoAddress { .. }
    ));
    assert!(matches!(
        host("no host name", SocketDomain::Any),
        NetError::Resolve { .. }
    ));
}

#[test]
fn max_connections_closes_the_extra_one() {
    let mut net = net(&ListenerSpec {
        max_connections: Some(2),
        ..spec()
    });
    let (_first, first_key) = connect(&mut net);
    let (_second, _) = connect(&mut net);
    let mut third = dial(&net);
    net.poll(Some(WAIT)).unwrap();
    assert_eq!(net.accept(), None);
    assert_eq!(third.read(&mut [0; 8]).unwrap(), 0, "closed without a byte");
    net.close(first_key);
    net.close(first_key);
    connect(&mut net);
    assert_eq!((net.len(), net.connections_accepted()), (2, 3));
}

#[test]
fn accepts_are_bounded_per_turn() {
    let mut net = net(&spec());
    let peers: Vec<TcpStream> = (0..ACCEPTS_PER_TURN + 10).map(|_| dial(&net)).collect();
    net.poll(Some(WAIT)).unwrap();
    assert_eq!(
        std::iter::from_fn(|| net.accept()).count(),
        ACCEPTS_PER_TURN as usize
    );
    assert_eq!(net.poll_timeout(None), Some(Duration::ZERO));
    net.poll(None).unwrap();
    assert_eq!(std::iter::from_fn(|| net.accept()).count(), 10);
    assert_eq!(net.poll_timeout(None), None);
    assert_eq!(net.len(), peers.len());
}

#[test]
fn signals_are_events() {
    use signal_hook::consts::{SIGUSR1, SIGUSR2};
    let mut net = Net::new().unwrap();
    net.watch_signals(&[SIGUSR1, SIGUSR2]).unwrap();
    net.poll(Some(Duration::ZERO)).unwrap();
    assert!(net.take_signals().is_empty());
    signal_hook::low_level::raise(SIGUSR2).unwrap();
    signal_hook::low_level::raise(SIGUSR2).unwrap();
    net.poll(Some(WAIT)).unwrap();
    assert_eq!(net.take_signals(), [SIGUSR2]);
    assert!(net.take_signals().is_empty());
    nothing_happens(&mut net);
}

/// Runs the rest of the calling test in a process of its own, since file limits are the process's.
fn in_a_process_of_its_own(test: &str) -> bool {
    const CHILD: &str = "MIDGE_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = format!("net::tests::{test}");
    let output = child
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    false
}

#[test]
fn the_file_limit_rises_to_the_hard_limit() {
    if in_a_process_of_its_own("the_file_limit_rises_to_the_hard_limit") {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(64),
                maximum,
            },
        )
        .unwrap();
        assert_eq!(raise_file_limit().unwrap(), maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}

#[test]
fn without_files_accepting_waits_for_a_close() {
    if !in_a_process_of_its_own("without_files_accepting_waits_for_a_close") {
        return;
    }
    let mut net = net(&spec());
    let (_first, first_key) = connect(&mut net);
    let mut waiting: Vec<TcpStream> = (0..3).map(|_| dial(&net)).collect();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let set_limit = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    // No descriptor at or above the limit can be opened: with every lower one in use, none at all.
    let probe = std::fs::File::open("/dev/null").unwrap();
    let lowest_free = std::os::fd::AsRawFd::as_raw_fd(&probe);
    drop(probe);
    set_limit(Some(u64::try_from(lowest_free).unwrap()));

    net.poll(Some(WAIT)).unwrap();
    assert_eq!(net.accept(), None);
    assert!(net.exhaustion_logged);
    let mut polls = 0;
    let start = Instant::now();
    while start.elapsed() < 2 * ACCEPT_RETRY + MOMENT {
        net.poll(Some(WAIT)).unwrap();
        assert_eq!(net.accept(), None);
        polls += 1;
    }
    assert!(polls <= 4, "{polls} wake-ups in two seconds: it spins");
    assert_eq!(net.poll_timeout(None), None, "only a close can help");

    // The others are served all the while, and a close lets the next one in at once.
    net.close(first_key);
    net.poll(Some(Duration::ZERO)).unwrap();
    let accepted = net.accept().expect("one file is free");
    assert_eq!(net.accept(), None);
    waiting[0].write_all(b"served").unwrap();
    assert_eq!(receive(&mut net, accepted.connection, 6).0, b"served");

    // More files: the next close lets everybody in.
    set_limit(current);
    net.close(accepted.connection);
    for _ in 0..2 {
        until(&mut net, Net::accept);
    }
    assert_eq!(net.accept(), None);
    assert!(!net.exhaustion_logged, "the next episode is told again");
    assert_eq!(net.poll_timeout(None), None);
}
