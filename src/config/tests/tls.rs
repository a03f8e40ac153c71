//! TLS and the PROXY protocol: what belongs together, and what is told when it does not.

use super::*;

const TLS: &str = "listener 8883\ncertfile c.pem\nkeyfile k.pem\n";

fn tls(text: &str) -> Option<Tls> {
    config(text).listeners.remove(0).tls
}

#[test]
fn tls_options_come_to_their_fields() {
    let plain = Tls::one_way("c.pem", "k.pem");
    assert_eq!(tls(TLS), Some(plain.clone()));
    assert_eq!(tls("listener 1883"), None);
    let all = Tls {
        cafile: Some("ca.pem".into()),
        capath: Some("/etc/c a".into()),
        crlfile: Some("crl.pem".into()),
        require_certificate: true,
        user_name: Some(CertificateName::CommonName),
        ciphers: Some("ECDHE:!NULL".to_owned()),
        ciphers_tls13: Some("TLS_AES_128_GCM_SHA256".to_owned()),
        version_min: TlsVersion::V13,
        ignores_dates: true,
        ..plain.clone()
    };
    let text = format!(
        "{TLS}cafile ca.pem\ncapath /etc/c a\ncrlfile crl.pem\nrequire_certificate true\n\
         use_identity_as_username true\nciphers ECDHE:!NULL\nciphers_tls1.3 TLS_AES_128_GCM_SHA256\n\
         tls_version tlsv1.3\ndisable_client_cert_date_checks true\n"
    );
    assert_eq!(tls(&text), Some(all));
    assert_eq!(warnings(&text), [""; 0]);
    // A file may be named again, and the last one counts, as in Mosquitto.
    let again = format!("{TLS}certfile d.pem\nkeyfile l.pem");
    let files = tls(&again).map(|tls| (tls.certfile, tls.keyfile));
    assert_eq!(files, Some(("d.pem".into(), "l.pem".into())));
}

#[test]
fn tls_that_is_not_whole_is_an_error() {
    for (text, option, line, needs) in [
        ("listener 1\ncertfile c", "certfile", 2, "'keyfile'"),
        ("listener 1\n\nkeyfile k", "keyfile", 3, "'certfile'"),
        (
            "listener 1\ncafile c",
            "cafile",
            2,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\ncapath c",
            "capath",
            2,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\ncrlfile c",
            "crlfile",
            2,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\nrequire_certificate true",
            "require_certificate",
            2,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\nuse_identity_as_username true",
            "use_identity_as_username",
            2,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\nenable_proxy_protocol 2\nuse_subject_as_username true",
            "use_subject_as_username",
            3,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\nenable_proxy_protocol 1\nuse_identity_as_username true",
            "use_identity_as_username",
            3,
            "'certfile' and 'keyfile'",
        ),
        (
            "listener 1\nproxy_protocol_v2_require_tls true",
            "proxy_protocol_v2_require_tls",
            2,
            "'enable_proxy_protocol 2'",
        ),
        (
            "listener 1\nenable_proxy_protocol 1\nproxy_protocol_v2_require_tls true",
            "proxy_protocol_v2_require_tls",
            3,
            "'enable_proxy_protocol 2'",
        ),
        (
            "listener 1\ncertfile c\nkeyfile k\nrequire_certificate true",
            "require_certificate",
            4,
            "'cafile' or 'capath'",
        ),
        // The other listener's key does not help.
        (
            "listener 1\nkeyfile k\nlistener 2\ncertfile c",
            "keyfile",
            2,
            "'certfile'",
        ),
        // A listener that is not opened is checked all the same.
        (
            "listener 1\nlistener 2\nprotocol websockets\ncertfile c",
            "certfile",
            4,
            "'keyfile'",
        ),
    ] {
        assert_eq!(
            error(text),
            format!(
                "Error: The '{option}' option requires {needs}.\nError found at t.conf:{line}.\n\
                 Midge does not start with less than this line asks for."
            ),
            "{text}"
        );
    }
}

#[test]
fn what_is_of_no_use_is_told() {
    for (lines, expected) in [
        (
            "crlfile c",
            "Warning: The 'crlfile' option has no effect without 'require_certificate true': no client is asked for a \
             certificate. (t.conf:4)",
        ),
        (
            "use_subject_as_username true",
            "Warning: The 'use_subject_as_username' option is of use with 'require_certificate true' only: no client \
             is asked for a certificate, and one that shows none is refused. (t.conf:4)",
        ),
        (
            "require_certificate true\ncafile c\nuse_subject_as_username true\nuse_identity_as_username true",
            "Warning: The 'use_subject_as_username' option has no effect beside 'use_identity_as_username'. \
             (t.conf:6)",
        ),
        (
            "tls_version tlsv1.1",
            "Warning: TLS 1.2 is the lowest version that is accepted: 'tls_version tlsv1.1' has the effect of \
             'tls_version tlsv1.2'. (t.conf:4)",
        ),
        (
            "dhparamfile d.pem",
            "The 'dhparamfile' option has no meaning here: the TLS library chooses the parameters of its key exchange \
             itself. (t.conf:4)",
        ),
    ] {
        assert_eq!(warnings(&format!("{TLS}{lines}")), [expected], "{lines}");
    }
    for option in ["ciphers", "ciphers_tls1.3"] {
        assert_eq!(
            warnings(&format!("listener 1\n{option} X")),
            [format!(
                "Warning: The '{option}' option has no effect without 'certfile' and 'keyfile'. (t.conf:2)"
            )]
        );
    }
    let both = format!("{TLS}use_subject_as_username true\nuse_identity_as_username true");
    assert_eq!(
        tls(&both).and_then(|tls| tls.user_name),
        Some(CertificateName::CommonName)
    );
}

#[test]
fn proxies() {
    let proxy = |text: &str| config(text).listeners[0].proxy_protocol;
    let v2 = |require_tls, identity_is_user_name| {
        Some(ProxyProtocol::V2 {
            require_tls,
            identity_is_user_name,
        })
    };
    for (text, expected) in [
        ("listener 1", None),
        ("listener 1\nproxy_protocol_v2_require_tls false", None),
        (
            "listener 1\nenable_proxy_protocol 1",
            Some(ProxyProtocol::V1),
        ),
        ("listener 1\nenable_proxy_protocol 2", v2(false, false)),
        (
            "listener 1\nproxy_protocol_v2_require_tls true\nenable_proxy_protocol 2",
            v2(true, false),
        ),
        (
            "listener 1\nenable_proxy_protocol 2\nuse_identity_as_username true",
            v2(false, true),
        ),
        // Where the broker speaks TLS itself, it sees the certificate itself.
        (
            "listener 1\nenable_proxy_protocol 2\nuse_identity_as_username true\nrequire_certificate true\n\
             certfile c\nkeyfile k\ncafile a",
            v2(false, false),
        ),
    ] {
        assert_eq!(proxy(text), expected, "{text}");
    }
}

/// Mosquitto 2.0.0 to 2.0.11 opened a listener to everybody, without passwords, over such a line.
#[test]
fn august_2021_tls_before_any_listener_opens_nothing_to_anonymous_clients() {
    for row in TABLE
        .iter()
        .filter(|row| row.scope == Scope::Listener)
        .filter(|row| !matches!(row.name, "listener" | "listener_allow_anonymous"))
    {
        let line = format!("{} {}\n", row.name, good_value(row));
        for text in [line.clone(), format!("certfile c\nkeyfile k\n{line}")] {
            let Ok(config) = Config::from_text("t.conf", &text) else {
                continue;
            };
            assert!(!config.local_only && !config.allow_anonymous, "{text}");
            for listener in &config.listeners {
                assert!(!listener.allow_anonymous, "{text}");
            }
        }
    }
    let config = config("certfile c\nkeyfile k\n");
    assert_eq!(config.listeners.len(), 1);
    assert!(config.listeners[0].tls.is_some());
}
