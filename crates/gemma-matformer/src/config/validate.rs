//! The limits of a [`Config`] and the check that every reader of configurations ends with.
//!
//! Limits are far above any published model and low enough that products of a few of them fit in 64 bits.

use super::{Config, ConfigError, LayerKind, ModelFamily};

/// Most layers.
pub const MAX_LAYERS: usize = 1024;
/// Widest residual stream.
pub const MAX_HIDDEN: usize = 65_536;
/// Widest FFN.
pub const MAX_FFN_WIDTH: usize = 1 << 20;
/// Most query heads.
pub const MAX_HEADS: usize = 1024;
/// Widest head.
pub const MAX_HEAD_DIM: usize = 4096;
/// Widest per-layer embedding.
pub const MAX_PLE_WIDTH: usize = 16_384;
/// Most ids.
pub const MAX_VOCABULARY: usize = 1 << 22;
/// Fewest AltUp streams; with one there would be nothing to predict from.
pub const MIN_ALTUP_STREAMS: usize = 2;
/// Most AltUp streams; published models have 4.
pub const MAX_ALTUP_STREAMS: usize = 8;
/// Most ids that end a text; published models have 2.
pub const MAX_END_TOKENS: usize = 64;
/// Longest context, in tokens.
pub const MAX_CONTEXT: usize = 1 << 24;

const COPY_AGAIN: &str = "copy the configuration again from where the weights came from";
const NOT_SUPPORTED: &str = "no published model needs it; use the published configuration";

impl Config {
    /// Checks every count against its limit and the fields against each other. `file` is named in errors; fields are
    /// named as config.json does.
    ///
    /// # Errors
    /// [`ConfigError::Field`] for the first field that cannot be.
    pub fn validate(&self, file: &str) -> Result<(), ConfigError> {
        let check = Check { file };
        check.within("num_hidden_layers", self.layers(), 1, MAX_LAYERS)?;
        check.within("hidden_size", self.hidden, 1, MAX_HIDDEN)?;
        check.within("num_attention_heads", self.heads, 1, MAX_HEADS)?;
        check.within("num_key_value_heads", self.kv_heads, 1, self.heads)?;
        check.within("head_dim", self.head_dim, 2, MAX_HEAD_DIM)?;
        check.within("vocab_size", self.vocabulary, 1, MAX_VOCABULARY)?;
        self.validate_family(&check)?;
        check.within("sliding_window", self.window, 1, MAX_CONTEXT)?;
        check.within("max_position_embeddings", self.max_context, 1, MAX_CONTEXT)?;
        check.per_layer("intermediate_size", self.ffn_widths.len(), self.layers())?;
        check.per_layer("activation_sparsity_pattern", self.sparsity.len(), self.layers())?;
        for width in &self.ffn_widths {
            check.within("intermediate_size", *width, 1, MAX_FFN_WIDTH)?;
        }
        for sparsity in &self.sparsity {
            if !(0.0..1.0).contains(sparsity) {
                return check.fail(
                    "activation_sparsity_pattern",
                    format!("{sparsity} is not a fraction from 0 to below 1"),
                    COPY_AGAIN,
                );
            }
        }
        self.validate_attention(&check)?;
        self.validate_numbers(&check)
    }

    fn validate_family(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        match self.family {
            ModelFamily::Gemma3n => {
                check.within("hidden_size_per_layer_input", self.ple_width, 1, MAX_PLE_WIDTH)?;
                check.within("vocab_size_per_layer_input", self.ple_vocabulary, 1, MAX_VOCABULARY)?;
                check.within("altup_num_inputs", self.altup_streams, MIN_ALTUP_STREAMS, MAX_ALTUP_STREAMS)?;
                check.within("laurel_rank", self.laurel_rank, 1, MAX_HIDDEN)
            }
            ModelFamily::Gemma3 => {
                check.within("hidden_size_per_layer_input", self.ple_width, 0, 0)?;
                check.within("vocab_size_per_layer_input", self.ple_vocabulary, 0, 0)?;
                check.within("altup_num_inputs", self.altup_streams, 1, 1)?;
                check.within("laurel_rank", self.laurel_rank, 0, 0)?;
                check.within("num_kv_shared_layers", self.shared_kv_layers, 0, 0)?;
                match self.sparsity.iter().find(|sparsity| **sparsity != 0.0) {
                    None => Ok(()),
                    Some(sparsity) => {
                        let problem = format!("{sparsity}, but Gemma 3 has no sparse layers");
                        check.fail("activation_sparsity_pattern", problem, COPY_AGAIN)
                    }
                }
            }
        }
    }

    fn validate_attention(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let problem = format!("{} does not divide the {} query heads", self.kv_heads, self.heads);
            return check.fail("num_key_value_heads", problem, COPY_AGAIN);
        }
        if !self.head_dim.is_multiple_of(2) {
            let problem = format!("{} is odd, but RoPE turns pairs of values", self.head_dim);
            return check.fail("head_dim", problem, COPY_AGAIN);
        }
        if self.shared_kv_layers >= self.layers() {
            let problem =
                format!("{} of {} layers leaves none to share from", self.shared_kv_layers, self.layers());
            return check.fail("num_kv_shared_layers", problem, COPY_AGAIN);
        }
        for kind in [LayerKind::Sliding, LayerKind::Full] {
            let shared = self.layer_kinds[self.first_shared_layer()..].iter().position(|k| *k == kind);
            if let (Some(layer), None) = (shared, self.last_owner(kind)) {
                let layer = layer + self.first_shared_layer();
                let problem = format!("layer {layer} has no earlier layer of its kind to share from");
                return check.fail("num_kv_shared_layers", problem, COPY_AGAIN);
            }
        }
        Ok(())
    }

    fn validate_numbers(&self, check: &Check<'_>) -> Result<(), ConfigError> {
        for (field, value) in [
            ("rope_theta", self.rope_theta),
            ("rope_local_base_freq", self.rope_local_theta),
            ("rope_scaling", self.rope_stretch),
            ("query_pre_attn_scalar", self.query_scale),
            ("rms_norm_eps", self.rms_eps),
            ("final_logit_softcapping", self.softcap.unwrap_or(1.0)),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return check.fail(field, format!("{value} is not a positive number"), COPY_AGAIN);
            }
        }
        if self.eos.len() > MAX_END_TOKENS {
            let problem = format!("{} ids, but at most {MAX_END_TOKENS} are read", self.eos.len());
            return check.fail("eos_token_id", problem, COPY_AGAIN);
        }
        for (field, id) in self.eos.iter().map(|id| ("eos_token_id", *id)).chain([("bos_token_id", self.bos)])
        {
            if id as usize >= self.vocabulary {
                let problem = format!("{id} is not below the vocabulary of {}", self.vocabulary);
                return check.fail(field, problem, COPY_AGAIN);
            }
        }
        Ok(())
    }
}

/// Refuses a choice that transformers offers and no published model makes.
pub(super) fn unsupported<T>(file: &str, field: &str, problem: String) -> Result<T, ConfigError> {
    Check { file }.fail(field, problem, NOT_SUPPORTED)
}

struct Check<'a> {
    file: &'a str,
}

impl Check<'_> {
    fn fail<T>(&self, field: &str, problem: String, remedy: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Field { file: self.file.to_owned(), field: field.to_owned(), problem, remedy })
    }

    fn within(&self, field: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        self.fail(field, format!("{value} is not between {least} and {most}"), COPY_AGAIN)
    }

    fn per_layer(&self, field: &str, found: usize, layers: usize) -> Result<(), ConfigError> {
        if found == layers {
            return Ok(());
        }
        self.fail(field, format!("{found} values for {layers} layers"), COPY_AGAIN)
    }
}
