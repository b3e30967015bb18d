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
