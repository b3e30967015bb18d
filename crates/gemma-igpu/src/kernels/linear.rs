//! Products of a matrix with few rows of activations: every weight is read once and met where it lies.
//!
//! A row is read in packets of one word of quants (four plain values), packet `p` by unit `p` of a subgroup, so that
//! neighbours read neighbouring words and the activations that belong to them. A subgroup computes several outputs at a
//! time: their packets meet the same activations.

use cubecl::prelude::*;

use super::format::{Format, Four, dot, four_at};

/// Units of a cube.
pub(crate) const UNITS: u32 = 128;

/// `output[t][r] = Σ_c weight[r][c] · input[t][c]` with activations in f32, for row `t = CUBE_POS_Y`.
///
/// Outputs are `rows` rows of the matrix from row `first` on, `outputs` of them a subgroup. `columns` and
/// `input_stride` are in fours, `output_stride` in values.
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
    #[comptime] outputs: usize,
    #[comptime] format: Format,
) {
    // More rows than one axis has room for go on along the third.
    let cube = (CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let plane = cube * (CUBE_DIM / PLANE_DIM) as usize + PLANE_POS as usize;
    let row = plane * outputs;
    if row < rows {
        let x = CUBE_POS_Y as usize * input_stride;
        let mut sums = Array::<f32>::new(outputs);
        #[unroll]
        for index in 0..outputs {
            sums[index] = 0.0f32;
        }
        let packets = columns / comptime!(format.packet_fours());
        for packet in range_stepped(UNIT_POS_PLANE as usize, packets, PLANE_DIM as usize) {
            let near = near_four(packet, format);
            #[unroll]
            for index in 0..outputs {
                // Past the last row the last is read again.
                let stored = (first + min(row + index, rows - 1)) * columns + near;
                sums[index] += dot(four_at(words, scales, stored, format), input[x + near]);
                if comptime!(format.packet_fours() == 2) {
                    let far = comptime!(format.packet_distance());
                    sums[index] += dot(four_at(words, scales, stored + far, format), input[x + near + far]);
                }
            }
        }
        #[unroll]
        for index in 0..outputs {
            let total = plane_sum(sums[index]);
            if UNIT_POS_PLANE == 0 && row + index < rows {
                output[CUBE_POS_Y as usize * output_stride + row + index] = total;
            }
        }
    }
}

/// The first four of a row's packet.
#[cube]
fn near_four(packet: usize, #[comptime] format: Format) -> usize {
    if comptime!(format.packet_fours() == 1) {
        packet
    } else {
        let far = comptime!(format.packet_distance());
        packet / far * comptime!(2 * far) + packet % far
    }
}
