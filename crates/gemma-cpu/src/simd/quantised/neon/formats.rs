//! [`Unpack`]: how a group of 4 blocks of a row becomes signed bytes to multiply and scales.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use super::vectors::{Quants, load, neon};
use crate::simd::Neon;
use crate::simd::lanes::part;
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::driver::stored::{Q4_0, Q4_1, Q5_0, Q8_0, Stored};

/// A format that is unpacked with NEON.
pub(in crate::simd::quantised) trait Unpack: Stored {
    /// What block `block` of a group stands for, less scales and minimum.
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants;
    /// Scales of 4 rows, by block: value `r` is that of row `r`.
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS];
    /// What [`More`](crate::simd::quantised::driver::stored::More) says, in the same order.
    #[inline(always)]
    fn more(_: Neon, _: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        [neon!(vdupq_n_f32(0.0)); CHAINS]
    }
}

impl Unpack for Q4_0 {
    #[inline(always)]
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants {
        less::<8>(simd, nibbles(simd, part(group, block * 18 + 2)))
    }

    #[inline(always)]
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        halves(simd, rows, 0, 18)
    }
}

impl Unpack for Q8_0 {
    #[inline(always)]
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants {
        let quants: &[u8; 32] = part(group, block * 34 + 2);
        load(simd, bytemuck::cast_ref::<_, [i8; 32]>(quants).as_chunks().0)
    }

    #[inline(always)]
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        halves(simd, rows, 0, 34)
    }
}

impl Unpack for Q4_1 {
    #[inline(always)]
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants {
        signed(simd, nibbles(simd, part(group, block * 20 + 4)))
    }

    #[inline(always)]
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        halves(simd, rows, 0, 20)
    }

    #[inline(always)]
    fn more(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        halves(simd, rows, 2, 20)
    }
}

impl Unpack for Q5_0 {
    #[inline(always)]
    fn quants(simd: Neon, group: Self::Group<'_>, block: usize) -> Quants {
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        let mut quants = nibbles(simd, part(group, block * 22 + 6));
        let high: [u8; 4] = *part(group, block * 22 + 2);
        for half in 0..2 {
            neon! {
                // Each of the two bytes with the bits of 16 values meets the 8 of its values.
                let bytes = vcombine_u8(vdup_n_u8(high[2 * half]), vdup_n_u8(high[2 * half + 1]));
                let set = vtstq_u8(bytes, vld1q_u8(BITS.as_ptr()));
                quants[half] = vorrq_u8(quants[half], vandq_u8(set, vdupq_n_u8(16)));
            }
        }
        less::<16>(simd, quants)
    }

    #[inline(always)]
    fn scales(simd: Neon, rows: [Self::Group<'_>; 4]) -> [float32x4_t; CHAINS] {
        halves(simd, rows, 0, 22)
    }
}

/// The low nibbles of 16 bytes, and the high ones.
#[inline(always)]
fn nibbles(_: Neon, bytes: &[u8; 16]) -> [uint8x16_t; 2] {
    neon! {
        let bytes = vld1q_u8(bytes.as_ptr());
        [vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)]
    }
}

/// Values below 128.
#[inline(always)]
pub(super) fn signed(_: Neon, [first, last]: [uint8x16_t; 2]) -> Quants {
    neon!([vreinterpretq_s8_u8(first), vreinterpretq_s8_u8(last)])
}

/// Values less a number.
#[inline(always)]
pub(super) fn less<const N: i8>(simd: Neon, quants: [uint8x16_t; 2]) -> Quants {
    let [first, last] = signed(simd, quants);
    neon!([vsubq_s8(first, vdupq_n_s8(N)), vsubq_s8(last, vdupq_n_s8(N))])
}

/// The f16 values at byte `first` of 4 blocks of `stride` bytes of 4 rows, in the order of [`Unpack::scales`].
#[inline(always)]
fn halves<const N: usize>(
    simd: Neon,
    rows: [&[u8; N]; 4],
    first: usize,
    stride: usize,
) -> [float32x4_t; CHAINS] {
    let mut out = [neon!(vdupq_n_f32(0.0)); CHAINS];
    for block in 0..CHAINS {
        let mut bits = [0; 4];
        for r in 0..4 {
            bits[r] = u16::from_le_bytes(*part(rows[r], first + block * stride));
        }
        out[block] = widen(simd, bits);
    }
    out
}

/// f16 values.
#[inline(always)]
pub(super) fn widen(_: Neon, bits: [u16; 4]) -> float32x4_t {
    neon!(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits.as_ptr()))))
}
