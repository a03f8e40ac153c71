//! Connections up to the point where the engine takes them over: CONNECT, CONNACK, SUBSCRIBE, SUBACK, blocking.
//!
//! Knows the codec of `midge::mqtt` and nothing of messages. Connections are opened in batches: all of a batch are
//! connected and written to before the first answer is waited for, so that thousands of them take no round trip each.

use std::io::{self, Read, Write};
use std::sync::Arc;

use midge::mqtt::{
    Connack, Connect, Disconnect, Limits, Packet, PacketId, Properties, Property, PropertyBuffer,
    ProtocolVersion, QoS, ReasonCode, Subscribe, SubscriptionOptions, decode,
};
use mio::net::TcpStream;
use rustls::ClientConfig;

use crate::stream::Stream;

/// Connections opened before the first answer is read; below the backlog of 100 that Mosquitto listens with.
const BATCH: usize = 64;

/// Filters in one SUBSCRIBE.
const FILTERS: usize = 100;

/// What all clients of a run have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// The broker's port on 127.0.0.1.
    pub port: u16,
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// User Name and Password.
    pub credentials: Option<(String, String)>,
    /// Whether the broker may send Topic Aliases.
    pub takes_aliases: bool,
}

/// A client to be connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its Client Identifier.
    pub client_id: String,
    /// What it subscribes to.
    pub filters: Vec<String>,
    /// At which QoS.
    pub qos: QoS,
    /// Whether its session outlives the connection.
    pub is_persistent: bool,
}

/// A client that is connected and, if it asked for that, subscribed.
pub struct Connected {
    /// The socket, not blocking any more.
    pub stream: Stream<TcpStream>,
    /// Bytes that came behind the answers, or between them: whole and partial packets.
    pub rest: Vec<u8>,
    /// How many exchanges at QoS 1 and 2 the broker lets this client have open.
    pub receive_maximum: u16,
}

type Blocking = Stream<std::net::TcpStream>;

/// Connects all `clients`, in their order; `first_index` counts the connections opened before.
///
/// # Errors
/// The first refusal or silence, with the client it met.
pub fn connect_all(
    common: &Common,
    clients: &[Client],
    first_index: u32,
) -> Result<Vec<Connected>, String> {
    let mut connected = Vec::with_capacity(clients.len());
    for batch in clients.chunks(BATCH) {
        let mut streams = Vec::with_capacity(BATCH);
        for client in batch {
            let index = first_index + (connected.len() + streams.len()) as u32;
            let stream = introduce(common, client, index);
            streams.push(stream.map_err(|error| format!("{}: {error}", client.client_id))?);
        }
        for (stream, client) in streams.into_iter().zip(batch) {
            let answered = await_answers(stream, client, common.version).and_then(finish);
            connected.push(answered.map_err(|error| format!("{}: {error}", client.client_id))?);
        }
    }
    Ok(connected)
}

fn introduce(common: &Common, client: &Client, index: u32) -> io::Result<Blocking> {
    let mut stream = Stream::connect(common.port, index, common.tls.as_ref())?;
    stream.write_all(&greeting(common, client))?;
    stream.flush()?;
    Ok(stream)
}

fn finish(answered: Answered) -> Result<Connected, String> {
    let (stream, decrypted) = answered
        .stream
        .into_engine()
        .map_err(|error| error.to_string())?;
    let mut rest = answered.rest;
    rest.extend_from_slice(&decrypted);
    Ok(Connected {
        stream,
        rest,
        receive_maximum: answered.receive_maximum,
    })
}

/// Connects `client`, subscribes it, says goodbye and waits until the broker has closed the connection, so that its
/// session is surely left behind.
///
/// # Errors
/// The broker refuses or does not close it.
pub fn visit(common: &Common, client: &Client, index: u32) -> Result<(), String> {
    let stream = introduce(common, client, index).map_err(|error| error.to_string())?;
    let mut stream = await_answers(stream, client, common.version)?.stream;
    let mut bytes = Vec::new();
    let disconnect = Disconnect {
        reason_code: ReasonCode::Success,
        properties: Properties::NONE,
    };
    disconnect.encode(common.version, &mut bytes);
    let mut wait = || {
        stream.write_all(&bytes)?;
        stream.flush()?;
        stream.read_to_end(&mut Vec::new())
    };
    match wait() {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(format!("the broker does not close: {error}")),
    }
}

/// CONNECT of `client`.
pub fn connect_packet(common: &Common, client: &Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut properties = PropertyBuffer::new();
    if client.is_persistent {
        properties.push(Property::SessionExpiryInterval(3600));
    }
    if common.takes_aliases {
        properties.push(Property::TopicAliasMaximum(10));
    }
    let connect = Connect {
        version: common.version,
        is_bridge: false,
        clean_start: !client.is_persistent,
        keep_alive: 0,
        properties: match common.version.is_v5() {
            true => properties.as_properties(),
            false => Properties::NONE,
        },
        client_id: &client.client_id,
        will: None,
        user_name: common.credentials.as_ref().map(|(user, _)| user.as_str()),
        password: common
            .credentials
            .as_ref()
            .map(|(_, password)| password.as_bytes()),
    };
    connect.encode(&mut bytes);
    bytes
}

/// CONNECT and SUBSCRIBE, which may follow without waiting for the CONNACK (MQTT 5.0, 3.1.4).
fn greeting(common: &Common, client: &Client) -> Vec<u8> {
    let mut bytes = connect_packet(common, client);
    let options = SubscriptionOptions::new(client.qos);
    let mut packet_id = PacketId::FIRST;
    for filters in client.filters.chunks(FILTERS) {
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| (filter.as_str(), options))
            .collect();
        Subscribe::encode(
            packet_id,
            Properties::NONE,
            &filters,
            common.version,
            &mut bytes,
        );
        packet_id = packet_id.next();
    }
    bytes
}

struct Answered {
    stream: Blocking,
    rest: Vec<u8>,
    receive_maximum: u16,
}

fn await_answers(
    mut stream: Blocking,
    client: &Client,
    version: ProtocolVersion,
) -> Result<Answered, String> {
    let limits = Limits {
        version: Some(version),
        packet_bytes_max: u32::MAX,
    };
    let mut bytes = Vec::new();
    let mut rest = Vec::new();
    let mut receive_maximum = u16::MAX;
    let mut connack_due = true;
    let mut subacks_due = client.filters.chunks(FILTERS).len();
    while connack_due || subacks_due > 0 {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the broker closed the connection".into()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(format!("no answer: {error}")),
        }
        let mut consumed = 0;
        while connack_due || subacks_due > 0 {
            let decoded = decode(&bytes[consumed..], limits).map_err(|error| error.to_string())?;
            let Some((packet, length)) = decoded else {
                break;
            };
            match packet {
                Packet::Connack(connack) => {
                    receive_maximum = accept(&connack)?;
                    connack_due = false;
                }
                Packet::Suback(suback) => {
                    if suback.codes.iter().any(|code| *code > 2) {
                        return Err(format!("subscription refused: {:?}", suback.codes));
                    }
                    subacks_due -= 1;
                }
                // What a session had waiting may come before the answer to SUBSCRIBE.
                Packet::Publish(_) => rest.extend_from_slice(&bytes[consumed..consumed + length]),
                other => return Err(format!("unexpected packet: {other:?}")),
            }
            consumed += length;
        }
        bytes.drain(..consumed);
    }
    rest.append(&mut bytes);
    Ok(Answered {
        stream,
        rest,
        receive_maximum,
    })
}

/// The broker's Receive Maximum, if it accepted the connection.
fn accept(connack: &Connack<'_>) -> Result<u16, String> {
    if connack.code != 0 {
        return Err(format!("CONNECT refused with code {}", connack.code));
    }
    let receive_maximum = connack
        .properties
        .iter()
        .find_map(|property| match property {
            Property::ReceiveMaximum(maximum) => Some(maximum),
            _ => None,
        });
    Ok(receive_maximum.unwrap_or(u16::MAX))
}
