//! [`FaultDevice`]: a device that fails when told to, so that recovery can be tested without breaking hardware.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::DeviceError;
use crate::device::{Cache, Call, Device, DeviceInfo, Executable, MemoryUse, Probe};
use crate::op::BufferId;
use crate::plan::{CacheLayout, Plan, Step};

/// When to fail and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Operations that still succeed, counted over all runs of all plans of the device.
    pub after: u64,
    /// What the next one fails with.
    pub error: DeviceError,
    /// Whether all later operations fail too (a lost device) or only that one (a time-out).
    pub forever: bool,
}

/// Wraps another device.
pub struct FaultDevice {
    inner: Box<dyn Device>,
    fault: Fault,
    done: Arc<AtomicU64>,
}

impl FaultDevice {
    /// `inner`, with `fault`.
    pub fn new(inner: Box<dyn Device>, fault: Fault) -> Self {
        Self { inner, fault, done: Arc::default() }
    }

    /// Operations asked for so far, the failed ones included.
    pub fn operations(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Device for FaultDevice {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn supports(&self, plan: &Plan) -> Result<(), DeviceError> {
        self.inner.supports(plan)
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        let inner = self.inner.prepare(plan)?;
        Ok(Box::new(FaultExecutable { inner, fault: self.fault.clone(), done: Arc::clone(&self.done) }))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        self.inner.create_cache(layout, context, chunk)
    }

    fn memory(&self) -> MemoryUse {
        self.inner.memory()
    }
}

struct FaultExecutable {
    inner: Box<dyn Executable>,
    fault: Fault,
    done: Arc<AtomicU64>,
}

struct FaultProbe<'a> {
    fault: &'a Fault,
    done: &'a AtomicU64,
    next: Option<&'a mut dyn Probe>,
}

impl Probe for FaultProbe<'_> {
    fn before(&mut self, index: usize, step: &Step) -> Result<(), DeviceError> {
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        if done == self.fault.after || (self.fault.forever && done > self.fault.after) {
            return Err(self.fault.error.clone());
        }
        self.next.as_mut().map_or(Ok(()), |next| next.before(index, step))
    }

    fn after(&mut self, index: usize, step: &Step, read: &dyn Fn(BufferId) -> Vec<f32>) {
        if let Some(next) = self.next.as_mut() {
            next.after(index, step, read);
        }
    }
}

impl Executable for FaultExecutable {
    fn plan(&self) -> &Plan {
        self.inner.plan()
    }

    fn run(&mut self, call: Call<'_>) -> Result<(), DeviceError> {
        let Call { tokens, cache, deadline, probe } = call;
        let next = probe.map(|probe| -> &mut dyn Probe { probe });
        let mut probe = FaultProbe { fault: &self.fault, done: &self.done, next };
        self.inner.run(Call { tokens, cache, deadline, probe: Some(&mut probe) })
    }

    fn output(&self) -> &[f32] {
        self.inner.output()
    }
}
