//! Products of a matrix with many rows of activations, a tile of both at a time in shared memory.

use cubecl::prelude::*;

use super::format::{Format, Four, dot, four_at};

/// Rows of a tile, of weights and of activations.
pub(crate) const TILE: usize = 64;

/// Fours of a row in a tile.
const DEPTH: usize = 8;

/// Fours from one row of a tile to the next: one more, so that rows begin in different banks.
const STRIDE: usize = DEPTH + 1;

/// Units along each side of a tile; each computes a square of outputs.
const SIDE: usize = 16;

/// Rows and columns of that square.
const SQUARE: usize = TILE / SIDE;

/// Units of a cube.
pub(crate) const UNITS: u32 = (SIDE * SIDE) as u32;

/// `output[t][r] = Σ_c weight[r][c] · input[t][c]` with activations in f32: outputs `CUBE_POS_X · 64 ..` of the rows
/// `CUBE_POS_Y · 64 ..` of activations.
///
/// Outputs are `rows` rows of the matrix from row `first` on. `columns` and `input_stride` are in fours,
/// `output_stride` in values.
#[cube(launch_unchecked)]
pub(crate) fn product(
    words: &[u32],
    scales: &[u32],
    input: &[Four],
    output: &mut [f32],
    first: usize,
    rows: usize,
    columns: usize,
    input_stride: usize,
    output_stride: usize,
    count: usize,
    #[comptime] format: Format,
) {
    let mut weights = Shared::<[Four]>::new_slice(comptime!(TILE * STRIDE));
    let mut inputs = Shared::<[Four]>::new_slice(comptime!(TILE * STRIDE));
    let row = CUBE_POS_X as usize * TILE;
    let token = CUBE_POS_Y as usize * TILE;
    let unit = UNIT_POS as usize;
    let (across, down) = (unit % SIDE, unit / SIDE);
    let mut sums = Array::<f32>::new(comptime!(SQUARE * SQUARE));
    #[unroll]
    for i in 0..comptime!(SQUARE * SQUARE) {
        sums[i] = 0.0f32;
    }
    for begin in range_stepped(0usize, columns, DEPTH) {
        let from = Corner { row, token, column: begin };
        load(
            words,
            scales,
            input,
            &mut weights,
            &mut inputs,
            from,
            first,
            rows,
            columns,
            input_stride,
            count,
            format,
        );
        sync_cube();
        multiply(&weights, &inputs, &mut sums);
        sync_cube();
    }
    #[unroll]
    for i in 0..SQUARE {
        #[unroll]
        for j in 0..SQUARE {
            let (r, t) = (row + across + comptime!(i * SIDE), token + down + comptime!(j * SIDE));
            if r < rows && t < count {
                output[t * output_stride + r] = sums[comptime!(i * SQUARE + j)];
            }
        }
    }
}

/// Where a tile begins.
#[derive(CubeType, Clone, Copy)]
struct Corner {
    row: usize,
    token: usize,
    /// In fours.
    column: usize,
}

/// Reads a tile of weights and one of activations.
#[cube]
fn load(
    words: &[u32],
    scales: &[u32],
    input: &[Four],
    weights: &mut [Four],
    inputs: &mut [Four],
    from: Corner,
    first: usize,
    rows: usize,
    columns: usize,
    input_stride: usize,
    count: usize,
    #[comptime] format: Format,
) {
    #[unroll]
    for part in 0..comptime!(TILE * DEPTH / (SIDE * SIDE)) {
        let at = comptime!(part * SIDE * SIDE) + UNIT_POS as usize;
        let (line, four) = (at / DEPTH, at % DEPTH);
        // Fours past the end of a row count nothing; rows past the last are read again and not written.
        let column = from.column + four;
        let inside = column < columns;
        let near = select(inside, column, 0usize.runtime());
        let stored = (first + min(from.row + line, rows - 1)) * columns + near;
        let x = min(from.token + line, count - 1) * input_stride + near;
        let factor = select(inside, 1.0f32, 0.0f32);
        weights[line * STRIDE + four] = four_at(words, scales, stored, format) * Four::new(factor);
        inputs[line * STRIDE + four] = input[x];
    }
}

/// Adds the products of the tiles to a unit's square.
#[cube]
fn multiply(weights: &[Four], inputs: &[Four], sums: &mut Array<f32>) {
    let (across, down) = (UNIT_POS as usize % SIDE, UNIT_POS as usize / SIDE);
    for four in 0..DEPTH {
        #[unroll]
        for i in 0..SQUARE {
            let weight = weights[(across + comptime!(i * SIDE)) * STRIDE + four];
            #[unroll]
            for j in 0..SQUARE {
                let value = inputs[(down + comptime!(j * SIDE)) * STRIDE + four];
                sums[comptime!(i * SQUARE + j)] += dot(weight, value);
            }
        }
    }
}
