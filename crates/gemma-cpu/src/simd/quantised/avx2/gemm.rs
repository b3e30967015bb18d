//! Many inputs: panels of 8 rows, packed so that a vector holds 4 columns of all 8, for every input of the product.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::formats::{Format, More};
use super::vectors::{Integer, PANEL, Panel, STEPS, avx2, transpose_in_lanes, transpose_lanes};
use crate::simd::Avx2;
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::activation::{self, Inputs, Rounded, TILE};

/// Panels that share a pass over the inputs at most.
const MAX_PANELS: usize = 2;

/// Room for the blocks of an incomplete group of any format.
const TAIL: usize = 256;

/// A block of 8 rows.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(32))]
struct Packed {
    quants: Panel,
    scales: [f32; PANEL],
}

/// A vector of f32 values in memory.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(32))]
struct Values([f32; PANEL]);

#[derive(Default)]
struct Room {
    /// `[block, panel]`, blocks in the order chain after chain.
    panels: Vec<Packed>,
    /// `[block, panel]`: what formats have besides a scale.
    more: Vec<Values>,
    /// `[token, panel]`: sums of the chains so far.
    sums: Vec<Values>,
}

impl Room {
    fn resize(&mut self, n: usize, blocks: usize) {
        let zero: Packed = bytemuck::Zeroable::zeroed();
        self.panels.resize(self.panels.len().max(MAX_PANELS * blocks), zero);
        self.more.resize(self.more.len().max(MAX_PANELS * blocks), Values([0.0; PANEL]));
        self.sums.resize(self.sums.len().max(MAX_PANELS * n), Values([0.0; PANEL]));
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
    for first in rows.clone().step_by(PANEL * G::PANELS) {
        let rows = first..rows.end.min(first + PANEL * G::PANELS);
        match G::PANELS {
            1 => panels::<F, G, 1>(simd, matrix, rows, inputs, target, &mut room),
            _ => panels::<F, G, MAX_PANELS>(simd, matrix, rows, inputs, target, &mut room),
        }
    }
    ROOM.set(room);
}

/// The outputs of `P` panels.
#[inline(always)]
fn panels<F: Format, G: Integer, const P: usize>(
    simd: G,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
    room: &mut Room,
) {
    let starts = activation::chain_starts(inputs.blocks);
    let packed: &mut [[Packed; P]] = room.panels.as_chunks_mut().0;
    let more: &mut [[Values; P]] = room.more.as_chunks_mut().0;
    let packing = Packing { matrix, rows: rows.clone(), blocks: inputs.blocks, starts };
    for p in 0..P {
        packing.run::<F, G, P>(simd, p, packed, more);
    }
    let sums: &mut [[Values; P]] = &mut room.sums.as_chunks_mut().0[..inputs.n];
    for chain in 0..CHAINS {
        let blocks = starts[chain]..starts[chain + 1];
        for index in 0..inputs.n.div_ceil(TILE) {
            let tokens = activation::tile(inputs.n, index);
            let (rounded, sums) = (inputs.tile(&tokens), &mut sums[tokens.clone()]);
            let chain = Chain {
                packed: &packed[blocks.clone()],
                more: &more[blocks.clone()],
                start: blocks.start,
                rounded,
                first: chain == 0,
            };
            match tokens.len() {
                1 => chain.run::<F, G, 1>(simd, sums),
                2 => chain.run::<F, G, 2>(simd, sums),
                3 => chain.run::<F, G, 3>(simd, sums),
                4 => chain.run::<F, G, 4>(simd, sums),
                5 => chain.run::<F, G, 5>(simd, sums),
                _ => chain.run::<F, G, 6>(simd, sums),
            }
        }
    }
    for (token, sums) in sums.iter().enumerate() {
        let sums: &[f32] = bytemuck::cast_slice(sums);
        // SAFETY: ranges of rows of a region do not overlap, so no other thread touches these outputs.
        unsafe { target.store(rows.start, token, &sums[..rows.len()]) };
    }
}

/// One chain of blocks of `P` panels and one tile of inputs.
struct Chain<'a, const P: usize> {
    packed: &'a [[Packed; P]],
    more: &'a [[Values; P]],
    /// Position of the first block in the order of the inputs.
    start: usize,
    rounded: Rounded<'a>,
    /// Whether it is the first chain of the outputs.
    first: bool,
}

impl<const P: usize> Chain<'_, P> {
    #[inline(always)]
    fn run<F: Format, G: Integer, const T: usize>(&self, simd: G, out: &mut [[Values; P]]) {
        let mut sums = [[avx2!(_mm256_setzero_ps()); P]; T];
        let inputs = self.start * T..(self.start + self.packed.len()) * T;
        let quants = self.rounded.quants[inputs.clone()].as_chunks::<T>().0;
        let scales = self.rounded.scales[inputs.clone()].as_chunks::<T>().0;
        let all = self.rounded.sums[inputs.clone()].as_chunks::<T>().0;
        let firsts = self.rounded.firsts[inputs].as_chunks::<T>().0;
        for (index, packed) in self.packed.iter().enumerate() {
            let (quants, scales, all) = (&quants[index], &scales[index], &all[index]);
            let mut by_row = [&packed[0].scales; P];
            let mut beside = [&self.more[index][0].0; P];
            let mut panels = [&packed[0].quants; P];
            for p in 1..P {
                by_row[p] = &packed[p].scales;
                beside[p] = &self.more[index][p].0;
                panels[p] = &packed[p].quants;
            }
            if F::MORE == More::Scale {
                let (first, mut last) = (&firsts[index], *all);
                for t in 0..T {
                    last[t] -= first[t];
                }
                let start = starts::<F, G, T>(simd, first);
                let products = simd.dots::<F, P, T, 0, { STEPS / 2 }>(panels, quants, start);
                add(simd.avx2(), products, by_row, scales, &mut sums);
                let start = starts::<F, G, T>(simd, &last);
                let products = simd.dots::<F, P, T, { STEPS / 2 }, STEPS>(panels, quants, start);
                add(simd.avx2(), products, beside, scales, &mut sums);
            } else {
                let start = starts::<F, G, T>(simd, all);
                let products = simd.dots::<F, P, T, 0, STEPS>(panels, quants, start);
                add(simd.avx2(), products, by_row, scales, &mut sums);
            }
            if F::MORE == More::Minimum {
                let mut spread = [[avx2!(_mm256_setzero_si256()); P]; T];
                for t in 0..T {
                    spread[t] = [avx2!(_mm256_set1_epi32(all[t])); P];
                }
                add(simd.avx2(), spread, beside, scales, &mut sums);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (Values(out), sum) in out.iter_mut().zip(sums) {
                avx2! {
                    let sum = if self.first { sum } else { _mm256_add_ps(_mm256_loadu_ps(out.as_ptr()), sum) };
                    _mm256_storeu_ps(out.as_mut_ptr(), sum);
                }
            }
        }
    }
}

/// What the products of inputs with these sums begin with: the offset of the quants.
#[inline(always)]
fn starts<F: Format, G: Integer, const T: usize>(simd: G, sums: &[i32; T]) -> [__m256i; T] {
    let zero = avx2!(_mm256_setzero_si256());
    let mut starts = [zero; T];
    for t in 0..T {
        if let Some(offset) = simd.offset::<F>(avx2!(_mm256_set1_epi32(sums[t]))) {
            starts[t] = offset;
        }
    }
    starts
}

/// Adds products times the scales of rows and inputs.
#[inline(always)]
fn add<const P: usize, const T: usize>(
    _: Avx2,
    products: [[__m256i; P]; T],
    rows: [&[f32; PANEL]; P],
    inputs: &[f32; T],
    sums: &mut [[__m256; P]; T],
) {
    for p in 0..P {
        avx2! {
            let row = _mm256_loadu_ps(rows[p].as_ptr());
            for t in 0..T {
                let scale = _mm256_mul_ps(row, _mm256_set1_ps(inputs[t]));
                sums[t][p] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[t][p]), scale, sums[t][p]);
            }
        }
    }
}

/// What panels are packed from.
struct Packing<'a> {
    matrix: Matrix<'a>,
    rows: Range<usize>,
    blocks: usize,
    starts: [usize; CHAINS + 1],
}

impl Packing<'_> {
    /// Packs up to 8 rows as panel `p`.
    #[inline(always)]
    fn run<F: Format, G: Integer, const P: usize>(
        &self,
        simd: G,
        p: usize,
        out: &mut [[Packed; P]],
        more: &mut [[Values; P]],
    ) {
        let mut bytes: [&[u8]; PANEL] = [&[]; PANEL];
        for (r, bytes) in bytes.iter_mut().enumerate() {
            // Rows beyond the last are packed as the last and not used.
            *bytes = self.matrix.row(self.rows.start + (p * PANEL + r).min(self.rows.len() - 1));
        }
        let groups = self.blocks / CHAINS;
        for group in 0..groups {
            // Each row is a stream of its own, too short for the hardware to run ahead of it over rows.
            for row in bytes {
                let ahead = group * F::GROUP_BYTES + PANEL * P * self.matrix.stride;
                avx2!(_mm_prefetch::<_MM_HINT_T1>(row.as_ptr().wrapping_add(ahead).cast()));
            }
            self.put::<F, P>(&pack_group::<F, G>(simd, bytes, group), group, p, out, more);
        }
        if !self.blocks.is_multiple_of(CHAINS) {
            let mut padded = [[0; TAIL]; PANEL];
            for (padded, row) in padded.iter_mut().zip(bytes) {
                let row = &row[groups * F::GROUP_BYTES..];
                padded[..row.len()].copy_from_slice(row);
            }
            let padded = padded.each_ref().map(<[u8; TAIL]>::as_slice);
            self.put::<F, P>(&pack_group::<F, G>(simd, padded, 0), groups, p, out, more);
        }
    }

    /// Writes the blocks of a group, as far as it goes, to their places in panel `p`.
    #[inline(always)]
    fn put<F: Format, const P: usize>(
        &self,
        blocks: &[(Packed, Values); CHAINS],
        group: usize,
        p: usize,
        out: &mut [[Packed; P]],
        more: &mut [[Values; P]],
    ) {
        let count = self.blocks - group * CHAINS;
        for (chain, (block, beside)) in blocks.iter().take(count).enumerate() {
            let at = self.starts[chain] + group;
            out[at][p] = *block;
            if F::MORE != More::Nothing {
                more[at][p] = *beside;
            }
        }
    }
}

/// The 4 blocks of group `index` of 8 rows.
#[inline(always)]
fn pack_group<F: Format, G: Integer>(
    simd: G,
    rows: [&[u8]; PANEL],
    index: usize,
) -> [(Packed, Values); CHAINS] {
    let mut raw = [F::load(rows[0], index); PANEL];
    for r in 1..PANEL {
        raw[r] = F::load(rows[r], index);
    }
    let mut out: [(Packed, Values); CHAINS] = [(bytemuck::Zeroable::zeroed(), Values([0.0; PANEL])); CHAINS];
    let zero = avx2!(_mm256_setzero_si256());
    let [a, b, c, d, e, f, g, h] = raw;
    let fours = [[a, b, c, d], [e, f, g, h]];
    for pair in 0..2 {
        let mut vectors = [[zero; 2]; STEPS];
        for four in 0..2 {
            let mut quants = [[zero; 4]; 2];
            for r in 0..4 {
                let halves = F::quants(simd.avx2(), fours[four][r], pair);
                for half in 0..2 {
                    quants[half][r] = simd.bytes::<F>(halves[half]);
                }
            }
            for half in 0..2 {
                let columns = transpose_in_lanes(simd.avx2(), quants[half]);
                for step in 0..4 {
                    vectors[half * 4 + step][four] = columns[step];
                }
            }
        }
        for step in 0..STEPS {
            let [low, high] = vectors[step];
            let blocks = transpose_lanes(simd.avx2(), low, high);
            for b in 0..2 {
                let to = &mut out[2 * pair + b].0.quants[step];
                avx2!(_mm256_storeu_si256(to.as_mut_ptr().cast(), blocks[b]));
            }
        }
    }
    let scales = [F::scales(simd.avx2(), fours[0]), F::scales(simd.avx2(), fours[1])];
    let more = [F::more(simd.avx2(), fours[0]), F::more(simd.avx2(), fours[1])];
    for pair in 0..2 {
        let scales = by_block(simd.avx2(), scales[0][pair], scales[1][pair]);
        let more = by_block(simd.avx2(), more[0][pair], more[1][pair]);
        for b in 0..2 {
            let (Packed { scales: by_row, .. }, Values(beside)) = &mut out[2 * pair + b];
            avx2! {
                _mm256_storeu_ps(by_row.as_mut_ptr(), scales[b]);
                _mm256_storeu_ps(beside.as_mut_ptr(), more[b]);
            }
        }
    }
    out
}

/// Of values of 4 rows and 4 more, those of the first block, and of the second.
#[inline(always)]
fn by_block(simd: Avx2, low: __m256, high: __m256) -> [__m256; 2] {
    let [first, second] = avx2!(transpose_lanes(simd, _mm256_castps_si256(low), _mm256_castps_si256(high)));
    avx2!([_mm256_castsi256_ps(first), _mm256_castsi256_ps(second)])
}
