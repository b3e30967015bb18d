//! The suite that every device must pass, over emulated kernels.

mod common;

use common::Machine;
use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_hip::Activations;

fn agrees(activations: Activations, bounds: Bounds, seed: u64) {
    let device = Machine::new().device(activations);
    let outcomes = conformance::operations(&device, &ReferenceDevice::new(1 << 30), bounds, seed);
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn hip_agrees_with_the_reference() {
    agrees(Activations::Float32, Bounds::F32, 1);
}

#[test]
fn rounded_activations_stay_within_their_bound() {
    // Eight bits for blocks; f16 where many rows meet the others.
    agrees(Activations::Rounded, Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 }, 2);
}

#[test]
fn the_contract_holds() {
    let findings = conformance::contract(&Machine::new().device(Activations::Float32));
    assert!(findings.is_empty(), "{findings:#?}");
}
