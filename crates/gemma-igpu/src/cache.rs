//! [`IgpuCache`]: keys and values in device memory.
//!
//! F32 takes a word a value, F16 half a word, Q8_0 a quarter and a word with the f16 scale for 32 values.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

use gemma_hal::block::{BLOCK, BlockQ8_0};
use gemma_hal::{
    Budget, Cache, CacheLayout, DType, Deadline, DeviceError, Positions, Reservation, Snapshot, SnapshotLayer,
};
use half::f16;

use crate::gpu::{Gpu, Region, WORD};
use crate::kernels::format::Format;
use crate::weight::format;

/// Keys, or values, of one layer.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) words: Region,
    pub(crate) scales: Region,
}

/// One layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) capacity: usize,
    pub(crate) width: usize,
    pub(crate) window: Option<usize>,
    pub(crate) keys: Slots,
    pub(crate) values: Slots,
}

/// A cache that the GPU reads and writes.
pub(crate) struct IgpuCache {
    /// No two caches of a process have the same.
    pub(crate) id: u64,
    pub(crate) positions: Positions,
    pub(crate) layers: Vec<Layer>,
    gpu: Gpu,
    reservation: Reservation,
}

impl IgpuCache {
    /// An empty cache, paid from `budget`.
    ///
    /// # Errors
    /// As [`Positions::new`], and [`DeviceError::OutOfMemory`].
    pub(crate) fn new(
        gpu: &Gpu,
        budget: &Budget,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Self, DeviceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let positions = Positions::new(&gpu.id, layout, context, chunk)?;
        if let Some(layer) = layout.layers.iter().find(|layer| !layer.width.is_multiple_of(2)) {
            let what = format!("a KV cache of {} values a position", layer.width);
            return Err(DeviceError::Unsupported { device: gpu.id.to_string(), what });
        }
        let slots =
            |index: usize| words_of(layout.dtype, positions.capacity(index), layout.layers[index].width);
        let words: usize = (0..layout.layers.len()).fold(0, |sum: usize, index| {
            let (words, scales) = slots(index);
            sum.saturating_add(words.saturating_add(scales).saturating_mul(2))
        });
        let reservation = budget.reserve("the KV cache", (words as u64).saturating_mul(WORD as u64))?;
        let _turn = gpu.turn(&Deadline::never())?;
        let mut layers = Vec::with_capacity(layout.layers.len());
        for (index, layer) in layout.layers.iter().enumerate() {
            let (words, scales) = slots(index);
            let slots = || -> Result<Slots, DeviceError> {
                Ok(Slots {
                    words: gpu.empty("the KV cache", words)?,
                    scales: gpu.empty("the KV cache", scales)?,
                })
            };
            layers.push(Layer {
                capacity: positions.capacity(index),
                width: layer.width,
                window: layer.window,
                keys: slots()?,
                values: slots()?,
            });
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, positions, layers, gpu: gpu.clone(), reservation })
    }

    /// The cache behind a [`Cache`] object, if it is one of `gpu`'s.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] for another device's cache.
    pub(crate) fn of<'a>(gpu: &Gpu, cache: &'a mut dyn Cache) -> Result<&'a mut Self, DeviceError> {
        let own = cache.as_any_mut().downcast_mut::<Self>().filter(|cache| cache.gpu.id == gpu.id);
        own.ok_or_else(|| DeviceError::InvalidCall {
            device: gpu.id.to_string(),
            detail: "the cache belongs to another device".to_owned(),
        })
    }

    /// How the values lie.
    pub(crate) fn format(&self) -> Format {
        format(self.positions.layout().dtype)
    }

    fn read(&self, slots: &Slots, values: usize) -> Result<Vec<f32>, DeviceError> {
        let deadline = Deadline::never();
        let (mut words, mut scales) = (Vec::new(), Vec::new());
        self.gpu.read(&slots.words, &mut words, &deadline)?;
        if self.positions.layout().dtype == DType::Q8_0 {
            self.gpu.read(&slots.scales, &mut scales, &deadline)?;
        }
        Ok(decode(self.positions.layout().dtype, &words, &scales, values))
    }
}

/// Words and scales for `positions` of `width` values; more than there is memory for what cannot be counted.
fn words_of(dtype: DType, positions: usize, width: usize) -> (usize, usize) {
    let values = positions.saturating_mul(width);
    match dtype {
        DType::F32 => (values, 0),
        DType::F16 => (values.div_ceil(2), 0),
        _ => (values.div_ceil(4), values.div_ceil(BLOCK)),
    }
}

fn decode(dtype: DType, words: &[u32], scales: &[u32], values: usize) -> Vec<f32> {
    match dtype {
        DType::F32 => words[..values].iter().map(|word| f32::from_bits(*word)).collect(),
        DType::F16 => {
            let halves: &[u16] = bytemuck::cast_slice(words);
            halves[..values].iter().map(|bits| f16::from_bits(*bits).to_f32()).collect()
        }
        _ => {
            let quants: &[i8] = bytemuck::cast_slice(words);
            let scale = |block: usize| f16::from_bits(scales[block] as u16).to_f32();
            quants[..values].iter().enumerate().map(|(i, q)| scale(i / BLOCK) * f32::from(*q)).collect()
        }
    }
}

fn encode(dtype: DType, values: &[f32]) -> (Vec<u32>, Vec<u32>) {
    match dtype {
        DType::F32 => (values.iter().map(|value| value.to_bits()).collect(), Vec::new()),
        DType::F16 => {
            let half =
                |value: Option<&f32>| u32::from(f16::from_f32(value.copied().unwrap_or(0.0)).to_bits());
            let words = values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 16);
            (words.collect(), Vec::new())
        }
        _ => {
            let (mut words, mut scales) = (Vec::new(), Vec::new());
            for values in values.as_chunks::<BLOCK>().0 {
                let block = BlockQ8_0::quantise(values);
                scales.push(u32::from(block.scale.to_bits()));
                words.extend(
                    block.quants.as_chunks::<4>().0.iter().map(|q| u32::from_le_bytes(q.map(|q| q as u8))),
                );
            }
            (words, scales)
        }
    }
}

impl Cache for IgpuCache {
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
        let _turn = self.gpu.turn(&Deadline::never())?;
        let len = self.positions.len();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let first = self.positions.oldest(index);
            let rows = |slots: &Slots| -> Result<Vec<f32>, DeviceError> {
                let all = self.read(slots, layer.capacity * layer.width)?;
                let row = |position: usize| &all[position % layer.capacity * layer.width..][..layer.width];
                Ok((first..len).flat_map(row).copied().collect())
            };
            layers.push(SnapshotLayer { first, keys: rows(&layer.keys)?, values: rows(&layer.values)? });
        }
        Ok(Snapshot { layout: self.positions.layout().clone(), len, layers })
    }

    fn import(&mut self, snapshot: &Snapshot) -> Result<(), DeviceError> {
        self.positions.check_import(snapshot)?;
        let _turn = self.gpu.turn(&Deadline::never())?;
        let dtype = self.positions.layout().dtype;
        for (layer, from) in self.layers.iter().zip(&snapshot.layers) {
            for (slots, rows) in [(&layer.keys, &from.keys), (&layer.values, &from.values)] {
                let mut all = vec![0.0; layer.capacity * layer.width];
                for (position, row) in (from.first..).zip(rows.chunks_exact(layer.width)) {
                    all[position % layer.capacity * layer.width..][..layer.width].copy_from_slice(row);
                }
                let (words, scales) = encode(dtype, &all);
                self.gpu.write(&slots.words, words);
                self.gpu.write(&slots.scales, scales);
            }
        }
        self.positions.take_over(snapshot);
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
