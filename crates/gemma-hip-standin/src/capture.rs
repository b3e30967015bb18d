//! Capture of a stream, and which calls fail while one is going on, as AMD's runtime has it.
//!
//! One stream a capture: work that another stream would join is refused. Which codes come is from the public sources of HIP 6.2
//! and 7 (`hip_internal.hpp`, `hip_stream.cpp`, `hip_graph.cpp`). There a capture that has become invalid does not end before its stream
//! is destroyed (until <https://github.com/ROCm/rocm-systems/pull/6509>); here it ends with the error, or with `refuse=hipStreamEndCapture` not.

use std::thread::{self, ThreadId};

use hip_sys::{
    hipErrorIllegalState, hipErrorNotSupported, hipErrorStreamCaptureImplicit,
    hipErrorStreamCaptureInvalidated, hipErrorStreamCaptureUnsupported, hipErrorStreamCaptureWrongThread,
    hipStreamCaptureMode, hipStreamCaptureModeGlobal, hipStreamCaptureModeRelaxed,
};

use crate::failure::{Outcome, fail, invalid};
use crate::settings::due;
use crate::state::{DEFAULT_STREAM, State};
use crate::stream::{Command, Stream};

/// A capture that is going on.
pub(crate) struct Capture {
    mode: hipStreamCaptureMode,
    thread: ThreadId,
    pub(crate) commands: Vec<Command>,
    /// False once a call was made that does not go with it.
    pub(crate) valid: bool,
}

impl State {
    /// Begins to capture a stream.
    pub(crate) fn begin_capture(&mut self, handle: usize, mode: hipStreamCaptureMode) -> Outcome {
        let stream = self.stream(handle)?;
        if handle == DEFAULT_STREAM {
            return fail(hipErrorStreamCaptureUnsupported, "the default stream cannot be captured");
        }
        if mode > hipStreamCaptureModeRelaxed {
            return invalid(format!("{mode} is no mode of capture"));
        }
        if stream.capture.is_some() {
            return fail(hipErrorIllegalState, "the stream is captured already");
        }
        stream.capture =
            Some(Capture { mode, thread: thread::current().id(), commands: Vec::new(), valid: true });
        Ok(())
    }

    /// Ends the capture of a stream and gives what was recorded.
    pub(crate) fn end_capture(&mut self, handle: usize) -> Outcome<Vec<Command>> {
        let stream = self.stream(handle)?;
        let Some(capture) = &stream.capture else {
            return fail(hipErrorIllegalState, "the stream is not captured");
        };
        if capture.mode != hipStreamCaptureModeRelaxed && capture.thread != thread::current().id() {
            return fail(hipErrorStreamCaptureWrongThread, "another thread has begun the capture");
        }
        let capture = stream.capture.take();
        if let Some(code) = due(&mut self.faults.capture) {
            return fail(code, "refused, as was set");
        }
        match capture {
            Some(capture) if capture.valid => Ok(capture.commands),
            _ => fail(hipErrorStreamCaptureInvalidated, "a call was made that does not go with a capture"),
        }
    }

    /// For calls that only a relaxed capture bears: allocating, freeing, registering.
    pub(crate) fn not_in_strict_capture(&mut self) -> Outcome {
        let thread = thread::current().id();
        let strict = |capture: &Capture| {
            capture.mode == hipStreamCaptureModeGlobal
                || capture.mode != hipStreamCaptureModeRelaxed && capture.thread == thread
        };
        match self.invalidate(strict) {
            0 => Ok(()),
            _ => fail(hipErrorStreamCaptureUnsupported, "not while a stream is captured"),
        }
    }

    /// For copies and fills that wait, which no capture bears.
    pub(crate) fn not_in_capture(&mut self) -> Outcome {
        match self.invalidate(|_| true) {
            0 => Ok(()),
            _ => fail(hipErrorStreamCaptureImplicit, "a call that waits, while a stream is captured"),
        }
    }

    /// For waiting for the whole device.
    pub(crate) fn no_capture_at_all(&mut self) -> Outcome {
        match self.invalidate(|_| true) {
            0 => Ok(()),
            _ => {
                fail(hipErrorStreamCaptureUnsupported, "the device is waited for while a stream is captured")
            }
        }
    }

    /// For waiting for a stream, or asking how far it is.
    pub(crate) fn can_be_waited_for(&mut self, handle: usize) -> Outcome {
        if handle == DEFAULT_STREAM {
            return Ok(());
        }
        match &mut self.stream(handle)?.capture {
            Some(capture) => {
                capture.valid = false;
                fail(hipErrorStreamCaptureUnsupported, "a stream is waited for while it is captured")
            }
            None => self.not_in_strict_capture(),
        }
    }

    /// For graphs and the like, which could be captured, but not here.
    pub(crate) fn cannot_be_captured(&mut self, handle: usize, what: &str) -> Outcome {
        match self.stream(handle)?.capture {
            Some(_) => fail(hipErrorNotSupported, format!("{what} cannot be captured by this library")),
            None => Ok(()),
        }
    }

    /// Makes captures worthless and says how many.
    fn invalidate(&mut self, concerned: impl Fn(&Capture) -> bool) -> usize {
        let captures = self.streams.values_mut().filter_map(|stream: &mut Stream| stream.capture.as_mut());
        captures.filter(|capture| concerned(capture)).map(|capture| capture.valid = false).count()
    }
}
