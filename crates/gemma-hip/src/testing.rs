//! The GPU of this crate's own tests: a runtime that stands in, over emulated kernels.

use gemma_hip_standin::StandIn;
use tempfile::TempDir;

use crate::{HipAdapter, devices_of, objects};

/// A runtime of its own for one test.
pub(crate) struct Machine {
    pub(crate) adapter: HipAdapter,
    pub(crate) library: StandIn,
    _folder: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = StandIn::install(folder.path()).unwrap();
        let objects = objects::find(None).unwrap();
        let emulation = objects.with_file_name("emulation").join("libgemma_kernels_emulated.so");
        library.set(&format!("emulation={}", emulation.display())).unwrap();
        let adapter = devices_of(library.path()).unwrap().pop().unwrap();
        Self { adapter, library, _folder: folder }
    }
}
