//! Topic Name to subscribers: the trie with many subscriptions, through its cache and past it.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use midge::broker::subscriptions::{Subscription, Subscriptions};
use midge::mqtt::{QoS, SubscriptionOptions};

const SUBSCRIPTIONS: u32 = 100_000;

/// A tree of `SUBSCRIPTIONS` filters like `site/17/+/temperature`, one for each client.
fn tree() -> Subscriptions {
    let mut tree = Subscriptions::new(1);
    for client in 0..SUBSCRIPTIONS {
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let subscription = Subscription {
            client,
            identifier: 0,
            options,
        };
        tree.subscribe(&format!("site/{client}/+/temperature"), None, subscription);
    }
    tree
}

fn resolve(criterion: &mut Criterion) {
    let mut tree = tree();
    criterion.bench_function("resolve/a topic that comes again", |bencher| {
        bencher
            .iter(|| black_box(tree.resolve(black_box("site/4711/oven/temperature"))).is_empty());
    });
    let topics: Vec<String> = (0..1 << 16)
        .map(|i| format!("site/{}/sensor-{i}/temperature", i % SUBSCRIPTIONS))
        .collect();
    let mut next = topics.iter().cycle();
    criterion.bench_function("resolve/topics that do not come again soon", |bencher| {
        bencher.iter(|| {
            tree.resolve(next.next().expect("a cycle has no end"))
                .is_empty()
        });
    });
}

criterion_group!(benches, resolve);
criterion_main!(benches);
