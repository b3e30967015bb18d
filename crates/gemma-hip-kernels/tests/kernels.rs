//! Kernels that no plan is made of, what code objects say of arguments, and the library that stands in for a GPU.

mod support;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;

use gemma_hal::conformance::nmse;
use gemma_hal::random::SplitMix64;
use gemma_hal::{DType, Storage, Weight, block, planes};
use gemma_hip_kernels::arguments::{
    ActivationHalf, Argmax, Gemm, Method, RmsNorm, SIZES, ShortlistBound, ShortlistCollect, ShortlistMaxima,
};
use gemma_hip_kernels::{Activations, Address, Planes, objects};
use support::{Bank, Emulator, build_folder};

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..count).map(|_| 2.0 * random.next_unit() - 1.0).collect()
}

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
fn matrix_units_take_blocks_in_f16_too() {
    let (rows, columns, tokens) = (150, 512, 70);
    let mut emulator = Emulator::new();
    for dtype in DType::ALL.into_iter().filter(|dtype| *dtype != DType::F32) {
        let stored: Vec<u8> = values(rows * columns, 1)
            .chunks(columns)
            .flat_map(|row| block::quantise_row(dtype, row))
            .collect();
        let weight = Weight::new(Storage::new("weight", stored), 0, rows, columns, dtype).unwrap();
        let packed = planes::pack(&weight, 0..rows);
        let input = values(tokens * columns, 2);
        let mut bank = Bank::default();
        let mut plane = |words: &[u32]| if words.is_empty() { Address::NULL } else { bank.hold(words) };
        let place =
            Planes { words: plane(&packed.words), scales: plane(&packed.scales), high: plane(&packed.high) };
        let halves = bank.hold(&vec![0xff_u8; ActivationHalf::bytes(columns, tokens)]);
        let (from, output) = (bank.hold(&input), bank.room(tokens * rows));
        let half = ActivationHalf {
            input: from,
            output: halves,
            columns: columns as u32,
            input_stride: columns as u32,
        };
        emulator.run(&half.launch(tokens), &mut bank).unwrap();
        let gemm = Gemm {
            weight: place,
            input: halves,
            blocks: Address::NULL,
            output,
            first: 0,
            rows: rows as u32,
            columns: columns as u32,
            tokens: tokens as u32,
            output_stride: rows as u32,
            input_stride: 0,
        };
        emulator.run(&gemm.launch(dtype, Method::Half), &mut bank).unwrap();
        let mut row = vec![0.0; columns];
        let mut expected = vec![0.0; tokens * rows];
        for r in 0..rows {
            block::dequantise_row(dtype, weight.row(r), &mut row);
            for (t, x) in input.chunks(columns).enumerate() {
                let sum: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                expected[t * rows + r] = sum as f32;
            }
        }
        let error = nmse(&bank.read(output), &expected);
        assert!(error < 1e-6, "{dtype}: {error:.1e}");
    }
    assert_eq!(Method::of(DType::Q4_0, Activations::Rounded), Method::Int8);
}

/// A row of logits with equal ones, both zeros, infinities, and where wanted no number.
fn logits(count: usize, with_nan: bool) -> Vec<f32> {
    let mut all: Vec<f32> = values(count, 9).iter().map(|x| (x * 40.0).round() / 2.0).collect();
    all[17] = f32::NEG_INFINITY;
    all[count - 3] = 30.0;
    all[count / 2] = 30.0;
    if with_nan {
        all[5] = f32::NAN;
    }
    all
}

#[test]
fn the_largest_logit() {
    let mut emulator = Emulator::new();
    for (count, with_nan) in [(40, false), (1000, false), (5001, false), (5001, true)] {
        let all = logits(count, with_nan);
        let mut bank = Bank::default();
        let (values, result) = (bank.hold(&all), bank.hold(&[7_u32; 2]));
        let argmax = Argmax { values, result, count: count as u32, padding: 0 };
        emulator.run(&argmax.launch(), &mut bank).unwrap();
        let expected = if with_nan { 5 } else { count / 2 };
        assert_eq!(bank.read::<u32>(result), [expected as u32, all[expected].to_bits()]);
    }
}

#[test]
fn a_list_of_the_largest_logits() {
    let mut emulator = Emulator::new();
    let (count, wanted, room) = (20_000, 40, 1024);
    let all: Vec<f32> = values(count, 4).iter().map(|x| x * 20.0).collect();
    let groups = ShortlistMaxima::groups(count);
    let mut bank = Bank::default();
    let (values, maxima) = (bank.hold(&all), bank.hold(&vec![7_u32; groups]));
    let (counter, bound) = (bank.hold(&[7_u32]), bank.hold(&[7_u32]));
    let entries = bank.hold(&vec![7_u32; 2 * room]);
    let length = count as u32;
    let launches = [
        ShortlistMaxima { values, maxima, count: length, padding: 0 }.launch(),
        ShortlistBound { maxima, counter, bound, wanted: wanted as u32, count: groups as u32 }.launch(),
        ShortlistCollect { values, bound, counter, entries, count: length, room: room as u32 }.launch(),
    ];
    for launch in launches {
        emulator.run(&launch, &mut bank).unwrap();
    }
    let listed = bank.read::<u32>(counter)[0] as usize;
    assert!((wanted..=room).contains(&listed), "{listed}");
    let words = bank.read::<u32>(entries);
    let mut found: Vec<(u32, u32)> = words.chunks(2).take(listed).map(|entry| (entry[0], entry[1])).collect();
    found.sort_by(|a, b| f32::from_bits(b.1).total_cmp(&f32::from_bits(a.1)));
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| all[*b].total_cmp(&all[*a]));
    let expected = order[..wanted].iter().map(|index| (*index as u32, all[*index].to_bits()));
    assert!(found[..wanted].iter().copied().eq(expected));
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
