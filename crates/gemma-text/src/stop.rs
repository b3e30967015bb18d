//! When a generated text ends: stop tokens and stop strings over the streamed text.
//!
//! Text that may be the start of a stop string is held back until it is decided. What is emitted never depends on
//! how the text was cut into tokens: the stop string that is complete first wins, the longer of two that end together.

use crate::{StopRuleError, StreamDecoder, Tokenizer};

/// What ends a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopRules {
    /// Tokens that end it and are not shown.
    pub tokens: Vec<u32>,
    /// Strings that end it and are not shown.
    pub strings: Vec<String>,
}

/// Why a text ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token came.
    Token(u32),
    /// A stop string came.
    String(String),
}

/// Finds stop strings in text that comes in pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    strings: Vec<String>,
    held: String,
    stopped: Option<String>,
}

/// What a piece of text leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that is certain; may be empty.
    pub text: String,
    /// The stop string that came, if one did. No text follows.
    pub stopped: Option<String>,
}

/// Ids to text with stop rules: a [`StreamDecoder`] and a [`StopMatcher`] in one.
#[derive(Clone, Debug)]
pub struct TextStream {
    decoder: StreamDecoder,
    matcher: StopMatcher,
    tokens: Vec<u32>,
    stopped: Option<StopReason>,
}

/// What a token leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextStep {
    /// Text to show now; may be empty.
    pub text: String,
    /// Why the text is over, if it is.
    pub stopped: Option<StopReason>,
}

impl StopRules {
    /// Most tokens and most strings.
    pub const MAX_RULES: usize = 64;
    /// Longest stop string.
    pub const MAX_STRING_BYTES: usize = 1024;

    /// The rules of a Gemma chat: `<end_of_turn>` and `<eos>`.
    pub fn chat(tokenizer: &Tokenizer) -> Self {
        let tokens = [tokenizer.end_of_turn_id(), tokenizer.eos_id()].into_iter().flatten().collect();
        Self { tokens, strings: Vec::new() }
    }

    /// Checks the number and the lengths.
    pub fn validate(&self) -> Result<(), StopRuleError> {
        let count = self.tokens.len().max(self.strings.len());
        if count > Self::MAX_RULES {
            return Err(StopRuleError::TooMany { count, limit: Self::MAX_RULES });
        }
        for (index, string) in self.strings.iter().enumerate() {
            if string.is_empty() {
                return Err(StopRuleError::Empty { index });
            }
            if string.len() > Self::MAX_STRING_BYTES {
                let limit = Self::MAX_STRING_BYTES;
                return Err(StopRuleError::TooLong { index, size: string.len(), limit });
            }
        }
        Ok(())
    }
}

impl StopMatcher {
    /// A matcher at the start of a text.
    pub fn new(rules: &StopRules) -> Result<Self, StopRuleError> {
        rules.validate()?;
        Ok(Self { strings: rules.strings.clone(), held: String::new(), stopped: None })
    }

    /// Takes the next text and returns what is certain.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.stopped.is_some() {
            return StopStep { text: String::new(), stopped: self.stopped.clone() };
        }
        self.held.push_str(text);
        let found = self
            .strings
            .iter()
            .filter_map(|string| {
                self.held.find(string.as_str()).map(|start| (start + string.len(), start, string))
            })
            .min();
        if let Some((_, start, string)) = found {
            self.stopped = Some(string.clone());
            self.held.truncate(start);
            return StopStep { text: std::mem::take(&mut self.held), stopped: self.stopped.clone() };
        }
        let certain = self.held.len() - self.undecided();
        let rest = self.held.split_off(certain);
        StopStep { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// The text held back, at the end of a stream that no stop string ended.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that may be the start of a stop string.
    fn undecided(&self) -> usize {
        let held = self.held.as_bytes();
        let longest = |string: &String| {
            let string = string.as_bytes();
            (1..string.len().min(held.len() + 1))
                .rev()
                .find(|length| held.ends_with(&string[..*length]))
                .unwrap_or(0)
        };
        self.strings.iter().map(longest).max().unwrap_or(0)
    }
}

impl TextStream {
    /// A stream at the start of a text.
    pub fn new(tokenizer: &Tokenizer, rules: &StopRules) -> Result<Self, StopRuleError> {
        Ok(Self {
            decoder: StreamDecoder::new(tokenizer),
            matcher: StopMatcher::new(rules)?,
            tokens: rules.tokens.clone(),
            stopped: None,
        })
    }

    /// Takes the next token. After a stop nothing is emitted and the reason is repeated.
    pub fn push(&mut self, id: u32) -> TextStep {
        if self.stopped.is_some() {
            return TextStep { text: String::new(), stopped: self.stopped.clone() };
        }
        if self.tokens.contains(&id) {
            let text = self.finish();
            self.stopped.get_or_insert(StopReason::Token(id));
            return TextStep { text, stopped: self.stopped.clone() };
        }
        let text = self.decoder.push(id).unwrap_or_default();
        self.emit(&text)
    }

    /// The rest, at the end of a stream that no rule ended.
    pub fn finish(&mut self) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let rest = self.decoder.flush().unwrap_or_default();
        let mut step = self.emit(&rest);
        if step.stopped.is_none() {
            step.text.push_str(&self.matcher.flush());
        }
        step.text
    }

    fn emit(&mut self, text: &str) -> TextStep {
        let step = self.matcher.push(text);
        self.stopped = step.stopped.map(StopReason::String);
        TextStep { text: step.text, stopped: self.stopped.clone() }
    }
}
