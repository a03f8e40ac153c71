//! The Session: what outlives the Network Connection (4.1).
//!
//! 1. A message is in at most one of `inflight` and `queue`, and everything in `queue` was published after everything in
//!    `inflight` [MQTT-4.6.0-6].

use super::inflight::Inflight;
use super::journal::{OfReceived, OfSession, Row};
use super::message::Message;
use super::principal::Principal;
use super::queue::Queue;
use super::replay::Replay;
use super::subscriptions::SubscriptionKey;
use super::timers::{Time, TimerKey};
use super::will::Will;
use crate::mqtt::PacketId;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Session Expiry Interval (3.1.2.11.2): how long a session lasts without a Network Connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionExpiry {
    /// It ends with the Network Connection: 0, or Clean Session before 5.0.
    WithConnection,
    /// After this long.
    After(Duration),
    /// Never: 0xFFFFFFFF, or Clean Session 0 before 5.0.
    Never,
}

impl SessionExpiry {
    /// What the property says.
    pub fn from_seconds(seconds: u32) -> SessionExpiry {
        match seconds {
            0 => SessionExpiry::WithConnection,
            u32::MAX => SessionExpiry::Never,
            _ => SessionExpiry::After(Duration::from_secs(seconds.into())),
        }
    }

    /// The property that says so.
    pub fn as_seconds(self) -> u32 {
        match self {
            SessionExpiry::WithConnection => 0,
            SessionExpiry::After(duration) => {
                // 0xFFFFFFFF would say that it never ends.
                u32::try_from(duration.as_secs())
                    .unwrap_or(u32::MAX)
                    .min(u32::MAX - 1)
            }
            SessionExpiry::Never => u32::MAX,
        }
    }

    /// The shorter of this and the operator's `persistent_client_expiration`.
    pub fn at_most(self, limit: Option<Duration>) -> SessionExpiry {
        match (self, limit) {
            (SessionExpiry::After(own), Some(limit)) => SessionExpiry::After(own.min(limit)),
            (SessionExpiry::Never, Some(limit)) => SessionExpiry::After(limit),
            (own, _) => own,
        }
    }
}

/// A QoS 2 message that was received and not released yet: PUBREC was sent, PUBREL has not come (4.3.3).
#[derive(Debug)]
pub struct Received {
    /// The message, passed on when PUBREL comes.
    pub message: Rc<Message>,
    /// How often its PUBLISH came again on this Network Connection.
    pub repeats: u8,
    /// Where it is stored.
    pub row: Option<Row<OfReceived>>,
}

/// The QoS 2 messages of one sender that are not released, by Packet Identifier; a pointer until there is one.
#[derive(Debug, Default)]
pub struct Unreleased(Option<Box<HashMap<PacketId, Received, foldhash::fast::RandomState>>>);

impl Unreleased {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |received| received.len())
    }

    /// All of them, in any order.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, &Received)> {
        let all = self.0.iter().flat_map(|received| received.iter());
        all.map(|(&packet_id, received)| (packet_id, received))
    }

    /// The one under `packet_id`.
    pub fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Received> {
        self.0.as_mut()?.get_mut(&packet_id)
    }

    /// Keeps `message` under `packet_id`, which names no other.
    pub fn insert(
        &mut self,
        packet_id: PacketId,
        message: Rc<Message>,
        row: Option<Row<OfReceived>>,
    ) {
        let received = Received {
            message,
            repeats: 0,
            row,
        };
        self.0.get_or_insert_default().insert(packet_id, received);
    }

    /// Takes out the one under `packet_id`.
    pub fn remove(&mut self, packet_id: PacketId) -> Option<Received> {
        self.0.as_mut()?.remove(&packet_id)
    }

    /// A new connection: none of them was repeated on it.
    pub fn begin_connection(&mut self) {
        let all = self.0.iter_mut().flat_map(|received| received.values_mut());
        all.for_each(|received| received.repeats = 0);
    }

    fn shrink(&mut self) {
        match &mut self.0 {
            Some(received) if !received.is_empty() => received.shrink_to_fit(),
            _ => self.0 = None,
        }
    }
}

/// What the server keeps for a client.
#[derive(Debug)]
pub struct Session {
    /// The Client Identifier; empty before CONNECT.
    pub client_id: Rc<str>,
    /// Where it is stored; `None` for a session that ends with its connection, and without persistence.
    pub row: Option<Row<OfSession>>,
    /// Who the last CONNECT came from; `None` before CONNECT.
    pub principal: Option<Rc<Principal>>,
    /// When the session ends after the Network Connection has.
    pub expiry: SessionExpiry,
    /// Where its subscriptions are in the tree.
    pub subscriptions: BTreeSet<SubscriptionKey>,
    /// QoS 1 and 2 messages that were sent and are not acknowledged. They are completed to this client or to nobody,
    /// also where a shared subscription brought them [MQTT-4.8.2-4], [MQTT-4.8.2-5].
    pub inflight: Inflight,
    /// Messages that wait for a place in the window, or for the client to come back.
    pub queue: Queue,
    /// QoS 2 messages received and not released.
    pub received: Unreleased,
    /// Retained messages that are still to be sent for subscriptions just made.
    pub replay: Option<Box<Replay>>,
    /// The Will Message; it may outlive the Network Connection by the Will Delay Interval.
    pub will: Option<Box<Will>>,
    /// When the Will Message is to be published, without a Network Connection.
    pub will_due: Option<Time>,
    /// When the session ends, without a Network Connection.
    pub ends: Option<Time>,
    /// The timer for the earlier of these two.
    pub timer: Option<TimerKey>,
    /// Whether the log was told that messages are being dropped, until the client has caught up. With each that is accepted
    /// would be too soon: a client that reads slower than others write has a place for one now and then.
    pub is_dropping: bool,
}

impl Session {
    /// A session that has no name yet.
    pub fn new() -> Session {
        Session {
            client_id: Rc::default(),
            row: None,
            principal: None,
            expiry: SessionExpiry::WithConnection,
            subscriptions: BTreeSet::new(),
            inflight: Inflight::default(),
            queue: Queue::default(),
            received: Unreleased::default(),
            replay: None,
            will: None,
            will_due: None,
            ends: None,
            timer: None,
            is_dropping: false,
        }
    }

    /// Whether messages with this Topic Name may go to the client.
    #[inline]
    pub fn may_read(&self, topic: &str) -> bool {
        let principal = self.principal.as_ref();
        principal.is_some_and(|principal| principal.may_read(topic))
    }

    /// Gives memory back that a session without a connection does not need.
    pub fn shrink(&mut self) {
        self.inflight.shrink();
        self.received.shrink();
        self.queue.shrink();
    }
}
