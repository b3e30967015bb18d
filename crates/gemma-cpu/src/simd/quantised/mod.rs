//! Products of weights in block formats with activations rounded to 8 bits, by integer dot products.
//!
//! An output is summed as four chains: chain `c` adds, for its blocks `c`, `c + 4`, … in turn, the block's exact integer
//! product times `weight scale · activation scale`, with one rounding where the processor can; then
//! `((c0 + c1) + c2) + c3`. Kernels for few and for many inputs keep to it, so both give the same bits.

mod activation;
#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod columns;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod driver;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::ops::Range;

use gemma_hal::DType;
use gemma_hal::block::BLOCK;

use super::Isa;
use super::kernels::Kernels;
use super::operands::{Matrix, Target};
use crate::pool::Pool;
use activation::Layout;

pub(super) use activation::Inputs;
#[cfg(target_arch = "x86_64")]
pub use avx2::AvxVnni;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512Vnni;
pub use columns::linear_columns_rounded;
#[cfg(target_arch = "aarch64")]
pub use neon::{NeonDot, NeonI8mm};

/// Chains that an output is summed in, and blocks of a group.
const CHAINS: usize = 4;

/// Values of a group of blocks.
const GROUP: usize = CHAINS * BLOCK;

/// Rows that ranges of work are multiples of.
pub(super) const PANEL_ROWS: usize = 32;

/// Inputs up to which unpacking rows in registers beats packing panels of them.
const FEW_INPUTS: usize = 4;

/// Whether there is an integer kernel for this format.
pub(super) fn supports(isa: Isa, dtype: DType) -> bool {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) | Isa::AvxVnni(_) | Isa::Avx512(_) | Isa::Avx512Vnni(_) => dtype.block_len() > 1,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(_) | Isa::NeonDot(_) | Isa::NeonI8mm(_) => dtype.block_len() > 1,
        Isa::Portable(_) => matches!(dtype, DType::Q4_0 | DType::Q8_0),
    }
}

/// Makes the scratch memory of the current thread for products of up to `n` inputs of up to `columns` values.
pub(super) fn reserve_scratch(isa: Isa, n: usize, columns: usize) {
    activation::reserve(n, columns);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if !matches!(isa, Isa::Portable(_)) {
        driver::reserve(PANEL_ROWS, n, columns);
    }
}

/// Rounds `[n, columns]` values for products on this instruction set and hands them to `then`.
pub(super) fn with_inputs<R>(
    kernels: Kernels,
    pool: &Pool,
    values: &[f32],
    columns: usize,
    then: impl FnOnce(Inputs<'_>) -> R,
) -> R {
    let portable = matches!(kernels.isa, Isa::Portable(_));
    let panels = !portable && values.len() / columns > FEW_INPUTS;
    let layout = if panels { Layout::Tiled } else { Layout::Grouped };
    activation::with_inputs(kernels.isa, pool, layout, values, columns, then)
}

/// Sets the outputs of some rows.
pub(super) fn run_rows(
    isa: Isa,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => driver::run(token, matrix, rows, inputs, target),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(token) => driver::run(token, matrix, rows, inputs, target),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => driver::run(token, matrix, rows, inputs, target),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => driver::run(token, matrix, rows, inputs, target),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => driver::run(token, matrix, rows, inputs, target),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot(token) => driver::run(token, matrix, rows, inputs, target),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm(token) => driver::run(token, matrix, rows, inputs, target),
        Isa::Portable(_) => portable::run_rows(matrix, rows, inputs, target),
    }
}
