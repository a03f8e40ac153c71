//! What a proxy, a WebSocket server or a name server can say, without a network: see [`crate::cli::hostile`].

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::dial::Patience;
use super::websocket::WebSocket;
use super::{Socket, Stream, socks, srv};
use crate::cli::client::options::Proxy;

/// How long whoever never answers is waited for; here everybody has answered before.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket on which `bytes` have come, and nothing will come after them; and its other end.
fn socket(bytes: &[u8]) -> Option<(Socket, UnixStream)> {
    let (ours, mut theirs) = UnixStream::pair().ok()?;
    ours.set_nonblocking(true).ok()?;
    theirs.set_nonblocking(true).ok()?;
    theirs.write_all(bytes).ok()?;
    theirs.shutdown(Shutdown::Write).ok()?;
    Some((Socket::Unix(ours), theirs))
}

fn patience() -> Patience<'static> {
    Patience {
        deadline: Instant::now() + PATIENCE,
        interrupt: None,
    }
}

/// A SOCKS5 proxy answers with `bytes`.
pub fn proxy(has_login: bool, bytes: &[u8]) {
    let Some((mut socket, _theirs)) = socket(bytes) else {
        return;
    };
    let login = || ("user".to_owned(), "password".to_owned());
    let proxy = Proxy {
        host: "proxy".to_owned(),
        port: 1080,
        login: has_login.then(login),
    };
    // Whether it lets through is its own business.
    let _ = socks::connect(&mut socket, &proxy, "host", 1883, patience());
}

/// A server answers the request for a WebSocket with `bytes`.
pub fn handshake(bytes: &[u8]) {
    if let Some((socket, _theirs)) = socket(bytes) {
        // It cannot know the key, so this never comes about.
        let _ = WebSocket::connect(Stream::Plain(socket), "host", 80, patience());
    }
}

/// A server sends `bytes` on a WebSocket that stands. What of them is MQTT is not more than there were.
pub fn frames(bytes: &[u8]) {
    let Some((socket, _theirs)) = socket(bytes) else {
        return;
    };
    let mut websocket = WebSocket::standing(Stream::Plain(socket));
    let mut received = Vec::new();
    loop {
        match websocket.read_into(&mut received, 1024) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(received.len() <= bytes.len(), "more than was sent");
    websocket.shutdown();
}

/// A name server answers the question for the servers of a domain with `bytes`.
pub fn name_server(bytes: &[u8]) {
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    if let Some(servers) = srv::servers_in(bytes, id, "_mqtt._tcp.example.org") {
        assert!(!servers.is_empty() && servers.iter().all(|(host, _)| !host.is_empty()));
    }
}
