//! Attention against sums in f64, and the promise that neither threads nor the run change a bit.

use gemma_cpu::pool::Pool;
use gemma_cpu::simd::{Isa, attention, attention_scratch};
use gemma_hal::op::Heads;
use gemma_hal::{CACHE_DTYPES, DType, HostLayer, Slots};

/// Squared error relative to the squared size, at most.
const BOUND: f64 = 1e-12;

fn values(count: usize, seed: usize) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A layer with room for `capacity` positions that holds the last of `end`.
fn layer(dtype: DType, heads: Heads, capacity: usize, window: Option<usize>, end: usize) -> HostLayer {
    let width = heads.key_value_width();
    let empty = || Slots::zeros(dtype, capacity * width);
    let mut layer = HostLayer { capacity, width, window, keys: empty(), values: empty() };
    for position in end.saturating_sub(capacity)..end {
        // Later keys are larger, so that the largest score moves on.
        let mut key = values(width, 2 * position);
        key.iter_mut().for_each(|x| *x *= 1.0 + (position % 300) as f32 / 150.0);
        layer.write(position, &key, &values(width, 2 * position + 1));
    }
    layer
}

struct Case<'a> {
    isa: Isa,
    heads: Heads,
    layer: &'a HostLayer,
    query: &'a [f32],
    position: usize,
}

impl Case<'_> {
    /// Rows `first .. first + rows` as a run of their own.
    fn run(&self, pool: &Pool, first: usize, rows: usize) -> Vec<f32> {
        let width = self.heads.query_width();
        let mut out = vec![f32::NAN; rows * width];
        let mut scratch = vec![f32::NAN; attention_scratch(self.heads, rows)];
        let query = &self.query[first * width..(first + rows) * width];
        let position = self.position + first;
        attention(self.isa, pool, self.heads, self.layer, query, position, &mut out, &mut scratch);
        out
    }

    fn expected(&self, rows: usize) -> Vec<f64> {
        let Heads { query, key_value, dim } = self.heads;
        let mut out = Vec::new();
        for (index, query_of) in self.query[..rows * query * dim].chunks(dim).enumerate() {
            let (position, head) = (self.position + index / query, index % query / (query / key_value));
            let read = |slots: &Slots, position: usize| {
                let mut values = vec![0.0; dim];
                slots.read(self.layer.slot(position) + head * dim, &mut values);
                values
            };
            let seen = self.layer.first_visible(position)..position + 1;
            let score = |position| -> f64 {
                let key = read(&self.layer.keys, position);
                key.iter().zip(query_of).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            let mut sums = vec![0.0; dim];
            for (position, score) in seen.zip(scores) {
                for (sum, value) in sums.iter_mut().zip(read(&self.layer.values, position)) {
                    *sum += (score - most).exp() / total * f64::from(value);
                }
            }
            out.extend(sums);
        }
        out
    }
}

/// Heads of Gemma 3n, others that fill no tile, and sizes that are no whole block.
const HEADS: [Heads; 5] = [
    Heads { query: 8, key_value: 2, dim: 256 },
    Heads { query: 6, key_value: 2, dim: 32 },
    Heads { query: 3, key_value: 3, dim: 20 },
    Heads { query: 40, key_value: 1, dim: 33 },
    Heads { query: 5, key_value: 1, dim: 96 },
];

/// Capacity, window and the position of the first row: rings that have gone around, ends on and off a split.
const PLACES: [(usize, Option<usize>, usize); 6] = [
    (64, None, 0),
    (600, None, 540),
    (800, None, 511),
    (70, Some(30), 3),
    (360, Some(320), 1000),
    (90, Some(1), 1023),
];

const ROWS: usize = 37;

/// Every type of cache with all heads that it can hold.
fn cached_heads() -> impl Iterator<Item = (DType, Heads)> {
    let all = CACHE_DTYPES.into_iter().flat_map(|dtype| HEADS.map(|heads| (dtype, heads)));
    all.filter(|(dtype, heads)| heads.dim.is_multiple_of(dtype.block_len()))
}

#[test]
fn every_shape_matches_f64() {
    let pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for (dtype, heads) in cached_heads() {
            for (capacity, window, position) in PLACES {
                let layer = layer(dtype, heads, capacity, window, position + ROWS);
                let query = values(ROWS * heads.query_width(), 9);
                let case = Case { isa, heads, layer: &layer, query: &query, position };
                for rows in [1, 9] {
                    let (found, expected) = (case.run(&pool, 0, rows), case.expected(rows));
                    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
                    let error = squares(&mut found.iter().zip(&expected).map(|(a, b)| f64::from(*a) - b));
                    let size = squares(&mut expected.iter().copied());
                    let what = format!("{} {heads:?} {dtype} {rows} rows at {position}", isa.name());
                    // Not `error > bound`: a NaN must fail.
                    assert!(error <= BOUND * size, "{what}: {}", error / size);
                }
            }
        }
    }
}

#[test]
fn threads_and_runs_change_no_bit() {
    let pools = [1, 2, 5].map(|threads| Pool::new(threads).unwrap());
    for isa in Isa::available() {
        for (dtype, heads) in cached_heads() {
            for (capacity, window, position) in PLACES {
                let layer = layer(dtype, heads, capacity, window, position + ROWS);
                let query = values(ROWS * heads.query_width(), 10);
                let case = Case { isa, heads, layer: &layer, query: &query, position };
                let alone: Vec<f32> = (0..ROWS).flat_map(|row| case.run(&pools[0], row, 1)).collect();
                for pool in &pools {
                    for rows in [1, 2, 3, 4, 5, 16, ROWS] {
                        let found = case.run(pool, 0, rows);
                        let same = found.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                        let (isa, threads) = (isa.name(), pool.threads());
                        assert!(
                            same,
                            "{isa} {heads:?} {dtype} at {position}: {rows} rows, {threads} threads"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn long_contexts_take_several_rounds_of_splits() {
    let heads = Heads { query: 4, key_value: 2, dim: 32 };
    let position = 9000;
    let pool = Pool::new(4).unwrap();
    for dtype in CACHE_DTYPES {
        let layer = layer(dtype, heads, 9010, None, position + 2);
        let query = values(2 * heads.query_width(), 11);
        let case = Case { isa: Isa::detect(), heads, layer: &layer, query: &query, position };
        let alone = case.run(&Pool::new(1).unwrap(), 1, 1);
        assert_eq!(case.run(&pool, 1, 1), alone, "{dtype}");
        assert_eq!(case.run(&pool, 0, 2)[heads.query_width()..], alone, "{dtype}");
        let expected = case.expected(2);
        for (found, expected) in alone.iter().zip(&expected[heads.query_width()..]) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{dtype}: {found} {expected}");
        }
    }
}
