//! Few inputs: four rows at a time, unpacked in registers as they stream by.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;
use std::ops::Range;

use super::formats::{Format, More};
use super::vectors::{Integer, avx2, lane_sums, spread};
use crate::simd::Avx2;
use crate::simd::lanes::part;
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::activation::{Inputs, Rounded};
use crate::simd::quantised::ahead::Ahead;
use crate::simd::quantised::{CHAINS, GROUP};
use crate::simd::tile::ROWS;

/// Room for the blocks of an incomplete group of any format.
const TAIL: usize = 256;

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
            // The products of two inputs with a pair of blocks of four rows fill the registers.
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

/// The chains of a tile and `T` inputs: value `r` of lane `b` of vector `p` is chain `2p + b` of row `r`.
type Sums<const T: usize> = [[__m256; 2]; T];

impl Tile<'_> {
    /// Outputs of `T` inputs. Returns `T`.
    #[inline(always)]
    fn run<F: Format, G: Integer, const T: usize>(&self, simd: G, token: usize) -> usize {
        let mut rows: [&[u8]; ROWS] = [&[]; ROWS];
        for (r, bytes) in rows.iter_mut().enumerate() {
            // Where fewer rows are left, the last one is computed again and not used.
            *bytes = self.matrix.row(self.row + r.min(self.count - 1));
        }
        let mut inputs = [self.inputs.token(token); T];
        for t in 1..T {
            inputs[t] = self.inputs.token(token + t);
        }
        let groups = self.inputs.blocks / CHAINS;
        let ahead = Ahead::new(self.matrix, self.row, groups);
        let mut sums: Sums<T> = [[avx2!(_mm256_setzero_ps()); 2]; T];
        for group in 0..groups {
            if token == 0 {
                ahead.ask(group);
            }
            let mut raw = [F::load(rows[0], group); ROWS];
            for r in 1..ROWS {
                raw[r] = F::load(rows[r], group);
            }
            step::<F, G, T>(simd, raw, &inputs, group, CHAINS, &mut sums);
        }
        let rest = self.inputs.blocks % CHAINS;
        if rest > 0 {
            let mut padded = [[0; TAIL]; ROWS];
            for (padded, row) in padded.iter_mut().zip(rows) {
                let row = &row[groups * F::GROUP_BYTES..];
                padded[..row.len()].copy_from_slice(row);
            }
            let mut raw = [F::load(&padded[0], 0); ROWS];
            for r in 1..ROWS {
                raw[r] = F::load(&padded[r], 0);
            }
            step::<F, G, T>(simd, raw, &inputs, groups, rest, &mut sums);
        }
        let mut out = [[0.0; ROWS]; T];
        for t in 0..T {
            out[t] = add_chains(simd.avx2(), sums[t]);
        }
        self.target.emit::<T>(true, self.row, self.count, token, &out);
        T
    }
}

/// Adds the products of the first `blocks` blocks of a group.
#[inline(always)]
fn step<F: Format, G: Integer, const T: usize>(
    simd: G,
    raw: [F::Raw<'_>; ROWS],
    inputs: &[Rounded<'_>; T],
    group: usize,
    blocks: usize,
    sums: &mut Sums<T>,
) {
    let (scales, more) = (F::scales(simd.avx2(), raw), F::more(simd.avx2(), raw));
    for pair in 0..2 {
        let products = products::<F, G, T>(simd, raw, inputs, group, pair);
        for t in 0..T {
            let four = group * CHAINS;
            let factors = spread_scales(simd.avx2(), part(inputs[t].scales, four), pair);
            let all = spread_sums(simd.avx2(), part(inputs[t].sums, four), pair);
            let mut first = all;
            if F::MORE == More::Scale {
                first = spread_sums(simd.avx2(), part(inputs[t].firsts, four), pair);
            }
            let product = less_offset::<F, G>(simd, products[t][0], first);
            let mut sum = multiply_add(simd.avx2(), product, scales[pair], factors, sums[t][pair]);
            match F::MORE {
                More::Nothing => {}
                More::Minimum => sum = multiply_add(simd.avx2(), all, more[pair], factors, sum),
                More::Scale => {
                    let last = avx2!(_mm256_sub_epi32(all, first));
                    let product = less_offset::<F, G>(simd, products[t][1], last);
                    sum = multiply_add(simd.avx2(), product, more[pair], factors, sum);
                }
            }
            sums[t][pair] = match blocks.saturating_sub(2 * pair) {
                0 => sums[t][pair],
                1 => avx2!(_mm256_blend_ps::<0x0f>(sums[t][pair], sum)),
                _ => sum,
            };
        }
    }
}

/// Integer products of a pair of blocks of four rows: value `r` of lane `b` is that of block `b` of row `r`. With a scale
/// for each half, those of the first halves, and of the last; else those of both, and nothing.
#[inline(always)]
fn products<F: Format, G: Integer, const T: usize>(
    simd: G,
    raw: [F::Raw<'_>; ROWS],
    inputs: &[Rounded<'_>; T],
    group: usize,
    pair: usize,
) -> [[__m256i; 2]; T] {
    let zero = avx2!(_mm256_setzero_si256());
    let mut values = [[zero; 2]; T];
    for t in 0..T {
        let bytes: &[i8; GROUP] = part(inputs[t].quants.as_flattened(), group * GROUP);
        values[t] = avx2! {
            [
                _mm256_loadu_si256(part::<32, _>(bytes, 32 * pair).as_ptr().cast()),
                _mm256_loadu_si256(part::<32, _>(bytes, 64 + 32 * pair).as_ptr().cast()),
            ]
        };
    }
    let mut dots = [[[zero; ROWS]; 2]; T];
    for r in 0..ROWS {
        let [first, last] = F::quants(simd.avx2(), raw[r], pair);
        let (first, last) = (simd.bytes::<F>(first), simd.bytes::<F>(last));
        for t in 0..T {
            if F::MORE == More::Scale {
                dots[t][0][r] = simd.dot::<F, 1>([first], [values[t][0]]);
                dots[t][1][r] = simd.dot::<F, 1>([last], [values[t][1]]);
            } else {
                dots[t][0][r] = simd.dot::<F, 2>([first, last], values[t]);
            }
        }
    }
    let mut products = [[zero; 2]; T];
    for t in 0..T {
        products[t][0] = lane_sums(simd.avx2(), dots[t][0]);
        if F::MORE == More::Scale {
            products[t][1] = lane_sums(simd.avx2(), dots[t][1]);
        }
    }
    products
}

/// Products of what quants stand for, of those of the quants and the sums of the inputs.
#[inline(always)]
fn less_offset<F: Format, G: Integer>(simd: G, dots: __m256i, sums: __m256i) -> __m256i {
    match simd.offset::<F>(sums) {
        Some(offset) => avx2!(_mm256_add_epi32(dots, offset)),
        None => dots,
    }
}

#[inline(always)]
fn multiply_add(_: Avx2, dots: __m256i, scale: __m256, factor: __m256, sums: __m256) -> __m256 {
    avx2!(_mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(scale, factor), sums))
}

/// Two of four numbers, each in all of a lane.
#[inline(always)]
fn spread_sums(simd: Avx2, four: &[i32; CHAINS], pair: usize) -> __m256i {
    spread(simd, avx2!(_mm_loadu_si128(four.as_ptr().cast())), pair)
}

/// Two of four scales, each in all of a lane.
#[inline(always)]
fn spread_scales(simd: Avx2, four: &[f32; CHAINS], pair: usize) -> __m256 {
    avx2!(_mm256_castsi256_ps(spread(simd, _mm_loadu_si128(four.as_ptr().cast()), pair)))
}

/// `((c0 + c1) + c2) + c3` of four rows.
#[inline(always)]
fn add_chains(_: Avx2, [low, high]: [__m256; 2]) -> [f32; ROWS] {
    let mut out = [0.0; ROWS];
    avx2! {
        let sum = _mm_add_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps::<1>(low));
        let sum = _mm_add_ps(sum, _mm256_castps256_ps128(high));
        let sum = _mm_add_ps(sum, _mm256_extractf128_ps::<1>(high));
        _mm_storeu_ps(out.as_mut_ptr(), sum);
    }
    out
}
