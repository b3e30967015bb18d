//! What machine code must not do is an error that says where.

use gemma_rdna3::{CodeObject, Error, Memory, Problem};

use crate::common::{Arguments, INSTRUCTIONS, compile, in_every_variant, run, words};

/// Runs a kernel of faults on 32 cells.
fn outcome(object: &CodeObject, name: &str, count: i32, seed: u64) -> (Result<(), Error>, u64) {
    let mut memory = Memory::new();
    let cells = memory.allocate_with(&words(&[0; 32]));
    let block = if name == "barrier_too_early" { 64 } else { 32 };
    let arguments = Arguments::default().pointer(cells).word(count);
    (run(object, name, 1, block, arguments, &mut memory, seed).map(|_| ()), cells)
}

#[test]
fn each_is_found_and_named() {
    type Matches = fn(&Problem, u64) -> bool;
    let faults: [(&str, i32, Option<u32>, Matches); 12] = [
        ("past_the_end", 0, Some(31), |problem, cells| {
            *problem == Problem::OutOfBounds { address: cells + 128, bytes: 4, write: true }
        }),
        ("odd_address", 2, Some(0), |problem, cells| {
            *problem == Problem::Misaligned { address: cells + 2, bytes: 4, alignment: 4 }
        }),
        ("unwritten_local", 0, Some(24), |problem, _| matches!(problem, Problem::Undefined(_))),
        ("past_local", 1, Some(31), |problem, _| {
            *problem == Problem::OutsideLds { address: 128, bytes: 4, size: 128 }
        }),
        ("endless", 0, None, |problem, _| *problem == Problem::Limit(INSTRUCTIONS)),
        (
            "not_waited_for",
            0,
            None,
            |problem, _| matches!(problem, Problem::NotWaitedFor(name) if name.starts_with('v')),
        ),
        (
            "scalar_not_waited_for",
            0,
            None,
            |problem, _| matches!(problem, Problem::NotWaitedFor(name) if name.starts_with('s')),
        ),
        ("barrier_too_early", 0, None, |problem, _| *problem == Problem::BarrierBeforeWrites(1)),
        ("unwritten_register", 0, Some(0), |problem, _| matches!(problem, Problem::Undefined(_))),
        ("copies_differ", 0, Some(0), |problem, _| matches!(problem, Problem::Matrix(_))),
        (
            "products_too_near",
            0,
            None,
            |problem, _| matches!(problem, Problem::Matrix(text) if text.contains("v62")),
        ),
        (
            "unknown_instruction",
            0,
            None,
            |problem, _| matches!(problem, Problem::Unknown(words) if words[0] == 0xffff_ffff),
        ),
    ];
    in_every_variant("faults.hip", |object, seed| {
        for (name, count, lane, matches) in faults {
            let (outcome, cells) = outcome(object, name, count, seed);
            let Err(Error::Fault(fault)) = outcome else { panic!("{name}: {outcome:?}") };
            assert!(matches(&fault.problem, cells), "{name}: {fault}");
            assert_eq!((fault.kernel.as_str(), fault.lane), (name, lane), "{fault}");
            assert!(
                fault
                    .to_string()
                    .starts_with(&format!("{name} at {:#x}, {}: ", fault.address, fault.mnemonic))
            );
        }
    });
}

#[test]
fn jumps_out_of_the_kernel_are_found() {
    in_every_variant("faults.hip", |object, seed| {
        let (outcome, _) = outcome(object, "far_jump", 0, seed);
        let Err(Error::Fault(fault)) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(fault.problem, Problem::Jump(_)), "{fault}");
    });
}

#[test]
fn private_memory_is_refused() {
    in_every_variant("faults.hip", |object, seed| {
        let (outcome, _) = outcome(object, "with_private_memory", 0, seed);
        let Err(Error::Launch { problem, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(problem.contains("scratch"), "{problem}");
    });
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let object = CodeObject::parse(&compile("faults.hip", ("gfx1103", "-O3"))).expect("the object");
    let mut memory = Memory::new();
    let cells = memory.allocate(128);
    for (grid, block, what) in [(1, 64, "work-items"), (0, 32, "grid")] {
        let arguments = Arguments::default().pointer(cells).word(0);
        let outcome = run(&object, "past_the_end", grid, block, arguments, &mut memory, 0);
        let Err(Error::Launch { problem, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(problem.contains(what), "{problem}");
    }
}
