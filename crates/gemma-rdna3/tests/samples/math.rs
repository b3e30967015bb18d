//! Functions that the hardware approximates, divisions, conversions.

use gemma_rdna3::Memory;
use half::f16;

use crate::common::{Arguments, Random, floats, in_every_variant, read_floats, read_words, run};

const COUNT: usize = 128;

/// Random numbers of many magnitudes, with special ones among them; the second ones are positive.
fn numbers(seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut random = Random(seed);
    let mut number = || random.float() * 2f32.powi((random.bits() % 40) as i32 - 20);
    let (mut a, mut b): (Vec<f32>, Vec<f32>) =
        (0..COUNT).map(|_| (number(), number().abs().max(1e-30))).unzip();
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, f32::MAX, f32::MIN_POSITIVE, 1e-40];
    for (index, a_special) in special.into_iter().enumerate() {
        a[index] = a_special;
        b[16 + index] = f32::abs(a_special);
        (a[32 + index], b[32 + index]) = (a_special, special[(index * 4 + 1) % 9].abs());
    }
    (a, b)
}

fn results(name: &str, each: usize, check: impl Fn(f32, f32, &[f32], &str)) {
    in_every_variant("math.hip", |object, seed| {
        let (a, b) = numbers(seed);
        let mut memory = Memory::new();
        let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&floats(values)));
        let out = memory.allocate(COUNT * each * 4);
        let arguments = Arguments::default().pointer(pa).pointer(pb).pointer(out);
        run(object, name, COUNT as u32 / 64, 64, arguments, &mut memory, seed).unwrap();
        for (index, found) in read_floats(&memory, out, COUNT * each).chunks(each).enumerate() {
            check(a[index], b[index], found, &format!("a {:e} b {:e}", a[index], b[index]));
        }
    });
}

#[track_caller]
fn same(found: f32, expected: f32, place: &str) {
    assert!(
        found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
        "{found:e} {expected:e}, {place}"
    );
}

#[test]
fn approximated_functions_are_rounded_once() {
    let flushed = |value: f32| if value.is_subnormal() { 0.0 * value } else { value };
    results("approximate", 8, |a, b, found, place| {
        let (wide_a, wide_b) = (f64::from(flushed(a)), f64::from(flushed(b)));
        let expected = [
            wide_a.exp2(),
            wide_b.log2(),
            wide_a.recip(),
            wide_b.sqrt().recip(),
            wide_b.sqrt(),
            ((wide_a % 1.0) * std::f64::consts::TAU).sin(),
            ((wide_a % 1.0) * std::f64::consts::TAU).cos(),
        ];
        for (found, expected) in found.iter().zip(expected) {
            same(*found, flushed(expected as f32), place);
        }
    });
}

#[test]
fn division_and_roots_are_exact() {
    results("exact", 16, |a, b, found, place| {
        same(found[0], a / b, place);
        same(found[1], b / a, place);
        same(found[2], b.sqrt(), place);
        same(found[3], a.floor() + b.ceil(), place);
        same(found[4], a.trunc(), place);
        same(found[5], a.round_ties_even(), place);
        same(found[6], (f64::from(a) / f64::from(b)) as f32, place);
        same(found[7], (f64::from(a) * f64::from(b) + f64::from(b).sqrt()) as f32, place);
        if b < 900.0 {
            same(found[8], (f64::from(a) * f64::from(b as i32).exp2()) as f32, place);
            if a.abs() < 2e9 {
                same(found[9], a as i32 as f32 + b as u32 as f32, place);
            }
        }
        same(found[10], a.min(b) - a.max(0.5), place);
        let mut three = [a, b, 1.0];
        three.sort_by(f32::total_cmp);
        if !a.is_nan() && !b.is_nan() {
            same(found[11], three[1], place);
        }
        if a.is_finite() && a != 0.0 {
            same((f64::from(found[12]) * f64::from(found[13]).exp2()) as f32, a, place);
            assert!((0.5..1.0).contains(&found[12].abs()), "{place}");
        }
        let half = f16::from_f64(f16::from_f32(a).to_f64() / f16::from_f32(b).to_f64());
        same(found[14], half.to_f32(), place);
        same(found[15], -(a.abs() * 0.5), place);
    });
}

#[test]
fn gate_and_softmax() {
    in_every_variant("math.hip", |object, seed| {
        let a: Vec<f32> = Random(seed).floats(64).iter().map(|value| value * 4.0).collect();
        let mut memory = Memory::new();
        let (pa, out) = (memory.allocate_with(&floats(&a)), memory.allocate(64 * 8));
        let arguments = Arguments::default().pointer(pa).pointer(pa).pointer(out);
        run(object, "gate_and_softmax", 2, 32, arguments, &mut memory, seed).unwrap();
        let found = read_floats(&memory, out, 128);
        for (wave, values) in a.chunks(32).enumerate() {
            let total: f64 = values.iter().map(|value| f64::from(*value).exp()).sum();
            for (lane, value) in values.iter().enumerate() {
                let x = f64::from(*value);
                let gate = 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044715 * x * x * x)).tanh());
                let pair = &found[(wave * 32 + lane) * 2..][..2];
                assert!((f64::from(pair[0]) - gate).abs() < 2e-6, "{} {gate}", pair[0]);
                assert!((f64::from(pair[1]) - x.exp() / total).abs() < 1e-6, "{}", pair[1]);
            }
        }
    });
}

#[test]
fn conversions() {
    in_every_variant("math.hip", |object, seed| {
        let mut random = Random(seed + 7);
        let [a, b]: [Vec<f32>; 2] =
            [0, 1].map(|_| random.floats(COUNT).iter().map(|value| value * 300.0).collect());
        let mut memory = Memory::new();
        let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&floats(values)));
        let out = memory.allocate(COUNT * 8 * 4);
        let arguments = Arguments::default().pointer(pa).pointer(pb).pointer(out);
        run(object, "conversions", COUNT as u32 / 64, 64, arguments, &mut memory, seed).unwrap();
        for (index, found) in read_words(&memory, out, COUNT * 8).chunks(8).enumerate() {
            assert_eq!(
                found,
                converted(a[index], b[index]).map(|word| word as i32),
                "{} {}",
                a[index],
                b[index]
            );
        }
    });
}

fn converted(a: f32, b: f32) -> [u32; 8] {
    let half = |value: f32| f16::from_f32(value);
    let cut = |value: f32| {
        let near = half(value);
        // One step towards zero where the nearest is beyond.
        u32::from(if near.to_f32().abs() > value.abs() { near.to_bits() - 1 } else { near.to_bits() })
    };
    let byte = |value: f32| value.round_ties_even().clamp(0.0, 255.0) as u32;
    let wide = u64::from(a.to_bits()) << 32 | u64::from(b.to_bits());
    [
        cut(a) | cut(b) << 16,
        u32::from(half(a).to_bits()) | u32::from(half(b).to_bits()) << 16,
        (a * 65536.0) as i64 as u32,
        0x0022_0044 | byte(a) << 8 | byte(b) << 24,
        (f32::from(a as i32 as u8) + (b as i32 as u32 >> 8 & 255) as f32).to_bits(),
        ((a.to_bits() >> 16 & 255) as f32).to_bits(),
        half(a).to_f32() as i32 as u32,
        (wide & 255) as u32 | ((wide >> 16 & 255) as u32 * 256) | ((wide >> 56) as u32 * 65536),
    ]
}
