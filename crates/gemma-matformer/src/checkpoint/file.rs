//! Files: mapped weights and small texts beside them.
//!
//! A weight file is mapped, never read: pages come in when a kernel touches them. This is the one place that maps.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gemma_hal::{Storage, Weight};
use memmap2::{Mmap, MmapOptions};

use super::CheckpointError;
use crate::bounded;

/// Largest tokenizer.json or index that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 256 << 20;

const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A weight file in memory, by its pages.
#[derive(Debug)]
pub(crate) struct MappedFile {
    pub(crate) path: PathBuf,
    pub(crate) storage: Storage,
    length: u64,
    file: File,
    map: SharedMap,
}

#[derive(Clone, Debug)]
struct SharedMap(Arc<Mmap>);

impl AsRef<[u8]> for SharedMap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = open(path)?;
        let failed = |error| io_error(path, error);
        // SAFETY: nothing here writes through the map. That the file stays as it is while it is open cannot be
        // enforced; SECURITY.md asks it of whoever keeps the file. So nothing relies on mapped bytes being the same
        // twice: texts are copied before they are checked to be UTF-8 and no `str` borrows from the map, a length
        // is checked whenever it is read, and tensors are plain numbers, of which every bit pattern is one. Reading past
        // a new end raises SIGBUS, which `Checkpoint::still_whole` lets the program foresee and report.
        let map = unsafe { MmapOptions::new().map(&file) }.map_err(failed)?;
        if map.starts_with(LFS_POINTER) {
            return Err(CheckpointError::LfsPointer(path.to_owned()));
        }
        let map = SharedMap(Arc::new(map));
        let storage = Storage::new(&path.display().to_string(), map.clone());
        Ok(Self { path: path.to_owned(), length: storage.len() as u64, storage, file, map })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Tells the system that `weight` is read a row here and a row there, so that it reads no pages ahead.
    pub(crate) fn advise_random(&self, weight: &Weight) {
        if weight.storage().same_as(&self.storage) {
            #[cfg(unix)]
            if let Err(error) =
                self.map.0.advise_range(memmap2::Advice::Random, weight.offset(), weight.span().len())
            {
                tracing::debug!(%error, "advice about the PLE table was refused; reads go on without it");
            }
        }
    }

    /// See [`super::Checkpoint::advise_sequential`].
    pub(crate) fn advise_sequential(&self) {
        #[cfg(unix)]
        if let Err(error) = self.map.0.advise(memmap2::Advice::Sequential) {
            tracing::debug!(%error, "advice about reading in order was refused; reads go on without it");
        }
    }

    /// See [`super::Checkpoint::release`].
    pub(crate) fn release(&self, weight: &Weight, rows: &Range<usize>) {
        if rows.is_empty() || !weight.storage().same_as(&self.storage) {
            return;
        }
        #[cfg(unix)]
        {
            let start = weight.offset() + rows.start * weight.row_stride();
            let bytes = (rows.len() - 1) * weight.row_stride() + weight.row_bytes();
            // SAFETY: the map is of a file, shared or private, and nothing is ever written through it, so pages that
            // are dropped come back from the file with the same bytes; no reference sees a difference.
            let dropped = unsafe {
                self.map.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, bytes)
            };
            if let Err(error) = dropped {
                tracing::debug!(%error, "advice about read pages was refused; they stay in memory");
            }
        }
    }

    pub(crate) fn still_whole(&self) -> Result<(), CheckpointError> {
        let now = self.file.metadata().map_err(|error| io_error(&self.path, error))?.len();
        if now >= self.length {
            return Ok(());
        }
        Err(CheckpointError::Shrunk { path: self.path.clone(), before: self.length, now })
    }
}

/// The whole of a small file.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    let file = open(path)?;
    let bytes = file.metadata().map_err(|error| io_error(path, error))?.len();
    let too_large = |bytes| CheckpointError::TooLarge { path: path.to_owned(), bytes, limit };
    if bytes > limit {
        return Err(too_large(bytes));
    }
    // The file may have grown since, or may not have told its length.
    let text = bounded::read(file, limit).map_err(|error| io_error(path, error))?;
    let text = text.ok_or_else(|| too_large(limit.saturating_add(1)))?;
    if text.starts_with(LFS_POINTER) {
        return Err(CheckpointError::LfsPointer(path.to_owned()));
    }
    Ok(text)
}

/// As [`read_text`] with the limit for tokenizers and indexes.
pub(crate) fn read_large_text(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    read_text(path, MAX_TEXT_BYTES)
}

pub(crate) fn io_error(path: &Path, error: io::Error) -> CheckpointError {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "allow your user to read it (chmod u+r, or change its owner)",
        _ => "check the disk and the path",
    };
    CheckpointError::Io { path: path.to_owned(), error, remedy }
}

fn open(path: &Path) -> Result<File, CheckpointError> {
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    if metadata.is_dir() {
        return Err(CheckpointError::Directory(path.to_owned()));
    }
    Ok(file)
}
