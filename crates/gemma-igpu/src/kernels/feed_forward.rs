//! The gate of the feed-forward network.

use cubecl::prelude::*;

use super::math::{cube_sum, gelu};

/// `gated = gelu(g) · up` with `g = gated`, value by value.
#[cube(launch_unchecked)]
pub(crate) fn gate(gated: &mut [f32], up: &[f32], count: usize) {
    if ABSOLUTE_POS < count {
        gated[ABSOLUTE_POS] = gelu(gated[ABSOLUTE_POS]) * up[ABSOLUTE_POS];
    }
}

/// `gated = gelu(relu(g − (mean(g) + cutoff · std(g)))) · up` with `g` the row `CUBE_POS_Y` of `gated`.
#[cube(launch_unchecked)]
pub(crate) fn sparse_gate(gated: &mut [f32], up: &[f32], cutoff: f32, width: usize) {
    let start = CUBE_POS_Y as usize * width;
    let mut sum = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        sum += gated[start + i];
    }
    let mean = cube_sum(sum) / f32::cast_from(width);
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let off = gated[start + i] - mean;
        squares += off * off;
    }
    let cut = mean + cutoff * (cube_sum(squares) / f32::cast_from(width)).sqrt();
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let over = max(gated[start + i] - cut, 0.0f32);
        gated[start + i] = gelu(over) * up[start + i];
    }
}
