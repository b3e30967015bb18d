//! The kernels of `kernels/hip`, built before a test runs them where they are not, or are older than their sources.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// What builds them.
const ARGUMENTS: [&str; 4] = ["xtask", "build-kernels", "--hip", "--check"];

/// The build folder that has them.
pub fn build_folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| found().filter(|folder| is_new(folder)).unwrap_or_else(build)).clone()
}

/// The build folder that this test was built in, if there are kernels.
fn found() -> Option<PathBuf> {
    let executable = std::env::current_exe().expect("a test is a file");
    executable.ancestors().find(|folder| folder.join("kernels").is_dir()).map(Path::to_owned)
}

/// Whether what is built is there and not older than what it comes from.
fn is_new(folder: &Path) -> bool {
    let age = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let kernels = folder.join("kernels");
    let built = ["hip/manifest.toml", "emulation/checked", "emulation/libgemma_kernels_emulated.so"]
        .map(|name| age(&kernels.join(name)));
    let Some(oldest) = built.into_iter().min().flatten() else { return false };
    let sources = workspace().join("kernels/hip");
    ["", "portable", "emulation"].iter().all(|folder| {
        let entries = fs::read_dir(sources.join(folder)).expect("the sources are there");
        let paths = entries.map(|entry| entry.expect("a folder can be read").path());
        let is_source = |path: &PathBuf| {
            path.extension().is_some_and(|ending| ending == "hip" || ending == "h" || ending == "cpp")
        };
        paths.filter(is_source).all(|path| age(&path).unwrap_or(SystemTime::UNIX_EPOCH) <= oldest)
    })
}

/// Builds what is not up to date, one test after the other. Sources that are newer without being others are left alone.
fn build() -> PathBuf {
    let lock = File::create(std::env::temp_dir().join("gemma-build-kernels.lock")).expect("a temporary file");
    lock.lock().expect("a lock");
    let output = Command::new(env!("CARGO")).args(ARGUMENTS).current_dir(workspace()).output();
    let output = output.expect("cargo is there, as it has built this test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {said}", ARGUMENTS.join(" "));
    found().unwrap_or_else(|| panic!("cargo {} has built for another folder: {said}", ARGUMENTS.join(" ")))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
