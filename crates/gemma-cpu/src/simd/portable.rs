//! [`Simd`] in plain Rust: arrays of 8 values, which the compiler turns into whatever vectors the target has.
//!
//! Runs everywhere, and is what the tests on machines without the other instruction sets run.

use gemma_hal::block::BLOCK;

use super::lanes::{Simd, part, part_mut};

const LANES: usize = 4;

/// Needs nothing of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable;

type F = [f32; LANES];

#[inline(always)]
fn map(a: F, f: impl Fn(f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// Without branches, so that it vectorises: moves the bits in place and lets a multiplication mend the exponent.
#[inline(always)]
fn from_f16(bits: u16) -> f32 {
    const EXPONENT_GAP: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(bits & 0x7fff);
    let finite = (f32::from_bits(magnitude << 13) * EXPONENT_GAP).to_bits();
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(finite | special | u32::from(bits & 0x8000) << 16)
}

impl Simd for Portable {
    type F = F;
    const LANES: usize = LANES;
    const TOKENS: usize = 1;
    const SUM_ORDER: &'static [usize] = &[0, 2, 1, 3];

    #[inline(always)]
    fn splat(self, value: f32) -> F {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, block: &[f32; BLOCK], v: usize) -> F {
        *part(block, v * LANES)
    }

    #[inline(always)]
    fn store(self, block: &mut [f32; BLOCK], v: usize, values: F) {
        *part_mut(block, v * LANES) = values;
    }

    #[inline(always)]
    fn f32(self, block: &[u8; 4 * BLOCK], v: usize) -> F {
        let bytes: &[u8; 4 * LANES] = part(block, v * 4 * LANES);
        std::array::from_fn(|i| f32::from_le_bytes(*part(bytes, 4 * i)))
    }

    #[inline(always)]
    fn f16(self, block: &[u8; 2 * BLOCK], v: usize) -> F {
        let bytes: &[u8; 2 * LANES] = part(block, v * 2 * LANES);
        std::array::from_fn(|i| from_f16(u16::from_le_bytes(*part(bytes, 2 * i))))
    }

    #[inline(always)]
    fn bf16(self, block: &[u8; 2 * BLOCK], v: usize) -> F {
        let bytes: &[u8; 2 * LANES] = part(block, v * 2 * LANES);
        std::array::from_fn(|i| f32::from_bits(u32::from(u16::from_le_bytes(*part(bytes, 2 * i))) << 16))
    }

    #[inline(always)]
    fn q8_0(self, block: &[u8; 34], v: usize) -> F {
        let scale = from_f16(u16::from_le_bytes(*part(block, 0)));
        let quants: &[u8; LANES] = part(block, 2 + v * LANES);
        std::array::from_fn(|i| scale * f32::from(quants[i].cast_signed()))
    }

    #[inline(always)]
    fn q4_0(self, block: &[u8; 18], v: usize) -> F {
        let scale = from_f16(u16::from_le_bytes(*part(block, 0)));
        // The first half of the vectors are the low nibbles of 16 bytes, the second half the high ones.
        let nibbles: &[u8; LANES] = part(block, 2 + v % (Self::VECTORS / 2) * LANES);
        let shift = v / (Self::VECTORS / 2) * 4;
        std::array::from_fn(|i| scale * (f32::from(nibbles[i] >> shift & 15) - 8.0))
    }

    #[inline(always)]
    fn i8(self, block: &[u8; BLOCK], v: usize) -> F {
        let bytes: &[u8; LANES] = part(block, v * LANES);
        std::array::from_fn(|i| f32::from(bytes[i].cast_signed()))
    }

    #[inline(always)]
    fn i4(self, block: &[u8; BLOCK / 2], v: usize) -> F {
        let nibbles: &[u8; LANES] = part(block, v % (Self::VECTORS / 2) * LANES);
        let shift = v / (Self::VECTORS / 2) * 4;
        std::array::from_fn(|i| f32::from(nibbles[i] >> shift & 15) - 8.0)
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    #[expect(clippy::suboptimal_flops, reason = "without the instruction, mul_add is a slow library call")]
    fn fma(self, a: F, b: F, c: F) -> F {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn round(self, a: F) -> F {
        // Adding and taking away 1.5 · 2^23 leaves no room for a fraction; enough for magnitudes below 2^22.
        const SHIFT: f32 = 12_582_912.0;
        map(a, |a| (a + SHIFT) - SHIFT)
    }

    #[inline(always)]
    fn exp2_int(self, a: F) -> F {
        map(a, |a| f32::from_bits(((a as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn copy_sign(self, a: F, sign: F) -> F {
        zip(a, sign, f32::copysign)
    }

    #[inline(always)]
    fn sums(self, vectors: [F; 4]) -> [f32; 4] {
        vectors.map(|v| (v[0] + v[2]) + (v[1] + v[3]))
    }

    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}
}
