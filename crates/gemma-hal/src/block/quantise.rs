//! From f32 to stored values.

use bytemuck::Pod;
use half::{bf16, f16};

use super::small::pack;
use super::super_block::GroupScales;
use super::{
    BLOCK, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5K, BlockQ6K, BlockQ8_0, GROUPS, SUPER_BLOCK,
};
use crate::DType;

/// The bytes of `values` in `dtype`, rounded to nearest.
///
/// # Panics
/// When the values do not end on a block.
pub fn quantise_row(dtype: DType, values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(dtype.block_len()), "{} values of {dtype}", values.len());
    match dtype {
        DType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        DType::Q8_0 => encode_blocks(values, BlockQ8_0::quantise),
        DType::Q5_0 => encode_blocks(values, BlockQ5_0::quantise),
        DType::Q4_1 => encode_blocks(values, BlockQ4_1::quantise),
        DType::Q4_0 => encode_blocks(values, BlockQ4_0::quantise),
        DType::Q6K => encode_blocks(values, BlockQ6K::quantise),
        DType::Q5K => encode_blocks(values, BlockQ5K::quantise),
        DType::Q4K => encode_blocks(values, BlockQ4K::quantise),
    }
}

fn encode_blocks<B: Pod, const N: usize>(values: &[f32], quantise: impl Fn(&[f32; N]) -> B) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() / N * size_of::<B>());
    for values in values.as_chunks::<N>().0 {
        bytes.extend_from_slice(bytemuck::bytes_of(&quantise(values)));
    }
    bytes
}

impl BlockQ8_0 {
    /// The nearest block: scale = largest magnitude / 127.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let largest = values.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        let step = largest / 127.0;
        let inverse = inverse(step);
        Self { scale: f16::from_f32(step), quants: values.map(|value| (value * inverse).round() as i8) }
    }
}

impl BlockQ4_0 {
    /// The block whose value of largest magnitude is −8 steps.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let step = extreme(values) / -8.0;
        let inverse = inverse(step);
        let quants = values.map(|value| ((value * inverse + 8.5) as u8).min(15));
        Self { scale: f16::from_f32(step), nibbles: pack(&quants) }
    }
}

impl BlockQ4_1 {
    /// The block whose smallest value is no steps and whose largest is 15.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let (min, max) = range(values);
        let step = (max - min) / 15.0;
        let inverse = inverse(step);
        let quants = values.map(|value| (((value - min) * inverse + 0.5) as u8).min(15));
        Self { scale: f16::from_f32(step), min: f16::from_f32(min), nibbles: pack(&quants) }
    }
}

impl BlockQ5_0 {
    /// The block whose value of largest magnitude is −16 steps.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let step = extreme(values) / -16.0;
        let inverse = inverse(step);
        let quants = values.map(|value| ((value * inverse + 16.5) as u8).min(31));
        let high = quants.iter().enumerate().fold(0, |high, (i, quant)| high | u32::from(quant >> 4) << i);
        Self { scale: f16::from_f32(step), high: high.to_le_bytes(), nibbles: pack(&quants) }
    }
}

impl BlockQ4K {
    /// The block whose groups span their smallest to their largest values.
    pub fn quantise(values: &[f32; SUPER_BLOCK]) -> Self {
        let (scales, quants) = quantise_groups(values, 15.0);
        Self::pack(&scales, &quants)
    }
}

impl BlockQ5K {
    /// The block whose groups span their smallest to their largest values.
    pub fn quantise(values: &[f32; SUPER_BLOCK]) -> Self {
        let (scales, quants) = quantise_groups(values, 31.0);
        Self::pack(&scales, &quants)
    }
}

impl BlockQ6K {
    /// The block whose groups' values of largest magnitude are −32 steps.
    pub fn quantise(values: &[f32; SUPER_BLOCK]) -> Self {
        let groups = values.as_chunks::<16>().0;
        let wanted: [f32; 16] = std::array::from_fn(|group| extreme(&groups[group]) / -32.0);
        let scale = f16::from_f32(extreme(&wanted) / -128.0);
        let to_scales = inverse(scale.to_f32());
        let scales = wanted.map(|step| (step * to_scales).round() as i8);
        let quants = std::array::from_fn(|i| {
            let inverse = inverse(scale.to_f32() * f32::from(scales[i / 16]));
            (values[i] * inverse + 32.5).min(63.0) as u8
        });
        Self::pack(scale, scales, &quants)
    }
}

fn quantise_groups(values: &[f32; SUPER_BLOCK], levels: f32) -> (GroupScales, [u8; SUPER_BLOCK]) {
    let groups = values.as_chunks::<32>().0;
    let ranges: [(f32, f32); GROUPS] = std::array::from_fn(|group| range(&groups[group]));
    let ranges = ranges.map(|(min, max)| (min.min(0.0), max));
    let steps = ranges.map(|(min, max)| (max - min) / levels);
    let mins = ranges.map(|(min, _)| -min);
    let largest = |values: &[f32; GROUPS]| values.iter().copied().fold(0.0, f32::max);
    let (scale, min_scale) = (f16::from_f32(largest(&steps) / 63.0), f16::from_f32(largest(&mins) / 63.0));
    let (to_steps, to_mins) = (inverse(scale.to_f32()), inverse(min_scale.to_f32()));
    let scales = GroupScales {
        scale,
        min_scale,
        steps: steps.map(|step| (step * to_steps).round().min(63.0) as u8),
        mins: mins.map(|min| (min * to_mins).round().min(63.0) as u8),
    };
    let quants = std::array::from_fn(|i| {
        let step = scale.to_f32() * f32::from(scales.steps[i / 32]);
        let min = min_scale.to_f32() * f32::from(scales.mins[i / 32]);
        ((values[i] + min) * inverse(step)).round().min(levels) as u8
    });
    (scales, quants)
}

/// The value of largest magnitude.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0_f32, |most, value| if value.abs() > most.abs() { *value } else { most })
}

fn range(values: &[f32; BLOCK]) -> (f32, f32) {
    values.iter().fold((values[0], values[0]), |(min, max), value| (min.min(*value), max.max(*value)))
}

/// 1 / `step`, or zero for a step of zero.
fn inverse(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dequantise_row;
    use super::*;

    fn round_trip(dtype: DType, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; values.len()];
        dequantise_row(dtype, &quantise_row(dtype, values), &mut out);
        out
    }

    proptest! {
        #[test]
        fn every_value_returns_within_its_format_s_step(
            values in prop::collection::vec(-8.0_f32..8.0, 512),
        ) {
            for dtype in DType::ALL {
                let back = round_trip(dtype, &values);
                let len = dtype.block_len().max(32);
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
                        // Scales of groups are rounded too.
                        DType::Q4K => largest * (1.0 / 15.0 + 3.0 / 126.0),
                        DType::Q5K => largest * (1.0 / 31.0 + 3.0 / 126.0),
                        DType::Q6K => largest * (1.0 / 32.0 + 1.0 / 127.0),
                    };
                    for (value, back) in chunk.iter().zip(back) {
                        prop_assert!((value - back).abs() <= bound, "{dtype}: {value} became {back}");
                    }
                }
            }
        }

        #[test]
        fn quantising_again_changes_nothing(values in prop::collection::vec(-1.0_f32..1.0, 32)) {
            for dtype in [DType::F16, DType::BF16, DType::Q8_0] {
                let once = round_trip(dtype, &values);
                let twice = round_trip(dtype, &once);
                for (a, b) in once.iter().zip(&twice) {
                    prop_assert!((a - b).abs() <= 1e-3 * a.abs(), "{dtype}: {a} then {b}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for dtype in DType::ALL {
            assert_eq!(round_trip(dtype, &[0.0; 512]), [0.0; 512], "{dtype}");
        }
    }

    #[test]
    fn q4_0_splits_a_block_in_halves() {
        let block = BlockQ4_0 { scale: f16::from_f32(0.5), nibbles: [0xF0; 16] };
        let values = block.dequantise();
        assert_eq!(values[..16], [-4.0; 16]);
        assert_eq!(values[16..], [3.5; 16]);
    }
}
