//! Linear layers at the shapes of Gemma 3n E2B, in bytes of weights a second and in multiply-adds a second.
//!
//! Weights are several times the size of the last-level cache, so that decode reads them from memory, as in a model.
//! What the machine can do at best is printed first: the figures mean nothing without it. A file here is a kind of
//! kernel; another one needs a module and its functions among the targets below.

mod every_type;
mod int8;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use gemma_cpu::pool::{Pool, default_threads};
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

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = every_type::decode, every_type::prefill, int8::one_input, int8::many_inputs
}
criterion_main!(benches);
