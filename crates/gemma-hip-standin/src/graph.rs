//! Graphs: recorded work, its nodes by handle, and what is made of it to be run often.
//!
//! Nodes are in the order in which they were recorded, which is a right one, as one stream a capture is all there is.

use std::sync::Arc;

use hip_sys::{HIP_LAUNCH_PARAM_BUFFER_POINTER, HIP_LAUNCH_PARAM_BUFFER_SIZE, HIP_LAUNCH_PARAM_END, dim3};
use hip_sys::{
    hipErrorGraphExecUpdateFailure, hipGraphExecUpdateErrorNodeTypeChanged,
    hipGraphExecUpdateErrorTopologyChanged, hipGraphExecUpdateResult, hipGraphNodeType,
    hipGraphNodeTypeEmpty, hipGraphNodeTypeKernel, hipGraphNodeTypeMemcpy, hipGraphNodeTypeMemset,
    hipKernelNodeParams,
};

use crate::failure::{Outcome, fail, invalid};
use crate::state::State;
use crate::stream::{Command, Launch};

/// Recorded work.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<usize>,
}

/// One piece of it.
pub(crate) struct Node {
    graph: usize,
    command: Command,
    /// What the program was given pointers into, which stays as long as the node.
    shown: Option<Box<Shown>>,
}

/// Recorded work that is ready to run.
pub(crate) struct Exec {
    nodes: Vec<usize>,
    pub(crate) commands: Arc<Vec<Command>>,
}

/// Arguments as the program gets to see them.
struct Shown {
    extra: [usize; 5],
    bytes: usize,
    arguments: Vec<u64>,
}

impl State {
    /// A graph of these commands.
    pub(crate) fn graph_of(&mut self, commands: Vec<Command>) -> usize {
        let graph = self.graphs.insert(Graph { nodes: Vec::new() });
        let nodes: Vec<_> = commands
            .into_iter()
            .map(|command| self.nodes.insert(Node { graph, command, shown: None }))
            .collect();
        if let Some(graph) = self.graphs.get_mut(graph) {
            graph.nodes = nodes;
        }
        graph
    }

    /// Forgets a graph and its nodes; what was made of it stays.
    pub(crate) fn destroy_graph(&mut self, handle: usize) -> Outcome {
        if self.graphs.remove(handle).is_none() {
            return invalid(format!("{handle:#x} is no graph, or was destroyed"));
        }
        self.nodes.retain(|_, node| node.graph != handle);
        Ok(())
    }

    /// Makes a graph ready to run.
    pub(crate) fn instantiate(&mut self, handle: usize) -> Outcome<usize> {
        let Some(graph) = self.graphs.get(handle) else { return invalid(format!("{handle:#x} is no graph")) };
        let nodes = graph.nodes.clone();
        let commands = nodes.iter().filter_map(|node| Some(self.nodes.get(*node)?.command.clone())).collect();
        Ok(self.execs.insert(Exec { nodes, commands: Arc::new(commands) }))
    }

    /// Gives a kernel's node of a graph that is ready another launch. Work that waits to be run already keeps the old one.
    pub(crate) fn set_launch(&mut self, exec: usize, node: usize, launch: Launch) -> Outcome {
        if self.nodes.get(node).is_none() {
            return invalid(format!("{node:#x} is no node, or its graph was destroyed"));
        }
        let Some(exec) = self.execs.get_mut(exec) else {
            return invalid(format!("{exec:#x} is no graph to run"));
        };
        let Some(index) = exec.nodes.iter().position(|other| *other == node) else {
            return invalid("the node is one of another graph");
        };
        match &mut Arc::make_mut(&mut exec.commands)[index] {
            Command::Launch(old) => {
                *old = launch;
                Ok(())
            }
            _ => invalid("the node launches no kernel"),
        }
    }

    /// What a kernel's node launches. The pointers stay right until the graph is destroyed or the node is asked for again.
    pub(crate) fn launch_of(&mut self, node: usize) -> Outcome<hipKernelNodeParams> {
        let Some(node) = self.nodes.get_mut(node) else { return invalid(format!("{node:#x} is no node")) };
        let Command::Launch(launch) = &node.command else { return invalid("the node launches no kernel") };
        let arguments = launch.arguments.clone();
        let shown = Box::new(Shown { extra: [0; 5], bytes: launch.kernel.segment_bytes, arguments });
        let shown = node.shown.insert(shown);
        shown.extra = [
            HIP_LAUNCH_PARAM_BUFFER_POINTER.addr(),
            shown.arguments.as_ptr().expose_provenance(),
            HIP_LAUNCH_PARAM_BUFFER_SIZE.addr(),
            (&raw const shown.bytes).expose_provenance(),
            HIP_LAUNCH_PARAM_END.addr(),
        ];
        let sizes = |[x, y, z]: [u32; 3]| dim3 { x, y, z };
        Ok(hipKernelNodeParams {
            blockDim: sizes(launch.shape.block),
            extra: shown.extra.as_mut_ptr().cast(),
            func: std::ptr::without_provenance_mut(launch.function),
            gridDim: sizes(launch.shape.grid),
            kernelParams: std::ptr::null_mut(),
            sharedMemBytes: launch.shape.dynamic_shared_bytes,
        })
    }

    /// What kind of node it is.
    pub(crate) fn type_of(&self, node: usize) -> Outcome<hipGraphNodeType> {
        match self.nodes.get(node) {
            Some(node) => Ok(kind(&node.command)),
            None => invalid(format!("{node:#x} is no node")),
        }
    }

    /// Takes over the work of a graph of the same shape; where it has another one, says in which way, and where it begins.
    pub(crate) fn update(&mut self, exec: usize, graph: usize) -> Outcome<Result<(), Difference>> {
        let Some(graph) = self.graphs.get(graph) else { return invalid(format!("{graph:#x} is no graph")) };
        let commands: Vec<_> =
            graph.nodes.iter().filter_map(|node| Some(self.nodes.get(*node)?.command.clone())).collect();
        let nodes = graph.nodes.clone();
        let Some(exec) = self.execs.get_mut(exec) else {
            return invalid(format!("{exec:#x} is no graph to run"));
        };
        if commands.len() != exec.commands.len() {
            return Ok(Err((hipGraphExecUpdateErrorTopologyChanged, 0)));
        }
        let other = commands.iter().zip(exec.commands.iter()).position(|(a, b)| kind(a) != kind(b));
        if let Some(index) = other {
            return Ok(Err((hipGraphExecUpdateErrorNodeTypeChanged, nodes[index])));
        }
        exec.commands = Arc::new(commands);
        Ok(Ok(()))
    }
}

/// How graphs differ, and the first node that does.
pub(crate) type Difference = (hipGraphExecUpdateResult, usize);

/// The failure of an update.
pub(crate) fn differs() -> Outcome {
    fail(hipErrorGraphExecUpdateFailure, "the graph has another shape")
}

fn kind(command: &Command) -> hipGraphNodeType {
    match command {
        Command::Launch(_) => hipGraphNodeTypeKernel,
        Command::Copy { .. } => hipGraphNodeTypeMemcpy,
        Command::Fill { .. } => hipGraphNodeTypeMemset,
        _ => hipGraphNodeTypeEmpty,
    }
}
