//! [`Simd`] with AVX2, FMA and F16C: every x86-64 desktop processor since 2013 to 2015.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use gemma_hal::block::BLOCK;

use super::lanes::{Simd, part, part_mut};
use super::{Isa, Kernel};

const LANES: usize = 8;

/// Exists only where the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The capability, where the processor and the operating system have it.
    pub fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        all.then_some(Self(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn inner<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the processor has the enabled features.
        unsafe { inner(self, kernel) }
    }
}

impl From<Avx2> for Isa {
    fn from(token: Avx2) -> Self {
        Self::Avx2(token)
    }
}

/// Calls intrinsics of the features named above, in methods of `Avx2` only.
macro_rules! avx2 {
    ($($body:tt)*) => {
        // SAFETY: `self` proves that the processor has the features. Every pointer below is made in the same
        // expression from a reference to an array of exactly the bytes that the intrinsic reads or writes, and the
        // intrinsics used need no alignment.
        unsafe { $($body)* }
    };
}

impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = LANES;
    const TOKENS: usize = 3;
    const SUM_ORDER: &'static [usize] = &[0, 1, 2, 3, 4, 5, 6, 7];

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        avx2!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, block: &[f32; BLOCK], v: usize) -> __m256 {
        avx2!(_mm256_loadu_ps(part::<LANES, _>(block, v * LANES).as_ptr()))
    }

    #[inline(always)]
    fn store(self, block: &mut [f32; BLOCK], v: usize, values: __m256) {
        avx2!(_mm256_storeu_ps(part_mut::<LANES, _>(block, v * LANES).as_mut_ptr(), values));
    }

    #[inline(always)]
    fn f32(self, block: &[u8; 4 * BLOCK], v: usize) -> __m256 {
        avx2!(_mm256_loadu_ps(part::<{ 4 * LANES }, _>(block, v * 4 * LANES).as_ptr().cast()))
    }

    #[inline(always)]
    fn f16(self, block: &[u8; 2 * BLOCK], v: usize) -> __m256 {
        avx2!(_mm256_cvtph_ps(_mm_loadu_si128(part::<16, _>(block, v * 16).as_ptr().cast())))
    }

    #[inline(always)]
    fn bf16(self, block: &[u8; 2 * BLOCK], v: usize) -> __m256 {
        avx2! {
            let halves = _mm_loadu_si128(part::<16, _>(block, v * 16).as_ptr().cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    fn q8_0(self, block: &[u8; 34], v: usize) -> __m256 {
        let scale = self.scale(*part(block, 0));
        avx2! {
            let quants = _mm_loadl_epi64(part::<8, _>(block, 2 + v * LANES).as_ptr().cast());
            _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(quants)))
        }
    }

    #[inline(always)]
    fn q4_0(self, block: &[u8; 18], v: usize) -> __m256 {
        let scale = self.scale(*part(block, 0));
        avx2! {
            // Vectors 0 and 1 are the low nibbles of 16 bytes, 2 and 3 the high ones.
            let bytes = _mm_loadl_epi64(part::<8, _>(block, 2 + v % 2 * LANES).as_ptr().cast());
            let bytes = _mm256_cvtepu8_epi32(bytes);
            let nibbles = if v < 2 {
                _mm256_and_si256(bytes, _mm256_set1_epi32(15))
            } else {
                _mm256_srli_epi32::<4>(bytes)
            };
            // scale · nibble − 8 · scale is exact: the product needs 15 bits, and so does the difference.
            let offset = _mm256_mul_ps(scale, _mm256_set1_ps(8.0));
            _mm256_fmsub_ps(scale, _mm256_cvtepi32_ps(nibbles), offset)
        }
    }

    #[inline(always)]
    fn i8(self, block: &[u8; BLOCK], v: usize) -> __m256 {
        avx2! {
            let bytes = _mm_loadl_epi64(part::<8, _>(block, v * LANES).as_ptr().cast());
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
        }
    }

    #[inline(always)]
    fn i4(self, block: &[u8; BLOCK / 2], v: usize) -> __m256 {
        avx2! {
            // Vectors 0 and 1 are the low nibbles of 16 bytes, 2 and 3 the high ones.
            let bytes = _mm_loadl_epi64(part::<8, _>(block, v % 2 * LANES).as_ptr().cast());
            let bytes = _mm256_cvtepu8_epi32(bytes);
            let nibbles = if v < 2 {
                _mm256_and_si256(bytes, _mm256_set1_epi32(15))
            } else {
                _mm256_srli_epi32::<4>(bytes)
            };
            _mm256_cvtepi32_ps(_mm256_sub_epi32(nibbles, _mm256_set1_epi32(8)))
        }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        avx2!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        avx2!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        avx2!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn exp2_int(self, a: __m256) -> __m256 {
        avx2! {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn copy_sign(self, a: __m256, sign: __m256) -> __m256 {
        avx2! {
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign))
        }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        avx2! {
            let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        crate::prefetch::prefetch(address);
    }
}

impl Avx2 {
    /// An f16 scale in all lanes.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    fn scale(self, bytes: [u8; 2]) -> __m256 {
        avx2!(_mm256_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes(bytes))))
    }
}
