//! The up and down products of a layer with a cutoff at E2B's shape: dense, and of a fraction of the units.
//!
//! Ten layers take turns, so that weights come from memory, as in a model. Making the turned copies is timed too.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gemma_cpu::pool::{Pool, default_threads};
use gemma_cpu::simd::{
    Activations, ActiveUnits, Isa, Kernels, Turned, linear, linear_columns, linear_columns_rounded,
    linear_rows,
};
use gemma_hal::block::quantise_row;
use gemma_hal::{DType, Storage, Weight};

const HIDDEN: usize = 2048;
const UNITS: usize = 8192;
const LAYERS: usize = 10;
/// Choices of active units.
const PATTERNS: u32 = 20;

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn weight(dtype: DType, rows: usize, columns: usize) -> Weight {
    let bytes = quantise_row(dtype, &values(16 * columns, 1)).repeat(rows / 16);
    Weight::new(Storage::new("bench", bytes), 0, rows, columns, dtype).expect("whole rows")
}

fn benches(criterion: &mut Criterion) {
    let isa = Isa::from_env().expect("an instruction set of this machine");
    let activations = Activations::from_env().expect("int8 or f32");
    let kernels = Kernels { isa, activations };
    let input = values(HIDDEN, 3);
    for threads in [1, default_threads()] {
        let pool = Pool::new(threads).expect("threads");
        for dtype in [DType::Q4_0, DType::Q8_0, DType::Q4K, DType::Q6K, DType::BF16] {
            let mut group = criterion.benchmark_group(format!("sparse/{threads} threads/{dtype}"));
            let up: Vec<Weight> = (0..LAYERS).map(|_| weight(dtype, UNITS, HIDDEN)).collect();
            let down: Vec<Weight> = (0..LAYERS).map(|_| weight(dtype, HIDDEN, UNITS)).collect();
            group.bench_function("copy ten layers", |bencher| {
                bencher.iter_with_large_drop(|| {
                    down.iter().map(|down| Turned::new(&pool, down)).collect::<Vec<_>>()
                });
            });
            let turned: Vec<Turned> = down.iter().map(|down| Turned::new(&pool, down)).collect();
            let (mut hidden, mut output) = (vec![0.0; UNITS], vec![0.0; HIDDEN]);
            let mut layer = 0;
            group.bench_function("dense", |bencher| {
                bencher.iter(|| {
                    layer = (layer + 1) % LAYERS;
                    linear(kernels, &pool, &up[layer], black_box(&input), 1, &mut hidden);
                    linear(kernels, &pool, &down[layer], &hidden, 1, &mut output);
                });
            });
            for percent in [1, 5, 10, 20, 25, 33, 50] {
                let mut active = ActiveUnits::with_capacity(UNITS);
                let limit = 1.0 - percent as f32 / 50.0;
                // Other units each time: those of one token alone would stay in the last-level cache.
                let gates: Vec<Vec<f32>> = (0..PATTERNS)
                    .map(|seed| values(UNITS, seed).iter().map(|x| (x - limit).max(0.0)).collect())
                    .collect();
                let mut turn = 0;
                group.bench_function(BenchmarkId::new("sparse, percent", percent), |bencher| {
                    bencher.iter(|| {
                        turn += 1;
                        let (layer, gate) = (turn % LAYERS, &gates[turn / LAYERS % gates.len()]);
                        let count = active.find(isa, black_box(gate));
                        let hidden = &mut hidden[..count];
                        linear_rows(kernels, &pool, &up[layer], active.units(), &input, hidden);
                        if kernels.rounds_for(dtype) {
                            linear_columns_rounded(isa, &pool, &turned[layer], gate, &mut output);
                        } else {
                            linear_columns(isa, &pool, &turned[layer], &active, hidden, &mut output);
                        }
                    });
                });
            }
        }
    }
}

criterion_group! {
    name = group;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(200));
    targets = benches
}
criterion_main!(group);
