//! The GPU that tests run on: AMD's runtime as we stand it in, over kernels emulated on the CPU.
//!
//! What `cargo xtask build-kernels --hip` builds is built first where it is not.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

use std::path::PathBuf;

use gemma_hip::{Activations, HipAdapter, HipDevice, HipOptions, devices_of};
use gemma_hip_kernels::objects;
use gemma_hip_standin::StandIn;

#[path = "../../../gemma-hip-kernels/tests/support/built.rs"]
pub mod built;
pub mod network;

pub use built::build_folder;

/// A runtime of its own for one test, so that tests do not disturb each other.
pub struct Machine {
    pub library: StandIn,
}

impl Machine {
    /// With the emulated kernels.
    pub fn new() -> Self {
        let library = StandIn::install(&folder()).expect("the stand-in");
        let file = objects::emulation_folder(&build_folder()).join("libgemma_kernels_emulated.so");
        library.set(&format!("emulation={}", file.display())).expect("settings");
        Self { library }
    }

    /// The one GPU.
    pub fn adapter(&self) -> HipAdapter {
        devices_of(self.library.path()).expect("a runtime").pop().expect("a device")
    }

    /// The GPU, opened for 1 GiB.
    pub fn device(&self, activations: Activations) -> HipDevice {
        self.device_with(&HipOptions { activations, ..options() })
    }

    pub fn device_with(&self, options: &HipOptions) -> HipDevice {
        HipDevice::new(&self.adapter(), options).expect("a device")
    }

    pub fn count(&self, name: &str) -> u64 {
        self.library.count(name).expect("a count of the stand-in")
    }

    pub fn set(&self, settings: &str) {
        self.library.set(settings).expect("settings");
    }
}

/// 1 GiB, activations as they are.
pub fn options() -> HipOptions {
    HipOptions { activations: Activations::Float32, ..HipOptions::new(1 << 30) }
}

/// A folder that stays until the tests are over, as libraries are never unloaded.
fn folder() -> PathBuf {
    tempfile::tempdir().expect("folder").keep()
}
