//! What to run first on a machine with an AMD GPU: lists what HIP finds, holds every kernel against the reference, and times products
//! of one row of activations, as in decode, and of many, as in prefill, in every weight type.
//!
//! ```console
//! cargo xtask build-kernels --hip && cargo run --release --example check -p gemma-hip
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints a report")]

use std::error::Error;

use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_hal::{DType, Storage, Weight};
use gemma_hip::{Activations, HipAdapter, HipDevice, HipOptions, devices};

/// Bytes of memory of the device that it may take.
const MEMORY: u64 = 4 << 30;

/// Columns of the timed matrices: E2B's hidden size.
const COLUMNS: usize = 2048;

/// Bytes of the matrix that one row is multiplied with, unless the first argument says how many MiB.
const BYTES: usize = 64 << 20;

/// Rows of the matrix that many rows are multiplied with: E2B's feed-forward size.
const ROWS: usize = 8192;

/// Activation rows of a prompt's chunk, and of a short prompt.
const TOKENS: [usize; 2] = [512, 32];

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = std::env::args().nth(1).map_or(Ok(BYTES), |text| text.parse().map(|mib: usize| mib << 20))?;
    let adapters = devices()?;
    for adapter in &adapters {
        let kernels = adapter
            .is_supported()
            .map_or_else(|error| error.to_string(), |()| "there are kernels".to_owned());
        println!(
            "{}: {}, {}, HIP {}, {kernels}",
            adapter.id, adapter.name, adapter.architecture, adapter.runtime
        );
    }
    let adapter = adapters.first().ok_or("no device")?;
    let is_right = agrees(adapter)?;
    decode(adapter, bytes)?;
    for activations in [Activations::Rounded, Activations::RoundedEverywhere, Activations::Float32] {
        prefill(adapter, activations)?;
    }
    if is_right { Ok(()) } else { Err("kernels and reference differ".into()) }
}

/// Whether the GPU agrees with the reference.
fn agrees(adapter: &HipAdapter) -> Result<bool, Box<dyn Error>> {
    let rounded = Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 };
    let mut is_right = true;
    for (activations, bounds) in [
        (Activations::Float32, Bounds::F32),
        (Activations::Rounded, rounded),
        (Activations::RoundedEverywhere, rounded),
    ] {
        let device = HipDevice::new(adapter, &HipOptions { activations, ..HipOptions::new(MEMORY) })?;
        let outcomes = conformance::operations(&device, &ReferenceDevice::new(MEMORY), bounds, 1);
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed()).collect();
        println!(
            "conformance, {activations:?}: {} of {} passed",
            outcomes.len() - failed.len(),
            outcomes.len()
        );
        failed.iter().for_each(|outcome| println!("  {outcome}"));
        is_right &= failed.is_empty();
    }
    Ok(is_right)
}

/// A matrix of so many bytes of ones.
fn ones(dtype: DType, rows: usize) -> Result<Weight, Box<dyn Error>> {
    let row = COLUMNS / dtype.block_len() * dtype.block_bytes();
    Ok(Weight::new(Storage::new("ones", vec![0x11; rows * row]), 0, rows, COLUMNS, dtype)?)
}

/// Products of one row of activations, beside a copy.
fn decode(adapter: &HipAdapter, bytes: usize) -> Result<(), Box<dyn Error>> {
    let device = HipDevice::new(adapter, &HipOptions::new(MEMORY))?;
    let copied = device.copy_bandwidth()?;
    println!("\none row; copied {:.1} GB/s (read and written)", copied / 1e9);
    println!(
        "{:<6} {:>16} {:>8} {:>9} {:>9} {:>10}",
        "type", "outputs x inputs", "MiB", "us", "GB/s", "% of copy"
    );
    for dtype in DType::ALL {
        let weight = ones(dtype, bytes / (COLUMNS / dtype.block_len() * dtype.block_bytes()))?;
        let seconds = device.product_seconds(&weight, 1)?;
        let rate = weight.bytes() as f64 / seconds;
        println!(
            "{:<6} {:>16} {:>8.1} {:>9.1} {:>9.1} {:>10.1}",
            dtype.to_string(),
            format!("{} x {COLUMNS}", weight.rows()),
            weight.bytes() as f64 / f64::from(1 << 20),
            seconds * 1e6,
            rate / 1e9,
            100.0 * rate / copied,
        );
    }
    Ok(())
}

/// Products of many rows of activations.
fn prefill(adapter: &HipAdapter, activations: Activations) -> Result<(), Box<dyn Error>> {
    let device = HipDevice::new(adapter, &HipOptions { activations, ..HipOptions::new(MEMORY) })?;
    println!("\n{ROWS} x {COLUMNS}, activations {activations:?}: GFLOP/s by rows of activations");
    println!("{:<6} {:>10} {:>10}", "type", TOKENS[0], TOKENS[1]);
    for dtype in DType::ALL {
        let weight = ones(dtype, ROWS)?;
        let mut rates = Vec::new();
        for tokens in TOKENS {
            let seconds = device.product_seconds(&weight, tokens)?;
            rates.push(2.0 * (ROWS * COLUMNS * tokens) as f64 / seconds / 1e9);
        }
        println!("{:<6} {:>10.0} {:>10.0}", dtype.to_string(), rates[0], rates[1]);
    }
    Ok(())
}
