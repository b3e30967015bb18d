//! [`Manifest`]: what was built, as `manifest.toml` beside the objects, and what a kernel may not be.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use gemma_hip_kernels::objects::MANIFEST;
use serde::Deserialize;

/// All objects of a build.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Manifest {
    /// The first line of what the compiler says of itself.
    pub(super) compiler: String,
    /// SHA-256 of all sources and headers, by which programs tell whether objects are of theirs.
    #[serde(default)]
    pub(super) sources: String,
    #[serde(rename = "object", default)]
    pub(super) objects: Vec<Object>,
}

/// One code object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Object {
    pub(super) file: String,
    pub(super) operation: String,
    pub(super) architecture: String,
    /// SHA-256 of the source, all headers, the flags and the compiler's version.
    pub(super) source: String,
    /// SHA-256 of the object.
    pub(super) sha256: String,
    #[serde(rename = "kernel", default)]
    pub(super) kernels: Vec<Kernel>,
}

/// One kernel of an object; sizes are in bytes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) name: String,
    pub(super) vgprs: u64,
    pub(super) sgprs: u64,
    /// Registers of both kinds that did not fit.
    pub(super) spilled: u64,
    /// Memory of its own that a work-item needs.
    pub(super) scratch: u64,
    /// Shared memory of a block.
    pub(super) lds: u64,
    /// Work-items of a block.
    pub(super) threads: u64,
    /// Lanes of a wave.
    pub(super) wave: u64,
    /// The kernel's one argument.
    pub(super) arguments: u64,
    pub(super) code: u64,
    /// `v_dot4_i32_iu8` and `v_wmma_*` in its code.
    pub(super) dot4: u64,
    pub(super) wmma: u64,
}

impl Manifest {
    /// The manifest of a folder, if there is one that can be read.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        toml::from_str(&fs::read_to_string(folder.join(MANIFEST)).ok()?).ok()
    }

    /// As a file.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "# Written by `cargo xtask build-kernels`.\n\ncompiler = {:?}\nsources = {:?}\n",
            self.compiler, self.sources
        );
        for object in &self.objects {
            let Object { file, operation, architecture, source, sha256, kernels } = object;
            let _ = write!(
                text,
                "\n[[object]]\nfile = {file:?}\noperation = {operation:?}\narchitecture = {architecture:?}\n\
                 source = {source:?}\nsha256 = {sha256:?}\n"
            );
            for k in kernels {
                let _ = write!(
                    text,
                    "\n[[object.kernel]]\nname = {:?}\nvgprs = {}\nsgprs = {}\nspilled = {}\nscratch = {}\nlds = {}\n\
                     threads = {}\nwave = {}\nwaves = {}\narguments = {}\ncode = {}\ndot4 = {}\nwmma = {}\n",
                    k.name,
                    k.vgprs,
                    k.sgprs,
                    k.spilled,
                    k.scratch,
                    k.lds,
                    k.threads,
                    k.wave,
                    waves(&object.architecture, k.vgprs),
                    k.arguments,
                    k.code,
                    k.dot4,
                    k.wmma
                );
            }
        }
        text
    }

    /// What no kernel may have, and what it must.
    pub(super) fn faults(&self) -> Vec<String> {
        let all = self.objects.iter().flat_map(|object| object.kernels.iter().map(move |k| (object, k)));
        all.flat_map(|(object, kernel)| {
            kernel
                .faults()
                .into_iter()
                .map(|fault| format!("{} {}: {fault}", object.architecture, kernel.name))
        })
        .collect()
    }
}

impl Kernel {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.spilled > 0 {
            faults.push(format!("{} registers are spilled", self.spilled));
        }
        if self.scratch > 0 {
            faults.push(format!("a work-item needs {} bytes of scratch memory", self.scratch));
        }
        if self.wave != 32 {
            faults.push(format!("waves of {} lanes", self.wave));
        }
        let with_matrix_units = self.name.contains("wmma");
        if with_matrix_units && self.wmma == 0 {
            faults.push("has no v_wmma_*".to_owned());
        }
        if self.name.ends_with("_int8") && !with_matrix_units && self.dot4 == 0 {
            faults.push("has no v_dot4_i32_iu8".to_owned());
        }
        faults
    }
}

/// Waves of 32 lanes that a SIMD unit has registers for, at most 16. Processors with larger register files give out 24 at a time.
pub(super) fn waves(architecture: &str, vgprs: u64) -> u64 {
    let (all, unit) = match architecture {
        "gfx1100" | "gfx1101" | "gfx1151" => (1536, 24),
        _ => (1024, 16),
    };
    (all / vgprs.max(1).next_multiple_of(unit)).min(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let kernel = Kernel { name: "a".to_owned(), vgprs: 40, wave: 32, ..Kernel::default() };
        let object = Object {
            file: "op.gfx1103.co".to_owned(),
            operation: "op".to_owned(),
            architecture: "gfx1103".to_owned(),
            source: "00".to_owned(),
            sha256: "ff".to_owned(),
            kernels: vec![kernel],
        };
        let manifest =
            Manifest { compiler: "clang \"19\"".to_owned(), sources: "0a".to_owned(), objects: vec![object] };
        let folder = tempfile::tempdir().unwrap();
        assert!(Manifest::read(folder.path()).is_none());
        fs::write(folder.path().join(MANIFEST), manifest.text()).unwrap();
        let read = Manifest::read(folder.path()).unwrap();
        assert_eq!(read.text(), manifest.text());
        assert!(read.faults().is_empty());
    }

    #[test]
    fn faults_are_found() {
        let good = Kernel { name: "a".to_owned(), wave: 32, ..Kernel::default() };
        for (kernel, expected) in [
            (Kernel { spilled: 2, ..good.clone() }, "2 registers are spilled"),
            (Kernel { scratch: 16, ..good.clone() }, "16 bytes of scratch"),
            (Kernel { wave: 64, ..good.clone() }, "waves of 64"),
            (Kernel { name: "product_q4_0_int8".to_owned(), ..good.clone() }, "v_dot4_i32_iu8"),
            (Kernel { name: "gemm_wmma_q4_0_int8".to_owned(), dot4: 1, ..good.clone() }, "v_wmma_"),
        ] {
            let faults = kernel.faults();
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
        }
        assert!(good.faults().is_empty());
    }

    /// As `-Rpass-analysis=kernel-resource-usage` of clang 19 says.
    #[test]
    fn registers_limit_waves() {
        for (architecture, vgprs, expected) in [
            ("gfx1100", 88, 16),
            ("gfx1101", 100, 12),
            ("gfx1100", 183, 8),
            ("gfx1151", 103, 12),
            ("gfx1102", 63, 16),
            ("gfx1103", 88, 10),
            ("gfx1103", 104, 9),
            ("gfx1150", 176, 5),
            ("gfx1103", 0, 16),
        ] {
            assert_eq!(waves(architecture, vgprs), expected, "{architecture} {vgprs}");
        }
    }
}
