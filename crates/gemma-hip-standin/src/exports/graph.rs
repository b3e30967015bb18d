//! Graphs.

use std::ffi::{c_char, c_ulonglong};
use std::ptr;

use hip_sys::{
    hipGraph_t, hipGraphExec_t, hipGraphExecUpdateResult, hipGraphExecUpdateSuccess, hipGraphNode_t,
    hipGraphNodeType, hipKernelNodeParams, hipStream_t,
};

use super::{exports, put};
use crate::emulation::Shape;
use crate::failure::invalid;
use crate::graph::differs;
use crate::launch::Given;
use crate::stream::Command;

exports! {
    fn hipGraphInstantiate(
        exec: *mut hipGraphExec_t,
        graph: hipGraph_t,
        _error_node: *mut hipGraphNode_t,
        _log: *mut c_char,
        _log_bytes: usize,
    ) |state| {
        let handle = state.instantiate(graph.addr())?;
        // SAFETY: as the interface says.
        unsafe { put(exec, ptr::without_provenance_mut(handle)) }
    }

    fn hipGraphInstantiateWithFlags(exec: *mut hipGraphExec_t, graph: hipGraph_t, _flags: c_ulonglong) |state| {
        let handle = state.instantiate(graph.addr())?;
        // SAFETY: as the interface says.
        unsafe { put(exec, ptr::without_provenance_mut(handle)) }
    }

    fn hipGraphUpload(exec: hipGraphExec_t, stream: hipStream_t) |state| {
        state.stream(stream.addr())?;
        if state.execs.get(exec.addr()).is_none() {
            return invalid(format!("{exec:?} is no graph to run"));
        }
        Ok(())
    }

    fn hipGraphLaunch(exec: hipGraphExec_t, stream: hipStream_t) |state| {
        let Some(found) = state.execs.get(exec.addr()) else {
            return invalid(format!("{exec:?} is no graph to run, or was destroyed"));
        };
        let commands = found.commands.clone();
        state.cannot_be_captured(stream.addr(), "a graph")?;
        state.launch(stream.addr(), Command::Graph(commands))
    }

    fn hipGraphExecDestroy(exec: hipGraphExec_t) |state| {
        match state.execs.remove(exec.addr()) {
            Some(_) => Ok(()),
            None => invalid(format!("{exec:?} is no graph to run, or was destroyed already")),
        }
    }

    fn hipGraphDestroy(graph: hipGraph_t) |state| {
        state.destroy_graph(graph.addr())
    }

    fn hipGraphGetNodes(graph: hipGraph_t, nodes: *mut hipGraphNode_t, count: *mut usize) |state| {
        let Some(found) = state.graphs.get(graph.addr()) else { return invalid(format!("{graph:?} is no graph")) };
        if count.is_null() {
            return invalid("no place for the number of nodes");
        }
        if nodes.is_null() {
            // SAFETY: as the interface says.
            return unsafe { put(count, found.nodes.len()) };
        }
        // SAFETY: the program says how many places there are.
        let room = unsafe { *count };
        for (index, node) in found.nodes.iter().take(room).enumerate() {
            // SAFETY: there are `room` places.
            unsafe { nodes.add(index).write(ptr::without_provenance_mut(*node)) };
        }
        // Places that are left over are said to be so.
        for index in found.nodes.len()..room {
            // SAFETY: there are `room` places.
            unsafe { nodes.add(index).write(ptr::null_mut()) };
        }
        // SAFETY: as the interface says.
        unsafe { put(count, room.min(found.nodes.len())) }
    }

    fn hipGraphNodeGetType(node: hipGraphNode_t, kind: *mut hipGraphNodeType) |state| {
        let found = state.type_of(node.addr())?;
        // SAFETY: as the interface says.
        unsafe { put(kind, found) }
    }

    fn hipGraphKernelNodeGetParams(node: hipGraphNode_t, params: *mut hipKernelNodeParams) |state| {
        let found = state.launch_of(node.addr())?;
        // SAFETY: as the interface says.
        unsafe { put(params, found) }
    }

    fn hipGraphExecKernelNodeSetParams(
        exec: hipGraphExec_t,
        node: hipGraphNode_t,
        params: *const hipKernelNodeParams,
    ) |state| {
        if params.is_null() {
            return invalid("no parameters");
        }
        // SAFETY: as the interface says.
        let params = unsafe { params.read() };
        let (grid, block) = (params.gridDim, params.blockDim);
        let shape = Shape {
            grid: [grid.x, grid.y, grid.z],
            block: [block.x, block.y, block.z],
            dynamic_shared_bytes: params.sharedMemBytes,
        };
        let given = Given { params: params.kernelParams, extra: params.extra };
        // SAFETY: as the interface says.
        let launch = unsafe { state.prepare(params.func.addr(), shape, given) }?;
        state.set_launch(exec.addr(), node.addr(), launch)
    }

    fn hipGraphExecUpdate(
        exec: hipGraphExec_t,
        graph: hipGraph_t,
        error_node: *mut hipGraphNode_t,
        result: *mut hipGraphExecUpdateResult,
    ) |state| {
        let outcome = state.update(exec.addr(), graph.addr())?;
        let (difference, node) = outcome.err().unwrap_or((hipGraphExecUpdateSuccess, 0));
        // SAFETY: as the interface says.
        unsafe {
            put(error_node, ptr::without_provenance_mut(node))?;
            put(result, difference)?;
        }
        if difference == hipGraphExecUpdateSuccess { Ok(()) } else { differs() }
    }
}
