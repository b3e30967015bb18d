//! Builds the example and the driver, runs one on the other, and reads what both have written.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::kernel::Kernel;

/// The example of gemma-igpu, and its last line.
const EXAMPLE: &str = "every_kernel";
const DONE: &str = "done";

/// The Radeon 780M's processor as RADV calls it.
const FAMILY: &str = "PHOENIX";

/// The first Mesa that knows it by this name and has cooperative matrices for it.
const LEAST_MESA: (u32, u32) = (25, 0);

/// Where drivers are registered.
const DRIVERS: &str = "/usr/share/vulkan/icd.d";

/// How long the runtime may take to write the last line of its log.
const LOG_LIMIT: Duration = Duration::from_secs(30);

/// Why there is nothing to compile with.
const NEEDED: &str = "apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan1";

/// How subgroups are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// By RADV, among those of 32 and of 64 units.
    Own,
    /// All have 64 units, and the adapter says so, which kernels for matrix units need; only a chunk of a prompt is run.
    MatrixUnits,
}

impl Pass {
    pub(super) const ALL: [Self; 2] = [Self::Own, Self::MatrixUnits];

    const fn folder(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::MatrixUnits => "matrix-units",
        }
    }
}

/// What came of it.
pub(super) enum Compiled {
    Kernels { mesa: String, kernels: Vec<Kernel> },
    TooOld(String),
}

/// Compiles all kernels with subgroups as `pass` says. A Mesa older than `least`, or than what is needed at all, is too old.
pub(super) fn compile(root: &Path, pass: Pass, least: &str) -> anyhow::Result<Compiled> {
    let (Some(compiler), Some(software)) = (library("radeon_icd")?, library("lvp_icd")?) else {
        return Ok(Compiled::TooOld(format!("RADV or lavapipe is not in {DRIVERS}: {NEEDED}")));
    };
    let build = crate::build_folder(root);
    build_programs(root)?;
    let work = build.join("radv").join(pass.folder());
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let (report, log, driver) =
        (work.join("report.jsonl"), work.join("compilation.log"), work.join("icd.json"));
    let library = build.join("debug/libgemma_radv.so");
    let icd = json!({ "library_path": library, "api_version": "1.3.0" });
    fs::write(&driver, json!({ "file_format_version": "1.0.1", "ICD": icd }).to_string())?;
    let logger =
        format!("[compilation]\nlogger = {{ level = \"full\", file = {}, append = false }}\n", json!(log));
    fs::write(work.join("cubecl.toml"), logger)?;
    let mut command = Command::new(build.join("debug/examples").join(EXAMPLE));
    command
        .current_dir(&work)
        .env("GEMMA_RADV_COMPILER", compiler)
        .env("GEMMA_RADV_SOFTWARE", software)
        .env("GEMMA_RADV_REPORT", &report)
        .env("RADV_FORCE_FAMILY", FAMILY)
        .env("VK_ICD_FILENAMES", &driver)
        .env("VK_DRIVER_FILES", &driver)
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .env_remove("RADV_DEBUG")
        .env_remove("RADV_PERFTEST")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(work.join("stderr"))?);
    if pass == Pass::MatrixUnits {
        command.env("GEMMA_RADV_SUBGROUP", "64").arg("chunk");
    }
    let mut child = command.spawn().context("the example did not start")?;
    let mesa = run(&mut child, &report, &log, least);
    // Its standard input ends with this.
    drop(child.stdin.take());
    let status = child.wait()?;
    match mesa? {
        Said::TooOld(reason) => Ok(Compiled::TooOld(reason)),
        Said::Done(mesa) => {
            ensure!(status.success(), "{EXAMPLE}: {status}; see {}", work.display());
            let kernels = kernels(&fs::read_to_string(&report)?, &fs::read_to_string(&log)?, &build)?;
            Ok(Compiled::Kernels { mesa, kernels })
        }
        Said::Ended => why_ended(&work, &report, status),
    }
}

/// The error of an example that has ended early, or that this Mesa is too old.
fn why_ended(work: &Path, report: &Path, status: ExitStatus) -> anyhow::Result<Compiled> {
    let errors = fs::read_to_string(work.join("stderr")).unwrap_or_default();
    let unfinished = unfinished(&fs::read_to_string(report).unwrap_or_default());
    let reason = match unfinished {
        Some(entry) => format!("RADV did not survive {entry}"),
        None if errors.contains("Unknown family") => {
            return Ok(Compiled::TooOld(format!("this Mesa does not know {FAMILY}: {NEEDED}")));
        }
        None => "it ended early".to_owned(),
    };
    bail!("{EXAMPLE}: {status}; {reason}; see {}\n{errors}", work.display())
}

/// What the example has said.
enum Said {
    /// With which Mesa all was compiled.
    Done(String),
    TooOld(String),
    /// Its output has ended before it was done.
    Ended,
}

/// Follows the example until all is compiled and the log of it is written.
fn run(child: &mut Child, report: &Path, log: &Path, least: &str) -> anyhow::Result<Said> {
    let output = child.stdout.take().context("the example has an output")?;
    let mut mesa = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if mesa.is_none() {
            let version = version(&line).with_context(|| format!("no version of Mesa in: {line}"))?;
            if numbers(&version) < LEAST_MESA.max(numbers(least)) {
                child.kill()?;
                return Ok(Said::TooOld(format!("Mesa {version}, the figures are of {least}: {NEEDED}")));
            }
            mesa = Some(version);
        }
        if line == DONE {
            break;
        }
    }
    let Some(mesa) = mesa else { return Ok(Said::Ended) };
    let began = Instant::now();
    while began.elapsed() < LOG_LIMIT {
        let reported = fs::read_to_string(report).unwrap_or_default();
        if unfinished(&reported).is_some() {
            return Ok(Said::Ended);
        }
        let mut logged = String::new();
        fs::File::open(log)?.read_to_string(&mut logged)?;
        let is_there = |entry: &str| entry == WGPUS_OWN || logged.contains(&format!("\"{entry}\""));
        if entries(&reported).iter().all(|entry| is_there(entry)) && logged.trim_end().ends_with(LOG_END) {
            return Ok(Said::Done(mesa));
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the log of the runtime lacks kernels: {}", log.display())
}

/// What ends the log's record of a kernel.
const LOG_END: &str = "[END_KERNEL_COMPILATION]";

/// The entry point of what wgpu compiles for itself.
const WGPUS_OWN: &str = "main";

fn records(report: &str) -> impl Iterator<Item = Value> + '_ {
    report.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Entry points of what has been compiled or refused.
fn entries(report: &str) -> Vec<String> {
    records(report).filter_map(|record| Some(record["entry"].as_str()?.to_owned())).collect()
}

/// The entry point that was begun and not ended.
fn unfinished(report: &str) -> Option<String> {
    let last = records(report).last()?;
    Some(last.get("begins")?.as_str()?.to_owned())
}

/// What both have written, joined by entry point; the assembly goes to a folder.
fn kernels(report: &str, log: &str, build: &Path) -> anyhow::Result<Vec<Kernel>> {
    let mut known: Vec<Kernel> = log.split("[START_KERNEL_COMPILATION]").filter_map(Kernel::of_log).collect();
    let folder = build.join("radv/isa");
    fs::create_dir_all(&folder)?;
    let mut kernels = Vec::new();
    for record in records(report) {
        let Some(entry) = record["entry"].as_str().filter(|entry| *entry != WGPUS_OWN) else { continue };
        let place = known.iter().position(|kernel| kernel.entry == entry);
        let mut kernel = known.swap_remove(place.with_context(|| format!("{entry} is not in the log"))?);
        kernel.read(&record)?;
        let assembly = record["assembly"].as_str().unwrap_or_default();
        fs::write(folder.join(format!("{entry}.s")), assembly)?;
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// In the profile and with the features that the tests are built with, so that nothing is built twice.
fn build_programs(root: &Path) -> anyhow::Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(["build", "--workspace", "--locked", "--lib", "--example", EXAMPLE])
        .status()?;
    ensure!(status.success(), "{EXAMPLE} does not build");
    Ok(())
}

/// The library of a registered driver, as its file gives it.
fn library(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let Ok(folder) = fs::read_dir(DRIVERS) else { return Ok(None) };
    for entry in folder {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bits = cfg!(target_arch = "x86_64") && file.contains("i686");
        if file.starts_with(name) && path.extension().is_some_and(|end| end == "json") && !bits {
            let text = fs::read_to_string(&path)?;
            let driver: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            return Ok(driver["ICD"]["library_path"].as_str().map(PathBuf::from));
        }
    }
    Ok(None)
}

/// The version in `radv Mesa 25.0.7-2~bpo12+1`.
fn version(line: &str) -> Option<String> {
    let rest = line.split_once("Mesa ")?.1;
    let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!version.is_empty()).then_some(version)
}

/// Its first two numbers; zeros where there are none.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let said = version("Null hardware (RADV PHOENIX), radv Mesa 25.0.7-2~bpo12+1").unwrap();
        assert_eq!((&*said, numbers(&said)), ("25.0.7", (25, 0)));
        assert!(numbers("22.3.6") < LEAST_MESA && numbers("25.10.1") > numbers("25.9"));
        assert!(version("no driver").is_none());
        assert_eq!(numbers(""), (0, 0));
    }

    #[test]
    fn what_is_begun_and_not_ended_is_named() {
        let whole = "{\"begins\":\"a\"}\n{\"entry\":\"a\"}\n";
        assert_eq!((unfinished(whole), entries(whole)), (None, vec!["a".to_owned()]));
        assert_eq!(unfinished(&format!("{whole}{{\"begins\":\"b\"}}\n")).as_deref(), Some("b"));
        assert_eq!(unfinished(""), None);
    }
}
