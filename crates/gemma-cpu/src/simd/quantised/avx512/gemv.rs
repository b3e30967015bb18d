//! Few inputs: four rows at a time, unpacked in registers as they stream by.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;
use std::ops::Range;

use super::Avx512Vnni;
use super::formats::{Format, More};
use super::vectors::vnni;
use crate::simd::lanes::part;
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::activation::{Inputs, Rounded};
use crate::simd::quantised::ahead::Ahead;
use crate::simd::quantised::{CHAINS, GROUP};
use crate::simd::tile::ROWS;

/// Room for the blocks of an incomplete group of any format.
const TAIL: usize = 256;

/// Sets the outputs of some rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c")]
pub(super) fn run<F: Format>(
    simd: Avx512Vnni,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    // What lies behind the blocks of an incomplete group stays zero from tile to tile.
    let mut padded = [[0; TAIL]; ROWS];
    for row in rows.clone().step_by(ROWS) {
        let tile = Tile { matrix, row, count: ROWS.min(rows.end - row), inputs, target };
        let mut token = 0;
        while token < inputs.n {
            token += match inputs.n - token {
                1 => tile.run::<F, 1>(simd, token, &mut padded),
                2 => tile.run::<F, 2>(simd, token, &mut padded),
                3 => tile.run::<F, 3>(simd, token, &mut padded),
                _ => tile.run::<F, 4>(simd, token, &mut padded),
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

impl Tile<'_> {
    /// Outputs of `T` inputs. Returns `T`.
    #[inline(always)]
    fn run<F: Format, const T: usize>(
        &self,
        simd: Avx512Vnni,
        token: usize,
        padded: &mut [[u8; TAIL]; ROWS],
    ) -> usize {
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
        let mut sums = [vnni!(_mm512_setzero_ps()); T];
        for group in 0..groups {
            if token == 0 {
                ahead.ask(group);
            }
            let mut raw = [F::load(simd, rows[0], group); ROWS];
            for r in 0..ROWS {
                raw[r] = F::load(simd, rows[r], group);
            }
            step::<F, T>(simd, raw, &inputs, group, 0xffff, &mut sums);
        }
        let rest = self.inputs.blocks % CHAINS;
        if rest > 0 {
            let start = groups * F::GROUP_BYTES;
            for ((r, row), padded) in rows.iter_mut().enumerate().zip(padded) {
                let at = self.row + r.min(self.count - 1);
                let (own, beyond) = (&row[start..], self.matrix.beyond(at, start));
                // What a following row has in place of the missing blocks is computed and left out; the last rows
                // of a weight have nothing behind them.
                *row = if beyond.len() >= F::GROUP_BYTES {
                    beyond
                } else {
                    padded[..own.len()].copy_from_slice(own);
                    padded
                };
            }
            let mut raw = [F::load(simd, rows[0], 0); ROWS];
            for r in 0..ROWS {
                raw[r] = F::load(simd, rows[r], 0);
            }
            step::<F, T>(simd, raw, &inputs, groups, (1 << (rest * 4)) - 1, &mut sums);
        }
        self.target.emit::<T>(true, self.row, self.count, token, &sums.map(|sums| add_chains(simd, sums)));
        T
    }
}

/// Adds the products of one group; value `r` of lane `c` of a sum is chain `c` of row `r`.
#[inline(always)]
fn step<F: Format, const T: usize>(
    simd: Avx512Vnni,
    raw: [F::Raw; ROWS],
    inputs: &[Rounded<'_>; T],
    group: usize,
    lanes: u16,
    sums: &mut [__m512; T],
) {
    let zero = vnni!(_mm512_setzero_si512());
    let (scales, more) = (F::scales(simd, raw), F::more(simd, raw));
    // With a scale for each half, the halves are multiplied apart.
    let apart = usize::from(F::MORE == More::Scale);
    let mut dots = [[[zero; ROWS]; 2]; T];
    let mut quants = [[zero; 2]; T];
    for t in 0..T {
        let bytes: &[i8; GROUP] = part(inputs[t].quants.as_flattened(), group * GROUP);
        quants[t] = vnni! {
            [
                _mm512_loadu_si512(part::<64, _>(bytes, 0).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(bytes, 64).as_ptr().cast()),
            ]
        };
    }
    for r in 0..ROWS {
        let [first, last] = F::quants(simd, raw[r]);
        for t in 0..T {
            vnni! {
                dots[t][0][r] = _mm512_dpbusd_epi32(zero, first, quants[t][0]);
                dots[t][apart][r] = _mm512_dpbusd_epi32(dots[t][apart][r], last, quants[t][1]);
            }
        }
    }
    for t in 0..T {
        let four = group * CHAINS;
        let factors = spread_scales(simd, part(inputs[t].scales, four));
        let all = spread(simd, part(inputs[t].sums, four));
        let (mut add, mut first) = (sums[t], all);
        if F::MORE == More::Scale {
            first = spread(simd, part(inputs[t].firsts, four));
        }
        let product = less_offset::<F>(simd, simd.lane_sums(dots[t][0]), first);
        add = multiply_add(simd, product, scales, factors, add);
        match F::MORE {
            More::Nothing => {}
            More::Minimum => add = multiply_add(simd, all, more, factors, add),
            More::Scale => {
                let last = vnni!(_mm512_sub_epi32(all, first));
                let product = less_offset::<F>(simd, simd.lane_sums(dots[t][1]), last);
                add = multiply_add(simd, product, more, factors, add);
            }
        }
        sums[t] = vnni!(_mm512_mask_mov_ps(sums[t], lanes, add));
    }
}

/// Products of what quants stand for, of those of the quants and the sums of the inputs.
#[inline(always)]
fn less_offset<F: Format>(_: Avx512Vnni, dots: __m512i, sums: __m512i) -> __m512i {
    match F::OFFSET_LOG2 {
        Some(log2) => vnni!(_mm512_sub_epi32(dots, _mm512_sll_epi32(sums, _mm_cvtsi32_si128(log2 as i32)))),
        None => dots,
    }
}

#[inline(always)]
fn multiply_add(_: Avx512Vnni, dots: __m512i, scale: __m512, factor: __m512, sums: __m512) -> __m512 {
    vnni!(_mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), _mm512_mul_ps(scale, factor), sums))
}

/// Each of four numbers in all of a lane.
#[inline(always)]
fn spread(simd: Avx512Vnni, four: &[i32; CHAINS]) -> __m512i {
    simd.spread(vnni!(_mm_loadu_si128(four.as_ptr().cast())))
}

/// Each of four scales in all of a lane.
#[inline(always)]
fn spread_scales(simd: Avx512Vnni, four: &[f32; CHAINS]) -> __m512 {
    vnni!(_mm512_castsi512_ps(simd.spread(_mm_loadu_si128(four.as_ptr().cast()))))
}

/// `((c0 + c1) + c2) + c3` of four rows.
#[inline(always)]
fn add_chains(_: Avx512Vnni, sums: __m512) -> [f32; ROWS] {
    let mut out = [0.0; ROWS];
    vnni! {
        let chains = [
            _mm512_castps512_ps128(sums),
            _mm512_extractf32x4_ps::<1>(sums),
            _mm512_extractf32x4_ps::<2>(sums),
            _mm512_extractf32x4_ps::<3>(sums),
        ];
        let sum = _mm_add_ps(_mm_add_ps(_mm_add_ps(chains[0], chains[1]), chains[2]), chains[3]);
        _mm_storeu_ps(out.as_mut_ptr(), sum);
    }
    out
}
