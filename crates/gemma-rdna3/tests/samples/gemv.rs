//! Dot products, and matrices of bytes and of blocks of half bytes times a vector.

use gemma_rdna3::Memory;
use half::f16;

use crate::common::{Arguments, Random, floats, in_every_variant, read_floats, read_words, run, words};

#[test]
fn bytes_times_bytes() {
    let (rows, columns) = (6, 32 * 16 + 7 * 16);
    in_every_variant("gemv.hip", |object, seed| {
        let mut random = Random(seed);
        let (weights, activations) = (random.bytes(rows * columns), random.bytes(columns));
        let scales = random.floats(rows);
        let mut memory = Memory::new();
        let w = memory.allocate_with(&weights);
        let a = memory.allocate_with(&activations);
        let s = memory.allocate_with(&floats(&scales));
        let (out, sums) = (memory.allocate(rows * 4), memory.allocate(rows * 4));
        let arguments = Arguments::default().pointer(w).pointer(a).pointer(s).pointer(out).pointer(sums);
        let arguments = arguments.word(rows as i32).word(columns as i32);
        run(object, "gemv_bytes", 2, 128, arguments, &mut memory, seed).unwrap();
        let expected: Vec<i32> = weights
            .chunks(columns)
            .map(|row| {
                row.iter().zip(&activations).map(|(w, a)| i32::from(*w as i8) * i32::from(*a as i8)).sum()
            })
            .collect();
        assert_eq!(read_words(&memory, sums, rows), expected);
        let scaled: Vec<f32> = expected.iter().zip(&scales).map(|(sum, scale)| *sum as f32 * scale).collect();
        assert_eq!(read_floats(&memory, out, rows), scaled);
    });
}

#[test]
fn blocks_of_half_bytes() {
    let (rows, blocks) = (5, 3);
    in_every_variant("gemv.hip", |object, seed| {
        let mut random = Random(seed + 5);
        let mut weights = random.bytes(rows * blocks * 18);
        for block in weights.chunks_mut(18) {
            block[..2].copy_from_slice(&f16::from_f32(random.float()).to_le_bytes());
        }
        let activations = random.floats(blocks * 32);
        let mut memory = Memory::new();
        let (w, a) = (memory.allocate_with(&weights), memory.allocate_with(&floats(&activations)));
        let out = memory.allocate(rows * 4);
        let arguments = Arguments::default().pointer(w).pointer(a).pointer(out);
        let arguments = arguments.word(rows as i32).word(blocks as i32);
        run(object, "gemv_blocks", rows as u32, 32, arguments, &mut memory, seed).unwrap();
        for (row, found) in read_floats(&memory, out, rows).into_iter().enumerate() {
            let mut lanes = [0.0_f32; 32];
            for block in 0..blocks {
                let bytes = &weights[(row * blocks + block) * 18..][..18];
                let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    let byte = bytes[2 + lane % 16];
                    let value = i32::from(if lane < 16 { byte & 15 } else { byte >> 4 }) - 8;
                    *sum = (scale * value as f32).mul_add(activations[block * 32 + lane], *sum);
                }
            }
            for distance in [16, 8, 4, 2, 1] {
                lanes = std::array::from_fn(|lane| lanes[lane] + lanes[lane ^ distance]);
            }
            assert_eq!(found, lanes[0], "row {row}");
        }
    });
}

#[test]
fn every_dot_product() {
    in_every_variant("gemv.hip", |object, seed| {
        let mut random = Random(seed + 9);
        let (a, b) = (random.words(32), random.words(32));
        let mut memory = Memory::new();
        let [pa, pb] = [&a, &b].map(|values| memory.allocate_with(&words(values)));
        let out = memory.allocate(32 * 8 * 4);
        let arguments = Arguments::default().pointer(pa).pointer(pb).pointer(out);
        run(object, "dots", 1, 32, arguments, &mut memory, seed).unwrap();
        for (lane, found) in read_words(&memory, out, 256).chunks(8).enumerate() {
            assert_eq!(found, dots(a[lane], b[lane]), "lane {lane}");
        }
    });
}

fn dots(a: i32, b: i32) -> [i32; 8] {
    let elements = |value: i32, bits: u32, signed: bool| -> Vec<i64> {
        let field = |index: u32| (value as u32) << (32 - bits * (index + 1));
        let one = |field: u32| {
            if signed { i64::from(field as i32 >> (32 - bits)) } else { i64::from(field >> (32 - bits)) }
        };
        (0..32 / bits).map(|index| one(field(index))).collect()
    };
    let dot = |bits: u32, signs: [bool; 2]| -> i64 {
        elements(a, bits, signs[0]).iter().zip(elements(b, bits, signs[1])).map(|(a, b)| a * b).sum()
    };
    let halves = |value: i32| -> [f64; 2] {
        let bits = (value as u32 & 0x3fff_3fff) | 0x2000_2000;
        [bits as u16, (bits >> 16) as u16].map(|bits| f16::from_bits(bits).to_f64())
    };
    let (ha, hb) = (halves(a), halves(b));
    let product = ha[0] * hb[0] + ha[1] * hb[1];
    [
        (dot(8, [true, true]) + i64::from(a)) as i32,
        (dot(8, [false, true]) + i64::from(b)) as i32,
        (dot(8, [true, false]) + 0x7fff_ff00).min(i64::from(i32::MAX)) as i32,
        (dot(4, [true, false]) + 1) as i32,
        (dot(8, [false, false]) + 0xffff_ff00).min(0xffff_ffff) as i32,
        (dot(4, [false, false]) + 3) as i32,
        ((product + 0.5) as f32).to_bits() as i32,
        ((0.5 - product) as f32).clamp(0.0, 1.0).to_bits() as i32,
    ]
}
