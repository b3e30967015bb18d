//! Faults that are asked for: each comes where it was set, and with the code that was set.

#![cfg(target_os = "linux")]

mod common;

use std::env;
use std::process::Command;
use std::ptr;

use common::{Device, ScaleArguments};
use hip_sys::*;

/// Set in a process whose settings come from its environment.
const CHILD: &str = "GEMMA_HIP_STANDIN_TEST_CHILD";

/// A device with a stream and a launch that can be repeated.
fn ready(settings: &str) -> (Device, hipStream_t, impl Fn(&Device, hipStream_t) -> hipError_t) {
    let device = Device::new();
    let (stream, place) = (device.stream(hipStreamNonBlocking), device.allocate(256));
    let scale = device.function(device.module(), "scale");
    device.library.set(settings).expect("settings");
    let launch = move |device: &Device, stream| {
        let mut arguments = ScaleArguments { from: place, to: place, count: 1, factor: 1.0 };
        device.launch(scale, 1, 64, stream, &mut arguments)
    };
    (device, stream, launch)
}

#[test]
fn an_allocation_fails() {
    let (device, _, _) = ready("fail-allocation=2");
    let allocate = || {
        let mut place = ptr::null_mut();
        // SAFETY: the place lives as long as the call.
        unsafe { (device.hip.hipMalloc)(&raw mut place, 16) }
    };
    assert_eq!([allocate(), allocate(), allocate()], [hipSuccess, hipErrorOutOfMemory, hipSuccess]);
}

#[test]
fn a_launch_is_refused() {
    let (device, stream, launch) = ready("fail-launch=2:701");
    let codes = [launch(&device, stream), launch(&device, stream), launch(&device, stream)];
    assert_eq!(codes, [hipSuccess, hipErrorLaunchOutOfResources, hipSuccess]);
    device.ok(device.wait(stream));
    assert_eq!(device.library.count("kernels"), Some(2));
}

#[test]
fn a_function_is_refused() {
    let (device, _, _) = ready("refuse=hipMallocManaged;refuse=hipHostRegister:1");
    let (mut place, mut value) = (ptr::null_mut(), 0_u64);
    // SAFETY: the places live as long as the calls.
    unsafe {
        let allocate = device.hip.hipMallocManaged;
        device.fails(allocate(&raw mut place, 4, hipMemAttachGlobal), hipErrorNotSupported, "as was set");
        let code = (device.hip.hipHostRegister)((&raw mut value).cast(), 8, hipHostRegisterMapped);
        device.fails(code, hipErrorInvalidValue, "hipHostRegister: refused");
        device.library.set("reset").expect("settings");
        device.ok(allocate(&raw mut place, 4, hipMemAttachGlobal));
    }
}

#[test]
fn the_device_is_lost() {
    for (settings, code) in [("lose-device=2", hipErrorLaunchFailure), ("lose-device=2:999", hipErrorUnknown)]
    {
        let (device, stream, launch) = ready(settings);
        device.ok(launch(&device, stream));
        device.ok(device.wait(stream));
        // Nobody knows of it before somebody waits.
        device.ok(launch(&device, stream));
        device.fails(device.wait(stream), code, "the device is lost");
        let (mut count, mut place) = (0, ptr::null_mut());
        // SAFETY: the places live as long as the calls.
        unsafe {
            assert_eq!((device.hip.hipGetDeviceCount)(&raw mut count), code);
            assert_eq!((device.hip.hipMalloc)(&raw mut place, 4), code);
            assert_eq!((device.hip.hipDeviceSynchronize)(), code);
            assert_eq!((device.hip.hipStreamDestroy)(stream), code);
            assert_eq!((device.hip.hipGetLastError)(), code);
        }
        assert_eq!(launch(&device, stream), code);
        device.library.set("reset").expect("settings");
        device.ok(launch(&device, stream));
        device.ok(device.wait(stream));
    }
}

#[test]
fn a_graph_counts_as_one_launch() {
    let (device, stream, launch) = ready("");
    device.begin_capture(stream);
    for _ in 0..3 {
        device.ok(launch(&device, stream));
    }
    let exec = device.instantiate(device.end_capture(stream).expect("graph"));
    device.library.set("fail-launch=1;lose-device=2").expect("settings");
    assert_eq!(device.launch_graph(exec, stream), hipErrorLaunchFailure);
    device.ok(device.launch_graph(exec, stream));
    device.fails(device.wait(stream), hipErrorLaunchFailure, "the device is lost");
    assert_eq!(device.library.count("kernels"), Some(0));
}

#[test]
fn a_capture_ends_without_a_graph_or_does_not_end() {
    let (device, stream, launch) = ready("fail-capture=1");
    device.begin_capture(stream);
    device.ok(launch(&device, stream));
    assert_eq!(device.end_capture(stream), Err(hipErrorStreamCaptureInvalidated));
    device.ok(launch(&device, stream));
    device.ok(device.wait(stream));
    assert_eq!(device.library.count("kernels"), Some(1), "the one outside of it");
    device.library.set("refuse=hipStreamEndCapture:901").expect("settings");
    device.begin_capture(stream);
    assert_eq!(device.end_capture(stream), Err(hipErrorStreamCaptureInvalidated));
    assert_eq!(device.wait(stream), hipErrorStreamCaptureUnsupported);
    // It goes with its stream.
    // SAFETY: the library checks the handle.
    device.ok(unsafe { (device.hip.hipStreamDestroy)(stream) });
    let other = device.stream(hipStreamNonBlocking);
    device.ok(launch(&device, other));
    device.ok(device.wait(other));
}

#[test]
fn a_launch_never_ends() {
    let (device, stream, launch) = ready("hang=1");
    let event = device.event(0);
    device.ok(launch(&device, stream));
    device.ok(device.record(event, stream));
    for _ in 0..3 {
        // SAFETY: the library checks the handles.
        let codes = unsafe { [(device.hip.hipStreamQuery)(stream), (device.hip.hipEventQuery)(event)] };
        assert_eq!(codes, [hipErrorNotReady; 2]);
    }
    // AMD's runtime would wait for ever, which no test wants to.
    device.fails(device.wait(stream), hipErrorLaunchTimeOut, "never ends");
    device.library.set("reset").expect("settings");
    device.ok(launch(&device, stream));
    device.ok(device.wait(stream));
}

/// In processes of their own, as the environment is the whole process's.
#[test]
fn settings_come_from_the_environment() {
    if let Some(mode) = env::var_os(CHILD) {
        let device = Device::new_without_settings();
        let (mut free, mut total) = (0, 0);
        // SAFETY: the places live as long as the call.
        let code = unsafe { (device.hip.hipMemGetInfo)(&raw mut free, &raw mut total) };
        if mode == "good" {
            device.ok(code);
            assert_eq!(total, 12345);
        } else {
            device.fails(code, hipErrorNotInitialized, "GEMMA_HIP_STANDIN: memory=much is no setting");
        }
        return;
    }
    for (mode, settings) in [("good", "memory=12345"), ("bad", "memory=much")] {
        let mut child = Command::new(env::current_exe().expect("path"));
        child.args(["--exact", "settings_come_from_the_environment"]);
        child.env(CHILD, mode).env("GEMMA_HIP_STANDIN", settings);
        let output = child.output().expect("process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
