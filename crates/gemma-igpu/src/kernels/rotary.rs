//! Norms and rotary embedding of heads, and the cache's write.

use cubecl::prelude::*;
use half::f16;

use super::format::Format;
use super::norm::row_scale;

/// The most values of a head.
pub(crate) const LARGEST_HEAD: usize = 512;

/// `head = rope(rms(head, norm)) · scale` for query head `CUBE_POS_X` of row `CUBE_POS_Y`.
///
/// `angles` holds for each row `dim / 2` cosines, then as many sines.
#[cube(launch_unchecked)]
pub(crate) fn queries(
    values: &mut [f32],
    norm: &[f32],
    angles: &[f32],
    heads: usize,
    scale: f32,
    eps: f32,
    #[comptime] dim: usize,
) {
    let start = (CUBE_POS_Y as usize * heads + CUBE_POS_X as usize) * dim;
    rotate(values, start, norm, angles, scale, eps, dim);
}

/// Queries, keys and values of row `CUBE_POS_Y`, and the cache's write: of the cubes along the first axis the first
/// `query_heads` do a head of [`queries`], `heads` more a head of keys (normed and rotated), `heads` more one of values
/// (normed, if wanted, without a weight).
///
/// Row `r` goes to the slot of position `start + r`, where `start` is the first word of `header`.
#[cube(launch_unchecked)]
pub(crate) fn all(
    query: &mut [f32],
    query_norm: &[f32],
    keys: &mut [f32],
    values: &mut [f32],
    norm: &[f32],
    angles: &[f32],
    header: &[u32],
    key_words: &mut [u32],
    key_scales: &mut [u32],
    value_words: &mut [u32],
    value_scales: &mut [u32],
    query_scale: f32,
    capacity: usize,
    eps: f32,
    #[comptime] query_heads: usize,
    #[comptime] heads: usize,
    #[comptime] dim: usize,
    #[comptime] value_norm: bool,
    #[comptime] format: Format,
) {
    let cube = CUBE_POS_X as usize;
    let t = CUBE_POS_Y as usize;
    let slot = (header[0] as usize + t) % capacity;
    if cube < query_heads {
        rotate(query, (t * query_heads + cube) * dim, query_norm, angles, query_scale, eps, dim);
    } else if cube < comptime!(query_heads + heads) {
        let head = cube - query_heads;
        let start = (t * heads + head) * dim;
        rotate(keys, start, norm, angles, 1.0f32.runtime(), eps, dim);
        store(&*keys, start, key_words, key_scales, (slot * heads + head) * dim, dim, format);
    } else {
        let head = cube - comptime!(query_heads + heads);
        let start = (t * heads + head) * dim;
        if comptime!(value_norm) {
            let by = row_scale(&*values, start, eps, dim);
            for i in range_stepped(UNIT_POS as usize, dim, CUBE_DIM as usize) {
                values[start + i] *= by;
            }
        }
        store(&*values, start, value_words, value_scales, (slot * heads + head) * dim, dim, format);
    }
}

/// Norms and rotates the head from `start` on.
#[cube]
fn rotate(
    values: &mut [f32],
    start: usize,
    norm: &[f32],
    angles: &[f32],
    scale: f32,
    eps: f32,
    #[comptime] dim: usize,
) {
    let table = CUBE_POS_Y as usize * dim;
    let by = row_scale(&*values, start, eps, dim);
    let half = comptime!(dim / 2);
    for i in range_stepped(UNIT_POS as usize, half, CUBE_DIM as usize) {
        let (cos, sin) = (angles[table + i], angles[table + half + i]);
        let a = values[start + i] * by * norm[i];
        let b = values[start + half + i] * by * norm[half + i];
        values[start + i] = (a * cos - b * sin) * scale;
        values[start + half + i] = (b * cos + a * sin) * scale;
    }
}

/// Writes the head from `start` on into the cache from value `at` on, when all units of the cube have written theirs.
#[cube]
pub(super) fn store(
    values: &[f32],
    start: usize,
    words: &mut [u32],
    scales: &mut [u32],
    at: usize,
    #[comptime] dim: usize,
    #[comptime] format: Format,
) {
    sync_storage();
    sync_cube();
    match format {
        Format::F32 => {
            for i in range_stepped(UNIT_POS as usize, dim, CUBE_DIM as usize) {
                words[at + i] = u32::reinterpret(values[start + i]);
            }
        }
        Format::F16 => {
            for i in range_stepped(UNIT_POS as usize, comptime!(dim / 2), CUBE_DIM as usize) {
                let low = half_of(values[start + 2 * i]);
                words[at / 2 + i] = low | (half_of(values[start + 2 * i + 1]) << 16);
            }
        }
        _ => {
            for i in range_stepped(UNIT_POS as usize, comptime!(dim / 32), CUBE_DIM as usize) {
                store_block(values, start + 32 * i, words, scales, at / 32 + i);
            }
        }
    }
}

/// The bits of the nearest f16.
#[cube]
fn half_of(value: f32) -> u32 {
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
