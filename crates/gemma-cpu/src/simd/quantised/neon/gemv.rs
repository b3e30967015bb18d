//! Few inputs: four rows at a time, unpacked in registers as they stream by.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use gemma_hal::block::BLOCK;

use super::formats::Unpack;
use super::vectors::{Integer, Quants, add_lanes, load, neon};
use crate::simd::Simd;
use crate::simd::lanes::part;
use crate::simd::operands::Matrix;
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::activation::Rounded;
use crate::simd::quantised::driver::few::Few;
use crate::simd::quantised::driver::stored::More;
use crate::simd::tile::ROWS;

/// Vectors of 16 values in a group of blocks.
const VECTORS: usize = CHAINS * BLOCK / 16;

/// The four rows that follow a tile, and the bytes of each that are asked for with a group.
pub(in crate::simd::quantised) struct Next {
    rows: [*const u8; ROWS],
    bytes: usize,
}

impl<F: Unpack, G: Integer> Few<F> for G {
    /// By chain: value `r` is that of row `r`.
    type Sums = [float32x4_t; CHAINS];
    type Ahead = Next;

    #[inline(always)]
    fn no_sums(self) -> Self::Sums {
        [neon!(vdupq_n_f32(0.0)); CHAINS]
    }

    #[inline(always)]
    fn step<const T: usize>(
        self,
        rows: [F::Group<'_>; ROWS],
        inputs: &[Rounded<'_>; T],
        group: usize,
        blocks: usize,
        sums: &mut [Self::Sums; T],
    ) {
        let scales = (F::scales(self.neon(), rows), F::more(self.neon(), rows));
        chain::<F, G, T, 0>(self, rows, scales, inputs, group, sums);
        if blocks > 1 {
            chain::<F, G, T, 1>(self, rows, scales, inputs, group, sums);
        }
        if blocks > 2 {
            chain::<F, G, T, 2>(self, rows, scales, inputs, group, sums);
        }
        if blocks > 3 {
            chain::<F, G, T, 3>(self, rows, scales, inputs, group, sums);
        }
    }

    #[inline(always)]
    fn add_chains(self, [a, b, c, d]: Self::Sums) -> [f32; ROWS] {
        let mut out = [0.0; ROWS];
        neon!(vst1q_f32(out.as_mut_ptr(), vaddq_f32(vaddq_f32(vaddq_f32(a, b), c), d)));
        out
    }

    /// The hardware sees four short streams that end with the tile; the next tile is for us to ask for.
    #[inline(always)]
    fn ahead(self, matrix: Matrix<'_>, row: usize, _: usize) -> Next {
        let mut rows = [matrix.row(row).as_ptr().wrapping_add(ROWS * matrix.stride); ROWS];
        for r in 1..ROWS {
            rows[r] = rows[0].wrapping_add(r * matrix.stride);
        }
        Next { rows, bytes: F::GROUP_BYTES }
    }

    #[inline(always)]
    fn ask(self, next: &Next, group: usize) {
        for row in next.rows {
            self.neon().prefetch(row.wrapping_add(group * next.bytes));
        }
    }
}

/// Adds the products of one block. The chain is known when this is compiled, so that all sums stay in registers.
#[inline(always)]
fn chain<F: Unpack, G: Integer, const T: usize, const CHAIN: usize>(
    simd: G,
    rows: [F::Group<'_>; ROWS],
    (scales, more): ([float32x4_t; CHAINS], [float32x4_t; CHAINS]),
    inputs: &[Rounded<'_>; T],
    group: usize,
    sums: &mut [[float32x4_t; CHAINS]; T],
) {
    let block = group * CHAINS + CHAIN;
    let mut weights = [[neon!(vdupq_n_s8(0)); 2]; ROWS];
    for r in 0..ROWS {
        weights[r] = F::quants(simd.neon(), rows[r], CHAIN);
    }
    for t in 0..T {
        let vectors: &[[i8; 16]] = inputs[t].quants.as_flattened().as_chunks().0;
        let vectors: &[[i8; 16]; VECTORS] = part(vectors, group * VECTORS);
        let input = load(simd.neon(), &[vectors[CHAIN], vectors[CHAINS + CHAIN]]);
        let scale = inputs[t].scales[block];
        let mut sum = sums[t][CHAIN];
        if F::MORE == More::Scale {
            let (first, last) = products_apart(simd, weights, input);
            sum = multiply_add(simd, first, scales[CHAIN], scale, sum);
            sum = multiply_add(simd, last, more[CHAIN], scale, sum);
        } else {
            let mut dots = [neon!(vdupq_n_s32(0)); ROWS];
            for r in 0..ROWS {
                dots[r] = simd.dot(weights[r], input);
            }
            sum = multiply_add(simd, add_lanes(simd.neon(), dots), scales[CHAIN], scale, sum);
        }
        if F::MORE == More::Minimum {
            let all = neon!(vdupq_n_s32(inputs[t].sums[block]));
            sum = multiply_add(simd, all, more[CHAIN], scale, sum);
        }
        sums[t][CHAIN] = sum;
    }
}

/// The products of the first halves of a block, and of the last, by row.
#[inline(always)]
fn products_apart<G: Integer>(simd: G, weights: [Quants; ROWS], input: Quants) -> (int32x4_t, int32x4_t) {
    let mut dots = [[neon!(vdupq_n_s32(0)); ROWS]; 2];
    for half in 0..2 {
        for r in 0..ROWS {
            dots[half][r] = simd.dot_half(weights[r][half], input[half]);
        }
    }
    (add_lanes(simd.neon(), dots[0]), add_lanes(simd.neon(), dots[1]))
}

#[inline(always)]
fn multiply_add<G: Integer>(
    _: G,
    dots: int32x4_t,
    scales: float32x4_t,
    input: f32,
    sums: float32x4_t,
) -> float32x4_t {
    neon!(vfmaq_f32(sums, vcvtq_f32_s32(dots), vmulq_n_f32(scales, input)))
}
