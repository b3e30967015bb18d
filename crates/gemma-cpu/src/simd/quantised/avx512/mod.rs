//! Integer products with AVX-512 VNNI and VBMI: Zen 4 and later, Intel servers since Ice Lake.
//!
//! Few inputs: tiles of 4 rows unpacked in registers. Many: panels of 32 rows, packed once for all inputs.

mod formats;
mod gemm;
mod gemv;
mod super_blocks;
mod vectors;

use std::ops::Range;

use gemma_hal::DType;

use super::activation::{Inputs, Layout};
use crate::simd::operands::{Matrix, Target};
use crate::simd::{Avx512, Isa};
use formats::{Format, Q4_0, Q4_1, Q5_0, Q8_0};
use super_blocks::{Q4K, Q5K, Q6K};

/// Exists only where the processor has AVX-512 VNNI and VBMI, and all that [`Avx512`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Vnni(Avx512);

impl Avx512Vnni {
    /// The capability, where the processor and the operating system have it.
    pub fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vbmi");
        Avx512::detect().filter(|_| all).map(Self)
    }

    /// What it has of the instructions that f32 kernels are compiled for.
    pub fn avx512(self) -> Avx512 {
        self.0
    }
}

impl From<Avx512Vnni> for Isa {
    fn from(token: Avx512Vnni) -> Self {
        Self::Avx512Vnni(token)
    }
}

/// Makes the scratch memory of the current thread.
pub(super) fn reserve_scratch(n: usize, columns: usize) {
    gemm::reserve(n, columns);
}

/// Sets the outputs of some rows.
pub(super) fn run_rows(
    token: Avx512Vnni,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    match matrix.dtype {
        DType::Q4_0 => run_format::<Q4_0>(token, matrix, rows, inputs, target),
        DType::Q4_1 => run_format::<Q4_1>(token, matrix, rows, inputs, target),
        DType::Q5_0 => run_format::<Q5_0>(token, matrix, rows, inputs, target),
        DType::Q8_0 => run_format::<Q8_0>(token, matrix, rows, inputs, target),
        DType::Q4K => run_format::<Q4K>(token, matrix, rows, inputs, target),
        DType::Q5K => run_format::<Q5K>(token, matrix, rows, inputs, target),
        DType::Q6K => run_format::<Q6K>(token, matrix, rows, inputs, target),
        dtype => unreachable!("no integer kernel for {dtype}"),
    }
}

fn run_format<F: Format>(
    token: Avx512Vnni,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    match inputs.layout {
        // SAFETY: `token` proves that the processor has the enabled features.
        Layout::Grouped => unsafe { gemv::run::<F>(token, matrix, rows, inputs, target) },
        // SAFETY: as above.
        Layout::Tiled => unsafe { gemm::run::<F>(token, matrix, rows, inputs, target) },
    }
}
