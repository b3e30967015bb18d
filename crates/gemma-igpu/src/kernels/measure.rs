//! Kernels that measure an adapter: bytes read and copied, and the least that a launch does.

use cubecl::prelude::*;

use super::format::Four;

/// Adds up `turns` fours a unit, so that every byte of `values` is read once. A cube's units read side by side.
#[cube(launch_unchecked)]
pub(crate) fn read(values: &[Four], sums: &mut [f32], #[comptime] turns: usize) {
    let units = CUBE_DIM as usize;
    let start = CUBE_POS_X as usize * units * turns + UNIT_POS as usize;
    let mut sum = Four::new(0.0f32);
    for turn in 0..turns {
        sum += values[start + turn * units];
    }
    let two = sum.extract(0usize) + sum.extract(1usize);
    // Without a use of every value nothing would have to be read.
    sums[CUBE_POS_X as usize * units + UNIT_POS as usize] = two + sum.extract(2usize) + sum.extract(3usize);
}

/// Copies `turns` fours a unit.
#[cube(launch_unchecked)]
pub(crate) fn copy(values: &[Four], copies: &mut [Four], #[comptime] turns: usize) {
    let units = CUBE_DIM as usize;
    let start = CUBE_POS_X as usize * units * turns + UNIT_POS as usize;
    for turn in 0..turns {
        copies[start + turn * units] = values[start + turn * units];
    }
}

/// Adds one to a value a unit: next to no work, and none before the launch before it has ended.
#[cube(launch_unchecked)]
pub(crate) fn step(values: &mut [f32]) {
    values[UNIT_POS as usize] += 1.0f32;
}
