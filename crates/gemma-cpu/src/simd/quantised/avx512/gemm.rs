//! Many inputs: panels of 16 rows, packed so that a vector holds 4 columns of all 16, for every input of the product.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::Avx512Vnni;
use super::formats::{Format, More};
use super::vectors::vnni;
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::activation::{self, Inputs, Rounded, TILE};
use crate::simd::quantised::{CHAINS, PANEL_ROWS};

/// Rows of a panel: one a lane.
const ROWS: usize = 16;

/// Panels that share a pass over the inputs.
const PANELS: usize = PANEL_ROWS / ROWS;

/// Vectors of 4 columns in a block.
const STEPS: usize = BLOCK / 4;

/// Room for the blocks of an incomplete group of any format.
const TAIL: usize = 256;

/// A block of 16 rows: quants of columns `4s ..` of row `r` in value `r` of vector `s`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Packed {
    quants: [[[u8; 4]; ROWS]; STEPS],
    scales: [f32; ROWS],
}

/// A vector of f32 values in memory.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Values([f32; ROWS]);

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
        self.panels.resize(self.panels.len().max(PANELS * blocks), zero);
        self.more.resize(self.more.len().max(PANELS * blocks), Values([0.0; ROWS]));
        self.sums.resize(self.sums.len().max(PANELS * n), Values([0.0; ROWS]));
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
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")]
pub(super) fn run<F: Format>(
    simd: Avx512Vnni,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    ROOM.with_borrow_mut(|room| {
        room.resize(inputs.n, inputs.blocks);
        for first in rows.clone().step_by(PANEL_ROWS) {
            let rows = first..rows.end.min(first + PANEL_ROWS);
            if rows.len() > ROWS {
                panels::<F, 2>(simd, matrix, rows, inputs, target, room);
            } else {
                panels::<F, 1>(simd, matrix, rows, inputs, target, room);
            }
        }
    });
}

/// The outputs of `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")]
fn panels<F: Format, const P: usize>(
    simd: Avx512Vnni,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
    room: &mut Room,
) {
    let starts = activation::chain_starts(inputs.blocks);
    let packed: &mut [[Packed; P]] = room.panels.as_chunks_mut().0;
    let more: &mut [[Values; P]] = room.more.as_chunks_mut().0;
    for p in 0..P {
        let first = rows.start + p * ROWS;
        let rows = first..rows.end.min(first + ROWS);
        pack::<F, P>(simd, matrix, rows, inputs.blocks, &starts, p, packed, more);
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
                1 => chain.run::<F, 1>(simd, sums),
                2 => chain.run::<F, 2>(simd, sums),
                3 => chain.run::<F, 3>(simd, sums),
                4 => chain.run::<F, 4>(simd, sums),
                5 => chain.run::<F, 5>(simd, sums),
                _ => chain.run::<F, 6>(simd, sums),
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
    fn run<F: Format, const T: usize>(&self, simd: Avx512Vnni, out: &mut [[Values; P]]) {
        let zero = vnni!(_mm512_setzero_ps());
        let mut sums = [[zero; P]; T];
        let inputs = self.start * T..(self.start + self.packed.len()) * T;
        let quants = self.rounded.quants[inputs.clone()].as_chunks::<T>().0;
        let scales = self.rounded.scales[inputs.clone()].as_chunks::<T>().0;
        let all = self.rounded.sums[inputs.clone()].as_chunks::<T>().0;
        let firsts = self.rounded.firsts[inputs].as_chunks::<T>().0;
        for (index, packed) in self.packed.iter().enumerate() {
            let (quants, scales, all) = (&quants[index], &scales[index], &all[index]);
            let by_row = packed.each_ref().map(|packed| &packed.scales);
            if F::MORE == More::Scale {
                let (first, mut last) = (&firsts[index], *all);
                for t in 0..T {
                    last[t] -= first[t];
                }
                let products = dots::<F, P, T, 0, { STEPS / 2 }>(simd, packed, quants, first);
                add(simd, products, by_row, scales, &mut sums);
                let products = dots::<F, P, T, { STEPS / 2 }, STEPS>(simd, packed, quants, &last);
                add(simd, products, self.more[index].each_ref().map(|Values(more)| more), scales, &mut sums);
            } else {
                let products = dots::<F, P, T, 0, STEPS>(simd, packed, quants, all);
                add(simd, products, by_row, scales, &mut sums);
            }
            if F::MORE == More::Minimum {
                let mut spread = [[vnni!(_mm512_setzero_si512()); P]; T];
                for t in 0..T {
                    spread[t] = [vnni!(_mm512_set1_epi32(all[t])); P];
                }
                add(simd, spread, self.more[index].each_ref().map(|Values(more)| more), scales, &mut sums);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (Values(out), sum) in out.iter_mut().zip(sums) {
                vnni! {
                    let sum = if self.first { sum } else { _mm512_add_ps(_mm512_loadu_ps(out.as_ptr()), sum) };
                    _mm512_storeu_ps(out.as_mut_ptr(), sum);
                }
            }
        }
    }
}

/// Adds products times the scales of rows and inputs.
#[inline(always)]
fn add<const P: usize, const T: usize>(
    _: Avx512Vnni,
    products: [[__m512i; P]; T],
    rows: [&[f32; ROWS]; P],
    inputs: &[f32; T],
    sums: &mut [[__m512; P]; T],
) {
    for p in 0..P {
        vnni! {
            let row = _mm512_loadu_ps(rows[p].as_ptr());
            for t in 0..T {
                let scale = _mm512_mul_ps(row, _mm512_set1_ps(inputs[t]));
                sums[t][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[t][p]), scale, sums[t][p]);
            }
        }
    }
}

/// Integer products of columns `4 · FROM .. 4 · TO` of a block: value `r` of `[t][p]` is that of row `r` of panel `p` and
/// input `t`, whose values have the sum `sums[t]`.
#[inline(always)]
fn dots<F: Format, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
    _: Avx512Vnni,
    packed: &[Packed; P],
    quants: &[[i8; BLOCK]; T],
    sums: &[i32; T],
) -> [[__m512i; P]; T] {
    vnni! {
        let zero = _mm512_setzero_si512();
        let mut dots = [[zero; P]; T];
        if let Some(log2) = F::OFFSET_LOG2 {
            for t in 0..T {
                let offset = _mm512_sll_epi32(_mm512_set1_epi32(sums[t]), _mm_cvtsi32_si128(log2 as i32));
                dots[t] = [_mm512_sub_epi32(zero, offset); P];
            }
        }
        for s in FROM..TO {
            let mut weights = [zero; P];
            for p in 0..P {
                weights[p] = _mm512_loadu_si512(packed[p].quants[s].as_ptr().cast());
            }
            for t in 0..T {
                let four: [i8; 4] = quants[t].as_chunks().0[s];
                let four = _mm512_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned)));
                for p in 0..P {
                    dots[t][p] = _mm512_dpbusd_epi32(dots[t][p], weights[p], four);
                }
            }
        }
        dots
    }
}

/// Packs up to 16 rows as panel `p`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")]
#[allow(clippy::too_many_arguments, reason = "a step of one function, apart for its length")]
fn pack<F: Format, const P: usize>(
    simd: Avx512Vnni,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    blocks: usize,
    starts: &[usize; CHAINS + 1],
    p: usize,
    out: &mut [[Packed; P]],
    more: &mut [[Values; P]],
) {
    let mut bytes: [&[u8]; ROWS] = [&[]; ROWS];
    for (r, bytes) in bytes.iter_mut().enumerate() {
        // Rows beyond the last are packed as the last and not used.
        *bytes = matrix.row(rows.start + r.min(rows.len() - 1));
    }
    let group_bytes = F::GROUP_BYTES;
    for group in 0..blocks.div_ceil(CHAINS) {
        let rest = blocks - group * CHAINS;
        if rest >= CHAINS {
            // Each row is a stream of its own, too short for the hardware to run ahead of it over rows.
            for row in bytes {
                let next = row.as_ptr().wrapping_add(group * group_bytes + ROWS * P * matrix.stride);
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
            }
            let panel = pack_group::<F>(simd, |r| F::load(simd, bytes[r], group));
            for (chain, (block, beside)) in panel.into_iter().enumerate() {
                out[starts[chain] + group][p] = block;
                if F::MORE != More::Nothing {
                    more[starts[chain] + group][p] = beside;
                }
            }
        } else {
            let mut padded = [[0; TAIL]; ROWS];
            for (padded, row) in padded.iter_mut().zip(bytes) {
                let row = &row[group * group_bytes..];
                padded[..row.len()].copy_from_slice(row);
            }
            let panel = pack_group::<F>(simd, |r| F::load(simd, &padded[r], 0));
            for (chain, (block, beside)) in panel.into_iter().take(rest).enumerate() {
                (out[starts[chain] + group][p], more[starts[chain] + group][p]) = (block, beside);
            }
        }
    }
}

/// The 4 blocks of a group of 16 rows.
#[inline(always)]
fn pack_group<F: Format>(simd: Avx512Vnni, load: impl Fn(usize) -> F::Raw) -> [(Packed, Values); CHAINS] {
    let zero = vnni!(_mm512_setzero_si512());
    let mut vectors = [[zero; 4]; STEPS];
    let (mut scales, mut more) = ([zero; 4], [zero; 4]);
    for four in 0..4 {
        let raw = [load(four * 4), load(four * 4 + 1), load(four * 4 + 2), load(four * 4 + 3)];
        scales[four] = vnni!(_mm512_castps_si512(F::scales(simd, raw)));
        more[four] = vnni!(_mm512_castps_si512(F::more(simd, raw)));
        let quants = [
            F::quants(simd, raw[0]),
            F::quants(simd, raw[1]),
            F::quants(simd, raw[2]),
            F::quants(simd, raw[3]),
        ];
        for half in 0..2 {
            let rows = [quants[0][half], quants[1][half], quants[2][half], quants[3][half]];
            let columns = simd.transpose_in_lanes(rows);
            for step in 0..4 {
                vectors[half * 4 + step][four] = columns[step];
            }
        }
    }
    let mut out: [(Packed, Values); CHAINS] = [(bytemuck::Zeroable::zeroed(), Values([0.0; ROWS])); CHAINS];
    for step in 0..STEPS {
        let blocks = simd.transpose_lanes(vectors[step]);
        for chain in 0..CHAINS {
            vnni!(_mm512_storeu_si512(out[chain].0.quants[step].as_mut_ptr().cast(), blocks[chain]));
        }
    }
    let (scales, more) = (simd.transpose_lanes(scales), simd.transpose_lanes(more));
    for chain in 0..CHAINS {
        let (Packed { scales: by_row, .. }, Values(beside)) = &mut out[chain];
        vnni! {
            _mm512_storeu_si512(by_row.as_mut_ptr().cast(), scales[chain]);
            _mm512_storeu_si512(beside.as_mut_ptr().cast(), more[chain]);
        }
    }
    out
}
