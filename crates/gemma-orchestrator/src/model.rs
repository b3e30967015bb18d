//! [`Model`]: a checkpoint opened for use: its slice, its tokenizer, its chat template.

use std::path::Path;

use gemma_hal::Storage;
use gemma_matformer::checkpoint::{GgufVocabulary, TokenizerSource};
use gemma_matformer::{Checkpoint, Config, Slice, Weights};
use gemma_text::{ChatTemplate, Tokenizer, TokenizerConfig};

use crate::{EngineError, vocabulary};

/// A model whose files have been opened. Weights stay where they are.
pub struct Model {
    checkpoint: Checkpoint,
    /// The numbers of the slice in use.
    pub config: Config,
    /// The weights of the slice in use.
    pub weights: Weights,
    /// What the slice leaves out of its parent; none for the whole model.
    pub slice: Option<Slice>,
}

impl Model {
    /// Opens a directory, a `.safetensors` or a `.gguf` file, and takes `slice` (a name, a fraction or a file) of it.
    ///
    /// # Errors
    /// [`EngineError::Checkpoint`] or [`EngineError::Slice`].
    pub fn open(path: &Path, slice: Option<&str>) -> Result<Self, EngineError> {
        Self::from_checkpoint(Checkpoint::open(path)?, slice)
    }

    /// Opens a GGUF model that is already in memory.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_gguf(storage: &Storage, slice: Option<&str>) -> Result<Self, EngineError> {
        Self::from_checkpoint(Checkpoint::from_gguf_storage(storage)?, slice)
    }

    fn from_checkpoint(checkpoint: Checkpoint, slice: Option<&str>) -> Result<Self, EngineError> {
        let (config, weights) = (checkpoint.config().clone(), checkpoint.weights()?);
        let mut model = Self { checkpoint, config, weights, slice: None };
        if let Some(name) = slice {
            model.take_slice(name)?;
        }
        Ok(model)
    }

    /// Takes another slice of the same parent.
    ///
    /// # Errors
    /// [`EngineError::Slice`]; the model is then as it was.
    pub fn take_slice(&mut self, name: &str) -> Result<(), EngineError> {
        let parent = self.checkpoint.config();
        let slice = Slice::resolve(name, parent)?;
        let (config, weights) = self.checkpoint.weights()?.slice(parent, &slice)?;
        (self.config, self.weights, self.slice) = (config, weights, Some(slice));
        Ok(())
    }

    /// The files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// [`EngineError::NoTokenizer`] where the files have none, [`EngineError::Tokenizer`] where it is not sound.
    pub fn tokenizer(&self) -> Result<Tokenizer, EngineError> {
        match self.checkpoint.tokenizer() {
            None => Err(EngineError::NoTokenizer { model: self.checkpoint.name().to_owned() }),
            Some(TokenizerSource::Files { tokenizer, config, .. }) => {
                let bytes = TokenizerSource::read(tokenizer)?;
                let built = Tokenizer::from_json(&bytes, &tokenizer.display().to_string())?;
                let Some(config) = config else { return Ok(built) };
                let name = config.display().to_string();
                let config = TokenizerConfig::from_json(&TokenizerSource::read(config)?, &name)?;
                Ok(built.with_config(&config, &name)?)
            }
            Some(TokenizerSource::Gguf(vocabulary)) => self.gguf_tokenizer(vocabulary),
        }
    }

    fn gguf_tokenizer(&self, gguf: &GgufVocabulary) -> Result<Tokenizer, EngineError> {
        let name = self.checkpoint.name().to_owned();
        if let Some(json) = &gguf.huggingface_json {
            let built = Tokenizer::from_json(json.as_bytes(), &name)?;
            let text = |id: Option<u32>| {
                let piece = built.piece(id.filter(|id| built.is_special(*id))?)?;
                Some(piece.to_owned())
            };
            let roles = TokenizerConfig {
                bos_token: text(gguf.bos),
                eos_token: text(gguf.eos),
                add_bos_token: gguf.add_bos,
                ..TokenizerConfig::default()
            };
            return Ok(built.with_config(&roles, &name)?);
        }
        Ok(Tokenizer::from_vocabulary(&vocabulary::from_gguf(gguf, &name)?)?)
    }

    /// The model's chat template; Gemma's own where the files have none.
    ///
    /// # Errors
    /// [`EngineError::Template`] where it is not sound, [`EngineError::Checkpoint`] where it cannot be read; as
    /// [`Model::tokenizer`] where only that names the tokens that begin and end a text.
    pub fn chat_template(&self) -> Result<ChatTemplate, EngineError> {
        match self.checkpoint.tokenizer() {
            Some(TokenizerSource::Files { template, config, .. }) => {
                self.template_of_files(template.as_deref(), config.as_deref())
            }
            Some(TokenizerSource::Gguf(gguf)) => match &gguf.chat_template {
                Some(source) => {
                    let (bos, eos) = self.gguf_text_ends(gguf)?;
                    Ok(ChatTemplate::from_source(source, &bos, &eos)?)
                }
                None => Ok(ChatTemplate::gemma()),
            },
            _ => Ok(ChatTemplate::gemma()),
        }
    }

    /// chat_template.jinja goes before the template in tokenizer_config.json.
    fn template_of_files(
        &self,
        template: Option<&Path>,
        config: Option<&Path>,
    ) -> Result<ChatTemplate, EngineError> {
        let mut config = match config {
            Some(path) => {
                TokenizerConfig::from_json(&TokenizerSource::read(path)?, &path.display().to_string())?
            }
            None => TokenizerConfig::default(),
        };
        if let Some(path) = template {
            let source = String::from_utf8_lossy(&TokenizerSource::read(path)?).into_owned();
            config.chat_templates = vec![("default".to_owned(), source)];
        }
        let named = config.bos_token.is_some() && config.eos_token.is_some();
        if !named && !config.chat_templates.is_empty() {
            let (bos, eos) = text_ends(&self.tokenizer()?);
            config.bos_token.get_or_insert(bos);
            config.eos_token.get_or_insert(eos);
        }
        Ok(ChatTemplate::from_config(&config)?)
    }

    /// As [`text_ends`], from the lists themselves where they are there: a tokenizer takes a while to build.
    fn gguf_text_ends(&self, gguf: &GgufVocabulary) -> Result<(String, String), EngineError> {
        if gguf.tokens.is_empty() {
            return Ok(text_ends(&self.tokenizer()?));
        }
        let text =
            |id: Option<u32>| id.and_then(|id| gguf.tokens.get(id as usize)).cloned().unwrap_or_default();
        Ok((text(gguf.bos), text(gguf.eos)))
    }
}

/// The texts of the tokens that begin and end a text, as chat templates write them; empty where there are none.
fn text_ends(tokenizer: &Tokenizer) -> (String, String) {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.piece(id)).unwrap_or_default().to_owned();
    (text(tokenizer.bos_id()), text(tokenizer.eos_id()))
}
