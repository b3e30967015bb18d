//! Repetitions of one measurement, summed up: least, middle, most.
//!
//! No mean and no deviation: a disturbed run is slower without limit, so times are far from normal.

use serde::{Deserialize, Serialize};

/// Of a rate: the slowest, the middle and the fastest repetition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Rates of `count` things in each of `seconds`, of which there is at least one.
    pub(super) fn of_rates(count: f64, seconds: &mut [f64]) -> Self {
        let middle = median(seconds);
        let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
        Self { min: count / last, median: count / middle, max: count / first }
    }

    /// Whether these are rates at all: positive, finite, in order.
    pub(super) fn is_sound(self) -> bool {
        let Self { min, median, max } = self;
        0.0 < min && min <= median && median <= max && max.is_finite()
    }
}

/// The middle of `values`, which it sorts; 0 without any.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values {
        [] => 0.0,
        _ if values.len() % 2 == 1 => values[values.len() / 2],
        _ => values[values.len() / 2 - 1].midpoint(values[values.len() / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_any_number() {
        for (mut values, middle) in
            [(vec![], 0.0), (vec![3.0], 3.0), (vec![4.0, 1.0], 2.5), (vec![9.0, 1.0, 2.0], 2.0)]
        {
            assert_eq!(median(&mut values), middle, "{values:?}");
        }
    }

    #[test]
    fn rates_turn_times_around() {
        let spread = Spread::of_rates(8.0, &mut [4.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { min: 2.0, median: 4.0, max: 8.0 });
    }

    #[test]
    fn rates_that_cannot_be() {
        for (min, median, max) in
            [(0.0, 1.0, 2.0), (2.0, 1.0, 3.0), (1.0, 3.0, 2.0), (1.0, 1.0, f64::INFINITY), (-1.0, 0.0, 1.0)]
        {
            assert!(!Spread { min, median, max }.is_sound(), "{min} {median} {max}");
        }
        assert!(Spread { min: 1.0, median: 1.0, max: 1.0 }.is_sound());
    }
}
