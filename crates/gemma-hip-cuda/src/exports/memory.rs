//! Memory and copies. Addresses of host and device are of one space, so that copies need not say which is which.

use std::ffi::{c_int, c_uint, c_void};

use hip_sys::{hipDeviceptr_t, hipError_t, hipMemcpyKind, hipStream_t};

use super::{address, exports, put};
use crate::cuda::{Address, Cuda, code};

/// Flags of host memory that both know, with the same bits: portable, mapped, write-combined.
const HOST_FLAGS: c_uint = 7;

/// Both know portable and mapped memory by the same bits.
const REGISTER_FLAGS: c_uint = 3;

/// The driver's flag of managed memory for all streams, HIP's too.
const GLOBAL: c_uint = 1;

exports! {
    fn hipMalloc(place: *mut *mut c_void, size: usize) |cuda| {
        let allocated = allocated(cuda, |cuda, address| {
            // SAFETY: the place is one of the caller's frame.
            code(unsafe { (cuda.cuMemAlloc_v2)(address, size) })
        })?;
        // SAFETY: as the interface says.
        unsafe { put(place, allocated) }
    }

    fn hipFree(pointer: *mut c_void) |cuda| {
        if pointer.is_null() {
            return Ok(());
        }
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemFree_v2)(address(pointer)) })
    }

    fn hipMallocManaged(place: *mut *mut c_void, size: usize, _flags: c_uint) |cuda| {
        let allocated = allocated(cuda, |cuda, address| {
            // SAFETY: the place is one of the caller's frame.
            code(unsafe { (cuda.cuMemAllocManaged)(address, size, GLOBAL) })
        })?;
        // SAFETY: as the interface says.
        unsafe { put(place, allocated) }
    }

    fn hipHostMalloc(place: *mut *mut c_void, size: usize, flags: c_uint) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemHostAlloc)(place, size, flags & HOST_FLAGS) })
    }

    fn hipHostFree(pointer: *mut c_void) |cuda| {
        if pointer.is_null() {
            return Ok(());
        }
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemFreeHost)(pointer) })
    }

    fn hipHostRegister(pointer: *mut c_void, size: usize, flags: c_uint) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemHostRegister_v2)(pointer, size, flags & REGISTER_FLAGS) })
    }

    fn hipHostUnregister(pointer: *mut c_void) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemHostUnregister)(pointer) })
    }

    fn hipHostGetDevicePointer(place: *mut *mut c_void, pointer: *mut c_void, _flags: c_uint) |cuda| {
        let found = allocated(cuda, |cuda, address| {
            // SAFETY: the place is one of the caller's frame, the pointer is as the interface says.
            code(unsafe { (cuda.cuMemHostGetDevicePointer_v2)(address, pointer, 0) })
        })?;
        // SAFETY: as the interface says.
        unsafe { put(place, found) }
    }

    fn hipMemGetInfo(free: *mut usize, total: *mut usize) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemGetInfo_v2)(free, total) })
    }

    fn hipMemcpy(to: *mut c_void, from: *const c_void, size: usize, _kind: hipMemcpyKind) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemcpy)(address(to), address(from), size) })
    }

    fn hipMemcpyAsync(
        to: *mut c_void,
        from: *const c_void,
        size: usize,
        _kind: hipMemcpyKind,
        stream: hipStream_t,
    ) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemcpyAsync)(address(to), address(from), size, stream.cast()) })
    }

    fn hipMemset(to: *mut c_void, value: c_int, size: usize) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemsetD8_v2)(address(to), value as u8, size) })
    }

    fn hipMemsetAsync(to: *mut c_void, value: c_int, size: usize, stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemsetD8Async)(address(to), value as u8, size, stream.cast()) })
    }

    fn hipMemsetD32Async(to: hipDeviceptr_t, value: c_int, count: usize, stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuMemsetD32Async)(address(to), value.cast_unsigned(), count, stream.cast()) })
    }
}

/// What the driver puts in a place for an address, as a pointer.
fn allocated(
    cuda: &Cuda,
    ask: impl FnOnce(&Cuda, *mut Address) -> Result<(), hipError_t>,
) -> Result<*mut c_void, hipError_t> {
    let mut address = 0;
    ask(cuda, &raw mut address)?;
    Ok(std::ptr::with_exposed_provenance_mut(address as usize))
}
