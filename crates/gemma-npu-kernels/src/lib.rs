//! Designs for AMD's XDNA NPU as data: which tile holds what, how data moves between them, what each core runs.
//!
//! [`gemm`] makes one, [`check()`] holds it against the array's limits, [`simulate`] moves real bytes through it, [`mlir`] writes it
//! in the words of AMD's `mlir-aie`. All four read the same [`design::Design`]. Nothing here talks to an NPU or calls a compiler, and
//! nothing has run on an NPU.
#![forbid(unsafe_code)]

pub mod array;
pub mod check;
pub mod design;
pub mod gemm;
pub mod kernels;
pub mod mlir;
pub mod simulate;

mod lower;

pub use check::check;
