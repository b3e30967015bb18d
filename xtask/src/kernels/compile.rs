//! Compiles each source for each processor, several at a time, and only what has changed.
//!
//! The compiler is started in the folder of the sources with names relative to it, so that what it writes does not depend on
//! where that folder is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use gemma_hip_kernels::images;
use gemma_hip_kernels::objects::{SOURCES, file_name};
use sha2::{Digest as _, Sha256};

use super::manifest::{Manifest, Object};
use super::object;
use super::toolchain::{self, Toolchain};

/// How kernels are compiled. Without device libraries, and with all that a reader may be warned of.
const FLAGS: [&str; 14] = [
    "-x",
    "hip",
    "--cuda-device-only",
    "--no-gpu-bundle-output",
    "-nogpuinc",
    "-nogpulib",
    // What every runtime from 5.7 on takes; newer compilers have a newer one of their own.
    "-mcode-object-version=5",
    "-std=c++20",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fuse-cuid=none",
    "-Wno-unused-command-line-argument",
];

/// Builds `<operation>.<processor>.co` in `out` for every `<operation>.hip` of `sources`.
///
/// # Errors
/// When one does not compile, with what the compiler says.
pub(super) fn build(
    sources: &Path,
    out: &Path,
    tools: &Toolchain,
    architectures: &[String],
) -> anyhow::Result<Manifest> {
    fs::create_dir_all(out)?;
    let known = Manifest::read(out).unwrap_or_default();
    let headers = headers(sources)?;
    let mut jobs = Vec::new();
    for operation in operations(sources)? {
        for architecture in architectures {
            let source = hash(sources, &operation, &headers, tools)?;
            jobs.push(Job { operation: operation.clone(), architecture: architecture.clone(), source });
        }
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let built = job.kept(&known, out).map_or_else(|| job.build(sources, out, tools), Ok);
                    done.lock().expect("no thread panics with it").push(built);
                }
            });
        }
    });
    let done = done.into_inner().expect("all threads have ended");
    let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    let errors: Vec<String> =
        bad.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if !errors.is_empty() {
        bail!("{} of {} objects were not built:\n{}", errors.len(), jobs.len(), errors.join("\n"));
    }
    let mut objects: Vec<Object> = good.into_iter().flatten().collect();
    objects.sort_by(|a, b| (&a.operation, &a.architecture).cmp(&(&b.operation, &b.architecture)));
    Ok(Manifest { compiler: tools.version.clone(), sources: SOURCES.to_owned(), objects })
}

/// Names of the sources, without their ending.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn operations(sources: &Path) -> anyhow::Result<Vec<String>> {
    let files = files(sources, "hip")?;
    Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
}

/// The files of a folder with an ending, in order.
pub(super) fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|found| found == ending));
    files.sort();
    Ok(files)
}

/// All headers that a kernel may use, by name.
pub(super) fn headers(sources: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut headers = BTreeMap::new();
    for folder in [sources.to_owned(), sources.join("portable")] {
        for file in files(&folder, "h")? {
            headers.insert(file.strip_prefix(sources)?.to_owned(), fs::read(&file)?);
        }
    }
    Ok(headers)
}

/// Of everything that an object depends on.
fn hash(
    sources: &Path,
    operation: &str,
    headers: &BTreeMap<PathBuf, Vec<u8>>,
    tools: &Toolchain,
) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    hash.update(&tools.version);
    FLAGS.iter().for_each(|flag| hash.update(flag));
    for (name, text) in headers {
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update(text);
    }
    hash.update(fs::read(sources.join(operation).with_extension("hip"))?);
    Ok(hex(&hash.finalize()))
}

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One object.
struct Job {
    operation: String,
    architecture: String,
    source: String,
}

impl Job {
    fn file(&self) -> String {
        file_name(&self.operation, &self.architecture)
    }

    /// What the manifest knows of this object, if it is of the same source and still there.
    fn kept(&self, known: &Manifest, out: &Path) -> Option<Object> {
        let object = known.objects.iter().find(|object| object.file == self.file())?;
        let bytes = fs::read(out.join(&object.file)).ok()?;
        let same = object.source == self.source && object.sha256 == images::digest(&bytes);
        same.then(|| object.clone())
    }

    fn build(&self, sources: &Path, out: &Path, tools: &Toolchain) -> anyhow::Result<Object> {
        let (file, path) = (self.file(), out.join(self.file()));
        let compiled = Command::new(&tools.clang)
            .current_dir(sources)
            .args(FLAGS)
            .arg(format!("--offload-arch={}", self.architecture))
            .arg(format!("{}.hip", self.operation))
            .arg("-o")
            .arg(std::path::absolute(&path)?)
            .output()
            .with_context(|| tools.clang.display().to_string())?;
        ensure!(compiled.status.success(), "{file}:\n{}", String::from_utf8_lossy(&compiled.stderr));
        let bytes = fs::read(&path)?;
        let mut kernels = object::kernels(&bytes).with_context(|| file.clone())?;
        let path = path.to_string_lossy();
        let assembly = toolchain::output(&tools.disassembler, &["-d", "--no-show-raw-insn", &*path])?;
        object::count(&assembly, &mut kernels);
        Ok(Object {
            file,
            operation: self.operation.clone(),
            architecture: self.architecture.clone(),
            source: self.source.clone(),
            sha256: images::digest(&bytes),
            kernels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The compiler is part of what tests need, as it is of what kernels need.
    #[test]
    fn the_same_source_gives_the_same_bytes_wherever_it_is() {
        let tools = Toolchain::find().unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(super::super::SOURCES);
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let objects = [one.path(), other.path()].map(|folder| {
            let copy = folder.join("a folder of another name").join(folder.file_name().unwrap());
            fs::create_dir_all(copy.join("portable")).unwrap();
            for (name, text) in headers(&sources).unwrap() {
                fs::write(copy.join(name), text).unwrap();
            }
            fs::copy(sources.join("norm.hip"), copy.join("norm.hip")).unwrap();
            let out = folder.join("out");
            let manifest = build(&copy, &out, &tools, &["gfx1103".to_owned()]).unwrap();
            let again = build(&copy, &out, &tools, &["gfx1103".to_owned()]).unwrap();
            assert_eq!(manifest.text(), again.text(), "what has not changed is kept");
            (fs::read(out.join("norm.gfx1103.co")).unwrap(), manifest.objects[0].source.clone())
        });
        assert!(!objects[0].0.is_empty());
        assert!(objects[0] == objects[1], "two builds differ");
    }
}
