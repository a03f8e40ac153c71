//! The packets that a load meets while it runs: PUBLISH and acknowledgements, in the layout of the standard.

use midge::mqtt::PacketType;

use crate::engine::{Connection, Failure, Role, Traffic};

/// Handles every whole packet at the front of `bytes`; the number counts their bytes.
pub fn scan(
    bytes: &[u8],
    connection: &mut Connection,
    traffic: &mut Traffic,
) -> Result<usize, Failure> {
    let mut at = 0;
    while let Some((first, body_at, end)) = whole_packet(&bytes[at..])? {
        let body = &bytes[at + body_at..at + end];
        at += end;
        match (PacketType::of(first), &connection.role) {
            (Some(PacketType::Publish), Role::Subscriber(index)) => {
                let qos = first >> 1 & 0b11;
                let topic_bytes = match body {
                    [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
                    _ => return Err("PUBLISH without a topic".into()),
                };
                let Some(payload_at) = body
                    .len()
                    .checked_sub(traffic.payload_bytes)
                    .filter(|at| *at >= 2 + topic_bytes + if qos > 0 { 2 } else { 0 })
                else {
                    return Err("PUBLISH shorter than what was sent".into());
                };
                if qos > 0 {
                    let packet_id = &body[2 + topic_bytes..4 + topic_bytes];
                    let kind = match qos {
                        1 => PacketType::Puback,
                        _ => PacketType::Pubrec,
                    };
                    let answer = [kind.first_byte(), 2, packet_id[0], packet_id[1]];
                    connection.control.extend_from_slice(&answer);
                    traffic.unreleased += u64::from(qos == 2);
                }
                traffic.arrive(*index, &body[payload_at..])?;
            }
            (Some(PacketType::Pubrel), Role::Subscriber(_)) => {
                let packet_id = acknowledged(body)?;
                let answer = [
                    PacketType::Pubcomp.first_byte(),
                    2,
                    packet_id[0],
                    packet_id[1],
                ];
                connection.control.extend_from_slice(&answer);
                traffic.unreleased = traffic.unreleased.saturating_sub(1);
            }
            (Some(PacketType::Puback | PacketType::Pubcomp), Role::Publisher(index)) => {
                acknowledged(body)?;
                traffic.acknowledge(*index);
            }
            (Some(PacketType::Pubrec), Role::Publisher(_)) => {
                let packet_id = acknowledged(body)?;
                let answer = [
                    PacketType::Pubrel.first_byte(),
                    2,
                    packet_id[0],
                    packet_id[1],
                ];
                connection.control.extend_from_slice(&answer);
            }
            (kind, _) => {
                return Err(format!(
                    "unexpected packet {kind:?} ({first:02X}): {body:02X?}"
                ));
            }
        }
    }
    Ok(at)
}

/// The Packet Identifier of an acknowledgement, unless it says that something failed.
fn acknowledged(body: &[u8]) -> Result<[u8; 2], Failure> {
    match *body {
        [high, low] => Ok([high, low]),
        [high, low, reason, ..] if reason < 0x80 => Ok([high, low]),
        _ => Err(format!("refused: {body:02X?}")),
    }
}

/// First byte, start of the body and end of the packet at the front of `bytes`, once all of it is there.
#[inline]
fn whole_packet(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Failure> {
    let mut remaining_length = 0;
    for index in 1..=4 {
        let Some(&byte) = bytes.get(index) else {
            return Ok(None);
        };
        remaining_length |= usize::from(byte & 0x7F) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            let end = index + 1 + remaining_length;
            return Ok((bytes.len() >= end).then_some((bytes[0], index + 1, end)));
        }
    }
    Err("remaining length of more than four bytes".into())
}
