//! What to run first on a machine with an AMD GPU: lists what HIP finds, holds every kernel against the reference, and times products
//! of one row of activations in every weight type.
//!
//! ```console
//! cargo xtask build-kernels --hip && cargo run --release --example check -p gemma-hip
//! ```
#![expect(clippy::print_stdout, reason = "a program that prints a report")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::{self, Bounds};
use gemma_hal::op::{LinearPart, Op};
use gemma_hal::{
    CacheLayout, Call, DType, Deadline, Device, Outputs, Plan, PlanBuilder, Rows, Storage, Weight,
};
use gemma_hip::{Activations, HipDevice, HipOptions, devices};

/// Bytes of memory of the device that it may take.
const MEMORY: u64 = 4 << 30;

/// Columns of the timed matrix.
const COLUMNS: usize = 2048;

/// Bytes of it unless the first argument says how many MiB.
const BYTES: usize = 64 << 20;

/// Products of a run, so that starting it is a small part.
const PRODUCTS: usize = 16;

/// It is timed until no run has been faster for this long: clocks of an idle GPU are low.
const QUIET: Duration = Duration::from_millis(500);

/// When a run is given up.
const PATIENCE: Duration = Duration::from_mins(1);

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
    let rounded = Bounds { plain: 1e-6, blocks: 1e-3, ..Bounds::F32 };
    let mut is_right = true;
    for (activations, bounds) in [(Activations::Float32, Bounds::F32), (Activations::Rounded, rounded)] {
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
    let device = HipDevice::new(adapter, &HipOptions::new(MEMORY))?;
    println!("\n{:<6} {:>16} {:>8} {:>9} {:>9}", "type", "outputs x inputs", "MiB", "us", "GB/s");
    for dtype in DType::ALL {
        let row = COLUMNS / dtype.block_len() * dtype.block_bytes();
        let weight =
            Weight::new(Storage::new("ones", vec![0x11; bytes / row * row]), 0, bytes / row, COLUMNS, dtype)?;
        let seconds = seconds(&device, &weight)?;
        println!(
            "{:<6} {:>16} {:>8.1} {:>9.1} {:>9.1}",
            dtype.to_string(),
            format!("{} x {COLUMNS}", weight.rows()),
            weight.bytes() as f64 / f64::from(1 << 20),
            seconds * 1e6,
            weight.bytes() as f64 / seconds / 1e9,
        );
    }
    if is_right { Ok(()) } else { Err("kernels and reference differ".into()) }
}

/// Seconds of one product of `weight`.
fn seconds(device: &HipDevice, weight: &Weight) -> Result<f64, Box<dyn Error>> {
    let plan = Arc::new(plan(weight)?);
    let mut executable = device.prepare(Arc::clone(&plan))?;
    let mut cache = device.create_cache(plan.cache(), 1, 1)?;
    let (mut risen, mut best) = (Instant::now(), f64::MAX);
    while risen.elapsed() < QUIET {
        cache.truncate(0);
        let start = Instant::now();
        let deadline = Deadline::after(PATIENCE);
        executable.run(Call { tokens: &[0], cache: cache.as_mut(), deadline, probe: None })?;
        let seconds = start.elapsed().as_secs_f64();
        if seconds < 0.99 * best {
            risen = Instant::now();
        }
        best = best.min(seconds);
    }
    Ok(best / PRODUCTS as f64)
}

/// The same product again and again.
fn plan(weight: &Weight) -> Result<Plan, Box<dyn Error>> {
    let layout = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
    let mut plan = PlanBuilder::new("products", 1, Outputs::Last, 1e-6, layout);
    let table = Weight::new(Storage::new("a row", vec![0; 4 * COLUMNS]), 0, 1, COLUMNS, DType::F32)?;
    let (table, matrix) = (plan.weight("table", table), plan.weight("matrix", weight.clone()));
    let input = plan.buffer("input", Rows::Tokens, COLUMNS);
    plan.push(None, Op::Embed { table, scale: 1.0, output: input });
    for index in 0..PRODUCTS {
        let output = plan.buffer(format!("output {index}"), Rows::Tokens, weight.rows());
        plan.push(None, Op::Linear { input, parts: vec![LinearPart { weight: matrix, output }] });
    }
    let last = plan.buffer("last", Rows::Outputs, COLUMNS);
    plan.push(None, Op::SelectOutputs { input, output: last });
    Ok(plan.finish(Some(last))?)
}
