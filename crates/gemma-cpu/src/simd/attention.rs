//! Causal attention of a run's queries over a ring of cached keys and values.
//!
//! Positions are visited in blocks that begin at multiples of [`SPAN`], with a running maximum, so that memory does
//! not grow with the context and a query's result does not depend on the run that it is part of.

use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;
use gemma_hal::op::Heads;
use gemma_hal::{HostLayer, Slots};

use super::format::{self, Format};
use super::lanes::Simd;
use super::{Isa, Kernel};
use crate::pool::Pool;

/// Positions whose scores are held at once.
const SPAN: usize = 64;

/// Query heads that share the reading of a key.
const TILE: usize = 4;

thread_local! {
    /// A task's queries, scores and sums, on each thread. Kept, so that a step of decode allocates nothing.
    static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out[t] = softmax(query[t] · keysᵀ) · values` for queries `[rows, heads.query · dim]`, the first at `position`,
/// over what each sees of `layer`.
///
/// # Panics
/// When the slices are not of `heads`' sizes.
pub fn attention(
    isa: Isa,
    pool: &Pool,
    heads: Heads,
    layer: &HostLayer,
    query: &[f32],
    position: usize,
    out: &mut [f32],
) {
    assert_eq!(query.len(), out.len(), "an output for each query");
    assert_eq!(layer.width, heads.key_value_width(), "the cache's width");
    let group = heads.query / heads.key_value * heads.dim;
    pool.for_chunks_mut(out, group, |index, out| {
        let (row, head) = (index / heads.key_value, index % heads.key_value);
        let query = &query[index * group..(index + 1) * group];
        let last = position + row;
        let seen = layer.first_visible(last)..last + 1;
        let task = Task { layer, query, out, offset: head * heads.dim, dim: heads.dim, seen };
        ROOM.with_borrow_mut(|room| match (&layer.keys, &layer.values) {
            (Slots::F16(keys), Slots::F16(values)) => {
                let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
                task.run::<format::F16>(isa, keys, values, room);
            }
            (Slots::F32(keys), Slots::F32(values)) => {
                let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
                task.run::<format::F32>(isa, keys, values, room);
            }
            _ => unreachable!("keys and values of a cache have one type"),
        });
    });
}

/// Makes the scratch memory of the current thread for heads of `dim` values, so that no run does it later.
pub(crate) fn reserve_scratch(dim: usize) {
    ROOM.with_borrow_mut(|room| room.resize(room.len().max(TILE * dim.next_multiple_of(BLOCK) * 2), 0.0));
}

/// The queries of one row that share a key/value head.
struct Task<'a> {
    layer: &'a HostLayer,
    query: &'a [f32],
    out: &'a mut [f32],
    /// First value of the head in a cached row.
    offset: usize,
    dim: usize,
    seen: Range<usize>,
}

impl Task<'_> {
    fn run<F: Format>(self, isa: Isa, keys: &[u8], values: &[u8], room: &mut Vec<f32>) {
        // Heads whose size is no multiple of a block are padded with zeros, and so is a tile without enough heads.
        let width = self.dim.next_multiple_of(BLOCK);
        room.resize(TILE * width * 2, 0.0);
        let (queries, sums) = room.split_at_mut(TILE * width);
        for (query, out) in self.query.chunks(TILE * self.dim).zip(self.out.chunks_mut(TILE * self.dim)) {
            queries.fill(0.0);
            sums.fill(0.0);
            for (to, from) in queries.chunks_exact_mut(width).zip(query.chunks_exact(self.dim)) {
                to[..self.dim].copy_from_slice(from);
            }
            let totals = isa.run(Attend::<F> {
                keys: Rows { bytes: keys, layer: self.layer, offset: self.offset, dim: self.dim },
                values: Rows { bytes: values, layer: self.layer, offset: self.offset, dim: self.dim },
                queries: queries.as_chunks().0,
                sums: sums.as_chunks_mut().0,
                blocks: width / BLOCK,
                seen: self.seen.clone(),
                format: std::marker::PhantomData,
            });
            for ((out, sums), total) in
                out.chunks_exact_mut(self.dim).zip(sums.chunks_exact(width)).zip(totals)
            {
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum / total);
            }
        }
    }
}

/// One head of cached keys, or of values.
#[derive(Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u8],
    layer: &'a HostLayer,
    offset: usize,
    dim: usize,
}

impl<'a> Rows<'a> {
    /// The whole chunks of a position's head, and the bytes behind them.
    #[inline(always)]
    fn chunks<F: Format>(&self, position: usize) -> (&'a [F::Chunk], &'a [u8]) {
        let value = size_of::<F::Chunk>() / BLOCK;
        let start = (self.layer.slot(position) + self.offset) * value;
        F::chunks(&self.bytes[start..start + self.dim * value])
    }

    /// Block `index` of a position's head.
    #[inline(always)]
    fn block<F: Format>(&self, position: usize, index: usize) -> F::Chunk {
        let (chunks, rest) = self.chunks::<F>(position);
        if index < chunks.len() { chunks[index] } else { F::padded(rest) }
    }
}

struct Attend<'a, F> {
    keys: Rows<'a>,
    values: Rows<'a>,
    /// `[TILE, blocks]`.
    queries: &'a [[f32; BLOCK]],
    /// `[TILE, blocks]`, zeros.
    sums: &'a mut [[f32; BLOCK]],
    blocks: usize,
    seen: Range<usize>,
    format: std::marker::PhantomData<F>,
}

impl<F: Format> Kernel for Attend<'_, F> {
    type Output = [f32; TILE];

    /// Returns what each query's sums are to be divided by.
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> [f32; TILE] {
        let (mut largest, mut totals) = ([f32::NEG_INFINITY; TILE], [0.0; TILE]);
        let mut scores = [[0.0; SPAN]; TILE];
        let mut start = self.seen.start;
        while start < self.seen.end {
            let end = ((start / SPAN + 1) * SPAN).min(self.seen.end);
            self.score(simd, start..end, &mut scores);
            for t in 0..TILE {
                let scores = &mut scores[t][..end - start];
                let top = scores.iter().fold(largest[t], |top, score| top.max(*score));
                let shrink = (largest[t] - top).exp();
                scores.iter_mut().for_each(|score| *score = (*score - top).exp());
                totals[t] = totals[t] * shrink + scores.iter().sum::<f32>();
                largest[t] = top;
                if shrink < 1.0 {
                    let sums = &mut self.sums[t * self.blocks..(t + 1) * self.blocks];
                    sums.as_flattened_mut().iter_mut().for_each(|sum| *sum *= shrink);
                }
            }
            self.gather(simd, start..end, &scores);
            start = end;
        }
        totals
    }
}

impl<F: Format> Attend<'_, F> {
    /// Scores of the positions for every query.
    #[inline(always)]
    fn score<S: Simd>(&self, simd: S, positions: Range<usize>, scores: &mut [[f32; SPAN]; TILE]) {
        for (index, position) in positions.enumerate() {
            let mut sums = [simd.zero(); TILE];
            for block in 0..self.blocks {
                let key = self.keys.block::<F>(position, block);
                for v in 0..S::VECTORS {
                    let key = F::decode(simd, &key, v);
                    for t in 0..TILE {
                        let query = &self.queries[t * self.blocks + block];
                        sums[t] = simd.fma(simd.load(query, v), key, sums[t]);
                    }
                }
            }
            for (scores, sum) in scores.iter_mut().zip(simd.sums(sums)) {
                scores[index] = sum;
            }
        }
    }

    /// Adds the positions' values, weighted.
    #[inline(always)]
    fn gather<S: Simd>(&mut self, simd: S, positions: Range<usize>, weights: &[[f32; SPAN]; TILE]) {
        for block in 0..self.blocks {
            for v in 0..S::VECTORS {
                let mut sums = [simd.zero(); TILE];
                for t in 0..TILE {
                    sums[t] = simd.load(&self.sums[t * self.blocks + block], v);
                }
                for (index, position) in positions.clone().enumerate() {
                    let value = F::decode(simd, &self.values.block::<F>(position, block), v);
                    for t in 0..TILE {
                        sums[t] = simd.fma(simd.splat(weights[t][index]), value, sums[t]);
                    }
                }
                for t in 0..TILE {
                    simd.store(&mut self.sums[t * self.blocks + block], v, sums[t]);
                }
            }
        }
    }
}
