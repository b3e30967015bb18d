//! The backends against the suite of `gemma-hal`.

use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::simd::{Activations, Isa, Kernels};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::conformance::{self, Bounds, Outcome};
use gemma_hal::{DType, Device};

const BUDGET: u64 = 1 << 30;

fn passes(device: &dyn Device, bounds: Bounds, seed: u64) {
    let outcomes = conformance::operations(device, &ReferenceDevice::new(BUDGET), bounds, seed);
    assert!(outcomes.len() > 70, "only {} cases", outcomes.len());
    none_failed(&outcomes);
}

fn none_failed(outcomes: &[Outcome]) {
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
fn integer_kernels_agree() {
    let portable = cpu(Isa::available()[0], Activations::Int8, 1);
    let both = |isa: &Isa, dtype: &DType| {
        [*isa, portable.isa()].into_iter().all(|isa| {
            let kernels = Kernels { isa, activations: Activations::Int8 };
            kernels.rounds_for(*dtype)
        })
    };
    for isa in Isa::available() {
        let types: Vec<DType> = DType::ALL.into_iter().filter(|dtype| both(&isa, dtype)).collect();
        for seed in 0..2 {
            let device = cpu(isa, Activations::Int8, 2);
            let mut outcomes = conformance::operations(&device, &portable, Bounds::F32, seed);
            // Of other operations a last bit of what is rounded may already differ.
            outcomes.retain(|outcome| {
                let of = |dtype: &DType| outcome.case.contains(&format!("({dtype},"));
                outcome.case.starts_with("linear") && types.iter().any(of)
            });
            assert_eq!(outcomes.len(), 4 * types.len(), "three parts and a view a type");
            none_failed(&outcomes);
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
    passes(
        &ReferenceDevice::new(BUDGET),
        Bounds { plain: 0.0, blocks: 0.0, half_cache: 0.0, block_cache: 0.0 },
        1,
    );
}
