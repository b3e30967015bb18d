//! Integer products with AVX2, with faster instructions where AVX-VNNI is found: processors without AVX-512 VNNI.
//!
//! Few inputs: tiles of 4 rows unpacked in registers. Many: panels of 8 rows, packed once for all inputs. Both
//! instruction sets give the same bits, since sums of a block are exact and all else is alike.

mod formats;
mod gemm;
mod gemv;
mod super_blocks;
mod vectors;

use super::driver::{Kernels, Product, entry, few, many};
use crate::simd::{Avx2, Isa};
use vectors::{Integer, PANEL};

pub(super) use formats::Unpack;

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

entry!(Avx2, "avx2,fma,f16c");
entry!(AvxVnni, "avx2,fma,f16c,avxvnni");

#[cfg(test)]
mod tests {
    use gemma_hal::block::quantise_row;
    use gemma_hal::{DType, Storage, Weight};

    use super::*;
    use crate::pool::Pool;
    use crate::simd::{Activations, linear};

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
                    let kernels = crate::simd::Kernels { isa, activations: Activations::Int8 };
                    linear(kernels, &pool, &weight, &values(n * columns), n, &mut out);
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                assert_eq!(product(avx2.into()), product(vnni.into()), "{dtype}, {n} inputs");
            }
        }
    }
}
