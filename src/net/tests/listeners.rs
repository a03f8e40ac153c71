//! Listeners other than plain TCP: Unix sockets and network interfaces.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener as StdUnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use super::*;
use crate::net::listener::{common_addresses, interface_addresses};

fn at(path: &Path) -> ListenerSpec {
    ListenerSpec {
        unix_path: Some(path.to_owned()),
        ..spec()
    }
}

fn listen(path: &Path) -> Result<Net, String> {
    let mut net = Net::new().unwrap();
    let result = net.listen(&at(path));
    result.map(|()| net).map_err(|error| error.to_string())
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[test]
fn a_unix_socket_serves_and_goes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mqtt.sock");
    let mut net = listen(&path).unwrap();
    assert_eq!(net.local_addrs().count(), 0);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o770, "owner and group");

    let mut peer = UnixStream::connect(&path).unwrap();
    let accepted = until(&mut net, Net::accept);
    assert_eq!(net.accept(), None);
    assert_eq!(
        accepted.peer.to_string(),
        format!("{}:0", path.display()),
        "as Mosquitto writes it"
    );
    assert_eq!(accepted.listener, 7);
    let key = accepted.connection;
    assert_eq!(net.established(key), None, "nothing stands before MQTT");
    let sent = pattern(3 * RING_BYTES + 5);
    let expected = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer));
    let (received, _) = receive(&mut net, key, expected.len());
    assert!(received == expected);
    let mut peer = writer.join().unwrap().unwrap();

    let mut outbox = Outbox::new();
    outbox
        .buffer(&mut BufferPool::new())
        .extend(pattern(1_000_000));
    assert!(!net.flush(key, &mut outbox).unwrap() && outbox.blocked);
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; 1_000_000];
        peer.read_exact(&mut received)
            .map(|()| (received, peer))
            .unwrap()
    });
    flush_all(&mut net, key, &mut outbox);
    let (received, peer) = reader.join().unwrap();
    assert!(received == pattern(1_000_000));
    drop(peer);
    assert_eq!(receive(&mut net, key, 1), (Vec::new(), true));
    net.close(key);
    nothing_happens(&mut net);
    drop(net);
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_has_a_limit_and_no_nodelay() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let mut net = Net::new().unwrap();
    let spec = ListenerSpec {
        max_connections: Some(1),
        nodelay: true,
        ..at(&path)
    };
    net.listen(&spec).unwrap();
    net.set_nodelay(false);
    let _first = UnixStream::connect(&path).unwrap();
    let mut second = UnixStream::connect(&path).unwrap();
    until(&mut net, Net::accept);
    assert_eq!(net.accept(), None);
    assert_eq!(
        second.read(&mut [0; 8]).unwrap(),
        0,
        "closed without a byte"
    );
    net.set_max_connections(7, None);
    let _third = UnixStream::connect(&path).unwrap();
    until(&mut net, Net::accept);
}

#[test]
fn what_is_at_the_path_of_a_unix_socket() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);

    // A broker that is gone left it.
    drop(StdUnixListener::bind(path("dead")).unwrap());
    assert!(is_socket(&path("dead")));
    let net = listen(&path("dead")).unwrap();
    UnixStream::connect(path("dead")).unwrap();

    // Somebody is there: another broker, and one that is too busy to answer.
    let in_use = |name| {
        format!(
            "Error: Unable to listen on {}: Address",
            path(name).display()
        )
    };
    assert!(
        listen(&path("dead"))
            .unwrap_err()
            .starts_with(&in_use("dead"))
    );
    drop(net);
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(path("busy")).unwrap();
    busy.bind(&address).unwrap();
    busy.listen(1).unwrap();
    let mut waiting = Vec::new();
    loop {
        let next = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        next.set_nonblocking(true).unwrap();
        match next.connect(&address) {
            Ok(()) => waiting.push(next),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(
        listen(&path("busy"))
            .unwrap_err()
            .starts_with(&in_use("busy"))
    );
    let _datagrams = UnixDatagram::bind(path("datagrams")).unwrap();
    assert!(listen(&path("datagrams")).is_err());
    for name in ["busy", "datagrams"] {
        assert!(is_socket(&path(name)), "{name} is not ours");
    }

    // No sockets at all.
    fs::write(path("file"), "precious").unwrap();
    symlink(path("dead"), path("link")).unwrap();
    fs::create_dir(path("dir")).unwrap();
    for name in ["file", "link", "dir"] {
        let error = listen(&path(name)).unwrap_err();
        assert!(
            error.ends_with("there is a file of that name that is no socket."),
            "{error}"
        );
        assert!(fs::symlink_metadata(path(name)).is_ok());
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");

    // No such place.
    let error = listen(&path("nowhere/socket")).unwrap_err();
    assert!(error.ends_with("No such file or directory."), "{error}");
    let longest = path(&"x".repeat(107 - dir.path().as_os_str().len() - 1));
    assert!(listen(&longest).is_ok(), "as long as possible");
    let too_long = longest.with_extension("y");
    assert_eq!(
        listen(&too_long).unwrap_err(),
        format!(
            "Error: Path to unix socket is too long \"{}\": 107 bytes are possible.",
            too_long.display()
        )
    );
    assert!(listen(Path::new("")).is_err());
}

#[test]
fn the_socket_of_another_is_not_removed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    let net = listen(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdUnixListener::bind(&path).unwrap();
    drop(net);
    assert!(is_socket(&path));
}

#[test]
fn an_interface_is_listened_on_alone() {
    let on = |name: &str, host: Option<&str>| {
        let mut net = Net::new().unwrap();
        let spec = ListenerSpec {
            interface: Some(name.to_owned()),
            loopback_only: false,
            host: host.map(str::to_owned),
            ..spec()
        };
        net.listen(&spec).map(|()| net)
    };
    let mut net = on("lo", None).unwrap();
    let port = net.local_addrs().next().unwrap().port();
    let _peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    until(&mut net, Net::accept);
    assert_eq!(
        on("no-such-if", None).unwrap_err().to_string(),
        "Error: Unable to listen on the interface no-such-if: there is no interface of that name."
    );
}

#[test]
fn an_interface_without_privilege_is_its_addresses() {
    let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
        let parse = |text: &&str| text.parse().unwrap();
        texts.iter().map(parse).collect()
    };
    let own = addresses(&["10.0.0.5:0", "10.0.0.6:0", "[fe80::1%3]:0"]);
    for (wanted, expected) in [
        (
            &["0.0.0.0:1883"][..],
            &["10.0.0.5:1883", "10.0.0.6:1883"][..],
        ),
        (&["[::]:1883"], &["[fe80::1%3]:1883"]),
        (&["10.0.0.6:8883"], &["10.0.0.6:8883"]),
        (&["127.0.0.1:1883", "[::1]:1883"], &[]),
    ] {
        assert_eq!(
            common_addresses(&own, &addresses(wanted)),
            addresses(expected),
            "{wanted:?}"
        );
    }
    let lo = interface_addresses("lo").unwrap();
    assert!(lo.contains(&"127.0.0.1:0".parse().unwrap()), "{lo:?}");
}
