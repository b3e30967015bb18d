//! The suite that every device must pass: each operation against the reference on random shapes, and the contract.
//!
//! [`operations`] compares the outputs of every run by their mean square error over the mean square of what all runs of
//! the case should give, against a bound for each type of weight. [`contract`] checks what no comparison shows: errors,
//! deadlines, caches that survive a failed run. Both report all findings instead of stopping at the first.

mod cases;
mod contract;
mod generate;
mod sparse;

use std::fmt;
use std::sync::Arc;

use crate::device::{CACHE_DTYPES, Call, Deadline, Device};
use crate::{DType, DeviceError, Outputs, Plan};

pub use contract::contract;
use generate::{Generate, VOCABULARY};
pub use sparse::SparseNetwork;

/// The most error that a device may add: the mean square of a run's errors by the mean square of the case's outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// With f32, f16 and bf16 weights.
    pub plain: f64,
    /// With block formats; larger where a device also quantises activations.
    pub blocks: f64,
    /// With keys and values in f16, which devices may round differently.
    pub half_cache: f64,
    /// With keys and values in blocks: where sums differ in the last bit a value may be rounded to the next step.
    pub block_cache: f64,
}

impl Bounds {
    /// For a device that computes in f32 and takes stored values as they are.
    pub const F32: Self = Self { plain: 1e-9, blocks: 1e-9, half_cache: 1e-6, block_cache: 1e-5 };

    fn of(self, dtype: DType, cache: DType) -> f64 {
        let weights = if dtype.block_len() > 1 { self.blocks } else { self.plain };
        weights.max(match cache {
            DType::F32 => 0.0,
            DType::F16 => self.half_cache,
            _ => self.block_cache,
        })
    }
}

/// What a case came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operation, output, type and run lengths.
    pub case: String,
    /// The error found, or why there is none.
    pub error: Result<f64, DeviceError>,
    /// The most that is allowed.
    pub bound: f64,
}

impl Outcome {
    /// Whether the device is good enough.
    pub fn passed(&self) -> bool {
        // Written so that NaN fails.
        self.error.as_ref().is_ok_and(|error| *error <= self.bound)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Ok(error) => write!(f, "{}: error {error:.1e}, at most {:.1e}", self.case, self.bound),
            Err(error) => write!(f, "{}: {error}", self.case),
        }
    }
}

/// Runs every operation on `device` and on `oracle` with the same random weights and tokens.
pub fn operations(device: &dyn Device, oracle: &dyn Device, bounds: Bounds, seed: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for case in cases::ALL {
        for dtype in DType::ALL {
            for cache in CACHE_DTYPES {
                if (cache != DType::F32 && !case.caches) || (dtype != DType::F32 && !case.weights) {
                    continue;
                }
                // Every output of the operation in turn, over the same random numbers.
                let mut index = 0;
                while let Some(plan) = case.plan(dtype, cache, seed, index) {
                    let plan = Arc::new(plan);
                    let output = plan.output().map_or("", |id| plan.buffer(id).name.as_str());
                    outcomes.push(Outcome {
                        case: format!("{} -> {output} ({dtype}, cache {cache})", case.name),
                        error: compare(device, oracle, &plan, case.runs, seed),
                        bound: bounds.of(dtype, cache),
                    });
                    index += 1;
                }
            }
        }
    }
    outcomes
}

/// The worst error over `runs`, one after the other on one cache.
fn compare(
    device: &dyn Device,
    oracle: &dyn Device,
    plan: &Arc<Plan>,
    runs: &[usize],
    seed: u64,
) -> Result<f64, DeviceError> {
    device.supports(plan)?;
    let mut random = Generate::random(seed);
    let tokens: Vec<u32> = (0..runs.iter().sum()).map(|_| random.below(VOCABULARY) as u32).collect();
    let found = outputs(device, plan, runs, &tokens)?;
    let expected = outputs(oracle, plan, runs, &tokens)?;
    Ok(worst_error(&found, &expected))
}

/// The mean square error of the worst run, by the mean square of what all runs should give. A run by itself is no
/// measure: its output may be one sum whose terms nearly cancel, and rounding errors follow the terms, not the sum.
fn worst_error(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let size = mean_square(expected.iter().flatten().map(|y| f64::from(*y)));
    let error = |(found, expected): (&Vec<f32>, &Vec<f32>)| {
        if found.len() != expected.len() {
            return f64::INFINITY;
        }
        let pairs = found.iter().zip(expected);
        let error = mean_square(pairs.map(|(x, y)| f64::from(*x) - f64::from(*y)));
        if error == 0.0 { 0.0 } else { error / size }
    };
    let errors = found.iter().zip(expected).map(error);
    errors.fold(0.0, |worst, error| if error.is_nan() { f64::INFINITY } else { error.max(worst) })
}

/// 0 of nothing.
fn mean_square(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value * value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

fn outputs(
    device: &dyn Device,
    plan: &Arc<Plan>,
    runs: &[usize],
    tokens: &[u32],
) -> Result<Vec<Vec<f32>>, DeviceError> {
    let mut executable = device.prepare(Arc::clone(plan))?;
    let mut cache = device.create_cache(plan.cache(), tokens.len(), plan.max_tokens())?;
    let mut rest = tokens;
    let mut all = Vec::new();
    for run in runs {
        let (now, later) = rest.split_at(*run);
        let call = Call { tokens: now, cache: cache.as_mut(), deadline: Deadline::never(), probe: None };
        executable.run(call)?;
        all.push(executable.output().to_vec());
        rest = later;
    }
    Ok(all)
}

/// `Σ(found − expected)² / Σ expected²`; infinite when the lengths differ.
pub fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let square = |x: f64| x * x;
    let error: f64 = found.iter().zip(expected).map(|(x, y)| square(f64::from(*x) - f64::from(*y))).sum();
    let size: f64 = expected.iter().map(|y| square(f64::from(*y))).sum();
    if error == 0.0 { 0.0 } else { error / size }
}

/// Runs of one to several tokens that leave tiles of every usual size half full.
pub(crate) const RUNS: &[usize] = &[1, 17, 5, 1, 32];

/// The longest of [`RUNS`].
pub(crate) const MAX_RUN: usize = 32;

/// What the cases' plans give back.
pub(crate) const OUTPUTS: Outputs = Outputs::All;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_measured_by_the_outputs_of_all() {
        let expected = [vec![0.001], vec![2.0, -1.0, 1.0]];
        let size = (4.0 + 1.0 + 1.0) / 4.0;
        for (case, found, error) in [
            ("the same", [vec![0.001], vec![2.0, -1.0, 1.0]], 0.0),
            ("a small error in a sum that nearly cancels", [vec![0.002], vec![2.0, -1.0, 1.0]], 1e-6 / size),
            ("a short run that is wrong", [vec![1.001], vec![2.0, -1.0, 1.0]], 1.0 / size),
            ("one value of three", [vec![0.001], vec![2.0, -1.0, 0.0]], 1.0 / 3.0 / size),
            ("the worst counts", [vec![3.001], vec![2.0, -1.0, 0.0]], 9.0 / size),
            ("not a number", [vec![f32::NAN], vec![2.0, -1.0, 1.0]], f64::INFINITY),
            ("too few", [vec![0.001], vec![2.0, -1.0]], f64::INFINITY),
        ] {
            let found = worst_error(&found, &expected);
            assert!(found == error || (found / error - 1.0).abs() < 1e-4, "{case}: {found}, not {error}");
        }
        // Nothing is allowed where nothing should be.
        assert_eq!(worst_error(&[vec![1e-9]], &[vec![0.0]]), f64::INFINITY);
    }
}
