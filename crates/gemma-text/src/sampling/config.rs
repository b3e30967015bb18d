//! Sampling parameters and the one place that judges them.

use std::collections::BTreeMap;

use super::filters::SMALL_K;
use crate::SamplingError;

/// Sampling parameters. The default is plain sampling at temperature 1 with no filter and seed 0.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Divides the logits, 0 to 100; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the k likeliest tokens; 0 or more than the vocabulary keeps all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens whose probabilities reach this, above 0 to 1; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this likely relative to the likeliest, 0 to 1; 0 keeps all.
    pub min_p: f32,
    /// Keeps the tokens whose surprise is nearest the expected surprise until their probabilities exceed this, above
    /// 0 to 1; 1 keeps all. Locally typical sampling, Meister et al. 2022 (arXiv:2202.00666).
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the window, above 0 to 100; 1 is off. Keskar et
    /// al. 2019 (arXiv:1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted for each time a token is in the window, -100 to 100; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once for each token in the window, -100 to 100; 0 is off.
    pub presence_penalty: f32,
    /// How many of the newest tokens of the history the penalties look at; 0 turns them off.
    pub penalty_window: usize,
    /// Added to the logits of tokens after the penalties; -infinity forbids a token.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Start of the random numbers: the same seed, logits and history give the same tokens.
    pub seed: u64,
    /// Replaces all filters but the temperature.
    pub mirostat: Option<Mirostat>,
    /// `Some(n)` reports the probability of the chosen and of the n likeliest tokens, n up to 100.
    pub logprobs: Option<usize>,
}

/// Mirostat version 2, Basu et al. 2021 (arXiv:2007.14966).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// Surprise to aim for, in bits, above 0 to 100.
    pub tau: f32,
    /// Learning rate, above 0 to 1.
    pub eta: f32,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 64,
            logit_bias: BTreeMap::new(),
            seed: 0,
            mirostat: None,
            logprobs: None,
        }
    }
}

impl Default for Mirostat {
    fn default() -> Self {
        Self { tau: 5.0, eta: 0.1 }
    }
}

impl SamplerConfig {
    /// Most tokens that [`logprobs`](Self::logprobs) reports.
    pub const MAX_LOGPROBS: usize = 100;

    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every parameter against its range and the bias against a vocabulary of `vocab_size`; the error names
    /// the first that is wrong.
    pub fn validate(&self, vocab_size: usize) -> Result<(), SamplingError> {
        let mirostat = self.mirostat.unwrap_or_default();
        let fraction = |value: f32| value > 0.0 && value <= 1.0;
        let penalty = |value: f32| (-100.0..=100.0).contains(&value);
        let checks = [
            ("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "0 to 100"),
            ("top_p", self.top_p, fraction(self.top_p), "above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1"),
            ("typical_p", self.typical_p, fraction(self.typical_p), "above 0 and at most 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty <= 100.0,
                "above 0 and at most 100",
            ),
            ("frequency_penalty", self.frequency_penalty, penalty(self.frequency_penalty), "-100 to 100"),
            ("presence_penalty", self.presence_penalty, penalty(self.presence_penalty), "-100 to 100"),
            (
                "mirostat.tau",
                mirostat.tau,
                mirostat.tau > 0.0 && mirostat.tau <= 100.0,
                "above 0 and at most 100",
            ),
            ("mirostat.eta", mirostat.eta, fraction(mirostat.eta), "above 0 and at most 1"),
        ];
        for (field, value, sound, accepted) in checks {
            if !sound {
                return Err(SamplingError::OutOfRange { field, value: f64::from(value), accepted });
            }
        }
        if let Some(count) = self.logprobs.filter(|count| *count > Self::MAX_LOGPROBS) {
            let accepted = "at most 100";
            return Err(SamplingError::OutOfRange { field: "logprobs", value: count as f64, accepted });
        }
        self.validate_bias(vocab_size)
    }

    /// How many of the likeliest tokens decide on the next one, where no other logit is looked at: then
    /// [`Sampler::sample_among`](super::Sampler::sample_among) chooses as from all logits. At most 256; none where all are
    /// needed.
    pub fn likeliest(&self) -> Option<usize> {
        if self.adjusts_logits() || self.logprobs.is_some() || self.mirostat.is_some() {
            return None;
        }
        let limit = if self.temperature == 0.0 { 1 } else { self.top_k };
        (1..=SMALL_K).contains(&limit).then_some(limit)
    }

    fn validate_bias(&self, vocab_size: usize) -> Result<(), SamplingError> {
        let last = vocab_size.checked_sub(1).ok_or(SamplingError::EmptyVocabulary)?;
        for (token, bias) in &self.logit_bias {
            if *token as usize > last {
                return Err(SamplingError::BiasUnknownToken { token: *token, last });
            }
            if !bias.is_finite() && *bias != f32::NEG_INFINITY {
                let accepted = "a number or -infinity";
                return Err(SamplingError::OutOfRange {
                    field: "logit_bias",
                    value: f64::from(*bias),
                    accepted,
                });
            }
        }
        Ok(())
    }

    pub(super) fn penalises(&self) -> bool {
        let neutral =
            self.repetition_penalty == 1.0 && self.frequency_penalty == 0.0 && self.presence_penalty == 0.0;
        !neutral && self.penalty_window > 0
    }

    pub(super) fn adjusts_logits(&self) -> bool {
        self.penalises() || !self.logit_bias.is_empty()
    }
}
