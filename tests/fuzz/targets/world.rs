//! A real broker with a few connections whose bytes are made up: what the event loop does, without sockets and threads.
//!
//! 1. After each turn the broker's invariants hold.
//! 2. What the broker sends to a client whose CONNECT it has read can be decoded in the version of that client, is of a
//!    kind that a server sends, begins with CONNACK, and keeps the client's Maximum Packet Size and Topic Alias
//!    Maximum.

use midge::auth::Auth;
use midge::broker::timers::Time;
use midge::broker::{Broker, Clocks, Ending, Identity, Peer};
use midge::buffer::{ConnectionKey, Outbox, PeerAddress};
use midge::config::Config;
use midge::mqtt::{self, Limits, Packet, PacketId, Property, ProtocolVersion, PublishHeader, QoS};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// How many clients there can be at a time.
pub const CONNECTIONS: usize = 4;

/// Bytes that a connection may have unread before nothing more is taken from it.
const UNREAD_BYTES_MAX: usize = 256 * 1024;

/// Where everybody comes from.
const ADDRESS: PeerAddress = PeerAddress::Ip(SocketAddr::V4(SocketAddrV4::new(
    Ipv4Addr::LOCALHOST,
    40_000,
)));

/// Unix time at the broker's beginning, in milliseconds.
const UNIX_MILLIS: u64 = 1_700_000_000_000;

/// What CONNECT told of a client.
struct Client {
    version: ProtocolVersion,
    packet_bytes_max: u32,
    topic_alias_maximum: u16,
    /// Whether CONNACK came.
    is_answered: bool,
}

/// One connection, from the client's side.
struct Connection {
    key: ConnectionKey,
    /// What the broker has not handled.
    unread: Vec<u8>,
    /// What the client got and has not looked at.
    got: Vec<u8>,
    client: Option<Client>,
    reads: bool,
}

/// The broker and its connections.
pub struct World {
    /// The broker.
    pub broker: Broker,
    /// The only clock.
    pub now: Time,
    /// Whether passwords are right.
    pub passwords_are_right: bool,
    connections: [Option<Connection>; CONNECTIONS],
    generation: u32,
}

impl World {
    /// A broker that nobody is connected to.
    pub fn new(config: Config, auth: Auth) -> World {
        World {
            broker: broker(config, auth, Time::ZERO),
            now: Time::ZERO,
            passwords_are_right: true,
            connections: Default::default(),
            generation: 0,
        }
    }

    /// Another broker in the place of this one, whose connections are gone with it.
    pub fn replace(&mut self, config: Config, auth: Auth) {
        self.broker = broker(config, auth, self.now);
        self.connections = Default::default();
    }

    /// Both clocks.
    pub fn clocks(&self) -> Clocks {
        Clocks {
            now: self.now,
            unix_millis: UNIX_MILLIS.saturating_add(self.now.as_millis()),
        }
    }

    /// A connection, unless there is one.
    pub fn attach(&mut self, slot: usize, listener: usize) {
        if self.connections[slot].is_some() {
            return;
        }
        let key = ConnectionKey {
            index: slot as u32,
            generation: self.generation,
        };
        self.generation += 1;
        let listener = listener % self.broker.config().listeners.len();
        let peer = Peer {
            address: ADDRESS,
            listener,
        };
        self.broker.attach(key, peer, self.now);
        self.connections[slot] = Some(Connection {
            key,
            unread: Vec::new(),
            got: Vec::new(),
            client: None,
            reads: true,
        });
    }

    /// The socket of a connection is gone.
    pub fn detach(&mut self, slot: usize, ending: Ending<'_>) {
        if let Some(connection) = &self.connections[slot] {
            self.broker.detach(connection.key, ending, self.now);
        }
    }

    /// TLS is there, with a certificate for this user name; nothing that comes after the first bytes.
    pub fn identify(&mut self, slot: usize, user_name: Option<&str>) {
        if let Some(connection) = &self.connections[slot]
            && connection.client.is_none()
            && connection.unread.is_empty()
        {
            let identity = Identity {
                user_name: user_name.map(str::to_owned),
                tls: Some("TLSv1.3".to_owned()),
            };
            self.broker.identify(connection.key, ADDRESS, identity);
        }
    }

    /// Its certificate is no longer good.
    pub fn revoke(&mut self, slot: usize) {
        if let Some(connection) = &self.connections[slot] {
            self.broker
                .revoke(connection.key, "it is revoked", self.now);
        }
    }

    /// Whether the client takes what is sent.
    pub fn set_reads(&mut self, slot: usize, reads: bool) {
        if let Some(connection) = &mut self.connections[slot] {
            connection.reads = reads;
        }
    }

    /// Bytes come on a connection, which is made if it is not there.
    pub fn receive(&mut self, slot: usize, bytes: &[u8]) {
        self.attach(slot, 0);
        if let Some(connection) = &mut self.connections[slot]
            && connection.unread.len() + bytes.len() <= UNREAD_BYTES_MAX
        {
            connection.unread.extend_from_slice(bytes);
        }
        self.serve(slot);
    }

    /// A PUBLISH with a payload that an input would be too short for: a byte that says how, and one that says how long.
    pub fn publish_large(&mut self, slot: usize, how: u8, length: u8) {
        let client = self.connections[slot].as_ref();
        let Some(version) = client
            .and_then(|it| it.client.as_ref())
            .map(|it| it.version)
        else {
            return;
        };
        let qos = QoS::from_bits(how).unwrap_or_default();
        let number = how >> 3 & 7;
        let payload = vec![how; usize::from(length) * 257];
        let header = PublishHeader {
            dup: false,
            qos,
            retain: how & 4 != 0,
            topic: &format!("a/{number}"),
            packet_id: (qos != QoS::AtMostOnce).then(|| PacketId::FIRST.next()),
            passed_on: &[],
            message_expiry_seconds: None,
            topic_alias: None,
            subscription_identifiers: &[],
            payload_length: payload.len(),
        };
        let mut bytes = Vec::new();
        header.encode(version, &mut bytes);
        bytes.extend_from_slice(&payload);
        self.receive(slot, &bytes);
    }

    /// Handles every whole packet of a connection.
    fn serve(&mut self, slot: usize) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let key = connection.key;
        let mut consumed = 0;
        while let Some(limits) = self.broker.limits(key) {
            if self.broker.is_congested(key) || self.broker.is_waiting(key) {
                break;
            }
            let bytes = &connection.unread[consumed..];
            match mqtt::decode(bytes, limits) {
                Ok(Some((packet, length))) => {
                    if let Packet::Connect(connect) = &packet {
                        connection.client = Some(Client::new(connect));
                    }
                    let is_connect = matches!(packet, Packet::Connect(_));
                    self.broker.handle(key, packet, self.now);
                    if is_connect && self.broker.is_waiting(key) {
                        break; // it is read again
                    }
                    consumed += length;
                }
                Ok(None) => {
                    if !bytes.is_empty() {
                        self.broker.touch(key, self.now);
                    }
                    break;
                }
                Err(error) => {
                    self.broker.reject(key, error, self.now);
                    break;
                }
            }
        }
        connection.unread.drain(..consumed);
        while let Some(urgent) = self.broker.take_urgent() {
            self.flush(urgent);
        }
    }

    /// Time passes.
    pub fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.broker.tick(self.now);
    }

    /// The end of a turn: what comes from elsewhere, then output.
    pub fn turn(&mut self) {
        self.broker.go_on(self.now);
        while let Some(check) = self.broker.take_password_check() {
            let is_right = self.broker.is_known(&check) || self.passwords_are_right;
            self.broker.password_compared(&check, is_right, self.now);
            self.serve(check.connection.index as usize);
        }
        for slot in 0..CONNECTIONS {
            self.serve(slot);
        }
        self.flush_all();
        self.broker.check_invariants();
    }

    /// Sends what there is, and closes what is to be closed.
    pub fn flush_all(&mut self) {
        let mut dirty = Vec::new();
        self.broker.take_dirty(&mut dirty);
        let connections = self.connections.iter().flatten();
        dirty.extend(connections.filter(|it| it.reads).map(|it| it.key));
        for key in dirty {
            self.flush(key);
        }
        while let Some(mut farewell) = self.broker.take_closing() {
            let slot = farewell.connection.index as usize;
            let connection = self.connections[slot].take_if(|it| it.key == farewell.connection);
            if let Some(mut connection) = connection
                && connection.reads
            {
                connection.take(&mut farewell.outbox);
                assert!(
                    connection.client.is_none() || connection.got.is_empty(),
                    "the last packet is not whole: {:02x?}",
                    connection.got
                );
            }
            farewell.outbox.clear(self.broker.buffers());
        }
    }

    fn flush(&mut self, key: ConnectionKey) {
        let connection = self.connections[key.index as usize].as_mut();
        let Some(connection) = connection.filter(|it| it.key == key) else {
            return;
        };
        let Some(outbox) = self.broker.outbox(key) else {
            return;
        };
        if outbox.is_empty() {
            return;
        }
        let sent = match connection.reads {
            true => connection.take(outbox),
            false => {
                outbox.blocked = true;
                0
            }
        };
        self.broker.flushed(key, sent, self.now);
    }
}

fn broker(config: Config, auth: Auth, now: Time) -> Broker {
    let mut last = 0u64;
    let random = move || {
        last = last.wrapping_add(0x9E37_79B9_7F4A_7C15);
        last
    };
    let unix_time = Duration::from_millis(UNIX_MILLIS.saturating_add(now.as_millis()));
    Broker::new(config, auth, now, unix_time, Box::new(random))
}

impl Client {
    fn new(connect: &mqtt::Connect<'_>) -> Client {
        let mut client = Client {
            version: connect.version,
            packet_bytes_max: u32::MAX,
            topic_alias_maximum: 0,
            is_answered: false,
        };
        for property in connect.properties.iter() {
            match property {
                Property::MaximumPacketSize(bytes) => client.packet_bytes_max = bytes,
                Property::TopicAliasMaximum(maximum) => client.topic_alias_maximum = maximum,
                _ => {}
            }
        }
        client
    }

    /// One packet that the broker sent.
    fn check(&mut self, packet: &Packet<'_>, length: usize) {
        assert!(
            length <= self.packet_bytes_max as usize,
            "{length} bytes, and the client takes {}",
            self.packet_bytes_max
        );
        let is_connack = matches!(packet, Packet::Connack(_));
        assert_eq!(is_connack, !self.is_answered, "{packet:?}");
        self.is_answered = true;
        match packet {
            Packet::Connack(_)
            | Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => {}
            Packet::Publish(publish) => {
                for property in publish.properties.iter() {
                    if let Property::TopicAlias(alias) = property {
                        assert!(alias <= self.topic_alias_maximum, "topic alias {alias}");
                    }
                }
            }
            Packet::Disconnect(_) => assert!(self.version.is_v5()),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Auth(_) => panic!("a server does not send {packet:?}"),
        }
    }
}

impl Connection {
    /// Takes all of `outbox`, and looks at what is whole of it.
    fn take(&mut self, outbox: &mut Outbox) -> usize {
        let length = outbox.len();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = outbox.slices(&mut slices);
            let mut taken = 0;
            for slice in &slices[..count] {
                self.got.extend_from_slice(slice);
                taken += slice.len();
            }
            assert!(taken > 0, "an outbox with bytes shows none");
            outbox.advance(taken);
        }
        let Some(client) = &mut self.client else {
            self.got.clear();
            return length;
        };
        let limits = Limits {
            version: Some(client.version),
            packet_bytes_max: u32::MAX,
        };
        let mut looked_at = 0;
        loop {
            let bytes = &self.got[looked_at..];
            match mqtt::decode(bytes, limits) {
                Ok(Some((packet, length))) => {
                    client.check(&packet, length);
                    looked_at += length;
                }
                Ok(None) => break,
                Err(error) => panic!("the broker sent {bytes:02x?}: {error:?}"),
            }
        }
        self.got.drain(..looked_at);
        length
    }
}
