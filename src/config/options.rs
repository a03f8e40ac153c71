//! Every option of `mosquitto.conf`, one row each: the parser, the checks, the error messages, the warnings and the
//! reference page are all read from this table.
//!
//! It knows names, kinds of value, defaults and what Midge does with each option. It does not know files, lines or
//! the typed settings that come of them.
//! 1. A name or alias belongs to one row; only the last characters of a prefix row's name are open (`plugin_opt_*`).
//! 2. A default that is not empty is a good value of its own row.
//! 3. A row that is refused has a default under which it asks for nothing, or none.

/// What an option is about, and so which line before it says whose setting it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole broker.
    Global,
    /// The last `listener` line of the same file.
    Listener,
    /// The whole broker, or the last `listener` with `per_listener_settings true`.
    Security,
    /// The last `connection` line of the same file.
    Bridge,
    /// The last plugin line of the same file.
    Plugin,
}

/// What Midge does with an option that it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has its effect.
    InForce,
    /// It is checked and has no effect yet: a warning says so.
    NoEffect,
    /// There is nothing in Midge that it could change: it is checked, and a notice says why it is of no use.
    NoMeaning,
    /// It has no effect, and to run without it would leave the broker more open than the operator asked: the broker
    /// refuses to start, and the text says what to do instead.
    Refused(&'static str),
    /// Nothing to have an effect on any more: accepted with a warning.
    Obsolete,
}

/// How an option given twice in one scope is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The last one counts.
    Last,
    /// The second one is an error.
    Once,
    /// Each one adds to those before.
    Each,
}

/// Which of Mosquitto's sentences answers a number out of range; users and their scripts know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeWording {
    /// `Error: Invalid 'X' value (V).`
    Value,
    /// `Error: Invalid 'X' value in configuration.`
    Plain,
    /// `Error: 'X' must be <= N.` or `>= N`
    Limit,
    /// `Error: 'X' must be between A and B inclusive.`
    Between,
}

/// The kind of value that an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false`, `1` or `0`.
    Flag,
    /// A whole number, decimal, hexadecimal (0x..) or octal (0..).
    Integer {
        /// The least that is accepted.
        min: i64,
        /// The greatest that is accepted.
        max: i64,
        /// How a number outside is answered.
        wording: RangeWording,
    },
    /// The rest of the line, of at most this many bytes.
    Text {
        /// The greatest length in bytes.
        bytes_max: usize,
    },
    /// The rest of the line, as the name of a file or directory.
    Path,
    /// The rest of the line, as the beginning of Topic Names: no wildcards.
    Topic,
    /// Versions of MQTT: some of 3, 4 and 5.
    Versions,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Several words or numbers; the text says which.
    Words(&'static str),
    /// A number and a unit: s, h, d, w, m (30 days) or y (365 days).
    Duration,
    /// A port, and an address or, after port 0, a path.
    Listener,
    /// Where log lines go: one of these words, and a path after `file`.
    LogDest(&'static [&'static str]),
    /// Anything at all, also nothing.
    Anything,
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The name; one that ends in `*` is a prefix, and the rest of the name is a key.
    pub name: &'static str,
    /// Other names of the same option.
    pub aliases: &'static [&'static str],
    /// Whose setting it is.
    pub scope: Scope,
    /// What it takes.
    pub kind: Kind,
    /// The default as the operator would write it; empty where there is none.
    pub default: &'static str,
    /// The unit of a number; empty where there is none.
    pub unit: &'static str,
    /// Whether SIGHUP brings a new value into force.
    pub reloadable: bool,
    /// What Midge does with it.
    pub standing: Standing,
    /// What the option given twice means.
    pub repeat: Repeat,
    /// Whether the option is an error before the first `listener`, instead of making the default listener.
    pub listener_first: bool,
    /// Whether Mosquitto does not have it.
    pub own: bool,
    /// What to use instead, where the option is deprecated.
    pub instead: Option<&'static str>,
    /// A value to show where there is no default; empty where there is one.
    pub example: &'static str,
    /// What it is, in a line: the end of a sentence.
    pub help: &'static str,
    /// What else there is to know: sentences, or nothing.
    pub details: &'static str,
}

impl Row {
    const fn new(
        name: &'static str,
        scope: Scope,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Row {
        let repeat = match kind {
            Kind::Text { .. } | Kind::Path | Kind::Topic => Repeat::Once,
            _ => Repeat::Last,
        };
        Row {
            name,
            aliases: &[],
            scope,
            kind,
            default,
            unit: "",
            reloadable: true,
            standing: Standing::NoEffect,
            repeat,
            listener_first: false,
            own: false,
            instead: None,
            example: "",
            help,
            details: "",
        }
    }

    const fn example(mut self, example: &'static str) -> Row {
        self.example = example;
        self
    }

    const fn details(mut self, details: &'static str) -> Row {
        self.details = details;
        self
    }

    const fn in_force(mut self) -> Row {
        self.standing = Standing::InForce;
        self
    }

    const fn no_meaning(mut self) -> Row {
        self.standing = Standing::NoMeaning;
        self
    }

    const fn refused(mut self, instead: &'static str) -> Row {
        self.standing = Standing::Refused(instead);
        self
    }

    const fn obsolete(mut self) -> Row {
        self.standing = Standing::Obsolete;
        self
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Row {
        self.aliases = aliases;
        self
    }

    const fn unit(mut self, unit: &'static str) -> Row {
        self.unit = unit;
        self
    }

    const fn at_start(mut self) -> Row {
        self.reloadable = false;
        self
    }

    const fn last(mut self) -> Row {
        self.repeat = Repeat::Last;
        self
    }

    const fn each(mut self) -> Row {
        self.repeat = Repeat::Each;
        self
    }

    const fn listener_first(mut self) -> Row {
        self.listener_first = true;
        self
    }

    const fn own(mut self) -> Row {
        self.own = true;
        self
    }

    const fn instead(mut self, instead: &'static str) -> Row {
        self.instead = Some(instead);
        self
    }

    /// The name that messages have for the option which was written as `name`.
    pub fn shown(&self, name: &str) -> String {
        let name = if self.prefix().is_some() {
            name
        } else {
            self.name
        };
        name.to_owned()
    }

    /// The fixed part of the name of a prefix row.
    fn prefix(&self) -> Option<&'static str> {
        self.name.strip_suffix('*')
    }
}

/// The row of `name`, which may be an alias or start with the prefix of a prefix row.
pub fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| {
        row.name == name
            || row.aliases.contains(&name)
            || row.prefix().is_some_and(|prefix| name.starts_with(prefix))
    })
}

/// The valid name that `name` was most likely meant to be.
///
/// `None` when no name is near enough to be worth telling.
pub fn nearest(name: &str) -> Option<&'static str> {
    // Longer than any name by more than the distance that we would suggest over; keeps the comparison small.
    if name.len() > 64 {
        return None;
    }
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    let near = 1 + wanted.len() / 4;
    TABLE
        .iter()
        .flat_map(|row| std::iter::once(&row.name).chain(row.aliases))
        .map(|candidate| {
            (
                distance(wanted.as_bytes(), candidate.as_bytes()),
                *candidate,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= near)
        .map(|(_, candidate)| candidate)
}

/// The number of insertions, deletions, replacements and swaps of neighbours that make `a` into `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

impl Kind {
    /// What the option takes, as the end of a sentence.
    pub fn expected(&self) -> String {
        match *self {
            Kind::Flag => "true or false".to_owned(),
            Kind::Integer { min, max, .. } => match (min, max) {
                (ANY_NEGATIVE, ANY_POSITIVE | i64::MAX) => "a whole number".to_owned(),
                (ANY_NEGATIVE, max) => format!("a whole number up to {max}"),
                (min, ANY_POSITIVE | i64::MAX) => format!("a whole number from {min}"),
                (min, max) => format!("a whole number from {min} to {max}"),
            },
            Kind::Text {
                bytes_max: VALUE_BYTES_MAX,
            } => "a text".to_owned(),
            Kind::Text { bytes_max } => format!("a text of up to {bytes_max} bytes"),
            Kind::Path => "a path".to_owned(),
            Kind::Topic => "a text without the wildcards + and #".to_owned(),
            Kind::Versions => "some of 3, 4 and 5, with commas or spaces between".to_owned(),
            Kind::Word(words) | Kind::LogDest(words) => format!("one of {}", words.join(", ")),
            Kind::Words(which) => which.to_owned(),
            Kind::Duration => {
                "a number above 0 followed by s, h, d, w, m (30 days) or y (365 days)".to_owned()
            }
            Kind::Listener => "a port from 1 to 65535, and if wanted the address to bind to; or 0 and the path of a \
                               Unix socket"
                .to_owned(),
            Kind::Anything => "anything".to_owned(),
        }
    }
}

/// The greatest length of a value in bytes, as of every MQTT string.
pub const VALUE_BYTES_MAX: usize = 65535;

// Mosquitto holds numbers in a C int, and takes a negative one as 'no limit' in several options.
const ANY_NEGATIVE: i64 = i32::MIN as i64;
const ANY_POSITIVE: i64 = i32::MAX as i64;

const FLAG: Kind = Kind::Flag;
const PATH: Kind = Kind::Path;
const TEXT: Kind = Kind::Text {
    bytes_max: VALUE_BYTES_MAX,
};
const ANY_INT: Kind = int(ANY_NEGATIVE, i64::MAX);

const fn int(min: i64, max: i64) -> Kind {
    Kind::Integer {
        min,
        max,
        wording: RangeWording::Value,
    }
}

const fn int_worded(min: i64, max: i64, wording: RangeWording) -> Kind {
    Kind::Integer { min, max, wording }
}

use RangeWording::{Between, Limit, Plain};
use Scope::{Bridge, Global, Listener, Plugin, Security};

const PSK_REFUSED: &str = "Midge has no TLS-PSK. Use 'certfile' and 'keyfile', and 'require_certificate true' with \
                           'cafile' where clients are to prove who they are.";
const ENGINE_REFUSED: &str =
    "Midge has no OpenSSL engines. Give the private key as a PEM file with 'keyfile'.";

/// A part of [`TABLE`] for those who read it from the beginning.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The name of its first row; it goes on to the next part's.
    pub first: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What is to be said of all of it: sentences, or nothing.
    pub text: &'static str,
}

/// The parts of [`TABLE`], in its order.
pub const PARTS: &[Part] = &[
    Part {
        first: "acl_file",
        title: "Who may connect, and what they may do",
        text: "",
    },
    Part {
        first: "max_inflight_messages",
        title: "Limits and sessions",
        text: "",
    },
    Part {
        first: "persistence",
        title: "Persistence",
        text: "Not built yet: sessions, queued messages and retained messages are lost when the broker ends. The options \
               are checked and have no effect, and a warning says so.",
    },
    Part {
        first: "log_dest",
        title: "Logging and the process",
        text: "",
    },
    Part {
        first: "listener",
        title: "Listeners",
        text: "Each line is about the listener above it. One that stands before any listener line is about a default \
               listener on port 1883, which it brings into being, and a warning says so.",
    },
    Part {
        first: "certfile",
        title: "TLS of listeners",
        text: "Each line is about the listener above it. Versions 1.2 and 1.3 are spoken.",
    },
    Part {
        first: "connection",
        title: "Bridges",
        text: "Not built yet: no bridge connects, and a warning says so. Each line is checked and has no effect; it is \
               about the connection above it.",
    },
];

/// Every option.
pub const TABLE: &[Row] = &[
    // Who may connect, and what they may do.
    Row::new("acl_file", Security, PATH, "", "file of rules: who may read and write which topics")
        .example("/etc/mosquitto/acl").last().in_force()
        .details("Without it every client may do everything. With it nothing is allowed but what a rule allows: \
                  'topic [read|write|readwrite|deny] FILTER' lines, for anonymous clients at first and below a 'user \
                  NAME' line for that user, and 'pattern' lines for everybody, in which %u is the user name and %c \
                  the client identifier. An empty file allows nothing, and one that cannot be read is an error."),
    Row::new("allow_anonymous", Security, FLAG, "", "whether a client may connect without a user name")
        .example("false").in_force()
        .details("Without a listener in the file the default is true, as only programs on this machine can connect \
                  then; with one it is false. Where there is a password_file, it does not matter to clients that \
                  give a user name."),
    Row::new("listener_allow_anonymous", Listener, FLAG, "", "allow_anonymous for this listener alone")
        .example("false").listener_first().in_force()
        .details("What is not said here follows allow_anonymous."),
    Row::new(
        "allow_zero_length_clientid",
        Security,
        FLAG,
        "true",
        "whether the broker makes up a client identifier for a client that sends none",
    )
    .in_force()
    .details("Applies to MQTT 3.1.1 and 5.0. A client of MQTT 3.1 always has to send one."),
    Row::new(
        "auto_id_prefix",
        Security,
        Kind::Text { bytes_max: 50 },
        "auto-",
        "what a client identifier made by the broker starts with",
    )
    .in_force()
    .details("The rest of such an identifier is random."),
    Row::new(
        "listener_auto_id_prefix",
        Listener,
        Kind::Text { bytes_max: 50 },
        "auto-",
        "auto_id_prefix for this listener alone",
    )
    .listener_first().in_force(),
    Row::new("clientid_prefixes", Global, TEXT, "", "only client identifiers that start so may connect")
        .example("secure-").in_force()
        .details("It is one prefix: the whole value, with its spaces. The broker's own identifiers, of \
                  auto_id_prefix, have to start so too where it makes any."),
    Row::new(
        "dynamic_security_file",
        Security,
        PATH,
        "",
        "file of clients, groups and roles that are changed while the broker runs",
    )
    .example("/var/lib/mosquitto/dynamic-security.json").own().in_force()
    .details("What Mosquitto's plugin mosquitto_dynamic_security.so does with plugin_opt_config_file, with the same \
              file; both turn it on. Where there is no file one is made, with a user 'admin' who may administer. \
              Clients in it need their passwords, and may do what their roles allow. With password_file, other names \
              are looked for there. Where there is an acl_file, it says what clients may do instead of the roles, all \
              but $CONTROL. Changes are made by 'mosquitto_ctrl dynsec', and saved before they are answered."),
    Row::new(
        "dynamic_security_password_file",
        Security,
        PATH,
        "",
        "file whose first line is the password that 'admin' gets in a new dynamic_security_file",
    )
    .example("/run/secrets/midge-admin").own().in_force()
    .details("As plugin_opt_password_init_file. Without it the password is that of the environment variable \
              MOSQUITTO_DYNSEC_PASSWORD, of 12 characters or more, else a random one in a file beside, whose name \
              ends in '.pw'."),
    Row::new("password_file", Security, PATH, "", "file of user names and password hashes")
        .example("/etc/mosquitto/passwd").last().in_force()
        .details("Make it with 'midge passwd', or use one that mosquitto_passwd made. Every user name that a client \
                  gives must be in it, with the right password; a file without users lets no name in. Without \
                  password_file nothing is checked, and a client with a user name is as good as one without: \
                  allow_anonymous decides."),
    Row::new(
        "per_listener_settings",
        Global,
        FLAG,
        "false",
        "whether security options belong to the listener above them instead of to the broker",
    )
    .in_force()
    .details("With true, acl_file, allow_anonymous, allow_zero_length_clientid, auto_id_prefix, password_file \
              and plugin are settings of the listener above them, and a listener without them has the defaults. \
              It must stand before all of them. listener_allow_anonymous and listener_auto_id_prefix are for one \
              listener without it."),
    Row::new("psk_file", Security, PATH, "", "file of TLS-PSK identities and keys")
        .example("/etc/mosquitto/psk").last().refused(PSK_REFUSED),
    Row::new("plugin", Security, PATH, "", "a plugin that authenticates, authorises or extends")
        .example("/usr/lib/mosquitto_acl_file.so").each().alias(&["auth_plugin"]).in_force()
        .details("No plugin is loaded, but of those that come with Mosquitto, some ask for what Midge does itself: \
                  mosquitto_password_file.so with plugin_opt_password_file is password_file, and \
                  mosquitto_acl_file.so with plugin_opt_acl_file is acl_file, and mosquitto_dynamic_security.so with \
                  plugin_opt_config_file is dynamic_security_file. mosquitto_persist_sqlite.so and \
                  mosquitto_sparkplug_aware.so are passed over with a warning. With any other plugin Midge does not \
                  start, since it might be what keeps people out."),
    Row::new("global_plugin", Global, PATH, "", "a plugin for all listeners, asked first")
        .example("/usr/lib/mosquitto_acl_file.so").each().in_force()
        .details("As plugin, but for all listeners also with per_listener_settings true."),
    Row::new("plugin_load", Global, Kind::Words("a name and a path"), "", "loads a plugin under a name")
        .example("rules /usr/lib/mosquitto_acl_file.so").each().in_force()
        .details("As plugin, but for those listeners alone that name it with plugin_use."),
    Row::new("plugin_use", Listener, TEXT, "", "uses a plugin that plugin_load named")
        .example("rules").each().listener_first().in_force(),
    Row::new("plugin_opt_*", Plugin, TEXT, "", "a setting of the plugin above")
        .example("/etc/mosquitto/acl").each().in_force()
        .details("The name of the setting stands after plugin_opt_."),
    Row::new("auth_opt_*", Plugin, TEXT, "", "old name of plugin_opt_*")
        .example("/etc/mosquitto/acl").each().in_force(),
    Row::new(
        "auth_plugin_deny_special_chars",
        Plugin,
        FLAG,
        "true",
        "whether user names and client identifiers with + or # are denied before the plugin is asked",
    )
    .at_start(),
    Row::new("enable_control_api", Global, FLAG, "false", "whether $CONTROL/broker/v1 is answered"),
    Row::new("user", Global, TEXT, "", "the user to become when started as root")
        .example("mosquitto").at_start().in_force()
        .details("Has an effect only when the broker is started by root: it takes this user's rights before it serves \
                  anybody. Without it that user is mosquitto or, where there is none, nobody. Files that are read \
                  again on SIGHUP must be readable to this user."),
    // Limits and sessions.
    Row::new(
        "max_inflight_messages",
        Global,
        int_worded(ANY_NEGATIVE, 65535, Limit),
        "20",
        "QoS 1 and 2 messages under way to one client at a time; 0 is no limit, 1 keeps strict order",
    )
    .unit("messages").in_force()
    .details("It is also the Receive Maximum that a client of MQTT 5.0 is told, which is how many it may have \
              under way to the broker."),
    Row::new(
        "max_inflight_bytes",
        Global,
        ANY_INT,
        "0",
        "payload of QoS 1 and 2 messages under way to one client at a time; 0 is no limit",
    )
    .unit("bytes").in_force()
    .details("A client with nothing under way is always sent one message, of whatever size."),
    Row::new(
        "max_queued_messages",
        Global,
        ANY_INT,
        "1000",
        "messages that wait for one client beyond those under way; 0 is no limit",
    )
    .unit("messages").in_force()
    .details("What does not fit is dropped, and told in the log. Messages of QoS 0 wait only as \
              queue_qos0_messages has it."),
    Row::new(
        "max_queued_bytes",
        Global,
        ANY_INT,
        "0",
        "payload that waits for one client beyond that under way; 0 is no limit",
    )
    .unit("bytes").in_force()
    .details("Where max_queued_messages is set too, the limit that is reached first counts."),
    Row::new(
        "queue_qos0_messages",
        Global,
        FLAG,
        "false",
        "whether QoS 0 messages wait for a client whose session goes on without it",
    )
    .in_force(),
    Row::new(
        "max_packet_size",
        Global,
        int_worded(20, i64::MAX, Limit),
        "2000000",
        "the largest packet that a client may send",
    )
    .unit("bytes").in_force()
    .details("A client that sends a larger one is disconnected before the rest of it is read. Clients of MQTT \
              5.0 are told the limit when they connect."),
    Row::new(
        "message_size_limit",
        Global,
        int(0, 268_435_455),
        "0",
        "the largest payload that is passed on; 0 is no limit",
    )
    .unit("bytes").in_force()
    .details("A larger message is acknowledged, so that its sender does not send it again, and dropped."),
    Row::new("memory_limit", Global, int(0, i64::MAX), "0", "the most memory to use; 0 is no limit")
        .unit("bytes").in_force()
        .details("Beyond it nobody gets in, and a client that brings a message or a subscription is disconnected. \
                  What frees memory goes on."),
    Row::new(
        "max_keepalive",
        Global,
        int(0, 65535),
        "0",
        "the longest Keep Alive that a client may ask for; 0 is any",
    )
    .unit("seconds").in_force()
    .details("A client of MQTT 5.0 that asks for more, or for none, is given this one; one of MQTT 3 is refused."),
    Row::new("global_max_clients", Global, ANY_INT, "-1", "clients with a session, connected or not; -1 is no limit")
        .unit("clients").in_force(),
    Row::new("global_max_connections", Global, ANY_INT, "-1", "connections over all listeners; -1 is no limit")
        .unit("connections").in_force(),
    Row::new(
        "persistent_client_expiration",
        Global,
        Kind::Duration,
        "",
        "how long a session outlives its connection at most; without it, for ever",
    )
    .example("14d").in_force()
    .details("Sessions of clients that are gone for good otherwise stay, with all that is queued for them. A \
              session of MQTT 5.0 ends earlier if its client said so."),
    Row::new(
        "allow_duplicate_messages",
        Global,
        FLAG,
        "true",
        "whether overlapping subscriptions may deliver a message more than once to a client",
    )
    .in_force()
    .details("With false, a client whose subscriptions overlap is sent each message once, at the highest QoS of \
              them. Mosquitto before 2.1 has false as the default."),
    Row::new(
        "upgrade_outgoing_qos",
        Global,
        FLAG,
        "false",
        "whether a message goes out at the QoS of the subscription even if it came in with less",
    )
    .in_force()
    .details("This is not what MQTT says; it is for clients that rely on it."),
    Row::new("retain_available", Global, FLAG, "true", "whether clients may publish retained messages").in_force()
        .details("With false, a client that publishes one is disconnected."),
    Row::new(
        "retain_expiry_interval",
        Global,
        int(1, 10_000_000),
        "",
        "how often retained messages are looked through for expired ones",
    )
    .example("5").unit("minutes").in_force()
    .details("An expired message is never sent to anybody, whether it has been looked for or not: this is about \
              memory."),
    Row::new(
        "check_retain_source",
        Global,
        FLAG,
        "true",
        "whether the publisher of a retained message must still have the right to it when it is sent",
    )
    .in_force()
    .details("With true, a retained message whose publisher's right was taken away is not sent to new \
              subscriptions."),
    Row::new("set_tcp_nodelay", Global, FLAG, "", "whether TCP_NODELAY is set; without it, the broker chooses")
        .example("true").in_force()
        .details("Without it, it is set: a packet is not held back for others to join it."),
    Row::new("cpu_affinity", Global, int(0, 1023), "", "the core that the broker's loop runs on, as '--cpu' says too")
        .example("0").own().in_force()
        .details("What may take long, such as comparing passwords, is done by other threads, which keep to the other \
                  cores. Together with 'busy_poll_us', give the loop a core that nothing else runs on."),
    Row::new("busy_poll_us", Global, int(0, 1_000_000), "0", "how long to look for packets before going to sleep")
        .unit("microseconds").own().in_force()
        .details("Being woken takes longer than passing a message on. A broker that looks again and again for so long \
                  after the last packet answers sooner, and keeps its core busy meanwhile. 0 sleeps at once."),
    Row::new("sys_interval", Global, int(0, 65535), "10", "how often $SYS is published; 0 is never")
        .unit("seconds").in_force()
        .details("These are the topics below $SYS/broker/ that tell of connections, messages and bytes."),
    Row::new(
        "packet_buffer_size",
        Global,
        int_worded(0, 65535, Between),
        "4096",
        "buffers have the size of what is in them",
    )
    .alias(&["websockets_headers_size"]).unit("bytes").no_meaning()
        .details("In Mosquitto it is the size of the first read of a connection."),
    Row::new("retry_interval", Global, Kind::Anything, "", "messages are sent again on a new connection only")
        .example("20").obsolete(),
    // Persistence.
    Row::new("persistence", Global, FLAG, "false", "whether sessions and messages survive a restart")
        .alias(&["retained_persistence"]).at_start().in_force()
        .details("With true, whatever the broker has acknowledged to a client survives its end, be it a crash or a \
                  power failure. Without it, what a client is sent while it is away is kept as long as the broker \
                  runs."),
    Row::new("persistence_file", Global, TEXT, "mosquitto.db", "what the database is called")
        .at_start().in_force()
        .details("Its extension is replaced by .midge. A file of exactly this name is Mosquitto's: it is read once, \
                  when there is no database yet, and left as it is."),
    Row::new("persistence_location", Global, PATH, "", "directory of the database")
        .example("/var/lib/mosquitto/").at_start().in_force()
        .details("Without it, the directory that the broker is started in. The environment variable \
                  MOSQUITTO_PERSISTENCE_LOCATION comes before it."),
    Row::new("persistence_sync", Global, Kind::Word(&["off", "normal", "full"]), "full", "what a commit means")
        .own().at_start().in_force()
        .details("full: it is on the disk, and no power failure takes it back. normal: a power failure may take the \
                  last seconds back; a crash of the broker takes nothing. off: a power failure may damage the \
                  database, too."),
    Row::new(
        "persistence_commit_interval",
        Global,
        int(0, 60_000),
        "0",
        "the time between two commits at least",
    )
    .unit("milliseconds").own().at_start().in_force()
    .details("What comes together is committed together. Flash memory lasts longer with a longer interval, and \
              acknowledgements wait for it. 0 commits at once."),
    Row::new(
        "autosave_interval",
        Global,
        ANY_INT,
        "1800",
        "what is acknowledged is on the disk already, with 'persistence true'",
    )
    .unit("seconds").no_meaning()
        .details("In Mosquitto it is how often everything is written."),
    Row::new(
        "autosave_on_changes",
        Global,
        FLAG,
        "false",
        "what is acknowledged is on the disk already, with 'persistence true'",
    )
    .no_meaning()
        .details("In Mosquitto, autosave_interval counts changes with it."),
    // Logging and process.
    Row::new(
        "log_dest",
        Global,
        Kind::LogDest(&["none", "stdout", "stderr", "syslog", "topic", "file", "dlt", "android"]),
        "stderr",
        "where log lines go; may be given several times",
    )
    .each().in_force()
    .details("stdout, stderr, syslog, topic for the topics below $SYS/broker/log/, or file and its path. The \
              first one that is given takes the place of the default, and each further one is added to it; none \
              takes all before it away. A log file is opened again on SIGHUP, so that it can be rotated. dlt and \
              android have no effect."),
    Row::new(
        "log_type",
        Global,
        Kind::Word(&[
            "debug", "error", "warning", "notice", "information", "subscribe", "unsubscribe", "internal", "websockets",
            "none", "all",
        ]),
        "",
        "which lines are logged; may be given several times; without it, error, warning, notice and information",
    )
    .example("error").each().in_force()
    .details("The first one that is given takes the place of the default, and each further one is added to it; \
              none takes all before it away. debug, subscribe and unsubscribe say much. There are no lines of \
              the types internal and websockets."),
    Row::new("log_facility", Global, int(0, 7), "", "the syslog facility, local0 to local7").example("5").in_force()
        .details("Without it the facility is daemon. It has an effect with 'log_dest syslog' only."),
    Row::new("log_timestamp", Global, FLAG, "true", "whether a log line starts with the time").in_force(),
    Row::new(
        "log_timestamp_format",
        Global,
        TEXT,
        "",
        "that time in local time, as strftime has it; without it, seconds since 1970",
    )
    .example("%Y-%m-%dT%H:%M:%S").in_force(),
    Row::new("connection_messages", Global, FLAG, "true", "whether connections and disconnections are logged")
        .in_force(),
    Row::new("pid_file", Global, PATH, "", "file that the process number is written to")
        .example("/run/mosquitto/mosquitto.pid").at_start().in_force()
        .details("It is removed when the broker ends."),
    Row::new("include_dir", Global, PATH, "", "directory whose *.conf files are read in here")
        .example("/etc/mosquitto/conf.d").each().in_force()
        .details("They are read in alphabetical order, upper case before lower case of the same letter. Each starts \
                  afresh: a line in it belongs to a listener or bridge of the same file. An included file can \
                  include none."),
    Row::new("websockets_log_level", Global, Kind::Anything, "", "log level of a library that is not used")
        .example("0").obsolete(),
    // Listeners.
    Row::new("listener", Listener, Kind::Listener, "", "a port to listen on, and the address to bind to")
        .example("1883").each().at_start().in_force()
        .details("What follows a listener line is about this listener, up to the next one. Without an address it \
                  listens on all of them; an address can be an IP address or a host name. As soon as there is a \
                  listener, allow_anonymous is false unless it is given. 'listener 0 PATH' listens on a Unix socket."),
    Row::new("port", Listener, int(1, 65535), "1883", "the port of the default listener")
        .at_start().instead("listener").in_force(),
    Row::new("bind_address", Listener, TEXT, "", "the address of the default listener")
        .example("127.0.0.1").at_start().instead("listener").in_force(),
    Row::new("bind_interface", Listener, TEXT, "", "the network interface to listen on alone")
        .example("eth0").at_start().in_force()
        .details("Only connections that come in over this interface are taken, whatever its address is."),
    Row::new("socket_domain", Listener, Kind::Word(&["ipv4", "ipv6"]), "", "the IP version to listen on alone")
        .example("ipv4").at_start().in_force()
        .details("Without it, both."),
    Row::new(
        "protocol",
        Listener,
        Kind::Word(&["mqtt", "websockets", "http_api"]),
        "mqtt",
        "what is spoken on this listener",
    )
    .at_start().in_force()
    .details("websockets and http_api are not built yet: such a listener is not opened, and a warning says so. A \
              file with no other listener is an error."),
    Row::new(
        "accept_protocol_versions",
        Listener,
        Kind::Versions,
        "3 4 5",
        "the MQTT versions that are accepted: 3 is 3.1, 4 is 3.1.1, 5 is 5.0",
    )
    .listener_first().in_force()
    .details("A client of another version is refused, and told so."),
    Row::new("mount_point", Listener, Kind::Topic, "", "what is put before every topic of this listener's clients")
        .example("house1/").listener_first().in_force()
        .details("Clients of this listener do not see it: it is put before what they publish and subscribe to and \
                  taken off what they are sent, so that they live below it. Mind the slash at its end."),
    Row::new("max_connections", Listener, ANY_INT, "-1", "connections to this listener; -1 is no limit")
        .unit("connections").in_force(),
    Row::new(
        "max_qos",
        Listener,
        int_worded(0, 2, Between),
        "2",
        "the highest QoS that clients of this listener may publish with",
    )
    .alias(&["maximum_qos"]).in_force()
    .details("A client of MQTT 5.0 is told so. One that publishes with a higher one all the same is disconnected."),
    Row::new(
        "max_topic_alias",
        Listener,
        int_worded(0, 65535, Plain),
        "10",
        "Topic Aliases that each client may use towards the broker",
    )
    .in_force()
    .details("A Topic Alias is a number in place of a topic that was sent before (MQTT 5.0). Each costs memory \
              for every client."),
    Row::new(
        "max_topic_alias_broker",
        Listener,
        int_worded(0, 65535, Plain),
        "10",
        "Topic Aliases that the broker uses towards each client at most",
    )
    .in_force()
    .details("A client allows what it can take; this is the limit beside it."),
    Row::new(
        "use_username_as_clientid",
        Listener,
        FLAG,
        "false",
        "whether the user name takes the place of the client identifier",
    )
    .in_force()
    .details("No two clients can then be connected with the same user name, and none can take over another's \
              session. A client without a user name is refused."),
    Row::new("http_dir", Listener, PATH, "", "directory of files that are served over HTTP")
        .example("/var/www").at_start(),
    Row::new("websockets_origin", Listener, TEXT, "", "an Origin that WebSocket clients may come from")
        .example("https://example.com").each(),
    Row::new(
        "enable_proxy_protocol",
        Listener,
        int(1, 2),
        "",
        "the version of the PROXY protocol that connections start with",
    )
    .example("2").at_start().in_force()
    .details("For a listener behind a proxy such as HAProxy: 1 is the text form, 2 the binary one. It tells the \
              address of the client, which the log has then. Nobody but the proxy may be able to connect to such \
              a listener, since whoever can may claim any address."),
    Row::new(
        "proxy_protocol_v2_require_tls",
        Listener,
        FLAG,
        "false",
        "whether a proxy must say that its client came over TLS",
    )
    .at_start().in_force()
    .details("For a proxy that ends TLS. It needs 'enable_proxy_protocol 2'."),
    // TLS of listeners.
    Row::new("certfile", Listener, PATH, "", "this listener's certificate chain; turns TLS on")
        .example("/etc/mosquitto/certs/server.crt").last().in_force()
        .details("In PEM: the server's own certificate first, then those that lead to the authority. It needs \
                  keyfile. The files are read again on SIGHUP, and connections go on; whether there is TLS at all is \
                  settled at the start."),
    Row::new("keyfile", Listener, PATH, "", "this listener's private key")
        .example("/etc/mosquitto/certs/server.key").last().in_force()
        .details("In PEM, without a passphrase: RSA of 2048 bits at least, ECDSA or Ed25519."),
    Row::new("cafile", Listener, PATH, "", "the authorities that client certificates are checked against")
        .example("/etc/mosquitto/certs/ca.crt").last().in_force()
        .details("In PEM, any number of them. It has an effect with 'require_certificate true'."),
    Row::new("capath", Listener, PATH, "", "directory of such authorities")
        .example("/etc/mosquitto/certs/ca").last().in_force()
        .details("Every certificate in it counts, whatever its file is called."),
    Row::new("crlfile", Listener, PATH, "", "revoked client certificates")
        .example("/etc/mosquitto/certs/ca.crl").last().in_force()
        .details("In PEM. It has an effect with 'require_certificate true'."),
    Row::new("require_certificate", Listener, FLAG, "false", "whether clients must show a certificate").in_force()
        .details("It must come from an authority of cafile or capath. Without it no client is asked for one."),
    Row::new(
        "use_identity_as_username",
        Listener,
        FLAG,
        "false",
        "whether the common name of the client's certificate is the user name",
    )
    .in_force()
    .details("With 'require_certificate true'. The client's own user name and password are not looked at, and \
              acl_file has the common name as the user. With 'enable_proxy_protocol 2' and without certfile, it \
              is the common name that the proxy tells."),
    Row::new(
        "use_subject_as_username",
        Listener,
        FLAG,
        "false",
        "whether the whole subject of the client's certificate is the user name",
    )
    .in_force()
    .details("As use_identity_as_username, but with the whole subject, as in CN=device 1,OU=devices,O=Example."),
    Row::new("ciphers", Listener, TEXT, "", "cipher suites up to TLS 1.2")
        .example("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256").last().in_force()
        .details("OpenSSL's names, with colons between. Suites that Midge does not have are left out."),
    Row::new("ciphers_tls1.3", Listener, TEXT, "", "cipher suites of TLS 1.3")
        .example("TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256").last().in_force()
        .details("With colons between."),
    Row::new(
        "tls_version",
        Listener,
        Kind::Word(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]),
        "",
        "the lowest TLS version that is accepted",
    )
    .example("tlsv1.2").in_force()
    .details("Without it, tlsv1.2. There is no TLS 1.1 in Midge: tlsv1.1 has the effect of tlsv1.2, and a \
              warning says so."),
    Row::new(
        "disable_client_cert_date_checks",
        Listener,
        FLAG,
        "false",
        "whether client certificates are taken outside their dates",
    )
    .in_force()
    .details("For devices whose certificates ran out and cannot be replaced. All else about them is checked."),
    Row::new(
        "dhparamfile",
        Listener,
        Kind::Anything,
        "",
        "the TLS library chooses the parameters of its key exchange itself",
    )
    .example("/etc/mosquitto/dhparam.pem").no_meaning(),
    Row::new("psk_hint", Listener, TEXT, "", "this listener's TLS-PSK hint; turns TLS-PSK on")
        .example("hint").last().at_start().refused(PSK_REFUSED),
    Row::new("tls_engine", Listener, TEXT, "", "an OpenSSL engine")
        .example("engine").at_start().refused(ENGINE_REFUSED),
    Row::new("tls_engine_kpass_sha1", Listener, TEXT, "", "SHA-1 of the engine's key password, in hexadecimal")
        .example("0123456789abcdef0123456789abcdef01234567").at_start().refused(ENGINE_REFUSED),
    Row::new("tls_keyform", Listener, Kind::Word(&["pem", "engine"]), "pem", "where the private key comes from")
        .at_start().refused(ENGINE_REFUSED),
    // Bridges.
    Row::new("connection", Bridge, TEXT, "", "starts a bridge of this name").example("cloud").each()
        .details("What follows is about this bridge, up to the next one."),
    Row::new("address", Bridge, Kind::Words("one or more host[:port]"), "", "the brokers to connect to")
        .example("mqtt.example.com:8883").alias(&["addresses"]),
    Row::new(
        "topic",
        Bridge,
        Kind::Words("a pattern, and then a direction, a QoS, a local and a remote prefix"),
        "",
        "topics that pass over the bridge",
    )
    .example("sensors/# out 1").each(),
    Row::new("remote_clientid", Bridge, TEXT, "", "the client identifier over there")
        .example("gateway-1").alias(&["clientid"]),
    Row::new("remote_username", Bridge, TEXT, "", "the user name over there").example("gateway").alias(&["username"]),
    Row::new("remote_password", Bridge, TEXT, "", "the password over there").example("secret").alias(&["password"]),
    Row::new("local_clientid", Bridge, TEXT, "", "the client identifier here").example("local.gateway-1"),
    Row::new("local_username", Bridge, TEXT, "", "the user name here").example("bridge"),
    Row::new("local_password", Bridge, TEXT, "", "the password here").example("secret"),
    Row::new("cleansession", Bridge, FLAG, "false", "whether the session over there ends with the connection"),
    Row::new("local_cleansession", Bridge, FLAG, "", "whether the session here ends with the connection")
        .example("false")
        .details("Without it, as cleansession."),
    Row::new("keepalive_interval", Bridge, ANY_INT, "60", "Keep Alive of the connection, 5 at least").unit("seconds"),
    Row::new("idle_timeout", Bridge, ANY_INT, "60", "when a lazy bridge disconnects").unit("seconds"),
    Row::new("threshold", Bridge, ANY_INT, "10", "when a lazy bridge connects").unit("messages"),
    Row::new(
        "start_type",
        Bridge,
        Kind::Word(&["automatic", "lazy", "once"]),
        "automatic",
        "when the bridge connects",
    ),
    Row::new(
        "restart_timeout",
        Bridge,
        Kind::Words("up to three numbers of seconds: the base, the greatest, and when it is stable"),
        "5 30",
        "how long to wait before connecting again",
    ),
    Row::new("round_robin", Bridge, FLAG, "false", "whether the next address is taken, not the first again"),
    Row::new("try_private", Bridge, FLAG, "true", "whether to tell the other broker that this is a bridge"),
    Row::new("notifications", Bridge, FLAG, "true", "whether the state of the bridge is published"),
    Row::new("notifications_local_only", Bridge, FLAG, "false", "whether it is published only here"),
    Row::new("notification_topic", Bridge, TEXT, "", "the topic of that state")
        .example("$SYS/broker/connection/gateway-1/state"),
    Row::new(
        "bridge_attempt_unsubscribe",
        Bridge,
        FLAG,
        "true",
        "whether to unsubscribe from topics that are no longer in the configuration",
    ),
    Row::new("bridge_bind_address", Bridge, TEXT, "", "the local address to connect from").example("192.0.2.1"),
    Row::new("bridge_max_packet_size", Bridge, ANY_INT, "0", "the largest packet to send or take").unit("bytes"),
    Row::new("bridge_max_topic_alias", Bridge, int(0, 65535), "10", "Topic Aliases to use"),
    Row::new("bridge_outgoing_retain", Bridge, FLAG, "true", "whether messages keep their retain flag over there"),
    Row::new(
        "bridge_protocol_version",
        Bridge,
        Kind::Word(&["mqttv31", "mqttv311", "mqttv50"]),
        "mqttv311",
        "the MQTT version to speak",
    ),
    Row::new("bridge_receive_maximum", Bridge, int(1, 65535), "", "messages under way at a time")
        .example("20").unit("messages"),
    Row::new(
        "bridge_reload_type",
        Bridge,
        Kind::Word(&["lazy", "immediate"]),
        "lazy",
        "when a changed configuration is taken",
    ),
    Row::new(
        "bridge_session_expiry_interval",
        Bridge,
        int(0, u32::MAX as i64),
        "0",
        "how long the session over there is kept",
    )
    .unit("seconds"),
    Row::new(
        "bridge_tcp_keepalive",
        Bridge,
        Kind::Words("three numbers: idle seconds, interval seconds, count"),
        "",
        "TCP keep-alive of the connection",
    )
    .example("60 10 5"),
    Row::new("bridge_tcp_user_timeout", Bridge, int(0, ANY_POSITIVE), "", "TCP_USER_TIMEOUT")
        .example("30000").unit("milliseconds"),
    Row::new("bridge_cafile", Bridge, PATH, "", "the authorities to trust; turns TLS on")
        .example("/etc/ssl/certs/ca-certificates.crt"),
    Row::new("bridge_capath", Bridge, PATH, "", "directory of such authorities").example("/etc/ssl/certs"),
    Row::new("bridge_tls_use_os_certs", Bridge, FLAG, "false", "whether to trust the system's authorities"),
    Row::new("bridge_certfile", Bridge, PATH, "", "the certificate to show")
        .example("/etc/mosquitto/certs/client.crt"),
    Row::new("bridge_keyfile", Bridge, PATH, "", "its private key").example("/etc/mosquitto/certs/client.key"),
    Row::new("bridge_alpn", Bridge, TEXT, "", "the application protocol to ask for in TLS").example("mqtt"),
    Row::new("bridge_insecure", Bridge, FLAG, "false", "whether to skip checking the name of the other broker"),
    Row::new("bridge_require_ocsp", Bridge, FLAG, "false", "whether the certificate must be stapled as not revoked"),
    Row::new("bridge_identity", Bridge, TEXT, "", "the TLS-PSK identity").example("gateway-1"),
    Row::new("bridge_psk", Bridge, TEXT, "", "the TLS-PSK key, in hexadecimal").example("0123456789abcdef"),
    Row::new(
        "bridge_tls_version",
        Bridge,
        Kind::Word(&["tlsv1.3", "tlsv1.2", "tlsv1.1"]),
        "",
        "the lowest TLS version to accept",
    )
    .example("tlsv1.2"),
    Row::new("bridge_ciphers", Bridge, TEXT, "", "cipher suites up to TLS 1.2")
        .example("ECDHE-RSA-AES128-GCM-SHA256"),
    Row::new("bridge_ciphers_tls1.3", Bridge, TEXT, "", "cipher suites of TLS 1.3").example("TLS_AES_128_GCM_SHA256"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_one_row() {
        let mut names: Vec<&str> = TABLE
            .iter()
            .flat_map(|row| std::iter::once(&row.name).chain(row.aliases))
            .copied()
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            let row = find(name).expect("a name of the table");
            assert!(row.name == name || row.aliases.contains(&name), "{name}");
        }
    }

    #[test]
    fn every_row_says_what_it_is() {
        for row in TABLE {
            assert!(
                !row.help.is_empty() && !row.help.contains('\n'),
                "{}",
                row.name
            );
            assert!(!row.kind.expected().is_empty(), "{}", row.name);
            let shows_one = row.default.is_empty() != row.example.is_empty();
            assert!(shows_one, "{}: a default or an example", row.name);
            let is_prose = row.details.is_empty() || row.details.ends_with('.');
            assert!(is_prose && !row.details.contains('\n'), "{}", row.name);
        }
    }

    #[test]
    fn parts_follow_the_table() {
        let firsts: Vec<usize> = PARTS
            .iter()
            .map(|part| {
                let row = TABLE.iter().position(|row| row.name == part.first);
                row.expect("a part begins with a row")
            })
            .collect();
        assert!(firsts.is_sorted() && firsts[0] == 0);
    }

    #[test]
    fn names_find_their_row() {
        for (name, row) in [
            ("max_qos", "max_qos"),
            ("maximum_qos", "max_qos"),
            ("plugin_opt_db_host", "plugin_opt_*"),
            ("auth_opt_x", "auth_opt_*"),
            ("auth_plugin", "plugin"),
            ("addresses", "address"),
        ] {
            assert_eq!(find(name).map(|row| row.name), Some(row), "{name}");
        }
        for name in [
            "",
            "#",
            "Max_qos",
            "max_qos ",
            "plugin_op",
            "allow_anonymous\ttrue",
        ] {
            assert!(find(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        for (name, nearest_name) in [
            ("alow_anonymous", Some("allow_anonymous")),
            ("allow_anonymuos", Some("allow_anonymous")),
            ("Allow-Anonymous", Some("allow_anonymous")),
            ("listner", Some("listener")),
            ("prot", Some("port")),
            ("max_inflight_message", Some("max_inflight_messages")),
            ("pasword_file", Some("password_file")),
            ("ports", Some("port")),
            ("logtype", Some("log_type")),
            ("#", None),
            ("wibble", None),
            ("", None),
        ] {
            assert_eq!(nearest(name), nearest_name, "{name}");
        }
        assert_eq!(nearest(&"a".repeat(70_000)), None);
    }

    #[test]
    fn distances() {
        for (a, b, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "abd", 1),
            ("abc", "xabc", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), count, "{a} {b}");
        }
    }
}
