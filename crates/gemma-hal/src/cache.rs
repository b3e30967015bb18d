//! [`HostCache`]: a KV cache in the machine's own memory, and [`Snapshot`], the form in which caches travel.

use std::any::Any;

use bytemuck::Zeroable;
use half::f16;

use crate::block::{BLOCK, BlockQ8_0};
use crate::budget::{Budget, Reservation};
use crate::device::Cache;
use crate::plan::CacheLayout;
use crate::positions::Positions;
use crate::{DType, DeviceError};

/// What is wrong with a part of a block.
const PARTIAL: &str = "blocks are written and read as a whole";

/// Values of keys, or of values, of all slots of one layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Slots {
    /// Full precision.
    F32(Vec<f32>),
    /// Half the memory.
    F16(Vec<f16>),
    /// Little more than a quarter of the memory: blocks of [`BLOCK`] values of one head.
    Q8_0(Vec<BlockQ8_0>),
}

impl Slots {
    /// `len` zeros, kept in `dtype`.
    ///
    /// # Panics
    /// For a type that is none of [`crate::CACHE_DTYPES`], and when the values do not end on a block.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        assert!(len.is_multiple_of(dtype.block_len()), "{len} values of {dtype}");
        match dtype {
            DType::F32 => Self::F32(vec![0.0; len]),
            DType::F16 => Self::F16(vec![f16::ZERO; len]),
            DType::Q8_0 => Self::Q8_0(vec![BlockQ8_0::zeroed(); len / BLOCK]),
            _ => panic!("a KV cache in {dtype}"),
        }
    }

    /// Writes `values` from index `start` on, rounded once to the type of the slots: blocks as
    /// [`crate::block::quantise_row`] does.
    ///
    /// # Panics
    /// When the values lie outside, or do not begin and end on a block.
    pub fn write(&mut self, start: usize, values: &[f32]) {
        match self {
            Self::F32(slots) => slots[start..start + values.len()].copy_from_slice(values),
            Self::F16(slots) => {
                for (slot, value) in slots[start..start + values.len()].iter_mut().zip(values) {
                    *slot = f16::from_f32(*value);
                }
            }
            Self::Q8_0(slots) => {
                let (blocks, rest) = values.as_chunks();
                assert!(rest.is_empty() && start.is_multiple_of(BLOCK), "{PARTIAL}");
                for (slot, values) in slots[start / BLOCK..][..blocks.len()].iter_mut().zip(blocks) {
                    *slot = BlockQ8_0::quantise(values);
                }
            }
        }
    }

    /// Reads `out.len()` values from index `start` on.
    ///
    /// # Panics
    /// As [`Slots::write`].
    pub fn read(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::F32(slots) => out.copy_from_slice(&slots[start..start + out.len()]),
            Self::F16(slots) => {
                for (out, slot) in out.iter_mut().zip(&slots[start..]) {
                    *out = slot.to_f32();
                }
            }
            Self::Q8_0(slots) => {
                let (blocks, rest) = out.as_chunks_mut();
                assert!(rest.is_empty() && start.is_multiple_of(BLOCK), "{PARTIAL}");
                for (out, slot) in blocks.iter_mut().zip(&slots[start / BLOCK..]) {
                    *out = slot.dequantise();
                }
            }
        }
    }
}

/// One layer of a [`HostCache`].
#[derive(Clone, Debug, PartialEq)]
pub struct HostLayer {
    /// Positions there is room for.
    pub capacity: usize,
    /// Values a position.
    pub width: usize,
    /// How many positions a query sees; none sees all.
    pub window: Option<usize>,
    /// `[capacity, width]`.
    pub keys: Slots,
    /// `[capacity, width]`.
    pub values: Slots,
}

impl HostLayer {
    /// Index of the first value of `position`.
    pub fn slot(&self, position: usize) -> usize {
        position % self.capacity * self.width
    }

    /// Writes one position.
    pub fn write(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let slot = self.slot(position);
        self.keys.write(slot, key);
        self.values.write(slot, value);
    }

    /// The first position that a query at `position` sees.
    pub fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// A cache that the CPU reads and writes.
#[derive(Debug)]
pub struct HostCache {
    positions: Positions,
    layers: Vec<HostLayer>,
    reservation: Reservation,
}

/// What a cache held: for each layer the positions that it still had, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Layout of the cache it comes from.
    pub layout: CacheLayout,
    /// Positions the cache held.
    pub len: usize,
    /// One for each layer of the layout.
    pub layers: Vec<SnapshotLayer>,
}

/// One layer of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotLayer {
    /// Position of the first row; the last is [`Snapshot::len`] − 1.
    pub first: usize,
    /// `[positions, width]`.
    pub keys: Vec<f32>,
    /// `[positions, width]`.
    pub values: Vec<f32>,
}

impl HostCache {
    /// An empty cache, paid from `budget`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] over budget, [`DeviceError::Unsupported`] for a type that is none of
    /// [`crate::CACHE_DTYPES`] or whose blocks do not fill a position, [`DeviceError::InvalidCall`] for no positions.
    pub fn new(
        device: &str,
        budget: &Budget,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Self, DeviceError> {
        let positions = Positions::new(device, layout, context, chunk)?;
        let reservation = budget.reserve("the KV cache", positions.bytes())?;
        let layers = layout.layers.iter().enumerate().map(|(index, layer)| {
            let capacity = positions.capacity(index);
            let len = capacity * layer.width;
            HostLayer {
                capacity,
                width: layer.width,
                window: layer.window,
                keys: Slots::zeros(layout.dtype, len),
                values: Slots::zeros(layout.dtype, len),
            }
        });
        Ok(Self { layers: layers.collect(), positions, reservation })
    }

    /// The cache behind a [`Cache`] object, if it is one of `device`'s.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] for another device's cache.
    pub fn of<'a>(device: &str, cache: &'a mut dyn Cache) -> Result<&'a mut Self, DeviceError> {
        cache.as_any_mut().downcast_mut::<Self>().ok_or_else(|| DeviceError::InvalidCall {
            device: device.to_owned(),
            detail: "the cache belongs to another device".to_owned(),
        })
    }

    /// Says that `tokens` positions are about to be written behind the ones held.
    pub fn begin(&mut self, tokens: usize) {
        self.positions.begin(tokens);
    }

    /// Makes the positions written since [`HostCache::begin`] part of the cache.
    pub fn commit(&mut self, tokens: usize) {
        self.positions.commit(tokens);
    }

    /// A layer.
    pub fn layer(&self, index: usize) -> &HostLayer {
        &self.layers[index]
    }

    /// A layer, to be written.
    pub fn layer_mut(&mut self, index: usize) -> &mut HostLayer {
        &mut self.layers[index]
    }
}

impl Cache for HostCache {
    fn positions(&self) -> &Positions {
        &self.positions
    }

    fn positions_mut(&mut self) -> &mut Positions {
        &mut self.positions
    }

    fn bytes(&self) -> u64 {
        self.reservation.bytes()
    }

    fn export(&self) -> Result<Snapshot, DeviceError> {
        let len = self.positions.len();
        let layers = self.layers.iter().enumerate().map(|(index, layer)| {
            let first = self.positions.oldest(index);
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (slots, out) in [(&layer.keys, &mut keys), (&layer.values, &mut values)] {
                out.resize((len - first) * layer.width, 0.0);
                for (position, row) in (first..len).zip(out.chunks_exact_mut(layer.width)) {
                    slots.read(layer.slot(position), row);
                }
            }
            SnapshotLayer { first, keys, values }
        });
        Ok(Snapshot { layout: self.positions.layout().clone(), len, layers: layers.collect() })
    }

    fn import(&mut self, snapshot: &Snapshot) -> Result<(), DeviceError> {
        self.positions.check_import(snapshot)?;
        for (layer, from) in self.layers.iter_mut().zip(&snapshot.layers) {
            let rows = from.keys.chunks_exact(layer.width).zip(from.values.chunks_exact(layer.width));
            for (position, (key, value)) in (from.first..).zip(rows) {
                layer.write(position, key, value);
            }
        }
        self.positions.take_over(snapshot);
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{CACHE_DTYPES, is_cache_dtype};
    use crate::plan::CacheLayer;

    /// Values a position: the fewest that every type of cache can hold.
    const WIDTH: usize = BLOCK;

    fn layout(dtype: DType) -> CacheLayout {
        let layer = |window| CacheLayer { width: WIDTH, window };
        CacheLayout { layers: vec![layer(Some(4)), layer(None)], dtype }
    }

    fn cache(dtype: DType) -> HostCache {
        HostCache::new("test", &Budget::new("test", 1 << 20), &layout(dtype), 32, 3).unwrap()
    }

    fn fill(cache: &mut HostCache, tokens: usize) {
        cache.begin(tokens);
        for position in cache.len()..cache.len() + tokens {
            let (mut key, mut value) = ([0.5; WIDTH], [1.5; WIDTH]);
            (key[0], value[0]) = (position as f32, -(position as f32));
            for index in 0..2 {
                cache.layer_mut(index).write(position, &key, &value);
            }
        }
        cache.commit(tokens);
    }

    #[test]
    fn rings_have_room_for_window_and_chunk() {
        for (dtype, position) in
            [(DType::F32, 2 * 32 * 4), (DType::F16, 2 * 32 * 2), (DType::Q8_0, 2 * (32 + 2))]
        {
            let cache = cache(dtype);
            assert_eq!(cache.layer(0).capacity, 7);
            assert_eq!(cache.layer(1).capacity, 32);
            assert_eq!(cache.bytes(), (7 + 32) * position, "{dtype}");
            assert_eq!(cache.layout().position_bytes(0), position, "{dtype}");
        }
    }

    #[test]
    fn truncate_refuses_what_the_ring_has_lost() {
        let mut cache = cache(DType::F32);
        for _ in 0..10 {
            fill(&mut cache, 1);
        }
        // Slots hold positions 3..10; position p needs p-3..p.
        assert!(!cache.truncate(5));
        assert_eq!(cache.len(), 10);
        assert!(cache.truncate(6));
        assert!(!cache.truncate(7));
        assert!(cache.truncate(0));
        fill(&mut cache, 2);
        assert!(cache.truncate(1));
    }

    #[test]
    fn snapshots_travel_between_types() {
        // A type takes up what it held itself, and f32 takes up all, to the bit. The values that go in fit f16 too.
        let same = CACHE_DTYPES.map(|dtype| (dtype, dtype));
        let wider = [(DType::F32, DType::F16), (DType::F16, DType::F32), (DType::Q8_0, DType::F32)];
        for (from, to) in same.into_iter().chain(wider) {
            let mut source = cache(from);
            for _ in 0..4 {
                fill(&mut source, 3);
            }
            let snapshot = source.export().unwrap();
            assert_eq!(snapshot.layers[0].first, 5);
            let mut target = cache(to);
            target.import(&snapshot).unwrap();
            assert_eq!(target.export().unwrap().layers, snapshot.layers, "{from} to {to}");
            assert_eq!(target.len(), 12);
            assert!(!target.truncate(4));
        }
    }

    #[test]
    fn snapshots_of_other_shapes_are_refused() {
        let mut source = cache(DType::F32);
        fill(&mut source, 3);
        let snapshot = source.export().unwrap();
        let mut target = cache(DType::F32);
        let cut = |change: &dyn Fn(&mut Snapshot)| {
            let mut changed = snapshot.clone();
            change(&mut changed);
            changed
        };
        let bad: [&dyn Fn(&mut Snapshot); 4] =
            [&|s| s.layout.layers[0].width *= 2, &|s| s.len = 33, &|s| s.layers[1].first = 1, &|s| {
                s.layers[0].keys.truncate(WIDTH);
            }];
        for change in bad {
            assert!(matches!(target.import(&cut(change)), Err(DeviceError::InvalidCall { .. })));
        }
        assert_eq!(target.len(), 0);
    }

    #[test]
    fn over_budget_and_other_types_are_refused() {
        let budget = Budget::new("test", 100);
        let over = HostCache::new("test", &budget, &layout(DType::F32), 32, 3).unwrap_err();
        assert!(matches!(over, DeviceError::OutOfMemory { available: 100, .. }));
        for dtype in DType::ALL.into_iter().filter(|dtype| !is_cache_dtype(*dtype)) {
            let wrong = HostCache::new("test", &budget, &layout(dtype), 32, 3).unwrap_err();
            assert!(matches!(wrong, DeviceError::Unsupported { .. }), "{dtype}: {wrong}");
        }
        let mut partial = layout(DType::Q8_0);
        partial.layers[1].width = BLOCK + 2;
        let wrong = HostCache::new("test", &budget, &partial, 32, 3).unwrap_err();
        assert!(wrong.to_string().contains("a KV cache in q8_0 of 34 values a position"), "{wrong}");
        assert_eq!(budget.memory().used, 0);
    }

    #[test]
    fn blocks_are_rounded_once_as_weights_are() {
        let values: Vec<f32> = (0..4 * BLOCK).map(|i| (i as f32 * 0.7).sin() * i as f32).collect();
        let mut slots = Slots::zeros(DType::Q8_0, 6 * BLOCK);
        slots.write(BLOCK, &values);
        let mut expected = vec![0.0; values.len()];
        let bytes = crate::block::quantise_row(DType::Q8_0, &values);
        crate::block::dequantise_row(DType::Q8_0, &bytes, &mut expected);
        let mut found = vec![f32::NAN; 6 * BLOCK];
        slots.read(0, &mut found);
        assert_eq!(found[BLOCK..5 * BLOCK], expected);
        assert_eq!([&found[..BLOCK], &found[5 * BLOCK..]].concat(), [0.0; 2 * BLOCK]);
        // Reading and writing again changes nothing.
        let before = slots.clone();
        slots.write(BLOCK, &expected);
        assert_eq!(slots, before);
    }

    #[test]
    #[should_panic(expected = "blocks are written and read as a whole")]
    fn parts_of_blocks_are_not_written() {
        Slots::zeros(DType::Q8_0, 2 * BLOCK).write(BLOCK / 2, &[0.0; BLOCK]);
    }
}
