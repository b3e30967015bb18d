//! The reference backend: every operation alone, one row after another, scalar, the oracle of all others.
//!
//! Values are f32, sums are f64, nothing is fused, cached or parallel, and there is no unsafe code. It is as slow as
//! it is plain; [`crate::CpuDevice`] is the one to run.

mod activations;
mod attention;
mod layer;
mod math;

use std::sync::Arc;

use gemma_hal::{
    Budget, Cache, CacheLayout, Call, Device, DeviceError, DeviceInfo, DeviceKind, Executable, HostCache,
    MemoryUse, Op, Plan, Reservation, Step,
};

use activations::Activations;

/// Name in errors and of `--device`.
const NAME: &str = "reference";

/// The oracle.
#[derive(Debug)]
pub struct ReferenceDevice {
    info: DeviceInfo,
    budget: Budget,
}

impl ReferenceDevice {
    /// A reference device that may hold `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let info = DeviceInfo {
            id: NAME.to_owned(),
            name: "plain scalar code".to_owned(),
            kind: DeviceKind::Cpu,
            features: Vec::new(),
            units: 1,
        };
        Self { info, budget: Budget::new(NAME, limit) }
    }
}

impl Device for ReferenceDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, _plan: &Plan) -> Result<(), DeviceError> {
        Ok(())
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        let values: usize =
            plan.buffers().iter().map(|b| plan.row_count(b.rows, plan.max_tokens()) * b.width).sum();
        let reservation = self.budget.reserve("activations", values as u64 * 4)?;
        let activations = Activations::of(&plan);
        Ok(Box::new(ReferenceExecutable { plan, activations, _reservation: reservation }))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        Ok(Box::new(HostCache::new(NAME, &self.budget, layout, context, chunk)?))
    }

    fn memory(&self) -> MemoryUse {
        self.budget.memory()
    }
}

struct ReferenceExecutable {
    plan: Arc<Plan>,
    activations: Activations,
    _reservation: Reservation,
}

/// What an operation of the running plan may touch.
struct Run<'a> {
    plan: &'a Plan,
    tokens: &'a [u32],
    /// Position of the first token.
    start: usize,
    cache: &'a mut HostCache,
    activations: &'a mut Activations,
}

impl Executable for ReferenceExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn run(&mut self, mut call: Call<'_>) -> Result<(), DeviceError> {
        call.check(NAME, &self.plan)?;
        let cache = HostCache::of(NAME, call.cache)?;
        let start = cache.len();
        cache.begin(call.tokens.len());
        self.activations.resize(&self.plan, call.tokens.len());
        let plan = Arc::clone(&self.plan);
        for (index, step) in plan.steps().iter().enumerate() {
            call.deadline.check(NAME, step.op.name())?;
            if let Some(probe) = call.probe.as_deref_mut() {
                probe.before(index, step)?;
            }
            let activations = &mut self.activations;
            Run { plan: &plan, tokens: call.tokens, start, cache, activations }.step(step);
            if let Some(probe) = call.probe.as_deref_mut() {
                probe.after(index, step, &|id| self.activations.get(id).to_vec());
            }
        }
        cache.commit(call.tokens.len());
        Ok(())
    }

    fn output(&self) -> &[f32] {
        self.plan.output().map_or(&[], |id| self.activations.get(id))
    }
}

impl Run<'_> {
    fn step(&mut self, step: &Step) {
        match &step.op {
            Op::Embed { .. } | Op::PerLayerEmbed { .. } | Op::AltUpInit { .. } | Op::SelectOutputs { .. } => {
                self.embed_step(&step.op);
            }
            Op::Rotary { .. } | Op::Attention { .. } | Op::AttentionResidual { .. } => {
                self.attention_step(&step.op);
            }
            _ => self.layer_step(&step.op),
        }
    }

    /// Rows of the operation, and the position of the first.
    fn rows(&self, op: &Op) -> (usize, usize) {
        let rows = self.plan.row_count(self.plan.op_rows(op), self.tokens.len());
        (rows, self.start + self.tokens.len() - rows)
    }
}
