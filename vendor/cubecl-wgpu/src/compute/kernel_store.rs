//! Compiled kernels, kept between processes by whoever uses the runtime.
//!
//! Not part of the published crate; see `vendor/README.md`.

use std::sync::OnceLock;

pub use cubecl_spirv::SpirvCacheEntry;

/// Where compiled kernels are kept.
pub trait KernelStore: Send + Sync {
    /// What was saved as `key`, unharmed, by the same build of the same program.
    fn load(&self, key: &str) -> Option<SpirvCacheEntry>;

    /// Saves a kernel, or does not.
    fn save(&self, key: &str, kernel: &SpirvCacheEntry);
}

static STORE: OnceLock<Box<dyn KernelStore>> = OnceLock::new();

/// Keeps all kernels that are compiled from now on in `store`. `false` where there is one already.
pub fn keep_kernels(store: Box<dyn KernelStore>) -> bool {
    STORE.set(store).is_ok()
}

pub(crate) fn store() -> Option<&'static dyn KernelStore> {
    STORE.get().map(AsRef::as_ref)
}
