//! The Vulkan adapter that tests run on: a software driver where there is one, so that results are the same everywhere.

use gemma_igpu::{Activations, AdapterKind, IgpuDevice, IgpuOptions, adapters};

/// What a machine lacks where a test finds no adapter.
const NEEDED: &str =
    "no Vulkan adapter; a software driver will do: apt-get install mesa-vulkan-drivers libvulkan1";

/// The first adapter that computes in software, otherwise the first one, opened for 1 GiB, with activations in f32.
///
/// # Panics
/// Without an adapter.
pub(crate) fn device() -> IgpuDevice {
    device_with(Activations::Float32)
}

/// [`device`] with `activations`.
///
/// # Panics
/// Without an adapter.
pub(crate) fn device_with(activations: Activations) -> IgpuDevice {
    device_with_memory(activations, 1 << 30)
}

/// [`device_with`], opened for `memory` bytes.
///
/// # Panics
/// Without an adapter.
pub(crate) fn device_with_memory(activations: Activations, memory: u64) -> IgpuDevice {
    let adapters = adapters();
    let software = adapters.iter().find(|adapter| adapter.kind == AdapterKind::Software);
    let adapter = software.or(adapters.first()).expect(NEEDED);
    IgpuDevice::new(adapter, IgpuOptions { activations, ..IgpuOptions::new(memory) }).unwrap()
}
