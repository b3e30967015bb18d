//! config.json: the text-only layouts (`gemma3n_text`, `gemma3_text`) and the multimodal ones (`gemma3n`, `gemma3` with a
//! `text_config`).
//!
//! Missing keys take the defaults of transformers' `Gemma3nTextConfig` and `Gemma3TextConfig`; choices that no published model makes are
//! refused rather than ignored.

use serde_json::{Map, Value};

use super::validate::{MAX_END_TOKENS, MAX_LAYERS, unsupported};
use super::{
    Config, ConfigError, LayerKind, MAX_CONFIG_BYTES, ModelFamily, default_sparsity, kinds_of_period,
};

const WRONG_TYPE: &str = "copy config.json again from where the weights came from";

impl Config {
    /// Reads a config.json; `name` is named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not JSON, neither Gemma 3n nor Gemma 3, or not a model that can be.
    pub fn from_json(bytes: &[u8], name: &str) -> Result<Self, ConfigError> {
        let file = name.to_owned();
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { file, bytes: bytes.len() as u64, limit: MAX_CONFIG_BYTES });
        }
        let root: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| ConfigError::Json { file: file.clone(), reason: error.to_string() })?;
        let root = Fields { file: name, object: &root };
        let text = match root.object.get("text_config") {
            None | Some(Value::Null) => root,
            Some(Value::Object(object)) => Fields { file: name, object },
            Some(_) => return root.fail("text_config", "is not an object".to_owned()),
        };
        let config = match family(&root, &text)? {
            ModelFamily::Gemma3n => read(&root, &text)?,
            ModelFamily::Gemma3 => read_gemma3(&root, &text)?,
        };
        config.validate(name)?;
        Ok(config)
    }
}

fn family(root: &Fields<'_>, text: &Fields<'_>) -> Result<ModelFamily, ConfigError> {
    let found = root.string("model_type")?.or(text.string("model_type")?);
    match found {
        Some("gemma3n" | "gemma3n_text") => Ok(ModelFamily::Gemma3n),
        Some("gemma3" | "gemma3_text") => Ok(ModelFamily::Gemma3),
        other => Err(ConfigError::Architecture {
            file: root.file.to_owned(),
            found: other.map_or_else(|| "not named (model_type is missing)".to_owned(), |t| format!("'{t}'")),
        }),
    }
}

fn read(root: &Fields<'_>, text: &Fields<'_>) -> Result<Config, ConfigError> {
    let layers = layer_count(text, 35)?;
    refuse_unsupported(root, text)?;
    let rope = rope(text)?;
    if rope.stretch != 1.0 {
        return unsupported(text.file, "rope_scaling", "rope type 'linear' is not supported".to_owned());
    }
    let (eos, bos) = ends(root, text)?;
    Ok(Config {
        family: ModelFamily::Gemma3n,
        hidden: text.count("hidden_size")?.unwrap_or(2048),
        ffn_widths: text.counts("intermediate_size", layers)?.unwrap_or_else(|| vec![16_384; layers]),
        sparsity: text
            .numbers("activation_sparsity_pattern", layers)?
            .unwrap_or_else(|| default_sparsity(layers)),
        layer_kinds: layer_kinds(text, layers, 5)?,
        heads: text.count("num_attention_heads")?.unwrap_or(8),
        kv_heads: text.count("num_key_value_heads")?.unwrap_or(2),
        head_dim: text.count("head_dim")?.unwrap_or(256),
        ple_width: text.count("hidden_size_per_layer_input")?.unwrap_or(256),
        ple_vocabulary: text.count("vocab_size_per_layer_input")?.unwrap_or(262_144),
        vocabulary: text.count("vocab_size")?.unwrap_or(262_400),
        altup_streams: text.count("altup_num_inputs")?.unwrap_or(4),
        laurel_rank: text.count("laurel_rank")?.unwrap_or(64),
        window: text.count("sliding_window")?.unwrap_or(512),
        shared_kv_layers: text.count("num_kv_shared_layers")?.unwrap_or(15),
        rope_theta: rope.theta,
        rope_local_theta: rope.local_theta,
        rope_stretch: rope.stretch,
        query_scale: 1.0,
        rms_eps: text.number("rms_norm_eps")?.unwrap_or(1e-6),
        softcap: Some(text.number("final_logit_softcapping")?.unwrap_or(30.0)),
        max_context: text.count("max_position_embeddings")?.unwrap_or(32_768),
        eos,
        bos,
    })
}

fn read_gemma3(root: &Fields<'_>, text: &Fields<'_>) -> Result<Config, ConfigError> {
    let layers = layer_count(text, 26)?;
    refuse_unsupported(root, text)?;
    if text.flag("use_bidirectional_attention")?.unwrap_or(false) {
        let problem = "attention to later tokens is not supported".to_owned();
        return unsupported(text.file, "use_bidirectional_attention", problem);
    }
    if let Some(cap) = text.number("attn_logit_softcapping")? {
        return unsupported(text.file, "attn_logit_softcapping", format!("{cap} is not supported"));
    }
    let period = match text.count("sliding_window_pattern")? {
        Some(period) => Some(period),
        None => text.count("_sliding_window_pattern")?,
    };
    if period == Some(0) {
        return text.fail("sliding_window_pattern", "is 0".to_owned());
    }
    let rope = rope(text)?;
    let (eos, bos) = ends(root, text)?;
    Ok(Config {
        family: ModelFamily::Gemma3,
        hidden: text.count("hidden_size")?.unwrap_or(2304),
        ffn_widths: text.counts("intermediate_size", layers)?.unwrap_or_else(|| vec![9216; layers]),
        sparsity: vec![0.0; layers],
        layer_kinds: layer_kinds(text, layers, period.unwrap_or(6))?,
        heads: text.count("num_attention_heads")?.unwrap_or(8),
        kv_heads: text.count("num_key_value_heads")?.unwrap_or(4),
        head_dim: text.count("head_dim")?.unwrap_or(256),
        ple_width: 0,
        ple_vocabulary: 0,
        vocabulary: text.count("vocab_size")?.unwrap_or(262_208),
        altup_streams: 1,
        laurel_rank: 0,
        window: text.count("sliding_window")?.unwrap_or(4096),
        shared_kv_layers: 0,
        rope_theta: rope.theta,
        rope_local_theta: rope.local_theta,
        rope_stretch: rope.stretch,
        query_scale: text.number("query_pre_attn_scalar")?.unwrap_or(256.0).sqrt().recip(),
        rms_eps: text.number("rms_norm_eps")?.unwrap_or(1e-6),
        softcap: text.number("final_logit_softcapping")?,
        max_context: text.count("max_position_embeddings")?.unwrap_or(131_072),
        eos,
        bos,
    })
}

fn layer_count(text: &Fields<'_>, default: usize) -> Result<usize, ConfigError> {
    let layers = text.count("num_hidden_layers")?.unwrap_or(default);
    if layers > MAX_LAYERS {
        return text.fail("num_hidden_layers", format!("{layers} is not between 1 and {MAX_LAYERS}"));
    }
    Ok(layers)
}

/// The ids that end a text, and the one that starts it.
fn ends(root: &Fields<'_>, text: &Fields<'_>) -> Result<(Vec<u32>, u32), ConfigError> {
    let ids = |field| match root.ids(field)? {
        Some(ids) => Ok(Some(ids)),
        None => text.ids(field),
    };
    let bos = ids("bos_token_id")?.and_then(|ids| ids.first().copied());
    Ok((ids("eos_token_id")?.unwrap_or_else(|| vec![1]), bos.unwrap_or(2)))
}

fn refuse_unsupported(root: &Fields<'_>, text: &Fields<'_>) -> Result<(), ConfigError> {
    let file = text.file;
    for (field, wanted) in
        [("tie_word_embeddings", true), ("altup_correct_scale", true), ("attention_bias", false)]
    {
        if text.flag(field)?.or(root.flag(field)?).is_some_and(|found| found != wanted) {
            return unsupported(file, field, format!("{} is not supported", !wanted));
        }
    }
    if let Some(activation) = text.string("hidden_activation")?.filter(|name| *name != "gelu_pytorch_tanh") {
        return unsupported(file, "hidden_activation", format!("'{activation}' is not supported"));
    }
    if let Some(stream) = text.count("altup_active_idx")?.filter(|stream| *stream != 0) {
        return unsupported(file, "altup_active_idx", format!("{stream} is not supported"));
    }
    Ok(())
}

fn layer_kinds(text: &Fields<'_>, layers: usize, period: usize) -> Result<Vec<LayerKind>, ConfigError> {
    let field = "layer_types";
    let kinds = match text.present(field) {
        None => return Ok(kinds_of_period(layers, period)),
        Some(Value::Array(kinds)) => kinds,
        Some(_) => return text.fail(field, "is not a list".to_owned()),
    };
    if kinds.len() != layers {
        return text.fail(field, format!("{} values for {layers} layers", kinds.len()));
    }
    let kind = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(LayerKind::Sliding),
        Some("full_attention") => Ok(LayerKind::Full),
        _ => text.fail(field, format!("{kind} is neither sliding_attention nor full_attention")),
    };
    kinds.iter().map(kind).collect()
}

/// Bases and stretch of the angles, by kind of layer.
struct Rope {
    theta: f32,
    local_theta: f32,
    stretch: f32,
}

/// From `rope_parameters` by layer type, or from the older keys.
fn rope(text: &Fields<'_>) -> Result<Rope, ConfigError> {
    let older = Rope {
        theta: text.number("rope_theta")?.unwrap_or(1_000_000.0),
        local_theta: text.number("rope_local_base_freq")?.unwrap_or(10_000.0),
        stretch: rope_stretch(text, "rope_scaling", text)?,
    };
    let Some(parameters) = text.object("rope_parameters")? else { return Ok(older) };
    let theta = |field: &'static str, older: f32| -> Result<f32, ConfigError> {
        let Some(parameters) = parameters.object(field)? else { return Ok(older) };
        Ok(parameters.number("rope_theta")?.unwrap_or(older))
    };
    let sliding = "sliding_attention";
    if rope_stretch(&parameters, sliding, text)? != 1.0 {
        return unsupported(text.file, sliding, "rope type 'linear' is not supported".to_owned());
    }
    Ok(Rope {
        theta: theta("full_attention", older.theta)?,
        local_theta: theta(sliding, older.local_theta)?,
        stretch: older.stretch * rope_stretch(&parameters, "full_attention", text)?,
    })
}

/// The factor of linear scaling, 1 without; other types are refused.
fn rope_stretch(fields: &Fields<'_>, field: &str, text: &Fields<'_>) -> Result<f32, ConfigError> {
    let Some(rope) = fields.object(field)? else { return Ok(1.0) };
    match rope.string("rope_type")?.or(rope.string("type")?) {
        None | Some("default") => Ok(1.0),
        Some("linear") => match rope.number("factor")? {
            Some(factor) => Ok(factor),
            None => text.fail(field, "rope type 'linear' has no factor".to_owned()),
        },
        Some(other) => unsupported(text.file, field, format!("rope type '{other}' is not supported")),
    }
}

/// Typed reads of one JSON object; a key that is null counts as missing.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) file: &'a str,
    pub(crate) object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn present(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn fail<T>(&self, field: &str, problem: String) -> Result<T, ConfigError> {
        let (file, field) = (self.file.to_owned(), field.to_owned());
        Err(ConfigError::Field { file, field, problem, remedy: WRONG_TYPE })
    }

    fn read<T>(
        &self,
        field: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => self.fail(field, format!("{} is not {wanted}", shortened(value))),
        }
    }

    fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ConfigError> {
        let object = self.read(field, "an object", Value::as_object)?;
        Ok(object.map(|object| Fields { file: self.file, object }))
    }

    fn string(&self, field: &str) -> Result<Option<&'a str>, ConfigError> {
        self.read(field, "a text", Value::as_str)
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, ConfigError> {
        self.read(field, "true or false", Value::as_bool)
    }

    fn count(&self, field: &str) -> Result<Option<usize>, ConfigError> {
        self.read(field, "a count", as_count)
    }

    fn number(&self, field: &str) -> Result<Option<f32>, ConfigError> {
        self.read(field, "a number", as_number)
    }

    /// One count for every layer: a list, or one number for all.
    fn counts(&self, field: &str, layers: usize) -> Result<Option<Vec<usize>>, ConfigError> {
        self.each_layer(field, "a count", layers, as_count)
    }

    /// One number for every layer: a list, or one number for all.
    fn numbers(&self, field: &str, layers: usize) -> Result<Option<Vec<f32>>, ConfigError> {
        self.each_layer(field, "a number", layers, as_number)
    }

    fn each_layer<T: Clone>(
        &self,
        field: &str,
        wanted: &str,
        layers: usize,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(value) = self.present(field) else { return Ok(None) };
        let item = |value: &Value| match read(value) {
            Some(read) => Ok(read),
            None => self.fail(field, format!("{} is not {wanted}", shortened(value))),
        };
        match value {
            Value::Array(values) if values.len() != layers => {
                self.fail(field, format!("{} values for {layers} layers", values.len()))
            }
            Value::Array(values) => values.iter().map(item).collect::<Result<_, _>>().map(Some),
            one => item(one).map(|one| Some(vec![one; layers])),
        }
    }

    /// Token ids: one, or a list of at most [`MAX_END_TOKENS`].
    pub(crate) fn ids(&self, field: &str) -> Result<Option<Vec<u32>>, ConfigError> {
        if let Some(Value::Array(ids)) = self.present(field)
            && ids.len() > MAX_END_TOKENS
        {
            return self.fail(field, format!("{} ids, but at most {MAX_END_TOKENS} are read", ids.len()));
        }
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        self.read(field, "a token id or a list of them", |value| match value {
            Value::Array(ids) => ids.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        })
    }
}

fn as_count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok())
}

fn as_number(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}

/// The value as JSON, cut to a length that fits in an error line.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
