//! The client's half of the protocol: what is sent, what is waited for, and what comes again after a lost connection.
//!
//! It makes and takes packets; sockets and time are [`super::Client`]'s. What -d tells is told here, in Mosquitto's words.
//! 1. A message of QoS 1 or 2 is kept until its exchange ends, and sent again with DUP on a new connection
//!    [MQTT-4.4.0-1]. At most as many are on their way as the server and `-M` allow [MQTT-3.3.4-9]; the others wait.
//! 2. A message of QoS 2 is shown once, when PUBREL comes, and its identifier is then forgotten [MQTT-4.3.3-11].
//! 3. Nothing is sent behind DISCONNECT [MQTT-3.14.4-2], and nothing that came behind what led to it is looked at: the
//!    server still has it.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::options::{Login, Options};
use super::output::Output;
use super::sending::Sending;
use crate::mqtt::disconnect::PINGREQ;
use crate::mqtt::{
    self, Ack, Connack, Connect, DecodeError, Disconnect, Packet, PacketId, PacketType, Properties,
    Property, PropertyBuffer, ProtocolVersion, Publish, PublishHeader, QoS, ReasonCode, Suback,
    Subscribe, SubscriptionOptions, Unsubscribe, Will,
};

/// Bytes that wait for the socket before a caller should stop to publish.
const SENDING_BYTES_MAX: usize = 256 * 1024;

/// DUP in the first byte of a PUBLISH (3.3.1.1).
const DUP: u8 = 0b1000;

/// What a tool does with what comes.
pub trait Handler {
    /// The server answered CONNECT, for better or worse.
    fn connected(&mut self, session: &mut Session, connack: &Connack<'_>);

    /// A message, to be shown.
    fn message(&mut self, _session: &mut Session, _publish: &Publish<'_>) {}

    /// The server answered SUBSCRIBE.
    fn subscribed(&mut self, _session: &mut Session, _packet_id: PacketId, _codes: &[u8]) {}

    /// A message has left, or its exchange has ended.
    fn published(&mut self, _session: &mut Session, _outcome: &Ack<'_>) {}
}

/// How a connection ends that we did not end.
#[derive(Debug)]
pub enum Lost {
    /// The network, with the system's reason if it has one.
    Connection(Option<std::io::Error>),
    /// TLS or WebSocket, which say why: another connection would end the same way.
    Layer(String),
    /// The server refused CONNECT.
    Refused,
    /// The server said DISCONNECT.
    Disconnected,
    /// What came is not MQTT, or not what may come now.
    Protocol,
    /// The bytes of a packet are wrong.
    Malformed,
    /// Nothing came for too long.
    KeepAlive,
}

/// Why a message is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// Above the server's Maximum QoS (3.2.2.3.4).
    QoSNotSupported,
    /// Above the server's Maximum Packet Size (3.2.2.3.6).
    PacketTooLarge,
    /// Above what a packet can hold (2.1.4).
    PayloadTooLarge,
    /// The server has no retained messages (3.2.2.3.5).
    RetainNotSupported,
    /// There is no connection.
    NotConnected,
}

/// Where the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// CONNECT was sent.
    Connecting,
    /// CONNACK said yes.
    Active,
    /// DISCONNECT was sent.
    Leaving,
    /// There is none.
    Absent,
}

/// What a message waits for, once it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Puback,
    Pubrec,
    Pubcomp,
}

/// A message of QoS 1 or 2 that we send.
#[derive(Debug)]
struct Outgoing {
    packet_id: PacketId,
    /// The PUBLISH, whole.
    packet: Rc<Vec<u8>>,
    awaits: Awaits,
    /// How -d tells of it.
    told: String,
}

/// What the server allows (3.2.2.3).
#[derive(Debug, Clone, Copy)]
struct Limits {
    receive_maximum: u16,
    qos_max: QoS,
    has_retain: bool,
    packet_bytes_max: u32,
}

const UNLIMITED: Limits = Limits {
    receive_maximum: u16::MAX,
    qos_max: QoS::ExactlyOnce,
    has_retain: true,
    packet_bytes_max: u32::MAX,
};

/// The client's half of the protocol.
pub struct Session {
    /// Standard output, also of what -d tells.
    pub out: Output,
    login: Login,
    debug: bool,
    max_inflight: u16,
    disconnect_properties: PropertyBuffer,
    /// What -d calls us.
    name: String,
    state: State,
    sending: Sending,
    last_packet_id: Option<PacketId>,
    /// In the order of their identifiers, which are given out one after the other.
    outgoing: VecDeque<Outgoing>,
    /// How many of `outgoing`, from the front, are on their way.
    in_flight: usize,
    /// Messages of QoS 0 whose bytes have not all left.
    unsent: VecDeque<PacketId>,
    /// Messages of QoS 2 that wait for PUBREL: their PUBLISH, whole.
    incoming: HashMap<PacketId, Vec<u8>>,
    /// Topic Aliases of the server (3.3.2.3.4).
    aliases: HashMap<u16, String>,
    limits: Limits,
    keep_alive: u16,
    /// A PINGREQ has no answer yet.
    pinged: bool,
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(options: &Options, out: Output) -> Session {
        Session {
            out,
            name: name_of(&options.login.client_id),
            keep_alive: options.login.keep_alive,
            login: options.login.clone(),
            debug: options.debug,
            max_inflight: options.max_inflight,
            disconnect_properties: options.disconnect_properties.clone(),
            state: State::Absent,
            sending: Sending::default(),
            last_packet_id: None,
            outgoing: VecDeque::new(),
            in_flight: 0,
            unsent: VecDeque::new(),
            incoming: HashMap::new(),
            aliases: HashMap::new(),
            limits: UNLIMITED,
            pinged: false,
        }
    }

    /// The version that is spoken.
    pub fn version(&self) -> ProtocolVersion {
        self.login.version
    }

    /// Whether -d was given.
    pub fn is_debugging(&self) -> bool {
        self.debug
    }

    /// Keep Alive in seconds, ours or the server's (3.2.2.3.14); 0 is none.
    pub fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// Whether DISCONNECT was sent.
    pub fn is_leaving(&self) -> bool {
        self.state == State::Leaving
    }

    /// Whether CONNACK said yes.
    pub fn is_active(&self) -> bool {
        self.state == State::Active
    }

    /// Bytes for the socket.
    pub fn sending(&mut self) -> &mut Sending {
        &mut self.sending
    }

    /// Whether bytes wait for the socket.
    pub fn has_bytes_to_send(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Whether one more message would not have to wait for a window or for the socket.
    pub fn has_room(&self) -> bool {
        self.outgoing.len() < self.window() && self.sending.len() < SENDING_BYTES_MAX
    }

    /// Whether there are messages of QoS 0 that nobody was told of yet.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether every message that was published is where it belongs.
    pub fn has_sent_everything(&self) -> bool {
        self.outgoing.is_empty() && self.unsent.is_empty()
    }

    fn window(&self) -> usize {
        let own = match self.max_inflight {
            0 => u16::MAX,
            max => max,
        };
        usize::from(own.min(self.limits.receive_maximum))
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        if self.debug {
            self.out.line(format_args!("Client {} {what}", self.name));
        }
    }

    /// Starts on a new connection: everything that was on its way on the last one is forgotten or will come again.
    pub fn begin(&mut self) {
        self.sending.clear();
        self.aliases.clear();
        self.unsent.clear();
        let on_their_way = std::mem::take(&mut self.in_flight);
        for message in self.outgoing.iter_mut().take(on_their_way) {
            Rc::make_mut(&mut message.packet)[0] |= DUP; // [MQTT-3.3.1-1]
        }
        self.limits = UNLIMITED;
        self.keep_alive = self.login.keep_alive;
        self.pinged = false;
        self.state = State::Connecting;
        let login = &self.login;
        let will = login.will.as_ref().map(|will| Will {
            qos: will.qos,
            retain: will.retain,
            properties: will.properties.as_properties(),
            topic: &will.topic,
            payload: &will.payload,
        });
        let connect = Connect {
            version: login.version,
            is_bridge: false,
            clean_start: login.clean_start,
            keep_alive: login.keep_alive,
            properties: login.properties.as_properties(),
            client_id: &login.client_id,
            will,
            user_name: login.user_name.as_deref(),
            password: login.password.as_deref(),
        };
        connect.encode(self.sending.small());
        self.tell(format_args!("sending CONNECT"));
    }

    /// The connection is gone.
    pub fn end(&mut self) {
        self.state = State::Absent;
        self.sending.clear();
    }

    /// Says good-bye; nothing goes out behind it.
    pub fn disconnect(&mut self, reason_code: ReasonCode) {
        if matches!(self.state, State::Leaving | State::Absent) {
            return;
        }
        self.state = State::Leaving;
        let disconnect = Disconnect {
            reason_code,
            properties: self.disconnect_properties.as_properties(),
        };
        disconnect.encode(self.login.version, self.sending.small());
        self.tell(format_args!("sending DISCONNECT"));
    }

    /// Asks for a sign of life; false if the last one never came.
    pub fn ping(&mut self) -> bool {
        if self.pinged || self.state != State::Active {
            return false;
        }
        self.pinged = true;
        self.sending.small().extend_from_slice(&PINGREQ);
        self.tell(format_args!("sending PINGREQ"));
        true
    }

    /// An identifier that nothing of ours uses [MQTT-2.2.1-3].
    fn next_packet_id(&mut self) -> PacketId {
        loop {
            let packet_id = self.last_packet_id.map_or(PacketId::FIRST, PacketId::next);
            self.last_packet_id = Some(packet_id);
            if self.index_of(packet_id).is_none() {
                return packet_id;
            }
        }
    }

    /// Where in `outgoing` a message is.
    fn index_of(&self, packet_id: PacketId) -> Option<usize> {
        let first = self.outgoing.front()?.packet_id.get();
        let distance = |packet_id: PacketId| packet_id.get().wrapping_sub(first);
        self.outgoing
            .binary_search_by_key(&distance(packet_id), |message| distance(message.packet_id))
            .ok()
    }

    /// Publishes a message, or queues it behind those on their way. An empty topic needs a Topic Alias in `properties`.
    /// # Errors
    /// Where the server said that it does not take such a message.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: Properties<'_>,
    ) -> Result<PacketId, PublishError> {
        if matches!(self.state, State::Leaving | State::Absent) {
            return Err(PublishError::NotConnected);
        }
        if qos > self.limits.qos_max {
            return Err(PublishError::QoSNotSupported); // [MQTT-3.2.2-11]
        }
        if retain && !self.limits.has_retain {
            return Err(PublishError::RetainNotSupported); // [MQTT-3.2.2-14]
        }
        let packet_id = self.next_packet_id();
        let header = PublishHeader {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
            topic_alias: None,
            message_expiry_seconds: None,
            passed_on: properties.as_bytes(),
            subscription_identifiers: &[],
            payload_length: payload.len(),
        };
        let version = self.login.version;
        let len = header.packet_length(version);
        // Also what no packet can hold (2.1.4).
        if len > self.limits.packet_bytes_max as usize || payload.len() > PAYLOAD_BYTES_MAX {
            return Err(match payload.len() > PAYLOAD_BYTES_MAX {
                true => PublishError::PayloadTooLarge,
                false => PublishError::PacketTooLarge, // [MQTT-3.2.2-15]
            });
        }
        let told = match self.debug {
            true => {
                let topic = if topic.is_empty() { "null" } else { topic };
                let (qos, retain, len) = (qos as u8, u8::from(retain), payload.len());
                format!("q{qos}, r{retain}, m{packet_id}, '{topic}', ... ({len} bytes))")
            }
            false => String::new(),
        };
        if qos == QoS::AtMostOnce {
            let out = self.sending.small();
            header.encode(version, out);
            out.extend_from_slice(payload);
            self.unsent.push_back(packet_id);
            self.tell(format_args!("sending PUBLISH (d0, {told}"));
            return Ok(packet_id);
        }
        let mut packet = Vec::with_capacity(len);
        header.encode(version, &mut packet);
        packet.extend_from_slice(payload);
        self.outgoing.push_back(Outgoing {
            packet_id,
            packet: Rc::new(packet),
            awaits: match qos {
                QoS::ExactlyOnce => Awaits::Pubrec,
                _ => Awaits::Puback,
            },
            told,
        });
        self.release();
        Ok(packet_id)
    }

    /// Sends what has waited for its turn: a PUBLISH, or the PUBREL that a lost connection cut off.
    fn release(&mut self) {
        while self.state == State::Active
            && self.in_flight < self.window()
            && let Some(message) = self.outgoing.get(self.in_flight)
        {
            self.in_flight += 1;
            if message.awaits == Awaits::Pubcomp {
                let packet_id = message.packet_id;
                self.send_ack(PacketType::Pubrel, packet_id, ReasonCode::Success);
                continue;
            }
            self.sending.shared(&message.packet);
            if self.debug {
                let dup = message.packet[0] >> 3 & 1;
                let line = format!("sending PUBLISH (d{dup}, {}", message.told);
                self.tell(format_args!("{line}"));
            }
        }
    }

    /// Asks for messages.
    pub fn subscribe(
        &mut self,
        filters: &[(&str, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> PacketId {
        let packet_id = self.next_packet_id();
        let version = self.login.version;
        Subscribe::encode(
            packet_id,
            properties,
            filters,
            version,
            self.sending.small(),
        );
        for (filter, options) in filters {
            let (qos, options) = (options.qos() as u8, options.byte() & 0b1111_1100);
            self.tell(format_args!(
                "sending SUBSCRIBE (Mid: {packet_id}, Topic: {filter}, QoS: {qos}, Options: 0x{options:02x})"
            ));
        }
        packet_id
    }

    /// Asks for messages no more.
    pub fn unsubscribe(&mut self, filter: &str, properties: Properties<'_>) -> PacketId {
        let packet_id = self.next_packet_id();
        let version = self.login.version;
        Unsubscribe::encode(
            packet_id,
            properties,
            &[filter],
            version,
            self.sending.small(),
        );
        self.tell(format_args!(
            "sending UNSUBSCRIBE (Mid: {packet_id}, Topic: {filter})"
        ));
        packet_id
    }

    fn send_ack(&mut self, kind: PacketType, packet_id: PacketId, reason_code: ReasonCode) {
        Ack::new(packet_id, reason_code).encode(kind, self.login.version, self.sending.small());
        let code = reason_code as u8;
        match kind {
            PacketType::Puback => {
                self.tell(format_args!("sending PUBACK (m{packet_id}, rc{code})"))
            }
            PacketType::Pubrec => {
                self.tell(format_args!("sending PUBREC (m{packet_id}, rc{code})"))
            }
            PacketType::Pubrel => self.tell(format_args!("sending PUBREL (m{packet_id})")),
            _ => self.tell(format_args!("sending PUBCOMP (m{packet_id})")),
        }
    }

    /// All bytes for the socket have left: so have the messages of QoS 0.
    pub fn sent(&mut self, handler: &mut impl Handler) {
        while let Some(packet_id) = self.unsent.pop_front() {
            handler.published(self, &Ack::new(packet_id, ReasonCode::Success));
        }
    }

    /// Takes one packet; `bytes` is the whole of it.
    /// # Errors
    /// Where the connection cannot go on.
    pub fn handle(
        &mut self,
        packet: Packet<'_>,
        bytes: &[u8],
        handler: &mut impl Handler,
    ) -> Result<(), Lost> {
        if (self.state == State::Connecting) != matches!(packet, Packet::Connack(_)) {
            return Err(Lost::Protocol); // [MQTT-3.2.0-1], [MQTT-3.2.0-2]
        }
        match packet {
            Packet::Connack(connack) => self.handle_connack(&connack, handler),
            Packet::Publish(publish) => self.handle_publish(&publish, bytes, handler),
            Packet::Puback(ack) => {
                self.tell_ack("PUBACK", &ack);
                self.end_exchange(&ack, Awaits::Puback, handler)
            }
            Packet::Pubrec(ack) => self.handle_pubrec(&ack, handler),
            Packet::Pubcomp(ack) => {
                self.tell_ack("PUBCOMP", &ack);
                self.end_exchange(&ack, Awaits::Pubcomp, handler)
            }
            Packet::Pubrel(ack) => self.handle_pubrel(&ack, handler),
            Packet::Suback(suback) => self.handle_suback(&suback, handler),
            Packet::Unsuback(_) => {
                self.tell(format_args!("received UNSUBACK"));
                Ok(())
            }
            Packet::Pingresp => {
                self.pinged = false;
                self.tell(format_args!("received PINGRESP"));
                Ok(())
            }
            Packet::Disconnect(disconnect) => {
                if self.debug {
                    let code = disconnect.reason_code as u8;
                    self.out.line(format_args!("Received DISCONNECT ({code})"));
                }
                Err(Lost::Disconnected)
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Auth(_) => Err(Lost::Protocol),
        }
    }

    fn tell_ack(&mut self, name: &str, ack: &Ack<'_>) {
        let (packet_id, code) = (ack.packet_id, ack.reason_code as u8);
        self.tell(format_args!(
            "received {name} (Mid: {packet_id}, RC:{code})"
        ));
    }

    fn handle_connack(
        &mut self,
        connack: &Connack<'_>,
        handler: &mut impl Handler,
    ) -> Result<(), Lost> {
        self.take_limits(connack.properties);
        self.tell(format_args!("received CONNACK ({})", connack.code));
        if connack.code != 0 {
            handler.connected(self, connack);
            return Err(match connack.code {
                ..=5 => Lost::Refused,
                _ => Lost::Protocol,
            });
        }
        self.state = State::Active;
        handler.connected(self, connack);
        self.release(); // [MQTT-4.6.0-1]
        Ok(())
    }

    fn take_limits(&mut self, properties: Properties<'_>) {
        for property in properties.iter() {
            match property {
                Property::AssignedClientIdentifier(id) => self.name = id.to_owned(),
                Property::ReceiveMaximum(maximum) => self.limits.receive_maximum = maximum.max(1),
                Property::MaximumQoS(qos) => {
                    self.limits.qos_max = QoS::from_bits(qos).unwrap_or(QoS::ExactlyOnce);
                }
                Property::RetainAvailable(available) => self.limits.has_retain = available != 0,
                Property::MaximumPacketSize(bytes) => self.limits.packet_bytes_max = bytes,
                Property::ServerKeepAlive(seconds) => self.keep_alive = seconds, // [MQTT-3.2.2-21]
                _ => {}
            }
        }
    }

    fn handle_publish(
        &mut self,
        publish: &Publish<'_>,
        bytes: &[u8],
        handler: &mut impl Handler,
    ) -> Result<(), Lost> {
        let topic = self.resolve_alias(publish)?;
        let publish = Publish {
            topic: topic.as_deref().unwrap_or(publish.topic),
            ..*publish
        };
        if self.debug {
            let (dup, retain) = (u8::from(publish.dup), u8::from(publish.retain));
            let (qos, len) = (publish.qos as u8, publish.payload.len());
            let packet_id = publish.packet_id.map_or(0, PacketId::get);
            self.tell(format_args!(
                "received PUBLISH (d{dup}, q{qos}, r{retain}, m{packet_id}, '{}', ... ({len} bytes))",
                publish.topic
            ));
        }
        let Some(packet_id) = publish.packet_id else {
            handler.message(self, &publish);
            return Ok(());
        };
        if publish.qos == QoS::AtLeastOnce {
            self.send_ack(PacketType::Puback, packet_id, ReasonCode::Success);
            handler.message(self, &publish);
            return Ok(());
        }
        self.send_ack(PacketType::Pubrec, packet_id, ReasonCode::Success);
        self.incoming
            .entry(packet_id)
            .or_insert_with(|| match &topic {
                None => bytes.to_vec(),
                Some(_) => encode_publish(&publish, self.login.version),
            });
        Ok(())
    }

    /// The topic that a Topic Alias stands for, where it stands alone; learns one that stands beside its topic.
    fn resolve_alias(&mut self, publish: &Publish<'_>) -> Result<Option<String>, Lost> {
        let alias = publish
            .properties
            .iter()
            .find_map(|property| match property {
                Property::TopicAlias(alias) => Some(alias),
                _ => None,
            });
        match alias {
            None => Ok(None),
            Some(alias) if publish.topic.is_empty() => match self.aliases.get(&alias) {
                Some(topic) => Ok(Some(topic.clone())),
                None => Err(Lost::Protocol),
            },
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.to_owned());
                Ok(None)
            }
        }
    }

    fn handle_pubrec(&mut self, ack: &Ack<'_>, handler: &mut impl Handler) -> Result<(), Lost> {
        self.tell(format_args!("received PUBREC (Mid: {})", ack.packet_id));
        if ack.reason_code.is_error() {
            return self.end_exchange(ack, Awaits::Pubrec, handler);
        }
        if let Some(index) = self.index_of(ack.packet_id)
            && index < self.in_flight
            && self.outgoing[index].awaits == Awaits::Pubrec
        {
            self.outgoing[index].awaits = Awaits::Pubcomp;
            // The message is the server's now; what is left is the exchange.
            self.outgoing[index].packet = Rc::new(vec![0]);
        }
        // Also where we know of nothing: the server waits for an answer [MQTT-4.3.3-4].
        self.send_ack(PacketType::Pubrel, ack.packet_id, ReasonCode::Success);
        Ok(())
    }

    fn handle_pubrel(&mut self, ack: &Ack<'_>, handler: &mut impl Handler) -> Result<(), Lost> {
        self.tell(format_args!("received PUBREL (Mid: {})", ack.packet_id));
        self.send_ack(PacketType::Pubcomp, ack.packet_id, ReasonCode::Success);
        let Some(bytes) = self.incoming.remove(&ack.packet_id) else {
            return Ok(());
        };
        let limits = mqtt::Limits {
            version: Some(self.login.version),
            packet_bytes_max: u32::MAX,
        };
        if let Ok(Some((Packet::Publish(publish), _))) = mqtt::decode(&bytes, limits) {
            handler.message(self, &publish);
        }
        Ok(())
    }

    /// An answer that ends the exchange of a message; one that nobody waits for changes nothing.
    fn end_exchange(
        &mut self,
        ack: &Ack<'_>,
        awaited: Awaits,
        handler: &mut impl Handler,
    ) -> Result<(), Lost> {
        let Some(index) = self.index_of(ack.packet_id) else {
            return Ok(());
        };
        if index >= self.in_flight || self.outgoing[index].awaits != awaited {
            return Ok(());
        }
        self.outgoing.remove(index);
        self.in_flight -= 1;
        handler.published(self, ack);
        self.release();
        Ok(())
    }

    fn handle_suback(
        &mut self,
        suback: &Suback<'_>,
        handler: &mut impl Handler,
    ) -> Result<(), Lost> {
        self.tell(format_args!("received SUBACK"));
        handler.subscribed(self, suback.packet_id, suback.codes);
        Ok(())
    }
}

/// The largest payload: Mosquitto's MQTT_MAX_PAYLOAD, 256 MiB less one (2.1.4).
pub const PAYLOAD_BYTES_MAX: usize = 268_435_455;

/// What -d calls a client.
fn name_of(client_id: &str) -> String {
    match client_id {
        "" => "null".to_owned(),
        id => id.to_owned(),
    }
}

fn encode_publish(publish: &Publish<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = PublishHeader {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        topic_alias: None,
        message_expiry_seconds: None,
        passed_on: publish.properties.as_bytes(),
        subscription_identifiers: &[],
        payload_length: publish.payload.len(),
    };
    header.encode(version, &mut bytes);
    bytes.extend_from_slice(publish.payload);
    bytes
}

impl PublishError {
    /// The library's return code, which is the tool's exit code. Where the server takes no such message Mosquitto's tools
    /// end as if it had been sent, two times of three without a word.
    pub fn code(self) -> u8 {
        match self {
            PublishError::NotConnected => 4,
            PublishError::PayloadTooLarge => 9,
            PublishError::QoSNotSupported => 24,
            PublishError::PacketTooLarge => 25,
            PublishError::RetainNotSupported => 28,
        }
    }

    /// What it is about.
    pub fn text(self) -> &'static str {
        match self {
            PublishError::NotConnected => "Client not connected when trying to publish.",
            PublishError::PayloadTooLarge => "Message payload is too large.",
            PublishError::QoSNotSupported => {
                "Message QoS not supported on broker, try a lower QoS."
            }
            PublishError::PacketTooLarge => "Packet larger than supported by the server.",
            PublishError::RetainNotSupported => "Retain not supported on server.",
        }
    }
}

impl From<DecodeError> for Lost {
    fn from(error: DecodeError) -> Lost {
        match error {
            DecodeError::Malformed(_) => Lost::Malformed,
            _ => Lost::Protocol,
        }
    }
}

impl Lost {
    /// The library's return code, which is the tool's exit code.
    pub fn code(&self) -> u8 {
        match self {
            // The library takes damaged packets for broken rules.
            Lost::Protocol | Lost::Malformed => 2,
            Lost::Disconnected => 4,
            Lost::Refused => 5,
            Lost::Connection(None) => 7,
            Lost::Layer(_) => 8,
            Lost::Connection(Some(_)) => 14,
            Lost::KeepAlive => 19,
        }
    }

    /// Whether another connection could not do better, in Mosquitto's judgement.
    pub fn is_final(&self) -> bool {
        matches!(self, Lost::Protocol | Lost::Malformed | Lost::Layer(_))
    }
}
