//! `cargo xtask <chore>`: the chores of this repository.
//!
//! Nothing that is shipped depends on this program. It stands above the libraries and below nobody.
#![expect(clippy::print_stdout, reason = "a command-line program reports on stdout")]

mod aie;
mod default_model;
mod dist;
mod fuzz;
mod goldens;
mod kernels;
mod radv;
mod tidy;

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
    /// Check the rules of the house: layers, sizes, unsafe code, unfinished work
    Tidy,
    /// Remake the goldens from Hugging Face transformers; needs Python 3.11 and about 4 GB
    Goldens {
        /// Compare with the committed files, byte by byte, and leave those alone
        #[arg(long)]
        check: bool,
        /// The Python to make the virtual environment with
        #[arg(long, default_value = "python3")]
        python: String,
    },
    /// Build the fuzz targets and run each for a while
    Fuzz {
        /// The targets; all of them when none is named
        targets: Vec<String>,
        /// Time for each
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Targets that run at a time
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Compile every kernel of the Vulkan backend with Mesa's RADV for the Radeon 780M, without a GPU
    Radv {
        /// Compare with the committed figures and table, and leave those alone
        #[arg(long)]
        check: bool,
        /// With a Mesa older than that of the figures, or none, say so and end well
        #[arg(long)]
        skip_older: bool,
    },
    /// Compile kernels/hip for AMD GPUs, without one and without ROCm, with the emulation that tests run, and check kernels/aie for the NPU; all of it
    /// where no kind is named
    BuildKernels {
        /// Code objects, and the emulation
        #[arg(long)]
        hip: bool,
        /// The emulation alone
        #[arg(long)]
        emulation: bool,
        /// Core kernels and designs for AMD's XDNA NPU; what needs Peano and mlir-aie is made where they are installed
        #[arg(long)]
        aie: bool,
        /// Processors to build HIP kernels for; figures are written and compared for all of them alone
        #[arg(long, value_delimiter = ',', default_values = gemma_hip_kernels::objects::ARCHITECTURES)]
        arch: Vec<String>,
        /// HIP: compare with the committed figures and table, and leave those alone. NPU: checks alone, nothing is made for one
        #[arg(long)]
        check: bool,
    },
    /// Pack a release into target/dist: the program, the HIP kernels of all processors in the folder where it looks for them, texts, manual page, completions
    ///
    /// The kernels must have been built by `cargo xtask build-kernels --hip`. Beside gemma-VERSION-TARGET.tar.gz stands its SHA-256. The same
    /// files give the same archive; its files are of the time in SOURCE_DATE_EPOCH, else of 1970.
    Dist {
        /// The program to pack, of this tree and for this machine, instead of building it for release
        #[arg(long)]
        program: Option<PathBuf>,
    },
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
        Chore::Tidy => tidy::run(root),
        Chore::Goldens { check, python } => goldens::make(root, &python, check),
        Chore::Fuzz { targets, seconds, jobs } => fuzz::run(root, targets, seconds, jobs),
        Chore::Radv { check, skip_older } => radv::run(root, check, skip_older),
        Chore::BuildKernels { hip, emulation, aie, arch: architectures, check } => {
            // All where nothing is asked for.
            if aie || !hip && !emulation {
                aie::run(root, check)?;
            }
            if aie && !hip && !emulation {
                return Ok(());
            }
            kernels::run(root, &kernels::Options { hip, emulation, architectures, check })
        }
        Chore::Dist { program } => dist::run(root, program),
        Chore::DefaultModel { from, out } => {
            default_model::make(&from, &out.unwrap_or_else(|| root.join(default_model::PLACE)))
        }
    }
}

/// The root of the repository that this program was built in.
fn repository() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands in a workspace")
}

/// Where cargo builds.
fn build_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
