//! Where the program keeps its files for this user, by the XDG base directory specification, and writing there.
//!
//! Nothing here is needed to run: whoever asks goes on without when there is no folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A variable that says something.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where settings lie: `$XDG_CONFIG_HOME/gemma` or `~/.config/gemma`.
pub(crate) fn config() -> Option<PathBuf> {
    under("XDG_CONFIG_HOME", ".config")
}

/// Where lies what can be made again: `$XDG_CACHE_HOME/gemma` or `~/.cache/gemma`.
pub(crate) fn cache() -> Option<PathBuf> {
    under("XDG_CACHE_HOME", ".cache")
}

fn under(name: &str, of_home: &str) -> Option<PathBuf> {
    let base = variable(name).or_else(|| variable("HOME").map(|home| home.join(of_home)))?;
    // The specification: relative paths are not valid and to be ignored. They would lie in whatever folder is the current one.
    base.is_absolute().then(|| base.join("gemma"))
}

/// Writes a file whole or not at all, with its folder. Of two programs that write at once one wins.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}
