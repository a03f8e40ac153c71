//! What must survive a restart: the changes of a turn, gathered until a [`Batch`] of them is taken.
//!
//! Knows no file and no database. A batch is plain data that goes to another thread and is committed there as a whole; the
//! same records come back at the start. Times in records are milliseconds of Unix time, since the broker's own begin anew
//! with each process.
//!
//! 1. What is stored has a [`Row`], and lives exactly as long as it: dropping the row removes it from the store. Nobody
//!    can forget to.
//! 2. What comes and goes before its batch is taken never gets there: a delivery that is acknowledged at once costs no disk.
//! 3. What waits to be taken is bounded by what the broker holds, and by what it held when the last batch was taken.
//! 4. The state that a batch leads to is that of the moment it was taken; a process
//!    uses no identifier of a row twice.

use super::client::ClientKey;
use super::inflight::{Delivery, SubscriptionIdentifiers};
use super::message::Message;
use super::principal::Principal;
use crate::mqtt::{PacketId, QoS};
use bytes::Bytes;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

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
    /// before; see [`Clocks`](super::Clocks).
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

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// What a [`Row`] stands for.
pub trait Kind {
    /// The row is no more.
    fn removed(pending: &mut Pending, id: u64);
}

/// A session.
#[derive(Debug)]
pub enum OfSession {}

/// A delivery, from the queue to the end of its exchange.
#[derive(Debug)]
pub enum OfDelivery {}

/// A QoS 2 message that was received and not released.
#[derive(Debug)]
pub enum OfReceived {}

impl Kind for OfSession {
    fn removed(pending: &mut Pending, id: u64) {
        // Its subscriptions go with it, those that were not stored yet as well.
        pending.subscriptions.remove(&id);
        if !pending.begun.remove(&id) {
            pending.removed.sessions.push(id);
        }
    }
}

impl Kind for OfDelivery {
    fn removed(pending: &mut Pending, id: u64) {
        if pending.deliveries.remove(&id).is_none() {
            pending.progress.remove(&id);
            pending.removed.deliveries.push(id);
        }
    }
}

impl Kind for OfReceived {
    fn removed(pending: &mut Pending, id: u64) {
        if pending.received.remove(&id).is_none() {
            pending.removed.received.push(id);
        }
    }
}

/// The place of something in the store, which is removed there when this is dropped.
pub struct Row<K: Kind> {
    id: u64,
    state: Rc<State>,
    kind: PhantomData<K>,
}

impl<K: Kind> Row<K> {
    /// Its identifier.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl<K: Kind> Drop for Row<K> {
    fn drop(&mut self) {
        self.state.change(|pending| K::removed(pending, self.id));
    }
}

impl<K: Kind> fmt::Debug for Row<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.id)
    }
}

/// A delivery that no batch has yet.
#[derive(Debug)]
struct NewDelivery {
    session: u64,
    /// `None` when PUBREC came.
    message: Option<Rc<Message>>,
    packet_id: Option<PacketId>,
    qos: QoS,
    retain: bool,
    identifiers: SubscriptionIdentifiers,
}

#[derive(Debug)]
struct NewReceived {
    session: u64,
    packet_id: PacketId,
    message: Rc<Message>,
}

/// What became of a subscription.
#[derive(Debug)]
struct SubscriptionChange {
    /// Its options and identifier; `None` where it was ended.
    now: Option<(u8, u32)>,
    /// Whether the batches before have it.
    is_stored: bool,
}

/// What the next batch will have.
#[derive(Debug, Default)]
pub struct Pending {
    sessions: Set<ClientKey>,
    /// The rows of sessions that began.
    begun: Set<u64>,
    deliveries: Map<u64, NewDelivery>,
    progress: Map<u64, (PacketId, bool)>,
    received: Map<u64, NewReceived>,
    /// By session, then by filter.
    subscriptions: Map<u64, Map<String, SubscriptionChange>>,
    /// Messages that became the retained message of their topic.
    retained: Map<*const Message, (Rc<Message>, Option<Rc<Principal>>)>,
    /// Stored messages that something replaced as the retained message of their topic.
    unretained: Vec<u64>,
    clock_ahead: Option<i64>,
    removed: Removed,
}

#[derive(Debug, Default)]
struct State {
    pending: RefCell<Pending>,
    last_id: Cell<u64>,
    /// Counts every change.
    changes: Cell<u64>,
}

impl State {
    fn change<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        self.changes.set(self.changes.get() + 1);
        change(&mut self.pending.borrow_mut())
    }

    fn next_id(&self) -> u64 {
        self.last_id.set(self.last_id.get() + 1);
        self.last_id.get()
    }
}

/// Gathers what must survive; without persistence it gathers nothing.
#[derive(Debug, Default)]
pub struct Journal {
    state: Option<Rc<State>>,
    /// How many changes there were when the last batch was taken.
    changes_taken: u64,
    /// How many changes there were before the packet that is being handled; no number of changes where it depends on
    /// earlier ones.
    changes_before: u64,
    /// How many batches were taken.
    taken: u64,
    /// How many of them are committed.
    committed: u64,
    /// The last of them that removes a session.
    last_end: u64,
    clock_ahead: i64,
}

impl Journal {
    /// Gathers from now on; identifiers of rows up to `last_id` are in use.
    pub fn begin(&mut self, last_id: u64) {
        let state = State::default();
        state.last_id.set(last_id);
        self.state = Some(Rc::new(state));
    }

    /// By how many milliseconds the system's clock is ahead of the one that all times are of.
    pub fn clock_ahead(&self) -> i64 {
        self.clock_ahead
    }

    /// What the store has it to be.
    pub fn restore_clock(&mut self, ahead: i64) {
        self.clock_ahead = ahead;
    }

    /// The system's clock was set.
    pub fn clock_was_set(&mut self, ahead: i64) {
        self.clock_ahead = ahead;
        if let Some(state) = &self.state {
            state.change(|pending| pending.clock_ahead = Some(ahead));
        }
    }

    /// Whether it gathers anything.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.state.is_some()
    }

    fn changes(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.changes.get())
    }

    /// Another packet is going to be handled.
    #[inline]
    pub fn begin_packet(&mut self) {
        self.changes_before = self.changes();
    }

    /// Whether the packet that is being handled changed anything that is to be stored, or depends on what is.
    #[inline]
    pub fn packet_changed(&self) -> bool {
        self.changes() != self.changes_before
    }

    /// The packet that is being handled finds what it asks for done, perhaps by another one that is not stored yet.
    pub fn find_done(&mut self) {
        self.changes_before = u64::MAX;
    }

    /// Whether the end of a session is on its way to the store.
    pub fn ends_sessions(&self) -> bool {
        let state = self.state.as_ref();
        self.last_end > self.committed
            || state.is_some_and(|state| !state.pending.borrow().removed.sessions.is_empty())
    }

    /// Whether there is anything for another batch.
    pub fn has_changes(&self) -> bool {
        self.changes() != self.changes_taken
    }

    /// The number of the batch that is taken next.
    pub fn next_batch(&self) -> u64 {
        self.taken + 1
    }

    /// The batch with which everything that was changed so far is stored; `None` where it is already.
    #[inline]
    pub fn pending(&self) -> Option<u64> {
        self.state.as_ref()?;
        if self.has_changes() {
            return Some(self.next_batch());
        }
        (self.taken > self.committed).then_some(self.taken)
    }

    /// Whether this batch is on disk.
    #[inline]
    pub fn is_committed(&self, batch: u64) -> bool {
        batch <= self.committed
    }

    /// The number of the last batch that is.
    pub fn last_committed(&self) -> u64 {
        self.committed
    }

    /// Another batch is committed: its number.
    pub fn committed(&mut self) -> u64 {
        assert!(
            self.committed < self.taken,
            "a batch is taken before it is committed"
        );
        self.committed += 1;
        self.committed
    }

    /// All batches that were taken are committed: the number of the last one.
    pub fn all_committed(&mut self) -> u64 {
        self.committed = self.taken;
        self.committed
    }

    fn row<K: Kind>(&self, id: u64) -> Option<Row<K>> {
        let state = Rc::clone(self.state.as_ref()?);
        Some(Row {
            id,
            state,
            kind: PhantomData,
        })
    }

    /// The row of something that the store has already.
    pub fn stored_row<K: Kind>(&self, id: u64) -> Option<Row<K>> {
        debug_assert!(
            self.state
                .as_ref()
                .is_none_or(|state| id <= state.last_id.get())
        );
        self.row(id)
    }

    /// The row of a session that begins.
    pub fn session_row(&self) -> Option<Row<OfSession>> {
        let state = self.state.as_ref()?;
        let id = state.next_id();
        state.change(|pending| pending.begun.insert(id));
        self.row(id)
    }

    /// The session in `key` began or changed.
    pub fn session_changed(&self, key: ClientKey) {
        if let Some(state) = &self.state {
            state.change(|pending| pending.sessions.insert(key));
        }
    }

    /// `delivery` waits for a session or, with its Packet Identifier, was sent; nothing is stored of a session that is not.
    #[inline]
    pub fn delivery(
        &self,
        session: Option<&Row<OfSession>>,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
    ) -> Option<Row<OfDelivery>> {
        let session = session?.id;
        let state = self.state.as_ref()?;
        let id = state.next_id();
        let new = NewDelivery {
            session,
            message: Some(Rc::clone(&delivery.message)),
            packet_id,
            qos: delivery.qos,
            retain: delivery.retain,
            identifiers: delivery.identifiers.clone(),
        };
        state.change(|pending| pending.deliveries.insert(id, new));
        self.row(id)
    }

    /// What waited was sent.
    pub fn sent(&self, row: &Row<OfDelivery>, packet_id: PacketId) {
        self.progress(row, packet_id, false);
    }

    /// PUBREC came: the receiver has the message.
    pub fn handed_over(&self, row: &Row<OfDelivery>, packet_id: PacketId) {
        self.progress(row, packet_id, true);
    }

    fn progress(&self, row: &Row<OfDelivery>, packet_id: PacketId, is_handed_over: bool) {
        row.state
            .change(|pending| match pending.deliveries.get_mut(&row.id) {
                Some(new) => {
                    new.packet_id = Some(packet_id);
                    if is_handed_over {
                        new.message = None;
                    }
                }
                None => {
                    pending.progress.insert(row.id, (packet_id, is_handed_over));
                }
            });
    }

    /// A QoS 2 message was received.
    pub fn received(
        &self,
        session: Option<&Row<OfSession>>,
        packet_id: PacketId,
        message: &Rc<Message>,
    ) -> Option<Row<OfReceived>> {
        let session = session?.id;
        let state = self.state.as_ref()?;
        let id = state.next_id();
        let message = Rc::clone(message);
        let new = NewReceived {
            session,
            packet_id,
            message,
        };
        state.change(|pending| pending.received.insert(id, new));
        self.row(id)
    }

    /// A session subscribed, with these options and this identifier. `is_new` says that it was not subscribed before.
    pub fn subscribed(
        &self,
        session: &Row<OfSession>,
        filter: String,
        options: u8,
        identifier: u32,
        is_new: bool,
    ) {
        session.state.change(|pending| {
            let of_session = pending.subscriptions.entry(session.id).or_default();
            let now = Some((options, identifier));
            let is_stored = !is_new;
            of_session
                .entry(filter)
                .and_modify(|change| change.now = now)
                .or_insert(SubscriptionChange { now, is_stored });
        });
    }

    /// A session is subscribed no more.
    pub fn unsubscribed(&self, session: &Row<OfSession>, filter: String) {
        session.state.change(|pending| {
            let of_session = pending.subscriptions.entry(session.id).or_default();
            match of_session.entry(filter) {
                Entry::Occupied(change) if !change.get().is_stored => {
                    change.remove();
                }
                change => {
                    let (now, is_stored) = (None, true);
                    change.insert(SubscriptionChange { now, is_stored });
                }
            }
        });
    }

    /// `message` is the retained message of its topic, and `source` published it.
    pub fn retained(&self, message: &Rc<Message>, source: Option<&Rc<Principal>>) {
        let Some(state) = &self.state else {
            return;
        };
        let entry = (Rc::clone(message), source.cloned());
        state.change(|pending| pending.retained.insert(Rc::as_ptr(message), entry));
    }

    /// `message` is no longer the retained message of its topic.
    pub fn unretained(&self, message: &Rc<Message>) {
        let Some(state) = &self.state else {
            return;
        };
        let is_new = state
            .pending
            .borrow()
            .retained
            .contains_key(&Rc::as_ptr(message));
        if is_new || message.row().is_some() {
            state.change(|pending| {
                if pending.retained.remove(&Rc::as_ptr(message)).is_none() {
                    pending.unretained.extend(message.row());
                }
            });
        }
    }

    /// Takes everything that was changed since the last time. `scribe` knows what the records need beside.
    pub fn take(&mut self, scribe: &impl Scribe) -> Option<Batch> {
        if !self.has_changes() {
            return None;
        }
        let state = Rc::clone(self.state.as_ref()?);
        self.changes_taken = state.changes.get();
        self.taken += 1;
        let pending = std::mem::take(&mut *state.pending.borrow_mut());
        if !pending.removed.sessions.is_empty() {
            self.last_end = self.taken;
        }
        let mut writer = Writer {
            batch: Batch {
                removed: pending.removed,
                clock_ahead: pending.clock_ahead,
                ..Batch::default()
            },
            state: &state,
            scribe,
        };
        for (_, (message, source)) in pending.retained {
            writer.retained(&message, source.as_deref());
        }
        for key in pending.sessions {
            if let Some(session) = scribe.session(key, &mut |message| writer.message(message)) {
                writer.batch.sessions.push(session);
            }
        }
        writer.deliveries(pending.deliveries);
        for (id, new) in pending.received {
            let message = writer.message(&new.message);
            let (session, packet_id) = (new.session, new.packet_id.get());
            writer.batch.received.push(ReceivedRecord {
                id,
                session,
                packet_id,
                message,
            });
        }
        let mut batch = writer.batch;
        let progress = pending.progress.into_iter();
        batch.progress = progress
            .map(|(id, (packet_id, over))| (id, packet_id.get(), over))
            .collect();
        for (session, filters) in pending.subscriptions {
            for (filter, change) in filters {
                match change.now {
                    Some((options, identifier)) => {
                        let record = SubscriptionRecord {
                            session,
                            filter,
                            options,
                            identifier,
                        };
                        batch.subscriptions.push(record);
                    }
                    None => batch.removed.subscriptions.push((session, filter)),
                }
            }
        }
        batch.unretained = pending.unretained;
        batch.removed.messages = scribe.dropped_messages();
        Some(batch)
    }
}

/// What the journal asks of the broker when a batch is taken.
pub trait Scribe {
    /// The record of the session in `key`, if one is there that is stored. `message_row` tells the row of its will.
    fn session(
        &self,
        key: ClientKey,
        message_row: &mut dyn FnMut(&Rc<Message>) -> u64,
    ) -> Option<SessionRecord>;

    /// Unix time in milliseconds of a moment of the broker.
    fn unix_millis(&self, time: super::timers::Time) -> u64;

    /// Who `principal` is.
    fn owner(&self, principal: &Principal) -> Owner;

    /// The same of who published a retained message.
    fn source(&self, principal: Option<&Principal>) -> Source {
        Source {
            client_id: principal.map(|principal| principal.client_id.to_string()),
            owner: principal
                .map(|principal| self.owner(principal))
                .unwrap_or_default(),
        }
    }

    /// The rows of the stored messages that were dropped since the last time.
    fn dropped_messages(&self) -> Vec<u64>;
}

/// A batch on its way.
struct Writer<'a, S> {
    batch: Batch,
    state: &'a State,
    scribe: &'a S,
}

impl<S: Scribe> Writer<'_, S> {
    /// The row of `message`, which gets one with this batch if it had none.
    fn message(&mut self, message: &Rc<Message>) -> u64 {
        message
            .row()
            .unwrap_or_else(|| self.write_message(message, None))
    }

    fn write_message(&mut self, message: &Message, retained: Option<Source>) -> u64 {
        let id = self.state.next_id();
        message.set_row(id);
        let expires = message.expires().map(|time| self.scribe.unix_millis(time));
        self.batch
            .messages
            .push(message.record(id, expires, retained));
        id
    }

    fn retained(&mut self, message: &Rc<Message>, source: Option<&Principal>) {
        let source = self.scribe.source(source);
        match message.row() {
            None => {
                self.write_message(message, Some(source));
            }
            Some(id) => self.batch.retained.push((id, source)),
        }
    }

    /// In the order of their identifiers, which is that of delivery, and the cheapest one to store.
    fn deliveries(&mut self, new: Map<u64, NewDelivery>) {
        let mut ordered: Vec<(u64, NewDelivery)> = new.into_iter().collect();
        ordered.sort_unstable_by_key(|&(id, _)| id);
        for (id, new) in ordered {
            let record = DeliveryRecord {
                id,
                session: new.session,
                message: new.message.as_ref().map(|message| self.message(message)),
                packet_id: new.packet_id.map_or(0, PacketId::get),
                qos: new.qos,
                retain: new.retain,
                identifiers: new.identifiers.to_vec(),
            };
            self.batch.deliveries.push(record);
        }
    }
}

#[cfg(test)]
mod tests;
