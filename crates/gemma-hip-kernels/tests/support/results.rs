//! What kernels were found to be off by, each the most of all cases that it was part of.

use std::collections::BTreeMap;

use gemma_hal::conformance::Outcome;
use gemma_hip_kernels::objects;

use super::device::EmulatedDevice;

/// The largest normalised mean square error by kernel.
#[derive(Default)]
pub struct Results(BTreeMap<String, f64>);

impl Results {
    /// Adds what a kernel was off by.
    pub fn add(&mut self, kernel: &str, error: f64) {
        let most = self.0.entry(kernel.to_owned()).or_default();
        *most = most.max(error);
    }

    /// Adds the outcomes of the suite, of which each has prepared one plan on the device.
    pub fn add_suite(&mut self, device: &EmulatedDevice, outcomes: &[Outcome]) {
        let by_plan = device.kernels_by_plan();
        assert_eq!(by_plan.len(), outcomes.len(), "a plan a case");
        for (kernels, outcome) in by_plan.iter().zip(outcomes) {
            let error = outcome.error.as_ref().copied().unwrap_or(f64::NAN);
            kernels.iter().for_each(|kernel| self.add(kernel, error));
        }
    }

    /// A line a kernel, with how many of its instructions were executed and how many it has where that is known; then a line for all
    /// kernels of an operation.
    pub fn lines(&self, covered: &BTreeMap<&str, (usize, usize)>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut operations: BTreeMap<&str, (usize, f64, usize, usize)> = BTreeMap::new();
        for (kernel, error) in &self.0 {
            let (executed, all) = covered.get(kernel.as_str()).copied().unwrap_or_default();
            lines.push(format!("{kernel:<32} {error:>8.1e} {executed:>6} of {all:>6} instructions"));
            let sums = operations.entry(objects::operation_of(kernel).unwrap_or("none")).or_default();
            *sums = (sums.0 + 1, sums.1.max(*error), sums.2 + executed, sums.3 + all);
        }
        lines.extend(operations.iter().map(|(operation, (kernels, error, executed, all))| {
            format!("| `{operation}` | {kernels} | {error:.0e} | {executed} of {all} |")
        }));
        lines
    }
}
