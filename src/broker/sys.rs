//! The $SYS topics: what the broker says of itself, retained, every `sys_interval`, each only when its value changed.
//!
//! Intervals end at multiples of `sys_interval` on the wall clock, so that several brokers' figures belong together.

use super::message::Publication;
use super::statistics::Statistics;
use super::timers::{Time, TimerKey};
use super::{Broker, Timer};
use crate::mqtt::QoS;
use std::time::Duration;

/// The version that clients and scripts compare: the Mosquitto whose behaviour this is, and our own.
pub const VERSION: &str = concat!("2.1.2-midge-", env!("CARGO_PKG_VERSION"));

/// What is counted besides [`Statistics`]: the state at the end of an interval.
struct Gauges {
    statistics: Statistics,
    clients: u64,
    connected: u64,
    stored_messages: u64,
    stored_bytes: u64,
    subscriptions: u64,
    shared_subscriptions: u64,
    retained: u64,
    waiting_packets: u64,
    waiting_bytes: u64,
    memory: Memory,
}

/// The memory of the process; the server tells.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    current: u64,
    /// The most there ever were.
    maximum: u64,
}

type Gauge = (&'static str, fn(&Gauges) -> u64);

/// Every topic whose value is a number, below `$SYS/broker/`.
const GAUGES: &[Gauge] = &[
    ("clients/total", |g| g.clients),
    ("clients/inactive", |g| g.clients - g.connected),
    ("clients/disconnected", |g| g.clients - g.connected),
    ("clients/active", |g| g.connected),
    ("clients/connected", |g| g.connected),
    ("clients/expired", |g| g.statistics.clients_expired),
    ("clients/maximum", |g| g.statistics.clients_maximum),
    ("connections/socket/count", |g| g.statistics.sockets),
    ("messages/stored", |g| g.stored_messages),
    ("messages/received", |g| g.statistics.messages_received),
    ("messages/sent", |g| g.statistics.messages_sent),
    ("store/messages/count", |g| g.stored_messages),
    ("store/messages/bytes", |g| g.stored_bytes),
    ("subscriptions/count", |g| g.subscriptions),
    ("shared_subscriptions/count", |g| g.shared_subscriptions),
    ("retained messages/count", |g| g.retained),
    ("heap/current", |g| g.memory.current),
    ("heap/maximum", |g| g.memory.maximum),
    ("publish/messages/dropped", |g| g.statistics.publish_dropped),
    ("publish/messages/received", |g| {
        g.statistics.publish_received
    }),
    ("publish/messages/sent", |g| g.statistics.publish_sent),
    ("publish/bytes/received", |g| {
        g.statistics.publish_bytes_received
    }),
    ("publish/bytes/sent", |g| g.statistics.publish_bytes_sent),
    ("bytes/received", |g| g.statistics.bytes_received),
    ("bytes/sent", |g| g.statistics.bytes_sent),
    ("packet/out/count", |g| g.waiting_packets),
    ("packet/out/bytes", |g| g.waiting_bytes),
];

type Load = (&'static str, fn(&Statistics) -> u64);

/// Every counter whose rate per minute is told, below `$SYS/broker/load/`.
const LOADS: [Load; 9] = [
    ("messages/received", |s| s.messages_received),
    ("messages/sent", |s| s.messages_sent),
    ("publish/dropped", |s| s.publish_dropped),
    ("publish/received", |s| s.publish_received),
    ("publish/sent", |s| s.publish_sent),
    ("bytes/received", |s| s.bytes_received),
    ("bytes/sent", |s| s.bytes_sent),
    ("sockets", |s| s.sockets),
    ("connections", |s| s.connections),
];

/// Over how many minutes the rates are averaged.
const MINUTES: [u32; 3] = [1, 5, 15];

/// How long a log line waits for a subscriber that is away.
const LOG_LINE_EXPIRY: Duration = Duration::from_secs(20);

/// What was told last.
#[derive(Debug)]
pub struct Sys {
    began: Time,
    unix_time_at_zero: Duration,
    last: Time,
    gauges: Vec<Option<u64>>,
    counted: [u64; LOADS.len()],
    averages: [[f64; MINUTES.len()]; LOADS.len()],
    is_first: bool,
    memory: Memory,
    timer: Option<TimerKey>,
}

impl Sys {
    /// Nothing was told yet. The wall clock shows `unix_time` at `now`.
    pub fn new(now: Time, unix_time: Duration) -> Sys {
        let since_zero = now.saturating_sub(Time::ZERO);
        Sys {
            began: now,
            unix_time_at_zero: unix_time.saturating_sub(since_zero),
            last: now,
            gauges: vec![None; GAUGES.len()],
            counted: [0; LOADS.len()],
            averages: [[0.0; MINUTES.len()]; LOADS.len()],
            is_first: true,
            memory: Memory::default(),
            timer: None,
        }
    }

    /// How much memory the process has; told with the next $SYS topics.
    pub(super) fn set_memory(&mut self, current: u64) {
        let maximum = self.memory.maximum.max(current);
        self.memory = Memory { current, maximum };
    }

    /// The next multiple of `interval` on the wall clock.
    fn next_due(&self, interval: Duration, now: Time) -> Time {
        let unix_time = self.unix_time_at_zero + now.saturating_sub(Time::ZERO);
        let past = unix_time.as_millis() % interval.as_millis().max(1);
        now + (interval - Duration::from_millis(past as u64))
    }
}

impl Broker {
    /// Tells the version and everything else for the first time, and sets the timer, unless `sys_interval` is 0.
    pub(super) fn start_sys(&mut self, now: Time) {
        if let Some(timer) = self.sys.timer.take() {
            self.timers.cancel(timer);
        }
        if self.config.sys_interval.is_some() {
            self.tell(
                "$SYS/broker/version",
                &format!("mosquitto version {VERSION}"),
                now,
            );
            self.sys_due(now);
        }
    }

    /// The interval is over.
    pub(super) fn sys_due(&mut self, now: Time) {
        let Some(interval) = self.config.sys_interval else {
            return;
        };
        let uptime = now.saturating_sub(self.sys.began).as_secs();
        self.tell("$SYS/broker/uptime", &format!("{uptime} seconds"), now);
        self.tell_gauges(now);
        self.tell_loads(now);
        self.sys.is_first = false;
        let due = self.sys.next_due(interval, now);
        self.sys.timer = Some(self.timers.insert(due, Timer::Sys));
    }

    /// Publishes a log line below `$SYS/broker/log/`: QoS 2 where a subscriber asks for it, and not retained, as in
    /// Mosquitto.
    pub fn publish_log_line(&mut self, topic: &str, line: &str, now: Time) {
        let mut publication = Publication::new(topic, line.as_bytes(), QoS::ExactlyOnce, false);
        publication.expires = Some(now + LOG_LINE_EXPIRY);
        self.route(None, &mut publication, now);
    }

    fn tell_gauges(&mut self, now: Time) {
        let gauges = self.gauges();
        for (index, (name, value)) in GAUGES.iter().enumerate() {
            let value = value(&gauges);
            if self.sys.gauges[index].replace(value) != Some(value) {
                self.tell(&format!("$SYS/broker/{name}"), &value.to_string(), now);
            }
        }
    }

    fn gauges(&self) -> Gauges {
        let links = || {
            self.clients
                .iter()
                .filter_map(|(_, client)| client.link.as_ref())
        };
        Gauges {
            statistics: self.output.statistics,
            clients: self.clients.named() as u64,
            connected: self.clients.connected() as u64,
            stored_messages: self.tally.messages(),
            stored_bytes: self.tally.payload_bytes(),
            subscriptions: self.subscriptions.count() as u64,
            shared_subscriptions: self.subscriptions.shared_count() as u64,
            retained: self.retained.len() as u64,
            waiting_packets: links().map(|link| u64::from(link.backlog)).sum(),
            waiting_bytes: links().map(|link| link.outbox.len() as u64).sum(),
            memory: self.sys.memory,
        }
    }

    /// Exponential moving averages of the rates per minute, as Mosquitto makes them; told when they move by 0.01.
    fn tell_loads(&mut self, now: Time) {
        let elapsed = now.saturating_sub(self.sys.last).as_secs_f64();
        self.sys.last = now;
        for (index, (name, counter)) in LOADS.iter().enumerate() {
            let count = counter(&self.output.statistics);
            let counted = count - std::mem::replace(&mut self.sys.counted[index], count);
            let rate = if elapsed > 0.0 {
                counted as f64 * 60.0 / elapsed
            } else {
                0.0
            };
            for (slot, minutes) in MINUTES.into_iter().enumerate() {
                let average = &mut self.sys.averages[index][slot];
                let former = *average;
                let weight = (-elapsed / 60.0 / f64::from(minutes)).exp();
                *average = rate + weight * (former - rate);
                let new = *average;
                if self.sys.is_first || (new - former).abs() >= 0.01 {
                    let topic = format!("$SYS/broker/load/{name}/{minutes}min");
                    self.tell(&topic, &format!("{new:.2}"), now);
                }
            }
        }
    }

    fn tell(&mut self, topic: &str, value: &str, now: Time) {
        let mut publication = Publication::new(topic, value.as_bytes(), QoS::ExactlyOnce, true);
        self.route(None, &mut publication, now);
    }
}
