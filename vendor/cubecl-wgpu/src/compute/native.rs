//! Captured graphs handed to Vulkan itself.
//!
//! wgpu looks at every buffer of every dispatch it encodes, each time: some microseconds a dispatch, which for small kernels is as
//! long as the GPU takes for them. A captured graph has nothing to look at: its kernels take their buffers as addresses, and any of them
//! may depend on the one before it. So a graph is recorded here once, four commands a launch, into a secondary command buffer,
//! and a replay executes that in the command buffer of a wgpu encoder, which keeps wgpu's order of submissions.
//!
//! Not part of the published crate; see `vendor/README.md`.

use std::{
    ffi::CString,
    sync::{Arc, OnceLock},
};

use ash::vk;
use wgpu::hal::api::Vulkan;

use super::{
    graph::{ReplayDispatch, ReplayTask},
    pipeline::Pipeline,
};
use crate::schedule::Addresses;

/// A kernel as the driver compiles it, compiled by the first graph that launches it.
#[derive(Debug)]
pub(crate) struct NativePipeline {
    device: wgpu::Device,
    module: Vec<u32>,
    entry_point: CString,
    immediate_bytes: u32,
    compiled: OnceLock<Option<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    pipeline: vk::Pipeline,
    layout: vk::PipelineLayout,
}

impl NativePipeline {
    /// `None` where the entry point has no name that C could read.
    pub(crate) fn new(
        device: &wgpu::Device,
        module: &[u32],
        entry_point: &str,
        immediate_bytes: usize,
    ) -> Option<Self> {
        Some(Self {
            device: device.clone(),
            module: module.to_vec(),
            entry_point: CString::new(entry_point).ok()?,
            immediate_bytes: immediate_bytes.try_into().ok()?,
            compiled: OnceLock::new(),
        })
    }

    fn compiled(&self) -> Option<&Compiled> {
        self.compiled.get_or_init(|| self.compile()).as_ref()
    }

    /// What wgpu asks of the driver for the same kernel.
    fn compile(&self) -> Option<Compiled> {
        // SAFETY: the device is read while `self` keeps it alive.
        let hal = unsafe { self.device.as_hal::<Vulkan>() }?;
        let device = hal.raw_device();
        let ranges = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(self.immediate_bytes)];
        let layout = vk::PipelineLayoutCreateInfo::default();
        let layout = match self.immediate_bytes {
            0 => layout,
            _ => layout.push_constant_ranges(&ranges),
        };
        let module = vk::ShaderModuleCreateInfo::default().code(&self.module);
        let mut flags = vk::PipelineShaderStageCreateFlags::empty();
        if self.device.features().contains(wgpu::Features::SUBGROUP) {
            flags |= vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE;
        }
        // SAFETY: the module is the one that wgpu has made its pipeline of; what is created is destroyed here or by `drop`,
        // and the module is not needed once the pipeline exists.
        unsafe {
            let layout = device.create_pipeline_layout(&layout, None).ok()?;
            let created = device.create_shader_module(&module, None).and_then(|module| {
                let stage = vk::PipelineShaderStageCreateInfo::default()
                    .flags(flags)
                    .stage(vk::ShaderStageFlags::COMPUTE)
                    .module(module)
                    .name(&self.entry_point);
                let info = [vk::ComputePipelineCreateInfo::default().layout(layout).stage(stage)];
                let created =
                    device.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
                device.destroy_shader_module(module, None);
                created.map_err(|(_, error)| error)
            });
            match created.as_deref() {
                Ok(&[pipeline]) => Some(Compiled { pipeline, layout }),
                _ => {
                    device.destroy_pipeline_layout(layout, None);
                    None
                }
            }
        }
    }
}

impl Drop for NativePipeline {
    fn drop(&mut self) {
        let Some(Some(compiled)) = self.compiled.take() else {
            return;
        };
        // SAFETY: graphs that launch the pipeline keep it alive until the GPU is done with them.
        unsafe {
            if let Some(hal) = self.device.as_hal::<Vulkan>() {
                hal.raw_device().destroy_pipeline(compiled.pipeline, None);
                hal.raw_device().destroy_pipeline_layout(compiled.layout, None);
            }
        }
    }
}

/// The launches of a captured graph. Kept alive, with their buffers, until the GPU has run the last replay.
#[derive(Debug)]
pub(crate) struct NativeGraph {
    commands: vk::CommandBuffer,
    pool: vk::CommandPool,
    launches: usize,
    _pipelines: Vec<Arc<Pipeline>>,
    _buffers: Vec<wgpu::Buffer>,
    device: wgpu::Device,
}

impl NativeGraph {
    /// `None` where one of the tasks is not of the kind that can be launched without wgpu, or the driver refuses.
    pub(crate) fn new(device: &wgpu::Device, tasks: &[ReplayTask]) -> Option<Self> {
        let launches = tasks.iter().map(Launch::of).collect::<Option<Vec<_>>>()?;
        let mut buffers: Vec<wgpu::Buffer> = Vec::new();
        for resource in tasks.iter().flat_map(|task| &task.transitions) {
            if !buffers.contains(&resource.buffer) {
                buffers.push(resource.buffer.clone());
            }
        }
        // SAFETY: the device is read while `self` keeps it alive.
        let hal = unsafe { device.as_hal::<Vulkan>() }?;
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(hal.queue_family_index());
        // SAFETY: as above; `drop` destroys the pool.
        let pool = unsafe { hal.raw_device().create_command_pool(&info, None) }.ok()?;
        let mut graph = Self {
            commands: vk::CommandBuffer::null(),
            pool,
            launches: launches.len(),
            _pipelines: tasks.iter().map(|task| task.pipeline.clone()).collect(),
            _buffers: buffers,
            device: device.clone(),
        };
        graph.commands = record(hal.raw_device(), pool, &launches).ok()?;
        Some(graph)
    }

    /// How many launches a replay makes.
    pub(crate) fn len(&self) -> usize {
        self.launches
    }

    /// Encodes the launches, and nothing else, into `encoder`. `false` where the device is gone.
    pub(crate) fn encode(&self, encoder: &mut wgpu::CommandEncoder) -> bool {
        // SAFETY: the device is read while `self` keeps it alive.
        let Some(hal) = (unsafe { self.device.as_hal::<Vulkan>() }) else {
            return false;
        };
        // SAFETY: the encoder is used for nothing else, and its command buffer is neither ended nor destroyed here. What is
        // executed may be pending several times, and is kept alive by whoever submits it.
        unsafe {
            encoder.as_hal_mut::<Vulkan, _, _>(|encoder| {
                let Some(encoder) = encoder else {
                    return false;
                };
                hal.raw_device().cmd_execute_commands(encoder.raw_handle(), &[self.commands]);
                true
            })
        }
    }
}

impl Drop for NativeGraph {
    fn drop(&mut self) {
        // SAFETY: replays keep the graph alive until the GPU is done with them.
        unsafe {
            if let Some(hal) = self.device.as_hal::<Vulkan>() {
                hal.raw_device().destroy_command_pool(self.pool, None);
            }
        }
    }
}

/// One launch.
struct Launch<'a> {
    pipeline: &'a Compiled,
    immediates: &'a Addresses,
    count: [u32; 3],
}

impl<'a> Launch<'a> {
    /// `None` where the task is not of the kind that can be launched without wgpu.
    fn of(task: &'a ReplayTask) -> Option<Self> {
        let ReplayDispatch::Static(x, y, z) = task.dispatch else {
            return None;
        };
        if task.bind_group.is_some() {
            return None;
        }
        Some(Self {
            pipeline: task.pipeline.native.as_ref()?.compiled()?,
            immediates: task.immediates.as_ref()?,
            count: [x, y, z],
        })
    }
}

/// A secondary command buffer of `pool` with all launches. Each waits for all that came before it: what was encoded earlier,
/// copies included, and the launch before.
fn record(
    device: &ash::Device,
    pool: vk::CommandPool,
    launches: &[Launch<'_>],
) -> Result<vk::CommandBuffer, vk::Result> {
    let info = vk::CommandBufferAllocateInfo::default()
        .command_pool(pool)
        .level(vk::CommandBufferLevel::SECONDARY)
        .command_buffer_count(1);
    let inheritance = vk::CommandBufferInheritanceInfo::default();
    let begin = vk::CommandBufferBeginInfo::default()
        .flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE)
        .inheritance_info(&inheritance);
    let (compute, copies) =
        (vk::PipelineStageFlags::COMPUTE_SHADER, vk::PipelineStageFlags::TRANSFER);
    let (shader, copied) = (
        vk::AccessFlags::SHADER_READ | vk::AccessFlags::SHADER_WRITE,
        vk::AccessFlags::TRANSFER_READ | vk::AccessFlags::TRANSFER_WRITE,
    );
    let written = vk::AccessFlags::SHADER_WRITE;
    // SAFETY: pipelines and layouts are those of the launches' kernels, whose buffers lie behind the addresses; the graph
    // that the commands belong to keeps both alive.
    unsafe {
        let commands = device.allocate_command_buffers(&info)?[0];
        device.begin_command_buffer(commands, &begin)?;
        let wait = |from, from_access, to, to_access| {
            let barrier =
                [vk::MemoryBarrier::default().src_access_mask(from_access).dst_access_mask(to_access)];
            let none = vk::DependencyFlags::empty();
            device.cmd_pipeline_barrier(commands, from, to, none, &barrier, &[], &[]);
        };
        wait(compute | copies, written | vk::AccessFlags::TRANSFER_WRITE, compute, shader);
        let mut bound = vk::Pipeline::null();
        for (index, launch) in launches.iter().enumerate() {
            if launch.pipeline.pipeline != bound {
                bound = launch.pipeline.pipeline;
                device.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, bound);
            }
            if !launch.immediates.is_empty() {
                let (layout, bytes) =
                    (launch.pipeline.layout, bytemuck::cast_slice(launch.immediates));
                device.cmd_push_constants(commands, layout, vk::ShaderStageFlags::COMPUTE, 0, bytes);
            }
            if index > 0 {
                wait(compute, written, compute, shader);
            }
            let [x, y, z] = launch.count;
            device.cmd_dispatch(commands, x, y, z);
        }
        wait(compute, written, compute | copies, shader | copied);
        device.end_command_buffer(commands)?;
        Ok(commands)
    }
}
