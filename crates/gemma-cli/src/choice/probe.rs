//! Operations a second of a device's own product of many rows, the kernel that a prompt waits for.
//!
//! The same small plan runs on every device, so that figures can be compared. Weights are zeros: the time of a dense product
//! does not depend on values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gemma_hal::op::{LinearPart, Op};
use gemma_hal::{
    CacheLayout, Call, DType, Deadline, Device, Outputs, Plan, PlanBuilder, Rows, Storage, Weight,
};

/// Rows of activations: those of a usual chunk.
const ROWS: usize = gemma_orchestrator::DEFAULT_CHUNK;

/// Inputs and outputs of E2B's gate.
const SHAPE: (usize, usize) = (2048, 8192);

/// Runs until none has been clearly better for this long, after one that compiles: clocks of an idle device are low.
const QUIET: Duration = Duration::from_millis(60);

/// How much less than the best run so far one takes that is clearly better.
const RISE: f64 = 0.99;

/// When a device that does not answer is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures `device`.
///
/// # Errors
/// The device's.
pub(crate) fn operations_per_s(device: &dyn Device) -> Result<f64> {
    let plan = Arc::new(plan()?);
    device.supports(&plan)?;
    let mut executable = device.prepare(Arc::clone(&plan))?;
    let mut cache = device.create_cache(plan.cache(), ROWS, ROWS)?;
    let tokens = [0; ROWS];
    let deadline = Deadline::after(PATIENCE);
    let mut run = || -> Result<Duration> {
        cache.truncate(0);
        let begin = Instant::now();
        executable.run(Call {
            tokens: &tokens,
            cache: cache.as_mut(),
            deadline: deadline.clone(),
            probe: None,
        })?;
        Ok(begin.elapsed())
    };
    run()?;
    let (mut risen, mut best) = (Instant::now(), run()?);
    while risen.elapsed() < QUIET {
        let time = run()?;
        if time < best.mul_f64(RISE) {
            risen = Instant::now();
        }
        best = best.min(time);
    }
    Ok(plan.cost(ROWS, 0).flops as f64 / best.as_secs_f64().max(f64::MIN_POSITIVE))
}

/// An embedding and a product with its rows.
fn plan() -> Result<Plan> {
    let (inputs, outputs) = SHAPE;
    let dtype = DType::Q4_0;
    let bytes = dtype.row_bytes(inputs).context("a row of the measured matrix")? * outputs;
    let storage = Storage::new("measured matrix", vec![0_u8; bytes]);
    let layout = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
    let mut plan = PlanBuilder::new("measurement", ROWS, Outputs::Last, 1e-6, layout);
    let table = plan.weight("table", Weight::new(storage.clone(), 0, 1, inputs, dtype)?);
    let weight = plan.weight("matrix", Weight::new(storage, 0, outputs, inputs, dtype)?);
    let input = plan.buffer("input", Rows::Tokens, inputs);
    let output = plan.buffer("output", Rows::Tokens, outputs);
    let last = plan.buffer("last", Rows::Outputs, outputs);
    plan.push(None, Op::Embed { table, scale: 1.0, output: input });
    plan.push(None, Op::Linear { input, parts: vec![LinearPart { weight, output }] });
    plan.push(None, Op::SelectOutputs { input: output, output: last });
    Ok(plan.finish(Some(last))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_neither_idle_nor_a_thousand_machines() {
        let cpu = crate::devices::cpu(Some(1), None, 1 << 30).unwrap();
        let operations = operations_per_s(&cpu).unwrap();
        assert!((1e7..1e15).contains(&operations), "{operations}");
    }
}
