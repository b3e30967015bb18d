//! Many inputs: panels of 8 rows, packed as the processor's widest integer product reads them, for every input.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;
use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::formats::{Format, widen};
use super::vectors::{Integer, PANEL, Panel, VECTORS, neon};
use crate::simd::Simd;
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::activation::{self, Inputs, Rounded, TILE};

/// A block of 8 rows.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(32))]
struct Packed {
    quants: Panel,
    scales: [f32; PANEL],
}

#[derive(Default)]
struct Room {
    /// Blocks in the order chain after chain.
    panel: Vec<Packed>,
    /// By token: sums of the chains so far.
    sums: Vec<[f32; PANEL]>,
}

impl Room {
    fn resize(&mut self, n: usize, blocks: usize) {
        self.panel.resize(self.panel.len().max(blocks), bytemuck::Zeroable::zeroed());
        self.sums.resize(self.sums.len().max(n), [0.0; PANEL]);
    }
}

thread_local! {
    /// Of each thread. Kept, so that no run but the first allocates.
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Makes the memory of the current thread.
pub(super) fn reserve(n: usize, columns: usize) {
    ROOM.with_borrow_mut(|room| room.resize(n, columns.div_ceil(BLOCK)));
}

/// Sets the outputs of some rows.
#[inline(always)]
pub(super) fn run<F: Format, G: Integer>(
    simd: G,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    // Taken out and put back, because what is called in a closure is not compiled for the instruction set.
    let mut room = ROOM.take();
    room.resize(inputs.n, inputs.blocks);
    let starts = activation::chain_starts(inputs.blocks);
    let (panel, sums) = (&mut room.panel[..inputs.blocks], &mut room.sums[..inputs.n]);
    for first in rows.clone().step_by(PANEL) {
        let rows = first..rows.end.min(first + PANEL);
        pack::<F, G>(simd, matrix, &rows, &starts, panel);
        for chain in 0..CHAINS {
            let blocks = starts[chain]..starts[chain + 1];
            for index in 0..inputs.n.div_ceil(TILE) {
                let tokens = activation::tile(inputs.n, index);
                let chain = Chain {
                    panel: &panel[blocks.clone()],
                    start: blocks.start,
                    rounded: inputs.tile(&tokens),
                    first: chain == 0,
                };
                let sums = &mut sums[tokens.clone()];
                match tokens.len() {
                    1 => chain.run::<G, 1>(simd, sums),
                    2 => chain.run::<G, 2>(simd, sums),
                    3 => chain.run::<G, 3>(simd, sums),
                    4 => chain.run::<G, 4>(simd, sums),
                    5 => chain.run::<G, 5>(simd, sums),
                    _ => chain.run::<G, 6>(simd, sums),
                }
            }
        }
        for (token, sums) in sums.iter().enumerate() {
            // SAFETY: ranges of rows of a region do not overlap, so no other thread touches these outputs.
            unsafe { target.store(rows.start, token, &sums[..rows.len()]) };
        }
    }
    ROOM.set(room);
}

/// One chain of blocks of a panel and one tile of inputs.
struct Chain<'a> {
    panel: &'a [Packed],
    /// Position of the first block in the order of the inputs.
    start: usize,
    rounded: Rounded<'a>,
    /// Whether it is the first chain of the outputs.
    first: bool,
}

impl Chain<'_> {
    #[inline(always)]
    fn run<G: Integer, const T: usize>(&self, simd: G, out: &mut [[f32; PANEL]]) {
        let mut sums = [[neon!(vdupq_n_f32(0.0)); 2]; T];
        let inputs = self.start * T..(self.start + self.panel.len()) * T;
        let quants = self.rounded.quants[inputs.clone()].as_chunks::<T>().0;
        let scales = self.rounded.scales[inputs].as_chunks::<T>().0;
        for ((packed, quants), scales) in self.panel.iter().zip(quants).zip(scales) {
            let dots = simd.dots(&packed.quants, quants);
            let [low, high] = *packed.scales.as_chunks::<4>().0 else { unreachable!("8 scales") };
            let weights = neon!([vld1q_f32(low.as_ptr()), vld1q_f32(high.as_ptr())]);
            for t in 0..T {
                for half in 0..2 {
                    sums[t][half] = neon! {
                        let scale = vmulq_n_f32(weights[half], scales[t]);
                        vfmaq_f32(sums[t][half], vcvtq_f32_s32(dots[t][half]), scale)
                    };
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                neon! {
                    let sum = if self.first { sum } else { vaddq_f32(vld1q_f32(out.as_ptr()), sum) };
                    vst1q_f32(out.as_mut_ptr(), sum);
                }
            }
        }
    }
}

/// Packs up to 8 rows.
#[inline(always)]
fn pack<F: Format, G: Integer>(
    simd: G,
    matrix: Matrix<'_>,
    rows: &Range<usize>,
    starts: &[usize; CHAINS + 1],
    out: &mut [Packed],
) {
    let mut blocks: [&[F::Block]; PANEL] = [&[]; PANEL];
    for (r, blocks) in blocks.iter_mut().enumerate() {
        // Rows beyond the last are packed as the last and not used.
        *blocks = &F::blocks(matrix.row(rows.start + r.min(rows.len() - 1)))[..out.len()];
    }
    for block in 0..out.len() {
        let zero = neon!(vdupq_n_s8(0));
        let (mut quants, mut scales) = ([[zero; 2]; PANEL], [0; PANEL]);
        for r in 0..PANEL {
            // Each row is a stream of its own, too short for the hardware to run ahead of it over rows.
            let next = (&raw const blocks[r][block]).cast::<u8>().wrapping_add(PANEL * matrix.stride);
            simd.neon().prefetch(next);
            quants[r] = F::quants(simd.neon(), &blocks[r][block]);
            scales[r] = F::scale(&blocks[r][block]);
        }
        let vectors = simd.arrange(quants);
        let to = &mut out[starts[block % CHAINS] + block / CHAINS];
        for v in 0..VECTORS {
            neon!(vst1q_s8(to.quants[v].as_mut_ptr(), vectors[v]));
        }
        let [a, b, c, d, e, f, g, h] = scales;
        for (to, bits) in to.scales.as_chunks_mut::<4>().0.iter_mut().zip([[a, b, c, d], [e, f, g, h]]) {
            neon!(vst1q_f32(to.as_mut_ptr(), widen(simd.neon(), bits)));
        }
    }
}
