//! `cargo xtask goldens`: remakes the files that the tests compare the model with.
//!
//! Runs xtask/python/goldens.py in a virtual environment of its own, with the versions of requirements.txt. Without
//! `--check` it replaces the committed files; with it, it compares them byte by byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

const GOLDENS: &str = "crates/gemma-matformer/tests/goldens";
const SCRIPTS: &str = "xtask/python";
/// Written by hand, not by the script.
const BY_HAND: &str = "README.md";

/// Makes the goldens of the repository at `root`, or compares them.
pub(crate) fn make(root: &Path, python: &str, check: bool) -> anyhow::Result<()> {
    let work = crate::build_folder(root).join("goldens");
    let (venv, out) =
        (crate::build_folder(root).join("goldens-venv"), if check { work } else { root.join(GOLDENS) });
    let own_python = venv.join("bin/python");
    if !own_python.is_file() {
        run(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
    }
    let scripts = root.join(SCRIPTS);
    let requirements = scripts.join("requirements.txt");
    run(Command::new(&own_python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(requirements))?;
    if check && out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    run(Command::new(&own_python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(scripts.join("goldens.py"))
        .arg("--out")
        .arg(&out))?;
    if check {
        let differences = compare(&root.join(GOLDENS), &out)?;
        ensure!(differences.is_empty(), "these goldens differ: {}", differences.join(", "));
        println!("the goldens are those that are committed");
    }
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?} did not start; is it installed?"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Files that are not the same in both folders, or in one of them only.
fn compare(left: &Path, right: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for folder in [left, right] {
        collect(folder, folder, &mut names)?;
    }
    names.remove(Path::new(BY_HAND));
    let same = |name: &PathBuf| matches!((fs::read(left.join(name)), fs::read(right.join(name))), (Ok(a), Ok(b)) if a == b);
    Ok(names.into_iter().filter(|name| !same(name)).map(|name| name.display().to_string()).collect())
}

fn collect(root: &Path, folder: &Path, names: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, names)?;
        } else {
            names.insert(path.strip_prefix(root)?.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for (side, name, text) in [
            ("a", "same", "1"),
            ("b", "same", "1"),
            ("a", "changed", "1"),
            ("b", "changed", "2"),
            ("a", "inner/gone", ""),
            ("b", "inner/new", ""),
            ("a", BY_HAND, ""),
        ] {
            let path = folder.path().join(side).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = compare(&folder.path().join("a"), &folder.path().join("b")).unwrap();
        assert_eq!(found, ["changed", "inner/gone", "inner/new"]);
    }
}
