//! [`Inputs`]: what the host gives a run: its position, the tokens' embeddings, the angles of its positions.
//!
//! All of it lies in one piece of the GPU's memory, at the same places in all runs of as many tokens. A run's first kernel fetches it from
//! memory of the host that the GPU reads: a copy by the runtime would go through another engine, and be in doubt before a replayed graph.
//! There are two such pieces, so that the host fills one while the other is on its way.

use std::cell::Cell;

use gemma_hal::inputs::{HostInputs, Source, words};
use gemma_hal::{Deadline, DeviceError, Plan};
use gemma_hip_kernels::arguments::Copy;
use gemma_hip_kernels::{Address, Launch};

use crate::runtime::{Buffer, Event, Placement, Turn};

/// A piece that the host fills.
struct Slot {
    buffer: Buffer,
    /// Behind the run that has fetched it.
    fetched: Event,
}

/// A plan's inputs.
pub(super) struct Inputs {
    memory: Buffer,
    host: HostInputs,
    /// None where the GPU cannot read the host's memory.
    slots: Option<[Slot; 2]>,
    /// The slot of the last run.
    last: usize,
    /// Whether what was launched last may read a slot without its event telling when.
    is_in_doubt: Cell<bool>,
    staged: Vec<u32>,
}

/// Bytes for the longest run of `plan`, those of the host included, known before they are asked for.
pub(super) fn bytes(plan: &Plan) -> usize {
    3 * words(plan) * size_of::<u32>()
}

impl Inputs {
    /// Room for the plan's longest run.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(super) fn of(turn: &Turn<'_>, plan: &Plan) -> Result<Self, DeviceError> {
        let host = HostInputs::of(plan);
        let words = host.words(plan.max_tokens());
        let bytes = words * size_of::<u32>();
        let memory = turn.allocate("inputs", bytes, Placement::Device)?;
        let slots = match (slot(turn, bytes)?, slot(turn, bytes)?) {
            (Some(one), Some(other)) => Some([one, other]),
            _ => None,
        };
        Ok(Self { memory, host, slots, last: 0, is_in_doubt: Cell::new(false), staged: vec![0; words] })
    }

    /// Lays out what a run of `tokens` at `start` needs, for [`Inputs::fetch`].
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what the runtime says.
    pub(super) fn lay_out(
        &mut self,
        turn: &Turn<'_>,
        plan: &Plan,
        tokens: &[u32],
        start: usize,
        deadline: &Deadline,
    ) -> Result<(), DeviceError> {
        self.host.fill(plan, tokens, start, &mut self.staged);
        let bytes: &[u8] = bytemuck::cast_slice(&self.staged[..self.host.words(tokens.len())]);
        let Some(slots) = &self.slots else {
            // The runtime copies when it likes; so nothing may be under way.
            turn.finish("waiting for earlier work", deadline)?;
            return turn.put(&self.memory, 0, bytes);
        };
        // A step of decode is recorded with the address of its slot.
        self.last = if tokens.len() == 1 { 0 } else { (self.last + 1) % slots.len() };
        let slot = &slots[self.last];
        if self.is_in_doubt.get() {
            turn.finish("waiting for earlier work", deadline)?;
        }
        slot.fetched.wait("waiting for earlier work", deadline)?;
        self.is_in_doubt.set(true);
        // SAFETY: the run that has fetched it last has come to its event, or all has, and nobody else has the turn.
        let is_there = unsafe { slot.buffer.write_as_host(0, bytes) };
        assert!(is_there, "a slot is memory of the host, with room for the longest run");
        Ok(())
    }

    /// What fetches the inputs of a run of `tokens` tokens; none where they are there already.
    pub(super) fn fetch(&self, tokens: usize) -> Option<Launch> {
        let slot = &self.slots.as_ref()?[self.last];
        let count = self.host.words(tokens) as u32;
        Some(Copy { input: slot.buffer.at(0), output: self.memory.at(0), count, padding: 0 }.launch())
    }

    /// Says that all of a run has been launched.
    ///
    /// # Errors
    /// What the runtime says.
    pub(super) fn launched(&self) -> Result<(), DeviceError> {
        if let Some(slots) = &self.slots {
            slots[self.last].fetched.record()?;
        }
        self.is_in_doubt.set(false);
        Ok(())
    }

    /// The word with the position of the run's first token.
    pub(super) fn header(&self) -> Address {
        self.memory.at(0)
    }

    /// The rows of a table in a run of `tokens` tokens.
    ///
    /// # Panics
    /// For a table that the plan does not have.
    pub(super) fn at(&self, wanted: Source, tokens: usize) -> Address {
        self.memory.at(self.host.table(wanted, tokens).0 * size_of::<u32>())
    }
}

fn slot(turn: &Turn<'_>, bytes: usize) -> Result<Option<Slot>, DeviceError> {
    let Some(buffer) = super::shared(turn, "inputs", bytes)? else { return Ok(None) };
    Ok(Some(Slot { buffer, fetched: Event::new(turn, false)? }))
}
