//! The packets of the message path, one at a time: a small PUBLISH in and out, and its PUBACK.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use midge::mqtt::publish::{PublishHeader, PublishProperties};
use midge::mqtt::{Ack, Limits, PacketId, PacketType, Property, PropertyBuffer, ProtocolVersion};
use midge::mqtt::{QoS, ReasonCode, decode};
use std::hint::black_box;

const TOPIC: &str = "site/7/line/12/temperature";

/// A PUBLISH of QoS 0 of 64 bytes in all.
fn publish(version: ProtocolVersion, passed_on: &[u8]) -> Vec<u8> {
    let mut header = PublishHeader {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: TOPIC,
        packet_id: None,
        passed_on,
        message_expiry_seconds: None,
        topic_alias: None,
        subscription_identifiers: &[],
        payload_length: 0,
    };
    header.payload_length = 64 - header.packet_length(version);
    let mut out = Vec::new();
    header.encode(version, &mut out);
    out.resize(64, b'x');
    out
}

fn three_properties() -> PropertyBuffer {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::PayloadFormatIndicator(1));
    properties.push(Property::ContentType("json"));
    properties.push(Property::UserProperty(("unit", "C")));
    properties
}

fn decoding(criterion: &mut Criterion) {
    let properties = three_properties();
    let passed_on = properties.as_properties().as_bytes();
    let mut puback = Vec::new();
    Ack::new(PacketId::FIRST, ReasonCode::Success).encode(
        PacketType::Puback,
        ProtocolVersion::V5,
        &mut puback,
    );
    let cases = [
        (
            "publish 3.1.1",
            ProtocolVersion::V311,
            publish(ProtocolVersion::V311, &[]),
        ),
        (
            "publish 5.0",
            ProtocolVersion::V5,
            publish(ProtocolVersion::V5, &[]),
        ),
        (
            "publish 5.0, 3 properties",
            ProtocolVersion::V5,
            publish(ProtocolVersion::V5, passed_on),
        ),
        ("puback", ProtocolVersion::V5, puback),
    ];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, version, bytes) in &cases {
        let limits = Limits {
            version: Some(*version),
            packet_bytes_max: 2_000_000,
        };
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let decoded = decode(black_box(bytes), black_box(limits));
                assert!(black_box(&decoded).is_ok());
            });
        });
    }
    group.finish();
}

fn splitting(criterion: &mut Criterion) {
    let properties = three_properties();
    let properties = properties.as_properties();
    let mut scratch = Vec::new();
    criterion.bench_function("split 3 properties", |bencher| {
        bencher.iter(|| {
            let split = PublishProperties::split(black_box(properties), &mut scratch);
            split.passed_on.len()
        });
    });
}

fn encoding(criterion: &mut Criterion) {
    let properties = three_properties();
    let header = PublishHeader {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: Some(PacketId::FIRST),
        passed_on: properties.as_properties().as_bytes(),
        message_expiry_seconds: None,
        topic_alias: None,
        subscription_identifiers: &[],
        payload_length: 32,
    };
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(256);
    for (name, version) in [
        ("publish header 3.1.1", ProtocolVersion::V311),
        ("publish header 5.0, 3 properties", ProtocolVersion::V5),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&header).encode(version, &mut out);
                black_box(&mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decoding, splitting, encoding);
criterion_main!(benches);
