//! Everything that can go wrong in this crate, one enum a subject. Each message names the file or field and what
//! to do about it.

/// A tokenizer that cannot be read or a text that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// A size beyond a named limit.
    #[error("{name}: {what} is {size}, more than the limit of {limit}")]
    TooLarge {
        /// File or source.
        name: String,
        /// What was measured.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Not the JSON of a tokenizer.
    #[error("{name}: not a readable tokenizer JSON: {detail}; fetch the file again")]
    Json {
        /// File or source.
        name: String,
        /// What the JSON reader said.
        detail: String,
    },
    /// A tokenizer that is sound but of a kind Gemma does not use.
    #[error("{name}: {field}: {found} is not supported; Gemma tokenizers use {expected}")]
    Unsupported {
        /// File or source.
        name: String,
        /// Field in the file.
        field: String,
        /// What stands there.
        found: String,
        /// What is read.
        expected: &'static str,
    },
    /// A field that contradicts itself or another.
    #[error("{name}: {field}: {detail}")]
    Invalid {
        /// File or source.
        name: String,
        /// Field in the file.
        field: String,
        /// What is wrong.
        detail: String,
    },
    /// A merge that speaks of a piece outside the vocabulary.
    #[error(
        "{name}: merge {index} needs the piece {piece:?}, which the vocabulary lacks; the file is damaged"
    )]
    MergePiece {
        /// File or source.
        name: String,
        /// Position in the list of merges.
        index: usize,
        /// The missing piece.
        piece: String,
    },
    /// A text longer than [`MAX_TEXT_BYTES`](crate::tokenizer::MAX_TEXT_BYTES).
    #[error("the text is {size} bytes, more than the limit of {limit}; split it")]
    TextTooLong {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Bytes that are not text.
    #[error("{name}: not UTF-8 from byte {valid_up_to} on; convert the text to UTF-8")]
    NotUtf8 {
        /// File or source.
        name: String,
        /// Bytes that are sound.
        valid_up_to: usize,
    },
    /// A library refused.
    #[error("{name}: a library failed to {action}: {detail}; please report the file")]
    Library {
        /// File or source.
        name: String,
        /// What was being done.
        action: &'static str,
        /// What it said.
        detail: String,
    },
}

/// A chat template that cannot be used, or a conversation that it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A size beyond a named limit.
    #[error("{what} is {size}, more than the limit of {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// tokenizer_config.json cannot be read.
    #[error("{name}: {field}: {detail}")]
    Config {
        /// File or source.
        name: String,
        /// Field in the file.
        field: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The template is not Jinja that can be read.
    #[error("chat template, line {line}: {detail}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        detail: String,
    },
    /// The template says something whose cost has no bound.
    #[error("chat template, line {line}: not supported: {what}")]
    Unbounded {
        /// Line, from 1.
        line: usize,
        /// What it says.
        what: &'static str,
    },
    /// The template itself called `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    Raised(String),
    /// The template failed while it ran.
    #[error("the chat template failed, line {line}: {detail}")]
    Failed {
        /// Line, from 1.
        line: usize,
        /// What went wrong.
        detail: String,
    },
    /// The template did more work, or made more text, than a conversation of this length needs.
    #[error("the chat template used up its budget of {fuel} steps; it loops or grows without bound")]
    OutOfFuel {
        /// Budget of this rendering.
        fuel: u64,
    },
    /// No message at all.
    #[error("the conversation is empty; give at least one user message")]
    NoMessages,
    /// System, user, assistant, user, ... is the only order.
    #[error(
        "message {index} has the role {found} where {expected} is due; roles alternate user, assistant, ..."
    )]
    RoleOrder {
        /// Position of the message, from 0.
        index: usize,
        /// Its role.
        found: &'static str,
        /// Role or roles that could stand there.
        expected: &'static str,
    },
    /// A conversation that is to go on ends with a user's message.
    #[error("message {index} is a user's without an answer; a conversation that goes on ends with an answer")]
    Unanswered {
        /// Position of the message, from 0.
        index: usize,
    },
    /// The template leaves a message out, as those without a system turn do.
    #[error("the chat template drops message {index} ({role}); put its text into the first user message")]
    Dropped {
        /// Position of the message, from 0.
        index: usize,
        /// Its role.
        role: &'static str,
    },
    /// The template changes what messages say, and a message holds the text of a special token.
    #[error(
        "message {index} holds {token:?} and this chat template rewrites messages, so the two cannot be told apart; \
         remove it from the message"
    )]
    SpecialInContent {
        /// Position of the message, from 0.
        index: usize,
        /// The special token's text.
        token: String,
    },
    /// The template writes other special tokens depending on what messages say.
    #[error(
        "this chat template makes special tokens out of what messages say; use the model's own chat template"
    )]
    SpecialFromContent,
    /// The built-in template needs a token that the tokenizer lacks.
    #[error("the tokenizer has no special token {0:?}; give the model's own chat template")]
    MissingSpecial(&'static str),
    /// Encoding the rendered text failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Sampling parameters out of range, or logits that no token can be drawn from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A parameter outside its range.
    #[error("{field} is {value}; it must be {accepted}")]
    OutOfRange {
        /// Name of the parameter.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What would be right.
        accepted: &'static str,
    },
    /// A logit bias for a token outside the vocabulary.
    #[error("logit_bias names token {token}; the vocabulary has ids 0 to {last}")]
    BiasUnknownToken {
        /// The id given.
        token: u32,
        /// The largest id there is.
        last: usize,
    },
    /// A vocabulary without tokens.
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    /// Logits of another length than the vocabulary.
    #[error("{found} logits for a vocabulary of {expected}")]
    LogitCount {
        /// Length given.
        found: usize,
        /// Size of the vocabulary.
        expected: usize,
    },
    /// A NaN or +infinity among the logits: the model or the device failed.
    #[error("the logit of token {token} is {value}; the model's output is not usable")]
    BadLogit {
        /// First such token.
        token: u32,
        /// NaN or infinity.
        value: f32,
    },
    /// Every token is masked (-infinity).
    #[error("every token is masked; loosen the grammar or the logit bias")]
    AllMasked,
    /// A token of the history is outside the vocabulary.
    #[error("the history holds token {token}; the vocabulary has ids 0 to {last}")]
    HistoryToken {
        /// The id given.
        token: u32,
        /// The largest id there is.
        last: usize,
    },
}

/// Stop strings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopRuleError {
    /// More strings or tokens than [`MAX_STOP_RULES`](crate::StopRules::MAX_RULES).
    #[error("{count} stop rules; at most {limit} are allowed")]
    TooMany {
        /// Rules given.
        count: usize,
        /// Rules allowed.
        limit: usize,
    },
    /// A stop string that would match everywhere.
    #[error("stop string {index} is empty")]
    Empty {
        /// Position, from 0.
        index: usize,
    },
    /// A stop string that is too long.
    #[error("stop string {index} is {size} bytes; at most {limit} are allowed")]
    TooLong {
        /// Position, from 0.
        index: usize,
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
}
