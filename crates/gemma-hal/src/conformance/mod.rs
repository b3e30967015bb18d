//! The suite that every device must pass: each operation against the reference on random shapes, and the contract.
//!
//! [`operations`] compares outputs by normalised mean square error, `Σ(x − y)² / Σ y²`, against a bound for each type
//! of weight. [`contract`] checks what no comparison shows: errors, deadlines, caches that survive a failed run.
//! Both report all findings instead of stopping at the first.

mod cases;
mod contract;
mod generate;

use std::fmt;
use std::sync::Arc;

use crate::device::{Call, Deadline, Device};
use crate::{DType, DeviceError, Outputs, Plan};

pub use contract::contract;
use generate::{Generate, VOCABULARY};

/// The most error that a device may add, as NMSE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// With f32, f16 and bf16 weights.
    pub plain: f64,
    /// With block formats; larger where a device also quantises activations.
    pub blocks: f64,
    /// With keys and values in f16, which devices may round differently.
    pub half_cache: f64,
}

impl Bounds {
    /// For a device that computes in f32 and takes stored values as they are.
    pub const F32: Self = Self { plain: 1e-9, blocks: 1e-9, half_cache: 1e-6 };

    fn of(self, dtype: DType, cache: DType) -> f64 {
        let weights = if dtype.block_len() > 1 { self.blocks } else { self.plain };
        if cache == DType::F16 { weights.max(self.half_cache) } else { weights }
    }
}

/// What a case came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operation, output, type and run lengths.
    pub case: String,
    /// The error found, or why there is none.
    pub nmse: Result<f64, DeviceError>,
    /// The most that is allowed.
    pub bound: f64,
}

impl Outcome {
    /// Whether the device is good enough.
    pub fn passed(&self) -> bool {
        // Written so that NaN fails.
        self.nmse.as_ref().is_ok_and(|nmse| *nmse <= self.bound)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nmse {
            Ok(nmse) => write!(f, "{}: NMSE {nmse:.1e}, at most {:.1e}", self.case, self.bound),
            Err(error) => write!(f, "{}: {error}", self.case),
        }
    }
}

/// Runs every operation on `device` and on `oracle` with the same random weights and tokens.
pub fn operations(device: &dyn Device, oracle: &dyn Device, bounds: Bounds, seed: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for case in cases::ALL {
        for dtype in DType::ALL {
            for cache in [DType::F32, DType::F16] {
                let plain = dtype == DType::F32 && cache == DType::F32;
                if !plain && ((cache == DType::F16 && !case.caches) || (dtype != DType::F32 && !case.weights))
                {
                    continue;
                }
                // Every output of the operation in turn, over the same random numbers.
                let mut index = 0;
                while let Some(plan) = case.plan(dtype, cache, seed, index) {
                    let plan = Arc::new(plan);
                    let output = plan.output().map_or("", |id| plan.buffer(id).name.as_str());
                    outcomes.push(Outcome {
                        case: format!("{} -> {output} ({dtype}, cache {cache})", case.name),
                        nmse: compare(device, oracle, &plan, case.runs, seed),
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
    let errors = found.iter().zip(&expected).map(|(found, expected)| nmse(found, expected));
    Ok(errors.fold(0.0, |worst, error| if error.is_nan() { f64::INFINITY } else { error.max(worst) }))
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
