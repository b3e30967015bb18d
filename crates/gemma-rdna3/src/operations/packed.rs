//! Packed operations (VOP3P): two halves at once, mixed precision, dot products and matrix products.

use half::f16;

use super::number::{fused_half, maximum, minimum};
use super::vector_three_float::dot_brain;
use super::{Entry, narrow};

/// Operations on both halves of a register, with the function of one half.
pub(crate) static HALVES: &[Entry] = &[
    narrow!(0x00, "v_pk_mad_i16", i16 = |a: i16, b: i16, c: i16| a.wrapping_mul(b).wrapping_add(c)),
    narrow!(0x01, "v_pk_mul_lo_u16", u16 = |a: u16, b: u16| a.wrapping_mul(b)),
    narrow!(0x02, "v_pk_add_i16", i16 = |a: i16, b: i16| a.wrapping_add(b)),
    narrow!(0x03, "v_pk_sub_i16", i16 = |a: i16, b: i16| a.wrapping_sub(b)),
    narrow!(0x04, "v_pk_lshlrev_b16", u16 = |a: u16, b: u16| b << (a & 15)),
    narrow!(0x05, "v_pk_lshrrev_b16", u16 = |a: u16, b: u16| b >> (a & 15)),
    narrow!(0x06, "v_pk_ashrrev_i16", i16 = |a: u16, b: i16| b >> (a & 15)),
    narrow!(0x07, "v_pk_max_i16", i16 = |a: i16, b: i16| a.max(b)),
    narrow!(0x08, "v_pk_min_i16", i16 = |a: i16, b: i16| a.min(b)),
    narrow!(0x09, "v_pk_mad_u16", u16 = |a: u16, b: u16, c: u16| a.wrapping_mul(b).wrapping_add(c)),
    narrow!(0x0a, "v_pk_add_u16", u16 = |a: u16, b: u16| a.wrapping_add(b)),
    narrow!(0x0b, "v_pk_sub_u16", u16 = |a: u16, b: u16| a.wrapping_sub(b)),
    narrow!(0x0c, "v_pk_max_u16", u16 = |a: u16, b: u16| a.max(b)),
    narrow!(0x0d, "v_pk_min_u16", u16 = |a: u16, b: u16| a.min(b)),
    narrow!(0x0e, "v_pk_fma_f16", f16 = |a: f16, b: f16, c: f16| fused_half(a, b, c)),
    narrow!(0x0f, "v_pk_add_f16", f16 = |a: f16, b: f16| a + b),
    narrow!(0x10, "v_pk_mul_f16", f16 = |a: f16, b: f16| a * b),
    narrow!(0x11, "v_pk_min_f16", f16 = |a: f16, b: f16| minimum(a, b)),
    narrow!(0x12, "v_pk_max_f16", f16 = |a: f16, b: f16| maximum(a, b)),
];

/// Dot products of floats; both factors are pairs.
pub(crate) static DOTS: &[Entry] = &[
    narrow!(0x13, "v_dot2_f32_f16", f32 = |a: u32, b: u32, c: f32| dot_half(a, b, c)),
    narrow!(0x1a, "v_dot2_f32_bf16", f32 = |a: u32, b: u32, c: f32| dot_brain(a, b, c)),
];

/// Dot products of integers: (number, mnemonic, bits of an element, whether the signs are chosen by the NEG bits).
pub(crate) const INTEGER_DOTS: [(u32, &str, u32, bool); 4] = [
    (0x16, "v_dot4_i32_iu8", 8, true),
    (0x17, "v_dot4_u32_u8", 8, false),
    (0x18, "v_dot8_i32_iu4", 4, true),
    (0x19, "v_dot8_u32_u4", 4, false),
];

/// Fused multiply-add of halves and singles mixed: (number, mnemonic, half of the destination that is written).
pub(crate) const MIXED: [(u32, &str, Option<bool>); 3] = [
    (0x20, "v_fma_mix_f32", None),
    (0x21, "v_fma_mixlo_f16", Some(false)),
    (0x22, "v_fma_mixhi_f16", Some(true)),
];

/// What a matrix product multiplies, and what it adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elements {
    /// Halves, added in single precision.
    Half,
    /// Brain floats, added in single precision.
    Brain,
    /// Halves, with half-precision sums in one half of each register.
    HalfToHalf,
    /// Brain floats, with brain-float sums in one half of each register.
    BrainToBrain,
    /// Bytes, added in 32 bits.
    Byte,
    /// Half bytes, added in 32 bits.
    Nibble,
}

/// Products of 16 x 16 matrices: (number, mnemonic, elements, registers of a factor).
pub(crate) const MATRICES: [(u32, &str, Elements, u8); 6] = [
    (0x40, "v_wmma_f32_16x16x16_f16", Elements::Half, 8),
    (0x41, "v_wmma_f32_16x16x16_bf16", Elements::Brain, 8),
    (0x42, "v_wmma_f16_16x16x16_f16", Elements::HalfToHalf, 8),
    (0x43, "v_wmma_bf16_16x16x16_bf16", Elements::BrainToBrain, 8),
    (0x44, "v_wmma_i32_16x16x16_iu8", Elements::Byte, 4),
    (0x45, "v_wmma_i32_16x16x16_iu4", Elements::Nibble, 2),
];

/// Adds the product of two pairs of halves to a float; the sum is rounded once.
pub(crate) fn dot_half(a: u32, b: u32, c: f32) -> f32 {
    let part = |value: u32, shift: u32| f16::from_bits((value >> shift) as u16).to_f64();
    (part(a, 0) * part(b, 0) + part(a, 16) * part(b, 16) + f64::from(c)) as f32
}

/// A dot product of the elements of two registers plus `c`, before it is cut to 32 bits.
pub(crate) fn dot_integers(a: u32, b: u32, bits: u32, signed: [bool; 2]) -> i64 {
    let element = |value: u32, index: u32, signed: bool| {
        let field = value << (32 - bits * (index + 1));
        if signed { i64::from(field as i32 >> (32 - bits)) } else { i64::from(field >> (32 - bits)) }
    };
    (0..32 / bits).map(|index| element(a, index, signed[0]) * element(b, index, signed[1])).sum()
}
