//! The kernels of `kernels/hip` as Rust sees them: their arguments, their grids, and which of them a plan is made of.
//!
//! [`arguments`] mirrors the structures that kernels take, with the grid for each shape; [`prepare`] turns a run of a
//! [`gemma_hal::Plan`] into launches; [`objects`] says where the built code objects are, and [`images`]
//! reads them. Nothing here talks to a GPU: whoever does gives
//! the addresses and plays the launches in order.

pub mod arguments;
pub mod images;
mod launch;
pub mod objects;
pub mod prepare;

pub use launch::{Activations, Address, Launch, Planes, Slots};
