//! The backends against the suite of `gemma-hal`.

use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::Device;
use gemma_hal::conformance::{self, Bounds};

const BUDGET: u64 = 1 << 30;

fn passes(device: &dyn Device, bounds: Bounds, seed: u64) {
    let outcomes = conformance::operations(device, &ReferenceDevice::new(BUDGET), bounds, seed);
    assert!(outcomes.len() > 70, "only {} cases", outcomes.len());
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

fn keeps_promises(device: &dyn Device) {
    assert_eq!(conformance::contract(device), Vec::<String>::new());
}

fn cpu(isa: Isa, activations: Activations, threads: usize) -> CpuDevice {
    CpuDevice::new(CpuOptions { threads, isa, activations, memory: BUDGET }).unwrap()
}

#[test]
fn cpu_agrees_with_the_reference() {
    for (seed, isa) in Isa::available().into_iter().enumerate() {
        for threads in [1, 3] {
            passes(&cpu(isa, Activations::Float32, threads), Bounds::F32, seed as u64);
        }
    }
}

#[test]
fn cpu_with_rounded_activations_stays_near_the_reference() {
    // Half a step of 127 in each activation.
    let bounds = Bounds { blocks: 1e-3, ..Bounds::F32 };
    for (seed, isa) in Isa::available().into_iter().enumerate() {
        for threads in [1, 3] {
            passes(&cpu(isa, Activations::Int8, threads), bounds, seed as u64);
        }
    }
}

#[test]
fn cpu_keeps_the_contract() {
    for activations in Activations::ALL {
        keeps_promises(&cpu(Isa::detect(), activations, 2));
    }
}

#[test]
fn reference_keeps_the_contract() {
    keeps_promises(&ReferenceDevice::new(BUDGET));
}

#[test]
fn reference_agrees_with_itself() {
    passes(&ReferenceDevice::new(BUDGET), Bounds { plain: 0.0, blocks: 0.0, half_cache: 0.0 }, 1);
}
