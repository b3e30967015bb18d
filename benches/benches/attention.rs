//! Attention alone at the heads of Gemma 3n E2B: a chunk of prefill and a step of decode at several lengths.
//!
//! One layer's cache stays in the last-level cache at the shorter lengths, as it does between the heads of a model.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemma_cpu::pool::{Pool, default_threads};
use gemma_cpu::simd::{Isa, attention, attention_scratch};
use gemma_hal::op::Heads;
use gemma_hal::{HostLayer, Slots};

const HEADS: Heads = Heads { query: 8, key_value: 2, dim: 256 };

/// A layer that sees every position, filled with values of the size that norms leave.
fn layer(capacity: usize) -> HostLayer {
    let width = HEADS.key_value_width();
    let mut layer = HostLayer {
        capacity,
        width,
        window: None,
        keys: Slots::F16(vec![half::f16::ZERO; capacity * width]),
        values: Slots::F16(vec![half::f16::ZERO; capacity * width]),
    };
    for position in 0..capacity {
        layer.write(position, &values(width, position as u32), &values(width, !position as u32));
    }
    layer
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn benches(criterion: &mut Criterion) {
    let isa = Isa::from_env().expect("an instruction set of this machine");
    for threads in [1, default_threads()] {
        let pool = Pool::new(threads).expect("threads");
        let mut group = criterion.benchmark_group(format!("attention/{threads} threads"));
        for (name, rows, end) in [
            ("prefill", 128, 512),
            ("prefill", 128, 2048),
            ("decode", 1, 512),
            ("decode", 1, 4096),
            ("decode", 1, 32_768),
        ] {
            let layer = layer(end);
            let query = values(rows * HEADS.query_width(), 7);
            let mut out = vec![0.0; query.len()];
            let mut scratch = vec![0.0; attention_scratch(HEADS, rows)];
            // A position that a query sees, for each of its heads.
            group.throughput(Throughput::Elements((rows * end * HEADS.query) as u64));
            group.bench_function(BenchmarkId::new(name, end), |bencher| {
                bencher.iter(|| {
                    let query = black_box(&query);
                    attention(isa, &pool, HEADS, &layer, query, end - rows, &mut out, &mut scratch);
                });
            });
        }
    }
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = benches
}
criterion_main!(group);
