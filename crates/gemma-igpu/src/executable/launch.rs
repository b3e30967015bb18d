//! Grids, and the launch of products.

use std::ops::Range;

use cubecl::prelude::*;

use super::Run;
use crate::gpu::Region;
use crate::kernels::{linear, tile};
use crate::weight::{Matrix, Part};

/// Units of a cube whose units work on a value each.
const VALUE_UNITS: u32 = 256;

/// Cubes along one axis of a grid that every adapter can launch.
const MOST_CUBES: u32 = 32_768;

/// A unit a value. Kernels compare their position with the number of values.
pub(super) fn values(count: usize) -> (CubeCount, CubeDim) {
    let cubes = (count as u32).div_ceil(VALUE_UNITS);
    let (wide, high) = (cubes.min(MOST_CUBES), cubes.div_ceil(MOST_CUBES));
    (CubeCount::new_2d(wide, high), CubeDim::new_1d(VALUE_UNITS))
}

/// Rows of activations up to which each meets the weights by itself.
pub(super) const FEW: usize = 4;

/// Outputs that a subgroup computes at a time: several share their activations, but all of a GPU wants to work.
pub(super) fn outputs_a_plane(rows: usize) -> usize {
    match rows {
        0..4096 => 1,
        4096..16_384 => 2,
        _ => 4,
    }
}

/// Rows of activations: `count` of them, `stride` values apart, of which a product takes or writes the first ones.
pub(super) struct Rows<'a> {
    pub(super) region: &'a Region,
    pub(super) stride: usize,
}

impl Run<'_> {
    /// A cube a row.
    pub(super) fn whole_rows(&self, count: usize) -> (CubeCount, CubeDim) {
        (CubeCount::new_2d(1, count as u32), CubeDim::new_1d(self.gpu.row_units))
    }

    /// `output[t] = matrix[rows] · input[t]` for `count` rows of activations.
    pub(super) fn product(
        &self,
        matrix: &Matrix,
        wanted: Range<usize>,
        input: &Rows<'_>,
        output: &Rows<'_>,
        count: usize,
    ) {
        for part in &matrix.parts {
            let (first, end) = (wanted.start.max(part.rows.start), wanted.end.min(part.rows.end));
            if first >= end {
                continue;
            }
            let written = first - wanted.start;
            let out = output.region.part(written, output.region.len() - written);
            let rows = first - part.rows.start..end - part.rows.start;
            if count > FEW {
                self.tiles(matrix, part, rows, input, &Rows { region: &out, stride: output.stride }, count);
            } else {
                self.lines(matrix, part, rows, input, &Rows { region: &out, stride: output.stride }, count);
            }
        }
    }

    /// A product of few rows of activations with `rows` of a part of a matrix.
    fn lines(
        &self,
        matrix: &Matrix,
        part: &Part,
        rows: Range<usize>,
        input: &Rows<'_>,
        output: &Rows<'_>,
        count: usize,
    ) {
        let outputs = outputs_a_plane(rows.len());
        let (cubes, units) = self.planes(rows.len().div_ceil(outputs), count);
        // SAFETY: the plan's check has compared the shapes of weight, input and output, and `part` has as many
        // words and scales as its rows take in this format.
        unsafe {
            linear::product::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                part.words.arg(),
                part.scales.arg(),
                input.region.fours(),
                output.region.arg(),
                rows.start,
                rows.len(),
                matrix.columns / 4,
                input.stride / 4,
                output.stride,
                outputs,
                matrix.format,
            );
        }
    }

    /// A product of many rows of activations with `rows` of a part of a matrix.
    fn tiles(
        &self,
        matrix: &Matrix,
        part: &Part,
        rows: Range<usize>,
        input: &Rows<'_>,
        output: &Rows<'_>,
        count: usize,
    ) {
        let tiles = |rows: usize| rows.div_ceil(tile::TILE) as u32;
        // SAFETY: as in `lines`; a tile reads and writes no row that is not there.
        unsafe {
            tile::product::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d(tiles(rows.len()), tiles(count)),
                CubeDim::new_1d(tile::UNITS),
                part.words.arg(),
                part.scales.arg(),
                input.region.fours(),
                output.region.arg(),
                rows.start,
                rows.len(),
                matrix.columns / 4,
                input.stride / 4,
                output.stride,
                count,
                matrix.format,
            );
        }
    }

    /// `count` rows of subgroups, at least so many in each. Subgroups may be smaller than the largest: kernels compare
    /// their number with that of rows.
    pub(super) fn planes(&self, planes: usize, count: usize) -> (CubeCount, CubeDim) {
        let cubes = (planes as u32).div_ceil((linear::UNITS / self.gpu.largest_plane).max(1));
        let (wide, high) = (cubes.min(MOST_CUBES), cubes.div_ceil(MOST_CUBES));
        (CubeCount::new_3d(wide, count as u32, high), CubeDim::new_1d(linear::UNITS))
    }
}
