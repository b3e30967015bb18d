//! Opening the model that the settings name, and an engine for it.

use std::sync::OnceLock;

use gemma_hal::Storage;
use gemma_matformer::Config;
use gemma_orchestrator::{Engine, EngineOptions, Model};

use crate::devices;
use crate::failure::Failure;
use crate::settings::Setup;

/// Bytes at an address that every tensor type may have; a byte array alone may lie anywhere.
#[repr(align(64))]
struct Aligned<Bytes: ?Sized>(Bytes);

/// The small story model that is part of the program; see assets/README.md.
static BUILT_IN: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../assets/nano-q8_0.gguf"));

/// Name of the built-in model in messages.
const BUILT_IN_NAME: &str = "built-in story model";

/// Opens the settings' model.
pub(crate) fn open(setup: &Setup) -> Result<Model, Failure> {
    let slice = setup.slice.as_deref();
    Ok(match &setup.model {
        Some(path) => Model::open(path, slice)?,
        None => Model::from_gguf(built_in(), slice)?,
    })
}

/// An engine for `model` as the settings want it.
pub(crate) fn engine(model: &Model, setup: &Setup) -> Result<Engine, Failure> {
    // A file that has shrunk since it was opened is told now, while it can still be told in full.
    model.checkpoint().still_whole().map_err(gemma_orchestrator::EngineError::from)?;
    let usual = EngineOptions::for_model(&model.config);
    let options = EngineOptions {
        context: setup.context.unwrap_or(usual.context),
        chunk: setup.chunk.unwrap_or(usual.chunk),
        cache_dtype: setup.cache_dtype.unwrap_or(usual.cache_dtype),
    };
    Ok(Engine::new(model.config.clone(), model.weights.clone(), options, devices::open(setup)?)?)
}

/// The built-in model's numbers.
pub(crate) fn built_in_config() -> Result<Config, Failure> {
    Ok(Model::from_gguf(built_in(), None)?.config)
}

fn built_in() -> &'static Storage {
    static STORAGE: OnceLock<Storage> = OnceLock::new();
    STORAGE.get_or_init(|| Storage::new(BUILT_IN_NAME, &BUILT_IN.0))
}
