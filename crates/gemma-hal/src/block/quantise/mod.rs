//! From f32 to stored values: rounding as ggml's reference does, or a search for the least weighted error.
//!
//! Every result is the same on every machine: sums are taken in one order, and nothing is fused. What a format cannot
//! hold is saturated, never an error; see [`quantise_row_weighted`].

mod groups;
mod reference;
mod search;
mod weighted;
#[cfg(target_arch = "x86_64")]
mod wide;

use bytemuck::Pod;
use half::{bf16, f16};

use super::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ8_0};
use crate::DType;

/// Magnitude to which values of block formats are cut, so that no sum of them overflows: far beyond what an f16 scale
/// reaches.
const LARGEST: f32 = f32::from_bits((127 + 100) << 23);

/// The bytes of `values` in `dtype`: [`quantise_row_weighted`] without weights.
///
/// # Panics
/// When the values do not end on a block.
pub fn quantise_row(dtype: DType, values: &[f32]) -> Vec<u8> {
    quantise_row_weighted(dtype, values, None)
}

/// The bytes of `values` in `dtype`, with small `Σ importance · (value − stored value)²`.
///
/// `importance` has a weight for each value, usually the mean square of the activations that the column meets
/// ("importance matrix"); only the proportions inside of a block matter. Negative and NaN weights count as zero, and
/// a block whose weights are all zero is treated as if they were equal. Plain types ignore weights.
///
/// Without weights, Q8_0, Q5_0, Q4_1 and Q4_0 are ggml's reference rounding to the bit. All else is the least
/// weighted error that a search finds, in no block more than with scales that just span its values.
///
/// In block formats NaN is stored as zero, and what lies beyond the reach of a format's f16 scales, infinities
/// included, as the nearest it can hold. Callers who must not lose such values check them before.
///
/// # Panics
/// When the values do not end on a block, or `importance` has another length.
pub fn quantise_row_weighted(dtype: DType, values: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    assert!(values.len().is_multiple_of(dtype.block_len()), "{} values of {dtype}", values.len());
    if let Some(importance) = importance {
        assert_eq!(importance.len(), values.len(), "a weight for each value");
    }
    match (dtype, importance) {
        (DType::F32, _) => encode_plain(values, f32::to_le_bytes),
        (DType::F16, _) => encode_plain(values, |value| f16::from_f32(value).to_le_bytes()),
        (DType::BF16, _) => encode_plain(values, |value| bf16::from_f32(value).to_le_bytes()),
        (DType::Q8_0, None) => encode(values, BlockQ8_0::quantise),
        (DType::Q5_0, None) => encode(values, BlockQ5_0::quantise),
        (DType::Q4_1, None) => encode(values, BlockQ4_1::quantise),
        (DType::Q4_0, None) => encode(values, BlockQ4_0::quantise),
        (DType::Q8_0, Some(weights)) => encode_weighted(values, Some(weights), weighted::q8_0),
        (DType::Q5_0, Some(weights)) => encode_weighted(values, Some(weights), weighted::q5_0),
        (DType::Q4_1, Some(weights)) => encode_weighted(values, Some(weights), weighted::q4_1),
        (DType::Q4_0, Some(weights)) => encode_weighted(values, Some(weights), weighted::q4_0),
        (DType::Q6K, weights) => encode_weighted(values, weights, groups::q6_k),
        (DType::Q5K, weights) => encode_weighted(values, weights, groups::q5_k),
        (DType::Q4K, weights) => encode_weighted(values, weights, groups::q4_k),
    }
}

fn encode_plain<const N: usize>(values: &[f32], bytes_of: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (bytes, value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *bytes = bytes_of(*value);
    }
    bytes
}

fn encode<B: Pod, const N: usize>(values: &[f32], quantise: impl Fn(&[f32; N]) -> B) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() / N * size_of::<B>());
    for values in values.as_chunks::<N>().0 {
        bytes.extend_from_slice(bytemuck::bytes_of(&quantise(values)));
    }
    bytes
}

fn encode_weighted<B: Pod, const N: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    quantise: impl Fn(&Block<N>) -> B,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() / N * size_of::<B>());
    for (index, values) in values.as_chunks::<N>().0.iter().enumerate() {
        let importance = importance.map(|importance| &importance.as_chunks::<N>().0[index]);
        bytes.extend_from_slice(bytemuck::bytes_of(&quantise(&Block::new(values, importance))));
    }
    bytes
}

/// Values and weights of a block, brought to magnitudes of one so that no sum of squares overflows or vanishes.
struct Block<const N: usize> {
    values: [f32; N],
    weights: [f32; N],
    /// The power of two that values were divided by.
    unit: f32,
}

impl<const N: usize> Block<N> {
    fn new(values: &[f32; N], importance: Option<&[f32; N]>) -> Self {
        let values = finite(values);
        let largest = values.iter().fold(0.0_f32, |most, value| larger(most, value.abs()));
        // Below the least normal number nothing survives in f16 anyhow.
        let unit = f32::from_bits(largest.to_bits() & 0x7f80_0000).max(f32::MIN_POSITIVE);
        let inverse = 1.0 / unit;
        Self { values: values.map(|value| value * inverse), weights: weights(importance), unit }
    }

    /// The f16 number nearest to `scale · unit`, and what it is in units.
    fn rounded(&self, scale: f32) -> (f16, f32) {
        let stored = saturated(scale * self.unit);
        (stored, stored.to_f32() / self.unit)
    }
}

fn weights<const N: usize>(importance: Option<&[f32; N]>) -> [f32; N] {
    let Some(importance) = importance else { return [1.0; N] };
    // In this order NaN counts as zero.
    let weights = importance.map(|weight| if weight > 0.0 { smaller(weight, f32::MAX) } else { 0.0 });
    let largest = weights.iter().fold(0.0, |most, weight| larger(most, *weight));
    if largest == 0.0 { [1.0; N] } else { weights.map(|weight| weight / largest) }
}

/// Zero for NaN, and magnitudes up to [`LARGEST`].
fn finite<const N: usize>(values: &[f32; N]) -> [f32; N] {
    values.map(|value| {
        let value = if value.is_nan() { 0.0 } else { value };
        smaller(larger(value, -LARGEST), LARGEST)
    })
}

/// The nearest f16 number that is finite.
fn saturated(value: f32) -> f16 {
    const MOST: f32 = 65_504.0;
    f16::from_f32(value.clamp(-MOST, MOST))
}

/// 1 / `step`, or zero for a step of zero.
fn inverse(step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { 1.0 / step }
}

/// The value of largest magnitude, the first of several.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0_f32, |most, value| if value.abs() > most.abs() { *value } else { most })
}

fn range<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    values
        .iter()
        .fold((values[0], values[0]), |(min, max), value| (smaller(min, *value), larger(max, *value)))
}

/// `f32::max` for numbers, in one instruction.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `f32::min` for numbers, in one instruction.
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests;
