//! GPUs through Vulkan, as the program sees them: what is there, which one `--device` means, and opening it.
//!
//! Built without the feature `igpu` it knows no adapter and says how to build with it.

use std::sync::Arc;

use anyhow::anyhow;
use gemma_hal::Device;

use crate::failure::Failure;

/// What to type for a build that has the backend.
pub(crate) const BUILD: &str = "cargo build --release -p gemma-cli   # with its default features";

/// A Vulkan adapter, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// What `--device` takes: `vulkan:0`.
    pub(crate) id: String,
    pub(crate) name: String,
    /// integrated, discrete, software, other.
    pub(crate) kind: &'static str,
    pub(crate) driver: String,
}

impl Adapter {
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

#[cfg(feature = "igpu")]
mod backend {
    use gemma_cpu::simd::Activations;
    use gemma_igpu::{AdapterKind, IgpuDevice, IgpuOptions};

    use super::{Adapter, Arc, Device, Failure, anyhow, choose};

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
        Adapter { id: adapter.id, name: adapter.name, kind, driver: adapter.driver }
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
        let opened = IgpuDevice::new(adapter, IgpuOptions { memory, activations });
        Ok(Arc::new(
            opened
                .map_err(|error| Failure::NoDevice(anyhow!(error).context(format!("--device {device}"))))?,
        ))
    }
}

#[cfg(not(feature = "igpu"))]
mod backend {
    use gemma_cpu::simd::Activations;

    use super::{Adapter, Arc, BUILD, Device, Failure, anyhow};

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

pub(crate) use backend::{adapters, open};

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(id: &str, kind: &'static str) -> Adapter {
        Adapter { id: id.to_owned(), name: format!("a {kind} one"), kind, driver: "1.0".to_owned() }
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
