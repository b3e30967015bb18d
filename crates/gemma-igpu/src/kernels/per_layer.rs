//! Per-layer embeddings (PLE) and a layer's input from them.

use cubecl::prelude::*;

use super::math::{cube_sum, gelu};
use super::norm::row_scale;

/// `output = (rms(output · projection_scale, norm) + table) / √2` for block `CUBE_POS_X` of row `CUBE_POS_Y`; the
/// products of the projection stand in `output`, the scaled values of the token's row in `table`.
#[cube(launch_unchecked)]
pub(crate) fn embed(
    table: &[f32],
    norm: &[f32],
    output: &mut [f32],
    blocks: usize,
    projection_scale: f32,
    eps: f32,
    #[comptime] width: usize,
) {
    let start = (CUBE_POS_Y as usize * blocks + CUBE_POS_X as usize) * width;
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = output[start + i] * projection_scale;
        squares += value * value;
    }
    let scale = projection_scale / (cube_sum(squares) / width as f32 + eps).sqrt();
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let context = output[start + i] * scale * norm[i];
        output[start + i] = (context + table[start + i]) * std::f32::consts::FRAC_1_SQRT_2;
    }
}

/// `scaled = streams[active] · scale`, value by value.
#[cube(launch_unchecked)]
pub(crate) fn scale_active(
    streams: &[f32],
    scale: &[f32],
    scaled: &mut [f32],
    count: usize,
    width: usize,
    all: usize,
    active: usize,
    #[comptime] scales: bool,
) {
    if ABSOLUTE_POS < count {
        let (row, i) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
        let mut value = streams[row * all + active + i];
        if comptime!(scales) {
            value *= scale[i];
        }
        scaled[ABSOLUTE_POS] = value;
    }
}

/// `gated = gelu(gated) · per_layer[block]`, value by value.
#[cube(launch_unchecked)]
pub(crate) fn gate(
    gated: &mut [f32],
    per_layer: &[f32],
    count: usize,
    width: usize,
    all: usize,
    first: usize,
) {
    if ABSOLUTE_POS < count {
        let (row, i) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
        gated[ABSOLUTE_POS] = gelu(gated[ABSOLUTE_POS]) * per_layer[row * all + first + i];
    }
}

/// `streams[j] += rms(projected, norm)` for `j ≠ active`. Row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn add(
    projected: &[f32],
    norm: &[f32],
    streams: &mut [f32],
    eps: f32,
    #[comptime] width: usize,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let row = CUBE_POS_Y as usize * width;
    let start = CUBE_POS_Y as usize * comptime!(count * width);
    let scale = row_scale(projected, row, eps, width);
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = projected[row + i] * scale * norm[i];
        #[unroll]
        for j in 0..count {
            if comptime!(j != active) {
                streams[start + comptime!(j * width) + i] += value;
            }
        }
    }
}
