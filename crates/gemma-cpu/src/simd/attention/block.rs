//! The inner loops of attention: scores of a span of positions, their softmax, the weighted values, and merging.
//!
//! A query's arithmetic is the same whatever queries are beside it: positions that it does not see get the weight 0,
//! and spans of which it sees nothing leave it alone.

use std::marker::PhantomData;
use std::ops::Range;

use gemma_hal::HostLayer;
use gemma_hal::block::BLOCK;

use super::{Block, SPAN, TILE};
use crate::simd::Kernel;
use crate::simd::format::{Decode, Decoded, Format};
use crate::simd::lanes::Simd;
use crate::simd::rows::exp;

/// Keys that are asked for before they are needed: one head's are half a kilobyte, too short for memory to foresee.
const AHEAD: usize = 8;

/// Bytes that come from memory at once.
const LINE: usize = 64;

/// Scores of a span, one query's.
type Scores = [Block; SPAN / BLOCK];

/// Softmax sums of some queries, not yet divided.
pub(super) struct State<'a> {
    /// `[queries, blocks]`.
    pub(super) sums: &'a mut [Block],
    /// The largest score of each query; −∞ before the first.
    largest: &'a mut [f32],
    /// The sum of each query's weights; 0 before the first.
    totals: &'a mut [f32],
}

impl<'a> State<'a> {
    /// Blocks that a state of `queries` queries takes.
    pub(super) const fn len(queries: usize, blocks: usize) -> usize {
        queries * blocks + 2 * queries.div_ceil(BLOCK)
    }

    /// A state in memory of [`State::len`] blocks, as it was left.
    pub(super) fn of(memory: &'a mut [Block], queries: usize) -> Self {
        let heads = queries.div_ceil(BLOCK);
        let (sums, rest) = memory.split_at_mut(memory.len() - 2 * heads);
        let (largest, totals) = rest.split_at_mut(heads);
        let (largest, totals) =
            (&mut largest.as_flattened_mut()[..queries], &mut totals.as_flattened_mut()[..queries]);
        Self { sums, largest, totals }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sums.fill([0.0; BLOCK]);
        self.largest.fill(f32::NEG_INFINITY);
        self.totals.fill(0.0);
    }

    fn blocks(&self) -> usize {
        self.sums.len() / self.totals.len()
    }
}

/// Which positions a tile's queries see of a split.
pub(super) struct Positions<'a> {
    pub(super) layer: &'a HostLayer,
    /// Position of the first row.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Queries of a row.
    pub(super) group: usize,
    pub(super) split: Range<usize>,
}

impl Positions<'_> {
    /// What the rows see of the split, together.
    fn all(&self) -> Range<usize> {
        let first = self.layer.first_visible(self.first);
        self.split.start.max(first)..self.split.end.min(self.first + self.rows)
    }

    /// What a query sees of `span`, counted from the start of the span of [`SPAN`] positions.
    #[inline(always)]
    fn of(&self, query: usize, span: &Range<usize>) -> Range<usize> {
        // Queries that only fill a tile of registers see what the last one does.
        let position = self.first + (query / self.group).min(self.rows - 1);
        let base = span.start / SPAN * SPAN;
        let first = span.start.max(self.layer.first_visible(position));
        let end = span.end.min(position + 1);
        first - base..end.max(first) - base
    }
}

/// One split of one key/value head.
pub(super) struct Attend<'a, F> {
    pub(super) keys: &'a [u8],
    pub(super) values: &'a [u8],
    pub(super) positions: Positions<'a>,
    /// First value of the head in a cached row.
    pub(super) offset: usize,
    pub(super) dim: usize,
    /// `[queries, blocks]`.
    pub(super) queries: &'a [Block],
    pub(super) state: State<'a>,
    /// Room for the scores, and for a span of keys and of values.
    pub(super) room: &'a mut [Block],
    pub(super) format: PhantomData<F>,
}

impl<'a, F> Attend<'a, F> {
    /// The same with keys and values in a format.
    pub(super) fn over<G>(self, keys: &'a [u8], values: &'a [u8]) -> Attend<'a, G> {
        let Self { positions, offset, dim, queries, state, room, .. } = self;
        Attend { keys, values, positions, offset, dim, queries, state, room, format: PhantomData }
    }
}

impl<F: Format> Kernel for Attend<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { keys, values, positions, offset, dim, queries, mut state, room, .. } = self;
        state.clear();
        let (count, blocks) = (state.totals.len(), state.blocks());
        let (scores, room) = room.split_at_mut(count * SPAN / BLOCK);
        let scores: &mut [Scores] = scores.as_chunks_mut().0;
        let layer = positions.layer;
        let row = |bytes: &'_ [u8], position: usize| -> Range<usize> {
            // Of formats with a scale a chunk, heads are whole chunks.
            let size = |values: usize| values * size_of::<F::Chunk>() / BLOCK;
            let start = size(layer.slot(position) + offset);
            debug_assert!(start + size(dim) <= bytes.len());
            start..start + size(dim)
        };
        let all = positions.all();
        let mut start = all.start;
        while start < all.end {
            let span = start..((start / SPAN + 1) * SPAN).min(all.end);
            // Keys and values that serve one tile are decoded in registers; for more, once for all of them.
            if count == TILE && dim.is_multiple_of(BLOCK) {
                let mut rows: [[&[F::Chunk]; SPAN + AHEAD]; 2] = [[&[]; SPAN + AHEAD]; 2];
                for (index, position) in (span.start..all.end.min(span.end + AHEAD)).enumerate() {
                    rows[0][index] = F::chunks(&keys[row(keys, position)]).0;
                    rows[1][index] = F::chunks(&values[row(values, position)]).0;
                }
                let rows = [&rows[0][..span.len() + AHEAD], &rows[1][..span.len()]];
                visit::<S, F>(simd, &positions, &span, queries, rows, scores, &mut state);
            } else {
                let (key_room, value_room) = room.split_at_mut(SPAN * blocks);
                let mut rows: [[&[Block]; SPAN]; 2] = [[&[]; SPAN]; 2];
                for (index, position) in span.clone().enumerate() {
                    let at = index * blocks..(index + 1) * blocks;
                    decode::<S, F>(simd, &keys[row(keys, position)], &mut key_room[at.clone()]);
                    decode::<S, F>(simd, &values[row(values, position)], &mut value_room[at]);
                }
                for (index, key) in key_room.chunks_exact(blocks).take(span.len()).enumerate() {
                    rows[0][index] = key;
                }
                for (index, value) in value_room.chunks_exact(blocks).take(span.len()).enumerate() {
                    rows[1][index] = value;
                }
                let rows = [&rows[0][..span.len()], &rows[1][..span.len()]];
                visit::<S, Decoded>(simd, &positions, &span, queries, rows, scores, &mut state);
            }
            start = span.end;
        }
    }
}

/// Decodes one head of one position.
#[inline(always)]
fn decode<S: Simd, F: Format>(simd: S, bytes: &[u8], out: &mut [Block]) {
    let (chunks, rest) = F::chunks(bytes);
    for (chunk, out) in chunks.iter().zip(&mut *out) {
        for v in 0..S::VECTORS {
            simd.store(out, v, F::decode(simd, chunk, v));
        }
    }
    if !rest.is_empty() {
        let chunk = F::padded(rest);
        for v in 0..S::VECTORS {
            simd.store(&mut out[chunks.len()], v, F::decode(simd, &chunk, v));
        }
    }
}

/// Adds a span to the state of every query.
#[inline(always)]
fn visit<S: Simd, D: Decode>(
    simd: S,
    positions: &Positions<'_>,
    span: &Range<usize>,
    queries: &[Block],
    [keys, values]: [&[&[D::Chunk]]; 2],
    scores: &mut [Scores],
    state: &mut State<'_>,
) {
    let blocks = state.blocks();
    let first = span.start % SPAN;
    score_all::<S, D>(simd, queries, blocks, keys, values, first, scores);
    for (query, scores) in scores.iter_mut().enumerate() {
        let seen = positions.of(query, span);
        let sums = &mut state.sums[query * blocks..(query + 1) * blocks];
        let (largest, total) = (&mut state.largest[query], &mut state.totals[query]);
        soften(simd, &seen, scores, sums, largest, total);
    }
    for (scores, sums) in scores.as_chunks::<TILE>().0.iter().zip(state.sums.chunks_exact_mut(TILE * blocks))
    {
        gather_all::<S, D>(simd, values, scores, first, sums, blocks);
    }
}

/// Scores of a span of keys for every query, from place `first` on. There are as many keys as values, and behind them
/// those that are [`AHEAD`], unless all were written a moment ago.
#[inline(always)]
fn score_all<S: Simd, D: Decode>(
    simd: S,
    queries: &[Block],
    blocks: usize,
    keys: &[&[D::Chunk]],
    values: &[&[D::Chunk]],
    first: usize,
    scores: &mut [Scores],
) {
    let mut key = 0;
    while key < values.len() {
        let left = values.len() - key;
        key += if S::TOKENS >= 6 && left >= 4 {
            score::<S, D, 4>(simd, queries, blocks, &keys[key..], &values[key..], first + key, scores)
        } else if S::TOKENS >= 3 && left >= 2 {
            score::<S, D, 2>(simd, queries, blocks, &keys[key..], &values[key..], first + key, scores)
        } else {
            score::<S, D, 1>(simd, queries, blocks, &keys[key..], &values[key..], first + key, scores)
        };
    }
}

/// Scores of the first `K` of some keys. Returns `K`.
#[inline(always)]
fn score<S: Simd, D: Decode, const K: usize>(
    simd: S,
    queries: &[Block],
    blocks: usize,
    keys: &[&[D::Chunk]],
    values: &[&[D::Chunk]],
    place: usize,
    scores: &mut [Scores],
) -> usize {
    let mut rows: [&[D::Chunk]; K] = [&[]; K];
    for k in 0..K {
        rows[k] = &keys[k][..blocks];
        if !D::IN_CACHE {
            // The values of these positions are next.
            ask_for(simd, values[k]);
            ask_for(simd, keys[k + AHEAD]);
        }
    }
    let tiles = queries.chunks_exact(TILE * blocks).zip(scores.as_chunks_mut::<TILE>().0);
    for (queries, scores) in tiles {
        let mut tile: [&[Block]; TILE] = [&[]; TILE];
        for t in 0..TILE {
            tile[t] = &queries[t * blocks..][..blocks];
        }
        let mut sums = [[simd.zero(); TILE]; K];
        for block in 0..blocks {
            for v in 0..S::VECTORS {
                let mut values = [simd.zero(); K];
                for k in 0..K {
                    values[k] = D::decode(simd, &rows[k][block], v);
                }
                for t in 0..TILE {
                    let query = simd.load(&tile[t][block], v);
                    for k in 0..K {
                        sums[k][t] = simd.fma(query, values[k], sums[k][t]);
                    }
                }
            }
        }
        for k in 0..K {
            let sums = simd.sums(sums[k]);
            for t in 0..TILE {
                scores[t].as_flattened_mut()[place + k] = sums[t];
            }
        }
    }
    K
}

/// Asks for every line of a row.
#[inline(always)]
fn ask_for<S: Simd, C>(simd: S, row: &[C]) {
    let (start, bytes) = (row.as_ptr().cast::<u8>(), size_of_val(row));
    for line in 0..bytes / LINE {
        simd.prefetch(start.wrapping_add(line * LINE));
    }
    // Rows of blocks begin and end anywhere in a line.
    if !size_of::<C>().is_multiple_of(LINE) && bytes > 0 {
        simd.prefetch(start.wrapping_add(bytes - 1));
    }
}

/// Turns a query's scores of a span into weights relative to the largest score so far, and what it has summed too.
#[inline(always)]
fn soften<S: Simd>(
    simd: S,
    seen: &Range<usize>,
    scores: &mut Scores,
    sums: &mut [Block],
    largest: &mut f32,
    total: &mut f32,
) {
    if seen.is_empty() {
        return scores.as_flattened_mut().fill(0.0);
    }
    scores.as_flattened_mut()[..seen.start].fill(f32::NEG_INFINITY);
    scores.as_flattened_mut()[seen.end..].fill(f32::NEG_INFINITY);
    let mut most = simd.splat(*largest);
    for block in scores.iter() {
        for v in 0..S::VECTORS {
            most = simd.max(simd.load(block, v), most);
        }
    }
    let top = spread(simd, most)[..S::LANES].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shift = simd.splat(top);
    for block in scores.iter_mut() {
        for v in 0..S::VECTORS {
            let weight = exp(simd, simd.sub(simd.load(block, v), shift));
            simd.store(block, v, weight);
        }
    }
    // The exponential of −∞ is not quite 0.
    scores.as_flattened_mut()[..seen.start].fill(0.0);
    scores.as_flattened_mut()[seen.end..].fill(0.0);
    let mut parts = [simd.zero(); TILE];
    for block in scores.iter() {
        for v in 0..S::VECTORS {
            parts[v % TILE] = simd.add(parts[v % TILE], simd.load(block, v));
        }
    }
    let [a, b, c, d] = simd.sums(parts);
    let sum = (a + b) + (c + d);
    if *largest < top {
        let shrink = factor(simd, *largest, top);
        scale(simd, sums, shrink);
        *total *= shrink;
        *largest = top;
    }
    *total += sum;
}

/// Adds the values of a span to the sums of a tile, weighted.
#[inline(always)]
fn gather_all<S: Simd, D: Decode>(
    simd: S,
    values: &[&[D::Chunk]],
    weights: &[Scores; TILE],
    first: usize,
    sums: &mut [Block],
    blocks: usize,
) {
    let vectors = blocks * S::VECTORS;
    let mut vector = 0;
    while vector < vectors {
        vector += if S::TOKENS >= 6 && vectors - vector >= 4 {
            gather::<S, D, 4>(simd, values, weights, first, sums, blocks, vector)
        } else {
            gather::<S, D, 2>(simd, values, weights, first, sums, blocks, vector)
        };
    }
}

/// [`gather_all`] for `N` vectors of each head, from `vector` on. Returns `N`.
#[inline(always)]
fn gather<S: Simd, D: Decode, const N: usize>(
    simd: S,
    values: &[&[D::Chunk]],
    weights: &[Scores; TILE],
    first: usize,
    sums: &mut [Block],
    blocks: usize,
    vector: usize,
) -> usize {
    let mut weight: [&[f32]; TILE] = [&[]; TILE];
    let mut tile = [[simd.zero(); N]; TILE];
    for t in 0..TILE {
        weight[t] = &weights[t].as_flattened()[first..][..values.len()];
        for n in 0..N {
            let (block, v) = ((vector + n) / S::VECTORS, (vector + n) % S::VECTORS);
            tile[t][n] = simd.load(&sums[t * blocks + block], v);
        }
    }
    for index in 0..values.len() {
        let row = &values[index][..blocks];
        let mut value = [simd.zero(); N];
        for n in 0..N {
            let (block, v) = ((vector + n) / S::VECTORS, (vector + n) % S::VECTORS);
            value[n] = D::decode(simd, &row[block], v);
        }
        for t in 0..TILE {
            let weight = simd.splat(weight[t][index]);
            for n in 0..N {
                tile[t][n] = simd.fma(weight, value[n], tile[t][n]);
            }
        }
    }
    for t in 0..TILE {
        for n in 0..N {
            let (block, v) = ((vector + n) / S::VECTORS, (vector + n) % S::VECTORS);
            simd.store(&mut sums[t * blocks + block], v, tile[t][n]);
        }
    }
    N
}

/// `e^(from − to)` for `from ≤ to`.
#[inline(always)]
fn factor<S: Simd>(simd: S, from: f32, to: f32) -> f32 {
    spread(simd, exp(simd, simd.splat(from - to)))[0]
}

/// The values of a vector, then zeros.
#[inline(always)]
fn spread<S: Simd>(simd: S, vector: S::F) -> Block {
    let mut block = [0.0; BLOCK];
    simd.store(&mut block, 0, vector);
    block
}

#[inline(always)]
fn scale<S: Simd>(simd: S, values: &mut [Block], factor: f32) {
    let factor = simd.splat(factor);
    for block in values {
        for v in 0..S::VECTORS {
            let scaled = simd.mul(simd.load(block, v), factor);
            simd.store(block, v, scaled);
        }
    }
}

/// Adds what a split found to what was found before.
pub(super) struct Merge<'a> {
    pub(super) total: State<'a>,
    pub(super) split: State<'a>,
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { total, split } = self;
        let blocks = total.blocks();
        for query in 0..total.totals.len() {
            // A NaN counts as something seen.
            if split.totals[query] == 0.0 {
                continue;
            }
            let largest = total.largest[query].max(split.largest[query]);
            let before = factor(simd, total.largest[query], largest);
            let now = factor(simd, split.largest[query], largest);
            total.largest[query] = largest;
            total.totals[query] = total.totals[query] * before + split.totals[query] * now;
            let (before, now) = (simd.splat(before), simd.splat(now));
            let at = query * blocks..(query + 1) * blocks;
            for (total, split) in total.sums[at.clone()].iter_mut().zip(&split.sums[at]) {
                for v in 0..S::VECTORS {
                    let old = simd.mul(simd.load(total, v), before);
                    simd.store(total, v, simd.fma(simd.load(split, v), now, old));
                }
            }
        }
    }
}

/// Divides the sums by the totals.
pub(super) struct Finish<'a, 'b> {
    pub(super) state: &'a mut State<'b>,
}

impl Kernel for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let blocks = self.state.blocks();
        for (sums, total) in self.state.sums.chunks_exact_mut(blocks).zip(&*self.state.totals) {
            scale(simd, sums, 1.0 / total);
        }
    }
}
