//! Integer products with AVX-512 VNNI and VBMI: Zen 4 and later, Intel servers since Ice Lake.
//!
//! Few inputs: tiles of 4 rows unpacked in registers. Many: panels of 16 rows, packed once for all inputs. Without VNNI
//! and VBMI blocks are unpacked as with AVX2, and few inputs are multiplied so too.

mod formats;
mod gemm;
mod gemv;
mod super_blocks;
mod vectors;

use super::avx2::Unpack;
use super::driver::{Kernels, Product, entry, few, many};
use crate::simd::{Avx2, Avx512, Isa};
use formats::Format;
use vectors::PANEL;

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

/// Few inputs have a driver of their own, tuned for this instruction set.
impl<F: Format> Kernels<F> for Avx512Vnni {
    #[inline(always)]
    fn few(self, product: &Product<'_>) {
        let Product { matrix, rows, inputs, target } = product;
        // SAFETY: `self` proves that the processor has the enabled features.
        unsafe { gemv::run::<F>(self, *matrix, rows.clone(), *inputs, *target) }
    }

    #[inline(always)]
    fn many(self, product: &Product<'_>) {
        many::run::<F, Self, PANEL>(self, product);
    }
}

entry!(Avx512Vnni, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,f16c");

impl<F: Unpack> Kernels<F> for Avx512 {
    #[inline(always)]
    fn few(self, product: &Product<'_>) {
        few::run::<F, Avx2>(self.avx2(), product);
    }

    #[inline(always)]
    fn many(self, product: &Product<'_>) {
        many::run::<F, Self, PANEL>(self, product);
    }
}

entry!(Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");
