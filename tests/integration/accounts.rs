//! Who may enter: passwords, anonymous clients, client identifiers, and whose a session is.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::harness::*;

/// A password file with a user of each hash kind; everybody's password is their name.
pub const PASSWORDS: &str = concat!(
    "# Comments and empty lines are passed over.\n\n",
    "foo:$7$101$dGhlIHNhbHQgZm9v$dNL+X2HVRaPVtPblW/S60NXEdHuWn8mHFMvk80bf9TenIdYj6H8vH4E4z/fVUeiLdfs83cSwm1b1dJ3GNoO",
    "+Sg==\n",
    "bar:$6$dGhlIHNhbHQgYmFy$VL9Itt1dUaHpxWrt67YV5WDW13myerGe0gRXCQieBKYImgYBC1vO7R+2nom9sCx8XqKYx7QftEL1F5faYWkhGQ==",
    "\n",
    "baz:$argon2id$v=19$m=64,t=1,p=1$dGhlIHNhbHQgb2YgYmF6dGhlIHNhbHQgb2YgYmF6dGhlIHNhbHQgb2YgYmF6dGhlIHNhbHQgb2YgYmF6",
    "MTIzNA$DB5okzWKIFHZqieHfmgjYRR4cr5nNpJ59s77pd/eqv/yATFIQ4ly6PvqILMZecaD0uFaORYds5SVdJSrM4uDgA\n",
);

/// A hash of the password `foo` that takes ten milliseconds to compare, so that sixty take a third of a second.
const SLOW_HASH: &str = concat!(
    "$7$20000$YW5vdGhlciBzYWx0$V8VHJF+iCbnRMQOcpBEHFFSDeOmEaMCUq45wBbakAZqGNCR7QWKOKIWIRq6ZTJHC667WU7O6zIY5wSETs4Wn",
    "kg==",
);

/// One that takes longer.
pub const SLOWER_HASH: &str = concat!(
    "$7$50000$YW5vdGhlciBzYWx0$Bni75wgpEsSKp79J6SxqDZ7nEuBZz9ww98GmGg3xomwxRG0DzGcrR6dNpFKb9JZRjX/1vy+neHyrN7iaGbCfeA",
    "==",
);

/// What a broker is told that asks for passwords.
const ASK: [&str; 2] = ["allow_anonymous false", "password_file {dir}/passwords"];

/// A broker that lets in whom [`PASSWORDS`] names, and nobody else.
fn start() -> Broker {
    Broker::start_with(&ASK, &[("passwords", PASSWORDS)])
}

/// A broker with these many users, `user0` and so on, of whom everybody has the password `foo` with this hash.
pub fn start_with_users(count: usize, hash: &str) -> Broker {
    let lines = (0..count).map(|number| format!("user{number}:{hash}\n"));
    Broker::start_with(&ASK, &[("passwords", &lines.collect::<String>())])
}

/// CONNECT of a user, whose password is the name.
pub fn user(client_id: &str, name: &str) -> Connect {
    connect(client_id).username(name).password(name)
}

/// What a client hears that is not authorised.
pub fn not_authorised(version: Version) -> u8 {
    if version == Version::V5 { 0x87 } else { 5 }
}

/// What a client hears whose Client Identifier is not for it.
fn identifier_rejected(version: Version) -> u8 {
    if version == Version::V5 { 0x85 } else { 2 }
}

/// What the broker at `address` answers to this CONNECT; if it refuses, it also closes.
#[track_caller]
pub fn answer(address: SocketAddr, version: Version, packet: &Connect) -> u8 {
    let mut client = Raw::open(address, version);
    client.send(packet.encode(version));
    let connack = client.expect_connack();
    if connack.reason == 0 {
        client.leave();
    } else {
        assert!(!connack.session_present, "[MQTT-3.2.2-6]");
        client.expect_closed();
    }
    connack.reason
}

/// A client that the broker at `address` has accepted; what it answered is in [`Raw::connack`].
#[track_caller]
pub fn enter(address: SocketAddr, version: Version, packet: Connect) -> Raw {
    let mut client = Raw::open(address, version);
    client.send(packet);
    client.connack = client.expect_connack();
    assert_eq!(client.connack.reason, 0, "the broker refused");
    client
}

/// `127.0.0.1` and this port.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Each hash kind, in each version of the protocol, also from the second time on.
#[test]
fn right_passwords() {
    let broker = start();
    for version in Version::ALL {
        for name in ["foo", "bar", "baz", "foo"] {
            broker.connect_with(version, user("client", name)).leave();
        }
    }
    broker.wait_for_log("as client (p4, c1, k0, u'foo').");
    broker.wait_for_log("as client (p5, c1, k0, u'baz').");
}

/// Whatever is wrong, the answer is the same, and tells nobody which names there are.
#[test]
fn wrong_passwords() {
    let broker = start();
    let wrong = [
        ("anonymous", connect("client")),
        ("wrong password", user("client", "foo").password("bar")),
        ("wrong for $6$", user("client", "bar").password("foo")),
        ("wrong for argon2id", user("client", "baz").password("foo")),
        ("the start of it", user("client", "foo").password("fo")),
        ("more than it", user("client", "foo").password("foo ")),
        ("a zero byte more", user("client", "bar").password("bar\0")),
        ("other case", user("client", "foo").password("FOO")),
        ("empty password", user("client", "foo").password("")),
        ("no password", connect("client").username("foo")),
        ("unknown user", user("client", "nobody")),
        ("name in other case", user("client", "Foo").password("foo")),
        ("name with a space", user("client", "foo ").password("foo")),
        ("empty name", user("client", "")),
        (
            "comment as a name",
            user("client", "# Comments and empty lines are passed over."),
        ),
        (
            "hash as the password",
            user("client", "foo").password("$7$101$dGhlIHNhbHQgZm9v"),
        ),
    ];
    let mut refused = 0;
    for version in Version::ALL {
        for (what, packet) in &wrong {
            let reason = answer(broker.address(), version, packet);
            assert_eq!(reason, not_authorised(version), "{what} in {version:?}");
            refused += 1;
            broker.wait_for_log_times("disconnected: not authorised.", refused);
        }
    }
    // 5.0 may send a password without a name ([MQTT-3.1.2-22] of 3.1.1 forbids it), which proves nobody.
    let alone = connect("client").password("foo");
    assert_eq!(answer(broker.address(), Version::V5, &alone), 0x87);
}

/// A line without a password made a user whom any password let in: a broker does not start with one, nor with a file that
/// is not there.
#[test]
fn cve_2018_12551_malformed_files_at_the_start() {
    let dir = new_dir();
    let path = |name: &str| dir.join(name).display().to_string();
    let table = [
        ("password_file", Some("foo\n")),
        ("password_file", Some("foo:\n")),
        ("password_file", Some("foo:foo\n")),
        ("password_file", Some("foo:$7$101$dGhlIHNhbHQgZm9v\n")),
        ("password_file", None),
        ("acl_file", Some("topic\n")),
        ("acl_file", Some("users foo\n")),
        ("acl_file", None),
    ];
    for (option, text) in table {
        let config = format!(
            "listener {} 127.0.0.1\n{option} {}\n",
            free_port(),
            path("file")
        );
        fs::write(path("midge.conf"), config).expect("the directory is ours");
        let _ = fs::remove_file(path("file"));
        if let Some(text) = text {
            fs::write(path("file"), text).expect("the directory is ours");
        }
        for more in [None, Some("--test-config")] {
            // A broker that starts is ended, which is another exit code.
            let mut command = Command::new("timeout");
            command
                .args(["10", &program(), "-c", &path("midge.conf")])
                .args(more);
            let ended = command.output().expect("coreutils are installed");
            let said = String::from_utf8_lossy(&ended.stderr);
            let code = ended.status.code();
            assert!(
                matches!(code, Some(1 | 3 | 13)),
                "{option} {text:?} {more:?}: {code:?}, {said}"
            );
            assert!(
                said.contains(&path("file")),
                "{option} {text:?} {more:?}: {said}"
            );
        }
    }
    fs::remove_dir_all(dir).expect("it is ours");
}

/// Whoever was let in once is asked again.
#[test]
fn wrong_after_right() {
    let broker = start();
    for _ in 0..3 {
        broker
            .connect_with(Version::V5, user("client", "foo"))
            .leave();
        let wrong = user("client", "foo").password("bar");
        assert_eq!(answer(broker.address(), Version::V5, &wrong), 0x87);
        let other = user("client", "bar").password("foo");
        assert_eq!(answer(broker.address(), Version::V5, &other), 0x87);
    }
}

/// `allow_anonymous` with and without a `password_file`: without one a name is as good as none.
#[test]
fn allow_anonymous() {
    let (no_one, unknown) = (connect("client"), user("client", "unknown"));
    let (right, wrong) = (user("client", "foo"), user("client", "foo").password("bar"));
    let table = [
        ("false", "", [false, false, false, false]),
        ("true", "", [true, true, true, true]),
        (
            "false",
            "password_file {dir}/passwords",
            [false, false, true, false],
        ),
        (
            "true",
            "password_file {dir}/passwords",
            [true, false, true, false],
        ),
    ];
    for (allow, file, expected) in table {
        let lines = [&*format!("allow_anonymous {allow}"), file];
        let broker = Broker::start_with(&lines, &[("passwords", PASSWORDS)]);
        for version in Version::ALL {
            let accepted = [&no_one, &unknown, &right, &wrong].map(|packet| {
                let reason = answer(broker.address(), version, packet);
                assert!([0, not_authorised(version)].contains(&reason));
                reason == 0
            });
            assert_eq!(
                accepted, expected,
                "allow_anonymous {allow}, {file:?}, {version:?}"
            );
        }
    }
}

/// Without any `listener` only this machine can connect, and does so anonymously unless the file says otherwise; with a
/// `listener` nobody comes in who was not asked for.
#[test]
fn anonymous_by_default() {
    let table = [
        ("exec \"$1\" -v -p {port}", "", true),
        (
            "exec \"$1\" -v -p {port} -c {dir}/own",
            "max_queued_messages 10\n",
            true,
        ),
        (
            "exec \"$1\" -v -p {port} -c {dir}/own",
            "allow_anonymous false\n",
            false,
        ),
        (
            "exec \"$1\" -v -c {dir}/own",
            "listener {port} 127.0.0.1\n",
            false,
        ),
        (
            "exec \"$1\" -v -c {dir}/own",
            "port {port}\nbind_address 127.0.0.1\n",
            false,
        ),
    ];
    for (shell, text, accepted) in table {
        let broker = Broker::start_as(shell, &[], &[("own", text)]);
        let reason = answer(broker.address(), Version::V311, &connect("client"));
        assert_eq!(reason, if accepted { 0 } else { 5 }, "{shell}: {text:?}");
        broker.wait_for_log("running");
        let is_local_only = broker.log_text().contains("local only mode");
        assert_eq!(is_local_only, shell.contains("-p"), "{shell}");
    }
}

/// `listener_allow_anonymous` is for its listener alone, in both directions.
#[test]
fn listener_allow_anonymous() {
    for (general, particular) in [("false", "true"), ("true", "false")] {
        let other = free_port();
        // The listener of the harness is the last: when it is open, so are all.
        let broker = Broker::start(&[
            &format!("allow_anonymous {general}"),
            &format!("listener {other} 127.0.0.1"),
            &format!("listener_allow_anonymous {particular}"),
            "listener {port} 127.0.0.1",
        ]);
        let expected = |allow| if allow == "true" { 0 } else { 0x87 };
        let anonymous = connect("client");
        assert_eq!(
            answer(local(other), Version::V5, &anonymous),
            expected(particular)
        );
        assert_eq!(
            answer(broker.address(), Version::V5, &anonymous),
            expected(general)
        );
    }
}

/// `per_listener_settings`: each listener has its own passwords, rights and say about anonymous clients.
#[test]
fn per_listener_settings() {
    let other = free_port();
    let (foo, bar) = PASSWORDS.split_once("bar:").expect("it is there");
    let broker = Broker::start_with(
        &[
            "per_listener_settings true",
            &format!("listener {other} 127.0.0.1"),
            "password_file {dir}/foo",
            "allow_anonymous true",
            "listener {port} 127.0.0.1",
            "password_file {dir}/others",
            "allow_anonymous false",
            "acl_file {dir}/acl",
        ],
        &[
            ("foo", foo),
            ("others", &format!("bar:{bar}")),
            ("acl", "user bar\ntopic write a\n"),
        ],
    );
    let answers = |packet: &Connect| {
        [local(other), broker.address()].map(|address| answer(address, Version::V5, packet))
    };
    assert_eq!(answers(&user("c", "foo")), [0, 0x87]);
    assert_eq!(answers(&user("c", "bar")), [0x87, 0]);
    assert_eq!(answers(&connect("c")), [0, 0x87]);

    // The rules are those of the listener that a client came through.
    let mut free = enter(local(other), Version::V5, user("free", "foo"));
    free.subscribe("#", 0);
    let mut bar = broker.connect_with(Version::V5, user("bar", "bar"));
    bar.subscribe("#", 0);
    free.send(publish("b", "from the free one"));
    free.expect(publish("b", "from the free one"));
    bar.send(publish("b", "denied").qos(1).packet_id(1));
    bar.expect(puback(1).reason(0x87));
    bar.send(publish("a", "allowed").qos(1).packet_id(2));
    bar.expect(puback(2));
    free.expect(publish("a", "allowed"));
    free.fence();
    bar.fence();
}

/// `clientid_prefixes`
#[test]
fn client_id_prefix() {
    let broker = Broker::start(&["clientid_prefixes lamp-"]);
    let table = [
        ("lamp-1", true),
        ("lamp-", true),
        ("lamp", false),
        ("Lamp-1", false),
        ("a lamp-1", false),
    ];
    for version in Version::ALL {
        for (client_id, accepted) in table {
            let reason = answer(broker.address(), version, &connect(client_id));
            let expected = if accepted { 0 } else { not_authorised(version) };
            assert_eq!(reason, expected, "{client_id} in {version:?}");
        }
    }
}

/// `use_username_as_clientid`: whatever a client calls itself, its user name is what counts.
#[test]
fn username_as_client_id() {
    let lines = [
        "listener {port} 127.0.0.1",
        "use_username_as_clientid true",
        "allow_anonymous true",
        "password_file {dir}/passwords",
    ];
    let broker = Broker::start_with(&lines, &[("passwords", PASSWORDS)]);
    let mut first = broker.connect_with(Version::V5, user("first", "foo"));
    let mut other = broker.connect_with(Version::V5, user("foo", "bar"));
    broker.wait_for_log("as foo (p5, c1, k0, u'foo').");
    first.fence();
    let second = broker.connect_with(Version::V5, user("second", "foo"));
    first.expect(disconnect().reason(0x8E));
    first.expect_closed();
    other.fence();
    drop(second);
    // A client that sends no identifier is told which it has.
    let assigned = broker.connect_with(Version::V5, user("", "foo"));
    let told = value_of(&assigned.connack.properties, ASSIGNED_CLIENT_IDENTIFIER);
    assert_eq!(told, Some(&b"foo"[..]));
    // And who has no name has no identifier.
    for version in Version::ALL {
        let reason = answer(broker.address(), version, &connect("client"));
        assert_eq!(reason, not_authorised(version));
    }
}

/// `accept_protocol_versions`
#[test]
fn accepted_protocol_versions() {
    let table = [
        ("3", [true, false, false]),
        ("4", [false, true, false]),
        ("5", [false, false, true]),
        ("3, 5", [true, false, true]),
        ("4 5", [false, true, true]),
    ];
    for (versions, expected) in table {
        let option = format!("accept_protocol_versions {versions}");
        let broker = Broker::start(&["listener {port} 127.0.0.1", &option]);
        for (version, accepted) in Version::ALL.into_iter().zip(expected) {
            let reason = answer(broker.address(), version, &connect("client"));
            let unsupported = if version == Version::V5 { 0x84 } else { 1 };
            let expected = if accepted { 0 } else { unsupported };
            assert_eq!(reason, expected, "{option}, {version:?}");
        }
    }
}

/// Comparing passwords takes long: a crowd is let in, one by one, while others are served.
#[test]
fn a_crowd_holds_nobody_up() {
    const CROWD: usize = 60;
    let broker = start_with_users(CROWD + 1, SLOW_HASH);
    let named = |number| {
        connect(&format!("client{number}"))
            .username(&format!("user{number}"))
            .password("foo")
    };
    let mut pinger = broker.connect_with(Version::V5, named(CROWD));
    let mut crowd: Vec<Raw> = (0..CROWD)
        .map(|number| broker.open(Version::ALL[number % 3]))
        .collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        client.send(named(number).encode(client.version()));
    }
    // On its way before any answer is waited for: how soon this process runs again does not matter.
    pinger.send(pingreq());
    pinger.expect(pingresp());
    for client in &mut crowd {
        assert_eq!(client.expect_connack().reason, 0);
    }
    broker.wait_for_log_times("Sending CONNACK to client", CROWD + 1);
    let log = broker.log_text();
    let pinged = log.rfind("Sending PINGRESP").expect("it was answered");
    let last_let_in = log.rfind("Sending CONNACK").expect("everybody was");
    assert!(pinged < last_let_in, "the ping waited for all passwords");
}

/// A client need not wait for CONNACK with what it sends next: all of it is handled after the password, in order.
#[test]
fn packets_behind_connect_wait_for_the_password() {
    let broker = start_with_users(1, SLOW_HASH);
    for (version, len) in Version::ALL.into_iter().zip([2, 5_000, 200_000]) {
        let payload = vec![b'x'; len];
        let right = connect("client").username("user0").password("foo");
        let message = publish("a", &payload).qos(1).packet_id(1);
        let behind = [
            subscribe(7).filter("a", 1).encode(version),
            message.encode(version),
            pingreq().encode(version),
        ];
        let mut client = broker.open(version);
        client.send([right.encode(version), behind.concat()].concat());
        assert_eq!(client.expect_connack().reason, 0);
        client.expect(suback(7, &[1]));
        client.expect(&message);
        client.expect(puback(1));
        client.expect(pingresp());
        client.leave();
        broker.wait_for_log_times("Received PINGREQ from client", 1);
    }
}

/// What comes behind a CONNECT that is refused was never there.
#[test]
fn packets_behind_a_wrong_password_are_dropped() {
    let broker = start_with_users(1, SLOW_HASH);
    let right = connect("watcher").username("user0").password("foo");
    let mut watcher = broker.connect_with(Version::V5, right);
    watcher.subscribe("#", 0);
    for version in Version::ALL {
        let wrong = connect("client")
            .username("user0")
            .password("wrong")
            .encode(version);
        let behind = [
            publish("a", "hi").encode(version),
            pingreq().encode(version),
        ]
        .concat();
        let mut client = broker.open(version);
        client.send([wrong, behind].concat());
        assert_eq!(client.expect_connack().reason, not_authorised(version));
        client.expect_closed();
    }
    watcher.fence();
}

/// [MQTT-3.1.0-2] A second CONNECT is a protocol error, also if it came before the first was answered.
#[test]
fn mqtt_3_1_0_2_second_connect_behind_a_password() {
    let broker = start_with_users(1, SLOW_HASH);
    for version in Version::ALL {
        let packet = connect("client")
            .username("user0")
            .password("foo")
            .encode(version);
        let mut client = broker.open(version);
        client.send(packet.repeat(2));
        assert_eq!(client.expect_connack().reason, 0);
        if version == Version::V5 {
            client.expect(disconnect().reason(0x82));
        }
        client.expect_closed();
    }
    broker.wait_for_log_times("disconnected: protocol error.", 3);
}

/// Clients that go while their password is compared leave nothing behind.
#[test]
fn leaving_before_the_answer() {
    let broker = start_with_users(1, SLOWER_HASH);
    let right = connect("client").username("user0").password("foo");
    let wrong = connect("client").username("user0").password("wrong");
    let addresses: Vec<SocketAddr> = (0..20)
        .map(|number| {
            let mut client = broker.open(Version::V5);
            client.send(if number % 2 == 0 { &right } else { &wrong }.encode(Version::V5));
            client.socket().local_addr().expect("it is connected")
        })
        .collect();
    for address in addresses {
        broker.wait_for_log(&format!("[{address}] disconnected"));
    }
    let mut client = broker.connect_with(Version::V5, right);
    client.fence();
}

/// The broker ends at once, however many passwords are still to be compared, and with code 0.
#[test]
fn stopping_before_the_answers() {
    const CROWD: usize = 400;
    let broker = start_with_users(CROWD, SLOWER_HASH);
    let mut crowd: Vec<Raw> = (0..CROWD)
        .map(|number| {
            let mut client = broker.open(Version::V5);
            client.send(
                connect("")
                    .username(&format!("user{number}"))
                    .password("foo"),
            );
            client
        })
        .collect();
    assert_eq!(crowd[0].expect_connack().reason, 0);
    assert!(broker.stop().success());
}

/// Neither passwords nor hashes are ever in the log, with everything in it that there is to log.
#[test]
fn nothing_secret_in_the_log() {
    const FILE: &str = concat!(
        "alice:$7$101$c2FsdGVkIHR3aWNl$",
        "r8vB4vDl03pXtQ0fZBF4hc7qV4jiLbHqWbNjglAjF/8Gu42lcGCNUFHcdi5p6wjTKwQi3V5KpI3EnDFiRofsYw==\n",
    );
    let broker = Broker::start_with(&ASK, &[("passwords", FILE)]);
    let will = will("wills", "the payload");
    for version in Version::ALL {
        for password in ["open-sesame-41", "wrong-guess-17"] {
            let packet = connect("client").username("alice").password(password);
            answer(broker.address(), version, &packet.will(will.clone()));
            let unknown = connect("client").username("unknown").password(password);
            answer(broker.address(), version, &unknown);
        }
    }
    // Lines with mistakes: what is said of them says nothing of the password.
    let mistakes = [
        "bob:plain-text-5",
        "bob:$7$101$c2FsdGVkIHR3aWNl",
        "bob:$7$x$c2FsdGVkIHR3aWNl$r8vB4vD",
        "bob:$9$101$c2FsdGVkIHR3aWNl$r8vB4vD",
        ":plain-text-5",
        "plain-text-5",
    ];
    for mistake in mistakes {
        broker.write("passwords", &format!("{FILE}{mistake}\n"));
        let said = broker.reload_refused();
        assert!(said.contains("passwords"), "{mistake}: {said}");
    }
    let log = broker.log_text();
    let secrets = [
        "open-sesame-41",
        "wrong-guess-17",
        "plain-text-5",
        "c2FsdGVkIHR3aWNl",
        "salted twice",
        "r8vB4vD",
        "the payload",
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

/// A broker that also lets anonymous clients in, and a client `shared` of foo with a subscription that stays.
fn owned_session(version: Version) -> (Broker, Raw) {
    let lines = ["allow_anonymous true", "password_file {dir}/passwords"];
    let broker = Broker::start_with(&lines, &[("passwords", PASSWORDS)]);
    let mut owner = broker.connect_with(version, user("shared", "foo").persistent());
    owner.subscribe("a", 1);
    (broker, owner)
}

/// Whoever is not foo is refused with foo's Client Identifier, whatever it wants to do with the session.
#[track_caller]
fn expect_intruders_refused(broker: &Broker) {
    for version in Version::ALL {
        for intruder in [connect("shared"), user("shared", "bar")] {
            for packet in [intruder.clone(), intruder.persistent()] {
                let reason = answer(broker.address(), version, &packet);
                assert_eq!(reason, identifier_rejected(version), "{packet:?}");
            }
        }
    }
}

/// A spoofed Client Identifier must neither end the connection nor wipe the session of the user whose it is.
#[test]
fn mosquitto_3551_a_connected_session_is_its_owners() {
    for version in Version::ALL {
        let (broker, mut owner) = owned_session(version);
        expect_intruders_refused(&broker);
        broker.wait_for_log("disconnected: client identifier not valid.");
        owner.fence();
        let mut publisher = broker.connect_v5("publisher");
        publisher.publish(&publish("a", "still there").qos(1).packet_id(1));
        owner.receive(&publish("a", "still there").qos(1).packet_id(1));
    }
}

/// The same while the owner is away.
#[test]
fn mosquitto_3551_a_sleeping_session_is_its_owners() {
    for version in Version::ALL {
        let (broker, owner) = owned_session(version);
        owner.leave();
        let mut publisher = broker.connect_v5("publisher");
        publisher.publish(&publish("a", "for foo").qos(1).packet_id(1));
        expect_intruders_refused(&broker);
        let mut owner = broker.connect_with(version, user("shared", "foo").persistent());
        assert_eq!(owner.connack.session_present, version != Version::V31);
        owner.receive(&publish("a", "for foo").qos(1).packet_id(1));
        owner.fence();
    }
}

/// The owner does with its session as ever: takes it over, resumes it, begins anew.
#[test]
fn mosquitto_3551_the_owner_comes_again() {
    let (broker, mut first) = owned_session(Version::V5);
    let mut second = broker.connect_with(Version::V5, user("shared", "foo").persistent());
    first.expect(disconnect().reason(0x8E));
    first.expect_closed();
    assert!(second.connack.session_present);
    let third = broker.connect_with(Version::V5, user("shared", "foo"));
    second.expect(disconnect().reason(0x8E));
    assert!(!third.connack.session_present);
}

/// Nobody can prove a session to be theirs that nobody proved a name for: it is whoever's comes.
#[test]
fn mosquitto_3551_an_anonymous_session_is_everybodys() {
    let lines = ["allow_anonymous true", "password_file {dir}/passwords"];
    let broker = Broker::start_with(&lines, &[("passwords", PASSWORDS)]);
    let mut nobody = broker.connect_with(Version::V5, connect("shared").persistent());
    let mut foo = broker.connect_with(Version::V5, user("shared", "foo").persistent());
    nobody.expect(disconnect().reason(0x8E));
    foo.fence();
    // From now on it is foo's.
    expect_intruders_refused(&broker);
    foo.fence();
}

/// An owner who is no more keeps nobody out.
#[test]
fn mosquitto_3551_a_removed_user_owns_nothing() {
    let (broker, mut owner) = owned_session(Version::V5);
    let (_, others) = PASSWORDS.split_once("bar:").expect("it is there");
    broker.write("passwords", &format!("bar:{others}"));
    broker.reload();
    owner.expect(disconnect().reason(0x98));
    owner.expect_closed();
    let mut bar = broker.connect_with(Version::V5, user("shared", "bar"));
    assert!(!bar.connack.session_present);
    bar.fence();
}

/// What was kept for an owner who is no more is nobody's: whoever comes begins anew, whatever they ask for.
#[test]
fn mosquitto_3551_a_removed_users_messages_are_nobodys() {
    let (broker, owner) = owned_session(Version::V5);
    owner.leave();
    let mut publisher = broker.connect_with(Version::V5, user("publisher", "bar"));
    publisher.publish(&publish("a", "for foo").qos(1).packet_id(1));
    let (_, others) = PASSWORDS.split_once("bar:").expect("it is there");
    broker.write("passwords", &format!("bar:{others}"));
    broker.reload();
    let mut bar = broker.connect_with(Version::V5, user("shared", "bar").persistent());
    assert!(!bar.connack.session_present);
    publisher.publish(&publish("a", "for nobody").packet_id(2).qos(1));
    bar.fence();
}

/// A name in one password file is not the same name in another.
#[test]
fn mosquitto_3551_a_name_belongs_to_its_password_file() {
    let port = free_port();
    let second = format!("listener {port} 127.0.0.1");
    let lines = [
        "per_listener_settings true",
        "listener {port} 127.0.0.1",
        "password_file {dir}/passwords",
        "allow_anonymous false",
        &second,
        "password_file {dir}/others",
    ];
    let files = [("passwords", PASSWORDS), ("others", PASSWORDS)];
    let broker = Broker::start_with(&lines, &files);
    let mut owner = broker.connect_with(Version::V5, user("shared", "foo").persistent());
    let other_door = SocketAddr::from(([127, 0, 0, 1], port));
    let reason = answer(other_door, Version::V5, &user("shared", "foo"));
    assert_eq!(reason, identifier_rejected(Version::V5));
    owner.fence();
}
