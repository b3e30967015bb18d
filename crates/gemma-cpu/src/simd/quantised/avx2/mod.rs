//! Integer products with AVX2, with faster instructions where AVX-VNNI is found: processors without AVX-512 VNNI.
//!
//! Few inputs: tiles of 4 rows unpacked in registers. Many: panels of 8 rows, packed once for all inputs. Both
//! instruction sets give the same bits, since sums of a block are exact and all else is alike.

mod formats;
mod gemm;
mod gemv;
mod super_blocks;
mod vectors;

use std::ops::Range;

use gemma_hal::DType;

use super::activation::{Inputs, Layout};
use crate::simd::operands::{Matrix, Target};
use crate::simd::{Avx2, Isa};
use formats::{Format, Q4_0, Q4_1, Q5_0, Q8_0};
use super_blocks::{Q4K, Q5K, Q6K};

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
        DType::Q4_1 => token.run::<Q4_1>(matrix, rows, inputs, target),
        DType::Q5_0 => token.run::<Q5_0>(matrix, rows, inputs, target),
        DType::Q8_0 => token.run::<Q8_0>(matrix, rows, inputs, target),
        DType::Q4K => token.run::<Q4K>(matrix, rows, inputs, target),
        DType::Q5K => token.run::<Q5K>(matrix, rows, inputs, target),
        DType::Q6K => token.run::<Q6K>(matrix, rows, inputs, target),
        dtype => unreachable!("no integer kernel for {dtype}"),
    }
}

#[cfg(test)]
mod tests {
    use gemma_hal::block::quantise_row;
    use gemma_hal::{Storage, Weight};

    use super::*;
    use crate::pool::Pool;
    use crate::simd::{Activations, Kernels, linear};

    #[test]
    fn both_generations_give_the_same_bits() {
        let (Some(avx2), Some(vnni)) = (Avx2::detect(), AvxVnni::detect()) else { return };
        let pool = Pool::new(1).unwrap();
        let values =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.7).sin() * 3.0).collect() };
        let (rows, columns) = (21, 1280);
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.block_len() > 1) {
            let bytes: Vec<u8> =
                values(rows * columns).chunks(columns).flat_map(|row| quantise_row(dtype, row)).collect();
            let weight = Weight::new(Storage::new("test", bytes), 0, rows, columns, dtype).unwrap();
            for n in [1, 2, 7, 12] {
                let product = |isa| {
                    let mut out = vec![0.0; n * rows];
                    let kernels = Kernels { isa, activations: Activations::Int8 };
                    linear(kernels, &pool, &weight, &values(n * columns), n, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                assert_eq!(product(avx2.into()), product(vnni.into()), "{dtype}, {n} inputs");
            }
        }
    }
}
