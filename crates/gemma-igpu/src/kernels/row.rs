//! A row of activations in the registers of a cube: unit `u` holds fours `u`, `u + units`, and so on.

use cubecl::prelude::*;

use super::format::{Four, dot};

/// How a row lies in a cube's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    /// Fours of the row.
    pub(crate) fours: usize,
    /// Fours of a unit.
    pub(crate) slices: usize,
}

/// Which four of the row a unit's four number `slice` is.
#[cube]
pub(crate) fn place(#[comptime] slice: usize) -> usize {
    UNIT_POS as usize + slice * CUBE_DIM as usize
}

/// A unit's fours of the row from four `start` on; nothing past its end.
#[cube]
pub(crate) fn read(values: &[Four], start: usize, #[comptime] row: Row) -> Array<Four> {
    let mut fours = Array::<Four>::new(row.slices);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let i = place(slice);
        let mut four = Four::new(0.0f32);
        if i < row.fours {
            four = values[start + i];
        }
        fours[slice] = four;
    }
    fours
}

/// A unit's four number `slice` of a row of weights; past the end any of them.
#[cube]
pub(crate) fn at(values: &[Four], #[comptime] slice: usize, #[comptime] row: Row) -> Four {
    values[min(place(slice), comptime!(row.fours - 1))]
}

/// The sum of a unit's squares.
#[cube]
pub(crate) fn size(fours: &Array<Four>, #[comptime] row: Row) -> f32 {
    let mut squares = 0.0f32;
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        squares += dot(fours[slice], fours[slice]);
    }
    squares
}

/// `1 / sqrt(mean(x²) + eps)` from the sum of all squares of a row.
#[cube]
pub(crate) fn rms_scale(squares: f32, eps: f32, #[comptime] row: Row) -> f32 {
    1.0 / (squares / comptime!(row.fours * 4) as f32 + eps).sqrt()
}
