//! [`Unpack`] for the blocks of 256 values: a group is half a block.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use super::formats::{Unpack, less, signed};
use super::vectors::{Quants, neon};
use crate::simd::Neon;
use crate::simd::lanes::part;
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::driver::stored::{Half, Q6K, SuperBlock};

impl<const BYTES: usize> Unpack for SuperBlock<BYTES> {
    #[inline(always)]
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants {
        // Odd blocks are the high nibbles of even ones.
        let start = Self::NIBBLES + 64 * group.half + block / 2 * 32;
        let mut quants = bits(simd, part(group.block, start), 4 * (block % 2), 15);
        if let Some(fifth) = Self::FIFTH {
            let high = bits(simd, part(group.block, fifth), 4 * group.half + block, 1);
            for half in 0..2 {
                quants[half] = neon!(vorrq_u8(quants[half], vshlq_n_u8::<4>(high[half])));
            }
        }
        signed(simd, quants)
    }

    #[inline(always)]
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        let [a, b, c, d] = rows;
        let steps = [a.steps()[0], b.steps()[0], c.steps()[0], d.steps()[0]];
        products(simd, Half::factors(rows, 0), by_block(simd, steps))
    }

    #[inline(always)]
    fn more(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        let [a, b, c, d] = rows;
        let steps = [a.steps()[1], b.steps()[1], c.steps()[1], d.steps()[1]];
        let minima = products(simd, Half::factors(rows, 2), by_block(simd, steps));
        neon!([vnegq_f32(minima[0]), vnegq_f32(minima[1]), vnegq_f32(minima[2]), vnegq_f32(minima[3])])
    }
}

impl Unpack for Q6K {
    #[inline(always)]
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants {
        // Blocks 2 and 3 are the high nibbles of blocks 0 and 1; the upper two bits of block `b` are bits `2 · b ..`.
        let start = 64 * group.half + block % 2 * 32;
        let mut quants = bits(simd, part(group.block, start), block / 2 * 4, 15);
        let high = bits(simd, part(group.block, 128 + 32 * group.half), 2 * block, 3);
        for half in 0..2 {
            quants[half] = neon!(vorrq_u8(quants[half], vshlq_n_u8::<4>(high[half])));
        }
        less::<32>(simd, quants)
    }

    #[inline(always)]
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        signed_products::<0>(simd, rows)
    }

    #[inline(always)]
    fn more(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        signed_products::<1>(simd, rows)
    }
}

/// The bits of `mask` of 32 bytes, from bit `first` on.
#[inline(always)]
fn bits(_: Neon, bytes: &[u8; 32], first: usize, mask: u8) -> [uint8x16_t; 2] {
    neon! {
        let (right, mask) = (vdupq_n_s8(-(first as i8)), vdupq_n_u8(mask));
        [
            vandq_u8(vshlq_u8(vld1q_u8(part::<16, _>(bytes, 0).as_ptr()), right), mask),
            vandq_u8(vshlq_u8(vld1q_u8(part::<16, _>(bytes, 16).as_ptr()), right), mask),
        ]
    }
}

/// Byte `b` of row `r` as byte `4b + r`.
#[inline(always)]
fn by_block(_: Neon, rows: [u32; 4]) -> int8x16_t {
    const INDEX: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    neon! {
        let rows = vreinterpretq_s8_u32(vld1q_u32(rows.as_ptr()));
        vqtbl1q_s8(rows, vld1q_u8(INDEX.as_ptr()))
    }
}

/// Factor `r` (f16) times byte `4b + r`, as value `r` of vector `b`.
#[inline(always)]
fn products(_: Neon, factors: u64, steps: int8x16_t) -> [float32x4_t; CHAINS] {
    neon! {
        let factors = vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(factors)));
        let (low, high) = (vmovl_s8(vget_low_s8(steps)), vmovl_high_s8(steps));
        [
            vmulq_f32(factors, vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)))),
            vmulq_f32(factors, vcvtq_f32_s32(vmovl_high_s16(low))),
            vmulq_f32(factors, vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)))),
            vmulq_f32(factors, vcvtq_f32_s32(vmovl_high_s16(high))),
        ]
    }
}

/// The scale of the first (`PART` 0) or last 16 values of each block.
#[inline(always)]
fn signed_products<const PART: u8>(simd: Neon, rows: [Half<'_, 210>; 4]) -> [float32x4_t; CHAINS] {
    const INDEX: [u8; 16] = [0, 8, 16, 24, 2, 10, 18, 26, 4, 12, 20, 28, 6, 14, 22, 30];
    let [a, b, c, d] = rows;
    let (ab, cd) = ([a.signed_steps(), b.signed_steps()], [c.signed_steps(), d.signed_steps()]);
    let steps = neon! {
        let index = vaddq_u8(vld1q_u8(INDEX.as_ptr()), vdupq_n_u8(PART));
        let rows = [vld1q_u64(ab.as_ptr()), vld1q_u64(cd.as_ptr())];
        vqtbl2q_s8(int8x16x2_t(vreinterpretq_s8_u64(rows[0]), vreinterpretq_s8_u64(rows[1])), index)
    };
    products(simd, Half::factors(rows, 208), steps)
}
