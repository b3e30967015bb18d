//! From `--device` to a list for the engine. With [`crate::vulkan`] and [`crate::hip`] the only place that names concrete backends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;
use gemma_cpu::measure;
use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{Device, DeviceInfo};
use serde::Serialize;

use crate::choice::figures::Cache;
use crate::choice::{self, Candidate, Choice, Figures, Work, probe};
use crate::failure::Failure;
use crate::settings::Setup;
use crate::vulkan::{Adapter, Tuning};
use crate::{hardware, hip, output, vulkan};

/// Bytes that measuring the CPU's products may take.
const MEASURING: u64 = 1 << 30;

/// Whether measuring has taken memory that is not the model's.
static MEASURED: AtomicBool = AtomicBool::new(false);

/// The devices to use, in order of preference: the engine goes on with the next when one is lost.
pub(crate) struct Opened {
    pub(crate) devices: Vec<Arc<dyn Device>>,
    /// Where there was something to choose from.
    pub(crate) choice: Option<Choice>,
}

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

/// Opens what the settings name; `work` says what the model asks, for when there is something to choose from.
pub(crate) fn open(setup: &Setup, work: &dyn Fn() -> anyhow::Result<Work>) -> Result<Opened, Failure> {
    let cpu = || cpu(setup.threads, setup.activations, setup.memory);
    let named = |devices: Vec<Arc<dyn Device>>| Ok(Opened { devices, choice: None });
    match setup.device.as_str() {
        "auto" => auto(setup, cpu()?, work),
        "cpu" => named(vec![Arc::new(cpu()?)]),
        name if vulkan::is_name(name) => {
            named(vec![vulkan::open(name, setup.memory, setup.activations)?, Arc::new(cpu()?)])
        }
        name if hip::is_name(name) => {
            named(vec![hip::open(name, setup.memory, setup.activations)?, Arc::new(cpu()?)])
        }
        "reference" => named(vec![Arc::new(ReferenceDevice::new(setup.memory))]),
        other => Err(Failure::NoDevice(anyhow!(
            "--device {other}: not in this build, which has auto, cpu, igpu, vulkan, vulkan:N, hip, hip:N and reference; `gemma doctor` shows what this machine has"
        ))),
    }
}

/// The CPU, or a GPU before it where one is there and measurements say that it answers sooner.
fn auto(setup: &Setup, cpu: CpuDevice, work: &dyn Fn() -> anyhow::Result<Work>) -> Result<Opened, Failure> {
    let adapters = gpus();
    if adapters.is_empty() {
        return Ok(Opened { devices: vec![Arc::new(cpu)], choice: None });
    }
    let cache = Cache::<Figures>::of_user();
    let mut candidates = vec![Candidate {
        id: cpu.info().id.clone(),
        name: cpu.info().name.clone(),
        memory: None,
        figures: known(&cache, &cpu_key(cpu.info()), || measure_cpu(&cpu)),
    }];
    candidates.extend(adapters.iter().map(|adapter| Candidate {
        id: adapter.id.clone(),
        name: adapter.name.clone(),
        memory: Some(setup.memory.min(adapter.memory)),
        figures: known(&cache, &adapter.key(), || vulkan::measure(&adapter.id)),
    }));
    let mut choice = choice::choose(&work()?, &candidates);
    let mut devices: Vec<Arc<dyn Device>> = Vec::new();
    if choice.device != cpu.info().id {
        match vulkan::open(&choice.device, setup.memory, setup.activations) {
            Ok(gpu) => devices.push(gpu),
            // It has been measured once, so this is rare; nobody asked for this device.
            Err(failure) => {
                let reason = format!("{} cannot be opened: {}", choice.device, failure.reason());
                choice.fall_back(&reason);
            }
        }
    }
    devices.push(Arc::new(cpu));
    tell(&choice, setup.verbose);
    Ok(Opened { devices, choice: Some(choice) })
}

/// Says what was chosen and why: to people always, to the log of scripts when it is asked for.
fn tell(choice: &Choice, verbose: bool) {
    tracing::info!(device = %choice.device, reason = %choice.reason, "device chosen");
    if verbose || output::is_watched() {
        output::tell(format_args!("gemma: {} chosen: {}", choice.device, choice.reason));
    }
    if verbose {
        output::tell(choice.table());
    }
}

/// The GPUs that auto may take. Vulkan is not loaded where the kernel knows of none: a driver that computes on the CPU is no
/// faster than the CPU.
fn gpus() -> Vec<Adapter> {
    if !hardware::may_have_gpu(Path::new("/")) {
        return Vec::new();
    }
    vulkan::adapters().unwrap_or_default().into_iter().filter(Adapter::is_gpu).collect()
}

/// What is kept of a device, or what `measure` says now, which is kept.
fn known(
    cache: &Cache<Figures>,
    key: &str,
    measure: impl FnOnce() -> Result<Figures, String>,
) -> Result<Figures, String> {
    if let Some(figures) = cache.get(key) {
        return Ok(figures);
    }
    if output::is_watched() {
        output::tell("gemma: measuring a device, which is done once");
    }
    MEASURED.store(true, Ordering::Relaxed);
    let figures = measure()?;
    cache.put(key, figures);
    Ok(figures)
}

/// A device, measured anew.
#[derive(Debug, Serialize)]
pub(crate) struct Tuned {
    pub(crate) device: String,
    pub(crate) name: String,
    pub(crate) figures: Option<Figures>,
    /// How a GPU's work is divided from now on.
    pub(crate) tuning: Option<Tuning>,
    /// Why there are none.
    pub(crate) problem: Option<String>,
}

/// Measures the CPU and all GPUs, or what `device` names, in place of what was kept of them, and tunes the GPUs. `tell` hears of
/// every trial.
///
/// # Errors
/// When the CPU device cannot be made or `device` names none; a GPU that cannot be measured says so in its place.
pub(crate) fn tune(
    threads: Option<usize>,
    device: Option<&str>,
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<Tuned>, Failure> {
    let cpu = cpu(threads, None, MEASURING)?;
    let info = cpu.info();
    let adapters = match device {
        None => gpus(),
        Some(name) if name == info.id => Vec::new(),
        Some(name) => vec![vulkan::adapter(name)?],
    };
    let cache = Cache::<Figures>::of_user();
    if device.is_none() {
        cache.clear();
    }
    let mut all = Vec::new();
    if device.is_none_or(|name| name == info.id) {
        let measured = measure_cpu(&cpu).map(|figures| (figures, None));
        all.push(tuned(&cache, &info.id, &info.name, &cpu_key(info), measured));
    }
    for adapter in &adapters {
        let measured = vulkan::tune(adapter, tell);
        all.push(tuned(&cache, &adapter.id, &adapter.name, &adapter.key(), measured));
    }
    Ok(all)
}

/// Keeps the figures of a device.
fn tuned(
    cache: &Cache<Figures>,
    device: &str,
    name: &str,
    key: &str,
    measured: Result<(Figures, Option<Tuning>), String>,
) -> Tuned {
    measured.iter().for_each(|(figures, _)| cache.put(key, *figures));
    let (measured, problem) = measured.map_or_else(|problem| (None, Some(problem)), |all| (Some(all), None));
    let (figures, tuning) = (measured.map(|all| all.0), measured.and_then(|all| all.1));
    Tuned { device: device.to_owned(), name: name.to_owned(), figures, tuning, problem }
}

/// Whether a measurement in this process has taken more memory than what the model needs.
pub(crate) fn has_measured() -> bool {
    MEASURED.load(Ordering::Relaxed)
}

fn cpu_key(info: &DeviceInfo) -> String {
    format!("cpu | {} | {} | {} threads", info.name, info.features.join(" "), info.units)
}

fn measure_cpu(cpu: &CpuDevice) -> Result<Figures, String> {
    let isa: Isa = cpu.isa();
    let read_bytes_per_s = measure::read_bandwidth(isa, cpu.pool());
    let operations_per_s = probe::operations_per_s(cpu).map_err(|error| format!("{error:#}"))?;
    Ok(Figures { read_bytes_per_s, launch_s: 0.0, operations_per_s })
}

/// Bytes a second that a GPU was once measured to read, if it was.
pub(crate) fn known_bandwidth(info: &DeviceInfo) -> Option<f64> {
    let adapters = vulkan::adapters()?;
    let adapter = adapters.iter().find(|adapter| adapter.id == info.id)?;
    Some(Cache::<Figures>::of_user().get(&adapter.key())?.read_bytes_per_s)
}
