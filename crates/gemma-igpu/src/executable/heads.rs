//! Rotary embedding, the cache's write, and attention.

use cubecl::prelude::*;
use gemma_hal::Op;
use gemma_hal::rotary::RotaryBase;

use super::inputs::Table;
use super::{Run, launch};
use crate::cache::Slots;
use crate::gpu::Region;
use crate::kernels::format::Format;
use crate::kernels::{attention, rotary};

/// Units of a cube that works on one head.
const HEAD_UNITS: u32 = 64;

impl Run<'_> {
    pub(super) fn rotary(&self, op: &Op) {
        let Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } = op else { return };
        let rows = self.rows(op);
        let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
        let angles = self.inputs.table(Table::Angles(base), self.tokens - rows, self.tokens);
        if let Some(q) = query {
            let region = self.region(q.query);
            self.rotate(&region, self.vector(q.norm), &angles, rows, heads.query, q.scale, heads.dim);
        }
        let Some(kv) = key_value else { return };
        let (keys, values) = (self.region(kv.key), self.region(kv.value));
        self.rotate(&keys, self.vector(kv.norm), &angles, rows, heads.key_value, 1.0, heads.dim);
        if kv.value_norm {
            // SAFETY: a cube works on one head of one row; the region holds all of them.
            unsafe {
                rotary::norm_heads::launch_unchecked(
                    &self.gpu.client,
                    CubeCount::new_2d(heads.key_value as u32, rows as u32),
                    CubeDim::new_1d(HEAD_UNITS),
                    values.arg(),
                    heads.key_value,
                    self.plan.rms_eps(),
                    heads.dim,
                );
            }
        }
        let layer = &self.cache.layers[*cache_layer];
        self.store(&keys, &layer.keys, rows, layer.width, layer.capacity);
        self.store(&values, &layer.values, rows, layer.width, layer.capacity);
    }

    fn rotate(
        &self,
        values: &Region,
        norm: &Region,
        angles: &Region,
        rows: usize,
        heads: usize,
        scale: f32,
        dim: usize,
    ) {
        // SAFETY: a cube works on one head of one row; `values` and `angles` hold all rows.
        unsafe {
            rotary::rotate::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d(heads as u32, rows as u32),
                CubeDim::new_1d(HEAD_UNITS),
                values.arg(),
                norm.arg(),
                angles.arg(),
                heads,
                scale,
                self.plan.rms_eps(),
                dim,
            );
        }
    }

    fn store(&self, values: &Region, slots: &Slots, rows: usize, width: usize, capacity: usize) {
        let format = self.cache.format();
        let units = match format {
            Format::F32 => rows * width,
            Format::F16 => rows * width / 2,
            _ => rows * width / 32,
        };
        let (count, cube) = launch::values(units);
        // SAFETY: the kernel compares each index with the number of units, and slots are taken modulo the capacity
        // for which the cache has room.
        unsafe {
            rotary::store::launch_unchecked(
                &self.gpu.client,
                count,
                cube,
                values.arg(),
                self.inputs.header().arg(),
                slots.words.arg(),
                slots.scales.arg(),
                rows,
                width,
                capacity,
                format,
            );
        }
    }

    pub(super) fn attention(&self, op: &Op) {
        let Op::Attention { heads, cache_layer, query, output } = op else { return };
        let rows = self.rows(op);
        let layer = &self.cache.layers[*cache_layer];
        // SAFETY: a cube works on one head of one row; slots are taken modulo the capacity for which the cache has room.
        unsafe {
            attention::attention::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d(heads.query as u32, rows as u32),
                CubeDim::new_1d(attention::UNITS),
                self.region(*query).arg(),
                self.inputs.header().arg(),
                layer.keys.words.arg(),
                layer.keys.scales.arg(),
                layer.values.words.arg(),
                layer.values.scales.arg(),
                self.region(*output).arg(),
                self.tokens - rows,
                layer.window.unwrap_or(usize::MAX >> 32),
                layer.capacity,
                heads.query,
                heads.query / heads.key_value,
                heads.dim,
                self.cache.format(),
            );
        }
    }
}
