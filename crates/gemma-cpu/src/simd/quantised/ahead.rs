//! [`Ahead`]: what products of few inputs ask memory for before they need it, on x86-64.

use crate::prefetch::{LINE, prefetch};
use crate::simd::operands::Matrix;
use crate::simd::tile::ROWS;

/// What memory is asked for while a tile is computed: as many bytes as the tile has, of what follows it.
pub(super) enum Ahead {
    /// All rows in order: the order of addresses, from [`AHEAD`] bytes behind the tile on. The hardware sees four
    /// short streams that end with the tile and begin anew.
    InOrder { start: *const u8, bytes: usize },
    /// Chosen rows: those of the next tile, side by side.
    Chosen { rows: [*const u8; ROWS], bytes: usize },
}

/// Measured: with half of it memory answers too late, with twice as much lines are dropped again before their use.
const AHEAD: usize = 4608;

impl Ahead {
    /// For the tile that begins with `row` and is computed in so many groups.
    #[inline(always)]
    pub(super) fn new(matrix: Matrix<'_>, row: usize, groups: usize) -> Self {
        let groups = groups.max(1);
        let Some(chosen) = matrix.chosen() else {
            let tile = ROWS * matrix.stride;
            let start = matrix.row(row).as_ptr().wrapping_add(tile + AHEAD);
            return Self::InOrder { start, bytes: tile.div_ceil(groups) };
        };
        let next = row + ROWS;
        // Behind the last tile there is nothing to ask for.
        let bytes = if next < chosen { matrix.stride.div_ceil(groups) } else { 0 };
        let mut rows = [std::ptr::null(); ROWS];
        if bytes > 0 {
            for (r, row) in rows.iter_mut().enumerate() {
                *row = matrix.row((next + r).min(chosen - 1)).as_ptr();
            }
        }
        Self::Chosen { rows, bytes }
    }

    #[inline(always)]
    pub(super) fn ask(&self, group: usize) {
        match self {
            Self::InOrder { start, bytes } => ask(start.wrapping_add(group * bytes), *bytes),
            Self::Chosen { rows, bytes } => {
                rows.iter().for_each(|row| ask(row.wrapping_add(group * bytes), *bytes));
            }
        }
    }
}

#[inline(always)]
fn ask(start: *const u8, bytes: usize) {
    (0..bytes.div_ceil(LINE)).for_each(|line| prefetch(start.wrapping_add(line * LINE)));
}
