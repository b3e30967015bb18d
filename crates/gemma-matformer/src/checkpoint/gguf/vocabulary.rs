//! [`GgufVocabulary`]: the tokenizer data of a GGUF file, as it stands there.
//!
//! This crate does not tokenise; it hands the lists to the crate that does.

use std::collections::HashSet;

use super::config::keys;
use super::metadata::Value;
use super::write::MetadataValue;
use super::{CheckpointError, Gguf};

/// The tokenizer data of a GGUF file. Ids are indexes of [`GgufVocabulary::tokens`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// Which algorithm: `llama` (SentencePiece with scores) or `gpt2` (BPE with merges).
    pub model: String,
    /// Text of each token.
    pub tokens: Vec<String>,
    /// Score of each token, where the algorithm has scores.
    pub scores: Vec<f32>,
    /// Kind of each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// Merges as `left right`, first the most urgent, where the algorithm has merges.
    pub merges: Vec<String>,
    /// Id that starts a text.
    pub bos: Option<u32>,
    /// Id that ends a text.
    pub eos: Option<u32>,
    /// Id that ends a turn.
    pub end_of_turn: Option<u32>,
    /// Id for what no token spells.
    pub unknown: Option<u32>,
    /// Id that fills.
    pub padding: Option<u32>,
    /// Whether every text starts with [`GgufVocabulary::bos`].
    pub add_bos: Option<bool>,
    /// Whether a space is put before every text.
    pub add_space_prefix: Option<bool>,
    /// Chat template in Jinja.
    pub chat_template: Option<String>,
    /// A whole tokenizer.json.
    pub huggingface_json: Option<String>,
}

/// Metadata keys of the tokenizer.
pub(super) mod names {
    pub(crate) const MODEL: &str = "tokenizer.ggml.model";
    pub(crate) const TOKENS: &str = "tokenizer.ggml.tokens";
    pub(crate) const SCORES: &str = "tokenizer.ggml.scores";
    pub(crate) const TYPES: &str = "tokenizer.ggml.token_type";
    pub(crate) const MERGES: &str = "tokenizer.ggml.merges";
    pub(crate) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    pub(crate) const PADDING: &str = "tokenizer.ggml.padding_token_id";
    pub(crate) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
    pub(crate) const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
    pub(crate) const TEMPLATE: &str = "tokenizer.chat_template";
    pub(crate) const HUGGINGFACE: &str = "tokenizer.huggingface.json";
}

/// ggml's number for tokens that nothing makes.
const UNUSED: i32 = 5;

impl GgufVocabulary {
    /// With a token for every id of a model of `count` ids and for no other, as llama.cpp wants it. Those that are
    /// added are unused; those that go have no row in the embedding, such as the image token beside a text model.
    #[must_use]
    pub fn fitted(mut self, count: usize) -> Self {
        let found = self.tokens.len();
        if found == 0 || found == count {
            return self;
        }
        let gone: HashSet<String> = self.tokens.drain(found.min(count)..).collect();
        self.tokens.extend((found..count).map(|id| format!("[PAD{id}]")));
        if !self.scores.is_empty() {
            self.scores.resize(count, 0.0);
        }
        if !self.token_types.is_empty() {
            self.token_types.resize(count, UNUSED);
        }
        if !gone.is_empty() {
            self.merges.retain(|merge| !merge.split(' ').any(|part| gone.contains(part)));
            self.merges.retain(|merge| !gone.contains(&merge.replacen(' ', "", 1)));
        }
        self
    }

    /// The entries from which it is read back; lists that are empty are left out.
    pub fn metadata(&self) -> Vec<(String, MetadataValue)> {
        use MetadataValue::{Bool, F32s, I32s, String as Text, Strings, U32};
        let text = |text: &Option<String>| text.clone().map(Text);
        let entries = [
            (names::MODEL, (!self.model.is_empty()).then(|| Text(self.model.clone()))),
            (names::TOKENS, (!self.tokens.is_empty()).then(|| Strings(self.tokens.clone()))),
            (names::SCORES, (!self.scores.is_empty()).then(|| F32s(self.scores.clone()))),
            (names::TYPES, (!self.token_types.is_empty()).then(|| I32s(self.token_types.clone()))),
            (names::MERGES, (!self.merges.is_empty()).then(|| Strings(self.merges.clone()))),
            (keys::BOS, self.bos.map(U32)),
            (keys::EOS, self.eos.map(U32)),
            (keys::EOT, self.end_of_turn.map(U32)),
            (names::UNKNOWN, self.unknown.map(U32)),
            (names::PADDING, self.padding.map(U32)),
            (names::ADD_BOS, self.add_bos.map(Bool)),
            (names::ADD_SPACE, self.add_space_prefix.map(Bool)),
            (names::TEMPLATE, text(&self.chat_template)),
            (names::HUGGINGFACE, text(&self.huggingface_json)),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

impl Gguf {
    /// The tokenizer data; `None` when the file has neither tokens nor a tokenizer.json.
    pub(crate) fn vocabulary(&self) -> Result<Option<GgufVocabulary>, CheckpointError> {
        let huggingface_json = self.text(names::HUGGINGFACE)?;
        let tokens = self.texts(names::TOKENS)?;
        if huggingface_json.is_none() && tokens.is_none() {
            return Ok(None);
        }
        let float = |value: &Value| match value {
            Value::Float(value) => Some(*value as f32),
            _ => None,
        };
        let integer = |value: &Value| match value {
            Value::Signed(value) => i32::try_from(*value).ok(),
            Value::Unsigned(value) => i32::try_from(*value).ok(),
            _ => None,
        };
        let id = |key| -> Result<Option<u32>, CheckpointError> {
            Ok(self.unsigned(key)?.and_then(|id| u32::try_from(id).ok()))
        };
        Ok(Some(GgufVocabulary {
            model: self.text(names::MODEL)?.unwrap_or_default(),
            tokens: tokens.unwrap_or_default(),
            scores: self.list(names::SCORES, "a list of numbers", float)?.unwrap_or_default(),
            token_types: self.list(names::TYPES, "a list of counts", integer)?.unwrap_or_default(),
            merges: self.texts(names::MERGES)?.unwrap_or_default(),
            bos: id(keys::BOS)?,
            eos: id(keys::EOS)?,
            end_of_turn: id(keys::EOT)?,
            unknown: id(names::UNKNOWN)?,
            padding: id(names::PADDING)?,
            add_bos: self.boolean(names::ADD_BOS)?,
            add_space_prefix: self.boolean(names::ADD_SPACE)?,
            chat_template: self.text(names::TEMPLATE)?,
            huggingface_json,
        }))
    }

    fn texts(&self, key: &str) -> Result<Option<Vec<String>>, CheckpointError> {
        let bytes = self.storage.bytes();
        self.list(key, "a list of texts in UTF-8", |value| match value {
            Value::String(place) => String::from_utf8(bytes[place.clone()].to_vec()).ok(),
            _ => None,
        })
    }
}
