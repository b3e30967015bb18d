//! Devices: one of each driver, side by side. Modules are RADV's, layouts are both drivers', all else is lavapipe's.
//!
//! A pipeline is compiled by RADV and reported; what the application gets is lavapipe's, of an empty kernel.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::sync::{Arc, Mutex, PoisonError};

use ash::khr::pipeline_executable_properties as executables;
use ash::vk::{self, Handle};

use crate::adapter::{self, untyped};
use crate::{drivers, report};

/// A kernel that does nothing, as words of SPIR-V 1.0: `main` with one unit a workgroup.
const EMPTY: [u32; 35] = [
    0x0723_0203,
    0x0001_0000,
    0,
    5,
    0, // magic number, version, generator, identifiers, schema
    0x0002_0011,
    1, // OpCapability Shader
    0x0003_000e,
    0,
    1, // OpMemoryModel Logical GLSL450
    0x0005_000f,
    5,
    1,
    0x6e69_616d,
    0, // OpEntryPoint GLCompute %1 "main"
    0x0006_0010,
    1,
    17,
    1,
    1,
    1, // OpExecutionMode %1 LocalSize 1 1 1
    0x0002_0013,
    2, // %2 = OpTypeVoid
    0x0003_0021,
    3,
    2, // %3 = OpTypeFunction %2
    0x0005_0036,
    2,
    1,
    0,
    3, // %1 = OpFunction %2 None %3
    0x0002_00f8,
    4,           // %4 = OpLabel
    0x0001_00fd, // OpReturn
    0x0001_0038, // OpFunctionEnd
];

/// A device of each driver.
pub(crate) struct Devices {
    software: ash::Device,
    pub(crate) compiler: ash::Device,
    pub(crate) executables: executables::Device,
    /// [`EMPTY`] on the software device.
    empty: vk::ShaderModule,
    /// The compiler's layout for each of the software device's, of descriptor sets and of pipelines.
    layouts: Mutex<HashMap<u64, u64>>,
}

/// By the software device, which is what applications hold.
static DEVICES: Mutex<Option<HashMap<vk::Device, Arc<Devices>>>> = Mutex::new(None);

fn devices(device: vk::Device) -> Option<Arc<Devices>> {
    DEVICES.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&device).cloned()
}

/// The functions of this driver that take a device.
pub(crate) fn function(name: &CStr) -> vk::PFN_vkVoidFunction {
    match name.to_bytes() {
        b"vkGetDeviceProcAddr" => untyped!(vk::PFN_vkGetDeviceProcAddr, find),
        b"vkCreateShaderModule" => untyped!(vk::PFN_vkCreateShaderModule, create_module),
        b"vkDestroyShaderModule" => untyped!(vk::PFN_vkDestroyShaderModule, destroy_module),
        b"vkCreateDescriptorSetLayout" => untyped!(vk::PFN_vkCreateDescriptorSetLayout, create_set_layout),
        b"vkCreatePipelineLayout" => untyped!(vk::PFN_vkCreatePipelineLayout, create_layout),
        b"vkCreateComputePipelines" => untyped!(vk::PFN_vkCreateComputePipelines, create_pipelines),
        _ => None,
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
pub(crate) unsafe extern "system" fn find(device: vk::Device, name: *const c_char) -> vk::PFN_vkVoidFunction {
    // SAFETY: the caller gives a name that ends.
    let ours = function(unsafe { CStr::from_ptr(name) });
    let software = adapter::software()?;
    // SAFETY: the device is the software driver's own.
    ours.or_else(|| unsafe { (software.fp_v1_0().get_device_proc_addr)(device, name) })
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
pub(crate) unsafe extern "system" fn create_device(
    adapter: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    device: *mut vk::Device,
) -> vk::Result {
    // SAFETY: the caller gives what the function is documented to take.
    match unsafe { Devices::open(adapter, &*info) } {
        Ok(opened) => {
            let handle = opened.software.handle();
            let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
            devices.get_or_insert_default().insert(handle, Arc::new(opened));
            // SAFETY: the caller gives a place for the device.
            unsafe { *device = handle };
            vk::Result::SUCCESS
        }
        Err(error) => error,
    }
}

impl Devices {
    /// # Safety
    /// `adapter` is the software driver's; what `info` points to lives.
    unsafe fn open(adapter: vk::PhysicalDevice, info: &vk::DeviceCreateInfo<'_>) -> Result<Self, vk::Result> {
        let software = adapter::software().ok_or(vk::Result::ERROR_INITIALIZATION_FAILED)?;
        let target = drivers::target().ok_or(vk::Result::ERROR_INITIALIZATION_FAILED)?;
        let wanted = match info.enabled_extension_count {
            0 => &[],
            // SAFETY: as the caller promises, there are so many names.
            count => unsafe { std::slice::from_raw_parts(info.pp_enabled_extension_names, count as usize) },
        };

        // The compiler's device has what is asked for, and says what it makes of pipelines.
        let mut capture = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        capture.p_next = info.p_next.cast_mut();
        let mut names = wanted.to_vec();
        names.push(executables::NAME.as_ptr());
        let mut compiler = *info;
        compiler.p_next = (&raw const capture).cast();
        compiler = compiler.enabled_extension_names(&names);
        // SAFETY: the adapter is the target's; `capture` and `names` outlive the call.
        let compiler = unsafe { target.instance.create_device(target.adapter, &compiler, None) }?;

        // The software device has all that it can, and of the extensions those it knows.
        // SAFETY: as the caller promises.
        let known = unsafe { software.enumerate_device_extension_properties(adapter) }?;
        let is_known = |name: &&*const c_char| {
            // SAFETY: names of extensions end.
            let name = unsafe { CStr::from_ptr(**name) };
            known.iter().any(|known| known.extension_name_as_c_str() == Ok(name))
        };
        let names: Vec<_> = wanted.iter().filter(is_known).copied().collect();
        let mut all = (
            vk::PhysicalDeviceVulkan11Features::default(),
            vk::PhysicalDeviceVulkan12Features::default(),
            vk::PhysicalDeviceVulkan13Features::default(),
        );
        let mut features = vk::PhysicalDeviceFeatures2::default()
            .push_next(&mut all.0)
            .push_next(&mut all.1)
            .push_next(&mut all.2);
        // SAFETY: as the caller promises.
        unsafe { software.get_physical_device_features2(adapter, &mut features) };
        let mut own = *info;
        own.p_enabled_features = std::ptr::null();
        own.p_next = (&raw const features).cast();
        own = own.enabled_extension_names(&names);
        // SAFETY: `features` and `names` outlive the call.
        let software_device = unsafe { software.create_device(adapter, &own, None) }?;

        let empty = vk::ShaderModuleCreateInfo::default().code(&EMPTY);
        // SAFETY: the words are a module.
        let empty = unsafe { software_device.create_shader_module(&empty, None) }?;
        let executables = executables::Device::new(&target.instance, &compiler);
        Ok(Self { software: software_device, compiler, executables, empty, layouts: Mutex::default() })
    }

    fn compilers_layout(&self, layout: u64) -> u64 {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).get(&layout).copied().unwrap_or(0)
    }

    fn pair_layouts(&self, software: u64, compiler: u64) {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner).insert(software, compiler);
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn create_module(
    device: vk::Device,
    info: *const vk::ShaderModuleCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    module: *mut vk::ShaderModule,
) -> vk::Result {
    let Some(devices) = devices(device) else { return vk::Result::ERROR_DEVICE_LOST };
    let compiler = &devices.compiler;
    // SAFETY: the arguments are the caller's, for this very function.
    unsafe { (compiler.fp_v1_0().create_shader_module)(compiler.handle(), info, std::ptr::null(), module) }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn destroy_module(
    device: vk::Device,
    module: vk::ShaderModule,
    _: *const vk::AllocationCallbacks<'_>,
) {
    if let Some(devices) = devices(device) {
        // SAFETY: modules that applications hold are the compiler's.
        unsafe { devices.compiler.destroy_shader_module(module, None) };
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn create_set_layout(
    device: vk::Device,
    info: *const vk::DescriptorSetLayoutCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    layout: *mut vk::DescriptorSetLayout,
) -> vk::Result {
    let Some(devices) = devices(device) else { return vk::Result::ERROR_DEVICE_LOST };
    // SAFETY: the caller gives what the function is documented to take, for either driver. The compiler's layouts stay until
    // the process ends, which is soon.
    unsafe {
        let both = devices
            .software
            .create_descriptor_set_layout(&*info, None)
            .and_then(|own| Ok((own, devices.compiler.create_descriptor_set_layout(&*info, None)?)));
        match both {
            Ok((own, compilers)) => {
                devices.pair_layouts(own.as_raw(), compilers.as_raw());
                *layout = own;
                vk::Result::SUCCESS
            }
            Err(error) => error,
        }
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn create_layout(
    device: vk::Device,
    info: *const vk::PipelineLayoutCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    layout: *mut vk::PipelineLayout,
) -> vk::Result {
    let Some(devices) = devices(device) else { return vk::Result::ERROR_DEVICE_LOST };
    // SAFETY: as in `create_set_layout`; each set's layout has been made there.
    unsafe {
        let sets: Vec<_> = match (*info).set_layout_count {
            0 => Vec::new(),
            count => std::slice::from_raw_parts((*info).p_set_layouts, count as usize)
                .iter()
                .map(|set| vk::DescriptorSetLayout::from_raw(devices.compilers_layout(set.as_raw())))
                .collect(),
        };
        let compilers = (*info).set_layouts(&sets);
        let both = devices
            .software
            .create_pipeline_layout(&*info, None)
            .and_then(|own| Ok((own, devices.compiler.create_pipeline_layout(&compilers, None)?)));
        match both {
            Ok((own, compilers)) => {
                devices.pair_layouts(own.as_raw(), compilers.as_raw());
                *layout = own;
                vk::Result::SUCCESS
            }
            Err(error) => error,
        }
    }
}

// SAFETY: called through Vulkan, whose valid usage says what the arguments are.
unsafe extern "system" fn create_pipelines(
    device: vk::Device,
    _: vk::PipelineCache,
    count: u32,
    infos: *const vk::ComputePipelineCreateInfo<'_>,
    _: *const vk::AllocationCallbacks<'_>,
    pipelines: *mut vk::Pipeline,
) -> vk::Result {
    let Some(devices) = devices(device) else { return vk::Result::ERROR_DEVICE_LOST };
    for index in 0..count as usize {
        // SAFETY: the caller gives as many infos, and places for pipelines, as `count` says.
        let (info, pipeline) = unsafe { (&*infos.add(index), &mut *pipelines.add(index)) };
        let layout = vk::PipelineLayout::from_raw(devices.compilers_layout(info.layout.as_raw()));
        let compiled =
            vk::ComputePipelineCreateInfo::default().flags(info.flags).stage(info.stage).layout(layout);
        // SAFETY: module and layout are the compiler's; what the stage points to is the caller's.
        if let Err(error) = unsafe { report::compile(&devices, compiled) } {
            return error;
        }
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(devices.empty)
            .name(c"main");
        let empty = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(info.layout)];
        // SAFETY: module and layout are the software device's.
        let made =
            unsafe { devices.software.create_compute_pipelines(vk::PipelineCache::null(), &empty, None) };
        match made {
            Ok(made) => *pipeline = made[0],
            Err((_, error)) => return error,
        }
    }
    vk::Result::SUCCESS
}
