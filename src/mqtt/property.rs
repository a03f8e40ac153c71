//! MQTT 5.0 properties (2.2.2): one table of identifier, type and the packets that may carry each.
//!
//! 1. [`Properties`] are checked once, when the packet is decoded: known, allowed in that packet, whole, in range, and
//!    there once unless the table says otherwise. Walking them afterwards cannot fail.

use super::primitive::{self, Reader, put_binary, put_variable_byte_integer};
use super::{DecodeError, PacketType, topic};

/// Where properties may stand: a kind of packet, or the Will Properties inside CONNECT (3.1.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The properties of a packet.
    Packet(PacketType),
    /// The properties of a Will Message.
    Will,
}

impl Place {
    const fn bit(self) -> u32 {
        match self {
            Place::Packet(kind) => kind.bit(),
            Place::Will => WILL,
        }
    }
}

const WILL: u32 = 1;
const CONNECT: u32 = PacketType::Connect.bit();
const CONNACK: u32 = PacketType::Connack.bit();
const PUBLISH: u32 = PacketType::Publish.bit();
const PUBACK: u32 = PacketType::Puback.bit();
const PUBREC: u32 = PacketType::Pubrec.bit();
const PUBREL: u32 = PacketType::Pubrel.bit();
const PUBCOMP: u32 = PacketType::Pubcomp.bit();
const SUBSCRIBE: u32 = PacketType::Subscribe.bit();
const SUBACK: u32 = PacketType::Suback.bit();
const UNSUBSCRIBE: u32 = PacketType::Unsubscribe.bit();
const UNSUBACK: u32 = PacketType::Unsuback.bit();
const DISCONNECT: u32 = PacketType::Disconnect.bit();
const AUTH: u32 = PacketType::Auth.bit();
/// Bits in the set of what a packet carries, see [`check`].
const AUTHENTICATION_METHOD: u64 = 1 << 0x15;
const AUTHENTICATION_DATA: u64 = 1 << 0x16;
const ACKS: u32 = PUBACK | PUBREC | PUBREL | PUBCOMP | SUBACK | UNSUBACK;

/// A value on the wire: how it is read and appended.
trait Value<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    /// Goes past a value without looking at it.
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        Self::read(reader).map(drop)
    }
    fn put(self, out: &mut Vec<u8>);
}

/// A Variable Byte Integer, told apart from a Four Byte Integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariableByteInteger(pub u32);

impl Value<'_> for u8 {
    fn read(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
        reader.u8()
    }
    fn put(self, out: &mut Vec<u8>) {
        out.push(self);
    }
}

impl Value<'_> for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
        reader.u16()
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Value<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
        reader.u32()
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Value<'_> for VariableByteInteger {
    fn read(reader: &mut Reader<'_>) -> Result<VariableByteInteger, DecodeError> {
        reader.variable_byte_integer().map(VariableByteInteger)
    }
    fn put(self, out: &mut Vec<u8>) {
        put_variable_byte_integer(out, self.0);
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        reader.string()
    }
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        reader.binary().map(drop)
    }
    fn put(self, out: &mut Vec<u8>) {
        put_binary(out, self.as_bytes());
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.binary()
    }
    fn put(self, out: &mut Vec<u8>) {
        put_binary(out, self);
    }
}

impl<'a> Value<'a> for (&'a str, &'a str) {
    fn read(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((reader.string()?, reader.string()?)) // [MQTT-1.5.7-1]
    }
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        reader.binary()?;
        reader.binary().map(drop)
    }
    fn put(self, out: &mut Vec<u8>) {
        put_binary(out, self.0.as_bytes());
        put_binary(out, self.1.as_bytes());
    }
}

macro_rules! properties {
    ($($identifier:literal $name:ident($kind:ty) $text:literal $places:expr;)*) => {
        /// One property: its name and value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $(#[doc = concat!("`", $text, "`")] $name($kind),)*
        }

        impl<'a> Property<'a> {
            /// The next one: its identifier, itself, and the packets that may carry it, as a set of bits.
            #[inline]
            fn read(reader: &mut Reader<'a>) -> Result<(u32, Property<'a>, u32), DecodeError> {
                let identifier = reader.variable_byte_integer()?;
                let (property, places) = match identifier {
                    $($identifier => (Property::$name(<$kind>::read(reader)?), $places),)*
                    _ => return Err(DecodeError::Malformed("unknown property")),
                };
                Ok((identifier, property, places))
            }

            /// Goes past one without looking at its value; its identifier.
            #[inline]
            fn skip(reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
                let identifier = reader.variable_byte_integer()?;
                match identifier {
                    $($identifier => <$kind>::skip(reader)?,)*
                    _ => return Err(DecodeError::Malformed("unknown property")),
                }
                Ok(identifier)
            }

            /// Appends the identifier and the value.
            pub fn encode(self, out: &mut Vec<u8>) {
                match self {
                    $(Property::$name(value) => {
                        out.push($identifier);
                        value.put(out);
                    })*
                }
            }

            /// The name that Mosquitto's tools use for it.
            pub const fn name(self) -> &'static str {
                match self { $(Property::$name(_) => $text,)* }
            }
        }
    };
}

properties! {
    0x01 PayloadFormatIndicator(u8) "payload-format-indicator" PUBLISH | WILL;
    0x02 MessageExpiryInterval(u32) "message-expiry-interval" PUBLISH | WILL;
    0x03 ContentType(&'a str) "content-type" PUBLISH | WILL; // [MQTT-3.3.2-19]
    0x08 ResponseTopic(&'a str) "response-topic" PUBLISH | WILL; // [MQTT-3.3.2-13]
    0x09 CorrelationData(&'a [u8]) "correlation-data" PUBLISH | WILL;
    0x0B SubscriptionIdentifier(VariableByteInteger) "subscription-identifier" PUBLISH | SUBSCRIBE;
    0x11 SessionExpiryInterval(u32) "session-expiry-interval" CONNECT | CONNACK | DISCONNECT;
    0x12 AssignedClientIdentifier(&'a str) "assigned-client-identifier" CONNACK;
    0x13 ServerKeepAlive(u16) "server-keep-alive" CONNACK;
    0x15 AuthenticationMethod(&'a str) "authentication-method" CONNECT | CONNACK | AUTH;
    0x16 AuthenticationData(&'a [u8]) "authentication-data" CONNECT | CONNACK | AUTH;
    0x17 RequestProblemInformation(u8) "request-problem-information" CONNECT;
    0x18 WillDelayInterval(u32) "will-delay-interval" WILL;
    0x19 RequestResponseInformation(u8) "request-response-information" CONNECT;
    0x1A ResponseInformation(&'a str) "response-information" CONNACK;
    0x1C ServerReference(&'a str) "server-reference" CONNACK | DISCONNECT;
    0x1F ReasonString(&'a str) "reason-string" CONNACK | ACKS | DISCONNECT | AUTH;
    0x21 ReceiveMaximum(u16) "receive-maximum" CONNECT | CONNACK;
    0x22 TopicAliasMaximum(u16) "topic-alias-maximum" CONNECT | CONNACK;
    0x23 TopicAlias(u16) "topic-alias" PUBLISH;
    0x24 MaximumQoS(u8) "maximum-qos" CONNACK;
    0x25 RetainAvailable(u8) "retain-available" CONNACK;
    0x26 UserProperty((&'a str, &'a str)) "user-property" CONNECT | CONNACK | PUBLISH | WILL | ACKS | SUBSCRIBE | UNSUBSCRIBE | DISCONNECT | AUTH;
    0x27 MaximumPacketSize(u32) "maximum-packet-size" CONNECT | CONNACK;
    0x28 WildcardSubscriptionAvailable(u8) "wildcard-subscription-available" CONNACK;
    0x29 SubscriptionIdentifierAvailable(u8) "subscription-identifier-available" CONNACK;
    0x2A SharedSubscriptionAvailable(u8) "shared-subscription-available" CONNACK;
}

impl Property<'_> {
    /// Whether the value is one that the specification allows.
    fn check_value(self) -> Result<(), DecodeError> {
        use Property::*;
        let allowed = match self {
            PayloadFormatIndicator(value)
            | RequestProblemInformation(value)
            | RequestResponseInformation(value)
            | MaximumQoS(value)
            | RetainAvailable(value)
            | WildcardSubscriptionAvailable(value)
            | SubscriptionIdentifierAvailable(value)
            | SharedSubscriptionAvailable(value) => value <= 1,
            ReceiveMaximum(value) => value != 0,
            MaximumPacketSize(value) => value != 0,
            SubscriptionIdentifier(value) => value.0 != 0,
            TopicAlias(0) => return Err(DecodeError::TopicAliasInvalid),
            // [MQTT-3.3.2-14]
            ResponseTopic(value) => topic::name(value.as_bytes()).is_ok(),
            _ => true,
        };
        if !allowed {
            return Err(DecodeError::Protocol("property value out of range"));
        }
        Ok(())
    }

    /// Whether it may stand more than once in one packet: a publish can match several Subscription Identifiers.
    const fn is_repeatable(self, place: Place) -> bool {
        match self {
            Property::UserProperty(_) => true,
            Property::SubscriptionIdentifier(_) => {
                matches!(place, Place::Packet(PacketType::Publish))
            }
            _ => false,
        }
    }
}

/// The properties of one packet, already checked; none in MQTT 3.1 and 3.1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const NONE: Properties<'static> = Properties { bytes: &[] };

    /// Reads the Property Length and the properties of a packet.
    #[inline]
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        place: Place,
    ) -> Result<Properties<'a>, DecodeError> {
        if let [0, rest @ ..] = reader.rest() {
            *reader = Reader::new(rest);
            return Ok(Properties::NONE);
        }
        let length = reader.variable_byte_integer()?;
        let bytes = reader.take(length as usize)?;
        check(bytes, place)?;
        Ok(Properties { bytes })
    }

    /// Properties that were kept without their length, and where they may stand.
    pub(crate) fn kept(bytes: &'a [u8], place: Place) -> Result<Properties<'a>, DecodeError> {
        check(bytes, place)?;
        Ok(Properties { bytes })
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties as they stand in the packet, without the Property Length.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The properties in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let (_, property, _) = Property::read(&mut reader).expect("checked when decoded");
            Some(property)
        })
    }

    /// The identifiers of the properties, each with the whole property as it stands in the packet.
    #[inline]
    pub(crate) fn iter_wire(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let before = reader.rest();
            if before.is_empty() {
                return None;
            }
            let identifier = Property::skip(&mut reader).expect("checked when decoded");
            Some((identifier, &before[..before.len() - reader.rest().len()]))
        })
    }

    /// Appends the Property Length and the properties [MQTT-2.2.2-1].
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_variable_byte_integer(out, self.bytes.len() as u32);
        out.extend_from_slice(self.bytes);
    }

    /// How many bytes [`encode`](Properties::encode) appends.
    pub const fn encoded_length(&self) -> usize {
        primitive::variable_byte_integer_length(self.bytes.len() as u32) + self.bytes.len()
    }
}

fn check(bytes: &[u8], place: Place) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    // Identifiers are below 64: one bit each says what was there.
    let mut seen = 0u64;
    while !reader.is_empty() {
        let (identifier, property, places) = Property::read(&mut reader)?;
        if places & place.bit() == 0 {
            return Err(DecodeError::Protocol(
                "property that this packet must not carry",
            ));
        }
        if seen & 1 << identifier != 0 && !property.is_repeatable(place) {
            return Err(DecodeError::Protocol("property given twice"));
        }
        seen |= 1 << identifier;
        property.check_value()?;
    }
    if seen & AUTHENTICATION_DATA != 0 && seen & AUTHENTICATION_METHOD == 0 {
        // 3.1.2.11.10
        return Err(DecodeError::Protocol(
            "authentication data without a method",
        ));
    }
    Ok(())
}

/// Properties under construction, for a packet to be sent.
#[derive(Clone, Debug, Default)]
pub struct PropertyBuffer {
    bytes: Vec<u8>,
}

impl PropertyBuffer {
    /// None yet.
    pub const fn new() -> PropertyBuffer {
        PropertyBuffer { bytes: Vec::new() }
    }

    /// Adds one at the end. Its strings and data are the caller's to check: UTF-8 Encoded Strings (1.5.4), and at most
    /// 65,535 bytes each.
    pub fn push(&mut self, property: Property<'_>) {
        property.encode(&mut self.bytes);
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What was added so far.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }
}
