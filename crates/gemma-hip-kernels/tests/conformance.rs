//! The suite that every device must pass, on the emulated kernels: each against the reference, on random shapes.
//!
//! Under sanitizers, with work-items in another order at each launch, and with buffers that end where their last value does.

#![expect(clippy::print_stdout, reason = "what each kernel was off by, for who asks with --nocapture")]

mod support;

use std::collections::BTreeMap;

use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_hip_kernels::Activations;
use support::device::EmulatedDevice;
use support::results::Results;

fn agrees(device: &EmulatedDevice, bounds: Bounds, seed: u64) {
    let outcomes = conformance::operations(device, &ReferenceDevice::new(1 << 30), bounds, seed);
    let mut results = Results::default();
    results.add_suite(device, &outcomes);
    results.lines(&BTreeMap::new()).iter().for_each(|line| println!("{line}"));
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn kernels_agree_with_the_reference() {
    agrees(&EmulatedDevice::new(Activations::Float32, true), Bounds::F32, 1);
}

#[test]
fn rounded_activations_stay_within_their_bound() {
    // Eight bits for blocks, f16 for many rows that meet the others.
    agrees(
        &EmulatedDevice::new(Activations::Rounded, true),
        Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 },
        2,
    );
}
