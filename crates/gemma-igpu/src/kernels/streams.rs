//! AltUp: streams of activations, of which a layer works on one.

use cubecl::prelude::*;

use super::format::{Four, dot};
use super::math::{cube_sum, cube_sums_and, tanh};
use super::row::{Row, place, read, rms_scale, size, weights};

/// The most streams: what the router says of all of them is summed at once.
pub(crate) const MOST_STREAMS: usize = 4;

/// The fewest units of a cube that works on streams: one for each coefficient line of the prediction.
pub(crate) const LEAST_UNITS: u32 = (MOST_STREAMS * MOST_STREAMS) as u32;

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
///
/// With `adds`, `streams[j] += rms(projected, norm)` for `j ≠ active` comes first: the end of a layer's
/// [`super::per_layer::add`] in the launch that begins the next layer.
#[cube(launch_unchecked)]
pub(crate) fn predict(
    streams: &mut [Four],
    projected: &[Four],
    projected_norm: &[Four],
    router_norm: &[Four],
    router: &[Four],
    coefficients: &[f32],
    input_norm: &[Four],
    normed: &mut [Four],
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
    #[comptime] adds: bool,
) {
    let start = CUBE_POS_Y as usize * comptime!(count * row.fours);
    let out = CUBE_POS_Y as usize * row.fours;
    let mut old = read_all(&*streams, start, row, count);
    let asked = ask(router_norm, router, row, count);
    let next_norm = weights(input_norm, 1usize, row);
    let line = coefficient_line(coefficients, comptime!(count * count), count);
    let mut own = Array::<Four>::new(row.slices);
    let mut added = Array::<Four>::new(row.slices);
    let mut added_norm = Array::<Four>::new(row.slices);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        own[slice] = old[comptime!(active * row.slices + slice)];
        added[slice] = Four::new(0.0f32);
        added_norm[slice] = Four::new(0.0f32);
    }
    if comptime!(adds) {
        added = read(projected, out, row);
        added_norm = weights(projected_norm, 1usize, row);
    }
    let (dots, squares) = routed(&own, &asked, row, count);
    let sums = cube_sums_and(dots, squares, size(&added, row));
    let modalities = modalities(sums.0, sums.1, eps, row, count);
    if comptime!(adds) {
        add(&mut old, &added, &added_norm, sums.2, eps, row, count, active);
    }
    let mixing = combined(&line, &modalities, comptime!(count * count), count);
    let size = mix(streams, &old, &mixing, &mut own, start, row, count, active);
    let scale = rms_scale(cube_sum(size), eps, row);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let i = place(slice);
        if i < row.fours {
            normed[out + i] = own[slice] * Four::new(scale) * next_norm[slice];
        }
    }
}

/// A unit's fours of all streams from four `start` on, slice after slice of each.
#[cube]
fn read_all(streams: &[Four], start: usize, #[comptime] row: Row, #[comptime] count: usize) -> Array<Four> {
    let mut all = Array::<Four>::new(comptime!(count * row.slices));
    #[unroll]
    for j in 0..count {
        let stream = read(streams, start + comptime!(j * row.fours), row);
        #[unroll]
        for slice in 0..comptime!(row.slices) {
            all[comptime!(j * row.slices + slice)] = stream[slice];
        }
    }
    all
}

/// `old[j] += rms(added, norm)` for `j ≠ active`, with the sum of squares of `added`.
#[cube]
fn add(
    old: &mut Array<Four>,
    added: &Array<Four>,
    norm: &Array<Four>,
    squares: f32,
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let scale = rms_scale(squares, eps, row);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let value = added[slice] * Four::new(scale) * norm[slice];
        #[unroll]
        for j in 0..count {
            if comptime!(j != active) {
                old[comptime!(j * row.slices + slice)] += value;
            }
        }
    }
}

/// The coefficients of one of `lines` sums of modalities: unit `u` has those of sum `u`. There are as many units.
#[cube]
fn coefficient_line(coefficients: &[f32], #[comptime] lines: usize, #[comptime] count: usize) -> Array<f32> {
    let unit = min(UNIT_POS as usize, comptime!(lines - 1));
    let mut line = Array::<f32>::new(count);
    #[unroll]
    for i in 0..count {
        line[i] = coefficients[unit * count + i];
    }
    line
}

/// All `lines` sums of modalities by the coefficients that units hold, known to each unit.
#[cube]
fn combined(
    line: &Array<f32>,
    modalities: &Array<f32>,
    #[comptime] lines: usize,
    #[comptime] count: usize,
) -> Array<f32> {
    let mut shared = Shared::<[f32]>::new_slice(lines);
    if UNIT_POS < comptime!(lines as u32) {
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..count {
            sum += line[i] * modalities[i];
        }
        shared[UNIT_POS as usize] = sum;
    }
    sync_cube();
    let mut sums = Array::<f32>::new(lines);
    #[unroll]
    for i in 0..lines {
        sums[i] = shared[i];
    }
    sums
}

/// Writes `streams[j] = old[j] + Σ_k C[j, k] · old[k]`, and leaves the active one in `own`; a unit's share of its squares.
#[cube]
fn mix(
    streams: &mut [Four],
    old: &Array<Four>,
    mixing: &Array<f32>,
    own: &mut Array<Four>,
    start: usize,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
) -> f32 {
    let mut squares = 0.0f32;
    #[unroll]
    for j in 0..count {
        #[unroll]
        for slice in 0..comptime!(row.slices) {
            let mut sum = old[comptime!(j * row.slices + slice)];
            #[unroll]
            for k in 0..count {
                sum += Four::new(mixing[comptime!(j * count + k)]) * old[comptime!(k * row.slices + slice)];
            }
            let i = place(slice);
            if i < row.fours {
                streams[start + comptime!(j * row.fours) + i] = sum;
            }
            if comptime!(j == active) {
                squares += dot(sum, sum);
                own[slice] = sum;
            }
        }
    }
    squares
}

/// A unit's share of the router's norm, and behind it of the router's lines.
#[derive(CubeType)]
struct Router {
    norm: Array<Four>,
    lines: Array<Four>,
}

/// Asks for a unit's share of the router.
#[cube]
fn ask(norm: &[Four], router: &[Four], #[comptime] row: Row, #[comptime] count: usize) -> Router {
    Router { norm: weights(norm, 1usize, row), lines: weights(router, count, row) }
}

/// A unit's share of the router's products with `x · norm`, and of the squares of `x`.
#[cube]
fn routed(x: &Array<Four>, router: &Router, #[comptime] row: Row, #[comptime] count: usize) -> (Four, f32) {
    let mut dots = Four::new(0.0f32);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let value = x[slice] * router.norm[slice];
        let mut products = Four::new(0.0f32);
        #[unroll]
        for k in 0..count {
            products.insert(k, dot(value, router.lines[comptime!(k * row.slices + slice)]));
        }
        dots += products;
    }
    (dots, size(x, row))
}

/// `tanh(router · (rms(x, norm) / width))` from the sums that [`routed`] gives.
#[cube]
fn modalities(
    dots: Four,
    squares: f32,
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
) -> Array<f32> {
    let scale = rms_scale(squares, eps, row) / comptime!(row.fours * 4) as f32;
    let mut modalities = Array::<f32>::new(count);
    #[unroll]
    for k in 0..count {
        modalities[k] = tanh(dots.extract(k) * scale);
    }
    modalities
}

/// `residual = (streams[active] + rms(attended, post_norm) + normed + rms(laurel, laurel_norm)) / √2;
/// ffn_input = rms(residual, ffn_norm)`. Row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn attention_residual(
    streams: &[Four],
    normed: &[Four],
    attended: &[Four],
    laurel: &[Four],
    post_norm: &[Four],
    laurel_norm: &[Four],
    ffn_norm: &[Four],
    residual: &mut [Four],
    ffn_input: &mut [Four],
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let start = CUBE_POS_Y as usize * row.fours;
    let active = CUBE_POS_Y as usize * comptime!(count * row.fours) + comptime!(active * row.fours);
    let (attended, laurel) = (read(attended, start, row), read(laurel, start, row));
    let (mut sum, normed) = (read(streams, active, row), read(normed, start, row));
    let (post_norm, laurel_norm) = (weights(post_norm, 1usize, row), weights(laurel_norm, 1usize, row));
    let ffn_norm = weights(ffn_norm, 1usize, row);
    let sums = cube_sums_and(Four::new(0.0f32), size(&attended, row), size(&laurel, row));
    let (of_attended, of_laurel) = (rms_scale(sums.1, eps, row), rms_scale(sums.2, eps, row));
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let rest = attended[slice] * Four::new(of_attended) * post_norm[slice]
            + normed[slice]
            + laurel[slice] * Four::new(of_laurel) * laurel_norm[slice];
        sum[slice] = (sum[slice] + rest) * Four::new(std::f32::consts::FRAC_1_SQRT_2);
    }
    let scale = rms_scale(cube_sum(size(&sum, row)), eps, row);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let i = place(slice);
        if i < row.fours {
            residual[start + i] = sum[slice];
            ffn_input[start + i] = sum[slice] * Four::new(scale) * ffn_norm[slice];
        }
    }
}

/// `z = residual + rms(ffn, post_norm)`; `c = coefficients · router(z) + 1`;
/// `streams[j] += c[j] · (z − streams[active])`. Row `CUBE_POS_Y`; `residual` becomes `z`.
#[cube(launch_unchecked)]
pub(crate) fn correct(
    streams: &mut [Four],
    residual: &mut [Four],
    ffn: &[Four],
    post_norm: &[Four],
    router_norm: &[Four],
    router: &[Four],
    coefficients: &[f32],
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
) {
    let out = CUBE_POS_Y as usize * row.fours;
    let start = CUBE_POS_Y as usize * comptime!(count * row.fours);
    let ffn = read(ffn, out, row);
    let mut z = read(&*residual, out, row);
    let old = read_all(&*streams, start, row, count);
    let post_norm = weights(post_norm, 1usize, row);
    let asked = ask(router_norm, router, row, count);
    let line = coefficient_line(coefficients, count, count);
    let scale = rms_scale(cube_sum(size(&ffn, row)), eps, row);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        z[slice] += ffn[slice] * Four::new(scale) * post_norm[slice];
    }
    let (dots, squares) = routed(&z, &asked, row, count);
    let sums = cube_sums_and(dots, squares, 0.0f32.runtime());
    let modalities = modalities(sums.0, sums.1, eps, row, count);
    let changes = combined(&line, &modalities, count, count);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let i = place(slice);
        if i < row.fours {
            residual[out + i] = z[slice];
            let change = z[slice] - old[comptime!(active * row.slices + slice)];
            #[unroll]
            for j in 0..count {
                let before = old[comptime!(j * row.slices + slice)];
                streams[start + comptime!(j * row.fours) + i] =
                    before + Four::new(changes[j] + 1.0f32) * change;
            }
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
