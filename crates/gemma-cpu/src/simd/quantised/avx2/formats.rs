//! [`Format`]: how a group of 4 blocks of a row becomes bytes to multiply and scales, one type for each block format.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::vectors::avx2;
use crate::simd::Avx2;
use crate::simd::lanes::part;

/// A stored block format. A pair is half a group: blocks 0 and 1 of it, or 2 and 3.
pub(in crate::simd::quantised) trait Format: Copy + 'static {
    /// Bytes of a group; of half a block, where that has 256 values.
    const GROUP_BYTES: usize;
    /// Unpacked quants are signed. Others are unsigned, and below 64.
    const SIGNED: bool = false;
    /// Unpacked quants are what they stand for, plus this power of two.
    const OFFSET_LOG2: Option<i32>;
    /// How many sums of two products with inputs of at most 127 add up to less than 2^15.
    const EXACT_STEPS: usize;
    /// What a block of 32 values has besides its scale.
    const MORE: More = More::Nothing;
    /// Where a group lies.
    type Raw<'a>: Copy;

    /// Group `index` of a row.
    fn load(row: &[u8], index: usize) -> Self::Raw<'_>;
    /// The first 16 quants of each block of a pair, and the last 16.
    fn quants(simd: Avx2, raw: Self::Raw<'_>, pair: usize) -> [__m256i; 2];
    /// Scales of 4 rows, by pair: value `r` of lane `b` is that of block `b` of row `r`.
    fn scales(simd: Avx2, rows: [Self::Raw<'_>; 4]) -> [__m256; 2];
    /// What [`More`] says, in the same order.
    #[inline(always)]
    fn more(_: Avx2, _: [Self::Raw<'_>; 4]) -> [__m256; 2] {
        [avx2!(_mm256_setzero_ps()); 2]
    }
}

/// What a block of 32 values may have besides a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simd::quantised) enum More {
    /// No more.
    Nothing,
    /// A number that is added to each of its values.
    Minimum,
    /// A scale for its last 16 values; the other one is for the first 16 only.
    Scale,
}

/// See [`gemma_hal::block::BlockQ4_0`].
#[derive(Clone, Copy)]
pub(super) struct Q4_0;

impl Format for Q4_0 {
    const GROUP_BYTES: usize = 72;
    const OFFSET_LOG2: Option<i32> = Some(3);
    const EXACT_STEPS: usize = 8;
    type Raw<'a> = &'a [u8; 72];

    #[inline(always)]
    fn load(row: &[u8], index: usize) -> Self::Raw<'_> {
        part(row, index * 72)
    }

    #[inline(always)]
    fn quants(simd: Avx2, raw: Self::Raw<'_>, pair: usize) -> [__m256i; 2] {
        nibbles(simd, two(simd, raw, pair * 36 + 2, 18))
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Raw<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 18)
    }
}

/// See [`gemma_hal::block::BlockQ8_0`].
#[derive(Clone, Copy)]
pub(super) struct Q8_0;

impl Format for Q8_0 {
    const GROUP_BYTES: usize = 136;
    const SIGNED: bool = true;
    const OFFSET_LOG2: Option<i32> = None;
    const EXACT_STEPS: usize = 1;
    type Raw<'a> = &'a [u8; 136];

    #[inline(always)]
    fn load(row: &[u8], index: usize) -> Self::Raw<'_> {
        part(row, index * 136)
    }

    #[inline(always)]
    fn quants(simd: Avx2, raw: Self::Raw<'_>, pair: usize) -> [__m256i; 2] {
        [two(simd, raw, pair * 68 + 2, 34), two(simd, raw, pair * 68 + 18, 34)]
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Raw<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 34)
    }
}

/// See [`gemma_hal::block::BlockQ4_1`].
#[derive(Clone, Copy)]
pub(super) struct Q4_1;

impl Format for Q4_1 {
    const GROUP_BYTES: usize = 80;
    const OFFSET_LOG2: Option<i32> = None;
    const EXACT_STEPS: usize = 8;
    const MORE: More = More::Minimum;
    type Raw<'a> = &'a [u8; 80];

    #[inline(always)]
    fn load(row: &[u8], index: usize) -> Self::Raw<'_> {
        part(row, index * 80)
    }

    #[inline(always)]
    fn quants(simd: Avx2, raw: Self::Raw<'_>, pair: usize) -> [__m256i; 2] {
        nibbles(simd, two(simd, raw, pair * 40 + 4, 20))
    }

    #[inline(always)]
    fn scales(simd: Avx2, rows: [Self::Raw<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 0, 20)
    }

    #[inline(always)]
    fn more(simd: Avx2, rows: [Self::Raw<'_>; 4]) -> [__m256; 2] {
        halves(simd, rows, 2, 20)
    }
}

/// See [`gemma_hal::block::BlockQ5_0`].
#[derive(Clone, Copy)]
pub(super) struct Q5_0;

impl Format for Q5_0 {
    const GROUP_BYTES: usize = 88;
    const OFFSET_LOG2: Option<i32> = Some(4);
    const EXACT_STEPS: usize = 4;
    type Raw<'a> = &'a [u8; 88];

    #[inline(always)]
    fn load(row: &[u8], index: usize) -> Self::Raw<'_> {
        part(row, index * 88)
    }

    #[inline(always)]
    fn quants(simd: Avx2, raw: Self::Raw<'_>, pair: usize) -> [__m256i; 2] {
        let mut quants = nibbles(simd, two(simd, raw, pair * 44 + 6, 22));
        let bits = |block: usize| i32::from_le_bytes(*part(raw, (2 * pair + block) * 22 + 2));
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
    fn scales(simd: Avx2, rows: [Self::Raw<'_>; 4]) -> [__m256; 2] {
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
pub(super) fn values(_: Avx2, [a, b, c, d]: [i16; 4]) -> __m256 {
    avx2!(_mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, a, b, c, d)))
}
