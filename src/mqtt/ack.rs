//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7): four packets of one shape.

use super::primitive::Reader;
use super::property::Place;
use super::{
    DecodeError, PacketId, PacketType, Properties, ProtocolVersion, ReasonCode, encode_framed,
};

/// One step of the exchange that follows a PUBLISH of QoS 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Of the PUBLISH that this belongs to [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// How it went; always Success before 5.0.
    pub reason_code: ReasonCode,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

impl Ack<'_> {
    /// An acknowledgement without properties.
    pub const fn new(packet_id: PacketId, reason_code: ReasonCode) -> Ack<'static> {
        Ack {
            packet_id,
            reason_code,
            properties: Properties::NONE,
        }
    }

    /// Appends the packet as one of `kind`, in the shortest form the version has: Success without properties is two
    /// bytes of body, as in 3.1.1 (3.4.2.1).
    #[inline]
    pub fn encode(&self, kind: PacketType, version: ProtocolVersion, out: &mut Vec<u8>) {
        let [high, low] = self.packet_id.get().to_be_bytes();
        if !version.is_v5() || self.reason_code == ReasonCode::Success && self.properties.is_empty()
        {
            out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
        } else if self.properties.is_empty() {
            out.extend_from_slice(&[kind.first_byte(), 3, high, low, self.reason_code as u8]);
        } else {
            encode_framed(out, kind.first_byte(), |out| {
                out.extend_from_slice(&[high, low, self.reason_code as u8]);
                self.properties.encode(out);
            });
        }
    }
}

/// Decodes the body of a packet of `kind`.
#[inline]
pub(crate) fn decode(
    kind: PacketType,
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Ack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if reader.is_empty() {
        return Ok(Ack::new(packet_id, ReasonCode::Success));
    }
    if !version.is_v5() {
        return Err(DecodeError::Malformed(
            "acknowledgement longer than two bytes",
        ));
    }
    let reason_code = ReasonCode::from_byte(reader.u8()?, kind).ok_or(DecodeError::Protocol(
        "reason code that this packet does not have",
    ))?;
    let properties = match reader.is_empty() {
        true => Properties::NONE,
        false => Properties::read(&mut reader, Place::Packet(kind))?,
    };
    if !reader.is_empty() {
        return Err(DecodeError::Malformed(
            "acknowledgement goes on after its properties",
        ));
    }
    Ok(Ack {
        packet_id,
        reason_code,
        properties,
    })
}
