//! Where the library may lie, in the order in which it is looked for. Looks at folders; loads nothing.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of the library, newest first. The last is what development packages add.
#[cfg(not(windows))]
const NAMES: [&str; 4] = ["libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"];
#[cfg(windows)]
const NAMES: [&str; 3] = ["amdhip64_7.dll", "amdhip64_6.dll", "amdhip64.dll"];

/// Folders of an installation that have libraries.
#[cfg(not(windows))]
const FOLDERS: [&str; 2] = ["lib", "lib64"];
#[cfg(windows)]
const FOLDERS: [&str; 1] = ["bin"];

/// Variables that name an installation, the more telling one first.
pub(crate) const VARIABLES: [&str; 2] = ["HIP_PATH", "ROCM_PATH"];

/// Where installations lie where no variable says so.
const INSTALLATIONS: &str = "/opt";

/// What may be the library, in order: files of installations, then bare names, which the system's loader looks for.
pub(crate) fn candidates() -> Vec<PathBuf> {
    let named = VARIABLES.iter().filter_map(env::var_os).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut candidates = files(named.chain(installations(Path::new(INSTALLATIONS))));
    candidates.extend(NAMES.map(PathBuf::from));
    candidates
}

/// `rocm`, which is the one that the system's owner chose, then each `rocm-VERSION`, newest first.
fn installations(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    let version = |name: &str| -> Option<Vec<u32>> {
        name.strip_prefix("rocm-")?.split(['.', '-']).map(|part| part.parse().ok()).collect()
    };
    let mut versions: Vec<_> =
        entries.filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path()))).collect();
    versions.sort_by_key(|(version, _)| Reverse(version.clone()));
    std::iter::once(root.join("rocm")).chain(versions.into_iter().map(|(_, path)| path)).collect()
}

/// Every file that an installation may keep the library in.
fn files(installations: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for installation in installations {
        for folder in FOLDERS {
            files.extend(NAMES.map(|name| installation.join(folder).join(name)));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_installation_comes_first() {
        let root = tempfile::tempdir().expect("folder");
        for name in ["rocm-5.7.1", "rocm-6.10.0", "rocm-6.9.2", "rocm-7.0.0", "rocm-docs", "cuda-12"] {
            fs::create_dir(root.path().join(name)).expect("folder");
        }
        let found = installations(root.path());
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["rocm", "rocm-7.0.0", "rocm-6.10.0", "rocm-6.9.2", "rocm-5.7.1"]);
    }

    #[test]
    fn an_installation_is_looked_through_newest_name_first() {
        let found = files([PathBuf::from("a")]);
        assert_eq!(found.len(), FOLDERS.len() * NAMES.len());
        assert_eq!(found[0], Path::new("a").join(FOLDERS[0]).join(NAMES[0]));
    }

    #[test]
    fn the_system_is_asked_last() {
        let found = candidates();
        assert_eq!(found[found.len() - NAMES.len()..], NAMES.map(PathBuf::from));
    }
}
