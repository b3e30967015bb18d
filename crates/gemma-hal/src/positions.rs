//! [`Positions`]: which positions a KV cache holds, and what its rings have lost. The values themselves are elsewhere.

use crate::DeviceError;
use crate::cache::Snapshot;
use crate::device::is_cache_dtype;
use crate::plan::CacheLayout;

/// The part of a KV cache that is the same on every device.
///
/// Position `p` of a layer lies in slot `p mod capacity`; a layer without a window has a slot for every position.
#[derive(Clone, Debug)]
pub struct Positions {
    device: String,
    layout: CacheLayout,
    context: usize,
    chunk: usize,
    len: usize,
    /// Positions ever written since the cache was empty; tells what the rings have lost.
    written: usize,
}

impl Positions {
    /// Of an empty cache.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for a type that is none of [`crate::CACHE_DTYPES`] or whose blocks do not fill a
    /// position, [`DeviceError::InvalidCall`] for no positions.
    pub fn new(
        device: &str,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Self, DeviceError> {
        let device = device.to_owned();
        if !is_cache_dtype(layout.dtype) {
            return Err(DeviceError::Unsupported { device, what: format!("a KV cache in {}", layout.dtype) });
        }
        let block = layout.dtype.block_len();
        if let Some(layer) = layout.layers.iter().find(|layer| !layer.width.is_multiple_of(block)) {
            let what = format!("a KV cache in {} of {} values a position", layout.dtype, layer.width);
            return Err(DeviceError::Unsupported { device, what });
        }
        if context == 0 || chunk == 0 {
            let detail = "a cache for no positions".to_owned();
            return Err(DeviceError::InvalidCall { device, detail });
        }
        Ok(Self { device, layout: layout.clone(), context, chunk, len: 0, written: 0 })
    }

    /// What the cache is laid out for.
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// Positions it can hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The most tokens that one run may write.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Positions it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the values take.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes(self.context, self.chunk)
    }

    /// Slots of `layer`.
    pub fn capacity(&self, layer: usize) -> usize {
        self.layout.capacity(layer, self.context, self.chunk)
    }

    /// Says that `tokens` positions are about to be written behind the ones held.
    pub fn begin(&mut self, tokens: usize) {
        self.written = self.written.max(self.len + tokens);
    }

    /// Makes the positions written since [`Positions::begin`] part of the cache.
    pub fn commit(&mut self, tokens: usize) {
        self.len += tokens;
    }

    /// The oldest of the positions held that `layer` still has.
    pub fn oldest(&self, layer: usize) -> usize {
        self.written.saturating_sub(self.capacity(layer)).min(self.len)
    }

    /// As [`crate::Cache::truncate`].
    pub fn truncate(&mut self, length: usize) -> bool {
        if length == 0 {
            (self.len, self.written) = (0, 0);
            return true;
        }
        let lost = |layer: usize| self.written.saturating_sub(self.capacity(layer));
        let whole = |layer: usize| lost(layer) <= self.first_visible(layer, length);
        if length > self.len || !(0..self.layout.layers.len()).all(whole) {
            return false;
        }
        self.len = length;
        true
    }

    /// Whether what another cache exported can be taken over.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] when layout, context or positions do not fit.
    pub fn check_import(&self, snapshot: &Snapshot) -> Result<(), DeviceError> {
        let wrong = |detail: &str| {
            Err(DeviceError::InvalidCall { device: self.device.clone(), detail: detail.to_owned() })
        };
        if snapshot.layout.layers != self.layout.layers || snapshot.layers.len() != self.layout.layers.len() {
            return wrong("the snapshot has another layout");
        }
        if snapshot.len > self.context {
            return wrong("the snapshot is longer than the context");
        }
        for (index, from) in snapshot.layers.iter().enumerate() {
            let needed = self.first_visible(index, snapshot.len).min(snapshot.len);
            let width = self.layout.layers[index].width;
            let values = snapshot.len.checked_sub(from.first).and_then(|rows| rows.checked_mul(width));
            if from.first > needed || values != Some(from.keys.len()) || values != Some(from.values.len()) {
                return wrong("the snapshot lacks positions");
            }
        }
        Ok(())
    }

    /// Holds from now on what `snapshot` held, whose values have been written.
    pub fn take_over(&mut self, snapshot: &Snapshot) {
        // A ring may be larger than what the other cache still had: claim nothing older than what came.
        let missing = snapshot.layers.iter().enumerate().filter(|(_, from)| from.first > 0);
        let claimed = missing.map(|(index, from)| from.first + self.capacity(index)).max();
        self.len = snapshot.len;
        self.written = claimed.unwrap_or(0).max(snapshot.len);
    }

    /// The first position that a query at `position` sees in `layer`.
    fn first_visible(&self, layer: usize, position: usize) -> usize {
        self.layout.layers[layer].window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}
