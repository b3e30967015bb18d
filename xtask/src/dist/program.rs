//! The program: how it is built, for which machine, and what it says when it is asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The crate of the program, and the program.
pub(super) const PACKAGE: &str = "gemma-cli";
const NAME: &str = "gemma";

/// The kind of machine that the program is for, such as `x86_64-unknown-linux-gnu`: that of xtask, which cargo has just built with the same
/// settings (`build.target` and its like), and not always the compiler's own.
pub(super) const MACHINE: &str = env!("TARGET");

/// Builds the program for release, and says where it is.
///
/// # Errors
/// When cargo fails; it says why on its own.
pub(super) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["build", "--release", "--locked", "--package", PACKAGE]);
    // Where it is depends on settings that cargo knows best.
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cargo does not start")?;
    ensure!(output.status.success(), "{PACKAGE} does not build");
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo does not say where the program is")
}

/// The program's file in what cargo says of a build.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let file = |message: Value| {
        let is_it = message["target"]["name"] == NAME && message["reason"] == "compiler-artifact";
        Some(PathBuf::from(message["executable"].as_str().filter(|_| is_it)?))
    };
    messages.filter_map(file).next_back()
}

/// What a program writes to its standard output.
///
/// # Errors
/// When it does not run, fails or writes nothing.
pub(super) fn output(program: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let said = || format!("{} {}", program.display(), arguments.join(" "));
    let output = Command::new(program).args(arguments).output().with_context(said)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}\n{}", said(), output.status, error.trim());
    ensure!(!output.stdout.is_empty(), "{} says nothing", said());
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_the_program_is() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"kind":["lib"],"name":"gemma_cpu"},"executable":null}
            {"reason":"compiler-artifact","target":{"kind":["bin"],"name":"gemma"},"executable":"target/release/gemma"}
            {"reason":"build-finished","success":true}
        "#;
        assert_eq!(executable(messages), Some(PathBuf::from("target/release/gemma")));
        assert_eq!(executable("{\"reason\":\"build-finished\",\"success\":true}"), None);
    }

    #[test]
    fn the_machine_has_a_name() {
        assert!(MACHINE.contains(std::env::consts::ARCH), "{MACHINE}");
    }

    #[test]
    fn a_program_that_does_not_run_is_said() {
        for (program, arguments) in
            [("no/such/program", &["man"][..]), ("rustc", &["--unheard-of"]), ("true", &[])]
        {
            let problem = output(Path::new(program), arguments).unwrap_err().to_string();
            assert!(problem.contains(program), "{problem}");
        }
    }
}
