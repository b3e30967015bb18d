//! A compiled kernel as launches use it.
//!
//! Not part of the published crate; see `vendor/README.md`.

use core::ops::Deref;

use wgpu::ComputePipeline;

#[cfg(feature = "spirv")]
use super::native::NativePipeline;

/// A compute pipeline of wgpu and, where it was made of SPIR-V whose buffers are addresses, what the driver needs to make one
/// that is launched without wgpu.
#[derive(Debug)]
pub struct Pipeline {
    wgpu: ComputePipeline,
    #[cfg(feature = "spirv")]
    pub(crate) native: Option<NativePipeline>,
}

impl Pipeline {
    pub(crate) fn new(wgpu: ComputePipeline) -> Self {
        Self {
            wgpu,
            #[cfg(feature = "spirv")]
            native: None,
        }
    }

    #[cfg(feature = "spirv")]
    pub(crate) fn with_native(self, native: Option<NativePipeline>) -> Self {
        Self { native, ..self }
    }
}

impl Deref for Pipeline {
    type Target = ComputePipeline;

    fn deref(&self) -> &ComputePipeline {
        &self.wgpu
    }
}
