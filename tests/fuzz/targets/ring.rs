//! `buffer::Ring` and its pool, shared by several connections as `net` shares them, against a queue of bytes for each.
//!
//! Packets are made here: three bytes of length, then bytes that tell where they belong. Each connection reads as
//! much as the input says, handles what is whole, and keeps the rest.

use super::Bytes;
use midge::buffer::ring::{READ_BYTES, RING_BYTES};
use midge::buffer::{Ring, RingPool};
use std::collections::VecDeque;

/// The three bytes in front of a packet.
const HEADER_BYTES: usize = 3;

/// More than fits the large ring.
const PACKET_BYTES_MAX: usize = RING_BYTES + RING_BYTES / 4;

/// What the bodies of packets are made of: no two places near each other look the same.
static PATTERN: [u8; 4093] = {
    let mut pattern = [0; 4093];
    let mut index = 0;
    while index < pattern.len() {
        pattern[index] = (index * 7 + index / 251) as u8;
        index += 1;
    }
    pattern
};

/// More than this in one run takes too long.
const SENT_BYTES_MAX: usize = 2 * PACKET_BYTES_MAX;

#[derive(Default)]
struct Connection {
    /// What the peer has sent and nobody read.
    sent: VecDeque<u8>,
    /// What was read and not handled: the model of the ring.
    unparsed: VecDeque<u8>,
    parked: Option<Box<Ring>>,
}

struct World {
    pool: RingPool,
    connections: [Connection; 3],
    /// Who has the large ring.
    holder: Option<usize>,
    /// How many bytes were sent on all of them.
    sent: usize,
}

/// Lets connections send, read and close as `bytes` say.
pub fn feed(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let capacity = bytes.u8().into();
    simple(&mut Bytes(bytes.0), capacity);
    let mut world = World {
        pool: RingPool::new(),
        connections: Default::default(),
        holder: None,
        sent: 0,
    };
    while !bytes.is_empty() {
        let step = bytes.u8();
        let at = usize::from(step & 3).min(2);
        match step >> 2 & 7 {
            0..=2 => world.send(at, bytes.u16().into()),
            3 => world.send(at, usize::from(bytes.u8()) << 13),
            4..=6 => world.read(at, bytes.u16(), bytes.u8()),
            _ => world.close(at),
        }
    }
}

/// One ring that does not grow.
fn simple(bytes: &mut Bytes<'_>, capacity: usize) {
    let mut ring = Ring::with_capacity(capacity);
    let mut model = VecDeque::new();
    let mut next = 0u8;
    while !bytes.is_empty() {
        let spare = ring.spare();
        assert_eq!(spare.len(), capacity - model.len());
        let write = usize::from(bytes.u8()).min(spare.len());
        for byte in &mut spare[..write] {
            *byte = next;
            model.push_back(next);
            next = next.wrapping_add(1);
        }
        ring.produced(write);
        let read = usize::from(bytes.u8()).min(model.len());
        ring.consume(read);
        model.drain(..read);
        assert!(ring.filled().iter().eq(model.iter()));
        assert_eq!(ring.is_empty(), model.is_empty());
    }
}

impl World {
    fn send(&mut self, at: usize, body: usize) {
        let connection = &mut self.connections[at];
        let length = (body + HEADER_BYTES).min(PACKET_BYTES_MAX);
        self.sent += length;
        if self.sent > SENT_BYTES_MAX {
            return;
        }
        let header = [(length >> 16) as u8, (length >> 8) as u8, length as u8];
        connection.sent.extend(header);
        let body = length - HEADER_BYTES;
        let start = length % 256;
        for _ in 0..body / PATTERN.len() {
            connection.sent.extend(&PATTERN);
        }
        let rest = body % PATTERN.len();
        connection
            .sent
            .extend(PATTERN.iter().cycle().skip(start).take(rest));
    }

    /// `net::Net::attach`: what another connection has in the large ring is parked.
    fn attach(&mut self, at: usize) {
        if self.connections[at]
            .parked
            .as_ref()
            .is_some_and(|own| own.is_direct())
            || self.holder == Some(at)
        {
            return;
        }
        if let Some(holder) = self.holder.replace(at) {
            self.connections[holder].parked = self.pool.park();
        }
        if let Some(own) = self.connections[at].parked.take() {
            self.pool.unpark(own);
        }
    }

    /// One read, of as much as there is, and of what was read the whole packets.
    fn read(&mut self, at: usize, max: u16, packets_max: u8) {
        if let Some(own) = self.connections[at].parked.take_if(|own| own.is_empty()) {
            self.pool.recycle(own);
        }
        self.attach(at);
        let connection = &mut self.connections[at];
        let mut parked = connection.parked.take();
        let ring = match &mut parked {
            Some(own) => own,
            None => self.pool.large(),
        };
        // Small reads, and those of many bytes.
        let max = match max & 1 {
            0 => usize::from(max >> 8),
            _ => usize::from(max) * 4,
        };
        let is_whole = (1..=ring.len()).contains(&needed(ring.filled()));
        let spare = ring.spare();
        assert!(is_whole || !spare.is_empty(), "no room, and no packet");
        let read = max
            .min(READ_BYTES)
            .min(spare.len())
            .min(connection.sent.len());
        let sent = connection.sent.make_contiguous();
        spare[..read].copy_from_slice(&sent[..read]);
        connection.unparsed.extend(&sent[..read]);
        connection.sent.drain(..read);
        ring.produced(read);
        let mut handled = 0;
        let mut promised = needed(ring.filled());
        while handled <= packets_max && (1..=ring.len()).contains(&promised) {
            let unparsed = connection.unparsed.make_contiguous();
            assert_eq!(unparsed[..promised], ring.filled()[..promised]);
            connection.unparsed.drain(..promised);
            ring.consume(promised);
            promised = needed(ring.filled());
            handled += 1;
        }
        assert_eq!(ring.filled(), connection.unparsed.make_contiguous());
        connection.parked = parked;
        self.settle(at, promised);
    }

    /// `net::Net::settle`: who has no bytes left gives its ring back.
    fn settle(&mut self, at: usize, promised: usize) {
        let connection = &mut self.connections[at];
        if let Some(own) = &mut connection.parked {
            if own.is_empty() {
                self.pool
                    .recycle(connection.parked.take().expect("it is some"));
            } else {
                RingPool::expect(own, promised);
            }
        } else if self.holder == Some(at) {
            let unparsed = self.pool.large().len();
            self.pool
                .expect_in_large(if unparsed == 0 { 0 } else { promised });
            if unparsed == 0 {
                self.holder = None;
            } else if self.pool.outgrows_large() {
                connection.parked = self.pool.park();
                self.holder = None;
            }
        }
    }

    fn close(&mut self, at: usize) {
        if self.holder == Some(at) {
            self.holder = None;
            self.pool.clear_large();
        }
        let connection = std::mem::take(&mut self.connections[at]);
        if let Some(own) = connection.parked {
            self.pool.recycle(own);
        }
    }
}

fn needed(bytes: &[u8]) -> usize {
    match bytes {
        [a, b, c, ..] => usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c),
        _ => 0,
    }
}

/// Small packets, large ones, and connections that take turns in the middle of one.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![
            16, 0, 0, 9, 16, 0xff, 0xff, 3, 1, 0, 40, 17, 5, 0, 1, 16, 2, 0, 0,
        ],
        vec![
            64, 12, 0xa0, 16, 0xff, 0xff, 0, 16, 0xff, 0xff, 0, 17, 1, 0, 0, 16, 0xff, 0xff, 0,
        ],
        vec![
            8, 12, 0x20, 13, 0x20, 16, 0x40, 1, 0, 17, 0x40, 1, 0, 18, 0, 0, 0, 16, 0xff, 1, 9, 28,
        ],
    ]
}
