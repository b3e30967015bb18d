//! [`Buffer`]: memory that the GPU has an address for, given back when it is dropped and no work is left that may use it.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use gemma_hal::DeviceError;
use hip_sys::{
    Hip, hipError_t, hipErrorOutOfMemory, hipErrorRuntimeMemory, hipHostMallocCoherent, hipHostMallocMapped,
    hipHostMallocNonCoherent,
};

use super::card::{Card, Retired};

/// Bytes that every part of a buffer begins on.
pub(crate) const ALIGNMENT: usize = 256;

/// Where memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// With the GPU; where one that shares the host's memory has none of its own left, as [`Placement::Mapped`].
    Device,
    /// With the GPU and nowhere else.
    DeviceAlone,
    /// In the host's memory, for which the GPU has an address and which it may cache: for what is written once.
    Mapped,
    /// In the host's memory, for which the GPU has an address and which it does not cache: for what both write.
    Shared,
}

/// Some memory.
pub(crate) struct Buffer {
    card: Arc<Card>,
    /// As the GPU knows it.
    address: *mut c_void,
    /// As the host knows it.
    host: Option<NonNull<c_void>>,
    bytes: usize,
}

// SAFETY: the memory belongs to the buffer, and the runtime takes addresses from any thread.
unsafe impl Send for Buffer {}
// SAFETY: the host looks at what is behind a shared reference in `write_as_host` and `read_as_host` alone, whose callers promise that
// nobody else does at the time.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Memory that is not cleared.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Unsupported`] where there is no such memory, otherwise what the runtime says.
    pub(super) fn new(
        card: &Arc<Card>,
        what: &str,
        bytes: usize,
        placement: Placement,
    ) -> Result<Self, DeviceError> {
        let room = bytes.max(1).next_multiple_of(ALIGNMENT);
        let mut address = ptr::null_mut();
        if matches!(placement, Placement::Device | Placement::DeviceAlone) {
            allocate(card, "hipMalloc", what, room, |hip| {
                // SAFETY: the place lives as long as the call.
                unsafe { (hip.hipMalloc)(&raw mut address, room) }
            })?;
            return Ok(Self { card: Arc::clone(card), address, host: None, bytes });
        }
        let flags = match placement {
            Placement::Mapped => hipHostMallocMapped | hipHostMallocNonCoherent,
            _ => hipHostMallocMapped | hipHostMallocCoherent,
        };
        allocate(card, "hipHostMalloc", what, room, |hip| {
            // SAFETY: the place lives as long as the call.
            unsafe { (hip.hipHostMalloc)(&raw mut address, room, flags) }
        })?;
        let mut buffer = Self { card: Arc::clone(card), address, host: NonNull::new(address), bytes };
        card.driver.ask("hipHostGetDevicePointer", |hip| {
            // SAFETY: the place lives as long as the call, and the memory was allocated as mapped.
            unsafe { (hip.hipHostGetDevicePointer)(&raw mut buffer.address, address, 0) }
        })?;
        Ok(buffer)
    }

    /// Bytes that were asked for.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// As the GPU knows it.
    pub(super) fn pointer(&self) -> *mut c_void {
        self.address
    }

    /// As the host knows it; null where it does not.
    pub(super) fn host_pointer(&self) -> *mut c_void {
        self.host.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Overwrites bytes. False, and nothing is done, where the host cannot, or there are fewer.
    ///
    /// # Safety
    /// The GPU does not use them at the time, nor does another thread.
    #[must_use]
    pub(crate) unsafe fn write_as_host(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(host) = self.host.filter(|_| offset + bytes.len() <= self.bytes) else { return false };
        // SAFETY: there are so many bytes behind the offset, nobody else uses them, and these are not of them.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), host.as_ptr().cast::<u8>().add(offset), bytes.len());
        }
        true
    }

    /// Copies the first bytes.
    ///
    /// # Panics
    /// When the host cannot read it, or it has fewer bytes.
    ///
    /// # Safety
    /// Neither the GPU nor another thread writes them at the time.
    pub(crate) unsafe fn read_as_host(&self, out: &mut [u8]) {
        let host =
            self.host.filter(|_| out.len() <= self.bytes).expect("memory of the host with as many bytes");
        // SAFETY: there are so many bytes, and nobody writes them.
        unsafe { ptr::copy_nonoverlapping(host.as_ptr().cast::<u8>(), out.as_mut_ptr(), out.len()) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.card.retire(match self.host {
            Some(host) => Retired::Host(host.as_ptr()),
            None => Retired::Device(self.address),
        });
    }
}

/// A call that allocates; the code of an empty memory becomes an error with what was wanted.
fn allocate(
    card: &Card,
    function: &str,
    what: &str,
    bytes: usize,
    call: impl FnOnce(&Hip) -> hipError_t,
) -> Result<(), DeviceError> {
    let mut is_full = false;
    let outcome = card.driver.ask(function, |hip| {
        let code = call(hip);
        is_full = code == hipErrorOutOfMemory || code == hipErrorRuntimeMemory;
        code
    });
    outcome.map_err(|error| if is_full { card.driver.out_of_memory(what, bytes as u64) } else { error })
}
