//! The rounding of ggml's reference functions, to the bit: one scale from the extremes of a block, no search.

use super::super::small::{pack, split};
use super::super::{BLOCK, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ8_0};
use super::{extreme, finite, inverse, larger, range, saturated};

impl BlockQ8_0 {
    /// The nearest block: scale = largest magnitude / 127.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let values = finite(values);
        let step = largest_magnitude(&values) / 127.0;
        let inverse = inverse(step);
        Self { scale: saturated(step), quants: values.map(|value| round(value * inverse) as i8) }
    }
}

impl BlockQ5_0 {
    /// The block whose value of largest magnitude is −16 steps.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let values = finite(values);
        let step = extreme(&values) / -16.0;
        let inverse = inverse(step);
        let (high, nibbles) = split(&values.map(|value| ((value * inverse + 16.5) as i32).min(31) as u8));
        Self { scale: saturated(step), high, nibbles }
    }
}

impl BlockQ4_1 {
    /// The block whose smallest value is no steps and whose largest is 15.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let values = finite(values);
        let (min, max) = range(&values);
        let step = (max - min) / 15.0;
        let inverse = inverse(step);
        let quants = values.map(|value| (((value - min) * inverse + 0.5) as i32).min(15) as u8);
        Self { scale: saturated(step), min: saturated(min), nibbles: pack(&quants) }
    }
}

impl BlockQ4_0 {
    /// The block whose value of largest magnitude is −8 steps.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let values = finite(values);
        let step = extreme(&values) / -8.0;
        let inverse = inverse(step);
        let quants = values.map(|value| ((value * inverse + 8.5) as i32).min(15) as u8);
        Self { scale: saturated(step), nibbles: pack(&quants) }
    }
}

/// The nearest integer, halves away from zero: `f32::round` for magnitudes below 2^22, but without a call.
fn round(value: f32) -> i32 {
    // With a whole half, what lies just below one would be carried to the next integer.
    const HALF: f32 = 0.5_f32.next_down();
    (value + HALF.copysign(value)) as i32
}

/// In lanes, since the keys and values of a cache pass through here at every step.
fn largest_magnitude(values: &[f32; BLOCK]) -> f32 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    for values in values.as_chunks::<LANES>().0 {
        for (most, value) in lanes.iter_mut().zip(values) {
            *most = larger(*most, value.abs());
        }
    }
    lanes.into_iter().fold(0.0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_standard_library() {
        let near_halves = (-300..300).flat_map(|i| {
            let half = i as f32 / 2.0;
            [half.next_down(), half, half.next_up()]
        });
        for value in near_halves {
            assert_eq!(round(value) as f32, value.round(), "{value}");
        }
    }
}
