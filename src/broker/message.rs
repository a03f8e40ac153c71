//! Application Messages: [`Message`], the one counted copy that everything stored shares, and [`Publication`], a message
//! on its way to its receivers that becomes a `Message` only when somebody has to keep it.
//!
//! 1. However many sessions, queues and outboxes wait for a message, its bytes exist once.
//! 2. A [`Tally`] knows at all times how many messages exist and how many payload bytes they hold.

use super::timers::Time;
use crate::mqtt::QoS;
use std::cell::Cell;
use std::rc::Rc;

/// What is stored now, for $SYS.
#[derive(Debug, Default)]
pub struct Tally {
    messages: Cell<u64>,
    payload_bytes: Cell<u64>,
}

impl Tally {
    /// How many messages exist.
    pub fn messages(&self) -> u64 {
        self.messages.get()
    }

    /// How many bytes of payload they hold.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes.get()
    }
}

/// A stored Application Message.
#[derive(Debug)]
pub struct Message {
    /// Topic Name, properties that are passed on, and payload, one behind the other.
    bytes: Box<[u8]>,
    topic_length: u16,
    properties_length: u32,
    qos: QoS,
    retain: bool,
    expires: Option<Time>,
    tally: Rc<Tally>,
}

impl Message {
    /// The Topic Name.
    pub fn topic(&self) -> &str {
        let bytes = &self.bytes[..self.topic_length.into()];
        std::str::from_utf8(bytes).expect("was a str when the message was made")
    }

    /// The properties that are passed on, as on the wire.
    pub fn passed_on(&self) -> &[u8] {
        let start = usize::from(self.topic_length);
        &self.bytes[start..start + self.properties_length as usize]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.topic_length) + self.properties_length as usize..]
    }

    /// The QoS it was published with.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// When its Message Expiry Interval runs out.
    pub fn expires(&self) -> Option<Time> {
        self.expires
    }

    /// Whether its Message Expiry Interval has run out [MQTT-3.3.2-5].
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let tally = &self.tally;
        tally.messages.set(tally.messages.get() - 1);
        tally
            .payload_bytes
            .set(tally.payload_bytes.get() - self.payload().len() as u64);
    }
}

/// The payload, for the outboxes that refer to it.
impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

/// A message on its way: borrowed from the publisher's ring, or from a stored message.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// The properties that are passed on, as on the wire.
    pub passed_on: &'a [u8],
    /// The QoS it was published with.
    pub qos: QoS,
    /// RETAIN as it was published.
    pub retain: bool,
    /// When its Message Expiry Interval runs out.
    pub expires: Option<Time>,
    stored: Option<Rc<Message>>,
}

impl<'a> Publication<'a> {
    /// A message without properties that nobody stored yet.
    pub fn new(topic: &'a str, payload: &'a [u8], qos: QoS, retain: bool) -> Publication<'a> {
        Publication {
            topic,
            payload,
            passed_on: &[],
            qos,
            retain,
            expires: None,
            stored: None,
        }
    }

    /// The message that `stored` keeps.
    pub fn of(stored: &'a Rc<Message>) -> Publication<'a> {
        Publication {
            topic: stored.topic(),
            payload: stored.payload(),
            passed_on: stored.passed_on(),
            qos: stored.qos,
            retain: stored.retain,
            expires: stored.expires,
            stored: Some(Rc::clone(stored)),
        }
    }

    /// Whether a stored copy exists.
    pub fn is_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// The one stored copy, made when it is first asked for.
    pub fn stored(&mut self, tally: &Rc<Tally>) -> &Rc<Message> {
        self.stored.get_or_insert_with(|| {
            let length = self.topic.len() + self.passed_on.len() + self.payload.len();
            let mut bytes = Vec::with_capacity(length);
            bytes.extend_from_slice(self.topic.as_bytes());
            bytes.extend_from_slice(self.passed_on);
            bytes.extend_from_slice(self.payload);
            tally.messages.set(tally.messages.get() + 1);
            tally
                .payload_bytes
                .set(tally.payload_bytes.get() + self.payload.len() as u64);
            Rc::new(Message {
                bytes: bytes.into_boxed_slice(),
                topic_length: u16::try_from(self.topic.len()).expect("topics fit 16 bits"),
                properties_length: self.passed_on.len() as u32,
                qos: self.qos,
                retain: self.retain,
                expires: self.expires,
                tally: Rc::clone(tally),
            })
        })
    }
}

/// Seconds left of a Message Expiry Interval, to be sent on [MQTT-3.3.2-6]; a part of a second counts as one, so that
/// nothing leaves with 0.
pub fn remaining_seconds(expires: Option<Time>, now: Time) -> Option<u32> {
    let left = expires?.saturating_sub(now);
    let seconds = left.as_millis().div_ceil(1000).max(1);
    Some(seconds.try_into().unwrap_or(u32::MAX))
}
