//! How tokens are chosen and when to stop: shared by `run` and `chat`.

use anyhow::Result;
use clap::Args;
use serde::Deserialize;

use super::environment::Environment;

/// Each field may come from a flag, from the environment or from the configuration file, in this order.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Most tokens to generate [default: 256 for run, 1024 for chat]
    #[arg(short = 'n', long, env = "GEMMA_MAX_TOKENS", value_name = "N")]
    pub(crate) max_tokens: Option<usize>,

    /// Randomness; 0 always takes the likeliest token [default: 1, built-in model 0.8]
    #[arg(
        long,
        visible_alias = "temp",
        env = "GEMMA_TEMPERATURE",
        value_name = "X",
        allow_negative_numbers = true
    )]
    pub(crate) temperature: Option<f32>,

    /// Choose among the K likeliest; 0 is off [default: 64, built-in model 40]
    #[arg(long, env = "GEMMA_TOP_K", value_name = "K")]
    pub(crate) top_k: Option<usize>,

    /// Choose among the likeliest that make up this probability; 1 is off [default: 0.95]
    #[arg(long, env = "GEMMA_TOP_P", value_name = "X", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f32>,

    /// Leave out what is less likely than this part of the likeliest; 0 is off [default: 0]
    #[arg(long, env = "GEMMA_MIN_P", value_name = "X", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f32>,

    /// Locally typical sampling; 1 is off [default: 1]
    #[arg(long, env = "GEMMA_TYPICAL_P", value_name = "X", allow_negative_numbers = true)]
    pub(crate) typical_p: Option<f32>,

    /// Divide logits of recent tokens by this; 1 is off [default: 1]
    #[arg(
        long,
        visible_alias = "repeat-penalty",
        env = "GEMMA_REPETITION_PENALTY",
        value_name = "X",
        allow_negative_numbers = true
    )]
    pub(crate) repetition_penalty: Option<f32>,

    /// Subtract this for each recent use of a token [default: 0]
    #[arg(long, env = "GEMMA_FREQUENCY_PENALTY", value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,

    /// Subtract this once from tokens used recently [default: 0]
    #[arg(long, env = "GEMMA_PRESENCE_PENALTY", value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,

    /// How many tokens are recent [default: 64]
    #[arg(long, visible_alias = "repeat-last-n", env = "GEMMA_PENALTY_WINDOW", value_name = "N")]
    pub(crate) penalty_window: Option<usize>,

    /// Add to the logit of a token; may be given several times
    #[arg(long, value_name = "ID=X")]
    pub(crate) logit_bias: Option<Vec<String>>,

    /// Mirostat v2 with this target surprise in bits, instead of the other filters
    #[arg(long, env = "GEMMA_MIROSTAT_TAU", value_name = "X", allow_negative_numbers = true)]
    pub(crate) mirostat_tau: Option<f32>,

    /// Mirostat's learning rate [default: 0.1]
    #[arg(long, env = "GEMMA_MIROSTAT_ETA", value_name = "X", allow_negative_numbers = true)]
    pub(crate) mirostat_eta: Option<f32>,

    /// Same seed, same text [default: a new one every time]
    #[arg(short = 's', long, env = "GEMMA_SEED", value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// End the text before this string; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Option<Vec<String>>,

    /// Print each token with its log-probability and those of the N likeliest, as JSON lines instead of text
    #[arg(long, value_name = "N")]
    pub(crate) logprobs: Option<usize>,
}

impl SamplingArgs {
    /// These, and what the environment says where these say nothing.
    pub(crate) fn or_environment(self) -> Result<Self> {
        let variables = Environment::of::<Self>();
        Ok(Self {
            max_tokens: variables.or(self.max_tokens, "max_tokens")?,
            temperature: variables.or(self.temperature, "temperature")?,
            top_k: variables.or(self.top_k, "top_k")?,
            top_p: variables.or(self.top_p, "top_p")?,
            min_p: variables.or(self.min_p, "min_p")?,
            typical_p: variables.or(self.typical_p, "typical_p")?,
            repetition_penalty: variables.or(self.repetition_penalty, "repetition_penalty")?,
            frequency_penalty: variables.or(self.frequency_penalty, "frequency_penalty")?,
            presence_penalty: variables.or(self.presence_penalty, "presence_penalty")?,
            penalty_window: variables.or(self.penalty_window, "penalty_window")?,
            mirostat_tau: variables.or(self.mirostat_tau, "mirostat_tau")?,
            mirostat_eta: variables.or(self.mirostat_eta, "mirostat_eta")?,
            seed: variables.or(self.seed, "seed")?,
            ..self
        })
    }

    /// These, and `lower`'s where these say nothing.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            max_tokens: self.max_tokens.or(lower.max_tokens),
            temperature: self.temperature.or(lower.temperature),
            top_k: self.top_k.or(lower.top_k),
            top_p: self.top_p.or(lower.top_p),
            min_p: self.min_p.or(lower.min_p),
            typical_p: self.typical_p.or(lower.typical_p),
            repetition_penalty: self.repetition_penalty.or(lower.repetition_penalty),
            frequency_penalty: self.frequency_penalty.or(lower.frequency_penalty),
            presence_penalty: self.presence_penalty.or(lower.presence_penalty),
            penalty_window: self.penalty_window.or(lower.penalty_window),
            logit_bias: self.logit_bias.or(lower.logit_bias),
            mirostat_tau: self.mirostat_tau.or(lower.mirostat_tau),
            mirostat_eta: self.mirostat_eta.or(lower.mirostat_eta),
            seed: self.seed.or(lower.seed),
            stop: self.stop.or(lower.stop),
            logprobs: self.logprobs.or(lower.logprobs),
        }
    }
}
