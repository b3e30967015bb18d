//! The rate of a product with one row of activations in every weight type, on the first Vulkan adapter: bytes of weights a second,
//! and their share of the adapter's copy bandwidth, measured in the same run.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;

use gemma_hal::{DType, Storage, Weight};
use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};

/// Columns of the matrix.
const COLUMNS: usize = 2048;

/// Bytes of the matrix unless the first argument says how many MiB: more than any cache of a GPU holds.
const BYTES: usize = 256 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = std::env::args().nth(1).map_or(Ok(BYTES), |text| text.parse().map(|mib: usize| mib << 20))?;
    let adapters = adapters();
    let adapter = adapters.first().ok_or("no Vulkan adapter")?;
    let device = IgpuDevice::new(adapter, IgpuOptions::new(4 << 30))?;
    let measured = device.measure()?;
    println!("{}, {}", adapter.name, adapter.driver);
    println!(
        "read {:.1} GB/s, copied {:.1} GB/s (read and written), {:.2} us a launch\n",
        measured.read_bandwidth / 1e9,
        measured.copy_bandwidth / 1e9,
        measured.launch_seconds * 1e6,
    );
    println!(
        "{:<6} {:>16} {:>8} {:>9} {:>9} {:>10}",
        "type", "outputs x inputs", "MiB", "us", "GB/s", "% of copy"
    );
    for dtype in DType::ALL {
        let row = COLUMNS / dtype.block_len() * dtype.block_bytes();
        let rows = bytes / row;
        let weight = Weight::new(Storage::new("ones", vec![0x11; rows * row]), 0, rows, COLUMNS, dtype)?;
        let seconds = device.product_seconds(&weight)?;
        let rate = weight.bytes() as f64 / seconds;
        println!(
            "{:<6} {:>16} {:>8.1} {:>9.1} {:>9.1} {:>10.1}",
            dtype.to_string(),
            format!("{rows} x {COLUMNS}"),
            weight.bytes() as f64 / f64::from(1 << 20),
            seconds * 1e6,
            rate / 1e9,
            100.0 * rate / measured.copy_bandwidth,
        );
    }
    Ok(())
}
