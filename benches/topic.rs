//! Topic Names and Topic Filters: whether they are valid, as each PUBLISH and SUBSCRIBE asks, and match. What a message
//! costs among many filters is in `subscriptions`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use midge::mqtt::topic;
use std::hint::black_box;

fn validity(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic");
    let long = "level/".repeat(40) + "end";
    for name in ["a", "site/7/line/12/temperature", "höhe/über/null", &long] {
        group.throughput(Throughput::Bytes(name.len() as u64));
        group.bench_function(format!("name_of_{}_bytes", name.len()), |bencher| {
            bencher.iter(|| topic::name(black_box(name.as_bytes())).is_ok());
        });
    }
    let filter = "site/+/line/+/temperature";
    group.throughput(Throughput::Bytes(filter.len() as u64));
    group.bench_function(format!("filter_of_{}_bytes", filter.len()), |bencher| {
        bencher.iter(|| topic::check_filter(black_box(filter)).is_ok());
    });
    group.throughput(Throughput::Elements(1));
    for filter in ["site/+/line/#", "site/+/line/+/pressure"] {
        group.bench_function(format!("{filter} against a name"), |bencher| {
            let name = black_box("site/7/line/12/temperature");
            bencher.iter(|| topic::matches(black_box(filter), name));
        });
    }
    group.finish();
}

criterion_group!(benches, validity);
criterion_main!(benches);
