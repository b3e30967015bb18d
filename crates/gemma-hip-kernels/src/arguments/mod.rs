//! The structures that kernels take, as `kernels/hip` declares them, and the grid of each kernel for a shape.
//!
//! A structure is the whole kernarg segment. Addresses are the device's; widths and strides are in values. Grids are pure functions of
//! the structure and, where a kernel is launched for several rows of activations, of their number.

mod feed_forward;
mod heads;
mod products;
mod rows;
mod streams;

pub use feed_forward::{DOWN_TILE, FeedForwardCut, FeedForwardGate, SparseCut, SparseDown, SparseUp};
pub use heads::{Attention, AttentionStep, Rotary};
pub use products::{
    ActivationHalf, ActivationRounded, Gated, Gemm, Method, PerLayerGate, Product, ProductPart, Products,
};
pub use rows::{
    AddNorm, Argmax, Copy, Gather, PerLayerEmbed, PerLayerMultiply, PerLayerScale, RmsNorm, ShortlistBound,
    ShortlistCollect, ShortlistMaxima,
};
pub use streams::{AltUpCorrect, AltUpInit, AltUpMerge, AltUpPredict, AttentionResidual, PerLayerAdd};

/// The largest row that norms and streams are made for: `MOST_ROW` in `kernels/hip/row.h`.
pub const MOST_ROW: usize = 4_096;

/// The largest head: `MOST_DIM` in `kernels/hip/heads.h`.
pub const MOST_DIM: usize = 256;

/// The most streams.
pub const MOST_STREAMS: usize = 4;

/// The longest row that a cut lists: eight fours for each of 1,024 work-items.
pub const MOST_CUT: usize = 32_768;

/// The most parts of the keys of a row.
pub const MOST_PARTS: usize = 32;

/// Work-items of blocks that have one row of activations.
const ROW_BLOCK: u32 = 512;

/// Every structure's size in bytes, by how names of its kernels begin.
pub const SIZES: [(&str, usize); 40] = [
    ("product_", size_of::<Product>()),
    ("products_", size_of::<Products>()),
    ("gated_", size_of::<Gated>()),
    ("per_layer_gate_", size_of::<PerLayerGate>()),
    ("activation_f16", size_of::<ActivationHalf>()),
    ("activation_rounded", size_of::<ActivationRounded>()),
    ("gemm_tile_", size_of::<Gemm>()),
    ("gemm_wmma_", size_of::<Gemm>()),
    ("sparse_cut_", size_of::<SparseCut>()),
    ("sparse_up_", size_of::<SparseUp>()),
    ("sparse_down_", size_of::<SparseDown>()),
    ("feed_forward_gate", size_of::<FeedForwardGate>()),
    ("feed_forward_cut", size_of::<FeedForwardCut>()),
    ("gather_", size_of::<Gather>()),
    ("copy_values", size_of::<Copy>()),
    ("rms_norm", size_of::<RmsNorm>()),
    ("add_norm", size_of::<AddNorm>()),
    ("per_layer_embed", size_of::<PerLayerEmbed>()),
    ("per_layer_scale", size_of::<PerLayerScale>()),
    ("per_layer_multiply", size_of::<PerLayerMultiply>()),
    ("shortlist_maxima", size_of::<ShortlistMaxima>()),
    ("shortlist_bound", size_of::<ShortlistBound>()),
    ("shortlist_collect", size_of::<ShortlistCollect>()),
    ("argmax", size_of::<Argmax>()),
    ("altup_init", size_of::<AltUpInit>()),
    ("altup_predict", size_of::<AltUpPredict>()),
    ("altup_correct", size_of::<AltUpCorrect>()),
    ("altup_merge", size_of::<AltUpMerge>()),
    ("attention_residual", size_of::<AttentionResidual>()),
    ("per_layer_add", size_of::<PerLayerAdd>()),
    ("rotary_f32", size_of::<Rotary>()),
    ("rotary_f16", size_of::<Rotary>()),
    ("rotary_q8_0", size_of::<Rotary>()),
    ("attention_f32", size_of::<Attention>()),
    ("attention_f16", size_of::<Attention>()),
    ("attention_q8_0", size_of::<Attention>()),
    ("attention_wmma_", size_of::<Attention>()),
    ("attention_step_f32", size_of::<AttentionStep>()),
    ("attention_step_f16", size_of::<AttentionStep>()),
    ("attention_step_q8_0", size_of::<AttentionStep>()),
];
