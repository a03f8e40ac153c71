//! PUBLISH (3.3): a borrowed view of what came in, and the encoder of what goes out.

use super::primitive::{self, Reader, put_binary, put_variable_byte_integer};
use super::property::{Place, VariableByteInteger};
use super::{DecodeError, PacketId, PacketType, Properties, Property, ProtocolVersion, QoS, topic};

/// A PUBLISH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// DUP: this may be an attempt to deliver the packet again (3.3.1.1).
    pub dup: bool,
    /// QoS (3.3.1.2).
    pub qos: QoS,
    /// RETAIN (3.3.1.3).
    pub retain: bool,
    /// The Topic Name; empty only in 5.0 and only beside a Topic Alias (3.3.2.1).
    pub topic: &'a str,
    /// The Packet Identifier, at QoS 1 and 2 (3.3.2.2).
    pub packet_id: Option<PacketId>,
    /// The properties (3.3.2.3).
    pub properties: Properties<'a>,
    /// The Application Message's payload (3.3.3).
    pub payload: &'a [u8],
}

/// Decodes the body of a PUBLISH whose fixed header has `flags`.
#[inline]
pub(crate) fn decode(
    flags: u8,
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Publish<'_>, DecodeError> {
    let dup = flags & 0b1000 != 0;
    let qos = QoS::from_bits(flags >> 1).ok_or(DecodeError::Malformed("PUBLISH of QoS 3"))?;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::Malformed("PUBLISH of QoS 0 with DUP")); // [MQTT-3.3.1-2]
    }
    let mut reader = Reader::new(body);
    let name = reader.binary()?; // [MQTT-3.3.2-1]
    let topic = if name.is_empty() && version.is_v5() {
        ""
    } else {
        topic::name(name)?
    };
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
    };
    let properties = if version.is_v5() {
        Properties::read(&mut reader, Place::Packet(PacketType::Publish))?
    } else {
        Properties::NONE
    };
    if topic.is_empty()
        && !properties
            .iter()
            .any(|property| matches!(property, Property::TopicAlias(_)))
    {
        return Err(DecodeError::Protocol(
            "PUBLISH with neither topic nor topic alias",
        ));
    }
    let retain = flags & 1 != 0;
    Ok(Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        properties,
        payload: reader.rest(),
    })
}

/// The properties of a PUBLISH taken apart: those that a server passes on unaltered and in order [MQTT-3.3.2-18], and
/// those it handles itself (3.3.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Payload Format Indicator, Content Type, Response Topic, Correlation Data and User Properties, as on the wire.
    pub passed_on: &'a [u8],
    /// Message Expiry Interval in seconds.
    pub message_expiry_seconds: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<u16>,
    /// Whether there is a Subscription Identifier, which only a server may send [MQTT-3.3.4-6].
    pub has_subscription_identifier: bool,
}

// The identifiers of what is not passed on (2.2.2.2).
const MESSAGE_EXPIRY_INTERVAL: u32 = 0x02;
const SUBSCRIPTION_IDENTIFIER: u32 = 0x0B;
const WILL_DELAY_INTERVAL: u32 = 0x18;
const TOPIC_ALIAS: u32 = 0x23;

impl<'a> PublishProperties<'a> {
    /// Takes `properties` apart. What is passed on is borrowed from the packet where nothing else stands between,
    /// else collected in `scratch`.
    #[inline]
    pub fn split(properties: Properties<'a>, scratch: &'a mut Vec<u8>) -> PublishProperties<'a> {
        if properties.is_empty() {
            return PublishProperties::default();
        }
        PublishProperties::split_some(properties, scratch)
    }

    fn split_some(properties: Properties<'a>, scratch: &'a mut Vec<u8>) -> PublishProperties<'a> {
        let mut split = PublishProperties::default();
        scratch.clear();
        // What is passed on is not looked into again: its strings were checked when it was decoded.
        for (identifier, wire) in properties.iter_wire() {
            match (identifier, wire) {
                (MESSAGE_EXPIRY_INTERVAL, &[_, a, b, c, d]) => {
                    split.message_expiry_seconds = Some(u32::from_be_bytes([a, b, c, d]));
                }
                (TOPIC_ALIAS, &[_, a, b]) => split.topic_alias = Some(u16::from_be_bytes([a, b])),
                (SUBSCRIPTION_IDENTIFIER, _) => split.has_subscription_identifier = true,
                (WILL_DELAY_INTERVAL, _) => {}
                // [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20]
                _ => scratch.extend_from_slice(wire),
            }
        }
        split.passed_on = match scratch.len() == properties.as_bytes().len() {
            true => properties.as_bytes(),
            false => scratch,
        };
        split
    }
}

/// Whether `bytes` are properties as [`PublishProperties::passed_on`] has them: well formed, and none but those.
pub fn is_passed_on(bytes: &[u8]) -> bool {
    bytes.is_empty()
        || Properties::kept(bytes, Place::Packet(PacketType::Publish)).is_ok_and(|properties| {
            let mut scratch = Vec::new();
            PublishProperties::split(properties, &mut scratch).passed_on == bytes
        })
}

/// What a PUBLISH to be sent says, except its payload.
#[derive(Clone, Copy, Debug)]
pub struct PublishHeader<'a> {
    /// DUP.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// The Topic Name; may be empty in 5.0 where `topic_alias` stands for it.
    pub topic: &'a str,
    /// The Packet Identifier; needed at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// Properties that pass through, as on the wire; left out for versions before 5.0, like the following three.
    pub passed_on: &'a [u8],
    /// Message Expiry Interval in seconds.
    pub message_expiry_seconds: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<u16>,
    /// Subscription Identifiers, none of them 0.
    pub subscription_identifiers: &'a [u32],
    /// Length of the payload in bytes; it follows what [`encode`](PublishHeader::encode) appends.
    pub payload_length: usize,
}

impl PublishHeader<'_> {
    /// The first byte of the packet.
    #[inline]
    pub const fn first_byte(&self) -> u8 {
        (PacketType::Publish as u8) << 4
            | (self.dup as u8) << 3
            | (self.qos as u8) << 1
            | self.retain as u8
    }

    fn property_length(&self) -> usize {
        let identifiers = self
            .subscription_identifiers
            .iter()
            .map(|&identifier| 1 + primitive::variable_byte_integer_length(identifier));
        self.passed_on.len()
            + if self.message_expiry_seconds.is_some() {
                5
            } else {
                0
            }
            + if self.topic_alias.is_some() { 3 } else { 0 }
            + identifiers.sum::<usize>()
    }

    /// Length of the variable header in bytes (3.3.2).
    fn variable_header_length(&self, version: ProtocolVersion) -> usize {
        let mut length = 2 + self.topic.len();
        if self.packet_id.is_some() {
            length += 2;
        }
        if version.is_v5() {
            let properties = self.property_length();
            length += primitive::variable_byte_integer_length(properties as u32) + properties;
        }
        length
    }

    /// Length of the whole packet in bytes, payload included.
    pub fn packet_length(&self, version: ProtocolVersion) -> usize {
        let remaining_length = self.variable_header_length(version) + self.payload_length;
        1 + primitive::variable_byte_integer_length(remaining_length as u32) + remaining_length
    }

    /// Appends the packet up to its payload. The number is where in `out` the Packet Identifier stands, for a caller
    /// who sends the same bytes with other identifiers; it means nothing at QoS 0.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> usize {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce); // [MQTT-2.2.1-2]
        let remaining_length = self.variable_header_length(version) + self.payload_length;
        out.push(self.first_byte());
        put_variable_byte_integer(out, remaining_length as u32);
        put_binary(out, self.topic.as_bytes());
        let packet_id_at = out.len();
        if let Some(packet_id) = self.packet_id {
            out.extend_from_slice(&packet_id.get().to_be_bytes());
        }
        if version.is_v5() {
            put_variable_byte_integer(out, self.property_length() as u32);
            if let Some(alias) = self.topic_alias {
                Property::TopicAlias(alias).encode(out);
            }
            if let Some(seconds) = self.message_expiry_seconds {
                Property::MessageExpiryInterval(seconds).encode(out);
            }
            out.extend_from_slice(self.passed_on);
            for &identifier in self.subscription_identifiers {
                Property::SubscriptionIdentifier(VariableByteInteger(identifier)).encode(out);
            }
        }
        packet_id_at
    }
}
