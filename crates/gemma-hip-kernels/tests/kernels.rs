//! Kernels that no plan is made of, what code objects say of arguments, and the library that stands in for a GPU.

#![expect(clippy::print_stdout, reason = "what each kernel was off by, for who asks with --nocapture")]

mod support;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;

use gemma_hal::conformance::nmse;
use gemma_hip_kernels::arguments::{RmsNorm, SIZES};
use gemma_hip_kernels::{Address, objects};
use support::alone::{self, values};
use support::results::Results;
use support::{Emulator, attention, build_folder};

/// The largest value of a figure that stands behind each kernel's name in a manifest.
fn figures(manifest: &str, figure: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut name = String::new();
    for line in manifest.lines() {
        match line.split_once(" = ") {
            Some(("name", value)) => value.trim_matches('"').clone_into(&mut name),
            Some((key, value)) if key == figure => found.push((name.clone(), value.parse().unwrap())),
            _ => {}
        }
    }
    found
}

#[test]
fn structures_are_as_large_as_code_objects_say() {
    let path = objects::folder(&build_folder()).join("manifest.toml");
    let manifest = fs::read_to_string(&path).expect("run `cargo xtask build-kernels --hip` first");
    let found = figures(&manifest, "arguments");
    assert!(found.len() >= 160, "{} kernels", found.len());
    for (kernel, bytes) in found {
        let known =
            SIZES.iter().filter(|(name, _)| kernel.starts_with(name)).max_by_key(|(name, _)| name.len());
        let (_, size) = known.unwrap_or_else(|| panic!("{kernel} has no structure"));
        assert_eq!(*size, bytes, "{kernel}");
        assert!(objects::operation_of(&kernel).is_some(), "{kernel} has no operation");
    }
}

#[test]
fn kernels_that_no_plan_is_made_of() {
    let mut emulator = Emulator::new();
    let mut results = Results::default();
    alone::products_through_matrix_units(&mut emulator, &mut results);
    attention::of_many_rows(&mut emulator, &mut results);
    alone::units_behind_a_cutoff(&mut emulator, &mut results);
    alone::the_largest_logit(&mut emulator, &mut results);
    alone::a_list_of_the_largest_logits(&mut emulator, &mut results);
    results.lines(&BTreeMap::new()).iter().for_each(|line| println!("{line}"));
}

/// `gemma_emulated_launch`.
// SAFETY: a type alone; whoever calls it vouches for the pointers.
type Launch = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    *const u32,
    u32,
    *const c_void,
    usize,
    u64,
    *mut c_char,
    usize,
) -> c_int;

#[test]
fn the_library_runs_kernels_on_memory_of_this_process() {
    let path = objects::emulation_folder(&build_folder()).join("libgemma_kernels_emulated.so");
    // SAFETY: the library is ours, and registers its kernels when it is loaded, no more.
    let library =
        unsafe { libloading::Library::new(&path) }.expect("run `cargo xtask build-kernels --hip` first");
    // SAFETY: the library exports a function of this name and type, see kernels/hip/emulation/library.cpp.
    let names = unsafe { library.get::<unsafe extern "C" fn() -> *const c_char>(b"gemma_emulated_kernels") };
    // SAFETY: it takes nothing and gives a string that ends with a zero and stays.
    let names = unsafe { CStr::from_ptr(names.unwrap()()) }.to_str().unwrap();
    assert!(names.lines().any(|name| name == "rms_norm") && !names.contains("broken"));
    let (input, weight) = (values(512, 1), values(256, 2));
    let mut output = vec![f32::NAN; 512];
    let arguments = RmsNorm {
        input: Address(input.as_ptr() as u64),
        weight: Address(weight.as_ptr() as u64),
        output: Address(output.as_mut_ptr() as u64),
        width: 256,
        eps: 1e-6,
    };
    let launch = arguments.launch(2);
    let kernel = CString::new(launch.kernel).unwrap();
    let mut message = [0; 256];
    let run = |block: [u32; 3], message: &mut [c_char]| {
        // SAFETY: as above.
        let function = unsafe { library.get::<Launch>(b"gemma_emulated_launch") }.unwrap();
        // SAFETY: every pointer leads to as much as its count says, and the kernel's addresses to as many values as its shape says.
        unsafe {
            function(
                kernel.as_ptr(),
                launch.grid.as_ptr(),
                block.as_ptr(),
                0,
                launch.arguments.as_ptr().cast(),
                launch.arguments.len(),
                3,
                message.as_mut_ptr(),
                message.len(),
            )
        }
    };
    assert_eq!(run([launch.block, 1, 1], &mut message), 0);
    assert_ne!(run([64, 1, 1], &mut message), 0);
    // SAFETY: the function ends its message with a zero.
    let message = unsafe { CStr::from_ptr(message.as_ptr()) }.to_str().unwrap();
    assert!(message.contains("blocks of another size"), "{message}");
    for (input, output) in input.chunks(256).zip(output.chunks(256)) {
        let mean: f32 = input.iter().map(|x| x * x).sum::<f32>() / 256.0;
        let expected: Vec<f32> =
            input.iter().zip(&weight).map(|(x, w)| x / (mean + 1e-6).sqrt() * w).collect();
        assert!(nmse(output, &expected) < 1e-11);
    }
}
