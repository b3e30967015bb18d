//! Vectorised kernels: linear layers over stored weights, attention, and the element-wise work between them.
//!
//! Kernels are written once, over `lanes::Simd`, and compiled for each instruction set; [`Isa`] chooses one at run
//! time. Each output is computed on one thread in an order that depends on the instruction set alone: results are
//! the same for every thread count, and for a token whether it is computed alone or with others.

#![allow(
    clippy::needless_range_loop,
    reason = "several arrays share the index; iterators hide that from the optimiser"
)]

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod column;
mod format;
mod kernels;
mod lanes;
mod linear;
#[cfg(target_arch = "aarch64")]
mod neon;
mod operands;
mod portable;
mod quantised;
mod rows;
mod shared;
mod sparse;
mod tile;
mod turned;

use gemma_hal::op::Heads;

use crate::pool::Pool;

pub use attention::{attention, attention_scratch};
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use kernels::{ACTIVATIONS_VARIABLE, Activations, ActivationsError, Kernels};
pub(crate) use lanes::Simd;
pub use linear::{Output, foresee, linear, linear_many, linear_rows};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;
pub use quantised::linear_columns_rounded;
#[cfg(target_arch = "x86_64")]
pub use quantised::{Avx512Vnni, AvxVnni};
#[cfg(target_arch = "aarch64")]
pub use quantised::{NeonDot, NeonI8mm};
pub use rows::{
    MAX_STREAMS, dot, gaussian_cut, gelu_multiply, mix_streams, rms_norm, rms_norm_in_place, soft_cap,
    sum_of_squares,
};
pub use sparse::{ActiveUnits, linear_columns};
pub use turned::Turned;

/// Makes the scratch memory of every thread of `pool`, for attention with these heads and products of up to `columns`
/// values in runs of at most `rows` rows: which thread gets a piece of a run is left to chance, and none shall allocate
/// in its first.
pub(crate) fn reserve_scratch(kernels: Kernels, pool: &Pool, heads: &[Heads], rows: usize, columns: usize) {
    pool.run(|_, _| {
        linear::reserve_scratch();
        if kernels.activations == Activations::Int8 {
            quantised::reserve_scratch(kernels.isa, rows, columns);
        }
        for heads in heads {
            attention::reserve_room(*heads, rows);
        }
    });
}

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "GEMMA_CPU_ISA";

/// An instruction set that this processor has: a value of a variant cannot be made where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust.
    Portable(Portable),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// The same with AVX-VNNI, which integer products use; all else is computed as with [`Isa::Avx2`].
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// The same with VNNI and VBMI, which integer products use; all else is computed as with [`Isa::Avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// The same with dot products of 8-bit values, which integer products use.
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
    /// The same with matrix products of 8-bit values, which integer products of many inputs use.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(NeonI8mm),
}

/// Why the instruction set asked for cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ISA_VARIABLE}={wanted}: not available on this processor; it has {available}")]
pub struct IsaError {
    /// What was asked for.
    pub wanted: String,
    /// Names of what there is.
    pub available: String,
}

impl Isa {
    /// Every instruction set that this processor has, the best one last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "changed where there are vector instructions")]
        let mut all = vec![Self::Portable(Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Self::Avx2));
            all.extend(AvxVnni::detect().map(Self::AvxVnni));
            all.extend(Avx512::detect().map(Self::Avx512));
            all.extend(Avx512Vnni::detect().map(Self::Avx512Vnni));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(Neon::detect().map(Self::Neon));
            all.extend(NeonDot::detect().map(Self::NeonDot));
            all.extend(NeonI8mm::detect().map(Self::NeonI8mm));
        }
        all
    }

    /// The best instruction set that this processor has.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Portable(Portable))
    }

    /// The one that [`ISA_VARIABLE`] names, or the best one.
    ///
    /// # Errors
    /// [`IsaError`] when the name is unknown or the processor lacks it.
    pub fn from_env() -> Result<Self, IsaError> {
        match std::env::var_os(ISA_VARIABLE) {
            Some(name) if !name.is_empty() => Self::from_name(&name.to_string_lossy()),
            _ => Ok(Self::detect()),
        }
    }

    /// The one with this name.
    ///
    /// # Errors
    /// [`IsaError`] when the name is unknown or the processor lacks it.
    pub fn from_name(name: &str) -> Result<Self, IsaError> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name().eq_ignore_ascii_case(name)).ok_or_else(|| IsaError {
            wanted: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name that [`ISA_VARIABLE`] and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => "neondot",
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(_) => "i8mm",
        }
    }

    /// Runs a kernel with this instruction set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable(simd) => kernel.run(simd),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(simd) => simd.avx2().run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(simd) => simd.avx512().run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(simd) => simd.neon().run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(simd) => simd.neon().run(kernel),
        }
    }
}

/// A computation written over any [`Simd`].
///
/// `run`, and every function between it and the vector operations, must be `#[inline(always)]` and free of closures
/// around vector operations: code that is not inlined is compiled without the instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does the work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_what_is_available_and_refuse_the_rest() {
        for isa in Isa::available() {
            assert_eq!(Isa::from_name(&isa.name().to_uppercase()), Ok(isa));
        }
        let error = Isa::from_name("mmx").unwrap_err().to_string();
        assert!(
            error.starts_with("GEMMA_CPU_ISA=mmx: not available on this processor; it has portable"),
            "{error}"
        );
    }
}
