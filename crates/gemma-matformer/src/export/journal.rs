//! The journal beside a started file: what it is made from, and how much of it is safely on disk.
//!
//! It is replaced as a whole, never changed in place, so that it is always readable.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::ExportError;

/// Changes when files made by an older version must not be continued.
const VERSION: u32 = 1;
/// Bytes of a source's start that tell it from another: more than any header.
const HASHED_BYTES: u64 = 4 << 20;
/// Largest journal that is read.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    version: u32,
    sources: Vec<SourceState>,
    /// Hash of the header and of all else that decides the bytes.
    options: u64,
    /// Bytes that have reached the disk.
    pub(super) done: u64,
    /// Which start of the system it was written under, where that is known.
    boot: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SourceState {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970, as a text because JSON's numbers are too short.
    modified: String,
    /// Of the first bytes.
    hash: u64,
}

impl Journal {
    /// Of a file that is to be begun.
    pub(super) fn new(sources: &[PathBuf], options: u64) -> Result<Self, ExportError> {
        let sources = sources.iter().map(|path| SourceState::read(path)).collect::<Result<_, _>>()?;
        Ok(Self { version: VERSION, sources, options, done: 0, boot: boot_id() })
    }

    /// Where the journal of `partial` is.
    pub(super) fn path(partial: &Path) -> PathBuf {
        let mut name = partial.as_os_str().to_owned();
        name.push(".json");
        name.into()
    }

    /// The journal of `partial`, where there is one.
    pub(super) fn read(partial: &Path) -> Result<Option<Self>, ExportError> {
        let path = Self::path(partial);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| ExportError::Io { path: path.clone(), error })?,
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| ExportError::Io { path, error })?;
        let journal = serde_json::from_slice(&text);
        journal.map(Some).map_err(|error| ExportError::Journal {
            partial: partial.to_owned(),
            problem: format!("its journal is damaged ({error})"),
        })
    }

    /// Puts this in the place of what is on disk.
    pub(super) fn write(&self, partial: &Path) -> Result<(), ExportError> {
        let path = Self::path(partial);
        let fresh = path.with_extension("json.new");
        let text = serde_json::to_vec(self).expect("numbers and texts are JSON");
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| ExportError::Io { path: path.clone(), error })
    }

    /// Of `there` bytes that the started file has, those that can be relied on: all that were handed to the system,
    /// when it has not been started anew since, else those that had reached the disk.
    pub(super) fn safe(&self, now: &Self, there: u64) -> u64 {
        let same_boot = self.boot.is_some() && self.boot == now.boot;
        if same_boot { there } else { self.done.min(there) }
    }

    /// Whether a file begun with `self` may be continued where `now` would begin one.
    pub(super) fn continues(&self, now: &Self, partial: &Path) -> Result<(), ExportError> {
        if self.version == now.version && self.sources != now.sources {
            let changed = now.sources.iter().find(|state| !self.sources.contains(state));
            return Err(ExportError::SourceChanged {
                partial: partial.to_owned(),
                source_file: changed
                    .map_or_else(|| "the model".to_owned(), |state| state.path.display().to_string()),
            });
        }
        if (self.version, self.options) != (now.version, now.options) {
            return Err(ExportError::OtherOptions(partial.to_owned()));
        }
        Ok(())
    }
}

impl SourceState {
    fn read(path: &Path) -> Result<Self, ExportError> {
        let read = || {
            let path = fs::canonicalize(path)?;
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut start = Vec::new();
            file.take(HASHED_BYTES).read_to_end(&mut start)?;
            let modified = modified.as_nanos().to_string();
            Ok(Self { path, bytes: metadata.len(), modified, hash: hash(0, &start) })
        };
        read().map_err(|error| ExportError::Io { path: path.to_owned(), error })
    }
}

fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// FNV-1a of `bytes` behind what `before` is the hash of. It tells states of files apart; it protects from nobody.
pub(super) fn hash(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before ^ 0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
