//! [`Unpack`] for the blocks of 256 values: a group is half a block.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::formats::{Unpack, values};
use super::vectors::avx2;
use crate::simd::Avx2;
use crate::simd::lanes::part;
use crate::simd::quantised::driver::stored::{Half, Q6K, SuperBlock};

impl<const BYTES: usize> Unpack for SuperBlock<BYTES> {
    #[inline(always)]
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2] {
        let mut quants = pair_of_nibbles(simd, group.block, Self::NIBBLES + 64 * group.half + 32 * pair);
        if let Some(fifth) = Self::FIFTH {
            for (half, quants) in quants.iter_mut().enumerate() {
                let high = twice(simd, group.block, fifth + 16 * half);
                // Bit `4 · half + 2 · pair + b` of a byte is the fifth of its value in lane `b`: it goes to bit 4.
                let left = 4 - 2 * pair as i32;
                avx2! {
                    let bits = _mm256_setr_epi32(left, left, left, left, left - 1, left - 1, left - 1, left - 1);
                    let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(4 * group.half as i32));
                    let high = _mm256_and_si256(_mm256_sllv_epi32(high, bits), _mm256_set1_epi8(16));
                    *quants = _mm256_or_si256(*quants, high);
                }
            }
        }
        quants
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        let [a, b, c, d] = rows;
        products(simd, Half::factors(rows, 0), [a.steps()[0], b.steps()[0], c.steps()[0], d.steps()[0]])
    }

    #[inline(always)]
    fn more(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        let [a, b, c, d] = rows;
        let steps = [a.steps()[1], b.steps()[1], c.steps()[1], d.steps()[1]];
        let [low, high] = products(simd, Half::factors(rows, 2), steps);
        avx2!([_mm256_sub_ps(_mm256_setzero_ps(), low), _mm256_sub_ps(_mm256_setzero_ps(), high)])
    }
}

/// Factor `r` (f16) times byte `2p + b` of step `r`, as value `r` of lane `b` of vector `p`.
#[inline(always)]
fn products(simd: Avx2, factors: u64, [a, b, c, d]: [u32; 4]) -> [__m256; 2] {
    let factors = values(simd, factors);
    avx2! {
        let rows = _mm_setr_epi32(a.cast_signed(), b.cast_signed(), c.cast_signed(), d.cast_signed());
        let blocks = _mm_shuffle_epi8(rows, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        let low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(blocks));
        let high = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(blocks)));
        [_mm256_mul_ps(factors, low), _mm256_mul_ps(factors, high)]
    }
}

/// 16 bytes from `first` on, twice.
#[inline(always)]
fn twice<const N: usize>(_: Avx2, bytes: &[u8; N], first: usize) -> __m256i {
    avx2!(_mm256_broadcastsi128_si256(_mm_loadu_si128(part::<16, _>(bytes, first).as_ptr().cast())))
}

/// The low nibbles of 32 bytes are the first block of a pair, the high ones the second.
#[inline(always)]
fn pair_of_nibbles<const N: usize>(simd: Avx2, bytes: &[u8; N], first: usize) -> [__m256i; 2] {
    let (first, last) = (twice(simd, bytes, first), twice(simd, bytes, first + 16));
    avx2! {
        let shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
        let mask = _mm256_set1_epi8(15);
        [
            _mm256_and_si256(_mm256_srlv_epi32(first, shift), mask),
            _mm256_and_si256(_mm256_srlv_epi32(last, shift), mask),
        ]
    }
}

impl Unpack for Q6K {
    #[inline(always)]
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2] {
        let low: &[u8; 64] = part(group.block, 64 * group.half);
        let mut quants = [avx2!(_mm256_setzero_si256()); 2];
        for (half, quants) in quants.iter_mut().enumerate() {
            let up = twice(simd, group.block, 128 + 32 * group.half + 16 * half);
            *quants = avx2! {
                let low = _mm256_set_m128i(
                    _mm_loadu_si128(part::<16, _>(low, 32 + 16 * half).as_ptr().cast()),
                    _mm_loadu_si128(part::<16, _>(low, 16 * half).as_ptr().cast()),
                );
                // The second pair has the high nibbles. The upper two bits of block `k` are bits `2 · k ..` of a byte:
                // they go to bits 4 and 5.
                let (low, up) = if pair == 0 {
                    (low, _mm256_sllv_epi32(up, _mm256_setr_epi32(4, 4, 4, 4, 2, 2, 2, 2)))
                } else {
                    let right = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2);
                    (_mm256_srli_epi16::<4>(low), _mm256_srlv_epi32(up, right))
                };
                let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
                _mm256_or_si256(low, _mm256_and_si256(up, _mm256_set1_epi8(0x30)))
            };
        }
        quants
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        signed_products::<0>(simd, rows)
    }

    #[inline(always)]
    fn more(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        signed_products::<1>(simd, rows)
    }
}

/// The scales of the first (`PART` 0) or last 16 values of each block.
#[inline(always)]
fn signed_products<const PART: i8>(simd: Avx2, rows: [Half<'_, 210>; 4]) -> [__m256; 2] {
    let factors = values(simd, Half::factors(rows, 208));
    let [a, b, c, d] = rows;
    let (ab, cd) = ([a.signed_steps(), b.signed_steps()], [c.signed_steps(), d.signed_steps()]);
    avx2! {
        // Byte `2 · b + PART` of each row, for block `b`: of two rows beside each other.
        let index = _mm_add_epi8(
            _mm_setr_epi8(0, 8, 2, 10, 4, 12, 6, 14, 0, 8, 2, 10, 4, 12, 6, 14),
            _mm_set1_epi8(PART),
        );
        let ab = _mm_shuffle_epi8(_mm_set_epi64x(ab[1].cast_signed(), ab[0].cast_signed()), index);
        let cd = _mm_shuffle_epi8(_mm_set_epi64x(cd[1].cast_signed(), cd[0].cast_signed()), index);
        let blocks = _mm_unpacklo_epi16(ab, cd);
        let low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(blocks));
        let high = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(blocks)));
        [_mm256_mul_ps(factors, low), _mm256_mul_ps(factors, high)]
    }
}
