//! What can be typed: verbs, flags, their help. Parsing only; [`crate::settings`] decides what holds in the end.

mod environment;
mod export;
#[cfg(test)]
mod reference;
mod sampling;
mod setup;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use export::{ConvertArgs, ExportArgs, QuantizeArgs};
pub(crate) use sampling::SamplingArgs;
pub(crate) use setup::SetupArgs;

/// Gemma 3n and Gemma 3 on this machine's CPU or GPU.
///
/// Without a verb, `gemma PROMPT` continues the prompt and bare `gemma` in a terminal starts a chat. Without a
/// model, a small story model that is part of the program is used.
#[derive(Debug, Parser)]
#[command(name = "gemma", version, args_conflicts_with_subcommands = true, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl Cli {
    /// What the command line says; shows help or an error and ends the program where that is asked for or due.
    pub(crate) fn from_command_line() -> Self {
        let matches = environment::flags_only(Self::command()).try_get_matches();
        match matches.and_then(|matches| Self::from_arg_matches(&matches)) {
            Ok(cli) => cli,
            // Help shows the variables too.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => Self::parse(),
            Err(error) => error.exit(),
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Answer or continue one prompt, from the command line, a file or standard input
    Run(RunArgs),
    /// Talk with the model, turn by turn
    Chat(ChatArgs),
    /// Show a model: sizes, slice, plan with FLOPs and bytes by operation and phase
    Info(InfoArgs),
    /// Show what this machine offers, what is missing and the command that mends it
    Doctor(DoctorArgs),
    /// Measure this machine's devices anew, for --device auto, and how GPUs' work is best divided
    Tune(TuneArgs),
    /// Measure prefill and decode speed, on the CPU against its measured peaks
    Bench(BenchArgs),
    /// Logits and greedy continuations of given tokens, for scripts and for comparing engines
    Eval(EvalArgs),
    /// Loss and perplexity of a text
    Perplexity(PerplexityArgs),
    /// Read a model to the last byte and report what is wrong with it
    Validate(ValidateArgs),
    /// Write a model as a GGUF file, all of it or a slice, with or without changing types
    Convert(ConvertArgs),
    /// Write a model with smaller types, all of it or a slice
    Quantize(QuantizeArgs),
    /// Print the completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
}

/// `gemma run`
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The prompt; `-` or nothing reads standard input
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,

    /// The prompt, as a flag
    #[arg(short = 'p', long = "prompt", value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["prompt", "file"])]
    pub(crate) prompt_flag: Option<String>,

    /// Read the prompt from a file
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) file: Option<PathBuf>,

    /// Instructions that go before the prompt (with the chat format only)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,

    /// Continue the prompt as it is, without the chat format [default for the built-in model]
    #[arg(long, overrides_with = "template")]
    pub(crate) raw: bool,

    /// Wrap the prompt in the model's chat format [default for all other models]
    #[arg(long, overrides_with = "raw")]
    pub(crate) template: bool,

    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
}

/// `gemma chat`
#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    /// Instructions that go before the first turn
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,

    /// Go on with a conversation written by /save, which brings its own instructions
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    pub(crate) load: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
}

/// What `run` and `chat` share.
#[derive(Args, Debug)]
pub(crate) struct GenerationArgs {
    #[command(flatten)]
    pub(crate) setup: SetupArgs,

    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,

    /// Show the statistics on standard error even when it is not a terminal
    #[arg(long, overrides_with = "no_stats")]
    pub(crate) stats: bool,

    /// Do not show the statistics
    #[arg(long, overrides_with = "stats")]
    pub(crate) no_stats: bool,
}

/// `gemma info`
#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) setup: SetupArgs,

    /// Tokens of the prefill run that the costs are given for, at most --chunk
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(crate) prefill: usize,

    /// Position of the first token that the costs are given for, at most the context's last
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub(crate) position: usize,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma doctor`
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Threads for the bandwidth measurement
    #[arg(short = 't', long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma tune`
#[derive(Args, Debug)]
pub(crate) struct TuneArgs {
    /// Only this device: cpu, igpu, vulkan or vulkan:N [default: the CPU and all GPUs]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,

    /// Threads that the CPU is measured with [default: one a core]
    #[arg(short = 't', long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma bench`
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// Shape made in memory (e2b, e4b, nano), or a model's directory or file
    #[arg(long, default_value = "nano", value_name = "SHAPE")]
    pub(crate) shape: String,

    /// Type of the weights made in memory: q4_0, q4_k, q8_0, bf16, ...
    #[arg(long = "type", default_value = "q4_0", value_name = "TYPE")]
    pub(crate) dtype: String,

    /// Prompt lengths, separated by commas
    #[arg(long, default_value = "128,512", value_delimiter = ',', value_name = "N,N")]
    pub(crate) prefill: Vec<usize>,

    /// Tokens to decode, separated by commas
    #[arg(long, default_value = "32", value_delimiter = ',', value_name = "N,N")]
    pub(crate) decode: Vec<usize>,

    /// Positions already in the context when decoding begins
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) depth: usize,

    /// Measured repetitions; one more is run first and thrown away
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) repeat: usize,

    /// Take decode steps apart: time, bytes and rates of each kind of operation
    #[arg(long)]
    pub(crate) profile: bool,

    /// Compare with a report that --json wrote; flags differences beyond noise only
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// With --compare: exit with 1 when a phase is slower beyond noise
    #[arg(long, requires = "compare")]
    pub(crate) fail_on_regression: bool,

    /// Write the results as one HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// With --report: JSON file with other engines' figures, a list of {"name", "command", "results"}
    #[arg(long, value_name = "FILE", requires = "report")]
    pub(crate) peers: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) setup: SetupArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma eval`
#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) setup: SetupArgs,

    /// JSON file: a list of lists of token ids
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: PathBuf,

    /// Tokens to continue each prompt with, greedily; end tokens do not stop it
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) new: usize,

    /// Write every prompt's logits as tensors `p{i}.logits`, f32 [T, vocabulary]
    #[arg(long, value_name = "FILE")]
    pub(crate) out_logits: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma perplexity`
#[derive(Args, Debug)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub(crate) setup: SetupArgs,

    /// Text file; `-` reads standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Tokens of a window; windows do not overlap
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub(crate) window: usize,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma validate`
#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) setup: SetupArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `gemma completions`
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
