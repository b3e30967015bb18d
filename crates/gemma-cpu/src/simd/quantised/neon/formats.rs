//! [`Format`]: how a stored block becomes 8-bit values and a scale, one type for each block format.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use super::vectors::{Quants, load, neon};
use crate::simd::Neon;
use crate::simd::lanes::part;

/// A stored block format.
pub(in crate::simd::quantised) trait Format: Copy + 'static {
    /// A block of 32 values.
    type Block: Copy + 'static;

    /// The blocks of a row.
    fn blocks(row: &[u8]) -> &[Self::Block];
    /// What the scale multiplies.
    fn quants(simd: Neon, block: &Self::Block) -> Quants;
    /// The bits of the scale, an f16 value.
    fn scale(block: &Self::Block) -> u16;
}

/// See [`gemma_hal::block::BlockQ4_0`].
#[derive(Clone, Copy)]
pub(super) struct Q4_0;

impl Format for Q4_0 {
    type Block = [u8; 18];

    #[inline(always)]
    fn blocks(row: &[u8]) -> &[Self::Block] {
        row.as_chunks().0
    }

    #[inline(always)]
    fn quants(_: Neon, block: &Self::Block) -> Quants {
        neon! {
            let bytes = vld1q_u8(part::<16, _>(block, 2).as_ptr());
            let eight = vdupq_n_s8(8);
            let low = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
            let high = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
            [vsubq_s8(low, eight), vsubq_s8(high, eight)]
        }
    }

    #[inline(always)]
    fn scale(block: &Self::Block) -> u16 {
        u16::from_le_bytes(*part(block, 0))
    }
}

/// See [`gemma_hal::block::BlockQ8_0`].
#[derive(Clone, Copy)]
pub(super) struct Q8_0;

impl Format for Q8_0 {
    type Block = [u8; 34];

    #[inline(always)]
    fn blocks(row: &[u8]) -> &[Self::Block] {
        row.as_chunks().0
    }

    #[inline(always)]
    fn quants(simd: Neon, block: &Self::Block) -> Quants {
        let quants: &[u8; 32] = part(block, 2);
        load(simd, bytemuck::cast_ref::<_, [i8; 32]>(quants).as_chunks().0)
    }

    #[inline(always)]
    fn scale(block: &Self::Block) -> u16 {
        u16::from_le_bytes(*part(block, 0))
    }
}

/// f16 values.
#[inline(always)]
pub(super) fn widen(_: Neon, bits: [u16; 4]) -> float32x4_t {
    neon!(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits.as_ptr()))))
}
