//! The licences of the crates that become part of the program, as one text: each once, below the names of those that it is of.
//!
//! They are files beside the crates' manifests, where cargo keeps their sources. Where a package has none, its text is the standard one
//! of the licence that the manifest names, and the list says so. It judges no licence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// How names of such files begin, in capitals.
const BEGINNINGS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Standard texts, by the names that SPDX gives them.
const STANDARD: [(&str, &str); 4] = [
    ("Apache-2.0", include_str!("../../../LICENSE-APACHE")),
    ("BSD-3-Clause", include_str!("../../../assets/licences/BSD-3-Clause.txt")),
    ("MIT", include_str!("../../../assets/licences/MIT.txt")),
    ("MPL-2.0", include_str!("../../../assets/licences/MPL-2.0.txt")),
];

/// What cargo says of the workspace's crates and those they use; what is not needed here is left out.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    #[serde(default)]
    authors: Vec<String>,
    manifest_path: String,
}

impl Package {
    /// Of a package without a licence text, where it comes from, by its manifest.
    fn origin(&self) -> String {
        let place = self.repository.as_deref().unwrap_or("a place that it does not name");
        let authors = if self.authors.is_empty() {
            "names no authors".to_owned()
        } else {
            format!("names as authors {}", self.authors.join(", "))
        };
        format!("its package ships no licence text; its manifest {authors}; it comes from {place}")
    }
}

/// The licences of all crates of others that `program`, with its default features, has code of where it runs on `machine`.
///
/// # Errors
/// When cargo does not say what they are, or one has no licence, or neither a text nor a licence that there is a standard text of.
pub(super) fn text(root: &Path, program: &str, machine: &str) -> anyhow::Result<String> {
    let metadata =
        cargo(root, &["metadata", "--format-version", "1", "--locked", "--filter-platform", machine])?;
    let kinds = ["--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = cargo(
        root,
        &[&["tree", "--locked", "--package", program, "--target", machine][..], &kinds].concat(),
    )?;
    collect(&serde_json::from_slice(&metadata)?, &String::from_utf8(tree)?)
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = command.current_dir(root).args(arguments).output().context("cargo does not start")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {}: {}", arguments.join(" "), error.trim());
    Ok(output.stdout)
}

/// The licences of the crates of a tree, which has a name and `v` with a version in each line.
fn collect(metadata: &Metadata, tree: &str) -> anyhow::Result<String> {
    let crates = tree.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some((name, rest.split_whitespace().next()?))
    });
    let crates: BTreeSet<_> = crates.collect();
    let mut packages: Vec<_> = metadata.packages.iter().collect();
    packages.retain(|package| {
        let is_ours = metadata.workspace_members.contains(&package.id);
        !is_ours && crates.contains(&(&*package.name, &*package.version))
    });
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let (mut list, mut texts) = (String::new(), BTreeMap::<String, Vec<String>>::new());
    for package in &packages {
        let Package { name, version, license, manifest_path, .. } = package;
        let found = files(Path::new(manifest_path).parent().context("a manifest is in a folder")?)?;
        let said = license.as_deref().unwrap_or("see below");
        ensure!(license.is_some() || !found.is_empty(), "{name} {version} has no licence");
        let _ = writeln!(list, "{name} {version}: {said}");
        if found.is_empty() {
            let _ = writeln!(list, "    {}", package.origin());
            for (licence, text) in standard(said).with_context(|| format!("{name} {version}"))? {
                let of = format!("{name} {version} (standard text of {licence})");
                texts.entry(text.trim().to_owned()).or_default().push(of);
            }
        }
        for text in found {
            texts.entry(text).or_default().push(format!("{name} {version}"));
        }
    }
    // By who comes first, so that a change of one crate moves no others.
    let mut texts: Vec<_> = texts.into_iter().map(|(text, of)| (of, text)).collect();
    texts.sort();
    let mut all = format!(
        "The program is made of code of these {} crates, under the licences that they name, and with the texts below.\n\n{list}",
        packages.len()
    );
    for (of, text) in texts {
        let _ = write!(all, "\n{}\n{}\n\n{text}\n", "-".repeat(80), of.join(", "));
    }
    Ok(all)
}

/// The standard texts of all licences that are named in such an expression as `MIT OR Apache-2.0`.
fn standard(expression: &str) -> anyhow::Result<Vec<(&'static str, &'static str)>> {
    let words = expression.split(|c: char| c.is_whitespace() || "()/".contains(c));
    let names = words.filter(|word| !["", "OR", "AND", "WITH"].contains(word));
    let text = |name| {
        let found = STANDARD.into_iter().find(|(known, _)| *known == name);
        found.with_context(|| {
            format!("the package has no licence text, and there is no standard text of {name} here")
        })
    };
    names.map(text).collect()
}

/// The texts in a folder, in the order of their files' names.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        file.is_file() && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
    });
    files.sort();
    let text = |file: &std::path::PathBuf| {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        // The same text with other ends of lines is the same text.
        Ok(String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim().to_owned())
    };
    files.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A package in a folder, as cargo describes it.
    fn package(folder: &Path, name: &str, license: Option<&str>, text: Option<&str>) -> Value {
        let place = folder.join(name);
        fs::create_dir_all(place.join("licenses")).unwrap();
        if let Some(text) = text {
            fs::write(place.join("License-1.txt"), text).unwrap();
        }
        json!({"id": name, "name": name, "version": "1.0.0", "license": license, "manifest_path": place.join("Cargo.toml")})
    }

    #[test]
    fn what_is_part_of_the_program_is_named_and_each_text_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let crates = [
            ("app", ""),
            ("ours", ""),
            ("b", "MIT of b"),
            ("a", "Apache"),
            ("c", "Apache\r\n"),
            ("test", "GPL"),
        ];
        let package = |(name, text): (&str, &str)| {
            let license = (name != "b").then_some("X OR Y");
            package(folder.path(), name, license, Some(text))
        };
        let metadata = json!({"packages": crates.map(package), "workspace_members": ["app", "ours"]});
        let tree = "app v1.0.0 (path)\nours v1.0.0 (path)\nc v1.0.0\na v1.0.0 (proc-macro)\nb v1.0.0\na v1.0.0 (*)\ntest v2.0.0\n";
        let text = collect(&serde_json::from_value(metadata).unwrap(), tree).unwrap();
        let line = "-".repeat(80);
        let expected = format!(
            "The program is made of code of these 3 crates, under the licences that they name, and with the texts below.\n\n\
             a 1.0.0: X OR Y\nb 1.0.0: see below\nc 1.0.0: X OR Y\n\n{line}\na 1.0.0, c 1.0.0\n\nApache\n\n{line}\nb 1.0.0\n\nMIT of b\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_ships_no_text_has_the_standard_one_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut bare = package(folder.path(), "bare", Some("MPL-2.0 OR (MIT/Apache-2.0)"), None);
        let text = fs::read_to_string(crate::repository().unwrap().join("LICENSE-APACHE")).unwrap();
        let whole = package(folder.path(), "whole", Some("Apache-2.0"), Some(&text));
        let collect = |bare: &Value| {
            let metadata = json!({"packages": [bare, whole], "workspace_members": []});
            collect(&serde_json::from_value(metadata).unwrap(), "bare v1.0.0\nwhole v1.0.0\n")
        };
        let text = collect(&bare).unwrap();
        for words in [
            "bare 1.0.0: MPL-2.0 OR (MIT/Apache-2.0)\n    its package ships no licence text; its manifest names no authors; it comes from a \
             place that it does not name\nwhole 1.0.0: Apache-2.0\n\n",
            // The same text is there once.
            "\nbare 1.0.0 (standard text of Apache-2.0), whole 1.0.0\n\nApache License\n",
            "\nbare 1.0.0 (standard text of MIT)\n\nMIT License\n",
            "\nbare 1.0.0 (standard text of MPL-2.0)\n\nMozilla Public License Version 2.0\n",
        ] {
            assert!(text.contains(words), "{words}");
        }
        assert!(!text.contains("Redistribution and use"));
        bare["license"] = json!("BSD-3-Clause");
        bare["repository"] = json!("https://example.org/bare");
        bare["authors"] = json!(["One <one@example.org>", "Two"]);
        let text = collect(&bare).unwrap();
        let words = "; its manifest names as authors One <one@example.org>, Two; it comes from https://example.org/bare\n";
        assert!(text.contains(words) && text.contains("Redistribution and use"), "{text}");
        bare["license"] = json!("MIT OR Zlib");
        let problem = format!("{:#}", collect(&bare).unwrap_err());
        assert_eq!(
            problem,
            "bare 1.0.0: the package has no licence text, and there is no standard text of Zlib here"
        );
        bare["license"] = Value::Null;
        assert_eq!(collect(&bare).unwrap_err().to_string(), "bare 1.0.0 has no licence");
    }

    #[test]
    fn the_program_has_licences() {
        let text = text(crate::repository().unwrap(), "gemma-cli", super::super::program::MACHINE).unwrap();
        assert!(
            text.contains("\nclap 4.") && text.contains("Permission is hereby granted"),
            "{}",
            text.len()
        );
        assert!(!text.contains("\ngemma-") && !text.contains("\nassert_cmd "), "ours, or of the tests");
    }
}
