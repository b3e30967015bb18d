//! The suite that every device must pass, on a Vulkan adapter of this machine.
//!
//! Needs a driver; a software driver will do: `apt-get install mesa-vulkan-drivers libvulkan1`.

mod common;

use common::device;
use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};

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
