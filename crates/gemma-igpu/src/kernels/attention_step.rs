//! The attention of one row in one launch: norms and rotary embedding of its heads, the cache's write, and attention over
//! parts of the keys, which the cube that ends last merges.
//!
//! The work on keys is that of [`super::attention`], the work on heads that of [`super::rotary`].

use cubecl::prelude::*;

use super::attention::{LOWEST, PART_EXTRA, attend};
use super::format::Format;
use super::rotary::store;

/// How heads lie, and what is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    /// Query heads.
    pub(crate) heads: usize,
    /// Query heads of a key head.
    pub(crate) shared: usize,
    /// Values of a head.
    pub(crate) dim: usize,
    /// Parts of the keys.
    pub(crate) parts: usize,
    /// Whether the row has keys and values of its own.
    pub(crate) writes: bool,
    /// Whether values are normed, without a weight.
    pub(crate) value_norm: bool,
    /// Of the cache.
    pub(crate) format: Format,
}

/// Part `CUBE_POS_Z` of key head `CUBE_POS_X`, for the row at position `header[0] + first`. `counters` has a zero for each key
/// head, and again when the launch has ended.
///
/// `angles` holds `dim / 2` cosines, then as many sines. Without keys of its own `keys`, `values` and `key_norm` are not read.
#[cube(launch_unchecked)]
pub(crate) fn attention(
    query: &[f32],
    query_norm: &[f32],
    keys: &[f32],
    values: &[f32],
    key_norm: &[f32],
    angles: &[f32],
    header: &[u32],
    key_words: &mut [u32],
    key_scales: &mut [u32],
    value_words: &mut [u32],
    value_scales: &mut [u32],
    partial: &mut [f32],
    counters: &mut [Atomic<u32>],
    output: &mut [f32],
    first: usize,
    window: usize,
    capacity: usize,
    scale: f32,
    eps: f32,
    #[comptime] step: Step,
) {
    let Step { heads, shared, dim, parts, format, .. } = comptime!(step);
    let head = CUBE_POS_X as usize * shared;
    let position = header[0] as usize + first;
    let begin = select(position >= window, position + 1 - window, 0usize.runtime());
    let each = (position + 1 - begin).div_ceil(parts);
    let from = begin + CUBE_POS_Z as usize * each;
    let to = min(from + each, position + 1);

    let mut queries = Shared::<[f32]>::new_slice(comptime!(shared * dim));
    let planes = (CUBE_DIM / PLANE_DIM) as usize;
    for h in range_stepped(PLANE_POS as usize, shared, planes) {
        rotate(query, (head + h) * dim, query_norm, angles, scale, eps, &mut queries, h * dim, dim);
    }
    if comptime!(step.writes) {
        // The part that ends with the row's own position writes it first.
        if from < to && to == position + 1 {
            let mut fresh = Shared::<[f32]>::new_slice(comptime!(2 * dim));
            own_heads(keys, values, key_norm, angles, eps, &mut fresh, step);
            let at = position % capacity * comptime!(heads / shared * dim) + CUBE_POS_X as usize * dim;
            store(&fresh, 0usize.runtime(), key_words, key_scales, at, dim, format);
            store(&fresh, dim.runtime(), value_words, value_scales, at, dim, format);
            sync_storage();
        }
    }
    let (k, ks, v, vs) = (&*key_words, &*key_scales, &*value_words, &*value_scales);
    if comptime!(parts == 1) {
        attend(&queries, k, ks, v, vs, output, from, to, capacity, heads, shared, dim, parts, format);
    } else {
        attend(&queries, k, ks, v, vs, partial, from, to, capacity, heads, shared, dim, parts, format);
        merge_last(&*partial, counters, output, head, shared, dim, parts);
    }
}

/// The row's own key and value of the cube's key head, as the cache takes them: one behind the other in `fresh`.
#[cube]
fn own_heads(
    keys: &[f32],
    values: &[f32],
    key_norm: &[f32],
    angles: &[f32],
    eps: f32,
    fresh: &mut [f32],
    #[comptime] step: Step,
) {
    let dim = comptime!(step.dim);
    let start = CUBE_POS_X as usize * dim;
    let planes = (CUBE_DIM / PLANE_DIM) as usize;
    if PLANE_POS == 0 {
        rotate(keys, start, key_norm, angles, 1.0f32.runtime(), eps, fresh, 0usize.runtime(), dim);
    }
    if PLANE_POS as usize == planes - 1 {
        let by =
            if comptime!(step.value_norm) { plane_scale(values, start, eps, dim) } else { 1.0f32.runtime() };
        for i in range_stepped(UNIT_POS_PLANE as usize, dim, PLANE_DIM as usize) {
            fresh[dim + i] = values[start + i] * by;
        }
    }
}

/// Norms and rotates the head from `start` on, by one subgroup, into `out` from value `at` on.
#[cube]
fn rotate(
    values: &[f32],
    start: usize,
    norm: &[f32],
    angles: &[f32],
    scale: f32,
    eps: f32,
    out: &mut [f32],
    at: usize,
    #[comptime] dim: usize,
) {
    let by = plane_scale(values, start, eps, dim);
    let half = comptime!(dim / 2);
    for i in range_stepped(UNIT_POS_PLANE as usize, half, PLANE_DIM as usize) {
        let (cos, sin) = (angles[i], angles[half + i]);
        let a = values[start + i] * by * norm[i];
        let b = values[start + half + i] * by * norm[half + i];
        out[at + i] = (a * cos - b * sin) * scale;
        out[at + half + i] = (b * cos + a * sin) * scale;
    }
}

/// `1 / sqrt(mean(x²) + eps)` of the `dim` values from `start` on, by one subgroup.
#[cube]
fn plane_scale(values: &[f32], start: usize, eps: f32, #[comptime] dim: usize) -> f32 {
    let mut squares = 0.0f32;
    for i in range_stepped(UNIT_POS_PLANE as usize, dim, PLANE_DIM as usize) {
        let value = values[start + i];
        squares += value * value;
    }
    1.0 / (plane_sum(squares) / dim as f32 + eps).sqrt()
}

/// Merges the parts of the cube's heads, if all other parts are there.
#[cube]
fn merge_last(
    partial: &[f32],
    counters: &mut [Atomic<u32>],
    output: &mut [f32],
    head: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] parts: usize,
) {
    let mut arrived = Shared::<u32>::new();
    // What this cube has written is there for whoever comes last.
    sync_storage();
    if UNIT_POS == 0 {
        *arrived = counters[CUBE_POS_X as usize].fetch_add(1u32);
    }
    // And what others have written before they came is there for this one.
    sync_storage();
    if *arrived == comptime!(parts as u32 - 1) {
        for h in 0..shared {
            merge_head(partial, output, head + h, dim, parts);
        }
        if UNIT_POS == 0 {
            counters[CUBE_POS_X as usize].store(0u32);
        }
    }
}

/// Merges the parts of a head.
#[cube]
pub(super) fn merge_head(
    partial: &[f32],
    output: &mut [f32],
    head: usize,
    #[comptime] dim: usize,
    #[comptime] parts: usize,
) {
    let stride = comptime!(dim + PART_EXTRA);
    let start = head * comptime!(parts * (dim + PART_EXTRA));
    let mut largest = f32::new(LOWEST);
    for part in 0..parts {
        largest = max(largest, partial[start + part * stride + dim]);
    }
    let mut total = 0.0f32;
    for part in 0..parts {
        let at = start + part * stride + dim;
        total += (partial[at] - largest).exp() * partial[at + 1];
    }
    for i in range_stepped(UNIT_POS as usize, dim, CUBE_DIM as usize) {
        let mut sum = 0.0f32;
        for part in 0..parts {
            let at = start + part * stride;
            sum += (partial[at + dim] - largest).exp() * partial[at + i];
        }
        output[head * dim + i] = sum / total;
    }
}
