//! Bytes received and not yet parsed; knows neither sockets nor what a packet looks like.
//!
//! The loop serves one connection at a time, so all of them share one large ring: a connection takes it to read and
//! parse, and gives it back empty. What cannot be parsed yet, the front of a packet, stays in the large ring until another
//! connection wants that; then it is parked: a little in a small ring from a free list, more in a ring of its own.
//!
//! 1. `start <= end <= bytes.len()`; `bytes[start..end]` is received and unparsed, in order, contiguous.
//! 2. An empty ring has `start == end == 0`, so that a drained connection always reads into the same warm lines.
//! 3. A byte is moved at most once for each packet it belongs to: [`Ring::spare`] carries the unparsed bytes to the front
//!    where they are few or there is no room behind them, and nothing is consumed before the packet that begins there is
//!    whole.
//! 4. A ring of a connection's own holds at most twice the bytes that arrived (or is a buffer from the bounded free list)
//!    and never reads past the end of its packet, so it is empty when that packet is consumed.
//! 5. All storage is initialised once when it is allocated, and not again when it is reused.

/// The size of the large ring, in bytes. Only as much of it is ever touched as is read at a time: several reads where
/// packets are large, so that they are neither moved nor parked between them.
pub const RING_BYTES: usize = 1024 * 1024;

/// How many bytes one read takes at most.
///
/// Large enough that the system call is a small part of the cost of its copy, small enough for the second-level cache.
pub const READ_BYTES: usize = 128 * 1024;

/// Up to this many unparsed bytes are carried to the front of the ring before the next read, which so goes to warm lines;
/// more are left where they are while there is room behind them.
const CARRIED_BYTES_MAX: usize = 4 * 1024;

/// Up to this many unparsed bytes are parked in a pooled small ring and copied back before the next read.
pub const SMALL_RING_BYTES: usize = 1024;

/// How many small rings the free list keeps.
const SMALL_RINGS_KEPT: usize = 64;

/// How many bytes of larger rings the free list keeps, so that a stream of large packets allocates nothing.
const LARGE_KEPT_BYTES: usize = 2 * 1024 * 1024;

const _: () = assert!(SMALL_RING_BYTES < READ_BYTES && READ_BYTES < RING_BYTES);
const _: () = assert!(RING_BYTES <= LARGE_KEPT_BYTES);

/// Bytes received: written at one end, parsed at the other, always contiguous.
#[derive(Debug, Default)]
pub struct Ring {
    /// Initialised storage, all of it.
    bytes: Vec<u8>,
    /// The reading position.
    start: usize,
    /// The writing position.
    end: usize,
    /// What the ring may hold, in bytes: it grows up to here, and does not read beyond.
    limit: usize,
}

impl Ring {
    /// A ring of `bytes` bytes that does not grow.
    pub fn with_capacity(bytes: usize) -> Ring {
        Ring {
            bytes: vec![0; bytes],
            start: 0,
            end: 0,
            limit: bytes,
        }
    }

    /// The bytes received and not consumed.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes are received and not consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether all that was received is consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Gives up the first `n` unparsed bytes: a packet that was handled.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed {n} of {} bytes", self.len());
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room to read into, behind the unparsed bytes; these are carried to the front first where they are few or there is
    /// little room behind them, and a ring that may grow does when it is full. Empty only if the ring is full and may not
    /// grow.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        let behind = self.bytes.len().min(self.limit).saturating_sub(self.end);
        if self.start > 0 && (self.len() <= CARRIED_BYTES_MAX || behind < READ_BYTES) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() && self.end < self.limit {
            self.grow();
        }
        let end = self.bytes.len().min(self.limit);
        &mut self.bytes[self.end..end]
    }

    /// Says that `n` bytes were written at the front of [`Ring::spare`].
    ///
    /// # Panics
    /// If there is no room for as many.
    #[inline]
    pub fn produced(&mut self, n: usize) {
        assert!(
            n <= self.bytes.len() - self.end,
            "produced {n} bytes without room"
        );
        self.end += n;
    }

    /// Whether a parked ring is to be read into as it is: the own ring of one packet of which a part is still to come, or
    /// one that holds more than the large ring could. The others are copied back first.
    #[inline]
    pub fn is_direct(&self) -> bool {
        self.limit > SMALL_RING_BYTES && self.len() < self.limit || self.len() > RING_BYTES
    }

    /// Doubles the storage, up to the limit: the bytes so far are as many as there is storage, so a packet is copied at
    /// most twice while its ring grows, and its header alone allocates nothing.
    #[cold]
    fn grow(&mut self) {
        let bytes = (2 * self.bytes.len())
            .max(2 * SMALL_RING_BYTES)
            .min(self.limit);
        self.bytes.reserve_exact(bytes - self.bytes.len());
        self.bytes.resize(bytes, 0);
    }

    fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Takes over the unparsed bytes of `other`, which is empty afterwards.
    fn take_from(&mut self, other: &mut Ring) {
        debug_assert!(self.is_empty(), "two connections in one ring");
        let n = other.len();
        self.bytes[..n].copy_from_slice(other.filled());
        self.end = n;
        other.clear();
    }
}

/// The large ring and the free lists of the others.
#[derive(Debug)]
pub struct RingPool {
    large: Ring,
    /// The whole length of the packet at the front of the large ring, 0 if it is not known.
    needed: usize,
    // Connections hold their parked ring by a pointer, to be small while they have none; the free lists keep the
    // allocation together with the storage.
    #[expect(clippy::vec_box, reason = "the box is what is pooled")]
    small: Vec<Box<Ring>>,
    #[expect(clippy::vec_box, reason = "the box is what is pooled")]
    own: Vec<Box<Ring>>,
    /// The storage in `own`, in bytes.
    own_bytes: usize,
}

impl Default for RingPool {
    fn default() -> RingPool {
        RingPool::new()
    }
}

impl RingPool {
    /// A pool with its large ring and nothing on the free lists.
    pub fn new() -> RingPool {
        RingPool {
            large: Ring::with_capacity(RING_BYTES),
            needed: 0,
            small: Vec::new(),
            own: Vec::new(),
            own_bytes: 0,
        }
    }

    /// The large ring.
    #[inline]
    pub fn large(&mut self) -> &mut Ring {
        &mut self.large
    }

    /// Tells the large ring the whole length in bytes of the packet at its front, 0 if that is not known.
    #[inline]
    pub fn expect_in_large(&mut self, needed: usize) {
        self.needed = needed;
    }

    /// Whether the packet at the front of the large ring cannot become whole there. Before more of it came than fits a
    /// small ring, it gets no ring of its own all the same: first the large one reads all it can in one go.
    #[inline]
    pub fn outgrows_large(&self) -> bool {
        self.needed > RING_BYTES && self.large.len() > SMALL_RING_BYTES
    }

    /// Throws away what is in the large ring.
    pub fn clear_large(&mut self) {
        self.large.clear();
    }

    /// Moves what is in the large ring out of it, into a ring for the connection to keep; `None` if there is nothing.
    pub fn park(&mut self) -> Option<Box<Ring>> {
        let needed = std::mem::take(&mut self.needed);
        let len = self.large.len();
        if len == 0 {
            return None;
        }
        let mut ring = if len <= SMALL_RING_BYTES {
            self.small
                .pop()
                .unwrap_or_else(|| Box::new(Ring::with_capacity(SMALL_RING_BYTES)))
        } else {
            self.own_ring(len, needed)
        };
        ring.take_from(&mut self.large);
        Some(ring)
    }

    /// Copies a parked ring to the front of the large ring, which must be empty, and recycles it.
    ///
    /// # Panics
    /// If it holds more than the large ring could: see [`Ring::is_direct`].
    pub fn unpark(&mut self, mut ring: Box<Ring>) {
        self.large.take_from(&mut ring);
        self.recycle(ring);
    }

    /// Tells a connection's own ring the whole length of the packet at its front, 0 if it is not known.
    pub fn expect(ring: &mut Ring, needed: usize) {
        if ring.bytes.len() > SMALL_RING_BYTES {
            ring.limit = needed.max(ring.len());
        }
    }

    /// Takes back a ring that a connection has no use for any more, whatever it holds.
    pub fn recycle(&mut self, mut ring: Box<Ring>) {
        ring.clear();
        let bytes = ring.bytes.len();
        if bytes <= SMALL_RING_BYTES {
            if self.small.len() < SMALL_RINGS_KEPT {
                self.small.push(ring);
            }
        } else if self.own_bytes + bytes <= LARGE_KEPT_BYTES {
            self.own_bytes += bytes;
            self.own.push(ring);
        }
    }

    /// A ring for `len` bytes that may grow to `needed`, with room to double at first if there is so much to come.
    fn own_ring(&mut self, len: usize, needed: usize) -> Box<Ring> {
        let limit = needed.max(len);
        let mut ring = match self.own.pop() {
            Some(ring) => {
                self.own_bytes -= ring.bytes.len();
                ring
            }
            None => Box::default(),
        };
        ring.limit = limit;
        let bytes = (2 * len).min(limit);
        if ring.bytes.len() < bytes {
            // A fresh zeroed allocation is cheaper than resizing: the old bytes need not be moved.
            ring.bytes = vec![0; bytes];
        }
        ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn a_drained_ring_starts_again_at_the_front() {
        let mut ring = Ring::with_capacity(8);
        ring.spare()[..5].copy_from_slice(b"hello");
        ring.produced(5);
        ring.consume(2);
        assert_eq!(ring.filled(), b"llo");
        assert_eq!(ring.spare().len(), 5, "carried to the front");
        assert_eq!(ring.filled(), b"llo");
        ring.consume(3);
        assert!(ring.is_empty());
        assert_eq!(ring.spare().len(), 8);
    }

    #[test]
    fn a_full_ring_that_may_not_grow_has_no_room() {
        let mut ring = Ring::with_capacity(4);
        ring.spare();
        ring.produced(4);
        assert!(ring.spare().is_empty());
    }

    #[test]
    fn a_header_that_claims_much_costs_what_came() {
        const CLAIM: usize = 256 * 1024 * 1024;
        let mut pool = RingPool::new();
        pool.large().spare();
        pool.large().produced(10);
        pool.expect_in_large(CLAIM);
        assert!(!pool.outgrows_large());
        let ring = pool.park().expect("there are bytes");
        assert_eq!(ring.bytes.len(), SMALL_RING_BYTES);
        assert!(!ring.is_direct(), "a little is copied back");
        pool.unpark(ring);
        assert_eq!(pool.large().len(), 10);

        pool.large().produced(9_990);
        pool.expect_in_large(CLAIM);
        assert!(pool.outgrows_large());
        let mut ring = pool.park().expect("there are bytes");
        assert_eq!(ring.bytes.len(), 20_000);
        let room = ring.spare().len();
        ring.produced(room);
        assert!(ring.is_direct() && ring.bytes.len() == 20_000);
    }

    #[test]
    fn an_own_ring_stops_at_its_packet() {
        let mut pool = RingPool::new();
        pool.large().spare();
        pool.large().produced(6_000);
        pool.expect_in_large(9_000);
        let mut ring = pool.park().expect("there are bytes");
        assert_eq!(ring.spare().len(), 3_000);
        ring.produced(3_000);
        assert!(ring.spare().is_empty());
    }

    #[test]
    fn the_free_lists_are_bounded() {
        let mut pool = RingPool::new();
        for _ in 0..2 * SMALL_RINGS_KEPT {
            pool.recycle(Box::new(Ring::with_capacity(SMALL_RING_BYTES)));
            pool.recycle(Box::new(Ring::with_capacity(RING_BYTES)));
        }
        assert_eq!(pool.small.len(), SMALL_RINGS_KEPT);
        assert_eq!(pool.own_bytes, LARGE_KEPT_BYTES);
        assert_eq!(pool.own.len(), LARGE_KEPT_BYTES / RING_BYTES);
    }

    #[test]
    fn an_own_ring_that_read_past_its_packet_has_room_for_the_next() {
        let mut pool = RingPool::new();
        pool.large().spare();
        pool.large().produced(700_000);
        pool.expect_in_large(2_000_000);
        let mut ring = pool.park().expect("there are bytes");
        ring.consume(600_000);
        RingPool::expect(&mut ring, 150_000);
        assert!(ring.is_direct());
        assert_eq!(ring.spare().len(), 50_000);
    }

    /// A packet for these tests: its whole length in three bytes, then bytes that tell where they belong.
    fn encode_packet(stream: &mut Vec<u8>, body_len: usize) {
        let len = body_len + 3;
        stream.extend([(len >> 16) as u8, (len >> 8) as u8, len as u8]);
        stream.extend((0..body_len).map(|i| (i * 7 + body_len) as u8));
    }

    /// The whole length of the packet at the front, 0 if unknown.
    fn needed(bytes: &[u8]) -> usize {
        match bytes {
            [a, b, c, ..] => usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c),
            _ => 0,
        }
    }

    fn body_len() -> impl Strategy<Value = usize> {
        prop_oneof![8 => 0..200usize, 3 => 0..20_000usize, 1 => 0..400_000usize]
    }

    fn read_len() -> impl Strategy<Value = usize> {
        prop_oneof![1 => Just(1usize), 3 => 1..3_000usize, 3 => 1..200_000usize]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_ring_is_a_queue(steps in prop::collection::vec((0..40usize, 0..40usize), 0..100)) {
            let mut ring = Ring::with_capacity(64);
            let mut model = VecDeque::new();
            let mut next = 0u8;
            for (write, read) in steps {
                let spare = ring.spare();
                prop_assert_eq!(spare.len(), 64 - model.len());
                let write = write.min(spare.len());
                for byte in &mut spare[..write] {
                    *byte = next;
                    model.push_back(next);
                    next = next.wrapping_add(1);
                }
                ring.produced(write);
                prop_assert_eq!(ring.filled(), model.make_contiguous());
                let read = read.min(model.len());
                ring.consume(read);
                model.drain(..read);
                prop_assert_eq!(ring.filled(), model.make_contiguous());
                prop_assert_eq!(ring.is_empty(), model.is_empty());
            }
        }

        /// Three connections take turns in reads of any size; each gets its own packets, whole and in order. A step may
        /// leave whole packets unparsed, as a connection that is told to wait does.
        #[test]
        fn parked_packets_come_back(
            packets in prop::collection::vec((0..3usize, body_len()), 1..40),
            steps in prop::collection::vec((0..3usize, read_len(), prop::bool::weighted(0.1)), 1..200),
        ) {
            let mut streams = [Vec::new(), Vec::new(), Vec::new()];
            for (connection, len) in packets {
                encode_packet(&mut streams[connection], len);
            }
            let mut sent = [0; 3];
            let mut parsed = [0; 3];
            let mut parked: [Option<Box<Ring>>; 3] = [None, None, None];
            let mut pool = RingPool::new();
            let rest = (0..3).cycle().take(3_000).map(|connection| (connection, 200_000, false));
            for (i, read, leave) in steps.into_iter().chain(rest) {
                let mut own = parked[i].take();
                if let Some(ring) = own.take_if(|ring| !ring.is_direct()) {
                    pool.unpark(ring);
                }
                let ring = match &mut own {
                    Some(ring) => &mut **ring,
                    None => pool.large(),
                };
                let spare = ring.spare();
                let n = read.min(spare.len()).min(streams[i].len() - sent[i]);
                spare[..n].copy_from_slice(&streams[i][sent[i]..sent[i] + n]);
                sent[i] += n;
                ring.produced(n);
                loop {
                    let bytes = ring.filled();
                    let len = needed(bytes);
                    if leave || len == 0 || bytes.len() < len {
                        break;
                    }
                    prop_assert_eq!(&bytes[..len], &streams[i][parsed[i]..parsed[i] + len]);
                    parsed[i] += len;
                    ring.consume(len);
                }
                let need = needed(ring.filled());
                match own {
                    Some(ring) if ring.is_empty() => pool.recycle(ring),
                    Some(mut ring) => {
                        RingPool::expect(&mut ring, need);
                        parked[i] = Some(ring);
                    }
                    None => {
                        pool.expect_in_large(need);
                        parked[i] = pool.park();
                    }
                }
                prop_assert!(pool.large().is_empty());
            }
            for i in 0..3 {
                prop_assert_eq!(parsed[i], streams[i].len());
                prop_assert!(parked[i].is_none());
            }
        }
    }
}
