//! [`Ahead`]: what products of few inputs ask memory for before they need it, on x86-64.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::activation::LINE;
use crate::simd::operands::Matrix;
use crate::simd::tile::ROWS;

/// What memory is asked for while a tile is computed: as many bytes as the tile has, in the order of addresses, from
/// [`AHEAD`] bytes behind the tile on. The hardware sees four short streams that end with the tile and begin anew.
pub(super) struct Ahead {
    start: *const u8,
    /// Bytes that are asked for with each group.
    bytes: usize,
}

/// Measured: with half of it memory answers too late, with twice as much lines are dropped again before their use.
const AHEAD: usize = 4608;

impl Ahead {
    #[inline(always)]
    pub(super) fn new(matrix: Matrix<'_>, row: usize, groups: usize) -> Self {
        let tile = ROWS * matrix.stride;
        // Chosen rows lie anywhere; what follows them is not wanted.
        let bytes = if matrix.is_whole() { tile.div_ceil(groups.max(1)) } else { 0 };
        Self { start: matrix.row(row).as_ptr().wrapping_add(tile + AHEAD), bytes }
    }

    #[inline(always)]
    pub(super) fn ask(&self, group: usize) {
        let start = self.start.wrapping_add(group * self.bytes);
        for line in 0..self.bytes.div_ceil(LINE) {
            // SAFETY: part of every x86-64 processor; a prefetch never faults, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line * LINE).cast()) };
        }
    }
}
