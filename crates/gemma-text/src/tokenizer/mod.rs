//! From text to token ids and back: SentencePiece-style BPE, as all Gemma tokenizers are.
//!
//! Files are read and checked into `Parts`, and these made into tables without a string or a merge of their own for
//! each of half a million entries. Special tokens never come out of plain text: no merge makes one.

mod bpe;
mod json;
mod merges;
mod pieces;
mod stream;
mod vocabulary;

use std::borrow::Cow;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::TokenizerError;
use bpe::{Bpe, Work};
use merges::{Merges, Merging};
use pieces::{Kind, Pieces};
pub use stream::StreamDecoder;
pub use vocabulary::{TokenType, Vocabulary};

/// Longest tokenizer JSON that is read; Gemma's has 33 MB.
pub const MAX_JSON_BYTES: usize = 128 << 20;
/// Most ids in a vocabulary; Gemma 3n has 262,144 and some soft tokens.
pub const MAX_VOCABULARY: usize = 1 << 20;
/// Most bytes in all pieces of a vocabulary together.
pub const MAX_VOCABULARY_BYTES: usize = 32 << 20;
/// Longest piece in bytes; Gemma's longest are runs of 31 spaces.
pub const MAX_PIECE_BYTES: usize = 512;
/// Most merges; Gemma has 514,906.
pub const MAX_MERGES: usize = 4 << 20;
/// Most bytes in the pieces of all merges together; Gemma's have 4 MB.
pub const MAX_MERGE_BYTES: usize = 256 << 20;
/// Longest text that is encoded in one call, far beyond a context of 32,768 tokens.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// What stands for a space in pieces.
const SPACE_PIECE: &str = "\u{2581}";
/// These are never text, whatever a file says of them.
const ALWAYS_SPECIAL: [&str; 6] =
    ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"];

/// What to do with the text of special tokens, such as `<end_of_turn>`, inside a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// They are text like any other: right for everything a user wrote.
    AsText,
    /// They become the tokens they name: right for what a trusted template wrote.
    Parse,
}

/// A stretch of text with its own rule for special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// What its special tokens are.
    pub special: SpecialTokens,
}

/// A tokenizer; cheap to clone, the tables are shared.
#[derive(Clone)]
pub struct Tokenizer {
    tables: Arc<Tables>,
    special: SpecialIds,
}

/// What the two file formats are read into.
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the format")]
struct Parts<'a> {
    name: String,
    pieces: Pieces,
    merging: Merging<'a>,
    byte_fallback: bool,
    fuse_unknown: bool,
    /// A space becomes U+2581 before merging.
    escape_spaces: bool,
    /// A space is put before each stretch of plain text, and one is taken off the start of a decoded text.
    space_prefix: bool,
    special: SpecialIds,
}

/// Ids that have a role.
#[derive(Clone, Copy, Debug, Default)]
struct SpecialIds {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
}

struct Tables {
    name: String,
    pieces: Pieces,
    bpe: Bpe,
    special_matcher: Matcher,
    user_matcher: Matcher,
    escape_spaces: bool,
    space_prefix: bool,
    /// No piece has a space behind something else, so a text may be cut before each run of spaces.
    cut_at_spaces: bool,
}

/// Finds whole tokens in a text, leftmost and longest first.
struct Matcher {
    automaton: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Tokenizer {
    /// Reads a Hugging Face `tokenizer.json`; `name` is used in errors.
    ///
    /// Only what Gemma tokenizers use is accepted: BPE, spaces as U+2581, no regular expressions.
    pub fn from_json(bytes: &[u8], name: &str) -> Result<Self, TokenizerError> {
        Self::assemble(json::read(bytes, name)?)
    }

    /// Builds a tokenizer from the arrays that a GGUF file carries.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        Self::assemble(vocabulary::read(vocabulary)?)
    }

    /// The ids of `text`, without a beginning-of-text token. An empty text has none.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, TokenizerError> {
        self.encode_parts([(text, special)].into_iter())
    }

    /// Like [`encode`](Self::encode), for bytes that may not be UTF-8; `name` is used in the error.
    pub fn encode_bytes(
        &self,
        bytes: &[u8],
        name: &str,
        special: SpecialTokens,
    ) -> Result<Vec<u32>, TokenizerError> {
        let text = std::str::from_utf8(bytes).map_err(|error| TokenizerError::NotUtf8 {
            name: name.to_owned(),
            valid_up_to: error.valid_up_to(),
        })?;
        self.encode(text, special)
    }

    /// The ids of a prompt that is not a chat: the beginning-of-text token where the model wants one, then `text`
    /// with its special tokens as text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids: Vec<u32> = self.bos_id().filter(|_| self.adds_bos()).into_iter().collect();
        ids.extend(self.encode(text, SpecialTokens::AsText)?);
        Ok(ids)
    }

    /// The ids of all segments as one text: pieces may span a border, special tokens may not.
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, TokenizerError> {
        self.encode_parts(segments.iter().map(|segment| (segment.text.as_str(), segment.special)))
    }

    /// The text of `ids`. Special tokens and ids without a piece add nothing; bytes that are not UTF-8 become
    /// U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = StreamDecoder::new(self);
        let mut text = String::new();
        for id in ids {
            text.extend(stream.push(*id));
        }
        text.extend(stream.flush());
        text
    }

    /// What `id` adds to a text: empty for special tokens, one byte for byte tokens; `None` if there is no such id.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.tables.pieces.bytes(id)
    }

    /// The piece as the vocabulary writes it, such as `▁the` or `<0x0A>`.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.tables.pieces.text(id)
    }

    /// The id of a piece as the vocabulary writes it.
    pub fn id_of(&self, piece: &str) -> Option<u32> {
        self.tables.pieces.find(piece)
    }

    /// Whether `id` is a control token, which is never shown and never comes out of plain text.
    pub fn is_special(&self, id: u32) -> bool {
        self.tables.pieces.is_special(id)
    }

    /// The largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.tables.pieces.len()
    }

    /// Beginning of text, `<bos>`.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// End of text, `<eos>`.
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// Padding, `<pad>`.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// Unknown character, `<unk>`.
    pub fn unknown_id(&self) -> Option<u32> {
        self.special.unknown
    }

    /// End of a chat turn, `<end_of_turn>`.
    pub fn end_of_turn_id(&self) -> Option<u32> {
        self.id_of("<end_of_turn>").filter(|id| self.is_special(*id))
    }

    /// Whether a prompt begins with [`bos_id`](Self::bos_id).
    pub fn adds_bos(&self) -> bool {
        self.special.add_bos
    }

    /// The first special token that stands in `text` as text.
    pub fn find_special<'text>(&self, text: &'text str) -> Option<&'text str> {
        let automaton = self.tables.special_matcher.automaton.as_ref()?;
        automaton.find(text).map(|found| &text[found.range()])
    }

    pub(crate) fn special_ids_in(&self, text: &str) -> Vec<u32> {
        let matcher = &self.tables.special_matcher;
        let found = matcher.automaton.iter().flat_map(|automaton| automaton.find_iter(text));
        found.map(|found| matcher.ids[found.pattern().as_usize()]).collect()
    }

    pub(crate) fn with_roles(mut self, bos: Option<u32>, eos: Option<u32>, add_bos: Option<bool>) -> Self {
        self.special.bos = bos.or(self.special.bos);
        self.special.eos = eos.or(self.special.eos);
        self.special.add_bos = add_bos.unwrap_or(self.special.add_bos);
        self
    }

    pub(crate) fn strips_leading_space(&self) -> bool {
        self.tables.space_prefix
    }

    fn encode_parts<'a>(
        &self,
        parts: impl Iterator<Item = (&'a str, SpecialTokens)>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let (mut ids, mut work) = (Vec::new(), Work::default());
        let mut run = Cow::Borrowed("");
        let mut total = 0_usize;
        for (text, special) in parts {
            total = total.saturating_add(text.len());
            if total > MAX_TEXT_BYTES {
                return Err(TokenizerError::TextTooLong { size: total, limit: MAX_TEXT_BYTES });
            }
            let mut rest = text;
            if special == SpecialTokens::Parse {
                rest = self.tables.special_matcher.split(text, |plain, id| {
                    join(&mut run, plain);
                    self.encode_plain(&std::mem::take(&mut run), &mut work, &mut ids);
                    ids.push(id);
                });
            }
            join(&mut run, rest);
        }
        self.encode_plain(&run, &mut work, &mut ids);
        Ok(ids)
    }

    fn encode_plain(&self, text: &str, work: &mut Work, ids: &mut Vec<u32>) {
        let rest = self.tables.user_matcher.split(text, |plain, id| {
            self.merge(plain, work, ids);
            ids.push(id);
        });
        self.merge(rest, work, ids);
    }

    fn merge(&self, text: &str, work: &mut Work, ids: &mut Vec<u32>) {
        let tables = &*self.tables;
        if text.is_empty() {
            return;
        }
        let mut text = Cow::Borrowed(text);
        if tables.space_prefix {
            text = Cow::Owned(format!(" {text}"));
        }
        if tables.escape_spaces {
            text = Cow::Owned(text.replace(' ', SPACE_PIECE));
        }
        let mut rest = &*text;
        while !rest.is_empty() {
            let (word, after) =
                rest.split_at(if tables.cut_at_spaces { first_cut(rest) } else { rest.len() });
            tables.bpe.encode(&tables.pieces, word, work, ids);
            rest = after;
        }
    }

    fn assemble(parts: Parts<'_>) -> Result<Self, TokenizerError> {
        let name = parts.name.clone();
        let merges = Merges::new(&name, &parts.merging, &parts.pieces)?;
        let bpe = Bpe::new(&parts, merges)?;
        let matcher = |wanted: fn(Kind) -> bool| Matcher::new(&name, &parts.pieces, wanted);
        let special_matcher = matcher(Kind::is_special)?;
        let user_matcher = matcher(|kind| kind == Kind::UserDefined)?;
        let tables = Tables {
            cut_at_spaces: parts.escape_spaces && may_cut_at_spaces(&parts.pieces),
            name,
            bpe,
            special_matcher,
            user_matcher,
            escape_spaces: parts.escape_spaces,
            space_prefix: parts.space_prefix,
            pieces: parts.pieces,
        };
        Ok(Self { tables: Arc::new(tables), special: parts.special })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("name", &self.tables.name)
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl Matcher {
    fn new(name: &str, pieces: &Pieces, wanted: fn(Kind) -> bool) -> Result<Self, TokenizerError> {
        let wanted = pieces.iter().filter(|(.., kind)| wanted(*kind));
        let (texts, ids): (Vec<_>, Vec<_>) = wanted.map(|(id, text, _)| (text, id)).unzip();
        if texts.is_empty() {
            return Ok(Self { automaton: None, ids });
        }
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).map_err(|error| {
                TokenizerError::Library {
                    name: name.to_owned(),
                    action: "index the special tokens",
                    detail: error.to_string(),
                }
            })?;
        Ok(Self { automaton: Some(automaton), ids })
    }

    /// Calls `token` with each match and the text before it; returns the text after the last.
    fn split<'text>(&self, text: &'text str, mut token: impl FnMut(&'text str, u32)) -> &'text str {
        let mut end = 0;
        if let Some(automaton) = &self.automaton {
            for found in automaton.find_iter(text) {
                token(&text[end..found.start()], self.ids[found.pattern().as_usize()]);
                end = found.end();
            }
        }
        &text[end..]
    }
}

fn invalid(name: &str, field: impl Into<String>, detail: impl Into<String>) -> TokenizerError {
    TokenizerError::Invalid { name: name.to_owned(), field: field.into(), detail: detail.into() }
}

fn within(name: &str, what: &'static str, size: usize, limit: usize) -> Result<(), TokenizerError> {
    if size > limit {
        return Err(TokenizerError::TooLarge { name: name.to_owned(), what, size, limit });
    }
    Ok(())
}

/// Whether merging never joins a run of spaces to what stands before it.
fn may_cut_at_spaces(pieces: &Pieces) -> bool {
    pieces.find(SPACE_PIECE).is_some() && pieces.iter().all(|(_, text, _)| first_cut(text) == text.len())
}

/// Where the first run of spaces begins that has something else before it.
fn first_cut(text: &str) -> usize {
    let mut after_other = false;
    for (at, character) in text.char_indices() {
        let space = character == '\u{2581}';
        if space && after_other {
            return at;
        }
        after_other = !space;
    }
    text.len()
}

fn join<'text>(run: &mut Cow<'text, str>, text: &'text str) {
    if run.is_empty() {
        *run = Cow::Borrowed(text);
    } else if !text.is_empty() {
        run.to_mut().push_str(text);
    }
}
