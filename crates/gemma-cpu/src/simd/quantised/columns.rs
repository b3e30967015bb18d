//! Products of a turned weight with one input that is zero nearly everywhere, with the bits of the dense product.
//!
//! Blocks of zeros leave every chain as it is, so only the others are visited. The integer product of a block is added
//! up in f32, where it is exact: 32 products of 127 · 127 stay far below 2^24.

use std::marker::PhantomData;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::activation::{self, Layout, Rounded};
use super::{CHAINS, GROUP};
use crate::pool::Pool;
use crate::simd::column::{Blocks, More, Quants, with_blocks};
use crate::simd::lanes::part;
use crate::simd::turned::{STRIP, Turned};
use crate::simd::{Isa, Kernel, Simd};

/// The most blocks of rows that a task works on: their sums stay in the first-level cache.
const MAX_CHUNKS: usize = 32;

/// The fewest: below, a task reads less than a few cache lines of each column.
const MIN_CHUNKS: usize = 4;

/// Blocks of the input whose weights are asked for before they are needed.
const AHEAD: usize = 2;

/// Bytes of a cache line.
const LINE: usize = 64;

/// `output = weight · input` with the input rounded to 8 bits, as [`crate::simd::linear`] computes it with the weight
/// that was turned.
///
/// # Panics
/// When the sizes do not fit, or the weight is in a format that has no integer kernel.
pub fn linear_columns_rounded(isa: Isa, pool: &Pool, weight: &Turned, input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), weight.columns(), "an input for each column");
    assert_eq!(output.len(), weight.rows(), "an output for each row");
    activation::with_inputs(isa, pool, Layout::Grouped, input, weight.columns(), |inputs| {
        let rounded = inputs.token(0);
        let size = weight.rows().div_ceil(BLOCK).div_ceil(pool.threads()).clamp(MIN_CHUNKS, MAX_CHUNKS);
        pool.for_chunks_mut(output, size * BLOCK, |task, output| {
            let chunks = task * size..task * size + output.len().div_ceil(BLOCK);
            with_blocks!(weight.dtype(), B => {
                isa.run(Columns::<B> { weight, input: rounded, chunks, output, blocks: PhantomData });
            });
        });
    });
}

/// Some rows of a product.
struct Columns<'a, B> {
    weight: &'a Turned,
    input: Rounded<'a>,
    chunks: Range<usize>,
    output: &'a mut [f32],
    blocks: PhantomData<B>,
}

/// A column that is not skipped, and its quant of the input.
type Active<'a, B> = (&'a [<B as Blocks>::Quants], f32);

impl<'a, B: Blocks> Columns<'a, B> {
    /// The quants of a block of the input.
    #[inline(always)]
    fn quants(&self, block: usize) -> [i8; BLOCK] {
        let all = self.input.quants.as_flattened();
        let first = block / CHAINS * GROUP + block % CHAINS * (BLOCK / 2);
        let mut quants = [0; BLOCK];
        quants[..BLOCK / 2].copy_from_slice(part::<{ BLOCK / 2 }, _>(all, first));
        quants[BLOCK / 2..].copy_from_slice(part::<{ BLOCK / 2 }, _>(all, first + GROUP / 2));
        quants
    }

    /// The chunks of a column that this task reads.
    #[inline(always)]
    fn values(&self, block: usize, column: usize) -> &'a [B::Quants] {
        self.weight.values::<B>(block * BLOCK + column, &self.chunks)
    }

    /// Asks memory for what a block of the input needs: pieces that lie too far apart for the hardware to foresee.
    #[inline(always)]
    fn ask<S: Simd>(&self, simd: S, block: usize, first_of_strip: bool) {
        let ask = |bytes: &[u8]| bytes.iter().step_by(LINE).for_each(|byte| simd.prefetch(byte));
        for (column, _) in self.quants(block).iter().enumerate().filter(|(_, quant)| **quant != 0) {
            ask(bytemuck::cast_slice(self.values(block, column)));
        }
        let scaling = self.weight.scaling::<B>(block, &self.chunks);
        ask(scaling.scales);
        if first_of_strip {
            ask(scaling.factors);
        }
    }

    /// Adds the products of a block of the input to its chain.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, block: usize, chain: &mut [[f32; BLOCK]]) {
        let mut active: [Active<'_, B>; BLOCK] = [(&[], 0.0); BLOCK];
        let mut counts = [0; 2];
        let quants = self.quants(block);
        for (half, quants) in quants.as_chunks::<{ BLOCK / 2 }>().0.iter().enumerate() {
            counts[half] = counts[0];
            for (column, quant) in quants.iter().enumerate().filter(|(_, quant)| **quant != 0) {
                active[counts[half]] = (self.values(block, half * BLOCK / 2 + column), f32::from(*quant));
                counts[half] += 1;
            }
        }
        let (first, last) = active[..counts[1]].split_at(counts[0]);
        let all = &active[..counts[1]];
        // Of the products of inputs with quants, what those with stored values lack.
        let sum = self.input.sums[block] as f32;
        let (sum, lift) = (simd.splat(sum), simd.splat(B::LIFT * sum));
        let factor = simd.splat(self.input.scales[block]);
        let scaling = self.weight.scaling::<B>(block, &self.chunks);
        for (chunk, chain) in chain.iter_mut().enumerate().take(self.chunks.len()) {
            let scaling = scaling.chunk::<B>(chunk);
            for v in 0..S::VECTORS {
                let scale = simd.mul(scaling.scale::<B, S>(simd, 0, v), factor);
                let mut total = simd.load(chain, v);
                if B::MORE == More::Scale {
                    total = simd.fma(dots::<B, S>(simd, first, lift, chunk, v), scale, total);
                    let scale = simd.mul(scaling.scale::<B, S>(simd, 1, v), factor);
                    total = simd.fma(dots::<B, S>(simd, last, lift, chunk, v), scale, total);
                } else {
                    total = simd.fma(dots::<B, S>(simd, all, lift, chunk, v), scale, total);
                }
                if matches!(B::MORE, More::Minimum | More::Offset) {
                    let minimum = simd.mul(scaling.minimum::<B, S>(simd, v), factor);
                    total = simd.fma(sum, minimum, total);
                }
                simd.store(chain, v, total);
            }
        }
    }
}

/// `start` and the products of a chunk of some columns, exactly.
#[inline(always)]
fn dots<B: Blocks, S: Simd>(simd: S, columns: &[Active<'_, B>], start: S::F, chunk: usize, v: usize) -> S::F {
    let mut sum = start;
    for (values, quant) in columns {
        sum = simd.fma(values[chunk].read(simd, v), simd.splat(*quant), sum);
    }
    sum
}

impl<B: Blocks> Kernel for Columns<'_, B> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut chains = [[[0.0; BLOCK]; MAX_CHUNKS]; CHAINS];
        let blocks = || (0..self.weight.columns().div_ceil(BLOCK)).filter(|b| self.input.scales[*b] != 0.0);
        let (mut adding, mut strip) = (blocks(), None);
        for (count, asked) in blocks().map(Some).chain([None; AHEAD]).enumerate() {
            if let Some(block) = asked {
                self.ask(simd, block, strip.replace(block / STRIP) != Some(block / STRIP));
            }
            if count >= AHEAD
                && let Some(block) = adding.next()
            {
                self.add(simd, block, &mut chains[block % CHAINS]);
            }
        }
        let [a, b, c, d] = &chains;
        for (chunk, output) in self.output.chunks_mut(BLOCK).enumerate() {
            for (row, output) in output.iter_mut().enumerate() {
                *output = ((a[chunk][row] + b[chunk][row]) + c[chunk][row]) + d[chunk][row];
            }
        }
    }
}
