//! The contract of a device: [`Device`] prepares plans and makes caches, [`Executable`] runs a prepared plan.
//!
//! The caller validates plans (by building them) and a device asks [`Call::check`]; beyond
//! that it reports only what nobody can foresee. A device is chosen at run time, hence `dyn`; inside a backend all is
//! static. Every wait has a deadline.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cache::Snapshot;
use crate::op::BufferId;
use crate::plan::{CacheLayout, Plan, Step};
use crate::positions::Positions;
use crate::{Cost, DType, DeviceError};

/// What sort of processor a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The machine's own cores.
    Cpu,
    /// A GPU that shares the machine's memory.
    IntegratedGpu,
    /// A GPU with memory of its own.
    DiscreteGpu,
    /// A neural processing unit.
    Npu,
    /// Computes nothing.
    Null,
}

/// What a device is, for people and for placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Short name that `--device` takes ("cpu").
    pub id: String,
    /// The maker's name for it.
    pub name: String,
    /// What sort it is.
    pub kind: DeviceKind,
    /// Features that its kernels use ("avx512f").
    pub features: Vec<String>,
    /// Threads or compute units at work.
    pub units: usize,
}

/// Memory that a device holds for its callers, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held now: arenas, caches, packed weights.
    pub used: u64,
    /// The most that it may hold.
    pub limit: u64,
}

/// When a run has to end.
#[derive(Clone, Debug, Default)]
pub struct Deadline {
    end: Option<(Instant, Duration)>,
    cancel: Option<Arc<AtomicBool>>,
}

impl Deadline {
    /// Never.
    pub fn never() -> Self {
        Self::default()
    }

    /// After `time` from now: zero has passed already, a time beyond the clock's range never does.
    pub fn after(time: Duration) -> Self {
        Self { end: Instant::now().checked_add(time).map(|end| (end, time)), cancel: None }
    }

    /// Also as soon as `cancel` is true.
    #[must_use]
    pub fn or_cancelled(self, cancel: Arc<AtomicBool>) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Fails once the time is over or the caller has cancelled. Devices ask between operations.
    ///
    /// # Errors
    /// [`DeviceError::Cancelled`] or [`DeviceError::Timeout`].
    pub fn check(&self, device: &str, what: &str) -> Result<(), DeviceError> {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(DeviceError::Cancelled { device: device.to_owned() });
        }
        match self.end {
            Some((end, waited)) if Instant::now() >= end => {
                Err(DeviceError::Timeout { device: device.to_owned(), what: what.to_owned(), waited })
            }
            _ => Ok(()),
        }
    }
}

/// Looks over a device's shoulder: profiles, golden tests, injected faults.
pub trait Probe {
    /// Before step `index`. An error ends the run with it.
    ///
    /// # Errors
    /// Whatever the run shall end with.
    fn before(&mut self, _index: usize, _step: &Step) -> Result<(), DeviceError> {
        Ok(())
    }

    /// After step `index`; `read` gives the rows of a buffer as they are now.
    fn after(&mut self, _index: usize, _step: &Step, _read: &dyn Fn(BufferId) -> Vec<f32>) {}

    /// The time of step `index` by the device's own clock, in seconds, without the wait of the host. Comes before
    /// [`Probe::after`], and only from devices with a clock.
    fn took(&mut self, _index: usize, _seconds: f64) {}
}

/// One run of a prepared plan.
pub struct Call<'a> {
    /// 1 to [`Plan::max_tokens`] token ids.
    pub tokens: &'a [u32],
    /// Where the keys and values go; the first token's position is the cache's length. A run that succeeds makes the
    /// cache longer by the tokens, one that fails leaves it as it was.
    pub cache: &'a mut dyn Cache,
    /// When to give up.
    pub deadline: Deadline,
    /// Somebody who watches, if any.
    pub probe: Option<&'a mut dyn Probe>,
}

impl Call<'_> {
    /// Whether this call can run on `plan`.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] says why not.
    pub fn check(&self, device: &str, plan: &Plan) -> Result<(), DeviceError> {
        let wrong = |detail: String| Err(DeviceError::InvalidCall { device: device.to_owned(), detail });
        let (count, length) = (self.tokens.len(), self.cache.len());
        if count == 0 || count > plan.max_tokens() {
            return wrong(format!("{count} tokens in a run of 1 to {}", plan.max_tokens()));
        }
        if length + count > self.cache.context() {
            return wrong(format!("context full: {length} + {count} of {} positions", self.cache.context()));
        }
        if count > self.cache.chunk() {
            return wrong(format!("{count} tokens at once in a cache for {}", self.cache.chunk()));
        }
        if self.cache.layout() != plan.cache() {
            return wrong("the cache belongs to another plan".to_owned());
        }
        let vocabulary = plan.steps().iter().find_map(|step| match step.op {
            crate::op::Op::Embed { table, .. } => Some(plan.weight(table).rows()),
            _ => None,
        });
        match self.tokens.iter().find(|&&id| vocabulary.is_some_and(|rows| id as usize >= rows)) {
            Some(id) => {
                wrong(format!("token {id} is outside of the vocabulary of {}", vocabulary.unwrap_or(0)))
            }
            None => Ok(()),
        }
    }
}

/// Keys and values of one session, in the device's memory.
pub trait Cache: Send {
    /// Which positions it holds; all that is the same on every device.
    fn positions(&self) -> &Positions;

    /// The same, to be changed.
    fn positions_mut(&mut self) -> &mut Positions;

    /// What it is laid out for.
    fn layout(&self) -> &CacheLayout {
        self.positions().layout()
    }

    /// Positions it can hold.
    fn context(&self) -> usize {
        self.positions().context()
    }

    /// The most tokens that one run may write.
    fn chunk(&self) -> usize {
        self.positions().chunk()
    }

    /// Positions it holds.
    fn len(&self) -> usize {
        self.positions().len()
    }

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all positions from `length` on. False, and nothing is changed, when the rings of windowed layers no
    /// longer hold what position `length` would look back on; length 0 always works.
    fn truncate(&mut self, length: usize) -> bool {
        self.positions_mut().truncate(length)
    }

    /// Bytes it takes.
    fn bytes(&self) -> u64;

    /// A copy that another device can take over.
    ///
    /// # Errors
    /// [`DeviceError`] when the device cannot give the memory back.
    fn export(&self) -> Result<Snapshot, DeviceError>;

    /// Takes over what another cache of the same layout exported.
    ///
    /// # Errors
    /// [`DeviceError::InvalidCall`] when layout or context do not fit.
    fn import(&mut self, snapshot: &Snapshot) -> Result<(), DeviceError>;

    /// For the device that made it.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// A plan that a device is ready to run.
pub trait Executable: Send {
    /// The plan.
    fn plan(&self) -> &Plan;

    /// Runs the plan.
    ///
    /// # Errors
    /// [`DeviceError`]; the cache is then as it was before.
    fn run(&mut self, call: Call<'_>) -> Result<(), DeviceError>;

    /// The output rows of the last run, `[outputs, width]`; empty before the first and without outputs.
    fn output(&self) -> &[f32];

    /// From the next run on, only the `count` largest values of the last output row are wanted; 0 wants all rows again.
    ///
    /// A device whose memory is far from the host's may then choose them where they are and leave [`Executable::output`]
    /// empty. Others, and those that cannot choose so many, go on as before.
    fn shortlist(&mut self, _count: usize) {}

    /// What was chosen in the last run, where a device did: index and value, largest first, equal ones by index, values that
    /// are not numbers before all others. Empty where [`Executable::output`] has the rows.
    fn chosen(&self) -> &[(u32, f32)] {
        &[]
    }
}

/// A processor that runs plans.
pub trait Device: Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Whether it can run `plan`.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] names what it cannot do.
    fn supports(&self, plan: &Plan) -> Result<(), DeviceError>;

    /// Packs weights, allocates the arena, compiles: all that is done once.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`], [`DeviceError::OutOfMemory`], or the driver's.
    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError>;

    /// A cache for `context` positions, written at most `chunk` at a time.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Unsupported`] for the type, or the driver's.
    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError>;

    /// What it holds.
    fn memory(&self) -> MemoryUse;

    /// What its runs had no need to compute so far. Two readings tell what lies between them.
    fn sparsity(&self) -> Sparsity {
        Sparsity::default()
    }
}

/// Units of feed-forward networks with a cutoff, counted over runs that look for those that are not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sparsity {
    /// All units.
    pub units: u64,
    /// Those that were not zero after the cut.
    pub active_units: u64,
    /// What [`Plan::cost`] counts and runs left out.
    pub skipped: Cost,
}

impl Sparsity {
    /// Active units of all, 0 to 1; none where no units were counted.
    pub fn active_fraction(self) -> Option<f64> {
        (self.units > 0).then(|| self.active_units as f64 / self.units as f64)
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            units: self.units - earlier.units,
            active_units: self.active_units - earlier.active_units,
            skipped: self.skipped.less(earlier.skipped),
        }
    }
}

/// The types that keys and values can be kept in.
pub const CACHE_DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::Q8_0];

/// Whether keys and values can be kept in `dtype`.
pub const fn is_cache_dtype(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::Q8_0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_cache_types_is_whole() {
        let all: Vec<DType> = DType::ALL.into_iter().filter(|dtype| is_cache_dtype(*dtype)).collect();
        assert_eq!(all, CACHE_DTYPES);
    }
}
