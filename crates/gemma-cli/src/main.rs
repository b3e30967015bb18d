//! `gemma`: the command line. It parses, wires devices to the engine and presents results; it decides nothing else.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 all well, 1 a validation failed,
//! 2 usage or run-time error, 3 no usable device, 130 interrupted.

mod args;
mod choice;
mod commands;
mod devices;
mod failure;
mod folders;
mod hardware;
mod hip;
mod input;
mod model;
mod output;
mod progress;
mod settings;
mod signals;
mod vulkan;

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use args::{Cli, Verb};
use failure::Failure;

fn main() -> ExitCode {
    forget_empty_variables();
    let cli = Cli::from_command_line();
    start_logging();
    signals::install();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    match cli.verb {
        None if cli.run.is_bare() && output::is_interactive() => commands::chat::chat(cli.run.into_chat()),
        None => commands::run::run(&cli.run),
        Some(Verb::Run(args)) => commands::run::run(&args),
        Some(Verb::Chat(args)) => commands::chat::chat(args),
        Some(Verb::Info(args)) => commands::info::info(args),
        Some(Verb::Doctor(args)) => commands::doctor::doctor(&args),
        Some(Verb::Tune(args)) => commands::tune::tune(&args),
        Some(Verb::Bench(args)) => commands::bench::bench(&args),
        Some(Verb::Eval(args)) => commands::eval::eval(args),
        Some(Verb::Perplexity(args)) => commands::perplexity::perplexity(args),
        Some(Verb::Validate(args)) => commands::validate::validate(args),
        Some(Verb::Convert(args)) => commands::convert::convert(&args),
        Some(Verb::Quantize(args)) => commands::quantize::quantize(&args),
        Some(Verb::Completions(args)) => commands::shell::completions(&args),
        Some(Verb::Man) => commands::shell::manual_page(),
    }
}

/// An empty `GEMMA_*` variable is one that is not set, as scripts and containers write it.
fn forget_empty_variables() {
    let variables = std::env::vars_os()
        .filter(|(name, value)| value.is_empty() && name.as_encoded_bytes().starts_with(b"GEMMA_"));
    for (name, _) in variables.collect::<Vec<_>>() {
        // SAFETY: this is the first thing that the program does; no other thread is there to read the environment.
        unsafe { std::env::remove_var(name) };
    }
}

/// Logs go to standard error; `GEMMA_LOG=debug` shows more.
fn start_logging() {
    let filter = EnvFilter::try_from_env("GEMMA_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}
