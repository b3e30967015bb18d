//! One decoder layer of Gemma 3n in ordinary Burn, formula by formula as docs/model.md has them.
//!
//! `T` tokens, `d` the width of a stream, `A` streams of which the first is active, `H` query heads, `K` key heads, `p` the width
//! of per-layer embeddings. Nothing is fused, skipped or cut short: all tokens go through every operation.

use burn::module::{Module, Param};
use burn::nn::RmsNorm;
use burn::tensor::activation::{gelu_approximate, relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_hal::DeviceError;
use gemma_matformer::{Config, Gemma3nLayerWeights, KvWeights, LayerKind, LayerWeights};

use crate::model::Cache;
use crate::place::{Place, Projection};

/// How AltUp mixes streams: `tanh(W · rms(x) / d)`.
#[derive(Module, Debug)]
pub struct Router {
    norm: RmsNorm,
    weight: Projection,
}

/// Attention of one layer.
#[derive(Module, Debug)]
pub struct Attention {
    query: Projection,
    query_norm: RmsNorm,
    /// Absent in a layer that looks at the keys and values of an earlier one.
    key: Option<Projection>,
    key_norm: Option<RmsNorm>,
    value: Option<Projection>,
    output: Projection,
    /// The layer whose keys and values this one looks at: itself, or the last owner of its kind.
    source: usize,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
    epsilon: f64,
}

/// A decoder layer.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    router: Router,
    prediction: Param<Tensor<2>>,
    correction: Param<Tensor<2>>,
    correct_scale: Param<Tensor<1>>,
    input_norm: RmsNorm,
    laurel_left: Projection,
    laurel_right: Projection,
    laurel_norm: RmsNorm,
    attention: Attention,
    post_attention_norm: RmsNorm,
    pre_ffn_norm: RmsNorm,
    gate: Projection,
    up: Projection,
    down: Projection,
    post_ffn_norm: RmsNorm,
    ple_gate: Projection,
    ple_out: Projection,
    post_ple_norm: RmsNorm,
    /// How many standard deviations above the mean the Gaussian top-k cuts; none where it does not.
    #[module(skip)]
    cutoff: Option<f32>,
}

/// What a run's tokens see, and how positions turn heads; one for sliding layers and one for full ones.
#[derive(Clone, Debug)]
pub struct Reach {
    /// `[T, 1, head_dim / 2]`.
    cos: Tensor<3>,
    /// `[T, 1, head_dim / 2]`.
    sin: Tensor<3>,
    /// `[1, T, positions]`: 0 where a token sees a position, −∞ where it does not.
    mask: Tensor<3>,
}

impl Reach {
    /// Of `count` tokens behind `start` others, in layers of `kind`.
    pub fn new(config: &Config, kind: LayerKind, start: usize, count: usize, device: &Device) -> Self {
        let (theta, stretch, window) = match kind {
            LayerKind::Sliding => (config.rope_local_theta, 1.0, config.window),
            LayerKind::Full => (config.rope_theta, config.rope_stretch, usize::MAX),
        };
        let half = config.head_dim / 2;
        let angles: Vec<f32> = (start..start + count)
            .flat_map(|position| {
                (0..half).map(move |i| {
                    let turns = theta.powf((2 * i) as f32 / (2 * half) as f32) * stretch;
                    position as f32 * (1.0 / turns)
                })
            })
            .collect();
        let angles = Tensor::<3>::from_data(TensorData::new(angles, [count, 1, half]), device);
        let sees = |token: usize, position: usize| position <= token && token - position < window;
        let mask: Vec<f32> = (start..start + count)
            .flat_map(|token| (0..start + count).map(move |position| (token, position)))
            .map(|(token, position)| if sees(token, position) { 0.0 } else { f32::NEG_INFINITY })
            .collect();
        let mask = Tensor::from_data(TensorData::new(mask, [1, count, start + count]), device);
        Self { cos: angles.clone().cos(), sin: angles.sin(), mask }
    }

    /// Turns the halves of heads `[T, heads, head_dim]`.
    fn rotate(&self, x: Tensor<3>) -> Tensor<3> {
        let half = x.dims()[2] / 2;
        let (low, high) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = [low.clone() * cos.clone() - high.clone() * sin.clone(), high * cos + low * sin];
        Tensor::cat(turned.into(), 2)
    }
}

impl Router {
    fn load(place: Place<'_>, own: &Gemma3nLayerWeights, eps: f32) -> Result<Self, DeviceError> {
        let weight = place.matrix("router", &own.router)?;
        Ok(Self { norm: place.norm(&own.router_norm, eps), weight })
    }

    /// `[T, d]` to `[T, A]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let width = x.dims()[1] as f64;
        self.weight.forward(self.norm.forward(x) / width).tanh()
    }
}

impl Attention {
    fn load(
        place: Place<'_>,
        config: &Config,
        layer: usize,
        weights: &LayerWeights,
    ) -> Result<Self, DeviceError> {
        let own = |pick: fn(&KvWeights) -> &gemma_hal::Weight, name: &str| {
            weights.kv.as_ref().map(|kv| place.matrix(name, pick(kv))).transpose()
        };
        Ok(Self {
            query: place.matrix("q", &weights.q)?,
            query_norm: place.norm(&weights.q_norm, config.rms_eps),
            key: own(|kv| &kv.k, "k")?,
            key_norm: weights.kv.as_ref().map(|kv| place.norm(&kv.k_norm, config.rms_eps)),
            value: own(|kv| &kv.v, "v")?,
            output: place.matrix("o", &weights.o)?,
            source: config.kv_source(layer),
            heads: config.heads,
            key_heads: config.kv_heads,
            head_dim: config.head_dim,
            epsilon: f64::from(config.rms_eps),
        })
    }

    /// `[T, d]` to `[T, d]`. A layer that has keys and values of its own puts those of these tokens into `cache`.
    ///
    /// # Panics
    /// When the layers before this one have not run on the same `cache`.
    pub fn forward(&self, x: Tensor<2>, reach: &Reach, cache: &mut Cache) -> Tensor<2> {
        let [tokens, _] = x.dims();
        let (heads, dim) = (self.heads, self.head_dim);
        if let (Some(key), Some(norm), Some(value)) = (&self.key, &self.key_norm, &self.value) {
            let in_heads = |x: Tensor<2>| x.reshape([tokens, self.key_heads, dim]);
            let keys = reach.rotate(norm.forward(in_heads(key.forward(x.clone()))));
            let values = self.plain_norm(in_heads(value.forward(x.clone())));
            cache.extend(self.source, keys.swap_dims(0, 1), values.swap_dims(0, 1));
        }
        let (keys, values) = cache.layer(self.source);
        let queries = self.query.forward(x).reshape([tokens, heads, dim]);
        let queries = reach.rotate(self.query_norm.forward(queries));
        // The queries that share a key head, one below the other: [K, H/K · T, dim].
        let shared = [self.key_heads, heads / self.key_heads * tokens, dim];
        let scores = queries.swap_dims(0, 1).reshape(shared).matmul(keys.transpose());
        let positions = scores.dims()[2];
        let scores = scores.reshape([heads, tokens, positions]) + reach.mask.clone();
        let shared = [self.key_heads, heads / self.key_heads * tokens, positions];
        let attended = softmax(scores, 2).reshape(shared).matmul(values);
        let attended = attended.reshape([heads, tokens, dim]).swap_dims(0, 1);
        self.output.forward(attended.reshape([tokens, heads * dim]))
    }

    /// RMS norm without a weight.
    fn plain_norm(&self, x: Tensor<3>) -> Tensor<3> {
        let rms = (x.clone().square().mean_dim(2) + self.epsilon).sqrt();
        x / rms
    }
}

impl DecoderLayer {
    /// Layer `layer` of a Gemma 3n.
    ///
    /// # Errors
    /// As [`Place::matrix`].
    pub fn load(
        place: Place<'_>,
        config: &Config,
        layer: usize,
        weights: &LayerWeights,
        own: &Gemma3nLayerWeights,
    ) -> Result<Self, DeviceError> {
        let norm = |weight| place.norm(weight, config.rms_eps);
        Ok(Self {
            router: Router::load(place, own, config.rms_eps)?,
            prediction: place.small(&own.prediction),
            correction: place.small(&own.correction),
            correct_scale: place.vector(&own.correct_scale),
            input_norm: norm(&weights.input_norm),
            laurel_left: place.matrix("laurel_left", &own.laurel_left)?,
            laurel_right: place.matrix("laurel_right", &own.laurel_right)?,
            laurel_norm: norm(&own.laurel_norm),
            attention: Attention::load(place, config, layer, weights)?,
            post_attention_norm: norm(&weights.post_attention_norm),
            pre_ffn_norm: norm(&weights.pre_ffn_norm),
            gate: place.matrix("gate", &weights.gate)?,
            up: place.matrix("up", &weights.up)?,
            down: place.matrix("down", &weights.down)?,
            post_ffn_norm: norm(&weights.post_ffn_norm),
            ple_gate: place.matrix("ple_gate", &own.ple_gate)?,
            ple_out: place.matrix("ple_out", &own.ple_out)?,
            post_ple_norm: norm(&own.post_ple_norm),
            cutoff: config.sparsity_multiplier(layer),
        })
    }

    /// Streams `[T, A, d]` and per-layer inputs `[T, p]` to streams `[T, A, d]`.
    pub fn forward(
        &self,
        streams: Tensor<3>,
        per_layer: Tensor<2>,
        reach: &Reach,
        cache: &mut Cache,
    ) -> Tensor<3> {
        let predicted = self.predict(streams);
        let active = active(&predicted);
        let h = self.input_norm.forward(active.clone());
        let laurel = self.laurel_right.forward(self.laurel_left.forward(h.clone()));
        let laurel = h.clone() + self.laurel_norm.forward(laurel);
        let attended = self.post_attention_norm.forward(self.attention.forward(h, reach, cache));
        let residual = (active + attended + laurel) * std::f64::consts::FRAC_1_SQRT_2;
        let ffn = self.feed_forward(self.pre_ffn_norm.forward(residual.clone()));
        let activated = residual + self.post_ffn_norm.forward(ffn);
        let corrected = self.correct(predicted, activated);
        self.per_layer_input(corrected, per_layer)
    }

    /// AltUp's prediction: each stream gets a mixture of all, by what the active one says.
    fn predict(&self, streams: Tensor<3>) -> Tensor<3> {
        let [tokens, count, _] = streams.dims();
        let modalities = self.router.forward(active(&streams));
        let mixture = modalities.matmul(self.prediction.val().transpose());
        let mixture = mixture.reshape([tokens, count, count]);
        streams.clone() + mixture.matmul(streams)
    }

    /// AltUp's correction: each stream takes its share of what the layer has changed in the active one.
    fn correct(&self, predicted: Tensor<3>, activated: Tensor<2>) -> Tensor<3> {
        let modalities = self.router.forward(activated.clone());
        let shares = modalities.matmul(self.correction.val().transpose()) + 1.0;
        let change = activated - active(&predicted);
        predicted + shares.unsqueeze_dim::<3>(2) * change.unsqueeze_dim::<3>(1)
    }

    fn feed_forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate.forward(x.clone());
        let gate = match self.cutoff {
            Some(deviations) => gaussian_cut(gate, deviations),
            None => gate,
        };
        self.down.forward(gelu_approximate(gate) * self.up.forward(x))
    }

    /// The layer's own embedding of the token, gated, added to all streams but the active one.
    fn per_layer_input(&self, streams: Tensor<3>, per_layer: Tensor<2>) -> Tensor<3> {
        let others = streams.dims()[1] - 1;
        let scaled = active(&streams) * self.correct_scale.val().unsqueeze();
        let gated = gelu_approximate(self.ple_gate.forward(scaled)) * per_layer;
        let added = self.post_ple_norm.forward(self.ple_out.forward(gated)).unsqueeze_dim::<3>(1);
        let rest = streams.clone().narrow(1, 1, others) + added;
        Tensor::cat(vec![streams.narrow(1, 0, 1), rest], 1)
    }
}

/// The active stream, `[T, d]`.
fn active(streams: &Tensor<3>) -> Tensor<2> {
    streams.clone().narrow(1, 0, 1).squeeze_dim(1)
}

/// What is left of a token's gate values above so many standard deviations over their mean.
fn gaussian_cut(gate: Tensor<2>, deviations: f32) -> Tensor<2> {
    let mean = gate.clone().mean_dim(1);
    let centred = gate - mean;
    let deviation = centred.clone().square().mean_dim(1).sqrt();
    relu(centred - deviation * f64::from(deviations))
}
