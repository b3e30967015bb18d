//! Runs of one token, recorded once and replayed: their launches differ in nothing but what the host writes.

use cubecl::client::Graph;
use gemma_hal::{Deadline, DeviceError};

use super::Run;
use crate::gpu::Gpu;

/// What launches depend on: the cache, and how many values of the output are wanted.
type Key = (u64, usize);

/// The launches of a plan over one cache.
#[derive(Default)]
pub(super) struct Recording {
    /// What was recorded.
    graph: Option<(Key, Graph)>,
    /// What is about to be recorded: this run allocates what recording must not.
    prepared: Option<Key>,
    /// What the last run was.
    last: Option<Key>,
    /// Whether the driver has refused to record.
    refused: bool,
}

impl Recording {
    /// Runs what was recorded for the run's cache, or launches.
    pub(super) fn run(&mut self, run: &Run<'_>, deadline: &Deadline) -> Result<(), DeviceError> {
        let key = run.key();
        if let Some((_, graph)) = self.graph.as_ref().filter(|(of, _)| *of == key) {
            // SAFETY: the launches touch weights, activations and inputs, which the executable owns as it owns this
            // recording, and the cache that is lent to the run. All work of a device is on one stream.
            return unsafe { graph.replay() }.map_err(|error| run.gpu.error(&error));
        }
        if !self.refused && self.last == Some(key) {
            self.graph = None;
            match run.gpu.client.graph_prepare() {
                Ok(()) => self.prepared = Some(key),
                Err(_) => self.refused = true,
            }
        }
        self.last = Some(key);
        run.launch(deadline)
    }

    /// Gives up what a run that failed was about to record: nobody could record on the queue otherwise.
    pub(super) fn abandon(&mut self, gpu: &Gpu) {
        if self.prepared.take().is_some() {
            // There is nothing to seal, which is what the error says.
            let _ = gpu.client.stop_capture();
        }
    }

    /// Records the launches of the run that has just been read, if it was the second one over its cache.
    pub(super) fn record(&mut self, run: &Run<'_>) {
        if self.prepared.take() != Some(run.key()) {
            return;
        }
        let started = run.gpu.client.start_capture().is_ok();
        let launched = started && run.launch(&Deadline::never()).is_ok();
        match run.gpu.client.stop_capture() {
            Ok(graph) if launched => self.graph = Some((run.key(), graph)),
            // Launching one by one does the same.
            _ => self.refused = true,
        }
    }
}

impl Run<'_> {
    fn key(&self) -> Key {
        (self.cache.id, self.shortlist.map_or(0, |shortlist| shortlist.wanted))
    }
}
