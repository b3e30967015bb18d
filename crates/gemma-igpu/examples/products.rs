//! The rate of a product with one row of activations in every weight type, on the first Vulkan adapter: bytes of weights a second,
//! and their share of the adapter's copy bandwidth, measured in the same run.
//!
//! `products [MiB] [all]`: with `all` in every division of work between subgroups, of which the others take the adapter's own.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;

use gemma_hal::{DType, Storage, Weight};
use gemma_igpu::{Adapter, IgpuDevice, IgpuOptions, Tuning, adapters};

/// Columns of the matrix.
const COLUMNS: usize = 2048;

/// Outputs of a subgroup, and packets of a row that a unit asks for at a time.
const DIVISIONS: [(usize, usize); 12] =
    [(1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (2, 4), (2, 8), (4, 1), (4, 2), (4, 4), (4, 8)];

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
    let all = std::env::args().nth(2).is_some_and(|text| text == "all");
    let divided = if all { devices(adapter)? } else { vec![(String::new(), device)] };
    for dtype in DType::ALL {
        let row = COLUMNS / dtype.block_len() * dtype.block_bytes();
        let rows = bytes / row;
        let weight = Weight::new(Storage::new("ones", vec![0x11; rows * row]), 0, rows, COLUMNS, dtype)?;
        for (division, device) in &divided {
            let seconds = device.product_seconds(&weight)?;
            let rate = weight.bytes() as f64 / seconds;
            println!(
                "{:<6} {:>16} {:>8.1} {:>9.1} {:>9.1} {:>10.1} {division}",
                dtype.to_string(),
                format!("{rows} x {COLUMNS}"),
                weight.bytes() as f64 / f64::from(1 << 20),
                seconds * 1e6,
                rate / 1e9,
                100.0 * rate / measured.copy_bandwidth,
            );
        }
    }
    Ok(())
}

/// The adapter, once for every division.
fn devices(adapter: &Adapter) -> Result<Vec<(String, IgpuDevice)>, Box<dyn Error>> {
    let mut devices = Vec::new();
    for (outputs, packets_ahead) in DIVISIONS {
        let from = |wanted| if outputs >= wanted { 0 } else { usize::MAX };
        let tuning = Tuning {
            packets_ahead,
            two_outputs_from: from(2),
            four_outputs_from: from(4),
            ..Tuning::of(adapter.kind)
        };
        let options = IgpuOptions { tuning: Some(tuning), ..IgpuOptions::new(4 << 30) };
        devices
            .push((format!("{outputs} outputs, {packets_ahead} ahead"), IgpuDevice::new(adapter, options)?));
    }
    Ok(devices)
}
