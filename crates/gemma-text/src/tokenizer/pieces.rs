//! The pieces of a vocabulary: all texts in one buffer, a record an id, and a table from text to id.
//!
//! A quarter of a million pieces are read at every start, so nothing here is allocated per piece.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

use super::{MAX_PIECE_BYTES, MAX_VOCABULARY, MAX_VOCABULARY_BYTES, SPACE_PIECE, invalid, within};
use crate::TokenizerError;

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte(u8),
}

impl Kind {
    pub(super) fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

/// Where a piece's text begins and ends in the buffers; lengths are at most [`MAX_PIECE_BYTES`].
#[derive(Clone, Copy)]
struct Record {
    text: u32,
    bytes: u32,
    text_length: u16,
    bytes_length: u16,
    kind: Kind,
}

/// Pieces by id; ids may have gaps.
pub(super) struct Pieces {
    name: String,
    records: Vec<Option<Record>>,
    /// All pieces as the vocabulary writes them, one behind the other.
    texts: String,
    /// All that pieces add to a decoded text.
    bytes: Vec<u8>,
    /// Bytes of the longest text.
    longest: usize,
    /// Ids by text; filled by [`Pieces::index`].
    ids: HashTable<u32>,
    /// Its seed is random, so that no file can be made to collide.
    hasher: RandomState,
}

impl Pieces {
    /// No pieces yet; `name` is used in errors.
    pub(super) fn new(name: &str, capacity: usize) -> Self {
        let capacity = capacity.min(MAX_VOCABULARY);
        Self {
            name: name.to_owned(),
            records: Vec::with_capacity(capacity),
            texts: String::with_capacity(8 * capacity),
            bytes: Vec::with_capacity(8 * capacity),
            longest: 0,
            ids: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    /// Sets the piece of `id`; one that is there already may only change its kind. With `unescape` U+2581 in it means a
    /// space.
    pub(super) fn set(
        &mut self,
        id: u32,
        text: &str,
        kind: Kind,
        unescape: bool,
    ) -> Result<(), TokenizerError> {
        let at = id as usize;
        within(&self.name, "the vocabulary's largest id plus one", at.saturating_add(1), MAX_VOCABULARY)?;
        within(&self.name, "the length of a piece in bytes", text.len(), MAX_PIECE_BYTES)?;
        if self.records.len() <= at {
            self.records.resize(at + 1, None);
        }
        let start = if let Some(record) = self.records[at] {
            record.text
        } else {
            let start = self.texts.len();
            self.texts.push_str(text);
            within(&self.name, "the length of all pieces in bytes", self.texts.len(), MAX_VOCABULARY_BYTES)?;
            start as u32
        };
        self.longest = self.longest.max(text.len());
        let bytes = self.bytes.len() as u32;
        match kind {
            Kind::Control | Kind::Unknown => {}
            Kind::Byte(byte) => self.bytes.push(byte),
            _ if unescape && text.contains(SPACE_PIECE) => {
                self.bytes.extend(text.replace(SPACE_PIECE, " ").as_bytes());
            }
            _ => self.bytes.extend(text.as_bytes()),
        }
        let bytes_length = (self.bytes.len() - bytes as usize) as u16;
        let text_length = text.len() as u16;
        self.records[at] = Some(Record { text: start, bytes, text_length, bytes_length, kind });
        Ok(())
    }

    /// Makes pieces findable by their texts; every one must be there once and say something.
    pub(super) fn index(&mut self) -> Result<(), TokenizerError> {
        let Self { name, records, texts, ids, hasher, .. } = self;
        let text = |record: &Record| &texts[record.text as usize..][..record.text_length as usize];
        let hash = |text: &str| hash(hasher, text);
        let text_of = |id: u32| records[id as usize].as_ref().map_or("", text);
        ids.reserve(records.len(), |id| hash(text_of(*id)));
        for (id, record) in records.iter().enumerate() {
            let Some(record) = record else { continue };
            let piece = text(record);
            if piece.is_empty() {
                return Err(invalid(name, format!("token {id}"), "the piece is empty"));
            }
            let entry = ids.entry(hash(piece), |first| text_of(*first) == piece, |id| hash(text_of(*id)));
            match entry {
                hashbrown::hash_table::Entry::Vacant(vacant) => vacant.insert(id as u32),
                hashbrown::hash_table::Entry::Occupied(first) => {
                    let detail = format!("the piece {piece:?} is also token {}", first.get());
                    return Err(invalid(name, format!("token {id}"), detail));
                }
            };
        }
        Ok(())
    }

    /// The largest id plus one.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// As the vocabulary writes it.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        let record = self.record(id)?;
        Some(&self.texts[record.text as usize..][..record.text_length as usize])
    }

    /// What it adds to a decoded text.
    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let record = self.record(id)?;
        Some(&self.bytes[record.bytes as usize..][..record.bytes_length as usize])
    }

    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.record(id).map(|record| record.kind)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.kind(id).is_some_and(Kind::is_special)
    }

    /// The id of a text, once [`Pieces::index`] has been called.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        let same = |record: &Record| {
            let range = record.text as usize..record.text as usize + usize::from(record.text_length);
            &self.texts.as_bytes()[range] == text.as_bytes()
        };
        self.ids.find(hash(&self.hasher, text), |id| self.record(*id).is_some_and(same)).copied()
    }

    /// Ids with their texts and kinds, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0..self.records.len() as u32).filter_map(|id| Some((id, self.text(id)?, self.kind(id)?)))
    }

    fn record(&self, id: u32) -> Option<&Record> {
        self.records.get(id as usize)?.as_ref()
    }
}

fn hash(hasher: &RandomState, text: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}
