//! [`Session`]: one conversation's tokens and its KV cache.
//!
//! The token log is the truth and the cache is derived from it: after an edited turn the common prefix is reused, and
//! after a lost device the log is run again on the next one.

use gemma_hal::{Cache, Deadline, DeviceError, Probe};

use crate::EngineError;
use crate::engine::{Engine, Next, Phase};

/// One conversation.
pub struct Session {
    tokens: Vec<u32>,
    cache: Box<dyn Cache>,
    generation: u64,
    logits: Vec<f32>,
    /// What stands in for the logits where only the likeliest ids are wanted and the device has chosen them.
    chosen: Vec<(u32, f32)>,
    likeliest: usize,
}

/// What a call to [`Session::advance_to`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// Tokens whose keys and values were still in the cache.
    pub reused: usize,
    /// Tokens that were run.
    pub run: usize,
}

impl Session {
    /// An empty session.
    ///
    /// # Errors
    /// [`EngineError::Device`] when there is no memory for the cache.
    pub fn new(engine: &Engine) -> Result<Self, EngineError> {
        let cache = engine.create_cache()?;
        Ok(Self {
            tokens: Vec::new(),
            cache,
            generation: engine.generation(),
            logits: Vec::new(),
            chosen: Vec::new(),
            likeliest: 0,
        })
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The logits behind the last token; empty before the first run, and where [`Session::chosen`] stands in for them.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// The likeliest ids behind the last token and their logits, best first, where [`Session::want_likeliest`] has asked for
    /// them and the device has chosen them.
    pub fn chosen(&self) -> &[(u32, f32)] {
        &self.chosen
    }

    /// From the next run on only the `count` likeliest ids are wanted; 0 wants all logits again.
    pub fn want_likeliest(&mut self, count: usize) {
        self.likeliest = count;
    }

    fn keep(&mut self, next: Next<'_>) {
        self.logits.extend_from_slice(next.logits);
        self.chosen.extend_from_slice(next.chosen);
    }

    fn forget_next(&mut self) {
        self.logits.clear();
        self.chosen.clear();
    }

    /// Bytes of the cache.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.tokens.clear();
        self.forget_next();
        self.cache.truncate(0);
    }

    /// Makes `tokens` the session's tokens: keeps the cache of the longest common prefix and runs the rest.
    ///
    /// # Errors
    /// [`EngineError::EmptyPrompt`], [`EngineError::PromptTooLong`] (one position is kept for an answer), or the
    /// device's; after an error of the device the session holds the tokens that did run.
    pub fn advance_to(
        &mut self,
        engine: &mut Engine,
        tokens: &[u32],
        deadline: &Deadline,
    ) -> Result<Advance, EngineError> {
        let context = engine.options().context;
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if tokens.len() >= context {
            let max_context = engine.config().max_context;
            return Err(EngineError::PromptTooLong { prompt: tokens.len(), context, max_context });
        }
        self.follow(engine, deadline)?;
        let common = self.tokens.iter().zip(tokens).take_while(|(old, new)| old == new).count();
        if common == tokens.len() && self.tokens.len() == common && !self.logits.is_empty() {
            return Ok(Advance { reused: common, run: 0 });
        }
        // The last token is run again even if it is known: its logits are wanted.
        let mut keep = common.min(tokens.len() - 1).min(self.cache.len());
        if !self.cache.truncate(keep) {
            keep = 0;
            self.cache.truncate(0);
        }
        self.tokens.truncate(keep);
        self.extend(engine, &tokens[keep..], deadline)?;
        Ok(Advance { reused: keep, run: tokens.len() - keep })
    }

    /// Appends `tokens` and runs them; [`Session::logits`] are then those behind the last one.
    ///
    /// # Errors
    /// The device's. When a device is lost and another one is there, that one runs the whole session again instead.
    pub fn extend(
        &mut self,
        engine: &mut Engine,
        tokens: &[u32],
        deadline: &Deadline,
    ) -> Result<(), EngineError> {
        self.follow(engine, deadline)?;
        self.forget_next();
        match engine.forward(self.cache.as_mut(), tokens, deadline, self.likeliest) {
            Ok(next) => {
                self.keep(next);
                self.tokens.extend_from_slice(tokens);
                Ok(())
            }
            Err(error) => {
                // Whole chunks may have run before the one that failed.
                let run = self.cache.len().saturating_sub(self.tokens.len()).min(tokens.len());
                self.tokens.extend_from_slice(&tokens[..run]);
                match error {
                    EngineError::Device(error @ (DeviceError::Lost { .. } | DeviceError::Driver { .. })) => {
                        engine.fail_over(error)?;
                        // `follow` replays on the new device what had run, then the rest goes on.
                        self.extend(engine, &tokens[run..], deadline)
                    }
                    other => Err(other),
                }
            }
        }
    }

    /// Runs `tokens` in an empty session and hands every row of logits to `each`.
    ///
    /// # Errors
    /// [`EngineError::PromptTooLong`], or the device's.
    pub fn score(
        &mut self,
        engine: &mut Engine,
        tokens: &[u32],
        deadline: &Deadline,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        let (context, max_context) = (engine.options().context, engine.config().max_context);
        if tokens.len() > context {
            return Err(EngineError::PromptTooLong { prompt: tokens.len(), context, max_context });
        }
        self.reset();
        self.follow(engine, deadline)?;
        let mut last = Vec::new();
        let result = engine.forward_all(self.cache.as_mut(), tokens, deadline, &mut |index, logits| {
            if index + 1 == tokens.len() {
                last.extend_from_slice(logits);
            }
            each(index, logits);
        });
        if let Err(error) = result {
            self.reset();
            return Err(error);
        }
        self.tokens.extend_from_slice(tokens);
        self.logits = last;
        Ok(())
    }

    /// One run of at most a chunk of `tokens` with somebody watching.
    ///
    /// # Errors
    /// The device's.
    pub fn watch(
        &mut self,
        engine: &mut Engine,
        phase: Phase,
        tokens: &[u32],
        probe: &mut dyn Probe,
    ) -> Result<(), EngineError> {
        self.follow(engine, &Deadline::never())?;
        self.forget_next();
        engine.run(phase, self.cache.as_mut(), tokens, &Deadline::never(), Some(probe))?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Moves to the engine's device if it has changed since: an empty cache there, the tokens to be run again.
    fn follow(&mut self, engine: &mut Engine, deadline: &Deadline) -> Result<(), EngineError> {
        while self.generation != engine.generation() {
            let generation = engine.generation();
            match self.replay(engine, deadline) {
                Ok(()) => self.generation = generation,
                Err(EngineError::Device(error @ (DeviceError::Lost { .. } | DeviceError::Driver { .. }))) => {
                    engine.fail_over(error)?;
                }
                // The session still belongs to the old device, so that the next call replays again.
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Runs the session's tokens in a new cache on the engine's device.
    fn replay(&mut self, engine: &mut Engine, deadline: &Deadline) -> Result<(), EngineError> {
        self.forget_next();
        self.cache = engine.create_cache()?;
        if !self.tokens.is_empty() {
            let next = engine.forward(self.cache.as_mut(), &self.tokens, deadline, self.likeliest)?;
            self.keep(next);
        }
        Ok(())
    }
}
