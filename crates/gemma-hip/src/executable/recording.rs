//! [`Recording`]: runs of one token, recorded once and replayed: their launches differ in nothing but what the host lays out.
//!
//! The position and the inputs lie at places that stay, so no argument of a recorded kernel ever changes, and the first one fetches them.

use gemma_hal::{Deadline, DeviceError};

use super::Run;
use crate::runtime::Graph;

/// What launches depend on: the cache, and how many values of the output are wanted.
type Key = (u64, usize);

/// The launches of a plan over one cache.
#[derive(Default)]
pub(super) struct Recording {
    /// What was recorded.
    graph: Option<(Key, Graph)>,
    /// What the last run was.
    last: Option<Key>,
    /// Whether the runtime has refused to record or to replay.
    is_refused: bool,
}

impl Recording {
    /// Replays what was recorded for the run's cache, or launches; the second run over a cache is recorded.
    ///
    /// # Errors
    /// As [`Run::launch`].
    pub(super) fn run(&mut self, run: &Run<'_>, deadline: &Deadline) -> Result<(), DeviceError> {
        let key = run.key();
        let again = self.last.replace(key) == Some(key);
        if self.is_refused || !(again || self.graph.as_ref().is_some_and(|(of, _)| *of == key)) {
            return run.launch(deadline);
        }
        if self.graph.as_ref().is_none_or(|(of, _)| *of != key) {
            self.graph = None;
            // What is recorded in vain may take the stream with it, and must leave nothing undone.
            run.turn.finish("recording a run", deadline)?;
            match Graph::record(run.turn, || run.launch(&Deadline::never())) {
                Ok(graph) => self.graph = Some((key, graph)),
                Err(error) => return self.refuse(error, run, deadline),
            }
        }
        let Some((_, graph)) = &self.graph else { return run.launch(deadline) };
        deadline.check(run.turn.card().id(), "replaying a run")?;
        match graph.launch() {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(error, run, deadline),
        }
    }

    /// Goes on without graphs, unless the device is lost: launching one by one does the same.
    fn refuse(&mut self, error: DeviceError, run: &Run<'_>, deadline: &Deadline) -> Result<(), DeviceError> {
        if matches!(error, DeviceError::Lost { .. }) {
            return Err(error);
        }
        (self.graph, self.is_refused) = (None, true);
        run.launch(deadline)
    }
}

impl Run<'_> {
    fn key(&self) -> Key {
        (self.memory.cache.id, self.shortlist.map_or(0, |shortlist| shortlist.wanted))
    }
}
