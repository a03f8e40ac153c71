//! What once let somebody do what they may not: options that were passed over, and rights that were kept for too long.
//!
//! Most of these rows are beside what they are about, in `rights`, `accounts`, `reload` and `tls`; here is what those
//! leave open.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use super::cut;
use crate::accounts::{PASSWORDS, enter, local, user};
use crate::harness::*;
use crate::tls::Lab;

/// foo may read `Topic` and `Kept`, and baz may do everything.
const RULES: &str = "user foo\ntopic read Topic\ntopic read Kept\nuser baz\ntopic readwrite #\n";
/// foo may read `Kept` alone.
const FEWER: &str = "user foo\ntopic read Kept\nuser baz\ntopic readwrite #\n";

fn start(lines: &[&str]) -> Broker {
    let ruled = ["password_file {dir}/passwords", "acl_file {dir}/acl"];
    let files = [("passwords", PASSWORDS), ("acl", RULES)];
    Broker::start_with(&[&ruled, lines].concat(), &files)
}

/// Who has subscribed to many retained messages and reads slowly is sent no more of what it may not read any more.
#[test]
fn cve_2021_34434_a_replay_under_way() {
    const COUNT: usize = 3_000;
    let broker = start(&[]);
    let broker = &broker;
    broker.write(
        "acl",
        "user foo\ntopic read #\nuser baz\ntopic readwrite #\n",
    );
    broker.reload();
    let mut baz = broker.connect_with(Version::V5, user("baz", "baz"));
    let payload = vec![b'x'; 4_000];
    for number in 0..COUNT {
        baz.send(publish(&format!("secret/{number:04}"), &payload).retain());
    }
    baz.publish(&publish("zzz", "kept").retain());
    for version in Version::ALL {
        let mut foo = broker.connect_with(version, user("foo", "foo"));
        foo.send(subscribe(1).filter("#", 0));
        foo.expect(suback(1, &[0]));
        foo.expect_publish();
        broker.write("acl", FEWER);
        broker.reload();
        // What was on its way comes, and then nothing of it.
        foo.send(pingreq());
        let mut seen = 1;
        while foo.expect_packet() != pingresp().encode(version) {
            seen += 1;
        }
        foo.fence();
        assert!(seen < COUNT, "all {seen} came");
        foo.leave();
        broker.write(
            "acl",
            "user foo\ntopic read #\nuser baz\ntopic readwrite #\n",
        );
        broker.reload();
    }
}

/// What waits behind the window of a client that is connected is not sent once it may not read it, and holds up
/// nothing.
#[test]
fn cve_2021_34434_messages_behind_the_window() {
    for version in Version::ALL {
        let broker = start(&["max_inflight_messages 1"]);
        let mut foo = broker.connect_with(version, user("foo", "foo"));
        foo.subscribe("#", 2);
        let mut baz = broker.connect_with(Version::V5, user("baz", "baz"));
        for (id, topic) in ["Topic", "Topic", "Kept", "Topic", "Kept"]
            .iter()
            .enumerate()
        {
            let qos = 1 + id as u8 % 2;
            baz.publish(&publish(topic, "x").qos(qos).packet_id(1));
        }
        let first = foo.expect_publish();
        assert_eq!(first.topic, "Topic");
        broker.write("acl", FEWER);
        broker.reload();
        foo.send(puback(first.packet_id));
        for _ in 0..2 {
            assert_eq!(foo.receive_any().topic, "Kept");
        }
        while foo
            .poll(std::time::Duration::from_millis(50))
            .expect("it is open")
            .is_some()
        {}
        foo.fence();
    }
}

/// A shared group whose member loses its right while a message waits for it: the message is not sent, new ones go to
/// others.
#[test]
fn cve_2021_34434_shared_subscriptions_of_who_may_no_longer() {
    let broker = start(&[]);
    let mut foo = broker.connect_with(Version::V5, user("foo", "foo").persistent());
    foo.subscribe("$share/g/Topic", 1);
    foo.leave();
    let mut baz = broker.connect_with(Version::V5, user("baz", "baz"));
    baz.publish(&publish("Topic", "waits").qos(1).packet_id(1));
    broker.write("acl", FEWER);
    broker.reload();
    let mut other = broker.connect_with(Version::V5, user("other", "baz"));
    other.subscribe("$share/g/Topic", 1);
    for _ in 0..3 {
        baz.publish(&publish("Topic", "new").qos(1).packet_id(1));
        assert_eq!(other.receive_any().payload, b"new");
    }
    let mut foo = broker.connect_with(Version::V5, user("foo", "foo").persistent());
    assert!(foo.connack.session_present);
    foo.fence();
}

/// A delayed will is asked for with the rights of who has the session when it is due: a session that another user has
/// resumed has that user's will, or none.
#[test]
fn cve_2021_34434_delayed_wills_of_a_session_resumed_by_another_user() {
    let lines = ["allow_anonymous true", "acl_file {dir}/acl"];
    let acl = "user baz\ntopic readwrite #\n";
    let broker = Broker::start_with(&lines, &[("acl", acl)]);
    let name = |name: &str| connect("session").persistent().username(name);
    let mut watcher = broker.connect_with(Version::V5, connect("watcher").username("baz"));
    watcher.subscribe("#", 0);
    let will = will("Topic", "x").with(will_delay_interval(600));
    cut(broker.connect_with(Version::V5, name("baz").will(will.clone())));
    // Resumed in time, the former will is forgotten; the new one is that of a user who may not write.
    let packet = name("foo").will(will.clone());
    cut(broker.connect_with(Version::V5, packet));
    let packet = connect("session").username("foo");
    broker.connect_with(Version::V5, packet).leave();
    watcher.fence();
    // The session ends under a user who may: the will is said.
    cut(broker.connect_with(Version::V5, name("baz").will(will)));
    broker
        .connect_with(Version::V5, connect("session").username("foo"))
        .leave();
    watcher.expect(publish("Topic", "x"));
    watcher.fence();
}

/// A listener with WebSockets, which is not there yet, is no listener without: nobody comes in that way, certificate
/// or none.
#[test]
fn november_2018_a_websocket_listener_opens_nothing_else() {
    let port = free_port();
    let listener = format!("listener {port} 127.0.0.1");
    let lines = [
        &*listener,
        "protocol websockets",
        "allow_anonymous true",
        "listener {port} 127.0.0.1",
    ];
    let broker = Broker::start(&lines);
    broker.wait_for_log("NOT opened");
    assert!(TcpStream::connect(local(port)).is_err());
    broker.connect_v5("client").fence();
}

/// What `program pub` with these words ends with.
fn publishes(lab: &Lab, port: u16, words: &[&str]) -> Option<i32> {
    let output = Command::new(program())
        .args(["pub", "-h", "localhost", "-p", &port.to_string()])
        .args(["-t", "a", "-m", "x", "-q", "1"])
        .args(
            words
                .iter()
                .map(|word| word.replace("{lab}", &lab.path(""))),
        )
        .output();
    output.expect("it is our own program").status.code()
}

/// A TLS option above any listener opened one to everybody: who has no name and no certificate stays outside.
#[test]
fn august_2021_a_tls_option_before_any_listener() {
    let lab = Lab::new();
    for more in ["", "cafile {lab}/ca.crt\nrequire_certificate true\n"] {
        let own = format!(
            "certfile {{lab}}/server.crt\nkeyfile {{lab}}/server.key\n{more}port {{port}}\nbind_address 127.0.0.1\n\
             log_type all\n"
        );
        let own = own.replace("{lab}/", &lab.path(""));
        let broker = Broker::start_as("exec \"$1\" -c {dir}/own", &[], &[("own", &own)]);
        for version in Version::ALL {
            let mut client = broker.open(version);
            client.send(connect("client"));
            let answer = client.drain_until_closed().expect("it is closed");
            assert!(answer.first() != Some(&0x20), "let in: {answer:02x?}");
        }
        let code = publishes(&lab, broker.address().port(), &["--cafile", "{lab}ca.crt"]);
        assert!(
            code.is_some_and(|code| code != 0 && code != 101),
            "{code:?}"
        );
        assert_eq!(broker.count_log("Sending PUBACK"), 0);
    }
}

/// An empty authority file failed the first connection, and the later ones were not verified: a tool that cannot verify
/// does not connect, however often it tries.
#[test]
fn march_2021_a_tool_with_an_empty_authority_file_never_connects() {
    let lab = Lab::new();
    let broker = lab.broker(&["certfile {lab}/server.crt", "keyfile {lab}/server.key"]);
    let port = broker.address().port();
    assert_eq!(publishes(&lab, port, &["--cafile", "{lab}ca.crt"]), Some(0));
    lab.authority("foreign");
    lab.write("empty.crt", "");
    lab.write("damaged.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    for file in ["empty.crt", "damaged.crt", "foreign.crt", "missing.crt"] {
        for _ in 0..2 {
            let code = publishes(&lab, port, &["--cafile", &format!("{{lab}}{file}")]);
            assert!(
                code.is_some_and(|code| code != 0 && code != 101),
                "{file}: {code:?}"
            );
        }
    }
    // Whoever tries again and again within one run is held to the same.
    let output = Command::new(program())
        .args([
            "sub",
            "-h",
            "localhost",
            "-p",
            &port.to_string(),
            "-t",
            "a",
            "-W",
            "2",
        ])
        .args(["--cafile", &lab.path("foreign.crt")])
        .output()
        .expect("it is our own program");
    assert!(!output.status.success());
    assert_eq!(broker.count_log("Received CONNECT"), 0);
    assert_eq!(broker.count_log("Sending CONNACK"), 1);
}

/// A reload for which nothing can be opened, with passwords, rules and TLS: who came before stays, nobody else comes
/// in, and each file that is back is read again.
#[test]
fn cve_2017_7652_out_of_descriptors_with_every_kind_of_file() {
    let lab = Lab::new();
    let tls = free_port();
    let lines = [
        format!("listener {tls} 127.0.0.1"),
        format!("certfile {}", lab.path("server.crt")),
        format!("keyfile {}", lab.path("server.key")),
        format!("cafile {}", lab.path("ca.crt")),
        "require_certificate true".to_owned(),
        "listener {port} 127.0.0.1".to_owned(),
        "allow_anonymous false".to_owned(),
        "password_file {dir}/passwords".to_owned(),
        "acl_file {dir}/acl".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let files = [("passwords", PASSWORDS), ("acl", RULES)];
    let broker = Broker::start_as("ulimit -n 40; exec \"$@\"", &lines, &files);
    let mut foo = broker.connect_with(Version::V5, user("foo", "foo"));
    let idle: Vec<Raw> = (0..60).map(|_| broker.open(Version::V5)).collect();
    broker.wait_for_log("Unable to accept new connection");
    for _ in 0..3 {
        broker.write("acl", "topic readwrite #\n");
        let said = broker.reload_refused();
        assert!(said.contains("open"), "{said}");
        foo.send(publish("Topic", "x").qos(1).packet_id(1));
        foo.expect(puback(1).reason(0x87));
    }
    drop(idle);
    for packet in [connect("client"), user("client", "foo").password("bar")] {
        let mut client = broker.open(Version::V5);
        client.send(packet);
        assert_eq!(client.expect_connack().reason, 0x87);
    }
    // Nobody without a certificate comes in by the other door.
    let code = publishes(&lab, tls, &["--cafile", "{lab}ca.crt"]);
    assert!(code.is_some_and(|code| code != 0));
    broker.reload();
    foo.fence();
}

/// Where two listeners have their own settings, each applies its own rules: to messages, wills and subscriptions.
#[test]
fn every_listener_applies_its_own_rules() {
    let port = free_port();
    let listener = format!("listener {port} 127.0.0.1");
    let lines = [
        "per_listener_settings true",
        &*listener,
        "allow_anonymous true",
        "acl_file {dir}/narrow",
        "listener {port} 127.0.0.1",
        "allow_anonymous true",
        "acl_file {dir}/wide",
    ];
    let files = [
        ("narrow", "topic read a\ntopic subscribe a\n"),
        ("wide", "topic readwrite #\n"),
    ];
    let broker = Broker::start_with(&lines, &files);
    for version in Version::ALL {
        let mut wide = broker.subscriber(version, "wide", "#", 1);
        let packet = connect("narrow").will(will("a", "will"));
        let mut narrow = enter(local(port), version, packet);
        let denied = if version == Version::V5 { 0x87 } else { 0x80 };
        narrow.send(
            subscribe(1)
                .filter("a", 0)
                .filter("#", 0)
                .filter("$share/g/#", 0),
        );
        narrow.expect(suback(1, &[0, denied, denied]));
        for topic in ["a", "b"] {
            narrow.send(publish(topic, "x"));
        }
        cut(narrow);
        wide.fence();
        wide.leave();
    }
}

/// A file of rules or passwords that is a link, as Kubernetes has them, is read where it leads to, also when it is
/// turned to another one.
#[test]
fn files_behind_links_are_read_again_where_they_lead() {
    let broker = start(&[]);
    let dir = broker.dir();
    let turn = |to: &str| {
        let (new, link) = (dir.join("..new"), dir.join("..data"));
        std::os::unix::fs::symlink(Path::new(to), &new).expect("the directory is ours");
        fs::rename(&new, &link).expect("the directory is ours");
    };
    for (name, rules) in [("v1", RULES), ("v2", FEWER)] {
        fs::create_dir(dir.join(name)).expect("the directory is ours");
        fs::write(dir.join(name).join("acl"), rules).expect("the directory is ours");
    }
    turn("v1");
    fs::remove_file(dir.join("acl")).expect("it is ours");
    std::os::unix::fs::symlink("..data/acl", dir.join("acl")).expect("the directory is ours");
    broker.reload();
    let mut foo = broker.connect_with(Version::V5, user("foo", "foo"));
    foo.subscribe("Topic", 0);
    let mut baz = broker.connect_with(Version::V5, user("baz", "baz"));
    baz.publish(&publish("Topic", "x"));
    foo.expect(publish("Topic", "x"));
    turn("v2");
    broker.reload();
    baz.publish(&publish("Topic", "x"));
    foo.fence();
    // One that leads nowhere changes nothing.
    turn("v3");
    let said = broker.reload_refused();
    assert!(said.contains("acl"), "{said}");
    baz.publish(&publish("Topic", "x"));
    foo.fence();
}

/// Files that are empty all at once at a reload let nobody in and allow nothing, and so does a directory of settings
/// that is gone: what stood there before goes on.
#[test]
fn cve_2018_12550_files_that_are_empty_at_a_reload() {
    let broker = start(&[]);
    let mut foo = broker.connect_with(Version::V5, user("foo", "foo"));
    let mut baz = broker.connect_with(Version::V5, user("baz", "baz"));
    foo.subscribe("#", 0);
    broker.write("acl", "");
    broker.reload();
    baz.send(publish("Topic", "x").qos(1).packet_id(1));
    baz.expect(puback(1).reason(0x87));
    foo.fence();
    broker.write("passwords", "");
    broker.reload();
    for mut client in [foo, baz] {
        client.expect(disconnect().reason(0x98));
        client.expect_closed();
    }
    for packet in [user("client", "foo"), user("client", ""), user("", "baz")] {
        let mut client = broker.open(Version::V5);
        client.send(packet);
        assert_eq!(client.expect_connack().reason, 0x87);
    }
}

/// Settings in a directory that is gone, or of which one file cannot be read, are in force until they can be read
/// again.
#[test]
fn cve_2017_7652_a_directory_of_settings_that_is_gone() {
    let more = "allow_anonymous false\npassword_file {dir}/passwords\nacl_file {dir}/acl\n";
    let files = [
        ("passwords", PASSWORDS),
        ("acl", RULES),
        ("more.conf", more),
    ];
    let shell = "mkdir {dir}/more; mv {dir}/more.conf {dir}/more/; exec \"$@\"";
    let lines = [
        "listener {port} 127.0.0.1",
        "log_type all",
        "include_dir {dir}/more",
    ];
    // The harness would let anonymous clients in where no line says otherwise.
    let own = lines.join("\n");
    let shell = shell.replace("\"$@\"", "\"$1\" -c {dir}/own");
    let files = [&files[..], &[("own", &*own)]].concat();
    let broker = Broker::start_as(&shell, &[], &files);
    let mut foo = broker.connect_with(Version::V5, user("foo", "foo"));
    let (more, aside) = (broker.dir().join("more"), broker.dir().join("aside"));
    let mut expect_as_before = || {
        foo.send(publish("Topic", "x").qos(1).packet_id(1));
        foo.expect(puback(1).reason(0x87));
        let mut client = broker.open(Version::V5);
        client.send(connect("client"));
        assert_eq!(client.expect_connack().reason, 0x87);
    };
    expect_as_before();
    fs::rename(&more, &aside).expect("the directory is ours");
    broker.reload_refused();
    expect_as_before();
    fs::write(&more, "").expect("the directory is ours");
    broker.reload_refused();
    expect_as_before();
    fs::remove_file(&more).expect("it is ours");
    fs::rename(&aside, &more).expect("the directory is ours");
    fs::create_dir(more.join("zzz.conf")).expect("the directory is ours");
    broker.reload_refused();
    expect_as_before();
    fs::remove_dir(more.join("zzz.conf")).expect("it is ours");
    broker.reload();
    expect_as_before();
}
