//! Between the tokenizer arrays of a GGUF file and the tokenizer: the one place that knows both.

use gemma_matformer::checkpoint::{GgufVocabulary, TokenizerSource};
use gemma_text::{Tokenizer, TokenizerConfig, Vocabulary};

use crate::{EngineError, Model};

/// The only algorithm of Gemma's tokenizers, as GGUF calls it.
const MODEL: &str = "llama";

/// The arrays as the tokenizer takes them; `name` is used in errors.
///
/// # Errors
/// [`EngineError::TokenizerKind`] for another algorithm than Gemma's.
pub fn from_gguf(gguf: &GgufVocabulary, name: &str) -> Result<Vocabulary, EngineError> {
    if gguf.model != MODEL {
        return Err(EngineError::TokenizerKind { model: name.to_owned(), found: gguf.model.clone() });
    }
    Ok(Vocabulary {
        name: name.to_owned(),
        tokens: gguf.tokens.clone(),
        scores: (!gguf.scores.is_empty()).then(|| gguf.scores.clone()),
        merges: (!gguf.merges.is_empty()).then(|| gguf.merges.clone()),
        token_types: gguf.token_types.clone(),
        bos: gguf.bos,
        eos: gguf.eos,
        unk: gguf.unknown,
        pad: gguf.padding,
        add_bos: gguf.add_bos.unwrap_or(true),
        add_space_prefix: gguf.add_space_prefix.unwrap_or(false),
    })
}

/// A tokenizer.json as the arrays of a GGUF file, with the whole JSON beside them, which says more than they do.
///
/// # Errors
/// [`EngineError::Tokenizer`] where it is not sound.
pub fn from_json(json: &[u8], name: &str) -> Result<GgufVocabulary, EngineError> {
    let tokenizer = Tokenizer::from_json(json, name)?;
    let vocabulary = Vocabulary::from_json(json, name)?;
    Ok(GgufVocabulary {
        model: MODEL.to_owned(),
        tokens: vocabulary.tokens,
        scores: vocabulary.scores.unwrap_or_default(),
        token_types: vocabulary.token_types,
        merges: vocabulary.merges.unwrap_or_default(),
        bos: vocabulary.bos,
        eos: vocabulary.eos,
        end_of_turn: tokenizer.end_of_turn_id(),
        unknown: vocabulary.unk,
        padding: vocabulary.pad,
        add_bos: Some(vocabulary.add_bos),
        add_space_prefix: Some(vocabulary.add_space_prefix),
        chat_template: None,
        huggingface_json: Some(compact(&String::from_utf8_lossy(json))),
    })
}

impl Model {
    /// The tokenizer and the chat template as a GGUF file carries them; none where the model has no tokenizer.
    ///
    /// # Errors
    /// As [`Model::tokenizer`] and [`Model::chat_template`].
    pub fn gguf_vocabulary(&self) -> Result<Option<GgufVocabulary>, EngineError> {
        let (path, config, template) = match self.checkpoint().tokenizer() {
            None => return Ok(None),
            Some(TokenizerSource::Gguf(vocabulary)) => return Ok(Some((**vocabulary).clone())),
            Some(TokenizerSource::Files { tokenizer, config, template }) => (tokenizer, config, template),
        };
        let name = path.display().to_string();
        let mut vocabulary = from_json(&TokenizerSource::read(path)?, &name)?;
        if let Some(config) = config {
            let tokenizer = self.tokenizer()?;
            vocabulary.bos = tokenizer.bos_id();
            vocabulary.eos = tokenizer.eos_id();
            vocabulary.add_bos = Some(tokenizer.adds_bos());
            let name = config.display().to_string();
            let config = TokenizerConfig::from_json(&TokenizerSource::read(config)?, &name)?;
            let default = config.chat_templates.into_iter().find(|(name, _)| name == "default");
            vocabulary.chat_template = default.map(|(_, template)| template);
        }
        if let Some(template) = template {
            let template = TokenizerSource::read(template)?;
            vocabulary.chat_template = Some(String::from_utf8_lossy(&template).into_owned());
        }
        Ok(Some(vocabulary))
    }
}

/// The same JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut in_text, mut escaped) = (false, false);
    let keep = |c: &char| {
        let space = !in_text && c.is_ascii_whitespace();
        if *c == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && *c == '\\' && !escaped;
        !space
    };
    json.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn white_space_in_texts_stays() {
        let json = "{ \"a b\" : [ 1,\n 2 ], \"c\\\" d\" : \" \\\\\" }";
        assert_eq!(compact(json), "{\"a b\":[1,2],\"c\\\" d\":\" \\\\\"}");
    }
}
