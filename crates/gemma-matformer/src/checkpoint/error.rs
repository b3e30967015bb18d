//! Everything that can be wrong with a model file, each with the file, the place and what to do.

use std::io;
use std::path::PathBuf;

use crate::ConfigError;

/// Types that weights can be stored in, as error messages list them.
pub(crate) const READ_TYPES: &str = "F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_0, Q4_1, Q4_K and Q4_0";

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refuses.
    #[error("{}: {error}; {remedy}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// A folder stands where a file was expected.
    #[error("{}: a folder, not a file; name the model's folder or a .safetensors or .gguf file", .0.display())]
    Directory(PathBuf),
    /// A pointer that Git LFS leaves when the content was not fetched.
    #[error("{}: a Git LFS pointer, not the weights; run `git lfs pull` in its folder", .0.display())]
    LfsPointer(PathBuf),
    /// Neither safetensors nor GGUF.
    #[error("{}: neither safetensors nor GGUF; name a model folder, a .safetensors or a .gguf file", .0.display())]
    UnknownFormat(PathBuf),
    /// A folder without a model.
    #[error("{}: no model.safetensors, model.safetensors.index.json or .gguf file in this folder; name a model's folder or file", .0.display())]
    NoModel(PathBuf),
    /// A folder with more than one.
    #[error("{}: {count} {kind} files in this folder; name one of them", path.display())]
    SeveralModels {
        /// The folder.
        path: PathBuf,
        /// How many.
        count: usize,
        /// Which.
        kind: &'static str,
    },
    /// model.safetensors.index.json is not what it should be.
    #[error("{}: {problem}; fetch the index again", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The index names files that are not there.
    #[error("{}: {missing} of {total} shards are missing, the first is {first}; fetch them into the same folder", path.display())]
    MissingShards {
        /// The index.
        path: PathBuf,
        /// Shards that are not there.
        missing: usize,
        /// Shards in all.
        total: usize,
        /// The first that is missing.
        first: String,
    },
    /// A safetensors header cannot be trusted.
    #[error("{file}: safetensors header: {problem}; fetch the file again")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A GGUF file cannot be trusted.
    #[error("{file}: byte {at}: {problem}; fetch the file again")]
    Gguf {
        /// The file.
        file: String,
        /// Where reading stopped.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// A GGUF file is sound, but not one that can be used.
    #[error("{file}: {problem}; {remedy}")]
    GgufContent {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor is stored in a type that is not read.
    #[error(
        "{file}: {tensor} is stored as {found}, but weights are read from {READ_TYPES}; convert the model to one of these"
    )]
    TensorType {
        /// The file.
        file: String,
        /// The tensor, as the file names it.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A tensor's place in the file cannot be used.
    #[error("{file}: {tensor}: {problem}; fetch or convert the file again")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor, as the file names it.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// The model needs a tensor that no file has.
    #[error("{file}: {tensor} is missing; the file is not a whole text model")]
    MissingTensor {
        /// The file, or the first of several.
        file: String,
        /// The tensor, without the file's prefix.
        tensor: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "{file}: {tensor} has shape {found_rows}x{found_columns}, but the configuration says {rows}x{columns}; use the config.json that belongs to these weights"
    )]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Rows of the tensor.
        found_rows: usize,
        /// Columns of the tensor.
        found_columns: usize,
        /// Rows by the configuration.
        rows: usize,
        /// Columns by the configuration.
        columns: usize,
    },
    /// A value, or the scale of a block of values, is NaN or infinite.
    #[error("{file}: {tensor}: row {row} holds {value}; the weights are damaged, fetch them again")]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// First row with such a value.
        row: usize,
        /// The value.
        value: f32,
    },
    /// The file became shorter while it was mapped.
    #[error("{}: {now} bytes, but it had {before} when it was opened; put the whole file back and start again", path.display())]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Length when it was opened.
        before: u64,
        /// Length now.
        now: u64,
    },
    /// A text file beside the weights is larger than any real one.
    #[error("{}: {bytes} bytes, but at most {limit} are read; is this the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}
