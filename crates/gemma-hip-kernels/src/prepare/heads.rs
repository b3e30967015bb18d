//! Rotary embedding, the cache's write, and attention; for one row all of it in one launch.

use gemma_hal::op::{Heads, RotaryKeyValue, RotaryQuery};
use gemma_hal::rotary::RotaryBase;
use gemma_hal::{BufferId, DType, Op};

use super::Run;
use crate::arguments::{Attention, AttentionStep, MOST_PARTS, Rotary};
use crate::launch::{Address, Slots};

/// Keys that a part has at least in a full cache: what a block takes at once.
const LEAST_KEYS: usize = 32;

/// Blocks of `attention_step` that a compute unit has at once, by its registers.
const BLOCKS_A_UNIT: usize = 2;

/// What stands for no window.
const NO_WINDOW: u32 = u32::MAX;

/// Parts of the keys of a row in a layer that shows so many at most: no more than the GPU works on at once.
fn parts(keys: usize, groups: usize, compute_units: usize) -> usize {
    let at_once = (BLOCKS_A_UNIT * compute_units / groups).clamp(1, MOST_PARTS);
    keys.div_ceil(LEAST_KEYS).clamp(1, at_once)
}

/// Words that parts of heads take between a launch's blocks.
pub(super) fn scratch_words(op: &Op) -> usize {
    match op {
        Op::Attention { heads, .. } => AttentionStep::partial_values(heads.query, heads.dim, MOST_PARTS),
        _ => 0,
    }
}

/// Counters of a step: one a group of heads.
pub(super) const fn counters(op: &Op) -> usize {
    match op {
        Op::Attention { heads, .. } => AttentionStep::groups(heads.query, heads.key_value),
        _ => 0,
    }
}

impl Run<'_> {
    fn cache_dtype(&self) -> DType {
        self.plan.cache().dtype
    }

    /// Positions that a row sees in a layer.
    fn window(&self, layer: usize) -> u32 {
        self.plan.cache().layers[layer].window.map_or(NO_WINDOW, |window| window as u32)
    }

    /// Angles from the operation's first row on.
    fn angles(&self, heads: &Heads, theta: f32, stretch: f32, rows: usize) -> Address {
        let base = RotaryBase { theta, stretch, dim: heads.dim };
        self.memory.angles(base).words((self.tokens - rows) * heads.dim)
    }

    pub(super) fn rotary(&mut self, op: &Op) {
        let Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } = op else { return };
        let rows = self.rows(op);
        let mut arguments = Rotary {
            query: Address::NULL,
            query_norm: Address::NULL,
            keys: Address::NULL,
            values: Address::NULL,
            key_norm: Address::NULL,
            angles: self.angles(heads, *theta, *stretch, rows),
            header: self.memory.header(),
            cached_keys: Slots::default(),
            cached_values: Slots::default(),
            first: (self.tokens - rows) as u32,
            query_heads: 0,
            key_heads: 0,
            dim: heads.dim as u32,
            capacity: 1,
            value_norm: 0,
            query_scale: 1.0,
            eps: self.plan.rms_eps(),
        };
        if let Some(RotaryQuery { query, norm, scale }) = query {
            arguments.query = self.at(*query);
            arguments.query_norm = self.vector(*norm);
            arguments.query_heads = heads.query as u32;
            arguments.query_scale = *scale;
        }
        if let Some(RotaryKeyValue { key, value, norm, value_norm }) = key_value {
            let layer = self.memory.layer(*cache_layer);
            arguments.keys = self.at(*key);
            arguments.values = self.at(*value);
            arguments.key_norm = self.vector(*norm);
            arguments.key_heads = heads.key_value as u32;
            arguments.value_norm = u32::from(*value_norm);
            arguments.cached_keys = layer.keys;
            arguments.cached_values = layer.values;
            arguments.capacity = layer.capacity as u32;
        }
        let dtype = if key_value.is_some() { self.cache_dtype() } else { DType::F32 };
        self.push(arguments.launch(dtype, rows));
    }

    pub(super) fn attention(&mut self, op: &Op) {
        let Op::Attention { heads, cache_layer, query, output } = op else { return };
        let (rows, layer) = (self.rows(op), self.memory.layer(*cache_layer));
        let arguments = Attention {
            query: self.at(*query),
            header: self.memory.header(),
            cached_keys: layer.keys,
            cached_values: layer.values,
            output: self.at(*output),
            rows: rows as u32,
            first: (self.tokens - rows) as u32,
            window: self.window(*cache_layer),
            capacity: layer.capacity as u32,
            heads: heads.query as u32,
            key_heads: heads.key_value as u32,
            dim: heads.dim as u32,
            padding: 0,
        };
        self.push(arguments.launch(self.cache_dtype(), self.activations));
    }

    /// A row's rotary embedding and attention in one launch. False, and nothing is done, where the operations are not these two.
    pub(super) fn attention_step(&mut self, first: &Op, second: &Op) -> bool {
        let (
            Op::Rotary { heads, theta, stretch, cache_layer, query: Some(q), key_value },
            Op::Attention { cache_layer: same, query, output, .. },
        ) = (first, second)
        else {
            return false;
        };
        if q.query != *query || cache_layer != same || self.rows(first) != 1 || self.rows(second) != 1 {
            return false;
        }
        let layer = self.memory.layer(*cache_layer);
        let seen = self.plan.cache().layers[*cache_layer].window.unwrap_or(layer.capacity);
        let groups = AttentionStep::groups(heads.query, heads.key_value);
        let parts = parts(seen.min(layer.capacity), groups, self.memory.compute_units());
        let angles = self.angles(heads, *theta, *stretch, 1);
        let at = |id: Option<BufferId>| id.map_or(Address::NULL, |id| self.at(id));
        let arguments = AttentionStep {
            query: self.at(q.query),
            query_norm: self.vector(q.norm),
            keys: at(key_value.map(|kv| kv.key)),
            values: at(key_value.map(|kv| kv.value)),
            key_norm: key_value.map_or(Address::NULL, |kv| self.vector(kv.norm)),
            angles,
            header: self.memory.header(),
            cached_keys: layer.keys,
            cached_values: layer.values,
            partial: self.memory.scratch(),
            counters: self.memory.counters(),
            output: self.at(*output),
            first: (self.tokens - 1) as u32,
            window: self.window(*cache_layer),
            capacity: layer.capacity as u32,
            heads: heads.query as u32,
            key_heads: heads.key_value as u32,
            dim: heads.dim as u32,
            parts: parts as u32,
            writes: u32::from(key_value.is_some()),
            value_norm: u32::from(key_value.is_some_and(|kv| kv.value_norm)),
            query_scale: q.scale,
            eps: self.plan.rms_eps(),
            padding: 0,
        };
        self.push(arguments.launch(self.cache_dtype()));
        true
    }
}
