//! A core: its program, one step after another, as far as fifos let it.

use std::collections::BTreeMap;

use super::memory::{Lock, Pools};
use super::{Kernels, SimulationError};
use crate::design::{Core, Design, Step, Tile};
use crate::lower::{Lowered, Memory};

/// The program without nesting.
enum Instruction<'a> {
    /// Begins a loop of so many rounds.
    Repeat(u64),
    /// Ends a round of the loop that began there.
    Again(usize),
    Acquire(&'a str),
    Release(&'a str),
    Call(&'a str, &'a [String]),
}

pub(super) struct Processor<'a> {
    tile: Tile,
    program: Vec<Instruction<'a>>,
    next: usize,
    /// Rounds that loops still have, the innermost last.
    rounds: Vec<u64>,
    ends: BTreeMap<&'a str, End>,
}

/// Its end of a fifo.
struct End {
    pool: usize,
    produces: bool,
    /// Objects that it has had.
    taken: u64,
    /// The one that it has.
    object: usize,
}

impl<'a> Processor<'a> {
    /// Of a checked design.
    pub(super) fn new(design: &'a Design, lowered: &Lowered, core: &'a Core) -> Self {
        let mut ends = BTreeMap::new();
        for (fifo, stream) in design.fifos.iter().zip(&lowered.streams) {
            let sides = std::iter::once((true, &stream.sender));
            for (produces, end) in sides.chain(stream.receivers.iter().map(|end| (false, end))) {
                if let Memory::Pool { pool, .. } = end.memory
                    && end.tile == core.tile
                {
                    ends.insert(&*fifo.name, End { pool, produces, taken: 0, object: 0 });
                }
            }
        }
        let mut program = Vec::new();
        flatten(&core.steps, &mut program);
        Self { tile: core.tile, program, next: 0, rounds: Vec::new(), ends }
    }

    /// Goes on to the end of the next call, or to where it must wait; whether it did anything.
    pub(super) fn step(
        &mut self,
        pools: &mut Pools,
        kernels: &mut impl Kernels,
        calls: &mut u64,
    ) -> Result<bool, SimulationError> {
        let mut goes_on = false;
        while let Some(instruction) = self.program.get(self.next) {
            match instruction {
                Instruction::Repeat(times) => self.rounds.push(*times),
                Instruction::Again(start) => {
                    let left = self.rounds.last_mut().map_or(0, |left| {
                        *left -= 1;
                        *left
                    });
                    if left > 0 {
                        self.next = *start;
                    } else {
                        self.rounds.pop();
                    }
                }
                Instruction::Acquire(fifo) => {
                    let Some(end) = self.ends.get_mut(fifo) else { return Ok(goes_on) };
                    let lock = if end.produces { Lock::Free } else { Lock::Filled };
                    if !pools.acquire(end.pool, 0, lock) {
                        return Ok(goes_on);
                    }
                    end.object = (end.taken % pools.depth(end.pool)) as usize;
                    end.taken += 1;
                }
                Instruction::Release(fifo) => {
                    if let Some(end) = self.ends.get(fifo) {
                        pools.release(end.pool, 0, if end.produces { Lock::Filled } else { Lock::Free });
                    }
                }
                Instruction::Call(function, fifos) => {
                    self.call(function, fifos, pools, kernels)?;
                    *calls += 1;
                    self.next += 1;
                    return Ok(true);
                }
            }
            self.next += 1;
            goes_on = true;
        }
        Ok(goes_on)
    }

    fn call(
        &self,
        function: &str,
        fifos: &[String],
        pools: &mut Pools,
        kernels: &mut impl Kernels,
    ) -> Result<(), SimulationError> {
        let places: Vec<_> = fifos
            .iter()
            .filter_map(|fifo| self.ends.get(&**fifo))
            .map(|end| (end.pool, end.object))
            .collect();
        let take = |(pool, object): &(usize, usize)| pools.object(*pool, *object).map(std::mem::take);
        let mut objects: Vec<Vec<u8>> = places.iter().filter_map(take).collect();
        let failed =
            |problem| SimulationError::Kernel(format!("core at {}: {function}: {problem}", self.tile));
        kernels.call(function, &mut objects).map_err(failed)?;
        for ((pool, object), bytes) in places.into_iter().zip(objects) {
            if let Some(place) = pools.object(pool, object) {
                *place = bytes;
            }
        }
        Ok(())
    }

    /// What it waits for.
    pub(super) fn waiting(&self) -> Option<String> {
        match self.program.get(self.next)? {
            Instruction::Acquire(fifo) => Some(format!("the core at {} waits for {fifo}", self.tile)),
            _ => None,
        }
    }
}

fn flatten<'a>(steps: &'a [Step], program: &mut Vec<Instruction<'a>>) {
    for step in steps {
        match step {
            Step::Repeat { times, steps } => {
                let start = program.len();
                program.push(Instruction::Repeat(*times));
                flatten(steps, program);
                program.push(Instruction::Again(start));
            }
            Step::Acquire(fifo) => program.push(Instruction::Acquire(fifo)),
            Step::Release(fifo) => program.push(Instruction::Release(fifo)),
            Step::Call { function, objects } => program.push(Instruction::Call(function, objects)),
        }
    }
}
