//! [`Kernels`]: which kernels compute a linear layer, an instruction set and how activations enter it.

use gemma_hal::DType;

use super::{Isa, quantised};

/// The environment variable that chooses how activations enter a product.
pub const ACTIVATIONS_VARIABLE: &str = "GEMMA_CPU_ACTIVATIONS";

/// How activations enter products with weights in block formats. Plain weights always meet them as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Rounded to 8 bits in blocks of 32 values, so that integer dot products do the work; sums of blocks in f32.
    /// Formats and instruction sets without such a kernel compute as [`Activations::Float32`].
    Int8,
    /// As they are.
    Float32,
}

/// Why the activations asked for cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{ACTIVATIONS_VARIABLE}={wanted}: unknown; there are int8 and f32")]
pub struct ActivationsError {
    /// What was asked for.
    pub wanted: String,
}

impl Activations {
    /// Both, the default one first.
    pub const ALL: [Self; 2] = [Self::Int8, Self::Float32];

    /// What [`ACTIVATIONS_VARIABLE`] names, or [`Activations::Int8`].
    ///
    /// # Errors
    /// [`ActivationsError`] when the name is unknown.
    pub fn from_env() -> Result<Self, ActivationsError> {
        match std::env::var_os(ACTIVATIONS_VARIABLE) {
            Some(name) if !name.is_empty() => Self::from_name(&name.to_string_lossy()),
            _ => Ok(Self::Int8),
        }
    }

    /// The one with this name, in either case.
    ///
    /// # Errors
    /// [`ActivationsError`] when the name is unknown.
    pub fn from_name(name: &str) -> Result<Self, ActivationsError> {
        let found = Self::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| ActivationsError { wanted: name.to_owned() })
    }

    /// The name that [`ACTIVATIONS_VARIABLE`] and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Float32 => "f32",
        }
    }
}

/// What computes a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    /// The instruction set.
    pub isa: Isa,
    /// How activations meet weights in block formats.
    pub activations: Activations,
}

impl Kernels {
    /// Whether activations are rounded for weights of this type.
    pub fn rounds_for(self, dtype: DType) -> bool {
        self.activations == Activations::Int8 && quantised::supports(self.isa, dtype)
    }
}

/// Exact activations.
impl From<Isa> for Kernels {
    fn from(isa: Isa) -> Self {
        Self { isa, activations: Activations::Float32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for activations in Activations::ALL {
            assert_eq!(Activations::from_name(&activations.name().to_uppercase()), Ok(activations));
        }
        let error = Activations::from_name("f16").unwrap_err().to_string();
        assert_eq!(error, "GEMMA_CPU_ACTIVATIONS=f16: unknown; there are int8 and f32");
    }
}
