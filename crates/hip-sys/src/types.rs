//! Handles and structures of the C interface.
//!
//! Sizes and offsets are those of the headers of HIP 5.7.1, 6.0.0, 6.2.2, 6.3 and of 6.4, 7.0, 7.1, 7.2 and 7.14, where they are the
//! same; a test holds them. The properties of a device, whose layout did change, are read in `properties`.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

macro_rules! handles {
    ($($(#[$doc:meta])* $handle:ident = $opaque:ident;)*) => {$(
        #[doc = concat!("What [`", stringify!($handle), "`] points to; only the runtime looks inside.")]
        #[repr(C)]
        pub struct $opaque {
            opaque: [u8; 0],
        }
        $(#[$doc])*
        pub type $handle = *mut $opaque;
    )*};
}

handles! {
    /// A queue of work that is done in order; null is the default one.
    hipStream_t = ihipStream_t;
    /// A point in a stream, with its time.
    hipEvent_t = ihipEvent_t;
    /// A loaded code object.
    hipModule_t = ihipModule_t;
    /// A kernel of a module.
    hipFunction_t = ihipModuleSymbol_t;
    /// Recorded work.
    hipGraph_t = ihipGraph;
    /// One piece of recorded work.
    hipGraphNode_t = hipGraphNode;
    /// Recorded work, made ready to run.
    hipGraphExec_t = hipGraphExec;
}

/// A device's number, counted from 0.
pub type hipDevice_t = c_int;
/// An address that a device reads and writes.
pub type hipDeviceptr_t = *mut c_void;

/// Blocks of a grid or work-items of a block, by dimension.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct dim3 {
    /// First dimension, whose neighbours share a wave.
    pub x: u32,
    /// Second dimension.
    pub y: u32,
    /// Third dimension.
    pub z: u32,
}

/// What a kernel node of a graph launches; the arguments are given as to `hipModuleLaunchKernel`, in one way or the other.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hipKernelNodeParams {
    /// Work-items of a block.
    pub blockDim: dim3,
    /// A list that ends with [`HIP_LAUNCH_PARAM_END`], or null.
    pub extra: *mut *mut c_void,
    /// A [`hipFunction_t`].
    pub func: *mut c_void,
    /// Blocks of the grid.
    pub gridDim: dim3,
    /// A pointer to each argument, or null.
    pub kernelParams: *mut *mut c_void,
    /// Bytes of dynamic shared memory of a block.
    pub sharedMemBytes: c_uint,
}

/// A device's identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct hipUUID {
    /// As the runtime gives it.
    pub bytes: [u8; 16],
}

/// Key of the pointer to the kernel's argument segment, in the `extra` of a launch.
pub const HIP_LAUNCH_PARAM_BUFFER_POINTER: *mut c_void = ptr::without_provenance_mut(1);
/// Key of the pointer to the segment's size in bytes, a `usize`, in the `extra` of a launch.
pub const HIP_LAUNCH_PARAM_BUFFER_SIZE: *mut c_void = ptr::without_provenance_mut(2);
/// The last entry of the `extra` of a launch.
pub const HIP_LAUNCH_PARAM_END: *mut c_void = ptr::without_provenance_mut(3);

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    #[test]
    fn layouts_are_those_of_the_headers() {
        assert_eq!((size_of::<dim3>(), align_of::<dim3>()), (12, 4));
        assert_eq!((size_of::<hipUUID>(), size_of::<crate::hipError_t>()), (16, 4));
        assert_eq!((size_of::<hipKernelNodeParams>(), align_of::<hipKernelNodeParams>()), (64, 8));
        let offsets = [
            offset_of!(hipKernelNodeParams, blockDim),
            offset_of!(hipKernelNodeParams, extra),
            offset_of!(hipKernelNodeParams, func),
            offset_of!(hipKernelNodeParams, gridDim),
            offset_of!(hipKernelNodeParams, kernelParams),
            offset_of!(hipKernelNodeParams, sharedMemBytes),
        ];
        assert_eq!(offsets, [0, 16, 24, 32, 48, 56]);
        assert_eq!(size_of::<hipStream_t>(), size_of::<usize>());
    }
}
