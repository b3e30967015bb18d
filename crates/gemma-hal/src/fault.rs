//! [`FaultDevice`]: a device that fails when told to, so that recovery can be tested without breaking hardware.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::DeviceError;
use crate::device::{Cache, Call, Device, DeviceInfo, Executable, MemoryUse, Probe};
use crate::op::BufferId;
use crate::plan::{CacheLayout, Plan, Step};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An operation of a run.
    Operation,
    /// [`Device::prepare`].
    Prepare,
    /// [`Device::create_cache`].
    CreateCache,
}

/// When to fail and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What still succeeds: operations, counted over all runs of all plans of the device, or calls at another
    /// [`Place`].
    pub after: u64,
    /// What the next one fails with.
    pub error: DeviceError,
    /// Whether all later ones fail too (a lost device) or only that one (a time-out).
    pub forever: bool,
}

impl Fault {
    /// Counts one more and fails when its turn has come.
    fn check(&self, done: &AtomicU64) -> Result<(), DeviceError> {
        let done = done.fetch_add(1, Ordering::Relaxed);
        if done == self.after || (self.forever && done > self.after) {
            return Err(self.error.clone());
        }
        Ok(())
    }
}

/// Wraps another device.
pub struct FaultDevice {
    inner: Box<dyn Device>,
    place: Place,
    fault: Fault,
    done: Arc<AtomicU64>,
}

impl FaultDevice {
    /// `inner`, with `fault` in its operations.
    pub fn new(inner: Box<dyn Device>, fault: Fault) -> Self {
        Self::at(Place::Operation, inner, fault)
    }

    /// `inner`, with `fault` at `place`; everywhere else it works.
    pub fn at(place: Place, inner: Box<dyn Device>, fault: Fault) -> Self {
        Self { inner, place, fault, done: Arc::default() }
    }

    /// Operations, or calls at the fault's place, asked for so far, the failed ones included.
    pub fn operations(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn call(&self, place: Place) -> Result<(), DeviceError> {
        if place == self.place { self.fault.check(&self.done) } else { Ok(()) }
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
        self.call(Place::Prepare)?;
        let inner = self.inner.prepare(plan)?;
        if self.place != Place::Operation {
            return Ok(inner);
        }
        Ok(Box::new(FaultExecutable { inner, fault: self.fault.clone(), done: Arc::clone(&self.done) }))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        self.call(Place::CreateCache)?;
        self.inner.create_cache(layout, context, chunk)
    }

    fn memory(&self) -> MemoryUse {
        self.inner.memory()
    }

    fn sparsity(&self) -> crate::Sparsity {
        self.inner.sparsity()
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
        self.fault.check(self.done)?;
        self.next.as_mut().map_or(Ok(()), |next| next.before(index, step))
    }

    fn after(&mut self, index: usize, step: &Step, read: &dyn Fn(BufferId) -> Vec<f32>) {
        if let Some(next) = self.next.as_mut() {
            next.after(index, step, read);
        }
    }

    fn took(&mut self, index: usize, seconds: f64) {
        if let Some(next) = self.next.as_mut() {
            next.took(index, seconds);
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

    fn shortlist(&mut self, count: usize) {
        self.inner.shortlist(count);
    }

    fn chosen(&self) -> &[(u32, f32)] {
        self.inner.chosen()
    }
}
