//! GGUF, versions 2 and 3, little-endian: header, metadata and tensor directory.
//!
//! Format: ggml's docs/gguf.md. Nothing is copied: a `Gguf` holds scalars and places in the file. Limits are
//! constants of this module; arithmetic on numbers from the file is done by `reader` alone.

mod config;
mod metadata;
mod reader;
mod tensors;
mod vocabulary;
pub mod write;

use std::collections::BTreeMap;

use gemma_hal::Storage;

use super::CheckpointError;

pub use metadata::{MAX_ARRAY, MAX_ARRAY_DEPTH};
pub use reader::MAX_STRING_BYTES;
pub use tensors::MAX_TENSORS;
pub use vocabulary::GgufVocabulary;

use metadata::{Kind, Value};
use reader::{Fault, Reader};
use tensors::TensorEntry;

/// Most metadata entries.
pub const MAX_ENTRIES: u64 = 65_536;
/// Longest key or tensor name, in bytes.
pub const MAX_NAME_BYTES: u64 = 65_535;
/// Largest alignment of tensors, in bytes.
pub const MAX_ALIGNMENT: u64 = 1 << 20;

const MAGIC: &[u8] = b"GGUF";
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// The header, metadata and tensor directory of a GGUF file.
#[derive(Debug)]
pub(crate) struct Gguf {
    storage: Storage,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorEntry>,
}

/// Whether the bytes start as a GGUF file does.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Gguf {
    pub(crate) fn parse(storage: &Storage) -> Result<Self, CheckpointError> {
        let fault =
            |Fault { at, problem }| CheckpointError::Gguf { file: storage.name().to_owned(), at, problem };
        let mut reader = Reader::new(storage.bytes());
        let (tensor_count, entry_count) = header(&mut reader).map_err(fault)?;
        let metadata = entries(&mut reader, entry_count).map_err(fault)?;
        let alignment = alignment(&reader, &metadata).map_err(fault)?;
        let tensors = tensors::directory(&mut reader, tensor_count, alignment, storage).map_err(fault)?;
        Ok(Self { storage: storage.clone(), metadata, tensors })
    }

    fn file(&self) -> &str {
        self.storage.name()
    }

    fn wrong<T>(&self, key: &str, wanted: &str) -> Result<T, CheckpointError> {
        Err(CheckpointError::GgufContent {
            file: self.file().to_owned(),
            problem: format!("{key} is not {wanted}"),
            remedy: "convert the model again",
        })
    }

    fn unsigned(&self, key: &str) -> Result<Option<u64>, CheckpointError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(*value)),
            Some(Value::Signed(value)) if *value >= 0 => Ok(Some(*value as u64)),
            Some(_) => self.wrong(key, "a count"),
        }
    }

    fn float(&self, key: &str) -> Result<Option<f32>, CheckpointError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(_) => self.wrong(key, "a number"),
        }
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, CheckpointError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => self.wrong(key, "true or false"),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, CheckpointError> {
        match self.metadata.get(key) {
            None => Ok(None),
            // Copied first: the file may change between the check and the use.
            Some(Value::String(place)) => {
                match String::from_utf8(self.storage.bytes()[place.clone()].to_vec()) {
                    Ok(text) => Ok(Some(text)),
                    Err(_) => self.wrong(key, "UTF-8"),
                }
            }
            Some(_) => self.wrong(key, "a text"),
        }
    }

    /// What the file says of the model beside its architecture.
    pub(crate) fn about(&self) -> Result<Vec<(String, String)>, CheckpointError> {
        let texts = self.metadata.iter().filter(|(key, value)| {
            key.starts_with("general.")
                && *key != config::keys::ARCHITECTURE
                && matches!(value, Value::String(_))
        });
        texts.map(|(key, _)| Ok((key.clone(), self.text(key)?.unwrap_or_default()))).collect()
    }

    /// The elements of an array, or the one value that stands in its place; `None` when the key is missing.
    fn list<T>(
        &self,
        key: &str,
        wanted: &str,
        element: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, CheckpointError> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let Value::Array { kind, count, place } = value else {
            return match element(value) {
                Some(one) => Ok(Some(vec![one])),
                None => self.wrong(key, wanted),
            };
        };
        let mut reader = Reader::within(self.storage.bytes(), place);
        let mut elements = Vec::new();
        for _ in 0..*count {
            // A failure here means that the file changed since it was parsed.
            match Value::read(&mut reader, *kind, 1).ok().and_then(|value| element(&value)) {
                Some(element) => elements.push(element),
                None => return self.wrong(key, wanted),
            }
        }
        Ok(Some(elements))
    }

    fn is_list(&self, key: &str) -> bool {
        matches!(self.metadata.get(key), Some(Value::Array { .. }))
    }
}

/// (tensors, metadata entries)
fn header(reader: &mut Reader<'_>) -> Result<(u64, u64), Fault> {
    if reader.clone().array::<4>()? != MAGIC {
        return reader.fail("the file does not start with GGUF");
    }
    reader.array::<4>()?;
    let start = reader.clone();
    match reader.u32()? {
        2 | 3 => {}
        0x0200_0000 | 0x0300_0000 => {
            return start.fail("a big-endian file; only little-endian ones are read");
        }
        other => return start.fail(format!("version {other}; versions 2 and 3 are read")),
    }
    let tensors = reader.count("tensors", MAX_TENSORS)?;
    let entries = reader.count("metadata entries", MAX_ENTRIES)?;
    Ok((tensors.0, entries.0))
}

fn entries(reader: &mut Reader<'_>, count: u64) -> Result<BTreeMap<String, Value>, Fault> {
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let start = reader.clone();
        let key = reader.string("a metadata key", MAX_NAME_BYTES)?;
        let kind = Kind::read(reader)?;
        let value = Value::read(reader, kind, 0)?;
        if entries.insert(key.clone(), value).is_some() {
            return start.fail(format!("the key {key:?} stands there twice"));
        }
    }
    Ok(entries)
}

fn alignment(reader: &Reader<'_>, metadata: &BTreeMap<String, Value>) -> Result<u64, Fault> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(value)) if value.is_power_of_two() && *value <= MAX_ALIGNMENT => Ok(*value),
        Some(Value::Unsigned(value)) => {
            reader.fail(format!("{ALIGNMENT_KEY} is {value}, not a power of two of at most {MAX_ALIGNMENT}"))
        }
        Some(_) => reader.fail(format!("{ALIGNMENT_KEY} is not a count")),
    }
}
