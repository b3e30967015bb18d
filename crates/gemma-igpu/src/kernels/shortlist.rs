//! The largest values of a row, chosen where the row is, so that little of it goes back to the host.
//!
//! Values are compared by [`key`]. The `wanted`-th largest maximum of a group bounds the `wanted`-th largest value from
//! below: as many values at least are not smaller. What is not below that bound is listed, in no order.

use cubecl::prelude::*;

use super::MOST_PLANES;

/// Values of a group: those of a unit.
pub(crate) const GROUP: usize = 32;

/// Units of a cube that looks for maxima.
pub(crate) const UNITS: u32 = 256;

/// Most entries of a list.
pub(crate) const MOST_LISTED: usize = 1024;

/// Most groups of a row: two counts of them have room in a word.
pub(crate) const MOST_GROUPS: usize = 0xffff;

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
/// Two bits of the bound at a time, from the highest down: as many as leave enough maxima. A unit keeps `held` of them.
#[cube(launch_unchecked)]
pub(crate) fn bound(
    maxima: &[u32],
    counter: &mut [u32],
    bound: &mut [u32],
    wanted: u32,
    #[comptime] count: usize,
    #[comptime] held: usize,
) {
    let mut keys = Array::<u32>::new(held);
    #[unroll]
    for index in 0..held {
        let at = comptime!(index) * CUBE_DIM as usize + UNIT_POS as usize;
        // Nothing is below a key of zero, and no bound that counts is zero.
        keys[index] = select(at < count, maxima[min(at, comptime!(count - 1))], 0u32.runtime());
    }
    let mut least = 0u32.runtime();
    for step in 0..comptime!(BITS / 2) {
        let shift = 30 - 2 * step;
        // Two counts a word.
        let (mut fewer, mut fewest) = (0u32.runtime(), 0u32.runtime());
        #[unroll]
        for index in 0..held {
            let key = keys[index];
            fewer += u32::cast_from(key >= least | (1u32 << shift));
            fewer += u32::cast_from(key >= least | (2u32 << shift)) << 16;
            fewest += u32::cast_from(key >= least | (3u32 << shift));
        }
        let (fewer, fewest) = cube_counts(fewer, fewest);
        let mut digit = u32::cast_from(fewer & 0xffff >= wanted);
        digit = select(fewer >> 16 >= wanted, 2u32.runtime(), digit);
        digit = select(fewest >= wanted, 3u32.runtime(), digit);
        least |= digit << shift;
    }
    if UNIT_POS == 0 {
        counter[0] = 0u32;
        bound[0] = least;
    }
}

/// Sums of two numbers over all units of the cube, known to each of them.
#[cube]
fn cube_counts(first: u32, second: u32) -> (u32, u32) {
    let mut partial = Shared::<[u32]>::new_slice(comptime!(2 * MOST_PLANES));
    let (of_first, of_second) = (plane_sum(first), plane_sum(second));
    if UNIT_POS_PLANE == 0 {
        partial[PLANE_POS as usize] = of_first;
        partial[MOST_PLANES + PLANE_POS as usize] = of_second;
    }
    sync_cube();
    let (mut first, mut second) = (0u32.runtime(), 0u32.runtime());
    for plane in range_stepped(UNIT_POS_PLANE, CUBE_DIM / PLANE_DIM, PLANE_DIM) {
        first += partial[plane as usize];
        second += partial[MOST_PLANES + plane as usize];
    }
    let sums = (plane_sum(first), plane_sum(second));
    sync_cube();
    sums
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
