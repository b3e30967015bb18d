//! Kernels that treat every element alike, against the same formulas in Rust, to the last bit.

use crate::common::{
    Arguments, Random, floats, halves, in_every_variant, read_floats, read_halves, read_words, run, words,
};
use gemma_rdna3::Memory;
use half::f16;

/// Not a multiple of a workgroup, so that the last one has lanes without work.
const COUNT: usize = 200;

#[test]
fn single_precision() {
    in_every_variant("elementwise.hip", |object, seed| {
        let mut random = Random(seed);
        let (a, b) = (random.floats(COUNT), random.floats(COUNT));
        let mut memory = Memory::new();
        let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&floats(values)));
        let pc = memory.allocate(COUNT * 4);
        let arguments =
            Arguments::default().pointer(pa).pointer(pb).pointer(pc).word(COUNT as i32).float(1.5);
        let report = run(object, "scale_and_add", 4, 64, arguments, &mut memory, seed).unwrap();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a.mul_add(1.5, *b)).collect();
        assert_eq!(read_floats(&memory, pc, COUNT), expected);
        // The early exit of a wave without work is not taken, as each wave has some.
        let (covered, all) = report.covered();
        assert_eq!(covered, all, "{:?}", report.missed());
    });
}

#[test]
fn half_precision() {
    in_every_variant("elementwise.hip", |object, seed| {
        let mut random = Random(seed + 10);
        let (a, b) = (random.halves(COUNT), random.halves(COUNT));
        let one = f16::ONE;
        let half = |a: f16, b: f16| {
            let sum = a + b;
            let product = sum * b;
            let fused = f16::from_f64(a.to_f64() * b.to_f64() + sum.to_f64());
            if product > one { product - a } else { fused }
        };
        let factor = f16::from_f32(1.5);
        let fused = |a: f16, b: f16, c: f16| f16::from_f64(a.to_f64() * b.to_f64() + c.to_f64());
        let packed = |a: f16, b: f16| fused(b, a, a * factor) - b;
        let mixed = |a: f16, b: f16| f16::from_f32(a.to_f32().mul_add(1.5, b.to_f32()));
        type Formula<'a> = &'a dyn Fn(f16, f16) -> f16;
        let all: [(&str, Formula<'_>); 3] =
            [("halves", &half), ("packed_halves", &packed), ("mixed", &mixed)];
        for (name, formula) in all {
            let mut memory = Memory::new();
            let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&halves(values)));
            let pc = memory.allocate(COUNT * 2);
            let arguments =
                Arguments::default().pointer(pa).pointer(pb).pointer(pc).word(COUNT as i32).float(1.5);
            run(object, name, 4, 64, arguments, &mut memory, seed).unwrap();
            let expected: Vec<f16> = a.iter().zip(&b).map(|(a, b)| formula(*a, *b)).collect();
            assert_eq!(read_halves(&memory, pc, COUNT), expected, "{name}");
        }
    });
}

#[test]
fn integers() {
    in_every_variant("elementwise.hip", |object, seed| {
        let mut random = Random(seed + 20);
        let (mut a, mut b) = (random.words(COUNT), random.words(COUNT));
        (a[3], b[5], a[7], b[7]) = (0, 0, i32::MIN, i32::MIN);
        let mut memory = Memory::new();
        let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&words(values)));
        let pc = memory.allocate(COUNT * 4);
        let arguments = Arguments::default().pointer(pa).pointer(pb).pointer(pc).word(COUNT as i32);
        run(object, "integers", 4, 64, arguments, &mut memory, seed).unwrap();
        let expected: Vec<i32> = a.iter().zip(&b).map(|(a, b)| mixed_bits(*a, *b)).collect();
        assert_eq!(read_words(&memory, pc, COUNT), expected);
    });
}

fn mixed_bits(a: i32, b: i32) -> i32 {
    let (ua, ub) = (a as u32, b as u32);
    let mut value = (ua << (ub & 7)) ^ (ub >> 3);
    value = value.wrapping_add(ua.count_ones() + ua.leading_zeros() + ub.trailing_zeros());
    let difference = if a > b { a.wrapping_sub(b) } else { b.wrapping_sub(a) };
    value ^= (difference as u32).wrapping_mul(2654435761);
    let high = ((u64::from(ua) * u64::from(ub)) >> 32) as u32;
    value = value.wrapping_add(high.wrapping_add(((i64::from(a) * i64::from(b)) >> 32) as u32));
    let bytes = i32::from((ua >> 8) as i8) * i32::from(ub as u8);
    value = value.wrapping_add((bytes as u32).wrapping_add(ua >> 5 & 0x3ff));
    value = value & 0xffff | ub << 16;
    (value ^ ua.min(ub).reverse_bits()) as i32 ^ (a.max(b) | 1)
}
