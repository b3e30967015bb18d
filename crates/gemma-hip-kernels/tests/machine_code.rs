//! The machine code that ships for the Radeon 780M, against the reference: what the compiler made of each kernel, its matrix
//! fragments, masks and waits included, executed by the interpreter of `gemma-rdna3`.

#![expect(clippy::print_stdout, reason = "what of each kernel was executed, for who asks with --nocapture")]

mod support;

use std::sync::{Arc, Mutex};

use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_hip_kernels::Activations;
use support::device::EmulatedDevice;
use support::machine::Machine;
use support::{alone, attention};

/// Runs the suite; the machine tells what was executed.
fn agrees(machine: &Arc<Mutex<Machine>>, activations: Activations, turns: bool, bounds: Bounds, seed: u64) {
    let device = EmulatedDevice::on(Arc::clone(machine), activations, turns);
    let outcomes = conformance::operations(&device, &ReferenceDevice::new(1 << 30), bounds, seed);
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn machine_code_agrees_with_the_reference() {
    let machine = Arc::new(Mutex::new(Machine::new()));
    let rounded = Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 };
    agrees(&machine, Activations::Float32, true, Bounds::F32, 1);
    agrees(&machine, Activations::Rounded, true, rounded, 2);
    let mut machine = machine.lock().unwrap();
    alone::products_through_matrix_units(&mut *machine);
    attention::of_many_rows(&mut *machine);
    alone::the_largest_logit(&mut *machine);
    alone::a_list_of_the_largest_logits(&mut *machine);
    let covered = machine.covered();
    for (kernel, (executed, all)) in &covered {
        println!("{kernel:<32} {executed:>5} of {all:>5} instructions");
    }
    println!("{} mnemonics: {:?}", machine.mnemonics().len(), machine.mnemonics());
    let missing: Vec<String> =
        machine.kernels().into_iter().filter(|kernel| !covered.contains_key(kernel.as_str())).collect();
    assert!(missing.is_empty(), "not executed: {missing:?}");
}
