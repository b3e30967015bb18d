//! Few inputs: four rows at a time, unpacked in registers as they stream by.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::formats::{Format, widen};
use super::vectors::{Integer, add_lanes, load, neon};
use crate::simd::Simd;
use crate::simd::lanes::part;
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::activation::{Inputs, Rounded};
use crate::simd::tile::ROWS;

/// Vectors of 16 values in a group of blocks.
const VECTORS: usize = CHAINS * BLOCK / 16;

/// Sets the outputs of some rows.
#[inline(always)]
pub(super) fn run<F: Format, G: Integer>(
    simd: G,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    for row in rows.clone().step_by(ROWS) {
        let tile = Tile { matrix, row, count: ROWS.min(rows.end - row), inputs, target };
        let mut token = 0;
        while token < inputs.n {
            // The chains of two inputs and a block of four rows fill the registers.
            token += match inputs.n - token {
                1 => tile.run::<F, G, 1>(simd, token),
                _ => tile.run::<F, G, 2>(simd, token),
            };
        }
    }
}

/// Up to four rows.
struct Tile<'a> {
    matrix: Matrix<'a>,
    row: usize,
    count: usize,
    inputs: Inputs<'a>,
    target: Target<'a>,
}

/// The chains of a tile and `T` inputs: value `r` of a vector is that of row `r`.
type Sums<const T: usize> = [[float32x4_t; CHAINS]; T];

impl Tile<'_> {
    /// Outputs of `T` inputs. Returns `T`.
    #[inline(always)]
    fn run<F: Format, G: Integer, const T: usize>(&self, simd: G, token: usize) -> usize {
        let blocks = self.inputs.blocks;
        let mut rows: [&[F::Block]; ROWS] = [&[]; ROWS];
        for (r, row) in rows.iter_mut().enumerate() {
            // Where fewer rows are left, the last one is computed again and not used.
            *row = &F::blocks(self.matrix.row(self.row + r.min(self.count - 1)))[..blocks];
        }
        let mut inputs = [self.inputs.token(token); T];
        for t in 1..T {
            inputs[t] = self.inputs.token(token + t);
        }
        // The hardware sees four short streams that end with the tile; the next tile is for us to ask for.
        let ahead = if token == 0 { ROWS * self.matrix.stride } else { 0 };
        let mut sums: Sums<T> = [[neon!(vdupq_n_f32(0.0)); CHAINS]; T];
        let groups = blocks / CHAINS;
        for group in 0..groups {
            for row in rows {
                let next = row.as_ptr().wrapping_add(group * CHAINS).cast::<u8>();
                simd.neon().prefetch(next.wrapping_add(ahead));
            }
            step::<F, G, T, 0>(simd, rows, &inputs, group, &mut sums);
            step::<F, G, T, 1>(simd, rows, &inputs, group, &mut sums);
            step::<F, G, T, 2>(simd, rows, &inputs, group, &mut sums);
            step::<F, G, T, 3>(simd, rows, &inputs, group, &mut sums);
        }
        let rest = blocks % CHAINS;
        if rest > 0 {
            step::<F, G, T, 0>(simd, rows, &inputs, groups, &mut sums);
        }
        if rest > 1 {
            step::<F, G, T, 1>(simd, rows, &inputs, groups, &mut sums);
        }
        if rest > 2 {
            step::<F, G, T, 2>(simd, rows, &inputs, groups, &mut sums);
        }
        let mut out = [[0.0; ROWS]; T];
        for t in 0..T {
            let [a, b, c, d] = sums[t];
            neon!(vst1q_f32(out[t].as_mut_ptr(), vaddq_f32(vaddq_f32(vaddq_f32(a, b), c), d)));
        }
        self.target.emit::<T>(true, self.row, self.count, token, &out);
        T
    }
}

/// Adds the products of one block. The chain is known when this is compiled, so that all sums stay in registers.
#[inline(always)]
fn step<F: Format, G: Integer, const T: usize, const CHAIN: usize>(
    simd: G,
    rows: [&[F::Block]; ROWS],
    inputs: &[Rounded<'_>; T],
    group: usize,
    sums: &mut Sums<T>,
) {
    let block = group * CHAINS + CHAIN;
    let zero = neon!(vdupq_n_s8(0));
    let (mut weights, mut scales) = ([[zero; 2]; ROWS], [0; ROWS]);
    for r in 0..ROWS {
        weights[r] = F::quants(simd.neon(), &rows[r][block]);
        scales[r] = F::scale(&rows[r][block]);
    }
    let scales = widen(simd.neon(), scales);
    for t in 0..T {
        let vectors: &[[i8; 16]] = inputs[t].quants.as_flattened().as_chunks().0;
        let vectors: &[[i8; 16]; VECTORS] = part(vectors, group * VECTORS);
        let input = load(simd.neon(), &[vectors[CHAIN], vectors[CHAINS + CHAIN]]);
        let mut dots = [neon!(vdupq_n_s32(0)); ROWS];
        for r in 0..ROWS {
            dots[r] = simd.dot(weights[r], input);
        }
        let dots = add_lanes(simd.neon(), dots);
        sums[t][CHAIN] = neon! {
            vfmaq_f32(sums[t][CHAIN], vcvtq_f32_s32(dots), vmulq_n_f32(scales, inputs[t].scales[block]))
        };
    }
}
