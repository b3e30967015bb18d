//! Causal attention of a run's queries over a ring of cached keys and values.
//!
//! Positions are summed in splits that begin at multiples of [`SPLIT`], each with a running maximum, and splits are
//! merged in order: a query's result depends neither on the threads that share its splits nor on its run. Memory does
//! not grow with the context. Nothing here masks by copying: what a query does not see has the weight 0.

mod block;

use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;
use gemma_hal::op::Heads;
use gemma_hal::{HostLayer, Slots};

use self::block::{Attend, Finish, Merge, Positions, State};
use super::{Isa, format};
use crate::pool::Pool;

/// Positions whose scores are held at once.
const SPAN: usize = 64;

/// Positions that are summed apart from others, and shared out where there are few queries. A multiple of [`SPAN`].
const SPLIT: usize = 4 * SPAN;

/// Queries that are computed together in registers.
const TILE: usize = 4;

/// Queries for which keys and values are loaded once; one row's, where it has more.
const QUERIES: usize = 16;

/// Splits that wait to be merged, over all heads.
const SLOTS: usize = 32;

/// What vectors go through at a time.
type Block = [f32; BLOCK];

/// Two cache lines: vectors that straddle lines take twice as long to load.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(128))]
struct Aligned(Block);

thread_local! {
    /// A task's queries, scores and sums, on each thread. Kept, so that a step of decode allocates nothing.
    static ROOM: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// The sizes that follow from the heads and the rows that are computed together.
#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: Heads,
    /// Rows of a tile.
    rows: usize,
    /// Query heads that share a key/value head.
    group: usize,
    /// Blocks of a head; the last is padded with zeros.
    blocks: usize,
}

impl Shape {
    /// For runs of at most `rows` rows.
    fn new(heads: Heads, rows: usize) -> Self {
        let group = heads.query / heads.key_value;
        Self {
            heads,
            rows: (QUERIES / group).clamp(1, rows.max(1)),
            group,
            blocks: heads.dim.div_ceil(BLOCK),
        }
    }

    /// Queries of a tile and one key/value head, in whole tiles of registers.
    fn queries(self) -> usize {
        (self.rows * self.group).next_multiple_of(TILE)
    }

    /// Blocks of a [`State`].
    fn state(self) -> usize {
        State::len(self.queries(), self.blocks)
    }

    /// Blocks of a thread's room: queries, two states, scores, keys and values of a span.
    fn room(self) -> usize {
        let queries = self.queries();
        queries * self.blocks + 2 * self.state() + queries * SPAN / BLOCK + 2 * SPAN * self.blocks
    }
}

/// Values that [`attention`] needs as scratch memory for runs of at most `rows` rows.
pub fn attention_scratch(heads: Heads, rows: usize) -> usize {
    Shape::new(heads, rows).state() * (heads.key_value + SLOTS) * BLOCK
}

/// Makes the scratch memory of the current thread for runs of at most `rows` rows, so that no run does it later.
pub(crate) fn reserve_room(heads: Heads, rows: usize) {
    let blocks = Shape::new(heads, rows).room();
    ROOM.with_borrow_mut(|room| room.resize(room.len().max(blocks), Aligned([0.0; BLOCK])));
}

/// `out[t] = softmax(query[t] · keysᵀ) · values` for queries `[rows, heads.query · dim]`, the first at `position`,
/// over what each sees of `layer`. `scratch` holds [`attention_scratch`] values or more; what they are is of no matter.
///
/// # Panics
/// When the slices are not of `heads`' sizes, or heads of a cache in blocks do not end on one.
#[allow(clippy::too_many_arguments, reason = "each is one thing that a kernel works with")]
pub fn attention(
    isa: Isa,
    pool: &Pool,
    heads: Heads,
    layer: &HostLayer,
    query: &[f32],
    position: usize,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    assert_eq!(query.len(), out.len(), "an output for each query");
    assert_eq!(layer.width, heads.key_value_width(), "the cache's width");
    let blocks = matches!(layer.keys, Slots::Q8_0(_));
    assert!(!blocks || heads.dim.is_multiple_of(BLOCK), "a head ends on a block of the cache");
    let rows = query.len() / heads.query_width();
    let run = Run { isa, shape: Shape::new(heads, rows), layer, query, position, rows };
    let size = run.shape.rows * heads.query_width();
    // With a tile for each thread all splits of a tile stay on one; else threads share them. The sums are the same.
    if pool.threads() == 1 || rows.div_ceil(run.shape.rows) >= pool.threads() {
        pool.for_chunks_mut(out, size, |tile, out| {
            for head in 0..heads.key_value {
                run.whole(tile, head, out);
            }
        });
    } else {
        let scratch = scratch.as_chunks_mut().0;
        for (tile, out) in out.chunks_mut(size).enumerate() {
            run.shared(pool, tile, out, scratch);
        }
    }
}

/// One call of [`attention`].
struct Run<'a> {
    isa: Isa,
    shape: Shape,
    layer: &'a HostLayer,
    query: &'a [f32],
    position: usize,
    rows: usize,
}

impl Run<'_> {
    /// The tile's rows.
    fn tile(&self, tile: usize) -> Range<usize> {
        let first = tile * self.shape.rows;
        first..self.rows.min(first + self.shape.rows)
    }

    /// The splits that hold all that any row of the tile sees.
    fn splits(&self, tile: usize) -> Range<usize> {
        let rows = self.tile(tile);
        let first = self.layer.first_visible(self.position + rows.start);
        first / SPLIT..(self.position + rows.end).div_ceil(SPLIT)
    }

    /// All that the tile sees with one key/value head.
    fn whole(&self, tile: usize, head: usize, out: &mut [f32]) {
        self.with_room(|room| {
            let (total, room) = room.split_at_mut(self.shape.state());
            State::of(total, self.shape.queries()).clear();
            for split in self.splits(tile) {
                let (state, room) = room.split_at_mut(self.shape.state());
                self.split(tile, head, split, state, room);
                self.merge(total, state);
            }
            self.finish(tile, head, total, out);
        });
    }

    /// All that the tile sees, its splits and heads shared out among the threads.
    fn shared(&self, pool: &Pool, tile: usize, out: &mut [f32], scratch: &mut [Block]) {
        let (heads, size) = (self.shape.heads.key_value, self.shape.state());
        let (totals, slots) = scratch[..(heads + SLOTS) * size].split_at_mut(heads * size);
        for total in totals.chunks_exact_mut(size) {
            State::of(total, self.shape.queries()).clear();
        }
        let splits = self.splits(tile);
        let at_once = (SLOTS / heads).max(1);
        for first in splits.clone().step_by(at_once) {
            let count = heads * at_once.min(splits.end - first);
            // More heads than slots go in several rounds.
            for round in (0..count).step_by(SLOTS) {
                let slots = &mut slots[..SLOTS.min(count - round) * size];
                pool.for_chunks_mut(slots, size, |slot, state| {
                    let (split, head) = (first + (round + slot) / heads, (round + slot) % heads);
                    self.with_room(|room| self.split(tile, head, split, state, room));
                });
                for (slot, state) in slots.chunks_exact_mut(size).enumerate() {
                    let head = (round + slot) % heads;
                    self.merge(&mut totals[head * size..(head + 1) * size], state);
                }
            }
        }
        for (head, total) in totals.chunks_exact_mut(size).enumerate() {
            self.finish(tile, head, total, out);
        }
    }

    fn with_room(&self, work: impl FnOnce(&mut [Block])) {
        ROOM.with_borrow_mut(|room| {
            let blocks = self.shape.room();
            room.resize(room.len().max(blocks), Aligned([0.0; BLOCK]));
            work(bytemuck::cast_slice_mut(&mut room[..blocks]));
        });
    }

    /// One split of what the tile sees with one key/value head.
    fn split(&self, tile: usize, head: usize, split: usize, state: &mut [Block], room: &mut [Block]) {
        let (shape, rows) = (self.shape, self.tile(tile));
        let dim = shape.heads.dim;
        let (queries, room) = room.split_at_mut(shape.queries() * shape.blocks);
        queries.fill([0.0; BLOCK]);
        for (r, row) in rows.clone().enumerate() {
            let from = &self.query[row * shape.heads.query_width() + head * shape.group * dim..];
            for (g, from) in from[..shape.group * dim].chunks_exact(dim).enumerate() {
                let to = &mut queries[(r * shape.group + g) * shape.blocks..][..shape.blocks];
                to.as_flattened_mut()[..dim].copy_from_slice(from);
            }
        }
        let attend = Attend::<()> {
            keys: &[],
            values: &[],
            positions: Positions {
                layer: self.layer,
                first: self.position + rows.start,
                rows: rows.len(),
                group: shape.group,
                split: split * SPLIT..(split + 1) * SPLIT,
            },
            offset: head * dim,
            dim,
            queries,
            state: State::of(state, shape.queries()),
            room,
            format: std::marker::PhantomData,
        };
        match (&self.layer.keys, &self.layer.values) {
            (Slots::F16(keys), Slots::F16(values)) => {
                let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
                self.isa.run(attend.over::<format::F16>(keys, values));
            }
            (Slots::F32(keys), Slots::F32(values)) => {
                let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
                self.isa.run(attend.over::<format::F32>(keys, values));
            }
            (Slots::Q8_0(keys), Slots::Q8_0(values)) => {
                let (keys, values) = (bytemuck::cast_slice(keys), bytemuck::cast_slice(values));
                self.isa.run(attend.over::<format::Q8_0>(keys, values));
            }
            _ => unreachable!("keys and values of a cache have one type"),
        }
    }

    /// Adds a split to what came before it.
    fn merge(&self, total: &mut [Block], split: &mut [Block]) {
        let queries = self.shape.queries();
        self.isa.run(Merge { total: State::of(total, queries), split: State::of(split, queries) });
    }

    /// Writes the results of one key/value head to the tile's rows.
    fn finish(&self, tile: usize, head: usize, total: &mut [Block], out: &mut [f32]) {
        let (shape, dim) = (self.shape, self.shape.heads.dim);
        let mut state = State::of(total, shape.queries());
        self.isa.run(Finish { state: &mut state });
        for r in 0..self.tile(tile).len() {
            let out = &mut out[r * shape.heads.query_width() + head * shape.group * dim..];
            for (g, out) in out[..shape.group * dim].chunks_exact_mut(dim).enumerate() {
                let from = &state.sums[(r * shape.group + g) * shape.blocks..][..shape.blocks];
                out.copy_from_slice(&from.as_flattened()[..dim]);
            }
        }
    }
}
