//! What the host gives a run, as [`HostInputs`] lays it out, in memory of the device: it is written at once.

use gemma_hal::inputs::{HEADER, HostInputs, Source};
use gemma_hal::{DeviceError, Plan};

use crate::gpu::{Gpu, Region};

/// A plan's tables.
pub(super) struct Inputs {
    memory: Region,
    host: HostInputs,
}

impl Inputs {
    /// Room for the plan's longest run.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn of(gpu: &Gpu, plan: &Plan) -> Result<Self, DeviceError> {
        let host = HostInputs::of(plan);
        Ok(Self { memory: gpu.empty("inputs", host.words(plan.max_tokens()))?, host })
    }

    /// Writes what a run of `tokens` at `start` needs.
    pub(super) fn write(&mut self, gpu: &Gpu, plan: &Plan, tokens: &[u32], start: usize) {
        let mut staged = vec![0; self.host.words(tokens.len())];
        self.host.fill(plan, tokens, start, &mut staged);
        gpu.write(&self.memory, staged);
    }

    /// The words of which the first is the position of the run's first token.
    pub(super) fn header(&self) -> Region {
        self.memory.part(0, HEADER)
    }

    /// The rows of a table in a run of `tokens` tokens, from row `first` on.
    ///
    /// # Panics
    /// For a table that the plan does not have.
    pub(super) fn table(&self, wanted: Source, first: usize, tokens: usize) -> Region {
        let (begin, width) = self.host.table(wanted, tokens);
        self.memory.part(begin + first * width, (tokens - first) * width)
    }
}
