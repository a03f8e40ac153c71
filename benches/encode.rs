//! The packets of the message path on their way out.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use midge::mqtt::{Ack, PacketId, PacketType, ProtocolVersion, PublishHeader, QoS, ReasonCode};
use std::hint::black_box;

/// Content Type `text/plain` and User Property `unit` = `celsius`.
const PASSED_ON: &[u8] = b"\x03\x00\x0atext/plain\x26\x00\x04unit\x00\x07celsius";

fn publish<'a>(qos: QoS, passed_on: &'a [u8], topic_alias: Option<u16>) -> PublishHeader<'a> {
    PublishHeader {
        dup: false,
        qos,
        retain: false,
        topic: if topic_alias.is_some() {
            ""
        } else {
            "site/7/line/12/temperature"
        },
        packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::FIRST),
        passed_on,
        message_expiry_seconds: (!passed_on.is_empty()).then_some(60),
        topic_alias,
        subscription_identifiers: &[],
        payload_length: 64,
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let (v311, v5) = (ProtocolVersion::V311, ProtocolVersion::V5);
    let mut out = Vec::with_capacity(1 << 20);
    group.throughput(Throughput::Elements(1));
    for (name, version, header) in [
        ("publish_qos0", v311, publish(QoS::AtMostOnce, &[], None)),
        ("publish_qos1", v311, publish(QoS::AtLeastOnce, &[], None)),
        ("publish_v5", v5, publish(QoS::AtMostOnce, &[], None)),
        (
            "publish_v5_properties",
            v5,
            publish(QoS::AtMostOnce, PASSED_ON, None),
        ),
        (
            "publish_v5_alias",
            v5,
            publish(QoS::AtMostOnce, &[], Some(7)),
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(black_box(&header).encode(version, &mut out));
            });
        });
    }
    for (name, version) in [("puback", v311), ("puback_v5", v5)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let ack = Ack::new(black_box(PacketId::FIRST), ReasonCode::Success);
                ack.encode(PacketType::Puback, version, &mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
