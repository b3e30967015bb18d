//! Products of a turned weight with one input that is zero nearly everywhere, with the bits of the dense product.
//!
//! Blocks of zeros leave every chain as it is, so only the others are visited. The integer product of a block is added
//! up in f32, where it is exact: 32 products of 127 · 127 stay far below 2^24.

use std::marker::PhantomData;
use std::ops::Range;

use gemma_hal::DType;
use gemma_hal::block::BLOCK;

use super::activation::{self, Layout, Rounded};
use super::{CHAINS, GROUP};
use crate::pool::Pool;
use crate::simd::lanes::part;
use crate::simd::turned::Turned;
use crate::simd::{Isa, Kernel, Simd};

/// The most blocks of rows that a task works on: their sums stay in the first-level cache.
const MAX_CHUNKS: usize = 32;

/// The fewest: below, a task reads less than a few cache lines of each column.
const MIN_CHUNKS: usize = 4;

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
            match weight.dtype() {
                DType::Q8_0 => isa.run(Columns::<Bytes>::new(weight, rounded, chunks, output)),
                DType::Q4_0 => isa.run(Columns::<Nibbles>::new(weight, rounded, chunks, output)),
                dtype => unreachable!("no integer kernel for {dtype}"),
            }
        });
    });
}

/// How 32 quants of a column are stored.
trait Quants {
    type Chunk: bytemuck::Pod;
    fn decode<S: Simd>(simd: S, chunk: &Self::Chunk, v: usize) -> S::F;
}

struct Bytes;

impl Quants for Bytes {
    type Chunk = [u8; BLOCK];

    #[inline(always)]
    fn decode<S: Simd>(simd: S, chunk: &Self::Chunk, v: usize) -> S::F {
        simd.i8(chunk, v)
    }
}

struct Nibbles;

impl Quants for Nibbles {
    type Chunk = [u8; BLOCK / 2];

    #[inline(always)]
    fn decode<S: Simd>(simd: S, chunk: &Self::Chunk, v: usize) -> S::F {
        simd.i4(chunk, v)
    }
}

/// Some rows of a product.
struct Columns<'a, Q> {
    weight: &'a Turned,
    input: Rounded<'a>,
    chunks: Range<usize>,
    output: &'a mut [f32],
    quants: PhantomData<Q>,
}

impl<'a, Q: Quants> Columns<'a, Q> {
    fn new(weight: &'a Turned, input: Rounded<'a>, chunks: Range<usize>, output: &'a mut [f32]) -> Self {
        Self { weight, input, chunks, output, quants: PhantomData }
    }

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

    /// The values of a column that this task reads, and the scales of its block.
    #[inline(always)]
    fn column(&self, column: usize) -> (&'a [Q::Chunk], &'a [[u8; 2 * BLOCK]]) {
        let (values, scales) = self.weight.column(column);
        let values: &[Q::Chunk] = bytemuck::cast_slice(values);
        (&values[self.chunks.clone()], &scales.as_chunks().0[self.chunks.clone()])
    }

    /// Asks memory for what a block of the input needs: pieces that lie too far apart for the hardware to foresee.
    #[inline(always)]
    fn ask<S: Simd>(&self, simd: S, block: usize, quants: &[i8; BLOCK]) {
        let ask = |bytes: &[u8]| bytes.iter().step_by(LINE).for_each(|byte| simd.prefetch(byte));
        for (column, _) in quants.iter().enumerate().filter(|(_, quant)| **quant != 0) {
            ask(bytemuck::cast_slice(self.column(block * BLOCK + column).0));
        }
        ask(self.column(block * BLOCK).1.as_flattened());
    }

    /// Adds the products of a block of the input to its chain.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, block: usize, quants: &[i8; BLOCK], chain: &mut [[f32; BLOCK]]) {
        let mut dots = [[0.0; BLOCK]; MAX_CHUNKS];
        for (column, quant) in quants.iter().enumerate().filter(|(_, quant)| **quant != 0) {
            let factor = simd.splat(f32::from(*quant));
            for (dots, values) in dots.iter_mut().zip(self.column(block * BLOCK + column).0) {
                for v in 0..S::VECTORS {
                    let sum = simd.fma(Q::decode(simd, values, v), factor, simd.load(dots, v));
                    simd.store(dots, v, sum);
                }
            }
        }
        let factor = simd.splat(self.input.scales[block]);
        for ((sums, dots), scales) in chain.iter_mut().zip(&dots).zip(self.column(block * BLOCK).1) {
            for v in 0..S::VECTORS {
                let scale = simd.mul(simd.f16(scales, v), factor);
                simd.store(sums, v, simd.fma(simd.load(dots, v), scale, simd.load(sums, v)));
            }
        }
    }
}

impl<Q: Quants> Kernel for Columns<'_, Q> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut chains = [[[0.0; BLOCK]; MAX_CHUNKS]; CHAINS];
        let mut asked: Option<(usize, [i8; BLOCK])> = None;
        for block in 0..self.weight.columns().div_ceil(BLOCK) {
            if self.input.scales[block] == 0.0 {
                continue;
            }
            let quants = self.quants(block);
            self.ask(simd, block, &quants);
            if let Some((block, quants)) = asked.replace((block, quants)) {
                self.add(simd, block, &quants, &mut chains[block % CHAINS]);
            }
        }
        if let Some((block, quants)) = asked {
            self.add(simd, block, &quants, &mut chains[block % CHAINS]);
        }
        let [a, b, c, d] = &chains;
        for (chunk, output) in self.output.chunks_mut(BLOCK).enumerate() {
            for (row, output) in output.iter_mut().enumerate() {
                *output = ((a[chunk][row] + b[chunk][row]) + c[chunk][row]) + d[chunk][row];
            }
        }
    }
}
