//! Quantisers of every format: what they promise about errors, weights and numbers that a format cannot hold.

use proptest::prelude::*;

use super::super::{BLOCK, SUPER_BLOCK, dequantise_row};
use super::*;

/// A row that ends on a block of every format.
const ROW: usize = 2 * SUPER_BLOCK;

fn block_formats() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|dtype| dtype.block_len() > 1)
}

fn stored(dtype: DType, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![f32::NAN; values.len()];
    dequantise_row(dtype, &quantise_row_weighted(dtype, values, importance), &mut out);
    out
}

/// `Σ importance · (value − stored)²`
fn error(values: &[f32], stored: &[f32], importance: &[f32]) -> f64 {
    let square = |i: usize| f64::from(importance[i]) * (f64::from(values[i]) - f64::from(stored[i])).powi(2);
    (0..values.len()).map(square).sum()
}

/// SplitMix64, summed up to nearly normal numbers.
fn gaussian(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32).collect()
}

fn wide_values() -> impl Strategy<Value = Vec<f32>> {
    let size = prop_oneof![Just(1.0_f32), Just(1e-3), Just(1e-7), Just(3e4)];
    (prop::collection::vec(-1.0_f32..1.0, ROW), size, -0.9_f32..0.9)
        .prop_map(|(values, size, shift)| values.iter().map(|value| (value + shift) * size).collect())
}

fn any_importance() -> impl Strategy<Value = Vec<f32>> {
    let weight = prop_oneof![3 => 0.0_f32..4.0, 1 => Just(0.0_f32), 1 => 1e-8_f32..1e3];
    prop::collection::vec(weight, ROW)
}

/// The plainest rounding of each format, in f64: scales that span the values, each value to the nearest step.
mod naive {
    use super::*;

    pub(super) fn stored(dtype: DType, values: &[f32]) -> Vec<f32> {
        let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
        let blocks = values.chunks(dtype.block_len());
        let stored: Vec<f64> = match dtype {
            DType::Q8_0 => {
                blocks.flat_map(|block| line(block, half(most(block) / 127.0), 0.0, -127.0, 127.0)).collect()
            }
            DType::Q5_0 => blocks
                .flat_map(|block| line(block, half(furthest(block) / -16.0), 0.0, -16.0, 15.0))
                .collect(),
            DType::Q4_0 => {
                blocks.flat_map(|block| line(block, half(furthest(block) / -8.0), 0.0, -8.0, 7.0)).collect()
            }
            DType::Q4_1 => blocks
                .flat_map(|block| {
                    let (min, max) = range(block);
                    line(block, half((max - min) / 15.0), half(min), 0.0, 15.0)
                })
                .collect(),
            DType::Q4K => blocks.flat_map(|block| groups(block, 15.0)).collect(),
            DType::Q5K => blocks.flat_map(|block| groups(block, 31.0)).collect(),
            DType::Q6K => blocks.flat_map(small_groups).collect(),
            DType::F32 | DType::F16 | DType::BF16 => values,
        };
        stored.iter().map(|value| *value as f32).collect()
    }

    fn half(value: f64) -> f64 {
        f64::from(f16::from_f64(value))
    }

    fn most(values: &[f64]) -> f64 {
        furthest(values).abs()
    }

    fn furthest(values: &[f64]) -> f64 {
        values.iter().fold(0.0_f64, |most, value| if value.abs() > most.abs() { *value } else { most })
    }

    fn range(values: &[f64]) -> (f64, f64) {
        values.iter().fold((values[0], values[0]), |(min, max), value| (min.min(*value), max.max(*value)))
    }

    fn line(values: &[f64], step: f64, minimum: f64, low: f64, high: f64) -> Vec<f64> {
        let quant =
            |value: f64| if step == 0.0 { 0.0 } else { ((value - minimum) / step).round().clamp(low, high) };
        values.iter().map(|value| step * quant(*value) + minimum).collect()
    }

    fn groups(block: &[f64], high: f64) -> Vec<f64> {
        let ranges: Vec<(f64, f64)> = block.chunks(32).map(range).collect();
        let lines = ranges.iter().map(|(min, max)| ((max - min.min(0.0)) / high, -min.min(0.0)));
        let lines: Vec<(f64, f64)> = lines.map(|(step, min)| (step.max(0.0), min)).collect();
        let scale = half(lines.iter().fold(0.0, |most: f64, line| most.max(line.0)) / 63.0);
        let min_scale = half(lines.iter().fold(0.0, |most: f64, line| most.max(line.1)) / 63.0);
        let multiple =
            |value: f64, unit: f64| if unit == 0.0 { 0.0 } else { (value / unit).round().min(63.0) * unit };
        let stored = block.chunks(32).zip(&lines);
        stored
            .flat_map(|(group, (step, min))| {
                line(group, multiple(*step, scale), -multiple(*min, min_scale), 0.0, high)
            })
            .collect()
    }

    fn small_groups(block: &[f64]) -> Vec<f64> {
        let steps: Vec<f64> = block.chunks(16).map(|group| furthest(group) / -32.0).collect();
        let scale = half(furthest(&steps) / -128.0);
        let multiple =
            |step: f64| if scale == 0.0 { 0.0 } else { (step / scale).round().clamp(-128.0, 127.0) * scale };
        block
            .chunks(16)
            .zip(&steps)
            .flat_map(|(group, step)| line(group, multiple(*step), 0.0, -32.0, 31.0))
            .collect()
    }
}

proptest! {
    #[test]
    fn every_value_returns_within_its_format_s_step(values in prop::collection::vec(-8.0_f32..8.0, ROW)) {
        for dtype in DType::ALL {
            let back = stored(dtype, &values, None);
            let len = dtype.block_len().max(BLOCK);
            for (chunk, back) in values.chunks(len).zip(back.chunks(len)) {
                let largest = chunk.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                // Half a step, plus the rounding of the scale itself to f16 (2^-11 of the largest value).
                let bound = match dtype {
                    DType::F32 => 0.0,
                    DType::F16 => largest / 2048.0,
                    DType::BF16 => largest / 256.0,
                    DType::Q8_0 => largest * (0.51 / 127.0 + 1.0 / 2048.0),
                    // The side opposite to the extreme value is cut at 7 steps of 8.
                    DType::Q4_0 => largest * (1.0 / 8.0 + 1.0 / 1024.0),
                    DType::Q5_0 => largest * (1.0 / 16.0 + 1.0 / 1024.0),
                    DType::Q4_1 => largest * (1.0 / 15.0 + 1.0 / 512.0),
                    // The least squares cut off more of the ends, and scales of groups are rounded too.
                    DType::Q4K => largest * 0.25,
                    DType::Q5K => largest * 0.125,
                    DType::Q6K => largest * 0.0625,
                };
                for (value, back) in chunk.iter().zip(back) {
                    prop_assert!((value - back).abs() <= bound, "{dtype}: {value} became {back}");
                }
            }
        }
    }

    #[test]
    fn quantising_again_changes_nothing(values in prop::collection::vec(-1.0_f32..1.0, BLOCK)) {
        for dtype in [DType::F16, DType::BF16, DType::Q8_0] {
            let once = stored(dtype, &values, None);
            let twice = stored(dtype, &once, None);
            for (a, b) in once.iter().zip(&twice) {
                prop_assert!((a - b).abs() <= 1e-3 * a.abs(), "{dtype}: {a} then {b}");
            }
        }
    }

    #[test]
    fn no_block_is_worse_than_spanning_its_range(values in wide_values(), importance in any_importance()) {
        for dtype in block_formats() {
            // Without weights, formats of 32 values follow ggml, errors included.
            let searched = [None, Some(importance.as_slice())].into_iter().skip(usize::from(dtype.block_len() == BLOCK));
            for importance in searched {
                let (found, naive) = (stored(dtype, &values, importance), naive::stored(dtype, &values));
                let weights = importance.map_or(vec![1.0; ROW], <[f32]>::to_vec);
                for start in (0..ROW).step_by(dtype.block_len()) {
                    let block = start..start + dtype.block_len();
                    let error = |stored: &[f32]| error(&values[block.clone()], &stored[block.clone()], &weights[block.clone()]);
                    let (found, naive) = (error(&found), error(&naive));
                    // Ties of rounding may fall otherwise in f64.
                    let weighted = importance.is_some();
                    prop_assert!(found <= naive * 1.01, "{dtype}, weighted {weighted}: {found} against {naive}");
                }
            }
        }
    }

    #[test]
    fn any_number_is_stored_as_a_finite_one(
        values in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), ROW),
        importance in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), ROW),
    ) {
        for dtype in block_formats() {
            for importance in [None, Some(importance.as_slice())] {
                let back = stored(dtype, &values, importance);
                prop_assert!(back.iter().all(|value| value.is_finite()), "{dtype}");
            }
        }
    }

    #[test]
    fn only_the_proportions_of_weights_matter(values in wide_values(), importance in any_importance()) {
        let scaled: Vec<f32> = importance.iter().map(|weight| weight * 1024.0).collect();
        for dtype in block_formats() {
            let bytes = |importance: &[f32]| quantise_row_weighted(dtype, &values, Some(importance));
            prop_assert_eq!(bytes(&importance), bytes(&scaled), "{}", dtype);
        }
    }
}

#[test]
fn gaussian_rows_keep_to_the_measured_error() {
    let values = gaussian(64 * SUPER_BLOCK, 1);
    let equal = vec![1.0; values.len()];
    let size = error(&values, &vec![0.0; values.len()], &equal);
    // Without weights, and with weights that are all the same: the search.
    for (dtype, bound, searched_bound) in [
        (DType::Q8_0, 2.85e-5, 2.45e-5),
        (DType::Q6K, 2.95e-4, 2.95e-4),
        (DType::Q5K, 1.19e-3, 1.19e-3),
        (DType::Q5_0, 1.84e-3, 1.63e-3),
        (DType::Q4_1, 6.15e-3, 4.85e-3),
        (DType::Q4K, 4.9e-3, 4.9e-3),
        (DType::Q4_0, 7.3e-3, 6.45e-3),
    ] {
        let nmse = error(&values, &stored(dtype, &values, None), &equal) / size;
        assert!(nmse <= bound, "{dtype}: {nmse}");
        let searched = error(&values, &stored(dtype, &values, Some(&equal)), &equal) / size;
        assert!(searched <= searched_bound, "{dtype}, searched: {searched}");
    }
}

/// A few columns that count a hundred times as much are stored better for it.
#[test]
fn weights_move_the_error_to_where_it_counts_less() {
    let values = gaussian(16 * SUPER_BLOCK, 2);
    let importance: Vec<f32> = (0..values.len()).map(|i| if i % 16 == 3 { 100.0 } else { 1.0 }).collect();
    for dtype in block_formats() {
        let with = error(&values, &stored(dtype, &values, Some(&importance)), &importance);
        let without = error(&values, &stored(dtype, &values, None), &importance);
        assert!(with < 0.6 * without, "{dtype}: {with} with weights, {without} without");
    }
}

#[test]
fn weights_that_say_nothing_count_as_equal() {
    let values = gaussian(ROW, 3);
    for dtype in block_formats() {
        let bytes = |weight: f32| quantise_row_weighted(dtype, &values, Some(&[weight; ROW]));
        for weight in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            assert_eq!(bytes(weight), bytes(1.0), "{dtype}, {weight}");
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_saturated() {
    for dtype in block_formats() {
        let mut values = [0.5; SUPER_BLOCK];
        (values[3], values[40]) = (f32::INFINITY, f32::NEG_INFINITY);
        for importance in [None, Some([1.0; SUPER_BLOCK].as_slice())] {
            let back = stored(dtype, &values, importance);
            // The reach of an f16 scale: 65,504 times the number of steps.
            assert!(back[3] >= 65_504.0 * 7.0 || dtype == DType::Q4_1, "{dtype}: {}", back[3]);
            assert!(back[40] <= -65_504.0, "{dtype}: {}", back[40]);
        }
        let mut values = [0.5; SUPER_BLOCK];
        values[7] = f32::NAN;
        let back = stored(dtype, &values, None);
        assert!(back[7].abs() <= 0.05, "{dtype}: {}", back[7]);
        assert!((back[8] - 0.5).abs() <= 0.05, "{dtype}: {}", back[8]);
    }
}

#[test]
fn zeros_stay_zeros() {
    for dtype in DType::ALL {
        for importance in [None, Some([2.0; ROW].as_slice())] {
            assert_eq!(stored(dtype, &[0.0; ROW], importance), [0.0; ROW], "{dtype}");
        }
    }
}

#[test]
#[should_panic(expected = "a weight for each value")]
fn weights_of_another_length_are_refused() {
    quantise_row_weighted(DType::Q4_0, &[0.0; 64], Some(&[1.0; 32]));
}

#[cfg(target_arch = "x86_64")]
proptest! {
    #[test]
    fn eight_values_at_a_time_give_the_bits_of_one_at_a_time(
        values in wide_values(),
        importance in any_importance(),
        base in prop_oneof![Just(0.0_f32), -1.0_f32..0.5],
        step in prop_oneof![Just(0.0_f32), -0.3_f32..0.3],
        low in prop_oneof![Just(-32.0_f32), Just(-8.0), Just(0.0)],
    ) {
        use super::search::{Group, Levels};
        if !is_x86_feature_detected!("avx2") {
            return Ok(());
        }
        let levels = Levels { low, high: 31.0 };
        let pairs = values.as_chunks::<16>().0.iter().zip(importance.as_chunks::<16>().0);
        for (values, weights) in pairs {
            let group = Group { values, weights };
            let inverse = inverse(step);
            // SAFETY: this machine has AVX2.
            let (error, products) = unsafe {
                (
                    super::wide::error(group, inverse, step, base, levels),
                    super::wide::products(group, base, inverse, -base, levels),
                )
            };
            prop_assert_eq!(error.to_bits(), group.error_by_ones(inverse, step, base, levels).to_bits());
            prop_assert_eq!(products, group.products_by_ones(base, inverse, -base, levels));
        }
    }
}
