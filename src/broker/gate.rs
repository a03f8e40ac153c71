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
//! 4. What waits for one connection keeps its order [MQTT-4.6.0-2], [MQTT-4.6.0-3], [MQTT-4.6.0-4]: while something waits,
//!    further acknowledgements wait behind it.
//! 5. Nothing is sent on a connection before its CONNACK [MQTT-3.2.0-1]: while that waits, so does the whole outbox.
//! 6. What waits for a connection that ended is forgotten: its peer asks again, or never knew.

use super::Broker;
use super::client::{Client, ClientKey, Link};
use super::deliver::{Output, send_held};
use super::inflight::Delivery;
use super::session::Session;
use super::timers::Time;
use crate::buffer::ConnectionKey;
use crate::mqtt::{Ack, PacketId, PacketType, QoS, ReasonCode};
use std::collections::VecDeque;

/// How many answers of one client may wait before it is not read from any more: with the smallest ones, as many bytes as
/// may wait in its outbox.
pub(super) const HELD_MAX: u32 = super::client::ANSWER_BYTES_MAX / 4;

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

/// The line.
#[derive(Debug, Default)]
pub struct Gate {
    line: VecDeque<Entry>,
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
}

impl Link {
    /// Lets `held` wait for `batch`.
    pub fn hold(&mut self, batch: u64, held: Held, output: &mut Output) {
        self.held += 1;
        self.held_answers += u32::from(matches!(held, Held::Answer(_)));
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
        let waits = self.held > 0 || session.row.is_some() || output.journal.packet_changed();
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

    /// Lets the outbox, which begins with CONNACK, wait for what CONNECT changed.
    pub fn hold_connack(&mut self, session: &Session, output: &mut Output) {
        if let Some(batch) = self.batch_of_answer(session, output) {
            self.is_held = true;
            // To those who send to it, it is a client that does not read yet.
            self.outbox.blocked = true;
            self.hold(batch, Held::Outbox, output);
        }
    }
}

/// The batch that a PUBLISH to `session` waits for. `is_released` says that a stored session just released its message.
#[inline]
pub fn batch_of_publish(
    session: &Session,
    qos: QoS,
    is_released: bool,
    output: &Output,
) -> Option<u64> {
    let batch = output.journal.pending()?;
    let waits = is_released || (qos == QoS::ExactlyOnce && session.row.is_some());
    waits.then_some(batch)
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
            if let Some(key) = self.clients.by_connection(entry.connection) {
                self.release(key, entry.held, now);
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
        link.held -= 1;
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
                link.held_answers -= 1;
                link.answer(output, |out| out.extend_from_slice(&answer));
                self.replay(key, now);
            }
            Held::Publish(packet_id) => {
                if !send_held(session, link, packet_id, output, now) {
                    self.pump(key, now);
                }
            }
            Held::Copy(delivery) => {
                super::deliver::send_copy(session, link, &delivery, output, now)
            }
            Held::Outbox => {
                link.is_held = false;
                output.mark_dirty(link);
            }
        }
    }
}
