//! From logits to a token id.
//!
//! The chain is: penalties, logit bias, then either mirostat (temperature, mirostat v2) or top-k, typical, top-p,
//! min-p, temperature, draw. Each filter measures probabilities among the candidates that the one before left, as
//! llama.cpp does. All sums run in a fixed order in f64 on one thread, so a seed gives the same tokens whatever the
//! number of threads.

mod config;
mod filters;
mod logprobs;
mod mirostat;
mod penalties;
mod rng;

use std::cmp::Ordering;

use crate::SamplingError;
pub use config::{Mirostat, SamplerConfig};
pub use rng::CounterRng;

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability in the model's own distribution, before any penalty or filter. `None`
    /// unless [`SamplerConfig::logprobs`] asks for it.
    pub logprob: Option<f32>,
    /// The likeliest tokens of that distribution, best first; ties by lowest id.
    pub top: Vec<(u32, f32)>,
}

/// Draws tokens by one [`SamplerConfig`]. Buffers are kept, so a step allocates nothing after the first.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    vocab_size: usize,
    rng: CounterRng,
    /// Mirostat's running bound on surprise, bits.
    surprise: f64,
    adjusted: Vec<f32>,
    candidates: Vec<Candidate>,
    counts: penalties::Counts,
}

/// A token still in the running.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Candidate {
    /// Best first; ties by lowest id.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that sorting wants")]
    fn order(&self, other: &Self) -> Ordering {
        // There are no NaNs here, and the two zeros are equal, as they are for the greedy choice.
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id))
    }
}

impl Sampler {
    /// A sampler for logits of `vocab_size` tokens.
    pub fn new(config: SamplerConfig, vocab_size: usize) -> Result<Self, SamplingError> {
        config.validate(vocab_size)?;
        Ok(Self {
            rng: CounterRng::new(config.seed),
            surprise: config.mirostat.map_or(0.0, |mirostat| 2.0 * f64::from(mirostat.tau)),
            config,
            vocab_size,
            adjusted: Vec::new(),
            candidates: Vec::new(),
            counts: penalties::Counts::default(),
        })
    }

    /// The parameters.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Chooses the token after `history` (prompt and generated ids, oldest first) from `logits`, one a token.
    ///
    /// A logit of -infinity masks its token; NaN and +infinity are errors.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<Sampled, SamplingError> {
        if logits.len() != self.vocab_size {
            return Err(SamplingError::LogitCount { found: logits.len(), expected: self.vocab_size });
        }
        let adjusts = self.config.adjusts_logits();
        let mut adjusted = std::mem::take(&mut self.adjusted);
        let token = if adjusts {
            adjusted.clear();
            adjusted.extend_from_slice(logits);
            check(logits)
                .and_then(|()| penalties::apply(&self.config, &mut self.counts, history, &mut adjusted))
                .and_then(|()| self.choose(&adjusted))
        } else {
            self.choose(logits)
        };
        self.adjusted = adjusted;
        let token = token?;
        let (logprob, top) = match self.config.logprobs {
            Some(count) => logprobs::of(logits, token, count),
            None => (None, Vec::new()),
        };
        Ok(Sampled { token, logprob, top })
    }

    /// [`Sampler::sample`] where only the likeliest tokens are known: ids and logits, best first, ties by lowest id, at least
    /// as many as [`SamplerConfig::likeliest`] says or all there are. Chooses the same token.
    ///
    /// NaN and +infinity are errors, and so is a sampler that needs all logits.
    pub fn sample_among(&mut self, likeliest: &[(u32, f32)]) -> Result<Sampled, SamplingError> {
        let Some(wanted) = self.config.likeliest() else {
            return Err(SamplingError::LogitCount { found: likeliest.len(), expected: self.vocab_size });
        };
        if let Some((token, value)) =
            likeliest.iter().find(|(_, logit)| logit.is_nan() || *logit == f32::INFINITY)
        {
            return Err(SamplingError::BadLogit { token: *token, value: *value });
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let all = likeliest.iter().filter(|(_, logit)| *logit > f32::NEG_INFINITY);
        candidates.extend(all.take(wanted).map(|&(id, logit)| Candidate { id, logit }));
        let token = match candidates.first() {
            None => Err(SamplingError::AllMasked),
            Some(best) if wanted == 1 => Ok(best.id),
            Some(&best) => Ok(self.draw(&mut candidates, best)),
        };
        self.candidates = candidates;
        Ok(Sampled { token: token?, logprob: None, top: Vec::new() })
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32, SamplingError> {
        let best = filters::best(logits)?;
        if self.config.temperature == 0.0 || self.config.top_k == 1 && self.config.mirostat.is_none() {
            return Ok(best.id);
        }
        let temperature = f64::from(self.config.temperature);
        let mut candidates = std::mem::take(&mut self.candidates);
        let token = if let Some(mirostat) = self.config.mirostat {
            filters::gather(&mut candidates, logits, 0);
            mirostat::draw(mirostat, temperature, best, &mut candidates, &mut self.surprise, &mut self.rng)
        } else {
            filters::gather(&mut candidates, logits, self.config.top_k);
            self.draw(&mut candidates, best)
        };
        self.candidates = candidates;
        Ok(token)
    }

    /// Draws one of the candidates that the filters behind top-k leave.
    fn draw(&mut self, candidates: &mut Vec<Candidate>, best: Candidate) -> u32 {
        filters::typical(candidates, self.config.typical_p, best);
        filters::top_p(candidates, self.config.top_p);
        filters::min_p(candidates, self.config.min_p);
        filters::draw(candidates, f64::from(self.config.temperature), &mut self.rng)
    }
}

fn check(logits: &[f32]) -> Result<(), SamplingError> {
    filters::best(logits).map(|_| ())
}
