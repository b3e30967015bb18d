//! [`Shared`]: one output slice that several threads write to, without `unsafe` at the places that write.
//!
//! Threads write scattered values (a few rows of every token), so the slice cannot be cut into one piece for each.

use std::sync::atomic::{AtomicU32, Ordering};

use super::lanes::part;

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

    /// Sets values from `start` on, as fast as memory can.
    ///
    /// # Safety
    /// No other thread touches these values while the slice is shared.
    #[inline(always)]
    pub(super) unsafe fn copy(self, start: usize, values: &[f32]) {
        let target = &self.0[start..start + values.len()];
        // SAFETY: `target` has the length of `values`, AtomicU32 the layout of f32 and room for change behind a shared
        // reference, and the caller vouches that nobody else touches it.
        unsafe {
            let target = target.as_ptr().cast_mut().cast::<f32>();
            std::ptr::copy_nonoverlapping(values.as_ptr(), target, values.len());
        }
    }

    /// Sets `N` values from `start` on, or adds to them where no other thread sets them.
    ///
    /// Relaxed: the end of the parallel region orders this before the caller's reads.
    #[inline(always)]
    pub(super) fn put<const N: usize>(self, start: usize, values: &[f32; N], set: bool) {
        let target: &[AtomicU32; N] = part(self.0, start);
        for (target, value) in target.iter().zip(values) {
            let after = if set { *value } else { f32::from_bits(target.load(Ordering::Relaxed)) + *value };
            target.store(after.to_bits(), Ordering::Relaxed);
        }
    }
}
