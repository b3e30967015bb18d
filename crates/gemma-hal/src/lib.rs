//! The contract between a Gemma 3n model and the devices that run it.
//!
//! A model turns itself into a [`Plan`]: coarse operations ([`Op`]) over named activations and weights. A [`Device`]
//! prepares the plan once and runs it many times. This crate holds what both sides must agree on, two devices that
//! compute nothing ([`null`]) and fail on purpose ([`fault`]), and the suite that every device must pass
//! ([`conformance`]). It knows no model file, no tokenizer and no policy.

mod arena;
pub mod block;
mod budget;
mod cache;
mod check;
pub mod conformance;
mod cost;
mod device;
mod dtype;
mod error;
pub mod fault;
pub mod inputs;
pub mod null;
pub mod op;
mod plan;
pub mod planes;
mod positions;
pub mod random;
pub mod rotary;
mod storage;
mod weight;

pub use arena::Arena;
pub use budget::{Budget, Reservation};
pub use cache::{HostCache, HostLayer, Slots, Snapshot, SnapshotLayer};
pub use check::PlanError;
pub use cost::Cost;
pub use device::{
    CACHE_DTYPES, Cache, Call, Deadline, Device, DeviceInfo, DeviceKind, Executable, MemoryUse, Probe,
    Sparsity, is_cache_dtype,
};
pub use dtype::DType;
pub use error::DeviceError;
pub use op::{BufferId, Op, WeightId};
pub use plan::{Buffer, CacheLayer, CacheLayout, NamedWeight, Outputs, Plan, PlanBuilder, Rows, Step};
pub use positions::Positions;
pub use storage::Storage;
pub use weight::{ViewError, Weight};
