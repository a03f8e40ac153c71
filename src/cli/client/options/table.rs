//! The table of all options: names, which tools take them, what they do, and a line of help.
//!
//! The parser and the usage are both made of it, so neither knows an option that the other does not.
//! 1. A name stands once for each tool.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::draft::{Draft, Failure, PORT, PORT_TLS};
use super::{Payload, Tool, number, url};
use crate::mqtt::{ProtocolVersion, QoS, RetainHandling, primitive, topic};

/// The largest payload that Mosquitto sends.
const PAYLOAD_BYTES_MAX: usize = 268_435_455;

const PUB: u8 = 1;
const SUB: u8 = 2;
const RR: u8 = 4;
const ALL: u8 = PUB | SUB | RR;

/// What options are about: the parts of the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Connection,
    Session,
    Message,
    Subscription,
    Output,
    Tls,
    Will,
    Properties,
    General,
}

/// What an option does.
pub(super) enum Action {
    /// It stands alone.
    Flag(fn(&mut Draft<'_>)),
    /// It stands alone, and says where the payload comes from.
    Payload(Payload),
    /// The next argument is its value.
    Value {
        metavar: &'static str,
        /// What Mosquitto says if no argument is left.
        missing: &'static str,
        /// What is wrong whatever the value is.
        excludes: fn(&Draft<'_>) -> Option<&'static str>,
        set: fn(&mut Draft<'_>, &OsStr) -> Result<(), Failure>,
    },
    /// `-D`, which takes three arguments or four.
    Property,
    /// `-o`, which is looked at before all others.
    OptionFile,
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// One option.
pub(super) struct Entry {
    pub names: &'static [&'static str],
    tools: u8,
    pub group: Group,
    pub help: &'static str,
    pub action: Action,
}

impl Entry {
    /// The name in sentences about it.
    pub(super) fn name(&self) -> &'static str {
        match self.names {
            ["-V", long] => long,
            names => names[0],
        }
    }
}

/// The options of a tool.
pub(super) fn entries(tool: Tool) -> impl Iterator<Item = &'static Entry> {
    let bit = match tool {
        Tool::Publish => PUB,
        Tool::Subscribe => SUB,
        Tool::Request => RR,
    };
    ENTRIES.iter().filter(move |entry| entry.tools & bit != 0)
}

const ENTRIES: &[Entry] = &[
    Entry {
        names: &["-h", "--host"],
        tools: ALL,
        group: Group::Connection,
        help: "The broker, by name or address; localhost unless given",
        action: Action::Value {
            metavar: "HOST",
            missing: "no host specified",
            excludes: none,
            set: |draft, value| {
                draft.host = Some(value.to_owned());
                Ok(())
            },
        },
    },
    Entry {
        names: &["-p", "--port"],
        tools: ALL,
        group: Group::Connection,
        help: "The port; 1883, or 8883 with --cafile or --capath",
        action: Action::Value {
            metavar: "PORT",
            missing: "no port specified",
            excludes: none,
            set: |draft, value| set_port(draft, value),
        },
    },
    Entry {
        names: &["-L", "--url"],
        tools: ALL,
        group: Group::Connection,
        help: "User, password, host, port and topic at once: mqtt[s]:// or ws[s]://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC",
        action: Action::Value {
            metavar: "URL",
            missing: "no URL specified",
            excludes: none,
            set: |draft, value| set_url(draft, value),
        },
    },
    Entry {
        names: &["--unix"],
        tools: ALL,
        group: Group::Connection,
        help: "Connect to the Unix socket at this path",
        action: Action::Value {
            metavar: "PATH",
            missing: "no socket path specified",
            excludes: none,
            set: |draft, value| {
                draft.host = Some(value.to_owned());
                draft.port = Some(0);
                Ok(())
            },
        },
    },
    Entry {
        names: &["--ws"],
        tools: ALL,
        group: Group::Connection,
        help: "Speak MQTT inside WebSocket",
        action: Action::Flag(|draft| draft.websocket = true),
    },
    Entry {
        names: &["-S"],
        tools: ALL,
        group: Group::Connection,
        help: "Ask DNS for the SRV records of the host, which is a domain then",
        action: Action::Flag(|draft| draft.service = true),
    },
    Entry {
        names: &["-A"],
        tools: ALL,
        group: Group::Connection,
        help: "The local address to connect from",
        action: Action::Value {
            metavar: "ADDRESS",
            missing: "no address specified",
            excludes: none,
            set: |draft, value| {
                draft.bind_address = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--proxy"],
        tools: ALL,
        group: Group::Connection,
        help: "Go through a SOCKS5 proxy: socks5h://[USER[:PASSWORD]@]HOST[:PORT]",
        action: Action::Value {
            metavar: "URL",
            missing: "no proxy url specified",
            excludes: none,
            set: |draft, value| set_proxy(draft, value),
        },
    },
    Entry {
        names: &["--nodelay"],
        tools: ALL,
        group: Group::Connection,
        help: "Send small packets at once (TCP_NODELAY)",
        action: Action::Flag(|draft| draft.nodelay = true),
    },
    Entry {
        names: &["-u", "--username"],
        tools: ALL,
        group: Group::Session,
        help: "The user name",
        action: Action::Value {
            metavar: "NAME",
            missing: "no username specified",
            excludes: none,
            set: |draft, value| {
                draft.user_name = Some(bytes(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["-P", "--pw"],
        tools: ALL,
        group: Group::Session,
        help: "The password; everybody on this machine can see it, an option file hides it",
        action: Action::Value {
            metavar: "PASSWORD",
            missing: "no password specified",
            excludes: none,
            set: |draft, value| {
                draft.password = Some(bytes(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["-i", "--id"],
        tools: ALL,
        group: Group::Session,
        help: "The client id; one is made up unless given",
        action: Action::Value {
            metavar: "ID",
            missing: "no id specified",
            excludes: id_after_prefix,
            set: |draft, value| {
                draft.id = Some(bytes(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["-I", "--id-prefix"],
        tools: ALL,
        group: Group::Session,
        help: "A client id of this and the process id",
        action: Action::Value {
            metavar: "PREFIX",
            missing: "no id prefix specified",
            excludes: prefix_after_id,
            set: |draft, value| {
                draft.id_prefix = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["-V", "--protocol-version"],
        tools: ALL,
        group: Group::Session,
        help: "The version of MQTT: 5, 311 or 31, also as mqttv5 and so on",
        action: Action::Value {
            metavar: "VERSION",
            missing: "no version specified",
            excludes: none,
            set: |draft, value| set_version(draft, value),
        },
    },
    Entry {
        names: &["-c", "--disable-clean-session"],
        tools: ALL,
        group: Group::Session,
        help: "Keep the session when the connection ends; needs -i",
        action: Action::Flag(|draft| draft.clean_start = false),
    },
    Entry {
        names: &["-x"],
        tools: ALL,
        group: Group::Session,
        help: "Keep the session for so long after the end; -1 or ∞ for ever. Chooses MQTT 5",
        action: Action::Value {
            metavar: "SECONDS",
            missing: "no session expiry interval specified",
            excludes: none,
            set: |draft, value| set_session_expiry(draft, value),
        },
    },
    Entry {
        names: &["-k", "--keepalive"],
        tools: ALL,
        group: Group::Session,
        help: "Show a sign of life this often, 5 to 65535; 60 unless given",
        action: Action::Value {
            metavar: "SECONDS",
            missing: "no keepalive specified",
            excludes: none,
            set: |draft, value| set_keep_alive(draft, value),
        },
    },
    Entry {
        names: &["-M"],
        tools: ALL,
        group: Group::Session,
        help: "Messages of QoS 1 and 2 on their way at a time; 20 unless given",
        action: Action::Value {
            metavar: "COUNT",
            missing: "max_inflight not specified",
            excludes: none,
            set: |draft, value| set_max_inflight(draft, value),
        },
    },
    Entry {
        names: &["-t", "--topic"],
        tools: PUB,
        group: Group::Message,
        help: "The topic to send to",
        action: Action::Value {
            metavar: "TOPIC",
            missing: "no topic specified",
            excludes: none,
            set: |draft, value| set_topic(draft, value, "-t"),
        },
    },
    Entry {
        names: &["-t", "--topic"],
        tools: SUB,
        group: Group::Message,
        help: "A topic filter to subscribe to; can be repeated",
        action: Action::Value {
            metavar: "FILTER",
            missing: "no topic specified",
            excludes: none,
            set: |draft, value| set_topic(draft, value, "-t"),
        },
    },
    Entry {
        names: &["-t", "--topic"],
        tools: RR,
        group: Group::Message,
        help: "The topic that the request goes to",
        action: Action::Value {
            metavar: "TOPIC",
            missing: "no topic specified",
            excludes: none,
            set: |draft, value| set_topic(draft, value, "-t"),
        },
    },
    Entry {
        names: &["-e"],
        tools: RR,
        group: Group::Message,
        help: "The topic that the response comes on",
        action: Action::Value {
            metavar: "TOPIC",
            missing: "no response topic specified",
            excludes: none,
            set: |draft, value| set_response_topic(draft, value),
        },
    },
    Entry {
        names: &["-q", "--qos"],
        tools: ALL,
        group: Group::Message,
        help: "The QoS: 0, 1 or 2; 0 unless given",
        action: Action::Value {
            metavar: "QOS",
            missing: "no QoS specified",
            excludes: none,
            set: |draft, value| set_qos(draft, value),
        },
    },
    Entry {
        names: &["-m", "--message"],
        tools: PUB | RR,
        group: Group::Message,
        help: "Send this text",
        action: Action::Value {
            metavar: "TEXT",
            missing: "no message specified",
            excludes: second_payload,
            set: |draft, value| set_message(draft, value),
        },
    },
    Entry {
        names: &["-f", "--file"],
        tools: PUB | RR,
        group: Group::Message,
        help: "Send what this file holds",
        action: Action::Value {
            metavar: "FILE",
            missing: "no file specified",
            excludes: second_payload,
            set: |draft, value| {
                draft.set_payload(Payload::File(path(value)));
                Ok(())
            },
        },
    },
    Entry {
        names: &["-s", "--stdin-file"],
        tools: PUB | RR,
        group: Group::Message,
        help: "Send all of standard input as one message",
        action: Action::Payload(Payload::Input),
    },
    Entry {
        names: &["-l", "--stdin-line"],
        tools: PUB,
        group: Group::Message,
        help: "Send each line of standard input as a message",
        action: Action::Payload(Payload::Lines),
    },
    Entry {
        names: &["-n", "--null-message"],
        tools: PUB | RR,
        group: Group::Message,
        help: "Send an empty message",
        action: Action::Payload(Payload::Null),
    },
    Entry {
        names: &["-r", "--retain"],
        tools: PUB,
        group: Group::Message,
        help: "Ask the broker to retain the message",
        action: Action::Flag(|draft| draft.publish.retain = true),
    },
    Entry {
        names: &["--repeat"],
        tools: PUB,
        group: Group::Message,
        help: "Send the message so many times",
        action: Action::Value {
            metavar: "COUNT",
            missing: "no count specified",
            excludes: none,
            set: |draft, value| set_repeat(draft, value),
        },
    },
    Entry {
        names: &["--repeat-delay"],
        tools: PUB,
        group: Group::Message,
        help: "Wait so long before each repetition; fractions are allowed",
        action: Action::Value {
            metavar: "SECONDS",
            missing: "no time specified",
            excludes: none,
            set: |draft, value| set_repeat_delay(draft, value),
        },
    },
    Entry {
        names: &["-U", "--unsubscribe"],
        tools: SUB,
        group: Group::Subscription,
        help: "A topic filter to unsubscribe from; can be repeated",
        action: Action::Value {
            metavar: "FILTER",
            missing: "no unsubscribe topic specified",
            excludes: none,
            set: |draft, value| set_unsubscribe(draft, value),
        },
    },
    Entry {
        names: &["-T", "--filter-out"],
        tools: SUB,
        group: Group::Subscription,
        help: "Do not show messages that match; can be repeated",
        action: Action::Value {
            metavar: "FILTER",
            missing: "no topic filter specified",
            excludes: none,
            set: |draft, value| set_filter_out(draft, value),
        },
    },
    Entry {
        names: &["-R"],
        tools: SUB | RR,
        group: Group::Subscription,
        help: "Neither ask for retained messages nor show them",
        action: Action::Flag(|draft| {
            draft.subscribe.ignores_retained = true;
            draft.subscribe.retain_handling = RetainHandling::DoNotSend;
        }),
    },
    Entry {
        names: &["--retained-only"],
        tools: SUB,
        group: Group::Subscription,
        help: "Show retained messages only; end when another one arrives",
        action: Action::Flag(|draft| draft.subscribe.retained_only = true),
    },
    Entry {
        names: &["--remove-retained"],
        tools: SUB,
        group: Group::Subscription,
        help: "Remove each retained message that is shown from the broker",
        action: Action::Flag(|draft| draft.subscribe.removes_retained = true),
    },
    Entry {
        names: &["--retain-as-published"],
        tools: SUB | RR,
        group: Group::Subscription,
        help: "Let messages keep the retain flag that they were sent with (MQTT 5)",
        action: Action::Flag(|draft| draft.subscribe.retain_as_published = true),
    },
    Entry {
        names: &["--retain-handling"],
        tools: SUB | RR,
        group: Group::Subscription,
        help: "When retained messages are wanted: always, new (only for a new subscription) or never (MQTT 5)",
        action: Action::Value {
            metavar: "WHEN",
            missing: "no option specified",
            excludes: none,
            set: |draft, value| set_retain_handling(draft, value),
        },
    },
    Entry {
        names: &["-C"],
        tools: SUB,
        group: Group::Subscription,
        help: "End after so many messages",
        action: Action::Value {
            metavar: "COUNT",
            missing: "no count specified",
            excludes: none,
            set: |draft, value| set_count(draft, value),
        },
    },
    Entry {
        names: &["-E"],
        tools: SUB,
        group: Group::Subscription,
        help: "End when the broker has confirmed the subscriptions",
        action: Action::Flag(|draft| draft.subscribe.exits_after_suback = true),
    },
    Entry {
        names: &["-W"],
        tools: SUB | RR,
        group: Group::Subscription,
        help: "End after so long, with exit code 27",
        action: Action::Value {
            metavar: "SECONDS",
            missing: "no timeout specified",
            excludes: none,
            set: |draft, value| set_timeout(draft, value),
        },
    },
    Entry {
        names: &["-v", "--verbose"],
        tools: SUB | RR,
        group: Group::Output,
        help: "Show the topic before each message",
        action: Action::Flag(|draft| draft.subscribe.verbose = true),
    },
    Entry {
        names: &["-F"],
        tools: SUB | RR,
        group: Group::Output,
        help: "How a message is shown, such as \"%I %t %p\" or %j for JSON",
        action: Action::Value {
            metavar: "FORMAT",
            missing: "no format specified",
            excludes: none,
            set: |draft, value| set_format(draft, value),
        },
    },
    Entry {
        names: &["-N"],
        tools: SUB | RR,
        group: Group::Output,
        help: "No line end after a message",
        action: Action::Flag(|draft| draft.subscribe.newline = false),
    },
    Entry {
        names: &["--pretty"],
        tools: SUB | RR,
        group: Group::Output,
        help: "JSON over several lines",
        action: Action::Flag(|draft| draft.subscribe.pretty = true),
    },
    Entry {
        names: &["-w", "--watch"],
        tools: SUB,
        group: Group::Output,
        help: "Keep one line on the screen for each topic, with its last message",
        action: Action::Flag(|draft| draft.subscribe.watch = true),
    },
    Entry {
        names: &["--random-filter"],
        tools: SUB,
        group: Group::Output,
        help: "Show a message with this chance only, 0.1 to 100",
        action: Action::Value {
            metavar: "PERCENT",
            missing: "no chance specified",
            excludes: none,
            set: |draft, value| set_random_filter(draft, value),
        },
    },
    Entry {
        names: &["--message-rate"],
        tools: SUB,
        group: Group::Output,
        help: "Show each second how many messages arrived, not the messages",
        action: Action::Flag(|draft| draft.subscribe.message_rate = true),
    },
    Entry {
        names: &["--latency"],
        tools: RR,
        group: Group::Output,
        help: "Show how long the response took",
        action: Action::Flag(|draft| {
            draft.subscribe.latency = true;
            draft.nodelay = true;
        }),
    },
    Entry {
        names: &["-d", "--debug"],
        tools: ALL,
        group: Group::Output,
        help: "Show each packet that is sent or received",
        action: Action::Flag(|draft| draft.debug = true),
    },
    Entry {
        names: &["--quiet"],
        tools: ALL,
        group: Group::Output,
        help: "Do not show errors; the exit code still tells",
        action: Action::Flag(|draft| draft.quiet = true),
    },
    Entry {
        names: &["--cafile"],
        tools: ALL,
        group: Group::Tls,
        help: "The authorities to trust, in PEM; turns TLS on",
        action: Action::Value {
            metavar: "FILE",
            missing: "no file specified",
            excludes: none,
            set: |draft, value| {
                draft.cafile = Some(path(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--capath"],
        tools: ALL,
        group: Group::Tls,
        help: "A directory of such files; turns TLS on",
        action: Action::Value {
            metavar: "DIR",
            missing: "no directory specified",
            excludes: none,
            set: |draft, value| {
                draft.capath = Some(path(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--tls-use-os-certs"],
        tools: ALL,
        group: Group::Tls,
        help: "Trust the authorities of this system; turns TLS on, as -p 8883 does",
        action: Action::Flag(|draft| draft.trusts_system = true),
    },
    Entry {
        names: &["--no-tls"],
        tools: ALL,
        group: Group::Tls,
        help: "No TLS, whatever else is said",
        action: Action::Flag(|draft| draft.no_tls = true),
    },
    Entry {
        names: &["--cert"],
        tools: ALL,
        group: Group::Tls,
        help: "Our own certificate, in PEM",
        action: Action::Value {
            metavar: "FILE",
            missing: "no file specified",
            excludes: none,
            set: |draft, value| {
                draft.certfile = Some(path(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--key"],
        tools: ALL,
        group: Group::Tls,
        help: "Its private key, in PEM",
        action: Action::Value {
            metavar: "FILE",
            missing: "no file specified",
            excludes: none,
            set: |draft, value| {
                draft.keyfile = Some(path(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--keyform"],
        tools: ALL,
        group: Group::Tls,
        help: "The form of the private key: pem, the only one there is",
        action: Action::Value {
            metavar: "FORM",
            missing: "no keyform specified",
            excludes: none,
            set: |draft, value| {
                draft.keyform = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--insecure"],
        tools: ALL,
        group: Group::Tls,
        help: "Do not compare the name in the certificate; anybody may answer then",
        action: Action::Flag(|draft| draft.insecure = true),
    },
    Entry {
        names: &["--tls-version"],
        tools: ALL,
        group: Group::Tls,
        help: "Only this version: tlsv1.3 or tlsv1.2",
        action: Action::Value {
            metavar: "VERSION",
            missing: "no version specified",
            excludes: none,
            set: |draft, value| {
                draft.tls_version = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--ciphers"],
        tools: ALL,
        group: Group::Tls,
        help: "The cipher suites of TLS 1.2 to offer, by their names in OpenSSL",
        action: Action::Value {
            metavar: "LIST",
            missing: "no ciphers specified",
            excludes: none,
            set: |draft, value| {
                draft.ciphers = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--tls-alpn"],
        tools: ALL,
        group: Group::Tls,
        help: "The application protocol to ask for (ALPN)",
        action: Action::Value {
            metavar: "PROTOCOL",
            missing: "no protocol specified",
            excludes: none,
            set: |draft, value| {
                draft.alpn = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--tls-keylog"],
        tools: ALL,
        group: Group::Tls,
        help: "Write the secrets of the connection here, to read captured packets",
        action: Action::Value {
            metavar: "FILE",
            missing: "no file specified",
            excludes: none,
            set: |draft, value| {
                draft.keylog = Some(path(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--tls-engine"],
        tools: ALL,
        group: Group::Tls,
        help: "Not supported: the private key must be a file",
        action: Action::Value {
            metavar: "ENGINE",
            missing: "no engine_id specified",
            excludes: none,
            set: |draft, value| {
                draft.engine = Some(text(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--tls-engine-kpass-sha1"],
        tools: ALL,
        group: Group::Tls,
        help: "Not supported, like --tls-engine",
        action: Action::Value {
            metavar: "SHA1",
            missing: "no kpass sha1 specified",
            excludes: none,
            set: |draft, _| {
                draft.engine_password = true;
                Ok(())
            },
        },
    },
    Entry {
        names: &["--psk"],
        tools: ALL,
        group: Group::Tls,
        help: "Not supported: use certificates",
        action: Action::Value {
            metavar: "KEY",
            missing: "no key specified",
            excludes: none,
            set: |draft, _| {
                draft.psk = true;
                Ok(())
            },
        },
    },
    Entry {
        names: &["--psk-identity"],
        tools: ALL,
        group: Group::Tls,
        help: "Not supported, like --psk",
        action: Action::Value {
            metavar: "IDENTITY",
            missing: "no identity specified",
            excludes: none,
            set: |draft, _| {
                draft.psk_identity = true;
                Ok(())
            },
        },
    },
    Entry {
        names: &["--will-topic"],
        tools: ALL,
        group: Group::Will,
        help: "What the broker sends if we vanish goes to this topic",
        action: Action::Value {
            metavar: "TOPIC",
            missing: "no will topic specified",
            excludes: none,
            set: |draft, value| set_will_topic(draft, value),
        },
    },
    Entry {
        names: &["--will-payload"],
        tools: ALL,
        group: Group::Will,
        help: "What it says; nothing unless given",
        action: Action::Value {
            metavar: "TEXT",
            missing: "no will payload specified",
            excludes: none,
            set: |draft, value| {
                draft.will_payload = Some(bytes(value));
                Ok(())
            },
        },
    },
    Entry {
        names: &["--will-qos"],
        tools: ALL,
        group: Group::Will,
        help: "Its QoS: 0, 1 or 2; 0 unless given",
        action: Action::Value {
            metavar: "QOS",
            missing: "no will QoS specified",
            excludes: none,
            set: |draft, value| set_will_qos(draft, value),
        },
    },
    Entry {
        names: &["--will-retain"],
        tools: ALL,
        group: Group::Will,
        help: "The broker retains it",
        action: Action::Flag(|draft| draft.will_retain = true),
    },
    Entry {
        names: &["-D", "--property"],
        tools: ALL,
        group: Group::Properties,
        help: "Put a property into the packets of COMMAND: connect, publish, subscribe, unsubscribe, \
               disconnect or will. Chooses MQTT 5; user-property takes a key and a value",
        action: Action::Property,
    },
    Entry {
        names: &["-o"],
        tools: ALL,
        group: Group::General,
        help: "Read options from this file, one a line, before the command line; else from \
               mosquitto_pub, _sub or _rr in $XDG_CONFIG_HOME or ~/.config",
        action: Action::OptionFile,
    },
    Entry {
        names: &["--help"],
        tools: ALL,
        group: Group::General,
        help: "Show this",
        action: Action::Help,
    },
    Entry {
        names: &["--version"],
        tools: ALL,
        group: Group::General,
        help: "Show the version",
        action: Action::Version,
    },
];

type Done = Result<(), Failure>;

fn fail(text: impl Into<String>) -> Done {
    Err(Failure::new(text))
}

fn text(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

fn bytes(value: &OsStr) -> Vec<u8> {
    value.as_bytes().to_vec()
}

fn path(value: &OsStr) -> PathBuf {
    value.into()
}

fn none(_: &Draft<'_>) -> Option<&'static str> {
    None
}

fn id_after_prefix(draft: &Draft<'_>) -> Option<&'static str> {
    let both = "Error: -i and -I argument cannot be used together.\n\n";
    draft.id_prefix.is_some().then_some(both)
}

fn prefix_after_id(draft: &Draft<'_>) -> Option<&'static str> {
    let both = "Error: -i and -I argument cannot be used together.\n\n";
    draft.id.is_some().then_some(both)
}

/// What is wrong with one more place for the payload.
pub(super) fn second_payload(draft: &Draft<'_>) -> Option<&'static str> {
    let one = "Error: Only one type of message can be sent at once.\n\n";
    draft.publish.payload.is_some().then_some(one)
}

fn set_port(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let port = number::int(&text(value));
    if !(0..=0xFFFF).contains(&port) {
        return fail(format!("Error: Invalid port given: {port}\n"));
    }
    draft.port = Some(port);
    Ok(())
}

fn set_url(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let parts = url::broker(value.as_bytes()).map_err(Failure::new)?;
    set_topic(draft, OsStr::from_bytes(parts.topic), "-L topic")?;
    draft.trusts_system |= parts.tls;
    draft.websocket |= parts.websocket;
    let default = if parts.tls { PORT_TLS } else { PORT };
    draft.port = Some(parts.port.unwrap_or(default));
    draft.host = Some(OsStr::from_bytes(parts.host).to_owned());
    if let Some(user_name) = parts.user_name {
        draft.user_name = Some(user_name.to_vec());
    }
    if let Some(password) = parts.password {
        draft.password = Some(password.to_vec());
    }
    Ok(())
}

fn set_proxy(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let proxy = url::proxy(&text(value));
    draft.proxy = Some(proxy.map_err(|error| Failure::new(error).silenced())?);
    Ok(())
}

fn set_version(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    draft.version = match &text(value)[..] {
        "mqttv31" | "31" => ProtocolVersion::V31,
        "mqttv311" | "311" => ProtocolVersion::V311,
        "mqttv5" | "5" => ProtocolVersion::V5,
        _ => return fail("Error: Invalid protocol version argument given.\n\n"),
    };
    Ok(())
}

fn set_session_expiry(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let value = text(value);
    let interval = match number::whole(&value) {
        _ if value == "∞" => u32::MAX,
        None => return fail("Error: session-expiry-interval not a number.\n\n"),
        Some(-1) => u32::MAX,
        Some(interval) => match u32::try_from(interval) {
            Ok(interval) => interval,
            Err(_) => return fail("Error: session-expiry-interval out of range.\n\n"),
        },
    };
    draft.session_expiry = Some(interval);
    draft.version = ProtocolVersion::V5;
    Ok(())
}

fn set_keep_alive(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    match number::int(&text(value)) {
        seconds @ 5..=0xFFFF => draft.keep_alive = seconds as u16,
        _ => {
            return fail(
                "Error: Invalid keepalive given, it must be between 5 and 65535 inclusive.\n\n",
            );
        }
    }
    Ok(())
}

fn set_max_inflight(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let count = number::int(&text(value));
    if count < 1 {
        return fail("Error: Maximum inflight messages must be greater than 0.\n\n");
    }
    // There are no more Packet Identifiers than that.
    draft.max_inflight = u16::try_from(count).unwrap_or(u16::MAX);
    Ok(())
}

fn utf8<'a>(value: &'a OsStr, option: &str) -> Result<&'a str, Failure> {
    let value = value.as_bytes();
    match primitive::utf8(value) {
        // One more than a topic may have, as in Mosquitto: the check of topics finds it.
        Ok(value) if value.len() <= 0x1_0000 => Ok(value),
        _ => Err(Failure::new(format!(
            "Error: Malformed UTF-8 in {option} argument.\n\n"
        ))),
    }
}

fn name(value: &OsStr, option: &str, kind: &str) -> Result<String, Failure> {
    let value = utf8(value, option)?;
    if value.len() > usize::from(u16::MAX) || topic::name(value.as_bytes()).is_err() {
        return Err(Failure::new(format!(
            "Error: Invalid {kind} topic '{value}', does it contain '+' or '#'?\n"
        )));
    }
    Ok(value.to_owned())
}

fn filter(value: &OsStr, option: &str, kind: &str) -> Result<String, Failure> {
    let value = utf8(value, option)?;
    if value.len() > usize::from(u16::MAX) || topic::check_filter(value).is_err() {
        return Err(Failure::new(format!(
            "Error: Invalid {kind} topic '{value}', are all '+' and '#' wildcards correct?\n"
        )));
    }
    Ok(value.to_owned())
}

fn set_topic(draft: &mut Draft<'_>, value: &OsStr, option: &str) -> Done {
    match draft.tool {
        Tool::Publish | Tool::Request => {
            draft.publish.topic = Some(name(value, option, "publish")?);
        }
        Tool::Subscribe => {
            let filter = filter(value, option, "subscription")?;
            draft.subscribe.filters.push(filter);
        }
    }
    Ok(())
}

fn set_response_topic(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    draft.subscribe.response_topic = Some(name(value, "-e", "response")?);
    Ok(())
}

fn set_will_topic(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    draft.will_topic = Some(name(value, "--will-topic", "will")?);
    Ok(())
}

fn set_unsubscribe(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let filter = filter(value, "-U", "unsubscribe")?;
    draft.subscribe.unsubscribes.push(filter);
    Ok(())
}

fn set_filter_out(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let filter = filter(value, "-T", "filter")?;
    draft.subscribe.filter_outs.push(filter);
    Ok(())
}

/// The QoS that a number names.
fn qos(value: i32) -> Option<QoS> {
    u8::try_from(value)
        .ok()
        .filter(|&qos| qos <= 2)
        .and_then(QoS::from_bits)
}

fn set_qos(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let value = number::int(&text(value));
    let Some(qos) = qos(value) else {
        return fail(format!("Error: Invalid QoS given: {value}\n"));
    };
    draft.qos = qos;
    Ok(())
}

fn set_will_qos(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let value = number::int(&text(value));
    let Some(qos) = qos(value) else {
        return fail(format!("Error: Invalid will QoS {value}.\n\n"));
    };
    draft.will_qos = qos;
    Ok(())
}

fn set_message(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    if value.len() > PAYLOAD_BYTES_MAX {
        return fail(format!(
            "Error: Message length must be less than {PAYLOAD_BYTES_MAX} bytes.\n\n"
        ));
    }
    draft.set_payload(Payload::Message(bytes(value)));
    Ok(())
}

fn set_repeat(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    match u64::try_from(number::int(&text(value))) {
        Ok(count @ 1..) => draft.publish.repeat = count,
        _ => return fail("Error: --repeat argument must be >0.\n\n"),
    }
    Ok(())
}

fn set_repeat_delay(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let seconds = number::fraction(&text(value));
    if seconds < 0.0 {
        return fail("Error: --repeat-delay argument must be >=0.0.\n\n");
    }
    // A conversion that is too large gives the largest number.
    draft.publish.repeat_delay = Duration::from_micros((seconds * 1.0e6) as u64);
    Ok(())
}

fn set_retain_handling(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let value = text(value);
    draft.subscribe.retain_handling = match &value[..] {
        "always" => RetainHandling::Send,
        "new" => RetainHandling::SendIfNew,
        "never" => RetainHandling::DoNotSend,
        _ => {
            return fail(format!(
                "Error: Unknown value '{value}' for --retain-handling.\n\n"
            ));
        }
    };
    Ok(())
}

fn set_count(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let value = number::int(&text(value));
    match u64::try_from(value) {
        Ok(count @ 1..) => draft.subscribe.count = Some(count),
        _ => return fail(format!("Error: Invalid message count \"{value}\".\n\n")),
    }
    Ok(())
}

fn set_timeout(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let value = number::int(&text(value));
    match u64::try_from(value) {
        Ok(seconds @ 1..) => draft.subscribe.timeout = Some(Duration::from_secs(seconds)),
        _ => return fail(format!("Error: Invalid timeout \"{value}\".\n\n")),
    }
    Ok(())
}

fn set_format(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    let format = text(value);
    (draft.environment.check_format)(&format).map_err(Failure::new)?;
    draft.subscribe.format = Some(format);
    Ok(())
}

fn set_random_filter(draft: &mut Draft<'_>, value: &OsStr) -> Done {
    // Mosquitto counts in tenths of a per cent and lets 1000 % pass, although it says otherwise.
    match (10.0 * number::fraction(&text(value))) as i32 {
        tenths @ 1..=10_000 => draft.subscribe.random_filter = (tenths * 10).min(10_000) as u16,
        _ => return fail("Error: --random-filter chance must be between 0.1-100.0\n\n"),
    }
    Ok(())
}
