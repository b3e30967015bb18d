//! Capture, graphs, and what must not be called meanwhile.

#![cfg(target_os = "linux")]

mod common;

use std::ffi::c_void;
use std::ptr;
use std::thread;

use common::{Device, ScaleArguments, extra};
use hip_sys::*;

/// A stream, memory of 4 numbers, and a graph over it: fill with 2, multiply by 3, copy the first number to the last.
fn recorded(device: &Device) -> (hipStream_t, *mut c_void, hipFunction_t, hipGraph_t) {
    let (stream, place) = (device.stream(hipStreamNonBlocking), device.allocate(16));
    let scale = device.function(device.module(), "scale");
    device.write(place, &[0.0; 4]);
    device.begin_capture(stream);
    // SAFETY: the library checks the ranges.
    unsafe {
        device.ok((device.hip.hipMemsetD32Async)(place, 2.0_f32.to_bits() as i32, 3, stream));
        let mut arguments = ScaleArguments { from: place, to: place, count: 3, factor: 3.0 };
        device.ok(device.launch(scale, 1, 64, stream, &mut arguments));
        let last = place.wrapping_byte_add(12);
        device.ok((device.hip.hipMemcpyAsync)(last, place, 4, hipMemcpyDeviceToDevice, stream));
    }
    let graph = device.end_capture(stream).expect("graph");
    (stream, place, scale, graph)
}

fn nodes(device: &Device, graph: hipGraph_t) -> Vec<hipGraphNode_t> {
    let mut count = 0;
    // SAFETY: with no places the number alone is asked for.
    device.ok(unsafe { (device.hip.hipGraphGetNodes)(graph, ptr::null_mut(), &raw mut count) });
    let mut nodes = vec![ptr::null_mut(); count + 1];
    let mut room = nodes.len();
    // SAFETY: there are so many places.
    device.ok(unsafe { (device.hip.hipGraphGetNodes)(graph, nodes.as_mut_ptr(), &raw mut room) });
    assert_eq!((room, nodes.pop()), (count, Some(ptr::null_mut())));
    nodes
}

#[test]
fn what_is_recorded_runs_when_the_graph_does() {
    let device = Device::new();
    let (stream, place, _, graph) = recorded(&device);
    device.ok(device.wait(stream));
    assert_eq!(device.read(place, 4), [0.0; 4]);
    let exec = device.instantiate(graph);
    // SAFETY: the library checks the handle.
    device.ok(unsafe { (device.hip.hipGraphDestroy)(graph) });
    for _ in 0..2 {
        device.ok(device.launch_graph(exec, stream));
        device.ok(device.wait(stream));
        assert_eq!(device.read(place, 4), [6.0; 4]);
    }
    assert_eq!((device.library.count("graphs"), device.library.count("kernels")), (Some(2), Some(2)));
    // SAFETY: the library checks the handles.
    unsafe {
        device.ok((device.hip.hipGraphExecDestroy)(exec));
        device.fails((device.hip.hipGraphExecDestroy)(exec), hipErrorInvalidValue, "destroyed already");
        device.fails((device.hip.hipGraphDestroy)(graph), hipErrorInvalidValue, "was destroyed");
    }
    device.fails(device.launch_graph(exec, stream), hipErrorInvalidValue, "was destroyed");
}

#[test]
fn a_kernel_of_a_graph_gets_other_arguments() {
    let device = Device::new();
    let (stream, place, _, graph) = recorded(&device);
    let (exec, nodes) = (device.instantiate(graph), nodes(&device, graph));
    let kinds: Vec<_> = nodes
        .iter()
        .map(|node| {
            let mut kind = 99;
            // SAFETY: the place lives as long as the call.
            device.ok(unsafe { (device.hip.hipGraphNodeGetType)(*node, &raw mut kind) });
            kind
        })
        .collect();
    assert_eq!(kinds, [hipGraphNodeTypeMemset, hipGraphNodeTypeKernel, hipGraphNodeTypeMemcpy]);

    let nothing = dim3 { x: 0, y: 0, z: 0 };
    let mut params = hipKernelNodeParams {
        blockDim: nothing,
        extra: ptr::null_mut(),
        func: ptr::null_mut(),
        gridDim: nothing,
        kernelParams: ptr::null_mut(),
        sharedMemBytes: 9,
    };
    let (mut arguments, mut bytes) = (ScaleArguments { from: place, to: place, count: 3, factor: 5.0 }, 24);
    let mut list = extra(&mut arguments, &mut bytes);
    // SAFETY: the places live as long as the calls.
    unsafe {
        let (get, set) = (device.hip.hipGraphKernelNodeGetParams, device.hip.hipGraphExecKernelNodeSetParams);
        device.fails(get(nodes[0], &raw mut params), hipErrorInvalidValue, "launches no kernel");
        device.ok(get(nodes[1], &raw mut params));
        assert_eq!((params.gridDim.x, params.blockDim.x, params.sharedMemBytes), (1, 64, 0));
        // The arguments that were recorded, by the pointers that were given out.
        let shown = (*params.extra.add(1)).cast::<ScaleArguments>().read();
        assert_eq!((shown.count, shown.factor), (3, 3.0));

        // A launch that waits already keeps the arguments that it had.
        device.ok(device.launch_graph(exec, stream));
        params.extra = list.as_mut_ptr();
        device.ok(set(exec, nodes[1], &raw const params));
        device.fails(set(exec, nodes[0], &raw const params), hipErrorInvalidValue, "launches no kernel");
        device.ok(device.wait(stream));
        assert_eq!(device.read(place, 4), [6.0; 4]);
        device.ok(device.launch_graph(exec, stream));
        device.ok(device.wait(stream));
        assert_eq!(device.read(place, 4), [10.0; 4]);

        params.blockDim.x = 65;
        device.fails(set(exec, nodes[1], &raw const params), hipErrorLaunchFailure, "compiled for 64");
        let (_, _, _, other) = recorded(&device);
        params.blockDim.x = 64;
        let strange = self::nodes(&device, other)[1];
        device.fails(set(exec, strange, &raw const params), hipErrorInvalidValue, "another graph");
    }
}

#[test]
fn a_graph_is_updated_by_one_of_the_same_shape() {
    let device = Device::new();
    let (stream, place, scale, graph) = recorded(&device);
    let exec = device.instantiate(graph);
    let update = |graph| {
        let (mut node, mut result) = (ptr::null_mut(), 99);
        let update = device.hip.hipGraphExecUpdate.expect("function");
        // SAFETY: the places live as long as the call.
        let code = unsafe { update(exec, graph, &raw mut node, &raw mut result) };
        (code, result)
    };
    let (_, other_place, _, other) = recorded(&device);
    assert_eq!(update(other), (hipSuccess, hipGraphExecUpdateSuccess));
    device.ok(device.launch_graph(exec, stream));
    device.ok(device.wait(stream));
    assert_eq!((device.read(place, 4), device.read(other_place, 4)), (vec![0.0; 4], vec![6.0; 4]));

    device.begin_capture(stream);
    let mut arguments = ScaleArguments { from: place, to: place, count: 3, factor: 3.0 };
    device.ok(device.launch(scale, 1, 64, stream, &mut arguments));
    let short = device.end_capture(stream).expect("graph");
    assert_eq!(update(short), (hipErrorGraphExecUpdateFailure, hipGraphExecUpdateErrorTopologyChanged));
}

fn query(device: &Device, stream: hipStream_t, _: hipEvent_t, _: *mut c_void) -> hipError_t {
    // SAFETY: the library checks the handle.
    unsafe { (device.hip.hipStreamQuery)(stream) }
}

fn synchronize(device: &Device, _: hipStream_t, _: hipEvent_t, _: *mut c_void) -> hipError_t {
    // SAFETY: it has no conditions.
    unsafe { (device.hip.hipDeviceSynchronize)() }
}

fn allocate(device: &Device, _: hipStream_t, _: hipEvent_t, _: *mut c_void) -> hipError_t {
    let mut place = ptr::null_mut();
    // SAFETY: the place lives as long as the call.
    unsafe { (device.hip.hipMalloc)(&raw mut place, 4) }
}

fn free(device: &Device, _: hipStream_t, _: hipEvent_t, place: *mut c_void) -> hipError_t {
    // SAFETY: the library checks the address.
    unsafe { (device.hip.hipFree)(place) }
}

fn fill(device: &Device, _: hipStream_t, _: hipEvent_t, place: *mut c_void) -> hipError_t {
    // SAFETY: the library checks the range.
    unsafe { (device.hip.hipMemset)(place, 0, 4) }
}

fn copy(device: &Device, _: hipStream_t, _: hipEvent_t, place: *mut c_void) -> hipError_t {
    let mut back = 0.0_f32;
    // SAFETY: there are so many bytes on both sides.
    unsafe { (device.hip.hipMemcpy)((&raw mut back).cast(), place, 4, hipMemcpyDeviceToHost) }
}

fn wait_for_event(device: &Device, stream: hipStream_t, event: hipEvent_t, _: *mut c_void) -> hipError_t {
    device.ok(device.record(event, stream));
    // SAFETY: the library checks the handle.
    unsafe { (device.hip.hipEventSynchronize)(event) }
}

#[test]
fn what_does_not_go_with_a_capture_makes_it_worthless() {
    type Call = fn(&Device, hipStream_t, hipEvent_t, *mut c_void) -> hipError_t;
    let calls: [(Call, hipError_t); 8] = [
        (|device, stream, _, _| device.wait(stream), hipErrorStreamCaptureUnsupported),
        (query, hipErrorStreamCaptureUnsupported),
        (synchronize, hipErrorStreamCaptureUnsupported),
        (allocate, hipErrorStreamCaptureUnsupported),
        (free, hipErrorStreamCaptureUnsupported),
        (fill, hipErrorStreamCaptureImplicit),
        (copy, hipErrorStreamCaptureImplicit),
        (wait_for_event, hipErrorCapturedEvent),
    ];
    for (call, code) in calls {
        let device = Device::new();
        let (stream, event, place) =
            (device.stream(hipStreamNonBlocking), device.event(0), device.allocate(4));
        let fill = || {
            // SAFETY: the library checks the range.
            unsafe { (device.hip.hipMemsetAsync)(place, 0, 4, stream) }
        };
        let status = || {
            let mut status = 99;
            // SAFETY: the place lives as long as the call.
            device.ok(unsafe { (device.hip.hipStreamIsCapturing)(stream, &raw mut status) });
            status
        };
        assert_eq!(status(), hipStreamCaptureStatusNone);
        device.begin_capture(stream);
        device.ok(fill());
        assert_eq!(status(), hipStreamCaptureStatusActive);
        assert_eq!(call(&device, stream, event, place), code, "{}", device.library.message());
        assert_eq!(status(), hipStreamCaptureStatusInvalidated);
        assert_eq!(fill(), hipErrorStreamCaptureInvalidated);
        assert_eq!(device.end_capture(stream), Err(hipErrorStreamCaptureInvalidated));
        // The stream is as it was before.
        assert_eq!(status(), hipStreamCaptureStatusNone);
        device.ok(fill());
        device.ok(device.wait(stream));
    }
}

#[test]
fn captures_begin_and_end_in_order() {
    let device = Device::new();
    let (stream, other) = (device.stream(hipStreamNonBlocking), device.stream(hipStreamNonBlocking));
    let begin = |stream, mode| {
        // SAFETY: the library checks the stream.
        unsafe { (device.hip.hipStreamBeginCapture)(stream, mode) }
    };
    assert_eq!(device.end_capture(stream), Err(hipErrorIllegalState));
    assert_eq!(begin(ptr::null_mut(), hipStreamCaptureModeGlobal), hipErrorStreamCaptureUnsupported);
    assert_eq!(begin(stream, 3), hipErrorInvalidValue);
    assert_eq!(begin(stream, hipStreamCaptureModeThreadLocal), hipSuccess);
    assert_eq!(begin(stream, hipStreamCaptureModeGlobal), hipErrorIllegalState);
    // An event that the capture does not know.
    let event = device.event(0);
    device.ok(device.record(event, other));
    // SAFETY: the library checks the handles.
    let code = unsafe { (device.hip.hipStreamWaitEvent)(stream, event, 0) };
    assert_eq!(code, hipErrorStreamCaptureIsolation);
    // Another thread may allocate, and must not end the capture.
    let (hip, handle) = (&device.hip, stream.addr());
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut place, mut graph) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: the places live as long as the calls.
            unsafe {
                assert_eq!((hip.hipMalloc)(&raw mut place, 4), hipSuccess);
                let stream = ptr::without_provenance_mut(handle);
                assert_eq!(
                    (hip.hipStreamEndCapture)(stream, &raw mut graph),
                    hipErrorStreamCaptureWrongThread
                );
            }
        });
    });
    let graph = device.end_capture(stream).expect("graph");
    assert!(nodes(&device, graph).is_empty());
    // A relaxed capture bears what the others do not.
    assert_eq!(begin(stream, hipStreamCaptureModeRelaxed), hipSuccess);
    device.free(device.allocate(4));
    assert!(device.end_capture(stream).is_ok());
}

#[test]
fn a_graph_over_freed_memory_is_found_out() {
    let device = Device::new();
    let (stream, place, _, graph) = recorded(&device);
    let exec = device.instantiate(graph);
    device.free(place);
    device.ok(device.launch_graph(exec, stream));
    device.fails(device.wait(stream), hipErrorIllegalAddress, "freed before it was used");
}
