//! Linear layers at the shapes of Gemma 3n E2B, in bytes of weights a second and in multiply-adds a second.
//!
//! Weights are several times the size of the last-level cache, so that decode reads them from memory, as in a model.
//! What the machine can do at best is printed first: the figures mean nothing without it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemma_cpu::measure;
use gemma_cpu::pool::{Pool, default_threads};
use gemma_cpu::simd::{Isa, linear};
use gemma_hal::block::quantise_row;
use gemma_hal::{DType, Storage, Weight};

/// Columns and rows of the gate, up and (turned) down projections of one layer.
const COLUMNS: usize = 2048;
const ROWS: usize = 8192;

/// Bytes of weights that one pass of decode reads.
const STREAM: usize = 256 << 20;

/// A weight of at least `bytes` bytes whose rows repeat a few random ones.
fn weight(dtype: DType, rows: usize, columns: usize) -> Weight {
    let mut state = 1_u32;
    let rows_of_values: Vec<u8> = (0..16)
        .flat_map(|_| {
            let row: Vec<f32> = (0..columns)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect();
            quantise_row(dtype, &row)
        })
        .collect();
    let bytes = rows_of_values.repeat(rows.div_ceil(16));
    Weight::new(Storage::new("bench", bytes), 0, rows, columns, dtype).expect("whole rows")
}

fn pools() -> Vec<Pool> {
    let mut threads = vec![1];
    threads.extend((default_threads() > 1).then(default_threads));
    threads.into_iter().map(|threads| Pool::new(threads).expect("threads")).collect()
}

/// One input: bytes of weights a second, beside the machine's read bandwidth.
fn decode(criterion: &mut Criterion) {
    let isa = Isa::from_env().expect("an instruction set of this machine");
    for pool in pools() {
        let threads = pool.threads();
        eprintln!(
            "{}, {threads} threads: reads {:.2} GB/s",
            isa.name(),
            measure::read_bandwidth(isa, &pool) / 1e9
        );
        let mut group = criterion.benchmark_group(format!("decode/{threads} threads"));
        for dtype in DType::ALL {
            let row = dtype.row_bytes(COLUMNS).expect("whole blocks");
            let weight = weight(dtype, STREAM / row, COLUMNS);
            let input = vec![0.5; COLUMNS];
            let mut output = vec![0.0; weight.rows()];
            group.throughput(Throughput::BytesDecimal(weight.bytes()));
            group.bench_function(BenchmarkId::from_parameter(dtype), |bencher| {
                bencher.iter(|| linear(isa, &pool, &weight, black_box(&input), 1, &mut output));
            });
        }
    }
}

/// Many inputs: multiply-adds a second (as elements), beside the machine's peak.
fn prefill(criterion: &mut Criterion) {
    let isa = Isa::from_env().expect("an instruction set of this machine");
    for pool in pools() {
        let threads = pool.threads();
        let peak = measure::f32_peak(isa, &pool) / 2.0;
        eprintln!("{}, {threads} threads: {:.1} G multiply-adds/s", isa.name(), peak / 1e9);
        let mut group = criterion.benchmark_group(format!("prefill/{threads} threads"));
        for dtype in DType::ALL {
            let weight = weight(dtype, ROWS, COLUMNS);
            for n in [4, 8, 32, 128] {
                let input = vec![0.5; n * COLUMNS];
                let mut output = vec![0.0; n * ROWS];
                group.throughput(Throughput::Elements(weight.values() * n as u64));
                group.bench_function(BenchmarkId::new(dtype.name(), n), |bencher| {
                    bencher.iter(|| linear(isa, &pool, &weight, black_box(&input), n, &mut output));
                });
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = decode, prefill
}
criterion_main!(benches);
