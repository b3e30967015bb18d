//! The tokenizer arrays of a GGUF file, read into [`Parts`].
//!
//! SentencePiece files carry scores and no merges. The order of merging is then the one that transformers'
//! `generate_merges` derives: every cut of a piece into two, best score first, then the longer left part first.

use std::collections::HashMap;

use super::json::{self, byte_piece, split_merge};
use super::merges::{self, Merging, check_list};
use super::pieces::{Kind, Pieces};
use super::{ALWAYS_SPECIAL, MAX_MERGES, MAX_VOCABULARY, Parts, SPACE_PIECE, SpecialIds, invalid, within};
use crate::TokenizerError;

/// What a GGUF file says of its tokenizer (`tokenizer.ggml.*`, model `llama`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// Used in errors: the file.
    pub name: String,
    /// Pieces by id (`tokens`).
    pub tokens: Vec<String>,
    /// Priority of each piece, higher merges first (`scores`). Needed where there are no merges.
    pub scores: Option<Vec<f32>>,
    /// Two pieces with a space between, best first (`merges`). Derived from the scores where missing.
    pub merges: Option<Vec<String>>,
    /// ggml's numbers by id (`token_type`), see [`TokenType`]. All normal where empty.
    pub token_types: Vec<i32>,
    /// Beginning of text (`bos_token_id`).
    pub bos: Option<u32>,
    /// End of text (`eos_token_id`).
    pub eos: Option<u32>,
    /// Unknown character (`unknown_token_id`).
    pub unk: Option<u32>,
    /// Padding (`padding_token_id`).
    pub pad: Option<u32>,
    /// A prompt begins with `bos` (`add_bos_token`).
    pub add_bos: bool,
    /// A text gets a space before it (`add_space_prefix`); Gemma says no.
    pub add_space_prefix: bool,
}

/// ggml's kinds of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenType {
    /// A piece of text.
    Normal = 1,
    /// The unknown character.
    Unknown = 2,
    /// Never text.
    Control = 3,
    /// Text that is always one token.
    UserDefined = 4,
    /// Never made by merging.
    Unused = 5,
    /// One byte, `<0x00>` to `<0xFF>`.
    Byte = 6,
}

impl TokenType {
    /// The type with ggml's number.
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .into_iter()
            .find(|kind| *kind as i32 == number)
    }
}

impl Vocabulary {
    /// A Hugging Face `tokenizer.json` as the arrays of a GGUF file; `name` is used in errors.
    ///
    /// Scores put pieces in the order of their first merges, so that readers without merges join the same pairs. Ids
    /// that no piece has get an unused one.
    ///
    /// # Errors
    /// Those of [`crate::Tokenizer::from_json`].
    pub fn from_json(bytes: &[u8], name: &str) -> Result<Self, TokenizerError> {
        let parts = json::read(bytes, name)?;
        let Merging::List(list) = &parts.merging else { unreachable!("a tokenizer.json has a list") };
        check_list(name, list)?;
        let mut ranks: HashMap<String, usize> = HashMap::with_capacity(list.len());
        for (rank, (left, right)) in list.iter().enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }
        let count = parts.pieces.len();
        let (mut tokens, mut scores, mut types) =
            (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count));
        for id in 0..count {
            let piece = parts.pieces.text(id as u32).zip(parts.pieces.kind(id as u32));
            let kind = piece.map_or(TokenType::Unused, |(text, kind)| token_type(text, kind));
            let text = piece.map_or_else(|| format!("[PAD{id}]"), |(text, _)| text.to_owned());
            // What no merge makes comes behind all that merges make.
            let rank = ranks.get(&text).copied().unwrap_or(ranks.len() + id);
            scores.push(if kind == TokenType::Normal { -(rank as f32) } else { 0.0 });
            types.push(kind as i32);
            tokens.push(text);
        }
        let merges = list.iter().map(|(left, right)| format!("{left} {right}")).collect();
        Ok(Self {
            name: parts.name,
            tokens,
            scores: Some(scores),
            merges: Some(merges),
            token_types: types,
            bos: parts.special.bos,
            eos: parts.special.eos,
            unk: parts.special.unknown,
            pad: parts.special.pad,
            add_bos: parts.special.add_bos,
            add_space_prefix: parts.space_prefix,
        })
    }

    /// The merges that a reader derives from the scores where [`Vocabulary::merges`] has none, written as there.
    ///
    /// # Errors
    /// As [`crate::Tokenizer::from_vocabulary`].
    pub fn derived_merges(&self) -> Result<Vec<String>, TokenizerError> {
        merges::of_scores(&self.name, self.scores.as_deref().unwrap_or_default(), &read_pieces(self)?)
    }
}

fn token_type(text: &str, kind: Kind) -> TokenType {
    match kind {
        // A run of spaces is found by merging; readers take a user-defined piece for what it literally says.
        Kind::UserDefined if text.contains(SPACE_PIECE) => TokenType::Normal,
        Kind::Normal => TokenType::Normal,
        Kind::Unknown => TokenType::Unknown,
        Kind::Control => TokenType::Control,
        Kind::UserDefined => TokenType::UserDefined,
        Kind::Unused => TokenType::Unused,
        Kind::Byte(_) => TokenType::Byte,
    }
}

pub(super) fn read(vocabulary: &Vocabulary) -> Result<Parts<'_>, TokenizerError> {
    let name = &vocabulary.name;
    let count = vocabulary.tokens.len();
    within(name, "the vocabulary's largest id plus one", count, MAX_VOCABULARY)?;
    let types = vocabulary.token_types.len();
    if types != 0 && types != count {
        return Err(invalid(name, "token_type", format!("{types} types for {count} tokens")));
    }
    for (field, id) in [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("unknown_token_id", vocabulary.unk),
        ("padding_token_id", vocabulary.pad),
    ] {
        if let Some(id) = id.filter(|id| *id as usize >= count) {
            return Err(invalid(name, field, format!("{id} is outside the vocabulary of {count}")));
        }
    }
    let pieces = read_pieces(vocabulary)?;
    let merging = match &vocabulary.merges {
        Some(lines) => {
            within(name, "the number of merges", lines.len(), MAX_MERGES)?;
            let merges = lines.iter().enumerate().map(|(index, line)| split_merge(line, index, name));
            Merging::List(merges.collect::<Result<_, _>>()?)
        }
        None => Merging::Scores(vocabulary.scores.as_deref().unwrap_or_default()),
    };
    let has_bytes = pieces.iter().any(|(.., kind)| matches!(kind, Kind::Byte(_)));
    let first_unknown = || pieces.iter().find(|(.., kind)| *kind == Kind::Unknown).map(|(id, ..)| id);
    let unknown = vocabulary.unk.or_else(first_unknown);
    Ok(Parts {
        name: name.clone(),
        pieces,
        merging,
        byte_fallback: has_bytes,
        fuse_unknown: true,
        escape_spaces: true,
        space_prefix: vocabulary.add_space_prefix,
        special: SpecialIds {
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            unknown,
            pad: vocabulary.pad,
            add_bos: vocabulary.add_bos,
        },
    })
}

fn read_pieces(vocabulary: &Vocabulary) -> Result<Pieces, TokenizerError> {
    let name = &vocabulary.name;
    let roles = [vocabulary.bos, vocabulary.eos, vocabulary.pad];
    let mut pieces = Pieces::new(name, vocabulary.tokens.len());
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        let number = vocabulary.token_types.get(id).copied().unwrap_or(TokenType::Normal as i32);
        let kind = TokenType::from_number(number).ok_or_else(|| {
            invalid(name, format!("token_type {id}"), format!("{number} is not a type (1 to 6)"))
        })?;
        let kind = match kind {
            _ if vocabulary.unk == Some(id as u32) => Kind::Unknown,
            _ if roles.contains(&Some(id as u32)) || ALWAYS_SPECIAL.contains(&text.as_str()) => Kind::Control,
            TokenType::Normal => Kind::Normal,
            TokenType::Unknown => Kind::Unknown,
            TokenType::Control => Kind::Control,
            TokenType::UserDefined => Kind::UserDefined,
            TokenType::Unused => Kind::Unused,
            TokenType::Byte => Kind::Byte(byte_piece(text).ok_or_else(|| {
                let detail = format!("{text:?} is typed as a byte but is not <0x00> to <0xFF>");
                invalid(name, format!("token {id}"), detail)
            })?),
        };
        // User-defined pieces are written with the spaces they mean.
        pieces.set(id as u32, text, kind, kind != Kind::UserDefined)?;
    }
    pieces.index()?;
    Ok(pieces)
}
