//! Vector operations with one source (VOP1).

use half::f16;

use super::number::{approximate, turns};
use super::{Entry, Special, narrow, special, wide};

/// By number in VOP1; in VOP3 they start at 0x180.
pub(crate) static TABLE: &[Entry] = &[
    narrow!(0x01, "v_mov_b32", u32 = |a: u32| a),
    special!(0x02, "v_readfirstlane_b32", Special::ReadFirstLane, B32 = B32),
    wide!(0x03, "v_cvt_i32_f64", i32 = |a: f64| a as i32),
    wide!(0x04, "v_cvt_f64_i32", f64 = |a: i32| a as f64),
    narrow!(0x05, "v_cvt_f32_i32", f32 = |a: i32| a as f32),
    narrow!(0x06, "v_cvt_f32_u32", f32 = |a: u32| a as f32),
    narrow!(0x07, "v_cvt_u32_f32", u32 = |a: f32| a as u32),
    narrow!(0x08, "v_cvt_i32_f32", i32 = |a: f32| a as i32),
    narrow!(0x0a, "v_cvt_f16_f32", f16 = |a: f32| f16::from_f32(a)),
    narrow!(0x0b, "v_cvt_f32_f16", f32 = |a: f16| a.to_f32()),
    narrow!(0x0c, "v_cvt_nearest_i32_f32", i32 = |a: f32| (a + 0.5).floor() as i32),
    narrow!(0x0d, "v_cvt_floor_i32_f32", i32 = |a: f32| a.floor() as i32),
    narrow!(0x0e, "v_cvt_off_f32_i4", f32 = |a: u32| f32::from((((a << 4) as i8) >> 4) as i16) / 16.0),
    wide!(0x0f, "v_cvt_f32_f64", f32 = |a: f64| a as f32),
    wide!(0x10, "v_cvt_f64_f32", f64 = |a: f32| a as f64),
    narrow!(0x11, "v_cvt_f32_ubyte0", f32 = |a: u32| (a & 0xff) as f32),
    narrow!(0x12, "v_cvt_f32_ubyte1", f32 = |a: u32| (a >> 8 & 0xff) as f32),
    narrow!(0x13, "v_cvt_f32_ubyte2", f32 = |a: u32| (a >> 16 & 0xff) as f32),
    narrow!(0x14, "v_cvt_f32_ubyte3", f32 = |a: u32| (a >> 24) as f32),
    wide!(0x15, "v_cvt_u32_f64", u32 = |a: f64| a as u32),
    wide!(0x16, "v_cvt_f64_u32", f64 = |a: u32| a as f64),
    wide!(0x17, "v_trunc_f64", f64 = |a: f64| a.trunc()),
    wide!(0x18, "v_ceil_f64", f64 = |a: f64| a.ceil()),
    wide!(0x19, "v_rndne_f64", f64 = |a: f64| a.round_ties_even()),
    wide!(0x1a, "v_floor_f64", f64 = |a: f64| a.floor()),
    narrow!(0x1c, "v_mov_b16", u16 = |a: u16| a),
    narrow!(0x20, "v_fract_f32", f32 = |a: f32| (a - a.floor()).min(f32::from_bits(0x3f7f_ffff))),
    narrow!(0x21, "v_trunc_f32", f32 = |a: f32| a.trunc()),
    narrow!(0x22, "v_ceil_f32", f32 = |a: f32| a.ceil()),
    narrow!(0x23, "v_rndne_f32", f32 = |a: f32| a.round_ties_even()),
    narrow!(0x24, "v_floor_f32", f32 = |a: f32| a.floor()),
    narrow!(0x25, "v_exp_f32", f32 = |a: f32| approximate(a, f64::exp2)),
    narrow!(0x27, "v_log_f32", f32 = |a: f32| approximate(a, f64::log2)),
    narrow!(0x2a, "v_rcp_f32", f32 = |a: f32| approximate(a, f64::recip)),
    narrow!(0x2b, "v_rcp_iflag_f32", f32 = |a: f32| approximate(a, f64::recip)),
    narrow!(0x2e, "v_rsq_f32", f32 = |a: f32| approximate(a, |a| a.sqrt().recip())),
    wide!(0x2f, "v_rcp_f64", f64 = |a: f64| a.recip()),
    wide!(0x31, "v_rsq_f64", f64 = |a: f64| a.sqrt().recip()),
    narrow!(0x33, "v_sqrt_f32", f32 = |a: f32| approximate(a, f64::sqrt)),
    wide!(0x34, "v_sqrt_f64", f64 = |a: f64| a.sqrt()),
    narrow!(0x35, "v_sin_f32", f32 = |a: f32| approximate(a, |a| turns(a, f64::sin))),
    narrow!(0x36, "v_cos_f32", f32 = |a: f32| approximate(a, |a| turns(a, f64::cos))),
    narrow!(0x37, "v_not_b32", u32 = |a: u32| !a),
    narrow!(0x38, "v_bfrev_b32", u32 = |a: u32| a.reverse_bits()),
    narrow!(0x39, "v_clz_i32_u32", u32 = |a: u32| if a == 0 { u32::MAX } else { a.leading_zeros() }),
    narrow!(0x3a, "v_ctz_i32_b32", u32 = |a: u32| if a == 0 { u32::MAX } else { a.trailing_zeros() }),
    narrow!(0x3b, "v_cls_i32", u32 = |a: u32| sign_bits(a)),
    wide!(0x3c, "v_frexp_exp_i32_f64", i32 = |a: f64| if a.is_finite() { libm::frexp(a).1 } else { 0 }),
    wide!(0x3d, "v_frexp_mant_f64", f64 = |a: f64| if a.is_finite() { libm::frexp(a).0 } else { a }),
    wide!(0x3e, "v_fract_f64", f64 = |a: f64| (a - a.floor()).min(1.0 - f64::EPSILON / 2.0)),
    narrow!(0x3f, "v_frexp_exp_i32_f32", i32 = |a: f32| if a.is_finite() { libm::frexpf(a).1 } else { 0 }),
    narrow!(0x40, "v_frexp_mant_f32", f32 = |a: f32| if a.is_finite() { libm::frexpf(a).0 } else { a }),
    special!(0x42, "v_movreld_b32", Special::MoveToRelative, B32 = B32),
    special!(0x43, "v_movrels_b32", Special::MoveFromRelative, B32 = B32),
    narrow!(0x50, "v_cvt_f16_u16", f16 = |a: u16| f16::from_f32(f32::from(a))),
    narrow!(0x51, "v_cvt_f16_i16", f16 = |a: i16| f16::from_f32(f32::from(a))),
    narrow!(0x52, "v_cvt_u16_f16", u16 = |a: f16| a.to_f32() as u16),
    narrow!(0x53, "v_cvt_i16_f16", i16 = |a: f16| a.to_f32() as i16),
    narrow!(0x54, "v_rcp_f16", f16 = |a: f16| f16::from_f64(a.to_f64().recip())),
    narrow!(0x55, "v_sqrt_f16", f16 = |a: f16| f16::from_f64(a.to_f64().sqrt())),
    narrow!(0x56, "v_rsq_f16", f16 = |a: f16| f16::from_f64(a.to_f64().sqrt().recip())),
    narrow!(0x57, "v_log_f16", f16 = |a: f16| f16::from_f64(a.to_f64().log2())),
    narrow!(0x58, "v_exp_f16", f16 = |a: f16| f16::from_f64(a.to_f64().exp2())),
    narrow!(0x59, "v_frexp_mant_f16", f16 = |a: f16| mantissa_of_half(a)),
    narrow!(0x5a, "v_frexp_exp_i16_f16", i16 = |a: f16| exponent_of_half(a)),
    narrow!(0x5b, "v_floor_f16", f16 = |a: f16| f16::from_f32(a.to_f32().floor())),
    narrow!(0x5c, "v_ceil_f16", f16 = |a: f16| f16::from_f32(a.to_f32().ceil())),
    narrow!(0x5d, "v_trunc_f16", f16 = |a: f16| f16::from_f32(a.to_f32().trunc())),
    narrow!(0x5e, "v_rndne_f16", f16 = |a: f16| f16::from_f32(a.to_f32().round_ties_even())),
    narrow!(0x5f, "v_fract_f16", f16 = |a: f16| fraction_of_half(a)),
    narrow!(0x60, "v_sin_f16", f16 = |a: f16| f16::from_f64(turns(a.to_f64(), f64::sin))),
    narrow!(0x61, "v_cos_f16", f16 = |a: f16| f16::from_f64(turns(a.to_f64(), f64::cos))),
    narrow!(
        0x62,
        "v_sat_pk_u8_i16",
        u16 = |a: u32| { u16::from(byte_of(a as i16)) | u16::from(byte_of((a >> 16) as i16)) << 8 }
    ),
    narrow!(
        0x63,
        "v_cvt_norm_i16_f16",
        i16 = |a: f16| (a.to_f32().clamp(-1.0, 1.0) * 32767.0).round_ties_even() as i16
    ),
    narrow!(
        0x64,
        "v_cvt_norm_u16_f16",
        u16 = |a: f16| (a.to_f32().clamp(0.0, 1.0) * 65535.0).round_ties_even() as u16
    ),
    special!(0x65, "v_swap_b32", Special::Swap, B32 = B32),
    narrow!(0x69, "v_not_b16", u16 = |a: u16| !a),
    narrow!(0x6a, "v_cvt_i32_i16", i32 = |a: i16| i32::from(a)),
    narrow!(0x6b, "v_cvt_u32_u16", u32 = |a: u16| u32::from(a)),
];

/// How many bits from the top are alike, all ones where all are.
fn sign_bits(value: u32) -> u32 {
    let alike = (value ^ (value as i32 >> 31) as u32).leading_zeros();
    if alike == 32 { u32::MAX } else { alike }
}

fn byte_of(value: i16) -> u8 {
    value.clamp(0, 255) as u8
}

fn mantissa_of_half(value: f16) -> f16 {
    let value = value.to_f32();
    f16::from_f32(if value.is_finite() { libm::frexpf(value).0 } else { value })
}

fn exponent_of_half(value: f16) -> i16 {
    let value = value.to_f32();
    if value.is_finite() { libm::frexpf(value).1 as i16 } else { 0 }
}

fn fraction_of_half(value: f16) -> f16 {
    let value = value.to_f32();
    f16::from_f32((value - value.floor()).min(f16::from_bits(0x3bff).to_f32()))
}
