//! Modules and launches, checked against what the module says of its kernels.

#![cfg(target_os = "linux")]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{Device, OTHER_MODULE, ScaleArguments, extra, folder};
use gemma_hip_standin::StandIn;
use hip_sys::*;

#[test]
fn a_kernel_computes() {
    let device = Device::new();
    let (from, to, stream) =
        (device.allocate(400), device.allocate(400), device.stream(hipStreamNonBlocking));
    let values: Vec<f32> = (0..100_u8).map(f32::from).collect();
    device.write(from, &values);
    let scale = device.function(device.module(), "scale");
    let mut arguments = ScaleArguments { from, to, count: 100, factor: 3.0 };
    device.ok(device.launch(scale, 2, 64, stream, &mut arguments));
    // The arguments were taken with the call.
    arguments.factor = 5.0;
    std::hint::black_box(&arguments);
    device.ok(device.wait(stream));
    assert_eq!(device.read(to, 100), values.iter().map(|value| value * 3.0).collect::<Vec<_>>());
    assert_eq!(device.library.count("kernels"), Some(1));
}

#[test]
fn arguments_are_given_one_by_one_too() {
    let device = Device::new();
    let (mut to, mut count, mut value) = (device.allocate(128), 20_i32, 1.5_f32);
    let fill = device.function(device.module(), "fill");
    let mut params = [(&raw mut to).cast::<c_void>(), (&raw mut count).cast(), (&raw mut value).cast()];
    let launch = |params: *mut *mut c_void, extra| {
        // SAFETY: there is an entry for each argument.
        unsafe {
            let stream = ptr::null_mut();
            (device.hip.hipModuleLaunchKernel)(fill, 1, 1, 1, 32, 1, 1, 0, stream, params, extra)
        }
    };
    device.ok(launch(params.as_mut_ptr(), ptr::null_mut()));
    device.fails(launch(ptr::null_mut(), ptr::null_mut()), hipErrorInvalidValue, "no arguments");
    device.fails(launch(params.as_mut_ptr(), params.as_mut_ptr()), hipErrorInvalidValue, "both ways");
    params[1] = ptr::null_mut();
    device.fails(launch(params.as_mut_ptr(), ptr::null_mut()), hipErrorInvalidValue, "argument 1 is null");
    assert_eq!(device.read(to, 21)[19], 1.5);
    assert!(device.read(to, 21)[20].is_nan());
}

#[test]
fn a_launch_must_fit_its_kernel() {
    let device = Device::new();
    let (place, module) = (device.allocate(256), device.module());
    let (scale, reverse) = (device.function(module, "scale"), device.function(module, "reverse"));
    let right = ScaleArguments { from: place, to: place, count: 1, factor: 1.0 };
    let launch =
        |function, [x, y, z]: [u32; 3], [a, b, c]: [u32; 3], shared, bytes: usize, key: *mut c_void| {
            let (mut arguments, mut bytes) = (right, bytes);
            let mut extra = extra(&mut arguments, &mut bytes);
            extra[2] = key;
            let (stream, params, extra) = (ptr::null_mut(), ptr::null_mut(), extra.as_mut_ptr());
            // SAFETY: the list is a right one, or is refused where its keys are not.
            unsafe {
                (device.hip.hipModuleLaunchKernel)(function, x, y, z, a, b, c, shared, stream, params, extra)
            }
        };
    let size = HIP_LAUNCH_PARAM_BUFFER_SIZE;
    device.ok(launch(scale, [1, 1, 1], [64, 1, 1], 0, 24, size));
    device.ok(launch(scale, [1, 1, 1], [8, 8, 1], 0, 24, size));
    for (function, grid, block, shared, bytes, key, code, words) in [
        (
            scale,
            [1, 1, 1],
            [128, 1, 1],
            0,
            24,
            size,
            hipErrorLaunchFailure,
            "128 work-items, compiled for 64",
        ),
        (
            scale,
            [1, 1, 1],
            [32, 1, 1],
            0,
            24,
            size,
            hipErrorInvalidConfiguration,
            "32 work-items, compiled for 64",
        ),
        (scale, [1, 1, 1], [1024, 2, 1], 0, 24, size, hipErrorInvalidValue, "2048 work-items"),
        (scale, [1, 1, 1], [0, 1, 1], 0, 24, size, hipErrorInvalidConfiguration, "a block of"),
        (scale, [1, 0, 1], [64, 1, 1], 0, 24, size, hipErrorInvalidValue, "a grid of"),
        (scale, [1, 70000, 1], [64, 1, 1], 0, 24, size, hipErrorInvalidValue, "a grid of"),
        (scale, [1 << 30, 1, 1], [64, 1, 1], 0, 24, size, hipErrorInvalidConfiguration, "blocks of"),
        (scale, [1, 1, 1], [64, 1, 1], 65537, 24, size, hipErrorInvalidValue, "65537 bytes of shared memory"),
        (
            reverse,
            [1, 1, 1],
            [32, 1, 1],
            65409,
            8,
            size,
            hipErrorInvalidValue,
            "65537 bytes of shared memory",
        ),
        (
            scale,
            [1, 1, 1],
            [64, 1, 1],
            0,
            20,
            size,
            hipErrorInvalidValue,
            "20 bytes of arguments, its metadata has 24",
        ),
        (scale, [1, 1, 1], [64, 1, 1], 0, 32, size, hipErrorInvalidValue, "32 bytes of arguments"),
        (scale, [1, 1, 1], [64, 1, 1], 0, 24, HIP_LAUNCH_PARAM_END, hipErrorInvalidValue, "entry 2 of extra"),
        (ptr::null_mut(), [1, 1, 1], [64, 1, 1], 0, 24, size, hipErrorInvalidHandle, "no kernel"),
    ] {
        device.fails(launch(function, grid, block, shared, bytes, key), code, words);
    }
}

#[test]
fn a_module_says_what_its_kernels_need() {
    let device = Device::new();
    let module = device.module();
    let reverse = device.function(module, "reverse");
    assert_eq!(reverse, device.function(module, "reverse"));
    for (attribute, number) in [
        (HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 32),
        (HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 128),
        (HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, 0),
    ] {
        let mut value = -1;
        // SAFETY: the place lives as long as the call.
        device.ok(unsafe { (device.hip.hipFuncGetAttribute)(&raw mut value, attribute, reverse) });
        assert_eq!(value, number);
    }
    let mut function = ptr::null_mut();
    // SAFETY: the place and the name live as long as the calls.
    unsafe {
        let find = device.hip.hipModuleGetFunction;
        device.fails(
            find(&raw mut function, module, c"absent".as_ptr()),
            hipErrorNotFound,
            "no kernel absent",
        );
        device.ok((device.hip.hipModuleUnload)(module));
        device.fails(
            find(&raw mut function, module, c"scale".as_ptr()),
            hipErrorInvalidHandle,
            "was unloaded",
        );
        device.fails((device.hip.hipModuleUnload)(module), hipErrorNotFound, "unloaded already");
    }
    device.fails(
        device.launch(reverse, 1, 32, ptr::null_mut(), &mut 0_usize),
        hipErrorInvalidHandle,
        "was unloaded",
    );
}

#[test]
fn what_is_no_module_for_this_device_is_refused() {
    let device = Device::new();
    let (mut module, nothing) = (ptr::null_mut(), [0_u8; 64]);
    // SAFETY: each is a whole code object, or as long as the header of one.
    unsafe {
        let load = device.hip.hipModuleLoadData;
        let other = OTHER_MODULE.as_ptr().cast();
        device.fails(load(&raw mut module, other), hipErrorNoBinaryForGpu, "0x41, not gfx1103");
        device.fails(load(&raw mut module, nothing.as_ptr().cast()), hipErrorInvalidImage, "not an ELF file");
        device.fails(load(&raw mut module, ptr::null()), hipErrorInvalidValue, "no module");
    }
}

#[test]
fn the_emulation_must_be_there_and_know_the_kernel() {
    let device = Device::new();
    let unknown = device.function(device.module(), "unknown");
    let mut place = device.allocate(256);
    let code = device.launch(unknown, 1, 32, ptr::null_mut(), &mut place);
    device.fails(code, hipErrorInvalidDeviceFunction, "has no kernel unknown");

    let library = StandIn::install(&folder()).expect("library");
    library.set("emulation=absent.so").expect("settings");
    let device = Device { hip: Hip::open(library.path()).expect("runtime"), library };
    let reverse = device.function(device.module(), "reverse");
    let code = device.launch(reverse, 1, 32, ptr::null_mut(), &mut place);
    device.fails(code, hipErrorSharedObjectInitFailed, "cargo xtask build-kernels");
}

#[test]
fn what_a_kernel_does_wrong_is_fatal_and_explained() {
    for (count, bytes, code, words) in [
        (-1, 128, hipErrorLaunchFailure, "kernel scale: a count below zero"),
        (
            32,
            124,
            hipErrorIllegalAddress,
            "kernel scale: something was written behind an allocation of 124 bytes",
        ),
    ] {
        let device = Device::new();
        let (from, to) = (device.allocate(256), device.allocate(bytes));
        let scale = device.function(device.module(), "scale");
        let mut arguments = ScaleArguments { from, to, count, factor: 1.0 };
        // The launch is asked for; what it does shows later.
        device.ok(device.launch(scale, 1, 64, ptr::null_mut(), &mut arguments));
        device.fails(device.wait(ptr::null_mut()), code, words);
        // SAFETY: the address is right.
        device.fails(unsafe { (device.hip.hipFree)(from) }, code, words);
    }
}
