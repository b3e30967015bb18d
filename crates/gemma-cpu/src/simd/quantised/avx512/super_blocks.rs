//! [`Format`] for the blocks of 256 values: a group is half a block.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::Avx512Vnni;
use super::formats::Format;
use super::vectors::vnni;
use crate::simd::lanes::part;
use crate::simd::quantised::driver::stored::{Q6K, Stored, SuperBlock};

/// f16 factors of 4 rows in each lane.
#[inline(always)]
fn factors(_: Avx512Vnni, [a, b, c, d]: [u16; 4]) -> __m512 {
    let four = u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48;
    vnni!(_mm512_broadcast_f32x4(_mm_cvtph_ps(_mm_cvtsi64_si128(four.cast_signed()))))
}

/// `factors[r]` times byte `b` of `steps[r]`, as value `r` of lane `b`.
#[inline(always)]
fn products(simd: Avx512Vnni, by_row: [u16; 4], [a, b, c, d]: [u32; 4]) -> __m512 {
    let (low, high) = (u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32);
    vnni! {
        let rows = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
        let blocks = _mm_shuffle_epi8(rows, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        let steps = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(blocks));
        _mm512_mul_ps(factors(simd, by_row), steps)
    }
}

/// Nibbles of 64 bytes in the order of their values: the first 16 of each block, and the last 16.
#[inline(always)]
fn pairs(_: Avx512Vnni, bytes: __m512i) -> [__m512i; 2] {
    // Blocks 1 and 3, in lanes 1 and 3, are the high nibbles of blocks 0 and 2.
    const HIGH: u32 = 0xff00_ff00;
    vnni! {
        let mask = _mm512_set1_epi8(15);
        let first = _mm512_shuffle_i32x4::<0xa0>(bytes, bytes);
        let last = _mm512_shuffle_i32x4::<0xf5>(bytes, bytes);
        [
            _mm512_and_si512(_mm512_mask_srli_epi16::<4>(first, HIGH, first), mask),
            _mm512_and_si512(_mm512_mask_srli_epi16::<4>(last, HIGH, last), mask),
        ]
    }
}

/// A group of a [`SuperBlock`].
#[derive(Clone, Copy)]
pub(super) struct RawSuperBlock {
    /// f16: the scale of scales, and of minima.
    factors: [u16; 2],
    /// Scales and minima of 4 blocks, before they meet the scale of all.
    steps: [u32; 2],
    nibbles: __m512i,
    /// Fifth bits of the first 16 values of 8 blocks, and of the last 16, if there are any.
    high: [__m128i; 2],
    half: usize,
}

impl<const BYTES: usize> Format for SuperBlock<BYTES> {
    type Raw = RawSuperBlock;

    #[inline(always)]
    fn load(_: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw {
        let group = Self::group(row, index);
        let nibbles: &[u8; 64] = part(group.block, Self::NIBBLES + 64 * group.half);
        let mut high = [vnni!(_mm_setzero_si128()); 2];
        if let Some(fifth) = Self::FIFTH {
            for half in 0..2 {
                let bits: &[u8; 16] = part(group.block, fifth + 16 * half);
                high[half] = vnni!(_mm_loadu_si128(bits.as_ptr().cast()));
            }
        }
        RawSuperBlock {
            factors: [group.factor(0), group.factor(2)],
            steps: group.steps(),
            nibbles: vnni!(_mm512_loadu_si512(nibbles.as_ptr().cast())),
            high,
            half: group.half,
        }
    }

    #[inline(always)]
    fn quants(simd: Avx512Vnni, raw: Self::Raw) -> [__m512i; 2] {
        let mut quants = pairs(simd, raw.nibbles);
        if Self::FIFTH.is_some() {
            for (quants, high) in quants.iter_mut().zip(raw.high) {
                vnni! {
                    // Bit `4 · half + b` in lane `b`.
                    let bits = _mm512_setr_epi32(
                        0x0101_0101, 0x0101_0101, 0x0101_0101, 0x0101_0101,
                        0x0202_0202, 0x0202_0202, 0x0202_0202, 0x0202_0202,
                        0x0404_0404, 0x0404_0404, 0x0404_0404, 0x0404_0404,
                        0x0808_0808, 0x0808_0808, 0x0808_0808, 0x0808_0808,
                    );
                    let bits = _mm512_sll_epi16(bits, _mm_cvtsi32_si128(4 * raw.half as i32));
                    let set = _mm512_test_epi8_mask(_mm512_broadcast_i32x4(high), bits);
                    *quants = _mm512_mask_add_epi8(*quants, set, *quants, _mm512_set1_epi8(16));
                }
            }
        }
        quants
    }

    #[inline(always)]
    fn scales(simd: Avx512Vnni, [a, b, c, d]: [Self::Raw; 4]) -> __m512 {
        let factors = [a.factors[0], b.factors[0], c.factors[0], d.factors[0]];
        products(simd, factors, [a.steps[0], b.steps[0], c.steps[0], d.steps[0]])
    }

    #[inline(always)]
    fn more(simd: Avx512Vnni, [a, b, c, d]: [Self::Raw; 4]) -> __m512 {
        let factors = [a.factors[1], b.factors[1], c.factors[1], d.factors[1]];
        let minima = products(simd, factors, [a.steps[1], b.steps[1], c.steps[1], d.steps[1]]);
        vnni!(_mm512_sub_ps(_mm512_setzero_ps(), minima))
    }
}

/// A group of [`Q6K`].
#[derive(Clone, Copy)]
pub(super) struct RawQ6K {
    low: __m512i,
    high: __m256i,
    /// Scales of 16 values each.
    scales: u64,
    /// f16.
    factor: u16,
}

impl Format for Q6K {
    type Raw = RawQ6K;

    #[inline(always)]
    fn load(_: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw {
        let group = Self::group(row, index);
        let low: &[u8; 64] = part(group.block, 64 * group.half);
        let high: &[u8; 32] = part(group.block, 128 + 32 * group.half);
        RawQ6K {
            low: vnni!(_mm512_loadu_si512(low.as_ptr().cast())),
            high: vnni!(_mm256_loadu_si256(high.as_ptr().cast())),
            scales: group.signed_steps(),
            factor: group.factor(208),
        }
    }

    #[inline(always)]
    fn quants(_: Avx512Vnni, raw: Self::Raw) -> [__m512i; 2] {
        // Blocks 2 and 3 are the high nibbles of blocks 0 and 1.
        const HIGH: u32 = 0xffff_0000;
        vnni! {
            let (nibble, two) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
            let first = _mm512_shuffle_i32x4::<0x88>(raw.low, raw.low);
            let last = _mm512_shuffle_i32x4::<0xdd>(raw.low, raw.low);
            // The upper two bits of block `b` are bits `2 · b ..`: they go to bits 4 and 5.
            let (zero, up) = (_mm512_setzero_si512(), [
                _mm512_broadcast_i32x4(_mm256_castsi256_si128(raw.high)),
                _mm512_broadcast_i32x4(_mm256_extracti128_si256::<1>(raw.high)),
            ]);
            let left = _mm512_setr_epi32(0x4_0004, 0x4_0004, 0x4_0004, 0x4_0004, 0x2_0002, 0x2_0002, 0x2_0002, 0x2_0002, 0, 0, 0, 0, 0, 0, 0, 0);
            let right = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2_0002, 0x2_0002, 0x2_0002, 0x2_0002);
            let mut out = [zero; 2];
            for (out, (low, up)) in out.iter_mut().zip([(first, up[0]), (last, up[1])]) {
                let low = _mm512_and_si512(_mm512_mask_srli_epi16::<4>(low, HIGH, low), nibble);
                let up = _mm512_srlv_epi16(_mm512_sllv_epi16(up, left), right);
                *out = _mm512_or_si512(low, _mm512_and_si512(up, two));
            }
            out
        }
    }

    #[inline(always)]
    fn scales(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        signed_products::<0>(simd, rows)
    }

    #[inline(always)]
    fn more(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        signed_products::<1>(simd, rows)
    }
}

/// The scale of the first (`PART` 0) or last 16 values of each block.
#[inline(always)]
fn signed_products<const PART: u8>(simd: Avx512Vnni, [a, b, c, d]: [RawQ6K; 4]) -> __m512 {
    // Byte `2 · b + PART` of row `r`, for value `r` of lane `b`.
    let mut index = [0; 16];
    for (i, index) in index.iter_mut().enumerate() {
        *index = (i % 4 * 8 + i / 4 * 2) as u8 + PART;
    }
    let bytes = [a.scales, b.scales, c.scales, d.scales].map(u64::cast_signed);
    vnni! {
        let rows = _mm256_set_epi64x(bytes[3], bytes[2], bytes[1], bytes[0]);
        let index = _mm256_castsi128_si256(_mm_loadu_si128(index.as_ptr().cast()));
        let steps = _mm256_castsi256_si128(_mm256_permutexvar_epi8(index, rows));
        let steps = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(steps));
        _mm512_mul_ps(factors(simd, [a.factor, b.factor, c.factor, d.factor]), steps)
    }
}
