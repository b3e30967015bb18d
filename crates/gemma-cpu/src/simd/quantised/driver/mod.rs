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

#[cfg(test)]
mod tests {
    use gemma_hal::block::{BLOCK, quantise_row};
    use gemma_hal::{Storage, Weight};

    use super::*;
    use crate::pool::Pool;
    use crate::simd::{Activations, Isa, Kernels, linear};

    #[test]
    fn every_instruction_set_with_vectors_gives_the_same_bits() {
        let pool = Pool::new(1).unwrap();
        let values =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.7).sin() * 3.0).collect() };
        let with_vectors: Vec<Isa> =
            Isa::available().into_iter().filter(|isa| !matches!(isa, Isa::Portable(_))).collect();
        // More rows than the widest pair of panels has, and blocks that do not end on a group.
        let rows = 53;
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.block_len() > 1) {
            let columns = if dtype.block_len() == BLOCK { 1056 } else { 1280 };
            let bytes: Vec<u8> =
                values(rows * columns).chunks(columns).flat_map(|row| quantise_row(dtype, row)).collect();
            let weight = Weight::new(Storage::new("test", bytes), 0, rows, columns, dtype).unwrap();
            for n in [1, 2, 7, 12] {
                let product = |isa: &Isa| {
                    let mut out = vec![0.0; n * rows];
                    let kernels = Kernels { isa: *isa, activations: Activations::Int8 };
                    linear(kernels, &pool, &weight, &values(n * columns), n, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                let Some((first, more)) = with_vectors.split_first() else { return };
                let expected = product(first);
                for isa in more {
                    assert_eq!(product(isa), expected, "{} {dtype}, {n} inputs", isa.name());
                }
            }
        }
    }
}
