//! The kernels of every instruction set with vectors: which of them runs, and the loops that they share.
//!
//! An instruction set brings how it unpacks a format, multiplies a group of blocks and packs a panel; the loops are
//! generic over these, inlined below an [`entry`] that is compiled for the instruction set.

pub(super) mod few;
pub(super) mod many;
pub(super) mod stored;

use std::ops::Range;

use gemma_hal::DType;

use super::activation::Inputs;
use crate::simd::operands::{Matrix, Target};
use stored::{Q4_0, Q4_1, Q4K, Q5_0, Q5K, Q6K, Q8_0, Stored};

pub(super) use many::reserve;

/// Some rows of a weight, times all inputs.
pub(super) struct Product<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) rows: Range<usize>,
    pub(super) inputs: Inputs<'a>,
    pub(super) target: Target<'a>,
}

/// Sets the outputs of some rows with the kernels for the format of the weight.
pub(super) fn run<G: Every>(
    token: G,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    inputs: Inputs<'_>,
    target: Target<'_>,
) {
    let product = Product { matrix, rows, inputs, target };
    match matrix.dtype {
        DType::Q4_0 => token.run::<Q4_0>(&product),
        DType::Q4_1 => token.run::<Q4_1>(&product),
        DType::Q5_0 => token.run::<Q5_0>(&product),
        DType::Q8_0 => token.run::<Q8_0>(&product),
        DType::Q4K => token.run::<Q4K>(&product),
        DType::Q5K => token.run::<Q5K>(&product),
        DType::Q6K => token.run::<Q6K>(&product),
        dtype => unreachable!("no integer kernel for {dtype}"),
    }
}

/// Kernels of an instruction set for a format.
///
/// Methods must be `#[inline(always)]`, so that they are compiled with the instruction set of [`Entry`].
pub(super) trait Kernels<F: Stored>: Copy {
    /// Of inputs in [`Layout::Grouped`].
    fn few(self, product: &Product<'_>);
    /// Of inputs in [`Layout::Tiled`].
    fn many(self, product: &Product<'_>);
}

/// Where code begins that is compiled for an instruction set: see [`entry`].
pub(super) trait Entry: Copy {
    fn run<F: Stored>(self, product: &Product<'_>)
    where
        Self: Kernels<F>;
}

/// Has kernels for every format.
pub(super) trait Every:
    Entry
    + Kernels<Q4_0>
    + Kernels<Q4_1>
    + Kernels<Q5_0>
    + Kernels<Q8_0>
    + Kernels<Q4K>
    + Kernels<Q5K>
    + Kernels<Q6K>
{
}

/// Makes a token an [`Entry`] that enables features, which the token proves that the processor has.
macro_rules! entry {
    ($token:ident, $features:literal) => {
        impl crate::simd::quantised::driver::Every for $token {}

        impl crate::simd::quantised::driver::Entry for $token {
            fn run<F: crate::simd::quantised::driver::stored::Stored>(
                self,
                product: &crate::simd::quantised::driver::Product<'_>,
            ) where
                Self: crate::simd::quantised::driver::Kernels<F>,
            {
                use crate::simd::quantised::activation::Layout;
                use crate::simd::quantised::driver::stored::Stored;
                use crate::simd::quantised::driver::{Kernels, Product};

                #[target_feature(enable = $features)]
                fn few<F: Stored>(simd: $token, product: &Product<'_>)
                where
                    $token: Kernels<F>,
                {
                    Kernels::<F>::few(simd, product);
                }

                #[target_feature(enable = $features)]
                fn many<F: Stored>(simd: $token, product: &Product<'_>)
                where
                    $token: Kernels<F>,
                {
                    Kernels::<F>::many(simd, product);
                }

                match product.inputs.layout {
                    // SAFETY: `self` proves that the processor has the enabled features.
                    Layout::Grouped => unsafe { few::<F>(self, product) },
                    // SAFETY: as above.
                    Layout::Tiled => unsafe { many::<F>(self, product) },
                }
            }
        }
    };
}
pub(super) use entry;
