//! Whole turns of the broker without sockets: decode, route, encode, outboxes and acknowledgements, for each message that is
//! delivered.

mod common;

use common::{LOADS, Turns};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    for load in LOADS {
        let mut turns = Turns::new(load);
        group.throughput(Throughput::Elements(turns.deliveries()));
        group.bench_function(load.name, |bencher| bencher.iter(|| turns.turn()));
    }
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
