//! Linear layers against sums in f64 over the plainly dequantised weights, on every instruction set of this machine.

use gemma_cpu::pool::Pool;
use gemma_cpu::simd::{Isa, Output, linear, linear_many, linear_rows};
use gemma_hal::block::{dequantise_row, quantise_row};
use gemma_hal::{DType, Storage, Weight};

/// Squared error relative to the squared size, at most. Decoding is exact, so this is the rounding of f32 sums alone.
const BOUND: f64 = 1e-12;

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

/// A weight that begins at an odd offset of its storage where its type allows, to show that nothing needs alignment.
fn weight(dtype: DType, rows: usize, columns: usize, seed: u64) -> Weight {
    let mut bytes = vec![0xff; 2];
    for row in values(rows * columns, seed).chunks(columns) {
        bytes.extend(quantise_row(dtype, row));
    }
    Weight::new(Storage::new("test", bytes), 2, rows, columns, dtype).unwrap()
}

fn expected(weight: &Weight, input: &[f32]) -> Vec<f64> {
    let mut row = vec![0.0; weight.columns()];
    let mut out = vec![0.0; weight.rows() * input.len() / weight.columns()];
    for r in 0..weight.rows() {
        dequantise_row(weight.dtype(), weight.row(r), &mut row);
        for (t, input) in input.chunks(weight.columns()).enumerate() {
            out[t * weight.rows() + r] =
                row.iter().zip(input).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        }
    }
    out
}

fn assert_close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let error: f64 = got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let size: f64 = expected.iter().map(|b| b * b).sum();
    // Not `error > bound`: a NaN must fail.
    assert!(error <= BOUND * size, "{what}: relative squared error {}", error / size);
}

/// Shapes that are not whole tiles, panels, blocks of columns or chunks, and one that is all of them.
fn shapes(dtype: DType) -> Vec<(usize, usize)> {
    let shapes = [(1, 32), (4, 64), (7, 1056), (33, 96), (50, 2080), (64, 1024)];
    let mut shapes = shapes.map(|(rows, columns)| (rows, columns_of(dtype, columns))).to_vec();
    if dtype.block_len() == 1 {
        shapes.extend([(1, 1), (5, 31), (9, 33), (18, 1025), (3, 1057)]);
    }
    shapes
}

/// The least number of columns, `wanted` or more, that ends on a block.
fn columns_of(dtype: DType, wanted: usize) -> usize {
    wanted.next_multiple_of(dtype.block_len())
}

#[test]
fn every_format_shape_and_count_matches_f64() {
    let pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for dtype in DType::ALL {
            for (rows, columns) in shapes(dtype) {
                let weight = weight(dtype, rows, columns, 1);
                for n in [1, 2, 3, 4, 5, 6, 7, 8, 13, 33] {
                    let input = values(n * columns, 2);
                    let mut output = vec![f32::NAN; n * rows];
                    linear(isa, &pool, &weight, &input, n, &mut output);
                    let what = format!("{} {dtype} {rows}x{columns}, {n} inputs", isa.name());
                    assert_close(&what, &output, &expected(&weight, &input));
                }
            }
        }
    }
}

#[test]
fn views_of_fewer_rows_and_columns_use_the_parent_s_bytes() {
    let pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for dtype in DType::ALL {
            let parent = weight(dtype, 40, columns_of(dtype, 160) + columns_of(dtype, 32), 3);
            let columns = columns_of(dtype, 77);
            let view = parent.rows_view(5, 21).unwrap().columns_view(columns).unwrap();
            for n in [1, 9] {
                let input = values(n * columns, 4);
                let mut output = vec![f32::NAN; n * 21];
                linear(isa, &pool, &view, &input, n, &mut output);
                assert_close(&format!("{} {dtype}", isa.name()), &output, &expected(&view, &input));
            }
        }
    }
}

#[test]
fn thread_counts_and_batches_change_no_bit() {
    let rows = 130;
    for isa in Isa::available() {
        for dtype in DType::ALL {
            let columns = columns_of(dtype, 1088);
            let weight = weight(dtype, rows, columns, 5);
            let input = values(40 * columns, 6);
            let one = Pool::new(1).unwrap();
            let alone: Vec<f32> = input
                .chunks(columns)
                .flat_map(|input| {
                    let mut output = vec![0.0; rows];
                    linear(isa, &one, &weight, input, 1, &mut output);
                    output
                })
                .collect();
            for threads in [1, 2, 3, 5] {
                let pool = Pool::new(threads).unwrap();
                for n in [1, 2, 3, 6, 7, 19, 32, 33, 40] {
                    let mut output = vec![0.0; n * rows];
                    linear(isa, &pool, &weight, &input[..n * columns], n, &mut output);
                    let same = output.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{} {dtype}: {n} inputs on {threads} threads", isa.name());
                }
            }
        }
    }
}

#[test]
fn weights_that_share_an_input_give_what_each_gives_alone() {
    let pool = Pool::new(3).unwrap();
    let isa = Isa::detect();
    let weights = [(DType::BF16, 70), (DType::Q4_0, 1), (DType::F32, 0), (DType::Q8_0, 33)]
        .map(|(d, rows)| weight(d, rows, 512, rows as u64));
    for n in [1, 8] {
        let input = values(n * 512, 7);
        let mut together = weights.each_ref().map(|weight| vec![0.0; n * weight.rows()]);
        let mut outputs: Vec<_> =
            weights.iter().zip(&mut together).map(|(weight, values)| Output::new(weight, values)).collect();
        linear_many(isa, &pool, &mut outputs, &input, n);
        for (weight, together) in weights.iter().zip(&together) {
            let mut alone = vec![0.0; together.len()];
            linear(isa, &pool, weight, &input, n, &mut alone);
            assert_eq!(&alone, together, "{} rows, {n} inputs", weight.rows());
        }
    }
}

#[test]
fn a_stride_leaves_the_gaps_alone() {
    let pool = Pool::new(1).unwrap();
    let weight = weight(DType::F32, 3, 32, 8);
    let input = values(2 * 32, 9);
    let mut dense = vec![0.0; 6];
    linear(Isa::detect(), &pool, &weight, &input, 2, &mut dense);
    let mut wide = vec![7.0; 8];
    linear_many(Isa::detect(), &pool, &mut [Output::with_stride(&weight, &mut wide, 5)], &input, 2);
    assert_eq!(wide, [dense[0], dense[1], dense[2], 7.0, 7.0, dense[3], dense[4], dense[5]]);
}

#[test]
fn chosen_rows_are_those_of_the_whole_product() {
    let pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for (dtype, columns) in [(DType::BF16, 416), (DType::Q4_0, 416), (DType::F16, 45)] {
            let weight = weight(dtype, 200, columns, 10);
            let input = values(columns, 11);
            let mut all = vec![0.0; 200];
            linear(isa, &pool, &weight, &input, 1, &mut all);
            let rows = [199, 0, 7, 7, 54, 120, 3];
            let mut some = vec![0.0; rows.len()];
            linear_rows(isa, &pool, &weight, &rows, &input, &mut some);
            assert_eq!(some, rows.map(|row| all[row as usize]), "{} {dtype}", isa.name());
        }
    }
}

#[test]
fn no_inputs_and_no_rows_are_nothing_to_do() {
    let pool = Pool::new(2).unwrap();
    let weight = weight(DType::F32, 3, 32, 12);
    linear(Isa::detect(), &pool, &weight, &[], 0, &mut []);
    let empty = weight.rows_view(0, 0).unwrap();
    linear(Isa::detect(), &pool, &empty, &[0.0; 32], 1, &mut []);
    linear_rows(Isa::detect(), &pool, &weight, &[], &[0.0; 32], &mut []);
}

#[test]
#[should_panic(expected = "output of 1 inputs and 3 rows")]
fn an_output_of_another_size_is_refused() {
    let weight = weight(DType::F32, 3, 32, 13);
    linear(Isa::detect(), &Pool::new(1).unwrap(), &weight, &[0.0; 32], 1, &mut [0.0; 4]);
}
