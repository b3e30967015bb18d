//! The contract between a Gemma 3n model and the devices that run it.

pub mod block;
mod dtype;
mod storage;
mod weight;

pub use dtype::DType;
pub use storage::Storage;
pub use weight::{ViewError, Weight};
