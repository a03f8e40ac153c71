//! MQTT 5.0 properties (2.2.2), by the names the standard gives them.

use super::{string, take_string, take_variable_byte_integer, variable_byte_integer};

/// A property: its identifier, and its value as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The Property Identifier.
    pub id: u8,
    /// The value's bytes, with the length where its type has one.
    pub value: Vec<u8>,
}

/// The identifier of [`message_expiry_interval`].
pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
/// The identifier of [`assigned_client_identifier`].
pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
/// The identifier of [`topic_alias`].
pub const TOPIC_ALIAS: u8 = 0x23;

/// The value of the first property with this identifier, without the length of a string.
pub fn value_of(properties: &[Property], id: u8) -> Option<&[u8]> {
    let found = properties.iter().find(|property| property.id == id)?;
    match id {
        ASSIGNED_CLIENT_IDENTIFIER => take_string(&found.value).map(|(value, _)| value),
        _ => Some(&found.value),
    }
}

/// A Property Length and the properties.
pub fn properties(list: &[Property]) -> Vec<u8> {
    let bytes: Vec<u8> = list
        .iter()
        .flat_map(|property| [&[property.id], &property.value[..]].concat())
        .collect();
    [variable_byte_integer(bytes.len()), bytes].concat()
}

/// Reads a Property Length and its properties; also gives what follows them.
pub(super) fn take_properties(bytes: &[u8]) -> Option<(Vec<Property>, &[u8])> {
    let (len, rest) = take_variable_byte_integer(bytes)?;
    let (mut bytes, rest) = rest.split_at_checked(len)?;
    let mut list = Vec::new();
    while let [id, tail @ ..] = bytes {
        let (value, tail) = tail.split_at_checked(value_len(*id, tail)?)?;
        list.push(Property {
            id: *id,
            value: value.to_vec(),
        });
        bytes = tail;
    }
    Some((list, rest))
}

/// How long the value at the front of `bytes` is, by the type of property `id`.
fn value_len(id: u8, bytes: &[u8]) -> Option<usize> {
    let string_len = |bytes| take_string(bytes).map(|(value, rest)| (2 + value.len(), rest));
    Some(match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => 1,
        0x13 | 0x21..=0x23 => 2,
        0x02 | 0x11 | 0x18 | 0x27 => 4,
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => string_len(bytes)?.0,
        0x26 => {
            let (name, rest) = string_len(bytes)?;
            name + string_len(rest)?.0
        }
        0x0B => bytes.len() - take_variable_byte_integer(bytes)?.1.len(),
        _ => return None,
    })
}

fn byte(id: u8, value: u8) -> Property {
    Property {
        id,
        value: vec![value],
    }
}

fn two_bytes(id: u8, value: u16) -> Property {
    Property {
        id,
        value: value.to_be_bytes().to_vec(),
    }
}

fn four_bytes(id: u8, value: u32) -> Property {
    Property {
        id,
        value: value.to_be_bytes().to_vec(),
    }
}

fn text(id: u8, value: impl AsRef<[u8]>) -> Property {
    Property {
        id,
        value: string(value),
    }
}

/// Payload Format Indicator.
pub fn payload_format_indicator(value: u8) -> Property {
    byte(0x01, value)
}

/// Message Expiry Interval, in seconds.
pub fn message_expiry_interval(seconds: u32) -> Property {
    four_bytes(MESSAGE_EXPIRY_INTERVAL, seconds)
}

/// Content Type.
pub fn content_type(value: impl AsRef<[u8]>) -> Property {
    text(0x03, value)
}

/// Response Topic.
pub fn response_topic(value: impl AsRef<[u8]>) -> Property {
    text(0x08, value)
}

/// Correlation Data.
pub fn correlation_data(value: impl AsRef<[u8]>) -> Property {
    text(0x09, value)
}

/// Subscription Identifier.
pub fn subscription_identifier(value: usize) -> Property {
    Property {
        id: 0x0B,
        value: variable_byte_integer(value),
    }
}

/// Session Expiry Interval, in seconds.
pub fn session_expiry_interval(seconds: u32) -> Property {
    four_bytes(0x11, seconds)
}

/// Assigned Client Identifier.
pub fn assigned_client_identifier(value: impl AsRef<[u8]>) -> Property {
    text(ASSIGNED_CLIENT_IDENTIFIER, value)
}

/// Server Keep Alive, in seconds.
pub fn server_keep_alive(seconds: u16) -> Property {
    two_bytes(0x13, seconds)
}

/// Authentication Method.
pub fn authentication_method(value: impl AsRef<[u8]>) -> Property {
    text(0x15, value)
}

/// Authentication Data.
pub fn authentication_data(value: impl AsRef<[u8]>) -> Property {
    text(0x16, value)
}

/// Request Problem Information.
pub fn request_problem_information(value: u8) -> Property {
    byte(0x17, value)
}

/// Will Delay Interval, in seconds.
pub fn will_delay_interval(seconds: u32) -> Property {
    four_bytes(0x18, seconds)
}

/// Request Response Information.
pub fn request_response_information(value: u8) -> Property {
    byte(0x19, value)
}

/// Response Information.
pub fn response_information(value: impl AsRef<[u8]>) -> Property {
    text(0x1A, value)
}

/// Server Reference.
pub fn server_reference(value: impl AsRef<[u8]>) -> Property {
    text(0x1C, value)
}

/// Reason String.
pub fn reason_string(value: impl AsRef<[u8]>) -> Property {
    text(0x1F, value)
}

/// Receive Maximum.
pub fn receive_maximum(value: u16) -> Property {
    two_bytes(0x21, value)
}

/// Topic Alias Maximum.
pub fn topic_alias_maximum(value: u16) -> Property {
    two_bytes(0x22, value)
}

/// Topic Alias.
pub fn topic_alias(value: u16) -> Property {
    two_bytes(TOPIC_ALIAS, value)
}

/// Maximum QoS.
pub fn maximum_qos(value: u8) -> Property {
    byte(0x24, value)
}

/// Retain Available.
pub fn retain_available(value: u8) -> Property {
    byte(0x25, value)
}

/// User Property.
pub fn user_property(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Property {
    Property {
        id: 0x26,
        value: [string(name), string(value)].concat(),
    }
}

/// Maximum Packet Size, in bytes.
pub fn maximum_packet_size(bytes: u32) -> Property {
    four_bytes(0x27, bytes)
}

/// Wildcard Subscription Available.
pub fn wildcard_subscription_available(value: u8) -> Property {
    byte(0x28, value)
}

/// Subscription Identifiers Available.
pub fn subscription_identifiers_available(value: u8) -> Property {
    byte(0x29, value)
}

/// Shared Subscription Available.
pub fn shared_subscription_available(value: u8) -> Property {
    byte(0x2A, value)
}
