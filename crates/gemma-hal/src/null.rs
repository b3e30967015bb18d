//! [`NullDevice`]: accepts every plan and computes nothing; its outputs are zeros.
//!
//! It measures what everything around a device costs, and lets callers be tested without weights.

use std::sync::Arc;

use crate::DeviceError;
use crate::budget::{Budget, Reservation};
use crate::cache::HostCache;
use crate::device::{Cache, Call, Device, DeviceInfo, DeviceKind, Executable, MemoryUse};
use crate::plan::{CacheLayout, Plan};

const NAME: &str = "null";

/// A device that does nothing, at once.
#[derive(Debug)]
pub struct NullDevice {
    info: DeviceInfo,
    budget: Budget,
}

impl NullDevice {
    /// A null device that may hold `limit` bytes.
    pub fn new(limit: u64) -> Self {
        let info = DeviceInfo {
            id: NAME.to_owned(),
            name: "computes nothing".to_owned(),
            kind: DeviceKind::Null,
            features: Vec::new(),
            units: 0,
        };
        Self { info, budget: Budget::new(NAME, limit) }
    }
}

impl Device for NullDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, _plan: &Plan) -> Result<(), DeviceError> {
        Ok(())
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        let len = plan.output_values(plan.max_tokens());
        let reservation = self.budget.reserve("outputs", len as u64 * 4)?;
        Ok(Box::new(NullExecutable { plan, output: vec![0.0; len], used: 0, _reservation: reservation }))
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

struct NullExecutable {
    plan: Arc<Plan>,
    output: Vec<f32>,
    used: usize,
    _reservation: Reservation,
}

impl Executable for NullExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn run(&mut self, mut call: Call<'_>) -> Result<(), DeviceError> {
        call.check(NAME, &self.plan)?;
        for (index, step) in self.plan.steps().iter().enumerate() {
            call.deadline.check(NAME, step.op.name())?;
            if let Some(probe) = call.probe.as_deref_mut() {
                probe.before(index, step)?;
                probe.after(index, step, &|id| {
                    let buffer = self.plan.buffer(id);
                    vec![0.0; self.plan.row_count(buffer.rows, call.tokens.len()) * buffer.width]
                });
            }
        }
        let cache = HostCache::of(NAME, call.cache)?;
        cache.begin(call.tokens.len());
        cache.commit(call.tokens.len());
        self.used = self.plan.output_values(call.tokens.len());
        Ok(())
    }

    fn output(&self) -> &[f32] {
        &self.output[..self.used]
    }
}
