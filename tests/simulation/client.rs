//! A simulated client: it keeps the rules of the standard, and what its session needs, whatever happens to the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use midge::mqtt::{
    Ack, Connect, Disconnect, Limits, Packet, PacketId, PacketType, Properties, Property,
    PropertyBuffer, ProtocolVersion, PublishHeader, QoS, ReasonCode, Subscribe,
    SubscriptionOptions, Unsubscribe, Will, decode,
};

use super::ledger::Ledger;

/// How many messages a client has under way at most.
const OUTGOING_MAX: usize = 8;

/// A message under way from this client, kept until the broker owns it.
#[derive(Clone, Debug)]
struct Outgoing {
    packet_id: u16,
    qos: QoS,
    retain: bool,
    topic: String,
    payload: Vec<u8>,
    expiry_seconds: Option<u32>,
    number: u64,
    /// PUBREC came.
    is_released: bool,
}

/// What a SUBSCRIBE or UNSUBSCRIBE is about, until its answer is there.
#[derive(Clone, Debug)]
enum Asked {
    Subscribe(Vec<(String, u8)>),
    Unsubscribe(String),
}

/// A message that is to be published.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub expiry_seconds: Option<u32>,
    pub number: u64,
    pub wants_alias: bool,
}

/// What CONNECT says.
#[derive(Clone, Debug)]
pub struct Wish {
    pub clean_start: bool,
    pub expiry_seconds: u32,
    pub keep_alive: u16,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub alias_maximum: u16,
    pub will: Option<(Message, u32)>,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub version: ProtocolVersion,
    /// Whether its acknowledgements wait until they are asked for.
    pub is_lazy: bool,
    /// What it is connected by, as it believes.
    pub connection: Option<u32>,
    /// Bytes for the network.
    pub out: Vec<u8>,
    /// Acknowledgements that it is lazy about.
    pub acks: Vec<u8>,
    /// The session that its last CONNACK was about lasts: as it asked.
    pub lasts: bool,
    /// When its session ends without a connection, as far as it knows; in milliseconds after that.
    expiry: Option<u64>,
    /// When something last came.
    heard_at: u64,
    /// It asked for a clean start and heard nothing: it cannot go on with a session before it does.
    wants_clean: bool,
    is_accepted: bool,
    incoming_bytes: Vec<u8>,
    outgoing: Vec<Outgoing>,
    next_packet_id: u16,
    /// QoS 2 messages that it owns and that were not released.
    incoming: BTreeSet<u16>,
    asked: BTreeMap<u16, Asked>,
    /// Filters that a SUBACK confirmed, with their options.
    pub confirmed: BTreeMap<String, u8>,
    /// What may be otherwise, since no answer came.
    pub unsure: BTreeSet<String>,
    aliases: BTreeMap<u16, String>,
    own_aliases: Vec<String>,
    server_alias_maximum: u16,
    /// How many messages may be under way to the server; where its version is not told, what the server is set to.
    pub receive_maximum: usize,
    /// Whether some topics are not for everybody.
    pub is_restricted: bool,
}

impl Client {
    pub fn new(name: String, version: ProtocolVersion, is_lazy: bool) -> Client {
        Client {
            name,
            version,
            is_lazy,
            connection: None,
            out: Vec::new(),
            acks: Vec::new(),
            lasts: false,
            expiry: None,
            heard_at: 0,
            wants_clean: false,

            is_accepted: false,
            incoming_bytes: Vec::new(),
            outgoing: Vec::new(),
            next_packet_id: 1,
            incoming: BTreeSet::new(),
            asked: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            unsure: BTreeSet::new(),
            aliases: BTreeMap::new(),
            own_aliases: Vec::new(),
            server_alias_maximum: 0,
            receive_maximum: usize::MAX,
            is_restricted: false,
        }
    }

    /// Whether CONNACK came on its connection.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some() && self.is_accepted
    }

    /// Whether it does not know how `filter` stands: an answer is missing, or was lost.
    pub fn is_unsure_of(&self, filter: &str) -> bool {
        self.unsure.contains(filter)
            || self.asked.values().any(|asked| match asked {
                Asked::Subscribe(filters) => filters.iter().any(|it| it.0 == filter),
                Asked::Unsubscribe(it) => it == filter,
            })
    }

    /// Its connection is over, as far as it can tell.
    pub fn disconnected(&mut self) {
        (self.connection, self.is_accepted) = (None, false);
        self.out.clear();
        self.acks.clear();
        self.incoming_bytes.clear();
        for asked in std::mem::take(&mut self.asked).into_values() {
            match asked {
                Asked::Subscribe(filters) => self.unsure.extend(filters.into_iter().map(|it| it.0)),
                Asked::Unsubscribe(filter) => _ = self.unsure.insert(filter),
            }
        }
    }

    /// CONNECT on a new connection.
    pub fn connect(&mut self, connection: u32, wish: &Wish, now: u64, limit: Option<u64>) {
        self.disconnected();
        // Who cannot be sure that the session is still there does not go on with it.
        let is_over = self
            .expiry
            .is_some_and(|expiry| now >= self.heard_at + expiry);
        self.wants_clean |= is_over;
        self.connection = Some(connection);
        self.aliases.clear();
        self.own_aliases.clear();
        let is_v5 = self.version.is_v5();
        self.wants_clean |= wish.clean_start;
        self.lasts = match is_v5 {
            true => wish.expiry_seconds > 0,
            false => !self.wants_clean,
        };
        let expiry = match (is_v5, self.wants_clean) {
            (true, _) => Some(u64::from(wish.expiry_seconds) * 1000)
                .filter(|_| wish.expiry_seconds < u32::MAX),
            (false, true) => Some(0),
            (false, false) => None,
        };
        self.expiry = expiry.map_or(limit, |expiry| {
            Some(limit.map_or(expiry, |limit| limit.min(expiry)))
        });
        let mut properties = PropertyBuffer::new();
        let mut will_properties = PropertyBuffer::new();
        if is_v5 {
            properties.push(Property::SessionExpiryInterval(wish.expiry_seconds));
            if let Some(maximum) = wish.receive_maximum {
                properties.push(Property::ReceiveMaximum(maximum));
            }
            if let Some(bytes) = wish.packet_bytes_max {
                properties.push(Property::MaximumPacketSize(bytes));
            }
            properties.push(Property::TopicAliasMaximum(wish.alias_maximum));
            if let Some((message, delay)) = &wish.will {
                will_properties.push(Property::WillDelayInterval(*delay));
                if let Some(seconds) = message.expiry_seconds {
                    will_properties.push(Property::MessageExpiryInterval(seconds));
                }
            }
        }
        let packet = Connect {
            version: self.version,
            is_bridge: false,
            clean_start: self.wants_clean,
            keep_alive: wish.keep_alive,
            properties: properties.as_properties(),
            client_id: &self.name,
            will: wish.will.as_ref().map(|(message, _)| Will {
                qos: message.qos,
                retain: message.retain,
                properties: will_properties.as_properties(),
                topic: &message.topic,
                payload: &message.payload,
            }),
            user_name: None,
            password: None,
        };
        packet.encode(&mut self.out);
    }

    fn packet_id(&mut self) -> PacketId {
        loop {
            let id = self.next_packet_id;
            self.next_packet_id = if id >= 40 { 1 } else { id + 1 };
            if !self.outgoing.iter().any(|it| it.packet_id == id) && !self.asked.contains_key(&id) {
                return PacketId(NonZeroU16::new(id).expect("counted from 1"));
            }
        }
    }

    /// Whether it may publish one more.
    pub fn has_room(&self) -> bool {
        self.is_connected() && self.outgoing.len() < OUTGOING_MAX.min(self.receive_maximum)
    }

    /// PUBLISH.
    pub fn publish(&mut self, message: Message) {
        let packet_id = (message.qos != QoS::AtMostOnce).then(|| self.packet_id());
        let mut alias = None;
        let mut topic = message.topic.as_str();
        if message.wants_alias && self.version.is_v5() {
            match self.own_aliases.iter().position(|it| it == topic) {
                Some(index) => (alias, topic) = (Some(index as u16 + 1), ""),
                None if self.own_aliases.len() < usize::from(self.server_alias_maximum) => {
                    self.own_aliases.push(topic.to_owned());
                    alias = Some(self.own_aliases.len() as u16);
                }
                None => {}
            }
        }
        self.put_publish(&message, topic, alias, packet_id, false);
        if let Some(packet_id) = packet_id {
            self.outgoing.push(Outgoing {
                packet_id: packet_id.get(),
                qos: message.qos,
                retain: message.retain,
                topic: message.topic,
                payload: message.payload,
                expiry_seconds: message.expiry_seconds,
                number: message.number,
                is_released: false,
            });
        }
    }

    fn put_publish(
        &mut self,
        it: &Message,
        topic: &str,
        topic_alias: Option<u16>,
        packet_id: Option<PacketId>,
        dup: bool,
    ) {
        let header = PublishHeader {
            dup,
            qos: it.qos,
            retain: it.retain,
            topic,
            packet_id,
            passed_on: &[],
            message_expiry_seconds: it.expiry_seconds,
            topic_alias,
            subscription_identifiers: &[],
            payload_length: it.payload.len(),
        };
        header.encode(self.version, &mut self.out);
        self.out.extend_from_slice(&it.payload);
    }

    /// SUBSCRIBE.
    pub fn subscribe(&mut self, filters: &[(String, SubscriptionOptions)], identifier: u32) {
        let packet_id = self.packet_id();
        let mut properties = PropertyBuffer::new();
        if identifier > 0 && self.version.is_v5() {
            properties.push(Property::SubscriptionIdentifier(
                midge::mqtt::property::VariableByteInteger(identifier),
            ));
        }
        let borrowed: Vec<_> = filters
            .iter()
            .map(|(filter, options)| (filter.as_str(), *options))
            .collect();
        let properties = properties.as_properties();
        Subscribe::encode(
            packet_id,
            properties,
            &borrowed,
            self.version,
            &mut self.out,
        );
        let is_v5 = self.version.is_v5();
        let asked = filters.iter().map(|(filter, options)| {
            let byte = if is_v5 {
                options.byte()
            } else {
                options.qos() as u8
            };
            (filter.clone(), byte)
        });
        self.asked
            .insert(packet_id.get(), Asked::Subscribe(asked.collect()));
    }

    /// UNSUBSCRIBE.
    pub fn unsubscribe(&mut self, filter: &str) {
        let packet_id = self.packet_id();
        Unsubscribe::encode(
            packet_id,
            Properties::NONE,
            &[filter],
            self.version,
            &mut self.out,
        );
        self.asked
            .insert(packet_id.get(), Asked::Unsubscribe(filter.to_owned()));
    }

    /// PINGREQ.
    pub fn ping(&mut self) {
        self.out.extend_from_slice(&[0xC0, 0]);
    }

    /// DISCONNECT; what is in `out` still goes.
    pub fn disconnect(&mut self, with_will: bool, expiry_seconds: Option<u32>) {
        let mut properties = PropertyBuffer::new();
        if let Some(seconds) = expiry_seconds.filter(|_| self.version.is_v5() && self.lasts) {
            properties.push(Property::SessionExpiryInterval(seconds));
            self.lasts = seconds > 0;
            self.expiry = Some(u64::from(seconds) * 1000);
        }
        let reason_code = match with_will && self.version.is_v5() {
            true => ReasonCode::DisconnectWithWillMessage,
            false => ReasonCode::Success,
        };
        let packet = Disconnect {
            reason_code,
            properties: properties.as_properties(),
        };
        packet.encode(self.version, &mut self.out);
    }

    /// Bytes came from the broker; `now` where they were sent now.
    pub fn receive(&mut self, bytes: &[u8], ledger: &mut Ledger, now: Option<u64>) {
        if let (Some(now), false) = (now, bytes.is_empty()) {
            self.heard_at = now;
        }
        self.incoming_bytes.extend_from_slice(bytes);
        let taken = std::mem::take(&mut self.incoming_bytes);
        let limits = Limits {
            version: Some(self.version),
            packet_bytes_max: u32::MAX,
        };
        let mut rest = &taken[..];
        while let Some((packet, length)) = decode(rest, limits).expect("the broker sends packets") {
            rest = &rest[length..];
            self.handle(packet, ledger);
            if self.connection.is_none() {
                return;
            }
        }
        self.incoming_bytes = rest.to_vec();
    }

    fn ack(&mut self, kind: PacketType, packet_id: PacketId) {
        let out = if self.is_lazy {
            &mut self.acks
        } else {
            &mut self.out
        };
        Ack::new(packet_id, ReasonCode::Success).encode(kind, self.version, out);
    }

    fn handle(&mut self, packet: Packet<'_>, ledger: &mut Ledger) {
        match packet {
            Packet::Connack(connack) => {
                let is_known = connack.session_present
                    || (self.version == ProtocolVersion::V31 && !self.wants_clean);
                (self.is_accepted, self.wants_clean) = (true, false);
                self.server_alias_maximum = 0;
                for property in connack.properties.iter() {
                    if let Property::TopicAliasMaximum(maximum) = property {
                        self.server_alias_maximum = maximum;
                    }
                }
                self.resume(is_known);
            }
            Packet::Publish(publish) => {
                let mut topic = publish.topic.to_owned();
                for property in publish.properties.iter() {
                    if let Property::TopicAlias(alias) = property {
                        match topic.is_empty() {
                            true => topic = self.aliases[&alias].clone(),
                            false => _ = self.aliases.insert(alias, topic.clone()),
                        }
                    }
                }
                let is_new = match (publish.qos, publish.packet_id) {
                    (QoS::ExactlyOnce, Some(packet_id)) => self.incoming.insert(packet_id.get()),
                    _ => true,
                };
                if is_new {
                    ledger.arrived(&self.name, &publish);
                }
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(packet_id)) => self.ack(PacketType::Puback, packet_id),
                    (QoS::ExactlyOnce, Some(packet_id)) => self.ack(PacketType::Pubrec, packet_id),
                    _ => {}
                }
            }
            Packet::Puback(ack) => {
                if let Some(message) = self.finish(ack.packet_id)
                    && !ack.reason_code.is_error()
                {
                    ledger.acknowledged(message.number);
                }
            }
            Packet::Pubcomp(ack) => {
                // Whatever expired meanwhile, or may not be published any more, goes to nobody.
                if let Some(message) = self.finish(ack.packet_id) {
                    match message.expiry_seconds.is_some() || self.is_restricted {
                        true => ledger.acknowledged(message.number),
                        false => ledger.completed(message.number),
                    }
                }
            }
            Packet::Pubrec(ack) => {
                let id = ack.packet_id.get();
                let index = self.outgoing.iter().position(|it| it.packet_id == id);
                match index {
                    Some(index) if ack.reason_code.is_error() => _ = self.outgoing.remove(index),
                    Some(index) => {
                        self.outgoing[index].is_released = true;
                        self.put_pubrel(ack.packet_id);
                    }
                    None => self.put_pubrel(ack.packet_id),
                }
            }
            Packet::Pubrel(ack) => {
                self.incoming.remove(&ack.packet_id.get());
                self.ack(PacketType::Pubcomp, ack.packet_id);
            }
            Packet::Suback(suback) => {
                let asked = self.asked.remove(&suback.packet_id.get());
                let Some(Asked::Subscribe(filters)) = asked else {
                    panic!("SUBACK that {} did not ask for", self.name);
                };
                for ((filter, options), code) in filters.into_iter().zip(suback.codes) {
                    self.unsure.remove(&filter);
                    if *code < 0x80 {
                        self.confirmed.insert(filter, options);
                    }
                }
            }
            Packet::Unsuback(unsuback) => {
                let asked = self.asked.remove(&unsuback.packet_id.get());
                let Some(Asked::Unsubscribe(filter)) = asked else {
                    panic!("UNSUBACK that {} did not ask for", self.name);
                };
                self.unsure.remove(&filter);
                self.confirmed.remove(&filter);
            }
            Packet::Disconnect(_) => self.disconnected(),
            _ => {}
        }
    }

    fn finish(&mut self, packet_id: PacketId) -> Option<Outgoing> {
        let id = packet_id.get();
        let index = self.outgoing.iter().position(|it| it.packet_id == id)?;
        Some(self.outgoing.remove(index))
    }

    fn put_pubrel(&mut self, packet_id: PacketId) {
        Ack::new(packet_id, ReasonCode::Success).encode(
            PacketType::Pubrel,
            self.version,
            &mut self.out,
        );
    }

    /// CONNACK: what is not finished goes on, or is forgotten with its session.
    fn resume(&mut self, is_known: bool) {
        // 3.1 cannot tell; its clients go on, but do not rely on what they once subscribed to.
        if self.version == ProtocolVersion::V31 {
            self.confirmed.clear();
        }
        if !is_known {
            self.outgoing.clear();
            self.incoming.clear();
            self.confirmed.clear();
            self.unsure.clear();
            return;
        }
        for it in self.outgoing.clone() {
            let packet_id = PacketId(NonZeroU16::new(it.packet_id).expect("counted from 1"));
            if it.is_released {
                self.put_pubrel(packet_id);
                continue;
            }
            let message = Message {
                topic: it.topic.clone(),
                payload: it.payload,
                qos: it.qos,
                retain: it.retain,
                expiry_seconds: it.expiry_seconds,
                number: it.number,
                wants_alias: false,
            };
            self.put_publish(&message, &it.topic, None, Some(packet_id), true);
        }
    }
}
