//! Byte pair encoding of a stretch of plain text: characters first, then the best merge again and again.
//!
//! A heap holds the merges that are possible, so a text of n characters takes O(n log n) time and O(n) memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::merges::{Merges, Pair};
use super::pieces::{Kind, Pieces};
use super::{Parts, invalid};
use crate::TokenizerError;

/// What merging needs beside the pieces.
pub(super) struct Bpe {
    merges: Merges,
    /// The tokens of ASCII characters, most of most texts; [`NONE`] for those without one.
    ascii: [u32; 128],
    /// The tokens of bytes, where characters without a piece become those.
    bytes: Option<Box<[u32; 256]>>,
    /// What a character without a piece becomes otherwise.
    unknown: Option<u32>,
    /// A run of unknown characters is one token.
    fuse_unknown: bool,
}

/// What one call works in; kept between words.
#[derive(Default)]
pub(super) struct Work {
    /// The pieces of all symbols one behind the other: the text, but for characters that became bytes.
    spelled: String,
    symbols: Vec<Symbol>,
    possible: BinaryHeap<Reverse<Candidate>>,
}

/// A piece in the text being merged; the neighbours are those that are left.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Where it begins in what is spelled.
    start: u32,
    end: u32,
    /// How many symbols it was at first; 0 once it is part of its left neighbour.
    count: u32,
    previous: u32,
    next: u32,
}

/// Ordered by priority, then from left to right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u64,
    /// The left symbol.
    at: u32,
    /// How many symbols both were at first. Since symbols only grow, two neighbours that begin where the candidate
    /// does and span as much are the two it was made of.
    count: u32,
}

const NONE: u32 = u32::MAX;

impl Bpe {
    pub(super) fn new(parts: &Parts<'_>, merges: Merges) -> Result<Self, TokenizerError> {
        let name = &parts.name;
        let bytes = if parts.byte_fallback { Some(byte_tokens(name, &parts.pieces)?) } else { None };
        let unknown = parts.special.unknown.filter(|id| parts.pieces.kind(*id).is_some());
        if unknown.is_none() && bytes.is_none() {
            let detail = "there is neither byte fallback nor an unknown token, so characters would be lost";
            return Err(invalid(name, "vocabulary", detail));
        }
        let mut bpe = Self { merges, ascii: [NONE; 128], bytes, unknown, fuse_unknown: parts.fuse_unknown };
        bpe.ascii = std::array::from_fn(|byte| {
            let character = char::from(byte as u8);
            bpe.character(&parts.pieces, character.encode_utf8(&mut [0; 4])).unwrap_or(NONE)
        });
        Ok(bpe)
    }

    /// The piece of a character, where it may come out of plain text: it must not spell a special token; only the
    /// unknown token itself may stand for itself.
    fn character(&self, pieces: &Pieces, character: &str) -> Option<u32> {
        pieces.find(character).filter(|id| !pieces.is_special(*id) || self.unknown == Some(*id))
    }

    /// Puts the tokens of `text` behind `ids`.
    pub(super) fn encode(&self, pieces: &Pieces, text: &str, work: &mut Work, ids: &mut Vec<u32>) {
        work.clear();
        self.spell(pieces, text, work);
        self.merge(pieces, work);
        ids.extend(work.symbols.iter().filter(|symbol| symbol.count > 0).map(|symbol| symbol.id));
    }

    /// A symbol for each character that is a piece, for each byte of the others, or for what is unknown.
    fn spell(&self, pieces: &Pieces, text: &str, work: &mut Work) {
        let mut after_unknown = false;
        for (at, character) in text.char_indices() {
            let ascii = self.ascii.get(character as usize).copied();
            let character = &text[at..at + character.len_utf8()];
            let known = match ascii {
                Some(id) => Some(id).filter(|id| *id != NONE),
                None => self.character(pieces, character),
            };
            if let Some(id) = known {
                work.push(id, character);
                after_unknown = false;
            } else if let Some(tokens) = &self.bytes {
                for byte in character.bytes() {
                    let id = tokens[usize::from(byte)];
                    work.push(id, pieces.text(id).unwrap_or_default());
                }
            } else if let Some(unknown) = self.unknown {
                if !(after_unknown && self.fuse_unknown) {
                    work.push(unknown, "");
                }
                after_unknown = true;
            }
        }
    }

    fn merge(&self, pieces: &Pieces, work: &mut Work) {
        for at in 1..work.symbols.len() as u32 {
            self.consider(pieces, work, at - 1, at);
        }
        while let Some(Reverse(Candidate { priority, at, count })) = work.possible.pop() {
            let left = work.symbols[at as usize];
            if left.count == 0 || left.next == NONE {
                continue;
            }
            let right = work.symbols[left.next as usize];
            if left.count + right.count != count {
                continue;
            }
            work.symbols[left.next as usize].count = 0;
            work.symbols[at as usize] =
                Symbol { id: Merges::whole(priority), end: right.end, count, next: right.next, ..left };
            if right.next != NONE {
                work.symbols[right.next as usize].previous = at;
                self.consider(pieces, work, at, right.next);
            }
            if left.previous != NONE {
                self.consider(pieces, work, left.previous, at);
            }
        }
    }

    /// Notes that two neighbours can be merged, where they can.
    fn consider(&self, pieces: &Pieces, work: &mut Work, at: u32, next: u32) {
        let (left, right) = (&work.symbols[at as usize], &work.symbols[next as usize]);
        let Some(whole) = pieces.find(&work.spelled[left.start as usize..right.end as usize]) else { return };
        let pair = Pair {
            left: left.id,
            right: right.id,
            left_bytes: (left.end - left.start) as usize,
            left_characters: left.count as usize,
            right_characters: right.count as usize,
        };
        if let Some(priority) = self.merges.priority(&pair, whole) {
            work.possible.push(Reverse(Candidate { priority, at, count: left.count + right.count }));
        }
    }
}

impl Work {
    fn clear(&mut self) {
        self.spelled.clear();
        self.symbols.clear();
        self.possible.clear();
    }

    fn push(&mut self, id: u32, piece: &str) {
        let at = self.symbols.len() as u32;
        if let Some(last) = self.symbols.last_mut() {
            last.next = at;
        }
        let start = self.spelled.len() as u32;
        self.spelled.push_str(piece);
        let end = self.spelled.len() as u32;
        self.symbols.push(Symbol { id, start, end, count: 1, previous: at.wrapping_sub(1), next: NONE });
    }
}

fn byte_tokens(name: &str, pieces: &Pieces) -> Result<Box<[u32; 256]>, TokenizerError> {
    let mut tokens = Box::new([NONE; 256]);
    for (id, _, kind) in pieces.iter() {
        if let Kind::Byte(byte) = kind {
            tokens[usize::from(byte)] = id;
        }
    }
    let missing = tokens.iter().filter(|id| **id == NONE).count();
    if missing > 0 {
        let detail = format!("byte fallback needs the tokens <0x00> to <0xFF>; {missing} are missing");
        return Err(invalid(name, "vocabulary", detail));
    }
    Ok(tokens)
}
