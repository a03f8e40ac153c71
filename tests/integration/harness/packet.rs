//! MQTT packets as the standards write them: built and read here without Midge's own codec.
//!
//! A packet is built as it is spoken of, and becomes bytes only when a client sends or expects it, in the encoding
//! of that client's [`Version`]: `publish("a/b", "hi").qos(1).packet_id(7)` is the same line in each. What cannot
//! be said here is malformed, and sent as plain bytes, for which `string`, `properties` and `packet` help.

mod property;
mod tests;

use property::take_properties;
pub use property::*;

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`.
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// Every version, for what is to hold in each.
    pub const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];
}

/// What can be sent: a packet, or any bytes.
pub trait Encode {
    /// The bytes in the encoding of `version`.
    fn encode(&self, version: Version) -> Vec<u8>;
}

impl Encode for &Publish {
    fn encode(&self, version: Version) -> Vec<u8> {
        (*self).encode(version)
    }
}

impl<T: AsRef<[u8]>> Encode for T {
    fn encode(&self, _: Version) -> Vec<u8> {
        self.as_ref().to_vec()
    }
}

/// A Will Message.
#[derive(Clone, Debug, Default)]
pub struct Will {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    properties: Vec<Property>,
}

/// A will of QoS 0, not retained.
pub fn will(topic: &str, payload: impl AsRef<[u8]>) -> Will {
    Will {
        topic: topic.into(),
        payload: payload.as_ref().to_vec(),
        ..Will::default()
    }
}

impl Will {
    /// Sets the Will QoS.
    pub fn qos(self, qos: u8) -> Will {
        Will { qos, ..self }
    }

    /// Sets Will Retain.
    pub fn retain(self) -> Will {
        Will {
            retain: true,
            ..self
        }
    }

    /// Adds a Will Property.
    pub fn with(mut self, property: Property) -> Will {
        self.properties.push(property);
        self
    }
}

/// A CONNECT packet.
#[derive(Clone, Debug)]
pub struct Connect {
    client_id: String,
    clean: bool,
    keep_alive: u16,
    will: Option<Will>,
    username: Option<String>,
    password: Option<Vec<u8>>,
    properties: Vec<Property>,
    protocol: Option<(String, u8)>,
    flags: Option<u8>,
}

/// CONNECT with a clean start (a clean session), no will, no user and no keep alive.
pub fn connect(client_id: &str) -> Connect {
    Connect {
        client_id: client_id.into(),
        clean: true,
        keep_alive: 0,
        will: None,
        username: None,
        password: None,
        properties: Vec::new(),
        protocol: None,
        flags: None,
    }
}

impl Connect {
    /// Sets Clean Start, or Clean Session before 5.0.
    pub fn clean(self, clean: bool) -> Connect {
        Connect { clean, ..self }
    }

    /// A session that stays for an hour after the connection: Clean Start 0, in 5.0 with a Session Expiry Interval.
    pub fn persistent(self) -> Connect {
        self.clean(false).with(session_expiry_interval(3600))
    }

    /// Sets Keep Alive, in seconds.
    pub fn keep_alive(self, keep_alive: u16) -> Connect {
        Connect { keep_alive, ..self }
    }

    /// Adds a Will Message.
    pub fn will(self, will: Will) -> Connect {
        Connect {
            will: Some(will),
            ..self
        }
    }

    /// Adds a User Name.
    pub fn username(self, username: &str) -> Connect {
        Connect {
            username: Some(username.into()),
            ..self
        }
    }

    /// Adds a Password.
    pub fn password(self, password: impl AsRef<[u8]>) -> Connect {
        Connect {
            password: Some(password.as_ref().to_vec()),
            ..self
        }
    }

    /// Adds a property, for 5.0.
    pub fn with(mut self, property: Property) -> Connect {
        self.properties.push(property);
        self
    }

    /// Claims another Protocol Name and Protocol Version than the client's.
    pub fn protocol(self, name: &str, level: u8) -> Connect {
        Connect {
            protocol: Some((name.into(), level)),
            ..self
        }
    }

    /// Replaces the Connect Flags, whatever the payload then holds.
    pub fn flags(self, flags: u8) -> Connect {
        Connect {
            flags: Some(flags),
            ..self
        }
    }

    fn connect_flags(&self) -> u8 {
        let will = self.will.as_ref();
        let will_flags = will.map_or(0, |w| 0x04 | w.qos << 3 | u8::from(w.retain) << 5);
        u8::from(self.clean) << 1
            | will_flags
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.username.is_some()) << 7
    }
}

impl Encode for Connect {
    fn encode(&self, version: Version) -> Vec<u8> {
        let own_name = if version == Version::V31 {
            "MQIsdp"
        } else {
            "MQTT"
        };
        let own_protocol = (own_name.to_string(), version as u8);
        let (name, level) = self.protocol.as_ref().unwrap_or(&own_protocol);
        let mut body = string(name);
        body.extend([*level, self.flags.unwrap_or(self.connect_flags())]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(properties_in(version, &self.properties));
        body.extend(string(&self.client_id));
        if let Some(will) = &self.will {
            body.extend(properties_in(version, &will.properties));
            body.extend(string(&will.topic));
            body.extend(string(&will.payload));
        }
        body.extend(self.username.iter().flat_map(string));
        body.extend(self.password.iter().flat_map(string));
        packet(0x10, &body)
    }
}

/// A CONNACK packet, as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connack {
    /// Session Present.
    pub session_present: bool,
    /// The Connect Reason Code, or return code before 5.0.
    pub reason: u8,
    /// The properties, in their order.
    pub properties: Vec<Property>,
}

impl Connack {
    /// Reads a CONNACK; `None` if it is not one.
    pub fn decode(bytes: &[u8], version: Version) -> Option<Connack> {
        let body = body_of(bytes, 0x20, 0xFF)?;
        let [flags @ 0..=1, reason, rest @ ..] = body else {
            return None;
        };
        // A broker that refuses a version it does not know answers in one it chose.
        let (properties, rest) = match rest {
            [] => (Vec::new(), rest),
            _ => take_properties_in(version, rest)?,
        };
        rest.is_empty().then_some(Connack {
            session_present: *flags == 1,
            reason: *reason,
            properties,
        })
    }
}

/// A PUBLISH packet, to send, to expect or received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// The Topic Name; empty where a Topic Alias stands for it.
    pub topic: String,
    /// The Application Message.
    pub payload: Vec<u8>,
    /// QoS, from 0 to 2; 3 to be malformed.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag.
    pub dup: bool,
    /// The Packet Identifier, which is in the packet when `qos` is above 0.
    pub packet_id: u16,
    /// The properties, in their order.
    pub properties: Vec<Property>,
}

/// PUBLISH with QoS 0 and no flags.
pub fn publish(topic: &str, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        topic: topic.into(),
        payload: payload.as_ref().to_vec(),
        ..Publish::default()
    }
}

impl Publish {
    /// Sets the QoS.
    pub fn qos(self, qos: u8) -> Publish {
        Publish { qos, ..self }
    }

    /// Sets the Packet Identifier.
    pub fn packet_id(self, packet_id: u16) -> Publish {
        Publish { packet_id, ..self }
    }

    /// Sets the RETAIN flag.
    pub fn retain(self) -> Publish {
        Publish {
            retain: true,
            ..self
        }
    }

    /// Sets the DUP flag.
    pub fn dup(self) -> Publish {
        Publish { dup: true, ..self }
    }

    /// Adds a property, for 5.0.
    pub fn with(mut self, property: Property) -> Publish {
        self.properties.push(property);
        self
    }

    /// Reads a PUBLISH; `None` if it is not one, or malformed.
    pub fn decode(bytes: &[u8], version: Version) -> Option<Publish> {
        let flags = bytes.first()? & 0x0F;
        let (topic, rest) = take_string(body_of(bytes, 0x30, 0xF0)?)?;
        let qos = flags >> 1 & 3;
        let (packet_id, rest) = if qos > 0 { take_u16(rest)? } else { (0, rest) };
        let (properties, payload) = take_properties_in(version, rest)?;
        Some(Publish {
            topic: String::from_utf8(topic.to_vec()).ok()?,
            payload: payload.to_vec(),
            qos,
            retain: flags & 1 != 0,
            dup: flags & 8 != 0,
            packet_id,
            properties,
        })
    }
}

impl Encode for Publish {
    fn encode(&self, version: Version) -> Vec<u8> {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut body = string(&self.topic);
        if self.qos > 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        body.extend(properties_in(version, &self.properties));
        body.extend(&self.payload);
        packet(0x30 | flags, &body)
    }
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT or AUTH: an identifier or none, then reason and properties.
#[derive(Clone, Debug)]
pub struct Ack {
    first: u8,
    packet_id: Option<u16>,
    reason: Option<u8>,
    properties: Vec<Property>,
}

impl Ack {
    const fn new(first: u8, packet_id: Option<u16>) -> Ack {
        Ack {
            first,
            packet_id,
            reason: None,
            properties: Vec::new(),
        }
    }

    /// Adds a Reason Code, for 5.0. Without one the packet has its shortest form.
    pub fn reason(self, reason: u8) -> Ack {
        Ack {
            reason: Some(reason),
            ..self
        }
    }

    /// Adds a property, for 5.0; the Reason Code is 0x00 if there was none.
    pub fn with(mut self, property: Property) -> Ack {
        self.reason.get_or_insert(0);
        self.properties.push(property);
        self
    }
}

impl Encode for Ack {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body: Vec<u8> = self
            .packet_id
            .iter()
            .flat_map(|id| id.to_be_bytes())
            .collect();
        if version == Version::V5 {
            body.extend(self.reason);
            if !self.properties.is_empty() {
                body.extend(properties(&self.properties));
            }
        }
        packet(self.first, &body)
    }
}

/// PUBACK.
pub fn puback(packet_id: u16) -> Ack {
    Ack::new(0x40, Some(packet_id))
}

/// PUBREC.
pub fn pubrec(packet_id: u16) -> Ack {
    Ack::new(0x50, Some(packet_id))
}

/// PUBREL.
pub fn pubrel(packet_id: u16) -> Ack {
    Ack::new(0x62, Some(packet_id))
}

/// PUBCOMP.
pub fn pubcomp(packet_id: u16) -> Ack {
    Ack::new(0x70, Some(packet_id))
}

/// DISCONNECT.
pub fn disconnect() -> Ack {
    Ack::new(0xE0, None)
}

/// AUTH, of 5.0.
pub fn auth() -> Ack {
    Ack::new(0xF0, None)
}

/// PINGREQ.
pub fn pingreq() -> Ack {
    Ack::new(0xC0, None)
}

/// PINGRESP.
pub fn pingresp() -> Ack {
    Ack::new(0xD0, None)
}

/// A SUBSCRIBE or UNSUBSCRIBE packet.
#[derive(Clone, Debug)]
pub struct Subscribe {
    first: u8,
    packet_id: u16,
    properties: Vec<Property>,
    filters: Vec<u8>,
}

/// SUBSCRIBE; filters follow with [`Subscribe::filter`].
pub fn subscribe(packet_id: u16) -> Subscribe {
    Subscribe {
        first: 0x82,
        packet_id,
        properties: Vec::new(),
        filters: Vec::new(),
    }
}

/// UNSUBSCRIBE from these filters.
pub fn unsubscribe(packet_id: u16, filters: &[&str]) -> Subscribe {
    let filters = filters.iter().flat_map(string).collect();
    Subscribe {
        first: 0xA2,
        packet_id,
        properties: Vec::new(),
        filters,
    }
}

impl Subscribe {
    /// Adds a filter with its Subscription Options: the QoS, in 5.0 together with [`NO_LOCAL`] and its like.
    pub fn filter(mut self, filter: &str, options: u8) -> Subscribe {
        self.filters.extend(string(filter));
        self.filters.push(options);
        self
    }

    /// Adds a property, for 5.0.
    pub fn with(mut self, property: Property) -> Subscribe {
        self.properties.push(property);
        self
    }
}

/// Subscription Option: not one's own messages.
pub const NO_LOCAL: u8 = 0x04;
/// Subscription Option: RETAIN as it was published.
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
/// Subscription Option: retained messages only for a new subscription.
pub const RETAIN_IF_NEW: u8 = 0x10;
/// Subscription Option: no retained messages.
pub const RETAIN_NEVER: u8 = 0x20;

impl Encode for Subscribe {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        body.extend(properties_in(version, &self.properties));
        body.extend(&self.filters);
        packet(self.first, &body)
    }
}

/// A SUBACK or UNSUBACK packet to expect.
#[derive(Clone, Debug)]
pub struct Suback {
    first: u8,
    packet_id: u16,
    reasons: Vec<u8>,
}

/// SUBACK.
pub fn suback(packet_id: u16, reasons: &[u8]) -> Suback {
    Suback {
        first: 0x90,
        packet_id,
        reasons: reasons.to_vec(),
    }
}

/// UNSUBACK; the reasons are only for 5.0.
pub fn unsuback(packet_id: u16, reasons: &[u8]) -> Suback {
    Suback {
        first: 0xB0,
        packet_id,
        reasons: reasons.to_vec(),
    }
}

impl Encode for Suback {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        body.extend(properties_in(version, &[]));
        if self.first == 0x90 || version == Version::V5 {
            body.extend(&self.reasons);
        }
        packet(self.first, &body)
    }
}

/// A whole packet from its first byte and what follows the fixed header.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(variable_byte_integer(body.len()));
    bytes.extend(body);
    bytes
}

/// A UTF-8 Encoded String or Binary Data: two bytes of length, then the bytes.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let len = u16::try_from(bytes.len()).expect("tests write shorter strings");
    [&len.to_be_bytes(), bytes].concat()
}

/// A Variable Byte Integer.
pub fn variable_byte_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(0x80 | (value & 0x7F) as u8);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The lengths of the fixed header and of the rest, once the fixed header is whole.
pub fn fixed_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (len, rest) = take_variable_byte_integer(bytes.get(1..)?)?;
    Some((bytes.len() - rest.len(), len))
}

/// The same packet with its properties in the order of their identifiers.
///
/// The standard gives no meaning to their order, except among User Properties, which keep theirs.
pub fn sort_properties(bytes: &[u8], version: Version) -> Vec<u8> {
    let sorted = || {
        let start = properties_start(bytes).filter(|_| version == Version::V5)?;
        let (head, tail) = bytes.split_at_checked(start)?;
        let (mut list, rest) = take_properties(tail)?;
        list.sort_by_key(|property| property.id);
        Some([head, &properties(&list), rest].concat())
    };
    sorted().unwrap_or_else(|| bytes.to_vec())
}

/// Where the Property Length of a packet that a server sends stands, if there is one.
fn properties_start(bytes: &[u8]) -> Option<usize> {
    let (header, len) = fixed_header(bytes)?;
    let start = match bytes[0] >> 4 {
        2 | 9 | 11 => header + 2,
        3 => {
            let (topic, _) = take_string(&bytes[header..])?;
            header + 2 + topic.len() + if bytes[0] & 6 != 0 { 2 } else { 0 }
        }
        4..=7 => header + 3,
        14 | 15 => header + 1,
        _ => return None,
    };
    (start < header + len).then_some(start)
}

/// What follows the fixed header, if the first byte is `first` where `mask` has ones.
fn body_of(bytes: &[u8], first: u8, mask: u8) -> Option<&[u8]> {
    let (header, _) = fixed_header(bytes)?;
    (bytes[0] & mask == first).then_some(&bytes[header..])
}

fn properties_in(version: Version, list: &[Property]) -> Vec<u8> {
    if version == Version::V5 {
        properties(list)
    } else {
        Vec::new()
    }
}

fn take_properties_in(version: Version, bytes: &[u8]) -> Option<(Vec<Property>, &[u8])> {
    if version == Version::V5 {
        take_properties(bytes)
    } else {
        Some((Vec::new(), bytes))
    }
}

fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*value), rest))
}

fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = take_u16(bytes)?;
    rest.split_at_checked(len.into())
}

fn take_variable_byte_integer(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let len = bytes.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let groups = bytes[..len].iter().rev();
    let value = groups.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7F));
    Some((value, &bytes[len..]))
}
