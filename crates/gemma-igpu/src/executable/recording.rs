//! Runs of one token, recorded once and replayed: their launches differ in nothing but what the host writes.

use cubecl::client::Graph;
use gemma_hal::{Deadline, DeviceError};

use super::Run;

/// What launches depend on: the cache, and how many values of the output are wanted.
type Key = (u64, usize);

/// The launches of a plan over one cache.
#[derive(Default)]
pub(super) struct Recording {
    /// What was recorded.
    graph: Option<(Key, Graph)>,
    /// What the last run was.
    last: Option<Key>,
    /// Whether the driver has refused to record.
    refused: bool,
}

impl Recording {
    /// Runs what was recorded for the run's cache, or launches; the second run over a cache is recorded.
    ///
    /// # Errors
    /// As [`Run::launch`].
    pub(super) fn run(&mut self, run: &Run<'_>, deadline: &Deadline) -> Result<(), DeviceError> {
        let key = run.key();
        if let Some((_, graph)) = self.graph.as_ref().filter(|(of, _)| *of == key) {
            deadline.check(&run.gpu.id, "replaying a run")?;
            // SAFETY: the launches touch weights, activations and inputs, which the executable owns as it owns this recording, and
            // the cache that is lent to the run. All work of a device is on one stream.
            unsafe { graph.replay() }.map_err(|error| run.gpu.error(&error))?;
            return run.gpu.submit();
        }
        let again = self.last.replace(key) == Some(key);
        if self.refused || !again {
            return run.launch(deadline);
        }
        self.graph = None;
        match record(run, deadline)? {
            Some(graph) => self.graph = Some((key, graph)),
            // Launching one by one does the same.
            None => self.refused = true,
        }
        Ok(())
    }
}

/// Launches a run and records it on the way. None where the driver does not record.
fn record(run: &Run<'_>, deadline: &Deadline) -> Result<Option<Graph>, DeviceError> {
    let client = &run.gpu.client;
    // What is launched now allocates what recording must not.
    let prepared = client.graph_prepare().is_ok();
    if let Err(error) = run.launch(deadline) {
        if prepared {
            // There is nothing to seal, which is what the error says; nobody could record on the queue otherwise.
            let _ = client.stop_capture();
        }
        return Err(error);
    }
    let started = prepared && client.start_capture().is_ok();
    let launched = started && run.launch(&Deadline::never()).is_ok();
    let graph = if prepared { client.stop_capture().ok() } else { None };
    Ok(graph.filter(|_| launched))
}

impl Run<'_> {
    fn key(&self) -> Key {
        (self.cache.id, self.shortlist.map_or(0, |shortlist| shortlist.wanted))
    }
}
