//! Hashes the sources of the kernels, so that whoever loads objects can tell whether they are of the same sources.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The sources, from this crate on.
const SOURCES: &str = "../../kernels/hip";

/// Folders of them that code objects are made of.
const FOLDERS: [&str; 2] = ["", "portable"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut hash = Sha256::new();
    for folder in FOLDERS {
        let folder = Path::new(SOURCES).join(folder);
        println!("cargo:rerun-if-changed={}", folder.display());
        for file in sources(&folder)? {
            let text = fs::read(&file)?;
            hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
    }
    let mut digest = String::new();
    for byte in hash.finalize() {
        write!(digest, "{byte:02x}")?;
    }
    println!("cargo:rustc-env=GEMMA_HIP_SOURCES={digest}");
    Ok(())
}

/// Sources and headers of a folder, in order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "hip" || ending == "h"));
    files.sort();
    Ok(files)
}
