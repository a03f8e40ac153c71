//! The figures of one run, as a JSON object; every name says its unit.

use std::fmt::Write;
use std::time::Instant;

use crate::histogram::Histogram;
use crate::process::Usage;

/// A moment: what has happened by then, and what it cost.
#[derive(Clone, Copy)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// Deliveries, or what counts as one.
    pub delivered: u64,
    /// Of these, those that only disturb.
    pub flooded: u64,
    /// The generator.
    pub own: Usage,
    /// The broker.
    pub broker: Option<Usage>,
}

/// Named figures in the order in which they were taken.
#[derive(Default)]
pub struct Report {
    figures: Vec<(&'static str, f64)>,
}

impl Report {
    /// A figure more.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.figures
            .push((name, if value.is_finite() { value } else { 0.0 }));
    }

    /// What was delivered between two moments.
    pub fn deliveries(&mut self, before: &Moment, after: &Moment) {
        let deliveries = (after.delivered - before.delivered) as f64;
        let seconds = (after.at - before.at).as_secs_f64();
        let own_us = (after.own.cpu_ns - before.own.cpu_ns) as f64 / 1e3;
        self.add("deliveries", deliveries);
        self.add("seconds", seconds);
        self.add("per_second", deliveries / seconds);
        if let (Some(before), Some(after)) = (before.broker, after.broker) {
            let broker_us = (after.cpu_ns - before.cpu_ns) as f64 / 1e3;
            self.add("broker_cpu_us", broker_us / deliveries);
            self.add("broker_cpu_percent", broker_us / seconds / 1e4);
            self.add("broker_rss_kib", after.resident_kib as f64);
        }
        self.add("own_cpu_us", own_us / deliveries);
        self.add("own_cpu_percent", own_us / seconds / 1e4);
        let flooded = (after.flooded - before.flooded) as f64;
        if flooded > 0.0 {
            self.add("flood_per_second", flooded / seconds);
        }
    }

    /// Time from sending, or from being due, to arrival.
    pub fn latency(&mut self, histogram: &Histogram) {
        self.add("p50_us", histogram.percentile_us(0.5));
        self.add("p99_us", histogram.percentile_us(0.99));
        self.add("p999_us", histogram.percentile_us(0.999));
        self.add("max_us", histogram.max_us());
    }

    /// `count` things were stored, opened or subscribed to between two moments: what each cost.
    pub fn grown(&mut self, before: &Moment, after: &Moment, count: u32) {
        if let (Some(before), Some(after)) = (before.broker, after.broker) {
            let grown_kib = after.resident_kib as f64 - before.resident_kib as f64;
            self.add("bytes_each", grown_kib * 1024.0 / f64::from(count));
            let broker_us = (after.cpu_ns - before.cpu_ns) as f64 / 1e3;
            self.add("setup_cpu_us", broker_us / f64::from(count));
        }
    }

    /// On one line. Names are our own and need no escapes.
    pub fn json(&self) -> String {
        let mut json = String::new();
        for (name, value) in &self.figures {
            let separator = if json.is_empty() { '{' } else { ',' };
            let digits = if value.fract() == 0.0 { 0 } else { 3 };
            let _ = write!(json, "{separator} \"{name}\": {value:.digits$}");
        }
        json.push('}');
        json
    }
}
