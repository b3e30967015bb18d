//! A plan of two kernels over a handful of weights, for tests of what is around them.

use std::sync::Arc;

use gemma_hal::op::{LinearPart, Op};
use gemma_hal::{
    Cache, CacheLayout, Call, DType, Deadline, Device, DeviceError, Executable, Outputs, Plan, PlanBuilder,
    Rows, Storage, Weight,
};

const HIDDEN: usize = 16;
/// Values of an output row.
pub const OUTPUTS: usize = 96;
const VOCABULARY: usize = 8;

/// `weight · table[token]` for up to `max_tokens` tokens.
pub fn plan(max_tokens: usize) -> Arc<Plan> {
    let weight = |rows: usize, columns: usize| {
        let values: Vec<u8> =
            (0..rows * columns).flat_map(|i| ((i as f32 * 0.37).sin()).to_le_bytes()).collect();
        Weight::new(Storage::new("test", values), 0, rows, columns, DType::F32).expect("as many bytes")
    };
    let layout = CacheLayout { layers: Vec::new(), dtype: DType::F32 };
    let mut plan = PlanBuilder::new("network", max_tokens, Outputs::All, 1e-6, layout);
    let table = plan.weight("table", weight(VOCABULARY, HIDDEN));
    let matrix = plan.weight("matrix", weight(OUTPUTS, HIDDEN));
    let input = plan.buffer("embedded", Rows::Tokens, HIDDEN);
    let output = plan.buffer("output", Rows::Tokens, OUTPUTS);
    plan.push(None, Op::Embed { table, scale: 2.0, output: input });
    plan.push(None, Op::Linear { input, parts: vec![LinearPart { weight: matrix, output }] });
    Arc::new(plan.finish(Some(output)).expect("a good plan"))
}

/// The plan on a device, with a cache.
pub struct Network {
    pub executable: Box<dyn Executable>,
    pub cache: Box<dyn Cache>,
}

impl Network {
    pub fn on(device: &dyn Device, max_tokens: usize) -> Result<Self, DeviceError> {
        let plan = plan(max_tokens);
        let cache = device.create_cache(plan.cache(), 64, max_tokens)?;
        Ok(Self { executable: device.prepare(plan)?, cache })
    }

    pub fn run(&mut self, tokens: &[u32], deadline: Deadline) -> Result<Vec<f32>, DeviceError> {
        self.executable.run(Call { tokens, cache: self.cache.as_mut(), deadline, probe: None })?;
        Ok(self.executable.output().to_vec())
    }

    /// The largest values after a token, of which so many are asked for.
    pub fn chosen(&mut self, token: u32, count: usize) -> Vec<(u32, f32)> {
        self.executable.shortlist(count);
        let rows = self.go(&[token]);
        assert!(rows.is_empty(), "{count} are chosen");
        self.executable.chosen().to_vec()
    }

    pub fn go(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.run(tokens, Deadline::never()).expect("a run")
    }
}
