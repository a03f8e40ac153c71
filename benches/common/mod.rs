//! Turns of a broker without sockets: bytes of clients in, outboxes drained as a socket would. Shared by the benches and by
//! `perf/instructions`.
//!
//! The clients keep the rules: every message is acknowledged in the turn it came, so a load can go on for ever.

use std::hint::black_box;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use midge::auth::Auth;
use midge::broker::timers::Time;
use midge::broker::{Broker, Peer};
use midge::buffer::{ConnectionKey, PeerAddress};
use midge::config::Config;
use midge::mqtt::{
    self, Connect, PacketId, Properties, ProtocolVersion, PublishHeader, QoS, Subscribe,
    SubscriptionOptions,
};

const PAYLOAD: [u8; 64] = [b'x'; 64];

/// Digits at the end of a topic that changes.
const DIGITS: usize = 8;

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What it is called.
    pub name: &'static str,
    /// The version that all clients speak.
    pub version: ProtocolVersion,
    /// Publishers, each with a topic of its own.
    pub publishers: u32,
    /// Subscribers to each topic.
    pub subscribers: u32,
    /// Messages of each publisher in a turn.
    pub messages: u16,
    /// Of messages and subscriptions.
    pub qos: QoS,
    /// Filters with a wildcard that match nothing, and beside them the subscribers' own has one too.
    pub filters: u32,
    /// Whether no topic comes twice.
    pub fresh_topics: bool,
}

const ONE: Load = Load {
    name: "",
    version: ProtocolVersion::V311,
    publishers: 1,
    subscribers: 1,
    messages: 1,
    qos: QoS::AtMostOnce,
    filters: 0,
    fresh_topics: false,
};

/// What is measured.
pub const LOADS: [Load; 13] = [
    Load {
        name: "pairs_1x1",
        ..ONE
    },
    Load {
        name: "pairs_10x32",
        publishers: 10,
        messages: 32,
        ..ONE
    },
    Load {
        name: "pairs_10x32_v5",
        publishers: 10,
        messages: 32,
        version: ProtocolVersion::V5,
        ..ONE
    },
    Load {
        name: "pairs_1000x1",
        publishers: 1000,
        ..ONE
    },
    Load {
        name: "pairs_10x32_qos1",
        publishers: 10,
        messages: 32,
        qos: QoS::AtLeastOnce,
        ..ONE
    },
    Load {
        name: "pairs_1000x1_qos1",
        publishers: 1000,
        qos: QoS::AtLeastOnce,
        ..ONE
    },
    Load {
        name: "pairs_10x32_qos2",
        publishers: 10,
        messages: 32,
        qos: QoS::ExactlyOnce,
        ..ONE
    },
    Load {
        name: "fan_out_10",
        subscribers: 10,
        ..ONE
    },
    Load {
        name: "fan_out_100",
        subscribers: 100,
        ..ONE
    },
    Load {
        name: "fan_out_1000",
        subscribers: 1000,
        ..ONE
    },
    Load {
        name: "fan_out_100_qos1",
        subscribers: 100,
        qos: QoS::AtLeastOnce,
        ..ONE
    },
    Load {
        name: "fresh_topics",
        publishers: 10,
        messages: 32,
        fresh_topics: true,
        ..ONE
    },
    Load {
        name: "filters_100000",
        publishers: 10,
        messages: 32,
        fresh_topics: true,
        filters: 100_000,
        ..ONE
    },
];

/// A publisher or a subscriber.
struct Client {
    connection: ConnectionKey,
    /// What it sends in a turn; for a subscriber one acknowledgement for each message.
    bytes: Vec<u8>,
    /// Where each packet's Packet Identifier is, and for topics that change the end of its topic.
    packet_ids: Vec<usize>,
    topics: Vec<usize>,
}

/// A broker under a load.
pub struct Turns {
    load: Load,
    broker: Broker,
    publishers: Vec<Client>,
    subscribers: Vec<Client>,
    /// The identifier that the broker gives the next message to each subscriber.
    next_packet_id: u16,
    next_topic: u32,
    dirty: Vec<ConnectionKey>,
}

impl Turns {
    /// A broker whose clients are connected and subscribed.
    pub fn new(load: Load) -> Turns {
        let lines =
            "listener 1883\nallow_anonymous true\nsys_interval 0\nmax_inflight_messages 0\n";
        let config = Config::from_text("bench.conf", lines).expect("a good configuration");
        let random = Box::new(|| 1);
        let broker = Broker::new(config, Auth::default(), Time::ZERO, Duration::ZERO, random);
        let mut turns = Turns {
            load,
            broker,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            next_packet_id: 1,
            next_topic: 0,
            dirty: Vec::new(),
        };
        for publisher in 0..load.publishers {
            let topic = match load.fresh_topics {
                true => format!("bench/{publisher}/{:0DIGITS$}", 0),
                false => format!("bench/{publisher}"),
            };
            let connection = turns.connect();
            let publisher = Client::publisher(connection, &topic, &load);
            turns.publishers.push(publisher);
            for _ in 0..load.subscribers {
                let filter = match load.fresh_topics {
                    true => format!("{}+", &topic[..topic.len() - DIGITS]),
                    false => topic.clone(),
                };
                let connection = turns.connect();
                turns.subscribe(connection, &[filter]);
                turns
                    .subscribers
                    .push(Client::subscriber(connection, &load));
            }
        }
        if load.filters > 0 {
            let connection = turns.connect();
            let filters: Vec<String> = (0..load.filters).map(|it| format!("a/b{it}/+/c")).collect();
            filters
                .chunks(1000)
                .for_each(|filters| turns.subscribe(connection, filters));
        }
        turns
    }

    /// How many messages are delivered in a turn.
    pub fn deliveries(&self) -> u64 {
        let load = &self.load;
        u64::from(load.publishers) * u64::from(load.subscribers) * u64::from(load.messages)
    }

    /// Every publisher's messages to every subscriber, with all that the QoS asks for. `perf/instructions` knows it by its
    /// name.
    #[inline(never)]
    pub fn turn(&mut self) {
        if self.load.fresh_topics {
            for publisher in &mut self.publishers {
                publisher.renew_topics(self.next_topic);
            }
            self.next_topic += u32::from(self.load.messages);
        }
        self.publishers_send(None);
        match self.load.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => self.subscribers_send(0x40),
            QoS::ExactlyOnce => {
                self.publishers_send(Some(0x62));
                self.subscribers_send(0x50);
                self.subscribers_send(0x70);
            }
        }
        for _ in 0..self.load.messages {
            self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
        }
    }

    /// The publishers' messages, or acknowledgements of this kind for all of them.
    fn publishers_send(&mut self, kind: Option<u8>) {
        for publisher in &self.publishers {
            let Some(kind) = kind else {
                handle(&mut self.broker, publisher.connection, &publisher.bytes);
                continue;
            };
            let mut acks = Vec::new();
            for id in 1..=self.load.messages {
                acks.extend_from_slice(&[kind, 2]);
                acks.extend_from_slice(&id.to_be_bytes());
            }
            handle(&mut self.broker, publisher.connection, &acks);
        }
        flush(&mut self.broker, &mut self.dirty);
    }

    /// An acknowledgement of this kind for each message that the turn brought every subscriber.
    fn subscribers_send(&mut self, kind: u8) {
        for subscriber in &mut self.subscribers {
            let mut packet_id = self.next_packet_id;
            for &at in &subscriber.packet_ids {
                subscriber.bytes[at - 2] = kind;
                subscriber.bytes[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
                packet_id = packet_id.checked_add(1).unwrap_or(1);
            }
            handle(&mut self.broker, subscriber.connection, &subscriber.bytes);
        }
        flush(&mut self.broker, &mut self.dirty);
    }

    fn connect(&mut self) -> ConnectionKey {
        let index = self.broker.connections() as u32;
        let connection = ConnectionKey {
            index,
            generation: index,
        };
        let address = PeerAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)));
        let peer = Peer {
            address,
            listener: 0,
        };
        self.broker.attach(connection, peer, Time::ZERO);
        let mut bytes = Vec::new();
        Connect {
            version: self.load.version,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            properties: Properties::NONE,
            client_id: &format!("client-{index}"),
            will: None,
            user_name: None,
            password: None,
        }
        .encode(&mut bytes);
        handle(&mut self.broker, connection, &bytes);
        flush(&mut self.broker, &mut self.dirty);
        connection
    }

    fn subscribe(&mut self, connection: ConnectionKey, filters: &[String]) {
        let options = SubscriptionOptions::new(self.load.qos);
        let filters: Vec<_> = filters.iter().map(|it| (it.as_str(), options)).collect();
        let (mut bytes, version) = (Vec::new(), self.load.version);
        let properties = Properties::NONE;
        Subscribe::encode(PacketId::FIRST, properties, &filters, version, &mut bytes);
        handle(&mut self.broker, connection, &bytes);
        flush(&mut self.broker, &mut self.dirty);
    }
}

impl Client {
    fn publisher(connection: ConnectionKey, topic: &str, load: &Load) -> Client {
        let (mut bytes, mut topics) = (Vec::new(), Vec::new());
        let mut packet_id = PacketId::FIRST;
        for _ in 0..load.messages {
            let has_id = load.qos != QoS::AtMostOnce;
            let header = PublishHeader {
                dup: false,
                qos: load.qos,
                retain: false,
                topic,
                packet_id: has_id.then_some(packet_id),
                passed_on: &[],
                message_expiry_seconds: None,
                topic_alias: None,
                subscription_identifiers: &[],
                payload_length: PAYLOAD.len(),
            };
            // The Packet Identifier, or what would follow it, comes right behind the topic.
            topics.push(header.encode(load.version, &mut bytes) - DIGITS.min(topic.len()));
            bytes.extend_from_slice(&PAYLOAD);
            packet_id = packet_id.next();
        }
        Client {
            connection,
            bytes,
            packet_ids: Vec::new(),
            topics,
        }
    }

    fn subscriber(connection: ConnectionKey, load: &Load) -> Client {
        let count = usize::from(load.messages);
        Client {
            connection,
            bytes: [0, 2, 0, 0].repeat(count),
            packet_ids: (0..count).map(|message| 4 * message + 2).collect(),
            topics: Vec::new(),
        }
    }

    /// Gives the messages topics with numbers from `first` on.
    fn renew_topics(&mut self, first: u32) {
        for (number, &at) in (first..).zip(&self.topics) {
            let mut rest = number;
            for digit in self.bytes[at..at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

/// Handles all packets in `bytes`, as the loop does.
fn handle(broker: &mut Broker, connection: ConnectionKey, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let limits = broker.limits(connection).expect("attached");
        let (packet, length) = mqtt::decode(bytes, limits).expect("valid").expect("whole");
        broker.handle(connection, packet, Time::ZERO);
        bytes = &bytes[length..];
    }
}

/// Takes what every outbox holds.
fn flush(broker: &mut Broker, dirty: &mut Vec<ConnectionKey>) {
    broker.take_dirty(dirty);
    while broker.take_urgent().is_some() {}
    for connection in dirty.drain(..) {
        let mut sent = 0;
        if let Some(outbox) = broker.outbox(connection) {
            let mut slices = [IoSlice::new(&[]); 64];
            let count = outbox.slices(&mut slices);
            black_box(&slices[..count]);
            sent = outbox.len();
            outbox.advance(sent);
        }
        broker.flushed(connection, sent, Time::ZERO);
    }
}
