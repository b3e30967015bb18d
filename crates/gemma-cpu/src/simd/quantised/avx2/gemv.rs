//! Few inputs: four rows at a time, unpacked in registers as they stream by.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::formats::Unpack;
use super::vectors::{Integer, avx2, lane_sums, spread};
use crate::simd::Avx2;
use crate::simd::lanes::part;
use crate::simd::operands::Matrix;
use crate::simd::quantised::activation::Rounded;
use crate::simd::quantised::ahead::Ahead;
use crate::simd::quantised::driver::few::Few;
use crate::simd::quantised::driver::stored::More;
use crate::simd::quantised::{CHAINS, GROUP};
use crate::simd::tile::ROWS;

impl<F: Unpack, G: Integer> Few<F> for G {
    /// Value `r` of lane `b` of vector `p` is chain `2p + b` of row `r`.
    type Sums = [__m256; 2];
    type Ahead = Ahead;

    #[inline(always)]
    fn no_sums(self) -> Self::Sums {
        [avx2!(_mm256_setzero_ps()); 2]
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
        let (scales, more) = (F::scales(self.avx2(), rows), F::more(self.avx2(), rows));
        for pair in 0..2 {
            let products = products::<F, G, T>(self, rows, inputs, group, pair);
            for t in 0..T {
                let four = group * CHAINS;
                let factors = spread_scales(self.avx2(), part(inputs[t].scales, four), pair);
                let all = spread_sums(self.avx2(), part(inputs[t].sums, four), pair);
                let mut first = all;
                if F::MORE == More::Scale {
                    first = spread_sums(self.avx2(), part(inputs[t].firsts, four), pair);
                }
                let product = less_offset::<F, G>(self, products[t][0], first);
                let mut sum = multiply_add(self.avx2(), product, scales[pair], factors, sums[t][pair]);
                match F::MORE {
                    More::Nothing => {}
                    More::Minimum => sum = multiply_add(self.avx2(), all, more[pair], factors, sum),
                    More::Scale => {
                        let last = avx2!(_mm256_sub_epi32(all, first));
                        let product = less_offset::<F, G>(self, products[t][1], last);
                        sum = multiply_add(self.avx2(), product, more[pair], factors, sum);
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

    #[inline(always)]
    fn add_chains(self, [low, high]: Self::Sums) -> [f32; ROWS] {
        let mut out = [0.0; ROWS];
        avx2! {
            let sum = _mm_add_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps::<1>(low));
            let sum = _mm_add_ps(sum, _mm256_castps256_ps128(high));
            let sum = _mm_add_ps(sum, _mm256_extractf128_ps::<1>(high));
            _mm_storeu_ps(out.as_mut_ptr(), sum);
        }
        out
    }

    #[inline(always)]
    fn ahead(self, matrix: Matrix<'_>, row: usize, groups: usize) -> Ahead {
        Ahead::new(matrix, row, groups)
    }

    #[inline(always)]
    fn ask(self, ahead: &Ahead, group: usize) {
        ahead.ask(group);
    }
}

/// Integer products of a pair of blocks of four rows: value `r` of lane `b` is that of block `b` of row `r`. With a scale
/// for each half, those of the first halves, and of the last; else those of both, and nothing.
#[inline(always)]
fn products<F: Unpack, G: Integer, const T: usize>(
    simd: G,
    rows: [F::Group<'_>; ROWS],
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
        let [first, last] = F::quants(simd.avx2(), rows[r], pair);
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
fn less_offset<F: Unpack, G: Integer>(simd: G, dots: __m256i, sums: __m256i) -> __m256i {
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
