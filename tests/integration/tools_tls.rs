//! TLS of `pub`, `sub` and `rr`: which servers they trust, and what they say of those that they do not.

use std::process::Command;

use crate::harness::*;
use crate::tls::Lab;

const SERVER: [&str; 3] = [
    "listener {port} 127.0.0.1",
    "certfile {lab}/server.crt",
    "keyfile {lab}/server.key",
];

/// Publishes by these words; the exit code and what standard error got.
fn publish(lab: &Lab, broker: &Broker, words: &str) -> (Option<i32>, String) {
    let port = broker.address().port().to_string();
    let here = lab.path("").trim_end_matches('/').to_owned();
    let output = Command::new(program())
        .args(["pub", "-p", &port, "-t", "a", "-m", "x", "-q", "1"])
        .args(words.replace("{lab}", &here).split_whitespace())
        .output()
        .expect("the program under test");
    let stderr = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), stderr)
}

#[track_caller]
fn accepted(lab: &Lab, broker: &Broker, words: &str) {
    assert_eq!(
        publish(lab, broker, words),
        (Some(0), String::new()),
        "{words}"
    );
}

#[track_caller]
fn refused(lab: &Lab, broker: &Broker, words: &str, reason: &str) {
    let (code, stderr) = publish(lab, broker, words);
    assert_eq!(code, Some(8), "{words}: {stderr}");
    assert!(
        stderr.starts_with("Error: A TLS error occurred.\n"),
        "{stderr}"
    );
    assert!(stderr.contains(reason), "{words}: {stderr}");
}

fn broker(lab: &Lab) -> Broker {
    lab.broker(&[&SERVER[..], &["allow_anonymous true"]].concat())
}

const LOCALHOST: &str = "-h localhost --cafile {lab}/ca.crt";

#[test]
fn names_of_servers() {
    let lab = Lab::new();
    let broker = broker(&lab);
    accepted(&lab, &broker, LOCALHOST);
    accepted(&lab, &broker, "-h LocalHost --cafile {lab}/ca.crt");
    let by_address = "-h 127.0.0.1 --cafile {lab}/ca.crt";
    refused(
        &lab,
        &broker,
        by_address,
        "is not for 127.0.0.1, but for localhost: connect by such a name (-h)",
    );
    accepted(&lab, &broker, &format!("{by_address} --insecure"));
    drop(broker);
    lab.issue(
        "/CN=localhost",
        "server",
        "ca",
        Some("subjectAltName=IP:127.0.0.1,DNS:*.example.org"),
        "",
    );
    let broker = self::broker(&lab);
    accepted(&lab, &broker, by_address);
    refused(
        &lab,
        &broker,
        LOCALHOST,
        "but for 127.0.0.1, *.example.org:",
    );
}

/// Certificates as `openssl x509 -req` makes them without an extension file: version 1, with nothing but a common name.
#[test]
fn a_common_name_is_a_name_where_there_is_no_other() {
    let lab = Lab::new();
    lab.issue("/O=x/CN=localhost", "server", "ca", None, "");
    let broker = broker(&lab);
    accepted(&lab, &broker, LOCALHOST);
    drop(broker);
    lab.issue("/CN=elsewhere", "server", "ca", None, "");
    let broker = self::broker(&lab);
    refused(
        &lab,
        &broker,
        LOCALHOST,
        "is not for localhost, but for elsewhere:",
    );
}

#[test]
fn authorities_of_servers() {
    let lab = Lab::new();
    lab.authority("other");
    let broker = broker(&lab);
    refused(
        &lab,
        &broker,
        "-h localhost --cafile {lab}/other.crt",
        "an authority that is not trusted here",
    );
    lab.join("both.crt", &["other.crt", "ca.crt"]);
    accepted(&lab, &broker, "-h localhost --cafile {lab}/both.crt");
    // --insecure accepts any name, not any server.
    refused(
        &lab,
        &broker,
        "-h localhost --cafile {lab}/other.crt --insecure",
        "not trusted here",
    );
}

/// A server whose certificate signed itself is trusted by whoever names that certificate.
#[test]
fn a_certificate_that_signed_itself() {
    let lab = Lab::new();
    lab.openssl("req -x509 -new -key server.key -subj /CN=localhost -days 365 -out server.crt");
    let broker = broker(&lab);
    accepted(&lab, &broker, "-h localhost --cafile {lab}/server.crt");
    refused(
        &lab,
        &broker,
        LOCALHOST,
        "a certificate that signed itself is its own",
    );
}

#[test]
fn dates_and_purposes_of_servers() {
    let lab = Lab::new();
    lab.issue("/CN=localhost", "server", "ca", None, "-days -1");
    let broker = broker(&lab);
    refused(&lab, &broker, LOCALHOST, "certificate expired on ");
    drop(broker);
    lab.issue(
        "/CN=localhost",
        "server",
        "ca",
        Some("extendedKeyUsage=clientAuth"),
        "",
    );
    let broker = self::broker(&lab);
    refused(&lab, &broker, LOCALHOST, "lacks serverAuth");
    drop(broker);
    lab.issue(
        "/CN=localhost",
        "server",
        "ca",
        Some("extendedKeyUsage=serverAuth"),
        "",
    );
    let broker = self::broker(&lab);
    accepted(&lab, &broker, LOCALHOST);
}

#[test]
fn a_server_that_wants_a_certificate() {
    let lab = Lab::new();
    lab.issue("/CN=meter", "meter", "ca", None, "");
    let lines = [
        "allow_anonymous true",
        "cafile {lab}/ca.crt",
        "require_certificate true",
    ];
    let broker = lab.broker(&[&SERVER[..], &lines].concat());
    for version in ["", " --tls-version tlsv1.2", " --tls-version tlsv1.3"] {
        let words = format!("{LOCALHOST}{version}");
        accepted(
            &lab,
            &broker,
            &format!("{words} --cert {{lab}}/meter.crt --key {{lab}}/meter.key"),
        );
        refused(&lab, &broker, &words, "ertificate");
    }
}

#[test]
fn a_server_without_tls() {
    let lab = Lab::new();
    let broker = Broker::start(&[]);
    refused(&lab, &broker, LOCALHOST, "The server ");
}

/// Files that cannot be used: which, and what is wrong with it, before anything is connected.
#[test]
fn files_that_cannot_be_used() {
    let lab = Lab::new();
    let broker = broker(&lab);
    lab.write("empty", "");
    lab.write(
        "garbage",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    lab.key("other", "EC -pkeyopt ec_paramgen_curve:P-256");
    for (words, expected) in [
        ("--cafile {lab}/empty", "empty"),
        ("--cafile {lab}/garbage", "garbage"),
        (
            "--cafile {lab}/ca.crt --cert {lab}/server.crt --key {lab}/other.key",
            "other.key",
        ),
        (
            "--cafile {lab}/ca.crt --cert {lab}/empty --key {lab}/server.key",
            "empty",
        ),
    ] {
        let (code, stderr) = publish(&lab, &broker, &format!("-h localhost {words}"));
        assert_eq!(code, Some(1), "{words}: {stderr}");
        assert!(
            stderr.starts_with("Error: ") && stderr.contains(expected),
            "{words}: {stderr}"
        );
    }
}
