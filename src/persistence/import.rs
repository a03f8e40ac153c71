//! Mosquitto's own database: a `mosquitto.db` becomes the records of a store of ours.
//!
//! The file is a header of magic bytes, a checksum that is always 0 and a version, then chunks: four bytes of kind, four
//! of length, a C structure, and what has a length in it. Numbers of 16 and 32 bits are big endian, those of 64 bits are
//! in the order of the machine, and structures are padded as its compiler pads them.
//!
//! Knows nothing of the store that the records go to, and never writes to the file.
//!
//! 1. Whatever the bytes are, reading them ends, without a panic, and takes no more memory than a few times the file.
//! 2. A record that makes no sense is left out alone, counted, and said why; where the chunks themselves stop making
//!    sense, what came before stays.
//! 3. What a record refers to is there: sessions and messages that others name have rows, and nothing else has.
//! 4. A session or a retained message whose owner's name cannot be read is left out: it does not become anybody's.

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
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// What a database had in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The records, whose rows are numbered from 1 on.
    pub batch: Batch,
    /// How many of each there are.
    pub counts: Counts,
    /// What did not make sense, a sentence each, at most [`WARNINGS_MAX`] and one that says how many more there are.
    pub warnings: Vec<String>,
}

/// How much of each was read, and how much was left out and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Messages on their way to sessions, in flight or waiting.
    pub queued: usize,
    /// QoS 2 messages received and not released.
    pub received: usize,
    /// Left out: sessions that ended meanwhile, with all that was theirs.
    pub sessions_ended: usize,
    /// Left out: messages that expired meanwhile, from every queue.
    pub messages_expired: usize,
    /// Left out: what the other broker said of itself in `$SYS`.
    pub messages_of_system: usize,
    /// Left out: messages that nothing refers to.
    pub messages_unreferenced: usize,
    /// Left out: records that make no sense.
    pub damaged: usize,
}

/// One sentence for the log.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            sessions,
            subscriptions,
            retained,
            queued,
            received,
            ..
        } = self;
        write!(
            f,
            "sessions: {sessions}, subscriptions: {subscriptions}, retained messages: {retained}, queued messages: \
             {queued}, messages not released: {received}"
        )?;
        let left_out = [
            ("sessions that ended meanwhile", self.sessions_ended),
            ("messages that expired meanwhile", self.messages_expired),
            ("$SYS messages", self.messages_of_system),
            ("messages for nobody", self.messages_unreferenced),
            ("damaged records", self.damaged),
        ];
        let mut separator = "; left out: ";
        for (what, count) in left_out.iter().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{what}: {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// More warnings than this are only counted.
pub const WARNINGS_MAX: usize = 50;

/// Why nothing could be read at all.
#[derive(Debug)]
pub enum ImportError {
    /// The file cannot be opened or read.
    Unreadable(PathBuf, io::Error),
    /// It is something else.
    NotADatabase(PathBuf),
    /// Its format is of this version.
    Version(PathBuf, u32),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Unreadable(path, error) => {
                write!(f, "{}: cannot read it: {error}", path.display())
            }
            ImportError::NotADatabase(path) => write!(
                f,
                "{}: not a database of Mosquitto, which begins with the bytes 00 B5 00 and \"mosquitto db\"",
                path.display()
            ),
            ImportError::Version(path, version) => {
                write!(
                    f,
                    "{}: a database of Mosquitto of version {version}; versions 5 and 6 can be read",
                    path.display()
                )?;
                match version {
                    2..=4 => f.write_str(
                        "; Mosquitto 2.0 or 2.1 writes it as version 6 when it is started with it and stopped",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::Unreadable(_, error) => Some(error),
            ImportError::NotADatabase(_) | ImportError::Version(..) => None,
        }
    }
}

/// Reads the `mosquitto.db` at `path`. What ended or expired before `now_unix_ms` is left out.
///
/// # Errors
/// When there is nothing to read, or it is no database of a version that is known here. Damage is no error; a file
/// without a byte, which Mosquitto also starts with, is not either.
pub fn read(path: &Path, now_unix_ms: u64) -> Result<Import, ImportError> {
    let unreadable = |error| ImportError::Unreadable(path.to_owned(), error);
    // Looked at first: to open a pipe is to wait for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(unreadable(error));
    }
    let file = File::open(path).map_err(unreadable)?;
    read_from(BufReader::new(file), now_unix_ms).map_err(|refusal| match refusal {
        Refusal::Unreadable(error) => unreadable(error),
        Refusal::NotADatabase => ImportError::NotADatabase(path.to_owned()),
        Refusal::Version(version) => ImportError::Version(path.to_owned(), version),
    })
}

/// An [`ImportError`] that does not know its file.
#[derive(Debug)]
enum Refusal {
    Unreadable(io::Error),
    NotADatabase,
    Version(u32),
}

const MAGIC: &[u8; 15] = b"\0\xB5\0mosquitto db";
/// [`MAGIC`], checksum and version.
const HEADER_BYTES: usize = MAGIC.len() + 4 + 4;

fn read_from(mut source: impl Read, now_unix_ms: u64) -> Result<Import, Refusal> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    (&mut source)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)
        .map_err(Refusal::Unreadable)?;
    if header.is_empty() {
        return Ok(Import {
            warnings: vec!["the file is empty".to_owned()],
            ..Import::default()
        });
    }
    let version = match header.strip_prefix(MAGIC) {
        Some(&[_, _, _, _, a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => return Err(Refusal::NotADatabase),
    };
    if !(5..=6).contains(&version) {
        return Err(Refusal::Version(version));
    }
    let mut reading = Reading::new(version, now_unix_ms);
    let mut chunks = Chunks::new(source);
    loop {
        match chunks.next() {
            Ok(Some(chunk)) => reading.chunk(chunk),
            Ok(None) => break,
            Err(why) => {
                reading.warn(chunks.offset, format_args!("{why}; what follows is lost"));
                break;
            }
        }
    }
    Ok(reading.finish())
}

/// A piece of the file.
struct Chunk<'a> {
    /// Where it begins.
    offset: u64,
    kind: u32,
    body: &'a [u8],
}

/// The pieces behind the header, one after the other.
struct Chunks<R> {
    source: R,
    /// Where the next one begins; where the reading stopped, after an error.
    offset: u64,
    buffer: Vec<u8>,
}

/// The largest chunk that can be: a message whose payload and properties fill a packet, and two names.
const CHUNK_BYTES_MAX: u32 = VARIABLE_BYTE_INTEGER_MAX + 2 * u16::MAX as u32 + 256;

impl<R: Read> Chunks<R> {
    fn new(source: R) -> Chunks<R> {
        Chunks {
            source,
            offset: HEADER_BYTES as u64,
            buffer: Vec::new(),
        }
    }

    /// Reads `length` bytes into the buffer, which grows with what is there and not with what is asked for.
    fn fill(&mut self, length: u32) -> Result<(), String> {
        self.buffer.clear();
        (&mut self.source)
            .take(length.into())
            .read_to_end(&mut self.buffer)
            .map_err(|error| format!("cannot read on: {error}"))?;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Chunk<'_>>, String> {
        self.fill(8)?;
        let (kind, length) = match *self.buffer {
            [] => return Ok(None),
            [a, b, c, d, e, f, g, h] => (
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
            ),
            _ => return Err("the file ends in the middle of a chunk".to_owned()),
        };
        if length > CHUNK_BYTES_MAX {
            return Err(format!(
                "a chunk of {length} bytes, where {CHUNK_BYTES_MAX} is the most there can be"
            ));
        }
        self.fill(length)?;
        let found = self.buffer.len();
        if found < length as usize {
            return Err(format!(
                "the file ends in the middle of a chunk: {found} of its {length} bytes are there"
            ));
        }
        let offset = self.offset;
        self.offset += 8 + u64::from(length);
        Ok(Some(Chunk {
            offset,
            kind,
            body: &self.buffer,
        }))
    }
}

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

/// Seconds of Unix time as milliseconds; `None` for 0, which stands for never, and for what is before it.
fn unix_ms(seconds: u64) -> Option<u64> {
    match seconds.cast_signed() {
        ..=0 => None,
        seconds => Some(seconds.cast_unsigned().saturating_mul(1000)),
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
        // The file does not say how; a name that nobody need prove would be anybody's.
        proof: match user_name {
            Some(_) => ProofKind::Password,
            None => ProofKind::None,
        },
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
struct Reading {
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
    fn new(version: u32, now_unix_ms: u64) -> Reading {
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

    fn warn(&mut self, offset: u64, what: fmt::Arguments<'_>) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(format!("at byte {offset}: {what}"));
        } else {
            self.warnings_untold += 1;
        }
    }

    fn chunk(&mut self, chunk: Chunk<'_>) {
        let Chunk { offset, kind, body } = chunk;
        let (what, result) = match kind {
            1 => ("configuration", configuration(body)),
            2 => ("message", self.message(body)),
            3 => ("client message", self.client_message(body)),
            4 => ("retained message", self.retain(body)),
            5 => ("subscription", self.subscription(body)),
            6 => ("client", self.client(offset, body)),
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

    /// The user name in a client's chunk, and whether it may be another client's.
    ///
    /// Mosquitto 2.0 does not clear what it fills in. For a client without a user name it writes that of the client
    /// before once more, with the two bytes of its length changed over, which takes in what comes behind it in memory;
    /// for the next one they are changed back, and the name looks as if it were that client's own.
    fn user_name(&mut self, bytes: &[u8]) -> Result<(Option<String>, bool), DecodeError> {
        if let Some(end) = memchr::memchr(0, bytes) {
            self.repeated_user_name = Some(bytes[..end].into());
            return Ok((None, false));
        }
        let user_name = name(bytes)?;
        let is_doubtful = user_name.is_some() && self.repeated_user_name.as_deref() == Some(bytes);
        if !is_doubtful {
            self.repeated_user_name = None;
        }
        Ok((user_name, is_doubtful))
    }

    fn client(&mut self, offset: u64, body: &[u8]) -> Result<(), LeftOut> {
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
        let (user_name, is_doubtful) = self.user_name(reader.take(user_name_length)?)?;
        if ends.is_none() && expiry_seconds != u32::MAX {
            // It was connected, so its time begins now.
            let left = u64::from(expiry_seconds) * 1000;
            ends = Some(self.now_unix_ms.saturating_add(left));
        }
        if ends.is_some_and(|ends| ends <= self.now_unix_ms) {
            return Err(LeftOut::Ended);
        }
        let mut owner = owner(user_name, listener_port);
        if is_doubtful {
            owner.proof = ProofKind::None;
            let why = "Mosquitto may have written another client's user name; whoever comes first has the session";
            self.warn(offset, format_args!("client {client_id:?}: {why}"));
        }
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
    fn finish(mut self) -> Import {
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

        // Mosquitto writes what is in flight before what waits, and each in its order; a sort that keeps order sees to it
        // also where a Packet Identifier was taken.
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

#[cfg(test)]
mod tests;
