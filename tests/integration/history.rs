//! What broke in Mosquitto, row by row, so that it does not break here.
mod packets;

use std::time::{Duration, Instant};

use crate::harness::*;

/// A client that behaves, and is served within a time that a person would not notice, whatever others do.
struct Witness(Raw);

impl Witness {
    fn of(broker: &Broker) -> Witness {
        Witness(broker.connect_v5("witness"))
    }

    /// Its ping is answered.
    #[track_caller]
    fn is_served(&mut self) -> Duration {
        let start = Instant::now();
        self.0.fence();
        start.elapsed()
    }
}

/// The end of a client's connection without a word; the broker has seen it when this returns.
fn cut(mut client: Raw) {
    client.shutdown_send();
    assert!(client.drain_until_closed().is_some());
}
