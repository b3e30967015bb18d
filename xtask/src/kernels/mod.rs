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

use anyhow::{Context as _, bail};

use limits::Limits;
use manifest::Manifest;
use toolchain::Toolchain;

/// The sources.
const SOURCES: &str = "kernels/hip";

/// The committed figures.
const LIMITS: &str = "kernels/hip/limits.toml";

/// The page with the table.
const PAGE: &str = "docs/hip.md";

/// Processors that objects are built for where none is named: all of RDNA 3 and 3.5 that kernels know.
pub(crate) const ARCHITECTURES: [&str; 6] =
    ["gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151"];

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
    let out = crate::build_folder(root).join("kernels");
    if options.hip || everything {
        code_objects(root, &out, &tools, options)?;
    }
    if options.emulation || options.hip || everything {
        emulation::build(root, &out.join("emulation"), &tools)?;
    }
    println!("done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn code_objects(root: &Path, out: &Path, tools: &Toolchain, options: &Options) -> anyhow::Result<()> {
    let folder = out.join("hip");
    let manifest = compile::build(&root.join(SOURCES), &folder, tools, &options.architectures)?;
    fs::write(folder.join(manifest::NAME), manifest.text())?;
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
        fs::write(&path, Limits::of(manifest).text())?;
        fs::write(&page, renewed)?;
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
