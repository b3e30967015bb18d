//! Products of a matrix with few rows of activations: every weight is read once and met where it lies.
//!
//! A row is read in packets of 16 bytes, packet `p` by unit `p` of a subgroup, so that neighbours read neighbouring memory.
//! A subgroup computes several outputs at a time, whose packets meet the same activations, and asks for several packets
//! before it waits for the first.

use cubecl::prelude::*;

use super::format::{Format, Four};
use super::math::gelu;
use super::packet::{self, Words4};

/// Units of a cube.
pub(crate) const UNITS: u32 = 128;

/// How a matrix is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    pub(crate) format: Format,
    /// Outputs of a subgroup.
    pub(crate) outputs: usize,
    /// Packets of each row that a unit asks for at a time.
    pub(crate) ahead: usize,
}

/// `output[t][r] = Σ_c weight[r][c] · input[t][c]` with activations in f32, for row `t = CUBE_POS_Y`.
///
/// Outputs are `rows` rows of the matrix from row `first` on, as many of them a subgroup as the reading says.
/// `columns` and `input_stride` are in fours, `output_stride` in values.
#[cube(launch_unchecked)]
pub(crate) fn product(
    words: &[Words4],
    scales: &[u32],
    input: &[Four],
    output: &mut [f32],
    first: usize,
    rows: usize,
    columns: usize,
    input_stride: usize,
    output_stride: usize,
    #[comptime] reading: Reading,
) {
    let row = plane() * comptime!(reading.outputs);
    if row < rows {
        let x = CUBE_POS_Y as usize * input_stride;
        let sums = sums(words, scales, input, x, first, row, rows, columns, reading);
        write(sums, output, CUBE_POS_Y as usize * output_stride, row, rows, comptime!(reading.outputs));
    }
}

/// Up to four [`product`]s of the same input by matrices of the same format. A subgroup an output,
/// part after part; a part that is not there has no rows.
#[cube(launch_unchecked)]
pub(crate) fn products(
    input: &[Four],
    words_0: &[Words4],
    scales_0: &[u32],
    output_0: &mut [f32],
    rows_0: usize,
    words_1: &[Words4],
    scales_1: &[u32],
    output_1: &mut [f32],
    rows_1: usize,
    words_2: &[Words4],
    scales_2: &[u32],
    output_2: &mut [f32],
    rows_2: usize,
    words_3: &[Words4],
    scales_3: &[u32],
    output_3: &mut [f32],
    rows_3: usize,
    columns: usize,
    #[comptime] reading: Reading,
) {
    let row = plane();
    let t = CUBE_POS_Y as usize;
    let x = t * columns;
    let (end_0, end_1) = (rows_0, rows_0 + rows_1);
    let (end_2, end_3) = (end_1 + rows_2, end_1 + rows_2 + rows_3);
    if row < end_0 {
        one(words_0, scales_0, input, x, output_0, t, row, rows_0, columns, reading);
    } else if row < end_1 {
        one(words_1, scales_1, input, x, output_1, t, row - end_0, rows_1, columns, reading);
    } else if row < end_2 {
        one(words_2, scales_2, input, x, output_2, t, row - end_1, rows_2, columns, reading);
    } else if row < end_3 {
        one(words_3, scales_3, input, x, output_3, t, row - end_2, rows_3, columns, reading);
    }
}

/// Two [`product`]s of two inputs. A subgroup an output, those of the second after those of the first.
#[cube(launch_unchecked)]
pub(crate) fn pair(
    input_0: &[Four],
    words_0: &[Words4],
    scales_0: &[u32],
    output_0: &mut [f32],
    rows_0: usize,
    columns_0: usize,
    input_1: &[Four],
    words_1: &[Words4],
    scales_1: &[u32],
    output_1: &mut [f32],
    rows_1: usize,
    columns_1: usize,
    #[comptime] reading_0: Reading,
    #[comptime] reading_1: Reading,
) {
    let row = plane();
    let t = CUBE_POS_Y as usize;
    if row < rows_0 {
        let x = t * columns_0;
        one(words_0, scales_0, input_0, x, output_0, t, row, rows_0, columns_0, reading_0);
    } else if row < rows_0 + rows_1 {
        let x = t * columns_1;
        one(words_1, scales_1, input_1, x, output_1, t, row - rows_0, rows_1, columns_1, reading_1);
    }
}

/// One output of one part.
#[cube]
fn one(
    words: &[Words4],
    scales: &[u32],
    input: &[Four],
    x: usize,
    output: &mut [f32],
    t: usize,
    row: usize,
    rows: usize,
    columns: usize,
    #[comptime] reading: Reading,
) {
    let sums = sums(words, scales, input, x, 0usize.runtime(), row, rows, columns, reading);
    write(sums, output, t * rows, row, rows, 1usize);
}

/// `gated = gelu(gate · x) · (up · x)`; with `sparse`, `gated = gate · x` and `hidden = up · x`.
#[cube(launch_unchecked)]
pub(crate) fn gated(
    input: &[Four],
    gate_words: &[Words4],
    gate_scales: &[u32],
    up_words: &[Words4],
    up_scales: &[u32],
    gated: &mut [f32],
    hidden: &mut [f32],
    rows: usize,
    columns: usize,
    #[comptime] sparse: bool,
    #[comptime] gate: Reading,
    #[comptime] up: Reading,
) {
    let outputs = comptime!(gate.outputs);
    let row = plane() * outputs;
    if row < rows {
        let t = CUBE_POS_Y as usize;
        let start = 0usize.runtime();
        let x = t * columns;
        let gates = sums(gate_words, gate_scales, input, x, start, row, rows, columns, gate);
        let ups = sums(up_words, up_scales, input, x, start, row, rows, columns, up);
        if comptime!(sparse) {
            write(gates, gated, t * rows, row, rows, outputs);
            write(ups, hidden, t * rows, row, rows, outputs);
        } else {
            let mut products = Array::<f32>::new(outputs);
            #[unroll]
            for index in 0..outputs {
                products[index] = gelu(gates[index]) * ups[index];
            }
            write(products, gated, t * rows, row, rows, outputs);
        }
    }
}

/// A layer's gate on its per-layer embedding: `gated = gelu(weight · (x · by)) · per_layer`, with `x` the active stream.
///
/// `x` has `stride` fours a row and begins at four `start` of it; `per_layer` has `all` values a row, those of the layer
/// from value `block` on. `by` is not read where `scaled` is false.
#[cube(launch_unchecked)]
pub(crate) fn per_layer_gate(
    words: &[Words4],
    scales: &[u32],
    streams: &[Four],
    by: &[Four],
    per_layer: &[f32],
    gated: &mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    start: usize,
    all: usize,
    block: usize,
    #[comptime] scaled: bool,
    #[comptime] reading: Reading,
) {
    let row = plane();
    if row < rows {
        let t = CUBE_POS_Y as usize;
        let x = t * stride + start;
        let format = comptime!(reading.format);
        let mut sum = 0.0f32;
        let packets = columns / comptime!(format.packet_values() / 4);
        for at in range_stepped(UNIT_POS_PLANE as usize, packets, PLANE_DIM as usize) {
            let number = row * packets + at;
            let stored = words[packet::place(number, format)];
            let mut near = packet::activations(streams, x, at, format);
            if comptime!(scaled) {
                let by = packet::activations(by, 0usize.runtime(), at, format);
                #[unroll]
                for i in 0..comptime!(format.packet_values() / 4) {
                    near[i] *= by[i];
                }
            }
            let totals = packet::totals(&near, format);
            sum += packet::product(stored, words, scales, number, &near, totals, format);
        }
        let total = plane_sum(sum);
        if UNIT_POS_PLANE == 0 {
            gated[t * rows + row] = gelu(total) * per_layer[t * all + block + row];
        }
    }
}

/// The subgroup's number in the grid.
#[cube]
fn plane() -> usize {
    // More than one axis has room for go on along the third.
    let cube = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) as usize;
    cube * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize
}

/// The products of rows from `row` on, counted from `first`, known to every unit of the subgroup.
#[cube]
fn sums(
    words: &[Words4],
    scales: &[u32],
    input: &[Four],
    x: usize,
    first: usize,
    row: usize,
    rows: usize,
    columns: usize,
    #[comptime] reading: Reading,
) -> Array<f32> {
    let (format, outputs, ahead) = comptime!((reading.format, reading.outputs, reading.ahead));
    let mut sums = Array::<f32>::new(outputs);
    #[unroll]
    for index in 0..outputs {
        sums[index] = 0.0f32;
    }
    let packets = columns / comptime!(format.packet_values() / 4);
    let plane = PLANE_DIM as usize;
    for begin in range_stepped(UNIT_POS_PLANE as usize, packets, plane * ahead) {
        let mut stored = Array::<Words4>::new(comptime!(outputs * ahead));
        #[unroll]
        for step in 0..ahead {
            let at = min(begin + step * plane, packets - 1);
            #[unroll]
            for index in 0..outputs {
                // Past the last row the last is read again.
                let number = (first + min(row + index, rows - 1)) * packets + at;
                stored[comptime!(step * outputs + index)] = words[packet::place(number, format)];
            }
        }
        #[unroll]
        for step in 0..ahead {
            let at = begin + step * plane;
            if at < packets {
                let near = packet::activations(input, x, at, format);
                let totals = packet::totals(&near, format);
                #[unroll]
                for index in 0..outputs {
                    let number = (first + min(row + index, rows - 1)) * packets + at;
                    let packet = stored[comptime!(step * outputs + index)];
                    sums[index] += packet::product(packet, words, scales, number, &near, totals, format);
                }
            }
        }
    }
    #[unroll]
    for index in 0..outputs {
        sums[index] = plane_sum(sums[index]);
    }
    sums
}

/// Writes a subgroup's outputs, as far as there are rows.
#[cube]
fn write(
    sums: Array<f32>,
    output: &mut [f32],
    start: usize,
    row: usize,
    rows: usize,
    #[comptime] outputs: usize,
) {
    #[unroll]
    for index in 0..outputs {
        if UNIT_POS_PLANE == 0 && row + index < rows {
            output[start + row + index] = sums[index];
        }
    }
}
