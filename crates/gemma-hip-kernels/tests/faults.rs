//! The emulation finds what is wrong with kernels that are wrong on purpose.

mod support;

use bytemuck::{Pod, Zeroable};
use gemma_hip_kernels::{Address, Launch};
use support::{Bank, Emulator};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Arguments {
    output: Address,
    input: Address,
}

/// What becomes of a launch with 64 values in and out.
fn run(kernel: &str, seed: u64) -> Result<(), String> {
    let mut bank = Bank::default();
    let arguments = Arguments { output: bank.room(64), input: bank.hold(&[1.0_f32; 64]) };
    let launch = Launch::new(kernel, [1, 1, 1], 64, &arguments);
    Emulator::new().run_in_order(&launch, &mut bank, seed)
}

/// The message for every order of work-items.
fn found(kernel: &str, expected: &[&str]) {
    for seed in 0..4 {
        let message = run(kernel, seed).expect_err("it is wrong");
        for part in expected {
            assert!(message.contains(part), "seed {seed}: no {part:?} in\n{message}");
        }
    }
}

#[test]
fn a_missing_barrier() {
    let expected = ["broken_missing_barrier: work-item ", "of block (0, 0, 0): ", "of shared memory, which "];
    found("broken_missing_barrier", &expected);
    // Where the writer has run before, it is the barrier that is missing; otherwise nobody has written yet.
    let messages: Vec<String> =
        (0..4).map(|seed| run("broken_missing_barrier", seed).expect_err("it is wrong")).collect();
    let is_one =
        |message: &String| message.contains("missing barrier") || message.contains("nobody has written");
    assert!(messages.iter().all(is_one), "{messages:?}");
}

#[test]
fn a_divergent_shuffle() {
    found(
        "broken_divergent_shuffle",
        &[
            "broken_divergent_shuffle: divergent shuffle: lane ",
            " is at a shuffle (divergent_shuffle.hip:18)",
            " has returned",
        ],
    );
}

#[test]
fn a_read_out_of_bounds() {
    let expected =
        ["launch of broken_out_of_bounds", "heap-buffer-overflow", "READ of size 4", "out_of_bounds.hip:16"];
    found("broken_out_of_bounds", &expected);
}

#[test]
fn an_early_return_before_a_barrier() {
    let expected = [
        "broken_early_return: early return: work-item ",
        "and 48 of 64 wait at the barrier at early_return.hip:21",
    ];
    found("broken_early_return", &expected);
}

#[test]
fn what_cannot_be_launched() {
    assert!(run("unheard_of", 0).expect_err("it is not there").contains("there is no such kernel"));
    let mut bank = Bank::default();
    let arguments = Arguments { output: bank.room(64), input: bank.room(64) };
    let mut emulator = Emulator::new();
    let launch = Launch::new("broken_early_return", [1, 1, 1], 128, &arguments);
    let message = emulator.run(&launch, &mut bank).expect_err("blocks have 64 work-items");
    assert!(message.contains("blocks of another size"), "{message}");
    let launch = Launch::new("broken_early_return", [1, 1, 1], 64, &arguments.output);
    let message = emulator.run(&launch, &mut bank).expect_err("an argument is missing");
    assert!(message.contains("lacks arguments"), "{message}");
}
