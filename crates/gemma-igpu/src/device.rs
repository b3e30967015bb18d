//! [`IgpuDevice`]: runs plans on a GPU.

use std::sync::Arc;

use gemma_hal::{
    Budget, Cache, CacheLayout, Device, DeviceError, DeviceInfo, DeviceKind, Executable, MemoryUse, Plan,
};

use crate::adapter::{Adapter, AdapterKind};
use crate::cache::IgpuCache;
use crate::executable::IgpuExecutable;
use crate::gpu::Gpu;
use crate::weight::Matrices;

/// How an [`IgpuDevice`] is set up.
#[derive(Clone, Copy, Debug)]
pub struct IgpuOptions {
    /// Most bytes of weights, activations and caches on the device.
    pub memory: u64,
}

/// A GPU, integrated or not.
pub struct IgpuDevice {
    info: DeviceInfo,
    budget: Budget,
    gpu: Gpu,
    matrices: Arc<Matrices>,
}

impl IgpuDevice {
    /// Opens `adapter`.
    ///
    /// # Errors
    /// [`DeviceError::Driver`] with the driver's reason.
    pub fn new(adapter: &Adapter, options: IgpuOptions) -> Result<Self, DeviceError> {
        let gpu = Gpu::open(&adapter.id, &adapter.selector)?;
        let kind = match adapter.kind {
            AdapterKind::Discrete => DeviceKind::DiscreteGpu,
            _ => DeviceKind::IntegratedGpu,
        };
        let info = DeviceInfo {
            id: adapter.id.clone(),
            name: adapter.name.clone(),
            kind,
            features: vec![format!("subgroups of {}", gpu.largest_plane)],
            units: 1,
        };
        let budget = Budget::new(&adapter.id, options.memory);
        Ok(Self { info, budget, gpu, matrices: Arc::default() })
    }

    /// Destroys the adapter's queue for this process, as a driver's reset would: every run from then on ends with
    /// [`DeviceError::Lost`]. For tests of what happens then.
    pub fn destroy(&self) {
        self.gpu.destroy();
    }
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

    #[test]
    fn matrices_beyond_one_binding_are_divided() {
        let adapters = crate::adapters();
        let adapter =
            adapters.first().expect("a Vulkan adapter: apt-get install mesa-vulkan-drivers libvulkan1");
        let mut device = IgpuDevice::new(adapter, IgpuOptions { memory: 1 << 30 }).unwrap();
        // A few rows of each matrix of the suite.
        device.gpu.largest_part = 2048;
        let outcomes = conformance::operations(&device, &ReferenceDevice::new(1 << 30), Bounds::F32, 2);
        let failed: Vec<String> =
            outcomes.iter().filter(|outcome| !outcome.passed()).map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}
