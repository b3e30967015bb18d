//! [`Launch`]: one kernel over one grid, and what its arguments are made of.

use bytemuck::{Pod, Zeroable};
use gemma_hal::DType;

/// An address in the device's memory; zero is none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Address(pub u64);

impl Address {
    /// None.
    pub const NULL: Self = Self(0);

    /// The address so many f32 or words further.
    #[must_use]
    pub const fn words(self, count: usize) -> Self {
        Self(self.0 + 4 * count as u64)
    }
}

/// Where a matrix lies, as [`gemma_hal::planes::pack`] packs it; planes begin on 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Planes {
    /// Values or quants.
    pub words: Address,
    /// Scales; not read where the type has none.
    pub scales: Address,
    /// Fifth bits; not read where the type has none.
    pub high: Address,
}

/// Where the keys, or the values, of a layer of the cache lie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Slots {
    /// `[capacity, heads · dim]` in F32, F16 or bytes.
    pub words: Address,
    /// In a Q8_0 cache a word for 32 values, with the f16 scale in its lower half.
    pub scales: Address,
}

/// How activations meet weights in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Few rows are rounded to 8 bits in blocks of 32 values, many to f16: matrix units of gfx11 multiply bytes no faster.
    #[default]
    Rounded,
    /// Few rows and many are rounded to 8 bits. With plain weights, many are rounded to f16.
    RoundedEverywhere,
    /// As they are.
    Float32,
}

/// One kernel over one grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Name in the code object.
    pub kernel: String,
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Work-items of a block, along the first axis.
    pub block: u32,
    /// The kernarg segment: the kernel's one structure.
    pub arguments: Vec<u8>,
}

impl Launch {
    /// A launch with these arguments.
    pub fn new<T: Pod>(kernel: impl Into<String>, grid: [u32; 3], block: u32, arguments: &T) -> Self {
        let arguments = bytemuck::bytes_of(arguments).to_vec();
        Self { kernel: kernel.into(), grid, block, arguments }
    }
}

/// The name of a kernel that reads weights of `dtype` and few rows of activations.
pub(crate) fn reading(kernel: &str, dtype: DType, activations: Activations) -> String {
    let rounded = activations != Activations::Float32 && dtype.block_len() > 1;
    format!("{kernel}_{}_{}", dtype.name(), if rounded { "int8" } else { "f32" })
}
