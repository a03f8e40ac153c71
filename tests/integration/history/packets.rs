//! What once ended a broker or a client tool: packets that are none, that come at the wrong time, or from the wrong
//! side.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::{Witness, cut};
use crate::harness::*;

/// Sends `bytes` on a connection that was let in, and lets the broker do with it what it does; it answers others.
fn survives(broker: &Broker, witness: &mut Witness, version: Version, bytes: &[u8]) {
    let mut client = broker.connect(version, "attacker");
    client.send(bytes);
    // Where it was taken, this is the end; where it was not, the end has come already.
    client.send(disconnect());
    assert!(client.drain_until_closed().is_some());
    witness.is_served();
}

/// A topic that was no UTF-8 was passed on, and those who got it ended their connections.
#[test]
fn cve_2017_7653_topics_that_are_no_utf_8() {
    let bad: [&[u8]; 7] = [
        b"a/\xff",
        b"a/\xc0\xaf",
        b"a/\xed\xa0\x80",
        b"a/\xf4\x90\x80\x80",
        b"a/\xe2\x82",
        b"a/\x00",
        b"\x80",
    ];
    let broker = Broker::start(&[]);
    let mut subscribers =
        Version::ALL.map(|version| broker.subscriber(version, &format!("{version:?}"), "#", 1));
    for version in Version::ALL {
        for topic in bad {
            let properties: &[u8] = if version == Version::V5 { b"\0" } else { b"" };
            let body = [&string(topic)[..], properties, b"x"].concat();
            let mut publisher = broker.connect(version, "publisher");
            publisher.send(packet(0x30, &body));
            assert!(publisher.drain_until_closed().is_some(), "{topic:02x?}");
        }
        for topic in bad {
            // Nor by a will.
            let mut bytes = connect("publisher")
                .will(will("topic", "x"))
                .encode(version);
            let at = bytes.windows(5).position(|five| five == b"topic");
            let at = at.expect("it has a will") - 2;
            bytes.splice(at..at + 7, string(topic));
            bytes[1] = u8::try_from(bytes.len() - 2).expect("it is short");
            let mut publisher = broker.open(version);
            publisher.send(bytes);
            assert!(publisher.drain_until_closed().is_some(), "{topic:02x?}");
        }
    }
    subscribers.iter_mut().for_each(Raw::fence);
}

/// 65,400 slashes in a filter overflowed the stack of whoever went down them.
#[test]
fn cve_2019_11779_topics_of_slashes() {
    let broker = Broker::start(&[]);
    let mut witness = Witness::of(&broker);
    let slashes = "/".repeat(65_400);
    for version in Version::ALL {
        for filter in [
            slashes.clone(),
            format!("{slashes}#"),
            "+/".repeat(32_000) + "#",
            format!("$share/g/{slashes}"),
            format!("$share/{slashes}"),
            format!("$SYS/{slashes}"),
        ] {
            let packets = [
                subscribe(1).filter(&filter, 0).encode(version),
                unsubscribe(1, &[&filter]).encode(version),
                publish(&filter, "x").encode(version),
                publish(&filter, "").retain().encode(version),
                publish(&filter, "x").qos(2).packet_id(1).encode(version),
            ];
            for bytes in packets {
                survives(&broker, &mut witness, version, &bytes);
            }
            let mut client = broker.open(version);
            client.send(connect("attacker").will(will(&filter, "x").retain()));
            assert!(client.drain_until_closed().is_some());
            witness.is_served();
        }
    }
}

/// A client that sends what only a server sends, CONNACK above all, in every form and at every time.
#[test]
fn cve_2021_28166_connack_from_a_client() {
    let broker = Broker::start(&[]);
    let mut witness = Witness::of(&broker);
    let forms: [&[u8]; 11] = [
        b"\x20\x02\0\0",
        b"\x20\x03\0\0\0",
        b"\x20\x03\x01\0\0",
        b"\x20\x03\0\x87\0",
        b"\x20\x06\0\0\x03\x21\0\x01",
        b"\x20\x08\0\0\x05\x27\0\0\0\x10",
        b"\x20\x0c\0\0\x09\x12\0\x06client",
        b"\x20\x00",
        b"\x20\x01\0",
        b"\xd0\x00",
        b"\x90\x04\0\x01\0\0",
    ];
    for bytes in forms {
        for version in Version::ALL {
            survives(&broker, &mut witness, version, bytes);
            // Behind CONNECT, in the same segment, and before it.
            let connect = connect("attacker").encode(version);
            for bytes in [[&connect, bytes].concat(), [bytes, &connect].concat()] {
                let mut client = broker.open(version);
                client.send(bytes);
                assert!(client.drain_until_closed().is_some());
                witness.is_served();
            }
        }
    }
}

/// A PUBLISH without a topic, where no alias says which.
#[test]
fn cve_2021_34432_publish_with_an_empty_topic() {
    let broker = Broker::start(&[]);
    let mut witness = Witness::of(&broker);
    for version in Version::ALL {
        for qos in 0..=2 {
            for retain in [false, true] {
                for payload in ["", "x"] {
                    let empty = Publish {
                        retain,
                        ..publish("", payload).qos(qos).packet_id(1)
                    };
                    survives(&broker, &mut witness, version, &empty.encode(version));
                }
            }
        }
    }
    for alias in [0, 1, 10, 11, u16::MAX] {
        let unknown = publish("", "x").with(topic_alias(alias));
        let bytes = unknown.encode(Version::V5);
        survives(&broker, &mut witness, Version::V5, &bytes);
    }
}

/// A normal subscription and a shared one to the same filter are two: neither ends the other, in whatever order they
/// come and go, and none is left of a client that is gone.
#[test]
fn cve_2024_8376_normal_and_shared_subscriptions_in_any_order() {
    const FILTERS: [&str; 4] = ["t", "$share/g/t", "$share/h/t", "+"];
    const EXISTED: u8 = 0;
    const NO_SUBSCRIPTION: u8 = 0x11;
    let broker = Broker::start(&["allow_duplicate_messages true"]);
    let mut publisher = broker.connect_v5("publisher");
    // All ways to subscribe to some of them, and to unsubscribe from one.
    for chosen in 0_usize..16 {
        for (gone, filter_gone) in FILTERS.into_iter().enumerate() {
            let has = |number: usize| chosen >> number & 1 == 1;
            let mut client = broker.connect_v5("client");
            for (number, filter) in FILTERS.iter().enumerate() {
                if has(number) {
                    client.subscribe(filter, 0);
                }
            }
            let expected = if has(gone) { EXISTED } else { NO_SUBSCRIPTION };
            for code in [expected, NO_SUBSCRIPTION] {
                client.send(unsubscribe(2, &[filter_gone]));
                client.expect(unsuback(2, &[code]));
            }
            let left = (0..FILTERS.len())
                .filter(|&number| number != gone && has(number))
                .count();
            publisher.publish(&publish("t", "x"));
            for _ in 0..left {
                client.expect(publish("t", "x"));
            }
            client.fence();
            match chosen % 3 {
                0 => client.leave(),
                // Taken over with everything that is left, or cut off.
                1 => broker.connect_v5("client").leave(),
                _ => cut(client),
            }
            publisher.publish(&publish("t", "x"));
        }
    }
}

/// A server that answers what it must not: the tools say so and end; they do not crash.
fn tool_against(tool: &str, version: &str, answers: &[&[u8]]) -> (Option<i32>, String) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = server.local_addr().expect("bound").port().to_string();
    let mut arguments = vec![tool, "-h", "127.0.0.1", "-p", &port, "-V", version];
    arguments.extend(["-t", "a", "-q", "2"]);
    // What loses its server comes again and again: for a second at most.
    arguments.extend(match tool {
        "sub" => ["-C", "1", "-W", "1"].as_slice(),
        _ => &["-m", "x"],
    });
    let child = Command::new(program())
        .args(&arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program under test");
    let mut client = Raw::over(server.accept().expect("it connects").0, Version::V311);
    client.expect_packet();
    let is_v5 = version == "mqttv5";
    client.send(if is_v5 {
        &b"\x20\x03\0\0\0"[..]
    } else {
        b"\x20\x02\0\0"
    });
    for answer in answers {
        // It may have hung up by now, which is as good.
        let _ = client.poll(DEADLINE);
        client.send(answer);
    }
    let mut stream = client.socket().try_clone().expect("it is open");
    let _ = client.socket().shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    drop((stream, client));
    let output = child.wait_with_output().expect("it is our child");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// A SUBACK without reason codes, or with others than were asked for, was read beyond its end.
#[test]
fn cve_2024_10525_suback_without_reason_codes() {
    let table: [(&str, &[&[u8]]); 2] = [
        (
            "mqttv311",
            &[
                b"\x90\x02\0\x01",
                b"\x90\x00",
                b"\x90\x01\0",
                b"\x90\x04\0\x01\0\0",
                b"\x90\x03\0\x01\x03",
            ],
        ),
        (
            "mqttv5",
            &[
                b"\x90\x03\0\x01\0",
                b"\x90\x02\0\x01",
                b"\x90\x00",
                b"\x90\x05\0\x01\0\0\0",
                b"\x90\x04\0\x01\x7f\0",
                b"\x90\x04\0\x01\0\x77",
            ],
        ),
    ];
    for (version, answers) in table {
        for answer in answers {
            let (code, said) = tool_against("sub", version, &[answer]);
            // Ended by itself, with an error, and no panic (101) nor signal (none).
            assert!(
                code.is_some_and(|code| code != 0 && code != 101),
                "{version} {answer:02x?}: {code:?}, {said}"
            );
            assert!(!said.contains("panicked"), "{said}");
        }
    }
}

/// Packets of a server that lack what every such packet has: a topic, an identifier, a reason; or that nobody asked
/// for.
#[test]
fn cve_2017_7655_packets_of_a_server_that_lack_something() {
    let answers: [&[u8]; 14] = [
        b"\x30\x00",
        b"\x30\x01\0",
        b"\x30\x02\0\0",
        b"\x32\x03\0\x01a",
        b"\x32\x05\0\x01a\0\0",
        b"\x40\x00",
        b"\x40\x01\0",
        b"\x50\x00",
        b"\x62\x00",
        b"\x70\x00",
        b"\x40\x02\0\0",
        b"\xb0\x02\0\x01",
        b"\x20\x02\0\0",
        b"\xe0\x00",
    ];
    for version in ["mqttv311", "mqttv5"] {
        for tool in ["sub", "pub"] {
            for answer in answers {
                let (code, said) = tool_against(tool, version, &[answer]);
                assert!(
                    code.is_some_and(|code| code != 101) && !said.contains("panicked"),
                    "{tool} {version} {answer:02x?}: {code:?}, {said}"
                );
            }
        }
    }
}

/// A PROXY header of version 2 whose fields say that they are longer than the header, against the real listener.
#[test]
fn mosquitto_3435_fields_that_reach_beyond_the_header() {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let broker = Broker::start(&["listener {port} 127.0.0.1", "enable_proxy_protocol 2"]);
    let with = |fields: &[u8]| {
        let address = b"\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x07\x5b";
        let len = u16::try_from(address.len() + fields.len()).expect("it is short");
        [
            SIGNATURE,
            b"\x21\x11",
            &len.to_be_bytes(),
            address,
            fields,
            &connect("client").encode(Version::V5),
        ]
        .concat()
    };
    let lying: [&[u8]; 10] = [
        b"\x20",
        b"\x20\xff",
        b"\x20\xff\xff",
        b"\x20\x00\x01",
        b"\x20\x00\x05\x01\0\0\0",
        b"\x20\x00\x08\x01\0\0\0\0\x22\x00\xff",
        b"\x20\x00\x04\x01\0\0\0",
        b"\x03\x00\x04\0\0\0\0",
        b"\x03\x00\x03\0\0\0",
        b"\x22\xff\xfe\x41",
    ];
    for fields in lying {
        let mut client = broker.open(Version::V5);
        client.send(with(fields));
        assert!(client.drain_until_closed().is_some(), "{fields:02x?}");
        let mut good = broker.open(Version::V5);
        good.send(with(b"\x04\x00\x02\0\0"));
        assert_eq!(good.expect_connack().reason, 0);
        good.fence();
        good.leave();
    }
}

/// Every packet there is, in every state of a connection: before CONNECT, after it, twice, and behind DISCONNECT.
#[test]
fn any_packet_in_any_state() {
    let broker = Broker::start(&[]);
    let mut witness = Witness::of(&broker);
    for version in Version::ALL {
        let mut all: Vec<Vec<u8>> = (0..=255_u8)
            .flat_map(|first| {
                let bodies: [&[u8]; 3] = [b"", b"\0\x01", b"\0\x01a\0\0"];
                bodies.map(|body| packet(first, body))
            })
            .collect();
        all.push(auth().reason(0x18).encode(Version::V5));
        all.push(auth().reason(0x19).encode(Version::V5));
        all.push(connect("attacker").encode(version));
        let hello = connect("attacker").encode(version);
        for bytes in all {
            for conversation in [
                bytes.clone(),
                [&hello[..], &bytes, &bytes].concat(),
                [&hello[..], &disconnect().encode(version), &bytes].concat(),
            ] {
                let mut client = broker.open(version);
                client.send(conversation);
                client.shutdown_send();
                assert!(client.drain_until_closed().is_some());
            }
        }
        witness.is_served();
    }
}
