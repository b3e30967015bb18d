//! Rearrangements of registers that the kernels for few and for many inputs share.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::Avx512Vnni;

/// Rows of a panel: one a lane.
pub(super) const PANEL: usize = 16;

/// Calls intrinsics of the features that [`Avx512Vnni`] stands for, where a value of it is at hand.
macro_rules! vnni {
    ($($body:tt)*) => {
        // SAFETY: an `Avx512Vnni` at hand proves that the processor has the features. Every pointer below is made in the
        // same expression from a reference to exactly the bytes that the intrinsic reads or writes, and the intrinsics
        // used need no alignment.
        unsafe { $($body)* }
    };
}
pub(super) use vnni;

impl Avx512Vnni {
    /// Sums of the four 32-bit values in each 128-bit lane: value `r` of lane `b` is the sum of lane `b` of vector `r`.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    pub(super) fn lane_sums(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        vnni! {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        }
    }

    /// Transposes 4×4 values of 32 bits in each 128-bit lane.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    pub(super) fn transpose_in_lanes(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        vnni! {
            let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(low, low2),
                _mm512_unpackhi_epi64(low, low2),
                _mm512_unpacklo_epi64(high, high2),
                _mm512_unpackhi_epi64(high, high2),
            ]
        }
    }

    /// Transposes 4×4 lanes of 128 bits.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    pub(super) fn transpose_lanes(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        vnni! {
            let (low, high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
            let (low2, high2) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
            [
                _mm512_shuffle_i32x4::<0x88>(low, low2),
                _mm512_shuffle_i32x4::<0xdd>(low, low2),
                _mm512_shuffle_i32x4::<0x88>(high, high2),
                _mm512_shuffle_i32x4::<0xdd>(high, high2),
            ]
        }
    }

    /// Value `b` of four in all of lane `b`.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the features")]
    pub(super) fn spread(self, four: __m128i) -> __m512i {
        vnni! {
            let lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            _mm512_permutexvar_epi32(lanes, _mm512_castsi128_si512(four))
        }
    }
}
