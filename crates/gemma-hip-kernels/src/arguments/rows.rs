//! Work on rows and on single values: embeddings, norms, per-layer inputs, and the choice of the largest logits.

use bytemuck::{Pod, Zeroable};
use gemma_hal::DType;

use super::ROW_BLOCK;
use crate::launch::{Address, Launch, Planes};

/// `output[t][b · width + i] = scale · table[id[t]][blocks[b] · width + i]`. See `kernels/hip/gather.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Gather {
    /// The matrix.
    pub table: Planes,
    /// `[tokens]` row numbers.
    pub ids: Address,
    /// `[count]` block numbers, or none: block `b` is itself then.
    pub blocks: Address,
    /// `[tokens, count · width]`.
    pub output: Address,
    /// Of the table; a larger id takes row 0.
    pub rows: u32,
    /// Of the table.
    pub columns: u32,
    /// Values of a block.
    pub width: u32,
    /// Blocks.
    pub count: u32,
    /// For every value.
    pub scale: f32,
    /// Nothing.
    pub padding: u32,
}

/// `output = input`. See `kernels/hip/copy.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Copy {
    /// `[count]`.
    pub input: Address,
    /// `[count]`.
    pub output: Address,
    /// A multiple of 4.
    pub count: u32,
    /// Nothing.
    pub padding: u32,
}

/// `output = rms(input, weight)`. See `kernels/hip/norm.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct RmsNorm {
    /// `[tokens, width]`.
    pub input: Address,
    /// `[width]`.
    pub weight: Address,
    /// `[tokens, width]`.
    pub output: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// Added to the mean square.
    pub eps: f32,
}

/// `residual += rms(input, post_norm); normed = rms(residual, next_norm)`. See `kernels/hip/norm.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AddNorm {
    /// `[tokens, width]`.
    pub input: Address,
    /// `[width]`.
    pub post_norm: Address,
    /// `[tokens, width]`.
    pub residual: Address,
    /// `[width]`.
    pub next_norm: Address,
    /// `[tokens, width]`.
    pub normed: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// Added to mean squares.
    pub eps: f32,
}

/// `output = (rms(output · projection_scale, norm) + table) / √2`, block by block. See `kernels/hip/per_layer.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct PerLayerEmbed {
    /// `[tokens, blocks · width]`, scaled.
    pub table: Address,
    /// `[width]`.
    pub norm: Address,
    /// `[tokens, blocks · width]`, with the products in place.
    pub output: Address,
    /// Of a row.
    pub blocks: u32,
    /// Values of a block.
    pub width: u32,
    /// For the products.
    pub projection_scale: f32,
    /// Added to the mean square.
    pub eps: f32,
}

/// `scaled = streams[active] · scale`. See `kernels/hip/per_layer.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct PerLayerScale {
    /// `[tokens, stride]`.
    pub streams: Address,
    /// `[width]`, or none.
    pub scale: Address,
    /// `[tokens, width]`.
    pub scaled: Address,
    /// Values in all.
    pub count: u32,
    /// Values of a row.
    pub width: u32,
    /// Values.
    pub stride: u32,
    /// Of the active stream in a row.
    pub start: u32,
}

/// `gated = gelu(gated) · per_layer`. See `kernels/hip/per_layer.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct PerLayerMultiply {
    /// `[tokens, width]`.
    pub gated: Address,
    /// `[tokens, all]`.
    pub per_layer: Address,
    /// Values in all.
    pub count: u32,
    /// Values of a row.
    pub width: u32,
    /// Values.
    pub all: u32,
    /// Where the layer's begin in a row.
    pub block: u32,
}

/// The largest key of each group of 32 values. See `kernels/hip/shortlist.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct ShortlistMaxima {
    /// `[count]`.
    pub values: Address,
    /// One a group, see [`ShortlistMaxima::groups`].
    pub maxima: Address,
    /// Values.
    pub count: u32,
    /// Nothing.
    pub padding: u32,
}

/// A key that enough of the maxima are not below. See `kernels/hip/shortlist.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct ShortlistBound {
    /// `[count]`.
    pub maxima: Address,
    /// Zero afterwards.
    pub counter: Address,
    /// The key.
    pub bound: Address,
    /// Values.
    pub wanted: u32,
    /// Maxima, at most 16,384.
    pub count: u32,
}

/// Lists the values that are not below the bound. See `kernels/hip/shortlist.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct ShortlistCollect {
    /// `[count]`.
    pub values: Address,
    /// The key.
    pub bound: Address,
    /// Zero before; how many there are afterwards.
    pub counter: Address,
    /// `[room, 2]`: index and bits.
    pub entries: Address,
    /// Values.
    pub count: u32,
    /// Entries.
    pub room: u32,
}

/// Index and bits of the first of the largest values. See `kernels/hip/shortlist.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Argmax {
    /// `[count]`.
    pub values: Address,
    /// Two words.
    pub result: Address,
    /// Values.
    pub count: u32,
    /// Nothing.
    pub padding: u32,
}

impl Gather {
    /// For `tokens` ids and a table of `dtype`.
    pub fn launch(&self, dtype: DType, tokens: usize) -> Launch {
        let grid = [(self.count * self.width).div_ceil(256), tokens as u32, 1];
        Launch::new(format!("gather_{}", dtype.name()), grid, 256, self)
    }
}

impl Copy {
    /// For all values.
    pub fn launch(&self) -> Launch {
        Launch::new("copy_values", [self.count.div_ceil(1024), 1, 1], 256, self)
    }
}

impl RmsNorm {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("rms_norm", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl AddNorm {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("add_norm", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl PerLayerEmbed {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("per_layer_embed", [self.blocks, tokens as u32, 1], 64, self)
    }
}

impl PerLayerScale {
    /// For all values.
    pub fn launch(&self) -> Launch {
        Launch::new("per_layer_scale", [self.count.div_ceil(256), 1, 1], 256, self)
    }
}

impl PerLayerMultiply {
    /// For all values.
    pub fn launch(&self) -> Launch {
        Launch::new("per_layer_multiply", [self.count.div_ceil(256), 1, 1], 256, self)
    }
}

impl ShortlistMaxima {
    /// Maxima of a row of `count` values.
    pub const fn groups(count: usize) -> usize {
        count.div_ceil(8_192) * 256
    }

    /// For the whole row.
    pub fn launch(&self) -> Launch {
        Launch::new("shortlist_maxima", [self.count.div_ceil(8_192), 1, 1], 256, self)
    }
}

impl ShortlistBound {
    /// The most maxima.
    pub const MOST: usize = 16_384;

    /// For all maxima.
    pub fn launch(&self) -> Launch {
        Launch::new("shortlist_bound", [1, 1, 1], 1024, self)
    }
}

impl ShortlistCollect {
    /// For the whole row.
    pub fn launch(&self) -> Launch {
        Launch::new("shortlist_collect", [self.count.div_ceil(256), 1, 1], 256, self)
    }
}

impl Argmax {
    /// For the whole row.
    pub fn launch(&self) -> Launch {
        Launch::new("argmax", [1, 1, 1], 1024, self)
    }
}
