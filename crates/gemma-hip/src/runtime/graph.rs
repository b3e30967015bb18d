//! [`Graph`]: launches that were recorded once and are asked for as one.

use std::ptr;
use std::sync::Arc;

use gemma_hal::DeviceError;
use hip_sys::{hipGraph_t, hipGraphExec_t, hipStreamCaptureModeThreadLocal, hipStreamCaptureStatusNone};

use super::card::{Card, Retired, Turn};

/// Recorded launches, ready to run. What they work on must stay as long as this.
pub(crate) struct Graph {
    card: Arc<Card>,
    exec: hipGraphExec_t,
}

// SAFETY: the runtime takes graphs from any thread.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `launch` launches, without running it. The stream must be empty: after a failure it may be another one.
    ///
    /// # Errors
    /// What the runtime says, [`DeviceError::Unsupported`] among it where it does not record; nothing has run then, and nothing is recorded
    /// any more.
    pub(crate) fn record(
        turn: &Turn<'_>,
        launch: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<Self, DeviceError> {
        let (card, driver) = (turn.card(), &turn.card().driver);
        // Other threads may allocate in the meantime.
        driver.ask("hipStreamBeginCapture", |hip| {
            // SAFETY: the stream lives as long as the card.
            unsafe { (hip.hipStreamBeginCapture)(card.stream(), hipStreamCaptureModeThreadLocal) }
        })?;
        let launched = launch();
        let mut graph = ptr::null_mut();
        let ended = driver.ask("hipStreamEndCapture", |hip| {
            // SAFETY: the place lives as long as the call, and the stream as long as the card.
            unsafe { (hip.hipStreamEndCapture)(card.stream(), &raw mut graph) }
        });
        let left = if ended.is_err() { Self::leave(turn) } else { Ok(()) };
        let recorded = left.and(launched).and(ended).and_then(|()| Self::instantiate(card, graph));
        if !graph.is_null() {
            // SAFETY: nobody has the graph, of which what runs is made, any more.
            let _ = driver.ask("hipGraphDestroy", |hip| unsafe { (hip.hipGraphDestroy)(graph) });
        }
        recorded
    }

    /// Sees to it that the stream is one that runs what it is asked for.
    fn leave(turn: &Turn<'_>) -> Result<(), DeviceError> {
        let (card, mut status) = (turn.card(), hipStreamCaptureStatusNone);
        let asked = card.driver.ask("hipStreamIsCapturing", |hip| {
            // SAFETY: the place lives as long as the call, and the stream as long as the card.
            unsafe { (hip.hipStreamIsCapturing)(card.stream(), &raw mut status) }
        });
        if asked.is_ok() && status == hipStreamCaptureStatusNone { Ok(()) } else { turn.renew_stream() }
    }

    fn instantiate(card: &Arc<Card>, graph: hipGraph_t) -> Result<Self, DeviceError> {
        let mut exec = ptr::null_mut();
        card.driver.ask("hipGraphInstantiate", |hip| {
            let none = ptr::null_mut();
            // SAFETY: the place lives as long as the call, the graph is whole, and the others may be null.
            unsafe { (hip.hipGraphInstantiate)(&raw mut exec, graph, none, ptr::null_mut(), 0) }
        })?;
        Ok(Self { card: Arc::clone(card), exec })
    }

    /// Puts all of it behind what was asked for before.
    ///
    /// # Errors
    /// What the runtime says.
    pub(crate) fn launch(&self) -> Result<(), DeviceError> {
        self.card.driver.ask("hipGraphLaunch", |hip| {
            // SAFETY: the graph lives as long as this, and what it works on as well, as who recorded it has promised.
            unsafe { (hip.hipGraphLaunch)(self.exec, self.card.stream()) }
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.card.retire(Retired::Graph(self.exec));
    }
}
