//! What an adapter reaches: bytes read and copied a second, and what a launch costs.
//!
//! Reports divide by these figures and the choice of a device is made from them. Best of several passes, because everything
//! that disturbs a pass makes it slower. It measures the adapter alone, never a model.

use std::time::{Duration, Instant};

use cubecl::client::Graph;
use cubecl::prelude::*;
use gemma_hal::{Deadline, DeviceError, Op, Plan, Weight};

use crate::device::IgpuDevice;
use crate::executable::{Launcher, Rows};
use crate::gpu::{Gpu, Region, WORD};
use crate::kernels::measure;

/// Bytes that are read in a pass: beyond the caches of the GPUs that this is for. Where an adapter takes less in one piece it
/// is that much, which caches of the processor may hold under a software driver.
const BUFFER: u64 = 256 << 20;

/// A rate is measured until it has not risen for this long: clocks of an idle GPU are low, and rise while it works.
const QUIET: Duration = Duration::from_millis(100);

/// The same for products, which are compared with each other.
const LONG_QUIET: Duration = Duration::from_millis(500);

/// How much less than the best pass so far one takes that counts as a rise.
const RISE: f64 = 0.99;

/// How long a pass shall be at least, as far as [`MOST_TIMES`] of the same work allow.
const PASS: Duration = Duration::from_millis(5);

/// How often the same work is done in a pass at most.
const MOST_TIMES: f64 = 64.0;

/// Passes of every measurement at least.
const FEWEST_PASSES: usize = 3;

/// Units of a cube.
const UNITS: usize = 256;

/// Fours that a unit reads.
const TURNS: usize = 32;

/// Launches of a chain, each of which waits for the one before.
const CHAIN: usize = 256;

/// When a driver that does not answer is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an adapter reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Bytes read from its memory a second.
    pub read_bandwidth: f64,
    /// Bytes copied within its memory a second; each counts once as read and once as written.
    pub copy_bandwidth: f64,
    /// Seconds that a small launch takes which waits for the one before, in a recorded chain where the driver records.
    pub launch_seconds: f64,
}

impl IgpuDevice {
    /// Measures the adapter, which takes some 0.4 s after its three kernels are compiled, and, for that time, 512 MiB of its
    /// memory at most.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Timeout`] after 20 s, or what the driver says.
    pub fn measure(&self) -> Result<Measured, DeviceError> {
        let deadline = Deadline::after(PATIENCE);
        let _turn = self.gpu.turn(&deadline)?;
        let measured = bandwidths(&self.gpu, &deadline).and_then(|(read_bandwidth, copy_bandwidth)| {
            let launch_seconds = launch_cost(&self.gpu, &deadline)?;
            Ok(Measured { read_bandwidth, copy_bandwidth, launch_seconds })
        });
        // The runtime keeps memory for what comes next; a model shall have it.
        let _ = self.gpu.client.memory_cleanup();
        measured
    }
}

impl IgpuDevice {
    /// Seconds that the product of `weight` with one row of activations takes, launched one after the other. Reading less than
    /// the caches hold is faster than reading memory.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for columns that are no multiple of 8, otherwise as [`IgpuDevice::measure`].
    pub fn product_seconds(&self, weight: &Weight) -> Result<f64, DeviceError> {
        // Which refuses what cannot be multiplied.
        let _linear = self.linear("measured", weight)?;
        let deadline = Deadline::after(PATIENCE);
        let _turn = self.gpu.turn(&deadline)?;
        let matrix = self.matrices.get(&self.gpu, &self.budget, "measured", weight)?;
        let (rows, columns) = (weight.rows(), weight.columns());
        let (input, output) = (self.gpu.upload(&vec![0; columns]), self.gpu.empty("a product", rows)?);
        let launcher = Launcher { gpu: &self.gpu, halves: None };
        best_of_many(&self.gpu, &deadline, LONG_QUIET, &|| {
            let (input, output) =
                (Rows { region: &input, stride: columns }, Rows { region: &output, stride: rows });
            launcher.product(&matrix, 0..rows, &input, &output, 1);
        })
    }
}

/// Launches of a run of one token of `plan`, of what is launched together one. An account for estimates, which takes for granted that
/// matrices and adapter allow what is usual.
pub fn launches(plan: &Plan) -> usize {
    let steps = plan.steps();
    let (mut index, mut count) = (0, 0);
    while let Some(step) = steps.get(index) {
        let next = steps.get(index + 1).map(|next| &next.op);
        let (launched, of) = match (&step.op, next) {
            (Op::Rotary { query: Some(_), .. }, Some(Op::Attention { .. })) => (1, 2),
            (Op::Linear { input: x, parts }, Some(Op::Linear { input: y, parts: others }))
                if parts.len() == 1 && others.len() == 1 && parts[0].output != *y && x != y =>
            {
                (1, 2)
            }
            // Its end goes with the beginning of what follows.
            (Op::PerLayerInput { .. }, Some(Op::AltUpPredict { .. })) => (2, 1),
            (op, _) => (alone(op), 1),
        };
        count += launched;
        index += of;
    }
    count
}

/// Launches of one operation.
fn alone(op: &Op) -> usize {
    match op {
        Op::Linear { parts, .. } => parts.len().div_ceil(4),
        Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. } => projections.len() + 1,
        Op::FeedForward { cutoff: Some(_), .. } => 4,
        Op::Attention { .. } | Op::FeedForward { .. } | Op::PerLayerEmbed { .. } => 2,
        Op::PerLayerInput { .. } => 3,
        _ => 1,
    }
}

/// Bytes read a second, and bytes read and written a second when copying.
fn bandwidths(gpu: &Gpu, deadline: &Deadline) -> Result<(f64, f64), DeviceError> {
    let of_cube = UNITS * TURNS * 4;
    let cubes = (BUFFER.min(gpu.largest_binding) as usize / WORD / of_cube).max(1);
    let words = cubes * of_cube;
    let (values, copies) = (gpu.empty("measured memory", words)?, gpu.empty("measured memory", words)?);
    let (count, units) = (CubeCount::new_1d(cubes as u32), CubeDim::new_1d(UNITS as u32));
    let copy = || {
        // SAFETY: `cubes` cubes of `UNITS` units cover `words` words with `TURNS` fours each, and both regions have so many.
        unsafe {
            measure::copy::launch_unchecked(
                &gpu.client,
                count.clone(),
                units,
                values.quads(),
                copies.quads(),
                TURNS,
            );
        }
    };
    let read = || {
        // SAFETY: as above; a unit writes one sum, and `copies` has room for many more.
        unsafe {
            measure::read::launch_unchecked(
                &gpu.client,
                count.clone(),
                units,
                values.quads(),
                copies.arg(),
                TURNS,
            );
        }
    };
    let bytes = (words * WORD) as f64;
    // Pages that were never written may all be the same one.
    gpu.write(&values, vec![0; words]);
    let copied = 2.0 * bytes / best_of_many(gpu, deadline, QUIET, &copy)?;
    Ok((bytes / best_of_many(gpu, deadline, QUIET, &read)?, copied))
}

/// Seconds of `work`, done so often in a pass that waiting for the queue is a small part of it.
fn best_of_many(
    gpu: &Gpu,
    deadline: &Deadline,
    quiet: Duration,
    work: &dyn Fn(),
) -> Result<f64, DeviceError> {
    let once = best_pass(gpu, deadline, Duration::ZERO, work)?;
    let times = (PASS.as_secs_f64() / once).ceil().clamp(1.0, MOST_TIMES);
    seconds_in_chain(gpu, deadline, times as usize, quiet, work)
}

/// Seconds of a launch in a chain.
fn launch_cost(gpu: &Gpu, deadline: &Deadline) -> Result<f64, DeviceError> {
    let values = gpu.upload(&[0; UNITS]);
    seconds_in_chain(gpu, deadline, CHAIN, Duration::ZERO, &|| step(gpu, &values))
}

/// Seconds of `work`, which launches on memory that lives as long as it does, done `times` times one after the other. Recorded
/// where the driver records, so that the host's part is none of it.
fn seconds_in_chain(
    gpu: &Gpu,
    deadline: &Deadline,
    times: usize,
    quiet: Duration,
    work: &dyn Fn(),
) -> Result<f64, DeviceError> {
    let chain = || (0..times).for_each(|_| work());
    let graph = record(gpu, deadline, &chain)?;
    let run = || match &graph {
        // SAFETY: what the launches touch lives as long as `work`, which outlives the graph; all work is on one stream.
        Some(graph) => drop(unsafe { graph.replay() }),
        None => chain(),
    };
    let all = best_pass(gpu, deadline, quiet, &run)?;
    // What waiting for an idle queue takes is no part of it.
    let idle = best_pass(gpu, deadline, Duration::ZERO, &|| {})?;
    Ok((all - idle).max(f64::MIN_POSITIVE) / times as f64)
}

fn step(gpu: &Gpu, values: &Region) {
    // SAFETY: a unit a value.
    unsafe {
        measure::step::launch_unchecked(
            &gpu.client,
            CubeCount::new_1d(1),
            CubeDim::new_1d(UNITS as u32),
            values.arg(),
        );
    }
}

/// `work`, recorded; none where the driver does not record.
fn record(gpu: &Gpu, deadline: &Deadline, work: &dyn Fn()) -> Result<Option<Graph>, DeviceError> {
    if gpu.client.graph_prepare().is_err() {
        return Ok(None);
    }
    work();
    let warm = gpu.sync(deadline);
    let started = warm.is_ok() && gpu.client.start_capture().is_ok();
    if started {
        work();
    }
    let graph = gpu.client.stop_capture();
    warm?;
    Ok(graph.ok().filter(|_| started))
}

/// Seconds of the shortest pass, when none has been clearly shorter for `quiet`, after one that warms up.
fn best_pass(gpu: &Gpu, deadline: &Deadline, quiet: Duration, work: &dyn Fn()) -> Result<f64, DeviceError> {
    work();
    gpu.sync(deadline)?;
    let (mut risen, mut best, mut passes) = (Instant::now(), f64::MAX, 0);
    while passes < FEWEST_PASSES || risen.elapsed() < quiet {
        let pass = Instant::now();
        work();
        gpu.sync(deadline)?;
        let seconds = pass.elapsed().as_secs_f64();
        if seconds < RISE * best {
            risen = Instant::now();
        }
        best = best.min(seconds);
        passes += 1;
    }
    Ok(best.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IgpuOptions, adapters};

    #[test]
    fn more_than_the_slowest_adapter_and_less_than_any() {
        let adapters = adapters();
        let adapter =
            adapters.first().expect("a Vulkan adapter: apt-get install mesa-vulkan-drivers libvulkan1");
        let device = IgpuDevice::new(adapter, IgpuOptions::new(1 << 30)).unwrap();
        let Measured { read_bandwidth, copy_bandwidth, launch_seconds } = device.measure().unwrap();
        for (what, bytes) in [("read", read_bandwidth), ("copied", copy_bandwidth)] {
            assert!((1e7..1e14).contains(&bytes), "{bytes} bytes {what} a second");
        }
        assert!((0.0..0.1).contains(&launch_seconds), "{launch_seconds} s a launch");
    }
}
