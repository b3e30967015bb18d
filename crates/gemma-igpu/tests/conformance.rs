//! The suite that every device must pass, on a Vulkan adapter of this machine.
//!
//! Needs a driver; a software driver will do: `apt-get install mesa-vulkan-drivers libvulkan1`.

mod common;

use common::{device, device_with};
use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_igpu::Activations;

#[test]
fn gpu_agrees_with_the_reference() {
    agrees(Activations::Float32, Bounds::F32);
}

#[test]
fn rounded_activations_stay_within_their_bound() {
    // Eight bits for blocks; f16, where there are matrix units, for the others.
    agrees(Activations::Rounded, Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 });
}

fn agrees(activations: Activations, bounds: Bounds) {
    let device = device_with(activations);
    let outcomes = conformance::operations(&device, &ReferenceDevice::new(1 << 30), bounds, 1);
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn the_contract_holds() {
    let findings = conformance::contract(&device());
    assert!(findings.is_empty(), "{findings:#?}");
}
