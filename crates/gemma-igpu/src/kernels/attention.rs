//! Causal softmax attention over a layer of the cache.

use cubecl::prelude::*;

use super::format::{Format, half_bits};
use super::math::{cube_max, cube_sum};

/// Units of a cube: one a key of a tile, and one a value of the head.
pub(crate) const UNITS: u32 = 64;

/// Attention of head `CUBE_POS_X` of row `CUBE_POS_Y`, which stands at position `header[0] + first + CUBE_POS_Y`.
///
/// Keys are visited in tiles of one a unit; sums are rescaled when a tile has a larger score.
#[cube(launch_unchecked)]
pub(crate) fn attention(
    query: &[f32],
    header: &[u32],
    keys: &[u32],
    key_scales: &[u32],
    values: &[u32],
    value_scales: &[u32],
    output: &mut [f32],
    first: usize,
    window: usize,
    capacity: usize,
    #[comptime] heads: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] format: Format,
) {
    let units = comptime!(UNITS as usize);
    let unit = UNIT_POS as usize;
    let width = comptime!(heads / shared * dim);
    let head = CUBE_POS_X as usize / shared * dim;
    let q = (CUBE_POS_Y as usize * heads + CUBE_POS_X as usize) * dim;
    let position = header[0] as usize + first + CUBE_POS_Y as usize;
    let begin = select(position >= window, position + 1 - window, 0usize.runtime());

    let mut queries = Shared::new_slice(dim);
    let mut weights = Shared::new_slice(units);
    for i in range_stepped(unit, dim, units) {
        queries[i] = query[q + i];
    }
    sync_cube();

    let parts = comptime!(dim.div_ceil(UNITS as usize));
    let mut sums = Array::<f32>::new(parts);
    #[unroll]
    for part in 0..parts {
        sums[part] = 0.0f32;
    }
    let mut largest = f32::new(-3.0e38);
    let mut total = 0.0f32;
    for tile in range_stepped(begin, position + 1, units) {
        let key = tile + unit;
        let mut score = f32::new(-3.0e38);
        if key <= position {
            score = dot(keys, key_scales, key % capacity * width + head, &queries, dim, format);
        }
        let highest = max(largest, cube_max(score));
        let rescale = (largest - highest).exp();
        let weight = select(key <= position, (score - highest).exp(), 0.0f32);
        weights[unit] = weight;
        total = total * rescale + cube_sum(weight);
        let count = select(position + 1 - tile < units, position + 1 - tile, units.runtime());
        #[unroll]
        for part in 0..parts {
            let i = comptime!(part * UNITS as usize) + unit;
            let mut sum = sums[part] * rescale;
            if i < dim {
                for index in 0..count {
                    let slot = (tile + index) % capacity * width + head;
                    sum += weights[index] * value_at(values, value_scales, slot + i, format);
                }
            }
            sums[part] = sum;
        }
        largest = highest;
        // The next tile's weights take the same place.
        sync_cube();
    }
    #[unroll]
    for part in 0..parts {
        let i = comptime!(part * UNITS as usize) + unit;
        if i < dim {
            output[q + i] = sums[part] / total;
        }
    }
}

/// The product of the cached values from `start` on with the query.
#[cube]
fn dot(
    words: &[u32],
    scales: &[u32],
    start: usize,
    query: &[f32],
    #[comptime] dim: usize,
    #[comptime] format: Format,
) -> f32 {
    let mut sum = 0.0f32;
    match format {
        Format::F32 => {
            for i in 0..dim {
                sum += f32::reinterpret(words[start + i]) * query[i];
            }
        }
        Format::F16 => {
            for i in 0..comptime!(dim / 2) {
                let word = words[start / 2 + i];
                sum += half_bits(word & 0xffff) * query[2 * i] + half_bits(word >> 16) * query[2 * i + 1];
            }
        }
        _ => {
            for i in 0..dim {
                sum += value_at(words, scales, start + i, format) * query[i];
            }
        }
    }
    sum
}

/// One cached value.
#[cube]
fn value_at(words: &[u32], scales: &[u32], index: usize, #[comptime] format: Format) -> f32 {
    match format {
        Format::F32 => f32::reinterpret(words[index]),
        Format::F16 => half_bits((words[index / 2] >> ((index as u32 & 1) * 16)) & 0xffff),
        _ => {
            let byte = (words[index / 4] >> ((index as u32 % 4) * 8)) & 255;
            half_bits(scales[index / 32]) * f32::cast_from(i32::cast_from(byte << 24) >> 24)
        }
    }
}
