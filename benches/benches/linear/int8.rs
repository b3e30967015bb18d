//! Products with activations rounded to 8 bits: every format, with every instruction set that this machine has.
//!
//! One thread. With one input the weight stays in the second-level cache, so that what is measured is how fast blocks
//! are unpacked and multiplied, not the memory; with many, as with one, the figure is bytes of weights a second.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use gemma_cpu::pool::Pool;
use gemma_cpu::simd::{Activations, Isa, Kernels, linear};
use gemma_hal::DType;

use crate::{COLUMNS, weight};

/// Bytes of a weight that a second-level cache holds beside the inputs.
const CACHED: usize = 384 << 10;

/// Rows of the product of many inputs: panels of every kernel, several times over.
const MANY_ROWS: usize = 512;

/// Inputs of the product of many.
const MANY: usize = 128;

/// The product of a vector: one input.
pub(crate) fn one_input(criterion: &mut Criterion) {
    each(criterion, "int8 1 input", 1, |dtype| {
        let row = dtype.row_bytes(COLUMNS).expect("whole blocks");
        CACHED / row / 32 * 32
    });
}

/// The product of a matrix: many inputs.
pub(crate) fn many_inputs(criterion: &mut Criterion) {
    each(criterion, "int8 128 inputs", MANY, |_| MANY_ROWS);
}

fn each(criterion: &mut Criterion, name: &str, n: usize, rows: impl Fn(DType) -> usize) {
    let pool = Pool::new(1).expect("a thread");
    let input: Vec<f32> = (0..n * COLUMNS).map(|i| (i as f32 * 0.37).sin()).collect();
    for isa in Isa::available() {
        let kernels = Kernels { isa, activations: Activations::Int8 };
        let mut group = criterion.benchmark_group(format!("{name}/{}", isa.name()));
        for dtype in DType::ALL.into_iter().filter(|dtype| kernels.rounds_for(*dtype)) {
            let weight = weight(dtype, rows(dtype), COLUMNS);
            let mut output = vec![0.0; n * weight.rows()];
            group.throughput(Throughput::BytesDecimal(weight.bytes()));
            group.bench_function(BenchmarkId::from_parameter(dtype), |bencher| {
                bencher.iter(|| linear(kernels, &pool, &weight, black_box(&input), n, &mut output));
            });
        }
    }
}
