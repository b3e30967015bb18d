//! Blocks of 32 values with the least weighted error that a search finds.
//!
//! The scale that spans the block is among those compared once they are rounded to f16, and quants are the nearest to
//! the rounded scale: so no block is worse than the reference's.

use half::f16;

use super::super::small::{pack, split};
use super::super::{BLOCK, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ8_0};
use super::search::{Group, Levels, affine, symmetric};
use super::{Block, extreme, inverse, range};

pub(super) fn q8_0(block: &Block<BLOCK>) -> BlockQ8_0 {
    let levels = Levels { low: -127.0, high: 127.0 };
    let (scale, quants) = block.symmetric(levels);
    BlockQ8_0 { scale, quants: quants.map(|quant| quant as i8) }
}

pub(super) fn q5_0(block: &Block<BLOCK>) -> BlockQ5_0 {
    let (scale, quants) = block.symmetric(Levels { low: -16.0, high: 15.0 });
    let (high, nibbles) = split(&quants.map(|quant| (quant + 16.0) as u8));
    BlockQ5_0 { scale, high, nibbles }
}

pub(super) fn q4_1(block: &Block<BLOCK>) -> BlockQ4_1 {
    let levels = Levels { low: 0.0, high: 15.0 };
    let (min, max) = range(&block.values);
    let rounded = |(step, minimum)| (block.rounded(step), block.rounded(minimum));
    let found = rounded(affine(block.group(), levels, f32::INFINITY));
    let spanning = rounded(((max - min) / levels.high, min));
    let error = |line: &((f16, f32), (f16, f32))| block.group().error(line.0.1, line.1.1, levels);
    let ((scale, step), (min, minimum)) = if error(&spanning) < error(&found) { spanning } else { found };
    let nibbles = pack(&block.quants(step, minimum, levels).map(|quant| quant as u8));
    BlockQ4_1 { scale, min, nibbles }
}

pub(super) fn q4_0(block: &Block<BLOCK>) -> BlockQ4_0 {
    let (scale, quants) = block.symmetric(Levels { low: -8.0, high: 7.0 });
    BlockQ4_0 { scale, nibbles: pack(&quants.map(|quant| (quant + 8.0) as u8)) }
}

impl Block<BLOCK> {
    fn group(&self) -> Group<'_, BLOCK> {
        Group { values: &self.values, weights: &self.weights }
    }

    /// A scale without a minimum, and quants.
    fn symmetric(&self, levels: Levels) -> (f16, [f32; BLOCK]) {
        let found = self.rounded(symmetric(self.group(), levels));
        let spanning = self.rounded(extreme(&self.values) / levels.low);
        let error = |(_, step): (f16, f32)| self.group().error(step, 0.0, levels);
        let (scale, step) = if error(spanning) < error(found) { spanning } else { found };
        (scale, self.quants(step, 0.0, levels))
    }

    /// The nearest quants.
    fn quants(&self, step: f32, minimum: f32, levels: Levels) -> [f32; BLOCK] {
        let inverse = inverse(step);
        self.values.map(|value| levels.nearest((value - minimum) * inverse))
    }
}
