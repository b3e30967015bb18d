//! Opening the model that the settings name, and an engine for it.

use std::sync::OnceLock;

use gemma_hal::{Op, Outputs, Storage};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, Weights};
use gemma_orchestrator::{Engine, EngineError, EngineOptions, Model};

use crate::choice::{self, Choice, Work};
use crate::devices::{self, Opened};
use crate::failure::Failure;
use crate::progress::Waiting;
use crate::settings::Setup;
use crate::{output, vulkan};

/// Bytes at an address that every tensor type may have; a byte array alone may lie anywhere.
#[repr(align(64))]
struct Aligned<Bytes: ?Sized>(Bytes);

/// The small story model that is part of the program; see assets/README.md.
static BUILT_IN: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../assets/nano-q8_0.gguf"));

/// Name of the built-in model in messages.
const BUILT_IN_NAME: &str = "built-in story model";

/// An engine, and how its device was chosen, where there was a choice.
pub(crate) struct Ready {
    pub(crate) engine: Engine,
    pub(crate) choice: Option<Choice>,
}

/// Opens the settings' model.
pub(crate) fn open(setup: &Setup) -> Result<Model, Failure> {
    let slice = setup.slice.as_deref();
    Ok(match &setup.model {
        Some(path) => Model::open(path, slice)?,
        None => Model::from_gguf(built_in(), slice)?,
    })
}

/// An engine for `model` as the settings want it.
pub(crate) fn engine(model: &Model, setup: &Setup) -> Result<Ready, Failure> {
    // A file that has shrunk since it was opened is told now, while it can still be told in full.
    model.checkpoint().still_whole().map_err(EngineError::from)?;
    let usual = EngineOptions::for_model(&model.config);
    let context = setup.context.unwrap_or(usual.context);
    engine_of(model.config.clone(), model.weights.clone(), context, setup)
}

/// An engine for a model of `config` and `weights` and a context of `context` positions.
pub(crate) fn engine_of(
    config: Config,
    weights: Weights,
    context: usize,
    setup: &Setup,
) -> Result<Ready, Failure> {
    let usual = EngineOptions::for_model(&config);
    let options = EngineOptions {
        context,
        chunk: setup.chunk.unwrap_or(usual.chunk),
        cache_dtype: setup.cache_dtype.unwrap_or(usual.cache_dtype),
    };
    let Opened { devices, choice } = devices::open(setup, &|| work(&config, &weights, &options))?;
    let last = devices.last().cloned();
    let chosen = devices.len() > 1 && choice.is_some();
    let on_gpu = devices.first().is_some_and(|device| output::is_gpu(device.info()));
    let waiting = on_gpu.then(|| Waiting::for_work("preparing the GPU: weights are copied to it"));
    let made = Engine::new(config.clone(), weights.clone(), options, devices);
    drop(waiting);
    match made {
        Ok(engine) => Ok(Ready { engine, choice }),
        // Nobody asked for this GPU, so what it cannot do is no reason to stop.
        Err(EngineError::Device(error)) if chosen => {
            let mut choice = choice;
            output::tell(format_args!("gemma: going on with the CPU: {error}"));
            choice.iter_mut().for_each(|choice| choice.fall_back(&error.to_string()));
            let engine = Engine::new(config, weights, options, last.into_iter().collect())?;
            Ok(Ready { engine, choice })
        }
        Err(error) => Err(error.into()),
    }
}

/// What a model asks of a device that is to be chosen.
fn work(config: &Config, weights: &Weights, options: &EngineOptions) -> anyhow::Result<Work> {
    // What is out of range is told when the engine is made.
    let chunk = options.chunk.min(options.context).clamp(1, config.max_context.max(1));
    let build = |name: &str, max_tokens| {
        let (name, cache_dtype) = (name.to_owned(), options.cache_dtype);
        plan::build(config, weights, &PlanOptions { name, max_tokens, outputs: Outputs::Last, cache_dtype })
    };
    let (decode, prefill) = (build("decode", 1)?, build("prefill", chunk)?);
    // What only the host reads.
    let ple_table = decode.steps().iter().find_map(|step| match step.op {
        Op::PerLayerEmbed { table, .. } => Some(decode.weight(table).bytes()),
        _ => None,
    });
    let all: u64 = decode.weights().iter().map(|named| named.weight.bytes()).sum();
    let cache = plan::cache_layout(config, options.cache_dtype).bytes(options.context, chunk);
    let weights = all.saturating_sub(ple_table.unwrap_or(0));
    Ok(Work {
        decode_bytes: decode.cost(1, choice::PROMPT).bytes(),
        prompt_operations: prefill.cost(choice::PROMPT, 0).flops,
        launches: vulkan::launches(&decode),
        resident_bytes: weights.saturating_add(cache).saturating_add(prefill.arena().bytes()),
    })
}

/// The built-in model's numbers.
pub(crate) fn built_in_config() -> Result<Config, Failure> {
    Ok(Model::from_gguf(built_in(), None)?.config)
}

fn built_in() -> &'static Storage {
    static STORAGE: OnceLock<Storage> = OnceLock::new();
    STORAGE.get_or_init(|| Storage::new(BUILT_IN_NAME, &BUILT_IN.0))
}
