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
