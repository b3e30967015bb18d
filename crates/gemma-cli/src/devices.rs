//! From `--device` to a list for the engine. With [`crate::vulkan`] the only place that names concrete backends.

use std::sync::Arc;

use anyhow::anyhow;
use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::simd::Activations;
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::Device;

use crate::failure::Failure;
use crate::settings::Setup;
use crate::vulkan;

/// The CPU device with the settings' threads and activations.
pub(crate) fn cpu(
    threads: Option<usize>,
    activations: Option<Activations>,
    memory: u64,
) -> Result<CpuDevice, Failure> {
    let detected = CpuOptions::detect(memory).map_err(|error| Failure::Error(error.into()))?;
    let options = CpuOptions {
        threads: threads.unwrap_or(detected.threads),
        activations: activations.unwrap_or(detected.activations),
        ..detected
    };
    CpuDevice::new(options).map_err(|error| Failure::Error(anyhow!("--threads or GEMMA_THREADS: {error}")))
}

/// The devices to use, in order of preference: the engine goes on with the next when one is lost.
pub(crate) fn open(setup: &Setup) -> Result<Vec<Arc<dyn Device>>, Failure> {
    let cpu = || cpu(setup.threads, setup.activations, setup.memory);
    match setup.device.as_str() {
        // To become a choice by measurement.
        "auto" | "cpu" => Ok(vec![Arc::new(cpu()?)]),
        name if vulkan::is_name(name) => {
            Ok(vec![vulkan::open(name, setup.memory, setup.activations)?, Arc::new(cpu()?)])
        }
        "reference" => Ok(vec![Arc::new(ReferenceDevice::new(setup.memory))]),
        other => Err(Failure::NoDevice(anyhow!(
            "--device {other}: not in this build, which has auto, cpu, vulkan, vulkan:N and reference; `gemma doctor` shows what this machine has"
        ))),
    }
}
