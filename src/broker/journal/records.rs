//! What a batch has: plain data that goes to the store, and comes back at the start. Knows neither what gathers it nor what
//! keeps it.
//!
//! Times are milliseconds of Unix time, since the broker's own begin anew with each process; and of a clock that goes on when
//! the system's is set, see [`Batch::clock_ahead`].

use crate::mqtt::QoS;
use bytes::Bytes;

/// Everything that changed since the batch before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Sessions that began or changed.
    pub sessions: Vec<SessionRecord>,
    /// Messages that something new refers to.
    pub messages: Vec<MessageRecord>,
    /// Stored messages that became the retained message of their topic, and who published them.
    pub retained: Vec<(u64, Source)>,
    /// Stored messages that are retained no more, though something else still refers to them.
    pub unretained: Vec<u64>,
    /// Messages on their way to a session, in their order.
    pub deliveries: Vec<DeliveryRecord>,
    /// Stored deliveries whose exchange went on: with their Packet Identifiers, and whether PUBREC came.
    pub progress: Vec<(u64, u16, bool)>,
    /// QoS 2 messages that were received and not released.
    pub received: Vec<ReceivedRecord>,
    /// Subscriptions that were made or replaced.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// By how many milliseconds the system's clock is ahead of the one that all times are of, if that is another number than
    /// before; see [`Clocks`](crate::broker::Clocks).
    pub clock_ahead: Option<i64>,
    /// What is to be removed; it goes before everything else.
    pub removed: Removed,
}

/// What a batch removes, by the identifiers of its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Sessions, with their subscriptions.
    pub sessions: Vec<u64>,
    /// Messages.
    pub messages: Vec<u64>,
    /// Deliveries.
    pub deliveries: Vec<u64>,
    /// QoS 2 messages that were released.
    pub received: Vec<u64>,
    /// Subscriptions, by session and filter.
    pub subscriptions: Vec<(u64, String)>,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Batch::default()
    }
}

/// A session (4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its row.
    pub id: u64,
    /// The Client Identifier, which no other session has.
    pub client_id: String,
    /// Who the last CONNECT came from.
    pub owner: Owner,
    /// Session Expiry Interval in seconds; 0 ends with the connection, `u32::MAX` never.
    pub expiry_seconds: u32,
    /// When it ends; `None` while it is connected, or for ever.
    pub ends: Option<u64>,
    /// The Will Message.
    pub will: Option<WillRecord>,
    /// When the Will Message is due; `None` while the session is connected.
    pub will_due: Option<u64>,
    /// The Packet Identifier to be used next.
    pub next_packet_id: u16,
}

/// Who a session belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The User Name, of CONNECT or of the certificate.
    pub user_name: Option<String>,
    /// How the name was proven.
    pub proof: ProofKind,
    /// The port of the listener they came through; 0 for a Unix socket.
    pub listener_port: u16,
}

/// How it is known that somebody is who they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProofKind {
    /// It is not.
    #[default]
    None = 0,
    /// By a password.
    Password = 1,
    /// By a certificate.
    Certificate = 2,
}

/// A Will Message (3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// The row of the message.
    pub message: u64,
    /// Will Delay Interval.
    pub delay_seconds: u32,
    /// Message Expiry Interval, which begins when it is published.
    pub message_expiry_seconds: Option<u32>,
}

/// An Application Message, once for all that refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    /// Its row.
    pub id: u64,
    /// Topic Name, properties that are passed on, and payload, one behind the other.
    pub bytes: Bytes,
    /// How many of `bytes` are the Topic Name.
    pub topic_length: u16,
    /// How many bytes behind it are properties, as on the wire and without their length.
    pub properties_length: u32,
    /// The QoS it was published with.
    pub qos: QoS,
    /// RETAIN as it was published.
    pub retain: bool,
    /// When its Message Expiry Interval runs out.
    pub expires: Option<u64>,
    /// Who published it, where it is the retained message of its topic.
    pub retained: Option<Source>,
}

impl MessageRecord {
    /// The Topic Name.
    pub fn topic(&self) -> &[u8] {
        &self.bytes[..self.topic_length.into()]
    }

    /// The properties that are passed on.
    pub fn properties(&self) -> &[u8] {
        let start = usize::from(self.topic_length);
        &self.bytes[start..start + self.properties_length as usize]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.topic_length) + self.properties_length as usize..]
    }
}

/// Who published a retained message, for `check_retain_source`; the broker itself where there is no Client Identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// Their Client Identifier.
    pub client_id: Option<String>,
    /// Who they were.
    pub owner: Owner,
}

/// A message on its way to one session: it waits, or its exchange is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Its row. In a session they grow in the order of delivery.
    pub id: u64,
    /// The row of the session.
    pub session: u64,
    /// The row of the message; `None` when PUBREC came for it, and PUBCOMP is waited for.
    pub message: Option<u64>,
    /// The Packet Identifier it was sent with; 0 while it waits.
    pub packet_id: u16,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// RETAIN of this delivery.
    pub retain: bool,
    /// The Subscription Identifiers of the subscriptions it is for.
    pub identifiers: Vec<u32>,
}

/// A QoS 2 message that a session sent and did not release yet (4.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRecord {
    /// Its row.
    pub id: u64,
    /// The row of the session.
    pub session: u64,
    /// The sender's Packet Identifier.
    pub packet_id: u16,
    /// The row of the message.
    pub message: u64,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// The row of the session.
    pub session: u64,
    /// The Topic Filter as in SUBSCRIBE, with `$share/group/` where it is shared, and below the client's mount point.
    pub filter: String,
    /// The Subscription Options (3.8.3.1), as on the wire.
    pub options: u8,
    /// The Subscription Identifier; 0 for none.
    pub identifier: u32,
}
