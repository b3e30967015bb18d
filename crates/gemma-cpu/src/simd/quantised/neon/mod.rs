//! Integer products with NEON: any AArch64 processor, with faster instructions where dotprod and i8mm are found.
//!
//! Few inputs: tiles of 4 rows unpacked in registers. Many: panels of 8 rows, packed once for all inputs. All three
//! instruction sets give the same bits, since sums of a block are exact and all else is alike.

mod formats;
mod gemm;
mod gemv;
mod super_blocks;
mod vectors;

use std::arch::is_aarch64_feature_detected;

use super::driver::{Kernels, Product, entry, few, many};
use crate::simd::{Isa, Neon};
use formats::Unpack;
use vectors::{Integer, PANEL};

/// Exists only where the processor has the dot products of Armv8.4 (`dotprod`), and all that [`Neon`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeonDot(Neon);

/// Exists only where the processor has the matrix products of Armv8.6 (`i8mm`), and all that [`NeonDot`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeonI8mm(NeonDot);

impl NeonDot {
    /// The capability, where the processor and the operating system have it.
    pub fn detect() -> Option<Self> {
        Neon::detect().filter(|_| is_aarch64_feature_detected!("dotprod")).map(Self)
    }

    /// What it has of the instructions that f32 kernels are compiled for.
    pub fn neon(self) -> Neon {
        self.0
    }
}

impl NeonI8mm {
    /// The capability, where the processor and the operating system have it.
    pub fn detect() -> Option<Self> {
        NeonDot::detect().filter(|_| is_aarch64_feature_detected!("i8mm")).map(Self)
    }

    /// What it has of the instructions that f32 kernels are compiled for.
    pub fn neon(self) -> Neon {
        self.0.neon()
    }
}

impl From<NeonDot> for Isa {
    fn from(token: NeonDot) -> Self {
        Self::NeonDot(token)
    }
}

impl From<NeonI8mm> for Isa {
    fn from(token: NeonI8mm) -> Self {
        Self::NeonI8mm(token)
    }
}

impl<F: Unpack, G: Integer> Kernels<F> for G {
    #[inline(always)]
    fn few(self, product: &Product<'_>) {
        few::run::<F, G>(self, product);
    }

    #[inline(always)]
    fn many(self, product: &Product<'_>) {
        many::run::<F, G, PANEL>(self, product);
    }
}

entry!(Neon, "neon");
entry!(NeonDot, "neon,dotprod");
entry!(NeonI8mm, "neon,dotprod,i8mm");

#[cfg(test)]
mod tests {
    use gemma_hal::block::{BLOCK, quantise_row};
    use gemma_hal::{DType, Storage, Weight};

    use super::*;
    use crate::pool::Pool;
    use crate::simd::{Activations, linear};

    #[test]
    fn every_generation_gives_the_same_bits() {
        let pool = Pool::new(1).unwrap();
        let values =
            |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 0.7).sin() * 3.0).collect() };
        let neon = Neon::detect().map(Isa::Neon);
        let faster = [NeonDot::detect().map(Isa::NeonDot), NeonI8mm::detect().map(Isa::NeonI8mm)];
        let rows = 21;
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.block_len() > 1) {
            let columns = if dtype.block_len() == BLOCK { 1056 } else { 1280 };
            let bytes: Vec<u8> =
                values(rows * columns).chunks(columns).flat_map(|row| quantise_row(dtype, row)).collect();
            let weight = Weight::new(Storage::new("test", bytes), 0, rows, columns, dtype).unwrap();
            for n in [1, 2, 7, 12] {
                let product = |isa| {
                    let mut out = vec![0.0; n * rows];
                    let kernels = crate::simd::Kernels { isa, activations: Activations::Int8 };
                    linear(kernels, &pool, &weight, &values(n * columns), n, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                let expected = neon.map(product);
                for isa in faster.into_iter().flatten() {
                    assert_eq!(Some(product(isa)), expected, "{} {dtype}, {n} inputs", isa.name());
                }
            }
        }
    }
}
