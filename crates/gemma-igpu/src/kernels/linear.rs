//! Products of a matrix with rows of activations.

use cubecl::prelude::*;

use super::format::{Format, half_bits, minimum, quant, quants, scale};

/// Units of a cube; each of its subgroups computes one output.
pub(crate) const UNITS: u32 = 128;

/// `output[t][r] = Σ_c weight[r][c] · input[t][c]` with activations in f32, for row `t = CUBE_POS_Y`.
///
/// Outputs `r` are `rows` rows of the matrix from row `first` on. Strides are in values.
#[cube(launch_unchecked)]
pub(crate) fn product(
    words: &[u32],
    scales: &[u32],
    input: &[f32],
    output: &mut [f32],
    first: usize,
    rows: usize,
    columns: usize,
    input_stride: usize,
    output_stride: usize,
    #[comptime] format: Format,
) {
    // More rows than one axis has room for go on along the third.
    let cube = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let row = cube * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    if row < rows {
        let stored = first + row;
        let x = CUBE_POS_Y as usize * input_stride;
        let mut sum = 0.0f32;
        if comptime!(format.is_block()) {
            let groups = columns / 32;
            for index in range_stepped(UNIT_POS_PLANE as usize, groups, PLANE_DIM as usize) {
                sum += group_product(words, scales, stored * groups + index, input, x + index * 32, format);
            }
        } else if comptime!(matches!(format, Format::F32)) {
            for column in range_stepped(UNIT_POS_PLANE as usize, columns, PLANE_DIM as usize) {
                sum += f32::reinterpret(words[stored * columns + column]) * input[x + column];
            }
        } else {
            let pairs = columns.div_ceil(2);
            for pair in range_stepped(UNIT_POS_PLANE as usize, pairs, PLANE_DIM as usize) {
                let word = words[stored * pairs + pair];
                sum += plain(word & 0xffff, format) * input[x + 2 * pair];
                if 2 * pair + 1 < columns {
                    sum += plain(word >> 16, format) * input[x + 2 * pair + 1];
                }
            }
        }
        let total = plane_sum(sum);
        if UNIT_POS_PLANE == 0 {
            output[CUBE_POS_Y as usize * output_stride + row] = total;
        }
    }
}

/// The value of 16 bits.
#[cube]
fn plain(bits: u32, #[comptime] format: Format) -> f32 {
    if comptime!(matches!(format, Format::BF16)) { f32::reinterpret(bits << 16) } else { half_bits(bits) }
}

/// The product of one group of 32 weights with the activations from `x` on. `index` counts all groups of the matrix.
#[cube]
fn group_product(
    words: &[u32],
    scales: &[u32],
    index: usize,
    input: &[f32],
    x: usize,
    #[comptime] format: Format,
) -> f32 {
    let block = index / comptime!(format.block_groups());
    let group = index % comptime!(format.block_groups());
    let base = block * comptime!(format.block_words());
    let mut total = 0.0f32;
    #[unroll]
    for part in 0..2usize {
        let mut dot = 0.0f32;
        let mut sum = 0.0f32;
        #[unroll]
        for word in 0..4usize {
            let at = comptime!(4 * part + word);
            let packed = quants(words, base, group, at, format);
            #[unroll]
            for byte in 0..4u32 {
                let value = input[x + comptime!(4 * at + byte as usize)];
                dot += quant(packed, byte, format) * value;
                sum += value;
            }
        }
        let by = scale(words, scales, block, group, comptime!(part as u32), format);
        total += by * dot - minimum(words, block, group, by, format) * sum;
    }
    total
}
