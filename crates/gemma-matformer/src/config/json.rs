//! config.json: the text-only layout (`gemma3n_text`) and the multimodal one (`gemma3n` with a `text_config`).
//!
//! Missing keys take the defaults of transformers' `Gemma3nTextConfig`; choices that no published model makes are
//! refused rather than ignored.

use serde_json::{Map, Value};

use super::validate::{MAX_END_TOKENS, MAX_LAYERS, unsupported};
use super::{Config, ConfigError, LayerKind, MAX_CONFIG_BYTES, default_sparsity, kinds_of_period};

const WRONG_TYPE: &str = "copy config.json again from where the weights came from";

impl Config {
    /// Reads a config.json; `name` is named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] when it is not JSON, not Gemma 3n, or not a model that can be.
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
        check_architecture(&root, &text)?;
        let config = read(&root, &text)?;
        config.validate(name)?;
        Ok(config)
    }
}

fn check_architecture(root: &Fields<'_>, text: &Fields<'_>) -> Result<(), ConfigError> {
    let found = root.string("model_type")?.or(text.string("model_type")?);
    match found {
        Some("gemma3n" | "gemma3n_text") => Ok(()),
        other => Err(ConfigError::Architecture {
            file: root.file.to_owned(),
            found: other.map_or_else(|| "not named (model_type is missing)".to_owned(), |t| format!("'{t}'")),
        }),
    }
}

fn read(root: &Fields<'_>, text: &Fields<'_>) -> Result<Config, ConfigError> {
    let layers = text.count("num_hidden_layers")?.unwrap_or(35);
    if layers > MAX_LAYERS {
        return text.fail("num_hidden_layers", format!("{layers} is not between 1 and {MAX_LAYERS}"));
    }
    refuse_unsupported(root, text)?;
    let vocabulary = text.count("vocab_size")?.unwrap_or(262_400);
    let (rope_theta, rope_local_theta) = rope_thetas(text)?;
    let ids = |field| match root.ids(field)? {
        Some(ids) => Ok(Some(ids)),
        None => text.ids(field),
    };
    Ok(Config {
        hidden: text.count("hidden_size")?.unwrap_or(2048),
        ffn_widths: text.counts("intermediate_size", layers)?.unwrap_or_else(|| vec![16_384; layers]),
        sparsity: text
            .numbers("activation_sparsity_pattern", layers)?
            .unwrap_or_else(|| default_sparsity(layers)),
        layer_kinds: layer_kinds(text, layers)?,
        heads: text.count("num_attention_heads")?.unwrap_or(8),
        kv_heads: text.count("num_key_value_heads")?.unwrap_or(2),
        head_dim: text.count("head_dim")?.unwrap_or(256),
        ple_width: text.count("hidden_size_per_layer_input")?.unwrap_or(256),
        ple_vocabulary: text.count("vocab_size_per_layer_input")?.unwrap_or(262_144),
        vocabulary,
        altup_streams: text.count("altup_num_inputs")?.unwrap_or(4),
        laurel_rank: text.count("laurel_rank")?.unwrap_or(64),
        window: text.count("sliding_window")?.unwrap_or(512),
        shared_kv_layers: text.count("num_kv_shared_layers")?.unwrap_or(15),
        rope_theta,
        rope_local_theta,
        rms_eps: text.number("rms_norm_eps")?.unwrap_or(1e-6),
        softcap: text.number("final_logit_softcapping")?.unwrap_or(30.0),
        max_context: text.count("max_position_embeddings")?.unwrap_or(32_768),
        eos: ids("eos_token_id")?.unwrap_or_else(|| vec![1]),
        bos: ids("bos_token_id")?.and_then(|ids| ids.first().copied()).unwrap_or(2),
    })
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

fn layer_kinds(text: &Fields<'_>, layers: usize) -> Result<Vec<LayerKind>, ConfigError> {
    let field = "layer_types";
    let kinds = match text.present(field) {
        None => return Ok(kinds_of_period(layers, 5)),
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

/// (full, sliding) from `rope_parameters` by layer type, or from the older pair of keys.
fn rope_thetas(text: &Fields<'_>) -> Result<(f32, f32), ConfigError> {
    refuse_rope_type(text, "rope_scaling", text)?;
    let full = text.number("rope_theta")?.unwrap_or(1_000_000.0);
    let local = text.number("rope_local_base_freq")?.unwrap_or(10_000.0);
    let Some(parameters) = text.object("rope_parameters")? else { return Ok((full, local)) };
    let theta = |field: &'static str, older: f32| -> Result<f32, ConfigError> {
        refuse_rope_type(&parameters, field, text)?;
        let Some(parameters) = parameters.object(field)? else { return Ok(older) };
        Ok(parameters.number("rope_theta")?.unwrap_or(older))
    };
    Ok((theta("full_attention", full)?, theta("sliding_attention", local)?))
}

fn refuse_rope_type(fields: &Fields<'_>, field: &str, text: &Fields<'_>) -> Result<(), ConfigError> {
    let Some(rope) = fields.object(field)? else { return Ok(()) };
    match rope.string("rope_type")?.or(rope.string("type")?) {
        None | Some("default") => Ok(()),
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
