//! Where the compilers are: a clang that makes code for AMD GPUs, its linker, a disassembler beside it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Versions that are looked for, newest first; the oldest that knows RDNA 3.5 well is 17.
const VERSIONS: std::ops::RangeInclusive<u32> = 17..=23;

/// Where ROCm puts its own.
const ROCM: &str = "/opt/rocm/llvm/bin";

/// What installs them.
const NEEDED: &str = "apt-get install --no-install-recommends clang-19 lld-19 llvm-19 (for the emulation also libclang-rt-19-dev); \
                      or name a compiler in the environment variable CLANG";

/// What kernels are compiled with.
#[derive(Debug)]
pub(super) struct Toolchain {
    pub(super) clang: PathBuf,
    pub(super) disassembler: PathBuf,
    /// The first line of what the compiler says of itself.
    pub(super) version: String,
}

impl Toolchain {
    /// The one that `CLANG` names, else the first of the usual names and places that can do it.
    ///
    /// # Errors
    /// When there is none, with what to install.
    pub(super) fn find() -> anyhow::Result<Self> {
        if let Some(named) = env::var_os("CLANG") {
            return Self::of(Path::new(&named))
                .with_context(|| format!("the compiler that CLANG names\n{NEEDED}"));
        }
        // Debian's own first: figures are of one of them.
        let preferred = [19].into_iter().chain(VERSIONS.rev());
        let mut names: Vec<PathBuf> = preferred.map(|version| format!("clang-{version}").into()).collect();
        names.extend([Path::new(ROCM).join("clang"), "clang".into()]);
        let mut reasons = Vec::new();
        for name in names {
            match Self::of(&name) {
                Ok(tools) => return Ok(tools),
                Err(error) if error.root_cause().is::<std::io::Error>() => {}
                Err(error) => reasons.push(format!("{}: {error:#}", name.display())),
            }
        }
        bail!("no compiler for AMD GPUs: {NEEDED}\n{}", reasons.join("\n"))
    }

    fn of(clang: &Path) -> anyhow::Result<Self> {
        let answer = output(clang, &["--version"])?;
        let version = answer.lines().next().unwrap_or_default().to_owned();
        let major = version.split("version ").nth(1).and_then(|rest| rest.split('.').next());
        let major: u32 = major.and_then(|major| major.parse().ok()).context("says no version")?;
        ensure!(major >= *VERSIONS.start(), "is of version {major}, at least {} is needed", VERSIONS.start());
        let targets = output(clang, &["--print-targets"])?;
        ensure!(targets.contains("amdgcn"), "has no AMDGPU target");
        let tool = |name: &str| {
            let beside = clang.parent().map(|folder| folder.join(name)).filter(|_| clang.is_absolute());
            let names = [beside, Some(format!("{name}-{major}").into()), Some(name.into())];
            let found = names.into_iter().flatten().find(|name| output(name, &["--version"]).is_ok());
            found.with_context(|| format!("{name} is missing beside it"))
        };
        tool("ld.lld")?;
        Ok(Self { clang: clang.to_owned(), disassembler: tool("llvm-objdump")?, version })
    }
}

/// What a command writes to its standard output.
///
/// # Errors
/// When it cannot be started or fails, with what it has written to its standard error.
pub(super) fn output(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let out = Command::new(program).args(arguments).output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
