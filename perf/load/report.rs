//! The figures of one run, as text and as JSON; every name says its unit.

use std::fmt::Write;

use crate::Moment;
use crate::histogram::Histogram;
use crate::options::{Options, Scenario};

/// Named figures in the order in which they were taken.
pub struct Report {
    scenario: String,
    figures: Vec<(&'static str, f64)>,
    remarks: Vec<String>,
}

impl Report {
    /// A report of what `options` ask for.
    pub fn new(options: &Options) -> Report {
        let mut scenario = match options.scenario {
            Scenario::Pairs(count) => format!("pairs {count}x{}", options.window),
            Scenario::FanOut(count) => format!("fan-out {count}x{}", options.window),
            Scenario::FanIn(count) => format!("fan-in {count}x{}", options.window),
            Scenario::Retained(count) => format!("retained {count}"),
            Scenario::Queued(count) => format!("queued {count}"),
            Scenario::Connect(count) => format!("connect {count}"),
            Scenario::Idle => format!("idle {}", options.idle),
        };
        let _ = write!(
            scenario,
            " QoS {} of {} B, MQTT level {}",
            options.qos as u8, options.payload_bytes, options.version as u8
        );
        if let Some(rate) = options.rate {
            let _ = write!(scenario, " at {rate}/s");
        }
        Report {
            scenario,
            figures: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn add(&mut self, name: &'static str, value: f64) {
        self.figures
            .push((name, if value.is_finite() { value } else { 0.0 }));
    }

    /// What was delivered between two moments.
    pub fn messages(&mut self, before: &Moment, after: &Moment) {
        let delivered = (after.delivered - before.delivered) as f64;
        let wall_us = (after.at - before.at).as_secs_f64() * 1e6;
        let own_us = after.own.cpu_us - before.own.cpu_us;
        let mut broker_share = 0.0;
        if let (Some(before), Some(after)) = (before.broker, after.broker) {
            let broker_us = after.cpu_us - before.cpu_us;
            broker_share = broker_us / wall_us;
            self.add("broker_cpu_us_per_message", broker_us / delivered);
            self.add("broker_cpu_percent", broker_share * 100.0);
            self.add("broker_resident_kib", after.resident_kib as f64);
        }
        self.add("measured_messages", delivered);
        self.add("measured_seconds", wall_us / 1e6);
        self.add("messages_per_second", delivered / wall_us * 1e6);
        self.add("generator_cpu_us_per_message", own_us / delivered);
        self.add("generator_cpu_percent", own_us / wall_us * 100.0);
        if own_us / wall_us > 0.95 && broker_share < 0.9 && !self.scenario.ends_with("/s") {
            self.remarks.push(
                "the generator was at its limit and the broker not: messages a second are the generator's".into(),
            );
        }
    }

    /// Time from sending to arrival.
    pub fn latency(&mut self, histogram: &Histogram) {
        self.add("latency_p50_us", histogram.percentile_us(0.5));
        self.add("latency_p99_us", histogram.percentile_us(0.99));
        self.add("latency_p999_us", histogram.percentile_us(0.999));
        self.add("latency_max_us", histogram.max_us());
    }

    /// The whole run, warm-up and drain included.
    pub fn totals(&mut self, sent: u64, delivered: u64) {
        self.add("total_sent", sent as f64);
        self.add("total_delivered", delivered as f64);
    }

    /// `count` messages were stored.
    pub fn stored(&mut self, before: &Moment, after: &Moment, count: u32) {
        if let (Some(before), Some(after)) = (before.broker, after.broker) {
            let grown_kib = after.resident_kib as f64 - before.resident_kib as f64;
            self.add(
                "stored_bytes_per_message",
                grown_kib * 1024.0 / f64::from(count),
            );
            let broker_us = after.cpu_us - before.cpu_us;
            self.add("store_cpu_us_per_message", broker_us / f64::from(count));
        }
    }

    /// Silent connections were opened.
    pub fn idle(&mut self, before: &Moment, opened: &Moment, count: u32) {
        self.add("idle_connections", f64::from(count));
        if let (Some(before), Some(opened)) = (before.broker, opened.broker) {
            let grown_kib = opened.resident_kib as f64 - before.resident_kib as f64;
            self.add(
                "idle_bytes_per_connection",
                grown_kib * 1024.0 / f64::from(count),
            );
            let broker_us = opened.cpu_us - before.cpu_us;
            self.add("connect_cpu_us", broker_us / f64::from(count));
        }
    }

    /// `count` connections came and went.
    pub fn connections(&mut self, before: &Moment, after: &Moment, count: u32) {
        let wall_us = (after.at - before.at).as_secs_f64() * 1e6;
        let count = f64::from(count);
        if let (Some(before), Some(after)) = (before.broker, after.broker) {
            self.add("connect_cpu_us", (after.cpu_us - before.cpu_us) / count);
            self.add("broker_resident_kib", after.resident_kib as f64);
        }
        self.add("connections_per_second", count / wall_us * 1e6);
        let own_us = after.own.cpu_us - before.own.cpu_us;
        self.add("generator_cpu_percent", own_us / wall_us * 100.0);
    }

    /// `count` filters were subscribed to.
    pub fn subscribed(&mut self, before: &Moment, after: &Moment, count: u32) {
        if let (Some(before), Some(after)) = (before.broker, after.broker) {
            let grown_kib = after.resident_kib as f64 - before.resident_kib as f64;
            self.add("bytes_per_filter", grown_kib * 1024.0 / f64::from(count));
            self.add(
                "subscribe_cpu_us_per_filter",
                (after.cpu_us - before.cpu_us) / f64::from(count),
            );
        }
    }

    /// Silent connections were held.
    pub fn held(&mut self, start: &Moment, end: &Moment) {
        let wall_us = (end.at - start.at).as_secs_f64() * 1e6;
        self.add("measured_seconds", wall_us / 1e6);
        if let (Some(start), Some(end)) = (start.broker, end.broker) {
            let broker_us = end.cpu_us - start.cpu_us;
            self.add("broker_cpu_percent", broker_us / wall_us * 100.0);
            self.add("broker_resident_kib", end.resident_kib as f64);
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.scenario);
        for (name, value) in &self.figures {
            let _ = writeln!(text, "  {name:<30} {value:>14.3}");
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "  note: {remark}");
        }
        text
    }

    /// For scripts. Names and texts are our own and need no escapes.
    pub fn json(&self) -> String {
        let mut json = format!("{{\"scenario\": \"{}\"", self.scenario);
        for (name, value) in &self.figures {
            let _ = write!(json, ", \"{name}\": {value}");
        }
        let _ = write!(json, ", \"remarks\": {:?}", self.remarks);
        json.push_str("}\n");
        json
    }
}
