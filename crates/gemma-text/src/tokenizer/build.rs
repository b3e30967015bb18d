//! Checks on what the file formats were read into, and the merge table of the library made from it.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};

use super::{
    Kind, MAX_MERGE_BYTES, MAX_MERGES, MAX_PIECE_BYTES, MAX_VOCABULARY, MAX_VOCABULARY_BYTES, Parts, Piece,
    SPACE_PIECE, first_cut, guarded, invalid, library, within,
};
use crate::TokenizerError;

pub(super) fn check_sizes(parts: &Parts) -> Result<(), TokenizerError> {
    let name = &parts.name;
    within(name, "the vocabulary's largest id plus one", parts.pieces.len(), MAX_VOCABULARY)?;
    within(name, "the number of merges", parts.merges.len(), MAX_MERGES)?;
    let lengths = || parts.pieces.iter().flatten().map(|piece| piece.text.len());
    within(name, "the length of a piece in bytes", lengths().max().unwrap_or(0), MAX_PIECE_BYTES)?;
    within(name, "the length of all pieces in bytes", lengths().sum(), MAX_VOCABULARY_BYTES)?;
    let merge_bytes = parts.merges.iter().map(|(left, right)| left.len() + right.len()).sum();
    within(name, "the length of all merges in bytes", merge_bytes, MAX_MERGE_BYTES)
}

/// Ids by piece; every piece must be there once and say something.
pub(super) fn index(parts: &Parts) -> Result<HashMap<Box<str>, u32>, TokenizerError> {
    let mut ids = HashMap::with_capacity(parts.pieces.len());
    for (id, piece) in parts.pieces.iter().enumerate() {
        let Some(piece) = piece else { continue };
        if piece.text.is_empty() {
            return Err(invalid(&parts.name, format!("token {id}"), "the piece is empty"));
        }
        if let Some(first) = ids.insert(piece.text.clone(), id as u32) {
            let detail = format!("the piece {:?} is also token {first}", piece.text);
            return Err(invalid(&parts.name, format!("token {id}"), detail));
        }
    }
    Ok(ids)
}

pub(super) fn build_bpe(
    parts: &Parts,
    all_merges: Vec<(String, String)>,
    ids: &HashMap<Box<str>, u32>,
) -> Result<BPE, TokenizerError> {
    let name = &parts.name;
    let special = |piece: &str| match ids.get(piece) {
        Some(id) => parts.pieces[*id as usize].as_ref().is_some_and(|piece| piece.kind.is_special()),
        None => false,
    };
    let mut merges = Vec::with_capacity(all_merges.len());
    for (index, (left, right)) in all_merges.into_iter().enumerate() {
        let whole = format!("{left}{right}");
        for piece in [&left, &right, &whole] {
            if !ids.contains_key(piece.as_str()) {
                return Err(TokenizerError::MergePiece { name: name.clone(), index, piece: piece.clone() });
            }
        }
        if ![&left, &right, &whole].iter().any(|piece| special(piece)) {
            merges.push((left, right));
        }
    }
    let mut builder = BpeBuilder::new().byte_fallback(parts.byte_fallback).fuse_unk(parts.fuse_unknown);
    let mut vocabulary = Vocab::new();
    let mut byte_tokens = 0;
    for (id, piece) in parts.pieces.iter().enumerate() {
        match piece {
            Some(Piece { kind: Kind::Byte(byte), .. }) => {
                byte_tokens += usize::from(vocabulary.insert(format!("<{byte:#04X}>"), id as u32).is_none());
            }
            // Plain text must not spell a special token; only the unknown token itself has to be known here.
            Some(piece) if !piece.kind.is_special() || parts.special.unknown == Some(id as u32) => {
                vocabulary.insert(String::from(&*piece.text), id as u32);
            }
            _ => {}
        }
    }
    if parts.byte_fallback && byte_tokens != 256 {
        let detail =
            format!("byte fallback needs the tokens <0x00> to <0xFF>; {} are missing", 256 - byte_tokens);
        return Err(invalid(name, "vocabulary", detail));
    }
    if let Some(unknown) = parts.special.unknown.and_then(|id| parts.pieces.get(id as usize)?.as_ref()) {
        builder = builder.unk_token(unknown.text.to_string());
    } else if !parts.byte_fallback {
        let detail = "there is neither byte fallback nor an unknown token, so characters would be lost";
        return Err(invalid(name, "vocabulary", detail));
    }
    // Texts are cut into words that rarely repeat exactly, and a cache would keep what users wrote in memory.
    builder = builder.cache_capacity(0).vocab_and_merges(vocabulary, merges);
    guarded(name, "build the merge table", || builder.build())?
        .map_err(|error| library(name, "build the merge table", error.to_string()))
}

/// Whether merging never joins a run of spaces to what stands before it.
pub(super) fn may_cut_at_spaces(parts: &Parts, ids: &HashMap<Box<str>, u32>) -> bool {
    ids.contains_key(SPACE_PIECE)
        && parts.pieces.iter().flatten().all(|piece| first_cut(&piece.text) == piece.text.len())
}
