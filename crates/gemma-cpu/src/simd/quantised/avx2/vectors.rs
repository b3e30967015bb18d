//! [`Integer`]: products of bytes, one implementation an instruction set, and rearrangements of registers.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use gemma_hal::block::BLOCK;

use super::AvxVnni;
use crate::simd::Avx2;
use crate::simd::quantised::driver::many;
use crate::simd::quantised::driver::stored::Stored;

/// Rows of a panel: one a lane.
pub(super) const PANEL: usize = 8;

/// Quants of 8 rows: columns `4s ..` of row `r` in bytes `4r ..` of vector `s`.
type Panel = many::Panel<PANEL>;

/// Calls intrinsics of AVX2, FMA and F16C, where a value of [`Avx2`] or better is at hand.
macro_rules! avx2 {
    ($($body:tt)*) => {
        // SAFETY: an `Avx2` or `AvxVnni` at hand proves that the processor has the features. Every pointer below is made
        // in the same expression from a reference to exactly the bytes that the intrinsic reads or writes, and the
        // intrinsics used need no alignment.
        unsafe { $($body)* }
    };
}
pub(super) use avx2;

/// Exact products of bytes.
pub(super) trait Integer: Copy {
    /// Signed quants are multiplied as unsigned ones, by adding 128 to each.
    const SHIFTS_SIGNED: bool;
    /// Panels that share a pass over the inputs. Measured with Q4_0: two are 2 to 4 % slower for AVX2, one is 10 % slower
    /// for AVX-VNNI.
    const PANELS: usize;

    /// What is known of the processor besides.
    fn avx2(self) -> Avx2;

    /// Sums of four neighbouring products, of all `N` vectors together.
    fn dot<F: Stored, const N: usize>(self, weights: [__m256i; N], inputs: [__m256i; N]) -> __m256i;

    /// `sums[t]` plus the products of columns `4 · FROM .. 4 · TO`: value `r` of `[t][p]` is that of row `r` of panel `p`
    /// and input `t`.
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel; P],
        inputs: &[[i8; BLOCK]; T],
        sums: [__m256i; T],
    ) -> [[__m256i; P]; T];

    /// Quants as they are multiplied.
    #[inline(always)]
    fn bytes<F: Stored>(self, quants: __m256i) -> __m256i {
        if F::SIGNED && Self::SHIFTS_SIGNED {
            avx2!(_mm256_xor_si256(quants, _mm256_set1_epi8(-128)))
        } else {
            quants
        }
    }

    /// Products of what quants stand for, less those of [`Integer::bytes`], of an input whose values have this sum.
    #[inline(always)]
    fn offset<F: Stored>(self, sums: __m256i) -> Option<__m256i> {
        let signed = F::SIGNED && !Self::SHIFTS_SIGNED;
        match F::OFFSET_LOG2.filter(|_| !signed) {
            Some(log2) => avx2! {
                let product = _mm256_sll_epi32(sums, _mm_cvtsi32_si128(log2 as i32));
                Some(_mm256_sub_epi32(_mm256_setzero_si256(), product))
            },
            None => None,
        }
    }
}

/// Four columns of an input for all rows of a panel.
#[inline(always)]
fn four(_: Avx2, input: &[i8; BLOCK], step: usize) -> __m256i {
    let four: [i8; 4] = input.as_chunks().0[step];
    avx2!(_mm256_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned))))
}

/// The same columns of all rows of a panel.
#[inline(always)]
fn row_columns(_: Avx2, panel: &Panel, step: usize) -> __m256i {
    avx2!(_mm256_loadu_si256(panel[step].as_ptr().cast()))
}

/// Sums of two neighbouring products, of 16 bits: signed quants as their magnitudes times inputs of their sign. The sums
/// stay below 2^15, since inputs are at most 127 and quants at most 128.
#[inline(always)]
fn pairs<F: Stored>(_: Avx2, weights: __m256i, inputs: __m256i) -> __m256i {
    if F::SIGNED {
        avx2!(_mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(inputs, weights)))
    } else {
        avx2!(_mm256_maddubs_epi16(weights, inputs))
    }
}

impl Integer for Avx2 {
    const SHIFTS_SIGNED: bool = false;
    const PANELS: usize = 1;

    #[inline(always)]
    fn avx2(self) -> Avx2 {
        self
    }

    #[inline(always)]
    fn dot<F: Stored, const N: usize>(self, weights: [__m256i; N], inputs: [__m256i; N]) -> __m256i {
        let ones = avx2!(_mm256_set1_epi16(1));
        let mut sum = avx2!(_mm256_setzero_si256());
        if F::EXACT_STEPS >= N {
            for i in 0..N {
                sum = avx2!(_mm256_add_epi16(sum, pairs::<F>(self, weights[i], inputs[i])));
            }
            avx2!(_mm256_madd_epi16(sum, ones))
        } else {
            for i in 0..N {
                let pairs = pairs::<F>(self, weights[i], inputs[i]);
                sum = avx2!(_mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones)));
            }
            sum
        }
    }

    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel; P],
        inputs: &[[i8; BLOCK]; T],
        sums: [__m256i; T],
    ) -> [[__m256i; P]; T] {
        let (zero, ones) = avx2!((_mm256_setzero_si256(), _mm256_set1_epi16(1)));
        let mut all = [[avx2!(_mm256_setzero_si256()); P]; T];
        for t in 0..T {
            all[t] = [sums[t]; P];
        }
        let mut sums = all;
        let mut pairs_16 = [[zero; P]; T];
        for step in FROM..TO {
            for p in 0..P {
                let weights = row_columns(self, panels[p], step);
                for t in 0..T {
                    let pairs = pairs::<F>(self, weights, four(self, &inputs[t], step));
                    pairs_16[t][p] = avx2!(_mm256_add_epi16(pairs_16[t][p], pairs));
                }
            }
            // 16 bits hold so many steps and no more.
            if (step + 1 - FROM).is_multiple_of(F::EXACT_STEPS) || step + 1 == TO {
                for t in 0..T {
                    for p in 0..P {
                        let products = avx2!(_mm256_madd_epi16(pairs_16[t][p], ones));
                        sums[t][p] = avx2!(_mm256_add_epi32(sums[t][p], products));
                        pairs_16[t][p] = zero;
                    }
                }
            }
        }
        sums
    }
}

impl Integer for AvxVnni {
    const SHIFTS_SIGNED: bool = true;
    const PANELS: usize = 2;

    #[inline(always)]
    fn avx2(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn dot<F: Stored, const N: usize>(self, weights: [__m256i; N], inputs: [__m256i; N]) -> __m256i {
        let mut sum = avx2!(_mm256_setzero_si256());
        for i in 0..N {
            sum = self.multiply_add(sum, weights[i], inputs[i]);
        }
        sum
    }

    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel; P],
        inputs: &[[i8; BLOCK]; T],
        sums: [__m256i; T],
    ) -> [[__m256i; P]; T] {
        let mut all = [[avx2!(_mm256_setzero_si256()); P]; T];
        for t in 0..T {
            all[t] = [sums[t]; P];
        }
        let mut sums = all;
        for step in FROM..TO {
            let mut weights = [avx2!(_mm256_setzero_si256()); P];
            for p in 0..P {
                weights[p] = row_columns(self.0, panels[p], step);
            }
            for t in 0..T {
                let input = four(self.0, &inputs[t], step);
                for p in 0..P {
                    sums[t][p] = self.multiply_add(sums[t][p], weights[p], input);
                }
            }
        }
        sums
    }
}

impl AvxVnni {
    /// `sums` plus four neighbouring products of unsigned and signed bytes.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    fn multiply_add(self, sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: `self` proves that the processor has AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sums, unsigned, signed) }
    }
}

/// Sums of the four 32-bit values in each 128-bit lane: value `r` of lane `b` is the sum of lane `b` of vector `r`.
#[inline(always)]
pub(super) fn lane_sums(_: Avx2, [a, b, c, d]: [__m256i; 4]) -> __m256i {
    avx2! {
        let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
    }
}

/// Transposes 4×4 values of 32 bits in each 128-bit lane.
#[inline(always)]
pub(super) fn transpose_in_lanes(_: Avx2, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    avx2! {
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (low2, high2) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(low, low2),
            _mm256_unpackhi_epi64(low, low2),
            _mm256_unpacklo_epi64(high, high2),
            _mm256_unpackhi_epi64(high, high2),
        ]
    }
}

/// The first lanes of both, and the second ones.
#[inline(always)]
pub(super) fn transpose_lanes(_: Avx2, a: __m256i, b: __m256i) -> [__m256i; 2] {
    avx2!([_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)])
}

/// Values `2 · pair` and `2 · pair + 1` of four, each in all of a lane.
#[inline(always)]
pub(super) fn spread(_: Avx2, four: __m128i, pair: usize) -> __m256i {
    let (a, b) = (2 * pair as i32, 2 * pair as i32 + 1);
    avx2! {
        let index = _mm256_setr_epi32(a, a, a, a, b, b, b, b);
        _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(four), index)
    }
}
