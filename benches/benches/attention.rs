//! Attention alone at the heads of Gemma 3n E2B: a chunk of prefill and a step of decode at several lengths.
//!
//! One layer's cache stays in the last-level cache at the shorter lengths, as it does between the heads of a model.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemma_cpu::pool::{Pool, default_threads};
use gemma_cpu::simd::{Isa, attention, attention_scratch};
use gemma_hal::op::Heads;
use gemma_hal::{DType, HostLayer, Slots};

const HEADS: Heads = Heads { query: 8, key_value: 2, dim: 256 };

/// A layer that sees every position, filled with values of the size that norms leave.
fn layer(dtype: DType, capacity: usize) -> HostLayer {
    let width = HEADS.key_value_width();
    let mut layer = HostLayer {
        capacity,
        width,
        window: None,
        keys: Slots::zeros(dtype, capacity * width),
        values: Slots::zeros(dtype, capacity * width),
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
    let pools = [1, default_threads()].map(|threads| Pool::new(threads).expect("threads"));
    let mut group = criterion.benchmark_group("attention");
    for (name, rows, end) in [
        ("prefill", 128, 512),
        ("prefill", 128, 2048),
        ("decode", 1, 512),
        ("decode", 1, 4096),
        ("decode", 1, 32_768),
    ] {
        let query = values(rows * HEADS.query_width(), 7);
        let mut out = vec![0.0; query.len()];
        let mut scratch = vec![0.0; attention_scratch(HEADS, rows)];
        // A position that a query sees, for each of its heads.
        group.throughput(Throughput::Elements((rows * end * HEADS.query) as u64));
        let layers = [DType::F16, DType::Q8_0].map(|dtype| (dtype, layer(dtype, end)));
        for pool in &pools {
            // Types of cache side by side, so that they meet the same weather.
            for (dtype, layer) in &layers {
                let id = BenchmarkId::new(format!("{name}/{dtype}/{} threads", pool.threads()), end);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| {
                        let query = black_box(&query);
                        attention(isa, pool, HEADS, layer, query, end - rows, &mut out, &mut scratch);
                    });
                });
            }
        }
    }
}

/// A chunk's keys and values on their way into the cache.
fn writes(criterion: &mut Criterion) {
    const POSITIONS: usize = 128;
    let width = HEADS.key_value_width();
    let (keys, rows) = (values(POSITIONS * width, 1), values(POSITIONS * width, 2));
    let mut group = criterion.benchmark_group("cache write");
    group.throughput(Throughput::Elements(2 * keys.len() as u64));
    for dtype in [DType::F16, DType::Q8_0] {
        let mut layer = layer(dtype, POSITIONS);
        group.bench_function(BenchmarkId::new(dtype.name(), POSITIONS), |bencher| {
            bencher.iter(|| {
                let rows = keys.chunks_exact(width).zip(rows.chunks_exact(width));
                for (position, (key, value)) in rows.enumerate() {
                    layer.write(position, black_box(key), value);
                }
            });
        });
    }
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = benches, writes
}
criterion_main!(group);
