//! What the chunks say, turned into records: the meaning of every field, and of none of them where it has none.
//!
//! 1. A record is checked when it is read, against those before it: Mosquitto writes messages first, then each client
//!    with its messages, then subscriptions, then what is retained.

use super::chunk::Chunk;
use super::{Counts, Import, WARNINGS_MAX};
use crate::broker::journal::{
    Batch, DeliveryRecord, MessageRecord, Owner, ProofKind, ReceivedRecord, SessionRecord, Source,
    SubscriptionRecord,
};
use crate::mqtt::primitive::{self, VARIABLE_BYTE_INTEGER_MAX};
use crate::mqtt::property::{Place, VariableByteInteger};
use crate::mqtt::{
    DecodeError, PacketType, Properties, Property, PublishProperties, QoS, Reader,
    SubscriptionOptions, topic,
};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Why a record is left out.
#[derive(Debug, PartialEq, Eq)]
enum LeftOut {
    /// It makes no sense.
    Damaged(&'static str),
    /// What it belongs to is left out, for a reason that was given there.
    WithOther,
    Ended,
    Expired,
    OfSystem,
}

impl From<DecodeError> for LeftOut {
    fn from(error: DecodeError) -> LeftOut {
        match error {
            DecodeError::Malformed(what) | DecodeError::Protocol(what) => LeftOut::Damaged(what),
            _ => LeftOut::Damaged("not as in a packet"),
        }
    }
}

/// The next 64 bits, which stand in the file as they stood in memory.
fn native_u64(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let bytes = reader.take(8)?;
    Ok(u64::from_ne_bytes(
        bytes.try_into().expect("eight were taken"),
    ))
}

/// Seconds of Unix time as milliseconds, at most as many as a store has numbers for; `None` for 0, which stands for
/// never, and for what is before it.
fn unix_ms(seconds: u64) -> Option<u64> {
    match seconds.cast_signed() {
        ..=0 => None,
        seconds => Some(seconds.saturating_mul(1000).cast_unsigned()),
    }
}

/// A name that may be missing.
fn name(bytes: &[u8]) -> Result<Option<String>, DecodeError> {
    match bytes {
        [] => Ok(None),
        _ => primitive::utf8(bytes).map(|name| Some(name.to_owned())),
    }
}

fn owner(user_name: Option<String>, listener_port: u16) -> Owner {
    Owner {
        // The file does not say whether it was proven, and the name of a session may be another's. As in Mosquitto, whoever
        // comes under the Client Identifier has the session, and from then on it is theirs.
        proof: ProofKind::None,
        user_name,
        listener_port,
    }
}

/// How many exchanges a session can have in flight, so that a Packet Identifier is always free.
const INFLIGHT_MAX: usize = u16::MAX as usize - 1;

/// A session, and the Packet Identifiers that are in use in it.
struct KeptSession {
    record: SessionRecord,
    sent: HashSet<u16>,
    received: HashSet<u16>,
}

/// A message, whose row is numbered when it is known that something refers to it.
struct KeptMessage {
    record: MessageRecord,
    source: Source,
    is_referred_to: bool,
    is_retained: bool,
}

/// What was read so far. Until [`Reading::finish`] numbers the rows, `session` and `message` of the records are indices
/// here.
pub struct Reading {
    version: u32,
    now_unix_ms: u64,
    sessions: Vec<KeptSession>,
    /// By Client Identifier; `None` where the session is left out.
    by_client_id: HashMap<String, Option<usize>>,
    messages: Vec<KeptMessage>,
    /// By Mosquitto's own number; `None` where the message is left out.
    by_store_id: HashMap<u64, Option<usize>>,
    retained_by_topic: HashMap<Box<[u8]>, usize>,
    /// The user name that Mosquitto wrote for a client that has none, see [`Reading::user_name`].
    repeated_user_name: Option<Box<[u8]>>,
    deliveries: Vec<DeliveryRecord>,
    received: Vec<ReceivedRecord>,
    subscriptions: Vec<SubscriptionRecord>,
    counts: Counts,
    warnings: Vec<String>,
    warnings_untold: usize,
}

impl Reading {
    /// Nothing yet, of a file of this version.
    pub fn new(version: u32, now_unix_ms: u64) -> Reading {
        Reading {
            version,
            now_unix_ms,
            sessions: Vec::new(),
            by_client_id: HashMap::new(),
            messages: Vec::new(),
            by_store_id: HashMap::new(),
            retained_by_topic: HashMap::new(),
            repeated_user_name: None,
            deliveries: Vec::new(),
            received: Vec::new(),
            subscriptions: Vec::new(),
            counts: Counts::default(),
            warnings: Vec::new(),
            warnings_untold: 0,
        }
    }

    /// Adds a warning about what begins at `offset`.
    pub fn warn(&mut self, offset: u64, what: fmt::Arguments<'_>) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(format!("at byte {offset}: {what}"));
        } else {
            self.warnings_untold += 1;
        }
    }

    /// Reads the next chunk.
    pub fn chunk(&mut self, chunk: Chunk<'_>) {
        let Chunk { offset, kind, body } = chunk;
        let (what, result) = match kind {
            1 => ("configuration", configuration(body)),
            2 => ("message", self.message(body)),
            3 => ("client message", self.client_message(body)),
            4 => ("retained message", self.retain(body)),
            5 => ("subscription", self.subscription(body)),
            6 => ("client", self.client(body)),
            _ => {
                self.warn(
                    offset,
                    format_args!("a chunk of kind {kind}, which is unknown"),
                );
                return;
            }
        };
        match result {
            Ok(()) | Err(LeftOut::WithOther) => {}
            Err(LeftOut::Damaged(why)) => {
                self.counts.damaged += 1;
                self.warn(offset, format_args!("a {what} is left out: {why}"));
            }
            Err(LeftOut::Ended) => self.counts.sessions_ended += 1,
            Err(LeftOut::Expired) => self.counts.messages_expired += 1,
            Err(LeftOut::OfSystem) => self.counts.messages_of_system += 1,
        }
    }

    fn message(&mut self, body: &[u8]) -> Result<(), LeftOut> {
        let mut reader = Reader::new(body);
        let store_id = native_u64(&mut reader)?;
        if self.by_store_id.contains_key(&store_id) {
            return Err(LeftOut::Damaged("another message has its number"));
        }
        // From here on it is known by its number, so that what refers to it can tell a message left out from none.
        self.by_store_id.insert(store_id, None);
        let message = self.message_behind_id(&mut reader)?;
        self.by_store_id.insert(store_id, Some(self.messages.len()));
        self.messages.push(message);
        Ok(())
    }

    fn message_behind_id(&self, reader: &mut Reader<'_>) -> Result<KeptMessage, LeftOut> {
        let expires = unix_ms(native_u64(reader)?);
        let payload_length = reader.u32()? as usize;
        let _source_packet_id = reader.u16()?;
        let source_id_length = reader.u16()?.into();
        let source_user_name_length = reader.u16()?.into();
        let topic_length = reader.u16()?;
        let source_port = reader.u16()?;
        let qos = qos(reader.u8()?)?;
        let retain = reader.u8()? != 0;
        let source = Source {
            client_id: name(reader.take(source_id_length)?)?,
            owner: owner(name(reader.take(source_user_name_length)?)?, source_port),
        };
        let topic = topic::name(reader.take(topic_length.into())?)?;
        let payload = reader.take(payload_length)?;
        let properties = properties(reader)?;
        if topic.starts_with("$SYS") {
            return Err(LeftOut::OfSystem);
        }
        if expires.is_some_and(|expires| expires <= self.now_unix_ms) {
            return Err(LeftOut::Expired);
        }
        let mut scratch = Vec::new();
        let passed_on = PublishProperties::split(properties, &mut scratch).passed_on;
        let record = MessageRecord {
            id: 0,
            bytes: [topic.as_bytes(), passed_on, payload].concat().into(),
            topic_length,
            properties_length: u32::try_from(passed_on.len()).expect("chunks are not that long"),
            qos,
            retain,
            expires,
            retained: None,
        };
        Ok(KeptMessage {
            record,
            source,
            is_referred_to: false,
            is_retained: false,
        })
    }

    /// The index of the message with Mosquitto's number `store_id`.
    fn message_index(&self, store_id: u64) -> Result<usize, LeftOut> {
        match self.by_store_id.get(&store_id) {
            Some(Some(index)) => Ok(*index),
            Some(None) => Err(LeftOut::WithOther),
            None => Err(LeftOut::Damaged("its message is not there")),
        }
    }

    /// The index of the session with this Client Identifier.
    fn session_index(&self, client_id: &[u8]) -> Result<usize, LeftOut> {
        match self.by_client_id.get(primitive::utf8(client_id)?) {
            Some(Some(index)) => Ok(*index),
            Some(None) => Err(LeftOut::WithOther),
            None => Err(LeftOut::Damaged("its client is not there")),
        }
    }

    /// The user name in a client's chunk, unless it may be another client's.
    ///
    /// Mosquitto 2.0 does not clear what it fills in. For a client without a user name it writes that of the client
    /// before once more, with the two bytes of its length changed over, which takes in what comes behind it in memory;
    /// for the next one they are changed back, and the name looks as if it were that client's own.
    fn user_name(&mut self, bytes: &[u8]) -> Result<Option<String>, DecodeError> {
        if let Some(end) = memchr::memchr(0, bytes) {
            self.repeated_user_name = Some(bytes[..end].into());
            return Ok(None);
        }
        let user_name = name(bytes)?;
        if user_name.is_some() && self.repeated_user_name.as_deref() == Some(bytes) {
            return Ok(None);
        }
        self.repeated_user_name = None;
        Ok(user_name)
    }

    fn client(&mut self, body: &[u8]) -> Result<(), LeftOut> {
        let mut reader = Reader::new(body);
        let mut ends = unix_ms(native_u64(&mut reader)?);
        let expiry_seconds = reader.u32()?;
        let last_packet_id = reader.u16()?;
        let id_length = usize::from(reader.u16()?);
        let (listener_port, user_name_length) = match self.version {
            5 => (0, 0),
            _ => (reader.u16()?, usize::from(reader.u16()?)),
        };
        // Where numbers of 64 bits begin at multiples of 8, version 6 is padded to one.
        match reader
            .rest()
            .len()
            .checked_sub(id_length + user_name_length)
        {
            Some(0) => {}
            Some(padding @ 4) if self.version == 6 => drop(reader.take(padding)?),
            _ => return Err(LeftOut::Damaged("its lengths do not add up")),
        }
        let client_id = primitive::utf8(reader.take(id_length)?)?;
        if client_id.is_empty() {
            return Err(LeftOut::Damaged("it has no client identifier"));
        }
        if self.by_client_id.contains_key(client_id) {
            return Err(LeftOut::Damaged("another has its client identifier"));
        }
        self.by_client_id.insert(client_id.to_owned(), None);
        let user_name = self.user_name(reader.take(user_name_length)?)?;
        if ends.is_none() && expiry_seconds != u32::MAX {
            // It was connected, so its time begins now.
            let left = u64::from(expiry_seconds) * 1000;
            ends = Some(self.now_unix_ms.saturating_add(left));
        }
        if ends.is_some_and(|ends| ends <= self.now_unix_ms) {
            return Err(LeftOut::Ended);
        }
        let owner = owner(user_name, listener_port);
        let record = SessionRecord {
            id: 0,
            client_id: client_id.to_owned(),
            owner,
            expiry_seconds,
            ends,
            will: None,
            will_due: None,
            next_packet_id: last_packet_id.checked_add(1).unwrap_or(1),
        };
        self.by_client_id
            .insert(client_id.to_owned(), Some(self.sessions.len()));
        self.sessions.push(KeptSession {
            record,
            sent: HashSet::new(),
            received: HashSet::new(),
        });
        Ok(())
    }

    fn client_message(&mut self, body: &[u8]) -> Result<(), LeftOut> {
        let mut reader = Reader::new(body);
        let store_id = native_u64(&mut reader)?;
        let packet_id = reader.u16()?;
        let id_length = reader.u16()?;
        let qos = qos(reader.u8()?)?;
        let state = State::from_byte(reader.u8()?)?;
        let retain = reader.u8()? >> 4 != 0;
        let direction = reader.u8()?;
        let session = self.session_index(reader.take(id_length.into())?)?;
        let identifiers = properties(&mut reader)?
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(VariableByteInteger(identifier)) => {
                    Some(identifier)
                }
                _ => None,
            })
            .collect();
        match direction {
            0 => self.client_message_in(store_id, session, packet_id, qos, state),
            1 => {
                let delivery = DeliveryRecord {
                    id: 0,
                    session: session as u64,
                    message: None,
                    packet_id,
                    qos,
                    retain,
                    identifiers,
                };
                self.client_message_out(store_id, delivery, state)
            }
            _ => Err(LeftOut::Damaged("it goes neither in nor out")),
        }
    }

    /// A message that the client sent.
    fn client_message_in(
        &mut self,
        store_id: u64,
        session: usize,
        packet_id: u16,
        qos: QoS,
        state: State,
    ) -> Result<(), LeftOut> {
        match (qos, state) {
            (QoS::ExactlyOnce, State::WaitForPubrel | State::SendPubrec | State::Queued) => {}
            // It was passed on already. The client's PUBREL is answered without it.
            (QoS::ExactlyOnce, State::ResendPubcomp) => return Err(LeftOut::WithOther),
            _ => return Err(LeftOut::Damaged("a message in of another state or QoS")),
        }
        if packet_id == 0 {
            return Err(LeftOut::Damaged("packet identifier 0"));
        }
        let message = self.message_index(store_id)?;
        if !self.sessions[session].received.insert(packet_id) {
            return Err(LeftOut::Damaged("another has its packet identifier"));
        }
        self.messages[message].is_referred_to = true;
        self.received.push(ReceivedRecord {
            id: 0,
            session: session as u64,
            packet_id,
            message: message as u64,
        });
        Ok(())
    }

    /// A message for the client.
    fn client_message_out(
        &mut self,
        store_id: u64,
        mut delivery: DeliveryRecord,
        state: State,
    ) -> Result<(), LeftOut> {
        use State::*;
        let was_sent = match (delivery.qos, state) {
            (QoS::AtMostOnce, Publish | Queued) => false,
            (QoS::AtLeastOnce, Publish | WaitForPuback) => true,
            (QoS::ExactlyOnce, Publish | WaitForPubrec | ResendPubrel | WaitForPubcomp) => true,
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Queued) => false,
            _ => return Err(LeftOut::Damaged("a message out of another state or QoS")),
        };
        let is_owned = matches!(state, ResendPubrel | WaitForPubcomp);
        let message = match is_owned {
            true => None,
            false => Some(self.message_index(store_id)?),
        };
        let sent = &mut self.sessions[delivery.session as usize].sent;
        let has_place = was_sent
            && delivery.packet_id != 0
            && sent.len() < INFLIGHT_MAX
            && sent.insert(delivery.packet_id);
        if !has_place {
            // Better another time than not at all.
            if is_owned {
                return Err(LeftOut::Damaged("another has its packet identifier"));
            }
            // A number that Mosquitto set aside for what waits is nothing to the client.
            delivery.packet_id = 0;
        }
        if let Some(message) = message {
            self.messages[message].is_referred_to = true;
            delivery.message = Some(message as u64);
        }
        self.deliveries.push(delivery);
        Ok(())
    }

    fn retain(&mut self, body: &[u8]) -> Result<(), LeftOut> {
        let index = self.message_index(native_u64(&mut Reader::new(body))?)?;
        let record = &self.messages[index].record;
        if record.payload().is_empty() {
            return Err(LeftOut::Damaged("it has no payload"));
        }
        let before = self.retained_by_topic.insert(record.topic().into(), index);
        if let Some(before) = before {
            self.messages[before].is_retained = false;
        }
        let message = &mut self.messages[index];
        message.is_retained = true;
        // Nothing else becomes retained.
        message.record.retain = true;
        match before {
            Some(before) if before != index => {
                Err(LeftOut::Damaged("a later one has the same topic"))
            }
            _ => Ok(()),
        }
    }

    fn subscription(&mut self, body: &[u8]) -> Result<(), LeftOut> {
        let mut reader = Reader::new(body);
        let identifier = reader.u32()?;
        let id_length = usize::from(reader.u16()?);
        let filter_length = usize::from(reader.u16()?);
        let (qos, options) = (reader.u8()?, reader.u8()?);
        match reader.rest().len().checked_sub(id_length + filter_length) {
            Some(padding @ (0 | 2)) => drop(reader.take(padding)?),
            _ => return Err(LeftOut::Damaged("its lengths do not add up")),
        }
        let session = self.session_index(reader.take(id_length)?)?;
        let filter = primitive::utf8(reader.take(filter_length)?)?;
        let is_shared = topic::shared(filter)?.group.is_some();
        let options = SubscriptionOptions::from_byte(qos | options)
            .filter(|options| qos <= 2 && !(is_shared && options.no_local()))
            .ok_or(LeftOut::Damaged("its options are none"))?;
        if identifier > VARIABLE_BYTE_INTEGER_MAX {
            return Err(LeftOut::Damaged(
                "its identifier is larger than there can be",
            ));
        }
        self.subscriptions.push(SubscriptionRecord {
            session: session as u64,
            filter: filter.to_owned(),
            options: options.byte(),
            identifier,
        });
        Ok(())
    }

    /// Numbers what is kept.
    pub fn finish(mut self) -> Import {
        let mut rows = 1..;
        let mut next_row = || rows.next().expect("fewer rows than numbers");
        let mut batch = Batch::default();

        let sessions = self.sessions.into_iter().map(|session| SessionRecord {
            id: next_row(),
            ..session.record
        });
        batch.sessions = sessions.collect();
        let session_row = |index: u64| batch.sessions[index as usize].id;

        let mut message_rows = vec![0; self.messages.len()];
        for (index, message) in self.messages.into_iter().enumerate() {
            if !message.is_retained && !message.is_referred_to {
                self.counts.messages_unreferenced += 1;
                continue;
            }
            message_rows[index] = next_row();
            batch.messages.push(MessageRecord {
                id: message_rows[index],
                retained: message.is_retained.then_some(message.source),
                ..message.record
            });
            self.counts.retained += usize::from(message.is_retained);
        }
        let message_row = |index: u64| message_rows[index as usize];

        // Mosquitto writes what is in flight before what waits, and each in its order; a sort that keeps order sees to
        // it also where a Packet Identifier was taken.
        self.deliveries
            .sort_by_key(|delivery| (delivery.session, delivery.packet_id == 0));
        let deliveries = self.deliveries.into_iter().map(|delivery| DeliveryRecord {
            id: next_row(),
            session: session_row(delivery.session),
            message: delivery.message.map(message_row),
            ..delivery
        });
        batch.deliveries = deliveries.collect();
        let received = self.received.into_iter().map(|received| ReceivedRecord {
            id: next_row(),
            session: session_row(received.session),
            message: message_row(received.message),
            ..received
        });
        batch.received = received.collect();

        let key = |it: &SubscriptionRecord| (it.session, it.filter.clone());
        self.subscriptions.sort_by_cached_key(key);
        // The last of those of one filter is the one in force.
        self.subscriptions.dedup_by(|later, earlier| {
            let same = key(later) == key(earlier);
            if same {
                std::mem::swap(later, earlier);
                self.counts.damaged += 1;
            }
            same
        });
        for subscription in &mut self.subscriptions {
            subscription.session = session_row(subscription.session);
        }
        batch.subscriptions = self.subscriptions;

        if self.warnings_untold > 0 {
            let untold = self.warnings_untold;
            self.warnings.push(format!("and {untold} more like these"));
        }
        Import {
            counts: Counts {
                sessions: batch.sessions.len(),
                subscriptions: batch.subscriptions.len(),
                queued: batch.deliveries.len(),
                received: batch.received.len(),
                ..self.counts
            },
            warnings: self.warnings,
            batch,
        }
    }
}

/// What Mosquitto says of itself: nothing that is needed, but how wide its numbers are.
fn configuration(body: &[u8]) -> Result<(), LeftOut> {
    let mut reader = Reader::new(body);
    let _last_store_id = native_u64(&mut reader)?;
    let _was_shut_down = reader.u8()?;
    match reader.u8()? {
        8 => Ok(()),
        _ => Err(LeftOut::Damaged("its numbers are not of 8 bytes")),
    }
}

fn qos(byte: u8) -> Result<QoS, LeftOut> {
    match byte {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(LeftOut::Damaged("its QoS is none")),
    }
}

/// What is left of a chunk: nothing, or properties with their length, as in a PUBLISH.
fn properties<'a>(reader: &mut Reader<'a>) -> Result<Properties<'a>, LeftOut> {
    if reader.is_empty() {
        return Ok(Properties::NONE);
    }
    let properties = Properties::read(reader, Place::Packet(PacketType::Publish))?;
    match reader.is_empty() {
        true => Ok(properties),
        false => Err(LeftOut::Damaged("there is more of it than it has")),
    }
}

/// How far an exchange got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, or sent on an earlier connection.
    Publish,
    WaitForPuback,
    WaitForPubrec,
    ResendPubrel,
    WaitForPubrel,
    ResendPubcomp,
    WaitForPubcomp,
    SendPubrec,
    Queued,
}

impl State {
    fn from_byte(byte: u8) -> Result<State, LeftOut> {
        Ok(match byte {
            1 | 2 | 4 => State::Publish,
            3 => State::WaitForPuback,
            5 => State::WaitForPubrec,
            6 => State::ResendPubrel,
            7 => State::WaitForPubrel,
            8 => State::ResendPubcomp,
            9 => State::WaitForPubcomp,
            10 => State::SendPubrec,
            11 => State::Queued,
            _ => return Err(LeftOut::Damaged("its state is none")),
        })
    }
}
