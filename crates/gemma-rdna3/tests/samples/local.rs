//! Local memory and barriers, with waves in many orders.

use gemma_rdna3::{Memory, Options, launch};
use half::f16;

use crate::common::{Arguments, Random, floats, in_every_variant, read_floats, read_words, run};

#[test]
fn product_by_tiles() {
    let size = 48;
    in_every_variant("local.hip", |object, seed| {
        let mut random = Random(seed);
        let (a, b) = (random.floats(size * size), random.floats(size * size));
        let mut expected = vec![0.0_f32; size * size];
        for row in 0..size {
            for column in 0..size {
                let products = (0..size).map(|k| (a[row * size + k], b[k * size + column]));
                expected[row * size + column] = products.fold(0.0, |sum: f32, (a, b)| a.mul_add(b, sum));
            }
        }
        for order in 0..3 {
            let mut memory = Memory::new();
            let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&floats(values)));
            let pc = memory.allocate(size * size * 4);
            let mut arguments = Arguments::default().pointer(pa).pointer(pb).pointer(pc).word(size as i32).0;
            let kernel = object.kernel("product").expect("the kernel");
            arguments.resize(kernel.argument_bytes(), 0);
            let options = Options { seed: seed * 10 + order, ..Options::default() };
            launch(object, kernel, [3, 3, 1], [256, 1, 1], &arguments, &mut memory, &options).unwrap();
            assert_eq!(read_floats(&memory, pc, size * size), expected);
        }
    });
}

struct Sums {
    input: u64,
    output: u64,
    counts: u64,
}

fn sums(memory: &mut Memory, values: &[f32], results: usize) -> (Sums, Arguments) {
    let input = memory.allocate_with(&floats(values));
    let (output, counts) = (memory.allocate(results * 4), memory.allocate(results * 4));
    let arguments = Arguments::default().pointer(input).pointer(output).pointer(counts);
    (Sums { input, output, counts }, arguments)
}

#[test]
fn sums_across_waves() {
    let (rows, count) = (3, 700);
    in_every_variant("local.hip", |object, seed| {
        let values = Random(seed).floats(rows * count);
        let mut memory = Memory::new();
        let (places, arguments) = sums(&mut memory, &values, rows * 2);
        run(object, "sum_and_largest", rows as u32, 256, arguments.word(count as i32), &mut memory, seed)
            .unwrap();
        for (row, found) in values.chunks(count).zip(read_floats(&memory, places.output, rows * 2).chunks(2))
        {
            let sum: f64 = row.iter().map(|value| f64::from(*value)).sum();
            assert!((f64::from(found[0]) - sum).abs() < 1e-4, "{} {sum}", found[0]);
            assert_eq!(found[1], row.iter().copied().fold(f32::MIN, f32::max));
        }
    });
}

#[test]
fn histogram() {
    let groups = 2;
    in_every_variant("local.hip", |object, seed| {
        let values = Random(seed).floats(groups * 128);
        let mut memory = Memory::new();
        let (places, arguments) = sums(&mut memory, &values, groups * 128);
        run(object, "histogram", groups as u32, 128, arguments.word(0), &mut memory, seed).unwrap();
        let bin = |value: f32| ((value + 1.0) * 16.0) as u32 & 31;
        let mut counts = vec![0; groups * 32];
        let mut expected = Vec::new();
        for (group, values) in values.chunks(128).enumerate() {
            for (item, value) in values.iter().enumerate() {
                counts[group * 32 + bin(*value) as usize] += 1;
                expected.push(f16::from_f32(values[127 - item]).to_f32() + bin(values[item ^ 1]) as f32);
            }
        }
        assert_eq!(read_words(&memory, places.counts, counts.len()), counts);
        assert_eq!(read_floats(&memory, places.output, expected.len()), expected);
    });
}

#[test]
fn sixteen_bytes_at_a_time() {
    in_every_variant("local.hip", |object, seed| {
        let values = Random(seed).floats(2 * 64 * 4);
        let mut memory = Memory::new();
        let (places, arguments) = sums(&mut memory, &values, values.len());
        assert_ne!(places.input, places.output);
        run(object, "reverse", 2, 64, arguments.word(0), &mut memory, seed).unwrap();
        let expected: Vec<f32> = (0..values.len())
            .map(|index| {
                let (group, item, part) = (index / 256, index / 4 % 64, index % 4);
                let value = |item: usize| values[group * 256 + item * 4 + part];
                value(63 - item) + value(item ^ 1) * 2.0
            })
            .collect();
        assert_eq!(read_floats(&memory, places.output, expected.len()), expected);
    });
}

#[test]
fn waves_that_ended_are_not_waited_for() {
    in_every_variant("local.hip", |object, seed| {
        let mut memory = Memory::new();
        let (places, arguments) = sums(&mut memory, &[0.0], 96);
        run(object, "early_end", 1, 96, arguments.word(0), &mut memory, seed).unwrap();
        let value = |item: i32| (item + 64) % 96 * 3;
        let later = |item: i32| value(if item == 95 { 32 } else { item + 1 }) + 1;
        let expected: Vec<i32> =
            (0..96).map(|item| if item < 32 { value(item) } else { later(item) }).collect();
        assert_eq!(read_words(&memory, places.counts, 96), expected);
    });
}
