//! [`Config`]: the numbers that define one Gemma 3n or Gemma 3 text decoder.
//!
//! Field names follow the paper's vocabulary, not one file format's. A config that left [`Config::validate`] without
//! an error is safe to compute sizes with: every count is bounded by a named limit. It never reads files.

mod json;
mod validate;

pub(crate) use json::Fields;
pub use validate::{
    MAX_ALTUP_STREAMS, MAX_CONTEXT, MAX_END_TOKENS, MAX_FFN_WIDTH, MAX_HEAD_DIM, MAX_HEADS, MAX_HIDDEN,
    MAX_LAYERS, MAX_PLE_WIDTH, MAX_VOCABULARY, MIN_ALTUP_STREAMS,
};

/// Largest config.json that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// How far back a layer's attention sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// The last [`Config::window`] positions.
    Sliding,
    /// Every earlier position.
    Full,
}

/// Which decoder a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelFamily {
    /// Gemma 3n: AltUp streams, LAuReL, per-layer embeddings, shared keys and values; elastic.
    Gemma3n,
    /// Gemma 3: one plain residual stream.
    Gemma3,
}

impl ModelFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Gemma3n, Self::Gemma3];

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gemma3n => "Gemma 3n",
            Self::Gemma3 => "Gemma 3",
        }
    }

    /// What GGUF calls it in `general.architecture` and before its keys.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Gemma3n => "gemma3n",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// One text decoder. What Gemma 3 does not have is 0 there, and its one stream counts as one AltUp stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which decoder it is.
    pub family: ModelFamily,
    /// Width d of the residual streams.
    pub hidden: usize,
    /// FFN width of each layer; its length is the number of layers.
    pub ffn_widths: Vec<usize>,
    /// Fraction of gate values that the Gaussian top-k of each layer cuts to zero; 0 where there is none.
    pub sparsity: Vec<f32>,
    /// Attention span of each layer.
    pub layer_kinds: Vec<LayerKind>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides [`Config::heads`].
    pub kv_heads: usize,
    /// Values in one head; even.
    pub head_dim: usize,
    /// Width p of the per-layer embeddings (PLE).
    pub ple_width: usize,
    /// Ids that have a PLE row of their own; ids above read row 0.
    pub ple_vocabulary: usize,
    /// Ids that have an embedding and a logit.
    pub vocabulary: usize,
    /// AltUp streams; stream 0 is the active one in every published model, and the only choice supported.
    pub altup_streams: usize,
    /// Inner width of LAuReL.
    pub laurel_rank: usize,
    /// Positions that a sliding layer sees, its own included.
    pub window: usize,
    /// Layers at the end that use the keys and values of an earlier layer.
    pub shared_kv_layers: usize,
    /// RoPE base of full layers.
    pub rope_theta: f32,
    /// RoPE base of sliding layers.
    pub rope_local_theta: f32,
    /// What the angles of full layers are divided by: the factor of linear rope scaling, 1 without.
    pub rope_stretch: f32,
    /// What normed queries are multiplied by: 1 in Gemma 3n, `query_pre_attn_scalar^(−1/2)` in Gemma 3.
    pub query_scale: f32,
    /// Added to the mean square in every RMS norm.
    pub rms_eps: f32,
    /// Logits are `softcap · tanh(x / softcap)` where there is one.
    pub softcap: Option<f32>,
    /// Longest sequence the model was made for, in tokens.
    pub max_context: usize,
    /// Ids that end a text or a turn.
    pub eos: Vec<u32>,
    /// Id that starts every text.
    pub bos: u32,
}

impl Config {
    /// Gemma 3n E2B: 30 layers of FFN width 8192.
    pub fn e2b() -> Self {
        Self::published(30, 8192, 10)
    }

    /// Gemma 3n E4B: 35 layers of FFN width 16384.
    pub fn e4b() -> Self {
        Self::published(35, 16384, 15)
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.layer_kinds.len()
    }

    /// First layer that has no keys and values of its own; [`Config::layers`] when all have.
    pub fn first_shared_layer(&self) -> usize {
        self.layers() - self.shared_kv_layers
    }

    /// Whether `layer` computes and stores keys and values.
    pub fn owns_kv(&self, layer: usize) -> bool {
        layer < self.first_shared_layer()
    }

    /// The layer whose keys and values `layer` attends to: itself, or the last owner of its kind.
    ///
    /// # Panics
    /// When `layer` is out of range or the config is not valid.
    pub fn kv_source(&self, layer: usize) -> usize {
        if self.owns_kv(layer) {
            return layer;
        }
        let kind = self.layer_kinds[layer];
        self.last_owner(kind).expect("a valid config has an owner of every kind that is shared")
    }

    /// The last layer of `kind` that owns keys and values.
    pub(crate) fn last_owner(&self, kind: LayerKind) -> Option<usize> {
        self.layer_kinds[..self.first_shared_layer()].iter().rposition(|owner| *owner == kind)
    }

    /// RoPE base of `layer`.
    pub fn layer_theta(&self, layer: usize) -> f32 {
        match self.layer_kinds[layer] {
            LayerKind::Sliding => self.rope_local_theta,
            LayerKind::Full => self.rope_theta,
        }
    }

    /// What the RoPE angles of `layer` are divided by.
    pub fn layer_stretch(&self, layer: usize) -> f32 {
        match self.layer_kinds[layer] {
            LayerKind::Sliding => 1.0,
            LayerKind::Full => self.rope_stretch,
        }
    }

    /// Φ⁻¹ of the layer's sparsity, the number of standard deviations above the mean at which the Gaussian top-k
    /// cuts; `None` for a layer without it.
    pub fn sparsity_multiplier(&self, layer: usize) -> Option<f32> {
        let sparsity = self.sparsity[layer];
        (sparsity > 0.0).then(|| normal_quantile(f64::from(sparsity)) as f32)
    }

    /// Values of one position's keys (or values): KV heads times head width.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Values of one position's queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn published(layers: usize, ffn_width: usize, shared_kv_layers: usize) -> Self {
        Self {
            family: ModelFamily::Gemma3n,
            hidden: 2048,
            ffn_widths: vec![ffn_width; layers],
            sparsity: default_sparsity(layers),
            layer_kinds: kinds_of_period(layers, 5),
            heads: 8,
            kv_heads: 2,
            head_dim: 256,
            ple_width: 256,
            ple_vocabulary: 262_144,
            vocabulary: 262_400,
            altup_streams: 4,
            laurel_rank: 64,
            window: 512,
            shared_kv_layers,
            rope_theta: 1_000_000.0,
            rope_local_theta: 10_000.0,
            rope_stretch: 1.0,
            query_scale: 1.0,
            rms_eps: 1e-6,
            softcap: Some(30.0),
            max_context: 32_768,
            eos: vec![1, 106],
            bos: 2,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not JSON at all, or nested too deeply.
    #[error("{file}: not a JSON object: {reason}; copy config.json again from where the weights came from")]
    Json {
        /// File name.
        file: String,
        /// What the JSON parser says.
        reason: String,
    },
    /// The file is larger than any configuration.
    #[error("{file}: {bytes} bytes, but a configuration has at most {limit}; is this the right file?")]
    TooLarge {
        /// File name.
        file: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Another model.
    #[error(
        "{file}: the architecture is {found}, but only Gemma 3n (gemma3n, gemma3n_text) and Gemma 3 (gemma3, gemma3_text) can be run; use one of these"
    )]
    Architecture {
        /// File name.
        file: String,
        /// What the file says it is.
        found: String,
    },
    /// A field is missing, has the wrong type or a value that cannot be.
    #[error("{file}: {field}: {problem}; {remedy}")]
    Field {
        /// File name.
        file: String,
        /// Name of the field, as the file spells it.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Transformers' default: the first 10 layers at 0.95 in models of more than 10 layers.
pub(crate) fn default_sparsity(layers: usize) -> Vec<f32> {
    let sparse = if layers > 10 { 10 } else { 0 };
    (0..layers).map(|layer| if layer < sparse { 0.95 } else { 0.0 }).collect()
}

/// Every `period`-th layer is full.
pub(crate) fn kinds_of_period(layers: usize, period: usize) -> Vec<LayerKind> {
    let kind = |layer: usize| {
        if (layer + 1).is_multiple_of(period) { LayerKind::Full } else { LayerKind::Sliding }
    };
    (0..layers).map(kind).collect()
}

/// Φ, the distribution function of the standard normal.
pub(crate) fn normal_probability(deviations: f64) -> f64 {
    0.5 * libm::erfc(-deviations / std::f64::consts::SQRT_2)
}

/// Φ⁻¹ by bisection, to the last bit of f32; runs once a layer.
fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-10.0_f64, 10.0_f64);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if normal_probability(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_models_share_as_the_reference_says() {
        let e2b = Config::e2b();
        e2b.validate("e2b").unwrap();
        assert_eq!(e2b.first_shared_layer(), 20);
        assert_eq!((e2b.kv_source(17), e2b.kv_source(20), e2b.kv_source(24)), (17, 18, 19));
        assert!(e2b.owns_kv(19) && !e2b.owns_kv(20));
        let e4b = Config::e4b();
        e4b.validate("e4b").unwrap();
        assert_eq!((e4b.kv_source(34), e4b.kv_source(33)), (19, 18));
    }

    #[test]
    fn the_multiplier_is_the_normal_quantile() {
        let config = Config::e2b();
        assert_eq!(config.sparsity_multiplier(0), Some(1.644_853_5));
        assert_eq!(config.sparsity_multiplier(10), None);
        for probability in [0.01, 0.3, 0.5, 0.8, 0.999] {
            assert!((normal_probability(normal_quantile(probability)) - probability).abs() < 1e-14);
        }
    }
}
