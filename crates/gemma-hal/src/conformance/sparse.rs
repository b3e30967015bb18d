//! A network with a cutoff, and what every device must do with it: a row alone gives what it gives among many, however few units stay.
//!
//! Devices take such layers in another way when there is one row, with weights of another layout. How they share and count these is for
//! tests of their own, which can be made of the same network.

use std::sync::Arc;

use super::nmse;
use crate::random::SplitMix64;
use crate::{
    CacheLayout, Call, DType, Deadline, Device, DeviceError, Executable, Op, Outputs, Plan, PlanBuilder,
    Rows, Storage, Weight, block,
};

/// Tokens of a run.
const TOKENS: usize = 6;

/// Cutoffs at which none, 2 %, a sixth, most and all units stay.
const CUTOFFS: [f32; 5] = [100.0, 2.0, 1.0, -0.5, -100.0];

/// Weights of a network in Q4_0, to be shared by plans.
#[derive(Debug)]
pub struct SparseNetwork {
    hidden: usize,
    units: usize,
    table: Weight,
    gate: Weight,
    up: Weight,
    down: Weight,
}

fn weight(dtype: DType, rows: usize, columns: usize, seed: u64) -> Weight {
    let mut random = SplitMix64::new(seed);
    let values: Vec<f32> = (0..rows * columns).map(|_| random.next_unit() - 0.5).collect();
    let rows_of = values.chunks_exact(columns);
    let bytes: Vec<u8> = rows_of.flat_map(|row| block::quantise_row(dtype, row)).collect();
    Weight::new(Storage::new("weight", bytes), 0, rows, columns, dtype).expect("as many bytes")
}

impl SparseNetwork {
    /// A network of `hidden` values and `units` hidden units, multiples of 32.
    pub fn new(hidden: usize, units: usize) -> Self {
        Self {
            hidden,
            units,
            table: weight(DType::F32, TOKENS, hidden, 1),
            gate: weight(DType::Q4_0, units, hidden, 2),
            up: weight(DType::Q4_0, units, hidden, 3),
            down: weight(DType::Q4_0, hidden, units, 4),
        }
    }

    /// Bytes of one of its matrices: 18 for 32 values.
    pub fn matrix_bytes(&self) -> u64 {
        (self.hidden * self.units / 32 * 18) as u64
    }

    /// With the first `units` units.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn plan(&self, max_tokens: usize, units: usize, cutoff: f32) -> Arc<Plan> {
        let layout = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
        let mut plan = PlanBuilder::new("network", max_tokens, Outputs::All, 1e-6, layout);
        let table = plan.weight("table", self.table.clone());
        let gate = plan.weight("gate", self.gate.rows_view(0, units).expect("rows of the whole"));
        let up = plan.weight("up", self.up.rows_view(0, units).expect("rows of the whole"));
        let down = plan.weight("down", self.down.columns_view(units).expect("columns of the whole"));
        let input = plan.buffer("input", Rows::Tokens, self.hidden);
        let gated = plan.buffer("gated", Rows::Tokens, units);
        let hidden = plan.buffer("hidden", Rows::Tokens, units);
        let output = plan.buffer("output", Rows::Tokens, self.hidden);
        plan.push(None, Op::Embed { table, scale: 1.0, output: input });
        let cutoff = Some(cutoff);
        plan.push(None, Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output });
        Arc::new(plan.finish(Some(output)).expect("a good plan"))
    }

    /// What a plan of the network gives for all its tokens, as many at a time as it takes.
    ///
    /// # Errors
    /// The device's.
    pub fn run(device: &dyn Device, executable: &mut dyn Executable) -> Result<Vec<f32>, DeviceError> {
        let tokens: Vec<u32> = (0..TOKENS as u32).collect();
        let layout = executable.plan().cache().clone();
        let mut cache = device.create_cache(&layout, TOKENS, TOKENS)?;
        let mut all = Vec::new();
        for tokens in tokens.chunks(executable.plan().max_tokens()) {
            let call = Call { tokens, cache: cache.as_mut(), deadline: Deadline::never(), probe: None };
            executable.run(call)?;
            all.extend_from_slice(executable.output());
        }
        Ok(all)
    }

    /// Where rows alone give something else than rows among many, by more than `bound`, or not the same twice; with all units and with
    /// half of them.
    ///
    /// # Errors
    /// The device's.
    pub fn findings(&self, device: &dyn Device, bound: f64) -> Result<Vec<String>, DeviceError> {
        let mut findings = Vec::new();
        for units in [self.units, self.units / 2] {
            for cutoff in CUTOFFS {
                let mut many = device.prepare(self.plan(TOKENS, units, cutoff))?;
                let expected = Self::run(device, many.as_mut())?;
                let mut one = device.prepare(self.plan(1, units, cutoff))?;
                let found = Self::run(device, one.as_mut())?;
                let error = nmse(&found, &expected);
                if error.is_nan() || error > bound {
                    findings.push(format!("{units} units, cutoff {cutoff}: {error:.1e}"));
                }
                if Self::run(device, one.as_mut())? != found {
                    findings.push(format!("{units} units, cutoff {cutoff}: not the same again"));
                }
            }
        }
        Ok(findings)
    }
}
