//! Streams, events, and the capture of streams.

use std::ffi::{c_int, c_uint};

use hip_sys::{
    hipEvent_t, hipEventBlockingSync, hipEventDisableTiming, hipGraph_t, hipStream_t, hipStreamCaptureMode,
    hipStreamCaptureStatus,
};

use super::exports;
use crate::cuda::code;

/// Flags of events that both know, with the same bits.
const EVENT_FLAGS: c_uint = hipEventBlockingSync | hipEventDisableTiming;

exports! {
    fn hipDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuCtxGetStreamPriorityRange)(least, greatest) })
    }

    fn hipStreamCreateWithFlags(stream: *mut hipStream_t, flags: c_uint) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamCreate)(stream.cast(), flags) })
    }

    fn hipStreamCreateWithPriority(stream: *mut hipStream_t, flags: c_uint, priority: c_int) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamCreateWithPriority)(stream.cast(), flags, priority) })
    }

    fn hipStreamDestroy(stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamDestroy_v2)(stream.cast()) })
    }

    fn hipStreamSynchronize(stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamSynchronize)(stream.cast()) })
    }

    fn hipStreamQuery(stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamQuery)(stream.cast()) })
    }

    fn hipStreamWaitEvent(stream: hipStream_t, event: hipEvent_t, flags: c_uint) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamWaitEvent)(stream.cast(), event.cast(), flags) })
    }

    fn hipStreamBeginCapture(stream: hipStream_t, mode: hipStreamCaptureMode) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamBeginCapture_v2)(stream.cast(), mode) })
    }

    fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamEndCapture)(stream.cast(), graph.cast()) })
    }

    fn hipStreamIsCapturing(stream: hipStream_t, status: *mut hipStreamCaptureStatus) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuStreamIsCapturing)(stream.cast(), status) })
    }

    fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuEventCreate)(event.cast(), flags & EVENT_FLAGS) })
    }

    fn hipEventDestroy(event: hipEvent_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuEventDestroy_v2)(event.cast()) })
    }

    fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuEventRecord)(event.cast(), stream.cast()) })
    }

    fn hipEventSynchronize(event: hipEvent_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuEventSynchronize)(event.cast()) })
    }

    fn hipEventQuery(event: hipEvent_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuEventQuery)(event.cast()) })
    }

    fn hipEventElapsedTime(milliseconds: *mut f32, start: hipEvent_t, stop: hipEvent_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuEventElapsedTime)(milliseconds, start.cast(), stop.cast()) })
    }
}
