//! The functions of the library, with the signatures of its headers.
//!
//! What each does is said in AMD's documentation of the HIP runtime API, and not again here. Signatures are those of HIP 5.7.1,
//! 6.0.0, 6.2.2, 6.3 and of 6.2.4, 6.4, 7.0, 7.1, 7.2 and 7.14, where they are the same.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

use libloading::Library;

use crate::{
    hipDevice_t, hipDeviceAttribute_t, hipDeviceptr_t, hipError_t, hipEvent_t, hipFunction_attribute,
    hipFunction_t, hipGraph_t, hipGraphExec_t, hipGraphExecUpdateResult, hipGraphNode_t, hipGraphNodeType,
    hipKernelNodeParams, hipMemcpyKind, hipMemoryAdvise, hipModule_t, hipStream_t, hipStreamCaptureMode,
    hipStreamCaptureStatus, hipUUID,
};

macro_rules! functions {
    (
        required { $(fn $name:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty;)* }
        optional { $($(#[$doc:meta])* fn $maybe:ident($($maybe_argument:ident: $maybe_type:ty),* $(,)?) -> $maybe_result:ty;)* }
    ) => {
        /// The functions of a loaded library, under their C names. All are unsafe to call: the runtime believes what it is given.
        #[derive(Clone, Copy)]
        pub struct Functions {
            $(
                #[doc = concat!("`", stringify!($name), "`, which every supported version has.")]
                // SAFETY: a type alone; who calls it keeps to the documentation of the runtime.
                pub $name: unsafe extern "C" fn($($argument: $type),*) -> $result,
            )*
            $(
                #[doc = concat!("`", stringify!($maybe), "`, where the library has it.")]
                $(#[$doc])*
                // SAFETY: a type alone; who calls it keeps to the documentation of the runtime.
                pub $maybe: Option<unsafe extern "C" fn($($maybe_argument: $maybe_type),*) -> $maybe_result>,
            )*
        }

        impl Functions {
            /// Names of those that a library must have.
            pub const REQUIRED: &[&str] = &[$(stringify!($name),)*];
            /// Names of those that it may have.
            pub const OPTIONAL: &[&str] = &[$(stringify!($maybe),)*];

            /// Looks all of them up; the name of the first one that is required and not there is the error.
            ///
            /// # Safety
            /// The library is libamdhip64, whose functions have these types, and stays loaded.
            pub(crate) unsafe fn find(library: &Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $(
                        $name: {
                            let symbol = concat!(stringify!($name), "\0");
                            // SAFETY: as the caller promises.
                            let found = unsafe { library.get(symbol.as_bytes()) };
                            *found.map_err(|_| stringify!($name))?
                        },
                    )*
                    $(
                        $maybe: {
                            let symbol = concat!(stringify!($maybe), "\0");
                            // SAFETY: as the caller promises.
                            unsafe { library.get(symbol.as_bytes()) }.ok().map(|found| *found)
                        },
                    )*
                })
            }
        }
    };
}

functions! {
    required {
        fn hipInit(flags: c_uint) -> hipError_t;
        fn hipDriverGetVersion(version: *mut c_int) -> hipError_t;
        fn hipRuntimeGetVersion(version: *mut c_int) -> hipError_t;
        fn hipGetErrorName(error: hipError_t) -> *const c_char;
        fn hipGetErrorString(error: hipError_t) -> *const c_char;
        fn hipGetLastError() -> hipError_t;
        fn hipPeekAtLastError() -> hipError_t;

        fn hipGetDeviceCount(count: *mut c_int) -> hipError_t;
        fn hipGetDevice(device: *mut c_int) -> hipError_t;
        fn hipSetDevice(device: c_int) -> hipError_t;
        fn hipDeviceGet(device: *mut hipDevice_t, ordinal: c_int) -> hipError_t;
        fn hipDeviceGetName(name: *mut c_char, len: c_int, device: hipDevice_t) -> hipError_t;
        fn hipDeviceGetPCIBusId(pciBusId: *mut c_char, len: c_int, device: c_int) -> hipError_t;
        fn hipDeviceTotalMem(bytes: *mut usize, device: hipDevice_t) -> hipError_t;
        fn hipDeviceGetAttribute(value: *mut c_int, attribute: hipDeviceAttribute_t, device: c_int) -> hipError_t;
        fn hipDeviceSynchronize() -> hipError_t;

        fn hipMalloc(ptr: *mut *mut c_void, size: usize) -> hipError_t;
        fn hipFree(ptr: *mut c_void) -> hipError_t;
        fn hipMallocManaged(ptr: *mut *mut c_void, size: usize, flags: c_uint) -> hipError_t;
        fn hipHostMalloc(ptr: *mut *mut c_void, size: usize, flags: c_uint) -> hipError_t;
        fn hipHostFree(ptr: *mut c_void) -> hipError_t;
        fn hipHostRegister(hostPtr: *mut c_void, sizeBytes: usize, flags: c_uint) -> hipError_t;
        fn hipHostUnregister(hostPtr: *mut c_void) -> hipError_t;
        fn hipHostGetDevicePointer(devPtr: *mut *mut c_void, hostPtr: *mut c_void, flags: c_uint) -> hipError_t;
        fn hipMemGetInfo(free: *mut usize, total: *mut usize) -> hipError_t;
        fn hipMemcpy(dst: *mut c_void, src: *const c_void, sizeBytes: usize, kind: hipMemcpyKind) -> hipError_t;
        fn hipMemcpyAsync(
            dst: *mut c_void,
            src: *const c_void,
            sizeBytes: usize,
            kind: hipMemcpyKind,
            stream: hipStream_t,
        ) -> hipError_t;
        fn hipMemset(dst: *mut c_void, value: c_int, sizeBytes: usize) -> hipError_t;
        fn hipMemsetAsync(dst: *mut c_void, value: c_int, sizeBytes: usize, stream: hipStream_t) -> hipError_t;
        fn hipMemsetD32Async(dst: hipDeviceptr_t, value: c_int, count: usize, stream: hipStream_t) -> hipError_t;

        fn hipDeviceGetStreamPriorityRange(leastPriority: *mut c_int, greatestPriority: *mut c_int) -> hipError_t;
        fn hipStreamCreateWithFlags(stream: *mut hipStream_t, flags: c_uint) -> hipError_t;
        fn hipStreamCreateWithPriority(stream: *mut hipStream_t, flags: c_uint, priority: c_int) -> hipError_t;
        fn hipStreamDestroy(stream: hipStream_t) -> hipError_t;
        fn hipStreamSynchronize(stream: hipStream_t) -> hipError_t;
        fn hipStreamQuery(stream: hipStream_t) -> hipError_t;
        fn hipStreamWaitEvent(stream: hipStream_t, event: hipEvent_t, flags: c_uint) -> hipError_t;

        fn hipEventCreateWithFlags(event: *mut hipEvent_t, flags: c_uint) -> hipError_t;
        fn hipEventDestroy(event: hipEvent_t) -> hipError_t;
        fn hipEventRecord(event: hipEvent_t, stream: hipStream_t) -> hipError_t;
        fn hipEventSynchronize(event: hipEvent_t) -> hipError_t;
        fn hipEventQuery(event: hipEvent_t) -> hipError_t;
        fn hipEventElapsedTime(ms: *mut f32, start: hipEvent_t, stop: hipEvent_t) -> hipError_t;

        fn hipModuleLoadData(module: *mut hipModule_t, image: *const c_void) -> hipError_t;
        fn hipModuleUnload(module: hipModule_t) -> hipError_t;
        fn hipModuleGetFunction(function: *mut hipFunction_t, module: hipModule_t, name: *const c_char) -> hipError_t;
        fn hipModuleLaunchKernel(
            f: hipFunction_t,
            gridDimX: c_uint,
            gridDimY: c_uint,
            gridDimZ: c_uint,
            blockDimX: c_uint,
            blockDimY: c_uint,
            blockDimZ: c_uint,
            sharedMemBytes: c_uint,
            stream: hipStream_t,
            kernelParams: *mut *mut c_void,
            extra: *mut *mut c_void,
        ) -> hipError_t;
        fn hipFuncGetAttribute(value: *mut c_int, attribute: hipFunction_attribute, f: hipFunction_t) -> hipError_t;

        fn hipStreamBeginCapture(stream: hipStream_t, mode: hipStreamCaptureMode) -> hipError_t;
        fn hipStreamEndCapture(stream: hipStream_t, graph: *mut hipGraph_t) -> hipError_t;
        fn hipStreamIsCapturing(stream: hipStream_t, status: *mut hipStreamCaptureStatus) -> hipError_t;
        fn hipGraphInstantiate(
            exec: *mut hipGraphExec_t,
            graph: hipGraph_t,
            errorNode: *mut hipGraphNode_t,
            logBuffer: *mut c_char,
            bufferSize: usize,
        ) -> hipError_t;
        fn hipGraphLaunch(exec: hipGraphExec_t, stream: hipStream_t) -> hipError_t;
        fn hipGraphExecDestroy(exec: hipGraphExec_t) -> hipError_t;
        fn hipGraphDestroy(graph: hipGraph_t) -> hipError_t;
        fn hipGraphGetNodes(graph: hipGraph_t, nodes: *mut hipGraphNode_t, numNodes: *mut usize) -> hipError_t;
        fn hipGraphNodeGetType(node: hipGraphNode_t, kind: *mut hipGraphNodeType) -> hipError_t;
        fn hipGraphKernelNodeGetParams(node: hipGraphNode_t, params: *mut hipKernelNodeParams) -> hipError_t;
        fn hipGraphExecKernelNodeSetParams(
            exec: hipGraphExec_t,
            node: hipGraphNode_t,
            params: *const hipKernelNodeParams,
        ) -> hipError_t;
    }
    optional {
        /// Since HIP 6.0; see [`Hip::architecture`](crate::Hip::architecture).
        fn hipGetDevicePropertiesR0600(properties: *mut c_void, device: c_int) -> hipError_t;
        /// From HIP 6.0 on the layout is still that of 5.7.
        fn hipGetDeviceProperties(properties: *mut c_void, device: c_int) -> hipError_t;
        fn hipDeviceGetUuid(uuid: *mut hipUUID, device: hipDevice_t) -> hipError_t;
        fn hipDeviceReset() -> hipError_t;

        fn hipExtMallocWithFlags(ptr: *mut *mut c_void, sizeBytes: usize, flags: c_uint) -> hipError_t;
        fn hipHostGetFlags(flags: *mut c_uint, hostPtr: *mut c_void) -> hipError_t;
        fn hipMallocAsync(ptr: *mut *mut c_void, size: usize, stream: hipStream_t) -> hipError_t;
        fn hipFreeAsync(ptr: *mut c_void, stream: hipStream_t) -> hipError_t;
        fn hipMemAdvise(ptr: *const c_void, count: usize, advice: hipMemoryAdvise, device: c_int) -> hipError_t;
        fn hipMemPrefetchAsync(ptr: *const c_void, count: usize, device: c_int, stream: hipStream_t) -> hipError_t;
        fn hipMemGetAddressRange(base: *mut hipDeviceptr_t, size: *mut usize, ptr: hipDeviceptr_t) -> hipError_t;

        fn hipModuleGetGlobal(
            ptr: *mut hipDeviceptr_t,
            bytes: *mut usize,
            module: hipModule_t,
            name: *const c_char,
        ) -> hipError_t;
        fn hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(
            numBlocks: *mut c_int,
            f: hipFunction_t,
            blockSize: c_int,
            dynamicSharedBytes: usize,
        ) -> hipError_t;

        fn hipThreadExchangeStreamCaptureMode(mode: *mut hipStreamCaptureMode) -> hipError_t;
        fn hipGraphCreate(graph: *mut hipGraph_t, flags: c_uint) -> hipError_t;
        fn hipGraphAddKernelNode(
            node: *mut hipGraphNode_t,
            graph: hipGraph_t,
            dependencies: *const hipGraphNode_t,
            numDependencies: usize,
            params: *const hipKernelNodeParams,
        ) -> hipError_t;
        fn hipGraphInstantiateWithFlags(
            exec: *mut hipGraphExec_t,
            graph: hipGraph_t,
            flags: c_ulonglong,
        ) -> hipError_t;
        fn hipGraphUpload(exec: hipGraphExec_t, stream: hipStream_t) -> hipError_t;
        fn hipGraphExecUpdate(
            exec: hipGraphExec_t,
            graph: hipGraph_t,
            errorNode: *mut hipGraphNode_t,
            result: *mut hipGraphExecUpdateResult,
        ) -> hipError_t;
        fn hipGraphExecMemcpyNodeSetParams1D(
            exec: hipGraphExec_t,
            node: hipGraphNode_t,
            dst: *mut c_void,
            src: *const c_void,
            count: usize,
            kind: hipMemcpyKind,
        ) -> hipError_t;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_function_is_named_twice() {
        let names: HashSet<_> = Functions::REQUIRED.iter().chain(Functions::OPTIONAL).collect();
        assert_eq!(names.len(), Functions::REQUIRED.len() + Functions::OPTIONAL.len());
    }
}
