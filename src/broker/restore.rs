//! From records to state, when a broker begins where another one ended; and the other way round, when a batch is taken.
//!
//! 1. A record that does not fit (of a session that is not there, with a filter that is none) is left out and counted; what
//!    was stored of it is removed with the next batch.
//! 2. Sessions that were connected when the broker ended have lost their connection now, and their clocks begin.
//! 3. Rights are those of today: what was stored is subject to them as if it had stayed in memory.

use super::Broker;
use super::Timer;
use super::client::ClientKey;
use super::inflight::{Delivery, SubscriptionIdentifiers};
use super::journal::{
    Batch, DeliveryRecord, MessageRecord, Owner, ProofKind, ReceivedRecord, Scribe, SessionRecord,
    Source, SubscriptionRecord, WillRecord,
};
use super::message::Message;
use super::principal::{Principal, Proof};
use super::retain::RetainedMessage;
use super::session::{Session, SessionExpiry};
use super::subscriptions::Subscription;
use super::timers::Time;
use super::will::Will;
use crate::mqtt::primitive::VARIABLE_BYTE_INTEGER_MAX;
use crate::mqtt::{PacketId, QoS, SubscriptionOptions, publish, topic};
use hashbrown::HashMap;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::time::Duration;

/// Where two clocks stand: the broker's, and the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The broker's.
    pub now: Time,
    /// Milliseconds of Unix time.
    pub unix_millis: u64,
}

impl Clocks {
    /// Unix time of a moment of the broker, in milliseconds.
    fn unix_millis(self, time: Time) -> u64 {
        let ahead = time.saturating_sub(self.now).as_millis() as u64;
        let behind = self.now.saturating_sub(time).as_millis() as u64;
        self.unix_millis
            .saturating_add(ahead)
            .saturating_sub(behind)
    }

    /// The moment of the broker at that Unix time; now, if it has passed.
    fn time(self, unix_millis: u64) -> Time {
        self.now + Duration::from_millis(unix_millis.saturating_sub(self.unix_millis))
    }
}

/// How much was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages on their way to sessions.
    pub deliveries: u64,
    /// QoS 2 messages that were received and not released.
    pub received: u64,
    /// Records that do not fit.
    pub misfits: u64,
}

/// A broker that is being put back: messages first, then sessions, then what belongs to sessions, deliveries in the order
/// of their rows.
pub struct Restoring<'a> {
    broker: &'a mut Broker,
    clocks: Clocks,
    /// By their rows; what nothing refers to goes with this.
    messages: HashMap<u64, Rc<Message>, foldhash::fast::RandomState>,
    sessions: HashMap<u64, ClientKey, foldhash::fast::RandomState>,
    counts: Counts,
}

impl Broker {
    /// Begins to journal, and to put back what was stored in rows up to `last_id`.
    pub fn begin_restoring(&mut self, last_id: u64, clocks: Clocks) -> Restoring<'_> {
        self.output.journal.begin(last_id);
        Restoring {
            broker: self,
            clocks,
            messages: HashMap::default(),
            sessions: HashMap::default(),
            counts: Counts::default(),
        }
    }

    /// Whether something changed that no batch has.
    pub fn has_changes(&self) -> bool {
        self.output.journal.has_changes()
    }

    /// Whether somebody waits for what changed since the last batch.
    pub fn is_waited_for(&self) -> bool {
        self.output.gate.waits_for(self.output.journal.next_batch())
    }

    /// What changed since the last batch. Every batch that is taken is to be committed, or tried again until it is, and
    /// [`committed`](Broker::committed) told.
    pub fn take_batch(&mut self, clocks: Clocks) -> Option<Batch> {
        let mut journal = std::mem::take(&mut self.output.journal);
        let broker = &*self;
        let batch = journal.take(&Now { broker, clocks });
        self.output.journal = journal;
        batch
    }

    fn restored_principal(&self, client_id: &Rc<str>, owner: Owner) -> Principal {
        let port = owner.listener_port;
        let mut listeners = self
            .config
            .listeners
            .iter()
            .enumerate()
            .filter(|(_, listener)| listener.port == port)
            .map(|(index, _)| index);
        let first = listeners.next();
        let is_the_only_one = first.is_some() && listeners.next().is_none();
        let listener = first.unwrap_or(0);
        let user_name = owner.user_name.map(String::into_boxed_str);
        let proof = match (owner.proof, &user_name) {
            (ProofKind::None, _) | (ProofKind::Password, None) => Proof::None,
            (ProofKind::Password, Some(name)) => {
                let auth = self.authority.auth();
                // Where names need no proof any more, nobody could prove theirs.
                match auth.passwords(listener) {
                    Some(passwords) => Proof::Password(passwords.hash_of(name).cloned()),
                    None => Proof::None,
                }
            }
            (ProofKind::Certificate, _) => Proof::Certificate,
        };
        let principal = Principal::new(&self.authority, client_id, user_name, proof, listener);
        match is_the_only_one {
            true => principal,
            false => principal.of_port(port),
        }
    }
}

fn packet_id_of(number: u16) -> Option<PacketId> {
    NonZeroU16::new(number).map(PacketId)
}

impl Restoring<'_> {
    /// Puts a message back, and retains it if it was.
    pub fn message(&mut self, mut record: MessageRecord) {
        // Rows are numbered from 1 on; 0 says that a message has none.
        let is_sound = record.id != 0
            && usize::from(record.topic_length) + record.properties_length as usize
                <= record.bytes.len()
            && std::str::from_utf8(record.topic())
                .is_ok_and(|name| topic::name(name.as_bytes()).is_ok())
            && publish::is_passed_on(record.properties());
        if !is_sound {
            self.counts.misfits += 1;
            return;
        }
        let id = record.id;
        let retained = record.retained.take();
        let expires = record
            .expires
            .map(|unix_millis| self.clocks.time(unix_millis));
        let message = Rc::new(Message::restored(record, expires, &self.broker.tally));
        if let Some(source) = retained {
            self.retain(&message, source);
        }
        self.messages.insert(id, message);
    }

    fn retain(&mut self, message: &Rc<Message>, source: Source) {
        if message.is_expired(self.clocks.now) || message.payload().is_empty() {
            self.broker.output.journal.unretained(message);
            return;
        }
        let source = source.client_id.map(|client_id| {
            let principal = self
                .broker
                .restored_principal(&Rc::from(client_id), source.owner);
            Rc::new(principal)
        });
        let expiry = message.expires().map(|expires| {
            let index = self.broker.expiring.insert(Rc::clone(message));
            self.broker
                .timers
                .insert(expires, Timer::Retained(index as u32))
        });
        let retained = RetainedMessage {
            message: Rc::clone(message),
            source,
            expiry,
        };
        self.counts.retained += 1;
        if let Some(former) = self.broker.retained.set(message.topic(), retained) {
            // Two of one topic: only where a damaged store was salvaged.
            self.counts.retained -= 1;
            self.broker.output.journal.unretained(&former.message);
            if let Some(expiry) = former.expiry
                && let Some(Timer::Retained(index)) = self.broker.timers.cancel(expiry)
            {
                self.broker.expiring.remove(index as usize);
            }
        }
    }

    /// Puts a session back, without what belongs to it.
    pub fn session(&mut self, record: SessionRecord) {
        let row = self.broker.output.journal.stored_row(record.id);
        let is_sound = !record.client_id.is_empty()
            && self.broker.clients.find(&record.client_id).is_none()
            && !self.sessions.contains_key(&record.id);
        // One that ends with its connection has ended with the broker.
        if !is_sound || record.expiry_seconds == 0 {
            self.counts.misfits += u64::from(!is_sound);
            return;
        }
        let (clocks, now) = (self.clocks, self.clocks.now);
        let client_id: Rc<str> = record.client_id.into();
        let principal = self.broker.restored_principal(&client_id, record.owner);
        let mut session = Session::new();
        session.client_id = client_id;
        session.principal = Some(Rc::new(principal));
        session.row = row;
        let limit = self.broker.config.persistent_client_expiration;
        session.expiry = SessionExpiry::from_seconds(record.expiry_seconds).at_most(limit);
        if let SessionExpiry::After(duration) = session.expiry {
            // No later than if it had lost its connection now: the operator may have set another limit.
            let latest = now + duration;
            let ends = record.ends.map_or(latest, |ends| clocks.time(ends));
            session.ends = Some(ends.min(latest));
        }
        session
            .inflight
            .set_next(packet_id_of(record.next_packet_id).unwrap_or(PacketId::FIRST));
        session.will = record.will.and_then(|will| {
            let message = Rc::clone(self.messages.get(&will.message)?);
            let expiry = will.message_expiry_seconds;
            Some(Box::new(Will {
                message,
                message_expiry: expiry.map(|seconds| Duration::from_secs(seconds.into())),
                delay: Duration::from_secs(will.delay_seconds.into()),
            }))
        });
        session.will_due = session.will.as_ref().map(|will| {
            let due = record.will_due.map(|due| clocks.time(due));
            due.unwrap_or(now + will.delay)
        });
        let has_new_clock = session.ends.is_some() != record.ends.is_some()
            || session.will_due.is_some() != record.will_due.is_some();
        let key = self.broker.clients.restore(session);
        self.broker.set_session_timer(key);
        if has_new_clock {
            self.broker.output.journal.session_changed(key);
        }
        self.sessions.insert(record.id, key);
        self.counts.sessions += 1;
    }

    /// Puts a subscription back.
    pub fn subscription(&mut self, record: &SubscriptionRecord) {
        let key = self.sessions.get(&record.session).copied();
        let shared = topic::shared(&record.filter);
        let options = SubscriptionOptions::from_byte(record.options);
        let is_known = record.identifier <= VARIABLE_BYTE_INTEGER_MAX;
        let (Some(key), Ok(shared), Some(options), true) = (key, shared, options, is_known) else {
            self.counts.misfits += u64::from(key.is_some());
            return;
        };
        let subscription = Subscription {
            client: key.0,
            identifier: record.identifier,
            options,
        };
        let broker = &mut *self.broker;
        let (place, _) = broker
            .subscriptions
            .subscribe(shared.filter, shared.group, subscription);
        broker.clients[key].session.subscriptions.insert(place);
        self.counts.subscriptions += 1;
    }

    /// Puts a message back on its way.
    pub fn delivery(&mut self, record: &DeliveryRecord) {
        let row = self.broker.output.journal.stored_row(record.id);
        let Some(&key) = self.sessions.get(&record.session) else {
            return; // its session ended with the broker
        };
        let are_identifiers = (record.identifiers.iter())
            .all(|identifier| (1..=VARIABLE_BYTE_INTEGER_MAX).contains(identifier));
        if !are_identifiers {
            self.counts.misfits += 1;
            return;
        }
        let message = record.message.and_then(|row| self.messages.get(&row));
        let delivery = message.map(|message| Delivery {
            message: Rc::clone(message),
            qos: record.qos,
            retain: record.retain,
            identifiers: SubscriptionIdentifiers::from_slice(&record.identifiers),
        });
        let session = &mut self.broker.clients[key].session;
        let is_sound = match (packet_id_of(record.packet_id), delivery) {
            (None, Some(delivery)) => {
                session.queue.push(delivery, row);
                true
            }
            (Some(packet_id), delivery) if record.qos != QoS::AtMostOnce => {
                // Without its message it is only sound where PUBREC came for it.
                let is_handed_over = record.message.is_none() && record.qos == QoS::ExactlyOnce;
                // New ones go on behind the last one that was sent.
                session.inflight.set_next(packet_id.next());
                (delivery.is_some() || is_handed_over)
                    && session
                        .inflight
                        .restore(packet_id, record.qos, delivery, row)
            }
            _ => false,
        };
        match is_sound {
            true => self.counts.deliveries += 1,
            false => self.counts.misfits += 1,
        }
    }

    /// Puts a QoS 2 message back that is not released.
    pub fn received(&mut self, record: &ReceivedRecord) {
        let row = self.broker.output.journal.stored_row(record.id);
        let Some(&key) = self.sessions.get(&record.session) else {
            return;
        };
        let session = &mut self.broker.clients[key].session;
        match (
            packet_id_of(record.packet_id),
            self.messages.get(&record.message),
        ) {
            (Some(packet_id), Some(message)) if session.received.get_mut(packet_id).is_none() => {
                session.received.insert(packet_id, Rc::clone(message), row);
                self.counts.received += 1;
            }
            _ => self.counts.misfits += 1,
        }
    }

    /// Everything was put back.
    pub fn finish(self) -> Counts {
        for &key in self.sessions.values() {
            self.broker.clients[key].session.shrink();
        }
        self.broker.subscriptions.rights_changed();
        self.counts
    }
}

/// A broker at the moment when a batch is taken.
pub(super) struct Now<'a> {
    pub(super) broker: &'a Broker,
    pub(super) clocks: Clocks,
}

impl Scribe for Now<'_> {
    fn session(
        &self,
        key: ClientKey,
        message_row: &mut dyn FnMut(&Rc<Message>) -> u64,
    ) -> Option<SessionRecord> {
        let session = &self.broker.clients.get(key)?.session;
        let row = session.row.as_ref()?;
        let principal = session.principal.as_deref();
        let unix_millis = |time| self.clocks.unix_millis(time);
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        Some(SessionRecord {
            id: row.id(),
            client_id: session.client_id.to_string(),
            owner: principal
                .map(|principal| self.owner(principal))
                .unwrap_or_default(),
            expiry_seconds: session.expiry.as_seconds(),
            ends: session.ends.map(unix_millis),
            will: session.will.as_ref().map(|will| WillRecord {
                message: message_row(&will.message),
                delay_seconds: seconds(will.delay),
                message_expiry_seconds: will.message_expiry.map(seconds),
            }),
            will_due: session.will_due.map(unix_millis),
            next_packet_id: session.inflight.next().get(),
        })
    }

    fn unix_millis(&self, time: Time) -> u64 {
        self.clocks.unix_millis(time)
    }

    fn owner(&self, principal: &Principal) -> Owner {
        let listener = &self.broker.config.listeners[principal.listener];
        Owner {
            user_name: principal.user_name.as_deref().map(str::to_owned),
            proof: match principal.proof {
                Proof::None => ProofKind::None,
                Proof::Password(_) => ProofKind::Password,
                Proof::Certificate => ProofKind::Certificate,
            },
            listener_port: principal.port().unwrap_or(listener.port),
        }
    }

    fn dropped_messages(&self) -> Vec<u64> {
        self.broker.tally.take_dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Auth;
    use crate::config::Config;

    const CLOCKS: Clocks = Clocks {
        now: Time::ZERO,
        unix_millis: 1_700_000_000_000,
    };

    fn broker() -> Broker {
        let random = Box::new(|| 1);
        Broker::new(
            Config::default(),
            Auth::default(),
            Time::ZERO,
            Duration::ZERO,
            random,
        )
    }

    fn session(id: u64) -> SessionRecord {
        SessionRecord {
            id,
            client_id: format!("client-{id}"),
            owner: Owner::default(),
            expiry_seconds: u32::MAX,
            ends: None,
            will: None,
            will_due: None,
            next_packet_id: 1,
        }
    }

    fn message(id: u64, properties: &[u8]) -> MessageRecord {
        MessageRecord {
            id,
            bytes: [b"topic", properties, b"payload"].concat().into(),
            topic_length: 5,
            properties_length: properties.len() as u32,
            qos: QoS::AtLeastOnce,
            retain: true,
            expires: None,
            retained: Some(Source::default()),
        }
    }

    #[test]
    fn stored_properties_that_no_publish_carries_are_left_out() {
        for (properties, is_sound) in [
            (&b""[..], true),
            (b"\x01\x01\x26\0\x01k\0\x01v", true),
            (b"\x05", false),             // no such property
            (b"\x01", false),             // not whole
            (b"\x01\x02", false),         // no such value
            (b"\x01\x01\x01\x01", false), // twice
            (b"\x23\0\x01", false),       // a Topic Alias is not passed on
            (b"\x0b\x01", false),         // nor is a Subscription Identifier
        ] {
            let mut broker = broker();
            let mut restoring = broker.begin_restoring(9, CLOCKS);
            restoring.message(message(1, properties));
            let counts = restoring.finish();
            assert_eq!(counts.retained, u64::from(is_sound), "{properties:02x?}");
            assert_eq!(counts.misfits, u64::from(!is_sound), "{properties:02x?}");
        }
    }

    #[test]
    fn a_stored_message_in_row_0_is_left_out() {
        let mut broker = broker();
        let mut restoring = broker.begin_restoring(9, CLOCKS);
        restoring.message(message(0, b""));
        let mut record = session(2);
        record.will = Some(WillRecord {
            message: 0,
            delay_seconds: 60,
            message_expiry_seconds: None,
        });
        restoring.session(record);
        assert_eq!(restoring.finish().misfits, 1);
        let snapshot = broker.take_snapshot(CLOCKS);
        assert_eq!(snapshot.sessions.len(), 1);
        assert_eq!(snapshot.sessions[0].will, None);
    }

    #[test]
    fn stored_subscription_identifiers_that_no_packet_has_are_left_out() {
        for (identifier, is_delivered, is_subscribed) in [
            (0, false, true), // a subscription may have none
            (1, true, true),
            (VARIABLE_BYTE_INTEGER_MAX, true, true),
            (VARIABLE_BYTE_INTEGER_MAX + 1, false, false),
            (u32::MAX, false, false),
        ] {
            let mut broker = broker();
            let mut restoring = broker.begin_restoring(9, CLOCKS);
            restoring.message(message(1, b""));
            restoring.session(session(2));
            restoring.subscription(&SubscriptionRecord {
                session: 2,
                filter: "topic".to_owned(),
                options: 1,
                identifier,
            });
            restoring.delivery(&DeliveryRecord {
                id: 3,
                session: 2,
                message: Some(1),
                packet_id: 0,
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers: vec![identifier],
            });
            let counts = restoring.finish();
            assert_eq!(counts.deliveries, u64::from(is_delivered), "{identifier}");
            assert_eq!(
                counts.subscriptions,
                u64::from(is_subscribed),
                "{identifier}"
            );
        }
    }
}
