//! [`ExportError`]: why a file was not written, and what to do.

use std::io;
use std::path::PathBuf;

use crate::CheckpointError;

/// Why a file was not written. What is there of it stays beside its name, and the same command goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The operating system refuses.
    #[error("{}: {error}; {}", path.display(), remedy(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The source.
    #[error(transparent)]
    Source(#[from] CheckpointError),
    /// The new file would take the place of a file that it is made from.
    #[error("{}: is a file of the model that is read; choose another name for the new file", .0.display())]
    OntoItself(PathBuf),
    /// There is a file of that name.
    #[error("{}: is there already; choose another name, or --force to replace it", .0.display())]
    Exists(PathBuf),
    /// Another process writes the same file.
    #[error("{}: another process is writing it; wait for it to end", .0.display())]
    Busy(PathBuf),
    /// A rule matches no tensor.
    #[error("the rule {pattern:?} matches none of the {tensors} tensors; their names look like {example}")]
    RuleMatchesNothing {
        /// Its expression.
        pattern: String,
        /// Tensors of the file to be.
        tensors: usize,
        /// The name of one.
        example: String,
    },
    /// A started file was made from a source that has changed since.
    #[error(
        "{}: was begun from another state of {source_file}; --restart begins anew",
        partial.display()
    )]
    SourceChanged {
        /// The started file.
        partial: PathBuf,
        /// What has changed.
        source_file: String,
    },
    /// A started file was made with other options.
    #[error("{}: was begun with other options or another version of this program; --restart begins anew, or give the options of then", .0.display())]
    OtherOptions(PathBuf),
    /// A started file without its journal, or with one that cannot be read.
    #[error("{}: what is there of it cannot be continued: {problem}; --restart begins anew", partial.display())]
    Journal {
        /// The started file.
        partial: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The source has values that are no numbers.
    #[error("{tensor} holds NaN or infinite values; the weights are damaged, fetch them again and remove {}", partial.display())]
    NotFinite {
        /// The started file.
        partial: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The caller said stop.
    #[error("stopped; {} of {total} bytes are in {}, and the same command goes on from there", done, partial.display())]
    Stopped {
        /// The started file.
        partial: PathBuf,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the whole.
        total: u64,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, then the same command goes on from here"
        }
        io::ErrorKind::NotFound => "check that its folder is there",
        io::ErrorKind::PermissionDenied => "choose a folder that your user may write to",
        _ => "check the disk, then the same command goes on from here",
    }
}
