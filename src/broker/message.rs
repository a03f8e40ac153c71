//! Application Messages: [`Message`], the one counted copy that everything stored shares, and [`Publication`], a message
//! on its way to its receivers that becomes a `Message` only when somebody has to keep it.
//!
//! 1. However many sessions, queues and outboxes wait for a message, its bytes exist once.
//! 2. A [`Tally`] knows at all times how many messages exist and how many payload bytes they hold, and which ones ceased to
//!    exist that are on disk.

use super::journal::{MessageRecord, Source};
use super::timers::Time;
use crate::mqtt::QoS;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::rc::Rc;

/// What is stored now, for $SYS.
#[derive(Debug, Default)]
pub struct Tally {
    messages: Cell<u64>,
    payload_bytes: Cell<u64>,
    /// The rows of messages that were dropped.
    dropped: RefCell<Vec<u64>>,
}

impl Tally {
    fn count(&self, payload_bytes: usize) {
        self.messages.set(self.messages.get() + 1);
        let bytes = self.payload_bytes.get() + payload_bytes as u64;
        self.payload_bytes.set(bytes);
    }

    /// The rows of the messages that were dropped since the last time.
    pub fn take_dropped(&self) -> Vec<u64> {
        self.dropped.take()
    }

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
    bytes: Bytes,
    topic_length: u16,
    properties_length: u32,
    qos: QoS,
    retain: bool,
    expires: Option<Time>,
    /// Where it is on disk.
    row: Cell<Option<NonZeroU64>>,
    tally: Rc<Tally>,
}

impl Message {
    /// The message that `record` holds, which expires then.
    pub fn restored(record: MessageRecord, expires: Option<Time>, tally: &Rc<Tally>) -> Message {
        tally.count(record.payload().len());
        Message {
            row: Cell::new(NonZeroU64::new(record.id)),
            bytes: record.bytes,
            topic_length: record.topic_length,
            properties_length: record.properties_length,
            qos: record.qos,
            retain: record.retain,
            expires,
            tally: Rc::clone(tally),
        }
    }

    /// What is stored of it in the row `id`. It expires at that time in milliseconds of Unix time.
    pub fn record(&self, id: u64, expires: Option<u64>, retained: Option<Source>) -> MessageRecord {
        MessageRecord {
            id,
            bytes: self.bytes.clone(),
            topic_length: self.topic_length,
            properties_length: self.properties_length,
            qos: self.qos,
            retain: self.retain,
            expires,
            retained,
        }
    }

    /// Where it is on disk, or is going to be with the batch just taken.
    pub fn row(&self) -> Option<u64> {
        self.row.get().map(NonZeroU64::get)
    }

    /// It is going to be there.
    pub fn set_row(&self, row: u64) {
        self.row.set(NonZeroU64::new(row));
    }

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
        if let Some(row) = self.row() {
            tally.dropped.borrow_mut().push(row);
        }
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
    /// Whether a stored session has just released it: every copy of it waits until that is committed, so that none comes
    /// twice.
    pub is_released: bool,
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
            is_released: false,
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
            is_released: false,
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
            tally.count(self.payload.len());
            Rc::new(Message {
                bytes: Bytes::from(bytes),
                topic_length: u16::try_from(self.topic.len()).expect("topics fit 16 bits"),
                properties_length: self.passed_on.len() as u32,
                qos: self.qos,
                retain: self.retain,
                expires: self.expires,
                row: Cell::new(None),
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
