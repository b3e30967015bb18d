//! The backends against the suite of `gemma-hal`.

use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::simd::Isa;
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

fn cpu(isa: Isa, threads: usize) -> CpuDevice {
    CpuDevice::new(CpuOptions { threads, isa, memory: BUDGET }).unwrap()
}

#[test]
fn cpu_agrees_with_the_reference() {
    for (seed, isa) in Isa::available().into_iter().enumerate() {
        for threads in [1, 3] {
            passes(&cpu(isa, threads), Bounds::F32, seed as u64);
        }
    }
}

#[test]
fn cpu_keeps_the_contract() {
    keeps_promises(&cpu(Isa::detect(), 2));
}

#[test]
fn reference_keeps_the_contract() {
    keeps_promises(&ReferenceDevice::new(BUDGET));
}

#[test]
fn reference_agrees_with_itself() {
    passes(&ReferenceDevice::new(BUDGET), Bounds { plain: 0.0, blocks: 0.0, half_cache: 0.0 }, 1);
}
