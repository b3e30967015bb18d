//! The CPU backend of the Gemma 3n engine: a plain reference, SIMD kernels, and the threads they run on.
//!
//! [`CpuDevice`] is the one to run; [`reference::ReferenceDevice`] is the one to believe. Weights are used where they
//! lie, in whatever type the file has; nothing here knows a model or a file format.
//!
//! The kernels are small functions that must be inlined into loops of other modules: leave the profile's `lto` at its
//! default or at `"thin"`. With `lto = "off"` and several codegen units they were measured 3 to 4 times slower.

mod device;
pub mod measure;
pub mod pool;
mod prefetch;
pub mod reference;
pub mod simd;

pub use device::{CpuDevice, CpuOptions, OptionsError, processor_name};
