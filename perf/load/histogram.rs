//! A histogram of durations in nanoseconds: fixed memory, no allocation to record, two digits of precision.
//!
//! 1. Below 128 each value has a bucket of its own; above, each power of two is cut into 64 equal buckets, so a value
//!    is told to 1.6 percent.

const SUB_BUCKETS: u64 = 64;
const SUB_BUCKETS_BITS: u32 = SUB_BUCKETS.trailing_zeros();
const BUCKETS: usize = (64 - SUB_BUCKETS_BITS as usize + 1) * SUB_BUCKETS as usize;

/// Counts of durations.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_ns: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            max_ns: 0,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.max_ns = 0;
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// The duration, in microseconds, that `share` (0 to 1) of all stayed at or below.
    pub fn percentile_us(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return upper_bound(index).min(self.max_ns) as f64 / 1000.0;
            }
        }
        0.0
    }

    /// The longest duration in microseconds.
    pub fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1000.0
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    let shift = (64 - SUB_BUCKETS_BITS - 1).saturating_sub(ns.leading_zeros());
    (u64::from(shift) * SUB_BUCKETS + (ns >> shift)) as usize
}

/// The largest value that falls into bucket `index`: the inverse of [`bucket`].
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB_BUCKETS {
        return index;
    }
    let shift = index / SUB_BUCKETS - 1;
    let mantissa = index - shift * SUB_BUCKETS;
    ((mantissa + 1) << shift).wrapping_sub(1)
}
