//! Products with activations rounded to 8 bits: against sums in f64 over the same rounded values, and bit against bit.

use gemma_cpu::pool::Pool;
use gemma_cpu::simd::{Activations, Isa, Kernels, Output, linear, linear_many, linear_rows};
use gemma_hal::block::{BLOCK, dequantise_row, quantise_row};
use gemma_hal::conformance::nmse;
use gemma_hal::{DType, Storage, Weight};

/// Squared error relative to the squared size, against the same rounded activations: the rounding of f32 sums alone.
const BOUND: f64 = 1e-12;

/// The same against activations as they are.
const ROUNDING: f64 = 1e-4;

fn kernels() -> Vec<Kernels> {
    Isa::available().into_iter().map(|isa| Kernels { isa, activations: Activations::Int8 }).collect()
}

fn rounds(kernels: Kernels) -> Vec<DType> {
    DType::ALL.into_iter().filter(|dtype| kernels.rounds_for(*dtype)).collect()
}

/// The same values for the same seed, in −1 to 1.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn stored(dtype: DType, rows: usize, columns: usize, values: &[f32]) -> Weight {
    let mut bytes = vec![0xff; 2];
    values.chunks(columns).for_each(|row| bytes.extend(quantise_row(dtype, row)));
    Weight::new(Storage::new("test", bytes), 2, rows, columns, dtype).unwrap()
}

fn weight(dtype: DType, rows: usize, columns: usize, seed: u64) -> Weight {
    stored(dtype, rows, columns, &values(rows * columns, seed))
}

/// What the kernels make of activations.
fn rounded(values: &[f32]) -> Vec<f64> {
    let block = |block: &[f32; BLOCK]| {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let (scale, inverse) = (largest / 127.0, if largest < 1e-30 { 0.0 } else { 127.0 / largest });
        block.map(|value| f64::from((value * inverse).round_ties_even()) * f64::from(scale))
    };
    values.as_chunks().0.iter().flat_map(block).collect()
}

fn product(weight: &Weight, input: &[f64]) -> Vec<f32> {
    let mut row = vec![0.0; weight.columns()];
    let mut out = vec![0.0; weight.rows() * input.len() / weight.columns()];
    for r in 0..weight.rows() {
        dequantise_row(weight.dtype(), weight.row(r), &mut row);
        for (t, input) in input.chunks(weight.columns()).enumerate() {
            let sum: f64 = row.iter().zip(input).map(|(a, b)| f64::from(*a) * b).sum();
            out[t * weight.rows() + r] = sum as f32;
        }
    }
    out
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], bound: f64) {
    let error = nmse(found, expected);
    // Written so that NaN fails.
    assert!(error <= bound, "{what}: relative squared error {error:e}, at most {bound:e}");
}

#[test]
fn every_format_shape_and_count_matches_f64() {
    let pool = Pool::new(2).unwrap();
    for kernels in kernels() {
        for dtype in rounds(kernels) {
            for (rows, columns) in [(1, 256), (4, 512), (7, 1280), (33, 768), (50, 2304), (64, 1024)] {
                let weight = weight(dtype, rows, columns, 1);
                for n in [1, 2, 3, 4, 5, 6, 7, 8, 13, 33] {
                    let input = values(n * columns, 2);
                    let mut output = vec![f32::NAN; n * rows];
                    linear(kernels, &pool, &weight, &input, n, &mut output);
                    let what = format!("{} {dtype} {rows}x{columns}, {n} inputs", kernels.isa.name());
                    assert_near(&what, &output, &product(&weight, &rounded(&input)), BOUND);
                    let exact: Vec<f64> = input.iter().map(|value| f64::from(*value)).collect();
                    assert_near(&what, &output, &product(&weight, &exact), ROUNDING);
                }
            }
        }
    }
}

#[test]
fn incomplete_groups_of_blocks_count_as_far_as_they_go() {
    let pool = Pool::new(1).unwrap();
    for kernels in kernels() {
        for dtype in rounds(kernels).into_iter().filter(|dtype| dtype.block_len() == BLOCK) {
            for columns in [32, 64, 96, 128, 160, 224, 1056] {
                let parent = weight(dtype, 21, columns + 64, 3);
                let view = parent.rows_view(1, 19).unwrap().columns_view(columns).unwrap();
                for n in [1, 3, 9] {
                    let input = values(n * columns, 4);
                    let mut output = vec![f32::NAN; n * 19];
                    linear(kernels, &pool, &view, &input, n, &mut output);
                    let what = format!("{} {dtype} {columns} columns, {n} inputs", kernels.isa.name());
                    assert_near(&what, &output, &product(&view, &rounded(&input)), BOUND);
                }
            }
        }
    }
}

#[test]
fn thread_counts_and_batches_change_no_bit() {
    for kernels in kernels() {
        for dtype in rounds(kernels) {
            let columns = if dtype.block_len() == BLOCK { 1184 } else { 1280 };
            let rows = 150;
            let weight = weight(dtype, rows, columns, 5);
            let input = values(70 * columns, 6);
            let one = Pool::new(1).unwrap();
            let mut alone = vec![0.0; 70 * rows];
            for (input, output) in input.chunks(columns).zip(alone.chunks_mut(rows)) {
                linear(kernels, &one, &weight, input, 1, output);
            }
            for threads in [1, 2, 3] {
                let pool = Pool::new(threads).unwrap();
                for n in [1, 2, 3, 4, 5, 6, 7, 19, 32, 33, 70] {
                    let mut output = vec![0.0; n * rows];
                    linear(kernels, &pool, &weight, &input[..n * columns], n, &mut output);
                    let same = output.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{} {dtype}: {n} inputs on {threads} threads", kernels.isa.name());
                }
            }
        }
    }
}

#[test]
fn weights_of_all_types_share_an_input_and_strides_leave_gaps_alone() {
    let pool = Pool::new(3).unwrap();
    for kernels in kernels() {
        let weights = [(DType::BF16, 70), (DType::Q4_0, 1), (DType::Q8_0, 0), (DType::Q8_0, 33)]
            .map(|(dtype, rows)| weight(dtype, rows, 512, rows as u64));
        for n in [1, 8] {
            let input = values(n * 512, 7);
            let mut together = weights.each_ref().map(|weight| vec![7.0; n * (weight.rows() + 3)]);
            let mut outputs: Vec<_> = weights
                .iter()
                .zip(&mut together)
                .map(|(weight, values)| Output::with_stride(weight, values, weight.rows() + 3))
                .collect();
            linear_many(kernels, &pool, &mut outputs, &input, n);
            for (weight, together) in weights.iter().zip(&together) {
                let mut alone = vec![0.0; n * weight.rows()];
                linear(kernels, &pool, weight, &input, n, &mut alone);
                for (t, together) in together.chunks(weight.rows() + 3).enumerate() {
                    assert_eq!(together[..weight.rows()], alone[t * weight.rows()..(t + 1) * weight.rows()]);
                    assert_eq!(together[weight.rows()..], [7.0; 3], "{} input {t}", kernels.isa.name());
                }
            }
        }
    }
}

#[test]
fn chosen_rows_are_those_of_the_whole_product() {
    let pool = Pool::new(2).unwrap();
    for kernels in kernels() {
        for dtype in rounds(kernels) {
            let weight = weight(dtype, 200, 768, 10);
            let input = values(768, 11);
            let mut all = vec![0.0; 200];
            linear(kernels, &pool, &weight, &input, 1, &mut all);
            let rows = [199, 0, 7, 7, 54, 120, 3];
            let mut some = vec![0.0; rows.len()];
            linear_rows(kernels, &pool, &weight, &rows, &input, &mut some);
            assert_eq!(some, rows.map(|row| all[row as usize]), "{} {dtype}", kernels.isa.name());
        }
    }
}

#[test]
fn extremes_neither_overflow_nor_lose_a_step() {
    let pool = Pool::new(1).unwrap();
    for kernels in kernels() {
        for dtype in rounds(kernels) {
            // Largest weights and activations of both signs, then zeros; scales from huge to tiny.
            for (size, factor) in [(1.0, 1.0), (3e4, 1e20), (1e-3, 1e-20), (0.0, 1.0), (1.0, 0.0)] {
                let row = |sign: f32| (0..1024).map(move |i| if i % 3 == 0 { -size } else { sign * size });
                let weight = stored(dtype, 2, 1024, &row(1.0).chain(row(-1.0)).collect::<Vec<f32>>());
                for n in [1, 8] {
                    let input: Vec<f32> = (0..n * 1024)
                        .map(|i| if i / 512 % 2 == 0 { factor } else { -0.5 * factor })
                        .collect();
                    let mut output = vec![f32::NAN; n * 2];
                    linear(kernels, &pool, &weight, &input, n, &mut output);
                    let what = format!("{} {dtype}, {size} times {factor}, {n} inputs", kernels.isa.name());
                    assert_near(&what, &output, &product(&weight, &rounded(&input)), 1e-11);
                }
            }
        }
    }
}

#[test]
fn the_most_negative_quant_does_not_saturate() {
    // No quantiser of ours makes −128, but a file may hold it.
    let mut bytes = Vec::new();
    for _ in 0..2 * 16 {
        bytes.extend([0x00, 0x3c]);
        bytes.extend([0x80; BLOCK]);
    }
    let weight = Weight::new(Storage::new("test", bytes), 0, 2, 512, DType::Q8_0).unwrap();
    let pool = Pool::new(1).unwrap();
    for kernels in kernels() {
        for n in [1, 2, 8] {
            for sign in [1.0, -1.0] {
                let input = vec![sign; n * 512];
                let mut output = vec![f32::NAN; n * 2];
                linear(kernels, &pool, &weight, &input, n, &mut output);
                let what = format!("{}, {n} inputs of {sign}", kernels.isa.name());
                assert_near(&what, &output, &product(&weight, &rounded(&input)), BOUND);
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    let pool = Pool::new(1).unwrap();
    for kernels in kernels() {
        for dtype in rounds(kernels) {
            let weight = weight(dtype, 5, 512, 12);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for n in [1, 8] {
                    let mut input = values(n * 512, 13);
                    input[(n - 1) * 512 + 77] = bad;
                    let mut output = vec![0.0; n * 5];
                    linear(kernels, &pool, &weight, &input, n, &mut output);
                    let (good, last) = output.split_at((n - 1) * 5);
                    assert!(
                        good.iter().all(|x| x.is_finite()) && last.iter().all(|x| x.is_nan()),
                        "{bad}, {n}"
                    );
                }
            }
        }
    }
}
