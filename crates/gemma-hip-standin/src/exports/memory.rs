//! Allocating, copying and filling.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use hip_sys::{
    hipDeviceptr_t, hipErrorInvalidMemcpyDirection, hipErrorNotSupported, hipMemcpyDefault,
    hipMemcpyDeviceToDevice, hipMemcpyDeviceToHost, hipMemcpyHostToDevice, hipMemcpyHostToHost,
    hipMemcpyKind, hipStream_t,
};

use super::{exports, put};
use crate::failure::{Outcome, fail, invalid};
use crate::memory::Kind;
use crate::settings::due;
use crate::state::{DEFAULT_STREAM, State};
use crate::stream::{Command, Source};

/// All flags that `hipHostMalloc` knows.
const HOST_FLAGS: c_uint = 0xe000_0007;
/// All flags that `hipHostRegister` knows.
const REGISTER_FLAGS: c_uint = 15;

exports! {
    fn hipMalloc(place: *mut *mut c_void, size: usize) |state| {
        state.not_in_strict_capture()?;
        let start = state.allocate(size, Kind::Device)?;
        // SAFETY: as the interface says.
        unsafe { put(place, ptr::with_exposed_provenance_mut(start)) }
    }

    fn hipMallocManaged(place: *mut *mut c_void, size: usize, flags: c_uint) |state| {
        state.not_in_strict_capture()?;
        if !(1..=2).contains(&flags) {
            return invalid(format!("flags {flags}"));
        }
        let start = state.allocate(size, Kind::Managed)?;
        // SAFETY: as the interface says.
        unsafe { put(place, ptr::with_exposed_provenance_mut(start)) }
    }

    fn hipHostMalloc(place: *mut *mut c_void, size: usize, flags: c_uint) |state| {
        state.not_in_strict_capture()?;
        if flags & !HOST_FLAGS != 0 {
            return invalid(format!("flags {flags:#x}"));
        }
        let start = state.allocate(size, Kind::Host)?;
        // SAFETY: as the interface says.
        unsafe { put(place, ptr::with_exposed_provenance_mut(start)) }
    }

    fn hipFree(start: *mut c_void) |state| {
        state.not_in_strict_capture()?;
        state.run_all()?;
        state.memory.free(start.addr(), &[Kind::Device, Kind::Managed])
    }

    fn hipHostFree(start: *mut c_void) |state| {
        state.not_in_strict_capture()?;
        state.run_all()?;
        state.memory.free(start.addr(), &[Kind::Host])
    }

    fn hipMallocAsync(place: *mut *mut c_void, size: usize, stream: hipStream_t) |state| {
        state.cannot_be_captured(stream.addr(), "allocating")?;
        let start = state.allocate(size, Kind::Device)?;
        // SAFETY: as the interface says.
        unsafe { put(place, ptr::with_exposed_provenance_mut(start)) }
    }

    fn hipFreeAsync(start: *mut c_void, stream: hipStream_t) |state| {
        state.cannot_be_captured(stream.addr(), "freeing")?;
        if state.memory.find(start.addr(), 1)? != Some(Kind::Device) {
            return invalid(format!("{start:?} is no memory of the device"));
        }
        state.enqueue(stream.addr(), Command::Free(start.addr()))
    }

    fn hipHostRegister(start: *mut c_void, size: usize, flags: c_uint) |state| {
        state.not_in_strict_capture()?;
        if flags > REGISTER_FLAGS {
            return invalid(format!("flags {flags}"));
        }
        state.memory.register(start.expose_provenance(), size)
    }

    fn hipHostUnregister(start: *mut c_void) |state| {
        state.not_in_strict_capture()?;
        state.run_all()?;
        state.memory.unregister(start.addr())
    }

    fn hipHostGetDevicePointer(place: *mut *mut c_void, start: *mut c_void, flags: c_uint) |state| {
        let kind = state.memory.find(start.addr(), 1)?;
        if flags != 0 || !matches!(kind, Some(Kind::Host | Kind::Registered | Kind::Managed)) {
            return invalid(format!("{start:?} is no memory of the host that devices know, or flags {flags}"));
        }
        // SAFETY: as the interface says.
        unsafe { put(place, start) }
    }

    fn hipMemGetInfo(free: *mut usize, total: *mut usize) |state| {
        let bytes = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let budget = state.memory.budget;
        // SAFETY: as the interface says.
        unsafe {
            put(free, bytes(budget.saturating_sub(state.memory.used())))?;
            put(total, bytes(budget))
        }
    }

    fn hipMemcpy(to: *mut c_void, from: *const c_void, size: usize, kind: hipMemcpyKind) |state| {
        state.not_in_capture()?;
        state.copy(to, from, size, kind, DEFAULT_STREAM)?;
        state.run(DEFAULT_STREAM)
    }

    fn hipMemcpyAsync(
        to: *mut c_void,
        from: *const c_void,
        size: usize,
        kind: hipMemcpyKind,
        stream: hipStream_t,
    ) |state| {
        state.copy(to, from, size, kind, stream.addr())
    }

    fn hipMemset(to: *mut c_void, value: c_int, size: usize) |state| {
        state.not_in_capture()?;
        state.fill(to, value, 1, size, DEFAULT_STREAM)?;
        state.run(DEFAULT_STREAM)
    }

    fn hipMemsetAsync(to: *mut c_void, value: c_int, size: usize, stream: hipStream_t) |state| {
        state.fill(to, value, 1, size, stream.addr())
    }

    fn hipMemsetD32Async(to: hipDeviceptr_t, value: c_int, count: usize, stream: hipStream_t) |state| {
        state.fill(to, value, 4, count, stream.addr())
    }
}

impl State {
    fn allocate(&mut self, bytes: usize, kind: Kind) -> Outcome<usize> {
        if let Some(code) = due(&mut self.faults.allocation) {
            return fail(code, "refused, as was set");
        }
        self.memory.allocate(bytes, kind)
    }

    fn copy(
        &mut self,
        to: *mut c_void,
        from: *const c_void,
        bytes: usize,
        kind: hipMemcpyKind,
        stream: usize,
    ) -> Outcome {
        let captured = self.stream(stream)?.capture.is_some();
        if bytes == 0 {
            return Ok(());
        }
        if to.is_null() || from.is_null() {
            return invalid("a copy from or to null");
        }
        let to_device = self.memory.find(to.addr(), bytes)?.is_some();
        let from_device = self.memory.find(from.addr(), bytes)?.is_some();
        check_direction(kind, from_device, to_device)?;
        let source = match (from_device, captured) {
            (true, _) => Source::Device(from.addr()),
            (false, true) => Source::Host(from.expose_provenance()),
            // The program may change its memory once the call is back.
            (false, false) => {
                // SAFETY: the program gives so many bytes to be copied.
                let kept = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
                Source::Kept(Arc::from(kept))
            }
        };
        let to = to.expose_provenance();
        self.enqueue(stream, Command::Copy { to, to_device, from: source, bytes })?;
        // The call comes back when the program's own memory has the bytes.
        if to_device || captured { Ok(()) } else { self.run(stream) }
    }

    fn fill(&mut self, to: *mut c_void, value: c_int, width: usize, count: usize, stream: usize) -> Outcome {
        self.stream(stream)?;
        if count == 0 {
            return Ok(());
        }
        let Some(bytes) = count.checked_mul(width) else {
            return invalid(format!("{count} numbers to fill"));
        };
        if self.memory.find(to.addr(), bytes)?.is_none() {
            return invalid(format!("{to:?} is no memory that devices know"));
        }
        self.enqueue(stream, Command::Fill { to: to.addr(), value: value as u32, width, count })
    }
}

/// Which side has to be known to devices.
fn check_direction(kind: hipMemcpyKind, from_device: bool, to_device: bool) -> Outcome {
    let fits = match kind {
        hipMemcpyHostToHost => return fail(hipErrorNotSupported, "a copy from host to host has no use here"),
        hipMemcpyHostToDevice => to_device,
        hipMemcpyDeviceToHost => from_device,
        hipMemcpyDeviceToDevice => from_device && to_device,
        hipMemcpyDefault => from_device || to_device,
        _ => return fail(hipErrorInvalidMemcpyDirection, format!("{kind} is no direction of a copy")),
    };
    if fits { Ok(()) } else { invalid(format!("a copy of kind {kind}, whose addresses are of another kind")) }
}
