//! TLS and the PROXY protocol in front of MQTT: real loopback sockets, a rustls client in the same process, and
//! certificates that the `openssl` command makes once.

use std::path::Path;
use std::sync::OnceLock;

use rustls::client::{ClientConnection, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use super::*;
use crate::config::{CertificateName, ProxyProtocol, Tls};
use crate::net::layers::Layers;

/// Contexts and what clients need.
struct Lab {
    one_way: Arc<TlsContext>,
    mutual: Arc<TlsContext>,
    /// Of the same files.
    mutual_again: Arc<TlsContext>,
    /// For the clients of another authority.
    mutual_of_others: Arc<TlsContext>,
    authority: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(Lab::new)
}

fn openssl(dir: &Path, words: &str) {
    let output = Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {said}");
}

impl Lab {
    fn new() -> Lab {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let new_key = "-newkey EC -pkeyopt ec_paramgen_curve:P-256 -nodes";
        for authority in ["ca", "other"] {
            let words = format!(
                "req -x509 {new_key} -keyout {authority}.key -subj /CN={authority} -out {authority}.crt"
            );
            openssl(dir.path(), &words);
        }
        std::fs::write(path("ext"), "subjectAltName=DNS:localhost").unwrap();
        for name in ["server", "client"] {
            let words =
                format!("req {new_key} -keyout {name}.key -subj /CN={name} -out {name}.csr");
            openssl(dir.path(), &words);
            let words = format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ext -out {name}.crt"
            );
            openssl(dir.path(), &words);
        }
        let one_way = Tls::one_way(path("server.crt"), path("server.key"));
        let mutual = |authority: &str| Tls {
            cafile: Some(path(authority)),
            require_certificate: true,
            user_name: Some(CertificateName::CommonName),
            ..one_way.clone()
        };
        let load = |tls: &Tls| Arc::new(TlsContext::load(tls, None).unwrap());
        let certificate = |name| CertificateDer::from_pem_file(path(name)).unwrap();
        Lab {
            one_way: load(&one_way),
            mutual: load(&mutual("ca.crt")),
            mutual_again: load(&mutual("ca.crt")),
            mutual_of_others: load(&mutual("other.crt")),
            authority: certificate("ca.crt"),
            certificate: certificate("client.crt"),
            key: PrivateKeyDer::from_pem_file(path("client.key")).unwrap(),
        }
    }
}

fn client_config(
    version: &'static SupportedProtocolVersion,
    shows_certificate: bool,
) -> Arc<ClientConfig> {
    let lab = lab();
    let mut roots = RootCertStore::empty();
    roots.add(lab.authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shows_certificate {
        true => config
            .with_client_auth_cert(vec![lab.certificate.clone()], lab.key.clone_key())
            .unwrap(),
        false => config.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

fn tls_spec(context: &Arc<TlsContext>) -> ListenerSpec {
    ListenerSpec {
        tls: Some(Arc::clone(context)),
        ..spec()
    }
}

/// What a connection came to at this end.
#[derive(Debug, Default)]
struct Seen {
    established: Option<Established>,
    bytes: Vec<u8>,
    end: Option<Result<(), String>>,
}

impl Seen {
    /// One turn of the loop; everything that comes is consumed.
    fn turn(&mut self, net: &mut Net, key: ConnectionKey) {
        net.poll(Some(Duration::from_millis(1))).unwrap();
        while let Some(ready) = net.take_ready() {
            if ready != key {
                assert_eq!(net.fill(ready).unwrap(), Filled::Bytes(0));
                net.settle(ready, 0);
                continue;
            }
            match net.fill(key) {
                Ok(Filled::Bytes(n)) => {
                    let ring = net.ring(key);
                    assert_eq!(ring.len(), n);
                    assert!(n == 0 || self.established.is_some(), "too early");
                    self.bytes.extend(ring.filled());
                    ring.consume(n);
                }
                Ok(Filled::Established) => {
                    assert!(net.ring(key).is_empty());
                    let before = self
                        .established
                        .replace(net.established(key).unwrap().clone());
                    assert_eq!(before, None, "said twice");
                }
                Ok(Filled::Closed) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error.to_string())),
            }
            net.settle(key, 0);
        }
        // Without anything to send, as the server does: what layers have to say goes by itself.
        while net.take_writable().is_some() {}
    }

    fn error(&self) -> &str {
        match &self.end {
            Some(Err(error)) => error,
            other => panic!("no error: {other:?}"),
        }
    }
}

/// A client of TLS that never waits.
struct Client {
    tls: ClientConnection,
    socket: TcpStream,
    received: Vec<u8>,
    is_closed: bool,
    error: Option<String>,
}

impl Client {
    fn new(socket: TcpStream, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        tls.set_buffer_limit(None);
        socket.set_nonblocking(true).unwrap();
        Client {
            tls,
            socket,
            received: Vec::new(),
            is_closed: false,
            error: None,
        }
    }

    fn write(&mut self) {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.error.get_or_insert(error.to_string());
                    return;
                }
            }
        }
    }

    /// Reads once.
    fn read(&mut self) {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => self.is_closed = true,
            Ok(_) => match self.tls.process_new_packets() {
                Ok(state) => {
                    let mut bytes = vec![0; state.plaintext_bytes_to_read()];
                    self.tls.reader().read_exact(&mut bytes).unwrap();
                    self.received.extend(bytes);
                }
                Err(error) => self.error = Some(error.to_string()),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                self.error.get_or_insert(error.to_string());
            }
        }
    }
}

/// Turns both ends until `done`.
fn drive(
    net: &mut Net,
    key: ConnectionKey,
    client: &mut Client,
    seen: &mut Seen,
    done: impl Fn(&Client, &Seen) -> bool,
) {
    let deadline = Instant::now() + WAIT;
    while !done(client, seen) {
        client.write();
        seen.turn(net, key);
        client.read();
        assert!(Instant::now() < deadline, "waited in vain: {:?}", seen.end);
    }
}

/// A connection whose handshake is over at both ends.
fn shake_hands(net: &mut Net, config: &Arc<ClientConfig>) -> (Client, ConnectionKey, Seen) {
    let (socket, key) = connect(net);
    let mut client = Client::new(socket, config);
    let mut seen = Seen::default();
    drive(net, key, &mut client, &mut seen, |client, seen| {
        seen.established.is_some() && !client.tls.is_handshaking()
    });
    (client, key, seen)
}

#[test]
fn a_handshake_of_single_bytes() {
    for (version, name) in [
        (&TLS13, "TLSv1.3 cipher TLS_AES_"),
        (&TLS12, "TLSv1.2 cipher TLS_ECDHE_"),
    ] {
        let mut net = net(&tls_spec(&lab().one_way));
        let (socket, key) = connect(&mut net);
        socket.set_nodelay(true).unwrap();
        let address = socket.local_addr().unwrap();
        let mut client = Client::new(socket, &client_config(version, false));
        let mut seen = Seen::default();
        let deadline = Instant::now() + WAIT;
        while client.tls.is_handshaking() || client.tls.wants_write() {
            let mut bytes = Vec::new();
            while client.tls.wants_write() {
                client.tls.write_tls(&mut bytes).unwrap();
            }
            for byte in bytes {
                assert_eq!(net.established(key), None);
                client.socket.write_all(&[byte]).unwrap();
                seen.turn(&mut net, key);
            }
            seen.turn(&mut net, key);
            client.read();
            assert!(Instant::now() < deadline, "waited in vain");
        }
        for _ in 0..3 {
            seen.turn(&mut net, key);
        }
        let Established {
            peer,
            user_name,
            tls,
        } = seen.established.clone().expect("the handshake is over");
        assert_eq!(peer, PeerAddress::Ip(address));
        assert_eq!(user_name, None);
        assert!(tls.as_ref().unwrap().starts_with(name), "{tls:?}");
        nothing_happens(&mut net);
        client.tls.writer().write_all(b"hello").unwrap();
        drive(&mut net, key, &mut client, &mut seen, |_, seen| {
            seen.bytes.len() == 5
        });
        assert_eq!(seen.bytes, b"hello");
        assert_eq!(net.bytes_received(), 5, "TLS's own do not count");
        nothing_happens(&mut net);
    }
}

#[test]
fn a_certificate_is_a_user_name_also_when_resumed() {
    let mut net = net(&tls_spec(&lab().mutual));
    let config = client_config(&TLS13, true);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut client, key, mut seen) = shake_hands(&mut net, &config);
        let established = seen.established.clone().unwrap();
        assert_eq!(established.user_name.as_deref(), Some("client"));
        // The tickets come behind the handshake.
        client.tls.writer().write_all(b"x").unwrap();
        drive(&mut net, key, &mut client, &mut seen, |_, seen| {
            seen.bytes == b"x"
        });
        client.read();
        assert_eq!(client.tls.handshake_kind(), Some(kind));
        net.close(key);
    }
    // No certificate: the client hears it in an alert, and not in a reset.
    let (socket, key) = connect(&mut net);
    let mut client = Client::new(socket, &client_config(&TLS13, false));
    let mut seen = Seen::default();
    drive(&mut net, key, &mut client, &mut seen, |_, seen| {
        seen.end.is_some()
    });
    assert_eq!(seen.error(), "the client showed no certificate");
    assert_eq!(seen.established, None);
    assert_eq!(net.established(key), None);
    // A client of TLS 1.3 thinks that all is well, and goes on.
    client.socket.write_all(&pattern(20_000)).unwrap();
    net.close(key);
    drive_client(&mut client);
    assert!(
        client
            .error
            .as_ref()
            .unwrap()
            .contains("CertificateRequired"),
        "{:?}",
        client.error
    );
}

/// Reads what is there until the end.
fn drive_client(client: &mut Client) {
    let deadline = Instant::now() + WAIT;
    while !client.is_closed && client.error.is_none() {
        client.read();
        assert!(Instant::now() < deadline, "waited in vain");
    }
}

#[test]
fn much_goes_both_ways_at_once() {
    for version in [&TLS13, &TLS12] {
        let mut net = net(&tls_spec(&lab().one_way));
        let (mut client, key, mut seen) = shake_hands(&mut net, &client_config(version, false));
        let up = pattern(8_000_003);
        client.tls.writer().write_all(&up).unwrap();
        let mut pool = BufferPool::new();
        let mut outbox = Outbox::new();
        let payload: Rc<dyn AsRef<[u8]>> = Rc::new(pattern(300_000));
        let mut down = Vec::new();
        for i in 0..40u8 {
            outbox.buffer(&mut pool).extend([i; 7]);
            outbox.push_shared(Rc::clone(&payload));
            down.extend([i; 7]);
            down.extend((*payload).as_ref());
        }
        let mut is_sent = false;
        let mut waiting = 0;
        while waiting != outbox.len() {
            waiting = outbox.len();
            is_sent = net.flush(key, &mut outbox).unwrap();
        }
        assert!(!is_sent && outbox.blocked);

        let deadline = Instant::now() + 3 * WAIT;
        while seen.bytes.len() < up.len() || client.received.len() < down.len() {
            client.write();
            net.poll(Some(Duration::from_millis(1))).unwrap();
            while let Some(key) = net.take_ready() {
                let filled = net.fill(key).unwrap();
                assert!(matches!(filled, Filled::Bytes(_)), "{filled:?}");
                let ring = net.ring(key);
                seen.bytes.extend(ring.filled());
                ring.consume(ring.len());
                net.settle(key, 0);
            }
            while let Some(key) = net.take_writable() {
                is_sent = net.flush(key, &mut outbox).unwrap();
            }
            client.read();
            assert!(Instant::now() < deadline, "waited in vain");
        }
        assert!(is_sent && outbox.is_empty() && !outbox.blocked);
        assert!(seen.bytes == up && client.received == down);
        assert_eq!(net.bytes_received(), up.len() as u64);
        assert_eq!(net.bytes_sent(), down.len() as u64);
        assert_eq!(Rc::strong_count(&payload), 1);
        nothing_happens(&mut net);
        // Small things go through afterwards, and new keys.
        if version == &TLS13 {
            client.tls.refresh_traffic_keys().unwrap();
        }
        client.tls.writer().write_all(b"more").unwrap();
        seen.bytes.clear();
        drive(&mut net, key, &mut client, &mut seen, |_, seen| {
            seen.bytes == b"more"
        });
        outbox.buffer(&mut pool).extend(b"answer");
        assert!(net.flush(key, &mut outbox).unwrap());
        client.received.clear();
        drive(&mut net, key, &mut client, &mut seen, |client, _| {
            client.received == b"answer"
        });
    }
}

#[test]
fn what_a_slow_reader_leaves_waits_in_the_outbox() {
    let mut net = net(&tls_spec(&lab().one_way));
    let (mut client, key, _) = shake_hands(&mut net, &client_config(&TLS13, false));
    let mut outbox = Outbox::new();
    let len = 30_000_000;
    outbox.push_shared(Rc::new(pattern(len)));
    let mut turns = 0;
    while turns < 10 {
        net.poll(Some(MOMENT)).unwrap();
        while net.take_writable().is_some() {}
        assert!(!net.flush(key, &mut outbox).unwrap());
        turns += 1;
    }
    assert!(outbox.blocked);
    let in_rustls_and_kernel = len - outbox.len();
    assert!(in_rustls_and_kernel < len / 2, "{in_rustls_and_kernel}");
    nothing_happens(&mut net);
    let reader = std::thread::spawn(move || {
        while client.received.len() < len {
            client.read();
        }
        client
    });
    flush_all(&mut net, key, &mut outbox);
    // The last of it may be in rustls until the socket takes more.
    let deadline = Instant::now() + WAIT;
    while !reader.is_finished() {
        net.poll(Some(MOMENT)).unwrap();
        while net.take_writable().is_some() {}
        assert!(Instant::now() < deadline, "waited in vain");
    }
    let client = reader.join().unwrap();
    assert!(client.received == pattern(len));
}

#[test]
fn packets_of_any_size_come_through_tls_interleaved() {
    let mut net = net(&tls_spec(&lab().one_way));
    let sizes = [
        5,
        3_000,
        16_384,
        4,
        RING_BYTES - 1,
        17,
        RING_BYTES + 1,
        900_000,
        70_000,
        2_500_000,
        9,
    ];
    let config = client_config(&TLS13, false);
    let clients: Vec<_> = (0..3).map(|_| shake_hands(&mut net, &config)).collect();
    let mut writers = Vec::new();
    let mut left = std::collections::HashMap::new();
    for (i, (client, key, _)) in clients.into_iter().enumerate() {
        let mut sizes = sizes.to_vec();
        sizes.rotate_left(i * 4);
        left.insert(key, sizes.clone().into_iter());
        writers.push(std::thread::spawn(move || {
            let Client {
                mut tls,
                mut socket,
                ..
            } = client;
            socket.set_nonblocking(false).unwrap();
            for (i, &len) in sizes.iter().enumerate() {
                for piece in packet(len).chunks(700 * (i + 1) * (i + 1)) {
                    tls.writer().write_all(piece).unwrap();
                    while tls.wants_write() {
                        tls.write_tls(&mut socket).unwrap();
                    }
                }
            }
            tls.send_close_notify();
            tls.write_tls(&mut socket).unwrap();
            socket // stays open
        }));
    }
    let mut paused = None;
    until(&mut net, |net| {
        // Now and then one of them waits for a turn, whatever it holds.
        if let Some(key) = paused.take() {
            net.resume(key);
        }
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
            if paused.is_none() {
                net.pause(key);
                paused = Some(key);
            }
            net.settle(key, needed);
        }
        left.is_empty().then_some(())
    });
    for writer in writers {
        writer.join().unwrap();
    }
    assert!(net.is_empty() && net.holder.is_none());
}

#[test]
fn ends_of_tls() {
    let config = client_config(&TLS13, false);
    // Orderly: what came before counts.
    let mut net = net(&tls_spec(&lab().one_way));
    let (mut client, key, mut seen) = shake_hands(&mut net, &config);
    client.tls.writer().write_all(b"last words").unwrap();
    client.tls.send_close_notify();
    drive(&mut net, key, &mut client, &mut seen, |_, seen| {
        seen.end.is_some()
    });
    assert_eq!(
        (&seen.bytes[..], seen.end),
        (&b"last words"[..], Some(Ok(())))
    );
    let mut outbox = Outbox::new();
    outbox.buffer(&mut BufferPool::new()).extend(b"answer");
    assert!(net.flush(key, &mut outbox).unwrap());
    net.close(key);
    drive_client(&mut client);
    assert_eq!(client.received, b"answer");
    assert_eq!(client.error, None);

    // We end it: the client is told.
    let (mut client, key, _) = shake_hands(&mut net, &config);
    net.close(key);
    drive_client(&mut client);
    assert_eq!(client.error, None);
    let read = client.tls.reader().read(&mut [0; 8]);
    assert_eq!(read.expect("an orderly end"), 0);

    // The connection just ends, in the middle of a record.
    let (mut client, key, mut seen) = shake_hands(&mut net, &config);
    client.tls.writer().write_all(b"whole").unwrap();
    client.write();
    client
        .socket
        .write_all(&[0x17, 3, 3, 0, 100, 1, 2])
        .unwrap();
    client.socket.shutdown(Shutdown::Write).unwrap();
    drive(&mut net, key, &mut client, &mut seen, |_, seen| {
        seen.end.is_some()
    });
    assert_eq!((&seen.bytes[..], seen.end), (&b"whole"[..], Some(Ok(()))));
    net.close(key);

    // In the middle of the handshake.
    let (socket, key) = connect(&mut net);
    let mut client = Client::new(socket, &config);
    let mut hello = Vec::new();
    client.tls.write_tls(&mut hello).unwrap();
    client.socket.write_all(&hello[..hello.len() / 2]).unwrap();
    client.socket.shutdown(Shutdown::Write).unwrap();
    let mut seen = Seen::default();
    drive(&mut net, key, &mut client, &mut seen, |_, seen| {
        seen.end.is_some()
    });
    assert_eq!((seen.established, seen.end), (None, Some(Ok(()))));
    net.close(key);

    // A reset.
    let (client, key, mut seen) = shake_hands(&mut net, &config);
    socket2::SockRef::from(&client.socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    until(&mut net, |net| {
        let ready = net.take_ready()?;
        assert_eq!(ready, key);
        match net.fill(key) {
            Ok(filled) => assert_eq!(filled, Filled::Bytes(0)),
            Err(error) => seen.end = Some(Err(error.to_string())),
        }
        net.settle(key, 0);
        seen.end.as_ref().map(|_| ())
    });
    assert_eq!(seen.error(), "Connection reset by peer");
    net.close(key);
    nothing_happens(&mut net);
}

#[test]
fn what_came_before_broken_tls_counts() {
    let mut net = net(&tls_spec(&lab().one_way));
    for whole in [10, 40_000] {
        let (mut client, key, mut seen) = shake_hands(&mut net, &client_config(&TLS13, false));
        client.tls.writer().write_all(&pattern(whole)).unwrap();
        let mut bytes = Vec::new();
        while client.tls.wants_write() {
            client.tls.write_tls(&mut bytes).unwrap();
        }
        bytes.extend([0x17, 3, 3, 0, 20]);
        bytes.extend([9; 20]);
        client.socket.write_all(&bytes).unwrap();
        drive(&mut net, key, &mut client, &mut seen, |_, seen| {
            seen.end.is_some()
        });
        assert!(seen.bytes == pattern(whole), "{}", seen.bytes.len());
        assert_eq!(seen.error(), "a TLS record could not be decrypted");
        // It goes on talking, and hears what was wrong all the same.
        client.socket.write_all(&pattern(30_000)).unwrap();
        net.close(key);
        drive_client(&mut client);
        assert!(
            client.error.as_ref().unwrap().contains("BadRecordMac"),
            "{:?}",
            client.error
        );
    }
}

#[test]
fn what_is_not_tls_is_refused() {
    let mut net = net(&tls_spec(&lab().one_way));
    for bytes in [
        &b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0"[..],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let (mut socket, key) = connect(&mut net);
        socket.write_all(bytes).unwrap();
        let mut seen = Seen::default();
        until(&mut net, |net| {
            seen.turn(net, key);
            seen.end.as_ref().map(|_| ())
        });
        assert_eq!(
            seen.error(),
            "not TLS: the client seems to speak plain text on a TLS port"
        );
        net.settle(key, 0);
        assert_eq!(net.fill(key).unwrap(), Filled::Closed, "told once");
        // It goes on talking, and hears what is wrong all the same.
        socket.write_all(&pattern(30_000)).unwrap();
        net.close(key);
        let mut alert = Vec::new();
        socket.read_to_end(&mut alert).expect("an end, no reset");
        assert_eq!(alert[0], 0x15, "an alert");
    }
}

#[test]
fn a_hello_has_a_bound() {
    const { assert!(size_of::<Layers>() <= 256) };
    let mut net = net(&tls_spec(&lab().one_way));
    let (mut socket, key) = connect(&mut net);
    // It announces 60 KiB, in records of 1 KiB.
    let mut hello = vec![1, 0, 0xF0, 0, 3, 3];
    hello.resize(60 * 1024, 7);
    let mut sent = 0;
    let mut seen = Seen::default();
    for piece in hello.chunks(1024) {
        socket.write_all(&[0x16, 3, 1, 4, 0]).unwrap();
        socket.write_all(piece).unwrap();
        sent += 5 + piece.len();
        std::thread::sleep(Duration::from_millis(1));
        seen.turn(&mut net, key);
        if seen.end.is_some() {
            break;
        }
    }
    assert!((16_000..20_000).contains(&sent), "{sent}");
    assert_eq!(
        seen.error(),
        "the client's part of the TLS handshake is longer than 16384 bytes"
    );
}

/// A header of version 2 for 192.0.2.1:1000.
fn header_v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    header.extend(1000u16.to_be_bytes());
    header.extend(1883u16.to_be_bytes());
    header
}

const HEADER_V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1883\r\n";

const V2: ProxyProtocol = ProxyProtocol::V2 {
    require_tls: false,
    identity_is_user_name: false,
};

#[test]
fn a_proxy_header_in_two_parts_wherever_it_is_cut() {
    for (version, header) in [(ProxyProtocol::V1, HEADER_V1.to_vec()), (V2, header_v2())] {
        let mut net = net(&ListenerSpec {
            proxy_protocol: Some(version),
            ..spec()
        });
        let bytes = [&header[..], b"MQTT goes here"].concat();
        for cut in 0..bytes.len() {
            let (mut socket, key) = connect(&mut net);
            let mut seen = Seen::default();
            socket.write_all(&bytes[..cut]).unwrap();
            for _ in 0..4 {
                seen.turn(&mut net, key);
            }
            assert_eq!(seen.established.is_some(), cut >= header.len(), "{cut}");
            assert_eq!(net.established(key), seen.established.as_ref());
            socket.write_all(&bytes[cut..]).unwrap();
            until(&mut net, |net| {
                seen.turn(net, key);
                (seen.bytes.len() >= 14).then_some(())
            });
            assert_eq!(seen.bytes, b"MQTT goes here");
            let established = seen.established.as_ref().unwrap();
            assert_eq!(established.peer.to_string(), "192.0.2.1:1000");
            // And from then on it is as without.
            socket.write_all(&pattern(20_000)).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            until(&mut net, |net| {
                seen.turn(net, key);
                seen.end.is_some().then_some(())
            });
            assert!(seen.bytes[14..] == pattern(20_000) && seen.end == Some(Ok(())));
            let mut outbox = Outbox::new();
            outbox.buffer(&mut BufferPool::new()).extend(b"answer");
            assert!(net.flush(key, &mut outbox).unwrap());
            net.close(key);
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"answer");
        }
        assert_eq!(
            net.bytes_received(),
            (bytes.len() * (14 + 20_000)) as u64,
            "the header does not count"
        );
        nothing_happens(&mut net);
    }
}

#[test]
fn tls_behind_a_proxy_header() {
    let mut net = net(&ListenerSpec {
        proxy_protocol: Some(V2),
        ..tls_spec(&lab().mutual)
    });
    let config = client_config(&TLS13, true);
    for cut in [0, 5, header_v2().len(), header_v2().len() + 30] {
        let (mut socket, key) = connect(&mut net);
        socket.set_nodelay(true).unwrap();
        let mut tls = ClientConnection::new(
            Arc::clone(&config),
            ServerName::try_from("localhost").unwrap(),
        )
        .unwrap();
        let mut bytes = header_v2();
        tls.write_tls(&mut bytes).unwrap();
        let mut seen = Seen::default();
        socket.write_all(&bytes[..cut]).unwrap();
        for _ in 0..4 {
            seen.turn(&mut net, key);
        }
        socket.write_all(&bytes[cut..]).unwrap();
        let mut client = Client::new(socket, &config);
        client.tls = tls;
        client.tls.writer().write_all(b"through both").unwrap();
        drive(&mut net, key, &mut client, &mut seen, |_, seen| {
            seen.bytes.len() == 12
        });
        assert_eq!(seen.bytes, b"through both");
        let established = seen.established.unwrap();
        assert_eq!(established.peer.to_string(), "192.0.2.1:1000");
        assert_eq!(established.user_name.as_deref(), Some("client"));
        net.close(key);
    }
}

#[test]
fn wrong_proxy_headers_are_refused() {
    let strict = ProxyProtocol::V2 {
        require_tls: true,
        identity_is_user_name: true,
    };
    for (version, bytes, expected) in [
        (V2, HEADER_V1.to_vec(), "version 1"),
        (ProxyProtocol::V1, header_v2(), "version 2"),
        (V2, b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0".to_vec(), "MQTT"),
        (strict, header_v2(), "proxy_protocol_v2_require_tls"),
    ] {
        let mut net = net(&ListenerSpec {
            proxy_protocol: Some(version),
            ..spec()
        });
        let (mut socket, key) = connect(&mut net);
        socket.write_all(&bytes).unwrap();
        let mut seen = Seen::default();
        until(&mut net, |net| {
            seen.turn(net, key);
            seen.end.as_ref().map(|_| ())
        });
        assert!(seen.error().contains(expected), "{}", seen.error());
        assert_eq!(net.established(key), None);
        net.close(key);
    }
}

#[test]
fn a_new_context_is_for_new_connections_and_judges_the_others() {
    let lab = lab();
    let mut net = net(&tls_spec(&lab.mutual));
    let config = client_config(&TLS13, true);
    let (mut old, old_key, mut old_seen) = shake_hands(&mut net, &config);
    assert_eq!(net.recheck_certificates(7), []);
    assert_eq!(net.recheck_certificates(8), [], "there is no such listener");
    net.set_tls(7, Arc::clone(&lab.mutual_again));
    assert_eq!(net.recheck_certificates(7), [], "nothing has changed");

    // In the middle of its handshake when the authority changes.
    let (socket, late_key) = connect(&mut net);
    let mut late = Client::new(socket, &config);
    late.write();
    let mut late_seen = Seen::default();
    for _ in 0..5 {
        late_seen.turn(&mut net, late_key);
    }
    net.set_tls(7, Arc::clone(&lab.mutual_of_others));
    let refused = net.recheck_certificates(7);
    let [(key, reason)] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(*key, old_key);
    assert!(!reason.is_empty());
    drive(&mut net, late_key, &mut late, &mut late_seen, |_, seen| {
        seen.end.is_some()
    });
    assert_eq!(late_seen.error(), reason);
    assert_eq!(late_seen.established, None);
    net.close(late_key);

    // Until somebody closes it, it goes on.
    old.tls.writer().write_all(b"still here").unwrap();
    drive(&mut net, old_key, &mut old, &mut old_seen, |_, seen| {
        seen.bytes == b"still here"
    });
    // A new one is judged by the new context.
    let (socket, new_key) = connect(&mut net);
    let mut new = Client::new(socket, &config);
    let mut new_seen = Seen::default();
    drive(&mut net, new_key, &mut new, &mut new_seen, |_, seen| {
        seen.end.is_some()
    });
    assert!(
        new_seen.error().contains("unknown issuer"),
        "{}",
        new_seen.error()
    );
}

#[test]
fn another_thread_wakes_the_poller() {
    let mut net = net(&spec());
    let waker = net.waker();
    for _ in 0..2 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(MOMENT);
            waker.wake();
        });
        let before = Instant::now();
        net.poll(Some(WAIT)).unwrap();
        assert!(before.elapsed() < WAIT / 2);
        thread.join().unwrap();
        nothing_happens(&mut net);
    }
}
