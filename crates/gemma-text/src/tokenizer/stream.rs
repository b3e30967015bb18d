//! Text of a stream of token ids, as early as whole characters allow.
//!
//! Only the bytes of an unfinished character are kept, so the cost is linear in the stream. It never emits half a
//! character and never drops a byte: what cannot be UTF-8 becomes U+FFFD, as `String::from_utf8_lossy` does it.

use super::Tokenizer;

/// Turns ids into text one at a time; all pieces together are [`Tokenizer::decode`] of all ids.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    /// The start of a character, at most three bytes between calls.
    pending: Vec<u8>,
    strip_space: bool,
}

impl StreamDecoder {
    /// A decoder at the start of a text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let strip_space = tokenizer.strips_leading_space();
        Self { tokenizer: tokenizer.clone(), pending: Vec::new(), strip_space }
    }

    /// The text that is certain once `id` is known; `None` if there is none yet.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let mut bytes = self.tokenizer.token_bytes(id)?;
        if self.strip_space && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.strip_space = false;
        }
        self.pending.extend_from_slice(bytes);
        self.take(false)
    }

    /// The rest at the end of the stream: U+FFFD where a character was left unfinished. The decoder can then be
    /// used for what follows in the same text.
    pub fn flush(&mut self) -> Option<String> {
        self.take(true)
    }

    fn take(&mut self, at_end: bool) -> Option<String> {
        let mut text = String::new();
        let mut rest = &*self.pending;
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = after;
                    let bad = error.error_len().or(at_end.then_some(rest.len()));
                    if let Some(length) = bad {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[length..];
                        continue;
                    }
                }
            }
            break;
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        (!text.is_empty()).then_some(text)
    }
}
