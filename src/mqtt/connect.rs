//! CONNECT and CONNACK (3.1, 3.2).

use super::primitive::{self, Reader, put_binary};
use super::property::Place;
use super::{
    DecodeError, PacketType, Properties, ProtocolVersion, QoS, ReasonCode, encode_framed, topic,
};

/// A CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The Protocol Level, by its meaning (3.1.2.2).
    pub version: ProtocolVersion,
    /// Whether the client says that it is a bridge: bit 7 of the Protocol Level, Mosquitto's extension.
    pub is_bridge: bool,
    /// Clean Start; Clean Session before 5.0 (3.1.2.4).
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 turns it off (3.1.2.10).
    pub keep_alive: u16,
    /// The properties (3.1.2.11).
    pub properties: Properties<'a>,
    /// The Client Identifier; may be empty (3.1.3.1).
    pub client_id: &'a str,
    /// The Will Message (3.1.2.5).
    pub will: Option<Will<'a>>,
    /// The User Name (3.1.3.5).
    pub user_name: Option<&'a str>,
    /// The Password (3.1.3.6).
    pub password: Option<&'a [u8]>,
}

/// A Will Message as CONNECT carries it (3.1.3.2 to 3.1.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Properties.
    pub properties: Properties<'a>,
    /// Will Topic.
    pub topic: &'a str,
    /// Will Payload.
    pub payload: &'a [u8],
}

/// A CONNECT whose protocol is not spoken here, and how to say so [MQTT-3.1.2-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsupportedVersion {
    /// Neither `MQTT` nor `MQIsdp`: not an MQTT client; nothing it would understand can be said [MQTT-3.1.2-1].
    Name,
    /// A level of the other name's: answered as 3.1.1 does, return code 1.
    Mixed,
    /// A level that no version has: answered as 5.0 does, 0x84.
    Level,
}

const WILL_FLAG: u8 = 0b100;
const USER_NAME_FLAG: u8 = 0b1000_0000;
const PASSWORD_FLAG: u8 = 0b0100_0000;

fn version(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    let unsupported = |which| Err(DecodeError::UnsupportedVersion(which));
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return unsupported(UnsupportedVersion::Name);
    }
    let byte = reader.u8()?;
    match (name, byte & 0x7F) {
        (b"MQIsdp", 3) => Ok((ProtocolVersion::V31, byte & 0x80 != 0)),
        (b"MQTT", 4) => Ok((ProtocolVersion::V311, byte & 0x80 != 0)),
        (b"MQTT", 5) => Ok((ProtocolVersion::V5, byte & 0x80 != 0)),
        (_, 3..=5) => unsupported(UnsupportedVersion::Mixed),
        _ => unsupported(UnsupportedVersion::Level),
    }
}

/// Decodes the body of a CONNECT whose fixed header has `fixed_flags`.
pub(crate) fn decode(fixed_flags: u8, body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let (version, is_bridge) = version(&mut reader)?;
    decode_rest(fixed_flags, &mut reader, version, is_bridge).map_err(|error| match error {
        // From here on a client of 5.0 understands a reason.
        DecodeError::Malformed(what) if version.is_v5() => {
            DecodeError::Connect(ReasonCode::MalformedPacket, what)
        }
        DecodeError::Protocol(what) if version.is_v5() => {
            DecodeError::Connect(ReasonCode::ProtocolError, what)
        }
        other => other,
    })
}

fn decode_rest<'a>(
    fixed_flags: u8,
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
    is_bridge: bool,
) -> Result<Connect<'a>, DecodeError> {
    let flags = reader.u8()?;
    // Clients of 3.1 set bits that nobody looked at; later versions say what is to be 0.
    if version != ProtocolVersion::V31 {
        check_flags(fixed_flags, flags)?;
    }
    if flags & PASSWORD_FLAG != 0 && flags & USER_NAME_FLAG == 0 && !version.is_v5() {
        return Err(DecodeError::Malformed("password without a user name")); // 3.1.1: [MQTT-3.1.2-22]
    }
    let keep_alive = reader.u16()?;
    let properties = read_properties(reader, version, Place::Packet(PacketType::Connect))?;
    let client_id = read_client_id(reader, version)?; // [MQTT-3.1.3-1], [MQTT-3.1.3-3]
    let will = match flags & WILL_FLAG != 0 {
        true => Some(read_will(reader, flags, version)?), // [MQTT-3.1.2-9]
        false => None,
    };
    // In 3.1 the Remaining Length has precedence over these two flags: a field may be announced and missing.
    let is_there = |flag: u8, reader: &Reader<'_>| {
        flags & flag != 0 && !(version == ProtocolVersion::V31 && reader.is_empty())
    };
    let user_name = match is_there(USER_NAME_FLAG, reader) {
        // [MQTT-3.1.2-16], [MQTT-3.1.2-17]
        true => Some(reader.string()?), // [MQTT-3.1.3-12]
        false => None,
    };
    let password = match is_there(PASSWORD_FLAG, reader) {
        // [MQTT-3.1.2-18], [MQTT-3.1.2-19]
        true => Some(reader.binary()?),
        false => None,
    };
    if !reader.is_empty() {
        return Err(DecodeError::Malformed(
            "CONNECT goes on after its last field",
        ));
    }
    Ok(Connect {
        version,
        is_bridge,
        clean_start: flags & 0b10 != 0,
        keep_alive,
        properties,
        client_id,
        will,
        user_name,
        password,
    })
}

fn check_flags(fixed_flags: u8, flags: u8) -> Result<(), DecodeError> {
    if fixed_flags != 0 {
        return Err(DecodeError::Malformed("reserved flags in the fixed header"));
    }
    if flags & 1 != 0 {
        return Err(DecodeError::Malformed("reserved connect flag is set")); // [MQTT-3.1.2-3]
    }
    if flags & WILL_FLAG == 0 && flags & 0b0011_1000 != 0 {
        return Err(DecodeError::Malformed("will QoS or retain without a will")); // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    }
    Ok(())
}

/// The Client Identifier. In 5.0 one that is not a UTF-8 Encoded String is answered by a code of its own, as in
/// Mosquitto, so that its owner learns which field was wrong [MQTT-3.1.3-4]. Every other one is allowed [MQTT-3.1.3-5].
fn read_client_id<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
) -> Result<&'a str, DecodeError> {
    let bytes = reader.binary()?;
    primitive::utf8(bytes).map_err(|error| match error {
        DecodeError::Malformed(what) if version.is_v5() => {
            DecodeError::Connect(ReasonCode::ClientIdentifierNotValid, what)
        }
        other => other,
    })
}

fn read_properties<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
    place: Place,
) -> Result<Properties<'a>, DecodeError> {
    match version {
        ProtocolVersion::V5 => Properties::read(reader, place),
        ProtocolVersion::V31 | ProtocolVersion::V311 => Ok(Properties::NONE),
    }
}

fn read_will<'a>(
    reader: &mut Reader<'a>,
    flags: u8,
    version: ProtocolVersion,
) -> Result<Will<'a>, DecodeError> {
    // [MQTT-3.1.2-12]
    let qos = QoS::from_bits(flags >> 3).ok_or(DecodeError::Malformed("will of QoS 3"))?;
    let properties = read_properties(reader, version, Place::Will)?;
    let topic = topic::name(reader.binary()?)?; // [MQTT-3.1.3-11]
    let payload = reader.binary()?;
    Ok(Will {
        qos,
        retain: flags & 0b10_0000 != 0,
        properties,
        topic,
        payload,
    })
}

impl Connect<'_> {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_framed(out, PacketType::Connect.first_byte(), |out| {
            let name: &[u8] = match self.version {
                ProtocolVersion::V31 => b"MQIsdp",
                ProtocolVersion::V311 | ProtocolVersion::V5 => b"MQTT",
            };
            put_binary(out, name);
            out.push(self.version as u8 | (self.is_bridge as u8) << 7);
            out.push(self.flags());
            out.extend_from_slice(&self.keep_alive.to_be_bytes());
            if self.version.is_v5() {
                self.properties.encode(out);
            }
            put_binary(out, self.client_id.as_bytes());
            if let Some(will) = &self.will {
                if self.version.is_v5() {
                    will.properties.encode(out);
                }
                put_binary(out, will.topic.as_bytes());
                put_binary(out, will.payload);
            }
            if let Some(user_name) = self.user_name {
                put_binary(out, user_name.as_bytes());
            }
            if let Some(password) = self.password {
                put_binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = (self.clean_start as u8) << 1;
        if let Some(will) = &self.will {
            flags |= WILL_FLAG | (will.qos as u8) << 3 | (will.retain as u8) << 5;
        }
        if self.user_name.is_some() {
            flags |= USER_NAME_FLAG;
        }
        if self.password.is_some() {
            flags |= PASSWORD_FLAG;
        }
        flags
    }
}

/// A CONNACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Session Present (3.2.2.1.1).
    pub session_present: bool,
    /// The Connect Reason Code; in 3.1 and 3.1.1 the return code on the wire (3.2.2.2).
    pub code: u8,
    /// The properties (3.2.2.3).
    pub properties: Properties<'a>,
}

impl Connack<'_> {
    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_framed(out, PacketType::Connack.first_byte(), |out| {
            out.extend_from_slice(&[self.session_present as u8, self.code]); // [MQTT-3.2.2-1]
            if version.is_v5() {
                self.properties.encode(out);
            }
        });
    }
}

/// Decodes the body of a CONNACK.
pub(crate) fn decode_connack(
    body: &[u8],
    version: ProtocolVersion,
) -> Result<Connack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    if flags > 1 && version != ProtocolVersion::V31 {
        return Err(DecodeError::Malformed("reserved acknowledge flags are set"));
    }
    let code = reader.u8()?;
    if version.is_v5() && code == 1 && reader.is_empty() {
        // A server without 5.0 says so in the words of 3.1.1.
        return Ok(Connack {
            session_present: false,
            code: ReasonCode::UnsupportedProtocolVersion as u8,
            properties: Properties::NONE,
        });
    }
    if version.is_v5() && ReasonCode::from_byte(code, PacketType::Connack).is_none() {
        return Err(DecodeError::Protocol(
            "reason code that CONNACK does not have",
        ));
    }
    let properties = read_properties(&mut reader, version, Place::Packet(PacketType::Connack))?;
    if !reader.is_empty() {
        return Err(DecodeError::Malformed(
            "CONNACK goes on after its last field",
        ));
    }
    Ok(Connack {
        // A refusal has no session [MQTT-3.2.2-6]; a server that says otherwise is still to be heard.
        session_present: flags & 1 != 0 && code == 0,
        code,
        properties,
    })
}
