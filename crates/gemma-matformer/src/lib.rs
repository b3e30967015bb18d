//! Gemma 3n, and Gemma 3 beside it, as data: configuration, model files, elastic slices.
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
pub use config::{Config, ConfigError, LayerKind, ModelFamily};
pub use export::{Export, ExportError};
pub use slice::{Slice, SliceError};
pub use weights::{Gemma3nLayerWeights, Gemma3nWeights, KvWeights, LayerWeights, Weights};
