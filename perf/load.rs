//! A load generator for MQTT brokers: one scenario, one thread, every message accounted for.
//!
//! It measures the broker's process, not itself: CPU microseconds per delivered message first, which does not depend on
//! who sends and how fast. Its own CPU time stands in the report, so that its limit is not taken for the broker's.
//! Of Midge it uses the codec in `midge::mqtt` and nothing else. `perf/README.md` explains the figures, and
//! `perf/compare` runs it against several brokers.

#[path = "load/engine.rs"]
mod engine;
#[path = "load/handshake.rs"]
mod handshake;
#[path = "load/histogram.rs"]
mod histogram;
#[path = "load/options.rs"]
mod options;
#[path = "load/packets.rs"]
mod packets;
#[path = "load/process.rs"]
mod process;
#[path = "load/publisher.rs"]
mod publisher;
#[path = "load/report.rs"]
mod report;
#[path = "load/stream.rs"]
mod stream;

use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::{Engine, Expected, Failure};
use handshake::{Client, Connected, Door, connect_all};
use midge::mqtt::QoS;
use options::{Options, Scenario};
use process::Usage;
use publisher::{Messages, Pacing, TOPIC_DIGITS};
use report::Report;

/// How long nothing may move while something is owed.
const STALL: Duration = Duration::from_secs(10);

/// Messages outstanding while retained or queued messages are laid up.
const STORE_WINDOW: u32 = 256;

/// Messages outstanding of who sends as fast as possible.
const FIREHOSE_WINDOW: u32 = 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match options::parse(&arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(report) => {
            print!("{}", report.text());
            if let Some(file) = &options.json
                && let Err(error) = std::fs::write(file, report.json())
            {
                eprintln!("load: {file}: {error}");
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("load: FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Report, Failure> {
    raise_file_limit();
    let mut load = Load::new(options)?;
    if options.idle > 0 {
        load.open_idle()?;
    }
    match options.scenario {
        Scenario::Pairs(_) | Scenario::FanOut(_) | Scenario::FanIn(_) => load.traffic()?,
        Scenario::Retained(count) => load.retained(count)?,
        Scenario::Queued(count) => load.queued(count)?,
        Scenario::Connect(count) => load.come_and_go(count)?,
        Scenario::Idle => {}
    }
    Ok(load.report)
}

/// As many descriptors as we may have; too few will be told by the connection that fails.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("load: limit of open files: {error}");
    }
}

/// A moment: what has happened by then, and what it cost.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    delivered: u64,
    own: Usage,
    broker: Option<Usage>,
}

struct Load<'a> {
    options: &'a Options,
    door: Door,
    broker_pid: Option<String>,
    engine: Engine,
    connections: u32,
    /// Deliveries and acknowledgements when last looked at, and since when there were so many.
    progress: (u64, Instant),
    report: Report,
}

impl<'a> Load<'a> {
    fn new(options: &'a Options) -> Result<Load<'a>, Failure> {
        let address = (options.host.as_str(), options.port)
            .to_socket_addrs()
            .map_err(|error| format!("{}: {error}", options.host))?
            .next()
            .ok_or_else(|| format!("{}: no address", options.host))?;
        let tls = options.tls.as_ref();
        let tls = tls.map(|file| stream::client_config(file, options.resume));
        let door = Door {
            address,
            version: options.version,
            tls: tls.transpose()?,
            user: options.user.clone(),
            alias_maximum: if options.by_alias { 10 } else { 0 },
        };
        let engine = Engine::new(options.version, options.payload_bytes);
        Ok(Load {
            options,
            door,
            broker_pid: options.broker_pid.map(|pid| pid.to_string()),
            engine: engine.map_err(|error| error.to_string())?,
            connections: 0,
            progress: (0, Instant::now()),
            report: Report::new(options),
        })
    }

    fn moment(&self) -> Result<Moment, Failure> {
        let usage = |pid: &str| process::usage(pid).map_err(|error| format!("{pid}: {error}"));
        Ok(Moment {
            at: Instant::now(),
            delivered: self.engine.delivered(),
            own: usage("self")?,
            broker: self.broker_pid.as_deref().map(usage).transpose()?,
        })
    }

    fn connect(&mut self, clients: &[Client]) -> Result<Vec<Connected>, Failure> {
        let connected = connect_all(&self.door, clients, self.connections)?;
        self.connections += clients.len() as u32;
        Ok(connected)
    }

    fn connect_one(&mut self, client: Client) -> Result<Connected, Failure> {
        let mut connected = self.connect(&[client])?;
        Ok(connected.pop().expect("one was asked for"))
    }

    /// `--idle`: opens the silent connections and, where nothing else is to be done, holds them.
    fn open_idle(&mut self) -> Result<(), Failure> {
        let clients: Vec<Client> = (0..self.options.idle)
            .map(|index| client("idle", index, self.idle_filter(index)))
            .collect();
        let before = self.moment()?;
        let connected = self.connect(&clients)?;
        let opened = self.moment()?;
        for connected in connected {
            self.engine
                .add_silent(connected)
                .map_err(|error| error.to_string())?;
        }
        self.report.idle(&before, &opened, self.options.idle);
        if self.options.scenario == Scenario::Idle {
            let start = self.moment()?;
            while start.at.elapsed() < self.options.duration {
                self.engine.turn(Duration::from_millis(100))?;
            }
            let end = self.moment()?;
            self.report.held(&start, &end);
        }
        Ok(())
    }

    fn idle_filter(&self, index: u32) -> Option<String> {
        self.options
            .idle_subscribe
            .then(|| format!("load/idle/{index}"))
    }

    /// `--connect`: each batch of connections is greeted and let go before the next one comes.
    fn come_and_go(&mut self, count: u32) -> Result<(), Failure> {
        let before = self.moment()?;
        for first in (0..count).step_by(handshake::BATCH) {
            let last = count.min(first + handshake::BATCH as u32);
            let clients: Vec<Client> = (first..last)
                .map(|index| client("guest", index, None))
                .collect();
            for mut connected in self.connect(&clients)? {
                handshake::say_good_bye(&mut connected.stream, self.options.version)
                    .map_err(|error| error.to_string())?;
            }
        }
        let after = self.moment()?;
        self.report.connections(&before, &after, count);
        Ok(())
    }

    /// What the messages to `topic` look like.
    fn messages(&self, topic: String) -> Messages {
        let options = self.options;
        Messages {
            topic,
            topics: match (options.fresh_topics, options.filters, options.scenario) {
                (true, _, _) => Some(u32::MAX),
                (_, Some(filters), Scenario::Pairs(count)) => Some((filters / count).max(1)),
                _ => None,
            },
            topic_end: if options.filters.is_some() {
                "/x/c"
            } else {
                ""
            },
            by_alias: options.by_alias,
            properties: options.properties,
            qos: options.qos,
            retain: false,
            payload_bytes: options.payload_bytes,
        }
    }

    /// What who gets all messages to `topic` subscribes to.
    fn filters(&self, topic: &str) -> Vec<String> {
        let messages = self.messages(topic.to_owned());
        match (messages.topics, self.options.fresh_topics) {
            (None, _) => vec![topic.to_owned()],
            (Some(_), true) => vec![format!("{topic}/+")],
            (Some(count), false) => (0..count)
                .map(|number| format!("{topic}/{number:0TOPIC_DIGITS$}/+/c"))
                .collect(),
        }
    }

    /// Pairs, fan-out and fan-in.
    fn traffic(&mut self) -> Result<(), Failure> {
        let (publishers, subscribers) = match self.options.scenario {
            Scenario::Pairs(count) => (count, count),
            Scenario::FanOut(count) => (1, count),
            Scenario::FanIn(count) => (count, 1),
            _ => unreachable!("the others have their own procedures"),
        };
        let is_pairs = matches!(self.options.scenario, Scenario::Pairs(_));
        let topic = |index| match is_pairs {
            true => format!("load/pairs/{index}"),
            false => "load/common".into(),
        };
        // Publishers first: an alias is given its topic while nobody is subscribed to it.
        let by_alias = self.options.by_alias;
        let clients: Vec<Client> = (0..publishers)
            .map(|index| Client {
                alias_of: by_alias.then(|| topic(index)),
                ..client("publisher", index, None)
            })
            .collect();
        let connected_publishers = self.connect(&clients)?;
        let before = self.moment()?;
        let clients: Vec<Client> = (0..subscribers)
            .map(|index| Client {
                filters: self.filters(&topic(index)),
                qos: self.options.qos,
                ..client("subscriber", index, None)
            })
            .collect();
        let connected_subscribers = self.connect(&clients)?;
        if let Some(filters) = self.options.filters {
            let after = self.moment()?;
            self.report.subscribed(&before, &after, filters);
        }
        for (index, connected) in (0..).zip(connected_subscribers) {
            let expected = Expected::InOrder {
                first: if is_pairs { index } else { 0 },
                next: vec![0; if is_pairs { 1 } else { publishers as usize }],
            };
            self.engine
                .add_subscriber(connected, format!("subscriber {index}"), expected)?;
        }
        for (index, connected) in (0..).zip(connected_publishers) {
            let messages = self.messages(topic(index));
            let reaches = if is_pairs { 1 } else { subscribers };
            self.engine
                .add_publisher(
                    connected,
                    &messages,
                    Pacing::Arrivals,
                    self.options.window,
                    reaches,
                )
                .map_err(|error| error.to_string())?;
        }
        if self.options.firehose {
            self.add_firehose(publishers)?;
        }
        self.send_and_drain(publishers)
    }

    /// One more pair, whose publisher number is `index`.
    fn add_firehose(&mut self, index: u32) -> Result<(), Failure> {
        self.engine.end_of_measured();
        let topic = "load/firehose".to_owned();
        let subscriber = self.connect_one(client("drain", 0, Some(topic.clone())))?;
        let expected = Expected::InOrder {
            first: index,
            next: vec![0],
        };
        self.engine
            .add_subscriber(subscriber, "the firehose's".into(), expected)?;
        let publisher = self.connect_one(client("firehose", 0, None))?;
        let messages = self.messages(topic);
        self.engine
            .add_publisher(publisher, &messages, Pacing::Arrivals, FIREHOSE_WINDOW, 1)
            .map_err(|error| error.to_string())?;
        self.engine.open_firehose();
        Ok(())
    }

    /// Sends until a bound is reached, then waits for what is on its way.
    fn send_and_drain(&mut self, publishers: u32) -> Result<(), Failure> {
        let start = Instant::now();
        let mut allowed = 0;
        let timeout = match self.options.rate {
            Some(rate) => {
                self.engine.set_schedule(self.engine.now_ns(), 1e9 / rate);
                // Being woken would be part of every latency: we spin.
                Duration::ZERO
            }
            None => {
                // The bound is shared out evenly, rounded up.
                let each = self.options.messages.div_ceil(publishers.into());
                self.engine.allow(u32::try_from(each).unwrap_or(u32::MAX));
                Duration::from_millis(100)
            }
        };
        let mut before = self.moment()?;
        let mut is_warm = self.options.warm_up.is_zero();
        loop {
            if self.options.rate.is_some() {
                allowed = self.engine.allow_due(allowed, self.options.messages);
            }
            self.engine.turn(timeout)?;
            let elapsed = start.elapsed();
            if !is_warm && elapsed >= self.options.warm_up {
                is_warm = true;
                self.engine.latency().clear();
                before = self.moment()?;
            }
            if elapsed >= self.options.duration {
                break;
            }
            let is_all_sent = match self.options.rate {
                Some(_) => allowed == self.options.messages,
                None => self.engine.sent() >= self.options.messages,
            };
            if is_all_sent && self.engine.is_drained() {
                break;
            }
            self.check_progress()?;
        }
        let after = self.moment()?;
        self.engine.stop();
        self.drain()?;
        self.report.messages(&before, &after);
        self.report.latency(self.engine.latency());
        self.report
            .totals(self.engine.sent(), self.engine.delivered());
        Ok(())
    }

    /// Waits for all that is owed.
    fn drain(&mut self) -> Result<(), Failure> {
        while !self.engine.is_drained() {
            self.engine.turn(Duration::from_millis(100))?;
            self.check_progress()?;
        }
        Ok(())
    }

    fn check_progress(&mut self) -> Result<(), Failure> {
        let progress = self.engine.delivered() + self.engine.acknowledged();
        if progress != self.progress.0 || self.engine.is_drained() {
            self.progress = (progress, Instant::now());
        } else if self.progress.1.elapsed() > STALL {
            return Err(format!(
                "lost: nothing came for {} s\n{}",
                STALL.as_secs(),
                self.engine.what_is_missing()
            ));
        }
        Ok(())
    }

    /// Has one publisher lay up `count` messages, at QoS 1 at least: acknowledged is then the same as stored.
    fn store(&mut self, count: u32, messages: &Messages) -> Result<(), Failure> {
        let publisher = self.connect_one(client("publisher", 0, None))?;
        let before = self.moment()?;
        self.engine
            .add_publisher(
                publisher,
                messages,
                Pacing::Acknowledgements,
                STORE_WINDOW,
                1,
            )
            .map_err(|error| error.to_string())?;
        self.engine.allow(count);
        self.progress.1 = Instant::now();
        loop {
            self.engine.turn(Duration::from_millis(100))?;
            if self.engine.sent() == u64::from(count) && self.engine.is_drained() {
                break;
            }
            self.check_progress()?;
        }
        let after = self.moment()?;
        self.report.stored(&before, &after, count);
        Ok(())
    }

    /// `--retained`: stores them, then one subscriber gets them all.
    fn retained(&mut self, count: u32) -> Result<(), Failure> {
        let messages = Messages {
            topics: Some(u32::MAX),
            qos: self.options.qos.max(QoS::AtLeastOnce),
            retain: true,
            ..self.messages("load/retained".into())
        };
        self.store(count, &messages)?;
        let subscriber = Client {
            qos: self.options.qos,
            ..client("subscriber", 0, Some("load/retained/#".to_owned()))
        };
        let expected = Expected::Once {
            seen: vec![false; count as usize],
        };
        self.fetch(subscriber, expected, count)
    }

    /// `--queued`: a client subscribes and leaves; what was published meanwhile comes when it is back.
    fn queued(&mut self, count: u32) -> Result<(), Failure> {
        let version = self.options.version;
        let qos = self.options.qos.max(QoS::AtLeastOnce);
        let away = Client {
            qos,
            persistent: true,
            ..client("away", 0, Some("load/queued".to_owned()))
        };
        let connected = self.connect_one(away.clone())?;
        handshake::disconnect(connected.stream, version).map_err(|error| error.to_string())?;
        let messages = Messages {
            qos,
            ..self.messages("load/queued".into())
        };
        self.store(count, &messages)?;
        let expected = Expected::InOrder {
            first: 0,
            next: vec![0],
        };
        let back = Client {
            filters: Vec::new(),
            ..away
        };
        self.fetch(back, expected, count)
    }

    /// Connects the one client that `count` messages wait for, and takes them.
    fn fetch(&mut self, client: Client, expected: Expected, count: u32) -> Result<(), Failure> {
        let before = self.moment()?;
        let connected = self.connect_one(client)?;
        self.engine
            .add_subscriber(connected, "subscriber".into(), expected)?;
        self.progress.1 = Instant::now();
        while self.engine.delivered() < u64::from(count) {
            self.engine.turn(Duration::from_millis(100))?;
            if self.progress.1.elapsed() > STALL && self.engine.delivered() == self.progress.0 {
                return Err(format!("lost: {} of {count} came", self.engine.delivered()));
            }
            if self.engine.delivered() != self.progress.0 {
                self.progress = (self.engine.delivered(), Instant::now());
            }
        }
        self.drain()?;
        let after = self.moment()?;
        self.report.messages(&before, &after);
        self.report
            .totals(self.engine.sent(), self.engine.delivered());
        Ok(())
    }
}

fn client(role: &str, index: u32, filter: Option<String>) -> Client {
    Client {
        client_id: format!("load-{}-{role}-{index}", std::process::id()),
        filters: filter.into_iter().collect(),
        qos: QoS::AtMostOnce,
        alias_of: None,
        persistent: false,
    }
}
