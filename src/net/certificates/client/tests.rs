//! Servers that are accepted and refused, with certificates that the `openssl` command makes here and now.

use std::sync::Arc;

use rustls::ServerConnection;
use rustls::crypto::aws_lc_rs;

use super::super::TlsContext;
use super::super::tests::{EC, Lab};
use super::*;

fn trusting(lab: &Lab, cafile: &str) -> ClientTls {
    ClientTls {
        cafile: Some(lab.path(cafile)),
        ..ClientTls::default()
    }
}

fn judge(tls: &ClientTls) -> Verifier {
    let provider = Arc::new(aws_lc_rs::default_provider());
    verifier(tls, &provider, &mut Vec::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// What `judge` says of a server; empty if it accepts it.
fn verdict(judge: &Verifier, chain: &[CertificateDer<'_>], host: &str) -> String {
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    match judge.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()) {
        Ok(_) => String::new(),
        Err(error) => describe_client(&error),
    }
}

/// Issuer, extensions, more words for openssl, what is sent along, and what is wrong with it.
type Case<'a> = (&'a str, Option<&'a str>, &'a str, &'a [&'a str], &'a str);

#[test]
fn chains_that_are_accepted_and_refused() {
    let lab = Lab::new();
    let ca = "basicConstraints=critical,CA:TRUE";
    let san = "subjectAltName=DNS:good.example";
    let short = "RSA -pkeyopt rsa_keygen_bits:1024";
    lab.openssl("req -new -key ca.key -subj /CN=root1 -out root1.csr");
    lab.openssl("x509 -req -in root1.csr -signkey ca.key -out root1.crt");
    std::fs::copy(lab.path("ca.key"), lab.path("root1.key")).expect("a copy");
    lab.authority("stranger");
    lab.key("impostor", EC);
    lab.openssl("req -x509 -new -key impostor.key -subj /CN=ca -out impostor.crt");
    lab.issue("sub", "ca", Some(ca), "");
    lab.key("rsaca", "RSA -pkeyopt rsa_keygen_bits:2048");
    lab.issue("rsaca", "ca", Some(ca), "");
    lab.issue("lateca", "ca", Some(ca), "-days -1");
    lab.issue("sha1ca", "ca", Some(ca), "-sha1");
    lab.key("shortca", short);
    lab.issue("shortca", "ca", Some(ca), "");
    lab.issue("leaf", "ca", Some(san), "");
    let clients = "basicConstraints=CA:TRUE\nextendedKeyUsage=clientAuth";
    lab.issue("clientca", "ca", Some(clients), "");
    lab.issue(
        "named",
        "ca",
        Some("basicConstraints=CA:TRUE\nnameConstraints=critical,permitted;DNS:other.example"),
        "",
    );
    let with = |more: &str| format!("{san}\n{more}");
    let (server, client) = (
        with("extendedKeyUsage=serverAuth"),
        with("extendedKeyUsage=clientAuth"),
    );
    let (any, both) = (
        with("extendedKeyUsage=anyExtendedKeyUsage"),
        with("extendedKeyUsage=clientAuth,serverAuth"),
    );
    let (signs, enciphers) = (
        with("keyUsage=digitalSignature"),
        with("keyUsage=keyEncipherment"),
    );
    let (lists, ns_server) = (with("keyUsage=cRLSign"), with("nsCertType=server"));
    let (ns_client, authority) = (with("nsCertType=client"), with(ca));
    let critical = with("1.2.3.4=critical,ASN1:NULL");
    let untrusted = "is not trusted here";
    let cases: &[Case<'_>] = &[
        ("ca", Some(san), "", &[], ""),
        // Of version 1, with nothing but a common name.
        ("ca", None, "", &[], ""),
        ("ca", Some("keyUsage=digitalSignature"), "", &[], ""),
        ("ca", Some(&server), "", &[], ""),
        ("ca", Some(&both), "", &[], ""),
        ("ca", Some(&client), "", &[], "lacks serverAuth"),
        ("ca", Some(&any), "", &[], "lacks serverAuth"),
        ("ca", Some(&signs), "", &[], ""),
        ("ca", Some(&enciphers), "", &[], ""),
        ("ca", Some(&lists), "", &[], "not for signing"),
        ("ca", Some(&ns_server), "", &[], ""),
        ("ca", Some(&ns_client), "", &[], "lacks serverAuth"),
        ("ca", Some(&authority), "", &[], ""),
        ("ca", Some(&critical), "", &[], "unknown critical extension"),
        ("ca", Some(san), "-days -1", &[], "expired on 20"),
        ("ca", Some(san), "-sha1", &[], "signed with SHA-1"),
        ("rsaca", Some(san), "-md5", &["rsaca"], "signed with MD5"),
        ("root1", Some(san), "", &[], ""),
        ("stranger", Some(san), "", &[], untrusted),
        ("stranger", Some(san), "", &["stranger"], untrusted),
        ("impostor", Some(san), "", &["impostor"], "bad signature"),
        ("sub", Some(san), "", &["sub"], ""),
        ("sub", Some(san), "", &["stranger", "sub", "ca"], ""),
        ("sub", Some(san), "", &[], untrusted),
        ("lateca", Some(san), "", &["lateca"], "expired on 20"),
        ("sha1ca", Some(san), "", &["sha1ca"], "signed with SHA-1"),
        ("shortca", Some(san), "", &["shortca"], "RSA of 1024 bits"),
        ("clientca", Some(san), "", &["clientca"], "lacks serverAuth"),
        ("leaf", Some(san), "", &["leaf"], "no certificate authority"),
        (
            "named",
            Some("subjectAltName=DNS:a.other.example"),
            "",
            &["named"],
            "is not for good.example",
        ),
        (
            "named",
            Some(san),
            "",
            &["named"],
            "NameConstraintViolation",
        ),
        // What an authority may not say in alternative names it may not say in a common name.
        (
            "named",
            Some("keyUsage=digitalSignature"),
            "",
            &["named"],
            "is not for good.example",
        ),
    ];
    let trusted = ["ca.crt", "root1.crt"].map(|name| lab.read(name)).concat();
    lab.write("trusted.crt", trusted);
    let judge = judge(&trusting(&lab, "trusted.crt"));
    for (i, (issuer, extensions, more, sent, expected)) in cases.iter().enumerate() {
        let name = format!("case{i}");
        lab.issue_to("/CN=good.example", &name, issuer, *extensions, more);
        let found = verdict(
            &judge,
            &lab.chain(&[&[name.as_str()], *sent].concat()),
            "good.example",
        );
        let case = format!("{issuer} {extensions:?} {more}: {found:?}");
        assert!(found.contains(expected), "{case}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{case}");
        let openssl =
            lab.openssl_verifies("sslserver", &name, sent, "-verify_hostname good.example");
        assert_eq!(found.is_empty(), openssl, "{case}");
    }
    lab.key("short", short);
    lab.issue("short", "ca", Some(san), "");
    assert!(verdict(&judge, &lab.chain(&["short"]), "good.example").contains("RSA of 1024 bits"));
    let damaged = [CertificateDer::from(vec![0x30, 3, 1, 2])];
    assert!(verdict(&judge, &damaged, "good.example").contains("damaged"));
}

#[test]
fn names_in_certificates() {
    let lab = Lab::new();
    lab.write("trusted.crt", lab.read("ca.crt"));
    let strict = judge(&trusting(&lab, "ca.crt"));
    let lax = judge(&ClientTls {
        ignores_name: true,
        ..trusting(&lab, "ca.crt")
    });
    // Common name, alternative names, host, whether it is that host's, whether OpenSSL says so too.
    for (i, (common, alternative, host, expected, openssl)) in [
        ("a.example", "", "a.example", true, true),
        ("a.example", "", "A.EXAMPLE", true, true),
        ("*.example.org", "", "a.example.org", true, true),
        ("a.example", "DNS:b.example", "b.example", true, true),
        ("a.example", "DNS:b.example", "a.example", false, false),
        ("a.example", "email:a@b.example", "a.example", true, true),
        ("a.example", "IP:127.0.0.1", "a.example", true, true),
        ("a.example", "IP:127.0.0.1", "127.0.0.1", true, true),
        ("a.example", "IP:127.0.0.1", "127.0.0.2", false, false),
        ("x", "IP:::1", "::1", true, true),
        ("x", "IP:::1", "127.0.0.1", false, false),
        ("x", "DNS:*.b.example", "a.b.example", true, true),
        ("x", "DNS:*.b.example", "b.example", false, false),
        ("x", "DNS:*.b.example", "a.a.b.example", false, false),
        ("x", "DNS:*.example", "a.example", false, false),
        // As Mosquitto, which compares addresses as text too.
        ("127.0.0.1", "", "127.0.0.1", true, false),
        ("x", "DNS:127.0.0.1", "127.0.0.1", true, false),
        ("x", "DNS:*.0.0.1", "127.0.0.1", false, false),
        ("*.0.0.1", "", "127.0.0.1", false, false),
        // Labels that are partly a star OpenSSL takes.
        ("x", "DNS:a*.b.example", "ab.b.example", false, true),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("case{i}");
        let extensions = match alternative {
            "" => "keyUsage=digitalSignature".to_owned(),
            names => format!("subjectAltName={names}"),
        };
        lab.issue_to(&format!("/CN={common}"), &name, "ca", Some(&extensions), "");
        let chain = lab.chain(&[&name]);
        let found = verdict(&strict, &chain, host);
        let case = format!("{common} {alternative} {host}: {found:?}");
        assert_eq!(found.is_empty(), expected, "{case}");
        if !expected {
            assert!(
                found.contains(&format!("is not for {host}, but for ")),
                "{case}"
            );
        }
        assert_eq!(verdict(&lax, &chain, host), "", "{case}");
        let option = match host.parse::<IpAddr>() {
            Ok(_) => "-verify_ip",
            Err(_) => "-verify_hostname",
        };
        let theirs = lab.openssl_verifies("sslserver", &name, &[], &format!("{option} {host}"));
        assert_eq!(theirs, openssl, "{case}");
    }
}

#[test]
fn without_names_all_else_is_checked() {
    let lab = Lab::new();
    lab.authority("stranger");
    let lax = judge(&ClientTls {
        ignores_name: true,
        ..trusting(&lab, "ca.crt")
    });
    lab.issue("late", "ca", None, "-days -1");
    lab.issue("foreign", "stranger", None, "");
    lab.issue("client", "ca", Some("extendedKeyUsage=clientAuth"), "");
    for (name, expected) in [
        ("late", "expired"),
        ("foreign", "is not trusted here"),
        ("client", "lacks serverAuth"),
        ("stranger", "signed itself"),
    ] {
        let found = verdict(&lax, &lab.chain(&[name]), "any.example");
        assert!(found.contains(expected), "{name}: {found}");
    }
}

#[test]
fn a_server_that_signed_itself_is_trusted_by_name() {
    let lab = Lab::new();
    for name in ["one", "two"] {
        lab.key(name, EC);
        lab.openssl(&format!(
            "req -x509 -new -key {name}.key -subj /CN=localhost -addext subjectAltName=DNS:localhost -out {name}.crt"
        ));
    }
    let judge = judge(&trusting(&lab, "one.crt"));
    assert_eq!(verdict(&judge, &lab.chain(&["one"]), "localhost"), "");
    assert!(verdict(&judge, &lab.chain(&["one"]), "other").contains("not for other"));
    // Another of the same name is not.
    assert!(!verdict(&judge, &lab.chain(&["two"]), "localhost").is_empty());
}

#[test]
fn nothing_that_a_server_calls_itself_reaches_a_terminal_raw() {
    let lab = Lab::new();
    lab.authority("stranger");
    let strict = judge(&trusting(&lab, "ca.crt"));
    for (name, issuer, subject, alternative) in [
        ("escape", "ca", "/CN=x", "DNS:\x1b[2Jx"),
        ("line", "ca", "/CN=x", "DNS:x\x07y"),
        ("common", "ca", "/CN=x\x1b[2J", "email:a@b.example"),
        ("foreign", "stranger", "/CN=x\x1b[2J", "DNS:x"),
    ] {
        let extensions = format!("subjectAltName={alternative}");
        lab.issue_to(subject, name, issuer, Some(&extensions), "");
        let found = verdict(&strict, &lab.chain(&[name]), "good.example");
        assert!(
            !found.is_empty() && !found.contains(char::is_control),
            "{found:?}"
        );
    }
    let many: Vec<_> = (0..500).map(|i| format!("DNS:host{i}.example")).collect();
    lab.issue(
        "many",
        "ca",
        Some(&format!("subjectAltName={}", many.join(","))),
        "",
    );
    let found = verdict(&strict, &lab.chain(&["many"]), "good.example");
    assert!(
        found.len() < 1000 && found.contains("and 490 more"),
        "{found}"
    );
    assert_eq!(
        verdict(&strict, &lab.chain(&["many"]), "host499.example"),
        ""
    );
}

#[test]
fn an_unknown_issuer_is_named() {
    let lab = Lab::new();
    lab.authority("stranger");
    lab.issue("foreign", "stranger", None, "");
    let judge = judge(&trusting(&lab, "ca.crt"));
    let found = verdict(&judge, &lab.chain(&["foreign"]), "foreign");
    assert!(
        found.contains("CN=foreign") && found.contains("CN=stranger"),
        "{found}"
    );
    // What matters is the end of the chain.
    lab.issue("sub", "stranger", Some("basicConstraints=CA:TRUE"), "");
    lab.issue("below", "sub", None, "");
    let found = verdict(&judge, &lab.chain(&["below", "sub"]), "below");
    assert!(found.contains("CN=stranger"), "{found}");
}

#[test]
fn files_that_do_not_serve() {
    let lab = Lab::new();
    lab.key("other", EC);
    lab.openssl("pkcs8 -topk8 -in server.key -passout pass:secret -out encrypted.key");
    lab.write("empty", "");
    let pair = |cert: &str, key: &str| ClientTls {
        certfile: Some(lab.path(cert)),
        keyfile: Some(lab.path(key)),
        ..trusting(&lab, "ca.crt")
    };
    let half = ClientTls {
        keyfile: None,
        ..pair("server.crt", "server.key")
    };
    for (tls, expected) in [
        (ClientTls::default(), &["authority to trust"][..]),
        (trusting(&lab, "none"), &["--cafile", "none: No such file"]),
        (
            trusting(&lab, "empty"),
            &["--cafile", "empty: the file is empty"],
        ),
        (
            trusting(&lab, "ca.key"),
            &["--cafile", "no certificate in PEM"],
        ),
        (half, &["without its private key"]),
        (
            pair("none", "server.key"),
            &["client certificate", "--cert", "none: No such file"],
        ),
        (
            pair("server.crt", "none"),
            &["client key", "--key", "none: No such file"],
        ),
        (
            pair("server.crt", "encrypted.key"),
            &["--key", "is encrypted", "openssl pkey -in"],
        ),
        (
            pair("server.crt", "other.key"),
            &["--cert", "inconsistent", "openssl x509 -noout -pubkey"],
        ),
    ] {
        let error = ClientTlsContext::load(&tls)
            .expect_err("a mistake")
            .to_string();
        for expected in expected {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(!error.contains("server certificate"), "{error}");
    }
    // Invariant 1: without names there must be an authority all the same.
    let lax = ClientTls {
        ignores_name: true,
        ..ClientTls::default()
    };
    assert!(matches!(
        ClientTlsContext::load(&lax),
        Err(TlsError::NothingTrusted)
    ));
}

/// Lets both shake hands; the errors of the client and of the server.
fn shake(client: &mut ClientConnection, server: &TlsContext) -> (Option<Error>, Option<Error>) {
    let config = Arc::clone(server.server_config());
    let mut server = ServerConnection::new(config).expect("a server");
    let (mut ours, mut theirs) = (None, None);
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client
                .write_tls(&mut bytes)
                .expect("a Vec takes everything");
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() && theirs.is_none() {
            server.read_tls(&mut bytes).expect("a slice");
            theirs = server.process_new_packets().err();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server
                .write_tls(&mut bytes)
                .expect("a Vec takes everything");
        }
        let mut bytes = bytes.as_slice();
        while !bytes.is_empty() && ours.is_none() {
            client.read_tls(&mut bytes).expect("a slice");
            ours = client.process_new_packets().err();
        }
    }
    (ours, theirs)
}

#[test]
fn handshakes() {
    let lab = Lab::new();
    lab.issue("client", "ca", None, "");
    lab.authority("stranger");
    lab.issue("foreign", "stranger", None, "");
    let server = |tls| TlsContext::load(&tls, None).expect("a server");
    let (one_way, mutual) = (server(lab.one_way()), server(lab.mutual("ca.crt")));
    let plain = trusting(&lab, "ca.crt");
    let with = |name: &str| ClientTls {
        certfile: Some(lab.path(&format!("{name}.crt"))),
        keyfile: Some(lab.path(&format!("{name}.key"))),
        ..plain.clone()
    };
    for version in [TlsVersion::V12, TlsVersion::V13] {
        for (tls, host, server, expected) in [
            (plain.clone(), "localhost", &one_way, ""),
            (
                plain.clone(),
                "127.0.0.1",
                &one_way,
                "not for 127.0.0.1, but for localhost",
            ),
            (with("client"), "localhost", &one_way, ""),
            (with("client"), "localhost", &mutual, ""),
            (plain.clone(), "localhost", &mutual, "ertificate"),
            (with("foreign"), "localhost", &mutual, "--cert"),
        ] {
            let tls = ClientTls {
                version: Some(version),
                ..tls
            };
            let context = ClientTlsContext::load(&tls).expect("a context");
            let mut client = context.connect(host).expect("a name");
            let (ours, theirs) = shake(&mut client, server);
            let ours = ours.map_or_else(String::new, |error| describe_client(&error));
            assert!(ours.contains(expected), "{version:?} {host}: {ours:?}");
            assert_eq!(ours.is_empty(), expected.is_empty(), "{version:?}: {ours}");
            assert_eq!(
                theirs.is_none(),
                expected.is_empty(),
                "{version:?}: {theirs:?}"
            );
        }
    }
    // The second connection resumes the first.
    let context = ClientTlsContext::load(&plain).expect("a context");
    for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut client = context.connect("localhost").expect("a name");
        assert!(matches!(shake(&mut client, &one_way), (None, None)));
        let kind = client.handshake_kind().expect("a handshake");
        // A key exchange that had to be asked for is a full handshake too.
        assert_eq!(
            kind == rustls::HandshakeKind::Resumed,
            expected == rustls::HandshakeKind::Resumed
        );
    }
}

#[test]
fn plain_text_is_told() {
    let lab = Lab::new();
    let context = ClientTlsContext::load(&trusting(&lab, "ca.crt")).expect("a context");
    for bytes in [
        &b"\x20\x02\x00\x05\x00"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let mut client = context.connect("localhost").expect("a name");
        client.read_tls(&mut &bytes[..]).expect("a slice");
        let error = client.process_new_packets().expect_err("no TLS");
        assert!(
            describe_client(&error).contains("does not speak TLS"),
            "{error}"
        );
    }
}

#[test]
fn what_a_server_may_be_called() {
    let lab = Lab::new();
    let context = ClientTlsContext::load(&trusting(&lab, "ca.crt")).expect("a context");
    for (name, expected) in [
        ("localhost", true),
        ("localhost.", true),
        ("my_broker", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("[::1]", true),
        ("", false),
        ("a b", false),
        ("[a]", false),
        ("a\x1b", false),
    ] {
        match context.connect(name) {
            Ok(_) => assert!(expected, "{name}"),
            Err(error) => {
                assert!(!expected, "{name}: {error}");
                assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
}

#[test]
fn names_of_hosts() {
    for (name, host, expected) in [
        ("a.example", "a.example", true),
        ("A.Example", "a.eXample.", true),
        ("*.b.example", "a.b.example", true),
        ("*.b.example", "b.example", false),
        ("*.b.example", "x.a.b.example", false),
        ("*.b.example", ".b.example", false),
        ("*.example", "a.example", false),
        ("*", "a", false),
        ("a*.b.example", "ab.b.example", false),
        ("a.example", "b.example", false),
    ] {
        assert_eq!(is_host(name, host), expected, "{name} {host}");
    }
}
