//! [`Unpack`]: how a group of 4 blocks of a row becomes bytes to multiply and scales.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::vectors::avx2;
use crate::simd::Avx2;
use crate::simd::lanes::part;
use crate::simd::quantised::driver::stored::{Q4_0, Q4_1, Q5_0, Q8_0, Stored};

/// A format that is unpacked with AVX2. A pair is half a group: blocks 0 and 1 of it, or 2 and 3.
pub(in crate::simd::quantised) trait Unpack: Stored {
    /// The first 16 quants of each block of a pair, and the last 16.
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2];
    /// Scales of 4 rows, by pair: value `r` of lane `b` is that of block `b` of row `r`.
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2];
    /// What [`More`](crate::simd::quantised::driver::stored::More) says, in the same order.
    #[inline(always)]
    fn more(_: Avx2, _: [Self::Group<'_>; 4]) -> [__m256; 2] {
        [avx2!(_mm256_setzero_ps()); 2]
    }
}

impl Unpack for Q4_0 {
    #[inline(always)]
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2] {
        nibbles(simd, two(simd, group, pair * 36 + 2, 18))
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 18)
    }
}

impl Unpack for Q8_0 {
    #[inline(always)]
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2] {
        [two(simd, group, pair * 68 + 2, 34), two(simd, group, pair * 68 + 18, 34)]
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 34)
    }
}

impl Unpack for Q4_1 {
    #[inline(always)]
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2] {
        nibbles(simd, two(simd, group, pair * 40 + 4, 20))
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 20)
    }

    #[inline(always)]
    fn more(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 2, 20)
    }
}

impl Unpack for Q5_0 {
    #[inline(always)]
    fn quants(simd: Avx2, group: Self::Group<'_>, pair: usize) -> [__m256i; 2] {
        let mut quants = nibbles(simd, two(simd, group, pair * 44 + 6, 22));
        let bits = |block: usize| i32::from_le_bytes(*part(group, (2 * pair + block) * 22 + 2));
        let (a, b) = (bits(0), bits(1));
        for (half, quants) in quants.iter_mut().enumerate() {
            let byte = 2 * half as i8;
            avx2! {
                // Each of the two bytes with the bits of 16 values goes to the 8 bytes of its values.
                let words = _mm256_setr_epi32(a, 0, 0, 0, b, 0, 0, 0);
                let index = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
                let bytes = _mm256_shuffle_epi8(words, _mm256_add_epi8(index, _mm256_set1_epi8(byte)));
                let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
                let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
                *quants = _mm256_or_si256(*quants, _mm256_and_si256(set, _mm256_set1_epi8(16)));
            }
        }
        quants
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Group<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 22)
    }
}

/// 16 bytes from `first` on and 16 that begin `stride` bytes later.
#[inline(always)]
fn two<const N: usize>(_: Avx2, bytes: &[u8; N], first: usize, stride: usize) -> __m256i {
    avx2! {
        _mm256_set_m128i(
            _mm_loadu_si128(part::<16, _>(bytes, first + stride).as_ptr().cast()),
            _mm_loadu_si128(part::<16, _>(bytes, first).as_ptr().cast()),
        )
    }
}

/// The low nibbles, and the high ones.
#[inline(always)]
fn nibbles(_: Avx2, bytes: __m256i) -> [__m256i; 2] {
    avx2! {
        let mask = _mm256_set1_epi8(15);
        [_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask)]
    }
}

/// The f16 values at byte `first` of 4 blocks of `stride` bytes of 4 rows, in the order of [`Format::scales`].
#[inline(always)]
fn halves<const N: usize>(_: Avx2, rows: [&[u8; N]; 4], first: usize, stride: usize) -> [__m256; 2] {
    let mut words = [0; 16];
    for (i, word) in words.iter_mut().enumerate() {
        *word = i16::from_le_bytes(*part(rows[i % 4], first + i / 4 * stride));
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = words;
    let low = avx2!(_mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h)));
    let [a, b, c, d, e, f, g, h] = rest;
    [low, avx2!(_mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h)))]
}

/// Four f16 values, in both lanes.
#[inline(always)]
pub(super) fn values(_: Avx2, four: u64) -> __m256 {
    avx2! {
        let values = _mm_cvtph_ps(_mm_cvtsi64_si128(four.cast_signed()));
        _mm256_set_m128(values, values)
    }
}
