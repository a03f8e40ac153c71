//! Tests of the ways to a broker, against the other sides of their layers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data as OpData, OpCode};

use super::*;
use crate::cli::client::options::{Proxy, Route, Target};
use crate::config::ClientTls;

const TIMEOUT: Duration = Duration::from_secs(10);

fn route(port: u16) -> Route {
    Route {
        target: Target::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        },
        bind_address: None,
        proxy: None,
        nodelay: true,
        tls: None,
        websocket: false,
    }
}

/// A server for one connection.
fn serve<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let thread = thread::spawn(move || serve(listener.accept().expect("a client").0));
    (port, thread)
}

fn dial(route: &Route) -> Result<Transport, DialError> {
    Dialer::new(route).expect("no files").dial(TIMEOUT, None)
}

fn wait(transport: &Transport, events: PollFlags) {
    if !transport.has_more() {
        let mut fds = [PollFd::from_borrowed_fd(transport.as_fd(), events)];
        poll(&mut fds, None).expect("it can be polled");
    }
}

fn send(transport: &mut Transport, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match transport.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(transport, PollFlags::OUT);
            }
            Err(error) => panic!("{error}"),
        }
    }
    while !transport.flush().expect("it flows") {
        wait(transport, PollFlags::OUT);
    }
}

/// Everything up to the end.
fn receive(transport: &mut Transport) -> Vec<u8> {
    let mut received = Vec::new();
    loop {
        match transport.read(&mut received, 1000) {
            Ok(0) => return received,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(transport, PollFlags::IN);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 7) >> 3) as u8).collect()
}

/// Takes what comes up to its end, and sends it back.
fn echo(mut stream: impl Read + Write) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("it ends");
    stream.write_all(&all).expect("it takes");
}

#[test]
fn tcp_both_ways() {
    let (port, server) = serve(echo);
    let mut transport = dial(&route(port)).expect("there");
    send(&mut transport, &bytes(3_000_000));
    transport.shutdown();
    assert!(receive(&mut transport) == bytes(3_000_000));
    server.join().expect("content");
}

#[test]
fn unix_both_ways() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || echo(listener.accept().expect("a client").0));
    let mut route = route(0);
    route.target = Target::Unix(path.clone());
    let mut transport = dial(&route).expect("there");
    send(&mut transport, b"hello");
    transport.shutdown();
    assert_eq!(receive(&mut transport), b"hello");
    server.join().expect("content");
    drop(directory);
    let error = dial(&route).expect_err("it is gone");
    assert_eq!(error.to_string(), "No such file or directory");
}

#[test]
fn a_unix_socket_with_a_full_backlog() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let listener = listener.expect("a socket");
    let address = socket2::SockAddr::unix(&path).expect("a short path");
    listener.bind(&address).expect("bound");
    listener.listen(0).expect("listening");
    let mut route = route(0);
    route.target = Target::Unix(path);
    let mut dialer = Dialer::new(&route).expect("no files");
    let first = dialer.dial(TIMEOUT, None).expect("it has room for one");
    let error = dialer.dial(Duration::from_millis(60), None);
    assert_eq!(error.expect_err("full").to_string(), "Connection timed out");
    let (reader, mut writer) = UnixStream::pair().expect("a pair");
    writer.write_all(b"x").expect("written");
    let error = dialer.dial(TIMEOUT, Some(reader.as_fd()));
    assert!(matches!(error, Err(DialError::Interrupted)));
    let waiter = thread::spawn(move || dialer.dial(TIMEOUT, None).map(drop));
    thread::sleep(Duration::from_millis(30));
    drop(listener.accept().expect("the first"));
    waiter.join().expect("done").expect("there is room again");
    drop(first);
}

#[test]
fn an_address_that_is_silent_leaves_time_for_the_next() {
    let now = Instant::now();
    let patience = dial::Patience {
        deadline: now + Duration::from_secs(30),
        interrupt: None,
    };
    let share = |tries| (patience.share(tries).deadline - now).as_secs_f32().round();
    assert_eq!([0, 1, 2, 3].map(share), [30.0, 30.0, 15.0, 10.0]);
}

#[test]
fn nobody_there() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closed.local_addr().expect("bound").port();
    drop(closed);
    let error = dial(&route(port)).expect_err("nobody listens");
    assert_eq!(
        (error.library_code(), error.to_string().as_str()),
        (14, "Connection refused")
    );
    let mut route = route(port);
    route.bind_address = Some("192.0.2.1".to_owned());
    let error = dial(&route).expect_err("not our address");
    assert_eq!(error.to_string(), "Cannot assign requested address");
    route.bind_address = Some("::1".to_owned());
    assert!(
        matches!(dial(&route), Err(DialError::Connect(_))),
        "another family"
    );
    route.target = Target::Tcp {
        host: "no.such.name.invalid".to_owned(),
        port,
    };
    assert_eq!(dial(&route).expect_err("no name").library_code(), 15);
}

#[test]
fn the_user_ends_a_dial() {
    // A proxy that says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut route = route(1883);
    route.proxy = Some(Proxy {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().expect("bound").port(),
        login: None,
    });
    let mut dialer = Dialer::new(&route).expect("no files");
    let (reader, mut writer) = UnixStream::pair().expect("a pair");
    let error = dialer.dial(Duration::from_millis(30), Some(reader.as_fd()));
    assert_eq!(
        error.expect_err("silence").to_string(),
        "Connection timed out"
    );
    writer.write_all(b"x").expect("written");
    let start = Instant::now();
    let error = dialer.dial(TIMEOUT, Some(reader.as_fd()));
    assert!(matches!(error, Err(DialError::Interrupted)));
    assert!(start.elapsed() < TIMEOUT);
}

/// What a proxy is to hear, and its answer.
type Exchange = (&'static [u8], &'static [u8]);

/// A proxy that answers each of these messages with the next answer.
fn proxy(dialogue: &'static [Exchange]) -> (Route, JoinHandle<()>) {
    let (port, server) = serve(move |mut stream| {
        for (expected, answer) in dialogue {
            let mut received = vec![0; expected.len()];
            stream.read_exact(&mut received).expect("it comes");
            assert_eq!(&received, expected);
            // In pieces, as a slow proxy sends it.
            for byte in *answer {
                stream.write_all(&[*byte]).expect("it takes");
            }
        }
        // What is still unread would reset the connection.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut route = route(1883);
    route.target = Target::Tcp {
        host: "broker".to_owned(),
        port: 0x1234,
    };
    route.proxy = Some(Proxy {
        host: "127.0.0.1".to_owned(),
        port,
        login: None,
    });
    (route, server)
}

const GREETING: &[u8] = &[5, 1, 0];
const REQUEST: &[u8] = b"\x05\x01\x00\x03\x06broker\x12\x34";

#[test]
fn through_a_proxy() {
    for reply in [
        &b"\x05\x00\x00\x01\x7F\x00\x00\x01\x04\x38mqtt"[..],
        b"\x05\x00\x00\x03\x02me\x04\x38mqtt",
        b"\x05\x00\x00\x04................\x04\x38mqtt",
    ] {
        let dialogue = Box::leak(Box::new([(GREETING, &[5, 0][..]), (REQUEST, reply)]));
        let (route, server) = proxy(dialogue);
        let mut transport = dial(&route).expect("through");
        assert_eq!(receive(&mut transport), b"mqtt");
        drop(transport);
        server.join().expect("content");
    }
}

#[test]
fn a_proxy_is_given_addresses_as_they_are() {
    for (host, request) in [
        (
            "192.0.2.7",
            &b"\x05\x01\x00\x01\xC0\x00\x02\x07\x12\x34"[..],
        ),
        (
            "2001:db8::1",
            b"\x05\x01\x00\x04\x20\x01\x0D\xB8\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34",
        ),
    ] {
        let reply: &[u8] = b"\x05\x00\x00\x01\x7F\x00\x00\x01\x04\x38";
        let dialogue = Box::leak(Box::new([(GREETING, &[5, 0][..]), (request, reply)]));
        let (mut route, server) = proxy(dialogue);
        route.target = Target::Tcp {
            host: host.to_owned(),
            port: 0x1234,
        };
        drop(dial(&route).expect("through"));
        server.join().expect("content");
    }
}

#[test]
fn a_proxy_with_a_login() {
    const OK: &[u8] = b"\x05\x00\x00\x01\x7F\x00\x00\x01\x04\x38mqtt";
    const OFFER: &[u8] = &[5, 2, 0, 2];
    const LOGIN: &[u8] = b"\x01\x04user\x02pw";
    let cases: [(&[Exchange], Result<(), &str>); 5] = [
        (&[(OFFER, &[5, 2]), (LOGIN, &[1, 0]), (REQUEST, OK)], Ok(())),
        // One that wants none.
        (&[(OFFER, &[5, 0]), (REQUEST, OK)], Ok(())),
        (
            &[(OFFER, &[5, 2]), (LOGIN, &[1, 1])],
            Err("does not accept the user name and password"),
        ),
        (
            &[(OFFER, &[5, 1])],
            Err("does not take a user name and password"),
        ),
        (
            &[(OFFER, &[5, 2]), (LOGIN, &[1])],
            Err("closed the connection"),
        ),
    ];
    for (dialogue, expected) in cases {
        let (mut route, server) = proxy(dialogue);
        let login = ("user".to_owned(), "pw".to_owned());
        route.proxy.as_mut().expect("it has one").login = Some(login);
        match (dial(&route), expected) {
            (Ok(mut transport), Ok(())) => assert_eq!(receive(&mut transport), b"mqtt"),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (dialed, _) => panic!("{dialogue:?}: {dialed:?}"),
        }
        server.join().expect("content");
    }
}

#[test]
fn a_proxy_that_refuses() {
    let cases: [(&[Exchange], &str, u8); 7] = [
        (
            &[(GREETING, &[5, 0xFF])],
            "wants a user name and password",
            11,
        ),
        (&[(GREETING, b"HT")], "does not speak SOCKS5", 16),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[5, 5, 0, 1])],
            "the host refused the connection",
            4,
        ),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[5, 2, 0, 1])],
            "its rules do not allow the connection",
            11,
        ),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[5, 9, 0, 1])],
            "an error that has no name",
            3,
        ),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[5, 0, 0, 9])],
            "an address of no known kind",
            16,
        ),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[4, 0, 0, 1])],
            "does not speak SOCKS5",
            16,
        ),
    ];
    for (dialogue, text, code) in cases {
        let (route, server) = proxy(Box::leak(dialogue.to_vec().into_boxed_slice()));
        let error = dial(&route).expect_err("it refuses");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.library_code(), code);
        server.join().expect("content");
    }
    for cut_off in [&[][..], &[5]] {
        let (route, server) = proxy(Box::leak(Box::new([(GREETING, cut_off)])));
        let error = dial(&route).expect_err("cut off");
        assert!(
            error.to_string().contains("closed the connection"),
            "{error}"
        );
        server.join().expect("content");
    }
}

/// Upgrades; what the request asked for.
#[expect(
    clippy::result_large_err,
    reason = "the callback's type is tungstenite's"
)]
fn upgrade<S: Read + Write>(stream: S) -> (tungstenite::WebSocket<S>, [String; 3]) {
    use tungstenite::handshake::server::{Request, Response};
    let mut asked = [const { String::new() }; 3];
    let callback = |request: &Request, mut response: Response| {
        let header = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
        asked = [
            request.uri().to_string(),
            header("host"),
            header("sec-websocket-protocol"),
        ];
        let protocol = "mqtt".parse().expect("a header");
        (response.headers_mut()).insert("sec-websocket-protocol", protocol);
        Ok(response)
    };
    let socket = tungstenite::accept_hdr(stream, callback).expect("an upgrade");
    (socket, asked)
}

/// Takes `len` bytes, sends them back in small frames, says good-bye.
fn echo_frames(stream: impl Read + Write, len: usize) -> [String; 3] {
    let (mut socket, asked) = upgrade(stream);
    let mut all = Vec::new();
    while all.len() < len {
        match socket.read().expect("a frame") {
            Message::Binary(bytes) => all.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
    }
    // Neither side's frames know of packets, nor do messages in several frames.
    let (first, last) = all.split_at(len / 2);
    for piece in first.chunks(777) {
        socket.send(Message::binary(piece.to_vec())).expect("sent");
        socket.send(Message::Ping(vec![1].into())).expect("sent");
    }
    let kinds = [OpData::Binary]
        .into_iter()
        .chain(std::iter::repeat(OpData::Continue));
    for (piece, kind) in last.chunks(7777).zip(kinds) {
        let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), false);
        socket.send(Message::Frame(frame)).expect("sent");
        socket.send(Message::Ping(vec![2].into())).expect("sent");
    }
    let end = Frame::message(Vec::new(), OpCode::Data(OpData::Continue), true);
    socket.send(Message::Frame(end)).expect("sent");
    socket.close(None).expect("closed");
    let mut pongs = 0;
    while let Ok(message) = socket.read() {
        pongs += u32::from(message.is_pong());
    }
    assert!(pongs > 0, "a ping has no answer");
    asked
}

#[test]
fn websocket_both_ways() {
    let (port, server) = serve(|stream| echo_frames(stream, 300_000));
    let mut route = route(port);
    route.websocket = true;
    let mut transport = dial(&route).expect("upgraded");
    send(&mut transport, &bytes(300_000));
    assert!(receive(&mut transport) == bytes(300_000));
    transport.shutdown();
    drop(transport);
    let asked = server.join().expect("content");
    assert_eq!(asked, ["/mqtt", &format!("127.0.0.1:{port}"), "mqtt"]);
}

#[test]
fn the_host_of_a_websocket() {
    for (host, expected) in [("::1", "[::1]"), ("localhost", "localhost")] {
        let Ok(listener) = TcpListener::bind((host, 0)) else {
            continue; // A machine without IPv6.
        };
        let port = listener.local_addr().expect("bound").port();
        let server = thread::spawn(move || upgrade(listener.accept().expect("a client").0).1);
        let mut route = route(port);
        route.websocket = true;
        route.target = Target::Tcp {
            host: host.to_owned(),
            port,
        };
        drop(dial(&route).expect("upgraded"));
        assert_eq!(
            server.join().expect("content")[1],
            format!("{expected}:{port}")
        );
    }
}

/// Why a connection ends, for the client of a server that sends this after the upgrade and then waits.
fn after_upgrade(sent: &'static [u8]) -> (Vec<u8>, io::Result<usize>) {
    let (port, server) = serve(move |stream| {
        let (mut socket, _) = upgrade(stream);
        socket.get_mut().write_all(sent).expect("it takes");
        // With the socket open: what the client makes of it must not depend on its end.
        let _ = socket.get_mut().read_to_end(&mut Vec::new());
    });
    let mut route = route(port);
    route.websocket = true;
    let mut transport = dial(&route).expect("upgraded");
    let mut received = Vec::new();
    let end = loop {
        match transport.read(&mut received, 1000) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&transport, PollFlags::IN);
            }
            Ok(len) if len > 0 => {}
            end => break end,
        }
    };
    let error = transport.write(b"x");
    if matches!(end, Ok(0)) {
        assert_eq!(
            error.expect_err("it is over").kind(),
            io::ErrorKind::BrokenPipe
        );
    }
    drop(transport);
    server.join().expect("content");
    (received, end)
}

#[test]
fn mqtt_6_0_0_1_a_text_frame_is_an_error() {
    let (received, end) = after_upgrade(b"\x82\x02ok\x81\x05hello");
    assert_eq!(received, b"ok");
    assert_eq!(end.expect_err("text").kind(), io::ErrorKind::InvalidData);
}

#[test]
fn frames_that_are_none() {
    for sent in [
        &b"\xC2\x01x"[..],                            // A bit of an extension.
        b"\x82\x81\x00\x00\x00\x00x",                 // Masked, which only clients do.
        b"\x83\x01x",                                 // No such frame.
        b"\x80\x01x",                                 // Goes on with nothing.
        b"\x09\x01x",                                 // Half a ping.
        b"\x82\x7F\x00\x00\x00\x00\x20\x00\x00\x00x", // More than a packet can be.
        b"\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFx",
    ] {
        let (received, end) = after_upgrade(sent);
        assert_eq!(received, b"");
        let error = end.expect_err("no frame");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{sent:?}");
    }
}

#[test]
fn good_bye_is_the_end_though_the_socket_stays_open() {
    for sent in [
        &b"\x82\x02ok\x88\x00"[..],
        b"\x82\x02ok\x88\x02\x03\xE8",
        b"\x82\x02ok\x88\x00\x82\x03not",
    ] {
        let (received, end) = after_upgrade(sent);
        assert_eq!((received, end.expect("an end")), (b"ok".to_vec(), 0));
    }
}

#[test]
fn a_websocket_without_a_good_bye_ends_too() {
    let (port, server) = serve(|stream| {
        let (mut socket, _) = upgrade(stream);
        socket
            .send(Message::binary(b"last words".to_vec()))
            .expect("sent");
    });
    let mut route = route(port);
    route.websocket = true;
    let mut transport = dial(&route).expect("upgraded");
    assert_eq!(receive(&mut transport), b"last words");
    server.join().expect("content");
}

#[test]
fn a_websocket_that_nobody_reads_takes_little() {
    let (done, finished) = UnixStream::pair().expect("a pair");
    let (port, server) = serve(move |stream| {
        let (_socket, _) = upgrade(stream);
        let _ = (&finished).read(&mut [0]);
    });
    let mut route = route(port);
    route.websocket = true;
    let mut transport = dial(&route).expect("upgraded");
    let piece = bytes(1 << 20);
    let mut taken = 0;
    let error = loop {
        match transport.write(&piece) {
            Ok(len) => taken += len,
            Err(error) => break error,
        }
        assert!(taken < 64 << 20, "it never says that it is full");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(transport.wants_write());
    assert!(!transport.flush().expect("it waits"));
    drop(done);
    server.join().expect("content");
}

/// A certificate for localhost that is its own authority, and its key.
fn certificate(directory: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (directory.join("server.crt"), directory.join("server.key"));
    let made = std::process::Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256 -days 2 -nodes"
                .split(' '),
        )
        .args("-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(' '))
        .args(["-out".as_ref(), certificate.as_os_str()])
        .args(["-keyout".as_ref(), key.as_os_str()])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}

type TlsStream = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// A TLS server for one connection, and the route to it.
fn serve_tls<T: Send + 'static>(
    serve_tls: impl FnOnce(TlsStream) -> T + Send + 'static,
) -> (Route, JoinHandle<T>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let (certificate, key) = certificate(directory.path());
    let tls = crate::config::Tls::one_way(&certificate, key);
    let context = crate::net::TlsContext::load(&tls, None).expect("good files");
    let config = context.server_config().clone();
    let (port, server) = serve(move |stream| {
        let connection = rustls::ServerConnection::new(config).expect("good settings");
        serve_tls(rustls::StreamOwned::new(connection, stream))
    });
    let mut route = route(port);
    route.tls = Some(ClientTls {
        cafile: Some(certificate),
        ..ClientTls::default()
    });
    (route, server, directory)
}

#[test]
fn tls_both_ways() {
    let (route, server, _files) = serve_tls(|mut stream| {
        echo(&mut stream);
        stream.conn.send_close_notify();
        stream.flush().expect("it takes");
        stream
            .sock
            .shutdown(std::net::Shutdown::Write)
            .expect("open");
        // Or what is unread would reset the connection.
        let _ = stream.sock.read_to_end(&mut Vec::new());
    });
    let mut transport = dial(&route).expect("secure");
    send(&mut transport, &bytes(3_000_000));
    transport.shutdown();
    assert!(receive(&mut transport) == bytes(3_000_000));
    drop(transport);
    server.join().expect("content");
}

#[test]
fn websocket_in_tls_both_ways() {
    let (mut route, server, _files) = serve_tls(|mut stream| {
        let asked = echo_frames(&mut stream, 300_000);
        (asked, stream.read(&mut [0]).expect("close_notify"))
    });
    route.websocket = true;
    let mut transport = dial(&route).expect("upgraded");
    send(&mut transport, &bytes(300_000));
    assert!(receive(&mut transport) == bytes(300_000));
    transport.shutdown();
    drop(transport);
    let (asked, end) = server.join().expect("content");
    assert_eq!(
        (asked[0].as_str(), asked[2].as_str(), end),
        ("/mqtt", "mqtt", 0)
    );
}

#[test]
fn tls_through_a_proxy_is_with_the_server() {
    let (mut route, server, _files) = serve_tls(|mut stream| {
        let mut greeting = [0; 3];
        stream.sock.read_exact(&mut greeting).expect("a greeting");
        stream.sock.write_all(&[5, 0]).expect("it takes");
        let mut request = [0; 16];
        stream.sock.read_exact(&mut request).expect("a request");
        assert_eq!(&request[5..14], b"localhost");
        stream
            .sock
            .write_all(b"\x05\x00\x00\x01\0\0\0\0\0\0")
            .expect("it takes");
        echo(stream);
    });
    let Target::Tcp { port, .. } = route.target else {
        unreachable!("it is TCP")
    };
    route.proxy = Some(Proxy {
        host: "127.0.0.1".to_owned(),
        port,
        login: None,
    });
    route.target = Target::Tcp {
        host: "localhost".to_owned(),
        port: 8883,
    };
    let mut transport = dial(&route).expect("secure");
    send(&mut transport, b"hello");
    transport.shutdown();
    assert_eq!(receive(&mut transport), b"hello");
    server.join().expect("content");
}

#[test]
fn a_tls_server_that_nobody_reads_takes_little() {
    let (done, finished) = UnixStream::pair().expect("a pair");
    let (route, server, _files) = serve_tls(move |mut stream| {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("a handshake");
        let _ = (&finished).read(&mut [0]);
    });
    let mut transport = dial(&route).expect("secure");
    let piece = bytes(1 << 20);
    let mut taken = 0;
    let error = loop {
        match transport.write(&piece) {
            Ok(len) => taken += len,
            Err(error) => break error,
        }
        assert!(taken < 64 << 20, "it never says that it is full");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(transport.wants_write());
    drop(done);
    server.join().expect("content");
}

#[test]
fn a_server_without_tls() {
    for (answer, text) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], ""),
        (b"\x20\x02\x00\x01", ""),
        (b"\x16\x03\x03\xFF\xFF", ""),
        (b"", "is its listener one for TLS?"),
        (b"\x15\x03\x03\x00\x02\x02\x28", ""),
    ] {
        let (port, server) = serve(move |mut stream| {
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).expect("a ClientHello");
            stream.write_all(answer).expect("it takes");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let directory = tempfile::tempdir().expect("a directory");
        let mut route = route(port);
        route.tls = Some(ClientTls {
            cafile: Some(certificate(directory.path()).0),
            ..ClientTls::default()
        });
        let error = dial(&route).expect_err("no TLS");
        assert!(matches!(error, DialError::Tls(_)), "{answer:?}: {error:?}");
        assert!(error.to_string().contains(text), "{answer:?}: {error}");
        server.join().expect("content");
    }
}

#[test]
fn what_is_silent_or_never_stops_is_given_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let cafile = certificate(directory.path()).0;
    for (with_tls, websocket) in [(true, false), (false, true)] {
        // An endless change_cipher_spec, an endless header.
        let endless: &[u8] = match with_tls {
            true => b"\x14\x03\x03\x00\x01\x01",
            false => b"X: y\r\n",
        };
        for sent in [&b""[..], endless] {
            let (port, server) = serve(move |mut stream| {
                if !sent.is_empty() {
                    if !with_tls {
                        stream.write_all(b"HTTP/1.1 101 Yes\r\n").expect("it takes");
                    }
                    while stream.write_all(sent).is_ok() {}
                }
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let mut route = route(port);
            route.websocket = websocket;
            route.tls = with_tls.then(|| ClientTls {
                cafile: Some(cafile.clone()),
                ..ClientTls::default()
            });
            let mut dialer = Dialer::new(&route).expect("good files");
            let start = Instant::now();
            let error = dialer.dial(Duration::from_millis(200), None);
            let error = error.expect_err("it gives up");
            assert!(start.elapsed() < TIMEOUT);
            if sent.is_empty() {
                assert_eq!(error.to_string(), "Connection timed out");
            }
            server.join().expect("content");
        }
    }
}

#[test]
fn a_server_without_websocket() {
    for (answer, text) in [
        (
            &b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..],
            "HTTP status 404",
        ),
        (b"", "is its listener one for WebSocket?"),
        (b"\x20\x02\x00\x01", "does not speak WebSocket"),
    ] {
        let (port, server) = serve(move |mut stream| {
            let mut request = [0; 1000];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("it takes");
        });
        let mut route = route(port);
        route.websocket = true;
        let error = dial(&route).expect_err("no WebSocket");
        assert!(error.to_string().contains(text), "{answer:?}: {error}");
        server.join().expect("content");
    }
}
