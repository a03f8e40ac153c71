//! PINGREQ, PINGRESP, DISCONNECT and AUTH (3.12 to 3.15).

use super::primitive::Reader;
use super::property::Place;
use super::{
    DecodeError, Packet, PacketType, Properties, Property, ProtocolVersion, ReasonCode,
    encode_framed,
};

/// The whole of a PINGREQ.
pub const PINGREQ: [u8; 2] = [PacketType::Pingreq.first_byte(), 0];
/// The whole of a PINGRESP.
pub const PINGRESP: [u8; 2] = [PacketType::Pingresp.first_byte(), 0];

/// `ping`, if the body is as empty as it has to be.
pub(crate) fn decode_ping<'a>(body: &[u8], ping: Packet<'a>) -> Result<Packet<'a>, DecodeError> {
    match body.is_empty() {
        true => Ok(ping),
        false => Err(DecodeError::Malformed("PINGREQ or PINGRESP with a body")),
    }
}

/// A DISCONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; Success (normal disconnection) before 5.0.
    pub reason_code: ReasonCode,
    /// Session Expiry Interval, Reason String, User Properties, Server Reference.
    pub properties: Properties<'a>,
}

impl Disconnect<'_> {
    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_framed(out, PacketType::Disconnect.first_byte(), |out| {
            if !version.is_v5() {
                return;
            }
            let has_properties = !self.properties.is_empty();
            if self.reason_code != ReasonCode::Success || has_properties {
                out.push(self.reason_code as u8);
            }
            if has_properties {
                self.properties.encode(out);
            }
        });
    }
}

/// Decodes the body of a DISCONNECT.
pub(crate) fn decode(body: &[u8], version: ProtocolVersion) -> Result<Disconnect<'_>, DecodeError> {
    if !version.is_v5() {
        return match body.is_empty() {
            true => Ok(Disconnect {
                reason_code: ReasonCode::Success,
                properties: Properties::NONE,
            }),
            false => Err(DecodeError::Malformed("DISCONNECT with a body")),
        };
    }
    let (reason_code, properties) = decode_reason(body, PacketType::Disconnect)?;
    Ok(Disconnect {
        reason_code,
        properties,
    })
}

/// An AUTH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason_code: ReasonCode,
    /// Authentication Method and Data, Reason String, User Properties.
    pub properties: Properties<'a>,
}

impl Auth<'_> {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_framed(out, PacketType::Auth.first_byte(), |out| {
            if self.reason_code != ReasonCode::Success || !self.properties.is_empty() {
                out.push(self.reason_code as u8);
                self.properties.encode(out);
            }
        });
    }
}

/// Decodes the body of an AUTH, which only 5.0 has.
pub(crate) fn decode_auth(body: &[u8], version: ProtocolVersion) -> Result<Auth<'_>, DecodeError> {
    if !version.is_v5() {
        return Err(DecodeError::Malformed("AUTH before MQTT 5.0"));
    }
    let (reason_code, properties) = decode_reason(body, PacketType::Auth)?;
    // The form without a body has no place for the method (3.15.2.1); every other has to name it (3.15.2.2.2).
    if !body.is_empty()
        && !properties
            .iter()
            .any(|property| matches!(property, Property::AuthenticationMethod(_)))
    {
        return Err(DecodeError::Protocol(
            "AUTH without an authentication method",
        ));
    }
    Ok(Auth {
        reason_code,
        properties,
    })
}

/// The body that DISCONNECT and AUTH share: nothing, a reason code, or a reason code and properties (3.14.2).
fn decode_reason(
    body: &[u8],
    kind: PacketType,
) -> Result<(ReasonCode, Properties<'_>), DecodeError> {
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok((ReasonCode::Success, Properties::NONE));
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
            "packet goes on after its properties",
        ));
    }
    Ok((reason_code, properties))
}
