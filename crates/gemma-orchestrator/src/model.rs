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
            return Ok(Tokenizer::from_json(json.as_bytes(), &name)?);
        }
        Ok(Tokenizer::from_vocabulary(vocabulary::from_gguf(gguf, &name)?)?)
    }

    /// The model's chat template; Gemma's own where the files have none.
    ///
    /// # Errors
    /// [`EngineError::Template`] where it is not sound, [`EngineError::Checkpoint`] where it cannot be read.
    pub fn chat_template(&self) -> Result<ChatTemplate, EngineError> {
        match self.checkpoint.tokenizer() {
            Some(TokenizerSource::Files { template: Some(path), .. }) => {
                let bytes = TokenizerSource::read(path)?;
                let source = String::from_utf8_lossy(&bytes);
                Ok(ChatTemplate::from_source(&source, "<bos>", "<eos>")?)
            }
            Some(TokenizerSource::Files { config: Some(path), .. }) => {
                let bytes = TokenizerSource::read(path)?;
                let config = TokenizerConfig::from_json(&bytes, &path.display().to_string())?;
                Ok(ChatTemplate::from_config(&config)?)
            }
            Some(TokenizerSource::Gguf(gguf)) => match &gguf.chat_template {
                Some(source) => Ok(ChatTemplate::from_source(source, "<bos>", "<eos>")?),
                None => Ok(ChatTemplate::gemma()),
            },
            _ => Ok(ChatTemplate::gemma()),
        }
    }
}
