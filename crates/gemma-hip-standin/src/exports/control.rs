//! What a test sets and asks, which no HIP runtime has.

use std::ffi::{CStr, c_char, c_int};

use crate::state::state;

/// Applies settings; not 0 where one is none.
// SAFETY: the name is this library's own.
#[unsafe(no_mangle)]
// SAFETY: called with a string that ends.
pub(crate) unsafe extern "C" fn gemma_hip_standin_set(settings: *const c_char) -> c_int {
    // SAFETY: as the caller promises.
    let settings = unsafe { CStr::from_ptr(settings) }.to_string_lossy();
    let mut state = state();
    match state.set(&settings) {
        Ok(()) => 0,
        Err(problem) => {
            state.explain(problem);
            1
        }
    }
}

/// Writes why the last call failed, cut to the room there is, with a zero behind it.
// SAFETY: the name is this library's own.
#[unsafe(no_mangle)]
// SAFETY: called with a place of so many bytes.
pub(crate) unsafe extern "C" fn gemma_hip_standin_message(place: *mut c_char, bytes: usize) {
    let state = state();
    let Some(room) = bytes.checked_sub(1) else { return };
    let message = &state.message().as_bytes()[..state.message().len().min(room)];
    // SAFETY: the place has room for the message and the zero.
    unsafe {
        message.as_ptr().copy_to_nonoverlapping(place.cast(), message.len());
        place.add(message.len()).write(0);
    }
}

/// A count, or the largest number where there is none of the name.
// SAFETY: the name is this library's own.
#[unsafe(no_mangle)]
// SAFETY: called with a string that ends.
pub(crate) unsafe extern "C" fn gemma_hip_standin_count(name: *const c_char) -> u64 {
    // SAFETY: as the caller promises.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    state().count(&name).unwrap_or(u64::MAX)
}
