//! Many inputs: panels of 8 rows, packed so that a vector holds 4 columns of all 8.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use gemma_hal::block::BLOCK;

use super::formats::Unpack;
use super::vectors::{Integer, PANEL, avx2, transpose_in_lanes, transpose_lanes};
use crate::simd::Avx2;
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::driver::many::{Many, Pack, Packed, Panel, STEPS};
use crate::simd::quantised::driver::stored::Stored;

impl<G: Integer> Many<PANEL> for G {
    const PANELS: usize = <G as Integer>::PANELS;
    type Sums = __m256;
    type Dots = __m256i;

    #[inline(always)]
    fn zero(self) -> __m256 {
        avx2!(_mm256_setzero_ps())
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> __m256 {
        avx2!(_mm256_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; PANEL], sums: __m256) {
        avx2!(_mm256_storeu_ps(values.as_mut_ptr(), sums));
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn multiply_add(self, dots: __m256i, rows: __m256, input: f32, sums: __m256) -> __m256 {
        avx2! {
            let scale = _mm256_mul_ps(rows, _mm256_set1_ps(input));
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, sums)
        }
    }

    #[inline(always)]
    fn splat(self, value: i32) -> __m256i {
        avx2!(_mm256_set1_epi32(value))
    }

    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<PANEL>; P],
        inputs: &[[i8; BLOCK]; T],
        sums: &[i32; T],
    ) -> [[__m256i; P]; T] {
        Integer::dots::<F, P, T, FROM, TO>(self, panels, inputs, starts::<F, G, T>(self, sums))
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        avx2!(_mm_prefetch::<_MM_HINT_T1>(address.cast()));
    }
}

/// What the products of inputs with these sums begin with: the offset of the quants.
#[inline(always)]
fn starts<F: Stored, G: Integer, const T: usize>(simd: G, sums: &[i32; T]) -> [__m256i; T] {
    let zero = avx2!(_mm256_setzero_si256());
    let mut starts = [zero; T];
    for t in 0..T {
        if let Some(offset) = simd.offset::<F>(avx2!(_mm256_set1_epi32(sums[t]))) {
            starts[t] = offset;
        }
    }
    starts
}

impl<F: Unpack, G: Integer> Pack<F, PANEL> for G {
    #[inline(always)]
    fn pack(self, rows: [&[u8]; PANEL], index: usize) -> [Packed<PANEL>; CHAINS] {
        let mut raw = [F::group(rows[0], index); PANEL];
        for r in 1..PANEL {
            raw[r] = F::group(rows[r], index);
        }
        let zero = Packed { quants: [[0; BLOCK]; PANEL], scales: [0.0; PANEL], more: [0.0; PANEL] };
        let mut out = [zero; CHAINS];
        let zero = avx2!(_mm256_setzero_si256());
        let [a, b, c, d, e, f, g, h] = raw;
        let fours = [[a, b, c, d], [e, f, g, h]];
        for pair in 0..2 {
            let mut vectors = [[zero; 2]; STEPS];
            for four in 0..2 {
                let mut quants = [[zero; 4]; 2];
                for r in 0..4 {
                    let halves = F::quants(self.avx2(), fours[four][r], pair);
                    for half in 0..2 {
                        quants[half][r] = self.bytes::<F>(halves[half]);
                    }
                }
                for half in 0..2 {
                    let columns = transpose_in_lanes(self.avx2(), quants[half]);
                    for step in 0..4 {
                        vectors[half * 4 + step][four] = columns[step];
                    }
                }
            }
            for step in 0..STEPS {
                let [low, high] = vectors[step];
                let blocks = transpose_lanes(self.avx2(), low, high);
                for b in 0..2 {
                    let to = &mut out[2 * pair + b].quants[step];
                    avx2!(_mm256_storeu_si256(to.as_mut_ptr().cast(), blocks[b]));
                }
            }
        }
        let scales = [F::scales(self.avx2(), fours[0]), F::scales(self.avx2(), fours[1])];
        let more = [F::more(self.avx2(), fours[0]), F::more(self.avx2(), fours[1])];
        for pair in 0..2 {
            let scales = by_block(self.avx2(), scales[0][pair], scales[1][pair]);
            let more = by_block(self.avx2(), more[0][pair], more[1][pair]);
            for b in 0..2 {
                let to = &mut out[2 * pair + b];
                avx2! {
                    _mm256_storeu_ps(to.scales.as_mut_ptr(), scales[b]);
                    _mm256_storeu_ps(to.more.as_mut_ptr(), more[b]);
                }
            }
        }
        out
    }
}

/// Of values of 4 rows and 4 more, those of the first block, and of the second.
#[inline(always)]
fn by_block(simd: Avx2, low: __m256, high: __m256) -> [__m256; 2] {
    let [first, second] = avx2!(transpose_lanes(simd, _mm256_castps_si256(low), _mm256_castps_si256(high)));
    avx2!([_mm256_castsi256_ps(first), _mm256_castsi256_ps(second)])
}
