//! Running a Gemma 3n: sessions, KV cache, prefill and decode, generation, evaluation, telemetry.
//!
//! All policy lives here: which plan runs on which device, in chunks of what size, what is reused, and what happens
//! when a device is lost. No backend is named; the caller brings a list of [`gemma_hal::Device`]s.

pub mod calibrate;
mod engine;
mod error;
pub mod evaluate;
mod generate;
mod model;
mod session;
pub mod stats;
pub mod vocabulary;

pub use engine::{DEFAULT_CHUNK, Engine, EngineOptions, Phase};
pub use error::EngineError;
pub use generate::{Finish, Generation, Piece, Request, generate};
pub use model::Model;
pub use session::{Advance, Session};
pub use stats::Stats;
