//! Norms and rotary embedding of heads, and the cache's write.

use cubecl::prelude::*;
use half::f16;

use super::format::Format;
use super::math::cube_sum;
use super::norm::row_scale;

/// `head = rope(rms(head, norm)) · scale` for head `CUBE_POS_X` of row `CUBE_POS_Y`.
///
/// `angles` holds for each row `dim / 2` cosines, then as many sines.
#[cube(launch_unchecked)]
pub(crate) fn rotate(
    values: &mut [f32],
    norm: &[f32],
    angles: &[f32],
    heads: usize,
    scale: f32,
    eps: f32,
    #[comptime] dim: usize,
) {
    let start = (CUBE_POS_Y as usize * heads + CUBE_POS_X as usize) * dim;
    let table = CUBE_POS_Y as usize * dim;
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, dim, CUBE_DIM as usize) {
        let value = values[start + i];
        squares += value * value;
    }
    let by = 1.0 / (cube_sum(squares) / dim as f32 + eps).sqrt();
    let half = comptime!(dim / 2);
    for i in range_stepped(UNIT_POS as usize, half, CUBE_DIM as usize) {
        let (cos, sin) = (angles[table + i], angles[table + half + i]);
        let a = values[start + i] * by * norm[i];
        let b = values[start + half + i] * by * norm[half + i];
        values[start + i] = (a * cos - b * sin) * scale;
        values[start + half + i] = (b * cos + a * sin) * scale;
    }
}

/// `head = rms(head)` without a weight, for head `CUBE_POS_X` of row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn norm_heads(values: &mut [f32], heads: usize, eps: f32, #[comptime] dim: usize) {
    let start = (CUBE_POS_Y as usize * heads + CUBE_POS_X as usize) * dim;
    let by = row_scale(&*values, start, eps, dim);
    for i in range_stepped(UNIT_POS as usize, dim, CUBE_DIM as usize) {
        values[start + i] = values[start + i] * by;
    }
}

/// Writes rows of keys, or of values, into the cache: row `r` to the slot of position `start + first + r`, where `start`
/// is the first word of `header`. One unit a word, or in [`Format::Q8_0`] a block of 32 values.
#[cube(launch_unchecked)]
pub(crate) fn store(
    values: &[f32],
    header: &[u32],
    words: &mut [u32],
    scales: &mut [u32],
    rows: usize,
    width: usize,
    capacity: usize,
    #[comptime] format: Format,
) {
    let per_row = match format {
        Format::F32 => width,
        Format::F16 => width / 2,
        _ => width / 32,
    };
    if ABSOLUTE_POS < rows * per_row {
        let (row, index) = (ABSOLUTE_POS / per_row, ABSOLUTE_POS % per_row);
        let slot = (header[0] as usize + row) % capacity;
        match format {
            Format::F32 => words[slot * width + index] = u32::reinterpret(values[row * width + index]),
            Format::F16 => {
                let at = row * width + 2 * index;
                words[slot * per_row + index] = half_of(values[at]) | (half_of(values[at + 1]) << 16);
            }
            _ => store_block(values, row * width + 32 * index, words, scales, slot * per_row + index),
        }
    }
}

/// The bits of the nearest f16.
#[cube]
pub(crate) fn half_of(value: f32) -> u32 {
    u32::cast_from(u16::reinterpret(f16::cast_from(value)))
}

/// Rounds the 32 values from `start` on to block number `block`: 8 words of quants, and a word with the f16 scale.
#[cube]
fn store_block(values: &[f32], start: usize, words: &mut [u32], scales: &mut [u32], block: usize) {
    let mut largest = 0.0f32;
    for i in 0..32usize {
        largest = max(largest, values[start + i].abs());
    }
    let step = largest / 127.0;
    let inverse = select(step > 0.0, 1.0 / step, 0.0f32);
    scales[block] = half_of(step);
    for word in 0..8usize {
        let mut packed = 0u32;
        #[unroll]
        for byte in 0..4u32 {
            let scaled = values[start + 4 * word + byte as usize] * inverse;
            // Ties away from zero, as ggml rounds.
            let rounded = select(scaled < 0.0, (scaled - 0.5).ceil(), (scaled + 0.5).floor());
            packed |= (u32::cast_from(i32::cast_from(rounded)) & 255) << (8 * byte);
        }
        words[block * 8 + word] = packed;
    }
}
