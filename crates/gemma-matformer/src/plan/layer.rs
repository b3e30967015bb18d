//! One decoder layer, and its two cut-down forms at the end of a prefill.

use gemma_hal::op::{Heads, LinearPart, Op, RotaryKeyValue, RotaryQuery, Router};
use gemma_hal::{BufferId, Rows};

use super::{Decoder, Flow};
use crate::weights::{KvWeights, LayerWeights};

/// The stream that layers work on.
const ACTIVE: usize = 0;

/// What attention hands to the feed-forward network.
#[derive(Clone, Copy)]
struct Middle {
    residual: BufferId,
    ffn_input: BufferId,
}

impl<'a> Decoder<'a> {
    /// A whole layer for every row.
    pub(super) fn layer(&mut self, layer: usize, flow: Flow) {
        let normed = self.predict(layer, flow);
        let kv = self.layer_weights(layer).kv.as_ref();
        let mut parts = Vec::new();
        let key_value = kv.map(|kv| self.key_value(layer, kv, &mut parts));
        let middle = self.attention(layer, flow, normed, parts, key_value);
        self.feed_forward(layer, flow, middle);
    }

    /// The last layer that owns keys and values: those for every token, the rest for the outputs' rows only.
    pub(super) fn last_owner(&mut self, layer: usize, flow: Flow) -> Flow {
        let normed = self.keys_and_values_only(layer, flow);
        self.rows = Rows::Outputs;
        let streams = self.select(flow.streams, "streams", self.config.altup_streams * self.config.hidden);
        let per_layer =
            self.select(flow.per_layer, "per_layer", self.config.layers() * self.config.ple_width);
        let normed = self.select(normed, "normed", self.config.hidden);
        let flow = Flow { streams, per_layer };
        let middle = self.attention(layer, flow, normed, Vec::new(), None);
        self.feed_forward(layer, flow, middle);
        flow
    }

    /// The part of a layer that later tokens can see; returns the normed input.
    pub(super) fn keys_and_values_only(&mut self, layer: usize, flow: Flow) -> BufferId {
        let normed = self.predict(layer, flow);
        if let Some(kv) = &self.layer_weights(layer).kv {
            let mut parts = Vec::new();
            let key_value = self.key_value(layer, kv, &mut parts);
            self.plan.push(Some(layer), Op::Linear { input: normed, parts });
            self.rotary(layer, None, Some(key_value));
        }
        normed
    }

    fn layer_weights(&self, layer: usize) -> &'a LayerWeights {
        &self.weights.layers[layer]
    }

    fn select(&mut self, input: BufferId, name: &str, width: usize) -> BufferId {
        let output = self.buffer(None, &format!("selected_{name}"), width);
        self.plan.push(None, Op::SelectOutputs { input, output });
        output
    }

    fn router(&mut self, layer: usize) -> Router {
        let weights = self.layer_weights(layer);
        Router {
            norm: self.weight(Some(layer), "router_norm", &weights.router_norm),
            weight: self.weight(Some(layer), "router", &weights.router),
        }
    }

    fn predict(&mut self, layer: usize, flow: Flow) -> BufferId {
        let weights = self.layer_weights(layer);
        let normed = self.buffer(Some(layer), "normed", self.config.hidden);
        let op = Op::AltUpPredict {
            streams: flow.streams,
            active: ACTIVE,
            router: self.router(layer),
            coefficients: self.weight(Some(layer), "prediction", &weights.prediction),
            input_norm: self.weight(Some(layer), "input_norm", &weights.input_norm),
            normed,
        };
        self.plan.push(Some(layer), op);
        normed
    }

    fn part(&mut self, layer: usize, name: &str, weight: &gemma_hal::Weight) -> LinearPart {
        LinearPart {
            weight: self.weight(Some(layer), name, weight),
            output: self.buffer(Some(layer), &format!("{name}_out"), weight.rows()),
        }
    }

    fn key_value(&mut self, layer: usize, kv: &KvWeights, parts: &mut Vec<LinearPart>) -> RotaryKeyValue {
        let key = self.part(layer, "k", &kv.k);
        let value = self.part(layer, "v", &kv.v);
        parts.extend([key, value]);
        let norm = self.weight(Some(layer), "k_norm", &kv.k_norm);
        RotaryKeyValue { key: key.output, value: value.output, norm, value_norm: true }
    }

    fn heads(&self) -> Heads {
        Heads { query: self.config.heads, key_value: self.config.kv_heads, dim: self.config.head_dim }
    }

    fn rotary(&mut self, layer: usize, query: Option<RotaryQuery>, key_value: Option<RotaryKeyValue>) {
        let op = Op::Rotary {
            heads: self.heads(),
            theta: self.config.layer_theta(layer),
            stretch: 1.0,
            cache_layer: self.config.kv_source(layer),
            query,
            key_value,
        };
        self.plan.push(Some(layer), op);
    }

    /// Attention and LAuReL. `parts` are products of the normed input that shall be computed with the query's.
    fn attention(
        &mut self,
        layer: usize,
        flow: Flow,
        normed: BufferId,
        mut parts: Vec<LinearPart>,
        key_value: Option<RotaryKeyValue>,
    ) -> Middle {
        let weights = self.layer_weights(layer);
        let at = Some(layer);
        let query = self.part(layer, "q", &weights.q);
        let rank = self.part(layer, "laurel_left", &weights.laurel_left);
        parts.extend([query, rank]);
        self.plan.push(at, Op::Linear { input: normed, parts });
        let norm = self.weight(at, "q_norm", &weights.q_norm);
        self.rotary(layer, Some(RotaryQuery { query: query.output, norm, scale: 1.0 }), key_value);

        let heads = self.heads();
        let attended = self.buffer(at, "attended", heads.query_width());
        let cache_layer = self.config.kv_source(layer);
        self.plan.push(at, Op::Attention { heads, cache_layer, query: query.output, output: attended });
        let projected = self.part(layer, "o", &weights.o);
        self.plan.push(at, Op::Linear { input: attended, parts: vec![projected] });
        let laurel = self.part(layer, "laurel_right", &weights.laurel_right);
        self.plan.push(at, Op::Linear { input: rank.output, parts: vec![laurel] });

        let middle = Middle {
            residual: self.buffer(at, "residual", self.config.hidden),
            ffn_input: self.buffer(at, "ffn_input", self.config.hidden),
        };
        let op = Op::AttentionResidual {
            streams: flow.streams,
            active: ACTIVE,
            normed,
            attended: projected.output,
            laurel: laurel.output,
            post_norm: self.weight(at, "post_attention_norm", &weights.post_attention_norm),
            laurel_norm: self.weight(at, "laurel_norm", &weights.laurel_norm),
            ffn_norm: self.weight(at, "pre_ffn_norm", &weights.pre_ffn_norm),
            residual: middle.residual,
            ffn_input: middle.ffn_input,
        };
        self.plan.push(at, op);
        middle
    }

    /// The feed-forward network, AltUp's correction and the per-layer input.
    fn feed_forward(&mut self, layer: usize, flow: Flow, middle: Middle) {
        let (at, weights) = (Some(layer), self.layer_weights(layer));
        let width = weights.gate.rows();
        let ffn = self.buffer(at, "ffn_out", self.config.hidden);
        let op = Op::FeedForward {
            input: middle.ffn_input,
            gate: self.weight(at, "gate", &weights.gate),
            up: self.weight(at, "up", &weights.up),
            down: self.weight(at, "down", &weights.down),
            cutoff: self.config.sparsity_multiplier(layer),
            gated: self.buffer(at, "gated", width),
            hidden: self.buffer(at, "hidden", width),
            output: ffn,
        };
        self.plan.push(at, op);
        let op = Op::AltUpCorrect {
            streams: flow.streams,
            active: ACTIVE,
            residual: middle.residual,
            ffn,
            post_norm: self.weight(at, "post_ffn_norm", &weights.post_ffn_norm),
            router: self.router(layer),
            coefficients: self.weight(at, "correction", &weights.correction),
        };
        self.plan.push(at, op);
        let op = Op::PerLayerInput {
            streams: flow.streams,
            active: ACTIVE,
            per_layer: flow.per_layer,
            block: layer,
            scale: Some(self.weight(at, "correct_scale", &weights.correct_scale)),
            gate: self.weight(at, "ple_gate", &weights.ple_gate),
            projection: self.weight(at, "ple_out", &weights.ple_out),
            norm: self.weight(at, "post_ple_norm", &weights.post_ple_norm),
            scaled: self.buffer(at, "ple_scaled", self.config.hidden),
            gated: self.buffer(at, "ple_gated", self.config.ple_width),
        };
        self.plan.push(at, op);
    }
}
