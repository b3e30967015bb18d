//! Generation: prefill a prompt, then sample, emit and run one token after the other until something says stop.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use gemma_hal::{Deadline, DeviceError};
use gemma_text::{Sampled, Sampler, SamplerConfig, StopReason, StopRules, TextStream, Tokenizer};

use crate::stats::Stats;
use crate::{Engine, EngineError, Session};

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// How tokens are chosen.
    pub sampler: SamplerConfig,
    /// What ends the text.
    pub stop: StopRules,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Ends the generation as soon as it is true.
    pub cancel: Arc<AtomicBool>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token or string came.
    Stop(StopReason),
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// Cancelled, or the receiver had enough.
    Cancelled,
}

/// A piece of a generation.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Text that is certain; empty while a character or a stop string is incomplete.
    pub text: &'a str,
    /// The token that led to it; none for what is left at the end.
    pub sampled: Option<&'a Sampled>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Everything emitted.
    pub text: String,
    /// The tokens, a stop token included.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub stats: Stats,
}

/// Runs `prompt` in `session` and generates behind it. Every piece goes to `emit` as soon as it is certain.
///
/// # Errors
/// [`EngineError`]; cancelling is not an error.
pub fn generate(
    engine: &mut Engine,
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    request: &Request,
    emit: &mut dyn FnMut(&Piece<'_>) -> ControlFlow<()>,
) -> Result<Generation, EngineError> {
    let sampler = Sampler::new(request.sampler.clone(), engine.config().vocabulary)?;
    let stream = TextStream::new(tokenizer, &request.stop)?;
    let deadline = Deadline::never().or_cancelled(Arc::clone(&request.cancel));
    let begin = Instant::now();
    session.want_likeliest(sampler.config().likeliest().unwrap_or(0));
    let mut run =
        Run { engine, session, sampler, stream, deadline, emit, done: Generation::new(prompt.len()) };
    let finish = run.prefill_and_decode(prompt, request.max_tokens, begin);
    // Whoever asks next is free to want all logits.
    run.session.want_likeliest(0);
    let finish = finish?;
    let rest = run.stream.finish();
    if !rest.is_empty() {
        run.done.text.push_str(&rest);
        let _ = (run.emit)(&Piece { text: &rest, sampled: None });
    }
    Ok(Generation { finish, ..run.done })
}

struct Run<'a> {
    engine: &'a mut Engine,
    session: &'a mut Session,
    sampler: Sampler,
    stream: TextStream,
    deadline: Deadline,
    emit: &'a mut dyn FnMut(&Piece<'_>) -> ControlFlow<()>,
    done: Generation,
}

impl Generation {
    fn new(prompt: usize) -> Self {
        let stats = Stats { prompt_tokens: prompt, ..Stats::default() };
        Self { text: String::new(), tokens: Vec::new(), finish: Finish::Length, stats }
    }
}

impl Run<'_> {
    fn prefill_and_decode(
        &mut self,
        prompt: &[u32],
        max_tokens: usize,
        begin: Instant,
    ) -> Result<Finish, EngineError> {
        match self.session.advance_to(self.engine, prompt, &self.deadline) {
            Err(error) => cancelled(error),
            Ok(advance) => {
                let prefilled = begin.elapsed();
                let cost = self.engine.cost(advance.run.max(1), advance.reused)?;
                self.done.stats.prefilled(advance, prefilled, cost);
                self.decode(max_tokens, begin)
            }
        }
    }

    fn sample(&mut self) -> Result<Sampled, EngineError> {
        let (logits, chosen) = (self.session.logits(), self.session.chosen());
        Ok(match chosen {
            [] => self.sampler.sample(logits, self.session.tokens())?,
            chosen => self.sampler.sample_among(chosen)?,
        })
    }

    fn decode(&mut self, max_tokens: usize, begin: Instant) -> Result<Finish, EngineError> {
        if max_tokens == 0 {
            return Ok(Finish::Length);
        }
        loop {
            let sampled = self.sample()?;
            if self.done.tokens.is_empty() {
                self.done.stats.time_to_first_token = begin.elapsed();
            }
            self.done.tokens.push(sampled.token);
            let step = self.stream.push(sampled.token);
            self.done.text.push_str(&step.text);
            let more = (self.emit)(&Piece { text: &step.text, sampled: Some(&sampled) });
            if let Some(reason) = step.stopped {
                return Ok(Finish::Stop(reason));
            }
            if more.is_break() {
                return Ok(Finish::Cancelled);
            }
            if self.done.tokens.len() == max_tokens {
                return Ok(Finish::Length);
            }
            let position = self.session.tokens().len();
            if position == self.engine.options().context {
                return Ok(Finish::Context);
            }
            let step_begin = Instant::now();
            if let Err(error) = self.session.extend(self.engine, &[sampled.token], &self.deadline) {
                return cancelled(error);
            }
            let time = step_begin.elapsed();
            self.done.stats.decoded(time, self.engine.cost(1, position)?);
        }
    }
}

/// A cancelled run ends a generation; every other error is one.
fn cancelled(error: EngineError) -> Result<Finish, EngineError> {
    match error {
        EngineError::Device(DeviceError::Cancelled { .. }) => Ok(Finish::Cancelled),
        other => Err(other),
    }
}
