//! What has been sent and what has come: the part of the engine that a packet can change, apart from its connection.
//!
//! It knows the layout of PUBLISH and of acknowledgements, no other packet, and no sockets.
//!
//! 1. A message that comes twice, out of order, or to the wrong subscriber ends the run.
//! 2. One that never comes keeps `is_drained` false for ever; who waits for it gives up.

use midge::mqtt::{PacketType, QoS};

use crate::histogram::Histogram;
use crate::publisher::{Pacing, Publisher, STAMP_BYTES, Spread};

/// What ends a run: a sentence.
pub type Failure = String;

/// Which messages a subscriber is to have.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Those of `next.len()` publishers from `first` on; of each the message with number `next` is due.
    InOrder {
        /// The first of its publishers.
        first: u32,
        /// The number due of each of them.
        next: Vec<u32>,
    },
    /// Of each publisher those on every `clients`-th topic from `index` on, each with a number of `next` or above.
    Spread {
        /// Which topic a message went to.
        spread: Spread,
        /// How many subscribers share the topics.
        clients: u32,
        /// Which of them this is.
        index: u32,
        /// The least number that may come of each publisher.
        next: Vec<u32>,
    },
    /// Each of these numbers once, in any order.
    Once {
        /// Which have come.
        seen: Vec<bool>,
    },
}

impl Expected {
    /// Takes message `number` of `sender`.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline]
    fn take(&mut self, sender: u32, number: u32) -> Result<(), Failure> {
        match self {
            Expected::InOrder { first, next } => {
                let next = next
                    .get_mut(sender.wrapping_sub(*first) as usize)
                    .ok_or("nothing of that publisher was due")?;
                if *next != number {
                    return Err(format!("due was {next}"));
                }
                *next += 1;
            }
            Expected::Spread {
                spread,
                clients,
                index,
                next,
            } => {
                let next = next
                    .get_mut(sender as usize)
                    .ok_or("nothing of that publisher was due")?;
                if spread.topic(sender, number) % *clients != *index {
                    return Err("it was for another subscriber".into());
                }
                if number < *next {
                    return Err(format!("due was {next} or above"));
                }
                *next = number + 1;
            }
            Expected::Once { seen } => {
                let seen = seen.get_mut(number as usize).ok_or("there is no such")?;
                if std::mem::replace(seen, true) {
                    return Err("it had come before".into());
                }
            }
        }
        Ok(())
    }
}

/// A subscriber.
pub struct Subscriber {
    /// How complaints call it.
    pub name: String,
    /// What it is to have.
    pub expected: Expected,
}

/// Whose connection a packet came on.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Nobody's: only its end would be noticed.
    Silent,
    /// A publisher's, by index.
    Publisher(usize),
    /// A subscriber's, by index.
    Subscriber(usize),
}

/// Messages at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When message 0 is due, on the engine's clock.
    pub start_ns: u64,
    /// From one message to the next.
    pub distance_ns: f64,
    /// Publishers that take part, in turn: the first so many.
    pub publishers: u32,
}

/// Publishers, subscribers, and the counts over all of them.
pub struct Traffic {
    /// All publishers.
    pub publishers: Vec<Publisher>,
    /// All subscribers.
    pub subscribers: Vec<Subscriber>,
    /// Publishers that may have become free to send.
    pub freed: Vec<usize>,
    /// From sending, or from being due, to arrival.
    pub latency: Histogram,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// QoS of what is published.
    pub qos: QoS,
    /// What publishers wait for.
    pub pacing: Pacing,
    /// Messages that may still be sent, by all together.
    pub budget: u64,
    /// Messages with the kernel or about to be.
    pub sent: u64,
    /// Messages that came, to all subscribers.
    pub delivered: u64,
    /// Of these, those of publishers that only disturb.
    pub flooded: u64,
    /// Messages that came to all their subscribers.
    pub arrived: u64,
    /// Messages whose exchange of acknowledgements is complete.
    pub acknowledged: u64,
    /// QoS 2 messages that came and were not released yet.
    pub unreleased: u64,
    /// The engine's clock when it last looked.
    pub now_ns: u64,
    /// Where messages leave by the clock.
    pub schedule: Option<Schedule>,
}

impl Traffic {
    /// Nobody yet; messages of `payload_bytes` at `qos`.
    pub fn new(payload_bytes: usize, qos: QoS, pacing: Pacing) -> Traffic {
        Traffic {
            publishers: Vec::new(),
            subscribers: Vec::new(),
            freed: Vec::new(),
            latency: Histogram::new(),
            payload_bytes,
            qos,
            pacing,
            budget: 0,
            sent: 0,
            delivered: 0,
            flooded: 0,
            arrived: 0,
            acknowledged: 0,
            unreleased: 0,
            now_ns: 0,
            schedule: None,
        }
    }

    /// Publisher `index` may have become free to send.
    #[inline]
    pub fn free(&mut self, index: usize) {
        if !std::mem::replace(&mut self.publishers[index].is_freed, true) {
            self.freed.push(index);
        }
    }

    /// Encodes what publisher `index` may send now, with `control` for what goes before everything else; whether that
    /// is anything.
    pub fn encode_due(&mut self, index: usize, control: &mut Vec<u8>) -> bool {
        let publisher = &mut self.publishers[index];
        publisher.is_freed = false;
        let due = u64::from(publisher.due()).min(self.budget);
        let schedule = self.schedule.filter(|_| !publisher.is_flood);
        for _ in 0..due {
            let stamp_ns = match schedule {
                // The time at which it was to be sent: a broker that holds up the generator is not forgiven for it.
                Some(schedule) => {
                    let turn = u64::from(publisher.sent) * u64::from(schedule.publishers);
                    let number = turn + index as u64;
                    schedule.start_ns + (number as f64 * schedule.distance_ns) as u64
                }
                None => self.now_ns,
            };
            publisher.put_next(stamp_ns, control);
        }
        self.budget -= due;
        self.sent += due;
        due > 0
    }

    /// Whether all that was sent has come and every exchange is complete.
    pub fn is_drained(&self) -> bool {
        self.unreleased == 0
            && (self.qos == QoS::AtMostOnce || self.acknowledged == self.sent)
            && (self.pacing == Pacing::Acknowledgements || self.arrived == self.sent)
    }

    /// What is missing, for the person who has to find out why.
    pub fn what_is_missing(&self) -> String {
        let mut text = format!(
            "{} sent, {} acknowledged, {} arrived everywhere, {} delivered, {} PUBREL did not come",
            self.sent, self.acknowledged, self.arrived, self.delivered, self.unreleased
        );
        let is_behind = |publisher: &&Publisher| {
            publisher.unwritten() > 0 || publisher.sent != publisher.arrived
        };
        for publisher in self.publishers.iter().filter(is_behind).take(5) {
            text += &format!(
                "; one publisher: {} sent, {} arrived everywhere, {} bytes not taken by the kernel",
                publisher.sent,
                publisher.arrived,
                publisher.unwritten()
            );
        }
        text
    }

    /// A PUBLISH came to subscriber `index`.
    #[inline]
    fn arrive(&mut self, index: usize, payload: &[u8]) -> Result<(), Failure> {
        let stamp: &[u8; STAMP_BYTES] = payload
            .first_chunk()
            .ok_or("PUBLISH shorter than what was sent")?;
        let (ids, stamp_ns) = stamp.split_at(8);
        let sender = u32::from_le_bytes(ids[..4].try_into().expect("4 bytes"));
        let number = u32::from_le_bytes(ids[4..].try_into().expect("4 bytes"));
        let stamp_ns = u64::from_le_bytes(stamp_ns.try_into().expect("8 bytes"));
        let subscriber = &mut self.subscribers[index];
        subscriber.expected.take(sender, number).map_err(|why| {
            format!(
                "lost, doubled or out of order: {} got message {number} of publisher {sender}, but {why}",
                subscriber.name
            )
        })?;
        self.delivered += 1;
        // What was queued or retained comes when its publisher is done.
        let Some(publisher) = self.publishers.get_mut(sender as usize) else {
            return Ok(());
        };
        match publisher.is_flood {
            true => self.flooded += 1,
            false => self.latency.record(self.now_ns.saturating_sub(stamp_ns)),
        }
        if publisher.pacing == Pacing::Arrivals && publisher.reach(number) {
            self.arrived += 1;
            self.free(sender as usize);
        }
        Ok(())
    }

    fn acknowledge(&mut self, index: usize) {
        let publisher = &mut self.publishers[index];
        publisher.acknowledged += 1;
        self.acknowledged += 1;
        if publisher.pacing == Pacing::Acknowledgements || publisher.due() > 0 {
            self.free(index);
        }
    }

    /// Handles every whole packet at the front of `bytes`, which came to `role`; answers go to `control`. The number
    /// counts their bytes.
    ///
    /// # Errors
    /// What ends the run.
    pub fn scan(
        &mut self,
        role: Role,
        bytes: &[u8],
        control: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let mut at = 0;
        while let Some((first, body_at, end)) = whole_packet(&bytes[at..])? {
            let body = &bytes[at + body_at..at + end];
            at += end;
            match (PacketType::of(first), role) {
                (Some(PacketType::Publish), Role::Subscriber(index)) => {
                    self.take_publish(index, first, body, control)?;
                }
                (Some(PacketType::Pubrel), Role::Subscriber(_)) => {
                    answer(PacketType::Pubcomp, acknowledged(body)?, control);
                    self.unreleased = self.unreleased.saturating_sub(1);
                }
                (Some(PacketType::Puback | PacketType::Pubcomp), Role::Publisher(index)) => {
                    acknowledged(body)?;
                    self.acknowledge(index);
                }
                (Some(PacketType::Pubrec), Role::Publisher(_)) => {
                    answer(PacketType::Pubrel, acknowledged(body)?, control);
                }
                (kind, _) => {
                    let front = &body[..body.len().min(32)];
                    return Err(format!(
                        "unexpected packet {kind:?} ({first:02X}): {front:02X?}"
                    ));
                }
            }
        }
        Ok(at)
    }

    #[inline]
    fn take_publish(
        &mut self,
        index: usize,
        first: u8,
        body: &[u8],
        control: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let qos = first >> 1 & 0b11;
        let topic_bytes = match body {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err("PUBLISH without a topic".into()),
        };
        let least = 2 + topic_bytes + if qos > 0 { 2 } else { 0 };
        let payload_at = body
            .len()
            .checked_sub(self.payload_bytes)
            .filter(|at| *at >= least)
            .ok_or("PUBLISH shorter than what was sent")?;
        if qos > 0 {
            let kind = match qos {
                1 => PacketType::Puback,
                _ => PacketType::Pubrec,
            };
            let packet_id = [body[2 + topic_bytes], body[3 + topic_bytes]];
            answer(kind, packet_id, control);
            self.unreleased += u64::from(qos == 2);
        }
        self.arrive(index, &body[payload_at..])
    }
}

#[inline]
fn answer(kind: PacketType, packet_id: [u8; 2], control: &mut Vec<u8>) {
    control.extend_from_slice(&[kind.first_byte(), 2, packet_id[0], packet_id[1]]);
}

/// The Packet Identifier of an acknowledgement, unless it says that something failed.
fn acknowledged(body: &[u8]) -> Result<[u8; 2], Failure> {
    match *body {
        [high, low] => Ok([high, low]),
        [high, low, reason, ..] if reason < 0x80 => Ok([high, low]),
        _ => Err(format!("refused: {body:02X?}")),
    }
}

/// First byte, start of the body and end of the packet at the front of `bytes`, once all of it is there.
#[inline]
fn whole_packet(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Failure> {
    let mut remaining_length = 0;
    for index in 1..=4 {
        let Some(&byte) = bytes.get(index) else {
            return Ok(None);
        };
        remaining_length |= usize::from(byte & 0x7F) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            let end = index + 1 + remaining_length;
            return Ok((bytes.len() >= end).then_some((bytes[0], index + 1, end)));
        }
    }
    Err("remaining length of more than four bytes".into())
}
