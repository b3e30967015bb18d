//! The suite that every device must pass, on a Vulkan adapter of this machine.
//!
//! Needs a driver; a software driver will do: `apt-get install mesa-vulkan-drivers libvulkan1`.

use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};

fn device() -> IgpuDevice {
    let adapters = adapters();
    let adapter = adapters.first().expect("a Vulkan adapter: apt-get install mesa-vulkan-drivers libvulkan1");
    IgpuDevice::new(adapter, IgpuOptions { memory: 1 << 30 }).unwrap()
}

#[test]
fn gpu_agrees_with_the_reference() {
    let outcomes = conformance::operations(&device(), &ReferenceDevice::new(1 << 30), Bounds::F32, 1);
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn the_contract_holds() {
    let findings = conformance::contract(&device());
    assert!(findings.is_empty(), "{findings:#?}");
}
