//! [`HipDevice`]: runs plans on an AMD GPU.

use std::path::PathBuf;
use std::sync::Arc;

use gemma_hal::{
    Budget, Cache, CacheLayout, Device, DeviceError, DeviceInfo, DeviceKind, Executable, MemoryUse, Plan,
};
use gemma_hip_kernels::{Activations, images, prepare};

use crate::adapter::HipAdapter;
use crate::cache::HipCache;
use crate::executable::HipExecutable;
use crate::objects;
use crate::runtime::Card;
use crate::weight::Matrices;

/// Operations that an integrated GPU has before it at a time, where those of a prompt are many: some 20 ms at 2 TFLOP/s, an estimate. It
/// draws the screen too, and a run that is cancelled leaves no more than twice as many behind.
const FLOPS_IN_FLIGHT: u64 = 40_000_000_000;

/// Where weights lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightMemory {
    /// The device's; where a GPU that shares the machine's memory has none left, mapped. See `docs/adr/0022-hip-memory.md`.
    #[default]
    Fitting,
    /// Memory of the host that the GPU has an address for, and writes of the host go to directly. Where the runtime refuses, the device's.
    Mapped,
    /// The device's own.
    Device,
}

/// How a [`HipDevice`] is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HipOptions {
    /// Most bytes of weights, activations and caches on the device.
    pub memory: u64,
    /// How activations meet weights.
    pub activations: Activations,
    /// Where weights lie.
    pub weights: WeightMemory,
    /// The folder of code objects; without one it is looked for, see docs/hip.md.
    pub kernels: Option<PathBuf>,
}

impl HipOptions {
    /// The usual ones, with `memory` bytes.
    pub fn new(memory: u64) -> Self {
        Self { memory, activations: Activations::default(), weights: WeightMemory::default(), kernels: None }
    }
}

/// What all that a device makes has in common.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) card: Arc<Card>,
    pub(crate) budget: Budget,
    pub(crate) matrices: Arc<Matrices>,
    pub(crate) activations: Activations,
    pub(crate) weights: WeightMemory,
    pub(crate) flops_in_flight: u64,
    pub(crate) compute_units: usize,
}

/// An AMD GPU.
pub struct HipDevice {
    info: DeviceInfo,
    pub(crate) setup: Setup,
}

impl HipDevice {
    /// Opens `adapter`, and loads its kernels where this process has not.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for a GPU without kernels, [`DeviceError::Driver`] with what is wrong with the code objects or what the
    /// runtime says.
    pub fn new(adapter: &HipAdapter, options: &HipOptions) -> Result<Self, DeviceError> {
        adapter.is_supported()?;
        let driver = &adapter.driver;
        let folder = objects::find(options.kernels.as_deref()).map_err(|problem| driver.refused(problem))?;
        let card = Card::open(driver, folder.clone(), || {
            images::read(&folder, &adapter.architecture).map_err(|problem| driver.refused(problem))
        })?;
        let kind = if card.is_integrated { DeviceKind::IntegratedGpu } else { DeviceKind::DiscreteGpu };
        let info = DeviceInfo {
            id: adapter.id.clone(),
            name: adapter.name.clone(),
            kind,
            features: features(adapter, options),
            units: adapter.compute_units,
        };
        let setup = Setup {
            card,
            budget: Budget::new(&adapter.id, options.memory),
            matrices: Arc::default(),
            activations: options.activations,
            weights: options.weights,
            compute_units: adapter.compute_units,
            // Those with memory of their own draw no screen as a rule, and all are fast enough.
            flops_in_flight: if kind == DeviceKind::IntegratedGpu { FLOPS_IN_FLIGHT } else { u64::MAX },
        };
        Ok(Self { info, setup })
    }
}

/// What is used of the device.
fn features(adapter: &HipAdapter, options: &HipOptions) -> Vec<String> {
    let mut features = vec![adapter.architecture.clone(), format!("HIP {}", adapter.runtime)];
    if options.activations != Activations::Float32 {
        features.extend(["int8 activations", "matrix units"].map(str::to_owned));
    }
    features.extend((options.weights == WeightMemory::Mapped).then(|| "mapped weights".to_owned()));
    features
}

impl Device for HipDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan) -> Result<(), DeviceError> {
        match prepare::unsupported(plan) {
            Some(what) => Err(DeviceError::Unsupported { device: self.info.id.clone(), what }),
            None => Ok(()),
        }
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        self.supports(&plan)?;
        Ok(Box::new(HipExecutable::new(&self.setup, plan)?))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        Ok(Box::new(HipCache::new(&self.setup, layout, context, chunk)?))
    }

    fn memory(&self) -> MemoryUse {
        self.setup.budget.memory()
    }
}

#[cfg(test)]
mod tests {
    use gemma_hal::conformance;

    use super::*;
    use crate::testing::Machine;

    #[test]
    fn prompts_in_the_smallest_shares_keep_the_contract() {
        let machine = Machine::new();
        let mut device = HipDevice::new(&machine.adapter, &HipOptions::new(1 << 30)).unwrap();
        // Each operation of a prompt is a share of its own.
        device.setup.flops_in_flight = 0;
        assert_eq!(conformance::contract(&device), Vec::<String>::new());
    }
}
