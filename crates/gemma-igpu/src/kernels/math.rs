//! Sums over a cube, and functions whose precision Vulkan leaves open.

use cubecl::prelude::*;

use super::MOST_PLANES;
use super::format::Four;

/// The sum of `value` over all units of the cube, known to each of them.
///
/// Every unit must come here. Sums of units go to their subgroup, those of subgroups to the cube.
#[cube]
pub(crate) fn cube_sum(value: f32) -> f32 {
    let mut partial = Shared::new_slice(MOST_PLANES);
    let of_plane = plane_sum(value);
    if UNIT_POS_PLANE == 0 {
        partial[PLANE_POS as usize] = of_plane;
    }
    sync_cube();
    let mut share = 0.0f32;
    for plane in range_stepped(UNIT_POS_PLANE, CUBE_DIM / PLANE_DIM, PLANE_DIM) {
        share += partial[plane as usize];
    }
    let total = plane_sum(share);
    // The next sum may take the same place.
    sync_cube();
    total
}

/// The largest `value` of all units of the cube, known to each of them; [`cube_sum`] says how.
#[cube]
pub(crate) fn cube_max(value: f32) -> f32 {
    let mut partial = Shared::new_slice(MOST_PLANES);
    let of_plane = plane_max(value);
    if UNIT_POS_PLANE == 0 {
        partial[PLANE_POS as usize] = of_plane;
    }
    sync_cube();
    let mut largest = of_plane;
    for plane in range_stepped(UNIT_POS_PLANE, CUBE_DIM / PLANE_DIM, PLANE_DIM) {
        largest = max(largest, partial[plane as usize]);
    }
    let all = plane_max(largest);
    sync_cube();
    all
}

/// [`cube_sum`] of four values and two more at once.
///
/// Neighbours share the values among them while they add: of eight units each ends with one of the values, which costs seven
/// exchanges in place of three a value.
#[cube]
pub(crate) fn cube_sums_and(values: Four, first: f32, second: f32) -> (Four, f32, f32) {
    let mut partial = Shared::<[f32]>::new_slice(comptime!(SHARING * MOST_PLANES));
    let (odd, second_bit, third_bit) =
        (UNIT_POS_PLANE & 1 == 1, UNIT_POS_PLANE & 2 == 2, UNIT_POS_PLANE & 4 == 4);
    // Units with the first bit take the two values, the others the four.
    let (a, b) = (values.extract(0usize), values.extract(1usize));
    let (c, d) = (values.extract(2usize), values.extract(3usize));
    let a = select(odd, first, a) + plane_shuffle_xor(select(odd, a, first), 1);
    let b = select(odd, second, b) + plane_shuffle_xor(select(odd, b, second), 1);
    let c = select(odd, 0.0f32, c) + plane_shuffle_xor(select(odd, c, 0.0f32), 1);
    let d = select(odd, 0.0f32, d) + plane_shuffle_xor(select(odd, d, 0.0f32), 1);
    // Those with the second bit take the second pair, those with the third the second value of a pair.
    let e = select(second_bit, c, a) + plane_shuffle_xor(select(second_bit, a, c), 2);
    let f = select(second_bit, d, b) + plane_shuffle_xor(select(second_bit, b, d), 2);
    let own = select(third_bit, f, e) + plane_shuffle_xor(select(third_bit, e, f), 4);
    let of_plane = sum_of_eighths(own);
    if UNIT_POS_PLANE < comptime!(SHARING as u32) {
        partial[PLANE_POS as usize * SHARING + UNIT_POS_PLANE as usize] = of_plane;
    }
    sync_cube();
    let mut share = 0.0f32;
    let all = (CUBE_DIM / PLANE_DIM) as usize * SHARING;
    for at in range_stepped(UNIT_POS_PLANE as usize, all, PLANE_DIM as usize) {
        share += partial[at];
    }
    let total = sum_of_eighths(share);
    let mut totals = Four::new(0.0f32);
    totals.insert(0usize, plane_broadcast(total, 0u32));
    totals.insert(1usize, plane_broadcast(total, 4u32));
    totals.insert(2usize, plane_broadcast(total, 2u32));
    totals.insert(3usize, plane_broadcast(total, 6u32));
    let two = (plane_broadcast(total, 1u32), plane_broadcast(total, 5u32));
    sync_cube();
    (totals, two.0, two.1)
}

/// Units that share values in [`cube_sums_and`]. No subgroup is smaller.
const SHARING: usize = 8;

/// The sum of `value` over the units of a subgroup that are multiples of eight apart, known to each of them.
#[cube]
fn sum_of_eighths(value: f32) -> f32 {
    let mut sum = value;
    if PLANE_DIM > 8 {
        sum += plane_shuffle_xor(sum, 8);
    }
    if PLANE_DIM > 16 {
        sum += plane_shuffle_xor(sum, 16);
    }
    if PLANE_DIM > 32 {
        sum += plane_shuffle_xor(sum, 32);
    }
    sum
}

/// `tanh(x)` from the exponential, and from its series where that would cancel.
#[cube]
pub(crate) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let tail = square * 0.021_869_49f32 - 0.053_968_254f32;
    let tail = square * (square * tail + 0.133_333_34f32) - 0.333_333_34f32;
    let series = x * (square * tail + 1.0f32);
    let decay = (x.abs() * -2.0f32).exp();
    let far = (1.0f32 - decay) / (decay + 1.0f32);
    let signed = select(x < 0.0f32, -far, far);
    select(square < 0.04f32, series, signed)
}

/// GELU with the tanh approximation: `x · sigmoid(2 · √(2/π) · (x + 0.044715 · x³))`.
#[cube]
pub(crate) fn gelu(x: f32) -> f32 {
    let inner = x * 1.595_769_2f32 * (x * x * 0.044_715f32 + 1.0f32);
    let decay = (0.0f32 - inner).exp();
    x / (decay + 1.0f32)
}
