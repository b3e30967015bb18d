//! The gate of the feed-forward network.

use cubecl::prelude::*;

use super::format::{Four, dot};
use super::math::{cube_sum, gelu};
use super::row::{Row, place, read};

/// `gated = gelu(g) · up` with `g = gated`, value by value.
#[cube(launch_unchecked)]
pub(crate) fn gate(gated: &mut [f32], up: &[f32], count: usize) {
    if ABSOLUTE_POS < count {
        gated[ABSOLUTE_POS] = gelu(gated[ABSOLUTE_POS]) * up[ABSOLUTE_POS];
    }
}

/// `gated = gelu(relu(g − (mean(g) + cutoff · std(g)))) · up` with `g` the row `CUBE_POS_Y` of `gated`.
#[cube(launch_unchecked)]
pub(crate) fn sparse_gate(gated: &mut [Four], up: &[Four], cutoff: f32, #[comptime] row: Row) {
    let start = CUBE_POS_Y as usize * row.fours;
    let (gates, ups) = (read(&*gated, start, row), read(up, start, row));
    let width = comptime!(row.fours * 4) as f32;
    let mut sum = 0.0f32;
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        sum += dot(gates[slice], Four::new(1.0f32));
    }
    let mean = cube_sum(sum) / width;
    let mut squares = 0.0f32;
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        if place(slice) < row.fours {
            let off = gates[slice] - Four::new(mean);
            squares += dot(off, off);
        }
    }
    let cut = mean + cutoff * (cube_sum(squares) / width).sqrt();
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let i = place(slice);
        if i < row.fours {
            let mut four = Four::new(0.0f32);
            #[unroll]
            for k in 0..4usize {
                let over = max(gates[slice].extract(k) - cut, 0.0f32);
                four.insert(k, gelu(over) * ups[slice].extract(k));
            }
            gated[start + i] = four;
        }
    }
}
