//! Bytes that a weight lives in: a mapped file, a vector, a static array.
//!
//! A [`Storage`] is shared, immutable and cheap to clone. It never copies and never reads; whoever reads a page of
//! a mapped file pays for that page and no other.

use std::fmt;
use std::sync::Arc;

/// Shared immutable bytes.
#[derive(Clone)]
pub struct Storage {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    name: Arc<str>,
}

impl Storage {
    /// Wraps bytes; `name` says where they came from in error messages (a file name, "embedded", "synthetic").
    pub fn new(name: &str, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self { bytes: Arc::new(bytes), name: name.into() }
    }

    /// All the bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// Where the bytes came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Whether both are the same bytes in memory, not merely equal ones.
    pub fn same_as(&self, other: &Self) -> bool {
        std::ptr::eq(self.bytes().as_ptr(), other.bytes().as_ptr()) && self.len() == other.len()
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({}, {} bytes)", self.name, self.len())
    }
}
