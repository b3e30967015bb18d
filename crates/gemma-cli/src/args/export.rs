//! `gemma convert` and `gemma quantize`: a model in, a GGUF file out.

use std::path::PathBuf;

use clap::Args;

/// `gemma convert`
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub(crate) struct ConvertArgs {
    /// Model to read: a directory, a .safetensors or a .gguf file
    #[arg(value_name = "IN", required_unless_present = "shape", conflicts_with = "shape")]
    pub(crate) input: Option<PathBuf>,

    /// File to write
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Type of matrices [default: each as it is stored; f16 with --shape]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) dtype: Option<String>,

    /// Write random weights of a shape (e2b, e4b, nano) and a made-up vocabulary, for benchmarks
    #[arg(long, value_name = "SHAPE")]
    pub(crate) shape: Option<String>,

    /// Seed of the random weights
    #[arg(long, default_value_t = 1, value_name = "N", requires = "shape")]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) export: ExportArgs,
}

/// `gemma quantize`
#[derive(Args, Debug)]
pub(crate) struct QuantizeArgs {
    /// Model to read: a directory, a .safetensors or a .gguf file
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,

    /// File to write
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Type of attention, feed-forward and per-layer matrices: q4_0, q4_k, q8_0, ...; the embedding is at least q6_k,
    /// AltUp and LAuReL at least q8_0, norms are f32
    #[arg(long = "type", default_value = "q4_0", value_name = "TYPE")]
    pub(crate) dtype: String,

    /// Run this text through the model first, and round where it matters least for it
    #[arg(long, visible_alias = "calibrate", value_name = "TEXT_FILE")]
    pub(crate) imatrix: Option<PathBuf>,

    /// Tokens of the text that are run at most
    #[arg(long, default_value_t = 8192, value_name = "N", requires = "imatrix")]
    pub(crate) imatrix_tokens: usize,

    #[command(flatten)]
    pub(crate) export: ExportArgs,
}

/// What both verbs share.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct ExportArgs {
    /// Part of the model to write: e2b, 2.54b, 1/2, ... or a TOML or CSV file [default: all of it]
    #[arg(long, value_name = "NAME_OR_FILE")]
    pub(crate) slice: Option<String>,

    /// Type of the tensors whose names in the file match, such as 'ffn_down=q8_0'; the last that matches counts
    #[arg(long = "rule", value_name = "REGEX=TYPE")]
    pub(crate) rules: Vec<String>,

    /// Type of the embedding, which is the output matrix too
    #[arg(long, value_name = "TYPE")]
    pub(crate) embedding_type: Option<String>,

    /// Type of the table of per-layer embeddings
    #[arg(long, value_name = "TYPE")]
    pub(crate) ple_type: Option<String>,

    /// Compare what is stored with the source, type by type
    #[arg(long)]
    pub(crate) report: bool,

    /// Threads that convert [default: one a core]
    #[arg(short = 't', long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Begin anew instead of going on with a file that an earlier run has begun
    #[arg(long)]
    pub(crate) restart: bool,

    /// Replace OUT if it is there
    #[arg(long)]
    pub(crate) force: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
