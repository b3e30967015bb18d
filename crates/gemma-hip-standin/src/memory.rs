//! The device's memory, which is the host's: what is allocated, what is known of an address, and guards that show overruns.
//!
//! New memory holds 0xFF bytes, which are NaN as floats of any width, so that nobody counts on zeros. Each allocation has guards
//! before and behind it. Registered memory belongs to the program and counts for nothing.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ptr;

use hip_sys::{
    hipErrorHostMemoryAlreadyRegistered, hipErrorHostMemoryNotRegistered, hipErrorIllegalAddress,
    hipErrorOutOfMemory,
};

use crate::failure::{Outcome, fail, invalid};

/// Bytes of a guard, and the alignment of an allocation.
const GUARD: usize = 256;
/// What guards hold.
const GUARD_BYTE: u8 = 0xc5;
/// What new memory holds.
const NEW_BYTE: u8 = 0xff;
/// The budget where none is set: 4 GiB.
const BUDGET: u64 = 4 << 30;

/// What an allocation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of `hipMalloc` and its like: the host must not touch it, which nothing here can see.
    Device,
    /// Of `hipMallocManaged`.
    Managed,
    /// Of `hipHostMalloc`.
    Host,
    /// Of `hipHostRegister`.
    Registered,
}

/// A range of addresses that devices know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    start: usize,
    bytes: usize,
    kind: Kind,
}

/// All allocations, by address.
pub(crate) struct Memory {
    allocations: BTreeMap<usize, Allocation>,
    used: u64,
    pub(crate) budget: u64,
    /// Of it, for what is not the host's.
    pub(crate) device_budget: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { allocations: BTreeMap::new(), used: 0, budget: BUDGET, device_budget: u64::MAX }
    }
}

impl Memory {
    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Allocations in use, without what is registered.
    pub(crate) fn count(&self) -> u64 {
        self.allocations.values().filter(|allocation| allocation.kind != Kind::Registered).count() as u64
    }

    /// Allocates; no bytes give no address.
    pub(crate) fn allocate(&mut self, bytes: usize, kind: Kind) -> Outcome<usize> {
        if bytes == 0 {
            return Ok(0);
        }
        let mut free = self.budget.saturating_sub(self.used);
        if kind == Kind::Device {
            let devices = self.allocations.values().filter(|allocation| allocation.kind == Kind::Device);
            let used = devices.map(|allocation| allocation.bytes as u64).sum();
            free = free.min(self.device_budget.saturating_sub(used));
        }
        if bytes as u64 > free {
            return fail(
                hipErrorOutOfMemory,
                format!("{bytes} bytes asked for, {free} of {} free", self.budget),
            );
        }
        let Some(layout) = layout(bytes) else { return fail(hipErrorOutOfMemory, format!("{bytes} bytes")) };
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(layout) };
        if block.is_null() {
            return fail(hipErrorOutOfMemory, format!("the host has no {bytes} bytes"));
        }
        // SAFETY: the block has two guards and `bytes` bytes in between.
        unsafe {
            ptr::write_bytes(block, GUARD_BYTE, GUARD);
            ptr::write_bytes(block.add(GUARD), NEW_BYTE, bytes);
            ptr::write_bytes(block.add(GUARD + bytes), GUARD_BYTE, GUARD);
        }
        let start = block.expose_provenance() + GUARD;
        self.allocations.insert(start, Allocation { start, bytes, kind });
        self.used += bytes as u64;
        Ok(start)
    }

    /// Gives back what was allocated as one of these kinds. No address is nothing to give back.
    pub(crate) fn free(&mut self, start: usize, kinds: &[Kind]) -> Outcome {
        if start == 0 {
            return Ok(());
        }
        let Some(allocation) = self.allocations.get(&start).copied() else {
            return invalid(format!("{start:#x} was not allocated, or was freed already"));
        };
        if !kinds.contains(&allocation.kind) {
            return invalid(format!("{start:#x} was allocated as {:?}", allocation.kind));
        }
        let guards = allocation.check();
        self.allocations.remove(&start);
        self.used -= allocation.bytes as u64;
        if let Some(layout) = layout(allocation.bytes) {
            // SAFETY: `allocate` made the block with this layout, one guard before its start; nothing knows it any more.
            unsafe { dealloc(ptr::with_exposed_provenance_mut(start - GUARD), layout) };
        }
        guards
    }

    /// Makes memory of the program known.
    pub(crate) fn register(&mut self, start: usize, bytes: usize) -> Outcome {
        if start == 0 || bytes == 0 || start.checked_add(bytes).is_none() {
            return invalid(format!("{bytes} bytes at {start:#x} cannot be registered"));
        }
        let before = self.allocations.range(..start + bytes).next_back();
        if before.is_some_and(|(_, other)| other.start + other.bytes > start) {
            return fail(hipErrorHostMemoryAlreadyRegistered, format!("{start:#x} is known already"));
        }
        self.allocations.insert(start, Allocation { start, bytes, kind: Kind::Registered });
        Ok(())
    }

    /// Forgets memory of the program.
    pub(crate) fn unregister(&mut self, start: usize) -> Outcome {
        match self.allocations.get(&start) {
            Some(allocation) if allocation.kind == Kind::Registered => {
                self.allocations.remove(&start);
                Ok(())
            }
            _ => fail(hipErrorHostMemoryNotRegistered, format!("{start:#x} is not registered")),
        }
    }

    /// What the address belongs to; nothing where devices do not know it.
    ///
    /// # Errors
    /// Where the range begins in an allocation and ends behind it.
    pub(crate) fn find(&self, address: usize, bytes: usize) -> Outcome<Option<Kind>> {
        let Some((_, found)) = self.allocations.range(..=address).next_back() else { return Ok(None) };
        let offset = address - found.start;
        if offset >= found.bytes {
            return Ok(None);
        }
        if bytes > found.bytes - offset {
            let problem = format!("{bytes} bytes from {offset} on of an allocation of {} bytes", found.bytes);
            return invalid(problem);
        }
        Ok(Some(found.kind))
    }

    /// Whether something was written beside an allocation.
    pub(crate) fn check(&self) -> Outcome {
        self.allocations.values().try_for_each(Allocation::check)
    }
}

impl Allocation {
    fn check(&self) -> Outcome {
        if self.kind == Kind::Registered {
            return Ok(());
        }
        for (side, guard) in [("before", self.start - GUARD), ("behind", self.start + self.bytes)] {
            // SAFETY: `allocate` made a guard there, which stays as long as the allocation.
            let guard =
                unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(guard), GUARD) };
            if guard != [GUARD_BYTE; GUARD] {
                let problem = format!("something was written {side} an allocation of {} bytes", self.bytes);
                return fail(hipErrorIllegalAddress, problem);
            }
        }
        Ok(())
    }
}

/// Of a block with its guards; none where there is no such size.
fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.checked_add(2 * GUARD)?, GUARD).ok()
}

#[cfg(test)]
mod tests {
    use hip_sys::{hipError_t, hipErrorInvalidValue};

    use super::*;

    fn code<T>(outcome: Outcome<T>) -> Option<hipError_t> {
        outcome.err().map(|failure| failure.code)
    }

    #[test]
    fn memory_is_taken_from_the_budget_and_given_back() {
        let mut memory = Memory { budget: 1000, ..Memory::default() };
        let start = memory.allocate(600, Kind::Device).expect("memory");
        assert_eq!((memory.used(), memory.count(), start % GUARD), (600, 1, 0));
        assert_eq!(code(memory.allocate(401, Kind::Managed)), Some(hipErrorOutOfMemory));
        assert_eq!(code(memory.allocate(usize::MAX, Kind::Managed)), Some(hipErrorOutOfMemory));
        assert_eq!(memory.allocate(0, Kind::Device), Ok(0));
        assert_eq!(code(memory.free(start, &[Kind::Host])), Some(hipErrorInvalidValue));
        assert_eq!(memory.free(start, &[Kind::Device]), Ok(()));
        assert_eq!(code(memory.free(start, &[Kind::Device])), Some(hipErrorInvalidValue));
        assert_eq!((memory.used(), memory.free(0, &[Kind::Device])), (0, Ok(())));
    }

    #[test]
    fn ranges_end_with_their_allocation() {
        let mut memory = Memory::default();
        let start = memory.allocate(100, Kind::Host).expect("memory");
        assert_eq!(memory.find(start + 60, 40), Ok(Some(Kind::Host)));
        assert_eq!(code(memory.find(start + 60, 41)), Some(hipErrorInvalidValue));
        assert_eq!(memory.find(start + 100, 1), Ok(None));
        assert_eq!(memory.find(start - 1, 1), Ok(None));
        assert_eq!(memory.free(start, &[Kind::Host]), Ok(()));
    }

    #[test]
    fn memory_of_the_program_is_registered_once() {
        let mut memory = Memory::default();
        assert_eq!(memory.register(5000, 100), Ok(()));
        for (start, bytes) in [(4990, 11), (5099, 1), (5000, 100), (4000, 5000)] {
            assert_eq!(code(memory.register(start, bytes)), Some(hipErrorHostMemoryAlreadyRegistered));
        }
        assert_eq!((memory.register(4990, 10), memory.register(5100, 1)), (Ok(()), Ok(())));
        assert_eq!((memory.used(), memory.count()), (0, 0));
        assert_eq!(code(memory.free(5000, &[Kind::Device])), Some(hipErrorInvalidValue));
        assert_eq!(memory.unregister(5000), Ok(()));
        assert_eq!(code(memory.unregister(5000)), Some(hipErrorHostMemoryNotRegistered));
        assert_eq!(code(memory.register(usize::MAX, 2)), Some(hipErrorInvalidValue));
    }

    #[test]
    fn an_overrun_is_seen() {
        for offset in [-1_isize, 8] {
            let mut memory = Memory::default();
            let start = memory.allocate(8, Kind::Device).expect("memory");
            assert_eq!(memory.check(), Ok(()));
            // SAFETY: the guard is there.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(start).offset(offset).write(0) };
            assert_eq!(code(memory.check()), Some(hipErrorIllegalAddress));
            assert_eq!(code(memory.free(start, &[Kind::Device])), Some(hipErrorIllegalAddress));
        }
    }
}
