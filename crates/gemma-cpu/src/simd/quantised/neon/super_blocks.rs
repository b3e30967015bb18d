//! [`Unpack`] for the blocks of 256 values: a group is half a block.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use super::formats::{Unpack, less, signed, widen};
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
        let steps = rows.map(|row| row.steps()[0].map(f32::from));
        products(simd, rows.map(|row| row.factor(0)), steps)
    }

    #[inline(always)]
    fn more(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        let steps = rows.map(|row| row.steps()[1].map(f32::from));
        let minima = products(simd, rows.map(|row| row.factor(2)), steps);
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

/// `factors[r]` (f16) times `steps[r][b]`, as value `r` of vector `b`.
#[inline(always)]
fn products(simd: Neon, factors: [u16; 4], steps: [[f32; CHAINS]; 4]) -> [float32x4_t; CHAINS] {
    let factors = widen(simd, factors);
    let mut out = [factors; CHAINS];
    for block in 0..CHAINS {
        let steps = [steps[0][block], steps[1][block], steps[2][block], steps[3][block]];
        out[block] = neon!(vmulq_f32(factors, vld1q_f32(steps.as_ptr())));
    }
    out
}

/// The scale of the first (`PART` 0) or last 16 values of each block.
#[inline(always)]
fn signed_products<const PART: usize>(simd: Neon, rows: [Half<'_, 210>; 4]) -> [float32x4_t; CHAINS] {
    let mut steps = [[0.0; CHAINS]; 4];
    for r in 0..4 {
        let bytes = rows[r].signed_steps().to_le_bytes();
        for block in 0..CHAINS {
            steps[r][block] = f32::from(bytes[2 * block + PART].cast_signed());
        }
    }
    products(simd, rows.map(|row| row.factor(208)), steps)
}
