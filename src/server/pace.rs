//! How long a turn takes: a ceiling for all connections together, and a share of it for each.
//!
//! What a packet costs is not known before it is handled: a PINGREQ takes nanoseconds, a PUBLISH to ten thousand subscribers
//! milliseconds. So the clock decides, which is looked at once in a while. Whoever has used up its share goes on in the next
//! turn, behind those who wait; what was handled until then is sent before. So a client among many that keep the broker busy
//! waits for about as many shares as there are of them, and never for all that they have sent.
//!
//! 1. Each connection that is served gets at least one packet handled, however late it is: a turn ends.
//! 2. The clock is read once for [`UNITS_PER_LOOK`] units of work at most, so that it is no part of a packet's cost.

use std::time::{Duration, Instant};

/// How long the connections of one turn are served. Long enough for a batch that makes the turn's own cost small and its
/// writes large, short enough that who comes in between does not notice.
const TURN: Duration = Duration::from_millis(6);

/// The smallest share of one connection.
const SHARE_MIN: Duration = Duration::from_micros(50);

/// The cost of about so many packets passes between two looks at the clock.
const UNITS_PER_LOOK: u64 = 32;

/// So many deliveries to subscribers cost about as much as a packet does.
const DELIVERIES_PER_UNIT: u64 = 8;

/// Serving a connection costs so many units before its first packet: a system call.
const UNITS_PER_CONNECTION: u64 = 4;

/// The time that the connections of one turn have.
#[derive(Debug)]
pub struct Pace {
    turn_ends: Instant,
    share: Duration,
    /// The clock, when it was looked at last.
    now: Instant,
    /// When the connection that is being served has had its share.
    share_ends: Instant,
    /// Work since the last look.
    units: u64,
    /// How many deliveries there were when that was counted last.
    deliveries: u64,
}

impl Pace {
    /// A turn that begins `now`, with so many connections to serve, after so many deliveries.
    pub fn begin(now: Instant, connections: usize, deliveries: u64) -> Pace {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let share = (TURN / connections).max(SHARE_MIN);
        Pace {
            turn_ends: now + TURN,
            share,
            now,
            share_ends: now + share,
            units: 0,
            deliveries,
        }
    }

    /// Whether the connections that were not served yet wait for the next turn.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.now >= self.turn_ends
    }

    /// Another connection is going to be served.
    #[inline]
    pub fn next_connection(&mut self, clock: impl FnOnce() -> Instant) {
        self.work(UNITS_PER_CONNECTION, clock);
        self.share_ends = self.now + self.share;
    }

    /// A packet was handled that is worth so many, and there were so many deliveries until now; whether the connection has
    /// had its share.
    #[inline]
    pub fn spend(
        &mut self,
        packets: usize,
        deliveries: u64,
        clock: impl FnOnce() -> Instant,
    ) -> bool {
        let units = (deliveries - self.deliveries) / DELIVERIES_PER_UNIT;
        self.deliveries += units * DELIVERIES_PER_UNIT;
        self.work(units + packets as u64, clock);
        self.now >= self.share_ends
    }

    #[inline]
    fn work(&mut self, units: u64, clock: impl FnOnce() -> Instant) {
        self.units += units;
        if self.units >= UNITS_PER_LOOK {
            self.units = 0;
            self.now = clock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets of this cost each of so many connections, which all have more than enough, gets handled in a turn;
    /// and how long the turn takes.
    fn turn(connections: usize, cost: Duration, deliveries_each: u64) -> (Vec<usize>, Duration) {
        let start = Instant::now();
        let (mut now, mut delivered) = (start, 7);
        let mut pace = Pace::begin(now, connections, delivered);
        let mut handled = vec![0; connections];
        for handled in &mut handled {
            if pace.is_over() {
                break;
            }
            pace.next_connection(|| now);
            loop {
                *handled += 1;
                now += cost;
                delivered += deliveries_each;
                if pace.spend(1, delivered, || now) {
                    break;
                }
            }
        }
        (handled, now - start)
    }

    #[test]
    fn a_turn_has_a_ceiling_and_everybody_a_share() {
        let micros = Duration::from_micros;
        for (connections, cost, deliveries) in [
            (1, micros(1), 0),
            (50, micros(1), 0),
            (50, micros(3), 1),
            (10, micros(60), 1000), // fan-out
            (1000, micros(2), 0),
            (100_000, micros(10), 0),
        ] {
            let (handled, time) = turn(connections, cost, deliveries);
            // Past the end by what passes between two looks, and by one packet of each.
            let late = cost * UNITS_PER_LOOK as u32;
            let text = format!("{connections} of {cost:?}: {time:?}");
            assert!(time <= TURN + late * 2 + cost * 50, "{text}");
            assert!(time >= TURN.min(cost), "{text}");
            let served = handled.iter().filter(|&&count| count > 0);
            let share = (TURN / connections as u32).max(SHARE_MIN) + late;
            let least = (TURN.as_nanos() / share.as_nanos()) as usize;
            assert!(served.count() >= least.min(connections), "{text}");
        }
    }

    #[test]
    fn a_packet_that_is_dear_is_noticed_at_once() {
        let start = Instant::now();
        let mut pace = Pace::begin(start, 2, 0);
        pace.next_connection(|| start);
        assert!(!pace.spend(1, 8, || start));
        assert!(pace.spend(1, 20_000, || start + TURN));
        assert!(pace.is_over());
    }

    #[test]
    fn the_clock_is_left_alone_while_little_is_done() {
        let mut pace = Pace::begin(Instant::now(), 1, 0);
        pace.next_connection(|| unreachable!("nothing was done"));
        for _ in 1..UNITS_PER_LOOK - UNITS_PER_CONNECTION {
            assert!(!pace.spend(1, 0, || unreachable!("little was done")));
        }
    }
}
