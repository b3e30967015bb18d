//! The GPU backend of the Gemma 3n engine: kernels written with CubeCL, run through Vulkan.

mod adapter;
mod cache;
mod device;
mod executable;
mod gpu;
mod kernels;
mod weight;

pub use adapter::{Adapter, AdapterKind, adapters};
pub use device::{IgpuDevice, IgpuOptions};
