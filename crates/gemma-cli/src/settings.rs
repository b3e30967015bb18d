//! What holds in the end: built-in defaults, then the configuration file, then the environment, then flags.
//!
//! The file is `$XDG_CONFIG_HOME/gemma/config.toml` (or `~/.config/...`), or what `GEMMA_CONFIG` names; its tables
//! `[model]` and `[sampling]` have the flags' long names as keys.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use gemma_cpu::simd::Activations;
use gemma_hal::DType;
use gemma_text::{Mirostat, SamplerConfig};
use serde::Deserialize;

use crate::args::{SamplingArgs, SetupArgs};
use crate::{folders, input};

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Memory for activations, caches and weights on a GPU unless told otherwise: the laptop's share for the integrated GPU.
const DEFAULT_MEMORY_MIB: u64 = 8192;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    model: SetupArgs,
    sampling: SamplingArgs,
}

/// Everything about the model and the device.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// None is the built-in model.
    pub(crate) model: Option<PathBuf>,
    pub(crate) slice: Option<String>,
    pub(crate) device: String,
    pub(crate) threads: Option<usize>,
    pub(crate) context: Option<usize>,
    pub(crate) chunk: Option<usize>,
    /// None is the verb's usual one.
    pub(crate) cache_dtype: Option<DType>,
    /// None is the verb's usual one.
    pub(crate) activations: Option<Activations>,
    /// Bytes.
    pub(crate) memory: u64,
    /// Whether to show what a device was chosen from.
    pub(crate) verbose: bool,
}

impl Setup {
    /// Leaves nothing to choose from to a verb whose numbers are compared: auto is the CPU.
    pub(crate) fn prefer_cpu(&mut self) {
        if self.device == "auto" {
            "cpu".clone_into(&mut self.device);
        }
    }
}

/// How text is generated.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    pub(crate) sampler: SamplerConfig,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
}

/// Resolves the model's and the device's settings.
pub(crate) fn setup(args: SetupArgs) -> Result<Setup> {
    resolved(args.or_environment()?)
}

/// Resolves the settings of a verb that runs nothing: of the environment, the model and its slice count.
pub(crate) fn model(args: SetupArgs) -> Result<Setup> {
    resolved(args.or_environment_of_model()?)
}

fn resolved(args: SetupArgs) -> Result<Setup> {
    let verbose = args.verbose;
    let args = args.or(config_file()?.model);
    let cache_dtype = args.cache_type.as_deref().map(|name| {
        let dtype = DType::from_name(name).filter(|dtype| gemma_hal::is_cache_dtype(*dtype));
        dtype.ok_or_else(|| anyhow!("--cache-type {name}: choose f16, q8_0 or f32"))
    });
    let cache_dtype = cache_dtype.transpose()?;
    let activations = args.activations.as_deref().map(Activations::from_name).transpose()?;
    let memory = args.memory.unwrap_or(DEFAULT_MEMORY_MIB);
    Ok(Setup {
        model: args.model,
        slice: args.slice,
        device: args.device.unwrap_or_else(|| "auto".to_owned()),
        threads: args.threads,
        context: args.context,
        chunk: args.chunk,
        cache_dtype,
        activations,
        memory: memory.checked_mul(1 << 20).ok_or_else(|| anyhow!("--memory {memory}: too many MiB"))?,
        verbose,
    })
}

/// Resolves the sampling settings. Gemma's recommended values, or the built-in model's, are the defaults.
pub(crate) fn sampling(args: SamplingArgs, built_in_model: bool) -> Result<Sampling> {
    let args = args.or_environment()?.or(config_file()?.sampling);
    let (temperature, top_k) = if built_in_model { (0.8, 40) } else { (1.0, 64) };
    let none = SamplerConfig::default();
    let mirostat = args
        .mirostat_tau
        .map(|tau| Mirostat { tau, eta: args.mirostat_eta.unwrap_or(Mirostat::default().eta) });
    if mirostat.is_none() && args.mirostat_eta.is_some() {
        bail!("--mirostat-eta needs --mirostat-tau");
    }
    let sampler = SamplerConfig {
        temperature: args.temperature.unwrap_or(temperature),
        top_k: args.top_k.unwrap_or(top_k),
        top_p: args.top_p.unwrap_or(0.95),
        min_p: args.min_p.unwrap_or(none.min_p),
        typical_p: args.typical_p.unwrap_or(none.typical_p),
        repetition_penalty: args.repetition_penalty.unwrap_or(none.repetition_penalty),
        frequency_penalty: args.frequency_penalty.unwrap_or(none.frequency_penalty),
        presence_penalty: args.presence_penalty.unwrap_or(none.presence_penalty),
        penalty_window: args.penalty_window.unwrap_or(none.penalty_window),
        logit_bias: biases(&args.logit_bias.unwrap_or_default())?,
        seed: args.seed.unwrap_or_else(random_seed),
        mirostat,
        logprobs: args.logprobs,
    };
    Ok(Sampling { sampler, max_tokens: args.max_tokens, stop: args.stop.unwrap_or_default() })
}

fn biases(texts: &[String]) -> Result<BTreeMap<u32, f32>> {
    let parse = |text: &String| {
        let (id, bias) = text.split_once('=')?;
        Some((id.trim().parse().ok()?, bias.trim().parse().ok()?))
    };
    texts
        .iter()
        .map(|text| parse(text).ok_or_else(|| anyhow!("--logit-bias {text}: write ID=X, such as 42=-1.5")))
        .collect()
}

/// A seed from the operating system's randomness, which keys every new hasher state.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn config_file() -> Result<ConfigFile> {
    let Some((path, wanted)) = config_path() else { return Ok(ConfigFile::default()) };
    let name = path.display().to_string();
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted => {
            return Ok(ConfigFile::default());
        }
        opened => opened.with_context(|| name.clone())?,
    };
    let text = input::read_text(file, &name, MAX_FILE_BYTES)?;
    toml::from_str(&text).with_context(|| name)
}

/// The file, and whether the user named it.
fn config_path() -> Option<(PathBuf, bool)> {
    if let Some(path) = folders::variable("GEMMA_CONFIG") {
        return Some((path, true));
    }
    Some((folders::config()?.join("config.toml"), false))
}
