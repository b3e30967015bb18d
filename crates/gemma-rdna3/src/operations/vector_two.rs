//! Vector operations with two sources (VOP2), and those of dual issue (VOPD), which are the same ones.

use half::f16;

use super::number::{Kind, Number, fused_half, half_towards_zero, maximum, minimum};
use super::packed::dot_half;
use super::{Carry, Entry, Lanes, Run, Special, narrow, special};

/// By number in VOP2; in VOP3 they start at 0x100. An operation that adds to its destination has that as third source.
pub(crate) static TABLE: &[Entry] = &[
    special!(0x01, "v_cndmask_b32", Special::Select, B32 = B32, B32),
    narrow!(0x02, "v_dot2acc_f32_f16", f32 = |a: u32, b: u32, c: f32| dot_half(a, b, c)),
    narrow!(0x03, "v_add_f32", f32 = |a: f32, b: f32| a + b),
    narrow!(0x04, "v_sub_f32", f32 = |a: f32, b: f32| a - b),
    narrow!(0x05, "v_subrev_f32", f32 = |a: f32, b: f32| b - a),
    narrow!(
        0x06,
        "v_fmac_dx9_zero_f32",
        f32 = |a: f32, b: f32, c: f32| { if a == 0.0 || b == 0.0 { c } else { a.mul_add(b, c) } }
    ),
    narrow!(
        0x07,
        "v_mul_dx9_zero_f32",
        f32 = |a: f32, b: f32| if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
    ),
    narrow!(0x08, "v_mul_f32", f32 = |a: f32, b: f32| a * b),
    narrow!(0x09, "v_mul_i32_i24", i32 = |a: i32, b: i32| signed24(a).wrapping_mul(signed24(b))),
    narrow!(
        0x0a,
        "v_mul_hi_i32_i24",
        i32 = |a: i32, b: i32| { ((i64::from(signed24(a)) * i64::from(signed24(b))) >> 32) as i32 }
    ),
    narrow!(0x0b, "v_mul_u32_u24", u32 = |a: u32, b: u32| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff)),
    narrow!(
        0x0c,
        "v_mul_hi_u32_u24",
        u32 = |a: u32, b: u32| { ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 32) as u32 }
    ),
    narrow!(0x0f, "v_min_f32", f32 = |a: f32, b: f32| minimum(a, b)),
    narrow!(0x10, "v_max_f32", f32 = |a: f32, b: f32| maximum(a, b)),
    narrow!(0x11, "v_min_i32", i32 = |a: i32, b: i32| a.min(b)),
    narrow!(0x12, "v_max_i32", i32 = |a: i32, b: i32| a.max(b)),
    narrow!(0x13, "v_min_u32", u32 = |a: u32, b: u32| a.min(b)),
    narrow!(0x14, "v_max_u32", u32 = |a: u32, b: u32| a.max(b)),
    narrow!(0x18, "v_lshlrev_b32", u32 = |a: u32, b: u32| b << (a & 31)),
    narrow!(0x19, "v_lshrrev_b32", u32 = |a: u32, b: u32| b >> (a & 31)),
    narrow!(0x1a, "v_ashrrev_i32", i32 = |a: u32, b: i32| b >> (a & 31)),
    narrow!(0x1b, "v_and_b32", u32 = |a: u32, b: u32| a & b),
    narrow!(0x1c, "v_or_b32", u32 = |a: u32, b: u32| a | b),
    narrow!(0x1d, "v_xor_b32", u32 = |a: u32, b: u32| a ^ b),
    narrow!(0x1e, "v_xnor_b32", u32 = |a: u32, b: u32| !(a ^ b)),
    special!(0x20, "v_add_co_ci_u32", Special::Carry(Carry::Add, true), B32 = B32, B32),
    special!(0x21, "v_sub_co_ci_u32", Special::Carry(Carry::Subtract, true), B32 = B32, B32),
    special!(0x22, "v_subrev_co_ci_u32", Special::Carry(Carry::SubtractReversed, true), B32 = B32, B32),
    narrow!(0x25, "v_add_nc_u32", u32 = |a: u32, b: u32| a.wrapping_add(b)),
    narrow!(0x26, "v_sub_nc_u32", u32 = |a: u32, b: u32| a.wrapping_sub(b)),
    narrow!(0x27, "v_subrev_nc_u32", u32 = |a: u32, b: u32| b.wrapping_sub(a)),
    narrow!(0x2b, "v_fmac_f32", f32 = |a: f32, b: f32, c: f32| a.mul_add(b, c)),
    narrow!(0x2c, "v_fmamk_f32", f32 = |a: f32, b: f32, c: f32| a.mul_add(b, c)),
    narrow!(0x2d, "v_fmaak_f32", f32 = |a: f32, b: f32, c: f32| a.mul_add(b, c)),
    narrow!(
        0x2f,
        "v_cvt_pk_rtz_f16_f32",
        u32 = |a: f32, b: f32| {
            u32::from(half_towards_zero(a).to_bits()) | u32::from(half_towards_zero(b).to_bits()) << 16
        }
    ),
    narrow!(0x32, "v_add_f16", f16 = |a: f16, b: f16| a + b),
    narrow!(0x33, "v_sub_f16", f16 = |a: f16, b: f16| a - b),
    narrow!(0x34, "v_subrev_f16", f16 = |a: f16, b: f16| b - a),
    narrow!(0x35, "v_mul_f16", f16 = |a: f16, b: f16| a * b),
    narrow!(0x36, "v_fmac_f16", f16 = |a: f16, b: f16, c: f16| fused_half(a, b, c)),
    narrow!(0x37, "v_fmamk_f16", f16 = |a: f16, b: f16, c: f16| fused_half(a, b, c)),
    narrow!(0x38, "v_fmaak_f16", f16 = |a: f16, b: f16, c: f16| fused_half(a, b, c)),
    narrow!(0x39, "v_max_f16", f16 = |a: f16, b: f16| maximum(a, b)),
    narrow!(0x3a, "v_min_f16", f16 = |a: f16, b: f16| minimum(a, b)),
    narrow!(0x3b, "v_ldexp_f16", f16 = |a: f16, b: i16| f16::from_f64(libm::ldexp(a.to_f64(), i32::from(b)))),
    Entry {
        opcode: 0x3c,
        name: "v_pk_fmac_f16",
        result: Kind::B32,
        sources: &[Kind::B32, Kind::B32, Kind::B32],
        run: Run::Narrow(packed_fused),
    },
];

/// Operations of VOP2 whose third source is the destination.
pub(crate) const ACCUMULATING: [u32; 5] = [0x02, 0x06, 0x2b, 0x36, 0x3c];
/// `a * K + b`.
pub(crate) const WITH_FACTOR: [u32; 2] = [0x2c, 0x37];
/// `a * b + K`.
pub(crate) const WITH_ADDEND: [u32; 2] = [0x2d, 0x38];

/// Operations of dual issue: (number, mnemonic, number in VOP2; 0 is the move of VOP1).
pub(crate) const DUAL: [(u32, &str, u32); 16] = [
    (0, "v_dual_fmac_f32", 0x2b),
    (1, "v_dual_fmaak_f32", 0x2d),
    (2, "v_dual_fmamk_f32", 0x2c),
    (3, "v_dual_mul_f32", 0x08),
    (4, "v_dual_add_f32", 0x03),
    (5, "v_dual_sub_f32", 0x04),
    (6, "v_dual_subrev_f32", 0x05),
    (7, "v_dual_mul_dx9_zero_f32", 0x07),
    (8, "v_dual_mov_b32", 0),
    (9, "v_dual_cndmask_b32", 0x01),
    (10, "v_dual_max_f32", 0x10),
    (11, "v_dual_min_f32", 0x0f),
    (12, "v_dual_dot2acc_f32_f16", 0x02),
    // From here on only as second of the two.
    (16, "v_dual_add_nc_u32", 0x25),
    (17, "v_dual_lshlrev_b32", 0x18),
    (18, "v_dual_and_b32", 0x1b),
];

fn signed24(value: i32) -> i32 {
    value << 8 >> 8
}

fn packed_fused(sources: &[Lanes; 3], result: &mut Lanes) {
    let fused = |lane: usize, shift: u32| {
        let [a, b, c] = [0, 1, 2].map(|index: usize| f16::of(u64::from(sources[index][lane] >> shift)));
        u32::from(fused_half(a, b, c).to_bits()) << shift
    };
    for (lane, value) in result.iter_mut().enumerate() {
        *value = fused(lane, 0) | fused(lane, 16);
    }
}
