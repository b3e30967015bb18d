//! Gemma 3n as data: its configuration, its model files, its elastic slices.
//!
//! Bytes from outside enter through [`checkpoint`] and [`mod@slice`] and leave as a validated [`Config`] and typed
//! [`Weights`] that see the file in place; [`plan`] turns them into operations. Nothing here computes with weights or
//! knows a device.

pub mod bounded;
pub mod checkpoint;
pub mod config;
pub mod export;
pub mod plan;
pub mod slice;
pub mod synthetic;
pub mod weights;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use config::{Config, ConfigError, LayerKind};
pub use export::{Export, ExportError};
pub use slice::{Slice, SliceError};
pub use weights::{KvWeights, LayerWeights, Weights};
