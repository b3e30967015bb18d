//! Numbers of the C interface: kinds, flags, attributes, modes.
//!
//! Each has the same value in the headers of HIP 5.7.1, 6.0.0, 6.2.2, 6.3 and of 6.4, 7.0, 7.1, 7.2 and 7.14, but for those whose
//! docs name the version that they came with. Numbers that moved between versions (`hipMemoryType`, `hipErrorTbd`) are left out.

use std::ffi::{c_int, c_uint};

macro_rules! numbers {
    ($(#[$doc:meta])* $type:ident: $of:ty { $($(#[$item:meta])* $name:ident = $value:expr,)* }) => {
        $(#[$doc])*
        pub type $type = $of;
        $(
            $(#[$item])*
            pub const $name: $type = $value;
        )*
    };
}

numbers! {
    /// From where to where bytes are copied.
    hipMemcpyKind: c_uint {
        /// Host to host.
        hipMemcpyHostToHost = 0,
        /// Host to device.
        hipMemcpyHostToDevice = 1,
        /// Device to host.
        hipMemcpyDeviceToHost = 2,
        /// Device to device.
        hipMemcpyDeviceToDevice = 3,
        /// As the addresses say.
        hipMemcpyDefault = 4,
    }
}

numbers! {
    /// What `hipDeviceGetAttribute` is asked for.
    hipDeviceAttribute_t: c_int {
        /// Whether the device maps memory of the host.
        hipDeviceAttributeCanMapHostMemory = 3,
        /// Highest clock, kHz.
        hipDeviceAttributeClockRate = 5,
        /// Whether host and device may use managed memory at once.
        hipDeviceAttributeConcurrentManagedAccess = 9,
        /// Whether the device shares the host's memory.
        hipDeviceAttributeIntegrated = 16,
        /// Whether launches have a limit of time.
        hipDeviceAttributeKernelExecTimeout = 18,
        /// Bytes of the L2 cache.
        hipDeviceAttributeL2CacheSize = 19,
        /// First number of the architecture, 11 of gfx1103.
        hipDeviceAttributeComputeCapabilityMajor = 23,
        /// Whether there is managed memory.
        hipDeviceAttributeManagedMemory = 24,
        /// Most blocks of a grid, first dimension.
        hipDeviceAttributeMaxGridDimX = 29,
        /// Most work-items of a block.
        hipDeviceAttributeMaxThreadsPerBlock = 56,
        /// Most work-items that a multiprocessor keeps at once.
        hipDeviceAttributeMaxThreadsPerMultiProcessor = 57,
        /// Width of the memory bus in bits.
        hipDeviceAttributeMemoryBusWidth = 59,
        /// Memory clock, kHz.
        hipDeviceAttributeMemoryClockRate = 60,
        /// Second number of the architecture, 0 of gfx1103.
        hipDeviceAttributeComputeCapabilityMinor = 61,
        /// Multiprocessors: of RDNA, pairs of compute units.
        hipDeviceAttributeMultiprocessorCount = 63,
        /// Whether the device reads pageable memory of the host.
        hipDeviceAttributePageableMemoryAccess = 65,
        /// PCI bus.
        hipDeviceAttributePciBusId = 67,
        /// PCI device.
        hipDeviceAttributePciDeviceId = 68,
        /// PCI domain.
        hipDeviceAttributePciDomainID = 69,
        /// Most bytes of shared memory of a block.
        hipDeviceAttributeMaxSharedMemoryPerBlock = 74,
        /// Work-items of a wave.
        hipDeviceAttributeWarpSize = 87,
        /// Whether `hipMallocAsync` works.
        hipDeviceAttributeMemoryPoolsSupported = 88,
        /// Whether memory of the host can be registered. Since HIP 6.0.
        hipDeviceAttributeHostRegisterSupported = 90,
        /// Number of the silicon's revision.
        hipDeviceAttributeAsicRevision = 10012,
        /// Compute units, where those of a pair are counted apart.
        hipDeviceAttributePhysicalMultiProcessorCount = 10015,
    }
}

numbers! {
    /// What `hipFuncGetAttribute` is asked for.
    hipFunction_attribute: c_int {
        /// Most work-items of a block.
        HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
        /// Bytes of static shared memory.
        HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
        /// Bytes of constant memory.
        HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES = 2,
        /// Bytes of private memory of a work-item.
        HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
        /// Vector registers of a work-item.
        HIP_FUNC_ATTRIBUTE_NUM_REGS = 4,
    }
}

numbers! {
    /// How strictly other calls are held off while a stream is captured.
    hipStreamCaptureMode: c_uint {
        /// Unsafe calls of every thread fail.
        hipStreamCaptureModeGlobal = 0,
        /// Unsafe calls of the capturing thread fail.
        hipStreamCaptureModeThreadLocal = 1,
        /// Unsafe calls are let through.
        hipStreamCaptureModeRelaxed = 2,
    }
}

numbers! {
    /// Whether a stream is captured.
    hipStreamCaptureStatus: c_uint {
        /// It is not.
        hipStreamCaptureStatusNone = 0,
        /// It is.
        hipStreamCaptureStatusActive = 1,
        /// It is, and an error has made the capture worthless.
        hipStreamCaptureStatusInvalidated = 2,
    }
}

numbers! {
    /// What a node of a graph does.
    hipGraphNodeType: c_uint {
        /// Launches a kernel.
        hipGraphNodeTypeKernel = 0,
        /// Copies.
        hipGraphNodeTypeMemcpy = 1,
        /// Fills.
        hipGraphNodeTypeMemset = 2,
        /// Calls a function of the host.
        hipGraphNodeTypeHost = 3,
        /// Runs another graph.
        hipGraphNodeTypeGraph = 4,
        /// Nothing.
        hipGraphNodeTypeEmpty = 5,
        /// Waits for an event.
        hipGraphNodeTypeWaitEvent = 6,
        /// Records an event.
        hipGraphNodeTypeEventRecord = 7,
    }
}

numbers! {
    /// Why `hipGraphExecUpdate` did not change the graph.
    hipGraphExecUpdateResult: c_uint {
        /// It did.
        hipGraphExecUpdateSuccess = 0,
        /// For a reason that the returned error says.
        hipGraphExecUpdateError = 1,
        /// There are other nodes.
        hipGraphExecUpdateErrorTopologyChanged = 2,
        /// A node does something else.
        hipGraphExecUpdateErrorNodeTypeChanged = 3,
        /// A kernel is another one, in a way that cannot be changed.
        hipGraphExecUpdateErrorFunctionChanged = 4,
        /// Parameters changed in a way that cannot be.
        hipGraphExecUpdateErrorParametersChanged = 5,
        /// It cannot be done to such a node.
        hipGraphExecUpdateErrorNotSupported = 6,
    }
}

numbers! {
    /// What is advised about managed memory.
    hipMemoryAdvise: c_uint {
        /// It is mostly read.
        hipMemAdviseSetReadMostly = 1,
        /// Takes that back.
        hipMemAdviseUnsetReadMostly = 2,
        /// It had best lie on the device.
        hipMemAdviseSetPreferredLocation = 3,
        /// Takes that back.
        hipMemAdviseUnsetPreferredLocation = 4,
        /// The device reads and writes it.
        hipMemAdviseSetAccessedBy = 5,
        /// Takes that back.
        hipMemAdviseUnsetAccessedBy = 6,
        /// Host and device need not see each other's writes within a kernel.
        hipMemAdviseSetCoarseGrain = 100,
        /// Takes that back.
        hipMemAdviseUnsetCoarseGrain = 101,
    }
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $value:expr,)*) => {$(
        $(#[$doc])*
        pub const $name: c_uint = $value;
    )*};
}

flags! {
    /// Of `hipStreamCreateWithFlags`: work waits for that of the default stream.
    hipStreamDefault = 0,
    /// Of `hipStreamCreateWithFlags`: work does not wait for that of the default stream.
    hipStreamNonBlocking = 1,
    /// Of `hipEventCreateWithFlags`: with its time.
    hipEventDefault = 0,
    /// Of `hipEventCreateWithFlags`: who waits, sleeps.
    hipEventBlockingSync = 1,
    /// Of `hipEventCreateWithFlags`: without its time.
    hipEventDisableTiming = 2,
    /// Of `hipHostMalloc`: as the runtime sees fit.
    hipHostMallocDefault = 0,
    /// Of `hipHostMalloc`: pinned for all devices.
    hipHostMallocPortable = 1,
    /// Of `hipHostMalloc`: devices have an address for it.
    hipHostMallocMapped = 2,
    /// Of `hipHostMalloc`: slow to read on the host.
    hipHostMallocWriteCombined = 4,
    /// Of `hipHostMalloc`: as the calling thread's NUMA policy says.
    hipHostMallocNumaUser = 0x2000_0000,
    /// Of `hipHostMalloc`: host and device see each other's writes within a kernel.
    hipHostMallocCoherent = 0x4000_0000,
    /// Of `hipHostMalloc`: they see them after a kernel; cached by the device.
    hipHostMallocNonCoherent = 0x8000_0000,
    /// Of `hipHostRegister`: mapped and portable.
    hipHostRegisterDefault = 0,
    /// Of `hipHostRegister`: pinned for all devices.
    hipHostRegisterPortable = 1,
    /// Of `hipHostRegister`: devices have an address for it.
    hipHostRegisterMapped = 2,
    /// Of `hipHostRegister`: registers of another device.
    hipHostRegisterIoMemory = 4,
    /// Of `hipHostRegister`: devices only read it.
    hipHostRegisterReadOnly = 8,
    /// Of `hipMallocManaged`: every stream of every device may use it.
    hipMemAttachGlobal = 1,
    /// Of `hipMallocManaged`: the host alone, until it is attached.
    hipMemAttachHost = 2,
    /// Of `hipExtMallocWithFlags`: as `hipMalloc`.
    hipDeviceMallocDefault = 0,
    /// Of `hipExtMallocWithFlags`: host and device see each other's writes within a kernel.
    hipDeviceMallocFinegrained = 1,
    /// Of `hipExtMallocWithFlags`: devices do not cache it.
    hipDeviceMallocUncached = 3,
}
