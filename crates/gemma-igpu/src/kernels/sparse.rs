//! The feed-forward network of one row behind a cutoff: the units that the cut leaves are listed, and what belongs to the others
//! is not read.
//!
//! The list is in ascending order, whatever order cubes and subgroups run in. Grids do not depend on its length, since
//! launches are recorded. Columns of `down` come from a turned copy, see `crate::turned`.

use cubecl::prelude::*;

use super::MOST_PLANES;
use super::format::{Format, Four, dot, half_bits, nibbles, of_bytes, of_halves, of_signed_bytes, of_words};
use super::linear::{Lines, Reading, add, fetch, fill, plane, totals, zeros};
use super::math::{cube_sum, gelu};
use super::packet::Words4;
use super::row::Row;
use super::staged;

/// Lists the units with `g > mean(g) + cutoff · std(g)`, `g` being the row `gated`: their numbers in `units`,
/// `gelu(g − mean(g) − cutoff · std(g))` in `gates`, how many there are in `count`. `gated` is zero then. For one cube.
#[cube(launch_unchecked)]
pub(crate) fn cut(
    gated: &mut [Four],
    gates: &mut [f32],
    units: &mut [u32],
    count: &mut [u32],
    cutoff: f32,
    #[comptime] row: Row,
) {
    let mut fours = Array::<Four>::new(row.slices);
    let mut sum = 0.0f32;
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let (i, mut four) = (place(slice, row), Four::new(0.0f32));
        if i < row.fours {
            four = gated[i];
            gated[i] = Four::new(0.0f32);
        }
        fours[slice] = four;
        sum += dot(four, Four::new(1.0f32));
    }
    let width = comptime!(row.fours * 4) as f32;
    let mean = cube_sum(sum) / width;
    let mut squares = 0.0f32;
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        if place(slice, row) < row.fours {
            let off = fours[slice] - Four::new(mean);
            squares += dot(off, off);
        }
    }
    let cut = mean + cutoff * (cube_sum(squares) / width).sqrt();
    let (starts, found) = starts(&fours, cut, row);
    let (before, all) = of_planes(found);
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let mut at = (before + starts[slice]) as usize;
        #[unroll]
        for i in 0..4usize {
            let value = fours[slice].extract(i);
            if place(slice, row) < row.fours && value > cut {
                units[at] = (place(slice, row) * 4 + i) as u32;
                gates[at] = gelu(value - cut);
                at += 1;
            }
        }
    }
    if UNIT_POS == 0 {
        count[0] = all;
    }
}

/// How many of the subgroup's values above `cut` stand before each of a unit's fours, and how many there are.
#[cube]
fn starts(fours: &Array<Four>, cut: f32, #[comptime] row: Row) -> (Array<u32>, u32) {
    let mut starts = Array::<u32>::new(row.slices);
    let mut found = 0u32.runtime();
    #[unroll]
    for slice in 0..comptime!(row.slices) {
        let mut here = 0u32.runtime();
        #[unroll]
        for i in 0..4usize {
            let is_active = place(slice, row) < row.fours && fours[slice].extract(i) > cut;
            here += select(is_active, 1u32.runtime(), 0u32.runtime());
        }
        starts[slice] = found + plane_exclusive_sum(here);
        found += plane_sum(here);
    }
    (starts, found)
}

/// Which four of the row a unit's four number `slice` is: a subgroup has neighbouring ones, so that it lists them in order.
#[cube]
fn place(#[comptime] slice: usize, #[comptime] row: Row) -> usize {
    (PLANE_POS as usize * row.slices + slice) * PLANE_DIM as usize + UNIT_POS_PLANE as usize
}

/// The sum of `found` over the subgroups before this one, and over all.
#[cube]
fn of_planes(found: u32) -> (u32, u32) {
    let mut each = Shared::<[u32]>::new_slice(MOST_PLANES);
    if UNIT_POS_PLANE == 0 {
        each[PLANE_POS as usize] = found;
    }
    sync_cube();
    let (mut before, mut all) = (0u32.runtime(), 0u32.runtime());
    for plane in range_stepped(UNIT_POS_PLANE, CUBE_DIM / PLANE_DIM, PLANE_DIM) {
        let of_plane = each[plane as usize];
        all += of_plane;
        before += select(plane < PLANE_POS, of_plane, 0u32.runtime());
    }
    (plane_sum(before), plane_sum(all))
}

/// `values[i] *= matrix[units[i]] · input` for each entry of the list, and the same at its unit in `gated`. A subgroup an entry
/// at a time; the input is staged whole.
#[cube(launch_unchecked)]
pub(crate) fn up(
    input: &[Four],
    words: &[Words4],
    scales: &[u32],
    units: &[u32],
    count: &[u32],
    values: &mut [f32],
    gated: &mut [f32],
    rows: usize,
    columns: usize,
    #[comptime] reading: Reading,
) {
    let mut staged = Shared::<[Words4]>::new_slice(comptime!(reading.staging.places()));
    let (active, packets) = (count[0] as usize, columns / comptime!(reading.format.packet_values() / 4));
    let (start, planes) = (0usize.runtime(), (CUBE_COUNT_X * CUBE_COUNT_Z * (CUBE_DIM / PLANE_DIM)) as usize);
    // Cubes whose first subgroup finds nothing have nothing to do.
    if plane() - (PLANE_POS as usize) < active {
        let unit = units[min(plane(), active - 1)] as usize;
        let mut lines = Lines { first: start, row: unit, rows, packets };
        let mut stored = fetch(words, scales, &lines, start, columns, reading);
        staged::stage(input, input, start, columns, &mut staged, false, comptime!(reading.staging));
        sync_cube();
        for index in range_stepped(plane(), active, planes) {
            if index >= planes {
                lines.row = units[index] as usize;
                fill(&mut stored, words, scales, &lines, start, columns, UNIT_POS_PLANE as usize, reading);
            }
            let mut sums = zeros(reading);
            add(&mut sums, &mut stored, words, scales, &staged, &lines, start, columns, reading);
            let totals = totals(sums, reading);
            if UNIT_POS_PLANE == 0 {
                let value = values[index] * totals[0];
                values[index] = value;
                gated[lines.row] = value;
            }
        }
    }
}

/// Units of a cube of [`down`].
pub(crate) const UNITS: usize = 256;

/// Units that read one column: each has eight outputs of it.
const LANES: usize = 32;

/// Columns that a cube reads at a time.
const GROUPS: usize = UNITS / LANES;

/// Outputs of a cube.
pub(crate) const TILE: usize = LANES * 8;

/// How a turned matrix is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Columns {
    pub(crate) format: Format,
    pub(crate) outputs: usize,
    /// Parts of the list, each for cubes of its own.
    pub(crate) parts: usize,
}

/// `output = Σ_i values[i] · column units[i]` over the list, of which cubes with the same `CUBE_POS_Z` take a part and `CUBE_POS_X`
/// a tile of outputs; the cube that comes last adds up the parts. `counters` has a zero for each tile.
#[cube(launch_unchecked)]
pub(crate) fn down(
    words: &[u32],
    scales: &[Words4],
    units: &[u32],
    count: &[u32],
    values: &[f32],
    partial: &mut [f32],
    counters: &mut [Atomic<u32>],
    output: &mut [f32],
    #[comptime] columns: Columns,
) {
    let eights = comptime!(columns.outputs / 8);
    let (tile, unit) = (CUBE_POS_X as usize, UNIT_POS as usize);
    let eight = min(tile * LANES + unit % LANES, eights - 1);
    let active = count[0] as usize;
    let each = active.div_ceil(comptime!(columns.parts * GROUPS));
    let from = (CUBE_POS_Z as usize * GROUPS + unit / LANES) * each;
    let to = min(from + each, active);
    let sums = walk(words, scales, units, values, from, to, eight, columns);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(GROUPS * TILE));
    #[unroll]
    for i in 0..8usize {
        let value = sums[comptime!(i / 4)].extract(comptime!(i % 4));
        shared[unit / LANES * TILE + i * LANES + unit % LANES] = value;
    }
    sync_cube();
    let mut sum = 0.0f32;
    #[unroll]
    for group in 0..GROUPS {
        sum += shared[group * TILE + unit];
    }
    let (written, at) = (tile * LANES + unit % LANES, unit / LANES);
    if comptime!(columns.parts == 1) {
        if written < eights {
            output[written * 8 + at] = sum;
        }
    } else {
        let part = CUBE_COUNT_X as usize * TILE;
        let place = tile * TILE + unit;
        partial[CUBE_POS_Z as usize * part + place] = sum;
        if is_last(counters, tile, columns.parts) && written < eights {
            let mut sum = 0.0f32;
            #[unroll]
            for index in 0..comptime!(columns.parts) {
                sum += partial[index * part + place];
            }
            output[written * 8 + at] = sum;
        }
    }
}

/// Whether all other `parts` of counter `counter` have come here before, whose writes this cube can read then. The counter is
/// zero before the launch, and again behind it. What attention does for its parts is the same, written out there: as a function it takes
/// more registers on a 780M.
///
/// Every unit must come here.
#[cube]
fn is_last(counters: &mut [Atomic<u32>], counter: usize, #[comptime] parts: usize) -> bool {
    let mut arrived = Shared::<u32>::new();
    // What this cube has written is there for whoever comes last.
    sync_storage();
    if UNIT_POS == 0 {
        let before = counters[counter].fetch_add(1u32);
        if before == comptime!(parts as u32 - 1) {
            counters[counter].store(0u32);
        }
        *arrived = before;
    }
    // And what others have written before they came is there for this one.
    sync_storage();
    *arrived == comptime!(parts as u32 - 1)
}

/// The sum of entries `from` to `to` of the list, for the eight outputs number `eight`.
#[cube]
fn walk(
    words: &[u32],
    scales: &[Words4],
    units: &[u32],
    values: &[f32],
    from: usize,
    to: usize,
    eight: usize,
    #[comptime] columns: Columns,
) -> Array<Four> {
    let (format, eights) = (comptime!(columns.format), comptime!(columns.outputs / 8));
    let mut sums = Array::<Four>::new(2usize);
    sums[0] = Four::new(0.0f32);
    sums[1] = Four::new(0.0f32);
    let mut steps = Array::<Four>::new(comptime!(2 * format.turned_quads().max(1)));
    // Of no block.
    let mut held = u32::MAX.runtime();
    for index in from..to {
        let (unit, value) = (units[index], Four::new(values[index]));
        let quants = column(words, unit as usize * eights + eight, format);
        if comptime!(format.turned_quads() == 0) {
            sums[0] += quants[0] * value;
            sums[1] += quants[1] * value;
        } else {
            // Neighbours in the list often lie in the same block.
            if unit / 32 != held {
                held = unit / 32;
                hold(scales, held as usize * eights + eight, &mut steps, format);
            }
            #[unroll]
            for i in 0..2usize {
                let mut weights = quants[i] * steps[i];
                if comptime!(format.turned_quads() == 2) {
                    weights += steps[comptime!(2 + i)];
                }
                sums[i] += weights * value;
            }
        }
    }
    sums
}

/// Eight outputs of a column, number `at` of all eights, without their scales.
#[cube]
fn column(words: &[u32], at: usize, #[comptime] format: Format) -> Array<Four> {
    let mut quants = Array::<Four>::new(2usize);
    #[unroll]
    for i in 0..2usize {
        quants[i] = match format {
            Format::F32 => of_words(words, at * 8 + 4 * i),
            Format::F16 | Format::BF16 => of_halves(words, at * 4 + 2 * i, format),
            Format::Q8_0 => of_signed_bytes(words[at * 2 + i]),
            Format::Q4_0 => of_bytes(nibbles(words[at], comptime!(4 * i as u32)), 1.0f32, 8.0f32),
            _ => of_bytes(nibbles(words[at], comptime!(4 * i as u32)), 1.0f32, 0.0f32),
        };
    }
    quants
}

/// The scales of eight outputs in a block, number `at` of all, and behind them, where there are some, their minima.
#[cube]
fn hold(scales: &[Words4], at: usize, steps: &mut Array<Four>, #[comptime] format: Format) {
    let mut low = Four::new(0.0f32);
    let mut high = Four::new(0.0f32);
    if comptime!(format.turned_quads() == 1) {
        let words = scales[at];
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for k in 0..2usize {
                let word = words.extract(comptime!(2 * i + k));
                low.insert(comptime!(2 * k), half_bits(word & 0xffff));
                low.insert(comptime!(2 * k + 1), half_bits(word >> 16));
            }
            steps[i] = low;
        }
    } else {
        #[unroll]
        for i in 0..2usize {
            let words = scales[at * 2 + i];
            #[unroll]
            for k in 0..4usize {
                low.insert(k, half_bits(words.extract(k) & 0xffff));
                high.insert(k, half_bits(words.extract(k) >> 16));
            }
            steps[i] = low;
            steps[comptime!(2 + i)] = high;
        }
    }
}
