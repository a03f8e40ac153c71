//! Bytes to send to one connection; knows neither sockets nor what a packet looks like.
//!
//! Small packets are copied one behind the other into one buffer. A large payload is not copied: the outbox keeps a
//! counted reference to it and the place in the buffer where it belongs, and one vectored write sends both.
//!
//! 1. `sent <= copied.len()`; the bytes before `sent` have left and are kept only until dropping them is cheap.
//! 2. Shared parts are in order of `at`, and `sent <= at <= copied.len()` for each.
//! 3. An outbox that is drained and recycled owns nothing.
//! 4. A sent prefix is dropped when it is at least as long as what follows, so every byte is moved at most once on
//!    average, and the buffer holds at most twice the unsent bytes and `SENT_BYTES_KEPT`.
//! 5. `blocked` implies that there is something to send.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

/// How many slices one vectored write takes.
pub const SLICES_MAX: usize = 64;

/// The capacity in bytes of a new buffer: several small packets.
const BUFFER_BYTES_MIN: usize = 512;

/// A buffer that grew beyond this many bytes is kept for those who need a large one: who has a few small packets is not
/// to hold it.
const BUFFER_BYTES_SMALL: usize = 64 * 1024;

/// What a buffer has at least, in bytes, that is taken for more than a small one holds. Growing there by doubling would
/// cost page faults at each step: 64 KiB payloads took twice the time.
const BUFFER_BYTES_LARGE: usize = 640 * 1024;

/// A buffer that grew beyond this many bytes is freed when it is drained, not pooled.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// How many bytes of buffers the pool keeps.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A sent prefix shorter than this many bytes is not worth moving the rest.
const SENT_BYTES_KEPT: usize = 64 * 1024;

const _: () = assert!(size_of::<Outbox>() <= 64);

/// Buffers that outboxes borrow while they have something to send.
///
/// Last in, first out: what was flushed just now is still in the cache.
#[derive(Debug, Default)]
pub struct BufferPool {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    /// The capacity of all of them.
    bytes: usize,
}

impl BufferPool {
    /// An empty pool.
    pub fn new() -> BufferPool {
        BufferPool::default()
    }

    /// An empty buffer with some capacity.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        match self.small.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(BUFFER_BYTES_MIN),
        }
    }

    /// An empty buffer with room for `bytes`, which are more than a small one has.
    #[cold]
    fn take_large(&mut self, bytes: usize) -> Vec<u8> {
        let fitting = self.large.iter().rposition(|it| it.capacity() >= bytes);
        match fitting.map(|at| self.large.swap_remove(at)) {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(bytes.max(BUFFER_BYTES_LARGE)),
        }
    }

    /// Takes a buffer back, or frees it if it is too large or the pool is full.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes == 0 || bytes > BUFFER_BYTES_MAX || self.bytes + bytes > POOL_BYTES_MAX {
            return;
        }
        buffer.clear();
        self.bytes += bytes;
        match bytes <= BUFFER_BYTES_SMALL {
            true => self.small.push(buffer),
            false => self.large.push(buffer),
        }
    }
}

/// Bytes to send.
#[derive(Default)]
pub struct Outbox {
    /// Copied bytes, and in front of them the sent ones.
    copied: Vec<u8>,
    /// How many of `copied` have left.
    sent: usize,
    /// The large payloads, if there was one since the outbox was recycled.
    shared: Option<Box<Shared>>,
    /// Set when the kernel would not take all, cleared when all is sent: until then the receiver is slow.
    pub blocked: bool,
}

/// The large payloads of an outbox that has any.
#[derive(Default)]
struct Shared {
    parts: VecDeque<Part>,
    /// Unsent bytes of all parts.
    bytes: usize,
    /// How many bytes of the first part have left.
    front_sent: usize,
}

/// One large payload.
struct Part {
    /// It goes before `copied[at]`.
    at: usize,
    payload: Rc<dyn AsRef<[u8]>>,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        (*self.payload).as_ref()
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("copied_len", &self.copied_len())
            .field("len", &self.len())
            .field("blocked", &self.blocked)
            .finish()
    }
}

impl Outbox {
    /// An empty outbox, which owns nothing.
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// The buffer to append packets to; what is in it already must stay as it is.
    #[inline]
    pub fn buffer(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.copied.capacity() == 0 {
            self.copied = pool.take();
        }
        &mut self.copied
    }

    /// The same for `bytes` that are to be appended, which may be many.
    #[inline]
    pub fn buffer_for(&mut self, bytes: usize, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.copied.len() + bytes > BUFFER_BYTES_SMALL.max(self.copied.capacity()) {
            self.enlarge(bytes, pool);
        }
        self.buffer(pool)
    }

    /// Moves to a buffer with room for `bytes` more, and for as much as there is already.
    #[cold]
    fn enlarge(&mut self, bytes: usize, pool: &mut BufferPool) {
        let room = (self.copied.len() + bytes).max(2 * self.copied.len());
        // Who does not read keeps what it has for long: it is to be no more than it needs.
        let mut larger = match self.blocked {
            true => Vec::with_capacity(room),
            false => pool.take_large(room),
        };
        larger.extend_from_slice(&self.copied);
        pool.give(std::mem::replace(&mut self.copied, larger));
    }

    /// Appends a payload without copying it: the outbox holds it until it is sent.
    pub fn push_shared(&mut self, payload: Rc<dyn AsRef<[u8]>>) {
        let bytes = (*payload).as_ref().len();
        if bytes == 0 {
            return;
        }
        let at = self.copied.len();
        let shared = self.shared.get_or_insert_default();
        shared.bytes += bytes;
        shared.parts.push_back(Part { at, payload });
    }

    /// How many bytes are to be sent, shared ones included.
    #[inline]
    pub fn len(&self) -> usize {
        self.copied_len() + self.shared.as_ref().map_or(0, |shared| shared.bytes)
    }

    /// How many copied bytes are to be sent.
    #[inline]
    pub fn copied_len(&self) -> usize {
        self.copied.len() - self.sent
    }

    /// Whether all is sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is to be sent, if it is in one piece.
    #[inline]
    pub fn contiguous(&self) -> Option<&[u8]> {
        match &self.shared {
            Some(shared) if !shared.parts.is_empty() => None,
            _ => Some(&self.copied[self.sent..]),
        }
    }

    /// Puts what is to be sent next at the front of `out`, in order and as far as there is room; returns how many slices.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        let mut push = |bytes: &'a [u8]| {
            if !bytes.is_empty() && n < out.len() {
                out[n] = IoSlice::new(bytes);
                n += 1;
            }
            n < out.len()
        };
        let mut position = self.sent;
        if let Some(shared) = &self.shared {
            let mut skip = shared.front_sent;
            for part in &shared.parts {
                if !push(&self.copied[position..part.at]) || !push(&part.bytes()[skip..]) {
                    return n;
                }
                position = part.at;
                skip = 0;
            }
        }
        push(&self.copied[position..]);
        n
    }

    /// Says that the first `n` bytes have left.
    ///
    /// # Panics
    /// If there were fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advanced {n} of {} bytes", self.len());
        let copied = match &mut self.shared {
            None => n,
            Some(shared) => shared.advance(&mut self.sent, n),
        };
        self.sent += copied;
        if self.sent == self.copied.len() && self.is_empty() {
            self.copied.clear();
            self.sent = 0;
            self.blocked = false;
        } else if self.sent >= SENT_BYTES_KEPT && self.sent >= self.copied_len() {
            self.drop_sent();
        }
    }

    /// Gives the buffer back to the pool, if all is sent.
    #[inline]
    pub fn recycle(&mut self, pool: &mut BufferPool) {
        if self.is_empty() {
            self.clear(pool);
        }
    }

    /// Throws away what is not sent, and gives the buffer back: the connection is gone.
    pub fn clear(&mut self, pool: &mut BufferPool) {
        pool.give(std::mem::take(&mut self.copied));
        self.sent = 0;
        self.shared = None;
        self.blocked = false;
    }

    /// Drops the bytes that have left from the front of the buffer, and memory that the rest has no use for.
    #[cold]
    fn drop_sent(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.copied.drain(..sent);
        if let Some(shared) = &mut self.shared {
            for part in &mut shared.parts {
                part.at -= sent;
            }
        }
        // What is about to go back to the pool is worth more whole.
        let is_kept = !self.blocked && self.copied.capacity() <= BUFFER_BYTES_MAX;
        if !is_kept && self.copied.capacity() / 4 > self.copied.len() {
            self.copied.shrink_to(2 * self.copied.len());
        }
    }
}

impl Shared {
    /// Says that `n` bytes have left, of which those that lie before or between the parts count on `sent`; returns how
    /// many more there are behind the last part that left.
    fn advance(&mut self, sent: &mut usize, mut n: usize) -> usize {
        while let Some(part) = self.parts.front() {
            let before = part.at - *sent;
            if n < before {
                return n;
            }
            *sent = part.at;
            n -= before;
            let left = part.bytes().len() - self.front_sent;
            if n < left {
                self.front_sent += n;
                self.bytes -= n;
                return 0;
            }
            n -= left;
            self.bytes -= left;
            self.front_sent = 0;
            self.parts.pop_front();
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents(outbox: &Outbox, slices_max: usize) -> (Vec<u8>, usize) {
        let mut slices = vec![IoSlice::new(&[]); slices_max];
        let n = outbox.slices(&mut slices);
        assert!(slices[..n].iter().all(|slice| !slice.is_empty()));
        (
            slices[..n]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect(),
            n,
        )
    }

    #[test]
    fn an_empty_outbox_owns_nothing() {
        let mut pool = BufferPool::new();
        let mut outbox = Outbox::new();
        outbox.buffer(&mut pool).extend(b"head");
        outbox.push_shared(Rc::new(b"payload".to_vec()));
        assert_eq!((outbox.len(), outbox.copied_len()), (11, 4));
        outbox.blocked = true;
        outbox.recycle(&mut pool);
        assert_eq!(outbox.len(), 11, "not yet sent");
        outbox.advance(11);
        assert!(outbox.is_empty() && !outbox.blocked);
        outbox.recycle(&mut pool);
        assert_eq!(outbox.copied.capacity(), 0);
        assert!(outbox.shared.is_none());
        assert_eq!((pool.small.len(), pool.bytes), (1, BUFFER_BYTES_MIN));
        assert_eq!(pool.take().capacity(), BUFFER_BYTES_MIN);
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn the_pool_is_bounded() {
        let mut pool = BufferPool::new();
        pool.give(Vec::new());
        pool.give(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        assert_eq!((pool.small.len(), pool.large.len(), pool.bytes), (0, 0, 0));
        for _ in 0..2 * POOL_BYTES_MAX / BUFFER_BYTES_MAX {
            pool.give(Vec::with_capacity(BUFFER_BYTES_MAX));
        }
        assert_eq!(pool.bytes, POOL_BYTES_MAX);
    }

    #[test]
    fn a_payload_is_let_go_when_it_is_sent() {
        let payload = Rc::new(vec![7; 1000]);
        let mut pool = BufferPool::new();
        let mut outbox = Outbox::new();
        outbox.push_shared(payload.clone());
        outbox.buffer(&mut pool).extend(b"tail");
        outbox.push_shared(Rc::new(Vec::new()));
        assert_eq!(contents(&outbox, 64).1, 2, "empty payloads are no slices");
        outbox.advance(999);
        assert_eq!(Rc::strong_count(&payload), 2);
        outbox.advance(1);
        assert_eq!(Rc::strong_count(&payload), 1);
        assert_eq!(outbox.contiguous(), Some(&b"tail"[..]));
    }

    #[test]
    fn a_sent_prefix_is_dropped() {
        let mut pool = BufferPool::new();
        let mut outbox = Outbox::new();
        let backlog = 8 * 1024 * 1024;
        outbox.buffer(&mut pool).resize(backlog, 1);
        outbox.blocked = true;
        for _ in 0..backlog / 1024 - 1 {
            outbox.advance(1024);
            assert!(outbox.sent <= outbox.copied_len().max(SENT_BYTES_KEPT));
        }
        assert!(
            outbox.copied.capacity() <= 4 * SENT_BYTES_KEPT,
            "{}",
            outbox.copied.capacity()
        );
        assert_eq!(outbox.len(), 1024);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Copy(usize),
        Share(usize),
        Send(usize, usize),
        Recycle,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![0..100usize, 0..60_000usize].prop_map(Step::Copy),
            2 => prop_oneof![0..3usize, 0..60_000usize].prop_map(Step::Share),
            3 => (prop_oneof![0..100usize, 0..150_000usize], 1..9usize)
                .prop_map(|(n, slices)| Step::Send(n, slices)),
            1 => Just(Step::Recycle),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_outbox_is_a_queue(steps in prop::collection::vec(step(), 0..100)) {
            let mut pool = BufferPool::new();
            let mut outbox = Outbox::new();
            let mut model: Vec<u8> = Vec::new();
            let mut next = 0usize;
            let mut bytes = |n: usize| -> Vec<u8> {
                next += n;
                (next - n..next).map(|i| (i % 251) as u8).collect()
            };
            for step in steps {
                match step {
                    Step::Copy(n) => {
                        let bytes = bytes(n);
                        model.extend(&bytes);
                        outbox.buffer_for(n, &mut pool).extend(bytes);
                        prop_assert!(pool.bytes <= POOL_BYTES_MAX);
                    }
                    Step::Share(n) => {
                        let bytes = bytes(n);
                        model.extend(&bytes);
                        outbox.push_shared(Rc::new(bytes));
                    }
                    Step::Send(n, slices_max) => {
                        let (front, slices) = contents(&outbox, slices_max);
                        prop_assert!(model.starts_with(&front));
                        prop_assert!(slices == slices_max || front.len() == model.len());
                        let n = n.min(front.len());
                        outbox.advance(n);
                        model.drain(..n);
                    }
                    Step::Recycle => outbox.recycle(&mut pool),
                }
                prop_assert_eq!(outbox.len(), model.len());
                prop_assert_eq!(outbox.is_empty(), model.is_empty());
                if let Some(bytes) = outbox.contiguous() {
                    prop_assert!(bytes == model);
                }
            }
            prop_assert!(contents(&outbox, 512).0 == model);
        }
    }
}
