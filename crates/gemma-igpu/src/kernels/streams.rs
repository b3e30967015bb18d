//! AltUp: streams of activations, of which a layer works on one.

use cubecl::prelude::*;

use super::format::Four;
use super::math::{cube_sum, cube_sums, tanh};
use super::norm::row_scale;

/// The most streams: what the router says of all of them is summed at once.
pub(crate) const MOST_STREAMS: usize = 4;

/// The floor under `mean(y²)` when a stream gets the magnitude of another.
const MATCH_FLOOR: f32 = gemma_hal::op::MATCH_FLOOR;

/// `streams[0] = x; streams[i] = match(streams[i], x)` for row `CUBE_POS_Y`, where the products already stand.
#[cube(launch_unchecked)]
pub(crate) fn init(input: &[f32], streams: &mut [f32], #[comptime] width: usize, #[comptime] count: usize) {
    let x = CUBE_POS_Y as usize * width;
    let start = CUBE_POS_Y as usize * comptime!(count * width);
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = input[x + i];
        streams[start + i] = value;
        squares += value * value;
    }
    let size = cube_sum(squares) / width as f32;
    #[unroll]
    for stream in 1..count {
        let at = start + comptime!(stream * width);
        let scale = match_scale(&*streams, at, size, width);
        for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
            streams[at + i] *= scale;
        }
    }
}

/// What the `width` values from `start` on are multiplied by to get a mean square of `size`.
#[cube]
fn match_scale(values: &[f32], start: usize, size: f32, #[comptime] width: usize) -> f32 {
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = values[start + i];
        squares += value * value;
    }
    let own = cube_sum(squares) / width as f32;
    (size / max(own, MATCH_FLOOR)).sqrt()
}

/// `streams[j] += Σ_i C[j, i] · streams[i]` with `C` from the router's modalities of the active stream; then
/// `normed = rms(streams[active], input_norm)`. Row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn predict(
    streams: &mut [f32],
    router_norm: &[f32],
    router: &[f32],
    coefficients: &[f32],
    input_norm: &[f32],
    normed: &mut [f32],
    eps: f32,
    #[comptime] width: usize,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let start = CUBE_POS_Y as usize * comptime!(count * width);
    let out = CUBE_POS_Y as usize * width;
    let modalities =
        modalities(&*streams, start + comptime!(active * width), router_norm, router, eps, width, count);
    let mut mix = Array::<f32>::new(comptime!(count * count));
    #[unroll]
    for index in 0..comptime!(count * count) {
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..count {
            sum += coefficients[comptime!(index * count + i)] * modalities[i];
        }
        mix[index] = sum;
    }
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let mut old = Array::<f32>::new(count);
        #[unroll]
        for j in 0..count {
            old[j] = streams[start + comptime!(j * width) + i];
        }
        #[unroll]
        for j in 0..count {
            let mut sum = old[j];
            #[unroll]
            for k in 0..count {
                sum += mix[comptime!(j * count + k)] * old[k];
            }
            streams[start + comptime!(j * width) + i] = sum;
            if comptime!(j == active) {
                squares += sum * sum;
            }
        }
    }
    let scale = 1.0 / (cube_sum(squares) / width as f32 + eps).sqrt();
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        normed[out + i] = streams[start + comptime!(active * width) + i] * scale * input_norm[i];
    }
}

/// `tanh(router · (rms(x, norm) / width))` of the values from `start` on.
#[cube]
fn modalities(
    values: &[f32],
    start: usize,
    norm: &[f32],
    router: &[f32],
    eps: f32,
    #[comptime] width: usize,
    #[comptime] count: usize,
) -> Array<f32> {
    let scale = row_scale(values, start, eps, width) / width as f32;
    let mut partial = Four::new(0.0f32);
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = values[start + i] * scale * norm[i];
        let mut weights = Four::new(0.0f32);
        #[unroll]
        for k in 0..count {
            weights.insert(k, router[comptime!(k * width) + i]);
        }
        partial += weights * Four::new(value);
    }
    let total = cube_sums(partial);
    let mut modalities = Array::<f32>::new(count);
    #[unroll]
    for k in 0..count {
        modalities[k] = tanh(total.extract(k));
    }
    modalities
}

/// `residual = (streams[active] + rms(attended, post_norm) + normed + rms(laurel, laurel_norm)) / √2;
/// ffn_input = rms(residual, ffn_norm)`. Row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn attention_residual(
    streams: &[f32],
    normed: &[f32],
    attended: &[f32],
    laurel: &[f32],
    post_norm: &[f32],
    laurel_norm: &[f32],
    ffn_norm: &[f32],
    residual: &mut [f32],
    ffn_input: &mut [f32],
    eps: f32,
    #[comptime] width: usize,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let row = CUBE_POS_Y as usize * width;
    let x = CUBE_POS_Y as usize * comptime!(count * width) + comptime!(active * width);
    let mut both = Four::new(0.0f32);
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let mut values = Four::new(0.0f32);
        values.insert(0usize, attended[row + i]);
        values.insert(1usize, laurel[row + i]);
        both += values * values;
    }
    let sizes = cube_sums(both);
    let of_attended = 1.0 / (sizes.extract(0usize) / width as f32 + eps).sqrt();
    let of_laurel = 1.0 / (sizes.extract(1usize) / width as f32 + eps).sqrt();
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let sum = streams[x + i]
            + attended[row + i] * of_attended * post_norm[i]
            + normed[row + i]
            + laurel[row + i] * of_laurel * laurel_norm[i];
        let value = sum * std::f32::consts::FRAC_1_SQRT_2;
        residual[row + i] = value;
        squares += value * value;
    }
    let scale = 1.0 / (cube_sum(squares) / width as f32 + eps).sqrt();
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        ffn_input[row + i] = residual[row + i] * scale * ffn_norm[i];
    }
}

/// `z = residual + rms(ffn, post_norm)`; `c = coefficients · router(z) + 1`;
/// `streams[j] += c[j] · (z − streams[active])`. Row `CUBE_POS_Y`; `residual` becomes `z`.
#[cube(launch_unchecked)]
pub(crate) fn correct(
    streams: &mut [f32],
    residual: &mut [f32],
    ffn: &[f32],
    post_norm: &[f32],
    router_norm: &[f32],
    router: &[f32],
    coefficients: &[f32],
    eps: f32,
    #[comptime] width: usize,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let row = CUBE_POS_Y as usize * width;
    let start = CUBE_POS_Y as usize * comptime!(count * width);
    let scale = row_scale(ffn, row, eps, width);
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        residual[row + i] += ffn[row + i] * scale * post_norm[i];
    }
    let modalities = modalities(&*residual, row, router_norm, router, eps, width, count);
    let mut weights = Array::<f32>::new(count);
    #[unroll]
    for j in 0..count {
        let mut sum = 1.0f32;
        #[unroll]
        for k in 0..count {
            sum += coefficients[comptime!(j * count + k)] * modalities[k];
        }
        weights[j] = sum;
    }
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let change = residual[row + i] - streams[start + comptime!(active * width) + i];
        #[unroll]
        for j in 0..count {
            streams[start + comptime!(j * width) + i] += weights[j] * change;
        }
    }
}

/// `output = rms((streams[0] + Σ_i match(projected[i − 1], streams[0])) / count, norm)`. Row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn merge(
    streams: &[f32],
    projected: &mut [f32],
    norm: &[f32],
    output: &mut [f32],
    eps: f32,
    #[comptime] width: usize,
    #[comptime] count: usize,
) {
    let start = CUBE_POS_Y as usize * comptime!(count * width);
    let products = CUBE_POS_Y as usize * comptime!((count - 1) * width);
    let row = CUBE_POS_Y as usize * width;
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = streams[start + i];
        squares += value * value;
        output[row + i] = value;
    }
    let size = cube_sum(squares) / width as f32;
    #[unroll]
    for stream in 1..count {
        let at = products + comptime!((stream - 1) * width);
        let scale = match_scale(&*projected, at, size, width);
        for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
            output[row + i] += projected[at + i] * scale;
        }
    }
    let mut merged = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        let value = output[row + i] / count as f32;
        output[row + i] = value;
        merged += value * value;
    }
    let scale = 1.0 / (cube_sum(merged) / width as f32 + eps).sqrt();
    for i in range_stepped(UNIT_POS as usize, width, CUBE_DIM as usize) {
        output[row + i] = output[row + i] * scale * norm[i];
    }
}
