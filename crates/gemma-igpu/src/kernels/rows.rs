//! Work on single values: copies, soft caps.

use cubecl::prelude::*;

use super::math::tanh;

/// `output[i] = input[i]`.
#[cube(launch_unchecked)]
pub(crate) fn copy(input: &[f32], output: &mut [f32], count: usize) {
    if ABSOLUTE_POS < count {
        output[ABSOLUTE_POS] = input[ABSOLUTE_POS];
    }
}

/// `values[i] = cap · tanh(values[i] / cap)`.
#[cube(launch_unchecked)]
pub(crate) fn soft_cap(values: &mut [f32], cap: f32, count: usize) {
    if ABSOLUTE_POS < count {
        values[ABSOLUTE_POS] = cap * tanh(values[ABSOLUTE_POS] / cap);
    }
}
