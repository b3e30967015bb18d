//! Events.

use std::ffi::c_uint;
use std::ptr;

use hip_sys::{
    hipErrorCapturedEvent, hipErrorInvalidHandle, hipErrorNotReady, hipEvent_t, hipEventBlockingSync,
    hipEventDisableTiming, hipStream_t,
};

use super::{exports, put};
use crate::failure::{Outcome, fail, invalid};
use crate::state::State;
use crate::stream::{Command, Event, still_hanging};

exports! {
    fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) |state| {
        if flags & !(hipEventBlockingSync | hipEventDisableTiming) != 0 {
            return invalid(format!("flags {flags:#x}"));
        }
        let timed = flags & hipEventDisableTiming == 0;
        let handle = state.events.insert(Event { timed, turn: 0, stream: 0, reached: None, captured: None });
        // SAFETY: as the interface says.
        unsafe { put(event, ptr::without_provenance_mut(handle)) }
    }

    fn hipEventDestroy(event: hipEvent_t) |state| {
        state.event(event.addr())?;
        state.events.remove(event.addr());
        Ok(())
    }

    fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) |state| {
        let capturing = state.stream(stream.addr())?.capture.is_some();
        let found = state.event(event.addr())?;
        if capturing {
            // It orders the work of a graph; nobody can wait for it.
            found.captured = Some(stream.addr());
            return Ok(());
        }
        found.captured = None;
        found.turn += 1;
        found.stream = stream.addr();
        let turn = found.turn;
        state.enqueue(stream.addr(), Command::Record { event: event.addr(), turn })
    }

    fn hipEventSynchronize(event: hipEvent_t) |state| {
        let turn = waitable(state, event.addr())?;
        state.run_until(event.addr(), turn)
    }

    fn hipEventQuery(event: hipEvent_t) |state| {
        let turn = waitable(state, event.addr())?;
        if turn == 0 || state.event(event.addr())?.is_reached(turn) {
            return Ok(());
        }
        // As a stream is polled: who asks again gets another answer.
        state.run_until(event.addr(), turn).or_else(still_hanging)?;
        fail(hipErrorNotReady, "")
    }

    fn hipEventElapsedTime(ms: *mut f32, start: hipEvent_t, stop: hipEvent_t) |state| {
        let mut times = Vec::new();
        for event in [start.addr(), stop.addr()] {
            let event = state.event(event)?;
            if !event.timed || event.turn == 0 {
                return fail(hipErrorInvalidHandle, "an event without a time, or that was never recorded");
            }
            match event.reached {
                Some((turn, time)) if turn == event.turn => times.push(time),
                _ => return fail(hipErrorNotReady, ""),
            }
        }
        let elapsed = match times.as_slice() {
            [start, stop] if stop >= start => (*stop - *start).as_secs_f32(),
            [start, stop] => -(*start - *stop).as_secs_f32(),
            _ => 0.0,
        };
        // SAFETY: as the interface says.
        unsafe { put(ms, elapsed * 1000.0) }
    }
}

/// The turn to wait for, if nothing stands against waiting.
fn waitable(state: &mut State, handle: usize) -> Outcome<u64> {
    let event = state.event(handle)?;
    let (turn, captured) = (event.turn, event.captured);
    let capture = captured.and_then(|stream| state.streams.get_mut(stream)?.capture.as_mut());
    if let Some(capture) = capture {
        capture.valid = false;
        return fail(hipErrorCapturedEvent, "the event was recorded in a capture");
    }
    Ok(turn)
}
