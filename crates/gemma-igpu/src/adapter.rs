//! The adapters that a machine has.

use std::sync::OnceLock;

use cubecl::wgpu::{WgpuBackend, WgpuDevice, WgpuDeviceKind, wgpu};

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
            selector: WgpuDevice::new(selector).on(WgpuBackend::Vulkan),
        }
    };
    found.iter().enumerate().map(describe).collect()
}
