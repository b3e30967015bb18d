//! Random weights and inputs for the suite, the same for every device.

use crate::op::{Heads, Op};
use crate::plan::{CacheLayout, PlanBuilder, Rows};
use crate::random::SplitMix64;
use crate::{BufferId, DType, Storage, Weight, WeightId, block};

use super::OUTPUTS;

/// Token ids of the suite's plans.
pub(super) const VOCABULARY: usize = 37;

/// Builds one case's plan.
pub(super) struct Generate {
    pub(super) plan: PlanBuilder,
    pub(super) dtype: DType,
    cache: DType,
    random: Random,
}

/// Numbers for sizes and values.
pub(super) struct Random(SplitMix64);

impl Random {
    /// 0 to `limit` − 1.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.0.next_bits() % limit as u64) as usize
    }

    /// `low` to `high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.next_unit()
    }
}

/// These heads, or the next larger ones that end on a block of `cache`.
pub(super) fn whole(heads: Heads, cache: DType) -> Heads {
    Heads { dim: heads.dim.next_multiple_of(cache.block_len()), ..heads }
}

impl Generate {
    pub(super) fn random(seed: u64) -> Random {
        Random(SplitMix64::new(seed))
    }

    pub(super) fn new(name: &str, max_tokens: usize, dtype: DType, cache: CacheLayout, seed: u64) -> Self {
        let cache_dtype = cache.dtype;
        let plan = PlanBuilder::new(name, max_tokens, OUTPUTS, 1e-6, cache);
        Self { plan, dtype, cache: cache_dtype, random: Self::random(seed) }
    }

    /// 0 to `limit` − 1.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.random.below(limit)
    }

    /// The least number of columns, `wanted` or more, that ends on a block of the case's type.
    pub(super) fn columns(&self, wanted: usize) -> usize {
        wanted.next_multiple_of(self.dtype.block_len())
    }

    /// These heads, or the next larger ones that end on a block of the cache's type.
    pub(super) fn heads(&self, heads: Heads) -> Heads {
        whole(heads, self.cache)
    }

    pub(super) fn buffer(&mut self, name: &str, width: usize) -> BufferId {
        self.plan.buffer(name, Rows::Tokens, width)
    }

    /// An activation with random rows: the embedding of the run's tokens in a table of its own.
    pub(super) fn input(&mut self, name: &str, width: usize) -> BufferId {
        let values: Vec<f32> = (0..VOCABULARY * width).map(|_| self.random.between(-2.0, 2.0)).collect();
        let table = self.weight(&format!("{name}_table"), DType::F32, VOCABULARY, width, &values);
        let output = self.buffer(name, width);
        self.plan.push(None, Op::Embed { table, scale: 1.0, output });
        output
    }

    /// A random matrix of the case's type whose product with a row of ones is about one.
    pub(super) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> WeightId {
        let limit = (3.0 / columns as f32).sqrt();
        let values: Vec<f32> = (0..rows * columns).map(|_| self.random.between(-limit, limit)).collect();
        self.weight(name, self.dtype, rows, columns, &values)
    }

    /// The left part of a random matrix: rows stand further apart than they are long.
    pub(super) fn matrix_view(&mut self, name: &str, rows: usize, columns: usize) -> WeightId {
        let limit = (3.0 / columns as f32).sqrt();
        let parent = columns + self.columns(64);
        let values: Vec<f32> = (0..rows * parent).map(|_| self.random.between(-limit, limit)).collect();
        let parent = stored(name, self.dtype, rows, parent, &values);
        self.plan.weight(name, parent.columns_view(columns).expect("fewer columns than the parent"))
    }

    /// A random f32 matrix, for the small weights that are never quantised.
    pub(super) fn small(&mut self, name: &str, rows: usize, columns: usize) -> WeightId {
        let values: Vec<f32> = (0..rows * columns).map(|_| self.random.between(-1.0, 1.0)).collect();
        self.weight(name, DType::F32, rows, columns, &values)
    }

    /// A random norm, far from one.
    pub(super) fn norm(&mut self, name: &str, width: usize) -> WeightId {
        let values: Vec<f32> = (0..width).map(|_| self.random.between(0.3, 2.5)).collect();
        self.weight(name, DType::F32, 1, width, &values)
    }

    fn weight(&mut self, name: &str, dtype: DType, rows: usize, columns: usize, values: &[f32]) -> WeightId {
        self.plan.weight(name, stored(name, dtype, rows, columns, values))
    }
}

fn stored(name: &str, dtype: DType, rows: usize, columns: usize, values: &[f32]) -> Weight {
    let bytes: Vec<u8> =
        values.chunks_exact(columns).flat_map(|row| block::quantise_row(dtype, row)).collect();
    Weight::new(Storage::new(name, bytes), 0, rows, columns, dtype).expect("as many bytes as values")
}
