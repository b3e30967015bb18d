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

/// A unit's fours of `rows` rows of weights, slice after slice of each; past a row's end any of it.
///
/// What a kernel needs of weights it asks for before its units wait for each other the first time: memory answers all at once.
#[cube]
pub(crate) fn weights(values: &[Four], #[comptime] rows: usize, #[comptime] row: Row) -> Array<Four> {
    let mut fours = Array::<Four>::new(comptime!(rows * row.slices));
    #[unroll]
    for line in 0..rows {
        #[unroll]
        for slice in 0..comptime!(row.slices) {
            let i = min(place(slice), comptime!(row.fours - 1));
            fours[comptime!(line * row.slices + slice)] = values[comptime!(line * row.fours) + i];
        }
    }
    fours
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
