//! A [`Config`] from GGUF metadata.
//!
//! Keys are llama.cpp's (`gguf-py`, its Gemma3n and Gemma3 converters and loader) where it has one. It has none for the PLE
//! vocabulary, the sparsity itself (it stores Φ⁻¹ of it), LAuReL's rank and further end tokens: our files carry
//! keys of their own under `gemma3n.`, and files without them get what llama.cpp hard-codes.

use super::metadata::Value;
use super::{CheckpointError, Gguf};
use crate::config::{MAX_LAYERS, default_sparsity, kinds_of_period, normal_probability};
use crate::{Config, ConfigError, LayerKind, ModelFamily};

/// Keys that this reader and the writer share. Where a key begins with the architecture, `{arch}` stands for it.
pub(crate) mod keys {
    use std::borrow::Cow;

    use crate::ModelFamily;

    /// The key as a file of `family` spells it.
    pub(crate) fn of(key: &str, family: ModelFamily) -> Cow<'_, str> {
        match key.strip_prefix("{arch}") {
            Some(rest) => Cow::Owned(format!("{}{rest}", family.architecture())),
            None => Cow::Borrowed(key),
        }
    }

    pub(crate) const ARCHITECTURE: &str = "general.architecture";
    pub(crate) const CONTEXT: &str = "{arch}.context_length";
    pub(crate) const HIDDEN: &str = "{arch}.embedding_length";
    pub(crate) const LAYERS: &str = "{arch}.block_count";
    pub(crate) const FFN: &str = "{arch}.feed_forward_length";
    pub(crate) const HEADS: &str = "{arch}.attention.head_count";
    pub(crate) const KV_HEADS: &str = "{arch}.attention.head_count_kv";
    pub(crate) const HEAD_DIM: &str = "{arch}.attention.key_length";
    pub(crate) const VALUE_DIM: &str = "{arch}.attention.value_length";
    pub(crate) const EPS: &str = "{arch}.attention.layer_norm_rms_epsilon";
    pub(crate) const WINDOW: &str = "{arch}.attention.sliding_window";
    /// One bool a layer, true where it slides; or the period of full layers.
    pub(crate) const PATTERN: &str = "{arch}.attention.sliding_window_pattern";
    pub(crate) const SHARED_KV: &str = "{arch}.attention.shared_kv_layers";
    pub(crate) const ROPE: &str = "{arch}.rope.freq_base";
    pub(crate) const ROPE_LOCAL: &str = "{arch}.rope.freq_base_swa";
    /// `linear`, or nothing; applies to full layers.
    pub(crate) const ROPE_SCALING: &str = "{arch}.rope.scaling.type";
    pub(crate) const ROPE_FACTOR: &str = "{arch}.rope.scaling.factor";
    /// What queries are multiplied by; files without it follow the published models.
    pub(crate) const QUERY_SCALE: &str = "{arch}.attention.scale";
    pub(crate) const SOFTCAP: &str = "{arch}.final_logit_softcapping";
    pub(crate) const STREAMS: &str = "{arch}.altup.num_inputs";
    pub(crate) const ACTIVE: &str = "{arch}.altup.active_idx";
    pub(crate) const PLE_WIDTH: &str = "{arch}.embedding_length_per_layer_input";
    /// Φ⁻¹ of the sparsity of each layer, −∞ where there is none.
    pub(crate) const SPARSITY_SCALE: &str = "{arch}.activation_sparsity_scale";
    pub(crate) const EOS: &str = "tokenizer.ggml.eos_token_id";
    pub(crate) const EOT: &str = "tokenizer.ggml.eot_token_id";
    pub(crate) const BOS: &str = "tokenizer.ggml.bos_token_id";
    /// Our own: ids that have a PLE row.
    pub(crate) const PLE_VOCABULARY: &str = "{arch}.vocab_size_per_layer_input";
    /// Our own: the sparsity of each layer as a fraction.
    pub(crate) const SPARSITY: &str = "{arch}.activation_sparsity";
    /// Our own: inner width of LAuReL.
    pub(crate) const LAUREL_RANK: &str = "{arch}.laurel_rank";
    /// Our own: every id that ends a text or a turn.
    pub(crate) const ENDS: &str = "{arch}.eos_token_ids";
}

/// Ids of published models, and how many of them have a PLE row; llama.cpp's files pad the table with zeros.
const PUBLISHED_VOCABULARY: usize = 262_400;
const PUBLISHED_PLE_VOCABULARY: usize = 262_144;
/// Layers with keys and values of their own in both published models, which llama.cpp hard-codes.
const PUBLISHED_KV_OWNERS: usize = 20;
/// Layers of Gemma 3 27B, the one model whose queries are scaled by another size than the head's; llama.cpp tells it
/// by this number too.
const LAYERS_OF_27B: usize = 62;

/// What llama.cpp multiplies Gemma 3's queries by, of which it reads no key.
pub(crate) fn published_query_scale(layers: usize, hidden: usize, heads: usize, head_dim: usize) -> f32 {
    let size = if layers == LAYERS_OF_27B { hidden as f32 / heads as f32 } else { head_dim as f32 };
    size.sqrt().recip()
}

impl Gguf {
    pub(crate) fn config(&self) -> Result<Config, CheckpointError> {
        let Some(family) = self.family else {
            let named = self.text(keys::ARCHITECTURE)?;
            let found = named.map_or_else(|| "not named".to_owned(), |name| format!("'{name}'"));
            return Err(ConfigError::Architecture { file: self.file().to_owned(), found }.into());
        };
        self.refuse_unsupported()?;
        let layers = self.needed(keys::LAYERS)?;
        if layers > MAX_LAYERS {
            return self.field(keys::LAYERS, format!("{layers} is not between 1 and {MAX_LAYERS}"));
        }
        let config = match family {
            ModelFamily::Gemma3n => self.gemma3n(layers)?,
            ModelFamily::Gemma3 => self.gemma3(layers)?,
        };
        config.validate(self.file())?;
        Ok(config)
    }

    fn gemma3n(&self, layers: usize) -> Result<Config, CheckpointError> {
        let embed = self.shape("token_embd.weight")?;
        let ple = self.shape("per_layer_token_embd.weight")?;
        Ok(Config {
            family: ModelFamily::Gemma3n,
            hidden: self.needed(keys::HIDDEN)?,
            ffn_widths: self.each_layer(keys::FFN, layers)?,
            sparsity: self.sparsity(layers)?,
            layer_kinds: self.layer_kinds(layers, 5)?,
            heads: self.needed(keys::HEADS)?,
            kv_heads: self.needed(keys::KV_HEADS)?,
            head_dim: self.count(keys::HEAD_DIM)?.unwrap_or(256),
            ple_width: self.count(keys::PLE_WIDTH)?.unwrap_or(256),
            ple_vocabulary: match self.count(keys::PLE_VOCABULARY)? {
                Some(count) => count,
                None if ple.0 == PUBLISHED_VOCABULARY => PUBLISHED_PLE_VOCABULARY,
                None => ple.0,
            },
            vocabulary: embed.0,
            altup_streams: self.count(keys::STREAMS)?.unwrap_or(4),
            laurel_rank: match self.count(keys::LAUREL_RANK)? {
                Some(rank) => rank,
                None => self.shape("blk.0.laurel_l.weight")?.0,
            },
            window: self.count(keys::WINDOW)?.unwrap_or(512),
            shared_kv_layers: self.shared_kv_layers(layers)?,
            rope_theta: self.float(keys::ROPE)?.unwrap_or(1_000_000.0),
            rope_local_theta: self.float(keys::ROPE_LOCAL)?.unwrap_or(10_000.0),
            rope_stretch: 1.0,
            query_scale: 1.0,
            rms_eps: self.float(keys::EPS)?.unwrap_or(1e-6),
            softcap: Some(self.float(keys::SOFTCAP)?.unwrap_or(30.0)),
            max_context: self.count(keys::CONTEXT)?.unwrap_or(32_768),
            eos: self.ends()?,
            bos: self.id(keys::BOS)?.unwrap_or(2),
        })
    }

    fn gemma3(&self, layers: usize) -> Result<Config, CheckpointError> {
        let (hidden, heads) = (self.needed(keys::HIDDEN)?, self.needed(keys::HEADS)?);
        let head_dim = self.count(keys::HEAD_DIM)?.unwrap_or(256);
        let query_scale = match self.float(keys::QUERY_SCALE)? {
            Some(scale) => scale,
            None => published_query_scale(layers, hidden, heads, head_dim),
        };
        Ok(Config {
            family: ModelFamily::Gemma3,
            hidden,
            ffn_widths: self.each_layer(keys::FFN, layers)?,
            sparsity: vec![0.0; layers],
            layer_kinds: self.layer_kinds(layers, 6)?,
            heads,
            kv_heads: self.needed(keys::KV_HEADS)?,
            head_dim,
            ple_width: 0,
            ple_vocabulary: 0,
            vocabulary: self.shape("token_embd.weight")?.0,
            altup_streams: 1,
            laurel_rank: 0,
            window: self.needed(keys::WINDOW)?,
            shared_kv_layers: 0,
            rope_theta: self.float(keys::ROPE)?.unwrap_or(1_000_000.0),
            rope_local_theta: self.float(keys::ROPE_LOCAL)?.unwrap_or(10_000.0),
            rope_stretch: self.rope_stretch()?,
            query_scale,
            rms_eps: self.float(keys::EPS)?.unwrap_or(1e-6),
            softcap: self.float(keys::SOFTCAP)?,
            max_context: self.count(keys::CONTEXT)?.unwrap_or(131_072),
            eos: self.ends()?,
            bos: self.id(keys::BOS)?.unwrap_or(2),
        })
    }

    fn rope_stretch(&self) -> Result<f32, CheckpointError> {
        match self.text(keys::ROPE_SCALING)?.as_deref() {
            None | Some("none") => Ok(1.0),
            Some("linear") => Ok(self.float(keys::ROPE_FACTOR)?.unwrap_or(1.0)),
            Some(other) => self.field(keys::ROPE_SCALING, format!("'{other}' is not supported")),
        }
    }

    fn refuse_unsupported(&self) -> Result<(), CheckpointError> {
        if self.count("split.count")?.is_some_and(|parts| parts > 1) {
            return Err(CheckpointError::GgufContent {
                file: self.file().to_owned(),
                problem: "one part of a model split over several files".to_owned(),
                remedy: "join them with llama-gguf-split --merge",
            });
        }
        if let Some(stream) = self.count(keys::ACTIVE)?.filter(|stream| *stream != 0) {
            return self.field(keys::ACTIVE, format!("{stream} is not supported"));
        }
        let (key, value) = (self.count(keys::HEAD_DIM)?, self.count(keys::VALUE_DIM)?);
        if value.is_some_and(|value| value != key.unwrap_or(256)) {
            return self.field(keys::VALUE_DIM, format!("differs from {}", self.key(keys::HEAD_DIM)));
        }
        Ok(())
    }

    fn field<T>(&self, key: &str, problem: String) -> Result<T, CheckpointError> {
        let (file, field) = (self.file().to_owned(), self.key(key).into_owned());
        Err(ConfigError::Field { file, field, problem, remedy: "convert the model again" }.into())
    }

    fn count(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        let count = self.unsigned(key)?;
        Ok(count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
    }

    fn needed(&self, key: &str) -> Result<usize, CheckpointError> {
        match self.count(key)? {
            Some(count) => Ok(count),
            None => self.field(key, "is missing".to_owned()),
        }
    }

    fn id(&self, key: &str) -> Result<Option<u32>, CheckpointError> {
        match self.unsigned(key)?.map(u32::try_from) {
            None => Ok(None),
            Some(Ok(id)) => Ok(Some(id)),
            Some(Err(_)) => self.field(key, "is not a token id".to_owned()),
        }
    }

    fn shape(&self, tensor: &str) -> Result<(usize, usize), CheckpointError> {
        match self.tensor(tensor) {
            Some(tensor) => Ok((tensor.rows, tensor.columns)),
            None => Err(CheckpointError::MissingTensor {
                file: self.file().to_owned(),
                tensor: tensor.to_owned(),
            }),
        }
    }

    /// One count for every layer: an array, or one number for all.
    fn each_layer(&self, key: &str, layers: usize) -> Result<Vec<usize>, CheckpointError> {
        if !self.is_list(key) {
            return Ok(vec![self.needed(key)?; layers]);
        }
        let count = |value: &Value| match value {
            Value::Unsigned(count) => usize::try_from(*count).ok(),
            Value::Signed(count) => usize::try_from(*count).ok(),
            _ => None,
        };
        self.of_layers(key, layers, self.list(key, "a list of counts", count)?.unwrap_or_default())
    }

    fn of_layers<T>(&self, key: &str, layers: usize, values: Vec<T>) -> Result<Vec<T>, CheckpointError> {
        if values.len() == layers {
            return Ok(values);
        }
        self.field(key, format!("{} values for {layers} layers", values.len()))
    }

    fn sparsity(&self, layers: usize) -> Result<Vec<f32>, CheckpointError> {
        let number = |value: &Value| match value {
            Value::Float(value) => Some(*value),
            _ => None,
        };
        if let Some(fractions) = self.list(keys::SPARSITY, "a list of numbers", number)? {
            let fractions = fractions.into_iter().map(|fraction| fraction as f32).collect();
            return self.of_layers(keys::SPARSITY, layers, fractions);
        }
        if let Some(scales) = self.list(keys::SPARSITY_SCALE, "a list of numbers", number)? {
            let fractions = scales.into_iter().map(|scale| normal_probability(scale) as f32).collect();
            return self.of_layers(keys::SPARSITY_SCALE, layers, fractions);
        }
        Ok(default_sparsity(layers))
    }

    fn layer_kinds(&self, layers: usize, published: usize) -> Result<Vec<LayerKind>, CheckpointError> {
        if !self.is_list(keys::PATTERN) {
            let period = self.count(keys::PATTERN)?.unwrap_or(published);
            if period == 0 {
                return self.field(keys::PATTERN, "is 0".to_owned());
            }
            return Ok(kinds_of_period(layers, period));
        }
        let kind = |value: &Value| match value {
            Value::Bool(true) => Some(LayerKind::Sliding),
            Value::Bool(false) => Some(LayerKind::Full),
            _ => None,
        };
        let kinds = self.list(keys::PATTERN, "a list of true and false", kind)?.unwrap_or_default();
        self.of_layers(keys::PATTERN, layers, kinds)
    }

    fn shared_kv_layers(&self, layers: usize) -> Result<usize, CheckpointError> {
        match self.count(keys::SHARED_KV)? {
            Some(count) => Ok(count),
            None if layers == 30 || layers == 35 => Ok(layers - PUBLISHED_KV_OWNERS),
            None => self.field(keys::SHARED_KV, "is missing".to_owned()),
        }
    }

    fn ends(&self) -> Result<Vec<u32>, CheckpointError> {
        let id = |value: &Value| match value {
            Value::Unsigned(id) => u32::try_from(*id).ok(),
            _ => None,
        };
        if let Some(ids) = self.list(keys::ENDS, "a list of token ids", id)? {
            return Ok(ids);
        }
        let mut ids = vec![self.id(keys::EOS)?.unwrap_or(1)];
        ids.extend(self.id(keys::EOT)?.filter(|id| !ids.contains(id)));
        Ok(ids)
    }
}
