//! [`Checkpoint`]: a model on disk, as a directory of named tensors and a [`Config`].
//!
//! Opening maps files and reads headers; no weight is read and none is copied. What the text model does not use
//! (vision and audio towers, keys and values of sharing layers) is left out of the directory and reported.

mod error;
mod file;
pub mod gguf;
mod names;
mod open;
mod safetensors;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use gemma_hal::Weight;

use crate::weights::first_not_finite;
use crate::{Config, Weights};

pub use error::CheckpointError;
pub use gguf::GgufVocabulary;
pub use safetensors::{MAX_HEADER_BYTES, MAX_SHARDS};

pub(crate) mod tensors {
    //! Names of the model's tensors.
    pub(crate) use super::names::*;
}

use file::MappedFile;

/// A model on disk.
#[derive(Debug)]
pub struct Checkpoint {
    config: Config,
    tensors: BTreeMap<String, Weight>,
    skipped: Vec<Skipped>,
    unused: Vec<Unused>,
    /// Keys and values of sharing layers, by canonical name.
    shared_kv: BTreeMap<String, Weight>,
    tokenizer: Option<TokenizerSource>,
    files: Vec<MappedFile>,
    name: String,
    about: Vec<(String, String)>,
}

/// A tensor in the file that the text model does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Name in the file.
    pub name: String,
    /// Bytes it takes.
    pub bytes: u64,
    /// Why it is not used.
    pub reason: SkipReason,
}

/// Why a tensor is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// Part of the vision tower or its embedder.
    Vision,
    /// Part of the audio tower or its embedder.
    Audio,
    /// Keys and values of a layer that uses another layer's.
    SharedKv,
    /// An output matrix, although the embedding is the output matrix.
    TiedHead,
    /// Not a tensor of Gemma 3n.
    Unknown,
}

/// Where the tokenizer is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerSource {
    /// Files beside the weights.
    Files {
        /// tokenizer.json.
        tokenizer: PathBuf,
        /// tokenizer_config.json, where there is one.
        config: Option<PathBuf>,
        /// chat_template.jinja, where there is one.
        template: Option<PathBuf>,
    },
    /// Lists inside of a GGUF file.
    Gguf(Box<GgufVocabulary>),
}

impl TokenizerSource {
    /// The whole of one of its files, at most 256 MiB.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::TooLarge`] or [`CheckpointError::LfsPointer`].
    pub fn read(path: &std::path::Path) -> Result<Vec<u8>, CheckpointError> {
        file::read_large_text(path)
    }
}

impl Checkpoint {
    /// The model's numbers.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the weights came from, for error messages: a path or "embedded".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the files say of the model: `general.*` texts of a GGUF file, or the name of the folder as `general.name`.
    pub fn about(&self) -> &[(String, String)] {
        &self.about
    }

    /// The tensor of this canonical name: transformers' name without its prefix, such as
    /// `layers.3.mlp.gate_proj.weight`.
    pub fn tensor(&self, name: &str) -> Option<&Weight> {
        self.tensors.get(name)
    }

    /// Every tensor that the text model uses, by canonical name.
    pub fn tensors(&self) -> &BTreeMap<String, Weight> {
        &self.tensors
    }

    /// Every tensor that is left out, by name.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Looks at what the text model does not use, as [`Weights::check_finite`] does at what it uses: tensors that are left
    /// out, and the rows that a converter put behind the PLE table. Of tensors of types that are not read only the
    /// place in the file is known to be sound, since opening has checked it.
    ///
    /// # Errors
    /// [`CheckpointError::NotFinite`] for the first NaN or infinite value, [`CheckpointError::Tensor`] for a tensor
    /// that does not lie in its file as it should.
    pub fn check_unused(&self) -> Result<(), CheckpointError> {
        self.unused.iter().try_for_each(|unused| unused.check(&self.name))
    }

    /// A tensor that is left out because its layer shares keys and values, by canonical name; for whoever writes the
    /// model on.
    pub fn unused(&self, name: &str) -> Option<&Weight> {
        self.shared_kv.get(name)
    }

    /// Tells the system that `rows` of `weight` will not be read again soon, so that their pages do not count as this
    /// process's memory. Reading them all the same is slower, nothing else.
    pub fn release(&self, weight: &Weight, rows: Range<usize>) {
        self.files.iter().for_each(|file| file.release(weight, &rows));
    }

    /// Tells the system that every tensor will be read from its first row to its last.
    pub fn advise_sequential(&self) {
        self.files.iter().for_each(MappedFile::advise_sequential);
    }

    /// Where the tokenizer is, when there is one.
    pub fn tokenizer(&self) -> Option<&TokenizerSource> {
        self.tokenizer.as_ref()
    }

    /// The mapped files and their lengths when they were opened.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.files.iter().map(|file| (file.path.clone(), file.length())).collect()
    }

    /// Whether every file still has the length it was opened with; reading past a new end would raise SIGBUS.
    ///
    /// # Errors
    /// [`CheckpointError::Shrunk`] for the first file that is shorter.
    pub fn still_whole(&self) -> Result<(), CheckpointError> {
        self.files.iter().try_for_each(MappedFile::still_whole)
    }

    /// The weights, typed and checked against the configuration.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`], [`CheckpointError::Shape`], and [`CheckpointError::NotFinite`] for norms
    /// and coefficients.
    pub fn weights(&self) -> Result<Weights, CheckpointError> {
        Weights::load(self)
    }
}

/// What lies in the files and is not used.
#[derive(Debug)]
pub(crate) struct Unused {
    name: String,
    /// Row of the file's tensor that the weight begins with.
    first_row: usize,
    weight: Result<Weight, Unusable>,
}

impl Unused {
    fn check(&self, file: &str) -> Result<(), CheckpointError> {
        let tensor = self.name.clone();
        match &self.weight {
            Ok(weight) => match first_not_finite(weight) {
                Some((row, value)) => {
                    let (file, row) = (weight.storage().name().to_owned(), self.first_row + row);
                    Err(CheckpointError::NotFinite { file, tensor, row, value })
                }
                None => Ok(()),
            },
            Err(Unusable::Type(_)) => Ok(()),
            Err(Unusable::Place(problem)) => {
                Err(CheckpointError::Tensor { file: file.to_owned(), tensor, problem: problem.clone() })
            }
        }
    }
}

/// A tensor that a format's reader found, before anyone asked for it.
#[derive(Debug)]
pub(crate) struct FoundTensor {
    name: String,
    bytes: u64,
    weight: Result<Weight, Unusable>,
}

/// Why a tensor cannot be a [`Weight`]; an error only when the model needs it.
#[derive(Clone, Debug)]
pub(crate) enum Unusable {
    Type(String),
    Place(String),
}
