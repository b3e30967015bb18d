//! Control flow, constants in the object, wide integers, places in three dimensions.

use gemma_rdna3::{Memory, Options, launch};

use crate::common::{Arguments, Random, bytes, in_every_variant, read, read_words, run, words};

const TABLE: [i32; 16] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3];

#[test]
fn loops_that_lanes_leave_apart() {
    in_every_variant("control.hip", |object, seed| {
        let values = Random(seed).words(128);
        let mut memory = Memory::new();
        let (input, output) = (memory.allocate_with(&words(&values)), memory.allocate(512));
        let arguments = Arguments::default().pointer(input).pointer(output);
        run(object, "steps_to_one", 2, 64, arguments, &mut memory, seed).unwrap();
        let steps = |value: i32| {
            let (mut value, mut steps) = (value as u32 % 1000 + 1, 0);
            while value != 1 {
                value = if value % 2 == 1 { 3 * value + 1 } else { value / 2 };
                steps += 1;
            }
            steps
        };
        let expected: Vec<i32> = values.into_iter().map(steps).collect();
        assert_eq!(read_words(&memory, output, 128), expected);
    });
}

#[test]
fn branches() {
    let count = 230;
    in_every_variant("control.hip", |object, seed| {
        let values = Random(seed).words(count);
        let mut memory = Memory::new();
        let (input, output) = (memory.allocate_with(&words(&values)), memory.allocate(count * 4));
        let arguments = Arguments::default().pointer(input).pointer(output).word(count as i32);
        run(object, "branches", 4, 64, arguments, &mut memory, seed).unwrap();
        let expected: Vec<i32> = values.into_iter().map(branch).collect();
        assert_eq!(read_words(&memory, output, count), expected);
    });
}

fn branch(value: i32) -> i32 {
    let entry = TABLE[(value >> 3 & 15) as usize];
    match value & 7 {
        0 => value / 3,
        1 => value.wrapping_mul(5),
        2 => (value ^ 0x5555_5555).wrapping_add(entry),
        3 => entry,
        4 => (0..100).take_while(|round| (value >> (round & 15)) % 7 != 0).sum(),
        5 if value > 0 => {
            let rest = value % 1000;
            if rest & 1 == 1 { -rest } else { rest }
        }
        5 => value % 77,
        _ => -1,
    }
}

#[test]
fn wide_integers() {
    in_every_variant("control.hip", |object, seed| {
        let mut random = Random(seed);
        let mut a: Vec<u64> = (0..32).map(|_| random.bits()).collect();
        let mut b: Vec<u64> = (0..32).map(|_| random.bits() >> (random.bits() % 50)).collect();
        (a[0], b[0], a[1], b[1], a[2], b[2]) = (0, 0, u64::MAX, u64::MAX, 1 << 63, 1);
        let mut memory = Memory::new();
        let [pa, pb] =
            [&a, &b].map(|values| memory.allocate_with(&bytes(values, |value| value.to_le_bytes())));
        let out = memory.allocate(32 * 12 * 8);
        let arguments = Arguments::default().pointer(pa).pointer(pb).pointer(out);
        run(object, "wide", 1, 32, arguments, &mut memory, seed).unwrap();
        let found = read(&memory, out, 32 * 12, u64::from_le_bytes);
        for (lane, found) in found.chunks(12).enumerate() {
            assert_eq!(found, wide(a[lane], b[lane]), "{:#x} {:#x}", a[lane], b[lane]);
        }
    });
}

fn wide(a: u64, b: u64) -> [u64; 12] {
    let (ia, ib) = (a as i64, b as i64);
    let low = |value: u64| u64::from(value as u32);
    [
        a.wrapping_add(b),
        a.wrapping_sub(b),
        a.wrapping_mul(b),
        a / (b | 1),
        a % (b >> 40 | 1),
        ia.wrapping_div(ib | 1) as u64,
        a << (b & 63) ^ b >> (a & 63),
        (ia >> (b & 63)) as u64,
        if ia < ib { a } else { b },
        u64::from(if a > b { (a | 1).leading_zeros() } else { (b | 1 << 63).trailing_zeros() }),
        (low(a) * low(b)).wrapping_add(b),
        (i64::from(a as i32) * i64::from(b as i32)).wrapping_add(i64::from(b.count_ones())) as u64,
    ]
}

#[test]
fn the_same_for_all_lanes() {
    in_every_variant("control.hip", |object, seed| {
        for [a, b] in [[77_i32, 5], [123_456_789, 987_654], [-5, 3], [40, -7]] {
            let mut memory = Memory::new();
            let (input, output) = (memory.allocate_with(&words(&[a, b])), memory.allocate(256));
            let arguments = Arguments::default().pointer(input).pointer(output);
            run(object, "uniform", 2, 32, arguments, &mut memory, seed).unwrap();
            let sum = uniform(a, b);
            let expected: Vec<i32> = (0..64).map(|item| sum.wrapping_add(item % 32 * (item / 32))).collect();
            assert_eq!(read_words(&memory, output, 64), expected, "{a} {b}");
        }
    });
}

fn uniform(a: i32, b: i32) -> i32 {
    let mut sum = 0_i32;
    for round in 0..a as u32 % 50 {
        let entry = TABLE[(round.wrapping_add(b as u32) & 15) as usize];
        sum = sum.wrapping_add(entry * round as i32);
        sum ^= sum << 3;
        let more = if sum < 0 { 5 } else { (sum | 1).leading_zeros() };
        sum = sum.wrapping_add((sum.count_ones() + more) as i32);
    }
    let wide = u64::from(a as u32) << 20 | u64::from(b as u32);
    let parts =
        [(wide >> 7) as i32, (wide.wrapping_mul(3) >> 33) as i32, if a > b { a / 7 } else { b / 9 }, a & !b];
    parts.into_iter().fold(sum, i32::wrapping_add)
}

#[test]
fn places_in_three_dimensions() {
    in_every_variant("control.hip", |object, seed| {
        let kernel = object.kernel("places").expect("the kernel");
        let mut memory = Memory::new();
        let output = memory.allocate(12 * 60 * 4);
        let options = Options { seed, ..Options::default() };
        launch(object, kernel, [2, 3, 2], [5, 4, 3], &output.to_le_bytes(), &mut memory, &options).unwrap();
        let expected: Vec<i32> = (0..12 * 60)
            .map(|index| {
                let (item, group) = (index % 60, index / 60);
                let places = [item % 5, item / 5 % 4, item / 20, group % 2, group / 2 % 3, group / 6];
                places.iter().rev().fold(0, |number, digit| number * 10 + digit)
            })
            .collect();
        assert_eq!(read_words(&memory, output, 12 * 60), expected);
    });
}
