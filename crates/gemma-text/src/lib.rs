//! Text in and out of a language model: tokenizer, chat template, sampling and stop rules.
//!
//! This crate knows token ids, text and logits. It never sees a model, a device or a file: bytes come in as slices
//! with the name to use in errors, and everything from outside is checked against the named limits of its module.

mod error;
pub mod sampling;
mod stop;
pub mod template;
pub mod tokenizer;

pub use error::{SamplingError, StopRuleError, TemplateError, TokenizerError};
pub use sampling::{Mirostat, Sampled, Sampler, SamplerConfig};
pub use stop::{StopMatcher, StopReason, StopRules, StopStep, TextStep, TextStream};
pub use template::{ChatTemplate, Message, Role, TokenizerConfig};
pub use tokenizer::{Segment, SpecialTokens, StreamDecoder, TokenType, Tokenizer, Vocabulary};
