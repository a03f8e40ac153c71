//! What the specification says: bytes <-> packets for MQTT 3.1, 3.1.1 and 5.0; no state, clock or I/O.
//!
//! [`decode`] borrows from the bytes it is given and allocates nothing. Each packet has a type with the
//! specification's field names and an `encode` that appends to a buffer; both directions are here, since a server, a
//! bridge and the client tools speak different halves of the same language.
//!
//! 1. A decoded packet obeys every rule of its own bytes: flags, lengths, UTF-8, property tables, reason codes. What a
//!    rule needs to know of the session (aliases in use, packet identifiers, rights) is the broker's.
//! 2. No input makes this room panic, recurse or allocate.

pub mod ack;
pub mod connect;
pub mod disconnect;
pub mod primitive;
pub mod property;
pub mod publish;
pub mod reason;
pub mod subscribe;
pub mod topic;

use std::fmt;
use std::num::NonZeroU16;

pub use ack::Ack;
pub use connect::{Connack, Connect, Will};
pub use disconnect::{Auth, Disconnect};
pub use primitive::Reader;
pub use property::{Properties, Property, PropertyBuffer};
pub use publish::{Publish, PublishHeader, PublishProperties};
pub use reason::ReasonCode;
pub use subscribe::{
    RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsuback, Unsubscribe,
};

/// The versions of the protocol, named by their Protocol Level (3.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1, which calls itself MQIsdp.
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl ProtocolVersion {
    /// Whether packets of this version carry properties and reason codes.
    pub const fn is_v5(self) -> bool {
        matches!(self, ProtocolVersion::V5)
    }
}

/// Quality of Service (4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once.
    AtLeastOnce = 1,
    /// QoS 2: exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS that two bits name; 3 is none [MQTT-3.3.1-4].
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits & 0b11 {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A Packet Identifier (2.2.1): never zero [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The first identifier, 1.
    pub const FIRST: PacketId = PacketId(NonZeroU16::MIN);

    /// The identifier after this one; 1 follows 65,535.
    pub fn next(self) -> PacketId {
        PacketId(self.0.checked_add(1).unwrap_or(NonZeroU16::MIN))
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kinds of MQTT Control Packet (2.1.2), by the number in the first four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The kind that a first byte names; 0 is forbidden.
    pub const fn of(first_byte: u8) -> Option<PacketType> {
        Some(match first_byte >> 4 {
            1 => PacketType::Connect,
            2 => PacketType::Connack,
            3 => PacketType::Publish,
            4 => PacketType::Puback,
            5 => PacketType::Pubrec,
            6 => PacketType::Pubrel,
            7 => PacketType::Pubcomp,
            8 => PacketType::Subscribe,
            9 => PacketType::Suback,
            10 => PacketType::Unsubscribe,
            11 => PacketType::Unsuback,
            12 => PacketType::Pingreq,
            13 => PacketType::Pingresp,
            14 => PacketType::Disconnect,
            15 => PacketType::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this kind that has no flags of its own (2.1.3).
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0, // [MQTT-3.14.1-1], [MQTT-3.15.1-1]
        };
        (self as u8) << 4 | flags
    }

    /// The bit of this kind in a set of kinds.
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// One MQTT Control Packet, borrowing from the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// What a receiver accepts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The version this Network Connection speaks; `None` before CONNECT, when nothing but CONNECT is accepted.
    pub version: Option<ProtocolVersion>,
    /// Our Maximum Packet Size in bytes, fixed header included (MQTT 5.0, 3.2.2.3.6).
    pub packet_bytes_max: u32,
}

/// Why bytes are not a packet. The text says what was found and where, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes cannot be parsed according to the specification (MQTT 5.0, 4.13).
    Malformed(&'static str),
    /// They can, but say what they must not.
    Protocol(&'static str),
    /// The fixed header promises more than our Maximum Packet Size.
    TooLarge,
    /// A Topic Alias of 0 (3.3.2.3.4).
    TopicAliasInvalid,
    /// The first packet of a Network Connection is not CONNECT [MQTT-3.1.0-1]; its first byte.
    NotConnect(u8),
    /// A CONNECT of a protocol that is not spoken here [MQTT-3.1.2-2].
    UnsupportedVersion(connect::UnsupportedVersion),
    /// A CONNECT of MQTT 5.0 that cannot be accepted; it is answered by a CONNACK.
    Connect(ReasonCode, &'static str),
}

impl From<DecodeError> for ReasonCode {
    /// The reason a peer of MQTT 5.0 is told (4.13).
    fn from(error: DecodeError) -> ReasonCode {
        match error {
            DecodeError::Malformed(_) => ReasonCode::MalformedPacket,
            DecodeError::Protocol(_) | DecodeError::NotConnect(_) => ReasonCode::ProtocolError,
            DecodeError::TooLarge => ReasonCode::PacketTooLarge,
            DecodeError::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            DecodeError::UnsupportedVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            DecodeError::Connect(reason, _) => reason,
        }
    }
}

impl DecodeError {
    /// What was wrong, for the log.
    pub const fn what(self) -> &'static str {
        match self {
            DecodeError::Malformed(what)
            | DecodeError::Protocol(what)
            | DecodeError::Connect(_, what) => what,
            DecodeError::TooLarge => "packet above the maximum packet size",
            DecodeError::TopicAliasInvalid => "topic alias 0",
            DecodeError::NotConnect(_) => "first packet not CONNECT",
            DecodeError::UnsupportedVersion(_) => "unsupported protocol version",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl std::error::Error for DecodeError {}

/// The fixed header at the front of `bytes` (2.1): the first byte, the header's own length and the Remaining Length.
/// `None` means that it is not whole yet.
///
/// A Remaining Length in more bytes than it needs is accepted, as in Mosquitto: [MQTT-1.5.5-1] binds the sender, some
/// small clients always send the same number of bytes and fill them in last, and the length is not in doubt.
#[inline]
fn fixed_header(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, DecodeError> {
    let [first, rest @ ..] = bytes else {
        return Ok(None);
    };
    let mut remaining_length = 0;
    for (i, byte) in rest.iter().take(4).enumerate() {
        remaining_length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((*first, i + 2, remaining_length)));
        }
    }
    if rest.len() >= 4 {
        return Err(DecodeError::Malformed(
            "remaining length of more than four bytes",
        ));
    }
    Ok(None)
}

/// How many bytes the packet at the front of `bytes` says it has, fixed header included; 0 while that is not known.
///
/// For the owner of the buffer: room for this much will be needed, and no more than this.
pub fn promised_length(bytes: &[u8]) -> usize {
    match fixed_header(bytes) {
        Ok(Some((_, header_length, remaining_length))) => header_length + remaining_length,
        Ok(None) | Err(_) => 0,
    }
}

/// Decodes the packet at the front of `bytes`, borrowing topic, properties and payload from it.
///
/// `None` means incomplete: call again with more bytes. Otherwise the number counts the bytes to consume, fixed header
/// included.
///
/// # Errors
/// [`DecodeError::TooLarge`] and [`DecodeError::NotConnect`] as soon as the fixed header says so, before the rest has
/// arrived; the others when the packet is whole.
#[inline]
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(version) = limits.version else {
        return decode_connect(bytes, limits);
    };
    let Some((first, header_length, remaining_length)) = fixed_header(bytes)? else {
        return Ok(None);
    };
    let length = header_length + remaining_length;
    if length > limits.packet_bytes_max as usize {
        return Err(DecodeError::TooLarge);
    }
    let Some(body) = bytes.get(header_length..length) else {
        return Ok(None);
    };
    let packet = decode_body(first, body, version)?;
    Ok(Some((packet, length)))
}

/// The first byte of a TLS connection: a handshake record (RFC 8446, 5.1).
pub const TLS_HANDSHAKE: u8 = 0x16;

/// The first packet of a Network Connection: its type is looked at before its length is believed.
fn decode_connect(
    bytes: &[u8],
    limits: Limits,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    // The flags are looked at later: 3.1 gave them no meaning in CONNECT, and its clients set them as they liked. But a
    // Remaining Length of 3 is too short for any CONNECT: that is the major version of a TLS record.
    if let Some(&first) = bytes.first()
        && (first >> 4 != PacketType::Connect as u8 || bytes.starts_with(&[TLS_HANDSHAKE, 3]))
    {
        return Err(DecodeError::NotConnect(first));
    }
    let Some((first, header_length, remaining_length)) = fixed_header(bytes)? else {
        return Ok(None);
    };
    let length = header_length + remaining_length;
    if length > limits.packet_bytes_max as usize {
        return Err(DecodeError::TooLarge);
    }
    let Some(body) = bytes.get(header_length..length) else {
        return Ok(None);
    };
    let connect = connect::decode(first & 0x0F, body)?;
    Ok(Some((Packet::Connect(connect), length)))
}

#[inline]
fn decode_body(
    first: u8,
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Packet<'_>, DecodeError> {
    if first >> 4 == PacketType::Publish as u8 {
        return publish::decode(first & 0x0F, body, version).map(Packet::Publish);
    }
    decode_other(first, body, version)
}

fn decode_other(
    first: u8,
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Packet<'_>, DecodeError> {
    let kind = PacketType::of(first).ok_or(DecodeError::Malformed("packet type 0"))?;
    // [MQTT-2.1.3-1]; 3.1 allowed DUP and a QoS in packets where they mean nothing.
    if first != kind.first_byte() && version != ProtocolVersion::V31 {
        return Err(DecodeError::Malformed("reserved flags in the fixed header"));
    }
    Ok(match kind {
        // [MQTT-3.1.0-2]; what else is wrong with it must not be answered as if it were the first.
        PacketType::Connect => return Err(DecodeError::Protocol("second CONNECT")),
        PacketType::Connack => Packet::Connack(connect::decode_connack(body, version)?),
        PacketType::Publish => Packet::Publish(publish::decode(first & 0x0F, body, version)?),
        PacketType::Puback => Packet::Puback(ack::decode(kind, body, version)?),
        PacketType::Pubrec => Packet::Pubrec(ack::decode(kind, body, version)?),
        PacketType::Pubrel => Packet::Pubrel(ack::decode(kind, body, version)?),
        PacketType::Pubcomp => Packet::Pubcomp(ack::decode(kind, body, version)?),
        PacketType::Subscribe => Packet::Subscribe(subscribe::decode_subscribe(body, version)?),
        PacketType::Suback => Packet::Suback(subscribe::decode_suback(body, version)?),
        PacketType::Unsubscribe => {
            Packet::Unsubscribe(subscribe::decode_unsubscribe(body, version)?)
        }
        PacketType::Unsuback => Packet::Unsuback(subscribe::decode_unsuback(body, version)?),
        PacketType::Pingreq => disconnect::decode_ping(body, Packet::Pingreq)?,
        PacketType::Pingresp => disconnect::decode_ping(body, Packet::Pingresp)?,
        PacketType::Disconnect => Packet::Disconnect(disconnect::decode(body, version)?),
        PacketType::Auth => Packet::Auth(disconnect::decode_auth(body, version)?),
    })
}

/// Appends a packet whose body `write` appends: the fixed header goes in front once the length is known.
pub(crate) fn encode_framed(out: &mut Vec<u8>, first_byte: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[first_byte, 0]);
    write(out);
    let remaining_length = out.len() - start - 2;
    let mut encoded = [0; 4];
    let length = primitive::variable_byte_integer(remaining_length as u32, &mut encoded);
    out[start + 1] = encoded[0];
    if length > 1 {
        out.splice(start + 2..start + 2, encoded[1..length].iter().copied());
    }
}

#[cfg(test)]
mod tests;
