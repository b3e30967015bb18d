//! [`Format`]: how a group of 4 blocks of a row becomes bytes to multiply and scales.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use super::Avx512Vnni;
use super::vectors::vnni;
use crate::simd::lanes::part;
use crate::simd::quantised::driver::stored::{Q4_0, Q4_1, Q5_0, Q8_0, Stored};

pub(super) use crate::simd::quantised::driver::stored::More;

/// A format that is unpacked with AVX-512.
pub(super) trait Format: Stored {
    /// A group as it is loaded.
    type Raw: Copy;

    /// Group `index` of a row.
    fn load(simd: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw;
    /// The first 16 quants of each of the 4 blocks, and the last 16: unsigned.
    fn quants(simd: Avx512Vnni, raw: Self::Raw) -> [__m512i; 2];
    /// Scales of 4 rows: value `r` of lane `b` is that of block `b` of row `r`.
    fn scales(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512;
    /// What [`More`] says, in the same order.
    #[inline(always)]
    fn more(_: Avx512Vnni, _: [Self::Raw; 4]) -> __m512 {
        vnni!(_mm512_setzero_ps())
    }
}

impl Format for Q4_0 {
    /// Bytes 0 to 63 and 8 to 71.
    type Raw = [__m512i; 2];

    #[inline(always)]
    fn load(_: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw {
        let group = Self::group(row, index);
        vnni! {
            [
                _mm512_loadu_si512(part::<64, _>(group, 0).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(group, 8).as_ptr().cast()),
            ]
        }
    }

    #[inline(always)]
    fn quants(simd: Avx512Vnni, [first, last]: Self::Raw) -> [__m512i; 2] {
        const INDEX: [u8; 64] = index(18, 2, 8);
        vnni! {
            let index = _mm512_loadu_si512(INDEX.as_ptr().cast());
            nibbles(simd, _mm512_permutex2var_epi8(first, index, last))
        }
    }

    #[inline(always)]
    fn scales(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        scales(simd, rows.map(|[first, _]| first), [0, 9, 18, 27])
    }
}

impl Format for Q8_0 {
    /// Bytes 0 to 63 and 64 to 127, 8 to 71 and 72 to 135.
    type Raw = [__m512i; 4];

    #[inline(always)]
    fn load(_: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw {
        let group = Self::group(row, index);
        vnni! {
            [
                _mm512_loadu_si512(part::<64, _>(group, 0).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(group, 64).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(group, 8).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(group, 72).as_ptr().cast()),
            ]
        }
    }

    #[inline(always)]
    fn quants(_: Avx512Vnni, [a, b, c, d]: Self::Raw) -> [__m512i; 2] {
        const FIRST: [u16; 32] = words(17, 1);
        const LAST: [u16; 32] = words(17, 5);
        vnni! {
            let sign = _mm512_set1_epi8(-128);
            let first = _mm512_permutex2var_epi16(a, _mm512_loadu_si512(FIRST.as_ptr().cast()), b);
            let last = _mm512_permutex2var_epi16(c, _mm512_loadu_si512(LAST.as_ptr().cast()), d);
            [_mm512_xor_si512(first, sign), _mm512_xor_si512(last, sign)]
        }
    }

    #[inline(always)]
    fn scales(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        // The scales are words 0 and 17 of the first vector, 2 and 19 of the second.
        const SECOND: u32 = 1 << 2 | 1 << 19;
        let mut both = rows.map(|[first, ..]| first);
        for (both, [_, second, ..]) in both.iter_mut().zip(rows) {
            *both = vnni!(_mm512_mask_blend_epi16(SECOND, *both, second));
        }
        scales(simd, both, [0, 17, 2, 19])
    }
}

impl Format for Q4_1 {
    /// Bytes 0 to 63 and 16 to 79.
    type Raw = [__m512i; 2];

    #[inline(always)]
    fn load(_: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw {
        let group = Self::group(row, index);
        vnni! {
            [
                _mm512_loadu_si512(part::<64, _>(group, 0).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(group, 16).as_ptr().cast()),
            ]
        }
    }

    #[inline(always)]
    fn quants(simd: Avx512Vnni, [first, last]: Self::Raw) -> [__m512i; 2] {
        const INDEX: [u8; 64] = index(20, 4, 16);
        vnni! {
            let index = _mm512_loadu_si512(INDEX.as_ptr().cast());
            nibbles(simd, _mm512_permutex2var_epi8(first, index, last))
        }
    }

    #[inline(always)]
    fn scales(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        scales(simd, rows.map(|[first, _]| first), [0, 10, 20, 30])
    }

    #[inline(always)]
    fn more(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        scales(simd, rows.map(|[first, _]| first), [1, 11, 21, 31])
    }
}

/// A group of [`Q5_0`].
#[derive(Clone, Copy)]
pub(super) struct RawQ5_0 {
    /// Bytes 0 to 63 and 24 to 87.
    bytes: [__m512i; 2],
    /// Fifth bits of the first 16 values of each block, and of the last 16.
    high: [u64; 2],
}

impl Format for Q5_0 {
    type Raw = RawQ5_0;

    #[inline(always)]
    fn load(_: Avx512Vnni, row: &[u8], index: usize) -> Self::Raw {
        let group = Self::group(row, index);
        let bits = |block: usize| u32::from_le_bytes(*part(group, block * 22 + 2));
        let bits = [bits(0), bits(1), bits(2), bits(3)];
        let (mut first, mut last) = (0, 0);
        for block in 0..4 {
            first |= u64::from(bits[block] & 0xffff) << (16 * block);
            last |= u64::from(bits[block] >> 16) << (16 * block);
        }
        let bytes = vnni! {
            [
                _mm512_loadu_si512(part::<64, _>(group, 0).as_ptr().cast()),
                _mm512_loadu_si512(part::<64, _>(group, 24).as_ptr().cast()),
            ]
        };
        RawQ5_0 { bytes, high: [first, last] }
    }

    #[inline(always)]
    fn quants(simd: Avx512Vnni, RawQ5_0 { bytes: [first, last], high }: Self::Raw) -> [__m512i; 2] {
        const INDEX: [u8; 64] = index(22, 6, 24);
        vnni! {
            let index = _mm512_loadu_si512(INDEX.as_ptr().cast());
            let [low, up] = nibbles(simd, _mm512_permutex2var_epi8(first, index, last));
            let bit = _mm512_set1_epi8(16);
            [_mm512_mask_add_epi8(low, high[0], low, bit), _mm512_mask_add_epi8(up, high[1], up, bit)]
        }
    }

    #[inline(always)]
    fn scales(simd: Avx512Vnni, rows: [Self::Raw; 4]) -> __m512 {
        // The scales are words 0, 11 and 22 of the first vector, and 21 of the second.
        let both = rows.map(|raw| raw.bytes);
        let mut words = both.map(|[first, _]| first);
        for (words, [_, second]) in words.iter_mut().zip(both) {
            *words = vnni!(_mm512_mask_blend_epi16(1 << 21, *words, second));
        }
        scales(simd, words, [0, 11, 22, 21])
    }
}

/// Where the 16 bytes from `offset` on of 4 blocks of `stride` bytes lie, in two vectors of 64 bytes of which the second
/// begins at byte `second`.
const fn index(stride: usize, offset: usize, second: usize) -> [u8; 64] {
    let mut index = [0; 64];
    let mut i = 0;
    while i < 64 {
        let byte = i / 16 * stride + offset + i % 16;
        index[i] = (if byte < 64 { byte } else { byte - second + 64 }) as u8;
        i += 1;
    }
    index
}

/// The numbers of 8 words from `offset` on of 4 blocks of `stride` words.
const fn words(stride: usize, offset: usize) -> [u16; 32] {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i] = (i / 8 * stride + offset + i % 8) as u16;
        i += 1;
    }
    words
}

/// The f16 values at `words` of 4 rows: value `r` of lane `b` is word `words[b]` of row `r`.
#[inline(always)]
fn scales(_: Avx512Vnni, [a, b, c, d]: [__m512i; 4], words: [u16; 4]) -> __m512 {
    let mut index = [0; 32];
    for lane in 0..4 {
        for row in 0..4 {
            index[lane * 4 + row] = words[lane] + row as u16 % 2 * 32;
        }
    }
    vnni! {
        let index = _mm512_loadu_si512(index.as_ptr().cast());
        let (ab, cd) = (_mm512_permutex2var_epi16(a, index, b), _mm512_permutex2var_epi16(c, index, d));
        let all = _mm512_mask_blend_epi16(0xcccc, ab, cd);
        _mm512_cvtph_ps(_mm512_castsi512_si256(all))
    }
}

/// The low nibbles, and the high ones.
#[inline(always)]
pub(super) fn nibbles(_: Avx512Vnni, bytes: __m512i) -> [__m512i; 2] {
    vnni! {
        let mask = _mm512_set1_epi8(15);
        [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
    }
}
