//! Versions, errors, and the first GPU.

use std::ffi::{c_char, c_int, c_uint, c_void};
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
    hipError_t, hipErrorInvalidDevice, hipErrorInvalidValue, hipSuccess,
};

use super::{LAST, Outcome, exports, put};
use crate::cuda::{Cuda, code, cuda};

/// HIP 6.2, of whose interface this is a part.
const VERSION: c_int = 60_200_000;

/// What the device is asked for as.
const ARCHITECTURE: &[u8] = b"gfx1103";

/// What stands behind the GPU's name.
const WHAT_IT_IS: &[u8] = b" through CUDA, not an AMD GPU";

/// Bytes of a name, its zero included.
const NAME_BYTES: usize = 256;

/// Bytes of the properties' structure since HIP 6.0, and where fields lie in it.
const PROPERTIES: usize = 1472;
const TOTAL_MEMORY_AT: usize = 288;
const WAVE_AT: usize = 308;
const ARCHITECTURE_AT: usize = 1160;

/// HIP's attributes and the driver's numbers for them.
const ATTRIBUTES: [(hipDeviceAttribute_t, c_int); 22] = [
    (hipDeviceAttributeCanMapHostMemory, 19),
    (hipDeviceAttributeClockRate, 13),
    (hipDeviceAttributeConcurrentManagedAccess, 89),
    (hipDeviceAttributeHostRegisterSupported, 99),
    (hipDeviceAttributeIntegrated, 18),
    (hipDeviceAttributeKernelExecTimeout, 17),
    (hipDeviceAttributeL2CacheSize, 38),
    (hipDeviceAttributeManagedMemory, 83),
    (hipDeviceAttributeMaxGridDimX, 5),
    (hipDeviceAttributeMaxSharedMemoryPerBlock, 8),
    (hipDeviceAttributeMaxThreadsPerBlock, 1),
    (hipDeviceAttributeMaxThreadsPerMultiProcessor, 39),
    (hipDeviceAttributeMemoryBusWidth, 37),
    (hipDeviceAttributeMemoryClockRate, 36),
    (hipDeviceAttributeMemoryPoolsSupported, 115),
    (hipDeviceAttributeMultiprocessorCount, 16),
    (hipDeviceAttributePhysicalMultiProcessorCount, 16),
    (hipDeviceAttributePageableMemoryAccess, 88),
    (hipDeviceAttributePciBusId, 33),
    (hipDeviceAttributePciDeviceId, 34),
    (hipDeviceAttributePciDomainID, 50),
    (hipDeviceAttributeWarpSize, 10),
];

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipGetErrorName(error: hipError_t) -> *const c_char {
    text(error, |cuda| cuda.cuGetErrorName)
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipGetErrorString(error: hipError_t) -> *const c_char {
    text(error, |cuda| cuda.cuGetErrorString)
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipGetLastError() -> hipError_t {
    LAST.replace(hipSuccess)
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipPeekAtLastError() -> hipError_t {
    LAST.get()
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipDriverGetVersion(version: *mut c_int) -> hipError_t {
    // SAFETY: as the interface says.
    unsafe { put(version, VERSION) }.err().unwrap_or(hipSuccess)
}

/// # Safety
/// As the interface of HIP says.
// SAFETY: the name is that of the interface.
#[unsafe(no_mangle)]
// SAFETY: called through the interface of HIP.
pub(crate) unsafe extern "C" fn hipRuntimeGetVersion(version: *mut c_int) -> hipError_t {
    // SAFETY: as the interface says.
    unsafe { put(version, VERSION) }.err().unwrap_or(hipSuccess)
}

exports! {
    fn hipInit(_flags: c_uint) |_cuda| {
        Ok(())
    }

    fn hipGetDeviceCount(count: *mut c_int) |_cuda| {
        // SAFETY: as the interface says.
        unsafe { put(count, 1) }
    }

    fn hipGetDevice(device: *mut c_int) |_cuda| {
        // SAFETY: as the interface says.
        unsafe { put(device, 0) }
    }

    fn hipSetDevice(device: c_int) |_cuda| {
        only(device)
    }

    fn hipDeviceGet(device: *mut hipDevice_t, ordinal: c_int) |_cuda| {
        only(ordinal)?;
        // SAFETY: as the interface says.
        unsafe { put(device, 0) }
    }

    fn hipDeviceGetName(place: *mut c_char, len: c_int, device: hipDevice_t) |cuda| {
        only(device)?;
        let name = name(cuda)?;
        let room = usize::try_from(len).ok().and_then(|len| len.checked_sub(1)).ok_or(hipErrorInvalidValue)?;
        if place.is_null() {
            return Err(hipErrorInvalidValue);
        }
        let bytes = &name[..name.len().min(room)];
        // SAFETY: the place has room for the bytes and the zero.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len());
            place.add(bytes.len()).write(0);
        }
        Ok(())
    }

    fn hipDeviceGetPCIBusId(name: *mut c_char, len: c_int, device: c_int) |cuda| {
        only(device)?;
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuDeviceGetPCIBusId)(name, len, device) })
    }

    fn hipDeviceTotalMem(bytes: *mut usize, device: hipDevice_t) |cuda| {
        only(device)?;
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuDeviceTotalMem_v2)(bytes, device) })
    }

    fn hipDeviceGetAttribute(value: *mut c_int, attribute: hipDeviceAttribute_t, device: c_int) |cuda| {
        only(device)?;
        // SAFETY: as the interface says.
        unsafe { put(value, number(cuda, attribute)?) }
    }

    fn hipGetDevicePropertiesR0600(properties: *mut c_void, device: c_int) |cuda| {
        only(device)?;
        let (mut total, mut bytes) = (0_usize, [0; PROPERTIES]);
        // SAFETY: the place is one of this frame.
        code(unsafe { (cuda.cuDeviceTotalMem_v2)(&raw mut total, 0) })?;
        let mut write = |at: usize, field: &[u8]| bytes[at..][..field.len()].copy_from_slice(field);
        write(0, &name(cuda)?);
        write(TOTAL_MEMORY_AT, &total.to_ne_bytes());
        write(WAVE_AT, &number(cuda, hipDeviceAttributeWarpSize)?.to_ne_bytes());
        write(ARCHITECTURE_AT, ARCHITECTURE);
        // SAFETY: as the interface says.
        unsafe { put(properties.cast::<[u8; PROPERTIES]>(), bytes) }
    }

    fn hipDeviceSynchronize() |cuda| {
        // SAFETY: it takes nothing.
        code(unsafe { (cuda.cuCtxSynchronize)() })
    }
}

// SAFETY: a type alone; who calls it keeps to the documentation of the driver.
type TextOf = unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int;

/// The driver's text for an error; its number alone has none where there is no driver.
fn text(error: hipError_t, which: fn(&Cuda) -> TextOf) -> *const c_char {
    let mut place = ptr::null();
    let asked = cuda().and_then(|cuda| {
        // SAFETY: the place is one of this frame; what is put there is the driver's and stays.
        code(unsafe { which(cuda)(error.0.cast_signed(), &raw mut place) })
    });
    if asked.is_ok() && !place.is_null() { place } else { c"an error of CUDA's driver".as_ptr() }
}

fn only(device: c_int) -> Outcome {
    if device == 0 { Ok(()) } else { Err(hipErrorInvalidDevice) }
}

/// The GPU's name and what it is.
fn name(cuda: &Cuda) -> Result<Vec<u8>, hipError_t> {
    let mut bytes = [0_u8; NAME_BYTES - WHAT_IT_IS.len()];
    // SAFETY: the place has so many bytes.
    code(unsafe { (cuda.cuDeviceGetName)(bytes.as_mut_ptr().cast(), bytes.len() as c_int, 0) })?;
    let mut name: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != 0).collect();
    name.extend(WHAT_IT_IS);
    name.truncate(NAME_BYTES - 1);
    Ok(name)
}

fn number(cuda: &Cuda, attribute: hipDeviceAttribute_t) -> Result<c_int, hipError_t> {
    match attribute {
        hipDeviceAttributeComputeCapabilityMajor => return Ok(11),
        hipDeviceAttributeComputeCapabilityMinor | hipDeviceAttributeAsicRevision => return Ok(0),
        _ => {}
    }
    let known = ATTRIBUTES.iter().find(|(known, _)| *known == attribute).ok_or(hipErrorInvalidValue)?;
    let mut value = 0;
    // SAFETY: the place is one of this frame.
    code(unsafe { (cuda.cuDeviceGetAttribute)(&raw mut value, known.1, 0) })?;
    Ok(value)
}
