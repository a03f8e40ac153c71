//! The layers below MQTT over loopback: a client of rustls lives in the same thread, so that each step is taken when
//! the test says so.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, SupportedProtocolVersion};

use super::super::certificates::tests::{Lab, TestClient, load};
use super::*;
use crate::config::ProxyProtocol;

/// The most that one record holds.
const RECORD: usize = 16 * 1024;

/// The broker's side of one connection: what came of it, in order, and what is to be sent.
#[derive(Default)]
struct Seen {
    received: Vec<u8>,
    /// Received bytes are packets; the lengths of those that were whole.
    packets: Option<Vec<usize>>,
    established: Option<Established>,
    is_closed: bool,
    error: Option<String>,
    outbox: Outbox,
}

impl Seen {
    fn packets() -> Seen {
        Seen {
            packets: Some(Vec::new()),
            ..Seen::default()
        }
    }

    fn is_over(&self) -> bool {
        self.is_closed || self.error.is_some()
    }

    /// One turn of the loop; `key` is the only connection that anything happens on.
    fn turn(&mut self, net: &mut Net, key: ConnectionKey) {
        net.poll(Some(MOMENT)).unwrap();
        while let Some(ready) = net.take_ready() {
            assert_eq!(ready, key);
            assert!(self.error.is_none(), "an error is the end");
            match net.fill(key) {
                Ok(Filled::Bytes(n)) => {
                    assert!(n == 0 || self.established.is_some(), "too early");
                }
                Ok(Filled::Established) => {
                    assert!(net.ring(key).is_empty(), "bytes before it");
                    let facts = net.established(key).cloned().expect("it was just said");
                    assert_eq!(self.established.replace(facts), None, "twice");
                }
                Ok(Filled::Closed) => self.is_closed = true,
                Err(error) => self.error = Some(error.to_string()),
            }
            assert_eq!(self.established.is_some(), net.established(key).is_some());
            let ring = net.ring(key);
            let mut needed = 0;
            match &mut self.packets {
                Some(packets) => {
                    let (whole, rest) = parse(ring);
                    packets.extend(whole);
                    needed = rest;
                }
                None => {
                    self.received.extend(ring.filled());
                    ring.consume(ring.len());
                }
            }
            net.settle(key, needed);
        }
        while let Some(writable) = net.take_writable() {
            assert_eq!(writable, key);
            net.flush(key, &mut self.outbox).unwrap();
        }
    }

    fn turns_until(
        &mut self,
        net: &mut Net,
        key: ConnectionKey,
        mut done: impl FnMut(&Seen) -> bool,
    ) {
        let deadline = Instant::now() + WAIT;
        while !done(self) {
            self.turn(net, key);
            assert!(Instant::now() < deadline, "waited in vain");
        }
    }
}

/// Sends bytes in pieces, with a turn of the loop after each; what the broker no longer takes is not sent.
fn send(
    socket: &mut impl Write,
    bytes: &[u8],
    piece: usize,
    net: &mut Net,
    key: ConnectionKey,
    seen: &mut Seen,
) {
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() && !seen.is_over() {
            match socket.write(piece) {
                Ok(n) => piece = &piece[n..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            seen.turn(net, key);
        }
    }
}

/// The client's side of one connection.
struct Client {
    socket: TcpStream,
    tls: ClientConnection,
    received: Vec<u8>,
    has_ended: bool,
}

impl Client {
    fn dial(net: &mut Net, config: &TestClient) -> (Client, ConnectionKey) {
        let (socket, key) = connect(net);
        (Client::over(socket, config), key)
    }

    fn over(socket: TcpStream, config: &TestClient) -> Client {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Client {
            socket,
            tls: ClientConnection::new(Arc::new(config.0.clone()), name).unwrap(),
            received: Vec::new(),
            has_ended: false,
        }
    }

    /// A client that has shaken hands.
    fn established(net: &mut Net, config: &TestClient) -> (Client, ConnectionKey, Seen) {
        let (mut client, key) = Client::dial(net, config);
        let mut seen = Seen::default();
        client.shake_hands(usize::MAX, net, key, &mut seen);
        assert!(seen.established.is_some());
        (client, key, seen)
    }

    /// What TLS has to send.
    fn outgoing(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// What TLS makes of a text.
    fn encrypted(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(bytes).unwrap();
        self.outgoing()
    }

    fn flush(&mut self, piece: usize, net: &mut Net, key: ConnectionKey, seen: &mut Seen) {
        let bytes = self.outgoing();
        send(&mut self.socket, &bytes, piece, net, key, seen);
    }

    /// One read of at most so many bytes; whether any came.
    fn read(&mut self, max: usize) -> bool {
        let mut bytes = vec![0; max];
        let n = match self.socket.read(&mut bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => 0,
        };
        self.has_ended |= n == 0;
        let mut bytes = &bytes[..n];
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            let Ok(state) = self.tls.process_new_packets() else {
                self.has_ended = true;
                return false;
            };
            let len = self.received.len();
            self.received
                .resize(len + state.plaintext_bytes_to_read(), 0);
            self.tls
                .reader()
                .read_exact(&mut self.received[len..])
                .unwrap();
        }
        n > 0
    }

    fn shake_hands(&mut self, piece: usize, net: &mut Net, key: ConnectionKey, seen: &mut Seen) {
        let deadline = Instant::now() + WAIT;
        while (self.tls.is_handshaking() || seen.established.is_none()) && !seen.is_over() {
            assert!(Instant::now() < deadline, "the handshake stands still");
            self.flush(piece, net, key, seen);
            while self.read(piece.min(RECORD)) {}
            if self.tls.wants_read() && !self.tls.wants_write() {
                seen.turn(net, key);
            }
        }
    }
}

fn tls_net(context: TlsContext) -> Net {
    net(&ListenerSpec {
        tls: Some(Arc::new(context)),
        ..spec()
    })
}

fn versions() -> [(&'static SupportedProtocolVersion, &'static str); 2] {
    [
        (&TLS13, "TLSv1.3 cipher TLS_"),
        (&TLS12, "TLSv1.2 cipher TLS_"),
    ]
}

/// Waits until the broker has nothing more to do; an established connection that is idle wakes nobody.
fn is_idle(net: &mut Net) {
    nothing_happens(net);
    let start = Instant::now();
    net.poll(Some(3 * MOMENT)).unwrap();
    assert!(start.elapsed() >= 3 * MOMENT, "something woke the poller");
}

#[test]
fn established_comes_once_and_before_any_byte() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    for (version, words) in versions() {
        for piece in [usize::MAX, 1, 700] {
            let config = TestClient::with_versions(None, &[version]);
            let (mut client, key) = Client::dial(&mut net, &config);
            // This goes out with the last message of the handshake.
            client.tls.writer().write_all(b"first words").unwrap();
            let mut seen = Seen::default();
            client.shake_hands(piece, &mut net, key, &mut seen);
            client.flush(piece, &mut net, key, &mut seen);
            seen.turns_until(&mut net, key, |seen| seen.received.len() >= 11);
            assert_eq!(seen.received, b"first words");
            let facts = seen.established.expect("the handshake is over");
            assert_eq!(
                facts.peer,
                PeerAddress::Ip(client.socket.local_addr().unwrap())
            );
            assert_eq!(facts.user_name, None);
            assert!(facts.tls.expect("it is TLS").starts_with(words), "{words}");
            is_idle(&mut net);
            net.close(key);
        }
    }
}

#[test]
fn much_goes_both_ways_in_tiny_pieces() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    let payload = pattern(300_000);
    for (version, _) in versions() {
        let config = TestClient::with_versions(None, &[version]);
        let (mut client, key, mut seen) = Client::established(&mut net, &config);
        for chunk in payload.chunks(10_000) {
            let bytes = client.encrypted(chunk);
            send(&mut client.socket, &bytes, 777, &mut net, key, &mut seen);
        }
        seen.turns_until(&mut net, key, |seen| seen.received.len() >= payload.len());
        assert!(seen.received == payload);
        is_idle(&mut net);

        seen.outbox.push_shared(Rc::new(payload.clone()));
        net.flush(key, &mut seen.outbox).unwrap();
        while client.received.len() < payload.len() {
            client.read(501);
            if client.received.len() % 7 == 0 {
                seen.turn(&mut net, key);
            }
        }
        assert!(client.received == payload && seen.outbox.is_empty());
        is_idle(&mut net);
        net.close(key);
    }
}

/// A ring of its own never reads past the end of its packet, so the last record of that waits for room.
#[test]
fn records_that_the_ring_has_no_room_for_wait() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    let sizes = [
        900_000,
        5,
        RING_BYTES + 1,
        4,
        RING_BYTES - 1,
        RING_BYTES,
        SMALL_RING_BYTES + 1,
        200_001,
        9,
        300_000,
        2_500_000,
        17,
    ];
    let stream: Vec<u8> = sizes.iter().flat_map(|&len| packet(len)).collect();
    for (record, piece) in [(RECORD, usize::MAX), (RECORD, 5_000), (3_001, 70_000)] {
        let (mut client, key, facts) = Client::established(&mut net, &TestClient::new(None));
        let mut seen = Seen {
            established: facts.established,
            ..Seen::packets()
        };
        // So that one piece is several records, if it is large.
        for records in stream.chunks(3 * record) {
            let mut bytes = Vec::new();
            for chunk in records.chunks(record) {
                bytes.extend(client.encrypted(chunk));
            }
            send(&mut client.socket, &bytes, piece, &mut net, key, &mut seen);
        }
        let count = |seen: &Seen| seen.packets.as_ref().map_or(0, Vec::len);
        seen.turns_until(&mut net, key, |seen| count(seen) == sizes.len());
        assert_eq!(seen.packets.as_deref(), Some(&sizes[..]));
        is_idle(&mut net);
        net.close(key);
    }
}

#[test]
fn what_is_decrypted_waits_while_the_connection_is_paused() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    let (mut client, key, mut seen) = Client::established(&mut net, &TestClient::new(None));
    let payload = pattern(3 * RECORD);
    let mut bytes = Vec::new();
    payload
        .chunks(RECORD)
        .for_each(|chunk| bytes.extend(client.encrypted(chunk)));
    net.pause(key);
    send(
        &mut client.socket,
        &bytes,
        usize::MAX,
        &mut net,
        key,
        &mut seen,
    );
    is_idle(&mut net);
    assert!(seen.received.is_empty());
    net.resume(key);
    seen.turns_until(&mut net, key, |seen| seen.received.len() == payload.len());
    assert!(seen.received == payload);
    is_idle(&mut net);
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    let (mut client, key, mut seen) = Client::established(&mut net, &TestClient::new(None));
    let payload = pattern(20_000_000);
    let slice = Rc::new(payload.clone());
    seen.outbox.push_shared(slice);
    let sent_before = net.bytes_sent();
    for _ in 0..10 {
        if net.flush(key, &mut seen.outbox).unwrap() || seen.outbox.blocked {
            seen.turn(&mut net, key);
        }
    }
    assert!(seen.outbox.blocked && !seen.outbox.is_empty());
    is_idle(&mut net);
    // What left the outbox and not the process is no more than the bound.
    let left_outbox = payload.len() - seen.outbox.len();
    let sent = usize::try_from(net.bytes_sent() - sent_before).unwrap();
    assert!(left_outbox <= sent + 64 * 1024, "{left_outbox} and {sent}");
    assert!(
        !net.flush(key, &mut seen.outbox).unwrap(),
        "still blocked, and that costs nothing"
    );
    assert_eq!(payload.len() - seen.outbox.len(), left_outbox);
    // It may still send, and then it reads.
    let bytes = client.encrypted(b"wait");
    send(&mut client.socket, &bytes, 9, &mut net, key, &mut seen);
    seen.turns_until(&mut net, key, |seen| seen.received == b"wait");
    let deadline = Instant::now() + 3 * WAIT;
    while client.received.len() < payload.len() {
        assert!(Instant::now() < deadline, "it stands still");
        for _ in 0..50 {
            client.read(64 * 1024);
        }
        seen.turn(&mut net, key);
    }
    assert!(client.received == payload && seen.outbox.is_empty());
    assert!(!seen.outbox.blocked);
    is_idle(&mut net);
}

#[test]
fn close_notify_is_the_end_behind_what_came_before() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    for (text, piece) in [
        (&b""[..], usize::MAX),
        (b"last words", usize::MAX),
        (b"last words", 1),
    ] {
        let (mut client, key, mut seen) = Client::established(&mut net, &TestClient::new(None));
        client.tls.writer().write_all(text).unwrap();
        client.tls.send_close_notify();
        client.flush(piece, &mut net, key, &mut seen);
        seen.turns_until(&mut net, key, |seen| seen.is_closed);
        assert_eq!((&seen.received[..], &seen.error), (text, &None));
        nothing_happens(&mut net);
        // The other direction still works, and ends as it should.
        seen.outbox.buffer(&mut BufferPool::new()).extend(b"answer");
        assert!(net.flush(key, &mut seen.outbox).unwrap());
        net.close(key);
        while !client.has_ended {
            client.read(RECORD);
        }
        assert_eq!(client.received, b"answer");
        let state = client.tls.process_new_packets().unwrap();
        assert!(state.peer_has_closed(), "the broker sent close_notify");
    }
    nothing_happens(&mut net);
}

#[test]
fn an_end_without_a_word_is_an_end_at_each_stage() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    for part in [0, 1, 5, 100, usize::MAX] {
        let (mut client, key) = Client::dial(&mut net, &TestClient::new(None));
        let mut seen = Seen::default();
        let hello = client.outgoing();
        let part = part.min(hello.len());
        send(
            &mut client.socket,
            &hello[..part],
            usize::MAX,
            &mut net,
            key,
            &mut seen,
        );
        client.socket.shutdown(Shutdown::Write).unwrap();
        seen.turns_until(&mut net, key, Seen::is_over);
        assert!(seen.is_closed && seen.established.is_none(), "{part}");
        net.close(key);
    }
    // In the middle of a record, and as a reset.
    let (mut client, key, mut seen) = Client::established(&mut net, &TestClient::new(None));
    let bytes = [client.encrypted(b"whole"), client.encrypted(b"half")].concat();
    let most = bytes.len() - 3;
    send(
        &mut client.socket,
        &bytes[..most],
        usize::MAX,
        &mut net,
        key,
        &mut seen,
    );
    client.socket.shutdown(Shutdown::Write).unwrap();
    seen.turns_until(&mut net, key, Seen::is_over);
    assert_eq!((&seen.received[..], seen.is_closed), (&b"whole"[..], true));
    net.close(key);
    let (client, key, mut seen) = Client::established(&mut net, &TestClient::new(None));
    socket2::SockRef::from(&client.socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    seen.turns_until(&mut net, key, Seen::is_over);
    assert_eq!(seen.error.as_deref(), Some("Connection reset by peer"));
    net.close(key);
    nothing_happens(&mut net);
}

#[test]
fn garbage_at_each_stage_is_an_error_with_a_reason() {
    let lab = Lab::new();
    let mut net = tls_net(load(&lab.one_way()));
    let padded = |front: &[u8]| [front, &[0; 100][..]].concat();
    let first = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        padded(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"),
        padded(b"\0"),
        padded(b"\xff\xff\xff\xff\xff"),
        // An alert that says goodbye, an empty record, one that is too long, a message that is no ClientHello.
        padded(b"\x15\x03\x01\0\x02\x01\0"),
        padded(b"\x16\x03\x01\0\0\x16\x03\x01\0\0"),
        padded(b"\x16\x03\x01\xff\xff\x01"),
        padded(b"\x16\x03\x01\0\x04\x0b\0\0\0"),
        padded(b"\x17\x03\x03\0\x01x"),
    ];
    for (stage, garbage) in first.iter().map(|it| (0, it)).chain([
        (1, &padded(b"\x16\x03\x03\0\x04\x0f\0\0\0")),
        (1, &padded(b"\x17\x03\x03\0\x20")),
        (1, &padded(b"\x42")),
        (2, &padded(b"\x17\x03\x03\0\x20")),
        (2, &padded(b"\x16\x03\x03\0\x20")),
        (2, &padded(b"\x17\x03\x03\xff\xff")),
        (2, &padded(b"\x10\x0c\0\x04MQTT")),
    ]) {
        for piece in [usize::MAX, 1] {
            let config = TestClient::with_versions(None, &[&TLS13]);
            let (mut client, key) = Client::dial(&mut net, &config);
            let mut seen = Seen::default();
            match stage {
                0 => {}
                1 => client.flush(usize::MAX, &mut net, key, &mut seen),
                _ => client.shake_hands(usize::MAX, &mut net, key, &mut seen),
            }
            assert!(!seen.is_over());
            send(&mut client.socket, garbage, piece, &mut net, key, &mut seen);
            seen.turns_until(&mut net, key, Seen::is_over);
            let error = seen.error.unwrap_or_default();
            assert!(error.len() > 10, "{stage} {garbage:x?}: {error}");
            assert_eq!(seen.established.is_some(), stage == 2);
            assert!(seen.received.is_empty());
            net.close(key);
        }
    }
    nothing_happens(&mut net);
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.9 1234 1883\r\n";

/// A header of version 2 from 192.0.2.1:1234, with these fields.
fn header_v2(fields: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(u16::try_from(12 + fields.len()).unwrap().to_be_bytes());
    header.extend([192, 0, 2, 1, 192, 0, 2, 9, 0x04, 0xd2, 0x07, 0x5b]);
    header.extend(fields);
    header
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &len[..], value].concat()
}

/// That the client came over TLS, with a certificate of this name.
fn tls_field(common_name: &[u8]) -> Vec<u8> {
    let inner = [field(0x21, b"TLSv1.3"), field(0x22, common_name)].concat();
    field(0x20, &[&[0x07, 0, 0, 0, 0], &inner[..]].concat())
}

const ANY_V2: ProxyProtocol = ProxyProtocol::V2 {
    require_tls: false,
    identity_is_user_name: false,
};

fn headers() -> [(ProxyProtocol, Vec<u8>); 2] {
    [(ProxyProtocol::V1, V1.to_vec()), (ANY_V2, header_v2(&[]))]
}

fn behind_the_proxy() -> PeerAddress {
    PeerAddress::Ip("192.0.2.1:1234".parse().unwrap())
}

#[test]
fn a_proxy_header_may_be_cut_anywhere() {
    for (version, header) in headers() {
        let mut net = net(&ListenerSpec {
            proxy_protocol: Some(version),
            ..spec()
        });
        let text = b"bytes of MQTT";
        let whole = [&header[..], text].concat();
        for cut in 1..=whole.len() {
            let (mut peer, key) = connect(&mut net);
            let mut seen = Seen::default();
            let (front, back) = whole.split_at(cut);
            send(&mut peer, front, usize::MAX, &mut net, key, &mut seen);
            send(&mut peer, back, usize::MAX, &mut net, key, &mut seen);
            seen.turns_until(&mut net, key, |seen| seen.received.len() >= text.len());
            assert_eq!(seen.received, text);
            let facts = seen.established.take().expect("the header is whole");
            assert_eq!(facts.peer, behind_the_proxy());
            assert_eq!((facts.user_name, facts.tls), (None, None));
            net.close(key);
        }
        // More than a ring behind it, its own end, and both directions.
        let (mut peer, key) = connect(&mut net);
        peer.set_nonblocking(true).unwrap();
        let mut seen = Seen::default();
        let long = [&header[..], &pattern(3 * RING_BYTES)].concat();
        send(&mut peer, &long, usize::MAX, &mut net, key, &mut seen);
        peer.shutdown(Shutdown::Write).unwrap();
        seen.turns_until(&mut net, key, |seen| seen.is_closed);
        assert!(seen.received == pattern(3 * RING_BYTES));
        seen.outbox.buffer(&mut BufferPool::new()).extend(b"answer");
        assert!(net.flush(key, &mut seen.outbox).unwrap());
        net.close(key);
        peer.set_nonblocking(false).unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
        nothing_happens(&mut net);
    }
}

#[test]
fn a_handshake_follows_a_proxy_header_in_one_segment() {
    let lab = Lab::new();
    let context = Arc::new(load(&lab.one_way()));
    for (version, header) in headers() {
        let mut net = net(&ListenerSpec {
            proxy_protocol: Some(version),
            tls: Some(Arc::clone(&context)),
            ..spec()
        });
        for cut in (1..header.len() + 20).chain([usize::MAX]) {
            let (mut client, key) = Client::dial(&mut net, &TestClient::new(None));
            let mut seen = Seen::default();
            let whole = [header.clone(), client.outgoing()].concat();
            let (front, back) = whole.split_at(cut.min(whole.len()));
            for part in [front, back] {
                send(
                    &mut client.socket,
                    part,
                    usize::MAX,
                    &mut net,
                    key,
                    &mut seen,
                );
            }
            client.shake_hands(usize::MAX, &mut net, key, &mut seen);
            let facts = seen.established.as_ref().expect("the handshake is over");
            assert_eq!(facts.peer, behind_the_proxy());
            assert!(facts.tls.is_some());
            net.close(key);
        }
        // TLS, but no header before it; a header, but no TLS behind it.
        let (mut client, key) = Client::dial(&mut net, &TestClient::new(None));
        let mut seen = Seen::default();
        client.flush(usize::MAX, &mut net, key, &mut seen);
        seen.turns_until(&mut net, key, Seen::is_over);
        assert!(seen.error.unwrap().contains("found a TLS handshake"));
        net.close(key);
        let (mut peer, key) = connect(&mut net);
        let mut seen = Seen::default();
        let whole = [&header[..], b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"].concat();
        send(&mut peer, &whole, usize::MAX, &mut net, key, &mut seen);
        seen.turns_until(&mut net, key, Seen::is_over);
        assert!(seen.error.is_some() && seen.established.is_none());
        net.close(key);
    }
}

#[test]
fn a_proxy_is_asked_whether_its_client_came_over_tls() {
    let mut net = net(&ListenerSpec {
        proxy_protocol: Some(ProxyProtocol::V2 {
            require_tls: true,
            identity_is_user_name: true,
        }),
        ..spec()
    });
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for without in [header_v2(&[]), local] {
        let (mut peer, key) = connect(&mut net);
        let mut seen = Seen::default();
        send(&mut peer, &without, usize::MAX, &mut net, key, &mut seen);
        seen.turns_until(&mut net, key, Seen::is_over);
        let error = seen.error.unwrap();
        assert!(error.contains("proxy_protocol_v2_require_tls"), "{error}");
        assert_eq!(seen.established, None);
        net.close(key);
    }
    let (mut peer, key) = connect(&mut net);
    let mut seen = Seen::default();
    let header = header_v2(&tls_field(b"meter"));
    send(&mut peer, &header, 1, &mut net, key, &mut seen);
    seen.turns_until(&mut net, key, |seen| seen.established.is_some());
    assert_eq!(
        seen.established,
        Some(Established {
            peer: behind_the_proxy(),
            user_name: Some("meter".to_owned()),
            tls: Some("TLSv1.3 with the proxy".to_owned()),
        })
    );
    is_idle(&mut net);
}

fn unix_spec(path: &std::path::Path) -> ListenerSpec {
    ListenerSpec {
        unix_path: Some(path.to_owned()),
        ..spec()
    }
}

#[test]
fn a_unix_socket_is_served_and_goes_with_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    // What a broker left that is gone.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut broker = net(&unix_spec(&path));
    assert_eq!(broker.local_addrs().next(), None);
    let mut peer = UnixStream::connect(&path).unwrap();
    let accepted = until(&mut broker, Net::accept);
    assert_eq!(broker.accept(), None);
    let name = path.to_str().unwrap();
    assert!(matches!(accepted.peer, PeerAddress::Unix(own) if own == name));
    let key = accepted.connection;
    peer.write_all(b"near").unwrap();
    assert_eq!(receive(&mut broker, key, 4), (b"near".to_vec(), false));
    let mut outbox = Outbox::new();
    outbox.buffer(&mut BufferPool::new()).extend(b"by");
    assert!(broker.flush(key, &mut outbox).unwrap());
    broker.close(key);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"by");
    nothing_happens(&mut broker);

    // One that somebody listens on stays as it is.
    let error = Net::new().unwrap().listen(&unix_spec(&path)).unwrap_err();
    let expected = format!("Error: Unable to listen on {name}: Address already in use.");
    assert_eq!(error.to_string(), expected);
    let _peer = UnixStream::connect(&path).expect("it is still there");
    until(&mut broker, Net::accept);
    drop(broker);
    assert!(!path.exists());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link, &directory.path().to_owned()] {
        let error = Net::new().unwrap().listen(&unix_spec(path)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("no socket"), "{error}");
        assert!(fs::symlink_metadata(path).is_ok());
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let nowhere = directory.path().join("nowhere/socket");
    let error = Net::new().unwrap().listen(&unix_spec(&nowhere));
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("No such file or directory."), "{error}");
}

#[test]
fn a_listener_keeps_to_its_interface() {
    let named = |name: &str| ListenerSpec {
        interface: Some(name.to_owned()),
        loopback_only: false,
        host: Some("127.0.0.1".to_owned()),
        ..spec()
    };
    let error = Net::new().unwrap().listen(&named("nope0")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Error: Unable to listen on the interface nope0: there is no interface of that name."
    );
    let mut net = net(&named("lo"));
    connect(&mut net);
}

#[test]
fn another_limit_holds_for_those_who_come() {
    let mut net = net(&spec());
    let (_first, first) = connect(&mut net);
    let (_second, _) = connect(&mut net);
    net.set_max_connections(8, Some(0)); // another listener's
    net.set_max_connections(7, Some(1));
    let mut refused = dial(&net);
    for _ in 0..3 {
        net.poll(Some(MOMENT)).unwrap();
        assert_eq!(net.accept(), None);
    }
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    assert_eq!(net.len(), 2, "who is there stays");
    net.close(first);
    let mut refused = dial(&net);
    for _ in 0..3 {
        net.poll(Some(MOMENT)).unwrap();
        assert_eq!(net.accept(), None);
    }
    assert_eq!(refused.read(&mut [0]).unwrap(), 0);
    net.set_max_connections(7, None);
    connect(&mut net);
}

#[test]
fn another_certificate_is_shown_to_those_who_come() {
    let lab = Lab::new();
    lab.issue("other", "ca", Some("subjectAltName=DNS:localhost"), "");
    let mut net = tls_net(load(&lab.one_way()));
    let config = TestClient::new(None);
    let (mut old, old_key, mut old_seen) = Client::established(&mut net, &config);
    // In the middle of its handshake.
    let (mut middle, middle_key) = Client::dial(&mut net, &config);
    let other = load(&crate::config::Tls {
        certfile: lab.path("other.crt"),
        keyfile: lab.path("other.key"),
        ..lab.one_way()
    });
    net.set_tls(7, Arc::new(other));
    let mut middle_seen = Seen::default();
    middle.shake_hands(usize::MAX, &mut net, middle_key, &mut middle_seen);
    let (new, _, _) = Client::established(&mut net, &config);
    let shown = |client: &Client| client.tls.peer_certificates().unwrap()[0].clone();
    let [server, other] = ["server", "other"].map(|name| lab.chain(&[name])[0].clone());
    assert_eq!(shown(&old), server);
    assert_eq!(shown(&middle), server);
    assert_eq!(shown(&new), other);
    let bytes = old.encrypted(b"still here");
    send(&mut old.socket, &bytes, 7, &mut net, old_key, &mut old_seen);
    assert_eq!(old_seen.received, b"still here");
}

#[test]
fn certificates_are_looked_at_again() {
    let lab = Lab::new();
    lab.authority("rival");
    lab.issue("meter", "ca", Some("extendedKeyUsage=clientAuth"), "");
    let mut net = tls_net(load(&lab.mutual("ca.crt")));
    let config = lab.client(&["meter"]);
    let (_client, key, seen) = Client::established(&mut net, &config);
    let facts = seen.established.expect("the handshake is over");
    assert_eq!(facts.user_name.as_deref(), Some("meter"));
    assert!(net.recheck_certificates(7).is_empty());
    assert!(net.recheck_certificates(8).is_empty(), "no such listener");
    // Who has only begun has shown nothing yet.
    let (_beginner, _) = connect(&mut net);
    net.set_tls(7, Arc::new(load(&lab.mutual("rival.crt"))));
    let refused = net.recheck_certificates(7);
    let [(refused_key, reason)] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(*refused_key, key);
    assert!(reason.contains("unknown issuer"), "{reason}");
    net.set_tls(7, Arc::new(load(&lab.one_way())));
    assert!(net.recheck_certificates(7).is_empty());
    // Without one, and with a stranger's, nobody is established.
    net.set_tls(7, Arc::new(load(&lab.mutual("rival.crt"))));
    for config in [TestClient::new(None), config] {
        let (mut client, key) = Client::dial(&mut net, &config);
        let mut seen = Seen::default();
        client.shake_hands(usize::MAX, &mut net, key, &mut seen);
        assert_eq!(seen.established, None);
        assert!(seen.error.is_some());
        net.close(key);
    }
}
