//! The product that the device runs, over every type of weight that it takes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use gemma_cpu::measure;
use gemma_cpu::simd::{Isa, linear};
use gemma_hal::DType;

use crate::{COLUMNS, ROWS, STREAM, pools, weight};

/// One input: bytes of weights a second, beside the machine's read bandwidth.
pub(crate) fn decode(criterion: &mut Criterion) {
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
pub(crate) fn prefill(criterion: &mut Criterion) {
    let isa = Isa::from_env().expect("an instruction set of this machine");
    for pool in pools() {
        let threads = pool.threads();
        let (float, int8) = (measure::f32_peak(isa, &pool), measure::int8_peak(isa, &pool));
        eprintln!(
            "{}, {threads} threads: {:.1} G multiply-adds/s in f32, {:.1} in int8 ({})",
            isa.name(),
            float / 2e9,
            int8.operations / 2e9,
            int8.instruction
        );
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
