//! AltUp's streams, and what joins attention and LAuReL with the residual.

use bytemuck::{Pod, Zeroable};

use super::ROW_BLOCK;
use crate::launch::{Address, Launch};

/// `streams[0] = input; streams[i] = match(streams[i], input)`. See `kernels/hip/streams.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AltUpInit {
    /// `[tokens, width]`.
    pub input: Address,
    /// `[tokens, count · width]`, with the products in place.
    pub streams: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// 2 to 4 streams.
    pub count: u32,
}

/// The prediction of all streams and the norm of the active one. See `kernels/hip/streams.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AltUpPredict {
    /// `[tokens, count · width]`.
    pub streams: Address,
    /// `[tokens, width]`, what the layer before leaves to be added; or none.
    pub projected: Address,
    /// `[width]`, with it.
    pub projected_norm: Address,
    /// `[width]`.
    pub router_norm: Address,
    /// `[count, width]`.
    pub router: Address,
    /// `[count · count, count]`.
    pub coefficients: Address,
    /// `[width]`.
    pub input_norm: Address,
    /// `[tokens, width]`.
    pub normed: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// 2 to 4 streams.
    pub count: u32,
    /// The stream that the layer works on.
    pub active: u32,
    /// Added to mean squares.
    pub eps: f32,
}

/// What joins attention and LAuReL with the residual. See `kernels/hip/streams.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AttentionResidual {
    /// `[tokens, count · width]`.
    pub streams: Address,
    /// `[tokens, width]`.
    pub normed: Address,
    /// `[tokens, width]`.
    pub attended: Address,
    /// `[tokens, width]`.
    pub laurel: Address,
    /// `[width]`.
    pub post_norm: Address,
    /// `[width]`.
    pub laurel_norm: Address,
    /// `[width]`.
    pub ffn_norm: Address,
    /// `[tokens, width]`.
    pub residual: Address,
    /// `[tokens, width]`.
    pub ffn_input: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// 2 to 4 streams.
    pub count: u32,
    /// The stream that the layer works on.
    pub active: u32,
    /// Added to mean squares.
    pub eps: f32,
}

/// The correction of all streams by what the layer has made of one. See `kernels/hip/streams.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AltUpCorrect {
    /// `[tokens, count · width]`.
    pub streams: Address,
    /// `[tokens, width]`.
    pub residual: Address,
    /// `[tokens, width]`.
    pub ffn: Address,
    /// `[width]`.
    pub post_norm: Address,
    /// `[width]`.
    pub router_norm: Address,
    /// `[count, width]`.
    pub router: Address,
    /// `[count, count]`.
    pub coefficients: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// 2 to 4 streams.
    pub count: u32,
    /// The stream that the layer works on.
    pub active: u32,
    /// Added to mean squares.
    pub eps: f32,
}

/// `output = rms((streams[0] + Σ match(projected[i − 1], streams[0])) / count, norm)`. See `kernels/hip/streams.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct AltUpMerge {
    /// `[tokens, count · width]`.
    pub streams: Address,
    /// `[tokens, (count − 1) · width]`.
    pub projected: Address,
    /// `[width]`.
    pub norm: Address,
    /// `[tokens, width]`.
    pub output: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// 2 to 4 streams.
    pub count: u32,
    /// Added to the mean square.
    pub eps: f32,
    /// Nothing.
    pub padding: u32,
}

/// `streams[j] += rms(projected, norm)` for the streams that are not active. See `kernels/hip/streams.hip`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct PerLayerAdd {
    /// `[tokens, width]`.
    pub projected: Address,
    /// `[width]`.
    pub norm: Address,
    /// `[tokens, count · width]`.
    pub streams: Address,
    /// At most 4,096, a multiple of 4.
    pub width: u32,
    /// 2 to 4 streams.
    pub count: u32,
    /// The stream that stays as it is.
    pub active: u32,
    /// Added to the mean square.
    pub eps: f32,
}

impl AltUpInit {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("altup_init", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl AltUpPredict {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("altup_predict", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl AttentionResidual {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("attention_residual", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl AltUpCorrect {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("altup_correct", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl AltUpMerge {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("altup_merge", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}

impl PerLayerAdd {
    /// For `tokens` rows.
    pub fn launch(&self, tokens: usize) -> Launch {
        Launch::new("per_layer_add", [1, tokens as u32, 1], ROW_BLOCK, self)
    }
}
