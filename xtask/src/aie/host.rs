//! Compiles the core kernels as C++ for this machine, under sanitizers, and lets the program check itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use gemma_npu_kernels::kernels::Product;

use super::fingerprint;

/// Compilers that are looked for, where `CXX` names none.
const COMPILERS: [&str; 4] = ["clang++-19", "clang++", "g++", "c++"];

/// What installs one.
const NEEDED: &str = "apt-get install --no-install-recommends clang-19 libclang-rt-19-dev; or name a compiler in the \
                      environment variable CXX";

/// Sums are not contracted, so that results do not depend on the host's processor.
const FLAGS: [&str; 9] = [
    "-std=c++20",
    "-O1",
    "-g1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffp-contract=off",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
];

/// Seeds of the checks.
const SEEDS: [&str; 3] = ["1", "2", "3"];

/// Mistakes that the stand-in of aie_api must notice, by what it says of them.
const FAULTS: [&str; 6] = [
    "a load outside of all buffers",
    "a store outside of all buffers",
    "an access that is not aligned",
    "a store to a buffer that is for reading",
    "a lane that the vector does not have",
    "a sum that 32 bits do not hold",
];

/// The kernels as a program for this machine.
pub(super) struct Host {
    pub(super) program: PathBuf,
    /// The first line of what the compiler says of itself.
    pub(super) version: String,
}

impl Host {
    /// Compiles what has changed.
    ///
    /// # Errors
    /// When there is no compiler, or it refuses a source.
    pub(super) fn build(sources: &Path, out: &Path) -> anyhow::Result<Self> {
        let (compiler, version) = compiler()?;
        let mut files = Vec::new();
        for folder in ["", "host", "host/aie_api"] {
            files.extend(super::device::files(&sources.join(folder), &["cc", "cpp", "h", "hpp"])?);
        }
        let defines: Vec<String> =
            Product::ALL.into_iter().flat_map(|product| product.defines(product.tile())).collect();
        let mut parts = vec![version.clone().into_bytes(), FLAGS.concat().into(), defines.concat().into()];
        for file in &files {
            parts.push(fs::read(file).with_context(|| file.display().to_string())?);
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let folder = out.join("host");
        let program = folder.join(format!("kernels-{}", &fingerprint(&parts)[..16]));
        if program.exists() {
            return Ok(Self { program, version });
        }
        // One of older sources is of no use any more.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let unfinished = program.with_extension("part");
        let compiled = Command::new(&compiler)
            .current_dir(sources)
            .args(FLAGS)
            .args(&defines)
            .args(["-I", "host"])
            .args(files.iter().filter(|file| file.extension().is_some_and(|end| end == "cc" || end == "cpp")))
            .arg("-o")
            .arg(std::path::absolute(&unfinished)?)
            .output()?;
        ensure!(compiled.status.success(), "{compiler}:\n{}", String::from_utf8_lossy(&compiled.stderr));
        fs::rename(unfinished, &program)?;
        Ok(Self { program, version })
    }

    /// Holds kernels against the formula, and the checks against mistakes; a line of what was done.
    ///
    /// # Errors
    /// When one of the kernels is wrong or one of the mistakes goes unnoticed.
    pub(super) fn check(&self) -> anyhow::Result<String> {
        let mut products = 0;
        for seed in SEEDS {
            let ran = Command::new(&self.program).args(["check", seed]).output()?;
            let said = String::from_utf8_lossy(&ran.stdout);
            ensure!(ran.status.success(), "seed {seed}:\n{said}{}", String::from_utf8_lossy(&ran.stderr));
            products += said
                .lines()
                .filter_map(|line| line.split_whitespace().nth_back(1)?.parse::<u32>().ok())
                .sum::<u32>();
        }
        ensure!(products > 0, "{} has checked nothing", self.program.display());
        for (number, wanted) in FAULTS.iter().enumerate() {
            let ran = Command::new(&self.program).args(["fault", &number.to_string()]).output()?;
            let said = String::from_utf8_lossy(&ran.stderr);
            ensure!(
                !ran.status.success() && said.contains(wanted),
                "fault {number} ({wanted}) was not noticed: {said}"
            );
        }
        Ok(format!("{products} products of tiles are right, {} mistakes are noticed", FAULTS.len()))
    }
}

/// A compiler that answers, with its first line.
fn compiler() -> anyhow::Result<(String, String)> {
    let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
    let names = match &named {
        Some(name) => vec![&**name],
        None => COMPILERS.to_vec(),
    };
    for name in names {
        let Ok(answer) = Command::new(name).arg("--version").output() else { continue };
        if answer.status.success() {
            let text = String::from_utf8_lossy(&answer.stdout);
            return Ok((name.to_owned(), text.lines().next().unwrap_or_default().to_owned()));
        }
    }
    bail!("no C++ compiler: {NEEDED}")
}
