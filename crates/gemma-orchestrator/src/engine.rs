//! [`Engine`]: a model on a device. It keeps the prepared plans and decides which of them runs which tokens.
//!
//! Prefill runs in chunks: all but the last only fill the cache, the last also gives the last token's logits, and one
//! token alone is a decode step. When a device is lost the engine goes on with the next one; sessions replay their
//! tokens there (see [`crate::Session`]).

use std::fmt::Display;
use std::sync::Arc;

use gemma_hal::{
    Cache, Call, Cost, DType, Deadline, Device, DeviceError, DeviceInfo, Executable, MemoryUse, Outputs,
    Plan, Probe, Sparsity,
};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, Weights};

use crate::EngineError;

/// Tokens a prefill run takes at most, unless asked otherwise. Large enough that reading the weights is a small part
/// of the work, small enough that a run can be cancelled within a second or so.
pub const DEFAULT_CHUNK: usize = 128;

/// The most tokens of a run whose every logit is wanted: a Gemma 3n row of logits takes 1 MiB.
const ALL_LOGITS_CHUNK: usize = 32;

/// How an engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Positions of a session's context.
    pub context: usize,
    /// Tokens of one prefill run at most.
    pub chunk: usize,
    /// Type of the KV cache: one of [`gemma_hal::CACHE_DTYPES`] whose blocks fill the model's heads.
    pub cache_dtype: DType,
}

impl EngineOptions {
    /// The usual set-up for `config`: 4096 positions, or fewer where the model has fewer, and an f16 cache.
    pub fn for_model(config: &Config) -> Self {
        Self { context: config.max_context.min(4096), chunk: DEFAULT_CHUNK, cache_dtype: DType::F16 }
    }
}

/// Which of the engine's plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A chunk of a prompt that is not the last.
    PrefillOnly,
    /// The last chunk of a prompt.
    Prefill,
    /// One token.
    Decode,
    /// A chunk whose every logit is wanted.
    AllLogits,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PrefillOnly, Self::Prefill, Self::Decode, Self::AllLogits];

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrefillOnly => "prefill_only",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::AllLogits => "all_logits",
        }
    }

    fn options(self, options: &EngineOptions) -> PlanOptions {
        let (max_tokens, outputs) = match self {
            Self::PrefillOnly => (options.chunk, Outputs::None),
            Self::Prefill => (options.chunk, Outputs::Last),
            Self::Decode => (1, Outputs::Last),
            Self::AllLogits => (options.chunk.min(ALL_LOGITS_CHUNK), Outputs::All),
        };
        PlanOptions { name: self.name().to_owned(), max_tokens, outputs, cache_dtype: options.cache_dtype }
    }
}

/// A model, ready to run.
pub struct Engine {
    config: Config,
    weights: Weights,
    options: EngineOptions,
    /// In order of preference; the first is the one in use.
    devices: Vec<Arc<dyn Device>>,
    /// Indexed by phase; prepared when first needed.
    prepared: [Option<Box<dyn Executable>>; Phase::ALL.len()],
    /// Counts changes of device, so that sessions notice.
    generation: u64,
}

impl Engine {
    /// An engine for the model on the first of `devices`; the others take over, in order, when it is lost.
    ///
    /// # Errors
    /// [`EngineError::Option`] for a context, chunk or type of cache that cannot be, [`EngineError::Device`] when the first device
    /// cannot run the model.
    ///
    /// # Panics
    /// Without devices.
    pub fn new(
        config: Config,
        weights: Weights,
        options: EngineOptions,
        devices: Vec<Arc<dyn Device>>,
    ) -> Result<Self, EngineError> {
        assert!(!devices.is_empty(), "an engine needs a device");
        let option = |option, value: &dyn Display, reason: String| {
            Err(EngineError::Option { option, value: value.to_string(), reason })
        };
        if options.context == 0 || options.context > config.max_context {
            let reason = format!("this model has a context of 1 to {} tokens", config.max_context);
            return option("--context", &options.context, reason);
        }
        if options.chunk == 0 {
            return option("--chunk", &options.chunk, "a prefill run takes at least one token".to_owned());
        }
        let dtype = options.cache_dtype;
        if !config.head_dim.is_multiple_of(dtype.block_len()) {
            let (block, dim) = (dtype.block_len(), config.head_dim);
            let reason = format!("it keeps blocks of {block} values, and this model's heads have {dim}");
            return option("--cache-type", &dtype, format!("{reason}; choose f16 or f32"));
        }
        let options = EngineOptions { chunk: options.chunk.min(options.context), ..options };
        let mut engine =
            Self { config, weights, options, devices, prepared: Default::default(), generation: 0 };
        engine.prepare(Phase::Decode)?;
        Ok(engine)
    }

    /// The model's numbers.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The model's weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// How the engine was set up.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The device in use.
    pub fn device(&self) -> &DeviceInfo {
        self.devices[0].info()
    }

    /// What runs of the device in use had no need to compute so far.
    pub fn sparsity(&self) -> Sparsity {
        self.devices[0].sparsity()
    }

    /// What the device in use holds.
    pub fn memory(&self) -> MemoryUse {
        self.devices[0].memory()
    }

    /// Counts changes of device.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The plan of a phase.
    ///
    /// # Errors
    /// As [`plan::build`].
    pub fn plan(&self, phase: Phase) -> Result<Plan, EngineError> {
        Ok(plan::build(&self.config, &self.weights, &phase.options(&self.options))?)
    }

    /// Takes on other widths and layers of the same parent; sessions of the old slice are useless afterwards.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn replace_model(&mut self, config: Config, weights: Weights) -> Result<(), EngineError> {
        (self.config, self.weights) = (config, weights);
        self.forget_device_state();
        self.prepare(Phase::Decode).map(|_| ())
    }

    /// Bytes of a session's cache, as the layout says; nothing is allocated.
    pub fn cache_bytes(&self) -> u64 {
        let layout = plan::cache_layout(&self.config, self.options.cache_dtype);
        layout.bytes(self.options.context, self.options.chunk)
    }

    /// A cache on the device in use.
    pub(crate) fn create_cache(&self) -> Result<Box<dyn Cache>, EngineError> {
        let layout = plan::cache_layout(&self.config, self.options.cache_dtype);
        Ok(self.devices[0].create_cache(&layout, self.options.context, self.options.chunk)?)
    }

    /// Makes the next device that is not lost itself the one in use.
    pub(crate) fn fail_over(&mut self, mut error: DeviceError) -> Result<(), EngineError> {
        while self.devices.len() > 1 {
            tracing::warn!(%error, next = %self.devices[1].info().id, "device lost, going on with the next");
            self.forget_device_state();
            self.devices.remove(0);
            match self.prepare(Phase::Decode) {
                Ok(_) => return Ok(()),
                Err(EngineError::Device(next @ (DeviceError::Lost { .. } | DeviceError::Driver { .. }))) => {
                    error = next;
                }
                Err(other) => return Err(other),
            }
        }
        Err(EngineError::NoDevice(error))
    }

    fn forget_device_state(&mut self) {
        self.prepared = Default::default();
        self.generation += 1;
    }

    /// The prepared plan of `phase`.
    pub(crate) fn prepare(&mut self, phase: Phase) -> Result<&mut dyn Executable, EngineError> {
        let index = phase as usize;
        if self.prepared[index].is_none() {
            let plan = Arc::new(self.plan(phase)?);
            self.devices[0].supports(&plan)?;
            self.prepared[index] = Some(self.devices[0].prepare(plan)?);
        }
        Ok(self.prepared[index].as_mut().expect("filled above").as_mut())
    }

    /// Runs `tokens` behind what `cache` holds, in as many runs as it takes. Gives what follows the last token: the `likeliest`
    /// ids if so many are wanted and the device chooses them, otherwise all logits.
    pub(crate) fn forward<'a>(
        &'a mut self,
        cache: &mut dyn Cache,
        tokens: &[u32],
        deadline: &Deadline,
        likeliest: usize,
    ) -> Result<Next<'a>, EngineError> {
        let mut rest = tokens;
        while rest.len() > self.options.chunk {
            let (chunk, more) = rest.split_at(self.options.chunk);
            self.run(Phase::PrefillOnly, cache, chunk, deadline, None)?;
            rest = more;
        }
        let phase = if rest.len() == 1 { Phase::Decode } else { Phase::Prefill };
        self.prepare(phase)?.shortlist(likeliest);
        let ran = self.run(phase, cache, rest, deadline, None);
        let executable = self.prepare(phase)?;
        // Whoever runs the phase next gets rows, unless they ask again.
        executable.shortlist(0);
        ran?;
        Ok(Next { logits: executable.output(), chosen: executable.chosen() })
    }

    /// Runs `tokens` and hands every row of logits to `each`, with the index of its token.
    pub(crate) fn forward_all(
        &mut self,
        cache: &mut dyn Cache,
        tokens: &[u32],
        deadline: &Deadline,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        let size = self.options.chunk.min(ALL_LOGITS_CHUNK);
        for (index, chunk) in tokens.chunks(size).enumerate() {
            self.run(Phase::AllLogits, cache, chunk, deadline, None)?;
            let rows = self.output(Phase::AllLogits).chunks_exact(self.config.vocabulary);
            rows.enumerate().for_each(|(row, logits)| each(index * size + row, logits));
        }
        Ok(())
    }

    /// One run of one plan.
    pub(crate) fn run(
        &mut self,
        phase: Phase,
        cache: &mut dyn Cache,
        tokens: &[u32],
        deadline: &Deadline,
        probe: Option<&mut dyn Probe>,
    ) -> Result<(), EngineError> {
        let probe = probe.map(|probe| -> &mut dyn Probe { probe });
        let call = Call { tokens, cache, deadline: deadline.clone(), probe };
        Ok(self.prepare(phase)?.run(call)?)
    }

    fn output(&self, phase: Phase) -> &[f32] {
        self.prepared[phase as usize].as_ref().map_or(&[], |executable| executable.output())
    }

    /// What running `tokens` tokens behind `start` others asks of the device, by the plans that would run.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn cost(&mut self, tokens: usize, start: usize) -> Result<Cost, EngineError> {
        let (mut cost, mut done) = (Cost::default(), 0);
        while tokens - done > self.options.chunk {
            let filling = self.prepare(Phase::PrefillOnly)?.plan();
            cost = cost + filling.cost(filling.max_tokens(), start + done);
            done += self.options.chunk;
        }
        let phase = if tokens - done == 1 { Phase::Decode } else { Phase::Prefill };
        Ok(cost + self.prepare(phase)?.plan().cost(tokens - done, start + done))
    }
}

/// What may follow a token. One of both is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Next<'a> {
    /// One a token of the vocabulary.
    pub(crate) logits: &'a [f32],
    /// The likeliest ids and their logits, best first.
    pub(crate) chosen: &'a [(u32, f32)],
}
