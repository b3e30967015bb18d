//! Rotary embedding, the cache's write, and attention.

use cubecl::prelude::*;
use gemma_hal::inputs::Source;
use gemma_hal::rotary::RotaryBase;
use gemma_hal::{Op, Plan};

use super::Run;
use crate::cache::Layer;
use crate::gpu::Gpu;
use crate::kernels::attention_step as kernels;
use crate::kernels::{attention, rotary};

/// Units of a cube that works on one head.
const HEAD_UNITS: u32 = 64;

/// Values that attention over parts of the keys leaves, for the most rows that are taken apart.
pub(super) fn scratch_values(gpu: &Gpu, op: &Op) -> usize {
    let parts = gpu.tuning.most_parts;
    match op {
        Op::Attention { heads, .. } => FEW * heads.query * parts * (heads.dim + attention::PART_EXTRA),
        _ => 0,
    }
}

/// Rows up to which keys are divided: with more there is work enough for a GPU.
const FEW: usize = 4;

impl Run<'_> {
    pub(super) fn rotary(&self, op: &Op) {
        let Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } = op else { return };
        let rows = self.rows(op);
        let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
        let angles = self.inputs.table(Source::Angles(base), self.tokens - rows, self.tokens);
        let Some(kv) = key_value else {
            let Some(q) = query else { return };
            // SAFETY: a cube works on one head of one row; the regions hold all rows.
            unsafe {
                rotary::queries::launch_unchecked(
                    &self.gpu.client,
                    CubeCount::new_2d(heads.query as u32, rows as u32),
                    CubeDim::new_1d(HEAD_UNITS),
                    self.region(q.query).arg(),
                    self.vector(q.norm).arg(),
                    angles.arg(),
                    heads.query,
                    q.scale,
                    self.plan.rms_eps(),
                    heads.dim,
                );
            }
            return;
        };
        let layer = &self.cache.layers[*cache_layer];
        // Without queries there are no cubes for them, and the keys stand in.
        let query_heads = if query.is_some() { heads.query } else { 0 };
        let (q, norm, scale) =
            query.as_ref().map_or((kv.key, kv.norm, 1.0), |query| (query.query, query.norm, query.scale));
        // SAFETY: as above; slots are taken modulo the capacity for which the cache has room.
        unsafe {
            rotary::all::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d((query_heads + 2 * heads.key_value) as u32, rows as u32),
                CubeDim::new_1d(HEAD_UNITS),
                self.region(q).arg(),
                self.vector(norm).arg(),
                self.region(kv.key).arg(),
                self.region(kv.value).arg(),
                self.vector(kv.norm).arg(),
                angles.arg(),
                self.inputs.header().arg(),
                layer.keys.words.arg(),
                layer.keys.scales.arg(),
                layer.values.words.arg(),
                layer.values.scales.arg(),
                scale,
                layer.capacity,
                self.plan.rms_eps(),
                query_heads,
                heads.key_value,
                heads.dim,
                kv.value_norm,
                self.cache.format(),
            );
        }
    }

    pub(super) fn attention(&self, op: &Op) {
        let Op::Attention { heads, cache_layer, query, output } = op else { return };
        let rows = self.rows(op);
        let layer = &self.cache.layers[*cache_layer];
        let parts = self.parts(layer, rows);
        let output = self.region(*output);
        let partial = if parts == 1 { &output } else { self.scratch };
        // SAFETY: a cube works on the heads of one key head of one row and writes their places in the output, or one
        // part's places in the scratch memory, which has room for so many rows, heads and parts. Slots are taken modulo
        // the capacity for which the cache has room.
        unsafe {
            attention::attention::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_3d(heads.key_value as u32, rows as u32, parts as u32),
                CubeDim::new_1d(attention::UNITS),
                self.region(*query).arg(),
                self.inputs.header().arg(),
                layer.keys.words.arg(),
                layer.keys.scales.arg(),
                layer.values.words.arg(),
                layer.values.scales.arg(),
                partial.arg(),
                self.tokens - rows,
                layer.window.unwrap_or(u32::MAX as usize),
                layer.capacity,
                heads.query,
                heads.query / heads.key_value,
                heads.dim,
                parts,
                self.cache.format(),
            );
        }
        if parts == 1 {
            return;
        }
        // SAFETY: a cube reads the parts of one head of one row, which have just been written, and writes that head.
        unsafe {
            attention::merge::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d(heads.query as u32, rows as u32),
                CubeDim::new_1d(HEAD_UNITS),
                partial.arg(),
                output.arg(),
                heads.query,
                heads.dim,
                parts,
            );
        }
    }

    /// A row's [`Run::rotary`] and [`Run::attention`] in one launch. False, and nothing is done, where the operations are not
    /// these two.
    pub(super) fn attention_step(&self, first: &Op, second: &Op) -> bool {
        let (
            Op::Rotary { heads, theta, stretch, cache_layer, query: Some(q), key_value },
            Op::Attention { cache_layer: same, query, output, .. },
        ) = (first, second)
        else {
            return false;
        };
        let staged = (heads.query / heads.key_value + kernels::STAGED_BESIDES) * heads.dim;
        if !self.gpu.cubes_meet || q.query != *query || cache_layer != same || self.rows(second) != 1 {
            return false;
        }
        if staged > kernels::MOST_STAGED {
            return false;
        }
        let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
        let angles = self.inputs.table(Source::Angles(base), self.tokens - 1, self.tokens);
        let layer = &self.cache.layers[*cache_layer];
        let parts = self.parts(layer, 1);
        // Without keys the queries stand in, and nobody reads them as keys.
        let (key, value, norm) =
            key_value.as_ref().map_or((q.query, q.query, q.norm), |kv| (kv.key, kv.value, kv.norm));
        let step = kernels::Step {
            heads: heads.query,
            shared: heads.query / heads.key_value,
            dim: heads.dim,
            parts,
            writes: key_value.is_some(),
            value_norm: key_value.as_ref().is_some_and(|kv| kv.value_norm),
            format: self.cache.format(),
        };
        // SAFETY: as in `rotary` and `attention`; there is a counter for each key head.
        unsafe {
            kernels::attention::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_3d(heads.key_value as u32, 1, parts as u32),
                CubeDim::new_1d(attention::UNITS),
                self.region(q.query).arg(),
                self.vector(q.norm).arg(),
                self.region(key).arg(),
                self.region(value).arg(),
                self.vector(norm).arg(),
                angles.arg(),
                self.inputs.header().arg(),
                layer.keys.words.arg(),
                layer.keys.scales.arg(),
                layer.values.words.arg(),
                layer.values.scales.arg(),
                self.scratch.arg(),
                self.counters.arg(),
                self.region(*output).arg(),
                self.tokens - 1,
                layer.window.unwrap_or(u32::MAX as usize),
                layer.capacity,
                q.scale,
                self.plan.rms_eps(),
                step,
            );
        }
        true
    }

    /// Parts of the keys of a layer, when `rows` rows look at them.
    fn parts(&self, layer: &Layer, rows: usize) -> usize {
        let most_keys = layer.window.unwrap_or(layer.capacity).min(layer.capacity);
        let tuning = &self.gpu.tuning;
        if rows > FEW { 1 } else { most_keys.div_ceil(tuning.least_keys).clamp(1, tuning.most_parts) }
    }
}

/// Counters that attention needs: one a key head.
pub(super) fn counters(plan: &Plan) -> usize {
    let heads = plan.steps().iter().map(|step| match &step.op {
        Op::Attention { heads, .. } => heads.key_value,
        _ => 0,
    });
    heads.max().unwrap_or(0)
}
