//! Layers with a cutoff in plans of one token, and what plans and slices of one checkpoint share on the GPU.

mod common;

use std::sync::Arc;

use common::{Machine, options};
use gemma_hal::Device;
use gemma_hal::conformance::{SparseNetwork, nmse};
use gemma_hip::{Activations, HipOptions};

const HIDDEN: usize = 256;
const UNITS: usize = 1024;

#[test]
fn one_token_by_one_gives_what_many_give() {
    let (machine, network) = (Machine::new(), SparseNetwork::new(HIDDEN, UNITS));
    for (activations, bound) in [(Activations::Float32, 1e-9), (Activations::Rounded, 1e-3)] {
        let findings = network.findings(&machine.device(activations), bound).unwrap();
        assert_eq!(findings, Vec::<String>::new(), "{activations:?}");
    }
}

#[test]
fn without_room_for_a_turned_copy_the_same_comes_out() {
    let (machine, network) = (Machine::new(), SparseNetwork::new(HIDDEN, UNITS));
    let plan = network.plan(1, UNITS, 1.5);
    let roomy = machine.device_with(&options());
    let mut with = roomy.prepare(Arc::clone(&plan)).unwrap();
    let held = roomy.memory().used;
    // Enough for all, but not for the copy within three quarters.
    let tight = machine.device_with(&HipOptions { memory: held, ..options() });
    let mut without = tight.prepare(plan).unwrap();
    assert!(tight.memory().used <= held - network.matrix_bytes());
    let found = SparseNetwork::run(&tight, without.as_mut()).unwrap();
    let expected = SparseNetwork::run(&roomy, with.as_mut()).unwrap();
    assert!(nmse(&found, &expected) < 1e-9);
}

#[test]
fn plans_and_slices_share_matrices_and_the_last_one_frees_them() {
    let (machine, network) = (Machine::new(), SparseNetwork::new(HIDDEN, UNITS));
    let matrix = network.matrix_bytes();
    let device = machine.device_with(&options());
    let used = || device.memory().used;
    let many = device.prepare(network.plan(2, UNITS, 1.5)).unwrap();
    let matrices = used();
    assert!(matrices > 3 * matrix);
    let first = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    let with_copy = used() - matrices;
    assert!(
        (matrix..2 * matrix).contains(&with_copy),
        "matrices are shared, and a copy is made: {with_copy}"
    );
    let second = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    assert!(used() - matrices < 2 * with_copy - matrix, "so is the copy");
    drop(second);
    // Rows of a slice are the first ones of a matrix, columns are not; and of a turned copy they are.
    let slice = device.prepare(network.plan(1, UNITS / 2, 1.5)).unwrap();
    let of_slice = used() - matrices - with_copy;
    assert!((matrix / 2..matrix).contains(&of_slice), "half of down, and activations: {of_slice}");
    drop((many, first));
    assert!(used() > 3 * matrix, "what the slice needs stays");
    drop(slice);
    assert_eq!(used(), 0);
    drop(device);
    assert_eq!(machine.count("allocations"), 0);
}
