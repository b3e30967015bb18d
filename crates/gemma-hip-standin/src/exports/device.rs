//! Versions, errors, and the one device, whose name says that it is emulated.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use hip_sys::{
    hipDevice_t, hipDeviceAttribute_t, hipDeviceAttributeAsicRevision, hipDeviceAttributeCanMapHostMemory,
    hipDeviceAttributeClockRate, hipDeviceAttributeComputeCapabilityMajor,
    hipDeviceAttributeComputeCapabilityMinor, hipDeviceAttributeConcurrentManagedAccess,
    hipDeviceAttributeHostRegisterSupported, hipDeviceAttributeIntegrated,
    hipDeviceAttributeKernelExecTimeout, hipDeviceAttributeL2CacheSize, hipDeviceAttributeManagedMemory,
    hipDeviceAttributeMaxGridDimX, hipDeviceAttributeMaxSharedMemoryPerBlock,
    hipDeviceAttributeMaxThreadsPerBlock, hipDeviceAttributeMaxThreadsPerMultiProcessor,
    hipDeviceAttributeMemoryBusWidth, hipDeviceAttributeMemoryClockRate,
    hipDeviceAttributeMemoryPoolsSupported, hipDeviceAttributeMultiprocessorCount,
    hipDeviceAttributePageableMemoryAccess, hipDeviceAttributePciBusId, hipDeviceAttributePciDeviceId,
    hipDeviceAttributePciDomainID, hipDeviceAttributePhysicalMultiProcessorCount, hipDeviceAttributeWarpSize,
    hipError_t, hipErrorInvalidDevice, hipSuccess,
};

use super::{exports, put};
use crate::failure::{Outcome, fail, invalid, words};
use crate::launch::{MAX_BLOCK, MAX_SHARED};
use crate::state::last_error;

const NAME: &CStr = c"gfx1103 emulated on the CPU";
const ARCHITECTURE: &CStr = c"gfx1103";
const PCI: &CStr = c"0000:00:00.0";
/// HIP 6.2, of whose interface this is a part.
const VERSION: c_int = 60_200_000;
/// Bytes of the properties' structure since HIP 6.0, and where fields lie in it.
const PROPERTIES: usize = 1472;
const TOTAL_MEMORY_AT: usize = 288;
const ARCHITECTURE_AT: usize = 1160;
/// Fields that are attributes too: where they lie, and which.
const NUMBERS_AT: [(usize, hipDeviceAttribute_t); 4] = [
    (308, hipDeviceAttributeWarpSize),
    (360, hipDeviceAttributeComputeCapabilityMajor),
    (388, hipDeviceAttributeMultiprocessorCount),
    (396, hipDeviceAttributeIntegrated),
];

/// What is asked of the device; clocks and widths are 0, as there are none.
const ATTRIBUTES: [(hipDeviceAttribute_t, c_int); 25] = [
    (hipDeviceAttributeAsicRevision, 0),
    (hipDeviceAttributeCanMapHostMemory, 1),
    (hipDeviceAttributeClockRate, 0),
    (hipDeviceAttributeComputeCapabilityMajor, 11),
    (hipDeviceAttributeComputeCapabilityMinor, 0),
    (hipDeviceAttributeConcurrentManagedAccess, 0),
    (hipDeviceAttributeHostRegisterSupported, 1),
    (hipDeviceAttributeIntegrated, 1),
    (hipDeviceAttributeKernelExecTimeout, 0),
    (hipDeviceAttributeL2CacheSize, 0),
    (hipDeviceAttributeManagedMemory, 1),
    (hipDeviceAttributeMaxGridDimX, c_int::MAX),
    (hipDeviceAttributeMaxSharedMemoryPerBlock, MAX_SHARED as c_int),
    (hipDeviceAttributeMaxThreadsPerBlock, MAX_BLOCK as c_int),
    (hipDeviceAttributeMaxThreadsPerMultiProcessor, 2048),
    (hipDeviceAttributeMemoryBusWidth, 0),
    (hipDeviceAttributeMemoryClockRate, 0),
    (hipDeviceAttributeMemoryPoolsSupported, 1),
    // Those of a Radeon 780M, which launches are laid out for.
    (hipDeviceAttributeMultiprocessorCount, 6),
    (hipDeviceAttributePhysicalMultiProcessorCount, 12),
    (hipDeviceAttributePageableMemoryAccess, 0),
    (hipDeviceAttributePciBusId, 0),
    (hipDeviceAttributePciDeviceId, 0),
    (hipDeviceAttributePciDomainID, 0),
    (hipDeviceAttributeWarpSize, 32),
];

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipGetErrorName(error: hipError_t) -> *const c_char {
    words(error).0
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipGetErrorString(error: hipError_t) -> *const c_char {
    words(error).1
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipGetLastError() -> hipError_t {
    last_error(true)
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipPeekAtLastError() -> hipError_t {
    last_error(false)
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipDriverGetVersion(version: *mut c_int) -> hipError_t {
    // SAFETY: as the interface says.
    answer(unsafe { put(version, VERSION) })
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipRuntimeGetVersion(version: *mut c_int) -> hipError_t {
    // SAFETY: as the interface says.
    answer(unsafe { put(version, VERSION) })
}

exports! {
    fn hipInit(flags: c_uint) |_state| {
        if flags == 0 { Ok(()) } else { invalid(format!("flags {flags}")) }
    }

    fn hipGetDeviceCount(count: *mut c_int) |_state| {
        // SAFETY: as the interface says.
        unsafe { put(count, 1) }
    }

    fn hipGetDevice(device: *mut c_int) |_state| {
        // SAFETY: as the interface says.
        unsafe { put(device, 0) }
    }

    fn hipSetDevice(device: c_int) |_state| {
        only(device)
    }

    fn hipDeviceGet(device: *mut hipDevice_t, ordinal: c_int) |_state| {
        only(ordinal)?;
        // SAFETY: as the interface says.
        unsafe { put(device, 0) }
    }

    fn hipDeviceGetName(name: *mut c_char, len: c_int, device: hipDevice_t) |_state| {
        only(device)?;
        // SAFETY: as the interface says.
        unsafe { put_text(name, len, NAME) }
    }

    fn hipDeviceGetPCIBusId(name: *mut c_char, len: c_int, device: c_int) |_state| {
        only(device)?;
        // SAFETY: as the interface says.
        unsafe { put_text(name, len, PCI) }
    }

    fn hipDeviceTotalMem(bytes: *mut usize, device: hipDevice_t) |state| {
        only(device)?;
        // SAFETY: as the interface says.
        unsafe { put(bytes, usize::try_from(state.memory.budget).unwrap_or(usize::MAX)) }
    }

    fn hipDeviceGetAttribute(value: *mut c_int, attribute: hipDeviceAttribute_t, device: c_int) |_state| {
        only(device)?;
        // SAFETY: as the interface says.
        unsafe { put(value, number(attribute)?) }
    }

    fn hipGetDevicePropertiesR0600(properties: *mut c_void, device: c_int) |state| {
        only(device)?;
        let mut bytes = [0; PROPERTIES];
        let mut write = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);
        write(0, NAME.to_bytes());
        write(TOTAL_MEMORY_AT, &state.memory.budget.to_ne_bytes());
        write(ARCHITECTURE_AT, ARCHITECTURE.to_bytes());
        for (at, attribute) in NUMBERS_AT {
            write(at, &number(attribute)?.to_ne_bytes());
        }
        // SAFETY: as the interface says.
        unsafe { put(properties.cast::<[u8; PROPERTIES]>(), bytes) }
    }

    fn hipDeviceSynchronize() |state| {
        state.no_capture_at_all()?;
        state.run_all()
    }
}

/// Of functions that need no device, so that a lost one does not matter.
fn answer(outcome: Outcome) -> hipError_t {
    outcome.map_or_else(|failure| failure.code, |()| hipSuccess)
}

fn only(device: c_int) -> Outcome {
    if device == 0 {
        Ok(())
    } else {
        fail(hipErrorInvalidDevice, format!("there is one device, not {device}"))
    }
}

fn number(attribute: hipDeviceAttribute_t) -> Outcome<c_int> {
    match ATTRIBUTES.iter().find(|(known, _)| *known == attribute) {
        Some((_, number)) => Ok(*number),
        None => invalid(format!("attribute {attribute} is not known here")),
    }
}

/// Writes a string with its zero, cut where there is no more room.
///
/// # Safety
/// The place is null or has so many bytes.
unsafe fn put_text(place: *mut c_char, len: c_int, text: &CStr) -> Outcome {
    let Some(room) =
        usize::try_from(len).ok().and_then(|len| len.checked_sub(1)).filter(|_| !place.is_null())
    else {
        return invalid("no place for a name");
    };
    let bytes = &text.to_bytes()[..text.count_bytes().min(room)];
    // SAFETY: the place has room for the bytes and the zero.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len());
        place.add(bytes.len()).write(0);
    }
    Ok(())
}
