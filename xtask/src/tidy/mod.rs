//! `cargo xtask tidy`: the rules of the house as plain checks, run as a test as well.
//!
//! Layers and manifests are in `layers`, what one Rust file must keep to is in `rules`, what the documents promise in
//! `limits`. Tidy reads and reports; it never writes. What rustfmt and clippy find is left to them.

mod layers;
mod limits;
mod rules;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Folders of the repository that are looked into, beside the files at its root.
const ROOMS: [&str; 8] = ["crates", "xtask", "benches", "fuzz", "docs", "assets", "kernels", ".ci"];
/// Folders that hold no source.
const NO_SOURCE: [&str; 5] = ["target", "corpus", "seeds", "artifacts", "goldens"];
/// Files that are held to the size rules and to the layers.
const HOUSE: [&str; 3] = ["crates", "xtask", "benches"];

/// Where the limits on files from outside are promised.
const LIMITS: &str = "SECURITY.md";

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: PathBuf,
    /// Counted from 1.
    line: usize,
    rule: &'static str,
    /// What is there, and what to do.
    problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.file.display(), self.line, self.rule, self.problem)
    }
}

/// Checks the repository at `root`.
///
/// # Errors
/// When a rule is broken, after all findings were printed.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let (files, findings) = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {files} files keep to the rules of the house");
        return Ok(());
    }
    bail!("{} places break the rules of the house", findings.len())
}

/// The number of files that were read, and what was found in them.
fn check(root: &Path) -> anyhow::Result<(usize, Vec<Finding>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_file() && path.file_name().is_some_and(|name| name != ".git") {
            files.push(path);
        }
    }
    for room in ROOMS {
        walk(&root.join(room), &mut files)?;
    }
    let (mut read, mut findings) = (0, Vec::new());
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path);
        // What is not text, such as a model, is not source.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        read += 1;
        findings.extend(check_file(name, &text));
        if name == Path::new(LIMITS) {
            let source = |place: &str| fs::read_to_string(root.join(place)).ok();
            findings.extend(limits::check(name, &text, &source));
        }
    }
    findings.sort();
    Ok((read, findings))
}

fn check_file(name: &Path, text: &str) -> Vec<Finding> {
    let ending = name.extension().and_then(|ending| ending.to_str());
    let in_house = HOUSE.iter().any(|room| name.starts_with(room));
    match ending {
        Some("rs") => rules::check(name, text),
        Some("toml") if in_house && name.ends_with("Cargo.toml") => {
            let mut findings = layers::check(name, text);
            findings.extend(rules::machine_paths(name, text));
            findings
        }
        Some("lock") => Vec::new(),
        _ => rules::machine_paths(name, text),
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() {
            files.push(path);
        } else if !NO_SOURCE.contains(&&*name) && !name.starts_with('.') {
            walk(&path, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let (files, findings) = check(crate::repository().unwrap()).unwrap();
        assert!(files > 100, "only {files} files were read");
        let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(report.is_empty(), "{}", report.join("\n"));
    }

    #[test]
    fn each_kind_of_file_meets_its_rules() {
        for (name, text, rule) in [
            ("crates/a/src/lib.rs", "fn f() {}", Some("module-doc")),
            ("crates/a/Cargo.toml", "[", Some("manifest")),
            ("docs/a.md", concat!("cd /ho", "me/me/gemma"), Some("machine-path")),
            ("Cargo.toml", "[workspace]", None),
            ("Cargo.lock", concat!("/ho", "me/me/"), None),
        ] {
            let rules: Vec<_> =
                check_file(Path::new(name), text).iter().map(|finding| finding.rule).collect();
            assert_eq!(rules, Vec::from_iter(rule), "{name}");
        }
    }
}
