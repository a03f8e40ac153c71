//! The command line of the load generator.

use std::time::Duration;

use midge::mqtt::{ProtocolVersion, QoS};

/// Bytes of every payload that the generator needs: publisher, sequence number, time stamp.
pub const PAYLOAD_BYTES_MIN: usize = 16;

/// Which clients talk to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// So many publishers, each with one subscriber on a topic of its own.
    Pairs(u32),
    /// One publisher, so many subscribers to its topic.
    FanOut(u32),
    /// So many publishers to one topic with one subscriber.
    FanIn(u32),
    /// So many retained messages, delivered to one subscriber to `load/retained/#`.
    Retained(u32),
    /// So many messages queued for one client that is away, then delivered to it.
    Queued(u32),
    /// So many connections that come, get their CONNACK and go.
    Connect(u32),
    /// Nobody talks.
    Idle,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Broker's address.
    pub host: String,
    /// Broker's port.
    pub port: u16,
    /// Who talks to whom.
    pub scenario: Scenario,
    /// Connections that stay silent meanwhile.
    pub idle: u32,
    /// Whether each of these has a subscription.
    pub idle_subscribe: bool,
    /// QoS of messages and subscriptions.
    pub qos: QoS,
    /// Version of all clients.
    pub version: ProtocolVersion,
    /// Messages outstanding per publisher.
    pub window: u32,
    /// Length of a payload.
    pub payload_bytes: usize,
    /// Messages published at most, by all together.
    pub messages: u64,
    /// Time of sending at most, warm-up included.
    pub duration: Duration,
    /// Time before figures are taken.
    pub warm_up: Duration,
    /// Messages a second published by all together, instead of as fast as the windows allow.
    pub rate: Option<f64>,
    /// Whether one more pair sends as fast as it can beside those that are measured.
    pub firehose: bool,
    /// Filters with a wildcard in all, shared out among the subscribers, instead of one topic each.
    pub filters: Option<u32>,
    /// Whether each message has a topic that never comes again.
    pub fresh_topics: bool,
    /// Whether topics are sent by alias.
    pub by_alias: bool,
    /// Whether messages have properties.
    pub properties: bool,
    /// The authorities to trust, where TLS is spoken.
    pub tls: Option<String>,
    /// Whether TLS sessions are resumed.
    pub resume: bool,
    /// User Name and Password.
    pub user: Option<(String, String)>,
    /// Process to measure.
    pub broker_pid: Option<u32>,
    /// File for the report.
    pub json: Option<String>,
}

fn table() -> getopts::Options {
    let mut table = getopts::Options::new();
    table
        .optopt("", "host", "broker's address (127.0.0.1)", "ADDRESS")
        .optopt("p", "port", "broker's port (1883)", "PORT")
        .optopt("", "pairs", "N publishers, each with one subscriber", "N")
        .optopt("", "fan-out", "one publisher, N subscribers", "N")
        .optopt("", "fan-in", "N publishers, one subscriber", "N")
        .optopt("", "retained", "N retained messages, one subscriber", "N")
        .optopt("", "queued", "N messages for a client that is away", "N")
        .optopt(
            "",
            "connect",
            "N connections that come and go, 64 at a time",
            "N",
        )
        .optopt("", "idle", "N silent connections, alone or beside", "N")
        .optflag("", "idle-subscribe", "each with one subscription")
        .optopt("q", "qos", "0, 1 or 2 (0)", "QOS")
        .optopt("", "version", "4 is MQTT 3.1.1, 5 is 5.0 (4)", "4|5")
        .optopt("w", "window", "messages outstanding per publisher (1)", "W")
        .optopt("", "payload", "length of a payload (64)", "BYTES")
        .optopt("", "messages", "stop after M messages (no limit)", "M")
        .optopt("", "seconds", "stop after S seconds (5)", "S")
        .optopt("", "warm-up", "take no figures for S seconds (0)", "S")
        .optopt("", "rate", "publish R messages a second, all together", "R")
        .optflag(
            "",
            "firehose",
            "one more pair beside these, as fast as it can",
        )
        .optopt(
            "",
            "filters",
            "N filters with wildcards, shared out among the pairs",
            "N",
        )
        .optflag("", "fresh-topics", "no topic comes twice")
        .optflag("", "by-alias", "topics by alias; needs --version 5")
        .optflag(
            "",
            "properties",
            "messages with properties; needs --version 5",
        )
        .optopt(
            "",
            "tls",
            "TLS to localhost, with the authorities in FILE",
            "FILE",
        )
        .optflag("", "resume", "let TLS sessions be resumed")
        .optopt(
            "",
            "user",
            "user name and password of all clients",
            "NAME:PASSWORD",
        )
        .optopt("", "broker-pid", "process to measure", "PID")
        .optopt("", "json", "write the report to FILE as JSON", "FILE")
        .optflag("h", "help", "print this");
    table
}

/// What `--help` prints.
pub fn usage() -> String {
    table().usage("Usage: load [options]\n\nOne scenario of MQTT clients, in one thread.")
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
    let seconds = |name, default: f64| -> Result<Duration, String> {
        let seconds = number(&given, name, default)?;
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("--{name}: {error}"))
    };
    let idle = number(&given, "idle", 0)?;
    let rate = match given.opt_present("rate") {
        true => Some(number(&given, "rate", 0.0)?),
        false => None,
    };
    let options = Options {
        host: given.opt_str("host").unwrap_or("127.0.0.1".into()),
        port: number(&given, "port", 1883)?,
        scenario: scenario(&given, idle)?,
        idle,
        idle_subscribe: given.opt_present("idle-subscribe"),
        qos: match number(&given, "qos", 0u8)? {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return Err("--qos is 0, 1 or 2".into()),
        },
        version: match number(&given, "version", 4u8)? {
            4 => ProtocolVersion::V311,
            5 => ProtocolVersion::V5,
            _ => return Err("--version is 4 or 5".into()),
        },
        // At a fixed rate the window must not be what limits; it only bounds what a broker that cannot keep up owes.
        window: number(&given, "window", if rate.is_some() { 1024 } else { 1 })?,
        payload_bytes: number(&given, "payload", 64)?,
        messages: number(&given, "messages", u64::MAX)?,
        duration: seconds("seconds", 5.0)?,
        warm_up: seconds("warm-up", 0.0)?,
        rate,
        firehose: given.opt_present("firehose"),
        filters: match given.opt_present("filters") {
            true => Some(number(&given, "filters", 0)?),
            false => None,
        },
        fresh_topics: given.opt_present("fresh-topics"),
        by_alias: given.opt_present("by-alias"),
        properties: given.opt_present("properties"),
        tls: given.opt_str("tls"),
        resume: given.opt_present("resume"),
        user: match given.opt_str("user") {
            Some(text) => {
                let (name, password) = text.split_once(':').ok_or("--user is NAME:PASSWORD")?;
                Some((name.to_owned(), password.to_owned()))
            }
            None => None,
        },
        broker_pid: match given.opt_present("broker-pid") {
            true => Some(number(&given, "broker-pid", 0)?),
            false => None,
        },
        json: given.opt_str("json"),
    };
    if !options.version.is_v5() && (options.by_alias || options.properties) {
        return Err("--by-alias and --properties need --version 5".into());
    }
    // A packet identifier must be free again before its turn comes round.
    if !(1..=32_768).contains(&options.window) {
        return Err("--window is 1 to 32768".into());
    }
    if options.payload_bytes < PAYLOAD_BYTES_MIN {
        return Err(format!("--payload is at least {PAYLOAD_BYTES_MIN}"));
    }
    if options
        .rate
        .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
    {
        return Err("--rate is above 0".into());
    }
    Ok(Some(options))
}

fn scenario(given: &getopts::Matches, idle: u32) -> Result<Scenario, String> {
    type Make = fn(u32) -> Scenario;
    let table: [(&str, Make); 6] = [
        ("connect", Scenario::Connect),
        ("pairs", Scenario::Pairs),
        ("fan-out", Scenario::FanOut),
        ("fan-in", Scenario::FanIn),
        ("retained", Scenario::Retained),
        ("queued", Scenario::Queued),
    ];
    let mut chosen = None;
    for (name, make) in table {
        if !given.opt_present(name) {
            continue;
        }
        let count: u32 = number(given, name, 0)?;
        if count == 0 {
            return Err(format!("--{name} is at least 1"));
        }
        if chosen.replace(make(count)).is_some() {
            return Err("one scenario at a time, beside --idle".into());
        }
    }
    match chosen {
        Some(scenario) => Ok(scenario),
        None if idle > 0 => Ok(Scenario::Idle),
        None => Err(
            "no scenario: --pairs, --fan-out, --fan-in, --retained, --queued, --connect, --idle"
                .into(),
        ),
    }
}

fn number<T: std::str::FromStr>(
    given: &getopts::Matches,
    name: &str,
    default: T,
) -> Result<T, String> {
    match given.opt_str(name) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("--{name}: {text} is not a number it takes")),
        None => Ok(default),
    }
}
