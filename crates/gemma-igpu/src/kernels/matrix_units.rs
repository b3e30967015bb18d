//! Products of a matrix with many rows of activations on matrix units (cooperative matrices): both are f16 there, sums are f32.
//!
//! Rows of activations are first brought to a largest magnitude of one ([`halve`]), since f16 ends at 65,504; their
//! magnitudes come back with the sums. A cube has four subgroups of [`PLANES`]; two by two they share a tile.

use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;
use half::f16;

use super::format::{Format, Four, four_at};
use super::math::cube_max;

/// Four values as they meet matrix units.
pub(crate) type Half4 = Vector<f16, Const<4>>;

/// Rows and columns of a fragment, and its depth.
pub(crate) const SIDE: usize = 16;

/// Subgroups of a cube.
pub(crate) const PLANES: u32 = 4;

/// Values of a row in a tile.
const DEPTH: usize = 32;

/// Fours of a row in a tile.
const FOURS: usize = DEPTH / 4;

/// Fours from one row of a tile to the next: rows begin in different banks, on 16 bytes.
const STRIDE: usize = FOURS + 2;

/// Rows of activations in a tile.
pub(crate) const TOKENS: usize = 64;

/// Values of a fragment.
const FRAGMENT: usize = SIDE * SIDE;

/// `output[t] = input[t] / scales[t]` in f16, with `scales[t]` the largest magnitude of row `t = CUBE_POS_Y`.
///
/// Strides are in fours. Rows of the output follow each other.
#[cube(launch_unchecked)]
pub(crate) fn halve(
    input: &[Four],
    output: &mut [Half4],
    scales: &mut [f32],
    input_stride: usize,
    #[comptime] columns: usize,
) {
    let t = CUBE_POS_Y as usize;
    let mut largest = 0.0f32;
    for i in range_stepped(UNIT_POS as usize, columns, CUBE_DIM as usize) {
        let value = input[t * input_stride + i].abs();
        let pair = max(value.extract(0usize), value.extract(1usize));
        largest = max(largest, max(pair, max(value.extract(2usize), value.extract(3usize))));
    }
    let scale = cube_max(largest);
    let by = select(scale > 0.0f32, 1.0f32 / scale, 0.0f32);
    for i in range_stepped(UNIT_POS as usize, columns, CUBE_DIM as usize) {
        output[t * columns + i] = Half4::cast_from(input[t * input_stride + i] * Four::new(by));
    }
    if UNIT_POS == 0 {
        scales[t] = scale;
    }
}

/// `output[t][r] = magnitudes[t] · Σ_c weight[r][c] · input[t][c]`: outputs `CUBE_POS_X · wide ..` of the rows
/// `CUBE_POS_Y · TOKENS ..` of activations.
///
/// Outputs are `rows` rows of the matrix from row `first` on; `columns` are in fours, `output_stride` in values. A cube has
/// `units` units, [`PLANES`] subgroups.
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
    #[comptime] wide: usize,
    #[comptime] units: usize,
    #[comptime] format: Format,
) {
    let mut weights = Shared::<[Half4]>::new_slice(comptime!(wide * STRIDE));
    let mut inputs = Shared::<[Half4]>::new_slice(comptime!(TOKENS * STRIDE));
    let row = CUBE_POS_X as usize * wide;
    let token = CUBE_POS_Y as usize * TOKENS;
    // The plane's part of the tile, in fragments.
    let across = comptime!(wide / SIDE / 2);
    let down = comptime!(TOKENS / SIDE / 2);
    let plane = part();
    let (my_rows, my_tokens) = (plane % 2 * comptime!(wide / 2), plane / 2 * comptime!(TOKENS / 2));
    let mut sums = Sequence::<Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime!(across * down) {
        sums.push(Matrix::<f32>::from_value(
            MatrixIdent::Accumulator,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::Undefined,
            0.0f32,
        ));
    }
    for begin in range_stepped(0usize, columns, FOURS) {
        load_weights(words, scales, &mut weights, first, row, rows, begin, columns, wide, units, format);
        load_inputs(input, &mut inputs, token, count, begin, columns, units);
        sync_cube();
        #[unroll]
        for step in 0..comptime!(DEPTH / SIDE) {
            let k = comptime!(step * SIDE / 4);
            multiply(&weights, &inputs, &sums, my_rows, my_tokens, k, wide);
        }
        sync_cube();
    }
    let mut staged = Shared::<[f32]>::new_slice(comptime!(PLANES as usize * FRAGMENT));
    #[unroll]
    for j in 0..down {
        #[unroll]
        for i in 0..across {
            let sum = sums.index(comptime!(j * across + i));
            let (t, r) = (token + my_tokens + comptime!(j * SIDE), row + my_rows + comptime!(i * SIDE));
            write(sum, &mut staged, magnitudes, output, t, r, count, rows, output_stride);
        }
    }
}

/// Writes a subgroup's fragment, whose first value belongs to row `token` of activations and output `row`, by way of shared
/// memory: how a fragment lies in registers is not known.
#[cube]
fn write(
    sum: &Matrix<f32>,
    staged: &mut [f32],
    magnitudes: &[f32],
    output: &mut [f32],
    token: usize,
    row: usize,
    count: usize,
    rows: usize,
    output_stride: usize,
) {
    let staging = part() * FRAGMENT;
    let end = comptime!(PLANES as usize * FRAGMENT);
    cmma::store(&mut staged[staging..end], sum, comptime!(SIDE as u32), MatrixLayout::RowMajor);
    sync_cube();
    for e in range_stepped(UNIT_POS_PLANE as usize, FRAGMENT, PLANE_DIM as usize) {
        let (t, r) = (token + e / SIDE, row + e % SIDE);
        if t < count && r < rows {
            output[t * output_stride + r] = staged[staging + e] * magnitudes[t];
        }
    }
    sync_cube();
}

/// Which part of the tile the subgroup has. Subgroups may be smaller than the number of units was taken for: then several have
/// the same part, and write the same values.
#[cube]
fn part() -> usize {
    PLANE_POS as usize % PLANES as usize
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
    #[comptime] wide: usize,
) {
    let across = comptime!(wide / SIDE / 2);
    let mut lines = Sequence::<Matrix<Half4>>::new();
    #[unroll]
    for i in 0..across {
        let at = (row + comptime!(i * SIDE)) * STRIDE + k;
        let end = comptime!(wide * STRIDE);
        lines.push(Matrix::<Half4>::from_slice(
            MatrixIdent::B,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::ColMajor,
            &weights[at..end],
            comptime!(STRIDE as u32 * 4),
        ));
    }
    #[unroll]
    for j in 0..comptime!(TOKENS / SIDE / 2) {
        let at = (token + comptime!(j * SIDE)) * STRIDE + k;
        let end = comptime!(TOKENS * STRIDE);
        let x = Matrix::<Half4>::from_slice(
            MatrixIdent::A,
            SIDE,
            SIDE,
            SIDE,
            MatrixLayout::RowMajor,
            &inputs[at..end],
            comptime!(STRIDE as u32 * 4),
        );
        #[unroll]
        for i in 0..across {
            let sum = sums.index(comptime!(j * across + i));
            cmma::execute(&x, lines.index(i), sum, sum);
        }
    }
}

/// A tile of weights. Past the end of a row there is nothing, past the last row the last is read again.
#[cube]
fn load_weights(
    words: &[u32],
    scales: &[u32],
    weights: &mut [Half4],
    first: usize,
    row: usize,
    rows: usize,
    begin: usize,
    columns: usize,
    #[comptime] wide: usize,
    #[comptime] units: usize,
    #[comptime] format: Format,
) {
    #[unroll]
    for part in 0..comptime!(wide * FOURS / units) {
        let at = comptime!(part * units) + UNIT_POS as usize;
        let (line, four) = (at / FOURS, at % FOURS);
        let column = begin + four;
        let inside = column < columns;
        let near = select(inside, column, 0usize.runtime());
        let stored = (first + min(row + line, rows - 1)) * columns + near;
        let factor = select(inside, 1.0f32, 0.0f32);
        weights[line * STRIDE + four] =
            Half4::cast_from(four_at(words, scales, stored, format) * Four::new(factor));
    }
}

/// A tile of activations. Past the last row the last is read again.
#[cube]
fn load_inputs(
    input: &[Half4],
    inputs: &mut [Half4],
    token: usize,
    count: usize,
    begin: usize,
    columns: usize,
    #[comptime] units: usize,
) {
    #[unroll]
    for part in 0..comptime!(TOKENS * FOURS / units) {
        let at = comptime!(part * units) + UNIT_POS as usize;
        let (line, four) = (at / FOURS, at % FOURS);
        let column = min(begin + four, columns - 1);
        inputs[line * STRIDE + four] = input[min(token + line, count - 1) * columns + column];
    }
}
