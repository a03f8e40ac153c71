//! The scenarios: who is connected in which order, what is sent, and between which moments figures are taken.
//!
//! 1. Figures of a traffic start after a warm-up of a tenth of its messages and end when all has arrived and every
//!    exchange of acknowledgements is complete.
//! 2. Nothing waits without a bound: where nothing moves for [`STALL`], the run has failed.

use std::time::{Duration, Instant};

use midge::mqtt::QoS;

use crate::engine::Engine;
use crate::handshake::{self, Client, Common, Connected, connect_all};
use crate::options::{Options, Shape};
use crate::process;
use crate::publisher::{Messages, Pacing, Publisher, Spread, TOPIC_DIGITS, Topics};
use crate::report::{Moment, Report};
use crate::storm::Storm;
use crate::stream;
use crate::traffic::{Expected, Failure, Traffic};

/// How long nothing may move while something is owed.
const STALL: Duration = Duration::from_secs(10);

/// How long a turn waits at most.
const TURN: Duration = Duration::from_millis(100);

/// Messages outstanding while retained or queued messages are laid up.
const STORE_WINDOW: u32 = 256;

/// Publishers that share the topics of wildcard subscriptions.
const WILDCARD_PUBLISHERS: u32 = 10;

/// A run.
pub struct Load<'a> {
    options: &'a Options,
    common: Common,
    broker_pid: Option<String>,
    engine: Engine,
    connections: u32,
    /// Deliveries and acknowledgements when last looked at, and since when there were so many.
    progress: (u64, Instant),
    report: Report,
}

fn text(error: std::io::Error) -> Failure {
    error.to_string()
}

/// Runs what `options` ask for.
///
/// # Errors
/// Whatever makes its figures worthless.
pub fn run(options: &Options) -> Result<Report, Failure> {
    let mut load = Load::new(options)?;
    match options.shape {
        Shape::Pairs(_) | Shape::FanOut(_) | Shape::FanIn(_) => load.traffic()?,
        Shape::Wildcards(count) => load.wildcards(count)?,
        Shape::Retained(count) => load.retained(count)?,
        Shape::Queued(count) => load.queued(count)?,
        Shape::Connect(count) => load.connect_storm(count)?,
        Shape::Idle(count) => load.idle(count)?,
    }
    Ok(load.report)
}

impl<'a> Load<'a> {
    fn new(options: &'a Options) -> Result<Load<'a>, Failure> {
        let tls = options
            .tls
            .as_ref()
            .map(|file| stream::client_config(file, options.resume))
            .transpose()?;
        let (qos, pacing) = match options.shape {
            Shape::Retained(_) | Shape::Queued(_) => {
                (options.qos.max(QoS::AtLeastOnce), Pacing::Acknowledgements)
            }
            _ => (options.qos, Pacing::Arrivals),
        };
        let traffic = Traffic::new(options.payload_bytes, qos, pacing);
        Ok(Load {
            options,
            engine: Engine::new(traffic, tls.is_some()).map_err(text)?,
            common: Common {
                port: options.port,
                version: options.version,
                tls,
                credentials: options.credentials.clone(),
                takes_aliases: options.has_alias,
            },
            broker_pid: options.broker_pid.map(|pid| pid.to_string()),
            connections: 0,
            progress: (0, Instant::now()),
            report: Report::default(),
        })
    }

    fn moment(&self) -> Result<Moment, Failure> {
        let usage = |pid: &str| process::usage(pid).map_err(|error| format!("{pid}: {error}"));
        Ok(Moment {
            at: Instant::now(),
            delivered: self.engine.traffic.delivered,
            flooded: self.engine.traffic.flooded,
            own: usage("self")?,
            broker: self.broker_pid.as_deref().map(usage).transpose()?,
        })
    }

    fn client(&self, role: &str, index: u32, filters: Vec<String>) -> Client {
        Client {
            client_id: format!("load-{}-{role}-{index}", std::process::id()),
            filters,
            qos: self.engine.traffic.qos,
            is_persistent: self.options.is_durable,
        }
    }

    fn connect(&mut self, clients: &[Client]) -> Result<Vec<Connected>, Failure> {
        let connected = connect_all(&self.common, clients, self.connections)?;
        self.connections += clients.len() as u32;
        Ok(connected)
    }

    fn connect_one(&mut self, client: Client) -> Result<Connected, Failure> {
        let mut connected = self.connect(&[client])?;
        Ok(connected.pop().expect("one was asked for"))
    }

    fn messages(&self, topics: Topics) -> Messages {
        Messages {
            version: self.options.version,
            topics,
            qos: self.engine.traffic.qos,
            retain: matches!(self.options.shape, Shape::Retained(_)),
            has_properties: self.options.has_properties,
            has_alias: self.options.has_alias,
            payload_bytes: self.options.payload_bytes,
        }
    }

    /// The topics of publisher `index`, and the filter for all of them.
    fn topics(&self, index: u32) -> (Topics, String) {
        let topic = format!("load/{index}");
        if !self.options.has_unique_topics {
            return (Topics::Same(topic.clone()), topic);
        }
        let filter = format!("{topic}/+");
        let topics = Topics::Numbered {
            before: format!("{topic}/"),
            after: "",
            spread: None,
        };
        (topics, filter)
    }

    /// Pairs, fan-out and fan-in.
    fn traffic(&mut self) -> Result<(), Failure> {
        let (publishers, subscribers) = match self.options.shape {
            Shape::Pairs(count) => (count, count),
            Shape::FanOut(count) => (1, count),
            Shape::FanIn(count) => (count, 1),
            _ => unreachable!("the others have their own procedures"),
        };
        let is_pairs = matches!(self.options.shape, Shape::Pairs(_));
        let clients: Vec<Client> = (0..subscribers)
            .map(|index| {
                let filter = match self.options.shape {
                    Shape::FanOut(_) => self.topics(0).1,
                    Shape::FanIn(_) if self.options.has_unique_topics => "load/+/+".to_owned(),
                    Shape::FanIn(_) => "load/+".to_owned(),
                    _ => self.topics(index).1,
                };
                self.client("subscriber", index, vec![filter])
            })
            .collect();
        for (index, connected) in (0..).zip(self.connect(&clients)?) {
            let expected = Expected::InOrder {
                first: if is_pairs { index } else { 0 },
                next: vec![0; if is_pairs { 1 } else { publishers as usize }],
            };
            self.engine
                .add_subscriber(connected, format!("subscriber {index}"), expected)?;
        }
        let reaches = if is_pairs { 1 } else { subscribers };
        self.add_publishers(publishers, |load, index| {
            let mut publisher = load.publisher(index, load.topics(index).0, load.options.window);
            publisher.set_subscribers(reaches);
            publisher
        })?;
        if self.options.flood_window > 0 {
            self.add_flood(publishers)?;
        }
        match self.options.rate {
            Some(rate) => self.send_at(rate, publishers),
            None => self.send_windows(),
        }
    }

    fn publisher(&self, index: u32, topics: Topics, window: u32) -> Publisher {
        let messages = self.messages(topics);
        let mut publisher = Publisher::new(index, &messages, self.engine.traffic.pacing, window);
        if self.options.is_durable {
            // What counts is when the broker has stored a message, not that it arrived.
            publisher.set_receive_maximum(u16::try_from(window).unwrap_or(u16::MAX));
        }
        publisher
    }

    fn add_publishers(
        &mut self,
        count: u32,
        make: impl Fn(&Load<'_>, u32) -> Publisher,
    ) -> Result<(), Failure> {
        let clients: Vec<Client> = (0..count)
            .map(|index| self.client("publisher", index, Vec::new()))
            .collect();
        for (index, connected) in (0..).zip(self.connect(&clients)?) {
            let publisher = make(self, index);
            self.engine
                .add_publisher(connected, publisher)
                .map_err(text)?;
        }
        Ok(())
    }

    /// The pair that disturbs: its window is what a socket holds, so it always has something to send.
    fn add_flood(&mut self, index: u32) -> Result<(), Failure> {
        let topic = "flood".to_owned();
        let subscriber = self.client("flooded", 0, vec![topic.clone()]);
        let connected = self.connect_one(subscriber)?;
        let expected = Expected::InOrder {
            first: index,
            next: vec![0],
        };
        self.engine
            .add_subscriber(connected, "flooded subscriber".into(), expected)?;
        let connected = self.connect_one(self.client("flood", 0, Vec::new()))?;
        let window = self.options.flood_window;
        let mut publisher = self.publisher(index, Topics::Same(topic), window);
        publisher.is_flood = true;
        self.engine
            .add_publisher(connected, publisher)
            .map_err(text)
    }

    /// Sends as fast as the windows permit.
    fn send_windows(&mut self) -> Result<(), Failure> {
        let warm_up = self.options.messages / 10;
        self.engine.allow(warm_up + self.options.messages);
        let mut before = self.moment()?;
        let mut is_warm = warm_up == 0;
        self.progress.1 = Instant::now();
        loop {
            self.engine.turn(TURN)?;
            let traffic = &mut self.engine.traffic;
            if !is_warm && traffic.arrived >= warm_up {
                is_warm = true;
                traffic.latency.clear();
                before = self.moment()?;
            }
            if self.engine.traffic.budget == 0 && self.engine.is_drained() {
                break;
            }
            self.check_progress()?;
        }
        let after = self.moment()?;
        self.report.deliveries(&before, &after);
        self.report.latency(&self.engine.traffic.latency);
        Ok(())
    }

    /// Sends by the clock.
    fn send_at(&mut self, rate: f64, publishers: u32) -> Result<(), Failure> {
        let is_asleep = !self.options.is_spinning;
        let timeout = if is_asleep { TURN } else { Duration::ZERO };
        let warm_up = self.options.messages / 10;
        let limit = warm_up + self.options.messages;
        self.engine
            .set_rate(rate, publishers, is_asleep)
            .map_err(text)?;
        // The clock limits those at a rate, their windows those that disturb.
        self.engine.allow(u64::MAX / 2);
        let mut before = self.moment()?;
        let mut allowed = 0;
        let mut is_warm = warm_up == 0;
        self.progress.1 = Instant::now();
        while allowed < limit {
            allowed = self.engine.allow_due(allowed, limit);
            self.engine.turn(timeout)?;
            if !is_warm && allowed >= warm_up {
                is_warm = true;
                self.engine.traffic.latency.clear();
                before = self.moment()?;
            }
            self.check_progress()?;
        }
        self.engine.turn(Duration::ZERO)?;
        self.engine.stop();
        self.drain()?;
        let after = self.moment()?;
        self.report.deliveries(&before, &after);
        self.report.latency(&self.engine.traffic.latency);
        Ok(())
    }

    /// Waits for all that is owed.
    fn drain(&mut self) -> Result<(), Failure> {
        while !self.engine.is_drained() {
            self.engine.turn(TURN)?;
            self.check_progress()?;
        }
        Ok(())
    }

    fn check_progress(&mut self) -> Result<(), Failure> {
        let traffic = &self.engine.traffic;
        let progress = traffic.delivered + traffic.acknowledged;
        if progress != self.progress.0 || traffic.is_drained() {
            self.progress = (progress, Instant::now());
        } else if self.progress.1.elapsed() > STALL {
            return Err(format!(
                "lost: nothing came for {} s: {}",
                STALL.as_secs(),
                traffic.what_is_missing()
            ));
        }
        Ok(())
    }

    /// `--wildcards`: `a/bN/+/c`, shared by clients; each message has one subscription to go to.
    fn wildcards(&mut self, count: u32) -> Result<(), Failure> {
        let clients = self.options.clients.min(count);
        let spread = Spread {
            topics: count,
            publishers: WILDCARD_PUBLISHERS,
        };
        let subscribers: Vec<Client> = (0..clients)
            .map(|index| {
                let numbers = (index..count).step_by(clients as usize);
                let filters = numbers.map(|number| format!("a/b{number:0TOPIC_DIGITS$}/+/c"));
                self.client("subscriber", index, filters.collect())
            })
            .collect();
        let before = self.moment()?;
        let connected = self.connect(&subscribers)?;
        let subscribed = self.moment()?;
        self.report.grown(&before, &subscribed, count);
        for (index, connected) in (0..).zip(connected) {
            let expected = Expected::Spread {
                spread,
                clients,
                index,
                next: vec![0; WILDCARD_PUBLISHERS as usize],
            };
            self.engine
                .add_subscriber(connected, format!("subscriber {index}"), expected)?;
        }
        self.add_publishers(WILDCARD_PUBLISHERS, |load, index| {
            let topics = Topics::Numbered {
                before: "a/b".to_owned(),
                after: "/x/c",
                spread: Some(spread),
            };
            load.publisher(index, topics, load.options.window)
        })?;
        self.send_windows()
    }

    /// Has one publisher lay up `count` messages, at QoS 1 at least: acknowledged is then the same as stored.
    fn store(&mut self, count: u32, topics: Topics) -> Result<(), Failure> {
        let connected = self.connect_one(self.client("publisher", 0, Vec::new()))?;
        let publisher = self.publisher(0, topics, STORE_WINDOW);
        self.engine
            .add_publisher(connected, publisher)
            .map_err(text)?;
        let before = self.moment()?;
        self.engine.allow(count.into());
        self.progress.1 = Instant::now();
        while self.engine.traffic.budget > 0 || !self.engine.is_drained() {
            self.engine.turn(TURN)?;
            self.check_progress()?;
        }
        let after = self.moment()?;
        self.report.grown(&before, &after, count);
        Ok(())
    }

    /// `--retained`: stores them, then one subscriber gets them all.
    fn retained(&mut self, count: u32) -> Result<(), Failure> {
        let topics = Topics::Numbered {
            before: "load/retained/".to_owned(),
            after: "",
            spread: None,
        };
        self.store(count, topics)?;
        let mut subscriber = self.client("subscriber", 0, vec!["#".to_owned()]);
        subscriber.qos = self.options.qos;
        let expected = Expected::Once {
            seen: vec![false; count as usize],
        };
        self.fetch(subscriber, expected, count)
    }

    /// `--queued`: a client subscribes and leaves; what was published meanwhile comes when it is back.
    fn queued(&mut self, count: u32) -> Result<(), Failure> {
        let topic = "load/queued".to_owned();
        let mut away = self.client("away", 0, vec![topic.clone()]);
        away.is_persistent = true;
        handshake::visit(&self.common, &away, self.connections)?;
        self.store(count, Topics::Same(topic))?;
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
        self.progress = (0, Instant::now());
        while self.engine.traffic.delivered < u64::from(count) {
            self.engine.turn(TURN)?;
            let delivered = self.engine.traffic.delivered;
            if delivered != self.progress.0 {
                self.progress = (delivered, Instant::now());
            } else if self.progress.1.elapsed() > STALL {
                return Err(format!("lost: {delivered} of {count} came"));
            }
        }
        self.drain()?;
        let after = self.moment()?;
        self.report.deliveries(&before, &after);
        Ok(())
    }

    /// `--connect`: each that comes and goes counts as a delivery.
    fn connect_storm(&mut self, count: u32) -> Result<(), Failure> {
        let warm_up = (count / 10).max(1);
        let mut storm = Storm::new(&self.common, self.options.at_once).map_err(text)?;
        storm.run(warm_up)?;
        let (before, resumed) = (self.moment()?, storm.resumed);
        storm.run(warm_up + count)?;
        let mut after = self.moment()?;
        after.delivered += u64::from(count);
        self.report.deliveries(&before, &after);
        if self.common.tls.is_some() {
            let share = f64::from(storm.resumed - resumed) / f64::from(count);
            self.report.add("resumed_percent", share * 100.0);
        }
        Ok(())
    }

    /// `--idle`: opens silent connections and holds them.
    fn idle(&mut self, count: u32) -> Result<(), Failure> {
        let clients: Vec<Client> = (0..count)
            .map(|index| {
                let filter = self.options.idle_subscribe.then(|| format!("idle/{index}"));
                self.client("idle", index, filter.into_iter().collect())
            })
            .collect();
        let before = self.moment()?;
        let connected = self.connect(&clients)?;
        let opened = self.moment()?;
        self.report.grown(&before, &opened, count);
        for connected in connected {
            self.engine.add_silent(connected).map_err(text)?;
        }
        let start = self.moment()?;
        while start.at.elapsed() < self.options.hold {
            self.engine.turn(TURN)?;
        }
        let end = self.moment()?;
        self.report.add("connections", f64::from(count));
        let seconds = (end.at - start.at).as_secs_f64();
        self.report.add("seconds", seconds);
        if let (Some(start), Some(end)) = (start.broker, end.broker) {
            let busy = (end.cpu_ns - start.cpu_ns) as f64 / 1e9;
            self.report.add("idle_cpu_percent", busy / seconds * 100.0);
            self.report.add("broker_rss_kib", end.resident_kib as f64);
        }
        Ok(())
    }
}
