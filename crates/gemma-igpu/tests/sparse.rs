//! Layers with a cutoff in plans of one token: runs against those of plans for many, turned copies and their memory.

mod common;

use std::sync::Arc;

use common::{device, device_with, device_with_memory};
use gemma_hal::Device;
use gemma_hal::conformance::{SparseNetwork, nmse};
use gemma_igpu::Activations;

const HIDDEN: usize = 512;
const UNITS: usize = 2048;

#[test]
fn one_token_by_one_gives_what_many_give() {
    let network = SparseNetwork::new(HIDDEN, UNITS);
    for (activations, bound) in [(Activations::Float32, 1e-9), (Activations::Rounded, 1e-3)] {
        let findings = network.findings(&device_with(activations), bound).unwrap();
        assert_eq!(findings, Vec::<String>::new(), "{activations:?}");
    }
}

#[test]
fn without_room_for_a_copy_the_same_comes_out() {
    let network = SparseNetwork::new(HIDDEN, UNITS);
    let plan = network.plan(1, UNITS, 1.5);
    let roomy = device();
    let mut with = roomy.prepare(Arc::clone(&plan)).unwrap();
    let held = roomy.memory().used;
    // Enough for all, but not for the copy within three quarters.
    let tight = device_with_memory(Activations::Float32, held);
    let mut without = tight.prepare(plan).unwrap();
    assert_eq!(tight.memory().used, held - network.matrix_bytes());
    let found = SparseNetwork::run(&tight, without.as_mut()).unwrap();
    let expected = SparseNetwork::run(&roomy, with.as_mut()).unwrap();
    assert!(nmse(&found, &expected) < 1e-9);
}

#[test]
fn plans_and_slices_share_a_copy_and_the_last_one_frees_it() {
    let network = SparseNetwork::new(HIDDEN, UNITS);
    let copy = network.matrix_bytes();
    let device = device_with(Activations::Rounded);
    let many = device.prepare(network.plan(2, UNITS, 1.5)).unwrap();
    let before = device.memory().used;
    let first = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    let one = device.memory().used - before;
    let second = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    assert_eq!(device.memory().used, before + 2 * one - copy, "the second plan has the first one's copy");
    drop(second);
    // Its matrices are others, its copy is the beginning of the first one's.
    let slice = device.prepare(network.plan(1, UNITS / 2, 1.5)).unwrap();
    let with_slice = device.memory().used - before - one;
    drop(first);
    assert!(device.memory().used > before + with_slice, "the copy is still needed");
    drop(slice);
    assert_eq!(device.memory().used, before);
    let slice = device.prepare(network.plan(1, UNITS / 2, 1.5)).unwrap();
    assert_eq!(device.memory().used, before + with_slice + copy / 2, "alone it has half a copy");
    drop((slice, many));
    assert_eq!(device.memory().used, 0);
}
