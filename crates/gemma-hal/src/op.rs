//! [`Op`]: the closed list of coarse operations that Gemma 3n and Gemma 3 are made of.
//!
//! An operation names activations ([`BufferId`]) and weights ([`WeightId`]) of its [`crate::Plan`]; it holds no data
//! and no code. Formulas are those of Hugging Face transformers' `modeling_gemma3n.py` and `modeling_gemma3.py`, with norm
//! weights that are used as they are (Gemma 3's `1 + w` is one weight here). Backends match on the list, run the operations one by one or fuse neighbours; there is nothing else to implement.
//!
//! Notation: `T` rows of the operation, `d` hidden size, `A` AltUp streams, `rms(x, w) = x / sqrt(mean(x²) + eps) · w`,
//! `match(y, x) = y · rms_of(x) / sqrt(max(mean(y²), 1e-5))` with `rms_of(x) = sqrt(mean(x²))`, each over one row.
//! Every matrix is `[outputs, inputs]`, every activation `[rows, width]` in f32, row by row.

/// An activation of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub(crate) u16);

/// A weight of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub(crate) u16);

impl BufferId {
    /// Position in [`crate::Plan::buffers`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl WeightId {
    /// Position in [`crate::Plan::weights`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The floor under `mean(y²)` when AltUp gives a stream the magnitude of another.
pub const MATCH_FLOOR: f32 = 1e-5;

/// Sizes of an attention: queries are `[T, query · dim]`, keys and values `[T, key_value · dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `key_value`.
    pub query: usize,
    /// Key/value heads; each serves `query / key_value` query heads.
    pub key_value: usize,
    /// Values a head; even.
    pub dim: usize,
}

impl Heads {
    /// Width of queries and of the attention's output.
    pub const fn query_width(self) -> usize {
        self.query * self.dim
    }

    /// Width of keys, and of values.
    pub const fn key_value_width(self) -> usize {
        self.key_value * self.dim
    }
}

/// One product of an [`Op::Linear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearPart {
    /// `[outputs, inputs]`.
    pub weight: WeightId,
    /// `[T, outputs]`.
    pub output: BufferId,
}

/// Queries of an [`Op::Rotary`], updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryQuery {
    /// `[T, query · dim]`.
    pub query: BufferId,
    /// Norm over one head, `[1, dim]`.
    pub norm: WeightId,
    /// What the normed query is multiplied by: 1 in Gemma 3n, one over the root of `query_pre_attn_scalar` in Gemma 3.
    pub scale: f32,
}

/// Keys and values of an [`Op::Rotary`], written to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotaryKeyValue {
    /// `[T, key_value · dim]`; updated in place.
    pub key: BufferId,
    /// `[T, key_value · dim]`; updated in place.
    pub value: BufferId,
    /// Norm of keys over one head, `[1, dim]`.
    pub norm: WeightId,
    /// Whether values are normed too, without a weight: in Gemma 3n, not in Gemma 3.
    pub value_norm: bool,
}

/// The AltUp router: `tanh(weight · (rms(x, norm) / d))`, giving `A` modalities a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// `[1, d]`.
    pub norm: WeightId,
    /// `[A, d]`.
    pub weight: WeightId,
}

/// One operation. See the module for the notation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `output[t] = table[id[t]] · scale`.
    Embed {
        /// `[vocabulary, d]`.
        table: WeightId,
        /// √d in Gemma.
        scale: f32,
        /// `[T, d]`.
        output: BufferId,
    },
    /// Per-layer embeddings (PLE) of the kept layers, from the token's row and from its embedding:
    /// `output[t][l] = (rms(projection_block(l) · x[t] · projection_scale, norm) + table[id[t]][l] · table_scale) / √2`.
    /// Block `l` is `width` values at `blocks[l] · width` of a table row, and as many rows of the projection.
    /// An id that the table does not have takes row 0.
    PerLayerEmbed {
        /// `[T, d]`.
        input: BufferId,
        /// `[parent layers · width, d]`.
        projection: WeightId,
        /// `[PLE vocabulary, parent layers · width]`.
        table: WeightId,
        /// `[1, width]`.
        norm: WeightId,
        /// The parent's layer for each kept one.
        blocks: Vec<u16>,
        /// Values a layer.
        width: usize,
        /// 1/√d in Gemma.
        projection_scale: f32,
        /// √width in Gemma.
        table_scale: f32,
        /// `[T, kept layers · width]`.
        output: BufferId,
    },
    /// `streams[0] = x; streams[i] = match(projections[i − 1] · x, x)`.
    AltUpInit {
        /// `[T, d]`.
        input: BufferId,
        /// `A − 1` matrices `[d, d]`.
        projections: Vec<WeightId>,
        /// `[T, A · d]`, stream after stream in a row.
        streams: BufferId,
    },
    /// `C = coefficients · router(streams[active])` as `[A, A]`; `streams[j] += Σ_i C[j, i] · streams[i]`, all at once;
    /// `normed = rms(streams[active], input_norm)` of the new streams.
    AltUpPredict {
        /// `[T, A · d]`, updated in place.
        streams: BufferId,
        /// The stream that the layer works on.
        active: usize,
        /// Modalities of the old active stream.
        router: Router,
        /// `[A · A, A]`; row `j · A + i` gives `C[j, i]`.
        coefficients: WeightId,
        /// `[1, d]`.
        input_norm: WeightId,
        /// `[T, d]`.
        normed: BufferId,
    },
    /// `output = rms(input, norm)`.
    RmsNorm {
        /// `[T, d]`.
        input: BufferId,
        /// `[1, d]`.
        norm: WeightId,
        /// `[T, d]`.
        output: BufferId,
    },
    /// The end of one branch of a plain residual stream and the start of the next:
    /// `residual += rms(input, post_norm); normed = rms(residual, next_norm)`.
    AddNorm {
        /// What the branch came to, `[T, d]`.
        input: BufferId,
        /// `[1, d]`.
        post_norm: WeightId,
        /// `[T, d]`, updated in place.
        residual: BufferId,
        /// `[1, d]`.
        next_norm: WeightId,
        /// `[T, d]`.
        normed: BufferId,
    },
    /// `output = weight · input` for each part.
    Linear {
        /// `[T, inputs]`.
        input: BufferId,
        /// Products that share the input.
        parts: Vec<LinearPart>,
    },
    /// Norm and rotary embedding of heads, and the cache's write: `query = rope(rms(query, norm)) · scale`,
    /// `cache.key[p] = rope(rms(key, norm))`, `cache.value[p] = rms(value, 1)` or, where values are not normed, `value`,
    /// per head, at the row's position `p`. Rotation is rotate-half with angles `p · theta^(−2i/dim) / stretch`.
    Rotary {
        /// Sizes.
        heads: Heads,
        /// Base of the angles.
        theta: f32,
        /// What the angles are divided by: 1, or the factor of linear rope scaling.
        stretch: f32,
        /// Layer of the cache that is written; unused without `key_value`.
        cache_layer: usize,
        /// Queries, if any.
        query: Option<RotaryQuery>,
        /// Keys and values, if any.
        key_value: Option<RotaryKeyValue>,
    },
    /// Causal softmax attention (scale 1: what scale there is, [`Op::Rotary`] has given to the queries) over a layer of
    /// the cache, which sees positions above `p − window` where the layer has a window.
    Attention {
        /// Sizes.
        heads: Heads,
        /// Layer of the cache that is read, after the plan has written the run's keys and values to it.
        cache_layer: usize,
        /// `[T, query · dim]`.
        query: BufferId,
        /// `[T, query · dim]`.
        output: BufferId,
    },
    /// The attention's end: `residual = (streams[active] + rms(attended, post_norm) + normed + rms(laurel, laurel_norm))
    /// / √2; ffn_input = rms(residual, ffn_norm)`.
    AttentionResidual {
        /// `[T, A · d]`.
        streams: BufferId,
        /// The stream that the layer works on.
        active: usize,
        /// Input of attention and LAuReL, `[T, d]`.
        normed: BufferId,
        /// Projected attention, `[T, d]`.
        attended: BufferId,
        /// Right LAuReL product, `[T, d]`.
        laurel: BufferId,
        /// `[1, d]`.
        post_norm: WeightId,
        /// `[1, d]`.
        laurel_norm: WeightId,
        /// `[1, d]`.
        ffn_norm: WeightId,
        /// `[T, d]`.
        residual: BufferId,
        /// `[T, d]`.
        ffn_input: BufferId,
    },
    /// `g = gate · x`; with a cutoff `z`, `g = relu(g − (mean(g) + z · std(g)))` over the row, biased std;
    /// `output = down · (gelu_tanh(g) · (up · x))`.
    FeedForward {
        /// `[T, d]`.
        input: BufferId,
        /// `[f, d]`.
        gate: WeightId,
        /// `[f, d]`.
        up: WeightId,
        /// `[d, f]`.
        down: WeightId,
        /// Φ⁻¹(sparsity) where the layer is sparse.
        cutoff: Option<f32>,
        /// Room for the gate, `[T, f]`; in the end what `down` is multiplied by.
        gated: BufferId,
        /// Room for the up product, `[T, f]`.
        hidden: BufferId,
        /// `[T, d]`.
        output: BufferId,
    },
    /// `z = residual + rms(ffn, post_norm)`; `c = coefficients · router(z) + 1`;
    /// `streams[j] += c[j] · (z − streams[active])`, all at once.
    AltUpCorrect {
        /// `[T, A · d]`, updated in place.
        streams: BufferId,
        /// The stream that the layer worked on.
        active: usize,
        /// `[T, d]`.
        residual: BufferId,
        /// `[T, d]`.
        ffn: BufferId,
        /// `[1, d]`.
        post_norm: WeightId,
        /// Modalities of `z`.
        router: Router,
        /// `[A, A]`.
        coefficients: WeightId,
    },
    /// The layer's per-layer input: `u = streams[active] · scale`;
    /// `e = rms(projection · (gelu_tanh(gate · u) · per_layer[block]), norm)`; `streams[j] += e` for `j ≠ active`.
    PerLayerInput {
        /// `[T, A · d]`, updated in place.
        streams: BufferId,
        /// The stream that stays as it is.
        active: usize,
        /// Output of [`Op::PerLayerEmbed`], `[T, kept layers · p]`.
        per_layer: BufferId,
        /// Block of `per_layer` that belongs to this layer.
        block: usize,
        /// `[1, d]`, or none where the model does not scale.
        scale: Option<WeightId>,
        /// `[p, d]`.
        gate: WeightId,
        /// `[d, p]`.
        projection: WeightId,
        /// `[1, d]`.
        norm: WeightId,
        /// Room for `u`, then for the projection, `[T, d]`.
        scaled: BufferId,
        /// Room for the gate, `[T, p]`; in the end what `projection` is multiplied by.
        gated: BufferId,
    },
    /// Copies the rows whose logits are wanted: from here on only they are computed.
    SelectOutputs {
        /// `[T, width]`.
        input: BufferId,
        /// `[outputs, width]`.
        output: BufferId,
    },
    /// `output = rms((streams[0] + Σ_i match(projections[i − 1] · streams[i], streams[0])) / A, norm)`.
    AltUpMerge {
        /// `[T, A · d]`.
        streams: BufferId,
        /// `A − 1` matrices `[d, d]`.
        projections: Vec<WeightId>,
        /// `[1, d]`.
        norm: WeightId,
        /// Room for the projected streams, `[T, (A − 1) · d]`.
        projected: BufferId,
        /// `[T, d]`.
        output: BufferId,
    },
    /// `output = softcap · tanh(table · input / softcap)`; without a soft cap, `table · input`.
    Unembed {
        /// `[T, d]`.
        input: BufferId,
        /// `[vocabulary, d]`.
        table: WeightId,
        /// 30 in Gemma 3n, none in Gemma 3.
        softcap: Option<f32>,
        /// `[T, vocabulary]`.
        output: BufferId,
    },
}

/// What an operation does to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Overwrites all rows; what was there does not matter.
    Write,
    /// Reads and overwrites it.
    Update,
}

impl Op {
    /// Name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::PerLayerEmbed { .. } => "per_layer_embed",
            Self::AltUpInit { .. } => "altup_init",
            Self::AltUpPredict { .. } => "altup_predict",
            Self::RmsNorm { .. } => "rms_norm",
            Self::AddNorm { .. } => "add_norm",
            Self::Linear { .. } => "linear",
            Self::Rotary { .. } => "rotary",
            Self::Attention { .. } => "attention",
            Self::AttentionResidual { .. } => "attention_residual",
            Self::FeedForward { .. } => "feed_forward",
            Self::AltUpCorrect { .. } => "altup_correct",
            Self::PerLayerInput { .. } => "per_layer_input",
            Self::SelectOutputs { .. } => "select_outputs",
            Self::AltUpMerge { .. } => "altup_merge",
            Self::Unembed { .. } => "unembed",
        }
    }

    /// Calls `visit` for every buffer that the operation touches, each once.
    pub fn buffers(&self, visit: &mut dyn FnMut(BufferId, Access)) {
        use Access::{Read, Update, Write};
        match self {
            Self::Embed { output, .. } => visit(*output, Write),
            Self::PerLayerEmbed { input, output, .. }
            | Self::AltUpInit { input, streams: output, .. }
            | Self::RmsNorm { input, output, .. }
            | Self::Attention { query: input, output, .. }
            | Self::SelectOutputs { input, output }
            | Self::Unembed { input, output, .. } => {
                visit(*input, Read);
                visit(*output, Write);
            }
            Self::AddNorm { input, residual, normed, .. } => {
                visit(*input, Read);
                visit(*residual, Update);
                visit(*normed, Write);
            }
            Self::AltUpPredict { streams, normed, .. } => {
                visit(*streams, Update);
                visit(*normed, Write);
            }
            Self::Linear { input, parts } => {
                visit(*input, Read);
                parts.iter().for_each(|part| visit(part.output, Write));
            }
            Self::Rotary { query, key_value, .. } => {
                query.iter().for_each(|q| visit(q.query, Update));
                if let Some(kv) = key_value {
                    visit(kv.key, Update);
                    visit(kv.value, Update);
                }
            }
            Self::AttentionResidual { streams, normed, attended, laurel, residual, ffn_input, .. } => {
                [streams, normed, attended, laurel].into_iter().for_each(|id| visit(*id, Read));
                [residual, ffn_input].into_iter().for_each(|id| visit(*id, Write));
            }
            Self::FeedForward { input, gated, hidden, output, .. } => {
                visit(*input, Read);
                [gated, hidden, output].into_iter().for_each(|id| visit(*id, Write));
            }
            Self::AltUpCorrect { streams, residual, ffn, .. } => {
                visit(*streams, Update);
                [residual, ffn].into_iter().for_each(|id| visit(*id, Read));
            }
            Self::PerLayerInput { streams, per_layer, scaled, gated, .. } => {
                visit(*streams, Update);
                visit(*per_layer, Read);
                [scaled, gated].into_iter().for_each(|id| visit(*id, Write));
            }
            Self::AltUpMerge { streams, projected, output, .. } => {
                visit(*streams, Read);
                [projected, output].into_iter().for_each(|id| visit(*id, Write));
            }
        }
    }

    /// Calls `visit` for every weight that the operation reads.
    pub fn weights(&self, visit: &mut dyn FnMut(WeightId)) {
        match self {
            Self::Embed { table, .. } | Self::Unembed { table, .. } => visit(*table),
            Self::PerLayerEmbed { projection, table, norm, .. } => {
                [projection, table, norm].into_iter().for_each(|id| visit(*id));
            }
            Self::AltUpInit { projections, .. } => projections.iter().for_each(|id| visit(*id)),
            Self::AltUpPredict { router, coefficients, input_norm, .. } => {
                [&router.norm, &router.weight, coefficients, input_norm]
                    .into_iter()
                    .for_each(|id| visit(*id));
            }
            Self::RmsNorm { norm, .. } => visit(*norm),
            Self::AddNorm { post_norm, next_norm, .. } => {
                [post_norm, next_norm].into_iter().for_each(|id| visit(*id));
            }
            Self::Linear { parts, .. } => parts.iter().for_each(|part| visit(part.weight)),
            Self::Rotary { query, key_value, .. } => {
                query.iter().for_each(|q| visit(q.norm));
                key_value.iter().for_each(|kv| visit(kv.norm));
            }
            Self::Attention { .. } | Self::SelectOutputs { .. } => {}
            Self::AttentionResidual { post_norm, laurel_norm, ffn_norm, .. } => {
                [post_norm, laurel_norm, ffn_norm].into_iter().for_each(|id| visit(*id));
            }
            Self::FeedForward { gate, up, down, .. } => {
                [gate, up, down].into_iter().for_each(|id| visit(*id));
            }
            Self::AltUpCorrect { post_norm, router, coefficients, .. } => {
                [post_norm, &router.norm, &router.weight, coefficients].into_iter().for_each(|id| visit(*id));
            }
            Self::PerLayerInput { scale, gate, projection, norm, .. } => {
                scale.iter().chain([gate, projection, norm]).for_each(|id| visit(*id));
            }
            Self::AltUpMerge { projections, norm, .. } => {
                projections.iter().chain([norm]).for_each(|id| visit(*id));
            }
        }
    }
}
