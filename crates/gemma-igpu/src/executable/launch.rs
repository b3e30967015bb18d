//! Grids, and the launch of products.

use std::ops::Range;

use cubecl::prelude::*;

use gemma_hal::DeviceError;

use crate::gpu::{Gpu, Region};
use crate::kernels::format::Format;
use crate::kernels::linear::Reading;
use crate::kernels::matrix_units::Tile;
use crate::kernels::row::Row;
use crate::kernels::staged::Staging;
use crate::kernels::{linear, matrix_units, streams, tile};
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

/// Tiles for matrix units, as outputs, rows of activations and fours of a row: of those that an adapter's tuning allows the first
/// of which there are enough, or the last. Larger ones read and convert every weight for more rows of activations.
pub(crate) const TILES: [(usize, usize, usize); 3] = [(128, 128, 8), (128, 64, 8), (64, 64, 16)];

/// Room for activations on their way to matrix units.
pub(crate) struct Halves {
    /// Two values a word.
    values: Region,
    /// The largest magnitude of each row.
    magnitudes: Region,
    /// Units of a subgroup.
    plane: u32,
}

/// Words of [`Halves`] for products of `rows` rows of up to `widest` values: values, and rows.
pub(super) fn halves_words(gpu: &Gpu, rows: usize, widest: usize) -> (usize, usize) {
    if gpu.matrix_plane.is_none() || rows <= FEW { (0, 0) } else { (rows * widest.div_ceil(2), rows) }
}

impl Halves {
    /// Room as [`halves_words`] says; none where nothing needs it.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn new(gpu: &Gpu, (values, rows): (usize, usize)) -> Result<Option<Self>, DeviceError> {
        let Some(plane) = gpu.matrix_plane.filter(|_| values > 0) else { return Ok(None) };
        let (values, magnitudes) = (gpu.empty("activations in f16", values)?, gpu.empty("magnitudes", rows)?);
        Ok(Some(Self { values, magnitudes, plane }))
    }
}

/// Quads of words that a unit asks for at a time at most: 64 registers.
const MOST_ASKED: usize = 16;

/// Rows of activations: `count` of them, `stride` values apart, of which a product takes or writes the first ones.
pub(crate) struct Rows<'a> {
    pub(crate) region: &'a Region,
    pub(crate) stride: usize,
}

/// What products and grids need besides matrices and activations.
pub(crate) struct Launcher<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) halves: Option<&'a Halves>,
}

impl Launcher<'_> {
    /// A cube a row.
    pub(super) fn whole_rows(&self, count: usize) -> (CubeCount, CubeDim) {
        (CubeCount::new_2d(1, count as u32), CubeDim::new_1d(self.gpu.row_units))
    }

    /// A cube a row of `width` values, with enough units to hold it in few registers.
    pub(super) fn rows_in_registers(&self, count: usize, width: usize) -> (CubeCount, CubeDim, Row) {
        let fours = width / 4;
        let units = (fours as u32).max(streams::LEAST_UNITS).next_multiple_of(self.gpu.largest_plane);
        let units = units.min(self.gpu.row_units);
        let row = Row { fours, slices: fours.div_ceil(units as usize) };
        (CubeCount::new_2d(1, count as u32), CubeDim::new_1d(units), row)
    }

    /// `output[t] = matrix[rows] · input[t]` for `count` rows of activations.
    pub(crate) fn product(
        &self,
        matrix: &Matrix,
        wanted: Range<usize>,
        input: &Rows<'_>,
        output: &Rows<'_>,
        count: usize,
    ) {
        let halves =
            self.halves_for(matrix, count).inspect(|halves| self.halve(input, matrix.columns, halves, count));
        self.product_of(matrix, wanted, input, halves, output, count);
    }

    /// [`Launcher::product`] of activations that have been halved already, where `halves` says so.
    pub(super) fn product_of(
        &self,
        matrix: &Matrix,
        wanted: Range<usize>,
        input: &Rows<'_>,
        halves: Option<&Halves>,
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
            if let Some(halves) = halves {
                self.fragments(
                    matrix,
                    part,
                    rows,
                    halves,
                    &Rows { region: &out, stride: output.stride },
                    count,
                );
            } else if count > FEW {
                self.tiles(matrix, part, rows, input, &Rows { region: &out, stride: output.stride }, count);
            } else {
                self.lines(matrix, part, rows, input, &Rows { region: &out, stride: output.stride }, count);
            }
        }
    }

    /// Where the activations of a product with `matrix` go for matrix units; none where it is computed in f32.
    pub(super) fn halves_for(&self, matrix: &Matrix, count: usize) -> Option<&Halves> {
        self.halves.filter(|_| count > FEW && matrix.format != Format::F32)
    }

    /// Brings `count` rows of `columns` values to f16.
    pub(super) fn halve(&self, input: &Rows<'_>, columns: usize, halves: &Halves, count: usize) {
        let (cubes, units, row) = self.rows_in_registers(count, columns);
        // SAFETY: a cube works on one of the rows that both regions hold; `Halves` has room for the widest input.
        unsafe {
            matrix_units::halve::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                input.region.fours(),
                halves.values.halves(),
                halves.magnitudes.arg(),
                input.stride / 4,
                row,
            );
        }
    }

    /// A product of many rows of activations, halved, with `rows` of a part of a matrix.
    fn fragments(
        &self,
        matrix: &Matrix,
        part: &Part,
        rows: Range<usize>,
        input: &Halves,
        output: &Rows<'_>,
        count: usize,
    ) {
        let tile = self.tile(rows.len(), count, input.plane);
        let cubes = (rows.len().div_ceil(tile.wide) as u32, count.div_ceil(tile.tokens) as u32);
        // SAFETY: as in `lines`; a tile reads and writes no row that is not there, and subgroups have the size that the
        // number of units is taken from.
        unsafe {
            matrix_units::product::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d(cubes.0, cubes.1),
                CubeDim::new_1d(tile.units as u32),
                part.words.arg(),
                part.scales.arg(),
                input.values.halves(),
                input.magnitudes.arg(),
                output.region.arg(),
                rows.start,
                rows.len(),
                matrix.columns / 4,
                output.stride,
                count,
                tile,
                matrix.format,
            );
        }
    }

    /// How matrix units compute `rows` outputs for `count` rows of activations.
    fn tile(&self, rows: usize, count: usize, plane: u32) -> Tile {
        let of = |(wide, tokens, fours): (usize, usize, usize)| {
            let tile = Tile { wide, tokens, fours, units: 0 };
            Tile { units: tile.planes() * plane as usize, ..tile }
        };
        let all = TILES.map(of);
        let tuning = &self.gpu.tuning;
        let is_enough = |tile: &&Tile| {
            tile.wide <= tuning.tile_outputs
                && tile.tokens <= tuning.tile_rows
                && tile.units <= self.gpu.most_units as usize
                && rows.div_ceil(tile.wide) * count.div_ceil(tile.tokens) >= tuning.enough_tiles
        };
        *all.iter().find(is_enough).unwrap_or(&all[all.len() - 1])
    }

    /// Whether the activations that a matrix meets are staged all at once.
    pub(super) fn is_staged_whole(&self, matrix: &Matrix) -> bool {
        self.staging(matrix).fours == matrix.columns / 4
    }

    /// How the activations that a matrix meets are staged: as many as there is room for, in whole blocks of every type.
    pub(super) fn staging(&self, matrix: &Matrix) -> Staging {
        let rounded = self.gpu.rounds && !matches!(matrix.format, Format::F32 | Format::F16 | Format::BF16);
        let all = Staging { fours: matrix.columns / 4, rounded };
        let (places, block) = (all.places(), 64);
        if places <= linear::MOST_PLACES {
            return all;
        }
        let fit = all.fours * linear::MOST_PLACES / places / block * block;
        Staging { fours: fit.saturating_sub(block).max(block), rounded }
    }

    /// How `rows` rows of a matrix are read.
    pub(super) fn reading(&self, matrix: &Matrix, rows: usize) -> Reading {
        let packets = matrix.columns / matrix.format.packet_values();
        let each = packets / self.gpu.largest_plane as usize;
        let tuning = &self.gpu.tuning;
        // What a unit asks for, it has registers for.
        let fit = MOST_ASKED / (1 + matrix.format.besides());
        let outputs = tuning.outputs_a_plane(rows).min(fit / 2);
        Reading {
            format: matrix.format,
            outputs,
            ahead: each.min(fit / outputs).clamp(1, tuning.packets_ahead),
            staging: self.staging(matrix),
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
        let reading = self.reading(matrix, rows.len());
        let (cubes, units) = self.planes(rows.len().div_ceil(reading.outputs), count);
        // SAFETY: the plan's check has compared the shapes of weight, input and output, and `part` has as many
        // words and scales as its rows take in this format.
        unsafe {
            linear::product::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                part.words.quads(),
                part.scales.arg(),
                input.region.fours(),
                output.region.arg(),
                rows.start,
                rows.len(),
                matrix.columns / 4,
                input.stride / 4,
                output.stride,
                reading,
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
