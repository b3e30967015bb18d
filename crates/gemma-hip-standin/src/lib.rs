//! A libamdhip64 for tests: the C interface of AMD's HIP runtime, over kernels that are emulated on the CPU.
//!
//! It says of itself that it is emulated, and never pretends to be a card. Memory, streams, events, capture and graphs are its own and
//! strict; modules are real gfx1103 code objects, of which the names and sizes are read; what a kernel computes is the emulation's
//! business (`GEMMA_HIP_EMULATION`). Faults are asked for with [`StandIn::set`]. Nothing that is shipped uses this crate.
//!
//! A test installs it into a folder and names that in `HIP_PATH`, or opens the file:
//!
//! ```no_run
//! # let folder = std::path::Path::new("folder");
//! let library = gemma_hip_standin::StandIn::install(folder).expect("the library that is built with this crate");
//! let hip = hip_sys::Hip::open(library.path()).expect("a HIP runtime");
//! library.set("memory=1000000;fail-launch=3").expect("settings");
//! ```

mod capture;
mod code_object;
mod emulation;
mod exports;
mod failure;
mod graph;
mod handles;
mod install;
mod launch;
mod memory;
mod settings;
mod state;
mod stream;

pub use install::StandIn;
