//! The largest values of a row, chosen where the row is, so that little of it goes back to the host.
//!
//! Values are compared by [`key`]. The `wanted`-th largest maximum of a group bounds the `wanted`-th largest value from
//! below: as many values at least are not smaller. What is not below that bound is listed, in no order.

use cubecl::prelude::*;

use super::format::Four;
use super::math::cube_sums_and;

/// Values of a group: those of a unit.
pub(crate) const GROUP: usize = 32;

/// Units of a cube that looks for maxima.
pub(crate) const UNITS: u32 = 256;

/// Most entries of a list.
pub(crate) const MOST_LISTED: usize = 1024;

/// Bits of a key that the bound is found by; the others are zero in it.
const BITS: u32 = 18;

/// A number that grows with the value; not-a-number is above all, and both zeros are the same.
#[cube]
fn key(value: f32) -> u32 {
    let bits = select(value == 0.0f32, 0u32.runtime(), u32::reinterpret(value));
    let ordered = select(bits >> 31 == 1, !bits, bits | 0x8000_0000);
    select(bits & 0x7fff_ffff > 0x7f80_0000, u32::MAX.runtime(), ordered)
}

/// `maxima[group]` is the largest key of `GROUP` values, those a cube's units apart. Past the last value there is none.
#[cube(launch_unchecked)]
pub(crate) fn maxima(values: &[f32], maxima: &mut [u32], count: usize) {
    let cube = CUBE_POS_X as usize;
    let begin = cube * comptime!(GROUP * UNITS as usize) + UNIT_POS as usize;
    let mut largest = 0u32.runtime();
    #[unroll]
    for index in 0..GROUP {
        let at = begin + comptime!(index * UNITS as usize);
        if at < count {
            largest = max(largest, key(values[at]));
        }
    }
    maxima[cube * comptime!(UNITS as usize) + UNIT_POS as usize] = largest;
}

/// `counter[0] = 0` and `bound[0]` a key that at least `wanted` of the `count` maxima are not below, for one cube.
///
/// Two bits of the bound at a time, from the highest down: as many as leave enough maxima.
#[cube(launch_unchecked)]
pub(crate) fn bound(maxima: &[u32], counter: &mut [u32], bound: &mut [u32], count: usize, wanted: u32) {
    let wanted = f32::cast_from(wanted);
    let mut least = 0u32.runtime();
    for step in 0..comptime!(BITS / 2) {
        let shift = 30 - 2 * step;
        let mut counts = Four::new(0.0f32);
        for at in range_stepped(UNIT_POS as usize, count, CUBE_DIM as usize) {
            let key = maxima[at];
            #[unroll]
            for digit in 1..4usize {
                if key >= least | (comptime!(digit as u32) << shift) {
                    let more = counts.extract(digit) + 1.0f32;
                    counts.insert(digit, more);
                }
            }
        }
        let sums = cube_sums_and(counts, 0.0f32.runtime(), 0.0f32.runtime()).0;
        let mut digit = 0u32.runtime();
        #[unroll]
        for candidate in 1..4usize {
            if sums.extract(candidate) >= wanted {
                digit = comptime!(candidate as u32).runtime();
            }
        }
        least |= digit << shift;
    }
    if UNIT_POS == 0 {
        counter[0] = 0u32;
        bound[0] = least;
    }
}

/// Lists index and bits of every value whose key is not below `bound[0]`; `counter[0]` counts them all, also those for which
/// there is no entry left.
#[cube(launch_unchecked)]
pub(crate) fn collect(
    values: &[f32],
    bound: &[u32],
    counter: &mut [Atomic<u32>],
    entries: &mut [u32],
    count: usize,
) {
    if ABSOLUTE_POS < count {
        let value = values[ABSOLUTE_POS];
        if key(value) >= bound[0] {
            let entry = counter[0].fetch_add(1u32) as usize;
            if entry < MOST_LISTED {
                entries[2 * entry] = ABSOLUTE_POS as u32;
                entries[2 * entry + 1] = u32::reinterpret(value);
            }
        }
    }
}
