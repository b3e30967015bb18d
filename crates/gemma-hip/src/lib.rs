//! The HIP backend of the Gemma 3n engine: runs plans on AMD GPUs through AMD's runtime, with the kernels of `kernels/hip`.
//!
//! [`devices`] lists what a machine has; a [`HipDevice`] is a [`gemma_hal::Device`] like every other. The runtime, libamdhip64, is looked
//! for when it is asked for, and code objects are read from a folder: nothing of ROCm is needed to build. It is tested against a
//! runtime of our own that computes on the CPU; on AMD hardware nothing of it has run yet. See docs/hip.md.
//!
//! ```no_run
//! use gemma_hal::Device;
//! use gemma_hip::{HipDevice, HipOptions, devices};
//!
//! # fn main() -> Result<(), gemma_hal::DeviceError> {
//! for adapter in devices()? {
//!     let device = HipDevice::new(&adapter, &HipOptions::new(8 << 30))?;
//!     println!("{}: {:?}", device.info().name, device.memory());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! One process has one stream a GPU, whatever number of devices it opens on it: runs take turns.

mod adapter;
mod cache;
mod device;
mod executable;
mod measure;
mod objects;
mod runtime;
#[cfg(test)]
mod testing;
mod turned;
mod weight;

pub use adapter::{HipAdapter, devices, devices_of};
pub use device::{HipDevice, HipOptions, WeightMemory};
pub use gemma_hip_kernels::Activations;
