//! The GPU backend of the Gemma 3n engine: kernels written with CubeCL, run through Vulkan.
//!
//! [`adapters`] lists what a machine has; an [`IgpuDevice`] is a [`gemma_hal::Device`] like every other and runs the
//! same plans, over every weight type, in f32. Vulkan's loader is looked for at run time. An adapter needs subgroups of 8
//! units or more, workgroups of 256, integers and floats of 16 bits, and buffer device addresses.
//!
//! ```no_run
//! use gemma_hal::Device;
//! use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};
//!
//! # fn main() -> Result<(), gemma_hal::DeviceError> {
//! for adapter in adapters() {
//!     let device = IgpuDevice::new(&adapter, IgpuOptions::new(8 << 30))?;
//!     println!("{}: {:?}", device.info().name, device.memory());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Beside plans there is [`Linear`], one matrix that is multiplied with activations of other libraries on the same runtime.
//!
//! Kernels are compiled when they are first launched; [`keep_kernels`] keeps them for the next start.
//!
//! One process has one queue an adapter, whatever number of devices it opens on it: runs take turns. A run of one token is
//! recorded the second time and replayed from then on, see docs/architecture.md.

mod adapter;
mod cache;
mod device;
mod executable;
mod gpu;
mod kernel_store;
mod kernels;
mod measure;
mod tune;
mod tuning;
mod turned;
mod weight;

pub use adapter::{Adapter, AdapterFeatures, AdapterKind, adapters};
pub use device::{Activations, IgpuDevice, IgpuOptions};
pub use executable::Linear;
pub use kernel_store::keep_kernels;
pub use measure::{Measured, launches};
pub use tune::Trial;
pub use tuning::Tuning;
