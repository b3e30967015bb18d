//! Activations in shared memory, for products with few rows: as they are, or rounded to 8 bits in blocks of 32 values.
//!
//! One in nine places stays free, so that what neighbours read lies in different banks. Behind rounded values stands a four a
//! block: its step, and the sums of its two sixteens.

use cubecl::prelude::*;

use super::format::{Four, dot};
use super::packet::Words4;

/// How activations are staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Staging {
    /// Fours of a row that are staged at a time.
    pub(crate) fours: usize,
    /// Whether they are rounded; rows are then whole blocks of 32 values.
    pub(crate) rounded: bool,
}

impl Staging {
    /// Places of shared memory, 16 bytes each.
    pub(crate) const fn places(self) -> usize {
        if self.rounded { self.first_block() + self.fours / 8 } else { padded(self.fours) }
    }

    /// The first place behind rounded values.
    pub(crate) const fn first_block(self) -> usize {
        padded(self.fours / 4)
    }
}

/// Places that `count` places take with those that stay free.
const fn padded(count: usize) -> usize {
    count + count.div_ceil(8)
}

/// Where place number `index` is.
#[cube]
pub(crate) fn place(index: usize) -> usize {
    index + index / 8
}

/// Stages `count` fours from `x` on, each times its four of `by` if that is wanted.
#[cube]
pub(crate) fn stage(
    input: &[Four],
    by: &[Four],
    x: usize,
    count: usize,
    staged: &mut [Words4],
    #[comptime] scaled: bool,
    #[comptime] staging: Staging,
) {
    if comptime!(staging.rounded) {
        for sixteen in range_stepped(UNIT_POS as usize, count / 4, CUBE_DIM as usize) {
            round(input, by, x, sixteen, staged, scaled, staging);
        }
    } else {
        for i in range_stepped(UNIT_POS as usize, count, CUBE_DIM as usize) {
            staged[place(i)] = Words4::reinterpret(four(input, by, x, i, scaled));
        }
    }
}

/// Four number `i` from `x` on.
#[cube]
fn four(input: &[Four], by: &[Four], x: usize, i: usize, #[comptime] scaled: bool) -> Four {
    let mut value = input[x + i];
    if comptime!(scaled) {
        value *= by[i];
    }
    value
}

/// Rounds sixteen values; a unit and its neighbour have a block.
#[cube]
fn round(
    input: &[Four],
    by: &[Four],
    x: usize,
    sixteen: usize,
    staged: &mut [Words4],
    #[comptime] scaled: bool,
    #[comptime] staging: Staging,
) {
    let mut values = Array::<Four>::new(4usize);
    let mut largest = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        let value = four(input, by, x, sixteen * 4 + i, scaled);
        values[i] = value;
        let size = value.abs();
        let pair = max(size.extract(0usize), size.extract(1usize));
        largest = max(largest, max(pair, max(size.extract(2usize), size.extract(3usize))));
    }
    largest = max(largest, plane_shuffle_xor(largest, 1));
    let inverse = select(largest > 0.0f32, 127.0f32 / largest, 0.0f32);
    let mut words = Words4::new(0u32);
    let mut sums = Four::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        let quants = (values[i] * Four::new(inverse) + Four::new(0.5f32)).floor();
        sums += quants;
        let mut word = 0u32;
        #[unroll]
        for byte in 0..4usize {
            let quant = u32::cast_from(i32::cast_from(quants.extract(byte))) & 255;
            word |= quant << comptime!(8 * byte as u32);
        }
        words.insert(i, word);
    }
    staged[place(sixteen)] = words;
    let step = largest / 127.0f32;
    let sum = dot(sums, Four::new(step));
    let other = plane_shuffle_xor(sum, 1);
    if sixteen % 2 == 0 {
        let mut block = Four::new(0.0f32);
        block.insert(0usize, step);
        block.insert(1usize, sum);
        block.insert(2usize, other);
        staged[comptime!(staging.first_block()) + sixteen / 2] = Words4::reinterpret(block);
    }
}
