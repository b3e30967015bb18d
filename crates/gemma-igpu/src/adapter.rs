//! The adapters that a machine has.

use std::sync::OnceLock;

use ash::vk;
use cubecl::wgpu::wgpu::hal::api::Vulkan;
use cubecl::wgpu::{WgpuBackend, WgpuDevice, WgpuDeviceKind, wgpu};

use crate::kernels::matrix_units;

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A graphics card with memory of its own.
    Discrete,
    /// A part of the processor; shares its memory.
    Integrated,
    /// A driver that computes on the processor. Right, and slow.
    Software,
    /// Virtual, or not told.
    Other,
}

/// What an adapter has of what kernels use, as its driver says; nothing is measured.
#[allow(clippy::struct_excessive_bools, reason = "each is there or not, whatever the others are")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterFeatures {
    /// Bytes of its largest piece of local memory; of an integrated GPU the part of main memory that it may use.
    pub memory: u64,
    /// Whether all its memory is the processor's too (UMA).
    pub shares_memory: bool,
    /// Units of the smallest and of the largest subgroup; 0 where the driver does not say.
    pub subgroup: (u32, u32),
    /// Whether it has dot products of 8-bit integers.
    pub int8_dot: bool,
    /// Whether it computes in floats of 16 bits.
    pub f16: bool,
    /// Whether it has units that multiply 16 × 16 matrices of f16 into f32.
    pub matrix_units: bool,
}

/// A Vulkan adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// `vulkan:N`, where `N` counts the adapters in the order in which the system lists them.
    pub id: String,
    /// The driver's name for it.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The driver and its version.
    pub driver: String,
    /// What it has.
    pub features: AdapterFeatures,
    pub(crate) selector: WgpuDevice,
}

/// The Vulkan adapters of this machine; none where there is no loader or no driver.
pub fn adapters() -> Vec<Adapter> {
    /// Looked for once: loaders have crashed where instances came and went on several threads.
    static FOUND: OnceLock<Vec<Adapter>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = cubecl::future::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    // The runtime counts each kind by itself.
    let mut counts = [0_usize; 4];
    let mut count = |kind: usize| {
        counts[kind] += 1;
        counts[kind] - 1
    };
    let describe = |(index, adapter): (usize, &wgpu::Adapter)| {
        let info = adapter.get_info();
        let (kind, selector) = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => (AdapterKind::Discrete, WgpuDeviceKind::DiscreteGpu(count(0))),
            wgpu::DeviceType::IntegratedGpu => {
                (AdapterKind::Integrated, WgpuDeviceKind::IntegratedGpu(count(1)))
            }
            wgpu::DeviceType::VirtualGpu => (AdapterKind::Other, WgpuDeviceKind::VirtualGpu(count(2))),
            wgpu::DeviceType::Cpu => (AdapterKind::Software, WgpuDeviceKind::Cpu),
            wgpu::DeviceType::Other => (AdapterKind::Other, WgpuDeviceKind::Other(count(3))),
        };
        Adapter {
            id: format!("vulkan:{index}"),
            name: info.name,
            kind,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            features: features(adapter),
            selector: WgpuDevice::new(selector).on(WgpuBackend::Vulkan),
        }
    };
    found.iter().enumerate().map(describe).collect()
}

/// Asks the driver.
fn features(adapter: &wgpu::Adapter) -> AdapterFeatures {
    let info = adapter.get_info();
    let side = matrix_units::SIDE as u32;
    let matrix_units = adapter.cooperative_matrix_properties().iter().any(|shape| {
        (shape.m_size, shape.n_size, shape.k_size) == (side, side, side)
            && shape.ab_type == wgpu::CooperativeScalarType::F16
            && shape.cr_type == wgpu::CooperativeScalarType::F32
    });
    let described = AdapterFeatures {
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
        f16: adapter.features().contains(wgpu::Features::SHADER_F16),
        matrix_units,
        ..AdapterFeatures::default()
    };
    // SAFETY: the adapter is asked and neither changed nor kept.
    let Some(raw) = (unsafe { adapter.as_hal::<Vulkan>() }) else { return described };
    let (instance, device) = (raw.shared_instance().raw_instance(), raw.raw_physical_device());
    // SAFETY: the device is one of this instance, which lives as long as the adapter.
    let memory = unsafe { instance.get_physical_device_memory_properties(device) };
    let heaps = &memory.memory_heaps[..memory.memory_heap_count as usize];
    let is_local = |heap: &&vk::MemoryHeap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let local = heaps.iter().filter(is_local).map(|heap| heap.size);
    let shares_memory = info.device_type != wgpu::DeviceType::DiscreteGpu;
    AdapterFeatures {
        memory: local.max().unwrap_or(0),
        shares_memory,
        int8_dot: has_int8_dot(&raw, instance, device),
        ..described
    }
}

/// Whether a device has integer dot products. Where instances or devices are too old to be asked, it has none.
fn has_int8_dot(
    adapter: &wgpu::hal::vulkan::Adapter,
    instance: &ash::Instance,
    device: vk::PhysicalDevice,
) -> bool {
    let version = adapter.physical_device_capabilities().properties().api_version;
    if version < vk::API_VERSION_1_1 || adapter.shared_instance().instance_api_version() < vk::API_VERSION_1_1
    {
        return false;
    }
    let mut dot = vk::PhysicalDeviceShaderIntegerDotProductFeatures::default();
    let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut dot);
    // SAFETY: instance and device know version 1.1, which has this function; a structure that a driver does not know it leaves
    // as it was.
    unsafe { instance.get_physical_device_features2(device, &mut features) };
    dot.shader_integer_dot_product == vk::TRUE
}
