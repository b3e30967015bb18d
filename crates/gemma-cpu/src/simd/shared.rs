//! [`Shared`]: one output slice that several threads write to, without `unsafe` at the places that write.
//!
//! Threads write scattered values (a few rows of every token), so the slice cannot be cut into one piece for each.

use std::sync::atomic::{AtomicU32, Ordering};

/// f32 values that any thread may set. Two threads that set the same value leave one of the two, nothing worse.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a>(&'a [AtomicU32]);

impl<'a> Shared<'a> {
    /// Shares a slice for as long as it is borrowed.
    pub(super) fn new(values: &'a mut [f32]) -> Self {
        let (start, length) = (values.as_mut_ptr(), values.len());
        // SAFETY: f32 and AtomicU32 have the same size and alignment and both allow every bit pattern. The exclusive
        // borrow lives as long as the shared slice, so all accesses during that time are atomic.
        Self(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU32>(), length) })
    }

    /// Sets one value. Relaxed: the end of the parallel region orders it before the caller's reads.
    #[inline(always)]
    pub(super) fn set(self, index: usize, value: f32) {
        self.0[index].store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to one value that no other thread sets.
    #[inline(always)]
    pub(super) fn add(self, index: usize, value: f32) {
        self.set(index, f32::from_bits(self.0[index].load(Ordering::Relaxed)) + value);
    }
}
