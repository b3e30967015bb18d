//! [`Manifest`]: what was made for the NPU and of what, as `manifest.toml` beside the files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The file's name.
pub(super) const NAME: &str = "manifest.toml";

/// All of a build.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The first line of what Peano says of itself; empty without it.
    #[serde(default)]
    pub(super) peano: String,
    /// A digest of mlir-aie's driver; empty without it.
    #[serde(default)]
    pub(super) mlir_aie: String,
    /// Files that were not made.
    #[serde(default)]
    pub(super) missing: Vec<String>,
    #[serde(rename = "file", default)]
    pub(super) files: Vec<File>,
}

/// A file that was made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    /// SHA-256 of all that it was made of: sources, tools and flags.
    pub(super) source: String,
    /// SHA-256 of the file.
    pub(super) sha256: String,
}

impl Manifest {
    /// The manifest of a folder; an empty one where there is none that can be read.
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join(NAME)).unwrap_or_default();
        toml::from_str(&text).unwrap_or_default()
    }

    /// As a file.
    pub(super) fn text(&self) -> String {
        let Self { peano, mlir_aie, missing, files } = self;
        let mut text = format!(
            "# Written by `cargo xtask build-kernels --aie`.\n\npeano = {peano:?}\nmlir_aie = {mlir_aie:?}\nmissing = {missing:?}\n"
        );
        for File { name, source, sha256 } in files {
            let _ = write!(text, "\n[[file]]\nname = {name:?}\nsource = {source:?}\nsha256 = {sha256:?}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let file =
            |name: &str| File { name: name.to_owned(), source: "a".to_owned(), sha256: "b".to_owned() };
        let manifest = Manifest {
            peano: "clang \"20\"".to_owned(),
            mlir_aie: String::new(),
            missing: vec!["x.xclbin".to_owned()],
            files: vec![file("k.o"), file("x.insts.bin")],
        };
        assert_eq!(toml::from_str::<Manifest>(&manifest.text()).unwrap(), manifest);
    }
}
