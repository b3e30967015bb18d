//! Blocks of 256 values: a search for each group, then for the quantised scales of all groups together.
//!
//! Rounding a group's scale to a multiple of the block's moves its quants, so every group chooses among the neighbours
//! of its own best scale; then the block's scales are fitted anew to what all groups chose, and they choose again.

use half::f16;

use super::super::super_block::{GroupScales, SMALL_GROUPS};
use super::super::{BlockQ4K, BlockQ5K, BlockQ6K, GROUPS, SUPER_BLOCK};
use super::search::{Group, Levels, affine, symmetric};
use super::{Block, extreme, inverse, larger, range, smaller};

/// Rounds of choosing groups' scales and fitting the block's.
const ROUNDS: usize = 2;

/// Scales and minima of groups have six bits.
const MOST: f32 = 63.0;

pub(super) fn q4_k(block: &Block<SUPER_BLOCK>) -> BlockQ4K {
    let (scales, quants) = lines(block, Levels { low: 0.0, high: 15.0 });
    BlockQ4K::pack(&scales, &quants)
}

pub(super) fn q5_k(block: &Block<SUPER_BLOCK>) -> BlockQ5K {
    let (scales, quants) = lines(block, Levels { low: 0.0, high: 31.0 });
    BlockQ5K::pack(&scales, &quants)
}

pub(super) fn q6_k(block: &Block<SUPER_BLOCK>) -> BlockQ6K {
    let levels = Levels { low: -32.0, high: 31.0 };
    let wanted = std::array::from_fn(|index| symmetric(block.group::<16>(index), levels));
    let spanning = std::array::from_fn(|index| extreme(block.group::<16>(index).values) / levels.low);
    let mut best = Steps::of(block, extreme(&spanning) / -128.0, &spanning, 0, levels);
    let mut scale = extreme(&wanted) / -128.0;
    for _ in 0..ROUNDS {
        let found = Steps::of(block, scale, &wanted, 1, levels);
        scale = found.fitted(block, levels);
        if found.error < best.error {
            best = found;
        }
    }
    let mut quants = [0; SUPER_BLOCK];
    for (index, quants) in quants.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let inverse = inverse(best.unit * f32::from(best.scales[index]));
        let group = block.group::<16>(index);
        *quants = group.values.map(|value| (levels.nearest(value * inverse) + 32.0) as u8);
    }
    BlockQ6K::pack(best.scale, best.scales, &quants)
}

impl Block<SUPER_BLOCK> {
    fn group<const N: usize>(&self, index: usize) -> Group<'_, N> {
        Group { values: &self.values.as_chunks().0[index], weights: &self.weights.as_chunks().0[index] }
    }
}

/// Scales of a [`BlockQ6K`] and the weighted squared error with them.
#[derive(Clone, Copy)]
struct Steps {
    scale: f16,
    /// `scale` in the block's units.
    unit: f32,
    scales: [i8; SMALL_GROUPS],
    error: f32,
}

impl Steps {
    /// Multiples of `scale` near the `wanted` steps: for each group the best of those up to `around` from the nearest.
    fn of(
        block: &Block<SUPER_BLOCK>,
        scale: f32,
        wanted: &[f32; SMALL_GROUPS],
        around: i8,
        levels: Levels,
    ) -> Self {
        let (scale, unit) = block.rounded(scale);
        let inverse = inverse(unit);
        let mut all = Self { scale, unit, scales: [0; SMALL_GROUPS], error: 0.0 };
        for (index, wanted) in wanted.iter().enumerate() {
            let group = block.group::<16>(index);
            let nearest = (wanted * inverse).round() as i8;
            let error = |scale: i8| (group.error(unit * f32::from(scale), 0.0, levels), scale);
            let (least, scale) = (nearest.saturating_sub(around)..=nearest.saturating_add(around))
                .map(error)
                .fold((f32::INFINITY, 0), |best, next| if next.0 < best.0 { next } else { best });
            all.scales[index] = scale;
            all.error += least;
        }
        all
    }

    /// The block's scale, in its units, that fits these groups' scales and quants best.
    fn fitted(&self, block: &Block<SUPER_BLOCK>, levels: Levels) -> f32 {
        let (mut products, mut squares) = (0.0, 0.0);
        for (index, scale) in self.scales.iter().enumerate() {
            let scale = f32::from(*scale);
            let sums = block.group::<16>(index).products(0.0, inverse(self.unit * scale), 0.0, levels);
            products += scale * sums.yq;
            squares += scale * scale * sums.qq;
        }
        if squares > 0.0 { products / squares } else { self.unit }
    }
}

/// Scales and quants of a [`BlockQ4K`] or [`BlockQ5K`].
fn lines(block: &Block<SUPER_BLOCK>, levels: Levels) -> (GroupScales, [u8; SUPER_BLOCK]) {
    let wanted = std::array::from_fn(|index| {
        let (step, minimum) = affine(block.group::<32>(index), levels, 0.0);
        (step, -minimum)
    });
    let spanning = std::array::from_fn(|index| {
        let (min, max) = range(block.group::<32>(index).values);
        let min = smaller(min, 0.0);
        (larger(max - min, 0.0) / levels.high, -min)
    });
    let mut best = Lines::of(block, covering(&spanning), &spanning, 0, levels);
    let mut scales = covering(&wanted);
    for _ in 0..ROUNDS {
        let found = Lines::of(block, scales, &wanted, 1, levels);
        scales = found.fitted(block, levels);
        if found.error < best.error {
            best = found;
        }
    }
    let mut quants = [0; SUPER_BLOCK];
    for (index, quants) in quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (step, minimum) = best.line(index);
        let inverse = inverse(step);
        let group = block.group::<32>(index);
        *quants = group.values.map(|value| levels.nearest((value - minimum) * inverse) as u8);
    }
    (best.scales, quants)
}

/// The block's scales, in its units, with which the largest step and the largest minimum of groups are 63.
fn covering(wanted: &[(f32, f32); GROUPS]) -> (f32, f32) {
    wanted
        .iter()
        .fold((0.0, 0.0), |(step, min), group| (larger(step, group.0 / MOST), larger(min, group.1 / MOST)))
}

/// Scales of a block and the weighted squared error with them.
#[derive(Clone, Copy)]
struct Lines {
    scales: GroupScales,
    /// The block's scales in its units.
    units: (f32, f32),
    error: f32,
}

impl Lines {
    /// Multiples of the block's `scales` near the `wanted` steps and minima: for each group the best of those up to
    /// `around` from the nearest.
    fn of(
        block: &Block<SUPER_BLOCK>,
        scales: (f32, f32),
        wanted: &[(f32, f32); GROUPS],
        around: u8,
        levels: Levels,
    ) -> Self {
        let ((scale, step_unit), (min_scale, min_unit)) = (block.rounded(scales.0), block.rounded(scales.1));
        let inverses = (inverse(step_unit), inverse(min_unit));
        let near = |wanted: f32| {
            let nearest = wanted.round().clamp(0.0, MOST) as u8;
            nearest.saturating_sub(around)..=(nearest + around).min(MOST as u8)
        };
        let scales = GroupScales { scale, min_scale, steps: [0; GROUPS], mins: [0; GROUPS] };
        let mut all = Self { scales, units: (step_unit, min_unit), error: 0.0 };
        for (index, wanted) in wanted.iter().enumerate() {
            let group = block.group::<32>(index);
            let mut best = (f32::INFINITY, 0, 0);
            for step in near(wanted.0 * inverses.0) {
                for min in near(wanted.1 * inverses.1) {
                    let minimum = -(min_unit * f32::from(min));
                    let error = group.error(step_unit * f32::from(step), minimum, levels);
                    if error < best.0 {
                        best = (error, step, min);
                    }
                }
            }
            (all.scales.steps[index], all.scales.mins[index]) = (best.1, best.2);
            all.error += best.0;
        }
        all
    }

    /// Step and minimum of a group, in units.
    fn line(&self, index: usize) -> (f32, f32) {
        let (step, min) = (self.scales.steps[index], self.scales.mins[index]);
        (self.units.0 * f32::from(step), -(self.units.1 * f32::from(min)))
    }

    /// The block's scales, in its units, that fit these groups' scales and quants best: least squares of
    /// `x = scale · (s · q) − min_scale · m`.
    fn fitted(&self, block: &Block<SUPER_BLOCK>, levels: Levels) -> (f32, f32) {
        let (mut ss, mut sm, mut mm, mut xs, mut xm) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for index in 0..GROUPS {
            let group = block.group::<32>(index);
            let (step, minimum) = self.line(index);
            let inverse = inverse(step);
            let sums = group.products(0.0, inverse, -minimum * inverse, levels);
            let totals = group.totals(0.0);
            let (s, m) = (f32::from(self.scales.steps[index]), f32::from(self.scales.mins[index]));
            ss += s * s * sums.qq;
            sm += s * m * sums.q;
            mm += m * m * totals.w;
            xs += s * sums.yq;
            xm += m * totals.y;
        }
        let determinant = ss * mm - sm * sm;
        let scale = (xs * mm - xm * sm) / determinant;
        let min_scale = (xs * sm - xm * ss) / determinant;
        let sound = determinant > 0.0 && scale >= 0.0 && min_scale >= 0.0;
        if sound { (scale, min_scale) } else { self.units }
    }
}
