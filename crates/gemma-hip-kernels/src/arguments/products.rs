//! Products of matrices with few rows of activations and with many.

use bytemuck::{Pod, Zeroable};
use gemma_hal::DType;

use crate::launch::{Activations, Address, Launch, Planes, reading};

/// Work-items of a block, and its waves.
const THREADS: u32 = 256;
const WAVES: u32 = THREADS / 32;

/// Whether packets of this type take more registers, so that a wave has fewer outputs.
const fn is_super_block(dtype: DType) -> bool {
    dtype.block_len() > 32
}

/// `output = weight · input`, with a soft cap where one is wanted. See `kernels/hip/product.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Product {
    /// The matrix.
    pub weight: Planes,
    /// `[tokens, columns]`, rows `input_stride` values apart.
    pub input: Address,
    /// `[tokens, rows]`, rows `output_stride` values apart.
    pub output: Address,
    /// First row of the matrix.
    pub first: u32,
    /// Rows that are used.
    pub rows: u32,
    /// A multiple of 8 and of a block.
    pub columns: u32,
    /// Values.
    pub input_stride: u32,
    /// Values.
    pub output_stride: u32,
    /// 0 for none.
    pub softcap: f32,
}

/// One part of [`Products`]. A part that is not there has no rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct ProductPart {
    /// The matrix.
    pub weight: Planes,
    /// `[tokens, columns]`.
    pub input: Address,
    /// `[tokens, rows]`.
    pub output: Address,
    /// Of the matrix.
    pub rows: u32,
    /// A multiple of 8 and of a block.
    pub columns: u32,
}

/// Up to four products in one launch. See `kernels/hip/products.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Products {
    /// Those that are there first.
    pub parts: [ProductPart; 4],
}

/// `output = gelu(gate · input) · (up · input)`. See `kernels/hip/gated.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Gated {
    /// A matrix.
    pub gate: Planes,
    /// Of the same type and shape.
    pub up: Planes,
    /// `[tokens, columns]`.
    pub input: Address,
    /// `[tokens, rows]`.
    pub output: Address,
    /// Of each matrix.
    pub rows: u32,
    /// A multiple of 8 and of a block.
    pub columns: u32,
}

/// `output = gelu(weight · (x · scale)) · per_layer`. See `kernels/hip/per_layer_gate.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct PerLayerGate {
    /// The matrix.
    pub weight: Planes,
    /// `[tokens, stride]`; `x` begins at value `start` of a row.
    pub streams: Address,
    /// `[columns]`, or none.
    pub scale: Address,
    /// `[tokens, all]`; the layer's begin at value `block` of a row.
    pub per_layer: Address,
    /// `[tokens, rows]`.
    pub output: Address,
    /// Of the matrix.
    pub rows: u32,
    /// A multiple of 8 and of a block.
    pub columns: u32,
    /// Values.
    pub stride: u32,
    /// Values.
    pub start: u32,
    /// Values.
    pub all: u32,
    /// Values.
    pub block: u32,
}

/// Rows in f16, each brought into its range and filled up to 32 values. See `kernels/hip/activation.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct ActivationHalf {
    /// `[tokens, columns]`, rows `input_stride` values apart.
    pub input: Address,
    /// `[tokens, columns rounded up to 32]` in f16.
    pub output: Address,
    /// `[tokens]`: what rows are to be multiplied with.
    pub scales: Address,
    /// A multiple of 8.
    pub columns: u32,
    /// Values.
    pub input_stride: u32,
}

/// Rows in 8 bits. See `kernels/hip/activation.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct ActivationRounded {
    /// `[tokens, columns]`, rows `input_stride` values apart.
    pub input: Address,
    /// `[tokens, columns]` signed bytes.
    pub quants: Address,
    /// `[tokens, columns / 32]` fours: the step and the sums of both sixteens.
    pub blocks: Address,
    /// A multiple of 32.
    pub columns: u32,
    /// Values.
    pub input_stride: u32,
}

/// `output = weight · input` for many rows. See `kernels/hip/gemm.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Gemm {
    /// The matrix.
    pub weight: Planes,
    /// As the kernel wants it: f32, or from [`ActivationHalf`] or [`ActivationRounded`].
    pub input: Address,
    /// From [`ActivationRounded`]; the scales of [`ActivationHalf`].
    pub blocks: Address,
    /// `[tokens, rows]`, rows `output_stride` values apart.
    pub output: Address,
    /// First row of the matrix.
    pub first: u32,
    /// Rows that are used.
    pub rows: u32,
    /// A multiple of 8 and of a block.
    pub columns: u32,
    /// Activation rows.
    pub tokens: u32,
    /// Values.
    pub output_stride: u32,
    /// Values, of an input in f32.
    pub input_stride: u32,
}

impl Product {
    /// For `tokens` rows of activations and a weight of `dtype`.
    pub fn launch(&self, dtype: DType, activations: Activations, tokens: usize) -> Launch {
        let outputs = if is_super_block(dtype) { 2 } else { 4 };
        let grid = [self.rows.div_ceil(WAVES * outputs), tokens as u32, 1];
        Launch::new(reading("product", dtype, activations), grid, THREADS, self)
    }
}

impl Products {
    /// For `tokens` rows of activations and weights of `dtype`.
    pub fn launch(&self, dtype: DType, activations: Activations, tokens: usize) -> Launch {
        let blocks = self.parts.iter().map(|part| part.rows.div_ceil(WAVES)).sum();
        Launch::new(reading("products", dtype, activations), [blocks, tokens as u32, 1], THREADS, self)
    }
}

impl Gated {
    /// For `tokens` rows of activations and weights of `dtype`.
    pub fn launch(&self, dtype: DType, activations: Activations, tokens: usize) -> Launch {
        let outputs = if is_super_block(dtype) { 1 } else { 2 };
        let grid = [self.rows.div_ceil(WAVES * outputs), tokens as u32, 1];
        Launch::new(reading("gated", dtype, activations), grid, THREADS, self)
    }
}

impl PerLayerGate {
    /// For `tokens` rows of activations and a weight of `dtype`.
    pub fn launch(&self, dtype: DType, activations: Activations, tokens: usize) -> Launch {
        let grid = [self.rows.div_ceil(WAVES), tokens as u32, 1];
        Launch::new(reading("per_layer_gate", dtype, activations), grid, THREADS, self)
    }
}

impl ActivationHalf {
    /// Bytes of the output; scales take four a row.
    pub const fn bytes(columns: usize, tokens: usize) -> usize {
        columns.next_multiple_of(32) * tokens * 2
    }

    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("activation_f16", [1, tokens as u32, 1], 256, self)
    }
}

impl ActivationRounded {
    /// Bytes of the quants; what is known of blocks takes half as many.
    pub const fn bytes(columns: usize, tokens: usize) -> usize {
        columns * tokens
    }

    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("activation_rounded", [self.columns.div_ceil(16 * 128), tokens as u32, 1], 128, self)
    }
}

/// How a [`Gemm`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In f32, with any type of weights.
    Tile,
    /// With matrix units in f16, all types but F32.
    Half,
    /// With matrix units in bytes, types in blocks.
    Int8,
}

impl Method {
    /// The one for weights of `dtype` and these activations.
    pub const fn of(dtype: DType, activations: Activations) -> Self {
        match (activations, dtype) {
            (Activations::Float32, _) | (_, DType::F32) => Self::Tile,
            (Activations::RoundedEverywhere, dtype) if dtype.block_len() > 1 => Self::Int8,
            _ => Self::Half,
        }
    }
}

impl Gemm {
    /// For a weight of `dtype`, which `method` must know.
    pub fn launch(&self, dtype: DType, method: Method) -> Launch {
        let name = dtype.name();
        let across = |tokens: u32, rows: u32| [self.tokens.div_ceil(tokens), self.rows.div_ceil(rows), 1];
        let (kernel, grid) = match method {
            Method::Tile => {
                (format!("gemm_tile_{name}"), [self.rows.div_ceil(64), self.tokens.div_ceil(64), 1])
            }
            Method::Half => {
                let tile = token_tile(self.tokens);
                (format!("gemm_wmma_{name}_f16_{tile}"), across(tile, 128))
            }
            Method::Int8 => (format!("gemm_wmma_{name}_int8"), across(64, 128)),
        };
        Launch::new(kernel, grid, THREADS, self)
    }
}

/// Activation rows of a block's tile in `gemm_wmma_*_f16_*`.
///
/// A wave spends some 170 cycles on 32 columns of a small tile and 560 of a large one (counted in the gfx1103 code of Q4_0: 32 for each
/// product of 16 x 16 x 16, one for each other vector instruction), or 5 to 16.
const fn token_tile(tokens: u32) -> u32 {
    if 5 * tokens.div_ceil(32) < 16 * tokens.div_ceil(128) { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_suit_the_number_of_rows() {
        let tiles =
            [5, 32, 96, 97, 128, 129, 192, 193, 256, 300, 512].map(|tokens| (tokens, token_tile(tokens)));
        let expected = [
            (5, 32),
            (32, 32),
            (96, 32),
            (97, 128),
            (128, 128),
            (129, 32),
            (192, 32),
            (193, 128),
            (256, 128),
            (300, 128),
            (512, 128),
        ];
        assert_eq!(tiles, expected);
    }
}
