//! [`Simd`] with AVX-512 (F, BW, DQ, VL): Zen 4 and later, Intel server and some client processors.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use gemma_hal::block::BLOCK;

use super::avx2::Avx2;
use super::lanes::{Simd, part, part_mut};
use super::{Isa, Kernel};

const LANES: usize = 16;

/// Exists only where the processor has AVX-512 F, BW, DQ and VL, and all that [`Avx2`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(Avx2);

impl Avx512 {
    /// The capability, where the processor and the operating system have it.
    pub fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        Avx2::detect().filter(|_| all).map(Self)
    }

    /// What it has of the narrower instructions.
    pub fn avx2(self) -> Avx2 {
        self.0
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn inner<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the processor has the enabled features.
        unsafe { inner(self, kernel) }
    }
}

impl From<Avx512> for Isa {
    fn from(token: Avx512) -> Self {
        Self::Avx512(token)
    }
}

/// Calls intrinsics of the features named above, in methods of `Avx512` only.
macro_rules! avx512 {
    ($($body:tt)*) => {
        // SAFETY: `self` proves that the processor has the features. Every pointer below is made in the same
        // expression from a reference to an array of exactly the bytes that the intrinsic reads or writes, and the
        // intrinsics used need no alignment.
        unsafe { $($body)* }
    };
}

impl Simd for Avx512 {
    type F = __m512;
    const LANES: usize = LANES;
    const TOKENS: usize = 6;
    const SUM_ORDER: &'static [usize] = &[0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15];

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        avx512!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, block: &[f32; BLOCK], v: usize) -> __m512 {
        avx512!(_mm512_loadu_ps(part::<LANES, _>(block, v * LANES).as_ptr()))
    }

    #[inline(always)]
    fn store(self, block: &mut [f32; BLOCK], v: usize, values: __m512) {
        avx512!(_mm512_storeu_ps(part_mut::<LANES, _>(block, v * LANES).as_mut_ptr(), values));
    }

    #[inline(always)]
    fn f32(self, block: &[u8; 4 * BLOCK], v: usize) -> __m512 {
        avx512!(_mm512_loadu_ps(part::<{ 4 * LANES }, _>(block, v * 4 * LANES).as_ptr().cast()))
    }

    #[inline(always)]
    fn f16(self, block: &[u8; 2 * BLOCK], v: usize) -> __m512 {
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(part::<32, _>(block, v * 32).as_ptr().cast())))
    }

    #[inline(always)]
    fn bf16(self, block: &[u8; 2 * BLOCK], v: usize) -> __m512 {
        avx512! {
            let halves = _mm256_loadu_si256(part::<32, _>(block, v * 32).as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }

    #[inline(always)]
    fn q8_0(self, block: &[u8; 34], v: usize) -> __m512 {
        let scale = self.scale(*part(block, 0));
        avx512! {
            let quants = _mm_loadu_si128(part::<16, _>(block, 2 + v * LANES).as_ptr().cast());
            _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(quants)))
        }
    }

    #[inline(always)]
    fn q4_0(self, block: &[u8; 18], v: usize) -> __m512 {
        let scale = self.scale(*part(block, 0));
        avx512! {
            let steps = _mm512_setr_ps(
                -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
            );
            // The 16 values that a nibble can stand for; a permutation looks at the low 4 bits of its index only.
            let values = _mm512_mul_ps(scale, steps);
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(part::<16, _>(block, 2).as_ptr().cast()));
            let index = if v == 0 { bytes } else { _mm512_ror_epi32::<4>(bytes) };
            _mm512_permutexvar_ps(index, values)
        }
    }

    #[inline(always)]
    fn i8(self, block: &[u8; BLOCK], v: usize) -> __m512 {
        avx512! {
            let bytes = _mm_loadu_si128(part::<16, _>(block, v * LANES).as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
        }
    }

    #[inline(always)]
    fn i4(self, block: &[u8; BLOCK / 2], v: usize) -> __m512 {
        avx512! {
            let steps = _mm512_setr_ps(
                -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
            );
            // A permutation looks at the low 4 bits of its index only.
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(block.as_ptr().cast()));
            let index = if v == 0 { bytes } else { _mm512_srli_epi32::<4>(bytes) };
            _mm512_permutexvar_ps(index, steps)
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        avx512!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }

    #[inline(always)]
    fn exp2_int(self, a: __m512) -> __m512 {
        avx512! {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn copy_sign(self, a: __m512, sign: __m512) -> __m512 {
        avx512! {
            let bit = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(bit, a), _mm512_and_ps(bit, sign))
        }
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        avx512! {
            // Pairs of lanes of a and b, then of c and d; then all four; then the quarters of the register.
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let all = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
            let half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all));
            let sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
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

impl Avx512 {
    /// An f16 scale in all lanes.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    fn scale(self, bytes: [u8; 2]) -> __m512 {
        avx512!(_mm512_cvtph_ps(_mm256_set1_epi16(i16::from_le_bytes(bytes))))
    }
}
