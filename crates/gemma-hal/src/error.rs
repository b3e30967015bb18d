//! [`DeviceError`]: what can go wrong on a device, in terms of what the caller can do about it.

use std::time::Duration;

/// A failure that a caller cannot foresee. Every variant names the device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A smaller context, chunk or slice may fit; so may another device.
    #[error(
        "{device}: out of memory for {what}: {wanted} bytes wanted, {available} available; try a shorter context or a smaller slice"
    )]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes left.
        available: u64,
    },
    /// Everything on the device is gone; go on elsewhere from the tokens.
    #[error("{device}: lost: {detail}; go on with another device (--device cpu)")]
    Lost {
        /// Name of the device.
        device: String,
        /// The driver's words.
        detail: String,
    },
    /// The work may still be running; the device must not be used again before it answers.
    #[error("{device}: no answer within {waited:?} while {what}")]
    Timeout {
        /// Name of the device.
        device: String,
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The caller asked to stop. The cache still holds what it held before the run.
    #[error("{device}: cancelled")]
    Cancelled {
        /// Name of the device.
        device: String,
    },
    /// The device cannot run this plan, now or ever.
    #[error("{device}: does not support {what}")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// Operation, type or size.
        what: String,
    },
    /// The call breaks the contract: too many tokens, a full context, an unknown token, another device's cache.
    #[error("{device}: {detail}")]
    InvalidCall {
        /// Name of the device.
        device: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The driver or the operating system refused.
    #[error("{device}: driver: {detail}")]
    Driver {
        /// Name of the device.
        device: String,
        /// The driver's words.
        detail: String,
    },
}
