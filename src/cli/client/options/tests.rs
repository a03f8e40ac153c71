//! Command lines and what they come to: each option, and each sentence about one that cannot be followed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use super::table::{self, Action};
use super::*;
use crate::config::TlsVersion;
use crate::mqtt::Property;
use Tool::{Publish, Request as Ask, Subscribe};

const HINT: &str = "\nUse 'tool --help' to see usage.\n";

fn accept(_: &str) -> Result<(), String> {
    Ok(())
}

fn environment() -> Environment<'static> {
    Environment {
        config_home: None,
        home: None,
        process_id: 4321,
        random: [0; 18],
        errors_to_terminal: false,
        check_format: &accept,
    }
}

/// Spaces separate arguments; `''` is an empty one.
fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace()
        .map(|word| if word == "''" { "" } else { word }.into())
        .collect()
}

fn ask(tool: Tool, line: &str) -> Result<Request, UsageError> {
    parse(tool, "tool", &words(line), &environment())
}

fn run(tool: Tool, line: &str) -> Options {
    match ask(tool, line) {
        Ok(Request::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

fn publish(line: &str) -> Options {
    run(Publish, &format!("-t a -m b {line}"))
}

fn subscribe(line: &str) -> SubscribeOptions {
    run(Subscribe, &format!("-t a {line}")).subscribe
}

fn list(buffer: &PropertyBuffer) -> Vec<Property<'_>> {
    buffer.as_properties().iter().collect()
}

#[test]
fn nothing_said_is_the_default() {
    let options = run(Subscribe, "-t a");
    assert_eq!(
        options.route.target,
        Target::Tcp {
            host: "localhost".into(),
            port: 1883
        }
    );
    assert!(options.route.tls.is_none() && !options.route.websocket && !options.route.nodelay);
    assert_eq!(options.login.version, ProtocolVersion::V311);
    assert_eq!(options.login.client_id, "");
    let old = run(Subscribe, "-t a -V 31");
    assert_eq!(old.login.client_id, "mosq-AAAAAAAAAAAAAAAAAA");
    assert_eq!(options.login.keep_alive, 60);
    assert!(options.login.clean_start && options.login.will.is_none());
    assert!(list(&options.login.properties).is_empty());
    assert_eq!(options.max_inflight, 20);
    assert_eq!(options.qos, QoS::AtMostOnce);
    assert!(options.subscribe.newline && options.subscribe.count.is_none());
    assert_eq!(options.subscribe.random_filter, 10_000);

    let options = run(Ask, "-t a -e b -n");
    assert_eq!(options.login.version, ProtocolVersion::V5);
    assert_eq!(options.login.client_id, "");
    assert_eq!(options.publish.payload, Some(Payload::Null));
    assert_eq!(options.subscribe.response_topic.as_deref(), Some("b"));
    assert_eq!(
        list(&options.publish.properties),
        [Property::ResponseTopic("b")]
    );
    assert_eq!(
        list(&options.login.properties),
        [Property::ReceiveMaximum(1)]
    );
    let options = run(Ask, "-t a -e b -n -V 311");
    assert!(list(&options.publish.properties).is_empty());
}

#[test]
fn a_place_is_said_in_several_ways() {
    let tcp = |host: &str, port| Target::Tcp {
        host: host.into(),
        port,
    };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (line, target, tls) in [
        ("-h x", tcp("x", 1883), false),
        ("--host x --port 5", tcp("x", 5), false),
        ("-p 8883", tcp("localhost", 8883), true),
        ("-p 8883 --no-tls", tcp("localhost", 8883), false),
        ("--capath /x", tcp("localhost", 8883), true),
        (
            &format!("--cafile {manifest}"),
            tcp("localhost", 8883),
            true,
        ),
        (
            &format!("--cafile {manifest} -p 1"),
            tcp("localhost", 1),
            true,
        ),
        ("--cafile /missing --no-tls", tcp("localhost", 8883), false),
        ("--tls-use-os-certs", tcp("localhost", 1883), true),
        ("-L mqtt://x/a", tcp("x", 1883), false),
        ("-L mqtts://x/a", tcp("x", 8883), true),
        ("-L mqtts://x:5/a", tcp("x", 5), true),
        ("-L mqtt://x:8883/a", tcp("x", 8883), true),
        ("-L wss://x/a", tcp("x", 8883), true),
        ("--unix /run/x", Target::Unix("/run/x".into()), false),
        ("-h x -p 0", Target::Unix("x".into()), false),
        ("--unix /run/x -p 7", tcp("/run/x", 7), false),
        (
            "-S -h x.org",
            Target::Service {
                domain: "x.org".into(),
            },
            false,
        ),
    ] {
        let route = publish(line).route;
        assert_eq!((route.target, route.tls.is_some()), (target, tls), "{line}");
    }
    for line in ["--ws", "-L ws://x/a", "-L wss://x/a"] {
        assert!(publish(line).route.websocket, "{line}");
    }
    let route = publish("-A 127.0.0.2 --nodelay --proxy socks5h://u:p@x").route;
    assert_eq!(route.bind_address.as_deref(), Some("127.0.0.2"));
    assert!(route.nodelay && route.proxy.is_some());
    let login = publish("-L mqtt://u:p@x/c").login;
    assert_eq!(login.user_name.as_deref(), Some("u"));
    assert_eq!(login.password.as_deref(), Some(&b"p"[..]));
    let options = run(Publish, "-L mqtt://x/c/d -n");
    assert_eq!(options.publish.topic.as_deref(), Some("c/d"));
    let options = run(Subscribe, "-L mqtt://x/#");
    assert_eq!(options.subscribe.filters, ["#"]);
}

#[test]
fn tls_is_said() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let tls = publish(&format!(
        "--cafile {file} --capath /d --cert {file} --key {file} --keyform pem --insecure --tls-version tlsv1.3 \
         --ciphers c --tls-alpn mqtt --tls-keylog /k --psk-identity x"
    ))
    .route
    .tls
    .unwrap();
    let file = Some(PathBuf::from(file));
    assert_eq!(
        (&tls.cafile, &tls.certfile, &tls.keyfile),
        (&file, &file, &file)
    );
    assert_eq!(tls.capath, Some("/d".into()));
    assert_eq!(tls.keylog, Some("/k".into()));
    assert_eq!(tls.version, Some(TlsVersion::V13));
    assert_eq!(tls.ciphers.as_deref(), Some("c"));
    assert_eq!(tls.alpn.as_deref(), Some("mqtt"));
    assert!(tls.ignores_name && !tls.trusts_system);
    assert!(
        publish("--capath /d --tls-use-os-certs")
            .route
            .tls
            .unwrap()
            .trusts_system
    );
    assert!(publish("-p 8883").route.tls.unwrap().trusts_system);
    // A port says nothing about trust if authorities were named.
    assert!(
        !publish("--capath /d -p 8883")
            .route
            .tls
            .unwrap()
            .trusts_system
    );
}

#[test]
fn a_session_is_said() {
    let login = publish("-i me -c -k 5 -u ann -P secret -V mqttv31").login;
    assert_eq!(login.client_id, "me");
    assert!(!login.clean_start);
    assert_eq!(login.keep_alive, 5);
    assert_eq!(login.version, ProtocolVersion::V31);
    assert_eq!(login.user_name.as_deref(), Some("ann"));
    assert_eq!(publish("-I p-").login.client_id, "p-4321");
    for (line, version) in [
        ("-V 31", ProtocolVersion::V31),
        ("-V 311", ProtocolVersion::V311),
        ("-V mqttv311", ProtocolVersion::V311),
        ("-V 5", ProtocolVersion::V5),
        ("-V mqttv5", ProtocolVersion::V5),
        ("-x 0", ProtocolVersion::V5),
        ("-D publish topic-alias 1", ProtocolVersion::V5),
        ("-x 0 -V 311", ProtocolVersion::V311),
    ] {
        assert_eq!(publish(line).login.version, version, "{line}");
    }
    let maximum = Property::ReceiveMaximum(20);
    let expiry = Property::SessionExpiryInterval;
    for (line, properties) in [
        ("-V 5", &[maximum][..]),
        ("-x 0", &[maximum]),
        ("-x 0x10", &[expiry(16), maximum]),
        ("-i a -x -1", &[expiry(u32::MAX), maximum]),
        ("-i a -x ∞", &[expiry(u32::MAX), maximum]),
        ("-i a -V 5 -c", &[expiry(u32::MAX), maximum]),
        ("-i a -c -x 7", &[expiry(7), maximum]),
        (
            "-D connect receive-maximum 9 -x 1",
            &[Property::ReceiveMaximum(9), expiry(1)],
        ),
    ] {
        assert_eq!(list(&publish(line).login.properties), properties, "{line}");
    }
    for (line, maximum) in [("-C 3", 3), ("-C 19", 19), ("-C 20", 20), ("-C 100000", 20)] {
        let options = run(Subscribe, &format!("-t a -V 5 {line}"));
        let properties = list(&options.login.properties);
        assert_eq!(properties, [Property::ReceiveMaximum(maximum)], "{line}");
    }
    assert_eq!(publish("-M 5").max_inflight, 5);
    assert_eq!(publish("-M 70000").max_inflight, 65_535);
    // A password without a name is for MQTT 5 (3.1.2.9).
    assert!(publish("-P x -V 5").login.password.is_some());
}

#[test]
fn a_will_is_said() {
    let will = publish("--will-topic w --will-payload x --will-qos 2 --will-retain")
        .login
        .will;
    let will = will.unwrap();
    assert_eq!(
        (&will.topic[..], &will.payload[..], will.qos),
        ("w", &b"x"[..], QoS::ExactlyOnce)
    );
    assert!(will.retain);
    let will = publish("--will-topic w -D will will-delay-interval 3")
        .login
        .will;
    let will = will.unwrap();
    assert!(will.payload.is_empty());
    assert_eq!(list(&will.properties), [Property::WillDelayInterval(3)]);
}

#[test]
fn a_message_is_said() {
    for (line, payload) in [
        ("-m x", Payload::Message(b"x".to_vec())),
        ("--message ''", Payload::Message(Vec::new())),
        ("-f /x", Payload::File("/x".into())),
        ("-s", Payload::Input),
        ("--stdin-line", Payload::Lines),
        ("-n", Payload::Null),
    ] {
        let options = run(Publish, &format!("--topic a {line}"));
        assert_eq!(options.publish.payload, Some(payload), "{line}");
    }
    let options = publish("-q 1 -r --repeat 3 --repeat-delay 0.25 -d --quiet -t c");
    assert_eq!(options.qos, QoS::AtLeastOnce);
    assert!(options.publish.retain && options.debug && options.quiet);
    assert_eq!(options.publish.repeat, 3);
    assert_eq!(options.publish.repeat_delay, Duration::from_millis(250));
    assert_eq!(options.publish.topic.as_deref(), Some("c"));
    // The next argument is the value, whatever it looks like.
    let options = run(Publish, "-t a -m -m");
    assert_eq!(
        options.publish.payload,
        Some(Payload::Message(b"-m".to_vec()))
    );
    let arguments = ["-t", "a", "-m"].map(OsString::from).into_iter();
    let arguments: Vec<OsString> = arguments.chain([OsString::from_vec(vec![0xFF])]).collect();
    let request = parse(Publish, "tool", &arguments, &environment());
    let Ok(Request::Run(options)) = request else {
        panic!("{request:?}");
    };
    assert_eq!(options.publish.payload, Some(Payload::Message(vec![0xFF])));
}

#[test]
fn a_subscription_is_said() {
    let options =
        subscribe("-t b/# -U c -U + -T d -C 5 -W 7 -E -N -v -F %p --pretty -w --message-rate");
    assert_eq!(options.filters, ["a", "b/#"]);
    assert_eq!(options.unsubscribes, ["c", "+"]);
    assert_eq!(options.filter_outs, ["d"]);
    assert_eq!(
        (options.count, options.timeout),
        (Some(5), Some(Duration::from_secs(7)))
    );
    assert!(options.exits_after_suback && !options.newline && options.verbose);
    assert_eq!(options.format.as_deref(), Some("%p"));
    assert!(options.pretty && options.watch && options.message_rate);
    let options = subscribe("-R --retain-as-published --remove-retained");
    assert!(options.ignores_retained && options.retain_as_published && options.removes_retained);
    assert_eq!(options.retain_handling, RetainHandling::DoNotSend);
    assert!(subscribe("--retained-only").retained_only);
    for (word, handling) in [
        ("always", RetainHandling::Send),
        ("new", RetainHandling::SendIfNew),
        ("never", RetainHandling::DoNotSend),
    ] {
        let line = format!("--retain-handling {word}");
        assert_eq!(subscribe(&line).retain_handling, handling);
    }
    for (percent, hundredths) in [
        ("100", 10_000),
        ("0.1", 10),
        ("50.05", 5_000),
        ("1000", 10_000),
    ] {
        let line = format!("--random-filter {percent}");
        assert_eq!(subscribe(&line).random_filter, hundredths);
    }
    let options =
        subscribe("-D subscribe subscription-identifier 1 -D unsubscribe user-property a b");
    assert_eq!(list(&options.subscribe_properties).len(), 1);
    assert_eq!(list(&options.unsubscribe_properties).len(), 1);
    let options = run(Ask, "-t a -e b -m c --latency -R -v -N -F x --pretty -W 1");
    assert!(options.subscribe.latency && options.route.nodelay);
    // Only the unsubscribing is asked for.
    assert!(run(Subscribe, "-U a").subscribe.filters.is_empty());
}

/// Sentences that the line about `--help` follows; the same for each tool that has the option.
const HINTED: &[(Tool, &str, &str)] = &[
    (Publish, "--unknown", "Error: Unknown option '--unknown'.\n"),
    (Publish, "-C 1", "Error: Unknown option '-C'.\n"),
    (Subscribe, "-m a", "Error: Unknown option '-m'.\n"),
    (Ask, "-l", "Error: Unknown option '-l'.\n"),
    (Ask, "-r", "Error: Unknown option '-r'.\n"),
    (Ask, "--repeat", "Error: Unknown option '--repeat'.\n"),
    (
        Ask,
        "--message-rate",
        "Error: Unknown option '--message-rate'.\n",
    ),
    (Publish, "stray", "Error: Unknown option 'stray'.\n"),
    (
        Publish,
        "-i a -I b",
        "Error: -i and -I argument cannot be used together.\n\n",
    ),
    (
        Publish,
        "-I a -i",
        "Error: -i and -I argument cannot be used together.\n\n",
    ),
    (
        Publish,
        "-m a -f b",
        "Error: Only one type of message can be sent at once.\n\n",
    ),
    (
        Publish,
        "-n -s",
        "Error: Only one type of message can be sent at once.\n\n",
    ),
    (
        Publish,
        "-l -m",
        "Error: Only one type of message can be sent at once.\n\n",
    ),
    (
        Publish,
        "-k 4",
        "Error: Invalid keepalive given, it must be between 5 and 65535 inclusive.\n\n",
    ),
    (
        Publish,
        "-k 65536",
        "Error: Invalid keepalive given, it must be between 5 and 65535 inclusive.\n\n",
    ),
    (
        Publish,
        "-M 0",
        "Error: Maximum inflight messages must be greater than 0.\n\n",
    ),
    (Publish, "-p -1", "Error: Invalid port given: -1\n"),
    (Publish, "-p 65536", "Error: Invalid port given: 65536\n"),
    (Publish, "-q 3", "Error: Invalid QoS given: 3\n"),
    (Publish, "-q -1", "Error: Invalid QoS given: -1\n"),
    (Publish, "--will-qos 3", "Error: Invalid will QoS 3.\n\n"),
    (
        Publish,
        "-V 4",
        "Error: Invalid protocol version argument given.\n\n",
    ),
    (
        Publish,
        "-x a",
        "Error: session-expiry-interval not a number.\n\n",
    ),
    (
        Publish,
        "-x -2",
        "Error: session-expiry-interval out of range.\n\n",
    ),
    (
        Publish,
        "-x 4294967296",
        "Error: session-expiry-interval out of range.\n\n",
    ),
    (
        Publish,
        "--repeat 0",
        "Error: --repeat argument must be >0.\n\n",
    ),
    (
        Publish,
        "--repeat-delay -1",
        "Error: --repeat-delay argument must be >=0.0.\n\n",
    ),
    (Subscribe, "-C 0", "Error: Invalid message count \"0\".\n\n"),
    (Subscribe, "-W 0", "Error: Invalid timeout \"0\".\n\n"),
    (
        Subscribe,
        "--random-filter 0.01",
        "Error: --random-filter chance must be between 0.1-100.0\n\n",
    ),
    (
        Subscribe,
        "--retain-handling x",
        "Error: Unknown value 'x' for --retain-handling.\n\n",
    ),
    (
        Publish,
        "-t a/#",
        "Error: Invalid publish topic 'a/#', does it contain '+' or '#'?\n",
    ),
    (
        Publish,
        "-t ''",
        "Error: Invalid publish topic '', does it contain '+' or '#'?\n",
    ),
    (
        Publish,
        "-t a\u{1}",
        "Error: Malformed UTF-8 in -t argument.\n\n",
    ),
    (
        Publish,
        "-L mqtt://h/+",
        "Error: Invalid publish topic '+', does it contain '+' or '#'?\n",
    ),
    (
        Publish,
        "-L mqtt://h/\u{1}",
        "Error: Malformed UTF-8 in -L topic argument.\n\n",
    ),
    (
        Ask,
        "-e a/+",
        "Error: Invalid response topic 'a/+', does it contain '+' or '#'?\n",
    ),
    (
        Publish,
        "--will-topic +",
        "Error: Invalid will topic '+', does it contain '+' or '#'?\n",
    ),
    (
        Subscribe,
        "-t a#",
        "Error: Invalid subscription topic 'a#', are all '+' and '#' wildcards correct?\n",
    ),
    (
        Subscribe,
        "-T a#",
        "Error: Invalid filter topic 'a#', are all '+' and '#' wildcards correct?\n",
    ),
    (
        Subscribe,
        "-U a#",
        "Error: Invalid unsubscribe topic 'a#', are all '+' and '#' wildcards correct?\n",
    ),
    (
        Subscribe,
        "-T a\u{1}",
        "Error: Malformed UTF-8 in -T argument.\n\n",
    ),
    (
        Publish,
        "-L http://h/a",
        "Error: Unsupported URL scheme.\n\n",
    ),
    (
        Publish,
        "-L mqtt://h",
        "Error: Invalid URL for -L argument specified - topic missing.\n",
    ),
    (
        Publish,
        "--proxy socks5h://h:0",
        "Error: Invalid proxy port 0\n",
    ),
    (Publish, "--quiet --proxy socks5h://h:0", ""),
    (Publish, "-D connack reason-string a", ""),
    (
        Publish,
        "-D foo a b",
        "Error: Invalid command foo given in --property argument.\n\n",
    ),
    (
        Publish,
        "-D connect",
        "Error: --property argument given but not enough arguments specified.\n\n",
    ),
    (Publish, "--quiet -q 3", "Error: Invalid QoS given: 3\n"),
    (
        Publish,
        "--will-payload a",
        "Error: Will payload given, but no will topic given.\n",
    ),
    (
        Publish,
        "--will-retain",
        "Error: Will retain given, but no will topic given.\n",
    ),
    (
        Publish,
        "--cert a",
        "Error: Both certfile and keyfile must be provided if one of them is set.\n",
    ),
    (
        Publish,
        "--keyform a",
        "Error: If keyform is set, keyfile must be also specified.\n",
    ),
    (
        Publish,
        "--tls-engine-kpass-sha1 a",
        "Error: when using tls-engine-kpass-sha1, both tls-engine and keyform must also be provided.\n",
    ),
    (
        Publish,
        "--psk a --psk-identity b --capath c",
        "Error: Only one of --psk or --cafile/--capath may be used at once.\n",
    ),
    (
        Publish,
        "--psk a",
        "Error: --psk-identity required if --psk used.\n",
    ),
    (
        Publish,
        "-c",
        "Error: You must provide a client id if you are using the -c option.\n",
    ),
    (
        Publish,
        "-V 5 -c",
        "Error: You must provide a client id if you are using an infinite session expiry interval.\n",
    ),
    (
        Publish,
        "-I a -x -1",
        "Error: You must provide a client id if you are using an infinite session expiry interval.\n",
    ),
    (
        Subscribe,
        "",
        "Error: You must specify a topic to subscribe to (-t) or unsubscribe from (-U).\n",
    ),
    (
        Ask,
        "-t a -e b",
        "Error: All of topic, message, and response topic must be supplied.\n",
    ),
    (
        Ask,
        "-t a -n",
        "Error: All of topic, message, and response topic must be supplied.\n",
    ),
    (
        Publish,
        "-D publish topic-alias 1 -D publish topic-alias 2",
        "Error in PUBLISH properties: Duplicate property in property list\n",
    ),
    (
        Publish,
        "-t a -o",
        "Error: -o argument given but no options file specified.\n\n",
    ),
    (
        Publish,
        "-o /a -o /b",
        "Error: Duplicate -o argument given.\n\n",
    ),
    (
        Publish,
        "-o /missing/file",
        "Error: Unable to open options file \"/missing/file\": No such file or directory.\n\n",
    ),
];

/// Sentences that stand alone, and whether `--quiet` silences them.
const ALONE: &[(Tool, &str, &str, bool)] = &[
    (
        Subscribe,
        "-t a -R --retained-only",
        "\nError: Combining '-R' and '--retained-only' makes no sense.\n",
        false,
    ),
    (
        Ask,
        "-t a -e b -n -D publish response-topic c",
        "Error in PUBLISH properties: Duplicate response topic.\n",
        true,
    ),
    (Publish, "-t a -n -i ''", "Error: Invalid id.\n", true),
    (
        Subscribe,
        "-t a -i ''",
        "Error: Invalid id and/or clean_session.\n",
        true,
    ),
    (
        Subscribe,
        "-t a -c -x 5",
        "Error: Invalid id and/or clean_session.\n",
        true,
    ),
    (
        Publish,
        "-t a -n -P x",
        "Error: Problem setting username and/or password.\n",
        true,
    ),
    (
        Publish,
        "-t a -n -u \u{1}",
        "Error: Problem setting username and/or password.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --will-topic w -D will will-delay-interval 1 -V 311",
        "Error: Problem setting will.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --cafile /missing/file",
        "Error: Problem setting TLS options: File not found.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --tls-version tlsv1.1",
        "Error: Problem setting TLS options, check the options are valid.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --keyform x --key k --cert c",
        "Error: Problem setting key form, it must be one of 'pem' or 'engine'.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --keyform engine --key k --cert c",
        "Error: --keyform engine is not supported; give the private key as a PEM file with --key.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --tls-engine x",
        "Error: Problem setting TLS engine, is x a valid engine?\n\
         Engines of OpenSSL are not supported; give the private key as a file with --key.\n",
        true,
    ),
    (
        Publish,
        "-t a -n --psk a --psk-identity b",
        "Error: TLS with a pre-shared key is not supported; use certificates (--cafile, --cert, --key) instead of \
         --psk.\n",
        true,
    ),
    (
        Publish,
        "-n -L mqtt://h:99999/a",
        "Unable to connect (Invalid function arguments provided.).\n",
        true,
    ),
    (
        Publish,
        "-t a -n -D connect receive-maximum 5 -V 311",
        "Unable to connect (This feature is not supported.).\n",
        true,
    ),
    (
        Publish,
        "-t a -n -x 5 -D connect session-expiry-interval 5",
        "Unable to connect (Duplicate property in property list).\n",
        true,
    ),
];

#[test]
fn what_cannot_be_followed_has_a_sentence() {
    for (tool, line, sentence) in HINTED {
        let error = ask(*tool, line).unwrap_err();
        assert_eq!(error.text, format!("{sentence}{HINT}"), "{line}");
        assert!(!error.shows_usage);
    }
    for (tool, line, sentence, silent) in ALONE {
        assert_eq!(ask(*tool, line).unwrap_err().text, *sentence, "{line}");
        let error = ask(*tool, &format!("--quiet {line}")).unwrap_err();
        let expected = if *silent { "" } else { sentence };
        assert_eq!(error.text, expected, "{line}");
    }
    for line in ["", "-t a", "-m b"] {
        let error = ask(Publish, line).unwrap_err();
        assert_eq!(
            error.text,
            "Error: Both topic and message must be supplied.\n"
        );
        assert!(error.shows_usage);
    }
}

#[test]
fn a_missing_value_has_a_sentence() {
    let mut sentences = HashSet::new();
    for tool in [Publish, Subscribe, Ask] {
        for entry in table::entries(tool) {
            let Action::Value { missing, .. } = &entry.action else {
                continue;
            };
            for name in entry.names {
                let shown = entry.name();
                let sentence = format!("Error: {shown} argument given but {missing}.\n\n");
                assert_eq!(
                    ask(tool, name).unwrap_err().text,
                    format!("{sentence}{HINT}")
                );
                sentences.insert(sentence);
            }
        }
    }
    for sentence in [
        "Error: -A argument given but no address specified.\n\n",
        "Error: --protocol-version argument given but no version specified.\n\n",
        "Error: -M argument given but max_inflight not specified.\n\n",
        "Error: --proxy argument given but no proxy url specified.\n\n",
        "Error: --retain-handling argument given but no option specified.\n\n",
        "Error: --tls-keylog argument given but no file specified.\n\n",
        "Error: --will-payload argument given but no will payload specified.\n\n",
    ] {
        assert!(sentences.contains(sentence), "{sentence}");
    }
}

#[test]
fn help_and_version_end_the_reading() {
    assert!(matches!(
        ask(Publish, "-q 1 --help --wrong"),
        Ok(Request::Help)
    ));
    assert!(matches!(
        ask(Publish, "--version -q 9"),
        Ok(Request::Version)
    ));
    assert!(ask(Publish, "-q 9 --help").is_err());
}

#[test]
fn the_format_is_checked_where_it_stands() {
    let refuse = |_: &str| Err("Error: Incomplete format specifier.\n".to_owned());
    let environment = Environment {
        check_format: &refuse,
        ..environment()
    };
    let error = parse(Subscribe, "tool", &words("-F % -q 9"), &environment).unwrap_err();
    assert_eq!(
        error.text,
        format!("Error: Incomplete format specifier.\n{HINT}")
    );
}

#[test]
fn a_person_is_told_what_may_have_been_meant() {
    for (line, meant) in [
        ("--cafle", Some("--cafile")),
        ("--retian", Some("--retain")),
        ("--unknown", None),
        ("-Z", None),
        ("cafile", None),
    ] {
        let environment = Environment {
            errors_to_terminal: true,
            ..environment()
        };
        let error = parse(Publish, "tool", &words(line), &environment).unwrap_err();
        let meant = meant.map_or(String::new(), |name| format!("Did you mean '{name}'?\n"));
        assert_eq!(
            error.text,
            format!("Error: Unknown option '{line}'.\n{HINT}{meant}")
        );
    }
}

#[test]
fn files_are_read_before_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    fs::create_dir_all(home.join(".config")).unwrap();
    fs::write(
        home.join(".config/mosquitto_pub"),
        "# comment\n-t from home\r\n\n-q 2\n",
    )
    .unwrap();
    fs::write(directory.path().join("mosquitto_pub"), "-t xdg\n").unwrap();
    let named = directory.path().join("named");
    fs::write(&named, "-t named\n-o /elsewhere\n").unwrap();
    let with = |line: &str, config_home: bool| {
        let environment = Environment {
            config_home: config_home.then(|| directory.path().to_owned()),
            home: Some(home.clone()),
            ..environment()
        };
        match parse(Publish, "tool", &words(line), &environment) {
            Ok(Request::Run(options)) => (options.publish.topic.unwrap(), options.qos),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with("-n", false), ("from home".into(), QoS::ExactlyOnce));
    assert_eq!(with("-n -q 1", false).1, QoS::AtLeastOnce);
    assert_eq!(with("-n", true), ("xdg".into(), QoS::AtMostOnce));
    let line = format!("-n -o {}", named.display());
    assert_eq!(with(&line, true).0, "named");
    fs::write(&named, "-t a\n-d stray\n").unwrap();
    let error = ask(Publish, &line).unwrap_err();
    assert_eq!(
        error.text,
        format!("Error: Unknown option 'stray'.\n{HINT}")
    );
}

#[test]
fn passwords_do_not_show() {
    let options = publish("-u ann -P hunter2 --proxy socks5h://bob:hunter2@x -V 5");
    let shown = format!("{options:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("ann"),
        "{shown}"
    );
    // As bytes, too.
    assert!(!shown.contains("104, 117, 110"), "{shown}");
}

#[test]
fn the_usage_has_each_option_once() {
    for (tool, name) in [
        (Publish, "midge pub"),
        (Subscribe, "mosquitto_sub"),
        (Ask, "mosquitto_rr"),
    ] {
        let text = usage(tool, name);
        let first = format!("{name} version {}", env!("CARGO_PKG_VERSION"));
        assert!(text.starts_with(&first) && version(name).starts_with(&first));
        let mut names = HashSet::new();
        for entry in table::entries(tool) {
            for name in entry.names {
                assert!(names.insert(*name), "{name} twice");
            }
            let heads = text.lines().filter(|line| {
                let start = entry.names.join(", ");
                let line = line.trim_start();
                line == start || line.starts_with(&format!("{start} "))
            });
            assert_eq!(heads.count(), 1, "{:?}", entry.names);
        }
        for line in text.lines() {
            assert!(
                line.chars().count() <= 100 && line.trim_end() == line,
                "{line}"
            );
        }
    }
}
