//! tokenizer_config.json: which tokens begin and end a text, and the chat templates.

use serde::Deserialize;

use super::{MAX_CONFIG_BYTES, within};
use crate::{TemplateError, Tokenizer, TokenizerError};

/// What this crate uses of a `tokenizer_config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Text of the beginning-of-text token.
    pub bos_token: Option<String>,
    /// Text of the end-of-text token.
    pub eos_token: Option<String>,
    /// A prompt begins with it.
    pub add_bos_token: Option<bool>,
    /// Templates by name; a single one is called `default`.
    pub chat_templates: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct ConfigFile {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    add_bos_token: Option<bool>,
    chat_template: Option<Templates>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Full { content: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl TokenizerConfig {
    /// Reads a `tokenizer_config.json`; `name` is used in errors.
    pub fn from_json(bytes: &[u8], name: &str) -> Result<Self, TemplateError> {
        within("the size of tokenizer_config.json in bytes", bytes.len(), MAX_CONFIG_BYTES)?;
        let file: ConfigFile = serde_json::from_slice(bytes).map_err(|error| TemplateError::Config {
            name: name.to_owned(),
            field: "tokenizer_config",
            detail: error.to_string(),
        })?;
        let text = |token: Option<TokenText>| match token? {
            TokenText::Plain(content) | TokenText::Full { content } => Some(content),
        };
        let chat_templates = match file.chat_template {
            None => Vec::new(),
            Some(Templates::One(source)) => vec![("default".to_owned(), source)],
            Some(Templates::Named(list)) => list.into_iter().map(|each| (each.name, each.template)).collect(),
        };
        Ok(Self {
            bos_token: text(file.bos_token),
            eos_token: text(file.eos_token),
            add_bos_token: file.add_bos_token,
            chat_templates,
        })
    }
}

impl Tokenizer {
    /// This tokenizer with the roles that a `tokenizer_config.json` gives: beginning and end of text, and whether a
    /// prompt begins with one.
    pub fn with_config(self, config: &TokenizerConfig, name: &str) -> Result<Self, TokenizerError> {
        let id = |field: &str, piece: &Option<String>| match piece {
            None => Ok(None),
            Some(piece) => match self.id_of(piece).filter(|id| self.is_special(*id)) {
                Some(id) => Ok(Some(id)),
                None => Err(TokenizerError::Invalid {
                    name: name.to_owned(),
                    field: field.to_owned(),
                    detail: format!("{piece:?} is not a special token of the tokenizer"),
                }),
            },
        };
        let (bos, eos) = (id("bos_token", &config.bos_token)?, id("eos_token", &config.eos_token)?);
        Ok(self.with_roles(bos, eos, config.add_bos_token))
    }
}
