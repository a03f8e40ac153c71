//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11).

use super::primitive::{Reader, put_binary};
use super::property::Place;
use super::{
    DecodeError, PacketId, PacketType, Properties, ProtocolVersion, QoS, ReasonCode, encode_framed,
};

/// What a SUBSCRIBE may ask about retained messages (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: send retained messages at the time of the subscribe.
    #[default]
    Send = 0,
    /// 1: send them only if the subscription does not exist yet.
    SendIfNew = 1,
    /// 2: do not send them.
    DoNotSend = 2,
}

/// Subscription Options (3.8.3.1), kept as the byte on the wire: QoS in bits 0 and 1, No Local in bit 2, Retain As
/// Published in bit 3, Retain Handling in bits 4 and 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions(u8);

impl SubscriptionOptions {
    /// Options with this maximum QoS and nothing else set, as a SUBSCRIBE of 3.1.1 means them.
    pub const fn new(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions(qos as u8)
    }

    /// The options in `byte`, or `None` where it uses reserved bits or values [MQTT-3.8.3-5].
    pub const fn from_byte(byte: u8) -> Option<SubscriptionOptions> {
        if byte & 0b1100_0000 != 0 || byte & 0b11 == 0b11 || byte & 0b11_0000 == 0b11_0000 {
            return None;
        }
        Some(SubscriptionOptions(byte))
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Maximum QoS at which the server may send to this subscription.
    pub const fn qos(self) -> QoS {
        match self.0 & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// The same options with another maximum QoS: what the server granted.
    pub const fn with_qos(self, qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions(self.0 & !0b11 | qos as u8)
    }

    /// The same with Retain As Published as given.
    pub const fn with_retain_as_published(self, wanted: bool) -> SubscriptionOptions {
        SubscriptionOptions(self.0 & !0b1000 | (wanted as u8) << 3)
    }

    /// The same with another Retain Handling.
    pub const fn with_retain_handling(self, handling: RetainHandling) -> SubscriptionOptions {
        let bits = match handling {
            RetainHandling::Send => 0,
            RetainHandling::SendIfNew => 1,
            RetainHandling::DoNotSend => 2,
        };
        SubscriptionOptions(self.0 & 0b1100_1111 | bits << 4)
    }

    /// No Local: the client does not want what it published itself.
    pub const fn no_local(self) -> bool {
        self.0 & 0b100 != 0
    }

    /// Retain As Published: forward the RETAIN flag as the publisher set it.
    pub const fn retain_as_published(self) -> bool {
        self.0 & 0b1000 != 0
    }

    /// When retained messages are sent.
    pub const fn retain_handling(self) -> RetainHandling {
        match self.0 >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        }
    }
}

fn read_properties<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
    kind: PacketType,
) -> Result<Properties<'a>, DecodeError> {
    match version {
        ProtocolVersion::V5 => Properties::read(reader, Place::Packet(kind)),
        ProtocolVersion::V31 | ProtocolVersion::V311 => Ok(Properties::NONE),
    }
}

/// A SUBSCRIBE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The Packet Identifier.
    pub packet_id: PacketId,
    /// Subscription Identifier and User Properties.
    pub properties: Properties<'a>,
    /// Length of the list below is at least one; each filter is UTF-8 and each options byte is valid.
    filters: &'a [u8],
}

impl<'a> Subscribe<'a> {
    /// The Topic Filters, not yet checked for their own syntax, with their options, in the order of the packet.
    pub fn filters(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        let mut reader = Reader::new(self.filters);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            Some(read_filter_and_options(&mut reader).expect("checked when decoded"))
        })
    }

    /// Appends a SUBSCRIBE with these filters.
    pub fn encode(
        packet_id: PacketId,
        properties: Properties<'_>,
        filters: &[(&str, SubscriptionOptions)],
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) {
        encode_framed(out, PacketType::Subscribe.first_byte(), |out| {
            out.extend_from_slice(&packet_id.get().to_be_bytes());
            if version.is_v5() {
                properties.encode(out);
            }
            for (filter, options) in filters {
                put_binary(out, filter.as_bytes());
                out.push(match version {
                    ProtocolVersion::V5 => options.byte(),
                    ProtocolVersion::V31 | ProtocolVersion::V311 => options.qos() as u8,
                });
            }
        });
    }
}

/// The Packet Identifier of the four packets here. Mosquitto calls 0 malformed in these and a protocol error in all
/// others; the specification does not say which, so its words are kept.
fn read_packet_id(reader: &mut Reader<'_>) -> Result<PacketId, DecodeError> {
    reader.packet_id().map_err(|error| match error {
        DecodeError::Protocol(what) => DecodeError::Malformed(what),
        other => other,
    })
}

fn read_filter_and_options<'a>(
    reader: &mut Reader<'a>,
) -> Result<(&'a str, SubscriptionOptions), DecodeError> {
    let filter = reader.string()?; // [MQTT-3.8.3-1]
    let byte = reader.u8()?;
    if byte & 0b1100_0000 != 0 {
        // [MQTT-3.8.3-5]
        return Err(DecodeError::Malformed(
            "reserved bits in subscription options",
        ));
    }
    let options = SubscriptionOptions::from_byte(byte).ok_or(DecodeError::Protocol(
        "QoS 3 or retain handling 3 in subscription options",
    ))?;
    Ok((filter, options))
}

/// Decodes the body of a SUBSCRIBE.
pub(crate) fn decode_subscribe(
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = read_packet_id(&mut reader)?;
    let properties = read_properties(&mut reader, version, PacketType::Subscribe)?;
    let filters = reader.rest();
    if filters.is_empty() {
        return Err(DecodeError::Protocol("SUBSCRIBE without a topic filter")); // [MQTT-3.8.3-2]
    }
    while !reader.is_empty() {
        let (filter, options) = read_filter_and_options(&mut reader)?;
        if !version.is_v5() && options.byte() > 2 {
            // [MQTT-3.8.3-4] of 3.1.1, where the standard writes its own tag with a slip
            return Err(DecodeError::Malformed("reserved bits in the requested QoS"));
        }
        if options.no_local() && filter.starts_with("$share/") {
            // [MQTT-3.8.3-4]
            return Err(DecodeError::Protocol("no local on a shared subscription"));
        }
    }
    Ok(Subscribe {
        packet_id,
        properties,
        filters,
    })
}

/// An UNSUBSCRIBE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The Packet Identifier.
    pub packet_id: PacketId,
    /// User Properties.
    pub properties: Properties<'a>,
    filters: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// The Topic Filters, not yet checked for their own syntax, in the order of the packet.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.filters);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            Some(reader.string().expect("checked when decoded"))
        })
    }

    /// Appends an UNSUBSCRIBE with these filters.
    pub fn encode(
        packet_id: PacketId,
        properties: Properties<'_>,
        filters: &[&str],
        version: ProtocolVersion,
        out: &mut Vec<u8>,
    ) {
        encode_framed(out, PacketType::Unsubscribe.first_byte(), |out| {
            out.extend_from_slice(&packet_id.get().to_be_bytes());
            if version.is_v5() {
                properties.encode(out);
            }
            for filter in filters {
                put_binary(out, filter.as_bytes());
            }
        });
    }
}

/// Decodes the body of an UNSUBSCRIBE.
pub(crate) fn decode_unsubscribe(
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = read_packet_id(&mut reader)?;
    let properties = read_properties(&mut reader, version, PacketType::Unsubscribe)?;
    let filters = reader.rest();
    if filters.is_empty() {
        return Err(DecodeError::Protocol("UNSUBSCRIBE without a topic filter")); // [MQTT-3.10.3-2]
    }
    while !reader.is_empty() {
        reader.string()?; // [MQTT-3.10.3-1]
    }
    Ok(Unsubscribe {
        packet_id,
        properties,
        filters,
    })
}

macro_rules! subscription_ack {
    ($name:ident, $decode:ident, $text:literal) => {
        #[doc = concat!($text, " packet.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a> {
            /// Of the packet that this answers [MQTT-2.2.1-6].
            pub packet_id: PacketId,
            /// Reason String and User Properties.
            pub properties: Properties<'a>,
            /// A code for each Topic Filter, in the order of the request [MQTT-3.9.3-1], [MQTT-3.11.3-1].
            pub codes: &'a [u8],
        }

        impl $name<'_> {
            /// Appends the packet.
            pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
                encode_framed(out, PacketType::$name.first_byte(), |out| {
                    out.extend_from_slice(&self.packet_id.get().to_be_bytes());
                    if version.is_v5() {
                        self.properties.encode(out);
                    }
                    out.extend_from_slice(self.codes);
                });
            }
        }

        #[doc = concat!("Decodes the body of ", $text, ".")]
        pub(crate) fn $decode(
            body: &[u8],
            version: ProtocolVersion,
        ) -> Result<$name<'_>, DecodeError> {
            let mut reader = Reader::new(body);
            let packet_id = read_packet_id(&mut reader)?;
            let properties = read_properties(&mut reader, version, PacketType::$name)?;
            let codes = reader.rest();
            check_codes(PacketType::$name, codes, version)?;
            Ok($name {
                packet_id,
                properties,
                codes,
            })
        }
    };
}

subscription_ack!(Suback, decode_suback, "A SUBACK");
subscription_ack!(Unsuback, decode_unsuback, "An UNSUBACK");

/// Codes are never empty (CVE-2024-10525 was a client that trusted that), except in an UNSUBACK before 5.0, which has
/// none.
fn check_codes(
    kind: PacketType,
    codes: &[u8],
    version: ProtocolVersion,
) -> Result<(), DecodeError> {
    let codes_expected = version.is_v5() || kind == PacketType::Suback;
    if codes.is_empty() == codes_expected {
        return Err(DecodeError::Malformed("wrong number of reason codes"));
    }
    let known = codes.iter().all(|&code| match version {
        ProtocolVersion::V5 => ReasonCode::from_byte(code, kind).is_some(),
        ProtocolVersion::V31 | ProtocolVersion::V311 => code <= 2 || code == 0x80,
    });
    match known {
        true => Ok(()),
        false => Err(DecodeError::Protocol(
            "reason code that this packet does not have",
        )),
    }
}
