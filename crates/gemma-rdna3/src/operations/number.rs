//! Numbers as lanes hold them: bits in, bits out, and the arithmetic that Rust does not have in the hardware's form.
//!
//! Everything is IEEE 754 with rounding to the nearest even number. Nothing here knows a register or a lane.

use half::f16;

/// What a lane's bits stand for; decides the width, which modifiers apply and how constants are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 16 bits that are no float.
    B16,
    F16,
    B32,
    F32,
    B64,
    F64,
    /// A bit a lane, in a scalar register.
    Mask,
}

impl Kind {
    /// Registers that a value takes.
    pub(crate) const fn registers(self) -> u8 {
        match self {
            Self::B64 | Self::F64 => 2,
            _ => 1,
        }
    }

    pub(crate) const fn is_half(self) -> bool {
        matches!(self, Self::B16 | Self::F16)
    }

    pub(crate) const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// The bit that holds a float's sign.
    pub(crate) const fn sign(self) -> u64 {
        match self {
            Self::B16 | Self::F16 => 1 << 15,
            Self::B64 | Self::F64 => 1 << 63,
            _ => 1 << 31,
        }
    }
}

/// A Rust type that a lane's bits can be read as.
pub(crate) trait Number: Copy {
    const KIND: Kind;
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! integers {
    ($($type:ty, $unsigned:ty, $kind:ident;)*) => {$(
        impl Number for $type {
            const KIND: Kind = Kind::$kind;
            #[inline(always)]
            fn of(bits: u64) -> Self {
                bits as $type
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                self as $unsigned as u64
            }
        }
    )*};
}

integers! {
    u16, u16, B16;
    i16, u16, B16;
    u32, u32, B32;
    i32, u32, B32;
    u64, u64, B64;
    i64, u64, B64;
}

macro_rules! floats {
    ($($type:ty, $bits:ty, $kind:ident;)*) => {$(
        impl Number for $type {
            const KIND: Kind = Kind::$kind;
            #[inline(always)]
            fn of(bits: u64) -> Self {
                Self::from_bits(bits as $bits)
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                self.to_bits() as u64
            }
        }
    )*};
}

floats! {
    f16, u16, F16;
    f32, u32, F32;
    f64, u64, F64;
}

/// The smaller number, the other one where one is no number; minus zero is below zero.
#[inline(always)]
pub(crate) fn minimum<T: Float>(a: T, b: T) -> T {
    if a.is_nan() || b.below(a) || (b.equal(a) && b.negative()) { b } else { a }
}

/// The larger number, the other one where one is no number; zero is above minus zero.
#[inline(always)]
pub(crate) fn maximum<T: Float>(a: T, b: T) -> T {
    if a.is_nan() || a.below(b) || (a.equal(b) && a.negative()) { b } else { a }
}

/// The middle one of three, as `v_med3` defines it.
pub(crate) fn median<T: Float>(a: T, b: T, c: T) -> T {
    if a.is_nan() || b.is_nan() || c.is_nan() {
        return minimum(minimum(a, b), c);
    }
    let largest = maximum(maximum(a, b), c);
    if largest.equal(a) {
        maximum(b, c)
    } else if largest.equal(b) {
        maximum(a, c)
    } else {
        maximum(a, b)
    }
}

/// The middle one of three integers.
#[inline(always)]
pub(crate) fn middle<T: Ord>(a: T, b: T, c: T) -> T {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if c < low {
        low
    } else if c > high {
        high
    } else {
        c
    }
}

/// What [`minimum`] and its like ask of a float.
pub(crate) trait Float: Copy {
    fn is_nan(self) -> bool;
    fn below(self, other: Self) -> bool;
    fn equal(self, other: Self) -> bool;
    fn negative(self) -> bool;
}

macro_rules! comparisons {
    ($($type:ty)*) => {$(
        impl Float for $type {
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
            #[inline(always)]
            fn below(self, other: Self) -> bool {
                self < other
            }
            #[inline(always)]
            fn equal(self, other: Self) -> bool {
                self == other
            }
            #[inline(always)]
            fn negative(self) -> bool {
                self.is_sign_negative()
            }
        }
    )*};
}

comparisons!(f16 f32 f64);

/// `a * b + c` with one rounding, in half precision.
pub(crate) fn fused_half(a: f16, b: f16, c: f16) -> f16 {
    // The product is exact. Where the sum is not, the last bit is made odd, so that the second rounding sees on which
    // side of a tie it was.
    let (product, addend) = (a.to_f64() * b.to_f64(), c.to_f64());
    f16::from_f64(sum_to_odd(product, addend))
}

/// A sum whose last bit is 1 where it was rounded.
fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    if !sum.is_finite() || error == 0.0 || sum.to_bits() & 1 == 1 {
        return sum;
    }
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

/// Zero of the same sign in place of a number below the smallest normal one.
#[inline(always)]
pub(crate) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { f32::from_bits(value.to_bits() & 1 << 31) } else { value }
}

/// A function that the hardware approximates, here rounded once from double precision. It neither takes nor gives
/// numbers below the smallest normal one, as the hardware's do not.
#[inline(always)]
pub(crate) fn approximate(value: f32, function: impl Fn(f64) -> f64) -> f32 {
    flush(function(flush(value) as f64) as f32)
}

/// The sine or cosine of a number of turns; no number where the argument is not finite.
pub(crate) fn turns(value: f64, function: impl Fn(f64) -> f64) -> f64 {
    // The remainder keeps the sign of zero.
    function(value % 1.0 * std::f64::consts::TAU)
}

/// The biased exponent of a float.
pub(crate) fn exponent(value: f32) -> i32 {
    (value.to_bits() >> 23 & 0xff) as i32
}

/// The biased exponent of a double.
pub(crate) fn exponent_wide(value: f64) -> i32 {
    (value.to_bits() >> 52 & 0x7ff) as i32
}

/// Rounds to half precision towards zero.
pub(crate) fn half_towards_zero(value: f32) -> f16 {
    let nearest = f16::from_f32(value);
    let over = nearest.to_f32().abs() > value.abs();
    // One step down in magnitude; from infinity that is the largest number.
    if over { f16::from_bits(nearest.to_bits() - 1) } else { nearest }
}

/// The bit of `v_cmp_class` that a number belongs to, from its parts.
pub(crate) fn class(negative: bool, exponent: u32, top: u32, mantissa: u64, quiet: bool) -> u32 {
    if exponent == top && mantissa != 0 {
        return if quiet { 2 } else { 1 };
    }
    let bits = match (exponent, mantissa) {
        (e, _) if e == top => [4, 512],
        (0, 0) => [32, 64],
        (0, _) => [16, 128],
        _ => [8, 256],
    };
    bits[usize::from(!negative)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimum_and_maximum_order_zeros_and_skip_nan() {
        let nan = f32::NAN;
        for (a, b, low, high) in [
            (1.0, 2.0, 1.0, 2.0),
            (2.0, 1.0, 1.0, 2.0),
            (nan, 3.0, 3.0, 3.0),
            (3.0, nan, 3.0, 3.0),
            (-0.0, 0.0, -0.0, 0.0),
            (0.0, -0.0, -0.0, 0.0),
        ] {
            let found: (f32, f32) = (minimum(a, b), maximum(a, b));
            assert_eq!(
                (found.0.to_bits(), found.1.to_bits()),
                (f32::to_bits(low), f32::to_bits(high)),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn half_precision_is_rounded_once() {
        let half = f16::from_f32;
        // 1 + 2^-11 + 2^-24: just above a tie, which the nearest double of the sum still shows.
        let (a, b) = (half(1.0), half(2f32.powi(-11)));
        assert_eq!(fused_half(b, a, a), half(1.0));
        assert_eq!(fused_half(b, half(1.001), a).to_bits(), half(1.0).to_bits() + 1);
        assert_eq!(half_towards_zero(65535.0), f16::MAX);
        assert_eq!(half_towards_zero(-1e9), f16::MIN);
        assert_eq!(half_towards_zero(f32::INFINITY), f16::INFINITY);
        assert_eq!(half_towards_zero(1.0 - 1e-5).to_bits(), half(1.0).to_bits() - 1);
    }
}
