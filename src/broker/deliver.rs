//! One message to one client: effective QoS, window, alias; encoded now, queued for later, or dropped and counted.
//!
//! 1. A PUBLISH is encoded once per layout (version, with or without Packet Identifier, RETAIN) and copied from there to
//!    every client that can share it; only the first byte and the Packet Identifier are patched.
//! 2. QoS 1 and 2 never pass each other: nothing is sent at once while something waits in the queue [MQTT-4.6.0-6].
//! 3. A client that does not read costs itself: beyond the limits QoS 0 is dropped, QoS 1 and 2 are queued up to
//!    `max_queued_messages` and `max_queued_bytes`, and answers stop its own reading (`Broker::is_congested`).

use super::client::{Client, Link};
use super::gate::{Gate, Held};
use super::inflight::{Delivery, Inflight, SubscriptionIdentifiers};
use super::journal::Journal;
use super::message::{Publication, Tally, remaining_seconds};
use super::session::Session;
use super::statistics::Statistics;
use super::subscriptions::Subscription;
use super::timers::Time;
use crate::buffer::{BufferPool, ConnectionKey, Outbox};
use crate::config::Config;
use crate::config::log_target::NOTICE;
use crate::mqtt::primitive::VARIABLE_BYTE_INTEGER_MAX;
use crate::mqtt::{PacketId, ProtocolVersion, PublishHeader, QoS, SubscriptionOptions};
use std::num::NonZeroUsize;
use std::rc::Rc;

/// Payloads of at least this many bytes are not copied into each outbox but referred to, when more than one client gets
/// them or they are stored anyway. Below, an entry of its own in the vectored write costs more than the copy.
const PAYLOAD_SHARED_BYTES_MIN: usize = 1024;

/// An outbox that holds this much is flushed before the turn ends, so that one turn's burst does not pile up memory.
const OUTBOX_URGENT_BYTES: usize = 512 * 1024;

/// The largest Remaining Length and the longest fixed header in front of it, in bytes (2.1.4).
const PACKET_BYTES_MAX: usize = VARIABLE_BYTE_INTEGER_MAX as usize + 5;

/// Above this much in the outbox of a client that does not read, QoS 0 is dropped whatever `max_queued_messages` says; in
/// bytes, payloads that are shared with others included.
const BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection that ends, and the last bytes for it.
#[derive(Debug)]
pub struct Farewell {
    /// Which connection.
    pub connection: ConnectionKey,
    /// What it is still to be sent.
    pub outbox: Outbox,
}

/// What a turn produces, apart from the bytes in the outboxes themselves.
#[derive(Debug, Default)]
pub struct Output {
    /// Where outboxes get their memory from.
    pub buffers: BufferPool,
    /// Connections that something was queued for, each once.
    pub dirty: Vec<ConnectionKey>,
    /// Connections that should be flushed before the turn ends.
    pub urgent: Vec<ConnectionKey>,
    /// Connections whose client takes no packet as large as its answer.
    pub unanswerable: Vec<ConnectionKey>,
    /// Connections to be closed.
    pub closing: Vec<Farewell>,
    /// What is counted for $SYS.
    pub statistics: Statistics,
    /// How much is stored.
    pub tally: Rc<Tally>,
    /// What must survive a restart.
    pub journal: Journal,
    /// What waits for a commit.
    pub gate: Gate,
    layouts: Layouts,
}

impl Output {
    /// Puts `link` on the dirty list, if it is not there.
    #[inline]
    pub fn mark_dirty(&mut self, link: &mut Link) {
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(link.connection);
        }
        if !link.is_urgent && !link.outbox.blocked && link.outbox.len() >= OUTBOX_URGENT_BYTES {
            link.is_urgent = true;
            self.urgent.push(link.connection);
        }
    }

    /// Forgets the encodings of the message before; `receivers` is how many subscriptions the next one matched.
    pub fn begin_publication(&mut self, publication: &Publication<'_>, receivers: usize) {
        self.layouts.made = [None; LAYOUTS];
        self.layouts.bytes.clear();
        self.layouts.has_one_receiver = receivers == 1;
        let is_shared = receivers > 1 || publication.qos != QoS::AtMostOnce;
        self.layouts.share_payload =
            is_shared && publication.payload.len() >= PAYLOAD_SHARED_BYTES_MIN;
    }
}

const LAYOUTS: usize = 8;

/// The encodings of one message that were made so far.
#[derive(Debug, Default)]
struct Layouts {
    bytes: Vec<u8>,
    made: [Option<Layout>; LAYOUTS],
    /// Whether outboxes refer to the payload; then the layouts end where it begins.
    share_payload: bool,
    /// Whether nobody else could use an encoding.
    has_one_receiver: bool,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    start: usize,
    end: usize,
    packet_id_at: usize,
}

impl Layouts {
    #[inline]
    fn get(
        &mut self,
        publication: &Publication<'_>,
        version: ProtocolVersion,
        qos: QoS,
        retain: bool,
        now: Time,
    ) -> Layout {
        let has_id = qos != QoS::AtMostOnce;
        let index =
            usize::from(version.is_v5()) << 2 | usize::from(has_id) << 1 | usize::from(retain);
        if let Some(layout) = self.made[index] {
            return layout;
        }
        let start = self.bytes.len();
        let header = PublishHeader {
            dup: false, // [MQTT-3.3.1-3], [MQTT-4.3.1-1]
            qos,
            retain,
            topic: publication.topic,
            packet_id: has_id.then_some(PacketId::FIRST),
            passed_on: publication.passed_on,
            message_expiry_seconds: remaining_seconds(publication.expires, now),
            topic_alias: None,
            subscription_identifiers: &[],
            payload_length: publication.payload.len(),
        };
        let packet_id_at = header.encode(version, &mut self.bytes) - start;
        if !self.share_payload {
            self.bytes.extend_from_slice(publication.payload);
        }
        let layout = Layout {
            start,
            end: self.bytes.len(),
            packet_id_at,
        };
        self.made[index] = Some(layout);
        layout
    }
}

/// What a matching subscription, or several of one client taken together, asks for.
#[derive(Debug)]
pub struct Wanted {
    /// Maximum QoS and Retain As Published.
    pub options: SubscriptionOptions,
    /// Their Subscription Identifiers.
    pub identifiers: SubscriptionIdentifiers,
}

/// The Subscription Identifiers of `subscriptions`, those that have one [MQTT-3.3.4-3], [MQTT-3.3.4-4].
#[inline]
pub fn identifiers_of<'a>(
    subscriptions: impl IntoIterator<Item = &'a Subscription>,
) -> SubscriptionIdentifiers {
    let identifiers = subscriptions
        .into_iter()
        .map(|subscription| subscription.identifier);
    identifiers.filter(|&identifier| identifier != 0).collect()
}

/// The QoS at which a message published with `published` goes to a subscription with `options` [MQTT-3.8.4-8].
#[inline]
pub fn effective_qos(published: QoS, options: SubscriptionOptions, config: &Config) -> QoS {
    match config.upgrade_outgoing_qos {
        true => options.qos(),
        false => published.min(options.qos()),
    }
}

/// Delivers `publication` to `client`, whose subscription matched: the layouts of `output` belong to it.
#[inline]
pub fn deliver(
    client: &mut Client,
    publication: &mut Publication<'_>,
    wanted: Wanted,
    output: &mut Output,
    config: &Config,
    now: Time,
) {
    let qos = effective_qos(publication.qos, wanted.options, config);
    let Client { session, link } = client;
    let mut link = link.as_mut().filter(|link| link.version.is_some());
    let is_bridge = link.as_ref().is_some_and(|link| link.is_bridge);
    // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    let retain = publication.retain && (wanted.options.retain_as_published() || is_bridge);
    if qos == QoS::AtMostOnce {
        match link {
            // What is sent now must not pass what an absence left in the queue [MQTT-4.6.0-6].
            Some(_) if config.queue_qos0_messages && !session.queue.is_empty() => {
                let delivery = Delivery::new(publication, qos, retain, wanted.identifiers, output);
                enqueue(session, delivery, output, config, now);
                note_release(session, publication, output);
            }
            Some(link) if backlog_is_full(link, config) => drop_publication(session, output),
            Some(link) => {
                let batch = link.batch_of_publish(session, qos, publication.is_released, output);
                if let Some(batch) = batch {
                    let delivery =
                        Delivery::new(publication, qos, retain, wanted.identifiers, output);
                    return hold_copy(session, link, batch, delivery, output, config);
                }
                let copy = Copy {
                    qos,
                    retain,
                    packet_id: None,
                    identifiers: &wanted.identifiers,
                };
                let name = &session.client_id;
                if !copy.encode(publication, name, link, output, now) {
                    output.statistics.publish_dropped += 1;
                }
            }
            None if config.queue_qos0_messages => {
                let delivery = Delivery::new(publication, qos, retain, wanted.identifiers, output);
                enqueue(session, delivery, output, config, now);
            }
            None => {}
        }
        return;
    }
    let delivery = Delivery::new(publication, qos, retain, wanted.identifiers, output);
    match &mut link {
        Some(link) if session.queue.is_empty() && has_room(session, link, &delivery, config) => {
            let identifiers = delivery.identifiers.clone();
            let (journal, row) = (&output.journal, session.row.as_ref());
            let packet_id = session.inflight.begin(delivery, |delivery, packet_id| {
                journal.delivery(row, delivery, Some(packet_id))
            });
            if let Some(batch) =
                link.batch_of_publish(session, qos, publication.is_released, output)
            {
                session.inflight.hold(packet_id);
                return link.hold_publish(batch, packet_id, output);
            }
            let copy = Copy {
                qos,
                retain,
                packet_id: Some(packet_id),
                identifiers: &identifiers,
            };
            if !copy.encode(publication, &session.client_id, link, output, now) {
                session.inflight.finish(packet_id);
                output.statistics.publish_dropped += 1;
            }
        }
        _ => {
            enqueue(session, delivery, output, config, now);
            note_release(session, publication, output);
        }
    }
}

/// What was just enqueued does not leave before the commit of its release.
fn note_release(session: &mut Session, publication: &Publication<'_>, output: &Output) {
    if publication.is_released
        && let Some(batch) = output.journal.pending()
    {
        session.queue.set_released_in(batch);
    }
}

/// Lets a copy without an exchange wait for `batch`, or drops it where too much waits already.
pub fn hold_copy(
    session: &mut Session,
    link: &mut Link,
    batch: u64,
    delivery: Delivery,
    output: &mut Output,
    config: &Config,
) {
    let bytes_max = config
        .max_queued_bytes
        .map_or(usize::MAX, NonZeroUsize::get);
    let bytes_max = bytes_max.min(BACKLOG_BYTES_MAX);
    match link.held.is_full_of_copies(bytes_max) {
        true => drop_publication(session, output),
        false => link.hold(batch, Held::Copy(Box::new(delivery)), output),
    }
}

impl Delivery {
    fn new(
        publication: &mut Publication<'_>,
        qos: QoS,
        retain: bool,
        identifiers: SubscriptionIdentifiers,
        output: &Output,
    ) -> Delivery {
        let message = Rc::clone(publication.stored(&output.tally));
        Delivery {
            message,
            qos,
            retain,
            identifiers,
        }
    }
}

/// One client's copy of a message that goes to many: what differs from copy to copy.
pub struct Copy<'a> {
    /// The QoS of this copy.
    pub qos: QoS,
    /// Its RETAIN.
    pub retain: bool,
    /// Its Packet Identifier, at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// Its Subscription Identifiers.
    pub identifiers: &'a [u32],
}

impl Copy<'_> {
    /// Puts the copy into the outbox. `false` means that it exceeds the client's Maximum Packet Size, or has no topic below
    /// the client's mount point, and is passed over as if it had been sent [MQTT-3.1.2-25].
    #[inline]
    fn encode(
        &self,
        publication: &mut Publication<'_>,
        name: &str,
        link: &mut Link,
        output: &mut Output,
        now: Time,
    ) -> bool {
        let has_own_properties =
            link.alias_maximum > 0 || !self.identifiers.is_empty() || link.mount.is_some();
        if has_own_properties || output.layouts.has_one_receiver {
            return self.encode_alone(publication, name, false, link, output, now);
        }
        let version = link.version();
        let layouts = &mut output.layouts;
        let layout = layouts.get(publication, version, self.qos, self.retain, now);
        let encoded = &layouts.bytes[layout.start..layout.end];
        let payload_bytes = publication.payload.len();
        let packet_bytes = encoded.len()
            + if layouts.share_payload {
                payload_bytes
            } else {
                0
            };
        if !fits(link, packet_bytes) {
            return false;
        }
        let buffer = link.outbox.buffer_for(encoded.len(), &mut output.buffers);
        let start = buffer.len();
        buffer.extend_from_slice(encoded);
        if let Some(packet_id) = self.packet_id {
            // The layout serves QoS 1 and 2.
            buffer[start] = buffer[start] & !0b0110 | (self.qos as u8) << 1;
            let at = start + layout.packet_id_at;
            buffer[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
        }
        if layouts.share_payload {
            link.outbox
                .push_shared(Rc::clone(publication.stored(&output.tally)) as _);
        }
        self.account(publication, name, false, link, output);
        true
    }

    /// The same for a copy that nobody else can use: with aliases, Subscription Identifiers or DUP.
    pub fn encode_alone(
        &self,
        publication: &mut Publication<'_>,
        name: &str,
        dup: bool,
        link: &mut Link,
        output: &mut Output,
        now: Time,
    ) -> bool {
        let version = link.version();
        let Some(topic) = link.topic_seen(publication.topic) else {
            return false;
        };
        let (topic_alias, is_new) = alias_for(link, topic);
        let header = PublishHeader {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: if topic_alias.is_none() || is_new {
                topic
            } else {
                ""
            },
            packet_id: self.packet_id,
            passed_on: publication.passed_on,
            message_expiry_seconds: remaining_seconds(publication.expires, now),
            topic_alias,
            subscription_identifiers: self.identifiers,
            payload_length: publication.payload.len(),
        };
        let packet_bytes = header.packet_length(version);
        if !fits(link, packet_bytes) {
            return false;
        }
        let share = output.layouts.share_payload || publication.is_stored();
        let share = share && publication.payload.len() >= PAYLOAD_SHARED_BYTES_MIN;
        let copied_bytes = match share {
            true => packet_bytes - publication.payload.len(),
            false => packet_bytes,
        };
        let buffer = link.outbox.buffer_for(copied_bytes, &mut output.buffers);
        header.encode(version, buffer);
        if share {
            link.outbox
                .push_shared(Rc::clone(publication.stored(&output.tally)) as _);
        } else {
            buffer.extend_from_slice(publication.payload);
        }
        if let (true, Some(alias)) = (is_new, topic_alias) {
            let aliases = link.aliases.get_or_insert_default();
            aliases.sent.insert(topic.into(), alias);
        }
        self.account(publication, name, dup, link, output);
        true
    }

    #[inline]
    fn account(
        &self,
        publication: &Publication<'_>,
        name: &str,
        dup: bool,
        link: &mut Link,
        output: &mut Output,
    ) {
        if link.outbox.blocked {
            link.backlog += 1;
        }
        if self.packet_id.is_some() {
            link.window_used += 1;
        }
        output.mark_dirty(link);
        output.statistics.messages_sent += 1;
        output.statistics.publish_sent += 1;
        output.statistics.publish_bytes_sent += publication.payload.len() as u64;
        log::debug!(
            "Sending PUBLISH to {name} (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
            u8::from(dup),
            self.qos as u8,
            u8::from(self.retain),
            self.packet_id.map_or(0, PacketId::get),
            publication.topic,
            publication.payload.len(),
        );
    }
}

/// The Topic Alias for `topic`, if the client allows one more, and whether the client does not know it yet.
///
/// Aliases are given in the order of first use until there are no more, and stay: a topic that comes often enough to be
/// worth one comes early.
fn alias_for(link: &Link, topic: &str) -> (Option<u16>, bool) {
    if link.alias_maximum == 0 {
        // [MQTT-3.1.2-27]
        return (None, false);
    }
    let sent = link.aliases.as_ref().map(|aliases| &aliases.sent);
    if let Some(&alias) = sent.and_then(|sent| sent.get(topic)) {
        return (Some(alias), false);
    }
    let used = sent.map_or(0, |sent| sent.len());
    match used < usize::from(link.alias_maximum) {
        // [MQTT-3.1.2-26], [MQTT-3.3.2-11]
        true => (Some(used as u16 + 1), true),
        false => (None, false),
    }
}

/// Whether the client takes a PUBLISH of this size [MQTT-3.1.2-24].
#[inline]
fn fits(link: &Link, packet_bytes: usize) -> bool {
    let limit = link
        .packet_bytes_max
        .map_or(PACKET_BYTES_MAX, |max| max.get() as usize);
    packet_bytes <= limit.min(PACKET_BYTES_MAX)
}

/// Whether the client has not read so much that QoS 0 is not kept for it any more.
#[inline]
fn backlog_is_full(link: &Link, config: &Config) -> bool {
    link.outbox.blocked
        && (config
            .max_queued_messages
            .is_some_and(|max| link.backlog as usize >= max.get())
            || config
                .max_queued_bytes
                .is_some_and(|max| link.outbox.len() >= max.get())
            || link.outbox.len() >= BACKLOG_BYTES_MAX)
}

/// Whether the client's window has a place for `delivery` [MQTT-3.3.4-9], and so have `max_inflight_messages` and
/// `max_inflight_bytes`. These count every unfinished exchange; the window counts what this connection sent (4.9).
pub fn has_room(session: &Session, link: &Link, delivery: &Delivery, config: &Config) -> bool {
    if session.inflight.has_unsent() || link.window_used >= link.window {
        // [MQTT-4.9.0-2]
        return false;
    }
    let inflight = &session.inflight;
    let messages_max = config
        .max_inflight_messages
        .map_or(Inflight::MAX, |max| max.get().into());
    let bytes = inflight.payload_bytes() + delivery.message.payload().len();
    inflight.len() < messages_max.min(Inflight::MAX)
        && (inflight.is_empty()
            || config
                .max_inflight_bytes
                .is_none_or(|max| bytes <= max.get()))
}

/// Lets `delivery` wait, or drops it where the queue is full.
pub fn enqueue(
    session: &mut Session,
    delivery: Delivery,
    output: &mut Output,
    config: &Config,
    now: Time,
) {
    if !queue_accepts(session, &delivery, config) {
        if session
            .queue
            .earliest_expiry()
            .is_some_and(|earliest| earliest <= now)
        {
            session.queue.drop_expired(now);
        }
        if !queue_accepts(session, &delivery, config) {
            return drop_publication(session, output);
        }
    }
    if session.queue.is_empty() {
        session.is_dropping = false;
    }
    let row = output
        .journal
        .delivery(session.row.as_ref(), &delivery, None);
    session.queue.push(delivery, row);
}

/// Whether the queue has room for `delivery`.
pub fn queue_accepts(session: &Session, delivery: &Delivery, config: &Config) -> bool {
    let bytes = session.queue.payload_bytes() + delivery.message.payload().len();
    config
        .max_queued_messages
        .is_none_or(|max| session.queue.len() < max.get())
        && config.max_queued_bytes.is_none_or(|max| bytes <= max.get())
}

/// Counts a message that one client does not get; the log hears of the first of a row.
fn drop_publication(session: &mut Session, output: &mut Output) {
    output.statistics.publish_dropped += 1;
    if !session.is_dropping {
        session.is_dropping = true;
        let name = &session.client_id;
        log::info!(target: NOTICE, "Outgoing messages are being dropped for client {name}.");
    }
}
