//! [`HipCache`]: keys and values in the GPU's memory, a piece of it for each layer.
//!
//! F32 and F16 lie as they are; Q8_0 as bytes, and behind them a word with the f16 scale for each 32 values.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gemma_hal::block::{BLOCK, BlockQ8_0};
use gemma_hal::{
    Cache, CacheLayout, DType, DeviceError, Positions, Reservation, Slots, Snapshot, SnapshotLayer,
};
use gemma_hip_kernels::{Address, Slots as Places, prepare::CachedLayer};
use half::f16;

use crate::device::Setup;
use crate::runtime::{ALIGNMENT, Buffer, Card, Placement, patience};

/// A layer's keys, its values, and their scales lie in this order.
struct Layer {
    capacity: usize,
    width: usize,
    buffer: Buffer,
}

/// Bytes of the parts of a layer.
#[derive(Clone, Copy)]
struct Parts {
    words: usize,
    scales: usize,
}

/// A cache that the GPU reads and writes.
pub(crate) struct HipCache {
    /// No two caches of a process have the same.
    pub(crate) id: u64,
    pub(crate) positions: Positions,
    layers: Vec<Layer>,
    card: Arc<Card>,
    reservation: Reservation,
}

impl Parts {
    /// Of keys, or of values; more than there is memory for what cannot be counted.
    fn of(dtype: DType, capacity: usize, width: usize) -> Self {
        let values = capacity.saturating_mul(width);
        let (words, scales) = match dtype {
            DType::F32 => (values.saturating_mul(4), 0),
            DType::F16 => (values.saturating_mul(2), 0),
            _ => (values, (values / BLOCK).saturating_mul(4)),
        };
        Self { words, scales }
    }

    /// Bytes of keys, or of values, with what is filled up.
    fn room(self) -> usize {
        let whole = |bytes: usize| bytes.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        whole(self.words).saturating_add(whole(self.scales))
    }

    /// Where scales begin behind the words.
    fn scales_start(self) -> usize {
        self.words.next_multiple_of(ALIGNMENT)
    }
}

impl HipCache {
    /// An empty cache, paid from the budget.
    ///
    /// # Errors
    /// As [`Positions::new`], and [`DeviceError::OutOfMemory`].
    pub(crate) fn new(
        setup: &Setup,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Self, DeviceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let positions = Positions::new(setup.card.id(), layout, context, chunk)?;
        let shapes = layout.layers.iter().enumerate();
        let shapes: Vec<_> = shapes.map(|(index, layer)| (positions.capacity(index), layer.width)).collect();
        let bytes = |(capacity, width): &(usize, usize)| {
            Parts::of(layout.dtype, *capacity, *width).room().saturating_mul(2)
        };
        let all = shapes.iter().fold(0_u64, |all, shape| all.saturating_add(bytes(shape) as u64));
        let reservation = setup.budget.reserve("the KV cache", all)?;
        let turn = setup.card.turn_in_time()?;
        let mut layers = Vec::with_capacity(shapes.len());
        for shape @ (capacity, width) in shapes {
            let buffer = turn.allocate("the KV cache", bytes(&shape), Placement::Device)?;
            layers.push(Layer { capacity, width, buffer });
        }
        drop(turn);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, positions, layers, card: Arc::clone(&setup.card), reservation })
    }

    /// The cache behind a [`Cache`] object, if it is one of `card`'s.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] for another device's cache.
    pub(crate) fn of<'a>(card: &Arc<Card>, cache: &'a mut dyn Cache) -> Result<&'a mut Self, DeviceError> {
        let own = cache.as_any_mut().downcast_mut::<Self>().filter(|cache| Arc::ptr_eq(&cache.card, card));
        own.ok_or_else(|| DeviceError::InvalidCall {
            device: card.id().to_owned(),
            detail: "the cache belongs to another device".to_owned(),
        })
    }

    /// Where a layer lies.
    pub(crate) fn layer(&self, index: usize) -> CachedLayer {
        let layer = &self.layers[index];
        let parts = self.parts(layer);
        let places = |start: usize| Places {
            words: layer.buffer.at(start),
            scales: if parts.scales == 0 {
                Address::NULL
            } else {
                layer.buffer.at(start + parts.scales_start())
            },
        };
        CachedLayer { keys: places(0), values: places(parts.room()), capacity: layer.capacity }
    }

    fn dtype(&self) -> DType {
        self.positions.layout().dtype
    }

    fn parts(&self, layer: &Layer) -> Parts {
        Parts::of(self.dtype(), layer.capacity, layer.width)
    }
}

/// The slots that bytes of a layer stand for.
fn decode(dtype: DType, parts: Parts, bytes: &[u8]) -> Slots {
    let words = &bytes[..parts.words];
    match dtype {
        DType::F32 => Slots::F32(words.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()),
        DType::F16 => Slots::F16(words.as_chunks().0.iter().map(|word| f16::from_le_bytes(*word)).collect()),
        _ => {
            let scales = bytes[parts.scales_start()..][..parts.scales].as_chunks::<4>().0;
            let block = |(quants, scale): (&[u8; BLOCK], &[u8; 4])| BlockQ8_0 {
                scale: f16::from_le_bytes([scale[0], scale[1]]),
                quants: quants.map(|quant| quant as i8),
            };
            Slots::Q8_0(words.as_chunks().0.iter().zip(scales).map(block).collect())
        }
    }
}

/// The bytes of a layer's slots.
fn encode(parts: Parts, slots: &Slots) -> Vec<u8> {
    let mut bytes = vec![0; parts.room()];
    match slots {
        Slots::F32(values) => bytes[..parts.words].copy_from_slice(bytemuck::cast_slice(values)),
        Slots::F16(values) => bytes[..parts.words].copy_from_slice(bytemuck::cast_slice(values)),
        Slots::Q8_0(blocks) => {
            for (index, block) in blocks.iter().enumerate() {
                bytes[index * BLOCK..][..BLOCK].copy_from_slice(bytemuck::cast_slice(&block.quants));
                let scale = block.scale.to_le_bytes();
                bytes[parts.scales_start() + 4 * index..][..2].copy_from_slice(&scale);
            }
        }
    }
    bytes
}

impl Cache for HipCache {
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
        let turn = self.card.turn_in_time()?;
        let deadline = patience();
        let len = self.positions.len();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let (first, parts) = (self.positions.oldest(index), self.parts(layer));
            let mut bytes = vec![0; layer.buffer.len()];
            turn.read(&layer.buffer, 0, &mut bytes, None, &deadline)?;
            let rows = |bytes: &[u8]| {
                let slots = decode(self.dtype(), parts, bytes);
                let mut rows = vec![0.0; (len - first) * layer.width];
                for (position, row) in (first..len).zip(rows.chunks_exact_mut(layer.width)) {
                    slots.read(position % layer.capacity * layer.width, row);
                }
                rows
            };
            let (keys, values) = bytes.split_at(parts.room());
            layers.push(SnapshotLayer { first, keys: rows(keys), values: rows(values) });
        }
        Ok(Snapshot { layout: self.positions.layout().clone(), len, layers })
    }

    fn import(&mut self, snapshot: &Snapshot) -> Result<(), DeviceError> {
        self.positions.check_import(snapshot)?;
        let turn = self.card.turn_in_time()?;
        let deadline = patience();
        turn.finish("waiting for earlier work", &deadline)?;
        for (layer, from) in self.layers.iter().zip(&snapshot.layers) {
            let parts = self.parts(layer);
            for (start, rows) in [(0, &from.keys), (parts.room(), &from.values)] {
                let mut slots = Slots::zeros(self.dtype(), layer.capacity * layer.width);
                for (position, row) in (from.first..).zip(rows.chunks_exact(layer.width)) {
                    slots.write(position % layer.capacity * layer.width, row);
                }
                turn.put(&layer.buffer, start, &encode(parts, &slots))?;
            }
        }
        drop(turn);
        self.positions.take_over(snapshot);
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
