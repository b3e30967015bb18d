//! Graphs of captured work.

use std::ffi::{c_char, c_ulonglong, c_void};
use std::ptr;

use hip_sys::{
    dim3, hipErrorInvalidValue, hipErrorNotSupported, hipGraph_t, hipGraphExec_t, hipGraphNode_t,
    hipGraphNodeType, hipKernelNodeParams, hipStream_t,
};

use super::module::list;
use super::{exports, put};
use crate::cuda::{KernelNode, code};

exports! {
    fn hipGraphInstantiate(
        executable: *mut hipGraphExec_t,
        graph: hipGraph_t,
        _error_node: *mut hipGraphNode_t,
        _log: *mut c_char,
        _log_bytes: usize,
    ) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphInstantiateWithFlags)(executable.cast(), graph.cast(), 0) })
    }

    fn hipGraphInstantiateWithFlags(
        executable: *mut hipGraphExec_t,
        graph: hipGraph_t,
        flags: c_ulonglong,
    ) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphInstantiateWithFlags)(executable.cast(), graph.cast(), flags) })
    }

    fn hipGraphLaunch(executable: hipGraphExec_t, stream: hipStream_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphLaunch)(executable.cast(), stream.cast()) })
    }

    fn hipGraphExecDestroy(executable: hipGraphExec_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphExecDestroy)(executable.cast()) })
    }

    fn hipGraphDestroy(graph: hipGraph_t) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphDestroy)(graph.cast()) })
    }

    fn hipGraphGetNodes(graph: hipGraph_t, nodes: *mut hipGraphNode_t, count: *mut usize) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphGetNodes)(graph.cast(), nodes.cast(), count) })
    }

    fn hipGraphNodeGetType(node: hipGraphNode_t, kind: *mut hipGraphNodeType) |cuda| {
        // SAFETY: as the interface says.
        code(unsafe { (cuda.cuGraphNodeGetType)(node.cast(), kind) })
    }

    fn hipGraphKernelNodeGetParams(node: hipGraphNode_t, params: *mut hipKernelNodeParams) |cuda| {
        let mut found = KernelNode {
            function: ptr::null_mut(),
            grid: [0; 3],
            block: [0; 3],
            shared_bytes: 0,
            params: ptr::null_mut(),
            extra: ptr::null_mut(),
        };
        // SAFETY: the place is one of this frame, the node as the interface says.
        code(unsafe { (cuda.cuGraphKernelNodeGetParams)(node.cast(), &raw mut found) })?;
        // The driver's list has other keys, and is its own.
        if !found.extra.is_null() && found.params.is_null() {
            return Err(hipErrorNotSupported);
        }
        let sizes = |[x, y, z]: [u32; 3]| dim3 { x, y, z };
        let translated = hipKernelNodeParams {
            blockDim: sizes(found.block),
            extra: ptr::null_mut(),
            func: found.function,
            gridDim: sizes(found.grid),
            kernelParams: found.params,
            sharedMemBytes: found.shared_bytes,
        };
        // SAFETY: as the interface says.
        unsafe { put(params, translated) }
    }

    fn hipGraphExecKernelNodeSetParams(
        executable: hipGraphExec_t,
        node: hipGraphNode_t,
        params: *const hipKernelNodeParams,
    ) |cuda| {
        if params.is_null() {
            return Err(hipErrorInvalidValue);
        }
        // SAFETY: as the interface says.
        let given = unsafe { params.read() };
        // SAFETY: as the interface says.
        let mut list: Option<[*mut c_void; super::module::LIST]> = unsafe { list(given.extra) }?;
        let translated = KernelNode {
            function: given.func,
            grid: [given.gridDim.x, given.gridDim.y, given.gridDim.z],
            block: [given.blockDim.x, given.blockDim.y, given.blockDim.z],
            shared_bytes: given.sharedMemBytes,
            params: given.kernelParams,
            extra: list.as_mut().map_or(ptr::null_mut(), |list| list.as_mut_ptr()),
        };
        // SAFETY: as the interface says; the list lives until the call returns, by when the driver has read it.
        code(unsafe { (cuda.cuGraphExecKernelNodeSetParams)(executable.cast(), node.cast(), &raw const translated) })
    }
}
