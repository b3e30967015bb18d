//! From a [`Config`] and its [`Weights`] to a [`Plan`]: a whole decoder as a list of operations. This file and `layer`
//! build Gemma 3n's, `gemma3` builds Gemma 3's.
//!
//! Phase, outputs and slice are data here, never another model. Formulas live in `gemma_hal::op`; this module only
//! says which operation follows which. It reads no weight and knows no device.

mod gemma3;
mod layer;

use gemma_hal::op::Op;
use gemma_hal::{
    BufferId, CacheLayer, CacheLayout, DType, Outputs, Plan, PlanBuilder, PlanError, Rows, Weight, WeightId,
};

use crate::{Config, Gemma3nWeights, LayerKind, ModelFamily, Weights};

/// What a plan is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Name in reports ("decode", "prefill").
    pub name: String,
    /// The most tokens of one run.
    pub max_tokens: usize,
    /// Whose logits are wanted.
    pub outputs: Outputs,
    /// Type of the KV cache: one of [`gemma_hal::CACHE_DTYPES`] whose blocks fill a head.
    pub cache_dtype: DType,
}

/// The cache of a decoder: one layer for each that owns keys and values.
pub fn cache_layout(config: &Config, dtype: DType) -> CacheLayout {
    let layers = (0..config.first_shared_layer()).map(|layer| CacheLayer {
        width: config.kv_width(),
        window: (config.layer_kinds[layer] == LayerKind::Sliding).then_some(config.window),
    });
    CacheLayout { layers: layers.collect(), dtype }
}

/// The decoder as a plan.
///
/// Unless every token's logits are wanted, the layers behind the last one that owns keys and values run for the last
/// token only, because nothing else reads what they would compute for the others; without outputs they do not run at
/// all. The last owner itself computes keys and values for all tokens and the rest for the last.
///
/// # Errors
/// [`PlanError`] when `weights` are not of `config`'s shapes, which loading has ruled out.
pub fn build(config: &Config, weights: &Weights, options: &PlanOptions) -> Result<Plan, PlanError> {
    let cache = cache_layout(config, options.cache_dtype);
    let plan = PlanBuilder::new(&options.name, options.max_tokens, options.outputs, config.rms_eps, cache);
    // With one token a run, every row is the last: nothing to select.
    let split =
        options.outputs != Outputs::All && (options.max_tokens > 1 || options.outputs == Outputs::None);
    let decoder = Decoder { config, weights, plan, rows: Rows::Tokens };
    match (config.family, &weights.gemma3n) {
        (ModelFamily::Gemma3n, Some(own)) if weights.layers.iter().all(|layer| layer.gemma3n.is_some()) => {
            gemma3n(decoder, own, options, split)
        }
        (ModelFamily::Gemma3, _) => gemma3::build(decoder, options, split),
        _ => Err(PlanError::Plan("the weights are not of a Gemma 3n model")),
    }
}

fn gemma3n(
    mut decoder: Decoder<'_>,
    own: &Gemma3nWeights,
    options: &PlanOptions,
    split: bool,
) -> Result<Plan, PlanError> {
    let config = decoder.config;
    let mut flow = decoder.start(own);
    let last_owner = config.first_shared_layer() - 1;
    for layer in 0..config.layers() {
        if split && layer == last_owner {
            if options.outputs == Outputs::None {
                decoder.keys_and_values_only(layer, flow);
                return decoder.plan.finish(None);
            }
            flow = decoder.last_owner(layer, flow);
        } else {
            decoder.layer(layer, flow);
        }
    }
    let logits = decoder.head(own, flow);
    decoder.plan.finish(Some(logits))
}

/// The activations that go from layer to layer.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// `[rows, streams · hidden]`.
    streams: BufferId,
    /// `[rows, layers · ple_width]`.
    per_layer: BufferId,
}

/// A plan in the making.
struct Decoder<'a> {
    config: &'a Config,
    weights: &'a Weights,
    plan: PlanBuilder,
    /// Rows of what is computed at this point.
    rows: Rows,
}

impl Decoder<'_> {
    fn buffer(&mut self, layer: Option<usize>, name: &str, width: usize) -> BufferId {
        let name = layer.map_or_else(|| name.to_owned(), |layer| format!("{layer}.{name}"));
        self.plan.buffer(name, self.rows, width)
    }

    fn weight(&mut self, layer: Option<usize>, name: &str, weight: &Weight) -> WeightId {
        let name = layer.map_or_else(|| name.to_owned(), |layer| format!("{layer}.{name}"));
        self.plan.weight(name, weight.clone())
    }

    /// Embeddings, per-layer embeddings and the streams.
    fn start(&mut self, weights: &Gemma3nWeights) -> Flow {
        let (d, p) = (self.config.hidden, self.config.ple_width);
        let embedded = self.embed("embedded");
        let per_layer = self.buffer(None, "per_layer", self.config.layers() * p);
        let embed = Op::PerLayerEmbed {
            input: embedded,
            projection: self.weight(None, "ple_projection", &weights.ple_projection),
            table: self.weight(None, "ple_table", &weights.ple_table),
            norm: self.weight(None, "ple_norm", &weights.ple_norm),
            blocks: weights.ple_blocks.iter().map(|block| *block as u16).collect(),
            width: p,
            projection_scale: 1.0 / (d as f32).sqrt(),
            table_scale: (p as f32).sqrt(),
            output: per_layer,
        };
        self.plan.push(None, embed);

        let streams = self.buffer(None, "streams", self.config.altup_streams * d);
        let projections = self.stack("altup_projection", &weights.altup_projections);
        self.plan.push(None, Op::AltUpInit { input: embedded, projections, streams });
        Flow { streams, per_layer }
    }

    /// The streams' end and the logits.
    fn head(&mut self, weights: &Gemma3nWeights, flow: Flow) -> BufferId {
        let (d, streams) = (self.config.hidden, self.config.altup_streams);
        let merged = self.buffer(None, "merged", d);
        let merge = Op::AltUpMerge {
            streams: flow.streams,
            projections: self.stack("altup_unembed", &weights.altup_unembed),
            norm: self.weight(None, "norm", &self.weights.norm),
            projected: self.buffer(None, "projected", (streams - 1) * d),
            output: merged,
        };
        self.plan.push(None, merge);
        self.unembed(merged)
    }

    /// The scaled embeddings of the tokens.
    fn embed(&mut self, name: &str) -> BufferId {
        let d = self.config.hidden;
        let table = self.weight(None, "embed", &self.weights.embed);
        let output = self.buffer(None, name, d);
        self.plan.push(None, Op::Embed { table, scale: (d as f32).sqrt(), output });
        output
    }

    /// The logits of rows that have been normed.
    fn unembed(&mut self, input: BufferId) -> BufferId {
        let table = self.weight(None, "unembed", &self.weights.embed);
        let output = self.buffer(None, "logits", self.config.vocabulary);
        self.plan.push(None, Op::Unembed { input, table, softcap: self.config.softcap, output });
        output
    }

    fn stack(&mut self, name: &str, weights: &[Weight]) -> Vec<WeightId> {
        weights.iter().enumerate().map(|(i, w)| self.weight(None, &format!("{name}.{i}"), w)).collect()
    }
}
