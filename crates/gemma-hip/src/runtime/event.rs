//! [`Event`]: a point in the stream, which can be waited for, and whose time can be asked.

use std::ptr;
use std::sync::Arc;

use gemma_hal::{Deadline, DeviceError};
use hip_sys::{hipEvent_t, hipEventDefault, hipEventDisableTiming};

use super::card::{Card, Turn};

/// A point in the stream of a card.
pub(crate) struct Event {
    card: Arc<Card>,
    handle: hipEvent_t,
}

// SAFETY: the runtime takes events from any thread.
unsafe impl Send for Event {}

impl Event {
    /// One that was not reached, with its time or without.
    ///
    /// # Errors
    /// What the runtime says.
    pub(crate) fn new(turn: &Turn<'_>, is_timed: bool) -> Result<Self, DeviceError> {
        let mut handle = ptr::null_mut();
        let flags = if is_timed { hipEventDefault } else { hipEventDisableTiming };
        turn.card().driver.ask("hipEventCreateWithFlags", |hip| {
            // SAFETY: the place lives as long as the call.
            unsafe { (hip.hipEventCreateWithFlags)(&raw mut handle, flags) }
        })?;
        Ok(Self { card: Arc::clone(turn.card()), handle })
    }

    /// Puts it behind what was asked for so far.
    ///
    /// # Errors
    /// What the runtime says.
    pub(crate) fn record(&self) -> Result<(), DeviceError> {
        let stream = self.card.stream();
        // SAFETY: both live as long as this.
        self.card.driver.ask("hipEventRecord", |hip| unsafe { (hip.hipEventRecord)(self.handle, stream) })
    }

    /// Waits until it is reached; at once where it was never recorded.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what the runtime says.
    pub(crate) fn wait(&self, what: &str, deadline: &Deadline) -> Result<(), DeviceError> {
        self.card.wait(what, deadline, || {
            // SAFETY: the event lives as long as this.
            self.card.driver.is_done("hipEventQuery", |hip| unsafe { (hip.hipEventQuery)(self.handle) })
        })
    }

    /// Seconds from an earlier point to this one, both reached and timed.
    ///
    /// # Errors
    /// What the runtime says.
    pub(crate) fn seconds_since(&self, earlier: &Self) -> Result<f64, DeviceError> {
        let mut milliseconds = 0.0;
        self.card.driver.ask("hipEventElapsedTime", |hip| {
            // SAFETY: the place lives as long as the call, and both events as long as they are lent.
            unsafe { (hip.hipEventElapsedTime)(&raw mut milliseconds, earlier.handle, self.handle) }
        })?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // Of a lost device there is nothing to give back, and nobody to tell. An event may be destroyed before it is reached.
        // SAFETY: nobody has the event any more.
        let _ = self.card.driver.ask("hipEventDestroy", |hip| unsafe { (hip.hipEventDestroy)(self.handle) });
    }
}
