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
#[cube]
pub(crate) fn cube_sums_and(values: Four, first: f32, second: f32) -> (Four, f32, f32) {
    let mut partial = Shared::<[Four]>::new_slice(comptime!(2 * MOST_PLANES));
    let mut two = Four::new(0.0f32);
    two.insert(0usize, first);
    two.insert(1usize, second);
    let (of_plane, two_of_plane) = (plane_sum(values), plane_sum(two));
    if UNIT_POS_PLANE == 0 {
        partial[PLANE_POS as usize] = of_plane;
        partial[MOST_PLANES + PLANE_POS as usize] = two_of_plane;
    }
    sync_cube();
    let mut share = Four::new(0.0f32);
    let mut two_share = Four::new(0.0f32);
    for plane in range_stepped(UNIT_POS_PLANE, CUBE_DIM / PLANE_DIM, PLANE_DIM) {
        share += partial[plane as usize];
        two_share += partial[MOST_PLANES + plane as usize];
    }
    let (total, two_total) = (plane_sum(share), plane_sum(two_share));
    sync_cube();
    (total, two_total.extract(0usize), two_total.extract(1usize))
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
