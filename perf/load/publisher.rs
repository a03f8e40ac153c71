//! One publisher: its messages, ready to be sent, and how far each has come.
//!
//! 1. Messages lie encoded in a ring of at least `window` slots. Sending one patches its number, time stamp and Packet
//!    Identifier in place; the socket is given as long a run of slots as are due.
//! 2. A slot is patched again only when its last message is known to have left: it has arrived or was acknowledged.

use midge::mqtt::{PacketId, ProtocolVersion, PublishHeader, QoS};

/// Digits of the number in a topic, where messages have several topics.
pub const TOPIC_DIGITS: usize = 8;

/// The alias of every topic that is sent by alias.
pub const ALIAS: u16 = 1;

/// What MQTT 5 messages carry with `--properties`: Content Type `text/plain` and User Property `unit` = `celsius`.
const PASSED_ON: &[u8] = b"\x03\x00\x0atext/plain\x26\x00\x04unit\x00\x07celsius";

/// What lets a publisher send its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// An earlier one has arrived at all its subscribers.
    Arrivals,
    /// The broker has acknowledged an earlier one; needs QoS 1 or 2.
    Acknowledgements,
}

/// How a publisher's messages look.
#[derive(Clone, Debug)]
pub struct Messages {
    /// The Topic Name.
    pub topic: String,
    /// Where messages have several topics, how many: the above, a slash, a number below this, and `topic_end`.
    pub topics: Option<u32>,
    /// What follows the number.
    pub topic_end: &'static str,
    /// Whether the topic is not sent, but its alias [`ALIAS`].
    pub by_alias: bool,
    /// Whether they have properties of MQTT 5.
    pub properties: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Length of the payload in bytes.
    pub payload_bytes: usize,
}

/// A publisher.
pub struct Publisher {
    /// Its connection.
    pub connection: usize,
    pub pacing: Pacing,
    pub ring: Vec<u8>,
    packet_bytes: usize,
    slot_mask: u32,
    topics: u32,
    topic_digits_at: Option<usize>,
    pub packet_id_at: Option<usize>,
    payload_at: usize,
    /// Bytes of the ring before this offset are with the kernel; `unwritten` bytes from here on are not yet.
    pub written_at: usize,
    pub unwritten: usize,
    pub window: u32,
    receive_maximum: u32,
    /// Messages that may have been sent by now, by the clock or the end of the run.
    pub allowed: u32,
    pub sent: u32,
    pub acknowledged: u32,
    pub arrived: u32,
    /// Subscribers that each message must reach, and for the messages on their way how many it has reached.
    subscribers: u32,
    reached: Vec<u32>,
}

impl Publisher {
    /// The publisher number `index` of `messages`, `window` of them under way at a time, each for `subscribers` subscribers.
    pub fn new(
        index: u32,
        connection: usize,
        messages: &Messages,
        pacing: Pacing,
        (window, receive_maximum): (u32, u16),
        subscribers: u32,
        version: ProtocolVersion,
    ) -> Publisher {
        let slots = window.next_power_of_two();
        let topic = match messages.topics {
            Some(_) => format!(
                "{}/{:0TOPIC_DIGITS$}{}",
                messages.topic, 0, messages.topic_end
            ),
            None => messages.topic.clone(),
        };
        let header = PublishHeader {
            dup: false,
            qos: messages.qos,
            retain: messages.retain,
            topic: if messages.by_alias { "" } else { &topic },
            packet_id: (messages.qos != QoS::AtMostOnce).then_some(PacketId::FIRST),
            passed_on: if messages.properties { PASSED_ON } else { &[] },
            message_expiry_seconds: messages.properties.then_some(3600),
            topic_alias: messages.by_alias.then_some(ALIAS),
            subscription_identifiers: &[],
            payload_length: messages.payload_bytes,
        };
        let mut packet = Vec::new();
        let packet_id_at = header.encode(version, &mut packet);
        let payload_at = packet.len();
        packet.extend_from_slice(&index.to_le_bytes());
        packet.resize(payload_at + messages.payload_bytes, b'.');
        // The Packet Identifier, or what would follow it, comes right behind the topic.
        let digits_at = packet_id_at.checked_sub(TOPIC_DIGITS + messages.topic_end.len());
        Publisher {
            connection,
            pacing,
            packet_bytes: packet.len(),
            ring: packet.repeat(slots as usize),
            slot_mask: slots - 1,
            topics: messages.topics.unwrap_or(1),
            topic_digits_at: digits_at.filter(|_| messages.topics.is_some()),
            packet_id_at: header.packet_id.map(|_| packet_id_at),
            payload_at,
            written_at: 0,
            unwritten: 0,
            window,
            receive_maximum: match messages.qos {
                QoS::AtMostOnce => u32::MAX,
                QoS::AtLeastOnce | QoS::ExactlyOnce => receive_maximum.into(),
            },
            allowed: 0,
            sent: 0,
            acknowledged: 0,
            arrived: 0,
            subscribers,
            reached: vec![0; slots as usize],
        }
    }

    /// Messages that may be sent now.
    pub fn due(&self) -> u32 {
        let unfinished = match self.pacing {
            Pacing::Arrivals => self.sent - self.arrived,
            Pacing::Acknowledgements => self.sent - self.acknowledged,
        };
        let unacknowledged = match self.packet_id_at {
            Some(_) => self.sent - self.acknowledged,
            None => 0,
        };
        (self.allowed - self.sent)
            .min(self.window - unfinished)
            .min(self.receive_maximum.saturating_sub(unacknowledged))
    }

    pub fn patch_next(&mut self, stamp_ns: u64) {
        let number = self.sent;
        let slot = (number & self.slot_mask) as usize * self.packet_bytes;
        let packet = &mut self.ring[slot..slot + self.packet_bytes];
        if let Some(at) = self.packet_id_at {
            // 1 to 65,535, then from 1 again: never 0 [MQTT-2.2.1-3]; the window is below half of that.
            let packet_id = (number % u32::from(u16::MAX)) as u16 + 1;
            packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(at) = self.topic_digits_at {
            let mut rest = number % self.topics;
            for digit in packet[at..at + TOPIC_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        let payload = &mut packet[self.payload_at..];
        payload[4..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&stamp_ns.to_le_bytes());
        self.sent += 1;
        self.unwritten += self.packet_bytes;
    }
}

impl Publisher {
    /// Message `number` reached one more subscriber; whether that made it arrive at all of them.
    #[inline]
    pub fn reach(&mut self, number: u32) -> bool {
        let reached = &mut self.reached[(number & self.slot_mask) as usize];
        *reached += 1;
        if *reached < self.subscribers {
            return false;
        }
        *reached = 0;
        self.arrived += 1;
        true
    }
}

impl Publisher {
    /// The rest of a message begun, then the messages behind it up to the end of the ring, then those from its start.
    pub fn unwritten_parts(&self) -> (&[u8], &[u8], &[u8]) {
        let into_message = self.written_at % self.packet_bytes;
        let head_bytes = match into_message {
            0 => 0,
            _ => (self.packet_bytes - into_message).min(self.unwritten),
        };
        let from = self.written_at + head_bytes;
        let whole = self.unwritten - head_bytes;
        let first_bytes = whole.min(self.ring.len() - from);
        (
            &self.ring[self.written_at..from],
            &self.ring[from..from + first_bytes],
            &self.ring[..whole - first_bytes],
        )
    }
}
