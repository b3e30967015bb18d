//! Vector operations of VOP3 on floats, division's among them.

use half::{bf16, f16};

use super::number::{exponent, exponent_wide, fused_half, maximum, median, minimum};
use super::{Entry, Special, narrow, special, wide};

/// By number in VOP3.
pub(crate) static TABLE: &[Entry] = &[
    narrow!(
        0x209,
        "v_fma_dx9_zero_f32",
        f32 = |a: f32, b: f32, c: f32| { if a == 0.0 || b == 0.0 { c } else { a.mul_add(b, c) } }
    ),
    narrow!(0x213, "v_fma_f32", f32 = |a: f32, b: f32, c: f32| a.mul_add(b, c)),
    wide!(0x214, "v_fma_f64", f64 = |a: f64, b: f64, c: f64| a.mul_add(b, c)),
    narrow!(0x219, "v_min3_f32", f32 = |a: f32, b: f32, c: f32| minimum(minimum(a, b), c)),
    narrow!(0x21c, "v_max3_f32", f32 = |a: f32, b: f32, c: f32| maximum(maximum(a, b), c)),
    narrow!(0x21f, "v_med3_f32", f32 = |a: f32, b: f32, c: f32| median(a, b, c)),
    narrow!(
        0x226,
        "v_cvt_pk_u8_f32",
        u32 = |a: f32, b: u32, c: u32| {
            let shift = 8 * (b & 3);
            c & !(0xff << shift) | u32::from(a.round_ties_even() as u8) << shift
        }
    ),
    narrow!(0x227, "v_div_fixup_f32", f32 = |a: f32, b: f32, c: f32| fix_up(a, b, c)),
    wide!(0x228, "v_div_fixup_f64", f64 = |a: f64, b: f64, c: f64| fix_up_wide(a, b, c)),
    special!(0x237, "v_div_fmas_f32", Special::DivisionFused, F32 = F32, F32, F32),
    special!(0x238, "v_div_fmas_f64", Special::DivisionFusedWide, F64 = F64, F64, F64),
    narrow!(0x248, "v_fma_f16", f16 = |a: f16, b: f16, c: f16| fused_half(a, b, c)),
    narrow!(0x249, "v_min3_f16", f16 = |a: f16, b: f16, c: f16| minimum(minimum(a, b), c)),
    narrow!(0x24c, "v_max3_f16", f16 = |a: f16, b: f16, c: f16| maximum(maximum(a, b), c)),
    narrow!(0x24f, "v_med3_f16", f16 = |a: f16, b: f16, c: f16| median(a, b, c)),
    narrow!(0x254, "v_div_fixup_f16", f16 = |a: f16, b: f16, c: f16| fix_up_half(a, b, c)),
    narrow!(0x25e, "v_maxmin_f32", f32 = |a: f32, b: f32, c: f32| minimum(maximum(a, b), c)),
    narrow!(0x25f, "v_minmax_f32", f32 = |a: f32, b: f32, c: f32| maximum(minimum(a, b), c)),
    narrow!(0x260, "v_maxmin_f16", f16 = |a: f16, b: f16, c: f16| minimum(maximum(a, b), c)),
    narrow!(0x261, "v_minmax_f16", f16 = |a: f16, b: f16, c: f16| maximum(minimum(a, b), c)),
    special!(0x2fc, "v_div_scale_f32", Special::DivisionScale, F32 = F32, F32, F32),
    special!(0x2fd, "v_div_scale_f64", Special::DivisionScaleWide, F64 = F64, F64, F64),
    narrow!(
        0x306,
        "v_cvt_pk_i16_f32",
        u32 = |a: f32, b: f32| { u32::from(a as i16 as u16) | u32::from(b as i16 as u16) << 16 }
    ),
    narrow!(
        0x307,
        "v_cvt_pk_u16_f32",
        u32 = |a: f32, b: f32| u32::from(a as u16) | u32::from(b as u16) << 16
    ),
    narrow!(
        0x312,
        "v_cvt_pk_norm_i16_f16",
        u32 = |a: f16, b: f16| signed_norm(a.to_f32()) | signed_norm(b.to_f32()) << 16
    ),
    narrow!(0x313, "v_cvt_pk_norm_u16_f16", u32 = |a: f16, b: f16| norm(a.to_f32()) | norm(b.to_f32()) << 16),
    narrow!(0x31c, "v_ldexp_f32", f32 = |a: f32, b: i32| libm::ldexpf(a, b)),
    narrow!(0x321, "v_cvt_pk_norm_i16_f32", u32 = |a: f32, b: f32| signed_norm(a) | signed_norm(b) << 16),
    narrow!(0x322, "v_cvt_pk_norm_u16_f32", u32 = |a: f32, b: f32| norm(a) | norm(b) << 16),
    wide!(0x327, "v_add_f64", f64 = |a: f64, b: f64| a + b),
    wide!(0x328, "v_mul_f64", f64 = |a: f64, b: f64| a * b),
    wide!(0x329, "v_min_f64", f64 = |a: f64, b: f64| minimum(a, b)),
    wide!(0x32a, "v_max_f64", f64 = |a: f64, b: f64| maximum(a, b)),
    wide!(0x32b, "v_ldexp_f64", f64 = |a: f64, b: i32| libm::ldexp(a, b)),
];

/// A quotient's special cases: `quotient` stands where neither operand is special.
fn fix_up(quotient: f32, denominator: f32, numerator: f32) -> f32 {
    let special = special_quotient(f64::from(denominator), f64::from(numerator));
    let negative = denominator.is_sign_negative() != numerator.is_sign_negative();
    let value = match special {
        Some(value) if value.is_nan() => return value as f32,
        Some(value) => value as f32,
        None if exponent(numerator) - exponent(denominator) < -150 => 0.0,
        // The steps before had infinity minus infinity, as the quotient is beyond the largest number.
        None if quotient.is_nan() => f32::INFINITY,
        None => quotient.abs(),
    };
    if negative { -value } else { value }
}

fn fix_up_wide(quotient: f64, denominator: f64, numerator: f64) -> f64 {
    let negative = denominator.is_sign_negative() != numerator.is_sign_negative();
    let value = match special_quotient(denominator, numerator) {
        Some(value) if value.is_nan() => return value,
        Some(value) => value,
        None if exponent_wide(numerator) - exponent_wide(denominator) < -1075 => 0.0,
        None if quotient.is_nan() => f64::INFINITY,
        None => quotient.abs(),
    };
    if negative { -value } else { value }
}

fn fix_up_half(quotient: f16, denominator: f16, numerator: f16) -> f16 {
    let negative = denominator.is_sign_negative() != numerator.is_sign_negative();
    let value = match special_quotient(denominator.to_f64(), numerator.to_f64()) {
        Some(value) if value.is_nan() => return f16::from_f64(value),
        Some(value) => f16::from_f64(value),
        None => f16::from_bits(quotient.to_bits() & 0x7fff),
    };
    if negative { -value } else { value }
}

/// The magnitude of a quotient, or no number, where an operand is zero, infinite or no number.
fn special_quotient(denominator: f64, numerator: f64) -> Option<f64> {
    if numerator.is_nan() {
        Some(numerator)
    } else if denominator.is_nan() {
        Some(denominator)
    } else if denominator == 0.0 && numerator == 0.0 || denominator.is_infinite() && numerator.is_infinite() {
        Some(f64::NAN)
    } else if denominator == 0.0 || numerator.is_infinite() {
        Some(f64::INFINITY)
    } else if denominator.is_infinite() || numerator == 0.0 {
        Some(0.0)
    } else {
        None
    }
}

/// `v_div_scale_f32`: an operand of a quotient scaled so that no step of the division leaves the range, and whether the
/// result must be scaled back. Where both the denominator's reciprocal and the quotient are too small, the guide scales
/// the denominator up, which would make it infinite; it is scaled down here, which [`division_fused`] takes back.
pub(crate) fn division_scale(value: f32, denominator: f32, numerator: f32) -> (f32, bool) {
    let tiny_reciprocal = denominator.recip().is_subnormal();
    let tiny_quotient = (numerator / denominator).is_subnormal();
    let scaled = |when: bool, power: i32| if when { libm::ldexpf(value, power) } else { value };
    if numerator == 0.0 || denominator == 0.0 {
        (f32::NAN, false)
    } else if exponent(numerator) - exponent(denominator) >= 96 {
        (scaled(value == denominator, 64), true)
    } else if denominator.is_subnormal() {
        (scaled(true, 64), false)
    } else if tiny_reciprocal && tiny_quotient {
        (scaled(value == denominator, -64), true)
    } else if tiny_reciprocal {
        (scaled(true, -64), false)
    } else if tiny_quotient {
        (scaled(value == numerator, 64), true)
    } else {
        (scaled(exponent(numerator) <= 23, 64), false)
    }
}

/// `v_div_scale_f64`.
pub(crate) fn division_scale_wide(value: f64, denominator: f64, numerator: f64) -> (f64, bool) {
    let tiny_reciprocal = denominator.recip().is_subnormal();
    let tiny_quotient = (numerator / denominator).is_subnormal();
    let scaled = |when: bool, power: i32| if when { libm::ldexp(value, power) } else { value };
    if numerator == 0.0 || denominator == 0.0 {
        (f64::NAN, false)
    } else if exponent_wide(numerator) - exponent_wide(denominator) >= 768 {
        (scaled(value == denominator, 128), true)
    } else if denominator.is_subnormal() {
        (scaled(true, 128), false)
    } else if tiny_reciprocal && tiny_quotient {
        (scaled(value == denominator, -128), true)
    } else if tiny_reciprocal {
        (scaled(true, -128), false)
    } else if tiny_quotient {
        (scaled(value == numerator, 128), true)
    } else {
        (scaled(exponent_wide(numerator) <= 53, 128), false)
    }
}

/// `v_div_fmas_f32`: the last step of a division, scaled back where an operand was scaled. The guide's one factor of
/// 2^32 fits neither case; quotients above one were scaled down and those below it up.
pub(crate) fn division_fused(a: f32, b: f32, c: f32, scaled: bool) -> f32 {
    let value = a.mul_add(b, c);
    if scaled { libm::ldexpf(value, if exponent(c) > 127 { 64 } else { -64 }) } else { value }
}

/// `v_div_fmas_f64`.
pub(crate) fn division_fused_wide(a: f64, b: f64, c: f64, scaled: bool) -> f64 {
    let value = a.mul_add(b, c);
    if scaled { libm::ldexp(value, if exponent_wide(c) > 1023 { 128 } else { -128 }) } else { value }
}

fn signed_norm(value: f32) -> u32 {
    ((value.clamp(-1.0, 1.0) * 32767.0).round_ties_even() as i32) as u32 & 0xffff
}

fn norm(value: f32) -> u32 {
    (value.clamp(0.0, 1.0) * 65535.0).round_ties_even() as u32
}

/// Adds a product of two pairs of bf16 to a float, each product rounded to nothing and the sums to single precision.
pub(crate) fn dot_brain(a: u32, b: u32, c: f32) -> f32 {
    let part = |value: u32, shift: u32| f64::from(bf16::from_bits((value >> shift) as u16).to_f32());
    (part(a, 0) * part(b, 0) + part(a, 16) * part(b, 16) + f64::from(c)) as f32
}
