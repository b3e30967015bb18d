//! Runs of one token, recorded once and replayed: their launches differ in nothing but what the host writes.
//!
//! A recording has several parts. Each is handed to the GPU by itself, which works on one while the host prepares the next.

use std::ops::Range;

use cubecl::client::Graph;
use gemma_hal::{Deadline, DeviceError, Plan};

use super::Run;

/// What launches depend on: the cache, and how many values of the output are wanted.
type Key = (u64, usize);

/// Layers of the first part are one in so many: few, since the GPU waits for them.
const FIRST_PART: usize = 10;

/// The next part has up to so many quarters of the layers before: preparing a launch takes the host less time than running it
/// takes the GPU, so that it is ready in time.
const GROWTH_QUARTERS: usize = 6;

/// The launches of a plan over one cache.
#[derive(Default)]
pub(super) struct Recording {
    /// What was recorded.
    graphs: Option<(Key, Vec<Graph>)>,
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
        if let Some((_, graphs)) = self.graphs.as_ref().filter(|(of, _)| *of == key) {
            for graph in graphs {
                deadline.check(&run.gpu.id, "replaying a run")?;
                // SAFETY: the launches touch weights, activations and inputs, which the executable owns as it owns this
                // recording, and the cache that is lent to the run. All work of a device is on one stream.
                unsafe { graph.replay() }.map_err(|error| run.gpu.error(&error))?;
                run.gpu.submit()?;
            }
            return Ok(());
        }
        let again = self.last.replace(key) == Some(key);
        if self.refused || !again {
            return run.launch(deadline);
        }
        self.graphs = None;
        match record(run, deadline)? {
            Some(graphs) => self.graphs = Some((key, graphs)),
            // Launching one by one does the same.
            None => self.refused = true,
        }
        Ok(())
    }
}

/// Launches a run and records it on the way. None where the driver does not record.
fn record(run: &Run<'_>, deadline: &Deadline) -> Result<Option<Vec<Graph>>, DeviceError> {
    let client = &run.gpu.client;
    let mut graphs = Some(Vec::new());
    for part in parts(run.plan) {
        // What is launched now allocates what recording must not.
        let prepared = graphs.is_some() && client.graph_prepare().is_ok();
        if let Err(error) = run.launch_steps(part.clone(), deadline) {
            if prepared {
                // There is nothing to seal, which is what the error says; nobody could record on the queue otherwise.
                let _ = client.stop_capture();
            }
            return Err(error);
        }
        let started = prepared && client.start_capture().is_ok();
        let launched = started && run.launch_steps(part, &Deadline::never()).is_ok();
        let graph = if prepared { client.stop_capture().ok().filter(|_| launched) } else { None };
        graphs = graphs.zip(graph).map(|(mut graphs, graph)| {
            graphs.push(graph);
            graphs
        });
    }
    Ok(graphs)
}

/// The steps of each part of a recording: whole layers.
fn parts(plan: &Plan) -> Vec<Range<usize>> {
    let steps = plan.steps();
    // Where a layer begins, but for the first one, to which belongs what comes before.
    let begins =
        (1..steps.len()).filter(|&i| steps[i].layer.is_some() && steps[i].layer != steps[i - 1].layer);
    let begins: Vec<usize> = begins.skip(1).collect();
    let (mut parts, mut from, mut done) = (Vec::new(), 0, 0);
    let mut layers = (begins.len() + 1).div_ceil(FIRST_PART);
    while done + layers <= begins.len() {
        done += layers;
        let end = begins[done - 1];
        parts.push(from..end);
        from = end;
        layers = (layers * GROWTH_QUARTERS / 4).max(1);
    }
    parts.push(from..steps.len());
    parts
}

impl Run<'_> {
    fn key(&self) -> Key {
        (self.cache.id, self.shortlist.map_or(0, |shortlist| shortlist.wanted))
    }
}
