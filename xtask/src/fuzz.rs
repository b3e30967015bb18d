//! `cargo xtask fuzz`: builds the fuzz targets and runs each for a while.
//!
//! fuzz/.cargo/config.toml holds the instrumentation, so the stable toolchain is enough. The committed seeds are only
//! read; what the fuzzer finds is kept in the build folder, from where a crash is brought to the seeds by hand.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, bail, ensure};

/// Longest time for one input.
const TIMEOUT_SECONDS: u32 = 10;
/// Most memory of a target, far beyond what any input may cost.
const MEMORY_MIB: u32 = 2048;
/// Longest input.
const INPUT_BYTES: u32 = 32_768;
/// Lines of a log that are shown when a target fails.
const SHOWN_LINES: usize = 40;

/// Runs `targets`, or all of them when there are none named, for `seconds` each, `jobs` at a time.
pub(crate) fn run(root: &Path, targets: Vec<String>, seconds: u32, jobs: usize) -> anyhow::Result<()> {
    let build = crate::build_folder(root).join("fuzz");
    let known = known_targets(root)?;
    if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        bail!("{unknown} is not a fuzz target; there are: {}", known.join(", "));
    }
    let status = cargo(root, &build, "build").status()?;
    ensure!(status.success(), "the fuzz targets do not build");
    let waiting = Mutex::new(if targets.is_empty() { known } else { targets });
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(target) = take(&waiting) {
                    match run_one(root, &build, &target, seconds) {
                        Ok(summary) => println!("fuzz {target}: {summary}"),
                        Err(error) => {
                            println!("fuzz {target}: {error:#}");
                            failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(target);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    ensure!(failed.is_empty(), "fuzzing found faults in: {}", failed.join(", "));
    Ok(())
}

fn take(waiting: &Mutex<Vec<String>>) -> Option<String> {
    waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}

fn known_targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    Ok(targets)
}

/// `cargo` in the fuzz workspace, whose settings it reads from its working folder.
fn cargo(root: &Path, build: &Path, verb: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root.join("fuzz"))
        .args([verb, "--release", "--locked"])
        .arg("--target-dir")
        .arg(build);
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// One line about a run without findings.
fn run_one(root: &Path, build: &Path, target: &str, seconds: u32) -> anyhow::Result<String> {
    let (corpus, artifacts) = (build.join("corpus").join(target), build.join("artifacts"));
    let log = build.join(format!("{target}.log"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let output = File::create(&log)?;
    let status = cargo(root, build, "run")
        .args(["--quiet", "--bin", target, "--"])
        .arg(&corpus)
        .arg(root.join("fuzz/seeds").join(target))
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg("-print_final_stats=1")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("{target} did not start"))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if status.success() {
        return Ok(summary(&text, seconds));
    }
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    bail!("{status}; the input is in {}, the log in {}\n{end}", artifacts.display(), log.display())
}
/// What libFuzzer says of its run: inputs tried and edges reached.
fn summary(log: &str, seconds: u32) -> String {
    let after = |mark: &str| {
        let at = log.rfind(mark)? + mark.len();
        log[at..].split_whitespace().next()
    };
    let (inputs, edges) = (after("stat::number_of_executed_units:"), after(" cov: "));
    format!("{} inputs in {seconds} s, {} edges, no finding", inputs.unwrap_or("?"), edges.unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_of_the_last_lines() {
        let log =
            "#2 INITED cov: 10 ft: 11\n#9 DONE cov: 21 ft: 30 corp: 1\nstat::number_of_executed_units: 9\n";
        assert_eq!(summary(log, 60), "9 inputs in 60 s, 21 edges, no finding");
    }

    #[test]
    fn every_target_has_a_binary_and_seeds() {
        let root = crate::repository().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        for target in known_targets(root).unwrap() {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
            let seeds = fs::read_dir(root.join("fuzz/seeds").join(&target)).map_or(0, Iterator::count);
            assert!(seeds > 0, "{target} has no seeds");
        }
    }
}
