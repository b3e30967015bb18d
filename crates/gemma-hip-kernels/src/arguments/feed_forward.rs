//! The feed-forward network: one row behind a cutoff, and gates of many rows.

use bytemuck::{Pod, Zeroable};
use gemma_hal::DType;

use crate::launch::{Activations, Address, Launch, Planes, reading};

/// Units for which there is a wave that computes their row of `up`: one in so many. More than the published cut leaves, one in 20;
/// where there are more active ones than waves, some take a second.
const UNITS_A_WAVE: u32 = 16;

/// Outputs of a tile of [`SparseDown`].
pub const DOWN_TILE: usize = 256;

/// Lists the units that a cutoff leaves. See `kernels/hip/sparse_cut.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SparseCut {
    /// `[width]`; zero afterwards.
    pub gated: Address,
    /// `[width]`: the gates of the units.
    pub values: Address,
    /// `[width]` numbers of units.
    pub units: Address,
    /// How many there are.
    pub count: Address,
    /// At most 32,768, a multiple of 4.
    pub width: u32,
    /// In standard deviations above the mean.
    pub cutoff: f32,
}

/// `values[i] *= weight[units[i]] · input`, and the same in `gated`. See `kernels/hip/sparse_up.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SparseUp {
    /// The matrix.
    pub weight: Planes,
    /// `[columns]`.
    pub input: Address,
    /// As [`SparseCut`] lists them.
    pub units: Address,
    /// How many there are.
    pub count: Address,
    /// Gates in, products out.
    pub values: Address,
    /// Zero but for those units.
    pub gated: Address,
    /// A multiple of 8 and of a block.
    pub columns: u32,
    /// Blocks of the grid.
    pub blocks: u32,
}

/// `output = Σ values[i] · column units[i]`. See `kernels/hip/sparse_down.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SparseDown {
    /// Of a turned copy, see [`gemma_hal::planes::turn`].
    pub words: Address,
    /// Of it.
    pub scales: Address,
    /// As [`SparseCut`] lists them.
    pub units: Address,
    /// How many there are.
    pub count: Address,
    /// As [`SparseUp`] leaves them.
    pub values: Address,
    /// `[parts, tiles · 256]`, for the launch alone.
    pub partial: Address,
    /// `[tiles]`, zero before and after.
    pub counters: Address,
    /// `[outputs]`.
    pub output: Address,
    /// A multiple of 8.
    pub outputs: u32,
    /// Of the list.
    pub parts: u32,
    /// Of 256 outputs.
    pub tiles: u32,
    /// Nothing.
    pub padding: u32,
}

/// `gated = gelu(gated) · up`. See `kernels/hip/feed_forward.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct FeedForwardGate {
    /// `[count]`.
    pub gated: Address,
    /// `[count]`.
    pub up: Address,
    /// Values.
    pub count: u32,
    /// Nothing.
    pub padding: u32,
}

/// `gated = gelu(relu(g − (mean(g) + cutoff · std(g)))) · up`. See `kernels/hip/feed_forward.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct FeedForwardCut {
    /// `[tokens, width]`.
    pub gated: Address,
    /// `[tokens, width]`.
    pub up: Address,
    /// A multiple of 4.
    pub width: u32,
    /// In standard deviations above the mean.
    pub cutoff: f32,
}

impl SparseCut {
    /// For one row.
    pub fn launch(&self) -> Launch {
        // Fours that each of 1,024 work-items has.
        let slices = match self.width {
            ..=8_192 => 2,
            8_193..=16_384 => 4,
            _ => 8,
        };
        Launch::new(format!("sparse_cut_{slices}"), [1, 1, 1], 1024, self)
    }
}

impl SparseUp {
    /// Blocks for a network of so many hidden units, however many are active.
    pub const fn blocks(units: usize) -> u32 {
        (units as u32).div_ceil(UNITS_A_WAVE * 8)
    }

    /// For a weight of `dtype`.
    pub fn launch(&self, dtype: DType, activations: Activations) -> Launch {
        Launch::new(reading("sparse_up", dtype, activations), [self.blocks, 1, 1], 256, self)
    }
}

impl SparseDown {
    /// For a turned copy of `dtype`.
    pub fn launch(&self, dtype: DType) -> Launch {
        Launch::new(format!("sparse_down_{}", dtype.name()), [self.tiles, 1, self.parts], 256, self)
    }
}

impl FeedForwardGate {
    /// For all values.
    pub fn launch(&self) -> Launch {
        Launch::new("feed_forward_gate", [self.count.div_ceil(256), 1, 1], 256, self)
    }
}

impl FeedForwardCut {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("feed_forward_cut", [1, tokens as u32, 1], 256, self)
    }
}
