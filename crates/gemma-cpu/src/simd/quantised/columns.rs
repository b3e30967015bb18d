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
use crate::simd::turned::Turned;
use crate::simd::{Isa, Kernel, Simd};

/// Blocks of rows that a task works on: their sums stay in the first-level cache.
const CHUNKS: usize = 8;

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
        pool.for_chunks_mut(output, CHUNKS * BLOCK, |task, output| {
            let chunks = task * CHUNKS..task * CHUNKS + output.len().div_ceil(BLOCK);
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
}

impl<Q: Quants> Kernel for Columns<'_, Q> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let quants = self.input.quants.as_flattened();
        let mut chains = [[[0.0; BLOCK]; CHUNKS]; CHAINS];
        for block in 0..self.weight.columns().div_ceil(BLOCK) {
            let scale = self.input.scales[block];
            if scale == 0.0 {
                continue;
            }
            let mut dots = [[0.0; BLOCK]; CHUNKS];
            for column in 0..BLOCK {
                let half = block / CHAINS * GROUP + column / (BLOCK / 2) * (GROUP / 2);
                let quant = quants[half + block % CHAINS * (BLOCK / 2) + column % (BLOCK / 2)];
                if quant == 0 {
                    continue;
                }
                let factor = simd.splat(f32::from(quant));
                let (values, _) = self.weight.column(block * BLOCK + column);
                let values: &[Q::Chunk] = bytemuck::cast_slice(values);
                for (dots, values) in dots.iter_mut().zip(&values[self.chunks.clone()]) {
                    for v in 0..S::VECTORS {
                        let sum = simd.fma(Q::decode(simd, values, v), factor, simd.load(dots, v));
                        simd.store(dots, v, sum);
                    }
                }
            }
            let (_, scales) = self.weight.column(block * BLOCK);
            let scales = &scales.as_chunks::<{ 2 * BLOCK }>().0[self.chunks.clone()];
            let factor = simd.splat(scale);
            for ((sums, dots), scales) in chains[block % CHAINS].iter_mut().zip(&dots).zip(scales) {
                for v in 0..S::VECTORS {
                    let scale = simd.mul(simd.f16(scales, v), factor);
                    let sum = simd.fma(simd.load(dots, v), scale, simd.load(sums, v));
                    simd.store(sums, v, sum);
                }
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
