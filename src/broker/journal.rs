//! What must survive a restart: the changes of a turn, gathered until a [`Batch`] of them is taken.
//!
//! Knows no file and no database. A batch is plain data (`journal/records`) that goes to another thread and is committed there
//! as a whole.
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
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

mod records;

pub use records::{
    Batch, DeliveryRecord, MessageRecord, Owner, ProofKind, ReceivedRecord, Removed, SessionRecord,
    Source, SubscriptionRecord, WillRecord,
};

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
