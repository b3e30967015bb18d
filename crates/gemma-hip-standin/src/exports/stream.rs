//! Streams and their capture.

use std::ffi::{c_int, c_uint};
use std::ptr;

use hip_sys::{
    hipErrorInvalidHandle, hipErrorNotSupported, hipErrorStreamCaptureIsolation, hipEvent_t, hipGraph_t,
    hipStream_t, hipStreamCaptureMode, hipStreamCaptureStatus, hipStreamCaptureStatusActive,
    hipStreamCaptureStatusInvalidated, hipStreamCaptureStatusNone, hipStreamDefault, hipStreamNonBlocking,
};

use super::{exports, put};
use crate::failure::{fail, invalid};
use crate::state::{DEFAULT_STREAM, State};
use crate::stream::{Command, Stream};

exports! {
    fn hipDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) |_state| {
        // SAFETY: as the interface says.
        unsafe {
            put(least, 1)?;
            put(greatest, -1)
        }
    }

    fn hipStreamCreateWithFlags(stream: *mut hipStream_t, flags: c_uint) |state| {
        let handle = create(state, flags)?;
        // SAFETY: as the interface says.
        unsafe { put(stream, handle) }
    }

    fn hipStreamCreateWithPriority(stream: *mut hipStream_t, flags: c_uint, _priority: c_int) |state| {
        let handle = create(state, flags)?;
        // SAFETY: as the interface says.
        unsafe { put(stream, handle) }
    }

    fn hipStreamDestroy(stream: hipStream_t) |state| {
        if stream.addr() == DEFAULT_STREAM {
            return fail(hipErrorInvalidHandle, "the default stream stays");
        }
        // What a capture has recorded goes with the stream.
        if state.stream(stream.addr())?.capture.is_none() {
            state.run(stream.addr())?;
        }
        state.streams.remove(stream.addr());
        Ok(())
    }

    fn hipStreamSynchronize(stream: hipStream_t) |state| {
        state.can_be_waited_for(stream.addr())?;
        state.run(stream.addr())
    }

    fn hipStreamQuery(stream: hipStream_t) |state| {
        state.can_be_waited_for(stream.addr())?;
        state.poll(stream.addr())
    }

    fn hipStreamWaitEvent(stream: hipStream_t, event: hipEvent_t, flags: c_uint) |state| {
        if flags != 0 {
            return invalid(format!("flags {flags}"));
        }
        let found = state.event(event.addr())?;
        let (turn, captured) = (found.turn, found.captured);
        let capturing = state.stream(stream.addr())?.capture.is_some();
        match (captured, capturing) {
            // Its own work stands before it anyway.
            (Some(origin), true) if origin == stream.addr() => Ok(()),
            (Some(_), _) => fail(hipErrorNotSupported, "captures of several streams are not supported by this library"),
            (None, true) => fail(hipErrorStreamCaptureIsolation, "the event was not recorded in the capture"),
            (None, false) if turn == 0 => Ok(()),
            (None, false) => state.enqueue(stream.addr(), Command::Wait { event: event.addr(), turn }),
        }
    }

    fn hipStreamBeginCapture(stream: hipStream_t, mode: hipStreamCaptureMode) |state| {
        state.begin_capture(stream.addr(), mode)
    }

    fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) |state| {
        // SAFETY: as the interface says.
        unsafe { put(graph, ptr::null_mut()) }?;
        let commands = state.end_capture(stream.addr())?;
        let handle = state.graph_of(commands);
        // SAFETY: as the interface says.
        unsafe { put(graph, ptr::without_provenance_mut(handle)) }
    }

    fn hipStreamIsCapturing(stream: hipStream_t, status: *mut hipStreamCaptureStatus) |state| {
        let found = match &state.stream(stream.addr())?.capture {
            None => hipStreamCaptureStatusNone,
            Some(capture) if capture.valid => hipStreamCaptureStatusActive,
            Some(_) => hipStreamCaptureStatusInvalidated,
        };
        // SAFETY: as the interface says.
        unsafe { put(status, found) }
    }
}

fn create(state: &mut State, flags: c_uint) -> crate::failure::Outcome<hipStream_t> {
    if flags != hipStreamDefault && flags != hipStreamNonBlocking {
        return invalid(format!("flags {flags}"));
    }
    let stream = Stream::new(flags == hipStreamNonBlocking);
    Ok(ptr::without_provenance_mut(state.streams.insert(stream)))
}
