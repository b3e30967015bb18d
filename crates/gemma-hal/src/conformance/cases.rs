//! One small plan for each operation, with sizes that no tile divides.

use crate::op::{Heads, LinearPart, Op, RotaryKeyValue, RotaryQuery, Router};
use crate::plan::{CacheLayer, CacheLayout, Plan, Rows};
use crate::{BufferId, DType};

use super::generate::{Generate, VOCABULARY, whole};
use super::{MAX_RUN, RUNS};

/// Hidden size of the cases, where blocks are not longer.
const D: usize = 96;
/// AltUp streams.
const A: usize = 4;
const HEADS: Heads = Heads { query: 6, key_value: 2, dim: 32 };
/// All queries share one key; a tile of queries is left half full.
const ONE_KEY: Heads = Heads { query: 5, key_value: 1, dim: 48 };

/// A plan and the runs to make with it.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Whether the type of weights matters.
    pub(super) weights: bool,
    /// Whether the type of the cache matters.
    pub(super) caches: bool,
    pub(super) runs: &'static [usize],
    /// Adds the operation; returns the buffers that it writes.
    build: fn(&mut Generate) -> Vec<BufferId>,
}

impl Case {
    /// The plan that gives back the operation's output number `index`, if it has so many.
    pub(super) fn plan(&self, dtype: DType, cache: DType, seed: u64, index: usize) -> Option<Plan> {
        let layer = |heads, window| CacheLayer { width: whole(heads, cache).key_value_width(), window };
        let layers = vec![layer(HEADS, Some(9)), layer(HEADS, None), layer(ONE_KEY, None)];
        let layout = CacheLayout { layers, dtype: cache };
        let max_tokens = self.runs.iter().copied().max().unwrap_or(1);
        let mut generate = Generate::new(self.name, max_tokens, dtype, layout, seed);
        let outputs = (self.build)(&mut generate);
        let output = *outputs.get(index)?;
        Some(generate.plan.finish(Some(output)).expect("the suite's own plans are sound"))
    }
}

const fn case(name: &'static str, weights: bool, build: fn(&mut Generate) -> Vec<BufferId>) -> Case {
    Case { name, weights, caches: false, runs: RUNS, build }
}

/// Of tokens one by one, by a plan for that alone.
const fn single(name: &'static str, build: fn(&mut Generate) -> Vec<BufferId>) -> Case {
    Case { runs: &[1, 1, 1], ..case(name, true, build) }
}

const fn cached(name: &'static str, build: fn(&mut Generate) -> Vec<BufferId>) -> Case {
    // The ring of 9 + 32 positions goes around twice.
    Case { name, weights: false, caches: true, runs: &[7, 1, 32, 1, 1, 20, 32, 3], build }
}

/// Every operation at least once.
pub(super) const ALL: &[Case] = &[
    case("embed", true, embed),
    case("per_layer_embed", true, per_layer_embed),
    case("altup_init", true, altup_init),
    case("altup_predict", false, altup_predict),
    case("rms_norm", false, rms_norm),
    case("add_norm", false, add_norm),
    case("linear", true, linear),
    case("linear, rows apart", true, linear_view),
    case("rotary, queries only", false, rotary_query),
    cached("attention, window", |g| attention(g, 0, NORMED)),
    cached("attention, full", |g| attention(g, 1, NORMED)),
    cached("attention, window, values as they are", |g| attention(g, 0, SCALED)),
    cached("attention, full, one key for all, stretched", |g| attention(g, 2, STRETCHED)),
    case("attention_residual", false, attention_residual),
    case("feed_forward", true, |g| feed_forward(g, D, 224, None)),
    case("feed_forward, sparse", true, |g| feed_forward(g, D, 224, Some(1.2))),
    single("feed_forward, one token", |g| feed_forward(g, D, 224, None)),
    single("feed_forward, sparse, one token", |g| feed_forward(g, 288, 672, Some(1.2))),
    single("feed_forward, no unit active, one token", |g| feed_forward(g, D, 224, Some(100.0))),
    single("feed_forward, all units active, one token", |g| feed_forward(g, 288, 224, Some(-100.0))),
    case("altup_correct", false, altup_correct),
    case("per_layer_input", true, |g| per_layer_input(g, true)),
    case("per_layer_input, no scale", true, |g| per_layer_input(g, false)),
    case("select_outputs", false, select_outputs),
    case("altup_merge", true, altup_merge),
    case("unembed", true, |g| unembed(g, Some(2.0))),
    case("unembed, no cap", true, |g| unembed(g, None)),
];

/// Values of a row of [`row_of_many`].
pub(super) const MANY: usize = 2_503;

/// A plan whose output has rows as long as those of a vocabulary.
pub(super) fn row_of_many() -> Plan {
    let layout = CacheLayout { layers: Vec::new(), dtype: DType::F32 };
    let mut g = Generate::new("a row of many", MAX_RUN, DType::F32, layout, 7);
    let input = g.input("input", 16);
    let table = g.matrix("table", MANY, 16);
    let output = g.buffer("logits", MANY);
    g.plan.push(None, Op::Unembed { input, table, softcap: Some(30.0), output });
    g.plan.finish(Some(output)).expect("the suite's own plans are sound")
}

fn embed(g: &mut Generate) -> Vec<BufferId> {
    let d = g.columns(D);
    let table = g.matrix("table", VOCABULARY, d);
    let output = g.buffer("embedded", d);
    g.plan.push(None, Op::Embed { table, scale: 3.5, output });
    vec![output]
}

fn per_layer_embed(g: &mut Generate) -> Vec<BufferId> {
    let d = g.columns(D);
    // 12 values a layer: blocks of the table begin inside of stored blocks, and the third of those taken ends in the
    // next one. Ids 30 to 36 have no row.
    let (width, parent) = (12, g.columns(32) / 4);
    let input = g.input("input", d);
    let output = g.buffer("per_layer", width * 5);
    let op = Op::PerLayerEmbed {
        input,
        projection: g.matrix("projection", width * parent, d),
        table: g.matrix("table", 30, width * parent),
        norm: g.norm("norm", width),
        blocks: [0, 1, parent / 3, parent - 2, parent - 1].map(|block| block as u16).to_vec(),
        width,
        projection_scale: 0.1,
        table_scale: 4.0,
        output,
    };
    g.plan.push(None, op);
    vec![output]
}

fn altup_init(g: &mut Generate) -> Vec<BufferId> {
    let d = g.columns(D);
    let input = g.input("input", d);
    let projections = (1..A).map(|i| g.matrix(&format!("projection {i}"), d, d)).collect();
    let streams = g.buffer("streams", A * d);
    g.plan.push(None, Op::AltUpInit { input, projections, streams });
    vec![streams]
}

fn router(g: &mut Generate) -> Router {
    Router { norm: g.norm("router_norm", D), weight: g.small("router", A, D) }
}

fn altup_predict(g: &mut Generate) -> Vec<BufferId> {
    let streams = g.input("streams", A * D);
    let normed = g.buffer("normed", D);
    let op = Op::AltUpPredict {
        streams,
        active: 0,
        router: router(g),
        coefficients: g.small("coefficients", A * A, A),
        input_norm: g.norm("input_norm", D),
        normed,
    };
    g.plan.push(None, op);
    vec![streams, normed]
}

fn rms_norm(g: &mut Generate) -> Vec<BufferId> {
    let (input, output) = (g.input("input", D), g.buffer("output", D));
    let norm = g.norm("norm", D);
    g.plan.push(None, Op::RmsNorm { input, norm, output });
    vec![output]
}

fn add_norm(g: &mut Generate) -> Vec<BufferId> {
    let (residual, normed) = (g.input("residual", D), g.buffer("normed", D));
    let op = Op::AddNorm {
        input: g.input("input", D),
        post_norm: g.norm("post_norm", D),
        residual,
        next_norm: g.norm("next_norm", D),
        normed,
    };
    g.plan.push(None, op);
    vec![residual, normed]
}

fn linear(g: &mut Generate) -> Vec<BufferId> {
    let columns = g.columns(288);
    let input = g.input("input", columns);
    let mut outputs = Vec::new();
    let mut parts = Vec::new();
    for (name, rows) in [("a", 67), ("b", 1), ("c", 9 + g.below(9))] {
        let output = g.buffer(name, rows);
        parts.push(LinearPart { weight: g.matrix(&format!("weight {name}"), rows, columns), output });
        outputs.push(output);
    }
    g.plan.push(None, Op::Linear { input, parts });
    outputs
}

fn linear_view(g: &mut Generate) -> Vec<BufferId> {
    let d = g.columns(D);
    let input = g.input("input", d);
    let output = g.buffer("output", 45);
    let weight = g.matrix_view("weight", 45, d);
    g.plan.push(None, Op::Linear { input, parts: vec![LinearPart { weight, output }] });
    vec![output]
}

fn rotary_query(g: &mut Generate) -> Vec<BufferId> {
    let query = g.input("query", HEADS.query_width());
    let norm = g.norm("norm", HEADS.dim);
    let query_of = Some(RotaryQuery { query, norm, scale: 0.7 });
    let op = Op::Rotary {
        heads: HEADS,
        theta: 1e4,
        stretch: 1.0,
        cache_layer: 0,
        query: query_of,
        key_value: None,
    };
    g.plan.push(None, op);
    vec![query]
}

/// What the attentions of the models differ in.
#[derive(Clone, Copy)]
struct Variant {
    heads: Heads,
    scale: f32,
    stretch: f32,
    value_norm: bool,
}

const NORMED: Variant = Variant { heads: HEADS, scale: 1.0, stretch: 1.0, value_norm: true };
const SCALED: Variant = Variant { scale: 0.3, value_norm: false, ..NORMED };
const STRETCHED: Variant = Variant { heads: ONE_KEY, stretch: 8.0, ..SCALED };

fn attention(g: &mut Generate, cache_layer: usize, variant: Variant) -> Vec<BufferId> {
    let Variant { heads, scale, stretch, value_norm } = variant;
    let heads = g.heads(heads);
    let query = g.input("query", heads.query_width());
    let key = g.input("key", heads.key_value_width());
    let value = g.input("value", heads.key_value_width());
    let key_value = Some(RotaryKeyValue { key, value, norm: g.norm("key_norm", heads.dim), value_norm });
    let query_of = Some(RotaryQuery { query, norm: g.norm("query_norm", heads.dim), scale });
    let op = Op::Rotary { heads, theta: 1e4, stretch, cache_layer, query: query_of, key_value };
    g.plan.push(None, op);
    let output = g.buffer("attended", heads.query_width());
    g.plan.push(None, Op::Attention { heads, cache_layer, query, output });
    vec![output]
}

fn attention_residual(g: &mut Generate) -> Vec<BufferId> {
    let (residual, ffn_input) = (g.buffer("residual", D), g.buffer("ffn_input", D));
    let op = Op::AttentionResidual {
        streams: g.input("streams", A * D),
        active: 0,
        normed: g.input("normed", D),
        attended: g.input("attended", D),
        laurel: g.input("laurel", D),
        post_norm: g.norm("post_norm", D),
        laurel_norm: g.norm("laurel_norm", D),
        ffn_norm: g.norm("ffn_norm", D),
        residual,
        ffn_input,
    };
    g.plan.push(None, op);
    vec![residual, ffn_input]
}

fn feed_forward(g: &mut Generate, hidden: usize, width: usize, cutoff: Option<f32>) -> Vec<BufferId> {
    let d = g.columns(hidden);
    let width = g.columns(width);
    let output = g.buffer("output", d);
    let op = Op::FeedForward {
        input: g.input("input", d),
        gate: g.matrix("gate", width, d),
        up: g.matrix("up", width, d),
        down: g.matrix_view("down", d, width),
        cutoff,
        gated: g.buffer("gated", width),
        hidden: g.buffer("hidden", width),
        output,
    };
    g.plan.push(None, op);
    vec![output]
}

fn altup_correct(g: &mut Generate) -> Vec<BufferId> {
    let streams = g.input("streams", A * D);
    let op = Op::AltUpCorrect {
        streams,
        active: 0,
        residual: g.input("residual", D),
        ffn: g.input("ffn", D),
        post_norm: g.norm("post_norm", D),
        router: router(g),
        coefficients: g.small("coefficients", A, A),
    };
    g.plan.push(None, op);
    vec![streams]
}

fn per_layer_input(g: &mut Generate, scaled: bool) -> Vec<BufferId> {
    let d = g.columns(D);
    let width = g.columns(32);
    let streams = g.input("streams", A * d);
    let op = Op::PerLayerInput {
        streams,
        active: 0,
        per_layer: g.input("per_layer", 3 * width),
        block: 1,
        scale: scaled.then(|| g.norm("scale", d)),
        gate: g.matrix("gate", width, d),
        projection: g.matrix("projection", d, width),
        norm: g.norm("norm", d),
        scaled: g.buffer("scaled", d),
        gated: g.buffer("gated", width),
    };
    g.plan.push(None, op);
    vec![streams]
}

fn select_outputs(g: &mut Generate) -> Vec<BufferId> {
    let input = g.input("input", D);
    let output = g.plan.buffer("selected", Rows::Outputs, D);
    g.plan.push(None, Op::SelectOutputs { input, output });
    vec![output]
}

fn altup_merge(g: &mut Generate) -> Vec<BufferId> {
    let d = g.columns(D);
    let output = g.buffer("merged", d);
    let op = Op::AltUpMerge {
        streams: g.input("streams", A * d),
        projections: (1..A).map(|i| g.matrix(&format!("projection {i}"), d, d)).collect(),
        norm: g.norm("norm", d),
        projected: g.buffer("projected", (A - 1) * d),
        output,
    };
    g.plan.push(None, op);
    vec![output]
}

fn unembed(g: &mut Generate, softcap: Option<f32>) -> Vec<BufferId> {
    let d = g.columns(D);
    let input = g.input("input", d);
    let table = g.matrix("table", 131, d);
    let output = g.buffer("logits", 131);
    g.plan.push(None, Op::Unembed { input, table, softcap, output });
    vec![output]
}
