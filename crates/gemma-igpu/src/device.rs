//! [`IgpuDevice`]: runs plans on a GPU.

use std::sync::Arc;

use cubecl::wgpu::WgpuDevice;
use gemma_hal::{
    Budget, Cache, CacheLayout, Deadline, Device, DeviceError, DeviceInfo, DeviceKind, Executable, MemoryUse,
    Plan, Weight,
};

use crate::adapter::{Adapter, AdapterKind};
use crate::cache::IgpuCache;
use crate::executable::{IgpuExecutable, Linear};
use crate::gpu::Gpu;
use crate::tuning::Tuning;
use crate::weight::Matrices;

/// How activations meet weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Few rows are rounded to 8 bits in blocks of 32 values where weights are in a block format; many rows to f16 where the
    /// adapter has matrix units.
    #[default]
    Rounded,
    /// As they are, in f32.
    Float32,
}

/// How an [`IgpuDevice`] is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IgpuOptions {
    /// Most bytes of weights, activations and caches on the device.
    pub memory: u64,
    /// How activations meet weights.
    pub activations: Activations,
    /// How work is divided; none for the table's entry for adapters of its kind.
    pub tuning: Option<Tuning>,
}

impl IgpuOptions {
    /// The usual ones, with `memory` bytes.
    pub fn new(memory: u64) -> Self {
        Self { memory, activations: Activations::default(), tuning: None }
    }
}

/// A GPU, integrated or not.
pub struct IgpuDevice {
    info: DeviceInfo,
    pub(crate) budget: Budget,
    pub(crate) gpu: Gpu,
    selector: WgpuDevice,
    pub(crate) matrices: Arc<Matrices>,
}

impl IgpuDevice {
    /// Opens `adapter`.
    ///
    /// # Errors
    /// [`DeviceError::Driver`] with the driver's reason, [`DeviceError::InvalidCall`] for a tuning that is not possible.
    pub fn new(adapter: &Adapter, options: IgpuOptions) -> Result<Self, DeviceError> {
        let tuning = options.tuning.unwrap_or_else(|| Tuning::of(adapter.kind));
        if !tuning.is_possible() {
            let detail = format!("{tuning:?} is not possible");
            return Err(DeviceError::InvalidCall { device: adapter.id.clone(), detail });
        }
        let mut gpu = Gpu::open(&adapter.id, &adapter.selector, tuning)?;
        if options.activations == Activations::Float32 {
            (gpu.rounds, gpu.matrix_plane) = (false, None);
        }
        let kind = match adapter.kind {
            AdapterKind::Discrete => DeviceKind::DiscreteGpu,
            _ => DeviceKind::IntegratedGpu,
        };
        let info = DeviceInfo {
            id: adapter.id.clone(),
            name: adapter.name.clone(),
            kind,
            features: features(&gpu),
            units: 1,
        };
        let budget = Budget::new(&adapter.id, options.memory);
        Ok(Self { info, budget, gpu, selector: adapter.selector.clone(), matrices: Arc::default() })
    }

    /// The adapter as the CubeCL runtime names it, for other libraries that compute on it in this process.
    pub fn runtime(&self) -> WgpuDevice {
        self.selector.clone()
    }

    /// `weight` as a layer of its own, outside of plans. Plans of this device that use the same weight share its memory.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for columns that are no multiple of 8, [`DeviceError::OutOfMemory`] over budget.
    pub fn linear(&self, name: &str, weight: &Weight) -> Result<Linear, DeviceError> {
        if !weight.columns().is_multiple_of(8) {
            let what = format!("{} columns of {name} (a multiple of 8)", weight.columns());
            return Err(DeviceError::Unsupported { device: self.gpu.id.to_string(), what });
        }
        let _turn = self.gpu.turn(&Deadline::never())?;
        let matrix = self.matrices.get(&self.gpu, &self.budget, name, weight)?;
        Ok(Linear::new(self.gpu.of_threads(&self.selector), matrix, weight.rows()))
    }

    /// Destroys the adapter's queue for this process, as a driver's reset would: every run from then on ends with
    /// [`DeviceError::Lost`]. For tests of what happens then.
    pub fn destroy(&self) {
        self.gpu.destroy();
    }
}

/// What kernels use of the adapter.
fn features(gpu: &Gpu) -> Vec<String> {
    let mut features = vec![format!("subgroups of {}", gpu.largest_plane)];
    features.extend(gpu.rounds.then(|| "int8 activations".to_owned()));
    features.extend(gpu.matrix_plane.map(|_| "f16 matrix units".to_owned()));
    features
}

impl Device for IgpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan) -> Result<(), DeviceError> {
        crate::executable::supports(&self.gpu.id, plan)
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        self.supports(&plan)?;
        Ok(Box::new(IgpuExecutable::new(&self.gpu, &self.budget, &self.matrices, plan)?))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        Ok(Box::new(IgpuCache::new(&self.gpu, &self.budget, layout, context, chunk)?))
    }

    fn memory(&self) -> MemoryUse {
        self.budget.memory()
    }
}

#[cfg(test)]
mod tests {
    use gemma_cpu::reference::ReferenceDevice;
    use gemma_hal::conformance::{self, Bounds};

    use super::*;

    /// The suite on an adapter with less than it has.
    fn agrees(lessen: impl FnOnce(&mut Gpu)) {
        let adapters = crate::adapters();
        let adapter =
            adapters.first().expect("a Vulkan adapter: apt-get install mesa-vulkan-drivers libvulkan1");
        let options = IgpuOptions { activations: Activations::Float32, ..IgpuOptions::new(1 << 30) };
        let mut device = IgpuDevice::new(adapter, options).unwrap();
        lessen(&mut device.gpu);
        let outcomes = conformance::operations(&device, &ReferenceDevice::new(1 << 30), Bounds::F32, 2);
        let failed: Vec<String> =
            outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    #[test]
    fn matrices_beyond_one_binding_are_divided() {
        // A few rows of each matrix of the suite.
        agrees(|gpu| gpu.largest_part = 2048);
    }

    #[test]
    fn cubes_need_not_meet() {
        agrees(|gpu| gpu.cubes_meet = false);
    }
}
