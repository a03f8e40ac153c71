//! A publisher: its messages lie encoded in a ring and are patched in place, so that sending one costs no allocation
//! and copies no payload.
//!
//! 1. The ring has at least `window` slots of one packet each. Sending patches sequence number, time stamp, Packet
//!    Identifier and the digits of a topic; the socket is given as long a run of slots as are due.
//! 2. A slot is patched again only when its last message is known to have left: it has arrived or was acknowledged.
//! 3. Every payload starts with publisher (u32), sequence number (u32) and time stamp (u64), little-endian.

use midge::mqtt::{PacketId, Property, PropertyBuffer, ProtocolVersion, PublishHeader, QoS};

/// Bytes at the front of every payload: publisher, number and time stamp.
pub const STAMP_BYTES: usize = 16;

/// Digits of the number in a topic, where topics differ.
pub const TOPIC_DIGITS: usize = 8;

/// The Topic Alias where one is used.
const ALIAS: u16 = 1;

/// What lets a publisher send its next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// An earlier one has arrived at all its subscribers.
    Arrivals,
    /// The broker has acknowledged an earlier one; needs QoS 1 or 2.
    Acknowledgements,
}

/// Which of many topics a message goes to: all in turn, neighbours far apart.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// How many topics there are.
    pub topics: u32,
    /// How many publishers share them.
    pub publishers: u32,
}

impl Spread {
    /// A prime, so that a round visits each topic once whatever their number is (but a multiple of it).
    const STEP: u64 = 7919;

    /// The topic of message `number` of `publisher`.
    pub fn topic(self, publisher: u32, number: u32) -> u32 {
        let all = u64::from(number) * u64::from(self.publishers) + u64::from(publisher);
        (all * Spread::STEP % u64::from(self.topics)) as u32
    }
}

/// The Topic Names of a publisher's messages.
#[derive(Clone, Debug)]
pub enum Topics {
    /// One for all.
    Same(String),
    /// Number by number, with [`TOPIC_DIGITS`] digits between these two.
    Numbered {
        /// What stands before the number.
        before: String,
        /// What stands behind it.
        after: &'static str,
        /// Not the number of the message but that of a topic.
        spread: Option<Spread>,
    },
}

/// How a publisher's messages look.
#[derive(Clone, Debug)]
pub struct Messages {
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// Where to.
    pub topics: Topics,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Whether User Property, Content Type and Message Expiry Interval are given.
    pub has_properties: bool,
    /// Whether all but the first have a Topic Alias instead of the topic.
    pub has_alias: bool,
    /// Length of the payload in bytes.
    pub payload_bytes: usize,
}

/// One publisher.
pub struct Publisher {
    /// Its connection's key.
    pub connection: usize,
    /// What it waits for.
    pub pacing: Pacing,
    /// Whether it is not measured but there to disturb.
    pub is_flood: bool,
    /// Whether it is on the list of those that may be free to send.
    pub is_freed: bool,
    index: u32,
    ring: Vec<u8>,
    /// With a Topic Alias, message 0, which has the topic.
    first: Option<Slot>,
    slot: Slot,
    slot_mask: u32,
    spread: Option<Spread>,
    /// Bytes of the ring before this offset are with the kernel; `unwritten` bytes from here on are not yet.
    written_at: usize,
    unwritten: usize,
    window: u32,
    receive_maximum: u32,
    /// Messages that may have been sent by now, by the clock or the end of the run.
    pub allowed: u32,
    /// Messages that are with the kernel or about to be.
    pub sent: u32,
    /// Messages whose exchange of acknowledgements is complete.
    pub acknowledged: u32,
    /// Messages that all their subscribers got.
    pub arrived: u32,
    /// Subscribers that each message must reach, and for the messages on their way how many it has reached.
    subscribers: u32,
    reached: Vec<u32>,
}

/// A packet and the places in it that differ from message to message.
struct Slot {
    packet: Vec<u8>,
    topic_digits_at: Option<usize>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl Slot {
    /// `with_topic` says whether the topic stands there where an alias does, too.
    fn new(index: u32, messages: &Messages, with_topic: bool) -> Slot {
        let mut properties = PropertyBuffer::new();
        if messages.has_properties {
            properties.push(Property::ContentType("application/octet-stream"));
            properties.push(Property::UserProperty(("origin", "load")));
        }
        let (topic, after) = match &messages.topics {
            Topics::Same(topic) => (topic.clone(), None),
            Topics::Numbered { before, after, .. } => {
                (format!("{before}{:0TOPIC_DIGITS$}{after}", 0), Some(after))
            }
        };
        let header = PublishHeader {
            dup: false,
            qos: messages.qos,
            retain: messages.retain,
            topic: if with_topic { &topic } else { "" },
            packet_id: (messages.qos != QoS::AtMostOnce).then_some(PacketId::FIRST),
            passed_on: properties.as_properties().as_bytes(),
            message_expiry_seconds: messages.has_properties.then_some(3600),
            topic_alias: messages.has_alias.then_some(ALIAS),
            subscription_identifiers: &[],
            payload_length: messages.payload_bytes,
        };
        let mut packet = Vec::new();
        let packet_id_at = header.encode(messages.version, &mut packet);
        let payload_at = packet.len();
        packet.extend_from_slice(&index.to_le_bytes());
        packet.resize(payload_at + messages.payload_bytes, b'.');
        Slot {
            packet,
            // The Packet Identifier, or what would follow it, comes right behind the topic.
            topic_digits_at: after.map(|after| packet_id_at - after.len() - TOPIC_DIGITS),
            packet_id_at: header.packet_id.map(|_| packet_id_at),
            payload_at,
        }
    }

    /// Makes `packet`, a copy of this one, message `number`.
    #[inline]
    fn patch(&self, packet: &mut [u8], number: u32, topic: u32, stamp_ns: u64) {
        if let Some(at) = self.packet_id_at {
            // 1 to 65,535, then from 1 again: never 0 [MQTT-2.2.1-3]; the window is below half of that.
            let packet_id = (number % u32::from(u16::MAX)) as u16 + 1;
            packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(at) = self.topic_digits_at {
            let mut rest = topic;
            for digit in packet[at..at + TOPIC_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        let payload = &mut packet[self.payload_at..];
        payload[4..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&stamp_ns.to_le_bytes());
    }
}

impl Publisher {
    /// Publisher `index` of `messages`, each for `subscribers` subscribers.
    pub fn new(index: u32, messages: &Messages, pacing: Pacing, window: u32) -> Publisher {
        let slots = window.next_power_of_two();
        let slot = Slot::new(index, messages, !messages.has_alias);
        Publisher {
            connection: usize::MAX,
            pacing,
            is_flood: false,
            is_freed: false,
            index,
            ring: slot.packet.repeat(slots as usize),
            first: messages.has_alias.then(|| Slot::new(index, messages, true)),
            slot,
            slot_mask: slots - 1,
            spread: match messages.topics {
                Topics::Same(_) => None,
                Topics::Numbered { spread, .. } => spread,
            },
            written_at: 0,
            unwritten: 0,
            window,
            receive_maximum: u32::MAX,
            allowed: u32::MAX,
            sent: 0,
            acknowledged: 0,
            arrived: 0,
            subscribers: 1,
            reached: vec![0; slots as usize],
        }
    }

    /// How many subscribers each message must reach.
    pub fn set_subscribers(&mut self, subscribers: u32) {
        self.subscribers = subscribers;
    }

    /// How many exchanges at QoS 1 and 2 the broker lets it have open.
    pub fn set_receive_maximum(&mut self, receive_maximum: u16) {
        if self.slot.packet_id_at.is_some() {
            self.receive_maximum = self.receive_maximum.min(receive_maximum.into());
        }
    }

    /// Messages that may be sent now.
    pub fn due(&self) -> u32 {
        let unfinished = match self.pacing {
            Pacing::Arrivals => self.sent - self.arrived,
            Pacing::Acknowledgements => self.sent - self.acknowledged,
        };
        let unacknowledged = match self.slot.packet_id_at {
            Some(_) => self.sent - self.acknowledged,
            None => 0,
        };
        (self.allowed - self.sent)
            .min(self.window.saturating_sub(unfinished))
            .min(self.receive_maximum.saturating_sub(unacknowledged))
    }

    /// Puts the next message behind what waits to be written; the very first one with an alias goes to `control`.
    #[inline]
    pub fn put_next(&mut self, stamp_ns: u64, control: &mut Vec<u8>) {
        let number = self.sent;
        self.sent += 1;
        let topic = match self.spread {
            Some(spread) => spread.topic(self.index, number),
            None => number,
        };
        let mut place = number;
        if let Some(first) = &self.first {
            if number == 0 {
                let at = control.len();
                control.extend_from_slice(&first.packet);
                first.patch(&mut control[at..], number, topic, stamp_ns);
                return;
            }
            place -= 1;
        }
        let packet_bytes = self.slot.packet.len();
        let at = (place & self.slot_mask) as usize * packet_bytes;
        let packet = &mut self.ring[at..at + packet_bytes];
        self.slot.patch(packet, number, topic, stamp_ns);
        self.unwritten += packet_bytes;
    }

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

    /// The rest of a message begun, then the messages behind it up to the end of the ring, then those from its start.
    pub fn unwritten_parts(&self) -> [&[u8]; 3] {
        let packet_bytes = self.slot.packet.len();
        let head_bytes = match self.written_at % packet_bytes {
            0 => 0,
            into_message => (packet_bytes - into_message).min(self.unwritten),
        };
        let from = self.written_at + head_bytes;
        let whole = self.unwritten - head_bytes;
        let first_bytes = whole.min(self.ring.len() - from);
        [
            &self.ring[self.written_at..from],
            &self.ring[from..from + first_bytes],
            &self.ring[..whole - first_bytes],
        ]
    }

    /// The kernel has `bytes` more of the ring.
    pub fn wrote(&mut self, bytes: usize) {
        self.unwritten -= bytes;
        self.written_at = (self.written_at + bytes) % self.ring.len();
    }

    /// Bytes that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.unwritten
    }
}
