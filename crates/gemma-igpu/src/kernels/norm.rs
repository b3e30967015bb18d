//! RMS norms of rows, and sums that end in one.

use cubecl::prelude::*;

use super::math::cube_sum;

/// `output = input / sqrt(mean(input²) + eps) · weight`; row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn rms_norm(
    input: &[f32],
    weight: &[f32],
    output: &mut [f32],
    eps: f32,
    #[comptime] width: usize,
) {
    let start = CUBE_POS_Y as usize * width;
    let scale = row_scale(input, start, eps, width);
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        output[start + i] = input[start + i] * scale * weight[i];
    }
}

/// `residual += rms(input, post_norm); normed = rms(residual, next_norm)`; row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn add_norm(
    input: &[f32],
    post_norm: &[f32],
    residual: &mut [f32],
    next_norm: &[f32],
    normed: &mut [f32],
    eps: f32,
    #[comptime] width: usize,
) {
    let start = CUBE_POS_Y as usize * width;
    let scale = row_scale(input, start, eps, width);
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let sum = residual[start + i] + input[start + i] * scale * post_norm[i];
        residual[start + i] = sum;
        squares += sum * sum;
    }
    let next = 1.0 / (cube_sum(squares) / width as f32 + eps).sqrt();
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        normed[start + i] = residual[start + i] * next * next_norm[i];
    }
}

/// `1 / sqrt(mean(x²) + eps)` of the `width` values from `start` on.
#[cube]
pub(crate) fn row_scale(values: &[f32], start: usize, eps: f32, #[comptime] width: usize) -> f32 {
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = values[start + i];
        squares += value * value;
    }
    1.0 / (cube_sum(squares) / width as f32 + eps).sqrt()
}
