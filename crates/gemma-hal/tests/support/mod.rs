//! One sound small plan for each operation; sizes are all different, so that none can stand for another.

use gemma_hal::op::{Heads, LinearPart, Op, RotaryKeyValue, RotaryQuery, Router};
use gemma_hal::{
    BufferId, CacheLayer, CacheLayout, DType, Outputs, Plan, PlanBuilder, PlanError, Rows, Storage, Weight,
    WeightId,
};

/// Hidden size.
pub(crate) const D: usize = 6;
/// AltUp streams.
pub(crate) const A: usize = 3;
/// FFN width.
pub(crate) const F: usize = 10;
/// Values a per-layer embedding.
pub(crate) const P: usize = 4;
pub(crate) const VOCABULARY: usize = 20;
/// Width of queries 16, of keys 8.
pub(crate) const HEADS: Heads = Heads { query: 4, key_value: 2, dim: 4 };
/// The cache's layer with a window.
pub(crate) const WINDOW: usize = 5;

/// A plan in the making. Every buffer made by [`Draft::input`] is written by an embedding.
pub(crate) struct Draft {
    pub(crate) plan: PlanBuilder,
    pub(crate) steps: usize,
    storage: Storage,
}

impl Draft {
    pub(crate) fn new(max_tokens: usize, outputs: Outputs) -> Self {
        Self::with_cache(max_tokens, outputs, HEADS, DType::F16)
    }

    pub(crate) fn with_cache(max_tokens: usize, outputs: Outputs, heads: Heads, dtype: DType) -> Self {
        let layer = |window| CacheLayer { width: heads.key_value_width(), window };
        let cache = CacheLayout { layers: vec![layer(Some(WINDOW)), layer(None)], dtype };
        Self {
            plan: PlanBuilder::new("draft", max_tokens, outputs, 1e-6, cache),
            steps: 0,
            storage: Storage::new("zeros", vec![0_u8; 1 << 14]),
        }
    }

    pub(crate) fn push(&mut self, op: Op) {
        self.steps += 1;
        self.plan.push(None, op);
    }

    pub(crate) fn buffer(&mut self, name: &str, width: usize) -> BufferId {
        self.plan.buffer(name, Rows::Tokens, width)
    }

    pub(crate) fn weight(&mut self, name: &str, rows: usize, columns: usize) -> WeightId {
        let weight = Weight::new(self.storage.clone(), 0, rows, columns, DType::F32).unwrap();
        self.plan.weight(name, weight)
    }

    pub(crate) fn norm(&mut self, name: &str, width: usize) -> WeightId {
        self.weight(name, 1, width)
    }

    pub(crate) fn input(&mut self, name: &str, width: usize) -> BufferId {
        let output = self.buffer(name, width);
        let table = self.weight("input_table", VOCABULARY, width);
        self.push(Op::Embed { table, scale: 1.0, output });
        output
    }

    /// The last row of a buffer like `input`.
    pub(crate) fn selected(&mut self, name: &str, width: usize) -> BufferId {
        let input = self.input("whole", width);
        let output = self.plan.buffer(name, Rows::Outputs, width);
        self.push(Op::SelectOutputs { input, output });
        output
    }

    pub(crate) fn finish(self, output: Option<BufferId>) -> Result<Plan, PlanError> {
        self.plan.finish(output)
    }

    fn router(&mut self) -> Router {
        Router { norm: self.norm("router_norm", D), weight: self.weight("router", A, D) }
    }

    fn projections(&mut self) -> Vec<WeightId> {
        (1..A).map(|_| self.weight("projection", D, D)).collect()
    }
}

/// Makes a sound operation, with inputs that are written before.
pub(crate) type Make = fn(&mut Draft) -> Op;

pub(crate) fn embed(d: &mut Draft) -> Op {
    Op::Embed { table: d.weight("table", VOCABULARY, D), scale: 2.0, output: d.buffer("output", D) }
}

/// Two of the parent's five layers.
pub(crate) fn per_layer_embed(d: &mut Draft) -> Op {
    Op::PerLayerEmbed {
        input: d.input("input", D),
        projection: d.weight("projection", 5 * P, D),
        table: d.weight("table", 18, 5 * P),
        norm: d.norm("norm", P),
        blocks: vec![1, 4],
        width: P,
        projection_scale: 0.5,
        table_scale: 2.0,
        output: d.buffer("output", 2 * P),
    }
}

pub(crate) fn altup_init(d: &mut Draft) -> Op {
    let input = d.input("input", D);
    Op::AltUpInit { input, projections: d.projections(), streams: d.buffer("streams", A * D) }
}

pub(crate) fn altup_predict(d: &mut Draft) -> Op {
    Op::AltUpPredict {
        streams: d.input("streams", A * D),
        active: 0,
        router: d.router(),
        coefficients: d.weight("coefficients", A * A, A),
        input_norm: d.norm("input_norm", D),
        normed: d.buffer("normed", D),
    }
}

pub(crate) fn rms_norm(d: &mut Draft) -> Op {
    let input = d.input("input", D);
    Op::RmsNorm { input, norm: d.norm("norm", D), output: d.buffer("output", D) }
}

pub(crate) fn add_norm(d: &mut Draft) -> Op {
    Op::AddNorm {
        input: d.input("input", D),
        post_norm: d.norm("post_norm", D),
        residual: d.input("residual", D),
        next_norm: d.norm("next_norm", D),
        normed: d.buffer("normed", D),
    }
}

/// Products of 10 and 5 outputs.
pub(crate) fn linear(d: &mut Draft) -> Op {
    let input = d.input("input", D);
    let parts = [("a", 10), ("b", 5)]
        .map(|(name, rows)| LinearPart { weight: d.weight(name, rows, D), output: d.buffer(name, rows) });
    Op::Linear { input, parts: parts.to_vec() }
}

pub(crate) fn rotary(d: &mut Draft) -> Op {
    let query =
        RotaryQuery { query: d.input("query", 16), norm: d.norm("query_norm", HEADS.dim), scale: 0.5 };
    let (key, value) = (d.input("key", 8), d.input("value", 8));
    let key_value = RotaryKeyValue { key, value, norm: d.norm("key_norm", HEADS.dim), value_norm: true };
    Op::Rotary {
        heads: HEADS,
        theta: 1e4,
        stretch: 1.0,
        cache_layer: 0,
        query: Some(query),
        key_value: Some(key_value),
    }
}

/// Keys and values alone, into a layer of the cache.
pub(crate) fn keys_and_values(d: &mut Draft, layer: usize) -> Op {
    let mut op = rotary(d);
    let Op::Rotary { cache_layer, query, .. } = &mut op else { unreachable!() };
    (*cache_layer, *query) = (layer, None);
    op
}

/// Of the cache's first layer; both are written before.
pub(crate) fn attention(d: &mut Draft) -> Op {
    for layer in 0..2 {
        let op = keys_and_values(d, layer);
        d.push(op);
    }
    reading(d)
}

/// Attention over the cache's first layer, whether it is written or not.
pub(crate) fn reading(d: &mut Draft) -> Op {
    let (query, output) = (d.input("query", 16), d.buffer("output", 16));
    Op::Attention { heads: HEADS, cache_layer: 0, query, output }
}

pub(crate) fn attention_residual(d: &mut Draft) -> Op {
    Op::AttentionResidual {
        streams: d.input("streams", A * D),
        active: 0,
        normed: d.input("normed", D),
        attended: d.input("attended", D),
        laurel: d.input("laurel", D),
        post_norm: d.norm("post_norm", D),
        laurel_norm: d.norm("laurel_norm", D),
        ffn_norm: d.norm("ffn_norm", D),
        residual: d.buffer("residual", D),
        ffn_input: d.buffer("ffn_input", D),
    }
}

pub(crate) fn feed_forward(d: &mut Draft) -> Op {
    Op::FeedForward {
        input: d.input("input", D),
        gate: d.weight("gate", F, D),
        up: d.weight("up", F, D),
        down: d.weight("down", D, F),
        cutoff: Some(1.6),
        gated: d.buffer("gated", F),
        hidden: d.buffer("hidden", F),
        output: d.buffer("output", D),
    }
}

pub(crate) fn altup_correct(d: &mut Draft) -> Op {
    Op::AltUpCorrect {
        streams: d.input("streams", A * D),
        active: 0,
        residual: d.input("residual", D),
        ffn: d.input("ffn", D),
        post_norm: d.norm("post_norm", D),
        router: d.router(),
        coefficients: d.weight("coefficients", A, A),
    }
}

pub(crate) fn per_layer_input(d: &mut Draft) -> Op {
    Op::PerLayerInput {
        streams: d.input("streams", A * D),
        active: 0,
        per_layer: d.input("per_layer", 2 * P),
        block: 1,
        scale: Some(d.norm("scale", D)),
        gate: d.weight("gate", P, D),
        projection: d.weight("projection", D, P),
        norm: d.norm("norm", D),
        scaled: d.buffer("scaled", D),
        gated: d.buffer("gated", P),
    }
}

pub(crate) fn select_outputs(d: &mut Draft) -> Op {
    let input = d.input("input", D);
    Op::SelectOutputs { input, output: d.plan.buffer("output", Rows::Outputs, D) }
}

pub(crate) fn altup_merge(d: &mut Draft) -> Op {
    Op::AltUpMerge {
        streams: d.input("streams", A * D),
        projections: d.projections(),
        norm: d.norm("norm", D),
        projected: d.buffer("projected", (A - 1) * D),
        output: d.buffer("output", D),
    }
}

pub(crate) fn unembed(d: &mut Draft) -> Op {
    let input = d.input("input", D);
    let table = d.weight("table", VOCABULARY, D);
    Op::Unembed { input, table, softcap: Some(30.0), output: d.buffer("logits", VOCABULARY) }
}
