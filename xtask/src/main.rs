//! `cargo xtask <chore>`: the chores of this repository.
//!
//! Nothing that is shipped depends on this program. It stands above the libraries and below nobody.
#![expect(clippy::print_stdout, reason = "a command-line program reports on stdout")]

mod default_model;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The chores of this repository.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Make assets/nano-q8_0.gguf from a checkpoint folder in bf16
    DefaultModel {
        /// The folder: config.json, model.safetensors, tokenizer.json, tokenizer_config.json
        #[arg(long)]
        from: PathBuf,
        /// The file to write
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let root = repository()?;
    match Arguments::parse().chore {
        Chore::DefaultModel { from, out } => {
            default_model::make(&from, &out.unwrap_or_else(|| root.join(default_model::PLACE)))
        }
    }
}

/// The root of the repository that this program was built in.
fn repository() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands in a workspace")
}
