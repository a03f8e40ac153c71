//! The right to publish: what one question costs with few rules and with many.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use midge::auth::acl::{Acl, Rights};

/// The rights of one user with `rules` rules of its own and as many patterns that concern it.
fn rights(rules: u32) -> Rights {
    let mut text = "user sensor\n".to_owned();
    for rule in 0..rules {
        writeln!(text, "topic write site/{rule}/+/temperature").expect("a string takes it");
        writeln!(text, "pattern readwrite site/%c/{rule}/state").expect("a string takes it");
    }
    let acl = Acl::parse(Path::new("bench"), text.as_bytes()).expect("good rules");
    Arc::new(acl).rights(Some("sensor"), "sensor-17")
}

fn may_write(criterion: &mut Criterion) {
    for rules in [10, 10_000] {
        let rights = rights(rules);
        for (what, topic, expected) in [
            ("a rule of its own", "site/7/oven/temperature", true),
            ("a pattern", "site/sensor-17/7/state", true),
            ("no rule", "site/7/oven/pressure", false),
        ] {
            assert_eq!(rights.may_write(topic), expected);
            criterion.bench_function(&format!("may_write/{rules} rules/{what}"), |bencher| {
                bencher.iter(|| rights.may_write(black_box(topic)));
            });
        }
    }
}

criterion_group!(benches, may_write);
criterion_main!(benches);
