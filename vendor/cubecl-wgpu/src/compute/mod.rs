pub(crate) mod controller;
pub(crate) mod copies;
pub(crate) mod device_poison;

mod graph;
#[cfg(feature = "spirv")]
pub(crate) mod kernel_store;
#[cfg(feature = "spirv")]
pub(crate) mod native;
pub(crate) mod pipeline;
mod storage;

pub(super) mod mem_manager;
pub(super) mod poll;
pub(super) mod schedule;
mod server;
pub(super) mod stream;
pub(super) mod timings;

#[cfg(feature = "spirv")]
pub use kernel_store::{KernelStore, SpirvCacheEntry, keep_kernels};
pub use pipeline::Pipeline;
pub use server::*;
pub use storage::*;
