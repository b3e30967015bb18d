//! Which model, on which device, in what shape: shared by every verb that opens a model.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Deserialize;

use super::environment::Environment;

/// Each field may come from a flag, from the environment or from the configuration file, in this order.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Model and device")]
pub(crate) struct SetupArgs {
    /// Directory, .safetensors or .gguf file [default: the built-in story model]
    #[arg(short = 'm', long, env = "GEMMA_MODEL", value_name = "DIR_OR_FILE")]
    pub(crate) model: Option<PathBuf>,

    /// Part of the model to use: e2b, 2.54b, 1/2, ... or a TOML or CSV file [default: all of it]
    #[arg(long, env = "GEMMA_SLICE", value_name = "NAME_OR_FILE")]
    pub(crate) slice: Option<String>,

    /// Device to run on: auto (the GPU where measurements say that it answers sooner than the CPU), cpu, vulkan or igpu (the
    /// first GPU), vulkan:N (an adapter that `gemma doctor` lists), hip or hip:N (an AMD GPU through ROCm's runtime), reference
    /// [default: auto, for eval and perplexity cpu]
    #[arg(long, env = "GEMMA_DEVICE", value_name = "DEVICE")]
    pub(crate) device: Option<String>,

    /// CPU threads [default: one a core]
    #[arg(short = 't', long, env = "GEMMA_THREADS", value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Positions of the context [default: 4096, or what the model has if less]
    #[arg(short = 'c', long, env = "GEMMA_CONTEXT", value_name = "N")]
    pub(crate) context: Option<usize>,

    /// Prompt tokens that are run at once [default: 128]
    #[arg(long, env = "GEMMA_CHUNK", value_name = "N")]
    pub(crate) chunk: Option<usize>,

    /// Type of the KV cache: f16, q8_0 (half the memory of f16) or f32 [default: f16, for eval f32]
    #[arg(long, env = "GEMMA_CACHE_TYPE", value_name = "TYPE")]
    pub(crate) cache_type: Option<String>,

    /// How activations meet weights in block formats: int8 or f32 [default: int8, for eval f32]
    #[arg(long, env = "GEMMA_CPU_ACTIVATIONS", value_name = "TYPE")]
    pub(crate) activations: Option<String>,

    /// Most memory for activations, KV cache and the turned copies of matrices that are read by columns, in MiB; mapped
    /// weights do not count, those that are copied to a GPU do [default: 8192]
    #[arg(long, env = "GEMMA_MEMORY", value_name = "MIB")]
    pub(crate) memory: Option<u64>,

    /// Show what was measured of each device that auto chose from
    #[arg(short = 'v', long)]
    #[serde(skip)]
    pub(crate) verbose: bool,
}

impl SetupArgs {
    /// These, and what the environment says where these say nothing.
    pub(crate) fn or_environment(self) -> Result<Self> {
        let variables = Environment::of::<Self>();
        let this = self.or_environment_of_model()?;
        Ok(Self {
            device: variables.or(this.device, "device")?,
            threads: variables.or(this.threads, "threads")?,
            context: variables.or(this.context, "context")?,
            chunk: variables.or(this.chunk, "chunk")?,
            cache_type: variables.or(this.cache_type, "cache_type")?,
            activations: variables.or(this.activations, "activations")?,
            memory: variables.or(this.memory, "memory")?,
            ..this
        })
    }

    /// The same for the model and its slice alone.
    pub(crate) fn or_environment_of_model(self) -> Result<Self> {
        let variables = Environment::of::<Self>();
        Ok(Self {
            model: variables.or(self.model, "model")?,
            slice: variables.or(self.slice, "slice")?,
            ..self
        })
    }

    /// These, and `lower`'s where these say nothing.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            model: self.model.or(lower.model),
            slice: self.slice.or(lower.slice),
            device: self.device.or(lower.device),
            threads: self.threads.or(lower.threads),
            context: self.context.or(lower.context),
            chunk: self.chunk.or(lower.chunk),
            cache_type: self.cache_type.or(lower.cache_type),
            activations: self.activations.or(lower.activations),
            memory: self.memory.or(lower.memory),
            verbose: self.verbose || lower.verbose,
        }
    }
}
