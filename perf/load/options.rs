//! The command line of the load generator.

use std::time::Duration;

use midge::mqtt::{ProtocolVersion, QoS};

use crate::publisher::STAMP_BYTES;

/// Which clients talk to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// So many publishers, each with one subscriber on a topic of its own.
    Pairs(u32),
    /// One publisher, so many subscribers to its topic.
    FanOut(u32),
    /// So many publishers with one subscriber.
    FanIn(u32),
    /// So many subscriptions with a wildcard each; every message has one of them to go to.
    Wildcards(u32),
    /// So many retained messages, delivered to one subscriber to `#`.
    Retained(u32),
    /// So many messages queued for one client that is away, then delivered to it.
    Queued(u32),
    /// So many connections that come and go.
    Connect(u32),
    /// So many connections that stay and say nothing.
    Idle(u32),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Broker's port on 127.0.0.1.
    pub port: u16,
    /// Who talks to whom.
    pub shape: Shape,
    /// QoS of messages and subscriptions.
    pub qos: QoS,
    /// Messages outstanding per publisher.
    pub window: u32,
    /// Length of a payload.
    pub payload_bytes: usize,
    /// Messages to be published by all together, after the warm-up.
    pub messages: u64,
    /// Version of all clients.
    pub version: ProtocolVersion,
    /// Whether messages have properties.
    pub has_properties: bool,
    /// Whether messages have a Topic Alias.
    pub has_alias: bool,
    /// Whether every message has a topic of its own.
    pub has_unique_topics: bool,
    /// Whether sessions outlive their connections.
    pub is_durable: bool,
    /// Clients that share the subscriptions, or the publishing to them.
    pub clients: u32,
    /// Connections under way at once.
    pub at_once: u32,
    /// Whether each silent connection has a subscription.
    pub idle_subscribe: bool,
    /// How long silent connections are held.
    pub hold: Duration,
    /// Messages a second published by all together, instead of as fast as the windows allow.
    pub rate: Option<f64>,
    /// Whether a generator at a rate polls without sleeping.
    pub is_spinning: bool,
    /// The window of a pair that publishes as fast as it can beside; 0 for none.
    pub flood_window: u32,
    /// Authorities of the broker's certificate.
    pub tls: Option<String>,
    /// Whether TLS sessions are resumed.
    pub resume: bool,
    /// User Name and Password.
    pub credentials: Option<(String, String)>,
    /// Process to measure.
    pub broker_pid: Option<u32>,
}

fn table() -> getopts::Options {
    let mut table = getopts::Options::new();
    table
        .optopt("p", "port", "the broker's port on 127.0.0.1 (1883)", "PORT")
        .optopt("", "pairs", "N publishers with one subscriber each", "N")
        .optopt("", "fan-out", "one publisher, N subscribers", "N")
        .optopt("", "fan-in", "N publishers, one subscriber", "N")
        .optopt(
            "",
            "wildcards",
            "N subscriptions, a message for each in turn",
            "N",
        )
        .optopt(
            "",
            "retained",
            "N retained messages, a subscriber to #",
            "N",
        )
        .optopt("", "queued", "N messages for a client that is away", "N")
        .optopt("", "connect", "N connections up to their CONNACK", "N")
        .optopt("", "idle", "N silent connections", "N")
        .optopt("q", "qos", "of publishing and subscribing (0)", "0|1|2")
        .optopt(
            "w",
            "window",
            "messages under way for each publisher (1)",
            "W",
        )
        .optopt(
            "s",
            "payload",
            "bytes of payload, at least 16 (64)",
            "BYTES",
        )
        .optopt(
            "m",
            "messages",
            "to publish altogether, after a tenth as warm-up (100000)",
            "M",
        )
        .optopt("", "version", "4 is MQTT 3.1.1, 5 is 5.0 (4)", "4|5")
        .optflag(
            "",
            "properties",
            "user property, content type, expiry; MQTT 5.0",
        )
        .optflag("", "alias", "topic aliases; MQTT 5.0")
        .optflag("", "unique-topics", "a topic for each message")
        .optflag("", "durable", "sessions that outlive their connections")
        .optopt("", "clients", "that share --wildcards (100)", "N")
        .optopt(
            "",
            "at-once",
            "connections under way for --connect (1)",
            "N",
        )
        .optflag("", "subscribe", "a subscription for each of --idle")
        .optopt("", "hold", "seconds to hold --idle (5)", "S")
        .optopt("", "rate", "publish R messages a second, all together", "R")
        .optflag("", "spin", "with --rate: poll without sleeping")
        .optopt(
            "",
            "flood",
            "beside: a pair as fast as it can, W under way",
            "W",
        )
        .optopt(
            "",
            "tls",
            "TLS to localhost, whose authority is in this file",
            "CAFILE",
        )
        .optflag("", "resume", "let TLS sessions be resumed")
        .optopt("u", "user", "user name", "NAME")
        .optopt("P", "password", "password", "TEXT")
        .optopt(
            "",
            "broker-pid",
            "the process whose CPU time and memory are told",
            "PID",
        )
        .optflag("h", "help", "print this");
    table
}

/// What `--help` prints.
pub fn usage() -> String {
    table().usage("Usage: load --pairs N [options]\n\nOne scenario of MQTT clients, in one thread.")
}

/// Reads the command line; `None` asks for help.
///
/// # Errors
/// A sentence for the person who typed it.
pub fn parse(arguments: &[String]) -> Result<Option<Options>, String> {
    let given = table()
        .parse(arguments)
        .map_err(|error| error.to_string())?;
    if given.opt_present("help") {
        return Ok(None);
    }
    if let Some(word) = given.free.first() {
        return Err(format!("{word}: no arguments are taken, only options"));
    }
    let has_properties = given.opt_present("properties");
    let has_alias = given.opt_present("alias");
    let needs_v5 = has_properties || has_alias;
    let hold: f64 = number(&given, "hold", 5.0)?;
    let user = given.opt_str("user");
    let options = Options {
        port: number(&given, "port", 1883)?,
        shape: shape(&given)?,
        qos: QoS::from_bits(number(&given, "qos", 0)?).ok_or("QoS is 0, 1 or 2")?,
        window: number(&given, "window", 0)?,
        payload_bytes: number(&given, "payload", 64)?,
        messages: number(&given, "messages", 100_000)?,
        version: match number(&given, "version", if needs_v5 { 5u8 } else { 4 })? {
            4 if !needs_v5 => ProtocolVersion::V311,
            5 => ProtocolVersion::V5,
            _ => return Err("--version is 4 or 5; properties and aliases need 5".into()),
        },
        has_properties,
        has_alias,
        has_unique_topics: given.opt_present("unique-topics"),
        is_durable: given.opt_present("durable"),
        clients: number(&given, "clients", 100u32)?.max(1),
        at_once: number(&given, "at-once", 1u32)?.clamp(1, 1000),
        idle_subscribe: given.opt_present("subscribe"),
        hold: Duration::try_from_secs_f64(hold).map_err(|error| format!("--hold: {error}"))?,
        rate: match given.opt_present("rate") {
            true => Some(number(&given, "rate", 0.0)?),
            false => None,
        },
        is_spinning: given.opt_present("spin"),
        flood_window: number(&given, "flood", 0)?,
        tls: given.opt_str("tls"),
        resume: given.opt_present("resume"),
        credentials: user.map(|user| (user, given.opt_str("password").unwrap_or_default())),
        broker_pid: match given.opt_present("broker-pid") {
            true => Some(number(&given, "broker-pid", 0)?),
            false => None,
        },
    };
    check(options).map(Some)
}

fn check(mut options: Options) -> Result<Options, String> {
    if let Some(rate) = options.rate
        && !(rate.is_finite() && rate > 0.0)
    {
        return Err("--rate is above 0".into());
    }
    if options.window == 0 {
        // At a rate the window only bounds what a broker that cannot keep up owes.
        options.window = if options.rate.is_some() { 1024 } else { 1 };
    }
    // A Packet Identifier must be free again before its turn comes round.
    if options.window.max(options.flood_window) > 16_384 {
        return Err("--window and --flood are 16384 at most".into());
    }
    if !(STAMP_BYTES..=1 << 24).contains(&options.payload_bytes) {
        return Err(format!("--payload is {STAMP_BYTES} to 16777216"));
    }
    if options.has_alias && options.has_unique_topics {
        return Err("--alias stands for one topic, not for --unique-topics".into());
    }
    if options.flood_window > 0 && options.rate.is_none() {
        return Err("--flood disturbs a load at a --rate".into());
    }
    if !(1..=2_000_000_000).contains(&options.messages) {
        return Err("--messages is 1 to 2000000000".into());
    }
    Ok(options)
}

fn shape(given: &getopts::Matches) -> Result<Shape, String> {
    type Make = fn(u32) -> Shape;
    let table: [(&str, Make); 8] = [
        ("pairs", Shape::Pairs),
        ("fan-out", Shape::FanOut),
        ("fan-in", Shape::FanIn),
        ("wildcards", Shape::Wildcards),
        ("retained", Shape::Retained),
        ("queued", Shape::Queued),
        ("connect", Shape::Connect),
        ("idle", Shape::Idle),
    ];
    let names = table.map(|(name, _)| format!("--{name}")).join(", ");
    let mut chosen = None;
    for (name, make) in table {
        if !given.opt_present(name) {
            continue;
        }
        let count: u32 = number(given, name, 0)?;
        if !(1..=10_000_000).contains(&count) {
            return Err(format!("--{name} is 1 to 10000000"));
        }
        if chosen.replace(make(count)).is_some() {
            return Err(format!("only one of {names}"));
        }
    }
    chosen.ok_or(format!("one of {names} is needed"))
}

fn number<T: std::str::FromStr>(
    given: &getopts::Matches,
    name: &str,
    default: T,
) -> Result<T, String> {
    match given.opt_str(name) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("--{name}: {text} is not a number that fits")),
        None => Ok(default),
    }
}
