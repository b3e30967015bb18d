//! Products of a matrix with few rows of activations: every weight is read once and met where it lies.
//!
//! A row is read in packets of 16 bytes, packet `p` by unit `p` of a subgroup, so that neighbours read neighbouring memory.
//! A subgroup computes several outputs at a time, whose packets meet the same activations, and asks for several packets
//! before it waits for the first. Activations are staged in shared memory, where each unit finds those of its packet.

use cubecl::prelude::*;

use super::format::{Format, Four};
use super::math::gelu;
use super::packet::{self, Words4};
use super::rounded;
use super::staged::{self, Staging};

/// Units of a cube.
pub(crate) const UNITS: u32 = 256;

/// The most places of shared memory for activations: all that every adapter has.
pub(crate) const MOST_PLACES: usize = 1024;

/// How a matrix is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    pub(crate) format: Format,
    /// Outputs of a subgroup.
    pub(crate) outputs: usize,
    /// Packets of each row that a unit asks for at a time.
    pub(crate) ahead: usize,
    pub(crate) staging: Staging,
}

/// Packets that a unit has asked for, step after step and in each output after output, and what each needs besides.
#[derive(CubeType)]
pub(super) struct Stored {
    packets: Array<Words4>,
    besides: Array<Words4>,
}

/// The rows of a matrix that a subgroup works on.
#[derive(CubeType)]
pub(super) struct Lines {
    /// The first of all rows that outputs are made of.
    pub(super) first: usize,
    /// The first one of the subgroup, counted from there.
    pub(super) row: usize,
    /// All rows.
    pub(super) rows: usize,
    /// Packets of a row.
    pub(super) packets: usize,
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
    let mut staged = Shared::<[Words4]>::new_slice(comptime!(reading.staging.places()));
    let x = CUBE_POS_Y as usize * input_stride;
    let lines = lines(first, rows, columns, reading);
    let mut sums = zeros(reading);
    for from in range_stepped(0usize, columns, reading.staging.fours) {
        let count = min(reading.staging.fours.runtime(), columns - from);
        let mut stored = fetch(words, scales, &lines, from, count, reading);
        staged::stage(input, input, x + from, count, &mut staged, false, comptime!(reading.staging));
        sync_cube();
        add(&mut sums, &mut stored, words, scales, &staged, &lines, from, count, reading);
        sync_cube();
    }
    write(sums, output, CUBE_POS_Y as usize * output_stride, &lines, reading);
}

/// Up to four [`product`]s of the same input by matrices of the same format. A subgroup an output,
/// part after part; a part that is not there has no rows. The input is staged whole.
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
    let mut staged = Shared::<[Words4]>::new_slice(comptime!(reading.staging.places()));
    let row = plane();
    let (end_0, end_1) = (rows_0, rows_0 + rows_1);
    let (end_2, end_3) = (end_1 + rows_2, end_1 + rows_2 + rows_3);
    let mut stored = room(reading);
    if row < end_0 {
        begin(&mut stored, words_0, scales_0, row, rows_0, columns, reading);
    } else if row < end_1 {
        begin(&mut stored, words_1, scales_1, row - end_0, rows_1, columns, reading);
    } else if row < end_2 {
        begin(&mut stored, words_2, scales_2, row - end_1, rows_2, columns, reading);
    } else if row < end_3 {
        begin(&mut stored, words_3, scales_3, row - end_2, rows_3, columns, reading);
    }
    let x = CUBE_POS_Y as usize * columns;
    staged::stage(input, input, x, columns, &mut staged, false, comptime!(reading.staging));
    sync_cube();
    if row < end_0 {
        one(&mut stored, words_0, scales_0, &staged, output_0, row, rows_0, columns, reading);
    } else if row < end_1 {
        one(&mut stored, words_1, scales_1, &staged, output_1, row - end_0, rows_1, columns, reading);
    } else if row < end_2 {
        one(&mut stored, words_2, scales_2, &staged, output_2, row - end_1, rows_2, columns, reading);
    } else if row < end_3 {
        one(&mut stored, words_3, scales_3, &staged, output_3, row - end_2, rows_3, columns, reading);
    }
}

/// Two [`product`]s of two inputs. A subgroup an output, those of the second after those of the first. Both inputs are
/// staged whole.
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
    let mut staged_0 = Shared::<[Words4]>::new_slice(comptime!(reading_0.staging.places()));
    let mut staged_1 = Shared::<[Words4]>::new_slice(comptime!(reading_1.staging.places()));
    let row = plane();
    let mut stored_0 = room(reading_0);
    let mut stored_1 = room(reading_1);
    if row < rows_0 {
        begin(&mut stored_0, words_0, scales_0, row, rows_0, columns_0, reading_0);
    } else if row < rows_0 + rows_1 {
        begin(&mut stored_1, words_1, scales_1, row - rows_0, rows_1, columns_1, reading_1);
    }
    let x_0 = CUBE_POS_Y as usize * columns_0;
    staged::stage(input_0, input_0, x_0, columns_0, &mut staged_0, false, comptime!(reading_0.staging));
    let x_1 = CUBE_POS_Y as usize * columns_1;
    staged::stage(input_1, input_1, x_1, columns_1, &mut staged_1, false, comptime!(reading_1.staging));
    sync_cube();
    if row < rows_0 {
        one(&mut stored_0, words_0, scales_0, &staged_0, output_0, row, rows_0, columns_0, reading_0);
    } else if row < rows_0 + rows_1 {
        let row = row - rows_0;
        one(&mut stored_1, words_1, scales_1, &staged_1, output_1, row, rows_1, columns_1, reading_1);
    }
}

/// Asks for the first packets of one output.
#[cube]
fn begin(
    stored: &mut Stored,
    words: &[Words4],
    scales: &[u32],
    row: usize,
    rows: usize,
    columns: usize,
    #[comptime] reading: Reading,
) {
    let packets = columns / comptime!(reading.format.packet_values() / 4);
    let lines = Lines { first: 0usize.runtime(), row, rows, packets };
    fill(stored, words, scales, &lines, 0usize.runtime(), columns, UNIT_POS_PLANE as usize, reading);
}

/// One output of one part, of row `CUBE_POS_Y`. Its first packets are `stored`.
#[cube]
fn one(
    stored: &mut Stored,
    words: &[Words4],
    scales: &[u32],
    staged: &[Words4],
    output: &mut [f32],
    row: usize,
    rows: usize,
    columns: usize,
    #[comptime] reading: Reading,
) {
    let packets = columns / comptime!(reading.format.packet_values() / 4);
    let lines = Lines { first: 0usize.runtime(), row, rows, packets };
    let mut sums = zeros(reading);
    add(&mut sums, stored, words, scales, staged, &lines, 0usize.runtime(), columns, reading);
    write(sums, output, CUBE_POS_Y as usize * rows, &lines, reading);
}

/// `gated = gelu(gate · x) · (up · x)`.
#[cube(launch_unchecked)]
pub(crate) fn gated(
    input: &[Four],
    gate_words: &[Words4],
    gate_scales: &[u32],
    up_words: &[Words4],
    up_scales: &[u32],
    gated: &mut [f32],
    rows: usize,
    columns: usize,
    #[comptime] gate: Reading,
    #[comptime] up: Reading,
) {
    let mut staged = Shared::<[Words4]>::new_slice(comptime!(gate.staging.places()));
    let t = CUBE_POS_Y as usize;
    let start = 0usize.runtime();
    let (gate_lines, up_lines) = (lines(start, rows, columns, gate), lines(start, rows, columns, up));
    let (mut gates, mut ups) = (zeros(gate), zeros(up));
    for from in range_stepped(0usize, columns, gate.staging.fours) {
        let count = min(gate.staging.fours.runtime(), columns - from);
        let mut stored = fetch(gate_words, gate_scales, &gate_lines, from, count, gate);
        let mut others = fetch(up_words, up_scales, &up_lines, from, count, up);
        staged::stage(input, input, t * columns + from, count, &mut staged, false, comptime!(gate.staging));
        sync_cube();
        add(&mut gates, &mut stored, gate_words, gate_scales, &staged, &gate_lines, from, count, gate);
        add(&mut ups, &mut others, up_words, up_scales, &staged, &up_lines, from, count, up);
        sync_cube();
    }
    let (gates, ups) = (totals(gates, gate), totals(ups, up));
    #[unroll]
    for index in 0..comptime!(gate.outputs) {
        let row = gate_lines.row + index;
        if UNIT_POS_PLANE == 0 && row < rows {
            gated[t * rows + row] = gelu(gates[index]) * ups[index];
        }
    }
}

/// A layer's gate on its per-layer embedding: `gated = gelu(weight · (x · by)) · per_layer`, with `x` the active stream.
///
/// `x` has `stride` fours a row and begins at four `start` of it; `per_layer` has `all` values a row, those of the layer
/// from value `block` on. `by` is not read where `scaled` is false. The input is staged whole.
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
    let mut staged = Shared::<[Words4]>::new_slice(comptime!(reading.staging.places()));
    let t = CUBE_POS_Y as usize;
    let lines = lines(0usize.runtime(), rows, columns, reading);
    let mut stored = fetch(words, scales, &lines, 0usize.runtime(), columns, reading);
    // Asked for with the weights. (NVIDIA's compiler 580 breaks down where it is asked for after the sum.)
    let mut embedded = zeros(reading);
    #[unroll]
    for index in 0..comptime!(reading.outputs) {
        embedded[index] = per_layer[t * all + block + min(lines.row + index, rows - 1)];
    }
    staged::stage(streams, by, t * stride + start, columns, &mut staged, scaled, comptime!(reading.staging));
    sync_cube();
    let mut sums = zeros(reading);
    add(&mut sums, &mut stored, words, scales, &staged, &lines, 0usize.runtime(), columns, reading);
    let totals = totals(sums, reading);
    #[unroll]
    for index in 0..comptime!(reading.outputs) {
        let row = lines.row + index;
        if UNIT_POS_PLANE == 0 && row < rows {
            gated[t * rows + row] = gelu(totals[index]) * embedded[index];
        }
    }
}

/// The subgroup's number in the grid.
#[cube]
pub(super) fn plane() -> usize {
    // More than one axis has room for go on along the third.
    let cube = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) as usize;
    cube * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize
}

/// The rows that this subgroup works on where all have the same matrix.
#[cube]
fn lines(first: usize, rows: usize, columns: usize, #[comptime] reading: Reading) -> Lines {
    let packets = columns / comptime!(reading.format.packet_values() / 4);
    Lines { first, row: plane() * reading.outputs, rows, packets }
}

/// Sums of nothing.
#[cube]
pub(super) fn zeros(#[comptime] reading: Reading) -> Array<f32> {
    let mut sums = Array::<f32>::new(reading.outputs);
    #[unroll]
    for index in 0..reading.outputs {
        sums[index] = 0.0f32;
    }
    sums
}

/// The row of output `index`. Past the last row the last is read again.
#[cube]
fn row(lines: &Lines, #[comptime] index: usize) -> usize {
    lines.first + min(lines.row + index, lines.rows - 1)
}

/// Asks for the first packets of the `count` fours of a row from four `from` on.
#[cube]
pub(super) fn fetch(
    words: &[Words4],
    scales: &[u32],
    lines: &Lines,
    from: usize,
    count: usize,
    #[comptime] reading: Reading,
) -> Stored {
    let mut stored = room(reading);
    fill(&mut stored, words, scales, lines, from, count, UNIT_POS_PLANE as usize, reading);
    stored
}

/// Room for packets.
#[cube]
fn room(#[comptime] reading: Reading) -> Stored {
    let packets = comptime!(reading.outputs * reading.ahead);
    Stored {
        packets: Array::<Words4>::new(packets),
        // An array has one element at least.
        besides: Array::<Words4>::new(comptime!(packets * usize::max(reading.format.besides(), 1))),
    }
}

/// Asks for packet `begin` of a segment, and those a subgroup further.
#[cube]
pub(super) fn fill(
    stored: &mut Stored,
    words: &[Words4],
    scales: &[u32],
    lines: &Lines,
    from: usize,
    count: usize,
    begin: usize,
    #[comptime] reading: Reading,
) {
    let last = count / comptime!(reading.format.packet_values() / 4) - 1;
    #[unroll]
    for step in 0..comptime!(reading.ahead) {
        let at = from / comptime!(reading.format.packet_values() / 4)
            + min(begin + step * PLANE_DIM as usize, last);
        #[unroll]
        for index in 0..comptime!(reading.outputs) {
            let row = row(lines, index);
            let place = comptime!(step * reading.outputs + index);
            let read = packet::place(row, at, lines.packets, comptime!(reading.format));
            stored.packets[place] = words[read];
            #[unroll]
            for which in 0..comptime!(reading.format.besides()) {
                let beside =
                    packet::beside(words, scales, row, at, lines.packets, which, comptime!(reading.format));
                stored.besides[comptime!(place * reading.format.besides() + which)] = beside;
            }
        }
    }
}

/// Adds the products of a unit's packets with what is staged. The first ones are `stored`.
#[cube]
pub(super) fn add(
    sums: &mut Array<f32>,
    stored: &mut Stored,
    words: &[Words4],
    scales: &[u32],
    staged: &[Words4],
    lines: &Lines,
    from: usize,
    count: usize,
    #[comptime] reading: Reading,
) {
    let format = comptime!(reading.format);
    let packets = count / comptime!(format.packet_values() / 4);
    let round = PLANE_DIM as usize * reading.ahead;
    for begin in range_stepped(UNIT_POS_PLANE as usize, packets, round) {
        #[unroll]
        for step in 0..comptime!(reading.ahead) {
            let at = begin + step * PLANE_DIM as usize;
            if at < packets {
                meet(sums, &*stored, staged, lines, from, at, step, reading);
            }
        }
        if begin + round < packets {
            fill(stored, words, scales, lines, from, count, begin + round, reading);
        }
    }
}

/// Adds the products of packet `at` of each output with what is staged.
#[cube]
fn meet(
    sums: &mut Array<f32>,
    stored: &Stored,
    staged: &[Words4],
    lines: &Lines,
    from: usize,
    at: usize,
    #[comptime] step: usize,
    #[comptime] reading: Reading,
) {
    let format = comptime!(reading.format);
    let in_row = from / comptime!(format.packet_values() / 4) + at;
    if comptime!(reading.staging.rounded) {
        let met = rounded::met(staged, at, format, comptime!(reading.staging));
        #[unroll]
        for index in 0..comptime!(reading.outputs) {
            let place = comptime!(step * reading.outputs + index);
            let (packet, row) = (stored.packets[place], row(lines, index));
            sums[index] +=
                rounded::product(packet, &stored.besides, row, in_row, lines.packets, &met, place, format);
        }
    } else {
        let near = packet::activations(staged, at, format);
        let totals = packet::totals(&near, format);
        #[unroll]
        for index in 0..comptime!(reading.outputs) {
            let place = comptime!(step * reading.outputs + index);
            let (packet, row) = (stored.packets[place], row(lines, index));
            sums[index] += packet::product(
                packet,
                &stored.besides,
                row,
                in_row,
                lines.packets,
                &near,
                totals,
                place,
                format,
            );
        }
    }
}

/// The sums of a subgroup, known to each of its units.
#[cube]
pub(super) fn totals(sums: Array<f32>, #[comptime] reading: Reading) -> Array<f32> {
    let mut totals = Array::<f32>::new(reading.outputs);
    #[unroll]
    for index in 0..reading.outputs {
        totals[index] = plane_sum(sums[index]);
    }
    totals
}

/// Writes a subgroup's outputs, as far as there are rows.
#[cube]
fn write(sums: Array<f32>, output: &mut [f32], start: usize, lines: &Lines, #[comptime] reading: Reading) {
    let totals = totals(sums, reading);
    #[unroll]
    for index in 0..reading.outputs {
        if UNIT_POS_PLANE == 0 && lines.row + index < lines.rows {
            output[start + lines.row + index] = totals[index];
        }
    }
}
