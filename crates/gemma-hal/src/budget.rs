//! [`Budget`]: how much memory a device may hold, counted before it is allocated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::DeviceError;
use crate::device::MemoryUse;

/// A limit in bytes, shared by all that a device allocates.
#[derive(Clone, Debug)]
pub struct Budget {
    device: Arc<str>,
    limit: u64,
    used: Arc<AtomicU64>,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes for `device`.
    pub fn new(device: &str, limit: u64) -> Self {
        Self { device: device.into(), limit, used: Arc::default() }
    }

    /// Takes `bytes` for `what`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] when they are not there; nothing is taken then.
    pub fn reserve(&self, what: &str, bytes: u64) -> Result<Reservation, DeviceError> {
        let take = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(Reservation { used: Arc::clone(&self.used), bytes }),
            Err(used) => Err(DeviceError::OutOfMemory {
                device: self.device.to_string(),
                what: what.to_owned(),
                wanted: bytes,
                available: self.limit - used,
            }),
        }
    }

    /// What is taken, and the limit.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse { used: self.used.load(Ordering::Relaxed), limit: self.limit }
    }
}

impl Reservation {
    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_comes_back() {
        let budget = Budget::new("test", 100);
        let first = budget.reserve("arena", 60).unwrap();
        let error = budget.reserve("cache", 41).unwrap_err();
        assert_eq!(
            error,
            DeviceError::OutOfMemory {
                device: "test".into(),
                what: "cache".into(),
                wanted: 41,
                available: 40
            }
        );
        assert!(budget.reserve("cache", u64::MAX).is_err());
        drop(first);
        assert_eq!(budget.memory(), MemoryUse { used: 0, limit: 100 });
        assert!(budget.reserve("cache", 100).is_ok());
    }
}
