//! Integer products in plain Rust, for every processor: what tests on machines without vector instructions run.

use std::ops::Range;

use gemma_hal::DType;
use gemma_hal::block::{BLOCK, BlockQ4_0, BlockQ8_0};

use super::activation::{Inputs, Rounded};
use super::{CHAINS, GROUP};
use crate::simd::operands::{Matrix, Target};
use crate::simd::tile::ROWS;

/// Inputs that share the unpacking of a block.
const TILE: usize = 4;

/// Sets the outputs of some rows.
pub(super) fn run_rows(matrix: Matrix<'_>, rows: Range<usize>, inputs: Inputs<'_>, target: Target<'_>) {
    match matrix.dtype {
        DType::Q4_0 => run::<18>(matrix, rows, inputs, target, |bytes| {
            let block: BlockQ4_0 = bytemuck::pod_read_unaligned(bytes);
            let nibble = |i: usize| block.nibbles[i % (BLOCK / 2)] >> (i / (BLOCK / 2) * 4) & 15;
            (block.scale.to_f32(), std::array::from_fn(|i| nibble(i).cast_signed() - 8))
        }),
        DType::Q8_0 => run::<34>(matrix, rows, inputs, target, |bytes| {
            let block: BlockQ8_0 = bytemuck::pod_read_unaligned(bytes);
            (block.scale.to_f32(), block.quants)
        }),
        dtype => unreachable!("no integer kernel for {dtype}"),
    }
}

/// `unpack` gives the scale and the quants of a block of `N` bytes.
fn run<const N: usize>(
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
    unpack: impl Fn(&[u8; N]) -> (f32, [i8; BLOCK]),
) {
    for row in rows {
        let blocks = matrix.row(row).as_chunks::<N>().0;
        for first in (0..inputs.n).step_by(TILE) {
            let tokens = first..inputs.n.min(first + TILE);
            let mut chains = [[0.0; CHAINS]; TILE];
            for (index, block) in blocks.iter().enumerate() {
                let (scale, quants) = unpack(block);
                for (token, chains) in tokens.clone().zip(&mut chains) {
                    let token = inputs.token(token);
                    let sum = &mut chains[index % CHAINS];
                    *sum += dot(&quants, &token, index) as f32 * (scale * token.scales[index]);
                }
            }
            for (token, [a, b, c, d]) in tokens.zip(chains) {
                target.emit::<1>(true, row, 1, token, &[[((a + b) + c) + d; ROWS]]);
            }
        }
    }
}

/// The product of a block of weights with block `index` of an input.
fn dot(weights: &[i8; BLOCK], input: &Rounded<'_>, index: usize) -> i32 {
    let group = &input.quants.as_flattened()[index / CHAINS * GROUP..][..GROUP];
    let (first, last) = group.split_at(GROUP / 2);
    let halves = [first, last].map(|half| &half[index % CHAINS * BLOCK / 2..][..BLOCK / 2]);
    let product = |(a, b): (&i8, &i8)| i32::from(*a) * i32::from(*b);
    let (first, last) = weights.split_at(BLOCK / 2);
    first.iter().zip(halves[0]).map(product).sum::<i32>()
        + last.iter().zip(halves[1]).map(product).sum::<i32>()
}
