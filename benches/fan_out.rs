//! One PUBLISH from decode to the outboxes of its subscribers, without sockets: a whole turn of the broker room.

use std::hint::black_box;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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

/// A broker with a publisher, connection 0, and `subscribers` connections that want its topic.
fn broker(subscribers: u32, version: ProtocolVersion, qos: QoS) -> Broker {
    let config = Config::from_text(
        "bench.conf",
        "listener 1883\nallow_anonymous true\nsys_interval 0\nmax_inflight_messages 0\n",
    );
    let config = config.expect("a good configuration");
    let mut broker = Broker::new(
        config,
        Auth::default(),
        Time::ZERO,
        Duration::ZERO,
        Box::new(|| 1),
    );
    for index in 0..=subscribers {
        let connection = ConnectionKey {
            index,
            generation: index,
        };
        let address = PeerAddress::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)));
        broker.attach(
            connection,
            Peer {
                address,
                listener: 0,
            },
            Time::ZERO,
        );
        let mut bytes = Vec::new();
        let client_id = format!("client-{index}");
        Connect {
            version,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            properties: Properties::NONE,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
        }
        .encode(&mut bytes);
        handle(&mut broker, connection, &bytes);
        if index > 0 {
            bytes.clear();
            let filters = [("bench/topic", SubscriptionOptions::new(qos))];
            let properties = Properties::NONE;
            Subscribe::encode(PacketId::FIRST, properties, &filters, version, &mut bytes);
            handle(&mut broker, connection, &bytes);
        }
    }
    flush(&mut broker, &mut Vec::new());
    broker
}

fn handle(broker: &mut Broker, connection: ConnectionKey, bytes: &[u8]) {
    let limits = broker.limits(connection).expect("attached");
    let (packet, _) = mqtt::decode(bytes, limits).expect("valid").expect("whole");
    broker.handle(connection, packet, Time::ZERO);
}

/// Takes what every outbox holds, as a socket would.
fn flush(broker: &mut Broker, dirty: &mut Vec<ConnectionKey>) {
    broker.take_dirty(dirty);
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

fn publish(version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = PublishHeader {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "bench/topic",
        packet_id: None,
        passed_on: &[],
        message_expiry_seconds: None,
        topic_alias: None,
        subscription_identifiers: &[],
        payload_length: PAYLOAD.len(),
    };
    header.encode(version, &mut bytes);
    bytes.extend_from_slice(&PAYLOAD);
    bytes
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for subscribers in [1, 10, 1000] {
            let mut broker = broker(subscribers, version, QoS::AtMostOnce);
            let bytes = publish(version);
            let publisher = ConnectionKey {
                index: 0,
                generation: 0,
            };
            let mut dirty = Vec::new();
            group.throughput(Throughput::Elements(subscribers.into()));
            let id = BenchmarkId::new(format!("{version:?}"), subscribers);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    handle(&mut broker, publisher, &bytes);
                    flush(&mut broker, &mut dirty);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
