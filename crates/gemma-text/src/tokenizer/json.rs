//! Hugging Face `tokenizer.json`, read into [`Parts`].
//!
//! The file is read with our own types and never handed to the library whole, because the library panics on
//! damaged merges and runs any regular expression it finds. What Gemma does not use is refused by name.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::merges::{Merge, Merging};
use super::pieces::{Kind, Pieces};
use super::{ALWAYS_SPECIAL, MAX_JSON_BYTES, Parts, SPACE_PIECE, SpecialIds, invalid, within};
use crate::TokenizerError;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: Model<'a>,
}

#[expect(clippy::struct_excessive_bools, reason = "the fields of the file")]
#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model<'a> {
    /// Files of 2019 leave it out.
    r#type: Option<String>,
    #[serde(borrow)]
    vocab: Vocab<'a>,
    #[serde(borrow)]
    merges: Vec<Joined<'a>>,
    unk_token: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// Pieces and ids in the order of the file, so that a piece given twice is noticed.
struct Vocab<'a>(Vec<(Text<'a>, u32)>);

/// A text of the file; copied only where the file has an escape in it.
struct Text<'a>(Cow<'a, str>);

/// A merge as the file has it.
enum Joined<'a> {
    Pair(Text<'a>, Text<'a>),
    Line(Text<'a>),
}

/// What the decoder does.
#[derive(Default)]
struct Decoding {
    unescape: bool,
    bytes: bool,
    strip: bool,
}

/// What the normaliser and pre-tokeniser do.
#[derive(Default)]
struct Encoding {
    escape: bool,
    prefix: bool,
}

pub(super) fn read<'a>(bytes: &'a [u8], name: &str) -> Result<Parts<'a>, TokenizerError> {
    within(name, "the size in bytes", bytes.len(), MAX_JSON_BYTES)?;
    let file: File<'_> = serde_json::from_slice(bytes)
        .map_err(|error| TokenizerError::Json { name: name.to_owned(), detail: error.to_string() })?;
    check_model(&file.model, name)?;
    let encoding = read_encoding(&file, name)?;
    let decoding = read_decoding(&file.decoder, name)?;
    if encoding.prefix != decoding.strip {
        let detail = "the normalizer and the decoder disagree on whether a text gets a space before it";
        return Err(invalid(name, "decoder", detail));
    }
    let pieces = read_pieces(&file, &decoding, name)?;
    let special = special_ids(&file, &pieces);
    let merges = file.model.merges.into_iter().enumerate().map(|(index, merge)| merge.split(index, name));
    Ok(Parts {
        name: name.to_owned(),
        merging: Merging::List(merges.collect::<Result<_, _>>()?),
        pieces,
        byte_fallback: file.model.byte_fallback,
        fuse_unknown: file.model.fuse_unk,
        escape_spaces: encoding.escape,
        space_prefix: encoding.prefix,
        special,
    })
}

fn check_model(model: &Model<'_>, name: &str) -> Result<(), TokenizerError> {
    let kind = model.r#type.as_deref().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(unsupported(name, "model.type", kind, "BPE"));
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unsupported(name, "model.dropout", "a random tokenizer", "null"));
    }
    if model.ignore_merges {
        return Err(unsupported(name, "model.ignore_merges", "true", "false"));
    }
    for (field, affix) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(name, field, affix, "null"));
        }
    }
    Ok(())
}

fn read_pieces(file: &File<'_>, decoding: &Decoding, name: &str) -> Result<Pieces, TokenizerError> {
    let entries = file.model.vocab.0.iter().map(|(piece, id)| (&*piece.0, *id, None));
    let added = file.added_tokens.iter().map(|token| (&*token.content, token.id, Some(token.special)));
    let mut pieces = Pieces::new(name, file.model.vocab.0.len());
    for (text, id, added) in entries.chain(added) {
        if let Some(before) = pieces.text(id)
            && (added.is_none() || before != text)
        {
            let detail = format!("is both {before:?} and {text:?}");
            return Err(invalid(name, format!("token {id}"), detail));
        }
        let kind = match added {
            _ if file.model.unk_token.as_deref() == Some(text) => Kind::Unknown,
            _ if ALWAYS_SPECIAL.contains(&text) => Kind::Control,
            Some(true) => Kind::Control,
            Some(false) => Kind::UserDefined,
            None if decoding.bytes => byte_piece(text).map_or(Kind::Normal, Kind::Byte),
            None => Kind::Normal,
        };
        pieces.set(id, text, kind, decoding.unescape)?;
    }
    for token in &file.added_tokens {
        for (field, set) in
            [("single_word", token.single_word), ("lstrip", token.lstrip), ("rstrip", token.rstrip)]
        {
            if set {
                let field = format!("added_tokens, {:?}, {field}", token.content);
                return Err(unsupported(name, field, "true", "false"));
            }
        }
    }
    pieces.index()?;
    Ok(pieces)
}

fn special_ids(file: &File<'_>, pieces: &Pieces) -> SpecialIds {
    let id = |text: &str| pieces.find(text).filter(|id| pieces.is_special(*id));
    let begins = file.post_processor.pointer("/single/0/SpecialToken/id").and_then(Value::as_str);
    let bos = begins.and_then(id);
    SpecialIds {
        bos: bos.or_else(|| id("<bos>")).or_else(|| id("<s>")),
        eos: id("<eos>").or_else(|| id("</s>")),
        unknown: file.model.unk_token.as_deref().and_then(id),
        pad: id("<pad>"),
        add_bos: bos.is_some(),
    }
}

fn read_encoding(file: &File<'_>, name: &str) -> Result<Encoding, TokenizerError> {
    let mut encoding = Encoding::default();
    for step in steps(&file.normalizer, "normalizers") {
        match kind_of(step) {
            "Replace" if replaces(step, " ", SPACE_PIECE) => encoding.escape = true,
            "Prepend" if step["prepend"] == SPACE_PIECE => encoding.prefix = true,
            _ => return Err(unsupported(name, "normalizer", summary(step), "Replace of a space by U+2581")),
        }
    }
    for step in steps(&file.pre_tokenizer, "pretokenizers") {
        match kind_of(step) {
            // The normaliser has left no space to split at.
            "Split" if encoding.escape && step["pattern"]["String"] == " " => {}
            "Metaspace" if step["replacement"] == SPACE_PIECE && step["split"] == Value::Bool(false) => {
                encoding.escape = true;
                match step["prepend_scheme"].as_str() {
                    Some("never") => {}
                    Some("always") => encoding.prefix = true,
                    _ => {
                        return Err(unsupported(
                            name,
                            "pre_tokenizer",
                            summary(step),
                            "prepend_scheme \"never\"",
                        ));
                    }
                }
            }
            _ => return Err(unsupported(name, "pre_tokenizer", summary(step), "no regular expression")),
        }
    }
    if encoding.prefix && !encoding.escape {
        return Err(invalid(name, "normalizer", "a space is prepended but spaces are not replaced"));
    }
    Ok(encoding)
}

fn read_decoding(decoder: &Value, name: &str) -> Result<Decoding, TokenizerError> {
    let mut decoding = Decoding::default();
    if decoder.is_null() {
        return Err(unsupported(name, "decoder", "null", "Replace, ByteFallback, Fuse"));
    }
    for step in steps(decoder, "decoders") {
        match kind_of(step) {
            "Replace" if replaces(step, SPACE_PIECE, " ") => decoding.unescape = true,
            "ByteFallback" => decoding.bytes = true,
            "Fuse" => {}
            "Strip" if step["content"] == " " && step["start"] == 1 && step["stop"] == 0 => {
                decoding.strip = true;
            }
            "Metaspace" if step["replacement"] == SPACE_PIECE => {
                decoding.unescape = true;
                decoding.strip = step["prepend_scheme"] != "never";
            }
            _ => return Err(unsupported(name, "decoder", summary(step), "Replace, ByteFallback, Fuse")),
        }
    }
    Ok(decoding)
}

/// The byte of `<0x0A>`; `None` for anything else, such as `<0x-1>`, which is text.
pub(super) fn byte_piece(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| plain)
}

fn steps<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value {
        Value::Null => Vec::new(),
        _ if kind_of(value) == "Sequence" => value[list].as_array().into_iter().flatten().collect(),
        single => vec![single],
    }
}

fn kind_of(step: &Value) -> &str {
    step["type"].as_str().unwrap_or("")
}

fn replaces(step: &Value, from: &str, to: &str) -> bool {
    step["pattern"]["String"] == from && step["content"] == to
}

/// The start of a step's JSON, for an error.
fn summary(step: &Value) -> String {
    const LENGTH: usize = 120;
    step.to_string().chars().take(LENGTH).collect()
}

fn unsupported(
    name: &str,
    field: impl Into<String>,
    found: impl Into<String>,
    expected: &'static str,
) -> TokenizerError {
    TokenizerError::Unsupported { name: name.to_owned(), field: field.into(), found: found.into(), expected }
}

impl<'a> Joined<'a> {
    fn split(self, index: usize, name: &str) -> Result<Merge<'a>, TokenizerError> {
        match self {
            Self::Pair(left, right) => Ok((left.0, right.0)),
            Self::Line(Text(Cow::Borrowed(line))) => split_merge(line, index, name),
            Self::Line(Text(Cow::Owned(line))) => {
                let (left, right) = split_merge(&line, index, name)?;
                Ok((left.into_owned().into(), right.into_owned().into()))
            }
        }
    }
}

/// The two pieces of a merge written as one line.
pub(super) fn split_merge<'a>(line: &'a str, index: usize, name: &str) -> Result<Merge<'a>, TokenizerError> {
    match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.into(), right.into())),
        _ => Err(invalid(name, format!("merge {index}"), format!("{line:?} is not two pieces"))),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters;

        impl<'de> Visitor<'de> for Characters {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Characters)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Joined<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Joined<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a merge: two pieces, or one text with a space between them")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> Result<Joined<'de>, E> {
                Ok(Joined::Line(Text(Cow::Borrowed(line))))
            }

            fn visit_str<E>(self, line: &str) -> Result<Joined<'de>, E> {
                Ok(Joined::Line(Text(Cow::Owned(line.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> Result<Joined<'de>, A::Error> {
                let mut piece = |index| {
                    let piece = pieces.next_element()?;
                    piece.ok_or_else(|| serde::de::Error::invalid_length(index, &self))
                };
                Ok(Joined::Pair(piece(0)?, piece(1)?))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Vocab<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map from pieces to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Vocab(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
