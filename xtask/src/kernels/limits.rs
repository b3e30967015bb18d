//! The committed figures: how many vector registers each kernel takes at most, and which compiler that was.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::manifest::Manifest;

/// What stands above the figures.
const HEAD: &str = "\
# The most vector registers that a kernel takes on any of the processors it is compiled for.
# Written by `cargo xtask build-kernels --hip`; with --check that fails where a kernel takes more. See docs/hip.md.
";

/// Figures by kernel.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Limits {
    pub(super) compiler: String,
    vgprs: BTreeMap<String, u64>,
}

impl Limits {
    /// The figures of these objects.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let mut vgprs = BTreeMap::new();
        for kernel in manifest.objects.iter().flat_map(|object| &object.kernels) {
            let most: &mut u64 = vgprs.entry(kernel.name.clone()).or_default();
            *most = kernel.vgprs.max(*most);
        }
        Self { compiler: manifest.compiler.clone(), vgprs }
    }

    /// Reads what [`Limits::text`] has written.
    ///
    /// # Errors
    /// For anything else.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// As a file.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}\ncompiler = {:?}\n\n[vgprs]\n", self.compiler);
        for (name, figure) in &self.vgprs {
            let _ = writeln!(text, "{name} = {figure}");
        }
        text
    }

    /// Where these objects are not within the figures.
    pub(super) fn compare(&self, manifest: &Manifest) -> Vec<String> {
        let now = Self::of(manifest);
        let meant = "if that is meant, run `cargo xtask build-kernels --hip`";
        let mut faults = Vec::new();
        for (name, vgprs) in &now.vgprs {
            match self.vgprs.get(name) {
                Some(most) if vgprs > most => {
                    faults.push(format!("{name}: {vgprs} vector registers, {most} are committed; {meant}"));
                }
                Some(_) => {}
                None => faults.push(format!("{name}: is new; {meant}")),
            }
        }
        let gone = self.vgprs.keys().filter(|name| !now.vgprs.contains_key(*name));
        faults.extend(gone.map(|name| format!("{name}: is not compiled any more; {meant}")));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Kernel, Object};
    use super::*;

    fn built(kernels: &[(&str, u64)]) -> Manifest {
        let kernel = |(name, vgprs): &(&str, u64)| Kernel {
            name: (*name).to_owned(),
            vgprs: *vgprs,
            ..Kernel::default()
        };
        let object = Object {
            file: String::new(),
            operation: String::new(),
            architecture: String::new(),
            source: String::new(),
            sha256: String::new(),
            kernels: kernels.iter().map(kernel).collect(),
        };
        Manifest { compiler: "clang".to_owned(), objects: vec![object], ..Manifest::default() }
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let manifest = built(&[("a", 40), ("a", 48), ("b", 24)]);
        let limits = Limits::parse(&Limits::of(&manifest).text()).unwrap();
        assert_eq!((&*limits.compiler, limits.vgprs["a"], limits.vgprs.len()), ("clang", 48, 2));
        assert!(limits.compare(&manifest).is_empty());
        for bad in ["", "compiler = \"1\"", "compiler = \"1\"\n[vgprs]\na = \"x\""] {
            assert!(Limits::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_registers_new_kernels_and_lost_ones_are_faults() {
        let limits = Limits::of(&built(&[("a", 48), ("b", 24)]));
        for (kernels, expected) in [
            (&[("a", 56), ("b", 24)][..], "56 vector registers, 48 are committed"),
            (&[("a", 40), ("b", 24), ("c", 8)], "c: is new"),
            (&[("a", 48)], "b: is not compiled any more"),
        ] {
            let faults = limits.compare(&built(kernels));
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
        }
    }
}
