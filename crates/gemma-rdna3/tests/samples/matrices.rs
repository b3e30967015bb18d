//! Matrix products against their definition.

use gemma_rdna3::{CodeObject, Memory};
use half::{bf16, f16};

use crate::common::{
    Arguments, Random, bytes, floats, halves, in_every_variant, read_floats, read_halves, read_words, run,
    words,
};

const SIZE: usize = 16;

/// Runs a kernel of four matrices; gives memory and the place of the result.
fn product(object: &CodeObject, name: &str, matrices: [&[u8]; 3], result: usize, seed: u64) -> (Memory, u64) {
    let mut memory = Memory::new();
    let [a, b, c] = matrices.map(|matrix| memory.allocate_with(matrix));
    let d = memory.allocate(result);
    let arguments = Arguments::default().pointer(a).pointer(b).pointer(c).pointer(d);
    run(object, name, 1, 32, arguments, &mut memory, seed).unwrap();
    (memory, d)
}

/// `c + a * b` by its definition; rows of A, columns of B.
fn definition<T: Copy>(a: &[T], b: &[T], c: &[f32], to: impl Fn(T) -> f32) -> Vec<f64> {
    (0..SIZE * SIZE)
        .map(|index| {
            let (row, column) = (&a[index / SIZE * SIZE..][..SIZE], &b[index % SIZE * SIZE..][..SIZE]);
            let products = row.iter().zip(column).map(|(a, b)| f64::from(to(*a)) * f64::from(to(*b)));
            f64::from(c[index]) + products.sum::<f64>()
        })
        .collect()
}

#[track_caller]
fn near(found: impl IntoIterator<Item = f32>, expected: &[f64], tolerance: f64) {
    for (index, (found, expected)) in found.into_iter().zip(expected).enumerate() {
        assert!((f64::from(found) - expected).abs() <= tolerance, "{index}: {found} {expected}");
    }
}

#[test]
fn of_halves() {
    in_every_variant("matrices.hip", |object, seed| {
        let mut random = Random(seed);
        let (a, b, c) = (random.halves(256), random.halves(256), random.floats(256));
        let expected = definition(&a, &b, &c, f16::to_f32);
        let (memory, d) =
            product(object, "product_halves", [&halves(&a), &halves(&b), &floats(&c)], 1024, seed);
        near(read_floats(&memory, d, 256), &expected, 1e-6);
    });
}

#[test]
fn of_brain_floats() {
    in_every_variant("matrices.hip", |object, seed| {
        let mut random = Random(seed + 1);
        let [a, b] = [0, 1].map(|_| random.floats(256).into_iter().map(bf16::from_f32).collect::<Vec<_>>());
        let c = random.floats(256);
        let expected = definition(&a, &b, &c, bf16::to_f32);
        let [pa, pb] = [&a, &b].map(|matrix| bytes(matrix, |value| value.to_le_bytes()));
        let (memory, d) = product(object, "product_brains", [&pa, &pb, &floats(&c)], 1024, seed);
        near(read_floats(&memory, d, 256), &expected, 1e-6);
    });
}

#[test]
fn of_halves_with_sums_in_halves() {
    in_every_variant("matrices.hip", |object, seed| {
        let mut random = Random(seed + 2);
        let (a, b, c) = (random.halves(256), random.halves(256), random.halves(512));
        let matrices = [&halves(&a)[..], &halves(&b), &halves(&c)];
        let (memory, d) = product(object, "product_to_halves", matrices, 1024, seed);
        let found = read_halves(&memory, d, 512);
        for part in 0..2 {
            let start: Vec<f32> = c[part * 256..][..256].iter().map(|value| value.to_f32()).collect();
            let expected = definition(&a, &b, &start, f16::to_f32);
            near(found[part * 256..][..256].iter().map(|value| value.to_f32()), &expected, 4e-3);
        }
    });
}

#[test]
fn of_bytes() {
    for (name, signs, limit) in [
        ("product_signed_bytes", [true, true], false),
        ("product_mixed_bytes", [false, true], false),
        ("product_limited_bytes", [true, false], true),
    ] {
        in_every_variant("matrices.hip", |object, seed| {
            let mut random = Random(seed + 3);
            let (a, b) = (random.bytes(256), random.bytes(256));
            // Near the largest number, so that the limit matters.
            let c: Vec<i32> = random
                .words(256)
                .iter()
                .map(|word| if word & 1 == 0 { i32::MAX - 9 } else { *word >> 3 })
                .collect();
            let value = |byte: u8, signed: bool| if signed { i64::from(byte as i8) } else { i64::from(byte) };
            let expected: Vec<i32> = (0..256)
                .map(|index| {
                    let (row, column) = (&a[index / 16 * 16..][..16], &b[index % 16 * 16..][..16]);
                    let products =
                        row.iter().zip(column).map(|(a, b)| value(*a, signs[0]) * value(*b, signs[1]));
                    let sum = i64::from(c[index]) + products.sum::<i64>();
                    if limit {
                        sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
                    } else {
                        sum as i32
                    }
                })
                .collect();
            let (memory, d) = product(object, name, [&a, &b, &words(&c)], 1024, seed);
            assert_eq!(read_words(&memory, d, 256), expected, "{name}");
        });
    }
}

#[test]
fn of_half_bytes() {
    in_every_variant("matrices.hip", |object, seed| {
        let mut random = Random(seed + 4);
        let (a, b) = (random.bytes(128), random.bytes(128));
        let element = |matrix: &[u8], row: usize, k: usize, signed: bool| {
            let nibble = matrix[row * 8 + k / 2] >> (4 * (k % 2)) & 15;
            if signed { i32::from((nibble << 4) as i8 >> 4) } else { i32::from(nibble) }
        };
        let expected: Vec<i32> = (0..256)
            .map(|index| {
                (0..16).map(|k| element(&a, index / 16, k, true) * element(&b, index % 16, k, false)).sum()
            })
            .collect();
        let (memory, d) = product(object, "product_half_bytes", [&a, &b, &[0]], 1024, seed);
        assert_eq!(read_words(&memory, d, 256), expected);
    });
}

#[test]
fn of_tiles_through_local_memory() {
    let k = 80;
    in_every_variant("matrices.hip", |object, seed| {
        let mut random = Random(seed + 6);
        let (a, b) = (random.halves(32 * k), random.halves(32 * k));
        let mut memory = Memory::new();
        let [pa, pb] = [&a, &b].map(|matrix| memory.allocate_with(&halves(matrix)));
        let pc = memory.allocate(32 * 32 * 4);
        let arguments = Arguments::default().pointer(pa).pointer(pb).pointer(pc).word(k as i32);
        run(object, "gemm_halves", 1, 128, arguments, &mut memory, seed).unwrap();
        let expected: Vec<f64> = (0..32 * 32)
            .map(|index| {
                let (row, column) = (&a[index / 32 * k..][..k], &b[index % 32 * k..][..k]);
                row.iter().zip(column).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
            })
            .collect();
        near(read_floats(&memory, pc, 32 * 32), &expected, 1e-5);
    });
}
