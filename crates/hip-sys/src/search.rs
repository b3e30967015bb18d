//! Where the library may lie, in the order in which it is looked for. Looks at folders; loads nothing.
//!
//! ROCm up to 7.2 installs into `/opt/rocm-VERSION`, with a link `/opt/rocm`; ROCm 7.14 into `/opt/rocm/core-VERSION`.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names that the system's loader is asked for, newest first. The last one is what development packages add.
#[cfg(not(windows))]
const NAMES: &[&str] =
    &["libamdhip64.so.10", "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"];
#[cfg(windows)]
const NAMES: &[&str] = &["amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll"];

/// Folders of an installation that have libraries.
#[cfg(not(windows))]
const FOLDERS: &[&str] = &["lib", "lib64"];
#[cfg(windows)]
const FOLDERS: &[&str] = &["bin"];

/// Variables that name an installation, the more telling one first.
pub(crate) const VARIABLES: [&str; 2] = ["HIP_PATH", "ROCM_PATH"];

/// Where installations lie where no variable says so.
const INSTALLATIONS: &str = "/opt";

/// A place to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder that has no such library, or is not there.
    Empty(PathBuf),
    /// A file of that name.
    File(PathBuf),
    /// A name for the system's loader.
    Name(&'static str),
}

/// All places, in order: folders of installations, then bare names.
pub(crate) fn places() -> Vec<Place> {
    let named = VARIABLES.iter().filter_map(env::var_os).filter(|value| !value.is_empty()).map(PathBuf::from);
    let installations = named.chain(installations(Path::new(INSTALLATIONS)));
    let mut places: Vec<_> = installations.flat_map(|installation| look(&installation)).collect();
    places.extend(NAMES.iter().copied().map(Place::Name));
    places
}

/// `rocm`, which is the one that the system's owner chose, and what it has by version; then each `rocm-VERSION`. Newest first.
fn installations(root: &Path) -> Vec<PathBuf> {
    let chosen = root.join("rocm");
    let mut found = by_version(&chosen, "core-");
    found.insert(0, chosen);
    found.extend(by_version(root, "rocm-"));
    found
}

/// The libraries of an installation, newest first.
fn look(installation: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for folder in FOLDERS.iter().map(|folder| installation.join(folder)) {
        let versions = by_version(&folder, "libamdhip64.so.");
        let named = NAMES.iter().map(|name| folder.join(name)).filter(|path| path.is_file());
        let named: Vec<_> = named.filter(|path| !versions.contains(path)).collect();
        if versions.is_empty() && named.is_empty() {
            places.push(Place::Empty(folder));
        }
        places.extend(versions.into_iter().chain(named).map(Place::File));
    }
    places
}

/// Entries of a folder whose name is this and a version, newest first, the longer one of two that begin alike first.
fn by_version(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let version = |name: &str| -> Option<Vec<u32>> {
        name.strip_prefix(prefix)?.split('.').map(|part| part.parse().ok()).collect()
    };
    let mut versions: Vec<_> =
        entries.filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path()))).collect();
    versions.sort_by_key(|(version, _)| Reverse(version.clone()));
    versions.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("folder");
        for name in names {
            fs::create_dir_all(root.path().join(name)).expect("folder");
        }
        root
    }

    #[test]
    fn the_newest_installation_comes_first() {
        let root = folder(&[
            "rocm/core-7.14",
            "rocm/core-7.9",
            "rocm-5.7.1",
            "rocm-6.10.0",
            "rocm-6.9.2",
            "rocm-7.0.0",
            "rocm-docs",
            "cuda-12",
        ]);
        let found = installations(root.path());
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(root.path()).expect("inside")).collect();
        let expected = [
            "rocm",
            "rocm/core-7.14",
            "rocm/core-7.9",
            "rocm-7.0.0",
            "rocm-6.10.0",
            "rocm-6.9.2",
            "rocm-5.7.1",
        ];
        assert_eq!(names, expected.map(Path::new));
    }

    #[cfg(not(windows))]
    #[test]
    fn the_newest_library_of_an_installation_comes_first() {
        let root = folder(&["lib"]);
        let lib = root.path().join("lib");
        for name in
            ["libamdhip64.so", "libamdhip64.so.5", "libamdhip64.so.10", "libamdhip64.so.7", "libother.so.9"]
        {
            fs::write(lib.join(name), "").expect("file");
        }
        let file = |name: &str| Place::File(lib.join(name));
        let expected = [
            file("libamdhip64.so.10"),
            file("libamdhip64.so.7"),
            file("libamdhip64.so.5"),
            file("libamdhip64.so"),
            Place::Empty(root.path().join("lib64")),
        ];
        assert_eq!(look(root.path()), expected);
    }

    #[test]
    fn the_system_is_asked_last() {
        let found = places();
        let last: Vec<_> = NAMES.iter().copied().map(Place::Name).collect();
        assert_eq!(found[found.len() - NAMES.len()..], last);
    }
}
