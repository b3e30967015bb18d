//! [`Turned`]: a copy of a weight in which what belongs to a column lies together, with the very same values.
//!
//! A product with an input that is zero nearly everywhere reads a few of its rows instead of the whole weight. Block
//! formats keep their quants, scales and minima; nothing is rounded again. Made once, in parallel.

use std::ops::Range;

use gemma_hal::block::BLOCK;
use gemma_hal::{DType, Weight};

use super::column::{Blocks, Column, with_column};
use crate::pool::Pool;

/// Columns whose values are stored together, and whose blocks share scales: a block of 32 values.
pub(super) const GROUP: usize = BLOCK;

/// Groups that a task makes: a cache line of the weight holds several blocks of a row, and blocks of 256 values have
/// factors for as many.
pub(super) const STRIP: usize = 8;

/// Bytes of a cache line.
const LINE: usize = 64;

/// For each strip of 8 groups the factors of its scales, where the format has some; then for each group a row of values
/// for each of its 32 columns, and the scales.
///
/// Rows are padded with zeros to whole chunks of 32; see `Column` for how a chunk is stored.
#[derive(Debug)]
pub struct Turned {
    dtype: DType,
    rows: usize,
    columns: usize,
    /// With room to start on a cache line.
    bytes: Vec<u8>,
    start: usize,
}

impl Turned {
    /// Bytes that the copy of a weight takes.
    pub fn size(weight: &Weight) -> u64 {
        (Layout::of_type(weight.dtype(), weight.rows()).total(weight.columns()) + LINE) as u64
    }

    /// Copies a weight.
    pub fn new(pool: &Pool, weight: &Weight) -> Self {
        let layout = Layout::of_type(weight.dtype(), weight.rows());
        let length = layout.total(weight.columns());
        let mut bytes = vec![0; length + LINE];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE);
        if length > 0 {
            let target = &mut bytes[start..start + length];
            pool.for_chunks_mut(target, layout.strip(), |strip, target| {
                let patch = Patch { weight, layout, strip };
                with_column!(weight.dtype(), C => C::turn(&patch, target));
            });
        }
        Self { dtype: weight.dtype(), rows: weight.rows(), columns: weight.columns(), bytes, start }
    }

    /// Rows of the weight: results of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the weight: inputs of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes that a product with `columns` inputs that are not zero reads at most.
    pub fn most_bytes(&self, columns: usize) -> u64 {
        let layout = Layout::of_type(self.dtype, self.rows);
        let groups = columns.min(self.columns.div_ceil(GROUP));
        let strips = columns.min(self.columns.div_ceil(GROUP * STRIP));
        (columns * layout.column + groups * layout.scales + strips * layout.factors) as u64
    }

    /// Some chunks of rows of a column.
    #[inline(always)]
    pub(super) fn values<C: Column>(&self, column: usize, chunks: &Range<usize>) -> &[C::Values] {
        let layout = Layout::of::<C>(self.rows);
        let start = self.start + layout.group_start(column / GROUP) + column % GROUP * layout.column;
        let values: &[C::Values] = bytemuck::cast_slice(&self.bytes[start..][..layout.column]);
        &values[chunks.clone()]
    }

    /// What scales some chunks of rows of a group of columns.
    #[inline(always)]
    pub(super) fn scaling<C: Column>(&self, group: usize, chunks: &Range<usize>) -> Scaling<'_> {
        let layout = Layout::of::<C>(self.rows);
        let scales = self.start + layout.group_start(group) + GROUP * layout.column;
        let factors = self.start + group / STRIP * layout.strip();
        let scales = &self.bytes[scales..][..layout.scales];
        let factors = &self.bytes[factors..][..layout.factors];
        Scaling {
            scales: &scales[chunks.start * C::SCALE_BYTES..chunks.end * C::SCALE_BYTES],
            factors: &factors[chunks.start * C::FACTOR_BYTES..chunks.end * C::FACTOR_BYTES],
        }
    }
}

/// What scales the values of a group of columns: nothing in plain types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling<'a> {
    /// `SCALE_BYTES` a chunk.
    pub(super) scales: &'a [u8],
    /// `FACTOR_BYTES` a chunk.
    pub(super) factors: &'a [u8],
}

impl Scaling<'_> {
    /// That of one chunk of rows.
    #[inline(always)]
    pub(super) fn chunk<C: Column>(self, chunk: usize) -> Self {
        Self {
            scales: &self.scales[chunk * C::SCALE_BYTES..][..C::SCALE_BYTES],
            factors: &self.factors[chunk * C::FACTOR_BYTES..][..C::FACTOR_BYTES],
        }
    }
}

/// Sizes in bytes.
#[derive(Clone, Copy)]
struct Layout {
    /// The values of a column.
    column: usize,
    /// The scales of a group.
    scales: usize,
    /// The factors of a strip.
    factors: usize,
}

impl Layout {
    #[inline(always)]
    fn of<C: Column>(rows: usize) -> Self {
        let chunks = rows.div_ceil(BLOCK);
        Self {
            column: chunks * size_of::<C::Values>(),
            scales: chunks * C::SCALE_BYTES,
            factors: chunks * C::FACTOR_BYTES,
        }
    }

    fn of_type(dtype: DType, rows: usize) -> Self {
        with_column!(dtype, C => Self::of::<C>(rows))
    }

    #[inline(always)]
    fn group(self) -> usize {
        GROUP * self.column + self.scales
    }

    #[inline(always)]
    fn strip(self) -> usize {
        self.factors + STRIP * self.group()
    }

    #[inline(always)]
    fn group_start(self, group: usize) -> usize {
        group / STRIP * self.strip() + self.factors + group % STRIP * self.group()
    }

    /// The last strip may have fewer groups.
    fn total(self, columns: usize) -> usize {
        let groups = columns.div_ceil(GROUP);
        groups.div_ceil(STRIP) * self.factors + groups * self.group()
    }
}

/// The columns of a strip of a weight.
pub(super) struct Patch<'a> {
    weight: &'a Weight,
    layout: Layout,
    strip: usize,
}

impl Patch<'_> {
    fn chunks(&self) -> Range<usize> {
        0..self.weight.rows().div_ceil(BLOCK)
    }

    /// What up to 32 rows have in columns of the strip from the `first` to the `last`.
    fn rows(&self, chunk: usize, first: usize, last: usize) -> impl Iterator<Item = &[u8]> {
        let (weight, dtype) = (self.weight, self.weight.dtype());
        let start = self.strip * STRIP * GROUP;
        let place =
            |column: usize| weight.columns().min(start + column) / dtype.block_len() * dtype.block_bytes();
        let bytes = place(first)..place(last);
        let rows = chunk * BLOCK..weight.rows().min((chunk + 1) * BLOCK);
        rows.map(move |row| &weight.span()[row * weight.row_stride()..][bytes.clone()])
    }
}

/// Turns values of `N` bytes by way of a small square: columns lie so far apart that lines written in turns would
/// drive each other out of the first-level cache.
pub(super) fn turn_plain<const N: usize>(patch: &Patch<'_>, target: &mut [u8]) {
    let layout = patch.layout;
    for chunk in patch.chunks() {
        for (group, values) in target.chunks_exact_mut(layout.group()).enumerate() {
            let mut square = [[[0; N]; BLOCK]; GROUP];
            for (r, row) in patch.rows(chunk, group * GROUP, (group + 1) * GROUP).enumerate() {
                for (value, square) in row.as_chunks::<N>().0.iter().zip(&mut square) {
                    square[r] = *value;
                }
            }
            for (to, from) in values.chunks_exact_mut(layout.column).zip(&square) {
                to[chunk * BLOCK * N..][..BLOCK * N].copy_from_slice(from.as_flattened());
            }
        }
    }
}

/// Turns blocks: takes 32 rows of a strip apart, then turns a square of quants for each group.
pub(super) fn turn_blocks<B: Blocks>(patch: &Patch<'_>, target: &mut [u8]) {
    const GROUPS: usize = STRIP;
    let layout = patch.layout;
    let (factors, groups) = target.split_at_mut(layout.factors);
    let in_block = patch.weight.dtype().block_len() / GROUP;
    for chunk in patch.chunks() {
        let mut squares = [[[0; BLOCK]; BLOCK]; GROUPS];
        for (r, row) in patch.rows(chunk, 0, GROUPS * GROUP).enumerate() {
            for (index, block) in row.chunks_exact(size_of::<B::Block>()).enumerate() {
                let block: B::Block = bytemuck::pod_read_unaligned(block);
                let here = &mut factors[chunk * B::FACTOR_BYTES..][..B::FACTOR_BYTES];
                put(here, 2, r, B::factors(&block).map(|factor| factor.to_bits().to_le_bytes()));
                for g in 0..in_block {
                    let (group, (quants, scales)) = (index * in_block + g, B::unpack(&block, g));
                    squares[group][r] = quants;
                    let start = group * layout.group() + GROUP * layout.column + chunk * B::SCALE_BYTES;
                    put(&mut groups[start..][..B::SCALE_BYTES], B::SCALE_WIDTH, r, scales);
                }
            }
        }
        let width = size_of::<B::Quants>();
        for (values, square) in groups.chunks_exact_mut(layout.group()).zip(&mut squares) {
            if width == BLOCK / 2 {
                pair_rows(square);
            }
            for (column, quants) in values.chunks_exact_mut(layout.column).zip(&turn_square(square, width)) {
                column[chunk * width..][..width].copy_from_slice(&quants[..width]);
            }
        }
    }
}

/// Adds rows of nibbles 16 to 31, as the high ones, to rows 0 to 15.
fn pair_rows(rows: &mut [[u8; BLOCK]; BLOCK]) {
    let (low, high) = rows.split_at_mut(BLOCK / 2);
    for (low, high) in low.as_flattened_mut().iter_mut().zip(high.as_flattened()) {
        *low |= high << 4;
    }
}

/// Writes the scales of row `r` of 32: each of `width` bytes behind those of the rows before, as many kinds as there is
/// room for.
fn put(target: &mut [u8], width: usize, r: usize, scales: [[u8; 2]; 2]) {
    for (target, scale) in target.chunks_exact_mut(BLOCK * width).zip(scales) {
        target[r * width..][..width].copy_from_slice(&scale[..width]);
    }
}

/// Turns the first `count` rows, a multiple of 8.
fn turn_square(rows: &[[u8; BLOCK]; BLOCK], count: usize) -> [[u8; BLOCK]; BLOCK] {
    let mut out = [[0; BLOCK]; BLOCK];
    for row in (0..count).step_by(8) {
        for column in (0..BLOCK).step_by(8) {
            turn_eight(rows, &mut out, row, column);
        }
    }
    out
}

/// Turns the 8 by 8 bytes at a row and a column, halves of halves of which change places.
fn turn_eight(from: &[[u8; BLOCK]; BLOCK], to: &mut [[u8; BLOCK]; BLOCK], row: usize, column: usize) {
    let mut words = [0_u64; 8];
    for (word, from) in words.iter_mut().zip(&from[row..row + 8]) {
        *word = from[column..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }
    for (distance, shift, mask) in
        [(4, 32, 0x0000_0000_ffff_ffff_u64), (2, 16, 0x0000_ffff_0000_ffff), (1, 8, 0x00ff_00ff_00ff_00ff)]
    {
        for i in 0..8 {
            if i & distance == 0 {
                let change = (words[i] >> shift ^ words[i + distance]) & mask;
                words[i + distance] ^= change;
                words[i] ^= change << shift;
            }
        }
    }
    for (word, to) in words.iter().zip(&mut to[column..column + 8]) {
        to[row..row + 8].copy_from_slice(&word.to_le_bytes());
    }
}
