//! `cargo xtask build-kernels`: compiles `kernels/hip` to code objects for AMD GPUs, and to the emulation that stands in for one.
//!
//! It needs clang with the AMDGPU target and lld, not ROCm and no GPU. What it writes is under `target/kernels`; of the tree it
//! changes the committed figures and docs/hip.md, and with `--check` compares them instead. It runs no kernel.

mod compile;
mod emulation;
mod limits;
mod manifest;
mod object;
mod table;
mod toolchain;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use gemma_hip_kernels::images;
use gemma_hip_kernels::objects::{self, ARCHITECTURES, MANIFEST};

use limits::Limits;
use manifest::Manifest;
use toolchain::Toolchain;

/// The sources.
const SOURCES: &str = "kernels/hip";

/// The committed figures.
const LIMITS: &str = "kernels/hip/limits.toml";

/// The page with the table.
const PAGE: &str = "docs/hip.md";

/// What is asked for.
pub(crate) struct Options {
    pub(crate) hip: bool,
    pub(crate) emulation: bool,
    pub(crate) architectures: Vec<String>,
    pub(crate) check: bool,
}

/// Builds what is asked for; everything where nothing is.
///
/// # Errors
/// When a tool is missing, a kernel does not compile, or one is not what it must be.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    let everything = !options.hip && !options.emulation;
    let tools = Toolchain::find()?;
    let build = crate::build_folder(root);
    if options.hip || everything {
        code_objects(root, &build, &tools, options)?;
    }
    if options.emulation || options.hip || everything {
        emulation::build(root, &objects::emulation_folder(&build), &tools)?;
    }
    println!("done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The files that programs need of a build, by name: the manifest, and the objects of all processors.
///
/// # Errors
/// When one is missing or is not what it must be, and what to run.
pub(crate) fn built(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![MANIFEST.to_owned()];
    for architecture in ARCHITECTURES {
        // As programs read them.
        let images = images::read(folder, architecture).map_err(anyhow::Error::msg)?;
        names.extend(images.into_iter().map(|image| image.file));
    }
    let manifest = Manifest::read(folder);
    let faults = manifest.map_or_else(|| vec!["cannot be read".to_owned()], |manifest| manifest.faults());
    ensure!(
        faults.is_empty(),
        "{}: {}; see `cargo xtask build-kernels --hip`",
        folder.join(MANIFEST).display(),
        faults.join(", ")
    );
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).with_context(|| name.clone())?;
        Ok((name, bytes))
    };
    names.into_iter().map(read).collect()
}

fn code_objects(root: &Path, build: &Path, tools: &Toolchain, options: &Options) -> anyhow::Result<()> {
    let folder = objects::folder(build);
    let manifest = compile::build(&root.join(SOURCES), &folder, tools, &options.architectures)?;
    fs::write(folder.join(MANIFEST), manifest.text())?;
    print!("{}", table::all(&manifest));
    println!("{} in {}", table::summary(&manifest), folder.display());
    let mut faults = manifest.faults();
    // The figures are those of all processors.
    if options.architectures.iter().map(String::as_str).eq(ARCHITECTURES) {
        faults.extend(figures(root, &manifest, options.check)?);
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{} faults:\n{}", faults.len(), faults.join("\n"))
}

/// Writes the committed figures and the table, or compares them.
fn figures(root: &Path, manifest: &Manifest, check: bool) -> anyhow::Result<Vec<String>> {
    let (path, page) = (root.join(LIMITS), root.join(PAGE));
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let renewed = table::renew(&text, manifest)
        .with_context(|| format!("{PAGE} has lost the marks of its generated part"))?;
    if !check {
        renew(&path, &Limits::of(manifest).text())?;
        renew(&page, &renewed)?;
        return Ok(Vec::new());
    }
    let committed = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let committed = Limits::parse(&committed).with_context(|| path.display().to_string())?;
    if committed.compiler != manifest.compiler {
        println!("figures are those of {}, and not compared with this compiler's", committed.compiler);
        return Ok(Vec::new());
    }
    let mut faults = committed.compare(manifest);
    if renewed != text {
        faults.push(format!("{PAGE} is not what the kernels are now: run `cargo xtask build-kernels --hip`"));
    }
    Ok(faults)
}

/// Writes a file, unless it has this text: cargo builds anew what has a file in this folder that was written.
fn renew(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}
