//! Lanes that reach each other: by address, row, pattern, swizzle and vote.

use gemma_rdna3::Memory;

use crate::common::{Arguments, Random, in_every_variant, read_words, run, words};

const COUNT: usize = 128;

/// Runs a kernel of waves on random words and compares with what a function makes of each wave.
fn compare(name: &str, of_wave: impl Fn(&[i32]) -> Vec<i32>) {
    in_every_variant("waves.hip", |object, seed| {
        let values: Vec<i32> = Random(seed).words(COUNT).iter().map(|value| value >> 12).collect();
        let mut memory = Memory::new();
        let (input, output) = (memory.allocate_with(&words(&values)), memory.allocate(COUNT * 4));
        let arguments = Arguments::default().pointer(input).pointer(output);
        let report = run(object, name, COUNT as u32 / 64, 64, arguments, &mut memory, seed).unwrap();
        let expected: Vec<i32> = values.chunks(32).flat_map(&of_wave).collect();
        assert_eq!(read_words(&memory, output, COUNT), expected, "{name}");
        assert_eq!(report.covered().0, report.covered().1, "{:?}", report.missed());
    });
}

fn sum(wave: &[i32]) -> Vec<i32> {
    vec![wave.iter().sum(); 32]
}

#[test]
fn sums_by_address() {
    compare("sum_by_address", sum);
}

#[test]
fn sums_by_rows() {
    compare("sum_by_rows", sum);
}

#[test]
fn running_sums() {
    let running = |wave: &[i32]| {
        let mut sum = 0;
        wave.iter()
            .map(|value| {
                sum += value;
                sum
            })
            .collect()
    };
    compare("running_sum", running);
}

#[test]
fn sums_by_swizzle() {
    compare("sum_by_swizzle", |wave| {
        let exchanged = |wave: &[i32], from: &dyn Fn(usize) -> usize| -> Vec<i32> {
            (0..32).map(|lane| wave[lane] + wave[from(lane)]).collect()
        };
        let mut sums = wave.to_vec();
        for distance in [16, 8, 4] {
            sums = exchanged(&sums, &|lane| lane ^ distance);
        }
        sums = exchanged(&sums, &|lane| lane & !3 | [2, 3, 0, 1][lane & 3]);
        exchanged(&sums, &|lane| lane ^ 1)
    });
}

#[test]
fn votes() {
    compare("votes", |wave| {
        let positive = (0..32).fold(0_u32, |mask, lane| mask | u32::from(wave[lane] > 0) << lane);
        let first_odd = *wave.iter().find(|value| **value & 1 != 0).expect("an odd value");
        (0..32)
            .map(|lane| {
                let below = (positive & ((1 << lane) - 1)).count_ones() as i32;
                let mut first = wave[0];
                let source = (lane + 2) % 32;
                if wave[lane] & 1 != 0 {
                    // A lane that takes no part gives zero.
                    let other = if wave[source] & 1 != 0 { wave[source] } else { 0 };
                    first ^= first_odd.wrapping_add(other);
                }
                let row = lane & 16;
                let rotated = wave[row | (lane.wrapping_sub(3) & 15)];
                // Only the upper half of the first row is written.
                let shared = if (8..16).contains(&lane) { wave[5] } else { 7 };
                let inside = wave[row | [7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8][lane & 15]];
                let terms = [
                    positive.count_ones() as i32,
                    below.wrapping_mul(64),
                    first.wrapping_mul(3),
                    wave[positive as usize & 31].wrapping_mul(5),
                    wave[(lane + 27) % 32].wrapping_mul(7),
                    rotated.wrapping_mul(11),
                    i32::wrapping_mul(shared, 13),
                    inside.wrapping_mul(17),
                ];
                terms.into_iter().fold(0, i32::wrapping_add)
            })
            .collect()
    });
}
