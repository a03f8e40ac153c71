//! The log: users search for these lines and scripts parse them, so they are held to the letter.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::harness::*;

/// A broker with `lines` of configuration whose log lines have no timestamps, and its log from now on.
fn logged(lines: &[&str]) -> Lines {
    let broker = Broker::start(&[&["log_timestamp false", "sys_interval 0"], lines].concat());
    // What the harness looked with: its connection is told of until its end.
    broker.wait_for_log("disconnected: connection closed by client.");
    let seen = broker.log_text().lines().count();
    Lines { broker, seen }
}

/// The log of a broker, read line by line.
struct Lines {
    broker: Broker,
    seen: usize,
}

impl Lines {
    /// Expects the next lines to be these.
    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        let start = Instant::now();
        let next = loop {
            let text = self.broker.log_text();
            let next: Vec<String> = text.lines().skip(self.seen).map(Into::into).collect();
            if next.len() >= expected.len() || start.elapsed() > DEADLINE {
                break next;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let next = &next[..next.len().min(expected.len())];
        assert_eq!(next, expected);
        self.seen += expected.len();
    }

    /// Expects this line among the next ones, and skips to behind it.
    #[track_caller]
    fn skip_to(&mut self, line: &str) {
        let start = Instant::now();
        loop {
            let text = self.broker.log_text();
            let mut next = text.lines().skip(self.seen);
            if let Some(at) = next.position(|next| next == line) {
                self.seen += at + 1;
                return;
            }
            assert!(start.elapsed() < DEADLINE, "no line {line:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A client that was accepted, and the lines about it skipped.
    fn connect(&mut self, version: Version, client_id: &str) -> Raw {
        self.connect_with(version, connect(client_id), client_id)
    }

    fn connect_with(&mut self, version: Version, connect: Connect, client_id: &str) -> Raw {
        let client = self.broker.connect_with(version, connect);
        let present = u8::from(client.connack.session_present);
        self.skip_to(&format!("Sending CONNACK to {client_id} ({present}, 0)"));
        client
    }
}

/// Its own address, as the log has it.
fn peer(client: &Raw) -> SocketAddr {
    client.socket().local_addr().expect("it is connected")
}

#[test]
fn connections() {
    let mut log = logged(&[]);
    let port = log.broker.address().port();
    for (version, level) in [(Version::V31, 3), (Version::V311, 4), (Version::V5, 5)] {
        let mut client = log
            .broker
            .connect_with(version, connect("client").keep_alive(60));
        let peer = peer(&client);
        log.expect(&[
            &format!("New connection from {peer} on port {port}."),
            &format!("New client connected from {peer} as client (p{level}, c1, k60)."),
            "No will message specified.",
            "Sending CONNACK to client (0, 0)",
        ]);
        client.send(pingreq());
        client.expect(pingresp());
        log.expect(&["Received PINGREQ from client", "Sending PINGRESP to client"]);
        client.send(disconnect());
        client.expect_closed();
        log.expect(&[
            "Received DISCONNECT from client",
            &format!("Client client [{peer}] disconnected."),
        ]);
    }
}

#[test]
fn connections_with_user_name_will_and_session() {
    let mut log = logged(&[]);
    let port = log.broker.address().port();
    for present in [0, 1] {
        let connect = connect("client")
            .clean(false)
            .username("somebody")
            .password("secret")
            .will(will("gone/client", "bye").qos(1).retain());
        let mut client = log.broker.connect_with(Version::V311, connect);
        let peer = peer(&client);
        log.expect(&[
            &format!("New connection from {peer} on port {port}."),
            &format!("New client connected from {peer} as client (p4, c0, k0, u'somebody')."),
            "Will message specified (3 bytes) (r1, q1).",
            "\tgone/client",
            &format!("Sending CONNACK to client ({present}, 0)"),
        ]);
        client.send(disconnect());
        log.skip_to(&format!("Client client [{peer}] disconnected."));
    }
    assert!(!log.broker.log_text().contains("secret"));
}

/// Bridges set the highest bit of the protocol level.
#[test]
fn bridges() {
    let mut log = logged(&[]);
    for (version, level, name) in [(Version::V31, 3, "MQIsdp"), (Version::V311, 4, "MQTT")] {
        let bridge = connect("remote").protocol(name, 0x80 | level);
        let client = log.broker.connect_with(version, bridge);
        let peer = peer(&client);
        log.skip_to(&format!(
            "New bridge connected from {peer} as remote (p{level}, c1, k0)."
        ));
        drop(client);
        log.skip_to(&format!(
            "Client remote [{peer}] disconnected: connection closed by client."
        ));
    }
}

/// A client without an id goes by the one that it is given.
#[test]
fn a_client_without_an_id() {
    let mut log = logged(&[]);
    let mut client = log.broker.connect_v5("");
    let id = value_of(&client.connack.properties, ASSIGNED_CLIENT_IDENTIFIER).expect("it has none");
    let id = String::from_utf8(id.to_vec()).expect("it is a string");
    assert!(id.starts_with("auto-"), "{id}");
    log.skip_to(&format!(
        "New client connected from {} as {id} (p5, c1, k0).",
        peer(&client)
    ));
    client.fence();
    log.skip_to(&format!("Received PINGREQ from {id}"));
}

/// How each connection ends is said in its last line.
#[test]
fn disconnections() {
    type Ends = fn(&mut Raw);
    let mut log = logged(&["max_packet_size 1000", "listener_allow_anonymous true"]);
    let causes: [(&[Version], Ends, &str); 8] = [
        (
            &Version::ALL,
            |client| client.send(disconnect()),
            "disconnected.",
        ),
        (
            &Version::ALL,
            |client| client.shutdown_send(),
            "disconnected: connection closed by client.",
        ),
        (
            &Version::ALL,
            |client| client.send(b"\x80\x00"),
            "disconnected: malformed packet.",
        ),
        (
            &[Version::V5],
            |client| client.send(connect("again")),
            "disconnected: protocol error.",
        ),
        (
            &Version::ALL,
            |client| client.send(publish("a", vec![b'x'; 2000])),
            "disconnected: oversize packet.",
        ),
        (
            &[Version::V5],
            |client| client.send(publish("a", "x").with(topic_alias(500))),
            "disconnected: topic alias invalid.",
        ),
        (
            &[Version::V5],
            |client| client.send(disconnect().reason(0x04)),
            "disconnected.",
        ),
        (
            &Version::ALL,
            |client| {
                let address = client.socket().peer_addr().expect("connected");
                let mut other = Raw::open(address, Version::V311);
                other.send(connect("client"));
                assert_eq!(other.expect_connack().reason, 0);
            },
            "disconnected: session taken over.",
        ),
    ];
    for (versions, ends, words) in causes {
        for version in versions {
            let mut client = log.connect(*version, "client");
            let peer = peer(&client);
            ends(&mut client);
            log.skip_to(&format!("Client client [{peer}] {words}"));
        }
    }
}

/// What the system says of a connection, in its own words and without the number of the error.
#[test]
fn disconnections_by_reset() {
    let mut log = logged(&[]);
    for version in Version::ALL {
        let client = log.connect(version, "client");
        let peer = peer(&client);
        let socket = SockRef::from(client.socket());
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("it is a TCP socket");
        drop(client);
        log.skip_to(&format!(
            "Client client [{peer}] disconnected: Connection reset by peer."
        ));
    }
}

#[test]
fn disconnections_by_time_out() {
    let mut log = logged(&[]);
    let clients = Version::ALL.map(|version| {
        let id = format!("{version:?}");
        (
            log.connect_with(version, connect(&id).keep_alive(1), &id),
            id,
        )
    });
    for (client, id) in &clients {
        let line = format!(
            "Client {id} [{}] disconnected: exceeded timeout.",
            peer(client)
        );
        log.broker.wait_for_log(&line);
    }
}

/// Before its id is known, a client goes by its address.
#[test]
fn refused_connections() {
    let mut log = logged(&["allow_anonymous false"]);
    for (version, code) in [(Version::V311, 5), (Version::V5, 135)] {
        let mut client = log.broker.open(version);
        client.send(connect("client"));
        client.expect_connack();
        let peer = peer(&client);
        log.skip_to(&format!("Sending CONNACK to client (0, {code})"));
        log.skip_to(&format!(
            "Client client [{peer}] disconnected: not authorised."
        ));
    }
    let silent = log.broker.open(Version::V5);
    let address = peer(&silent);
    drop(silent);
    log.skip_to(&format!(
        "Client 127.0.0.1 [{address}] disconnected: connection closed by client."
    ));
}

#[test]
fn first_packets_that_are_no_connect() {
    let mut log = logged(&[]);
    for (bytes, line) in [
        (
            &b"\xc0\x00"[..],
            "Protocol error from {peer}: First packet not CONNECT (C0).",
        ),
        (
            b"\x30\x05\x00\x01axx",
            "Protocol error from {peer}: First packet not CONNECT (30).",
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n",
            "Protocol error from {peer}: First packet not CONNECT (47).",
        ),
    ] {
        let mut client = log.broker.open(Version::V5);
        client.send(bytes);
        let peer = peer(&client);
        log.skip_to(&line.replace("{peer}", &peer.to_string()));
    }
}

/// The first byte of a TLS record is that of a CONNECT with flags that it must not have.
#[test]
fn tls_to_a_listener_without() {
    let mut log = logged(&[]);
    let mut client = log.broker.open(Version::V5);
    client.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03");
    client.drain_until_closed().expect("it cannot be answered");
    log.skip_to(&format!(
        "Client from {} appears to be using TLS to connect to a non-TLS listener.",
        peer(&client)
    ));
}

#[test]
fn too_many_connections() {
    let broker = Broker::start(&[
        "log_timestamp false",
        "listener {port} 127.0.0.1",
        "max_connections 2",
    ]);
    broker.wait_for_log("disconnected: connection closed by client.");
    let _clients = [broker.connect_v5("one"), broker.connect_v5("two")];
    let mut third = broker.open(Version::V5);
    third.expect_closed();
    let line = broker.wait_for_log("denied");
    assert_eq!(
        line,
        "Client connection from 127.0.0.1 denied: max_connections exceeded."
    );
}

#[test]
fn sessions_that_expire() {
    let mut log = logged(&[]);
    let expires = connect("client")
        .clean(false)
        .with(session_expiry_interval(1));
    let mut client = log.connect_with(Version::V5, expires, "client");
    client.send(disconnect());
    client.expect_closed();
    log.skip_to("Expiring client client due to timeout.");
}

/// Told when it begins, not for each message.
#[test]
fn dropped_messages() {
    let mut log = logged(&["max_queued_messages 1", "max_inflight_messages 1"]);
    let mut sleeper = log.connect_with(Version::V311, connect("sleeper").clean(false), "sleeper");
    sleeper.send(subscribe(1).filter("a", 1));
    sleeper.expect(suback(1, &[1]));
    sleeper.send(disconnect());
    sleeper.expect_closed();
    let mut publisher = log.connect(Version::V5, "publisher");
    for packet_id in 1..=5 {
        publisher.send(publish("a", "x").qos(1).packet_id(packet_id));
        publisher.expect_packet();
    }
    publisher.fence();
    log.skip_to("Sending PINGRESP to publisher");
    let line = "Outgoing messages are being dropped for client sleeper.";
    assert_eq!(log.broker.log_text().matches(line).count(), 1);
}

#[test]
fn subscriptions() {
    let mut log = logged(&[]);
    let mut client = log.connect(Version::V5, "client");
    client.send(
        subscribe(7)
            .filter("a/#", 1)
            .filter("$share/group/b", 2)
            .filter("c d", 0),
    );
    client.expect(suback(7, &[1, 2, 0]));
    log.expect(&[
        "Received SUBSCRIBE from client",
        "\ta/# (QoS 1)",
        "client 1 a/#",
        "\t$share/group/b (QoS 2)",
        "client 2 $share/group/b",
        "\tc d (QoS 0)",
        "client 0 c d",
        "Sending SUBACK to client",
    ]);
    client.send(unsubscribe(8, &["a/#", "never"]));
    client.expect(unsuback(8, &[0, 0x11]));
    log.expect(&[
        "Received UNSUBSCRIBE from client",
        "\ta/#",
        "client a/#",
        "\tnever",
        "client never",
        "Sending UNSUBACK to client",
    ]);
}

#[test]
fn publish_qos_0() {
    let mut log = logged(&[]);
    let mut subscriber = log.connect(Version::V311, "s");
    subscriber.send(subscribe(1).filter("a/#", 2));
    subscriber.expect(suback(1, &[2]));
    let mut publisher = log.connect(Version::V5, "p");
    publisher.send(publish("a/b", "hello").retain());
    subscriber.expect(publish("a/b", "hello"));
    log.expect(&[
        "Received PUBLISH from p (d0, q0, r1, m0, 'a/b', ... (5 bytes))",
        "Sending PUBLISH to s (d0, q0, r0, m0, 'a/b', ... (5 bytes))",
    ]);
}

#[test]
fn publish_qos_1() {
    let mut log = logged(&[]);
    let mut subscriber = log.connect(Version::V5, "s");
    subscriber.send(subscribe(1).filter("a/#", 2));
    subscriber.expect(suback(1, &[2]));
    let mut publisher = log.connect(Version::V5, "p");
    publisher.send(publish("a/b", "hello").qos(1).packet_id(300).dup());
    publisher.expect(puback(300));
    subscriber.expect(publish("a/b", "hello").qos(1).packet_id(1));
    log.expect(&[
        "Received PUBLISH from p (d1, q1, r0, m300, 'a/b', ... (5 bytes))",
        "Sending PUBLISH to s (d0, q1, r0, m1, 'a/b', ... (5 bytes))",
        "Sending PUBACK to p (m300, rc0)",
    ]);
    subscriber.send(puback(1));
    log.expect(&["Received PUBACK from s (Mid: 1, RC:0)"]);
    publisher.send(publish("nobody", "").qos(1).packet_id(301));
    publisher.expect(puback(301).reason(0x10));
    log.expect(&[
        "Received PUBLISH from p (d0, q1, r0, m301, 'nobody', ... (0 bytes))",
        "Sending PUBACK to p (m301, rc16)",
    ]);
}

#[test]
fn publish_qos_2() {
    let mut log = logged(&[]);
    let mut subscriber = log.connect(Version::V5, "s");
    subscriber.send(subscribe(1).filter("a/#", 2));
    subscriber.expect(suback(1, &[2]));
    let mut publisher = log.connect(Version::V311, "p");
    publisher.send(publish("a/b", "hello").qos(2).packet_id(5));
    publisher.expect(pubrec(5));
    log.expect(&[
        "Received PUBLISH from p (d0, q2, r0, m5, 'a/b', ... (5 bytes))",
        "Sending PUBREC to p (m5, rc0)",
    ]);
    publisher.send(pubrel(5));
    publisher.expect(pubcomp(5));
    subscriber.expect(publish("a/b", "hello").qos(2).packet_id(1));
    log.expect(&[
        "Received PUBREL from p (Mid: 5)",
        "Sending PUBLISH to s (d0, q2, r0, m1, 'a/b', ... (5 bytes))",
        "Sending PUBCOMP to p (m5)",
    ]);
    subscriber.send(pubrec(1));
    subscriber.expect(pubrel(1));
    subscriber.send(pubcomp(1));
    log.expect(&[
        "Received PUBREC from s (Mid: 1)",
        "Sending PUBREL to s (m1)",
        "Received PUBCOMP from s (Mid: 1, RC:0)",
    ]);
}

/// A message that comes by its Topic Alias is told of by its topic.
#[test]
fn publish_by_topic_alias() {
    let mut log = logged(&[]);
    let mut publisher = log.connect(Version::V5, "p");
    publisher.send(publish("a/b", "1").with(topic_alias(3)));
    publisher.send(publish("", "22").with(topic_alias(3)));
    log.expect(&[
        "Received PUBLISH from p (d0, q0, r0, m0, 'a/b', ... (1 bytes))",
        "Received PUBLISH from p (d0, q0, r0, m0, 'a/b', ... (2 bytes))",
    ]);
}

#[test]
fn publish_that_is_refused() {
    let mut log = logged(&["message_size_limit 3"]);
    let mut publisher = log.connect(Version::V5, "p");
    publisher.send(publish("$SYS/x", "x").qos(1).packet_id(1));
    publisher.expect(puback(1).reason(0x87));
    log.expect(&[
        "Denied PUBLISH from p (d0, q1, r0, m1, '$SYS/x', ... (1 bytes))",
        "Sending PUBACK to p (m1, rc135)",
    ]);
    publisher.send(publish("a", "abcd"));
    publisher.fence();
    log.expect(&["Dropped too large PUBLISH from p (d0, q0, r0, m0, 'a', ... (4 bytes))"]);
}

#[test]
fn disconnect_by_the_broker() {
    let mut log = logged(&[]);
    let mut client = log.connect(Version::V5, "client");
    client.send(connect("client"));
    client.expect(disconnect().reason(0x82));
    log.skip_to("Sending DISCONNECT to client (rc130)");
}

/// One line of each type, and which of them each setting lets through.
#[test]
fn types_of_lines() {
    let warning = "Warning: The 'enable_control_api' option has no effect yet.";
    let information = "mosquitto version ";
    let notice = "New client connected from ";
    let subscription = "client 0 a/b";
    let unsubscription = "client a/b";
    let debug = "Received SUBSCRIBE from client";
    let all = [
        warning,
        information,
        notice,
        subscription,
        unsubscription,
        debug,
    ];
    for (settings, expected) in [
        (&["log_type all"][..], &all[..]),
        (&["log_type none"], &[]),
        (&["log_type error"], &[]),
        (&["log_type warning"], &[warning]),
        (&["log_type information"], &[information]),
        (&["log_type notice"], &[notice]),
        (&["log_type subscribe"], &[subscription]),
        (&["log_type unsubscribe"], &[unsubscription]),
        (&["log_type debug"], &[debug]),
        (
            &["log_type notice", "log_type subscribe"],
            &[notice, subscription],
        ),
        (&["log_type all", "log_type none"], &[]),
    ] {
        let mut lines = vec!["log_timestamp false", "enable_control_api true"];
        lines.extend(settings);
        // All of it, to be read when the broker has ended.
        let broker = Broker::start_in_shell("exec \"$@\" 2>'{dir}/log'", &lines);
        let path = broker.dir().join("log");
        let kept = broker.dir().with_extension("log");
        fs::hard_link(&path, &kept).expect("the broker writes it");
        let mut client = broker.connect_v5("client");
        client.send(subscribe(1).filter("a/b", 0));
        client.expect(suback(1, &[0]));
        client.send(unsubscribe(2, &["a/b"]));
        client.expect(unsuback(2, &[0]));
        assert!(broker.stop().success());
        let log = fs::read_to_string(&kept).expect("it was linked above");
        let _ = fs::remove_file(&kept);
        for line in all {
            let found = log.lines().any(|found| found.starts_with(line));
            assert_eq!(
                found,
                expected.contains(&line),
                "{settings:?}, {line}:\n{log}"
            );
        }
        assert!(
            !expected.is_empty() || log.is_empty(),
            "{settings:?}:\n{log}"
        );
    }
}

#[test]
fn timestamps() {
    // Without a word about it: seconds since 1970.
    let broker = Broker::start(&[]);
    let line = broker.wait_for_log(" starting");
    let (time, text) = line.split_once(": ").expect("a time is in front");
    assert!(
        time.len() == 10 && time.bytes().all(|byte| byte.is_ascii_digit()),
        "{line}"
    );
    assert!(text.starts_with("mosquitto version "), "{line}");

    let broker = Broker::start(&["log_timestamp false"]);
    let line = broker.wait_for_log(" starting");
    assert!(line.starts_with("mosquitto version "), "{line}");

    let broker = Broker::start(&["log_timestamp_format %Y-%m-%dT%H:%M:%S"]);
    let line = broker.wait_for_log(" starting");
    let (time, text) = line.split_at(19);
    assert!(text.starts_with(": mosquitto version "), "{line}");
    let form: String = time
        .chars()
        .map(|char| if char.is_ascii_digit() { '0' } else { char })
        .collect();
    assert_eq!(form, "0000-00-00T00:00:00");
}

#[test]
fn without_connection_messages() {
    let broker = Broker::start(&["log_timestamp false", "connection_messages false"]);
    let mut client = broker.connect_v5("client");
    client.fence();
    client.send(disconnect());
    client.expect_closed();
    drop(broker.connect_v3("client"));
    let mut client = broker.connect_v3("last");
    client.fence();
    broker.wait_for_log("Sending PINGRESP to last");
    let log = broker.log_text();
    for word in ["New connection", "New client", "disconnected"] {
        assert!(!log.contains(word), "{word}:\n{log}");
    }
    assert!(log.contains("Sending CONNACK to client (0, 0)"));
}

/// Where the lines go: one destination, both or none.
#[test]
fn destinations() {
    for (settings, on_stdout, on_stderr) in [
        (&["log_dest stdout"][..], true, false),
        (&["log_dest stderr"], false, true),
        (&["log_dest stdout", "log_dest stderr"], true, true),
        (&["log_dest none"], false, false),
        (&["log_dest stderr", "log_dest none"], false, false),
    ] {
        let broker = Broker::start_in_shell("exec \"$@\" >'{dir}/out' 2>'{dir}/err'", settings);
        broker.connect_v5("client").fence();
        for (file, expected) in [("out", on_stdout), ("err", on_stderr)] {
            let read = || fs::read_to_string(broker.dir().join(file)).expect("the shell made it");
            let is_found = |text: &str| text.contains("Sending PINGRESP to client");
            // The broker does not wait for its log.
            let start = Instant::now();
            while expected && !is_found(&read()) && start.elapsed() < DEADLINE {
                thread::sleep(Duration::from_millis(5));
            }
            let text = read();
            let found = is_found(&text);
            assert_eq!(found, expected, "{settings:?}, {file}:\n{text}");
            assert!(expected || text.is_empty(), "{settings:?}, {file}:\n{text}");
        }
    }
}

/// A log that cannot be written is nobody's reason to stop: closed, full, or a pipe that nobody reads from any more.
#[test]
fn a_log_that_cannot_be_written() {
    for shell in [
        "exec \"$@\" 2>&-",
        "exec \"$@\" >&- 2>&- <&-",
        "exec \"$@\" 2>/dev/full",
        "mkfifo '{dir}/pipe'; (: <'{dir}/pipe') & exec \"$@\" 2>'{dir}/pipe'",
    ] {
        for destination in ["log_dest stderr", "log_dest stdout"] {
            let broker = Broker::start_in_shell(shell, &[destination]);
            let mut client = broker.connect_v5("client");
            client.send(subscribe(1).filter("#", 0));
            client.expect(suback(1, &[0]));
            client.send(publish("a", "x"));
            client.expect(publish("a", "x"));
            assert!(broker.stop().success(), "{shell}");
        }
    }
}

/// Whatever a client calls itself and its topics, it cannot write a line of its own, nor drive a terminal.
#[test]
fn nobody_can_forge_a_line() {
    let forged = "New client connected from 192.0.2.1:1 as admin (p5, c1, k60).";
    let text = format!("x\r\n{forged}\n\x1b[2J\x07\x7f\u{85}");
    for version in Version::ALL {
        let broker = Broker::start(&["log_timestamp false"]);
        // Each may be refused instead; then another connection says the next.
        let mut client = broker.open(version);
        client.send(connect(&text));
        client.send(disconnect());
        client.drain_until_closed().expect("it was asked for");
        let mut client = broker.open(version);
        client.send(connect("a").username(&text).will(will(&text, "")));
        client.send(disconnect());
        client.drain_until_closed().expect("it was asked for");
        for packet in [
            subscribe(1).filter(&text, 1).encode(version),
            unsubscribe(2, &[&text]).encode(version),
            publish(&text, "x").encode(version),
        ] {
            let mut client = broker.connect(version, "c");
            client.send(packet);
            client.send(disconnect());
            client.drain_until_closed().expect("it was asked for");
        }
        broker.connect(version, "last").fence();
        broker.wait_for_log("Sending PINGRESP to last");
        let log = broker.log_text();
        for line in log.lines() {
            assert!(!line.starts_with(forged), "{log}");
            assert!(
                !line.starts_with("New client connected from 192.0.2.1"),
                "{log}"
            );
            assert!(
                !line.chars().any(|char| char.is_control() && char != '\t'),
                "{line:?}"
            );
        }
    }
}
