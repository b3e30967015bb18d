//! The program as users and scripts meet it: arguments in, streams and exit codes out.
//!
//! Models are the built-in one and the goldens; every generation is a few tokens long.

mod chat;
mod eval;
mod export;
mod files;
mod gemma3;
mod measure;
mod run;
mod settings;
mod streams;
#[cfg(feature = "igpu")]
mod vulkan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;

/// Far beyond what any of these takes; a program that hangs fails its test.
const TIMEOUT: Duration = Duration::from_mins(2);

/// For the user's cache: what drivers have compiled there serves the next test, and nothing is found or left anywhere else.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");

/// What a program left behind.
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    /// Standard output of a program that succeeded.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Standard error of a program that failed with `code` and printed no result.
    #[track_caller]
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        self.stderr
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// `gemma` with these arguments and without the caller's settings.
fn gemma(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gemma"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GEMMA_")) {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", CACHE).env("XDG_CONFIG_HOME", "/nowhere").timeout(TIMEOUT).args(arguments);
    command
}

#[track_caller]
fn done(mut command: Command) -> Done {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[track_caller]
fn run(arguments: &[&str]) -> Done {
    done(gemma(arguments))
}

/// As [`run`], for comparisons with f32 elsewhere: activations meet weights in blocks as they are, not rounded.
#[track_caller]
fn run_in_f32(arguments: &[&str]) -> Done {
    let mut command = gemma(arguments);
    command.env("GEMMA_CPU_ACTIVATIONS", "f32");
    done(command)
}

#[track_caller]
fn run_with_input(arguments: &[&str], input: impl Into<Vec<u8>>) -> Done {
    let mut command = gemma(arguments);
    command.write_stdin(input);
    done(command)
}

/// The same command for tests that watch the program while it runs.
fn spawnable(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gemma"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GEMMA_")) {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", CACHE).env("XDG_CONFIG_HOME", "/nowhere").args(arguments);
    command
}

/// A golden's folder or file.
fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens").join(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The built-in model as a file.
fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf")
}

/// The lines of `--logprobs` that are a token's.
fn token_lines(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("token").is_some()).collect()
}
