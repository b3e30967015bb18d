//! Products of a matrix with many rows of activations on matrix units (cooperative matrices): both are f16 there, sums are f32.
//!
//! Rows of activations are first brought to a largest magnitude of one ([`halve`]), since f16 ends at 65,504; their
//! magnitudes come back with the sums. A cube computes a [`Tile`] of outputs, of which each subgroup has a part. What the next step
//! along the rows needs is asked for before the products of this one.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;
use half::f16;

use super::format::{Format, Four, four_at, half_bits, nibbles, of_bytes, of_signed_bytes};
use super::math::cube_max;
use super::row::{Row, place, read};

/// Four values as they meet matrix units.
pub(crate) type Half4 = Vector<f16, Const<4>>;

/// Rows and columns of a fragment, and its depth.
pub(crate) const SIDE: usize = 16;

/// Rows of activations of a subgroup.
const PART_TOKENS: usize = 2 * SIDE;

/// Subgroups of the smallest tile.
pub(crate) const LEAST_PLANES: u32 = 4;

/// What a cube computes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    /// Outputs; two subgroups share them.
    pub(crate) wide: usize,
    /// Rows of activations.
    pub(crate) tokens: usize,
    /// Fours of a row that are in shared memory at a time.
    pub(crate) fours: usize,
    /// Units of the cube.
    pub(crate) units: usize,
}

impl Tile {
    /// Subgroups that the tile is divided among.
    pub(crate) const fn planes(self) -> usize {
        2 * self.tokens / PART_TOKENS
    }

    /// Fours from one row in shared memory to the next: rows begin in different banks, on 16 bytes.
    const fn stride(self) -> usize {
        self.fours + 2
    }

    /// Fragments of a subgroup across its outputs.
    const fn across(self) -> usize {
        self.wide / SIDE / 2
    }
}

/// Fragments of a subgroup along its rows of activations.
const DOWN: usize = PART_TOKENS / SIDE;

/// Values of a fragment.
const FRAGMENT: usize = SIDE * SIDE;

/// `output[t] = input[t] / scales[t]` in f16, with `scales[t]` the largest magnitude of row `t = CUBE_POS_Y`.
///
/// The stride is in fours. Rows of the output follow each other.
#[cube(launch_unchecked)]
pub(crate) fn halve(
    input: &[Four],
    output: &mut [Half4],
    scales: &mut [f32],
    input_stride: usize,
    #[comptime] row: Row,
) {
    let t = CUBE_POS_Y as usize;
    let fours = read(input, t * input_stride, row);
    let mut largest = 0.0f32;
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let value = fours[slice].abs();
        let pair = max(value.extract(0usize), value.extract(1usize));
        largest = max(largest, max(pair, max(value.extract(2usize), value.extract(3usize))));
    }
    let scale = cube_max(largest);
    let by = select(scale > 0.0f32, 1.0f32 / scale, 0.0f32);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let i = place(slice);
        if i < row.fours {
            output[t * row.fours + i] = Half4::cast_from(fours[slice] * Four::new(by));
        }
    }
    if UNIT_POS == 0 {
        scales[t] = scale;
    }
}

/// `output[t][r] = magnitudes[t] · Σ_c weight[r][c] · input[t][c]`: outputs `CUBE_POS_X · wide ..` of the rows
/// `CUBE_POS_Y · tokens ..` of activations.
///
/// Outputs are `rows` rows of the matrix from row `first` on; `columns` are in fours, `output_stride` in values.
#[cube(launch_unchecked)]
pub(crate) fn product(
    words: &[u32],
    scales: &[u32],
    input: &[Half4],
    magnitudes: &[f32],
    output: &mut [f32],
    first: usize,
    rows: usize,
    columns: usize,
    output_stride: usize,
    count: usize,
    #[comptime] tile: Tile,
    #[comptime] format: Format,
) {
    let mut weights = Shared::<[Half4]>::new_slice(comptime!(tile.wide * tile.stride()));
    let mut inputs = Shared::<[Half4]>::new_slice(comptime!(tile.tokens * tile.stride()));
    let at = Corner {
        first,
        row: CUBE_POS_X as usize * tile.wide,
        rows,
        token: CUBE_POS_Y as usize * tile.tokens,
        count,
        columns,
    };
    let plane = part(tile);
    let (my_rows, my_tokens) = (plane % 2 * comptime!(tile.wide / 2), plane / 2 * PART_TOKENS);
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(tile.across() * DOWN) {
        sums.push(Matrix::<f32>::from_value(
            MatrixIdent::Accumulator,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    let mut stored = Array::<u32>::new(comptime!(RAW * tile.wide * tile.fours / tile.units));
    let mut near = Array::<Half4>::new(comptime!(tile.tokens * tile.fours / tile.units));
    let zero = 0usize.runtime();
    ask_weights(&mut stored, words, scales, &at, zero, tile, format);
    ask_inputs(&mut near, input, &at, zero, tile);
    for begin in range_stepped(0usize, columns, tile.fours) {
        put_weights(&stored, &mut weights, &at, begin, tile, format);
        put_inputs(&near, &mut inputs, tile);
        sync_cube();
        if begin + tile.fours < columns {
            ask_weights(&mut stored, words, scales, &at, begin + tile.fours, tile, format);
            ask_inputs(&mut near, input, &at, begin + tile.fours, tile);
        }
        #[unroll]
        for step in 0..comptime!(tile.fours * 4 / SIDE) {
            multiply(&weights, &inputs, &sums, my_rows, my_tokens, comptime!(step * SIDE / 4), tile);
        }
        sync_cube();
    }
    write_all(&sums, magnitudes, output, &at, my_tokens, my_rows, output_stride, tile);
}

/// Writes a subgroup's fragments, whose first value belongs to row `token` of the tile's activations and output `row` of the tile.
#[cube]
fn write_all(
    sums: &Sequence<Matrix<f32>>,
    magnitudes: &[f32],
    output: &mut [f32],
    at: &Corner,
    token: usize,
    row: usize,
    output_stride: usize,
    #[comptime] tile: Tile,
) {
    let mut staged = Shared::<[f32]>::new_slice(comptime!(tile.planes() * FRAGMENT));
    #[unroll]
    for j in 0..DOWN {
        #[unroll]
        for i in 0..comptime!(tile.across()) {
            let sum = sums.index(comptime!(j * tile.across() + i));
            let (t, r) = (token + comptime!(j * SIDE), row + comptime!(i * SIDE));
            write(sum, &mut staged, magnitudes, output, at, t, r, output_stride, tile);
        }
    }
}

/// Where a tile lies.
#[derive(CubeType)]
struct Corner {
    /// The first of all rows of the matrix that outputs are made of.
    first: usize,
    /// The tile's first output.
    row: usize,
    /// All outputs.
    rows: usize,
    /// The tile's first row of activations.
    token: usize,
    /// All rows of activations.
    count: usize,
    /// Fours of a row.
    columns: usize,
}

/// Writes a subgroup's fragment, whose first value belongs to row `token` of the tile's activations and output `row` of the tile, by way
/// of shared memory: how a fragment lies in registers is not known.
#[cube]
fn write(
    sum: &Matrix<f32>,
    staged: &mut [f32],
    magnitudes: &[f32],
    output: &mut [f32],
    at: &Corner,
    token: usize,
    row: usize,
    output_stride: usize,
    #[comptime] tile: Tile,
) {
    let staging = part(tile) * FRAGMENT;
    let end = comptime!(tile.planes() * FRAGMENT);
    cmma::store(&mut staged[staging..end], sum, comptime!(SIDE as u32), MatrixLayout::RowMajor);
    sync_cube();
    for e in range_stepped(UNIT_POS_PLANE as usize, FRAGMENT, PLANE_DIM as usize) {
        let (t, r) = (at.token + token + e / SIDE, at.row + row + e % SIDE);
        if t < at.count && r < at.rows {
            output[t * output_stride + r] = staged[staging + e] * magnitudes[t];
        }
    }
    sync_cube();
}

/// Which part of the tile the subgroup has. Subgroups may be smaller than the number of units was taken for: then several have
/// the same part, and write the same values.
#[cube]
fn part(#[comptime] tile: Tile) -> usize {
    PLANE_POS as usize % comptime!(tile.planes())
}

/// Adds the products of a subgroup's fragments at four `k` of the tiles.
#[cube]
fn multiply(
    weights: &[Half4],
    inputs: &[Half4],
    sums: &Sequence<Matrix<f32>>,
    row: usize,
    token: usize,
    #[comptime] k: usize,
    #[comptime] tile: Tile,
) {
    let across = comptime!(tile.across());
    let stride = comptime!(tile.stride());
    let mut lines = Sequence::<Matrix<Half4>>::new();
    #[unroll]
    for i in 0..across {
        let at = (row + comptime!(i * SIDE)) * stride + k;
        let end = comptime!(tile.wide * stride);
        lines.push(Matrix::<Half4>::from_slice(
            MatrixIdent::B,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::ColMajor,
            &weights[at..end],
            comptime!(stride as u32 * 4),
        ));
    }
    #[unroll]
    for j in 0..DOWN {
        let at = (token + comptime!(j * SIDE)) * stride + k;
        let end = comptime!(tile.tokens * stride);
        let x = Matrix::<Half4>::from_slice(
            MatrixIdent::A,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::RowMajor,
            &inputs[at..end],
            comptime!(stride as u32 * 4),
        );
        #[unroll]
        for i in 0..across {
            let sum = sums.index(comptime!(j * across + i));
            cmma::execute(&x, lines.index(i), sum, sum);
        }
    }
}

/// Words that stand for a four of weights on its way to shared memory.
const RAW: usize = 2;

/// Which four of the matrix a unit's four number `index` of the tile at `begin` is. Past the end of a row it is the row's first, past
/// the last row the last is read again.
#[cube]
fn number(at: &Corner, begin: usize, #[comptime] index: usize, #[comptime] tile: Tile) -> usize {
    let place = comptime!(index * tile.units) + UNIT_POS as usize;
    let (line, column) = (place / tile.fours, begin + place % tile.fours);
    let near = select(column < at.columns, column, 0usize.runtime());
    (at.first + min(at.row + line, at.rows - 1)) * at.columns + near
}

/// Asks for a unit's share of a tile of weights.
#[cube]
fn ask_weights(
    stored: &mut Array<u32>,
    words: &[u32],
    scales: &[u32],
    at: &Corner,
    begin: usize,
    #[comptime] tile: Tile,
    #[comptime] format: Format,
) {
    #[unroll]
    for index in 0..comptime!(tile.wide * tile.fours / tile.units) {
        let raw = raw(words, scales, number(at, begin, index, tile), format);
        stored[comptime!(RAW * index)] = raw.0;
        stored[comptime!(RAW * index + 1)] = raw.1;
    }
}

/// Four number `index` as it is stored, or in types that take more words as its values.
#[cube]
fn raw(words: &[u32], scales: &[u32], index: usize, #[comptime] format: Format) -> (u32, u32) {
    match format {
        Format::Q4_0 => (words[index / 8 * 4 + index % 4], scales[index / 16]),
        Format::Q8_0 => (words[index], scales[index / 16]),
        Format::F16 => (words[index * 2], words[index * 2 + 1]),
        _ => {
            let pairs =
                Vector::<u32, Const<2>>::reinterpret(Half4::cast_from(four_at(words, scales, index, format)));
            (pairs.extract(0usize), pairs.extract(1usize))
        }
    }
}

/// The values of four number `index`, from what [`raw`] has given.
#[cube]
fn values(low: u32, high: u32, index: usize, #[comptime] format: Format) -> Half4 {
    match format {
        Format::Q4_0 => {
            let by = half_bits((high >> (index as u32 / 8 % 2 * 16)) & 0xffff);
            let quants = nibbles(low, index as u32 % 8 / 4 * 4);
            Half4::cast_from(of_bytes(quants, by, by * 8.0f32))
        }
        Format::Q8_0 => {
            let by = half_bits((high >> (index as u32 / 8 % 2 * 16)) & 0xffff);
            Half4::cast_from(of_signed_bytes(low) * Four::new(by))
        }
        _ => {
            let mut pairs = Vector::<u32, Const<2>>::new(low);
            pairs.insert(1usize, high);
            Half4::reinterpret(pairs)
        }
    }
}

/// Writes a unit's share of a tile of weights. Past the end of a row there is nothing.
#[cube]
fn put_weights(
    stored: &Array<u32>,
    weights: &mut [Half4],
    at: &Corner,
    begin: usize,
    #[comptime] tile: Tile,
    #[comptime] format: Format,
) {
    #[unroll]
    for index in 0..comptime!(tile.wide * tile.fours / tile.units) {
        let place = comptime!(index * tile.units) + UNIT_POS as usize;
        let (line, four) = (place / tile.fours, place % tile.fours);
        let (low, high) = (stored[comptime!(RAW * index)], stored[comptime!(RAW * index + 1)]);
        let values = values(low, high, number(at, begin, index, tile), format);
        let inside = begin + four < at.columns;
        weights[line * tile.stride() + four] = select(inside, values, Half4::new(f16::from_int(0)));
    }
}

/// Asks for a unit's share of a tile of activations. Past the end of a row and past the last row something is read again.
#[cube]
fn ask_inputs(near: &mut Array<Half4>, input: &[Half4], at: &Corner, begin: usize, #[comptime] tile: Tile) {
    #[unroll]
    for index in 0..comptime!(tile.tokens * tile.fours / tile.units) {
        let place = comptime!(index * tile.units) + UNIT_POS as usize;
        let (line, column) = (place / tile.fours, min(begin + place % tile.fours, at.columns - 1));
        near[index] = input[min(at.token + line, at.count - 1) * at.columns + column];
    }
}

/// Writes a unit's share of a tile of activations.
#[cube]
fn put_inputs(near: &Array<Half4>, inputs: &mut [Half4], #[comptime] tile: Tile) {
    #[unroll]
    for index in 0..comptime!(tile.tokens * tile.fours / tile.units) {
        let place = comptime!(index * tile.units) + UNIT_POS as usize;
        inputs[place / tile.fours * tile.stride() + place % tile.fours] = near[index];
    }
}
