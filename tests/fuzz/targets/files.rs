//! What operators write (`mosquitto.conf`, ACL and password files), and the PROXY header that stands before MQTT.

use midge::auth::acl::Acl;
use midge::auth::password::{self, PasswordFile};
use midge::config::{Config, Listener, ProxyProtocol, options};
use midge::mqtt::topic;
use midge::net::proxy;
use std::path::Path;
use std::sync::Arc;

/// Any text is a configuration, or an error that names its line; the same text twice is the same configuration.
pub fn config(bytes: &[u8]) {
    // Nothing but this makes a text read files.
    let names_a_directory = |line: &[u8]| line.windows(11).any(|it| it == b"include_dir");
    if names_a_directory(bytes) {
        return;
    }
    match Config::from_text("fuzz.conf", bytes) {
        Ok(config) => {
            let same = Config::from_text("fuzz.conf", bytes).expect("it was good a moment ago");
            // Of two listeners at one place the second cannot be opened.
            let is_first = |(index, it): (usize, &Listener)| {
                config.listeners.iter().position(|other| other.is_at(it)) == Some(index)
            };
            if config.listeners.iter().enumerate().all(is_first) {
                let changes = config.changes_that_need_a_restart(&same);
                assert_eq!(changes, Vec::<String>::new());
            }
            for warning in &config.warnings {
                assert!(!warning.to_string().is_empty());
            }
            for listener in &config.listeners {
                assert!(listener.is_at(listener) && !listener.name().is_empty());
            }
            let default = Config::default();
            let changes = default.changes_that_need_a_restart(&config);
            assert!(changes.iter().all(|change| !change.is_empty()));
            let running = config.for_running(&default);
            assert_eq!(running.listeners.len(), default.listeners.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Configurations with something of everything.
pub fn config_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "# a comment\nlistener 1883\nallow_anonymous true\n",
        "per_listener_settings true\nlistener 1883 127.0.0.1\npassword_file /etc/p\nacl_file /etc/a\n\
         listener 8883\ncafile /etc/ca\ncertfile /etc/c\nkeyfile /etc/k\nrequire_certificate true\n\
         use_identity_as_username true\ntls_version tlsv1.2\n",
        "port 1883\nbind_address localhost\nmax_connections 10\nmount_point m/\nmax_packet_size 100\n\
         max_inflight_messages 5\nmax_queued_messages 7\nmax_queued_bytes 1000\nmemory_limit 1000000\n",
        "persistence true\npersistence_location /tmp/\npersistence_file x.db\nautosave_interval 10\n\
         autosave_on_changes true\npersistent_client_expiration 2w\n",
        "log_dest stdout\nlog_dest file /tmp/log\nlog_type all\nlog_timestamp_format %Y-%m-%d\n\
         connection_messages false\nsys_interval 1\nretain_available false\nmax_keepalive 60\nmax_qos 1\n",
        "listener 0 /tmp/socket\nsocket_domain ipv4\nlistener 80\nprotocol websockets\nhttp_dir /x\n",
        "connection bridge\naddress localhost:1883 otherhost\ntopic # both 2 a/ b/\nremote_username u\n\
         bridge_protocol_version mqttv50\nstart_type automatic\n",
        "plugin /usr/lib/x.so\nplugin_opt_db_file y\nglobal_plugin z\nauth_plugin w\nauth_opt_k v\n",
        "\u{feff}listener 1883\r\nallow_anonymous  true \r\n\n   listener 1884\nenable_proxy_protocol 2\n",
        "lisener 1883\n",
        "max_keepalive 65536\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    // Every option there is, in the global part and behind a listener.
    for row in options::TABLE
        .iter()
        .filter(|row| row.name != "include_dir")
    {
        let (name, lines) = (row.name, "listener 1883\n");
        for value in ["true", "1", "/tmp/x", "all 127.0.0.1"] {
            seeds.push(format!("{name} {value}\n{lines}{name} {value}\n").into_bytes());
        }
    }
    seeds
}

/// Any text is a list of rights, or an error. Whoever it names, and others, may ask about all topics and filters in it.
pub fn acl(bytes: &[u8]) {
    let Ok(acl) = Acl::parse(Path::new("acl"), bytes) else {
        return;
    };
    for warning in acl.warnings() {
        assert!(!warning.to_string().is_empty());
    }
    let acl = Arc::new(acl);
    let words: Vec<&str> = bytes
        .split(|byte| byte.is_ascii_whitespace())
        .filter_map(|word| std::str::from_utf8(word).ok())
        .filter(|word| !word.is_empty())
        .take(24)
        .collect();
    let mut names: Vec<Option<&str>> = words.iter().copied().map(Some).collect();
    names.extend([None, Some("somebody"), Some("+"), Some("#")]);
    for user_name in names {
        for client_id in ["client", "a/b", "+", "#", ""] {
            let rights = acl.rights(user_name, client_id);
            for word in words.iter().copied().chain(["a", "a/b", "$SYS/x", "/"]) {
                if topic::name(word.as_bytes()).is_ok() {
                    rights.may_read(word);
                    rights.may_write(word);
                }
                if topic::check_filter(word).is_ok() {
                    rights.may_subscribe(word);
                }
            }
        }
    }
}

/// Rules of every kind.
pub fn acl_seeds() -> Vec<Vec<u8>> {
    [
        "topic read $SYS/#\n\nuser roger\ntopic foo/bar\ntopic readwrite a/+/c\ntopic deny a/b/c\n",
        "pattern write $SYS/broker/connection/%c/state\npattern read %u/#\npattern deny %u/secret\nuser x\ntopic write x\n",
        "# only this\nuser a b\ntopic subscribe #\ntopic subscribepattern +/+\ntopic deny #\nuser a b\ntopic a b\n",
        "topic #\ntopic deny +/x\r\nuser \u{e9}\ntopic write \u{e9}/\u{1f600}\n",
        "topic\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Any text is a password file, or an error. Each line of a good file is good alone, and who is
/// named in it has a hash.
pub fn passwords(bytes: &[u8]) {
    let parsed = PasswordFile::parse(Path::new("passwords"), bytes);
    let mut is_good = true;
    let mut names = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        match password::read_line(line) {
            Ok(None) => {}
            Ok(Some(line)) => {
                is_good &= line.hash().is_ok();
                let name = line.user_name.to_owned();
                if password::check_user_name(&name).is_err() {
                    panic!("{name:?} is no name for a client");
                }
                names.push(name);
            }
            Err(problem) => {
                assert!(!problem.expected().is_empty());
                is_good = false;
            }
        }
    }
    match parsed {
        Ok(file) => {
            assert!(is_good, "a bad line was overlooked");
            for name in &names {
                assert!(file.hash_of(name).is_some());
                drop(file.challenge(name));
            }
            drop(file.challenge("somebody else"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Every kind of hash, and what is none.
pub fn password_seeds() -> Vec<Vec<u8>> {
    [
        "# accounts\nroger:$6$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n",
        "a:$7$101$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n",
        "b:$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
        "c:plain\n",
        "no colon\n\nd:\n",
        ":$6$x$y\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A header is whole at one length only: with less of it, it is incomplete, and what follows does not change it.
pub fn proxy(bytes: &[u8]) {
    let v2 = ProxyProtocol::V2 {
        require_tls: true,
        identity_is_user_name: true,
    };
    for version in [ProxyProtocol::V1, v2] {
        match proxy::decode(version, bytes) {
            Ok(Some((header, length))) => {
                assert!((1..=bytes.len().min(proxy::HEADER_BYTES_MAX)).contains(&length));
                for part in 0..length {
                    let incomplete = proxy::decode(version, &bytes[..part]);
                    assert_eq!(incomplete, Ok(None), "{part} of {length} bytes");
                }
                let alone = proxy::decode(version, &bytes[..length]);
                assert_eq!(alone, Ok(Some((header, length))));
            }
            Ok(None) => assert!(bytes.len() < proxy::HEADER_BYTES_MAX, "it waits for ever"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Headers of both versions.
pub fn proxy_seeds() -> Vec<Vec<u8>> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let v2 = |rest: &[u8]| [SIGNATURE, rest].concat();
    vec![
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1883\r\n\x10".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 65535 1883\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(b"\x20\0\0\0"),
        v2(b"\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x03\xe8\x07\x5b"),
        v2(b"\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x03\xe8\x07\x5b"),
        v2(b"\x21\x11\0\x27\xc0\0\x02\x01\xc0\0\x02\x02\x03\xe8\x07\x5b\x20\0\x18\x05\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x06client\x04\0\x01\0"),
        v2(&[&b"\x21\x31\0\xd8"[..], &[b'/'; 216]].concat()),
    ]
}
