//! Integer products with AVX2, with faster instructions where AVX-VNNI is found: processors without AVX-512 VNNI.
//!
//! Few inputs: tiles of 4 rows unpacked in registers. Many: panels of 8 rows, packed once for all inputs. Both
//! instruction sets give the same bits, since sums of a block are exact and all else is alike.

mod formats;
mod gemm;
mod gemv;
mod vectors;

use std::ops::Range;

use gemma_hal::DType;

use super::activation::{Inputs, Layout};
use crate::simd::operands::{Matrix, Target};
use crate::simd::{Avx2, Isa};
use formats::{Format, Q4_0, Q8_0};

/// Exists only where the processor has AVX-VNNI, and all that [`Avx2`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvxVnni(Avx2);

impl AvxVnni {
    /// The capability, where the processor and the operating system have it.
    pub fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| is_x86_feature_detected!("avxvnni")).map(Self)
    }

    /// What it has of the instructions that f32 kernels are compiled for.
    pub fn avx2(self) -> Avx2 {
        self.0
    }
}

impl From<AvxVnni> for Isa {
    fn from(token: AvxVnni) -> Self {
        Self::AvxVnni(token)
    }
}

/// An instruction set that [`run_rows`] has kernels for.
pub(super) trait Generation: Copy {
    /// Sets the outputs of some rows.
    fn run<F: Format>(self, matrix: Matrix<'_>, rows: Range<usize>, inputs: Inputs<'_>, target: Target<'_>);
}

macro_rules! generation {
    ($token:ident, $features:literal) => {
        impl Generation for $token {
            fn run<F: Format>(
                self,
                matrix: Matrix<'_>,
                rows: Range<usize>,
                inputs: Inputs<'_>,
                target: Target<'_>,
            ) {
                #[target_feature(enable = $features)]
                fn few<F: Format>(
                    simd: $token,
                    matrix: Matrix<'_>,
                    rows: Range<usize>,
                    inputs: Inputs<'_>,
                    target: Target<'_>,
                ) {
                    gemv::run::<F, $token>(simd, matrix, rows, inputs, target);
                }

                #[target_feature(enable = $features)]
                fn many<F: Format>(
                    simd: $token,
                    matrix: Matrix<'_>,
                    rows: Range<usize>,
                    inputs: Inputs<'_>,
                    target: Target<'_>,
                ) {
                    gemm::run::<F, $token>(simd, matrix, rows, inputs, target);
                }

                match inputs.layout {
                    // SAFETY: `self` proves that the processor has the enabled features.
                    Layout::Grouped => unsafe { few::<F>(self, matrix, rows, inputs, target) },
                    // SAFETY: as above.
                    Layout::Tiled => unsafe { many::<F>(self, matrix, rows, inputs, target) },
                }
            }
        }
    };
}

generation!(Avx2, "avx2,fma,f16c");
generation!(AvxVnni, "avx2,fma,f16c,avxvnni");

/// Makes the scratch memory of the current thread.
pub(super) fn reserve_scratch(n: usize, columns: usize) {
    gemm::reserve(n, columns);
}

/// Sets the outputs of some rows.
pub(super) fn run_rows<G: Generation>(
    token: G,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    match matrix.dtype {
        DType::Q4_0 => token.run::<Q4_0>(matrix, rows, inputs, target),
        DType::Q8_0 => token.run::<Q8_0>(matrix, rows, inputs, target),
        dtype => unreachable!("no integer kernel for {dtype}"),
    }
}
