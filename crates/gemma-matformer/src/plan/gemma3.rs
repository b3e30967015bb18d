//! Gemma 3's decoder: one residual stream, normed before and after each branch.
//!
//! Formulas are those of transformers' `modeling_gemma3.py`. The norm that ends a branch and the one that starts the next
//! are one operation, so a layer's input arrives normed.

use gemma_hal::op::Op;
use gemma_hal::{BufferId, Outputs, Plan, PlanError, Rows};

use super::{Decoder, PlanOptions};

/// What goes from layer to layer.
#[derive(Clone, Copy)]
struct Flow {
    /// The stream, `[rows, hidden]`.
    residual: BufferId,
    /// The stream, normed for the next branch, `[rows, hidden]`.
    normed: BufferId,
}

/// The decoder as a plan. With `split`, the last layer computes keys and values for every token and the rest for the
/// rows whose logits are wanted, because nothing else reads what it would compute for the others.
pub(super) fn build(mut decoder: Decoder<'_>, options: &PlanOptions, split: bool) -> Result<Plan, PlanError> {
    let layers = decoder.config.layers();
    let residual = decoder.embed("residual");
    let mut flow = Flow { residual, normed: decoder.first_norm(residual) };
    for layer in 0..layers {
        if split && layer + 1 == layers {
            decoder.keys_and_values(layer, flow.normed);
            if options.outputs == Outputs::None {
                return decoder.plan.finish(None);
            }
            decoder.rows = Rows::Outputs;
            let width = decoder.config.hidden;
            flow = Flow {
                residual: decoder.select(flow.residual, "residual", width),
                normed: decoder.select(flow.normed, "normed", width),
            };
            flow.normed = decoder.gemma3_layer(layer, flow, false);
        } else {
            flow.normed = decoder.gemma3_layer(layer, flow, true);
        }
    }
    let logits = decoder.unembed(flow.normed);
    decoder.plan.finish(Some(logits))
}

impl Decoder<'_> {
    fn first_norm(&mut self, input: BufferId) -> BufferId {
        let norm = self.weight(Some(0), "input_norm", &self.layer_weights(0).input_norm);
        let output = self.buffer(Some(0), "normed", self.config.hidden);
        self.plan.push(Some(0), Op::RmsNorm { input, norm, output });
        output
    }

    /// The part of a layer that later tokens can see.
    fn keys_and_values(&mut self, layer: usize, normed: BufferId) {
        let Some(kv) = &self.layer_weights(layer).kv else { return };
        let mut parts = Vec::new();
        let key_value = self.key_value(layer, kv, &mut parts);
        self.plan.push(Some(layer), Op::Linear { input: normed, parts });
        self.rotary(layer, None, Some(key_value));
    }

    /// A layer; returns the stream normed for what follows. Without `own_keys` they are in the cache already.
    fn gemma3_layer(&mut self, layer: usize, flow: Flow, own_keys: bool) -> BufferId {
        let weights = self.layer_weights(layer);
        let mut parts = Vec::new();
        let kv = weights.kv.as_ref().filter(|_| own_keys);
        let key_value = kv.map(|kv| self.key_value(layer, kv, &mut parts));
        let query = self.part(layer, "q", &weights.q);
        parts.push(query);
        self.plan.push(Some(layer), Op::Linear { input: flow.normed, parts });
        let attended = self.attend(layer, query.output, key_value);

        let norms =
            [("post_attention_norm", &weights.post_attention_norm), ("pre_ffn_norm", &weights.pre_ffn_norm)];
        let ffn_input = self.add_norm(layer, flow.residual, attended, norms, "ffn_input");
        let ffn = self.network(layer, ffn_input);
        let next = match self.weights.layers.get(layer + 1) {
            Some(next) => ("next_input_norm", &next.input_norm),
            None => ("norm", &self.weights.norm),
        };
        let norms = [("post_ffn_norm", &weights.post_ffn_norm), next];
        self.add_norm(layer, flow.residual, ffn, norms, "next_normed")
    }

    /// Adds a branch to the stream; returns the stream, normed.
    fn add_norm(
        &mut self,
        layer: usize,
        residual: BufferId,
        input: BufferId,
        [post, next]: [(&str, &gemma_hal::Weight); 2],
        name: &str,
    ) -> BufferId {
        let at = Some(layer);
        let normed = self.buffer(at, name, self.config.hidden);
        let (post_norm, next_norm) = (self.weight(at, post.0, post.1), self.weight(at, next.0, next.1));
        self.plan.push(at, Op::AddNorm { input, post_norm, residual, next_norm, normed });
        normed
    }
}
