//! The step, and the minimum, of one group of values with the least weighted squared error.
//!
//! For fixed quants the best step is a quotient of sums (least squares); for a fixed step the best quants are the
//! nearest. A search tries steps around the one that spans the group and improves the best in turns.

#[cfg(target_arch = "x86_64")]
use super::wide;
use super::{extreme, inverse, larger, range, smaller};

/// Sums are taken in so many parts, side by side.
pub(super) const LANES: usize = 8;

/// Steps tried: those with so many tenths of a quant more in the span.
const TENTHS: std::ops::RangeInclusive<i16> = -10..=10;

/// Turns of least squares and rounding behind the search.
const TURNS: usize = 2;

/// Values of one group, and what an error in each costs.
#[derive(Clone, Copy)]
pub(super) struct Group<'a, const N: usize> {
    pub(super) values: &'a [f32; N],
    pub(super) weights: &'a [f32; N],
}

/// Quants that a format has.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) low: f32,
    pub(super) high: f32,
}

impl Levels {
    /// Adding and taking away 1.5 · 2^23 leaves no room for a fraction; enough for magnitudes below 2^22.
    pub(super) const SHIFT: f32 = 12_582_912.0;

    /// The nearest quant, ties to even.
    #[inline(always)]
    pub(super) fn nearest(self, value: f32) -> f32 {
        (smaller(larger(value, self.low), self.high) + Self::SHIFT) - Self::SHIFT
    }
}

/// The step of `step · quant`, of either sign: the value of largest magnitude becomes about `levels.low` quants.
pub(super) fn symmetric<const N: usize>(group: Group<'_, N>, levels: Levels) -> f32 {
    let extreme = extreme(group.values);
    if extreme == 0.0 {
        return 0.0;
    }
    // The step, and by how much the error is smaller with it than that of zeros.
    let mut best = (extreme / levels.low, 0.0);
    let attempt = |best: (f32, f32), inverse: f32| {
        let sums = group.products(0.0, inverse, 0.0, levels);
        let step = sums.yq / sums.qq;
        // False for NaN, the step where all quants that count are zero.
        if step * sums.yq > best.1 { (step, step * sums.yq) } else { best }
    };
    for tenths in TENTHS {
        best = attempt(best, (levels.low + f32::from(tenths) / 10.0) / extreme);
    }
    for _ in 0..TURNS {
        best = attempt(best, inverse(best.0));
    }
    best.0
}

/// The step and the minimum of `step · quant + minimum`, for quants from zero and a minimum of at most `ceiling`.
pub(super) fn affine<const N: usize>(group: Group<'_, N>, levels: Levels, ceiling: f32) -> (f32, f32) {
    let (min, max) = range(group.values);
    let base = smaller(min, ceiling);
    let span = max - base;
    if span <= 0.0 {
        return (0.0, base);
    }
    let totals = group.totals(base);
    let mut best = Line { step: span / levels.high, minimum: 0.0, error: f32::INFINITY };
    let attempt = |best: Line, inverse: f32, minimum: f32| {
        let line = group.products(base, inverse, -minimum * inverse, levels).line(&totals, ceiling - base);
        if line.error < best.error { line } else { best }
    };
    for tenths in TENTHS {
        best = attempt(best, (levels.high + f32::from(tenths) / 10.0) / span, 0.0);
    }
    for _ in 0..TURNS {
        best = attempt(best, inverse(best.step), best.minimum);
    }
    (best.step, base + best.minimum)
}

/// `step · quant + minimum` above a base, and its weighted squared error.
#[derive(Clone, Copy)]
struct Line {
    step: f32,
    minimum: f32,
    error: f32,
}

/// Weighted sums over a group that do not depend on quants: of weights, of values `y` above a base, of their squares.
pub(super) struct Totals {
    pub(super) w: f32,
    pub(super) y: f32,
    pub(super) yy: f32,
}

/// Weighted sums over a group: of quants, of their squares, of their products with values `y` above a base.
#[cfg_attr(test, derive(Clone, Copy, Debug, PartialEq))]
pub(super) struct Products {
    pub(super) q: f32,
    pub(super) qq: f32,
    pub(super) yq: f32,
}

impl Products {
    /// The best line for these quants whose minimum is at most `ceiling`.
    fn line(&self, totals: &Totals, ceiling: f32) -> Line {
        let determinant = totals.w * self.qq - self.q * self.q;
        let step = (totals.w * self.yq - totals.y * self.q) / determinant;
        let minimum = (self.qq * totals.y - self.q * self.yq) / determinant;
        if determinant > 0.0 && minimum <= ceiling {
            return Line { step, minimum, error: totals.yy - step * self.yq - minimum * totals.y };
        }
        // The minimum is held down, or all quants that count are the same.
        let rest = self.yq - ceiling * self.q;
        let step = if self.qq > 0.0 { larger(rest / self.qq, 0.0) } else { 0.0 };
        let apart = totals.yy + ceiling * (ceiling * totals.w - 2.0 * totals.y);
        Line { step, minimum: ceiling, error: apart + step * (step * self.qq - 2.0 * rest) }
    }
}

impl<const N: usize> Group<'_, N> {
    /// Weighted squared error of `step · quant + minimum`, with the nearest quants.
    pub(super) fn error(self, step: f32, minimum: f32, levels: Levels) -> f32 {
        let inverse = inverse(step);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: this machine has AVX2.
            return unsafe { wide::error(self, inverse, step, minimum, levels) };
        }
        self.error_by_ones(inverse, step, minimum, levels)
    }

    /// As [`Group::error`] on any machine.
    pub(super) fn error_by_ones(self, inverse: f32, step: f32, minimum: f32, levels: Levels) -> f32 {
        let mut rest = [0.0; N];
        for (rest, value) in rest.iter_mut().zip(self.values) {
            let quant = levels.nearest((value - minimum) * inverse);
            *rest = value - (step * quant + minimum);
        }
        dot(&times(self.weights, &rest), &rest)
    }

    /// Sums with the nearest quants to `y · inverse + offset`.
    pub(super) fn products(self, base: f32, inverse: f32, offset: f32, levels: Levels) -> Products {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: this machine has AVX2.
            return unsafe { wide::products(self, base, inverse, offset, levels) };
        }
        self.products_by_ones(base, inverse, offset, levels)
    }

    /// As [`Group::products`] on any machine.
    pub(super) fn products_by_ones(self, base: f32, inverse: f32, offset: f32, levels: Levels) -> Products {
        // Loops and no `map`, which is not inlined here and calls for each value.
        let (mut y, mut quants) = ([0.0; N], [0.0; N]);
        for (i, value) in self.values.iter().enumerate() {
            y[i] = value - base;
            quants[i] = levels.nearest(y[i] * inverse + offset);
        }
        let weighted = times(self.weights, &quants);
        Products { q: sum(&weighted), qq: dot(&weighted, &quants), yq: dot(&weighted, &y) }
    }

    pub(super) fn totals(self, base: f32) -> Totals {
        let y = self.values.map(|value| value - base);
        let weighted = times(self.weights, &y);
        Totals { w: sum(self.weights), y: sum(&weighted), yy: dot(&weighted, &y) }
    }
}

fn times<const N: usize>(a: &[f32; N], b: &[f32; N]) -> [f32; N] {
    let mut products = [0.0; N];
    for i in 0..N {
        products[i] = a[i] * b[i];
    }
    products
}

/// Not inlined: side by side, the compiler turns several of these sums into shuffles of single values.
#[inline(never)]
fn dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    total(lanes)
}

/// Not inlined, as [`dot`].
#[inline(never)]
fn sum<const N: usize>(values: &[f32; N]) -> f32 {
    let mut lanes = [0.0; LANES];
    for values in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] += values[lane];
        }
    }
    total(lanes)
}

/// In pairs, which take fewer steps one after the other.
fn total([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
