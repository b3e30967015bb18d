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
use support::results::Results;
use support::{alone, attention};

/// Runs the suite; the machine tells what was executed.
fn agrees(
    machine: &Arc<Mutex<Machine>>,
    results: &mut Results,
    activations: Activations,
    bounds: Bounds,
    seed: u64,
) {
    let device = EmulatedDevice::on(Arc::clone(machine), activations, true);
    let outcomes = conformance::operations(&device, &ReferenceDevice::new(1 << 30), bounds, seed);
    results.add_suite(&device, &outcomes);
    let failed: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
}

#[test]
fn machine_code_agrees_with_the_reference() {
    let machine = Arc::new(Mutex::new(Machine::new()));
    let rounded = Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 };
    let mut results = Results::default();
    agrees(&machine, &mut results, Activations::Float32, Bounds::F32, 1);
    agrees(&machine, &mut results, Activations::Rounded, rounded, 2);
    let mut machine = machine.lock().unwrap();
    alone::products_through_matrix_units(&mut *machine, &mut results);
    attention::of_many_rows(&mut *machine, &mut results);
    alone::units_behind_a_cutoff(&mut *machine, &mut results);
    alone::the_largest_logit(&mut *machine, &mut results);
    alone::a_list_of_the_largest_logits(&mut *machine, &mut results);
    let covered = machine.covered();
    results.lines(&covered).iter().for_each(|line| println!("{line}"));
    println!("{} mnemonics: {:?}", machine.mnemonics().len(), machine.mnemonics());
    let missing: Vec<String> =
        machine.kernels().into_iter().filter(|kernel| !covered.contains_key(kernel.as_str())).collect();
    assert!(missing.is_empty(), "not executed: {missing:?}");
}
