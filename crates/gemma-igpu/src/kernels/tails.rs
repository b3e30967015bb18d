//! Products of few rows, and behind them, by the cube of a row that comes last, the work on the whole row that needs them.
//!
//! Each is two kernels of [`super::linear`] and [`super::streams`] in one launch. `counters` has a zero for each row, and
//! again when the launch has ended.

use cubecl::prelude::*;

use super::format::Four;
use super::last::comes_last;
use super::linear::{Reading, rows_of, two};
use super::packet::Words4;
use super::row::{Row, read_written};
use super::streams::{corrected, predicted, summed};

/// Whether this cube goes on with row `CUBE_POS_Y`.
#[cube]
fn goes_on(counters: &mut [Atomic<u32>]) -> bool {
    comes_last(counters, CUBE_POS_Y as usize, CUBE_COUNT_X * CUBE_COUNT_Z)
}

/// [`super::linear::pair`], then [`super::streams::attention_residual`] of its two outputs.
#[cube(launch_unchecked)]
pub(crate) fn pair_and_residual(
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
    counters: &mut [Atomic<u32>],
    streams: &[Four],
    normed: &[Four],
    post_norm: &[Four],
    laurel_norm: &[Four],
    ffn_norm: &[Four],
    residual: &mut [Four],
    ffn_input: &mut [Four],
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
    #[comptime] reading_0: Reading,
    #[comptime] reading_1: Reading,
) {
    two(
        input_0, words_0, scales_0, output_0, rows_0, columns_0, input_1, words_1, scales_1, output_1,
        rows_1, columns_1, reading_0, reading_1,
    );
    if goes_on(counters) {
        let start = CUBE_POS_Y as usize * row.fours;
        let attended = read_written(&*output_0, start, row);
        let laurel = read_written(&*output_1, start, row);
        summed(
            streams,
            normed,
            attended,
            laurel,
            post_norm,
            laurel_norm,
            ffn_norm,
            residual,
            ffn_input,
            eps,
            row,
            count,
            active,
        );
    }
}

/// [`super::linear::product`], then [`super::streams::correct`] by its output.
#[cube(launch_unchecked)]
pub(crate) fn product_and_correct(
    words: &[Words4],
    scales: &[u32],
    input: &[Four],
    output: &mut [f32],
    rows: usize,
    columns: usize,
    counters: &mut [Atomic<u32>],
    streams: &mut [Four],
    residual: &mut [Four],
    post_norm: &[Four],
    router_norm: &[Four],
    router: &[Four],
    coefficients: &[f32],
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
    #[comptime] reading: Reading,
) {
    rows_of(words, scales, input, output, 0usize.runtime(), rows, columns, columns, rows, reading);
    if goes_on(counters) {
        let ffn = read_written(&*output, CUBE_POS_Y as usize * row.fours, row);
        corrected(
            streams,
            residual,
            ffn,
            post_norm,
            router_norm,
            router,
            coefficients,
            eps,
            row,
            count,
            active,
        );
    }
}

/// [`super::linear::product`], then [`super::streams::predict`] with its output added first.
#[cube(launch_unchecked)]
pub(crate) fn product_and_predict(
    words: &[Words4],
    scales: &[u32],
    input: &[Four],
    output: &mut [f32],
    rows: usize,
    columns: usize,
    counters: &mut [Atomic<u32>],
    streams: &mut [Four],
    projected_norm: &[Four],
    router_norm: &[Four],
    router: &[Four],
    coefficients: &[f32],
    input_norm: &[Four],
    normed: &mut [Four],
    eps: f32,
    #[comptime] row: Row,
    #[comptime] count: usize,
    #[comptime] active: usize,
    #[comptime] reading: Reading,
) {
    rows_of(words, scales, input, output, 0usize.runtime(), rows, columns, columns, rows, reading);
    if goes_on(counters) {
        let added = read_written(&*output, CUBE_POS_Y as usize * row.fours, row);
        predicted(
            streams,
            added,
            projected_norm,
            router_norm,
            router,
            coefficients,
            input_norm,
            normed,
            eps,
            row,
            count,
            active,
            true,
        );
    }
}
