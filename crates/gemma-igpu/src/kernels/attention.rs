//! Causal softmax attention over a layer of the cache.
//!
//! A cube serves all query heads of one key head, for one row and one part of the keys it sees. Eight units share a key;
//! scores of a tile of keys go to shared memory, sums are rescaled when a tile has a larger score. Parts are merged by
//! [`merge`].

use cubecl::prelude::*;

use super::attention_step::merge_heads;
use super::format::{Format, half_at, half_bits};

/// Units of a cube.
pub(crate) const UNITS: u32 = 256;

/// Units that share a key. No subgroup is smaller.
const LANES: usize = 8;

/// Keys whose scores are in shared memory at a time; a multiple of [`LANES`].
const TILE: usize = 64;

/// Keys whose values are asked for at a time; [`TILE`] is a multiple of it.
const AHEAD: usize = 8;

/// Words of a key that a unit asks for at a time.
const WORDS_AHEAD: usize = 16;

/// Less than every score.
pub(super) const LOWEST: f32 = -3.0e38;

/// Values of a part of a head besides its `dim` sums: the largest score, the sum of weights.
pub(crate) const PART_EXTRA: usize = 2;

/// Attention of the query heads of key head `CUBE_POS_X` of row `CUBE_POS_Y`, which stands at position
/// `header[0] + first + CUBE_POS_Y`, over part `CUBE_POS_Z` of the keys. With one part the heads are written as they are,
/// with several `[row, head, part]` sums, their largest score and their weights.
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
    #[comptime] parts: usize,
    #[comptime] format: Format,
) {
    let head = CUBE_POS_Y as usize * heads + CUBE_POS_X as usize * shared;
    let position = header[0] as usize + first + CUBE_POS_Y as usize;
    let (from, to) = keys_of_part(position, window, parts);
    let mut queries = Shared::<[f32]>::new_slice(comptime!(shared * dim));
    for i in range_stepped(UNIT_POS as usize, comptime!(shared * dim), UNITS as usize) {
        queries[i] = query[head * dim + i];
    }
    attend(
        &queries,
        keys,
        key_scales,
        values,
        value_scales,
        output,
        from,
        to,
        capacity,
        heads,
        shared,
        dim,
        parts,
        format,
    );
}

/// The keys of part `CUBE_POS_Z` of those that the row at `position` sees: from the first to behind the last.
#[cube]
pub(super) fn keys_of_part(position: usize, window: usize, #[comptime] parts: usize) -> (usize, usize) {
    let begin = select(position >= window, position + 1 - window, 0usize.runtime());
    let each = (position + 1 - begin).div_ceil(parts);
    let from = begin + CUBE_POS_Z as usize * each;
    (from, min(from + each, position + 1))
}

/// The heads of the cube over the keys `from .. to`, written as a part of them or whole. Queries may just have been staged.
#[cube]
pub(super) fn attend(
    queries: &[f32],
    keys: &[u32],
    key_scales: &[u32],
    values: &[u32],
    value_scales: &[u32],
    output: &mut [f32],
    from: usize,
    to: usize,
    capacity: usize,
    #[comptime] heads: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] parts: usize,
    #[comptime] format: Format,
) {
    let width = comptime!(heads / shared * dim);
    let mut scores = Shared::<[f32]>::new_slice(comptime!(shared * TILE));
    // For each head the largest score so far and the sum of the tile's weights.
    let mut state = Shared::<[f32]>::new_slice(comptime!(2 * shared));
    if UNIT_POS < comptime!(shared as u32) {
        state[UNIT_POS as usize] = f32::new(LOWEST);
    }
    sync_cube();

    let slices = comptime!(dim.div_ceil(UNITS as usize));
    let mut sums = Array::<f32>::new(comptime!(shared * slices));
    let mut totals = Array::<f32>::new(shared);
    #[unroll]
    for i in 0..comptime!(shared * slices) {
        sums[i] = 0.0f32;
    }
    #[unroll]
    for h in 0..shared {
        totals[h] = 0.0f32;
    }
    for tile in range_stepped(from, to, TILE) {
        score(keys, key_scales, queries, &mut scores, tile, to, capacity, width, shared, dim, format);
        sync_cube();
        rescale(&mut scores, &mut state, &mut sums, &mut totals, shared, slices);
        let count = min(TILE.runtime(), to - tile);
        gather(values, value_scales, &scores, &mut sums, tile, count, capacity, width, shared, dim, format);
        // The next tile's scores take the same place.
        sync_cube();
    }
    let head = CUBE_POS_Y as usize * heads + CUBE_POS_X as usize * shared;
    write(sums, totals, &state, output, head, shared, dim, parts);
}

/// Scores of a tile of keys with all query heads: eight units a key, which read it once. Past the last key it is read again.
#[cube]
fn score(
    keys: &[u32],
    key_scales: &[u32],
    queries: &[f32],
    scores: &mut [f32],
    tile: usize,
    to: usize,
    capacity: usize,
    width: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] format: Format,
) {
    let (group, lane) = (UNIT_POS as usize / LANES, UNIT_POS as usize % LANES);
    let offset = CUBE_POS_X as usize * dim;
    let groups = comptime!(UNITS as usize / LANES);
    // Not unrolled: registers for the words of all passes would leave room for few subgroups.
    for pass in 0..comptime!(TILE / groups) {
        let index = pass * groups + group;
        let mut sums = Array::<f32>::new(shared);
        #[unroll]
        for h in 0..shared {
            sums[h] = 0.0f32;
        }
        if tile + pass * groups < to {
            let start = slot(tile % capacity, min(index, to - 1 - tile), capacity) * width + offset;
            dot_lane(keys, key_scales, start, queries, lane, &mut sums, shared, dim, format);
        }
        #[unroll]
        for h in 0..shared {
            let mut score = sums[h];
            score += plane_shuffle_xor(score, 4);
            score += plane_shuffle_xor(score, 2);
            score += plane_shuffle_xor(score, 1);
            if lane == 0 {
                scores[comptime!(h * TILE) + index] = select(tile + index < to, score, f32::new(LOWEST));
            }
        }
    }
}

/// The slot of the key `index` after the one in slot `first`. As many keys as there are slots follow each other at most.
#[cube]
fn slot(first: usize, index: usize, capacity: usize) -> usize {
    let at = first + index;
    select(at < capacity, at, at - capacity)
}

/// Turns a tile's scores into weights and brings what was summed before to the same largest score.
#[cube]
fn rescale(
    scores: &mut [f32],
    state: &mut [f32],
    sums: &mut Array<f32>,
    totals: &mut Array<f32>,
    #[comptime] shared: usize,
    #[comptime] slices: usize,
) {
    let mut before = Array::<f32>::new(shared);
    #[unroll]
    for h in 0..shared {
        before[h] = state[h];
    }
    sync_cube();
    let group = UNIT_POS as usize / LANES;
    if group < shared {
        weigh(scores, state, group, UNIT_POS as usize % LANES, shared);
    }
    sync_cube();
    #[unroll]
    for h in 0..shared {
        let by = (before[h] - state[h]).exp();
        totals[h] = totals[h] * by + state[comptime!(shared + h)];
        #[unroll]
        for slice in 0..slices {
            sums[comptime!(h * slices + slice)] *= by;
        }
    }
}

/// Adds the values of a tile by their weights to the sums of all heads, a unit a value of the head. Several keys are asked for
/// before the first is waited for; past the last key weights are zero.
#[cube]
fn gather(
    values: &[u32],
    value_scales: &[u32],
    weights: &[f32],
    sums: &mut Array<f32>,
    tile: usize,
    count: usize,
    capacity: usize,
    width: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] format: Format,
) {
    let offset = CUBE_POS_X as usize * dim;
    let first = tile % capacity;
    let slices = comptime!(dim.div_ceil(UNITS as usize));
    #[unroll]
    for slice in 0..slices {
        let i = comptime!(slice * UNITS as usize) + UNIT_POS as usize;
        if i < dim {
            for begin in range_stepped(0usize, count, AHEAD) {
                let mut taken = Array::<f32>::new(AHEAD);
                #[unroll]
                for k in 0..AHEAD {
                    let at = slot(first, min(begin + k, count - 1), capacity) * width + offset + i;
                    taken[k] = value_at(values, value_scales, at, format);
                }
                #[unroll]
                for k in 0..AHEAD {
                    #[unroll]
                    for h in 0..shared {
                        sums[comptime!(h * slices + slice)] +=
                            weights[comptime!(h * TILE + k) + begin] * taken[k];
                    }
                }
            }
        }
    }
}

/// Writes heads, or what a part of the keys adds to them.
#[cube]
fn write(
    sums: Array<f32>,
    totals: Array<f32>,
    state: &[f32],
    output: &mut [f32],
    head: usize,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] parts: usize,
) {
    let slices = comptime!(dim.div_ceil(UNITS as usize));
    #[unroll]
    for h in 0..shared {
        let whole = comptime!(parts == 1);
        let at = if comptime!(whole) {
            (head + h) * dim
        } else {
            ((head + h) * parts + CUBE_POS_Z as usize) * comptime!(dim + PART_EXTRA)
        };
        #[unroll]
        for slice in 0..slices {
            let i = comptime!(slice * UNITS as usize) + UNIT_POS as usize;
            if i < dim {
                let sum = sums[comptime!(h * slices + slice)];
                output[at + i] = if comptime!(whole) { sum / totals[h] } else { sum };
            }
        }
        if !whole && UNIT_POS == 0 {
            output[at + dim] = state[h];
            output[at + dim + 1] = totals[h];
        }
    }
}

/// Turns the scores of head `h` into weights, by the eight units of a group; notes the largest score and the weights' sum.
#[cube]
fn weigh(scores: &mut [f32], state: &mut [f32], h: usize, lane: usize, #[comptime] shared: usize) {
    let mut largest = state[h];
    #[unroll]
    for i in 0..comptime!(TILE / LANES) {
        largest = max(largest, scores[h * TILE + comptime!(i * LANES) + lane]);
    }
    largest = max(largest, plane_shuffle_xor(largest, 4));
    largest = max(largest, plane_shuffle_xor(largest, 2));
    largest = max(largest, plane_shuffle_xor(largest, 1));
    let mut total = 0.0f32;
    #[unroll]
    for i in 0..comptime!(TILE / LANES) {
        let at = h * TILE + comptime!(i * LANES) + lane;
        let weight = (scores[at] - largest).exp();
        scores[at] = weight;
        total += weight;
    }
    total += plane_shuffle_xor(total, 4);
    total += plane_shuffle_xor(total, 2);
    total += plane_shuffle_xor(total, 1);
    if lane == 0 {
        state[h] = largest;
        state[shared + h] = total;
    }
}

/// Merges the parts of head `CUBE_POS_X` of row `CUBE_POS_Y`.
#[cube(launch_unchecked)]
pub(crate) fn merge(
    partial: &[f32],
    output: &mut [f32],
    #[comptime] heads: usize,
    #[comptime] dim: usize,
    #[comptime] parts: usize,
) {
    merge_heads(partial, output, CUBE_POS_Y as usize * heads + CUBE_POS_X as usize, 1usize, dim, parts);
}

/// Adds one unit's share of the products of the cached values from `start` on with each of the queries. Words are asked for
/// before the first is waited for.
#[cube]
fn dot_lane(
    words: &[u32],
    scales: &[u32],
    start: usize,
    queries: &[f32],
    lane: usize,
    sums: &mut Array<f32>,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] format: Format,
) {
    let each = comptime!(values_a_word(format));
    let all = comptime!(dim / each);
    let rounds = comptime!(all.div_ceil(LANES));
    #[unroll]
    for batch in 0..comptime!(rounds.div_ceil(WORDS_AHEAD)) {
        let before = comptime!(batch * WORDS_AHEAD);
        let size = comptime!(if rounds - before < WORDS_AHEAD { rounds - before } else { WORDS_AHEAD });
        let mut taken = Array::<u32>::new(size);
        #[unroll]
        for round in 0..size {
            let word = comptime!((before + round) * LANES) + lane;
            taken[round] = words[start / each + min(word, comptime!(all - 1))];
        }
        #[unroll]
        for round in 0..size {
            let word = comptime!((before + round) * LANES) + lane;
            if comptime!(all % LANES == 0) || word < all {
                meet(taken[round], scales, start, word, queries, sums, shared, dim, format);
            }
        }
    }
}

/// Adds the products of the values of one word, number `word` of the cached values from `start` on, with each query.
#[cube]
fn meet(
    stored: u32,
    scales: &[u32],
    start: usize,
    word: usize,
    queries: &[f32],
    sums: &mut Array<f32>,
    #[comptime] shared: usize,
    #[comptime] dim: usize,
    #[comptime] format: Format,
) {
    let each = comptime!(values_a_word(format));
    let by = match format {
        Format::F32 | Format::F16 => 1.0f32.runtime(),
        _ => half_bits(scales[start / 32 + word / 8]),
    };
    #[unroll]
    for i in 0..each {
        let value = match format {
            Format::F32 => f32::reinterpret(stored),
            Format::F16 => half_bits((stored >> comptime!(16 * i as u32)) & 0xffff),
            _ => by * f32::cast_from(i32::cast_from(stored << comptime!(24 - 8 * i as u32)) >> 24),
        };
        #[unroll]
        for h in 0..shared {
            sums[h] += value * queries[comptime!(h * dim + i) + each * word];
        }
    }
}

/// Values of a word of the cache.
const fn values_a_word(format: Format) -> usize {
    match format {
        Format::F32 => 1,
        Format::F16 => 2,
        _ => 4,
    }
}

/// One cached value.
#[cube]
fn value_at(words: &[u32], scales: &[u32], index: usize, #[comptime] format: Format) -> f32 {
    match format {
        Format::F32 => f32::reinterpret(words[index]),
        Format::F16 => half_at(words, index),
        _ => {
            let byte = (words[index / 4] >> ((index as u32 % 4) * 8)) & 255;
            half_bits(scales[index / 32]) * f32::cast_from(i32::cast_from(byte << 24) >> 24)
        }
    }
}
