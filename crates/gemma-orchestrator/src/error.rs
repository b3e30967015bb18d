//! [`EngineError`]: what can go wrong while a model runs.

use gemma_hal::{DeviceError, PlanError};
use gemma_matformer::{CheckpointError, SliceError};
use gemma_text::{SamplingError, StopRuleError, TemplateError, TokenizerError};

/// A failure of the engine. A session keeps the tokens that ran before the failure and can go on from there.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model and the plan builder disagree, which is a defect of ours.
    #[error("the model's plan is not sound: {0}; please report this")]
    Plan(#[from] PlanError),
    /// The model's files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The slice that was asked for.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The sampling parameters, or logits that cannot be sampled from.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The stop rules.
    #[error(transparent)]
    StopRule(#[from] StopRuleError),
    /// The model's files have no tokenizer.
    #[error(
        "{model}: no tokenizer.json beside the weights and none inside; put the model's tokenizer.json there"
    )]
    NoTokenizer {
        /// Where the model came from.
        model: String,
    },
    /// The prompt does not fit.
    #[error(
        "the prompt has {prompt} tokens, but the context holds {context} (one is kept for the answer); shorten the prompt or raise --context (this model: up to {max_context})"
    )]
    PromptTooLong {
        /// Tokens of the prompt, earlier turns included.
        prompt: usize,
        /// Positions of the context.
        context: usize,
        /// The most the model was made for.
        max_context: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty: there is nothing to continue from")]
    EmptyPrompt,
    /// A GGUF file's tokenizer is of a kind that Gemma does not use.
    #[error(
        "{model}: tokenizer.ggml.model is {found:?}, but only \"llama\" (SentencePiece) can be read; convert the model again with a current converter"
    )]
    TokenizerKind {
        /// Where the model came from.
        model: String,
        /// What the file says.
        found: String,
    },
    /// An option that no model can honour.
    #[error("{option}: {value} is not possible: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was asked for.
        value: String,
        /// Why not.
        reason: String,
    },
    /// There is no device to run on.
    #[error("no device is left to run on; the last said: {0}")]
    NoDevice(DeviceError),
}
