//! The functions that are exported, by subject: each is the driver's function of the same meaning.

// The constants of C are matched upon.
#![allow(non_upper_case_globals)]

mod device;
mod graph;
mod memory;
mod module;
mod stream;

use std::cell::Cell;
use std::ffi::c_void;

use hip_sys::{Functions, hipError_t, hipErrorInvalidValue, hipErrorNotReady, hipSuccess};

use crate::cuda::{Address, Cuda, cuda};

thread_local! {
    /// The last error of this thread.
    static LAST: Cell<hipError_t> = const { Cell::new(hipSuccess) };
}

/// What a function comes to.
type Outcome = Result<(), hipError_t>;

/// Runs the body of an exported function on the driver, and remembers its error.
fn call(body: impl FnOnce(&Cuda) -> Outcome) -> hipError_t {
    let error = cuda().and_then(body).err().unwrap_or(hipSuccess);
    // As in HIP: work that is not done yet is no error.
    if error != hipSuccess && error != hipErrorNotReady {
        LAST.set(error);
    }
    error
}

/// Exports functions: their names, the C types of `hip-sys`, and what they do with the driver.
macro_rules! exports {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) |$cuda:ident| $body:block)*) => {$(
        // SAFETY: the name is that of the interface, and nothing else in a program has it.
        #[unsafe(no_mangle)]
        // SAFETY: called through the interface of HIP: pointers are null or point to what its documentation says.
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> hip_sys::hipError_t {
            $crate::exports::call(|$cuda| $body)
        }
    )*};
}
use exports;

/// Writes a result.
///
/// # Safety
/// The place is null or may be written.
unsafe fn put<T>(place: *mut T, value: T) -> Outcome {
    if place.is_null() {
        return Err(hipErrorInvalidValue);
    }
    // SAFETY: as the caller promises.
    unsafe { place.write(value) };
    Ok(())
}

/// A pointer as the driver's address.
fn address(pointer: *const c_void) -> Address {
    pointer.expose_provenance() as Address
}

/// All of them, as `hip-sys` has their types: what does not fit does not compile.
#[allow(clippy::wildcard_imports)]
const _: Functions = {
    use device::*;
    use graph::*;
    use memory::*;
    use module::*;
    use stream::*;
    Functions {
        hipInit,
        hipDriverGetVersion,
        hipRuntimeGetVersion,
        hipGetErrorName,
        hipGetErrorString,
        hipGetLastError,
        hipPeekAtLastError,
        hipGetDeviceCount,
        hipGetDevice,
        hipSetDevice,
        hipDeviceGet,
        hipDeviceGetName,
        hipDeviceGetPCIBusId,
        hipDeviceTotalMem,
        hipDeviceGetAttribute,
        hipDeviceSynchronize,
        hipMalloc,
        hipFree,
        hipMallocManaged,
        hipHostMalloc,
        hipHostFree,
        hipHostRegister,
        hipHostUnregister,
        hipHostGetDevicePointer,
        hipMemGetInfo,
        hipMemcpy,
        hipMemcpyAsync,
        hipMemset,
        hipMemsetAsync,
        hipMemsetD32Async,
        hipDeviceGetStreamPriorityRange,
        hipStreamCreateWithFlags,
        hipStreamCreateWithPriority,
        hipStreamDestroy,
        hipStreamSynchronize,
        hipStreamQuery,
        hipStreamWaitEvent,
        hipEventCreateWithFlags,
        hipEventDestroy,
        hipEventRecord,
        hipEventSynchronize,
        hipEventQuery,
        hipEventElapsedTime,
        hipModuleLoadData,
        hipModuleUnload,
        hipModuleGetFunction,
        hipModuleLaunchKernel,
        hipFuncGetAttribute,
        hipStreamBeginCapture,
        hipStreamEndCapture,
        hipStreamIsCapturing,
        hipGraphInstantiate,
        hipGraphLaunch,
        hipGraphExecDestroy,
        hipGraphDestroy,
        hipGraphGetNodes,
        hipGraphNodeGetType,
        hipGraphKernelNodeGetParams,
        hipGraphExecKernelNodeSetParams,
        hipGetDevicePropertiesR0600: Some(hipGetDevicePropertiesR0600),
        hipGetDeviceProperties: None,
        hipDeviceGetUuid: None,
        hipDeviceReset: None,
        hipExtMallocWithFlags: None,
        hipHostGetFlags: None,
        hipMallocAsync: None,
        hipFreeAsync: None,
        hipMemAdvise: None,
        hipMemPrefetchAsync: None,
        hipMemGetAddressRange: None,
        hipModuleGetGlobal: None,
        hipModuleOccupancyMaxActiveBlocksPerMultiprocessor: None,
        hipThreadExchangeStreamCaptureMode: None,
        hipGraphCreate: None,
        hipGraphAddKernelNode: None,
        hipGraphInstantiateWithFlags: Some(hipGraphInstantiateWithFlags),
        hipGraphUpload: None,
        hipGraphExecUpdate: None,
        hipGraphExecMemcpyNodeSetParams1D: None,
    }
};

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn without_a_driver_or_kernels_there_is_no_device_and_the_error_is_remembered() {
        let mut count = 7;
        // SAFETY: the place lives as long as the call.
        let error = unsafe { device::hipGetDeviceCount(&raw mut count) };
        assert_ne!(error, hipSuccess, "GEMMA_HIP_CUDA is not set in tests");
        // SAFETY: these take nothing.
        let remembered =
            unsafe { [device::hipPeekAtLastError(), device::hipGetLastError(), device::hipGetLastError()] };
        assert_eq!((count, remembered), (7, [error, error, hipSuccess]));
        // SAFETY: both give text that stays.
        assert!(unsafe { !device::hipGetErrorName(error).is_null() });
    }

    #[test]
    fn no_place_for_a_result_is_an_error() {
        // SAFETY: null is what it looks for.
        assert_eq!(unsafe { put(ptr::null_mut::<u8>(), 1) }, Err(hipErrorInvalidValue));
    }
}
