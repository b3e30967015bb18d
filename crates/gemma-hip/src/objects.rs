//! Finds the folder with the code objects of a GPU; what is in it is read by [`gemma_hip_kernels::images`].
//!
//! Who names a folder means that one and no other. Else it is one beside the program, as in a release, or above it, as in a workspace.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use gemma_hip_kernels::objects::{ARCHITECTURES, MANIFEST, folder};

/// The variable that names a folder of objects.
const VARIABLE: &str = "GEMMA_KERNELS";

/// Folders above the program that are looked at: a release has the objects beside it, a build of the workspace above it.
const FOLDERS_ABOVE: usize = 3;

/// The folder of objects: the given one, else the one that the environment names, else one beside the program or a few folders above.
///
/// # Errors
/// Where none has a manifest, with the places that were looked at.
pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf, String> {
    let named = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    // What somebody names is what they want, and nothing else.
    match given.map(Path::to_owned).or(named) {
        Some(place) => first(&[place]),
        None => first(&beside(&env::current_exe().unwrap_or_default())),
    }
}

/// Whether objects are built for an architecture.
///
/// # Errors
/// Says that they are not, and for which they are.
pub(crate) fn check_architecture(architecture: &str) -> Result<(), String> {
    if ARCHITECTURES.contains(&architecture) {
        return Ok(());
    }
    Err(format!("GPUs of architecture {architecture}: kernels are written for {}", ARCHITECTURES.join(", ")))
}

/// Where a program has its objects, nearest first. A link to it stands for the program itself.
fn beside(program: &Path) -> Vec<PathBuf> {
    let program = fs::canonicalize(program).unwrap_or_default();
    program.ancestors().skip(1).take(FOLDERS_ABOVE).map(folder).collect()
}

/// The first of these places that has a manifest.
fn first(places: &[PathBuf]) -> Result<PathBuf, String> {
    let found = places.iter().find(|place| place.join(MANIFEST).is_file());
    found.cloned().ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        format!(
            "no code objects of HIP kernels: a release has them in kernels/hip beside the program; else build them with \
             `cargo xtask build-kernels --hip`, or name their folder in {VARIABLE}. Looked for {MANIFEST} in {}",
            places.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `cargo xtask dist` packs them, and as a build of the workspace has them.
    #[test]
    fn a_program_finds_its_kernels_without_being_told() {
        for program in ["gemma", "debug/gemma", "debug/deps/gemma-0123"] {
            let top = tempfile::tempdir().unwrap();
            let top = fs::canonicalize(top.path()).unwrap();
            let (program, kernels) = (top.join("release").join(program), top.join("release/kernels/hip"));
            for folder in [program.parent().unwrap(), &kernels] {
                fs::create_dir_all(folder).unwrap();
            }
            fs::write(&program, "program").unwrap();
            assert!(first(&beside(&program)).is_err());
            fs::write(kernels.join(MANIFEST), "").unwrap();
            assert_eq!(first(&beside(&program)), Ok(kernels.clone()));
            #[cfg(unix)]
            {
                let link = top.join("gemma");
                std::os::unix::fs::symlink(&program, &link).unwrap();
                assert_eq!(first(&beside(&link)), Ok(kernels), "through a link on the path");
            }
        }
    }

    #[test]
    fn a_folder_that_is_named_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let problem = find(Some(folder.path())).unwrap_err();
        let place = folder.path().display().to_string();
        for words in [&*place, VARIABLE, "cargo xtask build-kernels --hip"] {
            assert!(problem.contains(words), "{problem}");
        }
        fs::write(folder.path().join(MANIFEST), "").unwrap();
        assert_eq!(find(Some(folder.path())), Ok(folder.path().to_owned()));
    }

    #[test]
    fn other_architectures_are_refused_by_name() {
        assert_eq!(check_architecture("gfx1103"), Ok(()));
        assert!(check_architecture("gfx1036").unwrap_err().contains("gfx1103"));
    }
}
