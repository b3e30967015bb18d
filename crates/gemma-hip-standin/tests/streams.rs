//! Order of work: streams, events, polling.

#![cfg(target_os = "linux")]

mod common;

use std::ptr;

use common::Device;
use hip_sys::*;

/// Asks for a fill of `count` numbers in a stream.
fn fill(device: &Device, place: *mut std::ffi::c_void, value: f32, count: usize, stream: hipStream_t) {
    // SAFETY: the library checks the range.
    device.ok(unsafe { (device.hip.hipMemsetD32Async)(place, value.to_bits() as i32, count, stream) });
}

#[test]
fn work_is_seen_by_who_has_waited_for_it() {
    let device = Device::new();
    let (stream, place) = (device.stream(hipStreamNonBlocking), device.allocate(4));
    device.write(place, &[1.0]);
    fill(&device, place, 2.0, 1, stream);
    // The stream does not block, so a copy in the default stream does not wait for it.
    assert_eq!(device.read(place, 1), [1.0]);
    device.ok(device.wait(stream));
    assert_eq!(device.read(place, 1), [2.0]);
}

#[test]
fn the_default_stream_and_blocking_ones_wait_for_each_other() {
    let device = Device::new();
    let (stream, place) = (device.stream(hipStreamDefault), device.allocate(4));
    fill(&device, place, 2.0, 1, stream);
    assert_eq!(device.read(place, 1), [2.0]);
    fill(&device, place, 3.0, 1, ptr::null_mut());
    fill(&device, place, 4.0, 1, stream);
    device.ok(device.wait(stream));
    assert_eq!(device.read(place, 1), [4.0]);
}

#[test]
fn a_stream_waits_for_an_event_of_another() {
    let device = Device::new();
    let (first, second) = (device.stream(hipStreamNonBlocking), device.stream(hipStreamNonBlocking));
    let (place, event) = (device.allocate(8), device.event(hipEventDisableTiming));
    fill(&device, place, 1.0, 2, first);
    device.ok(device.record(event, first));
    fill(&device, place, 5.0, 1, first);
    // SAFETY: the library checks the handles and ranges.
    unsafe {
        device.ok((device.hip.hipStreamWaitEvent)(second, event, 0));
        let to = place.wrapping_byte_add(4);
        device.ok((device.hip.hipMemcpyAsync)(to, place, 4, hipMemcpyDeviceToDevice, second));
    }
    device.ok(device.wait(second));
    // What stands behind the event has not run.
    assert_eq!(device.read(place, 2), [1.0, 1.0]);
    // SAFETY: it has no conditions.
    device.ok(unsafe { (device.hip.hipDeviceSynchronize)() });
    assert_eq!(device.read(place, 2), [5.0, 1.0]);
}

#[test]
fn who_polls_sees_that_work_takes_time() {
    let device = Device::new();
    let (stream, place, event) = (device.stream(hipStreamNonBlocking), device.allocate(4), device.event(0));
    // SAFETY: the library checks the handles.
    unsafe {
        let (stream_query, event_query) = (device.hip.hipStreamQuery, device.hip.hipEventQuery);
        assert_eq!([stream_query(stream), event_query(event)], [hipSuccess; 2]);
        fill(&device, place, 2.0, 1, stream);
        assert_eq!([stream_query(stream), stream_query(stream)], [hipErrorNotReady, hipSuccess]);
        device.ok(device.record(event, stream));
        assert_eq!([event_query(event), event_query(event)], [hipErrorNotReady, hipSuccess]);
        // That work is not done is no error to be remembered.
        assert_eq!((device.hip.hipGetLastError)(), hipSuccess);
    }
}

#[test]
fn events_tell_the_time_between_them() {
    let device = Device::new();
    let (stream, place) = (device.stream(hipStreamNonBlocking), device.allocate(1 << 22));
    let (start, stop, untimed) = (device.event(0), device.event(0), device.event(hipEventDisableTiming));
    let mut ms = -1.0;
    let mut elapsed = |start, stop| {
        // SAFETY: the place lives as long as the call.
        unsafe { (device.hip.hipEventElapsedTime)(&raw mut ms, start, stop) }
    };
    device.fails(elapsed(start, stop), hipErrorInvalidHandle, "never recorded");
    device.ok(device.record(start, stream));
    fill(&device, place, 2.0, 1 << 20, stream);
    device.ok(device.record(stop, stream));
    device.ok(device.record(untimed, stream));
    assert_eq!(elapsed(start, stop), hipErrorNotReady);
    // SAFETY: the library checks the handle.
    device.ok(unsafe { (device.hip.hipEventSynchronize)(untimed) });
    device.ok(elapsed(start, stop));
    device.fails(elapsed(start, untimed), hipErrorInvalidHandle, "without a time");
    assert!(ms > 0.0, "{ms}");
}

#[test]
fn the_program_may_change_its_memory_behind_a_copy() {
    let device = Device::new();
    let (stream, place) = (device.stream(hipStreamNonBlocking), device.allocate(4));
    let mut value = [1.0_f32];
    let mut back = [0.0_f32];
    // SAFETY: the values live as long as the calls, after which the library does not use them.
    unsafe {
        let copy = device.hip.hipMemcpyAsync;
        device.ok(copy(place, value.as_ptr().cast(), 4, hipMemcpyHostToDevice, stream));
        value[0] = 2.0;
        device.ok(copy(back.as_mut_ptr().cast(), place, 4, hipMemcpyDeviceToHost, stream));
    }
    assert_eq!((back, value), ([1.0], [2.0]));
}

#[test]
fn what_was_destroyed_is_refused() {
    let device = Device::new();
    let (stream, event, place) = (device.stream(0), device.event(0), device.allocate(4));
    fill(&device, place, 3.0, 1, stream);
    // SAFETY: the library checks the handles.
    unsafe {
        device.ok((device.hip.hipStreamDestroy)(stream));
        // Its work is done first.
        assert_eq!(device.read(place, 1), [3.0]);
        device.fails(device.wait(stream), hipErrorContextIsDestroyed, "was destroyed");
        device.fails((device.hip.hipStreamDestroy)(stream), hipErrorContextIsDestroyed, "was destroyed");
        device.fails((device.hip.hipStreamDestroy)(ptr::null_mut()), hipErrorInvalidHandle, "stays");
        device.ok((device.hip.hipEventDestroy)(event));
        device.fails(device.record(event, ptr::null_mut()), hipErrorInvalidHandle, "was destroyed");
        device.fails((device.hip.hipEventQuery)(event), hipErrorInvalidHandle, "was destroyed");
    }
}
