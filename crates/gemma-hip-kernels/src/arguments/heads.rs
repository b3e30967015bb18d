//! Rotary embedding, the cache's write, and attention.

use bytemuck::{Pod, Zeroable};
use gemma_hal::DType;

use crate::launch::{Activations, Address, Launch, Slots};

/// Rows of queries of a block of [`Attention`].
const ROWS: u32 = 16;

/// Norm and rotary embedding of heads, and the cache's write. See `kernels/hip/rotary.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Rotary {
    /// `[tokens, query_heads · dim]`, in place.
    pub query: Address,
    /// `[dim]`.
    pub query_norm: Address,
    /// `[tokens, key_heads · dim]`.
    pub keys: Address,
    /// `[tokens, key_heads · dim]`.
    pub values: Address,
    /// `[dim]`.
    pub key_norm: Address,
    /// `[tokens, dim]`: cosines, then sines.
    pub angles: Address,
    /// The first word is the position of the run's first token.
    pub header: Address,
    /// Of the layer.
    pub cached_keys: Slots,
    /// Of the layer.
    pub cached_values: Slots,
    /// Of the run's tokens, for row 0.
    pub first: u32,
    /// 0 for none.
    pub query_heads: u32,
    /// 0 for none.
    pub key_heads: u32,
    /// At most 256, a multiple of 8.
    pub dim: u32,
    /// Slots of the layer.
    pub capacity: u32,
    /// Whether values are normed.
    pub value_norm: u32,
    /// For rotated queries.
    pub query_scale: f32,
    /// Added to mean squares.
    pub eps: f32,
}

/// Causal softmax attention of many rows. See `kernels/hip/attention.hip` and `attention_wmma.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Attention {
    /// `[tokens, heads · dim]`.
    pub query: Address,
    /// The first word is the position of the run's first token.
    pub header: Address,
    /// Of the layer.
    pub cached_keys: Slots,
    /// Of the layer.
    pub cached_values: Slots,
    /// `[tokens, heads · dim]`.
    pub output: Address,
    /// Of queries.
    pub rows: u32,
    /// Of the run's tokens, for row 0.
    pub first: u32,
    /// Positions that a row sees; all ones for all.
    pub window: u32,
    /// Slots of the layer.
    pub capacity: u32,
    /// Of queries.
    pub heads: u32,
    /// Of keys.
    pub key_heads: u32,
    /// At most 256, a multiple of 8.
    pub dim: u32,
    /// Nothing.
    pub padding: u32,
}

/// The attention of one row, from norms to the merged heads. See `kernels/hip/attention_step.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AttentionStep {
    /// `[heads · dim]`.
    pub query: Address,
    /// `[dim]`.
    pub query_norm: Address,
    /// `[key_heads · dim]`.
    pub keys: Address,
    /// `[key_heads · dim]`.
    pub values: Address,
    /// `[dim]`.
    pub key_norm: Address,
    /// `[dim]`: cosines, then sines.
    pub angles: Address,
    /// The first word is the position of the run's first token.
    pub header: Address,
    /// Of the layer.
    pub cached_keys: Slots,
    /// Of the layer.
    pub cached_values: Slots,
    /// `[heads, parts, dim + 2]`, for the launch alone.
    pub partial: Address,
    /// `[groups]`, zero before and after.
    pub counters: Address,
    /// `[heads · dim]`.
    pub output: Address,
    /// Of the run's tokens, for the row.
    pub first: u32,
    /// Positions that the row sees; all ones for all.
    pub window: u32,
    /// Slots of the layer.
    pub capacity: u32,
    /// Of queries; at most 8 a key head.
    pub heads: u32,
    /// Of keys.
    pub key_heads: u32,
    /// At most 256, a multiple of 8.
    pub dim: u32,
    /// Of the keys, at most 32.
    pub parts: u32,
    /// Whether the row has keys and values of its own.
    pub writes: u32,
    /// Whether values are normed.
    pub value_norm: u32,
    /// For rotated queries.
    pub query_scale: f32,
    /// Added to mean squares.
    pub eps: f32,
    /// Nothing.
    pub padding: u32,
}

impl Rotary {
    /// For `tokens` rows and a cache of `dtype`.
    pub fn launch(&self, dtype: DType, tokens: usize) -> Launch {
        let heads = self.query_heads + 2 * self.key_heads;
        let grid = [heads.div_ceil(4), tokens as u32, 1];
        Launch::new(format!("rotary_{}", dtype.name()), grid, 128, self)
    }
}

impl Attention {
    /// For a cache of `dtype`; with matrix units where activations and cache are rounded anyway.
    pub fn launch(&self, dtype: DType, activations: Activations) -> Launch {
        let rows = self.rows.div_ceil(ROWS);
        if activations == Activations::Float32 || dtype == DType::F32 {
            return Launch::new(format!("attention_{}", dtype.name()), [self.heads, rows, 1], 256, self);
        }
        let groups = AttentionStep::groups(self.heads as usize, self.key_heads as usize) as u32;
        Launch::new(format!("attention_wmma_{}", dtype.name()), [rows, groups, 1], 256, self)
    }
}

impl AttentionStep {
    /// Values that parts of the heads take; none for one part.
    pub const fn partial_values(heads: usize, dim: usize, parts: usize) -> usize {
        if parts == 1 { 0 } else { heads * parts * (dim + 2) }
    }

    /// Groups of at most four query heads that have a key head in common.
    pub const fn groups(heads: usize, key_heads: usize) -> usize {
        key_heads * (heads / key_heads).div_ceil(4)
    }

    /// For a cache of `dtype`.
    pub fn launch(&self, dtype: DType) -> Launch {
        let groups = Self::groups(self.heads as usize, self.key_heads as usize) as u32;
        Launch::new(format!("attention_step_{}", dtype.name()), [groups, 1, self.parts], 256, self)
    }
}
