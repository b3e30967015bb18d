//! AMD GPUs through HIP, as the program sees them: what `--device` means, and opening it.
//!
//! They are taken where they are asked for and never by `auto`: nothing of it has run on an AMD GPU yet. Built without the feature
//! `hip` it refuses.

use std::sync::Arc;

use anyhow::anyhow;
use gemma_cpu::simd::Activations;
use gemma_hal::Device;

use crate::failure::Failure;

/// Whether `device` asks for a GPU through HIP.
pub(crate) fn is_name(device: &str) -> bool {
    device == "hip" || device.starts_with("hip:")
}

/// Opens the GPU that `device` names, for at most `memory` bytes of weights, activations and caches: `hip:N`, or `hip` for the
/// first one that there are kernels for.
///
/// # Errors
/// [`Failure::NoDevice`] says what there is, or why there is no runtime, and what to do.
pub(crate) fn open(
    device: &str,
    memory: u64,
    activations: Option<Activations>,
) -> Result<Arc<dyn Device>, Failure> {
    backend::open(device, memory, activations)
        .map_err(|reason| Failure::NoDevice(anyhow!("--device {device}: {reason}")))
}

#[cfg(feature = "hip")]
mod backend {
    use gemma_hip::{HipAdapter, HipDevice, HipOptions, devices};

    use super::{Activations, Arc, Device};

    pub(super) fn open(
        device: &str,
        memory: u64,
        activations: Option<Activations>,
    ) -> Result<Arc<dyn Device>, String> {
        let adapters = devices().map_err(|error| error.to_string())?;
        let adapter = choose(device, &adapters)?;
        adapter.is_supported().map_err(|error| error.to_string())?;
        let activations = match activations {
            Some(Activations::Float32) => gemma_hip::Activations::Float32,
            Some(Activations::Int8) | None => gemma_hip::Activations::Rounded,
        };
        let opened = HipDevice::new(adapter, &HipOptions { activations, ..HipOptions::new(memory) });
        Ok(Arc::new(opened.map_err(|error| error.to_string())?))
    }

    fn choose<'a>(device: &str, adapters: &'a [HipAdapter]) -> Result<&'a HipAdapter, String> {
        let found = if device == "hip" {
            adapters.iter().find(|adapter| adapter.is_supported().is_ok()).or(adapters.first())
        } else {
            adapters.iter().find(|adapter| adapter.id == device)
        };
        found.ok_or_else(|| {
            let listed: Vec<String> = adapters
                .iter()
                .map(|adapter| format!("{} ({}, {})", adapter.id, adapter.name, adapter.architecture))
                .collect();
            let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
            format!("there is no such GPU; those that HIP lists: {listed}")
        })
    }
}

#[cfg(not(feature = "hip"))]
mod backend {
    use super::{Activations, Arc, Device};

    pub(super) fn open(
        _device: &str,
        _memory: u64,
        _activations: Option<Activations>,
    ) -> Result<Arc<dyn Device>, String> {
        Err("not in this build, which lacks the feature hip; build with its default features".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_devices_are_not_its_own() {
        for device in ["hip", "hip:0", "hip:17"] {
            assert!(is_name(device), "{device}");
        }
        for device in ["auto", "cpu", "vulkan", "vulkan:0", "igpu", "hipster", ""] {
            assert!(!is_name(device), "{device}");
        }
    }
}
