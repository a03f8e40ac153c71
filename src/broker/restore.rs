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
    /// Who published what is retained, once for all of it.
    sources: HashMap<Source, Rc<Principal>>,
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
            sources: HashMap::default(),
            counts: Counts::default(),
        }
    }

    /// By how many milliseconds the system's clock is ahead of the one that [`Clocks`] has.
    pub fn clock_ahead(&self) -> i64 {
        self.output.journal.clock_ahead()
    }

    /// The system's clock was set, and is ahead by so much now. What is stored keeps its times, and the store keeps this.
    pub fn clock_was_set(&mut self, ahead: i64) {
        self.output.journal.clock_was_set(ahead);
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
        let mut listeners = self.listeners_on(port);
        let is_the_only_one = listeners.len() == 1;
        if listeners.is_empty() {
            // It has moved, or is no more.
            listeners = (0..self.config.listeners.len()).collect();
        }
        let user_name = owner.user_name.map(String::into_boxed_str);
        let (proof, listener) = self.restored_proof(owner.proof, user_name.as_deref(), &listeners);
        let principal = Principal::new(&self.authority, client_id, user_name, proof, listener);
        match is_the_only_one {
            true => principal,
            false => principal.of_port(port),
        }
    }

    fn listeners_on(&self, port: u16) -> Vec<usize> {
        let all = self.config.listeners.iter().enumerate();
        all.filter(|(_, listener)| listener.port == port)
            .map(|(index, _)| index)
            .collect()
    }

    /// How the name was proven, and through which of `listeners`, one of which it was: one whose password file has the
    /// name, if there is any. Where names need no proof any more, nobody could prove theirs.
    fn restored_proof(
        &self,
        proof: ProofKind,
        user_name: Option<&str>,
        listeners: &[usize],
    ) -> (Proof, usize) {
        let auth = self.authority.auth();
        let first = listeners.first().copied().unwrap_or(0);
        match (proof, user_name) {
            (ProofKind::Password, Some(name)) => {
                let mut asking = listeners
                    .iter()
                    .copied()
                    .filter(|&listener| auth.asks(listener));
                let Some(asks) = asking.clone().next() else {
                    return (Proof::None, first);
                };
                let known = asking
                    .find_map(|listener| Some((listener, auth.hash_of(listener, name)?.clone())));
                match known {
                    Some((listener, hash)) => (Proof::Password(Some(hash)), listener),
                    None => (Proof::Password(None), asks),
                }
            }
            (ProofKind::Certificate, Some(_)) => {
                let mut all = self.config.listeners.iter().enumerate();
                let is_provable = all.any(|(index, listener)| {
                    listener.takes_names_of_certificates() || auth.asks(index)
                });
                match is_provable {
                    true => (Proof::Certificate, first),
                    false => (Proof::None, first),
                }
            }
            (ProofKind::None, _) | (_, None) => (Proof::None, first),
        }
    }
}

fn packet_id_of(number: u16) -> Option<PacketId> {
    NonZeroU16::new(number).map(PacketId)
}

impl Restoring<'_> {
    /// The system's clock, which the restore was begun with, was ahead by so much when the times were stored. To be told
    /// before everything else.
    pub fn clock(&mut self, ahead: i64) {
        self.broker.output.journal.restore_clock(ahead);
        self.clocks.unix_millis = self.clocks.unix_millis.saturating_add_signed(-ahead);
    }

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
        let source = source.client_id.is_some().then(|| {
            let broker = &*self.broker;
            let principal = self.sources.entry(source);
            let principal = principal.or_insert_with_key(|source| {
                let client_id = Rc::from(source.client_id.as_deref().unwrap_or_default());
                Rc::new(broker.restored_principal(&client_id, source.owner.clone()))
            });
            Rc::clone(principal)
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
            // No later than if it had lost its connection now: the wall's clock may have been set back.
            let latest = now + will.delay;
            let due = record.will_due.map_or(latest, |due| clocks.time(due));
            due.min(latest)
        });
        // What another limit made shorter is to be so from now on, and not anew from each start.
        let has_new_clock = session.ends != record.ends.map(|ends| clocks.time(ends))
            || session.will_due != record.will_due.map(|due| clocks.time(due))
            || session.expiry.as_seconds() != record.expiry_seconds;
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
        let Some(&key) = self.sessions.get(&record.session) else {
            return; // its session ended with the broker
        };
        let shared = topic::shared(&record.filter);
        let options = SubscriptionOptions::from_byte(record.options);
        let is_known = record.identifier <= VARIABLE_BYTE_INTEGER_MAX;
        let (Ok(shared), Some(options), true) = (shared, options, is_known) else {
            self.counts.misfits += 1;
            if let Some(row) = &self.broker.clients[key].session.row {
                let filter = record.filter.clone();
                self.broker.output.journal.unsubscribed(row, filter);
            }
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
        self.broker.subscriptions.rights_changed();
        for &key in self.sessions.values() {
            self.broker.clients[key].session.shrink();
            self.broker.drop_forbidden_subscriptions(key);
        }
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
mod tests;
