//! [`Stored`]: where the parts of a block format lie, one type for each format, alike for every instruction set.
//!
//! A group is 4 blocks of 32 values. Kernels unpack groups; nothing here does.

use crate::simd::lanes::part;

/// A stored block format.
pub(in crate::simd::quantised) trait Stored: Copy + 'static {
    /// Bytes of a group; of half a block, where that has 256 values.
    const GROUP_BYTES: usize;
    /// Quants are signed bytes. Others are unsigned, and below 64.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "for products of unsigned bytes"))]
    const SIGNED: bool = false;
    /// Quants are stored as what they stand for, plus this power of two; signed ones are so once they are unsigned.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "for products of unsigned bytes"))]
    const OFFSET_LOG2: Option<u32> = None;
    /// The largest magnitude of a stored quant.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "for products of unsigned bytes"))]
    const LARGEST: i32;
    /// How many sums of two products with inputs of at most 127 add up to less than 2^15.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "for products of unsigned bytes"))]
    const EXACT_STEPS: usize = (i16::MAX as usize) / (2 * 127 * Self::LARGEST as usize);
    /// What a block of 32 values has besides its scale.
    const MORE: More = More::Nothing;
    /// Where a group lies.
    type Group<'a>: Copy;

    /// Group `index` of a row.
    fn group(row: &[u8], index: usize) -> Self::Group<'_>;
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
pub(in crate::simd::quantised) struct Q4_0;

impl Stored for Q4_0 {
    const GROUP_BYTES: usize = 72;
    const OFFSET_LOG2: Option<u32> = Some(3);
    const LARGEST: i32 = 15;
    type Group<'a> = &'a [u8; 72];

    #[inline(always)]
    fn group(row: &[u8], index: usize) -> Self::Group<'_> {
        part(row, index * 72)
    }
}

/// See [`gemma_hal::block::BlockQ8_0`].
#[derive(Clone, Copy)]
pub(in crate::simd::quantised) struct Q8_0;

impl Stored for Q8_0 {
    const GROUP_BYTES: usize = 136;
    const SIGNED: bool = true;
    const OFFSET_LOG2: Option<u32> = Some(7);
    const LARGEST: i32 = 128;
    type Group<'a> = &'a [u8; 136];

    #[inline(always)]
    fn group(row: &[u8], index: usize) -> Self::Group<'_> {
        part(row, index * 136)
    }
}

/// See [`gemma_hal::block::BlockQ4_1`].
#[derive(Clone, Copy)]
pub(in crate::simd::quantised) struct Q4_1;

impl Stored for Q4_1 {
    const GROUP_BYTES: usize = 80;
    const LARGEST: i32 = 15;
    const MORE: More = More::Minimum;
    type Group<'a> = &'a [u8; 80];

    #[inline(always)]
    fn group(row: &[u8], index: usize) -> Self::Group<'_> {
        part(row, index * 80)
    }
}

/// See [`gemma_hal::block::BlockQ5_0`].
#[derive(Clone, Copy)]
pub(in crate::simd::quantised) struct Q5_0;

impl Stored for Q5_0 {
    const GROUP_BYTES: usize = 88;
    const OFFSET_LOG2: Option<u32> = Some(4);
    const LARGEST: i32 = 31;
    type Group<'a> = &'a [u8; 88];

    #[inline(always)]
    fn group(row: &[u8], index: usize) -> Self::Group<'_> {
        part(row, index * 88)
    }
}

/// A block of 256 values in `BYTES` bytes with scales and minima of 6 bits: the header, where quants have a fifth bit
/// those of all, then the nibbles.
#[derive(Clone, Copy)]
pub(in crate::simd::quantised) struct SuperBlock<const BYTES: usize>;

/// See [`gemma_hal::block::BlockQ4K`].
pub(in crate::simd::quantised) type Q4K = SuperBlock<144>;

/// See [`gemma_hal::block::BlockQ5K`].
pub(in crate::simd::quantised) type Q5K = SuperBlock<176>;

impl<const BYTES: usize> SuperBlock<BYTES> {
    /// Where the nibbles begin.
    pub(in crate::simd::quantised) const NIBBLES: usize = BYTES - 128;
    /// Where the fifth bits begin, if there are any.
    pub(in crate::simd::quantised) const FIFTH: Option<usize> =
        if Self::NIBBLES > 16 { Some(16) } else { None };
}

impl<const BYTES: usize> Stored for SuperBlock<BYTES> {
    const GROUP_BYTES: usize = BYTES / 2;
    const LARGEST: i32 = if Self::FIFTH.is_some() { 31 } else { 15 };
    const MORE: More = More::Minimum;
    type Group<'a> = Half<'a, BYTES>;

    #[inline(always)]
    fn group(row: &[u8], index: usize) -> Self::Group<'_> {
        Half::of(row, index)
    }
}

/// See [`gemma_hal::block::BlockQ6K`].
#[derive(Clone, Copy)]
pub(in crate::simd::quantised) struct Q6K;

impl Stored for Q6K {
    const GROUP_BYTES: usize = 105;
    const OFFSET_LOG2: Option<u32> = Some(5);
    const LARGEST: i32 = 63;
    const MORE: More = More::Scale;
    type Group<'a> = Half<'a, 210>;

    #[inline(always)]
    fn group(row: &[u8], index: usize) -> Self::Group<'_> {
        Half::of(row, index)
    }
}

/// Half `half` of a block of 256 values in `N` bytes.
#[derive(Clone, Copy)]
pub(in crate::simd::quantised) struct Half<'a, const N: usize> {
    pub(in crate::simd::quantised) block: &'a [u8; N],
    pub(in crate::simd::quantised) half: usize,
}

impl<'a, const N: usize> Half<'a, N> {
    #[inline(always)]
    fn of(row: &'a [u8], index: usize) -> Self {
        Self { block: part(row, index / 2 * N), half: index % 2 }
    }

    /// The bits of the f16 value at `byte`.
    #[inline(always)]
    pub(in crate::simd::quantised) fn factor(self, byte: usize) -> u16 {
        u16::from_le_bytes(*part(self.block, byte))
    }

    #[inline(always)]
    fn word(self, byte: usize) -> u32 {
        u32::from_le_bytes(*part(self.block, byte))
    }

    /// Scales and minima of the 4 blocks of 32 values of a [`SuperBlock`], 6 bits a byte, the first block in the lowest.
    #[inline(always)]
    pub(in crate::simd::quantised) fn steps(self) -> [u32; 2] {
        let (a, b, c) = (self.word(4), self.word(8), self.word(12));
        if self.half == 0 {
            [a & 0x3f3f_3f3f, b & 0x3f3f_3f3f]
        } else {
            [c & 0x0f0f_0f0f | a >> 2 & 0x3030_3030, c >> 4 & 0x0f0f_0f0f | b >> 2 & 0x3030_3030]
        }
    }

    /// [`Half::factor`] of four rows, the first in the lowest bits. No closure: it might not be compiled into its caller.
    #[inline(always)]
    pub(in crate::simd::quantised) fn factors([a, b, c, d]: [Self; 4], byte: usize) -> u64 {
        let four = [a.factor(byte), b.factor(byte), c.factor(byte), d.factor(byte)];
        u64::from(four[0]) | u64::from(four[1]) << 16 | u64::from(four[2]) << 32 | u64::from(four[3]) << 48
    }
}

impl Half<'_, 210> {
    /// Scales of 16 values each of a [`Q6K`], signed bytes.
    #[inline(always)]
    pub(in crate::simd::quantised) fn signed_steps(self) -> u64 {
        u64::from_le_bytes(*part(self.block, 192 + 8 * self.half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_16_bits_hold_as_many_products_as_they_can() {
        let steps = [
            (Q4_0::EXACT_STEPS, Q4_0::LARGEST),
            (Q5_0::EXACT_STEPS, Q5_0::LARGEST),
            (Q6K::EXACT_STEPS, Q6K::LARGEST),
            (Q8_0::EXACT_STEPS, Q8_0::LARGEST),
        ];
        for (steps, largest) in steps {
            let sum = |steps: usize| steps as i32 * 2 * 127 * largest;
            assert!(steps > 0 && sum(steps) <= i32::from(i16::MAX) && sum(steps + 1) > i32::from(i16::MAX));
        }
    }
}
