//! Builds the emulation: the kernels as C++ for this machine.
//!
//! Two programs come of it: `libgemma_kernels_emulated.so`, which is fast, and `checked`, a process that runs kernels on request under
//! AddressSanitizer and UndefinedBehaviorSanitizer and watches shared memory; the kernels with known faults of the tests are in
//! the second alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::compile::{files, hex};
use super::toolchain::Toolchain;

/// Kernels that are wrong on purpose.
const BROKEN: &str = "crates/gemma-hip-kernels/tests/broken";

const COMMON: [&str; 5] = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fPIC"];

/// For the library. Sums are not contracted, so that results do not depend on the host's processor.
const FAST: [&str; 4] = ["-O2", "-ffp-contract=off", "-fvisibility=hidden", "-DNDEBUG"];

/// For the process. Stacks are the fibres' own; copies of their frames, for uses after a return, would be made anew for each work-item.
const CHECKED: [&str; 7] = [
    "-O1",
    "-gline-tables-only",
    "-ffp-contract=off",
    "-DGEMMA_CHECKED",
    "-fsanitize=address,undefined",
    "-fsanitize-address-use-after-return=never",
    "-fno-sanitize-recover=all",
];

/// For the kernels of the process: each access to memory is reported. The compiler wants a kind of coverage with it.
const WATCHED: &str = "-fsanitize-coverage=func,trace-loads,trace-stores";

/// One source for one of the two.
struct Job {
    source: PathBuf,
    flags: Vec<&'static str>,
    object: PathBuf,
}

/// Builds both into `out`.
///
/// # Errors
/// When a source does not compile, with what the compiler says.
pub(super) fn build(root: &Path, out: &Path, tools: &Toolchain) -> anyhow::Result<()> {
    let sources = root.join(super::SOURCES);
    let objects = out.join("objects");
    fs::create_dir_all(&objects)?;
    let (kernels, broken) = (files(&sources, "hip")?, files(&root.join(BROKEN), "hip")?);
    let runtime = |name: &str| sources.join("emulation").join(name);
    let fast = [FAST.as_slice(), &[]].concat();
    let watched = [CHECKED.as_slice(), &[WATCHED]].concat();
    let mut library: Vec<_> = kernels.iter().map(|source| (source.clone(), fast.clone())).collect();
    library.extend(["block.cpp", "library.cpp"].map(|name| (runtime(name), fast.clone())));
    let mut process: Vec<_> =
        kernels.iter().chain(&broken).map(|source| (source.clone(), watched.clone())).collect();
    let parts = ["block.cpp", "library.cpp", "checks.cpp", "driver.cpp"];
    process.extend(parts.map(|name| (runtime(name), CHECKED.to_vec())));
    let headers = Headers::of(&sources, tools)?;
    let library = compile(&objects, "fast", library, &headers, &sources, tools)?;
    let process = compile(&objects, "checked", process, &headers, &sources, tools)?;
    link(&library, &["-shared", "-fPIC"], &out.join("libgemma_kernels_emulated.so"), tools)?;
    link(&process, &["-fsanitize=address,undefined"], &out.join("checked"), tools)?;
    println!("the emulation of {} sources in {}", kernels.len(), out.display());
    tidy_up(&objects, library.iter().chain(&process))
}

/// Hashes of what sources may include, and of the compiler.
struct Headers {
    /// Of the emulation's own.
    runtime: Sha256,
    /// Of kernels, which know one header of the emulation.
    kernel: Sha256,
}

impl Headers {
    fn of(sources: &Path, tools: &Toolchain) -> anyhow::Result<Self> {
        let start = Sha256::new_with_prefix(&tools.version);
        let (mut runtime, mut kernel) = (start.clone(), start);
        for header in files(&sources.join("emulation"), "h")? {
            runtime.update(fs::read(&header)?);
        }
        kernel.update(fs::read(sources.join("emulation").join("block.h"))?);
        for folder in [sources.to_owned(), sources.join("portable")] {
            for header in files(&folder, "h")? {
                kernel.update(header.strip_prefix(sources)?.as_os_str().as_encoded_bytes());
                kernel.update(fs::read(&header)?);
            }
        }
        Ok(Self { runtime, kernel })
    }
}

/// Compiles what is not there yet; objects are named after the hash of all they come from.
fn compile(
    out: &Path,
    kind: &str,
    sources: Vec<(PathBuf, Vec<&'static str>)>,
    headers: &Headers,
    include: &Path,
    tools: &Toolchain,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut jobs = Vec::new();
    for (source, flags) in sources {
        let is_kernel = source.extension().is_some_and(|ending| ending == "hip");
        let mut hash = if is_kernel { headers.kernel.clone() } else { headers.runtime.clone() };
        COMMON.iter().chain(&flags).for_each(|flag| hash.update(flag));
        hash.update(fs::read(&source).with_context(|| source.display().to_string())?);
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let object = out.join(format!("{stem}.{kind}.{}.o", &hex(&hash.finalize())[..16]));
        jobs.push(Job { source, flags, object });
    }
    let (next, errors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = job.run(include, tools) {
                        errors.lock().expect("no thread panics with it").push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let errors = errors.into_inner().expect("all threads have ended");
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    Ok(jobs.into_iter().map(|job| job.object).collect())
}

impl Job {
    fn run(&self, include: &Path, tools: &Toolchain) -> anyhow::Result<()> {
        if self.object.exists() {
            return Ok(());
        }
        let unfinished = self.object.with_extension("part");
        let compiled = Command::new(&tools.clang)
            .args(["-x", "c++", "-c"])
            .args(COMMON)
            .args(&self.flags)
            .arg("-iquote")
            .arg(include)
            .arg(&self.source)
            .arg("-o")
            .arg(&unfinished)
            .output()?;
        let what = self.source.display();
        ensure!(compiled.status.success(), "{what}:\n{}", String::from_utf8_lossy(&compiled.stderr));
        Ok(fs::rename(unfinished, &self.object)?)
    }
}

fn link(objects: &[PathBuf], flags: &[&str], out: &Path, tools: &Toolchain) -> anyhow::Result<()> {
    let linked = Command::new(&tools.clang)
        .args(["--driver-mode=g++", "-fuse-ld=lld"])
        .args(flags)
        .args(objects)
        .arg("-o")
        .arg(out)
        .output()?;
    ensure!(linked.status.success(), "{}:\n{}", out.display(), String::from_utf8_lossy(&linked.stderr));
    Ok(())
}

/// Removes objects of sources that are not like that any more.
fn tidy_up<'a>(folder: &Path, used: impl Iterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
    let used: BTreeSet<&PathBuf> = used.collect();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !used.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
