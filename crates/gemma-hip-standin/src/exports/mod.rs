//! The functions that are exported, by subject. Each checks what it is given as AMD's runtime would, and more.
//!
//! What a pointer points to cannot be checked; null is.

// The constants of C are matched upon.
#![allow(non_upper_case_globals)]

mod control;
mod device;
mod event;
mod graph;
mod memory;
mod module;
mod stream;

use hip_sys::Functions;

use crate::failure::{Outcome, invalid};

/// Exports functions: their names, the C types of `hip-sys`, and what they do with the state.
macro_rules! exports {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) |$state:ident| $body:block)*) => {$(
        // SAFETY: the name is that of the interface, and nothing else in a program has it.
        #[unsafe(no_mangle)]
        // SAFETY: called through the interface of HIP: pointers are null or point to what its documentation says.
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> hip_sys::hipError_t {
            $crate::state::call(stringify!($name), |$state| $body)
        }
    )*};
}
pub(crate) use exports;

/// Writes a result.
///
/// # Safety
/// The place is null or may be written.
pub(crate) unsafe fn put<T>(place: *mut T, value: T) -> Outcome {
    if place.is_null() {
        return invalid("no place for the result");
    }
    // SAFETY: as the caller promises.
    unsafe { place.write(value) };
    Ok(())
}

/// All of them, as `hip-sys` has their types: what does not fit does not compile.
#[allow(clippy::wildcard_imports)]
const _: Functions = {
    use device::*;
    use event::*;
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
        hipMallocAsync: Some(hipMallocAsync),
        hipFreeAsync: Some(hipFreeAsync),
        hipMemAdvise: None,
        hipMemPrefetchAsync: None,
        hipMemGetAddressRange: None,
        hipModuleGetGlobal: None,
        hipModuleOccupancyMaxActiveBlocksPerMultiprocessor: None,
        hipThreadExchangeStreamCaptureMode: None,
        hipGraphCreate: None,
        hipGraphAddKernelNode: None,
        hipGraphInstantiateWithFlags: Some(hipGraphInstantiateWithFlags),
        hipGraphUpload: Some(hipGraphUpload),
        hipGraphExecUpdate: Some(hipGraphExecUpdate),
        hipGraphExecMemcpyNodeSetParams1D: None,
    }
};
