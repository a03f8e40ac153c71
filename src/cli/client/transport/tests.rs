//! Tests of the ways to a broker, against the other sides of their layers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::cli::client::options::{Proxy, Route, Target};

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
fn a_proxy_with_a_login() {
    let login: &[u8] = b"\x01\x04user\x02pw";
    let ok: &[u8] = b"\x05\x00\x00\x01\x7F\x00\x00\x01\x04\x38mqtt";
    let dialogue: &[(&[u8], &[u8])] = Box::leak(Box::new([
        (&[5, 1, 2][..], &[5, 2][..]),
        (login, &[1, 0]),
        (REQUEST, ok),
    ]));
    let (mut route, server) = proxy(dialogue);
    let login = ("user".to_owned(), "pw".to_owned());
    route.proxy.as_mut().expect("it has one").login = Some(login);
    let mut transport = dial(&route).expect("through");
    assert_eq!(receive(&mut transport), b"mqtt");
    drop(transport);
    server.join().expect("content");
}

#[test]
fn a_proxy_that_refuses() {
    let cases: [(&[Exchange], &str); 5] = [
        (&[(GREETING, &[5, 0xFF])], "wants a user name and password"),
        (&[(GREETING, b"HT")], "does not speak SOCKS5"),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[5, 5, 0, 1])],
            "the host refused the connection",
        ),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[5, 0, 0, 9])],
            "an address of no known kind",
        ),
        (
            &[(GREETING, &[5, 0]), (REQUEST, &[4, 0, 0, 1])],
            "does not speak SOCKS5",
        ),
    ];
    for (dialogue, text) in cases {
        let (route, server) = proxy(Box::leak(dialogue.to_vec().into_boxed_slice()));
        let error = dial(&route).expect_err("it refuses");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.library_code(), 16);
        server.join().expect("content");
    }
    let (route, server) = proxy(&[(GREETING, &[5])]);
    assert!(
        matches!(dial(&route), Err(DialError::Connect(_))),
        "cut off"
    );
    server.join().expect("content");
}

#[test]
#[expect(
    clippy::result_large_err,
    reason = "the callback's type is tungstenite's"
)]
fn websocket_both_ways() {
    use tungstenite::Message;
    let (port, server) = serve(|stream| {
        let mut asked = Vec::new();
        let callback =
            |request: &tungstenite::handshake::server::Request,
             mut response: tungstenite::handshake::server::Response| {
                let header =
                    |name: &str| request.headers()[name].to_str().expect("text").to_owned();
                asked = vec![
                    request.uri().to_string(),
                    header("host"),
                    header("sec-websocket-protocol"),
                ];
                let protocol = "mqtt".parse().expect("a header");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", protocol);
                Ok(response)
            };
        let mut socket = tungstenite::accept_hdr(stream, callback).expect("an upgrade");
        let mut all = Vec::new();
        while all.len() < 300_000 {
            match socket.read().expect("a frame") {
                Message::Binary(bytes) => all.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
        socket.send(Message::Ping(vec![1].into())).expect("sent");
        // Neither side's frames know of packets.
        for piece in all.chunks(777) {
            socket.send(Message::binary(piece.to_vec())).expect("sent");
        }
        socket.close(None).expect("closed");
        while socket.read().is_ok() {}
        asked
    });
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
#[expect(
    clippy::result_large_err,
    reason = "the callback's type is tungstenite's"
)]
fn mqtt_6_0_0_1_a_text_frame_is_an_error() {
    let (port, server) = serve(|stream| {
        let callback =
            |_: &tungstenite::handshake::server::Request,
             mut response: tungstenite::handshake::server::Response| {
                let protocol = "mqtt".parse().expect("a header");
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", protocol);
                Ok(response)
            };
        let mut socket = tungstenite::accept_hdr(stream, callback).expect("an upgrade");
        socket
            .send(tungstenite::Message::text("hello"))
            .expect("sent");
        while socket.read().is_ok() {}
    });
    let mut route = route(port);
    route.websocket = true;
    let mut transport = dial(&route).expect("upgraded");
    let mut received = Vec::new();
    let error = loop {
        match transport.read(&mut received, 1000) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&transport, PollFlags::IN);
            }
            other => break other.expect_err("text"),
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    drop(transport);
    server.join().expect("content");
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
