//! Runs a design: real bytes through its transfers, buffers and semaphores, with kernels that the caller gives.
//!
//! Streams, cores and the sequence take turns in an order that a seed decides, so a result that depends on timing shows. It knows
//! no time and no routes, and is no model of how fast anything is.

mod memory;
mod processor;
mod stream;

use std::collections::BTreeSet;

use thiserror::Error;

use crate::check::{Fault, check};
use crate::design::{Command, Copy, Design, Tile};
use crate::lower::Lowered;
use memory::Pools;
use processor::Processor;
use stream::{Stream, Task};

/// What cores call.
pub trait Kernels {
    /// Calls a function with the objects that a core gives it, which it may change.
    ///
    /// # Errors
    /// When there is no such function, or it fails.
    fn call(&mut self, function: &str, objects: &mut [Vec<u8>]) -> Result<(), String>;
}

/// Why a design could not be run to its end.
#[derive(Debug, Error)]
pub enum SimulationError {
    /// It does not keep to the array's limits.
    #[error("the design has {} faults, the first: {}", .0.len(), .0.first().map_or(String::new(), ToString::to_string))]
    Faults(Vec<Fault>),
    /// The caller's buffers are not those of the sequence.
    #[error("buffers of {given:?} bytes, the sequence takes {wanted:?}")]
    Arguments {
        /// What came.
        given: Vec<u64>,
        /// What is taken.
        wanted: Vec<u64>,
    },
    /// A copy takes a descriptor whose last copy still runs.
    #[error("{tile}: descriptor {descriptor} is written while it is in use")]
    DescriptorInUse {
        /// The shim tile.
        tile: Tile,
        /// The descriptor.
        descriptor: u32,
    },
    /// More copies wait at a channel than it can hold.
    #[error("{0}: more copies than its channel's queue can hold")]
    QueueFull(String),
    /// Nothing can go on, and the sequence has not ended.
    #[error("nothing goes on: {}", .0.join("; "))]
    Stuck(Vec<String>),
    /// The sequence has ended, and data is still on its way.
    #[error("the sequence has ended, but {}", .0.join("; "))]
    LeftOver(Vec<String>),
    /// A kernel failed.
    #[error("{0}")]
    Kernel(String),
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Words that went over streams; a broadcast counts once.
    pub words: u64,
    /// Calls of kernels.
    pub calls: u64,
}

/// A design on the array. It stays there from one run to the next, as on an NPU.
pub struct Simulator<'a, K> {
    design: &'a Design,
    kernels: K,
    pools: Pools,
    streams: Vec<Stream>,
    processors: Vec<Processor<'a>>,
    /// Descriptors of shim tiles that are in use.
    busy: BTreeSet<(Tile, u32)>,
    random: u64,
    report: Report,
}

impl<'a, K: Kernels> Simulator<'a, K> {
    /// The design, loaded. The seed decides who goes first.
    ///
    /// # Errors
    /// When the design has faults.
    pub fn new(design: &'a Design, kernels: K, seed: u64) -> Result<Self, SimulationError> {
        check(design).map_err(SimulationError::Faults)?;
        let lowered = Lowered::of(design);
        let processors = design.cores.iter().map(|core| Processor::new(design, &lowered, core)).collect();
        let streams = design.fifos.iter().zip(&lowered.streams);
        Ok(Self {
            design,
            kernels,
            streams: streams.map(|(fifo, stream)| Stream::new(fifo, stream)).collect(),
            pools: Pools::new(lowered.pools),
            processors,
            busy: BTreeSet::new(),
            random: seed | 1,
            report: Report::default(),
        })
    }

    /// One call of the sequence with these buffers, in bytes as they are in memory.
    ///
    /// # Errors
    /// What [`SimulationError`] has; the state is of no use afterwards.
    pub fn run(&mut self, arguments: &mut [Vec<u8>]) -> Result<Report, SimulationError> {
        let wanted: Vec<u64> =
            self.design.sequence.arguments.iter().map(|argument| argument.object.bytes()).collect();
        let given: Vec<u64> = arguments.iter().map(|buffer| buffer.len() as u64).collect();
        if given != wanted {
            return Err(SimulationError::Arguments { given, wanted });
        }
        self.report = Report::default();
        let mut next = 0;
        loop {
            let mut goes_on = self.command(&mut next)?;
            let mut order: Vec<usize> = (0..self.streams.len() + self.processors.len()).collect();
            self.shuffle(&mut order);
            for one in order {
                goes_on |= self.step(one, arguments)?;
                // The sequence is never late, so that whatever it must not overtake shows.
                goes_on |= self.command(&mut next)?;
            }
            if !goes_on {
                break;
            }
        }
        if next < self.design.sequence.commands.len() {
            return Err(SimulationError::Stuck(self.waiting(next)));
        }
        let left = self.left();
        if left.is_empty() { Ok(self.report) } else { Err(SimulationError::LeftOver(left)) }
    }

    /// Lets a stream or a core go on; whether it could.
    fn step(&mut self, one: usize, arguments: &mut [Vec<u8>]) -> Result<bool, SimulationError> {
        let words = 1 + self.draw() % 1024;
        if let Some(stream) = self.streams.get_mut(one) {
            let moved = stream.step(words, &mut self.pools, arguments, &mut self.busy);
            self.report.words += moved;
            return Ok(moved > 0);
        }
        match self.processors.get_mut(one - self.streams.len()) {
            Some(processor) => processor.step(&mut self.pools, &mut self.kernels, &mut self.report.calls),
            None => Ok(false),
        }
    }

    /// Does what commands can be done at once; whether there was one.
    fn command(&mut self, next: &mut usize) -> Result<bool, SimulationError> {
        let start = *next;
        while let Some(command) = self.design.sequence.commands.get(*next) {
            match command {
                Command::Copy(copy) => self.begin(copy)?,
                Command::Wait(name) => {
                    let fifo = self.design.fifos.iter().position(|fifo| fifo.name == *name);
                    let stream = fifo.and_then(|fifo| self.streams.get_mut(fifo));
                    if !stream.is_some_and(Stream::take_token) {
                        break;
                    }
                }
            }
            *next += 1;
        }
        Ok(*next > start)
    }

    fn begin(&mut self, copy: &Copy) -> Result<(), SimulationError> {
        let fifo = self.design.fifos.iter().position(|fifo| fifo.name == copy.fifo);
        let argument = self.design.sequence.arguments.get(copy.argument);
        // The check has seen to both.
        let Some((stream, argument)) = fifo.and_then(|fifo| self.streams.get_mut(fifo)).zip(argument) else {
            return Ok(());
        };
        let tile = stream.shim();
        if !self.busy.insert((tile, copy.descriptor)) {
            return Err(SimulationError::DescriptorInUse { tile, descriptor: copy.descriptor });
        }
        if stream.push(Task::new(copy, argument.object.element, tile)) {
            Ok(())
        } else {
            Err(SimulationError::QueueFull(copy.fifo.clone()))
        }
    }

    fn waiting(&self, next: usize) -> Vec<String> {
        let command = self.design.sequence.commands.get(next);
        let mut all = vec![format!("the sequence waits at command {next}, {command:?}")];
        all.extend(self.processors.iter().filter_map(Processor::waiting));
        all
    }

    /// Data that nobody has taken.
    fn left(&self) -> Vec<String> {
        let mut all: Vec<String> = self.streams.iter().filter_map(Stream::left).collect();
        all.extend(self.pools.left());
        all
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for end in (1..order.len()).rev() {
            let other = self.draw() % (end as u64 + 1);
            order.swap(end, other as usize);
        }
    }
}
