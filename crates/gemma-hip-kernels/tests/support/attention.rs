//! Attention of many rows against its definition: heads of several sizes and groups, windows, a ring that has gone round.

use super::alone::values;
use super::results::Results;
use super::{Bank, Runner};
use gemma_hal::conformance::nmse;
use gemma_hal::{DType, block};
use gemma_hip_kernels::arguments::Attention;
use gemma_hip_kernels::{Activations, Address, Slots};

/// Heads, and how much of the cache rows see.
struct Case {
    heads: usize,
    key_heads: usize,
    dim: usize,
    /// Positions before the first row, and how many of them are the run's.
    start: usize,
    first: usize,
    rows: usize,
    window: Option<usize>,
    capacity: usize,
}

const CASES: [Case; 4] = [
    // As in Gemma 3n, in a window.
    Case { heads: 8, key_heads: 2, dim: 256, start: 75, first: 3, rows: 37, window: Some(48), capacity: 96 },
    // Groups of four heads and of two; a head that ends inside of a product.
    Case { heads: 6, key_heads: 1, dim: 40, start: 0, first: 0, rows: 17, window: None, capacity: 64 },
    // A head of its own for each key.
    Case { heads: 2, key_heads: 2, dim: 64, start: 130, first: 0, rows: 5, window: None, capacity: 140 },
    // Rows that see themselves alone.
    Case { heads: 4, key_heads: 2, dim: 32, start: 40, first: 1, rows: 20, window: Some(1), capacity: 24 },
];

/// The kernels for each kind of cache, with activations as they are and rounded.
pub fn of_many_rows(runner: &mut dyn Runner, results: &mut Results) {
    for (case, seed) in CASES.iter().zip(1..) {
        for (dtype, activations, bound) in [
            (DType::F32, Activations::Float32, 1e-11),
            (DType::F16, Activations::Float32, 1e-11),
            (DType::F16, Activations::Rounded, 1e-6),
        ] {
            let error = error_of(runner, results, case, dtype, activations, seed);
            let Case { heads, key_heads, dim, rows, .. } = case;
            assert!(
                error < bound,
                "{dtype}, {activations:?}, {rows} rows of {heads} heads of {dim} over {key_heads}: {error:.1e}"
            );
        }
    }
}

/// Keys or values of all positions, and the ring that has the last of them.
fn cached(bank: &mut Bank, case: &Case, dtype: DType, seed: u64) -> (Vec<f32>, Slots) {
    let (width, all) = (case.key_heads * case.dim, case.start + case.rows);
    let mut positions = vec![0.0; all * width];
    block::dequantise_row(dtype, &block::quantise_row(dtype, &values(all * width, seed)), &mut positions);
    // What was never written is no number.
    let mut ring = vec![f32::NAN; case.capacity * width];
    for (position, row) in positions.chunks(width).enumerate() {
        ring[position % case.capacity * width..][..width].copy_from_slice(row);
    }
    let words = bank.hold(&block::quantise_row(dtype, &ring));
    (positions, Slots { words, scales: Address::NULL })
}

fn error_of(
    runner: &mut dyn Runner,
    results: &mut Results,
    case: &Case,
    dtype: DType,
    activations: Activations,
    seed: u64,
) -> f64 {
    let &Case { heads, key_heads, dim, start, first, rows, window, capacity } = case;
    let mut bank = Bank::default();
    let (keys, cached_keys) = cached(&mut bank, case, dtype, 2 * seed);
    let (stored, cached_values) = cached(&mut bank, case, dtype, 2 * seed + 1);
    let queries = values(rows * heads * dim, 100 + seed);
    let attention = Attention {
        query: bank.hold(&queries),
        header: bank.hold(&[(start - first) as u32]),
        cached_keys,
        cached_values,
        output: bank.room(rows * heads * dim),
        rows: rows as u32,
        first: first as u32,
        window: window.map_or(u32::MAX, |window| window as u32),
        capacity: capacity as u32,
        heads: heads as u32,
        key_heads: key_heads as u32,
        dim: dim as u32,
        padding: 0,
    };
    let launch = attention.launch(dtype, activations);
    runner.run(&launch, &mut bank).unwrap();
    let mut expected = Vec::new();
    for (item, query) in queries.chunks(dim).enumerate() {
        let (row, head) = (item / heads, item % heads);
        let place = |position: usize| (position * key_heads + head / (heads / key_heads)) * dim;
        let seen = (start + row + 1).saturating_sub(window.unwrap_or(usize::MAX))..start + row + 1;
        let score = |position: usize| -> f64 {
            let key = &keys[place(position)..][..dim];
            query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
        };
        let weights: Vec<f64> = seen.clone().map(|position| score(position).exp()).collect();
        let total: f64 = weights.iter().sum();
        expected.extend((0..dim).map(|i| {
            let values = seen.clone().map(|position| f64::from(stored[place(position) + i]));
            (weights.iter().zip(values).map(|(weight, value)| weight * value).sum::<f64>() / total) as f32
        }));
    }
    let error = nmse(&bank.read(attention.output), &expected);
    results.add(&launch.kernel, error);
    error
}
