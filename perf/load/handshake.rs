//! Connections up to the point where the engine takes them over: CONNECT, CONNACK, SUBSCRIBE, SUBACK, blocking.
//!
//! Knows the codec of `midge::mqtt` and nothing of messages. Connections are opened in batches: all of a batch are
//! connected and written to before the first answer is waited for, so that thousands of them take no round trip each.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use midge::mqtt::{
    Connack, Connect, Disconnect, Limits, Packet, PacketId, Properties, Property, PropertyBuffer,
    ProtocolVersion, PublishHeader, QoS, ReasonCode, Subscribe, SubscriptionOptions, decode,
};
use rustls::ClientConfig;

use crate::publisher::ALIAS;
use crate::stream::Stream;

/// Connections opened before the first answer is read; below the backlog of 100 that Mosquitto listens with.
pub const BATCH: usize = 64;

/// Connections from one source address: its ephemeral ports are 28,232 as Linux comes.
const PER_SOURCE_ADDRESS: u32 = 25_000;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many filters one SUBSCRIBE has at most.
const FILTERS_PER_SUBSCRIBE: usize = 100;

/// What all clients of a load have in common.
#[derive(Clone)]
pub struct Door {
    /// Where the broker listens.
    pub address: SocketAddr,
    /// The version of MQTT.
    pub version: ProtocolVersion,
    /// TLS, if there is any.
    pub tls: Option<Arc<ClientConfig>>,
    /// User Name and Password.
    pub user: Option<(String, String)>,
    /// How many Topic Aliases the broker may use.
    pub alias_maximum: u16,
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
    /// The topic that it gives the alias [`ALIAS`] by a first message, before there are subscribers.
    pub alias_of: Option<String>,
    /// Whether its session outlives the connection.
    pub persistent: bool,
}

/// A client that is connected and, if it asked for that, subscribed.
pub struct Connected {
    /// The connection, whose reads still wait.
    pub stream: Stream,
    /// Bytes that came behind the answers, or between them: whole and partial packets.
    pub rest: Vec<u8>,
    /// How many exchanges at QoS 1 and 2 the broker lets this client have open.
    pub receive_maximum: u16,
}

/// Connects all `clients`, in their order; `first_index` counts the connections opened before.
///
/// # Errors
/// The first refusal or silence, with the client it met.
pub fn connect_all(
    door: &Door,
    clients: &[Client],
    first_index: u32,
) -> Result<Vec<Connected>, String> {
    let mut connected = Vec::with_capacity(clients.len());
    for (batch_index, batch) in clients.chunks(BATCH).enumerate() {
        let mut streams = Vec::with_capacity(BATCH);
        for (index, client) in batch.iter().enumerate() {
            let index = first_index + (batch_index * BATCH + index) as u32;
            let stream = open(door, index).and_then(|mut stream| {
                stream.write_all(&greeting(client, door))?;
                Ok(stream)
            });
            streams.push(stream.map_err(|error| format!("{}: {error}", client.client_id))?);
        }
        for (stream, client) in streams.into_iter().zip(batch) {
            let answered = await_answers(stream, client, door.version);
            connected.push(answered.map_err(|error| format!("{}: {error}", client.client_id))?);
        }
    }
    Ok(connected)
}

/// Says goodbye and waits until the broker has closed the connection, so that its session is surely detached.
///
/// # Errors
/// The broker does not close it.
pub fn disconnect(mut stream: Stream, version: ProtocolVersion) -> io::Result<()> {
    say_good_bye(&mut stream, version)?;
    let mut ignored = [0; 4096];
    loop {
        match stream.read(&mut ignored) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Says goodbye.
///
/// # Errors
/// The connection is gone.
pub fn say_good_bye(stream: &mut Stream, version: ProtocolVersion) -> io::Result<()> {
    let mut bytes = Vec::new();
    let disconnect = Disconnect {
        reason_code: ReasonCode::Success,
        properties: Properties::NONE,
    };
    disconnect.encode(version, &mut bytes);
    stream.write_all(&bytes)?;
    stream.flush()
}

fn open(door: &Door, index: u32) -> io::Result<Stream> {
    let address = door.address;
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if index >= PER_SOURCE_ADDRESS && address.ip() == Ipv4Addr::LOCALHOST {
        let source = Ipv4Addr::from(Ipv4Addr::LOCALHOST.to_bits() + index / PER_SOURCE_ADDRESS);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect(&address.into())?;
    // Acknowledgements and single messages leave at once; a broker is not to be measured by our Nagle timer.
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Stream::new(socket.into(), door.tls.as_ref())
}

/// CONNECT and SUBSCRIBE, which may follow without waiting for the CONNACK (MQTT 5.0, 3.1.4).
fn greeting(client: &Client, door: &Door) -> Vec<u8> {
    let version = door.version;
    let mut bytes = Vec::new();
    let mut properties = PropertyBuffer::new();
    if client.persistent {
        properties.push(Property::SessionExpiryInterval(3600));
    }
    if door.alias_maximum > 0 {
        properties.push(Property::TopicAliasMaximum(door.alias_maximum));
    }
    let connect = Connect {
        version,
        is_bridge: false,
        clean_start: !client.persistent,
        keep_alive: 0,
        properties: match version.is_v5() {
            true => properties.as_properties(),
            false => Properties::NONE,
        },
        client_id: &client.client_id,
        will: None,
        user_name: door.user.as_ref().map(|(name, _)| name.as_str()),
        password: door.user.as_ref().map(|(_, password)| password.as_bytes()),
    };
    connect.encode(&mut bytes);
    for filters in client.filters.chunks(FILTERS_PER_SUBSCRIBE) {
        let options = SubscriptionOptions::new(client.qos);
        let filters: Vec<_> = filters.iter().map(|it| (it.as_str(), options)).collect();
        Subscribe::encode(
            PacketId::FIRST,
            Properties::NONE,
            &filters,
            version,
            &mut bytes,
        );
    }
    if let Some(topic) = &client.alias_of {
        PublishHeader {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(PacketId::FIRST),
            passed_on: &[],
            message_expiry_seconds: None,
            topic_alias: Some(ALIAS),
            subscription_identifiers: &[],
            payload_length: 0,
        }
        .encode(version, &mut bytes);
    }
    bytes
}

fn await_answers(
    mut stream: Stream,
    client: &Client,
    version: ProtocolVersion,
) -> Result<Connected, String> {
    let limits = Limits {
        version: Some(version),
        packet_bytes_max: u32::MAX,
    };
    let mut bytes = Vec::new();
    let mut rest = Vec::new();
    let mut receive_maximum = u16::MAX;
    let mut connack_due = true;
    let mut subacks_due = client.filters.len().div_ceil(FILTERS_PER_SUBSCRIBE);
    let mut puback_due = client.alias_of.is_some();
    while connack_due || subacks_due > 0 || puback_due {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the broker closed the connection".into()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(format!("no answer: {error}")),
        }
        let mut consumed = 0;
        while connack_due || subacks_due > 0 || puback_due {
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
                Packet::Puback(_) => puback_due = false,
                // What a session had waiting may come before the answer to SUBSCRIBE.
                Packet::Publish(_) => rest.extend_from_slice(&bytes[consumed..consumed + length]),
                other => return Err(format!("unexpected packet: {other:?}")),
            }
            consumed += length;
        }
        bytes.drain(..consumed);
    }
    rest.append(&mut bytes);
    Ok(Connected {
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
