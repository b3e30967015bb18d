//! Comparisons (VOPC): a bit a lane, to a scalar register or, as `v_cmpx`, to EXEC.

use std::cmp::Ordering;

use half::f16;

use super::number::{Kind, Number, class};
use super::{Entry, Lanes, Run, Wide};

/// From this number on the result goes to EXEC.
pub(crate) const TO_EXEC: u32 = 0x80;

/// A row of the table; the function of a lane's sources gives the bit.
macro_rules! test {
    ($run:ident, $lanes:ty, $opcode:expr, $name:expr, $type:ty, $other:ty, |$a:ident, $b:ident| $value:expr) => {
        Entry {
            opcode: $opcode,
            name: $name,
            result: Kind::Mask,
            sources: &[<$type as Number>::KIND, <$other as Number>::KIND],
            run: Run::$run({
                #[allow(unused_variables)]
                fn run(sources: &[$lanes; 3]) -> u32 {
                    let mut mask = 0;
                    for (lane, (a, b)) in sources[0].iter().zip(&sources[1]).enumerate() {
                        let ($a, $b) = (<$type as Number>::of(*a as u64), <$other as Number>::of(*b as u64));
                        mask |= u32::from($value) << lane;
                    }
                    mask
                }
                run
            }),
        }
    };
}

/// Rows for the relations of one type; the number of each is the set of relations it accepts, as [`relation`] has them.
macro_rules! relations {
    ($run:ident, $lanes:ty, $base:expr, $prefix:literal, $suffix:literal, $type:ty, $($name:literal $set:literal),*) => {
        [$(
            test!($run, $lanes, $base + $set, concat!($prefix, $name, $suffix), $type, $type, |a, b| {
                relation(a, b) & $set != 0
            }),
        )*]
    };
}

macro_rules! floats {
    ($run:ident, $lanes:ty, $base:expr, $prefix:literal, $suffix:literal, $type:ty) => {
        relations!(
            $run, $lanes, $base, $prefix, $suffix, $type, "f_" 0, "lt_" 1, "eq_" 2, "le_" 3, "gt_" 4, "lg_" 5,
            "ge_" 6, "o_" 7, "u_" 8, "nge_" 9, "nlg_" 10, "ngt_" 11, "nle_" 12, "neq_" 13, "nlt_" 14, "t_" 15
        )
    };
}

macro_rules! integers {
    ($run:ident, $lanes:ty, $base:expr, $prefix:literal, $suffix:literal, $type:ty) => {
        relations!(
            $run, $lanes, $base, $prefix, $suffix, $type, "f_" 0, "lt_" 1, "eq_" 2, "le_" 3, "gt_" 4, "ne_" 5,
            "ge_" 6, "t_" 7
        )
    };
}

macro_rules! tables {
    ($floats:ident, $integers:ident, $classes:ident, $base:expr, $prefix:literal) => {
        static $floats: [[Entry; 16]; 3] = [
            floats!(Test, Lanes, $base, $prefix, "f16", f16),
            floats!(Test, Lanes, $base + 0x10, $prefix, "f32", f32),
            floats!(TestWide, Wide, $base + 0x20, $prefix, "f64", f64),
        ];
        static $integers: [[Entry; 8]; 6] = [
            integers!(Test, Lanes, $base + 0x30, $prefix, "i16", i16),
            integers!(Test, Lanes, $base + 0x38, $prefix, "u16", u16),
            integers!(Test, Lanes, $base + 0x40, $prefix, "i32", i32),
            integers!(Test, Lanes, $base + 0x48, $prefix, "u32", u32),
            integers!(TestWide, Wide, $base + 0x50, $prefix, "i64", i64),
            integers!(TestWide, Wide, $base + 0x58, $prefix, "u64", u64),
        ];
        static $classes: [Entry; 3] = [
            test!(Test, Lanes, $base + 0x7d, concat!($prefix, "class_f16"), f16, u16, |a, b| class_half(a)
                & u32::from(b)
                != 0),
            test!(Test, Lanes, $base + 0x7e, concat!($prefix, "class_f32"), f32, u32, |a, b| class_single(a)
                & b
                != 0),
            test!(
                TestWide,
                Wide,
                $base + 0x7f,
                concat!($prefix, "class_f64"),
                f64,
                u32,
                |a, b| class_double(a) & b != 0
            ),
        ];
    };
}

tables!(FLOATS, INTEGERS, CLASSES, 0, "v_cmp_");
tables!(FLOATS_TO_EXEC, INTEGERS_TO_EXEC, CLASSES_TO_EXEC, 0x80, "v_cmpx_");

/// The comparison with this number.
pub(crate) fn find(opcode: u32) -> Option<&'static Entry> {
    let (floats, integers, classes) = if opcode < TO_EXEC {
        (&FLOATS, &INTEGERS, &CLASSES)
    } else {
        (&FLOATS_TO_EXEC, &INTEGERS_TO_EXEC, &CLASSES_TO_EXEC)
    };
    let all = floats.as_flattened().iter().chain(integers.as_flattened()).chain(classes);
    // Always and never do not exist on 16-bit integers.
    let missing = matches!(opcode % TO_EXEC, 0x30 | 0x37 | 0x38 | 0x3f);
    all.into_iter().find(|entry| u32::from(entry.opcode) == opcode && !missing)
}

/// 1 below, 2 equal, 4 above, 8 where one is no number.
#[inline(always)]
fn relation<T: PartialOrd + Copy>(a: T, b: T) -> u32 {
    match a.partial_cmp(&b) {
        Some(Ordering::Less) => 1,
        Some(Ordering::Equal) => 2,
        Some(Ordering::Greater) => 4,
        None => 8,
    }
}

fn class_half(value: f16) -> u32 {
    let bits = u32::from(value.to_bits());
    class(bits >> 15 == 1, bits >> 10 & 0x1f, 0x1f, u64::from(bits & 0x3ff), bits & 0x200 != 0)
}

fn class_single(value: f32) -> u32 {
    let bits = value.to_bits();
    class(bits >> 31 == 1, bits >> 23 & 0xff, 0xff, u64::from(bits & 0x7f_ffff), bits & 0x40_0000 != 0)
}

fn class_double(value: f64) -> u32 {
    let bits = value.to_bits();
    let mantissa = bits & ((1 << 52) - 1);
    class(bits >> 63 == 1, (bits >> 52) as u32 & 0x7ff, 0x7ff, mantissa, bits >> 51 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_guide() {
        for (value, bit) in [
            (f32::from_bits(0x7f80_0001), 0),
            (f32::NAN, 1),
            (f32::NEG_INFINITY, 2),
            (-1.0, 3),
            (-1e-40, 4),
            (-0.0, 5),
            (0.0, 6),
            (1e-40, 7),
            (1.0, 8),
            (f32::INFINITY, 9),
        ] {
            assert_eq!(class_single(value), 1 << bit, "{value}");
        }
    }
}
