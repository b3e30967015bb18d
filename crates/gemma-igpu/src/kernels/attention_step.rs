//! The attention of one row in one launch: norms and rotary embedding of its heads, the cache's write, and attention over
//! parts of the keys, which the cube that ends last merges.
//!
//! The work on keys is that of [`super::attention`], the work on heads that of [`super::rotary`].

use cubecl::prelude::*;

use super::attention::{LOWEST, PART_EXTRA, UNITS, attend, keys_of_part};
use super::format::Format;
use super::rotary::store;

/// Rows of a head's width that are staged besides queries: the key, the value, two norms, the angles.
pub(crate) const STAGED_BESIDES: usize = 5;

/// The most values that are staged: half of the shared memory that every adapter has.
pub(crate) const MOST_STAGED: usize = 4096;

/// Parts that a merge asks for at a time.
const PARTS_AHEAD: usize = 16;

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
    let (from, to) = keys_of_part(position, window, parts);

    let mut staged = Shared::<[f32]>::new_slice(comptime!((shared + STAGED_BESIDES) * dim));
    stage(query, query_norm, keys, values, key_norm, angles, head * dim, &mut staged, step);
    sync_cube();
    prepare(&mut staged, scale, eps, step);
    if comptime!(step.writes) {
        // The part that ends with the row's own position writes it first.
        if from < to && to == position + 1 {
            let at = position % capacity * comptime!(heads / shared * dim) + CUBE_POS_X as usize * dim;
            let (key, value) = (comptime!(shared * dim).runtime(), comptime!((shared + 1) * dim).runtime());
            store(&staged, key, key_words, key_scales, at, dim, format);
            store(&staged, value, value_words, value_scales, at, dim, format);
            sync_storage();
        }
    }
    let (k, ks, v, vs) = (&*key_words, &*key_scales, &*value_words, &*value_scales);
    if comptime!(parts == 1) {
        attend(&staged, k, ks, v, vs, output, from, to, capacity, heads, shared, dim, parts, format);
    } else {
        attend(&staged, k, ks, v, vs, partial, from, to, capacity, heads, shared, dim, parts, format);
        merge_last(&*partial, counters, output, head, shared, dim, parts);
    }
}

/// Puts into `staged` the queries, the row's own key and value, the two norms and the angles, each as it is, all asked for
/// before the first is waited for. What the row does not have is left out.
#[cube]
fn stage(
    query: &[f32],
    query_norm: &[f32],
    keys: &[f32],
    values: &[f32],
    key_norm: &[f32],
    angles: &[f32],
    start: usize,
    staged: &mut [f32],
    #[comptime] step: Step,
) {
    let Step { shared, dim, .. } = comptime!(step);
    let own = CUBE_POS_X as usize * dim;
    let zero = 0usize.runtime();
    let queries = take(query, start, comptime!(shared * dim));
    let (norm, turn) = (take(query_norm, zero, dim), take(angles, zero, dim));
    if comptime!(step.writes) {
        let (key, value, other) = (take(keys, own, dim), take(values, own, dim), take(key_norm, zero, dim));
        put(&key, staged, comptime!(shared * dim), dim);
        put(&value, staged, comptime!((shared + 1) * dim), dim);
        put(&other, staged, comptime!((shared + 3) * dim), dim);
    }
    put(&queries, staged, 0usize, comptime!(shared * dim));
    put(&norm, staged, comptime!((shared + 2) * dim), dim);
    put(&turn, staged, comptime!((shared + 4) * dim), dim);
}

/// A cube's `count` values from `start` on.
#[cube]
fn take(values: &[f32], start: usize, #[comptime] count: usize) -> Array<f32> {
    let slices = comptime!(count.div_ceil(UNITS as usize));
    let mut taken = Array::<f32>::new(slices);
    #[unroll]
    for slice in 0..slices {
        let i = comptime!(slice * UNITS as usize) + UNIT_POS as usize;
        taken[slice] = values[start + min(i, comptime!(count - 1))];
    }
    taken
}

/// Writes what [`take`] has read to `out` from value `at` on.
#[cube]
fn put(taken: &Array<f32>, out: &mut [f32], #[comptime] at: usize, #[comptime] count: usize) {
    #[unroll]
    for slice in 0..comptime!(count.div_ceil(UNITS as usize)) {
        let i = comptime!(slice * UNITS as usize) + UNIT_POS as usize;
        if comptime!((slice + 1) * UNITS as usize <= count) || i < count {
            out[comptime!(at) + i] = taken[slice];
        }
    }
}

/// Norms and rotates what is staged where it lies, a subgroup a head.
#[cube]
fn prepare(staged: &mut [f32], scale: f32, eps: f32, #[comptime] step: Step) {
    let Step { shared, dim, .. } = comptime!(step);
    let planes = (CUBE_DIM / PLANE_DIM) as usize;
    let items = comptime!(if step.writes { shared + 2 } else { shared });
    let (query_norm, key_norm) = (comptime!((shared + 2) * dim), comptime!((shared + 3) * dim));
    for item in range_stepped(PLANE_POS as usize, items, planes) {
        if item < shared {
            rotate(staged, item * dim, query_norm, scale, eps, step);
        } else if item == shared {
            rotate(staged, item * dim, key_norm, 1.0f32.runtime(), eps, step);
        } else if comptime!(step.value_norm) {
            let by = plane_scale(&*staged, item * dim, eps, dim);
            for i in range_stepped(UNIT_POS_PLANE as usize, dim, PLANE_DIM as usize) {
                staged[item * dim + i] *= by;
            }
        }
    }
}

/// Norms and rotates the head from `start` on, by one subgroup.
#[cube]
fn rotate(
    staged: &mut [f32],
    start: usize,
    #[comptime] norm: usize,
    scale: f32,
    eps: f32,
    #[comptime] step: Step,
) {
    let dim = comptime!(step.dim);
    let by = plane_scale(&*staged, start, eps, dim);
    let half = comptime!(dim / 2);
    let angles = comptime!((step.shared + 4) * dim);
    for i in range_stepped(UNIT_POS_PLANE as usize, half, PLANE_DIM as usize) {
        let (cos, sin) = (staged[comptime!(angles) + i], staged[comptime!(angles + half) + i]);
        let a = staged[start + i] * by * staged[comptime!(norm) + i];
        let b = staged[start + half + i] * by * staged[comptime!(norm + half) + i];
        staged[start + i] = (a * cos - b * sin) * scale;
        staged[start + half + i] = (b * cos + a * sin) * scale;
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
        merge_heads(partial, output, head, shared, dim, parts);
        if UNIT_POS == 0 {
            counters[CUBE_POS_X as usize].store(0u32);
        }
    }
}

/// Merges the parts of `shared` heads from `head` on.
#[cube]
pub(super) fn merge_heads(
    partial: &[f32],
    output: &mut [f32],
    head: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] parts: usize,
) {
    let stride = comptime!(dim + PART_EXTRA);
    let start = head * comptime!(parts * (dim + PART_EXTRA));
    let all = comptime!(shared * parts);
    let mut largest = Shared::<[f32]>::new_slice(all);
    let mut weights = Shared::<[f32]>::new_slice(all);
    let mut factors = Shared::<[f32]>::new_slice(all);
    for item in range_stepped(UNIT_POS as usize, all, CUBE_DIM as usize) {
        let at = start + item * stride + dim;
        largest[item] = partial[at];
        weights[item] = partial[at + 1];
    }
    sync_cube();
    for item in range_stepped(UNIT_POS as usize, all, CUBE_DIM as usize) {
        let first = item / parts * parts;
        let mut peak = f32::new(LOWEST);
        for part in 0..parts {
            peak = max(peak, largest[first + part]);
        }
        let mut total = 0.0f32;
        for part in 0..parts {
            total += (largest[first + part] - peak).exp() * weights[first + part];
        }
        factors[item] = (largest[item] - peak).exp() / total;
    }
    sync_cube();
    for i in range_stepped(UNIT_POS as usize, dim, CUBE_DIM as usize) {
        for h in 0..shared {
            output[(head + h) * dim + i] = merged(partial, &factors, start + i, h * parts, stride, parts);
        }
    }
}

/// One value of a head: the sum of its parts', from number `first` on, by their factors. Several parts are asked for before the first
/// is waited for.
#[cube]
fn merged(
    partial: &[f32],
    factors: &[f32],
    at: usize,
    first: usize,
    #[comptime] stride: usize,
    #[comptime] parts: usize,
) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for batch in 0..comptime!(parts.div_ceil(PARTS_AHEAD)) {
        let before = comptime!(batch * PARTS_AHEAD);
        let size = comptime!(if parts - before < PARTS_AHEAD { parts - before } else { PARTS_AHEAD });
        let mut taken = Array::<f32>::new(size);
        #[unroll]
        for part in 0..size {
            taken[part] = partial[at + (first + comptime!(before + part)) * stride];
        }
        #[unroll]
        for part in 0..size {
            sum += factors[first + comptime!(before + part)] * taken[part];
        }
    }
    sum
}
