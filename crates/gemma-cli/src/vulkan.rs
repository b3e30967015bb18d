//! GPUs through Vulkan, as the program sees them: what is there, which one `--device` means, and opening it.
//!
//! Built without the feature `igpu` it knows no adapter and says how to build with it.

use std::sync::Arc;

use anyhow::anyhow;
use gemma_hal::{Device, Plan};

use crate::choice::Figures;
use crate::failure::Failure;
use crate::output;

/// What to type for a build that has the backend.
pub(crate) const BUILD: &str = "cargo build --release -p gemma-cli   # with its default features";

/// A Vulkan adapter, described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// What `--device` takes: `vulkan:0`.
    pub(crate) id: String,
    pub(crate) name: String,
    /// integrated, discrete, software, other.
    pub(crate) kind: &'static str,
    pub(crate) driver: String,
    /// Bytes of its local memory.
    pub(crate) memory: u64,
    /// Whether that is the processor's memory too.
    pub(crate) shares_memory: bool,
    /// Units of the smallest and the largest subgroup.
    pub(crate) subgroup: (u32, u32),
    /// What it has of what kernels can use: `int8 dot`, ...
    pub(crate) has: Vec<&'static str>,
    /// And what it has not.
    pub(crate) lacks: Vec<&'static str>,
}

impl Adapter {
    /// What its measured figures are kept under: they change with the driver.
    pub(crate) fn key(&self) -> String {
        format!("vulkan | {} | {}", self.name, self.driver)
    }

    /// One line.
    pub(crate) fn describe(&self) -> String {
        let memory = match (self.memory, self.shares_memory) {
            (0, _) => "memory not told".to_owned(),
            (bytes, true) => format!("{} of main memory (UMA)", output::size(bytes)),
            (bytes, false) => format!("{} of its own", output::size(bytes)),
        };
        let subgroup = match self.subgroup {
            (least, most) if least == most => format!("subgroups of {most}"),
            (least, most) => format!("subgroups of {least} to {most}"),
        };
        let parts = [self.name.clone(), self.kind.to_owned(), self.driver.clone(), memory, subgroup];
        let has = self.has.iter().map(|name| (*name).to_owned());
        let lacks = (!self.lacks.is_empty()).then(|| format!(" (not: {})", self.lacks.join(", ")));
        let parts: Vec<String> = parts.into_iter().chain(has).collect();
        format!("{}: {}{}", self.id, parts.join(", "), lacks.unwrap_or_default())
    }

    /// Whether it is a graphics processor and no driver that computes on the CPU.
    pub(crate) fn is_gpu(&self) -> bool {
        matches!(self.kind, "integrated" | "discrete")
    }
}

/// Whether `device` asks for a GPU through Vulkan.
pub(crate) fn is_name(device: &str) -> bool {
    matches!(device, "vulkan" | "igpu") || device.starts_with("vulkan:")
}

/// The place among `adapters` of the one that `device` names: `vulkan:N`, or `vulkan` or `igpu` for the first that is a
/// graphics processor.
#[cfg_attr(not(feature = "igpu"), allow(dead_code, reason = "there is nothing to choose from"))]
fn choose(device: &str, adapters: &[Adapter]) -> Result<usize, Failure> {
    let no_device = |problem: String| {
        let listed: Vec<String> = adapters
            .iter()
            .map(|adapter| format!("{} ({}, {})", adapter.id, adapter.name, adapter.kind))
            .collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        let more = "`gemma doctor` shows what is missing; --device cpu needs no driver";
        Failure::NoDevice(anyhow!(
            "--device {device}: {problem}; adapters that Vulkan lists: {listed}; {more}"
        ))
    };
    let found = if device.starts_with("vulkan:") {
        adapters.iter().position(|adapter| adapter.id == device)
    } else {
        adapters.iter().position(Adapter::is_gpu)
    };
    found.ok_or_else(|| match adapters {
        [] => no_device("no Vulkan loader or no driver".to_owned()),
        _ if device.starts_with("vulkan:") => no_device("there is no such adapter".to_owned()),
        _ => no_device("no integrated or discrete GPU".to_owned()),
    })
}

/// The adapter that `device` names.
///
/// # Errors
/// [`Failure::NoDevice`] where there is none, or no backend in this build.
pub(crate) fn adapter(device: &str) -> Result<Adapter, Failure> {
    if !is_name(device) {
        return Err(Failure::NoDevice(anyhow!("--device {device}: neither cpu, igpu, vulkan nor vulkan:N")));
    }
    let Some(mut adapters) = adapters() else {
        return Err(Failure::NoDevice(anyhow!(
            "--device {device}: not in this build, which lacks the feature igpu; build with {BUILD}"
        )));
    };
    Ok(adapters.swap_remove(choose(device, &adapters)?))
}

#[cfg(feature = "igpu")]
mod backend {
    use std::sync::Once;

    use gemma_cpu::simd::Activations;
    pub(crate) use gemma_igpu::Tuning;
    use gemma_igpu::{AdapterKind, IgpuDevice, IgpuOptions, Trial};

    use super::{Adapter, Arc, Device, Failure, Figures, Plan, anyhow, choose};
    use crate::choice::figures::Cache;
    use crate::choice::probe;

    /// Bytes that measuring an adapter may take.
    const MEASURING: u64 = 1 << 30;

    /// The adapters in the order in which the system lists them.
    #[expect(clippy::unnecessary_wraps, reason = "a build without the backend has no list")]
    pub(crate) fn adapters() -> Option<Vec<Adapter>> {
        Some(gemma_igpu::adapters().into_iter().map(described).collect())
    }

    fn described(adapter: gemma_igpu::Adapter) -> Adapter {
        let kind = match adapter.kind {
            AdapterKind::Integrated => "integrated",
            AdapterKind::Discrete => "discrete",
            AdapterKind::Software => "software",
            AdapterKind::Other => "other",
        };
        let features = adapter.features;
        let all = [
            ("int8 dot", features.int8_dot),
            ("f16", features.f16),
            ("16x16x16 matrix units", features.matrix_units),
        ];
        let with =
            |wanted: bool| all.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect();
        Adapter {
            id: adapter.id,
            name: adapter.name,
            kind,
            driver: adapter.driver,
            memory: features.memory,
            shares_memory: features.shares_memory,
            subgroup: features.subgroup,
            has: with(true),
            lacks: with(false),
        }
    }

    /// Keeps compiled kernels for the next start where there is a folder for what can be made again.
    fn keep_kernels() {
        static KEPT: Once = Once::new();
        KEPT.call_once(|| {
            if let Some(folder) = crate::folders::cache() {
                gemma_igpu::keep_kernels(&folder.join("kernels"));
            }
        });
    }

    /// Opens the adapter `id` to be measured.
    fn device(id: &str) -> Result<IgpuDevice, String> {
        keep_kernels();
        let adapters = gemma_igpu::adapters();
        let adapter = adapters.iter().find(|adapter| adapter.id == id).ok_or("there is no such adapter")?;
        let tuning = kept_tuning(adapter);
        let options = IgpuOptions { tuning, ..IgpuOptions::new(MEASURING) };
        IgpuDevice::new(adapter, options).map_err(|error| error.to_string())
    }

    /// What `gemma tune` has kept of an adapter.
    fn kept_tuning(adapter: &gemma_igpu::Adapter) -> Option<Tuning> {
        Cache::of_user().get(&described(adapter.clone()).key())
    }

    /// Bytes a second that the adapter `id` reads.
    ///
    /// # Errors
    /// Why it cannot be measured, in words.
    pub(crate) fn read_bandwidth(id: &str) -> Result<f64, String> {
        let measured = device(id)?.measure().map_err(|error| error.to_string())?;
        Ok(measured.read_bandwidth)
    }

    /// All that is measured of the adapter `id`.
    ///
    /// # Errors
    /// Why it cannot be measured, in words.
    pub(crate) fn measure(id: &str) -> Result<Figures, String> {
        measured(&device(id)?)
    }

    fn measured(device: &IgpuDevice) -> Result<Figures, String> {
        let measured = device.measure().map_err(|error| error.to_string())?;
        let operations_per_s = probe::operations_per_s(device).map_err(|error| format!("{error:#}"))?;
        Ok(Figures {
            read_bytes_per_s: measured.read_bandwidth,
            launch_s: measured.launch_seconds,
            operations_per_s,
        })
    }

    /// Tunes an adapter, keeps that, and measures it so. `tell` hears of every trial.
    ///
    /// # Errors
    /// Why it cannot be measured, in words.
    pub(crate) fn tune(
        adapter: &Adapter,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(Figures, Option<Tuning>), String> {
        // From the table's entry on, whatever was kept before.
        let cache = Cache::of_user();
        cache.forget(&adapter.key());
        let mut device = device(&adapter.id)?;
        let mut of_trial = |trial: Trial| {
            let Trial { entry, value, seconds, best_s, is_taken } = trial;
            let taken = if is_taken { ", taken" } else { "" };
            let (seconds, best) = (seconds * 1e3, best_s * 1e3);
            tell(&format!("{}: {entry} {value}: {seconds:.3} ms beside {best:.3} ms{taken}", adapter.id));
        };
        let tuning = device.tune(&mut of_trial).map_err(|error| error.to_string())?;
        cache.put(&adapter.key(), tuning);
        Ok((measured(&device)?, Some(tuning)))
    }

    /// Launches of a run of one token of `plan`.
    pub(crate) fn launches(plan: &Plan) -> usize {
        gemma_igpu::launches(plan)
    }

    /// Opens the adapter that `device` names, for at most `memory` bytes of weights, activations and caches.
    ///
    /// # Errors
    /// [`Failure::NoDevice`] when there is no such adapter or its driver refuses.
    pub(crate) fn open(
        device: &str,
        memory: u64,
        activations: Option<Activations>,
    ) -> Result<Arc<dyn Device>, Failure> {
        let activations = match activations {
            Some(Activations::Float32) => gemma_igpu::Activations::Float32,
            Some(Activations::Int8) | None => gemma_igpu::Activations::Rounded,
        };
        let adapters = gemma_igpu::adapters();
        let described: Vec<Adapter> = adapters.iter().cloned().map(described).collect();
        let adapter = &adapters[choose(device, &described)?];
        keep_kernels();
        let options = IgpuOptions { memory, activations, tuning: kept_tuning(adapter) };
        let opened = IgpuDevice::new(adapter, options);
        Ok(Arc::new(
            opened
                .map_err(|error| Failure::NoDevice(anyhow!(error).context(format!("--device {device}"))))?,
        ))
    }
}

#[cfg(not(feature = "igpu"))]
mod backend {
    use gemma_cpu::simd::Activations;

    use super::{Adapter, Arc, BUILD, Device, Failure, Figures, Plan, anyhow};

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn read_bandwidth(_id: &str) -> Result<f64, String> {
        Err("not in this build".to_owned())
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn measure(_id: &str) -> Result<Figures, String> {
        Err("not in this build".to_owned())
    }

    /// Of no adapter.
    #[derive(Clone, Copy, Debug, serde::Serialize)]
    pub(crate) enum Tuning {}

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn tune(
        _adapter: &Adapter,
        _tell: &mut dyn FnMut(&str),
    ) -> Result<(Figures, Option<Tuning>), String> {
        Err("not in this build".to_owned())
    }

    /// None.
    pub(crate) fn launches(_plan: &Plan) -> usize {
        0
    }

    /// None: this build lacks the backend.
    pub(crate) fn adapters() -> Option<Vec<Adapter>> {
        None
    }

    /// Refuses.
    ///
    /// # Errors
    /// [`Failure::NoDevice`], always.
    pub(crate) fn open(
        device: &str,
        _memory: u64,
        _activations: Option<Activations>,
    ) -> Result<Arc<dyn Device>, Failure> {
        Err(Failure::NoDevice(anyhow!(
            "--device {device}: not in this build, which lacks the feature igpu; build with {BUILD}"
        )))
    }
}

pub(crate) use backend::{Tuning, adapters, launches, measure, open, read_bandwidth, tune};

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(id: &str, kind: &'static str) -> Adapter {
        let name = format!("a {kind} one");
        Adapter { id: id.to_owned(), name, kind, driver: "1.0".to_owned(), ..Adapter::default() }
    }

    #[test]
    fn a_name_means_one_adapter_or_says_why_not() {
        let (software, other) = (adapter("vulkan:0", "software"), adapter("vulkan:1", "other"));
        let (integrated, discrete) = (adapter("vulkan:2", "integrated"), adapter("vulkan:3", "discrete"));
        let all = [software.clone(), other.clone(), integrated, discrete.clone()];
        for (device, adapters, place) in [
            ("vulkan", &all[..], Ok(2)),
            ("igpu", &all, Ok(2)),
            ("vulkan", &[software.clone(), discrete], Ok(1)),
            ("vulkan:0", &all, Ok(0)),
            ("vulkan:3", &all, Ok(3)),
            ("vulkan:4", &all, Err("there is no such adapter")),
            ("vulkan:", &all, Err("there is no such adapter")),
            ("vulkan:02", &all, Err("there is no such adapter")),
            ("igpu", &[software, other], Err("no integrated or discrete GPU")),
            ("vulkan", &[], Err("no Vulkan loader or no driver")),
            ("vulkan:0", &[], Err("no Vulkan loader or no driver")),
        ] {
            assert!(is_name(device));
            match (choose(device, adapters), place) {
                (Ok(found), Ok(place)) => assert_eq!(found, place, "{device}"),
                (Err(Failure::NoDevice(error)), Err(reason)) => {
                    let error = error.to_string();
                    assert!(error.contains(reason) && error.contains("gemma doctor"), "{error}");
                    assert!(adapters.iter().all(|adapter| error.contains(&adapter.name)), "{error}");
                }
                (found, place) => panic!("{device}: {found:?}, not {place:?}"),
            }
        }
    }

    #[test]
    fn other_devices_are_not_taken_for_gpus() {
        for device in ["auto", "cpu", "reference", "npu", "hip", "vulkan0", "vulkanx", ""] {
            assert!(!is_name(device), "{device}");
        }
    }
}
