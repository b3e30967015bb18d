//! Makes what an NPU loads: objects of core kernels, then an xclbin and the instructions of a call for each design.
//!
//! What is of the same sources and tools and still there is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use gemma_hip_kernels::images::digest;
use gemma_npu_kernels::design::Design;
use gemma_npu_kernels::gemm::Gemm;
use gemma_npu_kernels::kernels::Product;
use gemma_npu_kernels::mlir;

use super::fingerprint;
use super::manifest::{File, Manifest};
use super::tools::{MlirAie, Peano, Tools};

/// How core kernels are compiled; the warnings are of aie_api's own headers.
const FLAGS: [&str; 10] = [
    "-O2",
    "-std=c++20",
    "--target=aie2-none-unknown-elf",
    // From this later versions of mlir-aie tell whether a core's stack is large enough.
    "-fstack-size-section",
    "-Wno-parentheses",
    "-Wno-attributes",
    "-Wno-macro-redefined",
    "-Wno-empty-body",
    "-Wno-missing-template-arg-list-after-template-kw",
    "-DNDEBUG",
];

/// Builds all into `out`, where the designs' texts are, as far as there are tools.
///
/// # Errors
/// When a tool fails, with what it says.
pub(super) fn build(
    sources: &Path,
    out: &Path,
    designs: &[(Gemm, Design)],
    tools: &Tools,
) -> anyhow::Result<Manifest> {
    let mut manifest = Manifest {
        peano: tools.peano.as_ref().map_or(String::new(), |peano| peano.version.clone()),
        mlir_aie: tools.mlir_aie.as_ref().map_or(String::new(), MlirAie::version),
        ..Manifest::default()
    };
    let products: Vec<Product> =
        Product::ALL.into_iter().filter(|of| designs.iter().any(|(gemm, _)| gemm.product == *of)).collect();
    let (Ok(peano), Ok(mlir_aie)) = (&tools.peano, &tools.mlir_aie) else {
        manifest.missing.extend(products.iter().map(|product| object(*product)));
        manifest.missing.extend(designs.iter().flat_map(|(_, design)| outputs(design)));
        return Ok(manifest);
    };
    let builder = Builder { sources, out, peano, mlir_aie, known: Manifest::read(out) };
    for product in products {
        manifest.files.push(builder.object(product)?);
    }
    for (gemm, design) in designs {
        let object = manifest.files.iter().find(|file| file.name == object(gemm.product));
        let object = object.map_or(String::new(), |file| file.sha256.clone());
        manifest.files.extend(builder.design(design, &object, &manifest.mlir_aie)?);
    }
    Ok(manifest)
}

/// The files of a folder with one of some endings, in order.
pub(super) fn files(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| {
        file.extension().and_then(|found| found.to_str()).is_some_and(|found| endings.contains(&found))
    });
    files.sort();
    Ok(files)
}

fn object(product: Product) -> String {
    format!("{}.o", product.source())
}

fn outputs(design: &Design) -> [String; 2] {
    [format!("{}.xclbin", design.name), format!("{}.insts.bin", design.name)]
}

struct Builder<'a> {
    sources: &'a Path,
    out: &'a Path,
    peano: &'a Peano,
    mlir_aie: &'a MlirAie,
    /// What is there from before.
    known: Manifest,
}

impl Builder<'_> {
    fn object(&self, product: Product) -> anyhow::Result<File> {
        let name = object(product);
        let source = self.sources.join(product.source()).with_extension("cc");
        let defines = product.defines(product.tile());
        let include = self.mlir_aie.root.join("include");
        let mut parts = vec![
            self.peano.version.clone().into_bytes(),
            FLAGS.concat().into_bytes(),
            defines.concat().into_bytes(),
            include.as_os_str().as_encoded_bytes().to_vec(),
            fs::read(&source).with_context(|| source.display().to_string())?,
        ];
        for header in files(self.sources, &["h"])? {
            parts.push(fs::read(header)?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let hash = fingerprint(&parts);
        if let Some(file) = self.kept(&name, &hash) {
            return Ok(file);
        }
        let mut command = Command::new(&self.peano.clang);
        command.args(FLAGS).args(defines).arg("-I").arg(include).arg("-c").arg(&source);
        command.arg("-o").arg(self.out.join(&name));
        run(&mut command, &name)?;
        self.made(name, hash)
    }

    /// `object` and `driver` are digests of what the design is linked with and compiled by.
    fn design(&self, design: &Design, object: &str, driver: &str) -> anyhow::Result<Vec<File>> {
        let names = outputs(design);
        let arguments = self.mlir_aie.arguments(&design.name, self.peano);
        let text = mlir::text(design);
        let parts = [text.as_str(), object, driver, &self.peano.version, &arguments.concat()];
        let hash = fingerprint(&parts.map(str::as_bytes));
        let kept: Vec<File> = names.iter().filter_map(|name| self.kept(name, &hash)).collect();
        if kept.len() == names.len() {
            return Ok(kept);
        }
        for name in &names {
            // Else a driver that makes nothing would go unnoticed.
            let path = self.out.join(name);
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        let environment = |name: &str| std::env::var_os(name);
        let mut command = self.mlir_aie.command(&environment);
        command.current_dir(self.out).env("PEANO_INSTALL_DIR", &self.peano.root).args(arguments);
        run(&mut command, &design.name)?;
        names.into_iter().map(|name| self.made(name, hash.clone())).collect()
    }

    fn kept(&self, name: &str, source: &str) -> Option<File> {
        let file = self.known.files.iter().find(|file| file.name == name && file.source == source)?;
        let bytes = fs::read(self.out.join(name)).ok()?;
        (digest(&bytes) == file.sha256).then(|| file.clone())
    }

    fn made(&self, name: String, source: String) -> anyhow::Result<File> {
        let bytes = fs::read(self.out.join(&name)).with_context(|| format!("{name} was not written"))?;
        ensure!(!bytes.is_empty(), "{name} is empty");
        Ok(File { name, source, sha256: digest(&bytes) })
    }
}

fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let ran = command.output().with_context(|| program.clone())?;
    ensure!(
        ran.status.success(),
        "{what}: {program}: {}\n{}{}",
        ran.status,
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(())
}
