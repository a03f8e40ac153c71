//! What may leave only when a batch is committed: acknowledgements, and what exactly once asks to be on disk first.
//!
//! Everything that waits stands in one line, with the number of its batch; a commit lets go from the front. Output that
//! confirms nothing does not stand in it, and is sent past it.
//!
//! 1. Who was told that something is done finds it done after a crash: PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK and CONNACK
//!    wait for the batch that holds what they confirm.
//! 2. PUBREL waits for the batch that says that PUBREC came: after it the receiver forgets the Packet Identifier, and the
//!    message must not come again under it [MQTT-4.3.3-6].
//! 3. A QoS 2 PUBLISH to a stored session waits for the batch that holds its Packet Identifier, and every copy of a message
//!    that a stored session released for the batch in which it is released: neither may come twice.
//! 4. What waits for one connection keeps its order [MQTT-4.6.0-2], [MQTT-4.6.0-3], [MQTT-4.6.0-4], [MQTT-4.6.0-6]: while
//!    something waits, further acknowledgements wait behind it, and messages that waited in the queue behind messages; and
//!    what comes while those wait, behind them.
//! 5. Nothing is sent on a connection before its CONNACK [MQTT-3.2.0-1]: while that waits, so does the whole outbox.
//! 6. What waits for a connection that ended is forgotten: its peer asks again, or never knew. However long the disk takes
//!    and however often they come again, the line is at most about twice as long as what waits for those who are there.
//! 7. What waits for one connection is bounded: answers as if they were in its outbox, PUBLISH packets of exchanges by its
//!    window, and copies without an exchange as QoS 0 is for clients that do not read.

use super::Broker;
use super::client::{Client, ClientKey, Link};
use super::deliver::Output;
use super::inflight::Delivery;
use super::pump::{send_copy, send_held};
use super::session::Session;
use super::timers::Time;
use crate::buffer::ConnectionKey;
use crate::mqtt::{Ack, PacketId, PacketType, QoS, ReasonCode};
use std::collections::VecDeque;

/// The smallest answer, in bytes.
const ACK_BYTES: u32 = 4;

/// How many of the smallest answers of one client may wait before it is not read from any more, since they have as many
/// bytes as may wait in its outbox; and how many copies of messages may wait for it.
const HELD_MAX: u32 = super::client::ANSWER_BYTES_MAX / ACK_BYTES;

/// How many entries for connections that are gone may stand in the line in any case.
const ABANDONED_MAX: usize = 1024;

/// What waits.
#[derive(Debug)]
pub enum Held {
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        /// Which of them.
        kind: PacketType,
        /// For which exchange.
        packet_id: PacketId,
        /// How it went.
        reason_code: ReasonCode,
    },
    /// SUBACK or UNSUBACK, encoded.
    Answer(Box<[u8]>),
    /// The PUBLISH of an exchange that has begun.
    Publish(PacketId),
    /// A PUBLISH without an exchange.
    Copy(Box<Delivery>),
    /// The outbox, in which CONNACK is the first packet.
    Outbox,
}

#[derive(Debug)]
struct Entry {
    batch: u64,
    connection: ConnectionKey,
    held: Held,
}

const _: () = assert!(size_of::<Entry>() <= 40);

impl Held {
    /// The bytes of an answer.
    fn answer_bytes(&self) -> u32 {
        match self {
            Held::Ack { .. } => ACK_BYTES,
            Held::Answer(answer) => u32::try_from(answer.len()).unwrap_or(u32::MAX),
            Held::Publish(_) | Held::Copy(_) | Held::Outbox => 0,
        }
    }
}

/// How much of what is for one connection waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting {
    /// Everything.
    pub all: u32,
    /// SUBACKs and UNSUBACKs.
    pub answers: u32,
    /// The bytes of everything that confirms something.
    pub answer_bytes: u32,
    /// PUBLISH packets of exchanges.
    pub publishes: u32,
    /// Copies without an exchange.
    pub copies: u32,
    /// The bytes of their payloads.
    pub copied_bytes: usize,
}

impl Waiting {
    fn add(&mut self, held: &Held) {
        self.all += 1;
        self.answers += u32::from(matches!(held, Held::Answer(_)));
        self.publishes += u32::from(matches!(held, Held::Publish(_)));
        self.answer_bytes = self.answer_bytes.saturating_add(held.answer_bytes());
        if let Held::Copy(delivery) = held {
            self.copies += 1;
            self.copied_bytes += delivery.message.payload().len();
        }
    }

    fn remove(&mut self, held: &Held) {
        self.all -= 1;
        self.answers -= u32::from(matches!(held, Held::Answer(_)));
        self.publishes -= u32::from(matches!(held, Held::Publish(_)));
        self.answer_bytes = self.answer_bytes.saturating_sub(held.answer_bytes());
        if let Held::Copy(delivery) = held {
            self.copies -= 1;
            self.copied_bytes -= delivery.message.payload().len();
        }
    }

    /// Whether messages are among it.
    #[inline]
    pub fn has_messages(&self) -> bool {
        self.publishes > 0 || self.copies > 0
    }

    /// Whether no copy more is to wait; `bytes_max` is what their payloads may have.
    pub fn is_full_of_copies(&self, bytes_max: usize) -> bool {
        self.copies >= HELD_MAX || self.copied_bytes >= bytes_max
    }
}

/// The line.
#[derive(Debug, Default)]
pub struct Gate {
    line: VecDeque<Entry>,
    /// How many entries are for connections that are gone.
    abandoned: usize,
}

impl Gate {
    /// Whether anything waits for this batch, the last one that there is.
    pub fn waits_for(&self, batch: u64) -> bool {
        self.line.back().is_some_and(|last| last.batch == batch)
    }

    fn pop(&mut self, committed: u64) -> Option<Entry> {
        match self.line.front() {
            Some(entry) if entry.batch <= committed => self.line.pop_front(),
            _ => None,
        }
    }

    /// A connection is gone for which that much waits. `is_attached` tells who is still there.
    pub fn abandon(&mut self, waiting: Waiting, is_attached: impl Fn(ConnectionKey) -> bool) {
        self.abandoned += waiting.all as usize;
        if self.abandoned > ABANDONED_MAX.max(self.line.len() / 2) {
            self.line.retain(|entry| is_attached(entry.connection));
            self.abandoned = 0;
        }
    }
}

impl Link {
    /// Lets `held` wait for `batch`.
    pub fn hold(&mut self, batch: u64, held: Held, output: &mut Output) {
        self.held.add(&held);
        let connection = self.connection;
        output.gate.line.push_back(Entry {
            batch,
            connection,
            held,
        });
    }

    /// Lets the PUBLISH of an exchange that has begun wait for `batch`; it takes its place in the window at once.
    pub fn hold_publish(&mut self, batch: u64, packet_id: PacketId, output: &mut Output) {
        self.window_used += 1;
        self.hold(batch, Held::Publish(packet_id), output);
    }

    /// The batch that an answer to the packet just handled has to wait for. A stored session waits for whatever is under
    /// way: what the packet asks for may have been done by an earlier one, of another connection.
    fn batch_of_answer(&self, session: &Session, output: &Output) -> Option<u64> {
        let batch = output.journal.pending()?;
        let waits = self.held.all > 0 || session.row.is_some() || output.journal.packet_changed();
        waits.then_some(batch)
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP when what it confirms is stored.
    pub fn acknowledge(
        &mut self,
        session: &Session,
        kind: PacketType,
        packet_id: PacketId,
        reason_code: ReasonCode,
        output: &mut Output,
    ) {
        match self.batch_of_answer(session, output) {
            None => self.send_ack(kind, packet_id, reason_code, output),
            Some(batch) => {
                let ack = Held::Ack {
                    kind,
                    packet_id,
                    reason_code,
                };
                self.hold(batch, ack, output);
            }
        }
    }

    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP now.
    pub fn send_ack(
        &mut self,
        kind: PacketType,
        packet_id: PacketId,
        reason_code: ReasonCode,
        output: &mut Output,
    ) {
        let version = self.version();
        self.answer(output, |out| {
            Ack::new(packet_id, reason_code).encode(kind, version, out)
        });
    }

    /// The batch that the PUBLISH of a message which just came waits for. `is_released` says that a stored session just
    /// released it.
    #[inline]
    pub fn batch_of_publish(
        &mut self,
        session: &Session,
        qos: QoS,
        is_released: bool,
        output: &Output,
    ) -> Option<u64> {
        let is_stored = qos == QoS::ExactlyOnce && session.row.is_some();
        let batch = match is_stored {
            // Its identifier is not in the journal yet, or came there just now.
            true => output.journal.next_batch(),
            false => output.journal.pending()?,
        };
        let is_behind = !output.journal.is_committed(self.queue_waits_for);
        if is_behind {
            self.queue_waits_for = batch;
        }
        (is_released || is_behind || is_stored).then_some(batch)
    }

    /// The batch that the PUBLISH of the message which has waited longest in the queue waits for.
    pub fn batch_of_queued(&mut self, session: &Session, qos: QoS, output: &Output) -> Option<u64> {
        let is_stored = qos == QoS::ExactlyOnce && session.row.is_some();
        let has_messages = self.held.has_messages();
        let batch = match (is_stored, output.journal.pending()) {
            (true, _) => output.journal.next_batch(),
            (false, Some(batch)) => batch,
            // What waited for the last commit is on its way out.
            (false, None) if has_messages => output.journal.last_committed(),
            (false, None) => return None,
        };
        let is_behind = has_messages || !output.journal.is_committed(session.queue.released_in());
        if is_behind {
            self.queue_waits_for = batch;
        }
        (is_behind || is_stored).then_some(batch)
    }

    /// Lets the outbox, which begins with CONNACK, wait for what CONNECT changed.
    pub fn hold_connack(&mut self, session: &Session, output: &mut Output) {
        if let Some(batch) = self.batch_of_answer(session, output) {
            self.is_held = true;
            // What an earlier connection released may wait for it, too.
            self.released_in = batch;
            // To those who send to it, it is a client that does not read yet.
            self.outbox.blocked = true;
            self.hold(batch, Held::Outbox, output);
        }
    }
}

impl Broker {
    /// Encodes SUBACK or UNSUBACK for `key`, and sends it when what it confirms is stored.
    pub(super) fn confirm(
        &mut self,
        key: ClientKey,
        encode: impl FnOnce(crate::mqtt::ProtocolVersion, &mut Vec<u8>),
    ) {
        let Client {
            session,
            link: Some(link),
        } = &mut self.clients[key]
        else {
            return;
        };
        let version = link.version();
        match link.batch_of_answer(session, &self.output) {
            None => link.answer(&mut self.output, |out| encode(version, out)),
            Some(batch) => {
                let mut answer = Vec::new();
                encode(version, &mut answer);
                link.hold(batch, Held::Answer(answer.into()), &mut self.output);
            }
        }
    }

    /// The oldest batch that was taken is on disk: what waited for it leaves.
    pub fn committed(&mut self, now: Time) {
        let committed = self.output.journal.committed();
        self.release_until(committed, now);
    }

    /// Every batch that was taken is on disk.
    pub fn all_committed(&mut self, now: Time) {
        let committed = self.output.journal.all_committed();
        self.release_until(committed, now);
    }

    fn release_until(&mut self, committed: u64, now: Time) {
        while let Some(entry) = self.output.gate.pop(committed) {
            match self.clients.by_connection(entry.connection) {
                Some(key) => self.release(key, entry.held, now),
                None => {
                    let abandoned = &mut self.output.gate.abandoned;
                    *abandoned = abandoned.saturating_sub(1);
                }
            }
        }
        if self.output.gate.line.is_empty() && self.output.gate.line.capacity() > HELD_MAX as usize
        {
            self.output.gate.line = VecDeque::new();
        }
        self.drop_unanswerable(false, now);
    }

    fn release(&mut self, key: ClientKey, held: Held, now: Time) {
        let Client {
            session,
            link: Some(link),
        } = &mut self.clients[key]
        else {
            return;
        };
        if link.is_congested() {
            // What it sent meanwhile waits unread because of us.
            link.last_packet = now;
        }
        link.held.remove(&held);
        let output = &mut self.output;
        match held {
            Held::Ack {
                kind,
                packet_id,
                reason_code,
            } => {
                link.send_ack(kind, packet_id, reason_code, output);
            }
            Held::Answer(answer) => {
                link.answer(output, |out| out.extend_from_slice(&answer));
                self.replay(key, now);
            }
            Held::Publish(packet_id) => {
                if !send_held(session, link, packet_id, output, now) {
                    // Its place is free, and no acknowledgement is going to say so.
                    self.pump(key, now);
                }
            }
            Held::Copy(delivery) => send_copy(session, link, &delivery, output, now),
            Held::Outbox => {
                link.is_held = false;
                output.mark_dirty(link);
            }
        }
    }
}

#[cfg(test)]
mod tests;
