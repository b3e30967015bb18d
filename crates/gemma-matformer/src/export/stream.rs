//! Writing: rows in order, a few megabytes at a time, made by several threads; begun, continued, finished.
//!
//! The file grows under another name and gets its own when it is whole. What is written is a function of the export
//! alone, so that a file that was continued is the file that would have been written at once.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::journal::{Journal, hash};
use super::tensor::{Distance, Scratch, TensorPlan};
use super::{Export, ExportError};
use crate::Checkpoint;

/// Values that a thread makes at a time.
const PIECE_VALUES: usize = 1 << 20;
/// Bytes between two states of the journal, each of which waits for the disk.
const JOURNAL_BYTES: u64 = 256 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What the weights were read from; none for weights made in memory.
    pub source: Option<&'a Checkpoint>,
    /// Threads that make rows.
    pub threads: usize,
    /// Throws away what an earlier run has begun.
    pub restart: bool,
    /// Replaces a file of the same name.
    pub force: bool,
    /// Compares what is stored with the source.
    pub measure: bool,
}

/// How far writing is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes of the file that are written.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
    /// The tensor in work.
    pub tensor: &'a str,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Bytes that an earlier run had written.
    pub resumed_at: u64,
    /// For each tensor how far its stored values are from the source; nothing where it was not measured or not
    /// converted, and only of the rows of this run.
    pub distances: Vec<Distance>,
}

impl Export<'_> {
    /// Where the file grows until it is whole.
    pub fn partial_path(out: &Path) -> PathBuf {
        let mut name = out.as_os_str().to_owned();
        name.push(".partial");
        name.into()
    }

    /// Writes the file `out`, or goes on with it where an earlier run stopped. `progress` is called every few
    /// megabytes and says whether to go on.
    ///
    /// # Errors
    /// [`ExportError`]; unless the caller asks for a restart, what is there stays and can be continued.
    pub fn write(
        &self,
        out: &Path,
        run: Run<'_>,
        progress: &mut dyn FnMut(Progress<'_>) -> bool,
    ) -> Result<Written, ExportError> {
        let partial = Self::partial_path(out);
        let sources: Vec<PathBuf> =
            run.source.map(Checkpoint::files).unwrap_or_default().into_iter().map(|f| f.0).collect();
        check_target(out, &partial, &sources, run.force)?;
        let mut started = self.begin(&partial, &sources, run.restart)?;
        let io = |error| ExportError::Io { path: partial.clone(), error };
        let resumed_at = started.at;
        if resumed_at == 0 {
            started.out.write_all(&self.header).map_err(io)?;
        }
        started.at = started.at.max(self.header.len() as u64);
        let mut distances = vec![Distance::default(); self.tensors.len()];
        for (index, distance) in distances.iter_mut().enumerate() {
            *distance = self.write_tensor(index, run, &mut started, progress)?;
        }
        started.out.flush().and_then(|()| started.out.get_ref().sync_all()).map_err(io)?;
        fs::rename(&partial, out).map_err(|error| ExportError::Io { path: out.to_owned(), error })?;
        // The file is there and whole; a journal that cannot be removed is of no consequence.
        let _ = fs::remove_file(Journal::path(&partial));
        Ok(Written { resumed_at, distances })
    }

    /// Opens the started file behind the last whole row that is safely there.
    fn begin(&self, partial: &Path, sources: &[PathBuf], restart: bool) -> Result<Started, ExportError> {
        let io = |error| ExportError::Io { path: partial.to_owned(), error };
        let fresh = Journal::new(sources, hash(self.options, &self.header))?;
        let known = if restart { None } else { Journal::read(partial)? };
        let mut open = OpenOptions::new();
        let mut file = open.read(true).write(true).create(true).truncate(false).open(partial).map_err(io)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(ExportError::Busy(partial.to_owned())),
            // A file system without locks cannot tell; that is no reason not to write.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let there = file.metadata().map_err(io)?.len();
        let at = match &known {
            Some(known) => {
                known.continues(&fresh, partial)?;
                self.last_row(known.safe(&fresh, there))
            }
            None if there > 0 && !restart => {
                let problem = "its journal is missing".to_owned();
                return Err(ExportError::Journal { partial: partial.to_owned(), problem });
            }
            None => 0,
        };
        let mut journal = fresh;
        journal.done = at;
        journal.write(partial)?;
        file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at))).map_err(io)?;
        Ok(Started { out: BufWriter::with_capacity(1 << 20, file), at, journal, partial: partial.to_owned() })
    }

    /// The last place up to `byte` where a row or a tensor begins; 0 inside of the header.
    fn last_row(&self, byte: u64) -> u64 {
        let Some(index) = self.starts[..self.tensors.len()].iter().rposition(|start| *start <= byte) else {
            return 0;
        };
        let row = self.tensors[index].row_bytes() as u64;
        let into = byte - self.starts[index];
        if into >= self.tensors[index].bytes() {
            // The padding behind the tensor is written with its last row.
            let last = self.starts[index] + self.tensors[index].bytes() - row;
            return if byte >= self.starts[index + 1] { self.starts[index + 1] } else { last };
        }
        self.starts[index] + into / row * row
    }

    fn write_tensor(
        &self,
        index: usize,
        run: Run<'_>,
        started: &mut Started,
        progress: &mut dyn FnMut(Progress<'_>) -> bool,
    ) -> Result<Distance, ExportError> {
        let tensor = &self.tensors[index];
        let mut total = Distance::default();
        if started.at >= self.starts[index + 1] {
            return Ok(total);
        }
        let mut first = ((started.at - self.starts[index]) / tensor.row_bytes() as u64) as usize;
        let mut bytes = Vec::new();
        while first < tensor.rows() {
            if let Some(source) = run.source {
                source.still_whole()?;
            }
            let rows = first..tensor.rows().min(first + rows_at_once(tensor, run.threads));
            total = total.and(make_rows(tensor, rows.clone(), run.threads, run.measure, &mut bytes));
            if total.lost > 0 {
                let (partial, tensor) = (started.partial.clone(), tensor.name.clone());
                return Err(ExportError::NotFinite { partial, tensor });
            }
            if rows.end == tensor.rows() {
                let padding = self.starts[index + 1] - self.starts[index] - tensor.bytes();
                bytes.resize(bytes.len() + padding as usize, 0);
            }
            started.put(&bytes)?;
            if let Some(source) = run.source {
                tensor.stored(&rows).into_iter().for_each(|(weight, rows)| source.release(weight, rows));
            }
            first = rows.end;
            let state = Progress { done: started.at, total: self.bytes(), tensor: &tensor.name };
            if !progress(state) {
                started.save()?;
                let (partial, done) = (started.partial.clone(), started.at);
                return Err(ExportError::Stopped { partial, done, total: self.bytes() });
            }
        }
        Ok(total)
    }
}

/// A file that grows.
struct Started {
    out: BufWriter<File>,
    /// Bytes written.
    at: u64,
    journal: Journal,
    partial: PathBuf,
}

impl Started {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.out.write_all(bytes).map_err(|error| ExportError::Io { path: self.partial.clone(), error })?;
        self.at += bytes.len() as u64;
        if self.at - self.journal.done >= JOURNAL_BYTES { self.save() } else { Ok(()) }
    }

    /// Notes what is written, once it has reached the disk.
    fn save(&mut self) -> Result<(), ExportError> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().sync_data());
        synced.map_err(|error| ExportError::Io { path: self.partial.clone(), error })?;
        self.journal.done = self.at;
        self.journal.write(&self.partial)
    }
}

fn check_target(out: &Path, partial: &Path, sources: &[PathBuf], force: bool) -> Result<(), ExportError> {
    for target in [out, partial] {
        let Ok(there) = fs::canonicalize(target) else { continue };
        if sources.iter().any(|source| fs::canonicalize(source).is_ok_and(|source| source == there)) {
            return Err(ExportError::OntoItself(target.to_owned()));
        }
    }
    if fs::symlink_metadata(out).is_ok_and(|there| there.is_dir() || !force) {
        return Err(ExportError::Exists(out.to_owned()));
    }
    Ok(())
}

/// Rows that `threads` threads make together before they are written.
fn rows_at_once(tensor: &TensorPlan<'_>, threads: usize) -> usize {
    (PIECE_VALUES / tensor.columns().max(1)).max(1) * threads.max(1)
}

/// Puts `rows` into `bytes`.
fn make_rows(
    tensor: &TensorPlan<'_>,
    rows: Range<usize>,
    threads: usize,
    measure: bool,
    bytes: &mut Vec<u8>,
) -> Distance {
    let row_bytes = tensor.row_bytes();
    bytes.clear();
    bytes.resize(rows.len() * row_bytes, 0);
    let share = rows.len().div_ceil(threads.max(1));
    let make = |first: usize, out: &mut [u8]| {
        let mut scratch = Scratch::default();
        let rows = out.chunks_exact_mut(row_bytes).enumerate();
        rows.map(|(row, out)| tensor.write_row(first + row, out, &mut scratch, measure))
            .fold(Distance::default(), Distance::and)
    };
    if share * tensor.columns() < PIECE_VALUES / 16 || threads <= 1 {
        return make(rows.start, bytes);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = bytes
            .chunks_mut(share * row_bytes)
            .enumerate()
            .map(|(index, out)| scope.spawn(move || make(rows.start + index * share, out)))
            .collect();
        let distances = workers.into_iter().map(|worker| match worker.join() {
            Ok(distance) => distance,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        distances.fold(Distance::default(), Distance::and)
    })
}

/// The whole file, on one thread and without a journal.
pub(super) fn write_all(export: &Export<'_>, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&export.header)?;
    let mut bytes = Vec::new();
    for (index, tensor) in export.tensors.iter().enumerate() {
        let mut first = 0;
        while first < tensor.rows() {
            let rows = first..tensor.rows().min(first + rows_at_once(tensor, 1));
            first = rows.end;
            make_rows(tensor, rows, 1, false, &mut bytes);
            out.write_all(&bytes)?;
        }
        let padding = export.starts[index + 1] - export.starts[index] - tensor.bytes();
        out.write_all(&vec![0; padding as usize])?;
    }
    out.flush()
}
