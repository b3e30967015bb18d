//! Holds a design against the array's limits, before anything is written or compiled.
//!
//! What is refused here `mlir-aie` would refuse too, or take and compile to something that hangs. What routing finds is left to
//! that compiler, and whether the result is right to [`simulate`](crate::simulate).

mod program;
mod sequence;
mod structure;
mod tiles;
mod transfers;

use std::fmt;

use crate::design::{Design, Tile};
use crate::lower::Lowered;

/// Something that is wrong with a design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A fifo, a link, a core, a tile or a command.
    pub place: String,
    /// What is there, and what may be.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// What a tile has to give, and how much of it a design takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub tile: Tile,
    /// Of memory, a core's stack and what it keeps of fifos included.
    pub bytes: u64,
    /// DMA channels from streams.
    pub inputs: u32,
    /// DMA channels to streams.
    pub outputs: u32,
    /// Buffer descriptors.
    pub descriptors: u32,
    /// Semaphores.
    pub locks: u32,
}

/// What each tile is used for.
///
/// # Errors
/// All that is wrong with it. Sums over tiles are made only where names and links are in order.
pub fn check(design: &Design) -> Result<Vec<Usage>, Vec<Fault>> {
    let mut faults = Faults::default();
    structure::check(design, &mut faults);
    faults.so_far()?;
    program::check(design, &mut faults);
    transfers::check(design, &mut faults);
    sequence::check(design, &mut faults);
    let usage = tiles::check(design, &Lowered::of(design), &mut faults);
    faults.so_far()?;
    Ok(usage)
}

/// Faults that were found.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, place: impl fmt::Display, problem: String) {
        self.0.push(Fault { place: place.to_string(), problem });
    }

    /// Adds a fault where something is not so.
    fn unless(&mut self, fine: bool, place: impl fmt::Display, problem: impl FnOnce() -> String) {
        if !fine {
            self.add(place, problem());
        }
    }

    fn so_far(&mut self) -> Result<(), Vec<Fault>> {
        if self.0.is_empty() { Ok(()) } else { Err(std::mem::take(&mut self.0)) }
    }
}
