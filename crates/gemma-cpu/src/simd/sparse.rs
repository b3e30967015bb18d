//! Products over the units of a feed-forward network that a cut has left, with the very bits of the dense product.
//!
//! A dense sum is kept in lanes, one for every [`Simd::LANES`]-th column within [`DEPTH`] chunks, which are then added
//! as a tree. Columns whose input is zero leave a lane as it is, so visiting the others lane by lane, and adding lanes
//! in the same tree, gives the same sum. Here a vector holds one lane of several rows.

use std::marker::PhantomData;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::column::{Column, with_column};
use super::lanes::Simd;
use super::tile::{Chunk, DEPTH};
use super::turned::{GROUP, Scaling, Turned};
use super::{Isa, Kernel};
use crate::pool::Pool;

/// Columns whose products are added up lane by lane before other columns follow.
const SPAN: usize = DEPTH * BLOCK;

/// The most lanes of any instruction set.
const MAX_LANES: usize = 16;

/// The most chunks of rows that a task works on.
const MAX_CHUNKS: usize = 16;

/// The fewest: below, a task reads less than a few cache lines of each column.
const MIN_CHUNKS: usize = 4;

/// Columns whose chunks are multiplied together.
const BATCH: usize = 8;

/// The columns of a product whose inputs are not zero, in the order in which they are summed.
#[derive(Debug, Default)]
pub struct ActiveUnits {
    units: Vec<u32>,
    /// Units up to the end of each lane of each span of columns.
    ends: Vec<u32>,
    count: usize,
}

impl ActiveUnits {
    /// Room for `columns` columns, so that [`ActiveUnits::find`] allocates nothing.
    pub fn with_capacity(columns: usize) -> Self {
        Self { units: vec![0; columns], ends: vec![0; columns.div_ceil(SPAN) * MAX_LANES], count: 0 }
    }

    /// Bytes of room for `columns` columns.
    pub fn size(columns: usize) -> u64 {
        4 * (columns + columns.div_ceil(SPAN) * MAX_LANES) as u64
    }

    /// Lists the places of `values` that are not zero.
    pub fn find(&mut self, isa: Isa, values: &[f32]) -> usize {
        self.units.resize(self.units.len().max(values.len()), 0);
        self.ends.resize(self.ends.len().max(values.len().div_ceil(SPAN) * MAX_LANES), 0);
        self.count = isa.run(Find { values, units: &mut self.units, ends: &mut self.ends });
        self.count
    }

    /// The units found last.
    pub fn units(&self) -> &[u32] {
        &self.units[..self.count]
    }
}

/// Lists what is not zero; returns the number.
struct Find<'a> {
    values: &'a [f32],
    units: &'a mut [u32],
    ends: &'a mut [u32],
}

impl Kernel for Find<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        let mut place = [0; MAX_LANES];
        for (leaf, lane) in S::SUM_ORDER.iter().enumerate() {
            place[*lane] = leaf;
        }
        let mut total = 0;
        let mut found = [0_u16; SPAN];
        for ((span, values), ends) in
            self.values.chunks(SPAN).enumerate().zip(self.ends.chunks_exact_mut(MAX_LANES))
        {
            let mut count = 0;
            for (column, value) in values.iter().enumerate() {
                found[count] = column as u16;
                // NaN is not zero.
                count += usize::from(*value != 0.0);
            }
            let found = &found[..count];
            let mut counts = [0_u32; MAX_LANES];
            for column in found {
                counts[place[usize::from(*column) % S::LANES]] += 1;
            }
            let mut starts = [0; MAX_LANES];
            for ((start, end), count) in starts.iter_mut().zip(ends).zip(counts) {
                *start = total;
                total += count;
                *end = total;
            }
            for column in found {
                let start = &mut starts[place[usize::from(*column) % S::LANES]];
                self.units[*start as usize] = (span * SPAN) as u32 + u32::from(*column);
                *start += 1;
            }
        }
        total as usize
    }
}

/// `output[r] = Σ_i weight[r][units[i]] · input[i]`: [`super::linear`] with an input that is zero everywhere else.
///
/// # Panics
/// When there is not one input for each unit, or one output for each row.
pub fn linear_columns(
    isa: Isa,
    pool: &Pool,
    weight: &Turned,
    active: &ActiveUnits,
    input: &[f32],
    output: &mut [f32],
) {
    assert_eq!(input.len(), active.count, "an input for each unit");
    assert_eq!(output.len(), weight.rows(), "an output for each row");
    let chunks = weight.rows().div_ceil(BLOCK);
    let size = chunks.div_ceil(pool.threads() * 2).clamp(MIN_CHUNKS, MAX_CHUNKS);
    pool.for_chunks_mut(output, size * BLOCK, |task, output| {
        let chunks = task * size..chunks.min((task + 1) * size);
        with_column!(weight.dtype(), C => {
            isa.run(Columns::<C> { weight, active, input, chunks, output, column: PhantomData });
        });
    });
}

/// Some rows of [`linear_columns`].
struct Columns<'a, C> {
    weight: &'a Turned,
    active: &'a ActiveUnits,
    input: &'a [f32],
    chunks: Range<usize>,
    output: &'a mut [f32],
    column: PhantomData<C>,
}

/// What a batch reads of a column.
struct Piece<'a, C: Column> {
    values: &'a [C::Values],
    scaling: Scaling<'a>,
    /// Half of the group that the column is in.
    half: usize,
}

impl<C: Column> Piece<'_, C> {
    const NOTHING: Self = Self { values: &[], scaling: Scaling { scales: &[], factors: &[] }, half: 0 };
}

/// Sums that wait for others: one for each level of the tree, and for each chunk.
type Stack = [[Chunk; MAX_CHUNKS]; LEVELS];

/// Levels of the tree of lanes, leaves included.
const LEVELS: usize = MAX_LANES.ilog2() as usize + 1;

impl<'a, C: Column> Columns<'a, C> {
    /// The chunks of a column that this task reads.
    #[inline(always)]
    fn column(&self, unit: u32) -> Piece<'a, C> {
        let (weight, column) = (self.weight, unit as usize);
        Piece {
            values: weight.values::<C>(column, &self.chunks),
            scaling: weight.scaling::<C>(column / GROUP, &self.chunks),
            half: column % GROUP / (GROUP / 2),
        }
    }

    /// Adds up one lane and all lanes before it whose sums wait for it.
    #[inline(always)]
    fn lane<S: Simd>(&self, simd: S, leaf: usize, units: Range<usize>, stack: &mut Stack) {
        let depth = leaf.count_ones() as usize;
        let waiting = leaf.trailing_ones() as usize;
        let chunks = self.chunks.len();
        let mut start = units.start;
        loop {
            let end = units.end.min(start + BATCH);
            let mut batch: [Piece<'_, C>; BATCH] = [const { Piece::NOTHING }; BATCH];
            let mut inputs = [0.0; BATCH];
            for index in start..end {
                batch[index - start] = self.column(self.active.units[index]);
                inputs[index - start] = self.input[index];
            }
            // Nothing foresees which column is next.
            for unit in self.active.units().iter().skip(end).take(BATCH / 2) {
                self.ask_for(simd, *unit);
            }
            let (batch, inputs) = (&batch[..end - start], &inputs[..end - start]);
            for chunk in 0..chunks {
                for v in 0..S::VECTORS {
                    let first = start == units.start;
                    let mut sum = if first { simd.zero() } else { simd.load(&stack[depth][chunk], v) };
                    for (Piece { values, scaling, half }, input) in batch.iter().zip(inputs) {
                        let values = C::decode(simd, &values[chunk], scaling.chunk::<C>(chunk), *half, v);
                        sum = simd.fma(values, simd.splat(*input), sum);
                    }
                    let mut place = depth;
                    if end == units.end {
                        for _ in 0..waiting {
                            place -= 1;
                            sum = simd.add(simd.load(&stack[place][chunk], v), sum);
                        }
                    }
                    simd.store(&mut stack[place][chunk], v, sum);
                }
            }
            if end == units.end {
                return;
            }
            start = end;
        }
    }

    #[inline(always)]
    fn ask_for<S: Simd>(&self, simd: S, unit: u32) {
        let Piece { values, scaling, .. } = self.column(unit);
        for bytes in [bytemuck::cast_slice(values), scaling.scales] {
            let bytes: &[u8] = bytes;
            for line in bytes.chunks(64) {
                simd.prefetch(line.as_ptr());
            }
        }
    }
}

impl<C: Column> Kernel for Columns<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut stack: Stack = [[[0.0; BLOCK]; MAX_CHUNKS]; LEVELS];
        let mut start = 0;
        for (span, ends) in
            self.active.ends.chunks_exact(MAX_LANES).take(self.weight.columns().div_ceil(SPAN)).enumerate()
        {
            for leaf in 0..S::LANES {
                let end = ends[leaf] as usize;
                self.lane(simd, leaf, start..end, &mut stack);
                start = end;
            }
            for (output, sums) in self.output.chunks_mut(BLOCK).zip(&stack[0]) {
                for (output, sum) in output.iter_mut().zip(sums) {
                    *output = if span == 0 { *sum } else { *output + *sum };
                }
            }
        }
    }
}
